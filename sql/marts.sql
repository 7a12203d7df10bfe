-- The marts: whatever is written after the days were summed, duty_counts says
-- what duty_counts_live counts from the ledger, before refresh_marts() and after.
\set VERBOSITY terse
SET client_min_messages = warning;
-- compiling such wide queries takes longer than running them on so few rows
SET jit = off;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT FROM regcrm.setup();
SET timezone = 'Europe/Moscow';
SET datestyle = 'ISO, DMY';
\pset null '-'

-- Rows of the one that the other has not, both ways; and how many there are.
CREATE FUNCTION pg_temp.differ(OUT differences bigint, OUT any_rows boolean) LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM (TABLE regcrm.duty_counts EXCEPT TABLE regcrm.duty_counts_live) x)
			+ (SELECT count(*) FROM (TABLE regcrm.duty_counts_live EXCEPT TABLE regcrm.duty_counts) x),
		EXISTS (SELECT FROM regcrm.duty_counts)
$$;
CREATE FUNCTION pg_temp.state(OUT notes boolean, OUT summed boolean, OUT from_first_day boolean, OUT to_today boolean) LANGUAGE sql AS $$
	SELECT EXISTS (SELECT FROM regcrm.mart_dirty), EXISTS (SELECT FROM regcrm.mart_duty),
		s.counted_from = (SELECT (min(created_at) AT TIME ZONE s.time_zone)::date FROM regcrm.deal d WHERE d.account_id = s.account_id),
		s.counted_until = (now() AT TIME ZONE s.time_zone)::date
	FROM (SELECT) one LEFT JOIN regcrm.mart_state s ON s.account_id = 9080
$$;

INSERT INTO regcrm.account (id, name, calendar) VALUES (9080, 'Школа', 'daily-9-20'), (9081, 'Другая', NULL);
INSERT INTO regcrm.manager (account_id, id, name) VALUES (9080, 1, 'Анна'), (9080, 2, 'Борис'), (9081, 1, 'Вера');
SET regcrm.mode = 'record';
INSERT INTO regcrm.deal (account_id, id, name, stage, manager_id, created_at)
	SELECT 9080, n, 'Ученик ' || n, 'new', 1 + n % 2, timestamptz '2026-03-02 23:00' + n * interval '3 hours' FROM generate_series(1, 60) n;
INSERT INTO regcrm.event (account_id, deal_id, at, kind, actor_id)
	SELECT 9080, n, timestamptz '2026-03-02 23:00' + n * interval '3 hours' + n * interval '1 min', 'call_out', 1 + n % 2 FROM generate_series(1, 60) n WHERE n % 3 > 0;
INSERT INTO regcrm.deal (account_id, id, name, stage, manager_id, created_at) VALUES (9081, 1, 'Ученик', 'new', 1, '2026-03-05 10:00');
-- runs until 2055
INSERT INTO regcrm.event (account_id, deal_id, at, kind, from_stage, to_stage) VALUES (9080, 1, '2026-03-04 10:00', 'stage', 'new', 'deciding');
INSERT INTO regcrm.task (account_id, deal_id, manager_id, created_at, due_at) VALUES (9080, 1, 1, '2026-03-04 10:00', '2055-01-01 12:00');

-- Nobody refreshes: nothing is noted, nothing summed, nothing differs.
SELECT * FROM pg_temp.differ();
SELECT * FROM pg_temp.state();
SELECT count(*) AS triggers FROM pg_trigger WHERE tgname LIKE 'regcrm_mart%';

-- The first call begins to take note, and leaves the counting to the second where it would take long, since it holds a lock.
BEGIN;
SET LOCAL regcrm.mode = 'off';
INSERT INTO regcrm.deadline (account_id, deal_id, rule, arose_at, due_at, met_at, ended_at, state, manager_id)
	SELECT 9080, 1000, 'NEW-1', timestamptz '2026-03-02 10:00' + i * interval '1 s', '2026-03-04 10:00', '2026-03-03 18:00', '2026-03-03 18:00', 'met', 1
	FROM generate_series(1, 100001) i;
SET LOCAL client_min_messages = notice;
CALL regcrm.refresh_marts();
SET LOCAL client_min_messages = warning;
SELECT * FROM pg_temp.state();
SELECT differences FROM pg_temp.differ();
CALL regcrm.refresh_marts(1000) \gset
SELECT * FROM pg_temp.state();
SELECT differences FROM pg_temp.differ();
ROLLBACK;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgname LIKE 'regcrm_mart%';
-- Else it counts at once, as many days as it may.
CALL regcrm.refresh_marts(3);
SELECT * FROM pg_temp.differ();
SELECT notes, summed, from_first_day, to_today FROM pg_temp.state();
DO $$
DECLARE
	n bigint;
BEGIN
	LOOP
		CALL regcrm.refresh_marts(200, n);
		EXIT WHEN n = 0;
	END LOOP;
END
$$;
SELECT * FROM pg_temp.state();
SELECT * FROM pg_temp.differ();
-- What runs is in no sum, and counted.
SELECT sum(pending) > 0 AS runs FROM regcrm.duty_counts WHERE account_id = 9080;
SELECT count(*) AS sums_of_what_runs FROM regcrm.mart_duty WHERE account_id = 9080 AND rule = 'DEC-4';
-- The sums are read: with one of them spoilt, the view says so.
BEGIN;
UPDATE regcrm.mart_duty SET met = met + 100 WHERE account_id = 9080 AND rule = 'NEW-1' AND met > 0;
SELECT differences > 0 AS spoilt FROM pg_temp.differ();
ROLLBACK;

-- Each kind of write: a fact that comes late and withdraws a breach, a deal that is new, one that is deleted, a waiver, a duty that ends.
INSERT INTO regcrm.event (account_id, deal_id, at, kind, actor_id) SELECT 9080, 3, created_at + interval '2 min', 'call_out', 2 FROM regcrm.deal WHERE account_id = 9080 AND id = 3;
SELECT * FROM pg_temp.differ();
SELECT notes FROM pg_temp.state();
CALL regcrm.refresh_marts();
SELECT notes FROM pg_temp.state();
SELECT * FROM pg_temp.differ();
-- ten more days at the other end
INSERT INTO regcrm.deal (account_id, id, name, stage, manager_id, created_at) VALUES (9080, 70, 'до всех', 'new', 1, '2026-02-20 10:00');
SELECT * FROM pg_temp.differ();
CALL regcrm.refresh_marts();
SELECT from_first_day FROM pg_temp.state();
SELECT * FROM pg_temp.differ();
UPDATE regcrm.deal SET is_deleted = true, deleted_at = created_at + interval '5 min' WHERE account_id = 9080 AND id = 9;
SELECT * FROM pg_temp.differ();
CALL regcrm.refresh_marts();
SELECT * FROM pg_temp.differ();
UPDATE regcrm.task SET completed_at = '2026-03-06 10:00' WHERE account_id = 9080;
SELECT * FROM pg_temp.differ();
CALL regcrm.refresh_marts();
SELECT * FROM pg_temp.differ();
UPDATE regcrm.rule SET severity = 'info' WHERE regulation = 'idrive' AND code = 'NEW-1';
SELECT FROM regcrm.rejudge();
SELECT * FROM pg_temp.differ();
CALL regcrm.refresh_marts();
SELECT * FROM pg_temp.differ();
UPDATE regcrm.rule SET severity = 'critical' WHERE regulation = 'idrive' AND code = 'NEW-1';
SELECT FROM regcrm.rejudge();

-- Who may waive needs no rights on the marts.
CREATE ROLE regress_regcrm_head;
GRANT USAGE ON SCHEMA regcrm TO regress_regcrm_head;
GRANT EXECUTE ON FUNCTION regcrm.waive(bigint, bigint, text) TO regress_regcrm_head;
SELECT min(id) AS violation FROM regcrm.violation WHERE account_id = 9080 AND rule = 'NEW-1' AND withdrawn_at IS NULL \gset
CALL regcrm.refresh_marts();
SET ROLE regress_regcrm_head;
SELECT FROM regcrm.waive(9080, :violation, 'клиент просил');
CALL regcrm.refresh_marts();	-- should fail
SELECT regcrm.stop_marts();	-- should fail
RESET ROLE;
SELECT notes FROM pg_temp.state();
SELECT * FROM pg_temp.differ();
CALL regcrm.refresh_marts();
SELECT * FROM pg_temp.differ();
DROP OWNED BY regress_regcrm_head;
DROP ROLE regress_regcrm_head;

-- A rollback takes its note along; nothing is counted where nothing was written.
BEGIN;
SET LOCAL regcrm.mode = 'off';
DELETE FROM regcrm.violation WHERE account_id = 9080;
SELECT differences FROM pg_temp.differ();
ROLLBACK;
CALL regcrm.refresh_marts();

-- Another zone cuts other days: the sums no longer count, then are made anew.
UPDATE regcrm.account SET time_zone = 'Asia/Kathmandu' WHERE id = 9080;
SELECT * FROM pg_temp.differ();
CALL regcrm.refresh_marts(1000) \gset
SELECT * FROM pg_temp.state();
SELECT * FROM pg_temp.differ();
-- Its hours begin at a quarter to: an hour of UTC reaches into two days.
INSERT INTO regcrm.deal (account_id, id, name, stage, manager_id, created_at) VALUES (9080, 80, 'около полуночи', 'new', 1, '2026-03-05 18:14:59+00'),
	(9080, 81, 'около полуночи', 'new', 1, '2026-03-05 18:15:00+00'), (9080, 82, 'около полуночи', 'new', 1, '2026-03-05 18:59:00+00');
SELECT * FROM pg_temp.differ();
CALL regcrm.refresh_marts();
SELECT * FROM pg_temp.differ();
UPDATE regcrm.account SET time_zone = 'Europe/Moscow' WHERE id = 9080;
CALL regcrm.refresh_marts(1000) \gset
SELECT * FROM pg_temp.differ();

-- A few notes at a time: the rest stay.
INSERT INTO regcrm.event (account_id, deal_id, at, kind, actor_id) SELECT 9080, id, created_at + interval '1 min', 'call_out', 1 FROM regcrm.deal WHERE account_id = 9080 AND id IN (6, 30, 45);
CALL regcrm.refresh_marts(1);
SELECT notes FROM pg_temp.state();
SELECT * FROM pg_temp.differ();
CALL regcrm.refresh_marts();
SELECT notes FROM pg_temp.state();
SELECT * FROM pg_temp.differ();
CALL regcrm.refresh_marts(0);	-- should fail

-- What the scorecards say is the same with marts and without.
CREATE TEMP TABLE with_marts AS SELECT account_id, day, manager_id, arisen, met, late, missed, waived, cancelled, pending, waiting, breaches_at_once, violations, critical FROM regcrm.manager_scorecard;
CREATE TEMP TABLE rules_with_marts AS SELECT * FROM regcrm.rule_compliance;
SELECT regcrm.stop_marts();
SELECT * FROM pg_temp.state();
SELECT count(*) AS triggers FROM pg_trigger WHERE tgname LIKE 'regcrm_mart%';
SELECT count(*) FROM (TABLE with_marts EXCEPT SELECT account_id, day, manager_id, arisen, met, late, missed, waived, cancelled, pending, waiting, breaches_at_once, violations, critical FROM regcrm.manager_scorecard) x;
SELECT count(*) FROM (TABLE rules_with_marts EXCEPT TABLE regcrm.rule_compliance) x;

-- detach() takes the triggers; what is written meanwhile is not noted, so the sums begin anew.
CALL regcrm.refresh_marts(1000) \gset
SELECT summed FROM pg_temp.state();
SELECT regcrm.detach();
DELETE FROM regcrm.violation WHERE account_id = 9080 AND rule = 'NEW-9';
SELECT regcrm.setup();
SELECT * FROM pg_temp.state();
SELECT * FROM pg_temp.differ();
CALL regcrm.refresh_marts(1000) \gset
SELECT * FROM pg_temp.differ();

-- A table that was emptied has no sums.
SET regcrm.mode = 'off';
TRUNCATE regcrm.deadline;
SELECT * FROM pg_temp.state();
SELECT * FROM pg_temp.differ();
