drop table segmentation.layer_cells cascade;
drop index segmentation.rollouts_ends_at_idx;
create index rollouts_ends_at_idx on segmentation.rollouts (ends_at)
  include (segment_id, salt, threshold, starts_at, decided_at) where threshold > 0;
alter table segmentation.memberships drop column layer_id cascade;
alter table segmentation.rollouts drop column buckets cascade, drop column layer_id cascade;
alter table segmentation.segments drop column layer_id cascade;
drop table segmentation.layers cascade;
