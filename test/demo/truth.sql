-- Compares the violations found with what the simulator says really happened.
-- usage: psql -v account=ID -f truth.sql <truth.jsonl
-- Exit status 3 where a breach was missed or invented.
--
-- A breach and a violation are the same where deal, rule and the second of the
-- breach are, and the task where the truth names one.  All violations that are
-- not withdrawn count: nothing is filtered.
\pset border 1
\pset footer off
\pset null '—'
\pset linestyle unicode
\set QUIET on
SET client_min_messages = warning;
SET regcrm.account_id = :'account';

CREATE TEMP TABLE line (line jsonb);
\copy line FROM pstdin WITH (FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')

-- what happened
CREATE TEMP TABLE truth AS
	SELECT row_number() OVER () AS id,
		(line->>'deal_id')::bigint AS deal_id,
		line->>'rule' AS rule,
		(line->>'task_id')::bigint AS task_id,
		to_timestamp((line->>'breached_at')::bigint) AS breached_at,
		(line->>'manager_id')::bigint AS manager_id,
		line->>'why' AS why
	FROM line
	WHERE line ? 'deal_id';

-- what was found
CREATE TEMP TABLE found AS
	SELECT v.id, v.deal_id, v.rule, v.task_id, v.breached_at, v.manager_id, v.reason, v.deal_url
	FROM regcrm.violations v
	WHERE v.account_id = :account AND NOT v.is_withdrawn;

-- one to one, should several share deal, rule and second
CREATE TEMP TABLE pair AS
	SELECT t.id AS truth_id, f.id AS found_id
	FROM (SELECT *, row_number() OVER (PARTITION BY deal_id, rule, breached_at ORDER BY task_id, id) AS place FROM truth) t
	JOIN (SELECT *, row_number() OVER (PARTITION BY deal_id, rule, breached_at ORDER BY task_id, id) AS place FROM found) f
		USING (deal_id, rule, breached_at, place)
	WHERE t.task_id IS NULL OR t.task_id = f.task_id;

CREATE TEMP TABLE score AS
	SELECT r.rule,
		r.title,
		(SELECT count(*) FROM truth t WHERE t.rule = r.rule) AS happened,
		(SELECT count(*) FROM found f WHERE f.rule = r.rule) AS found,
		(SELECT count(*) FROM truth t JOIN pair p ON p.truth_id = t.id WHERE t.rule = r.rule) AS matched
	FROM (SELECT rule, max(title) AS title
		FROM (SELECT rule, title FROM regcrm.account_rules WHERE account_id = :account
			UNION ALL SELECT rule, NULL FROM truth UNION ALL SELECT rule, NULL FROM found) x
		GROUP BY rule) r;

\echo
\echo 'По правилам (было, найдено, совпало)'
SELECT rule AS "Правило", happened AS "Было", found AS "Найдено", matched AS "Совпало",
		round(matched::numeric / NULLIF(happened, 0), 4) AS "Полнота",
		round(matched::numeric / NULLIF(found, 0), 4) AS "Точность"
	FROM score
	WHERE happened > 0 OR found > 0
	ORDER BY rule COLLATE "C";

\echo 'Пропущено (было, а не найдено)'
SELECT t.rule AS "Правило", t.deal_id AS "Сделка", t.task_id AS "Задача", t.breached_at AS "Когда", t.why AS "Что было"
	FROM truth t
	WHERE NOT EXISTS (SELECT FROM pair p WHERE p.truth_id = t.id)
	ORDER BY t.rule, t.breached_at, t.deal_id;

\echo 'Лишнее (найдено, хотя никто не задумывал)'
SELECT f.rule AS "Правило", f.deal_id AS "Сделка", f.task_id AS "Задача", f.breached_at AS "Когда", f.reason AS "Почему", s.name AS "История"
	FROM found f
	LEFT JOIN LATERAL (
		SELECT string_agg(l.line->'story'->>'name', ', ') AS name
		FROM line l
		WHERE (l.line->'story'->>'deal_id')::bigint = f.deal_id) s ON true
	WHERE NOT EXISTS (SELECT FROM pair p WHERE p.found_id = f.id)
	ORDER BY f.rule, f.breached_at, f.deal_id;

\echo 'Совпали, но ответственный другой'
SELECT t.rule AS "Правило", t.deal_id AS "Сделка", t.breached_at AS "Когда", t.manager_id AS "Был", f.manager_id AS "Найден"
	FROM pair p
	JOIN truth t ON t.id = p.truth_id
	JOIN found f ON f.id = p.found_id
	WHERE t.manager_id IS DISTINCT FROM f.manager_id
	ORDER BY t.rule, t.breached_at, t.deal_id;

\echo 'На последней секунде: соблюдено ровно в срок — нарушения нет; на секунду позже — есть'
WITH edge AS (
	SELECT k.rule,
		count(*) AS kept,
		count(*) FILTER (WHERE NOT EXISTS (
			SELECT FROM found f
			WHERE f.deal_id = k.deal_id AND f.rule = k.rule AND f.breached_at BETWEEN k.due_at - interval '1 s' AND k.due_at + interval '1 s'
				AND NOT EXISTS (SELECT FROM pair p WHERE p.found_id = f.id))) AS kept_clean
	FROM (SELECT line->'kept'->>'rule' AS rule, (line->'kept'->>'deal_id')::bigint AS deal_id,
			to_timestamp((line->'kept'->>'due_at')::bigint) AS due_at
		FROM line WHERE line ? 'kept') k
	GROUP BY k.rule),
late AS (
	SELECT t.rule, count(*) AS late, count(p.truth_id) AS late_found
	FROM truth t
	LEFT JOIN pair p ON p.truth_id = t.id
	WHERE t.deal_id IN (SELECT (line->'story'->>'deal_id')::bigint FROM line WHERE line->'story'->>'name' LIKE '%/late')
	GROUP BY t.rule)
SELECT rule AS "Правило", kept AS "В срок", kept_clean AS "чисто", late AS "Позже", late_found AS "найдено"
	FROM edge FULL JOIN late USING (rule)
	ORDER BY rule COLLATE "C";

\echo 'Правила, которых в симуляции никто не нарушил'
SELECT string_agg(rule, ', ' ORDER BY rule COLLATE "C") AS "Правила"
	FROM score
	WHERE happened = 0 AND found = 0;

\echo 'Итого'
SELECT sum(happened) AS "Было", sum(found) AS "Найдено", sum(matched) AS "Совпало",
		sum(happened) - sum(matched) AS "Пропущено", sum(found) - sum(matched) AS "Лишнее",
		round(sum(matched)::numeric / NULLIF(sum(happened), 0), 4) AS "Полнота",
		round(sum(matched)::numeric / NULLIF(sum(found), 0), 4) AS "Точность",
		count(*) FILTER (WHERE happened > 0) AS "Правил нарушено",
		count(*) AS "Правил всего"
	FROM score;

DO $$
BEGIN
	IF (SELECT sum(s.happened) = 0 OR sum(s.matched) < sum(s.happened) OR sum(s.matched) < sum(s.found) FROM score s) THEN
		RAISE EXCEPTION 'recall or precision is below 1';
	END IF;
END
$$;
