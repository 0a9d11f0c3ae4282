-- Shards that did not answer lately, so that nobody waits for one that is known to be away. Lost in a crash and found
-- anew.

set local role segmentation_owner;

create unlogged table segmentation.shards_away (
  shard    text        not null,
  noted_at timestamptz not null default clock_timestamp(),

  constraint shards_away_pkey primary key (shard)
);

reset role;
