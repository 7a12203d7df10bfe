-- Writes docs/dictionary.md out of the comments in a database with regcrm:
--   psql -X -At -f docs/dictionary.sql DATABASE >docs/dictionary.md
-- test/t/071_dictionary.pl fails where the file is not what this writes.
\set QUIET on
SET intervalstyle = 'postgres';
WITH dictionary AS (
	SELECT d.*,
		CASE d.object_kind WHEN 'view' THEN 1 WHEN 'function' THEN 2 ELSE 3 END AS part,
		replace(d.object_meaning, '|', '\|') AS about,
		replace(d.meaning, '|', '\|') AS says
	FROM regcrm.data_dictionary d
	WHERE d.object_kind = 'view'
		-- functions that answer, and what they return
		OR d.object_kind = 'function' AND d.type ~ '^SETOF regcrm\.(story_line|rule_price|response_line|report_line)$'
		OR d.object_kind = 'type' AND d.object IN ('story_line', 'rule_price', 'response_line', 'report_line'))
SELECT line
FROM (
	SELECT 0 AS part, '' AS object, 0 AS position, u.n, u.line FROM unnest(ARRAY[
		'# Data dictionary',
		'',
		'Written by `docs/dictionary.sql` out of the comments in the database; do not edit. The view `regcrm.data_dictionary` says the same, and of the tables too.',
		'']) WITH ORDINALITY AS u(line, n)
	UNION ALL
	SELECT d.part, '', -1, u.n, u.line
	FROM (SELECT DISTINCT part FROM dictionary) d
	CROSS JOIN LATERAL unnest(ARRAY[CASE d.part WHEN 1 THEN '# Views' WHEN 2 THEN '# Functions' ELSE '# What the functions return' END, '']) WITH ORDINALITY AS u(line, n)
	UNION ALL
	SELECT d.part, d.object, 0, u.n, u.line
	FROM dictionary d
	CROSS JOIN LATERAL unnest(ARRAY[format('## %s', d.object), '', d.about, '', '| column | type | meaning |', '| --- | --- | --- |']) WITH ORDINALITY AS u(line, n)
	WHERE d.position = 1
	UNION ALL
	SELECT d.part, d.object, d.position, 1, format('| %s | %s | %s |', d.name, replace(d.type, 'timestamp with time zone', 'timestamptz'), d.says)
	FROM dictionary d WHERE d.position > 0
	UNION ALL
	SELECT d.part, d.object, 1000000, 1, '' FROM dictionary d WHERE d.position = 1
	UNION ALL
	SELECT d.part, d.object, 0, u.n, u.line
	FROM dictionary d
	CROSS JOIN LATERAL unnest(ARRAY[format('`%s` → `%s`: %s', regexp_replace(replace(d.object, 'timestamp with time zone', 'timestamptz'), '::[a-z ]+', '', 'g'), substr(d.type, 7), d.about), ''])
		WITH ORDINALITY AS u(line, n)
	WHERE d.position = 0) AS l
ORDER BY part, object COLLATE "C", position, n;
