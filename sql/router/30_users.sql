-- Questions about users and changes of one user, on a router.

-- The Idempotency-Key that this transaction has claimed: the name of the API key, and the key. Anybody can set a
-- setting; only what the service claims counts.
create or replace function segmentation.claimed_key () returns json
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select case
    when segmentation.is_service() then nullif(current_setting('segmentation.claimed', true), '')::json
  end
$$;

create or replace function segmentation.change_user_segments (
  user_id    bigint,
  add        text[] default '{}',
  remove     text[] default '{}',
  expires_at timestamptz default null,
  starts_at  timestamptz default null,
  actor      text default session_user,
  reason     text default null
)
  returns table (segment text, change text)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  claimed json := segmentation.claimed_key();
begin
  perform segmentation.require_user_ids(array[change_user_segments.user_id]);
  perform segmentation.require_actor(change_user_segments.actor, change_user_segments.reason);
  perform segmentation.limit_waiting();
  return query
  select c.*
  from segmentation.remote_change_user_segments(
    change_user_segments.user_id, change_user_segments.add, change_user_segments.remove,
    change_user_segments.expires_at, change_user_segments.starts_at,
    segmentation.given_actor(change_user_segments.actor), change_user_segments.reason,
    claimed ->> 0, claimed ->> 1, current_setting('lock_timeout')) as c;
end
$$;

-- The key goes along to the shard, see change_user_segments_once there.
create or replace function segmentation.claim_idempotency_key (
  api_key             text,
  idempotency_key     text,
  request_fingerprint bytea default null
)
  returns table (fingerprint bytea, status smallint, location text, answer text)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config(
    'segmentation.claimed',
    json_build_array(claim_idempotency_key.api_key, claim_idempotency_key.idempotency_key)::text, true);
  return query select k.* from segmentation.here_claim_idempotency_key($1, $2, $3) as k;
end
$$;

-- Links and kept answers are here, all else is on the user's shard.
create or replace function segmentation.forget_user (
  user_id bigint,
  actor   text default session_user,
  reason  text default null
)
  returns boolean
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  known boolean;
begin
  perform segmentation.require_user_ids(array[forget_user.user_id]);
  perform segmentation.require_actor(forget_user.actor, forget_user.reason);
  known := segmentation.remote_forget_user(
    forget_user.user_id, segmentation.given_actor(forget_user.actor), forget_user.reason);
  delete from segmentation.report_links as l where l.user_id = forget_user.user_id;
  delete from segmentation.idempotency_keys as i where i.user_id = forget_user.user_id;
  return known;
end
$$;

-- The hot read, for all who wait at the same moment. Where a shard is away, its users get no answer (null), and all
-- others get theirs.
create or replace function segmentation.http_user_segments_each (
  user_ids bigint[]
)
  returns text[]
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set client_min_messages = warning
as $$
declare
  answers text[];
  e_state text;
  e_message text;
  e_detail text;
  e_hint text;
begin
  perform segmentation.require_user_ids(http_user_segments_each.user_ids);
  if exists (select from segmentation.shards_away) then
    return segmentation.answers_of_those_there(http_user_segments_each.user_ids);
  end if;
  select array_agg(a.answer order by a.place) into answers
  from (
    select array_agg(segmentation.slot_of(u.user_id)), array_agg(u.place::integer)
    from unnest(http_user_segments_each.user_ids) with ordinality as u (user_id, place)
  ) as s (slots, places)
  cross join lateral segmentation.proxy_http_user_segments_each(
    s.slots, s.places, http_user_segments_each.user_ids) as e
  cross join lateral unnest(e.places, e.texts) as a (place, answer)
  where s.slots is not null;
  return answers;
exception
  when query_canceled or others then
    get stacked diagnostics
      e_state = returned_sqlstate, e_message = message_text, e_detail = pg_exception_detail, e_hint = pg_exception_hint;
    if segmentation.is_away(e_state) or segmentation.is_late(e_state, e_message)
      -- Cancelled here: has it waited for a shard that is frozen?
      or (e_state = '57014' and (select bool_or(not segmentation.is_there(s.shard)) from segmentation.shards as s))
    then
      return segmentation.answers_of_those_there(http_user_segments_each.user_ids);
    end if;
    perform segmentation.raise_as_told(e_state, e_message, e_detail, e_hint);
end
$$;

create or replace function segmentation.answers_of_those_there (
  user_ids bigint[]
)
  returns text[]
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  answers text[] := array_fill(null::text, array[cardinality(user_ids)]);
  known_away text[] := segmentation.shards_known_to_be_away();
  part record;
  texts text[];
begin
  for part in
    select s.shard, min(s.slot) as slot, array_agg(u.place) as places, array_agg(u.user_id) as user_ids
    from unnest(answers_of_those_there.user_ids) with ordinality as u (user_id, place)
    join segmentation.slots as s on s.slot = segmentation.slot_of(u.user_id)
    where s.shard <> all (known_away)
    group by s.shard
  loop
    begin
      texts := segmentation.proxy_http_user_segments_of(part.slot, part.user_ids);
      for n in 1 .. cardinality(texts) loop
        answers[part.places[n]] := texts[n];
      end loop;
      perform segmentation.note_shard(part.shard, is_away => false);
    exception
      when query_canceled or others then
        if segmentation.is_late(sqlstate, sqlerrm) then
          perform segmentation.note_shard(part.shard, is_away => true, lasts => '10 seconds');
        elsif segmentation.is_away(sqlstate) then
          perform segmentation.note_shard(part.shard, is_away => true);
        else
          raise;
        end if;
    end;
  end loop;
  return answers;
end
$$;

-- A list is answered as a whole or not at all.
create or replace function segmentation.http_users_segments (
  user_ids bigint[]
)
  returns text
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  answers text[];
begin
  if cardinality(http_users_segments.user_ids) > 0 then
    perform segmentation.require_at_most('user_ids', cardinality(http_users_segments.user_ids), 10000);
  end if;
  answers := segmentation.http_user_segments_each(http_users_segments.user_ids);
  if array_position(answers, null) is not null then
    perform segmentation.refuse_away();
  end if;
  return '{"users":[' || coalesce(array_to_string(answers, ','), '') || ']}';
end
$$;

create or replace function segmentation.users_segments (
  user_ids bigint[]
)
  returns table (user_id bigint, segments text[])
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
begin
  perform segmentation.require_user_ids(users_segments.user_ids);
  return query
  with told as materialized (
    select distinct on (t.user_id) t.user_id, t.segments
    from (
      select array_agg(segmentation.slot_of(u.user_id))
      from unnest(users_segments.user_ids) as u (user_id)
    ) as s (slots)
    cross join lateral segmentation.remote_users_segments(s.slots, users_segments.user_ids) as t
    where s.slots is not null
    order by t.user_id
  )
  select t.user_id, t.segments
  from unnest(users_segments.user_ids) with ordinality as u (user_id, place)
  join told as t on t.user_id = u.user_id
  order by u.place;
end
$$;

create or replace function segmentation.register_users (
  user_ids bigint[]
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_user_ids(register_users.user_ids);
  perform r.*
  from (
    select array_agg(segmentation.slot_of(u.user_id))
    from unnest(register_users.user_ids) as u (user_id)
  ) as s (slots)
  cross join lateral segmentation.remote_register_users(s.slots, register_users.user_ids) as r
  where s.slots is not null;
end
$$;

-- A read makes a user known, where it may write.
create or replace function segmentation.register_unknown_users (
  user_ids bigint[]
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_user_ids(register_unknown_users.user_ids);
  if current_setting('transaction_read_only') = 'off' then
    perform segmentation.register_users(register_unknown_users.user_ids);
  end if;
end
$$;
