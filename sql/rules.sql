-- Rules are checked when they are written, and every session sees a change.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT regcrm.setup();
RESET client_min_messages;
SET TimeZone = 'UTC';
SET IntervalStyle = 'postgres';
\set VERBOSITY default
\set SHOW_CONTEXT never
BEGIN;
INSERT INTO regcrm.regulation (code, title) VALUES ('r', 'Проверка');
INSERT INTO regcrm.scenario (regulation, code, name, outcome) VALUES ('r', 'again', 'Ещё раз', 'missed');
INSERT INTO regcrm.transition (regulation, from_stage, to_stage) VALUES ('r', NULL, 'new'), ('r', 'new', 'in_work');

-- each of these is wrong, and says what would be right
SAVEPOINT t;
INSERT INTO regcrm.rule (regulation, code, title, form, stage, expect) VALUES ('r', 'A', 'a', 'always', 'new', '{tasks}');	-- fails
ROLLBACK TO t;
INSERT INTO regcrm.rule (regulation, code, title, form, stage, event, expect, within) VALUES ('r', 'A', 'a', 'within', 'new', 'entr', '{touch}', '1 h');	-- fails
ROLLBACK TO t;
INSERT INTO regcrm.rule (regulation, code, title, form, stage, event, expect, within) VALUES ('r', 'A', 'a', 'within', 'new', 'enter', '{scenario:never}', '1 h');	-- fails
ROLLBACK TO t;
INSERT INTO regcrm.rule (regulation, code, title, form, stage, event, expect, within) VALUES ('r', 'A', 'a', 'within', 'new', 'enter', '{enter:nowhere}', '1 h');	-- fails
ROLLBACK TO t;
INSERT INTO regcrm.rule (regulation, code, title, form, stage, event) VALUES ('r', 'A', 'a', 'never', 'new', 'long_call:often');	-- fails
ROLLBACK TO t;
INSERT INTO regcrm.rule (regulation, code, title, form, stage, event, expect) VALUES ('r', 'A', 'a', 'within', 'new', 'enter', '{touch}');	-- fails
ROLLBACK TO t;
-- pieces that do not go together
INSERT INTO regcrm.rule (regulation, code, title, form, stage, expect) VALUES ('r', 'A', 'a', 'never', 'new', '{touch}');	-- fails
ROLLBACK TO t;
INSERT INTO regcrm.rule (regulation, code, title, form, expect) VALUES ('r', 'A', 'a', 'flow', '{touch}');	-- fails
ROLLBACK TO t;
INSERT INTO regcrm.rule (regulation, code, title, form, stage, expect, scope) VALUES ('r', 'A', 'a', 'enter', 'new', '{touch}', 'after');	-- fails
ROLLBACK TO t;
INSERT INTO regcrm.rule (regulation, code, title, form, stage, event, scope, within) VALUES ('r', 'A', 'a', 'never', 'new', 'touch', 'after', '5 min');	-- fails
ROLLBACK TO t;
-- one row of many is wrong: all are refused
INSERT INTO regcrm.rule (regulation, code, title, form, stage, expect)
	SELECT 'r', 'M' || n, 'm', 'always', 'new', ARRAY[CASE n WHEN 3 THEN 'field:' ELSE 'task' END] FROM generate_series(1, 5) n;	-- fails
ROLLBACK TO t;

-- rows of one code follow each other in time
INSERT INTO regcrm.rule (regulation, code, title, form, stage, event, expect, within, valid)
	VALUES ('r', 'A', 'a', 'within', 'new', 'enter', '{touch}', '15 minutes', '(,2024-03-04 12:00+03)'),
		('r', 'A', 'a', 'within', 'new', 'enter', '{scenario:again}', '1 day 1 hour', '[2024-03-04 12:00+03,)');
SAVEPOINT t;
INSERT INTO regcrm.rule (regulation, code, title, form, stage, event, expect, within, valid)
	VALUES ('r', 'A', 'a', 'within', 'new', 'enter', '{touch}', '1 h', '[2024-03-01,2024-03-02)');	-- fails
ROLLBACK TO t;
UPDATE regcrm.rule SET valid = '(,)' WHERE regulation = 'r' AND title = 'a' AND within = '15 minutes';	-- fails
ROLLBACK TO t;
-- what is disabled is in force at no time
INSERT INTO regcrm.rule (regulation, code, title, form, stage, event, expect, within, valid, enabled)
	VALUES ('r', 'A', 'a', 'within', 'new', 'enter', '{touch}', '1 h', '[2024-03-01,2024-03-02)', false);

-- what rules name can't be taken away under them
SAVEPOINT t;
DELETE FROM regcrm.scenario WHERE regulation = 'r';	-- fails
ROLLBACK TO t;
UPDATE regcrm.scenario SET code = 'once' WHERE regulation = 'r';	-- fails
ROLLBACK TO t;

-- the account is judged by its regulation, and by what it was when the duty arose
INSERT INTO regcrm.account (id, regulation) VALUES (81, 'r');
SET LOCAL regcrm.mode = 'off';
INSERT INTO regcrm.deal (account_id, id, stage, created_at) VALUES (81, 1, 'new', '2024-03-04 11:59+03'), (81, 2, 'new', '2024-03-04 12:00+03');
SELECT d.id, j.rule, j.due_at - j.arose_at AS within FROM regcrm.deal d, regcrm.judge(81, d.id) j WHERE d.account_id = 81 ORDER BY 1;
-- a change counts at once in the session that makes it, and is forgotten with its subtransaction
SAVEPOINT t;
UPDATE regcrm.rule SET within = '2 minutes' WHERE regulation = 'r' AND within = '15 minutes';
SELECT d.id, j.rule, j.due_at - j.arose_at AS within FROM regcrm.deal d, regcrm.judge(81, d.id) j WHERE d.account_id = 81 ORDER BY 1;
DELETE FROM regcrm.rule WHERE regulation = 'r';
SELECT d.id, j.rule FROM regcrm.deal d, regcrm.judge(81, d.id) j WHERE d.account_id = 81 ORDER BY 1;
ROLLBACK TO t;
SELECT d.id, j.rule, j.due_at - j.arose_at AS within FROM regcrm.deal d, regcrm.judge(81, d.id) j WHERE d.account_id = 81 ORDER BY 1;
-- a scenario is known by its code and by its name in the CRM
INSERT INTO regcrm.event (account_id, deal_id, at, kind, scenario) VALUES
	(81, 1, '2024-03-04 12:30+03', 'scenario', ' еще  РАЗ '), (81, 2, '2024-03-04 12:30+03', 'scenario', 'Ещё раз');
SELECT d.id, j.rule, j.state FROM regcrm.deal d, regcrm.judge(81, d.id) j WHERE d.account_id = 81 ORDER BY 1;
-- a regulation that is not there
SAVEPOINT t;
ALTER TABLE regcrm.account DROP CONSTRAINT account_regulation_fkey;
UPDATE regcrm.account SET regulation = 'none' WHERE id = 81;
SELECT * FROM regcrm.judge(81, 1);	-- fails
ROLLBACK;
