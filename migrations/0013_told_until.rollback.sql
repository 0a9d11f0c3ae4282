drop sequence segmentation.told_until cascade;
