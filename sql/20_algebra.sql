-- The algebra of membership, written once:
--
--     member(user, segment) = ((rollout - overridden) + assigned) * alive
--
-- Everything is a period [starts_at, ends_at) whose open end is infinity, and each term is the multirange
-- of all such periods, past, present and planned. The lower bound of a resulting range is the moment the
-- user got in, its upper bound the moment the user got out. History, time travel, explanation and member
-- list are selections from membership_periods and membership_events; the hot read (sql/45_reads.sql) and
-- the month report (sql/60_reports.sql) have faster forms, which tests hold equal to these.
--
-- In reading order: member, overrides, membership_periods, membership_events.

create or replace function segmentation.member (
  rollout    tstzmultirange,
  overridden tstzmultirange,
  assigned   tstzmultirange,
  alive      tstzrange
)
  returns tstzmultirange
  language sql
  immutable
  parallel safe
as $$
  select ((coalesce(rollout, '{}') - coalesce(overridden, '{}')) + coalesce(assigned, '{}'))
    * pg_catalog.tstzmultirange(alive)
$$;

-- All overrides there ever were. One whose end has passed is over, whether or not the sweep has moved it.
create or replace view segmentation.overrides as
select
  user_id, segment_id, included, starts_at, ends_at, actor, reason,
  'expired'::text as end_cause, end_actor, end_reason
from segmentation.memberships
union all
select
  user_id, segment_id, included, starts_at, ends_at, actor, reason,
  end_cause, end_actor, end_reason
from segmentation.membership_history;

-- The terms of the algebra and their result, for these users and every segment that ever concerned them.
-- A user never seen before counts as registered at first_seen. Inlined into its caller, so that a
-- condition on segment_id reaches the tables.
create or replace function segmentation.membership_periods (
  user_ids   bigint[],
  first_seen timestamptz
)
  returns table (
    user_id    bigint,
    segment_id integer,
    rollout    tstzmultirange,
    overridden tstzmultirange,
    assigned   tstzmultirange,
    member     tstzmultirange
  )
  language sql
  stable
as $$
  select
    t.user_id, t.segment_id, t.rollout, t.overridden, t.assigned,
    segmentation.member(t.rollout, t.overridden, t.assigned, tstzrange(s.created_at, s.deleted_at))
  from (
    select
      p.user_id,
      p.segment_id,
      range_agg(p.period) filter (where p.kind = 'rollout') as rollout,
      range_agg(p.period) filter (where p.kind <> 'rollout') as overridden,
      range_agg(p.period) filter (where p.kind = 'assignment') as assigned
    from (
      select
        k.user_id, r.segment_id, 'rollout' as kind,
        tstzrange(greatest(r.starts_at, k.registered_at), r.ends_at) as period
      from (
        select asked.user_id, coalesce(u.registered_at, membership_periods.first_seen) as registered_at
        from unnest(membership_periods.user_ids) as asked (user_id)
        left join segmentation.users as u on u.user_id = asked.user_id
      ) as k
      join segmentation.rollouts as r
        on r.ends_at > k.registered_at and segmentation.bucket(k.user_id, r.salt) < r.threshold
      union all
      select
        o.user_id, o.segment_id, case when o.included then 'assignment' else 'exclusion' end,
        tstzrange(o.starts_at, o.ends_at)
      from segmentation.overrides as o
      where o.user_id = any (membership_periods.user_ids)
    ) as p
    group by p.user_id, p.segment_id
  ) as t
  join segmentation.segments as s on s.segment_id = t.segment_id
$$;

-- Each moment at which one of these users got in or out, up to until_time, with cause, actor and reason.
-- The bounds come from the algebra; what begins or ends at that very moment is the cause.
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
    select p.user_id, p.segment_id, b.operation, b.at
    from segmentation.membership_periods(membership_events.user_ids, membership_events.until_time) as p
    cross join lateral unnest(p.member) as period
    cross join lateral (
      values ('add', lower(period)), ('remove', upper(period))
    ) as b (operation, at)
    where b.at <= membership_events.until_time
  ) as e
  left join lateral (
    select cause, actor, reason
    from (
      -- In by hand.
      select 1 as rank, 'assigned' as cause, o.actor, o.reason
      from segmentation.overrides as o
      where e.operation = 'add'
        and o.user_id = e.user_id and o.segment_id = e.segment_id
        and o.included and o.starts_at = e.at
      union all
      -- In by rollout again, because an exclusion was lifted.
      select 2, 'rollout', o.end_actor, o.end_reason
      from segmentation.overrides as o
      where e.operation = 'add'
        and o.user_id = e.user_id and o.segment_id = e.segment_id
        and not o.included and o.ends_at = e.at
      union all
      -- In by the step in force, which began now or met the user when it registered.
      select 3, 'rollout', r.actor, r.reason
      from segmentation.rollouts as r
      where e.operation = 'add'
        and r.segment_id = e.segment_id and r.starts_at <= e.at and e.at < r.ends_at
      union all
      select 4, 'segment_deleted', h.actor, h.reason
      from segmentation.segment_history as h
      where e.operation = 'remove'
        and h.segment_id = e.segment_id and h.operation = 'delete' and h.changed_at = e.at
      union all
      -- Out by hand: an exclusion began.
      select 5, 'removed', o.actor, o.reason
      from segmentation.overrides as o
      where e.operation = 'remove'
        and o.user_id = e.user_id and o.segment_id = e.segment_id
        and not o.included and o.starts_at = e.at
      union all
      -- Out because the assignment ended.
      select 6, o.end_cause, o.end_actor, o.end_reason
      from segmentation.overrides as o
      where e.operation = 'remove'
        and o.user_id = e.user_id and o.segment_id = e.segment_id
        and o.included and o.ends_at = e.at
      union all
      -- Out because the step that began now is too low.
      select 7, 'rollout', r.actor, r.reason
      from segmentation.rollouts as r
      where e.operation = 'remove'
        and r.segment_id = e.segment_id and r.starts_at = e.at
    ) as candidates
    order by rank
    limit 1
  ) as c on true
$$;
