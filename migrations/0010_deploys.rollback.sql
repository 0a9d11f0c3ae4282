drop table segmentation.deploys cascade;
