# A dump, an upgrade or an extension dropped without CASCADE loses nothing of
# what users stored (DESIGN section 9; hazards D1 to D5, T1).
#
# A lived-in database (facts in mode record, a stage and rules of the user's
# own, edited built-in rows, a changed calendar, a waived violation, a user's
# column, index, trigger, view and grants) goes through pg_dump into new
# databases and is compared row for row, both ways.  Then writes go on: numbers
# do not begin again, and the gate judges.  Last, detach(), DROP EXTENSION
# without CASCADE, CREATE EXTENSION, setup(): the same again.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->start;

# Members of the extension: not dumped, and not the user's data.
my %member = map { $_ => 1 } qw(secret worker_switch);

# Runs SQL that must succeed, and returns what it prints.
sub sql
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

# SQLSTATE and message of SQL that must fail.
sub sql_error
{
	my ($db, $sql) = @_;
	my ($rc, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\n$sql");
	return $err;
}

# All rows of all tables of schema regcrm: table => sorted rows as text.
sub contents
{
	my ($db) = @_;
	my %rows;
	for my $table (split /\n/, sql($db, q{
		SELECT relname FROM pg_class
		WHERE relnamespace = 'regcrm'::regnamespace AND relkind = 'r' ORDER BY relname}))
	{
		next if $member{$table};
		$rows{$table} = [ split /\n/, sql($db,
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
	UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), NULL, NULL, NULL
		FROM pg_constraint WHERE connamespace = 'regcrm'::regnamespace AND conrelid <> 0};

sub surroundings
{
	my ($db) = @_;
	my @rows = split /\n/, sql($db, "SELECT replace(x::text, E'\\n', ' ') FROM ($surroundings) x WHERE x::text !~ 'secret|worker_switch' ORDER BY 1");
	return { 'schema' => \@rows };
}

# ---------------------------------------------------------------------------
# a lived-in database
# ---------------------------------------------------------------------------

sql('postgres', q{
	CREATE ROLE bi NOLOGIN;
	CREATE DATABASE lived;
	CREATE DATABASE plain;
	CREATE DATABASE directory;
});

sql('lived', q{
	CREATE EXTENSION regcrm;
	SELECT FROM regcrm.setup();
	INSERT INTO regcrm.account (id, name, base_url, calendar) VALUES (7, 'Школа', 'https://school.amocrm.ru', 'daily-9-20');
	INSERT INTO regcrm.manager (id, name, in_scope) VALUES (1, 'Анна', true), (2, 'Борис', true), (3, 'Директор', false);
	INSERT INTO regcrm.secret (account_id, access_token) VALUES (7, 'canary-token-5e1f');
});

# the user's own rows, edits of ours, and objects beside ours
sql('lived', q{
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
sql('lived', q{
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
	INSERT INTO regcrm.quarantine (entity, error, body) VALUES ('leads', 'дурной байт', '\x00ff');
});
sql('lived', q{
	SELECT FROM regcrm.waive(7, (SELECT min(id) FROM regcrm.violation WHERE resolved_at IS NULL), 'клиент просил не звонить');
	SET regcrm.mode = 'record';
	INSERT INTO regcrm.event (deal_id, at, kind, actor_id)
		SELECT d.id, d.created_at + interval '1 min', 'message_out', d.manager_id FROM regcrm.deal d WHERE d.id = 5;
});

is(sql('lived', q{SELECT count(*) > 20, count(*) FILTER (WHERE waived_at IS NOT NULL), count(*) FILTER (WHERE withdrawn_at IS NOT NULL) > 0,
		count(*) FILTER (WHERE rule = 'TRIAL-1') > 0 FROM regcrm.violation}),
	't|1|t|t', 'the database has lived: breaches, one waived, one withdrawn, some of a rule of the user\'s');
is(sql('lived', q{SELECT count(*) > 0 FROM regcrm.deadline WHERE state IN ('pending', 'warned')}), 't', '... and duties that are running');

my $lived = contents('lived');
my $around = surroundings('lived');

# ---------------------------------------------------------------------------
# pg_dump | psql, and pg_dump -Fd | pg_restore -j
# ---------------------------------------------------------------------------

my $folder = PostgreSQL::Test::Utils::tempdir;
my @connection = ('--host', $node->host, '--port', $node->port);

command_ok([ 'pg_dump', @connection, '-f', "$folder/plain.sql", 'lived' ], 'pg_dump, plain');
command_ok([ 'pg_dump', @connection, '-Fd', '-j2', '-f', "$folder/directory", 'lived' ], 'pg_dump, a directory, two jobs');
unlike(slurp_file("$folder/plain.sql"), qr/canary-token/, 'no token is in the dump');

my ($out, $err);
IPC::Run::run([ 'psql', '-X', '-q', @connection, '-d', 'plain', '-f', "$folder/plain.sql" ], '>', \$out, '2>', \$err);
is($err, '', 'restored by psql without an error');
IPC::Run::run([ 'pg_restore', @connection, '-d', 'directory', '-j2', "$folder/directory" ], '>', \$out, '2>', \$err);
is($err, '', 'restored by pg_restore without an error');

for my $db (qw(plain directory))
{
	is_same(contents($db), $lived, "$db: every row of every table, and no other");
	is_same(surroundings($db), $around, "$db: columns, defaults, triggers, indexes, views, rights and comments");
	is(sql($db, 'SELECT * FROM public.forecast'), sql('lived', 'SELECT * FROM public.forecast'), "$db: stages in a table of the user's");
	is(sql($db, 'SELECT * FROM public.my_open ORDER BY 1'), sql('lived', 'SELECT * FROM public.my_open ORDER BY 1'), "$db: the user's view answers the same");
	is(sql($db, 'SELECT account_id, day, manager_id, arisen, met, late, missed, violations FROM regcrm.manager_scorecard ORDER BY 1, 2, 3'),
		sql('lived', 'SELECT account_id, day, manager_id, arisen, met, late, missed, violations FROM regcrm.manager_scorecard ORDER BY 1, 2, 3'),
		"$db: the scorecard says the same");
	is(sql($db, 'SELECT count(*) FROM regcrm.secret'), '0', "$db: asks for its tokens again");
}

# ---------------------------------------------------------------------------
# life goes on in the restored database
# ---------------------------------------------------------------------------

# What must hold of writes: numbers go on, what breaks a rule is recorded.
sub lives_on
{
	my ($db, $name) = @_;

	is(sql($db, q{
		SET regcrm.mode = 'record';
		CREATE TEMP TABLE last AS SELECT (SELECT max(id) FROM regcrm.deal) AS deal, (SELECT max(id) FROM regcrm.event) AS event,
			(SELECT max(id) FROM regcrm.task) AS task, (SELECT max(id) FROM regcrm.violation) AS violation;
		WITH d AS (INSERT INTO regcrm.deal (name, stage, manager_id, created_at) VALUES ('после', 'new', 1, '2026-03-12 10:00+03') RETURNING id)
		INSERT INTO regcrm.task (deal_id, due_at) SELECT id, '2026-03-12 12:00+03' FROM d;
		SELECT d.id > l.deal, (SELECT max(id) FROM regcrm.event) > l.event, (SELECT max(id) FROM regcrm.task) > l.task,
			(SELECT min(v.id) FROM regcrm.violation v WHERE v.deal_id = d.id) > l.violation
		FROM last l, regcrm.deal d WHERE d.name = 'после' ORDER BY d.id DESC LIMIT 1;
	}), 't|t|t|t', "$name: numbers go on");

	is(sql($db, q{SELECT breached_at FROM regcrm.violation v WHERE rule = 'NEW-1' AND deal_id = (SELECT max(id) FROM regcrm.deal WHERE name = 'после')}),
		sql($db, q{SELECT timestamptz '2026-03-12 10:10+03'}), "$name: a new fact is judged, by the changed rule");
	like(sql_error($db, q{UPDATE regcrm.deal SET stage = 'won' WHERE id = 1;}),
		qr/23514.*may not enter stage "won"/s, "$name: the gate refuses an illegal move");
	like(sql_error($db, q{INSERT INTO regcrm.rule (regulation, code, form, event, title) VALUES ('idrive', 'X', 'never', 'no_such', 'x');}),
		qr/ERROR:.*no_such/s, "$name: a bad rule is refused");
	is(sql($db, q{SELECT 'пробное'::regcrm.stage}), 'trial', "$name: the user's stage goes by its alias");
	sql($db, q{
		SET regcrm.mode = 'off';
		DELETE FROM regcrm.violation v USING regcrm.deal d WHERE d.name = 'после' AND v.deal_id = d.id;
		DELETE FROM regcrm.deadline v USING regcrm.deal d WHERE d.name = 'после' AND v.deal_id = d.id;
		DELETE FROM regcrm.task v USING regcrm.deal d WHERE d.name = 'после' AND v.deal_id = d.id;
		DELETE FROM regcrm.event v USING regcrm.deal d WHERE d.name = 'после' AND v.deal_id = d.id;
		DELETE FROM regcrm.deal d WHERE d.name = 'после';
	});
}

lives_on('plain', 'after psql');
is_same(contents('plain'), $lived, 'plain: as before, once that is taken away');
sql('plain', 'SELECT FROM regcrm.setup()');
is_same(contents('plain'), $lived, 'plain: setup() again changes no row');
is_same(surroundings('plain'), $around, 'plain: ... and nothing around them');
my $rejudged = sql('plain', 'SELECT rejudged_at FROM regcrm.account');
sql('plain', 'SELECT FROM regcrm.rejudge()');
isnt(sql('plain', 'SELECT rejudged_at FROM regcrm.account'), $rejudged, 'plain: judging it all again is noted');
sql('plain', "UPDATE regcrm.account SET rejudged_at = '$rejudged'");
is_same(contents('plain'), $lived, 'plain: ... and finds the same');

# ---------------------------------------------------------------------------
# detach(), DROP EXTENSION, CREATE EXTENSION, setup()
# ---------------------------------------------------------------------------

like(sql_error('directory', 'DROP EXTENSION regcrm;'), qr/2BP01/, 'DROP EXTENSION alone is refused while tables stand on it');
like(sql_error('directory', 'SELECT regcrm.detach();'), qr/2BP01.*my_open/s, 'detach() says which view of the user\'s is in its way');
sql('directory', 'DROP VIEW public.my_open');
sql('directory', 'SELECT FROM regcrm.detach()');
sql('directory', 'DROP EXTENSION regcrm');
is(sql('directory', q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'regcrm'::regnamespace}), '0', 'the extension is gone');
is_same(contents('directory'), $lived, 'without the extension: every row is there', detached => 1, installed => 1);
is(sql('directory', 'SELECT stage FROM public.forecast ORDER BY 1 NULLS LAST'), "trial\nwon\n", '... stages in a table of the user\'s as text');

sql('directory', 'CREATE EXTENSION regcrm');
like(sql_error('directory', 'SELECT regcrm.rejudge();'), qr/regcrm\.setup\(\)/, 'what meets a detached database says: run regcrm.setup()');
sql('directory', 'SELECT FROM regcrm.setup()');
is_same(contents('directory'), $lived, 'with the extension again: every row, and no other', installed => 1);
is_same(surroundings('directory'), $around, '... and all around them');
lives_on('directory', 'after DROP EXTENSION');

$node->stop;
done_testing();
