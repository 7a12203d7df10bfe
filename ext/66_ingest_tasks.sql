
-- ---------------------------------------------------------------------------
-- ingest: tasks
-- ---------------------------------------------------------------------------

create function regcrm.read_tasks(for_account bigint, tasks jsonb[]) returns table (
		id bigint, deal_id bigint, kind text, body text, manager_id bigint, created_at timestamptz, by_bot boolean, due_at timestamptz,
		completed_at timestamptz, result text, task_type_id bigint, updated_at timestamptz, deleted_at timestamptz,
		seen_completed_at timestamptz, raw jsonb)
	language plpgsql stable parallel safe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
#variable_conflict use_column
begin
	return query
	with task as materialized (
		select regcrm.json_id(t.raw -> 'id') as id, t.raw, regcrm.json_text(t.raw -> 'text') as body,
			regcrm.json_id(t.raw -> 'task_type_id') as task_type_id,
			coalesce(regcrm.json_time(t.raw -> 'updated_at'), regcrm.json_time(t.raw -> 'created_at')) as updated_at,
			regcrm.json_true(t.raw -> 'is_completed') as is_completed
		from unnest(tasks) as t(raw))
	select t.id,
		case when regcrm.event_entity(t.raw ->> 'entity_type') = 'lead' then regcrm.json_id(t.raw -> 'entity_id') end,
		coalesce((
			-- the user's rows first, then the longest pattern; a type alone says least
			select m.kind from regcrm.task_kind_map m
			where m.account_id = for_account
				and (m.task_type_id is null or m.task_type_id = t.task_type_id)
				and (m.pattern = '' or strpos(regcrm.fold(t.body), regcrm.fold(m.pattern)) > 0)
			order by m.by_user desc, length(m.pattern) desc, m.task_type_id nulls last, m.pattern
			limit 1), 'other'),
		t.body,
		regcrm.json_id(t.raw -> 'responsible_user_id'),
		regcrm.json_time(t.raw -> 'created_at'),
		coalesce(regcrm.json_whole(t.raw -> 'created_by') <= 0, false),
		regcrm.json_time(t.raw -> 'complete_till'),
		-- the event tells; what is seen later is only a bound
		case
			when e.completed_at is not null and (t.is_completed or e.completed_at >= t.updated_at) then e.completed_at
			when t.is_completed then least(s.seen, o.seen_completed_at) end,
		coalesce(regcrm.json_text(t.raw #> '{result,text}'), regcrm.json_text(t.raw -> 'result')),
		t.task_type_id, t.updated_at, e.deleted_at,
		least(s.seen, o.seen_completed_at),
		t.raw
	from task t
	cross join lateral (select case when t.is_completed then t.updated_at end) as s(seen)
	left join lateral (
		select k.seen_completed_at from regcrm.task k
		where k.account_id = for_account and k.id = t.id offset 0) o on true
	left join lateral (
		select max(v.at) filter (where v.type = 'task_completed') as completed_at,
			max(v.at) filter (where v.type in ('task_deleted', 'task_tombstone')) as deleted_at
		from regcrm.other_event v
		where v.account_id = for_account and v.entity_type = 'task' and v.entity_id = t.id
			and v.type in ('task_completed', 'task_deleted', 'task_tombstone')) e on true;
end
$$;
comment on function regcrm.read_tasks(bigint, jsonb[]) is
	'Tasks as amoCRM sent them, read into the columns of task by the mapping of kinds and by the events that tell when they were completed and deleted. A task of no lead has no deal. Arguments: account, tasks.';

create function regcrm.write_tasks(for_account bigint, tasks jsonb[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
begin
	insert into regcrm.task as t (account_id, id, deal_id, kind, body, manager_id, created_at, by_bot, due_at, completed_at, result,
		task_type_id, updated_at, deleted_at, seen_completed_at, raw)
	select for_account, r.id, r.deal_id, r.kind, r.body, r.manager_id, r.created_at, r.by_bot, r.due_at, r.completed_at, r.result,
		r.task_type_id, r.updated_at, r.deleted_at, r.seen_completed_at, r.raw
	from regcrm.read_tasks(for_account, tasks) r
	order by r.id
	on conflict (account_id, id) do update
		set deal_id = excluded.deal_id, kind = excluded.kind, body = excluded.body, manager_id = excluded.manager_id,
			created_at = excluded.created_at, by_bot = excluded.by_bot, due_at = excluded.due_at, completed_at = excluded.completed_at,
			result = excluded.result, task_type_id = excluded.task_type_id, updated_at = excluded.updated_at,
			deleted_at = excluded.deleted_at, seen_completed_at = excluded.seen_completed_at, raw = excluded.raw
		where (t.kind, t.completed_at, t.deleted_at, t.seen_completed_at, t.raw)
			is distinct from (excluded.kind, excluded.completed_at, excluded.deleted_at, excluded.seen_completed_at, excluded.raw);
end
$$;
comment on function regcrm.write_tasks(bigint, jsonb[]) is
	'Reads tasks into task; rows that stay as they are are not touched.';

create function regcrm.reread_tasks(for_account bigint, tasks bigint[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
begin
	for i in 0 .. (coalesce(cardinality(tasks), 0) - 1) / 1000 loop
		perform regcrm.write_tasks(for_account, array(
			select t.raw from regcrm.task t
			where t.account_id = for_account and t.id = any (tasks[i * 1000 + 1 : i * 1000 + 1000]) and t.raw is not null));
	end loop;
end
$$;
comment on function regcrm.reread_tasks(bigint, bigint[]) is
	'Reads tasks again as they were sent: after the mapping of kinds was corrected, or an event came that tells something of them.';

create function regcrm.ingest_tasks(for_account bigint, tasks jsonb[]) returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	set plan_cache_mode = force_generic_plan
	set enable_seqscan = off
	set jit = off
	as $$
declare
	changed jsonb[];
	risen bigint[];
begin
	if not exists (select from regcrm.task_kind_map m where m.account_id = for_account) then
		perform regcrm.fill_task_kinds(for_account);
	end if;

	-- an older version may show that the task was completed earlier
	update regcrm.task t
	set seen_completed_at = s.at,
		completed_at = case when t.completed_at = t.seen_completed_at then s.at else t.completed_at end
	from (
		select regcrm.json_id(e.task -> 'id') as id,
			min(coalesce(regcrm.json_time(e.task -> 'updated_at'), regcrm.json_time(e.task -> 'created_at'))) as at
		from unnest(tasks) as e(task)
		where regcrm.json_true(e.task -> 'is_completed')
		group by 1) s
	where t.account_id = for_account and t.id = s.id and t.raw is not null
		and t.id = any (array(select regcrm.json_id(e.task -> 'id') from unnest(tasks) as e(task) where regcrm.json_true(e.task -> 'is_completed')))
		and (t.seen_completed_at is null or t.seen_completed_at > s.at);

	with incoming as (
		select distinct on (t.id) t.id, t.at, t.task
		from (
			select regcrm.json_id(e.task -> 'id') as id,
				coalesce(regcrm.json_time(e.task -> 'updated_at'), regcrm.json_time(e.task -> 'created_at')) as at, e.task, e.n
			from unnest(tasks) with ordinality as e(task, n)) t
		order by t.id, t.at desc, t.n desc)
	select coalesce(array_agg(i.task), '{}') into changed
	from incoming i
	left join lateral (
		select k.raw, k.updated_at from regcrm.task k
		where k.account_id = for_account and k.id = i.id offset 0) o on true
	where o.raw is null or o.raw is distinct from i.task and i.at >= o.updated_at;

	perform regcrm.write_tasks(for_account, changed);

	-- what reconcile() found gone and amoCRM shows again was not
	with risen as (
		delete from regcrm.other_event o
		where o.account_id = for_account and o.type = 'task_tombstone' and o.entity_type = 'task'
			and o.entity_id = any (array(select regcrm.json_id(e.task -> 'id') from unnest(tasks) as e(task)))
		returning o.entity_id)
	select array_agg(r.entity_id) into risen from risen r;
	perform regcrm.reread_tasks(for_account, risen);
end
$$;
comment on function regcrm.ingest_tasks(bigint, jsonb[]) is
	'For ingest(): takes tasks. The newer updated_at wins.';
