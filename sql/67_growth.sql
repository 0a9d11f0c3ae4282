-- How a segment grew: its members counted at many moments at once, and a rollout's plan beside what came of it.
--
-- Every user and every override is read once, however many moments there are. Each is turned into changes: from which
-- moment on (position), for which users (class: which of the planned steps hold their bucket), by how much.
-- The sum of all changes up to a moment is the count at it. An example:
--
--     moments    1 = Mon 12:00, 10 % planned      2 = Tue 12:00, 30 % planned
--     classes    0: bucket below 10000            1: below 30000            2: all others
--     user 7, bucket 12000, registered Mon 15:00  position 2, class 1: rolled_out + 1
--     user 8, bucket 500, registered Mon 09:00    position 1, class 0: rolled_out + 1
--     user 8 is excluded on Tue 09:00             position 2, class 0: rolled_out - 1, excluded + 1
--     sums       Mon: class 0 has 1, and 10 % holds class 0: 1 member (user 8)
--                Tue: class 0 has 0, class 1 has 1, and 30 % holds both: 1 member (user 7)
--
-- Tests hold every row equal to segment_members and segment_stats.

-- The moments to count at, ascending. Left out, from_time is the creation of the last segment of this slug (or
-- the beginning of what retention has left), and to_time is now.
create or replace function segmentation.growth_moments (
  slug      text,
  from_time timestamptz,
  to_time   timestamptz,
  step      interval
)
  returns timestamptz[]
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
as $$
declare
  at_most constant integer := 10000;
  first_moment timestamptz := growth_moments.from_time;
  last_moment timestamptz := coalesce(growth_moments.to_time, segmentation.clock());
  next_moment timestamptz;
  moments timestamptz[] := array[]::timestamptz[];
begin
  perform segmentation.require_known_slug(growth_moments.slug);
  -- No part may be negative: a step of a month ahead and 30 days back might stand still.
  if (
    growth_moments.step > interval '0'
    and least(
      extract(year from growth_moments.step), extract(month from growth_moments.step),
      extract(day from growth_moments.step), extract(hour from growth_moments.step),
      extract(minute from growth_moments.step), extract(second from growth_moments.step)) >= 0
    and isfinite(growth_moments.step)
  ) is not true then
    raise exception 'step % is not above 0', coalesce(growth_moments.step::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('step', growth_moments.step::text),
        hint = 'Give an interval such as P1D, PT1H or P1M: a day, an hour, a month.';
  end if;
  if first_moment is null then
    select greatest(s.created_at, r.kept_since) into first_moment
    from segmentation.segments as s
    cross join segmentation.retention as r
    where s.slug = growth_moments.slug collate "C"
    order by s.created_at desc
    limit 1;
  end if;
  perform segmentation.require_kept(first_moment, 'from');
  perform segmentation.require_kept(last_moment, 'to');
  perform segmentation.require_stretch(first_moment, last_moment);
  -- Each from the first, not from the one before: months from the 31st on are 31, 28, 31, not 31, 28, 28.
  begin
    for number in 0 .. at_most loop
      next_moment := first_moment + number * growth_moments.step;
      exit when next_moment > last_moment;
      moments := moments || next_moment;
    end loop;
  exception
    -- Beyond the last moment that PostgreSQL can name, and so beyond to_time.
    when datetime_field_overflow or interval_field_overflow then null;
  end;
  if cardinality(moments) > at_most then
    raise exception 'more than % steps of % lie between % and %',
      at_most, growth_moments.step, first_moment, last_moment
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('step', growth_moments.step::text, 'at_most', at_most),
        hint = 'Take a longer step or a shorter time.';
  end if;
  return moments;
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
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  moments timestamptz[] := segmentation.growth_moments(
    segment_growth.slug, segment_growth.from_time, segment_growth.to_time, segment_growth.step);
begin
  return query
  -- What is planned at each moment: the segment that has the slug then, and its step in force.
  with plan as materialized (
    select
      m.position::integer, m.at, s.segment_id, s.salt,
      r.starts_at as step, coalesce(r.threshold, 0) as threshold, r.buckets,
      case when s.segment_id is not null then trim_scale(coalesce(r.percent, 0)) end as percent
    from unnest(moments) with ordinality as m (at, position)
    left join segmentation.segments as s
      on s.slug = segment_growth.slug collate "C" and segmentation.in_force(s.created_at, s.deleted_at, m.at)
    left join segmentation.rollouts as r
      on r.segment_id = s.segment_id and segmentation.in_force(r.starts_at, r.ends_at, m.at)
  ),
  -- width_bucket(t, passed) is the number of moments before t. A microsecond is added, as what happens right at a
  -- moment counts at it.
  marks as materialized (
    select array_agg(p.at + interval '1 microsecond' order by p.position) as passed from plan as p
  ),
  -- The buckets are cut at every bound of a planned step. Pieces that the same steps hold are of one class.
  pieces as materialized (
    select
      b.segment_id, b.salt, b.lowest, b.held_by,
      dense_rank() over (partition by b.segment_id order by b.held_by)::integer as class
    from (
      select
        c.segment_id, p.salt, c.lowest,
        array_agg(p.step order by p.step) filter (where segmentation.holds(p.buckets, p.threshold, c.lowest)) as held_by
      from (
        select distinct d.segment_id, bound.lowest
        from (select distinct s.segment_id, s.threshold, s.buckets from plan as s where s.segment_id is not null) as d
        cross join lateral (
          select 0
          union all
          select d.threshold where d.buckets is null
          union all
          select unnest(array[lower(run), upper(run)]) from unnest(d.buckets) as run
        ) as bound (lowest)
      ) as c
      join (select distinct s.segment_id, s.salt, s.step, s.threshold, s.buckets from plan as s) as p
        on p.segment_id = c.segment_id
      group by c.segment_id, p.salt, c.lowest
    ) as b
  ),
  -- The class of a bucket is classes[width_bucket(bucket, bounds)]. No step holds a bucket from highest on.
  lives as materialized (
    select
      p.segment_id, p.salt,
      array_agg(p.lowest order by p.lowest) as bounds, array_agg(p.class order by p.lowest) as classes,
      max(p.lowest) as highest
    from pieces as p
    group by p.segment_id, p.salt
  ),
  -- When an override decides about a user, or when an assignment elsewhere takes it out of the rollout.
  decided as (
    select o.user_id, o.segment_id, o.included::integer as assigned, (not o.included)::integer as excluded,
      o.starts_at, o.ends_at
    from segmentation.overrides as o
    where o.segment_id in (select l.segment_id from lives as l)
    union all
    select e.user_id, e.segment_id, 0, 0, lower(period), upper(period)
    from (
      select a.user_id, a.segment_id, range_agg(tstzrange(a.starts_at, a.ends_at)) as elsewhere
      from segmentation.assignments_elsewhere as a
      where a.segment_id in (select l.segment_id from lives as l)
      group by a.user_id, a.segment_id
    ) as e
    cross join lateral (
      select range_agg(tstzrange(o.starts_at, o.ends_at))
      from segmentation.overrides as o
      where o.user_id = e.user_id and o.segment_id = e.segment_id
    ) as own (overridden)
    cross join lateral unnest(e.elsewhere - coalesce(own.overridden, '{}')) as period
  ),
  changes as (
    select
      null::integer as segment_id, null::integer as class,
      width_bucket(u.registered_at, (select m.passed from marks as m)) + 1 as position,
      count(*) as users, 0 as assigned, 0 as excluded, 0 as rolled_out
    from segmentation.users as u
    group by 3
    union all
    select
      l.segment_id, l.classes[width_bucket(segmentation.bucket(u.user_id, l.salt), l.bounds)],
      width_bucket(u.registered_at, (select m.passed from marks as m)) + 1,
      0, 0, 0, count(*)
    from lives as l
    join segmentation.users as u on segmentation.bucket(u.user_id, l.salt) < l.highest
    group by 1, 2, 3
    union all
    select
      o.segment_id, o.class, d.position,
      0, o.number * d.assigned, o.number * d.excluded, o.number * d.rolled_out
    from (
      select
        o.segment_id, o.assigned, o.excluded,
        l.classes[width_bucket(segmentation.bucket(o.user_id, l.salt), l.bounds)] as class,
        width_bucket(o.starts_at, (select m.passed from marks as m)) + 1 as begins,
        -- From here on it takes a known user out of the rollout.
        width_bucket(
          greatest(o.starts_at, coalesce(u.registered_at, 'infinity')), (select m.passed from marks as m)) + 1 as takes,
        width_bucket(o.ends_at, (select m.passed from marks as m)) + 1 as ends,
        count(*) as number
      from lives as l
      join decided as o on o.segment_id = l.segment_id
      left join segmentation.users as u on u.user_id = o.user_id
      group by 1, 2, 3, 4, 5, 6, 7
    ) as o
    cross join lateral (
      values
        (o.begins, o.assigned, o.excluded, 0),
        (o.takes, 0, 0, -(o.takes < o.ends)::integer),
        (o.ends, -o.assigned, -o.excluded, (o.takes < o.ends)::integer)
    ) as d (position, assigned, excluded, rolled_out)
  ),
  -- All that lies before a moment or at it, for each class; the moment's row comes back with the sums.
  sums as (
    select
      r.position, r.at, r.percent, r.class, r.held,
      sum(r.users) over so_far as users,
      sum(r.assigned) over so_far as assigned,
      sum(r.excluded) over so_far as excluded,
      sum(r.rolled_out) over so_far as rolled_out
    from (
      select
        c.segment_id, c.class, c.position, c.users, c.assigned, c.excluded, c.rolled_out,
        null::timestamptz as at, null::numeric as percent, false as held
      from changes as c
      union all
      select null, null, p.position, 0, 0, 0, 0, p.at, p.percent, false
      from plan as p
      union all
      select
        p.segment_id, c.class, p.position, 0, 0, 0, 0, p.at, p.percent, coalesce(p.step = any (c.held_by), false)
      from plan as p
      join (select distinct c.segment_id, c.class, c.held_by from pieces as c) as c on c.segment_id = p.segment_id
    ) as r
    window so_far as (partition by r.segment_id, r.class order by r.position)
  )
  select
    c.at, c.users, c.assigned + c.rolled_out, c.assigned, c.excluded, c.rolled_out, c.percent,
    case when c.percent is not null then
      round(100.0 * (c.assigned + c.rolled_out) / nullif(c.users, 0), 3)
    end
  from (
    select
      s.at, s.percent, sum(s.users)::bigint as users,
      sum(s.assigned)::bigint as assigned, sum(s.excluded)::bigint as excluded,
      coalesce(sum(s.rolled_out) filter (where s.held), 0)::bigint as rolled_out
    from sums as s
    where s.at is not null
    group by s.at, s.percent
  ) as c
  order by c.at;
end
$$;

comment on function segmentation.segment_growth(text, timestamptz, timestamptz, interval) is
  'How a segment grew, and a rollout''s plan against reality: at from_time (its creation) and each step (UTC days) after it up to to_time (now), the known users, the members among them and how they got in, the percentage planned and the one reached. A moment to come counts what is planned for the users known now. It reads all known users, once for each segment that had this slug. Example: select * from segment_growth(''AVITO_VOICE_MESSAGES'', now() - interval ''30 days'', now(), ''1 day'');';
