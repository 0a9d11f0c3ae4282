-- The manual: what there is to call, by whom, with an example, from the comments of the functions themselves.
--
-- The first words of a comment say whom a function is for; nothing else lists them:
--
--     For the service: …    what the HTTP layer calls, and the helpers that its calls need
--     Internal: …           what only other functions of this schema call; written below for all without a comment
--     anything else         what people call, with "Example: …" at the end
--
-- They share one schema, since a grant says who may call what, and one name is enough for psql. \df+ shows the first
-- words beside each function; manual() shows what people call, in 80 columns.

create or replace function segmentation.functions_for_people ()
  returns table (function text, role text, call text, what text, examples text[])
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select
    p.proname::text,
    r.role,
    -- What may be left out stands in brackets.
    p.proname || '(' || array_to_string(a.names[:p.pronargs - p.pronargdefaults], ', ')
      || case
        when p.pronargdefaults = 0 then ''
        else case when p.pronargs > p.pronargdefaults then ' [, ' else '[' end
          || array_to_string(a.names[p.pronargs - p.pronargdefaults + 1:], ', ') || ']'
      end || ')',
    c.parts[1],
    -- Several are parted by "; ", which is how psql takes them as well.
    regexp_split_to_array(c.parts[2], '(?<=;) (?=\S)')
  from pg_proc as p
  cross join lateral (
    select array(
      select n.name
      from unnest(p.proargnames) with ordinality as n (name, position)
      where n.position <= p.pronargs
      order by n.position
    )
  ) as a (names)
  cross join lateral (select obj_description(p.oid, 'pg_proc')) as d (comment)
  cross join lateral regexp_match(d.comment, '^(.*) Example: (.*)$') as c (parts)
  cross join lateral (
    select k.position, k.role
    from unnest('{evaluator,reader,editor,admin}'::text[]) with ordinality as k (role, position)
    where has_function_privilege('segmentation_' || k.role, p.oid, 'execute')
    order by k.position
    limit 1
  ) as r
  where p.pronamespace = 'segmentation'::regnamespace and d.comment !~ '^(For the service|Internal): '
  order by r.position, p.proname
$$;

-- A call too long for a line is broken where an argument ends; one of psql's own commands takes no break.
create or replace function segmentation.wrapped (
  call text
)
  returns text
  language sql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
  select case
    when length(wrapped.call) <= 76 or wrapped.call ~ '^\\' then wrapped.call
    else regexp_replace(wrapped.call, '(.{20,70},) ', E'\\1\n  ', 'g')
  end
$$;

create or replace function segmentation.manual (
  word text default null
)
  returns table (manual text)
  language sql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
  select
    segmentation.wrapped(f.call) || E'\n'
    || regexp_replace(f.what || ' Role: ' || f.role || '.', '(.{1,70})(\s+|$)', E'    \\1\n', 'g')
    || (
      select string_agg(segmentation.wrapped(e.example), E'\n' order by e.position)
      from unnest(f.examples) with ordinality as e (example, position)
    ) || E'\n'
  from segmentation.functions_for_people() with ordinality as f (function, role, call, what, examples, position)
  where manual.word is null or position(lower(manual.word) in lower(f.function || ' ' || f.what)) > 0
  order by f.position
$$;

comment on function segmentation.manual(text) is
  'What there is to call, by whom, with an example; all of it, or what concerns a word. Example: select * from manual(''report'');';

do $$
declare
  helper name;
begin
  for helper in
    select p.proname from pg_catalog.pg_proc as p
    where p.pronamespace = 'segmentation'::regnamespace and obj_description(p.oid, 'pg_proc') is null
  loop
    -- No two have the same name.
    execute format(
      'comment on routine segmentation.%I is %L',
      helper, 'Internal: called by other functions of this schema, not by people.');
  end loop;
end
$$;
