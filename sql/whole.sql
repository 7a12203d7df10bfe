-- rejudge() of a large account: by several processes, by one, by none that may
-- be had, it finds the same, and what the same transaction wrote counts.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT FROM regcrm.setup();
SET regcrm.mode = 'off';
INSERT INTO regcrm.account (id, name, calendar) VALUES (81, 'large', 'daily-9-20');
INSERT INTO regcrm.deal (account_id, id, stage, created_at)
	SELECT 81, 7 * n, CASE WHEN n % 3 = 0 THEN 'lost' ELSE 'new' END::regcrm.stage, timestamptz '2026-03-02 10:00+03' + n * interval '1 minute'
	FROM generate_series(1, 4200) n;
INSERT INTO regcrm.event (account_id, deal_id, at, kind, from_stage, to_stage)
	SELECT 81, 7 * n, timestamptz '2026-03-02 10:00+03' + n * interval '1 minute', 'stage', NULL, 'new' FROM generate_series(1, 4200) n
	UNION ALL
	SELECT 81, 7 * n, timestamptz '2026-03-02 11:00+03' + n * interval '1 minute', 'stage', 'new', 'lost' FROM generate_series(3, 4200, 3) n;
INSERT INTO regcrm.event (account_id, deal_id, at, kind, answered)
	SELECT 81, 7 * n, timestamptz '2026-03-02 10:09+03' + n * interval '1 minute', 'call_out', n % 2 = 0 FROM generate_series(5, 4200, 5) n;

CREATE FUNCTION pg_temp.found() RETURNS TABLE (deadlines bigint, violations bigint, digest bigint)
	LANGUAGE sql AS $$
	SELECT (SELECT count(*) FROM regcrm.deadline WHERE account_id = 81),
		(SELECT count(*) FROM regcrm.violation WHERE account_id = 81 AND withdrawn_at IS NULL),
		(SELECT sum(hashtext((f.deal_id, f.rule, f.arose_at, f.due_at, f.state)::text)) FROM regcrm.deadline f WHERE account_id = 81)
		+ (SELECT sum(hashtext((f.deal_id, f.rule, f.arose_at, f.breached_at, f.evidence)::text)) FROM regcrm.violation f WHERE account_id = 81 AND withdrawn_at IS NULL)
$$;

-- the first time, every deal differs
SET max_parallel_maintenance_workers = 2;
BEGIN;
SET LOCAL max_parallel_maintenance_workers = 0;
SELECT deals, changed, violations_new > 4200 AS found FROM regcrm.rejudge(81);
SELECT deadlines > 4200 AS deadlines, violations > 4200 AS violations FROM pg_temp.found();
CREATE TEMP TABLE by_one AS SELECT * FROM pg_temp.found();
COMMIT;
SELECT deals, changed FROM regcrm.rejudge(81);	-- nothing differs
BEGIN;
DELETE FROM regcrm.violation WHERE account_id = 81;
DELETE FROM regcrm.deadline WHERE account_id = 81;
SELECT deals, changed FROM regcrm.rejudge(81);
SELECT count(*) FROM (SELECT * FROM pg_temp.found() EXCEPT SELECT * FROM by_one) d;
ROLLBACK;

-- some deals differ, in every chunk and at the ends; written by this transaction, one of them in a subtransaction
BEGIN;
UPDATE regcrm.deadline SET state = 'met', met_at = arose_at, ended_at = arose_at WHERE account_id = 81 AND deal_id IN (7, 7007, 7 * 1024, 7 * 1025, 28000);
SAVEPOINT s;
UPDATE regcrm.violation SET severity = 'info' WHERE account_id = 81 AND deal_id = 29400;
SELECT deals, changed FROM regcrm.rejudge(81);
SELECT count(*) FROM (SELECT * FROM pg_temp.found() EXCEPT SELECT * FROM by_one) d;
COMMIT;

-- another snapshot's level
BEGIN ISOLATION LEVEL SERIALIZABLE;
DELETE FROM regcrm.event WHERE account_id = 81 AND deal_id = 35 AND kind = 'call_out';
SELECT deals, changed FROM regcrm.rejudge(81);
ROLLBACK;

-- no worker is to be had
SET max_parallel_workers = 0;
SELECT deals, changed FROM regcrm.rejudge(81);
RESET max_parallel_workers;

-- cancelled in the middle, it leaves nothing behind
SET statement_timeout = '1ms';
SELECT regcrm.rejudge(81);	-- fails
RESET statement_timeout;
SELECT deals, changed FROM regcrm.rejudge(81);

-- who may not read the facts may judge, where that was granted, as the owner of the tables
CREATE ROLE regress_rejudger;
GRANT USAGE ON SCHEMA regcrm TO regress_rejudger;
GRANT EXECUTE ON FUNCTION regcrm.rejudge(bigint) TO regress_rejudger;
SET ROLE regress_rejudger;
SELECT deals, changed FROM regcrm.rejudge(81);
RESET ROLE;
DROP OWNED BY regress_rejudger;
DROP ROLE regress_rejudger;
