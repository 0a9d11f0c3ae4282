-- Overrides: assigning users to segments, and taking them out, by hand.
--
-- override_change is the table of rules: what becomes of a user who is to be in, or out. change_overrides applies it
-- to any number of users and segments: it locks the users and their overrides, only then reads the clock, asks the
-- table and writes. What it sees is what holds at the moment that it stamps. The public functions wrap it.
--
-- Of a user and a layer there is one assignment at most, live or planned; an index says so. So removals happen before
-- additions, both at the same moment.
--
-- Locks are taken in one order everywhere: slugs, users, overrides, each ascending. So writers wait for each other, but
-- never deadlock.

-- What becomes of one user in one segment.
--
--     state      the user's override now: none (no row, or one that is over), assigned, excluded, planned (an
--                assignment to come)
--     rolled_out whether the rollout holds the user now, and no assignment elsewhere in the layer stays
--     planning   whether the new assignment starts later
--     same_end, same_start: whether the override there has them already
--
-- "removed" of a user whom the rollout holds (rolled_out) makes an exclusion; otherwise the override just goes.
create or replace function segmentation.override_change (
  wanted     boolean,
  state      text,
  rolled_out boolean,
  planning   boolean,
  same_start boolean,
  same_end   boolean
)
  returns text
  language sql
  immutable
  parallel safe
as $$
  select case
    when wanted then
      case
        when state = 'assigned' and same_end then 'unchanged'
        when state = 'assigned' then 'rescheduled'
        when state = 'planned' and planning and same_start and same_end then 'unchanged'
        when state = 'planned' and planning then 'rescheduled'
        -- What holds until the plan begins would be left open: change_overrides raises an error.
        when state = 'excluded' and planning then 'refused'
        else 'added'
      end
    when state in ('assigned', 'planned') then 'removed'
    when state = 'none' and rolled_out then 'removed'
    else 'unchanged'
  end
$$;

create or replace function segmentation.override_state (
  override segmentation.memberships,
  moment   timestamptz
)
  returns text
  language sql
  immutable
  parallel safe
as $$
  select case
    when segmentation.in_force((override).starts_at, (override).ends_at, moment)
      then case when (override).included then 'assigned' else 'excluded' end
    when (override).included and (override).starts_at > moment then 'planned'
    else 'none'
  end
$$;

create or replace function segmentation.require_period (
  starts_at  timestamptz,
  expires_at timestamptz,
  moment     timestamptz
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not isfinite(require_period.starts_at) then
    raise exception 'starts_at % is not a valid moment', require_period.starts_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('starts_at', require_period.starts_at),
        hint = 'Leave starts_at out to start now, or give a date and time to come.';
  end if;
  if require_period.starts_at < require_period.moment then
    raise exception 'starts_at % is in the past', require_period.starts_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('starts_at', require_period.starts_at, 'now', require_period.moment),
        hint = 'Leave starts_at out to start now, or give a moment to come.';
  end if;
  if require_period.expires_at <= require_period.moment then
    raise exception 'expires_at % is not in the future', require_period.expires_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('expires_at', require_period.expires_at, 'now', require_period.moment),
        hint = 'Give a moment to come, or leave expires_at out for a membership without end.';
  end if;
  if require_period.expires_at <= require_period.starts_at then
    raise exception 'expires_at % is not after starts_at %', require_period.expires_at, require_period.starts_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object(
          'expires_at', require_period.expires_at, 'starts_at', require_period.starts_at),
        hint = 'A period ends after it starts.';
  end if;
end
$$;

create or replace function segmentation.require_adding (
  adding     boolean,
  starts_at  timestamptz,
  expires_at timestamptz
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not require_adding.adding
    and num_nonnulls(require_adding.starts_at, require_adding.expires_at) > 0
  then
    raise exception 'starts_at and expires_at belong to an addition, and nothing is added'
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('starts_at', require_adding.starts_at, 'expires_at', require_adding.expires_at),
        hint = 'Leave them out: a removal holds from now until the user is added again.';
  end if;
end
$$;

-- Locks these users and their overrides in these segments, and returns the moment of the change.
create or replace function segmentation.lock_overrides (
  user_ids    bigint[],
  segment_ids integer[]
)
  returns timestamptz
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  registered_at timestamptz := segmentation.lock_users(lock_overrides.user_ids);
  decided_at timestamptz;
  now timestamptz;
  bound timestamptz;
begin
  select max(locked.decided_at) into decided_at
  from (
    select l.decided_at
    from unnest(lock_overrides.segment_ids) as s (segment_id)
    cross join lateral (
      select m.decided_at
      from segmentation.in_order(lock_overrides.user_ids) as asked (user_id)
      join segmentation.memberships as m on m.user_id = asked.user_id and m.segment_id = s.segment_id
      order by m.user_id
      offset 0
      for update of m
    ) as l
  ) as locked;
  now := segmentation.stamp(null);
  -- What the change must follow. All of it lies in the past, unless the clock has gone back.
  select greatest(
    registered_at,
    decided_at,
    (
      select max(greatest(s.created_at, nullif(s.deleted_at, 'infinity')))
      from segmentation.segments as s
      where s.segment_id = any (lock_overrides.segment_ids)
    ),
    (select max(r.decided_at) from segmentation.rollouts as r where r.segment_id = any (lock_overrides.segment_ids)),
    (
      select max(h.ends_at)
      from unnest(lock_overrides.segment_ids) as s (segment_id)
      cross join lateral (
        select h.ends_at
        from segmentation.in_order(lock_overrides.user_ids) as asked (user_id)
        join segmentation.membership_history as h on h.user_id = asked.user_id and h.segment_id = s.segment_id
        where h.ends_at > now
        offset 0
      ) as h
    ))
  into bound;
  return segmentation.stamp(bound);
end
$$;

create or replace function segmentation.refuse_plans_for_excluded_users (
  user_ids    bigint[],
  segment_ids integer[],
  moment      timestamptz
)
  returns void
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  excluded text[];
begin
  select array_agg(s.slug order by s.slug) into excluded
  from segmentation.segments as s
  cross join lateral (
    select m.user_id
    from segmentation.in_order(refuse_plans_for_excluded_users.user_ids) as asked (user_id)
    join segmentation.memberships as m on m.user_id = asked.user_id and m.segment_id = s.segment_id
    where segmentation.override_state(m, refuse_plans_for_excluded_users.moment) = 'excluded'
    limit 1
  ) as first_one
  where s.segment_id = any (refuse_plans_for_excluded_users.segment_ids);
  if excluded is not null then
    raise exception 'cannot plan a start while users are excluded from: %', array_to_string(excluded, ', ')
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('excluded_segments', excluded),
        hint = 'Add without starts_at: that ends the exclusion now.';
  end if;
end
$$;

-- The error of a list: so many of its users, ten of whom are named, are assigned to other segments of the layer.
create or replace function segmentation.refuse_assigned_elsewhere (
  segments text[],
  users    bigint,
  user_ids bigint[]
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '% of these users are assigned to other segments of the layer: %',
    users, array_to_string(segments, ', ')
    using
      errcode = 'object_not_in_prerequisite_state',
      detail = json_build_object(
        'code', 'exclusive_segments', 'exclusive_segments', segments, 'users', users, 'user_ids', user_ids),
      hint = 'Leave these users out, or remove them from the other segments first; user_ids names ten at most.';
end
$$;

-- Rule of layers: nobody is added to a segment while assigned, now or planned, to another one of its layer, unless the
-- same call removes that assignment. What is over, but not swept yet, is moved out: it would stand in the index.
create or replace function segmentation.enter_layers (
  user_ids bigint[],
  added    integer[],
  removed  integer[],
  moment   timestamptz
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  layer_ids integer[];
  together text[];
  assigned record;
begin
  select array_agg(s.layer_id), array_agg(s.slug order by s.slug) filter (where s.number > 1)
  into layer_ids, together
  from (
    select s.layer_id, s.slug, count(*) over (partition by s.layer_id) as number
    from segmentation.segments as s
    where s.segment_id = any (enter_layers.added) and s.layer_id is not null
  ) as s;
  if layer_ids is null then
    return;
  end if;
  if together is not null then
    raise exception 'segments of one layer cannot be added together: %', array_to_string(together, ', ')
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('code', 'exclusive_segments', 'exclusive_segments', together),
        hint = 'They exclude each other: add one of them.';
  end if;
  select
    array_agg(distinct s.slug order by s.slug) as segments,
    count(distinct m.user_id) as users,
    (array_agg(distinct m.user_id order by m.user_id))[:10] as user_ids
  into assigned
  from segmentation.in_order(enter_layers.user_ids) as asked (user_id)
  join segmentation.memberships as m on m.user_id = asked.user_id
  join segmentation.segments as s on s.segment_id = m.segment_id
  where m.included and m.layer_id = any ((select layer_ids)::integer[])
    and m.segment_id <> all (enter_layers.added || enter_layers.removed)
    and m.ends_at > enter_layers.moment and s.deleted_at > enter_layers.moment;
  if assigned.users > 0 and cardinality(enter_layers.user_ids) = 1 then
    raise exception 'the user is assigned to another segment of the layer: %', array_to_string(assigned.segments, ', ')
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('code', 'exclusive_segments', 'exclusive_segments', assigned.segments),
        hint = 'Name it in remove in the same call, or wait until the assignment ends.';
  elsif assigned.users > 0 then
    perform segmentation.refuse_assigned_elsewhere(assigned.segments, assigned.users, assigned.user_ids);
  end if;
  delete from segmentation.memberships as d
  where d.ctid = any (array(
    select m.ctid
    from segmentation.in_order(enter_layers.user_ids) as asked (user_id)
    join segmentation.memberships as m on m.user_id = asked.user_id
    join segmentation.segments as s on s.segment_id = m.segment_id
    where m.included and m.layer_id = any ((select layer_ids)::integer[])
      and m.segment_id <> all (enter_layers.added)
      and (m.ends_at <= enter_layers.moment or s.deleted_at <= enter_layers.moment)
  ));
end
$$;

-- Every user with every segment: wanted[i] says whether the users are to be in segment_ids[i]. Both lists are sets. The
-- caller holds the segments' slugs. Returns how many users changed how, segment by segment; those not counted are
-- unchanged.
create or replace function segmentation.change_overrides (
  user_ids    bigint[],
  segment_ids integer[],
  wanted      boolean[],
  expires_at  timestamptz,
  starts_at   timestamptz,
  actor       text,
  reason      text
)
  returns table (segment_id integer, change text, users bigint)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz;
  new_start timestamptz;
  new_end timestamptz;
  new_actor text;
  new_reason text;
  new_end_actor text;
  new_end_reason text;
  added integer[];
  removed integer[];
  layer_ids integer[];
  -- The segments of these layers that live and are not removed in this call.
  staying integer[];
  salts bigint[];
  thresholds integer[];
  dealt int4multirange[];
  adding boolean;
begin
  perform segmentation.set_actor(change_overrides.actor, change_overrides.reason);
  new_actor := segmentation.actor();
  new_reason := segmentation.actor_reason();
  select
    array_agg(s.layer_id order by a.position),
    array_agg(a.segment_id) filter (where a.wanted), array_agg(a.segment_id) filter (where not a.wanted)
  into layer_ids, added, removed
  from unnest(change_overrides.segment_ids, change_overrides.wanted) with ordinality as a (segment_id, wanted, position)
  join segmentation.segments as s on s.segment_id = a.segment_id;
  moment := segmentation.lock_overrides(change_overrides.user_ids, array(
    select unnest(change_overrides.segment_ids)
    union
    select s.segment_id from segmentation.segments as s where s.layer_id = any (layer_ids) and not s.swept));
  perform set_config('segmentation.moment', segmentation.rfc3339(moment), true);
  perform segmentation.require_period(change_overrides.starts_at, change_overrides.expires_at, moment);
  if change_overrides.starts_at > moment then
    perform segmentation.refuse_plans_for_excluded_users(change_overrides.user_ids, added, moment);
  end if;
  perform segmentation.enter_layers(change_overrides.user_ids, added, coalesce(removed, '{}'), moment);
  staying := array(
    select s.segment_id
    from segmentation.segments as s
    where s.layer_id = any (layer_ids) and s.deleted_at > moment and (s.segment_id = any (removed)) is not true
  );
  -- The rollouts are looked up once: no change of a rollout can come between the statements below.
  select
    array_agg(r.salt order by a.position), array_agg(coalesce(r.threshold, 0) order by a.position),
    array_agg(r.buckets order by a.position)
  into salts, thresholds, dealt
  from unnest(change_overrides.segment_ids) with ordinality as a (segment_id, position)
  left join segmentation.rollouts as r
    on r.segment_id = a.segment_id and segmentation.in_force(r.starts_at, r.ends_at, moment);

  foreach adding in array array[false, true] loop
    continue when adding <> all (change_overrides.wanted);
    -- An exclusion lasts from now until the user is added again.
    new_start := case when adding then coalesce(change_overrides.starts_at, moment) else moment end;
    new_end := case when adding then coalesce(change_overrides.expires_at, 'infinity') else 'infinity' end;
    -- Who set the end and why: nobody, where there is none.
    new_end_actor := case when new_end < 'infinity' then new_actor end;
    new_end_reason := case when new_end < 'infinity' then new_reason end;
    return query
    with found as (
      select
        o.user_id, a.segment_id, a.layer_id, o.place,
        segmentation.override_state(o.override, moment) as state,
        (o.override).starts_at = new_start as same_start,
        (o.override).ends_at = new_end as same_end,
        not adding
          and coalesce(segmentation.holds(a.buckets, a.threshold, segmentation.bucket(o.user_id, a.salt)), false)
          and not exists (
            select
            from segmentation.memberships as e
            where e.user_id = o.user_id and e.layer_id = a.layer_id and e.included
              and e.segment_id <> a.segment_id and e.segment_id = any (staying)
              and segmentation.in_force(e.starts_at, e.ends_at, moment)
          ) as rolled_out
      from unnest(change_overrides.segment_ids, change_overrides.wanted, layer_ids, salts, thresholds, dealt)
        as a (segment_id, wanted, layer_id, salt, threshold, buckets)
      cross join lateral (
        select asked.user_id, m.ctid as place, m as override
        from segmentation.in_order(change_overrides.user_ids) as asked (user_id)
        left join segmentation.memberships as m on m.user_id = asked.user_id and m.segment_id = a.segment_id
        offset 0
      ) as o
      where a.wanted = adding
    ),
    decided as materialized (
      select
        f.user_id, f.segment_id, f.layer_id, f.place, f.rolled_out,
        f.state = 'assigned' as is_assigned,
        segmentation.override_change(
          adding, f.state, f.rolled_out, new_start > moment, f.same_start, f.same_end) as change
      from found as f
    ),
    -- Rows that change are found by their place (ctid). They are locked, so none of them moves.
    places as materialized (
      select
        array_agg(d.place) filter (where d.change = 'removed' and not d.rolled_out) as ended,
        -- An assignment that goes on keeps its start, and who began it and why.
        array_agg(d.place) filter (where d.change = 'rescheduled' and d.is_assigned) as going_on,
        array_agg(d.place) filter (
          where d.change = 'added' or (d.change = 'rescheduled' and not d.is_assigned)
            or (d.change = 'removed' and d.rolled_out)) as replaced
      from decided as d
      where d.place is not null
    ),
    ended as (
      delete from segmentation.memberships as m
      where m.ctid = any ((select p.ended from places as p)::tid[])
    ),
    going_on as (
      update segmentation.memberships as m
      set ends_at = new_end, end_actor = new_end_actor, end_reason = new_end_reason, decided_at = moment
      where m.ctid = any ((select p.going_on from places as p)::tid[])
    ),
    replaced as (
      update segmentation.memberships as m
      set
        included = adding,
        starts_at = new_start,
        ends_at = new_end,
        actor = new_actor,
        reason = new_reason,
        end_actor = new_end_actor,
        end_reason = new_end_reason,
        decided_at = moment
      where m.ctid = any ((select p.replaced from places as p)::tid[])
    ),
    begun as (
      insert into segmentation.memberships (
        user_id, segment_id, layer_id, included, starts_at, ends_at, actor, reason, end_actor, end_reason, decided_at)
      select
        d.user_id, d.segment_id, d.layer_id, adding, new_start, new_end,
        new_actor, new_reason, new_end_actor, new_end_reason, moment
      from decided as d
      where d.place is null and d.change <> 'unchanged'
    )
    select d.segment_id, d.change, count(*)
    from decided as d
    where d.change <> 'unchanged'
    group by d.segment_id, d.change;
  end loop;
  perform segmentation.unset_actor();
exception
  -- A plain INSERT, which takes none of our locks, was quicker.
  when unique_violation then
    raise exception 'the same override, or one of the same layer, was inserted by somebody else at the same time'
      using errcode = 'serialization_failure', hint = 'Try again.';
end
$$;

create or replace function segmentation.change_user_segments (
  user_id    bigint,
  add        text[] default '{}',
  remove     text[] default '{}',
  expires_at timestamptz default null,
  starts_at  timestamptz default null,
  actor      text default session_user,
  reason     text default null
)
  returns table (segment text, change text)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  added text[] := coalesce(change_user_segments.add, '{}');
  removed text[] := coalesce(change_user_segments.remove, '{}');
  slugs text[];
  segment_ids integer[];
  wanted boolean[];
  in_both text[];
begin
  perform segmentation.require_user_ids(array[change_user_segments.user_id]);
  if cardinality(added || removed) = 0 then
    raise exception 'nothing to change: add and remove are both empty'
      using
        errcode = 'invalid_parameter_value',
        hint = 'Name at least one segment in add or remove.';
  end if;
  perform segmentation.require_adding(
    cardinality(added) > 0, change_user_segments.starts_at, change_user_segments.expires_at);
  select
    array_agg(s.slug order by s.slug), array_agg(s.is_added order by s.slug),
    array_agg(s.slug order by s.slug) filter (where s.is_added and s.is_removed)
  into slugs, wanted, in_both
  from (
    select a.slug collate "C", bool_or(a.is_added), bool_or(not a.is_added)
    from (
      select unnest(added), true
      union all
      select unnest(removed), false
    ) as a (slug, is_added)
    group by a.slug
  ) as s (slug, is_added, is_removed);
  perform segmentation.require_at_most('segments', cardinality(slugs), 1000);
  if in_both is not null then
    raise exception 'segments both added and removed: %', array_to_string(in_both, ', ')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('overlapping_segments', in_both),
        hint = 'Name each segment once, in add or in remove.';
  end if;
  perform segmentation.lock_slugs(slugs);
  segment_ids := segmentation.segment_ids_of(slugs);
  return query
  select asked.slug, coalesce(c.change, 'unchanged')
  from unnest(slugs, segment_ids) with ordinality as asked (slug, segment_id, position)
  left join segmentation.change_overrides(
    array[change_user_segments.user_id], segment_ids, wanted,
    change_user_segments.expires_at, change_user_segments.starts_at,
    change_user_segments.actor, change_user_segments.reason) as c
    on c.segment_id = asked.segment_id
  order by asked.position;
end
$$;

comment on function segmentation.change_user_segments(bigint, text[], text[], timestamptz, timestamptz, text, text) is
  'Add a user to segments and remove it from others, all or nothing. Example: select * from change_user_segments(1000, add => ''{AVITO_DISCOUNT_30}'', remove => ''{AVITO_DISCOUNT_50}'', expires_at => now() + interval ''7 days'', reason => ''ticket 17'');';
