-- What GET /metrics asks of the database: numbers that an alarm can be set on.

create or replace function segmentation.service_metrics ()
  returns table (metric text, help text, value double precision)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.service_metrics() is
  'Numbers for GET /metrics: age of the last sweep, lag of the sweep, segments, items out of order. Example: select * from service_metrics();';
