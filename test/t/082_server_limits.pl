# The server's limits: no connection left, no slot left for a worker, locks that
# somebody holds.  What can't be done fails as a whole and says why, the rest
# goes on, and what waited is done once it can be.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('limits');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.databases = 'postgres'
autovacuum = off
max_connections = 8
superuser_reserved_connections = 1
max_worker_processes = 8
max_parallel_workers = 0
max_logical_replication_workers = 0
END
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION regcrm; SELECT FROM regcrm.setup(); INSERT INTO regcrm.account (id) VALUES (1);
	CREATE ROLE client LOGIN});

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub sql_error
{
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$_[0]");
	return $err;
}

# A deal whose first duty falls due in so many seconds.
sub deal
{
	my ($id, $seconds) = @_;
	return "SET regcrm.mode = 'record'; INSERT INTO regcrm.deal (id, stage, created_at) VALUES ($id, 'new', clock_timestamp() - interval '15 min' + interval '$seconds s');";
}
sub flagged { return "SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = $_[0] AND rule = 'NEW-1'"; }

# A session of its own, that has said that it is there.
sub session
{
	my ($sql, $user) = @_;
	my ($in, $out, $err) = ("$sql\nSELECT 'there';\n", '', '');
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres', ($user ? ('-U', $user) : ()) ],
		'<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout(120));
	eval { $run->pump until $out =~ /there/ || $err =~ /connections|FATAL/ };
	return { run => $run, in => \$in, there => $out =~ /there/, err => \$err };
}
sub leave { my ($session) = @_; ${ $session->{in} } .= "\\q\n"; eval { $session->{run}->finish }; return; }

# ---- no connection left

ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock'}), 'the clock runs');
my @clients;
for (1 .. 8)
{
	my $client = session('', 'client');
	last unless $client->{there};
	push @clients, $client;
}
cmp_ok(scalar @clients, '>=', 5, 'clients take every connection');
sql(deal(1, 1));	# by the superuser's reserve
ok($node->poll_query_until('postgres', flagged(1)), 'a duty that falls due then is flagged: workers take no connection from clients');
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'regcrm clock'});
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock'}), '... and one that ended comes back');
leave($_) for @clients;

# ---- no slot left for a worker

# launcher, and two workers each of four databases: more than eight
sql("CREATE DATABASE $_") for qw(a b c);
$node->append_conf('postgresql.conf', "regcrm.databases = 'postgres, a, b, c'\n");
$node->reload;
my $log = '';
for (1 .. 300)
{
	last if ($log = slurp_file($node->logfile)) =~ /no free slot|max_worker_processes/;
	usleep(100_000);
}
like($log, qr/max_worker_processes/, 'no slot for a worker: the log says what to raise');
sql(deal(2, 1));
ok($node->poll_query_until('postgres', flagged(2)), 'the databases that have theirs go on');
$node->append_conf('postgresql.conf', "regcrm.databases = 'postgres, c'\n");
$node->reload;
ok($node->poll_query_until('postgres', q{SELECT count(DISTINCT backend_type) = 2 FROM pg_stat_activity WHERE datname = 'c' AND backend_type IN ('regcrm clock', 'regcrm sync')}),
	'once there are slots, those that had none get them');
$node->append_conf('postgresql.conf', "regcrm.databases = 'postgres'\n");
$node->reload;

# ---- locks that somebody holds

sql(deal(3, 600) . deal(4, 600));
my $holder = session('BEGIN; SELECT FROM regcrm.deal WHERE id = 3 FOR UPDATE;');
like(sql_error("SET lock_timeout = '200ms'; SET regcrm.mode = 'record'; UPDATE regcrm.deal SET stage = 'in_work' WHERE id IN (3, 4);"), qr/55P03/, 'a write that waits too long for a deal fails');
is(sql(q{SELECT count(*) FROM regcrm.deal WHERE stage = 'in_work'}), '0', '... as a whole');
sql(q{UPDATE regcrm.rule SET enabled = false WHERE code = 'NEW-1'});
like(sql_error("SET lock_timeout = '200ms'; SELECT regcrm.rejudge();"), qr/55P03/, 'so does rejudge() that has something to write');
is(sql(q{SELECT count(*) FROM regcrm.deadline WHERE rule = 'NEW-1' AND deal_id IN (3, 4)}), '2', '... and changes nothing');
leave($holder);
sql("SET lock_timeout = '200ms'; SELECT regcrm.rejudge();");
is(sql(q{SELECT count(*) FROM regcrm.deadline WHERE rule = 'NEW-1' AND deal_id IN (3, 4)}), '0', '... until the deal is free');
sql(q{UPDATE regcrm.rule SET enabled = true WHERE code = 'NEW-1'});
sql('SELECT regcrm.rejudge()');

# what a clock does not get now it takes when it can
sql(deal(5, 2) . deal(6, 2));
$holder = session('BEGIN; SELECT FROM regcrm.deal WHERE id = 5 FOR UPDATE;');
ok($node->poll_query_until('postgres', flagged(6)), 'a deal is locked while duties fall due: the clock flags the others');
is(sql(flagged(5)), 'f', '... and leaves that one');
leave($holder);
ok($node->poll_query_until('postgres', flagged(5)), '... until it is free');

# setup() where somebody holds what it alters
my $before = sql(q{SELECT md5(string_agg(pg_get_viewdef(oid), '' ORDER BY relname)) FROM pg_class WHERE relnamespace = 'regcrm'::regnamespace AND relkind = 'v'});
$holder = session('BEGIN; LOCK regcrm.violations IN ACCESS SHARE MODE; LOCK regcrm.deal IN ACCESS EXCLUSIVE MODE;');
like(sql_error("SET lock_timeout = '300ms'; SELECT regcrm.setup();"), qr/55P03/, 'setup() that waits too long fails');
leave($holder);
my $messages = '';
$holder = session('BEGIN; LOCK regcrm.violation IN ROW EXCLUSIVE MODE;');
my $begin = time;
$node->psql('postgres', 'CALL regcrm.refresh_marts();', stderr => \$messages);
like($messages, qr/NOTICE:.*somebody is writing.*HINT:/s, 'refresh_marts() does not hold up who writes: it says to call again');
cmp_ok(time - $begin, '<', 20, '... soon');
leave($holder);
is(sql(q{SELECT md5(string_agg(pg_get_viewdef(oid), '' ORDER BY relname)) FROM pg_class WHERE relnamespace = 'regcrm'::regnamespace AND relkind = 'v'}), $before, '... and nothing was changed');
sql('SELECT FROM regcrm.setup(); CALL regcrm.refresh_marts();');
is(sql('SELECT changed FROM regcrm.rejudge()'), '0', 'judging it all again changes nothing');
is(sql('SELECT count(*) FROM (SELECT FROM regcrm.violation GROUP BY account_id, deal_id, rule, arose_at, task_id HAVING count(*) > 1) x'), '0', 'no violation is there twice');

unlike(slurp_file($node->logfile), qr/terminating any other active server processes|PANIC/, 'nothing of that was a crash');
$node->stop;
done_testing();
