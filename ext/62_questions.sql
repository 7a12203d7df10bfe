
-- ---------------------------------------------------------------------------
-- questions: views that answer what a head of sales asks
-- ---------------------------------------------------------------------------

-- Reports of facts and of what the judge found; they judge nothing.  Each
-- begins at the account, and its period reaches an index: the latest year may
-- be asked of a history of ten.

CREATE FUNCTION regcrm.setup_question_views() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $setup$
BEGIN
	-- what the CRM says of moved due dates, found by time
	CREATE INDEX IF NOT EXISTS other_event_deadline_changed_idx ON regcrm.other_event (account_id, at) WHERE type = 'task_deadline_changed';
	-- open deals are few among all
	CREATE INDEX IF NOT EXISTS task_open_idx ON regcrm.task (account_id, deal_id) WHERE completed_at IS NULL AND deleted_at IS NULL;
	-- moves are few among events
	CREATE INDEX IF NOT EXISTS event_stage_idx ON regcrm.event (account_id, at) WHERE kind = 'stage';
	-- and a deal's moves in their order, for the move before and the one after
	CREATE INDEX IF NOT EXISTS event_moves_idx ON regcrm.event (account_id, deal_id, at, COALESCE(source_id, ''), id) WHERE kind = 'stage';

	-- The weeks of an account's life, from the first deal to what is known.
	CREATE OR REPLACE VIEW regcrm.account_weeks WITH (security_invoker = true) AS
		SELECT a.account_id,
			w.week::date AS week,
			w.week AT TIME ZONE a.time_zone AS starts_at,
			(w.week + interval '7 days') AT TIME ZONE a.time_zone AS ends_at,
			COALESCE((w.week + interval '7 days') AT TIME ZONE a.time_zone <= a.as_of, false) AS is_over
		FROM regcrm.account_now a
		CROSS JOIN LATERAL (SELECT min(l.created_at) AS at FROM regcrm.deal l WHERE l.account_id = a.account_id) AS first
		CROSS JOIN LATERAL generate_series(
			date_trunc('week', greatest(first.at AT TIME ZONE a.time_zone, a.calendar_from AT TIME ZONE a.time_zone)),
			COALESCE(a.as_of, now()) AT TIME ZONE a.time_zone,
			interval '7 days') AS w(week)
		WHERE first.at IS NOT NULL;

	-- A week that is not over is compared with the same days of the week before.
	CREATE OR REPLACE VIEW regcrm.manager_weekly WITH (security_invoker = true) AS
		SELECT w.account_id,
			w.week,
			w.is_over,
			k.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			k.arisen,
			k.met,
			k.late,
			k.missed,
			k.waived,
			k.cancelled,
			k.pending,
			k.waiting,
			k.met + k.late + k.missed AS decided,
			c.compliance,
			k.breaches_at_once,
			k.violations,
			k.critical,
			k.previous_decided,
			c.previous_compliance,
			c.compliance - c.previous_compliance AS compliance_change,
			k.previous_violations,
			k.violations - k.previous_violations AS violations_change,
			t.trend,
			regcrm.label('trend', t.trend) AS trend_name,
			k.previous_met
		FROM regcrm.account_weeks w
		JOIN regcrm.account_now a ON a.account_id = w.account_id
		CROSS JOIN LATERAL (
			SELECT u.manager_id,
				COALESCE(sum(u.arisen) FILTER (WHERE u.day >= w.week), 0)::bigint AS arisen,
				COALESCE(sum(u.met) FILTER (WHERE u.day >= w.week), 0)::bigint AS met,
				COALESCE(sum(u.late) FILTER (WHERE u.day >= w.week), 0)::bigint AS late,
				COALESCE(sum(u.missed) FILTER (WHERE u.day >= w.week), 0)::bigint AS missed,
				COALESCE(sum(u.waived) FILTER (WHERE u.day >= w.week), 0)::bigint AS waived,
				COALESCE(sum(u.cancelled) FILTER (WHERE u.day >= w.week), 0)::bigint AS cancelled,
				COALESCE(sum(u.pending) FILTER (WHERE u.day >= w.week), 0)::bigint AS pending,
				COALESCE(sum(u.waiting) FILTER (WHERE u.day >= w.week), 0)::bigint AS waiting,
				COALESCE(sum(u.breaches_at_once) FILTER (WHERE u.day >= w.week), 0)::bigint AS breaches_at_once,
				COALESCE(sum(u.violations) FILTER (WHERE u.day >= w.week), 0)::bigint AS violations,
				COALESCE(sum(u.critical) FILTER (WHERE u.day >= w.week), 0)::bigint AS critical,
				COALESCE(sum(u.met) FILTER (WHERE p.counts), 0)::bigint AS previous_met,
				COALESCE(sum(u.met + u.late + u.missed) FILTER (WHERE p.counts), 0)::bigint AS previous_decided,
				COALESCE(sum(u.violations) FILTER (WHERE p.counts), 0)::bigint AS previous_violations
			FROM regcrm.duty_counts u
			CROSS JOIN LATERAL (
				SELECT u.day < w.week AND (w.is_over OR u.day <= (COALESCE(a.as_of, now()) AT TIME ZONE a.time_zone)::date - 7) AS counts) AS p
			WHERE u.account_id = w.account_id AND u.day >= w.week - 7 AND u.day < w.week + 7 AND u.manager_id IS NOT NULL
			GROUP BY u.manager_id
			OFFSET 0) AS k
		LEFT JOIN regcrm.manager m ON m.account_id = w.account_id AND m.id = k.manager_id
		CROSS JOIN LATERAL (
			SELECT round(100.0 * k.met / NULLIF(k.met + k.late + k.missed, 0), 1) AS compliance,
				round(100.0 * k.previous_met / NULLIF(k.previous_decided, 0), 1) AS previous_compliance) AS c
		CROSS JOIN LATERAL (
			SELECT CASE WHEN c.compliance > c.previous_compliance THEN 'better' WHEN c.compliance < c.previous_compliance THEN 'worse'
				WHEN c.compliance = c.previous_compliance THEN 'same' END AS trend) AS t
		WHERE m.in_scope IS NOT FALSE AND k.arisen + k.breaches_at_once > 0;

	-- Breaches by the week in which they happened; a week that is not over is
	-- compared with the week before up to the same moment of it.
	CREATE OR REPLACE VIEW regcrm.violations_weekly WITH (security_invoker = true) AS
		SELECT w.account_id,
			w.week,
			w.is_over,
			k.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			k.rule,
			r.title,
			r.clause,
			r.stage,
			r.stage_name,
			r.severity,
			regcrm.label('severity', r.severity) AS severity_name,
			r.severity_rank,
			r.duty_of,
			regcrm.label('duty_of', r.duty_of) AS duty_of_name,
			k.violations,
			k.deals,
			k.still_open,
			k.late_minutes_median,
			k.previous_violations,
			k.violations - k.previous_violations AS violations_change,
			t.trend,
			regcrm.label('trend', t.trend) AS trend_name
		FROM regcrm.account_weeks w
		JOIN regcrm.account_now a ON a.account_id = w.account_id
		CROSS JOIN LATERAL (
			SELECT v.manager_id,
				v.rule,
				count(*) FILTER (WHERE v.breached_at >= w.starts_at) AS violations,
				count(DISTINCT v.deal_id) FILTER (WHERE v.breached_at >= w.starts_at) AS deals,
				count(*) FILTER (WHERE v.breached_at >= w.starts_at AND v.resolved_at IS NULL) AS still_open,
				round((percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM COALESCE(v.resolved_at, a.as_of) - v.breached_at)::double precision / 60)
					FILTER (WHERE v.breached_at >= w.starts_at AND v.resolution IS DISTINCT FROM 'moment' AND isfinite(COALESCE(v.resolved_at, a.as_of))))::numeric, 1) AS late_minutes_median,
				count(*) FILTER (WHERE v.breached_at < w.starts_at AND (w.is_over OR v.breached_at <= COALESCE(a.as_of, now()) - interval '7 days')) AS previous_violations
			FROM regcrm.violation v
			WHERE v.account_id = w.account_id AND v.breached_at >= w.starts_at - interval '7 days' AND v.breached_at < w.ends_at
				AND v.waived_at IS NULL AND v.withdrawn_at IS NULL
			GROUP BY v.manager_id, v.rule
			OFFSET 0) AS k
		LEFT JOIN regcrm.manager m ON m.account_id = w.account_id AND m.id = k.manager_id
		LEFT JOIN regcrm.account_rules r ON r.account_id = w.account_id AND r.rule = k.rule
		CROSS JOIN LATERAL (
			SELECT CASE WHEN k.violations < k.previous_violations THEN 'better' WHEN k.violations > k.previous_violations THEN 'worse' ELSE 'same' END AS trend) AS t
		WHERE k.violations + k.previous_violations > 0;

	-- The same of the seven days up to what is known, beside the seven before
	-- them: breaches to the moment, duties by whole days of the account's zone.
	CREATE OR REPLACE VIEW regcrm.violations_last_week WITH (security_invoker = true) AS
		SELECT a.account_id,
			a.as_of - interval '7 days' AS starts_at,
			a.as_of AS ends_at,
			k.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			k.rule,
			r.title,
			r.clause,
			r.stage,
			r.stage_name,
			r.severity,
			regcrm.label('severity', r.severity) AS severity_name,
			r.severity_rank,
			r.duty_of,
			regcrm.label('duty_of', r.duty_of) AS duty_of_name,
			k.violations,
			k.deals,
			k.still_open,
			k.previous_violations,
			k.violations - k.previous_violations AS violations_change,
			t.trend,
			regcrm.label('trend', t.trend) AS trend_name
		FROM regcrm.account_now a
		CROSS JOIN LATERAL (
			SELECT v.manager_id,
				v.rule,
				count(*) FILTER (WHERE p.is_now) AS violations,
				count(DISTINCT v.deal_id) FILTER (WHERE p.is_now) AS deals,
				count(*) FILTER (WHERE p.is_now AND v.resolved_at IS NULL) AS still_open,
				count(*) FILTER (WHERE NOT p.is_now) AS previous_violations
			FROM regcrm.violation v
			CROSS JOIN LATERAL (SELECT v.breached_at > a.as_of - interval '7 days' AS is_now) AS p
			WHERE v.account_id = a.account_id AND v.breached_at > a.as_of - interval '14 days' AND v.breached_at <= a.as_of
				AND v.waived_at IS NULL AND v.withdrawn_at IS NULL
			GROUP BY v.manager_id, v.rule
			OFFSET 0) AS k
		LEFT JOIN regcrm.manager m ON m.account_id = a.account_id AND m.id = k.manager_id
		LEFT JOIN regcrm.account_rules r ON r.account_id = a.account_id AND r.rule = k.rule
		CROSS JOIN LATERAL (
			SELECT CASE WHEN k.violations < k.previous_violations THEN 'better' WHEN k.violations > k.previous_violations THEN 'worse' ELSE 'same' END AS trend) AS t;

	CREATE OR REPLACE VIEW regcrm.manager_last_week WITH (security_invoker = true) AS
		SELECT a.account_id,
			k.until - 6 AS first_day,
			k.until AS last_day,
			k.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			k.met,
			k.late,
			k.missed,
			k.decided,
			c.compliance,
			k.previous_met,
			k.previous_decided,
			c.previous_compliance,
			c.compliance - c.previous_compliance AS compliance_change,
			t.trend,
			regcrm.label('trend', t.trend) AS trend_name
		FROM regcrm.account_now a
		CROSS JOIN LATERAL (
			SELECT u.manager_id,
				d.until,
				COALESCE(sum(u.met) FILTER (WHERE p.is_now), 0)::bigint AS met,
				COALESCE(sum(u.late) FILTER (WHERE p.is_now), 0)::bigint AS late,
				COALESCE(sum(u.missed) FILTER (WHERE p.is_now), 0)::bigint AS missed,
				COALESCE(sum(u.met + u.late + u.missed) FILTER (WHERE p.is_now), 0)::bigint AS decided,
				COALESCE(sum(u.met) FILTER (WHERE NOT p.is_now), 0)::bigint AS previous_met,
				COALESCE(sum(u.met + u.late + u.missed) FILTER (WHERE NOT p.is_now), 0)::bigint AS previous_decided
			FROM (SELECT (a.as_of AT TIME ZONE a.time_zone)::date AS until) AS d
			JOIN regcrm.duty_counts u ON u.account_id = a.account_id AND u.day > d.until - 14 AND u.day <= d.until AND u.manager_id IS NOT NULL
			CROSS JOIN LATERAL (SELECT u.day > d.until - 7 AS is_now) AS p
			GROUP BY u.manager_id, d.until
			OFFSET 0) AS k
		LEFT JOIN regcrm.manager m ON m.account_id = a.account_id AND m.id = k.manager_id
		CROSS JOIN LATERAL (
			SELECT round(100.0 * k.met / NULLIF(k.decided, 0), 1) AS compliance,
				round(100.0 * k.previous_met / NULLIF(k.previous_decided, 0), 1) AS previous_compliance) AS c
		CROSS JOIN LATERAL (
			SELECT CASE WHEN c.compliance > c.previous_compliance THEN 'better' WHEN c.compliance < c.previous_compliance THEN 'worse'
				WHEN c.compliance = c.previous_compliance THEN 'same' END AS trend) AS t
		WHERE m.in_scope IS NOT FALSE AND k.decided + k.previous_decided > 0 AND isfinite(a.as_of);

	-- When a deal's present stage closed it; other views stand on it.
	CREATE OR REPLACE VIEW regcrm.deal_closing WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.id AS deal_id,
			d.created_at,
			COALESCE(s.outcome, 'open') AS deal_outcome,
			CASE WHEN s.outcome <> 'open' THEN COALESCE(e.at, d.closed_at, d.created_at) END AS closed_at
		FROM regcrm.deal d
		LEFT JOIN regcrm.stage_def s ON s.stage = d.stage::text
		LEFT JOIN LATERAL (
			SELECT max(x.at) AS at
			FROM regcrm.event x
			WHERE s.outcome <> 'open' AND x.account_id = d.account_id AND x.deal_id = d.id AND x.kind = 'stage' AND x.to_stage::text = d.stage::text
				AND x.from_stage::text IS DISTINCT FROM x.to_stage::text) AS e ON true;

	-- A deal and a rule that bound it while it was open: kept or broken.
	CREATE OR REPLACE VIEW regcrm.rule_deals WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.created_at,
			d.id AS deal_id,
			d.name AS deal_name,
			a.deal_url_start || d.id AS deal_url,
			d.price,
			d.manager_id,
			m.name AS manager_name,
			k.rule,
			r.title,
			r.severity,
			regcrm.label('severity', r.severity) AS severity_name,
			r.duty_of,
			k.is_broken,
			c.deal_outcome,
			regcrm.label('deal', c.deal_outcome) AS deal_outcome_name
		FROM regcrm.deal d
		JOIN regcrm.account_now a ON a.account_id = d.account_id
		JOIN regcrm.deal_closing c ON c.account_id = d.account_id AND c.deal_id = d.id
		CROSS JOIN LATERAL (
			SELECT u.rule, bool_or(u.is_broken) AS is_broken
			FROM (
				SELECT v.rule, true AS is_broken
				FROM regcrm.violation v
				WHERE v.account_id = d.account_id AND v.deal_id = d.id AND v.waived_at IS NULL AND v.withdrawn_at IS NULL
					AND v.breached_at < COALESCE(c.closed_at, 'infinity')
				UNION ALL
				SELECT l.rule, false
				FROM regcrm.deadline l
				WHERE l.account_id = d.account_id AND l.deal_id = d.id AND l.state = 'met'
					AND l.arose_at < COALESCE(c.closed_at, 'infinity')) AS u
			GROUP BY u.rule
			OFFSET 0) AS k
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = d.manager_id
		LEFT JOIN regcrm.account_rules r ON r.account_id = d.account_id AND r.rule = k.rule
		WHERE NOT d.is_deleted;

	CREATE OR REPLACE VIEW regcrm.response_daily WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.day,
			k.manager_id,
			m.name AS manager_name,
			k.deals,
			k.touched,
			k.deals - k.touched AS untouched,
			k.within_15,
			k.counted_15,
			round(100.0 * k.within_15 / NULLIF(k.counted_15, 0), 1) AS within_15_share,
			k.median_minutes,
			k.p90_minutes
		FROM regcrm.account_days d
		CROSS JOIN LATERAL (
			SELECT f.manager_id,
				count(*) AS deals,
				count(f.first_touch_at) AS touched,
				count(*) FILTER (WHERE f.is_within_15) AS within_15,
				count(f.is_within_15) AS counted_15,
				round((percentile_cont(0.5) WITHIN GROUP (ORDER BY f.response_business_minutes::double precision))::numeric, 1) AS median_minutes,
				round((percentile_cont(0.9) WITHIN GROUP (ORDER BY f.response_business_minutes::double precision))::numeric, 1) AS p90_minutes
			FROM regcrm.first_response f
			WHERE f.account_id = d.account_id AND f.created_at >= d.starts_at AND f.created_at < d.ends_at
			GROUP BY f.manager_id
			OFFSET 0) AS k
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = k.manager_id;

	-- How long visits that began in the last ninety days took, and who stands there now.
	CREATE OR REPLACE VIEW regcrm.stage_norms WITH (security_invoker = true) AS
		SELECT a.account_id,
			s.stage,
			s.name AS stage_name,
			s.position AS stage_position,
			COALESCE(k.finished_visits, 0) AS finished_visits,
			k.median_hours,
			k.p90_hours,
			n.now_here,
			n.now_longer,
			n.oldest_hours
		FROM regcrm.account_now a
		CROSS JOIN regcrm.stage_def s
		LEFT JOIN LATERAL (
			SELECT w.stage,
				count(*) AS finished_visits,
				round((percentile_cont(0.5) WITHIN GROUP (ORDER BY w.hours))::numeric, 2) AS median_hours,
				round((percentile_cont(0.9) WITHIN GROUP (ORDER BY w.hours))::numeric, 2) AS p90_hours
			FROM (
				SELECT v.stage, extract(epoch FROM v.dwell)::double precision / 3600 AS hours
				FROM regcrm.stage_dwell v
				WHERE v.account_id = a.account_id AND v.entered_at >= a.as_of - interval '90 days' AND NOT v.is_current AND NOT v.is_slip) AS w
			GROUP BY w.stage
			OFFSET 0) AS k ON k.stage = s.stage
		CROSS JOIN LATERAL (
			SELECT count(*) AS now_here,
				count(*) FILTER (WHERE h.hours > k.p90_hours) AS now_longer,
				round(max(h.hours), 2) AS oldest_hours
			FROM (
				SELECT extract(epoch FROM a.as_of - COALESCE(e.at, d.created_at)) / 3600 AS hours
				FROM regcrm.deal d
				LEFT JOIN LATERAL (
					SELECT max(x.at) AS at
					FROM regcrm.event x
					WHERE x.account_id = d.account_id AND x.deal_id = d.id AND x.kind = 'stage'
						AND x.from_stage::text IS DISTINCT FROM x.to_stage::text) AS e ON true
				WHERE d.account_id = a.account_id AND d.stage::text = s.stage AND NOT d.is_deleted) AS h) AS n
		WHERE s.outcome = 'open' AND isfinite(a.as_of);

	CREATE OR REPLACE VIEW regcrm.stuck_deals WITH (security_invoker = true) AS
		SELECT h.account_id,
			h.deal_id,
			h.deal_name,
			h.deal_url,
			h.price,
			h.stage,
			h.stage_name,
			h.stage_position,
			h.manager_id,
			h.manager_name,
			h.manager_group,
			h.entered_at,
			h.dwell,
			h.dwell_hours,
			n.median_hours,
			n.p90_hours,
			round(h.dwell_hours / NULLIF(n.median_hours, 0), 1) AS times_median,
			COALESCE(h.dwell_hours > n.p90_hours, false) AS is_over_p90,
			b.titles AS broken_limits,
			h.next_task_at,
			t.at AS last_touch_at,
			round(extract(epoch FROM a.as_of - t.at) / 86400, 1) AS days_without_touch
		FROM regcrm.deal_health h
		JOIN regcrm.account_now a ON a.account_id = h.account_id
		LEFT JOIN regcrm.stage_norms n ON n.account_id = h.account_id AND n.stage = h.stage
		LEFT JOIN LATERAL (
			-- limits of the regulation: rules that want the deal to move on
			SELECT string_agg(r.title, '; ' ORDER BY v.breached_at, v.rule) AS titles
			FROM regcrm.violation v
			JOIN regcrm.rule r ON r.regulation = a.regulation AND r.code = v.rule AND r.valid @> v.arose_at
			WHERE v.account_id = h.account_id AND v.deal_id = h.deal_id
				AND v.resolved_at IS NULL AND v.waived_at IS NULL AND v.withdrawn_at IS NULL
				AND r.form = 'within' AND 'leave' = ANY (r.expect)) AS b ON true
		LEFT JOIN LATERAL (
			SELECT e.at
			FROM regcrm.event e
			LEFT JOIN regcrm.regulation g ON g.code = a.regulation
			LEFT JOIN regcrm.manager w ON w.account_id = e.account_id AND w.id = e.actor_id
			WHERE e.account_id = h.account_id AND e.deal_id = h.deal_id AND w.in_scope IS NOT FALSE
				AND (e.kind = 'call_out' OR e.kind = 'call_in' AND COALESCE(e.answered, e.duration >= g.min_talk) OR e.kind = 'message_out' AND NOT e.by_bot)
			ORDER BY e.at DESC
			LIMIT 1) AS t ON true
		WHERE b.titles IS NOT NULL OR h.dwell_hours > n.p90_hours;

	CREATE OR REPLACE VIEW regcrm.deals_without_task WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.id AS deal_id,
			d.name AS deal_name,
			a.deal_url_start || d.id AS deal_url,
			d.price,
			d.stage::text AS stage,
			s.name AS stage_name,
			s.position AS stage_position,
			d.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			COALESCE(t.at, d.created_at) AS without_task_since,
			CASE WHEN isfinite(a.as_of) THEN round(extract(epoch FROM a.as_of - COALESCE(t.at, d.created_at)) / 3600, 2) END AS without_task_hours,
			t.body AS last_task_body,
			v.id IS NOT NULL AS is_violation,
			v.id AS violation_id,
			v.rule,
			v.title
		FROM regcrm.deal d
		JOIN regcrm.account_now a ON a.account_id = d.account_id
		JOIN regcrm.stage_def s ON s.stage = d.stage::text AND s.outcome = 'open'
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = d.manager_id
		LEFT JOIN LATERAL (
			SELECT least(x.completed_at, x.deleted_at) AS at, COALESCE(x.body, regcrm.label('task', x.kind)) AS body
			FROM regcrm.task x
			WHERE x.account_id = d.account_id AND x.deal_id = d.id
			ORDER BY least(x.completed_at, x.deleted_at) DESC NULLS LAST, x.id DESC
			LIMIT 1) AS t ON true
		LEFT JOIN LATERAL (
			SELECT w.id, w.rule, r.title
			FROM regcrm.violation w
			JOIN regcrm.rule r ON r.regulation = a.regulation AND r.code = w.rule AND r.valid @> w.arose_at
			WHERE w.account_id = d.account_id AND w.deal_id = d.id
				AND w.resolved_at IS NULL AND w.waived_at IS NULL AND w.withdrawn_at IS NULL
				AND EXISTS (SELECT FROM unnest(r.expect) AS x WHERE x = 'task' OR x LIKE 'task:%')
			ORDER BY w.breached_at, w.id
			LIMIT 1) AS v ON true
		WHERE NOT d.is_deleted
			AND NOT EXISTS (
				SELECT FROM regcrm.task x
				WHERE x.account_id = d.account_id AND x.deal_id = d.id AND x.completed_at IS NULL AND x.deleted_at IS NULL);

	-- Touches as the token touch counts them: by users in scope.
	CREATE OR REPLACE VIEW regcrm.deal_touches WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.id AS deal_id,
			d.name AS deal_name,
			a.deal_url_start || d.id AS deal_url,
			d.created_at,
			d.manager_id,
			m.name AS manager_name,
			d.stage::text AS stage,
			s.name AS stage_name,
			c.deal_outcome,
			regcrm.label('deal', c.deal_outcome) AS deal_outcome_name,
			c.closed_at,
			k.calls_out,
			k.calls_answered,
			k.calls_in,
			k.messages_by_hand,
			k.messages_by_bot,
			k.messages_in,
			k.touches,
			k.first_contact_at,
			CASE WHEN k.first_contact_at IS NOT NULL THEN k.touches_before_contact END AS touches_before_contact,
			CASE WHEN k.first_contact_at IS NOT NULL
				THEN round(extract(epoch FROM greatest(k.first_contact_at, d.created_at) - d.created_at) / 3600, 2)
			END AS hours_to_contact,
			CASE WHEN c.closed_at IS NOT NULL THEN k.touches_before_closing END AS touches_before_closing,
			k.last_touch_at
		FROM regcrm.deal d
		JOIN regcrm.account_now a ON a.account_id = d.account_id
		JOIN regcrm.deal_closing c ON c.account_id = d.account_id AND c.deal_id = d.id
		LEFT JOIN regcrm.stage_def s ON s.stage = d.stage::text
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = d.manager_id
		LEFT JOIN regcrm.regulation g ON g.code = a.regulation
		CROSS JOIN LATERAL (
			SELECT count(*) FILTER (WHERE x.kind = 'call_out') AS calls_out,
				count(*) FILTER (WHERE x.kind IN ('call_out', 'call_in') AND x.talked) AS calls_answered,
				count(*) FILTER (WHERE x.kind = 'call_in') AS calls_in,
				count(*) FILTER (WHERE x.kind = 'message_out' AND NOT x.by_bot) AS messages_by_hand,
				count(*) FILTER (WHERE x.kind = 'message_out' AND x.by_bot) AS messages_by_bot,
				count(*) FILTER (WHERE x.kind = 'message_in') AS messages_in,
				count(*) FILTER (WHERE x.is_touch) AS touches,
				min(x.contact_at) AS first_contact_at,
				count(*) FILTER (WHERE x.is_touch AND (x.at < x.contact_at OR x.at = x.contact_at AND x.is_contact)) AS touches_before_contact,
				count(*) FILTER (WHERE x.is_touch AND x.at <= c.closed_at) AS touches_before_closing,
				max(x.at) FILTER (WHERE x.is_touch) AS last_touch_at
			FROM (
				SELECT y.*, min(y.at) FILTER (WHERE y.is_contact) OVER () AS contact_at
				FROM (
					SELECT e.kind, e.at, e.by_bot, t.talked,
						w.in_scope IS NOT FALSE
							AND (e.kind = 'call_out' OR e.kind = 'call_in' AND t.talked OR e.kind = 'message_out' AND NOT e.by_bot) AS is_touch,
						t.talked OR e.kind IN ('message_in', 'visit') AS is_contact
					FROM regcrm.event e
					CROSS JOIN LATERAL (
						SELECT e.kind IN ('call_out', 'call_in') AND COALESCE(e.answered, e.duration >= g.min_talk, false) AS talked) AS t
					LEFT JOIN regcrm.manager w ON w.account_id = e.account_id AND w.id = e.actor_id
					WHERE e.account_id = d.account_id AND e.deal_id = d.id
						AND e.kind IN ('call_out', 'call_in', 'message_out', 'message_in', 'visit')) AS y) AS x) AS k
		WHERE NOT d.is_deleted
			AND (d.stage IS NOT NULL
				OR EXISTS (
					SELECT FROM regcrm.event x
					WHERE x.account_id = d.account_id AND x.deal_id = d.id AND x.kind = 'stage' AND x.to_stage IS NOT NULL));

	CREATE OR REPLACE VIEW regcrm.due_soon WITH (security_invoker = true) AS
		SELECT u.account_id,
			u.deal_id,
			u.deal_name,
			u.deal_url,
			u.rule,
			u.title,
			u.clause,
			u.severity,
			u.severity_name,
			u.duty_of,
			u.stage,
			u.stage_name,
			u.manager_id,
			u.manager_name,
			u.manager_group,
			u.task_id,
			u.task_body,
			u.arose_at,
			u.warn_at,
			u.due_at,
			u.time_left,
			u.time_left_business,
			u.is_warned,
			u.is_waiting_for_data,
			regcrm.label('duty_of', u.duty_of) AS duty_of_name,
			round(extract(epoch FROM u.time_left) / 60, 1) AS minutes_left
		FROM regcrm.account_now a
		CROSS JOIN LATERAL (
			SELECT n.*
			FROM regcrm.upcoming_deadlines n
			WHERE n.account_id = a.account_id AND n.due_at <= COALESCE(a.as_of, now()) + interval '2 hours'
			OFFSET 0) AS u;

	-- A move from what is not lost to what is; slips are left out.
	CREATE OR REPLACE VIEW regcrm.lost_deals WITH (security_invoker = true) AS
		SELECT z.id AS account_id,
			d.id AS deal_id,
			d.name AS deal_name,
			rtrim(z.base_url, '/') || '/leads/detail/' || d.id AS deal_url,
			d.price,
			e.at AS lost_at,
			(e.at AT TIME ZONE z.time_zone)::date AS lost_day,
			s.stage,
			s.name AS stage_name,
			f.stage AS from_stage,
			f.name AS from_stage_name,
			d.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			e.by_bot,
			r.reason,
			r.reason_at,
			r.reason IS NOT NULL AS is_given,
			r.reason IS NOT NULL AND v.id IS NULL AS is_given_in_time,
			v.id AS violation_id,
			n.at IS NOT NULL AS is_reopened,
			round(extract(epoch FROM e.at - d.created_at) / 86400, 1) AS days_to_loss
		FROM regcrm.account z
		JOIN regcrm.event e ON e.account_id = z.id AND e.kind = 'stage'
		JOIN regcrm.stage_def s ON s.stage = e.to_stage::text AND s.outcome = 'lost'
		JOIN regcrm.deal d ON d.account_id = e.account_id AND d.id = e.deal_id
		LEFT JOIN regcrm.regulation g ON g.code = z.regulation
		LEFT JOIN LATERAL (
			SELECT x.to_stage
			FROM regcrm.event x
			WHERE e.from_stage IS NULL AND x.account_id = e.account_id AND x.deal_id = e.deal_id AND x.kind = 'stage'
				AND (x.at, COALESCE(x.source_id, ''), x.id) < (e.at, COALESCE(e.source_id, ''), e.id)
			ORDER BY x.at DESC, COALESCE(x.source_id, '') DESC, x.id DESC
			LIMIT 1) AS b ON true
		LEFT JOIN regcrm.stage_def f ON f.stage = COALESCE(e.from_stage, b.to_stage)::text
		-- where it went from there; a move among what is lost is none
		LEFT JOIN LATERAL (
			SELECT x.at, x.to_stage::text AS to_stage
			FROM regcrm.event x
			LEFT JOIN regcrm.stage_def y ON y.stage = x.to_stage::text
			WHERE x.account_id = e.account_id AND x.deal_id = e.deal_id AND x.kind = 'stage'
				AND (x.at, COALESCE(x.source_id, ''), x.id) > (e.at, COALESCE(e.source_id, ''), e.id)
				AND y.outcome IS DISTINCT FROM 'lost'
			ORDER BY x.at, COALESCE(x.source_id, ''), x.id
			LIMIT 1) AS n ON true
		-- the reason as it stood until then
		CROSS JOIN LATERAL (
			SELECT CASE WHEN n.at IS NULL THEN d.reason ELSE l.value END AS reason, l.at AS reason_at
			FROM (SELECT) AS one
			LEFT JOIN LATERAL (
				SELECT x.value, x.at
				FROM regcrm.event x
				WHERE x.account_id = e.account_id AND x.deal_id = e.deal_id AND x.kind = 'field' AND x.field = 'reason'
					AND x.at < COALESCE(n.at, 'infinity')
				ORDER BY x.at DESC, COALESCE(x.source_id, '') DESC, x.id DESC
				LIMIT 1) AS l ON true) AS r
		LEFT JOIN LATERAL (
			SELECT w.id
			FROM regcrm.violation w
			JOIN regcrm.rule q ON q.regulation = z.regulation AND q.code = w.rule AND q.valid @> w.arose_at
			WHERE w.account_id = e.account_id AND w.deal_id = e.deal_id AND w.arose_at = e.at
				AND w.waived_at IS NULL AND w.withdrawn_at IS NULL AND 'field:reason' = ANY (q.expect)
			ORDER BY w.id
			LIMIT 1) AS v ON true
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = d.manager_id
		WHERE NOT d.is_deleted AND f.outcome IS DISTINCT FROM 'lost'
			AND NOT COALESCE(n.to_stage = f.stage AND n.at <= e.at + g.undo_window, false);

	CREATE OR REPLACE VIEW regcrm.loss_reasons_daily WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.day,
			k.stage,
			k.stage_name,
			k.reason,
			k.deals,
			k.price,
			k.given_late
		FROM regcrm.account_days d
		CROSS JOIN LATERAL (
			SELECT l.stage, l.stage_name, l.reason, count(*) AS deals, sum(l.price) AS price,
				count(*) FILTER (WHERE l.is_given AND NOT l.is_given_in_time) AS given_late
			FROM regcrm.lost_deals l
			WHERE l.account_id = d.account_id AND l.lost_at >= d.starts_at AND l.lost_at < d.ends_at
			GROUP BY l.stage, l.stage_name, l.reason
			OFFSET 0) AS k;

	-- A visit to a stage that the deal had left before.  What follows a slip is
	-- the visit around it going on.  Whether there was such a visit at all is
	-- looked up first, since few moves are returns.
	CREATE OR REPLACE VIEW regcrm.stage_returns WITH (security_invoker = true) AS
		SELECT e.account_id,
			e.deal_id,
			d.name AS deal_name,
			rtrim(z.base_url, '/') || '/leads/detail/' || e.deal_id AS deal_url,
			e.at,
			s.stage,
			s.name AS stage_name,
			k.from_stage,
			f.name AS from_stage_name,
			k.nth,
			round(extract(epoch FROM e.at - k.last_left_at) / 3600, 2) AS away_hours,
			e.by_bot,
			e.actor_id,
			w.name AS actor_name,
			d.manager_id,
			m.name AS manager_name,
			CASE WHEN f.position < s.position THEN f.name || ' ⇄ ' || s.name ELSE s.name || ' ⇄ ' || f.name END AS pair_name
		FROM regcrm.account z
		JOIN regcrm.event e ON e.account_id = z.id AND e.kind = 'stage'
		JOIN regcrm.deal d ON d.account_id = e.account_id AND d.id = e.deal_id
		JOIN regcrm.stage_def s ON s.stage = e.to_stage::text
		CROSS JOIN LATERAL (
			SELECT EXISTS (
				SELECT FROM regcrm.event x
				WHERE x.account_id = e.account_id AND x.deal_id = e.deal_id AND x.kind = 'stage' AND x.at < e.at
					AND e.to_stage::text IN (x.to_stage::text, x.from_stage::text)) AS was_here
			OFFSET 0) AS p
		CROSS JOIN LATERAL (
			SELECT min(x.from_stage) FILTER (WHERE x.is_here AND NOT x.is_slip AND x.goes_on IS NOT TRUE) AS from_stage,
				count(*) FILTER (WHERE x.is_before AND x.goes_on IS NOT TRUE) + 1 AS nth,
				max(x.left_at) FILTER (WHERE x.is_before) AS last_left_at
			FROM (
				SELECT y.from_stage, y.left_at, y.is_slip,
					y.stage = e.to_stage::text AND y.entered_at = e.at AS is_here,
					y.stage = e.to_stage::text AND y.entered_at < e.at AND NOT y.is_slip AS is_before,
					lag(y.is_slip) OVER (ORDER BY y.entered_at) AS goes_on
				FROM regcrm.stage_dwell y
				WHERE p.was_here AND y.account_id = e.account_id AND y.deal_id = e.deal_id) AS x
			OFFSET 0) AS k
		LEFT JOIN regcrm.stage_def f ON f.stage = k.from_stage
		LEFT JOIN regcrm.manager w ON w.account_id = e.account_id AND w.id = e.actor_id
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = d.manager_id
		WHERE e.from_stage::text IS DISTINCT FROM e.to_stage::text
			AND p.was_here
			AND k.from_stage IS NOT NULL AND k.nth > 1;

	-- amoCRM alone tells when a due date was moved.
	CREATE OR REPLACE VIEW regcrm.task_pushes WITH (security_invoker = true) AS
		SELECT z.id AS account_id,
			o.at,
			(o.at AT TIME ZONE z.time_zone)::date AS day,
			o.entity_id AS task_id,
			COALESCE(t.body, regcrm.label('task', t.kind)) AS task_body,
			t.deal_id,
			d.name AS deal_name,
			rtrim(z.base_url, '/') || '/leads/detail/' || t.deal_id AS deal_url,
			NULLIF(o.actor_id, 0) AS actor_id,
			m.name AS actor_name,
			c.due_before,
			c.due_after,
			round(extract(epoch FROM c.due_after - c.due_before) / 86400, 2) AS pushed_days,
			c.due_after > c.due_before AS is_later,
			c.due_before <= o.at AS was_overdue
		FROM regcrm.account z
		JOIN regcrm.other_event o ON o.account_id = z.id AND o.type = 'task_deadline_changed'
		CROSS JOIN LATERAL (
			SELECT regcrm.json_time(o.raw #> '{value_before,0,task_deadline,timestamp}') AS due_before,
				regcrm.json_time(o.raw #> '{value_after,0,task_deadline,timestamp}') AS due_after) AS c
		LEFT JOIN regcrm.task t ON t.account_id = o.account_id AND t.id = o.entity_id
		LEFT JOIN regcrm.deal d ON d.account_id = o.account_id AND d.id = t.deal_id
		LEFT JOIN regcrm.manager m ON m.account_id = o.account_id AND m.id = o.actor_id;

	-- Tasks that a person closed, with the batch they were closed in: no more
	-- than two minutes from one to the next.  Other views stand on it.
	-- A call is made when its task is due, not before, and a control task stands
	-- until what it controls has happened: only where a rule asks for something by
	-- a task's due date (MISS-7, DEC-4) is there a moment after which it is overdue,
	-- and that is the duty's.
	CREATE OR REPLACE VIEW regcrm.tasks_closed WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.day,
			k.manager_id,
			k.task_id,
			k.deal_id,
			k.completed_at,
			k.due_at,
			k.completed_at > k.due_at AND EXISTS (
				SELECT FROM regcrm.deadline l
				JOIN regcrm.account a ON a.id = l.account_id
				JOIN regcrm.rule r ON r.regulation = a.regulation AND r.code = l.rule AND r.valid @> l.arose_at AND r.by = 'task_due'
				WHERE l.account_id = d.account_id AND l.deal_id = k.deal_id AND l.task_id = k.task_id
					AND l.state <> 'cancelled' AND l.due_at < k.completed_at) AS is_overdue,
			first_value(k.completed_at) OVER b AS batch_began_at,
			count(*) OVER (PARTITION BY d.account_id, d.day, k.manager_id, k.batch) AS batch_tasks
		FROM regcrm.account_days d
		CROSS JOIN LATERAL (
			SELECT i.*, count(*) FILTER (WHERE i.gap IS NULL OR i.gap > interval '2 min') OVER (PARTITION BY i.manager_id ORDER BY i.completed_at, i.task_id) AS batch
			FROM (
				SELECT t.manager_id, t.id AS task_id, t.deal_id, t.completed_at, t.due_at,
					t.completed_at - lag(t.completed_at) OVER (PARTITION BY t.manager_id ORDER BY t.completed_at, t.id) AS gap
				FROM regcrm.task t
				WHERE t.account_id = d.account_id AND t.completed_at >= d.starts_at AND t.completed_at < d.ends_at AND t.deleted_at IS NULL
					AND NOT EXISTS (
						SELECT FROM regcrm.other_event o
						WHERE o.account_id = t.account_id AND o.entity_type = 'task' AND o.entity_id = t.id
							AND o.type = 'task_completed' AND o.actor_id = 0)) AS i
			OFFSET 0) AS k
		WINDOW b AS (PARTITION BY d.account_id, d.day, k.manager_id, k.batch ORDER BY k.completed_at, k.task_id);

	CREATE OR REPLACE VIEW regcrm.task_batches WITH (security_invoker = true) AS
		SELECT k.account_id,
			k.day,
			k.manager_id,
			m.name AS manager_name,
			k.began_at,
			k.ended_at,
			k.tasks,
			k.deals,
			k.overdue,
			k.without_touch
		FROM (
			SELECT c.account_id, c.day, c.manager_id, c.batch_began_at AS began_at,
				max(c.completed_at) AS ended_at,
				count(*) AS tasks,
				count(DISTINCT c.deal_id) AS deals,
				count(*) FILTER (WHERE c.is_overdue) AS overdue,
				count(DISTINCT c.deal_id) FILTER (WHERE NOT EXISTS (
					SELECT FROM regcrm.event e
					JOIN regcrm.account a ON a.id = e.account_id
					WHERE e.account_id = c.account_id AND e.deal_id = c.deal_id
						AND e.at >= c.day::timestamp AT TIME ZONE a.time_zone AND e.at <= c.completed_at
						AND (e.kind = 'call_out' OR e.kind = 'call_in' AND e.answered OR e.kind = 'message_out' AND NOT e.by_bot))) AS without_touch
			FROM regcrm.tasks_closed c
			WHERE c.batch_tasks >= 5
			GROUP BY c.account_id, c.day, c.manager_id, c.batch_began_at) AS k
		LEFT JOIN regcrm.manager m ON m.account_id = k.account_id AND m.id = k.manager_id;

	CREATE OR REPLACE VIEW regcrm.tidy_up_daily WITH (security_invoker = true) AS
		SELECT k.account_id,
			k.day,
			k.manager_id,
			m.name AS manager_name,
			k.completed,
			k.completed_late,
			k.in_batches,
			k.largest_batch,
			k.largest_batch_at,
			k.pushed,
			k.pushed_overdue,
			k.pushed_days
		FROM (
			SELECT u.account_id,
				u.day,
				u.manager_id,
				count(*) FILTER (WHERE NOT u.is_push) AS completed,
				count(*) FILTER (WHERE NOT u.is_push AND u.is_overdue) AS completed_late,
				count(*) FILTER (WHERE u.batch_tasks >= 5) AS in_batches,
				COALESCE(max(u.batch_tasks), 0) AS largest_batch,
				(array_agg(u.at ORDER BY u.batch_tasks DESC, u.at) FILTER (WHERE NOT u.is_push))[1] AS largest_batch_at,
				count(*) FILTER (WHERE u.is_push) AS pushed,
				count(*) FILTER (WHERE u.is_push AND u.is_overdue) AS pushed_overdue,
				COALESCE(sum(u.pushed_days), 0) AS pushed_days
			FROM (
				SELECT c.account_id, c.day, c.manager_id, false AS is_push, c.is_overdue, c.batch_tasks, c.batch_began_at AS at, NULL::numeric AS pushed_days
				FROM regcrm.tasks_closed c
				UNION ALL
				SELECT d.account_id, d.day, o.actor_id, true, o.was_overdue, NULL, o.at, o.pushed_days
				FROM regcrm.account_days d
				CROSS JOIN LATERAL (
					SELECT p.actor_id, p.was_overdue, p.at, p.pushed_days
					FROM regcrm.task_pushes p
					WHERE p.account_id = d.account_id AND p.at >= d.starts_at AND p.at < d.ends_at AND p.is_later AND p.actor_id IS NOT NULL
					OFFSET 0) AS o) AS u
			GROUP BY u.account_id, u.day, u.manager_id) AS k
		LEFT JOIN regcrm.manager m ON m.account_id = k.account_id AND m.id = k.manager_id;
END
$setup$;
REVOKE EXECUTE ON FUNCTION regcrm.setup_question_views() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.setup_question_views() IS
	'For setup_views(): makes the views that answer questions, and the indexes that they ask for.';
