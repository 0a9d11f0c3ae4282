-- Whom a kept answer is about, so that forget_user finds it, however the request spelled the user's id. The path is not
-- kept any more: the fingerprint holds it.

set local role segmentation_owner;

alter table segmentation.idempotency_keys add column user_id bigint;
-- squawk-ignore ban-drop-not-null
alter table segmentation.idempotency_keys alter column path drop not null;
-- No row is in it yet; the table holds one day.
-- squawk-ignore require-concurrent-index-creation
create index idempotency_keys_user_id_idx on segmentation.idempotency_keys (user_id) where user_id is not null;

reset role;
