drop index segmentation.rollouts_ends_at_idx;
alter table segmentation.rollouts
  drop column buckets cascade,
  drop column layer_id cascade,
  drop column decided_at cascade;
create index if not exists rollouts_ends_at_idx on segmentation.rollouts (ends_at)
  include (segment_id, salt, threshold, starts_at) where threshold > 0;
