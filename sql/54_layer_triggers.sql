-- What happens when a layer is created, described anew or deleted, also by plain DML. A row of layers stays for good,
-- as the past of its segments needs it.

-- A layer begins now, may be described anew, and is deleted once, at this moment, when no segment is in it any more.
create or replace function segmentation.layers_before_change () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
declare
  by_hand boolean := current_user <> 'segmentation_owner';
  earliest timestamptz := segmentation.announce_writer();
  segments text[];
begin
  if tg_op = 'INSERT' then
    if new.deleted_at < 'infinity' or new.created_at < earliest
      or new.created_at > segmentation.stamp(
        (select max(l.deleted_at) from segmentation.layers as l where l.slug = new.slug and l.deleted_at < 'infinity'))
    then
      raise exception 'layer "%" cannot begin at % or be over already', new.slug, new.created_at
        using
          errcode = 'object_not_in_prerequisite_state',
          detail = json_build_object('layer', new.slug, 'created_at', new.created_at),
          hint = 'A layer begins now: leave created_at and deleted_at out, or call create_layer(slug).';
    end if;
    if by_hand then
      new.actor := session_user;
      new.reason := coalesce(new.reason, segmentation.actor_reason());
    end if;
    return new;
  end if;
  if (old.layer_id, old.slug, old.salt, old.created_at, old.actor, old.reason)
      is distinct from (new.layer_id, new.slug, new.salt, new.created_at, new.actor, new.reason)
    or (
      old.deleted_at <> new.deleted_at
      and (
        old.deleted_at < 'infinity'
        or new.deleted_at < earliest
        or new.deleted_at > segmentation.stamp(segmentation.last_change_in_layer(old.layer_id))
      )
    )
  then
    raise exception 'layer "%" cannot be changed like this', old.slug
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('layer', old.slug),
        hint = 'Slug, salt and creation are settled; delete_layer(slug) deletes a layer, now and for good.';
  end if;
  if old.deleted_at = new.deleted_at then
    new.end_actor := old.end_actor;
    new.end_reason := old.end_reason;
    return new;
  end if;
  if by_hand then
    new.end_actor := session_user;
    new.end_reason := segmentation.actor_reason();
  end if;
  select array_agg(s.slug order by s.slug) into segments
  from segmentation.segments as s
  where s.layer_id = old.layer_id and s.deleted_at = 'infinity';
  if segments is not null then
    raise exception 'layer "%" has segments: %', old.slug, array_to_string(segments[:10], ', ')
      using
        errcode = 'object_not_in_prerequisite_state',
        detail = json_build_object('layer', old.slug, 'segments', segments),
        hint = 'Delete them first: delete_segment(slug). Their past stays.';
  end if;
  delete from segmentation.layer_cells as c where c.layer_id = old.layer_id;
  return new;
end
$$;

create or replace trigger layers_before_change
  before insert or update on segmentation.layers
  for each row execute function segmentation.layers_before_change();

create or replace function segmentation.layers_after_insert () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform segmentation.require_free_slugs(array(select n.slug from new_rows as n));
  return null;
end
$$;

create or replace trigger layers_after_insert
  after insert on segmentation.layers
  referencing new table as new_rows
  for each statement execute function segmentation.layers_after_insert();

create or replace function segmentation.layers_refuse_delete () returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'layers refuses %: the past of its segments needs it', lower(tg_op)
    using
      errcode = 'object_not_in_prerequisite_state',
      hint = 'Call delete_layer(slug): its slug may be used again.';
end
$$;

create or replace trigger layers_refuse_delete
  before delete or truncate on segmentation.layers
  for each statement execute function segmentation.layers_refuse_delete();
