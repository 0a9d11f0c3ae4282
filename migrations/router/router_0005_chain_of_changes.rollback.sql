alter table segmentation.catalog_version drop column change cascade, drop column after cascade;
