-- Answers of writes that came with an Idempotency-Key, written in the transaction of their effect.

set local role segmentation_owner;

create table segmentation.idempotency_keys (
  api_key         text        not null,
  idempotency_key text        not null,
  -- SHA-256 of method, path, query and body: the same key with another request is a mistake.
  fingerprint     bytea       not null,
  path            text        not null,
  status          smallint    not null,
  location        text,
  answer          text        not null,
  created_at      timestamptz not null default segmentation.clock(),

  constraint idempotency_keys_pkey primary key (api_key, idempotency_key),
  constraint idempotency_keys_fingerprint_is_sha256 check (length(fingerprint) = 32),
  constraint idempotency_keys_answer_is_a_success check (status between 200 and 299)
);

create index idempotency_keys_created_at_idx on segmentation.idempotency_keys (created_at);

reset role;
