-- What the HTTP layer calls: the public functions once more, each answer shaped as one JSON object.
--
-- Nothing is decided here. Times are RFC 3339 in UTC; an open end, which SQL calls infinity, is null. All
-- run with the caller's rights, so that the grants on the functions they call are what counts.

-- A time to live counts from the start of the period.
create or replace function segmentation.expiry (
  expires_at  timestamptz,
  ttl_seconds numeric,
  starts_at   timestamptz
)
  returns timestamptz
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.expiry(timestamptz, numeric, timestamptz) is
  'The end of a membership from an end or a time to live. Example: select expiry(null, 3600, null);';

create or replace function segmentation.rollout_json (
  slug text
)
  returns json
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.rollout_json(text) is
  'All rollout steps of a segment as JSON. Example: select rollout_json(''AVITO_VOICE_MESSAGES'');';

create or replace function segmentation.http_users_segments (
  user_ids bigint[]
)
  returns text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if cardinality(user_ids) > 0 then
    perform segmentation.require_at_most('user_count', cardinality(user_ids), 10000);
  end if;
  return '{"users":['
    || coalesce(array_to_string(segmentation.http_user_segments_each(user_ids), ','), '')
    || ']}';
end
$$;

comment on function segmentation.http_users_segments(bigint[]) is
  'Answers POST /v1/users/segments.';

create or replace function segmentation.http_change_user_segments (
  user_id     bigint,
  add         text[],
  remove      text[],
  expires_at  timestamptz,
  ttl_seconds numeric,
  starts_at   timestamptz,
  actor       text,
  reason      text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_change_user_segments(
  bigint, text[], text[], timestamptz, numeric, timestamptz, text, text) is
  'Answers PATCH /v1/users/{user_id}/segments.';

create or replace function segmentation.http_explain_membership (
  user_id bigint,
  slug    text,
  at      timestamptz default null
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_explain_membership(bigint, text, timestamptz) is
  'Answers GET /v1/users/{user_id}/segments/{slug}.';

create or replace function segmentation.http_user_history (
  user_id   bigint,
  from_time timestamptz default null,
  to_time   timestamptz default null
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_user_history(bigint, timestamptz, timestamptz) is
  'Answers GET /v1/users/{user_id}/history.';

create or replace function segmentation.http_create_segment (
  slug        text,
  percent     numeric,
  description text,
  actor       text,
  reason      text
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.create_segment(slug, percent, description, actor, reason);
  return segmentation.http_segment(slug);
end
$$;

comment on function segmentation.http_create_segment(text, numeric, text, text, text) is
  'Answers POST /v1/segments.';

create or replace function segmentation.http_segment (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select json_build_object(
    'slug', s.slug, 'description', s.description, 'percent', s.percent,
    'created_at', segmentation.rfc3339(s.created_at),
    -- As text: JavaScript would round it.
    'salt', s.salt::text,
    'rollout', segmentation.rollout_json(s.slug))
  from segmentation.get_segment(http_segment.slug) as s
$$;

comment on function segmentation.http_segment(text) is
  'Answers GET /v1/segments/{slug}.';

create or replace function segmentation.http_segments (
  after    text default null,
  max_rows integer default 100
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_segments(text, integer) is
  'Answers GET /v1/segments.';

create or replace function segmentation.http_update_segment (
  slug        text,
  description text,
  actor       text,
  reason      text
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.update_segment(slug, description, actor, reason);
  return segmentation.http_segment(slug);
end
$$;

comment on function segmentation.http_update_segment(text, text, text, text) is
  'Answers PATCH /v1/segments/{slug}.';

create or replace function segmentation.http_set_rollout (
  slug      text,
  percent   numeric,
  starts_at timestamptz,
  actor     text,
  reason    text
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.set_rollout(slug, percent, starts_at, actor, reason);
  return json_build_object('segment', slug, 'rollout', segmentation.rollout_json(slug));
end
$$;

comment on function segmentation.http_set_rollout(text, numeric, timestamptz, text, text) is
  'Answers PUT /v1/segments/{slug}/rollout.';

create or replace function segmentation.http_cancel_rollout_step (
  slug      text,
  starts_at timestamptz,
  actor     text,
  reason    text
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.cancel_rollout_step(slug, starts_at, actor, reason);
  return json_build_object('segment', slug, 'rollout', segmentation.rollout_json(slug));
end
$$;

comment on function segmentation.http_cancel_rollout_step(text, timestamptz, text, text) is
  'Answers DELETE /v1/segments/{slug}/rollout.';

create or replace function segmentation.http_segment_history (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_segment_history(text) is
  'Answers GET /v1/segments/{slug}/history.';

create or replace function segmentation.http_segment_stats (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select json_build_object(
    'segment', http_segment_stats.slug, 'assigned', s.assigned, 'excluded', s.excluded,
    'rolled_out', s.rolled_out, 'members', s.members)
  from segmentation.segment_stats(http_segment_stats.slug) as s
$$;

comment on function segmentation.http_segment_stats(text) is
  'Answers GET /v1/segments/{slug}/stats.';

-- A step is written as an ISO 8601 duration; PostgreSQL itself would take much else for an interval.
create or replace function segmentation.http_segment_growth (
  slug      text,
  from_time timestamptz,
  to_time   timestamptz,
  step      text
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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
$$;

comment on function segmentation.http_segment_growth(text, timestamptz, timestamptz, text) is
  'Answers GET /v1/segments/{slug}/growth.';

create or replace function segmentation.http_segment_members (
  slug     text,
  at       timestamptz default null,
  after    bigint default null,
  max_rows integer default 100
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_segment_members(text, timestamptz, bigint, integer) is
  'Answers GET /v1/segments/{slug}/members.';

-- base_url is where the caller reaches the service, so that the link works by itself.
create or replace function segmentation.http_create_report_link (
  period   text,
  user_id  bigint,
  base_url text,
  actor    text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select json_build_object(
    'url', http_create_report_link.base_url || '/v1/reports/' || l.id || '.csv',
    'period', http_create_report_link.period,
    'expires_at', segmentation.rfc3339(l.expires_at))
  from segmentation.create_report_link(
    http_create_report_link.period, http_create_report_link.user_id,
    actor => http_create_report_link.actor) as l
$$;

comment on function segmentation.http_create_report_link(text, bigint, text, text) is
  'Answers POST /v1/reports.';

create or replace function segmentation.http_finish_import (
  slug        text,
  operation   text,
  expires_at  timestamptz,
  ttl_seconds numeric,
  starts_at   timestamptz,
  actor       text,
  reason      text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_finish_import(text, text, timestamptz, numeric, timestamptz, text, text) is
  'Answers POST /v1/segments/{slug}/members, after its COPY.';
