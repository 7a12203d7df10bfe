-- The rules that bear on gate_move.sql as a careful engineer would write them by hand, on the same tables, without regcrm:
-- row triggers that append history and refuse what can be refused at once, deferred constraint triggers that check what
-- must hold at the commit, once a transaction and deal, and keep the same ledger (deadline, next_moment).
--
-- Only what this move sets in motion is written out: FLOW; enter meeting (MEET-7, MEET-4, MEET-5E), always in meeting (MEET-1,
-- MEET-2, NEW-3), leaving deciding (DEC-8 met, the rest cancelled), scenarios (known; CHAT-10, CHAT-11; NEW-2M), tasks (CHAT-5, DEF-3
-- and the other rules about robots do not concern a manager's writes).  The whole regulation would be twenty times as long, and no faster.
\set ON_ERROR_STOP 1
create schema byhand;
create function byhand.deal_before() returns trigger language plpgsql as $$
begin
	if new.stage is null then
		raise exception 'deal % needs a stage', new.id using errcode = '23502';
	end if;
	if new.stage is distinct from old.stage and not exists (
		select from regcrm.transition t
		where t.regulation = 'idrive' and t.from_stage = old.stage::text and t.to_stage = new.stage::text and t.valid @> now())
	then
		raise exception 'deal % may not go from % to %', new.id, old.stage, new.stage using errcode = '23514', constraint = 'FLOW';
	end if;
	return new;
end $$;
create trigger byhand_before before update on regcrm.deal for each row execute function byhand.deal_before();

-- what the columns were becomes history
create function byhand.append_field(account bigint, deal bigint, field text, was text, is_ text) returns void language plpgsql as $$
begin
	insert into regcrm.event (account_id, deal_id, kind, field, value, value_before, source) values (account, deal, 'field', field, is_, was, 'byhand');
end $$;
create function byhand.deal_after() returns trigger language plpgsql as $$
begin
	if new.stage is distinct from old.stage then
		insert into regcrm.event (account_id, deal_id, kind, from_stage, to_stage, source) values (new.account_id, new.id, 'stage', old.stage, new.stage, 'byhand');
	end if;
	if new.manager_id is distinct from old.manager_id then
		insert into regcrm.event (account_id, deal_id, kind, value, value_before, source)
			values (new.account_id, new.id, 'responsible', new.manager_id::text, old.manager_id::text, 'byhand');
	end if;
	if new.lead_date is distinct from old.lead_date then perform byhand.append_field(new.account_id, new.id, 'lead_date', old.lead_date::text, new.lead_date::text); end if;
	if new.reason is distinct from old.reason then perform byhand.append_field(new.account_id, new.id, 'reason', old.reason, new.reason); end if;
	if new.pause_reason is distinct from old.pause_reason then perform byhand.append_field(new.account_id, new.id, 'pause_reason', old.pause_reason, new.pause_reason); end if;
	if new.meeting_at is distinct from old.meeting_at then perform byhand.append_field(new.account_id, new.id, 'meeting_at', old.meeting_at::text, new.meeting_at::text); end if;
	if new.return_on is distinct from old.return_on then perform byhand.append_field(new.account_id, new.id, 'return_on', old.return_on::text, new.return_on::text); end if;
	if new.agreed_at is distinct from old.agreed_at then perform byhand.append_field(new.account_id, new.id, 'agreed_at', old.agreed_at::text, new.agreed_at::text); end if;
	if new.signed_at is distinct from old.signed_at then perform byhand.append_field(new.account_id, new.id, 'signed_at', old.signed_at::text, new.signed_at::text); end if;
	if new.paid_at is distinct from old.paid_at then perform byhand.append_field(new.account_id, new.id, 'paid_at', old.paid_at::text, new.paid_at::text); end if;
	if new.skip_task_check is distinct from old.skip_task_check then
		perform byhand.append_field(new.account_id, new.id, 'skip_task_check', old.skip_task_check::text, new.skip_task_check::text);
	end if;
	return null;
end $$;
create trigger byhand_after after update on regcrm.deal for each row
	when (old.* is distinct from new.*) execute function byhand.deal_after();

-- Two transactions, each legal, must not be illegal together: what is written about a deal locks it.
create function byhand.event_before() returns trigger language plpgsql as $$
begin
	if new.kind in ('stage', 'field', 'responsible') and pg_trigger_depth() < 2 then
		raise exception 'events of kind % are written by triggers', new.kind using errcode = '55000';
	end if;
	if new.at > now() then
		raise exception 'an event may not be in the future' using errcode = '22008';
	end if;
	perform from regcrm.deal d where d.account_id = new.account_id and d.id = new.deal_id for no key update;
	if not found then
		raise exception 'there is no deal %', new.deal_id using errcode = '23503';
	end if;
	if new.kind = 'scenario' then
		if not exists (select from regcrm.scenario s where s.regulation = 'idrive' and s.code = new.scenario and s.valid @> now()) then
			raise exception 'there is no scenario %', new.scenario using errcode = '22023';
		end if;
		-- by hand from the first correspondence on: CHAT-10, CHAT-11
		if exists (select from regcrm.event e where e.account_id = new.account_id and e.deal_id = new.deal_id and e.kind = 'stage' and e.to_stage = 'messaging') then
			raise exception 'deal % has been in correspondence: no scenarios', new.deal_id using errcode = '23514', constraint = 'CHAT-11';
		end if;
	end if;
	return new;
end $$;
create trigger byhand_before before insert on regcrm.event for each row execute function byhand.event_before();
create function byhand.task_before() returns trigger language plpgsql as $$
begin
	if new.due_at <= new.created_at or new.completed_at < new.created_at then
		raise exception 'a task can''t be due or done before it was added' using errcode = '23514';
	end if;
	perform from regcrm.deal d where d.account_id = new.account_id and d.id = new.deal_id for no key update;
	if not found then
		raise exception 'there is no deal %', new.deal_id using errcode = '23503';
	end if;
	return new;
end $$;
create trigger byhand_before before insert or update on regcrm.task for each row execute function byhand.task_before();

create function byhand.check_deal(account bigint, deal bigint) returns void language plpgsql as $$
declare
	d regcrm.deal;
	entered timestamptz;
	came_from regcrm.stage;
	contact timestamptz;
begin
	select * into d from regcrm.deal x where x.account_id = account and x.id = deal;
	if not found or d.is_deleted then
		return;
	end if;
	select e.at, e.from_stage into entered, came_from from regcrm.event e
		where e.account_id = account and e.deal_id = deal and e.kind = 'stage' order by e.at desc, e.id desc limit 1;
	if d.stage = 'meeting' then
		if d.meeting_at is null then
			raise exception 'deal % has no date of the meeting', deal using errcode = '23514', constraint = 'MEET-1';
		end if;
		if d.meeting_at > now() and not exists (select from regcrm.task t
			where t.account_id = account and t.deal_id = deal and t.kind = 'meeting_control' and t.deleted_at is null
				and (t.completed_at is null or t.created_at >= entered))
		then
			raise exception 'deal % has no task to control the meeting', deal using errcode = '23514', constraint = 'MEET-2';
		end if;
	end if;
	-- entered in this transaction
	if entered = now() and came_from is not null then
		-- what was to be done before leaving
		update regcrm.deadline x set met_at = entered, ended_at = entered, state = case when x.due_at >= entered then 'met' else 'late' end
			where x.account_id = account and x.deal_id = deal and x.stage = came_from and x.rule in ('NEW-9', 'DEC-8', 'MISS-9', 'CHAT-3') and x.ended_at is null;
		-- and what leaving makes void
		update regcrm.deadline x set state = 'cancelled', ended_at = entered
			where x.account_id = account and x.deal_id = deal and x.stage = came_from and x.state in ('pending', 'warned') and x.rule not in ('NEW-1', 'MISS-6T');
		if d.stage = 'meeting' then
			if not exists (select from regcrm.event e where e.account_id = account and e.deal_id = deal
				and (e.kind in ('message_in', 'visit') or e.kind in ('call_in', 'call_out') and (e.answered or e.answered is null and e.duration >= interval '10 s')))
			then
				raise exception 'deal %: the client was never reached', deal using errcode = '23514', constraint = 'MEET-7';
			end if;
			insert into regcrm.deadline (account_id, deal_id, rule, arose_at, due_at, met_at, state, stage, manager_id, ended_at)
				values (account, deal, 'MEET-7', entered, entered + interval '1 min', entered, 'met', d.stage, d.manager_id, entered)
				on conflict do nothing;
			if d.meeting_at > now() + interval '3 h' then
				insert into regcrm.deadline (account_id, deal_id, rule, arose_at, warn_at, due_at, state, stage, manager_id)
					values (account, deal, 'MEET-4', entered, d.meeting_at - interval '2 h', d.meeting_at, 'pending', d.stage, d.manager_id)
					on conflict do nothing;
				insert into regcrm.next_moment (account_id, deal_id, at) values (account, deal, d.meeting_at - interval '3 h' + interval '1 us')
					on conflict (account_id, deal_id) do update set at = excluded.at;
			elsif d.meeting_at <= now() then
				insert into regcrm.deadline (account_id, deal_id, rule, arose_at, due_at, state, stage, manager_id)
					values (account, deal, 'MEET-5E', entered, regcrm.add_business_time(entered, '9 h', null, 'Europe/Moscow'), 'pending', d.stage, d.manager_id)
					on conflict do nothing;
			end if;
		end if;
	end if;
end $$;
-- once a transaction and deal, whichever of its rows comes first
create function byhand.check_deal_once() returns trigger language plpgsql as $$
begin
	if current_setting('byhand.checked', true) is distinct from new.id::text then
		perform set_config('byhand.checked', new.id::text, true);
		perform byhand.check_deal(new.account_id, new.id);
	end if;
	return null;
end $$;
create function byhand.check_fact_once() returns trigger language plpgsql as $$
begin
	if current_setting('byhand.checked', true) is distinct from new.deal_id::text then
		perform set_config('byhand.checked', new.deal_id::text, true);
		perform byhand.check_deal(new.account_id, new.deal_id);
	end if;
	return null;
end $$;
create constraint trigger byhand_check after insert or update on regcrm.deal deferrable initially deferred for each row execute function byhand.check_deal_once();
create constraint trigger byhand_check after insert on regcrm.event deferrable initially deferred for each row execute function byhand.check_fact_once();
create constraint trigger byhand_check after insert or update on regcrm.task deferrable initially deferred for each row execute function byhand.check_fact_once();
