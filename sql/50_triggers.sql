-- History that cannot be bypassed: triggers on memberships, rollouts and segments keep it, whoever writes.
--
-- The triggers that record are statement triggers with transition tables: a million rows cost one INSERT. A row that
-- leaves memberships, or changes into another override, is closed into membership_history at the moment it truly
-- ended. The past is settled: no statement may change what held before its transaction began. membership_history and
-- segment_history take rows from these triggers alone, and refuse UPDATE, DELETE and TRUNCATE, except for forget_user
-- and for retention, which drops whole partitions. When users became known and what retention has dropped decide what
-- the past looks like too: users and retention take no plain DML. Nor do layer_cells, which the hot read believes.
--
-- Plain DML is what somebody types, as opposed to what our functions do: those run as segmentation_owner. Its actor is
-- the login, whatever the statement says.
--
-- What is left: segmentation_owner and superusers, who can act as the owner, and disable or drop a trigger.

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

-- memberships ---------------------------------------------------------------------------------------

-- Of plain DML: who did it, and when, and the segment's layer. A row trigger, as only such a one may change a row
-- before it is written; its WHEN spares the functions the call.
create or replace function segmentation.memberships_name_the_login () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz := segmentation.stamp(null);
begin
  if tg_op = 'INSERT' or (new.included, new.starts_at) is distinct from (old.included, old.starts_at) then
    new.actor := session_user;
    if tg_op = 'UPDATE' and new.reason is not distinct from old.reason then
      new.reason := null;
    end if;
    new.reason := coalesce(new.reason, segmentation.actor_reason());
    new.decided_at := moment;
  end if;
  if tg_op = 'INSERT' or new.ends_at <> old.ends_at then
    new.end_actor := case when new.ends_at < 'infinity' then session_user end;
    new.end_reason := case when new.ends_at < 'infinity' then segmentation.actor_reason() end;
  else
    new.end_actor := old.end_actor;
    new.end_reason := old.end_reason;
  end if;
  if tg_op = 'UPDATE' then
    new.decided_at := greatest(old.decided_at, moment);
  end if;
  new.layer_id := (select s.layer_id from segmentation.segments as s where s.segment_id = new.segment_id);
  return new;
end
$$;

create or replace trigger memberships_name_the_login
  before insert or update on segmentation.memberships
  for each row when (current_user <> 'segmentation_owner')
  execute function segmentation.memberships_name_the_login();

create or replace function segmentation.memberships_after_insert () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  earliest timestamptz := segmentation.announce_writer();
  added record;
  wrong record;
begin
  -- One pass over what may be a million rows; only what is wrong is looked for again.
  for added in
    select
      d.segment_id, d.starts_at, s.segment_id is not null as living,
      (d.layer_id is not distinct from s.layer_id) as in_its_layer
    from (
      select n.segment_id, n.layer_id, min(n.starts_at) as starts_at
      from new_rows as n
      group by n.segment_id, n.layer_id
    ) as d
    left join segmentation.segments as s on s.segment_id = d.segment_id and s.deleted_at = 'infinity'
  loop
    if not added.living then
      raise exception 'no living segment has segment_id %', added.segment_id
        using
          errcode = 'foreign_key_violation',
          detail = json_build_object('segment_id', added.segment_id),
          hint = 'Look it up in segmentation.segments, or call change_user_segments with its slug.';
    end if;
    if not added.in_its_layer then
      raise exception 'segment_id % is not in the layer that the row names', added.segment_id
        using
          errcode = 'foreign_key_violation',
          detail = json_build_object('segment_id', added.segment_id),
          hint = 'Leave layer_id out, or call change_user_segments.';
    end if;
    if added.starts_at < earliest then
      select n.user_id, n.starts_at into wrong
      from new_rows as n
      where n.starts_at < earliest
      limit 1;
      raise exception 'user % cannot be overridden from % on', wrong.user_id, wrong.starts_at
        using
          errcode = 'object_not_in_prerequisite_state',
          detail = json_build_object('user_id', wrong.user_id, 'starts_at', wrong.starts_at),
          hint = 'The past is settled. Leave starts_at out to start now, or give a moment to come.';
    end if;
  end loop;
  -- The functions have registered and locked their users.
  if current_user <> 'segmentation_owner' then
    perform segmentation.register_users(array(select distinct n.user_id from new_rows as n));
  end if;
  return null;
end
$$;

-- The history row of an override that is over: at its own end, at its segment's deletion, when another
-- period takes its place or now, whichever came first. A plan that never began leaves no trace.
create or replace function segmentation.closed_override (
  override   segmentation.memberships,
  next_start timestamptz,
  moment     timestamptz,
  earliest   timestamptz
)
  returns setof segmentation.membership_history
  language sql
  stable
as $$
  select
    (override).user_id, (override).segment_id, (override).included, (override).starts_at, e.ended_at,
    (override).actor, (override).reason,
    c.end_cause,
    case c.end_cause
      when 'removed' then segmentation.actor()
      when 'expired' then (override).end_actor
      else d.actor
    end,
    case c.end_cause
      when 'removed' then segmentation.actor_reason()
      when 'expired' then (override).end_reason
      else d.reason
    end
  from (
    select s.deleted_at, d.actor, d.reason
    from segmentation.segments as s
    left join segmentation.segment_history as d
      on d.segment_id = s.segment_id and d.operation = 'delete'
    where s.segment_id = (override).segment_id
    offset 0
  ) as d
  cross join lateral (
    select least(
      (override).ends_at, d.deleted_at, next_start,
      -- Where the clock has gone back since: right after the override began.
      greatest(
        moment,
        earliest,
        case when (override).decided_at > moment and (override).starts_at <= (override).decided_at
          then (override).decided_at + interval '1 microsecond'
        end))
  ) as e (ended_at)
  cross join lateral (
    select case
      when e.ended_at = d.deleted_at then 'segment_deleted'
      when e.ended_at = (override).ends_at then 'expired'
      else 'removed'
    end
  ) as c (end_cause)
  where e.ended_at > (override).starts_at
$$;

create or replace function segmentation.memberships_after_delete () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz := segmentation.moment_of_change();
  earliest timestamptz := segmentation.announce_writer();
begin
  perform segmentation.ensure_history_of_ends(
    array(select distinct date_trunc('month', least(o.ends_at, greatest(moment, earliest)), 'UTC') from old_rows as o),
    array(select distinct o.segment_id from old_rows as o));
  insert into segmentation.membership_history
  select c.*
  from old_rows as o
  cross join lateral segmentation.closed_override(
    row(o.*)::segmentation.memberships, 'infinity', moment, earliest) as c;
  return null;
end
$$;

-- A new period (another start, or from assignment to exclusion and back) closes the old one. Another end
-- does not, but an end cannot be moved into the past, nor one that has come be moved at all.
create or replace function segmentation.memberships_after_update () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  wrong record;
  moment timestamptz := segmentation.clock();
  earliest timestamptz := segmentation.announce_writer();
begin
  select coalesce(o.user_id, n.user_id) as user_id into wrong
  from old_rows as o
  full join new_rows as n on n.user_id = o.user_id and n.segment_id = o.segment_id
  where o.user_id is null or n.user_id is null
    or case
      when (n.included, n.starts_at) is distinct from (o.included, o.starts_at) then
        n.starts_at < greatest(earliest, case when o.starts_at <= o.decided_at then o.starts_at end)
      else (o.starts_at <= greatest(moment, o.decided_at) and (n.actor, n.reason) is distinct from (o.actor, o.reason))
        or n.ends_at < least(o.ends_at, earliest)
        or (o.ends_at < earliest and n.ends_at <> o.ends_at)
    end
  limit 1;
  if found then
    raise exception 'the past of user % cannot be changed', wrong.user_id
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('user_id', wrong.user_id),
        hint = 'User, segment, start and actor of an override are settled, and its end is not before now. Call change_user_segments.';
  end if;
  perform segmentation.ensure_history_of_ends(
    array(select distinct date_trunc('month', least(o.ends_at, greatest(moment, earliest)), 'UTC') from old_rows as o),
    array(select distinct o.segment_id from old_rows as o));
  -- A full join, behind a fence: PostgreSQL merges or hashes it. It plans a trigger's statement for as many rows as
  -- were there at its first call, and an inner join of one row would compare each with each.
  insert into segmentation.membership_history
  select c.*
  from (
    select row(o.*)::segmentation.memberships as override, n.starts_at as next_start, n.decided_at
    from old_rows as o
    full join new_rows as n on n.user_id = o.user_id and n.segment_id = o.segment_id
    where (n.included, n.starts_at) is distinct from (o.included, o.starts_at)
    offset 0
  ) as r
  cross join lateral segmentation.closed_override(
    r.override, r.next_start,
    greatest(moment, case when r.next_start <= r.decided_at then r.next_start end), earliest) as c;
  return null;
end
$$;

-- rollouts ------------------------------------------------------------------------------------------

-- Every step ends where the next one of its segment begins, or with its segment. Where that has been done and not just
-- planned, the step is over for good, whatever the clock says: decided_at is then its end.
create or replace function segmentation.derive_step_ends (
  segment_ids integer[]
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- A transaction that changes steps of the same segments is waited for, and its steps are then seen.
  perform
  from segmentation.segments as s
  where s.segment_id = any (derive_step_ends.segment_ids)
  order by s.segment_id
  for no key update;
  update segmentation.rollouts as r
  set ends_at = d.ends_at, decided_at = d.decided_at
  from (
    select
      o.segment_id, o.starts_at,
      least(o.next_start, s.deleted_at) as ends_at,
      greatest(
        o.decided_at,
        case
          when o.next_start is null then nullif(s.deleted_at, 'infinity')
          when o.next_start <= o.next_decision then o.next_start
        end) as decided_at
    from (
      select
        n.segment_id, n.starts_at, n.decided_at,
        lead(n.starts_at) over steps as next_start,
        lead(n.decided_at) over steps as next_decision
      from segmentation.rollouts as n
      where n.segment_id = any (derive_step_ends.segment_ids)
      window steps as (partition by n.segment_id order by n.starts_at)
    ) as o
    join segmentation.segments as s on s.segment_id = o.segment_id
  ) as d
  where r.segment_id = d.segment_id and r.starts_at = d.starts_at
    and (r.ends_at, r.decided_at) is distinct from (d.ends_at, d.decided_at);
end
$$;

-- What has begun is settled.
create or replace function segmentation.refuse_past_step (
  segment_id integer,
  starts_at  timestamptz
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if refuse_past_step.starts_at < segmentation.settled_before(refuse_past_step.segment_id) then
    raise exception 'the rollout step of % of segment_id % has begun',
      refuse_past_step.starts_at, refuse_past_step.segment_id
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object(
          'segment_id', refuse_past_step.segment_id, 'starts_at', refuse_past_step.starts_at),
        hint = 'The past is settled. To change the present call set_rollout(slug, percent): it begins a new step.';
  end if;
end
$$;

-- Of plain DML: who did it, and when. derive_step_ends moves ends from within a trigger, and is let alone.
create or replace function segmentation.rollouts_name_the_login () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' or (new.percent, new.starts_at) is distinct from (old.percent, old.starts_at) then
    new.actor := session_user;
    if tg_op = 'UPDATE' and new.reason is not distinct from old.reason then
      new.reason := null;
    end if;
    new.reason := coalesce(new.reason, segmentation.actor_reason());
    new.decided_at := segmentation.stamp(null);
  else
    new.decided_at := old.decided_at;
  end if;
  return new;
end
$$;

create or replace trigger rollouts_name_the_login
  before insert or update on segmentation.rollouts
  for each row when (current_user <> 'segmentation_owner' and pg_trigger_depth() = 0)
  execute function segmentation.rollouts_name_the_login();

-- Layer, slug and buckets are derived: from the segment, and by deal_buckets alone.
create or replace function segmentation.rollouts_take_the_layer () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  select s.layer_id, s.slug into new.layer_id, new.slug
  from segmentation.segments as s
  where s.segment_id = new.segment_id;
  -- 1 is this trigger alone.
  if new.layer_id is null or pg_trigger_depth() = 1 then
    new.buckets := case when tg_op = 'UPDATE' and new.layer_id is not null then old.buckets end;
  end if;
  return new;
end
$$;

create or replace trigger rollouts_take_the_layer
  before insert or update on segmentation.rollouts
  for each row execute function segmentation.rollouts_take_the_layer();

create or replace function segmentation.rollouts_after_insert () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.refuse_past_step(n.segment_id, n.starts_at)
  from new_rows as n;
  insert into segmentation.segment_history (segment_id, changed_at, operation, percent, starts_at, actor, reason)
  select
    n.segment_id, segmentation.segment_stamp(n.segment_id), 'set_rollout', n.percent, n.starts_at, n.actor, n.reason
  from new_rows as n;
  perform segmentation.derive_step_ends(array(select distinct n.segment_id from new_rows as n));
  perform segmentation.deal_buckets(array(select distinct n.segment_id from new_rows as n));
  return null;
end
$$;

create or replace function segmentation.rollouts_after_update () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  wrong_ids integer[];
  segment_ids integer[];
begin
  if not exists (
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from new_rows as c
    except
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from old_rows as c
  ) then
    -- An end that derive_step_ends wrote is right; one that somebody wrote is derived anew.
    wrong_ids := array(
      select n.segment_id
      from new_rows as n
      join segmentation.segments as s on s.segment_id = n.segment_id
      where n.ends_at <> least(s.deleted_at, (
        select min(later.starts_at)
        from segmentation.rollouts as later
        where later.segment_id = n.segment_id and later.starts_at > n.starts_at
      ))
    );
    if cardinality(wrong_ids) > 0 then
      perform segmentation.derive_step_ends(wrong_ids);
    end if;
    return null;
  end if;
  -- The old form of what was changed, and the new one of what was changed or moved.
  perform segmentation.refuse_past_step(o.segment_id, o.starts_at)
  from (
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from old_rows as c
    except
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from new_rows as c
  ) as o;
  perform segmentation.refuse_past_step(n.segment_id, n.starts_at)
  from (
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from new_rows as c
    except
    select c.segment_id, c.salt, c.percent, c.starts_at, c.actor, c.reason from old_rows as c
  ) as n;
  insert into segmentation.segment_history (segment_id, changed_at, operation, percent, starts_at, actor, reason)
  select
    n.segment_id, segmentation.segment_stamp(n.segment_id), 'set_rollout', n.percent, n.starts_at, n.actor, n.reason
  from (
    select c.segment_id, c.percent, c.starts_at, c.actor, c.reason from new_rows as c
    except
    select c.segment_id, c.percent, c.starts_at, c.actor, c.reason from old_rows as c
  ) as n;
  segment_ids := array(select o.segment_id from old_rows as o union select n.segment_id from new_rows as n);
  perform segmentation.derive_step_ends(segment_ids);
  perform segmentation.deal_buckets(segment_ids);
  return null;
end
$$;

create or replace function segmentation.rollouts_after_delete () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.refuse_past_step(o.segment_id, o.starts_at)
  from old_rows as o;
  insert into segmentation.segment_history (segment_id, changed_at, operation, percent, starts_at, actor, reason)
  select
    o.segment_id, segmentation.segment_stamp(o.segment_id), 'cancel_rollout_step', o.percent, o.starts_at,
    segmentation.actor(), segmentation.actor_reason()
  from old_rows as o;
  perform segmentation.derive_step_ends(array(select distinct o.segment_id from old_rows as o));
  perform segmentation.deal_buckets(array(select distinct o.segment_id from old_rows as o));
  return null;
end
$$;

-- segments ------------------------------------------------------------------------------------------

-- A segment in a layer has the layer's salt.
create or replace function segmentation.segments_take_the_salt () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  new.salt := coalesce(
    (select l.salt from segmentation.layers as l where l.layer_id = new.layer_id), new.salt);
  return new;
end
$$;

create or replace trigger segments_take_the_salt
  before insert on segmentation.segments
  for each row when (new.layer_id is not null)
  execute function segmentation.segments_take_the_salt();

-- A living segment and a living layer do not share a slug, as both are keys of flags. No index knows two tables, so
-- whoever creates a segment holds layers in SHARE MODE first: it goes together with all but new and changed layers.
create or replace function segmentation.require_free_slugs (
  slugs text[]
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  taken text;
begin
  select s.slug into taken
  from segmentation.segments as s
  join segmentation.layers as l on l.slug = s.slug
  where s.slug = any (require_free_slugs.slugs) and s.deleted_at = 'infinity' and l.deleted_at = 'infinity'
  limit 1;
  if found then
    raise exception 'slug "%" is taken: a segment and a layer cannot share it', taken
      using
        errcode = 'unique_violation',
        detail = json_build_object('slug', taken),
        hint = 'Choose another slug.';
  end if;
end
$$;

-- A segment begins now, after any earlier one of its slug has ended.
create or replace function segmentation.segments_after_insert () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  wrong record;
begin
  select n.slug, n.created_at into wrong
  from new_rows as n
  cross join lateral (
    select max(s.deleted_at)
    from segmentation.segments as s
    where s.slug = n.slug and s.segment_id <> n.segment_id and s.deleted_at < 'infinity'
  ) as before (deleted_at)
  where n.deleted_at < 'infinity'
    or n.created_at < greatest(segmentation.announce_writer(), before.deleted_at)
    or n.created_at > segmentation.stamp(
      greatest(before.deleted_at, segmentation.last_change_in_layer(n.layer_id)))
  limit 1;
  if found then
    raise exception 'segment "%" cannot begin at % or be over already', wrong.slug, wrong.created_at
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('segment', wrong.slug, 'created_at', wrong.created_at),
        hint = 'A segment begins now: leave created_at and deleted_at out, or call create_segment(slug).';
  end if;
  -- Locked, so that it is not deleted meanwhile.
  perform
  from segmentation.layers as l
  where l.layer_id in (select n.layer_id from new_rows as n)
  order by l.layer_id
  for no key update;
  select n.slug, l.slug as layer into wrong
  from new_rows as n
  join segmentation.layers as l on l.layer_id = n.layer_id
  where l.deleted_at < 'infinity'
  limit 1;
  if found then
    raise exception 'segment "%" cannot begin in layer "%", which is deleted', wrong.slug, wrong.layer
      using
        errcode = 'foreign_key_violation',
        detail = json_build_object('segment', wrong.slug, 'layer', wrong.layer),
        hint = 'Create the layer anew: create_layer(slug).';
  end if;
  lock table segmentation.layers in share mode;
  perform segmentation.require_free_slugs(array(select n.slug from new_rows as n));
  insert into segmentation.segment_history (segment_id, changed_at, operation, description, actor, reason)
  select
    n.segment_id, n.created_at, 'create', nullif(n.description, ''),
    segmentation.actor(), segmentation.actor_reason()
  from new_rows as n;
  perform segmentation.derive_layer_cells(d.layer_id)
  from (select distinct n.layer_id from new_rows as n where n.layer_id is not null) as d;
  return null;
end
$$;

-- A segment may be described anew, and deleted once, at this moment. Its rollout ends with it.
create or replace function segmentation.segments_after_update () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  wrong record;
begin
  select coalesce(o.slug, n.slug) as slug into wrong
  from old_rows as o
  full join new_rows as n on n.segment_id = o.segment_id
  where (o.slug, o.salt, o.created_at, o.layer_id) is distinct from (n.slug, n.salt, n.created_at, n.layer_id)
    or (
      o.deleted_at <> n.deleted_at
      and (
        o.deleted_at < 'infinity'
        or n.deleted_at < segmentation.settled_before(n.segment_id)
        or n.deleted_at > segmentation.segment_stamp(n.segment_id)
      )
    )
  limit 1;
  if found then
    raise exception 'segment "%" cannot be changed like this', wrong.slug
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('segment', wrong.slug),
        hint = 'Slug, salt, layer and creation are settled; delete_segment(slug) deletes a segment, now and for good.';
  end if;
  insert into segmentation.segment_history (segment_id, changed_at, operation, description, actor, reason)
  select
    n.segment_id, c.changed_at, c.operation, c.description,
    segmentation.actor(), segmentation.actor_reason()
  from new_rows as n
  join old_rows as o on o.segment_id = n.segment_id
  cross join lateral (
    values
      (o.description <> n.description, segmentation.segment_stamp(n.segment_id), 'describe', n.description),
      (o.deleted_at <> n.deleted_at, n.deleted_at, 'delete', null)
  ) as c (applies, changed_at, operation, description)
  where c.applies;
  -- Steps to come never come; the one in force ends.
  delete from segmentation.rollouts as r
  using new_rows as n
  where r.segment_id = n.segment_id and r.starts_at >= n.deleted_at;
  perform segmentation.derive_step_ends(
    array(select n.segment_id from new_rows as n where n.deleted_at < 'infinity' and not n.swept));
  -- What it held is free from now on.
  perform segmentation.deal_buckets(
    array(select n.segment_id from new_rows as n where n.deleted_at < 'infinity' and not n.swept));
  return null;
end
$$;

create or replace function segmentation.segments_refuse_delete () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'segments refuses delete: it would take the past along'
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'Call delete_segment(slug): everybody is out at once and the past stays.';
end
$$;

-- layers --------------------------------------------------------------------------------------------

-- A layer begins now, may be described anew, and is deleted once, at this moment, when no segment is in it any more.
create or replace function segmentation.layers_before_change () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  by_hand boolean := current_user <> 'segmentation_owner';
  earliest timestamptz := segmentation.announce_writer();
  segments text[];
begin
  if tg_op = 'INSERT' then
    if new.deleted_at < 'infinity' or new.created_at < earliest
      or new.created_at > segmentation.stamp(
        (select max(l.deleted_at) from segmentation.layers as l where l.slug = new.slug and l.deleted_at < 'infinity'))
    then
      raise exception 'layer "%" cannot begin at % or be over already', new.slug, new.created_at
        using
          errcode = 'object_not_in_prerequisite_state',
          detail = json_build_object('layer', new.slug, 'created_at', new.created_at),
          hint = 'A layer begins now: leave created_at and deleted_at out, or call create_layer(slug).';
    end if;
    if by_hand then
      new.actor := session_user;
      new.reason := coalesce(new.reason, segmentation.actor_reason());
    end if;
    return new;
  end if;
  if (old.layer_id, old.slug, old.salt, old.created_at, old.actor, old.reason)
      is distinct from (new.layer_id, new.slug, new.salt, new.created_at, new.actor, new.reason)
    or (
      old.deleted_at <> new.deleted_at
      and (
        old.deleted_at < 'infinity'
        or new.deleted_at < earliest
        or new.deleted_at > segmentation.stamp(segmentation.last_change_in_layer(old.layer_id))
      )
    )
  then
    raise exception 'layer "%" cannot be changed like this', old.slug
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('layer', old.slug),
        hint = 'Slug, salt and creation are settled; delete_layer(slug) deletes a layer, now and for good.';
  end if;
  if old.deleted_at = new.deleted_at then
    new.end_actor := old.end_actor;
    new.end_reason := old.end_reason;
    return new;
  end if;
  if by_hand then
    new.end_actor := session_user;
    new.end_reason := segmentation.actor_reason();
  end if;
  select array_agg(s.slug order by s.slug) into segments
  from segmentation.segments as s
  where s.layer_id = old.layer_id and s.deleted_at = 'infinity';
  if segments is not null then
    raise exception 'layer "%" has segments: %', old.slug, array_to_string(segments[:10], ', ')
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('layer', old.slug, 'segments', segments),
        hint = 'Delete them first: delete_segment(slug). Their past stays.';
  end if;
  delete from segmentation.layer_cells as c where c.layer_id = old.layer_id;
  return new;
end
$$;

create or replace trigger layers_before_change
  before insert or update on segmentation.layers
  for each row execute function segmentation.layers_before_change();

create or replace function segmentation.layers_after_insert () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_free_slugs(array(select n.slug from new_rows as n));
  return null;
end
$$;

create or replace trigger layers_after_insert
  after insert on segmentation.layers
  referencing new table as new_rows
  for each statement execute function segmentation.layers_after_insert();

create or replace function segmentation.layers_refuse_delete () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'layers refuses %: the past of its segments needs it', lower(tg_op)
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'Call delete_layer(slug): its slug may be used again.';
end
$$;

create or replace trigger layers_refuse_delete
  before delete or truncate on segmentation.layers
  for each statement execute function segmentation.layers_refuse_delete();

-- What fires when. A deploy touches a trigger only if it differs, as replacing one locks its table against writers.

create or replace trigger memberships_after_insert
  after insert on segmentation.memberships
  referencing new table as new_rows
  for each statement execute function segmentation.memberships_after_insert();

create or replace trigger memberships_after_update
  after update on segmentation.memberships
  referencing old table as old_rows new table as new_rows
  for each statement execute function segmentation.memberships_after_update();

create or replace trigger memberships_after_delete
  after delete on segmentation.memberships
  referencing old table as old_rows
  for each statement execute function segmentation.memberships_after_delete();

create or replace trigger memberships_refuse_truncate
  before truncate on segmentation.memberships
  for each statement execute function segmentation.refuse_truncate();

-- Partitions bear this one as well: see guard_history_partition.
create or replace trigger history_is_append_only
  before update or delete or truncate on segmentation.membership_history
  for each statement execute function segmentation.refuse_history_change();

create or replace trigger history_is_append_only
  before update or delete or truncate on segmentation.segment_history
  for each statement execute function segmentation.refuse_history_change();

create or replace trigger rollouts_after_insert
  after insert on segmentation.rollouts
  referencing new table as new_rows
  for each statement execute function segmentation.rollouts_after_insert();

create or replace trigger rollouts_after_update
  after update on segmentation.rollouts
  referencing old table as old_rows new table as new_rows
  for each statement execute function segmentation.rollouts_after_update();

create or replace trigger rollouts_after_delete
  after delete on segmentation.rollouts
  referencing old table as old_rows
  for each statement execute function segmentation.rollouts_after_delete();

create or replace trigger rollouts_refuse_truncate
  before truncate on segmentation.rollouts
  for each statement execute function segmentation.refuse_truncate();

create or replace trigger segments_after_insert
  after insert on segmentation.segments
  referencing new table as new_rows
  for each statement execute function segmentation.segments_after_insert();

create or replace trigger segments_after_update
  after update on segmentation.segments
  referencing old table as old_rows new table as new_rows
  for each statement execute function segmentation.segments_after_update();

create or replace trigger segments_refuse_delete
  before delete on segmentation.segments
  for each statement execute function segmentation.segments_refuse_delete();

create or replace trigger segments_refuse_truncate
  before truncate on segmentation.segments
  for each statement execute function segmentation.refuse_truncate();
