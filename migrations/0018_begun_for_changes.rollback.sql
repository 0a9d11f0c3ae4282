create index concurrently if not exists memberships_starts_at_idx on segmentation.memberships (starts_at);
drop index concurrently if exists segmentation.memberships_begun_idx;
set lock_timeout = '50ms';
