-- The OpenFeature Remote Evaluation Protocol (OFREP 0.3): a segment is a boolean flag.
--
-- Whether a user is in is asked of current_segments, as in the hot read. Beside the value stand the reason
-- (STATIC: everyone is in; TARGETING_MATCH: by hand, in or out; SPLIT: by percentage, in or out) and
-- metadata: the source as in explain_membership, and from when until when the assignment, the exclusion or
-- the rollout step behind the answer is in force. The protocol knows no null: what is not known is absent.

create or replace function segmentation.ofrep_evaluations (
  user_id bigint,
  slugs   text[]
)
  returns table (slug text, evaluation json)
  language plpgsql
  set search_path = pg_catalog, pg_temp
  -- A list's length differs from call to call; the plan does not.
  set plan_cache_mode = force_generic_plan
as $$
declare
  moment timestamptz := segmentation.clock();
  member_of text[];
  is_known boolean;
begin
  select c.segments, c.known into member_of, is_known
  from segmentation.current_segments(array[ofrep_evaluations.user_id], moment) as c;
  if not is_known then
    perform segmentation.register_unknown_users(array[ofrep_evaluations.user_id]);
  end if;
  return query
  select
    s.slug,
    json_strip_nulls(json_build_object(
      'key', s.slug,
      'value', v.member,
      'variant', case when v.member then 'in' else 'out' end,
      'reason', case
        when m.included is not null then 'TARGETING_MATCH'
        when r.percent = 100 then 'STATIC'
        else 'SPLIT'
      end,
      'metadata', json_build_object(
        'source', segmentation.source(m.included, not m.included, v.member),
        'since', segmentation.rfc3339(coalesce(m.starts_at, r.starts_at)),
        'until', segmentation.rfc3339(case when m.included is null then r.ends_at else m.ends_at end))))
  from segmentation.segments as s
  cross join lateral (select s.slug = any (member_of)) as v (member)
  left join segmentation.memberships as m
    on m.user_id = ofrep_evaluations.user_id and m.segment_id = s.segment_id
    and segmentation.in_force(m.starts_at, m.ends_at, moment, m.decided_at)
  left join segmentation.rollouts as r
    on r.segment_id = s.segment_id and segmentation.in_force(r.starts_at, r.ends_at, moment, r.decided_at)
  where s.deleted_at = 'infinity' and s.slug = any (ofrep_evaluations.slugs);
end
$$;

create or replace function segmentation.ofrep_flag (
  user_id bigint,
  slug    text
)
  returns json
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Raises where there is none.
  perform segmentation.segment_id_of(ofrep_flag.slug);
  return (
    select e.evaluation
    from segmentation.ofrep_evaluations(ofrep_flag.user_id, array[ofrep_flag.slug]) as e
  );
end
$$;

comment on function segmentation.ofrep_flag(bigint, text) is
  'For the service: POST /ofrep/v1/evaluate/flags/{key}: whether a user is in a segment right now, as OFREP says it. Example: select ofrep_flag(1000, ''AVITO_VOICE_MESSAGES'');';

create or replace function segmentation.ofrep_flags (
  user_id bigint,
  slugs   text[] default null
)
  returns json
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  asked text[] := coalesce(
    ofrep_flags.slugs,
    array(select s.slug from segmentation.segments as s where s.deleted_at = 'infinity'));
begin
  if cardinality(ofrep_flags.slugs) > 0 then
    perform segmentation.require_at_most('flags', cardinality(ofrep_flags.slugs), 1000);
  end if;
  return (
    select json_build_object('flags', coalesce(
      json_agg(
        coalesce(
          e.evaluation,
          json_build_object(
            'key', a.slug, 'errorCode', 'FLAG_NOT_FOUND',
            'errorDetails', 'segment "' || a.slug || '" does not exist'))
        order by a.slug),
      '[]'))
    from (select distinct given.slug collate "C" from unnest(asked) as given (slug)) as a (slug)
    left join segmentation.ofrep_evaluations(ofrep_flags.user_id, asked) as e on e.slug = a.slug
  );
end
$$;

comment on function segmentation.ofrep_flags(bigint, text[]) is
  'For the service: POST /ofrep/v1/evaluate/flags: every segment, or those named, as a boolean flag of a user right now, by slug. Example: select ofrep_flags(1000); select ofrep_flags(1000, array[''AVITO_VOICE_MESSAGES'']);';
