-- The manual: what there is to call, by whom, with an example, from the comments of the functions themselves.
--
-- psql's \df+ shows the same among the sources of all functions, where those that only other functions call are
-- marked as internal.

create or replace function segmentation.manual (
  word text default null
)
  returns table (function text, role text, manual text)
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select
    p.proname::text,
    r.role,
    -- How it is called, with what may be left out in brackets; what it is for, in lines of a page's width; examples.
    p.proname || '(' || array_to_string(a.names[:p.pronargs - p.pronargdefaults], ', ')
      || case when p.pronargdefaults = 0 then '' else
        case when p.pronargs > p.pronargdefaults then ' [, ' else '[' end
          || array_to_string(a.names[p.pronargs - p.pronargdefaults + 1:], ', ') || ']' end || E')\n'
      || regexp_replace(d.parts[1], '(.{1,90})(\s+|$)', E'    \\1\n', 'g')
      || regexp_replace(d.parts[2], '; (?=\S)', E';\n', 'g')
  from pg_proc as p
  cross join lateral (
    select array(
      select n.name from unnest(p.proargnames) with ordinality as n (name, position)
      where n.position <= p.pronargs
      order by n.position
    )
  ) as a (names)
  cross join lateral regexp_match(obj_description(p.oid, 'pg_proc'), '^(.*) Example: (.*)$') as d (parts)
  cross join lateral (
    select k.position, k.role
    from unnest('{evaluator,reader,editor,admin}'::text[]) with ordinality as k (role, position)
    where has_function_privilege('segmentation_' || k.role, p.oid, 'execute')
    order by k.position
    limit 1
  ) as r
  where p.pronamespace = 'segmentation'::regnamespace
    -- What only the service calls.
    and p.proname !~ '^(http|ofrep)_'
    and p.proname not in (
      'assert_bucket_vectors', 'authenticate_api_key', 'claim_idempotency_key', 'expiry', 'keep_answer',
      'linked_pages', 'note_upkeep', 'report_page', 'require_at_most', 'rfc3339', 'rollout_json')
    and (manual.word is null or position(lower(manual.word) in lower(p.proname || ' ' || d.parts[1])) > 0)
  order by r.position, p.proname
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
