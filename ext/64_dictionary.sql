
-- ---------------------------------------------------------------------------
-- data dictionary
-- ---------------------------------------------------------------------------

-- The comments themselves, so that it can't go stale.
CREATE FUNCTION regcrm.setup_dictionary_view() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $setup$
BEGIN
	CREATE OR REPLACE VIEW regcrm.data_dictionary WITH (security_invoker = true) AS
		SELECT c.relname::text AS object,
			CASE c.relkind WHEN 'v' THEN 'view' WHEN 'c' THEN 'type' ELSE 'table' END AS object_kind,
			CASE c.relkind WHEN 'c' THEN obj_description(c.reltype, 'pg_type') ELSE obj_description(c.oid, 'pg_class') END AS object_meaning,
			row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum)::integer AS position,
			a.attname::text AS name,
			format_type(a.atttypid, a.atttypmod) AS type,
			col_description(c.oid, a.attnum) AS meaning
		FROM pg_class c
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'c')
		UNION ALL
		SELECT p.proname || '(' || pg_get_function_arguments(p.oid) || ')',
			CASE p.prokind WHEN 'p' THEN 'procedure' ELSE 'function' END,
			obj_description(p.oid, 'pg_proc'),
			0,
			NULL,
			CASE WHEN p.prokind <> 'p' THEN pg_get_function_result(p.oid) END,
			NULL
		FROM pg_proc p
		WHERE p.pronamespace = 'regcrm'::regnamespace AND p.prokind IN ('f', 'p') AND p.prorettype <> 'trigger'::regtype;
END
$setup$;
REVOKE EXECUTE ON FUNCTION regcrm.setup_dictionary_view() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.setup_dictionary_view() IS
	'For setup_views(): makes the view data_dictionary.';
