-- The four roles and the one schema. Roles belong to the whole server, so each is created only if
-- it is missing: a second database of the same server shares them.

do $$
declare
  role_name text;
begin
  foreach role_name in array array[
    'segmentation_owner', 'segmentation_reader', 'segmentation_editor', 'segmentation_admin'
  ] loop
    begin
      execute format('create role %I nologin', role_name);
    exception
      -- Two databases migrated at once: whoever comes second finds the role, one way or the other.
      when duplicate_object or unique_violation then null;
    end;
  end loop;
  -- pg_cron runs jobs as a role that may log in; this one has no password and may only sweep.
  begin
    create role segmentation_jobs login;
  exception
    when duplicate_object or unique_violation then null;
  end;
  -- The service logs in as this role and picks one of the three by SET ROLE; it inherits nothing.
  begin
    create role segmentation_service login noinherit;
  exception
    when duplicate_object or unique_violation then null;
  end;
  -- On managed servers the migrating role is no superuser: it must be a member to act as the owner.
  execute format('grant segmentation_owner to %I', current_user);
end
$$;

grant segmentation_reader to segmentation_editor;
grant segmentation_editor to segmentation_admin;
grant segmentation_reader, segmentation_editor, segmentation_admin to segmentation_service;

create schema if not exists segmentation;
alter schema segmentation owner to segmentation_owner;
grant usage on schema segmentation to segmentation_reader, segmentation_jobs;

-- PostgreSQL lets everybody execute a new function; here nobody may, until sql/99_grants.sql says so.
alter default privileges for role segmentation_owner revoke execute on functions from public;

-- So that `select * from user_segments(1000)` works in psql. Appended, never put in front: unqualified
-- names of other applications in this database keep their meaning.
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
begin
  if coalesce(present, '') !~ '\msegmentation\M' then
    execute format(
      'alter database %I set search_path = %s',
      current_database(), coalesce(nullif(present, ''), '"$user", public') || ', segmentation');
  end if;
end
$$;
