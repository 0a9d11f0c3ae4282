-- Time is a function, so that a test can set it and nothing ever sleeps to see an expiry.
--
-- A server's clock can go back: NTP sets it, or a standby whose clock is behind takes over. Two rules make sure that
-- no change that was acknowledged is undone, lost or hidden by it:
--
--   1. A change is stamped by stamp(bound), after its locks are held and not before any bound that it must follow:
--      what the same user or segment began or ended before. Periods never overlap or run backwards.
--   2. What is done is done; the clock decides only what was planned. Each row that begins something notes in
--      decided_at when that was decided, and "now" is, for this row, never before that. A row whose start was its
--      stamp (starts_at <= decided_at) has begun, even where the clock now says an earlier time. A row whose start was
--      planned (starts_at > decided_at) begins when the clock says so. in_force() is this rule.
--
-- One greatest moment for the whole database would be shorter, but every writer would have to write it and every
-- read to look it up; and a clock that was once far ahead would stop all periods of everybody. So only the rows
-- that were written meanwhile are concerned.

create or replace function segmentation.clock () returns timestamptz
  language sql
  volatile
as $$ select pg_catalog.clock_timestamp() $$;

comment on function segmentation.clock() is
  'The present moment, as every function of this schema sees it. Example: select clock();';

-- Who writes says so, before its first stamp: a shared advisory lock, held until the transaction ends, carries the
-- moment from which on it may stamp (sql/62_changes.sql reads these locks from pg_locks). That moment is read anew when
-- the lock is held, kept in a setting of the transaction, and is the earliest that plain DML may give. A savepoint that
-- is rolled back takes both with it; PREPARE TRANSACTION keeps the lock.

-- In plain DML, now() is a little older than the statement.
create or replace function segmentation.stamp_tolerance () returns interval
  language sql
  immutable
  parallel safe
as $$ select interval '100 milliseconds' $$;

-- Changes before this moment have been told to somebody as all there are, so no change is stamped before it, even if
-- the clock has gone back. Not where it is hours ahead: the clock was wrong then, and is not followed.
create or replace function segmentation.told_until () returns timestamptz
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  microseconds bigint := (select n.last_value from segmentation.told_until as n);
  moment timestamptz := timestamptz 'epoch' + microseconds * interval '1 microsecond';
begin
  return case when moment <= segmentation.clock() + interval '1 hour' then moment else '-infinity' end;
end
$$;

-- Stable, as extract is said to be: only so does PostgreSQL inline it.
create or replace function segmentation.microseconds (
  moment timestamptz
)
  returns bigint
  language sql
  stable
  parallel safe
as $$ select (extract(epoch from moment) * 1000000)::bigint $$;

-- The key of a writer's lock: a number of ours in the upper bits, milliseconds since 1970 in the lower 44.
create or replace function segmentation.writer_key (
  since timestamptz
)
  returns bigint
  language sql
  stable
  parallel safe
as $$ select (21468::bigint << 44) | segmentation.microseconds(since) / 1000 $$;

-- When this transaction began; nothing in it happened before.
create or replace function segmentation.transaction_start () returns timestamptz
  language sql
  stable
as $$ select pg_catalog.transaction_timestamp() $$;

-- Any login may hold any advisory lock, so no writer waits for one: it takes the next millisecond whose lock is free,
-- and returns the first moment that this lock allows.
create or replace function segmentation.hold_writer_key (
  since timestamptz
)
  returns timestamptz
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  while not pg_try_advisory_xact_lock_shared(segmentation.writer_key(since)) loop
    since := since + interval '1 millisecond';
  end loop;
  return since;
end
$$;

-- Says from when on this transaction may stamp, and returns it: no change may be earlier. A trigger sees a row a moment
-- after its function stamped it, but never before its transaction said that it writes. Called at each write: all it
-- does then is to look at the setting. A value that the transaction cannot have set itself does not count.
create or replace function segmentation.announce_writer () returns timestamptz
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  setting text := current_setting('segmentation.writes_since', true);
  since timestamptz;
begin
  if setting <> '' then
    since := timestamptz 'epoch' + setting::bigint * interval '1 microsecond';
    if since < segmentation.transaction_start() - segmentation.stamp_tolerance()
      or (since > segmentation.clock() and since > segmentation.told_until())
    then
      since := null;
    end if;
  end if;
  if since is null then
    -- Told meanwhile to somebody who did not see the lock yet: so it is looked up again.
    since := greatest(
      segmentation.hold_writer_key(
        greatest(segmentation.clock() - segmentation.stamp_tolerance(), segmentation.told_until())),
      segmentation.clock() - segmentation.stamp_tolerance(),
      segmentation.told_until());
    perform set_config('segmentation.writes_since', segmentation.microseconds(since)::text, true);
  end if;
  -- Held already, unless somebody else set the setting.
  return segmentation.hold_writer_key(since);
end
$$;

-- The moment of a change: now; or, where the clock has gone back behind a bound that the change must follow, right
-- after that bound (null: there is none). Call it when all locks are held.
create or replace function segmentation.stamp (
  bound timestamptz
)
  returns timestamptz
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  since timestamptz := segmentation.announce_writer();
  now timestamptz := segmentation.clock();
begin
  return greatest(since, case when stamp.bound > now then stamp.bound + interval '1 microsecond' else now end);
end
$$;

-- Whether what a row says holds at a moment, [starts_at, ends_at). With decided_at: whether it holds now, and moment is
-- what clock() said (rule 2 above). PostgreSQL inlines this function, so that an index on a bound still serves, as long
-- as moment is a variable or a column: clock() itself is volatile and would stop the inlining.
create or replace function segmentation.in_force (
  starts_at  timestamptz,
  ends_at    timestamptz,
  moment     timestamptz,
  decided_at timestamptz default null
)
  returns boolean
  language sql
  immutable
  parallel safe
as $$
  select starts_at <= greatest(moment, decided_at) and moment < ends_at and (decided_at >= ends_at) is not true
$$;

-- Microseconds always, UTC always, so that text sorts as time does; infinity has no such form: null.
create or replace function segmentation.rfc3339 (
  moment timestamptz
)
  returns text
  language sql
  stable
  parallel safe
as $$
  select case when pg_catalog.isfinite(moment)
    then pg_catalog.to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  end
$$;

comment on function segmentation.rfc3339(timestamptz) is
  'For the service: a moment as RFC 3339 text in UTC; null for infinity. Example: select rfc3339(now());';
