
-- ---------------------------------------------------------------------------
-- what amoCRM names and nobody has: asked for by its number
-- ---------------------------------------------------------------------------

create function regcrm.want(account_id bigint, entity text, ids bigint[], reason text) returns bigint
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
#variable_conflict use_column
declare
	added bigint;
begin
	insert into regcrm.wanted (account_id, entity, id, reason)
	select distinct $1, $2, w.id, $4
	from unnest($3) as w(id)
	where w.id > 0
		and not exists (
			select from regcrm.forgotten f where f.account_id = $1 and $2 = 'leads' and f.deal_id = w.id)
		and not exists (
			select from regcrm.forgotten_part f
			where f.account_id = $1 and f.entity = case $2 when 'tasks' then 'task' when 'contacts' then 'contact' end and f.id = w.id)
	order by w.id
	on conflict do nothing;
	get diagnostics added = row_count;
	return added;
end
$$;
revoke execute on function regcrm.want(bigint, text, bigint[], text) from public;
comment on function regcrm.want(bigint, text, bigint[], text) is
	'Has the next pass of the sync ask amoCRM for something by its number, unless it was erased by forget() or amoCRM has said that it has none such. Arguments: account; leads, tasks or contacts; numbers; what named them. Returns how many are wanted anew.';

create function regcrm.want_missing(account_id bigint) returns bigint
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
#variable_conflict use_column
begin
	-- a lead in the trash shows nothing more than that it is there
	return regcrm.want($1, 'leads', array(
			select n.id
			from (
				select e.deal_id as id from regcrm.event e where e.account_id = $1 and e.source in ('event', 'note')
				union
				select t.deal_id from regcrm.task t where t.account_id = $1 and t.raw is not null) n
			where n.id is not null
				and not exists (select from regcrm.deal d where d.account_id = $1 and d.id = n.id)
				and not exists (
					select from regcrm.other_event o
					where o.account_id = $1 and o.entity_type = 'lead' and o.entity_id = n.id and o.type in ('lead_deleted', 'lead_tombstone'))),
			'history')
		+ regcrm.want($1, 'tasks', array(
			select o.entity_id from regcrm.other_event o
			where o.account_id = $1 and o.entity_type = 'task' and o.type like 'task\_%'
				and not exists (select from regcrm.task t where t.account_id = $1 and t.id = o.entity_id)
			group by o.entity_id
			having not bool_or(o.type in ('task_deleted', 'task_tombstone'))),
			'history')
		+ regcrm.want($1, 'contacts', array(
			select distinct e.contact_id from regcrm.event e
			where e.account_id = $1 and e.contact_id is not null and e.source in ('event', 'note')
				and regcrm.event_entity(e.raw ->> 'entity_type') = 'contact'
				and not exists (select from regcrm.contact c where c.account_id = $1 and c.id = e.contact_id)),
			'history');
end
$$;
revoke execute on function regcrm.want_missing(bigint) from public;
comment on function regcrm.want_missing(bigint) is
	'Looks through all facts of an account for leads, tasks and contacts that they name and that are not here, and has them asked for. Argument: account. Returns how many are wanted anew.';

create function regcrm.note_unknown(account_id bigint, entity text, page jsonb) returns boolean
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
#variable_conflict use_column
declare
	-- as ingest() tells what notes are about
	notes_of text := regcrm.event_entity(coalesce(page #>> '{_embedded,notes,0,entity_type}',
		substring(page #>> '{_links,self,href}' from '/api/v[0-9]+/([a-z]+)/')));
	stale text[];
begin
	if $2 in ('events', 'tasks', 'notes') then
		with named as materialized (
			select case $2 when 'notes' then notes_of else regcrm.event_entity(e.value ->> 'entity_type') end as kind,
				regcrm.json_id(e.value -> 'entity_id') as id, e.value ->> 'type' as type
			from jsonb_array_elements(regcrm.json_list(page #> array['_embedded', $2])) as e(value)
			where jsonb_typeof(e.value) = 'object')
		select null into stale
		from (
			select regcrm.want($1, 'leads', array(
					select n.id from named n
					where n.kind = 'lead' and n.id is not null
						and not exists (select from regcrm.deal d where d.account_id = $1 and d.id = n.id)
					group by n.id
					having not coalesce(bool_or(n.type = 'lead_deleted'), false)), $2),
				regcrm.want($1, 'tasks', array(
					select n.id from named n
					where $2 = 'events' and n.kind = 'task' and n.id is not null
						and not exists (select from regcrm.task t where t.account_id = $1 and t.id = n.id)
					group by n.id
					having not coalesce(bool_or(n.type = 'task_deleted'), false)), $2),
				regcrm.want($1, 'contacts', array(
					select n.id from named n
					where $2 in ('events', 'notes') and n.kind = 'contact' and n.id is not null
						and not exists (select from regcrm.contact c where c.account_id = $1 and c.id = n.id)
					group by n.id
					having not coalesce(bool_or(n.type = 'contact_deleted'), false)), $2)) w;
		return false;
	end if;

	-- a lead that changed after a dictionary was read, and names what is not in it
	if $2 <> 'leads' then
		return false;
	end if;
	with lead as materialized (
		select e.value as raw, regcrm.json_time(e.value -> 'updated_at') as at
		from jsonb_array_elements(regcrm.json_list(page #> '{_embedded,leads}')) as e(value)
		where jsonb_typeof(e.value) = 'object' and not regcrm.json_true(e.value -> 'is_deleted'))
	select array_agg(distinct u.name) into stale
	from lead l
	cross join lateral (
		select 'pipelines' as name
		where regcrm.json_id(l.raw -> 'status_id') is not null
			and not exists (select from regcrm.status s
				where s.account_id = $1 and s.pipeline_id = regcrm.json_id(l.raw -> 'pipeline_id') and s.id = regcrm.json_id(l.raw -> 'status_id'))
		union all
		select 'users'
		where regcrm.json_id(l.raw -> 'responsible_user_id') is not null
			and not exists (select from regcrm.manager m where m.account_id = $1 and m.id = regcrm.json_id(l.raw -> 'responsible_user_id'))
		union all
		select 'loss_reasons'
		where regcrm.json_id(l.raw -> 'loss_reason_id') is not null
			and not exists (select from regcrm.loss_reason r where r.account_id = $1 and r.id = regcrm.json_id(l.raw -> 'loss_reason_id'))
		union all
		select 'custom_fields'
		from jsonb_array_elements(regcrm.json_list(l.raw -> 'custom_fields_values')) as f(value)
		where jsonb_typeof(f.value) = 'object' and regcrm.json_id(f.value -> 'field_id') is not null
			and not exists (select from regcrm.custom_field c where c.account_id = $1 and c.id = regcrm.json_id(f.value -> 'field_id'))) u
	join regcrm.sync_state s on s.account_id = $1 and s.entity = u.name
	where s.done_to < l.at;
	if stale is null then
		return false;
	end if;
	update regcrm.sync_state s set done_to = null
	where s.account_id = $1 and s.entity = any (stale) and s.done_to is not null;
	return true;
end
$$;
revoke execute on function regcrm.note_unknown(bigint, text, jsonb) from public;
comment on function regcrm.note_unknown(bigint, text, jsonb) is
	'For the sync, after a page was taken: has the leads, tasks and contacts that it names and that are not here asked for, and dictionaries that lack what a lead names read again. Arguments: account, entity, page. Returns whether a dictionary is to be read again.';

create function regcrm.fetched(account_id bigint, entity text, ids bigint[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
#variable_conflict use_column
begin
	delete from regcrm.wanted w
	where w.account_id = $1 and w.entity = $2 and w.id = any ($3)
		and case $2
			when 'leads' then exists (select from regcrm.deal d where d.account_id = $1 and d.id = w.id)
			when 'tasks' then exists (select from regcrm.task t where t.account_id = $1 and t.id = w.id)
			else exists (select from regcrm.contact c where c.account_id = $1 and c.id = w.id) end;
	update regcrm.wanted w set gone_at = clock_timestamp()
	where w.account_id = $1 and w.entity = $2 and w.id = any ($3) and w.gone_at is null;
end
$$;
revoke execute on function regcrm.fetched(bigint, text, bigint[]) from public;
comment on function regcrm.fetched(bigint, text, bigint[]) is
	'For the sync, after it asked amoCRM for things by their numbers: what is here now is wanted no more, what is not does not exist there. Arguments: account, entity, numbers asked for.';

-- ---------------------------------------------------------------------------
-- reconcile: finding what was missed
-- ---------------------------------------------------------------------------

create function regcrm.compare_page(account_id bigint, entity text, page jsonb, until timestamptz, out checked bigint, out missed bigint, out outdated bigint)
	language plpgsql stable parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
#variable_conflict use_column
begin
	-- what amoCRM had before "until" should be here, and as new as there
	select count(*),
		count(*) filter (where h.at is null and e.at <= until),
		count(*) filter (where h.at < e.at and e.at <= until)
	into checked, missed, outdated
	from (
		select v.value as raw, regcrm.json_id(v.value -> 'id') as id,
			coalesce(regcrm.json_time(v.value -> 'updated_at'), regcrm.json_time(v.value -> 'created_at')) as at
		from jsonb_array_elements(regcrm.json_list(page #> array['_embedded', $2])) as v(value)
		where jsonb_typeof(v.value) = 'object') e
	left join lateral (
		select coalesce(d.updated_at, 'infinity') as at from regcrm.deal d where $2 = 'leads' and d.account_id = $1 and d.id = e.id
		union all
		select 'infinity' from regcrm.other_event o
			where $2 = 'leads' and o.account_id = $1 and o.source_id = 'lead_tombstone:' || e.id and regcrm.json_true(e.raw -> 'is_deleted')
		union all
		select coalesce(t.updated_at, 'infinity') from regcrm.task t where $2 = 'tasks' and t.account_id = $1 and t.id = e.id
		union all
		select coalesce(c.updated_at, 'infinity') from regcrm.contact c where $2 = 'contacts' and c.account_id = $1 and c.id = e.id
		union all
		select 'infinity' from regcrm.event v
			where $2 in ('events', 'notes') and v.account_id = $1 and v.source = rtrim($2, 's') and v.source_id = e.raw ->> 'id'
		union all
		select 'infinity' from regcrm.other_event o
			where $2 = 'events' and o.account_id = $1 and o.source_id = e.raw ->> 'id'
		union all
		select 'infinity' from regcrm.other_event o
			where $2 = 'notes' and o.account_id = $1 and o.source_id = 'note:' || (e.raw ->> 'id')
		union all
		select 'infinity' from regcrm.quarantine q
			where q.account_id = $1 and q.entity = $2 and q.source_id = e.raw ->> 'id'
		union all
		select 'infinity' from regcrm.forgotten f
			where f.account_id = $1 and f.deal_id = case when $2 = 'leads' then e.id
				when regcrm.event_entity(coalesce(e.raw ->> 'entity_type', 'lead')) = 'lead' then regcrm.json_id(e.raw -> 'entity_id') end
		union all
		select 'infinity' from regcrm.forgotten_part f
			where f.account_id = $1 and f.id in (e.id, regcrm.json_id(e.raw -> 'entity_id'))
		limit 1) h on true;
end
$$;
revoke execute on function regcrm.compare_page(bigint, text, jsonb, timestamptz) from public;
comment on function regcrm.compare_page(bigint, text, jsonb, timestamptz) is
	'For reconcile(), before a page is taken: how many of its rows there are, how many are missing here, how many are here in an older version; what changed after the moment given does not count. Arguments: account, entity, page, moment up to which all should be here.';

create function regcrm.open_things(account_id bigint, entity text, after bigint, n integer) returns bigint[]
	language sql stable parallel safe
	set search_path = pg_catalog, pg_temp
	as $$
	select array(
		select d.id from regcrm.deal d
		where $2 = 'leads' and d.account_id = $1 and d.id > $3 and d.raw is not null and not d.is_deleted
			and coalesce(d.status_id not in (142, 143), true)
		union all
		select t.id from regcrm.task t
		where $2 = 'tasks' and t.account_id = $1 and t.id > $3 and t.raw is not null and t.completed_at is null and t.deleted_at is null
		order by 1
		limit $4)
	$$;
revoke execute on function regcrm.open_things(bigint, text, bigint, integer) from public;
comment on function regcrm.open_things(bigint, text, bigint, integer) is
	'For reconcile(): open leads or tasks as known here, by their numbers. Arguments: account; leads or tasks; number after which to begin; how many.';

create function regcrm.bury(account_id bigint, entity text, ids bigint[], at timestamptz) returns bigint
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set regcrm.ingesting = on
	as $$
#variable_conflict use_column
declare
	buried bigint[];
	kind text := case $2 when 'leads' then 'lead' else 'task' end;
	dummy text;
begin
	perform pg_advisory_xact_lock(hashtextextended('regcrm.ingest', $1));
	select regcrm.text_to_stage(d.stage) into dummy from regcrm.stage_def d limit 1;
	with grave as (
		insert into regcrm.other_event as o (account_id, source_id, type, entity_type, entity_id, at, raw)
		select $1, kind || '_tombstone:' || i.id, kind || '_tombstone', kind, i.id, $4,
			jsonb_build_object('id', i.id, 'is_deleted', true, 'found_gone', true)
		from unnest($3) as i(id)
		order by i.id
		on conflict (account_id, source_id) do update set at = excluded.at, raw = excluded.raw where excluded.at > o.at
		returning o.entity_id)
	select array_agg(g.entity_id) into buried from grave g;
	if $2 = 'leads' then
		perform regcrm.reread_deals($1, buried);
	else
		perform regcrm.reread_tasks($1, buried);
	end if;
	return coalesce(cardinality(buried), 0);
end
$$;
revoke execute on function regcrm.bury(bigint, text, bigint[], timestamptz) from public;
comment on function regcrm.bury(bigint, text, bigint[], timestamptz) is
	'For reconcile(): amoCRM no longer has these, and no event said so (purged, merged into another, or the event was lost): they count as deleted from the moment at which that was found. Arguments: account; leads or tasks; numbers; moment.';
