-- Each change of the catalog knows the one before it, so that a shard notices what it has missed.

set local role segmentation_owner;

alter table segmentation.catalog_version
  add column change uuid,
  add column after  uuid;

reset role;
