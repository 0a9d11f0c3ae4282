-- Lists, reports and counts over all shards. A shard that is away fails them as a whole: never is a part taken for all.

create or replace function segmentation.ending_soon (
  within   interval,
  slug     text default null,
  max_rows integer default null
)
  returns table (
    user_id bigint, segment text, kind text, since timestamptz, until timestamptz, actor text, reason text
  )
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- With a limit of 0, PostgreSQL asks nobody.
  if ending_soon.max_rows is not null then
    perform segmentation.require_rows(ending_soon.max_rows);
  end if;
  return query
  select e.*
  from segmentation.remote_ending_soon(ending_soon.within, ending_soon.slug, ending_soon.max_rows) as e
  order by e.until, e.user_id, e.segment collate "C"
  limit ending_soon.max_rows;
end
$$;

-- Each shard tells its next members. As far as all have told, they are complete and in order.
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
  last_id bigint := coalesce(segment_members.after, 0);
  left_over bigint := coalesce(segment_members.max_rows, 9223372036854775807);
  told_to bigint;
  sent bigint;
  page record;
begin
  -- Also where no shard would say so.
  perform segmentation.segment_id_of(segment_members.slug, segment_members.at);
  if segment_members.max_rows is not null then
    perform segmentation.require_rows(segment_members.max_rows);
  end if;
  loop
    select
      min(m.up_to) as up_to, array_agg(m.user_id) as user_ids, array_agg(m.source) as sources,
      array_agg(m.since) as sinces, array_agg(m.until) as untils
    into page
    from segmentation.remote_segment_members(
      segment_members.slug, segment_members.at, last_id, least(left_over, 10000)::integer) as m;
    told_to := page.up_to;
    return query
    select m.*
    from unnest(page.user_ids, page.sources, page.sinces, page.untils) as m (user_id, source, since, until)
    where told_to is null or m.user_id <= told_to
    order by m.user_id
    limit left_over;
    get diagnostics sent = row_count;
    left_over := left_over - sent;
    exit when left_over = 0 or told_to is null;
    last_id := told_to;
  end loop;
end
$$;

-- Pages of about as many users of each shard as a page of one database has: every n-th bound of n shards.
create or replace function segmentation.user_pages ()
  returns table (after_id bigint, up_to_id bigint)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select coalesce(lag(b.bound) over (order by b.bound), 0), b.bound
  from (
    select p.up_to_id as bound, row_number() over (order by p.up_to_id) as place
    from segmentation.remote_user_pages() as p
    where p.up_to_id < 9223372036854775807
    union all
    select 9223372036854775807, 0
  ) as b
  where b.place % (select count(distinct s.shard) from segmentation.slots as s) = 0
  order by b.bound;
end
$$;

-- A user's lines are on one shard, and in order there.
create or replace function segmentation.report_lines (
  from_time timestamptz,
  to_time   timestamptz,
  after_id  bigint,
  up_to_id  bigint,
  now       timestamptz default 'infinity'
)
  returns setof segmentation.report_line
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select l.user_id, l.segment, l.operation, l.at
  from segmentation.remote_report_page(
    report_lines.from_time, report_lines.to_time, report_lines.after_id, report_lines.up_to_id,
    report_lines.now) as l
  order by l.user_id, l.place;
end
$$;

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
as $$
begin
  return query
  select p.*
  from segmentation.remote_periods_page(
    periods_page.slug, periods_page.in_window, periods_page.after_id, periods_page.up_to_id) as p
  order by p.user_id, p.since;
end
$$;

-- The least of all. A shard that does not have the whole catalog yet cannot tell what follows from it, and one that is
-- away cannot tell anything: then it is what was told last. Our own is asked first, and the version after it: a change
-- of the catalog that is not seen in our own is committed, and so in the version.
create or replace function segmentation.settled_until () returns timestamptz
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  told timestamptz := timestamptz 'epoch'
    + (select n.last_value from segmentation.told_everywhere as n) * interval '1 microsecond';
  moment timestamptz;
  known bigint;
begin
  -- As told_until() has it: a clock that was hours ahead is not followed.
  if told > segmentation.clock() + interval '1 hour' then
    told := '-infinity';
  end if;
  if current_setting('transaction_read_only') = 'on' then
    return told;
  end if;
  moment := segmentation.here_settled_until();
  known := (select v.version from segmentation.catalog_version as v);
  begin
    select least(moment, min(s.settled_until)) into moment
    from segmentation.remote_settled_here() as s
    having bool_and(s.catalog_version is not distinct from known or s.catalog_version > known);
  exception
    when connection_failure then moment := null;
  end;
  moment := greatest(moment, told);
  if moment <> told then
    perform setval('segmentation.told_everywhere', segmentation.microseconds(moment));
  end if;
  return moment;
end
$$;

create or replace function segmentation.membership_changes (
  from_time timestamptz,
  to_time   timestamptz default null
)
  returns setof segmentation.report_line
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  stretch_end timestamptz := segmentation.changes_end(
    membership_changes.from_time, membership_changes.to_time);
begin
  return query
  select c.*
  from segmentation.remote_membership_changes(membership_changes.from_time, stretch_end) as c
  order by c.at asc, c.user_id asc, c.segment collate "C" asc, c.operation desc;
end
$$;

-- Counts --------------------------------------------------------------------------------------------

create or replace function segmentation.segment_counts (
  slug text
)
  returns table (assigned bigint, excluded bigint, rolled_out bigint, population bigint)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select sum(c.assigned)::bigint, sum(c.excluded)::bigint, sum(c.rolled_out)::bigint, sum(c.population)::bigint
  from segmentation.remote_segment_counts(segment_counts.slug) as c;
end
$$;

create or replace function segmentation.layer_counts (
  slug text
)
  returns table (assigned bigint, excluded bigint, users bigint, segment_ids integer[], held bigint[])
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  with told as materialized (
    select c.* from segmentation.remote_layer_counts(layer_counts.slug) as c
  )
  select
    sum(t.assigned)::bigint, sum(t.excluded)::bigint, sum(t.users)::bigint,
    (
      select array_agg(distinct h.segment_id order by h.segment_id)
      from told as a
      cross join lateral unnest(a.segment_ids) as h (segment_id)
    ),
    (
      select array_agg(g.held order by g.segment_id)
      from (
        select h.segment_id, sum(h.held)::bigint as held
        from told as a
        cross join lateral unnest(a.segment_ids, a.held) as h (segment_id, held)
        group by h.segment_id
      ) as g
    )
  from told as t;
end
$$;

create or replace function segmentation.segment_growth (
  slug      text,
  from_time timestamptz default null,
  to_time   timestamptz default null,
  step      interval default '1 day'
)
  returns table (
    at timestamptz, users bigint, members bigint, assigned bigint, excluded bigint, rolled_out bigint,
    planned_percent numeric, actual_percent numeric
  )
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  last_moment timestamptz := coalesce(segment_growth.to_time, segmentation.clock());
  moments timestamptz[] := segmentation.growth_moments(
    segment_growth.slug, segment_growth.from_time, last_moment, segment_growth.step);
begin
  return query
  select
    g.at, sum(g.users)::bigint, sum(g.members)::bigint, sum(g.assigned)::bigint, sum(g.excluded)::bigint,
    sum(g.rolled_out)::bigint, min(g.planned_percent),
    case when min(g.planned_percent) is not null then
      round(100.0 * sum(g.members) / nullif(sum(g.users), 0), 3)
    end
  -- The first moment may be where no default leads to on a shard: it is given.
  from segmentation.remote_segment_growth(
    segment_growth.slug, moments[1], last_moment, segment_growth.step) as g
  group by g.at
  order by g.at;
end
$$;
