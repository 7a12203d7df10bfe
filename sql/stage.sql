--
-- Type regcrm.stage
--
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS regcrm CASCADE;
DROP SCHEMA IF EXISTS regcrm CASCADE;
CREATE EXTENSION regcrm;

-- No stage_def, as in a restore: a well-formed code is taken as it is, ...
SELECT 'new'::regcrm.stage, 'no_such_1'::regcrm.stage, 'abcdefghijkl'::regcrm.stage;
-- ... and nothing else; all fail
SELECT 'abcdefghijklm'::regcrm.stage;
SELECT 'New'::regcrm.stage;
SELECT ' new'::regcrm.stage;
SELECT ''::regcrm.stage;
SELECT 'Взято в работу'::regcrm.stage;

SELECT regcrm.setup();

-- The code was not kept: now it is looked up (fails)
SELECT 'no_such_1'::regcrm.stage;

-- Every stage by its name and its aliases, whatever their case and blanks
SELECT s.stage, s.name::regcrm.stage AS by_name, s.aliases::regcrm.stage[] AS by_alias,
	   upper(s.name)::regcrm.stage AS upper, ('  ' || replace(s.name, ' ', U&' \00A0 ') || E'\t')::regcrm.stage AS blanks,
	   replace(s.name, 'ё', 'е')::regcrm.stage AS without_yo
FROM regcrm.stage_def s ORDER BY s.position;
SELECT 'IN_WORK'::regcrm.stage, ' won '::regcrm.stage;

-- Unknown text: 22P02, the hint lists what is known in the order of the pipeline
SELECT 'нет такой'::regcrm.stage;
\echo :SQLSTATE
-- a long one is cut
SELECT repeat('длинно ', 1000)::regcrm.stage;
\echo :SQLSTATE

-- Stages of one's own, seen by the same transaction, gone with a rollback
BEGIN;
INSERT INTO regcrm.stage_def (stage, name, aliases, position) VALUES ('trial', 'Пробное занятие', '{Пробное,ТЕСТ-ДРАЙВ}', 55);
SELECT 'trial'::regcrm.stage, 'пробное  занятие'::regcrm.stage, 'тест-драйв'::regcrm.stage;
SAVEPOINT s;
UPDATE regcrm.stage_def SET aliases = '{Пробный урок}' WHERE stage = 'trial';
SELECT 'пробный урок'::regcrm.stage;
ROLLBACK TO s;
SELECT 'тест-драйв'::regcrm.stage;
ROLLBACK;
SELECT 'trial'::regcrm.stage;	-- fails

-- A name that belongs to several stages asks for the code; a code never does
BEGIN;
INSERT INTO regcrm.stage_def (stage, name, aliases, position) VALUES ('in_work_b2b', 'Взято В РАБОТУ', '{won}', 200);
SELECT 'in_work_b2b'::regcrm.stage, 'won'::regcrm.stage;
SELECT 'взято в работу'::regcrm.stage;	-- fails
\echo :SQLSTATE
ROLLBACK;

-- Casts: to text implicit, from text and varchar on assignment
CREATE TABLE stages (id int, stage regcrm.stage);
-- made before any row is changed: others' old transactions would keep a later one from use
CREATE INDEX stages_btree ON stages (stage);
CREATE INDEX stages_hash ON stages USING hash (stage);
INSERT INTO stages SELECT 1, 'Принимает решение'::text;
INSERT INTO stages SELECT 2, 'won'::varchar;
PREPARE by_varchar(int, varchar) AS INSERT INTO stages VALUES ($1, $2);
EXECUTE by_varchar(3, 'new');
UPDATE stages SET stage = 'не целевой'::text WHERE id = 3;
INSERT INTO stages VALUES (4, 'new'), (5, NULL), (6, 'lost'), (7, 'won');
SELECT id, stage, upper(stage), 'stage ' || stage::text AS joined, length(stage) FROM stages ORDER BY id;

-- Order is that of the code's bytes
SELECT stage, count(*) FROM stages GROUP BY stage ORDER BY stage;
SELECT string_agg(s, ' ' ORDER BY s::regcrm.stage) = string_agg(s, ' ' ORDER BY s COLLATE "C") AS same_order
FROM (SELECT stage AS s FROM regcrm.stage_def) x;

-- Operators are found in schema regcrm
SET search_path = regcrm, public;
SELECT 'new'::stage = 'new'::stage AS eq, 'new'::stage <> 'new'::stage AS ne, 'new'::stage < 'won'::stage AS lt,
	   'new'::stage <= 'new'::stage AS le, 'new'::stage > 'won'::stage AS gt, 'won'::stage >= 'new'::stage AS ge;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM stages WHERE stage > 'lost' ORDER BY stage;
SELECT id FROM stages WHERE stage > 'lost' ORDER BY stage, id;
DROP INDEX stages_btree;
EXPLAIN (COSTS OFF) SELECT id FROM stages WHERE stage = 'Договор';
SELECT id FROM stages WHERE stage = 'Договор' ORDER BY id;
RESET enable_seqscan;
RESET enable_bitmapscan;
SELECT count(*) FROM stages a JOIN stages b USING (stage);
RESET search_path;

-- Hashes agree with each other, and never change: they are in indexes
SELECT s, regcrm.stage_hash(s::regcrm.stage) AS hash, regcrm.stage_hash_extended(s::regcrm.stage, 1) AS extended,
	   regcrm.stage_hash(s::regcrm.stage)::bit(32) = regcrm.stage_hash_extended(s::regcrm.stage, 0)::bit(32) AS agree
FROM unnest('{new,won}'::text[]) s;

-- COPY, in text and binary
COPY stages (id, stage) FROM stdin;
8	Встреча назначена
9	messaging
\.
COPY stages (id, stage) FROM stdin;	-- fails
10	никакая
\.
SELECT id, stage FROM stages WHERE id >= 8 ORDER BY id;
SELECT regcrm.stage_send('in_work');

-- A role that may read nothing of ours can use the type
CREATE ROLE regcrm_stage_nobody;
GRANT USAGE ON SCHEMA regcrm TO regcrm_stage_nobody;
REVOKE ALL ON regcrm.stage_def FROM PUBLIC;
SET ROLE regcrm_stage_nobody;
SELECT count(*) FROM regcrm.stage_def;	-- fails
SELECT 'Взято в работу'::regcrm.stage;
CREATE TEMP TABLE mine AS SELECT 'won'::regcrm.stage;
RESET ROLE;
DROP TABLE mine;
REVOKE USAGE ON SCHEMA regcrm FROM regcrm_stage_nobody;
DROP ROLE regcrm_stage_nobody;

-- In parallel workers, which must read stage_def for themselves
CREATE TABLE names AS SELECT s.name FROM regcrm.stage_def s, generate_series(1, 1000);
ALTER TABLE names SET (parallel_workers = 2);
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT stage, count(*) FROM (SELECT name::regcrm.stage AS stage FROM names) x GROUP BY stage ORDER BY stage;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM names WHERE name::regcrm.stage::text = 'in_work';
INSERT INTO regcrm.stage_def (stage, name, position) VALUES ('trial', 'Пробное занятие', 55);
SELECT count(*) FROM names WHERE name::regcrm.stage::text = 'in_work';
SELECT 'Пробное занятие'::regcrm.stage;
ROLLBACK;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;

-- Columns dropped, added and in another order
ALTER TABLE regcrm.stage_def ADD COLUMN colour text;
ALTER TABLE regcrm.stage_def DROP COLUMN colour;
ALTER TABLE regcrm.stage_def ADD COLUMN hint text DEFAULT 'x';
SELECT 'Отложенный спрос'::regcrm.stage;
ALTER TABLE regcrm.stage_def DROP COLUMN hint;

-- fold_name() is what names are compared by
SELECT regcrm.fold_name(E'  ВЕДЁТСЯ\u00A0 Переписка ');

DROP TABLE stages, names;

DROP EXTENSION regcrm CASCADE;
DROP SCHEMA regcrm CASCADE;
