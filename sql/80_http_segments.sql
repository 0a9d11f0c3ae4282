-- What the HTTP layer calls for segments, their rollouts and counts, and for layers: /v1/segments and /v1/layers.
--
-- How an answer looks: sql/80_http.sql.

create or replace function segmentation.http_get_segment (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select row_to_json(answer)
  from (
    select
      s.slug, s.description, s.percent, segmentation.rfc3339(s.created_at) as created_at,
      -- As text: JavaScript would round it.
      s.salt::text as salt,
      s.layer,
      segmentation.rollout_json(s.slug) as rollout
    from segmentation.get_segment(http_get_segment.slug) as s
  ) as answer
$$;

comment on function segmentation.http_get_segment(text) is
  'For the service: GET /v1/segments/{slug}.';

create or replace function segmentation.http_list_segments (
  after    text default null,
  max_rows integer default 100,
  search   text default null
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_at_most('limit', http_list_segments.max_rows, 1000);
  return (
    select row_to_json(answer)
    from (
      select
        coalesce(array_to_json(array_agg(segment order by segment.slug collate "C")), '[]') as segments,
        -- A full page may have a next one.
        case when count(*) = http_list_segments.max_rows then max(segment.slug collate "C") end as next_after
      from (
        select s.slug, s.description, s.percent, segmentation.rfc3339(s.created_at) as created_at, s.layer
        from segmentation.list_segments(
          http_list_segments.after, http_list_segments.max_rows, http_list_segments.search) as s
      ) as segment
    ) as answer
  );
end
$$;

comment on function segmentation.http_list_segments(text, integer, text) is
  'For the service: GET /v1/segments.';

create or replace function segmentation.http_create_segment (
  slug        text,
  percent     numeric,
  description text,
  actor       text,
  reason      text,
  layer       text default null
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.create_segment(
    http_create_segment.slug, http_create_segment.percent, http_create_segment.description,
    http_create_segment.actor, http_create_segment.reason, http_create_segment.layer);
  return segmentation.http_get_segment(http_create_segment.slug);
end
$$;

comment on function segmentation.http_create_segment(text, numeric, text, text, text, text) is
  'For the service: POST /v1/segments.';

create or replace function segmentation.http_update_segment (
  slug        text,
  description text,
  actor       text,
  reason      text
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.update_segment(
    http_update_segment.slug, http_update_segment.description,
    http_update_segment.actor, http_update_segment.reason);
  return segmentation.http_get_segment(http_update_segment.slug);
end
$$;

comment on function segmentation.http_update_segment(text, text, text, text) is
  'For the service: PATCH /v1/segments/{slug}.';

create or replace function segmentation.http_set_rollout (
  slug      text,
  percent   numeric,
  starts_at timestamptz,
  actor     text,
  reason    text
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.set_rollout(
    http_set_rollout.slug, http_set_rollout.percent, http_set_rollout.starts_at,
    http_set_rollout.actor, http_set_rollout.reason);
  return (
    select row_to_json(answer)
    from (
      select http_set_rollout.slug as segment, segmentation.rollout_json(http_set_rollout.slug) as rollout
    ) as answer
  );
end
$$;

comment on function segmentation.http_set_rollout(text, numeric, timestamptz, text, text) is
  'For the service: PUT /v1/segments/{slug}/rollout.';

create or replace function segmentation.http_cancel_rollout_step (
  slug      text,
  starts_at timestamptz,
  actor     text,
  reason    text
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.cancel_rollout_step(
    http_cancel_rollout_step.slug, http_cancel_rollout_step.starts_at,
    http_cancel_rollout_step.actor, http_cancel_rollout_step.reason);
  return (
    select row_to_json(answer)
    from (
      select
        http_cancel_rollout_step.slug as segment,
        segmentation.rollout_json(http_cancel_rollout_step.slug) as rollout
    ) as answer
  );
end
$$;

comment on function segmentation.http_cancel_rollout_step(text, timestamptz, text, text) is
  'For the service: DELETE /v1/segments/{slug}/rollout.';

create or replace function segmentation.http_segment_history (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select row_to_json(answer)
  from (
    select
      http_segment_history.slug as segment,
      coalesce(array_to_json(array_agg(change order by h.position)), '[]') as changes
    from segmentation.segment_history(http_segment_history.slug)
      with ordinality as h (at, operation, description, percent, starts_at, actor, reason, position)
    cross join lateral (
      select
        segmentation.rfc3339(h.at) as at, h.operation, h.description, h.percent,
        segmentation.rfc3339(h.starts_at) as starts_at, h.actor, h.reason
    ) as change
  ) as answer
$$;

comment on function segmentation.http_segment_history(text) is
  'For the service: GET /v1/segments/{slug}/history.';

create or replace function segmentation.http_segment_stats (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select row_to_json(answer)
  from (
    select http_segment_stats.slug as segment, s.*
    from segmentation.segment_stats(http_segment_stats.slug) as s
  ) as answer
$$;

comment on function segmentation.http_segment_stats(text) is
  'For the service: GET /v1/segments/{slug}/stats.';

create or replace function segmentation.http_segment_growth (
  slug      text,
  from_time timestamptz,
  to_time   timestamptz,
  step      text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select row_to_json(answer)
  from (
    select
      http_segment_growth.slug as segment,
      array_to_json(array_agg(growth order by growth.at)) as growth
    from (
      select
        segmentation.rfc3339(g.at) as at, g.users, g.members, g.assigned, g.excluded, g.rolled_out,
        g.planned_percent, g.actual_percent
      from segmentation.segment_growth(
        http_segment_growth.slug, http_segment_growth.from_time, http_segment_growth.to_time,
        segmentation.http_duration('step', http_segment_growth.step)) as g
    ) as growth
  ) as answer
$$;

comment on function segmentation.http_segment_growth(text, timestamptz, timestamptz, text) is
  'For the service: GET /v1/segments/{slug}/growth.';

create or replace function segmentation.layer_json (
  layer segmentation.listed_layers
)
  returns json
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select row_to_json(answer)
  from (
    select
      (layer_json.layer).slug, (layer_json.layer).description,
      (layer_json.layer).allocated_percent, (layer_json.layer).free_percent,
      segmentation.rfc3339((layer_json.layer).created_at) as created_at,
      -- As text: JavaScript would round it.
      (layer_json.layer).salt::text as salt,
      coalesce((
        select array_to_json(array_agg(held order by held.slug collate "C"))
        from (
          select s.slug, s.percent from segmentation.layer_segments((layer_json.layer).slug) as s
        ) as held
      ), '[]') as segments
  ) as answer
$$;

comment on function segmentation.layer_json(segmentation.listed_layers) is
  'For the service: a layer with its segments.';

create or replace function segmentation.http_get_layer (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$ select segmentation.layer_json(l) from segmentation.get_layer(http_get_layer.slug) as l $$;

comment on function segmentation.http_get_layer(text) is
  'For the service: GET /v1/layers/{slug}.';

create or replace function segmentation.http_list_layers () returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select row_to_json(answer)
  from (
    select coalesce(array_to_json(array_agg(segmentation.layer_json(l) order by l.slug collate "C")), '[]') as layers
    from segmentation.list_layers() as l
  ) as answer
$$;

comment on function segmentation.http_list_layers() is
  'For the service: GET /v1/layers.';

create or replace function segmentation.http_create_layer (
  slug        text,
  description text,
  actor       text,
  reason      text
)
  returns json
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.create_layer(
    http_create_layer.slug, http_create_layer.description, http_create_layer.actor, http_create_layer.reason);
  return segmentation.http_get_layer(http_create_layer.slug);
end
$$;

comment on function segmentation.http_create_layer(text, text, text, text) is
  'For the service: POST /v1/layers.';

create or replace function segmentation.http_layer_stats (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$
  select row_to_json(answer)
  from (
    select
      http_layer_stats.slug as layer,
      coalesce(
        array_to_json(array_agg(t order by t.segment collate "C") filter (where t.segment is not null)), '[]'
      ) as segments,
      array_to_json(array_agg(row_to_json(t)::jsonb - 'segment') filter (where t.segment is null)) -> 0 as whole
    from segmentation.layer_stats(http_layer_stats.slug) as t
  ) as answer
$$;

comment on function segmentation.http_layer_stats(text) is
  'For the service: GET /v1/layers/{slug}/stats.';

-- What version 1 of the service calls while a deploy rolls on.

create or replace function segmentation.http_segment (
  slug text
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$ select segmentation.http_get_segment(http_segment.slug) $$;

comment on function segmentation.http_segment(text) is
  'For the service: GET /v1/segments/{slug} of version 1.';

create or replace function segmentation.http_segments (
  after    text default null,
  max_rows integer default 100
)
  returns json
  language sql
  set search_path = pg_catalog, pg_temp
as $$ select segmentation.http_list_segments(http_segments.after, http_segments.max_rows) $$;

comment on function segmentation.http_segments(text, integer) is
  'For the service: GET /v1/segments of version 1.';
