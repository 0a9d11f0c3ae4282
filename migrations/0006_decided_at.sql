-- When a row was decided: what was done then has begun, whatever a clock that has gone back says (sql/10_clock.sql).

set local role segmentation_owner;

-- Rows there are begin when the clock says so. A constant default rewrites no table.
alter table segmentation.memberships add column decided_at timestamptz not null default '-infinity';
alter table segmentation.memberships alter column decided_at set default segmentation.clock();

-- Of a step that a later one has replaced: when it was replaced, so that it is over for good.
alter table segmentation.rollouts add column decided_at timestamptz not null default '-infinity';
alter table segmentation.rollouts alter column decided_at set default segmentation.clock();

-- The hot read wants the steps in force; a step of 0 % holds nobody. The table is small, so this takes no time.
-- squawk-ignore require-concurrent-index-deletion
drop index segmentation.rollouts_ends_at_idx;
-- squawk-ignore require-concurrent-index-creation
create index rollouts_ends_at_idx on segmentation.rollouts (ends_at)
  include (segment_id, salt, threshold, starts_at, decided_at) where threshold > 0;

reset role;
