-- Which of 100,000 buckets a user falls into: the whole of a percentage rollout.
--
-- Sticky: the bucket depends on the user id and the segment's salt alone. Monotone: a user is in while
-- bucket < percent * 1000, so a higher percentage only adds. It must never change, or users of running
-- rollouts would be dealt anew: bucket_vectors() holds golden values, and assert_bucket_vectors() is
-- called at start-up.
--
-- hashint8extended folds the id to 32 bits before it hashes, so two large ids could share a bucket under
-- every salt; mixing the high half into the seed parts them, and changes nothing for ids below 2^32.

create or replace function segmentation.bucket (
  user_id bigint,
  salt    bigint
)
  returns integer
  language sql
  immutable
  parallel safe
as $$
  select ((pg_catalog.hashint8extended($1, $2 # (($1 >> 32) * 2654435761)) & 9223372036854775807) % 100000)::integer
$$;

comment on function segmentation.bucket(bigint, bigint) is
  'The bucket, 0 to 99999, of a user under a segment''s salt; the user is in a rollout while bucket < percent * 1000. Never changes. Example: select bucket(1000, 42);';

-- Whether a rollout step holds a bucket: all below its threshold, or in a layer those it was dealt. Inlined.
create or replace function segmentation.holds (
  buckets   int4multirange,
  threshold integer,
  bucket    integer
)
  returns boolean
  language sql
  immutable
  parallel safe
as $$ select case when buckets is null then bucket < threshold else bucket <@ buckets end $$;

create or replace function segmentation.bucket_vectors ()
  returns table (user_id bigint, salt bigint, bucket integer)
  language sql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
  values
    (1::bigint,           0::bigint,            24678),
    (1000,                0,                    27156),
    (1000,                42,                   48186),
    (1000,               -1,                    65323),
    (4294967295,          7,                    52028),
    (4294967296,          7,                    64510),
    (4294967297,          7,                    67189),
    (1234567890123456789, 1311768467463790320,  47794),
    (9223372036854775807, 9223372036854775807,  38848),
    (9223372036854775807, -9223372036854775808, 18316)
$$;

comment on function segmentation.bucket_vectors() is
  'Golden values of bucket(), for whoever computes buckets elsewhere. Example: select * from bucket_vectors();';

create or replace function segmentation.assert_bucket_vectors () returns void
  language plpgsql
  immutable
  set search_path = pg_catalog, pg_temp
as $$
declare
  wrong record;
begin
  select v.* into wrong
  from segmentation.bucket_vectors() as v
  where segmentation.bucket(v.user_id, v.salt) <> v.bucket
  limit 1;
  if found then
    raise exception 'bucket(%, %) is not % on this server', wrong.user_id, wrong.salt, wrong.bucket
      using
        errcode = 'data_corrupted',
        hint = 'Do not serve: rollouts would deal users anew. Use a PostgreSQL whose hashint8extended is unchanged.';
  end if;
end
$$;

comment on function segmentation.assert_bucket_vectors() is
  'For the service: fails when bucket() does not give its golden values on this server. Example: select assert_bucket_vectors();';
