-- What another regulation would have found: nothing is stored, nothing changes.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT regcrm.setup();
RESET client_min_messages;
SET TimeZone = 'Europe/Moscow';
SET DateStyle = 'ISO, DMY';
\set VERBOSITY terse
BEGIN;
INSERT INTO regcrm.account (id, name) VALUES (72, 'replay');
INSERT INTO regcrm.manager (account_id, id, name) VALUES (72, 1, 'Анна');
SET LOCAL regcrm.account_id = '72';
SET LOCAL regcrm.mode = 'record';
INSERT INTO regcrm.deal (id, stage, manager_id, created_at) VALUES (1, 'new', 1, '2024-03-04 10:00');
INSERT INTO regcrm.event (deal_id, at, kind, actor_id, answered) VALUES (1, '2024-03-04 10:12', 'call_out', 1, false);
SET CONSTRAINTS ALL IMMEDIATE;

-- first contact within ten minutes instead of fifteen
SELECT regcrm.copy_regulation('idrive', 'strict', 'Строже');
UPDATE regcrm.rule SET within = '10 min', warn = '7 min' WHERE regulation = 'strict' AND code = 'NEW-1';
SELECT r.regulation, p.deal_id, p.manager_id, p.rule, p.state, p.due_at::time AS due, p.met_at::time AS met, p.breached_at::time AS breached, p.resolution
	FROM (VALUES ('idrive'), ('strict')) r(regulation), regcrm.replay(72, r.regulation) p
	WHERE p.rule = 'NEW-1' ORDER BY 1;
-- as of a moment before it was due
SELECT p.state, p.warn_at::time AS warn FROM regcrm.replay(72, 'strict', '2024-03-04 10:06') p WHERE p.rule = 'NEW-1';
-- under its own regulation it finds what judge() finds
SELECT count(*) AS differing FROM (
	(SELECT p.rule, p.task_id, p.arose_at, p.breached_at, p.state FROM regcrm.replay(72, 'idrive') p EXCEPT
		SELECT j.rule, j.task_id, j.arose_at, j.breached_at, j.state FROM regcrm.judge(72, 1) j)
	UNION ALL
	(SELECT j.rule, j.task_id, j.arose_at, j.breached_at, j.state FROM regcrm.judge(72, 1) j EXCEPT
		SELECT p.rule, p.task_id, p.arose_at, p.breached_at, p.state FROM regcrm.replay(72, 'idrive') p)) d;
-- nothing of it is stored
SELECT count(*) AS stored FROM regcrm.violation WHERE account_id = 72 AND rule = 'NEW-1';
-- the copy has everything
SELECT (SELECT count(*) FROM regcrm.rule WHERE regulation = 'strict') = (SELECT count(*) FROM regcrm.rule WHERE regulation = 'idrive') AS rules,
	(SELECT count(*) FROM regcrm.transition WHERE regulation = 'strict') = (SELECT count(*) FROM regcrm.transition WHERE regulation = 'idrive') AS moves,
	(SELECT count(*) FROM regcrm.scenario WHERE regulation = 'strict') = (SELECT count(*) FROM regcrm.scenario WHERE regulation = 'idrive') AS scenarios,
	(SELECT count(*) FROM regcrm.effect WHERE regulation = 'strict') = (SELECT count(*) FROM regcrm.effect WHERE regulation = 'idrive') AS effects;

SAVEPOINT s;
SELECT * FROM regcrm.replay(72, 'nope');	-- fails
ROLLBACK TO s;
SELECT * FROM regcrm.replay(7200, 'idrive');	-- fails
ROLLBACK TO s;
SELECT * FROM regcrm.replay(72, NULL);	-- fails
ROLLBACK TO s;
SELECT regcrm.copy_regulation('idrive', 'strict');	-- fails: taken
ROLLBACK TO s;
SELECT regcrm.copy_regulation('nope', 'other');	-- fails: there is none
ROLLBACK;
