
-- ---------------------------------------------------------------------------
-- marts: duties counted by day
-- ---------------------------------------------------------------------------

-- What became of the duties that ended is added up by day in mart_duty, so that
-- a year of scorecards is read in the time of a day.  Nothing depends on when
-- that happens: duty_counts takes from the mart the days whose sums hold and
-- counts every other day, and the duties that still run, from the ledger.
--
-- Which sums hold:
--   * mart_state says from which day to which an account is summed, and by
--     which zone its days were cut;
--   * whoever writes deadline or violation notes the hours it touches in
--     mart_dirty, in the same transaction; the days of these hours do not hold.
--   * refresh_marts() takes notes away first and counts by a later snapshot, in
--     one transaction.  What a writer commits in between is counted, and its
--     note stays for the next time.  So in every snapshot a summed day without
--     a note is right.
-- Notes are only added and taken, never looked for: writers do not wait for
-- each other.  The triggers that note are made by the first refresh_marts(),
-- under a lock that waits for all writers, so no write slips by; a warehouse
-- that never calls it pays nothing.

CREATE FUNCTION regcrm.mart_note_deadline() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO regcrm.mart_dirty (account_id, at)
			SELECT DISTINCT n.account_id, date_trunc('hour', n.arose_at, 'UTC') FROM regcrm_new n WHERE n.state NOT IN ('pending', 'warned');
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO regcrm.mart_dirty (account_id, at)
			SELECT DISTINCT o.account_id, date_trunc('hour', o.arose_at, 'UTC') FROM regcrm_old o WHERE o.state NOT IN ('pending', 'warned');
	ELSE
		INSERT INTO regcrm.mart_dirty (account_id, at)
			SELECT n.account_id, date_trunc('hour', n.arose_at, 'UTC') FROM regcrm_new n WHERE n.state NOT IN ('pending', 'warned')
			UNION
			SELECT o.account_id, date_trunc('hour', o.arose_at, 'UTC') FROM regcrm_old o WHERE o.state NOT IN ('pending', 'warned');
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION regcrm.mart_note_deadline() IS
	'Trigger of deadline, after each statement, once refresh_marts() has been called: notes the hours in which duties arose that have ended or no longer have.';

CREATE FUNCTION regcrm.mart_note_violation() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	-- a breach without a due moment counts on the day it happened, any other on the day its duty arose
	IF TG_OP = 'INSERT' THEN
		INSERT INTO regcrm.mart_dirty (account_id, at)
			SELECT DISTINCT n.account_id, date_trunc('hour', u.at, 'UTC') FROM regcrm_new n CROSS JOIN LATERAL (VALUES (n.arose_at), (n.breached_at)) AS u(at);
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO regcrm.mart_dirty (account_id, at)
			SELECT DISTINCT o.account_id, date_trunc('hour', u.at, 'UTC') FROM regcrm_old o CROSS JOIN LATERAL (VALUES (o.arose_at), (o.breached_at)) AS u(at);
	ELSE
		INSERT INTO regcrm.mart_dirty (account_id, at)
			SELECT n.account_id, date_trunc('hour', u.at, 'UTC') FROM regcrm_new n CROSS JOIN LATERAL (VALUES (n.arose_at), (n.breached_at)) AS u(at)
			UNION
			SELECT o.account_id, date_trunc('hour', u.at, 'UTC') FROM regcrm_old o CROSS JOIN LATERAL (VALUES (o.arose_at), (o.breached_at)) AS u(at);
	END IF;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION regcrm.mart_note_violation() IS
	'Trigger of violation, after each statement, once refresh_marts() has been called: notes the hours of the breaches written.';

CREATE FUNCTION regcrm.mart_truncated() RETURNS trigger
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	PERFORM pg_advisory_xact_lock(hashtextextended('regcrm.marts', 0));
	DELETE FROM regcrm.mart_duty;
	DELETE FROM regcrm.mart_state;
	DELETE FROM regcrm.mart_dirty;
	RETURN NULL;
END
$$;
COMMENT ON FUNCTION regcrm.mart_truncated() IS
	'Trigger of deadline and violation: no sum holds of a table that was emptied.';

CREATE FUNCTION regcrm.setup_marts() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $$
DECLARE
	fresh boolean := to_regclass('regcrm.mart_dirty') IS NULL;
BEGIN
	CREATE TABLE IF NOT EXISTS regcrm.mart_duty (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		day date NOT NULL,
		rule text NOT NULL,
		manager_id bigint,
		met bigint NOT NULL,
		late bigint NOT NULL,
		missed bigint NOT NULL,
		waived bigint NOT NULL,
		cancelled bigint NOT NULL,
		breaches_at_once bigint NOT NULL,
		violations bigint NOT NULL,
		critical bigint NOT NULL,
		CONSTRAINT mart_duty_key UNIQUE NULLS NOT DISTINCT (account_id, day, rule, manager_id)
	);
	PERFORM regcrm.describe('regcrm.mart_duty', 'What became of the duties that have ended, by day, rule and manager. Kept by refresh_marts(); read the view duty_counts, which adds what is not here yet.',
		'account_id', 'Account.',
		'day', 'Day in the account''s time zone on which the duties arose (a breach at once: happened).',
		'rule', 'Code of the rule.',
		'manager_id', 'Responsible manager; null = a robot''s duty, or nobody.',
		'met', 'Duties met in time.',
		'late', 'Duties met after their due moment.',
		'missed', 'Duties not met.',
		'waived', 'Duties broken and excused.',
		'cancelled', 'Duties that fell away before they were due.',
		'breaches_at_once', 'Breaches of rules that set no due moment.',
		'violations', 'late + missed + breaches_at_once.',
		'critical', 'Violations of severity critical.');

	CREATE TABLE IF NOT EXISTS regcrm.mart_state (
		account_id bigint NOT NULL DEFAULT regcrm.current_account() PRIMARY KEY,
		time_zone text NOT NULL,
		counted_from date NOT NULL,
		counted_until date NOT NULL,
		refreshed_at timestamptz NOT NULL DEFAULT now()
	);
	PERFORM regcrm.describe('regcrm.mart_state', 'Which days of an account are summed in mart_duty. One row an account; none = none.',
		'account_id', 'Account.',
		'time_zone', 'Zone by which the days were cut; where the account has another by now, the sums do not count.',
		'counted_from', 'First day that is summed.',
		'counted_until', 'Last day that is summed.',
		'refreshed_at', 'When refresh_marts() last came by.');

	-- no key: writers must not wait for each other
	CREATE TABLE IF NOT EXISTS regcrm.mart_dirty (
		account_id bigint NOT NULL DEFAULT regcrm.current_account(),
		at timestamptz NOT NULL
	);
	CREATE INDEX IF NOT EXISTS mart_dirty_idx ON regcrm.mart_dirty (account_id, at);
	PERFORM regcrm.describe('regcrm.mart_dirty', 'Hours whose duties or breaches were written since their days were summed: these days are counted anew.',
		'account_id', 'Account.',
		'at', 'Beginning of the hour.');
	IF fresh THEN
		-- who waives a violation notes its day; a note too many costs a recount and changes nothing
		GRANT INSERT ON regcrm.mart_dirty TO PUBLIC;
	END IF;

	-- after detach() nothing was noted
	IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'regcrm.violation'::regclass AND t.tgname = 'regcrm_mart_truncated')
		AND EXISTS (SELECT FROM regcrm.mart_state)
	THEN
		DELETE FROM regcrm.mart_duty;
		DELETE FROM regcrm.mart_state;
		DELETE FROM regcrm.mart_dirty;
	END IF;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.setup_marts() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.setup_marts() IS
	'For setup(): makes the tables of sums where they are missing.';

CREATE FUNCTION regcrm.setup_mart_views() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $setup$
BEGIN
	-- An hour of a zone with odd minutes belongs to two days.
	CREATE OR REPLACE VIEW regcrm.mart_dirty_days WITH (security_invoker = true) AS
		SELECT x.account_id, (x.at AT TIME ZONE a.time_zone)::date AS day
		FROM regcrm.mart_dirty x
		JOIN regcrm.account a ON a.id = x.account_id
		UNION
		SELECT x.account_id, ((x.at + interval '59 min') AT TIME ZONE a.time_zone)::date
		FROM regcrm.mart_dirty x
		JOIN regcrm.account a ON a.id = x.account_id;

	CREATE OR REPLACE VIEW regcrm.duty_counts_live WITH (security_invoker = true) AS
		SELECT o.account_id,
			o.day,
			o.rule,
			o.manager_id,
			count(*) FILTER (WHERE o.due_at IS NOT NULL) AS arisen,
			count(*) FILTER (WHERE o.outcome = 'met') AS met,
			count(*) FILTER (WHERE o.outcome = 'late') AS late,
			count(*) FILTER (WHERE o.outcome = 'missed') AS missed,
			count(*) FILTER (WHERE o.outcome = 'waived' AND o.due_at IS NOT NULL) AS waived,
			count(*) FILTER (WHERE o.outcome = 'cancelled') AS cancelled,
			count(*) FILTER (WHERE o.outcome = 'pending') AS pending,
			count(*) FILTER (WHERE o.outcome = 'waiting') AS waiting,
			count(*) FILTER (WHERE o.outcome = 'breach') AS breaches_at_once,
			count(*) FILTER (WHERE o.outcome IN ('late', 'missed', 'breach')) AS violations,
			count(*) FILTER (WHERE o.outcome IN ('late', 'missed', 'breach') AND o.severity = 'critical') AS critical
		FROM regcrm.duties_daily o
		GROUP BY o.account_id, o.day, o.rule, o.manager_id;

	-- Three parts: the days whose sums hold, the other days, and what still runs.
	CREATE OR REPLACE VIEW regcrm.duty_counts WITH (security_invoker = true) AS
		SELECT c.account_id,
			c.day,
			c.rule,
			c.manager_id,
			sum(c.met + c.late + c.missed + c.waived + c.cancelled + c.pending + c.waiting)::bigint AS arisen,
			sum(c.met)::bigint AS met,
			sum(c.late)::bigint AS late,
			sum(c.missed)::bigint AS missed,
			sum(c.waived)::bigint AS waived,
			sum(c.cancelled)::bigint AS cancelled,
			sum(c.pending)::bigint AS pending,
			sum(c.waiting)::bigint AS waiting,
			sum(c.breaches_at_once)::bigint AS breaches_at_once,
			sum(c.violations)::bigint AS violations,
			sum(c.critical)::bigint AS critical
		FROM (
			SELECT m.account_id, m.day, m.rule, m.manager_id, m.met, m.late, m.missed, m.waived, m.cancelled,
				0::bigint AS pending, 0::bigint AS waiting, m.breaches_at_once, m.violations, m.critical
			FROM regcrm.mart_duty m
			JOIN regcrm.mart_state s ON s.account_id = m.account_id AND m.day BETWEEN s.counted_from AND s.counted_until
			JOIN regcrm.account a ON a.id = s.account_id AND a.time_zone = s.time_zone
			WHERE NOT EXISTS (SELECT FROM regcrm.mart_dirty_days x WHERE x.account_id = m.account_id AND x.day = m.day)
			UNION ALL
			SELECT d.account_id, d.day, o.rule, o.manager_id, o.met, o.late, o.missed, o.waived, o.cancelled,
				0, 0, o.breaches_at_once, o.violations, o.critical
			FROM regcrm.account_days d
			CROSS JOIN LATERAL (
				SELECT u.rule,
					u.manager_id,
					count(*) FILTER (WHERE u.outcome = 'met') AS met,
					count(*) FILTER (WHERE u.outcome = 'late') AS late,
					count(*) FILTER (WHERE u.outcome = 'missed') AS missed,
					count(*) FILTER (WHERE u.outcome = 'waived' AND u.due_at IS NOT NULL) AS waived,
					count(*) FILTER (WHERE u.outcome = 'cancelled') AS cancelled,
					count(*) FILTER (WHERE u.outcome = 'breach') AS breaches_at_once,
					count(*) FILTER (WHERE u.outcome IN ('late', 'missed', 'breach')) AS violations,
					count(*) FILTER (WHERE u.outcome IN ('late', 'missed', 'breach') AND u.severity = 'critical') AS critical
				FROM regcrm.duties u
				WHERE u.account_id = d.account_id AND u.arose_at >= d.starts_at AND u.arose_at < d.ends_at
					AND u.outcome NOT IN ('pending', 'waiting')
				GROUP BY u.rule, u.manager_id
				OFFSET 0) AS o
			WHERE NOT EXISTS (
				SELECT FROM regcrm.mart_state s
				JOIN regcrm.account a ON a.id = s.account_id AND a.time_zone = s.time_zone
				WHERE s.account_id = d.account_id AND d.day BETWEEN s.counted_from AND s.counted_until
					AND NOT EXISTS (SELECT FROM regcrm.mart_dirty_days x WHERE x.account_id = d.account_id AND x.day = d.day))
			UNION ALL
			SELECT l.account_id, (l.arose_at AT TIME ZONE a.time_zone)::date, l.rule, l.manager_id, 0, 0, 0, 0, 0,
				CASE WHEN l.due_at > now() THEN 1 ELSE 0 END,
				CASE WHEN l.due_at > now() THEN 0 ELSE 1 END,
				0, 0, 0
			FROM regcrm.deadline l
			JOIN regcrm.account a ON a.id = l.account_id
			WHERE l.state IN ('pending', 'warned')) AS c
		GROUP BY c.account_id, c.day, c.rule, c.manager_id
		HAVING sum(c.met + c.late + c.missed + c.waived + c.cancelled + c.pending + c.waiting + c.breaches_at_once) > 0;
END
$setup$;
REVOKE EXECUTE ON FUNCTION regcrm.setup_mart_views() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.setup_mart_views() IS
	'For setup_views(): makes duty_counts and what it stands on.';

CREATE PROCEDURE regcrm.refresh_marts(max_days integer DEFAULT 400, INOUT days_counted bigint DEFAULT NULL)
	LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	r record;
	today date;
	first_day date;
	days date[];
	more integer;
	relation text;
	patience text := current_setting('lock_timeout');
BEGIN
	days_counted := 0;
	PERFORM regcrm.need_tables();
	IF COALESCE(max_days, 0) < 1 THEN
		RAISE EXCEPTION 'max_days must be at least 1'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'It bounds how many days of an account one call counts; the next call goes on.';
	END IF;

	-- one at a time; whoever is at it does the work
	IF NOT pg_try_advisory_xact_lock(hashtextextended('regcrm.marts', 0)) THEN
		RAISE NOTICE 'somebody else is refreshing the marts';
		RETURN;
	END IF;

	IF NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = 'regcrm.violation'::regclass AND t.tgname = 'regcrm_mart_truncated') THEN
		-- Waits for whoever writes, so that after this every write is noted; writers wait for us meanwhile, so not for long.
		BEGIN
			PERFORM set_config('lock_timeout', '3s', true);
			LOCK TABLE regcrm.deadline, regcrm.violation IN SHARE ROW EXCLUSIVE MODE;
			PERFORM set_config('lock_timeout', patience, true);
		EXCEPTION WHEN lock_not_available THEN
			RAISE NOTICE 'the marts were not begun: somebody is writing'
				USING HINT = 'Call refresh_marts() again later.';
			RETURN;
		END;
		DELETE FROM regcrm.mart_duty;
		DELETE FROM regcrm.mart_state;
		DELETE FROM regcrm.mart_dirty;
		FOREACH relation IN ARRAY '{deadline,violation}'::text[] LOOP
			PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_mart_inserted', format(
				'CREATE TRIGGER %%1$s AFTER INSERT ON %%2$s REFERENCING NEW TABLE AS regcrm_new FOR EACH STATEMENT EXECUTE FUNCTION regcrm.mart_note_%s()', relation));
			PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_mart_updated', format(
				'CREATE TRIGGER %%1$s AFTER UPDATE ON %%2$s REFERENCING OLD TABLE AS regcrm_old NEW TABLE AS regcrm_new FOR EACH STATEMENT EXECUTE FUNCTION regcrm.mart_note_%s()', relation));
			PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_mart_deleted', format(
				'CREATE TRIGGER %%1$s AFTER DELETE ON %%2$s REFERENCING OLD TABLE AS regcrm_old FOR EACH STATEMENT EXECUTE FUNCTION regcrm.mart_note_%s()', relation));
			PERFORM regcrm.ensure_trigger('regcrm.' || relation, 'regcrm_mart_truncated',
				'CREATE TRIGGER %1$s BEFORE TRUNCATE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION regcrm.mart_truncated()');
		END LOOP;
		-- counting would hold that lock; it begins with the next call
		RETURN;
	END IF;

	FOR r IN SELECT a.id, a.time_zone FROM regcrm.account a ORDER BY a.id LOOP
		SELECT (min(d.created_at) AT TIME ZONE r.time_zone)::date INTO first_day FROM regcrm.deal d WHERE d.account_id = r.id;
		CONTINUE WHEN first_day IS NULL;
		first_day := greatest(first_day, date '1970-01-01');
		today := (now() AT TIME ZONE r.time_zone)::date;

		-- days cut by another zone are no days of this account
		DELETE FROM regcrm.mart_state s WHERE s.account_id = r.id AND s.time_zone <> r.time_zone;
		IF NOT EXISTS (SELECT FROM regcrm.mart_state s WHERE s.account_id = r.id) THEN
			DELETE FROM regcrm.mart_duty m WHERE m.account_id = r.id;
			INSERT INTO regcrm.mart_state (account_id, time_zone, counted_from, counted_until) VALUES (r.id, r.time_zone, today + 1, today);
		END IF;

		-- what was written since: the latest days first
		days := ARRAY(
			SELECT x.day FROM regcrm.mart_dirty_days x
			JOIN regcrm.mart_state s ON s.account_id = x.account_id AND x.day BETWEEN s.counted_from AND s.counted_until
			WHERE x.account_id = r.id
			ORDER BY x.day DESC
			LIMIT max_days);
		DELETE FROM regcrm.mart_dirty x
			USING regcrm.mart_state s
			WHERE x.account_id = r.id AND s.account_id = r.id
				AND ((x.at AT TIME ZONE r.time_zone)::date = ANY (days) OR (x.at AT TIME ZONE r.time_zone)::date NOT BETWEEN s.counted_from AND s.counted_until)
				AND (((x.at + interval '59 min') AT TIME ZONE r.time_zone)::date = ANY (days)
					OR ((x.at + interval '59 min') AT TIME ZONE r.time_zone)::date NOT BETWEEN s.counted_from AND s.counted_until);

		-- days that were not summed yet: up to today, then back to the first
		more := max_days - cardinality(days);
		days := days || ARRAY(
			SELECT g::date FROM regcrm.mart_state s
			CROSS JOIN LATERAL generate_series((s.counted_until + 1)::timestamp, today::timestamp, interval '1 day') g
			WHERE s.account_id = r.id
			ORDER BY g
			LIMIT more);
		UPDATE regcrm.mart_state s SET counted_until = greatest(s.counted_until, (SELECT max(u) FROM unnest(days) u)) WHERE s.account_id = r.id;
		more := max_days - cardinality(days);
		days := days || ARRAY(
			SELECT g::date FROM regcrm.mart_state s
			CROSS JOIN LATERAL generate_series((s.counted_from - 1)::timestamp, first_day::timestamp, interval '-1 day') g
			WHERE s.account_id = r.id
			ORDER BY g DESC
			LIMIT more);
		UPDATE regcrm.mart_state s
			SET counted_from = least(s.counted_from, (SELECT min(u) FROM unnest(days) u)), refreshed_at = clock_timestamp()
			WHERE s.account_id = r.id;

		DELETE FROM regcrm.mart_duty m WHERE m.account_id = r.id AND m.day = ANY (days);
		INSERT INTO regcrm.mart_duty (account_id, day, rule, manager_id, met, late, missed, waived, cancelled, breaches_at_once, violations, critical)
			SELECT c.account_id, c.day, c.rule, c.manager_id, c.met, c.late, c.missed, c.waived, c.cancelled, c.breaches_at_once, c.violations, c.critical
			FROM regcrm.duty_counts_live c
			WHERE c.account_id = r.id AND c.day = ANY (days)
				AND c.met + c.late + c.missed + c.waived + c.cancelled + c.breaches_at_once > 0;
		days_counted := days_counted + cardinality(days);
	END LOOP;
END
$$;
REVOKE EXECUTE ON PROCEDURE regcrm.refresh_marts(integer, bigint) FROM PUBLIC;
COMMENT ON PROCEDURE regcrm.refresh_marts(integer, bigint) IS
	'Adds up what has changed since the last call: days that were written to, new days, then older ones until all are summed; never everything anew. Views are right without it, only slower. The first call only begins to take note of writes. Arguments: how many days of an account one call counts at most; gives back how many it counted. Needs to own the tables. Error 22023 for less than one day.';

CREATE FUNCTION regcrm.stop_marts() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $$
DECLARE
	relation text;
	trigger text;
BEGIN
	PERFORM regcrm.need_tables();
	PERFORM pg_advisory_xact_lock(hashtextextended('regcrm.marts', 0));
	FOREACH relation IN ARRAY '{deadline,violation}'::text[] LOOP
		FOREACH trigger IN ARRAY '{regcrm_mart_inserted,regcrm_mart_updated,regcrm_mart_deleted,regcrm_mart_truncated}'::text[] LOOP
			EXECUTE format('DROP TRIGGER IF EXISTS %I ON regcrm.%I', trigger, relation);
		END LOOP;
	END LOOP;
	DELETE FROM regcrm.mart_duty;
	DELETE FROM regcrm.mart_state;
	DELETE FROM regcrm.mart_dirty;
END
$$;
REVOKE EXECUTE ON FUNCTION regcrm.stop_marts() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.stop_marts() IS
	'Empties the marts and lets writes go unnoted, as before the first refresh_marts(). For a warehouse in which nobody calls that any more. Needs to own the tables.';
