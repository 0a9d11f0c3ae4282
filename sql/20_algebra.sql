-- The algebra of membership, written once:
--
--     member(user, segment) = ((rollout - overridden - elsewhere) + assigned) * alive
--
-- In a layer, elsewhere is when the user is assigned to another segment of it; without a layer it is empty.
--
-- Everything is a period [starts_at, ends_at) whose open end is infinity. Each term is the multirange of all
-- such periods: past, present and planned. The lower bound of a resulting range is the moment the user got
-- in, its upper bound the moment the user got out. History, time travel and the explanation are selections
-- from membership_periods and membership_events.
--
-- Where speed counts, the same rule is written in a second form. Tests hold each one equal to the algebra:
--
--     form                                       tests
--     current_segments     sql/45_reads.sql      tests/sql/test_model.py, tests/sql/test_reads.py
--     report_lines         sql/60_reports.sql    tests/sql/test_model.py, tests/sql/test_reports.py
--     members_page,        sql/65_members.sql    tests/sql/test_model.py, tests/sql/test_members.py
--       segment_counts
--     segment_growth       sql/67_growth.sql     tests/sql/test_model.py, tests/sql/test_growth.py
--     ofrep_evaluations    sql/82_ofrep.sql      tests/http/test_ofrep.py

create or replace function segmentation.member (
  rollout    tstzmultirange,
  overridden tstzmultirange,
  elsewhere  tstzmultirange,
  assigned   tstzmultirange,
  alive      tstzrange
)
  returns tstzmultirange
  language sql
  immutable
  parallel safe
as $$
  select (
      (coalesce(rollout, '{}') - coalesce(overridden, '{}') - coalesce(elsewhere, '{}')) + coalesce(assigned, '{}'))
    * pg_catalog.tstzmultirange(alive)
$$;

-- By what a user is in or out at a moment, from what holds then.
create or replace function segmentation.source (
  assigned   boolean,
  overridden boolean,
  rolled_out boolean,
  elsewhere  boolean default false
)
  returns text
  language sql
  immutable
  parallel safe
as $$
  select case
    when assigned then 'assignment'
    when overridden then 'exclusion'
    when elsewhere then 'none'
    when rolled_out then 'rollout'
    else 'none'
  end
$$;

-- All overrides there ever were. One whose end has passed is over, whether or not the sweep has moved it; one in the
-- history is over whatever the clock says, hence its decided_at.
create or replace view segmentation.overrides as
select
  user_id, segment_id, included, starts_at, ends_at, actor, reason,
  'expired'::text as end_cause, end_actor, end_reason, decided_at
from segmentation.memberships
union all
select
  user_id, segment_id, included, starts_at, ends_at, actor, reason,
  end_cause, end_actor, end_reason, ends_at as decided_at
from segmentation.membership_history;

-- Each assignment in a layer, as the other segments of the layer see it: for as long as it lasts, and its segment, it
-- takes the user out of their rollouts.
create or replace view segmentation.assignments_elsewhere as
select
  o.user_id, other.segment_id, o.starts_at, least(o.ends_at, s.deleted_at) as ends_at,
  o.actor, o.reason, e.end_actor, e.end_reason,
  greatest(o.decided_at, case when s.deleted_at < o.ends_at then s.deleted_at end) as decided_at
from segmentation.overrides as o
join segmentation.segments as s on s.segment_id = o.segment_id and o.starts_at < s.deleted_at
join segmentation.segments as other
  on other.layer_id = s.layer_id and other.segment_id <> s.segment_id
  and other.created_at < o.ends_at and other.deleted_at > o.starts_at
left join segmentation.segment_history as d
  on d.segment_id = s.segment_id and d.operation = 'delete' and s.deleted_at < o.ends_at
cross join lateral (
  select
    case when d.segment_id is null then o.end_actor else d.actor end,
    case when d.segment_id is null then o.end_reason else d.reason end
) as e (end_actor, end_reason)
where o.included;

-- The terms of the algebra and their result, for these users and every segment that ever concerned them.
-- moment is what the clock says: a user never seen before counts as registered then. present is the same moment, or
-- later where the clock has gone back since this user or this segment was changed (sql/10_clock.sql).
-- Inlined into its caller, so that a condition on segment_id reaches the tables.
create or replace function segmentation.membership_periods (
  user_ids bigint[],
  moment   timestamptz
)
  returns table (
    user_id    bigint,
    segment_id integer,
    rollout    tstzmultirange,
    overridden tstzmultirange,
    elsewhere  tstzmultirange,
    assigned   tstzmultirange,
    member     tstzmultirange,
    present    timestamptz
  )
  language sql
  stable
as $$
  select
    t.user_id, t.segment_id, t.rollout, t.overridden, t.elsewhere, t.assigned,
    segmentation.member(t.rollout, t.overridden, t.elsewhere, t.assigned, tstzrange(s.created_at, s.deleted_at)),
    greatest(membership_periods.moment, t.decided_at, s.created_at, nullif(s.deleted_at, 'infinity'))
  from (
    select
      p.user_id,
      p.segment_id,
      range_agg(p.period) filter (where p.kind = 'rollout') as rollout,
      range_agg(p.period) filter (where p.kind in ('assignment', 'exclusion')) as overridden,
      range_agg(p.period) filter (where p.kind = 'elsewhere') as elsewhere,
      range_agg(p.period) filter (where p.kind = 'assignment') as assigned,
      max(p.decided_at) as decided_at
    from (
      select
        k.user_id, r.segment_id, 'rollout' as kind,
        tstzrange(greatest(r.starts_at, k.registered_at), r.ends_at) as period,
        greatest(r.decided_at, k.registered_at) as decided_at
      from (
        select asked.user_id, coalesce(u.registered_at, membership_periods.moment) as registered_at
        from unnest(membership_periods.user_ids) as asked (user_id)
        left join segmentation.users as u on u.user_id = asked.user_id
      ) as k
      join segmentation.rollouts as r
        on r.ends_at > k.registered_at
        and segmentation.holds(r.buckets, r.threshold, segmentation.bucket(k.user_id, r.salt))
      union all
      select e.user_id, e.segment_id, 'elsewhere', tstzrange(e.starts_at, e.ends_at), e.decided_at
      from segmentation.assignments_elsewhere as e
      where e.user_id = any (membership_periods.user_ids)
      union all
      select
        o.user_id, o.segment_id, case when o.included then 'assignment' else 'exclusion' end,
        tstzrange(o.starts_at, o.ends_at),
        o.decided_at
      from segmentation.overrides as o
      where o.user_id = any (membership_periods.user_ids)
    ) as p
    group by p.user_id, p.segment_id
  ) as t
  join segmentation.segments as s on s.segment_id = t.segment_id
$$;

-- Each moment at which one of these users got in or out, up to until_time, with its cause, actor and reason.
--
-- The algebra says when. The override that began or ended at that very moment says why, or else the assignment in
-- another segment of the layer; so does the deletion of the segment, which goes first, or the rollout step in force,
-- which goes last. Moments and overrides are put into one list and sorted, and lead() looks from each moment to the
-- override beside it: the cost grows with the length of a history, not with its square.
create or replace function segmentation.membership_events (
  user_ids   bigint[],
  until_time timestamptz
)
  returns table (
    user_id    bigint,
    segment_id integer,
    operation  text,
    at         timestamptz,
    cause      text,
    actor      text,
    reason     text
  )
  language sql
  stable
as $$
  select e.user_id, e.segment_id, e.operation, e.at, c.cause, c.actor, c.reason
  from (
    select
      b.user_id, b.segment_id, b.operation, b.at, b.place,
      lead(b.cause) over same_moment as cause,
      lead(b.actor) over same_moment as actor,
      lead(b.reason) over same_moment as reason
    from (
      select p.user_id, p.segment_id, m.operation, m.at, 0 as place, null as cause, null as actor, null as reason
      from segmentation.membership_periods(membership_events.user_ids, membership_events.until_time) as p
      cross join lateral unnest(p.member) as period
      cross join lateral (
        values ('add', lower(period)), ('remove', upper(period))
      ) as m (operation, at)
      where m.at <= p.present
      union all
      -- An assignment takes the user in and lets it go; an exclusion takes it out and lets the rollout have it.
      select o.user_id, o.segment_id, m.operation, m.at, m.place, m.cause, m.actor, m.reason
      from segmentation.overrides as o
      cross join lateral (
        values
          (o.included, 'add', o.starts_at, 1, 'assigned', o.actor, o.reason),
          (o.included, 'remove', o.ends_at, 2, o.end_cause, o.end_actor, o.end_reason),
          (not o.included, 'remove', o.starts_at, 1, 'removed', o.actor, o.reason),
          (not o.included, 'add', o.ends_at, 2, 'rollout', o.end_actor, o.end_reason)
      ) as m (applies, operation, at, place, cause, actor, reason)
      where m.applies and o.user_id = any (membership_events.user_ids)
      union all
      -- An assignment elsewhere takes the user out of the rollout, and lets the rollout have it again.
      select a.user_id, a.segment_id, m.operation, m.at, 3, m.cause, m.actor, m.reason
      from segmentation.assignments_elsewhere as a
      cross join lateral (
        values
          ('remove', a.starts_at, 'exclusive', a.actor, a.reason),
          ('add', a.ends_at, 'rollout', a.end_actor, a.end_reason)
      ) as m (operation, at, cause, actor, reason)
      where a.user_id = any (membership_events.user_ids)
    ) as b
    window same_moment as (partition by b.user_id, b.segment_id, b.operation, b.at order by b.place)
  ) as e
  left join lateral (
    select f.cause, f.actor, f.reason
    from (
      select 1 as place, 'segment_deleted' as cause, h.actor, h.reason
      from segmentation.segment_history as h
      where e.operation = 'remove'
        and h.segment_id = e.segment_id and h.operation = 'delete' and h.changed_at = e.at
      union all
      select 2, e.cause, e.actor, e.reason
      where e.cause is not null
      union all
      -- The step in force is the last that has begun; a deleted segment has none.
      (
        select 3, 'rollout', r.actor, r.reason
        from segmentation.rollouts as r
        where r.segment_id = e.segment_id and r.starts_at <= e.at
        order by r.starts_at desc
        limit 1
      )
    ) as f
    order by f.place
    limit 1
  ) as c on true
  where e.place = 0
$$;
