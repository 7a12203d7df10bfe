-- plpgsql_check on every PL/pgSQL function of the extension: prints TAP.
-- What a function finds in tables that setup() makes is checked too; trigger
-- functions are checked against each table that has such a trigger.
SET client_min_messages = error;
CREATE EXTENSION plpgsql_check;

-- tables that live only between detach() and setup()
CREATE TABLE IF NOT EXISTS regcrm.detached (what text, relation text, name text, detail text);

CREATE TEMP TABLE found AS
SELECT f.function, coalesce(string_agg(c.line, E'\n' ORDER BY c.n), '') AS lines
FROM (SELECT p.oid::regprocedure::text AS function, p.oid, coalesce(t.tgrelid, 0) AS relid, t.old_rows, t.new_rows
		FROM pg_proc p
		JOIN pg_language l ON l.oid = p.prolang AND l.lanname = 'plpgsql'
		LEFT JOIN (SELECT tgfoid, tgrelid, max(tgoldtable::text) AS old_rows, max(tgnewtable::text) AS new_rows
				FROM pg_trigger WHERE NOT tgisinternal GROUP BY tgfoid, tgrelid) t
			-- what is run as the owner of the tables stands behind a function in C
			ON t.tgfoid = p.oid OR p.prorettype = 'trigger'::regtype AND p.proname = (SELECT b.proname || '_by_owner' FROM pg_proc b WHERE b.oid = t.tgfoid)
		WHERE p.pronamespace = 'regcrm'::regnamespace
		-- a trigger function that no table uses has nothing to be checked against
		AND (p.prorettype <> 'trigger'::regtype OR t.tgrelid IS NOT NULL)) f
LEFT JOIN LATERAL plpgsql_check_function(f.oid, f.relid, oldtable => f.old_rows::name, newtable => f.new_rows::name,
		performance_warnings => false, extra_warnings => false, other_warnings => false, fatal_errors => false) WITH ORDINALITY AS c(line, n) ON true
GROUP BY f.function;

SELECT CASE WHEN lines ~ '^error|\nerror' THEN 'not ok ' ELSE 'ok ' END || row_number() OVER (ORDER BY function)
	|| ' - ' || function
	|| CASE WHEN lines ~ '^error|\nerror' THEN E'\n# ' || replace(lines, E'\n', E'\n# ') ELSE '' END
FROM found ORDER BY function;
SELECT '1..' || count(*) FROM found;
