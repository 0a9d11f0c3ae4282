drop table segmentation.retention cascade;
drop table segmentation.upkeep cascade;
drop type segmentation.report_line cascade;
drop table segmentation.report_links cascade;
drop table segmentation.api_keys cascade;
