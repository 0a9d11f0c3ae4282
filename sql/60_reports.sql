-- The month as rows: who got in or out of what, and when; and links that open it without a key.
--
-- The report of a month is user_history of all users, cut to that month (UTC); a test holds them equal. Most
-- events come from rollouts, and those of a user without an override follow from the bucket alone, so
-- report_lines finds them from the steps' bounds; only pairs with an override that begins or ends in the
-- month go through the algebra. Both are selections by month, not by user.
--
-- In calling order: month_start, require_reportable; report_lines, report_pages; report_page, history_report;
-- create_report_link, linked_pages.

create or replace function segmentation.month_start (
  period text
)
  returns timestamptz
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if (period ~ '^[0-9]{4}-(0[1-9]|1[0-2])$' and period >= '0001-01') is not true then
    raise exception 'period % is not a month', coalesce('"' || period || '"', 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('period', period),
        hint = 'Write a month as in 2026-11; months are UTC.';
  end if;
  return (period || '-01 00:00:00+00')::timestamptz;
end
$$;

-- The month a report may ask for: one that has begun and is still kept.
create or replace function segmentation.require_reportable (
  period text
)
  returns timestamptz
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  month timestamptz := segmentation.month_start(period);
  kept_since timestamptz := (select r.kept_since from segmentation.retention as r);
begin
  if month > segmentation.clock() then
    raise exception 'period % has not begun', period
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('period', period),
        hint = 'Ask for this month or an earlier one.';
  end if;
  if month < kept_since then
    raise exception 'the history of % was dropped', period
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('period', period, 'kept_since', kept_since),
        hint = 'Ask for a later month.';
  end if;
  return month;
end
$$;

-- Of an earlier version.
drop function if exists segmentation.rollout_events(timestamptz, timestamptz, bigint, bigint);
drop function if exists segmentation.override_events(timestamptz, timestamptz, bigint, bigint);

-- All events of [from_time, to_time), of users after one id and up to another, by user, time, segment: three
-- selections, each in order, merged. At a step's bound the users between the old and the new threshold move; a
-- user registered meanwhile gets in where the step in force at that moment holds its bucket; both unless the
-- pair has an override in that time. Pairs whose overrides begin or end then, or end with their segment, go
-- through the algebra; a pair that is overridden all the time has no event. Inlined.
create or replace function segmentation.report_lines (
  from_time timestamptz,
  to_time   timestamptz,
  after_id  bigint,
  up_to_id  bigint
)
  returns setof segmentation.report_line
  language sql
  stable
as $$
  with bounds as materialized (
    -- Written as text once a bound, not once a user.
    select
      b.salt, b.below, b.lowest, b.at, b.segment_id, s.slug, b.operation, segmentation.rfc3339(b.at) as at_text
    from (
      select
        c.segment_id, c.salt, c.at,
        least(c.before, c.after) as lowest, greatest(c.before, c.after) as below,
        case when c.before < c.after then 'add' else 'remove' end as operation
      from (
        select
          m.segment_id, m.salt, m.at,
          coalesce(max(m.threshold) filter (where m.ending), 0) as before,
          coalesce(max(m.threshold) filter (where not m.ending), 0) as after
        from (
          select r.segment_id, r.salt, r.threshold, r.starts_at as at, false as ending
          from segmentation.rollouts as r
          union all
          select r.segment_id, r.salt, r.threshold, r.ends_at, true
          from segmentation.rollouts as r
        ) as m
        where m.at >= report_lines.from_time and m.at < report_lines.to_time
        group by m.segment_id, m.salt, m.at
      ) as c
      where c.before <> c.after
    ) as b
    join segmentation.segments as s on s.segment_id = b.segment_id
    order by b.at, s.slug, b.segment_id
  ),
  overridden as materialized (
    select o.user_id, o.segment_id, o.included, o.starts_at, o.ends_at
    from segmentation.overrides as o
    where o.user_id > report_lines.after_id and o.user_id <= report_lines.up_to_id
      and o.starts_at <= report_lines.to_time and o.ends_at >= report_lines.from_time
  ),
  overridden_users as materialized (
    select o.user_id, array_agg(o.segment_id) as segment_ids
    from overridden as o
    group by o.user_id
  ),
  touched as materialized (
    select
      o.user_id, o.segment_id,
      range_agg(tstzrange(o.starts_at, o.ends_at)) as overridden,
      range_agg(tstzrange(o.starts_at, o.ends_at)) filter (where o.included) as assigned
    from overridden as o
    where (o.user_id, o.segment_id) in (
      select o.user_id, o.segment_id
      from overridden as o
      join segmentation.segments as s on s.segment_id = o.segment_id
      where o.starts_at >= report_lines.from_time or least(o.ends_at, s.deleted_at) <= report_lines.to_time
    )
    group by o.user_id, o.segment_id
  )
  select e.user_id, e.slug, e.operation, e.at_text
  from (
    (
      -- Users in order, and for each the bounds in theirs: the sort finds its work done.
      select u.user_id, b.at, b.segment_id, b.slug, b.operation, b.at_text
      from (
        select u.user_id, u.registered_at, o.segment_ids
        from segmentation.users as u
        left join overridden_users as o on o.user_id = u.user_id
        where u.user_id > report_lines.after_id and u.user_id <= report_lines.up_to_id
        order by u.user_id
        offset 0
      ) as u
      cross join lateral (
        select b.*
        from bounds as b
        where segmentation.bucket(u.user_id, b.salt) < b.below
          and segmentation.bucket(u.user_id, b.salt) >= b.lowest
          and u.registered_at < b.at
        offset 0
      ) as b
      where (b.segment_id = any (u.segment_ids)) is not true
      order by u.user_id, b.at, b.slug, b.segment_id
    )
    union all
    (
      select u.user_id, u.registered_at, s.segment_id, s.slug, 'add', segmentation.rfc3339(u.registered_at)
      from segmentation.users as u
      left join overridden_users as o on o.user_id = u.user_id
      join segmentation.rollouts as r
        on r.starts_at <= u.registered_at and u.registered_at < r.ends_at
        and segmentation.bucket(u.user_id, r.salt) < r.threshold
      join segmentation.segments as s on s.segment_id = r.segment_id
      where u.user_id > report_lines.after_id and u.user_id <= report_lines.up_to_id
        and u.registered_at >= report_lines.from_time and u.registered_at < report_lines.to_time
        and (r.segment_id = any (o.segment_ids)) is not true
      order by u.user_id, u.registered_at, s.slug, s.segment_id
    )
    union all
    (
      select t.user_id, b.at, t.segment_id, s.slug, b.operation, segmentation.rfc3339(b.at)
      from touched as t
      join segmentation.segments as s on s.segment_id = t.segment_id
      left join (
        select
          t.user_id, t.segment_id,
          range_agg(tstzrange(greatest(r.starts_at, u.registered_at), r.ends_at)) as rollout
        from touched as t
        join segmentation.rollouts as r
          on r.segment_id = t.segment_id and segmentation.bucket(t.user_id, r.salt) < r.threshold
        join segmentation.users as u on u.user_id = t.user_id and u.registered_at < r.ends_at
        group by t.user_id, t.segment_id
      ) as r on r.user_id = t.user_id and r.segment_id = t.segment_id
      cross join lateral unnest(
        segmentation.member(r.rollout, t.overridden, t.assigned, tstzrange(s.created_at, s.deleted_at))
      ) as period
      cross join lateral (
        select 'add', lower(period)
        union all
        select 'remove', upper(period)
      ) as b (operation, at)
      where b.at >= report_lines.from_time and b.at < report_lines.to_time
      order by t.user_id, b.at, s.slug, t.segment_id
    )
  ) as e
  -- A column of a function has lost the collation of its table.
  order by e.user_id, e.at, e.slug collate "C", e.segment_id
$$;

-- The pages of a report: users after one id and up to another, so few that what is joined and merged stays
-- in the processor's cache; together they are in order. A report of one user is one page, and makes the user
-- known.
create or replace function segmentation.report_pages (
  period  text,
  user_id bigint
)
  returns table (from_time timestamptz, to_time timestamptz, after_id bigint, up_to_id bigint)
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
  from_time := segmentation.require_reportable(report_pages.period);
  if report_pages.user_id is not null then
    perform segmentation.register_unknown_users(array[report_pages.user_id]);
  end if;
  -- Up to the end of the month or to this very moment, which may have an event of its own.
  to_time := least(
    ((from_time at time zone 'UTC') + interval '1 month') at time zone 'UTC',
    segmentation.clock() + interval '1 microsecond');
  if report_pages.user_id is not null then
    after_id := report_pages.user_id - 1;
    up_to_id := report_pages.user_id;
    return next;
    return;
  end if;
  up_to_id := 0;
  while up_to_id < 9223372036854775807 loop
    after_id := up_to_id;
    -- Beyond the last known user there may be one who has an override all the same.
    select coalesce(max(page.user_id) filter (where page.place = 5000), 9223372036854775807) into up_to_id
    from (
      select u.user_id, row_number() over (order by u.user_id) as place
      from segmentation.users as u
      where u.user_id > after_id
      order by u.user_id
      limit 5000
    ) as page;
    return next;
  end loop;
end
$$;

create or replace function segmentation.report_page (
  from_time timestamptz,
  to_time   timestamptz,
  after_id  bigint,
  up_to_id  bigint
)
  returns setof segmentation.report_line
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set jit = off
  set work_mem = '64MB'
as $$
begin
  return query
  select * from segmentation.report_lines(
    report_page.from_time, report_page.to_time, report_page.after_id, report_page.up_to_id);
end
$$;

comment on function segmentation.report_page(timestamptz, timestamptz, bigint, bigint) is
  'One page of a report, see linked_pages. Example: select * from report_page(''2026-11-01Z'', ''2026-12-01Z'', 0, 5000);';

create or replace function segmentation.history_report (
  period  text,
  user_id bigint default null
)
  returns setof segmentation.report_line
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set jit = off
  set work_mem = '64MB'
as $$
declare
  page record;
begin
  for page in
    select * from segmentation.report_pages(history_report.period, history_report.user_id)
  loop
    return query
    select * from segmentation.report_lines(page.from_time, page.to_time, page.after_id, page.up_to_id);
  end loop;
end
$$;

comment on function segmentation.history_report(text, bigint) is
  'Who got in or out of which segment in a month (UTC), of all known users or of one; by user, time, segment. Example: \copy (select * from history_report(''2026-11'')) to ''november.csv'' csv delimiter '';''';

create or replace function segmentation.create_report_link (
  period     text,
  user_id    bigint default null,
  valid_for  interval default '24 hours',
  actor      text default session_user
)
  returns table (id text, expires_at timestamptz)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  new_id text := segmentation.random_secret();
  link_end timestamptz := segmentation.clock() + create_report_link.valid_for;
begin
  perform segmentation.require_actor(create_report_link.actor, null);
  perform segmentation.require_reportable(create_report_link.period);
  if create_report_link.user_id is not null then
    perform segmentation.require_user_ids(array[create_report_link.user_id]);
  end if;
  if (create_report_link.valid_for > interval '0' and create_report_link.valid_for <= interval '31 days') is not true then
    raise exception 'a link cannot be valid for %', coalesce(create_report_link.valid_for::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('valid_for', create_report_link.valid_for),
        hint = 'Give a time above zero and up to 31 days.';
  end if;
  insert into segmentation.report_links (id_digest, period, user_id, expires_at, actor)
  values (
    sha256(convert_to(new_id, 'UTF8')), create_report_link.period, create_report_link.user_id, link_end,
    coalesce(create_report_link.actor, session_user));
  return query select new_id, link_end;
end
$$;

comment on function segmentation.create_report_link(text, bigint, interval, text) is
  'An unguessable id that opens one month''s report until it expires. Example: select * from create_report_link(''2026-11'');';

-- Of an earlier version.
drop function if exists segmentation.linked_report(text);

-- Joined with report_page, a page at a time, the report goes out while it is made.
create or replace function segmentation.linked_pages (
  id text
)
  returns table (from_time timestamptz, to_time timestamptz, after_id bigint, up_to_id bigint)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  link segmentation.report_links;
begin
  select l.* into link
  from segmentation.report_links as l
  where l.id_digest = sha256(convert_to(linked_pages.id, 'UTF8')) and segmentation.clock() < l.expires_at;
  if not found then
    raise exception 'this report link is unknown or has expired'
      using errcode = 'no_data_found', hint = 'Ask for a new one: POST /v1/reports.';
  end if;
  return query select * from segmentation.report_pages(link.period, link.user_id);
end
$$;

comment on function segmentation.linked_pages(text) is
  'The pages of the report that a link''s id opens. Example: select line.* from linked_pages(''…'') as page cross join lateral report_page(from_time, to_time, after_id, up_to_id) as line;';
