-- What several functions ask of their arguments, each rule with its message once. A rule of one function stands in it.
--
-- The tables hold the same rules as named constraints, for those who type plain DML; a test keeps both
-- alike. Here a person is told the value and what to do next. Errors carry a standard condition name,
-- a HINT, and a DETAIL that is one JSON object.
--
-- Here as everywhere, a function that pins its search_path puts pg_temp last: left out, PostgreSQL would look
-- for types and tables there first, and run a caller's own domain named text with the owner's rights.

create or replace function segmentation.require_user_ids (
  user_ids bigint[]
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
declare
  wrong bigint;
begin
  -- An array of arrays is no list, and array_position does not search it.
  if array_ndims(user_ids) > 1 then
    raise exception 'user ids in % dimensions are no list', array_ndims(user_ids)
      using errcode = 'invalid_parameter_value', hint = 'Give one array, such as array[1000, 1002].';
  end if;
  if user_ids is null or array_position(user_ids, null) is not null then
    raise exception 'a user id is missing'
      using errcode = 'invalid_parameter_value', hint = 'A user id is a whole number from 1 to 9223372036854775807.';
  end if;
  if 0 >= any (user_ids) then
    select min(u.user_id) into wrong from unnest(user_ids) as u (user_id);
    raise exception 'user id % is not above 0', wrong
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('user_id', wrong),
        hint = 'A user id is a whole number from 1 to 9223372036854775807.';
  end if;
end
$$;

create or replace function segmentation.require_slug (
  slug text
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if (slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$') is not true then
    raise exception 'slug % is not valid', coalesce('"' || slug || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('slug', slug),
        hint = 'A slug has 1 to 100 letters, digits, dots, hyphens and underscores, the first a letter or digit.';
  end if;
end
$$;

create or replace function segmentation.require_description (
  description text
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if length(description) > 2000 then
    raise exception 'the description has % characters', length(description)
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('length', length(description), 'at_most', 2000),
        hint = 'Shorten it to at most 2000 characters.';
  end if;
end
$$;

create or replace function segmentation.require_percent (
  percent numeric
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if (percent between 0 and 100 and percent = round(percent, 3)) is not true then
    raise exception 'percent % is not between 0 and 100 with at most three decimals', coalesce(percent::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('percent', percent::text),
        hint = 'Give a number such as 10, 33.3 or 0.125.';
  end if;
end
$$;

create or replace function segmentation.require_rows (
  max_rows integer
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if (max_rows > 0) is not true then
    raise exception 'max_rows % is not above 0', coalesce(max_rows::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('max_rows', max_rows),
        hint = 'Give the number of rows to return at most.';
  end if;
end
$$;

-- How many may be given or asked for in one call.
create or replace function segmentation.require_at_most (
  name    text,
  given   bigint,
  at_most bigint
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if (require_at_most.given between 1 and require_at_most.at_most) is not true then
    raise exception '% must be from 1 to %, not %',
      case require_at_most.name when 'limit' then 'limit' else 'the number of ' || require_at_most.name end,
      require_at_most.at_most, coalesce(require_at_most.given::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object(require_at_most.name, require_at_most.given, 'at_most', require_at_most.at_most),
        hint = case require_at_most.name when 'limit' then 'Ask page by page.' else 'Make several calls.' end;
  end if;
end
$$;

comment on function segmentation.require_at_most(text, bigint, bigint) is
  'For the service: fails when more is asked for than one call takes. Example: select require_at_most(''limit'', 100, 1000);';

create or replace function segmentation.require_stretch (
  from_time    timestamptz,
  to_time      timestamptz,
  may_be_empty boolean default true
)
  returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if require_stretch.to_time < require_stretch.from_time
    or require_stretch.to_time = require_stretch.from_time and not require_stretch.may_be_empty
  then
    raise exception 'the time from % to % does not end after it begins',
      require_stretch.from_time, require_stretch.to_time
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('from', require_stretch.from_time, 'to', require_stretch.to_time),
        hint = 'Give the earlier moment first.';
  end if;
end
$$;
