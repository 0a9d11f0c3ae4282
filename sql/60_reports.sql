-- The month as rows: who got in or out of what, and when; and links that open it without a key.
--
-- The report of a month is user_history of all users, cut to that month (UTC); a test holds them equal. Most events
-- come from rollouts, and those of a user without an override follow from the bucket alone: rollout_lines finds them
-- from the bounds of the steps. Only pairs with an override, or an assignment in another segment of the layer, that
-- begins or ends in the month go through the algebra: override_lines. report_lines merges the two. All of them are
-- inlined, and a report asks for a page of users at a time, with a plan that PostgreSQL keeps: nothing in it may depend
-- on how many rows the planner expects.

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

-- The moments at which a rollout moves users, and which: those whose bucket is at least lowest and below the other
-- bound get in (add) or out (remove). From 10 % to 30 % that is one move: add, lowest 10000, below 30000. In a layer
-- the buckets may lie apart: then buckets says which of those between the bounds, and is null otherwise.
create or replace function segmentation.rollout_moves (
  from_time timestamptz,
  to_time   timestamptz,
  now       timestamptz
)
  returns table (
    segment_id integer, slug text, salt bigint, at timestamptz, operation text,
    lowest integer, below integer, buckets int4multirange
  )
  language sql
  stable
as $$
  select
    c.segment_id, s.slug, c.salt, c.at, m.operation, lower(m.buckets), upper(m.buckets),
    nullif(m.buckets, int4multirange(range_merge(m.buckets)))
  from (
    select
      b.segment_id, b.salt, b.at,
      coalesce(range_agg(b.buckets) filter (where b.ending), '{}') as before,
      coalesce(range_agg(b.buckets) filter (where not b.ending), '{}') as after
    from (
      select r.segment_id, r.salt, h.buckets, m.at, m.ending, r.decided_at
      from segmentation.rollouts as r
      cross join lateral (
        select coalesce(r.buckets, int4multirange(int4range(0, r.threshold)))
      ) as h (buckets)
      cross join lateral (values (r.starts_at, false), (r.ends_at, true)) as m (at, ending)
    ) as b
    where b.at >= rollout_moves.from_time and b.at < rollout_moves.to_time
    group by b.segment_id, b.salt, b.at
    having b.at <= greatest(rollout_moves.now, max(b.decided_at))
  ) as c
  join segmentation.segments as s on s.segment_id = c.segment_id
  cross join lateral (
    values ('add', c.after - c.before), ('remove', c.before - c.after)
  ) as m (operation, buckets)
  where not isempty(m.buckets)
$$;

-- The users of a page, each with the segments in which it has an override, or is out for an assignment elsewhere, at
-- any time from from_time to to_time. One list, grouped: a join of users with overrides may be planned as a nested
-- loop, which compares all with all.
create or replace function segmentation.reported_users (
  from_time timestamptz,
  to_time   timestamptz,
  after_id  bigint,
  up_to_id  bigint
)
  returns table (user_id bigint, registered_at timestamptz, overridden integer[])
  language sql
  stable
as $$
  select p.user_id, max(p.registered_at), array_agg(p.segment_id) filter (where p.segment_id is not null)
  from (
    select u.user_id, u.registered_at, null::integer as segment_id
    from segmentation.users as u
    union all
    select o.user_id, null, o.segment_id
    from segmentation.overrides as o
    where o.starts_at <= reported_users.to_time and o.ends_at >= reported_users.from_time
    union all
    select e.user_id, null, e.segment_id
    from segmentation.assignments_elsewhere as e
    where e.starts_at <= reported_users.to_time and e.ends_at >= reported_users.from_time
  ) as p
  where p.user_id > reported_users.after_id and p.user_id <= reported_users.up_to_id
  group by p.user_id
$$;

-- What rollouts did: a user gets in when it is registered, by the step in force, and moves where a later step begins
-- or ends. Pairs with an override in that time are left to override_lines.
create or replace function segmentation.rollout_lines (
  from_time timestamptz,
  to_time   timestamptz,
  now       timestamptz,
  after_id  bigint,
  up_to_id  bigint
)
  returns table (user_id bigint, at timestamptz, segment_id integer, slug text, operation text, at_text text)
  language sql
  stable
as $$
  -- What each user is compared with. Columns of a fixed length come first: those behind a text take longer to reach.
  with moves as materialized (
    select
      m.salt, m.at, m.below, m.lowest, m.segment_id, m.buckets, m.slug collate "C" as slug, m.operation,
      segmentation.rfc3339(m.at) as at_text
    from segmentation.rollout_moves(rollout_lines.from_time, rollout_lines.to_time, rollout_lines.now) as m
    order by m.at, m.slug collate "C", m.segment_id
  ),
  steps as materialized (
    select r.salt, r.threshold, r.starts_at, r.ends_at, s.segment_id, r.buckets, s.slug
    from segmentation.rollouts as r
    join segmentation.segments as s on s.segment_id = r.segment_id
    where r.threshold > 0 and r.starts_at < rollout_lines.to_time and r.ends_at > rollout_lines.from_time
    order by s.slug, s.segment_id
  )
  select u.user_id, e.at, e.segment_id, e.slug, e.operation, e.at_text
  from (
    select *
    from segmentation.reported_users(
      rollout_lines.from_time, rollout_lines.to_time, rollout_lines.after_id, rollout_lines.up_to_id) as u
    order by u.user_id
  ) as u
  cross join lateral (
    select
      u.registered_at as at, r.segment_id, r.slug, 'add' as operation,
      segmentation.rfc3339(u.registered_at) as at_text
    from steps as r
    where u.registered_at >= rollout_lines.from_time and u.registered_at < rollout_lines.to_time
      and segmentation.in_force(r.starts_at, r.ends_at, u.registered_at)
      and segmentation.holds(r.buckets, r.threshold, segmentation.bucket(u.user_id, r.salt))
      and (r.segment_id = any (u.overridden)) is not true
    union all
    select m.at, m.segment_id, m.slug, m.operation, m.at_text
    from moves as m
    where segmentation.bucket(u.user_id, m.salt) < m.below
      and segmentation.bucket(u.user_id, m.salt) >= m.lowest
      and (m.buckets is null or segmentation.bucket(u.user_id, m.salt) <@ m.buckets)
      and u.registered_at < m.at
      and (m.segment_id = any (u.overridden)) is not true
  ) as e
  order by u.user_id, e.at, e.slug, e.segment_id
$$;

-- What overrides did, from the algebra. An override that begins before from_time and ends after to_time covers all of
-- that time and so has no event; any other is here, with what else concerns its user and segment: the assignments
-- elsewhere in the layer, and the steps that hold the user. So is an assignment elsewhere that begins or ends in that
-- time, unless an override covers it.
create or replace function segmentation.override_lines (
  from_time timestamptz,
  to_time   timestamptz,
  now       timestamptz,
  after_id  bigint,
  up_to_id  bigint
)
  returns table (user_id bigint, at timestamptz, slug text, segment_id integer, operation text)
  language sql
  stable
as $$
  with changed as materialized (
    select
      o.user_id, o.segment_id, case when o.included then 'assignment' else 'exclusion' end as kind,
      o.starts_at, o.ends_at, o.decided_at
    from segmentation.overrides as o
    join segmentation.segments as s on s.segment_id = o.segment_id
    where o.user_id > override_lines.after_id and o.user_id <= override_lines.up_to_id
      and o.starts_at <= override_lines.to_time and o.ends_at >= override_lines.from_time
      and (o.starts_at >= override_lines.from_time or least(o.ends_at, s.deleted_at) <= override_lines.to_time)
  ),
  concerned as materialized (
    select c.* from changed as c
    union all
    select e.user_id, e.segment_id, 'elsewhere', e.starts_at, e.ends_at, e.decided_at
    from segmentation.assignments_elsewhere as e
    where e.user_id > override_lines.after_id and e.user_id <= override_lines.up_to_id
      and e.starts_at <= override_lines.to_time and e.ends_at >= override_lines.from_time
      and (
        (e.user_id, e.segment_id) in (select c.user_id, c.segment_id from changed as c)
        or (
          (e.starts_at >= override_lines.from_time or e.ends_at <= override_lines.to_time)
          and not exists (
            select
            from segmentation.overrides as o
            where o.user_id = e.user_id and o.segment_id = e.segment_id
              and o.starts_at < override_lines.from_time and o.ends_at > override_lines.to_time
          )
        )
      )
  )
  select t.user_id, b.at, s.slug, t.segment_id, b.operation
  from (
    select
      p.user_id, p.segment_id,
      range_agg(tstzrange(p.starts_at, p.ends_at)) filter (where p.kind = 'rollout') as rollout,
      range_agg(tstzrange(p.starts_at, p.ends_at)) filter (where p.kind in ('assignment', 'exclusion')) as overridden,
      range_agg(tstzrange(p.starts_at, p.ends_at)) filter (where p.kind = 'elsewhere') as elsewhere,
      range_agg(tstzrange(p.starts_at, p.ends_at)) filter (where p.kind = 'assignment') as assigned,
      max(p.decided_at) as decided_at
    from (
      select c.user_id, c.segment_id, c.kind, c.starts_at, c.ends_at, c.decided_at
      from concerned as c
      union all
      select
        c.user_id, c.segment_id, 'rollout', greatest(r.starts_at, u.registered_at), r.ends_at,
        greatest(r.decided_at, u.registered_at)
      from concerned as c
      join segmentation.rollouts as r
        on r.segment_id = c.segment_id
        and segmentation.holds(r.buckets, r.threshold, segmentation.bucket(c.user_id, r.salt))
      cross join lateral (
        select k.registered_at from segmentation.users as k where k.user_id = c.user_id offset 0
      ) as u
      where u.registered_at < r.ends_at
    ) as p
    group by p.user_id, p.segment_id
  ) as t
  join segmentation.segments as s on s.segment_id = t.segment_id
  cross join lateral unnest(
    segmentation.member(t.rollout, t.overridden, t.elsewhere, t.assigned, tstzrange(s.created_at, s.deleted_at))
  ) as period
  cross join lateral (
    select 'add', lower(period)
    union all
    select 'remove', upper(period)
  ) as b (operation, at)
  where b.at >= override_lines.from_time and b.at < override_lines.to_time
    and b.at <= greatest(override_lines.now, t.decided_at, s.created_at, nullif(s.deleted_at, 'infinity'))
  order by t.user_id, b.at, s.slug, t.segment_id
$$;

-- All events of [from_time, to_time) that have come by now, of users after one id and up to another, by user, time,
-- segment. What was done has come, even where the clock has gone back since (sql/10_clock.sql). Each part comes in
-- order, so that PostgreSQL only merges the two (Merge Append).
create or replace function segmentation.report_lines (
  from_time timestamptz,
  to_time   timestamptz,
  after_id  bigint,
  up_to_id  bigint,
  -- A report that version 1.0.0 has begun gives none, and goes on through a deploy.
  now       timestamptz default 'infinity'
)
  returns setof segmentation.report_line
  language sql
  stable
as $$
  select l.user_id, l.slug, l.operation, l.at_text
  from (
    select r.user_id, r.at, r.segment_id, r.slug, r.operation, r.at_text
    from segmentation.rollout_lines(
      report_lines.from_time, report_lines.to_time, report_lines.now,
      report_lines.after_id, report_lines.up_to_id) as r
    union all
    select o.user_id, o.at, o.segment_id, o.slug, o.operation, segmentation.rfc3339(o.at)
    from segmentation.override_lines(
      report_lines.from_time, report_lines.to_time, report_lines.now,
      report_lines.after_id, report_lines.up_to_id) as o
  ) as l
  -- A column of a function has lost the collation of its table.
  order by l.user_id, l.at, l.slug collate "C", l.segment_id
$$;

-- All users in pages: those after one id and up to another, by id.
create or replace function segmentation.user_pages ()
  returns table (after_id bigint, up_to_id bigint)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  -- What is read for so many users stays in the processor's cache.
  page_size constant integer := 5000;
begin
  up_to_id := 0;
  while up_to_id < 9223372036854775807 loop
    after_id := up_to_id;
    -- Beyond the last known user there may be one who has an override all the same.
    select coalesce(max(page.user_id) filter (where page.place = page_size), 9223372036854775807) into up_to_id
    from (
      select u.user_id, row_number() over (order by u.user_id) as place
      from segmentation.users as u
      where u.user_id > after_id
      order by u.user_id
      limit page_size
    ) as page;
    return next;
  end loop;
end
$$;

comment on function segmentation.user_pages() is
  'For the service: all known users in pages of ids, so few that what is joined and merged stays in the processor''s cache. Example: select * from user_pages();';

-- The pages of a report: users after one id and up to another, so few that what is joined and merged stays
-- in the processor's cache; together they are in order. A report of one user is one page, and makes the user
-- known.
create or replace function segmentation.report_pages (
  period  text,
  user_id bigint
)
  returns table (from_time timestamptz, to_time timestamptz, now timestamptz, after_id bigint, up_to_id bigint)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  from_time := segmentation.require_reportable(report_pages.period);
  if report_pages.user_id is not null then
    perform segmentation.register_unknown_users(array[report_pages.user_id]);
  end if;
  to_time := ((from_time at time zone 'UTC') + interval '1 month') at time zone 'UTC';
  -- One moment for all pages.
  now := segmentation.clock();
  if report_pages.user_id is not null then
    after_id := report_pages.user_id - 1;
    up_to_id := report_pages.user_id;
    return next;
    return;
  end if;
  return query
  select report_pages.from_time, report_pages.to_time, report_pages.now, page.after_id, page.up_to_id
  from segmentation.user_pages() as page;
end
$$;

comment on function segmentation.report_pages(text, bigint) is
  'For the service: the pages of a report. Example: select * from report_pages(''2026-11'', null);';

create or replace function segmentation.report_page (
  from_time timestamptz,
  to_time   timestamptz,
  after_id  bigint,
  up_to_id  bigint,
  now       timestamptz default 'infinity'
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
    report_page.from_time, report_page.to_time, report_page.after_id, report_page.up_to_id, report_page.now);
end
$$;

comment on function segmentation.report_page(timestamptz, timestamptz, bigint, bigint, timestamptz) is
  'For the service: one page of a report, see report_pages. Example: select * from report_page(''2026-11-01Z'', ''2026-12-01Z'', 0, 5000);';

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
    select * from segmentation.report_lines(
      page.from_time, page.to_time, page.after_id, page.up_to_id, page.now);
  end loop;
end
$$;

comment on function segmentation.history_report(text, bigint) is
  'Who got in or out of which segment in a month (UTC), of all known users or of one; by user, time, segment. Example: \copy (select * from history_report(''2026-11'')) to ''nov.csv'' csv delimiter '';''';

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
    segmentation.given_actor(create_report_link.actor));
  return query select new_id, link_end;
end
$$;

comment on function segmentation.create_report_link(text, bigint, interval, text) is
  'An unguessable id that opens one month''s report until it expires, is revoked or the API key that made it ends. Example: select * from create_report_link(''2026-11'');';

create or replace function segmentation.revoke_report_link (
  id text
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.close_report_link(sha256(convert_to(revoke_report_link.id, 'UTF8')));
end
$$;

comment on function segmentation.revoke_report_link(text) is
  'End a report''s link before its time. Example: select revoke_report_link(''…'');';

-- The service gives the digest of a link's id to this function and the next, so that the id itself is in no statement
-- and in no log.
create or replace function segmentation.close_report_link (
  id_digest bytea
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  delete from segmentation.report_links as l
  where l.id_digest = close_report_link.id_digest;
  if not found then
    raise exception 'this report link is unknown or has expired'
      using
        errcode = 'no_data_found',
        hint = 'Give the id alone, the part of the link between /v1/reports/ and .csv.';
  end if;
end
$$;

comment on function segmentation.close_report_link(bytea) is
  'For the service: revoke_report_link, by the digest of the id. Example: select close_report_link(sha256(''…''));';

-- What a link opens, and for whom: the key that made it, which may have been revoked since.
create or replace function segmentation.open_report_link (
  id_digest bytea
)
  returns table (actor text, role text, period text, user_id bigint)
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz := segmentation.clock();
begin
  return query
  select l.actor, coalesce(k.role, 'editor'), l.period, l.user_id
  from segmentation.report_links as l
  left join segmentation.api_keys as k on k.name = l.actor
  where l.id_digest = open_report_link.id_digest and moment < l.expires_at
    and (k.name is null or segmentation.key_is_alive(k.revoked_at, k.expires_at, moment));
  if not found then
    raise exception 'this report link is unknown or has expired'
      using errcode = 'no_data_found', hint = 'Ask for a new one: POST /v1/reports.';
  end if;
end
$$;

comment on function segmentation.open_report_link(bytea) is
  'For the service: whose link this is, and which report it opens. Example: select * from open_report_link(sha256(''…''));';

-- PostgreSQL inlines this function, so that each page goes out while the next one is found.
create or replace function segmentation.report_rows (
  period  text,
  user_id bigint default null
)
  returns setof segmentation.report_line
  language sql
  stable
as $$
  select line.*
  from segmentation.report_pages(report_rows.period, report_rows.user_id) as page
  cross join lateral segmentation.report_page(
    page.from_time, page.to_time, page.after_id, page.up_to_id, page.now) as line
$$;

comment on function segmentation.report_rows(text, bigint) is
  'For the service: history_report, page by page. Example: select * from report_rows(''2026-11'');';

-- For services of version 1.0.0.
create or replace function segmentation.linked_pages (
  id text
)
  returns table (from_time timestamptz, to_time timestamptz, after_id bigint, up_to_id bigint)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select page.from_time, least(page.to_time, page.now + interval '1 microsecond'), page.after_id, page.up_to_id
  from segmentation.open_report_link(sha256(convert_to(linked_pages.id, 'UTF8'))) as link
  cross join lateral segmentation.report_pages(link.period, link.user_id) as page;
end
$$;

comment on function segmentation.linked_pages(text) is
  'For the service: the pages of the report that a link''s id opens. Example: select line.* from linked_pages(''…'') as page cross join lateral report_page(from_time, to_time, after_id, up_to_id) as line;';
