-- When a row was decided: what was done then has begun, whatever a clock that has gone back says (sql/10_clock.sql).
-- And the layer of an assignment, so that of one user and one layer there is at most one, live or planned.
--
-- One step locks one table that is in use. Whoever holds a lock on a table and waits for a second one could wait for
-- a call that holds the second and waits for the first.

set local role segmentation_owner;

-- Rows there are begin when the clock says so. A constant default rewrites no table.
alter table segmentation.memberships
  add column decided_at timestamptz not null default '-infinity',
  add column layer_id integer;
alter table segmentation.memberships alter column decided_at set default segmentation.clock();

reset role;
