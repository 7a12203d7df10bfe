-- Mode record: facts written by SQL reach the ledger in the same transaction,
-- the columns of deals follow the events, and nothing is refused.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT regcrm.setup();
RESET client_min_messages;
SET TimeZone = 'Europe/Moscow';
SET DateStyle = 'ISO, DMY';
SET IntervalStyle = 'postgres';
\set VERBOSITY terse
BEGIN;

INSERT INTO regcrm.account (id, name) VALUES (71, 'record');
SET LOCAL regcrm.account_id = '71';
INSERT INTO regcrm.manager (id, name, in_scope) VALUES (1, 'Анна', true), (2, 'Борис', true), (3, 'Бухгалтер', false);
SET LOCAL regcrm.mode = 'record';

CREATE TEMP VIEW shown_events AS
	SELECT deal_id, at, kind, from_stage, to_stage, field, value, value_before, actor_id, source
	FROM regcrm.event WHERE account_id = 71 ORDER BY deal_id, at, id;
CREATE TEMP VIEW shown AS
	SELECT deal_id, rule, stage, arose_at::time AS arose, breached_at::time AS breached, resolved_at::time AS resolved, resolution,
		manager_id AS manager, withdrawn_at IS NOT NULL AS withdrawn
	FROM regcrm.violation WHERE account_id = 71 ORDER BY deal_id, rule, arose_at;
CREATE TEMP VIEW shown_deadlines AS
	SELECT deal_id, rule, arose_at::time AS arose, due_at::time AS due, met_at::time AS met, state, manager_id AS manager
	FROM regcrm.deadline WHERE account_id = 71 ORDER BY deal_id, rule, arose_at;

-- ---------------------------------------------------------------------------
-- Columns of an inserted deal are its state at created_at

INSERT INTO regcrm.deal (id, stage, manager_id, created_at, lead_date, reason, meeting_at, skip_task_check)
	VALUES (1, 'new', 1, '2024-03-04 10:00', '2024-03-04', '', '2024-03-05 12:00+05', false);
SELECT * FROM shown_events;
-- judged at the end of the transaction, not before
SELECT count(*) AS nothing_yet FROM shown;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT * FROM shown;
SELECT * FROM shown_deadlines;
SET CONSTRAINTS ALL DEFERRED;

-- ---------------------------------------------------------------------------
-- Late facts: met, late, resolved, withdrawn, standing again

INSERT INTO regcrm.event (id, at, deal_id, kind, answered) VALUES (11, '2024-03-04 10:20', 1, 'call_out', true);
SET CONSTRAINTS ALL IMMEDIATE;
SELECT rule, breached, resolved, resolution, withdrawn FROM shown WHERE rule = 'NEW-1';
SELECT rule, due, met, state FROM shown_deadlines WHERE rule = 'NEW-1';
UPDATE regcrm.event SET at = '2024-03-04 10:10' WHERE account_id = 71 AND id = 11;
SELECT rule, breached, resolved, resolution, withdrawn FROM shown WHERE rule = 'NEW-1';
SELECT rule, due, met, state FROM shown_deadlines WHERE rule = 'NEW-1';
SELECT id AS violation FROM regcrm.violation WHERE account_id = 71 AND rule = 'NEW-1' \gset
SELECT regcrm.waive(71, :violation, 'телефония не работала');
DELETE FROM regcrm.event WHERE account_id = 71 AND id = 11;
SELECT id = :violation AS same_row, withdrawn_at, resolved_at, waive_reason FROM regcrm.violation WHERE account_id = 71 AND rule = 'NEW-1';

-- a task closes the gap, and its end opens another
INSERT INTO regcrm.task (id, deal_id, kind, manager_id, created_at, due_at, completed_at)
	VALUES (1, 1, 'callback', 1, '2024-03-04 11:00', '2024-03-04 12:00', '2024-03-04 12:00');
SELECT rule, arose, breached, resolved, resolution FROM shown WHERE rule = 'NEW-4';
DELETE FROM regcrm.task WHERE account_id = 71;
SELECT rule, arose, breached, resolved, resolution, withdrawn FROM shown WHERE rule = 'NEW-4';
SET CONSTRAINTS ALL DEFERRED;

-- ---------------------------------------------------------------------------
-- Columns follow events, whatever the order in which they come

INSERT INTO regcrm.event (id, deal_id, at, kind, from_stage, to_stage, field, value) VALUES
	(26, 2, '2024-03-04 12:00', 'stage', 'in_work', 'meeting', NULL, NULL),
	(25, 2, '2024-03-04 11:00', 'stage', 'new', 'in_work', NULL, NULL),
	(24, 2, '2024-03-04 11:30', 'field', NULL, NULL, 'meeting_at', '06.03.2024 15:00'),
	(23, 2, '2024-03-04 11:20', 'field', NULL, NULL, 'meeting_at', '2024-03-05T15:00:00+03:00'),
	(22, 2, '2024-03-04 11:20', 'field', NULL, NULL, 'return_on', '2024-04-01'),
	(21, 2, '2024-03-04 11:20', 'responsible', NULL, NULL, NULL, '2');
SELECT count(*) AS no_deal_yet FROM regcrm.deal WHERE account_id = 71 AND id = 2;
INSERT INTO regcrm.deal (id, stage, manager_id, created_at, reason) VALUES (2, 'new', 1, '2024-03-04 10:00', 'было');
SELECT stage, manager_id, meeting_at, return_on, reason FROM regcrm.deal WHERE account_id = 71 AND id = 2;
-- an older fact changes nothing; the same instant: the one of the greater id; null empties
INSERT INTO regcrm.event (id, deal_id, at, kind, field, value) VALUES (31, 2, '2024-03-04 10:30', 'field', 'meeting_at', '2024-03-01');
INSERT INTO regcrm.event (id, deal_id, at, kind, field, value) VALUES
	(29, 2, '2024-03-04 11:30', 'field', 'reason', 'x'), (28, 2, '2024-03-04 11:30', 'field', 'reason', 'y');
INSERT INTO regcrm.event (id, deal_id, at, kind, field, value) VALUES (30, 2, '2024-03-04 11:40', 'field', 'return_on', NULL);
-- a moment that cannot be read is kept in the event, the column stays empty
INSERT INTO regcrm.event (id, deal_id, at, kind, field, value) VALUES (32, 2, '2024-03-04 11:40', 'field', 'signed_at', 'завтра');
SELECT stage, manager_id, meeting_at, return_on, reason, signed_at FROM regcrm.deal WHERE account_id = 71 AND id = 2;
-- moves of one instant are chained by from_stage
INSERT INTO regcrm.event (id, deal_id, at, kind, from_stage, to_stage) VALUES
	(33, 2, '2024-03-04 13:00', 'stage', 'contract', 'deciding'), (34, 2, '2024-03-04 13:00', 'stage', 'meeting', 'contract');
SELECT stage FROM regcrm.deal WHERE account_id = 71 AND id = 2;
-- following appended nothing but who was responsible at first
SELECT * FROM shown_events WHERE deal_id = 2 AND source = 'regcrm';
SET CONSTRAINTS ALL IMMEDIATE;
SELECT rule, stage, breached, resolved, resolution, manager FROM shown WHERE deal_id = 2 AND NOT withdrawn;
SET CONSTRAINTS ALL DEFERRED;

-- ---------------------------------------------------------------------------
-- Changes of columns append; what a loaded event tells better gives way

UPDATE regcrm.deal SET stage = 'in_work', manager_id = 2, reason = 'дорого', lead_date = NULL WHERE account_id = 71 AND id = 1;
SELECT kind, at = now() AS now, from_stage, to_stage, field, value, value_before FROM shown_events WHERE deal_id = 1;
UPDATE regcrm.deal SET name = 'no field', stage = 'in_work' WHERE account_id = 71 AND id = 1;
SELECT count(*) FROM shown_events WHERE deal_id = 1;
-- the beginning, and the move itself, as the CRM tells them
INSERT INTO regcrm.event (id, deal_id, at, kind, from_stage, to_stage, source, source_id) VALUES
	(41, 1, '2024-03-04 10:00', 'stage', NULL, 'new', 'crm', 'a'),
	(42, 1, '2024-03-04 14:00', 'stage', 'new', 'in_work', 'crm', 'b'),
	(43, 1, '2024-03-04 15:00', 'stage', 'in_work', 'lost', 'crm', 'c');
SELECT kind, at = now() AS now, from_stage, to_stage, field, value, source FROM shown_events WHERE deal_id = 1 AND kind = 'stage';
SELECT stage FROM regcrm.deal WHERE account_id = 71 AND id = 1;
-- a move by someone who knew what was loaded is a move
UPDATE regcrm.deal SET stage = 'in_work' WHERE account_id = 71 AND id = 1;
SELECT stage FROM regcrm.deal WHERE account_id = 71 AND id = 1;
-- loaded before the deal: nothing is appended for it
INSERT INTO regcrm.event (id, deal_id, at, kind, to_stage, field, value) VALUES
	(51, 5, '2024-03-04 09:59', 'stage', 'new', NULL, NULL), (52, 5, '2024-03-04 10:00', 'field', NULL, 'reason', 'a');
INSERT INTO regcrm.deal (id, stage, created_at, reason, pause_reason) VALUES (5, 'in_work', '2024-03-04 10:00', 'b', 'c');
SELECT stage, reason, pause_reason FROM regcrm.deal WHERE account_id = 71 AND id = 5;
SELECT kind, field, value, source FROM shown_events WHERE deal_id = 5;
-- the creation is moved: so is what it was created with
INSERT INTO regcrm.deal (id, stage) VALUES (6, 'new');
UPDATE regcrm.deal SET created_at = '2024-03-04 10:00' WHERE account_id = 71 AND id = 6;
SELECT at, kind, to_stage FROM shown_events WHERE deal_id = 6;

-- ---------------------------------------------------------------------------
-- Ways to write: ON CONFLICT, COPY, savepoints, nothing at all

INSERT INTO regcrm.deal (id, stage, created_at) VALUES (1, 'new', now()), (7, 'lost', '2024-03-04 10:00')
	ON CONFLICT (account_id, id) DO UPDATE SET reason = 'upsert';
COPY regcrm.event (id, deal_id, at, kind) FROM stdin;
71	7	2024-03-04 12:00	call_out
72	7	2024-03-04 12:01	call_out
\.
SELECT deal_id, kind, field, value, value_before FROM shown_events WHERE deal_id = 1 AND value = 'upsert' OR deal_id = 7;
SAVEPOINT s;
INSERT INTO regcrm.event (id, deal_id, at, kind) VALUES (73, 7, '2024-03-04 13:00', 'message_in');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT rule, breached, withdrawn FROM shown WHERE deal_id = 7 AND rule = 'LOST-3';
ROLLBACK TO s;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT rule, breached, withdrawn FROM shown WHERE deal_id = 7 AND rule = 'LOST-3';
INSERT INTO regcrm.event (deal_id, kind) SELECT 7, 'comment' WHERE false;
UPDATE regcrm.deal SET stage = 'won' WHERE account_id = 71 AND id = 12345;
SET CONSTRAINTS ALL DEFERRED;
-- a deal that is deleted is judged no more; what was found stays
DELETE FROM regcrm.deal WHERE account_id = 71 AND id = 7;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT rule, breached, withdrawn FROM shown WHERE deal_id = 7 AND rule = 'LOST-3';
SELECT count(*) AS running FROM shown_deadlines WHERE deal_id = 7 AND state IN ('pending', 'warned');
SET CONSTRAINTS ALL DEFERRED;
SAVEPOINT t;
TRUNCATE regcrm.task;	-- fails
ROLLBACK TO t;

-- ---------------------------------------------------------------------------
-- Mode off: rows as they are, until rejudge() sets everything right

SET LOCAL regcrm.mode = 'off';
INSERT INTO regcrm.deal (id, stage, manager_id, created_at) VALUES (8, 'won', 1, '2024-03-04 10:00');
INSERT INTO regcrm.event (id, deal_id, at, kind, from_stage, to_stage, field, value) VALUES
	(81, 8, '2024-03-04 11:00', 'stage', 'new', 'in_work', NULL, NULL), (82, 8, '2024-03-04 11:00', 'field', NULL, NULL, 'reason', 'x');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT count(*) AS unjudged FROM shown WHERE deal_id = 8;
SELECT stage, reason FROM regcrm.deal WHERE account_id = 71 AND id = 8;
SELECT deals, changed, violations_new > 0 AS found, violations_changed, violations_withdrawn FROM regcrm.rejudge(71);
SELECT stage, reason FROM regcrm.deal WHERE account_id = 71 AND id = 8;
SELECT rule, stage, breached FROM shown WHERE deal_id = 8 AND rule LIKE 'WRK-1%';
SELECT count(*) AS appended FROM shown_events WHERE deal_id = 8 AND source = 'regcrm';
SELECT * FROM regcrm.rejudge(71);
SELECT regcrm.rejudge(72);	-- fails
ROLLBACK TO t;

-- ---------------------------------------------------------------------------
-- The ledger is what judge says; judge says it in any session

CREATE FUNCTION pg_temp.differences() RETURNS TABLE (side text, finding text) LANGUAGE sql AS $$
	WITH stored AS (SELECT deal_id, rule, task_id, arose_at, breached_at, resolved_at, resolution FROM regcrm.violation
			WHERE account_id = 71 AND withdrawn_at IS NULL AND deal_id <> 7),
		found AS (SELECT d.id, j.rule, j.task_id, j.arose_at, j.breached_at, j.resolved_at, j.resolution
			FROM regcrm.deal d CROSS JOIN LATERAL regcrm.judge(71, d.id) j WHERE d.account_id = 71 AND j.breached_at IS NOT NULL)
	SELECT 'stored', s::text FROM (SELECT * FROM stored EXCEPT SELECT * FROM found) s
	UNION ALL SELECT 'found', s::text FROM (SELECT * FROM found EXCEPT SELECT * FROM stored) s
$$;
SELECT * FROM pg_temp.differences();
SET TimeZone = 'America/New_York';
SET DateStyle = 'SQL, MDY';
SET search_path = pg_temp;
SELECT * FROM pg_temp.differences();
SELECT deals, changed FROM regcrm.rejudge(71);
RESET search_path;
SET TimeZone = 'Europe/Moscow';
SET DateStyle = 'ISO, DMY';
SET IntervalStyle = 'postgres';
SELECT rule, stage, state, resolution, evidence FROM regcrm.judge(71, 2) WHERE rule IN ('FLOW', 'WRK-1') ORDER BY 1, arose_at;
SAVEPOINT t;
SELECT * FROM regcrm.judge(71, 99);	-- fails
ROLLBACK TO t;
SELECT * FROM regcrm.judge(72, 1);	-- fails
ROLLBACK TO t;
SELECT * FROM regcrm.judge(NULL, 1);	-- fails
ROLLBACK TO t;
-- nothing has happened yet
SELECT * FROM regcrm.judge(71, 1, '2024-03-04 09:59');
SELECT rule, state FROM regcrm.judge(71, 1, '2024-03-04 10:05') ORDER BY 1;

-- ---------------------------------------------------------------------------
-- The clock: deadlines, warnings, and moments that no deadline tells of

INSERT INTO regcrm.deal (id, stage, manager_id, created_at, meeting_at) VALUES (9, 'meeting', 1, now(), now() + interval '5 hours');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT rule, state, due_at - now() AS due FROM regcrm.deadline WHERE account_id = 71 AND deal_id = 9 ORDER BY 1;
SELECT at - now() AS next_moment FROM regcrm.next_moment WHERE account_id = 71 AND deal_id = 9;
SELECT regcrm.flag_expired(now()) AS flagged;
SELECT regcrm.flag_expired(now() + interval '10 minutes') AS flagged;
SELECT rule, state, due_at - now() AS due FROM regcrm.deadline WHERE account_id = 71 AND deal_id = 9 ORDER BY 1;
SELECT regcrm.flag_expired(now() + interval '5 hours') AS flagged;
-- the meeting has come, and a duty has arisen that nobody wrote a fact for
SELECT rule, state, due_at - now() AS due FROM regcrm.deadline WHERE account_id = 71 AND deal_id = 9 AND rule = 'MEET-5';
SELECT count(*) AS moments FROM regcrm.next_moment WHERE account_id = 71 AND deal_id = 9;
SELECT regcrm.flag_expired(now() + interval '14 hours') AS flagged;
SELECT regcrm.flag_expired(now() + interval '14 hours') AS flagged;
-- a fact dated ahead counts when its time has come
SET CONSTRAINTS ALL DEFERRED;
INSERT INTO regcrm.deal (id, stage, created_at) VALUES (10, 'new', now());
INSERT INTO regcrm.event (id, deal_id, at, kind, to_stage) VALUES (101, 10, now() + interval '1 minute', 'stage', 'won');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT count(*) AS moved FROM shown WHERE deal_id = 10 AND rule = 'FLOW';
SELECT regcrm.flag_expired(now() + interval '2 minutes') > 0 AS flagged;
SELECT count(*) AS moved FROM shown WHERE deal_id = 10 AND rule = 'FLOW';
SET CONSTRAINTS ALL DEFERRED;

-- ---------------------------------------------------------------------------
-- A synced account is judged as of what is known

UPDATE regcrm.account SET known_until = '2024-03-04 10:10' WHERE id = 71;
INSERT INTO regcrm.deal (id, stage, manager_id, created_at) VALUES (20, 'new', 1, '2024-03-04 10:00');
INSERT INTO regcrm.event (id, deal_id, at, kind, from_stage, to_stage) VALUES (201, 20, '2024-03-04 10:30', 'stage', 'new', 'won');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT rule, due, state FROM shown_deadlines WHERE deal_id = 20;
SELECT rule, breached FROM shown WHERE deal_id = 20;
UPDATE regcrm.account SET known_until = '2024-03-04 10:20' WHERE id = 71;
SELECT deals > 0 AS judged FROM regcrm.account_advanced(71, '2024-03-04 10:10', '2024-03-04 10:20');
SELECT rule, breached FROM shown WHERE deal_id = 20;
UPDATE regcrm.account SET known_until = '2024-03-04 10:30' WHERE id = 71;
SELECT deals > 0 AS judged FROM regcrm.account_advanced(71, '2024-03-04 10:20', '2024-03-04 10:30');
SELECT rule, breached FROM shown WHERE deal_id = 20;
-- the columns show what no event does: it is so since updated_at
UPDATE regcrm.account SET known_until = '2024-03-04 12:00' WHERE id = 71;
SET LOCAL regcrm.mode = 'off';
UPDATE regcrm.deal SET stage = 'deferred', reason = 'дорого', updated_at = '2024-03-04 11:00' WHERE account_id = 71 AND id = 20;
SELECT rule, stage, arose_at::time AS arose, state FROM regcrm.judge(71, 20) WHERE stage = 'deferred' ORDER BY 1;
SELECT deals, changed FROM regcrm.judge_deals(71, '{20,20,NULL,999}');
-- and rejudge() leaves amoCRM's columns alone
SELECT deals > 0 AS judged FROM regcrm.rejudge(71);
SELECT stage FROM regcrm.deal WHERE account_id = 71 AND id = 20;
SET LOCAL regcrm.mode = 'record';
SET CONSTRAINTS ALL DEFERRED;
UPDATE regcrm.account SET known_until = NULL WHERE id = 71;
SELECT deals > 0 AS judged FROM regcrm.rejudge(71);

-- ---------------------------------------------------------------------------
-- Tables that were changed, hidden rows, rules that cannot be read

ALTER TABLE regcrm.deal DROP COLUMN tags;
ALTER TABLE regcrm.deal ADD COLUMN stage2 text;
ALTER TABLE regcrm.event ADD COLUMN shift integer;
INSERT INTO regcrm.deal (id, stage, created_at) VALUES (30, 'new', '2024-03-04 10:00');
UPDATE regcrm.deal SET stage = 'lost' WHERE account_id = 71 AND id = 30;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT kind, from_stage, to_stage FROM shown_events WHERE deal_id = 30;
SELECT rule, breached FROM shown WHERE deal_id = 30 AND rule LIKE 'NEW-%';
SET CONSTRAINTS ALL DEFERRED;

-- row security of the writer hides no fact from the judge
CREATE ROLE regress_regcrm_writer;
GRANT USAGE ON SCHEMA regcrm TO regress_regcrm_writer;
GRANT SELECT, INSERT, UPDATE ON regcrm.deal, regcrm.event, regcrm.task TO regress_regcrm_writer;
ALTER TABLE regcrm.event ENABLE ROW LEVEL SECURITY;
CREATE POLICY writes ON regcrm.event FOR INSERT TO regress_regcrm_writer WITH CHECK (true);
INSERT INTO regcrm.deal (id, stage, created_at) VALUES (31, 'new', '2024-03-04 10:00');
SET LOCAL ROLE regress_regcrm_writer;
INSERT INTO regcrm.event (account_id, id, deal_id, at, kind, answered) VALUES (71, 311, 31, '2024-03-04 10:10', 'call_out', true);
SELECT count(*) AS seen FROM regcrm.event;
SET CONSTRAINTS ALL IMMEDIATE;
RESET ROLE;
SELECT rule, met, state FROM shown_deadlines WHERE deal_id = 31 AND rule = 'NEW-1';
SET CONSTRAINTS ALL DEFERRED;

-- a regulation that cannot be read costs findings, not facts
SAVEPOINT t;
ALTER TABLE regcrm.rule DISABLE TRIGGER USER;
UPDATE regcrm.rule SET expect = '{toch}' WHERE regulation = 'idrive' AND code = 'NEW-1';
ALTER TABLE regcrm.rule ENABLE TRIGGER USER;
INSERT INTO regcrm.deal (id, stage, created_at) VALUES (32, 'new', '2024-03-04 10:00');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT stage FROM regcrm.deal WHERE account_id = 71 AND id = 32;
SELECT regcrm.rejudge(71);	-- fails
ROLLBACK TO t;

-- what was cached from rules that never came to be is forgotten
UPDATE regcrm.rule SET within = '1 minute' WHERE regulation = 'idrive' AND code = 'NEW-1';
SELECT due_at::time FROM regcrm.judge(71, 31) WHERE rule = 'NEW-1';
ROLLBACK TO t;
SELECT due_at::time FROM regcrm.judge(71, 31) WHERE rule = 'NEW-1';

ROLLBACK;
