-- The OpenFeature Remote Evaluation Protocol (OFREP 0.3): a segment is a boolean flag, a layer a string flag.
--
-- A layer's value and variant are the segment of it that the user is in, or "off": an experiment with any number of
-- variants is one flag.
--
-- Whether a user is in is asked of current_segments, as in the hot read. Beside the value stand the reason
-- (STATIC: everyone is in; TARGETING_MATCH: by hand, in or out; SPLIT: by percentage, in or out) and
-- metadata: the source as in explain_membership, and from when until when the assignment, the exclusion, the
-- assignment elsewhere or the rollout step behind the answer is in force. The protocol knows no null: what is not
-- known is absent.

-- The parts that every evaluation has. Inlined.
create or replace function segmentation.ofrep_evaluation (
  slug    text,
  value   json,
  variant text,
  percent numeric,
  source  text,
  by_hand boolean,
  since   timestamptz,
  until   timestamptz
)
  returns json
  language sql
  stable
as $$
  select pg_catalog.json_strip_nulls(pg_catalog.json_build_object(
    'key', ofrep_evaluation.slug,
    'value', ofrep_evaluation.value,
    'variant', ofrep_evaluation.variant,
    'reason', case
      when ofrep_evaluation.by_hand then 'TARGETING_MATCH'
      when ofrep_evaluation.percent = 100 then 'STATIC'
      else 'SPLIT'
    end,
    'metadata', pg_catalog.json_build_object(
      'source', ofrep_evaluation.source,
      'since', segmentation.rfc3339(ofrep_evaluation.since),
      'until', segmentation.rfc3339(ofrep_evaluation.until))))
$$;

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
  with segment_flags as materialized (
    select
      s.slug, s.layer_id, s.slug = any (member_of) as member, r.percent,
      -- Here, or elsewhere in the layer.
      num_nonnulls(m.user_id, e.user_id) > 0 as by_hand,
      segmentation.source(m.included, not m.included, s.slug = any (member_of), e.user_id is not null) as source,
      coalesce(m.starts_at, e.starts_at, r.starts_at) as since,
      case
        when m.user_id is not null then m.ends_at
        when e.user_id is not null then e.ends_at
        else r.ends_at
      end as until
    from segmentation.segments as s
    left join segmentation.memberships as m
      on m.user_id = ofrep_evaluations.user_id and m.segment_id = s.segment_id
      and segmentation.in_force(m.starts_at, m.ends_at, moment, m.decided_at)
    left join lateral (
      select e.user_id, e.starts_at, e.ends_at
      from segmentation.memberships as e
      join segmentation.segments as other on other.segment_id = e.segment_id and other.deleted_at = 'infinity'
      where e.user_id = ofrep_evaluations.user_id and e.layer_id = s.layer_id and e.included
        and e.segment_id <> s.segment_id
        and segmentation.in_force(e.starts_at, e.ends_at, moment, e.decided_at)
    ) as e on true
    left join segmentation.rollouts as r
      on r.segment_id = s.segment_id and segmentation.in_force(r.starts_at, r.ends_at, moment, r.decided_at)
    where s.deleted_at = 'infinity'
      and (
        s.slug = any (ofrep_evaluations.slugs)
        or s.layer_id in (
          select l.layer_id
          from segmentation.layers as l
          where l.deleted_at = 'infinity' and l.slug = any (ofrep_evaluations.slugs)
        )
      )
  )
  select
    f.slug,
    segmentation.ofrep_evaluation(
      f.slug, to_json(f.member), case when f.member then 'in' else 'out' end,
      f.percent, f.source, f.by_hand, f.since, f.until)
  from segment_flags as f
  where f.slug = any (ofrep_evaluations.slugs)
  union all
  select
    l.slug,
    segmentation.ofrep_evaluation(
      l.slug, to_json(coalesce(f.slug, 'off')), coalesce(f.slug, 'off'),
      f.percent, coalesce(f.source, 'none'), f.by_hand, f.since, f.until)
  from segmentation.layers as l
  left join segment_flags as f on f.layer_id = l.layer_id and f.member
  where l.deleted_at = 'infinity' and l.slug = any (ofrep_evaluations.slugs);
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
  if not exists (
    select from segmentation.layers as l
    where l.slug = ofrep_flag.slug collate "C" and l.deleted_at = 'infinity'
  ) then
    -- Raises where there is none.
    perform segmentation.segment_id_of(ofrep_flag.slug);
  end if;
  return (
    select e.evaluation
    from segmentation.ofrep_evaluations(ofrep_flag.user_id, array[ofrep_flag.slug]) as e
  );
end
$$;

comment on function segmentation.ofrep_flag(bigint, text) is
  'For the service: POST /ofrep/v1/evaluate/flags/{key}: whether a user is in a segment right now, or in which segment of a layer, as OFREP says it. Example: select ofrep_flag(1000, ''AVITO_VOICE_MESSAGES'');';

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
    array(
      select s.slug from segmentation.segments as s where s.deleted_at = 'infinity'
      union all
      select l.slug from segmentation.layers as l where l.deleted_at = 'infinity'
    ));
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
            'errorDetails', 'no segment or layer has the slug "' || a.slug || '"'))
        order by a.slug),
      '[]'))
    from (select distinct given.slug collate "C" from unnest(asked) as given (slug)) as a (slug)
    left join segmentation.ofrep_evaluations(ofrep_flags.user_id, asked) as e on e.slug = a.slug
  );
end
$$;

comment on function segmentation.ofrep_flags(bigint, text[]) is
  'For the service: POST /ofrep/v1/evaluate/flags: every segment as a boolean flag of a user right now and every layer as a string flag, or those named, by slug. Example: select ofrep_flags(1000); select ofrep_flags(1000, array[''AVITO_VOICE_MESSAGES'']);';
