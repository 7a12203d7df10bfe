
-- ---------------------------------------------------------------------------
-- gate: what it would say, and scenarios
-- ---------------------------------------------------------------------------

CREATE TYPE regcrm.missing AS (
	rule text,
	title text,
	hint text
);
COMMENT ON TYPE regcrm.missing IS
	'What a move still needs: code of the rule, its title, what is missing and what to do.';

CREATE TYPE regcrm.allowed_move AS (
	to_stage regcrm.stage,
	rules text[],
	titles text[],
	hints text[]
);
COMMENT ON TYPE regcrm.allowed_move IS
	'A legal next stage, and what the move there still needs: codes of the rules, their titles, what is missing and what to do, in the same order. Empty arrays: nothing is missing.';

CREATE FUNCTION regcrm.check_move(account_id bigint, deal_id bigint, to_stage regcrm.stage, at timestamptz DEFAULT now())
	RETURNS SETOF regcrm.missing
	AS 'MODULE_PATHNAME', 'regcrm_check_move'
	LANGUAGE C STABLE PARALLEL UNSAFE ROWS 5 COST 10000;
COMMENT ON FUNCTION regcrm.check_move(bigint, bigint, regcrm.stage, timestamptz) IS
	'What would be missing if the deal moved: what the gate would refuse, effects counted in; an illegal move is named alone. No row = legal. Arguments: account, deal, stage, moment of the move. Writes nothing. Of a synced account it tells what the regulation asks for before the move is made in amoCRM. Error P0002 where there is no such deal, or the caller may not read it.';

CREATE FUNCTION regcrm.allowed_moves(account_id bigint, deal_id bigint)
	RETURNS SETOF regcrm.allowed_move
	AS 'MODULE_PATHNAME', 'regcrm_allowed_moves'
	LANGUAGE C STABLE PARALLEL UNSAFE ROWS 10 COST 100000;
COMMENT ON FUNCTION regcrm.allowed_moves(bigint, bigint) IS
	'Every stage to which the deal may legally move now, in the order of the pipeline, and what each move still needs, as check_move() says. Arguments: account, deal. Writes nothing. Error P0002 where there is no such deal, or the caller may not read it.';

CREATE FUNCTION regcrm.open_scenarios(regulation text, stage regcrm.stage)
	RETURNS TABLE (code text, name text, to_stage regcrm.stage)
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT s.code, s.name, s.to_stage
	FROM regcrm.scenario s
	WHERE s.regulation = $1 AND s.valid @> now() AND (
		s.to_stage IS NULL
		OR EXISTS (SELECT FROM regcrm.transition t
			WHERE t.regulation = $1 AND t.valid @> now()
				AND t.from_stage::text = $2::text AND t.to_stage::text = s.to_stage::text)
		OR EXISTS (SELECT FROM regcrm.effect f
			WHERE f.regulation = $1 AND f.enabled AND f.valid @> now()
				AND f.event = 'scenario:' || s.code AND f.stage::text = $2::text))
	ORDER BY s.code
$$;
COMMENT ON FUNCTION regcrm.open_scenarios(text, regcrm.stage) IS
	'Scenarios that a deal in a stage may choose: those that lead where the deal may legally move, and those of which an effect in that stage speaks. Arguments: regulation, stage.';

CREATE FUNCTION regcrm.choose_scenario(account_id bigint, deal_id bigint, scenario text,
		fields jsonb DEFAULT '{}', comment text DEFAULT NULL)
	RETURNS regcrm.stage
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	own_fields CONSTANT text[] := '{lead_date,reason,pause_reason,meeting_at,return_on,agreed_at,signed_at,paid_at,skip_task_check}';
	chosen text;
	target text;
	stood text;
	rules text;
	wrong text;
	known text;
	actor bigint;
BEGIN
	PERFORM regcrm.need_tables();
	SELECT d.stage::text, a.regulation INTO stood, rules
		FROM regcrm.deal d
		JOIN regcrm.account a ON a.id = d.account_id
		WHERE d.account_id = $1 AND d.id = $2
		FOR NO KEY UPDATE OF d;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'account % has no deal %', COALESCE($1::text, 'null'), COALESCE($2::text, 'null')
			USING ERRCODE = 'no_data_found';
	END IF;

	SELECT s.code, s.to_stage::text INTO chosen, target
		FROM regcrm.scenario s
		WHERE s.regulation = rules AND s.valid @> now()
			AND (s.code = $3 OR lower(translate(btrim(s.name), 'Ёё', 'Ее')) = lower(translate(btrim($3), 'Ёё', 'Ее')))
		ORDER BY s.code = $3 DESC
		LIMIT 1;
	IF NOT FOUND THEN
		SELECT string_agg(format('%s («%s»)', s.code, s.name), ', ' ORDER BY s.code) INTO known
			FROM regcrm.scenario s
			WHERE s.regulation = rules AND s.valid @> now();
		RAISE EXCEPTION 'there is no scenario "%"', COALESCE($3, 'null')
			USING ERRCODE = 'invalid_parameter_value',
				HINT = format('Known are: %s.', COALESCE(known, 'none'));
	END IF;

	IF chosen NOT IN (SELECT o.code FROM regcrm.open_scenarios(rules, stood::regcrm.stage) o) THEN
		SELECT string_agg(format('%s («%s»)', o.code, o.name), ', ' ORDER BY o.code) INTO known
			FROM regcrm.open_scenarios(rules, stood::regcrm.stage) o;
		RAISE EXCEPTION 'scenario "%" is not open to deal % in stage "%"', chosen, $2, COALESCE(stood, 'unknown')
			USING ERRCODE = 'check_violation', SCHEMA = 'regcrm', TABLE = 'deal', COLUMN = 'stage',
				HINT = CASE WHEN known IS NULL THEN 'No scenario is open there.' ELSE format('Open are: %s.', known) END;
	END IF;

	IF jsonb_typeof($4) <> 'object' THEN
		RAISE EXCEPTION 'fields must be an object, not %', jsonb_typeof($4)
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Write it as {"meeting_at": "2030-01-31 12:00"}.';
	END IF;
	SELECT k.name INTO wrong
		FROM jsonb_object_keys(COALESCE($4, '{}')) k(name)
		WHERE k.name <> ALL (own_fields)
			AND NOT EXISTS (SELECT FROM regcrm.field_map m WHERE m.account_id = $1 AND m.field = k.name)
		ORDER BY 1
		LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'there is no field "%"', wrong
			USING ERRCODE = 'invalid_parameter_value',
				HINT = format('Fields are: %s, and those that regcrm.field_map names.', array_to_string(own_fields, ', '));
	END IF;

	IF $4 <> '{}' THEN
		UPDATE regcrm.deal d SET
			lead_date = CASE WHEN $4 ? 'lead_date' THEN ($4 ->> 'lead_date')::date ELSE d.lead_date END,
			reason = CASE WHEN $4 ? 'reason' THEN $4 ->> 'reason' ELSE d.reason END,
			pause_reason = CASE WHEN $4 ? 'pause_reason' THEN $4 ->> 'pause_reason' ELSE d.pause_reason END,
			meeting_at = CASE WHEN $4 ? 'meeting_at' THEN ($4 ->> 'meeting_at')::timestamptz ELSE d.meeting_at END,
			return_on = CASE WHEN $4 ? 'return_on' THEN ($4 ->> 'return_on')::date ELSE d.return_on END,
			agreed_at = CASE WHEN $4 ? 'agreed_at' THEN ($4 ->> 'agreed_at')::timestamptz ELSE d.agreed_at END,
			signed_at = CASE WHEN $4 ? 'signed_at' THEN ($4 ->> 'signed_at')::timestamptz ELSE d.signed_at END,
			paid_at = CASE WHEN $4 ? 'paid_at' THEN ($4 ->> 'paid_at')::timestamptz ELSE d.paid_at END,
			skip_task_check = CASE WHEN $4 ? 'skip_task_check' THEN ($4 ->> 'skip_task_check')::boolean ELSE d.skip_task_check END,
			custom = d.custom || ($4 - own_fields)
			WHERE d.account_id = $1 AND d.id = $2;
	END IF;

	-- whoever logs in under the role of a manager, chose it
	SELECT m.id INTO actor FROM regcrm.manager m WHERE m.account_id = $1 AND m.db_role = current_user;
	IF btrim($5) <> '' THEN
		INSERT INTO regcrm.event (account_id, deal_id, kind, actor_id, body) VALUES ($1, $2, 'comment', actor, $5);
	END IF;
	INSERT INTO regcrm.event (account_id, deal_id, kind, actor_id, scenario) VALUES ($1, $2, 'scenario', actor, chosen);

	-- where no effect has moved it, the scenario itself does
	UPDATE regcrm.deal d SET stage = target::regcrm.stage
		WHERE d.account_id = $1 AND d.id = $2 AND target IS NOT NULL
			AND d.stage::text IS NOT DISTINCT FROM stood AND d.stage::text <> target;
	RETURN (SELECT d.stage FROM regcrm.deal d WHERE d.account_id = $1 AND d.id = $2);
END
$$;
COMMENT ON FUNCTION regcrm.choose_scenario(bigint, bigint, text, jsonb, text) IS
	'What Salesbot does in amoCRM, as one call: sets fields, writes a comment, records the scenario and moves the deal; the effects of the regulation add and complete tasks. Arguments: account, deal, code or name of the scenario, fields of the deal as {"name": value}, comment. Returns the stage that the deal is in then. The gate judges at the end of the transaction, so that what else the stage asks for (a task) may be added in it. Errors: P0002 where there is no such deal, 22023 for an unknown scenario or field, 23514 where the scenario is not open to the deal''s stage (the hint lists those that are). Needs the rights to read and write deal and event.';
