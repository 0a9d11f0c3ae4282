-- What was written into the column goes with the column.
select;
