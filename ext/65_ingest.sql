
-- ---------------------------------------------------------------------------
-- ingest: reading what amoCRM sends
-- ---------------------------------------------------------------------------

-- Elements of a page are checked by predicates before anything is converted, so
-- that no statement below can fail for one of them: what can't be read goes to
-- quarantine, the rest of the page goes on.  Values are read in C (json_read.c),
-- some dozens to an element.  Bodies with RETURN are bound when
-- they are made, so they need no search_path and can be inlined.
--
-- Statements that read or write facts go by keys: from each element of the page
-- to its rows, by LATERAL and OFFSET 0, or by = ANY of an array.  So whatever the
-- statistics say, no page costs more in a large account than in a small one; and
-- plans are kept (force_generic_plan), since planning cost more than running did.
-- fit_plans() has them made anew while the tables grow.

create function regcrm.fold(value text) returns text
	language sql immutable parallel safe
	return btrim(translate(value,
		'ABCDEFGHIJKLMNOPQRSTUVWXYZАБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯё',
		'abcdefghijklmnopqrstuvwxyzабвгдеежзийклмнопрстуфхцчшщъыьэюяе'), E' \t\r\n');
comment on function regcrm.fold(text) is
	'Text for comparing names: without case, surrounding blanks and the difference of ё and е, in every locale.';

create function regcrm.json_unset(value jsonb) returns boolean
	as 'MODULE_PATHNAME', 'regcrm_json_unset'
	language c immutable parallel safe;
comment on function regcrm.json_unset(jsonb) is
	'Whether a value says "nothing": missing, null, 0, empty text, false, or the [] and {} that stand for an empty object.';

create function regcrm.json_number(value jsonb) returns numeric
	as 'MODULE_PATHNAME', 'regcrm_json_number'
	language c immutable strict parallel safe;
comment on function regcrm.json_number(jsonb) is
	'A number, or a text that is one; null for anything else and for numbers of more than 15 digits.';

create function regcrm.json_whole(value jsonb) returns bigint
	as 'MODULE_PATHNAME', 'regcrm_json_whole'
	language c immutable strict parallel safe;
comment on function regcrm.json_whole(jsonb) is
	'A whole number, or a text that is one; null for anything else and for numbers of more than 15 digits.';

create function regcrm.json_id(value jsonb) returns bigint
	as 'MODULE_PATHNAME', 'regcrm_json_id'
	language c immutable strict parallel safe;
comment on function regcrm.json_id(jsonb) is
	'An id of amoCRM, a number or a text: from 1 to 999999999999999; null for anything else.';

create function regcrm.json_time(value jsonb) returns timestamptz
	as 'MODULE_PATHNAME', 'regcrm_json_time'
	language c immutable strict parallel safe;
comment on function regcrm.json_time(jsonb) is
	'A moment given as Unix seconds, from 1970 to 2199; null for anything else. 0 and less mean that there is none.';

create function regcrm.json_text(value jsonb) returns text
	as 'MODULE_PATHNAME', 'regcrm_json_text'
	language c immutable strict parallel safe;
comment on function regcrm.json_text(jsonb) is
	'A text, or a number or boolean as text; null for anything else.';

create function regcrm.json_true(value jsonb) returns boolean
	as 'MODULE_PATHNAME', 'regcrm_json_true'
	language c immutable parallel safe;
comment on function regcrm.json_true(jsonb) is
	'Whether a value says yes.';

create function regcrm.json_list(value jsonb) returns jsonb
	as 'MODULE_PATHNAME', 'regcrm_json_list'
	language c immutable parallel safe;
comment on function regcrm.json_list(jsonb) is
	'A list as it is, an empty one for anything else.';

create function regcrm.bad_whole(value jsonb) returns boolean
	as 'MODULE_PATHNAME', 'regcrm_bad_whole'
	language c immutable parallel safe;
comment on function regcrm.bad_whole(jsonb) is
	'Whether a value that may be missing is there and is no whole number.';

create function regcrm.bad_time(value jsonb) returns boolean
	as 'MODULE_PATHNAME', 'regcrm_bad_time'
	language c immutable parallel safe;
comment on function regcrm.bad_time(jsonb) is
	'Whether a time that may be missing is there and can''t be read. 0 and less mean missing.';

create function regcrm.unreadable(key text, value jsonb) returns text
	language sql stable parallel safe
	return case when value is null or value = 'null' then format('no %s', key)
		else format('%s cannot be read: %s', key, left(value::text, 100)) end;
comment on function regcrm.unreadable(text, jsonb) is
	'The error text for a key whose value can''t be read.';

create function regcrm.raw_parts(raw jsonb) returns table (key text, value jsonb)
	language sql immutable parallel safe
begin atomic
	select o.key, o.value from jsonb_each(raw) o where o.key not in ('_embedded', '_kept')
	union all
	select '_embedded.' || o.key, o.value
	from jsonb_each(case when jsonb_typeof(raw -> '_embedded') = 'object' then raw -> '_embedded' else '{}' end) o;
end;
comment on function regcrm.raw_parts(jsonb) is
	'Keys of an element as amoCRM sent it, those in _embedded among them.';

create function regcrm.plain_raw(incoming jsonb) returns jsonb
	language sql immutable parallel safe
	return case when coalesce(jsonb_typeof(incoming -> '_embedded') = 'object' and incoming -> '_embedded' <> '{}', false)
		then incoming else incoming - '_embedded' end;
comment on function regcrm.plain_raw(jsonb) is
	'An element as it is stored where nothing is stored of it yet: an empty _embedded says nothing.';

create function regcrm.merge_raw(stored jsonb, stored_at timestamptz, incoming jsonb, incoming_at timestamptz) returns jsonb
	language plpgsql immutable parallel safe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	merged jsonb;
begin
	incoming := regcrm.plain_raw(incoming);
	if stored is null or stored = incoming then
		return incoming;
	end if;

	-- nearly always the newer version has all that the older one has
	if incoming_at >= stored_at and not stored ? '_kept'
			and stored - array(select jsonb_object_keys(incoming)) = '{}'
			and (not stored ? '_embedded' or (stored -> '_embedded') - array(select jsonb_object_keys(incoming -> '_embedded')) = '{}') then
		return incoming;
	end if;

	-- of each key the newest version that has it; _kept says of what moment it is, where that is not the whole's
	with part as (
		select coalesce(s.key, i.key) as key,
			s.key is not null and (i.key is null or s.at > incoming_at) as is_stored,
			s.at as stored_at, s.value as stored_value, i.value as incoming_value
		from (
			select p.key, p.value, coalesce(to_timestamp((stored #>> array['_kept', p.key])::double precision), merge_raw.stored_at) as at
			from regcrm.raw_parts(stored) p) s
		full join regcrm.raw_parts(incoming) i on i.key = s.key),
	chosen as (
		select p.key, case when p.is_stored then p.stored_value else p.incoming_value end as value,
			case when p.is_stored then p.stored_at else incoming_at end as at
		from part p)
	select coalesce(jsonb_object_agg(c.key, c.value) filter (where c.key not like '\_embedded.%'), '{}')
		|| case when count(*) filter (where c.key like '\_embedded.%') > 0
			then jsonb_build_object('_embedded', jsonb_object_agg(substr(c.key, 11), c.value) filter (where c.key like '\_embedded.%'))
			else '{}' end
		|| case when min(c.at) < greatest(merge_raw.stored_at, incoming_at)
			then jsonb_build_object('_kept', jsonb_object_agg(c.key, extract(epoch from c.at)::bigint)
				filter (where c.at < greatest(merge_raw.stored_at, incoming_at)))
			else '{}' end
	into merged
	from chosen c;
	return merged;
end
$$;
comment on function regcrm.merge_raw(jsonb, timestamptz, jsonb, timestamptz) is
	'Two versions of one element in one: of each key the newest version that has it, since a missing key is unknown, not empty. The key _kept tells which are of an older moment than the rest. Arguments: the stored version and its updated_at, the incoming one and its.';

-- ---------------------------------------------------------------------------
-- ingest: what can't be read
-- ---------------------------------------------------------------------------

create function regcrm.lead_error(lead jsonb) returns text
	language sql stable parallel safe
	return case
		when jsonb_typeof(lead) is distinct from 'object' then format('lead is no object: %s', left(lead::text, 100))
		when regcrm.json_id(lead -> 'id') is null then regcrm.unreadable('id', lead -> 'id')
		when regcrm.bad_time(lead -> 'updated_at') then regcrm.unreadable('updated_at', lead -> 'updated_at')
		when regcrm.bad_time(lead -> 'created_at') then regcrm.unreadable('created_at', lead -> 'created_at')
		when regcrm.json_time(lead -> 'created_at') is null and not regcrm.json_true(lead -> 'is_deleted')
			then regcrm.unreadable('created_at', lead -> 'created_at')
		when regcrm.json_time(lead -> 'created_at') is null and regcrm.json_time(lead -> 'updated_at') is null
			then regcrm.unreadable('updated_at', lead -> 'updated_at')
		when regcrm.bad_time(lead -> 'closed_at') then regcrm.unreadable('closed_at', lead -> 'closed_at')
		when regcrm.bad_whole(lead -> 'status_id') then regcrm.unreadable('status_id', lead -> 'status_id')
		when regcrm.bad_whole(lead -> 'pipeline_id') then regcrm.unreadable('pipeline_id', lead -> 'pipeline_id')
		when regcrm.bad_whole(lead -> 'responsible_user_id') then regcrm.unreadable('responsible_user_id', lead -> 'responsible_user_id')
		when regcrm.bad_whole(lead -> 'loss_reason_id') then regcrm.unreadable('loss_reason_id', lead -> 'loss_reason_id')
		when not regcrm.json_unset(lead -> 'price') and regcrm.json_number(lead -> 'price') is null
			then regcrm.unreadable('price', lead -> 'price')
		when not regcrm.json_unset(lead -> 'price_with_minor_units') and regcrm.json_number(lead -> 'price_with_minor_units') is null
			then regcrm.unreadable('price_with_minor_units', lead -> 'price_with_minor_units')
		when not regcrm.json_unset(lead -> 'custom_fields_values') and jsonb_typeof(lead -> 'custom_fields_values') <> 'array'
			then regcrm.unreadable('custom_fields_values', lead -> 'custom_fields_values')
		end;
comment on function regcrm.lead_error(jsonb) is 'Why a lead can''t be read; null = it can.';

create function regcrm.task_error(task jsonb) returns text
	language sql stable parallel safe
	return case
		when jsonb_typeof(task) is distinct from 'object' then format('task is no object: %s', left(task::text, 100))
		when regcrm.json_id(task -> 'id') is null then regcrm.unreadable('id', task -> 'id')
		when regcrm.json_time(task -> 'created_at') is null then regcrm.unreadable('created_at', task -> 'created_at')
		when regcrm.bad_time(task -> 'updated_at') then regcrm.unreadable('updated_at', task -> 'updated_at')
		when regcrm.json_time(task -> 'complete_till') is null then regcrm.unreadable('complete_till', task -> 'complete_till')
		when regcrm.bad_whole(task -> 'entity_id') then regcrm.unreadable('entity_id', task -> 'entity_id')
		when regcrm.bad_whole(task -> 'task_type_id') then regcrm.unreadable('task_type_id', task -> 'task_type_id')
		when regcrm.bad_whole(task -> 'created_by') then regcrm.unreadable('created_by', task -> 'created_by')
		when regcrm.bad_whole(task -> 'responsible_user_id') then regcrm.unreadable('responsible_user_id', task -> 'responsible_user_id')
		end;
comment on function regcrm.task_error(jsonb) is 'Why a task can''t be read; null = it can.';

create function regcrm.contact_error(contact jsonb) returns text
	language sql stable parallel safe
	return case
		when jsonb_typeof(contact) is distinct from 'object' then format('contact is no object: %s', left(contact::text, 100))
		when regcrm.json_id(contact -> 'id') is null then regcrm.unreadable('id', contact -> 'id')
		when regcrm.bad_time(contact -> 'updated_at') then regcrm.unreadable('updated_at', contact -> 'updated_at')
		when regcrm.bad_time(contact -> 'created_at') then regcrm.unreadable('created_at', contact -> 'created_at')
		end;
comment on function regcrm.contact_error(jsonb) is 'Why a contact can''t be read; null = it can.';

create function regcrm.note_error(note jsonb) returns text
	language sql stable parallel safe
	return case
		when jsonb_typeof(note) is distinct from 'object' then format('note is no object: %s', left(note::text, 100))
		when regcrm.json_id(note -> 'id') is null then regcrm.unreadable('id', note -> 'id')
		when regcrm.json_id(note -> 'entity_id') is null then regcrm.unreadable('entity_id', note -> 'entity_id')
		when regcrm.json_time(note -> 'created_at') is null then regcrm.unreadable('created_at', note -> 'created_at')
		when regcrm.bad_time(note -> 'updated_at') then regcrm.unreadable('updated_at', note -> 'updated_at')
		when regcrm.json_text(note -> 'note_type') is null or note ->> 'note_type' = ''
			then regcrm.unreadable('note_type', note -> 'note_type')
		when regcrm.bad_whole(note -> 'created_by') then regcrm.unreadable('created_by', note -> 'created_by')
		when not regcrm.json_unset(note -> 'params') and jsonb_typeof(note -> 'params') <> 'object'
			then regcrm.unreadable('params', note -> 'params')
		when note ->> 'note_type' in ('call_in', 'call_out') and not regcrm.json_unset(note #> '{params,duration}')
			and (regcrm.json_number(note #> '{params,duration}') between 0 and 1000000) is not true
			then regcrm.unreadable('duration', note #> '{params,duration}')
		end;
comment on function regcrm.note_error(jsonb) is 'Why a note can''t be read; null = it can.';

create function regcrm.named_error(what text, element jsonb) returns text
	language sql stable parallel safe
	return case
		when jsonb_typeof(element) is distinct from 'object' then format('%s is no object: %s', what, left(element::text, 100))
		when regcrm.json_id(element -> 'id') is null then regcrm.unreadable('id', element -> 'id')
		end;
comment on function regcrm.named_error(text, jsonb) is
	'Why an element of a dictionary can''t be read; null = it can. Arguments: what it is, the element.';

create function regcrm.event_entity(entity_type text) returns text
	language sql immutable parallel safe
	return case entity_type
		when 'leads' then 'lead' when 'contacts' then 'contact' when 'companies' then 'company'
		when 'customers' then 'customer' when 'tasks' then 'task' else entity_type end;
comment on function regcrm.event_entity(text) is
	'Type of entity in the singular, as events name it.';

create function regcrm.event_kind(type text, entity_type text) returns text
	language sql immutable parallel safe
	return case
		when type = 'lead_status_changed' then 'stage'
		when type in ('entity_responsible_changed', 'sale_field_changed', 'name_field_changed')
			or type like 'custom%' and type ~ '^custom_field_[0-9]{1,15}_value_changed$'
			then case when regcrm.event_entity(entity_type) = 'lead'
				then case type when 'entity_responsible_changed' then 'responsible' else 'field' end
				else 'other' end
		when type in ('incoming_chat_message', 'outgoing_chat_message', 'robot_replied')
			then case when regcrm.event_entity(entity_type) in ('lead', 'contact', 'company')
				then case type when 'incoming_chat_message' then 'message_in' when 'robot_replied' then 'robot' else 'message_out' end
				else 'other' end
		when type in (
				'lead_added', 'lead_deleted', 'lead_restored', 'lead_linked', 'lead_unlinked', 'contact_added', 'contact_deleted', 'contact_restored', 'contact_linked', 'contact_unlinked',
				'company_added', 'company_deleted', 'company_restored', 'company_linked', 'company_unlinked', 'customer_added', 'customer_deleted', 'customer_restored', 'customer_linked', 'customer_unlinked',
				'entity_tag_added', 'entity_tag_deleted', 'entity_linked', 'entity_unlinked', 'entity_merged', 'entity_direct_message', 'entity_segment_attached', 'entity_segment_detached',
				'task_added', 'task_deleted', 'task_completed', 'task_text_changed', 'task_type_changed', 'task_deadline_changed', 'task_result_added',
				'incoming_call', 'incoming_sms', 'incoming_mail', 'outgoing_call', 'outgoing_sms', 'outgoing_mail',
				'common_note_added', 'common_note_deleted', 'attachment_note_added', 'attachment_note_deleted', 'service_note_added', 'service_note_deleted',
				'geo_note_added', 'geo_note_deleted', 'site_visit_note_added', 'site_visit_note_deleted', 'message_to_cashier_note_added', 'message_to_cashier_note_deleted',
				'targeting_in_note_added', 'targeting_in_note_deleted', 'targeting_out_note_added', 'targeting_out_note_deleted',
				'customer_status_changed', 'ltv_field_changed', 'conversation_answered', 'targeting_in', 'targeting_out', 'link_followed',
				'intent_identified', 'transaction_added', 'invoice_created', 'invoice_paid', 'nps_rate_added', 'key_action_completed',
				'ai_result', 'zoom_conference', 'segment_created', 'page_mention', 'meta_chat_subscription_added', 'meta_chat_subscription_removed', 'dropbox_attachment')
			or type ~ '^(video|picture|talk|catalog)_[a-z0-9_]+$'
			then 'other'
		end;
comment on function regcrm.event_kind(text, text) is
	'What an event of amoCRM is here: a kind of regcrm.event, other = kept in other_event, null = a type nobody knows. Arguments: type, type of entity.';

create function regcrm.event_error(event jsonb) returns text
	language sql stable parallel safe
	return case
		when jsonb_typeof(event) is distinct from 'object' then format('event is no object: %s', left(event::text, 100))
		when regcrm.json_text(event -> 'id') is null or length(event ->> 'id') not between 1 and 100
			then regcrm.unreadable('id', event -> 'id')
		when jsonb_typeof(event -> 'type') is distinct from 'string' then regcrm.unreadable('type', event -> 'type')
		when regcrm.event_kind(event ->> 'type', event ->> 'entity_type') is null
			then format('unknown event type "%s"', left(event ->> 'type', 100))
		when regcrm.json_time(event -> 'created_at') is null then regcrm.unreadable('created_at', event -> 'created_at')
		when regcrm.bad_whole(event -> 'created_by') then regcrm.unreadable('created_by', event -> 'created_by')
		when regcrm.bad_whole(event -> 'entity_id') then regcrm.unreadable('entity_id', event -> 'entity_id')
		when regcrm.event_kind(event ->> 'type', event ->> 'entity_type') <> 'other' and regcrm.json_id(event -> 'entity_id') is null
			then regcrm.unreadable('entity_id', event -> 'entity_id')
		when event ->> 'type' = 'lead_status_changed' and regcrm.json_id(event #> '{value_after,0,lead_status,id}') is null
			then regcrm.unreadable('value_after', event -> 'value_after')
		end;
comment on function regcrm.event_error(jsonb) is 'Why an event can''t be read; null = it can.';

create function regcrm.quarantine_element(account_id bigint, entity text, body bytea, error text) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
#variable_conflict use_column
declare
	-- the caller may put the code of the error before it
	code text := coalesce(substring($4 from '^([0-9A-Z]{5}): '), '22P02');
	message text := regexp_replace($4, '^[0-9A-Z]{5}: ', '');
begin
	insert into regcrm.quarantine (account_id, entity, source_id, sqlstate, error, body)
	select $1, coalesce($2, 'unknown'),
		substring(encode($3, 'escape') from '"id"\s*:\s*"?([0-9A-Za-z_-]{1,100})'),
		code, message, $3
	where not exists (
		select from regcrm.quarantine q
		where q.account_id = $1 and q.entity = coalesce($2, 'unknown') and q.resolved_at is null and q.body = $3)
		-- bytes that name whom forget() erased are not kept either
		and not exists (
			select from regcrm.forgotten f
			where f.account_id = $1 and $2 in ('leads', 'tasks', 'notes', 'events')
				and encode($3, 'escape') ~ format('"%sid"\s*:\s*"?%s([^0-9]|$)', case $2 when 'leads' then '' else 'entity_' end, f.deal_id))
		and not exists (
			select from regcrm.forgotten_part f
			where f.account_id = $1 and $2 = case f.entity when 'contact' then 'contacts' else 'tasks' end
				and encode($3, 'escape') ~ format('"id"\s*:\s*"?%s([^0-9]|$)', f.id));
end
$$;
comment on function regcrm.quarantine_element(bigint, text, bytea, text) is
	'Puts bytes that are no JSON into quarantine, once. Arguments: account, entity, the bytes as they came, the error (a five-character SQLSTATE and a colon may stand before it).';

create function regcrm.sift(for_account bigint, entity text, elements jsonb, out good jsonb[], out quarantined integer)
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	bad jsonb[];
	errors text[];
begin
	with checked as materialized (
		select e.value, e.n, case entity
			when 'leads' then regcrm.lead_error(e.value)
			when 'tasks' then regcrm.task_error(e.value)
			when 'events' then regcrm.event_error(e.value)
			when 'notes' then regcrm.note_error(e.value)
			when 'contacts' then regcrm.contact_error(e.value)
			when 'users' then regcrm.named_error('user', e.value)
			when 'pipelines' then regcrm.named_error('pipeline', e.value)
			when 'loss_reasons' then regcrm.named_error('loss reason', e.value)
			when 'custom_fields' then regcrm.named_error('custom field', e.value)
			else regcrm.named_error('account', e.value)
			end as error
		from jsonb_array_elements(elements) with ordinality as e(value, n))
	select coalesce(array_agg(c.value order by c.n) filter (where c.error is null), '{}'),
		array_agg(c.value order by c.n) filter (where c.error is not null),
		array_agg(c.error order by c.n) filter (where c.error is not null)
	into good, bad, errors
	from checked c;

	quarantined := coalesce(cardinality(bad), 0);
	if quarantined > 0 then
		perform regcrm.quarantine_json(for_account, entity, bad, errors);
	end if;
end
$$;
comment on function regcrm.sift(bigint, text, jsonb) is
	'For ingest(): parts the elements of a page into those that can be read and those that go to quarantine.';

create function regcrm.quarantine_json(for_account bigint, entity text, elements jsonb[], errors text[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
begin
	insert into regcrm.quarantine (account_id, entity, source_id, sqlstate, error, page)
	select distinct on (b.element) for_account, quarantine_json.entity, s.source_id, '22023', b.error, b.element
	from unnest(elements, errors) as b(element, error)
	cross join lateral (
		select case when jsonb_typeof(b.element) = 'object' then left(regcrm.json_text(b.element -> 'id'), 100) end) as s(source_id)
	where not exists (
		select from regcrm.quarantine q
		where q.account_id = for_account and q.entity = quarantine_json.entity and q.resolved_at is null
			and (q.source_id = s.source_id or q.source_id is null and s.source_id is null)
			and q.page = b.element);
end
$$;
comment on function regcrm.quarantine_json(bigint, text, jsonb[], text[]) is
	'For ingest(): puts elements that can''t be read into quarantine, each once.';

-- ---------------------------------------------------------------------------
-- ingest
-- ---------------------------------------------------------------------------

create type regcrm.ingested as (taken integer, quarantined integer);
comment on type regcrm.ingested is
	'What became of a page: taken = elements that were read, whether or not they told anything new; quarantined = elements that could not be.';

create function regcrm.page_elements(entity text, page jsonb) returns jsonb
	language plpgsql immutable parallel safe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	key text := case when entity like '%\_notes' then 'notes' else entity end;
	embedded jsonb := page -> '_embedded';
	list jsonb;
begin
	if page is null or jsonb_typeof(page) not in ('object', 'array') then
		raise exception 'page of "%" is no JSON object or array', entity
			using errcode = 'invalid_parameter_value',
				detail = format('It is %s.', coalesce('a ' || nullif(jsonb_typeof(page), 'null'), 'null')),
				hint = format('Give a page as amoCRM sends it ({"_embedded": {"%s": [...]}}), one element, or an array of elements.', key);
	end if;

	if jsonb_typeof(page) = 'array' then
		return page;
	elsif key = 'account' or page ? 'id' then
		return jsonb_build_array(page);
	elsif embedded is null and not page ? '_links' then
		return jsonb_build_array(page);		-- an element without id, or an error that the API sent
	end if;

	list := case when jsonb_typeof(embedded) = 'object' then embedded -> key end;
	if list is null and jsonb_typeof(embedded) = 'object' and embedded <> '{}' then
		raise exception 'page of "%" holds no "%"', entity, key
			using errcode = 'invalid_parameter_value',
				detail = format('It holds %s.', (select string_agg(quote_ident(k), ', ' order by k) from jsonb_object_keys(embedded) k));
	end if;

	return case jsonb_typeof(list)
		when 'array' then list
		-- a list that PHP took for an object: {"0": …, "2": …}
		when 'object' then case when list ? 'id' then jsonb_build_array(list)
			else (select coalesce(jsonb_agg(o.value), '[]') from jsonb_each(list) o) end
		else '[]' end;
end
$$;
comment on function regcrm.page_elements(text, jsonb) is
	'The elements of a page: of its _embedded, of a bare array, or the one element that the page is. [] stands for an empty object wherever PHP put it. Error 22023 for a page that is no object or array, or holds something else than the entity.';

create function regcrm.ingest(account_id bigint, entity text, page jsonb) returns regcrm.ingested
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
#variable_conflict use_column
declare
	known constant text[] := '{account,users,pipelines,loss_reasons,custom_fields,leads,contacts,tasks,notes,leads_notes,contacts_notes,companies_notes,events}';
	elements jsonb;
	dummy text;
begin
	if $2 is null or $2 <> all (known) then
		raise exception 'unknown entity "%"', $2
			using errcode = 'invalid_parameter_value',
				hint = format('Known entities: %s.', array_to_string(known, ', '));
	end if;
	elements := regcrm.page_elements($2, $3);

	if to_regclass('regcrm.quarantine') is null then
		raise exception 'table "regcrm.quarantine" does not exist'
			using errcode = 'undefined_table', hint = 'Run regcrm.setup().';
	end if;

	-- one page of an account at a time
	perform pg_advisory_xact_lock(hashtextextended('regcrm.ingest', $1));

	if not exists (select from regcrm.account a where a.id = $1) then
		raise exception 'account % does not exist', coalesce($1::text, 'null')
			using errcode = 'undefined_object',
				hint = 'CALL regcrm.connect(…), or insert a row into regcrm.account.';
	end if;

	-- the library must be there before its setting is set
	select regcrm.text_to_stage(d.stage) into dummy from regcrm.stage_def d limit 1;

	return regcrm.ingest_elements($1, $2, elements, $3);
end
$$;
comment on function regcrm.ingest(bigint, text, jsonb) is
	'Takes one page of the amoCRM API v4 as it was sent: any page, any number of times, in any order gives the same rows. Arguments: account; entity (account, users, pipelines, loss_reasons, custom_fields, leads, contacts, tasks, notes, events; leads_notes, contacts_notes, companies_notes where a page of notes does not tell by its links what the notes are about); the page, one element, or an array of elements. Returns how many elements were taken and how many put into quarantine. Error 22023 for a page that is no JSON object or array and for an unknown entity, 42704 for an unknown account.';

create function regcrm.without_forgotten(for_account bigint, kind text, elements jsonb, belongs_to text) returns jsonb
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	left_over jsonb;
	tasks bigint[];
begin
	with element as materialized (
		select e.value, e.n, case when jsonb_typeof(e.value) = 'object' then regcrm.json_id(e.value -> 'id') end as id,
			case when jsonb_typeof(e.value) <> 'object' then null
				when kind = 'leads' then 'lead' when kind = 'contacts' then 'contact'
				when kind = 'notes' then coalesce(regcrm.event_entity(belongs_to), regcrm.event_entity(e.value ->> 'entity_type'), 'lead')
				else regcrm.event_entity(e.value ->> 'entity_type') end as about,
			case when jsonb_typeof(e.value) <> 'object' then null
				when kind in ('leads', 'contacts') then regcrm.json_id(e.value -> 'id')
				else regcrm.json_id(e.value -> 'entity_id') end as about_id
		from jsonb_array_elements(elements) with ordinality as e(value, n)),
	told as (
		select e.*,
			e.about = 'lead' and exists (
				select from regcrm.forgotten f where f.account_id = for_account and f.deal_id = e.about_id)
			or e.about in ('contact', 'company', 'task') and exists (
				select from regcrm.forgotten_part f
				where f.account_id = for_account and f.id = e.about_id
					and f.entity = case e.about when 'task' then 'task' else 'contact' end)
				-- a person who has come back with another deal is that deal's
				and not exists (select from regcrm.deal_contact l
					where l.account_id = for_account and e.about <> 'task' and l.contact_id = e.about_id and l.deleted_at is null)
				and not (kind = 'contacts' and exists (
					select from jsonb_array_elements(regcrm.json_list(e.value #> '{_embedded,leads}')) as k(value)
					where jsonb_typeof(k.value) = 'object' and regcrm.json_id(k.value -> 'id') is not null
						and not exists (select from regcrm.forgotten f
							where f.account_id = for_account and f.deal_id = regcrm.json_id(k.value -> 'id')))) as is_forgotten
		from element e)
	select coalesce(jsonb_agg(t.value order by t.n) filter (where t.is_forgotten is not true), '[]'),
		array_agg(t.id) filter (where t.is_forgotten and kind = 'tasks' and t.id is not null)
	into left_over, tasks
	from told t;

	-- events will name these tasks, and say what they were about
	if tasks is not null then
		insert into regcrm.forgotten_part (account_id, entity, id)
			select distinct for_account, 'task', t from unnest(tasks) t on conflict do nothing;
		delete from regcrm.other_event o
			where o.account_id = for_account and o.entity_type = 'task' and o.entity_id = any (tasks);
	end if;
	return left_over;
end
$$;
comment on function regcrm.without_forgotten(bigint, text, jsonb, text) is
	'For ingest(): the elements of a page without those of deals that forget() erased, their contacts (unless these have another deal) and their tasks. Arguments: account, entity, elements, what notes belong to.';

create function regcrm.fit_plans() returns void
	as 'MODULE_PATHNAME', 'regcrm_fit_plans'
	language c volatile parallel unsafe;
comment on function regcrm.fit_plans() is
	'For ingest(): where tables have doubled since, has the plans of this session made anew.';

create function regcrm.ingest_elements(for_account bigint, entity text, elements jsonb, page jsonb) returns regcrm.ingested
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set regcrm.ingesting = on
	as $$
declare
	-- what custom fields and notes belong to stands in the page's link only
	belongs_to text := case
		when entity like '%\_notes' then split_part(entity, '_', 1)
		when jsonb_typeof(page) = 'object'
			then substring(page #>> '{_links,self,href}' from '/api/v[0-9]+/([a-z]+)/') end;
	kind text := case when entity like '%\_notes' then 'notes' else entity end;
	sifted record;
	good jsonb[];
	n_elements integer;
begin
	perform regcrm.fit_plans();
	n_elements := jsonb_array_length(elements);
	-- whom forget() erased stays so, in quarantine too
	if kind in ('leads', 'contacts', 'tasks', 'notes', 'events') and exists (select from regcrm.forgotten f where f.account_id = for_account) then
		elements := regcrm.without_forgotten(for_account, kind, elements, belongs_to);
	end if;
	sifted := regcrm.sift(for_account, kind, elements);
	good := sifted.good;

	if cardinality(good) > 0 then
		case kind
			when 'leads' then perform regcrm.ingest_leads(for_account, good);
			when 'contacts' then perform regcrm.ingest_contacts(for_account, good);
			when 'tasks' then perform regcrm.ingest_tasks(for_account, good);
			when 'notes' then perform regcrm.ingest_notes(for_account, good, belongs_to);
			when 'events' then perform regcrm.ingest_events(for_account, good);
			when 'users' then perform regcrm.ingest_users(for_account, good);
			when 'pipelines' then
				perform regcrm.ingest_pipelines(for_account, good);
				-- amoCRM gives them all at once: what is not there is gone
				if sifted.quarantined = 0 and jsonb_typeof(page -> '_embedded') = 'object' and page #> '{_links,next}' is null then
					update regcrm.pipeline p set deleted_at = now()
					where p.account_id = for_account and p.deleted_at is null
						and p.id <> all (array(select regcrm.json_id(g.element -> 'id') from unnest(good) as g(element)));
				end if;
			when 'loss_reasons' then perform regcrm.ingest_loss_reasons(for_account, good);
			when 'custom_fields' then perform regcrm.ingest_custom_fields(for_account, good, belongs_to);
			when 'account' then
				if not regcrm.ingest_account(for_account, good[1]) then
					return (0, 1 + sifted.quarantined)::regcrm.ingested;
				end if;
		end case;
		perform regcrm.fill_feeds(for_account);
	end if;
	return (n_elements - sifted.quarantined, sifted.quarantined)::regcrm.ingested;
end
$$;
comment on function regcrm.ingest_elements(bigint, text, jsonb, jsonb) is
	'For ingest(): takes the elements of a page, with the setting that keeps the triggers on the facts from appending. Arguments: account, entity, elements, the page.';

-- ---------------------------------------------------------------------------
-- ingest: trying again
-- ---------------------------------------------------------------------------

create function regcrm.readable_json(body bytea) returns jsonb
	language plpgsql immutable parallel safe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	cleaned text;
begin
	-- bytes that are no UTF-8 become U+FFFD, NUL goes; the pattern takes the hex text pair by pair
	select string_agg(case
			when m.part[2] = '00' then ''
			when m.part[2] is not null then 'efbfbd'
			else m.part[1] end, '' order by m.n)
	into cleaned
	from regexp_matches(encode(body, 'hex'),
		'((?:0[1-9a-f]|[1-7][0-9a-f])+|(?:c[2-9a-f]|d[0-9a-f])[89ab][0-9a-f]|e0[ab][0-9a-f][89ab][0-9a-f]|e[1-9a-cef][89ab][0-9a-f][89ab][0-9a-f]|ed[89][0-9a-f][89ab][0-9a-f]|f0[9ab][0-9a-f](?:[89ab][0-9a-f]){2}|f[1-3](?:[89ab][0-9a-f]){3}|f48[0-9a-f](?:[89ab][0-9a-f]){2})|(..)',
		'g') with ordinality as m(part, n);
	cleaned := convert_from(decode(coalesce(cleaned, ''), 'hex'), 'UTF8');

	-- \u0000 goes, half of a surrogate pair becomes U+FFFD; an escaped backslash before them is none of theirs
	select string_agg(case
			when m.part[2] is null then coalesce(m.part[1], m.part[3])
			when m.part[2] = '\u0000' then ''
			else '\ufffd' end, '' order by m.n)
	into cleaned
	from regexp_matches(cleaned,
		'((?:[^\\]|\\[^u])+|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2})|(\\u|\\)',
		'g') with ordinality as m(part, n);
	return cleaned::jsonb;
exception
	when data_exception then
		return null;
end
$$;
comment on function regcrm.readable_json(bytea) is
	'Bytes as jsonb after a repair: NUL is left out, bytes that are no UTF-8 and halves of surrogate pairs become U+FFFD; null where they are no JSON even so.';

create function regcrm.retry_quarantine(account_id bigint) returns regcrm.ingested
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
#variable_conflict use_column
declare
	q record;
	page jsonb;
	outcome regcrm.ingested;
	taken integer := 0;
	left_over integer := 0;
begin
	for q in
		select q.id, q.entity, q.page, q.body from regcrm.quarantine q
		where q.account_id = $1 and q.resolved_at is null
			and q.entity in ('account', 'users', 'pipelines', 'loss_reasons', 'custom_fields', 'leads', 'contacts', 'tasks', 'notes', 'events', 'webhook')
		order by q.id
	loop
		page := coalesce(q.page, regcrm.readable_json(q.body));
		outcome := null;
		if q.entity = 'webhook' and q.body is not null then
			begin
				outcome := regcrm.ingest_webhook($1, convert_from(q.body, 'UTF8'));
				if outcome.quarantined > 0 then
					raise sqlstate 'RGCRM';
				end if;
			exception
				when sqlstate 'RGCRM' or data_exception then
					outcome := null;
			end;
		elsif page is not null and q.entity <> 'webhook' then
			begin
				outcome := regcrm.ingest($1, q.entity, page);
				-- what is still unreadable stays as the row that it is
				if outcome.quarantined > 0 then
					raise sqlstate 'RGCRM';
				end if;
			exception
				when sqlstate 'RGCRM' or data_exception or integrity_constraint_violation then
					outcome := null;
			end;
		end if;
		if outcome is null then
			left_over := left_over + 1;
		else
			taken := taken + 1;
			update regcrm.quarantine u set resolved_at = clock_timestamp() where u.account_id = $1 and u.id = q.id;
		end if;
	end loop;
	return (taken, left_over)::regcrm.ingested;
end
$$;
comment on function regcrm.retry_quarantine(bigint) is
	'Tries again to read what is in quarantine: elements as they are, bytes after a repair (NUL left out, what is no UTF-8 and halves of surrogate pairs as U+FFFD). Argument: account. Returns how many were taken and how many are left.';
