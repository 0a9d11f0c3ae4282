-- Layers: segments that exclude each other.
--
-- A user has one bucket in a layer, since its segments share the layer's salt. Each rollout step of such a segment
-- holds a part of the layer's buckets (rollouts.buckets), and an exclusion constraint says that no two hold the same
-- bucket at the same moment, planned steps included. Raising a rollout keeps what it holds and takes free buckets at
-- random; lowering gives back what was taken last; deleting gives back all. The choice is written down with the step,
-- so that it can be replayed. Nobody deals buckets by hand: the triggers on rollouts do (sql/52_rollout_triggers.sql).
--
-- Whoever changes a rollout in a layer holds the segment's row, then the layer's row, both FOR NO KEY UPDATE.

create or replace view segmentation.listed_layers as
select
  l.slug, l.description,
  coalesce(s.segments, '{}') as segments,
  trim_scale(coalesce(s.percent, 0)) as allocated_percent,
  trim_scale(100 - coalesce(s.percent, 0)) as free_percent,
  l.created_at, l.salt
from segmentation.layers as l
left join (
  select s.layer_id, array_agg(s.slug order by s.slug) as segments, sum(r.percent) as percent
  from segmentation.segments as s
  cross join (select segmentation.clock() as moment) as now
  left join segmentation.rollouts as r
    on r.segment_id = s.segment_id and segmentation.in_force(r.starts_at, r.ends_at, now.moment, r.decided_at)
  where s.layer_id is not null and s.deleted_at = 'infinity'
  group by s.layer_id
) as s on s.layer_id = l.layer_id
where l.deleted_at = 'infinity';

-- The living layer that a caller names alone.
create or replace function segmentation.layer_id_of (
  slug text
)
  returns integer
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  found_id integer;
begin
  select l.layer_id into found_id
  from segmentation.layers as l
  where l.slug = layer_id_of.slug collate "C" and l.deleted_at = 'infinity';
  if not found then
    raise exception 'layer % does not exist', coalesce('"' || slug || '"', 'null')
      using
        errcode = 'no_data_found',
        detail = json_build_object('layer', slug),
        hint = 'List the layers: select * from list_layers(); GET /v1/layers; python -m service layers list.';
  end if;
  return found_id;
end
$$;

create or replace function segmentation.create_layer (
  slug        text,
  description text default '',
  actor       text default session_user,
  reason      text default null
)
  returns setof segmentation.listed_layers
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  moment timestamptz;
begin
  perform segmentation.limit_waiting();
  perform segmentation.require_slug(create_layer.slug);
  perform segmentation.require_description(create_layer.description);
  perform segmentation.require_actor(create_layer.actor, create_layer.reason);
  -- A deletion of the same slug that is under way is waited for before the clock is read.
  perform
  from segmentation.layers as l
  where l.slug = create_layer.slug collate "C" and l.deleted_at = 'infinity'
  for no key update;
  select segmentation.stamp(max(l.deleted_at)) into moment
  from segmentation.layers as l
  where l.slug = create_layer.slug collate "C" and l.deleted_at < 'infinity';
  insert into segmentation.layers as l (slug, description, created_at, actor, reason)
  values (
    create_layer.slug, coalesce(create_layer.description, ''), moment,
    segmentation.given_actor(create_layer.actor), create_layer.reason)
  on conflict (slug) where deleted_at = 'infinity' do nothing;
  if not found then
    raise exception 'layer "%" exists already', create_layer.slug
      using
        errcode = 'unique_violation',
        detail = json_build_object('layer', create_layer.slug),
        hint = 'Choose another slug, or delete the layer first.';
  end if;
  return query select * from segmentation.get_layer(create_layer.slug);
end
$$;

comment on function segmentation.create_layer(text, text, text, text) is
  'Create a layer, whose segments exclude each other: a user is in at most one of them. Example: select * from create_layer(''AVITO_DISCOUNTS'', ''one discount per user''); select * from create_segment(''AVITO_DISCOUNT_30'', 30, layer => ''AVITO_DISCOUNTS'');';

create or replace function segmentation.get_layer (
  slug text
)
  returns setof segmentation.listed_layers
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select l.* from segmentation.listed_layers as l where l.slug = get_layer.slug collate "C";
  if not found then
    perform segmentation.layer_id_of(get_layer.slug);
  end if;
end
$$;

comment on function segmentation.get_layer(text) is
  'One layer: its segments, and how many percent of all users they hold now. Example: select * from get_layer(''AVITO_DISCOUNTS'');';

create or replace function segmentation.list_layers ()
  returns setof segmentation.listed_layers
  language sql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$ select * from segmentation.listed_layers as l order by l.slug $$;

comment on function segmentation.list_layers() is
  'All layers with their segments, and how many percent of all users these hold now. Example: select * from list_layers();';

create or replace function segmentation.layer_segments (
  slug text
)
  returns setof segmentation.listed_segments
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.layer_id_of(layer_segments.slug);
  return query
  select s.*
  from segmentation.listed_segments as s
  where s.layer = layer_segments.slug collate "C"
  order by s.slug;
end
$$;

comment on function segmentation.layer_segments(text) is
  'The segments of a layer by slug, with the percentage that each holds now. Example: select slug, percent from layer_segments(''AVITO_DISCOUNTS'');';

create or replace function segmentation.delete_layer (
  slug   text,
  actor  text default session_user,
  reason text default null
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  found_id integer;
begin
  perform segmentation.limit_waiting();
  perform segmentation.require_actor(delete_layer.actor, delete_layer.reason);
  -- Waits for a segment that is being created in it.
  select l.layer_id into found_id
  from segmentation.layers as l
  where l.slug = delete_layer.slug collate "C" and l.deleted_at = 'infinity'
  for update;
  if not found then
    perform segmentation.layer_id_of(delete_layer.slug);
  end if;
  update segmentation.layers as l
  set
    deleted_at = segmentation.stamp(segmentation.last_change_in_layer(found_id)),
    end_actor = segmentation.given_actor(delete_layer.actor),
    end_reason = delete_layer.reason
  where l.layer_id = found_id;
end
$$;

comment on function segmentation.delete_layer(text, text, text) is
  'Delete a layer that has no segments any more; the past of its segments stays. Example: select delete_layer(''AVITO_DISCOUNTS'', reason => ''no more discounts'');';

-- Buckets -------------------------------------------------------------------------------------------

-- PL/pgSQL keeps the plan; this is asked often in each deal.
create or replace function segmentation.bucket_count (
  buckets int4multirange
)
  returns integer
  language plpgsql
  immutable
  parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select coalesce(sum(upper(run) - lower(run)), 0) from unnest(bucket_count.buckets) as run);
end
$$;

-- So many of these buckets, or all if there are fewer: cells of 100 (0.1 %) at random; the last one may be cut. The
-- rest of a cell that the segment holds in part goes first, and what is left of other divided cells last, so that few
-- cells are divided and a segment's buckets stay in few pieces.
create or replace function segmentation.random_buckets (
  buckets int4multirange,
  number  integer,
  held    int4multirange
)
  returns int4multirange
  language plpgsql
  volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select coalesce(
      range_agg(int4range(p.first, p.first + least(p.size, random_buckets.number - p.taken_before)::integer))
        filter (where p.taken_before < random_buckets.number),
      '{}')
    from (
      select
        c.first, c.size,
        coalesce(
          sum(c.size) over (order by c.rank, c.place rows between unbounded preceding and 1 preceding), 0)
          as taken_before
      from (
        select
          greatest(lower(run), cell * 100) as first,
          least(upper(run), cell * 100 + 100) - greatest(lower(run), cell * 100) as size,
          case
            when int4range(cell * 100, cell * 100 + 100) <@ run then 2
            when int4range(cell * 100, cell * 100 + 100) && random_buckets.held then 1
            else 3
          end as rank,
          random() as place
        from unnest(random_buckets.buckets) as run
        cross join lateral generate_series(lower(run) / 100, (upper(run) - 1) / 100) as cell
      ) as c
    ) as p
  );
end
$$;

-- Of the buckets that a segment holds when a step begins, so many to give back: those taken last first, at random among
-- those taken by the same step. Walking back through the segment's steps, what an earlier step did not hold was taken
-- after it.
create or replace function segmentation.buckets_taken_last (
  segment_id integer,
  before     timestamptz,
  held       int4multirange,
  number     integer
)
  returns int4multirange
  language plpgsql
  volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  rest int4multirange := buckets_taken_last.held;
  given_back int4multirange := '{}'::int4multirange;
  missing integer := buckets_taken_last.number;
  newest int4multirange := rest;
  earlier record;
begin
  for earlier in
    select r.buckets
    from segmentation.rollouts as r
    where r.segment_id = buckets_taken_last.segment_id and r.starts_at < buckets_taken_last.before
    order by r.starts_at desc
  loop
    newest := rest - earlier.buckets;
    exit when segmentation.bucket_count(newest) >= missing;
    given_back := given_back + newest;
    missing := missing - segmentation.bucket_count(newest);
    rest := rest * earlier.buckets;
    newest := rest;
  end loop;
  return given_back + segmentation.random_buckets(newest, missing, held => rest);
end
$$;

-- The error of a rollout that asks for more than is free. All steps of a layer are added up, from a moment on: where
-- the sum is above 100 %, a step of these segments asks for too much. Says who holds the rest.
create or replace function segmentation.refuse_full_layer (
  layer_ids   integer[],
  segment_ids integer[],
  since       timestamptz
)
  returns void
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  asked record;
begin
  with steps as (
    select r.*
    from segmentation.rollouts as r
    where r.layer_id = any (refuse_full_layer.layer_ids) and r.ends_at > refuse_full_layer.since
  ),
  sums as (
    select c.layer_id, c.at, sum(c.change) over (partition by c.layer_id order by c.at) as threshold
    from (
      select s.layer_id, s.starts_at as at, s.threshold as change from steps as s
      union all
      select s.layer_id, s.ends_at, -s.threshold from steps as s
    ) as c
  )
  select
    s.segment_id, s.layer_id, s.starts_at, s.ends_at, trim_scale(s.percent) as percent,
    trim_scale((100000 - max(m.threshold) + s.threshold) / 1000.0) as free
  into asked
  from steps as s
  join sums as m on m.layer_id = s.layer_id and m.at >= s.starts_at and m.at < s.ends_at and m.threshold > 100000
  where s.segment_id = any (refuse_full_layer.segment_ids)
  group by s.segment_id, s.layer_id, s.starts_at, s.ends_at, s.percent, s.threshold
  order by s.starts_at, s.segment_id
  limit 1;
  if not found then
    return;
  end if;
  raise exception 'segment "%" asks for % %% of layer "%" from % on, where % %% are free for it',
    (select s.slug from segmentation.segments as s where s.segment_id = asked.segment_id),
    asked.percent,
    (select l.slug from segmentation.layers as l where l.layer_id = asked.layer_id),
    segmentation.rfc3339(asked.starts_at),
    asked.free
    using
      errcode = 'object_not_in_prerequisite_state',
      detail = (
        select json_build_object(
          'code', 'layer_full',
          'layer', (select l.slug from segmentation.layers as l where l.layer_id = asked.layer_id),
          'free_percent', asked.free,
          'asked_percent', asked.percent,
          'held', coalesce(json_agg(h order by h.segment, h.starts_at), '[]'))
        from (
          select
            s.slug as segment, trim_scale(r.percent) as percent,
            segmentation.rfc3339(r.starts_at) as starts_at, segmentation.rfc3339(r.ends_at) as ends_at
          from segmentation.rollouts as r
          join segmentation.segments as s on s.segment_id = r.segment_id
          where r.layer_id = asked.layer_id and r.segment_id <> asked.segment_id and r.percent > 0
            and r.starts_at < asked.ends_at and r.ends_at > asked.starts_at
        ) as h
      ),
      hint = 'Ask for less; or lower, cancel or delete what the other segments hold: select * from get_layer(slug), or GET /v1/layers/{slug}.';
end
$$;

-- Deals buckets to the steps of these segments, in order of time. At each moment first everybody keeps what it holds
-- and gives back what is too much; then takes what is missing. A step that has begun keeps what it holds. A step to
-- come keeps what it was dealt while that follows from the step before it and nobody else holds any of it. False: it
-- does not fit.
create or replace function segmentation.deal_steps (
  segment_ids integer[],
  moment      timestamptz
)
  returns boolean
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  turn record;
  step segmentation.rollouts;
  free int4multirange;
  lasting int4multirange;
  held int4multirange;
  dealt int4multirange;
  preferred int4multirange;
  missing integer;
begin
  for turn in
    select r.segment_id, r.starts_at, t.takes
    from segmentation.rollouts as r
    cross join (values (false), (true)) as t (takes)
    where r.segment_id = any (deal_steps.segment_ids) and r.layer_id is not null
      and (r.buckets is null or r.ends_at > deal_steps.moment)
    order by r.starts_at, t.takes, r.segment_id
  loop
    select r.* into step
    from segmentation.rollouts as r
    where r.segment_id = turn.segment_id and r.starts_at = turn.starts_at;
    dealt := step.buckets;
    -- What a step that has begun holds is settled.
    continue when not turn.takes and dealt is not null and segmentation.bucket_count(dealt) = step.threshold
      and step.starts_at <= greatest(deal_steps.moment, step.decided_at);
    if turn.takes or dealt is not null then
      select
        '{[0,100000)}'::int4multirange
          - coalesce(range_agg(o.buckets) filter (where o.starts_at < step.ends_at), '{}'),
        '{[0,100000)}'::int4multirange - coalesce(range_agg(o.buckets), '{}')
      into free, lasting
      from segmentation.rollouts as o
      where o.layer_id = step.layer_id and o.segment_id <> step.segment_id and o.ends_at > step.starts_at;
    end if;
    if not turn.takes then
      held := coalesce((
        select r.buckets
        from segmentation.rollouts as r
        where r.segment_id = step.segment_id and r.starts_at < step.starts_at
        order by r.starts_at desc
        limit 1
      ), '{}');
      if dealt is null
        or segmentation.bucket_count(dealt) <> step.threshold
        or not (dealt <@ free and (held <@ dealt or dealt <@ held))
      then
        dealt := held - segmentation.buckets_taken_last(
          step.segment_id, step.starts_at, held, segmentation.bucket_count(held) - step.threshold);
      end if;
    else
      -- Rather what is planned for this segment anyway, then what is planned for nobody, then the rest.
      foreach preferred in array array[
        coalesce((
          select r.buckets
          from segmentation.rollouts as r
          where r.segment_id = step.segment_id and r.starts_at = step.ends_at
        ), '{}'),
        lasting,
        free
      ] loop
        missing := step.threshold - segmentation.bucket_count(dealt);
        exit when missing <= 0;
        dealt := dealt + segmentation.random_buckets(free * preferred - dealt, missing, held => dealt);
      end loop;
      if not (dealt <@ free and segmentation.bucket_count(dealt) = step.threshold) then
        return false;
      end if;
    end if;
    if dealt is distinct from step.buckets then
      update segmentation.rollouts as r
      set buckets = dealt
      where r.segment_id = step.segment_id and r.starts_at = step.starts_at;
    end if;
  end loop;
  return true;
end
$$;

-- Deals buckets to the steps of these segments, whose ends are derived; called by the triggers. Where the sum of a
-- layer is at no moment above 100 %, it always can: steps to come, of all its segments, are dealt anew if need be.
create or replace function segmentation.deal_buckets (
  segment_ids integer[]
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  layer_ids integer[];
  moment timestamptz;
  since timestamptz;
begin
  select array_agg(distinct s.layer_id) into layer_ids
  from segmentation.segments as s
  where s.segment_id = any (deal_buckets.segment_ids) and s.layer_id is not null;
  if layer_ids is null then
    return;
  end if;
  perform from segmentation.layers as l where l.layer_id = any (layer_ids) order by l.layer_id for no key update;
  moment := segmentation.clock();
  -- Others build on what has begun or ended as it was planned: it is done, even if the clock goes back behind it.
  update segmentation.rollouts as r
  set decided_at = case when r.ends_at <= moment then r.ends_at else r.starts_at end
  where r.layer_id = any (layer_ids) and r.starts_at <= moment
    and r.decided_at < case when r.ends_at <= moment then r.ends_at else r.starts_at end;
  select least(moment, min(r.starts_at)) into since
  from segmentation.rollouts as r
  where r.segment_id = any (deal_buckets.segment_ids) and r.layer_id is not null and r.buckets is null;
  perform segmentation.refuse_full_layer(layer_ids, deal_buckets.segment_ids, since);
  if not segmentation.deal_steps(deal_buckets.segment_ids, moment) then
    update segmentation.rollouts as r
    set buckets = null
    where r.layer_id = any (layer_ids) and r.starts_at > greatest(moment, r.decided_at);
    if not segmentation.deal_steps(
      array(select s.segment_id from segmentation.segments as s where s.layer_id = any (layer_ids)), moment)
    then
      raise exception 'a rollout step begins before what it needs was given back'
        using
          errcode = 'object_not_in_prerequisite_state',
          hint = 'Leave starts_at out to start now, or give a moment to come.';
    end if;
  end if;
  perform segmentation.derive_layer_cells(layer_id) from unnest(layer_ids) as layer_id;
end
$$;

-- So many stretches of a layer are written ahead at most: each is a row that every hot read looks at.
create or replace function segmentation.most_stretches () returns integer
  language sql
  immutable
  parallel safe
as $$ select 16 $$;

-- Cells of which the steps must be asked, all of them.
create or replace function segmentation.cells_to_ask () returns bytea
  language sql
  immutable
  parallel safe
as $$ select decode(repeat('ff', 1000), 'hex') $$;

-- Writes anew who holds each cell of a layer, for the hot read: a row per stretch between two moments at which a step
-- begins or ends. A step that was set and not planned holds at any moment of the clock (rule 2 in sql/10_clock.sql).
-- Where the clock goes back behind the present stretch, or comes to one that is too far ahead, the steps must be asked;
-- and for a cell that is divided, or held by a segment beyond the 254th of the layer.
create or replace function segmentation.derive_layer_cells (
  layer_id integer
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
  -- Planning it takes as long as running it.
  set plan_cache_mode = force_generic_plan
as $$
declare
  moment timestamptz := segmentation.clock();
  segment_ids integer[];
  slugs text[];
  written timestamptz[];
begin
  select
    coalesce(array_agg(s.segment_id order by s.segment_id), '{}'),
    coalesce(array_agg(s.slug order by s.segment_id), '{}')
  into segment_ids, slugs
  from segmentation.segments as s
  where s.layer_id = derive_layer_cells.layer_id and s.deleted_at = 'infinity';
  with steps as (
    select
      least(array_position(segment_ids, r.segment_id), 255) as place, r.buckets, r.ends_at,
      case when r.starts_at > r.decided_at then r.starts_at else '-infinity' end as starts_at
    from segmentation.rollouts as r
    where r.layer_id = derive_layer_cells.layer_id and r.decided_at < r.ends_at
  ),
  stretches as (
    select b.at as starts_at, coalesce(lead(b.at) over stretch, 'infinity') as ends_at, row_number() over stretch as number
    from (
      select s.starts_at as at from steps as s where s.starts_at > moment
      union
      select s.ends_at from steps as s where s.ends_at > moment and s.ends_at < 'infinity'
      union
      select coalesce(max(b.at), '-infinity')
      from (select s.starts_at as at from steps as s union all select s.ends_at from steps as s) as b
      where b.at <= moment
      union
      select '-infinity'
    ) as b
    window stretch as (order by b.at)
  ),
  written_now as (
    insert into segmentation.layer_cells as c (layer_id, salt, starts_at, ends_at, cells, segment_ids, slugs)
    select
      l.layer_id, l.salt, t.starts_at,
      case when t.number = segmentation.most_stretches() then 'infinity' else t.ends_at end,
      case
        when t.number = segmentation.most_stretches() or t.ends_at <= moment then segmentation.cells_to_ask()
        else (
          -- Whole cells in runs, then divided ones, each with the gap of free cells before it.
          select decode(
            rpad(
              coalesce(
                string_agg(
                  repeat('00', p.first - p.free_from) || repeat(lpad(to_hex(p.place), 2, '0'), p.past - p.first),
                  '' order by p.first),
                ''),
              2000, '0'),
            'hex')
          from (
            select d.*, lag(d.past, 1, 0) over (order by d.first) as free_from
            from (
              select (lower(run) + 99) / 100 as first, upper(run) / 100 as past, s.place
              from steps as s
              cross join lateral unnest(s.buckets) as run
              where s.starts_at <= t.starts_at and t.starts_at < s.ends_at
                and (lower(run) + 99) / 100 < upper(run) / 100
              union all
              select distinct bound / 100, bound / 100 + 1, 255
              from steps as s
              cross join lateral unnest(s.buckets) as run
              cross join lateral (values (lower(run)), (upper(run))) as b (bound)
              where s.starts_at <= t.starts_at and t.starts_at < s.ends_at and bound % 100 <> 0
            ) as d
          ) as p
        )
      end,
      segment_ids, slugs
    from segmentation.layers as l
    cross join stretches as t
    where l.layer_id = derive_layer_cells.layer_id and l.deleted_at = 'infinity'
      and t.number <= segmentation.most_stretches()
    on conflict on constraint layer_cells_pkey do update
      set ends_at = excluded.ends_at, cells = excluded.cells, segment_ids = excluded.segment_ids, slugs = excluded.slugs
    returning c.starts_at
  )
  select array_agg(w.starts_at) into written from written_now as w;
  delete from segmentation.layer_cells as c
  where c.layer_id = derive_layer_cells.layer_id and c.starts_at <> all (coalesce(written, '{}'));
end
$$;

-- Where some of the stretches written have passed and more are to come, or none is known at present, goes on writing;
-- the purge calls it. Until then the steps are asked.
create or replace function segmentation.renew_layer_cells () returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  moment timestamptz := segmentation.clock();
  renewed integer;
begin
  for renewed in
    select l.layer_id
    from segmentation.layers as l
    where l.layer_id in (
      select c.layer_id
      from segmentation.layer_cells as c
      group by c.layer_id
      having (count(*) = segmentation.most_stretches() and count(*) filter (where c.ends_at <= moment) > 4)
        or bool_or(
          c.starts_at <= moment and moment < c.ends_at and c.cells = segmentation.cells_to_ask())
    )
    for no key update skip locked
  loop
    perform segmentation.derive_layer_cells(renewed);
  end loop;
end
$$;
