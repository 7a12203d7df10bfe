-- What may grow for ever and what may not: retention() takes away what served
-- its purpose, and nothing else, whatever its age (hazards D7).
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT regcrm.setup();
RESET client_min_messages;
\set VERBOSITY terse
BEGIN;
INSERT INTO regcrm.account (id, name) VALUES (73, 'retention');
SET LOCAL regcrm.account_id = '73';
SET LOCAL regcrm.mode = 'record';

-- a year of facts, a deal a day, and what is found in them
INSERT INTO regcrm.deal (id, stage, created_at) SELECT d, 'new', now() - d * interval '1 day' FROM generate_series(1, 365) d;
SET CONSTRAINTS ALL IMMEDIATE;
-- a year of the sync's notes: a row a day of each kind, open and closed
INSERT INTO regcrm.quarantine (entity, source_id, at, error, resolved_at)
	SELECT 'leads', d::text, now() - d * interval '1 day', 'x', CASE WHEN d % 2 = 0 THEN now() - d * interval '1 day' END
	FROM generate_series(1, 365) d;
INSERT INTO regcrm.reconciliation (at, entity, checked) SELECT now() - d * interval '1 day', 'leads', 1 FROM generate_series(1, 365) d;
INSERT INTO regcrm.wanted (entity, id, since, gone_at)
	SELECT 'leads', d, now() - d * interval '1 day', CASE WHEN d % 2 = 0 THEN now() - d * interval '1 day' END FROM generate_series(1, 365) d;

CREATE TEMPORARY VIEW kept AS
	SELECT (SELECT count(*) FROM regcrm.deal) AS deals, (SELECT count(*) FROM regcrm.event) AS events,
		(SELECT count(*) > 300 FROM regcrm.violation) AS violations, (SELECT count(*) > 300 FROM regcrm.deadline) AS deadlines,
		(SELECT count(*) FROM regcrm.quarantine WHERE resolved_at IS NULL) AS quarantined,
		(SELECT count(*) FROM regcrm.quarantine WHERE resolved_at IS NOT NULL) AS taken_after_all,
		(SELECT count(*) FROM regcrm.reconciliation) AS reports,
		(SELECT count(*) FROM regcrm.wanted WHERE gone_at IS NULL) AS wanted,
		(SELECT count(*) FROM regcrm.wanted WHERE gone_at IS NOT NULL) AS known_to_be_gone;
SELECT * FROM kept \gx
-- younger than 90 days are 89 reports, and the 44 of even days taken and gone each:
-- (365 - 89) + 2 * (182 - 44) = 552 go
SELECT regcrm.retention();
SELECT * FROM kept \gx
SELECT regcrm.retention();
SELECT regcrm.retention('30 days');
SELECT * FROM kept \gx
-- what is still open stays, however old
SELECT regcrm.retention('0');
SELECT * FROM kept \gx
-- a nonsensical period is refused, not taken as "all"
SAVEPOINT s;
SELECT regcrm.retention('-1 day');
ROLLBACK TO s;
SELECT regcrm.retention(NULL);
ROLLBACK TO s;
ROLLBACK;
