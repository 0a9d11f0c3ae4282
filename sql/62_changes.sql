-- Changes that can be followed: a consumer asks for one stretch of time after the other and gets every change once.
--
-- A stretch is settled when no change can appear in it any more. Each writer says in pg_locks from which moment on it
-- may stamp, until its transaction ends (announce_writer in sql/10_clock.sql). settled_until reads the clock first and
-- the locks after it; a writer takes its lock first and reads the clock after it. So a writer that is not seen will
-- stamp later, and one that is not there any more has committed: a statement that begins after settled_until sees all
-- it did.
--
-- A standby knows no writers, and a transaction that may not write cannot note what it told. There settled_until is
-- what was told last on the primary; the sweep asks each minute.

create or replace function segmentation.settled_until () returns timestamptz
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz := segmentation.clock() - segmentation.stamp_tolerance();
  told timestamptz := segmentation.told_until();
begin
  if current_setting('transaction_read_only') = 'on' then
    return told;
  end if;
  select least(moment, min(timestamptz 'epoch' + (w.key & ((1::bigint << 44) - 1)) * interval '1 millisecond'))
  into moment
  from (
    select (l.classid::bigint << 32) | l.objid::bigint as key
    from pg_catalog.pg_locks as l
    where l.locktype = 'advisory' and l.objsubid = 1 and l.mode = 'ShareLock'
      and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
  ) as w
  where w.key >> 44 = 21468;
  -- Where the clock has gone back, what was told stays true: nobody stamps before it.
  moment := greatest(moment, told);
  if moment <> told then
    perform setval('segmentation.told_until', segmentation.microseconds(moment));
  end if;
  return moment;
end
$$;

comment on function segmentation.settled_until() is
  'The moment before which no change can appear any more, however long other transactions still run: up to it, membership_changes can be asked. It never goes back. On a standby it is what the primary told last, at most a minute ago. Example: select settled_until();';

-- The end of a stretch: what is settled, if none is asked for. Asked from a moment that is not settled yet, such as a
-- standby that is behind: nothing yet.
create or replace function segmentation.changes_end (
  from_time timestamptz,
  to_time   timestamptz default null
)
  returns timestamptz
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  settled timestamptz;
begin
  if changes_end.from_time is null then
    raise exception 'from is missing'
      using
        errcode = 'invalid_parameter_value',
        hint = 'Give the moment from which on to tell changes, such as the end of the stretch before.';
  end if;
  perform segmentation.require_kept(changes_end.from_time, 'from');
  -- Its snapshot may be older than what is settled.
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    raise exception 'changes cannot be told in a % transaction', current_setting('transaction_isolation')
      using
        errcode = 'object_not_in_prerequisite_state',
        hint = 'Ask in a read committed transaction, as is the default: stretches join all the same.';
  end if;
  settled := segmentation.settled_until();
  perform segmentation.require_stretch(changes_end.from_time, changes_end.to_time);
  if changes_end.to_time > greatest(settled, changes_end.from_time) then
    raise exception 'changes are settled until %, not until %', settled, changes_end.to_time
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('to', changes_end.to_time, 'settled_until', segmentation.rfc3339(settled)),
        hint = 'Leave the end out, or wait: a transaction that still runs may write what belongs there.';
  end if;
  return coalesce(changes_end.to_time, greatest(settled, changes_end.from_time));
end
$$;

comment on function segmentation.changes_end(timestamptz, timestamptz) is
  'For the service: the end of a stretch that membership_changes tells. Example: select changes_end(now() - interval ''1 hour'');';

-- Who may have got in or out in a stretch in which no rollout moved: who was registered, whose override began or ended,
-- who was overridden in a segment that was deleted.
create or replace function segmentation.changed_users (
  from_time timestamptz,
  to_time   timestamptz
)
  returns setof bigint
  language sql
  stable
as $$
  select u.user_id
  from segmentation.users as u
  where u.registered_at >= changed_users.from_time and u.registered_at < changed_users.to_time
  union
  select m.user_id
  from segmentation.memberships as m
  where m.starts_at >= changed_users.from_time and m.starts_at < changed_users.to_time
    -- The condition of the index by time.
    and m.starts_at > '-infinity'
  union
  select m.user_id
  from segmentation.memberships as m
  where m.ends_at >= changed_users.from_time and m.ends_at < changed_users.to_time and m.ends_at < 'infinity'
  union
  select h.user_id
  from segmentation.membership_history as h
  where h.ends_at >= changed_users.from_time
    and (h.ends_at < changed_users.to_time or h.starts_at between changed_users.from_time and changed_users.to_time)
  union
  select o.user_id
  from segmentation.segments as s
  join segmentation.overrides as o on o.segment_id = s.segment_id
  where s.deleted_at >= changed_users.from_time and s.deleted_at < changed_users.to_time
  order by 1
$$;

create or replace function segmentation.membership_changes (
  from_time timestamptz,
  to_time   timestamptz default null
)
  returns setof segmentation.report_line
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set jit = off
  set work_mem = '64MB'
  -- One and the same plan would have to serve a second and a year.
  set plan_cache_mode = force_custom_plan
as $$
declare
  stretch_end timestamptz := segmentation.changes_end(
    membership_changes.from_time, membership_changes.to_time);
  changed bigint[];
begin
  -- A rollout that moves may concern everybody. Otherwise only those are asked about who may have changed.
  if not exists (
    select
    from segmentation.rollouts as r
    where (r.starts_at >= membership_changes.from_time and r.starts_at < stretch_end)
      or (r.ends_at >= membership_changes.from_time and r.ends_at < stretch_end)
  ) then
    changed := array(
      select c.user_id
      from segmentation.changed_users(membership_changes.from_time, stretch_end) as c (user_id)
      limit 20001);
  end if;
  if cardinality(changed) <= 20000 then
    return query
    select e.user_id, s.slug, e.operation, segmentation.rfc3339(e.at)
    from segmentation.membership_events(changed, stretch_end) as e
    join segmentation.segments as s on s.segment_id = e.segment_id
    where e.at >= membership_changes.from_time and e.at < stretch_end
    order by e.at asc, e.user_id asc, s.slug asc, e.operation desc;
  else
    return query
    select l.*
    from segmentation.user_pages() as page
    cross join lateral segmentation.report_page(
      membership_changes.from_time, stretch_end, page.after_id, page.up_to_id, stretch_end) as l
    order by l.at asc, l.user_id asc, l.segment collate "C" asc, l.operation desc;
  end if;
end
$$;

comment on function segmentation.membership_changes(timestamptz, timestamptz) is
  'Who got in or out of which segment, from from_time up to but not at to_time (what is settled), as the rows of the report, by time: expiries and ramps too. Asked again, the same rows, but for users who were forgotten; stretches join without gap or overlap. A to_time that is not settled is an error. Example: select * from membership_changes(now() - interval ''1 hour'', settled_until());';
