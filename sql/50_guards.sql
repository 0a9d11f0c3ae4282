-- The past is settled: what refuses to change it, whoever writes.
--
-- membership_history and segment_history take rows from the triggers of 51_ to 54_ alone, and refuse UPDATE, DELETE and
-- TRUNCATE, except for forget_user and for retention, which drops whole partitions. When users became known and what
-- retention has dropped decide what the past looks like too: users and retention take no plain DML. Nor do layer_cells,
-- which the hot read believes.
--
-- Plain DML is what somebody types, as opposed to what our functions do: those run as segmentation_owner. Its actor is
-- the login, whatever the statement says.
--
-- What is left: segmentation_owner and superusers, who can act as the owner, and disable or drop a trigger. A deploy
-- touches a trigger only if it differs, as replacing one locks its table against writers.

-- The error code for a change of what is settled. Plain DML gave a moment that is past. A function of ours never does,
-- as it announces itself before it stamps. One of 1.0.0 did not: it may have stamped, and then waited for the table
-- while a deploy made the triggers of this version. Called again it is the new function, and services call again by
-- themselves.
create or replace function segmentation.settled_errcode () returns text
  language sql
  stable
as $$
  select case current_user
    when 'segmentation_owner' then 'serialization_failure'
    else 'object_not_in_prerequisite_state'
  end
$$;

create or replace function segmentation.refuse_history_change () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- forget_user runs as the owner; a setting alone opens nothing.
  if tg_op = 'DELETE'
    and current_user = 'segmentation_owner'
    and current_setting('segmentation.forgetting', true) <> ''
  then
    return null;
  end if;
  raise exception '% refuses %: the past is settled', tg_table_name, lower(tg_op)
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'To erase a person call forget_user(user_id); to drop old months call drop_history_before(period).';
end
$$;

-- Partitions bear this one as well: see guard_history_partition.
create or replace trigger history_is_append_only
  before update or delete or truncate on segmentation.membership_history
  for each statement execute function segmentation.refuse_history_change();

create or replace trigger history_is_append_only
  before update or delete or truncate on segmentation.segment_history
  for each statement execute function segmentation.refuse_history_change();

create or replace function segmentation.refuse_history_insert () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- 1 is this trigger alone; the triggers that keep the history make it 2.
  if pg_trigger_depth() > 1 then
    return null;
  end if;
  raise exception '% refuses insert: only triggers write it', tg_table_name
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'What happens is recorded by itself. What has happened elsewhere cannot be told afterwards.';
end
$$;

create or replace trigger history_is_written_by_triggers
  before insert on segmentation.membership_history
  for each statement execute function segmentation.refuse_history_insert();

create or replace trigger history_is_written_by_triggers
  before insert on segmentation.segment_history
  for each statement execute function segmentation.refuse_history_insert();

create or replace function segmentation.refuse_plain_dml () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '% refuses plain %: it decides what the past looks like', tg_table_name, lower(tg_op)
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = case tg_table_name
        when 'users' then 'Call register_users(user_ids) or forget_user(user_id).'
        when 'layer_cells' then 'Its rows follow from rollouts: call set_rollout(slug, percent).'
        else 'Call drop_history_before(period).'
      end;
end
$$;

create or replace trigger users_refuse_plain_dml
  before insert or update or delete or truncate on segmentation.users
  for each statement when (current_user <> 'segmentation_owner')
  execute function segmentation.refuse_plain_dml();

create or replace trigger retention_refuses_plain_dml
  before insert or update or delete or truncate on segmentation.retention
  for each statement when (current_user <> 'segmentation_owner')
  execute function segmentation.refuse_plain_dml();

create or replace trigger layer_cells_refuse_plain_dml
  before insert or update or delete or truncate on segmentation.layer_cells
  for each statement when (current_user <> 'segmentation_owner' and pg_trigger_depth() = 0)
  execute function segmentation.refuse_plain_dml();

-- Whoever writes says from when on, before anything is stamped (sql/10_clock.sql).
create or replace function segmentation.writer_is_announced () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.announce_writer();
  return null;
end
$$;

create or replace trigger writer_is_announced
  before insert or update or delete on segmentation.users
  for each statement execute function segmentation.writer_is_announced();

create or replace trigger writer_is_announced
  before insert or update or delete on segmentation.segments
  for each statement execute function segmentation.writer_is_announced();

create or replace trigger writer_is_announced
  before insert or update or delete on segmentation.rollouts
  for each statement execute function segmentation.writer_is_announced();

create or replace trigger writer_is_announced
  before insert or update or delete on segmentation.memberships
  for each statement execute function segmentation.writer_is_announced();

create or replace function segmentation.refuse_truncate () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception '% refuses truncate: it would leave no history', tg_table_name
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'DELETE is recorded row by row; use that.';
end
$$;
