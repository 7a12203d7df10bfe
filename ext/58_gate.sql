
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

CREATE FUNCTION regcrm.find_scenario(account_id bigint, deal_id bigint, stage regcrm.stage, scenario text, fields text[],
		OUT code text, OUT to_stage regcrm.stage, OUT actor_id bigint)
	AS 'MODULE_PATHNAME', 'regcrm_find_scenario'
	LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION regcrm.find_scenario(bigint, bigint, regcrm.stage, text, text[]) IS
	'For choose_scenario(): the scenario that a text names, where it leads, and which manager the caller is. Arguments: account, deal, its stage, code or name of the scenario, names of fields to be set. Errors: 22023 for an unknown scenario or field, 23514 for a scenario that is not open in that stage.';

CREATE FUNCTION regcrm.choose_scenario(account_id bigint, deal_id bigint, scenario text,
		fields jsonb DEFAULT '{}', comment text DEFAULT NULL)
	RETURNS regcrm.stage
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	own_fields CONSTANT text[] := '{lead_date,reason,pause_reason,meeting_at,return_on,agreed_at,signed_at,paid_at,skip_task_check}';
	given CONSTANT jsonb := COALESCE($4, '{}');
	stood regcrm.stage;
	chosen record;
BEGIN
	PERFORM regcrm.need_tables();
	SELECT d.stage INTO stood
		FROM regcrm.deal d
		WHERE d.account_id = $1 AND d.id = $2
		FOR NO KEY UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'account % has no deal %', COALESCE($1::text, 'null'), COALESCE($2::text, 'null')
			USING ERRCODE = 'no_data_found';
	END IF;
	IF jsonb_typeof(given) <> 'object' THEN
		RAISE EXCEPTION 'fields must be an object, not %', jsonb_typeof(given)
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Write it as {"meeting_at": "2030-01-31 12:00"}.';
	END IF;
	SELECT f.code, f.to_stage, f.actor_id INTO chosen
		FROM regcrm.find_scenario($1, $2, stood, $3, ARRAY(SELECT jsonb_object_keys(given))) f;

	IF given <> '{}' THEN
		UPDATE regcrm.deal d SET
			lead_date = CASE WHEN given ? 'lead_date' THEN (given ->> 'lead_date')::date ELSE d.lead_date END,
			reason = CASE WHEN given ? 'reason' THEN given ->> 'reason' ELSE d.reason END,
			pause_reason = CASE WHEN given ? 'pause_reason' THEN given ->> 'pause_reason' ELSE d.pause_reason END,
			meeting_at = CASE WHEN given ? 'meeting_at' THEN (given ->> 'meeting_at')::timestamptz ELSE d.meeting_at END,
			return_on = CASE WHEN given ? 'return_on' THEN (given ->> 'return_on')::date ELSE d.return_on END,
			agreed_at = CASE WHEN given ? 'agreed_at' THEN (given ->> 'agreed_at')::timestamptz ELSE d.agreed_at END,
			signed_at = CASE WHEN given ? 'signed_at' THEN (given ->> 'signed_at')::timestamptz ELSE d.signed_at END,
			paid_at = CASE WHEN given ? 'paid_at' THEN (given ->> 'paid_at')::timestamptz ELSE d.paid_at END,
			skip_task_check = CASE WHEN given ? 'skip_task_check' THEN (given ->> 'skip_task_check')::boolean ELSE d.skip_task_check END,
			custom = d.custom || (given - own_fields)
			WHERE d.account_id = $1 AND d.id = $2;
	END IF;
	IF btrim($5) <> '' THEN
		INSERT INTO regcrm.event (account_id, deal_id, kind, actor_id, body) VALUES ($1, $2, 'comment', chosen.actor_id, $5);
	END IF;
	INSERT INTO regcrm.event (account_id, deal_id, kind, actor_id, scenario)
		VALUES ($1, $2, 'scenario', chosen.actor_id, chosen.code);

	-- where no effect has moved it, the scenario itself does
	UPDATE regcrm.deal d SET stage = chosen.to_stage
		WHERE d.account_id = $1 AND d.id = $2 AND chosen.to_stage IS NOT NULL
			AND d.stage::text IS NOT DISTINCT FROM stood::text AND d.stage::text <> chosen.to_stage::text;
	RETURN (SELECT d.stage FROM regcrm.deal d WHERE d.account_id = $1 AND d.id = $2);
END
$$;
COMMENT ON FUNCTION regcrm.choose_scenario(bigint, bigint, text, jsonb, text) IS
	'What Salesbot does in amoCRM, as one call: sets fields, writes a comment, records the scenario and moves the deal; the effects of the regulation add and complete tasks. Arguments: account, deal, code or name of the scenario, fields of the deal as {"name": value}, comment. Returns the stage that the deal is in then. The gate judges at the end of the transaction, so that what else the stage asks for (a task) may be added in it. Errors: P0002 where there is no such deal, 22023 for an unknown scenario or field, 23514 where the scenario is not open to the deal''s stage (the hint lists those that are). Needs the rights to read and write deal and event.';
