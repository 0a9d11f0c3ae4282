-- A key of the role that goes opens nothing any more.
delete from segmentation.api_keys where role = 'evaluator';
alter table segmentation.api_keys drop constraint api_keys_role_is_known;
alter table segmentation.api_keys add constraint api_keys_role_is_known
  check (role in ('reader', 'editor', 'admin'));
drop function if exists segmentation.http_user_segments_now(bigint);
revoke all on all functions in schema segmentation from segmentation_evaluator;
revoke usage on schema segmentation from segmentation_evaluator;

do $$
begin
  drop role segmentation_evaluator;
exception
  when dependent_objects_still_exist then
    raise notice 'role "segmentation_evaluator" stays: something else on this server depends on it';
end
$$;
