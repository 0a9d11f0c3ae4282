drop table segmentation.slots, segmentation.catalog_version, segmentation.decisions cascade;
drop sequence segmentation.told_everywhere cascade;
drop schema segmentation_remote cascade;
