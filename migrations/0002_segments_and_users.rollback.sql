drop table segmentation.segment_history cascade;
drop type segmentation.rollout_step cascade;
drop table segmentation.rollouts cascade;
drop table segmentation.segments cascade;
drop table segmentation.users cascade;
drop function segmentation.clock() cascade;
