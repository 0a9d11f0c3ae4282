
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

COMMENT ON SCHEMA segmentation IS 'Dynamic user segmentation, version 636b28fa1281';

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
    SET search_path TO ''
    AS $$
begin
  perform pg_notify('segmentation_api_keys', '');
  return null;
end
$$;

ALTER FUNCTION segmentation.announce_api_keys() OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.assert_bucket_vectors() RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
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
    SET search_path TO ''
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

CREATE FUNCTION segmentation.author_reason() RETURNS text
    LANGUAGE sql STABLE
    AS $$ select nullif(pg_catalog.current_setting('segmentation.reason', true), '') $$;

ALTER FUNCTION segmentation.author_reason() OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.bucket(user_id bigint, salt bigint) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $_$
  select ((pg_catalog.hashint8extended($1, $2 # (($1 >> 32) * 2654435761)) & 9223372036854775807) % 100000)::integer
$_$;

ALTER FUNCTION segmentation.bucket(user_id bigint, salt bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.bucket(user_id bigint, salt bigint) IS 'The bucket, 0 to 99999, of a user under a segment''s salt; the user is in a rollout while bucket < percent * 1000. Never changes. Example: select bucket(1000, 42);';

CREATE FUNCTION segmentation.bucket_vectors() RETURNS TABLE(user_id bigint, salt bigint, bucket integer)
    LANGUAGE sql IMMUTABLE
    SET search_path TO ''
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
    SET search_path TO ''
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

CREATE FUNCTION segmentation.change_overrides(user_ids bigint[], segment_ids integer[], wanted boolean[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) RETURNS TABLE(user_id bigint, segment_id integer, change text)
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
#variable_conflict use_column
declare
  -- Copies under names that no column has.
  new_end timestamptz := coalesce(change_overrides.expires_at, 'infinity');
  new_start timestamptz := change_overrides.starts_at;
  new_actor text := coalesce(change_overrides.actor, session_user);
  new_reason text := change_overrides.reason;
  moment timestamptz;
  excluded_slugs text[];
begin
  perform segmentation.lock_users(change_overrides.user_ids);
  perform
  from segmentation.memberships as m
  where m.user_id = any (change_overrides.user_ids) and m.segment_id = any (change_overrides.segment_ids)
  order by m.user_id, m.segment_id
  for update;
  moment := segmentation.clock();
  perform segmentation.require_period(new_start, change_overrides.expires_at, moment);

  -- A plan for a user who is excluded now would leave open what holds until then.
  if new_start > moment then
    select array_agg(distinct s.slug order by s.slug) into excluded_slugs
    from segmentation.memberships as m
    join unnest(change_overrides.segment_ids, change_overrides.wanted) as asked (segment_id, wanted)
      on asked.segment_id = m.segment_id and asked.wanted
    join segmentation.segments as s on s.segment_id = m.segment_id
    where m.user_id = any (change_overrides.user_ids)
      and not m.included and m.starts_at <= moment and moment < m.ends_at;
    if excluded_slugs is not null then
      raise exception 'cannot plan a start while users are excluded from: %', array_to_string(excluded_slugs, ', ')
        using
          errcode = 'object_not_in_prerequisite_state',
          detail = json_build_object('excluded_segments', excluded_slugs),
          hint = 'Add without starts_at: that ends the exclusion now.';
    end if;
  end if;

  perform segmentation.set_author(new_actor, new_reason);
  return query
  with found as (
    select
      asked_user.user_id, asked.segment_id, asked.wanted,
      m.included, m.starts_at, m.ends_at, m.actor, m.reason, m.end_actor, m.end_reason,
      case
        when m.user_id is null or m.ends_at <= moment then 'none'
        when m.starts_at > moment then 'planned'
        when m.included then 'assigned'
        else 'excluded'
      end as state,
      r.segment_id is not null as rolled_out
    from unnest(change_overrides.user_ids) as asked_user (user_id)
    cross join unnest(change_overrides.segment_ids, change_overrides.wanted) as asked (segment_id, wanted)
    left join segmentation.memberships as m
      on m.user_id = asked_user.user_id and m.segment_id = asked.segment_id
      and m.segment_id = any (change_overrides.segment_ids)
    left join segmentation.rollouts as r
      on r.segment_id = asked.segment_id and r.starts_at <= moment and moment < r.ends_at
      and segmentation.bucket(asked_user.user_id, r.salt) < r.threshold
  ),
  decided as materialized (
    select
      f.*,
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
  -- What is to hold from now on. An assignment that goes on keeps its start and why it began.
  held as (
    select
      d.user_id, d.segment_id, d.included is null as is_new, d.wanted as included,
      case when going_on then d.starts_at when d.wanted then coalesce(new_start, moment) else moment end as starts_at,
      case when d.wanted then new_end else 'infinity' end as ends_at,
      case when going_on then d.actor else new_actor end as actor,
      case when going_on then d.reason else new_reason end as reason,
      case when d.wanted and new_end < 'infinity' then new_actor end as end_actor,
      case when d.wanted and new_end < 'infinity' then new_reason end as end_reason
    from decided as d
    cross join lateral (select d.wanted and d.state = 'assigned') as s (going_on)
    where d.change in ('added', 'rescheduled') or (d.change = 'removed' and d.rolled_out)
  ),
  replaced as (
    update segmentation.memberships as m
    set
      included = h.included, starts_at = h.starts_at, ends_at = h.ends_at,
      actor = h.actor, reason = h.reason, end_actor = h.end_actor, end_reason = h.end_reason
    from held as h
    where not h.is_new and m.user_id = h.user_id and m.segment_id = h.segment_id
  ),
  begun as (
    insert into segmentation.memberships (
      user_id, segment_id, included, starts_at, ends_at, actor, reason, end_actor, end_reason)
    select
      h.user_id, h.segment_id, h.included, h.starts_at, h.ends_at, h.actor, h.reason, h.end_actor, h.end_reason
    from held as h
    where h.is_new
  )
  select d.user_id, d.segment_id, d.change from decided as d;
  perform segmentation.set_author(null, null);
exception
  -- Only a plain INSERT typed meanwhile, which holds no lock of ours, can have been quicker.
  when unique_violation then
    raise exception 'the same override was inserted by somebody else at the same time'
      using errcode = 'serialization_failure', hint = 'Try again.';
end
$$;

ALTER FUNCTION segmentation.change_overrides(user_ids bigint[], segment_ids integer[], wanted boolean[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text DEFAULT 'add'::text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS TABLE(received bigint, changed bigint, unchanged bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    SET work_mem TO '128MB'
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
  select given, count(*) filter (where c.change <> 'unchanged'), given - count(*) filter (where c.change <> 'unchanged')
  from segmentation.change_overrides(
    array(select distinct asked.user_id from unnest(change_segment_members.user_ids) as asked (user_id) order by 1),
    array[segmentation.segment_id_of(change_segment_members.slug)],
    array[adding],
    change_segment_members.expires_at, change_segment_members.starts_at,
    change_segment_members.actor, change_segment_members.reason) as c;
end
$$;

ALTER FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.change_segment_members(slug text, user_ids bigint[], operation text, expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) IS 'Add (or remove) many users to (from) one segment, all or nothing; duplicates count as unchanged. Example: select * from change_segment_members(''AVITO_DISCOUNT_30'', array[1000, 1002], expires_at => now() + interval ''7 days'');';

CREATE FUNCTION segmentation.change_user_segments(user_id bigint, add text[] DEFAULT '{}'::text[], remove text[] DEFAULT '{}'::text[], expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS TABLE(segment text, change text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
#variable_conflict use_column
declare
  added text[] := coalesce(change_user_segments.add, '{}');
  removed text[] := coalesce(change_user_segments.remove, '{}');
  slugs text[];
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
  return query
  select s.slug, c.change
  from segmentation.change_overrides(
    array[change_user_segments.user_id],
    segmentation.segment_ids_of(slugs),
    array(select asked.slug = any (added) from unnest(slugs) with ordinality as asked (slug, position) order by position),
    change_user_segments.expires_at, change_user_segments.starts_at,
    change_user_segments.actor, change_user_segments.reason) as c
  join segmentation.segments as s on s.segment_id = c.segment_id
  order by s.slug;
end
$$;

ALTER FUNCTION segmentation.change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, starts_at timestamp with time zone, actor text, reason text) IS 'Add a user to segments and remove it from others, all or nothing. Example: select * from change_user_segments(1000, add => ''{AVITO_DISCOUNT_30}'', remove => ''{AVITO_DISCOUNT_50}'', expires_at => now() + interval ''7 days'', reason => ''ticket 17'');';

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

CREATE FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
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
    SET search_path TO ''
    AS $$
#variable_conflict use_column
declare
  new_id text := segmentation.random_secret();
  link_end timestamptz := segmentation.clock() + create_report_link.valid_for;
begin
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
    SET search_path TO ''
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

CREATE FUNCTION segmentation.current_segments(user_id bigint, moment timestamp with time zone) RETURNS text[]
    LANGUAGE plpgsql STABLE
    AS $$
begin
  return array(
    select s.slug
    from segmentation.segments as s
    where s.deleted_at > moment and s.segment_id = any (array(
      select m.segment_id
      from segmentation.memberships as m
      where m.user_id = current_segments.user_id and m.included
        and m.starts_at <= moment and moment < m.ends_at
      union all
      select r.segment_id
      from segmentation.rollouts as r
      where r.threshold > 0 and r.ends_at > moment and r.starts_at <= moment
        and segmentation.bucket(current_segments.user_id, r.salt) < r.threshold
        and r.segment_id <> all (array(
          select m.segment_id
          from segmentation.memberships as m
          where m.user_id = current_segments.user_id and m.starts_at <= moment and moment < m.ends_at
        ))
    ))
    order by s.slug
  );
end
$$;

ALTER FUNCTION segmentation.current_segments(user_id bigint, moment timestamp with time zone) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.delete_segment(slug text, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
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
    SET search_path TO ''
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
  delete from segmentation.memberships as m where m.ends_at < horizon;
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

CREATE FUNCTION segmentation.ensure_history_partition(moment timestamp with time zone) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
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
  if to_regclass('segmentation.' || partition_name) is not null then
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

CREATE FUNCTION segmentation.ensure_history_partitions(months_ahead integer DEFAULT 3) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
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
    SET search_path TO ''
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
    SET search_path TO ''
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

CREATE FUNCTION segmentation.explain_membership(user_id bigint, slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(member boolean, source text, since timestamp with time zone, until timestamp with time zone, actor text, reason text, bucket_percent numeric, rollout_percent numeric)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
#variable_conflict use_column
declare
  found_id integer := segmentation.segment_id_of(explain_membership.slug, explain_membership.at);
  moment timestamptz;
begin
  perform segmentation.note_users(array[explain_membership.user_id]);
  moment := coalesce(explain_membership.at, segmentation.clock());
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
  left join segmentation.membership_periods(array[explain_membership.user_id], segmentation.clock()) as p
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

CREATE FUNCTION segmentation.forget_user(user_id bigint, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
#variable_conflict use_column
declare
  known boolean := exists (
    select from segmentation.users as u where u.user_id = forget_user.user_id
    union all
    select from segmentation.overrides as o where o.user_id = forget_user.user_id
  );
begin
  -- Known or not, the user is locked: nothing added meanwhile survives half.
  perform segmentation.lock_users(array[forget_user.user_id]);
  -- The history's guard and the triggers that would record the erasure stand aside for this user alone.
  perform set_config('segmentation.forgetting', forget_user.user_id::text, true);
  delete from segmentation.memberships as m where m.user_id = forget_user.user_id;
  delete from segmentation.membership_history as h where h.user_id = forget_user.user_id;
  delete from segmentation.report_links as l where l.user_id = forget_user.user_id;
  delete from segmentation.users as u where u.user_id = forget_user.user_id;
  perform set_config('segmentation.forgetting', '', true);
  -- Who and why stays in the server's log; whom does not.
  raise log 'a user was forgotten by %, reason: %',
    coalesce(forget_user.actor, session_user), coalesce(forget_user.reason, 'none given');
  return known;
end
$$;

ALTER FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) IS 'Erase a user with all overrides and their past; false if the user was not known. Seen again, it begins anew. Example: select forget_user(1000, reason => ''asked to be forgotten'');';

CREATE FUNCTION segmentation.get_segment(slug text) RETURNS SETOF segmentation.living_segments
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
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

CREATE FUNCTION segmentation.history_partitions() RETURNS TABLE(partition regclass, month_start timestamp with time zone)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path TO ''
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
    SET search_path TO ''
    SET jit TO 'off'
    AS $$
#variable_conflict use_column
declare
  from_time timestamptz := segmentation.require_reportable(history_report.period);
  -- Up to the end of the month or to this very moment, which may have an event of its own.
  to_time timestamptz := least(
    ((from_time at time zone 'UTC') + interval '1 month') at time zone 'UTC',
    segmentation.clock() + interval '1 microsecond');
begin
  if history_report.user_id is not null then
    return query
    select history_report.user_id, h.segment, h.operation, segmentation.rfc3339(h.at)
    from segmentation.user_history(history_report.user_id, from_time, to_time) as h;
    return;
  end if;
  return query
  select e.user_id, s.slug::text, e.operation, e.at_text
  from (
    select * from segmentation.rollout_events(from_time, to_time)
    union all
    select * from segmentation.override_events(from_time, to_time)
  ) as e
  join segmentation.segments as s on s.segment_id = e.segment_id
  order by e.user_id, e.at, s.slug;
end
$$;

ALTER FUNCTION segmentation.history_report(period text, user_id bigint) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.history_report(period text, user_id bigint) IS 'Who got in or out of which segment in a month (UTC), of all known users or of one; by user, time, segment. Example: \copy (select * from history_report(''2026-11'')) to ''november.csv'' csv delimiter '';''';

CREATE FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform segmentation.cancel_rollout_step(slug, starts_at, actor, reason);
  return json_build_object('segment', slug, 'rollout', segmentation.rollout_json(slug));
end
$$;

ALTER FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) RETURNS json
    LANGUAGE sql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.http_create_report_link(period text, user_id bigint, actor text) RETURNS json
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select json_build_object(
    'url', '/v1/reports/' || l.id || '.csv',
    'period', http_create_report_link.period,
    'expires_at', segmentation.rfc3339(l.expires_at))
  from segmentation.create_report_link(
    http_create_report_link.period, http_create_report_link.user_id,
    actor => http_create_report_link.actor) as l
$$;

ALTER FUNCTION segmentation.http_create_report_link(period text, user_id bigint, actor text) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform segmentation.create_segment(slug, percent, description, actor, reason);
  return segmentation.http_segment(slug);
end
$$;

ALTER FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS json
    LANGUAGE sql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.http_segment(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.http_segment_history(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.http_segment_members(slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone, after bigint DEFAULT NULL::bigint, max_rows integer DEFAULT 100) RETURNS json
    LANGUAGE sql
    SET search_path TO ''
    AS $$
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
$$;

ALTER FUNCTION segmentation.http_segment_members(slug text, at timestamp with time zone, after bigint, max_rows integer) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.http_segment_stats(slug text) RETURNS json
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select json_build_object(
    'segment', http_segment_stats.slug, 'assigned', s.assigned, 'excluded', s.excluded,
    'rolled_out', s.rolled_out, 'members', s.members)
  from segmentation.segment_stats(http_segment_stats.slug) as s
$$;

ALTER FUNCTION segmentation.http_segment_stats(slug text) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.http_segments(after text DEFAULT NULL::text, max_rows integer DEFAULT 100) RETURNS json
    LANGUAGE sql
    SET search_path TO ''
    AS $$
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
$$;

ALTER FUNCTION segmentation.http_segments(after text, max_rows integer) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform segmentation.set_rollout(slug, percent, starts_at, actor, reason);
  return json_build_object('segment', slug, 'rollout', segmentation.rollout_json(slug));
end
$$;

ALTER FUNCTION segmentation.http_set_rollout(slug text, percent numeric, starts_at timestamp with time zone, actor text, reason text) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) RETURNS json
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform segmentation.update_segment(slug, description, actor, reason);
  return segmentation.http_segment(slug);
end
$$;

ALTER FUNCTION segmentation.http_update_segment(slug text, description text, actor text, reason text) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.http_user_history(user_id bigint, from_time timestamp with time zone DEFAULT NULL::timestamp with time zone, to_time timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS json
    LANGUAGE sql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
#variable_conflict use_column
declare
  slugs text[];
begin
  if http_user_segments.at is not null then
    slugs := array(
      select s.segment
      from segmentation.user_segments(http_user_segments.user_id, http_user_segments.at) as s
    );
  else
    if not exists (select from segmentation.users as u where u.user_id = http_user_segments.user_id) then
      perform segmentation.note_users(array[http_user_segments.user_id]);
    end if;
    slugs := segmentation.current_segments(http_user_segments.user_id, segmentation.clock());
  end if;
  return '{"user_id":' || http_user_segments.user_id || ',"segments":' || array_to_json(slugs) || '}';
end
$$;

ALTER FUNCTION segmentation.http_user_segments(user_id bigint, at timestamp with time zone) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) RETURNS text[]
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select array_agg(
    '{"user_id":' || u.user_id || ',"segments":' || array_to_json(u.segments) || '}' order by u.position)
  from segmentation.users_segments(http_user_segments_each.user_ids)
    with ordinality as u (user_id, segments, position)
$$;

ALTER FUNCTION segmentation.http_user_segments_each(user_ids bigint[]) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.http_users_segments(user_ids bigint[]) RETURNS text
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select '{"users":['
    || coalesce(array_to_string(segmentation.http_user_segments_each(http_users_segments.user_ids), ','), '')
    || ']}'
$$;

ALTER FUNCTION segmentation.http_users_segments(user_ids bigint[]) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.linked_report(id text) RETURNS SETOF segmentation.report_line
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
#variable_conflict use_column
declare
  link segmentation.report_links;
begin
  select l.* into link
  from segmentation.report_links as l
  where l.id_digest = sha256(convert_to(linked_report.id, 'UTF8')) and segmentation.clock() < l.expires_at;
  if not found then
    raise exception 'this report link is unknown or has expired'
      using errcode = 'no_data_found', hint = 'Ask for a new one: POST /v1/reports.';
  end if;
  return query select * from segmentation.history_report(link.period, link.user_id);
end
$$;

ALTER FUNCTION segmentation.linked_report(id text) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.linked_report(id text) IS 'The report that a link''s id opens. Example: select * from linked_report(''…'');';

CREATE FUNCTION segmentation.list_api_keys() RETURNS TABLE(name text, role text, created_at timestamp with time zone, expires_at timestamp with time zone, revoked_at timestamp with time zone)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
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
    SET search_path TO ''
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
    SET search_path TO ''
    AS $$
declare
  segment segmentation.segments;
begin
  select s.* into segment
  from segmentation.segments as s
  where s.slug = lock_segment.slug collate "C" and s.deleted_at = 'infinity'
  for no key update;
  if not found then
    perform segmentation.segment_id_of(lock_segment.slug);
  end if;
  return segment;
end
$$;

ALTER FUNCTION segmentation.lock_segment(slug text) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.lock_slugs(slugs text[], exclusive boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  slug_key integer;
begin
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

CREATE FUNCTION segmentation.lock_users(user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  perform segmentation.register_users(lock_users.user_ids);
  perform
  from unnest(lock_users.user_ids) as asked (user_id)
  join segmentation.users as u on u.user_id = asked.user_id
  order by u.user_id
  for no key update of u;
end
$$;

ALTER FUNCTION segmentation.lock_users(user_ids bigint[]) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.member(rollout tstzmultirange, overridden tstzmultirange, assigned tstzmultirange, alive tstzrange) RETURNS tstzmultirange
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
  select ((coalesce(rollout, '{}') - coalesce(overridden, '{}')) + coalesce(assigned, '{}'))
    * pg_catalog.tstzmultirange(alive)
$$;

ALTER FUNCTION segmentation.member(rollout tstzmultirange, overridden tstzmultirange, assigned tstzmultirange, alive tstzrange) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.members_page(segment_id integer, moment timestamp with time zone, after bigint, max_rows integer) RETURNS bigint[]
    LANGUAGE plpgsql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.memberships_after_delete() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  moment timestamptz := segmentation.clock();
begin
  perform segmentation.ensure_history_partition(month)
  from (
    select distinct date_trunc('month', least(o.ends_at, moment), 'UTC') from old_rows as o
  ) as m (month);
  insert into segmentation.membership_history
  select c.*
  from old_rows as o
  cross join lateral segmentation.closed_override(
    row(o.*)::segmentation.memberships, 'infinity', moment) as c
  where o.user_id::text is distinct from current_setting('segmentation.forgetting', true);
  return null;
end
$$;

ALTER FUNCTION segmentation.memberships_after_delete() OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.memberships_after_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
declare
  earliest timestamptz := segmentation.earliest_change();
  wrong record;
begin
  select d.segment_id into wrong
  from (select distinct n.segment_id from new_rows as n) as d
  where not exists (
    select from segmentation.segments as s where s.segment_id = d.segment_id and s.deleted_at = 'infinity'
  )
  limit 1;
  if found then
    raise exception 'segment_id % is no living segment', wrong.segment_id
      using
        errcode = 'foreign_key_violation',
        detail = json_build_object('segment_id', wrong.segment_id),
        hint = 'Look it up in segmentation.segments, or call change_user_segments with its slug.';
  end if;
  select n.user_id, n.starts_at into wrong
  from new_rows as n
  where n.starts_at < earliest
  limit 1;
  if found then
    raise exception 'user % cannot be overridden from % on', wrong.user_id, wrong.starts_at
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('user_id', wrong.user_id, 'starts_at', wrong.starts_at),
        hint = 'The past is settled. Leave starts_at out to start now, or give a moment to come.';
  end if;
  return null;
end
$$;

ALTER FUNCTION segmentation.memberships_after_insert() OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.memberships_after_update() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
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
    select distinct date_trunc('month', least(o.ends_at, moment), 'UTC')
    from old_rows as o
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

CREATE FUNCTION segmentation.month_start(period text) RETURNS timestamp with time zone
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.note_upkeep(task text, rows bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
#variable_conflict use_column
begin
  insert into segmentation.upkeep as u (task, finished_at, rows)
  values (note_upkeep.task, segmentation.clock(), note_upkeep.rows)
  on conflict (task) do update set finished_at = excluded.finished_at, rows = excluded.rows;
end
$$;

ALTER FUNCTION segmentation.note_upkeep(task text, rows bigint) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.note_users(user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  if current_setting('transaction_read_only') = 'off' then
    perform segmentation.register_users(note_users.user_ids);
  else
    perform segmentation.require_user_ids(note_users.user_ids);
  end if;
end
$$;

ALTER FUNCTION segmentation.note_users(user_ids bigint[]) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.override_events(from_time timestamp with time zone, to_time timestamp with time zone) RETURNS TABLE(user_id bigint, segment_id integer, operation text, at timestamp with time zone, at_text text)
    LANGUAGE sql STABLE
    AS $$
  select o.user_id, o.segment_id, b.operation, b.at, segmentation.rfc3339(b.at)
  from (
    select
      o.user_id, o.segment_id,
      range_agg(tstzrange(o.starts_at, o.ends_at)) as overridden,
      range_agg(tstzrange(o.starts_at, o.ends_at)) filter (where o.included) as assigned
    from segmentation.overrides as o
    where o.starts_at <= override_events.to_time and o.ends_at >= override_events.from_time
    group by o.user_id, o.segment_id
    having bool_or(o.starts_at >= override_events.from_time or o.ends_at <= override_events.to_time)
  ) as o
  join segmentation.segments as s on s.segment_id = o.segment_id
  left join segmentation.users as u on u.user_id = o.user_id
  left join lateral (
    select range_agg(tstzrange(greatest(r.starts_at, u.registered_at), r.ends_at)) as rollout
    from segmentation.rollouts as r
    where r.segment_id = o.segment_id and r.ends_at > u.registered_at
      and segmentation.bucket(o.user_id, s.salt) < r.threshold
  ) as r on true
  cross join lateral unnest(
    segmentation.member(r.rollout, o.overridden, o.assigned, tstzrange(s.created_at, s.deleted_at))
  ) as period
  cross join lateral (
    values ('add', lower(period)), ('remove', upper(period))
  ) as b (operation, at)
  where b.at >= override_events.from_time and b.at < override_events.to_time
$$;

ALTER FUNCTION segmentation.override_events(from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.purge_expired() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
declare
  purged bigint;
begin
  delete from segmentation.report_links as l where l.expires_at <= segmentation.clock();
  get diagnostics purged = row_count;
  perform segmentation.note_upkeep('purge', purged);
  return purged;
end
$$;

ALTER FUNCTION segmentation.purge_expired() OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.purge_expired() IS 'Delete report links that have expired; returns how many. Example: select purge_expired();';

CREATE FUNCTION segmentation.random_secret() RETURNS text
    LANGUAGE sql
    SET search_path TO ''
    AS $$
  select encode(
    sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')),
    'hex')
$$;

ALTER FUNCTION segmentation.random_secret() OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.refuse_history_change() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.refuse_past_step(segment_id integer, starts_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.refuse_truncate() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  raise exception '% refuses truncate: it would leave no history', tg_table_name
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'DELETE is recorded row by row; use that.';
end
$$;

ALTER FUNCTION segmentation.refuse_truncate() OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.register_users(user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
begin
  perform segmentation.require_user_ids(register_users.user_ids);
  insert into segmentation.users (user_id)
  select distinct asked.user_id
  from unnest(register_users.user_ids) as asked (user_id)
  where not exists (select from segmentation.users as u where u.user_id = asked.user_id)
  order by asked.user_id
  on conflict (user_id) do nothing;
end
$$;

ALTER FUNCTION segmentation.register_users(user_ids bigint[]) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.register_users(user_ids bigint[]) IS 'Make users known: rollouts hold them from now on. Known ones stay as they are. Example: select register_users(array[1000, 1002]);';

CREATE FUNCTION segmentation.require_adding(adding boolean, starts_at timestamp with time zone, expires_at timestamp with time zone) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.require_description(description text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.require_kept(moment timestamp with time zone) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.require_percent(percent numeric) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.require_period(starts_at timestamp with time zone, expires_at timestamp with time zone, moment timestamp with time zone) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.require_reportable(period text) RETURNS timestamp with time zone
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.require_rows(max_rows integer) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.require_slug(slug text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.require_user_ids(user_ids bigint[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path TO ''
    AS $$
declare
  wrong bigint;
begin
  if user_ids is null or array_position(user_ids, null) is not null then
    raise exception 'a user id is missing'
      using errcode = 'invalid_parameter_value', hint = 'A user id is a whole number above 0.';
  end if;
  select min(u.user_id) into wrong from unnest(user_ids) as u (user_id);
  if wrong <= 0 then
    raise exception 'user id % is not above 0', wrong
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('user_id', wrong),
        hint = 'A user id is a whole number from 1 to 9223372036854775807.';
  end if;
end
$$;

ALTER FUNCTION segmentation.require_user_ids(user_ids bigint[]) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.revoke_api_key(name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
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

CREATE FUNCTION segmentation.rollout_events(from_time timestamp with time zone, to_time timestamp with time zone) RETURNS TABLE(user_id bigint, segment_id integer, operation text, at timestamp with time zone, at_text text)
    LANGUAGE sql STABLE
    AS $$
  with bounds as materialized (
    -- Written as text once a bound, not once a user.
    select
      b.segment_id, b.salt, b.at, segmentation.rfc3339(b.at) as at_text,
      case when b.before < b.after then 'add' else 'remove' end as operation,
      least(b.before, b.after) as lowest, greatest(b.before, b.after) as below
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
      where m.at >= rollout_events.from_time and m.at < rollout_events.to_time
      group by m.segment_id, m.salt, m.at
    ) as b
    where b.before <> b.after
  )
  select e.user_id, e.segment_id, e.operation, e.at, e.at_text
  from (
    select u.user_id, b.segment_id, b.operation, b.at, b.at_text
    from segmentation.users as u
    join bounds as b
      on segmentation.bucket(u.user_id, b.salt) >= b.lowest
      and segmentation.bucket(u.user_id, b.salt) < b.below
      and u.registered_at < b.at
    union all
    select u.user_id, r.segment_id, 'add', u.registered_at, segmentation.rfc3339(u.registered_at)
    from segmentation.users as u
    join segmentation.rollouts as r
      on r.starts_at <= u.registered_at and u.registered_at < r.ends_at
      and segmentation.bucket(u.user_id, r.salt) < r.threshold
    where u.registered_at >= rollout_events.from_time and u.registered_at < rollout_events.to_time
  ) as e
  where not exists (
    select
    from segmentation.overrides as o
    where o.user_id = e.user_id and o.segment_id = e.segment_id
      and o.starts_at <= rollout_events.to_time and o.ends_at >= rollout_events.from_time
  )
$$;

ALTER FUNCTION segmentation.rollout_events(from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.rollout_json(slug text) RETURNS json
    LANGUAGE sql STABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.rollout_steps(slug text) RETURNS SETOF segmentation.rollout_step
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
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
    SET search_path TO ''
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

CREATE FUNCTION segmentation.rollouts_after_insert() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.rollouts_after_update() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.schedule_jobs() RETURNS text
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $_$
declare
  caller text := current_setting('role');
begin
  if to_regclass('cron.job') is null then
    return format(
      'pg_cron is not in database "%s": everything works, but nothing is tidied up. Have another scheduler run '
      '"call segmentation.sweep()" each minute and "select segmentation.ensure_history_partitions(), '
      'segmentation.purge_expired()" each day.', current_database());
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

CREATE FUNCTION segmentation.segment_history(slug text) RETURNS TABLE(at timestamp with time zone, operation text, description text, percent numeric, starts_at timestamp with time zone, actor text, reason text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path TO ''
    AS $$
#variable_conflict use_column
begin
  if not exists (
    select from segmentation.segments as s where s.slug = segment_history.slug collate "C"
  ) then
    perform segmentation.segment_id_of(segment_history.slug);
  end if;
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
    SET search_path TO ''
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

CREATE FUNCTION segmentation.segment_ids_of(slugs text[]) RETURNS integer[]
    LANGUAGE plpgsql STABLE
    SET search_path TO ''
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

CREATE FUNCTION segmentation.segment_members(slug text, at timestamp with time zone DEFAULT NULL::timestamp with time zone, after bigint DEFAULT NULL::bigint, max_rows integer DEFAULT NULL::integer) RETURNS TABLE(user_id bigint, source text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
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
    SET search_path TO ''
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
    SET search_path TO ''
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

CREATE FUNCTION segmentation.segments_after_update() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
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

CREATE FUNCTION segmentation.segments_refuse_delete() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO ''
    AS $$
begin
  raise exception 'segments refuses delete: it would take the past along'
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'Call delete_segment(slug): everybody is out at once and the past stays.';
end
$$;

ALTER FUNCTION segmentation.segments_refuse_delete() OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.service_status() RETURNS TABLE(item text, ok boolean, value text, hint text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
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
    SET search_path TO ''
    AS $$
begin
  perform set_config('segmentation.actor', coalesce(actor, ''), true);
  perform set_config('segmentation.reason', coalesce(reason, ''), true);
end
$$;

ALTER FUNCTION segmentation.set_author(actor text, reason text) OWNER TO segmentation_owner;

CREATE FUNCTION segmentation.set_rollout(slug text, percent numeric, starts_at timestamp with time zone DEFAULT NULL::timestamp with time zone, actor text DEFAULT SESSION_USER, reason text DEFAULT NULL::text) RETURNS SETOF segmentation.rollout_step
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
#variable_conflict use_column
declare
  segment segmentation.segments;
  moment timestamptz;
  step_at timestamptz;
begin
  perform segmentation.require_percent(set_rollout.percent);
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
    SET search_path TO ''
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
    SET search_path TO ''
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
    SET search_path TO ''
    AS $$
#variable_conflict use_column
begin
  perform segmentation.note_users(array[user_history.user_id]);
  if user_history.from_time >= user_history.to_time then
    raise exception 'from_time % is not before to_time %', from_time, to_time
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('from_time', from_time, 'to_time', to_time),
        hint = 'The history shows what happened from from_time on, up to but not at to_time.';
  end if;
  return query
  select s.slug, e.operation, e.at, e.cause, e.actor, e.reason
  from segmentation.membership_events(array[user_history.user_id], segmentation.clock()) as e
  join segmentation.segments as s on s.segment_id = e.segment_id
  where e.at >= coalesce(user_history.from_time, '-infinity')
    and e.at < coalesce(user_history.to_time, 'infinity')
    and e.at >= (select r.kept_since from segmentation.retention as r)
  order by e.at, s.slug, e.operation;
end
$$;

ALTER FUNCTION segmentation.user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) OWNER TO segmentation_owner;

COMMENT ON FUNCTION segmentation.user_history(user_id bigint, from_time timestamp with time zone, to_time timestamp with time zone) IS 'Exactly when and why a user got in or out: from from_time up to but not at to_time. Example: select * from user_history(1000); select * from user_history(1000, ''2026-11-01Z'', ''2026-12-01Z'');';

CREATE FUNCTION segmentation.user_segments(user_id bigint, at timestamp with time zone DEFAULT NULL::timestamp with time zone) RETURNS TABLE(segment text, source text, since timestamp with time zone, until timestamp with time zone)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO ''
    AS $$
#variable_conflict use_column
declare
  moment timestamptz;
begin
  perform segmentation.note_users(array[user_segments.user_id]);
  moment := coalesce(user_segments.at, segmentation.clock());
  perform segmentation.require_kept(moment);
  return query
  select
    s.slug,
    case when p.assigned @> moment then 'assignment' else 'rollout' end,
    lower(period), upper(period)
  from segmentation.membership_periods(array[user_segments.user_id], segmentation.clock()) as p
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
    SET search_path TO ''
    SET plan_cache_mode TO 'force_generic_plan'
    AS $$
#variable_conflict use_column
declare
  moment timestamptz;
begin
  if exists (
    select
    from unnest(users_segments.user_ids) as asked (user_id)
    where not exists (select from segmentation.users as u where u.user_id = asked.user_id)
  ) then
    perform segmentation.note_users(users_segments.user_ids);
  end if;
  moment := segmentation.clock();
  return query
  select asked.user_id, segmentation.current_segments(asked.user_id, moment)
  from unnest(users_segments.user_ids) with ordinality as asked (user_id, position)
  order by asked.position;
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

INSERT INTO segmentation.api_keys VALUES ('web-shop', 'reader', '\x0a7970f949c08013595eea4be8d9fc64ef1e4a52ccb9ae22ecb87e47f191106c', '2026-11-26 16:06:28.265748+00', 'infinity', 'infinity');

INSERT INTO segmentation.membership_history_2026_11 VALUES (1, 1, true, '2026-11-26 16:06:28.202586+00', '2026-11-26 16:06:28.222643+00', 'postgres', 'import', 'removed', 'postgres', 'ticket');
INSERT INTO segmentation.membership_history_2026_11 VALUES (2, 1, true, '2026-11-26 16:06:28.202586+00', '2026-11-26 16:06:28.237611+00', 'postgres', 'import', 'removed', 'postgres', NULL);
INSERT INTO segmentation.membership_history_2026_11 VALUES (1, 3, true, '2026-11-26 16:06:28.230552+00', '2026-11-26 16:06:28.253599+00', 'postgres', NULL, 'segment_deleted', 'postgres', 'over');
INSERT INTO segmentation.membership_history_2026_11 VALUES (3, 3, true, '2026-11-26 16:06:28.241483+00', '2026-11-26 16:06:28.253599+00', 'postgres', NULL, 'segment_deleted', 'postgres', 'over');

INSERT INTO segmentation.memberships VALUES (3, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (4, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (5, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (6, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (7, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (8, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (9, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (10, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (11, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (12, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (13, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (14, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (15, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (16, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (17, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (18, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (19, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (20, 1, true, '2026-11-26 16:06:28.202586+00', 'infinity', 'postgres', 'import', NULL, NULL);
INSERT INTO segmentation.memberships VALUES (1, 1, true, '2026-11-26 16:06:28.230552+00', '2098-01-01 00:00:00+00', 'postgres', NULL, 'postgres', NULL);
INSERT INTO segmentation.memberships VALUES (4, 2, true, '2097-01-01 00:00:00+00', 'infinity', 'postgres', NULL, NULL, NULL);

INSERT INTO segmentation.report_links VALUES ('\x1de5164597683e6cd7a0bf909c4ffed50e0978c91fccf5cc603ef009ab36f98c', '2026-11', 1, '2026-11-26 16:06:28.264542+00', '2026-11-27 16:06:28.263762+00', 'postgres');

INSERT INTO segmentation.retention VALUES ('-infinity', true);

INSERT INTO segmentation.rollouts VALUES (2, -6426517908476268558, 40, DEFAULT, '2026-11-26 16:06:28.175358+00', '2026-11-26 16:06:28.185673+00', 'postgres', NULL);
INSERT INTO segmentation.rollouts VALUES (2, -6426517908476268558, 80, DEFAULT, '2099-01-01 00:00:00+00', 'infinity', 'postgres', NULL);
INSERT INTO segmentation.rollouts VALUES (2, -6426517908476268558, 60, DEFAULT, '2026-11-26 16:06:28.185673+00', '2099-01-01 00:00:00+00', 'postgres', NULL);
INSERT INTO segmentation.rollouts VALUES (3, -5878575329344690246, 20, DEFAULT, '2026-11-26 16:06:28.18359+00', '2026-11-26 16:06:28.253599+00', 'postgres', NULL);

INSERT INTO segmentation.segment_history VALUES (1, '2026-11-26 16:06:28.165159+00', 'create', 'by hand', NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-26 16:06:28.175358+00', 'create', NULL, NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-26 16:06:28.176604+00', 'set_rollout', NULL, 40, '2026-11-26 16:06:28.175358+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (3, '2026-11-26 16:06:28.18359+00', 'create', NULL, NULL, NULL, 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (3, '2026-11-26 16:06:28.183966+00', 'set_rollout', NULL, 20, '2026-11-26 16:06:28.18359+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-26 16:06:28.186281+00', 'set_rollout', NULL, 60, '2026-11-26 16:06:28.185673+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (2, '2026-11-26 16:06:28.191984+00', 'set_rollout', NULL, 80, '2099-01-01 00:00:00+00', 'postgres', NULL);
INSERT INTO segmentation.segment_history VALUES (3, '2026-11-26 16:06:28.253599+00', 'delete', NULL, NULL, NULL, 'postgres', 'over');

INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (1, 'A', 'by hand', -5363170999711485939, '2026-11-26 16:06:28.165159+00', 'infinity', false);
INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (2, 'B', '', -6426517908476268558, '2026-11-26 16:06:28.175358+00', 'infinity', false);
INSERT INTO segmentation.segments OVERRIDING SYSTEM VALUE VALUES (3, 'GONE', '', -5878575329344690246, '2026-11-26 16:06:28.18359+00', '2026-11-26 16:06:28.253599+00', true);

INSERT INTO segmentation.users VALUES (1, '2026-11-26 16:06:28.199618+00');
INSERT INTO segmentation.users VALUES (2, '2026-11-26 16:06:28.199752+00');
INSERT INTO segmentation.users VALUES (3, '2026-11-26 16:06:28.199758+00');
INSERT INTO segmentation.users VALUES (4, '2026-11-26 16:06:28.199762+00');
INSERT INTO segmentation.users VALUES (5, '2026-11-26 16:06:28.199765+00');
INSERT INTO segmentation.users VALUES (6, '2026-11-26 16:06:28.199768+00');
INSERT INTO segmentation.users VALUES (7, '2026-11-26 16:06:28.199771+00');
INSERT INTO segmentation.users VALUES (8, '2026-11-26 16:06:28.199774+00');
INSERT INTO segmentation.users VALUES (9, '2026-11-26 16:06:28.199776+00');
INSERT INTO segmentation.users VALUES (10, '2026-11-26 16:06:28.19978+00');
INSERT INTO segmentation.users VALUES (11, '2026-11-26 16:06:28.199783+00');
INSERT INTO segmentation.users VALUES (12, '2026-11-26 16:06:28.199786+00');
INSERT INTO segmentation.users VALUES (13, '2026-11-26 16:06:28.199789+00');
INSERT INTO segmentation.users VALUES (14, '2026-11-26 16:06:28.199795+00');
INSERT INTO segmentation.users VALUES (15, '2026-11-26 16:06:28.199798+00');
INSERT INTO segmentation.users VALUES (16, '2026-11-26 16:06:28.199801+00');
INSERT INTO segmentation.users VALUES (17, '2026-11-26 16:06:28.199803+00');
INSERT INTO segmentation.users VALUES (18, '2026-11-26 16:06:28.199807+00');
INSERT INTO segmentation.users VALUES (19, '2026-11-26 16:06:28.19981+00');
INSERT INTO segmentation.users VALUES (20, '2026-11-26 16:06:28.199812+00');
INSERT INTO segmentation.users VALUES (21, '2026-11-26 16:06:28.199815+00');
INSERT INTO segmentation.users VALUES (22, '2026-11-26 16:06:28.199817+00');
INSERT INTO segmentation.users VALUES (23, '2026-11-26 16:06:28.19982+00');
INSERT INTO segmentation.users VALUES (24, '2026-11-26 16:06:28.199823+00');
INSERT INTO segmentation.users VALUES (25, '2026-11-26 16:06:28.199826+00');
INSERT INTO segmentation.users VALUES (26, '2026-11-26 16:06:28.199829+00');
INSERT INTO segmentation.users VALUES (27, '2026-11-26 16:06:28.199831+00');
INSERT INTO segmentation.users VALUES (28, '2026-11-26 16:06:28.199834+00');
INSERT INTO segmentation.users VALUES (29, '2026-11-26 16:06:28.199837+00');
INSERT INTO segmentation.users VALUES (30, '2026-11-26 16:06:28.19984+00');
INSERT INTO segmentation.users VALUES (31, '2026-11-26 16:06:28.199843+00');
INSERT INTO segmentation.users VALUES (32, '2026-11-26 16:06:28.199845+00');
INSERT INTO segmentation.users VALUES (33, '2026-11-26 16:06:28.199848+00');
INSERT INTO segmentation.users VALUES (34, '2026-11-26 16:06:28.199851+00');
INSERT INTO segmentation.users VALUES (35, '2026-11-26 16:06:28.199854+00');
INSERT INTO segmentation.users VALUES (36, '2026-11-26 16:06:28.199859+00');
INSERT INTO segmentation.users VALUES (37, '2026-11-26 16:06:28.199862+00');
INSERT INTO segmentation.users VALUES (38, '2026-11-26 16:06:28.199866+00');
INSERT INTO segmentation.users VALUES (39, '2026-11-26 16:06:28.199868+00');
INSERT INTO segmentation.users VALUES (40, '2026-11-26 16:06:28.199871+00');

INSERT INTO segmentation_migrations._yoyo_log VALUES ('5557c5a2-e9b3-11f1-b077-02fc00000001', '442a06599ffbff06cb195975273c5e4ce55091201b67e2808420b5edc55f6d75', '0001_roles_and_schema', 'apply', 'root', 'localhost', NULL, '2026-11-26 16:06:26.544814');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('557db3ca-e9b3-11f1-b077-02fc00000001', 'b672f77c494960abe76a90bfb2efc9692e396e2e60f7a1400c8c9c4403b64dd0', '0002_segments_and_users', 'apply', 'root', 'localhost', NULL, '2026-11-26 16:06:26.791692');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('558e20f2-e9b3-11f1-b077-02fc00000001', 'dcb7f91ab8126d9cb9cf4c00551d5557a26a7ddd54f18767b12aab17e5e4acdd', '0003_memberships', 'apply', 'root', 'localhost', NULL, '2026-11-26 16:06:26.899318');
INSERT INTO segmentation_migrations._yoyo_log VALUES ('55ab5a28-e9b3-11f1-b077-02fc00000001', '09930831877f5eb7aed1449a5149eb995ce89de405b924adcc748721cb5a8edc', '0004_keys_and_upkeep', 'apply', 'root', 'localhost', NULL, '2026-11-26 16:06:27.090872');

INSERT INTO segmentation_migrations._yoyo_migration VALUES ('442a06599ffbff06cb195975273c5e4ce55091201b67e2808420b5edc55f6d75', '0001_roles_and_schema', '2026-11-26 16:06:26.56501');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('b672f77c494960abe76a90bfb2efc9692e396e2e60f7a1400c8c9c4403b64dd0', '0002_segments_and_users', '2026-11-26 16:06:26.795065');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('dcb7f91ab8126d9cb9cf4c00551d5557a26a7ddd54f18767b12aab17e5e4acdd', '0003_memberships', '2026-11-26 16:06:26.910835');
INSERT INTO segmentation_migrations._yoyo_migration VALUES ('09930831877f5eb7aed1449a5149eb995ce89de405b924adcc748721cb5a8edc', '0004_keys_and_upkeep', '2026-11-26 16:06:27.101692');

INSERT INTO segmentation_migrations._yoyo_version VALUES (2, '2026-11-26 16:06:26.305039');

SELECT pg_catalog.setval('segmentation.segments_segment_id_seq', 3, true);

ALTER TABLE ONLY segmentation.api_keys
    ADD CONSTRAINT api_keys_digest_key UNIQUE (key_digest);

ALTER TABLE ONLY segmentation.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (name);

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

REVOKE ALL ON FUNCTION segmentation.clock() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.clock() TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.closed_override(override segmentation.memberships, next_start timestamp with time zone, moment timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.create_api_key(name text, role text, expires_at timestamp with time zone) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.create_report_link(period text, user_id bigint, valid_for interval, actor text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.create_report_link(period text, user_id bigint, valid_for interval, actor text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.create_segment(slug text, percent numeric, description text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.create_segment(slug text, percent numeric, description text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.current_segments(user_id bigint, moment timestamp with time zone) FROM PUBLIC;

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

REVOKE ALL ON FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.forget_user(user_id bigint, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.get_segment(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.get_segment(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.history_partitions() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.history_partitions() TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.history_report(period text, user_id bigint) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.history_report(period text, user_id bigint) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_cancel_rollout_step(slug text, starts_at timestamp with time zone, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_change_user_segments(user_id bigint, add text[], remove text[], expires_at timestamp with time zone, ttl_seconds numeric, starts_at timestamp with time zone, actor text, reason text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_create_report_link(period text, user_id bigint, actor text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_create_report_link(period text, user_id bigint, actor text) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_create_segment(slug text, percent numeric, description text, actor text, reason text) TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_explain_membership(user_id bigint, slug text, at timestamp with time zone) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.http_segment(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.http_segment(slug text) TO segmentation_reader;

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

REVOKE ALL ON FUNCTION segmentation.linked_report(id text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.linked_report(id text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.list_api_keys() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.list_api_keys() TO segmentation_admin;

REVOKE ALL ON FUNCTION segmentation.list_segments(after text, max_rows integer) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.list_segments(after text, max_rows integer) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.lock_segment(slug text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.lock_slugs(slugs text[], exclusive boolean) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.lock_users(user_ids bigint[]) FROM PUBLIC;

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

REVOKE ALL ON FUNCTION segmentation.override_events(from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.purge_expired() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.purge_expired() TO segmentation_admin;
GRANT ALL ON FUNCTION segmentation.purge_expired() TO segmentation_jobs;

REVOKE ALL ON FUNCTION segmentation.random_secret() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_history_change() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_past_step(segment_id integer, starts_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.refuse_truncate() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.register_users(user_ids bigint[]) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.register_users(user_ids bigint[]) TO segmentation_editor;

REVOKE ALL ON FUNCTION segmentation.require_adding(adding boolean, starts_at timestamp with time zone, expires_at timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_description(description text) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.require_kept(moment timestamp with time zone) FROM PUBLIC;

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

REVOKE ALL ON FUNCTION segmentation.rollout_events(from_time timestamp with time zone, to_time timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollout_json(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.rollout_json(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.rollout_steps(slug text) FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.rollout_steps(slug text) TO segmentation_reader;

REVOKE ALL ON FUNCTION segmentation.rollouts_after_delete() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollouts_after_insert() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.rollouts_after_update() FROM PUBLIC;

REVOKE ALL ON FUNCTION segmentation.schedule_jobs() FROM PUBLIC;
GRANT ALL ON FUNCTION segmentation.schedule_jobs() TO segmentation_admin;

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

REVOKE ALL ON FUNCTION segmentation.segments_refuse_delete() FROM PUBLIC;

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

