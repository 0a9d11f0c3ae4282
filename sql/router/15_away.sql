-- Shards that are away. Who meets one notes it, and for two minutes nobody asks it for users any more: a machine that
-- has vanished does not say no, so each call would wait for seconds, and for one that is frozen PL/Proxy waits as long
-- as it may. What looks after the shards (service_status, the metrics, the job that settles) knocks at each all the
-- same, and notes when it is back.
--
-- One that is late, as its tables are locked or its disk is slow, ends a hot read after a second. Then nobody asks it
-- for ten, so that those who read together do not wait for it again and again.
--
-- Nobody waits to write such a note: whoever does not get the lock at once leaves it to another. A standby writes none.

create or replace view segmentation.shards as
select s.shard, min(s.slot) as slot, count(*) as slots
from segmentation.slots as s
group by s.shard;

create or replace function segmentation.note_shard (
  shard   text,
  is_away boolean,
  lasts   interval default '2 minutes'
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_read_only') = 'on'
    or (not is_away and not exists (select from segmentation.shards_away as a where a.shard = note_shard.shard))
    or not pg_try_advisory_xact_lock(hashtextextended('segmentation shard ' || note_shard.shard, 0))
  then
    return;
  end if;
  if is_away then
    insert into segmentation.shards_away as a (shard, noted_at)
    values (note_shard.shard, clock_timestamp() - interval '2 minutes' + note_shard.lasts)
    on conflict on constraint shards_away_pkey do update set noted_at = excluded.noted_at;
  else
    delete from segmentation.shards_away as a where a.shard = note_shard.shard;
  end if;
end
$$;

-- Whether a shard lets us in and answers hot reads, here that of nobody; it is noted. Knocks by dblink first, as that
-- gives up after connect_timeout.
create or replace function segmentation.is_there (
  shard text
)
  returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  link text := 'segmentation_knock_' || is_there.shard;
begin
  perform segmentation.link_to('segmentation_shard_' || is_there.shard, link);
  perform segmentation.unlink(array[link]);
  perform segmentation.proxy_http_user_segments_of(s.slot, '{}')
  from segmentation.shards as s
  where s.shard = is_there.shard;
  perform segmentation.note_shard(is_there.shard, is_away => false);
  return true;
exception
  when query_canceled or others then
    if not segmentation.is_away(sqlstate) and not segmentation.is_late(sqlstate, sqlerrm) then
      raise;
    end if;
    perform segmentation.note_shard(is_there.shard, is_away => true);
    return false;
end
$$;

create or replace function segmentation.shards_known_to_be_away () returns text[]
  language sql
  volatile
  set search_path = pg_catalog, pg_temp
as $$
  select array(
    select a.shard
    from segmentation.shards_away as a
    where a.noted_at > clock_timestamp() - interval '2 minutes'
  )
$$;

create or replace function segmentation.refuse_away () returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'a shard does not answer'
    using errcode = 'connection_failure', hint = 'The users of other shards are served. Try again in a moment.';
end
$$;

-- Fails at once where the shard of a user, or any shard (null), is known to be away. Ask whether there is any row
-- first: that is all that it costs while all are there.
create or replace function segmentation.require_there (
  user_id bigint
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (
    select
    from unnest(segmentation.shards_known_to_be_away()) as a (shard)
    join segmentation.slots as s on s.shard = a.shard
    where s.slot = segmentation.slot_of(require_there.user_id) or require_there.user_id is null
  ) then
    perform segmentation.refuse_away();
  end if;
end
$$;

-- Whether an error says that a shard cannot be reached, is stopping or starting, or takes no more connections.
create or replace function segmentation.is_away (
  state text
)
  returns boolean
  language sql
  immutable
  parallel safe
as $$ select state = 'XX000' or state ~ '^(08|57P|53300)' $$;

-- Whether a shard has ended a call, as it took too long. Nobody here has cancelled it.
create or replace function segmentation.is_late (
  state   text,
  message text
)
  returns boolean
  language sql
  immutable
  parallel safe
as $$
  select state in ('57014', '55P03') and message ~ '^\S+\(\d+\): \[[^]]*\] REMOTE ERROR: '
    or state = 'XX000' and message ~ ': query timeout$'
$$;
