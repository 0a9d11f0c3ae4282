-- Time is a function, so that a test can set it and nothing ever sleeps to see an expiry.
--
-- clock() is read once a call, after the locks of that call are held: one user's periods then never
-- overlap or run backwards. earliest_change() is how far back a change may be stamped: a trigger sees a
-- row a moment after its function stamped it, but never before its transaction began.

create or replace function segmentation.clock () returns timestamptz
  language sql
  volatile
as $$ select pg_catalog.clock_timestamp() $$;

comment on function segmentation.clock() is
  'The present moment, as every function of this schema sees it. Example: select clock();';

create or replace function segmentation.earliest_change () returns timestamptz
  language sql
  stable
as $$ select pg_catalog.transaction_timestamp() $$;

-- Microseconds always, UTC always, so that text sorts as time does; infinity has no such form: null.
create or replace function segmentation.rfc3339 (
  moment timestamptz
)
  returns text
  language sql
  stable
  parallel safe
as $$
  select case when pg_catalog.isfinite(moment)
    then pg_catalog.to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  end
$$;

comment on function segmentation.rfc3339(timestamptz) is
  'A moment as RFC 3339 text in UTC; null for infinity. Example: select rfc3339(now());';
