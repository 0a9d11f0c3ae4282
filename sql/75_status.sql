-- How the service is: for DBAs, for GET /health/ready and, as numbers that an alarm can be set on, for GET /metrics.

-- How far a standby is behind its primary; null on a primary. It is not behind where it has replayed all that has come
-- and is connected for more: pg_stat_wal_receiver lists no other. Otherwise it may lack whatever came after the last
-- change that it has replayed; the sweep makes one each minute.
create or replace function segmentation.standby_lag () returns interval
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select case
    when not pg_is_in_recovery() then null
    when not exists (select from pg_stat_wal_receiver) or pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn()
      then greatest(
        segmentation.clock() - coalesce(pg_last_xact_replay_timestamp(), pg_postmaster_start_time()), interval '0')
    else interval '0'
  end
$$;

-- A service says which version it needs, by its digest: one that the database has had is there still, as a deploy keeps
-- what the service before it calls. A database that went back to an earlier version has forgotten the later ones.
create or replace function segmentation.service_status (
  needed text default null
)
  returns table (item text, ok boolean, value text, hint text)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
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
$$;

comment on function segmentation.service_status(text) is
  'How the service is: schema version (and whether the one with the digest needed is in it), bucket vectors, last sweep, oldest end not yet swept, partitions ahead; on a standby also how far it is behind. Example: select * from service_status();';

-- What is missing on a shard concerns its users alone: the router is degraded then, and ready.
create or replace function segmentation.http_service_status (
  needed text
)
  returns table (missing text, parts json, status text)
  language sql
  set search_path = pg_catalog, pg_temp
as $$
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

comment on function segmentation.http_service_status(text) is
  'For the service: GET /health/ready; the parts, the names of those that are missing, if there are any, and the status if none is.';

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

comment on function segmentation.service_metrics() is
  'Numbers for GET /metrics: age of the last sweep, lag of the sweep and of a standby, segments, items out of order. Example: select * from service_metrics();';
