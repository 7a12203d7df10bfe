
-- ---------------------------------------------------------------------------
-- gate: triggers on the facts
-- ---------------------------------------------------------------------------

CREATE FUNCTION regcrm.deal_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'regcrm_deal_changed'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION regcrm.deal_changed() IS
	'Trigger of deal, after each statement: takes note of the deals to be judged and locks them; appends events for the columns written; in mode record lets columns follow events that were there before the deal; in mode enforce refuses an illegal move and carries out effects.';

CREATE FUNCTION regcrm.event_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'regcrm_event_changed'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION regcrm.event_changed() IS
	'Trigger of event, after each statement: takes note of the deals to be judged and locks them; in mode record lets the columns of deal follow; in mode enforce refuses history written by hand and carries out the effects of scenarios.';

CREATE FUNCTION regcrm.task_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'regcrm_task_changed'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION regcrm.task_changed() IS
	'Trigger of task, after each statement: takes note of the deals to be judged and locks them; in mode enforce refuses dates that can not be.';

CREATE FUNCTION regcrm.facts_truncated() RETURNS trigger
	AS 'MODULE_PATHNAME', 'regcrm_facts_truncated'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION regcrm.facts_truncated() IS
	'Trigger of deal, event and task: refuses TRUNCATE unless regcrm.mode is off, since nobody could tell which deals to judge again. Error 55000.';

CREATE FUNCTION regcrm.judge_touched() RETURNS trigger
	AS 'MODULE_PATHNAME', 'regcrm_judge_touched'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION regcrm.judge_touched() IS
	'Deferred trigger of deal, event and task: judges all deals that the transaction has touched, once, at its end or at SET CONSTRAINTS ALL IMMEDIATE. Error 23514 for new breaches of rules with action reject by what was written in mode enforce; 23503 for a fact of a deal that is not there.';

CREATE FUNCTION regcrm.judging_due(relation regclass) RETURNS boolean
	AS 'MODULE_PATHNAME', 'regcrm_judging_due'
	LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION regcrm.judging_due(regclass) IS
	'For the WHEN clause of the deferred triggers: whether a row that is written to this table now is to be judged at the end of the transaction. False where regcrm.mode is off, and for what the extension writes itself.';

CREATE FUNCTION regcrm.setup_triggers() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $$
DECLARE
	relation text;
BEGIN
	CREATE TABLE IF NOT EXISTS regcrm.next_moment (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		deal_id bigint NOT NULL,
		at timestamptz NOT NULL,
		PRIMARY KEY (account_id, deal_id)
	);
	CREATE INDEX IF NOT EXISTS next_moment_at_idx ON regcrm.next_moment (account_id, at);
	PERFORM regcrm.describe('regcrm.next_moment', 'When a deal is to be judged again though no deadline tells of it: a date that it holds comes, or a fact dated ahead. Kept by the judging; what the clock looks for beside deadline.',
		'account_id', 'Account.',
		'deal_id', 'Deal.',
		'at', 'Moment.');

	-- transition tables ask for a trigger of its own for each kind of statement
	FOREACH relation IN ARRAY '{deal,event,task}'::text[] LOOP
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_inserted', format(
			'CREATE TRIGGER %%1$s AFTER INSERT ON %%2$s REFERENCING NEW TABLE AS regcrm_new FOR EACH STATEMENT EXECUTE FUNCTION regcrm.%s_changed()', relation));
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_updated', format(
			'CREATE TRIGGER %%1$s AFTER UPDATE ON %%2$s REFERENCING OLD TABLE AS regcrm_old NEW TABLE AS regcrm_new FOR EACH STATEMENT EXECUTE FUNCTION regcrm.%s_changed()', relation));
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_deleted', format(
			'CREATE TRIGGER %%1$s AFTER DELETE ON %%2$s REFERENCING OLD TABLE AS regcrm_old FOR EACH STATEMENT EXECUTE FUNCTION regcrm.%s_changed()', relation));
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_truncated',
			'CREATE TRIGGER %1$s BEFORE TRUNCATE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION regcrm.facts_truncated()');
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_judge',
			'CREATE CONSTRAINT TRIGGER %1$s AFTER INSERT OR UPDATE OR DELETE ON %2$s DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (regcrm.judging_due(''%2$s'')) EXECUTE FUNCTION regcrm.judge_touched()');
	END LOOP;
	FOREACH relation IN ARRAY '{deadline,violation}'::text[] LOOP
		PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_guard',
			'CREATE TRIGGER %1$s BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION regcrm.findings_guard()');
	END LOOP;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.setup_triggers() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.setup_triggers() IS
	'For setup(): makes the triggers on the facts where they are missing. They do not fire where a session replicates (session_replication_role): what comes that way was judged where it was written.';
