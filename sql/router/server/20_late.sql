-- What ends a wait for shards (sql/router/70_catalog.sql). A commit that waits for them is done here already: its wait
-- cancelled, it warns that shards may not have it yet, and succeeds. Only a superuser may cancel anybody's wait, so
-- this function is a superuser's, and cancels nothing else.

create or replace function segmentation_remote.end_late_wait (
  process  integer,
  began_at timestamptz,
  patience interval
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  until timestamptz := clock_timestamp() + patience;
begin
  loop
    perform pg_sleep(0.1);
    -- Otherwise a transaction sees what it has seen first.
    perform pg_stat_clear_snapshot();
    perform from pg_stat_activity as a where a.pid = process and a.xact_start = began_at;
    exit when not found;
    perform pg_cancel_backend(a.pid)
    from pg_stat_activity as a
    where a.pid = process and a.xact_start = began_at and a.wait_event = 'SyncRep' and clock_timestamp() > until;
    exit when found;
  end loop;
end
$$;

revoke all on function segmentation_remote.end_late_wait(integer, timestamptz, interval) from public;
grant usage on schema segmentation_remote to segmentation_router;
grant execute on function segmentation_remote.end_late_wait(integer, timestamptz, interval) to segmentation_router;
