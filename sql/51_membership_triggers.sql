-- What happens when an override begins, changes or ends, also by plain DML.
--
-- The triggers that record are statement triggers with transition tables: a million rows cost one INSERT. A row that
-- leaves memberships, or changes into another override, is closed into membership_history at the moment it truly
-- ended. No statement may change what held before its transaction began.

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
          errcode = segmentation.settled_errcode(),
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

create or replace trigger memberships_after_insert
  after insert on segmentation.memberships
  referencing new table as new_rows
  for each statement execute function segmentation.memberships_after_insert();

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

create or replace trigger memberships_after_delete
  after delete on segmentation.memberships
  referencing old table as old_rows
  for each statement execute function segmentation.memberships_after_delete();

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
        errcode = segmentation.settled_errcode(),
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

create or replace trigger memberships_after_update
  after update on segmentation.memberships
  referencing old table as old_rows new table as new_rows
  for each statement execute function segmentation.memberships_after_update();

create or replace trigger memberships_refuse_truncate
  before truncate on segmentation.memberships
  for each statement execute function segmentation.refuse_truncate();
