-- What row security costs: 100,000 deals of 50 managers, four facts each, some
-- 500,000 duties.  In a new database: psql -X -f test/bench/row_security.sql
-- Each query five times for a superuser who filters by hand, a manager and a head;
-- printed are the medians, planning and execution, in ms.
\set QUIET on
\pset footer off
SET client_min_messages = warning;
CREATE EXTENSION regcrm;
SELECT FROM regcrm.setup();
INSERT INTO regcrm.account (id, name) VALUES (1, 'bench');
INSERT INTO regcrm.manager (account_id, id, name) SELECT 1, n, 'manager ' || n FROM generate_series(1, 50) n;
SET regcrm.mode = 'off';
INSERT INTO regcrm.deal (account_id, id, name, stage, manager_id, created_at)
	SELECT 1, n, 'deal ' || n, 'in_work', 1 + n % 50, now() - n * interval '3 min' FROM generate_series(1, 100000) n;
INSERT INTO regcrm.event (account_id, deal_id, at, kind, actor_id, answered)
	SELECT 1, n, now() - n * interval '3 min' + k * interval '1 hour', 'call_out', 1 + n % 50, true FROM generate_series(1, 100000) n, generate_series(1, 4) k;
INSERT INTO regcrm.deadline (account_id, deal_id, rule, arose_at, due_at, ended_at, state, manager_id)
	SELECT 1, n, r.code, now() - n * interval '3 min' + k * interval '1 hour', now() - n * interval '3 min' + (k + 1) * interval '1 hour',
		now() - n * interval '3 min' + (k + 2) * interval '1 hour', CASE WHEN (n + k) % 7 = 0 THEN 'missed' ELSE 'met' END, 1 + n % 50
	FROM generate_series(1, 100000) n, (VALUES ('NEW-1', 1), ('WRK-2', 2), ('WRK-6', 3), ('NEW-9', 4), ('MISS-7', 5)) r(code, k);
INSERT INTO regcrm.violation (account_id, deal_id, rule, stage, manager_id, severity, arose_at, breached_at, resolved_at, resolution)
	SELECT account_id, deal_id, rule, 'in_work', manager_id, 'major', arose_at, due_at, ended_at, 'met' FROM regcrm.deadline WHERE state = 'missed';
RESET regcrm.mode;
VACUUM ANALYZE;
DO $$ BEGIN
	IF to_regrole('bench_manager') IS NULL THEN CREATE ROLE bench_manager; CREATE ROLE bench_head; END IF;
END $$;
SELECT regcrm.grant_access('bench_manager', 'reader'), regcrm.grant_access('bench_head', 'reader'), regcrm.map_manager('bench_manager', 1, 7), regcrm.map_head('bench_head'),
	regcrm.enable_row_security() \g /dev/null

CREATE FUNCTION pg_temp.median(who text, query text, OUT planning numeric, OUT execution numeric) LANGUAGE plpgsql AS $$
DECLARE
	plan json;
	plans numeric[] := '{}';
	runs numeric[] := '{}';
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', who);
	FOR i IN 1 .. 5 LOOP
		EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ' || query INTO plan;
		plans := plans || (plan -> 0 ->> 'Planning Time')::numeric;
		runs := runs || (plan -> 0 ->> 'Execution Time')::numeric;
	END LOOP;
	RESET ROLE;
	SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY p)::numeric, 1) INTO planning FROM unnest(plans) p;
	SELECT round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r)::numeric, 1) INTO execution FROM unnest(runs) r;
END $$;
SET jit = off;
BEGIN;
SELECT q.what, o.planning AS by_hand_plan, o.execution AS by_hand, m.planning AS manager_plan, m.execution AS manager, a.planning AS all_plan, a.execution AS "all", h.planning AS head_plan, h.execution AS head
FROM (VALUES
	(1, 'own deals', 'SELECT * FROM regcrm.deal', 'WHERE account_id = 1 AND manager_id = 7'),
	(2, 'events of a deal', 'SELECT * FROM regcrm.event WHERE account_id = 1 AND deal_id = 56', ''),
	(3, 'violations of a month', 'SELECT * FROM regcrm.violations WHERE breached_at > now() - interval ''30 days''', 'AND manager_id = 7'),
	(4, 'all own violations', 'SELECT count(*) FROM regcrm.violation', 'WHERE account_id = 1 AND manager_id = 7'),
	(5, 'scorecard of a week', 'SELECT * FROM regcrm.manager_scorecard WHERE day > current_date - 7', 'AND manager_id = 7')
	) AS q(n, what, query, by_hand)
CROSS JOIN LATERAL pg_temp.median(current_user::text, q.query || ' ' || q.by_hand) o
CROSS JOIN LATERAL pg_temp.median('bench_manager', q.query) m
CROSS JOIN LATERAL pg_temp.median(current_user::text, q.query) a
CROSS JOIN LATERAL pg_temp.median('bench_head', q.query) h
ORDER BY q.n;
ROLLBACK;
