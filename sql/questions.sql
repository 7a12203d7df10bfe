-- The views and functions that answer questions, on a hand-made account whose
-- figures were worked out by hand (comments say how).  Facts and findings are
-- written as they are, so nothing here depends on the judge.  All is known up
-- to Wednesday 2026-03-18 12:00 in Moscow; hours are 9 to 20 every day.
\set VERBOSITY terse
SET client_min_messages = warning;
-- compiling such wide queries takes longer than running them on so few rows
SET jit = off;
CREATE EXTENSION IF NOT EXISTS regcrm;
SELECT FROM regcrm.setup();
SET timezone = 'Europe/Moscow';
SET datestyle = 'ISO, DMY';
SET intervalstyle = 'postgres';
\pset null '-'

BEGIN;
SET LOCAL regcrm.mode = 'off';
SET LOCAL regcrm.account_id = '9070';
INSERT INTO regcrm.account (id, name, base_url, calendar, known_until)
	VALUES (9070, 'Школа', 'https://school.amocrm.ru/', 'daily-9-20', '2026-03-18 12:00');
INSERT INTO regcrm.manager (id, name, group_name, in_scope)
	VALUES (1, 'Анна', 'Продажи', true), (2, 'Борис', 'Продажи', true), (3, 'Директор', NULL, false);
INSERT INTO regcrm.deal (id, name, stage, manager_id, price, created_at, closed_at, reason) VALUES
	(201, 'Ученик 201', 'lost', 1, 1000, '2026-03-02 10:00', '2026-03-05 12:00', 'Дорого'),
	(202, 'Ученик 202', 'lost', 2, 500, '2026-03-02 19:40', '2026-03-10 10:00', NULL),
	(203, 'Ученик 203', 'won', 1, 2000, '2026-03-03 09:00', '2026-03-06 10:00', NULL),
	(204, 'Ученик 204', 'deciding', 2, 700, '2026-03-16 09:00', NULL, NULL),
	(205, 'Ученик 205', 'new', 1, NULL, '2026-03-18 11:50', NULL, NULL),
	(206, 'Ученик 206', 'in_work', 1, 100, '2026-03-16 09:00', NULL, NULL),
	(207, 'Ученик 207', 'lost', 2, 300, '2026-03-02 12:00', '2026-03-09 12:00', 'Дорого');
INSERT INTO regcrm.event (id, deal_id, at, kind, actor_id, from_stage, to_stage) VALUES
	(1, 201, '2026-03-02 10:10', 'stage', 1, 'new', 'in_work'), (2, 201, '2026-03-03 10:00', 'stage', 1, 'in_work', 'deciding'),
	(3, 201, '2026-03-05 12:00', 'stage', 1, 'deciding', 'lost'),
	(4, 202, '2026-03-10 10:00', 'stage', 2, 'new', 'lost'),
	(5, 203, '2026-03-03 09:05', 'stage', 1, 'new', 'in_work'), (6, 203, '2026-03-03 09:30', 'stage', 1, 'in_work', 'meeting'),
	(7, 203, '2026-03-04 09:00', 'stage', 1, 'meeting', 'deciding'), (8, 203, '2026-03-05 09:00', 'stage', 1, 'deciding', 'meeting'),
	(9, 203, '2026-03-06 10:00', 'stage', 1, 'meeting', 'won'),
	(10, 204, '2026-03-16 10:00', 'stage', 2, 'new', 'deciding'),
	-- a slip of the mouse, taken back after half a minute: no return
	(11, 206, '2026-03-16 09:10:00', 'stage', 1, 'new', 'in_work'), (12, 206, '2026-03-16 09:10:30', 'stage', 1, 'in_work', 'new'),
	(13, 206, '2026-03-16 12:00', 'stage', 1, 'new', 'in_work'),
	(14, 207, '2026-03-02 13:00', 'stage', 2, 'new', 'in_work'), (15, 207, '2026-03-04 12:00', 'stage', 2, 'in_work', 'lost'),
	(16, 207, '2026-03-06 12:00', 'stage', 2, 'lost', 'in_work'), (17, 207, '2026-03-09 12:00', 'stage', 2, 'in_work', 'lost');
INSERT INTO regcrm.event (id, deal_id, at, kind, actor_id, by_bot, answered, duration, channel, body) VALUES
	(21, 201, '2026-03-02 10:05', 'call_out', 1, false, false, NULL, NULL, NULL),
	(22, 201, '2026-03-02 10:06', 'message_out', 1, false, NULL, NULL, 'whatsapp', 'Добрый день!'),
	(23, 201, '2026-03-02 11:00', 'message_in', NULL, false, NULL, NULL, 'whatsapp', 'Слушаю'),
	(24, 201, '2026-03-03 09:55', 'call_out', 1, false, true, '1 min', NULL, NULL),
	(25, 203, '2026-03-03 09:01', 'message_out', NULL, true, NULL, NULL, 'whatsapp', 'Мы скоро ответим'),
	(26, 203, '2026-03-03 09:03', 'call_in', 1, false, true, '3 min', NULL, NULL),
	-- the director's call is no touch
	(27, 204, '2026-03-16 09:30', 'call_out', 3, false, false, NULL, NULL, NULL);
INSERT INTO regcrm.event (id, deal_id, at, kind, actor_id, field, value, value_before) VALUES
	(31, 201, '2026-03-05 12:00', 'field', 1, 'reason', 'Дорого', NULL),
	(32, 207, '2026-03-04 12:00', 'field', 2, 'reason', 'Далеко ехать', NULL), (33, 207, '2026-03-09 12:00', 'field', 2, 'reason', 'Дорого', 'Далеко ехать'),
	(34, 203, '2026-03-04 10:00', 'responsible', 1, NULL, '1', '2');
INSERT INTO regcrm.task (id, deal_id, kind, body, manager_id, created_at, due_at, completed_at) VALUES
	(401, 204, 'callback', 'Перезвонить', 2, '2026-03-16 10:00', '2026-03-17 12:00', '2026-03-17 10:00'),
	(402, 205, 'process_request', 'Обработать заявку', 1, '2026-03-18 11:50', '2026-03-18 13:00', NULL),
	(403, 206, 'callback', 'Перезвонить', 1, '2026-03-16 12:00', '2026-03-17 12:00', NULL),
	-- Friday before the report: five in one go, three of them overdue; then one by itself; one closed by a robot
	(411, 202, 'other', NULL, 2, '2026-03-05 10:00', '2026-03-12 12:00', '2026-03-13 17:00'), (412, 202, 'other', NULL, 2, '2026-03-05 10:00', '2026-03-12 12:00', '2026-03-13 17:01'),
	(413, 202, 'other', NULL, 2, '2026-03-05 10:00', '2026-03-12 12:00', '2026-03-13 17:02'), (414, 207, 'other', NULL, 2, '2026-03-05 10:00', '2026-03-14 12:00', '2026-03-13 17:03:30'),
	(415, 207, 'other', NULL, 2, '2026-03-05 10:00', '2026-03-14 12:00', '2026-03-13 17:05'), (416, 207, 'other', NULL, 2, '2026-03-05 10:00', '2026-03-14 12:00', '2026-03-13 17:10'),
	(417, 207, 'other', NULL, 2, '2026-03-05 10:00', '2026-03-14 12:00', '2026-03-13 17:05:30'),
	(418, 202, 'other', NULL, 2, '2026-03-05 10:00', '2026-03-12 18:00', '2026-03-12 17:30'), (419, 202, 'other', NULL, 2, '2026-03-05 10:00', '2026-03-12 18:00', '2026-03-11 10:00');
INSERT INTO regcrm.other_event (source_id, type, entity_type, entity_id, at, actor_id, raw) VALUES
	('o1', 'task_completed', 'task', 417, '2026-03-13 17:05:30', 0, '{}'),
	-- an overdue date pushed by three days; one pulled nearer; one that nobody can read
	('o2', 'task_deadline_changed', 'task', 416, '2026-03-13 17:20', 2, jsonb_build_object(
		'value_before', jsonb_build_array(jsonb_build_object('task_deadline', jsonb_build_object('timestamp', extract(epoch FROM timestamptz '2026-03-13 12:00')::bigint))),
		'value_after', jsonb_build_array(jsonb_build_object('task_deadline', jsonb_build_object('timestamp', extract(epoch FROM timestamptz '2026-03-16 12:00')::bigint))))),
	('o3', 'task_deadline_changed', 'task', 403, '2026-03-16 13:00', 1, jsonb_build_object(
		'value_before', jsonb_build_array(jsonb_build_object('task_deadline', jsonb_build_object('timestamp', extract(epoch FROM timestamptz '2026-03-18 12:00')::bigint))),
		'value_after', jsonb_build_array(jsonb_build_object('task_deadline', jsonb_build_object('timestamp', extract(epoch FROM timestamptz '2026-03-17 12:00')::bigint))))),
	('o4', 'task_deadline_changed', 'task', 403, '2026-03-16 13:01', 1, '{"value_before": "?", "value_after": [{"task_deadline": {"timestamp": "soon"}}]}');
INSERT INTO regcrm.deadline (deal_id, rule, manager_id, stage, arose_at, due_at, met_at, ended_at, state) VALUES
	(201, 'NEW-1', 1, 'new', '2026-03-02 10:00', '2026-03-02 10:15', '2026-03-02 10:05', '2026-03-02 10:05', 'met'),
	(202, 'NEW-1', 2, 'new', '2026-03-02 19:40', '2026-03-02 19:55', NULL, '2026-03-10 10:00', 'missed'),
	(203, 'NEW-1', 1, 'new', '2026-03-03 09:00', '2026-03-03 09:15', '2026-03-03 09:03', '2026-03-03 09:03', 'met'),
	(204, 'NEW-1', 2, 'new', '2026-03-16 09:00', '2026-03-16 09:15', NULL, NULL, 'missed'),
	(205, 'NEW-1', 1, 'new', '2026-03-18 11:50', '2026-03-18 12:05', NULL, NULL, 'warned'),
	(205, 'NEW-9', 1, 'new', '2026-03-18 11:50', '2026-03-19 09:50', NULL, NULL, 'pending'),
	-- Anna's last week: one of two in time up to Wednesday, two more on Thursday
	(203, 'ONC-4', 1, 'contract', '2026-03-09 10:00', '2026-03-10 13:00', '2026-03-10 10:00', '2026-03-10 10:00', 'met'),
	(203, 'ONC-4', 1, 'contract', '2026-03-10 11:00', '2026-03-11 14:00', '2026-03-11 15:00', '2026-03-11 15:00', 'late'),
	(203, 'ONC-4', 1, 'contract', '2026-03-12 10:00', '2026-03-13 13:00', '2026-03-12 11:00', '2026-03-12 11:00', 'met'),
	(203, 'ONC-4', 1, 'contract', '2026-03-12 12:00', '2026-03-13 15:00', '2026-03-12 13:00', '2026-03-12 13:00', 'met'),
	-- this week: all three in time
	(203, 'ONC-4', 1, 'contract', '2026-03-16 10:00', '2026-03-17 13:00', '2026-03-16 11:00', '2026-03-16 11:00', 'met'),
	(203, 'ONC-4', 1, 'contract', '2026-03-17 10:00', '2026-03-18 13:00', '2026-03-17 11:00', '2026-03-17 11:00', 'met'),
	(206, 'WRK-4', 1, 'in_work', '2026-03-16 12:00', '2026-03-16 12:15', '2026-03-16 12:05', '2026-03-16 12:05', 'met');
-- What was asked for by the due dates (12:00) of four of Boris' tasks, an hour of work after them: not done, done late,
-- fallen away, and not due yet when the task was closed.
INSERT INTO regcrm.deadline (deal_id, rule, task_id, manager_id, stage, arose_at, due_at, met_at, ended_at, state) VALUES
	(202, 'DEC-4', 411, 2, 'deciding', '2026-03-05 10:00', '2026-03-12 13:00', NULL, NULL, 'missed'),
	(202, 'DEC-4', 412, 2, 'deciding', '2026-03-05 10:00', '2026-03-12 13:00', '2026-03-12 13:30', '2026-03-12 13:30', 'late'),
	(202, 'DEC-4', 413, 2, 'deciding', '2026-03-05 10:00', '2026-03-12 13:00', NULL, '2026-03-10 10:00', 'cancelled'),
	(207, 'DEC-4', 414, 2, 'deciding', '2026-03-05 10:00', '2026-03-14 13:00', '2026-03-13 17:00', '2026-03-13 17:00', 'met');
INSERT INTO regcrm.violation (id, deal_id, rule, manager_id, stage, severity, arose_at, breached_at, detected_at, resolved_at, resolution, evidence) VALUES
	(1, 202, 'NEW-1', 2, 'new', 'critical', '2026-03-02 19:40', '2026-03-02 19:55', '2026-03-02 20:00', '2026-03-10 10:00', 'left', NULL),
	(2, 202, 'LOST-2', 2, 'lost', 'critical', '2026-03-10 10:00', '2026-03-10 10:01', '2026-03-10 11:00', NULL, NULL, '{"to": "lost", "from": "new", "event": 4}'),
	(3, 203, 'ONC-4', 1, 'contract', 'major', '2026-03-10 11:00', '2026-03-11 14:00', '2026-03-11 15:00', '2026-03-11 15:00', 'met', '{"event": 24, "answer": {"task": 401}}'),
	(4, 204, 'DEC-3', 2, 'deciding', 'critical', '2026-03-17 10:00', '2026-03-17 10:05', '2026-03-17 11:00', NULL, NULL, '{"task": 401}'),
	(5, 204, 'NEW-1', 2, 'new', 'critical', '2026-03-16 09:00', '2026-03-16 09:15', '2026-03-16 10:00', NULL, NULL, NULL),
	-- on Thursday of last week, later than it is now in this one
	(6, 203, 'LOST-3', 1, 'lost', 'major', '2026-03-12 15:00', '2026-03-12 15:00', '2026-03-12 15:00', '2026-03-12 15:00', 'moment', NULL),
	(7, 203, 'WRK-7', 1, 'in_work', 'major', '2026-03-03 09:30', '2026-03-03 09:30', '2026-03-03 09:31', '2026-03-03 09:30', 'moment', '{"to": "meeting", "from": "in_work", "event": 6}');

-- Evidence as ids and as text; lateness in minutes: 250 on the wall of which 60 are work (14:00 to 15:00).
SELECT id, rule, duty_of_name, form_name, severity_rank, counts, breached_day, late_minutes, late_business_minutes,
		begin_event_id, begin_task_id, answer_event_id, answer_task_id, from_stage, from_stage_name, to_stage, to_stage_name
	FROM regcrm.violations WHERE account_id = 9070 AND id IN (2, 3, 4, 7) ORDER BY id;
SELECT id, reason FROM regcrm.violations WHERE account_id = 9070 AND id IN (3, 4) ORDER BY id;

-- Who broke what this week, and is it getting better?  The week is not over: it
-- is compared with Monday to Wednesday of the one before (of Anna: 1 of 2).
SELECT week, is_over, manager_name, arisen, met, late, missed, waiting, decided, compliance, previous_decided, previous_compliance, compliance_change,
		violations, previous_violations, violations_change, trend, trend_name
	FROM regcrm.manager_weekly WHERE account_id = 9070 ORDER BY week, manager_name;
SELECT week, manager_name, previous_met, previous_decided FROM regcrm.manager_weekly WHERE account_id = 9070 AND week >= '2026-03-09' ORDER BY week, manager_name;
-- By rule: LOST-3 of last Thursday is not compared with this week's Wednesday.
SELECT week, manager_name, rule, severity_rank, violations, deals, still_open, late_minutes_median, previous_violations, violations_change, trend
	FROM regcrm.violations_weekly WHERE account_id = 9070 AND week >= '2026-03-09' ORDER BY week, manager_name, rule;

-- The same of the last seven days, on any day of the week: breaches from Wednesday noon to Wednesday noon, duties of
-- Thursday to Wednesday.  LOST-3 of last Thursday is in; ONC-4 of the Wednesday before, two hours past noon, is too.
SELECT starts_at, ends_at, manager_name, rule, severity, severity_rank, duty_of, violations, deals, still_open, previous_violations, violations_change, trend, trend_name
	FROM regcrm.violations_last_week WHERE account_id = 9070 ORDER BY manager_name, rule;
SELECT first_day, last_day, manager_name, met, late, missed, decided, compliance, previous_met, previous_decided, previous_compliance, compliance_change, trend_name
	FROM regcrm.manager_last_week WHERE account_id = 9070 ORDER BY manager_name;

-- Which rule costs most deals?  NEW-1: broken in 202 (lost) and 204 (open), kept in 201 (lost) and 203 (won): 100 % against 50 %.
-- LOST-2 was broken after its deal was closed and can't have cost it.
SELECT rule, deals_broken, broken_lost, broken_won, broken_open, broken_lost_share, deals_kept, kept_lost, kept_lost_share, lost_share_difference, deals_cost, price_lost
	FROM regcrm.rule_cost(9070, '2026-03-01', '2026-03-18');
SELECT deal_id, rule, is_broken, deal_outcome, deal_outcome_name FROM regcrm.rule_deals WHERE account_id = 9070 AND rule = 'NEW-1' ORDER BY deal_id;
-- Deals of the third on: 202 is out.
SELECT rule, deals_broken, deals_kept FROM regcrm.rule_cost(9070, '2026-03-03') WHERE rule = 'NEW-1';

-- Lead response time: 5 and 3 minutes; 204 and 206 wait longer than fifteen; 205 has time; 202 and 207 were closed untouched.
SELECT deal_id, stage_name, arrived_day, arrived_hour, arrived_weekday, arrived_in_hours, response_minutes, response_business_minutes, is_within_15, waiting_minutes, first_touch_by_name
	FROM regcrm.first_response WHERE account_id = 9070 ORDER BY deal_id;
SELECT manager_id, manager_name, deals, touched, untouched, median_minutes, p90_minutes, within_15, counted_15, within_15_share FROM regcrm.response_time(9070);
SELECT arrived_hour, deals, touched, median_minutes, within_15, counted_15, within_15_share FROM regcrm.response_by_hour(9070, '2026-03-02', '2026-03-16');
SELECT day, manager_name, deals, touched, untouched, within_15, counted_15, within_15_share, median_minutes FROM regcrm.response_daily WHERE account_id = 9070 ORDER BY day, manager_name;

-- Where do deals stand too long?  meeting: 23.5 h and 25 h; deciding: 50 h and 24 h, and 204 stands there for 50 h.
SELECT stage, finished_visits, median_hours, p90_hours, now_here, now_longer, oldest_hours FROM regcrm.stage_norms WHERE account_id = 9070 ORDER BY stage_position;
SELECT deal_id, stage, dwell_hours, median_hours, p90_hours, times_median, is_over_p90, broken_limits, next_task_at, last_touch_at, days_without_touch
	FROM regcrm.stuck_deals WHERE account_id = 9070;
SELECT deal_id, pipeline_name, stage_position, broken_rules, overdue_tasks, dwell_hours, minutes_left, entered_day FROM regcrm.deal_health WHERE account_id = 9070 ORDER BY deal_id;

-- Deals without a task now.
SELECT deal_id, stage, without_task_since, without_task_hours, last_task_body, is_violation, violation_id, rule, title FROM regcrm.deals_without_task WHERE account_id = 9070;

-- Touches per deal before contact or closing.
SELECT deal_id, deal_outcome, closed_at, calls_out, calls_answered, calls_in, messages_by_hand, messages_by_bot, messages_in, touches,
		first_contact_at, touches_before_contact, hours_to_contact, touches_before_closing, last_touch_at
	FROM regcrm.deal_touches WHERE account_id = 9070 ORDER BY deal_id;

-- What falls due in the next two hours, and for whom?
SELECT deal_id, rule, manager_name, due_at, minutes_left, duty_of_name, is_warned FROM regcrm.due_soon WHERE account_id = 9070;

-- Which reasons are deals lost for, and were they given?
SELECT deal_id, lost_at, lost_day, stage, from_stage, reason, reason_at, is_given, is_given_in_time, violation_id, is_reopened, days_to_loss
	FROM regcrm.lost_deals WHERE account_id = 9070 ORDER BY lost_at;
SELECT day, stage, reason, deals, price, given_late FROM regcrm.loss_reasons_daily WHERE account_id = 9070 ORDER BY day;

-- Ping-pong between stages; the slip of 206 is none.
SELECT deal_id, at, stage, from_stage, nth, away_hours, actor_name, pair_name FROM regcrm.stage_returns WHERE account_id = 9070 ORDER BY at;

-- Did a manager tidy up before the report?  Overdue are those for which the duty by their date had run out when they
-- were closed (411, 412): not one by whose date nothing was asked, nor one whose duty fell away.
SELECT at, day, task_id, task_body, deal_id, actor_name, due_before, due_after, pushed_days, is_later, was_overdue FROM regcrm.task_pushes WHERE account_id = 9070 ORDER BY at;
SELECT day, manager_name, began_at, ended_at, tasks, deals, overdue, without_touch FROM regcrm.task_batches WHERE account_id = 9070;
SELECT day, manager_name, completed, completed_late, in_batches, largest_batch, largest_batch_at, pushed, pushed_overdue, pushed_days
	FROM regcrm.tidy_up_daily WHERE account_id = 9070 ORDER BY day, manager_name;
-- Six closed in the two hours; on the days before on which he closed any, one of two was in these hours.
SELECT manager_name, completed, usual_completed, in_batches, overdue, pushed, usual_pushed, pushed_overdue, is_unusual FROM regcrm.before_report(9070, '2026-03-13 18:00');
SELECT manager_name, completed, pushed, is_unusual FROM regcrm.before_report(9070, '2026-03-13 16:30', '1 hour');

-- A deal's story, with the violations in their places.
SELECT n, at, since_previous, kind_name, what, actor_name, stage_name, violation_id FROM regcrm.deal_story(9070, 203);
SELECT n, at, kind, what, is_violation, severity_name, clause IS NOT NULL AS has_clause, by_bot, stage, body FROM regcrm.deal_story(9070, 202) WHERE kind NOT LIKE 'task%';
SELECT count(*) FROM regcrm.deal_story(9070, 999);
-- Moments, dates and boxes as the account writes them, whatever the session's zone; fields by their Russian names.
INSERT INTO regcrm.custom_field (id, name, type) VALUES (720020, 'Категория прав', 'select');
INSERT INTO regcrm.event (id, deal_id, at, kind, actor_id, field, value) VALUES
	(71, 205, '2026-03-18 11:51', 'field', 1, 'meeting_at', '2026-03-20 21:30:00+00'), (72, 205, '2026-03-18 11:52', 'field', 1, 'return_on', '2026-04-01'),
	(73, 205, '2026-03-18 11:53', 'field', 1, 'skip_task_check', 'true'), (74, 205, '2026-03-18 11:54', 'field', 1, 'scenario', NULL),
	(75, 205, '2026-03-18 11:55', 'field', 1, 'custom:720020', 'B'), (76, 205, '2026-03-18 11:56', 'field', 1, 'price', '35000'),
	(77, 205, '2026-03-18 11:57', 'field', 1, 'meeting_at', '2026-02-31 25:99:00'), (78, 205, '2026-03-18 11:58', 'field', 1, 'custom:1', '2026-03-18 11:00:00');
SET LOCAL timezone = 'America/Los_Angeles';
SELECT what FROM regcrm.deal_story(9070, 205) WHERE kind = 'field';
SET LOCAL timezone = 'Europe/Moscow';

-- Of an account that is not there, nothing.
SELECT manager_name, deals, median_minutes, within_15_share FROM regcrm.response_time(123456);
SELECT count(*) FROM regcrm.rule_cost(123456);

-- Slices of time reach an index, also through views on views: of a year, a week.
CREATE FUNCTION pg_temp.index_on(query text, condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ ('Index Cond:.*' || condition) THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END
$$;
INSERT INTO regcrm.deal (id, stage, manager_id, created_at)
	SELECT n, CASE WHEN n % 50 = 0 THEN 'new' ELSE 'lost' END, 1 + n % 2, timestamptz '2025-03-01' + n * interval '50 min' FROM generate_series(1001, 11000) n;
INSERT INTO regcrm.event (deal_id, at, kind, from_stage, to_stage) SELECT id, created_at + interval '1 h', 'stage', 'new', 'lost' FROM regcrm.deal WHERE account_id = 9070 AND id > 1000 AND stage = 'lost';
INSERT INTO regcrm.event (deal_id, at, kind, actor_id) SELECT id, created_at + n * interval '1 min', 'call_out', 1 FROM regcrm.deal, generate_series(1, 3) n WHERE account_id = 9070 AND id > 1000;
INSERT INTO regcrm.task (deal_id, manager_id, created_at, due_at, completed_at)
	SELECT id, manager_id, created_at, created_at + interval '2 h', created_at + interval '1 h' FROM regcrm.deal WHERE account_id = 9070 AND id > 1000;
INSERT INTO regcrm.other_event (source_id, type, entity_type, entity_id, at, actor_id, raw)
	SELECT 'x' || id, 'task_deadline_changed', 'task', id, created_at, 1, '{}' FROM regcrm.task WHERE account_id = 9070;
INSERT INTO regcrm.deadline (deal_id, rule, arose_at, due_at, state, manager_id)
	SELECT id, 'NEW-1', created_at, created_at + interval '15 min', CASE WHEN id % 100 = 0 THEN 'pending' ELSE 'met' END, manager_id
	FROM regcrm.deal WHERE account_id = 9070 AND id > 1000;
INSERT INTO regcrm.violation (id, deal_id, rule, arose_at, breached_at, severity, resolved_at, resolution, manager_id)
	SELECT id, id, 'NEW-8', created_at, created_at + interval '15 min', 'minor', created_at + interval '1 h', 'left', manager_id
	FROM regcrm.deal WHERE account_id = 9070 AND id > 1000;
ANALYZE regcrm.account, regcrm.deal, regcrm.event, regcrm.task, regcrm.other_event, regcrm.deadline, regcrm.violation;
SELECT v.name, v.condition, pg_temp.index_on(format('SELECT * FROM regcrm.%s WHERE account_id = 9070 AND %s', v.name, v.period), v.condition) AS uses_an_index
	FROM (VALUES
		('manager_weekly', 'week >= ''2026-03-02''', 'arose_at >='),
		('manager_weekly', 'week >= ''2026-03-02''', 'breached_at >='),
		('violations_weekly', 'week >= ''2026-03-02''', 'breached_at >='),
		('violations_last_week', 'true', 'breached_at >'),
		('manager_last_week', 'true', 'arose_at >='),
		('rule_deals', 'created_at >= ''2026-03-01'' AND created_at < ''2026-03-08''', 'created_at >='),
		('deal_touches', 'created_at >= ''2026-03-01'' AND created_at < ''2026-03-08''', 'created_at >='),
		('response_daily', 'day >= ''2026-03-01'' AND day < ''2026-03-08''', 'created_at >='),
		('lost_deals', 'lost_at >= ''2026-03-01'' AND lost_at < ''2026-03-08''', '\mat >='),
		('loss_reasons_daily', 'day >= ''2026-03-01'' AND day < ''2026-03-08''', '\mat >='),
		('stage_returns', 'at >= ''2026-03-01'' AND at < ''2026-03-08''', '\mat >='),
		('task_pushes', 'at >= ''2026-03-01'' AND at < ''2026-03-08''', '\mat >='),
		('task_batches', 'day >= ''2026-03-01'' AND day < ''2026-03-08''', 'completed_at >='),
		('tidy_up_daily', 'day >= ''2026-03-01'' AND day < ''2026-03-08''', 'completed_at >='),
		('tidy_up_daily', 'day >= ''2026-03-01'' AND day < ''2026-03-08''', '\mat >='),
		('deal_timeline', 'deal_id = 1500', 'deal_id = .?1500'),
		('due_soon', 'true', 'due_at <='),
		('duty_counts', 'day >= ''2026-03-01'' AND day < ''2026-03-08''', 'arose_at >='),
		('duty_counts', 'day >= ''2026-03-01'' AND day < ''2026-03-08''', '\mday >=')) AS v(name, period, condition);
-- Both ways of adding up the funnel agree.
SELECT count(*) AS differences
	FROM (SELECT pipeline_id, stage, sum(deals) AS deals, sum(reached) AS reached, sum(now_here) AS now_here, sum(won_after) AS won_after
			FROM regcrm.funnel_daily WHERE account_id = 9070 GROUP BY 1, 2) d
	FULL JOIN (SELECT pipeline_id, stage, deals, reached, now_here, won_after FROM regcrm.funnel WHERE account_id = 9070) f
		ON f.pipeline_id IS NOT DISTINCT FROM d.pipeline_id AND f.stage = d.stage AND f.deals = d.deals AND f.reached = d.reached
			AND f.now_here = d.now_here AND f.won_after = d.won_after
	WHERE d.stage IS NULL OR f.stage IS NULL;
ROLLBACK;

-- Row-returning functions return types with names, whose columns say what they mean.
SELECT p.oid::regprocedure AS function, t.typname AS type
	FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
	WHERE p.pronamespace = 'regcrm'::regnamespace AND p.proname IN ('deal_story', 'rule_cost', 'response_time', 'response_by_hour', 'before_report') ORDER BY 1;
SELECT c.relname, a.attname AS column_without_comment
	FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
	WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relname IN ('story_line', 'rule_price', 'response_line', 'report_line') AND col_description(c.oid, a.attnum) IS NULL;
-- The dictionary holds every view and column with its meaning.
SELECT object, name FROM regcrm.data_dictionary WHERE object_kind = 'view' AND (object_meaning IS NULL OR meaning IS NULL);
SELECT object, object_kind, position, name, type, meaning FROM regcrm.data_dictionary WHERE object = 'due_soon' AND position IN (20, 26) OR object LIKE 'deal_story(%' ORDER BY object, position;
