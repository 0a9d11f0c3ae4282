-- In tests time stands where a test puts it, in every session; while moment is null the real clock runs.

create schema segmentation_test;

create table segmentation_test.clock (moment timestamptz);
insert into segmentation_test.clock values (null);

grant usage on schema segmentation_test to public;
grant select on segmentation_test.clock to public;

create or replace function segmentation.clock () returns timestamptz
  language sql
  volatile
as $$ select coalesce((select c.moment from segmentation_test.clock as c), pg_catalog.clock_timestamp()) $$;

create or replace function segmentation.transaction_start () returns timestamptz
  language sql
  volatile
as $$ select coalesce((select c.moment from segmentation_test.clock as c), pg_catalog.transaction_timestamp()) $$;
