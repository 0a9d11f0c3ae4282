-- What this database is: one by itself, or the router of several, or one of the shards behind it (sql/README.md). A
-- database by itself has nothing else of the other two.

set local role segmentation_owner;

create table segmentation.place (
  kind    text    not null default 'single',
  one_row boolean not null default true,

  constraint place_has_one_row primary key (one_row),
  constraint place_is_true check (one_row),
  constraint place_kind_is_known check (kind in ('single', 'router', 'shard'))
);

insert into segmentation.place default values;

reset role;
