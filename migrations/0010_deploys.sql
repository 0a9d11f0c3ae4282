-- Which versions of the schema this database has had, so that the service can tell whether it is new enough.

set local role segmentation_owner;

create table segmentation.deploys (
  deploy      bigint      not null generated always as identity,
  -- What tells the files of migrations/ and sql/ of one version from those of every other.
  digest      text        not null,
  version     text        not null,
  deployed_at timestamptz not null default segmentation.clock(),

  constraint deploys_pkey primary key (deploy),
  constraint deploys_digest_key unique (digest)
);

reset role;
