
SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

CREATE SCHEMA segmentation;

ALTER SCHEMA segmentation OWNER TO segmentation_owner;

COMMENT ON SCHEMA segmentation IS 'Dynamic user segmentation, version 2.0.0 (46ca77ff714a)';

CREATE SCHEMA segmentation_migrations;

ALTER SCHEMA segmentation_migrations OWNER TO postgres;

CREATE TYPE segmentation.report_line AS (
	user_id bigint,
	segment text,
	operation text,
	at text
);

ALTER TYPE segmentation.report_line OWNER TO segmentation_owner;

CREATE TYPE segmentation.rollout_step AS (
	percent numeric,
	starts_at timestamp with time zone,
	ends_at timestamp with time zone,
	actor text,
	reason text
);

ALTER TYPE segmentation.rollout_step OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.actor() RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select coalesce(
    case when current_user = 'segmentation_owner' then
      nullif(pg_catalog.current_setting('segmentation.actor', true), '')
    end,
    session_user::text)
$$;

ALTER FUNCTION segmentation.actor() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.actor() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.actor_reason() RETURNS text
    LANGUAGE sql STABLE
    AS $$ select nullif(pg_catalog.current_setting('segmentation.reason', true), '') $$;

ALTER FUNCTION segmentation.actor_reason() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.actor_reason() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.announce_api_keys() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform pg_notify('segmentation_api_keys', '');
  return null;
end
$$;

ALTER FUNCTION segmentation.announce_api_keys() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.announce_api_keys() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.announce_writer() RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  setting text := current_setting('segmentation.writes_since', true);
  since timestamptz;
begin
  if setting <> '' then
    since := timestamptz 'epoch' + setting::bigint * interval '1 microsecond';
    if since < segmentation.transaction_start() - segmentation.stamp_tolerance()
      or (since > segmentation.clock() and since > segmentation.told_until())
    then
      since := null;
    end if;
  end if;
  if since is null then
    -- Told meanwhile to somebody who did not see the lock yet: so it is looked up again.
    since := greatest(
      segmentation.hold_writer_key(
        greatest(segmentation.clock() - segmentation.stamp_tolerance(), segmentation.told_until())),
      segmentation.clock() - segmentation.stamp_tolerance(),
      segmentation.told_until());
    perform set_config('segmentation.writes_since', segmentation.microseconds(since)::text, true);
  end if;
  -- Held already, unless somebody else set the setting.
  return segmentation.hold_writer_key(since);
end
$$;

ALTER FUNCTION segmentation.announce_writer() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.announce_writer() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.answers_kept_since() RETURNS timestamp with time zone
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$ select segmentation.clock() - interval '24 hours' $$;

ALTER FUNCTION segmentation.answers_kept_since() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.answers_kept_since() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.assert_bucket_vectors() RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  wrong record;
begin
  select v.* into wrong
  from segmentation.bucket_vectors() as v
  where segmentation.bucket(v.user_id, v.salt) <> v.bucket
  limit 1;
  if found then
    raise exception 'bucket(%, %) is not % on this server', wrong.user_id, wrong.salt, wrong.bucket
      using
        errcode = 'data_corrupted',
        hint = 'Do not serve: rollouts would deal users anew. Use a PostgreSQL whose hashint8extended is unchanged.';
  end if;
end
$$;

ALTER FUNCTION segmentation.assert_bucket_vectors() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.assert_bucket_vectors() IS 'For the service: fails when bucket() does not give its golden values on this server. Example: select assert_bucket_vectors();';

CREATE FUNCTION segmentation.authenticate_api_key(key_digest bytea) RETURNS TABLE(name text, role text, expires_at timestamp with time zone)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moment timestamptz := segmentation.clock();
begin
  return query
  select k.name, k.role, k.expires_at
  from segmentation.api_keys as k
  where k.key_digest = authenticate_api_key.key_digest
    and segmentation.key_is_alive(k.revoked_at, k.expires_at, moment);
end
$$;

ALTER FUNCTION segmentation.authenticate_api_key(key_digest bytea) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.authenticate_api_key(key_digest bytea) IS 'For the service: whose key has this SHA-256 digest; no row if nobody''s, expired or revoked. Example: select * from authenticate_api_key(sha256(''seg_…''));';

CREATE FUNCTION segmentation.begin_import(slug text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.segment_id_of(begin_import.slug);
  create temporary table import (
    user_id bigint not null,
    constraint user_id_is_positive check (user_id > 0)
  ) on commit drop;
  -- The caller fills it, and can do nothing else with it.
  grant insert on pg_temp.import to segmentation_editor;
end
$$;

ALTER FUNCTION segmentation.begin_import(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.begin_import(slug text) IS 'Make the temporary table import, which lasts until the end of the transaction, for the ids that finish_import takes. Example: begin; select begin_import(''AVITO_DISCOUNT_30''); \copy pg_temp.import from ''ids.csv'' csv';

CREATE FUNCTION segmentation.bucket(user_id bigint, salt bigint) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
  select ((pg_catalog.hashint8extended($1, $2 # (($1 >> 32) * 2654435761)) & 9223372036854775807) % 100000)::integer
$_$;

ALTER FUNCTION segmentation.bucket(user_id bigint, salt bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.bucket(user_id bigint, salt bigint) IS 'The bucket, 0 to 99999, of a user under a segment''s salt; the user is in a rollout while bucket < percent * 1000. Never changes. Example: select bucket(1000, 42);';

CREATE FUNCTION segmentation.bucket_count(buckets int4multirange) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return (select coalesce(sum(upper(run) - lower(run)), 0) from unnest(bucket_count.buckets) as run);
end
$$;

ALTER FUNCTION segmentation.bucket_count(buckets int4multirange) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.bucket_count(buckets int4multirange) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.bucket_vectors() RETURNS TABLE(user_id bigint, salt bigint, bucket integer)
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  values
    (1::bigint,           0::bigint,            24678),
    (1000,                0,                    27156),
    (1000,                42,                   48186),
    (1000,               -1,                    65323),
    (4294967295,          7,                    52028),
    (4294967296,          7,                    64510),
    (4294967297,          7,                    67189),
    (1234567890123456789, 1311768467463790320,  47794),
    (9223372036854775807, 9223372036854775807,  38848),
    (9223372036854775807, -9223372036854775808, 18316)
$$;

ALTER FUNCTION segmentation.bucket_vectors() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.bucket_vectors() IS 'Golden values of bucket(), for whoever computes buckets elsewhere. Example: select * from bucket_vectors();';

CREATE FUNCTION segmentation.buckets_taken_last(segment_id integer, before timestamp with time zone, held int4multirange, number integer) RETURNS int4multirange
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  rest int4multirange := buckets_taken_last.held;
  given_back int4multirange := '{}'::int4multirange;
  missing integer := buckets_taken_last.number;
  newest int4multirange := rest;
  earlier record;
begin
  for earlier in
    select r.buckets
    from segmentation.rollouts as r
    where r.segment_id = buckets_taken_last.segment_id and r.starts_at < buckets_taken_last.before
    order by r.starts_at desc
  loop
    newest := rest - earlier.buckets;
    exit when segmentation.bucket_count(newest) >= missing;
    given_back := given_back + newest;
    missing := missing - segmentation.bucket_count(newest);
    rest := rest * earlier.buckets;
    newest := rest;
  end loop;
  return given_back + segmentation.random_buckets(newest, missing, held => rest);
end
$$;

ALTER FUNCTION segmentation.buckets_taken_last(segment_id integer, before timestamp with time zone, held int4multirange, number integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.buckets_taken_last(segment_id integer, before timestamp with time zone, held int4multirange, number integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS SETOF segmentation.rollout_step
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  segment segmentation.segments := segmentation.lock_segment(cancel_rollout_step.slug);
  moment timestamptz := segmentation.segment_stamp(segment.segment_id);
begin
  if cancel_rollout_step.starts_at <= moment then
    raise exception 'the rollout step of % has begun', cancel_rollout_step.starts_at
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('starts_at', cancel_rollout_step.starts_at, 'now', moment),
        hint = 'Only a step to come can be cancelled. To change the present, call set_rollout with another percent.';
  end if;
  perform segmentation.set_actor(cancel_rollout_step.actor, cancel_rollout_step.reason);
  delete from segmentation.rollouts as r
  where r.segment_id = segment.segment_id and r.starts_at = cancel_rollout_step.starts_at;
  if not found then
    raise exception 'segment "%" has no rollout step that starts at %',
      segment.slug, coalesce(cancel_rollout_step.starts_at::text, 'null')
      using
        errcode = 'no_data_found',
        detail = json_build_object('segment', segment.slug, 'starts_at', cancel_rollout_step.starts_at),
        hint = 'List the steps: select * from rollout_steps(slug); or GET /v1/segments/{slug}.';
  end if;
  perform segmentation.unset_actor();
  return query select * from segmentation.rollout_steps(cancel_rollout_step.slug);
end
$$;

ALTER FUNCTION segmentation.cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) IS 'Cancel a rollout step to come. Returns all steps. Example: select * from cancel_rollout_step(''AVITO_VOICE_MESSAGES'', ''2027-01-01 00:00Z'');';

CREATE FUNCTION segmentation.cells_to_ask() RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select decode(repeat('ff', 1000), 'hex') $$;

ALTER FUNCTION segmentation.cells_to_ask() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.cells_to_ask() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.change_overrides(user_ids bigint[], segment_ids integer[], wanted boolean[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) RETURNS TABLE(segment_id integer, change text, users bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.change_overrides(user_ids bigint[], segment_ids integer[], wanted boolean[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.change_overrides(user_ids bigint[], segment_ids integer[], wanted boolean[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text DEFAULT 'add'::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text, max_removed bigint DEFAULT NULL::bigint, dry_run boolean DEFAULT false, all_actors boolean DEFAULT false) RETURNS TABLE(received bigint, changed bigint, unchanged bigint, added bigint, removed bigint, rescheduled bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET work_mem TO '128MB'
    SET plan_cache_mode TO 'force_custom_plan'
    SET enable_hashjoin TO 'off'
    SET enable_nestloop TO 'on'
    AS $$
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

ALTER FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) IS 'Add (or remove) many users to (from) one segment, all or nothing; duplicates count as unchanged. With operation replace the list is all whom this actor has assigned in this segment: who is missing is no longer assigned, who is new is added, who stays is not touched; what other actors assigned (unless all_actors), exclusions and rollouts stay. More than max_removed removals, or an empty list, is an error; dry_run counts and changes nothing. Example: select * from change_segment_members(''AVITO_DISCOUNT_30'', array[1000, 1002], expires_at => now() + interval ''7 days''); select * from change_segment_members(''AVITO_DISCOUNT_30'', array[1000, 1004], ''replace'', max_removed => 1000, dry_run => true);';

CREATE FUNCTION segmentation.change_user_segments(user_id bigint, add text[] DEFAULT '{}'::text[], remove text[] DEFAULT '{}'::text[], expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS TABLE(segment text, change text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
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

ALTER FUNCTION segmentation.change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) IS 'Add a user to segments and remove it from others, all or nothing. Example: select * from change_user_segments(1000, add => ''{AVITO_DISCOUNT_30}'', remove => ''{AVITO_DISCOUNT_50}'', expires_at => now() + interval ''7 days'', reason => ''ticket 17'');';

CREATE FUNCTION segmentation.changed_users(from_time timestamp with time zone, to_time timestamp with time zone) RETURNS SETOF bigint
    LANGUAGE sql STABLE
    AS $$
  select u.user_id
  from segmentation.users as u
  where u.registered_at >= changed_users.from_time and u.registered_at < changed_users.to_time
  union
  select m.user_id
  from segmentation.memberships as m
  where m.starts_at >= changed_users.from_time and m.starts_at < changed_users.to_time
    -- The condition of the index by time.
    and m.starts_at > '-infinity'
  union
  select m.user_id
  from segmentation.memberships as m
  where m.ends_at >= changed_users.from_time and m.ends_at < changed_users.to_time and m.ends_at < 'infinity'
  union
  select h.user_id
  from segmentation.membership_history as h
  where h.ends_at >= changed_users.from_time
    and (h.ends_at < changed_users.to_time or h.starts_at between changed_users.from_time and changed_users.to_time)
  union
  select o.user_id
  from segmentation.segments as s
  join segmentation.overrides as o on o.segment_id = s.segment_id
  where s.deleted_at >= changed_users.from_time and s.deleted_at < changed_users.to_time
  order by 1
$$;

ALTER FUNCTION segmentation.changed_users(from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.changed_users(from_time timestamp with time zone, to_time timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.changes_end(from_time timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  settled timestamptz;
begin
  if changes_end.from_time is null then
    raise exception 'from is missing'
      using
        errcode = 'invalid_parameter_value',
        hint = 'Give the moment from which on to tell changes, such as the end of the stretch before.';
  end if;
  perform segmentation.require_kept(changes_end.from_time, 'from');
  -- Its snapshot may be older than what is settled.
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    raise exception 'changes cannot be told in a % transaction', current_setting('transaction_isolation')
      using
        errcode = 'object_not_in_prerequisite_state',
        hint = 'Ask in a read committed transaction, as is the default: stretches join all the same.';
  end if;
  settled := segmentation.settled_until();
  perform segmentation.require_stretch(changes_end.from_time, changes_end.to_time);
  if changes_end.to_time > greatest(settled, changes_end.from_time) then
    raise exception 'changes are settled until %, not until %', settled, changes_end.to_time
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('to', changes_end.to_time, 'settled_until', segmentation.rfc3339(settled)),
        hint = 'Leave the end out, or wait: a transaction that still runs may write what belongs there.';
  end if;
  return coalesce(changes_end.to_time, greatest(settled, changes_end.from_time));
end
$$;

ALTER FUNCTION segmentation.changes_end(from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.changes_end(from_time timestamp with time zone, to_time timestamp with time zone) IS 'For the service: the end of a stretch that membership_changes tells. Example: select changes_end(now() - interval ''1 hour'');';

CREATE FUNCTION segmentation.chi_square_p_value(statistic double precision, freedom integer) RETURNS double precision
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.chi_square_p_value(statistic double precision, freedom integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.chi_square_p_value(statistic double precision, freedom integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.claim_idempotency_key(api_key text, idempotency_key text, request_fingerprint bytea DEFAULT NULL::bytea) RETURNS TABLE(fingerprint bytea, status smallint, location text, answer text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  kept segmentation.idempotency_keys;
begin
  perform segmentation.require_service();
  -- A stored answer needs no lock, and is given to any number at once. Only one transaction may do the write.
  select i.* into kept
  from segmentation.idempotency_keys as i
  where i.api_key = claim_idempotency_key.api_key
    and i.idempotency_key = claim_idempotency_key.idempotency_key
    and i.created_at > segmentation.answers_kept_since();
  if not found then
    if not pg_try_advisory_xact_lock(
      hashtextextended(claim_idempotency_key.api_key || ' ' || claim_idempotency_key.idempotency_key, 0))
    then
      raise exception 'a request with this Idempotency-Key is still running'
        using errcode = 'object_in_use', hint = 'Wait a moment, then send it again with the same key.';
    end if;
    delete from segmentation.idempotency_keys as i
    where i.api_key = claim_idempotency_key.api_key
      and i.idempotency_key = claim_idempotency_key.idempotency_key
      and i.created_at <= segmentation.answers_kept_since();
    select i.* into kept
    from segmentation.idempotency_keys as i
    where i.api_key = claim_idempotency_key.api_key
      and i.idempotency_key = claim_idempotency_key.idempotency_key;
    if not found then
      return;
    end if;
  end if;
  perform segmentation.require_same_request(kept.fingerprint, claim_idempotency_key.request_fingerprint);
  return query select kept.fingerprint, kept.status, kept.location, kept.answer;
end
$$;

ALTER FUNCTION segmentation.claim_idempotency_key(api_key text, idempotency_key text, request_fingerprint bytea) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.claim_idempotency_key(api_key text, idempotency_key text, request_fingerprint bytea) IS 'For the service: hold an Idempotency-Key until the end of the transaction; the answer kept for it, if there is one; fails if that was of another request. Example: select * from claim_idempotency_key(''web-shop'', ''order-17'');';

CREATE FUNCTION segmentation.clock() RETURNS timestamp with time zone
    LANGUAGE sql
    AS $$ select pg_catalog.clock_timestamp() $$;

ALTER FUNCTION segmentation.clock() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.clock() IS 'The present moment, as every function of this schema sees it. Example: select clock();';

CREATE FUNCTION segmentation.close_report_link(id_digest bytea) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  delete from segmentation.report_links as l
  where l.id_digest = close_report_link.id_digest;
  if not found then
    raise exception 'this report link is unknown or has expired'
      using
        errcode = 'no_data_found',
        hint = 'Give the id alone, the part of the link between /v1/reports/ and .csv.';
  end if;
end
$$;

ALTER FUNCTION segmentation.close_report_link(id_digest bytea) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.close_report_link(id_digest bytea) IS 'For the service: revoke_report_link, by the digest of the id. Example: select close_report_link(sha256(''…''));';

SET default_tablespace = '';

CREATE TABLE segmentation.membership_history (
    user_id bigint NOT NULL,
    segment_id integer NOT NULL,
    included boolean NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    reason text,
    end_cause text NOT NULL,
    end_actor text,
    end_reason text,
    CONSTRAINT membership_history_end_cause_is_known CHECK ((end_cause = ANY (ARRAY['removed'::text, 'expired'::text, 'segment_deleted'::text]))),
    CONSTRAINT membership_history_ends_at_is_finite CHECK (isfinite(ends_at)),
    CONSTRAINT membership_history_start_before_end CHECK ((starts_at < ends_at))
)
PARTITION BY RANGE (ends_at);

ALTER TABLE segmentation.membership_history OWNER TO segmentation_owner;

SET default_table_access_method = heap;

CREATE TABLE segmentation.memberships (
    user_id bigint NOT NULL,
    segment_id integer NOT NULL,
    included boolean DEFAULT true NOT NULL,
    starts_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    ends_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    actor text DEFAULT SESSION_USER NOT NULL,
    reason text,
    end_actor text,
    end_reason text,
    decided_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    layer_id integer,
    CONSTRAINT memberships_start_before_end CHECK ((starts_at < ends_at)),
    CONSTRAINT memberships_starts_at_is_finite CHECK (isfinite(starts_at)),
    CONSTRAINT memberships_user_id_is_positive CHECK ((user_id > 0))
);

ALTER TABLE segmentation.memberships OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.closed_override(override segmentation.memberships, next_start timestamp with time zone, moment timestamp with time zone, earliest timestamp with time zone) RETURNS SETOF segmentation.membership_history
    LANGUAGE sql STABLE
    AS $$
  select
    (override).user_id, (override).segment_id, (override).included, (override).starts_at, e.ended_at,
    (override).actor, (override).reason,
    c.end_cause,
    case c.end_cause
      when 'removed' then segmentation.actor()
      when 'expired' then (override).end_actor
      else d.actor
    end,
    case c.end_cause
      when 'removed' then segmentation.actor_reason()
      when 'expired' then (override).end_reason
      else d.reason
    end
  from (
    select s.deleted_at, d.actor, d.reason
    from segmentation.segments as s
    left join segmentation.segment_history as d
      on d.segment_id = s.segment_id and d.operation = 'delete'
    where s.segment_id = (override).segment_id
    offset 0
  ) as d
  cross join lateral (
    select least(
      (override).ends_at, d.deleted_at, next_start,
      -- Where the clock has gone back since: right after the override began.
      greatest(
        moment,
        earliest,
        case when (override).decided_at > moment and (override).starts_at <= (override).decided_at
          then (override).decided_at + interval '1 microsecond'
        end))
  ) as e (ended_at)
  cross join lateral (
    select case
      when e.ended_at = d.deleted_at then 'segment_deleted'
      when e.ended_at = (override).ends_at then 'expired'
      else 'removed'
    end
  ) as c (end_cause)
  where e.ended_at > (override).starts_at
$$;

ALTER FUNCTION segmentation.closed_override(override segmentation.memberships, next_start timestamp with time zone, moment timestamp with time zone, earliest timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.closed_override(override segmentation.memberships, next_start timestamp with time zone, moment timestamp with time zone, earliest timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.complementary_error(x double precision) RETURNS double precision
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.complementary_error(x double precision) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.complementary_error(x double precision) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  new_key text := 'seg_' || segmentation.random_secret();
begin
  if (create_api_key.name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$') is not true then
    raise exception 'name % is not valid', coalesce('"' || create_api_key.name || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('name', create_api_key.name),
        hint = 'A name has 1 to 100 letters, digits, dots, hyphens, underscores and @, the first a letter or digit.';
  end if;
  if (create_api_key.role in ('evaluator', 'reader', 'editor', 'admin')) is not true then
    raise exception 'role % is unknown', coalesce('"' || create_api_key.role || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('role', create_api_key.role),
        hint = 'Say evaluator, reader, editor or admin.';
  end if;
  if exists (select from pg_catalog.pg_roles as r where r.rolname = create_api_key.name) then
    raise exception 'name "%" is a login or role of this server', create_api_key.name
      using
        errcode = 'unique_violation',
        detail = json_build_object('name', create_api_key.name),
        hint = 'Choose another name, so that the history never mistakes a key for a login.';
  end if;
  if create_api_key.expires_at <= segmentation.clock() then
    raise exception 'expires_at % is not in the future', create_api_key.expires_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('expires_at', create_api_key.expires_at),
        hint = 'Give a moment to come, or leave expires_at out for a key without end.';
  end if;
  insert into segmentation.api_keys (name, role, key_digest, expires_at)
  values (
    create_api_key.name, create_api_key.role, sha256(convert_to(new_key, 'UTF8')),
    coalesce(create_api_key.expires_at, 'infinity'))
  on conflict on constraint api_keys_pkey do nothing;
  if not found then
    raise exception 'an API key named "%" exists already', create_api_key.name
      using
        errcode = 'unique_violation',
        detail = json_build_object('name', create_api_key.name),
        hint = 'Choose another name; a name is never used again, so that the history stays clear.';
  end if;
  return new_key;
end
$_$;

ALTER FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone) IS 'Create an API key for the HTTP interface with the role evaluator, reader, editor or admin; the key is shown this once. Example: select create_api_key(''web-shop'', ''reader'');';

CREATE FUNCTION segmentation.in_force(starts_at timestamp with time zone, ends_at timestamp with time zone, moment timestamp with time zone, decided_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select starts_at <= greatest(moment, decided_at) and moment < ends_at and (decided_at >= ends_at) is not true
$$;

ALTER FUNCTION segmentation.in_force(starts_at timestamp with time zone, ends_at timestamp with time zone, moment timestamp with time zone, decided_at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.in_force(starts_at timestamp with time zone, ends_at timestamp with time zone, moment timestamp with time zone, decided_at timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE TABLE segmentation.layers (
    layer_id integer NOT NULL,
    slug text NOT NULL COLLATE pg_catalog."C",
    description text DEFAULT ''::text NOT NULL,
    salt bigint DEFAULT hashtextextended((gen_random_uuid())::text, (0)::bigint) NOT NULL,
    created_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    deleted_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    actor text DEFAULT SESSION_USER NOT NULL,
    reason text,
    end_actor text,
    end_reason text,
    CONSTRAINT layers_created_at_is_finite CHECK (isfinite(created_at)),
    CONSTRAINT layers_deleted_after_created CHECK ((deleted_at >= created_at)),
    CONSTRAINT layers_description_is_short CHECK ((length(description) <= 2000)),
    CONSTRAINT layers_slug_has_valid_form CHECK ((slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'::text))
);

ALTER TABLE segmentation.layers OWNER TO segmentation_owner;

CREATE TABLE segmentation.rollouts (
    segment_id integer NOT NULL,
    salt bigint NOT NULL,
    percent numeric NOT NULL,
    threshold integer GENERATED ALWAYS AS (((percent * (1000)::numeric))::integer) STORED NOT NULL,
    starts_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    ends_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    actor text DEFAULT SESSION_USER NOT NULL,
    reason text,
    decided_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    layer_id integer,
    buckets int4multirange,
    slug text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT rollouts_buckets_only_in_layer CHECK (((buckets IS NULL) OR (layer_id IS NOT NULL))),
    CONSTRAINT rollouts_buckets_within_bounds CHECK ((buckets <@ '{[0,100000)}'::int4multirange)),
    CONSTRAINT rollouts_percent_between_0_and_100 CHECK (((percent >= (0)::numeric) AND (percent <= (100)::numeric))),
    CONSTRAINT rollouts_percent_has_three_decimals CHECK ((percent = round(percent, 3))),
    CONSTRAINT rollouts_start_before_end CHECK ((starts_at < ends_at)),
    CONSTRAINT rollouts_starts_at_is_finite CHECK (isfinite(starts_at))
);
ALTER TABLE ONLY segmentation.rollouts ALTER COLUMN buckets SET STORAGE PLAIN;

ALTER TABLE segmentation.rollouts OWNER TO segmentation_owner;

CREATE TABLE segmentation.segments (
    segment_id integer NOT NULL,
    slug text NOT NULL COLLATE pg_catalog."C",
    description text DEFAULT ''::text NOT NULL,
    salt bigint DEFAULT hashtextextended((gen_random_uuid())::text, (0)::bigint) NOT NULL,
    created_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    deleted_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    swept boolean DEFAULT false NOT NULL,
    layer_id integer,
    CONSTRAINT segments_created_at_is_finite CHECK (isfinite(created_at)),
    CONSTRAINT segments_deleted_after_created CHECK ((deleted_at >= created_at)),
    CONSTRAINT segments_description_is_short CHECK ((length(description) <= 2000)),
    CONSTRAINT segments_slug_has_valid_form CHECK ((slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'::text)),
    CONSTRAINT segments_swept_only_if_deleted CHECK (((NOT swept) OR isfinite(deleted_at)))
);

ALTER TABLE segmentation.segments OWNER TO segmentation_owner;

CREATE VIEW segmentation.listed_layers AS
 SELECT l.slug,
    l.description,
    COALESCE(s.segments, '{}'::text[]) AS segments,
    trim_scale(COALESCE(s.percent, (0)::numeric)) AS allocated_percent,
    trim_scale(((100)::numeric - COALESCE(s.percent, (0)::numeric))) AS free_percent,
    l.created_at,
    l.salt
   FROM (segmentation.layers l
     LEFT JOIN ( SELECT s_1.layer_id,
            array_agg(s_1.slug ORDER BY s_1.slug) AS segments,
            sum(r.percent) AS percent
           FROM ((segmentation.segments s_1
             CROSS JOIN ( SELECT segmentation.clock() AS moment) now)
             LEFT JOIN segmentation.rollouts r ON (((r.segment_id = s_1.segment_id) AND segmentation.in_force(r.starts_at, r.ends_at, now.moment, r.decided_at))))
          WHERE ((s_1.layer_id IS NOT NULL) AND (s_1.deleted_at = 'infinity'::timestamp with time zone))
          GROUP BY s_1.layer_id) s ON ((s.layer_id = l.layer_id)))
  WHERE (l.deleted_at = 'infinity'::timestamp with time zone);

ALTER TABLE segmentation.listed_layers OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.create_layer(slug text, description text DEFAULT ''::text, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS SETOF segmentation.listed_layers
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  moment timestamptz;
begin
  perform segmentation.limit_waiting();
  perform segmentation.require_slug(create_layer.slug);
  perform segmentation.require_description(create_layer.description);
  perform segmentation.require_actor(create_layer.actor, create_layer.reason);
  -- A deletion of the same slug that is under way is waited for before the clock is read.
  perform
  from segmentation.layers as l
  where l.slug = create_layer.slug collate "C" and l.deleted_at = 'infinity'
  for no key update;
  select segmentation.stamp(max(l.deleted_at)) into moment
  from segmentation.layers as l
  where l.slug = create_layer.slug collate "C" and l.deleted_at < 'infinity';
  insert into segmentation.layers as l (slug, description, created_at, actor, reason)
  values (
    create_layer.slug, coalesce(create_layer.description, ''), moment,
    segmentation.given_actor(create_layer.actor), create_layer.reason)
  on conflict (slug) where deleted_at = 'infinity' do nothing;
  if not found then
    raise exception 'layer "%" exists already', create_layer.slug
      using
        errcode = 'unique_violation',
        detail = json_build_object('layer', create_layer.slug),
        hint = 'Choose another slug, or delete the layer first.';
  end if;
  return query select * from segmentation.get_layer(create_layer.slug);
end
$$;

ALTER FUNCTION segmentation.create_layer(slug text, description text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.create_layer(slug text, description text, actor text, reason text) IS 'Create a layer, whose segments exclude each other: a user is in at most one of them. Example: select * from create_layer(''AVITO_DISCOUNTS'', ''one discount per user''); select * from create_segment(''AVITO_DISCOUNT_30'', 30, layer => ''AVITO_DISCOUNTS'');';

CREATE FUNCTION segmentation.create_report_link(period text, user_id bigint DEFAULT NULL::bigint, valid_for interval DEFAULT '24:00:00'::interval, actor text DEFAULT SESSION_USER) RETURNS TABLE(id text, expires_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  new_id text := segmentation.random_secret();
  link_end timestamptz := segmentation.clock() + create_report_link.valid_for;
begin
  perform segmentation.require_actor(create_report_link.actor, null);
  perform segmentation.require_reportable(create_report_link.period);
  if create_report_link.user_id is not null then
    perform segmentation.require_user_ids(array[create_report_link.user_id]);
  end if;
  if (create_report_link.valid_for > interval '0' and create_report_link.valid_for <= interval '31 days') is not true then
    raise exception 'a link cannot be valid for %', coalesce(create_report_link.valid_for::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('valid_for', create_report_link.valid_for),
        hint = 'Give a time above zero and up to 31 days.';
  end if;
  insert into segmentation.report_links (id_digest, period, user_id, expires_at, actor)
  values (
    sha256(convert_to(new_id, 'UTF8')), create_report_link.period, create_report_link.user_id, link_end,
    segmentation.given_actor(create_report_link.actor));
  return query select new_id, link_end;
end
$$;

ALTER FUNCTION segmentation.create_report_link(period text, user_id bigint, valid_for interval, actor text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.create_report_link(period text, user_id bigint, valid_for interval, actor text) IS 'An unguessable id that opens one month''s report until it expires, is revoked or the API key that made it ends. Example: select * from create_report_link(''2026-11'');';

CREATE VIEW segmentation.listed_segments AS
 SELECT s.slug,
    s.description,
    trim_scale(COALESCE(r.percent, (0)::numeric)) AS percent,
    s.created_at,
    s.salt,
    l.slug AS layer
   FROM (((segmentation.segments s
     CROSS JOIN ( SELECT segmentation.clock() AS moment) now)
     LEFT JOIN segmentation.rollouts r ON (((r.segment_id = s.segment_id) AND segmentation.in_force(r.starts_at, r.ends_at, now.moment, r.decided_at))))
     LEFT JOIN segmentation.layers l ON ((l.layer_id = s.layer_id)))
  WHERE (s.deleted_at = 'infinity'::timestamp with time zone);

ALTER TABLE segmentation.listed_segments OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.create_segment(slug text, percent numeric DEFAULT 0, description text DEFAULT ''::text, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text, layer text DEFAULT NULL::text) RETURNS SETOF segmentation.listed_segments
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
declare
  new_id integer;
  new_salt bigint;
  moment timestamptz;
  in_layer segmentation.layers;
begin
  perform segmentation.limit_waiting();
  perform segmentation.require_slug(create_segment.slug);
  perform segmentation.require_percent(create_segment.percent);
  perform segmentation.require_description(create_segment.description);
  -- A deletion of the same slug that is under way is waited for before the clock is read: two lives of a
  -- slug never overlap.
  perform
  from segmentation.segments as s
  where s.slug = create_segment.slug collate "C" and s.deleted_at = 'infinity'
  for no key update;
  if create_segment.layer is not null then
    select l.* into in_layer
    from segmentation.layers as l
    where l.slug = create_segment.layer collate "C" and l.deleted_at = 'infinity'
    for no key update;
    if not found then
      raise exception 'layer "%" does not exist', create_segment.layer
        using
          errcode = 'foreign_key_violation',
          detail = json_build_object('code', 'unknown_layer', 'layer', create_segment.layer),
          hint = 'Create it first, or correct the slug; upper and lower case differ.';
    end if;
  end if;
  select segmentation.stamp(greatest(max(s.deleted_at), segmentation.last_change_in_layer(in_layer.layer_id)))
  into moment
  from segmentation.segments as s
  where s.slug = create_segment.slug collate "C" and s.deleted_at < 'infinity';
  perform segmentation.set_actor(create_segment.actor, create_segment.reason);
  insert into segmentation.segments as s (slug, description, created_at, layer_id)
  values (create_segment.slug, coalesce(create_segment.description, ''), moment, in_layer.layer_id)
  on conflict (slug) where deleted_at = 'infinity' do nothing
  returning s.segment_id, s.salt into new_id, new_salt;
  if not found then
    raise exception 'segment "%" exists already', create_segment.slug
      using
        errcode = 'unique_violation',
        detail = json_build_object('segment', create_segment.slug),
        hint = 'Choose another slug, or delete the segment first: its past stays.';
  end if;
  -- No step at all means 0 %.
  if create_segment.percent > 0 then
    insert into segmentation.rollouts (segment_id, salt, percent, starts_at, actor, reason, decided_at)
    values (
      new_id, new_salt, create_segment.percent, moment, segmentation.actor(), create_segment.reason, moment);
  end if;
  perform segmentation.unset_actor();
  return query select * from segmentation.get_segment(create_segment.slug);
end
$$;

ALTER FUNCTION segmentation.create_segment(slug text, percent numeric, description text, actor text, reason text, layer text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.create_segment(slug text, percent numeric, description text, actor text, reason text, layer text) IS 'Create a segment, rolled out to percent % of all users. In a layer its users are in no other segment of the layer; it stays there. Example: select * from create_segment(''AVITO_VOICE_MESSAGES'', percent => 10); select * from create_segment(''AVITO_DISCOUNT_50'', percent => 20, layer => ''AVITO_DISCOUNTS'');';

CREATE FUNCTION segmentation.current_segments(user_ids bigint[], moment timestamp with time zone) RETURNS TABLE(place bigint, user_id bigint, known boolean, segments text[])
    LANGUAGE sql STABLE
    AS $$
  select asked.place, asked.user_id, c.known, c.segments
  from unnest(current_segments.user_ids) with ordinality as asked (user_id, place)
  cross join lateral segmentation.current_segments_of(asked.user_id, current_segments.moment) as c
$$;

ALTER FUNCTION segmentation.current_segments(user_ids bigint[], moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.current_segments(user_ids bigint[], moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.current_segments_of(user_id bigint, moment timestamp with time zone) RETURNS TABLE(known boolean, segments text[])
    LANGUAGE sql STABLE
    AS $$
  select
    exists (select from segmentation.users as u where u.user_id = current_segments_of.user_id),
    array(
      select r.slug
      from segmentation.rollouts as r
      where r.threshold > 0 and r.layer_id is null
        and segmentation.in_force(r.starts_at, r.ends_at, current_segments_of.moment, r.decided_at)
        and segmentation.bucket(current_segments_of.user_id, r.salt) < r.threshold
        and r.segment_id <> all (o.segment_ids) and -r.segment_id <> all (o.segment_ids)
      union all
      select h.slugs[h.place]
      from (
        select
          c.segment_ids, c.slugs,
          coalesce(
            nullif(get_byte(c.cells, segmentation.bucket(current_segments_of.user_id, c.salt) / 100), 255),
            segmentation.place_in_layer(
              current_segments_of.user_id, c.layer_id, c.segment_ids, current_segments_of.moment)) as place
        from segmentation.layer_cells as c
        where c.starts_at <= current_segments_of.moment and current_segments_of.moment < c.ends_at
        -- Otherwise computed anew wherever it is named.
        offset 0
      ) as h
      where h.place > 0
        and (
          cardinality(o.segment_ids) = 0
          or (not h.segment_ids && o.segment_ids and -h.segment_ids[h.place] <> all (o.segment_ids))
        )
      union all
      select s.slug
      from segmentation.segments as s
      where cardinality(o.segment_ids) > 0
        and s.segment_id = any (o.segment_ids) and s.deleted_at = 'infinity'
      order by 1
    )
  from (
    select array(
      select case when m.included then m.segment_id else -m.segment_id end
      from segmentation.memberships as m
      where m.user_id = current_segments_of.user_id
        and segmentation.in_force(m.starts_at, m.ends_at, current_segments_of.moment, m.decided_at)
    )
    -- Otherwise looked up anew wherever it is named.
    offset 0
  ) as o (segment_ids)
$$;

ALTER FUNCTION segmentation.current_segments_of(user_id bigint, moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.current_segments_of(user_id bigint, moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.deal_buckets(segment_ids integer[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  layer_ids integer[];
  moment timestamptz;
  since timestamptz;
begin
  select array_agg(distinct s.layer_id) into layer_ids
  from segmentation.segments as s
  where s.segment_id = any (deal_buckets.segment_ids) and s.layer_id is not null;
  if layer_ids is null then
    return;
  end if;
  perform from segmentation.layers as l where l.layer_id = any (layer_ids) order by l.layer_id for no key update;
  moment := segmentation.clock();
  -- Others build on what has begun or ended as it was planned: it is done, even if the clock goes back behind it.
  update segmentation.rollouts as r
  set decided_at = case when r.ends_at <= moment then r.ends_at else r.starts_at end
  where r.layer_id = any (layer_ids) and r.starts_at <= moment
    and r.decided_at < case when r.ends_at <= moment then r.ends_at else r.starts_at end;
  select least(moment, min(r.starts_at)) into since
  from segmentation.rollouts as r
  where r.segment_id = any (deal_buckets.segment_ids) and r.layer_id is not null and r.buckets is null;
  perform segmentation.refuse_full_layer(layer_ids, deal_buckets.segment_ids, since);
  if not segmentation.deal_steps(deal_buckets.segment_ids, moment) then
    update segmentation.rollouts as r
    set buckets = null
    where r.layer_id = any (layer_ids) and r.starts_at > greatest(moment, r.decided_at);
    if not segmentation.deal_steps(
      array(select s.segment_id from segmentation.segments as s where s.layer_id = any (layer_ids)), moment)
    then
      raise exception 'a rollout step begins before what it needs was given back'
        using
          errcode = 'object_not_in_prerequisite_state',
          hint = 'Leave starts_at out to start now, or give a moment to come.';
    end if;
  end if;
  perform segmentation.derive_layer_cells(layer_id) from unnest(layer_ids) as layer_id;
end
$$;

ALTER FUNCTION segmentation.deal_buckets(segment_ids integer[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.deal_buckets(segment_ids integer[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.deal_steps(segment_ids integer[], moment timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  turn record;
  step segmentation.rollouts;
  free int4multirange;
  lasting int4multirange;
  held int4multirange;
  dealt int4multirange;
  preferred int4multirange;
  missing integer;
begin
  for turn in
    select r.segment_id, r.starts_at, t.takes
    from segmentation.rollouts as r
    cross join (values (false), (true)) as t (takes)
    where r.segment_id = any (deal_steps.segment_ids) and r.layer_id is not null
      and (r.buckets is null or r.ends_at > deal_steps.moment)
    order by r.starts_at, t.takes, r.segment_id
  loop
    select r.* into step
    from segmentation.rollouts as r
    where r.segment_id = turn.segment_id and r.starts_at = turn.starts_at;
    dealt := step.buckets;
    -- What a step that has begun holds is settled.
    continue when not turn.takes and dealt is not null and segmentation.bucket_count(dealt) = step.threshold
      and step.starts_at <= greatest(deal_steps.moment, step.decided_at);
    if turn.takes or dealt is not null then
      select
        '{[0,100000)}'::int4multirange
          - coalesce(range_agg(o.buckets) filter (where o.starts_at < step.ends_at), '{}'),
        '{[0,100000)}'::int4multirange - coalesce(range_agg(o.buckets), '{}')
      into free, lasting
      from segmentation.rollouts as o
      where o.layer_id = step.layer_id and o.segment_id <> step.segment_id and o.ends_at > step.starts_at;
    end if;
    if not turn.takes then
      held := coalesce((
        select r.buckets
        from segmentation.rollouts as r
        where r.segment_id = step.segment_id and r.starts_at < step.starts_at
        order by r.starts_at desc
        limit 1
      ), '{}');
      if dealt is null
        or segmentation.bucket_count(dealt) <> step.threshold
        or not (dealt <@ free and (held <@ dealt or dealt <@ held))
      then
        dealt := held - segmentation.buckets_taken_last(
          step.segment_id, step.starts_at, held, segmentation.bucket_count(held) - step.threshold);
      end if;
    else
      -- Rather what is planned for this segment anyway, then what is planned for nobody, then the rest.
      foreach preferred in array array[
        coalesce((
          select r.buckets
          from segmentation.rollouts as r
          where r.segment_id = step.segment_id and r.starts_at = step.ends_at
        ), '{}'),
        lasting,
        free
      ] loop
        missing := step.threshold - segmentation.bucket_count(dealt);
        exit when missing <= 0;
        dealt := dealt + segmentation.random_buckets(free * preferred - dealt, missing, held => dealt);
      end loop;
      if not (dealt <@ free and segmentation.bucket_count(dealt) = step.threshold) then
        return false;
      end if;
    end if;
    if dealt is distinct from step.buckets then
      update segmentation.rollouts as r
      set buckets = dealt
      where r.segment_id = step.segment_id and r.starts_at = step.starts_at;
    end if;
  end loop;
  return true;
end
$$;

ALTER FUNCTION segmentation.deal_steps(segment_ids integer[], moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.deal_steps(segment_ids integer[], moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.delete_layer(slug text, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  found_id integer;
begin
  perform segmentation.limit_waiting();
  perform segmentation.require_actor(delete_layer.actor, delete_layer.reason);
  -- Waits for a segment that is being created in it.
  select l.layer_id into found_id
  from segmentation.layers as l
  where l.slug = delete_layer.slug collate "C" and l.deleted_at = 'infinity'
  for update;
  if not found then
    perform segmentation.layer_id_of(delete_layer.slug);
  end if;
  update segmentation.layers as l
  set
    deleted_at = segmentation.stamp(segmentation.last_change_in_layer(found_id)),
    end_actor = segmentation.given_actor(delete_layer.actor),
    end_reason = delete_layer.reason
  where l.layer_id = found_id;
end
$$;

ALTER FUNCTION segmentation.delete_layer(slug text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.delete_layer(slug text, actor text, reason text) IS 'Delete a layer that has no segments any more; the past of its segments stays. Example: select delete_layer(''AVITO_DISCOUNTS'', reason => ''no more discounts'');';

CREATE FUNCTION segmentation.delete_segment(slug text, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  segment segmentation.segments;
begin
  -- Whoever deals a layer's buckets holds the layer, and may have to share any of its segments then (their foreign key
  -- locks them). So here the layer comes before the segment alone.
  if exists (
    select
    from segmentation.segments as s
    where s.slug = delete_segment.slug collate "C" and s.deleted_at = 'infinity' and s.layer_id is not null
  ) then
    perform segmentation.lock_segment(delete_segment.slug);
  end if;
  perform segmentation.lock_slugs(array[delete_segment.slug], 'alone');
  segment := segmentation.lock_segment(delete_segment.slug);
  perform segmentation.set_actor(delete_segment.actor, delete_segment.reason);
  update segmentation.segments as s
  set deleted_at = segmentation.segment_stamp(segment.segment_id)
  where s.segment_id = segment.segment_id;
  perform segmentation.unset_actor();
end
$$;

ALTER FUNCTION segmentation.delete_segment(slug text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.delete_segment(slug text, actor text, reason text) IS 'Delete a segment: everybody is out at once, the past stays, the slug may be used again. Example: select delete_segment(''AVITO_DISCOUNT_50'', reason => ''campaign over'');';

CREATE FUNCTION segmentation.derive_layer_cells(layer_id integer) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  moment timestamptz := segmentation.clock();
  segment_ids integer[];
  slugs text[];
  written timestamptz[];
begin
  select
    coalesce(array_agg(s.segment_id order by s.segment_id), '{}'),
    coalesce(array_agg(s.slug order by s.segment_id), '{}')
  into segment_ids, slugs
  from segmentation.segments as s
  where s.layer_id = derive_layer_cells.layer_id and s.deleted_at = 'infinity';
  with steps as (
    select
      least(array_position(segment_ids, r.segment_id), 255) as place, r.buckets, r.ends_at,
      case when r.starts_at > r.decided_at then r.starts_at else '-infinity' end as starts_at
    from segmentation.rollouts as r
    where r.layer_id = derive_layer_cells.layer_id and r.decided_at < r.ends_at
  ),
  stretches as (
    select b.at as starts_at, coalesce(lead(b.at) over stretch, 'infinity') as ends_at, row_number() over stretch as number
    from (
      select s.starts_at as at from steps as s where s.starts_at > moment
      union
      select s.ends_at from steps as s where s.ends_at > moment and s.ends_at < 'infinity'
      union
      select coalesce(max(b.at), '-infinity')
      from (select s.starts_at as at from steps as s union all select s.ends_at from steps as s) as b
      where b.at <= moment
      union
      select '-infinity'
    ) as b
    window stretch as (order by b.at)
  ),
  written_now as (
    insert into segmentation.layer_cells as c (layer_id, salt, starts_at, ends_at, cells, segment_ids, slugs)
    select
      l.layer_id, l.salt, t.starts_at,
      case when t.number = segmentation.most_stretches() then 'infinity' else t.ends_at end,
      case
        when t.number = segmentation.most_stretches() or t.ends_at <= moment then segmentation.cells_to_ask()
        else (
          -- Whole cells in runs, then divided ones, each with the gap of free cells before it.
          select decode(
            rpad(
              coalesce(
                string_agg(
                  repeat('00', p.first - p.free_from) || repeat(lpad(to_hex(p.place), 2, '0'), p.past - p.first),
                  '' order by p.first),
                ''),
              2000, '0'),
            'hex')
          from (
            select d.*, lag(d.past, 1, 0) over (order by d.first) as free_from
            from (
              select (lower(run) + 99) / 100 as first, upper(run) / 100 as past, s.place
              from steps as s
              cross join lateral unnest(s.buckets) as run
              where s.starts_at <= t.starts_at and t.starts_at < s.ends_at
                and (lower(run) + 99) / 100 < upper(run) / 100
              union all
              select distinct bound / 100, bound / 100 + 1, 255
              from steps as s
              cross join lateral unnest(s.buckets) as run
              cross join lateral (values (lower(run)), (upper(run))) as b (bound)
              where s.starts_at <= t.starts_at and t.starts_at < s.ends_at and bound % 100 <> 0
            ) as d
          ) as p
        )
      end,
      segment_ids, slugs
    from segmentation.layers as l
    cross join stretches as t
    where l.layer_id = derive_layer_cells.layer_id and l.deleted_at = 'infinity'
      and t.number <= segmentation.most_stretches()
    on conflict on constraint layer_cells_pkey do update
      set ends_at = excluded.ends_at, cells = excluded.cells, segment_ids = excluded.segment_ids, slugs = excluded.slugs
    returning c.starts_at
  )
  select array_agg(w.starts_at) into written from written_now as w;
  delete from segmentation.layer_cells as c
  where c.layer_id = derive_layer_cells.layer_id and c.starts_at <> all (coalesce(written, '{}'));
end
$$;

ALTER FUNCTION segmentation.derive_layer_cells(layer_id integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.derive_layer_cells(layer_id integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.derive_step_ends(segment_ids integer[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  -- A transaction that changes steps of the same segments is waited for, and its steps are then seen.
  perform
  from segmentation.segments as s
  where s.segment_id = any (derive_step_ends.segment_ids)
  order by s.segment_id
  for no key update;
  update segmentation.rollouts as r
  set ends_at = d.ends_at, decided_at = d.decided_at
  from (
    select
      o.segment_id, o.starts_at,
      least(o.next_start, s.deleted_at) as ends_at,
      greatest(
        o.decided_at,
        case
          when o.next_start is null then nullif(s.deleted_at, 'infinity')
          when o.next_start <= o.next_decision then o.next_start
        end) as decided_at
    from (
      select
        n.segment_id, n.starts_at, n.decided_at,
        lead(n.starts_at) over steps as next_start,
        lead(n.decided_at) over steps as next_decision
      from segmentation.rollouts as n
      where n.segment_id = any (derive_step_ends.segment_ids)
      window steps as (partition by n.segment_id order by n.starts_at)
    ) as o
    join segmentation.segments as s on s.segment_id = o.segment_id
  ) as d
  where r.segment_id = d.segment_id and r.starts_at = d.starts_at
    and (r.ends_at, r.decided_at) is distinct from (d.ends_at, d.decided_at);
end
$$;

ALTER FUNCTION segmentation.derive_step_ends(segment_ids integer[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.derive_step_ends(segment_ids integer[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.drop_history_before(period text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  horizon timestamptz := segmentation.keep_since(drop_history_before.period);
  dropped integer := 0;
begin
  -- What ended before the horizon but was not swept yet would come back as a partition of its own.
  delete from segmentation.memberships as m
  using segmentation.segments as s
  where s.segment_id = m.segment_id and least(m.ends_at, s.deleted_at) < horizon;
  for attempt in 1 .. 4 loop
    dropped := segmentation.drop_retired_partitions();
    exit when dropped > 0 or not exists (
      select from segmentation.history_partitions() as h where h.month_start < horizon
    );
    perform pg_sleep(0.3);
  end loop;
  if exists (select from segmentation.history_partitions() as h where h.month_start < horizon) then
    raise warning 'the history is being read: its months before % are dropped by the next purge that can',
      drop_history_before.period
      using hint = 'Nothing tells of them any more. To drop them at once: select purge_expired();';
  end if;
  return dropped;
end
$$;

ALTER FUNCTION segmentation.drop_history_before(period text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.drop_history_before(period text) IS 'Retention: drop the history of all months before this one, for good; returns how many partitions were dropped. What is being read just now is dropped a little later, by the purge. Example: select drop_history_before(''2025-01'');';

CREATE FUNCTION segmentation.drop_retired_partitions() RETURNS integer
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '100ms'
    AS $$
declare
  retired regclass[] := array(
    select h.partition
    from segmentation.history_partitions() as h
    where h.month_start < (select r.kept_since from segmentation.retention as r)
  );
  old_partition regclass;
begin
  if cardinality(retired) > 0 then
    lock table segmentation.membership_history in access exclusive mode;
    foreach old_partition in array retired loop
      execute format('drop table %s', old_partition);
    end loop;
  end if;
  return cardinality(retired);
exception
  when lock_not_available then
    return 0;
end
$$;

ALTER FUNCTION segmentation.drop_retired_partitions() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.drop_retired_partitions() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.empty_when_analyzed() RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select bool_or(c.reltuples between 0 and c.relpages - 1)
  from pg_catalog.pg_class as c
  where c.oid in ('segmentation.users'::regclass, 'segmentation.memberships'::regclass)
$$;

ALTER FUNCTION segmentation.empty_when_analyzed() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.empty_when_analyzed() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.ending_soon(within interval, slug text DEFAULT NULL::text, max_rows integer DEFAULT NULL::integer) RETURNS TABLE(user_id bigint, segment text, kind text, since timestamp with time zone, until timestamp with time zone, actor text, reason text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  found_id integer := case when ending_soon.slug is not null then segmentation.segment_id_of(ending_soon.slug) end;
  now timestamptz := segmentation.clock();
  horizon timestamptz;
begin
  if ending_soon.max_rows is not null then
    perform segmentation.require_rows(ending_soon.max_rows);
  end if;
  begin
    horizon := now + ending_soon.within;
  exception
    when datetime_field_overflow then null;
  end;
  if (horizon > now) is not true then
    raise exception 'within % is not a valid time from now on', coalesce(ending_soon.within::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('within', ending_soon.within::text),
        hint = 'Give a time above zero, such as interval ''7 days''.';
  end if;
  return query
  select
    m.user_id, s.slug, segmentation.source(m.included, not m.included, false),
    m.starts_at, m.ends_at, m.actor, m.reason
  from segmentation.memberships as m
  join segmentation.segments as s on s.segment_id = m.segment_id
  where m.ends_at > now and m.ends_at <= horizon and m.ends_at < 'infinity' and s.deleted_at = 'infinity'
    and (found_id is null or m.segment_id = found_id)
  order by m.ends_at, m.user_id, s.slug
  limit ending_soon.max_rows;
end
$$;

ALTER FUNCTION segmentation.ending_soon(within interval, slug text, max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ending_soon(within interval, slug text, max_rows integer) IS 'What was set by hand and ends within a time from now, of all segments or of one; the first to end first. Example: select * from ending_soon(interval ''7 days''); select * from ending_soon(interval ''7 days'', ''AVITO_DISCOUNT_30'', max_rows => 100);';

CREATE FUNCTION segmentation.ensure_history_of_ends(months timestamp with time zone[], segment_ids integer[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.ensure_history_partition(e.month)
  from (
    select unnest(ensure_history_of_ends.months)
    union
    select date_trunc('month', s.deleted_at, 'UTC')
    from segmentation.segments as s
    where s.segment_id = any (ensure_history_of_ends.segment_ids) and s.deleted_at < 'infinity'
  ) as e (month);
end
$$;

ALTER FUNCTION segmentation.ensure_history_of_ends(months timestamp with time zone[], segment_ids integer[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ensure_history_of_ends(months timestamp with time zone[], segment_ids integer[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.ensure_history_partition(moment timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  month_start timestamptz := date_trunc('month', moment);
  partition_name text := 'membership_history_' || to_char(month_start, 'YYYY_MM');
begin
  if to_regclass('segmentation.' || partition_name) is not null then
    return false;
  end if;
  -- One transaction at a time. Attaching takes this lock anyway; readers and writers of other months go on.
  lock table segmentation.membership_history in share update exclusive mode;
  -- Asked of the catalog: what to_regclass remembers may be older than the lock.
  if exists (
    select
    from pg_catalog.pg_class as c
    where c.relnamespace = 'segmentation'::regnamespace and c.relname = partition_name
  ) then
    return false;
  end if;
  execute format(
    'create table segmentation.%I (like segmentation.membership_history including defaults including constraints)',
    partition_name);
  execute format(
    'alter table segmentation.membership_history attach partition segmentation.%I for values from (%L) to (%L)',
    partition_name, month_start, month_start + interval '1 month');
  perform segmentation.guard_history_partition(('segmentation.' || partition_name)::regclass);
  return true;
end
$$;

ALTER FUNCTION segmentation.ensure_history_partition(moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ensure_history_partition(moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.ensure_history_partitions(months_ahead integer DEFAULT 3) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
declare
  created integer;
begin
  if (ensure_history_partitions.months_ahead between 0 and 120) is not true then
    raise exception 'months_ahead % is not between 0 and 120', coalesce(months_ahead::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('months_ahead', months_ahead),
        hint = 'Three months ahead is the usual.';
  end if;
  select count(*) filter (where segmentation.ensure_history_partition(month))
  into created
  from generate_series(
    date_trunc('month', segmentation.clock()),
    date_trunc('month', segmentation.clock()) + make_interval(months => ensure_history_partitions.months_ahead),
    interval '1 month') as month;
  return created;
end
$$;

ALTER FUNCTION segmentation.ensure_history_partitions(months_ahead integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ensure_history_partitions(months_ahead integer) IS 'Make the history''s partitions from this month to so many months ahead; returns how many were made. Example: select ensure_history_partitions(3);';

CREATE FUNCTION segmentation.enter_layers(user_ids bigint[], added integer[], removed integer[], moment timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.enter_layers(user_ids bigint[], added integer[], removed integer[], moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.enter_layers(user_ids bigint[], added integer[], removed integer[], moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.expire_memberships(max_rows integer DEFAULT 5000) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moment timestamptz := segmentation.clock();
  moved integer := 0;
  moved_now integer;
  deleted_segment record;
begin
  perform segmentation.require_rows(expire_memberships.max_rows);
  -- Materialized: a join may evaluate a subquery, and so its LIMIT, once for each row of the other side.
  with ended as materialized (
    select e.ctid as place
    from segmentation.memberships as e
    where e.ends_at <= moment
    order by e.ends_at
    limit expire_memberships.max_rows
    for update skip locked
  )
  delete from segmentation.memberships as m
  where m.ctid = any (array(select e.place from ended as e));
  get diagnostics moved = row_count;

  for deleted_segment in
    select s.segment_id
    from segmentation.segments as s
    where s.deleted_at <= moment and s.deleted_at < 'infinity' and not s.swept
    order by s.deleted_at
  loop
    exit when moved >= expire_memberships.max_rows;
    with ended as materialized (
      select e.ctid as place
      from segmentation.memberships as e
      where e.segment_id = deleted_segment.segment_id
      order by e.user_id
      limit expire_memberships.max_rows - moved
      for update skip locked
    )
    delete from segmentation.memberships as m
    where m.ctid = any (array(select e.place from ended as e));
    get diagnostics moved_now = row_count;
    moved := moved + moved_now;
    update segmentation.segments as s
    set swept = true
    where s.segment_id = deleted_segment.segment_id
      and not exists (
        select from segmentation.memberships as m where m.segment_id = s.segment_id
      );
  end loop;
  return moved;
end
$$;

ALTER FUNCTION segmentation.expire_memberships(max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.expire_memberships(max_rows integer) IS 'Move at most so many ended overrides (expired, or their segment deleted) to the history; returns how many were moved. Example: select expire_memberships(10000);';

CREATE FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(member boolean, source text, since timestamp with time zone, until timestamp with time zone, actor text, reason text, bucket_percent numeric, rollout_percent numeric)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  found_id integer := segmentation.segment_id_of(explain_membership.slug, explain_membership.at);
  now timestamptz;
begin
  perform segmentation.register_unknown_users(array[explain_membership.user_id]);
  now := segmentation.clock();
  perform segmentation.require_kept(coalesce(explain_membership.at, now));
  return query
  select
    m.member,
    m.source,
    -- Never in before: no moment at all.
    nullif(lower(span.period), '-infinity'),
    upper(span.period),
    why.actor,
    why.reason,
    trim_scale(segmentation.bucket(explain_membership.user_id, s.salt) / 1000.0),
    coalesce((
      select trim_scale(r.percent)
      from segmentation.rollouts as r
      where r.segment_id = s.segment_id
        and segmentation.in_force(
          r.starts_at, r.ends_at, a.moment, case when explain_membership.at is null then r.decided_at end)
    ), 0)
  from segmentation.segments as s
  left join segmentation.membership_periods(array[explain_membership.user_id], now) as p
    on p.segment_id = s.segment_id
  cross join lateral (select coalesce(explain_membership.at, p.present, now)) as a (moment)
  cross join lateral (
    select
      coalesce(p.member @> a.moment, false),
      case
        when segmentation.in_force(s.created_at, s.deleted_at, a.moment)
          then segmentation.source(
            p.assigned @> a.moment, p.overridden @> a.moment, p.rollout @> a.moment, p.elsewhere @> a.moment)
        else 'none'
      end
  ) as m (member, source)
  -- The period that holds this answer: in the segment, or out of it.
  cross join lateral (
    select period
    from unnest(
      case when m.member then p.member else '{[-infinity,infinity)}'::tstzmultirange - coalesce(p.member, '{}') end
    ) as period
    where period @> a.moment
  ) as span
  left join lateral (
    select o.actor, o.reason
    from segmentation.overrides as o
    where m.source in ('assignment', 'exclusion')
      and o.user_id = explain_membership.user_id and o.segment_id = s.segment_id
      and segmentation.in_force(o.starts_at, o.ends_at, a.moment)
    union all
    -- The step that took the user in, or the event that ended the last stay.
    select r.actor, r.reason
    from unnest(p.rollout) as held
    join segmentation.rollouts as r
      on r.segment_id = s.segment_id and segmentation.in_force(r.starts_at, r.ends_at, lower(held))
    where m.source = 'rollout' and held @> a.moment
    union all
    -- What keeps the user out of the rollout that would hold it.
    select e.actor, e.reason
    from segmentation.assignments_elsewhere as e
    where m.source = 'none' and p.rollout @> a.moment
      and e.user_id = explain_membership.user_id and e.segment_id = s.segment_id
      and segmentation.in_force(e.starts_at, e.ends_at, a.moment)
    union all
    select e.actor, e.reason
    from segmentation.membership_events(array[explain_membership.user_id], now) as e
    where m.source = 'none'
      and e.segment_id = s.segment_id and e.operation = 'remove' and e.at = lower(span.period)
    limit 1
  ) as why on true
  where s.segment_id = found_id;
end
$$;

ALTER FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone) IS 'Whether a user is in a segment, now or at a moment, and why: the source, since and until when this answer holds, who caused it, the user''s bucket (in while below the rollout''s percent). Example: select * from explain_membership(1000, ''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.finish_import(slug text, operation text DEFAULT 'add'::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text, max_removed bigint DEFAULT NULL::bigint, dry_run boolean DEFAULT false, all_actors boolean DEFAULT false) RETURNS TABLE(received bigint, changed bigint, unchanged bigint, added bigint, removed bigint, rescheduled bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  -- A relation of that name that the caller made could run the caller's code with the owner's rights.
  if not exists (
    select
    from pg_catalog.pg_class as c
    where c.oid = to_regclass('pg_temp.import')
      and c.relkind = 'r' and c.relowner = 'segmentation_owner'::regrole
  ) then
    raise exception 'no import has begun in this transaction'
      using
        errcode = 'object_not_in_prerequisite_state',
        hint = 'Call begin_import(slug) first, then copy the ids into pg_temp.import.';
  end if;
  -- As many as an array holds, with room to spare.
  if (select count(*) from pg_temp.import) > 100000000 then
    raise exception 'more than 100000000 user ids'
      using errcode = 'program_limit_exceeded', hint = 'Send them in several imports.';
  end if;
  return query
  select c.*
  from segmentation.change_segment_members(
    finish_import.slug, array(select i.user_id from pg_temp.import as i), finish_import.operation,
    finish_import.expires_at, finish_import.starts_at, finish_import.actor, finish_import.reason,
    finish_import.max_removed, finish_import.dry_run, finish_import.all_actors) as c;
end
$$;

ALTER FUNCTION segmentation.finish_import(slug text, operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.finish_import(slug text, operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) IS 'Add, remove or replace by all users of the temporary table import, see begin_import and change_segment_members. Example: select * from finish_import(''AVITO_DISCOUNT_30'', reason => ''november campaign''); commit';

CREATE FUNCTION segmentation.first_upkeep() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.ensure_history_partitions(3);
  if not exists (
    select
    from segmentation.upkeep as u
    where u.task = 'sweep' and u.finished_at > segmentation.clock() - interval '10 minutes'
  ) then
    perform segmentation.note_upkeep('sweep', segmentation.expire_memberships(5000));
  end if;
end
$$;

ALTER FUNCTION segmentation.first_upkeep() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.first_upkeep() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.forget_user(user_id bigint, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  known boolean := exists (
    select from segmentation.users as u where u.user_id = forget_user.user_id
    union all
    select from segmentation.overrides as o where o.user_id = forget_user.user_id
  );
begin
  perform segmentation.require_actor(forget_user.actor, forget_user.reason);
  -- Known or not, the user is locked: what others add meanwhile comes before this, and goes, or after it, and stays.
  perform segmentation.lock_users(array[forget_user.user_id]);
  -- Recorded like any other deletion, and then erased with the rest: the history's guard stands aside.
  delete from segmentation.memberships as m where m.user_id = forget_user.user_id;
  perform set_config('segmentation.forgetting', 'on', true);
  delete from segmentation.membership_history as h where h.user_id = forget_user.user_id;
  delete from segmentation.report_links as l where l.user_id = forget_user.user_id;
  delete from segmentation.idempotency_keys as i where i.user_id = forget_user.user_id;
  delete from segmentation.users as u where u.user_id = forget_user.user_id;
  perform set_config('segmentation.forgetting', '', true);
  -- Who and why is worth a line in the server's log. It does not say whom.
  raise log 'a user was forgotten by %, reason: %',
    segmentation.given_actor(forget_user.actor), coalesce(forget_user.reason, 'none given');
  return known;
end
$$;

ALTER FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) IS 'Erase a user with all overrides and their past; false if the user was not known. Seen again, it begins anew. Example: select forget_user(1000, reason => ''asked to be forgotten'');';

CREATE FUNCTION segmentation.functions_for_people() RETURNS TABLE(function text, role text, call text, what text, examples text[])
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select
    p.proname::text,
    r.role,
    -- What may be left out stands in brackets.
    p.proname || '(' || array_to_string(a.names[:p.pronargs - p.pronargdefaults], ', ')
      || case
        when p.pronargdefaults = 0 then ''
        else case when p.pronargs > p.pronargdefaults then ' [, ' else '[' end
          || array_to_string(a.names[p.pronargs - p.pronargdefaults + 1:], ', ') || ']'
      end || ')',
    c.parts[1],
    -- Several are parted by "; ", which is how psql takes them as well.
    regexp_split_to_array(c.parts[2], '(?<=;) (?=\S)')
  from pg_proc as p
  cross join lateral (
    select array(
      select n.name
      from unnest(p.proargnames) with ordinality as n (name, position)
      where n.position <= p.pronargs
      order by n.position
    )
  ) as a (names)
  cross join lateral (select obj_description(p.oid, 'pg_proc')) as d (comment)
  cross join lateral regexp_match(d.comment, '^(.*) Example: (.*)$') as c (parts)
  cross join lateral (
    select k.position, k.role
    from unnest('{evaluator,reader,editor,admin}'::text[]) with ordinality as k (role, position)
    where has_function_privilege('segmentation_' || k.role, p.oid, 'execute')
    order by k.position
    limit 1
  ) as r
  where p.pronamespace = 'segmentation'::regnamespace and d.comment !~ '^(For the service|Internal): '
  order by r.position, p.proname
$_$;

ALTER FUNCTION segmentation.functions_for_people() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.functions_for_people() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.get_layer(slug text) RETURNS SETOF segmentation.listed_layers
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return query
  select l.* from segmentation.listed_layers as l where l.slug = get_layer.slug collate "C";
  if not found then
    perform segmentation.layer_id_of(get_layer.slug);
  end if;
end
$$;

ALTER FUNCTION segmentation.get_layer(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.get_layer(slug text) IS 'One layer: its segments, and how many percent of all users they hold now. Example: select * from get_layer(''AVITO_DISCOUNTS'');';

CREATE FUNCTION segmentation.get_segment(slug text) RETURNS SETOF segmentation.listed_segments
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return query
  select l.* from segmentation.listed_segments as l where l.slug = get_segment.slug collate "C";
  if not found then
    perform segmentation.segment_id_of(get_segment.slug);
  end if;
end
$$;

ALTER FUNCTION segmentation.get_segment(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.get_segment(slug text) IS 'One living segment, with the percentage in force. Example: select * from get_segment(''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.given_actor(actor text) RETURNS text
    LANGUAGE sql STABLE
    AS $$ select coalesce(nullif(actor, ''), session_user::text) $$;

ALTER FUNCTION segmentation.given_actor(actor text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.given_actor(actor text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.growth_moments(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) RETURNS timestamp with time zone[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
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

ALTER FUNCTION segmentation.growth_moments(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.growth_moments(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.guard_history_partition(partition regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  wanted record;
begin
  for wanted in
    select replace(
      pg_get_triggerdef(t.oid), ' ON segmentation.membership_history ', format(' ON %s ', partition)) as trigger
    from pg_catalog.pg_trigger as t
    where t.tgrelid = 'segmentation.membership_history'::regclass and not t.tgisinternal
    except
    select pg_get_triggerdef(t.oid)
    from pg_catalog.pg_trigger as t
    where t.tgrelid = guard_history_partition.partition and t.tgenabled = 'O'
  loop
    execute regexp_replace(wanted.trigger, '^CREATE', 'CREATE OR REPLACE');
  end loop;
end
$$;

ALTER FUNCTION segmentation.guard_history_partition(partition regclass) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.guard_history_partition(partition regclass) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.history_partitions() RETURNS TABLE(partition regclass, month_start timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
  select i.inhrelid::regclass, to_timestamp(right(c.relname, 7) || '+00', 'YYYY_MMTZH')
  from pg_catalog.pg_inherits as i
  join pg_catalog.pg_class as c on c.oid = i.inhrelid
  where i.inhparent = 'segmentation.membership_history'::regclass
  order by c.relname
$$;

ALTER FUNCTION segmentation.history_partitions() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.history_partitions() IS 'The partitions of the history, oldest first. Example: select * from history_partitions();';

CREATE FUNCTION segmentation.history_report(period text, user_id bigint DEFAULT NULL::bigint) RETURNS SETOF segmentation.report_line
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET work_mem TO '64MB'
    AS $$
declare
  page record;
begin
  for page in
    select * from segmentation.report_pages(history_report.period, history_report.user_id)
  loop
    return query
    select * from segmentation.report_lines(
      page.from_time, page.to_time, page.after_id, page.up_to_id, page.now);
  end loop;
end
$$;

ALTER FUNCTION segmentation.history_report(period text, user_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.history_report(period text, user_id bigint) IS 'Who got in or out of which segment in a month (UTC), of all known users or of one; by user, time, segment. Example: \copy (select * from history_report(''2026-11'')) to ''nov.csv'' csv delimiter '';''';

CREATE FUNCTION segmentation.hold_writer_key(since timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  while not pg_try_advisory_xact_lock_shared(segmentation.writer_key(since)) loop
    since := since + interval '1 millisecond';
  end loop;
  return since;
end
$$;

ALTER FUNCTION segmentation.hold_writer_key(since timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.hold_writer_key(since timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.holds(buckets int4multirange, threshold integer, bucket integer) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select case when buckets is null then bucket < threshold else bucket <@ buckets end $$;

ALTER FUNCTION segmentation.holds(buckets int4multirange, threshold integer, bucket integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.holds(buckets int4multirange, threshold integer, bucket integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.http_begin_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text, max_removed bigint DEFAULT NULL::bigint, all_actors boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_list_change(
    http_begin_import.operation,
    segmentation.http_expiry(
      http_begin_import.expires_at, http_begin_import.ttl_seconds, http_begin_import.starts_at),
    http_begin_import.starts_at, http_begin_import.actor, http_begin_import.reason,
    http_begin_import.max_removed, http_begin_import.all_actors);
  perform segmentation.begin_import(http_begin_import.slug);
end
$$;

ALTER FUNCTION segmentation.http_begin_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_begin_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) IS 'For the service: POST /v1/segments/{slug}/members, before its body comes.';

CREATE FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.cancel_rollout_step(
    http_cancel_rollout_step.slug, http_cancel_rollout_step.starts_at,
    http_cancel_rollout_step.actor, http_cancel_rollout_step.reason);
  return (
    select row_to_json(answer)
    from (
      select
        http_cancel_rollout_step.slug as segment,
        segmentation.rollout_json(http_cancel_rollout_step.slug) as rollout
    ) as answer
  );
end
$$;

ALTER FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) IS 'For the service: DELETE /v1/segments/{slug}/rollout.';

CREATE FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  with changed as materialized (
    select c.change, array_agg(c.segment order by c.segment collate "C") as slugs
    from segmentation.change_user_segments(
      http_change_user_segments.user_id,
      http_change_user_segments.add,
      http_change_user_segments.remove,
      segmentation.http_expiry(
        http_change_user_segments.expires_at, http_change_user_segments.ttl_seconds,
        http_change_user_segments.starts_at),
      http_change_user_segments.starts_at,
      http_change_user_segments.actor,
      http_change_user_segments.reason) as c
    group by c.change
  )
  select row_to_json(answer)
  from (
    select
      -- First, and by this name: keep_answer looks for it.
      http_change_user_segments.user_id,
      coalesce((select c.slugs from changed as c where c.change = 'added'), '{}') as added,
      coalesce((select c.slugs from changed as c where c.change = 'removed'), '{}') as removed,
      coalesce((select c.slugs from changed as c where c.change = 'rescheduled'), '{}') as rescheduled,
      coalesce((select c.slugs from changed as c where c.change = 'unchanged'), '{}') as unchanged
  ) as answer
$$;

ALTER FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) IS 'For the service: PATCH /v1/users/{user_id}/segments.';

CREATE FUNCTION segmentation.http_changes_end(from_time timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS text
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select segmentation.rfc3339(segmentation.changes_end(http_changes_end.from_time, http_changes_end.to_time))
$$;

ALTER FUNCTION segmentation.http_changes_end(from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_changes_end(from_time timestamp with time zone, to_time timestamp with time zone) IS 'For the service: GET /v1/changes, before its rows: where they end.';

CREATE FUNCTION segmentation.http_create_layer(slug text, description text, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.create_layer(
    http_create_layer.slug, http_create_layer.description, http_create_layer.actor, http_create_layer.reason);
  return segmentation.http_get_layer(http_create_layer.slug);
end
$$;

ALTER FUNCTION segmentation.http_create_layer(slug text, description text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_create_layer(slug text, description text, actor text, reason text) IS 'For the service: POST /v1/layers.';

CREATE FUNCTION segmentation.http_create_report_link(period text, user_id bigint, base_url text, actor text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select
      http_create_report_link.base_url || '/v1/reports/' || l.id || '.csv' as url,
      http_create_report_link.period,
      segmentation.rfc3339(l.expires_at) as expires_at
    from segmentation.create_report_link(
      http_create_report_link.period, http_create_report_link.user_id,
      actor => http_create_report_link.actor) as l
  ) as answer
$$;

ALTER FUNCTION segmentation.http_create_report_link(period text, user_id bigint, base_url text, actor text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_create_report_link(period text, user_id bigint, base_url text, actor text) IS 'For the service: POST /v1/reports.';

CREATE FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text, layer text DEFAULT NULL::text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.create_segment(
    http_create_segment.slug, http_create_segment.percent, http_create_segment.description,
    http_create_segment.actor, http_create_segment.reason, http_create_segment.layer);
  return segmentation.http_get_segment(http_create_segment.slug);
end
$$;

ALTER FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text, layer text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text, layer text) IS 'For the service: POST /v1/segments.';

CREATE FUNCTION segmentation.http_duration(name text, duration text) RETURNS interval
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  length interval;
begin
  if http_duration.duration
    ~ '^P(?=.)([0-9]+Y)?([0-9]+M)?([0-9]+W)?([0-9]+D)?(T(?=.)([0-9]+H)?([0-9]+M)?([0-9]+([.][0-9]+)?S)?)?$'
  then
    begin
      length := http_duration.duration::interval;
    exception
      when datetime_field_overflow or interval_field_overflow then null;
    end;
  end if;
  if length is null then
    raise exception '% % is not a valid ISO 8601 duration',
      http_duration.name, coalesce('"' || http_duration.duration || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object(http_duration.name, http_duration.duration),
        hint = 'Write a day as P1D, an hour as PT1H, a quarter of an hour as PT15M, a week as P1W, a month as P1M.';
  end if;
  return length;
end
$_$;

ALTER FUNCTION segmentation.http_duration(name text, duration text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_duration(name text, duration text) IS 'For the service: an ISO 8601 duration.';

CREATE FUNCTION segmentation.http_ending_soon(within text, slug text DEFAULT NULL::text, max_rows integer DEFAULT 100) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_at_most('limit', http_ending_soon.max_rows, 10000);
  return (
    select row_to_json(answer)
    from (
      select coalesce(array_to_json(array_agg(ending order by ending.until, ending.user_id)), '[]') as overrides
      from (
        select
          e.user_id, e.segment, e.kind, segmentation.rfc3339(e.since) as since,
          segmentation.rfc3339(e.until) as until, e.actor, e.reason
        from segmentation.ending_soon(
          segmentation.http_duration('within', http_ending_soon.within), http_ending_soon.slug,
          http_ending_soon.max_rows) as e
      ) as ending
    ) as answer
  );
end
$$;

ALTER FUNCTION segmentation.http_ending_soon(within text, slug text, max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_ending_soon(within text, slug text, max_rows integer) IS 'For the service: GET /v1/ending-soon.';

CREATE FUNCTION segmentation.http_expiry(expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if http_expiry.ttl_seconds is null then
    return http_expiry.expires_at;
  end if;
  if http_expiry.expires_at is not null then
    raise exception 'expires_at and ttl_seconds are both given'
      using errcode = 'invalid_parameter_value', hint = 'Give one of them.';
  end if;
  if (http_expiry.ttl_seconds > 0 and http_expiry.ttl_seconds <= 3153600000) is not true then
    raise exception 'ttl_seconds % is not above 0 and at most 100 years', http_expiry.ttl_seconds
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('ttl_seconds', http_expiry.ttl_seconds::text),
        hint = 'Give the number of seconds that the membership lasts.';
  end if;
  return coalesce(http_expiry.starts_at, segmentation.clock())
    + make_interval(secs => http_expiry.ttl_seconds::double precision);
end
$$;

ALTER FUNCTION segmentation.http_expiry(expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_expiry(expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone) IS 'For the service: the end of a membership from an end or a time to live.';

CREATE FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select
      http_explain_membership.user_id, http_explain_membership.slug as segment,
      e.member, e.source, segmentation.rfc3339(e.since) as since, segmentation.rfc3339(e.until) as until,
      e.actor, e.reason, e.bucket_percent, e.rollout_percent
    from segmentation.explain_membership(
      http_explain_membership.user_id, http_explain_membership.slug, http_explain_membership.at) as e
  ) as answer
$$;

ALTER FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone) IS 'For the service: GET /v1/users/{user_id}/segments/{slug}.';

CREATE FUNCTION segmentation.http_finish_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text, max_removed bigint DEFAULT NULL::bigint, dry_run boolean DEFAULT false, all_actors boolean DEFAULT false) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(c)
  from segmentation.finish_import(
    http_finish_import.slug,
    http_finish_import.operation,
    segmentation.http_expiry(
      http_finish_import.expires_at, http_finish_import.ttl_seconds, http_finish_import.starts_at),
    http_finish_import.starts_at,
    http_finish_import.actor,
    http_finish_import.reason,
    http_finish_import.max_removed,
    http_finish_import.dry_run,
    http_finish_import.all_actors) as c
$$;

ALTER FUNCTION segmentation.http_finish_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_finish_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) IS 'For the service: POST /v1/segments/{slug}/members, after its COPY.';

CREATE FUNCTION segmentation.http_get_layer(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$ select segmentation.layer_json(l) from segmentation.get_layer(http_get_layer.slug) as l $$;

ALTER FUNCTION segmentation.http_get_layer(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_get_layer(slug text) IS 'For the service: GET /v1/layers/{slug}.';

CREATE FUNCTION segmentation.http_get_segment(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select
      s.slug, s.description, s.percent, segmentation.rfc3339(s.created_at) as created_at,
      -- As text: JavaScript would round it.
      s.salt::text as salt,
      s.layer,
      segmentation.rollout_json(s.slug) as rollout
    from segmentation.get_segment(http_get_segment.slug) as s
  ) as answer
$$;

ALTER FUNCTION segmentation.http_get_segment(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_get_segment(slug text) IS 'For the service: GET /v1/segments/{slug}.';

CREATE FUNCTION segmentation.http_layer_stats(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select
      http_layer_stats.slug as layer,
      coalesce(
        array_to_json(array_agg(t order by t.segment collate "C") filter (where t.segment is not null)), '[]'
      ) as segments,
      array_to_json(array_agg(row_to_json(t)::jsonb - 'segment') filter (where t.segment is null)) -> 0 as whole
    from segmentation.layer_stats(http_layer_stats.slug) as t
  ) as answer
$$;

ALTER FUNCTION segmentation.http_layer_stats(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_layer_stats(slug text) IS 'For the service: GET /v1/layers/{slug}/stats.';

CREATE FUNCTION segmentation.http_list_layers() RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select coalesce(array_to_json(array_agg(segmentation.layer_json(l) order by l.slug collate "C")), '[]') as layers
    from segmentation.list_layers() as l
  ) as answer
$$;

ALTER FUNCTION segmentation.http_list_layers() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_list_layers() IS 'For the service: GET /v1/layers.';

CREATE FUNCTION segmentation.http_list_segments(after text DEFAULT NULL::text, max_rows integer DEFAULT 100, search text DEFAULT NULL::text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_at_most('limit', http_list_segments.max_rows, 1000);
  return (
    select row_to_json(answer)
    from (
      select
        coalesce(array_to_json(array_agg(segment order by segment.slug collate "C")), '[]') as segments,
        -- A full page may have a next one.
        case when count(*) = http_list_segments.max_rows then max(segment.slug collate "C") end as next_after
      from (
        select s.slug, s.description, s.percent, segmentation.rfc3339(s.created_at) as created_at, s.layer
        from segmentation.list_segments(
          http_list_segments.after, http_list_segments.max_rows, http_list_segments.search) as s
      ) as segment
    ) as answer
  );
end
$$;

ALTER FUNCTION segmentation.http_list_segments(after text, max_rows integer, search text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_list_segments(after text, max_rows integer, search text) IS 'For the service: GET /v1/segments.';

CREATE FUNCTION segmentation.http_periods_window(slug text, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS text
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select segmentation.periods_window(
    http_periods_window.slug, http_periods_window.from_time, http_periods_window.to_time)::text
$$;

ALTER FUNCTION segmentation.http_periods_window(slug text, from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_periods_window(slug text, from_time timestamp with time zone, to_time timestamp with time zone) IS 'For the service: HEAD /v1/segments/{slug}/periods.';

CREATE FUNCTION segmentation.http_segment(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$ select segmentation.http_get_segment(http_segment.slug) $$;

ALTER FUNCTION segmentation.http_segment(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segment(slug text) IS 'For the service: GET /v1/segments/{slug} of version 1.';

CREATE FUNCTION segmentation.http_segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select
      http_segment_growth.slug as segment,
      array_to_json(array_agg(growth order by growth.at)) as growth
    from (
      select
        segmentation.rfc3339(g.at) as at, g.users, g.members, g.assigned, g.excluded, g.rolled_out,
        g.planned_percent, g.actual_percent
      from segmentation.segment_growth(
        http_segment_growth.slug, http_segment_growth.from_time, http_segment_growth.to_time,
        segmentation.http_duration('step', http_segment_growth.step)) as g
    ) as growth
  ) as answer
$$;

ALTER FUNCTION segmentation.http_segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step text) IS 'For the service: GET /v1/segments/{slug}/growth.';

CREATE FUNCTION segmentation.http_segment_history(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select
      http_segment_history.slug as segment,
      coalesce(array_to_json(array_agg(change order by h.position)), '[]') as changes
    from segmentation.segment_history(http_segment_history.slug)
      with ordinality as h (at, operation, description, percent, starts_at, actor, reason, position)
    cross join lateral (
      select
        segmentation.rfc3339(h.at) as at, h.operation, h.description, h.percent,
        segmentation.rfc3339(h.starts_at) as starts_at, h.actor, h.reason
    ) as change
  ) as answer
$$;

ALTER FUNCTION segmentation.http_segment_history(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segment_history(slug text) IS 'For the service: GET /v1/segments/{slug}/history.';

CREATE FUNCTION segmentation.http_segment_members(slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone, after bigint DEFAULT NULL::bigint, max_rows integer DEFAULT 100) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_at_most('limit', http_segment_members.max_rows, 10000);
  return (
    select row_to_json(answer)
    from (
      select
        http_segment_members.slug as segment,
        coalesce(array_to_json(array_agg(member order by member.user_id)), '[]') as members,
        -- As text: JavaScript would round it.
        case when count(*) = http_segment_members.max_rows then max(member.user_id)::text end as next_after
      from (
        select m.user_id, m.source, segmentation.rfc3339(m.since) as since, segmentation.rfc3339(m.until) as until
        from segmentation.segment_members(
          http_segment_members.slug, http_segment_members.at, http_segment_members.after,
          http_segment_members.max_rows) as m
      ) as member
    ) as answer
  );
end
$$;

ALTER FUNCTION segmentation.http_segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) IS 'For the service: GET /v1/segments/{slug}/members.';

CREATE FUNCTION segmentation.http_segment_stats(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select http_segment_stats.slug as segment, s.*
    from segmentation.segment_stats(http_segment_stats.slug) as s
  ) as answer
$$;

ALTER FUNCTION segmentation.http_segment_stats(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segment_stats(slug text) IS 'For the service: GET /v1/segments/{slug}/stats.';

CREATE FUNCTION segmentation.http_segments(after text DEFAULT NULL::text, max_rows integer DEFAULT 100) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$ select segmentation.http_list_segments(http_segments.after, http_segments.max_rows) $$;

ALTER FUNCTION segmentation.http_segments(after text, max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segments(after text, max_rows integer) IS 'For the service: GET /v1/segments of version 1.';

CREATE FUNCTION segmentation.http_service_status(needed text) RETURNS TABLE(missing text, parts json, status text)
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select
    string_agg(part.item, ', ' order by part.position) filter (where not part.ok and part.item !~ '^shard '),
    array_to_json(array_agg(told order by part.position)),
    case when bool_or(not part.ok) then 'degraded' else 'ready' end
  from (
    select 'database' as item, true as ok, 'answers' as value, null as hint, 0 as position
    union all
    select s.item, s.ok, s.value, s.hint, s.position
    from segmentation.service_status(http_service_status.needed)
      with ordinality as s (item, ok, value, hint, position)
  ) as part
  cross join lateral (select part.item, part.ok, part.value, part.hint) as told
$$;

ALTER FUNCTION segmentation.http_service_status(needed text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_service_status(needed text) IS 'For the service: GET /health/ready; the parts, the names of those that are missing, if there are any, and the status if none is.';

CREATE FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.set_rollout(
    http_set_rollout.slug, http_set_rollout.percent, http_set_rollout.starts_at,
    http_set_rollout.actor, http_set_rollout.reason);
  return (
    select row_to_json(answer)
    from (
      select http_set_rollout.slug as segment, segmentation.rollout_json(http_set_rollout.slug) as rollout
    ) as answer
  );
end
$$;

ALTER FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) IS 'For the service: PUT /v1/segments/{slug}/rollout.';

CREATE FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.update_segment(
    http_update_segment.slug, http_update_segment.description,
    http_update_segment.actor, http_update_segment.reason);
  return segmentation.http_get_segment(http_update_segment.slug);
end
$$;

ALTER FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) IS 'For the service: PATCH /v1/segments/{slug}.';

CREATE FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select
      http_user_history.user_id,
      coalesce(array_to_json(array_agg(event order by h.position)), '[]') as events
    from segmentation.user_history(
      http_user_history.user_id, http_user_history.from_time, http_user_history.to_time)
      with ordinality as h (segment, operation, at, cause, actor, reason, position)
    cross join lateral (
      select h.segment, h.operation, segmentation.rfc3339(h.at) as at, h.cause, h.actor, h.reason
    ) as event
  ) as answer
$$;

ALTER FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) IS 'For the service: GET /v1/users/{user_id}/history.';

CREATE FUNCTION segmentation.http_user_overrides(user_id bigint) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select
      http_user_overrides.user_id,
      coalesce(array_to_json(array_agg(override order by override.segment collate "C")), '[]') as overrides
    from (
      select
        o.segment, o.kind, segmentation.rfc3339(o.since) as since, segmentation.rfc3339(o.until) as until,
        o.actor, o.reason
      from segmentation.user_overrides(http_user_overrides.user_id) as o
    ) as override
  ) as answer
$$;

ALTER FUNCTION segmentation.http_user_overrides(user_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_user_overrides(user_id bigint) IS 'For the service: GET /v1/users/{user_id}/overrides.';

CREATE FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moment timestamptz := segmentation.clock();
  answer text;
  is_known boolean;
begin
  if http_user_segments.at is not null then
    return segmentation.segments_json(http_user_segments.user_id, array(
      select s.segment
      from segmentation.user_segments(http_user_segments.user_id, http_user_segments.at) as s
    ));
  end if;
  select segmentation.segments_json(http_user_segments.user_id, c.segments), c.known into answer, is_known
  from segmentation.current_segments_of(http_user_segments.user_id, moment) as c;
  if not is_known then
    perform segmentation.register_unknown_users(array[http_user_segments.user_id]);
  end if;
  return answer;
end
$$;

ALTER FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone) IS 'For the service: GET /v1/users/{user_id}/segments, the hot read.';

CREATE FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) RETURNS text[]
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  moment timestamptz := segmentation.clock();
  answers text[];
  all_known boolean;
begin
  select array_agg(segmentation.segments_json(c.user_id, c.segments) order by c.place), bool_and(c.known)
  into answers, all_known
  from segmentation.current_segments(user_ids, moment) as c;
  if not all_known then
    perform segmentation.register_unknown_users(user_ids);
  end if;
  return answers;
end
$$;

ALTER FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) IS 'For the service: GET /v1/users/{user_id}/segments for several users who wait at the same moment, one text each.';

CREATE FUNCTION segmentation.http_user_segments_now(user_id bigint) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return segmentation.http_user_segments(http_user_segments_now.user_id);
end
$$;

ALTER FUNCTION segmentation.http_user_segments_now(user_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_user_segments_now(user_id bigint) IS 'For the service: GET /v1/users/{user_id}/segments for an evaluator, who may not give another moment than now.';

CREATE FUNCTION segmentation.http_users_segments(user_ids bigint[]) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if cardinality(http_users_segments.user_ids) > 0 then
    perform segmentation.require_at_most('user_ids', cardinality(http_users_segments.user_ids), 10000);
  end if;
  return '{"users":['
    || coalesce(array_to_string(segmentation.http_user_segments_each(http_users_segments.user_ids), ','), '')
    || ']}';
end
$$;

ALTER FUNCTION segmentation.http_users_segments(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_users_segments(user_ids bigint[]) IS 'For the service: POST /v1/users/segments.';

CREATE FUNCTION segmentation.in_order(user_ids bigint[]) RETURNS SETOF bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select unnest(in_order.user_ids) as user_id order by user_id $$;

ALTER FUNCTION segmentation.in_order(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.in_order(user_ids bigint[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.is_service() RETURNS boolean
    LANGUAGE sql STABLE
    AS $$ select pg_catalog.pg_has_role(session_user, 'segmentation_service', 'member') $$;

ALTER FUNCTION segmentation.is_service() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.is_service() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.jobs() RETURNS TABLE(name text, schedule text, command text)
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  values
    ('segmentation-sweep', '* * * * *', 'call segmentation.sweep()'),
    ('segmentation-partitions', '17 1 * * *', 'select segmentation.ensure_history_partitions(3)'),
    ('segmentation-purge', '*/10 * * * *', 'select segmentation.purge_expired()'),
    -- pg_cron never empties its own log; a role sees and deletes the lines of its own jobs.
    (
      'segmentation-job-log', '27 1 * * *',
      $job$delete from cron.job_run_details where end_time < now() - interval '7 days'$job$)
$_$;

ALTER FUNCTION segmentation.jobs() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.jobs() IS 'For the service: the jobs that schedule_jobs schedules. Example: select * from jobs();';

CREATE FUNCTION segmentation.keep_answer(api_key text, idempotency_key text, fingerprint bytea, path text, status integer, location text, answer text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_service();
  if (length(fingerprint) = 32 and status between 200 and 299
    and num_nulls(api_key, idempotency_key, answer) = 0) is not true
  then
    raise exception 'this is not a valid answer to keep'
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('status', status, 'path', path),
        hint = 'All but path and location are needed; a fingerprint has 32 bytes, a status kept is from 200 to 299.';
  end if;
  -- An answer about one user says so first, see http_change_user_segments. The path, which an earlier service gives, is
  -- not kept.
  insert into segmentation.idempotency_keys (
    api_key, idempotency_key, fingerprint, status, location, answer, user_id)
  values (
    api_key, idempotency_key, fingerprint, status, location, answer,
    case when answer like '{"user_id"%' then (answer::json ->> 'user_id')::bigint end);
end
$$;

ALTER FUNCTION segmentation.keep_answer(api_key text, idempotency_key text, fingerprint bytea, path text, status integer, location text, answer text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.keep_answer(api_key text, idempotency_key text, fingerprint bytea, path text, status integer, location text, answer text) IS 'For the service: keep the answer of a write for whoever repeats it with the same Idempotency-Key. Example: select keep_answer(''web-shop'', ''order-17'', sha256(''PATCH …''), ''/v1/users/1000/segments'', 200, null, ''{}'');';

CREATE FUNCTION segmentation.keep_since(period text) RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  horizon timestamptz := segmentation.month_start(keep_since.period);
begin
  if horizon > segmentation.clock() then
    raise exception 'period % is yet to come', keep_since.period
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('period', keep_since.period),
        hint = 'Give the first month to keep: this one or an earlier one.';
  end if;
  update segmentation.retention as r set kept_since = horizon where r.kept_since < horizon;
  return horizon;
end
$$;

ALTER FUNCTION segmentation.keep_since(period text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.keep_since(period text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.key_is_alive(revoked_at timestamp with time zone, expires_at timestamp with time zone, moment timestamp with time zone) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select revoked_at = 'infinity' and moment < expires_at $$;

ALTER FUNCTION segmentation.key_is_alive(revoked_at timestamp with time zone, expires_at timestamp with time zone, moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.key_is_alive(revoked_at timestamp with time zone, expires_at timestamp with time zone, moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.last_change(segment_id integer) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  segment_ids integer[] := segmentation.segments_of_layer(last_change.segment_id);
begin
  return (select max(h.changed_at) from segmentation.segment_history as h where h.segment_id = any (segment_ids));
end
$$;

ALTER FUNCTION segmentation.last_change(segment_id integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.last_change(segment_id integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.last_change_in_layer(layer_id integer) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return (
    select max(t.moment)
    from (
      select h.changed_at as moment
      from segmentation.segments as s
      join segmentation.segment_history as h on h.segment_id = s.segment_id
      where s.layer_id = last_change_in_layer.layer_id
      union all
      select l.created_at from segmentation.layers as l where l.layer_id = last_change_in_layer.layer_id
    ) as t
  );
end
$$;

ALTER FUNCTION segmentation.last_change_in_layer(layer_id integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.last_change_in_layer(layer_id integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.layer_counts(slug text) RETURNS TABLE(assigned bigint, excluded bigint, users bigint, segment_ids integer[], held bigint[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.layer_counts(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.layer_counts(slug text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.layer_id_of(slug text) RETURNS integer
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  found_id integer;
begin
  select l.layer_id into found_id
  from segmentation.layers as l
  where l.slug = layer_id_of.slug collate "C" and l.deleted_at = 'infinity';
  if not found then
    raise exception 'layer % does not exist', coalesce('"' || slug || '"', 'null')
      using
        errcode = 'no_data_found',
        detail = json_build_object('layer', slug),
        hint = 'List the layers: select * from list_layers(); GET /v1/layers; python -m service layers list.';
  end if;
  return found_id;
end
$$;

ALTER FUNCTION segmentation.layer_id_of(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.layer_id_of(slug text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.layer_json(layer segmentation.listed_layers) RETURNS json
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select row_to_json(answer)
  from (
    select
      (layer_json.layer).slug, (layer_json.layer).description,
      (layer_json.layer).allocated_percent, (layer_json.layer).free_percent,
      segmentation.rfc3339((layer_json.layer).created_at) as created_at,
      -- As text: JavaScript would round it.
      (layer_json.layer).salt::text as salt,
      coalesce((
        select array_to_json(array_agg(held order by held.slug collate "C"))
        from (
          select s.slug, s.percent from segmentation.layer_segments((layer_json.layer).slug) as s
        ) as held
      ), '[]') as segments
  ) as answer
$$;

ALTER FUNCTION segmentation.layer_json(layer segmentation.listed_layers) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.layer_json(layer segmentation.listed_layers) IS 'For the service: a layer with its segments.';

CREATE FUNCTION segmentation.layer_segments(slug text) RETURNS SETOF segmentation.listed_segments
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.layer_id_of(layer_segments.slug);
  return query
  select s.*
  from segmentation.listed_segments as s
  where s.layer = layer_segments.slug collate "C"
  order by s.slug;
end
$$;

ALTER FUNCTION segmentation.layer_segments(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.layer_segments(slug text) IS 'The segments of a layer by slug, with the percentage that each holds now. Example: select slug, percent from layer_segments(''AVITO_DISCOUNTS'');';

CREATE FUNCTION segmentation.layer_stats(slug text) RETURNS TABLE(segment text, assigned bigint, excluded bigint, rolled_out bigint, members bigint, planned_percent numeric, actual_percent numeric, srm_p_value double precision)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.layer_stats(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.layer_stats(slug text) IS 'The counts of segment_stats for each segment of a layer; last, without a slug, those of the layer as a whole: there rolled_out, the percentages and the test are about users who are overridden in none of its segments. Example: select * from layer_stats(''AVITO_DISCOUNTS'');';

CREATE FUNCTION segmentation.layers_after_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_free_slugs(array(select n.slug from new_rows as n));
  return null;
end
$$;

ALTER FUNCTION segmentation.layers_after_insert() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.layers_after_insert() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.layers_before_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  by_hand boolean := current_user <> 'segmentation_owner';
  earliest timestamptz := segmentation.announce_writer();
  segments text[];
begin
  if tg_op = 'INSERT' then
    if new.deleted_at < 'infinity' or new.created_at < earliest
      or new.created_at > segmentation.stamp(
        (select max(l.deleted_at) from segmentation.layers as l where l.slug = new.slug and l.deleted_at < 'infinity'))
    then
      raise exception 'layer "%" cannot begin at % or be over already', new.slug, new.created_at
        using
          errcode = 'object_not_in_prerequisite_state',
          detail = json_build_object('layer', new.slug, 'created_at', new.created_at),
          hint = 'A layer begins now: leave created_at and deleted_at out, or call create_layer(slug).';
    end if;
    if by_hand then
      new.actor := session_user;
      new.reason := coalesce(new.reason, segmentation.actor_reason());
    end if;
    return new;
  end if;
  if (old.layer_id, old.slug, old.salt, old.created_at, old.actor, old.reason)
      is distinct from (new.layer_id, new.slug, new.salt, new.created_at, new.actor, new.reason)
    or (
      old.deleted_at <> new.deleted_at
      and (
        old.deleted_at < 'infinity'
        or new.deleted_at < earliest
        or new.deleted_at > segmentation.stamp(segmentation.last_change_in_layer(old.layer_id))
      )
    )
  then
    raise exception 'layer "%" cannot be changed like this', old.slug
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('layer', old.slug),
        hint = 'Slug, salt and creation are settled; delete_layer(slug) deletes a layer, now and for good.';
  end if;
  if old.deleted_at = new.deleted_at then
    new.end_actor := old.end_actor;
    new.end_reason := old.end_reason;
    return new;
  end if;
  if by_hand then
    new.end_actor := session_user;
    new.end_reason := segmentation.actor_reason();
  end if;
  select array_agg(s.slug order by s.slug) into segments
  from segmentation.segments as s
  where s.layer_id = old.layer_id and s.deleted_at = 'infinity';
  if segments is not null then
    raise exception 'layer "%" has segments: %', old.slug, array_to_string(segments[:10], ', ')
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('layer', old.slug, 'segments', segments),
        hint = 'Delete them first: delete_segment(slug). Their past stays.';
  end if;
  delete from segmentation.layer_cells as c where c.layer_id = old.layer_id;
  return new;
end
$$;

ALTER FUNCTION segmentation.layers_before_change() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.layers_before_change() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.layers_refuse_delete() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception 'layers refuses %: the past of its segments needs it', lower(tg_op)
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'Call delete_layer(slug): its slug may be used again.';
end
$$;

ALTER FUNCTION segmentation.layers_refuse_delete() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.layers_refuse_delete() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.limit_waiting() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if current_setting('lock_timeout') = '0' then
    perform set_config('lock_timeout', '5s', true);
  end if;
  if current_setting('idle_in_transaction_session_timeout') = '0' then
    perform set_config('idle_in_transaction_session_timeout', '1min', true);
  end if;
end
$$;

ALTER FUNCTION segmentation.limit_waiting() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.limit_waiting() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.linked_pages(id text) RETURNS TABLE(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return query
  select page.from_time, least(page.to_time, page.now + interval '1 microsecond'), page.after_id, page.up_to_id
  from segmentation.open_report_link(sha256(convert_to(linked_pages.id, 'UTF8'))) as link
  cross join lateral segmentation.report_pages(link.period, link.user_id) as page;
end
$$;

ALTER FUNCTION segmentation.linked_pages(id text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.linked_pages(id text) IS 'For the service: the pages of the report that a link''s id opens. Example: select line.* from linked_pages(''…'') as page cross join lateral report_page(from_time, to_time, after_id, up_to_id) as line;';

CREATE FUNCTION segmentation.list_api_keys() RETURNS TABLE(name text, role text, created_at timestamp with time zone, expires_at timestamp with time zone, revoked_at timestamp with time zone)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return query
  select k.name, k.role, k.created_at, k.expires_at, k.revoked_at
  from segmentation.api_keys as k
  order by k.name;
end
$$;

ALTER FUNCTION segmentation.list_api_keys() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.list_api_keys() IS 'All API keys, revoked ones too, without the keys themselves. Example: select * from list_api_keys();';

CREATE FUNCTION segmentation.list_change(is_listed boolean, override segmentation.memberships, own_actor text, new_end timestamp with time zone, moment timestamp with time zone) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
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

ALTER FUNCTION segmentation.list_change(is_listed boolean, override segmentation.memberships, own_actor text, new_end timestamp with time zone, moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.list_change(is_listed boolean, override segmentation.memberships, own_actor text, new_end timestamp with time zone, moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.list_layers() RETURNS SETOF segmentation.listed_layers
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$ select * from segmentation.listed_layers as l order by l.slug $$;

ALTER FUNCTION segmentation.list_layers() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.list_layers() IS 'All layers with their segments, and how many percent of all users these hold now. Example: select * from list_layers();';

CREATE FUNCTION segmentation.list_segments(after text DEFAULT NULL::text, max_rows integer DEFAULT 100, search text DEFAULT NULL::text) RETURNS SETOF segmentation.listed_segments
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_rows(list_segments.max_rows);
  return query
  select l.*
  from segmentation.listed_segments as l
  where l.slug > coalesce(list_segments.after, '') collate "C"
    and position(lower(coalesce(list_segments.search, '')) in lower(l.slug)) > 0
  order by l.slug
  limit list_segments.max_rows;
end
$$;

ALTER FUNCTION segmentation.list_segments(after text, max_rows integer, search text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.list_segments(after text, max_rows integer, search text) IS 'The living segments by slug, a page at a time: give the last slug seen as after. With search only those whose slug has this in it, in upper or lower case. Example: select * from list_segments(after => ''AVITO_DISCOUNT_30'', max_rows => 10); select * from list_segments(search => ''discount'');';

CREATE FUNCTION segmentation.lock_overrides(user_ids bigint[], segment_ids integer[]) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.lock_overrides(user_ids bigint[], segment_ids integer[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.lock_overrides(user_ids bigint[], segment_ids integer[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.lock_segment(slug text) RETURNS segmentation.segments
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  segment segmentation.segments;
begin
  perform segmentation.limit_waiting();
  loop
    select s.* into segment
    from segmentation.segments as s
    where s.slug = lock_segment.slug collate "C" and s.deleted_at = 'infinity'
    for no key update;
    exit when found;
    -- Not found, or deleted and created anew while we waited for it.
    perform segmentation.segment_id_of(lock_segment.slug);
  end loop;
  perform from segmentation.layers as l where l.layer_id = segment.layer_id for no key update;
  return segment;
end
$$;

ALTER FUNCTION segmentation.lock_segment(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.lock_segment(slug text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.lock_slugs(slugs text[], how text DEFAULT 'shared'::text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  locked bigint;
begin
  perform segmentation.limit_waiting();
  perform segmentation.require_at_most('segments', cardinality(lock_slugs.slugs), 1000);
  loop
    if lock_slugs.how = 'alone' then
      perform
      from segmentation.segments as s
      where s.slug = any (lock_slugs.slugs collate "C") and s.deleted_at = 'infinity'
      order by s.segment_id
      for update;
    elsif lock_slugs.how = 'in turn' then
      perform
      from segmentation.segments as s
      where s.slug = any (lock_slugs.slugs collate "C") and s.deleted_at = 'infinity'
      order by s.segment_id
      for no key update;
    else
      perform
      from segmentation.segments as s
      where s.slug = any (lock_slugs.slugs collate "C") and s.deleted_at = 'infinity'
      order by s.segment_id
      for key share;
    end if;
    get diagnostics locked = row_count;
    -- One that was deleted and created anew while we waited is another row: seen by this statement, not by that.
    exit when locked = (
      select count(*)
      from segmentation.segments as s
      where s.slug = any (lock_slugs.slugs collate "C") and s.deleted_at = 'infinity'
    );
  end loop;
end
$$;

ALTER FUNCTION segmentation.lock_slugs(slugs text[], how text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.lock_slugs(slugs text[], how text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.lock_users(user_ids bigint[]) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  locked bigint;
  registered_at timestamptz;
begin
  loop
    begin
      select count(*), max(known.registered_at) into locked, registered_at
      from (
        select u.registered_at
        from segmentation.in_order(lock_users.user_ids) as asked (user_id)
        join segmentation.users as u on u.user_id = asked.user_id
        order by u.user_id
        for no key update of u
      ) as known;
      exit when locked >= cardinality(lock_users.user_ids);
      raise exception using errcode = 'SG001';
    exception
      when sqlstate 'SG001' then null;
    end;
    perform segmentation.register_users(lock_users.user_ids);
  end loop;
  return registered_at;
end
$$;

ALTER FUNCTION segmentation.lock_users(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.lock_users(user_ids bigint[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.manual(word text DEFAULT NULL::text) RETURNS TABLE(manual text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select
    segmentation.wrapped(f.call) || E'\n'
    || regexp_replace(f.what || ' Role: ' || f.role || '.', '(.{1,70})(\s+|$)', E'    \\1\n', 'g')
    || (
      select string_agg(segmentation.wrapped(e.example), E'\n' order by e.position)
      from unnest(f.examples) with ordinality as e (example, position)
    ) || E'\n'
  from segmentation.functions_for_people() with ordinality as f (function, role, call, what, examples, position)
  where manual.word is null or position(lower(manual.word) in lower(f.function || ' ' || f.what)) > 0
  order by f.position
$_$;

ALTER FUNCTION segmentation.manual(word text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.manual(word text) IS 'What there is to call, by whom, with an example; all of it, or what concerns a word. Example: select * from manual(''report'');';

CREATE FUNCTION segmentation.member(rollout tstzmultirange, overridden tstzmultirange, elsewhere tstzmultirange, assigned tstzmultirange, alive tstzrange) RETURNS tstzmultirange
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select (
      (coalesce(rollout, '{}') - coalesce(overridden, '{}') - coalesce(elsewhere, '{}')) + coalesce(assigned, '{}'))
    * pg_catalog.tstzmultirange(alive)
$$;

ALTER FUNCTION segmentation.member(rollout tstzmultirange, overridden tstzmultirange, elsewhere tstzmultirange, assigned tstzmultirange, alive tstzrange) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.member(rollout tstzmultirange, overridden tstzmultirange, elsewhere tstzmultirange, assigned tstzmultirange, alive tstzrange) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.members_page(segment_id integer, at timestamp with time zone, after bigint, max_rows integer, now timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS bigint[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.members_page(segment_id integer, at timestamp with time zone, after bigint, max_rows integer, now timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.members_page(segment_id integer, at timestamp with time zone, after bigint, max_rows integer, now timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.membership_changes(from_time timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS SETOF segmentation.report_line
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET work_mem TO '64MB'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
declare
  stretch_end timestamptz := segmentation.changes_end(
    membership_changes.from_time, membership_changes.to_time);
  changed bigint[];
begin
  -- A rollout that moves may concern everybody. Otherwise only those are asked about who may have changed.
  if not exists (
    select
    from segmentation.rollouts as r
    where (r.starts_at >= membership_changes.from_time and r.starts_at < stretch_end)
      or (r.ends_at >= membership_changes.from_time and r.ends_at < stretch_end)
  ) then
    changed := array(
      select c.user_id
      from segmentation.changed_users(membership_changes.from_time, stretch_end) as c (user_id)
      limit 20001);
  end if;
  if cardinality(changed) <= 20000 then
    return query
    select e.user_id, s.slug, e.operation, segmentation.rfc3339(e.at)
    from segmentation.membership_events(changed, stretch_end) as e
    join segmentation.segments as s on s.segment_id = e.segment_id
    where e.at >= membership_changes.from_time and e.at < stretch_end
    order by e.at asc, e.user_id asc, s.slug asc, e.operation desc;
  else
    return query
    select l.*
    from segmentation.user_pages() as page
    cross join lateral segmentation.report_page(
      membership_changes.from_time, stretch_end, page.after_id, page.up_to_id, stretch_end) as l
    order by l.at asc, l.user_id asc, l.segment collate "C" asc, l.operation desc;
  end if;
end
$$;

ALTER FUNCTION segmentation.membership_changes(from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.membership_changes(from_time timestamp with time zone, to_time timestamp with time zone) IS 'Who got in or out of which segment, from from_time up to but not at to_time (what is settled), as the rows of the report, by time: expiries and ramps too. Asked again, the same rows, but for users who were forgotten; stretches join without gap or overlap. A to_time that is not settled is an error. Example: select * from membership_changes(now() - interval ''1 hour'', settled_until());';

CREATE FUNCTION segmentation.membership_events(user_ids bigint[], until_time timestamp with time zone) RETURNS TABLE(user_id bigint, segment_id integer, operation text, at timestamp with time zone, cause text, actor text, reason text)
    LANGUAGE sql STABLE
    AS $$
  select e.user_id, e.segment_id, e.operation, e.at, c.cause, c.actor, c.reason
  from (
    select
      b.user_id, b.segment_id, b.operation, b.at, b.place,
      lead(b.cause) over same_moment as cause,
      lead(b.actor) over same_moment as actor,
      lead(b.reason) over same_moment as reason
    from (
      select p.user_id, p.segment_id, m.operation, m.at, 0 as place, null as cause, null as actor, null as reason
      from segmentation.membership_periods(membership_events.user_ids, membership_events.until_time) as p
      cross join lateral unnest(p.member) as period
      cross join lateral (
        values ('add', lower(period)), ('remove', upper(period))
      ) as m (operation, at)
      where m.at <= p.present
      union all
      -- An assignment takes the user in and lets it go; an exclusion takes it out and lets the rollout have it.
      select o.user_id, o.segment_id, m.operation, m.at, m.place, m.cause, m.actor, m.reason
      from segmentation.overrides as o
      cross join lateral (
        values
          (o.included, 'add', o.starts_at, 1, 'assigned', o.actor, o.reason),
          (o.included, 'remove', o.ends_at, 2, o.end_cause, o.end_actor, o.end_reason),
          (not o.included, 'remove', o.starts_at, 1, 'removed', o.actor, o.reason),
          (not o.included, 'add', o.ends_at, 2, 'rollout', o.end_actor, o.end_reason)
      ) as m (applies, operation, at, place, cause, actor, reason)
      where m.applies and o.user_id = any (membership_events.user_ids)
      union all
      -- An assignment elsewhere takes the user out of the rollout, and lets the rollout have it again.
      select a.user_id, a.segment_id, m.operation, m.at, 3, m.cause, m.actor, m.reason
      from segmentation.assignments_elsewhere as a
      cross join lateral (
        values
          ('remove', a.starts_at, 'exclusive', a.actor, a.reason),
          ('add', a.ends_at, 'rollout', a.end_actor, a.end_reason)
      ) as m (operation, at, cause, actor, reason)
      where a.user_id = any (membership_events.user_ids)
    ) as b
    window same_moment as (partition by b.user_id, b.segment_id, b.operation, b.at order by b.place)
  ) as e
  left join lateral (
    select f.cause, f.actor, f.reason
    from (
      select 1 as place, 'segment_deleted' as cause, h.actor, h.reason
      from segmentation.segment_history as h
      where e.operation = 'remove'
        and h.segment_id = e.segment_id and h.operation = 'delete' and h.changed_at = e.at
      union all
      select 2, e.cause, e.actor, e.reason
      where e.cause is not null
      union all
      -- The step in force is the last that has begun; a deleted segment has none.
      (
        select 3, 'rollout', r.actor, r.reason
        from segmentation.rollouts as r
        where r.segment_id = e.segment_id and r.starts_at <= e.at
        order by r.starts_at desc
        limit 1
      )
    ) as f
    order by f.place
    limit 1
  ) as c on true
  where e.place = 0
$$;

ALTER FUNCTION segmentation.membership_events(user_ids bigint[], until_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.membership_events(user_ids bigint[], until_time timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.membership_periods(user_ids bigint[], moment timestamp with time zone) RETURNS TABLE(user_id bigint, segment_id integer, rollout tstzmultirange, overridden tstzmultirange, elsewhere tstzmultirange, assigned tstzmultirange, member tstzmultirange, present timestamp with time zone)
    LANGUAGE sql STABLE
    AS $$
  select
    t.user_id, t.segment_id, t.rollout, t.overridden, t.elsewhere, t.assigned,
    segmentation.member(t.rollout, t.overridden, t.elsewhere, t.assigned, tstzrange(s.created_at, s.deleted_at)),
    greatest(membership_periods.moment, t.decided_at, s.created_at, nullif(s.deleted_at, 'infinity'))
  from (
    select
      p.user_id,
      p.segment_id,
      range_agg(p.period) filter (where p.kind = 'rollout') as rollout,
      range_agg(p.period) filter (where p.kind in ('assignment', 'exclusion')) as overridden,
      range_agg(p.period) filter (where p.kind = 'elsewhere') as elsewhere,
      range_agg(p.period) filter (where p.kind = 'assignment') as assigned,
      max(p.decided_at) as decided_at
    from (
      select
        k.user_id, r.segment_id, 'rollout' as kind,
        tstzrange(greatest(r.starts_at, k.registered_at), r.ends_at) as period,
        greatest(r.decided_at, k.registered_at) as decided_at
      from (
        select asked.user_id, coalesce(u.registered_at, membership_periods.moment) as registered_at
        from unnest(membership_periods.user_ids) as asked (user_id)
        left join segmentation.users as u on u.user_id = asked.user_id
      ) as k
      join segmentation.rollouts as r
        on r.ends_at > k.registered_at
        and segmentation.holds(r.buckets, r.threshold, segmentation.bucket(k.user_id, r.salt))
      union all
      select e.user_id, e.segment_id, 'elsewhere', tstzrange(e.starts_at, e.ends_at), e.decided_at
      from segmentation.assignments_elsewhere as e
      where e.user_id = any (membership_periods.user_ids)
      union all
      select
        o.user_id, o.segment_id, case when o.included then 'assignment' else 'exclusion' end,
        tstzrange(o.starts_at, o.ends_at),
        o.decided_at
      from segmentation.overrides as o
      where o.user_id = any (membership_periods.user_ids)
    ) as p
    group by p.user_id, p.segment_id
  ) as t
  join segmentation.segments as s on s.segment_id = t.segment_id
$$;

ALTER FUNCTION segmentation.membership_periods(user_ids bigint[], moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.membership_periods(user_ids bigint[], moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.memberships_after_delete() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moment timestamptz := segmentation.moment_of_change();
  earliest timestamptz := segmentation.announce_writer();
begin
  perform segmentation.ensure_history_of_ends(
    array(select distinct date_trunc('month', least(o.ends_at, greatest(moment, earliest)), 'UTC') from old_rows as o),
    array(select distinct o.segment_id from old_rows as o));
  insert into segmentation.membership_history
  select c.*
  from old_rows as o
  cross join lateral segmentation.closed_override(
    row(o.*)::segmentation.memberships, 'infinity', moment, earliest) as c;
  return null;
end
$$;

ALTER FUNCTION segmentation.memberships_after_delete() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.memberships_after_delete() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.memberships_after_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  earliest timestamptz := segmentation.announce_writer();
  added record;
  wrong record;
begin
  -- One pass over what may be a million rows; only what is wrong is looked for again.
  for added in
    select
      d.segment_id, d.starts_at, s.segment_id is not null as living,
      (d.layer_id is not distinct from s.layer_id) as in_its_layer
    from (
      select n.segment_id, n.layer_id, min(n.starts_at) as starts_at
      from new_rows as n
      group by n.segment_id, n.layer_id
    ) as d
    left join segmentation.segments as s on s.segment_id = d.segment_id and s.deleted_at = 'infinity'
  loop
    if not added.living then
      raise exception 'no living segment has segment_id %', added.segment_id
        using
          errcode = 'foreign_key_violation',
          detail = json_build_object('segment_id', added.segment_id),
          hint = 'Look it up in segmentation.segments, or call change_user_segments with its slug.';
    end if;
    if not added.in_its_layer then
      raise exception 'segment_id % is not in the layer that the row names', added.segment_id
        using
          errcode = 'foreign_key_violation',
          detail = json_build_object('segment_id', added.segment_id),
          hint = 'Leave layer_id out, or call change_user_segments.';
    end if;
    if added.starts_at < earliest then
      select n.user_id, n.starts_at into wrong
      from new_rows as n
      where n.starts_at < earliest
      limit 1;
      raise exception 'user % cannot be overridden from % on', wrong.user_id, wrong.starts_at
        using
          errcode = segmentation.settled_errcode(),
          detail = json_build_object('user_id', wrong.user_id, 'starts_at', wrong.starts_at),
          hint = 'The past is settled. Leave starts_at out to start now, or give a moment to come.';
    end if;
  end loop;
  -- The functions have registered and locked their users.
  if current_user <> 'segmentation_owner' then
    perform segmentation.register_users(array(select distinct n.user_id from new_rows as n));
  end if;
  return null;
end
$$;

ALTER FUNCTION segmentation.memberships_after_insert() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.memberships_after_insert() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.memberships_after_update() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  wrong record;
  moment timestamptz := segmentation.clock();
  earliest timestamptz := segmentation.announce_writer();
begin
  select coalesce(o.user_id, n.user_id) as user_id into wrong
  from old_rows as o
  full join new_rows as n on n.user_id = o.user_id and n.segment_id = o.segment_id
  where o.user_id is null or n.user_id is null
    or case
      when (n.included, n.starts_at) is distinct from (o.included, o.starts_at) then
        n.starts_at < greatest(earliest, case when o.starts_at <= o.decided_at then o.starts_at end)
      else (o.starts_at <= greatest(moment, o.decided_at) and (n.actor, n.reason) is distinct from (o.actor, o.reason))
        or n.ends_at < least(o.ends_at, earliest)
        or (o.ends_at < earliest and n.ends_at <> o.ends_at)
    end
  limit 1;
  if found then
    raise exception 'the past of user % cannot be changed', wrong.user_id
      using
        errcode = segmentation.settled_errcode(),
        detail = json_build_object('user_id', wrong.user_id),
        hint = 'User, segment, start and actor of an override are settled, and its end is not before now. Call change_user_segments.';
  end if;
  perform segmentation.ensure_history_of_ends(
    array(select distinct date_trunc('month', least(o.ends_at, greatest(moment, earliest)), 'UTC') from old_rows as o),
    array(select distinct o.segment_id from old_rows as o));
  -- A full join, behind a fence: PostgreSQL merges or hashes it. It plans a trigger's statement for as many rows as
  -- were there at its first call, and an inner join of one row would compare each with each.
  insert into segmentation.membership_history
  select c.*
  from (
    select row(o.*)::segmentation.memberships as override, n.starts_at as next_start, n.decided_at
    from old_rows as o
    full join new_rows as n on n.user_id = o.user_id and n.segment_id = o.segment_id
    where (n.included, n.starts_at) is distinct from (o.included, o.starts_at)
    offset 0
  ) as r
  cross join lateral segmentation.closed_override(
    r.override, r.next_start,
    greatest(moment, case when r.next_start <= r.decided_at then r.next_start end), earliest) as c;
  return null;
end
$$;

ALTER FUNCTION segmentation.memberships_after_update() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.memberships_after_update() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.memberships_name_the_login() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moment timestamptz := segmentation.stamp(null);
begin
  if tg_op = 'INSERT' or (new.included, new.starts_at) is distinct from (old.included, old.starts_at) then
    new.actor := session_user;
    if tg_op = 'UPDATE' and new.reason is not distinct from old.reason then
      new.reason := null;
    end if;
    new.reason := coalesce(new.reason, segmentation.actor_reason());
    new.decided_at := moment;
  end if;
  if tg_op = 'INSERT' or new.ends_at <> old.ends_at then
    new.end_actor := case when new.ends_at < 'infinity' then session_user end;
    new.end_reason := case when new.ends_at < 'infinity' then segmentation.actor_reason() end;
  else
    new.end_actor := old.end_actor;
    new.end_reason := old.end_reason;
  end if;
  if tg_op = 'UPDATE' then
    new.decided_at := greatest(old.decided_at, moment);
  end if;
  new.layer_id := (select s.layer_id from segmentation.segments as s where s.segment_id = new.segment_id);
  return new;
end
$$;

ALTER FUNCTION segmentation.memberships_name_the_login() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.memberships_name_the_login() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.microseconds(moment timestamp with time zone) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ select (extract(epoch from moment) * 1000000)::bigint $$;

ALTER FUNCTION segmentation.microseconds(moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.microseconds(moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.mismatch_p_value(observed bigint[], planned numeric[], users bigint) RETURNS double precision
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.mismatch_p_value(observed bigint[], planned numeric[], users bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.mismatch_p_value(observed bigint[], planned numeric[], users bigint) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.moment_of_change() RETURNS timestamp with time zone
    LANGUAGE sql
    AS $$
  select coalesce(
    case when current_user = 'segmentation_owner' then
      nullif(pg_catalog.current_setting('segmentation.moment', true), '')::timestamptz
    end,
    segmentation.clock())
$$;

ALTER FUNCTION segmentation.moment_of_change() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.moment_of_change() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.month_start(period text) RETURNS timestamp with time zone
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  if (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$' and period >= '0001-01') is not true then
    raise exception 'period % is not a month', coalesce('"' || period || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('period', period),
        hint = 'Write a month as in 2026-11; months are UTC.';
  end if;
  return (period || '-01 00:00:00+00')::timestamptz;
end
$_$;

ALTER FUNCTION segmentation.month_start(period text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.month_start(period text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.most_stretches() RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select 16 $$;

ALTER FUNCTION segmentation.most_stretches() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.most_stretches() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.note_upkeep(task text, rows bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if note_upkeep.task is null or note_upkeep.rows is null then
    raise exception 'task and rows are both needed'
      using errcode = 'invalid_parameter_value', hint = 'Say what ended, and how many rows it moved.';
  end if;
  insert into segmentation.upkeep as u (task, finished_at, rows)
  values (note_upkeep.task, segmentation.clock(), note_upkeep.rows)
  on conflict on constraint upkeep_pkey do update set finished_at = excluded.finished_at, rows = excluded.rows;
end
$$;

ALTER FUNCTION segmentation.note_upkeep(task text, rows bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.note_upkeep(task text, rows bigint) IS 'For the service: note that a task of the upkeep ended well, and how many rows it moved; service_status() shows it. Example: select note_upkeep(''sweep'', 0);';

CREATE FUNCTION segmentation.ofrep_evaluation(slug text, value json, variant text, percent numeric, source text, by_hand boolean, since timestamp with time zone, until timestamp with time zone) RETURNS json
    LANGUAGE sql STABLE
    AS $$
  select pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
    'key', ofrep_evaluation.slug,
    'value', ofrep_evaluation.value,
    'variant', ofrep_evaluation.variant,
    'reason', case
      when ofrep_evaluation.by_hand then 'TARGETING_MATCH'
      when ofrep_evaluation.percent = 100 then 'STATIC'
      else 'SPLIT'
    end,
    'metadata', pg_catalog.json_build_object(
      'source', ofrep_evaluation.source,
      'since', segmentation.rfc3339(ofrep_evaluation.since),
      'until', segmentation.rfc3339(ofrep_evaluation.until))))
$$;

ALTER FUNCTION segmentation.ofrep_evaluation(slug text, value json, variant text, percent numeric, source text, by_hand boolean, since timestamp with time zone, until timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ofrep_evaluation(slug text, value json, variant text, percent numeric, source text, by_hand boolean, since timestamp with time zone, until timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.ofrep_evaluations(user_id bigint, slugs text[]) RETURNS TABLE(slug text, evaluation json)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  moment timestamptz := segmentation.clock();
  member_of text[];
  is_known boolean;
begin
  select c.segments, c.known into member_of, is_known
  from segmentation.current_segments(array[ofrep_evaluations.user_id], moment) as c;
  if not is_known then
    perform segmentation.register_unknown_users(array[ofrep_evaluations.user_id]);
  end if;
  return query
  with segment_flags as materialized (
    select
      s.slug, s.layer_id, s.slug = any (member_of) as member, r.percent,
      -- Here, or elsewhere in the layer.
      num_nonnulls(m.user_id, e.user_id) > 0 as by_hand,
      segmentation.source(m.included, not m.included, s.slug = any (member_of), e.user_id is not null) as source,
      coalesce(m.starts_at, e.starts_at, r.starts_at) as since,
      case
        when m.user_id is not null then m.ends_at
        when e.user_id is not null then e.ends_at
        else r.ends_at
      end as until
    from segmentation.segments as s
    left join segmentation.memberships as m
      on m.user_id = ofrep_evaluations.user_id and m.segment_id = s.segment_id
      and segmentation.in_force(m.starts_at, m.ends_at, moment, m.decided_at)
    left join lateral (
      select e.user_id, e.starts_at, e.ends_at
      from segmentation.memberships as e
      join segmentation.segments as other on other.segment_id = e.segment_id and other.deleted_at = 'infinity'
      where e.user_id = ofrep_evaluations.user_id and e.layer_id = s.layer_id and e.included
        and e.segment_id <> s.segment_id
        and segmentation.in_force(e.starts_at, e.ends_at, moment, e.decided_at)
    ) as e on true
    left join segmentation.rollouts as r
      on r.segment_id = s.segment_id and segmentation.in_force(r.starts_at, r.ends_at, moment, r.decided_at)
    where s.deleted_at = 'infinity'
      and (
        s.slug = any (ofrep_evaluations.slugs)
        or s.layer_id in (
          select l.layer_id
          from segmentation.layers as l
          where l.deleted_at = 'infinity' and l.slug = any (ofrep_evaluations.slugs)
        )
      )
  )
  select
    f.slug,
    segmentation.ofrep_evaluation(
      f.slug, to_json(f.member), case when f.member then 'in' else 'out' end,
      f.percent, f.source, f.by_hand, f.since, f.until)
  from segment_flags as f
  where f.slug = any (ofrep_evaluations.slugs)
  union all
  select
    l.slug,
    segmentation.ofrep_evaluation(
      l.slug, to_json(coalesce(f.slug, 'off')), coalesce(f.slug, 'off'),
      f.percent, coalesce(f.source, 'none'), f.by_hand, f.since, f.until)
  from segmentation.layers as l
  left join segment_flags as f on f.layer_id = l.layer_id and f.member
  where l.deleted_at = 'infinity' and l.slug = any (ofrep_evaluations.slugs);
end
$$;

ALTER FUNCTION segmentation.ofrep_evaluations(user_id bigint, slugs text[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ofrep_evaluations(user_id bigint, slugs text[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.ofrep_flag(user_id bigint, slug text) RETURNS json
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not exists (
    select from segmentation.layers as l
    where l.slug = ofrep_flag.slug collate "C" and l.deleted_at = 'infinity'
  ) then
    -- Raises where there is none.
    perform segmentation.segment_id_of(ofrep_flag.slug);
  end if;
  return (
    select e.evaluation
    from segmentation.ofrep_evaluations(ofrep_flag.user_id, array[ofrep_flag.slug]) as e
  );
end
$$;

ALTER FUNCTION segmentation.ofrep_flag(user_id bigint, slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ofrep_flag(user_id bigint, slug text) IS 'For the service: POST /ofrep/v1/evaluate/flags/{key}: whether a user is in a segment right now, or in which segment of a layer, as OFREP says it. Example: select ofrep_flag(1000, ''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.ofrep_flags(user_id bigint, slugs text[] DEFAULT NULL::text[]) RETURNS json
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  asked text[] := coalesce(
    ofrep_flags.slugs,
    array(
      select s.slug from segmentation.segments as s where s.deleted_at = 'infinity'
      union all
      select l.slug from segmentation.layers as l where l.deleted_at = 'infinity'
    ));
begin
  if cardinality(ofrep_flags.slugs) > 0 then
    perform segmentation.require_at_most('flags', cardinality(ofrep_flags.slugs), 1000);
  end if;
  return (
    select json_build_object('flags', coalesce(
      json_agg(
        coalesce(
          e.evaluation,
          json_build_object(
            'key', a.slug, 'errorCode', 'FLAG_NOT_FOUND',
            'errorDetails', 'no segment or layer has the slug "' || a.slug || '"'))
        order by a.slug),
      '[]'))
    from (select distinct given.slug collate "C" from unnest(asked) as given (slug)) as a (slug)
    left join segmentation.ofrep_evaluations(ofrep_flags.user_id, asked) as e on e.slug = a.slug
  );
end
$$;

ALTER FUNCTION segmentation.ofrep_flags(user_id bigint, slugs text[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ofrep_flags(user_id bigint, slugs text[]) IS 'For the service: POST /ofrep/v1/evaluate/flags: every segment as a boolean flag of a user right now and every layer as a string flag, or those named, by slug. Example: select ofrep_flags(1000); select ofrep_flags(1000, array[''AVITO_VOICE_MESSAGES'']);';

CREATE FUNCTION segmentation.oldest_unswept(moment timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select least(
    (
      select min(m.ends_at)
      from segmentation.memberships as m
      where m.ends_at <= oldest_unswept.moment and m.ends_at < 'infinity'
    ),
    (select min(s.deleted_at) from segmentation.segments as s where s.deleted_at < 'infinity' and not s.swept))
$$;

ALTER FUNCTION segmentation.oldest_unswept(moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.oldest_unswept(moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.open_report_link(id_digest bytea) RETURNS TABLE(actor text, role text, period text, user_id bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moment timestamptz := segmentation.clock();
begin
  return query
  select l.actor, coalesce(k.role, 'editor'), l.period, l.user_id
  from segmentation.report_links as l
  left join segmentation.api_keys as k on k.name = l.actor
  where l.id_digest = open_report_link.id_digest and moment < l.expires_at
    and (k.name is null or segmentation.key_is_alive(k.revoked_at, k.expires_at, moment));
  if not found then
    raise exception 'this report link is unknown or has expired'
      using errcode = 'no_data_found', hint = 'Ask for a new one: POST /v1/reports.';
  end if;
end
$$;

ALTER FUNCTION segmentation.open_report_link(id_digest bytea) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.open_report_link(id_digest bytea) IS 'For the service: whose link this is, and which report it opens. Example: select * from open_report_link(sha256(''…''));';

CREATE FUNCTION segmentation.other_segments_of_layer(segment_id integer, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS integer[]
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select array(
    select other.segment_id
    from segmentation.segments as s
    join segmentation.segments as other on other.layer_id = s.layer_id and other.segment_id <> s.segment_id
    where s.segment_id = other_segments_of_layer.segment_id
      and case
        when other_segments_of_layer.at is null then other.deleted_at = 'infinity'
        else segmentation.in_force(other.created_at, other.deleted_at, other_segments_of_layer.at)
      end
  )
$$;

ALTER FUNCTION segmentation.other_segments_of_layer(segment_id integer, at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.other_segments_of_layer(segment_id integer, at timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.override_change(wanted boolean, state text, rolled_out boolean, planning boolean, same_start boolean, same_end boolean) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
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

ALTER FUNCTION segmentation.override_change(wanted boolean, state text, rolled_out boolean, planning boolean, same_start boolean, same_end boolean) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.override_change(wanted boolean, state text, rolled_out boolean, planning boolean, same_start boolean, same_end boolean) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.override_lines(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone, after_id bigint, up_to_id bigint) RETURNS TABLE(user_id bigint, at timestamp with time zone, slug text, segment_id integer, operation text)
    LANGUAGE sql STABLE
    AS $$
  with changed as materialized (
    select
      o.user_id, o.segment_id, case when o.included then 'assignment' else 'exclusion' end as kind,
      o.starts_at, o.ends_at, o.decided_at
    from segmentation.overrides as o
    join segmentation.segments as s on s.segment_id = o.segment_id
    where o.user_id > override_lines.after_id and o.user_id <= override_lines.up_to_id
      and o.starts_at <= override_lines.to_time and o.ends_at >= override_lines.from_time
      and (o.starts_at >= override_lines.from_time or least(o.ends_at, s.deleted_at) <= override_lines.to_time)
  ),
  concerned as materialized (
    select c.* from changed as c
    union all
    select e.user_id, e.segment_id, 'elsewhere', e.starts_at, e.ends_at, e.decided_at
    from segmentation.assignments_elsewhere as e
    where e.user_id > override_lines.after_id and e.user_id <= override_lines.up_to_id
      and e.starts_at <= override_lines.to_time and e.ends_at >= override_lines.from_time
      and (
        (e.user_id, e.segment_id) in (select c.user_id, c.segment_id from changed as c)
        or (
          (e.starts_at >= override_lines.from_time or e.ends_at <= override_lines.to_time)
          and not exists (
            select
            from segmentation.overrides as o
            where o.user_id = e.user_id and o.segment_id = e.segment_id
              and o.starts_at < override_lines.from_time and o.ends_at > override_lines.to_time
          )
        )
      )
  )
  select t.user_id, b.at, s.slug, t.segment_id, b.operation
  from (
    select
      p.user_id, p.segment_id,
      range_agg(tstzrange(p.starts_at, p.ends_at)) filter (where p.kind = 'rollout') as rollout,
      range_agg(tstzrange(p.starts_at, p.ends_at)) filter (where p.kind in ('assignment', 'exclusion')) as overridden,
      range_agg(tstzrange(p.starts_at, p.ends_at)) filter (where p.kind = 'elsewhere') as elsewhere,
      range_agg(tstzrange(p.starts_at, p.ends_at)) filter (where p.kind = 'assignment') as assigned,
      max(p.decided_at) as decided_at
    from (
      select c.user_id, c.segment_id, c.kind, c.starts_at, c.ends_at, c.decided_at
      from concerned as c
      union all
      select
        c.user_id, c.segment_id, 'rollout', greatest(r.starts_at, u.registered_at), r.ends_at,
        greatest(r.decided_at, u.registered_at)
      from concerned as c
      join segmentation.rollouts as r
        on r.segment_id = c.segment_id
        and segmentation.holds(r.buckets, r.threshold, segmentation.bucket(c.user_id, r.salt))
      cross join lateral (
        select k.registered_at from segmentation.users as k where k.user_id = c.user_id offset 0
      ) as u
      where u.registered_at < r.ends_at
    ) as p
    group by p.user_id, p.segment_id
  ) as t
  join segmentation.segments as s on s.segment_id = t.segment_id
  cross join lateral unnest(
    segmentation.member(t.rollout, t.overridden, t.elsewhere, t.assigned, tstzrange(s.created_at, s.deleted_at))
  ) as period
  cross join lateral (
    select 'add', lower(period)
    union all
    select 'remove', upper(period)
  ) as b (operation, at)
  where b.at >= override_lines.from_time and b.at < override_lines.to_time
    and b.at <= greatest(override_lines.now, t.decided_at, s.created_at, nullif(s.deleted_at, 'infinity'))
  order by t.user_id, b.at, s.slug, t.segment_id
$$;

ALTER FUNCTION segmentation.override_lines(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone, after_id bigint, up_to_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.override_lines(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone, after_id bigint, up_to_id bigint) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.override_state(override segmentation.memberships, moment timestamp with time zone) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select case
    when segmentation.in_force((override).starts_at, (override).ends_at, moment)
      then case when (override).included then 'assigned' else 'excluded' end
    when (override).included and (override).starts_at > moment then 'planned'
    else 'none'
  end
$$;

ALTER FUNCTION segmentation.override_state(override segmentation.memberships, moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.override_state(override segmentation.memberships, moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.period_rows(slug text, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(user_id bigint, source text, since text, until text)
    LANGUAGE sql STABLE
    AS $$
  select p.user_id, p.source, segmentation.rfc3339(p.since), segmentation.rfc3339(p.until)
  from segmentation.periods_window(period_rows.slug, period_rows.from_time, period_rows.to_time) as in_window
  cross join segmentation.user_pages() as page
  cross join lateral segmentation.periods_page(period_rows.slug, in_window, page.after_id, page.up_to_id) as p
$$;

ALTER FUNCTION segmentation.period_rows(slug text, from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.period_rows(slug text, from_time timestamp with time zone, to_time timestamp with time zone) IS 'For the service: segment_periods, page by page. Example: select * from period_rows(''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.periods_page(slug text, in_window tstzrange, after_id bigint, up_to_id bigint) RETURNS TABLE(user_id bigint, source text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    AS $$
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

ALTER FUNCTION segmentation.periods_page(slug text, in_window tstzrange, after_id bigint, up_to_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.periods_page(slug text, in_window tstzrange, after_id bigint, up_to_id bigint) IS 'For the service: one page of segment_periods. Example: select * from periods_page(''AVITO_VOICE_MESSAGES'', tstzrange(now() - interval ''7 days'', now()), 0, 5000);';

CREATE FUNCTION segmentation.periods_window(slug text, from_time timestamp with time zone, to_time timestamp with time zone) RETURNS tstzrange
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.periods_window(slug text, from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.periods_window(slug text, from_time timestamp with time zone, to_time timestamp with time zone) IS 'For the service: the window that segment_periods tells of. Example: select periods_window(''AVITO_VOICE_MESSAGES'', now() - interval ''7 days'', now());';

CREATE FUNCTION segmentation.place_in_layer(user_id bigint, layer_id integer, segment_ids integer[], moment timestamp with time zone) RETURNS integer
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return coalesce((
    select array_position(place_in_layer.segment_ids, r.segment_id)
    from segmentation.rollouts as r
    where r.layer_id = place_in_layer.layer_id
      and segmentation.in_force(r.starts_at, r.ends_at, place_in_layer.moment, r.decided_at)
      and segmentation.holds(r.buckets, r.threshold, segmentation.bucket(place_in_layer.user_id, r.salt))
    limit 1
  ), 0);
end
$$;

ALTER FUNCTION segmentation.place_in_layer(user_id bigint, layer_id integer, segment_ids integer[], moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.place_in_layer(user_id bigint, layer_id integer, segment_ids integer[], moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.purge_expired() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  purged bigint;
begin
  with links as (
    delete from segmentation.report_links as l where l.expires_at <= segmentation.clock() returning 1
  ),
  answers as (
    delete from segmentation.idempotency_keys as i
    where i.created_at <= segmentation.answers_kept_since()
    returning 1
  )
  select (select count(*) from links) + (select count(*) from answers) into purged;
  perform segmentation.drop_retired_partitions();
  perform segmentation.renew_layer_cells();
  perform segmentation.note_upkeep('purge', purged);
  return purged;
end
$$;

ALTER FUNCTION segmentation.purge_expired() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.purge_expired() IS 'Delete report links that have expired and answers kept for a day; returns how many. Drops months of the history that drop_history_before could not drop, and renews what the hot read knows of layers. Example: select purge_expired();';

CREATE FUNCTION segmentation.random_buckets(buckets int4multirange, number integer, held int4multirange) RETURNS int4multirange
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return (
    select coalesce(
      range_agg(int4range(p.first, p.first + least(p.size, random_buckets.number - p.taken_before)::integer))
        filter (where p.taken_before < random_buckets.number),
      '{}')
    from (
      select
        c.first, c.size,
        coalesce(
          sum(c.size) over (order by c.rank, c.place rows between unbounded preceding and 1 preceding), 0)
          as taken_before
      from (
        select
          greatest(lower(run), cell * 100) as first,
          least(upper(run), cell * 100 + 100) - greatest(lower(run), cell * 100) as size,
          case
            when int4range(cell * 100, cell * 100 + 100) <@ run then 2
            when int4range(cell * 100, cell * 100 + 100) && random_buckets.held then 1
            else 3
          end as rank,
          random() as place
        from unnest(random_buckets.buckets) as run
        cross join lateral generate_series(lower(run) / 100, (upper(run) - 1) / 100) as cell
      ) as c
    ) as p
  );
end
$$;

ALTER FUNCTION segmentation.random_buckets(buckets int4multirange, number integer, held int4multirange) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.random_buckets(buckets int4multirange, number integer, held int4multirange) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.random_secret() RETURNS text
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select encode(
    sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')),
    'hex')
$$;

ALTER FUNCTION segmentation.random_secret() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.random_secret() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.refuse_assigned_elsewhere(segments text[], users bigint, user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.refuse_assigned_elsewhere(segments text[], users bigint, user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.refuse_assigned_elsewhere(segments text[], users bigint, user_ids bigint[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.refuse_full_layer(layer_ids integer[], segment_ids integer[], since timestamp with time zone) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  asked record;
begin
  with steps as (
    select r.*
    from segmentation.rollouts as r
    where r.layer_id = any (refuse_full_layer.layer_ids) and r.ends_at > refuse_full_layer.since
  ),
  sums as (
    select c.layer_id, c.at, sum(c.change) over (partition by c.layer_id order by c.at) as threshold
    from (
      select s.layer_id, s.starts_at as at, s.threshold as change from steps as s
      union all
      select s.layer_id, s.ends_at, -s.threshold from steps as s
    ) as c
  )
  select
    s.segment_id, s.layer_id, s.starts_at, s.ends_at, trim_scale(s.percent) as percent,
    trim_scale((100000 - max(m.threshold) + s.threshold) / 1000.0) as free
  into asked
  from steps as s
  join sums as m on m.layer_id = s.layer_id and m.at >= s.starts_at and m.at < s.ends_at and m.threshold > 100000
  where s.segment_id = any (refuse_full_layer.segment_ids)
  group by s.segment_id, s.layer_id, s.starts_at, s.ends_at, s.percent, s.threshold
  order by s.starts_at, s.segment_id
  limit 1;
  if not found then
    return;
  end if;
  raise exception 'segment "%" asks for % %% of layer "%" from % on, where % %% are free for it',
    (select s.slug from segmentation.segments as s where s.segment_id = asked.segment_id),
    asked.percent,
    (select l.slug from segmentation.layers as l where l.layer_id = asked.layer_id),
    segmentation.rfc3339(asked.starts_at),
    asked.free
    using
      errcode = 'object_not_in_prerequisite_state',
      detail = (
        select json_build_object(
          'code', 'layer_full',
          'layer', (select l.slug from segmentation.layers as l where l.layer_id = asked.layer_id),
          'free_percent', asked.free,
          'asked_percent', asked.percent,
          'held', coalesce(json_agg(h order by h.segment, h.starts_at), '[]'))
        from (
          select
            s.slug as segment, trim_scale(r.percent) as percent,
            segmentation.rfc3339(r.starts_at) as starts_at, segmentation.rfc3339(r.ends_at) as ends_at
          from segmentation.rollouts as r
          join segmentation.segments as s on s.segment_id = r.segment_id
          where r.layer_id = asked.layer_id and r.segment_id <> asked.segment_id and r.percent > 0
            and r.starts_at < asked.ends_at and r.ends_at > asked.starts_at
        ) as h
      ),
      hint = 'Ask for less; or lower, cancel or delete what the other segments hold: select * from get_layer(slug), or GET /v1/layers/{slug}.';
end
$$;

ALTER FUNCTION segmentation.refuse_full_layer(layer_ids integer[], segment_ids integer[], since timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.refuse_full_layer(layer_ids integer[], segment_ids integer[], since timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.refuse_history_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  -- forget_user runs as the owner; a setting alone opens nothing.
  if tg_op = 'DELETE'
    and current_user = 'segmentation_owner'
    and current_setting('segmentation.forgetting', true) <> ''
  then
    return null;
  end if;
  raise exception '% refuses %: the past is settled', tg_table_name, lower(tg_op)
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'To erase a person call forget_user(user_id); to drop old months call drop_history_before(period).';
end
$$;

ALTER FUNCTION segmentation.refuse_history_change() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.refuse_history_change() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.refuse_history_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  -- 1 is this trigger alone; the triggers that keep the history make it 2.
  if pg_trigger_depth() > 1 then
    return null;
  end if;
  raise exception '% refuses insert: only triggers write it', tg_table_name
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'What happens is recorded by itself. What has happened elsewhere cannot be told afterwards.';
end
$$;

ALTER FUNCTION segmentation.refuse_history_insert() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.refuse_history_insert() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.refuse_past_step(segment_id integer, starts_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if refuse_past_step.starts_at < segmentation.settled_before(refuse_past_step.segment_id) then
    raise exception 'the rollout step of % of segment_id % has begun',
      refuse_past_step.starts_at, refuse_past_step.segment_id
      using
        errcode = segmentation.settled_errcode(),
        detail = json_build_object(
          'segment_id', refuse_past_step.segment_id, 'starts_at', refuse_past_step.starts_at),
        hint = 'The past is settled. To change the present call set_rollout(slug, percent): it begins a new step.';
  end if;
end
$$;

ALTER FUNCTION segmentation.refuse_past_step(segment_id integer, starts_at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.refuse_past_step(segment_id integer, starts_at timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.refuse_plain_dml() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception '% refuses plain %: it decides what the past looks like', tg_table_name, lower(tg_op)
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = case tg_table_name
        when 'users' then 'Call register_users(user_ids) or forget_user(user_id).'
        when 'layer_cells' then 'Its rows follow from rollouts: call set_rollout(slug, percent).'
        else 'Call drop_history_before(period).'
      end;
end
$$;

ALTER FUNCTION segmentation.refuse_plain_dml() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.refuse_plain_dml() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.refuse_plans_for_excluded_users(user_ids bigint[], segment_ids integer[], moment timestamp with time zone) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.refuse_plans_for_excluded_users(user_ids bigint[], segment_ids integer[], moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.refuse_plans_for_excluded_users(user_ids bigint[], segment_ids integer[], moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.refuse_truncate() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception '% refuses truncate: it would leave no history', tg_table_name
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'DELETE is recorded row by row; use that.';
end
$$;

ALTER FUNCTION segmentation.refuse_truncate() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.refuse_truncate() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.register_unknown_users(user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '20ms'
    AS $$
begin
  perform segmentation.require_user_ids(register_unknown_users.user_ids);
  if current_setting('transaction_read_only') = 'off' then
    perform segmentation.register_users(register_unknown_users.user_ids);
  end if;
exception
  when lock_not_available then null;
end
$$;

ALTER FUNCTION segmentation.register_unknown_users(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.register_unknown_users(user_ids bigint[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.register_users(user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_user_ids(register_users.user_ids);
  insert into segmentation.users (user_id)
  select distinct asked.user_id
  from segmentation.in_order(register_users.user_ids) as asked (user_id)
  where not exists (select from segmentation.users as u where u.user_id = asked.user_id)
  order by asked.user_id
  on conflict (user_id) do nothing;
end
$$;

ALTER FUNCTION segmentation.register_users(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.register_users(user_ids bigint[]) IS 'Make users known: rollouts hold them from now on. Known ones stay as they are. Example: select register_users(array[1000, 1002]);';

CREATE FUNCTION segmentation.renew_layer_cells() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moment timestamptz := segmentation.clock();
  renewed integer;
begin
  for renewed in
    select l.layer_id
    from segmentation.layers as l
    where l.layer_id in (
      select c.layer_id
      from segmentation.layer_cells as c
      group by c.layer_id
      having (count(*) = segmentation.most_stretches() and count(*) filter (where c.ends_at <= moment) > 4)
        or bool_or(
          c.starts_at <= moment and moment < c.ends_at and c.cells = segmentation.cells_to_ask())
    )
    for no key update skip locked
  loop
    perform segmentation.derive_layer_cells(renewed);
  end loop;
end
$$;

ALTER FUNCTION segmentation.renew_layer_cells() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.renew_layer_cells() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.replace_assignments(slug text, segment_id integer, user_ids bigint[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) RETURNS TABLE(added bigint, removed bigint, rescheduled bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.replace_assignments(slug text, segment_id integer, user_ids bigint[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.replace_assignments(slug text, segment_id integer, user_ids bigint[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.report_lines(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint, now timestamp with time zone DEFAULT 'infinity'::timestamp with time zone) RETURNS SETOF segmentation.report_line
    LANGUAGE sql STABLE
    AS $$
  select l.user_id, l.slug, l.operation, l.at_text
  from (
    select r.user_id, r.at, r.segment_id, r.slug, r.operation, r.at_text
    from segmentation.rollout_lines(
      report_lines.from_time, report_lines.to_time, report_lines.now,
      report_lines.after_id, report_lines.up_to_id) as r
    union all
    select o.user_id, o.at, o.segment_id, o.slug, o.operation, segmentation.rfc3339(o.at)
    from segmentation.override_lines(
      report_lines.from_time, report_lines.to_time, report_lines.now,
      report_lines.after_id, report_lines.up_to_id) as o
  ) as l
  -- A column of a function has lost the collation of its table.
  order by l.user_id, l.at, l.slug collate "C", l.segment_id
$$;

ALTER FUNCTION segmentation.report_lines(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint, now timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.report_lines(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint, now timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.report_page(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint, now timestamp with time zone DEFAULT 'infinity'::timestamp with time zone) RETURNS SETOF segmentation.report_line
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET work_mem TO '64MB'
    AS $$
begin
  return query
  select * from segmentation.report_lines(
    report_page.from_time, report_page.to_time, report_page.after_id, report_page.up_to_id, report_page.now);
end
$$;

ALTER FUNCTION segmentation.report_page(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint, now timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.report_page(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint, now timestamp with time zone) IS 'For the service: one page of a report, see report_pages. Example: select * from report_page(''2026-11-01Z'', ''2026-12-01Z'', 0, 5000);';

CREATE FUNCTION segmentation.report_pages(period text, user_id bigint) RETURNS TABLE(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone, after_id bigint, up_to_id bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  from_time := segmentation.require_reportable(report_pages.period);
  if report_pages.user_id is not null then
    perform segmentation.register_unknown_users(array[report_pages.user_id]);
  end if;
  to_time := ((from_time at time zone 'UTC') + interval '1 month') at time zone 'UTC';
  -- One moment for all pages.
  now := segmentation.clock();
  if report_pages.user_id is not null then
    after_id := report_pages.user_id - 1;
    up_to_id := report_pages.user_id;
    return next;
    return;
  end if;
  return query
  select report_pages.from_time, report_pages.to_time, report_pages.now, page.after_id, page.up_to_id
  from segmentation.user_pages() as page;
end
$$;

ALTER FUNCTION segmentation.report_pages(period text, user_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.report_pages(period text, user_id bigint) IS 'For the service: the pages of a report. Example: select * from report_pages(''2026-11'', null);';

CREATE FUNCTION segmentation.report_rows(period text, user_id bigint DEFAULT NULL::bigint) RETURNS SETOF segmentation.report_line
    LANGUAGE sql STABLE
    AS $$
  select line.*
  from segmentation.report_pages(report_rows.period, report_rows.user_id) as page
  cross join lateral segmentation.report_page(
    page.from_time, page.to_time, page.after_id, page.up_to_id, page.now) as line
$$;

ALTER FUNCTION segmentation.report_rows(period text, user_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.report_rows(period text, user_id bigint) IS 'For the service: history_report, page by page. Example: select * from report_rows(''2026-11'');';

CREATE FUNCTION segmentation.reported_users(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) RETURNS TABLE(user_id bigint, registered_at timestamp with time zone, overridden integer[])
    LANGUAGE sql STABLE
    AS $$
  select p.user_id, max(p.registered_at), array_agg(p.segment_id) filter (where p.segment_id is not null)
  from (
    select u.user_id, u.registered_at, null::integer as segment_id
    from segmentation.users as u
    union all
    select o.user_id, null, o.segment_id
    from segmentation.overrides as o
    where o.starts_at <= reported_users.to_time and o.ends_at >= reported_users.from_time
    union all
    select e.user_id, null, e.segment_id
    from segmentation.assignments_elsewhere as e
    where e.starts_at <= reported_users.to_time and e.ends_at >= reported_users.from_time
  ) as p
  where p.user_id > reported_users.after_id and p.user_id <= reported_users.up_to_id
  group by p.user_id
$$;

ALTER FUNCTION segmentation.reported_users(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.reported_users(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_actor(actor text, reason text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  given record;
begin
  for given in
    select g.name, length(g.value) as length, g.at_most
    from (values ('actor', require_actor.actor, 200), ('reason', require_actor.reason, 2000)) as g (name, value, at_most)
    where length(g.value) > g.at_most
  loop
    raise exception 'the % has % characters', given.name, given.length
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('argument', given.name, 'length', given.length, 'at_most', given.at_most),
        hint = format('Shorten it to at most %s characters.', given.at_most);
  end loop;
  if segmentation.given_actor(require_actor.actor) <> session_user and not segmentation.is_service() then
    raise exception 'login "%" cannot act as "%"', session_user, require_actor.actor
      using
        errcode = 'insufficient_privilege',
        detail = json_build_object('login', session_user, 'actor', require_actor.actor),
        hint = 'Leave actor out: it is the login. A login of the service itself is a member of segmentation_service.';
  end if;
  if segmentation.given_actor(require_actor.actor) = session_user
    and exists (select from segmentation.api_keys as k where k.name = session_user)
  then
    raise exception 'login "%" has the name of an API key', session_user
      using
        errcode = 'insufficient_privilege',
        detail = json_build_object('login', session_user),
        hint = 'The history could not tell them apart. Have the login renamed: alter role … rename to …';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_actor(actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_actor(actor text, reason text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_adding(adding boolean, starts_at timestamp with time zone, expires_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.require_adding(adding boolean, starts_at timestamp with time zone, expires_at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_adding(adding boolean, starts_at timestamp with time zone, expires_at timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_at_most(name text, given bigint, at_most bigint) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if (require_at_most.given between 1 and require_at_most.at_most) is not true then
    raise exception '% must be from 1 to %, not %',
      case require_at_most.name when 'limit' then 'limit' else 'the number of ' || require_at_most.name end,
      require_at_most.at_most, coalesce(require_at_most.given::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object(require_at_most.name, require_at_most.given, 'at_most', require_at_most.at_most),
        hint = case require_at_most.name when 'limit' then 'Ask page by page.' else 'Make several calls.' end;
  end if;
end
$$;

ALTER FUNCTION segmentation.require_at_most(name text, given bigint, at_most bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_at_most(name text, given bigint, at_most bigint) IS 'For the service: fails when more is asked for than one call takes. Example: select require_at_most(''limit'', 100, 1000);';

CREATE FUNCTION segmentation.require_description(description text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if length(description) > 2000 then
    raise exception 'the description has % characters', length(description)
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('length', length(description), 'at_most', 2000),
        hint = 'Shorten it to at most 2000 characters.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_description(description text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_description(description text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_free_slugs(slugs text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  taken text;
begin
  select s.slug into taken
  from segmentation.segments as s
  join segmentation.layers as l on l.slug = s.slug
  where s.slug = any (require_free_slugs.slugs) and s.deleted_at = 'infinity' and l.deleted_at = 'infinity'
  limit 1;
  if found then
    raise exception 'slug "%" is taken: a segment and a layer cannot share it', taken
      using
        errcode = 'unique_violation',
        detail = json_build_object('slug', taken),
        hint = 'Choose another slug.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_free_slugs(slugs text[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_free_slugs(slugs text[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_kept(moment timestamp with time zone, name text DEFAULT 'at'::text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  kept_since timestamptz := (select r.kept_since from segmentation.retention as r);
begin
  if not isfinite(moment) then
    raise exception '% % is no moment', require_kept.name, moment
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object(require_kept.name, moment),
        hint = 'Give a date and time.';
  end if;
  if moment < kept_since then
    raise exception 'the history before % was dropped', kept_since
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object(require_kept.name, moment, 'kept_since', kept_since),
        hint = 'Ask for a later moment.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_kept(moment timestamp with time zone, name text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_kept(moment timestamp with time zone, name text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_known_slug(slug text) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not exists (
    select from segmentation.segments as s where s.slug = require_known_slug.slug collate "C"
  ) then
    perform segmentation.segment_id_of(require_known_slug.slug);
  end if;
end
$$;

ALTER FUNCTION segmentation.require_known_slug(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_known_slug(slug text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_list(user_ids bigint[], operation text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_user_ids(require_list.user_ids);
  if cardinality(require_list.user_ids) = 0 and require_list.operation <> 'replace' then
    raise exception 'nothing to change: no user id is given'
      using errcode = 'invalid_parameter_value', hint = 'Name at least one user.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_list(user_ids bigint[], operation text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_list(user_ids bigint[], operation text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_list_change(operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.require_list_change(operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_list_change(operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) IS 'For the service: fails where change_segment_members would fail for any list. Example: select require_list_change(''add'', null, null, null, ''november campaign'', null, false);';

CREATE FUNCTION segmentation.require_percent(percent numeric) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if (percent between 0 and 100 and percent = round(percent, 3)) is not true then
    raise exception 'percent % is not between 0 and 100 with at most three decimals', coalesce(percent::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('percent', percent::text),
        hint = 'Give a number such as 10, 33.3 or 0.125.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_percent(percent numeric) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_percent(percent numeric) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_period(starts_at timestamp with time zone, expires_at timestamp with time zone, moment timestamp with time zone) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.require_period(starts_at timestamp with time zone, expires_at timestamp with time zone, moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_period(starts_at timestamp with time zone, expires_at timestamp with time zone, moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_reportable(period text) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  month timestamptz := segmentation.month_start(period);
  kept_since timestamptz := (select r.kept_since from segmentation.retention as r);
begin
  if month > segmentation.clock() then
    raise exception 'period % has not begun', period
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('period', period),
        hint = 'Ask for this month or an earlier one.';
  end if;
  if month < kept_since then
    raise exception 'the history of % was dropped', period
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('period', period, 'kept_since', kept_since),
        hint = 'Ask for a later month.';
  end if;
  return month;
end
$$;

ALTER FUNCTION segmentation.require_reportable(period text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_reportable(period text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_rows(max_rows integer) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if (max_rows > 0) is not true then
    raise exception 'max_rows % is not above 0', coalesce(max_rows::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('max_rows', max_rows),
        hint = 'Give the number of rows to return at most.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_rows(max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_rows(max_rows integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_same_request(kept_fingerprint bytea, request_fingerprint bytea) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if kept_fingerprint <> request_fingerprint then
    raise exception 'this Idempotency-Key was used for another request'
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('code', 'idempotency_key_reused'),
        hint = 'Take a new key for each new request.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_same_request(kept_fingerprint bytea, request_fingerprint bytea) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_same_request(kept_fingerprint bytea, request_fingerprint bytea) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_service() RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if not segmentation.is_service() then
    raise exception 'login "%" is not one of the service', session_user
      using
        errcode = 'insufficient_privilege',
        detail = json_build_object('login', session_user),
        hint = 'Only the service keeps answers. A login of the service is a member of segmentation_service.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_service() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_service() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_slug(slug text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
begin
  if (slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$') is not true then
    raise exception 'slug % is not valid', coalesce('"' || slug || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('slug', slug),
        hint = 'A slug has 1 to 100 letters, digits, dots, hyphens and underscores, the first a letter or digit.';
  end if;
end
$_$;

ALTER FUNCTION segmentation.require_slug(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_slug(slug text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_stretch(from_time timestamp with time zone, to_time timestamp with time zone, may_be_empty boolean DEFAULT true) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if require_stretch.to_time < require_stretch.from_time
    or require_stretch.to_time = require_stretch.from_time and not require_stretch.may_be_empty
  then
    raise exception 'the time from % to % does not end after it begins',
      require_stretch.from_time, require_stretch.to_time
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('from', require_stretch.from_time, 'to', require_stretch.to_time),
        hint = 'Give the earlier moment first.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_stretch(from_time timestamp with time zone, to_time timestamp with time zone, may_be_empty boolean) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_stretch(from_time timestamp with time zone, to_time timestamp with time zone, may_be_empty boolean) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_user_ids(user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  wrong bigint;
begin
  -- An array of arrays is no list, and array_position does not search it.
  if array_ndims(user_ids) > 1 then
    raise exception 'user ids in % dimensions are no list', array_ndims(user_ids)
      using errcode = 'invalid_parameter_value', hint = 'Give one array, such as array[1000, 1002].';
  end if;
  if user_ids is null or array_position(user_ids, null) is not null then
    raise exception 'a user id is missing'
      using errcode = 'invalid_parameter_value', hint = 'A user id is a whole number from 1 to 9223372036854775807.';
  end if;
  if 0 >= any (user_ids) then
    select min(u.user_id) into wrong from unnest(user_ids) as u (user_id);
    raise exception 'user id % is not above 0', wrong
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('user_id', wrong),
        hint = 'A user id is a whole number from 1 to 9223372036854775807.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_user_ids(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_user_ids(user_ids bigint[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_whole_list(slug text, listed bigint, removed bigint, max_removed bigint) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.require_whole_list(slug text, listed bigint, removed bigint, max_removed bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_whole_list(slug text, listed bigint, removed bigint, max_removed bigint) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.revoke_api_key(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  update segmentation.api_keys as k
  set revoked_at = least(k.revoked_at, segmentation.clock())
  where k.name = revoke_api_key.name;
  if not found then
    raise exception 'no API key is named %', coalesce('"' || revoke_api_key.name || '"', 'null')
      using
        errcode = 'no_data_found',
        detail = json_build_object('name', revoke_api_key.name),
        hint = 'List the keys: select * from list_api_keys(); or python -m service keys list.';
  end if;
end
$$;

ALTER FUNCTION segmentation.revoke_api_key(name text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.revoke_api_key(name text) IS 'Revoke an API key: running services refuse it from the next request on. Example: select revoke_api_key(''web-shop'');';

CREATE FUNCTION segmentation.revoke_report_link(id text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.close_report_link(sha256(convert_to(revoke_report_link.id, 'UTF8')));
end
$$;

ALTER FUNCTION segmentation.revoke_report_link(id text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.revoke_report_link(id text) IS 'End a report''s link before its time. Example: select revoke_report_link(''…'');';

CREATE FUNCTION segmentation.rfc3339(moment timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  select case when pg_catalog.isfinite(moment)
    then pg_catalog.to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  end
$$;

ALTER FUNCTION segmentation.rfc3339(moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rfc3339(moment timestamp with time zone) IS 'For the service: a moment as RFC 3339 text in UTC; null for infinity. Example: select rfc3339(now());';

CREATE FUNCTION segmentation.rollout_json(slug text) RETURNS json
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(array_to_json(array_agg(step order by step.starts_at)), '[]')
  from (
    select
      s.percent, segmentation.rfc3339(s.starts_at) as starts_at, segmentation.rfc3339(s.ends_at) as ends_at,
      s.actor, s.reason
    from segmentation.rollout_steps(rollout_json.slug) as s
  ) as step
$$;

ALTER FUNCTION segmentation.rollout_json(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollout_json(slug text) IS 'For the service: all rollout steps of a segment.';

CREATE FUNCTION segmentation.rollout_lines(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone, after_id bigint, up_to_id bigint) RETURNS TABLE(user_id bigint, at timestamp with time zone, segment_id integer, slug text, operation text, at_text text)
    LANGUAGE sql STABLE
    AS $$
  -- What each user is compared with. Columns of a fixed length come first: those behind a text take longer to reach.
  with moves as materialized (
    select
      m.salt, m.at, m.below, m.lowest, m.segment_id, m.buckets, m.slug collate "C" as slug, m.operation,
      segmentation.rfc3339(m.at) as at_text
    from segmentation.rollout_moves(rollout_lines.from_time, rollout_lines.to_time, rollout_lines.now) as m
    order by m.at, m.slug collate "C", m.segment_id
  ),
  steps as materialized (
    select r.salt, r.threshold, r.starts_at, r.ends_at, s.segment_id, r.buckets, s.slug
    from segmentation.rollouts as r
    join segmentation.segments as s on s.segment_id = r.segment_id
    where r.threshold > 0 and r.starts_at < rollout_lines.to_time and r.ends_at > rollout_lines.from_time
    order by s.slug, s.segment_id
  )
  select u.user_id, e.at, e.segment_id, e.slug, e.operation, e.at_text
  from (
    select *
    from segmentation.reported_users(
      rollout_lines.from_time, rollout_lines.to_time, rollout_lines.after_id, rollout_lines.up_to_id) as u
    order by u.user_id
  ) as u
  cross join lateral (
    select
      u.registered_at as at, r.segment_id, r.slug, 'add' as operation,
      segmentation.rfc3339(u.registered_at) as at_text
    from steps as r
    where u.registered_at >= rollout_lines.from_time and u.registered_at < rollout_lines.to_time
      and segmentation.in_force(r.starts_at, r.ends_at, u.registered_at)
      and segmentation.holds(r.buckets, r.threshold, segmentation.bucket(u.user_id, r.salt))
      and (r.segment_id = any (u.overridden)) is not true
    union all
    select m.at, m.segment_id, m.slug, m.operation, m.at_text
    from moves as m
    where segmentation.bucket(u.user_id, m.salt) < m.below
      and segmentation.bucket(u.user_id, m.salt) >= m.lowest
      and (m.buckets is null or segmentation.bucket(u.user_id, m.salt) <@ m.buckets)
      and u.registered_at < m.at
      and (m.segment_id = any (u.overridden)) is not true
  ) as e
  order by u.user_id, e.at, e.slug, e.segment_id
$$;

ALTER FUNCTION segmentation.rollout_lines(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone, after_id bigint, up_to_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollout_lines(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone, after_id bigint, up_to_id bigint) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.rollout_mismatch(segment_id integer, rolled_out bigint, population bigint, now timestamp with time zone) RETURNS TABLE(planned_percent numeric, actual_percent numeric, srm_p_value double precision)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.rollout_mismatch(segment_id integer, rolled_out bigint, population bigint, now timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollout_mismatch(segment_id integer, rolled_out bigint, population bigint, now timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.rollout_moves(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone) RETURNS TABLE(segment_id integer, slug text, salt bigint, at timestamp with time zone, operation text, lowest integer, below integer, buckets int4multirange)
    LANGUAGE sql STABLE
    AS $$
  select
    c.segment_id, s.slug, c.salt, c.at, m.operation, lower(m.buckets), upper(m.buckets),
    nullif(m.buckets, int4multirange(range_merge(m.buckets)))
  from (
    select
      b.segment_id, b.salt, b.at,
      coalesce(range_agg(b.buckets) filter (where b.ending), '{}') as before,
      coalesce(range_agg(b.buckets) filter (where not b.ending), '{}') as after
    from (
      select r.segment_id, r.salt, h.buckets, m.at, m.ending, r.decided_at
      from segmentation.rollouts as r
      cross join lateral (
        select coalesce(r.buckets, int4multirange(int4range(0, r.threshold)))
      ) as h (buckets)
      cross join lateral (values (r.starts_at, false), (r.ends_at, true)) as m (at, ending)
    ) as b
    where b.at >= rollout_moves.from_time and b.at < rollout_moves.to_time
    group by b.segment_id, b.salt, b.at
    having b.at <= greatest(rollout_moves.now, max(b.decided_at))
  ) as c
  join segmentation.segments as s on s.segment_id = c.segment_id
  cross join lateral (
    values ('add', c.after - c.before), ('remove', c.before - c.after)
  ) as m (operation, buckets)
  where not isempty(m.buckets)
$$;

ALTER FUNCTION segmentation.rollout_moves(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollout_moves(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.rollout_population(segment_id integer, now timestamp with time zone) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select (select count(*) from segmentation.users) - count(distinct m.user_id)
  from segmentation.memberships as m
  where m.segment_id = any (
      rollout_population.segment_id || segmentation.other_segments_of_layer(rollout_population.segment_id))
    and (m.included or m.segment_id = rollout_population.segment_id)
    and segmentation.in_force(m.starts_at, m.ends_at, rollout_population.now, m.decided_at)
$$;

ALTER FUNCTION segmentation.rollout_population(segment_id integer, now timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollout_population(segment_id integer, now timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.rollout_steps(slug text) RETURNS SETOF segmentation.rollout_step
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  found_id integer := segmentation.segment_id_of(rollout_steps.slug);
begin
  return query
  select trim_scale(r.percent), r.starts_at, r.ends_at, r.actor, r.reason
  from segmentation.rollouts as r
  where r.segment_id = found_id
  order by r.starts_at;
end
$$;

ALTER FUNCTION segmentation.rollout_steps(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollout_steps(slug text) IS 'All rollout steps of a living segment, past, present and to come. Example: select * from rollout_steps(''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.rollouts_after_delete() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.refuse_past_step(o.segment_id, o.starts_at)
  from old_rows as o;
  insert into segmentation.segment_history (segment_id, changed_at, operation, percent, starts_at, actor, reason)
  select
    o.segment_id, segmentation.segment_stamp(o.segment_id), 'cancel_rollout_step', o.percent, o.starts_at,
    segmentation.actor(), segmentation.actor_reason()
  from old_rows as o;
  perform segmentation.derive_step_ends(array(select distinct o.segment_id from old_rows as o));
  perform segmentation.deal_buckets(array(select distinct o.segment_id from old_rows as o));
  return null;
end
$$;

ALTER FUNCTION segmentation.rollouts_after_delete() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollouts_after_delete() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.rollouts_after_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.refuse_past_step(n.segment_id, n.starts_at)
  from new_rows as n;
  insert into segmentation.segment_history (segment_id, changed_at, operation, percent, starts_at, actor, reason)
  select
    n.segment_id, segmentation.segment_stamp(n.segment_id), 'set_rollout', n.percent, n.starts_at, n.actor, n.reason
  from new_rows as n;
  perform segmentation.derive_step_ends(array(select distinct n.segment_id from new_rows as n));
  perform segmentation.deal_buckets(array(select distinct n.segment_id from new_rows as n));
  return null;
end
$$;

ALTER FUNCTION segmentation.rollouts_after_insert() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollouts_after_insert() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.rollouts_after_update() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  wrong_ids integer[];
  segment_ids integer[];
begin
  if not exists (
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from new_rows as c
    except
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from old_rows as c
  ) then
    -- An end that derive_step_ends wrote is right; one that somebody wrote is derived anew.
    wrong_ids := array(
      select n.segment_id
      from new_rows as n
      join segmentation.segments as s on s.segment_id = n.segment_id
      where n.ends_at <> least(s.deleted_at, (
        select min(later.starts_at)
        from segmentation.rollouts as later
        where later.segment_id = n.segment_id and later.starts_at > n.starts_at
      ))
    );
    if cardinality(wrong_ids) > 0 then
      perform segmentation.derive_step_ends(wrong_ids);
    end if;
    return null;
  end if;
  -- The old form of what was changed, and the new one of what was changed or moved.
  perform segmentation.refuse_past_step(o.segment_id, o.starts_at)
  from (
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from old_rows as c
    except
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from new_rows as c
  ) as o;
  perform segmentation.refuse_past_step(n.segment_id, n.starts_at)
  from (
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from new_rows as c
    except
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from old_rows as c
  ) as n;
  insert into segmentation.segment_history (segment_id, changed_at, operation, percent, starts_at, actor, reason)
  select
    n.segment_id, segmentation.segment_stamp(n.segment_id), 'set_rollout', n.percent, n.starts_at, n.actor, n.reason
  from (
    select c.segment_id, c.percent, c.starts_at, c.actor, c.reason from new_rows as c
    except
    select c.segment_id, c.percent, c.starts_at, c.actor, c.reason from old_rows as c
  ) as n;
  segment_ids := array(select o.segment_id from old_rows as o union select n.segment_id from new_rows as n);
  perform segmentation.derive_step_ends(segment_ids);
  perform segmentation.deal_buckets(segment_ids);
  return null;
end
$$;

ALTER FUNCTION segmentation.rollouts_after_update() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollouts_after_update() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.rollouts_name_the_login() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if tg_op = 'INSERT' or (new.percent, new.starts_at) is distinct from (old.percent, old.starts_at) then
    new.actor := session_user;
    if tg_op = 'UPDATE' and new.reason is not distinct from old.reason then
      new.reason := null;
    end if;
    new.reason := coalesce(new.reason, segmentation.actor_reason());
    new.decided_at := segmentation.stamp(null);
  else
    new.decided_at := old.decided_at;
  end if;
  return new;
end
$$;

ALTER FUNCTION segmentation.rollouts_name_the_login() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollouts_name_the_login() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.rollouts_take_the_layer() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  select s.layer_id, s.slug into new.layer_id, new.slug
  from segmentation.segments as s
  where s.segment_id = new.segment_id;
  -- 1 is this trigger alone.
  if new.layer_id is null or pg_trigger_depth() = 1 then
    new.buckets := case when tg_op = 'UPDATE' and new.layer_id is not null then old.buckets end;
  end if;
  return new;
end
$$;

ALTER FUNCTION segmentation.rollouts_take_the_layer() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollouts_take_the_layer() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.rounded_percent(part bigint, whole bigint) RETURNS numeric
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select trim_scale(round(100.0 * part / nullif(whole, 0), 3)) $$;

ALTER FUNCTION segmentation.rounded_percent(part bigint, whole bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rounded_percent(part bigint, whole bigint) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.schedule_jobs() RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  caller text := current_setting('role');
  names text[];
  schedules text[];
  commands text[];
  job record;
begin
  if not exists (
    select from pg_catalog.pg_class as c where c.relname = 'job' and c.relnamespace = to_regnamespace('cron')
  ) then
    return format(
      'pg_cron is not in database "%s": everything works, but nothing is tidied up. Have another scheduler run '
      '"call segmentation.sweep()" each minute and "select segmentation.ensure_history_partitions(), '
      'segmentation.purge_expired()" each day; pg_cron in another database of this server can: '
      'cron.schedule_in_database.', current_database());
  end if;
  if not has_schema_privilege('segmentation_jobs', 'cron', 'usage') then
    return 'pg_cron is here, but nothing is scheduled: have its owner run "grant usage on schema cron to '
      'segmentation_jobs", then migrate again.';
  end if;
  select array_agg(j.name), array_agg(j.schedule), array_agg(j.command) into names, schedules, commands
  from segmentation.jobs() as j;
  -- A job runs as the role that schedules it.
  perform set_config('role', 'segmentation_jobs', true);
  for job in
    select coalesce(wanted.name, present.jobname::text)::name as name, wanted.schedule, wanted.command
    from unnest(names, schedules, commands) as wanted (name, schedule, command)
    full join (
      select j.jobname::text, j.schedule, j.command
      from cron.job as j
      where j.username = 'segmentation_jobs' and j.jobname ~ '^segmentation-' and j.database = current_database()
    ) as present on present.jobname = wanted.name
    where (present.schedule, present.command) is distinct from (wanted.schedule, wanted.command)
  loop
    if job.command is null then
      perform cron.unschedule(job.name);
    else
      perform cron.schedule(job.name, job.schedule, job.command);
    end if;
  end loop;
  perform set_config('role', caller, true);
  return format(
    'pg_cron runs %s jobs: sweep each minute, purge each ten minutes, partitions and its own log each day.',
    cardinality(names));
end
$$;

ALTER FUNCTION segmentation.schedule_jobs() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.schedule_jobs() IS 'Schedule the pg_cron jobs of this schema and take away those of earlier versions; running it again changes nothing. Example: select schedule_jobs();';

CREATE FUNCTION segmentation.segment_counts(slug text) RETURNS TABLE(assigned bigint, excluded bigint, rolled_out bigint, population bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.segment_counts(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_counts(slug text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.segment_growth(slug text, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone, step interval DEFAULT '1 day'::interval) RETURNS TABLE(at timestamp with time zone, users bigint, members bigint, assigned bigint, excluded bigint, rolled_out bigint, planned_percent numeric, actual_percent numeric)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) IS 'How a segment grew, and a rollout''s plan against reality: at from_time (its creation) and each step (UTC days) after it up to to_time (now), the known users, the members among them and how they got in, the percentage planned and the one reached. A moment to come counts what is planned for the users known now. It reads all known users, once for each segment that had this slug. Example: select * from segment_growth(''AVITO_VOICE_MESSAGES'', now() - interval ''30 days'', now(), ''1 day'');';

CREATE FUNCTION segmentation.segment_history(slug text) RETURNS TABLE(at timestamp with time zone, operation text, description text, percent numeric, starts_at timestamp with time zone, actor text, reason text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_known_slug(segment_history.slug);
  return query
  select h.changed_at, h.operation, h.description, h.percent, h.starts_at, h.actor, h.reason
  from segmentation.segment_history as h
  join segmentation.segments as s on s.segment_id = h.segment_id
  where s.slug = segment_history.slug collate "C"
  order by h.changed_at, h.segment_id, h.operation = 'delete', h.operation <> 'create';
end
$$;

ALTER FUNCTION segmentation.segment_history(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_history(slug text) IS 'Who created, described, ramped and deleted the segments that ever had this slug. Example: select * from segment_history(''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.segment_id_of(slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS integer
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  found_id integer;
begin
  select s.segment_id into found_id
  from segmentation.segments as s
  where s.slug = segment_id_of.slug collate "C"
    and (s.deleted_at = 'infinity' or s.deleted_at > segment_id_of.at)
  order by s.created_at
  limit 1;
  if not found then
    raise exception 'segment % does not exist', coalesce('"' || slug || '"', 'null')
      using
        errcode = 'no_data_found',
        detail = json_build_object('segment', slug),
        hint = 'List the segments: select * from list_segments(); GET /v1/segments; python -m service segments list.';
  end if;
  return found_id;
end
$$;

ALTER FUNCTION segmentation.segment_id_of(slug text, at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_id_of(slug text, at timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.segment_ids_of(slugs text[]) RETURNS integer[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  unknown text[];
  found_ids integer[];
begin
  select
    array_agg(asked.slug order by asked.slug collate "C") filter (where s.segment_id is null),
    array_agg(s.segment_id order by asked.position)
  into unknown, found_ids
  from unnest(segment_ids_of.slugs) with ordinality as asked (slug, position)
  left join segmentation.segments as s
    on s.slug = asked.slug collate "C" and s.deleted_at = 'infinity';
  if unknown is not null then
    raise exception 'unknown segments: %', array_to_string(unknown, ', ', 'null')
      using
        errcode = 'foreign_key_violation',
        detail = json_build_object('unknown_segments', unknown),
        hint = 'Create them first, or correct the slugs; upper and lower case differ.';
  end if;
  return coalesce(found_ids, '{}');
end
$$;

ALTER FUNCTION segmentation.segment_ids_of(slugs text[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_ids_of(slugs text[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.segment_members(slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone, after bigint DEFAULT NULL::bigint, max_rows integer DEFAULT NULL::integer) RETURNS TABLE(user_id bigint, source text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) IS 'The known users in a segment, now or at a moment, by user id: by what, since when, until when; give the last id seen as after. Example: select * from segment_members(''AVITO_VOICE_MESSAGES'', max_rows => 100);';

CREATE FUNCTION segmentation.segment_periods(slug text, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(user_id bigint, source text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.segment_periods(slug text, from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_periods(slug text, from_time timestamp with time zone, to_time timestamp with time zone) IS 'Every stay of every known user in a segment that overlaps a window (all that is kept, up to now), rollout members included, by user and time: by what it began, since when, until when (infinity: no end is known). A stay is given whole, also where it began before the window. Example: select * from segment_periods(''AVITO_DISCOUNT_30'', now() - ''7 days''::interval);';

CREATE FUNCTION segmentation.segment_stamp(segment_id integer) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return segmentation.stamp(segmentation.last_change(segment_stamp.segment_id));
end
$$;

ALTER FUNCTION segmentation.segment_stamp(segment_id integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_stamp(segment_id integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.segment_stats(slug text) RETURNS TABLE(assigned bigint, excluded bigint, rolled_out bigint, members bigint, planned_percent numeric, actual_percent numeric, srm_p_value double precision)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.segment_stats(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_stats(slug text) IS 'How many known users are assigned, excluded, in by rollout alone, and in at all: exact, right now. Beside it what the rollout in force has planned, what it holds of the users it may hold, and how likely such a difference is by chance (below 0.001: a sample ratio mismatch). Example: select * from segment_stats(''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.segments_after_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  wrong record;
begin
  select n.slug, n.created_at into wrong
  from new_rows as n
  cross join lateral (
    select max(s.deleted_at)
    from segmentation.segments as s
    where s.slug = n.slug and s.segment_id <> n.segment_id and s.deleted_at < 'infinity'
  ) as before (deleted_at)
  where n.deleted_at < 'infinity'
    or n.created_at < greatest(segmentation.announce_writer(), before.deleted_at)
    or n.created_at > segmentation.stamp(
      greatest(before.deleted_at, segmentation.last_change_in_layer(n.layer_id)))
  limit 1;
  if found then
    raise exception 'segment "%" cannot begin at % or be over already', wrong.slug, wrong.created_at
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('segment', wrong.slug, 'created_at', wrong.created_at),
        hint = 'A segment begins now: leave created_at and deleted_at out, or call create_segment(slug).';
  end if;
  -- Locked, so that it is not deleted meanwhile.
  perform
  from segmentation.layers as l
  where l.layer_id in (select n.layer_id from new_rows as n)
  order by l.layer_id
  for no key update;
  select n.slug, l.slug as layer into wrong
  from new_rows as n
  join segmentation.layers as l on l.layer_id = n.layer_id
  where l.deleted_at < 'infinity'
  limit 1;
  if found then
    raise exception 'segment "%" cannot begin in layer "%", which is deleted', wrong.slug, wrong.layer
      using
        errcode = 'foreign_key_violation',
        detail = json_build_object('segment', wrong.slug, 'layer', wrong.layer),
        hint = 'Create the layer anew: create_layer(slug).';
  end if;
  lock table segmentation.layers in share mode;
  perform segmentation.require_free_slugs(array(select n.slug from new_rows as n));
  insert into segmentation.segment_history (segment_id, changed_at, operation, description, actor, reason)
  select
    n.segment_id, n.created_at, 'create', nullif(n.description, ''),
    segmentation.actor(), segmentation.actor_reason()
  from new_rows as n;
  perform segmentation.derive_layer_cells(d.layer_id)
  from (select distinct n.layer_id from new_rows as n where n.layer_id is not null) as d;
  return null;
end
$$;

ALTER FUNCTION segmentation.segments_after_insert() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segments_after_insert() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.segments_after_update() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  wrong record;
begin
  select coalesce(o.slug, n.slug) as slug into wrong
  from old_rows as o
  full join new_rows as n on n.segment_id = o.segment_id
  where (o.slug, o.salt, o.created_at, o.layer_id) is distinct from (n.slug, n.salt, n.created_at, n.layer_id)
    or (
      o.deleted_at <> n.deleted_at
      and (
        o.deleted_at < 'infinity'
        or n.deleted_at < segmentation.settled_before(n.segment_id)
        or n.deleted_at > segmentation.segment_stamp(n.segment_id)
      )
    )
  limit 1;
  if found then
    raise exception 'segment "%" cannot be changed like this', wrong.slug
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('segment', wrong.slug),
        hint = 'Slug, salt, layer and creation are settled; delete_segment(slug) deletes a segment, now and for good.';
  end if;
  insert into segmentation.segment_history (segment_id, changed_at, operation, description, actor, reason)
  select
    n.segment_id, c.changed_at, c.operation, c.description,
    segmentation.actor(), segmentation.actor_reason()
  from new_rows as n
  join old_rows as o on o.segment_id = n.segment_id
  cross join lateral (
    values
      (o.description <> n.description, segmentation.segment_stamp(n.segment_id), 'describe', n.description),
      (o.deleted_at <> n.deleted_at, n.deleted_at, 'delete', null)
  ) as c (applies, changed_at, operation, description)
  where c.applies;
  -- Steps to come never come; the one in force ends.
  delete from segmentation.rollouts as r
  using new_rows as n
  where r.segment_id = n.segment_id and r.starts_at >= n.deleted_at;
  perform segmentation.derive_step_ends(
    array(select n.segment_id from new_rows as n where n.deleted_at < 'infinity' and not n.swept));
  -- What it held is free from now on.
  perform segmentation.deal_buckets(
    array(select n.segment_id from new_rows as n where n.deleted_at < 'infinity' and not n.swept));
  return null;
end
$$;

ALTER FUNCTION segmentation.segments_after_update() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segments_after_update() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.segments_json(user_id bigint, segments text[]) RETURNS text
    LANGUAGE sql STABLE
    AS $$ select '{"user_id":' || user_id || ',"segments":' || pg_catalog.array_to_json(segments) || '}' $$;

ALTER FUNCTION segmentation.segments_json(user_id bigint, segments text[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segments_json(user_id bigint, segments text[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.segments_of_layer(segment_id integer) RETURNS integer[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return array(
    select segments_of_layer.segment_id
    union
    select o.segment_id
    from segmentation.segments as s
    join segmentation.segments as o on o.layer_id = s.layer_id
    where s.segment_id = segments_of_layer.segment_id
  );
end
$$;

ALTER FUNCTION segmentation.segments_of_layer(segment_id integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segments_of_layer(segment_id integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.segments_refuse_delete() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception 'segments refuses delete: it would take the past along'
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'Call delete_segment(slug): everybody is out at once and the past stays.';
end
$$;

ALTER FUNCTION segmentation.segments_refuse_delete() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segments_refuse_delete() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.segments_take_the_salt() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  new.salt := coalesce(
    (select l.salt from segmentation.layers as l where l.layer_id = new.layer_id), new.salt);
  return new;
end
$$;

ALTER FUNCTION segmentation.segments_take_the_salt() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segments_take_the_salt() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.service_metrics() RETURNS TABLE(metric text, help text, value double precision)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moment timestamptz := segmentation.clock();
begin
  return query
  select
    'sweep_age_seconds', 'Since the last sweep ended; absent if there was none',
    extract(epoch from moment - u.finished_at)::double precision
  from (
    select max(s.finished_at) as finished_at from segmentation.upkeep as s where s.task = 'sweep'
  ) as u
  where u.finished_at is not null
  union all
  select
    'sweep_lag_seconds', 'Age of the oldest end that the sweep has not moved yet; reads are right all the same',
    coalesce(extract(epoch from moment - o.ended_at), 0)::double precision
  from segmentation.oldest_unswept(moment) as o (ended_at)
  union all
  select
    'standby_lag_seconds', 'How far this standby is behind its primary; absent on a primary',
    extract(epoch from l.lag)::double precision
  from segmentation.standby_lag() as l (lag)
  where l.lag is not null
  union all
  select
    'segments', 'Segments that are not deleted', count(*)::double precision
  from segmentation.segments as s
  where s.deleted_at = 'infinity'
  union all
  select
    'status_not_ok', 'Items of service_status() that are not in order', count(*)::double precision
  from segmentation.service_status() as s
  where not s.ok;
end
$$;

ALTER FUNCTION segmentation.service_metrics() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.service_metrics() IS 'Numbers for GET /metrics: age of the last sweep, lag of the sweep and of a standby, segments, items out of order. Example: select * from service_metrics();';

CREATE FUNCTION segmentation.service_status(needed text DEFAULT NULL::text) RETURNS TABLE(item text, ok boolean, value text, hint text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
#variable_conflict use_column
declare
  moment timestamptz := segmentation.clock();
begin
  return query
  select s.item, s.ok, s.value, case when s.ok then null else s.hint end
  from (
    select
      1 as position, 'schema version' as item,
      d.version is not null and (
        needed is null or needed in (select e.digest from segmentation.deploys as e)
      ) as ok,
      d.version as value,
      case when needed is null then '' else 'The service needs version ' || needed || ', which is newer. ' end
        || 'Apply the migrations: python -m service.migrate' as hint
    from (
      select (regexp_match(obj_description('segmentation'::regnamespace, 'pg_namespace'), 'version (.+)$'))[1]
    ) as d (version)
    union all
    select 2, 'bucket vectors', count(*) = 0, case when count(*) = 0 then 'as golden' else count(*) || ' differ' end,
      'Do not serve: hashint8extended gives other values on this server.'
    from segmentation.bucket_vectors() as v
    where segmentation.bucket(v.user_id, v.salt) <> v.bucket
    union all
    select 3, 'last sweep', coalesce(max(u.finished_at) > moment - interval '10 minutes', false),
      coalesce(segmentation.rfc3339(max(u.finished_at)), 'never'),
      'Is pg_cron running? Look into cron.job and cron.job_run_details; meanwhile: call sweep();'
    from segmentation.upkeep as u
    where u.task = 'sweep'
    union all
    select 4, 'oldest end not yet swept', coalesce(o.ended_at > moment - interval '10 minutes', true),
      coalesce(segmentation.rfc3339(o.ended_at), 'none'),
      'Reads are right all the same. The sweep is behind: call sweep();'
    from segmentation.oldest_unswept(moment) as o (ended_at)
    union all
    select 5, 'history partitions ahead', count(*) >= 1, count(*)::text,
      'They are made at need as well; to make them now: select ensure_history_partitions(3);'
    from segmentation.history_partitions() as h
    where h.month_start > moment
    union all
    select 6, 'behind the primary', l.lag < interval '10 minutes',
      round(extract(epoch from l.lag), 1) || ' s',
      'Does this standby receive WAL (pg_stat_wal_receiver), or is its replay paused? It answers as of that long ago.'
    from segmentation.standby_lag() as l (lag)
    where l.lag is not null
  ) as s
  order by s.position;
end
$_$;

ALTER FUNCTION segmentation.service_status(needed text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.service_status(needed text) IS 'How the service is: schema version (and whether the one with the digest needed is in it), bucket vectors, last sweep, oldest end not yet swept, partitions ahead; on a standby also how far it is behind. Example: select * from service_status();';

CREATE FUNCTION segmentation.set_actor(actor text, reason text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_actor(set_actor.actor, set_actor.reason);
  perform set_config('segmentation.actor', segmentation.given_actor(set_actor.actor), true);
  perform set_config('segmentation.reason', coalesce(set_actor.reason, ''), true);
end
$$;

ALTER FUNCTION segmentation.set_actor(actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.set_actor(actor text, reason text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS SETOF segmentation.rollout_step
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  segment segmentation.segments;
  moment timestamptz;
  step_at timestamptz;
  planned bigint;
begin
  perform segmentation.require_percent(set_rollout.percent);
  perform segmentation.require_actor(set_rollout.actor, set_rollout.reason);
  segment := segmentation.lock_segment(set_rollout.slug);
  moment := segmentation.segment_stamp(segment.segment_id);
  step_at := coalesce(set_rollout.starts_at, moment);
  if step_at < moment or not isfinite(step_at) then
    raise exception 'a rollout step cannot start at %', step_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('starts_at', step_at, 'now', moment),
        hint = 'The past is settled. Leave starts_at out to start now, or give a moment to come.';
  end if;
  -- Every reading of the rollout goes through all of its steps.
  if step_at > moment then
    select count(*) into planned
    from segmentation.rollouts as r
    where r.segment_id = segment.segment_id and r.starts_at > moment and r.starts_at <> step_at;
    if planned >= 1000 then
      raise exception 'segment "%" has % planned rollout steps already', segment.slug, planned
        using
          errcode = 'object_not_in_prerequisite_state',
          detail = json_build_object('planned_steps', planned, 'at_most', 1000),
          hint = 'Plan the further ones when some of these have begun, or cancel some.';
    end if;
  end if;
  insert into segmentation.rollouts as r (segment_id, salt, percent, starts_at, actor, reason, decided_at)
  select
    segment.segment_id, segment.salt, set_rollout.percent, step_at,
    segmentation.given_actor(set_rollout.actor), set_rollout.reason, moment
  -- To set the percentage that holds now changes nothing. A planned step is kept even if it repeats the step
  -- before it: an earlier step may still be set or cancelled.
  where step_at > moment or set_rollout.percent is distinct from (
    select coalesce(min(held.percent), 0)
    from segmentation.rollouts as held
    where held.segment_id = segment.segment_id and segmentation.in_force(held.starts_at, held.ends_at, moment)
  )
  on conflict on constraint rollouts_pkey do update
    set
      percent = excluded.percent, actor = excluded.actor, reason = excluded.reason,
      decided_at = excluded.decided_at;
  return query select * from segmentation.rollout_steps(set_rollout.slug);
end
$$;

ALTER FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) IS 'Roll a segment out to percent % of all users, from starts_at (now) on; later steps stay. Returns all steps. Example: select * from set_rollout(''AVITO_VOICE_MESSAGES'', 30, reason => ''went well at 10 %'');';

CREATE FUNCTION segmentation.settled_before(segment_id integer) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  return (
    select greatest(
      segmentation.announce_writer(),
      s.created_at,
      l.changed_at + case when l.changed_at > segmentation.clock() then interval '1 microsecond' else '0' end)
    from segmentation.segments as s
    cross join lateral (
      select max(h.changed_at)
      from segmentation.segment_history as h
      where h.segment_id = any (segmentation.segments_of_layer(s.segment_id)) and h.operation <> 'create'
    ) as l (changed_at)
    where s.segment_id = settled_before.segment_id
  );
end
$$;

ALTER FUNCTION segmentation.settled_before(segment_id integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.settled_before(segment_id integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.settled_errcode() RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select case current_user
    when 'segmentation_owner' then 'serialization_failure'
    else 'object_not_in_prerequisite_state'
  end
$$;

ALTER FUNCTION segmentation.settled_errcode() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.settled_errcode() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.settled_until() RETURNS timestamp with time zone
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moment timestamptz := segmentation.clock() - segmentation.stamp_tolerance();
  told timestamptz := segmentation.told_until();
begin
  if current_setting('transaction_read_only') = 'on' then
    return told;
  end if;
  select least(moment, min(timestamptz 'epoch' + (w.key & ((1::bigint << 44) - 1)) * interval '1 millisecond'))
  into moment
  from (
    select (l.classid::bigint << 32) | l.objid::bigint as key
    from pg_catalog.pg_locks as l
    where l.locktype = 'advisory' and l.objsubid = 1 and l.mode = 'ShareLock'
      and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
  ) as w
  where w.key >> 44 = 21468;
  -- Where the clock has gone back, what was told stays true: nobody stamps before it.
  moment := greatest(moment, told);
  if moment <> told then
    perform setval('segmentation.told_until', segmentation.microseconds(moment));
  end if;
  return moment;
end
$$;

ALTER FUNCTION segmentation.settled_until() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.settled_until() IS 'The moment before which no change can appear any more, however long other transactions still run: up to it, membership_changes can be asked. It never goes back. On a standby it is what the primary told last, at most a minute ago. Example: select settled_until();';

CREATE FUNCTION segmentation.source(assigned boolean, overridden boolean, rolled_out boolean, elsewhere boolean DEFAULT false) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select case
    when assigned then 'assignment'
    when overridden then 'exclusion'
    when elsewhere then 'none'
    when rolled_out then 'rollout'
    else 'none'
  end
$$;

ALTER FUNCTION segmentation.source(assigned boolean, overridden boolean, rolled_out boolean, elsewhere boolean) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.source(assigned boolean, overridden boolean, rolled_out boolean, elsewhere boolean) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.stamp(bound timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  since timestamptz := segmentation.announce_writer();
  now timestamptz := segmentation.clock();
begin
  return greatest(since, case when stamp.bound > now then stamp.bound + interval '1 microsecond' else now end);
end
$$;

ALTER FUNCTION segmentation.stamp(bound timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.stamp(bound timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.stamp_tolerance() RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ select interval '100 milliseconds' $$;

ALTER FUNCTION segmentation.stamp_tolerance() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.stamp_tolerance() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.standby_lag() RETURNS interval
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select case
    when not pg_is_in_recovery() then null
    when not exists (select from pg_stat_wal_receiver) or pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()
      then greatest(
        segmentation.clock() - coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time()), interval '0')
    else interval '0'
  end
$$;

ALTER FUNCTION segmentation.standby_lag() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.standby_lag() IS 'Internal: called by other functions of this schema, not by people.';

CREATE PROCEDURE segmentation.sweep(IN batch_rows integer DEFAULT 5000, IN max_seconds integer DEFAULT 50)
    LANGUAGE plpgsql
    AS $$
declare
  stop_at timestamptz := pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => sweep.max_seconds);
  moved integer;
  total bigint := 0;
begin
  loop
    moved := segmentation.expire_memberships(sweep.batch_rows);
    total := total + moved;
    if moved < sweep.batch_rows then
      perform segmentation.note_upkeep('sweep', total);
      -- For those who follow changes on a standby.
      perform segmentation.settled_until();
    end if;
    commit;
    exit when moved < sweep.batch_rows or pg_catalog.clock_timestamp() > stop_at;
  end loop;
end
$$;

ALTER PROCEDURE segmentation.sweep(IN batch_rows integer, IN max_seconds integer) OWNER TO segmentation_owner;

COMMENT ON PROCEDURE segmentation.sweep(IN batch_rows integer, IN max_seconds integer) IS 'Move all that has ended to the history, a committed batch at a time, for at most so many seconds; pg_cron calls it each minute. Example: call sweep();';

CREATE FUNCTION segmentation.told_until() RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  microseconds bigint := (select n.last_value from segmentation.told_until as n);
  moment timestamptz := timestamptz 'epoch' + microseconds * interval '1 microsecond';
begin
  return case when moment <= segmentation.clock() + interval '1 hour' then moment else '-infinity' end;
end
$$;

ALTER FUNCTION segmentation.told_until() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.told_until() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.transaction_start() RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$ select pg_catalog.transaction_timestamp() $$;

ALTER FUNCTION segmentation.transaction_start() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.transaction_start() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.unset_actor() RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform set_config('segmentation.actor', '', true);
  perform set_config('segmentation.reason', '', true);
  perform set_config('segmentation.moment', '', true);
end
$$;

ALTER FUNCTION segmentation.unset_actor() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.unset_actor() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.update_segment(slug text, description text, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS SETOF segmentation.listed_segments
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  segment segmentation.segments;
begin
  perform segmentation.require_description(update_segment.description);
  segment := segmentation.lock_segment(update_segment.slug);
  perform segmentation.set_actor(update_segment.actor, update_segment.reason);
  update segmentation.segments as s
  set description = coalesce(update_segment.description, '')
  where s.segment_id = segment.segment_id
    and s.description <> coalesce(update_segment.description, '');
  perform segmentation.unset_actor();
  return query select * from segmentation.get_segment(update_segment.slug);
end
$$;

ALTER FUNCTION segmentation.update_segment(slug text, description text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.update_segment(slug text, description text, actor text, reason text) IS 'Describe a segment anew; its slug never changes. Example: select * from update_segment(''AVITO_VOICE_MESSAGES'', ''voice messages in chat'');';

CREATE FUNCTION segmentation.user_history(user_id bigint, from_time timestamp with time zone DEFAULT '-infinity'::timestamp with time zone, to_time timestamp with time zone DEFAULT 'infinity'::timestamp with time zone) RETURNS TABLE(segment text, operation text, at timestamp with time zone, cause text, actor text, reason text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  now timestamptz;
begin
  perform segmentation.register_unknown_users(array[user_history.user_id]);
  now := segmentation.clock();
  perform segmentation.require_stretch(user_history.from_time, user_history.to_time, may_be_empty => false);
  return query
  select s.slug, e.operation, e.at, e.cause, e.actor, e.reason
  from segmentation.membership_events(array[user_history.user_id], now) as e
  join segmentation.segments as s on s.segment_id = e.segment_id
  where e.at >= coalesce(user_history.from_time, '-infinity')
    and e.at < coalesce(user_history.to_time, 'infinity')
    and e.at >= (select r.kept_since from segmentation.retention as r)
  -- A slug deleted and used again at once: the old segment's events come first.
  order by e.at, s.slug, e.segment_id;
end
$$;

ALTER FUNCTION segmentation.user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) IS 'Exactly when and why a user got in or out: from from_time up to but not at to_time. Example: select * from user_history(1000); select * from user_history(1000, ''2026-11-01Z'', ''2026-12-01Z'');';

CREATE FUNCTION segmentation.user_overrides(user_id bigint) RETURNS TABLE(segment text, kind text, since timestamp with time zone, until timestamp with time zone, actor text, reason text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  now timestamptz;
begin
  perform segmentation.register_unknown_users(array[user_overrides.user_id]);
  now := segmentation.clock();
  return query
  select s.slug, segmentation.source(m.included, not m.included, false), m.starts_at, m.ends_at, m.actor, m.reason
  from segmentation.memberships as m
  join segmentation.segments as s on s.segment_id = m.segment_id
  where m.user_id = user_overrides.user_id and m.ends_at > now and s.deleted_at = 'infinity'
  order by s.slug;
end
$$;

ALTER FUNCTION segmentation.user_overrides(user_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.user_overrides(user_id bigint) IS 'What was set by hand for a user, live and planned, each with its own end, whatever the rollouts say. Example: select * from user_overrides(1000);';

CREATE FUNCTION segmentation.user_pages() RETURNS TABLE(after_id bigint, up_to_id bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  -- What is read for so many users stays in the processor's cache.
  page_size constant integer := 5000;
begin
  up_to_id := 0;
  while up_to_id < 9223372036854775807 loop
    after_id := up_to_id;
    -- Beyond the last known user there may be one who has an override all the same.
    select coalesce(max(page.user_id) filter (where page.place = page_size), 9223372036854775807) into up_to_id
    from (
      select u.user_id, row_number() over (order by u.user_id) as place
      from segmentation.users as u
      where u.user_id > after_id
      order by u.user_id
      limit page_size
    ) as page;
    return next;
  end loop;
end
$$;

ALTER FUNCTION segmentation.user_pages() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.user_pages() IS 'For the service: all known users in pages of ids, so few that what is joined and merged stays in the processor''s cache. Example: select * from user_pages();';

CREATE FUNCTION segmentation.user_segments(user_id bigint, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(segment text, source text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  now timestamptz;
begin
  perform segmentation.register_unknown_users(array[user_segments.user_id]);
  now := segmentation.clock();
  perform segmentation.require_kept(coalesce(user_segments.at, now));
  return query
  select
    s.slug, segmentation.source(p.assigned @> a.moment, p.overridden @> a.moment, p.rollout @> a.moment),
    lower(period), upper(period)
  from segmentation.membership_periods(array[user_segments.user_id], now) as p
  cross join lateral (select coalesce(user_segments.at, p.present)) as a (moment)
  cross join lateral unnest(p.member) as period
  join segmentation.segments as s on s.segment_id = p.segment_id
  where period @> a.moment
  order by s.slug;
end
$$;

ALTER FUNCTION segmentation.user_segments(user_id bigint, at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.user_segments(user_id bigint, at timestamp with time zone) IS 'The segments a user is in, now or at a moment of the past or the planned future: by what, since when, until when. Example: select * from user_segments(1000); select * from user_segments(1000, at => ''2026-11-01 12:00Z'');';

CREATE FUNCTION segmentation.users_segments(user_ids bigint[]) RETURNS TABLE(user_id bigint, segments text[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
declare
  moment timestamptz;
begin
  perform segmentation.register_unknown_users(users_segments.user_ids);
  moment := segmentation.clock();
  return query
  select c.user_id, c.segments
  from segmentation.current_segments(users_segments.user_ids, moment) as c
  order by c.place;
end
$$;

ALTER FUNCTION segmentation.users_segments(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.users_segments(user_ids bigint[]) IS 'The segments of many users right now, in the order asked for. Example: select * from users_segments(array[1000, 1002, 1004]);';

CREATE FUNCTION segmentation.wrapped(call text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select case
    when length(wrapped.call) <= 76 or wrapped.call ~ '^\\' then wrapped.call
    else regexp_replace(wrapped.call, '(.{20,70},) ', E'\\1\n  ', 'g')
  end
$$;

ALTER FUNCTION segmentation.wrapped(call text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.wrapped(call text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.writer_is_announced() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.announce_writer();
  return null;
end
$$;

ALTER FUNCTION segmentation.writer_is_announced() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.writer_is_announced() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.writer_key(since timestamp with time zone) RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$ select (21468::bigint << 44) | segmentation.microseconds(since) / 1000 $$;

ALTER FUNCTION segmentation.writer_key(since timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.writer_key(since timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE TABLE segmentation.api_keys (
    name text NOT NULL,
    role text NOT NULL,
    key_digest bytea NOT NULL,
    created_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    expires_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    revoked_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    CONSTRAINT api_keys_digest_is_sha256 CHECK ((length(key_digest) = 32)),
    CONSTRAINT api_keys_expires_after_created CHECK ((expires_at > created_at)),
    CONSTRAINT api_keys_name_has_valid_form CHECK ((name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$'::text)),
    CONSTRAINT api_keys_role_is_known CHECK ((role = ANY (ARRAY['evaluator'::text, 'reader'::text, 'editor'::text, 'admin'::text])))
);

ALTER TABLE segmentation.api_keys OWNER TO segmentation_owner;

CREATE VIEW segmentation.overrides AS
 SELECT memberships.user_id,
    memberships.segment_id,
    memberships.included,
    memberships.starts_at,
    memberships.ends_at,
    memberships.actor,
    memberships.reason,
    'expired'::text AS end_cause,
    memberships.end_actor,
    memberships.end_reason,
    memberships.decided_at
   FROM segmentation.memberships
UNION ALL
 SELECT membership_history.user_id,
    membership_history.segment_id,
    membership_history.included,
    membership_history.starts_at,
    membership_history.ends_at,
    membership_history.actor,
    membership_history.reason,
    membership_history.end_cause,
    membership_history.end_actor,
    membership_history.end_reason,
    membership_history.ends_at AS decided_at
   FROM segmentation.membership_history;

ALTER TABLE segmentation.overrides OWNER TO segmentation_owner;

CREATE TABLE segmentation.segment_history (
    segment_id integer NOT NULL,
    changed_at timestamp with time zone NOT NULL,
    operation text NOT NULL,
    description text,
    percent numeric,
    starts_at timestamp with time zone,
    actor text NOT NULL,
    reason text,
    CONSTRAINT segment_history_operation_is_known CHECK ((operation = ANY (ARRAY['create'::text, 'describe'::text, 'delete'::text, 'set_rollout'::text, 'cancel_rollout_step'::text]))),
    CONSTRAINT segment_history_step_is_complete CHECK (((operation = ANY (ARRAY['set_rollout'::text, 'cancel_rollout_step'::text])) = ((percent IS NOT NULL) AND (starts_at IS NOT NULL))))
);

ALTER TABLE segmentation.segment_history OWNER TO segmentation_owner;

CREATE VIEW segmentation.assignments_elsewhere AS
 SELECT o.user_id,
    other.segment_id,
    o.starts_at,
    LEAST(o.ends_at, s.deleted_at) AS ends_at,
    o.actor,
    o.reason,
    e.end_actor,
    e.end_reason,
    GREATEST(o.decided_at,
        CASE
            WHEN (s.deleted_at < o.ends_at) THEN s.deleted_at
            ELSE NULL::timestamp with time zone
        END) AS decided_at
   FROM ((((segmentation.overrides o
     JOIN segmentation.segments s ON (((s.segment_id = o.segment_id) AND (o.starts_at < s.deleted_at))))
     JOIN segmentation.segments other ON (((other.layer_id = s.layer_id) AND (other.segment_id <> s.segment_id) AND (other.created_at < o.ends_at) AND (other.deleted_at > o.starts_at))))
     LEFT JOIN segmentation.segment_history d ON (((d.segment_id = s.segment_id) AND (d.operation = 'delete'::text) AND (s.deleted_at < o.ends_at))))
     CROSS JOIN LATERAL ( SELECT
                CASE
                    WHEN (d.segment_id IS NULL) THEN o.end_actor
                    ELSE d.actor
                END AS actor,
                CASE
                    WHEN (d.segment_id IS NULL) THEN o.end_reason
                    ELSE d.reason
                END AS reason) e(end_actor, end_reason))
  WHERE o.included;

ALTER TABLE segmentation.assignments_elsewhere OWNER TO segmentation_owner;

CREATE TABLE segmentation.deploys (
    deploy bigint NOT NULL,
    digest text NOT NULL,
    version text NOT NULL,
    deployed_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL
);

ALTER TABLE segmentation.deploys OWNER TO segmentation_owner;

ALTER TABLE segmentation.deploys ALTER COLUMN deploy ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME segmentation.deploys_deploy_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE segmentation.idempotency_keys (
    api_key text NOT NULL,
    idempotency_key text NOT NULL,
    fingerprint bytea NOT NULL,
    path text,
    status smallint NOT NULL,
    location text,
    answer text NOT NULL,
    created_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    user_id bigint,
    CONSTRAINT idempotency_keys_answer_is_a_success CHECK (((status >= 200) AND (status <= 299))),
    CONSTRAINT idempotency_keys_fingerprint_is_sha256 CHECK ((length(fingerprint) = 32))
);

ALTER TABLE segmentation.idempotency_keys OWNER TO segmentation_owner;

CREATE TABLE segmentation.layer_cells (
    layer_id integer NOT NULL,
    salt bigint NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    cells bytea NOT NULL,
    segment_ids integer[] NOT NULL,
    slugs text[] NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT layer_cells_are_thousand CHECK ((length(cells) = 1000)),
    CONSTRAINT layer_cells_name_each_segment CHECK ((cardinality(segment_ids) = cardinality(slugs))),
    CONSTRAINT layer_cells_start_before_end CHECK ((starts_at < ends_at))
)
WITH (fillfactor='50', toast_tuple_target='8160');
ALTER TABLE ONLY segmentation.layer_cells ALTER COLUMN cells SET STORAGE PLAIN;

ALTER TABLE segmentation.layer_cells OWNER TO segmentation_owner;

ALTER TABLE segmentation.layers ALTER COLUMN layer_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME segmentation.layers_layer_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE segmentation.membership_history_2026_11 (
    user_id bigint NOT NULL,
    segment_id integer NOT NULL,
    included boolean NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    reason text,
    end_cause text NOT NULL,
    end_actor text,
    end_reason text,
    CONSTRAINT membership_history_end_cause_is_known CHECK ((end_cause = ANY (ARRAY['removed'::text, 'expired'::text, 'segment_deleted'::text]))),
    CONSTRAINT membership_history_ends_at_is_finite CHECK (isfinite(ends_at)),
    CONSTRAINT membership_history_start_before_end CHECK ((starts_at < ends_at))
);

ALTER TABLE segmentation.membership_history_2026_11 OWNER TO segmentation_owner;

CREATE TABLE segmentation.membership_history_2026_12 (
    user_id bigint NOT NULL,
    segment_id integer NOT NULL,
    included boolean NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    reason text,
    end_cause text NOT NULL,
    end_actor text,
    end_reason text,
    CONSTRAINT membership_history_end_cause_is_known CHECK ((end_cause = ANY (ARRAY['removed'::text, 'expired'::text, 'segment_deleted'::text]))),
    CONSTRAINT membership_history_ends_at_is_finite CHECK (isfinite(ends_at)),
    CONSTRAINT membership_history_start_before_end CHECK ((starts_at < ends_at))
);

ALTER TABLE segmentation.membership_history_2026_12 OWNER TO segmentation_owner;

CREATE TABLE segmentation.membership_history_2027_01 (
    user_id bigint NOT NULL,
    segment_id integer NOT NULL,
    included boolean NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    reason text,
    end_cause text NOT NULL,
    end_actor text,
    end_reason text,
    CONSTRAINT membership_history_end_cause_is_known CHECK ((end_cause = ANY (ARRAY['removed'::text, 'expired'::text, 'segment_deleted'::text]))),
    CONSTRAINT membership_history_ends_at_is_finite CHECK (isfinite(ends_at)),
    CONSTRAINT membership_history_start_before_end CHECK ((starts_at < ends_at))
);

ALTER TABLE segmentation.membership_history_2027_01 OWNER TO segmentation_owner;

CREATE TABLE segmentation.membership_history_2027_02 (
    user_id bigint NOT NULL,
    segment_id integer NOT NULL,
    included boolean NOT NULL,
    starts_at timestamp with time zone NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    reason text,
    end_cause text NOT NULL,
    end_actor text,
    end_reason text,
    CONSTRAINT membership_history_end_cause_is_known CHECK ((end_cause = ANY (ARRAY['removed'::text, 'expired'::text, 'segment_deleted'::text]))),
    CONSTRAINT membership_history_ends_at_is_finite CHECK (isfinite(ends_at)),
    CONSTRAINT membership_history_start_before_end CHECK ((starts_at < ends_at))
);

ALTER TABLE segmentation.membership_history_2027_02 OWNER TO segmentation_owner;

CREATE TABLE segmentation.place (
    kind text DEFAULT 'single'::text NOT NULL,
    one_row boolean DEFAULT true NOT NULL,
    CONSTRAINT place_is_true CHECK (one_row),
    CONSTRAINT place_kind_is_known CHECK ((kind = ANY (ARRAY['single'::text, 'router'::text, 'shard'::text])))
);

ALTER TABLE segmentation.place OWNER TO segmentation_owner;

CREATE TABLE segmentation.report_links (
    id_digest bytea NOT NULL,
    period text NOT NULL,
    user_id bigint,
    created_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    actor text NOT NULL,
    CONSTRAINT report_links_digest_is_sha256 CHECK ((length(id_digest) = 32)),
    CONSTRAINT report_links_expires_after_created CHECK ((expires_at > created_at)),
    CONSTRAINT report_links_period_is_a_month CHECK ((period ~ '^\d{4}-(0[1-9]|1[0-2])$'::text)),
    CONSTRAINT report_links_user_id_is_positive CHECK ((user_id > 0))
);

ALTER TABLE segmentation.report_links OWNER TO segmentation_owner;

CREATE TABLE segmentation.retention (
    kept_since timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    one_row boolean DEFAULT true NOT NULL,
    CONSTRAINT retention_is_true CHECK (one_row)
);

ALTER TABLE segmentation.retention OWNER TO segmentation_owner;

ALTER TABLE segmentation.segments ALTER COLUMN segment_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME segmentation.segments_segment_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE SEQUENCE segmentation.told_until
    START WITH 0
    INCREMENT BY 1
    MINVALUE 0
    NO MAXVALUE
    CACHE 1;

ALTER TABLE segmentation.told_until OWNER TO segmentation_owner;

CREATE TABLE segmentation.upkeep (
    task text NOT NULL,
    finished_at timestamp with time zone NOT NULL,
    rows bigint NOT NULL
);

ALTER TABLE segmentation.upkeep OWNER TO segmentation_owner;

CREATE TABLE segmentation.users (
    user_id bigint NOT NULL,
    registered_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    CONSTRAINT users_registered_at_is_finite CHECK (isfinite(registered_at)),
    CONSTRAINT users_user_id_is_positive CHECK ((user_id > 0))
);

ALTER TABLE segmentation.users OWNER TO segmentation_owner;

CREATE TABLE segmentation_migrations._yoyo_log (
    id character varying(36) NOT NULL,
    migration_hash character varying(64),
    migration_id character varying(255),
    operation character varying(10),
    username character varying(255),
    hostname character varying(255),
    comment character varying(255),
    created_at_utc timestamp without time zone
);

ALTER TABLE segmentation_migrations._yoyo_log OWNER TO postgres;

CREATE TABLE segmentation_migrations._yoyo_migration (
    migration_hash character varying(64) NOT NULL,
    migration_id character varying(255),
    applied_at_utc timestamp without time zone
);

ALTER TABLE segmentation_migrations._yoyo_migration OWNER TO postgres;

CREATE TABLE segmentation_migrations._yoyo_version (
    version integer NOT NULL,
    installed_at_utc timestamp without time zone
);

ALTER TABLE segmentation_migrations._yoyo_version OWNER TO postgres;

CREATE TABLE segmentation_migrations.yoyo_lock (
    locked integer DEFAULT 1 NOT NULL,
    ctime timestamp without time zone,
    pid integer NOT NULL
);

ALTER TABLE segmentation_migrations.yoyo_lock OWNER TO postgres;

ALTER TABLE ONLY segmentation.membership_history ATTACH PARTITION segmentation.membership_history_2026_11 FOR VALUES FROM ('2026-11-01 00:00:00+00') TO ('2026-12-01 00:00:00+00');

ALTER TABLE ONLY segmentation.membership_history ATTACH PARTITION segmentation.membership_history_2026_12 FOR VALUES FROM ('2026-12-01 00:00:00+00') TO ('2027-01-01 00:00:00+00');

ALTER TABLE ONLY segmentation.membership_history ATTACH PARTITION segmentation.membership_history_2027_01 FOR VALUES FROM ('2027-01-01 00:00:00+00') TO ('2027-02-01 00:00:00+00');

ALTER TABLE ONLY segmentation.membership_history ATTACH PARTITION segmentation.membership_history_2027_02 FOR VALUES FROM ('2027-02-01 00:00:00+00') TO ('2027-03-01 00:00:00+00');

INSERT INTO segmentation.api_keys VALUES ('web-shop', 'reader', '\xdd68666d81f31a9b4b51f3d57d66ed3792bc574a85c2ebb78b1eb08b84c7561f', '2026-11-27 23:04:13.98886+00', 'infinity', 'infinity');

INSERT INTO segmentation.deploys OVERRIDING SYSTEM VALUE VALUES (1, '46ca77ff714a', '2.0.0 (46ca77ff714a)', '2026-11-27 23:04:13.088146+00');

INSERT INTO segmentation.layer_cells VALUES (1, 3059740742658010070, '-infinity', '2099-01-01 00:00:00+00', '\x00000000000002000001000202000000000201000200000100000102000000020202020202000000000201020000020102020102000100000002000200000001000000020000000101000001000000000000020200020000020102000200020202010100000100020000000000000100000100010200010200020101010200020002010000010000000002020002010000000002020002000001020101020102020100020000000200000202000102000002000001000000020101010100000200000002020100000001020202010000000001020000010101000101000000010002020000000100000000020201020202000002020101010201000202010001020002000202010200000102020200000001000000000000000201020200000002010000000000000200000201010000020001000100020002000201010000000100010200010000000100000000000202000201020001010200020202020100000002000201010000020100020002000200020001020102010002000000020200000000000100000200000100020200000002020100020000000000020000000001000000010002000000020000010100020000000001020101000000000102010000020202010000000000000000020202010100020002020200000002000000000202000002020100010102020202000001000002020100010000000002010102000200020201020002000101000000010000010002010202000000000200000202020000000202000000000000020200020001000000000200000002000001020202000000000002010202000102000100000201020202020102000001000100010201020200000002000100010102020001020200010100000100000002010200000100ff0000010200020001020200000001010002000101010200000201000002000200000002020000000001000002020000010000020202020100020202020000020001000101000100000200020202000200020000000000010001020100020001000201000000020100000202020102000000000202010201020002010001010200000000000200020102000201000100000200000200020000000001010002000002000101000000020202000200020000010202020002020001000200000200000202000002020101010000000100010002000200000201010002000002020002000000000000000002000200000000020201000000000002010200000202000001000200020200010101010001010002000102010100000102010202010002010000000200010001000000020100020200010000010200020000000002010202000100010002010200000200010000020002000000020002000202000101000002', '{4,5}', '{CONTROL,VARIANT}');
INSERT INTO segmentation.layer_cells VALUES (1, 3059740742658010070, '2099-01-01 00:00:00+00', 'infinity', '\x00000202000002000001000202000000000201000202000100000102000002020202020202000002020201020002020102020102020100000202000202000001020200020000000101000001000000020000020202020200020102020202020202010100000102020002020000000102020100010200010200020101010200020202010000010002000002020002010000020002020002000001020101020102020102020202000200000202020102000002000201000000020101010100000202000002020100020001020202010002000001020000010101020101020002010002020000000100000002020201020202020002020101010201020202010001020202000202010200020102020202020201000202020202000201020202020202010200020200000200000201010000020201000102020202020201010202000102010200010002020100020000020202000201020001010200020202020102000202000201010000020100020002000202020001020102010002020000020200020000000100020202000100020200000002020100020200020002020000020201020002010002000200020000010102020200000001020101020000000102010202020202010002000002020202020202010102020002020202000202000000000202020002020102010102020202020201020002020100010000000002010102020200020201020002000101000200010202010002010202000002020202020202020202020202000000000002020200020001000000020200020002020201020202000000020002010202020102020100000201020202020102000201000102010201020200000202020102010102020201020202010100020100020202010202020100020002010200020001020202000001010202020101010200000201000202020202020202020202000001020002020002010000020202020102020202020000020201020101000102000200020202000202020000000000010201020100020001000201000200020102000202020102020000020202010201020202010001010200000002020202020102000201000100020200020200020000020201010002000202020101020200020202000200020202010202020002020201020200020200000202020002020101010002020102010002020200000201010202000002020202000200000000020002000200000202020201000000020002010200020202000201000202020200010101010201010002020102010102000102010202010002010200000200010001020200020100020200010000010200020000000202010202000102010202010202000200010200020002020002020002000202020101000002', '{4,5}', '{CONTROL,VARIANT}');

INSERT INTO segmentation.layers OVERRIDING SYSTEM VALUE VALUES (1, 'LAYER', 'one of three', 3059740742658010070, '2026-11-27 23:04:13.995862+00', 'infinity', 'postgres', NULL, NULL, NULL);
INSERT INTO segmentation.layers OVERRIDING SYSTEM VALUE VALUES (2, 'OLD_LAYER', '', 3352871907407247211, '2026-11-27 23:04:14.177305+00', '2026-11-27 23:04:14.18303+00', 'postgres', NULL, 'postgres', NULL);

INSERT INTO segmentation.membership_history_2026_11 VALUES (1, 1, true, '2026-11-27 23:04:13.857565+00', '2026-11-27 23:04:13.89439+00', 'postgres', 'import', 'removed', 'postgres', 'ticket');
INSERT INTO segmentation.membership_history_2026_11 VALUES (2, 1, true, '2026-11-27 23:04:13.857565+00', '2026-11-27 23:04:13.924899+00', 'postgres', 'import', 'removed', 'postgres', NULL);
INSERT INTO segmentation.membership_history_2026_11 VALUES (1, 3, true, '2026-11-27 23:04:13.919189+00', '2026-11-27 23:04:13.946525+00', 'postgres', NULL, 'segment_deleted', 'postgres', 'over');
INSERT INTO segmentation.membership_history_2026_11 VALUES (3, 3, true, '2026-11-27 23:04:13.933044+00', '2026-11-27 23:04:13.946525+00', 'postgres', NULL, 'segment_deleted', 'postgres', 'over');

INSERT INTO segmentation.memberships VALUES (3, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (4, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (5, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (6, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (7, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (8, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (9, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (10, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (11, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (12, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (13, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (14, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (15, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (16, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (17, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (18, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (19, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (20, 1, true, '2026-11-27 23:04:13.857565+00', 'infinity', 'postgres', 'import', NULL, NULL, '2026-11-27 23:04:13.857565+00', NULL);
INSERT INTO segmentation.memberships VALUES (1, 1, true, '2026-11-27 23:04:13.919189+00', '2098-01-01 00:00:00+00', 'postgres', NULL, 'postgres', NULL, '2026-11-27 23:04:13.919189+00', NULL);
INSERT INTO segmentation.memberships VALUES (2, 2, false, '2026-11-27 23:04:13.924899+00', 'infinity', 'postgres', NULL, NULL, NULL, '2026-11-27 23:04:13.924899+00', NULL);
INSERT INTO segmentation.memberships VALUES (4, 2, true, '2097-01-01 00:00:00+00', 'infinity', 'postgres', NULL, NULL, NULL, '2026-11-27 23:04:13.939402+00', NULL);
INSERT INTO segmentation.memberships VALUES (5, 5, true, '2026-11-27 23:04:14.149969+00', 'infinity', 'postgres', 'tester', NULL, NULL, '2026-11-27 23:04:14.149969+00', 1);
INSERT INTO segmentation.memberships VALUES (6, 4, true, '2026-11-27 23:04:14.159433+00', '2098-01-01 00:00:00+00', 'postgres', NULL, 'postgres', NULL, '2026-11-27 23:04:14.159433+00', 1);
INSERT INTO segmentation.memberships VALUES (7, 6, true, '2026-11-27 23:04:14.162723+00', 'infinity', 'postgres', NULL, NULL, NULL, '2026-11-27 23:04:14.162723+00', 1);

INSERT INTO segmentation.place VALUES ('single', true);

INSERT INTO segmentation.report_links VALUES ('\x6d6706ab9e03b413725907af866bd3a57254b29028795dc54b692789947bb12e', '2026-11', 1, '2026-11-27 23:04:13.984244+00', '2026-11-28 23:04:13.980155+00', 'postgres');

INSERT INTO segmentation.retention VALUES ('-infinity', true);

INSERT INTO segmentation.rollouts VALUES (2, 7983091845979670724, 40, DEFAULT, '2026-11-27 23:04:13.798271+00', '2026-11-27 23:04:13.823391+00', 'postgres', NULL, '2026-11-27 23:04:13.823391+00', NULL, NULL, 'B');
INSERT INTO segmentation.rollouts VALUES (2, 7983091845979670724, 80, DEFAULT, '2099-01-01 00:00:00+00', 'infinity', 'postgres', NULL, '2026-11-27 23:04:13.827918+00', NULL, NULL, 'B');
INSERT INTO segmentation.rollouts VALUES (2, 7983091845979670724, 60, DEFAULT, '2026-11-27 23:04:13.823391+00', '2099-01-01 00:00:00+00', 'postgres', NULL, '2026-11-27 23:04:13.823391+00', NULL, NULL, 'B');
INSERT INTO segmentation.rollouts VALUES (3, 5232939537712979744, 20, DEFAULT, '2026-11-27 23:04:13.814342+00', '2026-11-27 23:04:13.946525+00', 'postgres', NULL, '2026-11-27 23:04:13.946525+00', NULL, NULL, 'GONE');
INSERT INTO segmentation.rollouts VALUES (4, 3059740742658010070, 30, DEFAULT, '2026-11-27 23:04:14.003121+00', '2026-11-27 23:04:14.108597+00', 'postgres', NULL, '2026-11-27 23:04:14.108597+00', 1, '{[300,400),[900,1000),[1800,1900),[2300,2400),[2600,2700),[4200,4300),[4700,4800),[5000,5100),[5300,5400),[5500,5600),[6300,6400),[7100,7300),[7500,7600),[7800,8000),[8600,8700),[8900,9000),[9700,9900),[10100,10200),[10400,10500),[11000,11100),[11300,11400),[11500,11600),[11800,11900),[12200,12500),[13000,13100),[13300,13400),[14200,14300),[14500,14600),[15300,15400),[15500,15700),[15800,15900),[16100,16300),[16400,16600),[16900,17000),[17200,17400),[17800,17900),[18000,18100),[18500,18900),[19700,19800),[19900,20000),[20100,20200),[20500,20800),[20900,21100),[21400,21700),[21800,22000),[22300,22400),[23000,23100),[23700,23800),[24500,24800),[24900,25000),[25300,25400),[25500,25600),[25700,25800),[26200,26300),[26400,26500),[26600,26700),[27000,27200),[27300,27400),[27600,27800),[28200,28300),[28900,29000),[29500,29600),[30000,30200),[30600,30700),[30800,30900),[31100,31200),[31300,31400),[31500,31700),[31900,32100),[32200,32300),[32400,32600),[32900,33000),[33400,33500),[33900,34000),[34200,34400),[34500,34600),[35000,35100),[35300,35400),[35700,35900),[36200,36300),[36700,36800),[37200,37300),[37400,37500),[37600,37700),[37900,38000),[38400,38500),[38600,38700),[38900,39000),[39300,39600),[40400,40600),[41700,41800),[42000,42200),[42800,42900),[43000,43200),[43400,43500),[43800,43900),[44000,44200),[44600,44700),[44800,45000),[45400,45500),[45900,46100),[46600,46800),[48800,48900),[49000,49200),[49800,50100),[50300,50400),[50500,50600),[50900,51000),[51100,51300),[51900,52000),[52400,52800),[52900,53000),[53200,53300),[53500,53600),[54100,54200),[54300,54500),[54800,54900),[55500,55600),[56400,56500),[56600,56700),[56800,56900),[57400,57500),[57600,57700),[58600,58700),[59000,59100),[59200,59400),[59700,59800),[60200,60300),[60600,60700),[60800,61100),[61200,61300),[61900,62400),[62700,62800),[63000,63300),[63400,63700),[64000,64100),[64200,64300),[64400,64500),[64800,65000),[65400,65500),[65700,65800),[66000,66300),[66500,66800),[67200,67400),[67900,68000),[68400,68500),[68700,68800),[69400,69500),[70100,70200),[71000,71500),[71600,71700),[72800,72900),[73300,73600),[73700,73800),[74100,74200),[74400,74700),[74900,75100),[75500,75600),[75700,75800),[76300,76400),[76500,76600),[76700,76800),[76900,77000),[77100,77300),[77600,77700),[78200,78300),[78600,78700),[78800,78900),[79300,79400),[80100,80300),[80600,80700),[80900,81100),[81300,81400),[82300,82400),[82700,82800),[83000,83200),[84500,84800),[85100,85200),[85300,85400),[86100,86300),[86600,86700),[86900,87000),[87500,87600),[88400,88600),[88800,88900),[89500,89600),[90300,90400),[90900,91400),[91500,91700),[91900,92100),[92200,92500),[92600,92700),[92800,92900),[93100,93200),[93400,93500),[94000,94100),[94200,94300),[94500,94600),[94700,94800),[95200,95300),[95500,95600),[95900,96100),[96200,96300),[96400,96500),[96800,97200),[97300,97400),[97900,98000),[99500,99700)}', 'CONTROL');
INSERT INTO segmentation.rollouts VALUES (4, 3059740742658010070, 20, DEFAULT, '2026-11-27 23:04:14.108597+00', 'infinity', 'postgres', NULL, '2026-11-27 23:04:14.108597+00', 1, '{[900,1000),[1800,1900),[2300,2400),[2600,2700),[4200,4300),[4700,4800),[5000,5100),[5300,5400),[6300,6400),[7100,7300),[7500,7600),[8900,9000),[9700,9900),[10100,10200),[11000,11100),[11300,11400),[11500,11600),[11800,11900),[12200,12500),[13000,13100),[13300,13400),[14200,14300),[15300,15400),[15500,15700),[15800,15900),[16100,16200),[17300,17400),[18000,18100),[18500,18900),[19700,19800),[20100,20200),[20500,20600),[21000,21100),[21400,21700),[21800,22000),[22300,22400),[23000,23100),[23700,23800),[24500,24800),[24900,25000),[25300,25400),[25500,25600),[26200,26300),[26600,26700),[27300,27400),[28200,28300),[28900,29000),[30000,30200),[30600,30700),[30800,30900),[31500,31700),[32000,32100),[32200,32300),[32500,32600),[32900,33000),[33900,34000),[34200,34400),[35000,35100),[35700,35900),[36200,36300),[37200,37300),[37400,37500),[37600,37700),[38900,39000),[39500,39600),[40400,40500),[41700,41800),[42100,42200),[43000,43200),[43800,43900),[44000,44200),[44600,44700),[44800,44900),[45400,45500),[46600,46800),[48800,48900),[49000,49200),[49800,49900),[50300,50400),[50500,50600),[51100,51300),[51900,52000),[52400,52600),[52900,53000),[53200,53300),[53500,53600),[56400,56500),[57600,57700),[58600,58700),[59000,59100),[59300,59400),[59700,59800),[60200,60300),[60600,60700),[60800,60900),[61000,61100),[61200,61300),[62000,62100),[62200,62400),[62700,62800),[63100,63300),[63500,63600),[64000,64100),[64400,64500),[64900,65000),[65400,65500),[66000,66200),[66500,66800),[67200,67300),[68700,68800),[69400,69500),[70100,70200),[71100,71200),[71300,71500),[71600,71700),[73300,73400),[73500,73600),[73700,73800),[74100,74200),[74400,74500),[74900,75000),[75500,75600),[76300,76400),[76500,76600),[76900,77000),[77100,77300),[78200,78300),[78600,78700),[78800,78900),[80100,80300),[80900,81100),[82300,82400),[83100,83200),[84500,84800),[85100,85200),[85300,85400),[86100,86300),[88800,88900),[89500,89600),[90300,90400),[91000,91400),[91500,91700),[92000,92100),[92200,92400),[92600,92700),[92800,92900),[93100,93200),[93400,93500),[94000,94100),[94200,94300),[94700,94800),[95200,95300),[95500,95600),[96400,96500),[96800,96900),[97000,97100),[97300,97400),[97900,98000),[99500,99700)}', 'CONTROL');
INSERT INTO segmentation.rollouts VALUES (5, 3059740742658010070, 30.05, DEFAULT, '2026-11-27 23:04:14.055687+00', '2099-01-01 00:00:00+00', 'postgres', NULL, '2026-11-27 23:04:14.055687+00', 1, '{[600,700),[1100,1300),[1700,1800),[2000,2100),[2700,2800),[3100,3700),[4100,4200),[4300,4400),[4600,4700),[4800,5000),[5100,5200),[5700,5800),[5900,6000),[6700,6800),[8200,8400),[8500,8600),[8800,8900),[9000,9100),[9200,9300),[9400,9700),[10300,10400),[11600,11700),[11900,12000),[12100,12200),[12500,12600),[12700,12800),[12900,13000),[13800,14000),[14100,14200),[14700,14900),[15000,15100),[15400,15500),[15700,15800),[15900,16100),[16300,16400),[16700,16800),[17000,17200),[17400,17500),[17700,17800),[18400,18500),[19100,19200),[19500,19700),[20200,20500),[21100,21200),[22500,22700),[23500,23700),[23800,24100),[24300,24500),[24800,24900),[25100,25300),[25600,25700),[25800,25900),[26000,26200),[26300,26400),[26700,27000),[28100,28200),[28300,28500),[28800,28900),[29600,29700),[29900,30000),[30400,30500),[31000,31100),[31200,31300),[31400,31500),[32300,32400),[33500,33700),[33800,33900),[34000,34100),[34400,34500),[34600,35000),[35400,35500),[35600,35700),[36100,36200),[36400,36500),[36600,36700),[36800,36900),[37000,37100),[37300,37400),[37500,37600),[37800,37900),[38200,38400),[39200,39300),[39700,39900),[40200,40400),[40600,40700),[41200,41300),[42300,42400),[42700,42800),[43300,43400),[43900,44000),[44700,44800),[45100,45400),[46300,46600),[46900,47000),[47100,47400),[47700,47800),[48200,48400),[48600,48800),[49200,49600),[50100,50300),[51000,51100),[51300,51400),[51500,51600),[51700,51900),[52000,52100),[52200,52300),[53400,53500),[53600,53800),[54200,54300),[54500,54800),[55100,55300),[55900,56100),[56200,56300),[56900,57000),[57300,57400),[57700,58000),[58500,58600),[58700,58900),[59100,59200),[59600,59700),[59800,60200),[60300,60400),[61100,61200),[61300,61500),[61800,61900),[62400,62600),[62800,63000),[63900,64000),[64100,64200),[64600,64650),[65000,65100),[65200,65300),[65500,65700),[66300,66400),[66800,66900),[67100,67200),[67500,67600),[67700,67800),[68100,68300),[69000,69200),[69700,70100),[70300,70700),[70900,71000),[71900,72000),[72100,72400),[72500,72600),[72700,72800),[73600,73700),[73900,74000),[74300,74400),[74800,74900),[75200,75500),[75600,75700),[76100,76300),[76400,76500),[76600,76700),[76800,76900),[77300,77400),[77900,78000),[78100,78200),[78300,78400),[78500,78600),[79100,79200),[79400,79500),[79600,79700),[80400,80500),[80700,80800),[81400,81700),[81800,81900),[82000,82100),[82400,82700),[82800,83000),[83300,83400),[83600,83700),[83900,84100),[84300,84500),[85500,85600),[85700,85800),[86000,86100),[86400,86500),[86700,86900),[87000,87100),[87900,88000),[88100,88200),[88600,88800),[89400,89500),[89600,89700),[89900,90100),[90500,90600),[90700,90900),[91800,91900),[92100,92200),[92700,92800),[92900,93100),[93300,93400),[93800,93900),[94600,94700),[94900,95100),[95600,95700),[95800,95900),[96300,96400),[96500,96700),[97200,97300),[97400,97500),[97700,97800),[98200,98300),[98400,98500),[98800,98900),[99000,99100),[99200,99400),[99900,100000)}', 'VARIANT');
INSERT INTO segmentation.rollouts VALUES (5, 3059740742658010070, 50, DEFAULT, '2099-01-01 00:00:00+00', 'infinity', 'postgres', NULL, '2026-11-27 23:04:14.130497+00', 1, '{[200,400),[600,700),[1100,1300),[1700,1800),[2000,2200),[2700,2800),[3000,3700),[3900,4200),[4300,4400),[4500,4700),[4800,5000),[5100,5300),[5600,5800),[5900,6100),[6400,6600),[6700,6800),[7900,8000),[8200,8700),[8800,8900),[9000,9700),[10200,10400),[10500,10700),[11100,11300),[11600,11700),[11900,12000),[12100,12200),[12500,12600),[12700,13000),[13500,13600),[13800,14000),[14100,14200),[14500,14600),[14700,14900),[15000,15100),[15400,15500),[15700,15800),[15900,16100),[16200,16600),[16700,16800),[17000,17300),[17400,17500),[17700,17800),[17900,18000),[18400,18500),[19100,19300),[19500,19700),[19900,20000),[20200,20500),[20700,20800),[21100,21200),[21700,21800),[22000,22100),[22200,22300),[22500,22700),[23400,23700),[23800,24200),[24300,24500),[24800,24900),[25000,25300),[25600,25900),[26000,26200),[26300,26400),[26500,26600),[26700,27300),[27500,28000),[28100,28200),[28300,28900),[29000,29100),[29200,29400),[29600,29700),[29900,30000),[30400,30600),[30900,31500),[31700,31900),[32100,32200),[32300,32400),[32700,32900),[33100,33200),[33400,33700),[33800,33900),[34000,34100),[34400,34500),[34600,35000),[35100,35200),[35300,35500),[35600,35700),[36100,36200),[36400,36500),[36600,36700),[36800,37100),[37300,37400),[37500,37600),[37800,38000),[38200,38400),[38500,38600),[39100,39400),[39700,39900),[40200,40400),[40600,40800),[40900,41000),[41100,41300),[41500,41700),[41800,41900),[42000,42100),[42300,42400),[42500,42600),[42700,42800),[43200,43500),[43900,44000),[44200,44300),[44700,44800),[44900,45400),[45600,45700),[45900,46600),[46800,47000),[47100,47500),[47600,47800),[48200,48500),[48600,48800),[48900,49000),[49200,49800),[49900,50000),[50100,50300),[51000,51100),[51300,51600),[51700,51900),[52000,52100),[52200,52300),[52700,52800),[53000,53200),[53400,53500),[53600,53800),[54000,55300),[55800,56100),[56200,56300),[56800,57000),[57100,57200),[57300,57600),[57700,58000),[58300,58400),[58500,58600),[58700,59000),[59100,59300),[59600,59700),[59800,60200),[60300,60400),[60500,60600),[60900,61000),[61100,61200),[61300,61500),[61700,62000),[62100,62200),[62400,62700),[62800,63100),[63400,63500),[63700,64000),[64100,64400),[64600,64700),[64800,64900),[65000,65100),[65200,65300),[65500,65800),[66200,66500),[66800,66900),[67100,67200),[67400,68500),[68800,68900),[69000,69200),[69300,69400),[69700,70100),[70200,70700),[70900,71100),[71200,71300),[71700,71800),[71900,72000),[72100,72400),[72500,72800),[73400,73500),[73600,73700),[73900,74000),[74300,74400),[74600,74700),[74800,74900),[75000,75100),[75200,75500),[75600,75800),[76000,76300),[76400,76500),[76600,76900),[77300,77400),[77700,78200),[78300,78400),[78500,78600),[79000,79200),[79300,79500),[79600,79700),[79900,80100),[80400,80500),[80600,80900),[81100,81300),[81400,81700),[81800,81900),[82000,82300),[82400,82700),[82800,83100),[83200,83400),[83500,83700),[83900,84200),[84300,84500),[84900,85100),[85200,85300),[85500,85800),[86000,86100),[86300,86500),[86700,87100),[87200,87300),[87700,87800),[87900,88000),[88100,88200),[88400,88800),[89200,89300),[89400,89500),[89600,89700),[89800,90100),[90200,90300),[90500,90900),[91400,91500),[91800,92000),[92100,92200),[92400,92500),[92700,92800),[92900,93100),[93300,93400),[93500,93600),[93800,93900),[94300,94500),[94600,94700),[94900,95100),[95600,95700),[95800,95900),[96200,96400),[96500,96700),[96900,97000),[97100,97300),[97400,97600),[97700,97800),[98000,98100),[98200,98300),[98400,98600),[98700,98900),[99000,99100),[99200,99500),[99900,100000)}', 'VARIANT');
INSERT INTO segmentation.rollouts VALUES (6, 3059740742658010070, 20, DEFAULT, '2026-11-27 23:04:14.082604+00', '2026-11-27 23:04:14.166595+00', 'postgres', NULL, '2026-11-27 23:04:14.166595+00', 1, '{[0,200),[500,600),[800,900),[1000,1100),[1500,1700),[2400,2600),[2800,2900),[3700,3900),[4400,4500),[5400,5500),[5800,5900),[6100,6200),[6600,6700),[6800,7100),[7300,7500),[7600,7800),[8000,8200),[8700,8800),[9900,10100),[10700,10900),[11400,11500),[11700,11800),[12000,12100),[13100,13300),[13400,13500),[13600,13800),[14000,14100),[14300,14500),[15100,15200),[16600,16700),[17500,17700),[18100,18400),[18900,19000),[19400,19500),[20000,20100),[20800,20900),[21200,21400),[22400,22500),[22900,23000),[23100,23300),[24200,24300),[25400,25500),[27400,27500),[28000,28100),[29400,29500),[29700,29900),[30300,30400),[30700,30800),[32600,32700),[33000,33100),[34100,34200),[35200,35300),[35500,35600),[35900,36100),[36300,36400),[36500,36600),[37100,37200),[37700,37800),[38100,38200),[38700,38800),[39000,39100),[39600,39700),[39900,40200),[40800,40900),[41300,41500),[41900,42000),[42600,42700),[42900,43000),[43600,43800),[44300,44400),[44500,44600),[45700,45800),[47000,47100),[47500,47600),[47800,48200),[50400,50500),[50600,50900),[52100,52200),[52300,52400),[52800,52900),[53300,53400),[53800,54000),[55400,55500),[55600,55800),[56100,56200),[56300,56400),[56500,56600),[56700,56800),[57200,57300),[58000,58100),[58400,58500),[59400,59600),[60400,60500),[60700,60800),[61500,61700),[63300,63400),[65100,65200),[65300,65400),[65800,66000),[67000,67100),[68600,68700),[68900,69000),[69200,69300),[69600,69700),[70700,70800),[71500,71600),[72000,72100),[72400,72500),[72900,73100),[73200,73300),[74000,74100),[74200,74300),[74700,74800),[75800,76000),[77000,77100),[78400,78500),[78700,78800),[78900,79000),[79200,79300),[79500,79600),[79700,79900),[80300,80400),[80500,80600),[81700,81800),[81900,82000),[83400,83500),[83700,83900),[84200,84300),[84800,84900),[85400,85500),[85800,86000),[87100,87200),[87400,87500),[87600,87700),[88000,88100),[88300,88400),[88900,89200),[89700,89800),[90100,90200),[90400,90500),[91700,91800),[92500,92600),[93700,93800),[93900,94000),[94800,94900),[95100,95200),[95300,95500),[95700,95800),[96100,96200),[97600,97700),[97800,97900),[98100,98200),[98600,98700),[98900,99000),[99100,99200),[99700,99900)}', 'EARLIER');

INSERT INTO segmentation.segment_history VALUES (1, '2026-11-27 23:04:13.769037+00', 'create', 'by hand', NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-27 23:04:13.798271+00', 'create', NULL, NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-27 23:04:13.806063+00', 'set_rollout', NULL, 40, '2026-11-27 23:04:13.798271+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (3, '2026-11-27 23:04:13.814342+00', 'create', NULL, NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (3, '2026-11-27 23:04:13.815789+00', 'set_rollout', NULL, 20, '2026-11-27 23:04:13.814342+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-27 23:04:13.824917+00', 'set_rollout', NULL, 60, '2026-11-27 23:04:13.823391+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-27 23:04:13.829311+00', 'set_rollout', NULL, 80, '2099-01-01 00:00:00+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (3, '2026-11-27 23:04:13.946525+00', 'delete', NULL, NULL, NULL, 'postgres', 'over');
INSERT INTO segmentation.segment_history VALUES (4, '2026-11-27 23:04:14.003121+00', 'create', NULL, NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (4, '2026-11-27 23:04:14.018629+00', 'set_rollout', NULL, 30, '2026-11-27 23:04:14.003121+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (5, '2026-11-27 23:04:14.055687+00', 'create', NULL, NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (5, '2026-11-27 23:04:14.060773+00', 'set_rollout', NULL, 30.05, '2026-11-27 23:04:14.055687+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (6, '2026-11-27 23:04:14.082604+00', 'create', NULL, NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (6, '2026-11-27 23:04:14.090634+00', 'set_rollout', NULL, 20, '2026-11-27 23:04:14.082604+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (4, '2026-11-27 23:04:14.111891+00', 'set_rollout', NULL, 20, '2026-11-27 23:04:14.108597+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (5, '2026-11-27 23:04:14.131257+00', 'set_rollout', NULL, 50, '2099-01-01 00:00:00+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (6, '2026-11-27 23:04:14.166595+00', 'delete', NULL, NULL, NULL, 'postgres', NULL);

INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (1, 'A', 'by hand', 2109170193271840338, '2026-11-27 23:04:13.769037+00', 'infinity', false, NULL);
INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (2, 'B', '', 7983091845979670724, '2026-11-27 23:04:13.798271+00', 'infinity', false, NULL);
INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (3, 'GONE', '', 5232939537712979744, '2026-11-27 23:04:13.814342+00', '2026-11-27 23:04:13.946525+00', true, NULL);
INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (4, 'CONTROL', '', 3059740742658010070, '2026-11-27 23:04:14.003121+00', 'infinity', false, 1);
INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (5, 'VARIANT', '', 3059740742658010070, '2026-11-27 23:04:14.055687+00', 'infinity', false, 1);
INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (6, 'EARLIER', '', 3059740742658010070, '2026-11-27 23:04:14.082604+00', '2026-11-27 23:04:14.166595+00', false, 1);

INSERT INTO segmentation.upkeep VALUES ('sweep', '2026-11-27 23:04:13.301984+00', 0);

INSERT INTO segmentation.users VALUES (1, '2026-11-27 23:04:13.831876+00');
INSERT INTO segmentation.users VALUES (2, '2026-11-27 23:04:13.831999+00');
INSERT INTO segmentation.users VALUES (3, '2026-11-27 23:04:13.832091+00');
INSERT INTO segmentation.users VALUES (4, '2026-11-27 23:04:13.8321+00');
INSERT INTO segmentation.users VALUES (5, '2026-11-27 23:04:13.832108+00');
INSERT INTO segmentation.users VALUES (6, '2026-11-27 23:04:13.832115+00');
INSERT INTO segmentation.users VALUES (7, '2026-11-27 23:04:13.832121+00');
INSERT INTO segmentation.users VALUES (8, '2026-11-27 23:04:13.832128+00');
INSERT INTO segmentation.users VALUES (9, '2026-11-27 23:04:13.832135+00');
INSERT INTO segmentation.users VALUES (10, '2026-11-27 23:04:13.832142+00');
INSERT INTO segmentation.users VALUES (11, '2026-11-27 23:04:13.832148+00');
INSERT INTO segmentation.users VALUES (12, '2026-11-27 23:04:13.832155+00');
INSERT INTO segmentation.users VALUES (13, '2026-11-27 23:04:13.832167+00');
INSERT INTO segmentation.users VALUES (14, '2026-11-27 23:04:13.832173+00');
INSERT INTO segmentation.users VALUES (15, '2026-11-27 23:04:13.83218+00');
INSERT INTO segmentation.users VALUES (16, '2026-11-27 23:04:13.832187+00');
INSERT INTO segmentation.users VALUES (17, '2026-11-27 23:04:13.832194+00');
INSERT INTO segmentation.users VALUES (18, '2026-11-27 23:04:13.832201+00');
INSERT INTO segmentation.users VALUES (19, '2026-11-27 23:04:13.832209+00');
INSERT INTO segmentation.users VALUES (20, '2026-11-27 23:04:13.832216+00');
INSERT INTO segmentation.users VALUES (21, '2026-11-27 23:04:13.832224+00');
INSERT INTO segmentation.users VALUES (22, '2026-11-27 23:04:13.832233+00');
INSERT INTO segmentation.users VALUES (23, '2026-11-27 23:04:13.832242+00');
INSERT INTO segmentation.users VALUES (24, '2026-11-27 23:04:13.832252+00');
INSERT INTO segmentation.users VALUES (25, '2026-11-27 23:04:13.832259+00');
INSERT INTO segmentation.users VALUES (26, '2026-11-27 23:04:13.832266+00');
INSERT INTO segmentation.users VALUES (27, '2026-11-27 23:04:13.832273+00');
INSERT INTO segmentation.users VALUES (28, '2026-11-27 23:04:13.83228+00');
INSERT INTO segmentation.users VALUES (29, '2026-11-27 23:04:13.832292+00');
INSERT INTO segmentation.users VALUES (30, '2026-11-27 23:04:13.832298+00');
INSERT INTO segmentation.users VALUES (31, '2026-11-27 23:04:13.832306+00');
INSERT INTO segmentation.users VALUES (32, '2026-11-27 23:04:13.832313+00');
INSERT INTO segmentation.users VALUES (33, '2026-11-27 23:04:13.83232+00');
INSERT INTO segmentation.users VALUES (34, '2026-11-27 23:04:13.832327+00');
INSERT INTO segmentation.users VALUES (35, '2026-11-27 23:04:13.832334+00');
INSERT INTO segmentation.users VALUES (36, '2026-11-27 23:04:13.832341+00');
INSERT INTO segmentation.users VALUES (37, '2026-11-27 23:04:13.832348+00');
INSERT INTO segmentation.users VALUES (38, '2026-11-27 23:04:13.832355+00');
INSERT INTO segmentation.users VALUES (39, '2026-11-27 23:04:13.832363+00');
INSERT INTO segmentation.users VALUES (40, '2026-11-27 23:04:13.83237+00');

INSERT INTO segmentation_migrations._yoyo_log VALUES ('dbf2bb68-eab6-11f1-9146-02fc00000001', '442a06599ffbff06cb195975273c5e4ce55091201b67e2808420b5edc55f6d75', '0001_roles_and_schema', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.028298');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dbf9a7ca-eab6-11f1-9146-02fc00000001', 'b672f77c494960abe76a90bfb2efc9692e396e2e60f7a1400c8c9c4403b64dd0', '0002_segments_and_users', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.071679');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dbfded76-eab6-11f1-9146-02fc00000001', 'dcb7f91ab8126d9cb9cf4c00551d5557a26a7ddd54f18767b12aab17e5e4acdd', '0003_memberships', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.099667');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc06156e-eab6-11f1-9146-02fc00000001', '09930831877f5eb7aed1449a5149eb995ce89de405b924adcc748721cb5a8edc', '0004_keys_and_upkeep', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.153124');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc089f32-eab6-11f1-9146-02fc00000001', '255c1982e9e51e02cdca5ae7a1b77fee92bb89ae27660943abae2f41bae2434e', '0005_idempotency', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.169754');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc0aaa48-eab6-11f1-9146-02fc00000001', '8d9102650985a619cdb395f0645c89935a1143c18b6bc10537ceb211f45a06c4', '0006_columns_of_memberships', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.18314');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc0c5f78-eab6-11f1-9146-02fc00000001', '44ecece361ee732aa4026b4168febef5305781668d43a2d6b069c30a607a7244', '0007_evaluator', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.19435');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc0e45b8-eab6-11f1-9146-02fc00000001', 'd8d49d40af91fd566734e7e5d6e81e4e8a3b69c627a6d97bdb606e9168e90543', '0008_idempotency_user', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.206789');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc0fb6b4-eab6-11f1-9146-02fc00000001', '6e13bb94bff2aa697a1ebe7e662aea2eba8502c0442d70bb97cd8b69b6b5c7aa', '0009_idempotency_user_of_old_answers', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.216238');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc114f74-eab6-11f1-9146-02fc00000001', 'fcc1943c0b93d76e5af12defe475260503433bc607d5278464cd37389823fb5c', '0010_deploys', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.226704');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc164e7a-eab6-11f1-9146-02fc00000001', '0ead86235f4c0674f18423f83ab50fc5fd3863da9a3583b1f7240ab0b287de76', '0011_layers', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.259428');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc1da0ee-eab6-11f1-9146-02fc00000001', 'ed8afa85f884fea594b04d3953a75f18b50a8a474902baacbc33b61392479d8c', '0012_one_assignment_in_layer', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.307414');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc1e495e-eab6-11f1-9146-02fc00000001', 'be7dfd9891b2574fc9f8dc33558a32c79c2db24a5a19cd0cdcc409c47d6ebea8', '0013_told_until', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.311724');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc23c5fa-eab6-11f1-9146-02fc00000001', 'be7e1860dd952694ff2a20f215333c08265d0b8d0dbf1a3979dffd1aebcb1123', '0014_changes_by_time', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.34769');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc264ee2-eab6-11f1-9146-02fc00000001', '5bb7c7ed5fce0c8e4796a12b9ce943a65380357b4e5b328b2c16740bd8738942', '0015_columns_of_rollouts', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.364307');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc287848-eab6-11f1-9146-02fc00000001', 'f3755a7a950345e928971c3ce03bf1fff26e9a777f707bebc37cc9298a5d84c5', '0016_slugs_of_the_hot_read', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.37848');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc297194-eab6-11f1-9146-02fc00000001', '182678f49bf1ad81c77f0c31e28aff623a357c593102aee038373ed06f0f4f95', '0017_place', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.384849');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc2e392c-eab6-11f1-9146-02fc00000001', 'fa767a17a323cae02565c6da2c784256f78270f8cff1e3d11c783cce97ce9559', '0018_begun_for_changes', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.416173');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('dc2f8f3e-eab6-11f1-9146-02fc00000001', '3f2884dbd1848fe9747e7c29115b1cf3d085471a4a9bb4e3a957756375e25bfb', '0019_columns_by_name', 'apply', 'migrate', 'localhost', NULL, '2026-11-27 23:04:12.424938');

INSERT INTO segmentation_migrations._yoyo_migration VALUES ('442a06599ffbff06cb195975273c5e4ce55091201b67e2808420b5edc55f6d75', '0001_roles_and_schema', '2026-11-27 23:04:12.029767');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('b672f77c494960abe76a90bfb2efc9692e396e2e60f7a1400c8c9c4403b64dd0', '0002_segments_and_users', '2026-11-27 23:04:12.072246');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('dcb7f91ab8126d9cb9cf4c00551d5557a26a7ddd54f18767b12aab17e5e4acdd', '0003_memberships', '2026-11-27 23:04:12.100205');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('09930831877f5eb7aed1449a5149eb995ce89de405b924adcc748721cb5a8edc', '0004_keys_and_upkeep', '2026-11-27 23:04:12.153795');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('255c1982e9e51e02cdca5ae7a1b77fee92bb89ae27660943abae2f41bae2434e', '0005_idempotency', '2026-11-27 23:04:12.170641');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('8d9102650985a619cdb395f0645c89935a1143c18b6bc10537ceb211f45a06c4', '0006_columns_of_memberships', '2026-11-27 23:04:12.183676');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('44ecece361ee732aa4026b4168febef5305781668d43a2d6b069c30a607a7244', '0007_evaluator', '2026-11-27 23:04:12.195085');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('d8d49d40af91fd566734e7e5d6e81e4e8a3b69c627a6d97bdb606e9168e90543', '0008_idempotency_user', '2026-11-27 23:04:12.207352');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('6e13bb94bff2aa697a1ebe7e662aea2eba8502c0442d70bb97cd8b69b6b5c7aa', '0009_idempotency_user_of_old_answers', '2026-11-27 23:04:12.216744');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('fcc1943c0b93d76e5af12defe475260503433bc607d5278464cd37389823fb5c', '0010_deploys', '2026-11-27 23:04:12.227278');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('0ead86235f4c0674f18423f83ab50fc5fd3863da9a3583b1f7240ab0b287de76', '0011_layers', '2026-11-27 23:04:12.26004');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('ed8afa85f884fea594b04d3953a75f18b50a8a474902baacbc33b61392479d8c', '0012_one_assignment_in_layer', '2026-11-27 23:04:12.307972');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('be7dfd9891b2574fc9f8dc33558a32c79c2db24a5a19cd0cdcc409c47d6ebea8', '0013_told_until', '2026-11-27 23:04:12.312132');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('be7e1860dd952694ff2a20f215333c08265d0b8d0dbf1a3979dffd1aebcb1123', '0014_changes_by_time', '2026-11-27 23:04:12.348205');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('5bb7c7ed5fce0c8e4796a12b9ce943a65380357b4e5b328b2c16740bd8738942', '0015_columns_of_rollouts', '2026-11-27 23:04:12.364806');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('f3755a7a950345e928971c3ce03bf1fff26e9a777f707bebc37cc9298a5d84c5', '0016_slugs_of_the_hot_read', '2026-11-27 23:04:12.378995');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('182678f49bf1ad81c77f0c31e28aff623a357c593102aee038373ed06f0f4f95', '0017_place', '2026-11-27 23:04:12.38531');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('fa767a17a323cae02565c6da2c784256f78270f8cff1e3d11c783cce97ce9559', '0018_begun_for_changes', '2026-11-27 23:04:12.416676');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('3f2884dbd1848fe9747e7c29115b1cf3d085471a4a9bb4e3a957756375e25bfb', '0019_columns_by_name', '2026-11-27 23:04:12.425518');

INSERT INTO segmentation_migrations._yoyo_version VALUES (2, '2026-11-27 23:04:11.722253');

SELECT pg_catalog.setval('segmentation.deploys_deploy_seq', 1, true);

SELECT pg_catalog.setval('segmentation.layers_layer_id_seq', 2, true);

SELECT pg_catalog.setval('segmentation.segments_segment_id_seq', 6, true);

SELECT pg_catalog.setval('segmentation.told_until', 0, false);

ALTER TABLE ONLY segmentation.api_keys
    ADD CONSTRAINT api_keys_digest_key UNIQUE (key_digest);

ALTER TABLE ONLY segmentation.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (name);

ALTER TABLE ONLY segmentation.deploys
    ADD CONSTRAINT deploys_digest_key UNIQUE (digest);

ALTER TABLE ONLY segmentation.deploys
    ADD CONSTRAINT deploys_pkey PRIMARY KEY (deploy);

ALTER TABLE ONLY segmentation.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (api_key, idempotency_key);

ALTER TABLE ONLY segmentation.layer_cells
    ADD CONSTRAINT layer_cells_pkey PRIMARY KEY (layer_id, starts_at);

ALTER TABLE ONLY segmentation.layers
    ADD CONSTRAINT layers_id_and_salt_key UNIQUE (layer_id, salt);

ALTER TABLE ONLY segmentation.layers
    ADD CONSTRAINT layers_pkey PRIMARY KEY (layer_id);

ALTER TABLE ONLY segmentation.membership_history
    ADD CONSTRAINT membership_history_pkey PRIMARY KEY (user_id, segment_id, ends_at);

ALTER TABLE ONLY segmentation.membership_history_2026_11
    ADD CONSTRAINT membership_history_2026_11_pkey PRIMARY KEY (user_id, segment_id, ends_at);

ALTER TABLE ONLY segmentation.membership_history_2026_12
    ADD CONSTRAINT membership_history_2026_12_pkey PRIMARY KEY (user_id, segment_id, ends_at);

ALTER TABLE ONLY segmentation.membership_history_2027_01
    ADD CONSTRAINT membership_history_2027_01_pkey PRIMARY KEY (user_id, segment_id, ends_at);

ALTER TABLE ONLY segmentation.membership_history_2027_02
    ADD CONSTRAINT membership_history_2027_02_pkey PRIMARY KEY (user_id, segment_id, ends_at);

ALTER TABLE ONLY segmentation.memberships
    ADD CONSTRAINT memberships_pkey PRIMARY KEY (user_id, segment_id);

ALTER TABLE ONLY segmentation.place
    ADD CONSTRAINT place_has_one_row PRIMARY KEY (one_row);

ALTER TABLE ONLY segmentation.report_links
    ADD CONSTRAINT report_links_pkey PRIMARY KEY (id_digest);

ALTER TABLE ONLY segmentation.retention
    ADD CONSTRAINT retention_has_one_row PRIMARY KEY (one_row);

ALTER TABLE ONLY segmentation.rollouts
    ADD CONSTRAINT rollouts_bucket_held_once EXCLUDE USING gist (int4range(layer_id, layer_id, '[]'::text) WITH &&, buckets WITH &&, tstzrange(starts_at, ends_at) WITH &&) WHERE ((layer_id IS NOT NULL)) DEFERRABLE INITIALLY DEFERRED;

ALTER TABLE ONLY segmentation.rollouts
    ADD CONSTRAINT rollouts_pkey PRIMARY KEY (segment_id, starts_at);

ALTER TABLE ONLY segmentation.segments
    ADD CONSTRAINT segments_id_and_salt_key UNIQUE (segment_id, salt);

ALTER TABLE ONLY segmentation.segments
    ADD CONSTRAINT segments_pkey PRIMARY KEY (segment_id);

ALTER TABLE ONLY segmentation.upkeep
    ADD CONSTRAINT upkeep_pkey PRIMARY KEY (task);

ALTER TABLE ONLY segmentation.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY segmentation_migrations._yoyo_log
    ADD CONSTRAINT _yoyo_log_pkey PRIMARY KEY (id);

ALTER TABLE ONLY segmentation_migrations._yoyo_migration
    ADD CONSTRAINT _yoyo_migration_pkey PRIMARY KEY (migration_hash);

ALTER TABLE ONLY segmentation_migrations._yoyo_version
    ADD CONSTRAINT _yoyo_version_pkey PRIMARY KEY (version);

ALTER TABLE ONLY segmentation_migrations.yoyo_lock
    ADD CONSTRAINT yoyo_lock_pkey PRIMARY KEY (locked);

CREATE INDEX idempotency_keys_created_at_idx ON segmentation.idempotency_keys USING btree (created_at);

CREATE INDEX idempotency_keys_user_id_idx ON segmentation.idempotency_keys USING btree (user_id) WHERE (user_id IS NOT NULL);

CREATE UNIQUE INDEX layers_slug_key ON segmentation.layers USING btree (slug) WHERE (deleted_at = 'infinity'::timestamp with time zone);

CREATE INDEX membership_history_ends_at_idx ON ONLY segmentation.membership_history USING brin (ends_at) WITH (pages_per_range='32', autosummarize='on');

CREATE INDEX membership_history_2026_11_ends_at_idx ON segmentation.membership_history_2026_11 USING brin (ends_at) WITH (pages_per_range='32', autosummarize='on');

CREATE INDEX membership_history_segment_id_user_id_idx ON ONLY segmentation.membership_history USING btree (segment_id, user_id);

CREATE INDEX membership_history_2026_11_segment_id_user_id_idx ON segmentation.membership_history_2026_11 USING btree (segment_id, user_id);

CREATE INDEX membership_history_2026_12_ends_at_idx ON segmentation.membership_history_2026_12 USING brin (ends_at) WITH (pages_per_range='32', autosummarize='on');

CREATE INDEX membership_history_2026_12_segment_id_user_id_idx ON segmentation.membership_history_2026_12 USING btree (segment_id, user_id);

CREATE INDEX membership_history_2027_01_ends_at_idx ON segmentation.membership_history_2027_01 USING brin (ends_at) WITH (pages_per_range='32', autosummarize='on');

CREATE INDEX membership_history_2027_01_segment_id_user_id_idx ON segmentation.membership_history_2027_01 USING btree (segment_id, user_id);

CREATE INDEX membership_history_2027_02_ends_at_idx ON segmentation.membership_history_2027_02 USING brin (ends_at) WITH (pages_per_range='32', autosummarize='on');

CREATE INDEX membership_history_2027_02_segment_id_user_id_idx ON segmentation.membership_history_2027_02 USING btree (segment_id, user_id);

CREATE INDEX memberships_begun_idx ON segmentation.memberships USING btree (starts_at) WHERE (starts_at > '-infinity'::timestamp with time zone);

CREATE INDEX memberships_ends_at_idx ON segmentation.memberships USING btree (ends_at) WHERE (ends_at < 'infinity'::timestamp with time zone);

CREATE UNIQUE INDEX memberships_one_assignment_in_layer ON segmentation.memberships USING btree (user_id, layer_id) WHERE (included AND (layer_id IS NOT NULL));

CREATE INDEX memberships_segment_id_user_id_idx ON segmentation.memberships USING btree (segment_id, user_id);

CREATE INDEX report_links_expires_at_idx ON segmentation.report_links USING btree (expires_at);

CREATE INDEX rollouts_ends_at_idx ON segmentation.rollouts USING btree (ends_at) INCLUDE (segment_id, salt, threshold, starts_at, decided_at, slug) WHERE ((threshold > 0) AND (layer_id IS NULL));

CREATE INDEX segment_history_segment_id_idx ON segmentation.segment_history USING btree (segment_id, changed_at);

CREATE INDEX segments_layer_id_idx ON segmentation.segments USING btree (layer_id) WHERE (layer_id IS NOT NULL);

CREATE INDEX segments_not_yet_swept_idx ON segmentation.segments USING btree (deleted_at) WHERE ((deleted_at < 'infinity'::timestamp with time zone) AND (NOT swept));

CREATE INDEX segments_slug_deleted_at_idx ON segmentation.segments USING btree (slug, deleted_at);

CREATE UNIQUE INDEX segments_slug_key ON segmentation.segments USING btree (slug) WHERE (deleted_at = 'infinity'::timestamp with time zone);

CREATE INDEX users_registered_at_idx ON segmentation.users USING brin (registered_at) WITH (pages_per_range='32', autosummarize='on');

ALTER INDEX segmentation.membership_history_ends_at_idx ATTACH PARTITION segmentation.membership_history_2026_11_ends_at_idx;

ALTER INDEX segmentation.membership_history_pkey ATTACH PARTITION segmentation.membership_history_2026_11_pkey;

ALTER INDEX segmentation.membership_history_segment_id_user_id_idx ATTACH PARTITION segmentation.membership_history_2026_11_segment_id_user_id_idx;

ALTER INDEX segmentation.membership_history_ends_at_idx ATTACH PARTITION segmentation.membership_history_2026_12_ends_at_idx;

ALTER INDEX segmentation.membership_history_pkey ATTACH PARTITION segmentation.membership_history_2026_12_pkey;

ALTER INDEX segmentation.membership_history_segment_id_user_id_idx ATTACH PARTITION segmentation.membership_history_2026_12_segment_id_user_id_idx;

ALTER INDEX segmentation.membership_history_ends_at_idx ATTACH PARTITION segmentation.membership_history_2027_01_ends_at_idx;

ALTER INDEX segmentation.membership_history_pkey ATTACH PARTITION segmentation.membership_history_2027_01_pkey;

ALTER INDEX segmentation.membership_history_segment_id_user_id_idx ATTACH PARTITION segmentation.membership_history_2027_01_segment_id_user_id_idx;

ALTER INDEX segmentation.membership_history_ends_at_idx ATTACH PARTITION segmentation.membership_history_2027_02_ends_at_idx;

ALTER INDEX segmentation.membership_history_pkey ATTACH PARTITION segmentation.membership_history_2027_02_pkey;

ALTER INDEX segmentation.membership_history_segment_id_user_id_idx ATTACH PARTITION segmentation.membership_history_2027_02_segment_id_user_id_idx;

CREATE TRIGGER api_keys_announce AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON segmentation.api_keys FOR EACH STATEMENT EXECUTE FUNCTION segmentation.announce_api_keys();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.membership_history FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.membership_history_2026_11 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.membership_history_2026_12 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.membership_history_2027_01 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.membership_history_2027_02 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.segment_history FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_written_by_triggers BEFORE INSERT ON segmentation.membership_history FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_insert();

CREATE TRIGGER history_is_written_by_triggers BEFORE INSERT ON segmentation.membership_history_2026_11 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_insert();

CREATE TRIGGER history_is_written_by_triggers BEFORE INSERT ON segmentation.membership_history_2026_12 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_insert();

CREATE TRIGGER history_is_written_by_triggers BEFORE INSERT ON segmentation.membership_history_2027_01 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_insert();

CREATE TRIGGER history_is_written_by_triggers BEFORE INSERT ON segmentation.membership_history_2027_02 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_insert();

CREATE TRIGGER history_is_written_by_triggers BEFORE INSERT ON segmentation.segment_history FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_insert();

CREATE TRIGGER layer_cells_refuse_plain_dml BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON segmentation.layer_cells FOR EACH STATEMENT WHEN (((CURRENT_USER <> 'segmentation_owner'::name) AND (pg_trigger_depth() = 0))) EXECUTE FUNCTION segmentation.refuse_plain_dml();

CREATE TRIGGER layers_after_insert AFTER INSERT ON segmentation.layers REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.layers_after_insert();

CREATE TRIGGER layers_before_change BEFORE INSERT OR UPDATE ON segmentation.layers FOR EACH ROW EXECUTE FUNCTION segmentation.layers_before_change();

CREATE TRIGGER layers_refuse_delete BEFORE DELETE OR TRUNCATE ON segmentation.layers FOR EACH STATEMENT EXECUTE FUNCTION segmentation.layers_refuse_delete();

CREATE TRIGGER memberships_after_delete AFTER DELETE ON segmentation.memberships REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.memberships_after_delete();

CREATE TRIGGER memberships_after_insert AFTER INSERT ON segmentation.memberships REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.memberships_after_insert();

CREATE TRIGGER memberships_after_update AFTER UPDATE ON segmentation.memberships REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.memberships_after_update();

CREATE TRIGGER memberships_name_the_login BEFORE INSERT OR UPDATE ON segmentation.memberships FOR EACH ROW WHEN ((CURRENT_USER <> 'segmentation_owner'::name)) EXECUTE FUNCTION segmentation.memberships_name_the_login();

CREATE TRIGGER memberships_refuse_truncate BEFORE TRUNCATE ON segmentation.memberships FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_truncate();

CREATE TRIGGER retention_refuses_plain_dml BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON segmentation.retention FOR EACH STATEMENT WHEN ((CURRENT_USER <> 'segmentation_owner'::name)) EXECUTE FUNCTION segmentation.refuse_plain_dml();

CREATE TRIGGER rollouts_after_delete AFTER DELETE ON segmentation.rollouts REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.rollouts_after_delete();

CREATE TRIGGER rollouts_after_insert AFTER INSERT ON segmentation.rollouts REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.rollouts_after_insert();

CREATE TRIGGER rollouts_after_update AFTER UPDATE ON segmentation.rollouts REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.rollouts_after_update();

CREATE TRIGGER rollouts_name_the_login BEFORE INSERT OR UPDATE ON segmentation.rollouts FOR EACH ROW WHEN (((CURRENT_USER <> 'segmentation_owner'::name) AND (pg_trigger_depth() = 0))) EXECUTE FUNCTION segmentation.rollouts_name_the_login();

CREATE TRIGGER rollouts_refuse_truncate BEFORE TRUNCATE ON segmentation.rollouts FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_truncate();

CREATE TRIGGER rollouts_take_the_layer BEFORE INSERT OR UPDATE ON segmentation.rollouts FOR EACH ROW EXECUTE FUNCTION segmentation.rollouts_take_the_layer();

CREATE TRIGGER segments_after_insert AFTER INSERT ON segmentation.segments REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.segments_after_insert();

CREATE TRIGGER segments_after_update AFTER UPDATE ON segmentation.segments REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.segments_after_update();

CREATE TRIGGER segments_refuse_delete BEFORE DELETE ON segmentation.segments FOR EACH STATEMENT EXECUTE FUNCTION segmentation.segments_refuse_delete();

CREATE TRIGGER segments_refuse_truncate BEFORE TRUNCATE ON segmentation.segments FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_truncate();

CREATE TRIGGER segments_take_the_salt BEFORE INSERT ON segmentation.segments FOR EACH ROW WHEN ((new.layer_id IS NOT NULL)) EXECUTE FUNCTION segmentation.segments_take_the_salt();

CREATE TRIGGER users_refuse_plain_dml BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON segmentation.users FOR EACH STATEMENT WHEN ((CURRENT_USER <> 'segmentation_owner'::name)) EXECUTE FUNCTION segmentation.refuse_plain_dml();

CREATE TRIGGER writer_is_announced BEFORE INSERT OR DELETE OR UPDATE ON segmentation.memberships FOR EACH STATEMENT EXECUTE FUNCTION segmentation.writer_is_announced();

CREATE TRIGGER writer_is_announced BEFORE INSERT OR DELETE OR UPDATE ON segmentation.rollouts FOR EACH STATEMENT EXECUTE FUNCTION segmentation.writer_is_announced();

CREATE TRIGGER writer_is_announced BEFORE INSERT OR DELETE OR UPDATE ON segmentation.segments FOR EACH STATEMENT EXECUTE FUNCTION segmentation.writer_is_announced();

CREATE TRIGGER writer_is_announced BEFORE INSERT OR DELETE OR UPDATE ON segmentation.users FOR EACH STATEMENT EXECUTE FUNCTION segmentation.writer_is_announced();

ALTER TABLE ONLY segmentation.layer_cells
    ADD CONSTRAINT layer_cells_layer_fkey FOREIGN KEY (layer_id, salt) REFERENCES segmentation.layers(layer_id, salt);

ALTER TABLE ONLY segmentation.rollouts
    ADD CONSTRAINT rollouts_layer_fkey FOREIGN KEY (layer_id, salt) REFERENCES segmentation.layers(layer_id, salt);

ALTER TABLE ONLY segmentation.rollouts
    ADD CONSTRAINT rollouts_segment_fkey FOREIGN KEY (segment_id, salt) REFERENCES segmentation.segments(segment_id, salt);

ALTER TABLE ONLY segmentation.segments
    ADD CONSTRAINT segments_layer_fkey FOREIGN KEY (layer_id, salt) REFERENCES segmentation.layers(layer_id, salt);

GRANT USAGE ON SCHEMA segmentation TO segmentation_reader;
GRANT USAGE ON SCHEMA segmentation TO segmentation_jobs;
GRANT USAGE ON SCHEMA segmentation TO segmentation_evaluator;

REVOKE ALL ON FUNCTION segmentation.actor() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.actor_reason() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.announce_api_keys() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.announce_writer() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.answers_kept_since() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.assert_bucket_vectors() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.assert_bucket_vectors() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.authenticate_api_key(key_digest bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.authenticate_api_key(key_digest bytea) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.begin_import(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.begin_import(slug text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.bucket(user_id bigint, salt bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.bucket(user_id bigint, salt bigint) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.bucket_count(buckets int4multirange) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.bucket_vectors() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.bucket_vectors() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.buckets_taken_last(segment_id integer, before timestamp with time zone, held int4multirange, number integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.cells_to_ask() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.change_overrides(user_ids bigint[], segment_ids integer[], wanted boolean[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.changed_users(from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.changes_end(from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.changes_end(from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.chi_square_p_value(statistic double precision, freedom integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.claim_idempotency_key(api_key text, idempotency_key text, request_fingerprint bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.claim_idempotency_key(api_key text, idempotency_key text, request_fingerprint bytea) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.clock() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.clock() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.close_report_link(id_digest bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.close_report_link(id_digest bytea) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.closed_override(override segmentation.memberships, next_start timestamp with time zone, moment timestamp with time zone, earliest timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.complementary_error(x double precision) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.in_force(starts_at timestamp with time zone, ends_at timestamp with time zone, moment timestamp with time zone, decided_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.create_layer(slug text, description text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.create_layer(slug text, description text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.create_report_link(period text, user_id bigint, valid_for interval, actor text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.create_report_link(period text, user_id bigint, valid_for interval, actor text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.create_segment(slug text, percent numeric, description text, actor text, reason text, layer text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.create_segment(slug text, percent numeric, description text, actor text, reason text, layer text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.current_segments(user_ids bigint[], moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.current_segments_of(user_id bigint, moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.deal_buckets(segment_ids integer[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.deal_steps(segment_ids integer[], moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.delete_layer(slug text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.delete_layer(slug text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.delete_segment(slug text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.delete_segment(slug text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.derive_layer_cells(layer_id integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.derive_step_ends(segment_ids integer[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.drop_history_before(period text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.drop_history_before(period text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.drop_retired_partitions() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.empty_when_analyzed() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.ending_soon(within interval, slug text, max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.ending_soon(within interval, slug text, max_rows integer) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.ensure_history_of_ends(months timestamp with time zone[], segment_ids integer[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.ensure_history_partition(moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.ensure_history_partitions(months_ahead integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.ensure_history_partitions(months_ahead integer) TO segmentation_admin;
GRANT ALL ON FUNCTION segmentation.ensure_history_partitions(months_ahead integer) TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.enter_layers(user_ids bigint[], added integer[], removed integer[], moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.expire_memberships(max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.expire_memberships(max_rows integer) TO segmentation_admin;
GRANT ALL ON FUNCTION segmentation.expire_memberships(max_rows integer) TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.finish_import(slug text, operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.finish_import(slug text, operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.first_upkeep() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.functions_for_people() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.get_layer(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.get_layer(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.get_segment(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.get_segment(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.given_actor(actor text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.growth_moments(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.guard_history_partition(partition regclass) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.history_partitions() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.history_partitions() TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.history_report(period text, user_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.history_report(period text, user_id bigint) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.hold_writer_key(since timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.holds(buckets int4multirange, threshold integer, bucket integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.http_begin_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_begin_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_changes_end(from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_changes_end(from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_create_layer(slug text, description text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_create_layer(slug text, description text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_create_report_link(period text, user_id bigint, base_url text, actor text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_create_report_link(period text, user_id bigint, base_url text, actor text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text, layer text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text, layer text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_duration(name text, duration text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_duration(name text, duration text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_ending_soon(within text, slug text, max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_ending_soon(within text, slug text, max_rows integer) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_expiry(expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_expiry(expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_finish_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_finish_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, dry_run boolean, all_actors boolean) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_get_layer(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_get_layer(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_get_segment(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_get_segment(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_layer_stats(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_layer_stats(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_list_layers() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_list_layers() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_list_segments(after text, max_rows integer, search text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_list_segments(after text, max_rows integer, search text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_periods_window(slug text, from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_periods_window(slug text, from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_segment(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_segment(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_segment_history(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_segment_history(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_segment_stats(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_segment_stats(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_segments(after text, max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_segments(after text, max_rows integer) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_service_status(needed text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_service_status(needed text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_user_overrides(user_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_user_overrides(user_id bigint) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_user_segments_now(user_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_user_segments_now(user_id bigint) TO segmentation_evaluator;

REVOKE ALL ON FUNCTION segmentation.http_users_segments(user_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_users_segments(user_ids bigint[]) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.in_order(user_ids bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.is_service() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.jobs() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.jobs() TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.keep_answer(api_key text, idempotency_key text, fingerprint bytea, path text, status integer, location text, answer text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.keep_answer(api_key text, idempotency_key text, fingerprint bytea, path text, status integer, location text, answer text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.keep_since(period text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.key_is_alive(revoked_at timestamp with time zone, expires_at timestamp with time zone, moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.last_change(segment_id integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.last_change_in_layer(layer_id integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.layer_counts(slug text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.layer_id_of(slug text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.layer_json(layer segmentation.listed_layers) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.layer_json(layer segmentation.listed_layers) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.layer_segments(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.layer_segments(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.layer_stats(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.layer_stats(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.layers_after_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.layers_before_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.layers_refuse_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.limit_waiting() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.linked_pages(id text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.linked_pages(id text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.list_api_keys() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.list_api_keys() TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.list_change(is_listed boolean, override segmentation.memberships, own_actor text, new_end timestamp with time zone, moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.list_layers() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.list_layers() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.list_segments(after text, max_rows integer, search text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.list_segments(after text, max_rows integer, search text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.lock_overrides(user_ids bigint[], segment_ids integer[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.lock_segment(slug text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.lock_slugs(slugs text[], how text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.lock_users(user_ids bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.manual(word text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.manual(word text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.member(rollout tstzmultirange, overridden tstzmultirange, elsewhere tstzmultirange, assigned tstzmultirange, alive tstzrange) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.members_page(segment_id integer, at timestamp with time zone, after bigint, max_rows integer, now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.membership_changes(from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.membership_changes(from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.membership_events(user_ids bigint[], until_time timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.membership_periods(user_ids bigint[], moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.memberships_after_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.memberships_after_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.memberships_after_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.memberships_name_the_login() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.microseconds(moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.mismatch_p_value(observed bigint[], planned numeric[], users bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.moment_of_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.month_start(period text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.most_stretches() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.note_upkeep(task text, rows bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.note_upkeep(task text, rows bigint) TO segmentation_admin;
GRANT ALL ON FUNCTION segmentation.note_upkeep(task text, rows bigint) TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.ofrep_evaluation(slug text, value json, variant text, percent numeric, source text, by_hand boolean, since timestamp with time zone, until timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.ofrep_evaluations(user_id bigint, slugs text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.ofrep_flag(user_id bigint, slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.ofrep_flag(user_id bigint, slug text) TO segmentation_evaluator;

REVOKE ALL ON FUNCTION segmentation.ofrep_flags(user_id bigint, slugs text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.ofrep_flags(user_id bigint, slugs text[]) TO segmentation_evaluator;

REVOKE ALL ON FUNCTION segmentation.oldest_unswept(moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.open_report_link(id_digest bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.open_report_link(id_digest bytea) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.other_segments_of_layer(segment_id integer, at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.override_change(wanted boolean, state text, rolled_out boolean, planning boolean, same_start boolean, same_end boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.override_lines(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone, after_id bigint, up_to_id bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.override_state(override segmentation.memberships, moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.period_rows(slug text, from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.period_rows(slug text, from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.periods_page(slug text, in_window tstzrange, after_id bigint, up_to_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.periods_page(slug text, in_window tstzrange, after_id bigint, up_to_id bigint) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.periods_window(slug text, from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.periods_window(slug text, from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.place_in_layer(user_id bigint, layer_id integer, segment_ids integer[], moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.purge_expired() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.purge_expired() TO segmentation_admin;
GRANT ALL ON FUNCTION segmentation.purge_expired() TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.random_buckets(buckets int4multirange, number integer, held int4multirange) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.random_secret() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_assigned_elsewhere(segments text[], users bigint, user_ids bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_full_layer(layer_ids integer[], segment_ids integer[], since timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_history_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_history_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_past_step(segment_id integer, starts_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_plain_dml() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_plans_for_excluded_users(user_ids bigint[], segment_ids integer[], moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_truncate() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.register_unknown_users(user_ids bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.register_users(user_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.register_users(user_ids bigint[]) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.renew_layer_cells() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.replace_assignments(slug text, segment_id integer, user_ids bigint[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.report_lines(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint, now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.report_page(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint, now timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.report_page(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint, now timestamp with time zone) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.report_pages(period text, user_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.report_pages(period text, user_id bigint) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.report_rows(period text, user_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.report_rows(period text, user_id bigint) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.reported_users(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_actor(actor text, reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_adding(adding boolean, starts_at timestamp with time zone, expires_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_at_most(name text, given bigint, at_most bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.require_at_most(name text, given bigint, at_most bigint) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.require_description(description text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_free_slugs(slugs text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_kept(moment timestamp with time zone, name text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_known_slug(slug text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_list(user_ids bigint[], operation text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_list_change(operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.require_list_change(operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text, max_removed bigint, all_actors boolean) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.require_percent(percent numeric) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_period(starts_at timestamp with time zone, expires_at timestamp with time zone, moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_reportable(period text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_rows(max_rows integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_same_request(kept_fingerprint bytea, request_fingerprint bytea) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_service() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_slug(slug text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_stretch(from_time timestamp with time zone, to_time timestamp with time zone, may_be_empty boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_user_ids(user_ids bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_whole_list(slug text, listed bigint, removed bigint, max_removed bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.revoke_api_key(name text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.revoke_api_key(name text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.revoke_report_link(id text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.revoke_report_link(id text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.rfc3339(moment timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.rfc3339(moment timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.rollout_json(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.rollout_json(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.rollout_lines(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone, after_id bigint, up_to_id bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollout_mismatch(segment_id integer, rolled_out bigint, population bigint, now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollout_moves(from_time timestamp with time zone, to_time timestamp with time zone, now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollout_population(segment_id integer, now timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollout_steps(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.rollout_steps(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.rollouts_after_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollouts_after_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollouts_after_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollouts_name_the_login() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollouts_take_the_layer() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rounded_percent(part bigint, whole bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.schedule_jobs() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.schedule_jobs() TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.segment_counts(slug text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.segment_history(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.segment_history(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.segment_id_of(slug text, at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segment_ids_of(slugs text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.segment_periods(slug text, from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.segment_periods(slug text, from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.segment_stamp(segment_id integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segment_stats(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.segment_stats(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.segments_after_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segments_after_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segments_json(user_id bigint, segments text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segments_of_layer(segment_id integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segments_refuse_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segments_take_the_salt() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.service_metrics() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.service_metrics() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.service_status(needed text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.service_status(needed text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.set_actor(actor text, reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.settled_before(segment_id integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.settled_errcode() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.settled_until() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.settled_until() TO segmentation_editor;
GRANT ALL ON FUNCTION segmentation.settled_until() TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.source(assigned boolean, overridden boolean, rolled_out boolean, elsewhere boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.stamp(bound timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.stamp_tolerance() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.standby_lag() FROM PUBLIC;

REVOKE ALL ON PROCEDURE segmentation.sweep(IN batch_rows integer, IN max_seconds integer) FROM PUBLIC;
GRANT ALL ON PROCEDURE segmentation.sweep(IN batch_rows integer, IN max_seconds integer) TO segmentation_admin;
GRANT ALL ON PROCEDURE segmentation.sweep(IN batch_rows integer, IN max_seconds integer) TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.told_until() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.transaction_start() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.unset_actor() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.update_segment(slug text, description text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.update_segment(slug text, description text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.user_overrides(user_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.user_overrides(user_id bigint) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.user_pages() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.user_pages() TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.user_segments(user_id bigint, at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.user_segments(user_id bigint, at timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.users_segments(user_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.users_segments(user_ids bigint[]) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.wrapped(call text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.writer_is_announced() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.writer_key(since timestamp with time zone) FROM PUBLIC;

ALTER DEFAULT PRIVILEGES FOR ROLE segmentation_owner REVOKE ALL ON FUNCTIONS  FROM PUBLIC;

