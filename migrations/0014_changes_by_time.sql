-- transactional: false
-- Who was changed in a short stretch of time, without reading all.

set role segmentation_owner;

-- One that was begun and not finished is of no use.
do $$
begin
  if exists (
    select
    from pg_catalog.pg_index as i
    where i.indexrelid = to_regclass('segmentation.memberships_starts_at_idx') and not i.indisvalid
  ) then
    drop index segmentation.memberships_starts_at_idx;
  end if;
end
$$;
do $$
begin
  if exists (
    select
    from pg_catalog.pg_index as i
    where i.indexrelid = to_regclass('segmentation.users_registered_at_idx') and not i.indisvalid
  ) then
    drop index segmentation.users_registered_at_idx;
  end if;
end
$$;
-- Made concurrently, they wait for long reports and make nobody else wait.
set lock_timeout = '5min';
-- squawk-ignore ban-concurrent-index-creation-in-transaction
create index concurrently if not exists memberships_starts_at_idx on segmentation.memberships (starts_at);
-- Users come in order of time, so their places say it: a thousandth of the size of another index.
-- squawk-ignore ban-concurrent-index-creation-in-transaction
create index concurrently if not exists users_registered_at_idx on segmentation.users
  using brin (registered_at) with (pages_per_range = 32, autosummarize = on);
set lock_timeout = '50ms';

-- The history as well: one partition after the other, each for as long as it takes to read it once.
-- squawk-ignore require-concurrent-index-creation
create index if not exists membership_history_ends_at_idx on only segmentation.membership_history
  using brin (ends_at) with (pages_per_range = 32, autosummarize = on);

do $$
declare
  partition name;
begin
  for partition in
    select c.relname
    from pg_catalog.pg_inherits as i
    join pg_catalog.pg_class as c on c.oid = i.inhrelid
    where i.inhparent = 'segmentation.membership_history'::regclass
      and not exists (
        select
        from pg_catalog.pg_index as x
        join pg_catalog.pg_inherits as a on a.inhrelid = x.indexrelid
        where x.indrelid = i.inhrelid and a.inhparent = 'segmentation.membership_history_ends_at_idx'::regclass
      )
    order by c.relname
  loop
    execute format(
      'create index %I on segmentation.%I using brin (ends_at) with (pages_per_range = 32, autosummarize = on)',
      partition || '_ends_at_idx', partition);
    execute format(
      'alter index segmentation.membership_history_ends_at_idx attach partition segmentation.%I',
      partition || '_ends_at_idx');
    commit;
  end loop;
end
$$;

reset role;
