-- API keys of the HTTP layer: 256 random bits, shown once, kept as a SHA-256 digest.
--
-- A key has one of the four roles; the service runs its calls as that role, so PostgreSQL itself refuses
-- what the key may not do. A trigger tells running services of every change at once.

-- A revoked key is dead whatever the clock says; only an expiry is the clock's to decide. Inlined.
create or replace function segmentation.key_is_alive (
  revoked_at timestamptz,
  expires_at timestamptz,
  moment     timestamptz
)
  returns boolean
  language sql
  immutable
  parallel safe
as $$ select revoked_at = 'infinity' and moment < expires_at $$;

create or replace function segmentation.create_api_key (
  name       text,
  role       text,
  expires_at timestamptz default null
)
  returns text
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  new_key text := 'seg_' || segmentation.random_secret();
begin
  if (create_api_key.name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$') is not true then
    raise exception 'name % is not valid', coalesce('"' || create_api_key.name || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('name', create_api_key.name),
        hint = 'A name has 1 to 100 letters, digits, dots, hyphens, underscores and @, the first a letter or digit.';
  end if;
  if (create_api_key.role in ('evaluator', 'reader', 'editor', 'admin')) is not true then
    raise exception 'role % is unknown', coalesce('"' || create_api_key.role || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('role', create_api_key.role),
        hint = 'Say evaluator, reader, editor or admin.';
  end if;
  if exists (select from pg_catalog.pg_roles as r where r.rolname = create_api_key.name) then
    raise exception 'name "%" is a login or role of this server', create_api_key.name
      using
        errcode = 'unique_violation',
        detail = json_build_object('name', create_api_key.name),
        hint = 'Choose another name, so that the history never mistakes a key for a login.';
  end if;
  if create_api_key.expires_at <= segmentation.clock() then
    raise exception 'expires_at % is not in the future', create_api_key.expires_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('expires_at', create_api_key.expires_at),
        hint = 'Give a moment to come, or leave expires_at out for a key without end.';
  end if;
  insert into segmentation.api_keys (name, role, key_digest, expires_at)
  values (
    create_api_key.name, create_api_key.role, sha256(convert_to(new_key, 'UTF8')),
    coalesce(create_api_key.expires_at, 'infinity'))
  on conflict on constraint api_keys_pkey do nothing;
  if not found then
    raise exception 'an API key named "%" exists already', create_api_key.name
      using
        errcode = 'unique_violation',
        detail = json_build_object('name', create_api_key.name),
        hint = 'Choose another name; a name is never used again, so that the history stays clear.';
  end if;
  return new_key;
end
$$;

comment on function segmentation.create_api_key(text, text, timestamptz) is
  'Create an API key for the HTTP interface with the role evaluator, reader, editor or admin; the key is shown this once. Example: select create_api_key(''web-shop'', ''reader'');';

create or replace function segmentation.authenticate_api_key (
  key_digest bytea
)
  returns table (name text, role text, expires_at timestamptz)
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz := segmentation.clock();
begin
  return query
  select k.name, k.role, k.expires_at
  from segmentation.api_keys as k
  where k.key_digest = authenticate_api_key.key_digest
    and segmentation.key_is_alive(k.revoked_at, k.expires_at, moment);
end
$$;

comment on function segmentation.authenticate_api_key(bytea) is
  'For the service: whose key has this SHA-256 digest; no row if nobody''s, expired or revoked. Example: select * from authenticate_api_key(sha256(''seg_…''));';

create or replace function segmentation.list_api_keys ()
  returns table (name text, role text, created_at timestamptz, expires_at timestamptz, revoked_at timestamptz)
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select k.name, k.role, k.created_at, k.expires_at, k.revoked_at
  from segmentation.api_keys as k
  order by k.name;
end
$$;

comment on function segmentation.list_api_keys() is
  'All API keys, revoked ones too, without the keys themselves. Example: select * from list_api_keys();';

create or replace function segmentation.revoke_api_key (
  name text
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  update segmentation.api_keys as k
  set revoked_at = least(k.revoked_at, segmentation.clock())
  where k.name = revoke_api_key.name;
  if not found then
    raise exception 'no API key is named %', coalesce('"' || revoke_api_key.name || '"', 'null')
      using
        errcode = 'no_data_found',
        detail = json_build_object('name', revoke_api_key.name),
        hint = 'List the keys: select * from list_api_keys(); or python -m service keys list.';
  end if;
end
$$;

comment on function segmentation.revoke_api_key(text) is
  'Revoke an API key: running services refuse it from the next request on. Example: select revoke_api_key(''web-shop'');';

create or replace function segmentation.announce_api_keys () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_notify('segmentation_api_keys', '');
  return null;
end
$$;

create or replace trigger api_keys_announce
  after insert or update or delete or truncate on segmentation.api_keys
  for each statement execute function segmentation.announce_api_keys();
