
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

COMMENT ON SCHEMA segmentation IS 'Dynamic user segmentation, version 6e8122eebc97';

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

COMMENT ON FUNCTION segmentation.assert_bucket_vectors() IS 'Fails when bucket() does not give its golden values on this server. Example: select assert_bucket_vectors();';

CREATE FUNCTION segmentation.authenticate_api_key(key_digest bytea) RETURNS TABLE(name text, role text, expires_at timestamp with time zone)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  return query
  select k.name, k.role, k.expires_at
  from segmentation.api_keys as k
  where k.key_digest = authenticate_api_key.key_digest
    and segmentation.clock() < k.expires_at and segmentation.clock() < k.revoked_at;
end
$$;

ALTER FUNCTION segmentation.authenticate_api_key(key_digest bytea) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.authenticate_api_key(key_digest bytea) IS 'Whose key has this SHA-256 digest; no row if nobody''s, expired or revoked. Example: select * from authenticate_api_key(sha256(''seg_…''));';

CREATE FUNCTION segmentation.author() RETURNS text
    LANGUAGE sql STABLE
    AS $$
  select coalesce(nullif(pg_catalog.current_setting('segmentation.actor', true), ''), session_user::text)
$$;

ALTER FUNCTION segmentation.author() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.author() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.author_reason() RETURNS text
    LANGUAGE sql STABLE
    AS $$ select nullif(pg_catalog.current_setting('segmentation.reason', true), '') $$;

ALTER FUNCTION segmentation.author_reason() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.author_reason() IS 'Internal: called by other functions of this schema, not by people.';

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

CREATE FUNCTION segmentation.cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS SETOF segmentation.rollout_step
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  segment segmentation.segments := segmentation.lock_segment(cancel_rollout_step.slug);
  moment timestamptz := segmentation.clock();
begin
  if cancel_rollout_step.starts_at <= moment then
    raise exception 'the rollout step of % has begun', cancel_rollout_step.starts_at
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('starts_at', cancel_rollout_step.starts_at, 'now', moment),
        hint = 'Only a step to come can be cancelled. To change the present, call set_rollout with another percent.';
  end if;
  perform segmentation.set_author(cancel_rollout_step.actor, cancel_rollout_step.reason);
  delete from segmentation.rollouts as r
  where r.segment_id = segment.segment_id and r.starts_at = cancel_rollout_step.starts_at;
  if not found then
    raise exception 'segment "%" has no rollout step that starts at %', segment.slug, coalesce(cancel_rollout_step.starts_at::text, 'null')
      using
        errcode = 'no_data_found',
        detail = json_build_object('segment', segment.slug, 'starts_at', cancel_rollout_step.starts_at),
        hint = 'List the steps: select * from rollout_steps(slug); or GET /v1/segments/{slug}.';
  end if;
  perform segmentation.set_author(null, null);
  return query select * from segmentation.rollout_steps(cancel_rollout_step.slug);
end
$$;

ALTER FUNCTION segmentation.cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) IS 'Cancel a rollout step to come. Returns all steps. Example: select * from cancel_rollout_step(''AVITO_VOICE_MESSAGES'', ''2027-01-01 00:00Z'');';

CREATE FUNCTION segmentation.change_overrides(user_ids bigint[], segment_ids integer[], wanted boolean[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) RETURNS TABLE(segment_id integer, change text, users bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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
  perform segmentation.set_author(new_actor, new_reason);
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
  perform segmentation.set_author(null, null);
exception
  -- Only a plain INSERT typed meanwhile, which holds no lock of ours, can have been quicker.
  when unique_violation then
    raise exception 'the same override was inserted by somebody else at the same time'
      using errcode = 'serialization_failure', hint = 'Try again.';
end
$$;

ALTER FUNCTION segmentation.change_overrides(user_ids bigint[], segment_ids integer[], wanted boolean[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.change_overrides(user_ids bigint[], segment_ids integer[], wanted boolean[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text DEFAULT 'add'::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS TABLE(received bigint, changed bigint, unchanged bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET work_mem TO '128MB'
    SET plan_cache_mode TO 'force_custom_plan'
    SET enable_hashjoin TO 'off'
    SET enable_hashagg TO 'off'
    AS $$
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

ALTER FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) IS 'Add (or remove) many users to (from) one segment, all or nothing; duplicates count as unchanged. Example: select * from change_segment_members(''AVITO_DISCOUNT_30'', array[1000, 1002], expires_at => now() + interval ''7 days'');';

CREATE FUNCTION segmentation.change_user_segments(user_id bigint, add text[] DEFAULT '{}'::text[], remove text[] DEFAULT '{}'::text[], expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS TABLE(segment text, change text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  added text[] := coalesce(change_user_segments.add, '{}');
  removed text[] := coalesce(change_user_segments.remove, '{}');
  slugs text[];
  segment_ids integer[];
  in_both text[];
begin
  perform segmentation.require_user_ids(array[change_user_segments.user_id]);
  select array_agg(distinct s.slug), array_agg(distinct s.slug) filter (where s.slug = any (added) and s.slug = any (removed))
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
  perform segmentation.require_adding(cardinality(added) > 0, change_user_segments.starts_at, change_user_segments.expires_at);
  perform segmentation.lock_slugs(slugs);
  segment_ids := segmentation.segment_ids_of(slugs);
  return query
  select asked.slug, coalesce(c.change, 'unchanged')
  from unnest(slugs, segment_ids) as asked (slug, segment_id)
  left join segmentation.change_overrides(
    array[change_user_segments.user_id],
    segment_ids,
    array(select asked.slug = any (added) from unnest(slugs) with ordinality as asked (slug, position) order by position),
    change_user_segments.expires_at, change_user_segments.starts_at,
    change_user_segments.actor, change_user_segments.reason) as c
    on c.segment_id = asked.segment_id
  order by asked.slug collate "C";
end
$$;

ALTER FUNCTION segmentation.change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) IS 'Add a user to segments and remove it from others, all or nothing. Example: select * from change_user_segments(1000, add => ''{AVITO_DISCOUNT_30}'', remove => ''{AVITO_DISCOUNT_50}'', expires_at => now() + interval ''7 days'', reason => ''ticket 17'');';

CREATE FUNCTION segmentation.claim_idempotency_key(api_key text, idempotency_key text) RETURNS TABLE(fingerprint bytea, status smallint, location text, answer text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  -- What has been answered is answered to any number at once; of those who do it there is one.
  return query
  select i.fingerprint, i.status, i.location, i.answer
  from segmentation.idempotency_keys as i
  where i.api_key = claim_idempotency_key.api_key
    and i.idempotency_key = claim_idempotency_key.idempotency_key
    and i.created_at > segmentation.clock() - interval '24 hours';
  if found then
    return;
  end if;
  if not pg_try_advisory_xact_lock(
    hashtextextended(claim_idempotency_key.api_key || ' ' || claim_idempotency_key.idempotency_key, 0))
  then
    raise exception 'a request with this Idempotency-Key is still running'
      using errcode = 'object_in_use', hint = 'Wait a moment, then send it again with the same key.';
  end if;
  delete from segmentation.idempotency_keys as i
  where i.api_key = claim_idempotency_key.api_key
    and i.idempotency_key = claim_idempotency_key.idempotency_key
    and i.created_at <= segmentation.clock() - interval '24 hours';
  return query
  select i.fingerprint, i.status, i.location, i.answer
  from segmentation.idempotency_keys as i
  where i.api_key = claim_idempotency_key.api_key
    and i.idempotency_key = claim_idempotency_key.idempotency_key;
end
$$;

ALTER FUNCTION segmentation.claim_idempotency_key(api_key text, idempotency_key text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.claim_idempotency_key(api_key text, idempotency_key text) IS 'Hold an Idempotency-Key until the end of the transaction; the answer kept for it, if there is one. Example: select * from claim_idempotency_key(''web-shop'', ''order-17'');';

CREATE FUNCTION segmentation.clock() RETURNS timestamp with time zone
    LANGUAGE sql
    AS $$ select pg_catalog.clock_timestamp() $$;

ALTER FUNCTION segmentation.clock() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.clock() IS 'The present moment, as every function of this schema sees it. Example: select clock();';

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
    CONSTRAINT memberships_start_before_end CHECK ((starts_at < ends_at)),
    CONSTRAINT memberships_starts_at_is_finite CHECK (isfinite(starts_at)),
    CONSTRAINT memberships_user_id_is_positive CHECK ((user_id > 0))
);

ALTER TABLE segmentation.memberships OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.closed_override(override segmentation.memberships, next_start timestamp with time zone, moment timestamp with time zone) RETURNS SETOF segmentation.membership_history
    LANGUAGE sql STABLE
    AS $$
  select
    (override).user_id, (override).segment_id, (override).included, (override).starts_at, e.ended_at,
    (override).actor, (override).reason,
    c.end_cause,
    case c.end_cause
      when 'removed' then segmentation.author()
      when 'expired' then (override).end_actor
      else d.actor
    end,
    case c.end_cause
      when 'removed' then segmentation.author_reason()
      when 'expired' then (override).end_reason
      else d.reason
    end
  from segmentation.segments as s
  left join segmentation.segment_history as d
    on d.segment_id = s.segment_id and d.operation = 'delete'
  cross join lateral (
    select least((override).ends_at, s.deleted_at, next_start, moment)
  ) as e (ended_at)
  cross join lateral (
    select case
      when e.ended_at = s.deleted_at then 'segment_deleted'
      when e.ended_at = (override).ends_at then 'expired'
      else 'removed'
    end
  ) as c (end_cause)
  where s.segment_id = (override).segment_id and e.ended_at > (override).starts_at
$$;

ALTER FUNCTION segmentation.closed_override(override segmentation.memberships, next_start timestamp with time zone, moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.closed_override(override segmentation.memberships, next_start timestamp with time zone, moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
#variable_conflict use_column
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
  if (create_api_key.role in ('reader', 'editor', 'admin')) is not true then
    raise exception 'role % is unknown', coalesce('"' || create_api_key.role || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('role', create_api_key.role),
        hint = 'Say reader, editor or admin.';
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
  on conflict (name) do nothing;
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

COMMENT ON FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone) IS 'Create an API key for the HTTP interface with the role reader, editor or admin; the key is shown this once. Example: select create_api_key(''web-shop'', ''reader'');';

CREATE FUNCTION segmentation.create_report_link(period text, user_id bigint DEFAULT NULL::bigint, valid_for interval DEFAULT '24:00:00'::interval, actor text DEFAULT SESSION_USER) RETURNS TABLE(id text, expires_at timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  new_id text := segmentation.random_secret();
  link_end timestamptz := segmentation.clock() + create_report_link.valid_for;
begin
  perform segmentation.require_author(create_report_link.actor, null);
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
    coalesce(create_report_link.actor, session_user));
  return query select new_id, link_end;
end
$$;

ALTER FUNCTION segmentation.create_report_link(period text, user_id bigint, valid_for interval, actor text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.create_report_link(period text, user_id bigint, valid_for interval, actor text) IS 'An unguessable id that opens one month''s report until it expires. Example: select * from create_report_link(''2026-11'');';

CREATE TABLE segmentation.rollouts (
    segment_id integer NOT NULL,
    salt bigint NOT NULL,
    percent numeric NOT NULL,
    threshold integer GENERATED ALWAYS AS (((percent * (1000)::numeric))::integer) STORED NOT NULL,
    starts_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    ends_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    actor text DEFAULT SESSION_USER NOT NULL,
    reason text,
    CONSTRAINT rollouts_percent_between_0_and_100 CHECK (((percent >= (0)::numeric) AND (percent <= (100)::numeric))),
    CONSTRAINT rollouts_percent_has_three_decimals CHECK ((percent = round(percent, 3))),
    CONSTRAINT rollouts_start_before_end CHECK ((starts_at < ends_at)),
    CONSTRAINT rollouts_starts_at_is_finite CHECK (isfinite(starts_at))
);

ALTER TABLE segmentation.rollouts OWNER TO segmentation_owner;

CREATE TABLE segmentation.segments (
    segment_id integer NOT NULL,
    slug text NOT NULL COLLATE pg_catalog."C",
    description text DEFAULT ''::text NOT NULL,
    salt bigint DEFAULT hashtextextended((gen_random_uuid())::text, (0)::bigint) NOT NULL,
    created_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    deleted_at timestamp with time zone DEFAULT 'infinity'::timestamp with time zone NOT NULL,
    swept boolean DEFAULT false NOT NULL,
    CONSTRAINT segments_created_at_is_finite CHECK (isfinite(created_at)),
    CONSTRAINT segments_deleted_after_created CHECK ((deleted_at >= created_at)),
    CONSTRAINT segments_description_is_short CHECK ((length(description) <= 2000)),
    CONSTRAINT segments_slug_has_valid_form CHECK ((slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'::text)),
    CONSTRAINT segments_swept_only_if_deleted CHECK (((NOT swept) OR isfinite(deleted_at)))
);

ALTER TABLE segmentation.segments OWNER TO segmentation_owner;

CREATE VIEW segmentation.living_segments AS
 SELECT s.slug,
    s.description,
    COALESCE(r.percent, (0)::numeric) AS percent,
    s.created_at,
    s.salt
   FROM (segmentation.segments s
     LEFT JOIN LATERAL ( SELECT r_1.percent
           FROM segmentation.rollouts r_1
          WHERE ((r_1.segment_id = s.segment_id) AND (r_1.starts_at <= segmentation.clock()))
          ORDER BY r_1.starts_at DESC
         LIMIT 1) r ON (true))
  WHERE (s.deleted_at = 'infinity'::timestamp with time zone);

ALTER TABLE segmentation.living_segments OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.create_segment(slug text, percent numeric DEFAULT 0, description text DEFAULT ''::text, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS SETOF segmentation.living_segments
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  new_id integer;
  new_salt bigint;
  new_created_at timestamptz;
begin
  perform segmentation.require_slug(create_segment.slug);
  perform segmentation.require_percent(create_segment.percent);
  perform segmentation.require_description(create_segment.description);
  -- A deletion of the same slug that is under way is waited for before the clock is read: two lives of a
  -- slug never overlap.
  perform
  from segmentation.segments as s
  where s.slug = create_segment.slug collate "C" and s.deleted_at = 'infinity'
  for no key update;
  perform segmentation.set_author(create_segment.actor, create_segment.reason);
  insert into segmentation.segments as s (slug, description)
  values (create_segment.slug, coalesce(create_segment.description, ''))
  on conflict (slug) where deleted_at = 'infinity' do nothing
  returning s.segment_id, s.salt, s.created_at into new_id, new_salt, new_created_at;
  if not found then
    raise exception 'segment "%" exists already', create_segment.slug
      using
        errcode = 'unique_violation',
        detail = json_build_object('segment', create_segment.slug),
        hint = 'Choose another slug, or delete the segment first: its past stays.';
  end if;
  -- No step at all means 0 %.
  if create_segment.percent > 0 then
    insert into segmentation.rollouts (segment_id, salt, percent, starts_at, actor, reason)
    values (
      new_id, new_salt, create_segment.percent, new_created_at,
      segmentation.author(), create_segment.reason);
  end if;
  perform segmentation.set_author(null, null);
  return query select * from segmentation.get_segment(create_segment.slug);
end
$$;

ALTER FUNCTION segmentation.create_segment(slug text, percent numeric, description text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.create_segment(slug text, percent numeric, description text, actor text, reason text) IS 'Create a segment, rolled out to percent % of all users. Example: select * from create_segment(''AVITO_VOICE_MESSAGES'', percent => 10);';

CREATE FUNCTION segmentation.current_segments(user_ids bigint[], moment timestamp with time zone) RETURNS TABLE(place bigint, user_id bigint, known boolean, segments text[])
    LANGUAGE sql STABLE
    AS $$
  select
    asked.place,
    asked.user_id,
    exists (select from segmentation.users as u where u.user_id = asked.user_id),
    array(
      select s.slug
      from segmentation.segments as s
      where s.deleted_at > current_segments.moment
        and s.segment_id = any (o.segment_ids || array(
          select r.segment_id
          from segmentation.rollouts as r
          where r.threshold > 0
            and r.starts_at <= current_segments.moment and current_segments.moment < r.ends_at
            and segmentation.bucket(asked.user_id, r.salt) < r.threshold
            and r.segment_id <> all (o.segment_ids) and -r.segment_id <> all (o.segment_ids)
        ))
      order by s.slug
    )
  from unnest(current_segments.user_ids) with ordinality as asked (user_id, place)
  cross join lateral (
    select array(
      select case when m.included then m.segment_id else -m.segment_id end
      from segmentation.memberships as m
      where m.user_id = asked.user_id
        and m.starts_at <= current_segments.moment and current_segments.moment < m.ends_at
    )
    -- Otherwise looked up anew wherever it is named.
    offset 0
  ) as o (segment_ids)
$$;

ALTER FUNCTION segmentation.current_segments(user_ids bigint[], moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.current_segments(user_ids bigint[], moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.delete_segment(slug text, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  segment segmentation.segments;
begin
  perform segmentation.lock_slugs(array[delete_segment.slug], exclusive => true);
  segment := segmentation.lock_segment(delete_segment.slug);
  perform segmentation.set_author(delete_segment.actor, delete_segment.reason);
  update segmentation.segments as s
  set deleted_at = segmentation.clock()
  where s.segment_id = segment.segment_id;
  perform segmentation.set_author(null, null);
end
$$;

ALTER FUNCTION segmentation.delete_segment(slug text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.delete_segment(slug text, actor text, reason text) IS 'Delete a segment: everybody is out at once, the past stays, the slug may be used again. Example: select delete_segment(''AVITO_DISCOUNT_50'', reason => ''campaign over'');';

CREATE FUNCTION segmentation.drop_history_before(period text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  horizon timestamptz := segmentation.month_start(drop_history_before.period);
  old_partition regclass;
  dropped integer := 0;
begin
  if horizon > segmentation.clock() then
    raise exception 'period % is yet to come', period
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('period', period),
        hint = 'Give the first month to keep: this one or an earlier one.';
  end if;
  -- What ended before the horizon but was not swept yet would come back as a partition of its own.
  delete from segmentation.memberships as m
  using segmentation.segments as s
  where s.segment_id = m.segment_id and least(m.ends_at, s.deleted_at) < horizon;
  for old_partition in
    select h.partition from segmentation.history_partitions() as h where h.month_start < horizon
  loop
    execute format('drop table %s', old_partition);
    dropped := dropped + 1;
  end loop;
  update segmentation.retention as r set kept_since = greatest(r.kept_since, horizon);
  return dropped;
end
$$;

ALTER FUNCTION segmentation.drop_history_before(period text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.drop_history_before(period text) IS 'Retention: drop the history of all months before this one, for good; returns how many partitions were dropped. Example: select drop_history_before(''2025-01'');';

CREATE FUNCTION segmentation.earliest_change() RETURNS timestamp with time zone
    LANGUAGE sql STABLE
    AS $$ select pg_catalog.transaction_timestamp() $$;

ALTER FUNCTION segmentation.earliest_change() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.earliest_change() IS 'Internal: called by other functions of this schema, not by people.';

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
  perform pg_advisory_xact_lock(hashtext('segmentation.membership_history'), 0);
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
  -- A statement that names the partition itself does not fire the triggers of the parent.
  execute format(
    'create trigger history_is_append_only before update or delete or truncate on segmentation.%I '
    'for each statement execute function segmentation.refuse_history_change()',
    partition_name);
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
  delete from segmentation.memberships as m
  using (
    select e.user_id, e.segment_id
    from segmentation.memberships as e
    where e.ends_at <= moment
    order by e.ends_at
    limit expire_memberships.max_rows
    for update skip locked
  ) as ended
  where m.user_id = ended.user_id and m.segment_id = ended.segment_id;
  get diagnostics moved = row_count;

  for deleted_segment in
    select s.segment_id
    from segmentation.segments as s
    where s.deleted_at <= moment and s.deleted_at < 'infinity' and not s.swept
    order by s.deleted_at
  loop
    exit when moved >= expire_memberships.max_rows;
    delete from segmentation.memberships as m
    using (
      select e.user_id, e.segment_id
      from segmentation.memberships as e
      where e.segment_id = deleted_segment.segment_id
      order by e.user_id
      limit expire_memberships.max_rows - moved
      for update skip locked
    ) as ended
    where m.user_id = ended.user_id and m.segment_id = ended.segment_id;
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

CREATE FUNCTION segmentation.expiry(expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone) RETURNS timestamp with time zone
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if ttl_seconds is null then
    return expires_at;
  end if;
  if expires_at is not null then
    raise exception 'expires_at and ttl_seconds are both given'
      using errcode = 'invalid_parameter_value', hint = 'Give one of them.';
  end if;
  if (ttl_seconds > 0 and ttl_seconds <= 3153600000) is not true then
    raise exception 'ttl_seconds % is not above 0 and at most 100 years', ttl_seconds
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('ttl_seconds', ttl_seconds::text),
        hint = 'Give the number of seconds that the membership lasts.';
  end if;
  return coalesce(starts_at, segmentation.clock()) + make_interval(secs => ttl_seconds::double precision);
end
$$;

ALTER FUNCTION segmentation.expiry(expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.expiry(expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone) IS 'The end of a membership from an end or a time to live. Example: select expiry(null, 3600, null);';

CREATE FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(member boolean, source text, since timestamp with time zone, until timestamp with time zone, actor text, reason text, bucket_percent numeric, rollout_percent numeric)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  found_id integer := segmentation.segment_id_of(explain_membership.slug, explain_membership.at);
  present timestamptz;
  moment timestamptz;
begin
  perform segmentation.note_users(array[explain_membership.user_id]);
  present := segmentation.clock();
  moment := coalesce(explain_membership.at, present);
  perform segmentation.require_kept(moment);
  return query
  select
    m.member,
    m.source,
    -- Never in before: no moment at all.
    nullif(lower(span.period), '-infinity'),
    upper(span.period),
    why.actor,
    why.reason,
    round(segmentation.bucket(explain_membership.user_id, s.salt) / 1000.0, 3),
    coalesce((
      select r.percent
      from segmentation.rollouts as r
      where r.segment_id = s.segment_id and r.starts_at <= moment and moment < r.ends_at
    ), 0)
  from segmentation.segments as s
  left join segmentation.membership_periods(array[explain_membership.user_id], present) as p
    on p.segment_id = s.segment_id
  cross join lateral (
    select
      coalesce(p.member @> moment, false),
      case
        when not s.created_at <= moment or not moment < s.deleted_at then 'none'
        when p.assigned @> moment then 'assignment'
        when p.overridden @> moment then 'exclusion'
        when p.rollout @> moment then 'rollout'
        else 'none'
      end
  ) as m (member, source)
  -- The period that holds this answer: in the segment, or out of it.
  cross join lateral (
    select period
    from unnest(
      case when m.member then p.member else '{[-infinity,infinity)}'::tstzmultirange - coalesce(p.member, '{}') end
    ) as period
    where period @> moment
  ) as span
  left join lateral (
    select o.actor, o.reason
    from segmentation.overrides as o
    where m.source in ('assignment', 'exclusion')
      and o.user_id = explain_membership.user_id and o.segment_id = s.segment_id
      and o.starts_at <= moment and moment < o.ends_at
    union all
    -- The step that took the user in, or the event that ended the last stay.
    select r.actor, r.reason
    from unnest(p.rollout) as held
    join segmentation.rollouts as r
      on r.segment_id = s.segment_id and r.starts_at <= lower(held) and lower(held) < r.ends_at
    where m.source = 'rollout' and held @> moment
    union all
    select e.actor, e.reason
    from segmentation.membership_events(array[explain_membership.user_id], moment) as e
    where m.source = 'none'
      and e.segment_id = s.segment_id and e.operation = 'remove' and e.at = lower(span.period)
    limit 1
  ) as why on true
  where s.segment_id = found_id;
end
$$;

ALTER FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone) IS 'Whether a user is in a segment, now or at a moment, and why: the source, since and until when this answer holds, who caused it, the user''s bucket (in while below the rollout''s percent). Example: select * from explain_membership(1000, ''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.finish_import(slug text, operation text DEFAULT 'add'::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS TABLE(received bigint, changed bigint, unchanged bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
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
  select c.received, c.changed, c.unchanged
  from segmentation.change_segment_members(
    finish_import.slug, array(select i.user_id from pg_temp.import as i), finish_import.operation,
    finish_import.expires_at, finish_import.starts_at, finish_import.actor, finish_import.reason) as c;
end
$$;

ALTER FUNCTION segmentation.finish_import(slug text, operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.finish_import(slug text, operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) IS 'Add (or remove) all users of the temporary table import, see begin_import. Example: select * from finish_import(''AVITO_DISCOUNT_30'', reason => ''november campaign''); commit';

CREATE FUNCTION segmentation.forget_user(user_id bigint, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
#variable_conflict use_column
declare
  known boolean := exists (
    select from segmentation.users as u where u.user_id = forget_user.user_id
    union all
    select from segmentation.overrides as o where o.user_id = forget_user.user_id
  );
begin
  perform segmentation.require_author(forget_user.actor, forget_user.reason);
  -- Known or not, the user is locked: nothing added meanwhile survives half.
  perform segmentation.lock_users(array[forget_user.user_id]);
  -- Recorded like any other deletion, and then erased with the rest: the history's guard stands aside.
  delete from segmentation.memberships as m where m.user_id = forget_user.user_id;
  perform set_config('segmentation.forgetting', 'on', true);
  delete from segmentation.membership_history as h where h.user_id = forget_user.user_id;
  delete from segmentation.report_links as l where l.user_id = forget_user.user_id;
  delete from segmentation.idempotency_keys as i where i.path ~ ('^/v1/users/' || forget_user.user_id || '(/|$)');
  delete from segmentation.users as u where u.user_id = forget_user.user_id;
  perform set_config('segmentation.forgetting', '', true);
  -- Who and why stays in the server's log; whom does not.
  raise log 'a user was forgotten by %, reason: %',
    coalesce(forget_user.actor, session_user), coalesce(forget_user.reason, 'none given');
  return known;
end
$_$;

ALTER FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) IS 'Erase a user with all overrides and their past; false if the user was not known. Seen again, it begins anew. Example: select forget_user(1000, reason => ''asked to be forgotten'');';

CREATE FUNCTION segmentation.get_segment(slug text) RETURNS SETOF segmentation.living_segments
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  return query
  select l.* from segmentation.living_segments as l where l.slug = get_segment.slug collate "C";
  if not found then
    perform segmentation.segment_id_of(get_segment.slug);
  end if;
end
$$;

ALTER FUNCTION segmentation.get_segment(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.get_segment(slug text) IS 'One living segment, with the percentage in force. Example: select * from get_segment(''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.growth_moments(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) RETURNS timestamp with time zone[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
#variable_conflict use_column
declare
  at_most constant integer := 10000;
  first_moment timestamptz := growth_moments.from_time;
  last_moment timestamptz := coalesce(growth_moments.to_time, segmentation.clock());
  moments timestamptz[];
begin
  perform segmentation.require_known_slug(growth_moments.slug);
  -- A step that goes a month ahead and some days back might stand still.
  if (
    growth_moments.step > interval '0'
    and least(
      extract(year from growth_moments.step), extract(month from growth_moments.step),
      extract(day from growth_moments.step), extract(hour from growth_moments.step),
      extract(minute from growth_moments.step), extract(second from growth_moments.step)) >= 0
    and isfinite(growth_moments.step)
  ) is not true then
    raise exception 'step % is no length of time above 0', coalesce(step::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('step', step::text),
        hint = 'Give an interval such as 1 day, 01:00 or 1 month.';
  end if;
  if first_moment is null then
    select greatest(s.created_at, r.kept_since) into first_moment
    from segmentation.segments as s
    cross join segmentation.retention as r
    where s.slug = growth_moments.slug collate "C"
    order by s.created_at desc
    limit 1;
  end if;
  perform segmentation.require_kept(first_moment);
  perform segmentation.require_kept(last_moment);
  if first_moment > last_moment then
    raise exception 'from_time % is after to_time %', first_moment, last_moment
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('from_time', first_moment, 'to_time', last_moment),
        hint = 'The growth is counted at from_time and at each step after it, up to to_time.';
  end if;
  -- Not in a FROM clause, which would make all of them before the limit counts.
  moments := array(select generate_series(first_moment, last_moment, growth_moments.step) limit at_most + 1);
  if cardinality(moments) > at_most then
    raise exception 'more than % steps of % lie between % and %', at_most, step, first_moment, last_moment
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('step', step::text, 'at_most', at_most),
        hint = 'Take a longer step or a shorter time.';
  end if;
  return moments;
end
$$;

ALTER FUNCTION segmentation.growth_moments(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.growth_moments(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) IS 'Internal: called by other functions of this schema, not by people.';

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
    select * from segmentation.report_lines(page.from_time, page.to_time, page.after_id, page.up_to_id);
  end loop;
end
$$;

ALTER FUNCTION segmentation.history_report(period text, user_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.history_report(period text, user_id bigint) IS 'Who got in or out of which segment in a month (UTC), of all known users or of one; by user, time, segment. Example: \copy (select * from history_report(''2026-11'')) to ''november.csv'' csv delimiter '';''';

CREATE FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.cancel_rollout_step(slug, starts_at, actor, reason);
  return json_build_object('segment', slug, 'rollout', segmentation.rollout_json(slug));
end
$$;

ALTER FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) IS 'Answers DELETE /v1/segments/{slug}/rollout.';

CREATE FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select json_build_object(
    'user_id', http_change_user_segments.user_id,
    'added', coalesce(json_agg(c.segment order by c.segment collate "C") filter (where c.change = 'added'), '[]'),
    'removed', coalesce(json_agg(c.segment order by c.segment collate "C") filter (where c.change = 'removed'), '[]'),
    'rescheduled', coalesce(json_agg(c.segment order by c.segment collate "C") filter (where c.change = 'rescheduled'), '[]'),
    'unchanged', coalesce(json_agg(c.segment order by c.segment collate "C") filter (where c.change = 'unchanged'), '[]'))
  from segmentation.change_user_segments(
    http_change_user_segments.user_id,
    http_change_user_segments.add,
    http_change_user_segments.remove,
    segmentation.expiry(
      http_change_user_segments.expires_at, http_change_user_segments.ttl_seconds,
      http_change_user_segments.starts_at),
    http_change_user_segments.starts_at,
    http_change_user_segments.actor,
    http_change_user_segments.reason) as c
$$;

ALTER FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) IS 'Answers PATCH /v1/users/{user_id}/segments.';

CREATE FUNCTION segmentation.http_create_report_link(period text, user_id bigint, base_url text, actor text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select json_build_object(
    'url', http_create_report_link.base_url || '/v1/reports/' || l.id || '.csv',
    'period', http_create_report_link.period,
    'expires_at', segmentation.rfc3339(l.expires_at))
  from segmentation.create_report_link(
    http_create_report_link.period, http_create_report_link.user_id,
    actor => http_create_report_link.actor) as l
$$;

ALTER FUNCTION segmentation.http_create_report_link(period text, user_id bigint, base_url text, actor text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_create_report_link(period text, user_id bigint, base_url text, actor text) IS 'Answers POST /v1/reports.';

CREATE FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.create_segment(slug, percent, description, actor, reason);
  return segmentation.http_segment(slug);
end
$$;

ALTER FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text) IS 'Answers POST /v1/segments.';

CREATE FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select json_build_object(
    'user_id', http_explain_membership.user_id,
    'segment', http_explain_membership.slug,
    'member', e.member,
    'source', e.source,
    'since', segmentation.rfc3339(e.since),
    'until', segmentation.rfc3339(e.until),
    'actor', e.actor,
    'reason', e.reason,
    'bucket_percent', e.bucket_percent,
    'rollout_percent', e.rollout_percent)
  from segmentation.explain_membership(
    http_explain_membership.user_id, http_explain_membership.slug, http_explain_membership.at) as e
$$;

ALTER FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone) IS 'Answers GET /v1/users/{user_id}/segments/{slug}.';

CREATE FUNCTION segmentation.http_finish_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select json_build_object('received', c.received, 'changed', c.changed, 'unchanged', c.unchanged)
  from segmentation.finish_import(
    http_finish_import.slug,
    http_finish_import.operation,
    segmentation.expiry(
      http_finish_import.expires_at, http_finish_import.ttl_seconds, http_finish_import.starts_at),
    http_finish_import.starts_at,
    http_finish_import.actor,
    http_finish_import.reason) as c
$$;

ALTER FUNCTION segmentation.http_finish_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_finish_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) IS 'Answers POST /v1/segments/{slug}/members, after its COPY.';

CREATE FUNCTION segmentation.http_segment(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select json_build_object(
    'slug', s.slug, 'description', s.description, 'percent', s.percent,
    'created_at', segmentation.rfc3339(s.created_at),
    -- As text: JavaScript would round it.
    'salt', s.salt::text,
    'rollout', segmentation.rollout_json(s.slug))
  from segmentation.get_segment(http_segment.slug) as s
$$;

ALTER FUNCTION segmentation.http_segment(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segment(slug text) IS 'Answers GET /v1/segments/{slug}.';

CREATE FUNCTION segmentation.http_segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
#variable_conflict use_column
declare
  length interval;
begin
  if step ~ '^P(?=.)([0-9]+Y)?([0-9]+M)?([0-9]+W)?([0-9]+D)?(T(?=.)([0-9]+H)?([0-9]+M)?([0-9]+([.][0-9]+)?S)?)?$' then
    begin
      length := step::interval;
    exception
      when datetime_field_overflow or interval_field_overflow then null;
    end;
  end if;
  if length is null then
    raise exception 'step % is no ISO 8601 duration', coalesce('"' || step || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('step', step),
        hint = 'Write a day as P1D, an hour as PT1H, a quarter of an hour as PT15M, a week as P1W, a month as P1M.';
  end if;
  return (
    select json_build_object(
      'segment', http_segment_growth.slug,
      'growth', json_agg(
        json_build_object(
          'at', segmentation.rfc3339(g.at), 'users', g.users, 'members', g.members,
          'assigned', g.assigned, 'excluded', g.excluded, 'rolled_out', g.rolled_out,
          'planned_percent', g.planned_percent, 'actual_percent', g.actual_percent)
        order by g.at))
    from segmentation.segment_growth(
      http_segment_growth.slug, http_segment_growth.from_time, http_segment_growth.to_time, length) as g
  );
end
$_$;

ALTER FUNCTION segmentation.http_segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step text) IS 'Answers GET /v1/segments/{slug}/growth.';

CREATE FUNCTION segmentation.http_segment_history(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select json_build_object(
    'segment', http_segment_history.slug,
    'changes', coalesce(
      json_agg(
        json_build_object(
          'at', segmentation.rfc3339(h.at), 'operation', h.operation, 'description', h.description,
          'percent', h.percent, 'starts_at', segmentation.rfc3339(h.starts_at),
          'actor', h.actor, 'reason', h.reason)
        order by h.position),
      '[]'))
  from segmentation.segment_history(http_segment_history.slug)
    with ordinality as h (at, operation, description, percent, starts_at, actor, reason, position)
$$;

ALTER FUNCTION segmentation.http_segment_history(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segment_history(slug text) IS 'Answers GET /v1/segments/{slug}/history.';

CREATE FUNCTION segmentation.http_segment_members(slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone, after bigint DEFAULT NULL::bigint, max_rows integer DEFAULT 100) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  perform segmentation.require_at_most('limit', http_segment_members.max_rows, 10000);
  return (
    select json_build_object(
      'segment', http_segment_members.slug,
      'members', coalesce(
        json_agg(
          json_build_object(
            'user_id', m.user_id, 'source', m.source,
            'since', segmentation.rfc3339(m.since), 'until', segmentation.rfc3339(m.until))
          order by m.user_id),
        '[]'),
      'next_after', case when count(*) = http_segment_members.max_rows then max(m.user_id) end)
    from segmentation.segment_members(
      http_segment_members.slug, http_segment_members.at, http_segment_members.after,
      http_segment_members.max_rows) as m
  );
end
$$;

ALTER FUNCTION segmentation.http_segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) IS 'Answers GET /v1/segments/{slug}/members.';

CREATE FUNCTION segmentation.http_segment_stats(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select json_build_object(
    'segment', http_segment_stats.slug, 'assigned', s.assigned, 'excluded', s.excluded,
    'rolled_out', s.rolled_out, 'members', s.members)
  from segmentation.segment_stats(http_segment_stats.slug) as s
$$;

ALTER FUNCTION segmentation.http_segment_stats(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segment_stats(slug text) IS 'Answers GET /v1/segments/{slug}/stats.';

CREATE FUNCTION segmentation.http_segments(after text DEFAULT NULL::text, max_rows integer DEFAULT 100) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  perform segmentation.require_at_most('limit', http_segments.max_rows, 1000);
  return (
    select json_build_object(
      'segments', coalesce(
        json_agg(
          json_build_object(
            'slug', s.slug, 'description', s.description, 'percent', s.percent,
            'created_at', segmentation.rfc3339(s.created_at))
          order by s.position),
        '[]'),
      -- A full page may have a next one.
      'next_after', case when count(*) = http_segments.max_rows then max(s.slug collate "C") end)
    from segmentation.list_segments(http_segments.after, http_segments.max_rows)
      with ordinality as s (slug, description, percent, created_at, salt, position)
  );
end
$$;

ALTER FUNCTION segmentation.http_segments(after text, max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_segments(after text, max_rows integer) IS 'Answers GET /v1/segments.';

CREATE FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.set_rollout(slug, percent, starts_at, actor, reason);
  return json_build_object('segment', slug, 'rollout', segmentation.rollout_json(slug));
end
$$;

ALTER FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) IS 'Answers PUT /v1/segments/{slug}/rollout.';

CREATE FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.update_segment(slug, description, actor, reason);
  return segmentation.http_segment(slug);
end
$$;

ALTER FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) IS 'Answers PATCH /v1/segments/{slug}.';

CREATE FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS json
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select json_build_object(
    'user_id', http_user_history.user_id,
    'events', coalesce(
      json_agg(
        json_build_object(
          'segment', e.segment, 'operation', e.operation, 'at', segmentation.rfc3339(e.at),
          'cause', e.cause, 'actor', e.actor, 'reason', e.reason)
        order by e.position),
      '[]'))
  from segmentation.user_history(
    http_user_history.user_id, http_user_history.from_time, http_user_history.to_time)
    with ordinality as e (segment, operation, at, cause, actor, reason, position)
$$;

ALTER FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) IS 'Answers GET /v1/users/{user_id}/history.';

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
  select segmentation.segments_json(c.user_id, c.segments), c.known into answer, is_known
  from segmentation.current_segments(array[http_user_segments.user_id], moment) as c;
  if not is_known then
    perform segmentation.note_users(array[http_user_segments.user_id]);
  end if;
  return answer;
end
$$;

ALTER FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone) IS 'Answers GET /v1/users/{user_id}/segments, the hot read.';

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
    perform segmentation.note_users(user_ids);
  end if;
  return answers;
end
$$;

ALTER FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) IS 'Answers GET /v1/users/{user_id}/segments for several users who wait at the same moment, one text each.';

CREATE FUNCTION segmentation.http_users_segments(user_ids bigint[]) RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if cardinality(user_ids) > 0 then
    perform segmentation.require_at_most('user_count', cardinality(user_ids), 10000);
  end if;
  return '{"users":['
    || coalesce(array_to_string(segmentation.http_user_segments_each(user_ids), ','), '')
    || ']}';
end
$$;

ALTER FUNCTION segmentation.http_users_segments(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.http_users_segments(user_ids bigint[]) IS 'Answers POST /v1/users/segments.';

CREATE FUNCTION segmentation.keep_answer(api_key text, idempotency_key text, fingerprint bytea, path text, status integer, location text, answer text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if (length(fingerprint) = 32 and status between 200 and 299
    and num_nulls(api_key, idempotency_key, path, answer) = 0) is not true
  then
    raise exception 'this is no answer to keep'
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('status', status, 'path', path),
        hint = 'All but location are needed; a fingerprint has 32 bytes, a status kept is from 200 to 299.';
  end if;
  insert into segmentation.idempotency_keys (
    api_key, idempotency_key, fingerprint, path, status, location, answer)
  values (api_key, idempotency_key, fingerprint, path, status, location, answer);
end
$$;

ALTER FUNCTION segmentation.keep_answer(api_key text, idempotency_key text, fingerprint bytea, path text, status integer, location text, answer text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.keep_answer(api_key text, idempotency_key text, fingerprint bytea, path text, status integer, location text, answer text) IS 'Keep the answer of a write for whoever repeats it with the same Idempotency-Key. Example: select keep_answer(''web-shop'', ''order-17'', sha256(''PATCH …''), ''/v1/users/1000/segments'', 200, null, ''{}'');';

CREATE FUNCTION segmentation.linked_pages(id text) RETURNS TABLE(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  link segmentation.report_links;
begin
  select l.* into link
  from segmentation.report_links as l
  where l.id_digest = sha256(convert_to(linked_pages.id, 'UTF8')) and segmentation.clock() < l.expires_at;
  if not found then
    raise exception 'this report link is unknown or has expired'
      using errcode = 'no_data_found', hint = 'Ask for a new one: POST /v1/reports.';
  end if;
  return query select * from segmentation.report_pages(link.period, link.user_id);
end
$$;

ALTER FUNCTION segmentation.linked_pages(id text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.linked_pages(id text) IS 'The pages of the report that a link''s id opens. Example: select line.* from linked_pages(''…'') as page cross join lateral report_page(from_time, to_time, after_id, up_to_id) as line;';

CREATE FUNCTION segmentation.list_api_keys() RETURNS TABLE(name text, role text, created_at timestamp with time zone, expires_at timestamp with time zone, revoked_at timestamp with time zone)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  return query
  select k.name, k.role, k.created_at, k.expires_at, k.revoked_at
  from segmentation.api_keys as k
  order by k.name;
end
$$;

ALTER FUNCTION segmentation.list_api_keys() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.list_api_keys() IS 'All API keys, revoked ones too, without the keys themselves. Example: select * from list_api_keys();';

CREATE FUNCTION segmentation.list_segments(after text DEFAULT NULL::text, max_rows integer DEFAULT 100) RETURNS SETOF segmentation.living_segments
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  perform segmentation.require_rows(list_segments.max_rows);
  return query
  select l.*
  from segmentation.living_segments as l
  where l.slug > coalesce(list_segments.after, '') collate "C"
  order by l.slug
  limit list_segments.max_rows;
end
$$;

ALTER FUNCTION segmentation.list_segments(after text, max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.list_segments(after text, max_rows integer) IS 'The living segments by slug, a page at a time: give the last slug seen as after. Example: select * from list_segments(after => ''AVITO_DISCOUNT_30'', max_rows => 10);';

CREATE FUNCTION segmentation.lock_segment(slug text) RETURNS segmentation.segments
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  segment segmentation.segments;
begin
  loop
    select s.* into segment
    from segmentation.segments as s
    where s.slug = lock_segment.slug collate "C" and s.deleted_at = 'infinity'
    for no key update;
    exit when found;
    -- Not found, or deleted and created anew while we waited for it.
    perform segmentation.segment_id_of(lock_segment.slug);
  end loop;
  return segment;
end
$$;

ALTER FUNCTION segmentation.lock_segment(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.lock_segment(slug text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.lock_slugs(slugs text[], exclusive boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  slug_key integer;
begin
  if cardinality(lock_slugs.slugs) > 1000 then
    raise exception '% segments at once are too many', cardinality(lock_slugs.slugs)
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('segments', cardinality(lock_slugs.slugs), 'at_most', 1000),
        hint = 'Name at most 1000 in one call; make several.';
  end if;
  for slug_key in
    select distinct hashtext(s.slug) from unnest(lock_slugs.slugs) as s (slug) order by 1
  loop
    if lock_slugs.exclusive then
      perform pg_advisory_xact_lock(hashtext('segmentation.segments'), slug_key);
    else
      perform pg_advisory_xact_lock_shared(hashtext('segmentation.segments'), slug_key);
    end if;
  end loop;
end
$$;

ALTER FUNCTION segmentation.lock_slugs(slugs text[], exclusive boolean) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.lock_slugs(slugs text[], exclusive boolean) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.lock_users(user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  locked bigint;
begin
  loop
    begin
      perform
      from (select unnest(lock_users.user_ids) as user_id order by user_id) as asked
      join segmentation.users as u on u.user_id = asked.user_id
      order by u.user_id
      for no key update of u;
      get diagnostics locked = row_count;
      exit when locked >= cardinality(lock_users.user_ids);
      raise exception using errcode = 'SG001';
    exception
      when sqlstate 'SG001' then null;
    end;
    perform segmentation.register_users(lock_users.user_ids);
  end loop;
end
$$;

ALTER FUNCTION segmentation.lock_users(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.lock_users(user_ids bigint[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.manual(word text DEFAULT NULL::text) RETURNS TABLE(function text, role text, manual text)
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
  select
    p.proname::text,
    r.role,
    -- How it is called, with what may be left out in brackets; what it is for, in lines of a page's width; examples.
    p.proname || '(' || array_to_string(a.names[:p.pronargs - p.pronargdefaults], ', ')
      || case when p.pronargdefaults = 0 then '' else
        case when p.pronargs > p.pronargdefaults then ' [, ' else '[' end
          || array_to_string(a.names[p.pronargs - p.pronargdefaults + 1:], ', ') || ']' end || E')\n'
      || regexp_replace(d.parts[1], '(.{1,90})(\s+|$)', E'    \\1\n', 'g')
      || regexp_replace(d.parts[2], '; (?=\S)', E';\n', 'g')
  from pg_proc as p
  cross join lateral (
    select array(
      select n.name from unnest(p.proargnames) with ordinality as n (name, position)
      where n.position <= p.pronargs
      order by n.position
    )
  ) as a (names)
  cross join lateral regexp_match(obj_description(p.oid, 'pg_proc'), '^(.*) Example: (.*)$') as d (parts)
  cross join lateral (
    select k.position, k.role
    from unnest('{reader,editor,admin}'::text[]) with ordinality as k (role, position)
    where has_function_privilege('segmentation_' || k.role, p.oid, 'execute')
    order by k.position
    limit 1
  ) as r
  where p.pronamespace = 'segmentation'::regnamespace
    -- What only the service calls.
    and p.proname !~ '^(http|ofrep)_'
    and p.proname not in (
      'assert_bucket_vectors', 'authenticate_api_key', 'claim_idempotency_key', 'expiry', 'keep_answer',
      'linked_pages', 'note_upkeep', 'report_page', 'require_at_most', 'rfc3339', 'rollout_json')
    and (manual.word is null or position(lower(manual.word) in lower(p.proname || ' ' || d.parts[1])) > 0)
  order by r.position, p.proname
$_$;

ALTER FUNCTION segmentation.manual(word text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.manual(word text) IS 'What there is to call, by whom, with an example; all of it, or what concerns a word. Example: select * from manual(''report'');';

CREATE FUNCTION segmentation.member(rollout tstzmultirange, overridden tstzmultirange, assigned tstzmultirange, alive tstzrange) RETURNS tstzmultirange
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select ((coalesce(rollout, '{}') - coalesce(overridden, '{}')) + coalesce(assigned, '{}'))
    * pg_catalog.tstzmultirange(alive)
$$;

ALTER FUNCTION segmentation.member(rollout tstzmultirange, overridden tstzmultirange, assigned tstzmultirange, alive tstzrange) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.member(rollout tstzmultirange, overridden tstzmultirange, assigned tstzmultirange, alive tstzrange) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.members_page(segment_id integer, moment timestamp with time zone, after bigint, max_rows integer) RETURNS bigint[]
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  step segmentation.rollouts;
  page bigint[];
begin
  select r.* into step
  from segmentation.rollouts as r
  where r.segment_id = members_page.segment_id and r.starts_at <= moment and moment < r.ends_at;
  select array_agg(c.user_id) into page
  from (
    (
      select distinct o.user_id
      from segmentation.overrides as o
      where o.segment_id = members_page.segment_id and o.user_id > members_page.after
        and o.included and o.starts_at <= moment and moment < o.ends_at
      order by o.user_id
      limit members_page.max_rows
    )
    union all
    (
      select u.user_id
      from segmentation.users as u
      where u.user_id > members_page.after and u.registered_at <= moment
        and segmentation.bucket(u.user_id, step.salt) < step.threshold
        and not exists (
          select
          from segmentation.overrides as o
          where o.user_id = u.user_id and o.segment_id = members_page.segment_id
            and o.starts_at <= moment and moment < o.ends_at
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

ALTER FUNCTION segmentation.members_page(segment_id integer, moment timestamp with time zone, after bigint, max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.members_page(segment_id integer, moment timestamp with time zone, after bigint, max_rows integer) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.membership_events(user_ids bigint[], until_time timestamp with time zone) RETURNS TABLE(user_id bigint, segment_id integer, operation text, at timestamp with time zone, cause text, actor text, reason text)
    LANGUAGE sql STABLE
    AS $$
  select e.user_id, e.segment_id, e.operation, e.at, c.cause, c.actor, c.reason
  from (
    select p.user_id, p.segment_id, b.operation, b.at
    from segmentation.membership_periods(membership_events.user_ids, membership_events.until_time) as p
    cross join lateral unnest(p.member) as period
    cross join lateral (
      values ('add', lower(period)), ('remove', upper(period))
    ) as b (operation, at)
    where b.at <= membership_events.until_time
  ) as e
  left join lateral (
    select cause, actor, reason
    from (
      -- In by hand.
      select 1 as rank, 'assigned' as cause, o.actor, o.reason
      from segmentation.overrides as o
      where e.operation = 'add'
        and o.user_id = e.user_id and o.segment_id = e.segment_id
        and o.included and o.starts_at = e.at
      union all
      -- In by rollout again, because an exclusion was lifted.
      select 2, 'rollout', o.end_actor, o.end_reason
      from segmentation.overrides as o
      where e.operation = 'add'
        and o.user_id = e.user_id and o.segment_id = e.segment_id
        and not o.included and o.ends_at = e.at
      union all
      -- In by the step in force, which began now or met the user when it registered.
      select 3, 'rollout', r.actor, r.reason
      from segmentation.rollouts as r
      where e.operation = 'add'
        and r.segment_id = e.segment_id and r.starts_at <= e.at and e.at < r.ends_at
      union all
      select 4, 'segment_deleted', h.actor, h.reason
      from segmentation.segment_history as h
      where e.operation = 'remove'
        and h.segment_id = e.segment_id and h.operation = 'delete' and h.changed_at = e.at
      union all
      -- Out by hand: an exclusion began.
      select 5, 'removed', o.actor, o.reason
      from segmentation.overrides as o
      where e.operation = 'remove'
        and o.user_id = e.user_id and o.segment_id = e.segment_id
        and not o.included and o.starts_at = e.at
      union all
      -- Out because the assignment ended.
      select 6, o.end_cause, o.end_actor, o.end_reason
      from segmentation.overrides as o
      where e.operation = 'remove'
        and o.user_id = e.user_id and o.segment_id = e.segment_id
        and o.included and o.ends_at = e.at
      union all
      -- Out because the step that began now is too low.
      select 7, 'rollout', r.actor, r.reason
      from segmentation.rollouts as r
      where e.operation = 'remove'
        and r.segment_id = e.segment_id and r.starts_at = e.at
    ) as candidates
    order by rank
    limit 1
  ) as c on true
$$;

ALTER FUNCTION segmentation.membership_events(user_ids bigint[], until_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.membership_events(user_ids bigint[], until_time timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.membership_periods(user_ids bigint[], first_seen timestamp with time zone) RETURNS TABLE(user_id bigint, segment_id integer, rollout tstzmultirange, overridden tstzmultirange, assigned tstzmultirange, member tstzmultirange)
    LANGUAGE sql STABLE
    AS $$
  select
    t.user_id, t.segment_id, t.rollout, t.overridden, t.assigned,
    segmentation.member(t.rollout, t.overridden, t.assigned, tstzrange(s.created_at, s.deleted_at))
  from (
    select
      p.user_id,
      p.segment_id,
      range_agg(p.period) filter (where p.kind = 'rollout') as rollout,
      range_agg(p.period) filter (where p.kind <> 'rollout') as overridden,
      range_agg(p.period) filter (where p.kind = 'assignment') as assigned
    from (
      select
        k.user_id, r.segment_id, 'rollout' as kind,
        tstzrange(greatest(r.starts_at, k.registered_at), r.ends_at) as period
      from (
        select asked.user_id, coalesce(u.registered_at, membership_periods.first_seen) as registered_at
        from unnest(membership_periods.user_ids) as asked (user_id)
        left join segmentation.users as u on u.user_id = asked.user_id
      ) as k
      join segmentation.rollouts as r
        on r.ends_at > k.registered_at and segmentation.bucket(k.user_id, r.salt) < r.threshold
      union all
      select
        o.user_id, o.segment_id, case when o.included then 'assignment' else 'exclusion' end,
        tstzrange(o.starts_at, o.ends_at)
      from segmentation.overrides as o
      where o.user_id = any (membership_periods.user_ids)
    ) as p
    group by p.user_id, p.segment_id
  ) as t
  join segmentation.segments as s on s.segment_id = t.segment_id
$$;

ALTER FUNCTION segmentation.membership_periods(user_ids bigint[], first_seen timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.membership_periods(user_ids bigint[], first_seen timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.memberships_after_delete() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  moment timestamptz := segmentation.clock();
begin
  perform segmentation.ensure_history_partition(month)
  from (
    select distinct date_trunc('month', least(o.ends_at, s.deleted_at, moment), 'UTC')
    from old_rows as o
    join segmentation.segments as s on s.segment_id = o.segment_id
  ) as m (month);
  insert into segmentation.membership_history
  select c.*
  from old_rows as o
  cross join lateral segmentation.closed_override(
    row(o.*)::segmentation.memberships, 'infinity', moment) as c;
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
  earliest timestamptz := segmentation.earliest_change();
  new record;
  wrong record;
begin
  -- One pass over what may be a million rows; only what is wrong is looked for again.
  for new in
    select d.segment_id, d.starts_at, s.segment_id is not null as living
    from (
      select n.segment_id, min(n.starts_at) as starts_at from new_rows as n group by n.segment_id
    ) as d
    left join segmentation.segments as s on s.segment_id = d.segment_id and s.deleted_at = 'infinity'
  loop
    if not new.living then
      raise exception 'segment_id % is no living segment', new.segment_id
        using
          errcode = 'foreign_key_violation',
          detail = json_build_object('segment_id', new.segment_id),
          hint = 'Look it up in segmentation.segments, or call change_user_segments with its slug.';
    end if;
    if new.starts_at < earliest then
      select n.user_id, n.starts_at into wrong
      from new_rows as n
      where n.starts_at < earliest
      limit 1;
      raise exception 'user % cannot be overridden from % on', wrong.user_id, wrong.starts_at
        using
          errcode = 'object_not_in_prerequisite_state',
          detail = json_build_object('user_id', wrong.user_id, 'starts_at', wrong.starts_at),
          hint = 'The past is settled. Leave starts_at out to start now, or give a moment to come.';
    end if;
  end loop;
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
  earliest timestamptz := segmentation.earliest_change();
begin
  select coalesce(o.user_id, n.user_id) as user_id into wrong
  from old_rows as o
  full join new_rows as n on n.user_id = o.user_id and n.segment_id = o.segment_id
  where o.user_id is null or n.user_id is null
    or case
      when (n.included, n.starts_at) is distinct from (o.included, o.starts_at) then n.starts_at < earliest
      else (n.actor, n.reason) is distinct from (o.actor, o.reason)
        or n.ends_at < least(o.ends_at, earliest)
        or (o.ends_at < earliest and n.ends_at <> o.ends_at)
    end
  limit 1;
  if found then
    raise exception 'the past of user % cannot be changed', wrong.user_id
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('user_id', wrong.user_id),
        hint = 'User, segment, start and author of an override are settled, and its end is not before now. Call change_user_segments.';
  end if;
  perform segmentation.ensure_history_partition(month)
  from (
    select distinct date_trunc('month', least(o.ends_at, s.deleted_at, moment), 'UTC')
    from old_rows as o
    join segmentation.segments as s on s.segment_id = o.segment_id
    join new_rows as n on n.user_id = o.user_id and n.segment_id = o.segment_id
    where (n.included, n.starts_at) is distinct from (o.included, o.starts_at)
  ) as m (month);
  insert into segmentation.membership_history
  select c.*
  from old_rows as o
  join new_rows as n on n.user_id = o.user_id and n.segment_id = o.segment_id
  cross join lateral segmentation.closed_override(
    row(o.*)::segmentation.memberships, n.starts_at, moment) as c
  where (n.included, n.starts_at) is distinct from (o.included, o.starts_at);
  return null;
end
$$;

ALTER FUNCTION segmentation.memberships_after_update() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.memberships_after_update() IS 'Internal: called by other functions of this schema, not by people.';

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

CREATE FUNCTION segmentation.note_upkeep(task text, rows bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  if note_upkeep.task is null or note_upkeep.rows is null then
    raise exception 'task and rows are both needed'
      using errcode = 'invalid_parameter_value', hint = 'Say what ended, and how many rows it moved.';
  end if;
  insert into segmentation.upkeep as u (task, finished_at, rows)
  values (note_upkeep.task, segmentation.clock(), note_upkeep.rows)
  on conflict (task) do update set finished_at = excluded.finished_at, rows = excluded.rows;
end
$$;

ALTER FUNCTION segmentation.note_upkeep(task text, rows bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.note_upkeep(task text, rows bigint) IS 'Note that a task of the upkeep ended well, and how many rows it moved; service_status() shows it. Example: select note_upkeep(''sweep'', 0);';

CREATE FUNCTION segmentation.note_users(user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '20ms'
    AS $$
begin
  perform segmentation.require_user_ids(note_users.user_ids);
  if current_setting('transaction_read_only') = 'off' then
    perform segmentation.register_users(note_users.user_ids);
  end if;
exception
  when lock_not_available then null;
end
$$;

ALTER FUNCTION segmentation.note_users(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.note_users(user_ids bigint[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.ofrep_evaluations(user_id bigint, slugs text[]) RETURNS TABLE(slug text, evaluation json)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
declare
  moment timestamptz := segmentation.clock();
  member_of text[];
  is_known boolean;
begin
  select c.segments, c.known into member_of, is_known
  from segmentation.current_segments(array[ofrep_evaluations.user_id], moment) as c;
  if not is_known then
    perform segmentation.note_users(array[ofrep_evaluations.user_id]);
  end if;
  return query
  select
    s.slug,
    json_strip_nulls(json_build_object(
      'key', s.slug,
      'value', v.member,
      'variant', case when v.member then 'in' else 'out' end,
      'reason', case
        when m.included is not null then 'TARGETING_MATCH'
        when r.percent = 100 then 'STATIC'
        else 'SPLIT'
      end,
      'metadata', json_build_object(
        'source', case
          when m.included then 'assignment'
          when not m.included then 'exclusion'
          when v.member then 'rollout'
          else 'none'
        end,
        'since', segmentation.rfc3339(coalesce(m.starts_at, r.starts_at)),
        'until', segmentation.rfc3339(case when m.included is null then r.ends_at else m.ends_at end))))
  from segmentation.segments as s
  cross join lateral (select s.slug = any (member_of)) as v (member)
  left join segmentation.memberships as m
    on m.user_id = ofrep_evaluations.user_id and m.segment_id = s.segment_id
    and m.starts_at <= moment and moment < m.ends_at
  left join segmentation.rollouts as r
    on r.segment_id = s.segment_id and r.starts_at <= moment and moment < r.ends_at
  where s.deleted_at = 'infinity' and s.slug = any (ofrep_evaluations.slugs);
end
$$;

ALTER FUNCTION segmentation.ofrep_evaluations(user_id bigint, slugs text[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ofrep_evaluations(user_id bigint, slugs text[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.ofrep_flag(user_id bigint, slug text) RETURNS json
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  -- Raises where there is none.
  perform segmentation.segment_id_of(ofrep_flag.slug);
  return (
    select e.evaluation
    from segmentation.ofrep_evaluations(ofrep_flag.user_id, array[ofrep_flag.slug]) as e
  );
end
$$;

ALTER FUNCTION segmentation.ofrep_flag(user_id bigint, slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ofrep_flag(user_id bigint, slug text) IS 'POST /ofrep/v1/evaluate/flags/{key}: whether a user is in a segment right now, as OFREP says it. Example: select ofrep_flag(1000, ''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.ofrep_flags(user_id bigint, slugs text[] DEFAULT NULL::text[]) RETURNS json
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  asked text[] := coalesce(
    ofrep_flags.slugs,
    array(select s.slug from segmentation.segments as s where s.deleted_at = 'infinity'));
begin
  if cardinality(ofrep_flags.slugs) > 1000 then
    raise exception '% flags at once are too many', cardinality(ofrep_flags.slugs)
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('flags', cardinality(ofrep_flags.slugs), 'at_most', 1000),
        hint = 'Name at most 1000, or none to get all.';
  end if;
  return (
    select json_build_object('flags', coalesce(
      json_agg(
        coalesce(
          e.evaluation,
          json_build_object(
            'key', a.slug, 'errorCode', 'FLAG_NOT_FOUND',
            'errorDetails', 'segment "' || a.slug || '" does not exist'))
        order by a.slug),
      '[]'))
    from (select distinct given.slug collate "C" from unnest(asked) as given (slug)) as a (slug)
    left join segmentation.ofrep_evaluations(ofrep_flags.user_id, asked) as e on e.slug = a.slug
  );
end
$$;

ALTER FUNCTION segmentation.ofrep_flags(user_id bigint, slugs text[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.ofrep_flags(user_id bigint, slugs text[]) IS 'POST /ofrep/v1/evaluate/flags: every segment, or those named, as a boolean flag of a user right now, by slug. Example: select ofrep_flags(1000); select ofrep_flags(1000, array[''AVITO_VOICE_MESSAGES'']);';

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
    where i.created_at <= segmentation.clock() - interval '24 hours'
    returning 1
  )
  select (select count(*) from links) + (select count(*) from answers) into purged;
  perform segmentation.note_upkeep('purge', purged);
  return purged;
end
$$;

ALTER FUNCTION segmentation.purge_expired() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.purge_expired() IS 'Delete report links that have expired and answers kept for a day; returns how many. Example: select purge_expired();';

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

CREATE FUNCTION segmentation.refuse_past_step(segment_id integer, starts_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  raise exception 'the rollout step of % of segment_id % has begun', starts_at, segment_id
    using
      errcode = 'object_not_in_prerequisite_state',
      detail = json_build_object('segment_id', segment_id, 'starts_at', starts_at),
      hint = 'The past is settled. To change the present call set_rollout(slug, percent): it begins a new step.';
end
$$;

ALTER FUNCTION segmentation.refuse_past_step(segment_id integer, starts_at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.refuse_past_step(segment_id integer, starts_at timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

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

CREATE FUNCTION segmentation.register_users(user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_user_ids(register_users.user_ids);
  insert into segmentation.users (user_id)
  select distinct asked.user_id
  from (select unnest(register_users.user_ids) as user_id order by user_id) as asked
  where not exists (select from segmentation.users as u where u.user_id = asked.user_id)
  order by asked.user_id
  on conflict (user_id) do nothing;
end
$$;

ALTER FUNCTION segmentation.register_users(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.register_users(user_ids bigint[]) IS 'Make users known: rollouts hold them from now on. Known ones stay as they are. Example: select register_users(array[1000, 1002]);';

CREATE FUNCTION segmentation.report_lines(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) RETURNS SETOF segmentation.report_line
    LANGUAGE sql STABLE
    AS $$
  with bounds as materialized (
    -- Written as text once a bound, not once a user.
    select
      b.salt, b.below, b.lowest, b.at, b.segment_id, s.slug, b.operation, segmentation.rfc3339(b.at) as at_text
    from (
      select
        c.segment_id, c.salt, c.at,
        least(c.before, c.after) as lowest, greatest(c.before, c.after) as below,
        case when c.before < c.after then 'add' else 'remove' end as operation
      from (
        select
          m.segment_id, m.salt, m.at,
          coalesce(max(m.threshold) filter (where m.ending), 0) as before,
          coalesce(max(m.threshold) filter (where not m.ending), 0) as after
        from (
          select r.segment_id, r.salt, r.threshold, r.starts_at as at, false as ending
          from segmentation.rollouts as r
          union all
          select r.segment_id, r.salt, r.threshold, r.ends_at, true
          from segmentation.rollouts as r
        ) as m
        where m.at >= report_lines.from_time and m.at < report_lines.to_time
        group by m.segment_id, m.salt, m.at
      ) as c
      where c.before <> c.after
    ) as b
    join segmentation.segments as s on s.segment_id = b.segment_id
    order by b.at, s.slug, b.segment_id
  ),
  overridden as materialized (
    select o.user_id, o.segment_id, o.included, o.starts_at, o.ends_at
    from segmentation.overrides as o
    where o.user_id > report_lines.after_id and o.user_id <= report_lines.up_to_id
      and o.starts_at <= report_lines.to_time and o.ends_at >= report_lines.from_time
  ),
  overridden_users as materialized (
    select o.user_id, array_agg(o.segment_id) as segment_ids
    from overridden as o
    group by o.user_id
  ),
  touched as materialized (
    select
      o.user_id, o.segment_id,
      range_agg(tstzrange(o.starts_at, o.ends_at)) as overridden,
      range_agg(tstzrange(o.starts_at, o.ends_at)) filter (where o.included) as assigned
    from overridden as o
    where (o.user_id, o.segment_id) in (
      select o.user_id, o.segment_id
      from overridden as o
      join segmentation.segments as s on s.segment_id = o.segment_id
      where o.starts_at >= report_lines.from_time or least(o.ends_at, s.deleted_at) <= report_lines.to_time
    )
    group by o.user_id, o.segment_id
  )
  select e.user_id, e.slug, e.operation, e.at_text
  from (
    (
      -- Users in order, and for each the bounds in theirs: the sort finds its work done.
      select u.user_id, b.at, b.segment_id, b.slug, b.operation, b.at_text
      from (
        select u.user_id, u.registered_at, o.segment_ids
        from segmentation.users as u
        left join overridden_users as o on o.user_id = u.user_id
        where u.user_id > report_lines.after_id and u.user_id <= report_lines.up_to_id
        order by u.user_id
        offset 0
      ) as u
      cross join lateral (
        select b.*
        from bounds as b
        where segmentation.bucket(u.user_id, b.salt) < b.below
          and segmentation.bucket(u.user_id, b.salt) >= b.lowest
          and u.registered_at < b.at
        offset 0
      ) as b
      where (b.segment_id = any (u.segment_ids)) is not true
      order by u.user_id, b.at, b.slug, b.segment_id
    )
    union all
    (
      select u.user_id, u.registered_at, s.segment_id, s.slug, 'add', segmentation.rfc3339(u.registered_at)
      from segmentation.users as u
      left join overridden_users as o on o.user_id = u.user_id
      join segmentation.rollouts as r
        on r.starts_at <= u.registered_at and u.registered_at < r.ends_at
        and segmentation.bucket(u.user_id, r.salt) < r.threshold
      join segmentation.segments as s on s.segment_id = r.segment_id
      where u.user_id > report_lines.after_id and u.user_id <= report_lines.up_to_id
        and u.registered_at >= report_lines.from_time and u.registered_at < report_lines.to_time
        and (r.segment_id = any (o.segment_ids)) is not true
      order by u.user_id, u.registered_at, s.slug, s.segment_id
    )
    union all
    (
      select t.user_id, b.at, t.segment_id, s.slug, b.operation, segmentation.rfc3339(b.at)
      from touched as t
      join segmentation.segments as s on s.segment_id = t.segment_id
      left join (
        select
          t.user_id, t.segment_id,
          range_agg(tstzrange(greatest(r.starts_at, u.registered_at), r.ends_at)) as rollout
        from touched as t
        join segmentation.rollouts as r
          on r.segment_id = t.segment_id and segmentation.bucket(t.user_id, r.salt) < r.threshold
        join segmentation.users as u on u.user_id = t.user_id and u.registered_at < r.ends_at
        group by t.user_id, t.segment_id
      ) as r on r.user_id = t.user_id and r.segment_id = t.segment_id
      cross join lateral unnest(
        segmentation.member(r.rollout, t.overridden, t.assigned, tstzrange(s.created_at, s.deleted_at))
      ) as period
      cross join lateral (
        select 'add', lower(period)
        union all
        select 'remove', upper(period)
      ) as b (operation, at)
      where b.at >= report_lines.from_time and b.at < report_lines.to_time
      order by t.user_id, b.at, s.slug, t.segment_id
    )
  ) as e
  -- A column of a function has lost the collation of its table.
  order by e.user_id, e.at, e.slug collate "C", e.segment_id
$$;

ALTER FUNCTION segmentation.report_lines(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.report_lines(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.report_page(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) RETURNS SETOF segmentation.report_line
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET jit TO 'off'
    SET work_mem TO '64MB'
    AS $$
begin
  return query
  select * from segmentation.report_lines(
    report_page.from_time, report_page.to_time, report_page.after_id, report_page.up_to_id);
end
$$;

ALTER FUNCTION segmentation.report_page(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.report_page(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) IS 'One page of a report, see linked_pages. Example: select * from report_page(''2026-11-01Z'', ''2026-12-01Z'', 0, 5000);';

CREATE FUNCTION segmentation.report_pages(period text, user_id bigint) RETURNS TABLE(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint)
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  from_time := segmentation.require_reportable(report_pages.period);
  if report_pages.user_id is not null then
    perform segmentation.note_users(array[report_pages.user_id]);
  end if;
  -- Up to the end of the month or to this very moment, which may have an event of its own.
  to_time := least(
    ((from_time at time zone 'UTC') + interval '1 month') at time zone 'UTC',
    segmentation.clock() + interval '1 microsecond');
  if report_pages.user_id is not null then
    after_id := report_pages.user_id - 1;
    up_to_id := report_pages.user_id;
    return next;
    return;
  end if;
  up_to_id := 0;
  while up_to_id < 9223372036854775807 loop
    after_id := up_to_id;
    -- Beyond the last known user there may be one who has an override all the same.
    select coalesce(max(page.user_id) filter (where page.place = 5000), 9223372036854775807) into up_to_id
    from (
      select u.user_id, row_number() over (order by u.user_id) as place
      from segmentation.users as u
      where u.user_id > after_id
      order by u.user_id
      limit 5000
    ) as page;
    return next;
  end loop;
end
$$;

ALTER FUNCTION segmentation.report_pages(period text, user_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.report_pages(period text, user_id bigint) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_adding(adding boolean, starts_at timestamp with time zone, expires_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

ALTER FUNCTION segmentation.require_adding(adding boolean, starts_at timestamp with time zone, expires_at timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_adding(adding boolean, starts_at timestamp with time zone, expires_at timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.require_at_most(name text, given bigint, at_most bigint) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  if (given between 1 and at_most) is not true then
    raise exception '% % is not between 1 and %', name, coalesce(given::text, 'null'), at_most
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object(name, given, 'at_most', at_most),
        hint = 'Ask for less at a time, in several calls.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_at_most(name text, given bigint, at_most bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_at_most(name text, given bigint, at_most bigint) IS 'Fails when more is asked for than one answer holds. Example: select require_at_most(''limit'', 100, 1000);';

CREATE FUNCTION segmentation.require_author(actor text, reason text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  given record;
begin
  for given in
    select g.name, length(g.value) as length, g.at_most
    from (values ('actor', actor, 200), ('reason', reason, 2000)) as g (name, value, at_most)
    where length(g.value) > g.at_most
  loop
    raise exception 'the % has % characters', given.name, given.length
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('argument', given.name, 'length', given.length, 'at_most', given.at_most),
        hint = format('Shorten it to at most %s characters.', given.at_most);
  end loop;
end
$$;

ALTER FUNCTION segmentation.require_author(actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_author(actor text, reason text) IS 'Internal: called by other functions of this schema, not by people.';

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

CREATE FUNCTION segmentation.require_kept(moment timestamp with time zone) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
  kept_since timestamptz := (select r.kept_since from segmentation.retention as r);
begin
  if not isfinite(moment) then
    raise exception 'at % is no moment', moment
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('at', moment),
        hint = 'Give a date and time, or leave at out for now.';
  end if;
  if moment < kept_since then
    raise exception 'the history before % was dropped', kept_since
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('at', moment, 'kept_since', kept_since),
        hint = 'Ask for a later moment.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_kept(moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.require_kept(moment timestamp with time zone) IS 'Internal: called by other functions of this schema, not by people.';

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
      using errcode = 'invalid_parameter_value', hint = 'A user id is a whole number above 0.';
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

CREATE FUNCTION segmentation.revoke_api_key(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
begin
  update segmentation.api_keys as k
  set revoked_at = least(k.revoked_at, segmentation.clock())
  where k.name = revoke_api_key.name;
  if not found then
    raise exception 'no API key is named %', coalesce('"' || revoke_api_key.name || '"', 'null')
      using
        errcode = 'no_data_found',
        detail = json_build_object('name', revoke_api_key.name),
        hint = 'List the keys: select * from list_api_keys();';
  end if;
end
$$;

ALTER FUNCTION segmentation.revoke_api_key(name text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.revoke_api_key(name text) IS 'Revoke an API key: running services refuse it from the next request on. Example: select revoke_api_key(''web-shop'');';

CREATE FUNCTION segmentation.rfc3339(moment timestamp with time zone) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
  select case when pg_catalog.isfinite(moment)
    then pg_catalog.to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  end
$$;

ALTER FUNCTION segmentation.rfc3339(moment timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rfc3339(moment timestamp with time zone) IS 'A moment as RFC 3339 text in UTC; null for infinity. Example: select rfc3339(now());';

CREATE FUNCTION segmentation.rollout_json(slug text) RETURNS json
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  select coalesce(
    json_agg(
      json_build_object(
        'percent', s.percent,
        'starts_at', segmentation.rfc3339(s.starts_at),
        'ends_at', segmentation.rfc3339(s.ends_at),
        'actor', s.actor,
        'reason', s.reason)
      order by s.starts_at),
    '[]')
  from segmentation.rollout_steps(rollout_json.slug) as s
$$;

ALTER FUNCTION segmentation.rollout_json(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollout_json(slug text) IS 'All rollout steps of a segment as JSON. Example: select rollout_json(''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.rollout_steps(slug text) RETURNS SETOF segmentation.rollout_step
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  found_id integer := segmentation.segment_id_of(rollout_steps.slug);
begin
  return query
  select r.percent, r.starts_at, r.ends_at, r.actor, r.reason
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
  from old_rows as o
  where o.starts_at < segmentation.earliest_change();
  insert into segmentation.segment_history (segment_id, changed_at, operation, percent, starts_at, actor, reason)
  select
    o.segment_id, segmentation.clock(), 'cancel_rollout_step', o.percent, o.starts_at,
    segmentation.author(), segmentation.author_reason()
  from old_rows as o;
  perform segmentation.settle_rollouts(array(select distinct o.segment_id from old_rows as o));
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
  from new_rows as n
  where n.starts_at < segmentation.earliest_change();
  insert into segmentation.segment_history (segment_id, changed_at, operation, percent, starts_at, actor, reason)
  select n.segment_id, segmentation.clock(), 'set_rollout', n.percent, n.starts_at, n.actor, n.reason
  from new_rows as n;
  perform segmentation.settle_rollouts(array(select distinct n.segment_id from new_rows as n));
  return null;
end
$$;

ALTER FUNCTION segmentation.rollouts_after_insert() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollouts_after_insert() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.rollouts_after_update() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  -- Its own doing, when settle_rollouts moves an end, is nothing new.
  if not exists (
    select segment_id, percent, starts_at, ends_at, actor, reason from new_rows
    except
    select segment_id, percent, starts_at, ends_at, actor, reason from old_rows
  ) then
    return null;
  end if;
  perform segmentation.refuse_past_step(c.segment_id, c.starts_at)
  from (
    select segment_id, percent, starts_at, actor, reason from old_rows
    except
    select segment_id, percent, starts_at, actor, reason from new_rows
  ) as c
  where c.starts_at < segmentation.earliest_change();
  perform segmentation.refuse_past_step(n.segment_id, n.starts_at)
  from new_rows as n
  where n.starts_at < segmentation.earliest_change()
    and not exists (
      select from old_rows as o where o.segment_id = n.segment_id and o.starts_at = n.starts_at
    );
  insert into segmentation.segment_history (segment_id, changed_at, operation, percent, starts_at, actor, reason)
  select c.segment_id, segmentation.clock(), 'set_rollout', c.percent, c.starts_at, c.actor, c.reason
  from (
    select segment_id, percent, starts_at, actor, reason from new_rows
    except
    select segment_id, percent, starts_at, actor, reason from old_rows
  ) as c;
  perform segmentation.settle_rollouts(array(
    select segment_id from old_rows union select segment_id from new_rows));
  return null;
end
$$;

ALTER FUNCTION segmentation.rollouts_after_update() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.rollouts_after_update() IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.schedule_jobs() RETURNS text
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
declare
  caller text := current_setting('role');
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
  -- A job runs as the role that schedules it.
  perform set_config('role', 'segmentation_jobs', true);
  perform cron.schedule('segmentation-sweep', '* * * * *', 'call segmentation.sweep()');
  perform cron.schedule(
    'segmentation-partitions', '17 1 * * *', 'select segmentation.ensure_history_partitions(3)');
  perform cron.schedule('segmentation-purge', '*/10 * * * *', 'select segmentation.purge_expired()');
  -- pg_cron never empties its own log; a role sees and deletes the lines of its own jobs.
  perform cron.schedule(
    'segmentation-job-log', '27 1 * * *',
    $job$delete from cron.job_run_details where end_time < now() - interval '7 days'$job$);
  perform set_config('role', caller, true);
  return 'pg_cron runs 4 jobs: sweep each minute, purge each ten minutes, partitions and its own log each day.';
end
$_$;

ALTER FUNCTION segmentation.schedule_jobs() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.schedule_jobs() IS 'Schedule all pg_cron jobs of this schema; running it again changes nothing. Example: select schedule_jobs();';

CREATE FUNCTION segmentation.segment_growth(slug text, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone, step interval DEFAULT '1 day'::interval) RETURNS TABLE(at timestamp with time zone, users bigint, members bigint, assigned bigint, excluded bigint, rolled_out bigint, planned_percent numeric, actual_percent numeric)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  moments timestamptz[] := segmentation.growth_moments(
    segment_growth.slug, segment_growth.from_time, segment_growth.to_time, segment_growth.step);
begin
  return query
  -- What is planned at each moment: the segment that has the slug then, and its step in force.
  with plan as materialized (
    select
      m.position::integer, m.at, s.segment_id, s.salt,
      coalesce(r.threshold, 0) as threshold,
      case when s.segment_id is not null then coalesce(r.percent, 0) end as percent
    from unnest(moments) with ordinality as m (at, position)
    left join segmentation.segments as s
      on s.slug = segment_growth.slug collate "C" and s.created_at <= m.at and m.at < s.deleted_at
    left join segmentation.rollouts as r
      on r.segment_id = s.segment_id and r.starts_at <= m.at and m.at < r.ends_at
  ),
  -- What has happened at a moment counts at it: looked up an instant later, width_bucket gives the number of
  -- moments that lie before.
  marks as materialized (
    select array_agg(p.at + interval '1 microsecond' order by p.position) as passed from plan as p
  ),
  lives as materialized (
    select
      p.segment_id, p.salt,
      array_agg(distinct p.threshold order by p.threshold) as thresholds, max(p.threshold) as highest
    from plan as p
    where p.segment_id is not null
    group by p.segment_id, p.salt
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
      l.segment_id, width_bucket(segmentation.bucket(u.user_id, l.salt), l.thresholds),
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
        l.segment_id, o.included::integer as included,
        width_bucket(segmentation.bucket(o.user_id, l.salt), l.thresholds) as class,
        width_bucket(o.starts_at, (select m.passed from marks as m)) + 1 as begins,
        -- From here on it takes a known user out of the rollout.
        width_bucket(
          greatest(o.starts_at, coalesce(u.registered_at, 'infinity')), (select m.passed from marks as m)) + 1 as takes,
        width_bucket(o.ends_at, (select m.passed from marks as m)) + 1 as ends,
        count(*) as number
      from lives as l
      join segmentation.overrides as o on o.segment_id = l.segment_id
      left join segmentation.users as u on u.user_id = o.user_id
      group by 1, 2, 3, 4, 5, 6
    ) as o
    cross join lateral (
      values
        (o.begins, o.included, 1 - o.included, 0),
        (o.takes, 0, 0, - (o.takes < o.ends)::integer),
        (o.ends, - o.included, o.included - 1, (o.takes < o.ends)::integer)
    ) as d (position, assigned, excluded, rolled_out)
  ),
  -- All that lies before a moment or at it, for each class; the moment's row comes back with the sums.
  sums as (
    select
      r.position, r.at, r.percent, r.class, r.top,
      sum(r.users) over so_far as users,
      sum(r.assigned) over so_far as assigned,
      sum(r.excluded) over so_far as excluded,
      sum(r.rolled_out) over so_far as rolled_out
    from (
      select
        c.segment_id, c.class, c.position, c.users, c.assigned, c.excluded, c.rolled_out,
        null::timestamptz as at, null::numeric as percent, null::integer as top
      from changes as c
      union all
      select null, null, p.position, 0, 0, 0, 0, p.at, p.percent, 0
      from plan as p
      union all
      select
        p.segment_id, class, p.position, 0, 0, 0, 0, p.at, p.percent, width_bucket(p.threshold, l.thresholds)
      from plan as p
      join lives as l on l.segment_id = p.segment_id
      cross join lateral generate_series(0, cardinality(l.thresholds)) as class
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
      coalesce(sum(s.rolled_out) filter (where s.class < s.top), 0)::bigint as rolled_out
    from sums as s
    where s.at is not null
    group by s.at, s.percent
  ) as c
  order by c.at;
end
$$;

ALTER FUNCTION segmentation.segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) IS 'How a segment grew, and a rollout''s plan against reality: at from_time (its creation) and each step (UTC days) after it up to to_time (now), the known users, the members among them and how they got in, the percentage planned and the one reached. A moment to come counts what is planned for the users known now. Example: select * from segment_growth(''AVITO_VOICE_MESSAGES'', now() - interval ''30 days'', now(), ''1 day'');';

CREATE FUNCTION segmentation.segment_history(slug text) RETURNS TABLE(at timestamp with time zone, operation text, description text, percent numeric, starts_at timestamp with time zone, actor text, reason text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
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
        hint = 'List the segments: select * from list_segments(); or GET /v1/segments.';
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
#variable_conflict use_column
declare
  found_id integer := segmentation.segment_id_of(segment_members.slug, segment_members.at);
  moment timestamptz := coalesce(segment_members.at, segmentation.clock());
  last_id bigint := coalesce(segment_members.after, 0);
  left_over bigint := coalesce(segment_members.max_rows, 9223372036854775807);
  page bigint[];
begin
  if segment_members.max_rows is not null then
    perform segmentation.require_rows(segment_members.max_rows);
  end if;
  perform segmentation.require_kept(moment);
  -- A segment that was not alive then had no members.
  if not exists (
    select from segmentation.segments as s
    where s.segment_id = found_id and s.created_at <= moment and moment < s.deleted_at
  ) then
    return;
  end if;
  loop
    page := segmentation.members_page(found_id, moment, last_id, least(left_over, 10000)::integer);
    exit when page is null;
    return query
    select
      p.user_id,
      case when p.assigned @> moment then 'assignment' else 'rollout' end,
      lower(period), upper(period)
    from segmentation.membership_periods(page, moment) as p
    cross join lateral unnest(p.member) as period
    where p.segment_id = found_id and period @> moment
    order by p.user_id;
    left_over := left_over - cardinality(page);
    last_id := page[cardinality(page)];
    exit when left_over = 0;
  end loop;
end
$$;

ALTER FUNCTION segmentation.segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) IS 'The known users in a segment, now or at a moment, by user id: by what, since when, until when; give the last id seen as after. Example: select * from segment_members(''AVITO_VOICE_MESSAGES'', max_rows => 100);';

CREATE FUNCTION segmentation.segment_stats(slug text) RETURNS TABLE(assigned bigint, excluded bigint, rolled_out bigint, members bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  found_id integer := segmentation.segment_id_of(segment_stats.slug);
  moment timestamptz := segmentation.clock();
begin
  return query
  select o.assigned, o.excluded, r.rolled_out, o.assigned + r.rolled_out
  from (
    select count(*) filter (where m.included), count(*) filter (where not m.included)
    from segmentation.memberships as m
    where m.segment_id = found_id and m.starts_at <= moment and moment < m.ends_at
  ) as o (assigned, excluded)
  cross join (
    select count(*)
    from segmentation.rollouts as s
    join segmentation.users as u on segmentation.bucket(u.user_id, s.salt) < s.threshold
    where s.segment_id = found_id and s.starts_at <= moment and moment < s.ends_at and s.percent > 0
      and not exists (
        select
        from segmentation.memberships as m
        where m.segment_id = found_id and m.user_id = u.user_id
          and m.starts_at <= moment and moment < m.ends_at
      )
  ) as r (rolled_out);
end
$$;

ALTER FUNCTION segmentation.segment_stats(slug text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.segment_stats(slug text) IS 'How many known users are assigned, excluded, in by rollout alone, and in at all: exact, right now. Example: select * from segment_stats(''AVITO_VOICE_MESSAGES'');';

CREATE FUNCTION segmentation.segments_after_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  insert into segmentation.segment_history (segment_id, changed_at, operation, description, actor, reason)
  select
    n.segment_id, n.created_at, 'create', nullif(n.description, ''),
    segmentation.author(), segmentation.author_reason()
  from new_rows as n;
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
  where (o.slug, o.salt, o.created_at) is distinct from (n.slug, n.salt, n.created_at)
    or (o.deleted_at <> n.deleted_at
      and (o.deleted_at < 'infinity'
        or not n.deleted_at between segmentation.earliest_change() and segmentation.clock()))
  limit 1;
  if found then
    raise exception 'segment "%" cannot be changed so', wrong.slug
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('segment', wrong.slug),
        hint = 'Slug, salt and creation are settled; delete_segment(slug) deletes a segment, now and for good.';
  end if;
  insert into segmentation.segment_history (segment_id, changed_at, operation, description, actor, reason)
  select
    n.segment_id, c.changed_at, c.operation, c.description,
    segmentation.author(), segmentation.author_reason()
  from new_rows as n
  join old_rows as o on o.segment_id = n.segment_id
  cross join lateral (
    values
      (o.description <> n.description, segmentation.clock(), 'describe', n.description),
      (o.deleted_at <> n.deleted_at, n.deleted_at, 'delete', null)
  ) as c (applies, changed_at, operation, description)
  where c.applies;
  -- Steps to come never come; the one in force ends.
  delete from segmentation.rollouts as r
  using new_rows as n
  where r.segment_id = n.segment_id and r.starts_at >= n.deleted_at;
  perform segmentation.settle_rollouts(array(
    select n.segment_id from new_rows as n where n.deleted_at < 'infinity' and not n.swept));
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
  from (
    select least(
      (select min(m.ends_at) from segmentation.memberships as m where m.ends_at <= moment and m.ends_at < 'infinity'),
      (select min(s.deleted_at) from segmentation.segments as s where s.deleted_at < 'infinity' and not s.swept))
  ) as o (ended_at)
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

COMMENT ON FUNCTION segmentation.service_metrics() IS 'Numbers for GET /metrics: age of the last sweep, lag of the sweep, segments, items out of order. Example: select * from service_metrics();';

CREATE FUNCTION segmentation.service_status() RETURNS TABLE(item text, ok boolean, value text, hint text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  moment timestamptz := segmentation.clock();
begin
  return query
  select s.item, s.ok, s.value, case when s.ok then null else s.hint end
  from (
    select
      1 as position, 'schema version' as item, d.version is not null as ok, d.version as value,
      'Apply the migrations: python -m service.migrate' as hint
    from (
      select (regexp_match(obj_description('segmentation'::regnamespace, 'pg_namespace'), 'version (\S+)'))[1]
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
    from (
      select least(
        (select min(m.ends_at) from segmentation.memberships as m where m.ends_at <= moment and m.ends_at < 'infinity'),
        (select min(s.deleted_at) from segmentation.segments as s where s.deleted_at < 'infinity' and not s.swept))
    ) as o (ended_at)
    union all
    select 5, 'history partitions ahead', count(*) >= 1, count(*)::text,
      'They are made at need as well; to make them now: select ensure_history_partitions(3);'
    from segmentation.history_partitions() as h
    where h.month_start > moment
  ) as s
  order by s.position;
end
$$;

ALTER FUNCTION segmentation.service_status() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.service_status() IS 'How the service is: schema version, bucket vectors, last sweep, oldest end not yet swept, partitions ahead. Example: select * from service_status();';

CREATE FUNCTION segmentation.set_author(actor text, reason text) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
  perform segmentation.require_author(actor, reason);
  perform set_config('segmentation.actor', coalesce(actor, ''), true);
  perform set_config('segmentation.reason', coalesce(reason, ''), true);
end
$$;

ALTER FUNCTION segmentation.set_author(actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.set_author(actor text, reason text) IS 'Internal: called by other functions of this schema, not by people.';

CREATE FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS SETOF segmentation.rollout_step
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  segment segmentation.segments;
  moment timestamptz;
  step_at timestamptz;
  planned bigint;
begin
  perform segmentation.require_percent(set_rollout.percent);
  perform segmentation.require_author(set_rollout.actor, set_rollout.reason);
  segment := segmentation.lock_segment(set_rollout.slug);
  moment := segmentation.clock();
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
  insert into segmentation.rollouts as r (segment_id, salt, percent, starts_at, actor, reason)
  select
    segment.segment_id, segment.salt, set_rollout.percent, step_at,
    coalesce(set_rollout.actor, session_user), set_rollout.reason
  -- The percentage that holds then anyway, said again, is no new step.
  where set_rollout.percent is distinct from (
    select coalesce(min(held.percent), 0)
    from segmentation.rollouts as held
    where held.segment_id = segment.segment_id and held.starts_at <= step_at and step_at < held.ends_at
  )
  on conflict (segment_id, starts_at) do update
    set percent = excluded.percent, actor = excluded.actor, reason = excluded.reason;
  return query select * from segmentation.rollout_steps(set_rollout.slug);
end
$$;

ALTER FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) IS 'Roll a segment out to percent % of all users, from starts_at (now) on; later steps stay. Returns all steps. Example: select * from set_rollout(''AVITO_VOICE_MESSAGES'', 30, reason => ''went well at 10 %'');';

CREATE FUNCTION segmentation.settle_rollouts(segment_ids integer[]) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
  update segmentation.rollouts as r
  set ends_at = derived.ends_at
  from (
    select
      o.segment_id, o.starts_at,
      least(lead(o.starts_at) over (partition by o.segment_id order by o.starts_at), s.deleted_at) as ends_at
    from segmentation.rollouts as o
    join segmentation.segments as s on s.segment_id = o.segment_id
    where o.segment_id = any (settle_rollouts.segment_ids)
  ) as derived
  where r.segment_id = derived.segment_id and r.starts_at = derived.starts_at
    and r.ends_at <> derived.ends_at
$$;

ALTER FUNCTION segmentation.settle_rollouts(segment_ids integer[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.settle_rollouts(segment_ids integer[]) IS 'Internal: called by other functions of this schema, not by people.';

CREATE PROCEDURE segmentation.sweep(IN batch_rows integer DEFAULT 5000, IN max_seconds integer DEFAULT 50)
    LANGUAGE plpgsql
    AS $$
declare
  stop_at timestamptz := pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => sweep.max_seconds);
  moved integer;
  total bigint := 0;
begin
  loop
    exit when not pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('segmentation.sweep'), 0);
    moved := segmentation.expire_memberships(sweep.batch_rows);
    total := total + moved;
    if moved < sweep.batch_rows then
      perform segmentation.note_upkeep('sweep', total);
    end if;
    commit;
    exit when moved < sweep.batch_rows or pg_catalog.clock_timestamp() > stop_at;
  end loop;
end
$$;

ALTER PROCEDURE segmentation.sweep(IN batch_rows integer, IN max_seconds integer) OWNER TO segmentation_owner;

COMMENT ON PROCEDURE segmentation.sweep(IN batch_rows integer, IN max_seconds integer) IS 'Move all that has ended to the history, a committed batch at a time, for at most so many seconds; pg_cron calls it each minute. Example: call sweep();';

CREATE FUNCTION segmentation.update_segment(slug text, description text, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS SETOF segmentation.living_segments
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  segment segmentation.segments;
begin
  perform segmentation.require_description(update_segment.description);
  segment := segmentation.lock_segment(update_segment.slug);
  perform segmentation.set_author(update_segment.actor, update_segment.reason);
  update segmentation.segments as s
  set description = coalesce(update_segment.description, '')
  where s.segment_id = segment.segment_id
    and s.description <> coalesce(update_segment.description, '');
  perform segmentation.set_author(null, null);
  return query select * from segmentation.get_segment(update_segment.slug);
end
$$;

ALTER FUNCTION segmentation.update_segment(slug text, description text, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.update_segment(slug text, description text, actor text, reason text) IS 'Describe a segment anew; its slug never changes. Example: select * from update_segment(''AVITO_VOICE_MESSAGES'', ''voice messages in chat'');';

CREATE FUNCTION segmentation.user_history(user_id bigint, from_time timestamp with time zone DEFAULT '-infinity'::timestamp with time zone, to_time timestamp with time zone DEFAULT 'infinity'::timestamp with time zone) RETURNS TABLE(segment text, operation text, at timestamp with time zone, cause text, actor text, reason text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  present timestamptz;
begin
  perform segmentation.note_users(array[user_history.user_id]);
  present := segmentation.clock();
  if user_history.from_time >= user_history.to_time then
    raise exception 'from_time % is not before to_time %', from_time, to_time
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('from_time', from_time, 'to_time', to_time),
        hint = 'The history shows what happened from from_time on, up to but not at to_time.';
  end if;
  return query
  select s.slug, e.operation, e.at, e.cause, e.actor, e.reason
  from segmentation.membership_events(array[user_history.user_id], present) as e
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

CREATE FUNCTION segmentation.user_segments(user_id bigint, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(segment text, source text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
#variable_conflict use_column
declare
  present timestamptz;
  moment timestamptz;
begin
  perform segmentation.note_users(array[user_segments.user_id]);
  present := segmentation.clock();
  moment := coalesce(user_segments.at, present);
  perform segmentation.require_kept(moment);
  return query
  select
    s.slug,
    case when p.assigned @> moment then 'assignment' else 'rollout' end,
    lower(period), upper(period)
  from segmentation.membership_periods(array[user_segments.user_id], present) as p
  cross join lateral unnest(p.member) as period
  join segmentation.segments as s on s.segment_id = p.segment_id
  where period @> moment
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
#variable_conflict use_column
declare
  moment timestamptz;
begin
  perform segmentation.note_users(users_segments.user_ids);
  moment := segmentation.clock();
  return query
  select c.user_id, c.segments
  from segmentation.current_segments(users_segments.user_ids, moment) as c
  order by c.place;
end
$$;

ALTER FUNCTION segmentation.users_segments(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.users_segments(user_ids bigint[]) IS 'The segments of many users right now, in the order asked for. Example: select * from users_segments(array[1000, 1002, 1004]);';

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
    CONSTRAINT api_keys_role_is_known CHECK ((role = ANY (ARRAY['reader'::text, 'editor'::text, 'admin'::text])))
);

ALTER TABLE segmentation.api_keys OWNER TO segmentation_owner;

CREATE TABLE segmentation.idempotency_keys (
    api_key text NOT NULL,
    idempotency_key text NOT NULL,
    fingerprint bytea NOT NULL,
    path text NOT NULL,
    status smallint NOT NULL,
    location text,
    answer text NOT NULL,
    created_at timestamp with time zone DEFAULT segmentation.clock() NOT NULL,
    CONSTRAINT idempotency_keys_answer_is_a_success CHECK (((status >= 200) AND (status <= 299))),
    CONSTRAINT idempotency_keys_fingerprint_is_sha256 CHECK ((length(fingerprint) = 32))
);

ALTER TABLE segmentation.idempotency_keys OWNER TO segmentation_owner;

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
    memberships.end_reason
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
    membership_history.end_reason
   FROM segmentation.membership_history;

ALTER TABLE segmentation.overrides OWNER TO segmentation_owner;

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

ALTER TABLE segmentation.segments ALTER COLUMN segment_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME segmentation.segments_segment_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

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

INSERT INTO segmentation.api_keys VALUES ('web-shop', 'reader', '\x3981a940df02852ee67647181a7ae5d16d09b5bd7d4cdc0afb6eb02537c60045', '2026-11-26 16:06:32.939626+00', 'infinity', 'infinity');

INSERT INTO segmentation.membership_history_2026_11 VALUES (1, 1, true, '2026-11-26 16:06:32.811885+00', '2026-11-26 16:06:32.846091+00', 'postgres', 'import', 'removed', 'postgres', 'ticket');
INSERT INTO segmentation.membership_history_2026_11 VALUES (2, 1, true, '2026-11-26 16:06:32.811885+00', '2026-11-26 16:06:32.873955+00', 'postgres', 'import', 'removed', 'postgres', NULL);
INSERT INTO segmentation.membership_history_2026_11 VALUES (1, 3, true, '2026-11-26 16:06:32.859916+00', '2026-11-26 16:06:32.910289+00', 'postgres', NULL, 'segment_deleted', 'postgres', 'over');
INSERT INTO segmentation.membership_history_2026_11 VALUES (3, 3, true, '2026-11-26 16:06:32.884351+00', '2026-11-26 16:06:32.910289+00', 'postgres', NULL, 'segment_deleted', 'postgres', 'over');

INSERT INTO segmentation.memberships VALUES (3, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (4, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (5, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (6, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (7, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (8, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (9, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (10, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (11, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (12, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (13, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (14, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (15, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (16, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (17, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (18, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (19, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (20, 1, true, '2026-11-26 16:06:32.811885+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (1, 1, true, '2026-11-26 16:06:32.859916+00', '2098-01-01 00:00:00+00', 'postgres', NULL, 'postgres', NULL);
INSERT INTO segmentation.memberships VALUES (2, 2, false, '2026-11-26 16:06:32.872284+00', 'infinity', 'postgres', NULL, NULL, NULL);
INSERT INTO segmentation.memberships VALUES (4, 2, true, '2097-01-01 00:00:00+00', 'infinity', 'postgres', NULL, NULL, NULL);

INSERT INTO segmentation.report_links VALUES ('\xc778af62b1738a6e2c306ab338d7c4cdd354be47f1525754fed75764750f9947', '2026-11', 1, '2026-11-26 16:06:32.931816+00', '2026-11-27 16:06:32.930969+00', 'postgres');

INSERT INTO segmentation.retention VALUES ('-infinity', true);

INSERT INTO segmentation.rollouts VALUES (2, -3646977946594981986, 40, DEFAULT, '2026-11-26 16:06:32.771442+00', '2026-11-26 16:06:32.785239+00', 'postgres', NULL);
INSERT INTO segmentation.rollouts VALUES (2, -3646977946594981986, 80, DEFAULT, '2099-01-01 00:00:00+00', 'infinity', 'postgres', NULL);
INSERT INTO segmentation.rollouts VALUES (2, -3646977946594981986, 60, DEFAULT, '2026-11-26 16:06:32.785239+00', '2099-01-01 00:00:00+00', 'postgres', NULL);
INSERT INTO segmentation.rollouts VALUES (3, 4688528202828352794, 20, DEFAULT, '2026-11-26 16:06:32.783294+00', '2026-11-26 16:06:32.910289+00', 'postgres', NULL);

INSERT INTO segmentation.segment_history VALUES (1, '2026-11-26 16:06:32.748626+00', 'create', 'by hand', NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-26 16:06:32.771442+00', 'create', NULL, NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-26 16:06:32.772605+00', 'set_rollout', NULL, 40, '2026-11-26 16:06:32.771442+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (3, '2026-11-26 16:06:32.783294+00', 'create', NULL, NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (3, '2026-11-26 16:06:32.78365+00', 'set_rollout', NULL, 20, '2026-11-26 16:06:32.783294+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-26 16:06:32.785897+00', 'set_rollout', NULL, 60, '2026-11-26 16:06:32.785239+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-26 16:06:32.79793+00', 'set_rollout', NULL, 80, '2099-01-01 00:00:00+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (3, '2026-11-26 16:06:32.910289+00', 'delete', NULL, NULL, NULL, 'postgres', 'over');

INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (1, 'A', 'by hand', 3801878323368772699, '2026-11-26 16:06:32.748626+00', 'infinity', false);
INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (2, 'B', '', -3646977946594981986, '2026-11-26 16:06:32.771442+00', 'infinity', false);
INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (3, 'GONE', '', 4688528202828352794, '2026-11-26 16:06:32.783294+00', '2026-11-26 16:06:32.910289+00', true);

INSERT INTO segmentation.upkeep VALUES ('sweep', '2026-11-26 16:06:31.802884+00', 0);

INSERT INTO segmentation.users VALUES (1, '2026-11-26 16:06:32.808802+00');
INSERT INTO segmentation.users VALUES (2, '2026-11-26 16:06:32.808957+00');
INSERT INTO segmentation.users VALUES (3, '2026-11-26 16:06:32.808964+00');
INSERT INTO segmentation.users VALUES (4, '2026-11-26 16:06:32.808969+00');
INSERT INTO segmentation.users VALUES (5, '2026-11-26 16:06:32.808973+00');
INSERT INTO segmentation.users VALUES (6, '2026-11-26 16:06:32.808977+00');
INSERT INTO segmentation.users VALUES (7, '2026-11-26 16:06:32.808981+00');
INSERT INTO segmentation.users VALUES (8, '2026-11-26 16:06:32.808984+00');
INSERT INTO segmentation.users VALUES (9, '2026-11-26 16:06:32.808988+00');
INSERT INTO segmentation.users VALUES (10, '2026-11-26 16:06:32.808991+00');
INSERT INTO segmentation.users VALUES (11, '2026-11-26 16:06:32.808995+00');
INSERT INTO segmentation.users VALUES (12, '2026-11-26 16:06:32.808999+00');
INSERT INTO segmentation.users VALUES (13, '2026-11-26 16:06:32.809006+00');
INSERT INTO segmentation.users VALUES (14, '2026-11-26 16:06:32.80901+00');
INSERT INTO segmentation.users VALUES (15, '2026-11-26 16:06:32.809013+00');
INSERT INTO segmentation.users VALUES (16, '2026-11-26 16:06:32.809017+00');
INSERT INTO segmentation.users VALUES (17, '2026-11-26 16:06:32.809021+00');
INSERT INTO segmentation.users VALUES (18, '2026-11-26 16:06:32.809025+00');
INSERT INTO segmentation.users VALUES (19, '2026-11-26 16:06:32.809029+00');
INSERT INTO segmentation.users VALUES (20, '2026-11-26 16:06:32.809033+00');
INSERT INTO segmentation.users VALUES (21, '2026-11-26 16:06:32.809036+00');
INSERT INTO segmentation.users VALUES (22, '2026-11-26 16:06:32.809039+00');
INSERT INTO segmentation.users VALUES (23, '2026-11-26 16:06:32.809043+00');
INSERT INTO segmentation.users VALUES (24, '2026-11-26 16:06:32.809047+00');
INSERT INTO segmentation.users VALUES (25, '2026-11-26 16:06:32.80905+00');
INSERT INTO segmentation.users VALUES (26, '2026-11-26 16:06:32.809055+00');
INSERT INTO segmentation.users VALUES (27, '2026-11-26 16:06:32.809059+00');
INSERT INTO segmentation.users VALUES (28, '2026-11-26 16:06:32.809062+00');
INSERT INTO segmentation.users VALUES (29, '2026-11-26 16:06:32.809065+00');
INSERT INTO segmentation.users VALUES (30, '2026-11-26 16:06:32.809068+00');
INSERT INTO segmentation.users VALUES (31, '2026-11-26 16:06:32.809072+00');
INSERT INTO segmentation.users VALUES (32, '2026-11-26 16:06:32.809076+00');
INSERT INTO segmentation.users VALUES (33, '2026-11-26 16:06:32.809079+00');
INSERT INTO segmentation.users VALUES (34, '2026-11-26 16:06:32.809083+00');
INSERT INTO segmentation.users VALUES (35, '2026-11-26 16:06:32.809087+00');
INSERT INTO segmentation.users VALUES (36, '2026-11-26 16:06:32.809093+00');
INSERT INTO segmentation.users VALUES (37, '2026-11-26 16:06:32.809096+00');
INSERT INTO segmentation.users VALUES (38, '2026-11-26 16:06:32.809099+00');
INSERT INTO segmentation.users VALUES (39, '2026-11-26 16:06:32.809103+00');
INSERT INTO segmentation.users VALUES (40, '2026-11-26 16:06:32.809107+00');

INSERT INTO segmentation_migrations._yoyo_log VALUES ('57e57b02-e9b3-11f1-8b39-02fc00000001', '442a06599ffbff06cb195975273c5e4ce55091201b67e2808420b5edc55f6d75', '0001_roles_and_schema', 'apply', 'migrate', 'localhost', NULL, '2026-11-26 16:06:30.828888');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('580f231c-e9b3-11f1-8b39-02fc00000001', 'b672f77c494960abe76a90bfb2efc9692e396e2e60f7a1400c8c9c4403b64dd0', '0002_segments_and_users', 'apply', 'migrate', 'localhost', NULL, '2026-11-26 16:06:31.100254');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('581c7fd0-e9b3-11f1-8b39-02fc00000001', 'dcb7f91ab8126d9cb9cf4c00551d5557a26a7ddd54f18767b12aab17e5e4acdd', '0003_memberships', 'apply', 'migrate', 'localhost', NULL, '2026-11-26 16:06:31.187793');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('58312232-e9b3-11f1-8b39-02fc00000001', '09930831877f5eb7aed1449a5149eb995ce89de405b924adcc748721cb5a8edc', '0004_keys_and_upkeep', 'apply', 'migrate', 'localhost', NULL, '2026-11-26 16:06:31.323039');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('583af0fa-e9b3-11f1-8b39-02fc00000001', '255c1982e9e51e02cdca5ae7a1b77fee92bb89ae27660943abae2f41bae2434e', '0005_idempotency', 'apply', 'migrate', 'localhost', NULL, '2026-11-26 16:06:31.387314');

INSERT INTO segmentation_migrations._yoyo_migration VALUES ('442a06599ffbff06cb195975273c5e4ce55091201b67e2808420b5edc55f6d75', '0001_roles_and_schema', '2026-11-26 16:06:30.85122');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('b672f77c494960abe76a90bfb2efc9692e396e2e60f7a1400c8c9c4403b64dd0', '0002_segments_and_users', '2026-11-26 16:06:31.103363');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('dcb7f91ab8126d9cb9cf4c00551d5557a26a7ddd54f18767b12aab17e5e4acdd', '0003_memberships', '2026-11-26 16:06:31.192502');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('09930831877f5eb7aed1449a5149eb995ce89de405b924adcc748721cb5a8edc', '0004_keys_and_upkeep', '2026-11-26 16:06:31.323854');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('255c1982e9e51e02cdca5ae7a1b77fee92bb89ae27660943abae2f41bae2434e', '0005_idempotency', '2026-11-26 16:06:31.399082');

INSERT INTO segmentation_migrations._yoyo_version VALUES (2, '2026-11-26 16:06:30.573866');

SELECT pg_catalog.setval('segmentation.segments_segment_id_seq', 3, true);

ALTER TABLE ONLY segmentation.api_keys
    ADD CONSTRAINT api_keys_digest_key UNIQUE (key_digest);

ALTER TABLE ONLY segmentation.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (name);

ALTER TABLE ONLY segmentation.idempotency_keys
    ADD CONSTRAINT idempotency_keys_pkey PRIMARY KEY (api_key, idempotency_key);

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

ALTER TABLE ONLY segmentation.report_links
    ADD CONSTRAINT report_links_pkey PRIMARY KEY (id_digest);

ALTER TABLE ONLY segmentation.retention
    ADD CONSTRAINT retention_has_one_row PRIMARY KEY (one_row);

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

CREATE INDEX membership_history_segment_id_user_id_idx ON ONLY segmentation.membership_history USING btree (segment_id, user_id);

CREATE INDEX membership_history_2026_11_segment_id_user_id_idx ON segmentation.membership_history_2026_11 USING btree (segment_id, user_id);

CREATE INDEX membership_history_2026_12_segment_id_user_id_idx ON segmentation.membership_history_2026_12 USING btree (segment_id, user_id);

CREATE INDEX membership_history_2027_01_segment_id_user_id_idx ON segmentation.membership_history_2027_01 USING btree (segment_id, user_id);

CREATE INDEX membership_history_2027_02_segment_id_user_id_idx ON segmentation.membership_history_2027_02 USING btree (segment_id, user_id);

CREATE INDEX memberships_ends_at_idx ON segmentation.memberships USING btree (ends_at) WHERE (ends_at < 'infinity'::timestamp with time zone);

CREATE INDEX memberships_segment_id_user_id_idx ON segmentation.memberships USING btree (segment_id, user_id);

CREATE INDEX report_links_expires_at_idx ON segmentation.report_links USING btree (expires_at);

CREATE INDEX rollouts_ends_at_idx ON segmentation.rollouts USING btree (ends_at) INCLUDE (segment_id, salt, threshold, starts_at) WHERE (threshold > 0);

CREATE INDEX segment_history_segment_id_idx ON segmentation.segment_history USING btree (segment_id, changed_at);

CREATE INDEX segments_not_yet_swept_idx ON segmentation.segments USING btree (deleted_at) WHERE ((deleted_at < 'infinity'::timestamp with time zone) AND (NOT swept));

CREATE INDEX segments_slug_deleted_at_idx ON segmentation.segments USING btree (slug, deleted_at);

CREATE UNIQUE INDEX segments_slug_key ON segmentation.segments USING btree (slug) WHERE (deleted_at = 'infinity'::timestamp with time zone);

ALTER INDEX segmentation.membership_history_pkey ATTACH PARTITION segmentation.membership_history_2026_11_pkey;

ALTER INDEX segmentation.membership_history_segment_id_user_id_idx ATTACH PARTITION segmentation.membership_history_2026_11_segment_id_user_id_idx;

ALTER INDEX segmentation.membership_history_pkey ATTACH PARTITION segmentation.membership_history_2026_12_pkey;

ALTER INDEX segmentation.membership_history_segment_id_user_id_idx ATTACH PARTITION segmentation.membership_history_2026_12_segment_id_user_id_idx;

ALTER INDEX segmentation.membership_history_pkey ATTACH PARTITION segmentation.membership_history_2027_01_pkey;

ALTER INDEX segmentation.membership_history_segment_id_user_id_idx ATTACH PARTITION segmentation.membership_history_2027_01_segment_id_user_id_idx;

ALTER INDEX segmentation.membership_history_pkey ATTACH PARTITION segmentation.membership_history_2027_02_pkey;

ALTER INDEX segmentation.membership_history_segment_id_user_id_idx ATTACH PARTITION segmentation.membership_history_2027_02_segment_id_user_id_idx;

CREATE TRIGGER api_keys_announce AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON segmentation.api_keys FOR EACH STATEMENT EXECUTE FUNCTION segmentation.announce_api_keys();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.membership_history FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.membership_history_2026_11 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.membership_history_2026_12 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.membership_history_2027_01 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.membership_history_2027_02 FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER history_is_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON segmentation.segment_history FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_history_change();

CREATE TRIGGER memberships_after_delete AFTER DELETE ON segmentation.memberships REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.memberships_after_delete();

CREATE TRIGGER memberships_after_insert AFTER INSERT ON segmentation.memberships REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.memberships_after_insert();

CREATE TRIGGER memberships_after_update AFTER UPDATE ON segmentation.memberships REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.memberships_after_update();

CREATE TRIGGER memberships_refuse_truncate BEFORE TRUNCATE ON segmentation.memberships FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_truncate();

CREATE TRIGGER rollouts_after_delete AFTER DELETE ON segmentation.rollouts REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.rollouts_after_delete();

CREATE TRIGGER rollouts_after_insert AFTER INSERT ON segmentation.rollouts REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.rollouts_after_insert();

CREATE TRIGGER rollouts_after_update AFTER UPDATE ON segmentation.rollouts REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.rollouts_after_update();

CREATE TRIGGER rollouts_refuse_truncate BEFORE TRUNCATE ON segmentation.rollouts FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_truncate();

CREATE TRIGGER segments_after_insert AFTER INSERT ON segmentation.segments REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.segments_after_insert();

CREATE TRIGGER segments_after_update AFTER UPDATE ON segmentation.segments REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION segmentation.segments_after_update();

CREATE TRIGGER segments_refuse_delete BEFORE DELETE ON segmentation.segments FOR EACH STATEMENT EXECUTE FUNCTION segmentation.segments_refuse_delete();

CREATE TRIGGER segments_refuse_truncate BEFORE TRUNCATE ON segmentation.segments FOR EACH STATEMENT EXECUTE FUNCTION segmentation.refuse_truncate();

ALTER TABLE ONLY segmentation.rollouts
    ADD CONSTRAINT rollouts_segment_fkey FOREIGN KEY (segment_id, salt) REFERENCES segmentation.segments(segment_id, salt);

GRANT USAGE ON SCHEMA segmentation TO segmentation_reader;
GRANT USAGE ON SCHEMA segmentation TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.announce_api_keys() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.assert_bucket_vectors() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.assert_bucket_vectors() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.authenticate_api_key(key_digest bytea) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.authenticate_api_key(key_digest bytea) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.author() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.author_reason() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.begin_import(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.begin_import(slug text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.bucket(user_id bigint, salt bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.bucket(user_id bigint, salt bigint) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.bucket_vectors() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.bucket_vectors() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.change_overrides(user_ids bigint[], segment_ids integer[], wanted boolean[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.claim_idempotency_key(api_key text, idempotency_key text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.claim_idempotency_key(api_key text, idempotency_key text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.clock() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.clock() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.closed_override(override segmentation.memberships, next_start timestamp with time zone, moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.create_report_link(period text, user_id bigint, valid_for interval, actor text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.create_report_link(period text, user_id bigint, valid_for interval, actor text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.create_segment(slug text, percent numeric, description text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.create_segment(slug text, percent numeric, description text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.current_segments(user_ids bigint[], moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.delete_segment(slug text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.delete_segment(slug text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.drop_history_before(period text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.drop_history_before(period text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.earliest_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.ensure_history_partition(moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.ensure_history_partitions(months_ahead integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.ensure_history_partitions(months_ahead integer) TO segmentation_admin;
GRANT ALL ON FUNCTION segmentation.ensure_history_partitions(months_ahead integer) TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.expire_memberships(max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.expire_memberships(max_rows integer) TO segmentation_admin;
GRANT ALL ON FUNCTION segmentation.expire_memberships(max_rows integer) TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.expiry(expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.expiry(expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.finish_import(slug text, operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.finish_import(slug text, operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.get_segment(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.get_segment(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.growth_moments(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.history_partitions() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.history_partitions() TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.history_report(period text, user_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.history_report(period text, user_id bigint) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_create_report_link(period text, user_id bigint, base_url text, actor text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_create_report_link(period text, user_id bigint, base_url text, actor text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_finish_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_finish_import(slug text, operation text, expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) TO segmentation_editor;

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

REVOKE ALL ON FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_users_segments(user_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_users_segments(user_ids bigint[]) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.keep_answer(api_key text, idempotency_key text, fingerprint bytea, path text, status integer, location text, answer text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.keep_answer(api_key text, idempotency_key text, fingerprint bytea, path text, status integer, location text, answer text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.linked_pages(id text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.linked_pages(id text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.list_api_keys() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.list_api_keys() TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.list_segments(after text, max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.list_segments(after text, max_rows integer) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.lock_segment(slug text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.lock_slugs(slugs text[], exclusive boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.lock_users(user_ids bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.manual(word text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.manual(word text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.member(rollout tstzmultirange, overridden tstzmultirange, assigned tstzmultirange, alive tstzrange) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.members_page(segment_id integer, moment timestamp with time zone, after bigint, max_rows integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.membership_events(user_ids bigint[], until_time timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.membership_periods(user_ids bigint[], first_seen timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.memberships_after_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.memberships_after_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.memberships_after_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.month_start(period text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.note_upkeep(task text, rows bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.note_upkeep(task text, rows bigint) TO segmentation_admin;
GRANT ALL ON FUNCTION segmentation.note_upkeep(task text, rows bigint) TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.note_users(user_ids bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.ofrep_evaluations(user_id bigint, slugs text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.ofrep_flag(user_id bigint, slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.ofrep_flag(user_id bigint, slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.ofrep_flags(user_id bigint, slugs text[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.ofrep_flags(user_id bigint, slugs text[]) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.purge_expired() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.purge_expired() TO segmentation_admin;
GRANT ALL ON FUNCTION segmentation.purge_expired() TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.random_secret() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_history_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_past_step(segment_id integer, starts_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_truncate() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.register_users(user_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.register_users(user_ids bigint[]) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.report_lines(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.report_page(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.report_page(from_time timestamp with time zone, to_time timestamp with time zone, after_id bigint, up_to_id bigint) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.report_pages(period text, user_id bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_adding(adding boolean, starts_at timestamp with time zone, expires_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_at_most(name text, given bigint, at_most bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.require_at_most(name text, given bigint, at_most bigint) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.require_author(actor text, reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_description(description text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_kept(moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_known_slug(slug text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_percent(percent numeric) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_period(starts_at timestamp with time zone, expires_at timestamp with time zone, moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_reportable(period text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_rows(max_rows integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_slug(slug text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_user_ids(user_ids bigint[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.revoke_api_key(name text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.revoke_api_key(name text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.rfc3339(moment timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.rfc3339(moment timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.rollout_json(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.rollout_json(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.rollout_steps(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.rollout_steps(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.rollouts_after_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollouts_after_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollouts_after_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.schedule_jobs() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.schedule_jobs() TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.segment_growth(slug text, from_time timestamp with time zone, to_time timestamp with time zone, step interval) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.segment_history(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.segment_history(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.segment_id_of(slug text, at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segment_ids_of(slugs text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.segment_stats(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.segment_stats(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.segments_after_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segments_after_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segments_json(user_id bigint, segments text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.segments_refuse_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.service_metrics() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.service_metrics() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.service_status() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.service_status() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.set_author(actor text, reason text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.settle_rollouts(segment_ids integer[]) FROM PUBLIC;

REVOKE ALL ON PROCEDURE segmentation.sweep(IN batch_rows integer, IN max_seconds integer) FROM PUBLIC;
GRANT ALL ON PROCEDURE segmentation.sweep(IN batch_rows integer, IN max_seconds integer) TO segmentation_admin;
GRANT ALL ON PROCEDURE segmentation.sweep(IN batch_rows integer, IN max_seconds integer) TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.update_segment(slug text, description text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.update_segment(slug text, description text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.user_segments(user_id bigint, at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.user_segments(user_id bigint, at timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.users_segments(user_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.users_segments(user_ids bigint[]) TO segmentation_reader;

ALTER DEFAULT PRIVILEGES FOR ROLE segmentation_owner REVOKE ALL ON FUNCTIONS  FROM PUBLIC;

