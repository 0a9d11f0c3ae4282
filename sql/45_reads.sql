-- "Which segments is this user in right now?", of one user or of many, and every other question about one user; what
-- was set by hand and ends soon.
--
-- current_segments_of is the hot read: no history, only what is in force at this moment, and a test holds it
-- equal to the algebra. What was set by hand is a selection from memberships, all else one from membership_periods and
-- membership_events. A read
-- makes an unseen user known, where the server lets it write; on a standby such a user simply counts as
-- registered now.
--
-- A function about one user or one segment keeps one plan (plan_cache_mode = force_generic_plan): to plan takes longer
-- than to answer, and PostgreSQL would plan anew at each call where a plan for this very user looks cheaper by a hair.

-- What retention has dropped cannot be answered; a guess would look like an answer.
create or replace function segmentation.require_kept (
  moment timestamptz,
  name   text default 'at'
)
  returns void
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  kept_since timestamptz := (select r.kept_since from segmentation.retention as r);
begin
  if not isfinite(moment) then
    raise exception '% % is no moment', require_kept.name, moment
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object(require_kept.name, moment),
        hint = 'Give a date and time.';
  end if;
  if moment < kept_since then
    raise exception 'the history before % was dropped', kept_since
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object(require_kept.name, moment, 'kept_since', kept_since),
        hint = 'Ask for a later moment.';
  end if;
end
$$;

-- The place, among these segments of a layer, of the one whose rollout holds a user, or 0: for cells that are divided.
create or replace function segmentation.place_in_layer (
  user_id     bigint,
  layer_id    integer,
  segment_ids integer[],
  moment      timestamptz
)
  returns integer
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce((
    select array_position(place_in_layer.segment_ids, r.segment_id)
    from segmentation.rollouts as r
    where r.layer_id = place_in_layer.layer_id
      and segmentation.in_force(r.starts_at, r.ends_at, place_in_layer.moment, r.decided_at)
      and segmentation.holds(r.buckets, r.threshold, segmentation.bucket(place_in_layer.user_id, r.salt))
    limit 1
  ), 0);
end
$$;

-- The fast form of the algebra, for one user at one moment: what is assigned, and what the rollouts hold unless it is
-- overridden. The user's overrides are read once, as numbers: a segment's id says assigned, a negative one excluded.
-- Slugs stand beside the steps, so segments are read only for users with overrides. Inlined into its caller, which
-- keeps the plan. The executor sets up every part of it at each call, used or not: keep the parts few.
--
-- In a layer one segment at most holds the user. The layer's cell says which, or 255: then its steps are asked. Who is
-- assigned to a living segment of the layer is in none of its rollouts.
create or replace function segmentation.current_segments_of (
  user_id bigint,
  moment  timestamptz
)
  returns table (known boolean, segments text[])
  language sql
  stable
as $$
  select
    exists (select from segmentation.users as u where u.user_id = current_segments_of.user_id),
    array(
      select r.slug
      from segmentation.rollouts as r
      where r.threshold > 0 and r.layer_id is null
        and segmentation.in_force(r.starts_at, r.ends_at, current_segments_of.moment, r.decided_at)
        and segmentation.bucket(current_segments_of.user_id, r.salt) < r.threshold
        and r.segment_id <> all (o.segment_ids) and -r.segment_id <> all (o.segment_ids)
      union all
      select h.slugs[h.place]
      from (
        select
          c.segment_ids, c.slugs,
          coalesce(
            nullif(get_byte(c.cells, segmentation.bucket(current_segments_of.user_id, c.salt) / 100), 255),
            segmentation.place_in_layer(
              current_segments_of.user_id, c.layer_id, c.segment_ids, current_segments_of.moment)) as place
        from segmentation.layer_cells as c
        where c.starts_at <= current_segments_of.moment and current_segments_of.moment < c.ends_at
        -- Otherwise computed anew wherever it is named.
        offset 0
      ) as h
      where h.place > 0
        and (
          cardinality(o.segment_ids) = 0
          or (not h.segment_ids && o.segment_ids and -h.segment_ids[h.place] <> all (o.segment_ids))
        )
      union all
      select s.slug
      from segmentation.segments as s
      where cardinality(o.segment_ids) > 0
        and s.segment_id = any (o.segment_ids) and s.deleted_at = 'infinity'
      order by 1
    )
  from (
    select array(
      select case when m.included then m.segment_id else -m.segment_id end
      from segmentation.memberships as m
      where m.user_id = current_segments_of.user_id
        and segmentation.in_force(m.starts_at, m.ends_at, current_segments_of.moment, m.decided_at)
    )
    -- Otherwise looked up anew wherever it is named.
    offset 0
  ) as o (segment_ids)
$$;

-- The same for many users. Inlined as well.
create or replace function segmentation.current_segments (
  user_ids bigint[],
  moment   timestamptz
)
  returns table (place bigint, user_id bigint, known boolean, segments text[])
  language sql
  stable
as $$
  select asked.place, asked.user_id, c.known, c.segments
  from unnest(current_segments.user_ids) with ordinality as asked (user_id, place)
  cross join lateral segmentation.current_segments_of(asked.user_id, current_segments.moment) as c
$$;

-- Put together by hand, because at this rate it is felt. Inlined.
create or replace function segmentation.segments_json (
  user_id  bigint,
  segments text[]
)
  returns text
  language sql
  stable
as $$ select '{"user_id":' || user_id || ',"segments":' || pg_catalog.array_to_json(segments) || '}' $$;

-- The hot read. A user never seen is answered first and made known then: the answer is the same.
create or replace function segmentation.http_user_segments (
  user_id bigint,
  at      timestamptz default null
)
  returns text
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz := segmentation.clock();
  answer text;
  is_known boolean;
begin
  if http_user_segments.at is not null then
    return segmentation.segments_json(http_user_segments.user_id, array(
      select s.segment
      from segmentation.user_segments(http_user_segments.user_id, http_user_segments.at) as s
    ));
  end if;
  select segmentation.segments_json(http_user_segments.user_id, c.segments), c.known into answer, is_known
  from segmentation.current_segments_of(http_user_segments.user_id, moment) as c;
  if not is_known then
    perform segmentation.register_unknown_users(array[http_user_segments.user_id]);
  end if;
  return answer;
end
$$;

comment on function segmentation.http_user_segments(bigint, timestamptz) is
  'For the service: GET /v1/users/{user_id}/segments, the hot read.';

-- The same without time travel, for those who may ask for the present only.
create or replace function segmentation.http_user_segments_now (
  user_id bigint
)
  returns text
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return segmentation.http_user_segments(http_user_segments_now.user_id);
end
$$;

comment on function segmentation.http_user_segments_now(bigint) is
  'For the service: GET /v1/users/{user_id}/segments for an evaluator, who may not give another moment than now.';

-- The same for all users who wait at the same moment, one text each.
create or replace function segmentation.http_user_segments_each (
  user_ids bigint[]
)
  returns text[]
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  -- A list's length differs from call to call; the plan does not.
  set plan_cache_mode = force_generic_plan
as $$
declare
  moment timestamptz := segmentation.clock();
  answers text[];
  all_known boolean;
begin
  select array_agg(segmentation.segments_json(c.user_id, c.segments) order by c.place), bool_and(c.known)
  into answers, all_known
  from segmentation.current_segments(user_ids, moment) as c;
  if not all_known then
    perform segmentation.register_unknown_users(user_ids);
  end if;
  return answers;
end
$$;

comment on function segmentation.http_user_segments_each(bigint[]) is
  'For the service: GET /v1/users/{user_id}/segments for several users who wait at the same moment, one text each.';

create or replace function segmentation.users_segments (
  user_ids bigint[]
)
  returns table (user_id bigint, segments text[])
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  -- A list's length differs from call to call; the plan does not.
  set plan_cache_mode = force_generic_plan
as $$
declare
  moment timestamptz;
begin
  perform segmentation.register_unknown_users(users_segments.user_ids);
  moment := segmentation.clock();
  return query
  select c.user_id, c.segments
  from segmentation.current_segments(users_segments.user_ids, moment) as c
  order by c.place;
end
$$;

comment on function segmentation.users_segments(bigint[]) is
  'The segments of many users right now, in the order asked for. Example: select * from users_segments(array[1000, 1002, 1004]);';

create or replace function segmentation.user_segments (
  user_id bigint,
  at      timestamptz default null
)
  returns table (segment text, source text, since timestamptz, until timestamptz)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  now timestamptz;
begin
  perform segmentation.register_unknown_users(array[user_segments.user_id]);
  now := segmentation.clock();
  perform segmentation.require_kept(coalesce(user_segments.at, now));
  return query
  select
    s.slug, segmentation.source(p.assigned @> a.moment, p.overridden @> a.moment, p.rollout @> a.moment),
    lower(period), upper(period)
  from segmentation.membership_periods(array[user_segments.user_id], now) as p
  cross join lateral (select coalesce(user_segments.at, p.present)) as a (moment)
  cross join lateral unnest(p.member) as period
  join segmentation.segments as s on s.segment_id = p.segment_id
  where period @> a.moment
  order by s.slug;
end
$$;

comment on function segmentation.user_segments(bigint, timestamptz) is
  'The segments a user is in, now or at a moment of the past or the planned future: by what, since when, until when. Example: select * from user_segments(1000); select * from user_segments(1000, at => ''2026-11-01 12:00Z'');';

create or replace function segmentation.explain_membership (
  user_id bigint,
  slug    text,
  at      timestamptz default null
)
  returns table (
    member boolean, source text, since timestamptz, until timestamptz, actor text, reason text,
    bucket_percent numeric, rollout_percent numeric
  )
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  found_id integer := segmentation.segment_id_of(explain_membership.slug, explain_membership.at);
  now timestamptz;
begin
  perform segmentation.register_unknown_users(array[explain_membership.user_id]);
  now := segmentation.clock();
  perform segmentation.require_kept(coalesce(explain_membership.at, now));
  return query
  select
    m.member,
    m.source,
    -- Never in before: no moment at all.
    nullif(lower(span.period), '-infinity'),
    upper(span.period),
    why.actor,
    why.reason,
    trim_scale(segmentation.bucket(explain_membership.user_id, s.salt) / 1000.0),
    coalesce((
      select trim_scale(r.percent)
      from segmentation.rollouts as r
      where r.segment_id = s.segment_id
        and segmentation.in_force(
          r.starts_at, r.ends_at, a.moment, case when explain_membership.at is null then r.decided_at end)
    ), 0)
  from segmentation.segments as s
  left join segmentation.membership_periods(array[explain_membership.user_id], now) as p
    on p.segment_id = s.segment_id
  cross join lateral (select coalesce(explain_membership.at, p.present, now)) as a (moment)
  cross join lateral (
    select
      coalesce(p.member @> a.moment, false),
      case
        when segmentation.in_force(s.created_at, s.deleted_at, a.moment)
          then segmentation.source(
            p.assigned @> a.moment, p.overridden @> a.moment, p.rollout @> a.moment, p.elsewhere @> a.moment)
        else 'none'
      end
  ) as m (member, source)
  -- The period that holds this answer: in the segment, or out of it.
  cross join lateral (
    select period
    from unnest(
      case when m.member then p.member else '{[-infinity,infinity)}'::tstzmultirange - coalesce(p.member, '{}') end
    ) as period
    where period @> a.moment
  ) as span
  left join lateral (
    select o.actor, o.reason
    from segmentation.overrides as o
    where m.source in ('assignment', 'exclusion')
      and o.user_id = explain_membership.user_id and o.segment_id = s.segment_id
      and segmentation.in_force(o.starts_at, o.ends_at, a.moment)
    union all
    -- The step that took the user in, or the event that ended the last stay.
    select r.actor, r.reason
    from unnest(p.rollout) as held
    join segmentation.rollouts as r
      on r.segment_id = s.segment_id and segmentation.in_force(r.starts_at, r.ends_at, lower(held))
    where m.source = 'rollout' and held @> a.moment
    union all
    -- What keeps the user out of the rollout that would hold it.
    select e.actor, e.reason
    from segmentation.assignments_elsewhere as e
    where m.source = 'none' and p.rollout @> a.moment
      and e.user_id = explain_membership.user_id and e.segment_id = s.segment_id
      and segmentation.in_force(e.starts_at, e.ends_at, a.moment)
    union all
    select e.actor, e.reason
    from segmentation.membership_events(array[explain_membership.user_id], now) as e
    where m.source = 'none'
      and e.segment_id = s.segment_id and e.operation = 'remove' and e.at = lower(span.period)
    limit 1
  ) as why on true
  where s.segment_id = found_id;
end
$$;

comment on function segmentation.explain_membership(bigint, text, timestamptz) is
  'Whether a user is in a segment, now or at a moment, and why: the source, since and until when this answer holds, who caused it, the user''s bucket (in while below the rollout''s percent). Example: select * from explain_membership(1000, ''AVITO_VOICE_MESSAGES'');';

create or replace function segmentation.user_overrides (
  user_id bigint
)
  returns table (segment text, kind text, since timestamptz, until timestamptz, actor text, reason text)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  now timestamptz;
begin
  perform segmentation.register_unknown_users(array[user_overrides.user_id]);
  now := segmentation.clock();
  return query
  select s.slug, segmentation.source(m.included, not m.included, false), m.starts_at, m.ends_at, m.actor, m.reason
  from segmentation.memberships as m
  join segmentation.segments as s on s.segment_id = m.segment_id
  where m.user_id = user_overrides.user_id and m.ends_at > now and s.deleted_at = 'infinity'
  order by s.slug;
end
$$;

comment on function segmentation.user_overrides(bigint) is
  'What was set by hand for a user, live and planned, each with its own end, whatever the rollouts say. Example: select * from user_overrides(1000);';

create or replace function segmentation.ending_soon (
  within   interval,
  slug     text default null,
  max_rows integer default null
)
  returns table (
    user_id bigint, segment text, kind text, since timestamptz, until timestamptz, actor text, reason text
  )
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  found_id integer := case when ending_soon.slug is not null then segmentation.segment_id_of(ending_soon.slug) end;
  now timestamptz := segmentation.clock();
  horizon timestamptz;
begin
  if ending_soon.max_rows is not null then
    perform segmentation.require_rows(ending_soon.max_rows);
  end if;
  begin
    horizon := now + ending_soon.within;
  exception
    when datetime_field_overflow then null;
  end;
  if (horizon > now) is not true then
    raise exception 'within % is not a valid time from now on', coalesce(ending_soon.within::text, 'null')
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('within', ending_soon.within::text),
        hint = 'Give a time above zero, such as interval ''7 days''.';
  end if;
  return query
  select
    m.user_id, s.slug, segmentation.source(m.included, not m.included, false),
    m.starts_at, m.ends_at, m.actor, m.reason
  from segmentation.memberships as m
  join segmentation.segments as s on s.segment_id = m.segment_id
  where m.ends_at > now and m.ends_at <= horizon and m.ends_at < 'infinity' and s.deleted_at = 'infinity'
    and (found_id is null or m.segment_id = found_id)
  order by m.ends_at, m.user_id, s.slug
  limit ending_soon.max_rows;
end
$$;

comment on function segmentation.ending_soon(interval, text, integer) is
  'What was set by hand and ends within a time from now, of all segments or of one; the first to end first. Example: select * from ending_soon(interval ''7 days''); select * from ending_soon(interval ''7 days'', ''AVITO_DISCOUNT_30'', max_rows => 100);';

create or replace function segmentation.user_history (
  user_id   bigint,
  from_time timestamptz default '-infinity',
  to_time   timestamptz default 'infinity'
)
  returns table (segment text, operation text, at timestamptz, cause text, actor text, reason text)
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  now timestamptz;
begin
  perform segmentation.register_unknown_users(array[user_history.user_id]);
  now := segmentation.clock();
  perform segmentation.require_stretch(user_history.from_time, user_history.to_time, may_be_empty => false);
  return query
  select s.slug, e.operation, e.at, e.cause, e.actor, e.reason
  from segmentation.membership_events(array[user_history.user_id], now) as e
  join segmentation.segments as s on s.segment_id = e.segment_id
  where e.at >= coalesce(user_history.from_time, '-infinity')
    and e.at < coalesce(user_history.to_time, 'infinity')
    and e.at >= (select r.kept_since from segmentation.retention as r)
  -- A slug deleted and used again at once: the old segment's events come first.
  order by e.at, s.slug, e.segment_id;
end
$$;

comment on function segmentation.user_history(bigint, timestamptz, timestamptz) is
  'Exactly when and why a user got in or out: from from_time up to but not at to_time. Example: select * from user_history(1000); select * from user_history(1000, ''2026-11-01Z'', ''2026-12-01Z'');';
