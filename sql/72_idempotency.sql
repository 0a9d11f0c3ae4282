-- Exactly once over a bad network: a write that comes with an Idempotency-Key is done once, and its answer is
-- given again to whoever repeats it within a day.
--
-- Both calls stand in the transaction of the write: claim first, then the write, then keep. A lock that ends
-- with the transaction says that the same request is still running, so a crash leaves nothing stuck. Failures
-- are not kept: they changed nothing, and the next try may succeed. Only a login of the service may do either: what is
-- kept for one API key is for nobody else to read or to plant.

-- Answers are kept for a day; those of before this moment are forgotten.
create or replace function segmentation.answers_kept_since () returns timestamptz
  language sql
  volatile
  set search_path = pg_catalog, pg_temp
as $$ select segmentation.clock() - interval '24 hours' $$;

create or replace function segmentation.require_service () returns void
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not segmentation.is_service() then
    raise exception 'login "%" is not one of the service', session_user
      using
        errcode = 'insufficient_privilege',
        detail = json_build_object('login', session_user),
        hint = 'Only the service keeps answers. A login of the service is a member of segmentation_service.';
  end if;
end
$$;

-- A key is of one request. Null: not known.
create or replace function segmentation.require_same_request (
  kept_fingerprint    bytea,
  request_fingerprint bytea
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if kept_fingerprint <> request_fingerprint then
    raise exception 'this Idempotency-Key was used for another request'
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('code', 'idempotency_key_reused'),
        hint = 'Take a new key for each new request.';
  end if;
end
$$;

-- The fingerprint of an upload is not known before it has come: the claim is then made without, and once more with it.
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
declare
  kept segmentation.idempotency_keys;
begin
  perform segmentation.require_service();
  -- A stored answer needs no lock, and is given to any number at once. Only one transaction may do the write.
  select i.* into kept
  from segmentation.idempotency_keys as i
  where i.api_key = claim_idempotency_key.api_key
    and i.idempotency_key = claim_idempotency_key.idempotency_key
    and i.created_at > segmentation.answers_kept_since();
  if not found then
    if not pg_try_advisory_xact_lock(
      hashtextextended(claim_idempotency_key.api_key || ' ' || claim_idempotency_key.idempotency_key, 0))
    then
      raise exception 'a request with this Idempotency-Key is still running'
        using errcode = 'object_in_use', hint = 'Wait a moment, then send it again with the same key.';
    end if;
    delete from segmentation.idempotency_keys as i
    where i.api_key = claim_idempotency_key.api_key
      and i.idempotency_key = claim_idempotency_key.idempotency_key
      and i.created_at <= segmentation.answers_kept_since();
    select i.* into kept
    from segmentation.idempotency_keys as i
    where i.api_key = claim_idempotency_key.api_key
      and i.idempotency_key = claim_idempotency_key.idempotency_key;
    if not found then
      return;
    end if;
  end if;
  perform segmentation.require_same_request(kept.fingerprint, claim_idempotency_key.request_fingerprint);
  return query select kept.fingerprint, kept.status, kept.location, kept.answer;
end
$$;

comment on function segmentation.claim_idempotency_key(text, text, bytea) is
  'For the service: hold an Idempotency-Key until the end of the transaction; the answer kept for it, if there is one; fails if that was of another request. Example: select * from claim_idempotency_key(''web-shop'', ''order-17'');';

create or replace function segmentation.keep_answer (
  api_key         text,
  idempotency_key text,
  fingerprint     bytea,
  path            text,
  status          integer,
  location        text,
  answer          text
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_service();
  if (length(fingerprint) = 32 and status between 200 and 299
    and num_nulls(api_key, idempotency_key, answer) = 0) is not true
  then
    raise exception 'this is not a valid answer to keep'
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('status', status, 'path', path),
        hint = 'All but path and location are needed; a fingerprint has 32 bytes, a status kept is from 200 to 299.';
  end if;
  -- An answer about one user says so first, see http_change_user_segments. The path, which an earlier service gives, is
  -- not kept.
  insert into segmentation.idempotency_keys (
    api_key, idempotency_key, fingerprint, status, location, answer, user_id)
  values (
    api_key, idempotency_key, fingerprint, status, location, answer,
    case when answer like '{"user_id"%' then (answer::json ->> 'user_id')::bigint end);
end
$$;

comment on function segmentation.keep_answer(text, text, bytea, text, integer, text, text) is
  'For the service: keep the answer of a write for whoever repeats it with the same Idempotency-Key. Example: select keep_answer(''web-shop'', ''order-17'', sha256(''PATCH …''), ''/v1/users/1000/segments'', 200, null, ''{}'');';
