-- What the hot read answers stands where it reads: the slug beside the rollout step, and in layer_cells.

set local role segmentation_owner;

-- Derived from rollouts and segments: which segment holds each of the 1000 cells of 100 buckets of a layer in a stretch
-- of time. A byte of cells is the segment's place in segment_ids and slugs, which name the living segments of the
-- layer. 0 says: nobody; 255: the rollout steps must be asked. The rows of a living layer reach from its last change to
-- infinity without a gap. Small, and written in place, since each hot read looks through all of them.
-- squawk-ignore ban-drop-table
drop table segmentation.layer_cells;
create table segmentation.layer_cells (
  layer_id    integer            not null,
  salt        bigint             not null,
  starts_at   timestamptz        not null,
  ends_at     timestamptz        not null,
  cells       bytea              not null,
  segment_ids integer[]          not null,
  slugs       text[] collate "C" not null,

  constraint layer_cells_pkey primary key (layer_id, starts_at),
  constraint layer_cells_layer_fkey foreign key (layer_id, salt) references segmentation.layers (layer_id, salt),
  constraint layer_cells_start_before_end check (starts_at < ends_at),
  constraint layer_cells_are_thousand check (length(cells) = 1000),
  constraint layer_cells_name_each_segment check (cardinality(segment_ids) = cardinality(slugs))
) with (fillfactor = 50, toast_tuple_target = 8160);

-- One byte of a value in the row is had without a copy of it.
alter table segmentation.layer_cells alter column cells set storage plain;

-- Until the layer is changed or the purge runs, its steps are asked.
insert into segmentation.layer_cells (layer_id, salt, starts_at, ends_at, cells, segment_ids, slugs)
select
  s.layer_id, s.salt, '-infinity', 'infinity', decode(repeat('ff', 1000), 'hex'),
  array_agg(s.segment_id order by s.segment_id), array_agg(s.slug order by s.segment_id)
from segmentation.segments as s
where s.layer_id is not null and s.deleted_at = 'infinity'
group by s.layer_id, s.salt;

-- A segment's slug never changes. The trigger takes it from there, whatever a statement says; sql/50_triggers.sql holds
-- the definition in force.
alter table segmentation.rollouts add column slug text collate "C";

create or replace function segmentation.rollouts_take_the_layer() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  select s.layer_id, s.slug into new.layer_id, new.slug
  from segmentation.segments as s
  where s.segment_id = new.segment_id;
  if new.layer_id is null or pg_trigger_depth() = 1 then
    new.buckets := case when tg_op = 'UPDATE' and new.layer_id is not null then old.buckets end;
  end if;
  return new;
end
$$;
create or replace trigger rollouts_take_the_layer
  before insert or update on segmentation.rollouts
  for each row execute function segmentation.rollouts_take_the_layer();

-- Nobody's change: the triggers that record changes rest meanwhile.
alter table segmentation.rollouts disable trigger user;
update segmentation.rollouts as r
set slug = s.slug
from segmentation.segments as s
where s.segment_id = r.segment_id;
set constraints all immediate;
alter table segmentation.rollouts enable trigger user;
-- squawk-ignore adding-not-nullable-field
alter table segmentation.rollouts alter column slug set not null;

-- squawk-ignore require-concurrent-index-deletion
drop index segmentation.rollouts_ends_at_idx;
-- squawk-ignore require-concurrent-index-creation
create index rollouts_ends_at_idx on segmentation.rollouts (ends_at)
  include (segment_id, salt, threshold, starts_at, decided_at, slug) where threshold > 0 and layer_id is null;

reset role;
