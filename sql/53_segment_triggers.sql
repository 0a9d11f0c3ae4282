-- What happens when a segment is created, described anew or deleted, also by plain DML: each leaves a row in
-- segment_history. A row of segments stays for good, as the past needs it.

-- A segment in a layer has the layer's salt.
create or replace function segmentation.segments_take_the_salt () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  new.salt := coalesce(
    (select l.salt from segmentation.layers as l where l.layer_id = new.layer_id), new.salt);
  return new;
end
$$;

create or replace trigger segments_take_the_salt
  before insert on segmentation.segments
  for each row when (new.layer_id is not null)
  execute function segmentation.segments_take_the_salt();

-- A living segment and a living layer do not share a slug, as both are keys of flags. No index knows two tables, so
-- whoever creates a segment holds layers in SHARE MODE first: it goes together with all but new and changed layers.
create or replace function segmentation.require_free_slugs (
  slugs text[]
)
  returns void
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  taken text;
begin
  select s.slug into taken
  from segmentation.segments as s
  join segmentation.layers as l on l.slug = s.slug
  where s.slug = any (require_free_slugs.slugs) and s.deleted_at = 'infinity' and l.deleted_at = 'infinity'
  limit 1;
  if found then
    raise exception 'slug "%" is taken: a segment and a layer cannot share it', taken
      using
        errcode = 'unique_violation',
        detail = json_build_object('slug', taken),
        hint = 'Choose another slug.';
  end if;
end
$$;

-- A segment begins now, after any earlier one of its slug has ended.
create or replace function segmentation.segments_after_insert () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  wrong record;
begin
  select n.slug, n.created_at into wrong
  from new_rows as n
  cross join lateral (
    select max(s.deleted_at)
    from segmentation.segments as s
    where s.slug = n.slug and s.segment_id <> n.segment_id and s.deleted_at < 'infinity'
  ) as before (deleted_at)
  where n.deleted_at < 'infinity'
    or n.created_at < greatest(segmentation.announce_writer(), before.deleted_at)
    or n.created_at > segmentation.stamp(
      greatest(before.deleted_at, segmentation.last_change_in_layer(n.layer_id)))
  limit 1;
  if found then
    raise exception 'segment "%" cannot begin at % or be over already', wrong.slug, wrong.created_at
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('segment', wrong.slug, 'created_at', wrong.created_at),
        hint = 'A segment begins now: leave created_at and deleted_at out, or call create_segment(slug).';
  end if;
  -- Locked, so that it is not deleted meanwhile.
  perform
  from segmentation.layers as l
  where l.layer_id in (select n.layer_id from new_rows as n)
  order by l.layer_id
  for no key update;
  select n.slug, l.slug as layer into wrong
  from new_rows as n
  join segmentation.layers as l on l.layer_id = n.layer_id
  where l.deleted_at < 'infinity'
  limit 1;
  if found then
    raise exception 'segment "%" cannot begin in layer "%", which is deleted', wrong.slug, wrong.layer
      using
        errcode = 'foreign_key_violation',
        detail = json_build_object('segment', wrong.slug, 'layer', wrong.layer),
        hint = 'Create the layer anew: create_layer(slug).';
  end if;
  lock table segmentation.layers in share mode;
  perform segmentation.require_free_slugs(array(select n.slug from new_rows as n));
  insert into segmentation.segment_history (segment_id, changed_at, operation, description, actor, reason)
  select
    n.segment_id, n.created_at, 'create', nullif(n.description, ''),
    segmentation.actor(), segmentation.actor_reason()
  from new_rows as n;
  perform segmentation.derive_layer_cells(d.layer_id)
  from (select distinct n.layer_id from new_rows as n where n.layer_id is not null) as d;
  return null;
end
$$;

create or replace trigger segments_after_insert
  after insert on segmentation.segments
  referencing new table as new_rows
  for each statement execute function segmentation.segments_after_insert();

-- A segment may be described anew, and deleted once, at this moment. Its rollout ends with it.
create or replace function segmentation.segments_after_update () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  wrong record;
begin
  select coalesce(o.slug, n.slug) as slug into wrong
  from old_rows as o
  full join new_rows as n on n.segment_id = o.segment_id
  where (o.slug, o.salt, o.created_at, o.layer_id) is distinct from (n.slug, n.salt, n.created_at, n.layer_id)
    or (
      o.deleted_at <> n.deleted_at
      and (
        o.deleted_at < 'infinity'
        or n.deleted_at < segmentation.settled_before(n.segment_id)
        or n.deleted_at > segmentation.segment_stamp(n.segment_id)
      )
    )
  limit 1;
  if found then
    raise exception 'segment "%" cannot be changed like this', wrong.slug
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('segment', wrong.slug),
        hint = 'Slug, salt, layer and creation are settled; delete_segment(slug) deletes a segment, now and for good.';
  end if;
  insert into segmentation.segment_history (segment_id, changed_at, operation, description, actor, reason)
  select
    n.segment_id, c.changed_at, c.operation, c.description,
    segmentation.actor(), segmentation.actor_reason()
  from new_rows as n
  join old_rows as o on o.segment_id = n.segment_id
  cross join lateral (
    values
      (o.description <> n.description, segmentation.segment_stamp(n.segment_id), 'describe', n.description),
      (o.deleted_at <> n.deleted_at, n.deleted_at, 'delete', null)
  ) as c (applies, changed_at, operation, description)
  where c.applies;
  -- Steps to come never come; the one in force ends.
  delete from segmentation.rollouts as r
  using new_rows as n
  where r.segment_id = n.segment_id and r.starts_at >= n.deleted_at;
  perform segmentation.derive_step_ends(
    array(select n.segment_id from new_rows as n where n.deleted_at < 'infinity' and not n.swept));
  -- What it held is free from now on.
  perform segmentation.deal_buckets(
    array(select n.segment_id from new_rows as n where n.deleted_at < 'infinity' and not n.swept));
  return null;
end
$$;

create or replace trigger segments_after_update
  after update on segmentation.segments
  referencing old table as old_rows new table as new_rows
  for each statement execute function segmentation.segments_after_update();

create or replace function segmentation.segments_refuse_delete () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'segments refuses delete: it would take the past along'
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'Call delete_segment(slug): everybody is out at once and the past stays.';
end
$$;

create or replace trigger segments_refuse_delete
  before delete on segmentation.segments
  for each statement execute function segmentation.segments_refuse_delete();

create or replace trigger segments_refuse_truncate
  before truncate on segmentation.segments
  for each statement execute function segmentation.refuse_truncate();
