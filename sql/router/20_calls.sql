-- How a router calls its shards. All of this is made from the list of sql/router/10_kinds.sql and the signatures in
-- PostgreSQL's own catalog, so that no function can be forgotten:
--
--     proxy_x    a PL/Proxy function: x on the shard of a user (routed), or on all shards (merged, summed)
--     x          of those that are routed: checks what only the router can, and calls proxy_x
--     remote_x   of all others: calls proxy_x, and tells an error as the shard told it
--     here_x     the form of a database by itself, of those whose form for a router still needs it
--
-- PL/Proxy logs in to a shard as segmentation_router, by the user mapping of segmentation_owner; so only functions that
-- run as the owner reach a shard. Each call there is a transaction of its own.
--
-- The cluster segmentation_reads leads where segmentation_shards does, with a statement_timeout of one second there:
-- for hot reads, which users of all shards wait for together, and for health. Its query_timeout only ends what is
-- cancelled: PL/Proxy does not look at it while nothing arrives.

-- A user's slot, for ever. By another seed than any segment's salt: slots and buckets are independent. A shard's CHECK and
-- the copies of moving users say the same with PostgreSQL's own functions alone, which is why it is one expression.
create or replace function segmentation.slot_of (
  user_id bigint
)
  returns integer
  language sql
  immutable
  parallel safe
as $$ select (pg_catalog.hashint8extended(user_id, 8386103116852261235) & 255)::integer $$;

-- A shard does not know whether the transaction here is read-only, as all are on a standby: who calls it to change
-- something asks first.
create or replace function segmentation.require_read_write (
  what text
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_read_only') = 'on' then
    raise exception 'cannot execute % in a read-only transaction', what using errcode = 'read_only_sql_transaction';
  end if;
end
$$;

-- An error of a shard, told as the shard told it: PL/Proxy puts words around it, of which what the caller gave is no
-- part. A shard that cannot be reached is a connection that failed.
create or replace function segmentation.raise_as_told (
  state   text,
  message text,
  detail  text,
  hint    text
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  severity text := substring(message, '^segmentation\.proxy_\w+\(\d+\): \[[^]]*\] REMOTE ([A-Z]+): ');
  told_message text := case
    when severity is null then message
    else substr(message, position('] REMOTE ' in message) + length('] REMOTE : ' || severity))
  end;
  told_detail text := regexp_replace(detail, '^Remote detail: ', '');
  told_hint text := regexp_replace(hint, '^Remote hint: ', '');
begin
  -- FATAL ends a session of the shard: it stops, starts, or takes no more of them.
  if severity in ('FATAL', 'PANIC') or (state = 'XX000' and told_message ~* '^pl/proxy') then
    perform segmentation.refuse_away();
  -- PostgreSQL shows a DETAIL or HINT that is given as empty.
  elsif told_detail = '' and told_hint = '' then
    raise exception using errcode = state, message = told_message;
  elsif told_detail = '' then
    raise exception using errcode = state, message = told_message, hint = told_hint;
  elsif told_hint = '' then
    raise exception using errcode = state, message = told_message, detail = told_detail;
  end if;
  raise exception using errcode = state, message = told_message, detail = told_detail, hint = told_hint;
end
$$;

-- After an error of a shard, PL/Proxy connects anew, and that costs more than the call. So what clients get wrong most,
-- a slug that nobody has heard of, is found out here.
create or replace function segmentation.require_heard_of (
  slug text
)
  returns void
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from segmentation.segments as s where s.slug = require_heard_of.slug collate "C"
    union all
    select from segmentation.layers as l where l.slug = require_heard_of.slug collate "C"
  ) then
    perform segmentation.segment_id_of(require_heard_of.slug);
  end if;
end
$$;

-- PL/Proxy is no trusted language: only a superuser writes in it.
reset role;

do $$
declare
  missing text;
  f record;
begin
  select string_agg(p.proname, ', ' order by p.proname) into missing
  from pg_catalog.pg_proc as p
  where p.pronamespace = 'segmentation'::regnamespace
    and p.proname not in (select k.function from segmentation.function_kinds() as k)
    and (select count(*) from aclexplode(p.proacl) as a where a.grantee <> p.proowner) > 0;
  if missing is not null then
    raise exception 'sql/router/10_kinds.sql does not say what a router does with: %', missing;
  end if;
  for f in
    select
      p.proname as name, k.kind,
      pg_get_function_identity_arguments(p.oid) as arguments,
      case when k.kind = 'routed' or p.proretset then '' else 'setof ' end || pg_get_function_result(p.oid) as result
    from segmentation.function_kinds() as k
    join pg_catalog.pg_proc as p on p.proname = k.function and p.pronamespace = 'segmentation'::regnamespace
    where k.kind in ('routed', 'merged', 'summed')
      -- These call their shards in a form of their own, below.
      and k.function not in (
        'change_user_segments', 'report_lines', 'segment_members', 'service_metrics', 'service_status',
        'settled_until')
  loop
    execute format(
      'create function segmentation.proxy_%1$s (%2$s) returns %3$s language plproxy as %4$L',
      f.name, f.arguments, f.result,
      format(
        'cluster ''segmentation_shards''; run on %s; target segmentation.%s;',
        case when f.kind = 'routed' then 'segmentation.slot_of(user_id)' else 'all' end, f.name));
  end loop;
end
$$;

-- Calls in a form of their own ------------------------------------------------------------------------

create function segmentation.proxy_change_user_segments (
  user_id         bigint,
  add             text[],
  remove          text[],
  expires_at      timestamptz,
  starts_at       timestamptz,
  actor           text,
  reason          text,
  api_key         text,
  idempotency_key text,
  patience        text
)
  returns table (segment text, change text)
  language plproxy
as $$
  cluster 'segmentation_shards'; run on segmentation.slot_of(user_id); target segmentation.change_user_segments_once;
$$;

-- Split: place n of each array is of one user; each shard gets its own users in one call.
create function segmentation.proxy_http_user_segments_each (
  slots    integer[],
  asked_at integer[],
  user_ids bigint[]
)
  returns table (places integer[], texts text[])
  language plproxy
as $$
  cluster 'segmentation_reads'; split all; run on slots;
  select $2 as places, segmentation.http_user_segments_each($3) as texts;
$$;

create function segmentation.proxy_users_segments (
  slots    integer[],
  user_ids bigint[]
)
  returns table (user_id bigint, segments text[])
  language plproxy
as $$
  cluster 'segmentation_shards'; split all; run on slots;
  select u.user_id, u.segments from segmentation.users_segments($2) as u;
$$;

create function segmentation.proxy_register_users (
  slots    integer[],
  user_ids bigint[]
)
  returns setof text
  language plproxy
as $$
  cluster 'segmentation_shards'; split all; run on slots;
  select segmentation.register_users($2)::text;
$$;

-- Merged: place is the row's place in its shard's answer.
create function segmentation.proxy_report_page (
  from_time timestamptz,
  to_time   timestamptz,
  after_id  bigint,
  up_to_id  bigint,
  moment    timestamptz
)
  returns table (user_id bigint, segment text, operation text, at text, place bigint)
  language plproxy
as $$
  cluster 'segmentation_shards'; run on all;
  select l.user_id, l.segment, l.operation, l.at, l.place
  from segmentation.report_page(from_time, to_time, after_id, up_to_id, moment)
    with ordinality as l (user_id, segment, operation, at, place);
$$;

-- up_to: as far as the shard has told all, where there may be more; null where there is no more.
create function segmentation.proxy_segment_members (
  slug     text,
  moment   timestamptz,
  last_id  bigint,
  max_rows integer
)
  returns table (user_id bigint, source text, since timestamptz, until timestamptz, up_to bigint)
  language plproxy
as $$
  cluster 'segmentation_shards'; run on all;
  select
    m.user_id, m.source, m.since, m.until,
    case when count(*) over () = max_rows then max(m.user_id) over () end as up_to
  from segmentation.segment_members(slug, moment, last_id, max_rows) as m;
$$;

create function segmentation.proxy_settled_here ()
  returns table (settled_until timestamptz, catalog_version bigint)
  language plproxy
as $$ cluster 'segmentation_shards'; run on all; target segmentation.settled_here; $$;

-- One shard, named by a slot of it.
create function segmentation.proxy_http_user_segments_of (
  slot     integer,
  user_ids bigint[]
)
  returns text[]
  language plproxy
as $$ cluster 'segmentation_reads'; run on slot; select segmentation.http_user_segments_each(user_ids); $$;

create function segmentation.proxy_service_status (
  slot   integer,
  needed text
)
  returns table (item text, ok boolean, value text, hint text)
  language plproxy
as $$
  cluster 'segmentation_reads'; run on slot;
  select s.item, s.ok, s.value, s.hint from segmentation.service_status(needed) as s
  union all
  select 'catalog version', null, v.catalog_version::text, null from segmentation.settled_here() as v
  union all
  select 'catalog change', c.missed_at is null, c.change::text, null from segmentation.catalog_here() as c;
$$;

create function segmentation.proxy_service_metrics (
  slot integer
)
  returns table (metric text, help text, value double precision)
  language plproxy
as $$
  cluster 'segmentation_reads'; run on slot;
  select m.metric, m.help, m.value from segmentation.service_metrics() as m;
$$;

create function segmentation.proxy_assert_bucket_vectors (
  slot integer
)
  returns text
  language plproxy
as $$ cluster 'segmentation_shards'; run on slot; select segmentation.assert_bucket_vectors()::text; $$;

create function segmentation.proxy_drop_history_before (
  slot   integer,
  period text
)
  returns integer
  language plproxy
as $$ cluster 'segmentation_shards'; run on slot; select segmentation.drop_history_before(period); $$;

create function segmentation.proxy_ensure_history_partitions (
  slot         integer,
  months_ahead integer
)
  returns integer
  language plproxy
as $$ cluster 'segmentation_shards'; run on slot; select segmentation.ensure_history_partitions(months_ahead); $$;

create function segmentation.proxy_expire_memberships (
  slot     integer,
  max_rows integer
)
  returns integer
  language plproxy
as $$ cluster 'segmentation_shards'; run on slot; select segmentation.expire_memberships(max_rows); $$;

do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_language as l on l.oid = p.prolang
    where p.pronamespace = 'segmentation'::regnamespace and l.lanname = 'plproxy'
  loop
    execute format('alter function %s owner to segmentation_owner', f);
    execute format('revoke all on function %s from public', f);
  end loop;
end
$$;

set local role segmentation_owner;

-- The functions that call them: x itself where x is routed, remote_x otherwise.
do $$
declare
  f record;
begin
  for f in
    select
      coalesce(routed.proname, 'remote_' || name.of_proxy) as name, p.proname as proxy, p.proretset as is_set,
      pg_get_function_arguments(coalesce(routed.oid, p.oid)) as arguments,
      pg_get_function_result(p.oid) as result,
      -- What is sent as text must not be in the words of this session's own settings. PL/Proxy tells each time that it
      -- connects anew, as it does after an error.
      'set client_min_messages = warning' || case when oidvectortypes(p.proargtypes) ~ 'timestamp|range|interval'
        then ' set datestyle = ''ISO'' set intervalstyle = ''postgres'''
        else ''
      end as settings,
      -- On a shard the router may act for anybody, so that is judged here.
      case
        when routed.oid is not null then concat_ws(
          E'\n  ',
          format('perform segmentation.require_user_ids(array[%s.user_id]);', routed.proname),
          case when 'actor' = any (p.proargnames[:p.pronargs])
            then format('perform segmentation.require_actor(%1$s.actor, %1$s.reason);', routed.proname)
          end,
          case when 'slug' = any (p.proargnames[:p.pronargs])
            then format('perform segmentation.require_heard_of(%s.slug);', routed.proname)
          end)
      end as checks,
      case
        when name.of_proxy in (
          'change_user_segments', 'drop_history_before', 'ensure_history_partitions', 'expire_memberships',
          'forget_user', 'register_users')
        then format('perform segmentation.require_read_write(%L);', name.of_proxy || '()')
      end as read_write,
      -- Whom it concerns if a shard is away: the user, or everybody. Who names a slot wants to know.
      case
        when 'user_id' = any (p.proargnames[:p.pronargs]) then '$1'
        when p.prosrc ~ 'run on all' then 'null'
      end as concerned,
      (
        select string_agg(
          case
            when routed.oid is not null and p.proargnames[n] = 'actor' then format('segmentation.given_actor($%s)', n)
            else '$' || n
          end, ', ' order by n)
        from generate_series(1, p.pronargs) as n
      ) as passed
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_language as l on l.oid = p.prolang and l.lanname = 'plproxy'
    cross join lateral (select substr(p.proname, length('proxy_') + 1)) as name (of_proxy)
    left join segmentation.function_kinds() as k
      on k.function = name.of_proxy and k.kind = 'routed' and k.function not in ('change_user_segments', 'forget_user')
    left join pg_catalog.pg_proc as routed on routed.proname = k.function and routed.pronamespace = p.pronamespace
    where p.pronamespace = 'segmentation'::regnamespace
  loop
    execute format(
      $function$
create or replace function segmentation.%s (%s) returns %s
  language plpgsql security definer set search_path = pg_catalog, pg_temp %s
as $body$
declare
  e_state text;
  e_message text;
  e_detail text;
  e_hint text;
begin
  %s
  %s
  %s
  %s segmentation.%s(%s)%s;
exception
  when others then
    get stacked diagnostics
      e_state = returned_sqlstate, e_message = message_text, e_detail = pg_exception_detail, e_hint = pg_exception_hint;
    perform segmentation.raise_as_told(e_state, e_message, e_detail, e_hint);
end
$body$
      $function$,
      f.name, f.arguments, f.result, f.settings, f.checks, f.read_write,
      'if exists (select from segmentation.shards_away) then perform segmentation.require_there('
        || f.concerned || '); end if;',
      case when f.is_set then 'return query select r.* from' else 'return' end, f.proxy, f.passed,
      case when f.is_set then ' as r' end);
  end loop;
end
$$;

-- The forms of a database by itself that are still needed here, under the name here_x. A body names its arguments by
-- its own name, hence the replacement.
do $$
declare
  f record;
begin
  for f in
    select p.oid, p.proname as name
    from pg_catalog.pg_proc as p
    where p.pronamespace = 'segmentation'::regnamespace
      and p.proname in (
        'assert_bucket_vectors', 'claim_idempotency_key', 'drop_history_before', 'ensure_history_partitions',
        'expire_memberships', 'jobs', 'service_status', 'settled_until')
  loop
    execute regexp_replace(pg_get_functiondef(f.oid), format('\m%s\M', f.name), 'here_' || f.name, 'g');
  end loop;
end
$$;
