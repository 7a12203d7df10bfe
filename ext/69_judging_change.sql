
-- ---------------------------------------------------------------------------
-- when that by which deals are judged was changed
-- ---------------------------------------------------------------------------

create function regcrm.judging_changed() returns trigger
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	old_row jsonb;
	new_row jsonb;
	looked_at text[] := tg_argv[2:tg_nargs - 1];
	changed text;
begin
	if tg_op = 'TRUNCATE' then
		insert into regcrm.judging_change as c (kind, name, at, xid) values ('all', '', clock_timestamp(), pg_current_xact_id())
			on conflict (kind, name) do update set at = excluded.at, xid = excluded.xid;
		return null;
	end if;
	if tg_op <> 'INSERT' then
		old_row := to_jsonb(old);
	end if;
	if tg_op <> 'DELETE' then
		new_row := to_jsonb(new);
	end if;
	-- of some columns only: those that judging looks at
	if cardinality(looked_at) > 0 and not exists (
			select from unnest(looked_at) l where old_row -> l is distinct from new_row -> l) then
		return null;
	end if;
	for changed in
		select distinct case tg_argv[0] when 'all' then '' else n.name end
		from (values (old_row ->> tg_argv[1]), (new_row ->> tg_argv[1])) as n(name)
		where n.name is not null
	loop
		if tg_argv[0] = 'account' then
			update regcrm.account a set judging_changed_at = clock_timestamp(), judging_changed_xid = pg_current_xact_id()
				where a.id = changed::bigint;
		else
			insert into regcrm.judging_change as c (kind, name, at, xid) values (tg_argv[0], changed, clock_timestamp(), pg_current_xact_id())
				on conflict (kind, name) do update set at = excluded.at, xid = excluded.xid;
		end if;
	end loop;
	return null;
end
$$;
comment on function regcrm.judging_changed() is
	'Trigger on rules, calendars, mappings, feeds and what else deals are judged by: stamps judging_change, or account.judging_changed_at for what is one account''s, so that sync_accounts tells when a rejudge() is due. Arguments: kind; column with the name; columns that alone count, none = all.';

create function regcrm.setup_judging_change() returns void
	language plpgsql volatile parallel unsafe
	set search_path = pg_catalog, pg_temp
	as $$
declare
	t record;
begin
	for t in
		select * from (values
			('rule', 'regulation', 'regulation', 'insert or update or delete', ''),
			('transition', 'regulation', 'regulation', 'insert or update or delete', ''),
			('scenario', 'regulation', 'regulation', 'insert or update or delete', ''),
			('regulation', 'regulation', 'code', 'update', ''),
			('stage_def', 'all', 'stage', 'insert or update or delete', ''),
			('calendar', 'calendar', 'name', 'insert or update or delete', ''),
			('calendar_week', 'calendar', 'calendar', 'insert or update or delete', ''),
			('calendar_day', 'calendar', 'calendar', 'insert or update or delete', ''),
			('stage_map', 'account', 'account_id', 'insert or update or delete', ', stage'),
			('field_map', 'account', 'account_id', 'insert or update or delete', ', field'),
			('task_kind_map', 'account', 'account_id', 'insert or update or delete', ', pattern, kind, task_type_id'),
			('feed', 'account', 'account_id', 'insert or update or delete', ''),
			('manager', 'account', 'account_id', 'update', ', in_scope'),
			('account', 'account', 'id', 'update', ', regulation, calendar, time_zone, call_notes_at')
			) as v(relation, kind, name, operations, looked_at)
	loop
		perform regcrm.ensure_trigger('regcrm.' || t.relation, 'regcrm_judging', format(
			'create trigger %%1$s after %s on %%2$s for each row execute function regcrm.judging_changed(%s, %s%s)',
			t.operations, quote_literal(t.kind), t.name, t.looked_at));
		if t.operations like '%delete%' then
			perform regcrm.ensure_trigger('regcrm.' || t.relation, 'regcrm_judging_truncate',
				'create trigger %1$s after truncate on %2$s for each statement execute function regcrm.judging_changed(''all'')');
		end if;
	end loop;
end
$$;
revoke execute on function regcrm.setup_judging_change() from public;
comment on function regcrm.setup_judging_change() is
	'For setup(): makes the triggers that note when what deals are judged by was changed.';
