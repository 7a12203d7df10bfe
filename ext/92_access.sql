
-- ---------------------------------------------------------------------------
-- who may do what
-- ---------------------------------------------------------------------------

-- What a level may do is written here once: grant_access() grants it,
-- docs/access.md is written out of it, and test/gate/access_test.py tries each
-- cell of that.  What is named nowhere here is for the owner of the tables alone.
CREATE FUNCTION regcrm.access_rights(OUT level text, OUT kind text, OUT rights text, OUT objects text[]) RETURNS SETOF record
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT v.level, v.kind, v.rights, v.objects::text[]
	FROM (VALUES
		-- reading: all views (setup() knows which), what they stand on, functions that answer
		('reader', 'view', 'SELECT', '{*}'),
		('reader', 'table', 'SELECT', '{account,calendar,calendar_day,calendar_plan,calendar_week,contact,custom_field,deadline,deal,deal_contact,effect,event,feed,field_map,forgotten,forgotten_part,installed,judging_change,loss_reason,manager,mart_dirty,mart_duty,mart_state,next_moment,other_event,outbox,pipeline,reconciliation,regulation,rule,scenario,stage_def,stage_map,status,sync_state,task,task_kind_map,transition,violation,wanted,webhook,writeback}'),
		('reader', 'table', 'SELECT (account_id, entity, resolved_at)', '{quarantine}'),
		('reader', 'function', 'EXECUTE', '{add_business_time,before_report,business_time_between,deal_story,judge,replay,response_by_hour,response_time,rule_cost}'),
		-- what these and the views call, and what row security asks
		('reader', 'function', 'EXECUTE', '{can_arise,column_kind,duration_text,event_text,is_seen,json_time,json_whole,known_fields,label,local_moment,moment_text,own_accounts,own_users,period_begins,period_ends,seen_accounts}'),

		-- writing facts
		('writer', 'table', 'INSERT, UPDATE', '{deal}'),
		('writer', 'table', 'INSERT, UPDATE, DELETE', '{event,task}'),
		('writer', 'function', 'EXECUTE', '{allowed_moves,check_move,choose_scenario}'),
		('writer', 'function', 'EXECUTE', '{find_scenario,need_tables}'),

		-- the data engineer's day
		('operator', 'table', 'SELECT', '{quarantine,worker_switch}'),
		('operator', 'table', 'INSERT', '{inbox}'),
		('operator', 'function', 'EXECUTE', '{disconnect,flag_expired,ingest,ingest_webhook,jobs,need_cron,pause,rejudge,resume,retention,retry_quarantine,schedule_jobs,start_workers,stop_marts,stop_workers,stop_write_back,unschedule_jobs,want,webhook_due}'),
		('operator', 'procedure', 'EXECUTE', '{connect,reconcile,refresh_marts,sync}'),

		-- the owner of the process
		('admin', 'table', 'SELECT', '{access,head}'),
		('admin', 'table', 'INSERT, UPDATE, DELETE', '{calendar,calendar_day,calendar_week,effect,feed,field_map,regulation,rule,scenario,stage_def,stage_map,task_kind_map,transition}'),
		('admin', 'table', 'INSERT, UPDATE', '{account,manager}'),
		('admin', 'function', 'EXECUTE', '{change_hours,copy_regulation,detach,disable_row_security,enable_row_security,forget,map_head,map_manager,remap,unmap_role,unwaive,waive,write_back}')
		) AS v(level, kind, rights, objects)
	$$;
COMMENT ON FUNCTION regcrm.access_rights() IS
	'What each level of grant_access() brings: level, kind of object (view, table, function, procedure), rights, objects; * = every view that setup() made. writer and operator have what reader has, admin has all.';

CREATE FUNCTION regcrm.level_parts(level text) RETURNS text[]
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	CASE $1
		WHEN 'reader' THEN RETURN '{reader}';
		WHEN 'writer' THEN RETURN '{reader,writer}';
		WHEN 'operator' THEN RETURN '{reader,operator}';
		WHEN 'admin' THEN RETURN '{reader,writer,operator,admin}';
		ELSE
			RAISE EXCEPTION 'there is no level "%"', COALESCE($1, 'null')
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Levels are reader, writer, operator and admin.';
	END CASE;
END
$$;
COMMENT ON FUNCTION regcrm.level_parts(text) IS
	'The levels that a level includes. Error 22023 for one that is none; the hint lists them.';

CREATE FUNCTION regcrm.setup_access() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $$
BEGIN
	CREATE TABLE IF NOT EXISTS regcrm.access (
		role name NOT NULL,
		level text NOT NULL,
		granted_by name NOT NULL DEFAULT session_user,
		at timestamptz NOT NULL DEFAULT now(),
		PRIMARY KEY (role, level),
		CONSTRAINT access_level_check CHECK (level IN ('reader', 'writer', 'operator', 'admin'))
	);
	PERFORM regcrm.describe('regcrm.access', 'Which levels roles were granted. Written by grant_access() and revoke_access(); setup() grants again what a new version brings.',
		'role', 'Database role.',
		'level', 'reader, writer, operator or admin.',
		'granted_by', 'Who granted it: the role that had logged in.',
		'at', 'When.');

	CREATE TABLE IF NOT EXISTS regcrm.head (
		account_id bigint,
		role name NOT NULL,
		CONSTRAINT head_key UNIQUE NULLS NOT DISTINCT (account_id, role)
	);
	PERFORM regcrm.describe('regcrm.head', 'Roles that see all rows of an account where row security is on. Written by map_head() and unmap_role().',
		'account_id', 'Account; null = all.',
		'role', 'Database role.');

	ALTER TABLE regcrm.installed ADD COLUMN IF NOT EXISTS row_security boolean NOT NULL DEFAULT false;
	PERFORM regcrm.describe('regcrm.installed', '',
		'row_security', 'True from enable_row_security() to disable_row_security(): setup() sees to it that every table has its policies.');
	ALTER TABLE regcrm.account ADD COLUMN IF NOT EXISTS row_security boolean NOT NULL DEFAULT true;
	PERFORM regcrm.describe('regcrm.account', '',
		'row_security', 'Where row security is on at all: false = everybody who may read the tables sees all rows of this account.');
END
$$;
COMMENT ON FUNCTION regcrm.setup_access() IS
	'For setup(): makes the tables of rights where they are missing.';

-- ---------------------------------------------------------------------------
-- granting and revoking
-- ---------------------------------------------------------------------------

-- Rights are granted by whoever owns the objects: the tables' owner, and the
-- extension's for functions.  Both tables above belong to the former, so they
-- are read and written as him (see below), never as a superuser.

CREATE FUNCTION regcrm.note_access(role name, level text, given boolean) RETURNS text[]
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	IF $3 THEN
		INSERT INTO regcrm.access (role, level) VALUES ($1, $2) ON CONFLICT DO NOTHING;
	ELSIF NOT $3 THEN
		DELETE FROM regcrm.access x WHERE x.role = $1 AND ($2 IS NULL OR x.level = $2);
	END IF;
	PERFORM regcrm.renew_policies();
	RETURN ARRAY(SELECT x.level FROM regcrm.access x WHERE x.role = $1 ORDER BY x.level);
END
$$;
COMMENT ON FUNCTION regcrm.note_access(name, text, boolean) IS
	'For grant_access() and revoke_access(): notes a level (true) or its end (false; level null = all), or nothing (null). Returns the levels that the role has then.';

CREATE FUNCTION regcrm.noted_access() RETURNS jsonb
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$ SELECT COALESCE(jsonb_agg(jsonb_build_object('role', x.role, 'level', x.level) ORDER BY x.role, x.level), '[]') FROM regcrm.access x $$;
COMMENT ON FUNCTION regcrm.noted_access() IS
	'For apply_access() and setup(): which levels roles were granted.';

CREATE FUNCTION regcrm.access_statements(role name, level text, OUT object text, OUT statement text, OUT granted boolean) RETURNS SETOF record
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_variable
DECLARE
	grantee oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = role);
	parts text[] := regcrm.level_parts(level);
	-- what is ours in the schema: members, and what the owner of the tables made
	owner oid := (SELECT c.relowner FROM pg_class c WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relname = 'deal');
	extension oid := (SELECT e.oid FROM pg_extension e WHERE e.extname = 'regcrm');
BEGIN
	RETURN QUERY
	SELECT 'schema regcrm', format('GRANT USAGE ON SCHEMA regcrm TO %I', role),
		EXISTS (SELECT FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
			WHERE n.nspname = 'regcrm' AND a.grantee = grantee AND a.privilege_type = 'USAGE')
	UNION ALL
	SELECT format('regcrm.%I', c.relname), format('GRANT %s ON TABLE regcrm.%I TO %I', w.rights, c.relname, role),
		CASE WHEN w.rights LIKE '%(%' THEN EXISTS (SELECT FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) a
				WHERE t.attrelid = c.oid AND t.attname = 'entity' AND a.grantee = grantee AND a.privilege_type = 'SELECT')
			ELSE (SELECT count(DISTINCT a.privilege_type) FROM aclexplode(c.relacl) a
				WHERE a.grantee = grantee AND a.privilege_type = ANY (string_to_array(w.rights, ', '))) = cardinality(string_to_array(w.rights, ', ')) END
	FROM regcrm.access_rights() w
	JOIN pg_class c ON c.relnamespace = 'regcrm'::regnamespace
		AND CASE w.kind WHEN 'view' THEN c.relkind = 'v' AND c.relname::text = ANY ((SELECT i.views FROM regcrm.installed_views() i(views))::text[])
			WHEN 'table' THEN c.relkind IN ('r', 'p') AND c.relname::text = ANY (w.objects) ELSE false END
		AND (c.relowner = owner OR EXISTS (SELECT FROM pg_depend d
			WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' AND d.refobjid = extension))
	WHERE w.level = ANY (parts)
	UNION ALL
	SELECT p.oid::regprocedure::text, format('GRANT EXECUTE ON ROUTINE %s TO %I', p.oid::regprocedure, role),
		EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = grantee AND a.privilege_type = 'EXECUTE')
	FROM regcrm.access_rights() w
	JOIN pg_proc p ON p.pronamespace = 'regcrm'::regnamespace AND p.proname::text = ANY (w.objects)
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e' AND d.refobjid = extension
	WHERE w.level = ANY (parts) AND w.kind IN ('function', 'procedure');
END
$$;
COMMENT ON FUNCTION regcrm.access_statements(name, text) IS
	'For grant_access(): what is to be granted to a role for a level, by which statement, and whether it was granted already.';

CREATE FUNCTION regcrm.installed_views() RETURNS text[]
	LANGUAGE sql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$ SELECT i.views FROM regcrm.installed i $$;
COMMENT ON FUNCTION regcrm.installed_views() IS
	'For grant_access(): the views that setup() made.';

CREATE FUNCTION regcrm.need_grantor(role name) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_variable
DECLARE
	tables_owner name;
	extension_owner name;
	owns_members boolean;
BEGIN
	PERFORM regcrm.need_tables();
	SELECT pg_get_userbyid(c.relowner) INTO tables_owner FROM pg_class c WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relname = 'deal';
	SELECT pg_get_userbyid(e.extowner), pg_has_role(e.extowner, 'usage') OR (
			has_schema_privilege('regcrm', 'USAGE WITH GRANT OPTION') AND has_function_privilege('regcrm.judge(bigint, bigint, timestamptz)', 'EXECUTE WITH GRANT OPTION'))
		INTO extension_owner, owns_members
		FROM pg_extension e WHERE e.extname = 'regcrm';
	IF NOT pg_has_role(tables_owner, 'usage') OR NOT owns_members THEN
		RAISE EXCEPTION 'permission denied to grant access to regcrm'
			USING ERRCODE = 'insufficient_privilege',
				DETAIL = format('The tables belong to "%s", the extension belongs to "%s".', tables_owner, extension_owner),
				HINT = CASE WHEN pg_has_role(tables_owner, 'usage')
					THEN format('Let a superuser run: GRANT USAGE ON SCHEMA regcrm TO %1$I WITH GRANT OPTION; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA regcrm TO %1$I WITH GRANT OPTION; GRANT ALL ON regcrm.inbox, regcrm.worker_switch TO %1$I WITH GRANT OPTION;', tables_owner)
					ELSE 'Run it as the one who owns both, or as a superuser.' END;
	END IF;
	IF role IS NULL OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = role) THEN
		RAISE EXCEPTION 'role "%" does not exist', COALESCE(role::text, 'null')
			USING ERRCODE = 'undefined_object', HINT = 'CREATE ROLE makes one. Nothing of regcrm is for PUBLIC.';
	END IF;
	IF role IN (tables_owner, extension_owner) THEN
		RAISE EXCEPTION 'role "%" owns regcrm', role
			USING ERRCODE = 'invalid_parameter_value', HINT = 'An owner may do everything; give access to other roles.';
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.need_grantor(name) IS
	'For grant_access() and revoke_access(). Errors: 42501 unless the caller may grant what is to be granted, 42704 for a role that does not exist, 22023 for an owner.';

CREATE FUNCTION regcrm.grant_level(role name, level text) RETURNS integer
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	s record;
	n integer := 0;
BEGIN
	FOR s IN SELECT * FROM regcrm.access_statements($1, $2) x WHERE NOT x.granted LOOP
		EXECUTE s.statement;
		n := n + 1;
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION regcrm.grant_level(name, text) IS
	'For grant_access(): grants what a level brings and the role has not been granted yet. Returns how many objects that were.';

CREATE FUNCTION regcrm.revoke_all(role name) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_variable
DECLARE
	grantee oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = role);
	s text;
	held text;
BEGIN
	FOR s IN
		SELECT format('REVOKE ALL ON %s regcrm.%I FROM %I', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname, role)
		FROM pg_class c
		WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
			AND (EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee = grantee)
				OR EXISTS (SELECT FROM pg_attribute t CROSS JOIN LATERAL aclexplode(t.attacl) a WHERE t.attrelid = c.oid AND a.grantee = grantee))
		UNION ALL
		SELECT format('REVOKE ALL ON ROUTINE %s FROM %I', p.oid::regprocedure, role)
		FROM pg_proc p
		WHERE p.pronamespace = 'regcrm'::regnamespace AND p.prokind <> 'a' AND EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = grantee)
		UNION ALL
		SELECT format('REVOKE ALL ON SCHEMA regcrm FROM %I', role)
		FROM pg_namespace n
		WHERE n.nspname = 'regcrm' AND EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = grantee)
	LOOP
		EXECUTE s;
	END LOOP;

	-- what somebody else granted stays, and is told of
	SELECT string_agg(h.object || ' (by ' || pg_get_userbyid(h.grantor) || ')', ', ' ORDER BY h.object) INTO held
	FROM (SELECT c.oid::regclass::text AS object, a.grantor FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
			WHERE c.relnamespace = 'regcrm'::regnamespace AND a.grantee = grantee
		UNION SELECT c.oid::regclass::text, a.grantor FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN LATERAL aclexplode(t.attacl) a
			WHERE c.relnamespace = 'regcrm'::regnamespace AND a.grantee = grantee
		UNION SELECT p.oid::regprocedure::text, a.grantor FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a
			WHERE p.pronamespace = 'regcrm'::regnamespace AND a.grantee = grantee
		UNION SELECT 'schema regcrm', a.grantor FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
			WHERE n.nspname = 'regcrm' AND a.grantee = grantee) h;
	IF held IS NOT NULL THEN
		RAISE EXCEPTION 'role "%" holds rights on regcrm that others granted', role
			USING ERRCODE = 'dependent_privilege_descriptors_still_exist',
				DETAIL = format('They are: %s.', held), HINT = 'Who granted them must revoke them first.';
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.revoke_all(name) IS
	'For revoke_access(): takes from a role every right on what lies in schema regcrm. Error 2B000 where others than the owner granted some.';

CREATE FUNCTION regcrm.grant_access(role name, level text) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	PERFORM regcrm.level_parts($2);
	PERFORM regcrm.need_grantor($1);
	PERFORM pg_advisory_xact_lock(hashtextextended('regcrm.setup', 0));
	PERFORM regcrm.note_access($1, $2, true);
	PERFORM regcrm.grant_level($1, $2);
END
$$;
COMMENT ON FUNCTION regcrm.grant_access(name, text) IS
	'Grants a role what a level may do: reader (views and functions that answer), writer (reader, and deals, events and tasks), operator (reader, and the data engineer''s day: connect, sync, quarantine, jobs), admin (all of it, and rules, calendars, mapping, waive, forget, detach). A role may have several levels. docs/access.md has the table. Arguments: role, level. Needs to be a superuser, or to own the tables and be able to grant the rest. Errors: 22023 for a level or role that can''t be, 42704 for a role that does not exist, 42501.';

CREATE FUNCTION regcrm.revoke_access(role name, level text DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	left_over text;
BEGIN
	IF $2 IS NOT NULL THEN
		PERFORM regcrm.level_parts($2);
	END IF;
	PERFORM regcrm.need_grantor($1);
	PERFORM pg_advisory_xact_lock(hashtextextended('regcrm.setup', 0));
	PERFORM regcrm.revoke_all($1);
	FOREACH left_over IN ARRAY regcrm.note_access($1, $2, false) LOOP
		PERFORM regcrm.grant_level($1, left_over);
	END LOOP;
END
$$;
COMMENT ON FUNCTION regcrm.revoke_access(name, text) IS
	'Takes a level from a role, or (level null) every right on what lies in schema regcrm, also such as were granted otherwise; of several levels the others stay. Which users of the CRM the role is, stays too: see unmap_role(). Arguments: role, level. Errors: as of grant_access(); 2B000 where others than the owner granted some.';

CREATE FUNCTION regcrm.apply_access() RETURNS integer
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	x record;
	n integer := 0;
BEGIN
	PERFORM regcrm.need_tables();
	FOR x IN SELECT y.role, y.level FROM jsonb_to_recordset(regcrm.noted_access()) y(role name, level text) WHERE EXISTS (SELECT FROM pg_roles r WHERE r.rolname = y.role) LOOP
		PERFORM regcrm.need_grantor(x.role);
		n := n + regcrm.grant_level(x.role, x.level);
	END LOOP;
	RETURN n;
END
$$;
COMMENT ON FUNCTION regcrm.apply_access() IS
	'Grants again what stands in regcrm.access and roles have not: after a dump was restored without privileges or by a role that could not grant them all. Roles that do not exist are passed over. Returns how many objects that were. Error 42501 as of grant_access().';

-- In setup(): what a new version brings is for those who have the level still.
-- One who lost USAGE on the schema lost it by other means than revoke_access(),
-- perhaps with his role: who is called the same now is not given it.
CREATE FUNCTION regcrm.renew_access() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	x record;
	s record;
	missing text[] := '{}';
BEGIN
	FOR x IN
		SELECT y.role, y.level FROM jsonb_to_recordset(regcrm.noted_access()) y(role name, level text)
		JOIN pg_roles r ON r.rolname = y.role
		JOIN pg_namespace n ON n.nspname = 'regcrm' AND EXISTS (
			SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = r.oid AND a.privilege_type = 'USAGE')
	LOOP
		FOR s IN SELECT * FROM regcrm.access_statements(x.role, x.level) y WHERE NOT y.granted LOOP
			BEGIN
				EXECUTE s.statement;
			EXCEPTION WHEN insufficient_privilege THEN
				missing := missing || format('%s to "%s"', s.object, x.role);
			END;
		END LOOP;
	END LOOP;
	IF cardinality(missing) > 0 THEN
		RAISE WARNING '% rights could not be granted', cardinality(missing)
			USING DETAIL = array_to_string(missing, ', '), HINT = 'Let a superuser run: SELECT regcrm.apply_access();';
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.renew_access() IS
	'For setup(): grants what this version brings to the roles that have the level. What the caller can''t grant is told by a warning.';

-- ---------------------------------------------------------------------------
-- row security
-- ---------------------------------------------------------------------------

CREATE FUNCTION regcrm.seen_accounts() RETURNS bigint[]
	AS 'MODULE_PATHNAME', 'regcrm_seen_accounts'
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000;
COMMENT ON FUNCTION regcrm.seen_accounts() IS
	'For row security: the accounts that current_user sees as a whole: as a head (map_head()), operator or admin, or because row security does not bind there.';

CREATE FUNCTION regcrm.own_accounts() RETURNS bigint[]
	AS 'MODULE_PATHNAME', 'regcrm_own_accounts'
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000;
COMMENT ON FUNCTION regcrm.own_accounts() IS
	'For row security: the accounts in which current_user is a manager (map_manager()), in the order of own_users().';

CREATE FUNCTION regcrm.own_users() RETURNS bigint[]
	AS 'MODULE_PATHNAME', 'regcrm_own_users'
	LANGUAGE C STABLE PARALLEL RESTRICTED COST 1000;
COMMENT ON FUNCTION regcrm.own_users() IS
	'For row security: amoCRM''s numbers of the users that current_user is, in the order of own_accounts().';

CREATE FUNCTION regcrm.row_rules(OUT relation text, OUT policy text, OUT command text, OUT expression text) RETURNS SETOF record
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	-- sub-selects, so that each is asked once a statement; the first two conditions are for an index, the third makes pairs of them
	WITH mine AS (SELECT 'account_id = ANY ((SELECT regcrm.own_accounts())::bigint[]) AND manager_id = ANY ((SELECT regcrm.own_users())::bigint[])'
			|| ' AND (account_id, manager_id) IN (SELECT u.a, u.m FROM unnest((SELECT regcrm.own_accounts()), (SELECT regcrm.own_users())) u(a, m))' AS expression)
	SELECT t.relation, 'regcrm_seen', 'ALL', 'account_id = ANY ((SELECT regcrm.seen_accounts())::bigint[])'
	FROM unnest('{deal,event,task,deadline,violation,contact,deal_contact,next_moment,outbox,forgotten,forgotten_part,other_event,quarantine,wanted,reconciliation,webhook,mart_duty,mart_state,mart_dirty}'::text[]) t(relation)
	UNION ALL
	SELECT 'deal', 'regcrm_own', 'ALL', m.expression FROM mine m
	UNION ALL
	-- whose deal one sees: its own policies hold in here
	SELECT t.relation, 'regcrm_own', 'ALL', format('EXISTS (SELECT FROM regcrm.deal d WHERE d.account_id = %1$I.account_id AND d.id = %1$I.deal_id)', t.relation)
	FROM unnest('{event,task,deadline,violation,deal_contact,next_moment,outbox,forgotten}'::text[]) t(relation)
	UNION ALL
	SELECT 'contact', 'regcrm_own', 'ALL', 'EXISTS (SELECT FROM regcrm.deal_contact l WHERE l.account_id = contact.account_id AND l.contact_id = contact.id)'
	UNION ALL
	-- and what one is to do, or answers for, on a deal that is somebody else's by now
	SELECT t.relation, 'regcrm_mine', 'SELECT', m.expression
	FROM unnest('{task,deadline,violation}'::text[]) t(relation), mine m
	$$;
COMMENT ON FUNCTION regcrm.row_rules() IS
	'The policies of row security: table, name, command, condition. A manager sees the deals that he is responsible for with all that hangs on them, and his own tasks, duties and violations of other deals; sums (marts) and what hangs on no deal are for heads.';

CREATE FUNCTION regcrm.make_policies() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	r record;
	heads text[];
BEGIN
	-- Only for those whom it lets see more: for a manager, a condition that may be
	-- true of every row would keep the planner from the index.
	IF EXISTS (SELECT FROM regcrm.account a WHERE NOT a.row_security) THEN
		heads := '{public}';
	ELSE
		heads := ARRAY(SELECT o.rolname::text FROM pg_roles o
			WHERE o.rolname IN (SELECT h.role FROM regcrm.head h UNION SELECT x.role FROM regcrm.access x WHERE x.level IN ('operator', 'admin'))
			ORDER BY o.rolname);
	END IF;

	FOR r IN
		SELECT w.*, c.relrowsecurity, t.polname IS NOT NULL AS there, x.wanted, x.wanted <> '{}' AS is_wanted,
			ARRAY(SELECT CASE u.role WHEN 0 THEN 'public' ELSE pg_get_userbyid(u.role)::text END FROM unnest(t.polroles) u(role) ORDER BY 1) AS held,
			(SELECT string_agg(CASE u.role WHEN 'public' THEN 'PUBLIC' ELSE quote_ident(u.role) END, ', ') FROM unnest(x.wanted) u(role)) AS roles
		FROM regcrm.row_rules() w
		JOIN pg_class c ON c.relnamespace = 'regcrm'::regnamespace AND c.relname::text = w.relation
		CROSS JOIN LATERAL (SELECT CASE w.policy WHEN 'regcrm_seen' THEN heads ELSE '{public}' END AS wanted) x
		LEFT JOIN pg_policy t ON t.polrelid = c.oid AND t.polname::text = w.policy
		ORDER BY w.relation, w.policy
	LOOP
		IF r.there AND NOT r.is_wanted THEN
			EXECUTE format('DROP POLICY %I ON regcrm.%I', r.policy, r.relation);
		ELSIF r.there THEN
			IF r.held <> ARRAY(SELECT u FROM unnest(r.wanted) u ORDER BY 1) THEN
				EXECUTE format('ALTER POLICY %I ON regcrm.%I TO %s', r.policy, r.relation, r.roles);
			END IF;
		ELSIF r.is_wanted THEN
			EXECUTE format('CREATE POLICY %I ON regcrm.%I FOR %s TO %s USING (%s)', r.policy, r.relation, r.command, r.roles, r.expression);
			EXECUTE format('COMMENT ON POLICY %I ON regcrm.%I IS %L', r.policy, r.relation, CASE r.policy
				WHEN 'regcrm_seen' THEN 'Heads, operators and admins see all rows of their accounts, all roles those of accounts without row security.'
				WHEN 'regcrm_own' THEN 'A manager sees his deals and what hangs on them.'
				ELSE 'A manager sees what he is to do or answers for himself.' END);
		END IF;
	END LOOP;
	FOR r IN
		SELECT DISTINCT w.relation FROM regcrm.row_rules() w
		JOIN pg_class c ON c.relnamespace = 'regcrm'::regnamespace AND c.relname::text = w.relation AND NOT c.relrowsecurity
	LOOP
		EXECUTE format('ALTER TABLE regcrm.%I ENABLE ROW LEVEL SECURITY', r.relation);
	END LOOP;
END
$$;
COMMENT ON FUNCTION regcrm.make_policies() IS
	'For enable_row_security(), setup() and what changes who is a head: makes policies as they are to be, and turns row security on.';

CREATE FUNCTION regcrm.renew_policies() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	IF (SELECT i.row_security FROM regcrm.installed i) THEN
		PERFORM regcrm.make_policies();
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.renew_policies() IS
	'Makes policies as they are to be, where row security is on.';

CREATE FUNCTION regcrm.drop_policies() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	r record;
BEGIN
	FOR r IN
		SELECT w.relation, w.policy FROM regcrm.row_rules() w
		JOIN pg_class c ON c.relnamespace = 'regcrm'::regnamespace AND c.relname::text = w.relation
		JOIN pg_policy t ON t.polrelid = c.oid AND t.polname::text = w.policy
	LOOP
		EXECUTE format('DROP POLICY %I ON regcrm.%I', r.policy, r.relation);
	END LOOP;
END
$$;
COMMENT ON FUNCTION regcrm.drop_policies() IS
	'For disable_row_security() and detach(): drops our policies. Tables stay shut to all but their owner until row security is turned off, or policies are made again.';

CREATE FUNCTION regcrm.enable_row_security(account_id bigint DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	blind text;
BEGIN
	PERFORM regcrm.need_tables();
	PERFORM pg_advisory_xact_lock(hashtextextended('regcrm.setup', 0));
	IF $1 IS NOT NULL AND NOT EXISTS (SELECT FROM regcrm.account a WHERE a.id = $1) THEN
		RAISE EXCEPTION 'account % does not exist', $1
			USING ERRCODE = 'undefined_object', HINT = 'Accounts stand in regcrm.account.';
	END IF;
	-- of one account while it was off: of no other
	UPDATE regcrm.account a SET row_security = true
		WHERE NOT a.row_security AND ($1 IS NULL OR a.id = $1);
	UPDATE regcrm.account a SET row_security = false
		WHERE a.row_security AND a.id <> $1 AND NOT (SELECT i.row_security FROM regcrm.installed i);
	PERFORM regcrm.make_policies();
	UPDATE regcrm.installed i SET row_security = true WHERE NOT i.row_security;

	SELECT string_agg(DISTINCT quote_ident(x.role), ', ') INTO blind
	FROM regcrm.access x
	JOIN pg_roles r ON r.rolname = x.role AND NOT r.rolsuper AND NOT r.rolbypassrls
	WHERE NOT EXISTS (SELECT FROM regcrm.access y JOIN pg_roles o ON o.rolname = y.role
			WHERE y.level IN ('operator', 'admin') AND pg_has_role(r.oid, o.oid, 'usage'))
		AND NOT EXISTS (SELECT FROM regcrm.head h JOIN pg_roles o ON o.rolname = h.role
			WHERE ($1 IS NULL OR h.account_id IS NULL OR h.account_id = $1) AND pg_has_role(r.oid, o.oid, 'usage'))
		AND NOT EXISTS (SELECT FROM regcrm.manager m JOIN pg_roles o ON o.rolname = m.db_role
			WHERE ($1 IS NULL OR m.account_id = $1) AND pg_has_role(r.oid, o.oid, 'usage'));
	IF blind IS NOT NULL THEN
		RAISE NOTICE 'these roles see no deals now: %', blind
			USING HINT = 'regcrm.map_manager() and regcrm.map_head() say what a role sees.';
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.enable_row_security(bigint) IS
	'Turns row security on: a role that is a manager (map_manager()) sees own deals and what hangs on them, own tasks, duties and violations; a head (map_head()), an operator and an admin see all; who is neither sees none. The owner of the tables and superusers are not bound. Argument: account, null = all, those to come too. Error 42704 for an account that does not exist.';

CREATE FUNCTION regcrm.disable_row_security(account_id bigint DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	r record;
BEGIN
	PERFORM regcrm.need_tables();
	PERFORM pg_advisory_xact_lock(hashtextextended('regcrm.setup', 0));
	IF $1 IS NOT NULL THEN
		UPDATE regcrm.account a SET row_security = false WHERE a.id = $1 AND a.row_security;
		PERFORM regcrm.renew_policies();
		RETURN;
	END IF;
	PERFORM regcrm.drop_policies();
	-- a table with policies of the user's own stays as he has it
	FOR r IN
		SELECT DISTINCT w.relation FROM regcrm.row_rules() w
		JOIN pg_class c ON c.relnamespace = 'regcrm'::regnamespace AND c.relname::text = w.relation AND c.relrowsecurity
		WHERE NOT EXISTS (SELECT FROM pg_policy t WHERE t.polrelid = c.oid)
	LOOP
		EXECUTE format('ALTER TABLE regcrm.%I DISABLE ROW LEVEL SECURITY', r.relation);
	END LOOP;
	UPDATE regcrm.account a SET row_security = true WHERE NOT a.row_security;
	UPDATE regcrm.installed i SET row_security = false WHERE i.row_security;
END
$$;
COMMENT ON FUNCTION regcrm.disable_row_security(bigint) IS
	'Turns row security off: who may read the tables sees every row again. Argument: account, null = all. Tables on which there are policies of the user''s own keep these.';

CREATE FUNCTION regcrm.need_role(role name) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	PERFORM regcrm.need_tables();
	IF $1 IS NULL OR NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $1) THEN
		RAISE EXCEPTION 'role "%" does not exist', COALESCE($1::text, 'null')
			USING ERRCODE = 'undefined_object', HINT = 'CREATE ROLE makes one.';
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.need_role(name) IS
	'Error 42704 for a role that does not exist.';

CREATE FUNCTION regcrm.map_manager(role name, account_id bigint, user_id bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	other bigint;
	other_role name;
BEGIN
	PERFORM regcrm.need_role($1);
	SELECT m.id INTO other FROM regcrm.manager m WHERE m.account_id = $2 AND m.db_role = $1 AND m.id <> $3;
	IF FOUND THEN
		RAISE EXCEPTION 'role "%" is user % of account % already', $1, other, $2
			USING ERRCODE = 'unique_violation', HINT = 'Call regcrm.unmap_role() first.';
	END IF;
	SELECT m.db_role INTO other_role FROM regcrm.manager m WHERE m.account_id = $2 AND m.id = $3 AND m.db_role <> $1;
	IF FOUND THEN
		RAISE EXCEPTION 'user % of account % is role "%" already', $3, $2, other_role
			USING ERRCODE = 'unique_violation',
				HINT = 'A user has one role; grant that to other roles that he logs in by, or call regcrm.unmap_role() first.';
	END IF;
	UPDATE regcrm.manager m SET db_role = $1 WHERE m.account_id = $2 AND m.id = $3;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'account % has no user %', COALESCE($2::text, 'null'), COALESCE($3::text, 'null')
			USING ERRCODE = 'no_data_found', HINT = 'Users stand in regcrm.manager.';
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.map_manager(name, bigint, bigint) IS
	'Says which user of the CRM a role is (manager.db_role): what the role writes is his, and where row security is on it sees his rows, as does who has the role''s privileges. Arguments: role, account, user. Errors: 42704 for a role that does not exist, P0002 for a user that does not, 23505 where the role is another user of the account, or the user another role.';

CREATE FUNCTION regcrm.map_head(role name, account_id bigint DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	PERFORM regcrm.need_role($1);
	IF $2 IS NOT NULL AND NOT EXISTS (SELECT FROM regcrm.account a WHERE a.id = $2) THEN
		RAISE EXCEPTION 'account % does not exist', $2
			USING ERRCODE = 'undefined_object', HINT = 'Accounts stand in regcrm.account.';
	END IF;
	INSERT INTO regcrm.head (role, account_id) VALUES ($1, $2) ON CONFLICT DO NOTHING;
	PERFORM regcrm.renew_policies();
END
$$;
COMMENT ON FUNCTION regcrm.map_head(name, bigint) IS
	'Has a role, and who has its privileges, see all rows of an account where row security is on. Arguments: role; account, null = all. Error 42704 for a role or account that does not exist.';

CREATE FUNCTION regcrm.unmap_role(role name, account_id bigint DEFAULT NULL) RETURNS integer
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	n integer;
	heads integer;
BEGIN
	PERFORM regcrm.need_tables();
	UPDATE regcrm.manager m SET db_role = NULL WHERE m.db_role = $1 AND ($2 IS NULL OR m.account_id = $2);
	GET DIAGNOSTICS n = ROW_COUNT;
	DELETE FROM regcrm.head h WHERE h.role = $1 AND ($2 IS NULL OR h.account_id = $2);
	GET DIAGNOSTICS heads = ROW_COUNT;
	PERFORM regcrm.renew_policies();
	RETURN n + heads;
END
$$;
COMMENT ON FUNCTION regcrm.unmap_role(name, bigint) IS
	'Takes back what map_manager() and map_head() said of a role. Arguments: role; account, null = all. Returns how many mappings went.';

-- ---------------------------------------------------------------------------
-- run by the owner of the tables, whoever calls
-- ---------------------------------------------------------------------------

-- Each of these is renamed to NAME_by_owner and called by a function NAME in C
-- that becomes the owner first (src/access.c says why).  Arguments, defaults and
-- comments stay as they were.
DO $owner$
DECLARE
	r record;
BEGIN
	FOR r IN
		SELECT p.oid::regprocedure::text AS signature, p.proname, p.prokind, p.provolatile, v.body,
			pg_catalog.pg_get_function_arguments(p.oid) AS arguments, pg_catalog.pg_get_function_identity_arguments(p.oid) AS identity,
			pg_catalog.pg_get_function_result(p.oid) AS result, pg_catalog.obj_description(p.oid, 'pg_proc') AS meaning
		FROM (VALUES
			('pause', 'regcrm_by_owner'), ('resume', 'regcrm_by_owner'), ('disconnect', 'regcrm_by_owner'),
			('ingest', 'regcrm_by_owner'), ('ingest_webhook', 'regcrm_by_owner'), ('retry_quarantine', 'regcrm_by_owner'),
			('retention', 'regcrm_by_owner'), ('want', 'regcrm_by_owner'), ('remap', 'regcrm_by_owner'),
			('change_hours', 'regcrm_by_owner'), ('copy_regulation', 'regcrm_by_owner'), ('refresh_marts', 'regcrm_by_owner'), ('stop_marts', 'regcrm_by_owner'),
			('write_back', 'regcrm_by_owner'), ('stop_write_back', 'regcrm_by_owner'),
			('forget', 'regcrm_by_owner_unjudged'), ('detach', 'regcrm_by_owner_or_superuser'),
			('map_manager', 'regcrm_by_owner'), ('map_head', 'regcrm_by_owner'), ('unmap_role', 'regcrm_by_owner'),
			('enable_row_security', 'regcrm_by_owner'), ('disable_row_security', 'regcrm_by_owner'),
			('note_access', 'regcrm_by_owner'), ('noted_access', 'regcrm_by_owner'), ('installed_views', 'regcrm_by_owner'),
			-- triggers
			('account_changed', 'regcrm_by_owner'), ('judging_changed', 'regcrm_by_owner'), ('stage_map_changed', 'regcrm_by_owner'),
			('field_map_changed', 'regcrm_by_owner'), ('task_kind_map_changed', 'regcrm_by_owner'), ('stage_def_check', 'regcrm_by_owner'),
			('regulation_check', 'regcrm_by_owner'), ('calendar_check', 'regcrm_by_owner'), ('calendar_works', 'regcrm_by_owner')
			) AS v(name, body)
		LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = 'regcrm'::regnamespace AND p.proname = v.name
		ORDER BY v.name
	LOOP
		EXECUTE pg_catalog.format('ALTER ROUTINE %s RENAME TO %I', r.signature, r.proname || '_by_owner');
		EXECUTE pg_catalog.format('COMMENT ON ROUTINE regcrm.%I(%s) IS %L', r.proname || '_by_owner', r.identity,
			pg_catalog.format('For %s(), which runs it as the owner of the tables.', r.proname));
		IF r.prokind = 'p' THEN
			EXECUTE pg_catalog.format('CREATE PROCEDURE regcrm.%I(%s) AS ''MODULE_PATHNAME'', %L LANGUAGE C',
				r.proname, r.arguments, r.body);
		ELSE
			EXECUTE pg_catalog.format('CREATE FUNCTION regcrm.%I(%s) RETURNS %s AS ''MODULE_PATHNAME'', %L LANGUAGE C %s PARALLEL UNSAFE',
				r.proname, r.arguments, r.result, r.body, CASE r.provolatile WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END);
		END IF;
		EXECUTE pg_catalog.format('COMMENT ON ROUTINE regcrm.%I(%s) IS %L', r.proname, r.identity, r.meaning);
	END LOOP;
END
$owner$;

-- ---------------------------------------------------------------------------
-- nothing to PUBLIC
-- ---------------------------------------------------------------------------

REVOKE ALL ON SCHEMA regcrm FROM PUBLIC;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA regcrm FROM PUBLIC;

-- But for what the server calls by itself for whoever was granted a table or
-- holds a value, and asks his right to: the functions of the type, which look at
-- no table (input at stage_def, of which it tells no more than which stages there
-- are); the default of every account_id, which reads with the rights of the
-- caller; the condition of the triggers that judge.  Without USAGE on the schema,
-- which PUBLIC has not, nobody can call them by name.
GRANT EXECUTE ON FUNCTION
	regcrm.stage_in(cstring), regcrm.stage_out(regcrm.stage), regcrm.stage_recv(internal), regcrm.stage_send(regcrm.stage),
	regcrm.stage_eq(regcrm.stage, regcrm.stage), regcrm.stage_ne(regcrm.stage, regcrm.stage), regcrm.stage_lt(regcrm.stage, regcrm.stage),
	regcrm.stage_le(regcrm.stage, regcrm.stage), regcrm.stage_gt(regcrm.stage, regcrm.stage), regcrm.stage_ge(regcrm.stage, regcrm.stage),
	regcrm.stage_cmp(regcrm.stage, regcrm.stage), regcrm.stage_hash(regcrm.stage), regcrm.stage_hash_extended(regcrm.stage, bigint),
	regcrm.stage_to_text(regcrm.stage), regcrm.text_to_stage(text),
	regcrm.current_account(), regcrm.judging_due(regclass)
	TO PUBLIC;
