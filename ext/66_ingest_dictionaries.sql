
-- ---------------------------------------------------------------------------
-- ingest: account, users, pipelines, loss reasons, custom fields
-- ---------------------------------------------------------------------------

create function regcrm.ingest_account(for_account bigint, account jsonb) returns boolean
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	-- newer answers have it at the top, older ones only below
	zone text := coalesce(nullif(regcrm.json_text(account -> 'timezone'), ''),
		nullif(regcrm.json_text(account #> '{_embedded,datetime_settings,timezone}'), ''));
	old_zone text;
begin
	select a.time_zone into old_zone from regcrm.account a where a.id = for_account;
	if zone is not null and zone <> old_zone then
		begin
			perform timestamptz '2000-01-01 00:00:00+00' at time zone zone;
		exception when invalid_parameter_value then
			perform regcrm.quarantine_json(for_account, 'account', array[account], array[format('unknown time zone "%s"', left(zone, 100))]);
			return false;
		end;
	end if;

	update regcrm.account a
	set name = coalesce(regcrm.json_text(account -> 'name'), a.name),
		subdomain = coalesce(regcrm.json_text(account -> 'subdomain'), a.subdomain),
		time_zone = coalesce(zone, a.time_zone),
		raw = regcrm.merge_raw(a.raw, '-infinity', account, '-infinity') - '_kept'
	where a.id = for_account
		and (a.raw is distinct from regcrm.merge_raw(a.raw, '-infinity', account, '-infinity') - '_kept' or a.time_zone <> coalesce(zone, a.time_zone));

	update regcrm.manager m
	set group_name = g.name
	from regcrm.user_groups(for_account) g
	where m.account_id = for_account and coalesce(m.group_id, 0) = g.id and m.group_name is distinct from g.name;

	perform regcrm.fill_task_kinds(for_account);
	return true;
end
$$;
comment on function regcrm.ingest_account(bigint, jsonb) is
	'For ingest(): takes the account''s own page: name, time zone, groups of users, types of task. False = its time zone is unknown, it is in quarantine.';

create function regcrm.user_groups(for_account bigint) returns table (id bigint, name text)
	language plpgsql stable parallel safe
	set search_path = pg_catalog, pg_temp
	as $$
begin
	return query
	select coalesce(regcrm.json_id(g.value -> 'id'), 0), min(regcrm.json_text(g.value -> 'name'))
	from regcrm.account a
	cross join jsonb_array_elements(regcrm.json_list(a.raw #> '{_embedded,users_groups}')) g
	where a.id = for_account and jsonb_typeof(g.value) = 'object'
	group by 1
	having min(regcrm.json_text(g.value -> 'name')) is not null;
end
$$;
comment on function regcrm.user_groups(bigint) is
	'Groups of users by the account''s page; 0 = the first group.';

create function regcrm.ingest_users(for_account bigint, users jsonb[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	news bigint[];
begin
	news := array(
		select regcrm.json_id(u.element -> 'id') from unnest(users) as u(element)
		except
		select m.id from regcrm.manager m where m.account_id = for_account);

	with incoming as (
		select distinct on (u.id)
			u.id, u.name, u.email, u.group_id, u.active,
			coalesce(g.name, u.group_name) as group_name, g.name is not null as group_is_known
		from (
			select regcrm.json_id(e.element -> 'id') as id,
				regcrm.json_text(e.element -> 'name') as name,
				regcrm.json_text(e.element -> 'email') as email,
				coalesce(regcrm.json_id(e.element #> '{rights,group_id}'), regcrm.json_id(e.element -> 'group_id'), 0) as group_id,
				regcrm.json_text(e.element #> '{_embedded,groups,0,name}') as group_name,
				case when (e.element #> '{rights,is_active}') is null then true
					else regcrm.json_true(e.element #> '{rights,is_active}') end as active,
				e.n
			from unnest(users) with ordinality as e(element, n)) u
		left join regcrm.user_groups(for_account) g on g.id = u.group_id
		order by u.id, u.n desc)
	insert into regcrm.manager as m (account_id, id, name, email, group_id, group_name, active)
	select for_account, i.id, i.name, i.email, i.group_id, i.group_name, i.active
	from incoming i
	on conflict (account_id, id) do update
		set name = excluded.name, email = excluded.email, group_id = excluded.group_id,
			group_name = coalesce(excluded.group_name, m.group_name), active = excluded.active
		where (m.name, m.email, m.group_id, m.group_name, m.active)
			is distinct from (excluded.name, excluded.email, excluded.group_id, coalesce(excluded.group_name, m.group_name), excluded.active);

	-- whose calls they are is told by who is known
	if cardinality(news) > 0 then
		perform regcrm.reread_notes(for_account, array(
			select e.id from regcrm.event e
			where e.account_id = for_account and e.source = 'note' and e.kind in ('call_in', 'call_out')
				and (regcrm.json_id(e.raw -> 'created_by') = any (news)
					or regcrm.json_id(e.raw -> 'responsible_user_id') = any (news)
					or regcrm.json_id(e.raw #> '{params,call_responsible}') = any (news))));
	end if;
end
$$;
comment on function regcrm.ingest_users(bigint, jsonb[]) is
	'For ingest(): takes users. Leaves in_scope and db_role as they are; users that drop out of amoCRM''s list stay.';

create function regcrm.ingest_pipelines(for_account bigint, pipelines jsonb[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
begin
	insert into regcrm.pipeline as p (account_id, id, name, sort, is_main, is_archive)
	select distinct on (i.id) for_account, i.id, i.name, i.sort, i.is_main, i.is_archive
	from (
		select regcrm.json_id(e.element -> 'id') as id, regcrm.json_text(e.element -> 'name') as name,
			least(greatest(regcrm.json_whole(e.element -> 'sort'), -2147483648), 2147483647)::integer as sort,
			regcrm.json_true(e.element -> 'is_main') as is_main, regcrm.json_true(e.element -> 'is_archive') as is_archive, e.n
		from unnest(pipelines) with ordinality as e(element, n)) i
	order by i.id, i.n desc
	on conflict (account_id, id) do update
		set name = excluded.name, sort = excluded.sort, is_main = excluded.is_main, is_archive = excluded.is_archive, deleted_at = null
		where (p.name, p.sort, p.is_main, p.is_archive, p.deleted_at)
			is distinct from (excluded.name, excluded.sort, excluded.is_main, excluded.is_archive, null::timestamptz);

	insert into regcrm.status as s (account_id, pipeline_id, id, name, sort, type, color)
	select distinct on (i.pipeline_id, i.id) for_account, i.pipeline_id, i.id, i.name, i.sort, i.type, i.color
	from (
		select regcrm.json_id(e.element -> 'id') as pipeline_id, regcrm.json_id(t.value -> 'id') as id,
			regcrm.json_text(t.value -> 'name') as name,
			least(greatest(regcrm.json_whole(t.value -> 'sort'), -2147483648), 2147483647)::integer as sort,
			case when regcrm.json_whole(t.value -> 'type') = 1 then 1 else 0 end as type,
			regcrm.json_text(t.value -> 'color') as color, e.n, t.m
		from unnest(pipelines) with ordinality as e(element, n)
		cross join jsonb_array_elements(regcrm.json_list(e.element #> '{_embedded,statuses}')) with ordinality as t(value, m)
		where jsonb_typeof(t.value) = 'object' and regcrm.json_id(t.value -> 'id') is not null) i
	order by i.pipeline_id, i.id, i.n desc, i.m desc
	on conflict (account_id, pipeline_id, id) do update
		set name = excluded.name, sort = excluded.sort, type = excluded.type, color = excluded.color
		where (s.name, s.sort, s.type, s.color) is distinct from (excluded.name, excluded.sort, excluded.type, excluded.color);

	perform regcrm.fill_stage_map(for_account);
end
$$;
comment on function regcrm.ingest_pipelines(bigint, jsonb[]) is
	'For ingest(): takes pipelines with their stages, and maps the stages by their names. What drops out of amoCRM''s list stays, since events still name it.';

create function regcrm.ingest_loss_reasons(for_account bigint, reasons jsonb[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	changed bigint[];
begin
	with incoming as (
		select distinct on (i.id) i.id, i.name, i.sort
		from (
			select regcrm.json_id(e.element -> 'id') as id, regcrm.json_text(e.element -> 'name') as name,
				least(greatest(regcrm.json_whole(e.element -> 'sort'), -2147483648), 2147483647)::integer as sort, e.n
			from unnest(reasons) with ordinality as e(element, n)) i
		order by i.id, i.n desc),
	written as (
		insert into regcrm.loss_reason as r (account_id, id, name, sort)
		select for_account, i.id, i.name, i.sort from incoming i
		on conflict (account_id, id) do update set name = excluded.name, sort = excluded.sort
			where (r.name, r.sort) is distinct from (excluded.name, excluded.sort)
		returning r.id)
	select array_agg(w.id) into changed from written w;

	perform regcrm.fill_field_map(for_account);
	if changed is not null then
		perform regcrm.reread_deals(for_account, array(
			select d.id from regcrm.deal d
			where d.account_id = for_account and regcrm.json_id(d.raw -> 'loss_reason_id') = any (changed)));
	end if;
end
$$;
comment on function regcrm.ingest_loss_reasons(bigint, jsonb[]) is
	'For ingest(): takes reasons for refusal.';

create function regcrm.ingest_custom_fields(for_account bigint, fields jsonb[], belong_to text) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	changed bigint[];
begin
	with incoming as (
		select distinct on (i.id) i.id, i.name, i.type, i.entity_type, i.code, i.enums
		from (
			select regcrm.json_id(e.element -> 'id') as id, regcrm.json_text(e.element -> 'name') as name,
				regcrm.json_text(e.element -> 'type') as type,
				coalesce(regcrm.json_text(e.element -> 'entity_type'), belong_to, 'leads') as entity_type,
				regcrm.json_text(e.element -> 'code') as code,
				case when jsonb_typeof(e.element -> 'enums') in ('array', 'object') and e.element -> 'enums' <> '[]'
					then e.element -> 'enums' end as enums,
				e.n
			from unnest(fields) with ordinality as e(element, n)) i
		order by i.id, i.n desc),
	written as (
		insert into regcrm.custom_field as f (account_id, id, name, type, entity_type, code, enums)
		select for_account, i.id, i.name, i.type, i.entity_type, i.code, i.enums from incoming i
		on conflict (account_id, id) do update
			set name = excluded.name, type = excluded.type, entity_type = excluded.entity_type, code = excluded.code, enums = excluded.enums
			where (f.name, f.type, f.entity_type, f.code, f.enums)
				is distinct from (excluded.name, excluded.type, excluded.entity_type, excluded.code, excluded.enums)
		returning f.id)
	select array_agg(w.id) into changed from written w;

	perform regcrm.fill_field_map(for_account);
	-- what the type or the list of choices says of values already here
	if changed is not null then
		perform regcrm.reread_fields(for_account, changed);
	end if;
end
$$;
comment on function regcrm.ingest_custom_fields(bigint, jsonb[], text) is
	'For ingest(): takes custom fields, and maps those of leads by their names. Arguments: account, fields, what they belong to by the page''s link (leads where nothing says so).';

-- ---------------------------------------------------------------------------
-- mappings that fill themselves
-- ---------------------------------------------------------------------------

create function regcrm.fill_stage_map(for_account bigint) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
begin
	with account_stage as (
		-- stages that the account's own regulation speaks of
		select t.to_stage::text as stage from regcrm.transition t join regcrm.account a on a.regulation = t.regulation where a.id = for_account
		union select t.from_stage::text from regcrm.transition t join regcrm.account a on a.regulation = t.regulation where a.id = for_account
		union select r.stage::text from regcrm.rule r join regcrm.account a on a.regulation = r.regulation where a.id = for_account),
	naming as (
		select d.stage, regcrm.fold(n.name) as name, d.stage in (select s.stage from account_stage s) as is_own
		from regcrm.stage_def d
		cross join unnest(d.aliases || d.name) as n(name)
		group by 1, 2, 3),
	-- a name that belongs to several stages means the account's own, if that is one
	named as (
		select n.name, coalesce(
			case when count(*) filter (where n.is_own) = 1 then min(n.stage) filter (where n.is_own) end,
			case when count(*) = 1 then min(n.stage) end) as stage
		from naming n
		group by n.name),
	candidate as (
		select s.pipeline_id, s.id as status_id, n.stage,
			case when s.id = 142 then 'won' when s.id = 143 then 'lost' when s.type = 1 then 'new' end as fixed
		from regcrm.status s
		left join named n on n.name = regcrm.fold(s.name)
		where s.account_id = for_account),
	-- 142, 143 and Неразобранное are in every pipeline: they say nothing of which is meant
	meant as (
		select c.pipeline_id from candidate c where c.stage is not null and c.fixed is null
		union
		select m.pipeline_id from regcrm.stage_map m where m.account_id = for_account and m.by_user and m.stage is not null),
	mapped as (
		select c.pipeline_id, c.status_id,
			case when c.fixed is null then c.stage
				when c.pipeline_id in (select m.pipeline_id from meant m) then coalesce(c.stage, c.fixed) end as stage
		from candidate c)
	insert into regcrm.stage_map as m (account_id, pipeline_id, status_id, stage)
	select for_account, p.pipeline_id, p.status_id, d.stage
	from mapped p
	-- a regulation of one's own need not have these stages
	join regcrm.stage_def d on d.stage = p.stage
	on conflict (account_id, pipeline_id, status_id) do update
		set stage = excluded.stage
		where not m.by_user and m.stage::text is distinct from excluded.stage::text;
end
$$;
comment on function regcrm.fill_stage_map(bigint) is
	'Maps stages of amoCRM by name or alias; then 142 to won, 143 to lost and Неразобранное to new, in pipelines where another stage matched by name or the user added one. Rows by the user stand; a stage renamed to nothing known keeps what it was mapped to.';

create function regcrm.known_fields() returns table (name text, field text)
	language sql immutable parallel safe
begin atomic
	values
		('Дата создания лида', 'lead_date'),
		('Причина отказа', 'reason'),
		('Причина нецелевки', 'reason'),
		('Причина паузы', 'pause_reason'),
		('Дата встречи', 'meeting_at'),
		('Дата и время встречи', 'meeting_at'),
		('Срок возврата', 'return_on'),
		('Дата возврата', 'return_on'),
		('Согласие на договор', 'agreed_at'),
		('Договор подписан', 'signed_at'),
		('Оплата получена', 'paid_at'),
		('Не проверять задачи', 'skip_task_check'),
		('Сценарий', 'scenario');
end;
comment on function regcrm.known_fields() is
	'Names by which custom fields of leads are found, and which column of deal they hold (scenario = a value chosen is a scenario).';

create function regcrm.fill_field_map(for_account bigint) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
begin
	insert into regcrm.field_map as m (account_id, field_id, field)
	select for_account, c.id, k.field
	from regcrm.custom_field c
	join regcrm.known_fields() k on regcrm.fold(k.name) = regcrm.fold(c.name)
	where c.account_id = for_account and c.entity_type = 'leads'
	union all
	-- amoCRM's own reason for refusal
	select for_account, 0, 'reason'
	on conflict (account_id, field_id) do update
		set field = excluded.field
		where not m.by_user and m.field is distinct from excluded.field;
end
$$;
comment on function regcrm.fill_field_map(bigint) is
	'Maps custom fields of leads by their names. Rows by the user stand; a field renamed to nothing known keeps what it was mapped to.';

create function regcrm.fill_task_kinds(for_account bigint) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
begin
	with known(pattern, kind) as (
		values
			('Обработать заявку', 'process_request'),
			('перезвон', 'callback'),
			('Контроль встречи', 'meeting_control'),
			('договор', 'contract_control'),
			('оплат', 'contract_control')),
	type as (
		-- a type of task that is named for a kind
		select distinct on (y.id) y.id, k.kind
		from regcrm.account a
		cross join jsonb_array_elements(regcrm.json_list(a.raw #> '{_embedded,task_types}')) as t(value)
		cross join lateral (
			select regcrm.json_id(t.value -> 'id') as id, regcrm.fold(regcrm.json_text(t.value -> 'name')) as name) y
		join known k on strpos(y.name, regcrm.fold(k.pattern)) > 0
		where a.id = for_account and jsonb_typeof(t.value) = 'object' and y.id is not null
		order by y.id, length(k.pattern) desc, k.kind)
	insert into regcrm.task_kind_map as m (account_id, task_type_id, pattern, kind)
	select for_account, null::bigint, k.pattern, k.kind
	from known k
	-- once: a row that the user took away stays away
	where not exists (select from regcrm.task_kind_map o where o.account_id = for_account)
	union all
	select for_account, y.id, '', y.kind from type y
	on conflict (account_id, task_type_id, pattern) do update
		set kind = excluded.kind
		where not m.by_user and m.kind <> excluded.kind;
end
$$;
comment on function regcrm.fill_task_kinds(bigint) is
	'Fills task_kind_map: by the task''s text, and by the type of task where its name says the same. Rows by the user stand.';

create function regcrm.fill_feeds(for_account bigint) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
begin
	insert into regcrm.feed (account_id, feed, since)
	select for_account, f.feed, '-infinity'
	from (
		select unnest('{calls,tasks,comments}'::text[]) as feed
		union
		select 'field:' || m.field from regcrm.field_map m where m.account_id = for_account and m.field is not null) f
	where not exists (select from regcrm.feed o where o.account_id = for_account and o.feed = f.feed)
	on conflict do nothing;
end
$$;
comment on function regcrm.fill_feeds(bigint) is
	'Says in feed that calls, tasks, comments and the mapped fields are connected. Messages are from the first one seen.';
