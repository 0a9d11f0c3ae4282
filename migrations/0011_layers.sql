-- Layers: segments that exclude each other, and the buckets that each of their rollouts holds.

set local role segmentation_owner;

create table segmentation.layers (
  layer_id    integer          not null generated always as identity,
  slug        text collate "C" not null,
  description text             not null default '',
  -- All segments of a layer share it, so a user has one bucket in the layer.
  salt        bigint           not null default hashtextextended(gen_random_uuid()::text, 0),
  created_at  timestamptz      not null default segmentation.clock(),
  deleted_at  timestamptz      not null default 'infinity',
  actor       text             not null default session_user,
  reason      text,
  -- Who deleted it, and why; empty while it lives.
  end_actor   text,
  end_reason  text,

  constraint layers_pkey primary key (layer_id),
  constraint layers_id_and_salt_key unique (layer_id, salt),
  constraint layers_slug_has_valid_form check (slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
  constraint layers_description_is_short check (length(description) <= 2000),
  constraint layers_created_at_is_finite check (isfinite(created_at)),
  constraint layers_deleted_after_created check (deleted_at >= created_at)
);

-- A slug may be used again after its layer was deleted: unique among the living only.
create unique index layers_slug_key on segmentation.layers (slug) where deleted_at = 'infinity';

-- Chosen when the segment is created. The foreign key says that the segment has the layer's salt. The table of segments
-- is small, so that a constraint and an index on it take no time.
alter table segmentation.segments add column layer_id integer;
-- squawk-ignore adding-foreign-key-constraint,constraint-missing-not-valid
alter table segmentation.segments add constraint segments_layer_fkey
  foreign key (layer_id, salt) references segmentation.layers (layer_id, salt);
-- squawk-ignore require-concurrent-index-creation
create index segments_layer_id_idx on segmentation.segments (layer_id) where layer_id is not null;

-- Derived from rollouts, for the hot read: who holds each of the 1000 cells of 100 buckets of a layer in a stretch of
-- time. A number of 0 says: nobody; -1: the rollout steps must be asked. The rows of a living layer reach from its last
-- change to infinity without a gap, the last of them with nothing but -1 where many steps are planned.
create table segmentation.layer_cells (
  layer_id    integer     not null,
  salt        bigint      not null,
  starts_at   timestamptz not null,
  ends_at     timestamptz not null,
  segment_ids integer[]   not null,
  decided_at  timestamptz not null default segmentation.clock(),

  constraint layer_cells_pkey primary key (layer_id, starts_at),
  constraint layer_cells_layer_fkey foreign key (layer_id, salt) references segmentation.layers (layer_id, salt),
  constraint layer_cells_start_before_end check (starts_at < ends_at),
  constraint layer_cells_are_thousand check (array_length(segment_ids, 1) = 1000)
);

alter table segmentation.layer_cells alter column segment_ids set storage plain;

reset role;
