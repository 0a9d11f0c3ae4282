-- What belongs to the database and not to the schema, and so is in no dump of the schema alone.

-- PostgreSQL lets everybody execute a new function; here nobody may, until sql/99_grants.sql says so. There is no
-- other default privilege.
do $$
declare
  wrong record;
begin
  if not exists (
    select
    from pg_catalog.pg_default_acl as d
    where d.defaclrole = 'segmentation_owner'::regrole and d.defaclnamespace = 0 and d.defaclobjtype = 'f'
  ) then
    alter default privileges for role segmentation_owner revoke execute on functions from public;
  end if;
  for wrong in
    select
      a.privilege_type as privilege,
      case d.defaclobjtype
        when 'f' then 'functions' when 'r' then 'tables' when 'S' then 'sequences' when 'T' then 'types' else 'schemas'
      end as objects,
      'in schema ' || quote_ident(n.nspname) as place,
      case a.grantee when 0 then 'public' else a.grantee::regrole::text end as grantee
    from pg_catalog.pg_default_acl as d
    left join pg_catalog.pg_namespace as n on n.oid = d.defaclnamespace
    cross join lateral aclexplode(d.defaclacl) as a
    where d.defaclrole = 'segmentation_owner'::regrole and a.grantee <> d.defaclrole
      -- PostgreSQL's own default: anybody may use a type.
      and not (d.defaclobjtype = 'T' and d.defaclnamespace = 0 and a.grantee = 0)
  loop
    execute format(
      'alter default privileges for role segmentation_owner %s revoke %s on %s from %s',
      wrong.place, wrong.privilege, wrong.objects, wrong.grantee);
    raise notice '% on new % is not given to % any more', wrong.privilege, wrong.objects, wrong.grantee;
  end loop;
end
$$;

-- So that `select * from user_segments(1000)` works in psql. Appended, never put in front: unqualified names of
-- other applications in this database keep their meaning. It has a price: whoever may create in a schema that
-- stands before ours can put a function user_segments there, and psql calls theirs. In a database that comes from
-- PostgreSQL 14 or earlier, everybody may create in public. The service, our functions and migrating each set a
-- search path of their own, so they never look there.
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
  if coalesce(present, '') !~ '(^|,)\s*"?segmentation"?\s*(,|$)' then
    perform set_config(
      'search_path', coalesce(nullif(present, ''), '"$user", public') || ', segmentation', true);
    execute format('alter database %I set search_path from current', current_database());
    perform set_config('search_path', before, true);
  end if;
  if exists (
    select
    from pg_catalog.pg_namespace as n
    cross join lateral aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) as a
    where n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE'
  ) then
    raise notice 'any login may create in schema public and so put a function in front of ours in psql: "revoke '
      'create on schema public from public", unless an application needs it';
  end if;
end
$$;
