drop table segmentation.membership_history;
drop table segmentation.memberships;
