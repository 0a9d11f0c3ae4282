-- Segments: created, described, listed, deleted.
--
-- A slug never changes and belongs to one living segment. Deleting sets deleted_at, one row, and the slug may be used
-- again: that is a new segment with a new salt, and the old one's past stays.
--
-- Two locks of the segment's row keep changes apart. Writers of overrides share it (FOR KEY SHARE), and deleting takes
-- it alone (FOR UPDATE): nobody is added to a segment that has just been deleted. PostgreSQL lets further writers in
-- while a deletion waits for one, so that a forgotten transaction holds up the deletion and nobody else. Whoever
-- changes the rollout or the description, or replaces the list of its users, holds it FOR NO KEY UPDATE, which goes
-- together with the writers.
--
-- A segment may be created in a layer (sql/32_layers.sql), and stays there. Its past and that of the other segments of
-- the layer are then one: a change of one follows every change of the others, since they share the buckets.

-- salt is for those who compute buckets elsewhere.
create or replace view segmentation.listed_segments as
select
  s.slug, s.description, trim_scale(coalesce(r.percent, 0)) as percent, s.created_at, s.salt, l.slug as layer
from segmentation.segments as s
cross join (select segmentation.clock() as moment) as now
left join segmentation.rollouts as r
  on r.segment_id = s.segment_id and segmentation.in_force(r.starts_at, r.ends_at, now.moment, r.decided_at)
left join segmentation.layers as l on l.layer_id = s.layer_id
where s.deleted_at = 'infinity';

-- A transaction that somebody forgot, or that waits and waits, makes others wait. The service's connections have
-- their limits; people at psql get these, for the transaction in which they change something. Set others with SET.
create or replace function segmentation.limit_waiting () returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('lock_timeout') = '0' then
    perform set_config('lock_timeout', '5s', true);
  end if;
  if current_setting('idle_in_transaction_session_timeout') = '0' then
    perform set_config('idle_in_transaction_session_timeout', '1min', true);
  end if;
end
$$;

-- Locks the living segments of these slugs until the end of the transaction: shared; in turn, one after the other
-- beside those who share; or alone. Always in the same order, so that two writers cannot block each other, and at once
-- as strongly as it is needed: who shares first and asks for more later overtakes a deletion that has waited longer. A
-- slug that is not there is not locked: segment_ids_of names it.
create or replace function segmentation.lock_slugs (
  slugs text[],
  how   text default 'shared'
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  locked bigint;
begin
  perform segmentation.limit_waiting();
  perform segmentation.require_at_most('segments', cardinality(lock_slugs.slugs), 1000);
  loop
    if lock_slugs.how = 'alone' then
      perform
      from segmentation.segments as s
      where s.slug = any (lock_slugs.slugs collate "C") and s.deleted_at = 'infinity'
      order by s.segment_id
      for update;
    elsif lock_slugs.how = 'in turn' then
      perform
      from segmentation.segments as s
      where s.slug = any (lock_slugs.slugs collate "C") and s.deleted_at = 'infinity'
      order by s.segment_id
      for no key update;
    else
      perform
      from segmentation.segments as s
      where s.slug = any (lock_slugs.slugs collate "C") and s.deleted_at = 'infinity'
      order by s.segment_id
      for key share;
    end if;
    get diagnostics locked = row_count;
    -- One that was deleted and created anew while we waited is another row: seen by this statement, not by that.
    exit when locked = (
      select count(*)
      from segmentation.segments as s
      where s.slug = any (lock_slugs.slugs collate "C") and s.deleted_at = 'infinity'
    );
  end loop;
end
$$;

-- This segment and all that share a layer with it, deleted ones included. PL/pgSQL keeps the plan; this and the next
-- ones are asked several times in each change of a segment.
create or replace function segmentation.segments_of_layer (
  segment_id integer
)
  returns integer[]
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return array(
    select segments_of_layer.segment_id
    union
    select o.segment_id
    from segmentation.segments as s
    join segmentation.segments as o on o.layer_id = s.layer_id
    where s.segment_id = segments_of_layer.segment_id
  );
end
$$;

-- The other segments of a layer that live at a moment, or now (null): who is assigned to one of them is out of this
-- one's rollout. None without a layer.
create or replace function segmentation.other_segments_of_layer (
  segment_id integer,
  at         timestamptz default null
)
  returns integer[]
  language sql
  stable
  set search_path = pg_catalog, pg_temp
as $$
  select array(
    select other.segment_id
    from segmentation.segments as s
    join segmentation.segments as other on other.layer_id = s.layer_id and other.segment_id <> s.segment_id
    where s.segment_id = other_segments_of_layer.segment_id
      and case
        when other_segments_of_layer.at is null then other.deleted_at = 'infinity'
        else segmentation.in_force(other.created_at, other.deleted_at, other_segments_of_layer.at)
      end
  )
$$;

create or replace function segmentation.last_change (
  segment_id integer
)
  returns timestamptz
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  segment_ids integer[] := segmentation.segments_of_layer(last_change.segment_id);
begin
  return (select max(h.changed_at) from segmentation.segment_history as h where h.segment_id = any (segment_ids));
end
$$;

create or replace function segmentation.last_change_in_layer (
  layer_id integer
)
  returns timestamptz
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select max(t.moment)
    from (
      select h.changed_at as moment
      from segmentation.segments as s
      join segmentation.segment_history as h on h.segment_id = s.segment_id
      where s.layer_id = last_change_in_layer.layer_id
      union all
      select l.created_at from segmentation.layers as l where l.layer_id = last_change_in_layer.layer_id
    ) as t
  );
end
$$;

-- What a segment was before this moment is settled: no change may begin there. Where the clock has gone back behind the
-- last change, that change is settled as well.
create or replace function segmentation.settled_before (
  segment_id integer
)
  returns timestamptz
  language plpgsql
  volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select greatest(
      segmentation.announce_writer(),
      s.created_at,
      l.changed_at + case when l.changed_at > segmentation.clock() then interval '1 microsecond' else '0' end)
    from segmentation.segments as s
    cross join lateral (
      select max(h.changed_at)
      from segmentation.segment_history as h
      where h.segment_id = any (segmentation.segments_of_layer(s.segment_id)) and h.operation <> 'create'
    ) as l (changed_at)
    where s.segment_id = settled_before.segment_id
  );
end
$$;

-- The moment of a change of this segment, whose row is locked: not before any earlier change.
create or replace function segmentation.segment_stamp (
  segment_id integer
)
  returns timestamptz
  language plpgsql
  volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  return segmentation.stamp(segmentation.last_change(segment_stamp.segment_id));
end
$$;

-- The segment that a caller names alone: the living one; or, given a moment, the one that was living then
-- or the first to live after it.
create or replace function segmentation.segment_id_of (
  slug text,
  at   timestamptz default null
)
  returns integer
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  found_id integer;
begin
  select s.segment_id into found_id
  from segmentation.segments as s
  where s.slug = segment_id_of.slug collate "C"
    and (s.deleted_at = 'infinity' or s.deleted_at > segment_id_of.at)
  order by s.created_at
  limit 1;
  if not found then
    raise exception 'segment % does not exist', coalesce('"' || slug || '"', 'null')
      using
        errcode = 'no_data_found',
        detail = json_build_object('segment', slug),
        hint = 'List the segments: select * from list_segments(); GET /v1/segments; python -m service segments list.';
  end if;
  return found_id;
end
$$;

-- A slug that some segment has or once had; else the error of a segment that does not exist.
create or replace function segmentation.require_known_slug (
  slug text
)
  returns void
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (
    select from segmentation.segments as s where s.slug = require_known_slug.slug collate "C"
  ) then
    perform segmentation.segment_id_of(require_known_slug.slug);
  end if;
end
$$;

-- The living segment of this slug, its row locked: one change of its rollout or description at a time; in a layer, one
-- of all its segments.
create or replace function segmentation.lock_segment (
  slug text
)
  returns segmentation.segments
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  segment segmentation.segments;
begin
  perform segmentation.limit_waiting();
  loop
    select s.* into segment
    from segmentation.segments as s
    where s.slug = lock_segment.slug collate "C" and s.deleted_at = 'infinity'
    for no key update;
    exit when found;
    -- Not found, or deleted and created anew while we waited for it.
    perform segmentation.segment_id_of(lock_segment.slug);
  end loop;
  perform from segmentation.layers as l where l.layer_id = segment.layer_id for no key update;
  return segment;
end
$$;

-- The segments that a caller lists: all living, or an error that names every one that is not. In the
-- order of the slugs given.
create or replace function segmentation.segment_ids_of (
  slugs text[]
)
  returns integer[]
  language plpgsql
  stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  unknown text[];
  found_ids integer[];
begin
  select
    array_agg(asked.slug order by asked.slug collate "C") filter (where s.segment_id is null),
    array_agg(s.segment_id order by asked.position)
  into unknown, found_ids
  from unnest(segment_ids_of.slugs) with ordinality as asked (slug, position)
  left join segmentation.segments as s
    on s.slug = asked.slug collate "C" and s.deleted_at = 'infinity';
  if unknown is not null then
    raise exception 'unknown segments: %', array_to_string(unknown, ', ', 'null')
      using
        errcode = 'foreign_key_violation',
        detail = json_build_object('unknown_segments', unknown),
        hint = 'Create them first, or correct the slugs; upper and lower case differ.';
  end if;
  return coalesce(found_ids, '{}');
end
$$;

create or replace function segmentation.create_segment (
  slug        text,
  percent     numeric default 0,
  description text default '',
  actor       text default session_user,
  reason      text default null,
  layer       text default null
)
  returns setof segmentation.listed_segments
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  new_id integer;
  new_salt bigint;
  moment timestamptz;
  in_layer segmentation.layers;
begin
  perform segmentation.limit_waiting();
  perform segmentation.require_slug(create_segment.slug);
  perform segmentation.require_percent(create_segment.percent);
  perform segmentation.require_description(create_segment.description);
  -- A deletion of the same slug that is under way is waited for before the clock is read: two lives of a
  -- slug never overlap.
  perform
  from segmentation.segments as s
  where s.slug = create_segment.slug collate "C" and s.deleted_at = 'infinity'
  for no key update;
  if create_segment.layer is not null then
    select l.* into in_layer
    from segmentation.layers as l
    where l.slug = create_segment.layer collate "C" and l.deleted_at = 'infinity'
    for no key update;
    if not found then
      raise exception 'layer "%" does not exist', create_segment.layer
        using
          errcode = 'foreign_key_violation',
          detail = json_build_object('code', 'unknown_layer', 'layer', create_segment.layer),
          hint = 'Create it first, or correct the slug; upper and lower case differ.';
    end if;
  end if;
  select segmentation.stamp(greatest(max(s.deleted_at), segmentation.last_change_in_layer(in_layer.layer_id)))
  into moment
  from segmentation.segments as s
  where s.slug = create_segment.slug collate "C" and s.deleted_at < 'infinity';
  perform segmentation.set_actor(create_segment.actor, create_segment.reason);
  insert into segmentation.segments as s (slug, description, created_at, layer_id)
  values (create_segment.slug, coalesce(create_segment.description, ''), moment, in_layer.layer_id)
  on conflict (slug) where deleted_at = 'infinity' do nothing
  returning s.segment_id, s.salt into new_id, new_salt;
  if not found then
    raise exception 'segment "%" exists already', create_segment.slug
      using
        errcode = 'unique_violation',
        detail = json_build_object('segment', create_segment.slug),
        hint = 'Choose another slug, or delete the segment first: its past stays.';
  end if;
  -- No step at all means 0 %.
  if create_segment.percent > 0 then
    insert into segmentation.rollouts (segment_id, salt, percent, starts_at, actor, reason, decided_at)
    values (
      new_id, new_salt, create_segment.percent, moment, segmentation.actor(), create_segment.reason, moment);
  end if;
  perform segmentation.unset_actor();
  return query select * from segmentation.get_segment(create_segment.slug);
end
$$;

comment on function segmentation.create_segment(text, numeric, text, text, text, text) is
  'Create a segment, rolled out to percent % of all users. In a layer its users are in no other segment of the layer; it stays there. Example: select * from create_segment(''AVITO_VOICE_MESSAGES'', percent => 10); select * from create_segment(''AVITO_DISCOUNT_50'', percent => 20, layer => ''AVITO_DISCOUNTS'');';

create or replace function segmentation.get_segment (
  slug text
)
  returns setof segmentation.listed_segments
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  select l.* from segmentation.listed_segments as l where l.slug = get_segment.slug collate "C";
  if not found then
    perform segmentation.segment_id_of(get_segment.slug);
  end if;
end
$$;

comment on function segmentation.get_segment(text) is
  'One living segment, with the percentage in force. Example: select * from get_segment(''AVITO_VOICE_MESSAGES'');';

create or replace function segmentation.list_segments (
  after    text default null,
  max_rows integer default 100,
  search   text default null
)
  returns setof segmentation.listed_segments
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_rows(list_segments.max_rows);
  return query
  select l.*
  from segmentation.listed_segments as l
  where l.slug > coalesce(list_segments.after, '') collate "C"
    and position(lower(coalesce(list_segments.search, '')) in lower(l.slug)) > 0
  order by l.slug
  limit list_segments.max_rows;
end
$$;

comment on function segmentation.list_segments(text, integer, text) is
  'The living segments by slug, a page at a time: give the last slug seen as after. With search only those whose slug has this in it, in upper or lower case. Example: select * from list_segments(after => ''AVITO_DISCOUNT_30'', max_rows => 10); select * from list_segments(search => ''discount'');';

create or replace function segmentation.update_segment (
  slug        text,
  description text,
  actor       text default session_user,
  reason      text default null
)
  returns setof segmentation.listed_segments
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  segment segmentation.segments;
begin
  perform segmentation.require_description(update_segment.description);
  segment := segmentation.lock_segment(update_segment.slug);
  perform segmentation.set_actor(update_segment.actor, update_segment.reason);
  update segmentation.segments as s
  set description = coalesce(update_segment.description, '')
  where s.segment_id = segment.segment_id
    and s.description <> coalesce(update_segment.description, '');
  perform segmentation.unset_actor();
  return query select * from segmentation.get_segment(update_segment.slug);
end
$$;

comment on function segmentation.update_segment(text, text, text, text) is
  'Describe a segment anew; its slug never changes. Example: select * from update_segment(''AVITO_VOICE_MESSAGES'', ''voice messages in chat'');';

create or replace function segmentation.delete_segment (
  slug   text,
  actor  text default session_user,
  reason text default null
)
  returns void
  language plpgsql
  security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  segment segmentation.segments;
begin
  -- Whoever deals a layer's buckets holds the layer, and may have to share any of its segments then (their foreign key
  -- locks them). So here the layer comes before the segment alone.
  if exists (
    select
    from segmentation.segments as s
    where s.slug = delete_segment.slug collate "C" and s.deleted_at = 'infinity' and s.layer_id is not null
  ) then
    perform segmentation.lock_segment(delete_segment.slug);
  end if;
  perform segmentation.lock_slugs(array[delete_segment.slug], 'alone');
  segment := segmentation.lock_segment(delete_segment.slug);
  perform segmentation.set_actor(delete_segment.actor, delete_segment.reason);
  update segmentation.segments as s
  set deleted_at = segmentation.segment_stamp(segment.segment_id)
  where s.segment_id = segment.segment_id;
  perform segmentation.unset_actor();
end
$$;

comment on function segmentation.delete_segment(text, text, text) is
  'Delete a segment: everybody is out at once, the past stays, the slug may be used again. Example: select delete_segment(''AVITO_DISCOUNT_50'', reason => ''campaign over'');';

create or replace function segmentation.segment_history (
  slug text
)
  returns table (
    at timestamptz, operation text, description text, percent numeric, starts_at timestamptz,
    actor text, reason text
  )
  language plpgsql
  stable
  security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_known_slug(segment_history.slug);
  return query
  select h.changed_at, h.operation, h.description, h.percent, h.starts_at, h.actor, h.reason
  from segmentation.segment_history as h
  join segmentation.segments as s on s.segment_id = h.segment_id
  where s.slug = segment_history.slug collate "C"
  order by h.changed_at, h.segment_id, h.operation = 'delete', h.operation <> 'create';
end
$$;

comment on function segmentation.segment_history(text) is
  'Who created, described, ramped and deleted the segments that ever had this slug. Example: select * from segment_history(''AVITO_VOICE_MESSAGES'');';
