-- What belongs to the database or the server and so is in no dump of it: set anew here, after a restore as well.

-- PostgreSQL lets everybody execute a new function; here nobody may, until 99_grants.sql says so.
alter default privileges for role segmentation_owner revoke execute on functions from public;

-- So that `select * from user_segments(1000)` works in psql. Appended, never put in front: unqualified names of
-- other applications in this database keep their meaning.
do $$
declare
  before text := current_setting('search_path');
  present text := (
    select substr(setting, length('search_path=') + 1)
    from pg_catalog.pg_db_role_setting,
         lateral unnest(setconfig) as setting
    where setdatabase = (select oid from pg_catalog.pg_database where datname = current_database())
      and setrole = 0
      and setting like 'search\_path=%'
  );
begin
  if coalesce(present, '') !~ '\msegmentation\M' then
    perform set_config(
      'search_path', coalesce(nullif(present, ''), '"$user", public') || ', segmentation', true);
    execute format('alter database %I set search_path from current', current_database());
    perform set_config('search_path', before, true);
  end if;
end
$$;
