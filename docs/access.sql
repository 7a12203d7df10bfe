-- Writes the tables of docs/access.md out of a database with regcrm:
--   psql -X -At -f docs/access.sql DATABASE
-- test/gate/access_test.py fails where they are not what this writes, and tries each cell.
WITH levels(n, level) AS (VALUES (1, 'reader'), (2, 'writer'), (3, 'operator'), (4, 'admin')),
rights AS (
	SELECT l.n, w.kind, o.object,
		string_agg(DISTINCT lower(w.rights), ', ') AS rights
	FROM levels l
	JOIN regcrm.access_rights() w ON w.level = ANY (regcrm.level_parts(l.level))
	CROSS JOIN LATERAL unnest(w.objects) o(object)
	GROUP BY l.n, w.kind, o.object),
objects AS (
	SELECT 1 AS part, 'table' AS kind, '*' AS object, 'every view' AS name
	UNION ALL
	SELECT 1, 'table', c.relname::text, c.relname::text FROM pg_class c
	WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind IN ('r', 'p')
	UNION ALL
	SELECT 2, 'function', r.object, r.object || '()' FROM rights r WHERE r.kind IN ('function', 'procedure') GROUP BY r.object),
cells AS (
	SELECT o.part, o.object, o.name, l.n,
		CASE WHEN r.rights IS NULL THEN '–'
			WHEN o.part = 2 THEN 'call'
			ELSE (SELECT string_agg(v.word || v.columns, ', ' ORDER BY array_position('{select,insert,update,delete}', v.word))
				FROM (SELECT DISTINCT m[1] AS word, coalesce(m[2], '') AS columns
					FROM regexp_matches(r.rights, '(select|insert|update|delete)( \([^)]*\))?', 'g') m) v
				-- a right on all columns includes one on some
				WHERE v.columns = '' OR r.rights !~ (v.word || '($|,)')) END AS cell
	FROM objects o
	CROSS JOIN levels l
	LEFT JOIN rights r ON r.n = l.n AND r.object = o.object AND (o.part = 2) = (r.kind IN ('function', 'procedure')))
SELECT line FROM (
	SELECT p.part, '' AS object, p.line, p.n FROM (VALUES
		(1, 1, '| table | reader | writer | operator | admin |'), (1, 2, '| --- | --- | --- | --- | --- |'),
		(2, 1, '| function | reader | writer | operator | admin |'), (2, 2, '| --- | --- | --- | --- | --- |')) p(part, n, line)
	UNION ALL
	SELECT 2, '', '', 0
	UNION ALL
	SELECT c.part, c.object, format('| %s | %s |', c.name, string_agg(c.cell, ' | ' ORDER BY c.n)), 3
	FROM cells c GROUP BY c.part, c.object, c.name) t
ORDER BY part, CASE WHEN n < 3 THEN 0 ELSE 1 END, CASE WHEN n < 3 THEN n END, object COLLATE "C";
