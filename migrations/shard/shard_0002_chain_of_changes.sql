-- Each change of the catalog knows the one before it, so that a shard notices what it has missed, and says so until the
-- catalog is copied anew.

set local role segmentation_owner;

alter table segmentation.catalog_version
  add column change    uuid,
  add column after     uuid,
  add column missed_at timestamptz;

reset role;
