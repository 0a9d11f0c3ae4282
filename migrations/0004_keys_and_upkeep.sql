-- API keys, report links, and what the upkeep leaves behind.

set local role segmentation_owner;

-- Only the SHA-256 of a key is kept: a stolen table opens nothing.
create table segmentation.api_keys (
  name       text        not null,
  role       text        not null,
  key_digest bytea       not null,
  created_at timestamptz not null default segmentation.clock(),
  expires_at timestamptz not null default 'infinity',
  revoked_at timestamptz not null default 'infinity',

  constraint api_keys_pkey primary key (name),
  constraint api_keys_digest_key unique (key_digest),
  constraint api_keys_name_has_valid_form check (name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$'),
  constraint api_keys_role_is_known check (role in ('reader', 'editor', 'admin')),
  constraint api_keys_digest_is_sha256 check (length(key_digest) = 32),
  constraint api_keys_expires_after_created check (expires_at > created_at)
);

-- A link to one month's report. The link's id is its only secret, so it is kept as a digest.
create table segmentation.report_links (
  id_digest  bytea       not null,
  period     text        not null,
  user_id    bigint,
  created_at timestamptz not null default segmentation.clock(),
  expires_at timestamptz not null,
  actor      text        not null,

  constraint report_links_pkey primary key (id_digest),
  constraint report_links_digest_is_sha256 check (length(id_digest) = 32),
  constraint report_links_period_is_a_month check (period ~ '^\d{4}-(0[1-9]|1[0-2])$'),
  constraint report_links_user_id_is_positive check (user_id > 0),
  constraint report_links_expires_after_created check (expires_at > created_at)
);

-- A line of a report; a type of its own, because arguments of history_report bear the same names. at is
-- RFC 3339 text in UTC, so that a file written by \copy and one fetched over HTTP are the same.
create type segmentation.report_line as (
  user_id   bigint,
  segment   text,
  operation text,
  at        text
);

create index report_links_expires_at_idx on segmentation.report_links (expires_at);

-- When each kind of upkeep last ended well, and how much it did.
create table segmentation.upkeep (
  task        text        not null,
  finished_at timestamptz not null,
  rows        bigint      not null,

  constraint upkeep_pkey primary key (task)
);

-- One row: history before this moment has been dropped.
create table segmentation.retention (
  kept_since timestamptz not null default '-infinity',
  one_row    boolean     not null default true,

  constraint retention_has_one_row primary key (one_row),
  constraint retention_is_true check (one_row)
);

insert into segmentation.retention default values;

reset role;
