
-- ---------------------------------------------------------------------------
-- ingest: events
-- ---------------------------------------------------------------------------

create function regcrm.event_number(source text, source_id text) returns bigint
	language sql immutable parallel safe
	return hashtextextended(source || ':' || source_id, 0) & x'3fffffffffffffff'::bigint;
comment on function regcrm.event_number(text, text) is
	'Number of a synced event: the same for the same event in every warehouse, and below the numbers of events made by SQL.';

create function regcrm.read_events(for_account bigint, events jsonb[]) returns table (
		id bigint, source_id text, deal_id bigint, contact_id bigint, talk_id bigint, at timestamptz, kind text, by_bot boolean, actor_id bigint,
		from_stage regcrm.stage, to_stage regcrm.stage, channel text, scenario text, field text, value text, value_before text,
		type text, entity_type text, entity_id bigint, author bigint, is_tick boolean, raw jsonb)
	language plpgsql stable parallel safe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
#variable_conflict use_column
declare
	zone text;
	own_regulation text;
begin
	select a.time_zone, a.regulation into zone, own_regulation from regcrm.account a where a.id = for_account;

	return query
	with happened as materialized (
		select e.raw, e.raw ->> 'id' as source_id, e.raw ->> 'type' as type,
			regcrm.event_entity(e.raw ->> 'entity_type') as entity_type, regcrm.json_id(e.raw -> 'entity_id') as entity_id,
			regcrm.json_time(e.raw -> 'created_at') as at, regcrm.json_whole(e.raw -> 'created_by') as author,
			regcrm.event_kind(e.raw ->> 'type', e.raw ->> 'entity_type') as kind,
			regcrm.json_list(e.raw -> 'value_after') as after, regcrm.json_list(e.raw -> 'value_before') as before
		from unnest(events) as e(raw)),
	changed as (
		-- fields: which one, and what it holds
		select h.source_id, coalesce(m.field, 'custom:' || f.field_id, case h.type when 'sale_field_changed' then 'price' else 'name' end) as field,
			m.field as mapped, coalesce(k.type, 'checkbox') = 'checkbox' and regcrm.column_kind(m.field) in ('moment', 'date') as is_tick,
			case when f.field_id is null then coalesce(h.after #>> '{0,sale_field_value,sale}', h.after #>> '{0,name_field_value,name}')
				else regcrm.field_text(m.field, k.type, regcrm.event_values_text(h.after, c.enums), zone, h.at) end as value,
			case when f.field_id is null then coalesce(h.before #>> '{0,sale_field_value,sale}', h.before #>> '{0,name_field_value,name}')
				else regcrm.field_text(m.field, k.type, regcrm.event_values_text(h.before, c.enums), zone, null) end as value_before
		from happened h
		cross join lateral (select substring(h.type from '^custom_field_([0-9]+)_value_changed$')::bigint) as f(field_id)
		left join regcrm.field_map m on m.account_id = for_account and m.field_id = f.field_id
		left join regcrm.custom_field c on c.account_id = for_account and c.id = f.field_id
		cross join lateral (select coalesce(c.type,
			case regcrm.json_whole(coalesce(h.after #> '{0,custom_field_value,field_type}', h.before #> '{0,custom_field_value,field_type}'))
				when 3 then 'checkbox' when 6 then 'date' when 14 then 'birthday' when 19 then 'date_time' end)) as k(type)
		where h.kind = 'field')
	select regcrm.event_number('event', h.source_id), h.source_id,
		case when h.entity_type = 'lead' then h.entity_id end,
		case when h.entity_type in ('contact', 'company') and h.kind <> 'other' then h.entity_id end,
		case when h.kind in ('message_in', 'message_out') then regcrm.json_id(h.after #> '{0,message,talk_id}') end,
		h.at,
		case when c.mapped = 'scenario' and c.value is not null then 'scenario' else h.kind end,
		case h.kind when 'robot' then true when 'message_in' then false when 'message_out' then false else coalesce(h.author <= 0, false) end,
		case when h.author > 0 and h.kind <> 'message_in' then h.author end,
		s_from.stage, s_to.stage,
		case when h.kind in ('message_in', 'message_out') then regcrm.json_text(h.after #> '{0,message,origin}') end,
		case when c.mapped = 'scenario' then (
			select s.code from regcrm.scenario s
			where s.regulation = own_regulation
				and (regcrm.fold(s.name) = regcrm.fold(c.value) or regcrm.fold(s.code) = regcrm.fold(c.value))
			order by s.valid @> h.at desc, s.code
			limit 1) end,
		case when h.kind = 'field' then c.field end,
		case h.kind when 'field' then c.value when 'responsible' then regcrm.json_id(h.after #> '{0,responsible_user,id}')::text end,
		case h.kind when 'field' then c.value_before when 'responsible' then regcrm.json_id(h.before #> '{0,responsible_user,id}')::text end,
		h.type, h.entity_type, h.entity_id, h.author, coalesce(c.is_tick, false), h.raw
	from happened h
	left join changed c on c.source_id = h.source_id
	left join regcrm.stage_map s_from on h.kind = 'stage' and s_from.account_id = for_account
		and s_from.pipeline_id = regcrm.json_id(h.before #> '{0,lead_status,pipeline_id}')
		and s_from.status_id = regcrm.json_id(h.before #> '{0,lead_status,id}')
	left join regcrm.stage_map s_to on h.kind = 'stage' and s_to.account_id = for_account
		and s_to.pipeline_id = regcrm.json_id(h.after #> '{0,lead_status,pipeline_id}')
		and s_to.status_id = regcrm.json_id(h.after #> '{0,lead_status,id}');
end
$$;
comment on function regcrm.read_events(bigint, jsonb[]) is
	'Events as amoCRM sent them, read into the columns of event by the mappings; kind other = none of regcrm.event. Arguments: account, events.';

create function regcrm.event_values_text(changed jsonb, enums jsonb) returns text
	language plpgsql immutable parallel safe
	set search_path = pg_catalog, pg_temp
	as $$
begin
	return (
		select string_agg(coalesce(nullif(v.value #>> '{custom_field_value,text}', ''),
				(select min(x.value ->> 'value') from jsonb_array_elements(regcrm.json_list(enums)) as x(value)
					where jsonb_typeof(x.value) = 'object' and x.value -> 'id' = v.value #> '{custom_field_value,enum_id}'),
				nullif(v.value #>> '{custom_field_value,enum_id}', '0')), ', ' order by v.n)
		from jsonb_array_elements(changed) with ordinality as v(value, n)
		where jsonb_typeof(v.value) = 'object');
end
$$;
comment on function regcrm.event_values_text(jsonb, jsonb) is
	'What an event says a custom field holds, as one text; null = nothing. Arguments: value_after or value_before, the field''s choices.';

create function regcrm.reread_events(for_account bigint, events bigint[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
begin
	for i in 0 .. (coalesce(cardinality(events), 0) - 1) / 1000 loop
		update regcrm.event e
		set kind = r.kind, from_stage = r.from_stage, to_stage = r.to_stage, scenario = r.scenario,
			field = r.field, value = r.value, value_before = r.value_before
		from regcrm.read_events(for_account, array(
			select o.raw from regcrm.event o
			where o.account_id = for_account and o.id = any (events[i * 1000 + 1 : i * 1000 + 1000])
				and o.source = 'event' and o.kind in ('stage', 'field', 'scenario'))) r
		where e.account_id = for_account and e.id = r.id and e.id = any (events[i * 1000 + 1 : i * 1000 + 1000])
			and (e.kind, e.from_stage::text, e.to_stage::text, e.scenario, e.field, e.value, e.value_before)
				is distinct from (r.kind, r.from_stage::text, r.to_stage::text, r.scenario, r.field, r.value, r.value_before);
	end loop;
end
$$;
comment on function regcrm.reread_events(bigint, bigint[]) is
	'Reads events again as they were sent, after a mapping was corrected.';

create function regcrm.ingest_events(for_account bigint, events jsonb[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	news jsonb[];
	deals bigint[];
	tasks bigint[];
	contacts bigint[];
	talked_deals bigint[];
	written_at timestamptz[];
	first_at timestamptz;
	last_at timestamptz;
begin
	-- events never change: those that are here need no second look
	select coalesce(array_agg(n.event), '{}') into news
	from (
		select distinct on (e.event ->> 'id') e.event, e.event ->> 'id' as id
		from unnest(events) with ordinality as e(event, n)
		order by e.event ->> 'id', e.n) n
	left join lateral (
		select true as is_here from regcrm.event v
		where v.account_id = for_account and v.source = 'event' and v.source_id = n.id offset 0) v on true
	left join lateral (
		select true as is_here from regcrm.other_event o
		where o.account_id = for_account and o.source_id = n.id offset 0) o on true
	where v.is_here is null and o.is_here is null;
	if cardinality(news) = 0 then
		return;
	end if;

	with reading as materialized (
		select r.* from regcrm.read_events(for_account, news) r),
	kept as (
		insert into regcrm.event (account_id, id, source, source_id, deal_id, contact_id, talk_id, at, kind, by_bot, actor_id,
			from_stage, to_stage, channel, scenario, field, value, value_before, raw)
		select for_account, r.id, 'event', r.source_id, r.deal_id, r.contact_id, r.talk_id, r.at, r.kind, r.by_bot, r.actor_id,
			r.from_stage, r.to_stage, r.channel, r.scenario, r.field, r.value, r.value_before, r.raw
		from reading r
		where r.kind <> 'other'
		order by r.deal_id, r.at, r.source_id
		on conflict do nothing),
	others as (
		insert into regcrm.other_event (account_id, source_id, type, entity_type, entity_id, at, actor_id, raw)
		select for_account, r.source_id, r.type, r.entity_type, r.entity_id, r.at, r.author, r.raw
		from reading r
		where r.kind = 'other'
		order by r.source_id
		on conflict do nothing),
	-- messages count as connected from the first one
	messages as (
		insert into regcrm.feed as f (account_id, feed, since)
		select for_account, 'messages', min(r.at) from reading r
		where r.kind in ('message_in', 'message_out')
		having min(r.at) is not null
		on conflict (account_id, feed) do update set since = excluded.since where f.since > excluded.since)
	select
		-- deals that an event tells something of which the lead itself does not
		coalesce(array_agg(distinct r.deal_id) filter (where r.type in ('lead_deleted', 'lead_restored')
			-- a checkbox that was ticked or cleared
			or r.is_tick
			or r.kind in ('stage', 'responsible')), '{}'),
		coalesce(array_agg(distinct r.entity_id) filter (where r.type in ('task_completed', 'task_deleted')), '{}'),
		coalesce(array_agg(distinct r.contact_id) filter (where r.contact_id is not null), '{}'),
		array_agg(distinct r.deal_id) filter (where r.kind in ('message_in', 'message_out') and r.deal_id is not null),
		array_agg(distinct r.at) filter (where r.kind = 'message_out' and r.actor_id is null),
		min(r.at) filter (where r.kind in ('message_in', 'message_out')),
		max(r.at) filter (where r.kind in ('message_in', 'message_out'))
	into deals, tasks, contacts, talked_deals, written_at, first_at, last_at
	from reading r;

	perform regcrm.ingest_link_events(for_account, news);
	perform regcrm.reread_tasks(for_account, tasks);

	update regcrm.contact c set is_deleted = regcrm.contact_is_deleted(for_account, c.id, c.raw)
	where c.account_id = for_account
		and c.id = any (array(select regcrm.json_id(n.event -> 'entity_id') from unnest(news) as n(event)
			where n.event ->> 'type' in ('contact_deleted', 'contact_restored')))
		and c.is_deleted <> regcrm.contact_is_deleted(for_account, c.id, c.raw);

	if cardinality(deals) > 0 then
		-- a deal's moves say when it was open, and whether the regulation speaks of it
		perform regcrm.reread_deals(for_account, array(
			select distinct r.deal_id from (
				select regcrm.json_id(n.event -> 'entity_id') as deal_id, n.event ->> 'type' as type from unnest(news) as n(event)
				where regcrm.event_entity(n.event ->> 'entity_type') = 'lead') r
			where r.deal_id = any (deals) and r.type <> 'entity_responsible_changed' and (r.type <> 'lead_status_changed'
				or exists (select from regcrm.deal d where d.account_id = for_account and d.id = r.deal_id and not d.in_regulation))));
		contacts := contacts || array(
			select l.contact_id from regcrm.deal_contact l
			where l.account_id = for_account and l.deal_id = any (deals)
				and exists (select from regcrm.event e where e.account_id = for_account and e.contact_id = l.contact_id));
	end if;

	-- a message that is tied to a lead tells the lead of the whole talk
	contacts := contacts || array(
		select distinct e.contact_id from regcrm.event e
		where e.account_id = for_account and e.contact_id is not null
			and e.talk_id = any (array(select regcrm.json_id(n.event #> '{value_after,0,message,talk_id}') from unnest(news) as n(event)
				where n.event ->> 'type' in ('incoming_chat_message', 'outgoing_chat_message'))));

	perform regcrm.attribute(for_account, array(select distinct unnest(contacts)));
	if first_at is not null then
		perform regcrm.tell_bots(for_account, talked_deals, contacts, first_at, last_at, written_at);
	end if;
end
$$;
comment on function regcrm.ingest_events(bigint, jsonb[]) is
	'For ingest(): takes events. What the judge looks at goes to event, the rest to other_event; both as they were sent.';

create function regcrm.ingest_link_events(for_account bigint, events jsonb[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	pairs_deals bigint[];
	pairs_contacts bigint[];
	changed bigint[];
	news bigint[];
begin
	with link as materialized (
		select l.deal_id, l.contact_id, l.is_company, l.at, l.is_linked
		from (
			select case when x.of_lead then x.entity_id else regcrm.link_target(x.event, false) end as deal_id,
				case when x.of_lead then regcrm.link_target(x.event, true) else x.entity_id end as contact_id,
				coalesce(x.event @> '{"entity_type": "company"}'
					or regcrm.event_entity(coalesce(x.event #>> '{value_after,0,link,entity,type}', '')) = 'company', false) as is_company,
				x.at, x.is_linked
			from (
				select e.event, regcrm.json_id(e.event -> 'entity_id') as entity_id, regcrm.json_time(e.event -> 'created_at') as at,
					regcrm.event_entity(e.event ->> 'entity_type') = 'lead' as of_lead, e.event ->> 'type' like '%\_linked' as is_linked
				from unnest(events) as e(event)
				where e.event ->> 'type' ~ '^(entity|lead|contact|company)_(linked|unlinked)$'
					and regcrm.event_entity(e.event ->> 'entity_type') in ('lead', 'contact', 'company')) x) l
		where l.deal_id is not null and l.contact_id is not null
			and not exists (select from regcrm.forgotten f where f.account_id = for_account and f.deal_id = l.deal_id)),
	written as (
		insert into regcrm.deal_contact as c (account_id, deal_id, contact_id, is_company, seen_at)
		select for_account, l.deal_id, l.contact_id, bool_and(l.is_company), max(l.at)
		from link l where l.is_linked
		group by l.deal_id, l.contact_id
		order by l.deal_id, l.contact_id
		on conflict (account_id, deal_id, contact_id) do update
			set seen_at = greatest(c.seen_at, excluded.seen_at), is_company = c.is_company and excluded.is_company
			where c.seen_at is null or c.seen_at < excluded.seen_at or c.is_company and not excluded.is_company
		returning c.contact_id)
	select array_agg(l.deal_id), array_agg(l.contact_id), (select array_agg(w.contact_id) from written w)
	into pairs_deals, pairs_contacts, news
	from link l;

	if pairs_deals is not null then
		changed := regcrm.settle_links(for_account, pairs_deals, '{}');
		perform regcrm.attribute(for_account, array(select distinct unnest(changed || coalesce(news, '{}'))));
	end if;
end
$$;
comment on function regcrm.ingest_link_events(bigint, jsonb[]) is
	'For ingest(): takes what events say of links between leads and contacts.';

-- ---------------------------------------------------------------------------
-- ingest: notes
-- ---------------------------------------------------------------------------

create function regcrm.names_bot(value text) returns boolean
	language sql immutable parallel safe
	return coalesce(regcrm.fold(value) ~ '(^|[^a-zа-я0-9])([a-z0-9_]*bot|((чат|смарт|авто|сейлз)[- ]?)?бот|робот)(а|у|ом|е|ы|s)?($|[^a-zа-я0-9])', false);
comment on function regcrm.names_bot(text) is
	'Whether a text names a bot: Salesbot, чат-бот, робот.';

create function regcrm.read_notes(for_account bigint, notes jsonb[]) returns table (
		id bigint, source_id text, deal_id bigint, contact_id bigint, at timestamptz, kind text, by_bot boolean, actor_id bigint,
		answered boolean, duration interval, channel text, body text,
		type text, entity_type text, entity_id bigint, author bigint, raw jsonb)
	language plpgsql stable parallel safe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
#variable_conflict use_column
declare
	notes_at text;
	shortest_talk interval;
begin
	select a.call_notes_at, r.min_talk into notes_at, shortest_talk
	from regcrm.account a
	left join regcrm.regulation r on r.code = a.regulation
	where a.id = for_account;

	return query
	with note as materialized (
		select n.raw, regcrm.json_id(n.raw -> 'id')::text as source_id, n.raw ->> 'note_type' as type,
			regcrm.event_entity(n.raw ->> 'entity_type') as entity_type, regcrm.json_id(n.raw -> 'entity_id') as entity_id,
			regcrm.json_time(n.raw -> 'created_at') as at, regcrm.json_whole(n.raw -> 'created_by') as author,
			case when n.raw ->> 'note_type' in ('call_in', 'call_out')
				then make_interval(secs => coalesce(regcrm.json_number(n.raw #> '{params,duration}'), 0)::double precision) end as duration,
			nullif(regcrm.json_whole(n.raw #> '{params,call_status}'), 8) as call_status
		from unnest(notes) as n(raw)),
	told as (
		select n.*,
			case
				when n.entity_type not in ('lead', 'contact', 'company') then 'other'
				when n.type in ('call_in', 'call_out') then n.type
				when n.type = 'sms_in' then 'message_in'
				when n.type = 'sms_out' then 'message_out'
				-- what is written on the contact's card is not in the deal
				when n.type = 'common' and coalesce(n.entity_type, 'lead') = 'lead' then 'comment'
				when n.type in ('service_message', 'extended_service_message')
					and (regcrm.names_bot(n.raw #>> '{params,service}') or regcrm.names_bot(n.raw #>> '{params,text}')) then 'robot'
				else 'other' end as kind
		from note n)
	select regcrm.event_number('note', n.source_id), n.source_id,
		case when n.entity_type = 'lead' then n.entity_id end,
		case when n.entity_type is distinct from 'lead' and n.kind <> 'other' then n.entity_id end,
		case when notes_at = 'end' and n.duration is not null then n.at - n.duration else n.at end,
		n.kind,
		case n.kind when 'robot' then true when 'comment' then coalesce(n.author <= 0, false) else false end,
		case
			when n.kind in ('call_in', 'call_out') then (
				-- a manager who is known before a service user of the telephony
				select c.id
				from unnest(array[n.author, regcrm.json_id(n.raw -> 'responsible_user_id'), regcrm.json_id(n.raw #> '{params,call_responsible}')])
					with ordinality as c(id, place)
				left join regcrm.manager m on m.account_id = for_account and m.id = c.id
				where c.id > 0
				order by m.in_scope and not regcrm.names_service(m.name) desc nulls last, m.id is not null desc, c.place
				limit 1)
			when n.author > 0 and n.kind <> 'message_in' then n.author end,
		case when n.kind in ('call_in', 'call_out') then
			-- 4 = they spoke; 8 and none = the duration tells
			case when n.call_status > 0 then n.call_status = 4
				else n.duration > interval '0' and n.duration >= coalesce(shortest_talk, interval '0') end end,
		n.duration,
		case when n.kind in ('message_in', 'message_out') then 'sms' end,
		case when n.kind in ('call_in', 'call_out') then regcrm.json_text(n.raw #> '{params,call_result}')
			when n.kind <> 'other' then regcrm.json_text(n.raw #> '{params,text}') end,
		n.type, n.entity_type, n.entity_id, n.author, n.raw
	from told n;
end
$$;
comment on function regcrm.read_notes(bigint, jsonb[]) is
	'Notes as amoCRM sent them (with entity_type, which stands in the page''s link), read into the columns of event: comments of leads, calls, short messages, traces of bots; kind other = none of these. Arguments: account, notes.';

create function regcrm.names_service(name text) returns boolean
	language sql immutable parallel safe
	return coalesce(regcrm.fold(name) ~ '(телефон|интеграц|виджет|mango|asterisk|zadarma|sipuni|telphin|uiscom|onlinepbx|telephony|integration|service|(^|[^a-z])(api|pbx|атс|sip)($|[^a-z]))'
		or regcrm.names_bot(name), false);
comment on function regcrm.names_service(text) is
	'Whether a user''s name is that of a telephony, an integration or a bot rather than of a person.';

create function regcrm.reread_notes(for_account bigint, notes bigint[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	contacts bigint[];
begin
	for i in 0 .. (coalesce(cardinality(notes), 0) - 1) / 1000 loop
		with written as (
			update regcrm.event e
			set at = r.at, actor_id = r.actor_id, answered = r.answered
			from regcrm.read_notes(for_account, array(
				select o.raw from regcrm.event o
				where o.account_id = for_account and o.id = any (notes[i * 1000 + 1 : i * 1000 + 1000])
					and o.source = 'note' and o.kind in ('call_in', 'call_out'))) r
			where e.account_id = for_account and e.id = r.id and e.id = any (notes[i * 1000 + 1 : i * 1000 + 1000])
				and (e.at, e.actor_id, e.answered) is distinct from (r.at, r.actor_id, r.answered)
			returning e.contact_id)
		select array_agg(distinct w.contact_id) filter (where w.contact_id is not null) into contacts from written w;
		perform regcrm.attribute(for_account, contacts);
	end loop;
end
$$;
comment on function regcrm.reread_notes(bigint, bigint[]) is
	'Reads calls again as they were sent, after users, the shortest talk or call_notes_at changed.';

create function regcrm.ingest_notes(for_account bigint, notes jsonb[], belong_to text) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	changed jsonb[];
	contacts bigint[];
	talked_deals bigint[];
	written_at timestamptz[];
	first_at timestamptz;
	last_at timestamptz;
begin
	with incoming as (
		select distinct on (n.id) n.id, n.at, n.note, n.entity_type
		from (
			select regcrm.json_id(e.note -> 'id')::text as id,
				coalesce(regcrm.json_time(e.note -> 'updated_at'), regcrm.json_time(e.note -> 'created_at')) as at,
				-- a note does not say what it is about: the page does, or its own link
				coalesce(belong_to, regcrm.json_text(e.note -> 'entity_type'),
					substring(e.note #>> '{_links,self,href}' from '/api/v[0-9]+/([a-z]+)/')) as entity_type,
				e.note, e.n
			from unnest(notes) with ordinality as e(note, n)) n
		order by n.id, n.at desc, n.n desc),
	merged as (
		select i.at, o.raw as stored,
			i.note || case when coalesce(i.entity_type, o.raw ->> 'entity_type') is null then '{}'
				else jsonb_build_object('entity_type', coalesce(i.entity_type, o.raw ->> 'entity_type')) end as raw
		from incoming i
		left join lateral (
			select e.raw from regcrm.event e where e.account_id = for_account and e.source = 'note' and e.source_id = i.id
			union all
			select x.raw from regcrm.other_event x where x.account_id = for_account and x.source_id = 'note:' || i.id
			limit 1) o on true)
	select coalesce(array_agg(m.raw), '{}') into changed
	from merged m
	where m.stored is null or m.raw <> m.stored
		and m.at >= coalesce(regcrm.json_time(m.stored -> 'updated_at'), regcrm.json_time(m.stored -> 'created_at'));
	if cardinality(changed) = 0 then
		return;
	end if;

	with reading as materialized (
		select r.* from regcrm.read_notes(for_account, changed) r),
	kept as (
		insert into regcrm.event as e (account_id, id, source, source_id, deal_id, contact_id, at, kind, by_bot, actor_id,
			answered, duration, channel, body, raw)
		select for_account, r.id, 'note', r.source_id, r.deal_id, r.contact_id, r.at, r.kind, r.by_bot, r.actor_id,
			r.answered, r.duration, r.channel, r.body, r.raw
		from reading r
		where r.kind <> 'other'
		order by r.deal_id, r.at, r.source_id
		on conflict (account_id, source, source_id) do update
			set deal_id = coalesce(excluded.deal_id, e.deal_id), contact_id = excluded.contact_id, at = excluded.at, kind = excluded.kind,
				by_bot = case when excluded.kind = 'message_out' then e.by_bot else excluded.by_bot end, actor_id = excluded.actor_id,
				answered = excluded.answered, duration = excluded.duration, channel = excluded.channel, body = excluded.body, raw = excluded.raw),
	others as (
		insert into regcrm.other_event as o (account_id, source_id, type, entity_type, entity_id, at, actor_id, raw)
		select for_account, 'note:' || r.source_id, 'note:' || r.type, r.entity_type, r.entity_id, r.at, r.author, r.raw
		from reading r
		where r.kind = 'other'
		order by r.source_id
		on conflict (account_id, source_id) do update
			set type = excluded.type, entity_type = excluded.entity_type, entity_id = excluded.entity_id, at = excluded.at,
				actor_id = excluded.actor_id, raw = excluded.raw)
	select
		array_agg(distinct r.contact_id) filter (where r.contact_id is not null),
		array_agg(distinct r.deal_id) filter (where r.kind in ('message_in', 'message_out') and r.deal_id is not null),
		array_agg(distinct r.at) filter (where r.kind = 'message_out' and r.actor_id is null),
		min(r.at) filter (where r.kind in ('message_in', 'message_out')),
		max(r.at) filter (where r.kind in ('message_in', 'message_out'))
	into contacts, talked_deals, written_at, first_at, last_at
	from reading r;

	-- what a note is may change with its newer version
	delete from regcrm.other_event o
	where o.account_id = for_account and o.source_id = any (array(
		select 'note:' || c.id
		from (select n.raw ->> 'id' as id, n.raw from unnest(changed) as n(raw)) c
		-- nearly always none
		cross join lateral (
			select true from regcrm.other_event x where x.account_id = for_account and x.source_id = 'note:' || c.id offset 0) x
		cross join lateral (
			select v.raw from regcrm.event v
			where v.account_id = for_account and v.source = 'note' and v.source_id = c.id offset 0) e
		where e.raw = c.raw));

	perform regcrm.attribute(for_account, contacts);
	if first_at is not null then
		perform regcrm.tell_bots(for_account, talked_deals, contacts, first_at, last_at, written_at);
	end if;
end
$$;
comment on function regcrm.ingest_notes(bigint, jsonb[], text) is
	'For ingest(): takes notes. Comments of leads, calls, short messages and traces of bots go to event, the rest to other_event. The newer updated_at wins. Arguments: account, notes, what they are about by the page''s link: leads, contacts, companies; null = each note''s own link tells, else whose number it is.';

-- ---------------------------------------------------------------------------
-- ingest: whose calls and messages
-- ---------------------------------------------------------------------------

create function regcrm.attribute_of_deals(for_account bigint, deals bigint[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
begin
	if cardinality(deals) > 0 then
		perform regcrm.attribute(for_account, array(
			select distinct l.contact_id from regcrm.deal_contact l where l.account_id = for_account and l.deal_id = any (deals)));
	end if;
end
$$;
comment on function regcrm.attribute_of_deals(bigint, bigint[]) is
	'Attributes again what hangs on the contacts of these deals.';

create function regcrm.attribute(for_account bigint, contacts bigint[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	deals bigint[];
	written_at timestamptz[];
	first_at timestamptz;
	last_at timestamptz;
begin
	if coalesce(cardinality(contacts), 0) = 0 or not exists (
			select from regcrm.event e where e.account_id = for_account and e.contact_id = any (contacts)) then
		return;
	end if;

	with fact as materialized (
		select e.id, e.at, e.kind, e.contact_id, e.talk_id, e.actor_id, e.deal_id, e.guessed, e.source,
			e.source = 'note' and e.raw ->> 'entity_type' is null as is_untold
		from (select distinct c.id from unnest(contacts) as c(id)) k
		cross join lateral (
			select v.* from regcrm.event v where v.account_id = for_account and v.contact_id = k.id offset 0) e
		where e.source in ('event', 'note')),
	link as materialized (
		select l.contact_id, l.deleted_at as cut_at, d.id as deal_id, d.created_at, d.closed_at, d.deleted_at, d.manager_id,
			coalesce(s.outcome <> 'open', d.status_id in (142, 143), false) as is_closed
		from regcrm.deal_contact l
		cross join lateral (
			select o.id, o.created_at, o.closed_at, o.deleted_at, o.manager_id, o.stage, o.status_id from regcrm.deal o
			where o.account_id = for_account and o.id = l.deal_id offset 0) d
		left join regcrm.stage_def s on s.stage = d.stage::text
		where l.account_id = for_account and l.contact_id = any (array(select f.contact_id from fact f))),
	move as (
		select e.deal_id, e.at, e.source_id,
			coalesce(b.outcome <> 'open', e.raw #>> '{value_before,0,lead_status,id}' in ('142', '143'), false) as was_closed,
			coalesce(a.outcome <> 'open', e.raw #>> '{value_after,0,lead_status,id}' in ('142', '143'), false) as is_closed,
			row_number() over (partition by e.deal_id order by e.at, e.source_id) as n,
			lead(e.at) over (partition by e.deal_id order by e.at, e.source_id) as next_at
		from regcrm.event e
		left join regcrm.stage_def b on b.stage = e.from_stage::text
		left join regcrm.stage_def a on a.stage = e.to_stage::text
		where e.account_id = for_account and e.kind = 'stage' and e.deal_id = any (array(select l.deal_id from link l))),
	-- when each deal of the contact was open
	stretch as (
		select l.contact_id, l.deal_id, l.created_at as since, true as from_birth,
			least(case when m.deal_id is not null then m.at when l.is_closed then coalesce(l.closed_at, l.created_at) end, l.deleted_at, l.cut_at) as until
		from link l
		left join move m on m.deal_id = l.deal_id and m.n = 1
		where m.was_closed is not true
		union all
		select l.contact_id, l.deal_id, m.at, false,
			least(coalesce(m.next_at, case when l.is_closed and l.closed_at > m.at then l.closed_at end), l.deleted_at, l.cut_at)
		from link l
		join move m on m.deal_id = l.deal_id and not m.is_closed),
	candidate as (
		select f.id, s.deal_id, min(case when s.since <= f.at then 0 else 1 end) as place, min(s.since) as since
		from fact f
		join stretch s on s.contact_id = f.contact_id
		where f.kind in ('call_in', 'call_out', 'message_in', 'message_out', 'robot')
			and (s.until is null or s.until >= f.at)
			-- nothing was open: what is opened again or created soon after was meant
			and s.since <= f.at + case when s.from_birth then interval '1 hour' else interval '1 day' end
		group by f.id, s.deal_id),
	chosen as (
		select distinct on (c.id) c.id, c.deal_id,
			c.place = 1 or count(*) filter (where c.place = 0) over (partition by c.id) > 1 as guessed
		from candidate c
		join fact f on f.id = c.id
		cross join lateral (
			select o.manager_id, o.created_at from regcrm.deal o
			where o.account_id = for_account and o.id = c.deal_id offset 0) d
		order by c.id, c.place,
			case when c.place = 0 then f.actor_id is not null and f.actor_id = coalesce(
				(select v.value from regcrm.event v
					where v.account_id = for_account and v.deal_id = c.deal_id and v.kind = 'responsible' and v.at <= f.at
					order by v.at desc, v.source_id desc limit 1),
				(select v.value_before from regcrm.event v
					where v.account_id = for_account and v.deal_id = c.deal_id and v.kind = 'responsible' and v.at > f.at
					order by v.at, v.source_id limit 1),
				d.manager_id::text)::bigint end desc,
			case when c.place = 1 then c.since end,
			d.created_at desc, c.deal_id desc),
	settled as materialized (
		select f.id, f.kind, f.at, f.actor_id, f.deal_id as old_deal_id, f.guessed as was_guessed,
			coalesce(own.deal_id, talk.deal_id, c.deal_id) as deal_id,
			coalesce(own.deal_id, talk.deal_id) is null and coalesce(c.guessed, false) as guessed
		from fact f
		left join chosen c on c.id = f.id
		-- a note that did not say what it is about, and whose number a deal has
		left join lateral (
			select d.id as deal_id from regcrm.deal d
			where f.is_untold and d.account_id = for_account and d.id = f.contact_id) own on true
		-- another message of the same talk is tied to a lead
		left join lateral (
			select t.deal_id from regcrm.event t
			where t.account_id = for_account and t.talk_id = f.talk_id and t.contact_id is null and t.deal_id is not null
			order by t.at <= f.at desc, abs(extract(epoch from t.at - f.at)), t.source_id
			limit 1) talk on f.talk_id is not null),
	written as (
		update regcrm.event e set deal_id = s.deal_id, guessed = s.guessed
		from settled s
		where e.account_id = for_account and e.id = s.id
			and e.id = any (array(select x.id from settled x where (x.old_deal_id, x.was_guessed) is distinct from (x.deal_id, x.guessed)))
			and (s.old_deal_id, s.was_guessed) is distinct from (s.deal_id, s.guessed)
		returning e.kind, e.at, e.actor_id, s.deal_id, s.old_deal_id)
	select array_remove(array_agg(distinct w.deal_id) || array_agg(distinct w.old_deal_id), null),
		array_agg(distinct w.at) filter (where w.kind = 'message_out' and w.actor_id is null),
		min(w.at), max(w.at)
	into deals, written_at, first_at, last_at
	from written w
	where w.kind in ('message_in', 'message_out');

	if first_at is not null then
		perform regcrm.tell_bots(for_account, deals, contacts, first_at, last_at, written_at);
	end if;
end
$$;
comment on function regcrm.attribute(bigint, bigint[]) is
	'Attributes calls and messages that hang on contacts to deals: that of the talk; else the contact''s deal open at that time, of several the one whose responsible is the caller, else the newest (guessed); where none was open, the one opened again within a day or created within an hour (guessed); else none. Arguments: account, contacts.';

create function regcrm.tell_bots(for_account bigint, deals bigint[], contacts bigint[], first_at timestamptz, last_at timestamptz, seconds timestamptz[])
	returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
begin
	with sent as materialized (
		-- messages without an author whose evidence may have changed: near those that came, and of the same second
		select o.id, o.at, o.deal_id, o.contact_id, o.by_bot
		from unnest(deals) as k(deal_id)
		cross join lateral (
			select e.* from regcrm.event e
			where e.account_id = for_account and e.deal_id = k.deal_id and e.at between first_at and last_at + interval '15 seconds' offset 0) o
		where o.kind = 'message_out' and o.actor_id is null and o.source in ('event', 'note')
		union
		select o.id, o.at, o.deal_id, o.contact_id, o.by_bot
		from unnest(contacts) as k(contact_id)
		cross join lateral (
			select e.* from regcrm.event e where e.account_id = for_account and e.contact_id = k.contact_id offset 0) o
		where o.at between first_at and last_at + interval '15 seconds'
			and o.kind = 'message_out' and o.actor_id is null and o.source in ('event', 'note')
		union
		select o.id, o.at, o.deal_id, o.contact_id, o.by_bot
		from unnest(seconds) as k(at)
		cross join lateral (
			select e.* from regcrm.event e where e.account_id = for_account and e.at = k.at offset 0) o
		where o.kind = 'message_out' and o.actor_id is null and o.source in ('event', 'note')),
	broadcast as (
		select s.at
		from (select distinct x.at from sent x) s
		cross join lateral (
			select v.deal_id, v.contact_id, v.kind, v.actor_id from regcrm.event v
			where v.account_id = for_account and v.at = s.at offset 0) o
		where o.kind = 'message_out' and o.actor_id is null
		group by s.at
		having count(distinct coalesce(o.deal_id, -o.contact_id)) >= 5),
	told as materialized (
		select s.id, s.by_bot, s.at in (select b.at from broadcast b)
			or case when s.deal_id is not null
				then exists (select from regcrm.event i
					where i.account_id = for_account and i.deal_id = s.deal_id and i.kind = 'message_in'
						and i.at between s.at - interval '15 seconds' and s.at)
				else exists (select from regcrm.event i
					where i.account_id = for_account and i.contact_id = s.contact_id and i.deal_id is null and i.kind = 'message_in'
						and i.at between s.at - interval '15 seconds' and s.at) end as is_bot
		from sent s)
	update regcrm.event e set by_bot = t.is_bot
	from told t
	where e.account_id = for_account and e.id = t.id and t.by_bot <> t.is_bot
		and e.id = any (array(select x.id from told x where x.by_bot <> x.is_bot));
end
$$;
comment on function regcrm.tell_bots(bigint, bigint[], bigint[], timestamptz, timestamptz, timestamptz[]) is
	'Tells which outgoing messages without an author were a bot''s: within 15 seconds after an incoming one of the deal, or in the same second on five deals or more. Arguments: account, deals and contacts of messages that came, the first and last moment of these, seconds to look at for all deals.';
