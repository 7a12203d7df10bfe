-- What setup() makes: tables with comments, the built-in regulation, once.
-- as in psql, whatever the test driver asks for
SET intervalstyle = 'postgres';
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT regcrm.setup();
RESET client_min_messages;

-- Every object of ours has a comment.
SELECT c.oid::regclass AS relation_without_comment
	FROM pg_class c
	WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind IN ('r', 'v')
		AND obj_description(c.oid, 'pg_class') IS NULL
	ORDER BY 1;
SELECT a.attrelid::regclass AS relation, a.attname AS column_without_comment
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind IN ('r', 'v') AND a.attnum > 0 AND NOT a.attisdropped
		AND col_description(a.attrelid, a.attnum) IS NULL
	ORDER BY 1, 2;
SELECT p.oid::regprocedure AS function_without_comment
	FROM pg_proc p
	WHERE p.pronamespace = 'regcrm'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
	ORDER BY 1;

-- Functions in PL/pgSQL pin their path (hazard X1).
SELECT p.oid::regprocedure AS function_without_path
	FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'regcrm'::regnamespace AND l.lanname = 'plpgsql'
		AND NOT COALESCE(p.proconfig @> '{"search_path=pg_catalog, pg_temp"}', false)
	ORDER BY 1;

-- PUBLIC has no right on any table, sequence or on the schema, and may call what the type and the tables call by themselves (hazard X4).
SELECT c.oid::regclass AS relation_open_to_public
	FROM pg_class c, aclexplode(c.relacl) a
	WHERE c.relnamespace = 'regcrm'::regnamespace AND a.grantee = 0
	ORDER BY 1;
SELECT p.oid::regprocedure AS function_open_to_public
	FROM pg_proc p
	WHERE p.pronamespace = 'regcrm'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')
	ORDER BY 1;
SELECT has_type_privilege('public', 'regcrm.stage', 'USAGE') AS type_usage,
	has_schema_privilege('public', 'regcrm', 'USAGE') AS schema_usage, has_schema_privilege('public', 'regcrm', 'CREATE') AS schema_create;

-- Every table's key begins with the account, but for what accounts share.
SELECT c.oid::regclass AS shared_by_accounts
	FROM pg_class c
	WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind = 'r'
		AND NOT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
			WHERE i.indrelid = c.oid AND i.indisunique AND a.attname = 'account_id')
	ORDER BY c.relname;

-- The built-in stages.
SELECT stage, name, aliases, position, outcome FROM regcrm.stage_def ORDER BY position;

-- The built-in rules.
SELECT form, count(*) AS rules, count(*) FILTER (WHERE action = 'reject') AS reject, count(*) FILTER (WHERE duty_of = 'bot') AS of_bot,
		count(*) FILTER (WHERE basis = 'stated') AS stated, count(*) FILTER (WHERE basis = 'assumed') AS assumed,
		count(*) FILTER (WHERE basis = 'derived') AS derived, count(*) FILTER (WHERE clock = 'business') AS business
	FROM regcrm.rule WHERE regulation = 'idrive' GROUP BY form ORDER BY form;
SELECT code, stage, form, event || COALESCE(' #' || nth, '') AS event, expect, unless, scope,
		concat_ws(' + ', 'by ' || by, within) AS due, warn, left(clock, 1) AS c,
		severity, action, left(duty_of, 1) AS o, left(basis, 1) AS b
	FROM regcrm.rule WHERE regulation = 'idrive' ORDER BY code COLLATE "C";
SELECT count(*) AS without_words FROM regcrm.rule WHERE title = '' OR COALESCE(clause, '') = '' OR valid <> '(,)' OR NOT enabled;

-- The graph: s stated, a target assumed, d derived, + a comment is required.
SELECT COALESCE(f.stage, '(begin)') AS "from",
		max(x) FILTER (WHERE s.stage = 'new') AS new, max(x) FILTER (WHERE s.stage = 'in_work') AS wrk,
		max(x) FILTER (WHERE s.stage = 'no_answer') AS miss, max(x) FILTER (WHERE s.stage = 'messaging') AS chat,
		max(x) FILTER (WHERE s.stage = 'deciding') AS dec, max(x) FILTER (WHERE s.stage = 'meeting') AS meet,
		max(x) FILTER (WHERE s.stage = 'contract') AS onc, max(x) FILTER (WHERE s.stage = 'deferred') AS def,
		max(x) FILTER (WHERE s.stage = 'lost') AS lost, max(x) FILTER (WHERE s.stage = 'unqualified') AS nq,
		max(x) FILTER (WHERE s.stage = 'won') AS won
	FROM (SELECT NULL AS stage, 0 AS position UNION ALL SELECT d.stage, d.position FROM regcrm.stage_def d) f
	CROSS JOIN regcrm.stage_def s
	LEFT JOIN LATERAL (SELECT left(t.basis, 1) || CASE WHEN t.comment_required THEN '+' ELSE '' END AS x
		FROM regcrm.transition t
		WHERE t.regulation = 'idrive' AND t.from_stage::text IS NOT DISTINCT FROM f.stage AND t.to_stage::text = s.stage) t ON true
	GROUP BY f.stage, f.position ORDER BY f.position;

-- A scenario for each stage that new, in_work or no_answer may be left for.
SELECT code, name, outcome, to_stage FROM regcrm.scenario WHERE regulation = 'idrive' ORDER BY code;
SELECT count(*) AS wrong FROM regcrm.scenario s
	FULL JOIN (SELECT DISTINCT to_stage::text AS code FROM regcrm.transition
		WHERE regulation = 'idrive' AND from_stage IN ('new', 'in_work', 'no_answer') AND to_stage::text <> 'new') t ON t.code = s.code
	WHERE t.code IS NULL OR s.code IS NULL;

-- Effects, windows, calendars.
SELECT position, code, stage, event || COALESCE(' #' || nth, '') AS event, unless, what, concat_ws(' ', kind, due, field, '= ' || value, to_stage) AS how, left(basis, 1) AS b
	FROM regcrm.effect WHERE regulation = 'idrive' ORDER BY position;
SELECT * FROM regcrm.regulation;
SELECT w.calendar, c.title, string_agg(w.weekday || ' ' || w.opens || '-' || w.closes, ', ' ORDER BY w.weekday) AS hours
	FROM regcrm.calendar c JOIN regcrm.calendar_week w ON w.calendar = c.name GROUP BY 1, 2 ORDER BY 1;
-- Working days: 248, 247 and 247, say the official calendars.
SELECT extract(year FROM d.day) AS year,
		count(*) FILTER (WHERE c.opens IS NOT NULL OR c.day IS NULL AND extract(isodow FROM d.day) < 6) AS working_days,
		count(*) FILTER (WHERE c.opens IS NULL AND c.day IS NOT NULL AND extract(isodow FROM d.day) > 5) AS idle_rows,
		string_agg(to_char(d.day, 'MM-DD'), ' ' ORDER BY d.day) FILTER (WHERE c.opens IS NOT NULL AND extract(isodow FROM d.day) > 5) AS working_weekends
	FROM (SELECT date '2024-01-01' + n AS day FROM generate_series(0, 1095) n) d
	LEFT JOIN regcrm.calendar_day c ON c.calendar = 'ru-5x2' AND c.day = d.day
	GROUP BY 1 ORDER BY 1;

-- Setup twice is setup once, and leaves edited, closed and deleted rows alone.
BEGIN;
DELETE FROM regcrm.rule WHERE code = 'NEW-7W';
UPDATE regcrm.rule SET severity = 'info' WHERE code = 'NEW-1';
UPDATE regcrm.stage_def SET aliases = aliases || '{Завершено}' WHERE stage = 'won';
COMMENT ON COLUMN regcrm.deal.name IS 'mine';
CREATE FUNCTION pg_temp.everything() RETURNS TABLE (relation text, rows text) LANGUAGE plpgsql AS $$
BEGIN
	FOR relation IN SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind = 'r' ORDER BY 1 LOOP
		RETURN QUERY EXECUTE format('SELECT %L, string_agg(t::text, chr(10) ORDER BY t::text) FROM %s t', relation, relation);
	END LOOP;
	RETURN QUERY SELECT 'triggers', string_agg(concat_ws(' ', t.tgrelid::regclass, t.tgname, t.tgenabled, t.oid), chr(10) ORDER BY t.oid)
		FROM pg_trigger t WHERE NOT t.tgisinternal;
	RETURN QUERY SELECT 'relations', string_agg(concat_ws(' ', c.oid::regclass, c.oid), chr(10) ORDER BY c.oid)
		FROM pg_class c WHERE c.relnamespace = 'regcrm'::regnamespace;
	RETURN QUERY SELECT 'comments', string_agg(concat_ws(' ', d.objoid, d.objsubid, d.description), chr(10) ORDER BY d.objoid, d.objsubid)
		FROM pg_description d WHERE d.classoid = 'pg_class'::regclass;
END
$$;
CREATE TEMP TABLE before AS SELECT * FROM pg_temp.everything();
SELECT regcrm.setup();
SELECT b.relation AS changed FROM before b FULL JOIN pg_temp.everything() a USING (relation) WHERE b.rows IS DISTINCT FROM a.rows;
ROLLBACK;

-- An account, and what is meant where none is given.
BEGIN;
DELETE FROM regcrm.account;
SAVEPOINT s;
INSERT INTO regcrm.manager (id) VALUES (1);	-- fails: no account
ROLLBACK TO s;
INSERT INTO regcrm.account (id, name, time_zone) VALUES (7, 'nowhere', 'Europe/Moskow');	-- fails: no such zone
ROLLBACK TO s;
INSERT INTO regcrm.account (id, name, calendar) VALUES (7, 'never', 'weekends');	-- fails: no such calendar
ROLLBACK TO s;
INSERT INTO regcrm.account (id, name, regulation) VALUES (7, 'lawless', 'none');	-- fails: no such regulation
ROLLBACK TO s;
INSERT INTO regcrm.account (id, name) VALUES (7, 'school');
INSERT INTO regcrm.manager (id) VALUES (1) RETURNING account_id;
INSERT INTO regcrm.account (id, name) VALUES (8, 'second school');
SAVEPOINT t;
INSERT INTO regcrm.manager (id) VALUES (2);	-- fails: two accounts
ROLLBACK TO t;
SET LOCAL regcrm.account_id = '8';
INSERT INTO regcrm.manager (id) VALUES (2) RETURNING account_id;
ROLLBACK;

-- Stages of one's own; a stage in use stays.
BEGIN;
INSERT INTO regcrm.stage_def (stage, name, position) VALUES ('trial', 'Пробное занятие', 55);
INSERT INTO regcrm.transition (regulation, from_stage, to_stage) VALUES ('idrive', 'deciding', 'trial');
SAVEPOINT s;
DELETE FROM regcrm.stage_def WHERE stage = 'trial';	-- fails: in use
ROLLBACK TO s;
UPDATE regcrm.stage_def SET stage = 'trying' WHERE stage = 'trial';	-- fails: in use
ROLLBACK TO s;
TRUNCATE regcrm.stage_def;	-- fails: in use
ROLLBACK TO s;
UPDATE regcrm.stage_def SET name = 'Пробный урок' WHERE stage = 'trial';
DELETE FROM regcrm.transition WHERE to_stage = 'trial';
DELETE FROM regcrm.stage_def WHERE stage = 'trial';
INSERT INTO regcrm.stage_def (stage, name, position) VALUES ('Trial lesson', 'Пробный урок', 55);	-- fails: no code
ROLLBACK;

-- What can't be is refused when it is written.
BEGIN;
SAVEPOINT s;
INSERT INTO regcrm.transition (regulation, from_stage, to_stage, valid) VALUES ('idrive', 'new', 'in_work', '[2030-01-01,)');	-- fails: twice in force
ROLLBACK TO s;
INSERT INTO regcrm.transition (regulation, from_stage, to_stage) VALUES ('idrive', 'new', 'new');	-- fails: no move
ROLLBACK TO s;
INSERT INTO regcrm.scenario (regulation, code, name, valid) VALUES ('idrive', 'lost', 'Отказ', '[2030-01-01,)');	-- fails: twice in force
ROLLBACK TO s;
INSERT INTO regcrm.effect (regulation, code, position, event, what, to_stage) VALUES ('idrive', 'MINE', 1, 'scenario:trial', 'move', 'lost');	-- fails: no such scenario
ROLLBACK TO s;
INSERT INTO regcrm.effect (regulation, code, position, event, what, to_stage, unless) VALUES ('idrive', 'MINE', 1, 'enter', 'move', 'lost', '{visited:trial}');	-- fails: no such stage
ROLLBACK TO s;
INSERT INTO regcrm.effect (regulation, code, position, event, what, to_stage, unless) VALUES ('idrive', 'MINE', 1, 'enter', 'move', 'lost', '{sometimes}');	-- fails: no such condition
ROLLBACK TO s;
INSERT INTO regcrm.effect (regulation, code, position, event, what) VALUES ('idrive', 'MINE', 1, 'enter', 'add_task');	-- fails: what task?
ROLLBACK TO s;
INSERT INTO regcrm.calendar_week (calendar, weekday, opens, closes) VALUES ('daily-9-20', 1, '08:00', '10:00');	-- fails: overlaps
ROLLBACK TO s;
INSERT INTO regcrm.calendar_day (calendar, day, opens, closes) VALUES ('daily-9-20', '2030-01-01', NULL, NULL), ('daily-9-20', '2030-01-01', '10:00', '12:00');	-- fails: free or not?
ROLLBACK TO s;
INSERT INTO regcrm.calendar (name, time_zone) VALUES ('mars', 'Mars/Olympus');	-- fails: no such zone
ROLLBACK TO s;
INSERT INTO regcrm.calendar_week (calendar, weekday, opens, closes) VALUES ('daily-9-20', 1, '22:00', '24:00');
UPDATE regcrm.transition SET valid = '(,2030-01-01)' WHERE from_stage = 'new' AND to_stage = 'in_work';
INSERT INTO regcrm.transition (regulation, from_stage, to_stage, valid) VALUES ('idrive', 'new', 'in_work', '[2030-01-01,)');
ROLLBACK;

-- Waiving takes a reason, once; nothing else of a finding is written by hand.
BEGIN;
INSERT INTO regcrm.account (id, name) VALUES (7, 'school');
SET LOCAL regcrm.mode = 'off';
INSERT INTO regcrm.violation (account_id, id, deal_id, rule, severity, arose_at, breached_at)
	VALUES (7, 1, 5, 'NEW-1', 'critical', '2026-03-02 10:00+03', '2026-03-02 10:15+03');
SET LOCAL regcrm.mode = 'record';
SAVEPOINT s;
UPDATE regcrm.violation SET severity = 'info' WHERE account_id = 7;	-- fails
ROLLBACK TO s;
UPDATE regcrm.violation SET waived_at = now(), waived_by = 'me', waive_reason = 'so' WHERE account_id = 7;	-- fails
ROLLBACK TO s;
DELETE FROM regcrm.violation WHERE account_id = 7;	-- fails
ROLLBACK TO s;
INSERT INTO regcrm.violation (account_id, id, deal_id, rule, severity, arose_at, breached_at)
	VALUES (7, 2, 5, 'NEW-4', 'major', '2026-03-02 10:00+03', '2026-03-02 10:15+03');	-- fails
ROLLBACK TO s;
TRUNCATE regcrm.violation;	-- fails
ROLLBACK TO s;
UPDATE regcrm.deadline SET state = 'met' WHERE account_id = 7;	-- fails
ROLLBACK TO s;
SELECT regcrm.waive(7, 1, ' ');	-- fails: no reason
ROLLBACK TO s;
SELECT regcrm.waive(7, 2, 'the telephone was dead');	-- fails: no such violation
ROLLBACK TO s;
SELECT regcrm.waive(7, 1, 'the telephone was dead');
SELECT waived_at IS NOT NULL AS waived, waived_by = session_user AS by_me, waive_reason FROM regcrm.violation WHERE account_id = 7;
SAVEPOINT t;
SELECT regcrm.waive(7, 1, 'again') ;	-- fails: waived already
ROLLBACK TO t;
SELECT regcrm.unwaive(7, 1);
SELECT waived_at, waived_by, waive_reason FROM regcrm.violation WHERE account_id = 7;
SELECT regcrm.unwaive(7, 1);	-- fails: not waived
ROLLBACK;

-- Detached, the extension can be dropped; setup() takes everything back.
BEGIN;
CREATE TEMP TABLE columns_before AS
	SELECT a.attrelid::regclass::text AS relation, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod) AS type, pg_get_expr(d.adbin, d.adrelid) AS def
	FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	WHERE a.attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'regcrm'::regnamespace AND relkind IN ('r', 'v')) AND a.attnum > 0;
CREATE TEMP TABLE triggers_before AS
	SELECT pg_get_triggerdef(t.oid) AS definition, t.tgenabled FROM pg_trigger t WHERE NOT t.tgisinternal;
CREATE TEMP TABLE constraints_before AS
	SELECT conrelid::regclass::text AS relation, conname, pg_get_constraintdef(oid) AS definition FROM pg_constraint
	WHERE connamespace = 'regcrm'::regnamespace AND contype <> 't';
SELECT regcrm.detach();
SELECT count(*) AS left_over FROM pg_attribute a
	JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'v') WHERE a.atttypid = 'regcrm.stage'::regtype;
DROP EXTENSION regcrm;
SELECT DISTINCT from_stage FROM regcrm.transition WHERE to_stage = 'won' ORDER BY 1;
CREATE EXTENSION regcrm;
SELECT regcrm.setup();
SELECT relation, attname, type, def FROM columns_before EXCEPT
	SELECT a.attrelid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid)
	FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attnum > 0;
SELECT * FROM triggers_before EXCEPT SELECT pg_get_triggerdef(t.oid), t.tgenabled FROM pg_trigger t;
SELECT * FROM constraints_before EXCEPT SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint;
SELECT to_regclass('regcrm.detached') AS detached;
ROLLBACK;

-- A schema that holds what could be called in our name is refused.
BEGIN;
SELECT regcrm.detach();
DROP EXTENSION regcrm;
SAVEPOINT s;
CREATE FUNCTION regcrm.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''epoch''::timestamptz';
CREATE EXTENSION regcrm;	-- fails
ROLLBACK TO s;
CREATE DOMAIN regcrm.stage AS text;
CREATE EXTENSION regcrm;	-- fails
ROLLBACK TO s;
CREATE OPERATOR regcrm.= (LEFTARG = integer, RIGHTARG = integer, FUNCTION = pg_catalog.int4eq);
CREATE EXTENSION regcrm;	-- fails
ROLLBACK;
