-- An import of any length, in three steps of one transaction: begin_import makes a temporary table, COPY fills
-- it, finish_import changes all its users at once, by the rules of change_segment_members.
--
-- Nothing counts while COPY runs: a row trigger would cost more than COPY itself. The service counts what it sends;
-- for \copy in psql, where the ids come from the person's own machine, finish_import counts and refuses.

create or replace function segmentation.begin_import (
  slug text
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.segment_id_of(begin_import.slug);
  create temporary table import (
    user_id bigint not null,
    constraint user_id_is_positive check (user_id > 0)
  ) on commit drop;
  -- The caller fills it, and can do nothing else with it.
  grant insert on pg_temp.import to segmentation_editor;
end
$$;

comment on function segmentation.begin_import(text) is
  'Make the temporary table import, which lasts until the end of the transaction, for the ids that finish_import takes. Example: begin; select begin_import(''AVITO_DISCOUNT_30''); \copy pg_temp.import from ''ids.csv'' csv';

create or replace function segmentation.finish_import (
  slug        text,
  operation   text default 'add',
  expires_at  timestamptz default null,
  starts_at   timestamptz default null,
  actor       text default session_user,
  reason      text default null,
  max_removed bigint default null,
  dry_run     boolean default false,
  all_actors  boolean default false
)
  returns table (
    received bigint, changed bigint, unchanged bigint, added bigint, removed bigint, rescheduled bigint
  )
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- A relation of that name that the caller made could run the caller's code with the owner's rights.
  if not exists (
    select
    from pg_catalog.pg_class as c
    where c.oid = to_regclass('pg_temp.import')
      and c.relkind = 'r' and c.relowner = 'segmentation_owner'::regrole
  ) then
    raise exception 'no import has begun in this transaction'
      using
        errcode = 'object_not_in_prerequisite_state',
        hint = 'Call begin_import(slug) first, then copy the ids into pg_temp.import.';
  end if;
  -- As many as an array holds, with room to spare.
  if (select count(*) from pg_temp.import) > 100000000 then
    raise exception 'more than 100000000 user ids'
      using errcode = 'program_limit_exceeded', hint = 'Send them in several imports.';
  end if;
  return query
  select c.*
  from segmentation.change_segment_members(
    finish_import.slug, array(select i.user_id from pg_temp.import as i), finish_import.operation,
    finish_import.expires_at, finish_import.starts_at, finish_import.actor, finish_import.reason,
    finish_import.max_removed, finish_import.dry_run, finish_import.all_actors) as c;
end
$$;

comment on function segmentation.finish_import(
  text, text, timestamptz, timestamptz, text, text, bigint, boolean, boolean
) is
  'Add, remove or replace by all users of the temporary table import, see begin_import and change_segment_members. Example: select * from finish_import(''AVITO_DISCOUNT_30'', reason => ''november campaign''); commit';
