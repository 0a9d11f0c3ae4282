-- Who is in a segment: listed, exported, counted.
--
-- Candidates of a page come straight from the indexes, by user id: whoever is assigned at that moment, and
-- whoever's bucket is below the step in force. Since when and until when is the algebra's answer, asked
-- for a page of users at a time, so that memory stays flat however large the segment is.
--
-- An import is two calls around a COPY, in one transaction: begin_import makes the temporary table that the
-- ids go into, finish_import changes them all at once. Its constraints name the bad line.
--
-- In calling order: members_page, segment_members, segment_stats; begin_import, finish_import.

-- The next members by user id after a given one.
create or replace function segmentation.members_page (
  segment_id integer,
  moment     timestamptz,
  after      bigint,
  max_rows   integer
)
  returns bigint[]
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  step segmentation.rollouts;
  page bigint[];
begin
  select r.* into step
  from segmentation.rollouts as r
  where r.segment_id = members_page.segment_id and r.starts_at <= moment and moment < r.ends_at;
  select array_agg(c.user_id) into page
  from (
    (
      select distinct o.user_id
      from segmentation.overrides as o
      where o.segment_id = members_page.segment_id and o.user_id > members_page.after
        and o.included and o.starts_at <= moment and moment < o.ends_at
      order by o.user_id
      limit members_page.max_rows
    )
    union all
    (
      select u.user_id
      from segmentation.users as u
      where u.user_id > members_page.after and u.registered_at <= moment
        and segmentation.bucket(u.user_id, step.salt) < step.threshold
        and not exists (
          select
          from segmentation.overrides as o
          where o.user_id = u.user_id and o.segment_id = members_page.segment_id
            and o.starts_at <= moment and moment < o.ends_at
        )
      order by u.user_id
      limit members_page.max_rows
    )
    order by 1
    limit members_page.max_rows
  ) as c (user_id);
  return page;
end
$$;

create or replace function segmentation.segment_members (
  slug     text,
  at       timestamptz default null,
  after    bigint default null,
  max_rows integer default null
)
  returns table (user_id bigint, source text, since timestamptz, until timestamptz)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  found_id integer := segmentation.segment_id_of(segment_members.slug, segment_members.at);
  moment timestamptz := coalesce(segment_members.at, segmentation.clock());
  last_id bigint := coalesce(segment_members.after, 0);
  left_over bigint := coalesce(segment_members.max_rows, 9223372036854775807);
  page bigint[];
begin
  if segment_members.max_rows is not null then
    perform segmentation.require_rows(segment_members.max_rows);
  end if;
  perform segmentation.require_kept(moment);
  -- A segment that was not alive then had no members.
  if not exists (
    select from segmentation.segments as s
    where s.segment_id = found_id and s.created_at <= moment and moment < s.deleted_at
  ) then
    return;
  end if;
  loop
    page := segmentation.members_page(found_id, moment, last_id, least(left_over, 10000)::integer);
    exit when page is null;
    return query
    select
      p.user_id,
      case when p.assigned @> moment then 'assignment' else 'rollout' end,
      lower(period), upper(period)
    from segmentation.membership_periods(page, moment) as p
    cross join lateral unnest(p.member) as period
    where p.segment_id = found_id and period @> moment
    order by p.user_id;
    left_over := left_over - cardinality(page);
    last_id := page[cardinality(page)];
    exit when left_over = 0;
  end loop;
end
$$;

comment on function segmentation.segment_members(text, timestamptz, bigint, integer) is
  'The known users in a segment, now or at a moment, by user id: by what, since when, until when; give the last id seen as after. Example: select * from segment_members(''AVITO_VOICE_MESSAGES'', max_rows => 100);';

create or replace function segmentation.segment_stats (
  slug text
)
  returns table (assigned bigint, excluded bigint, rolled_out bigint, members bigint)
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  found_id integer := segmentation.segment_id_of(segment_stats.slug);
  moment timestamptz := segmentation.clock();
begin
  return query
  select o.assigned, o.excluded, r.rolled_out, o.assigned + r.rolled_out
  from (
    select count(*) filter (where m.included), count(*) filter (where not m.included)
    from segmentation.memberships as m
    where m.segment_id = found_id and m.starts_at <= moment and moment < m.ends_at
  ) as o (assigned, excluded)
  cross join (
    select count(*)
    from segmentation.rollouts as s
    join segmentation.users as u on segmentation.bucket(u.user_id, s.salt) < s.threshold
    where s.segment_id = found_id and s.starts_at <= moment and moment < s.ends_at and s.percent > 0
      and not exists (
        select
        from segmentation.memberships as m
        where m.segment_id = found_id and m.user_id = u.user_id
          and m.starts_at <= moment and moment < m.ends_at
      )
  ) as r (rolled_out);
end
$$;

comment on function segmentation.segment_stats(text) is
  'How many known users are assigned, excluded, in by rollout alone, and in at all: exact, right now. Example: select * from segment_stats(''AVITO_VOICE_MESSAGES'');';

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
  slug       text,
  operation  text default 'add',
  expires_at timestamptz default null,
  starts_at  timestamptz default null,
  actor      text default session_user,
  reason     text default null
)
  returns table (received bigint, changed bigint, unchanged bigint)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
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
  select c.received, c.changed, c.unchanged
  from segmentation.change_segment_members(
    finish_import.slug, array(select i.user_id from pg_temp.import as i), finish_import.operation,
    finish_import.expires_at, finish_import.starts_at, finish_import.actor, finish_import.reason) as c;
end
$$;

comment on function segmentation.finish_import(text, text, timestamptz, timestamptz, text, text) is
  'Add (or remove) all users of the temporary table import, see begin_import. Example: select * from finish_import(''AVITO_DISCOUNT_30'', reason => ''november campaign''); commit';
