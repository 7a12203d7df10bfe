
-- ---------------------------------------------------------------------------
-- views for reports
-- ---------------------------------------------------------------------------

-- Views read what the judge has found and what the CRM has told; they judge
-- nothing.  Published views only grow at the end, so that an update can replace
-- them under the views and dashboards that stand on them.
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
			WHEN 'stage' THEN 'переход' WHEN 'call_in' THEN 'звонок клиента' WHEN 'call_out' THEN 'звонок клиенту'
			WHEN 'message_in' THEN 'сообщение клиента' WHEN 'message_out' THEN 'сообщение клиенту' WHEN 'request' THEN 'новая заявка клиента'
			WHEN 'visit' THEN 'визит клиента' WHEN 'scenario' THEN 'сценарий' WHEN 'comment' THEN 'комментарий' WHEN 'field' THEN 'поле'
			WHEN 'responsible' THEN 'смена ответственного' WHEN 'robot' THEN 'действие робота' WHEN 'verdict' THEN 'оценка' END
		WHEN 'task' THEN CASE code
			WHEN 'process_request' THEN 'Обработать заявку' WHEN 'callback' THEN 'Перезвонить' WHEN 'meeting_control' THEN 'Контроль встречи'
			WHEN 'contract_control' THEN 'Контроль договора' WHEN 'other' THEN 'задача' END
		WHEN 'field' THEN CASE code
			WHEN 'lead_date' THEN 'Дата создания лида' WHEN 'reason' THEN 'Причина отказа' WHEN 'pause_reason' THEN 'Причина паузы'
			WHEN 'meeting_at' THEN 'Дата встречи' WHEN 'return_on' THEN 'Срок возврата' WHEN 'agreed_at' THEN 'Согласие на договор'
			WHEN 'signed_at' THEN 'Договор подписан' WHEN 'paid_at' THEN 'Оплата получена' WHEN 'skip_task_check' THEN 'Не проверять задачи'
			WHEN 'scenario' THEN 'Сценарий' WHEN 'name' THEN 'Название' WHEN 'price' THEN 'Бюджет' ELSE code END
		WHEN 'health' THEN CASE code
			WHEN 'broken' THEN 'есть нарушения' WHEN 'due' THEN 'скоро срок' WHEN 'fine' THEN 'в порядке' END
		WHEN 'form' THEN CASE code
			WHEN 'flow' THEN 'порядок переходов' WHEN 'enter' THEN 'при входе на этап' WHEN 'leave' THEN 'при уходе с этапа'
			WHEN 'always' THEN 'всё время на этапе' WHEN 'within' THEN 'в срок' WHEN 'never' THEN 'запрет' WHEN 'attest' THEN 'оценка человека' END
		WHEN 'deal' THEN CASE code
			WHEN 'open' THEN 'в работе' WHEN 'won' THEN 'договор' WHEN 'lost' THEN 'отказ' END
		WHEN 'gap' THEN CASE code
			WHEN 'status' THEN 'этап' WHEN 'pipeline' THEN 'воронка' WHEN 'field' THEN 'поле' WHEN 'field_type' THEN 'тип поля'
			WHEN 'scenario' THEN 'сценарий' WHEN 'feed' THEN 'источник данных' WHEN 'calendar' THEN 'рабочие часы' END
		WHEN 'entity' THEN CASE code
			WHEN 'account' THEN 'аккаунт' WHEN 'users' THEN 'пользователи' WHEN 'pipelines' THEN 'воронки и этапы' WHEN 'loss_reasons' THEN 'причины отказа'
			WHEN 'custom_fields' THEN 'поля' WHEN 'leads' THEN 'сделки' WHEN 'leads_deleted' THEN 'удалённые сделки' WHEN 'contacts' THEN 'контакты'
			WHEN 'tasks' THEN 'задачи' WHEN 'events' THEN 'события' WHEN 'lead_notes' THEN 'примечания сделок' WHEN 'contact_notes' THEN 'примечания контактов'
			WHEN 'company_notes' THEN 'примечания компаний' WHEN 'connect' THEN 'подключение' WHEN 'pass' THEN 'проход целиком'
			WHEN 'reconcile' THEN 'ночная сверка' WHEN 'wanted' THEN 'спрошенное по номерам' ELSE code END
		WHEN 'trend' THEN CASE code
			WHEN 'better' THEN 'лучше' WHEN 'worse' THEN 'хуже' WHEN 'same' THEN 'так же' END
		WHEN 'line' THEN CASE code
			WHEN 'created' THEN 'сделка создана' WHEN 'deleted' THEN 'сделка удалена' WHEN 'task_added' THEN 'задача поставлена'
			WHEN 'task_due' THEN 'срок задачи прошёл' WHEN 'task_done' THEN 'задача закрыта' WHEN 'task_gone' THEN 'задача удалена'
			WHEN 'violation' THEN 'нарушение' WHEN 'resolved' THEN 'нарушение закончилось' WHEN 'waived' THEN 'нарушение снято' END
	END;
COMMENT ON FUNCTION regcrm.label(text, text) IS
	'Russian word for a code of the views. Arguments: kind of code (severity, resolution, outcome, basis, duty_of, clock, action, event, task, field, health, form, deal, gap, entity, trend, line) and the code; null for one that is not known.';

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

CREATE FUNCTION regcrm.event_text(kind text, by_bot boolean, answered boolean, duration interval, name text, value text, why text) RETURNS text
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	RETURN concat_ws(' ',
		regcrm.label('event', kind),
		CASE kind WHEN 'scenario' THEN '«' || name || '»' WHEN 'field' THEN '«' || regcrm.label('field', name) || '»' END,
		CASE WHEN kind = 'field' AND value IS NULL THEN 'очищено'
			-- a moment is written in another zone than the rest
			WHEN kind = 'field' AND value !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2} ' THEN '= ' || value END,
		CASE WHEN kind = 'verdict' THEN concat_ws(': ', CASE value WHEN 'pass' THEN 'соблюдено' WHEN 'fail' THEN 'не соблюдено' END, why) END,
		CASE WHEN kind IN ('call_in', 'call_out') AND answered THEN regcrm.duration_text(duration)
			WHEN kind IN ('call_in', 'call_out') AND NOT answered THEN 'без ответа' END,
		CASE WHEN by_bot AND kind <> 'robot' THEN '(робот)' END);
COMMENT ON FUNCTION regcrm.event_text(text, boolean, boolean, interval, text, text, text) IS
	'An event in a few Russian words, without the text of messages. Arguments: its kind, by_bot, answered and duration; name = of its scenario or field; value; why = body of a verdict.';

-- What the columns of the views mean.  A name means the same in every view; the
-- few that do not stand as VIEW.COLUMN.
CREATE FUNCTION regcrm.view_columns(OUT name text, OUT meaning text) RETURNS SETOF record
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
	BEGIN ATOMIC
		SELECT m.name, m.meaning
		FROM (VALUES
			('account_id', 'Account.'),
			('account_name', 'Name of the account.'),
			('action_name', 'What happens when SQL breaks the rule, in Russian.'),
			('action', 'What happens when SQL breaks the rule: reject or record.'),
			('arisen', 'Duties with a due moment that arose: met + late + missed + waived + cancelled + pending + waiting.'),
			('arose_at', 'When the duty arose; of a breach without a due moment, when it happened.'),
			('as_of', 'Moment as of which the account is judged: now, of a synced account the moment up to which all its feeds are complete; null = nothing is known yet.'),
			('base_url', 'Where the API is; null = not connected.'),
			('basis', 'stated (the regulation gives rule and figure), assumed (the figure is ours), derived (the regulation implies it).'),
			('basis_name', 'Basis in Russian.'),
			('breached_at', 'When the rule was broken: the due moment that passed, or the act itself.'),
			('breaches_at_once', 'Breaches of rules that set no due moment (an act that is forbidden, an illegal move, a bad verdict); not in compliance, since the occasions to break them can''t be counted.'),
			('by', 'Moment that the duty is due by: task_due or a field of the deal.'),
			('calendar', 'Working hours of the account; null = every hour counts.'),
			('calendar_from', 'Business time is counted from this moment on.'),
			('calendar_until', 'Business time is counted up to this moment.'),
			('cancelled', 'Duties that fell away before they were due: the deal moved on or was deleted.'),
			('clause', 'Where in the regulation it stands: section and sentence.'),
			('clock', 'business = durations run on the account''s calendar, wall = on the wall clock.'),
			('clock_runs', 'Whether the deadline worker runs in this database; null for a role that may not see (pg_read_all_stats).'),
			('comment_required', 'Whether the move asks for a comment.'),
			('compliance', 'Per cent of the decided duties that were met in time: 100 * met / decided; null where none is decided.'),
			('created_at', 'When the deal was created.'),
			('critical', 'Violations of severity critical.'),
			('day', 'Day in the account''s time zone.'),
			('funnel_daily.day', 'Day on which the deals were created, in the account''s time zone.'),
			('deal_id', 'Deal.'),
			('deal_name', 'Name of the deal.'),
			('deal_url', 'Link to the deal in amoCRM; null where the account is not connected.'),
			('deal_url_start', 'Link to a deal in amoCRM, without its number.'),
			('deals', 'Number of deals that have been in a stage of the regulation.'),
			('decided', 'Denominator of compliance: met + late + missed.'),
			('detected_at', 'When the breach was found out here.'),
			('due_at', 'When the duty is due; null = no due moment.'),
			('duty_of', 'manager or bot: whose duty it is. A robot''s failure is on nobody''s scorecard.'),
			('duty_of_name', 'Whose duty it is, in Russian.'),
			('dwell', 'How long the deal stayed in the stage, wall time; of a visit that goes on, so far.'),
			('dwell_business', 'How long the deal stayed in the stage, on the account''s calendar.'),
			('ended_at', 'When the duty was met, cancelled or resolved; null = it runs.'),
			('ends_at', 'When the day ends (the next one begins).'),
			('entered_at', 'When the deal came to the stage.'),
			('event', 'What sets the rule in motion (token).'),
			('evidence', 'What shows the breach: the facts that began and ended it, JSON as text.'),
			('expect', 'What is expected; one of these is enough (tokens).'),
			('expected', 'Titles of all running duties, the next one first; null = none.'),
			('first_touch_at', 'When the manager first called, took a call or wrote by hand; null = not yet.'),
			('first_touch_by', 'Who did; null = not known.'),
			('first_touch_kind', 'How: call_out, call_in or message_out.'),
			('first_touch_name', 'How, in Russian.'),
			('form', 'Form of the rule: flow, enter, leave, always, within, never, attest.'),
			('from_stage', 'Stage that the deal came from; null = it begins, or not known.'),
			('from_stage_name', 'Its name.'),
			('health', 'broken (open violations), due (warned of a deadline), fine.'),
			('health_name', 'Health in Russian.'),
			('how', 'How the rule is checked and in what time, in Russian.'),
			('id', 'Number of the violation, as waive() takes it.'),
			('is_current', 'Whether the deal is still there.'),
			('is_in_force', 'Whether a row of the rule is in force now.'),
			('is_open', 'Whether someone can still put it right: not resolved, waived or withdrawn.'),
			('is_slip', 'Whether it was a slip of the mouse, taken back within undo_window, which the judge does not count.'),
			('is_synced', 'Whether amoCRM owns the account''s facts.'),
			('is_waiting_for_data', 'Whether the due moment has passed, but the facts up to it are not complete yet.'),
			('is_waived', 'Whether it was excused; it does not count then.'),
			('is_warned', 'Whether the moment to warn has come.'),
			('is_withdrawn', 'Whether later facts showed that it was no breach; it does not count then.'),
			('known_from', 'Moment from which history is loaded; null = all of it.'),
			('known_until', 'Moment up to which all feeds are complete; null = the account is not synced.'),
			('lag', 'How far the known moment is behind the clock.'),
			('last_error', 'Last error of the sync, with what it was reading.'),
			('last_error_at', 'When it happened.'),
			('last_read_at', 'When the sync last wrote down how far it is.'),
			('late', 'Duties met after their due moment.'),
			('violations.late', 'Lateness in wall time: from the breach until it was put right or ended, of an open one so far; null for an act that nothing undoes.'),
			('open_violations.late', 'Lateness in wall time so far; null for an act that nothing undoes.'),
			('late_business', 'Lateness on the account''s calendar; null where the rule''s clock is wall.'),
			('left_at', 'When the deal left the stage or was deleted; null = it is there.'),
			('manager_group', 'Group of users that the manager belongs to.'),
			('manager_id', 'Responsible manager; null = a robot''s duty, or nobody.'),
			('violations.manager_id', 'Who was responsible when it was breached; null = a robot''s failure, or nobody.'),
			('open_violations.manager_id', 'Who was responsible when it was breached; null = a robot''s failure, or nobody.'),
			('first_response.manager_id', 'Who is responsible for the deal now.'),
			('stage_dwell.manager_id', 'Who is responsible for the deal now.'),
			('manager_name', 'Name of the manager.'),
			('met', 'Duties met in time.'),
			('met_at', 'When the duty was met, in time or late; null = not.'),
			('missed', 'Duties not met, and the deal gone on or still waiting.'),
			('missing', 'Titles of the open violations, the oldest first; null = none.'),
			('next_due_at', 'When the next running duty is due; null = none runs.'),
			('next_due_title', 'What it is.'),
			('next_task_at', 'When the next open task is due.'),
			('next_try_at', 'Not before this moment will the sync try again.'),
			('now_here', 'Deals that are in the stage now.'),
			('nth', 'How manieth time of the event counts; null = every time.'),
			('open_critical', 'Open violations of severity critical.'),
			('open_tasks', 'Open tasks of the deal.'),
			('open_violations', 'Violations of the deal that someone can still put right.'),
			('outcome', 'met, late, missed, waived, cancelled, pending (not due yet), waiting (due, but the facts are not complete up to then), breach (of a rule without a due moment).'),
			('paused', 'Whether the sync leaves the account alone.'),
			('pending', 'Duties that are running and not due yet.'),
			('pipeline_id', 'Pipeline of amoCRM that the deal is in.'),
			('pipeline_name', 'Name of the pipeline.'),
			('price', 'Budget of the deal, in the account''s currency.'),
			('quarantined', 'Things that amoCRM sent, that nobody could read and that wait in quarantine.'),
			('reason', 'What happened, readable, in the account''s time zone: the facts that began and ended it, without the text of messages.'),
			('reached', 'Deals that have ever been in the stage.'),
			('reached_share', 'Per cent of the deals that have ever been in the stage.'),
			('regulation', 'Code of the regulation.'),
			('requests', 'Requests sent to amoCRM so far.'),
			('resolution', 'met (put right late), left (not done, the deal left the stage or was deleted), moment (a thing done, which nothing undoes); null = open.'),
			('resolution_name', 'Resolution in Russian.'),
			('resolved_at', 'When it was put right or could no longer be; null = open.'),
			('response', 'Time from the deal''s creation to the first touch, wall time; null = none yet.'),
			('response_business', 'The same on the account''s calendar.'),
			('rows_read', 'Rows read from amoCRM so far.'),
			('rule', 'Code of the rule.'),
			('scope', 'Where conditions look: the present visit, the whole deal, or after the stage.'),
			('severity', 'critical, major, minor or info.'),
			('duties.severity', 'Severity of the breach; null where there is none.'),
			('duties_daily.severity', 'Severity of the breach; null where there is none.'),
			('severity_name', 'Severity in Russian.'),
			('source_name', 'Where the lead came from.'),
			('stage', 'Stage of the regulation (code); null = any, or unknown.'),
			('stage_name', 'Name of the stage.'),
			('stage_position', 'Place of the stage in the funnel.'),
			('starts_at', 'When the day begins.'),
			('state', 'How the sync stands: ok, or what keeps it from working.'),
			('state_reason', 'Why, in words.'),
			('entity', 'What is read: leads, tasks, events, …; pass = the pass as a whole, connect, reconcile, wanted; null = nothing was ever read.'),
			('read_from', 'Moment from which on the list has been read; -infinity = all of it; null = it has no history.'),
			('read_until', 'Moment up to which the list has been read.'),
			('entity_name', 'entity in Russian.'),
			('entity_lag', 'How far read_until is behind now.'),
			('window_from', 'Beginning of the stretch of time being read.'),
			('window_to', 'Its end.'),
			('page', 'Next page of it; null = none is being read.'),
			('load_progress', 'How much of the history the first load has come through, by time: 0 to 1; the least of the lists for an account.'),
			('load_eta', 'When the first load will be complete if it goes on as it has: an estimate.'),
			('loading', 'Whether the first load is under way: deals that began before known_from are not judged yet.'),
			('load_began_at', 'When the first load began.'),
			('loaded_at', 'When it was complete.'),
			('load_requests', 'Requests that the first load took.'),
			('quiet_pass_requests', 'Requests of the last pass that had nothing more to ask than the least.'),
			('quiet_minute_requests', 'Requests a minute in which nothing happens, by that and by regcrm.sync_interval.'),
			('reconciled_at', 'When reconcile() last looked for what had been missed.'),
			('wanted', 'Things that are to be asked for by their numbers.'),
			('rejudged_at', 'When all its deals were last judged again.'),
			('rejudge_due', 'Whether rules, mappings, feeds or calendars have changed since: rejudge() brings findings up to them.'),
			('sync_runs', 'Whether the sync worker runs in this database; null for a role that may not see (pg_read_all_stats).'),
			('task_body', 'Text of the task.'),
			('task_id', 'Task that the duty is about; null = none.'),
			('time_left', 'Time until it is due, wall time, as of what is known.'),
			('time_left_business', 'The same on the account''s calendar; null where the rule''s clock is wall, or it is due.'),
			('time_zone', 'IANA zone of the account.'),
			('title', 'What the rule asks, in Russian.'),
			('to_stage', 'Stage that the deal went to; null = it is there, was deleted or went to a stage that is not known.'),
			('regulation_moves.to_stage', 'Stage that the deal may go to.'),
			('regulation_moves.from_stage', 'Stage that the deal comes from; null = where a deal may begin.'),
			('to_stage_name', 'Its name.'),
			('unless', 'What keeps the duty from arising (tokens).'),
			('valid_from', 'From when on the row is in force; null = always.'),
			('valid_until', 'Until when; null = no end.'),
			('violations', 'late + missed + breaches_at_once; neither waived nor withdrawn.'),
			('waiting', 'Duties whose due moment has passed, while the facts up to it are not complete yet.'),
			('waiting_for_data_since', 'Of a synced account whose facts are not complete up to the due moment, though that has passed: moment up to which they are complete, so nobody knows yet whether the duty was kept; null = it is not waited for.'),
			('waiting_for', 'How long a deal without a touch has been waiting; null = it was touched or is closed.'),
			('waive_reason', 'Why it was excused.'),
			('waived', 'Duties broken and excused; not in compliance.'),
			('waived_at', 'When it was excused.'),
			('waived_by', 'Role that excused it.'),
			('warn', 'When to warn: after the trigger, or before the moment that by names.'),
			('warn_at', 'When to warn; null = never.'),
			('withdrawn_at', 'When later facts showed that it was no breach.'),
			('within', 'Time allowed: the duty''s time, or a tolerance.'),
			('won_after', 'Deals that reached the stage and are won now.'),
			('won_share', 'Per cent of the deals that reached the stage that are won now.'),
			-- answers to questions
			('account_weeks.ends_at', 'When the week ends (the next one begins).'),
			('account_weeks.starts_at', 'When the week begins.'),
			('actor_id', 'Who did it; null = a robot, the client, or not known.'),
			('actor_name', 'Name of who did it.'),
			('answer_event_id', 'Evidence: the event that put it right; null = none, or it was a task.'),
			('answer_task_id', 'Evidence: the task that put it right; null = none, or it was an event.'),
			('arrived_day', 'Day on which the deal was created, in the account''s time zone.'),
			('arrived_hour', 'Hour at which the deal was created, 0 to 23, in the account''s time zone.'),
			('arrived_in_hours', 'Whether the deal was created in the account''s working hours.'),
			('arrived_weekday', 'Weekday on which the deal was created, 1 = Monday, 7 = Sunday.'),
			('at', 'When it happened.'),
			('away_hours', 'How long the deal had been away from the stage, hours of wall time.'),
			('batch_began_at', 'When the first task of the batch was closed.'),
			('batch_tasks', 'How many tasks the batch holds; 1 = closed by itself.'),
			('began_at', 'When the first task of the batch was closed.'),
			('begin_event_id', 'Evidence: the event that began it; null = none, or it was a task.'),
			('begin_task_id', 'Evidence: the task that began it; null = none, or it was an event.'),
			('body', 'Text of the message, the comment, or what came of the task.'),
			('breached_day', 'Day of breached_at in the account''s time zone.'),
			('broken_limits', 'Titles of its open violations of rules that want the deal to move on in time; null = none.'),
			('broken_rules', 'Codes of the rules of its open violations, the oldest first; null = none.'),
			('by_bot', 'Whether a robot did it.'),
			('calls_answered', 'Calls, either way, in which the two spoke.'),
			('calls_in', 'Incoming calls.'),
			('calls_out', 'Outgoing calls, answered or not.'),
			('clock_name', 'Clock in Russian.'),
			('closed_at', 'When the deal came to the stage that closed it; null = open.'),
			('completed', 'Tasks that the manager closed.'),
			('completed_at', 'When the task was closed.'),
			('completed_late', 'Of them, overdue when they were closed (is_overdue of tasks_closed).'),
			('compliance_change', 'compliance - previous_compliance, percentage points; null = nothing to compare.'),
			('counted_15', 'Denominator of within_15_share: deals touched, or untouched and open for more than 15 minutes of the account''s calendar.'),
			('counts', 'Whether it counts as a violation: neither waived nor withdrawn.'),
			('days_to_loss', 'Days from the deal''s creation to its loss, wall time.'),
			('days_without_touch', 'Days since the last touch, wall time; null = never touched.'),
			('deal_closing.created_at', 'When the deal was created.'),
			('deal_outcome', 'open, won or lost, by the present stage; open where that is not known.'),
			('deal_outcome_name', 'deal_outcome in Russian.'),
			('deal_touches.manager_id', 'Who is responsible for the deal now.'),
			('deals_without_task.is_violation', 'Whether the judge holds the missing task against somebody: an open violation of a rule that asks for a task.'),
			('deals_without_task.rule', 'Code of the rule that asks for a task and is violated; null = none.'),
			('due_after', 'When the task was due after the change.'),
			('due_before', 'When the task was due before the change.'),
			('duties.outcome_name', 'Outcome in Russian.'),
			('duties_daily.outcome_name', 'Outcome in Russian.'),
			('dwell_business_hours', 'dwell_business in hours.'),
			('dwell_hours', 'dwell in hours, wall time.'),
			('entered_day', 'Day of entered_at in the account''s time zone.'),
			('event_id', 'Number of the event; of a violation, of the one that began it.'),
			('finished_visits', 'Visits that began in the last 90 days and have ended, slips left out: what median and p90 are of.'),
			('first_contact_at', 'When the client was first reached or came: an answered call, a message or a visit; null = never.'),
			('first_touch_by_name', 'Name of who did.'),
			('form_name', 'Form of the rule in Russian.'),
			('given_late', 'Of them, the reason was given later than the regulation allows.'),
			('hours_to_contact', 'Hours from the deal''s creation to the first contact, wall time; null = never reached.'),
			('in_batches', 'Of the tasks closed, those of a batch of five or more.'),
			('is_broken', 'Whether the rule was broken while the deal was open; false = it asked for something then and was kept.'),
			('is_given', 'Whether a reason is there.'),
			('is_given_in_time', 'Whether the reason was there when the regulation wants it: one is there, and no violation says that it was missing.'),
			('is_later', 'Whether the new due date is later than the old one.'),
			('is_over', 'Whether the week is over, as far as is known.'),
			('is_over_p90', 'Whether it stands longer than nine of ten visits did.'),
			('is_overdue', 'Whether a duty by the task''s due date had run out when it was closed (built in: MISS-7, DEC-4, an hour of work after the date). A task by whose date the regulation asks for nothing, such as one that controls a meeting or a contract, is never overdue.'),
			('is_reopened', 'Whether the deal has come back since.'),
			('is_violation', 'Whether it is a violation.'),
			('is_within_15', 'Whether the first touch came within 15 minutes of the account''s calendar; null = there is time, or it was closed untouched.'),
			('kind', 'What it is: created, deleted, a kind of event, task_added, task_due (its due date went by), task_done, task_gone, violation, resolved, waived.'),
			('kind_name', 'The same in Russian.'),
			('largest_batch', 'Most tasks closed in one go, with no more than two minutes from one to the next.'),
			('largest_batch_at', 'When that began.'),
			('last_task_body', 'Text of the task that was closed last; null = there never was one.'),
			('last_touch_at', 'Last act of the manager towards the client: a call, an answered incoming call, a message by hand; null = none.'),
			('late_business_minutes', 'late_business in minutes.'),
			('late_minutes', 'late in minutes.'),
			('late_minutes_median', 'Median lateness of the breaches that can be put right, minutes of wall time; of open ones so far.'),
			('loss_reasons_daily.deals', 'Deals lost.'),
			('loss_reasons_daily.price', 'Budget of these deals, in the account''s currency.'),
			('loss_reasons_daily.reason', 'Reason of the loss; null = none was given.'),
			('lost_at', 'When it was lost.'),
			('lost_day', 'Day of lost_at in the account''s time zone.'),
			('lost_deals.manager_id', 'Who is responsible for the deal now.'),
			('lost_deals.reason', 'Reason of the loss as it stands, of a deal that came back as it stood until then; null = none was given.'),
			('lost_deals.stage', 'Stage that closed the deal.'),
			('mart_dirty_days.day', 'Day in the account''s time zone whose sums do not hold.'),
			('meaning', 'What the column means.'),
			('median_hours', 'Half of the finished visits took this long or less, hours of wall time.'),
			('median_minutes', 'Half of the touched ones were touched in this time or less, minutes on the account''s calendar. Do not average it.'),
			('messages_by_bot', 'Outgoing messages of robots.'),
			('messages_by_hand', 'Outgoing messages of people.'),
			('messages_in', 'Messages of the client.'),
			('minutes_left', 'time_left in minutes; negative = over.'),
			('name', 'Name of the column; null = a function.'),
			('now_longer', 'Of the deals there now, those that stand longer than p90_hours.'),
			('object', 'Name of the view, table or type; of a function its arguments too.'),
			('object_kind', 'view, table, type, function or procedure.'),
			('object_meaning', 'What it is.'),
			('oldest_hours', 'How long the deal has stood there that stands longest, hours of wall time.'),
			('open_violations.from_stage', 'Evidence of a move: stage that the deal came from; null = no move.'),
			('open_violations.to_stage', 'Evidence of a move: stage that it went to; null = no move.'),
			('overdue', 'Of them, tasks that were overdue.'),
			('overdue_tasks', 'Open tasks whose due date has passed.'),
			('p90_hours', 'Nine of ten finished visits took this long or less, hours of wall time.'),
			('p90_minutes', 'Nine of ten of the touched ones, minutes on the account''s calendar. Do not average it.'),
			('pair_name', 'The two stages, in the order of the funnel.'),
			('place', 'Order of what happened at one instant: facts, moves, tasks, breaches, their ends.'),
			('position', 'Place of the column, from 1; 0 = a function, which has none.'),
			('previous_compliance', 'Compliance of the week before; of a week that is not over, of the same days.'),
			('previous_decided', 'Denominator of previous_compliance.'),
			('previous_violations', 'Violations of the week before; of a week that is not over, of the same days.'),
			('pushed', 'Due dates moved to later.'),
			('pushed_days', 'By how many days the due date was moved; negative = to earlier.'),
			('pushed_overdue', 'Of them, of tasks that were overdue.'),
			('reason_at', 'When the reason was last set; null = no event tells.'),
			('response_business_minutes', 'response_business in minutes.'),
			('response_daily.deals', 'Deals that came on the day.'),
			('response_daily.manager_id', 'Who is responsible for the deals now; null = nobody.'),
			('response_minutes', 'response in minutes.'),
			('rule_deals.manager_id', 'Who is responsible for the deal now.'),
			('severity_rank', 'Severity as a number, to sort by: 1 critical, 2 major, 3 minor, 4 info.'),
			('stage_returns.deal_name', 'Name of the deal.'),
			('stage_returns.manager_id', 'Who is responsible for the deal now.'),
			('stage_returns.nth', 'The how manieth visit it is; 2 = the first return.'),
			('stage_returns.stage', 'Stage that the deal returned to.'),
			('still_open', 'Of them, still to be put right.'),
			('task_batches.deals', 'Deals that the tasks are about.'),
			('task_batches.ended_at', 'When the last task of the batch was closed.'),
			('task_batches.manager_id', 'Manager whose tasks they are.'),
			('tasks', 'Tasks in the batch.'),
			('tasks_closed.due_at', 'When the task was due.'),
			('tasks_closed.manager_id', 'Manager whose task it is.'),
			('tidy_up_daily.manager_id', 'Manager who did it.'),
			('tidy_up_daily.pushed_days', 'By how many days, all together.'),
			('times_median', 'How many times the median.'),
			('touched', 'Of them, touched by now.'),
			('touches', 'Acts of managers towards the client: outgoing calls, answered incoming ones, messages by hand.'),
			('touches_before_closing', 'Of them, up to the closing; null = the deal is open.'),
			('touches_before_contact', 'Of them, up to and including the one by which the client was first reached; null = never reached.'),
			('trend', 'better, worse or same, against the week before; null = nothing to compare.'),
			('trend_name', 'trend in Russian.'),
			('type', 'Type of the column; of a function, what it returns.'),
			('untouched', 'Of them, not touched.'),
			('violation_id', 'Number of the violation, as waive() takes it; null = none.'),
			('violations.from_stage', 'Evidence of a move: stage that the deal came from; null = no move.'),
			('violations.to_stage', 'Evidence of a move: stage that it went to; null = no move.'),
			('violations_change', 'violations - previous_violations.'),
			('violations_weekly.deals', 'Deals in which it was broken.'),
			('violations_weekly.manager_id', 'Who was responsible when it was breached; null = a robot''s failure, or nobody.'),
			('violations_weekly.previous_violations', 'Violations of the week before; of a week that is not over, up to the same moment of it.'),
			('violations_last_week.deals', 'Deals in which it was broken in the seven days.'),
			('violations_last_week.ends_at', 'When the seven days end: the moment up to which all is known.'),
			('violations_last_week.manager_id', 'Who was responsible when it was breached; null = a robot''s failure, or nobody.'),
			('violations_last_week.previous_violations', 'Violations of the seven days before these.'),
			('violations_last_week.starts_at', 'When the seven days begin; a breach of that very moment is not in.'),
			('violations_last_week.trend', 'better, worse or same, against the seven days before.'),
			('violations_last_week.violations', 'Violations of the last seven days; neither waived nor withdrawn.'),
			('manager_last_week.first_day', 'First of the seven days, in the account''s time zone.'),
			('manager_last_week.last_day', 'Last of them: the day up to which all is known.'),
			('manager_last_week.previous_compliance', 'Compliance of the seven days before.'),
			('manager_last_week.previous_decided', 'Its denominator.'),
			('manager_last_week.previous_met', 'Duties that arose on the seven days before and were met in time.'),
			('manager_last_week.trend', 'better, worse or same, against the seven days before; null = nothing to compare.'),
			('previous_met', 'Of the week before, met in time; of a week that is not over, of its same days.'),
			('violations_weekly.violations', 'Violations that happened in the week; neither waived nor withdrawn.'),
			('waiting_minutes', 'waiting_for in minutes.'),
			('was_overdue', 'Whether the task was overdue when its due date was changed.'),
			('week', 'The week''s Monday, in the account''s time zone.'),
			('what', 'What happened, a line in Russian, without the text of messages.'),
			('within_15', 'Deals touched within 15 minutes of the account''s calendar.'),
			('within_15_share', 'Per cent: 100 * within_15 / counted_15; null where none counts.'),
			('without_task_hours', 'How long it has been without a task, hours of wall time.'),
			('without_task_since', 'When its last task was closed or deleted; of a deal that never had one, its creation.'),
			('without_touch', 'Deals of the batch in which nobody had called or written that day before the task was closed.')
			) AS m(name, meaning);
	END;
COMMENT ON FUNCTION regcrm.view_columns() IS
	'For setup(): what the columns of the views mean; VIEW.COLUMN where it is not the same in every view.';

CREATE FUNCTION regcrm.setup_views() RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp
	SET client_min_messages = warning
	AS $setup_views$
DECLARE
	v record;
BEGIN
	PERFORM regcrm.setup_marts();

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
				WHEN a.known_until > '-infinity' THEN least(a.known_until, now())
			END AS as_of,
			-- business time is an error outside of these years, which one odd date must not be
			timestamptz '2000-01-02 00:00:00+00' AS calendar_from,
			timestamptz '2059-12-30 00:00:00+00' AS calendar_until
		FROM regcrm.account a;

	-- The days of an account's life, in its own zone.
	CREATE OR REPLACE VIEW regcrm.account_days WITH (security_invoker = true) AS
		SELECT a.id AS account_id,
			d.day::date AS day,
			d.day AT TIME ZONE a.time_zone AS starts_at,
			(d.day + interval '1 day') AT TIME ZONE a.time_zone AS ends_at
		FROM regcrm.account a
		-- a duty may be of a deal that is gone, or that who asks does not see
		CROSS JOIN LATERAL (SELECT least(
				(SELECT min(l.created_at) FROM regcrm.deal l WHERE l.account_id = a.id),
				(SELECT min(l.arose_at) FROM regcrm.deadline l WHERE l.account_id = a.id),
				(SELECT min(l.breached_at) FROM regcrm.violation l WHERE l.account_id = a.id)) AS at) AS first
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
			CASE WHEN r.clock = 'business' AND least(v.breached_at, x.late_until) > a.calendar_from AND greatest(v.breached_at, x.late_until) < a.calendar_until
				THEN regcrm.business_time_between(v.breached_at, x.late_until, a.calendar, a.time_zone)
			END AS late_business,
			-- written out only where it is asked for
			(SELECT concat_ws('; ',
					CASE WHEN w.name IS NOT NULL
						THEN concat_ws(' ', 'переход', 'из «' || f.name || '»', 'в «' || w.name || '»', to_char(v.arose_at AT TIME ZONE a.time_zone, 'DD.MM.YYYY HH24:MI:SS')) END,
					regcrm.event_text(e.kind, e.by_bot, e.answered, e.duration, COALESCE(n.name, e.scenario, e.field), e.value, e.body)
						|| to_char(e.at AT TIME ZONE a.time_zone, ' DD.MM.YYYY HH24:MI:SS'),
					'задача «' || COALESCE(b.body, regcrm.label('task', b.kind), b.kind) || '» на ' || to_char(b.due_at AT TIME ZONE a.time_zone, 'DD.MM.YYYY HH24:MI:SS'),
					CASE WHEN w.name IS NULL AND e.id IS NULL AND v.breached_at > v.arose_at
						THEN 'с ' || to_char(v.arose_at AT TIME ZONE a.time_zone, 'DD.MM.YYYY HH24:MI:SS') END,
					CASE WHEN v.breached_at > v.arose_at
						THEN 'срок ' || to_char(v.breached_at AT TIME ZONE a.time_zone, 'DD.MM.YYYY HH24:MI:SS') END,
					'сделано ' || to_char(CASE v.resolution WHEN 'met' THEN v.resolved_at END AT TIME ZONE a.time_zone, 'DD.MM.YYYY HH24:MI:SS')
						|| CASE WHEN y.id IS NOT NULL
								THEN ': ' || regcrm.event_text(y.kind, y.by_bot, y.answered, y.duration, COALESCE(o.name, y.scenario, h.name, y.field), y.value, y.body)
							WHEN z.id IS NOT NULL THEN ': задача «' || COALESCE(z.body, regcrm.label('task', z.kind), z.kind) || '»'
							ELSE '' END)
				FROM (SELECT (v.evidence->>'event')::bigint AS event, (v.evidence->>'task')::bigint AS task, (v.evidence->'answer'->>'event')::bigint AS answer,
						(v.evidence->'answer'->>'task')::bigint AS answer_task
					-- by itself: where row security is on, what was not read out first is no key to an index
					OFFSET 0) i
				LEFT JOIN regcrm.event e ON e.account_id = v.account_id AND e.id = i.event AND e.kind <> 'stage'
				LEFT JOIN LATERAL (
					SELECT c.name FROM regcrm.scenario c
					WHERE c.regulation = a.regulation AND c.code = e.scenario AND c.valid @> e.at
					LIMIT 1) AS n ON true
				LEFT JOIN regcrm.task b ON b.account_id = v.account_id AND b.id = i.task
				LEFT JOIN regcrm.event y ON y.account_id = v.account_id AND y.id = i.answer
				LEFT JOIN LATERAL (
					SELECT c.name FROM regcrm.scenario c
					WHERE c.regulation = a.regulation AND c.code = y.scenario AND c.valid @> y.at
					LIMIT 1) AS o ON true
				LEFT JOIN regcrm.custom_field h ON y.field LIKE 'custom:%' AND h.account_id = y.account_id AND y.field = 'custom:' || h.id
				LEFT JOIN regcrm.task z ON z.account_id = v.account_id AND z.id = i.answer_task
				LEFT JOIN regcrm.stage_def f ON f.stage = v.evidence->>'from'
				LEFT JOIN regcrm.stage_def w ON w.stage = v.evidence->>'to') AS reason,
			v.evidence::text AS evidence,
			x.is_open,
			v.waived_at IS NOT NULL AS is_waived,
			v.waived_at,
			v.waived_by,
			v.waive_reason,
			v.withdrawn_at IS NOT NULL AS is_withdrawn,
			v.withdrawn_at,
			regcrm.label('duty_of', r.duty_of) AS duty_of_name,
			regcrm.label('form', r.form) AS form_name,
			s.position AS stage_position,
			array_position('{critical,major,minor,info}', v.severity) AS severity_rank,
			v.waived_at IS NULL AND v.withdrawn_at IS NULL AS counts,
			(v.breached_at AT TIME ZONE a.time_zone)::date AS breached_day,
			CASE WHEN isfinite(x.late_until) THEN round(extract(epoch FROM x.late_until - v.breached_at) / 60, 1) END AS late_minutes,
			CASE WHEN r.clock = 'business' AND least(v.breached_at, x.late_until) > a.calendar_from AND greatest(v.breached_at, x.late_until) < a.calendar_until
				THEN round(extract(epoch FROM regcrm.business_time_between(v.breached_at, x.late_until, a.calendar, a.time_zone)) / 60, 1)
			END AS late_business_minutes,
			(v.evidence->>'event')::bigint AS begin_event_id,
			(v.evidence->>'task')::bigint AS begin_task_id,
			(v.evidence->'answer'->>'event')::bigint AS answer_event_id,
			(v.evidence->'answer'->>'task')::bigint AS answer_task_id,
			v.evidence->>'from' AS from_stage,
			sf.name AS from_stage_name,
			v.evidence->>'to' AS to_stage,
			st.name AS to_stage_name
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
		LEFT JOIN regcrm.stage_def s ON s.stage = v.stage::text
		LEFT JOIN regcrm.stage_def sf ON sf.stage = v.evidence->>'from'
		LEFT JOIN regcrm.stage_def st ON st.stage = v.evidence->>'to'
		LEFT JOIN regcrm.rule r ON r.regulation = a.regulation AND r.code = v.rule AND r.valid @> v.arose_at;

	CREATE OR REPLACE VIEW regcrm.open_violations WITH (security_invoker = true) AS
		SELECT v.*
		FROM regcrm.violations v
		WHERE v.is_open;

	-- Every duty, and every breach that had no due moment, once.  LIMIT 1 makes
	-- one look into an index of each breach, however many days are asked for.
	CREATE OR REPLACE VIEW regcrm.duties WITH (security_invoker = true) AS
		SELECT u.*,
			regcrm.label('outcome', u.outcome) AS outcome_name,
			regcrm.label('severity', u.severity) AS severity_name
		FROM (
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
					WHEN v.waived_at IS NOT NULL THEN 'waived'
					WHEN d.state IN ('pending', 'warned') AND d.due_at <= now() THEN 'waiting'
					WHEN d.state = 'warned' THEN 'pending'
					ELSE d.state
				END AS outcome,
				v.severity
			FROM regcrm.deadline d
			LEFT JOIN LATERAL (
				SELECT w.waived_at, w.severity
				FROM regcrm.violation w
				WHERE d.state IN ('late', 'missed')
					AND w.account_id = d.account_id AND w.deal_id = d.deal_id AND w.rule = d.rule AND w.arose_at = d.arose_at
					AND w.task_id IS NOT DISTINCT FROM d.task_id
				LIMIT 1) AS v ON true
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
				CASE WHEN v.waived_at IS NOT NULL THEN 'waived' ELSE 'breach' END,
				v.severity
			FROM regcrm.violation v
			WHERE v.withdrawn_at IS NULL
				AND NOT EXISTS (
					SELECT FROM regcrm.deadline d
					WHERE d.account_id = v.account_id AND d.deal_id = v.deal_id AND d.rule = v.rule AND d.arose_at = v.arose_at
						AND d.task_id IS NOT DISTINCT FROM v.task_id)) AS u;

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
			o.outcome,
			o.severity,
			o.outcome_name,
			o.severity_name
		FROM regcrm.account_days d
		-- by themselves: where row security is on, moments that are still to be computed are no key to an index
		CROSS JOIN LATERAL (SELECT d.starts_at, d.ends_at OFFSET 0) AS b
		CROSS JOIN LATERAL (
			SELECT u.*
			FROM regcrm.duties u
			WHERE u.account_id = d.account_id AND u.arose_at >= b.starts_at AND u.arose_at < b.ends_at
			OFFSET 0) AS o;

	PERFORM regcrm.setup_mart_views();

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
			c.violations,
			c.critical
		FROM (
			SELECT k.account_id,
				k.day,
				k.manager_id,
				sum(k.arisen)::bigint AS arisen,
				sum(k.met)::bigint AS met,
				sum(k.late)::bigint AS late,
				sum(k.missed)::bigint AS missed,
				sum(k.waived)::bigint AS waived,
				sum(k.cancelled)::bigint AS cancelled,
				sum(k.pending)::bigint AS pending,
				sum(k.waiting)::bigint AS waiting,
				sum(k.breaches_at_once)::bigint AS breaches_at_once,
				sum(k.violations)::bigint AS violations,
				sum(k.critical)::bigint AS critical
			FROM regcrm.duty_counts k
			WHERE k.manager_id IS NOT NULL
			GROUP BY k.account_id, k.day, k.manager_id) AS c
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
			r.enabled AND r.valid @> now() AS is_in_force,
			array_position('{critical,major,minor,info}', r.severity) AS severity_rank
		FROM regcrm.account_now a
		JOIN regcrm.rule r ON r.regulation = a.regulation
		LEFT JOIN regcrm.stage_def s ON s.stage = r.stage::text
		ORDER BY a.account_id, r.code, (r.enabled AND r.valid @> now()) DESC, upper(r.valid) DESC, lower(r.valid) DESC NULLS LAST;

	CREATE OR REPLACE VIEW regcrm.rule_compliance_daily WITH (security_invoker = true) AS
		SELECT c.account_id,
			c.day,
			c.rule,
			r.title,
			r.clause,
			r.stage,
			r.stage_name,
			r.severity,
			regcrm.label('severity', r.severity) AS severity_name,
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
			c.violations,
			r.form,
			regcrm.label('form', r.form) AS form_name,
			regcrm.label('duty_of', r.duty_of) AS duty_of_name,
			r.stage_position,
			r.severity_rank
		FROM (
			SELECT k.account_id,
				k.day,
				k.rule,
				sum(k.arisen)::bigint AS arisen,
				sum(k.met)::bigint AS met,
				sum(k.late)::bigint AS late,
				sum(k.missed)::bigint AS missed,
				sum(k.waived)::bigint AS waived,
				sum(k.cancelled)::bigint AS cancelled,
				sum(k.pending)::bigint AS pending,
				sum(k.waiting)::bigint AS waiting,
				sum(k.breaches_at_once)::bigint AS breaches_at_once,
				sum(k.violations)::bigint AS violations
			FROM regcrm.duty_counts k
			GROUP BY k.account_id, k.day, k.rule) AS c
		LEFT JOIN regcrm.account_rules r ON r.account_id = c.account_id AND r.rule = c.rule;

	CREATE OR REPLACE VIEW regcrm.rule_compliance WITH (security_invoker = true) AS
		SELECT r.account_id,
			r.rule,
			r.title,
			r.clause,
			r.form,
			r.stage,
			r.stage_name,
			r.severity,
			regcrm.label('severity', r.severity) AS severity_name,
			r.duty_of,
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
			COALESCE(c.violations, 0) AS violations,
			r.basis,
			regcrm.label('basis', r.basis) AS basis_name,
			r.is_in_force,
			regcrm.label('form', r.form) AS form_name,
			regcrm.label('duty_of', r.duty_of) AS duty_of_name,
			r.stage_position,
			r.severity_rank
		FROM regcrm.account_rules r
		LEFT JOIN (
			SELECT k.account_id,
				k.rule,
				sum(k.arisen)::bigint AS arisen,
				sum(k.met)::bigint AS met,
				sum(k.late)::bigint AS late,
				sum(k.missed)::bigint AS missed,
				sum(k.waived)::bigint AS waived,
				sum(k.cancelled)::bigint AS cancelled,
				sum(k.pending)::bigint AS pending,
				sum(k.waiting)::bigint AS waiting,
				sum(k.breaches_at_once)::bigint AS breaches_at_once,
				sum(k.violations)::bigint AS violations
			FROM regcrm.duty_counts k
			GROUP BY k.account_id, k.rule) AS c ON c.account_id = r.account_id AND c.rule = r.rule;

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
			e.counted_at - d.created_at AS response,
			CASE WHEN least(d.created_at, e.counted_at) > a.calendar_from AND greatest(d.created_at, e.counted_at) < a.calendar_until
				THEN regcrm.business_time_between(d.created_at, e.counted_at, a.calendar, a.time_zone)
			END AS response_business,
			CASE WHEN e.at IS NULL AND u.is_open THEN a.as_of - d.created_at END AS waiting_for,
			s.name AS stage_name,
			p.name AS pipeline_name,
			b.name AS first_touch_by_name,
			(d.created_at AT TIME ZONE a.time_zone)::date AS arrived_day,
			extract(hour FROM d.created_at AT TIME ZONE a.time_zone)::integer AS arrived_hour,
			extract(isodow FROM d.created_at AT TIME ZONE a.time_zone)::integer AS arrived_weekday,
			CASE WHEN d.created_at > a.calendar_from AND d.created_at < a.calendar_until
				THEN regcrm.business_time_between(d.created_at, d.created_at + interval '1 min', a.calendar, a.time_zone) > interval '0'
			END AS arrived_in_hours,
			round(extract(epoch FROM e.counted_at - d.created_at) / 60, 1) AS response_minutes,
			CASE WHEN least(d.created_at, e.counted_at) > a.calendar_from AND greatest(d.created_at, e.counted_at) < a.calendar_until
				THEN round(extract(epoch FROM regcrm.business_time_between(d.created_at, e.counted_at, a.calendar, a.time_zone)) / 60, 1)
			END AS response_business_minutes,
			-- an untouched deal counts against the share once its fifteen minutes are over
			CASE WHEN least(d.created_at, u.until) > a.calendar_from AND greatest(d.created_at, u.until) < a.calendar_until
				THEN CASE WHEN regcrm.business_time_between(d.created_at, u.until, a.calendar, a.time_zone) > interval '15 min' THEN false
					WHEN e.at IS NOT NULL THEN true END
			END AS is_within_15,
			CASE WHEN e.at IS NULL AND u.is_open AND isfinite(a.as_of) THEN round(extract(epoch FROM a.as_of - d.created_at) / 60, 1) END AS waiting_minutes
		FROM regcrm.deal d
		JOIN regcrm.account_now a ON a.account_id = d.account_id
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = d.manager_id
		LEFT JOIN regcrm.stage_def s ON s.stage = d.stage::text
		LEFT JOIN regcrm.pipeline p ON p.account_id = d.account_id AND p.id = d.pipeline_id
		LEFT JOIN regcrm.regulation g ON g.code = a.regulation
		LEFT JOIN LATERAL (
			-- what came before the deal counts as at its creation
			SELECT e.at, greatest(e.at, d.created_at) AS counted_at, e.kind, e.actor_id
			FROM regcrm.event e
			LEFT JOIN regcrm.manager w ON w.account_id = e.account_id AND w.id = e.actor_id
			WHERE e.account_id = d.account_id AND e.deal_id = d.id
				AND (e.kind = 'call_out'
					OR e.kind = 'call_in' AND COALESCE(e.answered, e.duration >= g.min_talk)
					OR e.kind = 'message_out' AND NOT e.by_bot)
				AND w.in_scope IS NOT FALSE
			ORDER BY e.at, COALESCE(e.source_id, ''), e.id
			LIMIT 1) AS e ON true
		LEFT JOIN regcrm.manager b ON b.account_id = d.account_id AND b.id = e.actor_id
		CROSS JOIN LATERAL (
			SELECT o.is_open, COALESCE(e.counted_at, CASE WHEN o.is_open THEN a.as_of END) AS until
			-- «Не целевой» closes a deal for the regulation, while amoCRM gives it no closed_at
			FROM (SELECT d.closed_at IS NULL AND COALESCE(s.outcome, 'open') = 'open' AS is_open) AS o) AS u
		WHERE NOT d.is_deleted
			AND (d.stage IS NOT NULL
				OR EXISTS (
					SELECT FROM regcrm.event k
					WHERE k.account_id = d.account_id AND k.deal_id = d.id AND k.kind = 'stage' AND k.to_stage IS NOT NULL));

	CREATE OR REPLACE VIEW regcrm.stage_dwell WITH (security_invoker = true) AS
		SELECT v.account_id,
			v.deal_id,
			v.deal_name,
			a.deal_url_start || v.deal_id AS deal_url,
			v.pipeline_id,
			v.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			s.stage,
			s.name AS stage_name,
			s.position AS stage_position,
			v.came_from AS from_stage,
			v.entered_at,
			v.left_at,
			v.left_for AS to_stage,
			CASE WHEN isfinite(COALESCE(v.left_at, a.as_of)) THEN COALESCE(v.left_at, a.as_of) - v.entered_at END AS dwell,
			CASE WHEN least(v.entered_at, COALESCE(v.left_at, a.as_of)) > a.calendar_from AND greatest(v.entered_at, COALESCE(v.left_at, a.as_of)) < a.calendar_until
				THEN regcrm.business_time_between(v.entered_at, COALESCE(v.left_at, a.as_of), a.calendar, a.time_zone)
			END AS dwell_business,
			v.left_at IS NULL AS is_current,
			COALESCE(v.left_for = v.came_from AND v.left_at <= v.entered_at + g.undo_window, false) AS is_slip,
			p.name AS pipeline_name,
			f.name AS from_stage_name,
			t.name AS to_stage_name,
			CASE WHEN isfinite(COALESCE(v.left_at, a.as_of)) THEN round(extract(epoch FROM COALESCE(v.left_at, a.as_of) - v.entered_at) / 3600, 2) END AS dwell_hours,
			CASE WHEN least(v.entered_at, COALESCE(v.left_at, a.as_of)) > a.calendar_from AND greatest(v.entered_at, COALESCE(v.left_at, a.as_of)) < a.calendar_until
				THEN round(extract(epoch FROM regcrm.business_time_between(v.entered_at, COALESCE(v.left_at, a.as_of), a.calendar, a.time_zone)) / 3600, 2)
			END AS dwell_business_hours
		FROM (
			-- Where the deal was when it began: its first move tells, else where it is now.
			-- Both halves begin at the account, so that a period reaches the index of (account_id, time).
			SELECT d.account_id,
				d.id AS deal_id,
				d.name AS deal_name,
				d.pipeline_id,
				d.manager_id,
				CASE WHEN f.at IS NULL THEN d.stage ELSE f.from_stage END::text AS stage,
				NULL AS came_from,
				d.created_at AS entered_at,
				COALESCE(f.at, d.deleted_at) AS left_at,
				f.to_stage::text AS left_for
			FROM regcrm.account z
			JOIN regcrm.deal d ON d.account_id = z.id
			LEFT JOIN LATERAL (
				SELECT e.at, e.from_stage, e.to_stage
				FROM regcrm.event e
				WHERE e.account_id = d.account_id AND e.deal_id = d.id AND e.kind = 'stage'
					-- another status of the same stage is no move (out of «Неразобранное»)
					AND e.from_stage::text IS DISTINCT FROM e.to_stage::text
				ORDER BY e.at, COALESCE(e.source_id, ''), e.id
				LIMIT 1) AS f ON true
			WHERE f.at IS NULL OR f.at > d.created_at
			UNION ALL
			SELECT e.account_id,
				e.deal_id,
				d.name,
				d.pipeline_id,
				d.manager_id,
				e.to_stage::text,
				COALESCE(e.from_stage, b.to_stage)::text,
				e.at,
				COALESCE(n.at, d.deleted_at),
				n.to_stage::text
			FROM regcrm.account z
			JOIN regcrm.event e ON e.account_id = z.id
			JOIN regcrm.deal d ON d.account_id = e.account_id AND d.id = e.deal_id
			LEFT JOIN LATERAL (
				SELECT x.to_stage
				FROM regcrm.event x
				WHERE e.from_stage IS NULL AND x.account_id = e.account_id AND x.deal_id = e.deal_id AND x.kind = 'stage'
					AND (x.at, COALESCE(x.source_id, ''), x.id) < (e.at, COALESCE(e.source_id, ''), e.id)
				ORDER BY x.at DESC, COALESCE(x.source_id, '') DESC, x.id DESC
				LIMIT 1) AS b ON true
			LEFT JOIN LATERAL (
				SELECT x.at, x.to_stage
				FROM regcrm.event x
				WHERE x.account_id = e.account_id AND x.deal_id = e.deal_id AND x.kind = 'stage'
					AND (x.at, COALESCE(x.source_id, ''), x.id) > (e.at, COALESCE(e.source_id, ''), e.id)
					AND x.to_stage::text IS DISTINCT FROM e.to_stage::text
				ORDER BY x.at, COALESCE(x.source_id, ''), x.id
				LIMIT 1) AS n ON true
			WHERE e.kind = 'stage'
				AND COALESCE(e.from_stage, b.to_stage)::text IS DISTINCT FROM e.to_stage::text) AS v
		JOIN regcrm.account_now a ON a.account_id = v.account_id
		JOIN regcrm.stage_def s ON s.stage = v.stage
		LEFT JOIN regcrm.manager m ON m.account_id = v.account_id AND m.id = v.manager_id
		LEFT JOIN regcrm.regulation g ON g.code = a.regulation
		LEFT JOIN regcrm.pipeline p ON p.account_id = v.account_id AND p.id = v.pipeline_id
		LEFT JOIN regcrm.stage_def f ON f.stage = v.came_from
		LEFT JOIN regcrm.stage_def t ON t.stage = v.left_for;

	-- The deals created on a day, and how far they have come.
	CREATE OR REPLACE VIEW regcrm.funnel_daily WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.day,
			f.pipeline_id,
			p.name AS pipeline_name,
			s.stage,
			s.name AS stage_name,
			s.position AS stage_position,
			f.deals,
			f.reached,
			f.now_here,
			f.won_after
		FROM regcrm.account_days d
		CROSS JOIN LATERAL (
			WITH cohort AS MATERIALIZED (
				SELECT l.id, l.pipeline_id, l.stage, ARRAY(
						SELECT DISTINCT w.stage FROM regcrm.stage_dwell w
						WHERE w.account_id = l.account_id AND w.deal_id = l.id AND NOT w.is_slip) AS visited
				FROM regcrm.deal l
				WHERE l.account_id = d.account_id AND l.created_at >= d.starts_at AND l.created_at < d.ends_at AND NOT l.is_deleted)
			SELECT c.pipeline_id,
				s.stage,
				count(*) AS deals,
				count(*) FILTER (WHERE s.stage = ANY (c.visited)) AS reached,
				count(*) FILTER (WHERE s.stage = c.stage::text) AS now_here,
				count(*) FILTER (WHERE s.stage = ANY (c.visited) AND n.outcome = 'won') AS won_after
			FROM cohort c
			CROSS JOIN regcrm.stage_def s
			LEFT JOIN regcrm.stage_def n ON n.stage = c.stage::text
			WHERE c.visited <> '{}'
			GROUP BY c.pipeline_id, s.stage) AS f
		JOIN regcrm.stage_def s ON s.stage = f.stage::text
		LEFT JOIN regcrm.pipeline p ON p.account_id = d.account_id AND p.id = f.pipeline_id;

	-- All deals in one pass over the moves; what a visit and a slip are is as in
	-- stage_dwell.  Moves to one stage in a row (run) end where the next run begins.
	CREATE OR REPLACE VIEW regcrm.funnel WITH (security_invoker = true) AS
		WITH moved AS (
			SELECT e.account_id, e.deal_id, e.at, e.to_stage::text AS stage, e.from_stage::text AS from_stage,
				lag(e.to_stage::text) OVER w AS before,
				lag(e.at) OVER w IS NULL AS is_first,
				e.id, COALESCE(e.source_id, '') AS source_id
			FROM regcrm.event e
			WHERE e.kind = 'stage' AND e.deal_id IS NOT NULL
			WINDOW w AS (PARTITION BY e.account_id, e.deal_id ORDER BY e.at, COALESCE(e.source_id, ''), e.id)),
		run AS (
			SELECT m.*, count(*) FILTER (WHERE m.is_first OR m.stage IS DISTINCT FROM m.before)
				OVER (PARTITION BY m.account_id, m.deal_id ORDER BY m.at, m.source_id, m.id) AS run
			FROM moved m),
		visit AS (
			SELECT r.account_id, r.deal_id, r.stage, r.at, COALESCE(r.from_stage, r.before) AS came_from,
				min(r.at) OVER w AS left_at, min(r.stage) OVER w AS left_for
			FROM run r
			WINDOW w AS (PARTITION BY r.account_id, r.deal_id ORDER BY r.run GROUPS BETWEEN 1 FOLLOWING AND 1 FOLLOWING)),
		reached AS (
			SELECT v.account_id, v.deal_id, v.stage
			FROM visit v
			JOIN regcrm.account a ON a.id = v.account_id
			LEFT JOIN regcrm.regulation g ON g.code = a.regulation
			WHERE v.came_from IS DISTINCT FROM v.stage
				AND NOT COALESCE(v.left_for = v.came_from AND v.left_at <= v.at + g.undo_window, false)
			UNION
			-- where the deal began
			SELECT d.account_id, d.id, CASE WHEN m.deal_id IS NULL THEN d.stage::text ELSE m.from_stage END
			FROM regcrm.deal d
			LEFT JOIN moved m ON m.account_id = d.account_id AND m.deal_id = d.id AND m.is_first
			WHERE m.deal_id IS NULL OR m.at > d.created_at),
		cohort AS (
			SELECT d.account_id, d.pipeline_id, d.stage::text AS stage, n.outcome, r.visited
			FROM (
				SELECT r.account_id, r.deal_id, array_agg(r.stage) AS visited
				FROM reached r
				JOIN regcrm.stage_def s ON s.stage = r.stage
				GROUP BY r.account_id, r.deal_id) AS r
			JOIN regcrm.deal d ON d.account_id = r.account_id AND d.id = r.deal_id AND NOT d.is_deleted
			LEFT JOIN regcrm.stage_def n ON n.stage = d.stage::text)
		SELECT f.account_id,
			f.pipeline_id,
			p.name AS pipeline_name,
			s.stage,
			s.name AS stage_name,
			s.position AS stage_position,
			f.deals,
			f.reached,
			round(100.0 * f.reached / f.deals, 1) AS reached_share,
			f.now_here,
			f.won_after,
			round(100.0 * f.won_after / NULLIF(f.reached, 0), 1) AS won_share
		FROM (
			SELECT c.account_id, c.pipeline_id, s.stage,
				count(*) AS deals,
				count(*) FILTER (WHERE s.stage = ANY (c.visited)) AS reached,
				count(*) FILTER (WHERE s.stage = c.stage) AS now_here,
				count(*) FILTER (WHERE s.stage = ANY (c.visited) AND c.outcome = 'won') AS won_after
			FROM cohort c
			CROSS JOIN regcrm.stage_def s
			GROUP BY c.account_id, c.pipeline_id, s.stage) AS f
		JOIN regcrm.stage_def s ON s.stage = f.stage
		LEFT JOIN regcrm.pipeline p ON p.account_id = f.account_id AND p.id = f.pipeline_id;

	CREATE OR REPLACE VIEW regcrm.upcoming_deadlines WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.deal_id,
			l.name AS deal_name,
			a.deal_url_start || d.deal_id AS deal_url,
			d.rule,
			r.title,
			r.clause,
			r.severity,
			regcrm.label('severity', r.severity) AS severity_name,
			r.duty_of,
			d.stage::text AS stage,
			s.name AS stage_name,
			d.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			d.task_id,
			t.body AS task_body,
			d.arose_at,
			d.warn_at,
			d.due_at,
			CASE WHEN isfinite(d.due_at) THEN d.due_at - a.as_of END AS time_left,
			CASE WHEN r.clock = 'business' AND d.due_at > a.as_of AND d.due_at < a.calendar_until
				THEN regcrm.business_time_between(a.as_of, d.due_at, a.calendar, a.time_zone)
			END AS time_left_business,
			d.state = 'warned' AS is_warned,
			d.due_at <= now() AS is_waiting_for_data,
			-- of an account that SQL writes nothing is waited for but the clock
			CASE WHEN k.known_until IS NOT NULL AND d.due_at <= now() AND d.due_at > COALESCE(a.as_of, '-infinity')
				THEN a.as_of
			END AS waiting_for_data_since
		FROM regcrm.deadline d
		JOIN regcrm.account_now a ON a.account_id = d.account_id
		JOIN regcrm.account k ON k.id = d.account_id
		LEFT JOIN regcrm.deal l ON l.account_id = d.account_id AND l.id = d.deal_id
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = d.manager_id
		LEFT JOIN regcrm.task t ON t.account_id = d.account_id AND t.id = d.task_id
		LEFT JOIN regcrm.stage_def s ON s.stage = d.stage::text
		LEFT JOIN regcrm.rule r ON r.regulation = a.regulation AND r.code = d.rule AND r.valid @> d.arose_at
		WHERE d.state IN ('pending', 'warned');

	CREATE OR REPLACE VIEW regcrm.deal_health WITH (security_invoker = true) AS
		SELECT d.account_id,
			d.id AS deal_id,
			d.name AS deal_name,
			a.deal_url_start || d.id AS deal_url,
			d.pipeline_id,
			d.price,
			d.stage::text AS stage,
			s.name AS stage_name,
			d.manager_id,
			m.name AS manager_name,
			m.group_name AS manager_group,
			h.health,
			regcrm.label('health', h.health) AS health_name,
			o.violations AS open_violations,
			o.critical AS open_critical,
			o.missing,
			n.due_at AS next_due_at,
			n.title AS next_due_title,
			CASE WHEN isfinite(n.due_at) THEN n.due_at - a.as_of END AS time_left,
			n.expected,
			k.open_tasks,
			k.next_task_at,
			d.created_at,
			e.at AS entered_at,
			a.as_of - e.at AS dwell,
			p.name AS pipeline_name,
			s.position AS stage_position,
			o.rules AS broken_rules,
			k.overdue_tasks,
			CASE WHEN isfinite(a.as_of) THEN round(extract(epoch FROM a.as_of - e.at) / 3600, 2) END AS dwell_hours,
			CASE WHEN isfinite(n.due_at) THEN round(extract(epoch FROM n.due_at - a.as_of) / 60, 1) END AS minutes_left,
			(e.at AT TIME ZONE a.time_zone)::date AS entered_day
		FROM regcrm.deal d
		JOIN regcrm.account_now a ON a.account_id = d.account_id
		LEFT JOIN regcrm.stage_def s ON s.stage = d.stage::text
		LEFT JOIN regcrm.manager m ON m.account_id = d.account_id AND m.id = d.manager_id
		LEFT JOIN regcrm.pipeline p ON p.account_id = d.account_id AND p.id = d.pipeline_id
		CROSS JOIN LATERAL (
			SELECT count(*) AS violations,
				count(*) FILTER (WHERE v.severity = 'critical') AS critical,
				string_agg(COALESCE(r.title, v.rule), '; ' ORDER BY v.breached_at, v.rule) AS missing,
				string_agg(v.rule, ', ' ORDER BY v.breached_at, v.rule) AS rules
			FROM regcrm.violation v
			LEFT JOIN regcrm.rule r ON r.regulation = a.regulation AND r.code = v.rule AND r.valid @> v.arose_at
			WHERE v.account_id = d.account_id AND v.deal_id = d.id
				AND v.resolved_at IS NULL AND v.waived_at IS NULL AND v.withdrawn_at IS NULL) AS o
		CROSS JOIN LATERAL (
			SELECT min(w.due_at) AS due_at,
				(array_agg(COALESCE(r.title, w.rule) ORDER BY w.due_at, w.rule))[1] AS title,
				string_agg(COALESCE(r.title, w.rule), '; ' ORDER BY w.due_at, w.rule) AS expected,
				COALESCE(bool_or(w.state = 'warned'), false) AS is_warned
			FROM regcrm.deadline w
			LEFT JOIN regcrm.rule r ON r.regulation = a.regulation AND r.code = w.rule AND r.valid @> w.arose_at
			WHERE w.account_id = d.account_id AND w.deal_id = d.id AND w.state IN ('pending', 'warned')) AS n
		CROSS JOIN LATERAL (
			SELECT count(*) AS open_tasks, min(t.due_at) AS next_task_at, count(*) FILTER (WHERE t.due_at < a.as_of) AS overdue_tasks
			FROM regcrm.task t
			WHERE t.account_id = d.account_id AND t.deal_id = d.id AND t.completed_at IS NULL AND t.deleted_at IS NULL) AS k
		CROSS JOIN LATERAL (
			SELECT CASE WHEN o.violations > 0 THEN 'broken' WHEN n.is_warned THEN 'due' ELSE 'fine' END AS health) AS h
		LEFT JOIN LATERAL (
			SELECT COALESCE(max(x.at), d.created_at) AS at
			FROM regcrm.event x
			WHERE x.account_id = d.account_id AND x.deal_id = d.id AND x.kind = 'stage'
				AND x.from_stage::text IS DISTINCT FROM x.to_stage::text) AS e ON true
		WHERE NOT d.is_deleted
			AND (s.outcome = 'open'
				OR d.stage IS NULL AND EXISTS (
					SELECT FROM regcrm.event x
					WHERE x.account_id = d.account_id AND x.deal_id = d.id AND x.kind = 'stage' AND x.to_stage IS NOT NULL));

	CREATE OR REPLACE VIEW regcrm.regulation_text WITH (security_invoker = true) AS
		SELECT r.regulation,
			r.code AS rule,
			s.name AS stage_name,
			r.clause,
			r.title,
			concat_ws('; ',
				CASE r.form
					WHEN 'flow' THEN 'переходы только по схеме (regulation_moves)'
					WHEN 'enter' THEN 'проверяется при входе на этап' || COALESCE(', ' || r.nth || '-м', '')
					WHEN 'leave' THEN 'проверяется при уходе с этапа'
					WHEN 'always' THEN 'проверяется всё время на этапе'
					WHEN 'never' THEN 'запрещено' || CASE WHEN r.scope = 'after' THEN ' после этапа' ELSE '' END
					WHEN 'attest' THEN 'оценивает человек'
				END,
				CASE
					WHEN r.by = 'task_due' THEN 'срок: срок задачи' || COALESCE(' + ' || regcrm.duration_text(r.within), '')
					WHEN r.by IS NOT NULL THEN 'срок: ' || r.by || COALESCE(' + ' || regcrm.duration_text(r.within), '')
					WHEN r.form = 'within' THEN 'срок: ' || regcrm.duration_text(r.within)
					WHEN r.within > interval '0' THEN 'допуск: ' || regcrm.duration_text(r.within)
				END || CASE WHEN r.clock = 'business' THEN ' рабочего времени' ELSE '' END,
				CASE WHEN r.by IS NULL THEN 'предупреждение через ' ELSE 'предупреждение за ' END || regcrm.duration_text(r.warn)
			) AS how,
			regcrm.label('severity', r.severity) AS severity_name,
			regcrm.label('duty_of', r.duty_of) AS duty_of_name,
			regcrm.label('action', r.action) AS action_name,
			regcrm.label('basis', r.basis) AS basis_name,
			r.stage::text AS stage,
			s.position AS stage_position,
			r.form,
			r.event,
			r.nth,
			array_to_string(r.expect, ', ') AS expect,
			array_to_string(r.unless, ', ') AS unless,
			r.scope,
			r.within,
			r.by,
			r.warn,
			r.clock,
			r.severity,
			r.duty_of,
			r.action,
			r.basis,
			lower(r.valid) AS valid_from,
			upper(r.valid) AS valid_until,
			regcrm.label('form', r.form) AS form_name,
			regcrm.label('clock', r.clock) AS clock_name,
			array_position('{critical,major,minor,info}', r.severity) AS severity_rank
		FROM regcrm.rule r
		LEFT JOIN regcrm.stage_def s ON s.stage = r.stage::text
		WHERE r.enabled AND r.valid @> now();

	CREATE OR REPLACE VIEW regcrm.regulation_moves WITH (security_invoker = true) AS
		SELECT t.regulation,
			t.from_stage::text AS from_stage,
			COALESCE(f.name, 'начало') AS from_stage_name,
			t.to_stage::text AS to_stage,
			s.name AS to_stage_name,
			t.comment_required,
			t.clause,
			t.basis,
			regcrm.label('basis', t.basis) AS basis_name
		FROM regcrm.transition t
		LEFT JOIN regcrm.stage_def f ON f.stage = t.from_stage::text
		LEFT JOIN regcrm.stage_def s ON s.stage = t.to_stage::text
		WHERE t.valid @> now();

	CREATE OR REPLACE VIEW regcrm.sync_status WITH (security_invoker = true) AS
		SELECT a.id AS account_id,
			a.name AS account_name,
			a.base_url,
			a.known_until IS NOT NULL AS is_synced,
			a.state,
			a.state_reason,
			a.paused,
			a.known_from,
			a.known_until,
			CASE WHEN isfinite(a.known_until) THEN now() - a.known_until END AS lag,
			s.updated_at AS last_read_at,
			s.rows_read,
			s.requests,
			s.last_error,
			s.last_error_at,
			s.next_try_at,
			q.quarantined,
			w.sync_runs,
			w.clock_runs,
			s.entity,
			s.read_from,
			s.read_until,
			now() - s.read_until AS entity_lag,
			s.window_from,
			s.window_to,
			s.page,
			s.load_progress,
			CASE WHEN s.load_progress > 0 AND s.load_progress < 1 AND a.loading
				THEN now() + (now() - a.load_began_at) * ((1 - s.load_progress) / s.load_progress)::double precision END AS load_eta,
			regcrm.label('entity', s.entity) AS entity_name
		FROM regcrm.account a
		LEFT JOIN LATERAL (
			SELECT y.entity,
				greatest(y.updated_at, h.updated_at) AS updated_at,
				y.rows_read + COALESCE(h.rows_read, 0) AS rows_read,
				y.requests + COALESCE(h.requests, 0) AS requests,
				COALESCE(y.last_error, h.last_error) AS last_error,
				COALESCE(y.last_error_at, h.last_error_at) AS last_error_at,
				COALESCE(y.next_try_at, h.next_try_at) AS next_try_at,
				h.done_from AS read_from,
				y.done_to AS read_until,
				COALESCE(y.window_from, h.window_from) AS window_from,
				COALESCE(y.window_to, h.window_to) AS window_to,
				COALESCE(y.page, h.page) AS page,
				CASE WHEN h.done_from = '-infinity' THEN 1
					WHEN isfinite(h.done_from) AND begun.at < y.done_to THEN greatest(0, least(0.9999, round(
						(extract(epoch FROM y.done_to - h.done_from) / extract(epoch FROM y.done_to - begun.at))::numeric, 4))) END AS load_progress
			FROM regcrm.sync_state y
			LEFT JOIN regcrm.sync_state h ON h.account_id = y.account_id AND h.entity = y.entity || '/history'
			-- history begins with the first deal, once all are here, else with the account
			CROSS JOIN LATERAL (
				SELECT COALESCE(
					CASE WHEN EXISTS (SELECT FROM regcrm.sync_state l
							WHERE l.account_id = a.id AND l.entity = 'leads/history' AND l.done_from = '-infinity')
						THEN (SELECT min(d.created_at) FROM regcrm.deal d WHERE d.account_id = a.id) END,
					regcrm.json_time(a.raw -> 'created_at'), timestamptz '2008-01-01 00:00:00+00') AS at) AS begun
			WHERE y.account_id = a.id AND y.entity NOT LIKE '%/history') AS s ON true
		CROSS JOIN LATERAL (
			SELECT count(*) AS quarantined
			FROM regcrm.quarantine z
			WHERE z.account_id = a.id AND z.resolved_at IS NULL
				AND (s.entity IS NULL OR z.entity = CASE WHEN s.entity LIKE '%\_notes' THEN 'notes' WHEN s.entity = 'leads_deleted' THEN 'leads' ELSE s.entity END)) AS q
		CROSS JOIN (
			-- who may not see other roles' processes does not know
			SELECT COALESCE(bool_or(p.backend_type = 'regcrm sync'), CASE WHEN s.sees_all THEN false END) AS sync_runs,
				COALESCE(bool_or(p.backend_type = 'regcrm clock'), CASE WHEN s.sees_all THEN false END) AS clock_runs
			FROM (SELECT pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all) AS s
			LEFT JOIN pg_stat_activity p ON p.datname = current_database() AND p.backend_type LIKE 'regcrm %'
			GROUP BY s.sees_all) AS w;

	CREATE OR REPLACE VIEW regcrm.sync_accounts WITH (security_invoker = true) AS
		SELECT a.id AS account_id,
			a.name AS account_name,
			a.base_url,
			a.known_until IS NOT NULL AS is_synced,
			a.state,
			a.state_reason,
			a.paused,
			a.known_from,
			a.known_until,
			CASE WHEN isfinite(a.known_until) THEN now() - a.known_until END AS lag,
			s.last_read_at,
			s.rows_read,
			s.requests,
			s.last_error,
			s.last_error_at,
			s.next_try_at,
			q.quarantined,
			a.loading,
			CASE WHEN a.known_until IS NOT NULL THEN s.load_progress END AS load_progress,
			s.load_eta,
			a.load_began_at,
			a.loaded_at,
			a.load_requests,
			s.quiet_requests AS quiet_pass_requests,
			round(s.quiet_requests * 60 / extract(epoch FROM COALESCE(current_setting('regcrm.sync_interval', true)::interval, interval '1 minute'))::numeric, 1)
				AS quiet_minute_requests,
			a.reconciled_at,
			s.wanted,
			a.rejudged_at,
			-- changed since, or by who was under way then (transactions are numbered anew where a dump is restored)
			NOT a.loading AND EXISTS (
				SELECT FROM (SELECT 'all', '', a.judging_changed_at, a.judging_changed_xid
					UNION ALL SELECT j.kind, j.name, j.at, j.xid FROM regcrm.judging_change j) c(kind, name, at, xid)
				WHERE (c.at > a.rejudged_at
						OR c.at > a.rejudged_at - interval '1 day' AND NOT pg_visible_in_snapshot(c.xid, a.rejudged_beside))
					AND (c.kind = 'all' OR c.kind = 'regulation' AND c.name = a.regulation
						OR c.kind = 'calendar' AND c.name = a.calendar)) AS rejudge_due
		FROM regcrm.account a
		CROSS JOIN LATERAL (
			SELECT max(y.last_read_at) AS last_read_at,
				sum(y.rows_read)::bigint AS rows_read,
				sum(y.requests)::bigint AS requests,
				(array_agg(y.entity || ': ' || y.last_error ORDER BY y.last_error_at DESC) FILTER (WHERE y.last_error IS NOT NULL))[1] AS last_error,
				max(y.last_error_at) AS last_error_at,
				max(y.next_try_at) AS next_try_at,
				min(y.load_progress) AS load_progress,
				max(y.load_eta) AS load_eta,
				(SELECT p.quiet_requests FROM regcrm.sync_state p WHERE p.account_id = a.id AND p.entity = 'pass') AS quiet_requests,
				(SELECT count(*) FROM regcrm.wanted n WHERE n.account_id = a.id AND n.gone_at IS NULL) AS wanted
			FROM regcrm.sync_status y
			WHERE y.account_id = a.id) AS s
		CROSS JOIN LATERAL (
			SELECT count(*) AS quarantined
			FROM regcrm.quarantine z
			WHERE z.account_id = a.id AND z.resolved_at IS NULL) AS q;

	PERFORM regcrm.setup_question_views();
	PERFORM regcrm.setup_story_view();
	PERFORM regcrm.setup_dictionary_view();

	FOR v IN
		SELECT c.oid, c.relname, m.meaning
		FROM (VALUES
			('account_now', 'Now, as each account sees it. Other views stand on it.'),
			('account_days', 'The days of each account''s life in its own time zone, from its first deal to today. Other views stand on it.'),
			('violations', 'Every breach of the regulation, readable. One row a breach. Filter periods by breached_at. Those that count are neither waived nor withdrawn.'),
			('open_violations', 'Breaches that someone can still put right: not resolved, waived or withdrawn.'),
			('duties', 'Every duty that arose, and every breach of a rule that sets no due moment, with what became of it. Filter periods by arose_at.'),
			('duties_daily', 'The view duties with the day, in the account''s time zone, on which each arose.'),
			('duty_counts', 'Duties counted by day, rule and manager. The scorecards add these up.'),
			('manager_scorecard', 'A manager, a day: what became of the duties that arose on it, and the breaches of it. Robots'' duties and users whom the regulation does not bind are left out.'),
			('account_rules', 'The rules of each account''s regulation: each code once, as in force now, else as last.'),
			('rule_compliance', 'A rule, all time: how often its duty arose and what became of it. A rule of form always arises only where something is missing, so its compliance says how many gaps were closed in time. Rules that set no due moment have no number of occasions; of them only breaches are counted (breaches_at_once).'),
			('rule_compliance_daily', 'A rule, a day: what became of the duties that arose on it.'),
			('first_response', 'Time from each deal''s creation to the manager''s first act towards the client (clause: Новые заявки, 1). A report of facts: rule NEW-1 judges them. Filter periods by created_at.'),
			('stage_dwell', 'Every visit of a deal to a stage, and how long it stayed. Stages that the mapping does not know are left out. Filter periods by entered_at.'),
			('funnel', 'All deals by stage: how many have ever reached it, are there now, were won after it. Deleted deals are left out.'),
			('funnel_daily', 'The deals created on a day, by stage: how many have reached it since. Add up days for a period; all stages stand in each.'),
			('deal_health', 'Every open deal: what is missing now, what is due next.'),
			('upcoming_deadlines', 'Duties that are running, with their due moments. Filter periods by due_at.'),
			('regulation_text', 'The rules in force now, readable.'),
			('regulation_moves', 'The legal moves between stages in force now.'),
			('sync_status', 'How far the sync has read each list of each account, what failed last, when it tries again, how far a first load is. One row an account and entity; columns up to lag and the last two of the workers are the account''s. One row an account: sync_accounts.'),
			('sync_accounts', 'How each account stands: up to when it is known, what failed last, what lies in quarantine, how far its first load is, whether a rejudge() is due.'),
			('mart_dirty_days', 'Days whose sums in mart_duty do not hold, since their duties or breaches were written to. Other views stand on it.'),
			('duty_counts_live', 'The view duty_counts without the mart: counted from deadline and violation. Slower; to compare.'),
			('account_weeks', 'The weeks of each account''s life in its own time zone, from its first deal to what is known. Other views stand on it.'),
			('manager_weekly', 'A manager, a week: what became of the duties that arose in it, beside the week before. Who broke how much, and is it getting better. Filter periods by week.'),
			('violations_weekly', 'A manager, a rule, a week: violations that happened in it, beside the week before. Who broke what. Rows of a manager null are robots'' failures. Filter periods by week.'),
			('violations_last_week', 'A manager, a rule: violations of the last seven days up to what is known, beside the seven before. Who broke what this week, on any day of it. Rows of a manager null are robots'' failures.'),
			('manager_last_week', 'A manager: what became of the duties that arose on the last seven days, today included, beside the seven before.'),
			('deal_closing', 'How each deal stands, and when its present stage closed it. Other views stand on it.'),
			('rule_deals', 'A deal and a rule that bound it while it was open: kept or broken, and how the deal ended. What rule_cost() counts. Filter periods by created_at.'),
			('response_daily', 'A manager, a day of arrival: how fast the deals that came were first touched. Filter periods by day.'),
			('stage_norms', 'An open stage: how long deals usually stay there (visits begun in the last 90 days), and how long those stand that are there now.'),
			('stuck_deals', 'Open deals that stand too long: longer than nine of ten visits to their stage did, or longer than the regulation allows.'),
			('deals_without_task', 'Open deals that have no open task now. A report of facts: whether the regulation asks for one there, is_violation tells.'),
			('deal_touches', 'A deal: how many touches before the client was reached, and before it was closed. Filter periods by created_at.'),
			('due_soon', 'Running duties that fall due within two hours of what is known, or have and wait for data.'),
			('lost_deals', 'A deal''s closing as lost: reason, and whether it was given. Closings taken back within undo_window are left out. Filter periods by lost_at.'),
			('loss_reasons_daily', 'A day, a stage, a reason: deals lost. Filter periods by day.'),
			('stage_returns', 'A deal''s return to a stage that it had left: ping-pong. Slips are left out. Filter periods by at.'),
			('task_pushes', 'Changes of tasks'' due dates, as amoCRM told of them. Filter periods by at.'),
			('tasks_closed', 'Tasks that people closed, with the batch they were closed in. Other views stand on it. Filter periods by day.'),
			('task_batches', 'Batches of five tasks or more that were closed in one go: no more than two minutes from one to the next. Filter periods by day.'),
			('tidy_up_daily', 'A manager, a day: tasks closed, in batches too, and due dates moved. Filter periods by day.'),
			('deal_timeline', 'Everything known of a deal, and its violations in their places. Give account_id and deal_id; order by at, place. deal_story() does both.'),
			('data_dictionary', 'What every object and column of regcrm means: its comments.')
			) AS m(name, meaning)
		JOIN pg_class c ON c.relname = m.name AND c.relnamespace = 'regcrm'::regnamespace
	LOOP
		PERFORM regcrm.describe(format('regcrm.%I', v.relname), v.meaning, VARIADIC ARRAY(
			SELECT u.word
			FROM pg_attribute a
			JOIN LATERAL (
				SELECT d.meaning
				FROM regcrm.view_columns() d
				WHERE d.name IN (a.attname, v.relname || '.' || a.attname)
				ORDER BY length(d.name) DESC
				LIMIT 1) AS d ON true
			CROSS JOIN LATERAL (VALUES (1, a.attname::text), (2, d.meaning)) AS u(place, word)
			WHERE a.attrelid = v.oid AND a.attnum > 0 AND NOT a.attisdropped
			ORDER BY a.attnum, u.place));
	END LOOP;

	IF to_regprocedure('regcrm.setup_mapping_views()') IS NOT NULL THEN
		PERFORM regcrm.setup_mapping_views();
	END IF;
END
$setup_views$;
COMMENT ON FUNCTION regcrm.setup_views() IS
	'For setup(): makes the views for reports, or replaces them by those of the installed version.';
