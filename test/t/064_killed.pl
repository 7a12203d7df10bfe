# The process that syncs is killed after any statement, at whatever depth, and
# on both sides of any commit: what then goes on by itself comes to the same
# rows as a pass that nobody disturbed.
#
# Every moment of one pass is tried: the base is copied, a pass over the copy is
# ended at moment N, and the next one goes on.  Ended either by a signal that
# nobody survives (then the whole server begins anew) or by an error that ends
# the process alone.  make check: some moments of each kind of pass.
#
# deep pieces: news1 news2 news3 news4 worker refresh first1 first2 first3 first4 first5 first6
# deep pieces: first7 first8 first9 first10 first11 first12

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Stumble;
use Test::More;
use Time::HiRes qw(time usleep);
use Warehouse;

my $deep = $ENV{DEEP} || '';
my ($piece, $turn) = $deep =~ /^([a-z]+)(\d*)$/;
my %turns = (news => 4, first => 12);		# pieces that share the moments of a pass
my $tmp = $PostgreSQL::Test::Utils::tmp_check;

my $library = Stumble::library() or plan skip_all => 'no compiler, or no headers of the server';

my $sim = Sim->start('--days', 3, '--deals', 4, '--checklist', '--raw-oddities', '--rate', 0);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('killed');
$node->init;
$node->append_conf('postgresql.conf', <<"END");
shared_preload_libraries = '$library'
stumble.once = '$tmp/stumble.once'
regcrm.allow_http = on
regcrm.requests_per_second = 64
regcrm.sync_interval = 1s
restart_after_crash = on
max_worker_processes = 16
log_statement = none
autovacuum = off
END
$node->start;

# ---- what all copies are of, and what they must come to

for my $database (qw(news first))
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
	$node->safe_psql($database, "CALL regcrm.connect('$url', token => 'token')");
}
$node->safe_psql('news', 'CALL regcrm.sync()');
$sim->advance(5 * 3600);
my @leads = grep { $_->{pipeline} == 7001001 } @{ $sim->leads };
for my $n (0 .. 5)
{
	$sim->act(lead => $leads[ $n * 2 ]{id}, status => 61000011 + $n);
	$sim->advance(60);
}
$sim->advance(600);

# Waits until the server takes connections again; psql, fed while it is refused,
# would end the test.
sub up
{
	for (1 .. 1200)
	{
		return if system('pg_isready', '-q', '-h', $node->host, '-p', $node->port) == 0;
		usleep(50_000);
	}
	die 'the server does not come back';
}

sub may_stumble { unlink "$tmp/stumble.once"; append_to_file("$tmp/stumble.once", 'x'); return; }

sub copy
{
	my ($base) = @_;
	$node->safe_psql('postgres', 'DROP DATABASE IF EXISTS hurt');
	$node->safe_psql('postgres', "CREATE DATABASE hurt TEMPLATE $base");
	return;
}

# How many moments a pass over the copy of a base has; it is what all others
# must come to.
sub moments
{
	my ($base) = @_;
	copy($base);
	my $seen = $node->safe_psql('hurt', 'SET stumble.at = 2147483647; SET stumble.seen = 0; CALL regcrm.sync(); SHOW stumble.seen');
	$node->safe_psql('postgres', "ALTER DATABASE hurt RENAME TO undisturbed_$base");
	return $seen;
}

my ($out, $err);

# A pass that ends at moment N, and one that goes on.
sub killed
{
	my ($base, $n, $softly) = @_;
	copy($base);
	may_stumble();
	my $status = $node->psql('hurt', "SET stumble.softly = $softly; SET stumble.at = $n; SET stumble.seen = 0; CALL regcrm.sync()",
		stderr => \$err);
	my $struck = !-e "$tmp/stumble.once";
	up();
	ok($struck, "$base: a pass ends at moment $n") or diag("status $status: $err");
	# the server may not have seen yet that a process of its own is gone
	for (1 .. 5)
	{
		$status = $node->psql('hurt', 'CALL regcrm.sync()', stderr => \$err);
		last if $status != 2;
		up();
	}
	is($status, 0, 'the next one goes on') or diag($err);
	Warehouse::same($node, "undisturbed_$base", 'hurt', "$base: ended at moment $n " . ($softly eq 'on' ? 'by an error' : 'by a signal'));
	return;
}

for my $base (qw(news first))
{
	next if $piece && $piece ne $base && !($piece =~ /^(worker|refresh)$/ && $base eq 'news');
	my $most = moments($base);
	note "a pass over $base has $most moments";
	next if $deep eq 'worker' || $deep eq 'refresh';
	my @which = $deep ? grep { $_ % $turns{$base} == $turn - 1 } 1 .. $most : $base eq 'news' ? int($most * 2 / 3) : (int($most / 2), $most - 40);
	my $begin = time;
	killed($base, $_, int($_ / $turns{$base}) % 2 ? 'on' : 'off') for @which;
	note sprintf '%d moments in %.0f s', scalar @which, time - $begin;
}

# ---- while tokens are exchanged

# The old refresh token dies at amoCRM when it is shown; the new one must be
# here before anything is asked with it.  Killed in between, a person is needed,
# and told so; else the account goes on.
my %became = (usable => 0, person => 0);
sub killed_refreshing
{
	my ($n) = @_;
	copy('news');
	my $pair = $sim->ask('POST', 'pair');
	$node->safe_psql('hurt', "UPDATE regcrm.secret SET access_token = '$pair->{access_token}', refresh_token = '$pair->{refresh_token}',
		client_id = 'client', client_secret = 'secret', redirect_uri = 'https://x.example', expires_at = clock_timestamp() + interval '1 day'");
	$sim->expire;
	may_stumble();
	$node->psql('hurt', "SET stumble.softly = @{[ $n % 2 ? 'on' : 'off' ]}; SET stumble.at = $n; SET stumble.seen = 0; CALL regcrm.sync()", stderr => \$err);
	ok(!-e "$tmp/stumble.once", "a pass that renews its token ends at moment $n");
	up();
	my $used = $sim->stats->{tokens}{last_used} && $sim->stats->{tokens}{last_used} ne 'false';
	my $again = $node->psql('hurt', 'CALL regcrm.sync()', stderr => \$err) == 0;
	$became{ $again ? 'usable' : 'person' }++;
	if (!$again)
	{
		ok(!$used, 'nothing was asked with a token that was not stored');
		like($err, qr/does not give new tokens.*HINT:.*connect/s, 'a person is told what to do');
		is($node->safe_psql('hurt', 'SELECT state FROM regcrm.account'), 'needs_connect', 'and the account waits for it');
		$node->safe_psql('hurt', "CALL regcrm.connect('$url', token => 'token')");
		$node->safe_psql('hurt', 'CALL regcrm.sync()');
	}
	Warehouse::same($node, 'undisturbed_news', 'hurt', "ended at moment $n, with tokens under way");
	return;
}
if (!$deep || $deep eq 'refresh')
{
	killed_refreshing($_) for $deep ? 1 .. 40 : 16;
	note "afterwards usable $became{usable} times, a person was needed $became{person} times";
	cmp_ok($became{$_}, '>', 0, "$_ at some moments") for $deep ? qw(usable person) : ();
}

# ---- the same for the worker, which nobody helps

# Killed at moment N; the postmaster starts it again, and it goes on.
sub worker_killed
{
	my ($n) = @_;
	copy('news');
	$node->safe_psql('hurt', "ALTER DATABASE hurt SET stumble.worker_at = $n");
	may_stumble();
	# which may be cut short by the very crash
	$node->psql('hurt', 'SELECT regcrm.start_workers()', stderr => \$err);
	for (1 .. 400) { last unless -e "$tmp/stumble.once"; usleep(50_000); }
	my $struck = !-e "$tmp/stumble.once";
	up();
	ok($struck, "the worker ends at moment $n");
	my $known = $node->safe_psql('undisturbed_news', 'SELECT known_until FROM regcrm.account');
	my $now = $node->safe_psql('hurt', 'SELECT clock_timestamp()');
	ok($node->poll_query_until('hurt', qq{
		SELECT a.known_until = '$known' AND (SELECT s.updated_at > '$now' AND s.last_error IS NULL
			FROM regcrm.sync_state s WHERE s.entity = 'pass') FROM regcrm.account a}), 'another goes on');
	$node->safe_psql('hurt', 'SELECT regcrm.stop_workers()');
	Warehouse::same($node, 'undisturbed_news', 'hurt', "the worker killed at moment $n");
	return;
}
worker_killed($_) for $deep eq 'worker' ? map { 5 + 6 * $_ } 0 .. 70 : $deep ? () : 150;

unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|signal 11/, 'no crash but those that we made');
done_testing();
