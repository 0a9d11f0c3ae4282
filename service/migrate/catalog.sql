-- What the schema segmentation is made of, as PostgreSQL's catalog tells it: one row a thing.
--
-- step     0: what migrations/ make; 1: routines, views, triggers, and what else changes what a statement does;
--          2: comments and grants, which need the others
-- oid      in the order of these, things were made
-- name     the same thing on two databases has the same name
-- state    equal things have the same state
-- makes    the statement that makes it, or replaces what is there
-- drops    the statement that takes it away, or out of the way: see catalog.py
-- takes    of a routine: how many arguments a call may give
--
-- Of partitions only what their table has not given them, which nobody wants: each database has its own months. Storage
-- parameters of tables and indexes, such as those of autovacuum, are left out: who looks after a database may tune it.
with
  relations as (
    select c.*, c.oid::regclass::text as name
    from pg_class as c
    where c.relnamespace = 'segmentation'::regnamespace
      and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
      and not c.relispartition
      and not (c.relkind = 'v' and c.relname ~ '^outdated_\d+_')
  ),
  partitions as (
    select c.*, c.oid::regclass::text as name, i.inhparent as parent
    from pg_class as c
    join pg_inherits as i on i.inhrelid = c.oid
    where c.relnamespace = 'segmentation'::regnamespace and c.relkind in ('r', 'p') and c.relispartition
  ),
  tables as (
    select oid, name, relowner, relrowsecurity, relforcerowsecurity, 0::oid as parent from relations
    union all
    select oid, name, relowner, relrowsecurity, relforcerowsecurity, parent from partitions
  ),
  routines as (
    select
      p.*, p.oid::regprocedure::text as name,
      case when p.prokind in ('f', 'p') then pg_get_functiondef(p.oid) end as definition,
      left(format('outdated_%s_%s', p.oid, p.proname), 63) as outdated_name,
      regexp_replace(p.proname, '(\W)', '\\\1', 'g') as pattern,
      l.lanpltrusted as is_trusted
    from pg_proc as p
    join pg_language as l on l.oid = p.prolang
    where p.pronamespace = 'segmentation'::regnamespace and p.proname !~ '^outdated_\d+_'
      -- Those of an extension or a type come and go with it.
      and not exists (
        select from pg_depend as d
        where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype in ('e', 'i')
      )
  ),
  views as (
    select
      r.*,
      format(
        'create or replace view %s%s as %s',
        r.name, ' with (' || array_to_string(r.reloptions, ', ') || ')', pg_get_viewdef(r.oid)) as definition
    from relations as r
    where r.relkind = 'v'
  ),
  triggers as (
    select
      t.oid, format('%I on %s', t.tgname, r.name) as name,
      format(
        '%s; alter table %s %s trigger %I',
        regexp_replace(pg_get_triggerdef(t.oid), '^CREATE TRIGGER', 'create or replace trigger'),
        r.name,
        case t.tgenabled
          when 'O' then 'enable' when 'D' then 'disable' when 'A' then 'enable always' else 'enable replica'
        end,
        t.tgname) as definition
    from pg_trigger as t
    join tables as r on r.oid = t.tgrelid
    where not t.tgisinternal
      -- guard_history_partition gives a partition the triggers of its table.
      and not exists (select from pg_trigger as o where o.tgrelid = r.parent and o.tgname = t.tgname)
  ),
  -- A rule and row security change what a statement does as a trigger may. sql/ has none of them.
  rules as (
    select r.oid, format('rule %I on %s', r.rulename, t.name) as name, pg_get_ruledef(r.oid) as state, null as drops
    from pg_rewrite as r
    join tables as t on t.oid = r.ev_class
    where r.rulename <> '_RETURN'
    union all
    select p.oid, format('policy %I on %s', p.polname, t.name), '', null
    from pg_policy as p
    join tables as t on t.oid = p.polrelid
    union all
    select
      t.oid, format('row security on %s', t.name), '',
      format('alter table %s disable row level security, no force row level security', t.name)
    from tables as t
    where t.relrowsecurity or t.relforcerowsecurity
  ),
  -- Those that are neither the row of a table nor an array.
  types as (
    select t.*, t.oid::regtype::text as name
    from pg_type as t
    left join pg_class as c on c.oid = t.typrelid
    where t.typnamespace = 'segmentation'::regnamespace and t.typelem = 0 and coalesce(c.relkind, 'c') = 'c'
  ),
  columns as (
    select
      format('%s.%I', r.name, a.attname) as name,
      concat_ws(
        ' ',
        format_type(a.atttypid, a.atttypmod),
        'collate ' || nullif(a.attcollation, 0)::regcollation::text,
        case when a.attnotnull then 'not null' end,
        'identity ' || nullif(a.attidentity::text, ''),
        'generated ' || nullif(a.attgenerated::text, ''),
        'default ' || pg_get_expr(d.adbin, d.adrelid)) as state
    from (
      select oid, name, relkind = 'v' as is_of_view from relations where relkind <> 'S'
      union all
      select typrelid, name, false from types where typrelid <> 0
    ) as r
    join pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    -- A view says itself what its columns are, but not what they are by default.
    where not r.is_of_view or d.oid is not null
  ),
  grants as (
    select
      concat(a.privilege_type, ' (' || g.column_name || ')') as privilege, g.name,
      case a.grantee when 0 then 'public' else a.grantee::regrole::text end as grantee,
      case when a.is_grantable then ' with grant option' else '' end as option
    from (
      select
        'routine ' || name as name, null as column_name, proowner as owner,
        coalesce(proacl, acldefault('f', proowner)) as acl
      from routines
      union all
      select 'table ' || name, null, relowner, coalesce(relacl, acldefault('r', relowner))
      from relations
      where relkind <> 'S'
      union all
      select 'sequence ' || name, null, relowner, coalesce(relacl, acldefault('s', relowner))
      from relations
      where relkind = 'S'
      union all
      select 'table ' || t.name, quote_ident(a.attname), t.relowner, a.attacl
      from tables as t
      join pg_attribute as a on a.attrelid = t.oid
      union all
      select 'type ' || name, null, typowner, coalesce(typacl, acldefault('T', typowner)) from types
      union all
      select 'schema ' || nspname, null, nspowner, coalesce(nspacl, acldefault('n', nspowner))
      from pg_namespace
      where oid = 'segmentation'::regnamespace
      -- Of partitions only this: nobody is given a right to one.
      union all
      select 'table ' || name, null, relowner, relacl from partitions
    ) as g
    cross join lateral aclexplode(g.acl) as a
    -- An owner can lose rights, too. Of what others own, and of partitions, only what others were given is of interest.
    where a.grantee <> g.owner
      or g.owner = 'segmentation_owner'::regrole
        and g.name not in (select 'table ' || p.name from partitions as p)
  ),
  comments as (
    select
      d.description,
      regexp_replace(i.type, '^(table|view|composite type|composite) ', '') || ' ' || i.identity as name
    from pg_description as d
    cross join lateral pg_identify_object(d.classoid, d.objoid, d.objsubid) as i
    where (d.classoid, d.objoid) in (
      select 'pg_proc'::regclass, oid from routines
      union all
      select 'pg_class'::regclass, oid from relations
      union all
      select 'pg_class'::regclass, indexrelid from pg_index where indrelid in (select oid from relations)
      union all
      select 'pg_trigger'::regclass, oid from triggers
      union all
      select 'pg_type'::regclass, oid from types
      union all
      select 'pg_class'::regclass, typrelid from types
      union all
      select 'pg_constraint'::regclass, oid from pg_constraint where conrelid in (select oid from relations)
    )
  )
select
  1 as step, oid, case prokind when 'p' then 'procedure ' else 'function ' end || name as name,
  concat_ws(' ', proowner::regrole, definition) as state,
  -- Only a superuser makes what is written in a language such as PL/Proxy.
  case when is_trusted or definition is null then definition else format(
    'reset role; %s; alter function %s owner to segmentation_owner; set local role segmentation_owner', definition, name)
  end as makes,
  -- A body calls its parameters by the name of its function.
  concat_ws(
    ';' || chr(10), format('alter routine %s rename to %I', name, outdated_name),
    case when is_trusted then regexp_replace(
      regexp_replace(definition, '\m' || pattern || '\(', outdated_name || '('),
      '\m' || pattern || '\.', outdated_name || '.', 'g')
    end) as drops,
  int4range(pronargs - pronargdefaults, case provariadic when 0 then pronargs + 1 end) as takes
from routines
union all
select
  1, oid, 'view ' || name, concat_ws(' ', relowner::regrole, definition), definition,
  format('alter view %s rename to %I', name, left(format('outdated_%s_%s', oid, relname), 63)),
  null
from views
union all
select 1, oid, 'trigger ' || name, definition as state, definition as makes, 'drop trigger ' || name, null
from triggers
union all
select 1, oid, name, state, null, coalesce(drops, 'drop ' || name), null
from rules
union all
select
  2, 0, 'comment on ' || name, description,
  format('comment on %s is %L', name, description), format('comment on %s is null', name), null
from comments
union all
select
  2, 0, format('%s on %s to %s%s', privilege, name, grantee, option), '',
  format('grant %s on %s to %s%s', privilege, name, grantee, option),
  format('revoke %s on %s from %s cascade', privilege, name, grantee), null
from grants
union all
select
  0, 0,
  case r.relkind
    when 'S' then 'sequence ' when 'm' then 'materialized view ' when 'f' then 'foreign table ' else 'table '
  end || r.name,
  concat_ws(
    ' ',
    r.relowner::regrole, case r.relpersistence when 'u' then 'unlogged' end, 'partition by ' || pg_get_partkeydef(r.oid),
    (
      select 'with partitions other than it: ' || string_agg(c.oid::regclass::text, ' ' order by c.relname)
      from pg_inherits as i
      join pg_class as c on c.oid = i.inhrelid
      where i.inhparent = r.oid and (c.relowner, c.relpersistence) <> (r.relowner, r.relpersistence)
    ),
    (
      select concat_ws(' ', 'steps of', s.seqincrement, 'from', s.seqmin, 'to', s.seqmax, case when s.seqcycle then 'cycle' end)
      from pg_sequence as s
      where s.seqrelid = r.oid
    )),
  null, null, null
from relations as r
where r.relkind <> 'v'
union all
select 0, 0, 'type ' || name, concat_ws(' ', typowner::regrole, 'kind', typtype), null, null, null
from types
union all
select 0, 0, 'column ' || name, state, null, null, null
from columns
union all
select
  0, 0, format('constraint %I on %s', c.conname, r.name),
  concat_ws(
    ' ',
    pg_get_constraintdef(c.oid),
    (
      select '(disabled)' from pg_trigger as t where t.tgconstraint = c.oid and t.tgenabled <> 'O' limit 1
    )),
  null, null, null
from pg_constraint as c
join tables as r on r.oid = c.conrelid
where c.contype in ('c', 'f', 'p', 'u', 'x')
  and (r.parent = 0 or c.conparentid = 0 and c.coninhcount = 0)
  -- Each shard has slots of its own: sql/shard/.
  and c.conname !~ '_of_this_shard$'
union all
select
  0, 0, 'index ' || i.indexrelid::regclass,
  concat_ws(
    ' ',
    regexp_replace(pg_get_indexdef(i.indexrelid), ' WITH \([^)]*\)', ''),
    case when not i.indisvalid then '(invalid)' end),
  null, null, null
from pg_index as i
join tables as r on r.oid = i.indrelid
where r.parent = 0 or not exists (select from pg_inherits as p where p.inhrelid = i.indexrelid)
union all
-- Operators, configurations of text search and whatever else a schema can hold.
select 0, 0, o.type || ' ' || o.identity, '', null, null, null
from pg_depend as d
cross join lateral pg_identify_object(d.classid, d.objid, 0) as o
where d.refclassid = 'pg_namespace'::regclass and d.refobjid = 'segmentation'::regnamespace
  and d.classid not in ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass, 'pg_default_acl'::regclass)
order by step, oid
