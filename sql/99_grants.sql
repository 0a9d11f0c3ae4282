-- Who may call what: the whole list. Nobody but the owner touches a table, and PUBLIC may call nothing.
--
-- Roles hold one another: an admin may do what an editor may, an editor what a reader may, a reader what an evaluator
-- may. People get one of them: grant segmentation_editor to alice. A right that is not in this list is taken away at
-- the next deploy, whoever gave it.

grant usage on schema segmentation to segmentation_evaluator, segmentation_reader, segmentation_jobs;

-- Evaluate one user, now.
grant execute on function
  segmentation.http_user_segments_now(bigint),
  segmentation.ofrep_flag(bigint, text),
  segmentation.ofrep_flags(bigint, text[])
to segmentation_evaluator;

-- Ask.
grant execute on function
  segmentation.assert_bucket_vectors(),
  segmentation.authenticate_api_key(bytea),
  segmentation.bucket(bigint, bigint),
  segmentation.bucket_vectors(),
  segmentation.clock(),
  segmentation.ending_soon(interval, text, integer),
  segmentation.explain_membership(bigint, text, timestamptz),
  segmentation.get_layer(text),
  segmentation.get_segment(text),
  segmentation.http_duration(text, text),
  segmentation.http_ending_soon(text, text, integer),
  segmentation.http_explain_membership(bigint, text, timestamptz),
  segmentation.http_get_layer(text),
  segmentation.http_get_segment(text),
  segmentation.http_list_layers(),
  segmentation.http_list_segments(text, integer, text),
  segmentation.http_segment(text),
  segmentation.http_segment_growth(text, timestamptz, timestamptz, text),
  segmentation.http_segment_history(text),
  segmentation.http_segment_members(text, timestamptz, bigint, integer),
  segmentation.http_layer_stats(text),
  segmentation.http_segment_stats(text),
  segmentation.http_segments(text, integer),
  segmentation.http_service_status(text),
  segmentation.http_user_history(bigint, timestamptz, timestamptz),
  segmentation.http_user_overrides(bigint),
  segmentation.http_user_segments(bigint, timestamptz),
  segmentation.http_user_segments_each(bigint[]),
  segmentation.http_users_segments(bigint[]),
  segmentation.layer_json(segmentation.listed_layers),
  segmentation.layer_segments(text),
  segmentation.open_report_link(bytea),
  segmentation.list_layers(),
  segmentation.list_segments(text, integer, text),
  segmentation.manual(text),
  segmentation.require_at_most(text, bigint, bigint),
  segmentation.rfc3339(timestamptz),
  segmentation.rollout_json(text),
  segmentation.rollout_steps(text),
  segmentation.segment_growth(text, timestamptz, timestamptz, interval),
  segmentation.segment_history(text),
  segmentation.segment_members(text, timestamptz, bigint, integer),
  segmentation.layer_stats(text),
  segmentation.segment_stats(text),
  segmentation.service_metrics(),
  segmentation.service_status(text),
  segmentation.user_history(bigint, timestamptz, timestamptz),
  segmentation.user_overrides(bigint),
  segmentation.user_segments(bigint, timestamptz),
  segmentation.users_segments(bigint[])
to segmentation_reader;

-- Change users, and take reports away.
grant execute on function
  segmentation.begin_import(text),
  segmentation.claim_idempotency_key(text, text, bytea),
  segmentation.change_segment_members(
    text, bigint[], text, timestamptz, timestamptz, text, text, bigint, boolean, boolean
  ),
  segmentation.changes_end(timestamptz, timestamptz),
  segmentation.change_user_segments(bigint, text[], text[], timestamptz, timestamptz, text, text),
  segmentation.close_report_link(bytea),
  segmentation.create_report_link(text, bigint, interval, text),
  segmentation.http_expiry(timestamptz, numeric, timestamptz),
  segmentation.finish_import(text, text, timestamptz, timestamptz, text, text, bigint, boolean, boolean),
  segmentation.history_report(text, bigint),
  segmentation.http_begin_import(text, text, timestamptz, numeric, timestamptz, text, text, bigint, boolean),
  segmentation.http_finish_import(text, text, timestamptz, numeric, timestamptz, text, text, bigint, boolean, boolean),
  segmentation.http_changes_end(timestamptz, timestamptz),
  segmentation.http_change_user_segments(bigint, text[], text[], timestamptz, numeric, timestamptz, text, text),
  segmentation.http_create_report_link(text, bigint, text, text),
  segmentation.keep_answer(text, text, bytea, text, integer, text, text),
  segmentation.linked_pages(text),
  segmentation.http_periods_window(text, timestamptz, timestamptz),
  segmentation.membership_changes(timestamptz, timestamptz),
  segmentation.period_rows(text, timestamptz, timestamptz),
  segmentation.periods_page(text, tstzrange, bigint, bigint),
  segmentation.periods_window(text, timestamptz, timestamptz),
  segmentation.register_users(bigint[]),
  segmentation.report_page(timestamptz, timestamptz, bigint, bigint, timestamptz),
  segmentation.report_pages(text, bigint),
  segmentation.report_rows(text, bigint),
  segmentation.require_list_change(text, timestamptz, timestamptz, text, text, bigint, boolean),
  segmentation.revoke_report_link(text),
  segmentation.segment_periods(text, timestamptz, timestamptz),
  segmentation.settled_until(),
  segmentation.user_pages()
to segmentation_editor;

-- Change segments and keys, erase, and tend.
grant execute on function
  segmentation.cancel_rollout_step(text, timestamptz, text, text),
  segmentation.create_api_key(text, text, timestamptz),
  segmentation.create_layer(text, text, text, text),
  segmentation.create_segment(text, numeric, text, text, text, text),
  segmentation.delete_layer(text, text, text),
  segmentation.delete_segment(text, text, text),
  segmentation.drop_history_before(text),
  segmentation.ensure_history_partitions(integer),
  segmentation.expire_memberships(integer),
  segmentation.forget_user(bigint, text, text),
  segmentation.history_partitions(),
  segmentation.http_cancel_rollout_step(text, timestamptz, text, text),
  segmentation.http_create_layer(text, text, text, text),
  segmentation.http_create_segment(text, numeric, text, text, text, text),
  segmentation.http_set_rollout(text, numeric, timestamptz, text, text),
  segmentation.http_update_segment(text, text, text, text),
  segmentation.jobs(),
  segmentation.list_api_keys(),
  segmentation.note_upkeep(text, bigint),
  segmentation.purge_expired(),
  segmentation.revoke_api_key(text),
  segmentation.schedule_jobs(),
  segmentation.set_rollout(text, numeric, timestamptz, text, text),
  segmentation.update_segment(text, text, text, text)
to segmentation_admin;
grant execute on procedure segmentation.sweep(integer, integer) to segmentation_admin;

-- What pg_cron calls.
grant execute on function
  segmentation.ensure_history_partitions(integer),
  segmentation.expire_memberships(integer),
  segmentation.note_upkeep(text, bigint),
  segmentation.purge_expired(),
  segmentation.settled_until()
to segmentation_jobs;
grant execute on procedure segmentation.sweep(integer, integer) to segmentation_jobs;
