
-- ---------------------------------------------------------------------------
-- views for reports
-- ---------------------------------------------------------------------------

-- Views read what the judge has found and what the CRM has told; they judge
-- nothing.  A column's name means the same in every view (see the end of
-- setup_views).  Published views only grow at the end, so that an update can
-- replace them under the views and dashboards that stand on them.
--
-- Periods: violations by breached_at, duties and first_response by arose_at and
-- created_at, stage_dwell by entered_at, the views of days by day.  Each of
-- these reaches an index.

CREATE FUNCTION regcrm.label(kind text, code text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN CASE kind
		WHEN 'severity' THEN CASE code
			WHEN 'critical' THEN 'критическое' WHEN 'major' THEN 'серьёзное' WHEN 'minor' THEN 'мелкое' WHEN 'info' THEN 'к сведению' END
		WHEN 'resolution' THEN CASE code
			WHEN 'met' THEN 'исправлено с опозданием' WHEN 'left' THEN 'не сделано, сделка ушла' WHEN 'moment' THEN 'уже не исправить' END
		WHEN 'outcome' THEN CASE code
			WHEN 'met' THEN 'в срок' WHEN 'late' THEN 'с опозданием' WHEN 'missed' THEN 'не сделано' WHEN 'breach' THEN 'нарушение'
			WHEN 'waived' THEN 'снято' WHEN 'cancelled' THEN 'отпало' WHEN 'pending' THEN 'срок идёт' WHEN 'waiting' THEN 'ждёт данных' END
		WHEN 'basis' THEN CASE code
			WHEN 'stated' THEN 'сказано в регламенте' WHEN 'assumed' THEN 'сказано, цифра выбрана нами' WHEN 'derived' THEN 'следует из регламента' END
		WHEN 'duty_of' THEN CASE code
			WHEN 'manager' THEN 'менеджер' WHEN 'bot' THEN 'робот' END
		WHEN 'clock' THEN CASE code
			WHEN 'business' THEN 'рабочее время' WHEN 'wall' THEN 'по часам' END
		WHEN 'action' THEN CASE code
			WHEN 'reject' THEN 'запись в базу отклоняется' WHEN 'record' THEN 'записывается' END
		WHEN 'event' THEN CASE code
			WHEN 'call_in' THEN 'звонок клиента' WHEN 'call_out' THEN 'звонок клиенту' WHEN 'message_out' THEN 'сообщение клиенту' END
		WHEN 'task' THEN CASE code
			WHEN 'process_request' THEN 'Обработать заявку' WHEN 'callback' THEN 'Перезвонить' WHEN 'meeting_control' THEN 'Контроль встречи'
			WHEN 'contract_control' THEN 'Контроль договора' WHEN 'other' THEN 'задача' END
		WHEN 'health' THEN CASE code
			WHEN 'broken' THEN 'есть нарушения' WHEN 'due' THEN 'скоро срок' WHEN 'fine' THEN 'в порядке' END
	END;
COMMENT ON FUNCTION regcrm.label(text, text) IS
	'Russian word for a code of the views. Arguments: kind of code (severity, resolution, outcome, basis, duty_of, clock, action, event, task, health) and the code; null for one that is not known.';

CREATE FUNCTION regcrm.duration_text(d interval) RETURNS text
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN (
		SELECT CASE
			WHEN s < 60 THEN sign || s || ' с'
			ELSE sign || concat_ws(' ', NULLIF(s / 86400, 0) || ' д', NULLIF(s / 3600 % 24, 0) || ' ч', NULLIF(s / 60 % 60, 0) || ' мин')
			END
		FROM (SELECT abs(trunc(extract(epoch FROM d)))::bigint AS s,
				CASE WHEN extract(epoch FROM d) <= -1 THEN '−' ELSE '' END AS sign) AS x
	);
COMMENT ON FUNCTION regcrm.duration_text(interval) IS
	'A duration for people, in Russian: days of 24 hours, hours and minutes, or seconds where it is under a minute.';

CREATE FUNCTION regcrm.setup_views() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $setup_views$
DECLARE
	v record;
BEGIN
	-- Now, as each account sees it: what is not known yet has not happened yet.
	CREATE OR REPLACE VIEW regcrm.account_now WITH (security_invoker = true) AS
		SELECT a.id AS account_id,
			a.name AS account_name,
			a.regulation,
			a.calendar,
			a.time_zone,
			rtrim(a.base_url, '/') || '/leads/detail/' AS deal_url_start,
			CASE
				WHEN a.known_until IS NULL THEN now()
				WHEN isfinite(a.known_until) THEN least(a.known_until, now())
			END AS as_of
		FROM regcrm.account a;

	-- The days of an account's life, in its own zone.
	CREATE OR REPLACE VIEW regcrm.account_days WITH (security_invoker = true) AS
		SELECT a.id AS account_id,
			d.day::date AS day,
			d.day AT TIME ZONE a.time_zone AS starts_at,
			(d.day + interval '1 day') AT TIME ZONE a.time_zone AS ends_at
		FROM regcrm.account a
		CROSS JOIN LATERAL (SELECT min(l.created_at) AS at FROM regcrm.deal l WHERE l.account_id = a.id) AS first
		CROSS JOIN LATERAL generate_series(
			greatest(date_trunc('day', first.at AT TIME ZONE a.time_zone), timestamp '1970-01-01'),
			now() AT TIME ZONE a.time_zone,
			interval '1 day') AS d(day)
		WHERE first.at IS NOT NULL;

	CREATE OR REPLACE VIEW regcrm.violations WITH (security_invoker = true) AS
		SELECT v.account_id,
			a.account_name,
			v.id,
			v.deal_id,
			d.name AS deal_name,
			a.deal_url_start || v.deal_id AS deal_url,
			d.pipeline_id,
			p.name AS pipeline_name,
			v.rule,
			r.title,
			r.clause,
			r.form,
			r.basis,
			regcrm.label('basis', r.basis) AS basis_name,
			r.duty_of,
			v.severity,
			regcrm.label('severity', v.severity) AS severity_name,
			v.stage::text AS stage,
			s.name AS stage_name,
			v.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			v.task_id,
			t.body AS task_body,
			v.arose_at,
			v.breached_at,
			v.detected_at,
			v.resolved_at,
			v.resolution,
			regcrm.label('resolution', v.resolution) AS resolution_name,
			x.late_until - v.breached_at AS late,
			CASE WHEN r.clock = 'business'
				THEN regcrm.business_time_between(v.breached_at, x.late_until, a.calendar)
			END AS late_business,
			v.evidence::text AS evidence,
			x.is_open,
			v.waived_at IS NOT NULL AS is_waived,
			v.waived_at,
			v.waived_by,
			v.waive_reason,
			v.withdrawn_at IS NOT NULL AS is_withdrawn,
			v.withdrawn_at
		FROM regcrm.violation v
		JOIN regcrm.account_now a ON a.account_id = v.account_id
		CROSS JOIN LATERAL (
			SELECT v.resolved_at IS NULL AND v.waived_at IS NULL AND v.withdrawn_at IS NULL AS is_open,
				CASE WHEN v.withdrawn_at IS NULL AND v.resolution IS DISTINCT FROM 'moment'
					THEN COALESCE(v.resolved_at, a.as_of)
				END AS late_until) AS x
		LEFT JOIN regcrm.deal d ON d.account_id = v.account_id AND d.id = v.deal_id
		LEFT JOIN regcrm.pipeline p ON p.account_id = d.account_id AND p.id = d.pipeline_id
		LEFT JOIN regcrm.manager m ON m.account_id = v.account_id AND m.id = v.manager_id
		LEFT JOIN regcrm.task t ON t.account_id = v.account_id AND t.id = v.task_id
		LEFT JOIN regcrm.stage_def s ON s.stage OPERATOR(regcrm.=) v.stage
		LEFT JOIN regcrm.rule r ON r.regulation = a.regulation AND r.code = v.rule AND r.valid @> v.arose_at;

	CREATE OR REPLACE VIEW regcrm.open_violations WITH (security_invoker = true) AS
		SELECT v.*
		FROM regcrm.violations v
		WHERE v.is_open;

	-- Every duty, and every breach that had no due moment, once.
	CREATE OR REPLACE VIEW regcrm.duties WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.deal_id,
			d.rule,
			d.task_id,
			d.stage::text AS stage,
			d.manager_id,
			d.arose_at,
			d.due_at,
			d.met_at,
			d.ended_at,
			CASE
				WHEN d.state IN ('late', 'missed') AND v.waived_at IS NOT NULL THEN 'waived'
				WHEN d.state IN ('pending', 'warned') AND d.due_at <= now() THEN 'waiting'
				WHEN d.state = 'warned' THEN 'pending'
				ELSE d.state
			END AS outcome
		FROM regcrm.deadline d
		LEFT JOIN regcrm.violation v
			ON v.account_id = d.account_id AND v.deal_id = d.deal_id AND v.rule = d.rule AND v.arose_at = d.arose_at
				AND v.task_id IS NOT DISTINCT FROM d.task_id
		UNION ALL
		SELECT v.account_id,
			v.deal_id,
			v.rule,
			v.task_id,
			v.stage::text,
			v.manager_id,
			v.breached_at,
			NULL,
			NULL,
			v.resolved_at,
			CASE WHEN v.waived_at IS NOT NULL THEN 'waived' ELSE 'breach' END
		FROM regcrm.violation v
		WHERE v.withdrawn_at IS NULL
			AND NOT EXISTS (
				SELECT FROM regcrm.deadline d
				WHERE d.account_id = v.account_id AND d.deal_id = v.deal_id AND d.rule = v.rule AND d.arose_at = v.arose_at
					AND d.task_id IS NOT DISTINCT FROM v.task_id);

	-- OFFSET 0 keeps the subquery by itself, so that each day is one range of an index.
	CREATE OR REPLACE VIEW regcrm.duties_daily WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.day,
			o.deal_id,
			o.rule,
			o.task_id,
			o.stage,
			o.manager_id,
			o.arose_at,
			o.due_at,
			o.met_at,
			o.ended_at,
			o.outcome
		FROM regcrm.account_days d
		CROSS JOIN LATERAL (
			SELECT u.*
			FROM regcrm.duties u
			WHERE u.account_id = d.account_id AND u.arose_at >= d.starts_at AND u.arose_at < d.ends_at
			OFFSET 0) AS o;

	CREATE OR REPLACE VIEW regcrm.manager_scorecard WITH (security_invoker = true) AS
		SELECT c.account_id,
			c.day,
			c.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			c.arisen,
			c.met,
			c.late,
			c.missed,
			c.waived,
			c.cancelled,
			c.pending,
			c.waiting,
			c.met + c.late + c.missed AS decided,
			round(100.0 * c.met / NULLIF(c.met + c.late + c.missed, 0), 1) AS compliance,
			c.breaches_at_once,
			c.late + c.missed + c.breaches_at_once AS violations,
			c.critical,
			c.deals
		FROM (
			SELECT o.account_id,
				o.day,
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
				count(*) FILTER (WHERE o.outcome IN ('late', 'missed', 'breach') AND r.severity = 'critical') AS critical,
				count(DISTINCT o.deal_id) AS deals
			FROM regcrm.duties_daily o
			JOIN regcrm.account_now a ON a.account_id = o.account_id
			LEFT JOIN regcrm.rule r ON r.regulation = a.regulation AND r.code = o.rule AND r.valid @> o.arose_at
			WHERE o.manager_id IS NOT NULL
			GROUP BY o.account_id, o.day, o.manager_id) AS c
		LEFT JOIN regcrm.manager m ON m.account_id = c.account_id AND m.id = c.manager_id
		WHERE m.in_scope IS NOT FALSE;

	-- Each code of an account's regulation once, as the row in force has it, else the last one.
	CREATE OR REPLACE VIEW regcrm.account_rules WITH (security_invoker = true) AS
		SELECT DISTINCT ON (a.account_id, r.code)
			a.account_id,
			r.code AS rule,
			r.title,
			r.clause,
			r.form,
			r.stage::text AS stage,
			s.name AS stage_name,
			s.position AS stage_position,
			r.severity,
			r.duty_of,
			r.basis,
			r.enabled AND r.valid @> now() AS is_in_force
		FROM regcrm.account_now a
		JOIN regcrm.rule r ON r.regulation = a.regulation
		LEFT JOIN regcrm.stage_def s ON s.stage OPERATOR(regcrm.=) r.stage
		ORDER BY a.account_id, r.code, r.enabled AND r.valid @> now() DESC, upper(r.valid) DESC, lower(r.valid) DESC NULLS LAST;

	CREATE OR REPLACE VIEW regcrm.rule_compliance WITH (security_invoker = true) AS
		SELECT r.account_id,
			r.rule,
			r.title,
			r.clause,
			r.stage,
			r.stage_name,
			r.severity,
			regcrm.label('severity', r.severity) AS severity_name,
			r.duty_of,
			r.basis,
			r.is_in_force,
			COALESCE(c.arisen, 0) AS arisen,
			COALESCE(c.met, 0) AS met,
			COALESCE(c.late, 0) AS late,
			COALESCE(c.missed, 0) AS missed,
			COALESCE(c.waived, 0) AS waived,
			COALESCE(c.cancelled, 0) AS cancelled,
			COALESCE(c.pending, 0) AS pending,
			COALESCE(c.waiting, 0) AS waiting,
			COALESCE(c.met + c.late + c.missed, 0) AS decided,
			round(100.0 * c.met / NULLIF(c.met + c.late + c.missed, 0), 1) AS compliance,
			COALESCE(c.breaches_at_once, 0) AS breaches_at_once,
			COALESCE(c.late + c.missed + c.breaches_at_once, 0) AS violations,
			COALESCE(c.deals, 0) AS deals
		FROM regcrm.account_rules r
		LEFT JOIN (
			SELECT o.account_id,
				o.rule,
				count(*) FILTER (WHERE o.due_at IS NOT NULL) AS arisen,
				count(*) FILTER (WHERE o.outcome = 'met') AS met,
				count(*) FILTER (WHERE o.outcome = 'late') AS late,
				count(*) FILTER (WHERE o.outcome = 'missed') AS missed,
				count(*) FILTER (WHERE o.outcome = 'waived' AND o.due_at IS NOT NULL) AS waived,
				count(*) FILTER (WHERE o.outcome = 'cancelled') AS cancelled,
				count(*) FILTER (WHERE o.outcome = 'pending') AS pending,
				count(*) FILTER (WHERE o.outcome = 'waiting') AS waiting,
				count(*) FILTER (WHERE o.outcome = 'breach') AS breaches_at_once,
				count(DISTINCT o.deal_id) FILTER (WHERE o.outcome IN ('late', 'missed', 'breach')) AS deals
			FROM regcrm.duties o
			GROUP BY o.account_id, o.rule) AS c ON c.account_id = r.account_id AND c.rule = r.rule;

	CREATE OR REPLACE VIEW regcrm.rule_compliance_daily WITH (security_invoker = true) AS
		SELECT c.account_id,
			c.day,
			c.rule,
			r.title,
			r.stage,
			r.stage_name,
			r.severity,
			r.duty_of,
			c.arisen,
			c.met,
			c.late,
			c.missed,
			c.waived,
			c.cancelled,
			c.pending,
			c.waiting,
			c.met + c.late + c.missed AS decided,
			round(100.0 * c.met / NULLIF(c.met + c.late + c.missed, 0), 1) AS compliance,
			c.breaches_at_once,
			c.late + c.missed + c.breaches_at_once AS violations
		FROM (
			SELECT o.account_id,
				o.day,
				o.rule,
				count(*) FILTER (WHERE o.due_at IS NOT NULL) AS arisen,
				count(*) FILTER (WHERE o.outcome = 'met') AS met,
				count(*) FILTER (WHERE o.outcome = 'late') AS late,
				count(*) FILTER (WHERE o.outcome = 'missed') AS missed,
				count(*) FILTER (WHERE o.outcome = 'waived' AND o.due_at IS NOT NULL) AS waived,
				count(*) FILTER (WHERE o.outcome = 'cancelled') AS cancelled,
				count(*) FILTER (WHERE o.outcome = 'pending') AS pending,
				count(*) FILTER (WHERE o.outcome = 'waiting') AS waiting,
				count(*) FILTER (WHERE o.outcome = 'breach') AS breaches_at_once
			FROM regcrm.duties_daily o
			GROUP BY o.account_id, o.day, o.rule) AS c
		LEFT JOIN regcrm.account_rules r ON r.account_id = c.account_id AND r.rule = c.rule;

	CREATE OR REPLACE VIEW regcrm.first_response WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.id AS deal_id,
			d.name AS deal_name,
			a.deal_url_start || d.id AS deal_url,
			d.pipeline_id,
			d.source_name,
			d.stage::text AS stage,
			d.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			d.created_at,
			e.at AS first_touch_at,
			e.kind AS first_touch_kind,
			regcrm.label('event', e.kind) AS first_touch_name,
			e.actor_id AS first_touch_by,
			greatest(e.at, d.created_at) - d.created_at AS response,
			regcrm.business_time_between(d.created_at, greatest(e.at, d.created_at), a.calendar) AS response_business,
			CASE WHEN e.at IS NULL AND d.closed_at IS NULL THEN a.as_of - d.created_at END AS waiting_for
		FROM regcrm.deal d
		JOIN regcrm.account_now a ON a.account_id = d.account_id
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = d.manager_id
		LEFT JOIN regcrm.regulation g ON g.code = a.regulation
		LEFT JOIN LATERAL (
			SELECT e.at, e.kind, e.actor_id
			FROM regcrm.event e
			LEFT JOIN regcrm.manager w ON w.account_id = e.account_id AND w.id = e.actor_id
			WHERE e.account_id = d.account_id AND e.deal_id = d.id
				AND (e.kind = 'call_out'
					OR e.kind = 'call_in' AND COALESCE(e.answered, e.duration >= g.min_talk)
					OR e.kind = 'message_out' AND NOT e.by_bot)
				AND w.in_scope IS NOT FALSE
			ORDER BY e.at, e.source_id, e.id
			LIMIT 1) AS e ON true
		WHERE NOT d.is_deleted
			AND (d.stage IS NOT NULL
				OR EXISTS (
					SELECT FROM regcrm.event k
					WHERE k.account_id = d.account_id AND k.deal_id = d.id AND k.kind = 'stage' AND k.to_stage IS NOT NULL));

	CREATE OR REPLACE VIEW regcrm.stage_dwell WITH (security_invoker = true) AS
		SELECT v.account_id,
			v.deal_id,
			d.name AS deal_name,
			a.deal_url_start || v.deal_id AS deal_url,
			d.pipeline_id,
			d.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			v.stage::text AS stage,
			s.name AS stage_name,
			s.position AS stage_position,
			v.came_from::text AS from_stage,
			v.entered_at,
			v.left_at,
			v.left_for::text AS to_stage,
			COALESCE(v.left_at, a.as_of) - v.entered_at AS dwell,
			regcrm.business_time_between(v.entered_at, COALESCE(v.left_at, a.as_of), a.calendar) AS dwell_business,
			v.left_at IS NULL AS is_current,
			COALESCE(v.left_for OPERATOR(regcrm.=) v.came_from AND v.left_at - v.entered_at <= g.undo_window, false) AS is_slip
		FROM (
			-- where the deal was when it began: its first move tells, else where it is now
			SELECT l.account_id,
				l.id AS deal_id,
				CASE WHEN f.at IS NULL THEN l.stage ELSE f.from_stage END AS stage,
				NULL::regcrm.stage AS came_from,
				l.created_at AS entered_at,
				COALESCE(f.at, l.deleted_at) AS left_at,
				f.to_stage AS left_for
			FROM regcrm.deal l
			LEFT JOIN LATERAL (
				SELECT e.at, e.from_stage, e.to_stage
				FROM regcrm.event e
				WHERE e.account_id = l.account_id AND e.deal_id = l.id AND e.kind = 'stage'
				ORDER BY e.at, e.source_id, e.id
				LIMIT 1) AS f ON true
			WHERE f.at IS NULL OR f.at > l.created_at
			UNION ALL
			SELECT e.account_id,
				e.deal_id,
				e.to_stage,
				COALESCE(e.from_stage, b.to_stage),
				e.at,
				COALESCE(n.at, l.deleted_at),
				n.to_stage
			FROM regcrm.event e
			JOIN regcrm.deal l ON l.account_id = e.account_id AND l.id = e.deal_id
			LEFT JOIN LATERAL (
				SELECT x.to_stage
				FROM regcrm.event x
				WHERE x.account_id = e.account_id AND x.deal_id = e.deal_id AND x.kind = 'stage'
					AND x.at <= e.at AND (x.at, COALESCE(x.source_id, ''), x.id) < (e.at, COALESCE(e.source_id, ''), e.id)
				ORDER BY x.at DESC, COALESCE(x.source_id, '') DESC, x.id DESC
				LIMIT 1) AS b ON true
			LEFT JOIN LATERAL (
				SELECT x.at, x.to_stage
				FROM regcrm.event x
				WHERE x.account_id = e.account_id AND x.deal_id = e.deal_id AND x.kind = 'stage'
					AND x.at >= e.at AND (x.at, COALESCE(x.source_id, ''), x.id) > (e.at, COALESCE(e.source_id, ''), e.id)
					AND (x.to_stage OPERATOR(regcrm.<>) e.to_stage OR x.to_stage IS NULL)
				ORDER BY x.at, COALESCE(x.source_id, ''), x.id
				LIMIT 1) AS n ON true
			WHERE e.kind = 'stage'
				AND COALESCE(COALESCE(e.from_stage, b.to_stage) OPERATOR(regcrm.<>) e.to_stage, true)) AS v
		JOIN regcrm.deal d ON d.account_id = v.account_id AND d.id = v.deal_id
		JOIN regcrm.account_now a ON a.account_id = v.account_id
		JOIN regcrm.stage_def s ON s.stage OPERATOR(regcrm.=) v.stage
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = d.manager_id
		LEFT JOIN regcrm.regulation g ON g.code = a.regulation;
