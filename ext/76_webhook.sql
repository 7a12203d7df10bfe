
-- ---------------------------------------------------------------------------
-- webhooks: a hint to look, never a source of truth
-- ---------------------------------------------------------------------------

-- amoCRM signs no webhook, orders none, repeats some and loses others.  So a
-- body changes no deal and no task: it says that there is something to read,
-- and the worker reads it from the API, by the same cursors as always.  What
-- the API does not give afterwards, the text of a message, is kept.

create function regcrm.setup_webhook() returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set client_min_messages = warning
	as $$
begin
	create table if not exists regcrm.webhook (
		account_id bigint not null default regcrm.current_account(),
		first_at timestamptz,
		last_at timestamptz,
		bodies bigint not null default 0,
		elements bigint not null default 0,
		messages bigint not null default 0,
		unreadable bigint not null default 0,
		primary key (account_id)
	);
	perform regcrm.describe('regcrm.webhook', 'What webhooks have told of each account, and since when something waits to be read.',
		'account_id', 'Account.',
		'first_at', 'When the first webhook came after the last pass that could see what it tells of.',
		'last_at', 'When the last one came.',
		'bodies', 'Bodies taken so far, repetitions included.',
		'elements', 'Elements in them: leads, tasks, notes, messages, ….',
		'messages', 'Texts of messages kept, each once.',
		'unreadable', 'Bodies and elements put into quarantine.');
end
$$;
revoke execute on function regcrm.setup_webhook() from public;
comment on function regcrm.setup_webhook() is
	'For setup(): makes the table of webhooks where it is missing.';

create function regcrm.read_webhook(body text, out tree jsonb, out damaged integer, out error text)
	as 'MODULE_PATHNAME', 'regcrm_read_webhook'
	language c immutable strict parallel safe;
comment on function regcrm.read_webhook(text) is
	'The body of a webhook (form-encoded keys with brackets) as JSON: every container an object, every value a text; a path that is a value and a container as well holds the value under the key "". damaged = bytes that no text can hold, which became U+FFFD; error = why it can''t be read: longer than 1 MB, more than 10000 values, deeper than 16, a key longer than 1 kB or empty, no value at all.';

create function regcrm.wake_sync() returns boolean
	as 'MODULE_PATHNAME', 'regcrm_wake_sync'
	language c volatile parallel unsafe;
revoke execute on function regcrm.wake_sync() from public;
comment on function regcrm.wake_sync() is
	'Has the sync worker of this database look around as soon as the transaction is committed. Returns whether one runs.';

create function regcrm.webhook_due(account_id bigint) returns timestamptz
	language sql stable parallel safe
	set search_path = pg_catalog, pg_temp
	as $$
	-- a pass sees what happened up to 5 seconds before it begins, by a clock of whole seconds
	select case
		when s.began >= w.last_at + interval '6 seconds' then null
		when s.began >= w.first_at + interval '6 seconds'
			then least(w.last_at + interval '6 seconds', s.began + interval '12 seconds')
		else w.first_at + interval '6 seconds' end
	from regcrm.webhook w
	cross join lateral (
		select coalesce(max(s.updated_at), '-infinity') from regcrm.sync_state s
		where s.account_id = w.account_id and s.entity = 'account') as s(began)
	where w.account_id = $1
	$$;
revoke execute on function regcrm.webhook_due(bigint) from public;
comment on function regcrm.webhook_due(bigint) is
	'When a pass that webhooks asked for is due; null = there is none. Argument: account.';

create function regcrm.webhook_elements(tree jsonb) returns table (entity text, action text, element jsonb, id text)
	language sql immutable parallel safe
begin atomic
	select e.key, a.key, l.value,
		coalesce(nullif(l.value ->> 'id', ''), l.value #>> '{note,id}', l.value ->> 'talk_id', l.value ->> 'uid')
	from jsonb_each(tree) e
	cross join lateral jsonb_each(case when jsonb_typeof(e.value) = 'object' then e.value else '{}' end) a
	cross join lateral jsonb_each(case when jsonb_typeof(a.value) = 'object' then a.value else '{}' end) l
	where e.key <> 'account';
end;
comment on function regcrm.webhook_elements(jsonb) is
	'What a webhook tells of: entity, action, the element, its id. Argument: what read_webhook() made of it.';

create function regcrm.ingest_webhook(account_id bigint, body text) returns regcrm.ingested
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
#variable_conflict use_column
declare
	tree jsonb;
	damaged integer;
	wrong text;
	bad jsonb[];
	errors text[];
	good integer;
	kept integer := 0;
	unreadable integer := 0;
begin
	perform regcrm.need_tables();
	if $2 is null then
		raise exception 'the body of a webhook must be given'
			using errcode = 'null_value_not_allowed';
	end if;
	if not exists (select from regcrm.account a where a.id = $1) then
		raise exception 'account % does not exist', coalesce($1::text, 'null')
			using errcode = 'undefined_object',
				hint = 'CALL regcrm.connect(…), or insert a row into regcrm.account.';
	end if;

	begin
		select r.tree, r.damaged, r.error into tree, damaged, wrong from regcrm.read_webhook($2) r;
	exception
		when data_exception or program_limit_exceeded then
			wrong := sqlerrm;
	end;
	if wrong is null and tree #>> '{account,id}' is distinct from $1::text and tree #> '{account,id}' is not null then
		wrong := format('it is of account %s', left(tree #>> '{account,id}', 40));
	end if;
	if wrong is null and not exists (select from regcrm.webhook_elements(tree)) then
		wrong := 'it tells of nothing';
	end if;

	if wrong is not null then
		perform regcrm.quarantine_element($1, 'webhook', convert_to($2, 'UTF8'), '22023: webhook can''t be read: ' || wrong);
		insert into regcrm.webhook as w (account_id, bodies, unreadable) values ($1, 1, 1)
			on conflict (account_id) do update set bodies = w.bodies + 1, unreadable = w.unreadable + 1;
		return (0, 1)::regcrm.ingested;
	end if;
	if damaged > 0 then
		-- what is whole in it is taken all the same
		perform regcrm.quarantine_element($1, 'webhook', convert_to($2, 'UTF8'),
			format('22021: webhook holds %s bytes that are no text', damaged));
		unreadable := 1;
	end if;

	select count(*) filter (where e.id is not null),
		array_agg(e.element order by e.entity, e.action) filter (where e.id is null),
		array_agg(format('%s of %s in a webhook has no id', e.action, e.entity) order by e.entity, e.action) filter (where e.id is null)
	into good, bad, errors
	from regcrm.webhook_elements(tree) e;
	if bad is not null then
		perform regcrm.quarantine_json($1, 'webhook', bad, errors);
		unreadable := unreadable + cardinality(bad);
	end if;

	-- the text of a message comes this way or never
	insert into regcrm.other_event (account_id, source_id, type, entity_type, entity_id, at, actor_id, raw)
	select distinct on (m.id) $1, 'message:' || m.id, 'message_text', t.entity_type, t.entity_id,
		regcrm.json_time(m.element -> 'created_at'), regcrm.json_id(m.element #> '{author,id}'), m.element
	from regcrm.webhook_elements(tree) m
	cross join lateral (
		select case coalesce(m.element ->> 'entity_type', m.element ->> 'element_type')
			when '1' then 'contact' when '2' then 'lead' when '3' then 'company' when '12' then 'customer'
			else regcrm.event_entity(coalesce(m.element ->> 'entity_type', case when m.element ? 'contact_id' then 'contact' end)) end,
			regcrm.json_id(coalesce(m.element -> 'entity_id', m.element -> 'element_id', m.element -> 'contact_id'))
	) as t(entity_type, entity_id)
	where m.entity = 'message' and m.id is not null and length(m.id) <= 100 and m.element ->> 'text' <> ''
		and not (t.entity_type = 'lead' and exists (
			select from regcrm.forgotten f where f.account_id = $1 and f.deal_id = t.entity_id))
	order by m.id, m.action
	on conflict do nothing;
	get diagnostics kept = row_count;

	insert into regcrm.webhook as w (account_id, first_at, last_at, bodies, elements, messages, unreadable)
		values ($1, clock_timestamp(), clock_timestamp(), 1, good, kept, unreadable)
		on conflict (account_id) do update set
			first_at = case when w.last_at is null or regcrm.webhook_due(w.account_id) is null then excluded.first_at else w.first_at end,
			last_at = excluded.last_at, bodies = w.bodies + 1, elements = w.elements + good,
			messages = w.messages + kept, unreadable = w.unreadable + excluded.unreadable;
	if good > 0 then
		perform regcrm.wake_sync();
	end if;
	return (good, unreadable)::regcrm.ingested;
end
$$;
revoke execute on function regcrm.ingest_webhook(bigint, text) from public;
comment on function regcrm.ingest_webhook(bigint, text) is
	'Takes the body of one webhook of amoCRM, form-encoded, as it came. It is a hint: no deal and no task is changed by it, the worker reads what it tells of from the API within seconds. Kept is the text of messages (other_event, type message_text), which the API does not give afterwards. Any body, any number of times, in any order. What can''t be read goes to quarantine (entity webhook). Arguments: account, body. Returns how many elements were taken and how many put into quarantine. Error 42704 for an unknown account, 22004 for a null body.';
