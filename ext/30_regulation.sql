
-- ---------------------------------------------------------------------------
-- regulation: stages, moves, rules, effects, calendars
-- ---------------------------------------------------------------------------

-- Rows, not code: anyone may add stages, rules and whole regulations.  What is
-- wrong is refused when it is written, by the triggers below and by rule_check.

CREATE FUNCTION regcrm.rule_check() RETURNS trigger
	AS 'MODULE_PATHNAME', 'regcrm_rule_check'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION regcrm.rule_check() IS
	'Trigger of rule, transition, scenario, stage_def and regulation: compiles what was written. Error 22023 for what can''t be understood, with a hint that lists what is known.';

CREATE FUNCTION regcrm.rule_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'regcrm_rule_changed'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION regcrm.rule_changed() IS
	'Trigger of the tables of regulations and calendars: lets every session read them anew.';

CREATE FUNCTION regcrm.stage_def_check() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	used_in text;
	used_code text;
BEGIN
	IF TG_OP = 'UPDATE' THEN
		IF NEW.stage = OLD.stage THEN
			RETURN NULL;
		END IF;
	END IF;

	SELECT u.name, u.stage INTO used_in, used_code
	FROM (SELECT 'rule' AS name, r.stage::text AS stage FROM regcrm.rule r
		  UNION ALL SELECT 'transition', t.from_stage::text FROM regcrm.transition t
		  UNION ALL SELECT 'transition', t.to_stage::text FROM regcrm.transition t
		  UNION ALL SELECT 'scenario', s.to_stage::text FROM regcrm.scenario s
		  UNION ALL SELECT 'effect', f.stage::text FROM regcrm.effect f
		  UNION ALL SELECT 'effect', f.to_stage::text FROM regcrm.effect f
		  UNION ALL SELECT 'stage_map', m.stage::text FROM regcrm.stage_map m
		  UNION ALL SELECT 'deal', d.stage::text FROM regcrm.deal d
		  UNION ALL SELECT 'event', e.from_stage::text FROM regcrm.event e WHERE e.kind = 'stage'
		  UNION ALL SELECT 'event', e.to_stage::text FROM regcrm.event e WHERE e.kind = 'stage') u
	WHERE CASE WHEN TG_OP = 'TRUNCATE' THEN u.stage IS NOT NULL ELSE u.stage = OLD.stage END
	LIMIT 1;

	IF FOUND THEN
		RAISE EXCEPTION 'stage "%" is in use', used_code
			USING ERRCODE = 'foreign_key_violation',
				DETAIL = format('Table "regcrm.%s" names it.', used_in),
				HINT = 'Change its name or aliases instead, or remove what names it first.',
				SCHEMA = 'regcrm', TABLE = used_in;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION regcrm.stage_def_check() IS
	'Trigger of stage_def: a stage that something names can''t be removed, nor its code changed. Error 23503.';

CREATE FUNCTION regcrm.regulation_check() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	bad record;
	known text;
BEGIN
	-- one row at a time is in force
	CASE TG_TABLE_NAME
	WHEN 'transition' THEN
		SELECT a.regulation, format('%s → %s', COALESCE(a.from_stage::text, '(begin)'), a.to_stage) AS code, a.valid, b.valid AS other INTO bad
		FROM regcrm.transition a
		JOIN regcrm.transition b ON b.regulation = a.regulation AND b.from_stage::text IS NOT DISTINCT FROM a.from_stage::text
			AND b.to_stage::text = a.to_stage::text AND b.ctid > a.ctid AND b.valid && a.valid
		LIMIT 1;
	WHEN 'scenario' THEN
		SELECT a.regulation, a.code, a.valid, b.valid AS other INTO bad
		FROM regcrm.scenario a
		JOIN regcrm.scenario b ON b.regulation = a.regulation AND b.code = a.code AND b.ctid > a.ctid AND b.valid && a.valid
		LIMIT 1;
	WHEN 'effect' THEN
		SELECT a.regulation, a.code, a.valid, b.valid AS other INTO bad
		FROM regcrm.effect a
		JOIN regcrm.effect b ON b.regulation = a.regulation AND b.code = a.code AND b.ctid > a.ctid AND b.valid && a.valid
		LIMIT 1;
	END CASE;
	IF FOUND THEN
		RAISE EXCEPTION '% "%" of regulation "%" is in force twice', TG_TABLE_NAME, bad.code, bad.regulation
			USING ERRCODE = 'exclusion_violation',
				DETAIL = format('%s overlaps %s.', bad.valid, bad.other),
				HINT = 'Close one row (valid) before the next one begins.',
				SCHEMA = 'regcrm', TABLE = TG_TABLE_NAME, COLUMN = 'valid';
	END IF;

	IF TG_TABLE_NAME = 'transition' THEN
		SELECT t.regulation, t.to_stage INTO bad
		FROM regcrm.transition t WHERE t.from_stage::text = t.to_stage::text LIMIT 1;
		IF FOUND THEN
			RAISE EXCEPTION 'a transition from stage "%" to itself is no move', bad.to_stage
				USING ERRCODE = 'invalid_parameter_value',
					HINT = 'A deal that stays where it is needs no row.',
					SCHEMA = 'regcrm', TABLE = TG_TABLE_NAME, COLUMN = 'to_stage';
		END IF;
	END IF;

	-- names in effects
	IF TG_TABLE_NAME = 'effect' THEN
		SELECT f.regulation, f.code, w.stage INTO bad
		FROM regcrm.effect f
		CROSS JOIN LATERAL (SELECT substring(u.token FROM '^!?(?:visited|enter):(.*)$') AS stage FROM unnest(f.unless) u(token)) w
		WHERE w.stage IS NOT NULL AND NOT EXISTS (SELECT FROM regcrm.stage_def s WHERE s.stage = w.stage)
		LIMIT 1;
		IF FOUND THEN
			RAISE EXCEPTION 'effect "%" names the unknown stage "%"', bad.code, bad.stage
				USING ERRCODE = 'invalid_parameter_value',
					HINT = format('Known stages are %s.', (SELECT string_agg(s.stage, ', ' ORDER BY s.position, s.stage) FROM regcrm.stage_def s)),
					SCHEMA = 'regcrm', TABLE = TG_TABLE_NAME, COLUMN = 'unless';
		END IF;

		SELECT f.regulation, f.code, substring(f.event FROM '^scenario:(.*)$') AS scenario INTO bad
		FROM regcrm.effect f
		WHERE f.event LIKE 'scenario:%'
			AND NOT EXISTS (SELECT FROM regcrm.scenario s WHERE s.regulation = f.regulation AND s.code = substring(f.event FROM '^scenario:(.*)$'))
		LIMIT 1;
		IF FOUND THEN
			SELECT string_agg(DISTINCT s.code, ', ') INTO known FROM regcrm.scenario s WHERE s.regulation = bad.regulation;
			RAISE EXCEPTION 'effect "%" names the unknown scenario "%"', bad.code, bad.scenario
				USING ERRCODE = 'invalid_parameter_value',
					HINT = CASE WHEN known IS NULL THEN format('Regulation "%s" has no scenarios.', bad.regulation)
						ELSE format('Scenarios of regulation "%s" are %s.', bad.regulation, known) END,
					SCHEMA = 'regcrm', TABLE = TG_TABLE_NAME, COLUMN = 'event';
		END IF;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION regcrm.regulation_check() IS
	'Trigger of transition, scenario and effect: one row at a time is in force (error 23P01), and what a row names is there (22023).';

CREATE FUNCTION regcrm.calendar_check() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	bad record;
BEGIN
	IF TG_TABLE_NAME = 'calendar_week' THEN
		SELECT a.calendar, format('weekday %s', a.weekday) || CASE WHEN isfinite(a.from_date) THEN to_char(a.from_date, '" from "YYYY-MM-DD') ELSE '' END AS day INTO bad
		FROM regcrm.calendar_week a
		JOIN regcrm.calendar_week b ON b.calendar = a.calendar AND b.from_date = a.from_date AND b.weekday = a.weekday
			AND b.ctid > a.ctid AND b.opens < a.closes AND a.opens < b.closes
		LIMIT 1;
	ELSE
		SELECT a.calendar, to_char(a.day, 'YYYY-MM-DD') AS day INTO bad
		FROM regcrm.calendar_day a
		JOIN regcrm.calendar_day b ON b.calendar = a.calendar AND b.day = a.day
			AND b.ctid > a.ctid AND (a.opens IS NULL OR b.opens IS NULL OR b.opens < a.closes AND a.opens < b.closes)
		LIMIT 1;
	END IF;
	IF FOUND THEN
		RAISE EXCEPTION 'calendar "%" gives two answers for %', bad.calendar, bad.day
			USING ERRCODE = 'exclusion_violation',
				HINT = 'The hours of one day may not overlap, and a holiday has none.',
				SCHEMA = 'regcrm', TABLE = TG_TABLE_NAME;
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION regcrm.calendar_check() IS
	'Trigger of calendar_week and calendar_day: the hours of a day do not overlap. Error 23P01.';

CREATE FUNCTION regcrm.calendar_works() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	touched text[];
	checked text;
	works boolean;
BEGIN
	-- a row may be moved from one calendar to another
	IF TG_OP <> 'DELETE' THEN
		touched := touched || NEW.calendar;
	END IF;
	IF TG_OP <> 'INSERT' THEN
		touched := touched || OLD.calendar;
	END IF;
	FOR checked IN SELECT DISTINCT a.calendar FROM regcrm.account a WHERE a.calendar = ANY (touched) LOOP
		BEGIN
			-- in the last year that is laid out: single days alone would end some day
			works := regcrm.business_time_between('2060-01-01', '2060-12-30', checked) > interval '0';
		EXCEPTION WHEN object_not_in_prerequisite_state THEN
			works := false;
		END;
		IF NOT works THEN
			RAISE EXCEPTION 'calendar "%" has no working time', checked
				USING ERRCODE = 'check_violation',
					DETAIL = 'An account keeps it, and without hours of the week no duty on it would ever be due.',
					HINT = 'Add hours to regcrm.calendar_week in the same transaction, or take the calendar from the account first.',
					SCHEMA = 'regcrm', TABLE = TG_TABLE_NAME, CONSTRAINT = TG_NAME;
		END IF;
	END LOOP;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION regcrm.calendar_works() IS
	'Trigger of account, and deferred trigger of calendar_week and calendar_day: a calendar that an account keeps has working time, week after week. Hours are looked at when the transaction commits, so that they can be rewritten. Error 23514.';

CREATE FUNCTION regcrm.ensure_trigger(relation text, name text, definition text, always boolean DEFAULT false)
	RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	IF EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = relation::regclass AND t.tgname = name AND NOT t.tgisinternal) THEN
		RETURN;
	END IF;
	EXECUTE format(definition, quote_ident(name), relation::regclass);
	IF always THEN
		EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation::regclass, name);
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.ensure_trigger(text, text, text, boolean) IS
	'For setup(): makes a trigger where it is missing. Arguments: the table, the trigger''s name, CREATE TRIGGER with %1$s for the name and %2$s for the table, whether it also fires where sessions replicate.';

CREATE FUNCTION regcrm.setup_regulation() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $$
DECLARE
	-- a table that is not there yet gets the built-in rows, whatever was loaded before
	fresh boolean := to_regclass('regcrm.rule') IS NULL;
	relation text;
BEGIN
	-- stage_def.stage is text: the type's input knows only the stages that are already here
	CREATE TABLE IF NOT EXISTS regcrm.stage_def (
		stage text COLLATE "C" NOT NULL PRIMARY KEY,
		name text NOT NULL,
		aliases text[] NOT NULL DEFAULT '{}',
		position integer NOT NULL,
		outcome text NOT NULL DEFAULT 'open',
		CONSTRAINT stage_def_stage_check CHECK (stage ~ '^[a-z0-9_]{1,12}$'),
		CONSTRAINT stage_def_name_check CHECK (btrim(name) <> ''),
		CONSTRAINT stage_def_outcome_check CHECK (outcome IN ('open', 'won', 'lost'))
	);
	PERFORM regcrm.describe('regcrm.stage_def', 'The stages that the type stage knows, of all regulations.',
		'stage', 'Code: up to 12 characters a-z 0-9 _. Text, since the type itself takes only codes that are here.',
		'name', 'Its name in the CRM. A name may belong to several stages, then input asks for the code.',
		'aliases', 'Other names, each taken on input and looked for in the CRM.',
		'position', 'Its place in the pipeline, counted upwards; gaps leave room.',
		'outcome', 'open, or closed as won or lost.');

	CREATE TABLE IF NOT EXISTS regcrm.regulation (
		code text NOT NULL PRIMARY KEY,
		title text NOT NULL,
		redial_window interval NOT NULL DEFAULT '30 minutes',
		undo_window interval NOT NULL DEFAULT '1 minute',
		min_talk interval NOT NULL DEFAULT '10 seconds',
		CONSTRAINT regulation_code_check CHECK (btrim(code) <> ''),
		CONSTRAINT regulation_windows_check CHECK (redial_window >= '0' AND undo_window >= '0' AND min_talk >= '0')
	);
	PERFORM regcrm.describe('regcrm.regulation', 'A regulation; account.regulation names the one that binds an account.',
		'code', 'Short name.',
		'title', 'Title.',
		'redial_window', 'Missed calls up to so long after the last counted one do not count again.',
		'undo_window', 'A move taken back within so long did not happen.',
		'min_talk', 'A call whose status is not known was answered if it lasted so long.');

	CREATE TABLE IF NOT EXISTS regcrm.transition (
		regulation text NOT NULL REFERENCES regcrm.regulation ON UPDATE CASCADE,
		from_stage regcrm.stage,
		to_stage regcrm.stage NOT NULL,
		comment_required boolean NOT NULL DEFAULT false,
		basis text NOT NULL DEFAULT 'stated',
		clause text,
		valid tstzrange NOT NULL DEFAULT '(,)',
		CONSTRAINT transition_key UNIQUE NULLS NOT DISTINCT (regulation, from_stage, to_stage, valid),
		CONSTRAINT transition_basis_check CHECK (basis IN ('stated', 'assumed', 'derived')),
		CONSTRAINT transition_valid_check CHECK (NOT isempty(valid))
	);
	PERFORM regcrm.describe('regcrm.transition', 'The legal moves.',
		'regulation', 'Regulation.',
		'from_stage', 'Stage the deal leaves; null = where a deal may begin.',
		'to_stage', 'Stage it enters.',
		'comment_required', 'Whether the move asks for a comment (condition comment_where_required).',
		'basis', 'stated = the regulation names the move; assumed = it gives the source and we chose the target; derived = it only implies it.',
		'clause', 'Where in the regulation it stands: section and sentence; «описание N» is the Nth sentence after the goals.',
		'valid', 'When the move is legal.');

	CREATE TABLE IF NOT EXISTS regcrm.scenario (
		regulation text NOT NULL REFERENCES regcrm.regulation ON UPDATE CASCADE,
		code text NOT NULL,
		name text NOT NULL,
		outcome text NOT NULL DEFAULT 'any',
		to_stage regcrm.stage,
		valid tstzrange NOT NULL DEFAULT '(,)',
		PRIMARY KEY (regulation, code, valid),
		CONSTRAINT scenario_code_check CHECK (code ~ '^[^:*!\s]+$'),
		CONSTRAINT scenario_outcome_check CHECK (outcome IN ('reached', 'missed', 'any')),
		CONSTRAINT scenario_valid_check CHECK (NOT isempty(valid))
	);
	PERFORM regcrm.describe('regcrm.scenario', 'The scenarios that Salesbot offers.',
		'regulation', 'Regulation.',
		'code', 'Code, as in scenario:CODE.',
		'name', 'Its name in the CRM.',
		'outcome', 'What it says of the call: reached, missed, or any.',
		'to_stage', 'Stage that choosing it moves the deal to; null = none.',
		'valid', 'When it may be chosen.');

	CREATE TABLE IF NOT EXISTS regcrm.rule (
		regulation text NOT NULL REFERENCES regcrm.regulation ON UPDATE CASCADE,
		code text NOT NULL,
		stage regcrm.stage,
		form text NOT NULL,
		event text,
		nth integer,
		expect text[] NOT NULL DEFAULT '{}',
		unless text[] NOT NULL DEFAULT '{}',
		scope text,
		within interval,
		by text,
		warn interval,
		clock text NOT NULL DEFAULT 'wall',
		severity text NOT NULL DEFAULT 'minor',
		action text NOT NULL DEFAULT 'record',
		duty_of text NOT NULL DEFAULT 'manager',
		basis text NOT NULL DEFAULT 'stated',
		clause text,
		title text NOT NULL,
		enabled boolean NOT NULL DEFAULT true,
		valid tstzrange NOT NULL DEFAULT '(,)',
		PRIMARY KEY (regulation, code, valid),
		CONSTRAINT rule_code_check CHECK (btrim(code) <> ''),
		CONSTRAINT rule_form_check CHECK (form IN ('flow', 'enter', 'leave', 'always', 'within', 'never', 'attest')),
		CONSTRAINT rule_scope_check CHECK (scope IN ('deal', 'visit', 'after')),
		CONSTRAINT rule_clock_check CHECK (clock IN ('business', 'wall')),
		CONSTRAINT rule_severity_check CHECK (severity IN ('critical', 'major', 'minor', 'info')),
		CONSTRAINT rule_action_check CHECK (action IN ('reject', 'record')),
		CONSTRAINT rule_duty_of_check CHECK (duty_of IN ('manager', 'bot')),
		CONSTRAINT rule_basis_check CHECK (basis IN ('stated', 'assumed', 'derived')),
		CONSTRAINT rule_valid_check CHECK (NOT isempty(valid))
	);
	PERFORM regcrm.describe('regcrm.rule', 'The rules: one row, one duty. To change one from a date on, close its row (valid) and add another of the same code.',
		'regulation', 'Regulation.',
		'code', 'Code; rows of one code follow each other in time.',
		'stage', 'Stage it speaks of; null = any.',
		'form', 'flow, enter, leave, always, within, never or attest.',
		'event', 'within, never: event token that begins the duty, or that must not happen.',
		'nth', 'Only the so manieth time: of entering the stage in the deal''s life, of anything else in the visit; null = every time.',
		'expect', 'What is expected, as tokens: one of them is enough.',
		'unless', 'Conditions, any of which keeps the duty from arising.',
		'scope', 'deal, visit or after: how far back or ahead is looked; null = deal for enter and leave, else visit.',
		'within', 'Time allowed: the due time of within, the tolerance or grace of other forms.',
		'by', 'within: moment by which it is due, task_due or the name of a field; within then adds to it.',
		'warn', 'When to warn: so long after the duty arose; where by is given, so long before it is due.',
		'clock', 'What within and warn run on: business = the account''s calendar, wall = every hour.',
		'severity', 'critical, major, minor or info.',
		'action', 'What happens to SQL that breaks it: reject, or record.',
		'duty_of', 'Whose duty it is: manager or bot.',
		'basis', 'stated = the regulation gives rule and figure; assumed = it gives the rule, we chose the figure; derived = it only implies the rule.',
		'clause', 'Where in the regulation it stands: section and sentence; «описание N» is the Nth sentence after the goals.',
		'title', 'What it asks for, in a few words.',
		'enabled', 'False = it is not judged.',
		'valid', 'It holds for what arises in this time.');

	CREATE TABLE IF NOT EXISTS regcrm.effect (
		regulation text NOT NULL REFERENCES regcrm.regulation ON UPDATE CASCADE,
		code text NOT NULL,
		position integer NOT NULL,
		stage regcrm.stage,
		event text NOT NULL,
		nth integer,
		unless text[] NOT NULL DEFAULT '{}',
		what text NOT NULL,
		kind text,
		body text,
		due interval,
		clock text NOT NULL DEFAULT 'business',
		field text,
		value text,
		to_stage regcrm.stage,
		basis text NOT NULL DEFAULT 'stated',
		clause text,
		enabled boolean NOT NULL DEFAULT true,
		valid tstzrange NOT NULL DEFAULT '(,)',
		PRIMARY KEY (regulation, code, valid),
		CONSTRAINT effect_event_check CHECK (event ~ '^(enter|leave|scenario|scenario:[^:*!\s]+)$'),
		CONSTRAINT effect_nth_check CHECK (nth > 0),
		CONSTRAINT effect_unless_check CHECK (array_position(unless, NULL) IS NULL AND array_position(unless, '') IS NULL
			AND array_to_string(unless, E'\n') ~ '^((!?(task|no_task|task:[^:*!\s]+|visited:[a-z0-9_]+|enter:[a-z0-9_]+|field:[^:*!\n]+))(\n(?!$)|$))*$'),
		CONSTRAINT effect_what_check CHECK (CASE what
			WHEN 'add_task' THEN kind IS NOT NULL AND due IS NOT NULL AND due > '0' AND field IS NULL AND to_stage IS NULL
			WHEN 'complete_tasks' THEN due IS NULL AND field IS NULL AND to_stage IS NULL
			WHEN 'set_field' THEN field IS NOT NULL AND kind IS NULL AND due IS NULL AND to_stage IS NULL
			WHEN 'move' THEN to_stage IS NOT NULL AND kind IS NULL AND due IS NULL AND field IS NULL
			ELSE false END),
		CONSTRAINT effect_clock_check CHECK (clock IN ('business', 'wall')),
		CONSTRAINT effect_basis_check CHECK (basis IN ('stated', 'assumed', 'derived')),
		CONSTRAINT effect_valid_check CHECK (NOT isempty(valid))
	);
	PERFORM regcrm.describe('regcrm.effect', 'What happens by itself when SQL writes, as done by a robot. Effects of one event run in the order of position.',
		'regulation', 'Regulation.',
		'code', 'Code; rows of one code follow each other in time.',
		'position', 'Effects of one event run in this order.',
		'stage', 'Stage that is entered or left, or where the scenario is chosen; null = any.',
		'event', 'enter, leave, scenario or scenario:CODE.',
		'nth', 'Only the so manieth time: of enter in the deal''s life, else in the visit; null = every time.',
		'unless', 'Conditions, any of which keeps it from happening: task, no_task, task:KIND, visited:STAGE, field:NAME, enter:STAGE (the move goes there); ! = not.',
		'what', 'add_task, complete_tasks, set_field or move.',
		'kind', 'add_task: kind of the task. complete_tasks: which open tasks, null = all.',
		'body', 'add_task: the task''s text. complete_tasks: the result written to them.',
		'due', 'add_task: due so long after the event.',
		'clock', 'add_task: what due runs on, business = the account''s calendar, wall = every hour.',
		'field', 'set_field: column of deal, or a key of deal.custom.',
		'value', 'set_field: its value as text; null = emptied.',
		'to_stage', 'move: where to.',
		'basis', 'stated, assumed (we chose the figure) or derived, as of rule.',
		'clause', 'Where in the regulation it stands.',
		'enabled', 'False = it does not happen.',
		'valid', 'It holds for events in this time.');

	CREATE TABLE IF NOT EXISTS regcrm.calendar (
		name text NOT NULL PRIMARY KEY,
		title text,
		time_zone text,
		CONSTRAINT calendar_name_check CHECK (btrim(name) <> ''),
		CONSTRAINT calendar_time_zone_check CHECK (time_zone IS NULL OR (timestamptz '2000-01-01 00:00:00+00' AT TIME ZONE time_zone) IS NOT NULL)
	);
	PERFORM regcrm.describe('regcrm.calendar', 'Working hours; account.calendar names the one that an account keeps.',
		'name', 'Short name.',
		'title', 'Title.',
		'time_zone', 'IANA zone that its hours are told in; null = the account''s.');

	CREATE TABLE IF NOT EXISTS regcrm.calendar_week (
		calendar text NOT NULL REFERENCES regcrm.calendar ON UPDATE CASCADE ON DELETE CASCADE,
		from_date date NOT NULL DEFAULT '-infinity',
		weekday integer NOT NULL,
		opens time NOT NULL,
		closes time NOT NULL,
		PRIMARY KEY (calendar, from_date, weekday, opens),
		CONSTRAINT calendar_week_weekday_check CHECK (weekday BETWEEN 1 AND 7),
		CONSTRAINT calendar_week_from_check CHECK (from_date < 'infinity'),
		CONSTRAINT calendar_week_hours_check CHECK (opens < closes)
	);
	PERFORM regcrm.describe('regcrm.calendar_week', 'Hours of the week. The rows of the last from_date not after a day are that day''s week; a weekday without a row is free.',
		'calendar', 'Calendar.',
		'from_date', 'First day of this week pattern.',
		'weekday', '1 = Monday … 7 = Sunday.',
		'opens', 'Beginning of a stretch of work, local time.',
		'closes', 'Its end, local time; 24:00 = midnight.');

	CREATE TABLE IF NOT EXISTS regcrm.calendar_day (
		calendar text NOT NULL REFERENCES regcrm.calendar ON UPDATE CASCADE ON DELETE CASCADE,
		day date NOT NULL,
		opens time,
		closes time,
		note text,
		source text,
		CONSTRAINT calendar_day_key UNIQUE NULLS NOT DISTINCT (calendar, day, opens),
		CONSTRAINT calendar_day_day_check CHECK (isfinite(day)),
		CONSTRAINT calendar_day_hours_check CHECK ((opens IS NULL) = (closes IS NULL) AND (opens IS NULL OR opens < closes))
	);
	ALTER TABLE regcrm.calendar_day ADD COLUMN IF NOT EXISTS source text;
	PERFORM regcrm.describe('regcrm.calendar_day', 'Days that are not as their weekday: their rows replace the week''s.',
		'calendar', 'Calendar.',
		'day', 'Day.',
		'opens', 'Beginning of a stretch of work, local time; null = a holiday.',
		'closes', 'Its end, local time; null = a holiday.',
		'note', 'Why.',
		'source', 'What says so: an act, an article of law; null = whoever wrote the row.');

	CREATE TABLE IF NOT EXISTS regcrm.calendar_plan (
		account_id bigint NOT NULL DEFAULT regcrm.current_account() PRIMARY KEY,
		from_day date NOT NULL,
		hours text NOT NULL,
		at timestamptz NOT NULL DEFAULT now()
	);
	PERFORM regcrm.describe('regcrm.calendar_plan', 'By which working hours the deadlines that run were planned. Kept by the clock and flag_expired(): where the hours have changed, they plan anew.',
		'account_id', 'Account.',
		'from_day', 'Day from which on hours are compared; a change of earlier days moves nothing by itself.',
		'hours', 'Digest of the calendar''s hours from that day on (calendar_hours()).',
		'at', 'When it was last written.');

	IF fresh OR (SELECT i.builtin FROM regcrm.installed i) < 1 THEN
		PERFORM regcrm.load_builtin_1();
		UPDATE regcrm.installed i SET builtin = 1 WHERE i.builtin < 1;
	END IF;

	-- made after the rows: the built-in ones are right, as the tests show
	FOREACH relation IN ARRAY '{stage_def,regulation,transition,scenario,rule,effect,calendar,calendar_week,calendar_day}'::text[] LOOP
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_changed',
			'CREATE TRIGGER %1$s AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION regcrm.rule_changed()',
			always => true);
		-- where rows are replicated, only row triggers fire
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_changed_row',
			'CREATE TRIGGER %1$s AFTER INSERT OR UPDATE OR DELETE ON %2$s FOR EACH ROW EXECUTE FUNCTION regcrm.rule_changed()');
		IF (SELECT t.tgenabled FROM pg_trigger t WHERE t.tgrelid = ('regcrm.' || relation)::regclass AND t.tgname = 'regcrm_changed_row') <> 'R' THEN
			EXECUTE format('ALTER TABLE regcrm.%I ENABLE REPLICA TRIGGER regcrm_changed_row', relation);
		END IF;
	END LOOP;
	FOREACH relation IN ARRAY '{stage_def,regulation,transition,scenario,rule}'::text[] LOOP
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_check_rules',
			'CREATE TRIGGER %1$s AFTER INSERT OR UPDATE OR DELETE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION regcrm.rule_check()');
	END LOOP;
	FOREACH relation IN ARRAY '{transition,scenario,effect}'::text[] LOOP
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_check',
			'CREATE TRIGGER %1$s AFTER INSERT OR UPDATE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION regcrm.regulation_check()');
	END LOOP;
	FOREACH relation IN ARRAY '{calendar_week,calendar_day}'::text[] LOOP
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_check',
			'CREATE TRIGGER %1$s AFTER INSERT OR UPDATE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION regcrm.calendar_check()');
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_works',
			'CREATE CONSTRAINT TRIGGER %1$s AFTER INSERT OR UPDATE OR DELETE ON %2$s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION regcrm.calendar_works()');
	END LOOP;
	PERFORM regcrm.ensure_trigger('regcrm.account', 'regcrm_calendar_works',
		'CREATE TRIGGER %1$s AFTER INSERT OR UPDATE OF calendar ON %2$s FOR EACH ROW WHEN (NEW.calendar IS NOT NULL) EXECUTE FUNCTION regcrm.calendar_works()');
	PERFORM regcrm.ensure_trigger('regcrm.stage_def', 'regcrm_in_use',
		'CREATE TRIGGER %1$s AFTER DELETE OR UPDATE OF stage ON %2$s FOR EACH ROW EXECUTE FUNCTION regcrm.stage_def_check()');
	PERFORM regcrm.ensure_trigger('regcrm.stage_def', 'regcrm_in_use_truncate',
		'CREATE TRIGGER %1$s BEFORE TRUNCATE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION regcrm.stage_def_check()');

	-- a name mistyped in account is an error there
	IF NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = 'regcrm.account'::regclass AND c.conname = 'account_regulation_fkey') THEN
		ALTER TABLE regcrm.account ADD CONSTRAINT account_regulation_fkey FOREIGN KEY (regulation) REFERENCES regcrm.regulation ON UPDATE CASCADE;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conrelid = 'regcrm.account'::regclass AND c.conname = 'account_calendar_fkey') THEN
		ALTER TABLE regcrm.account ADD CONSTRAINT account_calendar_fkey FOREIGN KEY (calendar) REFERENCES regcrm.calendar ON UPDATE CASCADE;
	END IF;
END
$$;
COMMENT ON FUNCTION regcrm.setup_regulation() IS
	'For setup(): makes the tables of regulations and calendars where they are missing, and loads each set of built-in rows once.';

-- ---------------------------------------------------------------------------
-- built-in rows: the regulation of the driving school iDrive
-- ---------------------------------------------------------------------------

-- Read from docs/regulation; a clause names section and sentence there.
-- Titles are our own words.

CREATE FUNCTION regcrm.load_builtin_1() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	INSERT INTO regcrm.stage_def (stage, name, aliases, position, outcome)
		VALUES
			('new', 'Новые заявки (лиды)', '{Новые заявки}', 10, 'open'),
			('in_work', 'Взято в работу', '{}', 20, 'open'),
			('no_answer', 'Не было 1 касания', '{Не было первого касания,Не было 1-го касания}', 30, 'open'),
			('messaging', 'Ведётся переписка', '{}', 40, 'open'),
			('deciding', 'Принимает решение', '{}', 50, 'open'),
			('meeting', 'Встреча назначена', '{Назначена встреча}', 60, 'open'),
			('contract', 'Онлайн договор', '{Онлайн-договор}', 70, 'open'),
			('deferred', 'Отложенный спрос', '{}', 80, 'open'),
			('lost', 'Не продали', '{}', 90, 'lost'),
			('unqualified', 'Не целевой', '{Нецелевой,Не целевые,Нецелевые}', 100, 'lost'),
			('won', 'Договор', '{Заключен договор,Договор заключен}', 110, 'won')
		ON CONFLICT DO NOTHING;

	INSERT INTO regcrm.regulation (code, title, redial_window, undo_window, min_talk)
		VALUES ('idrive', 'Регламент работы отдела продаж автошколы iDrive в amoCRM', '30 minutes', '1 minute', '10 seconds')
		ON CONFLICT DO NOTHING;

	-- begin and moves; a comment is asked for on the way into deferred
	INSERT INTO regcrm.transition (regulation, from_stage, to_stage, comment_required, basis, clause)
		SELECT 'idrive', t.from_stage::regcrm.stage, t.to_stage::regcrm.stage, t.to_stage = 'deferred', t.basis, t.clause
		FROM (VALUES
			(NULL, 'new', 'stated', 'Новые заявки, описание 1'),
			('new', 'in_work', 'derived', 'Новые заявки, цель 4; Взято в работу, описание 1'),
			('new', 'no_answer', 'stated', 'Не было 1 касания, описание 1, сценарий «Недозвон», пункт 1'),
			('new', 'messaging', 'derived', 'Ведётся переписка, описание 1'),
			('new', 'deciding', 'derived', 'Новые заявки, цель 4; Принимает решение, описание 1'),
			('new', 'meeting', 'derived', 'Новые заявки, цель 4; Встреча назначена, описание 1'),
			('new', 'contract', 'derived', 'Новые заявки, цель 4; Онлайн договор, описание 1'),
			('new', 'deferred', 'derived', 'Новые заявки, цель 4; Отложенный спрос, описание 1'),
			('new', 'lost', 'derived', 'Новые заявки, цель 4; Не продали, описание 1'),
			('new', 'unqualified', 'derived', 'Не целевой, описание 1'),
			('in_work', 'no_answer', 'stated', 'Не было 1 касания, описание 1, сценарий «Недозвон», пункт 1'),
			('in_work', 'messaging', 'derived', 'Взято в работу, цель 4'),
			('in_work', 'deciding', 'derived', 'Взято в работу, цель 4'),
			('in_work', 'meeting', 'derived', 'Взято в работу, цель 4'),
			('in_work', 'contract', 'derived', 'Взято в работу, цель 4'),
			('in_work', 'deferred', 'derived', 'Взято в работу, цель 4'),
			('in_work', 'lost', 'derived', 'Взято в работу, цель 4'),
			('in_work', 'unqualified', 'derived', 'Взято в работу, цель 4'),
			('no_answer', 'in_work', 'assumed', 'Не было 1 касания, цель 4'),
			('no_answer', 'messaging', 'stated', 'Не было 1 касания, общее правило 6'),
			('no_answer', 'deciding', 'derived', 'Не было 1 касания, цель 4; Принимает решение, описание 1'),
			('no_answer', 'meeting', 'derived', 'Не было 1 касания, цель 4; Встреча назначена, описание 1'),
			('no_answer', 'contract', 'derived', 'Не было 1 касания, цель 4; Онлайн договор, описание 1'),
			('no_answer', 'deferred', 'derived', 'Не было 1 касания, цель 4; Отложенный спрос, описание 1'),
			('no_answer', 'lost', 'derived', 'Не было 1 касания, цель 4; Не продали, описание 1'),
			('no_answer', 'unqualified', 'stated', 'Не было 1 касания, общее правило 7'),
			('messaging', 'in_work', 'assumed', 'Ведётся переписка, общее правило 7, цель 5'),
			('messaging', 'deciding', 'assumed', 'Ведётся переписка, общее правило 7, цель 5'),
			('messaging', 'meeting', 'assumed', 'Ведётся переписка, общее правило 7, цель 5'),
			('messaging', 'contract', 'assumed', 'Ведётся переписка, общее правило 7, цель 5'),
			('messaging', 'deferred', 'assumed', 'Ведётся переписка, общее правило 7, цель 5'),
			('messaging', 'lost', 'assumed', 'Ведётся переписка, общее правило 7, цель 5'),
			('messaging', 'unqualified', 'assumed', 'Ведётся переписка, общее правило 7, цель 5'),
			('deciding', 'messaging', 'derived', 'Ведётся переписка, описание 1'),
			('deciding', 'meeting', 'derived', 'Принимает решение, цель 4'),
			('deciding', 'contract', 'derived', 'Принимает решение, цель 4'),
			('deciding', 'deferred', 'derived', 'Отложенный спрос, описание 1'),
			('deciding', 'lost', 'derived', 'Принимает решение, цель 4'),
			('deciding', 'unqualified', 'derived', 'Не целевой, описание 1'),
			('deciding', 'won', 'derived', 'Договор, описание 1'),
			('meeting', 'messaging', 'derived', 'Ведётся переписка, описание 1'),
			('meeting', 'deciding', 'derived', 'Принимает решение, описание 1'),
			('meeting', 'contract', 'stated', 'Онлайн договор, описание 1'),
			('meeting', 'deferred', 'derived', 'Отложенный спрос, описание 1'),
			('meeting', 'lost', 'derived', 'Не продали, описание 1'),
			('meeting', 'unqualified', 'derived', 'Не целевой, описание 1'),
			('meeting', 'won', 'stated', 'Договор, описание 1'),
			('contract', 'messaging', 'derived', 'Ведётся переписка, описание 1'),
			('contract', 'deciding', 'derived', 'Принимает решение, описание 1'),
			('contract', 'meeting', 'derived', 'Встреча назначена, описание 1'),
			('contract', 'deferred', 'derived', 'Отложенный спрос, описание 1'),
			('contract', 'lost', 'derived', 'Не продали, описание 1'),
			('contract', 'unqualified', 'derived', 'Не целевой, описание 1'),
			('contract', 'won', 'stated', 'Онлайн договор, общее правило 5; Договор, описание 1'),
			('deferred', 'in_work', 'derived', 'Взято в работу, описание 1'),
			('deferred', 'messaging', 'derived', 'Ведётся переписка, описание 1'),
			('deferred', 'deciding', 'derived', 'Принимает решение, описание 1'),
			('deferred', 'meeting', 'derived', 'Отложенный спрос, цель 4'),
			('deferred', 'contract', 'derived', 'Отложенный спрос, цель 4'),
			('deferred', 'lost', 'derived', 'Не продали, описание 1'),
			('deferred', 'unqualified', 'derived', 'Не целевой, описание 1'),
			('lost', 'new', 'assumed', 'Не продали, общее правило 6'),
			('lost', 'in_work', 'assumed', 'Не продали, общее правило 6'),
			('lost', 'messaging', 'assumed', 'Не продали, общее правило 6'),
			('lost', 'deciding', 'assumed', 'Не продали, общее правило 6'),
			('lost', 'meeting', 'assumed', 'Не продали, общее правило 6'),
			('lost', 'contract', 'assumed', 'Не продали, общее правило 6'),
			('lost', 'deferred', 'assumed', 'Не продали, общее правило 6'),
			('unqualified', 'new', 'assumed', 'Не целевой, общее правило 5'),
			('unqualified', 'in_work', 'assumed', 'Не целевой, общее правило 5'),
			('unqualified', 'messaging', 'assumed', 'Не целевой, общее правило 5'),
			('unqualified', 'deciding', 'assumed', 'Не целевой, общее правило 5'),
			('unqualified', 'meeting', 'assumed', 'Не целевой, общее правило 5'),
			('unqualified', 'contract', 'assumed', 'Не целевой, общее правило 5'),
			('unqualified', 'deferred', 'assumed', 'Не целевой, общее правило 5')
		) AS t(from_stage, to_stage, basis, clause)
		ON CONFLICT DO NOTHING;

	INSERT INTO regcrm.scenario (regulation, code, name, outcome, to_stage)
		SELECT 'idrive', s.code, s.name, s.outcome, s.code::regcrm.stage
		FROM (VALUES
			('in_work', 'Взято в работу', 'reached'),
			('no_answer', 'Недозвон', 'missed'),
			('messaging', 'Ведётся переписка', 'reached'),
			('deciding', 'Принимает решение', 'reached'),
			('meeting', 'Встреча назначена', 'reached'),
			('contract', 'Онлайн договор', 'reached'),
			('deferred', 'Отложенный спрос', 'reached'),
			('lost', 'Не продали', 'reached'),
			('unqualified', 'Не целевой', 'any')
		) AS s(code, name, outcome)
		ON CONFLICT DO NOTHING;

	INSERT INTO regcrm.rule (regulation, code, stage, form, event, nth, expect, unless, scope, within, by, warn, clock,
			severity, action, duty_of, basis, clause, title)
		SELECT 'idrive', r.code, r.stage::regcrm.stage, r.form, r.event, r.nth::integer, r.expect::text[], r.unless::text[], r.scope,
			r.within::interval, r.by, r.warn::interval, r.clock, r.severity, r.action, r.duty_of, r.basis, r.clause, r.title
		FROM (VALUES
			('FLOW', NULL, 'flow', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Новые заявки, описание 1; Не было 1 касания, описание 1; Онлайн договор, общее правило 5; Не продали, общее правило 6; Не целевой, общее правило 5; Договор, описание 1', 'Сделка переходит между этапами только разрешёнными путями'),
			('NEW-1', 'new', 'within', 'enter', NULL, '{touch,enter:unqualified}', '{}', 'deal', '15 minutes', NULL, '10 minutes', 'business', 'critical', 'record', 'manager', 'stated',
				'Новые заявки, общее правило 1, цель 1', 'За 15 минут менеджер звонит или пишет клиенту'),
			('NEW-2', 'new', 'leave', NULL, NULL, '{scenario}', '{visited:messaging}', 'visit', '1 minute', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Новые заявки, общее правило 2, цель 3, описание 3', 'Новая заявка уходит с этапа только с выбранным сценарием'),
			('NEW-2M', 'new', 'never', 'scenario', 2, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'info', 'record', 'manager', 'stated',
				'Новые заявки, цель 3', 'На одну заявку выбран один сценарий'),
			('NEW-3', NULL, 'always', NULL, NULL, '{stage}', '{}', NULL, '0', NULL, NULL, 'wall', 'info', 'record', 'bot', 'stated',
				'Новые заявки, общее правило 3; Взято в работу, общее правило 3', 'Этап сделки известен'),
			('NEW-4', 'new', 'always', NULL, NULL, '{task}', '{}', NULL, '15 minutes', NULL, NULL, 'business', 'major', 'reject', 'manager', 'assumed',
				'Новые заявки, общее правило 3', 'У новой заявки есть открытая задача'),
			('NEW-5', 'new', 'leave', NULL, NULL, '{comment_where_required}', '{}', 'visit', '1 minute', NULL, NULL, 'wall', 'minor', 'reject', 'manager', 'derived',
				'Новые заявки, общее правило 3', 'Нужный комментарий написан до ухода из новых заявок'),
			('NEW-6', 'new', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Новые заявки, общее правило 4, цель 2', 'Разговор идёт по скрипту'),
			('NEW-7', 'new', 'never', 'long_call:15min', NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Новые заявки, общее правило 4', 'Звонок короче 15 минут'),
			('NEW-7W', 'new', 'never', 'long_call:10min', NULL, '{}', '{long_call:15min}', 'visit', NULL, NULL, NULL, 'wall', 'info', 'record', 'manager', 'stated',
				'Новые заявки, общее правило 4', 'Звонок короче 10 минут'),
			('NEW-8', 'new', 'leave', NULL, NULL, '{field:lead_date}', '{}', NULL, '1 minute', NULL, NULL, 'wall', 'minor', 'reject', 'manager', 'stated',
				'Новые заявки, общее правило 5', 'Дата лида указана до ухода из новых заявок'),
			('NEW-9', 'new', 'within', 'enter', NULL, '{leave}', '{}', NULL, '9 hours', NULL, '8 hours', 'business', 'minor', 'record', 'manager', 'assumed',
				'Новые заявки, цель 4', 'Новая заявка не лежит дольше рабочего дня'),
			('NEW-10', 'new', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'info', 'record', 'manager', 'derived',
				'Новые заявки, цель 5', 'Договорённости по заявке записаны'),
			('NEW-12', 'new', 'enter', NULL, NULL, '{task:process_request}', '{visited:messaging}', NULL, '5 minutes', NULL, NULL, 'wall', 'minor', 'record', 'bot', 'assumed',
				'Новые заявки, описание 2', 'Робот ставит новой заявке задачу на обработку'),
			('NEW-13', 'new', 'never', 'task_by_hand', NULL, '{}', '{visited:messaging}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Новые заявки, описание 3', 'Новым заявкам менеджер задач руками не ставит'),
			('WRK-1', 'in_work', 'enter', NULL, NULL, '{contact}', '{}', 'deal', '1 minute', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Взято в работу, общее правило 1, цель 1, описание 1', 'В работу берут после контакта с клиентом'),
			('WRK-2', 'in_work', 'within', 'contact', NULL, '{scenario}', '{visited:messaging}', NULL, '1 hour', NULL, NULL, 'business', 'major', 'record', 'manager', 'assumed',
				'Взято в работу, общее правило 2, цель 3, описание 3', 'В течение часа после контакта выбран сценарий'),
			('WRK-2L', 'in_work', 'leave', NULL, NULL, '{scenario}', '{visited:messaging}', 'visit', '1 minute', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Взято в работу, общее правило 2, цель 3, описание 3', 'Сделка уходит из работы только с выбранным сценарием'),
			('WRK-4', 'in_work', 'always', NULL, NULL, '{task}', '{}', NULL, '15 minutes', NULL, NULL, 'business', 'major', 'reject', 'manager', 'assumed',
				'Взято в работу, общее правило 3', 'У сделки в работе есть открытая задача'),
			('WRK-5', 'in_work', 'leave', NULL, NULL, '{comment_where_required}', '{}', 'visit', '1 minute', NULL, NULL, 'wall', 'minor', 'reject', 'manager', 'derived',
				'Взято в работу, общее правило 3', 'Нужный комментарий написан до ухода из работы'),
			('WRK-6', 'in_work', 'within', 'enter', NULL, '{leave,comment}', '{}', NULL, '9 hours', NULL, NULL, 'business', 'minor', 'record', 'manager', 'assumed',
				'Взято в работу, общее правило 4, цель 4', 'Сделка не застревает в работе без объяснения'),
			('WRK-7', 'in_work', 'leave', NULL, NULL, '{scenario_matches}', '{}', 'visit', NULL, NULL, NULL, 'wall', 'major', 'record', 'manager', 'stated',
				'Взято в работу, общее правило 5, цель 2', 'Сценарий не расходится с исходом звонка'),
			('WRK-8', 'in_work', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'info', 'record', 'manager', 'derived',
				'Взято в работу, цель 5', 'Договорённости по сделке в работе записаны'),
			('WRK-9', 'in_work', 'enter', NULL, NULL, '{task:process_request}', '{visited:messaging}', NULL, '5 minutes', NULL, NULL, 'wall', 'minor', 'record', 'bot', 'assumed',
				'Взято в работу, описание 2', 'У сделки, взятой в работу, открыта задача на обработку'),
			('WRK-10', 'in_work', 'never', 'task_by_hand', NULL, '{}', '{visited:messaging}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Взято в работу, описание 3', 'Сделкам в работе менеджер задач руками не ставит'),
			('MISS-1', 'no_answer', 'enter', NULL, 1, '{message_by_hand}', '{}', 'visit', '30 minutes', NULL, NULL, 'business', 'critical', 'record', 'manager', 'assumed',
				'Не было 1 касания, обязательное сообщение, общее правило 3, цель 2', 'После первого недозвона менеджер сам пишет клиенту'),
			('MISS-2', 'no_answer', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Не было 1 касания, обязательное сообщение', 'Сообщение о недозвоне передаёт нужный смысл'),
			('MISS-3', 'no_answer', 'enter', NULL, NULL, '{unreached}', '{}', NULL, '1 minute', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Не было 1 касания, общее правило 1, описание 1', 'Этап начинается с недозвона'),
			('MISS-5', 'no_answer', 'leave', NULL, NULL, '{contact,scenario:no_answer*3}', '{visited:messaging}', 'visit', NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'derived',
				'Не было 1 касания, общее правило 2, общее правило 7, цель 1', 'До ухода с этапа клиент ответил или попытки исчерпаны'),
			('MISS-6', 'no_answer', 'within', 'missed_call', NULL, '{scenario}', '{visited:messaging}', NULL, '1 hour', NULL, NULL, 'business', 'major', 'record', 'manager', 'assumed',
				'Не было 1 касания, общее правило 4', 'В течение часа после недозвона выбран сценарий'),
			('MISS-6T', 'no_answer', 'within', 'talk', NULL, '{scenario}', '{visited:messaging}', 'deal', '1 hour', NULL, NULL, 'business', 'minor', 'record', 'manager', 'assumed',
				'Не было 1 касания, общее правило 4', 'В течение часа после разговора выбран сценарий'),
			('MISS-7', 'no_answer', 'within', 'task_added:callback', NULL, '{call_out,contact}', '{}', 'visit', '1 hour', 'task_due', '15 minutes', 'business', 'major', 'record', 'manager', 'assumed',
				'Не было 1 касания, общее правило 5, цель 1', 'Перезвон сделан к сроку задачи'),
			('MISS-8', 'no_answer', 'within', 'message_in', NULL, '{enter:messaging,enter:in_work,enter:deciding,enter:meeting,enter:contract,enter:deferred}', '{}', NULL, '1 hour', NULL, NULL, 'business', 'critical', 'record', 'manager', 'assumed',
				'Не было 1 касания, общее правило 6', 'Клиент написал: сделка переведена дальше'),
			('MISS-9', 'no_answer', 'within', 'talk', NULL, '{leave}', '{}', NULL, '1 hour', NULL, NULL, 'business', 'major', 'record', 'manager', 'assumed',
				'Не было 1 касания, цель 4', 'Клиент взял трубку: сделка ушла с этапа'),
			('MISS-10', 'no_answer', 'within', 'scenario:no_answer', 3, '{enter:unqualified}', '{visited:messaging}', NULL, '5 minutes', NULL, NULL, 'wall', 'minor', 'record', 'bot', 'assumed',
				'Не было 1 касания, общее правило 7, цель 5', 'После четвёртого недозвона робот закрывает сделку как нецелевую'),
			('MISS-11', 'unqualified', 'enter', NULL, NULL, '{field:reason}', '{!moved_by_bot}', NULL, '5 minutes', NULL, NULL, 'wall', 'minor', 'record', 'bot', 'assumed',
				'Не было 1 касания, общее правило 8', 'Робот указал причину нецелевки'),
			('MISS-12N', 'new', 'within', 'scenario:no_answer', NULL, '{enter:no_answer}', '{visited:messaging}', NULL, '5 minutes', NULL, NULL, 'wall', 'minor', 'record', 'bot', 'assumed',
				'Не было 1 касания, сценарий «Недозвон», пункт 1', '«Недозвон» переносит новую заявку на этап недозвонов'),
			('MISS-12W', 'in_work', 'within', 'scenario:no_answer', NULL, '{enter:no_answer}', '{visited:messaging}', NULL, '5 minutes', NULL, NULL, 'wall', 'minor', 'record', 'bot', 'assumed',
				'Не было 1 касания, сценарий «Недозвон», пункт 1', '«Недозвон» переносит сделку из работы на этап недозвонов'),
			('MISS-13', 'no_answer', 'enter', NULL, NULL, '{task:callback}', '{visited:messaging}', NULL, '5 minutes', NULL, NULL, 'wall', 'minor', 'record', 'bot', 'assumed',
				'Не было 1 касания, сценарий «Недозвон», пункт 2', 'На этапе недозвонов сразу стоит задача перезвонить'),
			('MISS-13B', 'no_answer', 'within', 'scenario:no_answer', NULL, '{task_added:callback,enter:unqualified}', '{visited:messaging}', NULL, '5 minutes', NULL, NULL, 'wall', 'minor', 'record', 'bot', 'assumed',
				'Не было 1 касания, сценарий «Недозвон», пункт 1, сценарий «Недозвон», пункт 2', 'За каждым недозвоном следует задача перезвонить'),
			('MISS-14', 'no_answer', 'never', 'task_by_hand', NULL, '{}', '{visited:messaging}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Не было 1 касания, описание 2', 'На этапе недозвонов менеджер задач руками не ставит'),
			('MISS-15', 'no_answer', 'always', NULL, NULL, '{task}', '{}', NULL, '15 minutes', NULL, NULL, 'business', 'major', 'reject', 'manager', 'derived',
				'Не было 1 касания, общее правило 5, сценарий «Недозвон», пункт 2', 'У сделки на этапе недозвонов есть открытая задача'),
			('CHAT-1', 'messaging', 'never', 'bot_act', NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'major', 'reject', 'bot', 'stated',
				'Ведётся переписка, общее правило 1, общее правило 2, описание 2', 'Во время переписки роботы не действуют'),
			('CHAT-2', 'messaging', 'never', 'bot_message', NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'major', 'reject', 'bot', 'stated',
				'Ведётся переписка, общее правило 3, описание 3', 'Во время переписки клиенту пишет человек, а не робот'),
			('CHAT-3', 'messaging', 'within', 'enter', NULL, '{leave}', '{}', 'visit', '72 hours', NULL, '48 hours', 'wall', 'critical', 'record', 'manager', 'stated',
				'Ведётся переписка, общее правило 4, цель 4, цель 5', 'Переписка укладывается в три дня'),
			('CHAT-4', 'messaging', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Ведётся переписка, общее правило 5, цель 3', 'Менеджер выяснил, насколько клиент готов решать'),
			('CHAT-5', 'messaging', 'never', 'task_by_bot', NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'reject', 'bot', 'stated',
				'Ведётся переписка, общее правило 6, описание 2', 'Во время переписки задачи ставит человек, а не робот'),
			('CHAT-6', 'messaging', 'never', 'bot', NULL, '{}', '{}', 'after', NULL, NULL, NULL, 'wall', 'major', 'reject', 'bot', 'stated',
				'Ведётся переписка, общее правило 7', 'После переписки робот к сделке не возвращается'),
			('CHAT-7', 'messaging', 'leave', NULL, NULL, '{comment}', '{}', 'visit', '1 minute', NULL, NULL, 'wall', 'info', 'record', 'manager', 'derived',
				'Ведётся переписка, цель 2', 'Итог переписки записан'),
			('CHAT-8', 'messaging', 'enter', NULL, NULL, '{contact}', '{}', 'deal', '1 minute', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Ведётся переписка, описание 1', 'Переписка начинается после контакта с клиентом'),
			('CHAT-9', 'messaging', 'within', 'message_in', NULL, '{touch}', '{}', 'visit', '9 hours', NULL, NULL, 'business', 'minor', 'record', 'manager', 'derived',
				'Ведётся переписка, общее правило 3, цель 1', 'На сообщение клиента менеджер отвечает за рабочий день'),
			('CHAT-9E', 'messaging', 'within', 'enter', NULL, '{touch}', '{}', 'visit', '9 hours', NULL, NULL, 'business', 'minor', 'record', 'manager', 'derived',
				'Ведётся переписка, общее правило 3, цель 1', 'Приняв переписку, менеджер за рабочий день пишет или звонит'),
			('CHAT-10', 'messaging', 'never', 'scenario', NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Ведётся переписка, общее правило 2, описание 2', 'Во время переписки сценарии не выбирают'),
			('CHAT-11', 'messaging', 'never', 'scenario', NULL, '{}', '{}', 'after', NULL, NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Ведётся переписка, общее правило 7', 'После переписки сценарии не выбирают'),
			('DEC-1', 'deciding', 'enter', NULL, NULL, '{contact}', '{}', 'deal', '1 minute', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Принимает решение, общее правило 1, описание 1', 'Решение принимает клиент, с которым уже говорили'),
			('DEC-2', 'deciding', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Принимает решение, общее правило 2, описание 1', 'Клиент ещё не отказался и ещё не согласился'),
			('DEC-3', 'deciding', 'always', NULL, NULL, '{task}', '{}', NULL, '5 minutes', NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'assumed',
				'Принимает решение, общее правило 4, цель 3', 'У сделки, где клиент думает, есть задача'),
			('DEC-4', 'deciding', 'within', 'task_added', NULL, '{touch,contact}', '{}', 'visit', '1 hour', 'task_due', '1 hour', 'business', 'major', 'record', 'manager', 'assumed',
				'Принимает решение, общее правило 5', 'К сроку задачи менеджер вернулся к клиенту'),
			('DEC-5', 'deciding', 'never', 'bot_message', NULL, '{}', '{visited:messaging}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'reject', 'bot', 'stated',
				'Принимает решение, общее правило 7', 'Пока клиент думает, робот ему не пишет'),
			('DEC-6', 'deciding', 'enter', NULL, NULL, '{field:pause_reason,comment}', '{}', 'visit', '15 minutes', NULL, NULL, 'wall', 'minor', 'reject', 'manager', 'derived',
				'Принимает решение, цель 2', 'Записано, почему клиент взял паузу'),
			('DEC-8', 'deciding', 'within', 'enter', NULL, '{leave}', '{}', NULL, '14 days', NULL, NULL, 'wall', 'info', 'record', 'manager', 'assumed',
				'Принимает решение, цель 4, описание 2', 'Клиент думает не дольше двух недель'),
			('MEET-1', 'meeting', 'always', NULL, NULL, '{field:meeting_at}', '{}', NULL, '1 minute', NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'stated',
				'Встреча назначена, общее правило 1, описание 1', 'У встречи указаны дата и время'),
			('MEET-2', 'meeting', 'always', NULL, NULL, '{task:meeting_control,task_done:meeting_control}', '{passed:meeting_at}', 'visit', '5 minutes', NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'assumed',
				'Встреча назначена, общее правило 2, описание 2', 'За встречей следит задача'),
			('MEET-4', 'meeting', 'within', 'enter', NULL, '{touch,contact}', '{soon:meeting_at:3h}', 'visit', NULL, 'meeting_at', '2 hours', 'wall', 'major', 'record', 'manager', 'stated',
				'Встреча назначена, общее правило 3, цель 1, цель 3', 'Перед встречей менеджер связался с клиентом'),
			('MEET-5', 'meeting', 'within', 'moment:meeting_at', NULL, '{leave,field:meeting_at}', '{}', 'visit', '9 hours', NULL, NULL, 'business', 'major', 'record', 'manager', 'assumed',
				'Встреча назначена, общее правило 5', 'После встречи сделка идёт дальше'),
			('MEET-5E', 'meeting', 'within', 'enter', NULL, '{leave,field:meeting_at}', '{ahead:meeting_at}', 'visit', '9 hours', NULL, NULL, 'business', 'major', 'record', 'manager', 'assumed',
				'Встреча назначена, общее правило 5', 'Встреча уже позади: сделка идёт дальше'),
			('MEET-6', 'meeting', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Встреча назначена, цель 4', 'Клиент доведён до встречи'),
			('MEET-7', 'meeting', 'enter', NULL, NULL, '{contact}', '{}', 'deal', '1 minute', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'derived',
				'Встреча назначена, описание 1', 'Встречу назначают после контакта с клиентом'),
			('ONC-1', 'contract', 'enter', NULL, NULL, '{field:agreed_at,scenario,comment}', '{}', 'visit', '1 minute', NULL, NULL, 'wall', 'minor', 'record', 'manager', 'derived',
				'Онлайн договор, общее правило 1, описание 1, описание 2', 'Согласие клиента на договор отмечено'),
			('ONC-2', 'contract', 'always', NULL, NULL, '{task:contract_control}', '{signed_and_paid}', 'deal', '5 minutes', NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'assumed',
				'Онлайн договор, общее правило 2, цель 2, цель 3', 'До подписи и оплаты за договором следит задача'),
			('ONC-3', 'contract', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Онлайн договор, общее правило 3', 'Менеджер ведёт клиента до подписи'),
			('ONC-4', 'contract', 'within', 'activity', NULL, '{activity,leave}', '{}', 'visit', '27 hours', NULL, '18 hours', 'business', 'major', 'record', 'manager', 'assumed',
				'Онлайн договор, общее правило 4', 'Договор не стоит на месте'),
			('ONC-5', 'contract', 'within', 'signed_and_paid', NULL, '{enter:won}', '{}', NULL, '9 hours', NULL, NULL, 'business', 'critical', 'record', 'manager', 'assumed',
				'Онлайн договор, общее правило 5, цель 4', 'Подписано и оплачено: сделка переведена в «Договор»'),
			('ONC-6', 'contract', 'within', 'enter', NULL, '{message_out,field:signed_at}', '{}', 'visit', '9 hours', NULL, NULL, 'business', 'info', 'record', 'manager', 'derived',
				'Онлайн договор, цель 1', 'Договор отправлен клиенту'),
			('ONC-7', 'contract', 'enter', NULL, NULL, '{contact}', '{}', 'deal', '1 minute', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'derived',
				'Онлайн договор, общее правило 1, описание 1', 'Договор оформляют после контакта с клиентом'),
			('DEF-1', 'deferred', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Отложенный спрос, общее правило 1, описание 1', 'Отсрочку назвал сам клиент'),
			('DEF-2', 'deferred', 'always', NULL, NULL, '{field:return_on}', '{}', NULL, '1 minute', NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'stated',
				'Отложенный спрос, общее правило 3, цель 1', 'Дата возврата указана'),
			('DEF-2P', 'deferred', 'enter', NULL, NULL, '{ahead:return_on}', '{}', NULL, '1 minute', NULL, NULL, 'wall', 'minor', 'reject', 'manager', 'derived',
				'Отложенный спрос, общее правило 1, общее правило 3', 'Дата возврата ещё впереди'),
			('DEF-3', 'deferred', 'never', 'task_by_bot', NULL, '{}', '{visited:messaging}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'reject', 'bot', 'stated',
				'Отложенный спрос, общее правило 4', 'Отложенным сделкам задачи ставит человек, а не робот'),
			('DEF-4', 'deferred', 'always', NULL, NULL, '{task}', '{}', NULL, '5 minutes', NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'assumed',
				'Отложенный спрос, общее правило 5', 'У отложенной сделки есть задача'),
			('DEF-5', 'deferred', 'within', 'moment:return_on', NULL, '{touch,contact}', '{}', 'visit', '9 hours', NULL, NULL, 'business', 'critical', 'record', 'manager', 'assumed',
				'Отложенный спрос, общее правило 6, цель 3', 'В день возврата менеджер связался с клиентом'),
			('DEF-6', 'deferred', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'info', 'record', 'manager', 'derived',
				'Отложенный спрос, описание 1', 'Отсрочка длится недели или месяцы, а не дни'),
			('DEF-7', 'deferred', 'enter', NULL, NULL, '{contact}', '{}', 'deal', '1 minute', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'derived',
				'Отложенный спрос, общее правило 1, описание 1', 'Откладывают после контакта с клиентом'),
			('DEF-8', 'deferred', 'never', 'field:return_on', NULL, '{}', '{contact}', 'visit', '1 hour', NULL, NULL, 'wall', 'minor', 'record', 'manager', 'derived',
				'Отложенный спрос, общее правило 6', 'Дата возврата не переносится без контакта с клиентом'),
			('LOST-1', 'lost', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Не продали, общее правило 1, описание 1', 'Клиент отказался ясно'),
			('LOST-2', 'lost', 'enter', NULL, NULL, '{field:reason}', '{}', NULL, '1 minute', NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'assumed',
				'Не продали, общее правило 2, общее правило 3, цель 2', 'Причина отказа записана'),
			('LOST-3', 'lost', 'never', 'touch', NULL, '{}', '{client_request}', 'visit', '5 minutes', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Не продали, общее правило 4, цель 3', 'После отказа клиента не беспокоят'),
			('LOST-4', 'lost', 'always', NULL, NULL, '{no_task}', '{}', NULL, '5 minutes', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'assumed',
				'Не продали, общее правило 5', 'После отказа открытых задач нет'),
			('LOST-5', 'lost', 'leave', NULL, NULL, '{client_request}', '{}', 'visit', NULL, NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'stated',
				'Не продали, общее правило 6', 'Из отказа сделку возвращает только сам клиент'),
			('LOST-6', 'lost', 'enter', NULL, NULL, '{contact}', '{}', 'deal', '1 minute', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'derived',
				'Не продали, общее правило 1, общее правило 2', 'Отказ записан после контакта с клиентом'),
			('NQ-1', 'unqualified', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Не целевой, общее правило 1, описание 1', 'Лид и вправду нецелевой'),
			('NQ-2', 'unqualified', 'enter', NULL, NULL, '{field:reason}', '{moved_by_bot}', NULL, '1 minute', NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'assumed',
				'Не целевой, общее правило 2, цель 3', 'Причина нецелевки указана при переводе'),
			('NQ-3', 'unqualified', 'never', 'touch', NULL, '{}', '{client_request}', 'visit', '5 minutes', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Не целевой, общее правило 3, цель 4', 'Нецелевой сделкой больше не занимаются'),
			('NQ-4', 'unqualified', 'always', NULL, NULL, '{no_task}', '{}', NULL, '5 minutes', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'assumed',
				'Не целевой, общее правило 4', 'У нецелевой сделки открытых задач нет'),
			('NQ-5', 'unqualified', 'leave', NULL, NULL, '{client_request}', '{}', 'visit', NULL, NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'stated',
				'Не целевой, общее правило 5', 'Из нецелевых сделку возвращает только сам клиент'),
			('NQ-6', 'unqualified', 'enter', NULL, NULL, '{contact}', '{visited:no_answer}', 'deal', '1 minute', NULL, NULL, 'wall', 'minor', 'record', 'manager', 'derived',
				'Не целевой, общее правило 1, описание 1', 'Нецелевым признан тот, до кого дозванивались'),
			('WON-1', 'won', 'enter', NULL, NULL, '{field:signed_at}', '{}', NULL, '1 minute', NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'stated',
				'Договор, общее правило 1, общее правило 3, описание 1', 'Договор подписан'),
			('WON-2', 'won', 'enter', NULL, NULL, '{field:paid_at}', '{}', NULL, '1 minute', NULL, NULL, 'wall', 'critical', 'reject', 'manager', 'stated',
				'Договор, общее правило 1, общее правило 3, описание 1', 'Оплата получена'),
			('WON-3', 'won', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Договор, общее правило 2', 'Менеджер проверил оплату'),
			('WON-4', 'won', 'enter', NULL, NULL, '{visited:meeting,visited:contract}', '{}', NULL, NULL, NULL, NULL, 'wall', 'major', 'reject', 'manager', 'derived',
				'Договор, описание 1', 'До договора была встреча или онлайн-договор'),
			('WON-5', 'won', 'always', NULL, NULL, '{no_task}', '{}', NULL, '5 minutes', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'assumed',
				'Договор, общее правило 4', 'После договора открытых задач нет'),
			('WON-6', 'won', 'always', NULL, NULL, '{field:skip_task_check}', '{}', NULL, '5 minutes', NULL, NULL, 'wall', 'minor', 'reject', 'manager', 'assumed',
				'Договор, общее правило 5', 'Проверка задач по сделке отключена'),
			('WON-7', 'won', 'never', 'touch', NULL, '{}', '{client_request}', 'visit', '5 minutes', NULL, NULL, 'wall', 'major', 'reject', 'manager', 'stated',
				'Договор, общее правило 6', 'После договора менеджер сделкой не занимается'),
			('WON-8', 'won', 'attest', NULL, NULL, '{}', '{}', NULL, NULL, NULL, NULL, 'wall', 'minor', 'record', 'manager', 'stated',
				'Договор, цель 4', 'Клиент передан в обучение')
		) AS r(code, stage, form, event, nth, expect, unless, scope, within, by, warn, clock,
			severity, action, duty_of, basis, clause, title)
		ON CONFLICT DO NOTHING;

	-- none of them acts on a deal that has been in messaging, but those of won
	INSERT INTO regcrm.effect (regulation, code, position, stage, event, nth, unless, what, kind, body, due, field, value, to_stage, basis, clause)
		SELECT 'idrive', f.code, f.position, f.stage::regcrm.stage, f.event, f.nth::integer, f.unless::text[], f.what, f.kind, f.body,
			f.due::interval, f.field, f.value, f.to_stage::regcrm.stage, f.basis, f.clause
		FROM (VALUES
			('NEW-TASK', 110, 'new', 'enter', NULL, '{visited:messaging}',
				'add_task', 'process_request', 'Обработать заявку', '15 minutes', NULL, NULL, NULL,
				'assumed', 'Новые заявки, описание 2'),
			('WRK-TASK', 120, 'in_work', 'enter', NULL, '{visited:messaging,task:process_request}',
				'add_task', 'process_request', 'Обработать заявку', '15 minutes', NULL, NULL, NULL,
				'assumed', 'Взято в работу, описание 2'),
			('NEW-MISS', 210, 'new', 'scenario:no_answer', NULL, '{visited:messaging}',
				'move', NULL, NULL, NULL, NULL, NULL, 'no_answer',
				'stated', 'Не было 1 касания, сценарий «Недозвон», пункт 1'),
			('WRK-MISS', 220, 'in_work', 'scenario:no_answer', NULL, '{visited:messaging}',
				'move', NULL, NULL, NULL, NULL, NULL, 'no_answer',
				'stated', 'Не было 1 касания, сценарий «Недозвон», пункт 1'),
			('MISS-DONE', 310, 'no_answer', 'enter', NULL, '{visited:messaging}',
				'complete_tasks', 'callback', NULL, NULL, NULL, NULL, NULL,
				'derived', 'Не было 1 касания, сценарий «Недозвон», пункт 2'),
			('MISS-TASK', 320, 'no_answer', 'enter', NULL, '{visited:messaging}',
				'add_task', 'callback', 'Перезвонить', '2 hours', NULL, NULL, NULL,
				'assumed', 'Не было 1 касания, сценарий «Недозвон», пункт 2'),
			('MISS-1-DONE', 330, 'no_answer', 'scenario:no_answer', 1, '{visited:messaging}',
				'complete_tasks', 'callback', NULL, NULL, NULL, NULL, NULL,
				'derived', 'Не было 1 касания, сценарий «Недозвон», пункт 2'),
			('MISS-1-TASK', 340, 'no_answer', 'scenario:no_answer', 1, '{visited:messaging}',
				'add_task', 'callback', 'Перезвонить', '2 hours', NULL, NULL, NULL,
				'assumed', 'Не было 1 касания, сценарий «Недозвон», пункт 2'),
			('MISS-2-DONE', 350, 'no_answer', 'scenario:no_answer', 2, '{visited:messaging}',
				'complete_tasks', 'callback', NULL, NULL, NULL, NULL, NULL,
				'derived', 'Не было 1 касания, сценарий «Недозвон», пункт 2'),
			('MISS-2-TASK', 360, 'no_answer', 'scenario:no_answer', 2, '{visited:messaging}',
				'add_task', 'callback', 'Перезвонить', '2 hours', NULL, NULL, NULL,
				'assumed', 'Не было 1 касания, сценарий «Недозвон», пункт 2'),
			('MISS-3-REASON', 370, 'no_answer', 'scenario:no_answer', 3, '{visited:messaging,field:reason}',
				'set_field', NULL, NULL, NULL, 'reason', 'Недозвон', NULL,
				'stated', 'Не было 1 касания, общее правило 8'),
			('MISS-3-DONE', 380, 'no_answer', 'scenario:no_answer', 3, '{visited:messaging}',
				'complete_tasks', NULL, NULL, NULL, NULL, NULL, NULL,
				'derived', 'Не целевой, общее правило 4'),
			('MISS-3-MOVE', 390, 'no_answer', 'scenario:no_answer', 3, '{visited:messaging}',
				'move', NULL, NULL, NULL, NULL, NULL, 'unqualified',
				'stated', 'Не было 1 касания, общее правило 7'),
			('NEW-DONE', 410, 'new', 'leave', NULL, '{visited:messaging,enter:in_work}',
				'complete_tasks', 'process_request', NULL, NULL, NULL, NULL, NULL,
				'derived', 'Новые заявки, описание 2; Взято в работу, описание 2'),
			('WRK-DONE', 420, 'in_work', 'leave', NULL, '{visited:messaging}',
				'complete_tasks', 'process_request', NULL, NULL, NULL, NULL, NULL,
				'derived', 'Новые заявки, описание 2; Взято в работу, описание 2'),
			('WON-DONE', 510, 'won', 'enter', NULL, '{}',
				'complete_tasks', NULL, NULL, NULL, NULL, NULL, NULL,
				'stated', 'Договор, общее правило 4'),
			('WON-SKIP', 520, 'won', 'enter', NULL, '{}',
				'set_field', NULL, NULL, NULL, 'skip_task_check', 'true', NULL,
				'stated', 'Договор, общее правило 5')
		) AS f(code, position, stage, event, nth, unless, what, kind, body, due, field, value, to_stage, basis, clause)
		ON CONFLICT DO NOTHING;

	INSERT INTO regcrm.calendar (name, title)
		VALUES
			('daily-9-20', 'Каждый день с 9 до 20'),
			('ru-5x2', 'Пятидневка с 9 до 18, праздники и переносы России за 2024–2027 годы')
		ON CONFLICT DO NOTHING;
	INSERT INTO regcrm.calendar_week (calendar, weekday, opens, closes)
		SELECT 'daily-9-20', w.day, time '09:00', time '20:00' FROM generate_series(1, 7) AS w(day)
		UNION ALL
		SELECT 'ru-5x2', w.day, time '09:00', time '18:00' FROM generate_series(1, 5) AS w(day)
		ON CONFLICT DO NOTHING;
	-- Russia's production calendar; docs/clock.md says what of it is confirmed.  A day
	-- off that was moved stands by the decree for the year, the holidays themselves,
	-- and those moved because they fall on a weekend, by the Labour Code.  For 2027 no
	-- decree was known when this was written: its days stand by the Code alone.
	INSERT INTO regcrm.calendar_day (calendar, day, opens, closes, note, source)
		SELECT 'ru-5x2', d.day::date, CASE WHEN d.closes IS NOT NULL THEN time '09:00' END, d.closes::time, d.note,
			CASE d.law
				WHEN '95' THEN 'ТК РФ, ст. 95'
				WHEN '112' THEN 'ТК РФ, ст. 112'
				WHEN '112-2' THEN 'ТК РФ, ст. 112, часть вторая'
				WHEN '2024' THEN 'Постановление Правительства РФ от 10.08.2023 № 1314'
				WHEN '2025' THEN 'Постановление Правительства РФ от 04.10.2024 № 1335'
				WHEN '2026' THEN 'Постановление Правительства РФ от 24.09.2025 о переносе выходных дней в 2026 году'
			END || CASE WHEN d.day >= '2027' THEN '; постановление о переносах на 2027 год не учтено' ELSE '' END
		FROM (
			SELECT f.day, NULL AS closes, f.note, f.law
			FROM (VALUES
				('2024-01-01', 'Новогодние каникулы', '112'), ('2024-01-02', 'Новогодние каникулы', '112'), ('2024-01-03', 'Новогодние каникулы', '112'),
				('2024-01-04', 'Новогодние каникулы', '112'), ('2024-01-05', 'Новогодние каникулы', '112'), ('2024-01-08', 'Новогодние каникулы', '112'),
				('2024-02-23', 'День защитника Отечества', '112'), ('2024-03-08', 'Международный женский день', '112'), ('2024-04-29', 'Перенос с 27 апреля', '2024'),
				('2024-04-30', 'Перенос с 2 ноября', '2024'), ('2024-05-01', 'Праздник Весны и Труда', '112'), ('2024-05-09', 'День Победы', '112'),
				('2024-05-10', 'Перенос с 6 января', '2024'), ('2024-06-12', 'День России', '112'), ('2024-11-04', 'День народного единства', '112'),
				('2024-12-30', 'Перенос с 28 декабря', '2024'), ('2024-12-31', 'Перенос с 7 января', '2024'),
				('2025-01-01', 'Новогодние каникулы', '112'), ('2025-01-02', 'Новогодние каникулы', '112'), ('2025-01-03', 'Новогодние каникулы', '112'),
				('2025-01-06', 'Новогодние каникулы', '112'), ('2025-01-07', 'Рождество', '112'), ('2025-01-08', 'Новогодние каникулы', '112'),
				('2025-05-01', 'Праздник Весны и Труда', '112'), ('2025-05-02', 'Перенос с 4 января', '2025'), ('2025-05-08', 'Перенос с 23 февраля', '2025'),
				('2025-05-09', 'День Победы', '112'), ('2025-06-12', 'День России', '112'), ('2025-06-13', 'Перенос с 8 марта', '2025'),
				('2025-11-03', 'Перенос с 1 ноября', '2025'), ('2025-11-04', 'День народного единства', '112'), ('2025-12-31', 'Перенос с 5 января', '2025'),
				('2026-01-01', 'Новогодние каникулы', '112'), ('2026-01-02', 'Новогодние каникулы', '112'), ('2026-01-05', 'Новогодние каникулы', '112'),
				('2026-01-06', 'Новогодние каникулы', '112'), ('2026-01-07', 'Рождество', '112'), ('2026-01-08', 'Новогодние каникулы', '112'),
				('2026-01-09', 'Перенос с 3 января', '2026'), ('2026-02-23', 'День защитника Отечества', '112'), ('2026-03-09', 'Перенос с 8 марта', '112-2'),
				('2026-05-01', 'Праздник Весны и Труда', '112'), ('2026-05-11', 'Перенос с 9 мая', '112-2'), ('2026-06-12', 'День России', '112'),
				('2026-11-04', 'День народного единства', '112'), ('2026-12-31', 'Перенос с 4 января', '2026'),
				('2027-01-01', 'Новогодние каникулы', '112'), ('2027-01-04', 'Новогодние каникулы', '112'), ('2027-01-05', 'Новогодние каникулы', '112'),
				('2027-01-06', 'Новогодние каникулы', '112'), ('2027-01-07', 'Рождество', '112'), ('2027-01-08', 'Новогодние каникулы', '112'),
				('2027-02-23', 'День защитника Отечества', '112'), ('2027-03-08', 'Международный женский день', '112'), ('2027-05-03', 'Перенос с 1 мая', '112-2'),
				('2027-05-10', 'Перенос с 9 мая', '112-2'), ('2027-06-14', 'Перенос с 12 июня', '112-2'), ('2027-11-04', 'День народного единства', '112')
			) AS f(day, note, law)
			UNION ALL
			SELECT s.day, s.closes, s.note, s.law
			FROM (VALUES
				('2024-02-22', '17:00', 'Канун праздника', '95'), ('2024-03-07', '17:00', 'Канун праздника', '95'), ('2024-04-27', '18:00', 'Рабочая суббота', '2024'),
				('2024-05-08', '17:00', 'Канун праздника', '95'), ('2024-06-11', '17:00', 'Канун праздника', '95'),
				('2024-11-02', '17:00', 'Рабочая суббота, канун праздника', '2024'), ('2024-12-28', '18:00', 'Рабочая суббота', '2024'),
				('2025-03-07', '17:00', 'Канун праздника', '95'), ('2025-04-30', '17:00', 'Канун праздника', '95'), ('2025-06-11', '17:00', 'Канун праздника', '95'),
				('2025-11-01', '17:00', 'Рабочая суббота, канун праздника', '2025'),
				('2026-04-30', '17:00', 'Канун праздника', '95'), ('2026-05-08', '17:00', 'Канун праздника', '95'), ('2026-06-11', '17:00', 'Канун праздника', '95'),
				('2026-11-03', '17:00', 'Канун праздника', '95'),
				('2027-02-22', '17:00', 'Канун праздника', '95'), ('2027-04-30', '17:00', 'Канун праздника', '95'), ('2027-06-11', '17:00', 'Канун праздника', '95'),
				('2027-11-03', '17:00', 'Канун праздника', '95'), ('2027-12-31', '17:00', 'Канун праздника', '95')
			) AS s(day, closes, note, law)) AS d
		ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION regcrm.load_builtin_1() IS
	'For setup(): loads the first set of built-in rows; rows that are there stay as they are.';
