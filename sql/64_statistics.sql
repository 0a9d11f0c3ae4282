-- Whether a rollout holds as many users as planned: the sample ratio mismatch test.
--
-- A bucket is as good as random, so the share of users whom a rollout holds departs from the percentage planned by
-- chance alone. The chi-square test says how likely a departure as large as this one is by chance. A very small p-value
-- (below 0.001, as analysts have it) says that something else is at work: users who are overridden by what they did, or
-- a salt that somebody chose. The test is about known users without an override.

-- The complementary error function for x >= 0, to about 12 digits: below 2.5 by its series, all of whose terms are
-- positive, above by its continued fraction, from the inside out.
create or replace function segmentation.complementary_error (
  x double precision
)
  returns double precision
  language plpgsql
  immutable
  parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  term double precision := x;
  total double precision := x;
  fraction double precision := x;
begin
  if x > 26 then
    return 0;
  end if;
  if x < 2.5 then
    for n in 1 .. 60 loop
      term := term * 2 * x * x / (2 * n + 1);
      total := total + term;
      -- A double that gets too small is an error in PostgreSQL.
      exit when term < 1e-20;
    end loop;
    return 1 - 2 / sqrt(pi()) * exp(-x * x) * total;
  end if;
  for n in reverse 100 .. 1 loop
    fraction := x + n / 2.0::double precision / fraction;
  end loop;
  return exp(-x * x) / sqrt(pi()) / fraction;
end
$$;

-- The probability that chi-square with so many degrees of freedom is at least this: Q(freedom / 2, statistic / 2), the
-- regularized gamma function, from Q(1/2, x) = erfc(√x) or Q(1, x) = e^-x by Q(a + 1, x) = Q(a, x) + x^a e^-x / Γ(a +
-- 1).
create or replace function segmentation.chi_square_p_value (
  statistic double precision,
  freedom   integer
)
  returns double precision
  language plpgsql
  immutable
  parallel safe
  set search_path = pg_catalog, pg_temp
as $$
declare
  x double precision := statistic / 2;
  a double precision := case when freedom % 2 = 1 then 0.5 else 1 end;
  p double precision;
  term double precision;
begin
  if x is null or freedom < 1 then
    return null;
  end if;
  -- e^-x is 0 to a double precision number, and PostgreSQL would say so.
  if x > 600 then
    return 0;
  end if;
  if x = 0 then
    return 1;
  end if;
  p := case when freedom % 2 = 1 then segmentation.complementary_error(sqrt(x)) else exp(-x) end;
  term := case when freedom % 2 = 1 then 2 * sqrt(x / pi()) * exp(-x) else x * exp(-x) end;
  while a < freedom / 2.0 loop
    p := p + term;
    a := a + 1;
    term := term * x / a;
  end loop;
  return least(p, 1);
end
$$;

-- The test of how many users are in each group against the percentage planned for it; who is in none of them is a group
-- as well. Null where there is nothing to test: no users, or nothing but one group.
create or replace function segmentation.mismatch_p_value (
  observed bigint[],
  planned  numeric[],
  users    bigint
)
  returns double precision
  language sql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
  select case when count(*) > 1 then
    segmentation.chi_square_p_value(
      sum((g.observed - g.expected) ^ 2 / g.expected)::double precision, count(*)::integer - 1)
  end
  from (
    select c.observed, c.planned * mismatch_p_value.users / 100
    from (
      select o.observed, o.planned
      from unnest(mismatch_p_value.observed, mismatch_p_value.planned) as o (observed, planned)
      union all
      select mismatch_p_value.users - sum(o.observed), 100 - sum(o.planned)
      from unnest(mismatch_p_value.observed, mismatch_p_value.planned) as o (observed, planned)
    ) as c
  ) as g (observed, expected)
  where g.expected > 0
$$;

create or replace function segmentation.rounded_percent (
  part  bigint,
  whole bigint
)
  returns numeric
  language sql
  immutable
  parallel safe
as $$ select trim_scale(round(100.0 * part / nullif(whole, 0), 3)) $$;

-- The users whom a segment's rollout may hold: known, without an override in it, not assigned elsewhere in its layer.
create or replace function segmentation.rollout_population (
  segment_id integer,
  now        timestamptz
)
  returns bigint
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select (select count(*) from segmentation.users) - count(distinct m.user_id)
  from segmentation.memberships as m
  where m.segment_id = any (
      rollout_population.segment_id || segmentation.other_segments_of_layer(rollout_population.segment_id))
    and (m.included or m.segment_id = rollout_population.segment_id)
    and segmentation.in_force(m.starts_at, m.ends_at, rollout_population.now, m.decided_at)
$$;

-- What a segment's rollout in force has planned, and how many users it holds of those whom it may hold.
create or replace function segmentation.rollout_mismatch (
  segment_id integer,
  rolled_out bigint,
  population bigint,
  now        timestamptz
)
  returns table (planned_percent numeric, actual_percent numeric, srm_p_value double precision)
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select
    r.percent, segmentation.rounded_percent(rollout_mismatch.rolled_out, rollout_mismatch.population),
    segmentation.mismatch_p_value(
      array[rollout_mismatch.rolled_out], array[r.percent], rollout_mismatch.population)
  from (
    select trim_scale(coalesce(max(s.percent), 0))
    from segmentation.rollouts as s
    where s.segment_id = rollout_mismatch.segment_id
      and segmentation.in_force(s.starts_at, s.ends_at, rollout_mismatch.now, s.decided_at)
  ) as r (percent)
$$;

-- What is counted of a layer as a whole: its users by hand, those who are overridden in none of its segments, and how
-- many of these each rollout in force holds. Counts of disjoint sets of users add up.
create or replace function segmentation.layer_counts (
  slug text
)
  returns table (assigned bigint, excluded bigint, users bigint, segment_ids integer[], held bigint[])
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  now timestamptz := segmentation.clock();
  living integer[] := array(
    select s.segment_id
    from segmentation.segments as s
    where s.layer_id = segmentation.layer_id_of(layer_counts.slug) and s.deleted_at = 'infinity'
  );
begin
  -- One pass over the users.
  select array_agg(g.segment_id order by g.segment_id), array_agg(g.held order by g.segment_id)
  into segment_ids, held
  from (
    select r.segment_id, count(u.user_id) as held
    from segmentation.rollouts as r
    left join segmentation.users as u
      on segmentation.holds(r.buckets, r.threshold, segmentation.bucket(u.user_id, r.salt))
        and not exists (
          select
          from segmentation.memberships as m
          where m.user_id = u.user_id and m.segment_id = any (living)
            and segmentation.in_force(m.starts_at, m.ends_at, now, m.decided_at)
        )
    where r.segment_id = any (living)
      and segmentation.in_force(r.starts_at, r.ends_at, now, r.decided_at)
    group by r.segment_id
  ) as g;
  select
    count(distinct m.user_id) filter (where m.included), count(distinct m.user_id) filter (where not m.included),
    (select count(*) from segmentation.users) - count(distinct m.user_id)
  into assigned, excluded, users
  from segmentation.memberships as m
  where m.segment_id = any (living)
    and segmentation.in_force(m.starts_at, m.ends_at, now, m.decided_at);
  return next;
end
$$;

create or replace function segmentation.layer_stats (
  slug text
)
  returns table (
    segment text, assigned bigint, excluded bigint, rolled_out bigint, members bigint,
    planned_percent numeric, actual_percent numeric, srm_p_value double precision
  )
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  found_id integer := segmentation.layer_id_of(layer_stats.slug);
  now timestamptz := segmentation.clock();
  whole record;
begin
  return query
  select s.slug::text, t.*
  from segmentation.segments as s
  cross join lateral segmentation.segment_stats(s.slug) as t
  where s.layer_id = found_id and s.deleted_at = 'infinity'
  order by s.slug;
  select
    c.assigned, c.excluded, c.users, c.held, coalesce(p.all_held, 0)::bigint as all_held,
    p.percents, coalesce(p.percent, 0) as percent
  into whole
  from segmentation.layer_counts(layer_stats.slug) as c
  cross join lateral (
    select
      array_agg(r.percent order by r.segment_id) as percents, sum(r.percent) as percent, sum(h.held) as all_held
    from unnest(c.segment_ids, c.held) as h (segment_id, held)
    join segmentation.rollouts as r on r.segment_id = h.segment_id
    where segmentation.in_force(r.starts_at, r.ends_at, now, r.decided_at)
  ) as p;
  segment := null;
  assigned := whole.assigned;
  excluded := whole.excluded;
  rolled_out := whole.all_held;
  members := assigned + rolled_out;
  planned_percent := trim_scale(whole.percent);
  actual_percent := segmentation.rounded_percent(rolled_out, whole.users);
  srm_p_value := segmentation.mismatch_p_value(whole.held, whole.percents, whole.users);
  return next;
end
$$;

comment on function segmentation.layer_stats(text) is
  'The counts of segment_stats for each segment of a layer; last, without a slug, those of the layer as a whole: there rolled_out, the percentages and the test are about users who are overridden in none of its segments. Example: select * from layer_stats(''AVITO_DISCOUNTS'');';
