-- Nothing that is there still: migrating with the older version makes its functions anew.
select 1;
