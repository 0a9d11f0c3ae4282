-- What the HTTP layer calls: the public functions once more, each answer shaped as one JSON object.
--
-- Each is named http_ and the function that it calls, and runs with the caller's rights, so that the grants on that
-- function are what counts. What a request may ask for and a person in psql may not be held to stands here too: a time
-- to live, the length of a page, an ISO 8601 duration. The hot read stands apart, in sql/45_reads.sql.
--
-- Times are RFC 3339 in UTC; an open end, which SQL calls infinity, is null. row_to_json and array_to_json write JSON
-- without blanks, and a member is named once: as a column.

-- A time to live counts from the start of the period.
create or replace function segmentation.http_expiry (
  expires_at  timestamptz,
  ttl_seconds numeric,
  starts_at   timestamptz
)
  returns timestamptz
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_expiry(timestamptz, numeric, timestamptz) is
  'For the service: the end of a membership from an end or a time to live.';

-- ISO 8601; PostgreSQL itself would take much else for an interval.
create or replace function segmentation.http_duration (
  name     text,
  duration text
)
  returns interval
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
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
$$;

comment on function segmentation.http_duration(text, text) is
  'For the service: an ISO 8601 duration.';

create or replace function segmentation.rollout_json (
  slug text
)
  returns json
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_to_json(array_agg(step order by step.starts_at)), '[]')
  from (
    select
      s.percent, segmentation.rfc3339(s.starts_at) as starts_at, segmentation.rfc3339(s.ends_at) as ends_at,
      s.actor, s.reason
    from segmentation.rollout_steps(rollout_json.slug) as s
  ) as step
$$;

comment on function segmentation.rollout_json(text) is
  'For the service: all rollout steps of a segment.';

-- Users ---------------------------------------------------------------------------------------------

create or replace function segmentation.http_users_segments (
  user_ids bigint[]
)
  returns text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if cardinality(http_users_segments.user_ids) > 0 then
    perform segmentation.require_at_most('user_count', cardinality(http_users_segments.user_ids), 10000);
  end if;
  return '{"users":['
    || coalesce(array_to_string(segmentation.http_user_segments_each(http_users_segments.user_ids), ','), '')
    || ']}';
end
$$;

comment on function segmentation.http_users_segments(bigint[]) is
  'For the service: POST /v1/users/segments.';

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

comment on function segmentation.http_change_user_segments(
  bigint, text[], text[], timestamptz, numeric, timestamptz, text, text
) is
  'For the service: PATCH /v1/users/{user_id}/segments.';

create or replace function segmentation.http_explain_membership (
  user_id bigint,
  slug    text,
  at      timestamptz default null
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_explain_membership(bigint, text, timestamptz) is
  'For the service: GET /v1/users/{user_id}/segments/{slug}.';

create or replace function segmentation.http_user_overrides (
  user_id bigint
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_user_overrides(bigint) is
  'For the service: GET /v1/users/{user_id}/overrides.';

create or replace function segmentation.http_ending_soon (
  within   text,
  slug     text default null,
  max_rows integer default 100
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_ending_soon(text, text, integer) is
  'For the service: GET /v1/ending-soon.';

create or replace function segmentation.http_user_history (
  user_id   bigint,
  from_time timestamptz default null,
  to_time   timestamptz default null
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_user_history(bigint, timestamptz, timestamptz) is
  'For the service: GET /v1/users/{user_id}/history.';

-- Layers --------------------------------------------------------------------------------------------

create or replace function segmentation.layer_json (
  layer segmentation.living_layers
)
  returns json
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.layer_json(segmentation.living_layers) is
  'For the service: a layer with its segments.';

create or replace function segmentation.http_get_layer (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$ select segmentation.layer_json(l) from segmentation.get_layer(http_get_layer.slug) as l $$;

comment on function segmentation.http_get_layer(text) is
  'For the service: GET /v1/layers/{slug}.';

create or replace function segmentation.http_list_layers () returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select row_to_json(answer)
  from (
    select coalesce(array_to_json(array_agg(segmentation.layer_json(l) order by l.slug collate "C")), '[]') as layers
    from segmentation.list_layers() as l
  ) as answer
$$;

comment on function segmentation.http_list_layers() is
  'For the service: GET /v1/layers.';

create or replace function segmentation.http_create_layer (
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
  perform segmentation.create_layer(
    http_create_layer.slug, http_create_layer.description, http_create_layer.actor, http_create_layer.reason);
  return segmentation.http_get_layer(http_create_layer.slug);
end
$$;

comment on function segmentation.http_create_layer(text, text, text, text) is
  'For the service: POST /v1/layers.';

-- Segments ------------------------------------------------------------------------------------------

create or replace function segmentation.http_get_segment (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_get_segment(text) is
  'For the service: GET /v1/segments/{slug}.';

create or replace function segmentation.http_list_segments (
  after    text default null,
  max_rows integer default 100,
  search   text default null
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_list_segments(text, integer, text) is
  'For the service: GET /v1/segments.';

create or replace function segmentation.http_create_segment (
  slug        text,
  percent     numeric,
  description text,
  actor       text,
  reason      text,
  layer       text default null
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.create_segment(
    http_create_segment.slug, http_create_segment.percent, http_create_segment.description,
    http_create_segment.actor, http_create_segment.reason, http_create_segment.layer);
  return segmentation.http_get_segment(http_create_segment.slug);
end
$$;

comment on function segmentation.http_create_segment(text, numeric, text, text, text, text) is
  'For the service: POST /v1/segments.';

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
  perform segmentation.update_segment(
    http_update_segment.slug, http_update_segment.description,
    http_update_segment.actor, http_update_segment.reason);
  return segmentation.http_get_segment(http_update_segment.slug);
end
$$;

comment on function segmentation.http_update_segment(text, text, text, text) is
  'For the service: PATCH /v1/segments/{slug}.';

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

comment on function segmentation.http_set_rollout(text, numeric, timestamptz, text, text) is
  'For the service: PUT /v1/segments/{slug}/rollout.';

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

comment on function segmentation.http_cancel_rollout_step(text, timestamptz, text, text) is
  'For the service: DELETE /v1/segments/{slug}/rollout.';

create or replace function segmentation.http_segment_history (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_segment_history(text) is
  'For the service: GET /v1/segments/{slug}/history.';

create or replace function segmentation.http_segment_stats (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select row_to_json(answer)
  from (
    select http_segment_stats.slug as segment, s.*
    from segmentation.segment_stats(http_segment_stats.slug) as s
  ) as answer
$$;

comment on function segmentation.http_segment_stats(text) is
  'For the service: GET /v1/segments/{slug}/stats.';

create or replace function segmentation.http_layer_stats (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_layer_stats(text) is
  'For the service: GET /v1/layers/{slug}/stats.';

create or replace function segmentation.http_segment_growth (
  slug      text,
  from_time timestamptz,
  to_time   timestamptz,
  step      text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_segment_growth(text, timestamptz, timestamptz, text) is
  'For the service: GET /v1/segments/{slug}/growth.';

-- Members -------------------------------------------------------------------------------------------

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

comment on function segmentation.http_segment_members(text, timestamptz, bigint, integer) is
  'For the service: GET /v1/segments/{slug}/members.';

create or replace function segmentation.http_begin_import (
  slug        text,
  operation   text,
  expires_at  timestamptz,
  ttl_seconds numeric,
  starts_at   timestamptz,
  actor       text,
  reason      text,
  max_removed bigint default null,
  all_actors  boolean default false
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_begin_import(
  text, text, timestamptz, numeric, timestamptz, text, text, bigint, boolean
) is
  'For the service: POST /v1/segments/{slug}/members, before its body comes.';

create or replace function segmentation.http_finish_import (
  slug        text,
  operation   text,
  expires_at  timestamptz,
  ttl_seconds numeric,
  starts_at   timestamptz,
  actor       text,
  reason      text,
  max_removed bigint default null,
  dry_run     boolean default false,
  all_actors  boolean default false
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_finish_import(
  text, text, timestamptz, numeric, timestamptz, text, text, bigint, boolean, boolean
) is
  'For the service: POST /v1/segments/{slug}/members, after its COPY.';

-- HEAD of the stays, whose rows are period_rows.
create or replace function segmentation.http_periods_window (
  slug      text,
  from_time timestamptz default null,
  to_time   timestamptz default null
)
  returns text
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select segmentation.periods_window(
    http_periods_window.slug, http_periods_window.from_time, http_periods_window.to_time)::text
$$;

comment on function segmentation.http_periods_window(text, timestamptz, timestamptz) is
  'For the service: HEAD /v1/segments/{slug}/periods.';

-- Reports -------------------------------------------------------------------------------------------

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

comment on function segmentation.http_create_report_link(text, bigint, text, text) is
  'For the service: POST /v1/reports.';

-- Changes -------------------------------------------------------------------------------------------

create or replace function segmentation.http_changes_end (
  from_time timestamptz,
  to_time   timestamptz default null
)
  returns text
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select segmentation.rfc3339(segmentation.changes_end(http_changes_end.from_time, http_changes_end.to_time))
$$;

comment on function segmentation.http_changes_end(timestamptz, timestamptz) is
  'For the service: GET /v1/changes, before its rows: where they end.';

-- What version 1 of the service calls while a deploy rolls on -----------------------------------------

create or replace function segmentation.http_segment (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$ select segmentation.http_get_segment(http_segment.slug) $$;

comment on function segmentation.http_segment(text) is
  'For the service: GET /v1/segments/{slug} of version 1.';

create or replace function segmentation.http_segments (
  after    text default null,
  max_rows integer default 100
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$ select segmentation.http_list_segments(http_segments.after, http_segments.max_rows) $$;

comment on function segmentation.http_segments(text, integer) is
  'For the service: GET /v1/segments of version 1.';
