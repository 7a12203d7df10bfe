
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

CREATE FUNCTION regcrm.rejudge(account_id bigint DEFAULT NULL) RETURNS regcrm.judged
	AS 'MODULE_PATHNAME', 'regcrm_rejudge'
	LANGUAGE C VOLATILE PARALLEL UNSAFE COST 1000000;
REVOKE EXECUTE ON FUNCTION regcrm.rejudge(bigint) FROM PUBLIC;
COMMENT ON FUNCTION regcrm.rejudge(bigint) IS
	'Judges everything again by one snapshot; only deals that differ from what is stored are locked, judged afresh and written. Of an account that is not synced, the columns of deals are set by their events too. Argument: account, null = all. Error P0002 where there is no such account.';

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
