-- Rollouts: a percentage of all users, changed by writing one step.
--
-- A step says: from starts_at on, percent % are in. It holds until the next step of the segment begins; ends_at is
-- derived from that (sql/52_rollout_triggers.sql). A ramp is several steps. Steps that have begun are the past and
-- never change. Setting and cancelling lock the segment's row first and take their moment then: it is not before any
-- earlier change of the segment, so a step that is set now replaces the one in force even where the clock has gone
-- back (sql/10_clock.sql).

create or replace function segmentation.set_rollout (
  slug      text,
  percent   numeric,
  starts_at timestamptz default null,
  actor     text default session_user,
  reason    text default null
)
  returns setof segmentation.rollout_step
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  segment segmentation.segments;
  moment timestamptz;
  step_at timestamptz;
  planned bigint;
begin
  perform segmentation.require_percent(set_rollout.percent);
  perform segmentation.require_actor(set_rollout.actor, set_rollout.reason);
  segment := segmentation.lock_segment(set_rollout.slug);
  moment := segmentation.segment_stamp(segment.segment_id);
  step_at := coalesce(set_rollout.starts_at, moment);
  if step_at < moment or not isfinite(step_at) then
    raise exception 'a rollout step cannot start at %', step_at
      using
        errcode = 'invalid_parameter_value',
        detail = json_build_object('starts_at', step_at, 'now', moment),
        hint = 'The past is settled. Leave starts_at out to start now, or give a moment to come.';
  end if;
  -- Every reading of the rollout goes through all of its steps.
  if step_at > moment then
    select count(*) into planned
    from segmentation.rollouts as r
    where r.segment_id = segment.segment_id and r.starts_at > moment and r.starts_at <> step_at;
    if planned >= 1000 then
      raise exception 'segment "%" has % planned rollout steps already', segment.slug, planned
        using
          errcode = 'object_not_in_prerequisite_state',
          detail = json_build_object('planned_steps', planned, 'at_most', 1000),
          hint = 'Plan the further ones when some of these have begun, or cancel some.';
    end if;
  end if;
  insert into segmentation.rollouts as r (segment_id, salt, percent, starts_at, actor, reason, decided_at)
  select
    segment.segment_id, segment.salt, set_rollout.percent, step_at,
    segmentation.given_actor(set_rollout.actor), set_rollout.reason, moment
  -- To set the percentage that holds now changes nothing. A planned step is kept even if it repeats the step
  -- before it: an earlier step may still be set or cancelled.
  where step_at > moment or set_rollout.percent is distinct from (
    select coalesce(min(held.percent), 0)
    from segmentation.rollouts as held
    where held.segment_id = segment.segment_id and segmentation.in_force(held.starts_at, held.ends_at, moment)
  )
  on conflict on constraint rollouts_pkey do update
    set
      percent = excluded.percent, actor = excluded.actor, reason = excluded.reason,
      decided_at = excluded.decided_at;
  return query select * from segmentation.rollout_steps(set_rollout.slug);
end
$$;

comment on function segmentation.set_rollout(text, numeric, timestamptz, text, text) is
  'Roll a segment out to percent % of all users, from starts_at (now) on; later steps stay. Returns all steps. Example: select * from set_rollout(''AVITO_VOICE_MESSAGES'', 30, reason => ''went well at 10 %'');';

create or replace function segmentation.cancel_rollout_step (
  slug      text,
  starts_at timestamptz,
  actor     text default session_user,
  reason    text default null
)
  returns setof segmentation.rollout_step
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  segment segmentation.segments := segmentation.lock_segment(cancel_rollout_step.slug);
  moment timestamptz := segmentation.segment_stamp(segment.segment_id);
begin
  if cancel_rollout_step.starts_at <= moment then
    raise exception 'the rollout step of % has begun', cancel_rollout_step.starts_at
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('starts_at', cancel_rollout_step.starts_at, 'now', moment),
        hint = 'Only a step to come can be cancelled. To change the present, call set_rollout with another percent.';
  end if;
  perform segmentation.set_actor(cancel_rollout_step.actor, cancel_rollout_step.reason);
  delete from segmentation.rollouts as r
  where r.segment_id = segment.segment_id and r.starts_at = cancel_rollout_step.starts_at;
  if not found then
    raise exception 'segment "%" has no rollout step that starts at %',
      segment.slug, coalesce(cancel_rollout_step.starts_at::text, 'null')
      using
        errcode = 'no_data_found',
        detail = json_build_object('segment', segment.slug, 'starts_at', cancel_rollout_step.starts_at),
        hint = 'List the steps: select * from rollout_steps(slug); or GET /v1/segments/{slug}.';
  end if;
  perform segmentation.unset_actor();
  return query select * from segmentation.rollout_steps(cancel_rollout_step.slug);
end
$$;

comment on function segmentation.cancel_rollout_step(text, timestamptz, text, text) is
  'Cancel a rollout step to come. Returns all steps. Example: select * from cancel_rollout_step(''AVITO_VOICE_MESSAGES'', ''2027-01-01 00:00Z'');';

create or replace function segmentation.rollout_steps (
  slug text
)
  returns setof segmentation.rollout_step
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  found_id integer := segmentation.segment_id_of(rollout_steps.slug);
begin
  return query
  select trim_scale(r.percent), r.starts_at, r.ends_at, r.actor, r.reason
  from segmentation.rollouts as r
  where r.segment_id = found_id
  order by r.starts_at;
end
$$;

comment on function segmentation.rollout_steps(text) is
  'All rollout steps of a living segment, past, present and to come. Example: select * from rollout_steps(''AVITO_VOICE_MESSAGES'');';
