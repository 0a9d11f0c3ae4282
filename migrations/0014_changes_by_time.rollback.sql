drop index concurrently segmentation.memberships_starts_at_idx;
drop index concurrently segmentation.users_registered_at_idx;
set lock_timeout = '50ms';
-- PostgreSQL drops an index of partitions in no other way.
drop index segmentation.membership_history_ends_at_idx;
