-- Users, segments, rollout steps, and the trail of who changed a segment.

set local role segmentation_owner;

-- Column defaults need it; sql/10_clock.sql holds the definition in force.
create function segmentation.clock() returns timestamptz
language sql volatile as $$ select pg_catalog.clock_timestamp() $$;

-- Users live elsewhere: a row says only since when an id is known.
create table segmentation.users (
  user_id       bigint      not null,
  registered_at timestamptz not null default segmentation.clock(),

  constraint users_pkey primary key (user_id),
  constraint users_user_id_is_positive check (user_id > 0),
  constraint users_registered_at_is_finite check (isfinite(registered_at))
);

create table segmentation.segments (
  segment_id  integer            not null generated always as identity,
  slug        text collate "C"   not null,
  description text               not null default '',
  -- Random, so that buckets of two segments are independent; never changed, so that a rollout is sticky.
  salt        bigint             not null default hashtextextended(gen_random_uuid()::text, 0),
  created_at  timestamptz        not null default segmentation.clock(),
  deleted_at  timestamptz        not null default 'infinity',
  -- A deleted segment whose overrides have all been moved to the history: the sweep need not look again.
  swept       boolean            not null default false,

  constraint segments_pkey primary key (segment_id),
  constraint segments_id_and_salt_key unique (segment_id, salt),
  constraint segments_slug_has_valid_form check (slug ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$'),
  constraint segments_description_is_short check (length(description) <= 2000),
  constraint segments_created_at_is_finite check (isfinite(created_at)),
  constraint segments_deleted_after_created check (deleted_at >= created_at),
  constraint segments_swept_only_if_deleted check (not swept or isfinite(deleted_at))
);

-- A slug may be used again after its segment was deleted: unique among the living only.
create unique index segments_slug_key on segmentation.segments (slug) where deleted_at = 'infinity';
create index segments_slug_deleted_at_idx on segmentation.segments (slug, deleted_at);
create index segments_not_yet_swept_idx on segmentation.segments (deleted_at)
  where deleted_at < 'infinity' and not swept;

-- From starts_at to ends_at, percent % of all users are in. ends_at is derived: the start of the next
-- step of the segment (a trigger keeps it), so steps can neither overlap nor leave a gap.
create table segmentation.rollouts (
  segment_id integer       not null,
  -- The segment's salt, beside the step, so that a read looks up only the segments it hits.
  salt       bigint        not null,
  percent    numeric       not null,
  threshold  integer       not null generated always as ((percent * 1000)::integer) stored,
  starts_at  timestamptz   not null default segmentation.clock(),
  ends_at    timestamptz   not null default 'infinity',
  actor      text          not null default session_user,
  reason     text,

  constraint rollouts_pkey primary key (segment_id, starts_at),
  constraint rollouts_segment_fkey foreign key (segment_id, salt)
    references segmentation.segments (segment_id, salt),
  constraint rollouts_percent_between_0_and_100 check (percent between 0 and 100),
  constraint rollouts_percent_has_three_decimals check (percent = round(percent, 3)),
  constraint rollouts_starts_at_is_finite check (isfinite(starts_at)),
  constraint rollouts_start_before_end check (starts_at < ends_at)
);

-- A step as it is shown; a type of its own, because arguments of set_rollout bear the same names.
create type segmentation.rollout_step as (
  percent   numeric,
  starts_at timestamptz,
  ends_at   timestamptz,
  actor     text,
  reason    text
);

-- The hot read wants the steps in force; a step of 0 % holds nobody.
create index rollouts_ends_at_idx on segmentation.rollouts (ends_at)
  include (segment_id, salt, threshold, starts_at) where threshold > 0;

-- Who created, described, ramped or deleted a segment, and why. Written by triggers only.
create table segmentation.segment_history (
  segment_id  integer     not null,
  changed_at  timestamptz not null,
  operation   text        not null,
  description text,
  percent     numeric,
  starts_at   timestamptz,
  actor       text        not null,
  reason      text,

  constraint segment_history_operation_is_known
    check (operation in ('create', 'describe', 'delete', 'set_rollout', 'cancel_rollout_step')),
  constraint segment_history_step_is_complete
    check ((operation in ('set_rollout', 'cancel_rollout_step')) = (percent is not null and starts_at is not null))
);

create index segment_history_segment_id_idx on segmentation.segment_history (segment_id, changed_at);

reset role;
