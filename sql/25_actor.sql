-- Who makes a change and why, on its way from a function's arguments to the triggers that record it.
--
-- Held in two settings of the transaction, because a DELETE has no row to carry them. Plain DML by a DBA
-- leaves them empty: the login name is the actor then; `set segmentation.reason = '…'` gives a reason.

create or replace function segmentation.set_actor (
  actor  text,
  reason text
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_actor(actor, reason);
  perform set_config('segmentation.actor', coalesce(actor, ''), true);
  perform set_config('segmentation.reason', coalesce(reason, ''), true);
end
$$;

create or replace function segmentation.actor () returns text
  language sql
  stable
as $$
  select coalesce(nullif(pg_catalog.current_setting('segmentation.actor', true), ''), session_user::text)
$$;

create or replace function segmentation.actor_reason () returns text
  language sql
  stable
as $$ select nullif(pg_catalog.current_setting('segmentation.reason', true), '') $$;
