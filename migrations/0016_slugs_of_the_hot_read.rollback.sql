drop index segmentation.rollouts_ends_at_idx;
alter table segmentation.rollouts drop column slug cascade;
create index rollouts_ends_at_idx on segmentation.rollouts (ends_at)
  include (segment_id, salt, threshold, starts_at, decided_at) where threshold > 0 and layer_id is null;
drop table segmentation.layer_cells cascade;
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
alter table segmentation.layer_cells owner to segmentation_owner;
