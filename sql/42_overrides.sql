-- Overrides: assigning users to segments and taking them out by hand.
--
-- change_overrides is the primitive, for any number of users and segments; the public forms wrap it. It
-- locks the users, known from now on, then locks the overrides that exist, and only then reads the clock and
-- decides: what it sees is what holds at the moment it stamps. Locks are taken in one order everywhere:
-- slugs, users, overrides, each ascending, so that writers wait for each other but never deadlock.

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
  if starts_at < moment or not isfinite(starts_at) then
    raise exception 'starts_at % is in the past', starts_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('starts_at', starts_at, 'now', moment),
        hint = 'Leave starts_at out to start now, or give a moment to come.';
  end if;
  if expires_at <= moment then
    raise exception 'expires_at % is not in the future', expires_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('expires_at', expires_at, 'now', moment),
        hint = 'Give a moment to come, or leave expires_at out for a membership without end.';
  end if;
  if expires_at <= starts_at then
    raise exception 'expires_at % is not after starts_at %', expires_at, starts_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('expires_at', expires_at, 'starts_at', starts_at),
        hint = 'A period ends after it starts.';
  end if;
end
$$;

-- Every user with every segment: wanted[i] says whether the users are to be in segment_ids[i]. Both lists
-- are sets. The caller holds the segments' slugs. Returns how many users changed how, segment by segment;
-- those not counted are unchanged.
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
#variable_conflict use_column
declare
  -- Copies under names that no column has.
  new_end timestamptz := coalesce(change_overrides.expires_at, 'infinity');
  new_start timestamptz := change_overrides.starts_at;
  new_actor text := coalesce(change_overrides.actor, session_user);
  new_reason text := change_overrides.reason;
  moment timestamptz;
  salts bigint[];
  thresholds integer[];
  salt bigint;
  threshold integer;
  adding boolean;
  excluded_slugs text[];
begin
  perform segmentation.lock_users(change_overrides.user_ids);
  perform
  from (select unnest(change_overrides.user_ids) as user_id order by user_id) as asked_user
  join segmentation.memberships as m on m.user_id = asked_user.user_id
  where m.segment_id = any (change_overrides.segment_ids)
  order by m.user_id, m.segment_id
  for update of m;
  moment := segmentation.clock();
  perform segmentation.require_period(new_start, change_overrides.expires_at, moment);

  -- A plan for a user who is excluded now would leave open what holds until then.
  if new_start > moment then
    select array_agg(distinct s.slug order by s.slug) into excluded_slugs
    from (select unnest(change_overrides.user_ids) as user_id order by user_id) as asked_user
    join segmentation.memberships as m on m.user_id = asked_user.user_id
    join unnest(change_overrides.segment_ids, change_overrides.wanted) as asked (segment_id, wanted)
      on asked.segment_id = m.segment_id and asked.wanted
    join segmentation.segments as s on s.segment_id = m.segment_id
    where m.segment_id = any (change_overrides.segment_ids)
      and not m.included and m.starts_at <= moment and moment < m.ends_at;
    if excluded_slugs is not null then
      raise exception 'cannot plan a start while users are excluded from: %', array_to_string(excluded_slugs, ', ')
        using
          errcode = 'object_not_in_prerequisite_state',
          detail = json_build_object('excluded_segments', excluded_slugs),
          hint = 'Add without starts_at: that ends the exclusion now.';
    end if;
  end if;

  -- Looked up once: a rollout changed between the two steps below must not be seen by one of them alone.
  select
    array_agg(r.salt order by asked.position), array_agg(coalesce(r.threshold, 0) order by asked.position)
  into salts, thresholds
  from unnest(change_overrides.segment_ids) with ordinality as asked (segment_id, position)
  left join segmentation.rollouts as r
    on r.segment_id = asked.segment_id and r.starts_at <= moment and moment < r.ends_at;
  perform segmentation.set_actor(new_actor, new_reason);
  -- Where there is an override, what becomes of it.
  return query
  with found as (
    select
      m.*, asked.wanted,
      case
        when m.ends_at <= moment then 'ended'
        when m.starts_at > moment then 'planned'
        when m.included then 'assigned'
        else 'excluded'
      end as state,
      coalesce(segmentation.bucket(m.user_id, asked.salt) < asked.threshold, false) as rolled_out
    from (select unnest(change_overrides.user_ids) as user_id order by user_id) as asked_user
    join segmentation.memberships as m on m.user_id = asked_user.user_id
    join unnest(change_overrides.segment_ids, change_overrides.wanted, salts, thresholds)
      as asked (segment_id, wanted, salt, threshold) on asked.segment_id = m.segment_id
    where m.segment_id = any (change_overrides.segment_ids)
  ),
  decided as materialized (
    select
      f.*,
      f.wanted and f.state = 'assigned' as going_on,
      case
        when f.wanted then case
          when f.state = 'assigned' and f.ends_at = new_end then 'unchanged'
          when f.state = 'assigned' then 'rescheduled'
          when f.state = 'planned' and f.included and new_start > moment then
            case when (f.starts_at, f.ends_at) = (new_start, new_end) then 'unchanged' else 'rescheduled' end
          else 'added'
        end
        when f.state = 'assigned' or (f.state = 'planned' and f.included) then 'removed'
        when f.state <> 'excluded' and f.rolled_out then 'removed'
        else 'unchanged'
      end as change
    from found as f
  ),
  ended as (
    delete from segmentation.memberships as m
    using decided as d
    where d.change = 'removed' and not d.rolled_out
      and m.user_id = d.user_id and m.segment_id = d.segment_id
  ),
  -- An assignment that goes on keeps its start and why it began.
  replaced as (
    update segmentation.memberships as m
    set
      included = d.wanted,
      starts_at = case when d.going_on then d.starts_at when d.wanted then coalesce(new_start, moment) else moment end,
      ends_at = case when d.wanted then new_end else 'infinity' end,
      actor = case when d.going_on then d.actor else new_actor end,
      reason = case when d.going_on then d.reason else new_reason end,
      end_actor = case when d.wanted and new_end < 'infinity' then new_actor end,
      end_reason = case when d.wanted and new_end < 'infinity' then new_reason end
    from decided as d
    where (d.change in ('added', 'rescheduled') or (d.change = 'removed' and d.rolled_out))
      and m.user_id = d.user_id and m.segment_id = d.segment_id
  )
  select d.segment_id, d.change, count(*)
  from decided as d
  group by d.segment_id, d.change;

  -- Where there is none, an assignment begins, or the exclusion of a user whom the rollout holds.
  for segment_id, change, salt, threshold in
    select a.segment_id, case when a.wanted then 'added' else 'removed' end, a.salt, a.threshold
    from unnest(change_overrides.segment_ids, change_overrides.wanted, salts, thresholds)
      as a (segment_id, wanted, salt, threshold)
    where a.wanted or a.threshold > 0
  loop
    adding := change = 'added';
    insert into segmentation.memberships (
      user_id, segment_id, included, starts_at, ends_at, actor, reason, end_actor, end_reason)
    select
      asked_user.user_id, change_overrides.segment_id, adding,
      case when adding then coalesce(new_start, moment) else moment end,
      case when adding then new_end else 'infinity' end,
      new_actor, new_reason,
      case when adding and new_end < 'infinity' then new_actor end,
      case when adding and new_end < 'infinity' then new_reason end
    from (select unnest(change_overrides.user_ids) as user_id order by user_id) as asked_user
    where (adding or segmentation.bucket(asked_user.user_id, salt) < threshold)
      and not exists (
        select
        from segmentation.memberships as m
        where m.user_id = asked_user.user_id and m.segment_id = change_overrides.segment_id
      );
    get diagnostics users = row_count;
    if users > 0 then
      return next;
    end if;
  end loop;
  perform segmentation.set_actor(null, null);
exception
  -- Only a plain INSERT typed meanwhile, which holds no lock of ours, can have been quicker.
  when unique_violation then
    raise exception 'the same override was inserted by somebody else at the same time'
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
as $$
#variable_conflict use_column
declare
  added text[] := coalesce(change_user_segments.add, '{}');
  removed text[] := coalesce(change_user_segments.remove, '{}');
  slugs text[];
  segment_ids integer[];
  in_both text[];
begin
  perform segmentation.require_user_ids(array[change_user_segments.user_id]);
  select
    array_agg(distinct s.slug),
    array_agg(distinct s.slug) filter (where s.slug = any (added) and s.slug = any (removed))
  into slugs, in_both
  from unnest(added || removed) as s (slug);
  if slugs is null then
    raise exception 'nothing to change: add and remove are both empty'
      using
        errcode = 'invalid_parameter_value',
        hint = 'Name at least one segment in add or remove.';
  end if;
  if in_both is not null then
    raise exception 'segments both added and removed: %', array_to_string(in_both, ', ')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('overlapping_segments', in_both),
        hint = 'Name each segment once, in add or in remove.';
  end if;
  perform segmentation.require_adding(
    cardinality(added) > 0, change_user_segments.starts_at, change_user_segments.expires_at);
  perform segmentation.lock_slugs(slugs);
  segment_ids := segmentation.segment_ids_of(slugs);
  return query
  select asked.slug, coalesce(c.change, 'unchanged')
  from unnest(slugs, segment_ids) as asked (slug, segment_id)
  left join segmentation.change_overrides(
    array[change_user_segments.user_id],
    segment_ids,
    array(
      select asked.slug = any (added) from unnest(slugs) with ordinality as asked (slug, position) order by position),
    change_user_segments.expires_at, change_user_segments.starts_at,
    change_user_segments.actor, change_user_segments.reason) as c
    on c.segment_id = asked.segment_id
  order by asked.slug collate "C";
end
$$;

comment on function segmentation.change_user_segments(bigint, text[], text[], timestamptz, timestamptz, text, text) is
  'Add a user to segments and remove it from others, all or nothing. Example: select * from change_user_segments(1000, add => ''{AVITO_DISCOUNT_30}'', remove => ''{AVITO_DISCOUNT_50}'', expires_at => now() + interval ''7 days'', reason => ''ticket 17'');';

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
  if not adding and (starts_at is not null or expires_at is not null) then
    raise exception 'starts_at and expires_at belong to an addition, and nothing is added'
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('starts_at', starts_at, 'expires_at', expires_at),
        hint = 'Leave them out: a removal holds from now until the user is added again.';
  end if;
end
$$;

create or replace function segmentation.change_segment_members (
  slug       text,
  user_ids   bigint[],
  operation  text default 'add',
  expires_at timestamptz default null,
  starts_at  timestamptz default null,
  actor      text default session_user,
  reason     text default null
)
  returns table (received bigint, changed bigint, unchanged bigint)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  -- A million ids, in order: room to sort them without a file, plans made for as many as there are, and
  -- merged with the tables' indexes instead of hashed.
  set work_mem = '128MB'
  set plan_cache_mode = force_custom_plan
  set enable_hashjoin = off
  set enable_hashagg = off
as $$
#variable_conflict use_column
declare
  adding boolean := change_segment_members.operation = 'add';
  given bigint := cardinality(change_segment_members.user_ids);
begin
  if change_segment_members.operation not in ('add', 'remove') or change_segment_members.operation is null then
    raise exception 'operation % is unknown', coalesce('"' || change_segment_members.operation || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('operation', change_segment_members.operation),
        hint = 'Say add or remove.';
  end if;
  perform segmentation.require_user_ids(change_segment_members.user_ids);
  if given = 0 then
    raise exception 'nothing to change: no user id is given'
      using errcode = 'invalid_parameter_value', hint = 'Name at least one user.';
  end if;
  perform segmentation.require_adding(adding, change_segment_members.starts_at, change_segment_members.expires_at);
  perform segmentation.lock_slugs(array[change_segment_members.slug]);
  return query
  select given, coalesce(sum(c.users), 0)::bigint, (given - coalesce(sum(c.users), 0))::bigint
  from segmentation.change_overrides(
    array(select distinct unnest(change_segment_members.user_ids) as user_id order by user_id),
    array[segmentation.segment_id_of(change_segment_members.slug)],
    array[adding],
    change_segment_members.expires_at, change_segment_members.starts_at,
    change_segment_members.actor, change_segment_members.reason) as c
  where c.change <> 'unchanged';
end
$$;

comment on function segmentation.change_segment_members(text, bigint[], text, timestamptz, timestamptz, text, text) is
  'Add (or remove) many users to (from) one segment, all or nothing; duplicates count as unchanged. Example: select * from change_segment_members(''AVITO_DISCOUNT_30'', array[1000, 1002], expires_at => now() + interval ''7 days'');';
