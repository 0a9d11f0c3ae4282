drop table segmentation.place cascade;
