
-- ---------------------------------------------------------------------------
-- mapping: from an amoCRM account to facts; what the sync keeps
-- ---------------------------------------------------------------------------

CREATE FUNCTION regcrm.setup_mapping() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $$
BEGIN
	CREATE TABLE IF NOT EXISTS regcrm.feed (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		feed text NOT NULL,
		since timestamptz NOT NULL DEFAULT '-infinity',
		PRIMARY KEY (account_id, feed),
		CONSTRAINT feed_feed_check CHECK (feed IN ('calls', 'messages', 'tasks', 'comments') OR feed ~ '^field:.+$')
	);
	PERFORM regcrm.describe('regcrm.feed', 'What is known to be connected, and since when: a duty that nothing connected could show to be kept does not arise. An account made by SQL has all, always.',
		'account_id', 'Account.',
		'feed', 'calls, messages, tasks, comments, or field:NAME.',
		'since', 'From when on it is connected.');

	CREATE TABLE IF NOT EXISTS regcrm.pipeline (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		id bigint NOT NULL,
		name text,
		sort integer,
		is_main boolean NOT NULL DEFAULT false,
		is_archive boolean NOT NULL DEFAULT false,
		deleted_at timestamptz,
		PRIMARY KEY (account_id, id)
	);
	PERFORM regcrm.describe('regcrm.pipeline', 'A pipeline of amoCRM.',
		'account_id', 'Account.',
		'id', 'amoCRM''s number of the pipeline.',
		'name', 'Name.',
		'sort', 'Its place among the pipelines.',
		'is_main', 'Whether it is the main one.',
		'is_archive', 'Whether it was put away.',
		'deleted_at', 'When it was found to be gone.');

	CREATE TABLE IF NOT EXISTS regcrm.status (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		pipeline_id bigint NOT NULL,
		id bigint NOT NULL,
		name text,
		sort integer,
		type integer,
		color text,
		PRIMARY KEY (account_id, pipeline_id, id)
	);
	PERFORM regcrm.describe('regcrm.status', 'A stage of a pipeline, as amoCRM knows it.',
		'account_id', 'Account.',
		'pipeline_id', 'Pipeline it belongs to.',
		'id', 'amoCRM''s number of the stage; 142 (won) and 143 (lost) are in every pipeline.',
		'name', 'Name.',
		'sort', 'Its place in the pipeline.',
		'type', '1 = Неразобранное, else 0.',
		'color', 'Colour, as #rrggbb.');

	CREATE TABLE IF NOT EXISTS regcrm.contact (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		id bigint NOT NULL,
		name text,
		is_deleted boolean NOT NULL DEFAULT false,
		updated_at timestamptz,
		raw jsonb,
		PRIMARY KEY (account_id, id)
	);
	PERFORM regcrm.describe('regcrm.contact', 'A person that deals are about.',
		'account_id', 'Account.',
		'id', 'amoCRM''s number of the contact.',
		'name', 'Name.',
		'is_deleted', 'Whether it was deleted in the CRM.',
		'updated_at', 'When amoCRM last changed it.',
		'raw', 'The contact as amoCRM sent it.');

	CREATE TABLE IF NOT EXISTS regcrm.deal_contact (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		deal_id bigint NOT NULL,
		contact_id bigint NOT NULL,
		is_main boolean NOT NULL DEFAULT false,
		is_company boolean NOT NULL DEFAULT false,
		seen_at timestamptz,
		deleted_at timestamptz,
		PRIMARY KEY (account_id, deal_id, contact_id)
	);
	CREATE INDEX IF NOT EXISTS deal_contact_contact_idx ON regcrm.deal_contact (account_id, contact_id);
	PERFORM regcrm.describe('regcrm.deal_contact', 'Which contacts a deal is about.',
		'account_id', 'Account.',
		'deal_id', 'Deal.',
		'contact_id', 'Contact.',
		'is_main', 'Whether it is the deal''s main contact.',
		'is_company', 'Whether it is a company, which amoCRM numbers like contacts.',
		'seen_at', 'When amoCRM last showed the link.',
		'deleted_at', 'When the link was cut; null = it stands.');

	CREATE TABLE IF NOT EXISTS regcrm.loss_reason (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		id bigint NOT NULL,
		name text,
		sort integer,
		PRIMARY KEY (account_id, id)
	);
	PERFORM regcrm.describe('regcrm.loss_reason', 'A reason for refusal, as amoCRM lists them.',
		'account_id', 'Account.',
		'id', 'amoCRM''s number of the reason.',
		'name', 'The reason in words.',
		'sort', 'Its place in the list.');

	CREATE TABLE IF NOT EXISTS regcrm.custom_field (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		id bigint NOT NULL,
		name text,
		type text,
		entity_type text,
		code text,
		enums jsonb,
		PRIMARY KEY (account_id, id)
	);
	PERFORM regcrm.describe('regcrm.custom_field', 'A custom field, as amoCRM knows it.',
		'account_id', 'Account.',
		'id', 'amoCRM''s number of the field.',
		'name', 'Name.',
		'type', 'What it holds: text, numeric, checkbox, select, date, date_time, …',
		'entity_type', 'What it belongs to: leads, contacts, …',
		'code', 'Its code in the API, if it has one.',
		'enums', 'The values one can choose from, as amoCRM sent them.');

	CREATE TABLE IF NOT EXISTS regcrm.stage_map (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		pipeline_id bigint NOT NULL,
		status_id bigint NOT NULL,
		stage regcrm.stage,
		by_user boolean NOT NULL DEFAULT false,
		PRIMARY KEY (account_id, pipeline_id, status_id)
	);
	PERFORM regcrm.describe('regcrm.stage_map', 'Which stage of the regulation a stage of amoCRM is. Filled by the sync from names; rows by the user stand.',
		'account_id', 'Account.',
		'pipeline_id', 'Pipeline.',
		'status_id', 'amoCRM''s number of the stage.',
		'stage', 'Stage of the regulation; null = none, deals there are kept and not judged.',
		'by_user', 'True = the user''s word, which the sync leaves as it is.');

	CREATE TABLE IF NOT EXISTS regcrm.field_map (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		field_id bigint NOT NULL,
		field text,
		by_user boolean NOT NULL DEFAULT false,
		PRIMARY KEY (account_id, field_id),
		CONSTRAINT field_map_field_check CHECK (field ~ '^[^:*!\s][^:*!]*$'
			AND field NOT IN ('account_id', 'id', 'stage', 'status_id', 'pipeline_id', 'manager_id', 'created_at', 'updated_at',
				'closed_at', 'deleted_at', 'is_deleted', 'custom', 'raw', 'tags', 'source_name'))
	);
	PERFORM regcrm.describe('regcrm.field_map', 'Which custom field holds which field of a deal. Filled by the sync from names; rows by the user stand.',
		'account_id', 'Account.',
		'field_id', 'amoCRM''s number of the field; 0 = the native loss reason.',
		'field', 'Column of deal, or any other name, which then is a key of deal.custom; scenario = a value chosen is a scenario. Null = the field is not used.',
		'by_user', 'True = the user''s word, which the sync leaves as it is.');

	CREATE TABLE IF NOT EXISTS regcrm.task_kind_map (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		task_type_id bigint,
		pattern text NOT NULL,
		kind text NOT NULL,
		by_user boolean NOT NULL DEFAULT false,
		CONSTRAINT task_kind_map_key UNIQUE NULLS NOT DISTINCT (account_id, task_type_id, pattern),
		CONSTRAINT task_kind_map_kind_check CHECK (kind ~ '^[^:*!\s]+$')
	);
	PERFORM regcrm.describe('regcrm.task_kind_map', 'Which kind a task is, by its text. Filled by the sync; rows by the user stand.',
		'account_id', 'Account.',
		'task_type_id', 'amoCRM''s number of the type of task; null = any.',
		'pattern', 'What the task''s text contains, whatever the case; empty = any text.',
		'kind', 'Kind of task: process_request, callback, meeting_control, contract_control, other, or one that own rules name.',
		'by_user', 'True = the user''s word, which goes before the others and which the sync leaves as it is.');

	CREATE TABLE IF NOT EXISTS regcrm.other_event (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		source_id text NOT NULL,
		type text NOT NULL,
		entity_type text,
		entity_id bigint,
		at timestamptz,
		actor_id bigint,
		raw jsonb,
		PRIMARY KEY (account_id, source_id)
	);
	CREATE INDEX IF NOT EXISTS other_event_entity_idx ON regcrm.other_event (account_id, entity_type, entity_id);
	PERFORM regcrm.describe('regcrm.other_event', 'Events that no rule looks at, kept as amoCRM sent them.',
		'account_id', 'Account.',
		'source_id', 'amoCRM''s id of the event.',
		'type', 'amoCRM''s type of event.',
		'entity_type', 'What it happened to: lead, contact, task, …',
		'entity_id', 'amoCRM''s number of that.',
		'at', 'When it happened.',
		'actor_id', 'Who did it; 0 = a robot.',
		'raw', 'The event as amoCRM sent it.');

	CREATE TABLE IF NOT EXISTS regcrm.quarantine (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		id bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY,
		entity text NOT NULL,
		source_id text,
		at timestamptz NOT NULL DEFAULT now(),
		sqlstate text,
		error text,
		body bytea,
		page jsonb,
		resolved_at timestamptz,
		PRIMARY KEY (account_id, id)
	);
	CREATE INDEX IF NOT EXISTS quarantine_open_idx ON regcrm.quarantine (account_id, entity, source_id) WHERE resolved_at IS NULL;
	PERFORM regcrm.describe('regcrm.quarantine', 'What amoCRM sent and nobody could read, kept until it can be.',
		'account_id', 'Account.',
		'id', 'Number.',
		'entity', 'What it is: leads, tasks, events, notes, …, webhook.',
		'source_id', 'amoCRM''s id, where it could be read.',
		'at', 'When it came.',
		'sqlstate', 'Code of the error.',
		'error', 'The error.',
		'body', 'The bytes as they came.',
		'page', 'What of the page could be read.',
		'resolved_at', 'When it was taken after all; null = still here.');

	CREATE TABLE IF NOT EXISTS regcrm.sync_state (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		entity text NOT NULL,
		window_from timestamptz,
		window_to timestamptz,
		page integer,
		done_to timestamptz,
		rows_read bigint NOT NULL DEFAULT 0,
		requests bigint NOT NULL DEFAULT 0,
		last_error text,
		last_error_at timestamptz,
		next_try_at timestamptz,
		updated_at timestamptz NOT NULL DEFAULT now(),
		PRIMARY KEY (account_id, entity)
	);
	PERFORM regcrm.describe('regcrm.sync_state', 'How far the sync has read each kind of thing.',
		'account_id', 'Account.',
		'entity', 'leads, tasks, events, notes, users, pipelines, …',
		'window_from', 'Beginning of the stretch of time being read.',
		'window_to', 'Its end.',
		'page', 'Next page of it; null = the stretch is done.',
		'done_to', 'Moment up to which everything has been read.',
		'rows_read', 'Rows read so far.',
		'requests', 'Requests sent so far.',
		'last_error', 'Last error, if any.',
		'last_error_at', 'When it happened.',
		'next_try_at', 'Not before this moment will it be tried again.',
		'updated_at', 'When the row was last written.');

	CREATE TABLE IF NOT EXISTS regcrm.forgotten (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		deal_id bigint NOT NULL,
		at timestamptz NOT NULL DEFAULT now(),
		PRIMARY KEY (account_id, deal_id)
	);
	PERFORM regcrm.describe('regcrm.forgotten', 'Numbers of deals that forget() erased, so that the sync does not bring them back.',
		'account_id', 'Account.',
		'deal_id', 'amoCRM''s number of the lead.',
		'at', 'When it was erased.');

	CREATE TABLE IF NOT EXISTS regcrm.forgotten_part (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		entity text NOT NULL,
		id bigint NOT NULL,
		at timestamptz NOT NULL DEFAULT now(),
		PRIMARY KEY (account_id, entity, id),
		CONSTRAINT forgotten_part_entity_check CHECK (entity IN ('contact', 'task'))
	);
	PERFORM regcrm.describe('regcrm.forgotten_part', 'Numbers of contacts and tasks of deals that forget() erased, so that the sync does not bring them back.',
		'account_id', 'Account.',
		'entity', 'contact or task.',
		'id', 'amoCRM''s number of it.',
		'at', 'When it was erased.');

	-- columns that came after the tables
	ALTER TABLE regcrm.sync_state
		ADD COLUMN IF NOT EXISTS done_from timestamptz,
		ADD COLUMN IF NOT EXISTS unsorted boolean NOT NULL DEFAULT false,
		ADD COLUMN IF NOT EXISTS width interval,
		ADD COLUMN IF NOT EXISTS empty_from timestamptz,
		ADD COLUMN IF NOT EXISTS page_limit integer,
		ADD COLUMN IF NOT EXISTS pass_requests bigint,
		ADD COLUMN IF NOT EXISTS quiet_requests bigint;
	PERFORM regcrm.describe('regcrm.sync_state', '',
		'done_from', 'Of a history (its entity ends in /history): moment from which on everything has been read; -infinity = all of it.',
		'unsorted', 'True where amoCRM does not sort the window being read as it was asked to: its pages count then.',
		'page_limit', 'Rows a page, as page counts them.',
		'empty_from', 'Beginning of a stretch of time of which amoCRM last said that it held nothing: it is read once more with the next one. Null = the last one held something.',
		'width', 'How long the next stretch of time will be, for lists without order; null = not known yet.',
		'pass_requests', 'Of the entity pass: requests of the last complete pass.',
		'quiet_requests', 'Of the entity pass: requests of the last pass that had no more to ask than the least.');

	ALTER TABLE regcrm.account
		ADD COLUMN IF NOT EXISTS loading boolean NOT NULL DEFAULT false,
		ADD COLUMN IF NOT EXISTS load_began_at timestamptz,
		ADD COLUMN IF NOT EXISTS loaded_at timestamptz,
		ADD COLUMN IF NOT EXISTS load_requests bigint,
		ADD COLUMN IF NOT EXISTS rejudged_at timestamptz NOT NULL DEFAULT now(),
		ADD COLUMN IF NOT EXISTS rejudged_beside pg_snapshot,
		ADD COLUMN IF NOT EXISTS judging_changed_at timestamptz,
		ADD COLUMN IF NOT EXISTS judging_changed_xid xid8,
		ADD COLUMN IF NOT EXISTS reconciled_at timestamptz;
	PERFORM regcrm.describe('regcrm.account', '',
		'loading', 'True while the first load is under way: history comes newest first, and deals that began before known_from are not judged yet.',
		'load_began_at', 'When the first load began.',
		'loaded_at', 'When it was complete.',
		'load_requests', 'How many requests it took, those for the present meanwhile among them.',
		'rejudged_at', 'Moment of the last rejudge() of all its deals; at first, when the account was made.',
		'rejudged_beside', 'What else was under way when that rejudge() began: a change in there was not judged by.',
		'judging_changed_at', 'When its mappings, feeds, users in scope, regulation, calendar or zone were last changed; null = never.',
		'judging_changed_xid', 'Transaction that changed them.',
		'reconciled_at', 'When reconcile() last looked for what had been missed.');

	CREATE TABLE IF NOT EXISTS regcrm.wanted (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		entity text NOT NULL,
		id bigint NOT NULL,
		reason text,
		since timestamptz NOT NULL DEFAULT clock_timestamp(),
		gone_at timestamptz,
		PRIMARY KEY (account_id, entity, id),
		CONSTRAINT wanted_entity_check CHECK (entity IN ('leads', 'tasks', 'contacts'))
	);
	CREATE INDEX IF NOT EXISTS wanted_open_idx ON regcrm.wanted (account_id, entity, since) WHERE gone_at IS NULL;
	PERFORM regcrm.describe('regcrm.wanted', 'What the sync is to ask amoCRM for by its number: something named it, and it is not here or not as it is there.',
		'account_id', 'Account.',
		'entity', 'leads, tasks or contacts.',
		'id', 'amoCRM''s number of it.',
		'reason', 'What named it.',
		'since', 'Since when it is wanted.',
		'gone_at', 'When amoCRM said that it has none such; null = not asked yet.');

	CREATE TABLE IF NOT EXISTS regcrm.reconciliation (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		at timestamptz NOT NULL DEFAULT clock_timestamp(),
		entity text NOT NULL,
		checked bigint NOT NULL,
		missed bigint NOT NULL DEFAULT 0,
		outdated bigint NOT NULL DEFAULT 0,
		gone bigint NOT NULL DEFAULT 0,
		note text,
		PRIMARY KEY (account_id, at, entity)
	);
	PERFORM regcrm.describe('regcrm.reconciliation', 'What each reconcile() found and put right.',
		'account_id', 'Account.',
		'at', 'When it was done.',
		'entity', 'What was compared: leads, tasks, events, …',
		'checked', 'Rows that amoCRM showed or was asked for.',
		'missed', 'Rows that should have been here and were not; they are now.',
		'outdated', 'Rows that were here in an older version; they are as in amoCRM now.',
		'gone', 'Rows that amoCRM no longer has; they count as deleted now.',
		'note', 'What was not put right, and why.');

	CREATE TABLE IF NOT EXISTS regcrm.judging_change (
		kind text NOT NULL,
		name text NOT NULL,
		at timestamptz NOT NULL,
		PRIMARY KEY (kind, name),
		CONSTRAINT judging_change_kind_check CHECK (kind IN ('regulation', 'calendar', 'all'))
	);
	ALTER TABLE regcrm.judging_change ADD COLUMN IF NOT EXISTS xid xid8;
	PERFORM regcrm.describe('regcrm.judging_change', 'When that by which deals of several accounts are judged was last changed; for what is one account''s own, account.judging_changed_at. Accounts that were not judged again since should be: rejudge().',
		'kind', 'regulation, calendar, or all.',
		'name', 'Its code or name; empty for all.',
		'at', 'When it was last changed.',
		'xid', 'Transaction that changed it.');
END
$$;
COMMENT ON FUNCTION regcrm.setup_mapping() IS
	'For setup(): makes the tables of mappings and of the sync where they are missing.';
