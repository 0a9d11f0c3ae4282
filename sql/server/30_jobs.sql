-- pg_cron and its jobs, where it is.

do $$
begin
  -- pg_cron lives in one database of a server: cron.database_name. Where whoever migrates may neither see that
  -- nor install it, whoever runs the server has.
  begin
    if not exists (select from pg_catalog.pg_extension where extname = 'pg_cron')
      and current_setting('cron.database_name', true) = current_database()
      and exists (select from pg_catalog.pg_available_extensions where name = 'pg_cron')
    then
      create extension pg_cron;
    end if;
  exception
    when insufficient_privilege then null;
  end;
  begin
    if exists (select from pg_catalog.pg_extension where extname = 'pg_cron')
      and not has_schema_privilege('segmentation_jobs', 'cron', 'usage')
    then
      grant usage on schema cron to segmentation_jobs;
    end if;
  exception
    when insufficient_privilege then null;
  end;
  -- Whoever migrates is no superuser everywhere, and looks after the service as well.
  set local client_min_messages = warning; -- that it is a member already is no news
  execute format('grant segmentation_jobs, segmentation_admin to %I', current_user);
  set local client_min_messages = notice;
  raise notice '%', segmentation.schedule_jobs();
end
$$;
