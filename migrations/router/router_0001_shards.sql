-- What a router has beside the tables of a database by itself. PL/Proxy calls its shards; dblink prepares and commits
-- on them.

create schema if not exists segmentation_remote;
create extension if not exists plproxy schema segmentation_remote;
create extension if not exists dblink schema segmentation_remote;
grant usage on schema segmentation_remote to segmentation_owner;
grant usage on foreign data wrapper plproxy, dblink_fdw to segmentation_owner;

-- Shards fetch the catalog as this role; the router logs in as it on shards, and on itself.
do $$
begin
  create role segmentation_router login replication;
exception
  when duplicate_object or unique_violation then null;
end
$$;

set local role segmentation_owner;

-- Users are dealt to 256 slots for ever, and slots to shards.
create table segmentation.slots (
  slot  integer not null,
  shard text    not null,

  constraint slots_pkey primary key (slot),
  constraint slots_are_256 check (slot between 0 and 255),
  constraint slots_shard_has_valid_form check (shard ~ '^[a-z][a-z0-9_]{0,30}$')
);

-- Counts the transactions that changed the catalog, in the order of their commits. It reaches the shards with them.
create table segmentation.catalog_version (
  version bigint  not null,
  one_row boolean not null default true,

  constraint catalog_version_has_one_row primary key (one_row),
  constraint catalog_version_is_true check (one_row)
);

-- What was decided about a change that was prepared on several shards: a row here is the decision. Of one that is
-- committed: its counts, for whoever repeats it with the same Idempotency-Key.
create table segmentation.decisions (
  gid             text        not null,
  is_committed    boolean     not null,
  counts          bigint[],
  api_key         text,
  idempotency_key text,
  decided_at      timestamptz not null default clock_timestamp(),

  constraint decisions_pkey primary key (gid),
  constraint decisions_key unique (api_key, idempotency_key)
);

-- Up to when somebody was told that all changes of all shards are there, in microseconds since 1970.
create sequence segmentation.told_everywhere as bigint minvalue 0 start 0;

reset role;
