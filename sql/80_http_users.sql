-- What the HTTP layer calls for users: /v1/users, but for the hot read, which is in sql/45_reads.sql.
--
-- How an answer looks: sql/80_http.sql.

create or replace function segmentation.http_users_segments (
  user_ids bigint[]
)
  returns text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if cardinality(http_users_segments.user_ids) > 0 then
    perform segmentation.require_at_most('user_ids', cardinality(http_users_segments.user_ids), 10000);
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
