-- What a shard has beside the tables of a database by itself.

-- The router logs in as this role.
do $$
begin
  create role segmentation_router login replication;
exception
  when duplicate_object or unique_violation then null;
end
$$;

set local role segmentation_owner;

-- Up to which of the router's changes the catalog is here: a copy, kept by replication as the catalog is.
create table segmentation.catalog_version (
  version bigint  not null,
  one_row boolean not null default true,

  constraint catalog_version_has_one_row primary key (one_row),
  constraint catalog_version_is_true check (one_row)
);

reset role;
