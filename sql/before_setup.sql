-- What needs the tables and does not find them says: run regcrm.setup().
-- Each of these must fail, and say so.
\set VERBOSITY terse
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS regcrm CASCADE;
DROP SCHEMA IF EXISTS regcrm CASCADE;
CREATE EXTENSION regcrm;
\set VERBOSITY default
SELECT regcrm.judge(1, 1);
SELECT regcrm.rejudge();
SELECT regcrm.flag_expired();
SELECT regcrm.ingest(1, 'leads', '{}');
SELECT regcrm.waive(1, 1, 'why');
SELECT regcrm.unwaive(1, 1);
SELECT * FROM regcrm.check_move(1, 1, 'new');
SELECT * FROM regcrm.allowed_moves(1, 1);
SELECT regcrm.choose_scenario(1, 1, 'meeting');
SELECT regcrm.forget(1, 1);
SELECT regcrm.add_business_time('2026-03-02 10:00+03', '1 hour', 'daily-9-20');
CALL regcrm.sync(1);
DROP EXTENSION regcrm;
DROP SCHEMA regcrm;
