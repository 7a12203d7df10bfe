
-- ---------------------------------------------------------------------------
-- setup, detach, forget
-- ---------------------------------------------------------------------------

CREATE FUNCTION regcrm.setup() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $$
DECLARE
	new_version text;
	owner name;
	users_views text[];
	our_views text[];
BEGIN
	-- one at a time
	PERFORM pg_advisory_xact_lock(hashtextextended('regcrm.setup', 0));

	SELECT e.extversion INTO STRICT new_version FROM pg_extension e WHERE e.extname = 'regcrm';

	-- what is made today belongs to the one who owns the rest
	SELECT pg_get_userbyid(c.relowner) INTO owner
		FROM pg_class c
		WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relname IN ('installed', 'account', 'deal', 'event', 'task', 'rule')
			AND pg_get_userbyid(c.relowner) <> current_user
		LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'the tables in schema "regcrm" belong to role "%"', owner
			USING ERRCODE = 'insufficient_privilege',
				HINT = format('Run regcrm.setup() as that role, as after SET ROLE %I.', owner);
	END IF;

	PERFORM regcrm.setup_facts();

	INSERT INTO regcrm.installed (version) VALUES (new_version) ON CONFLICT DO NOTHING;

	PERFORM regcrm.setup_regulation();
	PERFORM regcrm.setup_mapping();
	PERFORM regcrm.setup_webhook();
	PERFORM regcrm.setup_outbox();
	PERFORM regcrm.setup_findings();
	PERFORM regcrm.setup_access();
	PERFORM regcrm.attach_columns();
	PERFORM regcrm.setup_triggers();

	-- remember which views are ours: detach() drops these and no others
	users_views := ARRAY(
		SELECT c.relname::text FROM pg_class c
		WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind = 'v'
			AND c.relname::text <> ALL ((SELECT i.views FROM regcrm.installed i)::text[]));
	PERFORM regcrm.setup_views();
	our_views := ARRAY(
		SELECT c.relname::text FROM pg_class c
		WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind = 'v' AND c.relname::text <> ALL (users_views)
		ORDER BY c.relname::text);
	PERFORM regcrm.attach_rest();

	UPDATE regcrm.installed i
		SET version = new_version, views = our_views, detached = false, at = now()
		WHERE i.version <> new_version OR i.views <> our_views OR i.detached;

	-- what is new is for whom it is meant
	PERFORM regcrm.renew_access();
	PERFORM regcrm.renew_policies();
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.setup() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.setup() IS
	'Makes the tables and views and loads the built-in regulation; run again, migrates them to the installed version and changes nothing else. They belong to whoever calls it, who needs CREATE on schema regcrm. Error 42501 where they belong to somebody else.';

CREATE FUNCTION regcrm.detach() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $$
DECLARE
	ours text[];
	r record;
BEGIN
	PERFORM pg_advisory_xact_lock(hashtextextended('regcrm.setup', 0));

	IF to_regclass('regcrm.installed') IS NULL THEN
		RETURN;
	END IF;

	-- what setup() is to take back
	CREATE TABLE IF NOT EXISTS regcrm.detached (
		what text NOT NULL,
		relation text NOT NULL,
		name text NOT NULL,
		detail text NOT NULL DEFAULT '',
		PRIMARY KEY (what, relation, name, detail),
		CONSTRAINT detached_what_check CHECK (what IN ('type', 'default', 'trigger', 'grant', 'grant with option'))
	);
	PERFORM regcrm.describe('regcrm.detached', 'What detach() took away and the next setup() takes back, which also drops this table.',
		'what', 'type = a column was a stage; default = a column had the account as its default; trigger = a trigger was switched; grant = a right on a view.',
		'relation', 'Table or view.',
		'name', 'Column, trigger or role.',
		'detail', 'trigger: how it was switched (O, D, R, A). grant: the right.');

	-- views, and who may read them
	ours := ARRAY(
		SELECT format('regcrm.%I', c.relname) FROM pg_class c, regcrm.installed i
		WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind = 'v' AND c.relname::text = ANY (i.views)
		ORDER BY c.relname);
	INSERT INTO regcrm.detached (what, relation, name, detail)
		SELECT CASE WHEN a.is_grantable THEN 'grant with option' ELSE 'grant' END, format('regcrm.%I', c.relname),
			CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, a.privilege_type
		FROM pg_class c
		CROSS JOIN LATERAL aclexplode(c.relacl) a
		WHERE format('regcrm.%I', c.relname) = ANY (ours) AND c.relnamespace = 'regcrm'::regnamespace AND a.grantee <> c.relowner
		ON CONFLICT DO NOTHING;
	IF cardinality(ours) > 0 THEN
		EXECUTE 'DROP VIEW ' || array_to_string(ours, ', ');
	END IF;

	-- triggers that call a function of the extension
	FOR r IN
		SELECT t.tgrelid::regclass::text AS relation, t.tgname AS name, t.tgenabled AS enabled
		FROM pg_trigger t
		JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = t.tgfoid AND d.deptype = 'e'
			AND d.refclassid = 'pg_extension'::regclass
		JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'regcrm'
		WHERE NOT t.tgisinternal AND t.tgparentid = 0
	LOOP
		INSERT INTO regcrm.detached (what, relation, name, detail)
			VALUES ('trigger', r.relation, r.name, r.enabled) ON CONFLICT DO NOTHING;
		EXECUTE format('DROP TRIGGER %I ON %s', r.name, r.relation);
	END LOOP;

	-- policies; the tables stay shut
	PERFORM regcrm.drop_policies();

	-- defaults
	FOR r IN
		SELECT f.adrelid::regclass::text AS relation, a.attname AS name
		FROM pg_attrdef f
		JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
		WHERE pg_get_expr(f.adbin, f.adrelid) = 'regcrm.current_account()'
	LOOP
		INSERT INTO regcrm.detached (what, relation, name) VALUES ('default', r.relation, r.name) ON CONFLICT DO NOTHING;
		EXECUTE format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', r.relation, r.name);
	END LOOP;

	-- stages become text, a table in one go
	FOR r IN
		SELECT c.oid, c.oid::regclass::text AS relation, array_agg(a.attname::text ORDER BY a.attnum) AS names,
			string_agg(format('ALTER COLUMN %1$I TYPE text USING %1$I::text', a.attname), ', ' ORDER BY a.attnum) AS actions
		FROM pg_class c
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attinhcount = 0
		WHERE c.relkind IN ('r', 'p') AND a.atttypid = 'regcrm.stage'::regtype
		GROUP BY c.oid
	LOOP
		INSERT INTO regcrm.detached (what, relation, name)
			SELECT 'type', r.relation, n FROM unnest(r.names) n ON CONFLICT DO NOTHING;
		PERFORM regcrm.as_owner_of(r.oid, format('ALTER TABLE %s %s', r.relation, r.actions));
	END LOOP;

	UPDATE regcrm.installed i SET detached = true WHERE NOT i.detached;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.detach() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.detach() IS
	'Makes DROP EXTENSION possible without loss: stage columns become text; our triggers, defaults and views are dropped. setup() takes them back, with the rights on the views. Error 2BP01 where a view by the user stands on one of ours; 42501 for who does not own the tables.';

CREATE FUNCTION regcrm.as_owner_of(relation regclass, command text) RETURNS void
	AS 'MODULE_PATHNAME', 'regcrm_as_owner_of'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION regcrm.as_owner_of(regclass, text) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.as_owner_of(regclass, text) IS
	'For detach() and setup(): runs a command about a table as the owner of that, so that what its constraints call is not run by a superuser. Error 42501 for who has not the owner''s privileges.';

CREATE FUNCTION regcrm.attach_columns() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	r record;
BEGIN
	IF to_regclass('regcrm.detached') IS NULL THEN
		RETURN;
	END IF;

	FOR r IN
		SELECT c.oid::regclass AS relation,
			string_agg(format('ALTER COLUMN %1$I TYPE regcrm.stage USING %1$I::regcrm.stage', a.attname), ', ' ORDER BY a.attnum) AS actions
		FROM regcrm.detached d
		JOIN pg_class c ON c.oid = to_regclass(d.relation)
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname::text = d.name AND NOT a.attisdropped AND a.atttypid = 'text'::regtype
		WHERE d.what = 'type'
		GROUP BY c.oid
	LOOP
		PERFORM regcrm.as_owner_of(r.relation, format('ALTER TABLE %s %s', r.relation, r.actions));
	END LOOP;

	FOR r IN
		SELECT c.oid::regclass AS relation, a.attname AS name
		FROM regcrm.detached d
		JOIN pg_class c ON c.oid = to_regclass(d.relation)
		JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname::text = d.name AND NOT a.attisdropped AND NOT a.atthasdef
		WHERE d.what = 'default'
	LOOP
		PERFORM regcrm.as_owner_of(r.relation, format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT regcrm.current_account()', r.relation, r.name));
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.attach_columns() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.attach_columns() IS
	'For setup(): makes columns that detach() turned into text stages again, and gives them their defaults. Error 22P02 for a stage that stage_def no longer knows.';

CREATE FUNCTION regcrm.attach_rest() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	r record;
BEGIN
	IF to_regclass('regcrm.detached') IS NULL THEN
		RETURN;
	END IF;

	FOR r IN
		SELECT t.tgrelid::regclass AS relation, t.tgname AS name,
			CASE d.detail WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE' END AS switched
		FROM regcrm.detached d
		JOIN pg_trigger t ON t.tgrelid = to_regclass(d.relation) AND t.tgname::text = d.name AND t.tgenabled::text <> d.detail
		WHERE d.what = 'trigger'
	LOOP
		EXECUTE format('ALTER TABLE %s %s TRIGGER %I', r.relation, r.switched, r.name);
	END LOOP;

	FOR r IN
		SELECT c.oid::regclass AS relation, d.name AS role, d.detail AS privilege,
			CASE d.what WHEN 'grant' THEN '' ELSE ' WITH GRANT OPTION' END AS with_option
		FROM regcrm.detached d
		JOIN pg_class c ON c.oid = to_regclass(d.relation)
		WHERE d.what LIKE 'grant%' AND d.detail IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'REFERENCES')
			AND (d.name = 'PUBLIC' OR to_regrole(d.name) IS NOT NULL)
	LOOP
		EXECUTE format('GRANT %s ON %s TO %s%s', r.privilege, r.relation,
			CASE r.role WHEN 'PUBLIC' THEN 'PUBLIC' ELSE to_regrole(r.role)::text END, r.with_option);
	END LOOP;

	DROP TABLE regcrm.detached;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.attach_rest() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.attach_rest() IS
	'For setup(): switches triggers and grants rights on views as they were before detach().';

CREATE FUNCTION regcrm.forget(account_id bigint, deal_id bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	persons bigint[];
	named text;
BEGIN
	PERFORM regcrm.need_tables();
	IF $1 IS NULL OR $2 IS NULL THEN
		RAISE EXCEPTION 'an account and a deal must be given'
			USING ERRCODE = 'null_value_not_allowed';
	END IF;

	-- erasing is no fact about the deal: nothing is appended, refused or judged
	-- (run in mode off, by regcrm_by_owner_unjudged() in C)

	-- contacts of this deal and of no other
	persons := ARRAY(
		SELECT l.contact_id FROM regcrm.deal_contact l
		WHERE l.account_id = $1 AND l.deal_id = $2
			AND NOT EXISTS (SELECT FROM regcrm.deal_contact o
				WHERE o.account_id = $1 AND o.contact_id = l.contact_id AND o.deal_id <> $2));

	INSERT INTO regcrm.forgotten_part (account_id, entity, id)
		SELECT $1, 'contact', p FROM unnest(persons) p
		UNION
		SELECT $1, 'task', t.id FROM regcrm.task t WHERE t.account_id = $1 AND t.deal_id = $2
		ON CONFLICT DO NOTHING;

	DELETE FROM regcrm.event e WHERE e.account_id = $1 AND e.deal_id = $2;
	DELETE FROM regcrm.event e WHERE e.account_id = $1 AND e.contact_id = ANY (persons) AND e.deal_id IS NULL;
	DELETE FROM regcrm.task t WHERE t.account_id = $1 AND t.deal_id = $2;
	DELETE FROM regcrm.deal_contact l WHERE l.account_id = $1 AND l.deal_id = $2;
	DELETE FROM regcrm.contact c WHERE c.account_id = $1 AND c.id = ANY (persons);
	DELETE FROM regcrm.other_event o
		WHERE o.account_id = $1 AND (o.entity_type IN ('lead', 'leads') AND o.entity_id = $2
			OR o.entity_type IN ('contact', 'contacts') AND o.entity_id = ANY (persons)
			OR o.entity_type = 'task' AND o.entity_id IN (
				SELECT f.id FROM regcrm.forgotten_part f WHERE f.account_id = $1 AND f.entity = 'task'));
	DELETE FROM regcrm.outbox o WHERE o.account_id = $1 AND o.deal_id = $2;
	DELETE FROM regcrm.wanted w
		WHERE w.account_id = $1 AND (w.entity = 'leads' AND w.id = $2 OR w.entity = 'contacts' AND w.id = ANY (persons));
	DELETE FROM regcrm.deal d WHERE d.account_id = $1 AND d.id = $2;

	-- what was judged stays as figures; what it was judged by goes
	UPDATE regcrm.violation v SET evidence = NULL
		WHERE v.account_id = $1 AND v.deal_id = $2 AND v.evidence IS NOT NULL;
	UPDATE regcrm.deadline l SET state = 'cancelled', ended_at = clock_timestamp()
		WHERE l.account_id = $1 AND l.deal_id = $2 AND l.state IN ('pending', 'warned');

	-- unread pages that name the deal or its persons: "id": 42, "entity_id": "42", [id]=42, %5Bid%5D=42
	named := '(id|ID)("|\]|%5D|%5d)?\s*[:=]\s*"?(' || array_to_string($2 || persons, '|') || ')([^0-9]|$)';
	DELETE FROM regcrm.quarantine q
		WHERE q.account_id = $1
			AND (q.entity IN ('leads', 'lead') AND q.source_id = $2::text
				OR q.entity IN ('contacts', 'contact') AND q.source_id = ANY (persons::text[])
				OR q.page::text ~ named OR encode(q.body, 'escape') ~ named);

	INSERT INTO regcrm.forgotten (account_id, deal_id) VALUES ($1, $2) ON CONFLICT DO NOTHING;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.forget(bigint, bigint) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.forget(bigint, bigint) IS
	'Erases a person''s data: the deal, its events and tasks, contacts of no other deal, the evidence of its violations, and whatever in quarantine names them. Violations and duties stay as figures; the deal''s number stays in forgotten, so that the sync does not bring it back. Arguments: account, deal.';
