-- What a head of sales would read, from the views alone.
-- usage: psql -v account=ID -f report.sql
\pset border 1
\pset footer off
\pset null '—'
\pset linestyle unicode
\set QUIET on
SET regcrm.account_id = :'account';
-- wide texts are cut in the terminal; the views hold them whole
\set short 58

\echo
\echo 'Что загружено'
SELECT a.account_name AS "Школа",
		to_char(min(d.created_at), 'DD.MM.YYYY') AS "Сделки с",
		to_char(max(a.as_of), 'DD.MM.YYYY HH24:MI') AS "Известно до",
		count(*) AS "Сделок",
		count(*) FILTER (WHERE s.outcome = 'open') AS "В работе",
		count(*) FILTER (WHERE s.outcome = 'won') AS "Договоров"
	FROM regcrm.account_now a
	JOIN regcrm.deal d ON d.account_id = a.account_id AND NOT d.is_deleted
	LEFT JOIN regcrm.stage_def s ON s.stage = d.stage::text
	WHERE a.account_id = :account
	GROUP BY a.account_name;

\echo 'Нарушения за всё время'
SELECT severity_name AS "Нарушения",
		count(*) AS "Всего",
		count(*) FILTER (WHERE is_open) AS "Ещё можно исправить",
		count(*) FILTER (WHERE duty_of = 'bot') AS "В том числе робота",
		count(DISTINCT deal_id) AS "Сделок"
	FROM regcrm.violations
	WHERE account_id = :account AND NOT is_waived AND NOT is_withdrawn
	GROUP BY severity, severity_name
	ORDER BY array_position('{critical,major,minor,info}', severity);

\echo 'Хуже всего соблюдаются (правила менеджеров со сроком или допуском, от пяти случаев)'
SELECT rule AS "Правило",
		left(title, :short) AS "Что требуется",
		stage_name AS "Этап",
		decided AS "Случаев",
		late + missed AS "Нарушено",
		compliance AS "В срок, %"
	FROM regcrm.rule_compliance
	WHERE account_id = :account AND duty_of = 'manager' AND form IN ('within', 'enter', 'leave') AND decided >= 5 AND late + missed > 0
	ORDER BY compliance, decided DESC
	LIMIT 10;

\echo 'Что должно быть всегда или не должно быть никогда (случаев не посчитать; считаем нарушения)'
SELECT rule AS "Правило",
		left(title, :short) AS "Что требуется",
		violations AS "Нарушений",
		severity_name AS "Насколько",
		regcrm.label('duty_of', duty_of) AS "Чьё"
	FROM regcrm.rule_compliance
	WHERE account_id = :account AND violations > 0 AND (form NOT IN ('within', 'enter', 'leave') OR breaches_at_once > 0)
	ORDER BY array_position('{critical,major,minor,info}', severity), violations DESC, rule
	LIMIT 14;

\echo 'Менеджеры'
SELECT c.manager_name AS "Менеджер",
		sum(c.decided) AS "Обязанностей",
		sum(c.met) AS "В срок",
		sum(c.late) AS "С опозданием",
		sum(c.missed) AS "Не сделано",
		round(100.0 * sum(c.met) / NULLIF(sum(c.decided), 0), 1) AS "В срок, %",
		sum(c.breaches_at_once) AS "Запрещённых",
		sum(c.critical) AS "Критических",
		regcrm.duration_text(f.median) AS "Первый ответ"
	FROM regcrm.manager_scorecard c
	LEFT JOIN (
		SELECT r.manager_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY r.response_business) AS median
		FROM regcrm.first_response r
		WHERE r.account_id = :account
		GROUP BY r.manager_id) f USING (manager_id)
	WHERE c.account_id = :account
	GROUP BY c.manager_id, c.manager_name, f.median
	ORDER BY 6, 1;

\echo 'Время до первого касания (рабочее время)'
SELECT count(*) AS "Сделок",
		regcrm.duration_text(percentile_cont(0.5) WITHIN GROUP (ORDER BY response_business)) AS "Половина быстрее",
		regcrm.duration_text(percentile_cont(0.9) WITHIN GROUP (ORDER BY response_business)) AS "90 % быстрее",
		regcrm.duration_text(max(response_business)) AS "Дольше всех",
		round(100.0 * count(*) FILTER (WHERE response_business <= interval '15 min') / NULLIF(count(response), 0), 1) AS "До 15 мин, %",
		count(*) FILTER (WHERE response IS NULL) AS "Касания не было"
	FROM regcrm.first_response
	WHERE account_id = :account;

\echo 'Примеры: последнее критическое нарушение каждого правила'
SELECT v.rule || '. ' || COALESCE(v.title, '') AS "Нарушение",
		v.manager_name AS "Менеджер",
		v.deal_name AS "Сделка",
		to_char(v.breached_at, 'DD.MM HH24:MI:SS') AS "Когда",
		concat_ws(', ', regcrm.duration_text(v.late), COALESCE(v.resolution_name, 'ещё можно исправить')) AS "Опоздание",
		v.reason AS "Почему",
		v.clause AS "Регламент",
		v.deal_url AS "Ссылка"
	FROM (
		SELECT w.*, row_number() OVER (PARTITION BY w.rule ORDER BY w.breached_at DESC, w.id DESC) AS place
		FROM regcrm.violations w
		WHERE w.account_id = :account AND w.severity = 'critical' AND NOT w.is_waived AND NOT w.is_withdrawn) v
	WHERE v.place = 1
	ORDER BY v.breached_at DESC
	LIMIT 6 \gx

\echo 'Что наступает'
SELECT to_char(due_at, 'DD.MM HH24:MI') AS "Срок",
		regcrm.duration_text(time_left) AS "Осталось",
		manager_name AS "Менеджер",
		deal_name AS "Сделка",
		rule AS "Правило",
		left(title, :short) AS "Что сделать"
	FROM regcrm.upcoming_deadlines
	WHERE account_id = :account AND duty_of = 'manager'
	ORDER BY due_at, deal_id, rule
	LIMIT 10;

\echo 'Сделки, которыми надо заняться первыми'
SELECT deal_name AS "Сделка",
		COALESCE(stage_name, 'не из регламента') AS "Этап",
		manager_name AS "Менеджер",
		open_violations AS "Нарушений",
		open_critical AS "Критических",
		left(missing, :short) AS "Чего не хватает",
		deal_url AS "Ссылка"
	FROM regcrm.deal_health
	WHERE account_id = :account AND health = 'broken'
	ORDER BY open_critical DESC, open_violations DESC, deal_id
	LIMIT 8;

\echo 'Воронка'
SELECT stage_name AS "Этап",
		reached AS "Дошло",
		reached_share AS "% сделок",
		now_here AS "Сейчас",
		won_share AS "Из них договор, %"
	FROM regcrm.funnel
	WHERE account_id = :account AND reached > 0
	ORDER BY pipeline_id, stage_position;

\echo 'Чего отсюда не видно'
SELECT gap AS "Что", name AS "Где", meaning AS "Что это значит"
	FROM regcrm.mapping_gaps
	WHERE account_id = :account
UNION ALL
SELECT 'quarantine', entity, format('%s × %s', count(*), error)
	FROM regcrm.quarantine
	WHERE account_id = :account AND resolved_at IS NULL
	GROUP BY entity, error;
