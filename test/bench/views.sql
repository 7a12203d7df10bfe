-- How long the views take on a long history: 39 copies of a loaded account, over a year.
--   1. make demo                              30 days, 2,000 deals, by the simulator
--   2. createdb -T demo big; psql -d big -f test/bench/views_grow.sql     78,000 deals
--   3. psql -d big -f test/bench/views.sql                       without the mart
--   4. psql -d big -c 'CALL regcrm.refresh_marts()' -c 'CALL regcrm.refresh_marts(5000)'
--      psql -d big -f test/bench/views.sql                       with it
-- Each view is read whole, as text; a period is the account's last month.
SET jit = off;
set timezone='Europe/Moscow';
do $$ declare r record; n bigint; t timestamptz; begin
for r in select * from (values
 ('violations','breached_at >= ''2026-03-01'' and breached_at < ''2026-04-01'''),
 ('open_violations','true'),
 ('duties_daily','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('duty_counts','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('duty_counts_live','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('manager_scorecard','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('manager_scorecard','true'),
 ('rule_compliance_daily','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('rule_compliance','true'),
 ('manager_weekly','week >= ''2026-03-23'''),
 ('violations_weekly','week >= ''2026-03-23'''),
 ('violations_weekly','true'),
 ('first_response','created_at >= ''2026-03-01'' and created_at < ''2026-04-01'''),
 ('response_daily','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('stage_dwell','entered_at >= ''2026-03-01'' and entered_at < ''2026-04-01'''),
 ('funnel_daily','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('funnel','true'),
 ('stage_norms','true'),
 ('stuck_deals','true'),
 ('deal_health','true'),
 ('deals_without_task','true'),
 ('deal_touches','created_at >= ''2026-03-01'' and created_at < ''2026-04-01'''),
 ('rule_deals','created_at >= ''2026-03-01'' and created_at < ''2026-04-01'''),
 ('lost_deals','lost_at >= ''2026-03-01'' and lost_at < ''2026-04-01'''),
 ('loss_reasons_daily','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('stage_returns','at >= ''2026-03-01'' and at < ''2026-04-01'''),
 ('task_pushes','at >= ''2026-03-01'' and at < ''2026-04-01'''),
 ('tasks_closed','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('task_batches','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('tidy_up_daily','day >= ''2026-03-01'' and day < ''2026-04-01'''),
 ('upcoming_deadlines','true'), ('due_soon','true'),
 ('deal_timeline','deal_id = 9100100'),
 ('response_time()', 'true'), ('rule_cost()', 'true'), ('deal_story((select min(id) from regcrm.account), 9100100)','true'), ('before_report((select min(id) from regcrm.account), ''2026-03-27 18:00'')','true')
 ) v(relname, cond) loop
 t:=clock_timestamp();
 execute format('select count(x::text) from regcrm.%s x where %s', r.relname, r.cond) into n;
 raise notice '% % % rows % ms', rpad(r.relname,24), rpad(left(r.cond,24),24), lpad(n::text,8), lpad(round(extract(epoch from clock_timestamp()-t)*1000)::text,6);
end loop; end $$;
