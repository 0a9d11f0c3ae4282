drop table segmentation.segment_history;
drop type segmentation.rollout_step;
drop table segmentation.rollouts;
drop table segmentation.segments;
drop table segmentation.users;
drop function segmentation.clock();
