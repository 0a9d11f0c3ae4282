drop table segmentation.idempotency_keys cascade;
