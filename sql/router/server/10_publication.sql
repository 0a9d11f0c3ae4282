-- The catalog, as shards get it. What is swept is each shard's own; what is generated each computes.

do $$
declare
  wanted text := $tables$
    segmentation.catalog_version,
    segmentation.layer_cells,
    segmentation.layers,
    segmentation.rollouts,
    segmentation.segment_history,
    segmentation.segments (segment_id, slug, description, salt, created_at, deleted_at, layer_id)
  $tables$;
begin
  if not exists (select from pg_catalog.pg_publication as p where p.pubname = 'segmentation_catalog') then
    execute 'create publication segmentation_catalog for table ' || wanted;
    alter publication segmentation_catalog owner to segmentation_owner;
  else
    execute 'alter publication segmentation_catalog set table ' || wanted;
  end if;
end
$$;
