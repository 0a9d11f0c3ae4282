-- Of which request a decision is: its key is good for that one alone.

set local role segmentation_owner;

alter table segmentation.decisions add column fingerprint bytea;

reset role;
