drop table segmentation.membership_history cascade;
drop table segmentation.memberships cascade;
