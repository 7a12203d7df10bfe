
-- ---------------------------------------------------------------------------
-- judgement
-- ---------------------------------------------------------------------------

CREATE TYPE regcrm.finding AS (
	rule text,
	task_id bigint,
	stage regcrm.stage,
	arose_at timestamptz,
	warn_at timestamptz,
	due_at timestamptz,
	met_at timestamptz,
	breached_at timestamptz,
	resolved_at timestamptz,
	resolution text,
	state text,
	evidence jsonb
);
COMMENT ON TYPE regcrm.finding IS
	'What the judge says of a duty that arose, or of a breach. met_at is also when a breach was cured.';

CREATE TYPE regcrm.replayed AS (
	deal_id bigint,
	manager_id bigint,
	rule text,
	task_id bigint,
	stage regcrm.stage,
	arose_at timestamptz,
	warn_at timestamptz,
	due_at timestamptz,
	met_at timestamptz,
	breached_at timestamptz,
	resolved_at timestamptz,
	resolution text,
	state text,
	evidence jsonb
);
COMMENT ON TYPE regcrm.replayed IS
	'A finding of a replay: the deal, who was responsible (null = the bot), then as type finding.';

CREATE TYPE regcrm.judged AS (
	deals bigint,
	changed bigint,
	deadlines bigint,
	violations_new bigint,
	violations_changed bigint,
	violations_withdrawn bigint
);
COMMENT ON TYPE regcrm.judged IS
	'What judging came to: deals judged, deals of which something was written, rows of deadline written, violations found anew (or standing again), changed, withdrawn.';

CREATE FUNCTION regcrm.judge(account_id bigint, deal_id bigint, as_of timestamptz DEFAULT now())
	RETURNS SETOF regcrm.finding
	AS 'MODULE_PATHNAME', 'regcrm_judge'
	LANGUAGE C STABLE PARALLEL UNSAFE ROWS 30 COST 10000;
COMMENT ON FUNCTION regcrm.judge(bigint, bigint, timestamptz) IS
	'Findings of one deal, stored nowhere. Arguments: account, deal, moment as of which it is judged (a synced account is judged up to known_until at most). Reads the facts with the rights of the caller. Error P0002 where there is no such account or deal.';

CREATE FUNCTION regcrm.replay(account_id bigint, regulation text, as_of timestamptz DEFAULT now())
	RETURNS SETOF regcrm.replayed
	AS 'MODULE_PATHNAME', 'regcrm_replay'
	LANGUAGE C STABLE PARALLEL UNSAFE ROWS 100000 COST 1000000;
COMMENT ON FUNCTION regcrm.replay(bigint, text, timestamptz) IS
	'Judges the history of an account under another regulation, and stores nothing: what would have been found, had those rules been in force. Arguments: account, code of the regulation (see copy_regulation()), moment as of which it is judged. Reads the facts with the rights of the caller. Errors: P0002 where there is no such account, 42704 where there is no such regulation.';

CREATE FUNCTION regcrm.copy_regulation(code text, new_code text, title text DEFAULT NULL) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	relation text;
	columns text;
BEGIN
	PERFORM regcrm.need_tables();
	IF NOT EXISTS (SELECT FROM regcrm.regulation r WHERE r.code = $1) THEN
		RAISE EXCEPTION 'regulation "%" does not exist', COALESCE($1, 'null')
			USING ERRCODE = 'undefined_object', HINT = 'Regulations are rows of regcrm.regulation.';
	END IF;
	IF $2 IS NULL OR EXISTS (SELECT FROM regcrm.regulation r WHERE r.code = $2) THEN
		RAISE EXCEPTION 'there is a regulation "%" already', COALESCE($2, 'null')
			USING ERRCODE = 'duplicate_object', HINT = 'Choose another code.';
	END IF;
	INSERT INTO regcrm.regulation
		SELECT (jsonb_populate_record(r, jsonb_build_object('code', $2, 'title', COALESCE($3, r.title)))).*
		FROM regcrm.regulation r WHERE r.code = $1;
	FOREACH relation IN ARRAY '{transition,scenario,rule,effect}'::text[] LOOP
		SELECT string_agg(quote_ident(a.attname), ', ') INTO columns
			FROM pg_attribute a
			WHERE a.attrelid = ('regcrm.' || relation)::regclass AND a.attnum > 0 AND NOT a.attisdropped
				AND a.attname <> 'regulation' AND a.attgenerated = '';
		EXECUTE format('INSERT INTO regcrm.%1$I (regulation, %2$s) SELECT $2, %2$s FROM regcrm.%1$I WHERE regulation = $1', relation, columns)
			USING $1, $2;
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.copy_regulation(text, text, text) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.copy_regulation(text, text, text) IS
	'Copies a regulation with its moves, scenarios, rules and effects under another code, to be changed and tried by replay() before it binds anyone. Arguments: code, new code, title (null = the same). Errors: 42704 where there is none of that code, 42710 where the new code is taken.';

CREATE FUNCTION regcrm.rejudge(account_id bigint DEFAULT NULL) RETURNS regcrm.judged
	AS 'MODULE_PATHNAME', 'regcrm_rejudge'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000000;
REVOKE EXECUTE ON FUNCTION regcrm.rejudge(bigint) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.rejudge(bigint) IS
	'Judges everything again by one snapshot; only deals that differ from what is stored are locked, judged afresh and written. Of an account that is not synced, the columns of deals are set by their events too. A large account is judged by several processes: max_parallel_maintenance_workers says how many may help. Argument: account, null = all. Error P0002 where there is no such account.';

CREATE FUNCTION regcrm.flag_expired(as_of timestamptz DEFAULT now()) RETURNS bigint
	AS 'MODULE_PATHNAME', 'regcrm_flag_expired'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
REVOKE EXECUTE ON FUNCTION regcrm.flag_expired(timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.flag_expired(timestamptz) IS
	'One tick of the deadline clock by hand: judges the deals of which a deadline, a warning or another moment has come, and returns how many violations that gave. Deals that somebody else has locked are left to the next tick.';

CREATE FUNCTION regcrm.judge_deals(account_id bigint, deal_ids bigint[]) RETURNS regcrm.judged
	AS 'MODULE_PATHNAME', 'regcrm_judge_deals'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
REVOKE EXECUTE ON FUNCTION regcrm.judge_deals(bigint, bigint[]) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.judge_deals(bigint, bigint[]) IS
	'Judges some deals of an account and writes what is found.';

CREATE FUNCTION regcrm.account_advanced(account_id bigint, known_from timestamptz, known_until timestamptz) RETURNS regcrm.judged
	AS 'MODULE_PATHNAME', 'regcrm_account_advanced'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 100000;
REVOKE EXECUTE ON FUNCTION regcrm.account_advanced(bigint, timestamptz, timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.account_advanced(bigint, timestamptz, timestamptz) IS
	'For the sync, once account.known_until has moved from the second argument to the third: judges the deals that this frees; the first time (null or -infinity) all of them.';
