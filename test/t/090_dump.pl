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
use Lived;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->start;

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

# ---------------------------------------------------------------------------
# a lived-in database
# ---------------------------------------------------------------------------

sql('postgres', q{
	CREATE ROLE bi NOLOGIN;
	CREATE DATABASE lived;
	CREATE DATABASE plain;
	CREATE DATABASE directory;
	CREATE DATABASE custom;
});

Lived::live($node, 'lived');

is(sql('lived', q{SELECT count(*) > 20, count(*) FILTER (WHERE waived_at IS NOT NULL), count(*) FILTER (WHERE withdrawn_at IS NOT NULL) > 0,
		count(*) FILTER (WHERE rule = 'TRIAL-1') > 0 FROM regcrm.violation}),
	't|2|t|t', 'the database has lived: breaches, two waived, one withdrawn, some of a rule of the user\'s');
is(sql('lived', q{SELECT count(*) > 0 FROM regcrm.deadline WHERE state IN ('pending', 'warned')}), 't', '... and duties that are running');

my $lived = Lived::contents($node, 'lived');
my $around = Lived::surroundings($node, 'lived');
is(Lived::empty($lived), '', 'no table is empty');

# ---------------------------------------------------------------------------
# pg_dump | psql, and pg_dump -Fd | pg_restore -j
# ---------------------------------------------------------------------------

my $folder = PostgreSQL::Test::Utils::tempdir;
my @connection = ('--host', $node->host, '--port', $node->port);

command_ok([ 'pg_dump', @connection, '-f', "$folder/plain.sql", 'lived' ], 'pg_dump, plain');
command_ok([ 'pg_dump', @connection, '-Fd', '-j2', '-f', "$folder/directory", 'lived' ], 'pg_dump, a directory, two jobs');
command_ok([ 'pg_dump', @connection, '-Fc', '-f', "$folder/custom", 'lived' ], 'pg_dump, one file');
unlike(slurp_file("$folder/plain.sql"), qr/canary-token/, 'no token is in the dump');

my ($out, $err);
IPC::Run::run([ 'psql', '-X', '-q', @connection, '-d', 'plain', '-f', "$folder/plain.sql" ], '>', \$out, '2>', \$err);
is($err, '', 'restored by psql without an error');
IPC::Run::run([ 'pg_restore', @connection, '-d', 'directory', '-j2', "$folder/directory" ], '>', \$out, '2>', \$err);
is($err, '', 'restored by pg_restore without an error');
IPC::Run::run([ 'pg_restore', @connection, '-d', 'custom', '-j4', "$folder/custom" ], '>', \$out, '2>', \$err);
is($err, '', '... out of one file, by four jobs');

for my $db (qw(plain directory custom))
{
	Lived::is_same(Lived::contents($node, $db), $lived, "$db: every row of every table, and no other");
	Lived::is_same(Lived::surroundings($node, $db), $around, "$db: columns, defaults, triggers, indexes, views, rights and comments");
	is(sql($db, 'SELECT * FROM public.forecast'), sql('lived', 'SELECT * FROM public.forecast'), "$db: stages in a table of the user's");
	is(sql($db, 'SELECT * FROM public.my_open ORDER BY 1'), sql('lived', 'SELECT * FROM public.my_open ORDER BY 1'), "$db: the user's view answers the same");
	is(sql($db, 'SELECT account_id, day, manager_id, arisen, met, late, missed, violations FROM regcrm.manager_scorecard ORDER BY 1, 2, 3'),
		sql('lived', 'SELECT account_id, day, manager_id, arisen, met, late, missed, violations FROM regcrm.manager_scorecard ORDER BY 1, 2, 3'),
		"$db: the scorecard says the same");
	is(sql($db, 'SELECT (SELECT count(*) FROM regcrm.secret) + (SELECT count(*) FROM regcrm.inbox)'), '0', "$db: has no tokens");
}

like(sql_error('custom', 'CALL regcrm.sync(8);'), qr/ERROR:.*no token.*HINT:.*regcrm\.connect/s, 'a restored database asks for its tokens again, clearly');
is(sql('custom', 'SELECT state FROM regcrm.account WHERE id = 8'), 'needs_connect', '... and says so where one looks');

# ---------------------------------------------------------------------------
# life goes on in the restored database
# ---------------------------------------------------------------------------

# What the views say of duties by the sums that are kept, and by counting them.
my $sums_differ = q{SELECT (SELECT count(*) FROM (TABLE regcrm.duty_counts EXCEPT TABLE regcrm.duty_counts_live) x)
	+ (SELECT count(*) FROM (TABLE regcrm.duty_counts_live EXCEPT TABLE regcrm.duty_counts) x)};

# What must hold of writes: numbers go on, what breaks a rule is recorded.
sub lives_on
{
	my ($db, $name) = @_;

	is(sql($db, q{
		SET regcrm.account_id = 7;
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
	like(sql_error($db, q{UPDATE regcrm.deal SET stage = 'won' WHERE account_id = 7 AND id = 1;}),
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

# Sums for reports are derived: what was written since is noted, and counted by the next refresh.
my %sums = (mart_duty => 1, mart_state => 1, mart_dirty => 1);

lives_on('plain', 'after psql');
isnt(sql('plain', 'SELECT count(*) FROM regcrm.mart_dirty'), scalar @{ $lived->{mart_dirty} }, 'plain: writes are noted for the sums');
is(sql('plain', $sums_differ), '0', 'plain: ... which say what there is');
Lived::is_same(Lived::contents($node, 'plain'), $lived, 'plain: as before, once that is taken away', %sums);
sql('plain', 'SELECT FROM regcrm.setup()');
Lived::is_same(Lived::contents($node, 'plain'), $lived, 'plain: setup() again changes no row', %sums);
Lived::is_same(Lived::surroundings($node, 'plain'), $around, 'plain: ... and nothing around them');
# when it was last judged stands in the account
sql('plain', 'CREATE TABLE public.judged AS SELECT id, rejudged_at, rejudged_beside FROM regcrm.account');
sql('plain', 'SELECT FROM regcrm.rejudge()');
is(sql('plain', 'SELECT bool_and(a.rejudged_at > j.rejudged_at) FROM regcrm.account a JOIN public.judged j USING (id)'), 't', 'plain: judging it all again is noted');
sql('plain', 'UPDATE regcrm.account a SET rejudged_at = j.rejudged_at, rejudged_beside = j.rejudged_beside FROM public.judged j WHERE j.id = a.id');
Lived::is_same(Lived::contents($node, 'plain'), $lived, 'plain: ... and finds the same', %sums);

# ---------------------------------------------------------------------------
# detach(), DROP EXTENSION, CREATE EXTENSION, setup()
# ---------------------------------------------------------------------------

like(sql_error('directory', 'DROP EXTENSION regcrm;'), qr/2BP01/, 'DROP EXTENSION alone is refused while tables stand on it');
like(sql_error('directory', 'SELECT regcrm.detach();'), qr/2BP01.*my_open/s, 'detach() says which view of the user\'s is in its way');
sql('directory', 'DROP VIEW public.my_open');
sql('directory', 'SELECT FROM regcrm.detach()');
sql('directory', 'DROP EXTENSION regcrm');
is(sql('directory', q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'regcrm'::regnamespace}), '0', 'the extension is gone');
Lived::is_same(Lived::contents($node, 'directory'), $lived, 'without the extension: every row is there', detached => 1, installed => 1, %sums);
is(sql('directory', 'SELECT stage FROM public.forecast ORDER BY 1 NULLS LAST'), "trial\nwon\n", '... stages in a table of the user\'s as text');

sql('directory', 'CREATE EXTENSION regcrm');
like(sql_error('directory', 'SELECT regcrm.rejudge();'), qr/regcrm\.setup\(\)/, 'what meets a detached database says: run regcrm.setup()');
sql('directory', 'SELECT FROM regcrm.setup()');
Lived::is_same(Lived::contents($node, 'directory'), $lived, 'with the extension again: every row, and no other', installed => 1, %sums);
is(sql('directory', $sums_differ), '0', '... and reports count without sums');
sql('directory', 'CALL regcrm.refresh_marts(5000); CALL regcrm.refresh_marts(5000)');
is(sql('directory', $sums_differ), '0', '... until they are kept again');
Lived::is_same(Lived::surroundings($node, 'directory'), $around, '... and all around them');
lives_on('directory', 'after DROP EXTENSION');

$node->stop;
done_testing();
