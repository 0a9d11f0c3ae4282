-- Up to when somebody was told that all changes are there, in microseconds since 1970: no change is stamped before it.
-- A sequence, since whoever asks must not wait for others, and a standby has it too.

set local role segmentation_owner;

create sequence segmentation.told_until as bigint minvalue 0 start 0;

reset role;
