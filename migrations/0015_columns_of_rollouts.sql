-- When a step was decided, and which buckets a step of a segment in a layer holds. The table is small, so that
-- constraints and indexes on it take no time.

set local role segmentation_owner;

-- Of a step that a later one has replaced: when it was replaced, so that it is over for good.
alter table segmentation.rollouts add column decided_at timestamptz not null default '-infinity';
alter table segmentation.rollouts alter column decided_at set default segmentation.clock();

-- A step of a segment in a layer holds these buckets. Without a layer it has none: it holds all below the threshold.
alter table segmentation.rollouts add column layer_id integer;
alter table segmentation.rollouts add column buckets int4multirange;
-- Kept in the row as it is: a test for one bucket is then a binary search and copies nothing.
alter table segmentation.rollouts alter column buckets set storage plain;
-- squawk-ignore adding-foreign-key-constraint,constraint-missing-not-valid
alter table segmentation.rollouts add constraint rollouts_layer_fkey
  foreign key (layer_id, salt) references segmentation.layers (layer_id, salt);
-- squawk-ignore constraint-missing-not-valid
alter table segmentation.rollouts add constraint rollouts_buckets_only_in_layer
  check (buckets is null or layer_id is not null);
-- squawk-ignore constraint-missing-not-valid
alter table segmentation.rollouts add constraint rollouts_buckets_within_bounds
  check (buckets <@ '{[0,100000)}'::int4multirange);
-- No two segments of a layer hold a bucket at the same moment. A layer is written as a range of one number, since a
-- GiST index knows "=" of integers only with an extension. Deferred, since the end of the step before is derived after
-- a step is inserted.
-- squawk-ignore constraint-missing-not-valid
alter table segmentation.rollouts add constraint rollouts_bucket_held_once exclude using gist (
  int4range(layer_id, layer_id, '[]') with &&,
  buckets with &&,
  tstzrange(starts_at, ends_at) with &&
) where (layer_id is not null) deferrable initially deferred;

-- The hot read looks through the steps that are in no layer. It has layer_cells for the others.
-- squawk-ignore require-concurrent-index-deletion
drop index segmentation.rollouts_ends_at_idx;
-- squawk-ignore require-concurrent-index-creation
create index rollouts_ends_at_idx on segmentation.rollouts (ends_at)
  include (segment_id, salt, threshold, starts_at, decided_at) where threshold > 0 and layer_id is null;

reset role;
