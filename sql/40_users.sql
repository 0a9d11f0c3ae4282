-- Users: known from the first time anybody asks about them or changes them, and forgotten for good.
--
-- A row of users says since when an id is known, no more: users themselves live elsewhere. Whoever changes a
-- user's overrides holds the user's row (lock_users).
--
-- Lists of users are joined with tables whose statistics may be old: they know nothing of the rows that another list
-- made a moment ago. Where the planner expects one row, it compares each with each. So it is not told which segment is
-- asked for: the segment's id comes from outside of a LATERAL subquery that OFFSET 0 keeps apart (an optimization
-- fence), and the planner expects as many rows as segments have on average. Where a table was analyzed while it was
-- empty, empty_when_analyzed says so, and long lists are merged.

create or replace function segmentation.register_users (
  user_ids bigint[]
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_user_ids(register_users.user_ids);
  insert into segmentation.users (user_id)
  select distinct asked.user_id
  from segmentation.in_order(register_users.user_ids) as asked (user_id)
  where not exists (select from segmentation.users as u where u.user_id = asked.user_id)
  order by asked.user_id
  on conflict (user_id) do nothing;
end
$$;

comment on function segmentation.register_users(bigint[]) is
  'Make users known: rollouts hold them from now on. Known ones stay as they are. Example: select register_users(array[1000, 1002]);';

-- Whether the statistics say that there are users or overrides nowhere in the tables' files, while the files are there.
create or replace function segmentation.empty_when_analyzed ()
  returns boolean
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select bool_or(c.reltuples between 0 and c.relpages - 1)
  from pg_catalog.pg_class as c
  where c.oid in ('segmentation.users'::regclass, 'segmentation.memberships'::regclass)
$$;

-- The ids of a list in ascending order. PostgreSQL inlines it; that the ids come sorted is what lets it join them with
-- an index by merging.
create or replace function segmentation.in_order (
  user_ids bigint[]
)
  returns setof bigint
  language sql
  immutable
  parallel safe
as $$ select unnest(in_order.user_ids) as user_id order by user_id $$;

-- Whoever changes a user's overrides holds the user's row. Returns when the last of these users became known.
--
-- Most users are known. Those who are not are registered while no row is held: we then wait for another's
-- registration without making anybody wait for us, and take the locks anew, in order. The same happens when one of
-- them was forgotten meanwhile. An error inside a block with an EXCEPTION clause gives the block's row locks back:
-- SG001 is that error.
create or replace function segmentation.lock_users (
  user_ids bigint[]
)
  returns timestamptz
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  locked bigint;
  registered_at timestamptz;
begin
  loop
    begin
      select count(*), max(known.registered_at) into locked, registered_at
      from (
        select u.registered_at
        from segmentation.in_order(lock_users.user_ids) as asked (user_id)
        join segmentation.users as u on u.user_id = asked.user_id
        order by u.user_id
        for no key update of u
      ) as known;
      exit when locked >= cardinality(lock_users.user_ids);
      raise exception using errcode = 'SG001';
    exception
      when sqlstate 'SG001' then null;
    end;
    perform segmentation.register_users(lock_users.user_ids);
  end loop;
  return registered_at;
end
$$;

-- A read waits for nobody: a user whom an import is about to make known is left to it.
create or replace function segmentation.register_unknown_users (
  user_ids bigint[]
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
  set lock_timeout = '20ms'
as $$
begin
  perform segmentation.require_user_ids(register_unknown_users.user_ids);
  if current_setting('transaction_read_only') = 'off' then
    perform segmentation.register_users(register_unknown_users.user_ids);
  end if;
exception
  when lock_not_available then null;
end
$$;

-- Erases the user from every row of this schema. What PostgreSQL itself keeps is out of reach here: dead row versions
-- until the next vacuum, samples in pg_statistic until the next analyze, the write-ahead log, backups, and the server's
-- log, where it is set to log statements.
create or replace function segmentation.forget_user (
  user_id bigint,
  actor   text default session_user,
  reason  text default null
)
  returns boolean
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  known boolean := exists (
    select from segmentation.users as u where u.user_id = forget_user.user_id
    union all
    select from segmentation.overrides as o where o.user_id = forget_user.user_id
  );
begin
  perform segmentation.require_actor(forget_user.actor, forget_user.reason);
  -- Known or not, the user is locked: what others add meanwhile comes before this, and goes, or after it, and stays.
  perform segmentation.lock_users(array[forget_user.user_id]);
  -- Recorded like any other deletion, and then erased with the rest: the history's guard stands aside.
  delete from segmentation.memberships as m where m.user_id = forget_user.user_id;
  perform set_config('segmentation.forgetting', 'on', true);
  delete from segmentation.membership_history as h where h.user_id = forget_user.user_id;
  delete from segmentation.report_links as l where l.user_id = forget_user.user_id;
  delete from segmentation.idempotency_keys as i where i.user_id = forget_user.user_id;
  delete from segmentation.users as u where u.user_id = forget_user.user_id;
  perform set_config('segmentation.forgetting', '', true);
  -- Who and why is worth a line in the server's log. It does not say whom.
  raise log 'a user was forgotten by %, reason: %',
    segmentation.given_actor(forget_user.actor), coalesce(forget_user.reason, 'none given');
  return known;
end
$$;

comment on function segmentation.forget_user(bigint, text, text) is
  'Erase a user with all overrides and their past; false if the user was not known. Seen again, it begins anew. Example: select forget_user(1000, reason => ''asked to be forgotten'');';
