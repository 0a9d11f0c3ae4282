-- transactional: false
-- Of one user and one layer there is at most one assignment, live or planned.

set role segmentation_owner;

-- Waiting for a long report makes nobody else wait here, and is cheaper than to begin anew.
set lock_timeout = '10s';
-- One that was begun and not finished is of no use.
drop index concurrently if exists segmentation.memberships_one_assignment_in_layer;
-- squawk-ignore ban-concurrent-index-creation-in-transaction
create unique index concurrently if not exists memberships_one_assignment_in_layer
  on segmentation.memberships (user_id, layer_id)
  where included and layer_id is not null;
set lock_timeout = '50ms';

reset role;
