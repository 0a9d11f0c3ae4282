-- The answers kept before: at most those of one day.

set local role segmentation_owner;

update segmentation.idempotency_keys as i
set user_id = (i.answer::json ->> 'user_id')::bigint, path = null
where i.answer like '{"user_id"%';

update segmentation.idempotency_keys as i set path = null where i.path is not null;

reset role;
