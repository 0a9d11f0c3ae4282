update segmentation.idempotency_keys as i
set path = coalesce('/v1/users/' || i.user_id || '/segments', '')
where i.path is null;
alter table segmentation.idempotency_keys alter column path set not null;
alter table segmentation.idempotency_keys drop column user_id;
