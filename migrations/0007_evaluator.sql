-- A fourth role, for the key of a page or an SDK: it asks what one user is in right now, and nothing else.

do $$
begin
  create role segmentation_evaluator nologin;
exception
  -- Two databases migrated at once: whoever comes second finds the role, one way or the other.
  when duplicate_object or unique_violation then null;
end
$$;

grant segmentation_evaluator to segmentation_reader;
grant segmentation_evaluator to segmentation_service;
grant usage on schema segmentation to segmentation_evaluator;

set local role segmentation_owner;

-- The table holds few rows.
-- squawk-ignore ban-drop-constraint
alter table segmentation.api_keys drop constraint api_keys_role_is_known;
-- squawk-ignore constraint-missing-not-valid
alter table segmentation.api_keys add constraint api_keys_role_is_known
  check (role in ('evaluator', 'reader', 'editor', 'admin'));

reset role;
