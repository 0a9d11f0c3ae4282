-- A deploy gives what get_segment returns a column more, the layer. Two functions of 1.0.0 return all that it returns,
-- and PL/pgSQL looks for it only when it comes to it: a call that waits while the deploy is made would return a column
-- too many, and fail. From here on they name their columns. A newer database has no such functions.

set local role segmentation_owner;

do $$
declare
  definition text;
begin
  for definition in
    select pg_get_functiondef(p.oid)
    from pg_proc as p
    where p.pronamespace = 'segmentation'::regnamespace
      and p.proname in ('create_segment', 'update_segment')
      and 5 = (
        select count(*)
        from pg_attribute as a
        where a.attrelid = to_regclass('segmentation.living_segments') and a.attnum > 0
      )
  loop
    execute regexp_replace(
      definition,
      'select \* from (segmentation\.get_segment\([a-z_.]+\));',
      'select g.slug, g.description, g.percent, g.created_at, g.salt from \1 as g;');
  end loop;
end
$$;

reset role;
