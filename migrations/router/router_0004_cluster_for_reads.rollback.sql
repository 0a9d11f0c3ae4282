drop server if exists segmentation_reads cascade;
