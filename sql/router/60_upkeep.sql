-- Upkeep, health and numbers of a router and its shards. Shards sweep, make partitions and purge by themselves, with a
-- pg_cron of their own; what is called here is done on all of them.

-- What each shard answers to a call, of which $1 is a slot of it. A shard that is away is left out, with a warning: it
-- does its upkeep itself when it is back.
create or replace function segmentation.asked_shards (
  call text
)
  returns setof text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
-- The calls are those below. @plpgsql_check_options: security_warnings = off
declare
  each record;
  told text;
begin
  for each in
    select s.shard, s.slot, segmentation.is_there(s.shard) as is_there
    from segmentation.shards as s
    order by s.shard
  loop
    begin
      if not each.is_there then
        perform segmentation.refuse_away();
      end if;
      execute call into told using each.slot;
      return next told;
    exception
      when connection_failure then
        raise warning 'shard % does not answer, and is left out', each.shard;
    end;
  end loop;
end
$$;

create or replace function segmentation.assert_bucket_vectors () returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.here_assert_bucket_vectors();
  perform a.* from segmentation.asked_shards('select segmentation.remote_assert_bucket_vectors($1)') as a;
end
$$;

create or replace function segmentation.expire_memberships (
  max_rows integer default 5000
)
  returns integer
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  -- Of a deleted segment, here all is swept.
  moved_here integer := segmentation.here_expire_memberships(expire_memberships.max_rows);
begin
  return moved_here + coalesce(sum(a.moved::integer), 0)
  from segmentation.asked_shards(
    format('select segmentation.remote_expire_memberships($1, %L)', expire_memberships.max_rows)) as a (moved);
end
$$;

create or replace function segmentation.ensure_history_partitions (
  months_ahead integer default 3
)
  returns integer
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  made_here integer := segmentation.here_ensure_history_partitions(ensure_history_partitions.months_ahead);
begin
  return greatest(made_here, max(a.made::integer))
  from segmentation.asked_shards(
    format('select segmentation.remote_ensure_history_partitions($1, %L)', ensure_history_partitions.months_ahead))
    as a (made);
end
$$;

-- Noted here first, and for good: what some shards have dropped and others have not, nobody is told of. If a shard is
-- away, it is to be called again.
create or replace function segmentation.drop_history_before (
  period text
)
  returns integer
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  dropped integer;
begin
  perform segmentation.require_read_write('drop_history_before()');
  perform segmentation.on_this_router(format('select segmentation.keep_since(%L)', drop_history_before.period));
  select max(segmentation.remote_drop_history_before(s.slot, drop_history_before.period)) into dropped
  from segmentation.shards as s;
  return greatest(dropped, segmentation.here_drop_history_before(drop_history_before.period));
end
$$;

grant execute on function segmentation.keep_since(text) to segmentation_router;

-- How this database is, and each shard: one item if all is well there, else what is not.
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
  version bigint;
  change text;
  restored constant text := ' or the router was restored from a backup: copy the catalog anew, migrations/README.md.';
  each record;
begin
  select v.version, v.change::text into version, change from segmentation.catalog_version as v;
  return query select s.* from segmentation.here_service_status(needed) as s;
  for each in
    select s.shard, s.slot, segmentation.is_there(s.shard) as is_there
    from segmentation.shards as s
    order by s.shard
  loop
    begin
      if not each.is_there then
        perform segmentation.refuse_away();
      end if;
      return query
      with told as materialized (
        select s.* from segmentation.remote_service_status(each.slot, needed) as s
      ),
      wrong as (
        select ': ' || t.item as item, t.value, t.hint
        from told as t
        where not t.ok and t.item <> 'catalog change'
        union all
        select ': catalog', 'out of step', 'It' || restored
        from told as v
        join told as c on c.item = 'catalog change'
        where v.item = 'catalog version' and (
          not c.ok
          or v.value::bigint = version and c.value <> change
          -- A change that waits for shards is not here yet.
          or v.value::bigint > version + 1)
        union all
        select
          ': catalog', version - coalesce(t.value::bigint, 0) || ' changes behind',
          'Its users are answered as before these changes. Does it replicate? select * from pg_stat_subscription; '
            || 'If it does, and stays behind: it' || restored
        from told as t
        where t.item = 'catalog version' and version > coalesce(t.value::bigint, 0)
      )
      select 'shard ' || each.shard || coalesce(w.item, ''), w.item is null, coalesce(w.value, 'in order'), w.hint
      from (values (true)) as one (is_one)
      left join wrong as w on one.is_one;
    exception
      when connection_failure or query_canceled or lock_not_available then
        if sqlstate <> '08006' and not segmentation.is_late(sqlstate, sqlerrm) then
          raise;
        end if;
        return query
        select
          'shard ' || each.shard, false, 'does not answer',
          'Its users cannot be asked for or changed; those of the other shards can.';
    end;
  end loop;
end
$$;

-- The worst of all, and how many shards are away.
create or replace function segmentation.service_metrics ()
  returns table (metric text, help text, value double precision)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  -- It notes who is away, too.
  not_ok bigint := (select count(*) from segmentation.service_status() as s where not s.ok);
  told text[] := '{}';
  texts text[] := '{}';
  numbers double precision[] := '{}';
  away bigint := (select count(*) from segmentation.shards);
  each record;
begin
  for each in
    select s.slot
    from segmentation.shards as s
    where s.shard <> all (segmentation.shards_known_to_be_away())
  loop
    begin
      select told || array_agg(m.metric), texts || array_agg(m.help), numbers || array_agg(m.value)
      into told, texts, numbers
      from segmentation.remote_service_metrics(each.slot) as m;
      away := away - 1;
    exception
      when connection_failure or query_canceled or lock_not_available then
        if sqlstate <> '08006' and not segmentation.is_late(sqlstate, sqlerrm) then
          raise;
        end if;
    end;
  end loop;
  return query
  select m.metric, m.help, max(m.value)
  from unnest(told, texts, numbers) as m (metric, help, value)
  where m.metric <> 'status_not_ok'
  group by m.metric, m.help
  union all
  select 'shards_away', 'Shards that do not answer', away
  union all
  select 'status_not_ok', 'Items of service_status() that are not in order', not_ok;
end
$$;
