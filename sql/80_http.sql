-- What the HTTP layer calls: the public functions once more, each answer shaped as one JSON object. They stand in
-- sql/80_http_users.sql, 80_http_segments.sql and 80_http_members.sql; what they share stands here.
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
