
-- ---------------------------------------------------------------------------
-- facts: accounts, managers, deals, tasks, events
-- ---------------------------------------------------------------------------

-- Tables are made by setup() and belong to whoever calls it.  Keys begin with
-- account_id throughout, so that the data can be spread over machines by it.
-- Foreign keys bind configuration only: facts come in any order, and amoCRM
-- keeps the ids of users, stages and deals long gone.

CREATE FUNCTION regcrm.describe(relation text, meaning text, VARIADIC columns text[] DEFAULT '{}')
	RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	rel regclass := relation::regclass;
	kind text := CASE (SELECT c.relkind FROM pg_class c WHERE c.oid = rel) WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END;
	owner name := (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = rel);
	number int2;
BEGIN
	-- found, not made: by somebody else it may hold triggers that would run as us
	IF owner <> current_user THEN
		RAISE EXCEPTION '"%" belongs to role "%"', relation, owner
			USING ERRCODE = 'insufficient_privilege',
				HINT = format('Give it to "%s" (ALTER … OWNER TO) or drop it.', current_user);
	END IF;
	IF obj_description(rel, 'pg_class') IS NULL THEN
		EXECUTE format('COMMENT ON %s %s IS %L', kind, rel, meaning);
	END IF;
	FOR i IN 1 .. COALESCE(array_length(columns, 1), 0) / 2 LOOP
		SELECT a.attnum INTO number FROM pg_attribute a
			WHERE a.attrelid = rel AND a.attname = columns[2 * i - 1] AND NOT a.attisdropped;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'column "%" of table "%" is missing', columns[2 * i - 1], relation
				USING ERRCODE = 'undefined_column',
					HINT = 'Without detach(), DROP EXTENSION … CASCADE takes columns along; restore the table from a dump.';
		END IF;
		IF col_description(rel, number) IS NULL THEN
			EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', rel, columns[2 * i - 1], columns[2 * i]);
		END IF;
	END LOOP;
END
$$;
COMMENT ON FUNCTION regcrm.describe(text, text, text[]) IS
	'For setup(): comments a table or view and its columns where they have no comment yet. Arguments: the relation, its meaning, then column and meaning in turn. Errors: 42501 where it belongs to another role, 42703 for a column that is not there.';

CREATE FUNCTION regcrm.current_account() RETURNS bigint
	LANGUAGE plpgsql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	setting text := current_setting('regcrm.account_id', true);
	ids bigint[];
BEGIN
	IF setting <> '' THEN
		IF setting !~ '^\s*\d{1,18}\s*$' THEN
			RAISE EXCEPTION 'invalid value for parameter "regcrm.account_id": "%"', setting
				USING ERRCODE = 'invalid_parameter_value',
					HINT = 'Set it to the id of an account, as in regcrm.account.';
		END IF;
		RETURN setting::bigint;
	END IF;

	IF to_regclass('regcrm.account') IS NULL THEN
		RAISE EXCEPTION 'table "regcrm.account" does not exist'
			USING ERRCODE = 'undefined_table', HINT = 'Run regcrm.setup().';
	END IF;

	ids := ARRAY(SELECT a.id FROM regcrm.account a LIMIT 2);
	IF cardinality(ids) = 0 THEN
		RAISE EXCEPTION 'there is no account'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Insert a row into regcrm.account, or CALL regcrm.connect(…).';
	ELSIF cardinality(ids) > 1 THEN
		RAISE EXCEPTION 'there are several accounts'
			USING ERRCODE = 'object_not_in_prerequisite_state',
				HINT = 'Give account_id, or SET regcrm.account_id.';
	END IF;
	RETURN ids[1];
END
$$;
COMMENT ON FUNCTION regcrm.current_account() IS
	'The account that is meant where none is given: the setting regcrm.account_id, else the only account there is. Error 55000 where there is none or there are several, 22023 where the setting is no id.';

CREATE FUNCTION regcrm.need_tables() RETURNS void
	LANGUAGE plpgsql STABLE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	IF to_regclass('regcrm.deal') IS NULL OR to_regclass('regcrm.violation') IS NULL THEN
		RAISE EXCEPTION 'the tables of regcrm do not exist'
			USING ERRCODE = 'undefined_table', HINT = 'Run regcrm.setup().';
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.need_tables() IS
	'Error 42P01 with a hint where setup() has not made the tables. For functions that need them.';

CREATE FUNCTION regcrm.setup_facts() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $$
BEGIN
	CREATE TABLE IF NOT EXISTS regcrm.installed (
		only_row boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
		version text NOT NULL,
		builtin integer NOT NULL DEFAULT 0,
		views text[] NOT NULL DEFAULT '{}',
		detached boolean NOT NULL DEFAULT false,
		at timestamptz NOT NULL DEFAULT now()
	);
	PERFORM regcrm.describe('regcrm.installed', 'What setup() has made here. One row.',
		'only_row', 'Always true: there is one row.',
		'version', 'Version of the tables and views.',
		'builtin', 'Number of the last set of built-in rows that was loaded; each set is loaded once, so that rows edited or deleted since stay so.',
		'views', 'The views that setup() made.',
		'detached', 'True between detach() and the next setup().',
		'at', 'When setup() last changed something here.');

	CREATE TABLE IF NOT EXISTS regcrm.account (
		id bigint NOT NULL PRIMARY KEY,
		name text,
		base_url text,
		subdomain text,
		time_zone text NOT NULL DEFAULT 'Europe/Moscow',
		regulation text NOT NULL DEFAULT 'idrive',
		calendar text,
		known_from timestamptz,
		known_until timestamptz,
		call_notes_at text NOT NULL DEFAULT 'start',
		owner_confirmed_calendar boolean NOT NULL DEFAULT false,
		paused boolean NOT NULL DEFAULT false,
		state text NOT NULL DEFAULT 'ok',
		state_reason text,
		connected_at timestamptz,
		raw jsonb,
		CONSTRAINT account_id_check CHECK (id > 0),
		-- an unknown zone is an error here, not on the day when hours are counted
		CONSTRAINT account_time_zone_check CHECK ((timestamptz '2000-01-01 00:00:00+00' AT TIME ZONE time_zone) IS NOT NULL),
		CONSTRAINT account_call_notes_at_check CHECK (call_notes_at IN ('start', 'end'))
	);
	PERFORM regcrm.describe('regcrm.account', 'An account: one company in amoCRM, or one that only SQL writes.',
		'id', 'amoCRM''s number of the account; any positive number where SQL made it.',
		'name', 'Name for people.',
		'base_url', 'Where the API is, without a path; null = not connected.',
		'subdomain', 'Subdomain of the account in amoCRM.',
		'time_zone', 'IANA zone of the account: what a date''s start and working hours mean.',
		'regulation', 'Code of the regulation that binds this account.',
		'calendar', 'Working hours: a row of calendar; null = every hour counts.',
		'known_from', 'Moment from which history is loaded: what arose before is not judged; null = all of it.',
		'known_until', 'Moment up to which all feeds are complete, and as of which a synced account is judged; null = the account is not synced.',
		'call_notes_at', 'What a call''s time in amoCRM stands for: its start or its end.',
		'owner_confirmed_calendar', 'True once the owner has said that the calendar is right.',
		'paused', 'True = the sync leaves the account alone.',
		'state', 'How the sync stands: ok, or what keeps it from working.',
		'state_reason', 'Why, in words.',
		'connected_at', 'When connect() last succeeded.',
		'raw', 'The account as amoCRM sent it: groups of users, types of task.');

	CREATE TABLE IF NOT EXISTS regcrm.manager (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		id bigint NOT NULL,
		name text,
		email text,
		group_id bigint,
		group_name text,
		db_role name,
		active boolean NOT NULL DEFAULT true,
		in_scope boolean NOT NULL DEFAULT true,
		PRIMARY KEY (account_id, id)
	);
	CREATE UNIQUE INDEX IF NOT EXISTS manager_db_role_key ON regcrm.manager (account_id, db_role) WHERE db_role IS NOT NULL;
	PERFORM regcrm.describe('regcrm.manager', 'A user of the CRM.',
		'account_id', 'Account.',
		'id', 'amoCRM''s number of the user.',
		'name', 'Name.',
		'email', 'Address he logs in with.',
		'group_id', 'amoCRM''s number of the group of users he belongs to; 0 = the first one.',
		'group_name', 'Group of users he belongs to.',
		'db_role', 'Database role under which he writes SQL, if any.',
		'active', 'False = he can no longer log in, or is gone.',
		'in_scope', 'Whether the regulation binds him; acts of users not in scope are no touch and break nothing.');

	-- numbers made here begin at 2^62, far above amoCRM's
	CREATE TABLE IF NOT EXISTS regcrm.deal (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		id bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY (START 4611686018427387904 MINVALUE 4611686018427387904),
		name text,
		price numeric,
		pipeline_id bigint,
		stage regcrm.stage,
		manager_id bigint,
		created_at timestamptz NOT NULL DEFAULT now(),
		updated_at timestamptz,
		closed_at timestamptz,
		deleted_at timestamptz,
		is_deleted boolean NOT NULL DEFAULT false,
		lead_date date,
		reason text,
		pause_reason text,
		meeting_at timestamptz,
		return_on date,
		agreed_at timestamptz,
		signed_at timestamptz,
		paid_at timestamptz,
		skip_task_check boolean,
		custom jsonb NOT NULL DEFAULT '{}',
		status_id bigint,
		source_name text,
		tags text[] NOT NULL DEFAULT '{}',
		in_regulation boolean NOT NULL DEFAULT true,
		raw jsonb,
		PRIMARY KEY (account_id, id),
		CONSTRAINT deal_created_at_check CHECK (isfinite(created_at)),
		CONSTRAINT deal_custom_check CHECK (jsonb_typeof(custom) = 'object')
	);
	CREATE INDEX IF NOT EXISTS deal_stage_idx ON regcrm.deal (account_id, stage);
	CREATE INDEX IF NOT EXISTS deal_manager_idx ON regcrm.deal (account_id, manager_id);
	CREATE INDEX IF NOT EXISTS deal_created_at_idx ON regcrm.deal (account_id, created_at);
	PERFORM regcrm.describe('regcrm.deal', 'A deal (a lead in amoCRM) as it is now; what it was before is in event.',
		'account_id', 'Account.',
		'id', 'amoCRM''s number of the lead; deals made by SQL are numbered from 2^62.',
		'name', 'Name.',
		'price', 'Budget, in the account''s currency.',
		'pipeline_id', 'Pipeline it is in.',
		'stage', 'Stage it is in; null = one that the mapping does not know.',
		'manager_id', 'Responsible manager.',
		'created_at', 'When it was created.',
		'updated_at', 'When amoCRM last changed it.',
		'closed_at', 'When it was closed.',
		'deleted_at', 'When it was deleted; it is judged up to this moment.',
		'is_deleted', 'Whether it was deleted in the CRM.',
		'lead_date', 'Date the lead came.',
		'reason', 'Why the client refused, or why the lead is none.',
		'pause_reason', 'Why the client takes time to decide.',
		'meeting_at', 'Date and time of the meeting.',
		'return_on', 'Date to return to a client who postponed.',
		'agreed_at', 'When the client agreed to the contract.',
		'signed_at', 'When the contract was signed.',
		'paid_at', 'When the payment was received.',
		'skip_task_check', 'Whether the mode "do not check tasks" is on.',
		'custom', 'Every other custom field: {"field id": [values]} as the CRM sends it, {"name": text} for fields that field_map names.',
		'status_id', 'amoCRM''s number of the stage.',
		'source_name', 'Where the lead came from.',
		'tags', 'Tags.',
		'in_regulation', 'False = it has only ever been in pipelines that the mapping does not know: kept, not judged.',
		'raw', 'The lead as amoCRM sent it.');

	CREATE TABLE IF NOT EXISTS regcrm.task (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		id bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY (START 4611686018427387904 MINVALUE 4611686018427387904),
		deal_id bigint,
		kind text NOT NULL DEFAULT 'other',
		body text,
		manager_id bigint,
		created_at timestamptz NOT NULL DEFAULT now(),
		by_bot boolean NOT NULL DEFAULT false,
		due_at timestamptz NOT NULL,
		completed_at timestamptz,
		result text,
		task_type_id bigint,
		updated_at timestamptz,
		deleted_at timestamptz,
		seen_completed_at timestamptz,
		raw jsonb,
		PRIMARY KEY (account_id, id),
		CONSTRAINT task_kind_check CHECK (kind <> ''),
		CONSTRAINT task_created_at_check CHECK (isfinite(created_at))
	);
	CREATE INDEX IF NOT EXISTS task_deal_idx ON regcrm.task (account_id, deal_id, created_at);
	CREATE INDEX IF NOT EXISTS task_created_at_idx ON regcrm.task (account_id, created_at);
	CREATE INDEX IF NOT EXISTS task_completed_at_idx ON regcrm.task (account_id, completed_at) WHERE completed_at IS NOT NULL;
	PERFORM regcrm.describe('regcrm.task', 'A task about a deal. It is open until it is completed or deleted.',
		'account_id', 'Account.',
		'id', 'amoCRM''s number of the task; tasks made by SQL are numbered from 2^62.',
		'deal_id', 'Deal it is about; null = a task about something else.',
		'kind', 'What it is for, in the words of the regulation: process_request, callback, meeting_control, contract_control, other.',
		'body', 'Its text.',
		'manager_id', 'Who is to do it.',
		'created_at', 'When it was added.',
		'by_bot', 'Whether a robot added it.',
		'due_at', 'When it is due.',
		'completed_at', 'When it was completed; null = not.',
		'result', 'What came of it.',
		'task_type_id', 'amoCRM''s number of the type of task.',
		'updated_at', 'When amoCRM last changed it.',
		'deleted_at', 'When it was deleted.',
		'seen_completed_at', 'When it was first seen completed; counts where no event tells when that was.',
		'raw', 'The task as amoCRM sent it.');

	CREATE TABLE IF NOT EXISTS regcrm.event (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		id bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY (START 4611686018427387904 MINVALUE 4611686018427387904),
		deal_id bigint,
		at timestamptz NOT NULL DEFAULT now(),
		kind text NOT NULL,
		by_bot boolean NOT NULL DEFAULT false,
		actor_id bigint,
		from_stage regcrm.stage,
		to_stage regcrm.stage,
		answered boolean,
		duration interval,
		channel text,
		scenario text,
		field text,
		value text,
		body text,
		source text,
		source_id text,
		contact_id bigint,
		talk_id bigint,
		value_before text,
		guessed boolean NOT NULL DEFAULT false,
		raw jsonb,
		PRIMARY KEY (account_id, id),
		CONSTRAINT event_source_key UNIQUE (account_id, source, source_id),
		CONSTRAINT event_kind_check CHECK (kind IN ('stage', 'call_in', 'call_out', 'message_in', 'message_out', 'request', 'visit',
			'scenario', 'comment', 'field', 'responsible', 'robot', 'verdict')),
		CONSTRAINT event_at_check CHECK (isfinite(at)),
		CONSTRAINT event_field_check CHECK (kind NOT IN ('field', 'verdict') OR field IS NOT NULL),
		CONSTRAINT event_verdict_check CHECK (kind <> 'verdict' OR (value IS NOT NULL AND value IN ('pass', 'fail')))
	);
	CREATE INDEX IF NOT EXISTS event_deal_idx ON regcrm.event (account_id, deal_id, at);
	CREATE INDEX IF NOT EXISTS event_at_idx ON regcrm.event (account_id, at);
	CREATE INDEX IF NOT EXISTS event_contact_idx ON regcrm.event (account_id, contact_id) WHERE contact_id IS NOT NULL;
	CREATE INDEX IF NOT EXISTS event_talk_idx ON regcrm.event (account_id, talk_id) WHERE talk_id IS NOT NULL;
	PERFORM regcrm.describe('regcrm.event', 'Something that happened to a deal. Events are added, in any order, and hardly ever changed.',
		'account_id', 'Account.',
		'id', 'Number; of a synced event derived from source and source_id, of one made by SQL from 2^62 on.',
		'deal_id', 'Deal it happened to, which may come later than the event; null = not known yet.',
		'at', 'When it happened (a call: when it began).',
		'kind', 'stage, call_in, call_out, message_in, message_out, request (the client applies again), visit (comes in person), scenario, comment, field, responsible, robot, verdict.',
		'by_bot', 'Whether a robot did it.',
		'actor_id', 'Manager who did it; null = a robot, the client, or not known.',
		'from_stage', 'stage: where the deal came from; null = it begins, or not known.',
		'to_stage', 'stage: where it went; null = a stage that the mapping does not know.',
		'answered', 'call_in, call_out: whether the two spoke.',
		'duration', 'call_in, call_out: how long they spoke.',
		'channel', 'message_in, message_out: which messenger.',
		'scenario', 'scenario: code of the scenario chosen.',
		'field', 'field: which one, a column of deal or a name of field_map. verdict: code of the rule.',
		'value', 'field: the new value as text, null = emptied. responsible: number of the new manager. verdict: pass or fail.',
		'body', 'Text of a message, comment or verdict.',
		'source', 'What told of it; regcrm = appended here because a column of deal was written.',
		'source_id', 'Its number there.',
		'contact_id', 'Contact that a call or message hangs on, where it names no deal.',
		'talk_id', 'message_in, message_out: amoCRM''s number of the talk.',
		'value_before', 'field, responsible: what it was before.',
		'guessed', 'Whether the deal was chosen among several of its contact.',
		'raw', 'The event or note as amoCRM sent it.');
END
$$;
COMMENT ON FUNCTION regcrm.setup_facts() IS
	'For setup(): makes the tables of facts where they are missing.';

-- ---------------------------------------------------------------------------
-- secrets
-- ---------------------------------------------------------------------------

-- The one table that is a member of the extension: as such its rows are in no
-- dump, and a restored warehouse asks for its tokens again.
CREATE TABLE regcrm.secret (
	account_id bigint NOT NULL PRIMARY KEY,
	access_token text,
	refresh_token text,
	client_id text,
	client_secret text,
	redirect_uri text,
	expires_at timestamptz,
	updated_at timestamptz NOT NULL DEFAULT now()
);
REVOKE ALL ON TABLE regcrm.secret FROM PUBLIC;
COMMENT ON TABLE regcrm.secret IS
	'Tokens for amoCRM. Read by nobody but the owner and connect(), sync() and the worker; not dumped.';
COMMENT ON COLUMN regcrm.secret.account_id IS 'Account.';
COMMENT ON COLUMN regcrm.secret.access_token IS 'Token that requests are sent with.';
COMMENT ON COLUMN regcrm.secret.refresh_token IS 'Token that the next pair is asked for with; good for one use. Null = the access token is a long-lived one.';
COMMENT ON COLUMN regcrm.secret.client_id IS 'Integration''s id.';
COMMENT ON COLUMN regcrm.secret.client_secret IS 'Integration''s secret.';
COMMENT ON COLUMN regcrm.secret.redirect_uri IS 'Address the integration was registered with.';
COMMENT ON COLUMN regcrm.secret.expires_at IS 'When the access token ends; null = not known.';
COMMENT ON COLUMN regcrm.secret.updated_at IS 'When the row was last written.';
