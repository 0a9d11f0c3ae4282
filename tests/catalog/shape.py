"""What a database holds besides data, so that two of them can be compared."""

import psycopg

# Partitions are left out, as each database has its own months; what they bear is looked at apart.
SHAPE = """
    with
      relation as (
        select * from pg_class
        where relnamespace = 'segmentation'::regnamespace and not relispartition
      ),
      rights (kind, name, owner, acl) as (
        select 'routine', oid::regprocedure::text, proowner, coalesce(proacl, acldefault('f', proowner))
        from pg_proc where pronamespace = 'segmentation'::regnamespace
        union all
        select 'relation', oid::regclass::text, relowner, coalesce(relacl, acldefault('r', relowner))
        from relation where relkind in ('r', 'p', 'v')
        union all
        select 'sequence', oid::regclass::text, relowner, coalesce(relacl, acldefault('s', relowner))
        from relation where relkind = 'S'
        union all
        select 'column', attrelid::regclass || '.' || attname, 0, attacl
        from pg_attribute join relation on relation.oid = attrelid
        union all
        select 'type', oid::regtype::text, typowner, coalesce(typacl, acldefault('T', typowner))
        from pg_type where typnamespace = 'segmentation'::regnamespace and typname !~ '_\\d{4}_\\d\\d$'
        union all
        select 'schema', nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner))
        from pg_namespace where nspname = 'segmentation'
        union all
        select 'default', concat_ws(' ', defaclobjtype, nspname), defaclrole, defaclacl
        from pg_default_acl left join pg_namespace on pg_namespace.oid = defaclnamespace
        where defaclrole = 'segmentation_owner'::regrole
      )
    select 'routine' as kind, oid::regprocedure::text as name,
      (case when prokind in ('f', 'p') then pg_get_functiondef(oid) end, proowner::regrole)::text as shape
    from pg_proc where pronamespace = 'segmentation'::regnamespace
    union all
    select 'relation', oid::regclass::text,
      (relkind, relowner::regrole, reloptions, pg_get_partkeydef(oid), relpersistence, relrowsecurity, relforcerowsecurity,
        case relkind when 'v' then pg_get_viewdef(oid) end)::text
    from relation
    union all
    select 'rule', ev_class::regclass || '.' || rulename, pg_get_ruledef(pg_rewrite.oid)
    from pg_rewrite join relation on relation.oid = ev_class
    where rulename <> '_RETURN'
    union all
    select 'policy', polrelid::regclass || '.' || polname, polcmd::text
    from pg_policy join relation on relation.oid = polrelid
    union all
    select 'sequence', seqrelid::regclass::text, (seqincrement, seqmin, seqmax, seqcycle)::text
    from pg_sequence join relation on relation.oid = seqrelid
    union all
    select 'column', attrelid::regclass || '.' || attname,
      (format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation, attidentity, attgenerated,
        pg_get_expr(adbin, adrelid))::text
    from pg_attribute join relation on relation.oid = attrelid
    left join pg_attrdef on adrelid = attrelid and adnum = attnum
    where attnum > 0 and not attisdropped
    union all
    select 'constraint', conrelid::regclass || '.' || conname, (pg_get_constraintdef(pg_constraint.oid), convalidated,
      array(select tgenabled from pg_trigger where tgconstraint = pg_constraint.oid order by 1))::text
    from pg_constraint join relation on relation.oid = conrelid
    union all
    select 'index', indexrelid::regclass::text, (pg_get_indexdef(indexrelid), indisvalid)::text
    from pg_index join relation on relation.oid = indrelid
    union all
    select 'trigger', tgrelid::regclass || '.' || tgname, (pg_get_triggerdef(pg_trigger.oid), tgenabled)::text
    from pg_trigger join relation on relation.oid = tgrelid
    where not tgisinternal
    union all
    select 'type', oid::regtype::text, (typtype, typowner::regrole)::text
    from pg_type where typnamespace = 'segmentation'::regnamespace and typname !~ '_\\d{4}_\\d\\d$'
    union all
    select 'schema', nspname, nspowner::regrole::text
    from pg_namespace where nspname = 'segmentation'
    union all
    select 'right', kind || ' ' || name,
      string_agg((grantee::regrole, privilege_type, is_grantable)::text, ' ' order by grantee, privilege_type)
    from rights, aclexplode(acl) group by kind, name
    union all
    select 'comment', pg_identify_object(classoid, objoid, objsubid)::text, description
    from pg_description
    where (classoid, objoid) in (
      select 'pg_proc'::regclass, oid from pg_proc where pronamespace = 'segmentation'::regnamespace
      union all
      select 'pg_class'::regclass, oid from relation
      union all
      select 'pg_class'::regclass, indexrelid from pg_index join relation on relation.oid = indrelid
      union all
      select 'pg_type'::regclass, oid from pg_type where typnamespace = 'segmentation'::regnamespace
      union all
      select 'pg_namespace'::regclass, oid from pg_namespace where nspname = 'segmentation'
      union all
      select 'pg_trigger'::regclass, pg_trigger.oid from pg_trigger join relation on relation.oid = tgrelid
      union all
      select 'pg_constraint'::regclass, oid from pg_constraint where connamespace = 'segmentation'::regnamespace
    )
    union all
    select 'setting', setrole::regrole::text, setconfig::text
    from pg_db_role_setting
    where setdatabase = (select oid from pg_database where datname = current_database())
      or setdatabase = 0 and setrole in (select oid from pg_roles where rolname ~ '^segmentation_')
    union all
    select 'role', rolname, (rolcanlogin, rolinherit, rolsuper, array(
      select held.rolname::text from pg_auth_members join pg_roles as held on held.oid = roleid
      where member = pg_roles.oid order by 1))::text
    from pg_roles where rolname ~ '^segmentation_'
    order by 1, 2
"""


def shape(url: str) -> list[tuple]:
    """Everything the schema is made of, data aside."""
    with psycopg.connect(url) as connection:
        connection.execute("set search_path = pg_catalog")
        return connection.execute(SHAPE.encode()).fetchall()


def differences(before: list[tuple], after: list[tuple]) -> list[str]:
    """What is in one and not in the other, each in a line."""
    return sorted(" ".join(f"{part}" for part in each)[:500] for each in set(before) ^ set(after))
