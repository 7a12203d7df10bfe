
-- ---------------------------------------------------------------------------
-- sync and workers
-- ---------------------------------------------------------------------------

-- Procedures that commit may have neither SECURITY DEFINER nor a SET clause;
-- they pin the path and change to the tables' owner in C, step by step.  Who may
-- call them is a grant: connect() makes the server speak to an address.

CREATE PROCEDURE regcrm.connect(
	base_url text,
	token text DEFAULT NULL,
	INOUT account_id bigint DEFAULT NULL,
	client_id text DEFAULT NULL,
	client_secret text DEFAULT NULL,
	code text DEFAULT NULL,
	redirect_uri text DEFAULT NULL,
	token_file text DEFAULT NULL)
	AS 'MODULE_PATHNAME', 'regcrm_connect'
	LANGUAGE C;
REVOKE EXECUTE ON PROCEDURE regcrm.connect(text, text, bigint, text, text, text, text, text) FROM PUBLIC;
COMMENT ON PROCEDURE regcrm.connect(text, text, bigint, text, text, text, text, text) IS
	'Connects an amoCRM account: stores the token, checks it against the API, registers the account under amoCRM''s number, which comes back as account_id. Arguments: the address, then one of: token (long-lived); token_file (a file on the server whose first line is it; needs pg_read_server_files); client_id, client_secret, code, redirect_uri (exchanged, the pair stored before it is used). account_id, where given, is checked. Called again for a known account it renews the token. Commits: refused in a transaction block (25001).';

CREATE PROCEDURE regcrm.sync(account_id bigint DEFAULT NULL)
	AS 'MODULE_PATHNAME', 'regcrm_sync'
	LANGUAGE C;
REVOKE EXECUTE ON PROCEDURE regcrm.sync(bigint) FROM PUBLIC;
COMMENT ON PROCEDURE regcrm.sync(bigint) IS
	'One pass over an account, now: reads from amoCRM what is new, page by page, each page and the place behind it committed together, then judges. Null = every connected account. Error 55P03 while another process syncs it, 08006 where something stood in the way (what was read is kept), 25001 in a transaction block.';

CREATE PROCEDURE regcrm.reconcile(account_id bigint DEFAULT NULL, days integer DEFAULT 3)
	AS 'MODULE_PATHNAME', 'regcrm_reconcile'
	LANGUAGE C;
REVOKE EXECUTE ON PROCEDURE regcrm.reconcile(bigint, integer) FROM PUBLIC;
COMMENT ON PROCEDURE regcrm.reconcile(bigint, integer) IS
	'A pass over an account as sync() makes it, and then what it can have missed: what amoCRM has shown in the last days is looked at once more, open leads and tasks are asked for by their numbers (what is gone counts as deleted from now on), and so is what facts name and nobody has. What was found stands in reconciliation. Where the account is being synced it waits for that, ten minutes at most. Arguments: account (null = every connected one); how many days back, 1 to 36500. Errors as of sync().';

-- Credentials that may not stand in a statement: \copy regcrm.inbox (base_url, token) FROM 'file',
-- then CALL regcrm.connect('address').  Member of the extension: in no dump.
CREATE TABLE regcrm.inbox (
	base_url text NOT NULL,
	token text,
	client_id text,
	client_secret text,
	code text,
	redirect_uri text,
	at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
REVOKE ALL ON TABLE regcrm.inbox FROM PUBLIC;
COMMENT ON TABLE regcrm.inbox IS
	'Credentials for connect(), written by \copy so that they stand in no statement, and taken away by the connect() that succeeds with them. Grant INSERT, and no SELECT, to who connects.';
COMMENT ON COLUMN regcrm.inbox.base_url IS 'Address that they are for, as connect() is given it.';
COMMENT ON COLUMN regcrm.inbox.token IS 'Long-lived token; null where the other columns are given.';
COMMENT ON COLUMN regcrm.inbox.client_id IS 'Integration''s id.';
COMMENT ON COLUMN regcrm.inbox.client_secret IS 'Integration''s secret.';
COMMENT ON COLUMN regcrm.inbox.code IS 'Authorization code: 20 minutes, one use.';
COMMENT ON COLUMN regcrm.inbox.redirect_uri IS 'Address the integration was registered with.';
COMMENT ON COLUMN regcrm.inbox.at IS 'When they came; the newest count.';

CREATE FUNCTION regcrm.need_account(account_id bigint) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	PERFORM regcrm.need_tables();
	IF NOT EXISTS (SELECT FROM regcrm.account a WHERE a.id = $1 AND a.known_until IS NOT NULL) THEN
		RAISE EXCEPTION 'account % is not connected to amoCRM', COALESCE($1::text, 'null')
			USING ERRCODE = 'undefined_object', HINT = 'Connected accounts stand in regcrm.sync_accounts.';
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.need_account(bigint) IS
	'Error 42704 unless the account is one that is synced.';

CREATE FUNCTION regcrm.pause(account_id bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	PERFORM regcrm.need_account($1);
	UPDATE regcrm.account a SET paused = true WHERE a.id = $1 AND NOT a.paused;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.pause(bigint) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.pause(bigint) IS
	'Has the sync leave an account alone until resume(); a pass under way ends with the list it reads. sync(account) by hand still works. Nothing is judged meanwhile beyond known_until. Argument: account. Error 42704 where it is none that is synced.';

CREATE FUNCTION regcrm.resume(account_id bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	PERFORM regcrm.need_account($1);
	UPDATE regcrm.account a SET paused = false WHERE a.id = $1 AND a.paused;
	-- due at once, the pass as a whole too
	UPDATE regcrm.sync_state s SET next_try_at = CASE WHEN s.entity = 'pass' THEN clock_timestamp() END
		WHERE s.account_id = $1 AND (s.next_try_at IS NOT NULL OR s.entity = 'pass');
	IF to_regprocedure('regcrm.wake_sync()') IS NOT NULL THEN
		EXECUTE format('SELECT regcrm.%I()', 'wake_sync');
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.resume(bigint) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.resume(bigint) IS
	'Lets the sync go on with an account after pause(), or at once where it waits after a failure: it resumes at the page where it stopped. Argument: account. Error 42704 where it is none that is synced.';

CREATE FUNCTION regcrm.drop_secret(account_id bigint) RETURNS boolean
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	DELETE FROM regcrm.secret s WHERE s.account_id = $1;
	RETURN FOUND;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.drop_secret(bigint) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.drop_secret(bigint) IS
	'For disconnect(): deletes the tokens of an account, as the owner of the table of secrets. Returns whether there were any.';

CREATE FUNCTION regcrm.disconnect(account_id bigint) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
BEGIN
	PERFORM regcrm.need_account($1);
	UPDATE regcrm.account a SET state = 'disconnected', state_reason = format('disconnect() by %s', session_user)
		WHERE a.id = $1;
	PERFORM regcrm.drop_secret($1);
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.disconnect(bigint) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.disconnect(bigint) IS
	'Deletes the tokens of an account and ends its sync; its facts and findings stay, and so does amoCRM''s right on them. The tokens themselves end only in amoCRM, where the integration is taken away. connect() again goes on from where the sync stopped. Argument: account. Error 42704 where it is none that is synced.';

-- ---------------------------------------------------------------------------
-- jobs of pg_cron
-- ---------------------------------------------------------------------------

CREATE FUNCTION regcrm.retention(keep interval DEFAULT '90 days') RETURNS bigint
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	n bigint;
	deleted bigint := 0;
BEGIN
	PERFORM regcrm.need_tables();
	IF keep IS NULL OR keep < interval '0' THEN
		RAISE EXCEPTION 'retention needs a period of zero or longer'
			USING ERRCODE = '22023', HINT = 'Give how long to keep, as in regcrm.retention(''90 days'').';
	END IF;
	DELETE FROM regcrm.quarantine q WHERE q.resolved_at < clock_timestamp() - keep;
	GET DIAGNOSTICS n = ROW_COUNT;
	deleted := deleted + n;
	DELETE FROM regcrm.reconciliation r WHERE r.at < clock_timestamp() - keep;
	GET DIAGNOSTICS n = ROW_COUNT;
	deleted := deleted + n;
	-- what was gone may be asked for again, should something still name it
	DELETE FROM regcrm.wanted w WHERE w.gone_at < clock_timestamp() - keep;
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN deleted + n;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.retention(interval) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.retention(interval) IS
	'Deletes what served its purpose: quarantine that was taken after all, reports of reconcile(), notes of what amoCRM has not. Facts, duties and violations are never deleted. Argument: how long they are kept. Returns how many rows went. Error 22023 for a period that is null or negative.';

CREATE FUNCTION regcrm.jobs(OUT name text, OUT schedule text, OUT command text) RETURNS SETOF record
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT format('regcrm %s %s', j.name, current_database()), j.schedule, j.command
	FROM (VALUES
		('reconcile', '30 0 * * *', 'CALL regcrm.reconcile()'),
		('reconcile month', '30 2 * * 0', 'CALL regcrm.reconcile(days => 35)'),
		('retention', '50 1 * * *', 'SELECT regcrm.retention()'),
		('marts', '10 * * * *', 'CALL regcrm.refresh_marts()')) AS j(name, schedule, command)
	$$;
COMMENT ON FUNCTION regcrm.jobs() IS
	'The jobs that schedule_jobs() gives to pg_cron: names, which carry the database; schedules, in the time zone of pg_cron (GMT unless it is told otherwise); commands.';

CREATE FUNCTION regcrm.need_cron(action text) RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	home text := current_setting('cron.database_name', true);
	statements text;
BEGIN
	-- the real one, and not what somebody made in a schema of that name
	IF EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'pg_cron'
			WHERE d.classid = 'pg_class'::regclass AND d.objid = to_regclass('cron.job') AND d.deptype = 'e'
				AND d.refclassid = 'pg_extension'::regclass)
	THEN
		RETURN;
	END IF;
	SELECT string_agg(CASE action
		WHEN 'schedule' THEN format('SELECT cron.schedule_in_database(%L, %L, %L, %L);', j.name, j.schedule, j.command, current_database())
		ELSE format('SELECT cron.unschedule(j.jobid) FROM cron.job j WHERE j.jobname = %L;', j.name) END, E'\n' ORDER BY j.name)
	INTO statements
	FROM regcrm.jobs() j;
	IF home = current_database() THEN
		RAISE EXCEPTION 'extension "pg_cron" is not installed in database "%"', home
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Run here: CREATE EXTENSION pg_cron; then call this function again.';
	ELSIF home IS NOT NULL THEN
		RAISE EXCEPTION 'pg_cron keeps its jobs in database "%"', home
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = format(E'Run in database "%s":\n%s', home, statements)
					|| CASE action WHEN 'unschedule' THEN E'\nand here: SELECT regcrm.stop_marts();' ELSE '' END;
	END IF;
	RAISE EXCEPTION 'pg_cron does not run on this server'
		USING ERRCODE = 'object_not_in_prerequisite_state',
			HINT = format(E'Add pg_cron to shared_preload_libraries, restart the server, run CREATE EXTENSION pg_cron in the database that cron.database_name names ("postgres" unless it is set), and there:\n%s', statements);
END
$$;
COMMENT ON FUNCTION regcrm.need_cron(text) IS
	'Error 55000 where pg_cron does not keep its jobs in this database; its hint is what to run where it does. Argument: schedule or unschedule.';

CREATE FUNCTION regcrm.schedule_jobs() RETURNS integer
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	j record;
	n integer := 0;
BEGIN
	PERFORM regcrm.need_cron('schedule');
	FOR j IN SELECT * FROM regcrm.jobs() LOOP
		EXECUTE format('SELECT %I.schedule($1, $2, $3)', 'cron') USING j.name, j.schedule, j.command;
		n := n + 1;
	END LOOP;
	RETURN n;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.schedule_jobs() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.schedule_jobs() IS
	'Gives pg_cron the jobs of this database (regcrm.jobs(): the nightly reconcile and retention, on Sundays a reconcile of a whole month, the hourly marts), under the role that calls; called again, brings them up to date. Returns how many there are. Error 55000 where pg_cron is missing or lives in another database: its hint is what to run there.';

CREATE FUNCTION regcrm.unschedule_jobs() RETURNS integer
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	n integer;
	patience text := current_setting('lock_timeout');
BEGIN
	PERFORM regcrm.need_cron('unschedule');
	EXECUTE format('SELECT count(%1$I.unschedule(j.jobid)) FROM %1$I.job j WHERE j.jobname LIKE ''regcrm %%'' AND j.database = current_database()', 'cron')
		INTO n;
	-- nobody refreshes the marts any more: their notes would only grow
	IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = to_regclass('regcrm.violation') AND t.tgname = 'regcrm_mart_truncated') THEN
		BEGIN
			PERFORM regcrm.stop_marts();
		EXCEPTION WHEN lock_not_available OR insufficient_privilege THEN
			PERFORM set_config('lock_timeout', patience, true);
			RAISE WARNING 'the marts still take note of writes: %', SQLERRM
				USING HINT = 'Let the owner of the tables call regcrm.stop_marts() when nobody reads or writes them for long.';
		END;
	END IF;
	RETURN n;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.unschedule_jobs() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.unschedule_jobs() IS
	'Takes the jobs of this database away from pg_cron, and ends the marts (stop_marts()), whose notes would only grow where nobody refreshes them; views stay right. Returns how many jobs there were. Error 55000 where pg_cron is missing or lives in another database: its hint is what to run there.';

-- Member of the extension: it says how this server is run and is in no dump.
CREATE TABLE regcrm.worker_switch (
	only_row boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
	stopped boolean NOT NULL DEFAULT false,
	at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
REVOKE ALL ON TABLE regcrm.worker_switch FROM PUBLIC;
INSERT INTO regcrm.worker_switch DEFAULT VALUES;
COMMENT ON TABLE regcrm.worker_switch IS
	'Whether stop_workers() has stopped the workers of this database. One row.';
COMMENT ON COLUMN regcrm.worker_switch.only_row IS 'Always true: there is one row.';
COMMENT ON COLUMN regcrm.worker_switch.stopped IS 'True from stop_workers() to start_workers().';
COMMENT ON COLUMN regcrm.worker_switch.at IS 'When it was last turned.';

CREATE FUNCTION regcrm.start_workers() RETURNS integer
	AS 'MODULE_PATHNAME', 'regcrm_start_workers'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION regcrm.start_workers() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.start_workers() IS
	'Starts the sync and the clock worker of this database, unless they run, and returns how many it started. They last until the server stops; where the launcher looks after this database, it starts them. Error 53400 when max_worker_processes leaves no slot.';

CREATE FUNCTION regcrm.stop_workers() RETURNS integer
	AS 'MODULE_PATHNAME', 'regcrm_stop_workers'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION regcrm.stop_workers() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.stop_workers() IS
	'Stops the workers of this database, waits until they are gone, and returns how many there were. They stay away, over restarts too, until start_workers(). For DROP, RENAME or copying of the database.';
