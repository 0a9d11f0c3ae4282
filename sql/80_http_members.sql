-- What the HTTP layer calls for lists of members, periods, reports and changes. Their rows themselves are copied out
-- (COPY TO) or in (sql/66_import.sql).
--
-- How an answer looks: sql/80_http.sql.

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
