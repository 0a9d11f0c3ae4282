drop table segmentation.catalog_version cascade;
