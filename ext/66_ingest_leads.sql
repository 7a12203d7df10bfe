
-- ---------------------------------------------------------------------------
-- ingest: leads and contacts
-- ---------------------------------------------------------------------------

-- A deal's columns are a function of what is stored: the lead as amoCRM sent
-- it last, the mappings, and events that tell what a lead does not (when it was
-- deleted, when a checkbox was ticked).  So the order of pages does not matter,
-- and a corrected mapping needs no new page.

create function regcrm.moment_text(at timestamptz) returns text
	language sql stable parallel safe
	return to_char(at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || '+00';
comment on function regcrm.moment_text(timestamptz) is
	'A moment as text, the same in every session.';

create function regcrm.column_kind(field text) returns text
	language sql immutable parallel safe
	return case
		when field in ('lead_date', 'return_on') then 'date'
		when field in ('meeting_at', 'agreed_at', 'signed_at', 'paid_at') then 'moment'
		when field = 'skip_task_check' then 'boolean'
		when field in ('reason', 'pause_reason') then 'text' end;
comment on function regcrm.column_kind(text) is
	'What a column of deal that a custom field may hold takes: date, moment, boolean, text; null = there is no such column.';

create function regcrm.local_moment(value text, zone text) returns timestamp
	language plpgsql stable parallel safe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	part text[];
	first_of_month date;
	day date;
	seconds bigint;
begin
	-- Unix seconds, from 1900 to 2199
	if value ~ '^\s*-?[0-9]{1,11}\s*$' then
		seconds := value::bigint;
		if seconds between -2208988800 and 7258118399 then
			return to_timestamp(seconds) at time zone zone;
		end if;
		return null;
	end if;

	part := regexp_match(value, '^\s*(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(?:\.\d+)?\s*(?:(Z)|([+-]\d\d):?(\d\d)?)?)?\s*$');
	if part is null then
		part := regexp_match(value, '^\s*(\d\d)\.(\d\d)\.(\d{4})(?:,?\s+(\d\d):(\d\d)(?::(\d\d))?)?\s*$');
		if part is null then
			return null;
		end if;
		part := array[part[3], part[2], part[1], part[4], part[5], part[6], null, null, null];
	end if;
	if part[1]::integer not between 1900 and 2199 or part[2]::integer not between 1 and 12 or part[3]::integer < 1
		or part[4]::integer > 23 or part[5]::integer > 59 or part[6]::integer > 59 or abs(part[8]::integer) > 15 then
		return null;
	end if;
	first_of_month := make_date(part[1]::integer, part[2]::integer, 1);
	day := first_of_month + (part[3]::integer - 1);
	if day >= first_of_month + interval '1 month' then
		return null;
	end if;
	if part[7] is not null or part[8] is not null then
		return (day + make_time(part[4]::integer, part[5]::integer, coalesce(part[6]::integer, 0))
			- make_interval(mins => coalesce(sign(part[8]::integer)::integer * (abs(part[8]::integer) * 60 + coalesce(part[9]::integer, 0)), 0)))
			at time zone 'UTC' at time zone zone;
	end if;
	return day + make_time(coalesce(part[4]::integer, 0), coalesce(part[5]::integer, 0), coalesce(part[6]::integer, 0));
end
$$;
comment on function regcrm.local_moment(text, text) is
	'Date and time that a text gives (Unix seconds, 2026-03-02T10:00:00+03:00, 02.03.2026 10:00), as local time of the zone; null where it gives none. Arguments: the text, the zone.';

create function regcrm.field_text(field text, type text, value text, zone text, ticked_at timestamptz) returns text
	language plpgsql stable parallel safe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	kind text := regcrm.column_kind(field);
	read timestamp;
begin
	if value is null or value = '' then
		return null;
	end if;

	-- a checkbox, or what looks like one where the type is not known
	if type = 'checkbox' or kind = 'boolean' or type is null and kind in ('date', 'moment') and regcrm.fold(value) in ('1', '0', 'true', 'false', 'да', 'нет') then
		if regcrm.fold(value) in ('0', 'false', 'нет', 'no', 'off', '-') then
			return null;
		end if;
		return case kind
			when 'moment' then coalesce(regcrm.moment_text(ticked_at), 'true')
			when 'date' then coalesce(to_char(ticked_at at time zone zone, 'YYYY-MM-DD'), 'true')
			else 'true' end;
	end if;

	if kind in ('date', 'moment') or kind is null and type in ('date', 'birthday', 'date_time') then
		read := regcrm.local_moment(value, zone);
		if read is null then
			-- what no one can read is no date, and no column's value
			return case when kind is null then value end;
		end if;
		return case
			when kind = 'date' or kind is null and type <> 'date_time' then to_char(read, 'YYYY-MM-DD')
			else regcrm.moment_text(read at time zone zone) end;
	end if;
	return value;
end
$$;
comment on function regcrm.field_text(text, text, text, text, timestamptz) is
	'Text form of a custom field''s value: a date as 2026-03-02, a moment as 2026-03-02 07:00:00+00, a checkbox as true, or, where a column of moments holds it, as the moment it was ticked; null = it holds nothing, or nothing that its column can take. Arguments: field as in field_map, type as in custom_field, value as amoCRM sends it, time zone of the account, moment it was ticked.';

create function regcrm.values_joined(field_values jsonb) returns text
	language sql immutable parallel safe
	return (
		select string_agg(case jsonb_typeof(v.value) when 'object' then coalesce(v.value ->> 'value', v.value::text) else v.value #>> '{}' end, ', ' order by v.n)
		from jsonb_array_elements(field_values) with ordinality as v(value, n));
comment on function regcrm.values_joined(jsonb) is
	'For values_text(): the values of a list, whatever they are, joined by commas.';

-- without a query of its own, so that it can be inlined
create function regcrm.values_text(field_values jsonb) returns text
	language sql immutable parallel safe
	return case
		when jsonb_typeof(field_values) <> 'array' then null
		-- nearly always
		when jsonb_array_length(field_values) = 1 and jsonb_typeof(field_values -> 0) = 'object'
			then coalesce(field_values #>> '{0,value}', case when not field_values -> 0 ? 'value' then (field_values -> 0)::text end)
		else regcrm.values_joined(field_values) end;
comment on function regcrm.values_text(jsonb) is
	'The values of a custom field in a lead as one text, joined by commas.';

create function regcrm.read_leads(for_account bigint, leads jsonb[]) returns table (
		id bigint, name text, price numeric, pipeline_id bigint, status_id bigint, stage regcrm.stage, manager_id bigint,
		created_at timestamptz, updated_at timestamptz, closed_at timestamptz, deleted_at timestamptz, is_deleted boolean,
		lead_date date, reason text, pause_reason text, meeting_at timestamptz, return_on date, agreed_at timestamptz,
		signed_at timestamptz, paid_at timestamptz, skip_task_check boolean, custom jsonb, source_name text, tags text[],
		in_regulation boolean, raw jsonb)
	language plpgsql stable parallel safe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
#variable_conflict use_column
declare
	zone text := (select a.time_zone from regcrm.account a where a.id = for_account);
begin
	return query
	with lead as materialized (
		select regcrm.json_id(l.raw -> 'id') as id, l.raw, regcrm.json_time(l.raw -> 'created_at') as created_at,
			regcrm.json_id(l.raw -> 'pipeline_id') as pipeline_id, regcrm.json_id(l.raw -> 'status_id') as status_id,
			regcrm.json_id(l.raw -> 'loss_reason_id') as loss_reason_id
		from unnest(leads) as l(raw)),
	-- every custom field that a lead holds, and what it is here
	held as (
		select l.id as lead_id, l.created_at, regcrm.json_id(f.value -> 'field_id') as field_id,
			f.value ->> 'field_type' as type, f.value -> 'values' as field_values, null::text as known_text
		from lead l
		cross join jsonb_array_elements(regcrm.json_list(l.raw -> 'custom_fields_values')) as f(value)
		where jsonb_typeof(f.value) = 'object' and regcrm.json_id(f.value -> 'field_id') is not null
		union all
		select l.id, l.created_at, 0, 'select', null,
			coalesce(r.name, regcrm.json_text(l.raw #> '{_embedded,loss_reason,0,name}'), regcrm.json_text(l.raw #> '{_embedded,loss_reason,name}'),
				'#' || l.loss_reason_id)
		from lead l
		left join regcrm.loss_reason r on r.account_id = for_account and r.id = l.loss_reason_id
		where l.loss_reason_id is not null),
	mapped as materialized (
		select h.lead_id, h.field_id, h.type, h.field_values, m.field,
			case when m.field is not null then
				coalesce(h.known_text, regcrm.field_text(m.field, h.type, regcrm.values_text(h.field_values), zone,
					case when coalesce(h.type, 'checkbox') = 'checkbox' and regcrm.column_kind(m.field) in ('moment', 'date') then coalesce((
						-- ticked when an event last says so, else from the beginning
						select max(e.at) from regcrm.event e
						where e.account_id = for_account and e.deal_id = h.lead_id and e.kind = 'field' and e.field = m.field
							and e.value is not null and e.raw ->> 'type' = format('custom_field_%s_value_changed', h.field_id)), h.created_at) end))
			end as text
		from held h
		left join regcrm.field_map m on m.account_id = for_account and m.field_id = h.field_id),
	-- of several fields for one column: an exact time before a date, the oldest field, amoCRM's own reason last
	filled as (
		select m.lead_id,
			jsonb_object_agg(m.field, m.text order by m.field_id = 0 desc, coalesce(m.type, '') = 'date_time', m.field_id desc)
				filter (where m.text is not null and regcrm.column_kind(m.field) is not null) as columns,
			jsonb_object_agg(coalesce(m.field, m.field_id::text), case when m.field is null then coalesce(m.field_values, 'null')
					when regcrm.column_kind(m.field) is null then to_jsonb(m.text) else coalesce(m.field_values, 'null') end
					order by m.field_id desc)
				filter (where m.field_id > 0 and (m.field is null or regcrm.column_kind(m.field) is null and m.text is not null)) as custom,
			-- what its column can't take is kept as it came
			jsonb_object_agg(m.field_id::text, m.field_values)
				filter (where m.field_id > 0 and m.field is not null and m.text is null and m.field_values is not null) as unread
		from mapped m
		group by m.lead_id)
	select l.id,
		regcrm.json_text(l.raw -> 'name'),
		coalesce(regcrm.json_number(l.raw -> 'price_with_minor_units'), regcrm.json_number(l.raw -> 'price')),
		l.pipeline_id, l.status_id, s.stage,
		regcrm.json_id(l.raw -> 'responsible_user_id'),
		l.created_at,
		coalesce(regcrm.json_time(l.raw -> 'updated_at'), l.created_at),
		regcrm.json_time(l.raw -> 'closed_at'),
		gone.at, gone.at is not null,
		(f.columns ->> 'lead_date')::date,
		f.columns ->> 'reason',
		f.columns ->> 'pause_reason',
		(f.columns ->> 'meeting_at')::timestamptz,
		(f.columns ->> 'return_on')::date,
		(f.columns ->> 'agreed_at')::timestamptz,
		(f.columns ->> 'signed_at')::timestamptz,
		(f.columns ->> 'paid_at')::timestamptz,
		(f.columns ->> 'skip_task_check')::boolean,
		coalesce(f.unread, '{}') || coalesce(f.custom, '{}'),
		coalesce(regcrm.json_text(l.raw #> '{_embedded,source,name}'), regcrm.json_text(l.raw #> '{_embedded,source,0,name}')),
		array(select regcrm.json_text(t.value -> 'name')
			from jsonb_array_elements(regcrm.json_list(l.raw #> '{_embedded,tags}')) with ordinality as t(value, n)
			where jsonb_typeof(t.value) = 'object' and regcrm.json_text(t.value -> 'name') is not null
			order by t.n),
		exists (select from regcrm.stage_map p
				where p.account_id = for_account and p.pipeline_id = l.pipeline_id and p.stage is not null)
			or exists (select from regcrm.event e
				where e.account_id = for_account and e.deal_id = l.id and e.kind = 'stage' and coalesce(e.from_stage, e.to_stage) is not null),
		l.raw
	from lead l
	left join filled f on f.lead_id = l.id
	left join regcrm.stage_map s on s.account_id = for_account and s.pipeline_id = l.pipeline_id and s.status_id = l.status_id
	left join lateral (
		-- deleted when the event says so, else when it was first seen in the trash
		select max(o.at) filter (where o.type = 'lead_deleted') as deleted,
			max(o.at) filter (where o.type = 'lead_restored') as restored,
			max(o.at) filter (where o.type = 'lead_tombstone') as seen
		from regcrm.other_event o
		where o.account_id = for_account and o.entity_type = 'lead' and o.entity_id = l.id
			and o.type in ('lead_deleted', 'lead_restored', 'lead_tombstone')) e on true
	cross join lateral (
		select case
			when e.deleted > coalesce(e.restored, '-infinity') then e.deleted
			when e.seen > coalesce(e.restored, '-infinity') then e.seen end) as gone(at);
end
$$;
comment on function regcrm.read_leads(bigint, jsonb[]) is
	'Leads as amoCRM sent them, read into the columns of deal by the mappings and by the events that tell what a lead does not. Arguments: account, leads.';

create function regcrm.write_deals(for_account bigint, leads jsonb[]) returns bigint[]
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	moved bigint[];
begin
	with reading as materialized (
		select r.* from regcrm.read_leads(for_account, leads) r),
	-- deals whose change may give calls and messages of their contacts another deal
	stirred as materialized (
		select r.id
		from reading r
		left join lateral (
			select d.id, d.created_at, d.closed_at, d.deleted_at, d.stage, d.status_id, d.manager_id
			from regcrm.deal d
			where d.account_id = for_account and d.id = r.id offset 0) b on true
		where b.id is null
			or (b.created_at, b.closed_at, b.deleted_at, b.stage::text, b.status_id, b.manager_id)
				is distinct from (r.created_at, r.closed_at, r.deleted_at, r.stage::text, r.status_id, r.manager_id)),
	written as (
		insert into regcrm.deal as d (account_id, id, name, price, pipeline_id, status_id, stage, manager_id,
			created_at, updated_at, closed_at, deleted_at, is_deleted,
			lead_date, reason, pause_reason, meeting_at, return_on, agreed_at, signed_at, paid_at, skip_task_check,
			custom, source_name, tags, in_regulation, raw)
		select for_account, r.id, r.name, r.price, r.pipeline_id, r.status_id, r.stage, r.manager_id,
			r.created_at, r.updated_at, r.closed_at, r.deleted_at, r.is_deleted,
			r.lead_date, r.reason, r.pause_reason, r.meeting_at, r.return_on, r.agreed_at, r.signed_at, r.paid_at, r.skip_task_check,
			r.custom, r.source_name, r.tags, r.in_regulation, r.raw
		from reading r
		order by r.id
		on conflict (account_id, id) do update
			set name = excluded.name, price = excluded.price, pipeline_id = excluded.pipeline_id, status_id = excluded.status_id,
				stage = excluded.stage, manager_id = excluded.manager_id, created_at = excluded.created_at, updated_at = excluded.updated_at,
				closed_at = excluded.closed_at, deleted_at = excluded.deleted_at, is_deleted = excluded.is_deleted,
				lead_date = excluded.lead_date, reason = excluded.reason, pause_reason = excluded.pause_reason,
				meeting_at = excluded.meeting_at, return_on = excluded.return_on, agreed_at = excluded.agreed_at,
				signed_at = excluded.signed_at, paid_at = excluded.paid_at, skip_task_check = excluded.skip_task_check,
				custom = excluded.custom, source_name = excluded.source_name, tags = excluded.tags,
				in_regulation = excluded.in_regulation, raw = excluded.raw
			where (d.stage::text, d.deleted_at, d.is_deleted, d.lead_date, d.reason, d.pause_reason, d.meeting_at, d.return_on, d.agreed_at,
					d.signed_at, d.paid_at, d.skip_task_check, d.custom, d.in_regulation, d.raw)
				is distinct from (excluded.stage::text, excluded.deleted_at, excluded.is_deleted, excluded.lead_date, excluded.reason,
					excluded.pause_reason, excluded.meeting_at, excluded.return_on, excluded.agreed_at, excluded.signed_at, excluded.paid_at,
					excluded.skip_task_check, excluded.custom, excluded.in_regulation, excluded.raw)
		returning d.id)
	select coalesce(array_agg(s.id), '{}') into moved from stirred s;
	return moved;
end
$$;
comment on function regcrm.write_deals(bigint, jsonb[]) is
	'Reads leads into deal; rows that stay as they are are not touched. Returns the deals for which calls and messages of their contacts must be attributed again.';

create function regcrm.reread_deals(for_account bigint, deals bigint[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	moved bigint[];
begin
	for i in 0 .. (coalesce(cardinality(deals), 0) - 1) / 1000 loop
		moved := regcrm.write_deals(for_account, array(
			select d.raw from regcrm.deal d
			where d.account_id = for_account and d.id = any (deals[i * 1000 + 1 : i * 1000 + 1000]) and d.raw is not null));
		perform regcrm.attribute_of_deals(for_account, moved);
	end loop;
end
$$;
comment on function regcrm.reread_deals(bigint, bigint[]) is
	'Reads deals again from the leads as they were sent: after a mapping was corrected, or an event came that tells something of them.';

create function regcrm.ingest_leads(for_account bigint, leads jsonb[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	ids bigint[];
	changed jsonb[];
	moved bigint[];
	trashed bigint[];
	relinked bigint[];
begin
	if not exists (select from regcrm.field_map m where m.account_id = for_account and m.field_id = 0) then
		perform regcrm.fill_field_map(for_account);
	end if;

	-- in the trash a lead shows nothing but that it is there: its columns stay
	with tombstone as (
		insert into regcrm.other_event as o (account_id, source_id, type, entity_type, entity_id, at, actor_id, raw)
		select distinct on (t.id) for_account, 'lead_tombstone:' || t.id, 'lead_tombstone', 'lead', t.id, t.at,
			regcrm.json_whole(t.lead -> 'updated_by'), t.lead
		from (
			select regcrm.json_id(l.lead -> 'id') as id,
				coalesce(regcrm.json_time(l.lead -> 'updated_at'), regcrm.json_time(l.lead -> 'created_at')) as at, l.lead
			from unnest(leads) as l(lead)
			where regcrm.json_true(l.lead -> 'is_deleted')) t
		order by t.id, t.at desc
		on conflict (account_id, source_id) do update
			set at = excluded.at, actor_id = excluded.actor_id, raw = excluded.raw
			where excluded.at > o.at
		returning o.entity_id)
	select coalesce(array_agg(t.entity_id), '{}') into trashed from tombstone t;

	with incoming as (
		select distinct on (l.id) l.id, l.at, l.lead
		from (
			select regcrm.json_id(e.lead -> 'id') as id,
				coalesce(regcrm.json_time(e.lead -> 'updated_at'), regcrm.json_time(e.lead -> 'created_at')) as at, e.lead, e.n
			from unnest(leads) with ordinality as e(lead, n)
			where regcrm.json_time(e.lead -> 'created_at') is not null) l
		order by l.id, l.at desc, l.n desc),
	-- || makes a plain copy, which is then not decompressed again and again
	stored as materialized (
		select i.id, i.at, i.lead, d.raw || '{}' as raw, d.updated_at
		from incoming i
		left join lateral (
			select o.raw, o.updated_at from regcrm.deal o
			where o.account_id = for_account and o.id = i.id offset 0) d on true),
	merged as materialized (
		select s.id, s.raw as stored,
			case when s.raw is null then regcrm.plain_raw(s.lead) else regcrm.merge_raw(s.raw, s.updated_at, s.lead, s.at) end as raw
		from stored s)
	select coalesce(array_agg(m.id), '{}'), coalesce(array_agg(m.raw) filter (where m.raw is distinct from m.stored), '{}')
	into ids, changed
	from merged m;

	-- what reconcile() found gone and amoCRM shows again was not
	with risen as (
		delete from regcrm.other_event o
		where o.account_id = for_account and o.type = 'lead_tombstone' and o.entity_type = 'lead' and o.entity_id = any (ids)
			and o.raw @> '{"found_gone": true}'
		returning o.entity_id)
	select trashed || coalesce(array_agg(r.entity_id), '{}') into trashed from risen r;

	moved := regcrm.write_deals(for_account, changed);
	if cardinality(trashed) > 0 then
		perform regcrm.reread_deals(for_account, trashed);
	end if;

	-- links, also those that only an older version shows
	with shown as (
		select l.deal_id, regcrm.json_id(c.value -> 'id') as contact_id, max(l.at) as at, bool_and(c.is_company) as is_company
		from (
			select regcrm.json_id(e.lead -> 'id') as deal_id,
				coalesce(regcrm.json_time(e.lead -> 'updated_at'), regcrm.json_time(e.lead -> 'created_at')) as at, e.lead
			from unnest(leads) as e(lead)) l
		cross join lateral (
			select k.value, false as is_company from jsonb_array_elements(regcrm.json_list(l.lead #> '{_embedded,contacts}')) k
			union all
			select k.value, true from jsonb_array_elements(regcrm.json_list(l.lead #> '{_embedded,companies}')) k) c
		where jsonb_typeof(c.value) = 'object' and regcrm.json_id(c.value -> 'id') is not null
		group by 1, 2),
	written as (
		insert into regcrm.deal_contact as l (account_id, deal_id, contact_id, is_company, seen_at)
		select for_account, s.deal_id, s.contact_id, s.is_company, s.at from shown s
		order by s.deal_id, s.contact_id
		on conflict (account_id, deal_id, contact_id) do update
			set seen_at = greatest(l.seen_at, excluded.seen_at), is_company = l.is_company and excluded.is_company
			where l.seen_at is null or l.seen_at < excluded.seen_at or l.is_company and not excluded.is_company
		returning l.contact_id, xmax = 0 as is_new)
	select coalesce(array_agg(w.contact_id) filter (where w.is_new), '{}') into relinked from written w;

	relinked := relinked || regcrm.settle_links(for_account, ids, '{}');
	perform regcrm.attribute(for_account, array(
		select l.contact_id from regcrm.deal_contact l where l.account_id = for_account and l.deal_id = any (moved)
		union select unnest(relinked)
		-- notes that did not say what they are about
		union select e.contact_id from regcrm.event e
			where e.account_id = for_account and e.contact_id = any (moved) and e.source = 'note' and e.raw ->> 'entity_type' is null));
end
$$;
comment on function regcrm.ingest_leads(bigint, jsonb[]) is
	'For ingest(): takes leads. The newer updated_at wins; keys that only the older version has are kept.';

create function regcrm.settle_links(for_account bigint, deals bigint[], contacts bigint[]) returns bigint[]
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	changed bigint[];
begin
	with link as materialized (
		select l.deal_id, l.contact_id, l.seen_at, l.is_company, l.is_main, l.deleted_at from regcrm.deal_contact l
		where l.account_id = for_account and l.deal_id = any (deals) and l.seen_at is not null
		union
		select l.deal_id, l.contact_id, l.seen_at, l.is_company, l.is_main, l.deleted_at from regcrm.deal_contact l
		where l.account_id = for_account and l.contact_id = any (contacts) and l.seen_at is not null),
	evidence as (
		select l.deal_id, l.contact_id, l.seen_at, l.is_main as was_main, l.deleted_at as was_deleted_at,
			coalesce((
				select bool_or(regcrm.json_true(k.value -> 'is_main'))
				from jsonb_array_elements(regcrm.json_list(s.shown)) k
				where not l.is_company and jsonb_typeof(k.value) = 'object' and regcrm.json_id(k.value -> 'id') = l.contact_id), false) as is_main,
			-- the lead lists its contacts, and this is none of them; what is no newer than the link says nothing
			case when d.updated_at > l.seen_at and jsonb_typeof(s.shown) = 'array'
					and not s.shown @> jsonb_build_array(jsonb_build_object('id', l.contact_id))
					and not s.shown @> jsonb_build_array(jsonb_build_object('id', l.contact_id::text))
				then d.updated_at end as lead_lacks,
			case when c.updated_at > l.seen_at and jsonb_typeof(c.raw #> '{_embedded,leads}') = 'array'
					and not (c.raw #> '{_embedded,leads}') @> jsonb_build_array(jsonb_build_object('id', l.deal_id))
					and not (c.raw #> '{_embedded,leads}') @> jsonb_build_array(jsonb_build_object('id', l.deal_id::text))
				then c.updated_at end as contact_lacks,
			cut.at as cut
		from link l
		left join lateral (
			select o.raw, o.updated_at from regcrm.deal o
			where o.account_id = for_account and o.id = l.deal_id offset 0) d on true
		left join lateral (
			select o.raw, o.updated_at from regcrm.contact o
			where o.account_id = for_account and o.id = l.contact_id and not l.is_company offset 0) c on true
		-- offset 0: taken out of the lead once
		cross join lateral (
			select d.raw -> '_embedded' -> case when l.is_company then 'companies' else 'contacts' end as shown offset 0) s
		left join lateral (
			select max(o.at) as at
			from (
				select e.at from regcrm.other_event e
				where e.account_id = for_account and e.entity_type = 'lead' and e.entity_id = l.deal_id
					and e.at > l.seen_at and e.type like '%\_unlinked' and regcrm.link_target(e.raw, true) = l.contact_id
				union all
				select e.at from regcrm.other_event e
				where e.account_id = for_account and e.entity_type in ('contact', 'company') and e.entity_id = l.contact_id
					and e.at > l.seen_at and e.type like '%\_unlinked' and regcrm.link_target(e.raw, false) = l.deal_id) o) cut on true),
	settled as materialized (
		select e.*, case when greatest(e.lead_lacks, e.contact_lacks, e.cut) > e.seen_at
			-- cut when an event says so; else it is known to have stood when it was last seen
			then case when e.cut > e.seen_at then e.cut else e.seen_at end end as deleted_at
		from evidence e),
	written as (
		update regcrm.deal_contact l set is_main = s.is_main, deleted_at = s.deleted_at
		from settled s
		where l.account_id = for_account and l.deal_id = s.deal_id and l.contact_id = s.contact_id
			and l.deal_id = any (array(select x.deal_id from settled x
				where (x.was_main, x.was_deleted_at) is distinct from (x.is_main, x.deleted_at)))
			and (s.was_main, s.was_deleted_at) is distinct from (s.is_main, s.deleted_at)
		returning l.contact_id)
	select coalesce(array_agg(distinct w.contact_id), '{}') into changed from written w;
	return changed;
end
$$;
comment on function regcrm.settle_links(bigint, bigint[], bigint[]) is
	'Settles which links between deals and contacts stand, by the newest that the lead, the contact or an event says of them. Arguments: account, deals, contacts. Returns the contacts whose links changed.';

create function regcrm.link_target(event jsonb, of_lead boolean) returns bigint
	language sql immutable parallel safe
	return (
		select max(regcrm.json_id(e.entity -> 'id'))
		from (
			select coalesce(x.value #> '{link,entity}', x.value #> '{unlink,entity}') as entity
			from jsonb_array_elements(regcrm.json_list(event -> 'value_after') || regcrm.json_list(event -> 'value_before')) as x(value)) e
		where regcrm.event_entity(e.entity ->> 'type') = any (case when of_lead then '{contact,company}'::text[] else '{lead}' end));
comment on function regcrm.link_target(jsonb, boolean) is
	'What an event about a link names at the other end: a contact or company of a lead, or a lead of a contact; null where it is something else.';

create function regcrm.ingest_contacts(for_account bigint, contacts jsonb[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	ids bigint[];
	news bigint[];
begin
	-- of the person only the name is kept
	with incoming as (
		select distinct on (c.id) c.id, c.at, c.contact
		from (
			select regcrm.json_id(e.contact -> 'id') as id,
				coalesce(regcrm.json_time(e.contact -> 'updated_at'), regcrm.json_time(e.contact -> 'created_at'), 'epoch') as at,
				e.contact - '{custom_fields_values,first_name,last_name}'::text[] as contact, e.n
			from unnest(contacts) with ordinality as e(contact, n)) c
		order by c.id, c.at desc, c.n desc),
	merged as materialized (
		select i.id, greatest(i.at, o.updated_at) as at, o.raw as stored,
			case when o.raw is null then regcrm.plain_raw(i.contact)
				else regcrm.merge_raw(o.raw, coalesce(o.updated_at, 'epoch'), i.contact, i.at) end as raw
		from incoming i
		left join lateral (
			select c.raw, c.updated_at from regcrm.contact c
			where c.account_id = for_account and c.id = i.id offset 0) o on true)
	insert into regcrm.contact as c (account_id, id, name, is_deleted, updated_at, raw)
	select for_account, m.id, regcrm.json_text(m.raw -> 'name'), regcrm.contact_is_deleted(for_account, m.id, m.raw), m.at, m.raw
	from merged m
	where m.raw is distinct from m.stored
	on conflict (account_id, id) do update
		set name = excluded.name, is_deleted = excluded.is_deleted, updated_at = excluded.updated_at, raw = excluded.raw;

	ids := array(select regcrm.json_id(e.contact -> 'id') from unnest(contacts) as e(contact));
	with shown as (
		select regcrm.json_id(k.value -> 'id') as deal_id, regcrm.json_id(e.contact -> 'id') as contact_id,
			max(coalesce(regcrm.json_time(e.contact -> 'updated_at'), regcrm.json_time(e.contact -> 'created_at'), 'epoch')) as at
		from unnest(contacts) as e(contact)
		cross join jsonb_array_elements(regcrm.json_list(e.contact #> '{_embedded,leads}')) as k(value)
		where jsonb_typeof(k.value) = 'object' and regcrm.json_id(k.value -> 'id') is not null
		group by 1, 2),
	written as (
		insert into regcrm.deal_contact as l (account_id, deal_id, contact_id, seen_at)
		select for_account, s.deal_id, s.contact_id, s.at from shown s
		where not exists (select from regcrm.forgotten f where f.account_id = for_account and f.deal_id = s.deal_id)
		order by s.deal_id, s.contact_id
		on conflict (account_id, deal_id, contact_id) do update
			set seen_at = greatest(l.seen_at, excluded.seen_at), is_company = false
			where l.seen_at is null or l.seen_at < excluded.seen_at or l.is_company
		returning l.contact_id, xmax = 0 as is_new)
	select coalesce(array_agg(w.contact_id) filter (where w.is_new), '{}') into news from written w;

	perform regcrm.attribute(for_account, array(
		select unnest(news) union select unnest(regcrm.settle_links(for_account, '{}', ids))));
end
$$;
comment on function regcrm.ingest_contacts(bigint, jsonb[]) is
	'For ingest(): takes contacts, and the leads that they are linked with. Of the person only the name is kept.';

create function regcrm.contact_is_deleted(for_account bigint, contact bigint, raw jsonb) returns boolean
	language plpgsql stable parallel safe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
begin
	return regcrm.json_true(raw -> 'is_deleted') or coalesce((
		select o.type = 'contact_deleted' from regcrm.other_event o
		where o.account_id = for_account and o.entity_type = 'contact' and o.entity_id = contact
			and o.type in ('contact_deleted', 'contact_restored')
		order by o.at desc, o.type desc
		limit 1), false);
end
$$;
comment on function regcrm.contact_is_deleted(bigint, bigint, jsonb) is
	'Whether a contact was deleted, by its own page or the last event about it.';
