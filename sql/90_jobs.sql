-- What pg_cron does for the service: housekeeping, nothing that an answer depends on.
--
-- Jobs run as segmentation_jobs, a role that may log in, has no password and can execute just what they
-- call. Five-field schedules in GMT and short names are what pg_cron 1.4 and all later versions share.
-- sql/server/30_jobs.sql calls schedule_jobs at each deploy: a job that is as it should be is not touched.

create or replace function segmentation.jobs ()
  returns table (name text, schedule text, command text)
  language sql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
  values
    ('segmentation-sweep', '* * * * *', 'call segmentation.sweep()'),
    ('segmentation-partitions', '17 1 * * *', 'select segmentation.ensure_history_partitions(3)'),
    ('segmentation-purge', '*/10 * * * *', 'select segmentation.purge_expired()'),
    -- pg_cron never empties its own log; a role sees and deletes the lines of its own jobs.
    (
      'segmentation-job-log', '27 1 * * *',
      $job$delete from cron.job_run_details where end_time < now() - interval '7 days'$job$)
$$;

comment on function segmentation.jobs() is
  'For the service: the jobs that schedule_jobs schedules. Example: select * from jobs();';

create or replace function segmentation.schedule_jobs () returns text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  caller text := current_setting('role');
  names text[];
  schedules text[];
  commands text[];
  job record;
begin
  if not exists (
    select from pg_catalog.pg_class as c where c.relname = 'job' and c.relnamespace = to_regnamespace('cron')
  ) then
    return format(
      'pg_cron is not in database "%s": everything works, but nothing is tidied up. Have another scheduler run '
      '"call segmentation.sweep()" each minute and "select segmentation.ensure_history_partitions(), '
      'segmentation.purge_expired()" each day; pg_cron in another database of this server can: '
      'cron.schedule_in_database.', current_database());
  end if;
  if not has_schema_privilege('segmentation_jobs', 'cron', 'usage') then
    return 'pg_cron is here, but nothing is scheduled: have its owner run "grant usage on schema cron to '
      'segmentation_jobs", then migrate again.';
  end if;
  select array_agg(j.name), array_agg(j.schedule), array_agg(j.command) into names, schedules, commands
  from segmentation.jobs() as j;
  -- A job runs as the role that schedules it.
  perform set_config('role', 'segmentation_jobs', true);
  for job in
    select coalesce(wanted.name, present.jobname::text)::name as name, wanted.schedule, wanted.command
    from unnest(names, schedules, commands) as wanted (name, schedule, command)
    full join (
      select j.jobname::text, j.schedule, j.command
      from cron.job as j
      where j.username = 'segmentation_jobs' and j.jobname ~ '^segmentation-' and j.database = current_database()
    ) as present on present.jobname = wanted.name
    where (present.schedule, present.command) is distinct from (wanted.schedule, wanted.command)
  loop
    if job.command is null then
      perform cron.unschedule(job.name);
    else
      perform cron.schedule(job.name, job.schedule, job.command);
    end if;
  end loop;
  perform set_config('role', caller, true);
  return format(
    'pg_cron runs %s jobs: sweep each minute, purge each ten minutes, partitions and its own log each day.',
    cardinality(names));
end
$$;

comment on function segmentation.schedule_jobs() is
  'Schedule the pg_cron jobs of this schema and take away those of earlier versions; running it again changes nothing. Example: select schedule_jobs();';
