-- Maintenance: what pg_cron does, and nothing that an answer depends on.
--
--     expire    move ended overrides from memberships to the history, a bounded batch at a time
--     sweep     expire batch after batch, for at most so long
--     purge     delete what nobody may ask for any more: links, kept answers, months that retention has given up;
--               renew what the hot read knows of layers
--
-- Every read compares ends_at with the clock, so the sweep only keeps memberships small. It takes rows that nobody
-- holds (SKIP LOCKED), so it waits for no writer, and a writer waits for one batch at most. The delete trigger writes
-- the history, with the true end. The history has one partition per month (UTC) of ends_at.

create or replace function segmentation.expire_memberships (
  max_rows integer default 5000
)
  returns integer
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz := segmentation.clock();
  moved integer := 0;
  moved_now integer;
  deleted_segment record;
begin
  perform segmentation.require_rows(expire_memberships.max_rows);
  -- Materialized: a join may evaluate a subquery, and so its LIMIT, once for each row of the other side.
  with ended as materialized (
    select e.ctid as place
    from segmentation.memberships as e
    where e.ends_at <= moment
    order by e.ends_at
    limit expire_memberships.max_rows
    for update skip locked
  )
  delete from segmentation.memberships as m
  where m.ctid = any (array(select e.place from ended as e));
  get diagnostics moved = row_count;

  for deleted_segment in
    select s.segment_id
    from segmentation.segments as s
    where s.deleted_at <= moment and s.deleted_at < 'infinity' and not s.swept
    order by s.deleted_at
  loop
    exit when moved >= expire_memberships.max_rows;
    with ended as materialized (
      select e.ctid as place
      from segmentation.memberships as e
      where e.segment_id = deleted_segment.segment_id
      order by e.user_id
      limit expire_memberships.max_rows - moved
      for update skip locked
    )
    delete from segmentation.memberships as m
    where m.ctid = any (array(select e.place from ended as e));
    get diagnostics moved_now = row_count;
    moved := moved + moved_now;
    update segmentation.segments as s
    set swept = true
    where s.segment_id = deleted_segment.segment_id
      and not exists (
        select from segmentation.memberships as m where m.segment_id = s.segment_id
      );
  end loop;
  return moved;
end
$$;

comment on function segmentation.expire_memberships(integer) is
  'Move at most so many ended overrides (expired, or their segment deleted) to the history; returns how many were moved. Example: select expire_memberships(10000);';

-- The oldest end that has come and not been swept yet: how far the sweep is behind.
create or replace function segmentation.oldest_unswept (
  moment timestamptz
)
  returns timestamptz
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select least(
    (
      select min(m.ends_at)
      from segmentation.memberships as m
      where m.ends_at <= oldest_unswept.moment and m.ends_at < 'infinity'
    ),
    (select min(s.deleted_at) from segmentation.segments as s where s.deleted_at < 'infinity' and not s.swept))
$$;

create or replace function segmentation.note_upkeep (
  task text,
  rows bigint
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if note_upkeep.task is null or note_upkeep.rows is null then
    raise exception 'task and rows are both needed'
      using errcode = 'invalid_parameter_value', hint = 'Say what ended, and how many rows it moved.';
  end if;
  insert into segmentation.upkeep as u (task, finished_at, rows)
  values (note_upkeep.task, segmentation.clock(), note_upkeep.rows)
  on conflict on constraint upkeep_pkey do update set finished_at = excluded.finished_at, rows = excluded.rows;
end
$$;

comment on function segmentation.note_upkeep(text, bigint) is
  'For the service: note that a task of the upkeep ended well, and how many rows it moved; service_status() shows it. Example: select note_upkeep(''sweep'', 0);';

-- Bounded twice, in rows per transaction and in time per run, because pg_cron queues a run for every minute
-- missed. Two sweeps at once need no lock: each takes rows that the other does not hold.
-- No definer and no SET clause here: a procedure that commits may have neither.
create or replace procedure segmentation.sweep (
  batch_rows  integer default 5000,
  max_seconds integer default 50
)
  language plpgsql
as $$
declare
  stop_at timestamptz := pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => sweep.max_seconds);
  moved integer;
  total bigint := 0;
begin
  loop
    moved := segmentation.expire_memberships(sweep.batch_rows);
    total := total + moved;
    if moved < sweep.batch_rows then
      perform segmentation.note_upkeep('sweep', total);
      -- For those who follow changes on a standby.
      perform segmentation.settled_until();
    end if;
    commit;
    exit when moved < sweep.batch_rows or pg_catalog.clock_timestamp() > stop_at;
  end loop;
end
$$;

comment on procedure segmentation.sweep(integer, integer) is
  'Move all that has ended to the history, a committed batch at a time, for at most so many seconds; pg_cron calls it each minute. Example: call sweep();';

-- A statement that names the partition itself does not fire the triggers of its table: it bears them too, alike.
create or replace function segmentation.guard_history_partition (
  partition regclass
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
-- What it executes PostgreSQL itself has written. @plpgsql_check_options: security_warnings = off
declare
  wanted record;
begin
  for wanted in
    select replace(
      pg_get_triggerdef(t.oid), ' ON segmentation.membership_history ', format(' ON %s ', partition)) as trigger
    from pg_catalog.pg_trigger as t
    where t.tgrelid = 'segmentation.membership_history'::regclass and not t.tgisinternal
    except
    select pg_get_triggerdef(t.oid)
    from pg_catalog.pg_trigger as t
    where t.tgrelid = guard_history_partition.partition and t.tgenabled = 'O'
  loop
    execute regexp_replace(wanted.trigger, '^CREATE', 'CREATE OR REPLACE');
  end loop;
end
$$;

-- Made apart and then attached: readers and writers of the other months go on meanwhile.
create or replace function segmentation.ensure_history_partition (
  moment timestamptz
)
  returns boolean
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
as $$
declare
  month_start timestamptz := date_trunc('month', moment);
  partition_name text := 'membership_history_' || to_char(month_start, 'YYYY_MM');
begin
  if to_regclass('segmentation.' || partition_name) is not null then
    return false;
  end if;
  -- One transaction at a time. Attaching takes this lock anyway; readers and writers of other months go on.
  lock table segmentation.membership_history in share update exclusive mode;
  -- Asked of the catalog: what to_regclass remembers may be older than the lock.
  if exists (
    select
    from pg_catalog.pg_class as c
    where c.relnamespace = 'segmentation'::regnamespace and c.relname = partition_name
  ) then
    return false;
  end if;
  execute format(
    'create table segmentation.%I (like segmentation.membership_history including defaults including constraints)',
    partition_name);
  execute format(
    'alter table segmentation.membership_history attach partition segmentation.%I for values from (%L) to (%L)',
    partition_name, month_start, month_start + interval '1 month');
  perform segmentation.guard_history_partition(('segmentation.' || partition_name)::regclass);
  return true;
end
$$;

-- For overrides that are closed: the months in which they end, and those in which their segments were deleted. A month
-- too many does no harm.
create or replace function segmentation.ensure_history_of_ends (
  months      timestamptz[],
  segment_ids integer[]
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.ensure_history_partition(e.month)
  from (
    select unnest(ensure_history_of_ends.months)
    union
    select date_trunc('month', s.deleted_at, 'UTC')
    from segmentation.segments as s
    where s.segment_id = any (ensure_history_of_ends.segment_ids) and s.deleted_at < 'infinity'
  ) as e (month);
end
$$;

create or replace function segmentation.ensure_history_partitions (
  months_ahead integer default 3
)
  returns integer
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
as $$
declare
  created integer;
begin
  if (ensure_history_partitions.months_ahead between 0 and 120) is not true then
    raise exception 'months_ahead % is not between 0 and 120', coalesce(months_ahead::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('months_ahead', months_ahead),
        hint = 'Three months ahead is the usual.';
  end if;
  select count(*) filter (where segmentation.ensure_history_partition(month))
  into created
  from generate_series(
    date_trunc('month', segmentation.clock()),
    date_trunc('month', segmentation.clock()) + make_interval(months => ensure_history_partitions.months_ahead),
    interval '1 month') as month;
  return created;
end
$$;

comment on function segmentation.ensure_history_partitions(integer) is
  'Make the history''s partitions from this month to so many months ahead; returns how many were made. Example: select ensure_history_partitions(3);';

-- What the first run of the jobs would do, so that a new or restored database is ready without waiting for pg_cron's
-- minute. Migrating calls it when it is done, and in a transaction of its own: who changes a user whose override has
-- ended waits for this one.
create or replace function segmentation.first_upkeep () returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.ensure_history_partitions(3);
  if not exists (
    select
    from segmentation.upkeep as u
    where u.task = 'sweep' and u.finished_at > segmentation.clock() - interval '10 minutes'
  ) then
    perform segmentation.note_upkeep('sweep', segmentation.expire_memberships(5000));
  end if;
end
$$;

create or replace function segmentation.history_partitions ()
  returns table (partition regclass, month_start timestamptz)
  language sql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
  set timezone = 'UTC'
as $$
  select i.inhrelid::regclass, to_timestamp(right(c.relname, 7) || '+00', 'YYYY_MMTZH')
  from pg_catalog.pg_inherits as i
  join pg_catalog.pg_class as c on c.oid = i.inhrelid
  where i.inhparent = 'segmentation.membership_history'::regclass
  order by c.relname
$$;

comment on function segmentation.history_partitions() is
  'The partitions of the history, oldest first. Example: select * from history_partitions();';

-- Drops the months before kept_since, unless somebody reads the history just now. Dropping takes the whole history
-- for a moment (ACCESS EXCLUSIVE): who comes after us would wait for whoever we wait for, hence the short timeout.
create or replace function segmentation.drop_retired_partitions () returns integer
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '100ms'
as $$
declare
  retired regclass[] := array(
    select h.partition
    from segmentation.history_partitions() as h
    where h.month_start < (select r.kept_since from segmentation.retention as r)
  );
  old_partition regclass;
begin
  if cardinality(retired) > 0 then
    lock table segmentation.membership_history in access exclusive mode;
    foreach old_partition in array retired loop
      execute format('drop table %s', old_partition);
    end loop;
  end if;
  return cardinality(retired);
exception
  when lock_not_available then
    return 0;
end
$$;

-- Notes from which month on the history is kept: no answer tells of the time before, dropped or not.
create or replace function segmentation.keep_since (
  period text
)
  returns timestamptz
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  horizon timestamptz := segmentation.month_start(keep_since.period);
begin
  if horizon > segmentation.clock() then
    raise exception 'period % is yet to come', keep_since.period
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('period', keep_since.period),
        hint = 'Give the first month to keep: this one or an earlier one.';
  end if;
  update segmentation.retention as r set kept_since = horizon where r.kept_since < horizon;
  return horizon;
end
$$;

create or replace function segmentation.drop_history_before (
  period text
)
  returns integer
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  horizon timestamptz := segmentation.keep_since(drop_history_before.period);
  dropped integer := 0;
begin
  -- What ended before the horizon but was not swept yet would come back as a partition of its own.
  delete from segmentation.memberships as m
  using segmentation.segments as s
  where s.segment_id = m.segment_id and least(m.ends_at, s.deleted_at) < horizon;
  for attempt in 1 .. 4 loop
    dropped := segmentation.drop_retired_partitions();
    exit when dropped > 0 or not exists (
      select from segmentation.history_partitions() as h where h.month_start < horizon
    );
    perform pg_sleep(0.3);
  end loop;
  if exists (select from segmentation.history_partitions() as h where h.month_start < horizon) then
    raise warning 'the history is being read: its months before % are dropped by the next purge that can',
      drop_history_before.period
      using hint = 'Nothing tells of them any more. To drop them at once: select purge_expired();';
  end if;
  return dropped;
end
$$;

comment on function segmentation.drop_history_before(text) is
  'Retention: drop the history of all months before this one, for good; returns how many partitions were dropped. What is being read just now is dropped a little later, by the purge. Example: select drop_history_before(''2025-01'');';

create or replace function segmentation.purge_expired () returns bigint
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  purged bigint;
begin
  with links as (
    delete from segmentation.report_links as l where l.expires_at <= segmentation.clock() returning 1
  ),
  answers as (
    delete from segmentation.idempotency_keys as i
    where i.created_at <= segmentation.answers_kept_since()
    returning 1
  )
  select (select count(*) from links) + (select count(*) from answers) into purged;
  perform segmentation.drop_retired_partitions();
  perform segmentation.renew_layer_cells();
  perform segmentation.note_upkeep('purge', purged);
  return purged;
end
$$;

comment on function segmentation.purge_expired() is
  'Delete report links that have expired and answers kept for a day; returns how many. Drops months of the history that drop_history_before could not drop, and renews what the hot read knows of layers. Example: select purge_expired();';
