-- Deals that stand in "deciding" after three ordinary days: fifteen events and four tasks each, no rule broken.
-- :deals says how many.  Loaded unjudged, then judged, as any bulk load (docs/gate.md).
\set ON_ERROR_STOP 1
set regcrm.mode = 'off';
insert into regcrm.account (id, name, calendar, known_from) values (1, 'gate', null, '2020-01-01');
insert into regcrm.manager (account_id, id, name) select 1, n, 'Менеджер ' || n from generate_series(1, 10) n;
insert into regcrm.deal (account_id, id, name, price, stage, manager_id, created_at, updated_at, lead_date)
	select 1, n, 'Заявка ' || n, 30000, 'deciding', 1 + n % 10, t, now() - interval '1 day', t::date
	from generate_series(1, :deals) n, lateral (select now() - interval '3 days' - n % 3600 * interval '1 s' as t) x;
insert into regcrm.event (account_id, id, deal_id, at, kind, actor_id, by_bot, from_stage, to_stage, answered, duration, channel, scenario, field, value, body, source, source_id)
	select 1, d.id * 16 + e.n, d.id, d.created_at + e.after, e.kind, case when e.kind not in ('message_in', 'call_in') then d.manager_id end, false,
		e.from_stage::regcrm.stage, e.to_stage::regcrm.stage, e.answered, e.duration, e.channel, e.scenario, e.field, e.value, e.body,
		'amocrm:event', d.id || '-' || e.n
	from regcrm.deal d cross join (values
		(0, interval '0', 'stage', null, 'new', null::bool, null::interval, null, null, null, null, null),
		(1, '1 s', 'field', null, null, null, null, null, null, 'lead_date', '2026-01-01', null),
		(2, '5 min', 'call_out', null, null, false, null, null, null, null, null, null),
		(3, '8 min', 'call_out', null, null, true, '3 min', null, null, null, null, null),
		(4, '12 min', 'comment', null, null, null, null, null, null, null, null, 'Спрашивал про расписание занятий и стоимость'),
		(5, '12 min 10 s', 'scenario', null, null, null, null, null, 'in_work', null, null, null),
		(6, '12 min 10 s', 'stage', 'new', 'in_work', null, null, null, null, null, null, null),
		(7, '20 min', 'message_out', null, null, null, null, 'whatsapp', null, null, null, 'Отправляю расписание, как договорились'),
		(8, '40 min', 'call_in', null, null, true, '2 min', null, null, null, null, null),
		(9, '50 min', 'scenario', null, null, null, null, null, 'deciding', null, null, null),
		(10, '51 min', 'comment', null, null, null, null, null, null, null, null, 'Думает до четверга, советуется с женой'),
		(11, '51 min 10 s', 'field', null, null, null, null, null, null, 'pause_reason', 'советуется', null),
		(12, '51 min 20 s', 'stage', 'in_work', 'deciding', null, null, null, null, null, null, null),
		(13, '1 day 1 h', 'call_out', null, null, true, '4 min', null, null, null, null, null),
		(14, '2 days', 'call_out', null, null, true, '5 min', null, null, null, null, null))
		e (n, after, kind, from_stage, to_stage, answered, duration, channel, scenario, field, value, body)
	order by d.created_at + e.after;
update regcrm.deal set pause_reason = 'советуется';
insert into regcrm.task (account_id, id, deal_id, kind, body, manager_id, created_at, by_bot, due_at, completed_at)
	select 1, d.id * 4 + t.n, d.id, t.kind, t.body, d.manager_id, d.created_at + t.added, t.by_bot, d.created_at + t.due, d.created_at + t.done
	from regcrm.deal d cross join (values
		(0, 'process_request', 'Обработать заявку', interval '0', true, interval '15 min', interval '12 min 10 s'),
		(1, 'process_request', 'Обработать заявку', '12 min 10 s', true, '1 h', '51 min 20 s'),
		(2, 'other', 'Созвониться', '51 min 20 s', false, '1 day 1 h 30 min', '1 day 1 h 5 min'),
		(3, 'other', 'Узнать решение', '1 day 1 h 5 min', false, '6 days', null))
		t (n, kind, body, added, by_bot, due, done)
	order by d.created_at + t.added;
set regcrm.mode = 'enforce';
select regcrm.rejudge(1);
vacuum analyze;
