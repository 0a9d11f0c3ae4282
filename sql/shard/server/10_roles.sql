-- The router may do what an admin may, and says for whom, as the service does. Its calls wait for a lock no longer than
-- this, unless they say how long; nothing is compiled for them, and what clients are refused is one line of the log.
-- What is sent as text must not be in the words of the shard's own settings.
do $$
begin
  if not pg_has_role('segmentation_router', 'segmentation_admin', 'usage') then
    grant segmentation_admin to segmentation_router;
  end if;
  if not pg_has_role('segmentation_router', 'segmentation_service', 'member') then
    grant segmentation_service to segmentation_router;
  end if;
  if not exists (
    select
    from pg_catalog.pg_db_role_setting as s
    where s.setrole = 'segmentation_router'::regrole and s.setdatabase = 0
      and s.setconfig @> '{
        lock_timeout=5s,jit=off,log_error_verbosity=terse,log_min_error_statement=panic,DateStyle=ISO,
        IntervalStyle=postgres,TimeZone=UTC}'
  ) then
    alter role segmentation_router set lock_timeout = '5s';
    alter role segmentation_router set jit = off;
    alter role segmentation_router set log_error_verbosity = 'terse';
    alter role segmentation_router set log_min_error_statement = 'panic';
    alter role segmentation_router set datestyle = 'ISO';
    alter role segmentation_router set intervalstyle = 'postgres';
    alter role segmentation_router set timezone = 'UTC';
  end if;
end
$$;
