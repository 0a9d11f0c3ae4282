-- What the router calls on a shard besides the public functions.

-- change_user_segments, waiting for locks as long as the caller would. Under an Idempotency-Key the answer is kept in
-- the transaction of the effect: whatever becomes of the router, a repeated request finds it here.
create or replace function segmentation.change_user_segments_once (
  user_id         bigint,
  add             text[],
  remove          text[],
  expires_at      timestamptz,
  starts_at       timestamptz,
  actor           text,
  reason          text,
  api_key         text,
  idempotency_key text,
  patience        text
)
  returns table (segment text, change text)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  -- A time to live has become another end when it is repeated, so the end is no part of what makes requests the same.
  asked bytea := sha256(convert_to(jsonb_build_array(
    change_user_segments_once.user_id, change_user_segments_once.add, change_user_segments_once.remove,
    change_user_segments_once.starts_at, change_user_segments_once.actor, change_user_segments_once.reason
  )::text, 'UTF8'));
  kept text;
begin
  perform set_config('lock_timeout', change_user_segments_once.patience, true);
  if change_user_segments_once.idempotency_key is null then
    return query select c.*
    from segmentation.change_user_segments($1, $2, $3, $4, $5, $6, $7) as c;
    return;
  end if;
  select c.answer into kept
  from segmentation.claim_idempotency_key(
    change_user_segments_once.api_key, change_user_segments_once.idempotency_key, asked) as c;
  if not found then
    select json_build_object('user_id', $1, 'changes', json_agg(c)) into kept
    from segmentation.change_user_segments($1, $2, $3, $4, $5, $6, $7) as c;
    perform segmentation.keep_answer(
      change_user_segments_once.api_key, change_user_segments_once.idempotency_key, asked, null, 200, null, kept);
  end if;
  return query select c.segment, c.change
  from json_to_recordset(kept::json -> 'changes') as c (segment text, change text);
end
$$;

-- Up to when all changes are here, and all of which changes of the catalog.
create or replace function segmentation.settled_here ()
  returns table (settled_until timestamptz, catalog_version bigint)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  settled_until := segmentation.settled_until();
  catalog_version := (select v.version from segmentation.catalog_version as v);
  return next;
end
$$;

-- Which change of the catalog is here, and when it was noticed that some before it are not.
create or replace function segmentation.catalog_here ()
  returns table (change uuid, missed_at timestamptz)
  language sql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$ select v.change, v.missed_at from segmentation.catalog_version as v $$;

grant usage on schema segmentation to segmentation_router;

grant execute on function
  segmentation.change_user_segments_once(
    bigint, text[], text[], timestamptz, timestamptz, text, text, text, text, text
  ),
  segmentation.catalog_here(),
  segmentation.layer_counts(text),
  segmentation.segment_counts(text),
  segmentation.settled_here()
to segmentation_router;

-- What a move to another shard copies.
grant select on
  segmentation.idempotency_keys, segmentation.membership_history, segmentation.memberships, segmentation.upkeep,
  segmentation.users
to segmentation_router;
