-- Something of everything: living and deleted segments, a ramp, assignments, exclusions, plans, ended ones, keys.
select create_segment('A', description => 'by hand');
select create_segment('B', 40);
select create_segment('GONE', 20);
select set_rollout('B', 60);
select set_rollout('B', 80, '2099-01-01Z');
select register_users(array(select generate_series(1, 40)));
select change_segment_members('A', array(select generate_series(1, 20)), reason => 'import');
select change_user_segments(1, remove => '{A}', reason => 'ticket');
select change_user_segments(1, add => '{A,GONE}', expires_at => '2098-01-01Z');
select change_user_segments(2, remove => '{A,B}');
select change_user_segments(3, add => '{GONE}');
select change_user_segments(4, add => '{B}', starts_at => '2097-01-01Z');
select delete_segment('GONE', reason => 'over');
select expire_memberships(3);
select create_report_link('2026-11', 1);
select create_api_key('web-shop', 'reader') is not null;
