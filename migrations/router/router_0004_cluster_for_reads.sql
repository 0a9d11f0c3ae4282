-- The cluster of shards once more, whose sessions have a limit: for reads that are answered together, and for health.
-- Whatever may take long goes without one.

do $$
begin
  if exists (select from pg_catalog.pg_foreign_server as s where s.srvname = 'segmentation_shards')
    and not exists (select from pg_catalog.pg_foreign_server as s where s.srvname = 'segmentation_reads')
  then
    execute (
      select format(
        'create server segmentation_reads foreign data wrapper plproxy options (query_timeout ''1'', %s)',
        string_agg(
          format(
            '%I %L', split_part(o, '=', 1),
            substr(o, strpos(o, '=') + 1) || ' options=''-clock_timeout=900ms -cstatement_timeout=1s'''),
          ', '))
      from pg_catalog.pg_foreign_server as s
      cross join unnest(s.srvoptions) as o
      where s.srvname = 'segmentation_shards'
    );
    alter server segmentation_reads owner to segmentation_owner;
    execute (
      select format(
        'create user mapping for segmentation_owner server segmentation_reads options (%s)',
        string_agg(format('%I %L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', '))
      from pg_catalog.pg_user_mappings as m
      cross join unnest(m.umoptions) as o
      where m.srvname = 'segmentation_shards'
    );
  end if;
end
$$;
