-- What happens when a rollout step is set, moved or cancelled, also by plain DML.
--
-- A step that has begun is the past and never changes. Ends are derived, never given: nobody can leave a gap between
-- two steps, or let them overlap. In a layer, the buckets are dealt anew.

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
        errcode = segmentation.settled_errcode(),
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

create or replace trigger rollouts_after_insert
  after insert on segmentation.rollouts
  referencing new table as new_rows
  for each statement execute function segmentation.rollouts_after_insert();

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

create or replace trigger rollouts_after_update
  after update on segmentation.rollouts
  referencing old table as old_rows new table as new_rows
  for each statement execute function segmentation.rollouts_after_update();

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

create or replace trigger rollouts_after_delete
  after delete on segmentation.rollouts
  referencing old table as old_rows
  for each statement execute function segmentation.rollouts_after_delete();

create or replace trigger rollouts_refuse_truncate
  before truncate on segmentation.rollouts
  for each statement execute function segmentation.refuse_truncate();
