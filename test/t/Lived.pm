# A database that has been lived in, for tests that something leaves it as it was:
# facts in mode record, a stage and rules of the user's own, edited built-in rows, a
# changed calendar, a waived violation, marts, a synced account with all that its
# sync remembers, a user's column, index, trigger, view and grants.  And what such
# a database holds, compared row for row.
package Lived;

use strict;
use warnings;
use Test::More;

# Members of the extension: not dumped, and not the user's data.
my @members = qw(secret worker_switch inbox);
my $members = join '|', @members;
my %member = map { $_ => 1 } @members;

# All rows of all tables of schema regcrm: table => sorted rows as text.
sub contents
{
	my ($node, $db) = @_;
	my %rows;
	for my $table (split /\n/, $node->safe_psql($db, q{
		SELECT relname FROM pg_class
		WHERE relnamespace = 'regcrm'::regnamespace AND relkind = 'r' ORDER BY relname}))
	{
		next if $member{$table};
		$rows{$table} = [ split /\n/, $node->safe_psql($db,
				qq{SELECT replace(t::text, E'\\n', '\\n') FROM regcrm."$table" t ORDER BY 1}) ];
	}
	return \%rows;
}

# What the one has and the other has not, row for row, both ways.
sub is_same
{
	my ($got, $expected, $name, %except) = @_;
	my @differences;
	for my $table (sort keys %{ { %$got, %$expected } })
	{
		next if $except{$table};
		my %count;
		$count{$_}++ for @{ $expected->{$table} // [] };
		$count{$_}-- for @{ $got->{$table} // [] };
		push @differences, map { "$table lost: $_" } grep { $count{$_} > 0 } sort keys %count;
		push @differences, map { "$table gained: $_" } grep { $count{$_} < 0 } sort keys %count;
	}
	my $more = @differences > 20 ? @differences - 20 : 0;
	ok(!@differences, $name)
	  or diag(join("\n", @differences[ 0 .. ($more ? 19 : $#differences) ], $more ? "and $more more" : ()));
}

# What stands around the rows: columns, defaults, triggers, indexes, views, rights, comments.
my $surroundings = q{
	SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
			col_description(c.oid, a.attnum)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
		WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind IN ('r', 'v')
	UNION ALL SELECT 'relation', c.relname, c.relkind::text, pg_get_userbyid(c.relowner), NULL, c.relacl::text, obj_description(c.oid)
		FROM pg_class c WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind IN ('r', 'v')
	UNION ALL SELECT 'view', c.relname, pg_get_viewdef(c.oid), c.reloptions::text, NULL, NULL, NULL
		FROM pg_class c WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind = 'v'
	-- an AND of many is written with other parentheses once it was read again
	UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, translate(pg_get_triggerdef(oid), '()', ''), NULL, tgenabled::text, NULL
		FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'regcrm'::regnamespace) AND NOT tgisinternal
	UNION ALL SELECT 'index', indrelid::regclass::text, indexrelid::regclass::text, pg_get_indexdef(indexrelid), NULL, NULL, NULL
		FROM pg_index WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'regcrm'::regnamespace AND relkind = 'r')
	UNION ALL SELECT 'policy', p.polrelid::regclass::text, p.polname, pg_get_expr(p.polqual, p.polrelid), p.polpermissive, pg_get_expr(p.polwithcheck, p.polrelid),
			p.polcmd::text || array_to_string(ARRAY(SELECT pg_get_userbyid(r) FROM unnest(p.polroles) r), ',')
		FROM pg_policy p WHERE p.polrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'regcrm'::regnamespace)
	UNION ALL SELECT 'row security', oid::regclass::text, NULL, NULL, relrowsecurity, relforcerowsecurity::text, NULL
		FROM pg_class WHERE relnamespace = 'regcrm'::regnamespace AND relkind = 'r'
	UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), NULL, NULL, NULL
		FROM pg_constraint WHERE connamespace = 'regcrm'::regnamespace AND conrelid <> 0
	UNION ALL SELECT 'policy', p.tablename, p.policyname, p.permissive || ' ' || p.cmd || ' ' || p.roles::text, NULL, p.qual, p.with_check
		FROM pg_policies p WHERE p.schemaname = 'regcrm'
	UNION ALL SELECT 'row security', c.relname, c.relrowsecurity::text, NULL, NULL, NULL, NULL
		FROM pg_class c WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind = 'r'
	UNION ALL SELECT 'function', p.oid::regprocedure::text, p.proacl::text, NULL, NULL, NULL, NULL
		FROM pg_proc p WHERE p.pronamespace = 'regcrm'::regnamespace
	UNION ALL SELECT 'schema', n.nspname, n.nspacl::text, NULL, NULL, NULL, NULL
		FROM pg_namespace n WHERE n.nspname = 'regcrm'};

sub surroundings
{
	my ($node, $db, %without) = @_;
	my @rows = grep { my $row = $_; !grep { $row =~ /^\($_,/ } keys %without } split /\n/, $node->safe_psql($db, "SELECT replace(x::text, E'\\n', ' ') FROM ($surroundings) x WHERE x::text !~ '$members' ORDER BY 1");
	return { 'schema' => \@rows };
}

# Makes it, in a new database of the node.  The role bi must be there.
sub live
{
	my ($node, $db) = @_;

	$node->safe_psql($db, q{
		CREATE EXTENSION regcrm;
		SELECT FROM regcrm.setup();
		INSERT INTO regcrm.account (id, name, base_url, calendar) VALUES (7, 'Школа', 'https://school.amocrm.ru', 'daily-9-20');
		INSERT INTO regcrm.manager (id, name, in_scope) VALUES (1, 'Анна', true), (2, 'Борис', true), (3, 'Директор', false);
		INSERT INTO regcrm.secret (account_id, access_token) VALUES (7, 'canary-token-5e1f');
	});

	# the user's own rows, edits of ours, and objects beside ours
	$node->safe_psql($db, q{
		INSERT INTO regcrm.stage_def (stage, name, aliases, position) VALUES ('trial', 'Пробный урок', '{Пробное}', 95);
		INSERT INTO regcrm.transition (regulation, from_stage, to_stage, basis, clause)
			VALUES ('idrive', 'in_work', 'trial', 'stated', 'своё'), ('idrive', 'trial', 'deciding', 'stated', 'своё');
		INSERT INTO regcrm.rule (regulation, code, stage, form, event, expect, within, severity, title)
			VALUES ('idrive', 'TRIAL-1', 'trial', 'within', 'enter', '{call_out}', '2 hours', 'major', 'Позвонить после пробного урока');
		UPDATE regcrm.rule SET valid = tstzrange(NULL, '2026-03-10 00:00+03') WHERE regulation = 'idrive' AND code = 'NEW-1';
		INSERT INTO regcrm.rule (regulation, code, stage, form, event, expect, scope, within, warn, clock, severity, action, basis, clause, title, valid)
			SELECT regulation, code, stage, form, event, expect, scope, '10 min', '7 min', clock, severity, action, basis, clause, 'Первый контакт за десять минут',
				tstzrange('2026-03-10 00:00+03', NULL)
			FROM regcrm.rule WHERE regulation = 'idrive' AND code = 'NEW-1';
		UPDATE regcrm.rule SET enabled = false WHERE regulation = 'idrive' AND code = 'WRK-6';
		UPDATE regcrm.stage_def SET aliases = aliases || '{Думает}' WHERE stage = 'deciding';
		INSERT INTO regcrm.calendar_day (calendar, day, note) VALUES ('daily-9-20', '2026-03-08', 'праздник');
		INSERT INTO regcrm.calendar (name, title) VALUES ('short', 'Короткая неделя');
		INSERT INTO regcrm.calendar_week (calendar, from_date, weekday, opens, closes)
			SELECT 'short', '2026-01-01', d, '10:00', '24:00' FROM generate_series(1, 4) d;
		ALTER TABLE regcrm.deal ADD COLUMN branch text DEFAULT 'центр';
		CREATE INDEX deal_branch_idx ON regcrm.deal (branch);
		COMMENT ON COLUMN regcrm.deal.price IS 'цена курса';
		CREATE FUNCTION public.note_branch() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN NEW.branch := COALESCE(NEW.branch, 'центр'); RETURN NEW; END $$;
		CREATE TRIGGER note_branch BEFORE INSERT ON regcrm.deal FOR EACH ROW EXECUTE FUNCTION public.note_branch();
		CREATE VIEW public.my_open AS SELECT manager_name, count(*) FROM regcrm.open_violations GROUP BY 1;
		CREATE TABLE public.forecast (stage regcrm.stage, share numeric);
		INSERT INTO public.forecast VALUES ('trial', 0.3), ('Договор', 1), (NULL, 0);
		GRANT USAGE ON SCHEMA regcrm TO bi;
		GRANT SELECT ON regcrm.violations, regcrm.manager_scorecard TO bi;
	});

	# facts: some through columns, some as events in any order, one late
	$node->safe_psql($db, q{
		SET regcrm.mode = 'record';
		INSERT INTO regcrm.deal (id, name, stage, manager_id, created_at, lead_date, custom)
			SELECT n, 'Сделка ' || n, 'new', 1 + n % 2, timestamptz '2026-03-05 10:00+03' + n * interval '7 hours', '2026-03-05', '{"77": ["a\\b"]}'
			FROM generate_series(1, 40) n;
		INSERT INTO regcrm.event (deal_id, at, kind, actor_id, answered, duration)
			SELECT n, timestamptz '2026-03-05 10:00+03' + n * interval '7 hours' + n * interval '1 min', 'call_out', 1 + n % 2, n % 3 = 0, n * interval '10 s'
			FROM generate_series(1, 40) n WHERE n % 5 > 0;
		INSERT INTO regcrm.event (deal_id, at, kind, actor_id, from_stage, to_stage)
			SELECT n, timestamptz '2026-03-06 12:00+03' + n * interval '7 hours', 'stage', 1 + n % 2, 'new', 'in_work'
			FROM generate_series(1, 40) n WHERE n % 4 > 0;
		INSERT INTO regcrm.event (deal_id, at, kind, actor_id, from_stage, to_stage)
			SELECT n, timestamptz '2026-03-06 15:00+03' + n * interval '7 hours', 'stage', 1 + n % 2, 'in_work', 'trial'
			FROM generate_series(1, 40) n WHERE n % 4 > 1;
		INSERT INTO regcrm.task (deal_id, kind, body, manager_id, created_at, due_at, completed_at)
			SELECT n, 'callback', E'перезвонить\tпосле\nобеда', 1 + n % 2, timestamptz '2026-03-06 16:00+03' + n * interval '7 hours',
				timestamptz '2055-01-01 10:00+03' + n * interval '1 day', NULL
			FROM generate_series(1, 40) n WHERE n % 3 = 0;
		INSERT INTO regcrm.deal (name, stage, manager_id, created_at) VALUES ('без номера', 'deciding', 3, '2026-03-07 10:00+03');
		INSERT INTO regcrm.task (deal_id, body, manager_id, created_at, due_at)
			SELECT id, 'вернуться', 3, '2026-03-07 10:00+03', '2055-03-01 12:00+03' FROM regcrm.deal WHERE name = 'без номера';
		-- a moment at which something happens by itself
		INSERT INTO regcrm.deal (id, name, stage, manager_id, created_at, return_on) VALUES (41, 'Отложена', 'deferred', 1, '2026-03-07 10:00+03', '2055-01-05');
		INSERT INTO regcrm.quarantine (entity, error, body) VALUES ('leads', 'дурной байт', '\x00ff');
	});
	$node->safe_psql($db, q{
		SELECT FROM regcrm.waive(7, (SELECT min(id) FROM regcrm.violation WHERE resolved_at IS NULL), 'клиент просил не звонить');
		SET regcrm.mode = 'record';
		INSERT INTO regcrm.event (deal_id, at, kind, actor_id)
			SELECT d.id, d.created_at + interval '1 min', 'message_out', d.manager_id FROM regcrm.deal d WHERE d.id = 5;
	});

	# a second account, synced: what its pages brought, what its sync remembers,
	# what it was told to write back, what was corrected by hand
	$node->safe_psql($db, q{
		SET regcrm.account_id = 8;
		SET regcrm.mode = 'off';
		INSERT INTO regcrm.account (id, name, base_url, subdomain, time_zone, calendar, known_from, known_until, state, state_reason, connected_at,
				loaded_at, load_requests, reconciled_at, call_notes_at, owner_confirmed_calendar, paused)
			VALUES (8, 'Сеть', 'https://127.0.0.1:1', 'renamed', 'Asia/Yekaterinburg', 'daily-9-20', '2026-01-01', '2026-03-10', 'ok', 'переехала', '2026-03-01',
				'2026-03-02', 120, '2026-03-09', 'end', true, false);
		INSERT INTO regcrm.secret (account_id, access_token, refresh_token) VALUES (8, 'canary-token-81aa', 'canary-token-81ab');
		INSERT INTO regcrm.inbox (base_url, token) VALUES ('https://renamed.amocrm.ru', 'canary-token-9c0d');
		INSERT INTO regcrm.manager (id, name, db_role) VALUES (81, 'Вера', 'bi');
		INSERT INTO regcrm.pipeline (id, name, sort, is_main) VALUES (700, 'Продажи', 1, true);
		INSERT INTO regcrm.status (pipeline_id, id, name, sort) VALUES (700, 701, 'Новая', 10), (700, 142, 'Успешно', 100);
		INSERT INTO regcrm.stage_map (pipeline_id, status_id, stage, by_user) VALUES (700, 701, 'trial', true), (700, 142, 'won', false);
		INSERT INTO regcrm.custom_field (id, name, type, entity_type) VALUES (55, 'Дата встречи', 'date_time', 'leads');
		INSERT INTO regcrm.field_map (field_id, field, by_user) VALUES (55, 'meeting_at', true);
		INSERT INTO regcrm.task_kind_map (pattern, kind, by_user) VALUES ('позвонить ещё', 'callback', true);
		INSERT INTO regcrm.loss_reason (id, name, sort) VALUES (3, 'Дорого', 1);
		INSERT INTO regcrm.feed (feed, since) VALUES ('calls', '2026-01-05'), ('field:meeting_at', '-infinity') ON CONFLICT DO NOTHING;
		INSERT INTO regcrm.contact (id, name, raw) VALUES (900, 'Клиент', '{"a": "\\u0434"}');
		INSERT INTO regcrm.deal (id, name, stage, pipeline_id, status_id, manager_id, created_at, tags, raw)
			VALUES (801, 'Синхронная', 'trial', 700, 701, 81, '2026-03-01', '{vip,"с пробелом"}', '{"id": 801}');
		INSERT INTO regcrm.deal_contact (deal_id, contact_id, is_main) VALUES (801, 900, true);
		INSERT INTO regcrm.event (id, deal_id, at, kind, source, source_id, raw) VALUES (11, 801, '2026-03-02', 'message_in', 'note', '11', '{}');
		INSERT INTO regcrm.other_event (source_id, type, entity_type, entity_id, at) VALUES ('e1', 'company_added', 'companies', 5, '2026-03-01');
		INSERT INTO regcrm.sync_state (entity, window_from, window_to, page, done_to, done_from, rows_read, requests, last_error, width)
			VALUES ('events', '2026-03-09', '2026-03-10', 3, '2026-03-09', NULL, 500, 12, NULL, '1 day'),
				('events/history', NULL, NULL, NULL, NULL, '2026-01-01', 500, 12, 'HTTP 504', '6 hours'), ('pass', NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL);
		INSERT INTO regcrm.wanted (entity, id, reason) VALUES ('leads', 802, 'a task names it');
		INSERT INTO regcrm.reconciliation (entity, checked, missed) VALUES ('leads', 100, 1);
		INSERT INTO regcrm.forgotten (deal_id) VALUES (803);
		INSERT INTO regcrm.forgotten_part (entity, id) VALUES ('contact', 903);
		INSERT INTO regcrm.webhook (first_at, last_at, bodies, elements) VALUES ('2026-03-01', '2026-03-09', 12, 15);
		INSERT INTO regcrm.writeback (enabled, dry_run, act, move_back, rules, daily_cap, since) VALUES (true, true, 'task', true, '{NEW-1,FLOW}', 7, '2026-03-05');
		INSERT INTO regcrm.outbox (deal_id, violation_id, rule, act, body, state, done_at, remote_id) VALUES
			(801, 1, 'NEW-1', 'note', 'Первый контакт: [regcrm 8-1]', 'sent', '2026-03-08', 4001), (801, 2, 'FLOW', 'task', 'Верните сделку', 'waiting', NULL, NULL);
		UPDATE regcrm.effect SET due = '3 hours' WHERE regulation = 'idrive' AND due IS NOT NULL AND code = (SELECT min(code) FROM regcrm.effect WHERE due IS NOT NULL);
		UPDATE regcrm.transition SET valid = tstzrange(NULL, '2026-05-01 00:00+03')
			WHERE regulation = 'idrive' AND from_stage = 'messaging' AND to_stage = 'deciding';
		DELETE FROM regcrm.transition WHERE regulation = 'idrive' AND from_stage = 'deferred' AND to_stage = 'messaging';
		DELETE FROM regcrm.rule WHERE regulation = 'idrive' AND code = 'WRK-7';
		INSERT INTO regcrm.regulation (code, title) VALUES ('own', 'Свой регламент');
		-- hours from a day on: shorter in April
		INSERT INTO regcrm.calendar_week (calendar, from_date, weekday, opens, closes)
			SELECT 'daily-9-20', '2026-04-01', d, '10:00', '18:00' FROM generate_series(1, 5) d;
	});
	$node->safe_psql($db, 'SELECT FROM regcrm.rejudge()');
	# who may see what
	$node->safe_psql($db, q{SELECT regcrm.grant_access('bi', 'reader'); SELECT regcrm.map_head('bi', 7); SELECT regcrm.enable_row_security()});
	# sums for reports, some of them no longer true, and how far they are counted
	$node->safe_psql($db, 'CALL regcrm.refresh_marts(5000); CALL regcrm.refresh_marts(5000);');
	$node->safe_psql($db, q{
		SELECT FROM regcrm.waive(7, (SELECT max(id) FROM regcrm.violation WHERE account_id = 7 AND resolved_at IS NULL AND waived_at IS NULL AND withdrawn_at IS NULL), 'по договорённости')});
	# who may do what, and sees whose rows
	$node->safe_psql($db, q{
		DO $$ BEGIN IF to_regrole('bi') IS NULL THEN CREATE ROLE bi NOLOGIN; END IF; END $$;
		SELECT regcrm.grant_access('bi', 'reader'), regcrm.map_head('bi', 7), regcrm.enable_row_security();
	});
	# the clock's memory of the hours it planned by
	$node->safe_psql($db, 'SELECT regcrm.flag_expired()');
	return;
}

# Tables that hold no row: a round trip says nothing about them.
sub empty
{
	my ($contents) = @_;
	return join ' ', grep { !@{ $contents->{$_} } } sort keys %$contents;
}

1;
