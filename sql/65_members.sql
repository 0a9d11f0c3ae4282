-- Who is in a segment: listed, exported, counted.
--
-- Candidates of a page come straight from the indexes, by user id: whoever is assigned at that moment, and
-- whoever's bucket the step in force holds. Since when and until when is the algebra's answer, asked
-- for a page of users at a time, so that memory stays flat however large the segment is.

-- The next members by user id after a given one: at a moment, or now (null) by this clock.
create or replace function segmentation.members_page (
  segment_id integer,
  at         timestamptz,
  after      bigint,
  max_rows   integer,
  -- An export that version 1.0.0 has begun gives none, but always a moment, and goes on through a deploy.
  now        timestamptz default null
)
  returns bigint[]
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz := coalesce(members_page.at, members_page.now);
  step segmentation.rollouts;
  others integer[] := segmentation.other_segments_of_layer(members_page.segment_id, members_page.at);
  page bigint[];
begin
  select r.* into step
  from segmentation.rollouts as r
  where r.segment_id = members_page.segment_id
    and segmentation.in_force(
      r.starts_at, r.ends_at, moment, case when members_page.at is null then r.decided_at end);
  select array_agg(c.user_id) into page
  from (
    (
      select distinct o.user_id
      from segmentation.overrides as o
      where o.segment_id = members_page.segment_id and o.user_id > members_page.after
        and o.included
        and segmentation.in_force(
          o.starts_at, o.ends_at, moment, case when members_page.at is null then o.decided_at end)
      order by o.user_id
      limit members_page.max_rows
    )
    union all
    (
      select u.user_id
      from segmentation.users as u
      where u.user_id > members_page.after and (members_page.at is null or u.registered_at <= members_page.at)
        and segmentation.holds(step.buckets, step.threshold, segmentation.bucket(u.user_id, step.salt))
        and not exists (
          select
          from segmentation.overrides as o
          where o.user_id = u.user_id
            -- Hidden from the planner, whose statistics may be old (sql/40_users.sql).
            and o.segment_id = any ((select members_page.segment_id || others)::integer[])
            and (o.included or o.segment_id = members_page.segment_id)
            and segmentation.in_force(
              o.starts_at, o.ends_at, moment, case when members_page.at is null then o.decided_at end)
        )
      order by u.user_id
      limit members_page.max_rows
    )
    order by 1
    limit members_page.max_rows
  ) as c (user_id);
  return page;
end
$$;

create or replace function segmentation.segment_members (
  slug     text,
  at       timestamptz default null,
  after    bigint default null,
  max_rows integer default null
)
  returns table (user_id bigint, source text, since timestamptz, until timestamptz)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  found_id integer := segmentation.segment_id_of(segment_members.slug, segment_members.at);
  now timestamptz := segmentation.clock();
  last_id bigint := coalesce(segment_members.after, 0);
  left_over bigint := coalesce(segment_members.max_rows, 9223372036854775807);
  page bigint[];
begin
  if segment_members.max_rows is not null then
    perform segmentation.require_rows(segment_members.max_rows);
  end if;
  perform segmentation.require_kept(coalesce(segment_members.at, now));
  -- A segment that was not alive then had no members.
  if segment_members.at is not null and not exists (
    select from segmentation.segments as s
    where s.segment_id = found_id and segmentation.in_force(s.created_at, s.deleted_at, segment_members.at)
  ) then
    return;
  end if;
  loop
    page := segmentation.members_page(
      found_id, segment_members.at, last_id, least(left_over, 10000)::integer, now);
    exit when page is null;
    return query
    select
      p.user_id, segmentation.source(p.assigned @> a.moment, p.overridden @> a.moment, p.rollout @> a.moment),
      lower(period), upper(period)
    from segmentation.membership_periods(page, now) as p
    cross join lateral (select coalesce(segment_members.at, p.present)) as a (moment)
    cross join lateral unnest(p.member) as period
    where p.segment_id = found_id and period @> a.moment
    order by p.user_id;
    left_over := left_over - cardinality(page);
    last_id := page[cardinality(page)];
    exit when left_over = 0;
  end loop;
end
$$;

comment on function segmentation.segment_members(text, timestamptz, bigint, integer) is
  'The known users in a segment, now or at a moment, by user id: by what, since when, until when; give the last id seen as after. Example: select * from segment_members(''AVITO_VOICE_MESSAGES'', max_rows => 100);';

-- What is counted of a segment; population: the users whom its rollout may hold. Counts of disjoint sets of users add
-- up.
create or replace function segmentation.segment_counts (
  slug text
)
  returns table (assigned bigint, excluded bigint, rolled_out bigint, population bigint)
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  found_id integer := segmentation.segment_id_of(segment_counts.slug);
  others integer[] := segmentation.other_segments_of_layer(found_id);
  now timestamptz := segmentation.clock();
begin
  return query
  select o.assigned, o.excluded, r.rolled_out, segmentation.rollout_population(found_id, now)
  from (
    select count(*) filter (where m.included), count(*) filter (where not m.included)
    from segmentation.memberships as m
    where m.segment_id = found_id and segmentation.in_force(m.starts_at, m.ends_at, now, m.decided_at)
  ) as o (assigned, excluded)
  cross join (
    select count(*)
    from segmentation.rollouts as s
    join segmentation.users as u
      on segmentation.holds(s.buckets, s.threshold, segmentation.bucket(u.user_id, s.salt))
    where s.segment_id = found_id and segmentation.in_force(s.starts_at, s.ends_at, now, s.decided_at)
      and s.percent > 0
      and not exists (
        select
        from segmentation.memberships as m
        where m.user_id = u.user_id
          and m.segment_id = any (found_id || others) and (m.included or m.segment_id = found_id)
          and segmentation.in_force(m.starts_at, m.ends_at, now, m.decided_at)
      )
  ) as r (rolled_out);
end
$$;

create or replace function segmentation.segment_stats (
  slug text
)
  returns table (
    assigned bigint, excluded bigint, rolled_out bigint, members bigint,
    planned_percent numeric, actual_percent numeric, srm_p_value double precision
  )
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  found_id integer := segmentation.segment_id_of(segment_stats.slug);
  now timestamptz := segmentation.clock();
begin
  return query
  select
    c.assigned, c.excluded, c.rolled_out, c.assigned + c.rolled_out,
    t.planned_percent, t.actual_percent, t.srm_p_value
  from segmentation.segment_counts(segment_stats.slug) as c
  cross join lateral segmentation.rollout_mismatch(found_id, c.rolled_out, c.population, now) as t;
end
$$;

comment on function segmentation.segment_stats(text) is
  'How many known users are assigned, excluded, in by rollout alone, and in at all: exact, right now. Beside it what the rollout in force has planned, what it holds of the users it may hold, and how likely such a difference is by chance (below 0.001: a sample ratio mismatch). Example: select * from segment_stats(''AVITO_VOICE_MESSAGES'');';
