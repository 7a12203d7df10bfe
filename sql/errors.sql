-- Errors that are hard to meet: trigger functions called in other ways than
-- setup() makes them, refusals of many deals and in stages unknown, and which
-- errors of the judging cost a write.  All is rolled back at the end.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT FROM regcrm.setup();
\set VERBOSITY terse
\pset tuples_only on
\pset format unaligned

-- No trigger, or one of another kind: an error each, never a crash
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT p.proname FROM pg_catalog.pg_proc p
		WHERE p.probin IS NOT NULL AND p.pronamespace = 'regcrm'::regnamespace AND p.prorettype = 'trigger'::regtype
		-- those that go on in PL/pgSQL, as the owner, are what PL/pgSQL makes of it
		AND pg_catalog.to_regproc('regcrm.' || p.proname || '_by_owner') IS NULL ORDER BY 1
	LOOP
		BEGIN
			EXECUTE pg_catalog.format('SELECT regcrm.%I()', name);
			RAISE WARNING '% came to an end', name;
		EXCEPTION WHEN OTHERS THEN
			RAISE WARNING '%: % %', name, SQLSTATE, SQLERRM;
		END;
	END LOOP;
END
$$;
BEGIN;
CREATE TABLE elsewhere (account_id bigint, id bigint);
DO $$
DECLARE
	name text;
	kind text;
BEGIN
	FOR name IN SELECT p.proname FROM pg_catalog.pg_proc p
		WHERE p.probin IS NOT NULL AND p.pronamespace = 'regcrm'::regnamespace AND p.prorettype = 'trigger'::regtype
		-- those that go on in PL/pgSQL, as the owner, are what PL/pgSQL makes of it
		AND pg_catalog.to_regproc('regcrm.' || p.proname || '_by_owner') IS NULL ORDER BY 1
	LOOP
		FOREACH kind IN ARRAY '{BEFORE INSERT ON elsewhere FOR EACH ROW,AFTER INSERT ON elsewhere FOR EACH ROW,AFTER INSERT ON elsewhere FOR EACH STATEMENT}'::text[] LOOP
			BEGIN
				EXECUTE pg_catalog.format('CREATE TRIGGER t %s EXECUTE FUNCTION regcrm.%I()', kind, name);
				INSERT INTO elsewhere VALUES (1, 1);
				SET CONSTRAINTS ALL IMMEDIATE;
				RAISE EXCEPTION USING errcode = 'R0000', message = 'no error';
			EXCEPTION WHEN OTHERS THEN
				RAISE WARNING '%, %: % %', name, kind, SQLSTATE, SQLERRM;
			END;
		END LOOP;
	END LOOP;
END
$$;
ROLLBACK;

BEGIN;
INSERT INTO regcrm.account (id) VALUES (9091), (9092);
INSERT INTO regcrm.manager (account_id, id) VALUES (9091, 1), (9092, 1);
SET regcrm.account_id = 9091;

-- Twenty deals that may not begin where they are: the first three are named
SAVEPOINT t;
INSERT INTO regcrm.regulation (code, title) VALUES ('strict', 'Строго');
INSERT INTO regcrm.transition (regulation, from_stage, to_stage) VALUES ('strict', NULL, 'new'), ('strict', 'new', 'in_work');
INSERT INTO regcrm.rule (regulation, code, title, form, stage, expect, action) VALUES ('strict', 'S', 'Задача', 'always', 'new', '{task}', 'reject');
UPDATE regcrm.account SET regulation = 'strict' WHERE id = 9091;
SAVEPOINT u;
INSERT INTO regcrm.deal (id, stage, manager_id) SELECT n, 'new', 1 FROM generate_series(1, 20) n;
\set VERBOSITY default
SET CONSTRAINTS ALL IMMEDIATE;	-- fails
\set VERBOSITY terse
ROLLBACK TO u;

-- Where nothing leads: nowhere to begin, nowhere to go
DELETE FROM regcrm.rule WHERE regulation = 'strict';
INSERT INTO regcrm.rule (regulation, code, title, form, action) VALUES ('strict', 'F', 'Переходы', 'flow', 'reject');
SAVEPOINT u;
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, 'new', 1);
SET CONSTRAINTS ALL IMMEDIATE;
UPDATE regcrm.deal SET stage = 'in_work' WHERE id = 1;
SET CONSTRAINTS ALL IMMEDIATE;
\set VERBOSITY default
UPDATE regcrm.deal SET stage = 'won' WHERE id = 1;	-- fails
ROLLBACK TO u;
DELETE FROM regcrm.transition WHERE regulation = 'strict' AND from_stage IS NULL;
SAVEPOINT u;
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, 'new', 1);	-- fails
ROLLBACK TO u;

-- In a stage that the mapping does not know, what is forbidden anywhere is
DELETE FROM regcrm.rule WHERE regulation = 'strict';
INSERT INTO regcrm.rule (regulation, code, title, form, event, action) VALUES ('strict', 'N', 'Без комментариев', 'never', 'comment', 'reject');
SET regcrm.mode = 'record';
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, NULL, 1);
SET CONSTRAINTS ALL IMMEDIATE;
SET regcrm.mode = 'enforce';
SAVEPOINT u;
INSERT INTO regcrm.event (deal_id, kind, body) VALUES (1, 'comment', 'a word');	-- fails
ROLLBACK TO u;
\set VERBOSITY terse
ROLLBACK TO t;

-- What has happened is not moved
SAVEPOINT t;
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, 'new', 1);
INSERT INTO regcrm.task (id, deal_id, kind, manager_id, due_at) VALUES (1, 1, 'process_request', 1, now() + interval '1 hour');
SET CONSTRAINTS ALL IMMEDIATE;
SAVEPOINT u;
UPDATE regcrm.deal SET created_at = created_at - interval '1 day' WHERE id = 1;	-- fails
ROLLBACK TO u;
UPDATE regcrm.task SET created_at = created_at - interval '1 day' WHERE id = 1;	-- fails
ROLLBACK TO u;
-- a scenario without a name is one that nobody chose from the list
INSERT INTO regcrm.event (deal_id, kind) VALUES (1, 'scenario');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT count(*), count(scenario) FROM regcrm.event WHERE deal_id = 1 AND kind = 'scenario';
ROLLBACK TO t;

-- Calls of two accounts, and of one deal at two instants, in one statement: each has its effect
SAVEPOINT t;
INSERT INTO regcrm.deal (account_id, id, stage, manager_id) VALUES (9092, 1, 'new', 1), (9091, 1, 'new', 1);
INSERT INTO regcrm.task (account_id, deal_id, kind, manager_id, due_at)
	VALUES (9092, 1, 'process_request', 1, now() + interval '1 hour'), (9091, 1, 'process_request', 1, now() + interval '1 hour');
UPDATE regcrm.deal SET stage = 'in_work' WHERE id = 1;
INSERT INTO regcrm.event (account_id, deal_id, kind, at, scenario)
	SELECT a, 1, 'scenario', now() + make_interval(secs => n * 0.000001), s.code
	FROM (VALUES (9092, 0), (9091, 1), (9091, 0)) v(a, n), (SELECT code FROM regcrm.scenario WHERE regulation = 'idrive' AND outcome = 'missed' ORDER BY code LIMIT 1) s;
SELECT account_id, count(*) FROM regcrm.event WHERE kind = 'scenario' GROUP BY 1 ORDER BY 1;
ROLLBACK TO t;

-- What fails while judging costs findings, never a fact in mode record ...
CREATE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION USING errcode = current_setting('test.errcode'), message = 'so it goes';
END
$$;
CREATE TRIGGER fail BEFORE INSERT ON regcrm.deadline FOR EACH ROW EXECUTE FUNCTION pg_temp.fail();
SET regcrm.mode = 'record';
SET test.errcode = 'P0001';
SAVEPOINT t;
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, 'new', 1);
SET CONSTRAINTS ALL IMMEDIATE;	-- warns
SELECT id FROM regcrm.deal;
ROLLBACK TO t;
-- ... but what tells the client to begin again, or to stop, is not swallowed: each fails
SET test.errcode = '40001';
SAVEPOINT t;
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, 'new', 1);
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO t;
SET test.errcode = '57014';
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, 'new', 1);
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO t;
SET test.errcode = '53200';
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, 'new', 1);
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO t;
SET test.errcode = '55P03';
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, 'new', 1);
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK TO t;
DROP TRIGGER fail ON regcrm.deadline;

-- What fails while the columns follow the events fails the write, and what is written afterwards is judged again
SAVEPOINT t;
INSERT INTO regcrm.deal (id, stage, manager_id, created_at) VALUES (1, 'new', 1, now() - interval '2 hours');
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
SET test.errcode = 'P0001';
CREATE TRIGGER fail BEFORE UPDATE ON regcrm.deal FOR EACH ROW EXECUTE FUNCTION pg_temp.fail();
SAVEPOINT u;
INSERT INTO regcrm.event (deal_id, kind, at, from_stage, to_stage) VALUES (1, 'stage', now() - interval '1 hour', 'new', 'in_work');	-- fails
ROLLBACK TO u;
DROP TRIGGER fail ON regcrm.deal;
SELECT count(*) FROM regcrm.violation WHERE deal_id = 1 AND stage = 'in_work';
UPDATE regcrm.deal SET stage = 'in_work' WHERE id = 1;
INSERT INTO regcrm.event (deal_id, kind, at, from_stage, to_stage) VALUES (1, 'stage', now() - interval '1 hour', 'new', 'in_work');
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
SELECT stage FROM regcrm.deal WHERE id = 1;
SELECT count(*) > 0 FROM regcrm.violation WHERE deal_id = 1 AND stage = 'in_work';
ROLLBACK TO t;

-- A deal that is gone, row and all, owes nothing any more
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, 'new', 1);
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
SELECT count(*) > 0 FROM regcrm.deadline WHERE deal_id = 1 AND state = 'pending';
DELETE FROM regcrm.deal WHERE id = 1;
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
SELECT state, ended_at = now() OR ended_at > now() FROM regcrm.deadline WHERE deal_id = 1 GROUP BY 1, 2;
ROLLBACK TO t;

-- A later fact of one's own is no reason to begin again
INSERT INTO regcrm.deal (id, stage, manager_id) VALUES (1, 'new', 1);
INSERT INTO regcrm.event (deal_id, kind, at, body) VALUES (1, 'comment', now() + interval '1 hour', 'still to come');
SET CONSTRAINTS ALL IMMEDIATE;
SET CONSTRAINTS ALL DEFERRED;
SET regcrm.mode = 'enforce';
UPDATE regcrm.deal SET name = 'renamed', price = 5 WHERE id = 1;
UPDATE regcrm.deal SET reason = 'Дорого' WHERE id = 1;
SELECT name, reason FROM regcrm.deal WHERE id = 1;
ROLLBACK TO t;
ROLLBACK;
