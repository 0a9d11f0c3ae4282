-- The router may do what an admin may, and says for whom, as the service does.
do $$
begin
  if not pg_has_role('segmentation_router', 'segmentation_admin', 'usage') then
    grant segmentation_admin to segmentation_router;
  end if;
  if not pg_has_role('segmentation_router', 'segmentation_service', 'member') then
    grant segmentation_service to segmentation_router;
  end if;
end
$$;
