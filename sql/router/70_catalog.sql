-- The catalog on a router: its truth, which logical replication takes to the shards.
--
-- A transaction that changes it gets the next version in its last moment, so that versions have the order of the
-- commits: a shard that has a version has all before it. Then the commit waits until the shards have applied it
-- (synchronous_commit = remote_apply, for this transaction alone), so that no read after the answer is stale. A shard
-- that is away is not waited for, nor are the others then: it follows when it is back. One that dies, or is late, in
-- that very moment is waited for no longer than three seconds; PostgreSQL itself knows no limit to that. It is less
-- than the five for which the next change waits for a lock.

-- Another session watches that this one does not wait longer for shards: for a minute, and then anew, as connecting
-- takes longer than a change does.
create or replace function segmentation.limit_wait_for_shards () returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  link constant text := 'segmentation_late';
begin
  begin
    if segmentation_remote.dblink_is_busy(link) = 1 then
      return;
    end if;
    -- Twice, so that the connection takes the next query.
    perform t.told from segmentation_remote.dblink_get_result(link) as t (told text);
    perform t.told from segmentation_remote.dblink_get_result(link) as t (told text);
  exception
    -- There is none yet, or it was lost.
    when others then
      perform segmentation.link_to('segmentation_router', link);
  end;
  perform segmentation_remote.dblink_send_query(
    link, format('select segmentation_remote.end_late_waits(%s, ''3 seconds'')', pg_backend_pid()));
end
$$;

create or replace function segmentation.count_catalog_change () returns trigger
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('segmentation.catalog_counted', true) = pg_current_xact_id()::text then
    return null;
  end if;
  perform set_config('segmentation.catalog_counted', pg_current_xact_id()::text, true);
  insert into segmentation.catalog_version as v (version) values (1)
  on conflict (one_row) do update set version = v.version + 1;
  if (
    select bool_and(s.active)
    from pg_catalog.pg_replication_slots as s
    where s.slot_type = 'logical' and s.database = current_database() and s.slot_name ~ '^segmentation_'
  ) and segmentation.shards_known_to_be_away() = '{}' then
    perform segmentation.limit_wait_for_shards();
    perform set_config('synchronous_commit', 'remote_apply', true);
  end if;
  return null;
end
$$;

-- Who comes back older than the other, the router or a shard, has other changes than those that follow. Numbers alone
-- would soon be the same again.
create or replace function segmentation.chain_catalog_change () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'UPDATE' then
    new.after := old.change;
  end if;
  new.change := gen_random_uuid();
  return new;
end
$$;

create or replace trigger catalog_change_is_chained
  before insert or update on segmentation.catalog_version
  for each row execute function segmentation.chain_catalog_change();

create constraint trigger catalog_change_is_counted
  after insert or update of slug, description, salt, created_at, deleted_at, layer_id on segmentation.segments
  deferrable initially deferred
  for each row execute function segmentation.count_catalog_change();

create constraint trigger catalog_change_is_counted
  after insert or update or delete on segmentation.rollouts
  deferrable initially deferred
  for each row execute function segmentation.count_catalog_change();

create constraint trigger catalog_change_is_counted
  after insert or update on segmentation.layers
  deferrable initially deferred
  for each row execute function segmentation.count_catalog_change();

-- What a subscription copies.
grant usage on schema segmentation to segmentation_router;
grant select on
  segmentation.catalog_version, segmentation.layer_cells, segmentation.layers, segmentation.rollouts,
  segmentation.segment_history, segmentation.segments
to segmentation_router;
