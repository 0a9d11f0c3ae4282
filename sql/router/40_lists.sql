-- A list of users over shards: all of them or none, by PostgreSQL's two-phase commit.
--
--     1. each shard does its part in a transaction, all at the same time, and prepares it (prepare transaction)
--     2. the decision is a row of segmentation.decisions, in a transaction of its own
--     3. each shard commits what it has prepared
--
-- What a crash leaves between 1 and 3 is settled by a job of pg_cron: with the row it is committed, without one it is
-- decided against and rolled back. A row that is there stays, so that whoever comes late cannot decide otherwise. A gid
-- names the shard as well, since two shards of one server share the names of prepared transactions.
--
-- Shards wait for locks by themselves, so two lists that have users in common may wait for each other, one on this
-- shard and one on that. So a shard waits for two seconds at most; then all is rolled back and tried again, for as long
-- as the caller waits for a lock.

create or replace function segmentation.link_to (
  server text,
  link   text
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if link_to.link = any (segmentation_remote.dblink_get_connections()) then
    perform segmentation_remote.dblink_disconnect(link_to.link);
  end if;
  perform segmentation_remote.dblink_connect(link_to.link, link_to.server);
end
$$;

-- Does not fail: what is not unlinked is gone with the session.
create or replace function segmentation.unlink (
  links text[]
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  link text;
begin
  foreach link in array links loop
    if link = any (segmentation_remote.dblink_get_connections()) then
      perform segmentation_remote.dblink_disconnect(link);
    end if;
  end loop;
end
$$;

-- A row is a decision; there is none but the first. A key whose answer is forgotten by now is free again.
create or replace function segmentation.decide (
  gid             text,
  is_committed    boolean,
  counts          bigint[] default null,
  api_key         text default null,
  idempotency_key text default null,
  fingerprint     bytea default null
)
  returns boolean
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  update segmentation.decisions as d
  set api_key = null, idempotency_key = null
  where d.api_key = decide.api_key and d.idempotency_key = decide.idempotency_key
    and d.decided_at <= segmentation.answers_kept_since();
  insert into segmentation.decisions as d (
    gid, is_committed, counts, api_key, idempotency_key, fingerprint, decided_at)
  values (
    decide.gid, decide.is_committed, decide.counts, decide.api_key, decide.idempotency_key, decide.fingerprint,
    segmentation.clock())
  on conflict on constraint decisions_pkey do nothing;
  return (select d.is_committed from segmentation.decisions as d where d.gid = decide.gid);
end
$$;

grant execute on function segmentation.decide(text, boolean, bigint[], text, text, bytea) to segmentation_router;

-- What a call answers, in a transaction of its own: by a connection to this very database.
create or replace function segmentation.on_this_router (
  call text
)
  returns text
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  answer text;
begin
  perform segmentation.link_to('segmentation_router', 'segmentation_router');
  select t.answer into answer from segmentation_remote.dblink('segmentation_router', call) as t (answer text);
  perform segmentation.unlink(array['segmentation_router']);
  return answer;
exception
  when query_canceled or others then
    perform segmentation.unlink(array['segmentation_router']);
    raise;
end
$$;

create or replace function segmentation.decide_for_good (
  gid             text,
  is_committed    boolean,
  counts          bigint[] default null,
  api_key         text default null,
  idempotency_key text default null,
  fingerprint     bytea default null
)
  returns boolean
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select segmentation.on_this_router(format(
    'select segmentation.decide(%L, %L, %L, %L, %L, %L)',
    gid, is_committed, counts, api_key, idempotency_key, fingerprint))::boolean
$$;

-- Raises the first shard's error. Where users are assigned elsewhere (exclusive_segments), those of all shards are put
-- together, as the caller sent one list.
create or replace function segmentation.raise_failures (
  failures json[],
  listed   bigint
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  told json;
  segments text[] := '{}';
  users bigint := 0;
  user_ids bigint[] := '{}';
begin
  foreach told in array failures loop
    if listed = 1 or told ->> 'detail' not like '{"code" : "exclusive_segments"%' then
      perform segmentation.raise_as_told(
        told ->> 'state', told ->> 'message', told ->> 'detail', told ->> 'hint');
    end if;
    segments := segments || array(
      select json_array_elements_text((told ->> 'detail')::json -> 'exclusive_segments'));
    -- A shard with one user of the list takes it for a list of one.
    users := users + coalesce(((told ->> 'detail')::json ->> 'users')::bigint, 1);
    user_ids := user_ids || array(
      select json_array_elements_text(
        coalesce((told ->> 'detail')::json -> 'user_ids', json_build_array(told -> 'only_user'))))::bigint[];
  end loop;
  perform segmentation.refuse_assigned_elsewhere(
    array(select distinct s from unnest(segments) as s order by s),
    users,
    (array(select u from unnest(user_ids) as u order by u))[:10]);
end
$$;

-- Sends the parts, each a call of change_segment_members, and prepares them: the counts, added up.
create or replace function segmentation.prepare_on_shards (
  shards      text[],
  calls       text[],
  gid         text,
  patience    interval,
  slug        text,
  listed      bigint,
  max_removed bigint,
  dry_run     boolean
)
  returns bigint[]
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  links text[] := array(select 'segmentation_shard_' || s from unnest(shards) as s);
  counts bigint[] := array_fill(0::bigint, array[6]);
  is_prepared boolean[] := array_fill(false, array[cardinality(shards)]);
  told record;
  failures json[] := '{}';
  e_state text;
  e_message text;
  e_detail text;
  e_hint text;
begin
  perform segmentation.require_read_write('change_segment_members()');
  for n in 1 .. cardinality(links) loop
    perform segmentation.link_to(links[n], links[n]);
    perform segmentation_remote.dblink_exec(
      links[n],
      format(
        'begin; set local lock_timeout = %s; set local statement_timeout = %L',
        greatest(1, extract(milliseconds from least(patience, interval '2 seconds'))::integer),
        current_setting('statement_timeout')));
    perform segmentation_remote.dblink_send_query(links[n], calls[n]);
  end loop;
  for n in 1 .. cardinality(links) loop
    begin
      select t.* into told
      from segmentation_remote.dblink_get_result(links[n]) as t (
        received bigint, changed bigint, unchanged bigint, added bigint, removed bigint, rescheduled bigint);
      -- Once more, so that the connection takes the next statement.
      perform t.received from segmentation_remote.dblink_get_result(links[n]) as t (received bigint);
      counts := array[
        counts[1] + told.received, counts[2] + told.changed, counts[3] + told.unchanged, counts[4] + told.added,
        counts[5] + told.removed, counts[6] + told.rescheduled];
    exception
      when others then
        get stacked diagnostics
          e_state = returned_sqlstate, e_message = message_text, e_detail = pg_exception_detail,
          e_hint = pg_exception_hint;
        failures := failures || json_build_object(
          'state', e_state, 'message', e_message, 'detail', e_detail, 'hint', e_hint,
          'only_user', substring(calls[n], '''{([0-9]+)}'''));
    end;
  end loop;
  if cardinality(failures) > 0 then
    perform segmentation.raise_failures(failures, listed);
  end if;
  perform segmentation.require_whole_list(
    prepare_on_shards.slug, prepare_on_shards.listed, counts[5], prepare_on_shards.max_removed);
  if prepare_on_shards.dry_run then
    perform segmentation.unlink(links);
    return counts;
  end if;
  for n in 1 .. cardinality(links) loop
    perform segmentation_remote.dblink_exec(links[n], format('prepare transaction %L', gid || '-' || shards[n]));
    is_prepared[n] := true;
  end loop;
  return counts;
exception
  when query_canceled or others then
    for n in 1 .. cardinality(links) loop
      -- Without an answer, the job settles it.
      if is_prepared[n] and links[n] = any (segmentation_remote.dblink_get_connections()) then
        perform segmentation_remote.dblink_exec(
          links[n], format('rollback prepared %L', gid || '-' || shards[n]), false);
      end if;
    end loop;
    perform segmentation.unlink(links);
    raise;
end
$$;

create or replace function segmentation.change_segment_members (
  slug        text,
  user_ids    bigint[],
  operation   text default 'add',
  expires_at  timestamptz default null,
  starts_at   timestamptz default null,
  actor       text default session_user,
  reason      text default null,
  max_removed bigint default null,
  dry_run     boolean default false,
  all_actors  boolean default false
)
  returns table (
    received bigint, changed bigint, unchanged bigint, added bigint, removed bigint, rescheduled bigint
  )
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set work_mem = '128MB'
  set datestyle = 'ISO'
as $$
declare
  claimed json := segmentation.claimed_key();
  asked bytea;
  author text := segmentation.given_actor(change_segment_members.actor);
  is_replacing boolean := change_segment_members.operation = 'replace';
  listed bigint := cardinality(change_segment_members.user_ids);
  started_at timestamptz := clock_timestamp();
  patience interval;
  gid text;
  names text[];
  calls text[];
  counts bigint[];
begin
  perform segmentation.require_list_change(
    change_segment_members.operation, change_segment_members.expires_at, change_segment_members.starts_at,
    change_segment_members.actor, change_segment_members.reason,
    change_segment_members.max_removed, change_segment_members.all_actors);
  perform segmentation.require_list(change_segment_members.user_ids, change_segment_members.operation);
  -- A deletion of the segment waits until the list is done.
  perform segmentation.lock_slugs(
    array[change_segment_members.slug], case when is_replacing then 'in turn' else 'shared' end);
  perform segmentation.segment_id_of(change_segment_members.slug);
  if claimed is not null then
    -- Done, but not told: the router was gone before it kept the answer. As on a shard (change_user_segments_once), the
    -- end is no part of what makes requests the same.
    asked := sha256(convert_to(jsonb_build_array(
      change_segment_members.slug, hash_array_extended(change_segment_members.user_ids, 0),
      change_segment_members.operation, change_segment_members.starts_at, author, change_segment_members.reason,
      change_segment_members.max_removed, coalesce(change_segment_members.dry_run, false),
      coalesce(change_segment_members.all_actors, false)
    )::text, 'UTF8'));
    select d.counts, segmentation.require_same_request(d.fingerprint, asked) into counts
    from segmentation.decisions as d
    where d.api_key = claimed ->> 0 and d.idempotency_key = claimed ->> 1
      and d.decided_at > segmentation.answers_kept_since();
  end if;
  if counts is null then
    patience := current_setting('lock_timeout')::interval;
    loop
      -- Whom the list does not name may be removed by replace: each shard has to look. At each turn anew, since users
      -- may have moved to another shard.
      select
        array_agg(p.shard order by p.shard),
        array_agg(
          format(
            'select received, changed, unchanged, added, removed, rescheduled
             from segmentation.change_segment_members(%L, %L, %L, %L, %L, %L, %L, null, %L, %L)',
            change_segment_members.slug, coalesce(p.user_ids, '{}'), change_segment_members.operation,
            change_segment_members.expires_at, change_segment_members.starts_at, author,
            change_segment_members.reason, coalesce(change_segment_members.dry_run, false),
            coalesce(change_segment_members.all_actors, false))
          order by p.shard)
      into names, calls
      from (
        select s.shard, u.user_ids
        from segmentation.shards as s
        left join (
          select d.shard, array_agg(asked.user_id) as user_ids
          from unnest(change_segment_members.user_ids) as asked (user_id)
          join segmentation.slots as d on d.slot = segmentation.slot_of(asked.user_id)
          group by d.shard
        ) as u on u.shard = s.shard
        where is_replacing or u.shard is not null
      ) as p;
      gid := 'segmentation-' || gen_random_uuid();
      begin
        counts := segmentation.prepare_on_shards(
          names, calls, gid, patience, change_segment_members.slug, listed, change_segment_members.max_removed,
          coalesce(change_segment_members.dry_run, false));
        exit;
      exception
        when lock_not_available or deadlock_detected then
          if clock_timestamp() > started_at + patience then
            raise;
          end if;
          perform pg_sleep(random() * 0.2);
        when connection_exception or admin_shutdown or crash_shutdown or cannot_connect_now then
          perform segmentation.refuse_away();
      end;
    end loop;
    if not coalesce(change_segment_members.dry_run, false) then
      perform segmentation.commit_on_shards(names, gid, counts, claimed ->> 0, claimed ->> 1, asked);
    end if;
  end if;
  return query select counts[1], counts[2], counts[3], counts[4], counts[5], counts[6];
end
$$;

-- Decides, and commits what was prepared. Whatever fails after the decision is left to the job: it is done.
create or replace function segmentation.commit_on_shards (
  shards          text[],
  gid             text,
  counts          bigint[],
  api_key         text default null,
  idempotency_key text default null,
  fingerprint     bytea default null
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  links text[] := array(select 'segmentation_shard_' || s from unnest(shards) as s);
  is_committed boolean;
begin
  begin
    is_committed := segmentation.decide_for_good(gid, true, counts, api_key, idempotency_key, fingerprint);
  exception
    when query_canceled or others then null;
  end;
  if is_committed is not true then
    -- Undecided or decided against: the job finds out, and settles it.
    perform segmentation.unlink(links || 'segmentation_router'::text);
    raise exception 'the change could not be decided'
      using
        errcode = 'connection_failure',
        hint = 'In a minute it is done or undone everywhere. Ask then, or repeat it with the same Idempotency-Key.';
  end if;
  begin
    for n in 1 .. cardinality(links) loop
      perform segmentation_remote.dblink_exec(links[n], format('commit prepared %L', gid || '-' || shards[n]));
    end loop;
  exception
    when query_canceled or others then
      raise log 'segmentation: % is decided and left to settle(): %', gid, sqlerrm;
  end;
  perform segmentation.unlink(links);
end
$$;

-- What is prepared on shards for longer than this, and nobody commits.
create or replace function segmentation.settle (
  older_than interval default '30 seconds'
)
  returns table (shard text, gid text, outcome text)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set intervalstyle = 'postgres'
as $$
declare
  each record;
  link text;
  left_behind text;
  all_told boolean := true;
begin
  perform segmentation.require_read_write('settle()');
  for each in select s.shard from segmentation.shards as s order by s.shard loop
    link := 'segmentation_settle_' || each.shard;
    begin
      perform segmentation.link_to('segmentation_shard_' || each.shard, link);
      perform segmentation.note_shard(each.shard, is_away => false);
      for left_behind in
        select t.gid
        from segmentation_remote.dblink(link, format(
          'select gid from pg_catalog.pg_prepared_xacts
           where database = current_database() and gid ~ ''^segmentation-''
             and prepared < clock_timestamp() - %L::interval',
          settle.older_than)) as t (gid text)
      loop
        outcome := case
          -- Without a decision until now, this is it.
          when segmentation.decide_for_good(regexp_replace(left_behind, '-[a-z][a-z0-9_]*$', ''), false) then 'committed'
          else 'rolled back'
        end;
        perform segmentation_remote.dblink_exec(link, format(
          case outcome when 'committed' then 'commit prepared %L' else 'rollback prepared %L' end, left_behind));
        shard := each.shard;
        gid := left_behind;
        return next;
      end loop;
    exception
      when others then
        all_told := false;
        perform segmentation.note_shard(each.shard, is_away => segmentation.is_away(sqlstate));
        raise warning 'shard % cannot be settled now: %', each.shard, sqlerrm;
    end;
    perform segmentation.unlink(array[link]);
  end loop;
  -- Nothing that is prepared may need one that is older.
  if all_told then
    delete from segmentation.decisions as d
    where d.decided_at < segmentation.answers_kept_since() - interval '1 hour';
  end if;
end
$$;

comment on function segmentation.settle(interval) is
  'On a router: commit or roll back what a crash has left prepared on the shards, as it was decided; pg_cron calls it each minute. Example: select * from settle();';

grant execute on function segmentation.settle(interval) to segmentation_admin, segmentation_jobs;

create or replace function segmentation.jobs ()
  returns table (name text, schedule text, command text)
  language sql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
  select j.* from segmentation.here_jobs() as j
  union all
  select 'segmentation-settle', '* * * * *', 'select segmentation.settle()'
$$;
