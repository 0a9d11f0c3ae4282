-- What only a shard has: the catalog is the router's, and comes by logical replication (same ids, salts and times).
--
-- A shard is a database by itself in all but this: segments, rollouts and layers are not changed here. Replication
-- applies rows as they are and fires no ordinary trigger, so the guards bind people and functions alone. Which users
-- may be here is a CHECK of users and memberships, made when slots are dealt (service/migrate/shards.py).

create or replace function segmentation.refuse_catalog_change () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '% are changed on the router, not on a shard', tg_table_name
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'Connect to the router and call the same function there.';
end
$$;

-- Row triggers, since a statement that finds no row changes nothing: the sweep has one. What is swept is the shard's
-- own.
create or replace trigger catalog_is_the_routers
  before insert or delete or update of slug, description, salt, created_at, deleted_at, layer_id
  on segmentation.segments
  for each row execute function segmentation.refuse_catalog_change();

create or replace trigger catalog_is_the_routers
  before insert or update or delete on segmentation.rollouts
  for each row execute function segmentation.refuse_catalog_change();

create or replace trigger catalog_is_the_routers
  before insert or update or delete on segmentation.layers
  for each row execute function segmentation.refuse_catalog_change();

create or replace trigger catalog_is_the_routers
  before insert or update or delete on segmentation.layer_cells
  for each row execute function segmentation.refuse_catalog_change();

-- Who sets it back is taken for behind, who sets it forward for complete.
create or replace trigger catalog_is_the_routers
  before insert or update or delete on segmentation.catalog_version
  for each row execute function segmentation.refuse_catalog_change();

-- Of replication alone: whether what comes follows what is here. If not, this database or the router has been restored
-- from a backup, and only a new copy of the catalog mends that.
create or replace function segmentation.notice_missed_changes () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if new.after <> old.change then
    new.missed_at := clock_timestamp();
  end if;
  return new;
end
$$;

create or replace trigger catalog_changes_are_all_here
  before update on segmentation.catalog_version
  for each row execute function segmentation.notice_missed_changes();

alter table segmentation.catalog_version enable replica trigger catalog_changes_are_all_here;

-- The router writes them, for all.
create or replace function segmentation.renew_layer_cells () returns void
  language sql
  set search_path = pg_catalog, pg_temp
as $$ select $$;

-- A shard sees a part of a list, which may well be empty. The router has counted the whole.
create or replace function segmentation.require_whole_list (
  slug        text,
  listed      bigint,
  removed     bigint,
  max_removed bigint
)
  returns void
  language sql
  immutable
  set search_path = pg_catalog, pg_temp
as $$ select $$;

-- Triggers of a shard whose users are not here yet, or not any more (service/migrate/move.py). As if by a lock: who is
-- refused so tries again, and then the router knows where the users are.
create or replace function segmentation.refuse_users_elsewhere () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'these users are on another shard'
    using errcode = 'lock_not_available', hint = 'They have just moved, or are about to. Try again in a moment.';
end
$$;

-- What the CHECK that holds a shard to its slots says of a user of another (service/migrate/shards.py): called for such
-- a one alone.
create or replace function segmentation.refuse_user_of_another_shard (
  user_id bigint
)
  returns boolean
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'user % is on another shard', user_id
    using
      errcode = 'check_violation',
      detail = json_build_object('user_id', user_id),
      hint = 'Connect to the router and call the same function there: it knows the shard of each user.';
end
$$;
