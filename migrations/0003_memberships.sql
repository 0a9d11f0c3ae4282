-- Overrides: the live and planned ones, and the append-only past in one partition a month.

set local role segmentation_owner;

-- An assignment (included) or an exclusion. The primary key says: of one user and one segment there is
-- at most one override. No foreign keys: they cost one query a row, so the statement triggers of
-- sql/50_history.sql check the segment for all rows at once, and users are never a condition.
create table segmentation.memberships (
  user_id    bigint      not null,
  segment_id integer     not null,
  included   boolean     not null default true,
  starts_at  timestamptz not null default segmentation.clock(),
  ends_at    timestamptz not null default 'infinity',
  actor      text        not null default session_user,
  reason     text,
  -- Who set ends_at, and why; empty while it is infinity.
  end_actor  text,
  end_reason text,

  constraint memberships_pkey primary key (user_id, segment_id),
  constraint memberships_user_id_is_positive check (user_id > 0),
  constraint memberships_starts_at_is_finite check (isfinite(starts_at)),
  constraint memberships_start_before_end check (starts_at < ends_at)
);

create index memberships_segment_id_user_id_idx on segmentation.memberships (segment_id, user_id);
create index memberships_ends_at_idx on segmentation.memberships (ends_at) where ends_at < 'infinity';

-- A closed override. By month (UTC) of its end; sql/50_history.sql makes the partitions. Two periods of
-- one pair never end at the same moment, which the primary key says.
create table segmentation.membership_history (
  user_id    bigint      not null,
  segment_id integer     not null,
  included   boolean     not null,
  starts_at  timestamptz not null,
  ends_at    timestamptz not null,
  actor      text        not null,
  reason     text,
  end_cause  text        not null,
  end_actor  text,
  end_reason text,

  constraint membership_history_pkey primary key (user_id, segment_id, ends_at),
  constraint membership_history_start_before_end check (starts_at < ends_at),
  constraint membership_history_ends_at_is_finite check (isfinite(ends_at)),
  constraint membership_history_end_cause_is_known
    check (end_cause in ('removed', 'expired', 'segment_deleted'))
) partition by range (ends_at);

create index membership_history_segment_id_user_id_idx
  on segmentation.membership_history (segment_id, user_id);

reset role;
