-- The roles of this schema: they belong to the whole server and so are in no dump of a database.
--
-- migrations/ create them. Here stands how they are and who holds whom, again at each deploy, so that it is
-- true after a restore into another server, and after anybody's experiments. Only what differs is changed.

do $$
declare
  wrong record;
  short text[] := '{log_error_verbosity=terse,log_min_error_statement=panic}';
begin
  for wrong in
    select r.rolname, w.login, w.inherit
    from (
      values
        ('segmentation_owner', false, true),
        ('segmentation_evaluator', false, true),
        ('segmentation_reader', false, true),
        ('segmentation_editor', false, true),
        ('segmentation_admin', false, true),
        -- pg_cron runs jobs as the first; the service logs in as the second, and picks a role by SET ROLE.
        ('segmentation_jobs', true, true),
        ('segmentation_service', true, false)
    ) as w (name, login, inherit)
    join pg_catalog.pg_roles as r on r.rolname = w.name
    where (r.rolcanlogin, r.rolinherit) <> (w.login, w.inherit)
  loop
    execute format(
      'alter role %I %s %s',
      wrong.rolname,
      case when wrong.login then 'login' else 'nologin' end,
      case when wrong.inherit then 'inherit' else 'noinherit' end);
    raise notice 'role % is as it should be again', wrong.rolname;
  end loop;

  -- An admin may do what an editor may, and so on down to an evaluator. No other of these roles holds another.
  for wrong in
    select coalesce(w.held, m.held) as held, coalesce(w.holder, m.holder) as holder, m.held is null as missing
    from (
      values
        ('segmentation_evaluator', 'segmentation_reader'),
        ('segmentation_reader', 'segmentation_editor'),
        ('segmentation_editor', 'segmentation_admin'),
        ('segmentation_evaluator', 'segmentation_service'),
        ('segmentation_reader', 'segmentation_service'),
        ('segmentation_editor', 'segmentation_service'),
        ('segmentation_admin', 'segmentation_service')
    ) as w (held, holder)
    full join (
      select distinct held.rolname::text as held, holder.rolname::text as holder
      from pg_catalog.pg_auth_members as a
      join pg_catalog.pg_roles as held on held.oid = a.roleid
      join pg_catalog.pg_roles as holder on holder.oid = a.member
      where held.rolname ~ '^segmentation_(owner|evaluator|reader|editor|admin|jobs|service)$'
        and holder.rolname ~ '^segmentation_(owner|evaluator|reader|editor|admin|jobs|service)$'
    ) as m on m.held = w.held and m.holder = w.holder
    where w.held is null or m.held is null
  loop
    if wrong.missing then
      execute format('grant %I to %I', wrong.held, wrong.holder);
    else
      execute format('revoke %I from %I', wrong.held, wrong.holder);
      raise notice 'role % does not hold % any more', wrong.holder, wrong.held;
    end if;
  end loop;

  -- Nothing is set for them but how the service's errors are logged. Members do not inherit settings of a role: set
  -- what you want for your own logins.
  for wrong in
    select r.rolname, s.setdatabase, s.setconfig
    from pg_catalog.pg_db_role_setting as s
    join pg_catalog.pg_roles as r on r.oid = s.setrole
    where r.rolname ~ '^segmentation_(owner|evaluator|reader|editor|admin|jobs|service)$'
      and s.setdatabase in (0, (select d.oid from pg_catalog.pg_database as d where d.datname = current_database()))
      and not (r.rolname = 'segmentation_service' and s.setdatabase = 0 and s.setconfig <@ short)
  loop
    if wrong.setdatabase = 0 then
      execute format('alter role %I reset all', wrong.rolname);
    else
      execute format('alter role %I in database %I reset all', wrong.rolname, current_database());
    end if;
    raise notice 'settings of role % are gone: %', wrong.rolname, wrong.setconfig;
  end loop;

  -- A client's 404 or 422 is an error in PostgreSQL's log. For the service's login it is one line, without DETAIL, CONTEXT
  -- and STATEMENT. Only a superuser may set that, or whom one granted it.
  if has_parameter_privilege('log_error_verbosity', 'set') and has_parameter_privilege('log_min_error_statement', 'set')
    and not exists (
      select
      from pg_catalog.pg_db_role_setting as s
      where s.setrole = 'segmentation_service'::regrole and s.setdatabase = 0 and s.setconfig @> short
    )
  then
    alter role segmentation_service set log_error_verbosity = 'terse';
    alter role segmentation_service set log_min_error_statement = 'panic';
  end if;
end
$$;
