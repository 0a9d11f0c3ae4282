-- Stays: who was in a segment from when until when, for a warehouse that joins them with events of its own.
--
-- A stay is a range of the algebra's result (sql/20_algebra.sql), of any segment that ever had the slug. It is given
-- whole, however little of it lies in the window, and its source is by what it began.

-- The window of stays: what is kept, if no beginning is given; up to now, if no end.
create or replace function segmentation.periods_window (
  slug      text,
  from_time timestamptz,
  to_time   timestamptz
)
  returns tstzrange
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  first_moment timestamptz := coalesce(
    periods_window.from_time, (select r.kept_since from segmentation.retention as r));
  last_moment timestamptz := coalesce(periods_window.to_time, segmentation.clock());
begin
  perform segmentation.require_known_slug(periods_window.slug);
  if periods_window.from_time is not null then
    perform segmentation.require_kept(periods_window.from_time, 'from');
  end if;
  perform segmentation.require_stretch(first_moment, last_moment);
  return tstzrange(first_moment, last_moment);
end
$$;

comment on function segmentation.periods_window(text, timestamptz, timestamptz) is
  'For the service: the window that segment_periods tells of. Example: select periods_window(''AVITO_VOICE_MESSAGES'', now() - interval ''7 days'', now());';

-- The stays of a page of users, see user_pages.
create or replace function segmentation.periods_page (
  slug      text,
  in_window tstzrange,
  after_id  bigint,
  up_to_id  bigint
)
  returns table (user_id bigint, source text, since timestamptz, until timestamptz)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set jit = off
as $$
declare
  segment_ids integer[] := array(
    select s.segment_id from segmentation.segments as s where s.slug = periods_page.slug collate "C");
  now timestamptz := segmentation.clock();
  page bigint[];
begin
  -- Without a rollout, only those concern us who were overridden.
  if exists (
    select
    from segmentation.rollouts as r
    where r.segment_id = any (segment_ids) and r.percent > 0 and r.starts_at < upper(in_window)
  ) then
    page := array(
      select u.user_id
      from segmentation.users as u
      where u.user_id > periods_page.after_id and u.user_id <= periods_page.up_to_id
    );
  else
    page := array(
      select distinct o.user_id
      from segmentation.overrides as o
      where o.segment_id = any (segment_ids)
        and o.user_id > periods_page.after_id and o.user_id <= periods_page.up_to_id
    );
  end if;
  return query
  select
    p.user_id,
    segmentation.source(
      p.assigned @> lower(period), p.overridden @> lower(period), p.rollout @> lower(period)),
    lower(period), upper(period)
  from segmentation.membership_periods(page, now) as p
  cross join lateral unnest(p.member) as period
  where p.segment_id = any (segment_ids) and period && in_window
  order by p.user_id, lower(period);
end
$$;

comment on function segmentation.periods_page(text, tstzrange, bigint, bigint) is
  'For the service: one page of segment_periods. Example: select * from periods_page(''AVITO_VOICE_MESSAGES'', tstzrange(now() - interval ''7 days'', now()), 0, 5000);';

create or replace function segmentation.segment_periods (
  slug      text,
  from_time timestamptz default null,
  to_time   timestamptz default null
)
  returns table (user_id bigint, source text, since timestamptz, until timestamptz)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  in_window tstzrange := segmentation.periods_window(
    segment_periods.slug, segment_periods.from_time, segment_periods.to_time);
  page record;
begin
  for page in select * from segmentation.user_pages() loop
    return query
    select *
    from segmentation.periods_page(segment_periods.slug, in_window, page.after_id, page.up_to_id);
  end loop;
end
$$;

comment on function segmentation.segment_periods(text, timestamptz, timestamptz) is
  'Every stay of every known user in a segment that overlaps a window (all that is kept, up to now), rollout members included, by user and time: by what it began, since when, until when (infinity: no end is known). A stay is given whole, also where it began before the window. Example: select * from segment_periods(''AVITO_DISCOUNT_30'', now() - ''7 days''::interval);';

-- PostgreSQL inlines this function, so that each page goes out while the next one is found.
create or replace function segmentation.period_rows (
  slug      text,
  from_time timestamptz default null,
  to_time   timestamptz default null
)
  returns table (user_id bigint, source text, since text, until text)
  language sql
  stable
as $$
  select p.user_id, p.source, segmentation.rfc3339(p.since), segmentation.rfc3339(p.until)
  from segmentation.periods_window(period_rows.slug, period_rows.from_time, period_rows.to_time) as in_window
  cross join segmentation.user_pages() as page
  cross join lateral segmentation.periods_page(period_rows.slug, in_window, page.after_id, page.up_to_id) as p
$$;

comment on function segmentation.period_rows(text, timestamptz, timestamptz) is
  'For the service: segment_periods, page by page. Example: select * from period_rows(''AVITO_VOICE_MESSAGES'');';
