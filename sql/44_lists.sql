-- Many users and one segment: a list of users is added, removed, or takes the place of the list before it.
--
-- Adding and removing follow the rules of change_user_segments (sql/42_overrides.sql). Replacing makes the list the
-- whole truth of whom one actor has assigned by hand in this segment. list_change is its table of rules. The list and
-- the segment's overrides, both in order of their user ids, are merged once; only who changes is locked, judged again
-- and written. Two lists for one segment are in order: the second sees what the first did.

-- What becomes of a user when a list takes the place of an actor's assignments. A plan counts as an assignment.
--
--     own_actor  whose assignments the list replaces; null: everybody's
--     new_end    the end that the list gives; null: it gives none, and those who stay keep their own
--
-- An exclusion stays, also of somebody on the list. Another actor's assignment stays as it is.
create or replace function segmentation.list_change (
  is_listed boolean,
  override  segmentation.memberships,
  own_actor text,
  new_end   timestamptz,
  moment    timestamptz
)
  returns text
  language sql
  immutable
  parallel safe
as $$
  select case
    when is_listed and segmentation.override_state(override, moment) = 'none' then 'added'
    when segmentation.override_state(override, moment) in ('assigned', 'planned')
      and (own_actor is null or (override).actor = own_actor)
      then case
        when not is_listed then 'removed'
        when (override).ends_at <> new_end then 'rescheduled'
        else 'unchanged'
      end
    else 'unchanged'
  end
$$;

-- A list that is cut short is noticed: an empty one, or one that would remove more users than allowed.
create or replace function segmentation.require_whole_list (
  slug        text,
  listed      bigint,
  removed     bigint,
  max_removed bigint
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if require_whole_list.listed = 0 then
    raise exception 'the list is empty: % users would be removed from segment "%"',
      require_whole_list.removed, require_whole_list.slug
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object(
          'code', 'too_many_removed', 'segment', require_whole_list.slug, 'removed', require_whole_list.removed),
        hint = 'Is the list whole? To end these assignments, send the users with the operation remove.';
  end if;
  if require_whole_list.removed > require_whole_list.max_removed then
    raise exception '% users would be removed from segment "%", more than %',
      require_whole_list.removed, require_whole_list.slug, require_whole_list.max_removed
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object(
          'code', 'too_many_removed', 'segment', require_whole_list.slug, 'removed', require_whole_list.removed,
          'max_removed', require_whole_list.max_removed),
        hint = 'Is the list whole? If so, give a larger max_removed, or none.';
  end if;
end
$$;

-- The ids of the list are a set, in order. The caller has locked the segment's slug in turn.
create or replace function segmentation.replace_assignments (
  slug        text,
  segment_id  integer,
  user_ids    bigint[],
  expires_at  timestamptz,
  starts_at   timestamptz,
  actor       text,
  reason      text,
  max_removed bigint,
  all_actors  boolean
)
  returns table (added bigint, removed bigint, rescheduled bigint)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz;
  last_start timestamptz;
  own_actor text;
  concerned bigint[];
  are_listed boolean[];
  new_ids bigint[];
begin
  -- Held already, unless the slug came back in the very moment after its lock.
  perform
  from segmentation.segments as s
  where s.segment_id = replace_assignments.segment_id
  for no key update;
  moment := segmentation.clock();
  perform segmentation.require_period(replace_assignments.starts_at, replace_assignments.expires_at, moment);
  perform segmentation.set_actor(replace_assignments.actor, replace_assignments.reason);
  if not replace_assignments.all_actors then
    own_actor := segmentation.actor();
  end if;
  select
    array_agg(c.user_id order by c.user_id),
    array_agg(c.is_listed order by c.user_id),
    count(*) filter (where c.change = 'removed'),
    max(c.starts_at) filter (where c.change = 'rescheduled')
  into concerned, are_listed, removed, last_start
  from (
    select
      coalesce(asked.user_id, m.user_id) as user_id, asked.user_id is not null as is_listed, m.starts_at,
      segmentation.list_change(
        asked.user_id is not null, m, own_actor, replace_assignments.expires_at, moment) as change
    from segmentation.in_order(replace_assignments.user_ids) as asked (user_id)
    full join (
      select o.* from segmentation.memberships as o where o.segment_id = replace_assignments.segment_id
    ) as m on m.user_id = asked.user_id
  ) as c
  where c.change <> 'unchanged';
  perform segmentation.require_whole_list(
    replace_assignments.slug, cardinality(replace_assignments.user_ids), removed, replace_assignments.max_removed);
  if last_start >= replace_assignments.expires_at then
    raise exception 'expires_at % is not after % when an assignment on the list is planned to start',
      replace_assignments.expires_at, last_start
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('expires_at', replace_assignments.expires_at, 'starts_at', last_start),
        hint = 'Give a later end, or cancel the plan by removing the user first.';
  end if;

  added := 0;
  rescheduled := 0;
  if concerned is not null then
    moment := segmentation.lock_overrides(concerned, array[replace_assignments.segment_id]);
    -- Judged once more: somebody else may have been quicker.
    with decided as materialized (
      select
        c.user_id, m.ctid as place,
        segmentation.list_change(c.is_listed, m, own_actor, replace_assignments.expires_at, moment) as change
      from unnest(concerned, are_listed) as c (user_id, is_listed)
      left join segmentation.memberships as m
        on m.user_id = c.user_id and m.segment_id = (select replace_assignments.segment_id)
    ),
    ended as (
      delete from segmentation.memberships as m
      where m.ctid = any (array(select d.place from decided as d where d.change = 'removed'))
    ),
    rescheduled_rows as (
      update segmentation.memberships as m
      set
        ends_at = replace_assignments.expires_at,
        end_actor = segmentation.actor(),
        end_reason = segmentation.actor_reason(),
        decided_at = moment
      where m.ctid = any (array(select d.place from decided as d where d.change = 'rescheduled'))
    )
    select
      count(*) filter (where d.change = 'removed'),
      count(*) filter (where d.change = 'rescheduled'),
      array_agg(d.user_id order by d.user_id) filter (where d.change = 'added')
    into removed, rescheduled, new_ids
    from decided as d;
  end if;
  if new_ids is not null then
    select coalesce(sum(c.users) filter (where c.change = 'added'), 0) into added
    from segmentation.change_overrides(
      new_ids, array[replace_assignments.segment_id], array[true],
      replace_assignments.expires_at, replace_assignments.starts_at,
      replace_assignments.actor, replace_assignments.reason) as c;
  end if;
  perform segmentation.unset_actor();
  return next;
end
$$;

-- All that can be known of such a change before its list is there. The service asks before a long upload comes.
create or replace function segmentation.require_list_change (
  operation   text,
  expires_at  timestamptz,
  starts_at   timestamptz,
  actor       text,
  reason      text,
  max_removed bigint,
  all_actors  boolean
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if (require_list_change.operation in ('add', 'remove', 'replace')) is not true then
    raise exception 'operation % is unknown', coalesce('"' || require_list_change.operation || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('operation', require_list_change.operation),
        hint = 'Say add, remove or replace.';
  end if;
  if require_list_change.max_removed < 0 then
    raise exception 'max_removed % is below 0', require_list_change.max_removed
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('max_removed', require_list_change.max_removed),
        hint = 'Give the number of users who may be removed at most, or leave it out.';
  end if;
  if require_list_change.all_actors and require_list_change.operation <> 'replace' then
    raise exception 'all_actors belongs to replace, and the operation is %', require_list_change.operation
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('operation', require_list_change.operation),
        hint = 'Leave it out: adding and removing ask for nobody''s name.';
  end if;
  perform segmentation.require_adding(
    require_list_change.operation <> 'remove', require_list_change.starts_at, require_list_change.expires_at);
  perform segmentation.require_period(
    require_list_change.starts_at, require_list_change.expires_at, segmentation.clock());
  perform segmentation.require_actor(require_list_change.actor, require_list_change.reason);
end
$$;

comment on function segmentation.require_list_change(text, timestamptz, timestamptz, text, text, bigint, boolean) is
  'For the service: fails where change_segment_members would fail for any list. Example: select require_list_change(''add'', null, null, null, ''november campaign'', null, false);';

-- The ids of a list, once they are there. An empty list may be a mistake of replace: require_whole_list says so.
create or replace function segmentation.require_list (
  user_ids  bigint[],
  operation text
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_user_ids(require_list.user_ids);
  if cardinality(require_list.user_ids) = 0 and require_list.operation <> 'replace' then
    raise exception 'nothing to change: no user id is given'
      using errcode = 'invalid_parameter_value', hint = 'Name at least one user.';
  end if;
end
$$;

create or replace function segmentation.change_segment_members (
  slug        text,
  user_ids    bigint[],
  operation   text default 'add',
  expires_at  timestamptz default null,
  starts_at   timestamptz default null,
  actor       text default session_user,
  reason      text default null,
  max_removed bigint default null,
  dry_run     boolean default false,
  all_actors  boolean default false
)
  returns table (
    received bigint, changed bigint, unchanged bigint, added bigint, removed bigint, rescheduled bigint
  )
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  -- For a million ids: memory to sort them without a file, a plan for as many as there are, and merge joins with the
  -- tables' indexes instead of hashes.
  set work_mem = '128MB'
  set plan_cache_mode = force_custom_plan
  set enable_hashjoin = off
  -- Given back at the end, where it is changed below.
  set enable_nestloop = on
as $$
declare
  is_replacing boolean := change_segment_members.operation = 'replace';
  segment_id integer;
  listed bigint[];
begin
  perform segmentation.require_list_change(
    change_segment_members.operation, change_segment_members.expires_at, change_segment_members.starts_at,
    change_segment_members.actor, change_segment_members.reason,
    change_segment_members.max_removed, change_segment_members.all_actors);
  perform segmentation.require_list(change_segment_members.user_ids, change_segment_members.operation);
  received := cardinality(change_segment_members.user_ids);
  -- A list that replaces another comes after it. Both go together with all who add and remove.
  perform segmentation.lock_slugs(
    array[change_segment_members.slug], case when is_replacing then 'in turn' else 'shared' end);
  segment_id := segmentation.segment_id_of(change_segment_members.slug);
  if segmentation.empty_when_analyzed() then
    perform set_config('enable_nestloop', 'off', true);
  end if;
  listed := array(select distinct unnest(change_segment_members.user_ids) as user_id order by user_id);
  begin
    if is_replacing then
      select r.added, r.removed, r.rescheduled into added, removed, rescheduled
      from segmentation.replace_assignments(
        change_segment_members.slug, segment_id, listed,
        change_segment_members.expires_at, change_segment_members.starts_at,
        change_segment_members.actor, change_segment_members.reason,
        change_segment_members.max_removed, coalesce(change_segment_members.all_actors, false)) as r;
    else
      select
        coalesce(sum(c.users) filter (where c.change = 'added'), 0),
        coalesce(sum(c.users) filter (where c.change = 'removed'), 0),
        coalesce(sum(c.users) filter (where c.change = 'rescheduled'), 0)
      into added, removed, rescheduled
      from segmentation.change_overrides(
        listed, array[segment_id], array[change_segment_members.operation = 'add'],
        change_segment_members.expires_at, change_segment_members.starts_at,
        change_segment_members.actor, change_segment_members.reason) as c;
      perform segmentation.require_whole_list(
        change_segment_members.slug, received, removed, change_segment_members.max_removed);
    end if;
    -- What was done is undone, the counts stay: an error inside a block with an EXCEPTION clause takes back what the
    -- block wrote and locked, and no variable. SG002 is that error.
    if change_segment_members.dry_run then
      raise exception using errcode = 'SG002';
    end if;
  exception
    when sqlstate 'SG002' then null;
  end;
  changed := added + removed + rescheduled;
  -- Of those received; who is removed by replace was not.
  unchanged := received - added - rescheduled - case when is_replacing then 0 else removed end;
  return next;
end
$$;

comment on function segmentation.change_segment_members(
  text, bigint[], text, timestamptz, timestamptz, text, text, bigint, boolean, boolean
) is
  'Add (or remove) many users to (from) one segment, all or nothing; duplicates count as unchanged. With operation replace the list is all whom this actor has assigned in this segment: who is missing is no longer assigned, who is new is added, who stays is not touched; what other actors assigned (unless all_actors), exclusions and rollouts stay. More than max_removed removals, or an empty list, is an error; dry_run counts and changes nothing. Example: select * from change_segment_members(''AVITO_DISCOUNT_30'', array[1000, 1002], expires_at => now() + interval ''7 days''); select * from change_segment_members(''AVITO_DISCOUNT_30'', array[1000, 1004], ''replace'', max_removed => 1000, dry_run => true);';
