-- transactional: false
-- The index by time is for changes alone. A plan for any moment takes "began before it" for a third of all overrides:
-- pages of a report read the whole index, each of them. A query now has to say starts_at > '-infinity', which is true
-- of every row, for the index to be considered.

set role segmentation_owner;

-- One that was begun and not finished is of no use.
do $$
begin
  if exists (
    select
    from pg_catalog.pg_index as i
    where i.indexrelid = to_regclass('segmentation.memberships_begun_idx') and not i.indisvalid
  ) then
    drop index segmentation.memberships_begun_idx;
  end if;
end
$$;
-- Made and dropped concurrently, they wait for long reports and make nobody else wait.
set lock_timeout = '5min';
-- squawk-ignore ban-concurrent-index-creation-in-transaction
create index concurrently if not exists memberships_begun_idx on segmentation.memberships (starts_at)
  where starts_at > '-infinity';
drop index concurrently if exists segmentation.memberships_starts_at_idx;
set lock_timeout = '50ms';

reset role;
