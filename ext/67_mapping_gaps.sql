
-- ---------------------------------------------------------------------------
-- mapping: corrections are read again
-- ---------------------------------------------------------------------------

create function regcrm.reread_pipelines(for_account bigint, pipelines bigint[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set regcrm.ingesting = on
	as $$
declare
	moves bigint[];
begin
	moves := array(
		select e.id from regcrm.event e
		where e.account_id = for_account and e.kind = 'stage' and e.source = 'event'
			and (regcrm.json_id(e.raw #> '{value_before,0,lead_status,pipeline_id}') = any (pipelines)
				or regcrm.json_id(e.raw #> '{value_after,0,lead_status,pipeline_id}') = any (pipelines))
		order by e.id);
	perform regcrm.reread_events(for_account, moves);
	perform regcrm.reread_deals(for_account, array(
		select d.id from regcrm.deal d
		where d.account_id = for_account and d.raw is not null
			and (d.pipeline_id = any (pipelines)
				or exists (select from regcrm.event e where e.account_id = for_account and e.deal_id = d.id and e.id = any (moves)))
		order by d.id));
	-- what is open and what is closed may have changed with the stages
	perform regcrm.attribute_of_deals(for_account, array(
		select distinct e.deal_id from regcrm.event e where e.account_id = for_account and e.id = any (moves)));
end
$$;
comment on function regcrm.reread_pipelines(bigint, bigint[]) is
	'Reads again the moves and deals of pipelines whose mapping was corrected.';

create function regcrm.reread_fields(for_account bigint, fields bigint[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set regcrm.ingesting = on
	as $$
begin
	perform regcrm.reread_events(for_account, array(
		select e.id from regcrm.event e
		where e.account_id = for_account and e.kind in ('field', 'scenario') and e.source = 'event'
			and e.raw ->> 'type' = any (array(select format('custom_field_%s_value_changed', f) from unnest(fields) f))
		order by e.id));
	perform regcrm.reread_deals(for_account, array(
		select d.id from regcrm.deal d
		where d.account_id = for_account
			and (exists (select from unnest(fields) f where d.raw -> 'custom_fields_values' @> jsonb_build_array(jsonb_build_object('field_id', f)))
				or 0 = any (fields) and regcrm.json_id(d.raw -> 'loss_reason_id') is not null)
		order by d.id));
end
$$;
comment on function regcrm.reread_fields(bigint, bigint[]) is
	'Reads again what holds custom fields whose mapping or type was corrected.';

create function regcrm.reread_account(for_account bigint) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set regcrm.ingesting = on
	as $$
begin
	perform regcrm.reread_events(for_account, array(
		select e.id from regcrm.event e
		where e.account_id = for_account and e.source = 'event' and e.kind in ('stage', 'field', 'scenario') order by e.id));
	perform regcrm.reread_notes(for_account, array(
		select e.id from regcrm.event e
		where e.account_id = for_account and e.source = 'note' and e.kind in ('call_in', 'call_out') order by e.id));
	perform regcrm.reread_deals(for_account, array(
		select d.id from regcrm.deal d where d.account_id = for_account and d.raw is not null order by d.id));
	perform regcrm.reread_tasks(for_account, array(
		select t.id from regcrm.task t where t.account_id = for_account and t.raw is not null order by t.id));
	perform regcrm.attribute(for_account, array(
		select distinct e.contact_id from regcrm.event e where e.account_id = for_account and e.contact_id is not null));
	perform regcrm.fill_feeds(for_account);
end
$$;
comment on function regcrm.reread_account(bigint) is
	'Reads all facts of an account again as amoCRM sent them.';

create function regcrm.remap(account_id bigint) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	dummy text;
begin
	if not exists (select from regcrm.account a where a.id = $1) then
		raise exception 'account % does not exist', coalesce($1::text, 'null') using errcode = 'undefined_object';
	end if;
	perform pg_advisory_xact_lock(hashtextextended('regcrm.ingest', $1));
	select regcrm.text_to_stage(d.stage) into dummy from regcrm.stage_def d limit 1;
	perform regcrm.refill_maps($1);
	perform regcrm.reread_account($1);
end
$$;
comment on function regcrm.remap(bigint) is
	'Fills the mappings of an account from names again, and reads all its facts again as amoCRM sent them: after names, scenarios or the shortest talk of its regulation changed. A corrected row of stage_map, field_map or task_kind_map needs no such call. Argument: account. Error 42704 where there is none.';

create function regcrm.refill_maps(for_account bigint) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set regcrm.ingesting = on
	as $$
begin
	perform regcrm.fill_stage_map(for_account);
	perform regcrm.fill_field_map(for_account);
	perform regcrm.fill_task_kinds(for_account);
end
$$;
comment on function regcrm.refill_maps(bigint) is
	'Fills the mappings of an account from names; rows by the user stand.';

create function regcrm.mapping_by_user() returns trigger
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
begin
	-- whoever writes a row by hand means it; by_user set to false gives it back
	if current_setting('regcrm.ingesting', true) is distinct from 'on'
			and (tg_op = 'INSERT' or new.by_user = old.by_user) then
		new.by_user := true;
	end if;
	return new;
end
$$;
comment on function regcrm.mapping_by_user() is
	'Trigger on stage_map, field_map and task_kind_map: marks what a user writes as by_user.';

create function regcrm.stage_map_changed() returns trigger
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	dummy text;
begin
	select regcrm.text_to_stage(d.stage) into dummy from regcrm.stage_def d limit 1;
	if tg_op = 'INSERT' then
		perform regcrm.reread_pipelines(n.account_id, array_agg(distinct n.pipeline_id))
		from new_rows n where n.stage is not null group by n.account_id;
	elsif tg_op = 'DELETE' then
		perform regcrm.reread_pipelines(o.account_id, array_agg(distinct o.pipeline_id))
		from old_rows o where o.stage is not null group by o.account_id;
	else
		perform regcrm.reread_pipelines(c.account_id, array_agg(distinct c.pipeline_id))
		from (
			(select account_id, pipeline_id, status_id, stage::text from old_rows
				except select account_id, pipeline_id, status_id, stage::text from new_rows)
			union all
			(select account_id, pipeline_id, status_id, stage::text from new_rows
				except select account_id, pipeline_id, status_id, stage::text from old_rows)) c
		group by c.account_id;
	end if;
	return null;
end
$$;
comment on function regcrm.stage_map_changed() is
	'Trigger on stage_map: reads again what the corrected rows concern.';

create function regcrm.field_map_changed() returns trigger
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	dummy text;
	changed record;
begin
	select regcrm.text_to_stage(d.stage) into dummy from regcrm.stage_def d limit 1;
	if tg_op = 'INSERT' then
		perform regcrm.reread_fields(n.account_id, array_agg(distinct n.field_id)) from new_rows n group by n.account_id;
		perform regcrm.refresh_field_feeds(n.account_id) from (select distinct account_id from new_rows) n;
	elsif tg_op = 'DELETE' then
		perform regcrm.reread_fields(o.account_id, array_agg(distinct o.field_id)) from old_rows o group by o.account_id;
		perform regcrm.refresh_field_feeds(o.account_id) from (select distinct account_id from old_rows) o;
	else
		for changed in
			select c.account_id, array_agg(distinct c.field_id) as fields
			from (
				(select account_id, field_id, field from old_rows except select account_id, field_id, field from new_rows)
				union all
				(select account_id, field_id, field from new_rows except select account_id, field_id, field from old_rows)) c
			group by c.account_id
		loop
			perform regcrm.reread_fields(changed.account_id, changed.fields);
			perform regcrm.refresh_field_feeds(changed.account_id);
		end loop;
	end if;
	return null;
end
$$;
comment on function regcrm.field_map_changed() is
	'Trigger on field_map: reads again what the corrected rows concern, and says in feed which fields are mapped.';

create function regcrm.refresh_field_feeds(for_account bigint) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
begin
	delete from regcrm.feed f
	where f.account_id = for_account and f.feed like 'field:%'
		and not exists (select from regcrm.field_map m where m.account_id = for_account and 'field:' || m.field = f.feed);
	perform regcrm.fill_feeds(for_account);
end
$$;
comment on function regcrm.refresh_field_feeds(bigint) is
	'Brings the rows of feed for fields in line with field_map.';

create function regcrm.task_kind_map_changed() returns trigger
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	dummy text;
begin
	select regcrm.text_to_stage(d.stage) into dummy from regcrm.stage_def d limit 1;
	if tg_op <> 'DELETE' then
		perform regcrm.reread_all_tasks(n.account_id) from (select distinct account_id from new_rows) n;
	else
		perform regcrm.reread_all_tasks(o.account_id) from (select distinct account_id from old_rows) o;
	end if;
	return null;
end
$$;
comment on function regcrm.task_kind_map_changed() is
	'Trigger on task_kind_map: reads the account''s tasks again.';

create function regcrm.reread_all_tasks(for_account bigint) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set regcrm.ingesting = on
	as $$
begin
	perform regcrm.reread_tasks(for_account, array(
		select t.id from regcrm.task t where t.account_id = for_account and t.raw is not null order by t.id));
end
$$;
comment on function regcrm.reread_all_tasks(bigint) is
	'Reads all tasks of an account again as amoCRM sent them.';

create function regcrm.account_changed() returns trigger
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	dummy text;
begin
	select regcrm.text_to_stage(d.stage) into dummy from regcrm.stage_def d limit 1;
	perform regcrm.reread_account(new.id);
	return null;
end
$$;
comment on function regcrm.account_changed() is
	'Trigger on account: reads its facts again when its zone, its regulation or the meaning of a call''s time changes.';

-- ---------------------------------------------------------------------------
-- mapping: what is missing
-- ---------------------------------------------------------------------------

create function regcrm.is_seen(token text, feeds text[]) returns boolean
	language sql immutable parallel safe
	return case
		when token like '!%' then true		-- nothing need be seen for "not"
		else case split_part(regexp_replace(token, '\*[0-9]+$', ''), ':', 1)
			when 'call_out' then 'calls' = any (feeds)
			when 'call_in' then 'calls' = any (feeds)
			when 'missed_call' then 'calls' = any (feeds)
			when 'talk' then 'calls' = any (feeds)
			when 'long_call' then 'calls' = any (feeds)
			when 'unreached' then 'calls' = any (feeds)
			when 'message_out' then 'messages' = any (feeds)
			when 'message_in' then 'messages' = any (feeds)
			when 'message_by_hand' then 'messages' = any (feeds)
			when 'bot_message' then 'messages' = any (feeds)
			when 'touch' then feeds && '{calls,messages}'
			when 'contact' then feeds && '{calls,messages}'
			when 'client_request' then feeds && '{calls,messages}'
			when 'comment' then 'comments' = any (feeds)
			when 'comment_where_required' then 'comments' = any (feeds)
			when 'task' then 'tasks' = any (feeds)
			when 'no_task' then 'tasks' = any (feeds)
			when 'task_added' then 'tasks' = any (feeds)
			when 'task_by_hand' then 'tasks' = any (feeds)
			when 'task_by_bot' then 'tasks' = any (feeds)
			when 'task_done' then 'tasks' = any (feeds)
			when 'scenario' then 'field:scenario' = any (feeds)
			when 'scenario_matches' then 'field:scenario' = any (feeds) and feeds && '{calls,messages}'
			when 'signed_and_paid' then feeds @> '{field:signed_at,field:paid_at}'
			when 'field' then 'field:' || split_part(regexp_replace(token, '\*[0-9]+$', ''), ':', 2) = any (feeds)
			when 'moment' then 'field:' || split_part(token, ':', 2) = any (feeds)
			when 'passed' then 'field:' || split_part(token, ':', 2) = any (feeds)
			when 'ahead' then 'field:' || split_part(token, ':', 2) = any (feeds)
			when 'soon' then 'field:' || split_part(token, ':', 2) = any (feeds)
			else true end end;
comment on function regcrm.is_seen(text, text[]) is
	'Whether something connected can show a token or condition of a rule. Arguments: the token, the feeds that are connected.';

create function regcrm.can_arise(expect text[], event text, by text, feeds text[]) returns boolean
	language sql immutable parallel safe
	return (event is null or regcrm.is_seen(event, feeds))
		and (by is null or regcrm.is_seen(case by when 'task_due' then 'task' else 'field:' || by end, feeds))
		and (cardinality(expect) = 0
			or exists (select from unnest(expect) as e(token) where regcrm.is_seen(e.token, feeds)));
comment on function regcrm.can_arise(text[], text, text, text[]) is
	'Whether something connected can show what sets a rule in motion, and what would meet it. Arguments: expect, event and by of the rule, the feeds that are connected.';

create function regcrm.setup_mapping_views() returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set client_min_messages = warning
	as $setup$
declare
	map text;
begin
	foreach map in array '{stage_map,field_map,task_kind_map}'::text[] loop
		perform regcrm.ensure_trigger('regcrm.' || map, 'regcrm_by_user',
			'create trigger %1$s before insert or update on %2$s for each row execute function regcrm.mapping_by_user()');
		perform regcrm.ensure_trigger('regcrm.' || map, 'regcrm_inserted', format(
			'create trigger %%1$s after insert on %%2$s referencing new table as new_rows for each statement execute function regcrm.%s_changed()', map));
		perform regcrm.ensure_trigger('regcrm.' || map, 'regcrm_updated', format(
			'create trigger %%1$s after update on %%2$s referencing old table as old_rows new table as new_rows for each statement execute function regcrm.%s_changed()', map));
		perform regcrm.ensure_trigger('regcrm.' || map, 'regcrm_deleted', format(
			'create trigger %%1$s after delete on %%2$s referencing old table as old_rows for each statement execute function regcrm.%s_changed()', map));
	end loop;
	perform regcrm.ensure_trigger('regcrm.account', 'regcrm_reread',
		'create trigger %1$s after update of time_zone, regulation, call_notes_at on %2$s for each row
		when ((old.time_zone, old.regulation, old.call_notes_at) is distinct from (new.time_zone, new.regulation, new.call_notes_at))
		execute function regcrm.account_changed()');

	-- before it was released its rules were an array, a type that many tools can't read
	if (select a.atttypid = 'text[]'::regtype from pg_attribute a where a.attrelid = to_regclass('regcrm.mapping_gaps') and a.attname = 'rules') then
		drop view regcrm.mapping_gaps;
	end if;
	create or replace view regcrm.mapping_gaps with (security_invoker = true) as
	select g.*, regcrm.label('gap', g.gap) as gap_name from (
	with synced as (
		-- an account that only SQL writes maps nothing
		select a.id, a.regulation, a.calendar, a.owner_confirmed_calendar, a.known_until
		from regcrm.account a
		where a.known_until is not null or a.raw is not null
			or exists (select from regcrm.pipeline p where p.account_id = a.id)),
	rule as (
		select a.id as account_id, r.code, r.expect, r.event, r.by,
			array(select f.feed from regcrm.feed f where f.account_id = a.id) as feeds
		from synced a
		join regcrm.rule r on r.regulation = a.regulation and r.enabled and r.valid @> now()),
	blind as (
		select r.account_id, r.code, r.expect, r.event, r.by, r.feeds from rule r
		where not regcrm.can_arise(r.expect, r.event, r.by, r.feeds)),
	known_pipeline as (
		select distinct m.account_id, m.pipeline_id from regcrm.stage_map m where m.stage is not null),
	wanted as (
		-- fields that rules name, and those with known names
		select r.account_id, split_part(e.token, ':', 2) as field
		from rule r cross join unnest(r.expect || r.event) as e(token)
		where split_part(ltrim(e.token, '!'), ':', 1) in ('field', 'moment', 'passed', 'ahead', 'soon')
		union select a.id, k.field from synced a cross join regcrm.known_fields() k)
	-- stages of amoCRM in pipelines that the regulation speaks of
	select s.account_id, 'status'::text as gap, s.pipeline_id || '/' || s.id as id,
		format('%s: %s', p.name, s.name) as name,
		'Этого этапа нет в регламенте: этап сделок, которые на нём стоят, считается неизвестным.'::text as meaning,
		null::text as rules,
		'Добавить его в stage_map или оставить так.'::text as what_to_do
	from regcrm.status s
	join known_pipeline k on k.account_id = s.account_id and k.pipeline_id = s.pipeline_id
	left join regcrm.pipeline p on p.account_id = s.account_id and p.id = s.pipeline_id
	left join regcrm.stage_map m on m.account_id = s.account_id and m.pipeline_id = s.pipeline_id and m.status_id = s.id
	where m.stage is null
	union all
	-- stages that only deals name
	select d.account_id, 'status', coalesce(d.pipeline_id::text, '?') || '/' || coalesce(d.status_id::text, '?'), null,
		format('amoCRM не называет этот этап, а на нём стоят сделки: %s.', count(*)), null, 'Добавить его в stage_map.'
	from regcrm.deal d
	join known_pipeline k on k.account_id = d.account_id and k.pipeline_id = d.pipeline_id
	where d.stage is null and d.raw is not null
		and not exists (select from regcrm.status s where s.account_id = d.account_id and s.pipeline_id = d.pipeline_id and s.id = d.status_id)
		and not exists (select from regcrm.stage_map m where m.account_id = d.account_id and m.pipeline_id = d.pipeline_id and m.status_id = d.status_id)
	group by d.account_id, d.pipeline_id, d.status_id
	union all
	select p.account_id, 'pipeline', p.id::text, p.name,
		'В этой воронке нет ни одного этапа регламента: её сделки хранятся, но не проверяются.', null,
		'Если регламент её касается, добавить её этапы в stage_map.'
	from regcrm.pipeline p
	where not exists (select from known_pipeline k where k.account_id = p.account_id and k.pipeline_id = p.id)
	union all
	select w.account_id, 'field', w.field,
		(select string_agg(n.name, ', ' order by n.name) from regcrm.known_fields() n where n.field = w.field),
		'Нет поля, в котором это записано.',
		(select string_agg(b.code, ', ' order by b.code) from blind b
			where b.account_id = w.account_id and regcrm.can_arise(b.expect, b.event, b.by, b.feeds || ('field:' || w.field))),
		'Назвать поле в amoCRM так или добавить его номер в field_map; до тех пор названные здесь правила не действуют.'
	from wanted w
	where not exists (select from regcrm.field_map m where m.account_id = w.account_id and m.field = w.field)
	union all
	select m.account_id, 'field_type', m.field_id::text, c.name,
		format('Тип поля «%s» — %s; значение для %s из него не взять.', c.name, c.type, m.field), null,
		'Сделать его в amoCRM датой, датой со временем или флажком либо сопоставить другое поле.'
	from regcrm.field_map m
	join regcrm.custom_field c on c.account_id = m.account_id and c.id = m.field_id
	where regcrm.column_kind(m.field) in ('date', 'moment') and c.type not in ('date', 'date_time', 'birthday', 'checkbox', 'text')
	union all
	select e.account_id, 'scenario', e.value, e.value,
		format('В регламенте нет сценария с таким названием; выбран раз: %s.', count(*)), null,
		'Добавить его в scenario или назвать так один из сценариев, затем вызвать regcrm.remap(account_id).'
	from regcrm.event e
	where e.kind = 'scenario' and e.scenario is null and e.source = 'event'
	group by e.account_id, e.value
	union all
	select a.id, 'feed', f.feed, null,
		case f.feed when 'messages' then 'Не видно ни одного сообщения: мессенджер не подключён.'
			when 'calls' then 'Звонков не видно: телефония не подключена.' else 'Не подключено.' end,
		(select string_agg(b.code, ', ' order by b.code) from blind b
			where b.account_id = a.id and regcrm.can_arise(b.expect, b.event, b.by, b.feeds || f.feed)),
		'Подключить; до тех пор названные здесь правила не действуют.'
	from synced a
	cross join unnest('{calls,messages,tasks,comments}'::text[]) as f(feed)
	where not exists (select from regcrm.feed o where o.account_id = a.id and o.feed = f.feed)
	union all
	select a.id, 'calendar', a.calendar, c.title,
		'Эти рабочие часы — наше предположение.', null, 'Спросить владельца, исправить календарь и поставить account.owner_confirmed_calendar.'
	from synced a
	left join regcrm.calendar c on c.name = a.calendar
	where a.calendar is not null and not a.owner_confirmed_calendar
	union all
	select a.id, 'calendar', null, null, 'Рабочие часы не заданы: считается каждый час, и ночью тоже.', null,
		'Назвать календарь в account.calendar или поставить account.owner_confirmed_calendar.'
	from synced a
	where a.calendar is null and not a.owner_confirmed_calendar) as g;

	perform regcrm.setup_judging_change();

	perform regcrm.describe('regcrm.mapping_gaps', 'What of an amoCRM account maps to nothing, and what therefore is not judged.',
		'account_id', 'Account.',
		'gap', 'What is missing: status, pipeline, field, field_type, scenario, feed, calendar.',
		'id', 'Its number or name: pipeline/status, field of deal, feed, …',
		'name', 'Its name, or the names by which it is looked for.',
		'meaning', 'What this means, in Russian.',
		'rules', 'Codes of the rules that do not arise because of it; null = none.',
		'what_to_do', 'What to do about it, in Russian.',
		'gap_name', 'gap in Russian.');
end
$setup$;
comment on function regcrm.setup_mapping_views() is
	'For setup(): makes the view mapping_gaps, and the triggers by which a corrected mapping is read again.';

revoke execute on function regcrm.setup_mapping_views() from public;
