# Preloaded: the launcher keeps a sync and a clock worker in each database of
# regcrm.databases, whatever happens to them, and they stop when asked to.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(time usleep);

my $sim = Sim->start('--days', 1, '--deals', 20);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('workers');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.databases = 'postgres, Crm, missing'
regcrm.allow_http = on
regcrm.sync_interval = 1s
regcrm.http_timeout = 60s
restart_after_crash = on
max_worker_processes = 16
END
$node->start;

my ($out, $err);

sub worker
{
	my ($kind, $database) = @_;
	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'regcrm $kind'"
		  . ($database ? " AND datname = '$database'" : ''));
}

sub wait_worker
{
	my ($kind, $database, $not) = @_;
	$not ||= 0;
	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm $kind' AND datname = '$database' AND pid <> $not")
	  or die "no regcrm $kind in $database";
	return worker($kind, $database);
}

sub threads { my @tasks = glob '/proc/' . $node->{_pid} . '/task/*'; return scalar @tasks; }

# ---- they come, and wait for the extension

$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm launcher'});
my $sync = wait_worker('sync', 'postgres');
my $clock = wait_worker('clock', 'postgres');
pass('launcher, sync and clock worker run');
$node->safe_psql('postgres', 'CREATE DATABASE crm');
ok(wait_worker('sync', 'crm') && wait_worker('clock', 'crm'), 'a database made later gets its workers');
is(threads(), 1, 'the postmaster has one thread');

# ---- passes by themselves

$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
$node->psql('postgres', "CALL regcrm.connect('$url', token => 'token')", stderr => \$err);
unlike($err, qr/No sync worker runs/, 'connect() sees that a worker runs');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM regcrm.account WHERE isfinite(known_until)})
  or die 'no pass';
pass('the worker makes the first pass by itself');
my $known = $node->safe_psql('postgres', 'SELECT known_until FROM regcrm.account WHERE id = 30111222');
$sim->advance(3600);
$node->poll_query_until('postgres', "SELECT known_until > '$known' FROM regcrm.account WHERE id = 30111222");
pass('and the next ones');
is($sim->stats->{refused_429}, 0, 'at a pace that amoCRM allows');
cmp_ok($sim->stats->{most_in_a_second}, '<=', 7, 'never more than seven in a second');
is(worker('sync', 'postgres'), $sync, 'it is the same process still');
is(threads(), 1, 'the postmaster has one thread still');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'deal' AND n_tup_ins > 0}),
	'1', 'statistics are reported');

# A pass by hand beside the worker's: one pace for both.
for (1 .. 5) { $node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err); }
cmp_ok($sim->stats->{most_in_a_second}, '<=', 7, 'worker and CALL together keep the pace');

# ---- the clock: a deadline of an account that SQL writes is flagged when it expires

$node->safe_psql('postgres', q{
	INSERT INTO regcrm.account (id, name) VALUES (500, 'by SQL');
	SET regcrm.mode = 'record';
	INSERT INTO regcrm.deal (account_id, id, stage) VALUES (500, 1, 'new');
	INSERT INTO regcrm.deal (account_id, id, stage, created_at)
		SELECT 500, 2, 'new', now() - min(due_at - arose_at) + interval '2 s' FROM regcrm.deadline WHERE account_id = 500});
$node->safe_psql('postgres', "SELECT pg_terminate_backend($clock)");	# else it may sleep a minute
$clock = wait_worker('clock', 'postgres', $clock);
$node->poll_query_until('postgres', 'SELECT count(*) = 1 FROM regcrm.violation WHERE account_id = 500 AND deal_id = 2');
is( $node->safe_psql('postgres', q{SELECT detected_at - breached_at < interval '10 s' FROM regcrm.violation WHERE account_id = 500}),
	't', 'the clock worker flags what expires');

# ---- one broken account of three: the other goes on

$node->safe_psql('postgres', q{
	INSERT INTO regcrm.account (id, base_url, known_until) VALUES
		(1, 'http://127.0.0.1:1', '-infinity'), (2, 'gopher://x', '-infinity');
	INSERT INTO regcrm.secret (account_id, access_token) VALUES (1, 'x'), (2, 'x')});
$node->poll_query_until('postgres', q{SELECT last_error IS NOT NULL FROM regcrm.sync_state WHERE account_id = 1 AND entity = 'pass'});
$known = $node->safe_psql('postgres', 'SELECT known_until FROM regcrm.account WHERE id = 30111222');
$sim->advance(3600);
$node->poll_query_until('postgres', "SELECT known_until > '$known' FROM regcrm.account WHERE id = 30111222");
pass('accounts that fail do not keep another from going on');
is(worker('sync', 'postgres'), $sync, 'nor do they end the worker');
$node->safe_psql('postgres', 'DELETE FROM regcrm.account WHERE id < 3; DELETE FROM regcrm.secret WHERE account_id < 3');

# ---- cancelled, terminated, crashed

$node->safe_psql('postgres', "SELECT pg_cancel_backend($sync)");
$known = $node->safe_psql('postgres', 'SELECT known_until FROM regcrm.account WHERE id = 30111222');
$sim->advance(3600);
$node->poll_query_until('postgres', "SELECT known_until > '$known' FROM regcrm.account WHERE id = 30111222");
is(worker('sync', 'postgres'), $sync, 'a cancel ends what is under way, not the worker');

for my $kind (qw(sync clock))
{
	my $old = worker($kind, 'postgres');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($old)");
	ok(wait_worker($kind, 'postgres', $old), "a terminated $kind worker is started again");
}
my $launcher = worker('launcher');
$node->safe_psql('postgres', "SELECT pg_terminate_backend($launcher)");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm launcher' AND pid <> $launcher");
sleep 1;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('regcrm sync', 'regcrm clock')}),
	'4', 'so is the launcher, and it starts nobody twice');

my $log = slurp_file($node->logfile);
unlike($log, qr/terminating any other active server processes/, 'nothing of that was a crash');

$sync = worker('sync', 'postgres');
kill 'KILL', $sync;
usleep(200_000);
$node->poll_query_until('postgres', 'SELECT 1', '1');
ok(wait_worker('sync', 'postgres', $sync), 'after a crash all is started again');
$known = $node->safe_psql('postgres', 'SELECT known_until FROM regcrm.account WHERE id = 30111222');
$sim->advance(3600);
$node->poll_query_until('postgres', "SELECT known_until > '$known' FROM regcrm.account WHERE id = 30111222");
pass('and works');

# ---- stop_workers(): the database is free, until start_workers()

$node->safe_psql('crm', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
is($node->safe_psql('crm', 'SELECT regcrm.stop_workers()'), '2', 'stop_workers() stops both');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE crm; ALTER DATABASE crm RENAME TO crm2; ALTER DATABASE crm2 RENAME TO crm');
pass('the database can be copied and renamed');
sleep 3;
is(worker('sync', 'crm'), '', 'they stay away');
$node->restart;
wait_worker('sync', 'postgres');
sleep 3;
is(worker('sync', 'crm'), '', 'over a restart too');
is($node->safe_psql('crm', 'SELECT regcrm.start_workers()'), '2', 'start_workers() lets them come');
ok(wait_worker('sync', 'crm') && wait_worker('clock', 'crm'), 'and they come');
is($node->safe_psql('crm', 'SELECT regcrm.start_workers()'), '0', 'once');

# ---- the list changes

$node->append_conf('postgresql.conf', "regcrm.databases = 'postgres'\n");
$node->reload;
$node->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'regcrm %' AND datname = 'crm'});
pass('a database taken from the list loses its workers');
ok(worker('sync', 'postgres'), 'the other keeps them');

# ---- DROP and CREATE DATABASE, and a fast shutdown, while a request hangs

$sim->faults({ kind => 'delay', path => '/tasks', seconds => 60 });
$sim->advance(3600);
$node->poll_query_until('postgres',
	q{SELECT count(*) = 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND l.objsubid = 7 AND a.wait_event_type = 'Extension' AND a.query LIKE '%lead%'});
sleep 1;
is( $node->safe_psql('postgres', q{
		SELECT backend_xmin IS NULL, xact_start IS NULL FROM pg_stat_activity WHERE backend_type = 'regcrm sync'}),
	't|t', 'no transaction while the worker waits for an answer');
is( $node->safe_psql('postgres', q{
		SELECT string_agg(DISTINCT locktype, ',') FROM pg_locks
		WHERE pid = (SELECT pid FROM pg_stat_activity WHERE backend_type = 'regcrm sync')}),
	'advisory', 'and no lock but advisory ones');
my $begin = time;
$node->safe_psql('postgres', q{SET statement_timeout = '10s'; DROP DATABASE copy});
cmp_ok(time - $begin, '<', 10, 'another database can be dropped meanwhile');
$begin = time;
$node->stop('fast');
cmp_ok(time - $begin, '<', 10, 'a fast shutdown is fast');
$sim->no_faults;

unlike(slurp_file($node->logfile), qr/database "missing" does not exist/,
	'nobody is sent to a database that is not there');

done_testing();
