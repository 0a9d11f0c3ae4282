alter table segmentation.memberships drop column layer_id cascade;
alter table segmentation.memberships drop column decided_at cascade;
