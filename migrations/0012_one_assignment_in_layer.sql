-- transactional: false
-- Of one user and one layer there is at most one assignment, live or planned.

set role segmentation_owner;

-- One that was begun and not finished is of no use.
do $$
begin
  if exists (
    select
    from pg_catalog.pg_index as i
    where i.indexrelid = to_regclass('segmentation.memberships_one_assignment_in_layer') and not i.indisvalid
  ) then
    drop index segmentation.memberships_one_assignment_in_layer;
  end if;
end
$$;
-- Made concurrently, it waits for long reports and makes nobody else wait.
set lock_timeout = '5min';
-- squawk-ignore ban-concurrent-index-creation-in-transaction
create unique index concurrently if not exists memberships_one_assignment_in_layer
  on segmentation.memberships (user_id, layer_id)
  where included and layer_id is not null;
set lock_timeout = '50ms';

reset role;
