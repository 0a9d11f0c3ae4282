alter table segmentation.decisions drop column fingerprint;
