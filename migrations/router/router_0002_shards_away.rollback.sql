drop table segmentation.shards_away cascade;
