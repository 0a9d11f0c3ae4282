drop table segmentation.retention;
drop table segmentation.upkeep;
drop type segmentation.report_line;
drop table segmentation.report_links;
drop table segmentation.api_keys;
