-- Secrets without an extension: API keys and the ids of report links.

-- Three random UUIDs hold 366 bits of the server's strong randomness; their digest has 256.
create or replace function segmentation.random_secret () returns text
  language sql
  volatile
  set search_path = pg_catalog, pg_temp
as $$
  select encode(
    sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8')),
    'hex')
$$;
