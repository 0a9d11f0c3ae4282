-- Who makes a change and why, on its way from a function's arguments to the triggers that record it.
--
-- People are who they logged in as: the login name is the actor, and no argument changes that. Only the service, which
-- speaks for the owners of its API keys, may name somebody else. No key bears the name of a login, so the history never
-- mistakes one for the other.
--
-- The triggers find actor and reason in two settings of the transaction, because a DELETE has no row to carry them.
-- Plain DML by a DBA leaves them empty: the login name is the actor then, and
-- `set segmentation.reason = '…'` gives a reason.

-- Whether the login of this session is one of the service, whatever role it has taken. A superuser counts as a member
-- of every role.
create or replace function segmentation.is_service () returns boolean
  language sql
  stable
as $$ select pg_catalog.pg_has_role(session_user, 'segmentation_service', 'member') $$;

-- Who acts, of the actor that a caller gives: the login, unless another one is named. Inlined.
create or replace function segmentation.given_actor (
  actor text
)
  returns text
  language sql
  stable
as $$ select coalesce(nullif(actor, ''), session_user::text) $$;

-- Both go into the history, once for each change.
create or replace function segmentation.require_actor (
  actor  text,
  reason text
)
  returns void
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  given record;
begin
  for given in
    select g.name, length(g.value) as length, g.at_most
    from (values ('actor', require_actor.actor, 200), ('reason', require_actor.reason, 2000)) as g (name, value, at_most)
    where length(g.value) > g.at_most
  loop
    raise exception 'the % has % characters', given.name, given.length
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('argument', given.name, 'length', given.length, 'at_most', given.at_most),
        hint = format('Shorten it to at most %s characters.', given.at_most);
  end loop;
  if segmentation.given_actor(require_actor.actor) <> session_user and not segmentation.is_service() then
    raise exception 'login "%" cannot act as "%"', session_user, require_actor.actor
      using
        errcode = 'insufficient_privilege',
        detail = json_build_object('login', session_user, 'actor', require_actor.actor),
        hint = 'Leave actor out: it is the login. A login of the service itself is a member of segmentation_service.';
  end if;
  if segmentation.given_actor(require_actor.actor) = session_user
    and exists (select from segmentation.api_keys as k where k.name = session_user)
  then
    raise exception 'login "%" has the name of an API key', session_user
      using
        errcode = 'insufficient_privilege',
        detail = json_build_object('login', session_user),
        hint = 'The history could not tell them apart. Have the login renamed: alter role … rename to …';
  end if;
end
$$;

create or replace function segmentation.set_actor (
  actor  text,
  reason text
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_actor(set_actor.actor, set_actor.reason);
  perform set_config('segmentation.actor', segmentation.given_actor(set_actor.actor), true);
  perform set_config('segmentation.reason', coalesce(set_actor.reason, ''), true);
end
$$;

-- After the change: what else this transaction does is not its doing.
create or replace function segmentation.unset_actor () returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform set_config('segmentation.actor', '', true);
  perform set_config('segmentation.reason', '', true);
  perform set_config('segmentation.moment', '', true);
end
$$;

-- Only what a function set counts: it runs as the owner, and plain DML as the login, who may have set it by hand.
create or replace function segmentation.actor () returns text
  language sql
  stable
as $$
  select coalesce(
    case when current_user = 'segmentation_owner' then
      nullif(pg_catalog.current_setting('segmentation.actor', true), '')
    end,
    session_user::text)
$$;

create or replace function segmentation.actor_reason () returns text
  language sql
  stable
as $$ select nullif(pg_catalog.current_setting('segmentation.reason', true), '') $$;

-- The moment at which a change is recorded: that of the function that makes it, if it has set one; else now.
create or replace function segmentation.moment_of_change () returns timestamptz
  language sql
  volatile
as $$
  select coalesce(
    case when current_user = 'segmentation_owner' then
      nullif(pg_catalog.current_setting('segmentation.moment', true), '')::timestamptz
    end,
    segmentation.clock())
$$;
