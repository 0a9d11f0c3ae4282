-- Housekeeping of what has ended: the sweep moves it from memberships to the history.
--
-- Nothing depends on it for the right answer, as every read compares ends_at with the clock; it keeps
-- memberships small. It takes rows that nobody holds (SKIP LOCKED), so it waits for no writer, and a
-- writer waits for one batch at most; the delete trigger writes the history, with the true end.
--
-- In calling order: expire_memberships (one batch), note_upkeep, sweep (what pg_cron calls).

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
  delete from segmentation.memberships as m
  using (
    select e.user_id, e.segment_id
    from segmentation.memberships as e
    where e.ends_at <= moment
    order by e.ends_at
    limit expire_memberships.max_rows
    for update skip locked
  ) as ended
  where m.user_id = ended.user_id and m.segment_id = ended.segment_id;
  get diagnostics moved = row_count;

  for deleted_segment in
    select s.segment_id
    from segmentation.segments as s
    where s.deleted_at <= moment and s.deleted_at < 'infinity' and not s.swept
    order by s.deleted_at
  loop
    exit when moved >= expire_memberships.max_rows;
    delete from segmentation.memberships as m
    using (
      select e.user_id, e.segment_id
      from segmentation.memberships as e
      where e.segment_id = deleted_segment.segment_id
      order by e.user_id
      limit expire_memberships.max_rows - moved
      for update skip locked
    ) as ended
    where m.user_id = ended.user_id and m.segment_id = ended.segment_id;
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

create or replace function segmentation.note_upkeep (
  task text,
  rows bigint
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  if note_upkeep.task is null or note_upkeep.rows is null then
    raise exception 'task and rows are both needed'
      using errcode = 'invalid_parameter_value', hint = 'Say what ended, and how many rows it moved.';
  end if;
  insert into segmentation.upkeep as u (task, finished_at, rows)
  values (note_upkeep.task, segmentation.clock(), note_upkeep.rows)
  on conflict (task) do update set finished_at = excluded.finished_at, rows = excluded.rows;
end
$$;

comment on function segmentation.note_upkeep(text, bigint) is
  'Note that a task of the upkeep ended well, and how many rows it moved; service_status() shows it. Example: select note_upkeep(''sweep'', 0);';

-- Bounded twice, in rows a transaction and in time a run, because pg_cron queues a run for every minute
-- missed. The lock is held a batch at a time: of two sweeps that overlap one goes on and one ends at once.
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
    exit when not pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtext('segmentation.sweep'), 0);
    moved := segmentation.expire_memberships(sweep.batch_rows);
    total := total + moved;
    if moved < sweep.batch_rows then
      perform segmentation.note_upkeep('sweep', total);
    end if;
    commit;
    exit when moved < sweep.batch_rows or pg_catalog.clock_timestamp() > stop_at;
  end loop;
end
$$;

comment on procedure segmentation.sweep(integer, integer) is
  'Move all that has ended to the history, a committed batch at a time, for at most so many seconds; pg_cron calls it each minute. Example: call sweep();';
