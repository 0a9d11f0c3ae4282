-- What ends a wait for shards (sql/router/70_catalog.sql). A commit that waits for them is done here already: its wait
-- cancelled, it warns that shards may not have it yet, and succeeds. Only a superuser may cancel anybody's wait, so
-- this function is a superuser's, and cancels nothing else.

create or replace function segmentation_remote.end_late_waits (
  process  integer,
  patience interval
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  ends_at timestamptz := clock_timestamp() + interval '1 minute';
  waits_since timestamptz;
  before timestamptz;
  session record;
begin
  loop
    perform pg_sleep(0.2);
    -- Otherwise a transaction sees what it has seen first.
    perform pg_stat_clear_snapshot();
    select a.xact_start, a.wait_event into session from pg_stat_activity as a where a.pid = process;
    exit when not found or (session.xact_start is null and clock_timestamp() > ends_at);
    if session.wait_event is distinct from 'SyncRep' then
      waits_since := null;
    elsif waits_since is null or session.xact_start <> before then
      waits_since := clock_timestamp();
      before := session.xact_start;
    elsif clock_timestamp() > waits_since + patience then
      perform pg_cancel_backend(process);
    end if;
  end loop;
end
$$;

revoke all on function segmentation_remote.end_late_waits(integer, interval) from public;
grant usage on schema segmentation_remote to segmentation_router;
grant execute on function segmentation_remote.end_late_waits(integer, interval) to segmentation_router;
