-- regcrm 1.0: the script that CREATE EXTENSION runs.
-- It is put together by make from ext/*.sql, in the order of their numbers.

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION regcrm" to load this file. \quit

-- The schema comes from the control file (schema = regcrm, relocatable = false):
-- CREATE EXTENSION makes it where it is missing, before it begins to record
-- members.  So the schema is no member, and the tables that setup() puts there
-- outlive DROP EXTENSION.

-- Functions name tables that setup() makes later.
SET LOCAL check_function_bodies = off;

-- Every name below is qualified; nothing is looked up in a schema that others may write to.
SET LOCAL search_path = pg_catalog, pg_temp;

-- Tables may be there already (an extension dropped after detach(), a restore);
-- anything that could be called in our name may not.
DO $head$
DECLARE
	found_kind text;
	found_name text;
BEGIN
	-- Its owner could put there, at any time, what is called in our name.
	SELECT 'role', r.rolname INTO found_kind, found_name
	FROM pg_catalog.pg_namespace n
	JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner AND NOT r.rolsuper AND r.rolname <> current_user
	WHERE n.nspname = 'regcrm';
	IF FOUND THEN
		RAISE EXCEPTION 'schema "regcrm" belongs to role "%"', found_name
			USING ERRCODE = 'insufficient_privilege',
				HINT = pg_catalog.format('Drop it, or: ALTER SCHEMA regcrm OWNER TO %I; REVOKE CREATE ON SCHEMA regcrm FROM PUBLIC.', current_user);
	END IF;
	IF EXISTS (SELECT FROM pg_catalog.pg_namespace n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) a
			WHERE n.nspname = 'regcrm' AND a.grantee = 0 AND a.privilege_type = 'CREATE')
	THEN
		RAISE EXCEPTION 'everybody may create objects in schema "regcrm"'
			USING ERRCODE = 'insufficient_privilege', HINT = 'REVOKE CREATE ON SCHEMA regcrm FROM PUBLIC.';
	END IF;

	SELECT o.kind, o.name INTO found_kind, found_name
	FROM (SELECT 'function' AS kind, p.oid::regprocedure::text AS name
			FROM pg_catalog.pg_proc p
			WHERE p.pronamespace = 'regcrm'::regnamespace
		  UNION ALL
		  SELECT 'operator', o.oid::regoperator::text
			FROM pg_catalog.pg_operator o
			WHERE o.oprnamespace = 'regcrm'::regnamespace
		  UNION ALL
		  SELECT 'type', t.oid::regtype::text
			FROM pg_catalog.pg_type t
			LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
			LEFT JOIN pg_catalog.pg_class r ON r.oid = COALESCE(e.typrelid, t.typrelid)
			WHERE t.typnamespace = 'regcrm'::regnamespace
			-- the row types of tables, and arrays of them
			AND (r.oid IS NULL OR r.relkind = 'c')) o
	ORDER BY o.kind, o.name
	LIMIT 1;

	IF FOUND THEN
		RAISE EXCEPTION 'schema "regcrm" already holds the % "%"', found_kind, found_name
			USING ERRCODE = 'duplicate_object',
				DETAIL = 'The extension installs only into a schema that holds no functions, operators or types.',
				HINT = 'Drop it, or move it to another schema.';
	END IF;
END
$head$;
