-- Takes the schema away with all it holds. Roles stay while another database of the server uses them.

-- Jobs first: pg_cron stumbles over a job whose role is gone.
do $$
declare
  caller text := current_setting('role');
  job record;
begin
  if exists (
    select from pg_catalog.pg_class as c where c.relname = 'job' and c.relnamespace = to_regnamespace('cron')
  ) and has_schema_privilege('segmentation_jobs', 'cron', 'usage') then
    -- As the role whose jobs they are.
    perform set_config('role', 'segmentation_jobs', true);
    for job in select j.jobname from cron.job as j where j.username = 'segmentation_jobs' loop
      perform cron.unschedule(job.jobname::text::name);
    end loop;
    perform set_config('role', caller, true);
    revoke usage on schema cron from segmentation_jobs;
  end if;
end
$$;

drop schema if exists segmentation cascade;

alter default privileges for role segmentation_owner grant execute on functions to public;

do $$
declare
  present text := (
    select split_part(setting, '=', 2)
    from pg_catalog.pg_db_role_setting,
         lateral unnest(setconfig) as setting
    where setdatabase = (select oid from pg_catalog.pg_database where datname = current_database())
      and setrole = 0
      and setting like 'search_path=%'
  );
  before text := current_setting('search_path');
  role_name text;
begin
  if present is not null then
    -- "" stands for an empty one; SQL has no other way to write that down again than "from current".
    perform set_config(
      'search_path',
      coalesce(
        nullif(
          regexp_replace(regexp_replace(present, '(^|,)\s*"?segmentation"?\s*(?=,|$)', ''), '^\s*,\s*', ''),
          ''),
        '""'),
      true);
    execute format('alter database %I set search_path from current', current_database());
    perform set_config('search_path', before, true);
  end if;
  -- Roles that another database of this server uses stay, all of them.
  if exists (
    select
    from pg_catalog.pg_shdepend as d
    join pg_catalog.pg_roles as r on r.oid = d.refobjid
    where d.refclassid = 'pg_catalog.pg_authid'::regclass and r.rolname = 'segmentation_owner'
      and d.dbid not in (0, (select oid from pg_catalog.pg_database where datname = current_database()))
  ) then
    return;
  end if;
  foreach role_name in array array[
    'segmentation_service', 'segmentation_jobs', 'segmentation_admin',
    'segmentation_editor', 'segmentation_reader', 'segmentation_owner'
  ] loop
    begin
      execute format('drop role if exists %I', role_name);
    exception
      when dependent_objects_still_exist then
        raise notice 'role "%" stays: something else on this server depends on it', role_name;
    end;
  end loop;
end
$$;
