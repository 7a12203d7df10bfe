
-- ---------------------------------------------------------------------------
-- a deal's story, and answers that take a period
-- ---------------------------------------------------------------------------

CREATE FUNCTION regcrm.setup_story_view() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $setup$
BEGIN
	-- Facts and findings of a deal in one row each.  A breach stands behind the
	-- facts of its instant, its end behind the breach (place).
	CREATE OR REPLACE VIEW regcrm.deal_timeline WITH (security_invoker = true) AS
		SELECT l.account_id,
			l.deal_id,
			l.at,
			l.kind,
			COALESCE(regcrm.label('line', l.kind), regcrm.label('event', l.kind)) AS kind_name,
			l.what,
			l.kind = 'violation' AS is_violation,
			l.rule,
			l.title,
			l.clause,
			l.severity,
			regcrm.label('severity', l.severity) AS severity_name,
			l.actor_id,
			m.name AS actor_name,
			l.by_bot,
			COALESCE(l.stage, w.stage, b.stage) AS stage,
			s.name AS stage_name,
			l.body,
			l.event_id,
			l.task_id,
			l.violation_id,
			l.place
		FROM (
			SELECT d.account_id, d.id AS deal_id, d.created_at AS at, 'created' AS kind, 'сделка создана' || COALESCE(': ' || d.source_name, '') AS what,
				NULL::text AS rule, NULL::text AS title, NULL::text AS clause, NULL::text AS severity, NULL::bigint AS actor_id, false AS by_bot,
				NULL::text AS stage, NULL::text AS body, NULL::bigint AS event_id, NULL::bigint AS task_id, NULL::bigint AS violation_id, 0 AS place
			FROM regcrm.deal d
			UNION ALL
			SELECT d.account_id, d.id, d.deleted_at, 'deleted', 'сделка удалена',
				NULL, NULL, NULL, NULL, NULL, false, NULL, NULL, NULL, NULL, NULL, 5
			FROM regcrm.deal d
			WHERE d.deleted_at IS NOT NULL
			UNION ALL
			SELECT e.account_id, e.deal_id, e.at, e.kind,
				CASE e.kind
					WHEN 'stage' THEN concat_ws(' ', 'переход', 'из «' || f.name || '»', 'в «' || COALESCE(g.name, 'этап не из регламента') || '»',
						CASE WHEN e.by_bot THEN '(робот)' END)
					WHEN 'responsible' THEN 'ответственный: ' || concat_ws(' → ', b.name, COALESCE(n.name, e.value))
					ELSE regcrm.event_text(e.kind, e.by_bot, e.answered, e.duration, COALESCE(c.name, e.scenario, h.name, e.field), o.value, e.body)
						|| CASE WHEN e.kind = 'field' AND o.value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2} ' THEN ' = ' || o.value ELSE '' END
						|| COALESCE(' (' || e.channel || ')', '')
				END,
				NULL, NULL, NULL, NULL, e.actor_id, e.by_bot, CASE WHEN e.kind = 'stage' THEN e.to_stage END::text,
				CASE WHEN e.kind <> 'verdict' THEN e.body END, e.id, NULL, NULL, CASE e.kind WHEN 'stage' THEN 2 ELSE 1 END
			FROM regcrm.event e
			JOIN regcrm.account a ON a.id = e.account_id
			LEFT JOIN regcrm.stage_def f ON f.stage = e.from_stage::text
			LEFT JOIN regcrm.stage_def g ON g.stage = e.to_stage::text
			LEFT JOIN regcrm.manager b ON e.kind = 'responsible' AND b.account_id = e.account_id AND b.id::text = e.value_before
			LEFT JOIN regcrm.manager n ON e.kind = 'responsible' AND n.account_id = e.account_id AND n.id::text = e.value
			LEFT JOIN LATERAL (
				SELECT x.name FROM regcrm.scenario x
				WHERE x.regulation = a.regulation AND x.code = e.scenario AND x.valid @> e.at
				LIMIT 1) AS c ON true
			LEFT JOIN regcrm.custom_field h ON e.kind = 'field' AND e.field LIKE 'custom:%' AND h.account_id = e.account_id AND e.field = 'custom:' || h.id
			-- moments in the account's zone, as everywhere else in the line
			CROSS JOIN LATERAL (
				SELECT COALESCE(CASE WHEN e.kind = 'field' THEN CASE regcrm.column_kind(e.field)
						WHEN 'moment' THEN to_char(regcrm.local_moment(e.value, a.time_zone), 'DD.MM.YYYY HH24:MI')
						WHEN 'date' THEN to_char(regcrm.local_moment(e.value, a.time_zone), 'DD.MM.YYYY')
						WHEN 'boolean' THEN CASE e.value WHEN 'true' THEN 'да' WHEN 'false' THEN 'нет' END END END, e.value) AS value) AS o
			WHERE e.deal_id IS NOT NULL
			UNION ALL
			SELECT t.account_id, t.deal_id, u.at, u.kind,
				concat_ws(' ', u.word, '«' || COALESCE(t.body, regcrm.label('task', t.kind), t.kind) || '»',
					CASE u.kind WHEN 'task_added' THEN 'на ' || to_char(t.due_at AT TIME ZONE a.time_zone, 'DD.MM.YYYY HH24:MI') END,
					CASE WHEN u.kind = 'task_added' AND t.by_bot THEN '(робот)' END),
				NULL, NULL, NULL, NULL, CASE WHEN u.kind = 'task_added' AND t.by_bot THEN NULL ELSE t.manager_id END, u.kind = 'task_added' AND t.by_bot,
				NULL, CASE WHEN u.kind = 'task_done' THEN t.result END, NULL, t.id, NULL, u.place
			FROM regcrm.task t
			JOIN regcrm.account_now a ON a.account_id = t.account_id
			CROSS JOIN LATERAL (VALUES
				('task_added', 'задача', t.created_at, 3),
				('task_due', 'срок задачи прошёл:', CASE WHEN t.due_at < COALESCE(t.completed_at, t.deleted_at, a.as_of) THEN t.due_at END, 3),
				('task_done', 'задача закрыта:', t.completed_at, 1),
				('task_gone', 'задача удалена:', CASE WHEN t.completed_at IS NULL THEN t.deleted_at END, 1)) AS u(kind, word, at, place)
			WHERE t.deal_id IS NOT NULL AND u.at IS NOT NULL
			UNION ALL
			SELECT v.account_id, v.deal_id, u.at, u.kind,
				concat_ws(' ', u.word, v.rule || '.', r.title || CASE u.kind
					WHEN 'resolved' THEN ': ' || concat_ws(', ', regcrm.label('resolution', v.resolution), regcrm.duration_text(v.resolved_at - v.breached_at))
					WHEN 'waived' THEN ': ' || v.waive_reason
					ELSE CASE WHEN v.waived_at IS NOT NULL THEN ' (снято)' ELSE '' END END),
				v.rule, r.title, r.clause, v.severity, CASE WHEN u.kind = 'violation' THEN v.manager_id END, r.duty_of = 'bot', v.stage::text, NULL,
				CASE WHEN u.kind = 'violation' THEN (v.evidence->>'event')::bigint END, v.task_id, v.id, u.place
			FROM regcrm.violation v
			JOIN regcrm.account a ON a.id = v.account_id
			LEFT JOIN regcrm.rule r ON r.regulation = a.regulation AND r.code = v.rule AND r.valid @> v.arose_at
			CROSS JOIN LATERAL (VALUES
				('violation', 'нарушение', v.breached_at, 6),
				('resolved', 'закончилось', CASE WHEN v.resolution <> 'moment' THEN v.resolved_at END, 7),
				('waived', 'снято', v.waived_at, 8)) AS u(kind, word, at, place)
			WHERE v.withdrawn_at IS NULL AND u.at IS NOT NULL) AS l
		LEFT JOIN regcrm.manager m ON m.account_id = l.account_id AND m.id = l.actor_id
		LEFT JOIN LATERAL (
			-- what comes with a move belongs to the visit that the move ends
			SELECT x.to_stage::text AS stage
			FROM regcrm.event x
			WHERE l.stage IS NULL AND x.account_id = l.account_id AND x.deal_id = l.deal_id AND x.kind = 'stage'
				AND (x.at < l.at OR l.place >= 3 AND x.at = l.at)
			ORDER BY x.at DESC, COALESCE(x.source_id, '') DESC, x.id DESC
			LIMIT 1) AS w ON true
		LEFT JOIN LATERAL (
			-- before the first move: where that came from, without any where the deal is
			SELECT CASE WHEN x.id IS NULL THEN d.stage ELSE x.from_stage END::text AS stage
			FROM regcrm.deal d
			LEFT JOIN LATERAL (
				SELECT y.id, y.from_stage
				FROM regcrm.event y
				WHERE y.account_id = d.account_id AND y.deal_id = d.id AND y.kind = 'stage'
				ORDER BY y.at, COALESCE(y.source_id, ''), y.id
				LIMIT 1) AS x ON true
			WHERE l.stage IS NULL AND w.stage IS NULL AND d.account_id = l.account_id AND d.id = l.deal_id) AS b ON true
		LEFT JOIN regcrm.stage_def s ON s.stage = COALESCE(l.stage, w.stage, b.stage);
END
$setup$;
REVOKE EXECUTE ON FUNCTION regcrm.setup_story_view() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.setup_story_view() IS
	'For setup_views(): makes the view deal_timeline.';

CREATE TYPE regcrm.story_line AS (
	n bigint,
	at timestamptz,
	since_previous interval,
	kind text,
	kind_name text,
	what text,
	is_violation boolean,
	rule text,
	title text,
	clause text,
	severity text,
	severity_name text,
	actor_id bigint,
	actor_name text,
	by_bot boolean,
	stage text,
	stage_name text,
	body text,
	event_id bigint,
	task_id bigint,
	violation_id bigint
);
COMMENT ON TYPE regcrm.story_line IS 'A line of deal_story(): something that happened to the deal, or a violation in its place.';
COMMENT ON COLUMN regcrm.story_line.n IS 'Place in the story, from 1.';
COMMENT ON COLUMN regcrm.story_line.at IS 'When it happened.';
COMMENT ON COLUMN regcrm.story_line.since_previous IS 'Time since the line before, wall time; null = the first.';
COMMENT ON COLUMN regcrm.story_line.kind IS 'What it is: created, deleted, a kind of event, task_added, task_due (its due date went by), task_done, task_gone, violation, resolved, waived.';
COMMENT ON COLUMN regcrm.story_line.kind_name IS 'The same in Russian.';
COMMENT ON COLUMN regcrm.story_line.what IS 'What happened, a line in Russian, without the text of messages.';
COMMENT ON COLUMN regcrm.story_line.is_violation IS 'Whether the line is a violation.';
COMMENT ON COLUMN regcrm.story_line.rule IS 'Code of the rule that was broken.';
COMMENT ON COLUMN regcrm.story_line.title IS 'What the rule asks, in Russian.';
COMMENT ON COLUMN regcrm.story_line.clause IS 'Where in the regulation it stands: section and sentence.';
COMMENT ON COLUMN regcrm.story_line.severity IS 'Severity of the violation: critical, major, minor or info.';
COMMENT ON COLUMN regcrm.story_line.severity_name IS 'Severity in Russian.';
COMMENT ON COLUMN regcrm.story_line.actor_id IS 'Who did it; of a violation, who was responsible; null = a robot, the client, or not known.';
COMMENT ON COLUMN regcrm.story_line.actor_name IS 'Name of who did it.';
COMMENT ON COLUMN regcrm.story_line.by_bot IS 'Whether a robot did it; of a violation, whether the duty was a robot''s.';
COMMENT ON COLUMN regcrm.story_line.stage IS 'Stage that the deal was in, of a move the one it came to; null = not known.';
COMMENT ON COLUMN regcrm.story_line.stage_name IS 'Name of the stage.';
COMMENT ON COLUMN regcrm.story_line.body IS 'Text of the message, the comment, or what came of the task.';
COMMENT ON COLUMN regcrm.story_line.event_id IS 'Number of the event; of a violation, of the one that began it.';
COMMENT ON COLUMN regcrm.story_line.task_id IS 'Number of the task.';
COMMENT ON COLUMN regcrm.story_line.violation_id IS 'Number of the violation.';

CREATE FUNCTION regcrm.deal_story(account_id bigint, deal_id bigint) RETURNS SETOF regcrm.story_line
	LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT row_number() OVER w,
		t.at,
		t.at - lag(t.at) OVER w,
		t.kind,
		t.kind_name,
		t.what,
		t.is_violation,
		t.rule,
		t.title,
		t.clause,
		t.severity,
		t.severity_name,
		t.actor_id,
		t.actor_name,
		t.by_bot,
		t.stage,
		t.stage_name,
		t.body,
		t.event_id,
		t.task_id,
		t.violation_id
	FROM regcrm.deal_timeline t
	WHERE t.account_id = $1 AND t.deal_id = $2
	WINDOW w AS (ORDER BY t.at, t.place, t.event_id, t.task_id, t.violation_id)
	ORDER BY 1
	$$;
COMMENT ON FUNCTION regcrm.deal_story(bigint, bigint) IS
	'All that is known of a deal in order of time, with the violations in their places. Arguments: account, deal. Reads with the rights of the caller; no row for a deal that is not there.';

-- As functions of their arguments alone, so that a period is a range of an index.
CREATE FUNCTION regcrm.period_begins(account_id bigint, since date, days integer) RETURNS timestamptz
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT COALESCE($2, (COALESCE(a.as_of, now()) AT TIME ZONE a.time_zone)::date - ($3 - 1))::timestamp AT TIME ZONE a.time_zone
	FROM regcrm.account_now a
	WHERE a.account_id = $1
	$$;
COMMENT ON FUNCTION regcrm.period_begins(bigint, date, integer) IS
	'When a day begins in an account''s time zone. Arguments: account, the day (null = the first of so many days up to what is known), how many days that are.';

CREATE FUNCTION regcrm.period_ends(account_id bigint, until date) RETURNS timestamptz
	LANGUAGE sql STABLE PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT (COALESCE($2, (COALESCE(a.as_of, now()) AT TIME ZONE a.time_zone)::date) + 1)::timestamp AT TIME ZONE a.time_zone
	FROM regcrm.account_now a
	WHERE a.account_id = $1
	$$;
COMMENT ON FUNCTION regcrm.period_ends(bigint, date) IS
	'When a day ends (the next one begins) in an account''s time zone. Arguments: account, the day (null = the last one of which something is known).';

CREATE TYPE regcrm.rule_price AS (
	rule text,
	title text,
	severity text,
	severity_name text,
	duty_of text,
	deals_broken bigint,
	broken_lost bigint,
	broken_won bigint,
	broken_open bigint,
	broken_lost_share numeric,
	deals_kept bigint,
	kept_lost bigint,
	kept_lost_share numeric,
	lost_share_difference numeric,
	deals_cost numeric,
	price_lost numeric
);
COMMENT ON TYPE regcrm.rule_price IS 'A line of rule_cost(): how deals ended where a rule was broken, beside those where it was kept.';
COMMENT ON COLUMN regcrm.rule_price.rule IS 'Code of the rule.';
COMMENT ON COLUMN regcrm.rule_price.title IS 'What the rule asks, in Russian.';
COMMENT ON COLUMN regcrm.rule_price.severity IS 'critical, major, minor or info.';
COMMENT ON COLUMN regcrm.rule_price.severity_name IS 'Severity in Russian.';
COMMENT ON COLUMN regcrm.rule_price.duty_of IS 'manager or bot: whose duty it is.';
COMMENT ON COLUMN regcrm.rule_price.deals_broken IS 'Deals in which the rule was broken before they were closed.';
COMMENT ON COLUMN regcrm.rule_price.broken_lost IS 'Of them, lost.';
COMMENT ON COLUMN regcrm.rule_price.broken_won IS 'Of them, won.';
COMMENT ON COLUMN regcrm.rule_price.broken_open IS 'Of them, still open.';
COMMENT ON COLUMN regcrm.rule_price.broken_lost_share IS 'Per cent lost of those of them that are closed.';
COMMENT ON COLUMN regcrm.rule_price.deals_kept IS 'Deals in which the rule asked for something before they were closed and was never broken; 0 for rules that set no due moment.';
COMMENT ON COLUMN regcrm.rule_price.kept_lost IS 'Of them, lost.';
COMMENT ON COLUMN regcrm.rule_price.kept_lost_share IS 'Per cent lost of those of them that are closed.';
COMMENT ON COLUMN regcrm.rule_price.lost_share_difference IS 'broken_lost_share - kept_lost_share, percentage points.';
COMMENT ON COLUMN regcrm.rule_price.deals_cost IS 'Lost deals beyond what the share among kept ones would give: broken and closed * lost_share_difference / 100. An estimate of what goes together, not a proof of what caused what; negative = none.';
COMMENT ON COLUMN regcrm.rule_price.price_lost IS 'Budget of the deals that were broken and lost, in the account''s currency.';

CREATE FUNCTION regcrm.rule_cost(account_id bigint DEFAULT NULL, since date DEFAULT NULL, until date DEFAULT NULL) RETURNS SETOF regcrm.rule_price
	LANGUAGE sql STABLE PARALLEL SAFE ROWS 100
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT k.rule,
		k.title,
		k.severity,
		regcrm.label('severity', k.severity),
		k.duty_of,
		k.deals_broken,
		k.broken_lost,
		k.broken_won,
		k.deals_broken - k.broken_lost - k.broken_won,
		round(s.broken, 1),
		k.deals_kept,
		k.kept_lost,
		round(s.kept, 1),
		round(s.broken - s.kept, 1),
		round((k.broken_lost + k.broken_won) * (s.broken - s.kept) / 100, 1),
		k.price_lost
	FROM (
		SELECT r.rule,
			r.title,
			r.severity,
			r.duty_of,
			count(*) FILTER (WHERE r.is_broken) AS deals_broken,
			count(*) FILTER (WHERE r.is_broken AND r.deal_outcome = 'lost') AS broken_lost,
			count(*) FILTER (WHERE r.is_broken AND r.deal_outcome = 'won') AS broken_won,
			count(*) FILTER (WHERE NOT r.is_broken) AS deals_kept,
			count(*) FILTER (WHERE NOT r.is_broken AND r.deal_outcome = 'lost') AS kept_lost,
			count(*) FILTER (WHERE NOT r.is_broken AND r.deal_outcome <> 'open') AS kept_closed,
			sum(r.price) FILTER (WHERE r.is_broken AND r.deal_outcome = 'lost') AS price_lost
		FROM regcrm.rule_deals r
		WHERE r.account_id = COALESCE($1, regcrm.current_account())
			AND r.created_at >= regcrm.period_begins(COALESCE($1, regcrm.current_account()), $2, 90)
			AND r.created_at < regcrm.period_ends(COALESCE($1, regcrm.current_account()), $3)
		GROUP BY r.rule, r.title, r.severity, r.duty_of) AS k
	CROSS JOIN LATERAL (
		SELECT 100.0 * k.broken_lost / NULLIF(k.broken_lost + k.broken_won, 0) AS broken,
			100.0 * k.kept_lost / NULLIF(k.kept_closed, 0) AS kept) AS s
	WHERE k.deals_broken > 0
	ORDER BY 15 DESC NULLS LAST, k.broken_lost DESC, k.rule
	$$;
COMMENT ON FUNCTION regcrm.rule_cost(bigint, date, date) IS
	'Which rule costs most deals: of the deals created in a period, how those ended in which a rule was broken, beside those in which it was kept. Arguments: account (null = the current one), first and last day (null = the last 90 days).';

CREATE TYPE regcrm.response_line AS (
	manager_id bigint,
	manager_name text,
	arrived_hour integer,
	deals bigint,
	touched bigint,
	untouched bigint,
	median_minutes numeric,
	p90_minutes numeric,
	within_15 bigint,
	counted_15 bigint,
	within_15_share numeric
);
COMMENT ON TYPE regcrm.response_line IS 'A line of response_time() and response_by_hour(): how fast the first touch came.';
COMMENT ON COLUMN regcrm.response_line.manager_id IS 'Who is responsible for the deal now; null = all together, or nobody.';
COMMENT ON COLUMN regcrm.response_line.manager_name IS 'Name of the manager; «Все» = all together.';
COMMENT ON COLUMN regcrm.response_line.arrived_hour IS 'Hour of arrival, 0 to 23, in the account''s time zone; null = all hours.';
COMMENT ON COLUMN regcrm.response_line.deals IS 'Deals that came.';
COMMENT ON COLUMN regcrm.response_line.touched IS 'Of them, touched by now.';
COMMENT ON COLUMN regcrm.response_line.untouched IS 'Of them, not.';
COMMENT ON COLUMN regcrm.response_line.median_minutes IS 'Half of the touched ones were touched in this time or less, minutes on the account''s calendar.';
COMMENT ON COLUMN regcrm.response_line.p90_minutes IS 'Nine of ten of the touched ones, minutes on the account''s calendar.';
COMMENT ON COLUMN regcrm.response_line.within_15 IS 'Touched within 15 minutes on the account''s calendar.';
COMMENT ON COLUMN regcrm.response_line.counted_15 IS 'Denominator: touched, or untouched and open for more than 15 minutes.';
COMMENT ON COLUMN regcrm.response_line.within_15_share IS 'Per cent: 100 * within_15 / counted_15.';

CREATE FUNCTION regcrm.response_time(account_id bigint DEFAULT NULL, since date DEFAULT NULL, until date DEFAULT NULL) RETURNS SETOF regcrm.response_line
	LANGUAGE sql STABLE PARALLEL SAFE ROWS 20
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT f.manager_id,
		CASE WHEN grouping(f.manager_id) = 1 THEN 'Все' ELSE f.manager_name END,
		NULL::integer,
		count(*),
		count(f.first_touch_at),
		count(*) - count(f.first_touch_at),
		round((percentile_cont(0.5) WITHIN GROUP (ORDER BY f.response_business_minutes::double precision))::numeric, 1),
		round((percentile_cont(0.9) WITHIN GROUP (ORDER BY f.response_business_minutes::double precision))::numeric, 1),
		count(*) FILTER (WHERE f.is_within_15),
		count(f.is_within_15),
		round(100.0 * count(*) FILTER (WHERE f.is_within_15) / NULLIF(count(f.is_within_15), 0), 1)
	FROM regcrm.first_response f
	WHERE f.account_id = COALESCE($1, regcrm.current_account())
		AND f.created_at >= regcrm.period_begins(COALESCE($1, regcrm.current_account()), $2, 30)
		AND f.created_at < regcrm.period_ends(COALESCE($1, regcrm.current_account()), $3)
	GROUP BY GROUPING SETS ((f.manager_id, f.manager_name), ())
	ORDER BY grouping(f.manager_id) DESC, 7 DESC NULLS FIRST, 2
	$$;
COMMENT ON FUNCTION regcrm.response_time(bigint, date, date) IS
	'How fast leads are answered, all together and by manager: median, nine of ten, share within 15 minutes. Arguments: account (null = the current one), first and last day of arrival (null = the last 30 days).';

CREATE FUNCTION regcrm.response_by_hour(account_id bigint DEFAULT NULL, since date DEFAULT NULL, until date DEFAULT NULL) RETURNS SETOF regcrm.response_line
	LANGUAGE sql STABLE PARALLEL SAFE ROWS 24
	SET search_path = pg_catalog, pg_temp
	AS $$
	SELECT NULL::bigint,
		'Все',
		f.arrived_hour,
		count(*),
		count(f.first_touch_at),
		count(*) - count(f.first_touch_at),
		round((percentile_cont(0.5) WITHIN GROUP (ORDER BY f.response_business_minutes::double precision))::numeric, 1),
		round((percentile_cont(0.9) WITHIN GROUP (ORDER BY f.response_business_minutes::double precision))::numeric, 1),
		count(*) FILTER (WHERE f.is_within_15),
		count(f.is_within_15),
		round(100.0 * count(*) FILTER (WHERE f.is_within_15) / NULLIF(count(f.is_within_15), 0), 1)
	FROM regcrm.first_response f
	WHERE f.account_id = COALESCE($1, regcrm.current_account())
		AND f.created_at >= regcrm.period_begins(COALESCE($1, regcrm.current_account()), $2, 30)
		AND f.created_at < regcrm.period_ends(COALESCE($1, regcrm.current_account()), $3)
	GROUP BY f.arrived_hour
	ORDER BY f.arrived_hour
	$$;
COMMENT ON FUNCTION regcrm.response_by_hour(bigint, date, date) IS
	'How fast leads are answered, by the hour at which they came. Arguments: account (null = the current one), first and last day of arrival (null = the last 30 days).';

CREATE TYPE regcrm.report_line AS (
	manager_id bigint,
	manager_name text,
	completed bigint,
	usual_completed numeric,
	in_batches bigint,
	overdue bigint,
	pushed bigint,
	usual_pushed numeric,
	pushed_overdue bigint,
	is_unusual boolean
);
COMMENT ON TYPE regcrm.report_line IS 'A line of before_report(): what a manager did to his tasks just before a report.';
COMMENT ON COLUMN regcrm.report_line.manager_id IS 'Manager.';
COMMENT ON COLUMN regcrm.report_line.manager_name IS 'Name of the manager.';
COMMENT ON COLUMN regcrm.report_line.completed IS 'Tasks that he closed in the stretch.';
COMMENT ON COLUMN regcrm.report_line.usual_completed IS 'Tasks closed in the same stretch of a day, mean of those of the 28 days before on which he closed any.';
COMMENT ON COLUMN regcrm.report_line.in_batches IS 'Of the closed ones, those of a batch: five or more with no more than two minutes from one to the next.';
COMMENT ON COLUMN regcrm.report_line.overdue IS 'Of the closed ones, those that were overdue.';
COMMENT ON COLUMN regcrm.report_line.pushed IS 'Due dates that he moved to later in the stretch.';
COMMENT ON COLUMN regcrm.report_line.usual_pushed IS 'Due dates moved to later in the same stretch of a day, mean of the same days.';
COMMENT ON COLUMN regcrm.report_line.pushed_overdue IS 'Of the moved ones, those that were overdue.';
COMMENT ON COLUMN regcrm.report_line.is_unusual IS 'Whether to look closer: five or more tasks closed and three times as many as usual, or three or more due dates moved and three times as many as usual.';

CREATE FUNCTION regcrm.before_report(account_id bigint, report_at timestamptz, stretch interval DEFAULT '2 hours') RETURNS SETOF regcrm.report_line
	LANGUAGE sql STABLE PARALLEL SAFE ROWS 20
	SET search_path = pg_catalog, pg_temp
	AS $$
	WITH day AS (
		-- the stretch today (0) and on each of the 28 days before, by the account's clock
		SELECT n,
			((a.local - n * interval '1 day') AT TIME ZONE a.time_zone) - $3 AS begins,
			(a.local - n * interval '1 day') AT TIME ZONE a.time_zone AS ends,
			a.local::date - n AS day
		FROM (SELECT z.time_zone, $2 AT TIME ZONE z.time_zone AS local FROM regcrm.account z WHERE z.id = $1) AS a
		CROSS JOIN generate_series(0, 28) AS n),
	closed AS (
		SELECT d.n, c.manager_id,
			c.completed_at >= d.begins AND c.completed_at < d.ends AS is_inside, c.batch_tasks, c.is_overdue
		FROM day d
		CROSS JOIN LATERAL (
			SELECT t.manager_id, t.completed_at, t.batch_tasks, t.is_overdue
			FROM regcrm.tasks_closed t
			WHERE t.account_id = $1 AND t.day IN (d.day, d.day - 1) AND t.completed_at >= d.ends - interval '1 day' AND t.completed_at < d.ends
			OFFSET 0) AS c),
	pushed AS (
		SELECT d.n, p.actor_id AS manager_id, p.was_overdue
		FROM day d
		CROSS JOIN LATERAL (
			SELECT t.actor_id, t.was_overdue
			FROM regcrm.task_pushes t
			WHERE t.account_id = $1 AND t.at >= d.begins AND t.at < d.ends AND t.is_later AND t.actor_id IS NOT NULL
			OFFSET 0) AS p),
	line AS (
		SELECT u.manager_id,
			sum(u.completed) AS completed,
			sum(u.in_batches) AS in_batches,
			sum(u.overdue) AS overdue,
			sum(u.pushed) AS pushed,
			sum(u.pushed_overdue) AS pushed_overdue,
			round(sum(u.completed_before)::numeric / NULLIF(max(u.days), 0), 1) AS usual_completed,
			round(sum(u.pushed_before)::numeric / NULLIF(max(u.days), 0), 1) AS usual_pushed
		FROM (
			SELECT c.manager_id,
				count(*) FILTER (WHERE c.n = 0 AND c.is_inside) AS completed,
				count(*) FILTER (WHERE c.n = 0 AND c.is_inside AND c.batch_tasks >= 5) AS in_batches,
				count(*) FILTER (WHERE c.n = 0 AND c.is_inside AND c.is_overdue) AS overdue,
				0 AS pushed,
				0 AS pushed_overdue,
				count(*) FILTER (WHERE c.n > 0 AND c.is_inside) AS completed_before,
				0 AS pushed_before,
				count(DISTINCT c.n) FILTER (WHERE c.n > 0) AS days
			FROM closed c
			GROUP BY c.manager_id
			UNION ALL
			SELECT p.manager_id, 0, 0, 0,
				count(*) FILTER (WHERE p.n = 0),
				count(*) FILTER (WHERE p.n = 0 AND p.was_overdue),
				0,
				count(*) FILTER (WHERE p.n > 0),
				NULL
			FROM pushed p
			GROUP BY p.manager_id) AS u
		GROUP BY u.manager_id)
	SELECT l.manager_id,
		m.name,
		l.completed::bigint,
		l.usual_completed,
		l.in_batches::bigint,
		l.overdue::bigint,
		l.pushed::bigint,
		l.usual_pushed,
		l.pushed_overdue::bigint,
		l.completed >= 5 AND l.completed >= 3 * COALESCE(l.usual_completed, 0)
			OR l.pushed >= 3 AND l.pushed >= 3 * COALESCE(l.usual_pushed, 0)
	FROM line l
	LEFT JOIN regcrm.manager m ON m.account_id = $1 AND m.id = l.manager_id
	WHERE l.completed + l.pushed > 0
	ORDER BY 10 DESC, l.completed + l.pushed DESC, l.manager_id
	$$;
COMMENT ON FUNCTION regcrm.before_report(bigint, timestamptz, interval) IS
	'Did managers tidy up before a report: tasks closed and due dates moved in the stretch before it, beside what is usual at that time of day. Arguments: account, moment of the report, length of the stretch. Moved due dates are known of synced accounts alone. What robots closed is left out.';
