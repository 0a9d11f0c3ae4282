drop table segmentation.layer_cells cascade;
alter table segmentation.segments drop column layer_id cascade;
drop table segmentation.layers cascade;
