# The fault matrix: whatever the network, amoCRM or this server does, the next
# passes bring the database to what an undisturbed sync of the same data holds,
# row for row and violation for violation, and amoCRM's limit is kept.
#
# Two databases follow one simulated account step by step: "clean" without a
# disturbance, "hurt" with one a step.  Time is lapsed for back-off by CALL,
# which does not wait for it.  DEEP=PIECE (make check-deep): one piece of it,
# but every fault at every kind of request, and more places to break an answer
# at.  The process that syncs killed at any statement: 064.
#
# deep pieces: load answers cuts resets lists tokens kills1 kills2 kills3 crashes

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(time usleep);
use Warehouse;

my ($deep, $third) = ($ENV{DEEP} || '') =~ /^([a-z]*)(\d?)$/;
my @all = qw(load answers cuts resets lists tokens kills crashes);
my %part = map { $_ => 1 } $deep ? $deep : @all;
die "DEEP is one of @all" unless grep { $part{$_} } @all;
my $rate = 40;
my $sim = Sim->start('--days', 4, '--deals', $deep ? 150 : 40, '--checklist', '--raw-oddities', '--rate', $rate);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('faults');
$node->init;
$node->append_conf('postgresql.conf', <<"END");
shared_preload_libraries = 'regcrm'
regcrm.allow_http = on
regcrm.http_timeout = 1s
regcrm.requests_per_second = $rate
restart_after_crash = on
log_statement = none
END
$node->start;
for my $database (qw(clean hurt))
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
}

# ---- means

my ($out, $err);

sub sync_clean
{
	$node->safe_psql('clean', 'CALL regcrm.sync()');
	return;
}

# Passes until one succeeds; dies after many.  Returns how many failed.
sub sync_hurt
{
	my ($most) = @_;
	for my $try (0 .. $most || 12)
	{
		return $try if $node->psql('hurt', 'CALL regcrm.sync()', stderr => \$err) == 0;
		note "pass failed: $err" if $deep;
		# the slow pace after a 429 is remembered for a minute
	}
	die "the sync does not recover: $err";
}

my $steps = 0;
my @statuses = (61000011 .. 61000018, 142, 143);

# Time passes, and whatever the stories tell, some leads are moved.
sub live
{
	$sim->advance(1700 + 60 * ($steps++ % 7));
	my $leads = $sim->leads;
	for my $n (1 .. 3)
	{
		my $lead = $leads->[ ($steps * 37 + $n * 11) % @$leads ];
		next if $lead->{pipeline} != 7001001;
		$sim->act(lead => $lead->{id}, status => $statuses[ ($steps + $n * 3) % @statuses ]);
		$sim->advance(20);
	}
	return;
}

# One step: time passes, the fault strikes, the sync goes on by itself.
sub step
{
	my ($name, @faults) = @_;
	live();
	$sim->faults(@faults) if @faults;
	my $failed = sync_hurt();
	my $left = grep { $_->{count} == ($faults[0]{count} // 1) && $_->{kind} eq $faults[0]{kind} } @{ $sim->ask('GET', 'faults') };
	is($left, 0, "$name: it did strike") if @faults && $left;
	$sim->no_faults;
	# what the fault itself changed at amoCRM, both must see
	$sim->advance(10);
	sync_hurt();
	sync_clean();
	Warehouse::same($node, 'clean', 'hurt', $name);
	return $failed;
}

# ---- the first load, broken at every page

$node->safe_psql($_, "CALL regcrm.connect('$url', token => 'token')") for qw(clean hurt);
sync_clean();
if ($part{load})
{
	$sim->faults(
		{ kind => '500', path => '/account' },
		{ kind => 'cut', path => '/users' },
		{ kind => 'html', path => '/pipelines' },
		{ kind => 'empty', path => '/loss_reasons' },
		{ kind => 'reset', path => '/custom_fields' },
		{ kind => 'break', path => '/api/v4/leads?', at => 'middle' },
		{ kind => '504', path => '/api/v4/leads?', over_limit => 60, count => 9 },
		{ kind => 'garbage', path => 'only_deleted' },
		{ kind => '429', path => '/contacts?', retry_after => 1 },
		{ kind => 'delay', path => '/tasks?', seconds => 3 },
		{ kind => 'break', path => '/leads/notes', at => 'headers', how => 'rst' },
		{ kind => 'drip', path => '/contacts/notes', seconds => 0.3 },
		{ kind => '403', path => '/companies/notes' },
		(map { { kind => 'reset', path => '/events', skip => 2 * $_ } } 0 .. 3),
		# where history ends, is for ever
		(map { { kind => '204', path => $_, skip => 1 } } '/api/v4/leads?', '/contacts?', '/tasks?', '/leads/notes', '/contacts/notes', '/events'),
		{ kind => 'skew', path => '/account', seconds => 5000 });
	my $failed = sync_hurt(30);
	note "the first load took $failed more passes";
	cmp_ok($failed, '>=', 1, 'the faults did strike');
	$sim->no_faults;
	# an empty answer to a dictionary is no error, and heals with the next reading
	sync_hurt();
	Warehouse::same($node, 'clean', 'hurt', 'a first load with a fault at every feed');
}
sync_hurt();
Warehouse::same($node, 'clean', 'hurt', 'both begin with the same');

# ---- what a request may end in

my @paths = $deep
  ? ('/account', '/users', '/pipelines', '/loss_reasons', '/custom_fields', '/api/v4/leads?', 'only_deleted', '/contacts?',
	'/tasks?', '/leads/notes', '/contacts/notes', '/companies/notes', '/events')
  : ('/api/v4/leads?', '/tasks?', '/events');

my $turn = 0;
sub paths { return $deep ? @paths : $paths[ $turn++ % @paths ]; }

if ($part{answers})
{
	for my $kind (qw(429 402 403 403json 500 504 html garbage cut reset))
	{
		step("$kind at $_", { kind => $kind, path => $_ }) for paths();
	}
	step("nothing at all, where rows are ($_)", { kind => '204', path => $_ }) for '/users', '/loss_reasons';
	step("an empty 200 at $_", { kind => 'empty', path => $_ }) for '/users', paths();
	step('429, and 429 again', { kind => '429', path => '/leads', count => 6 });
	step('429 with Retry-After', { kind => '429', path => '/tasks', retry_after => 1 });
	step('429 with a Retry-After that is a day', { kind => '429', path => '/tasks', retry_after => 86400 });
	step('504 for large pages', { kind => '504', path => '/events', over_limit => 30, count => 20 });
	step('the block of an account: 403 on everything', { kind => '403', count => 3 });
}

my %ending = (cuts => 'fin', resets => 'rst');
for my $how (map { $ending{$_} } grep { $part{$_} } sort keys %ending)
{
	for my $at ($deep ? qw(nothing status line header headers blank first middle last) : qw(nothing line blank middle last))
	{
		step("connection ends ($how) at $at of $_", { kind => 'break', at => $at, how => $how, path => $_ }) for paths();
	}
}

if ($part{lists})
{
	step('a slow drip', { kind => 'drip', path => '/events', seconds => 0.3 });
	step('an answer later than the time limit', { kind => 'delay', path => '/leads', seconds => 3, count => 2 });

	# ---- rows that move while they are read

	for my $path ('/api/v4/leads?', '/contacts?', '/tasks?', '/leads/notes')
	{
		step("rows of $path change between pages", { kind => 'touch', path => $path, count => 3 });
	}
	# events and notes that are listed late, within the overlap of the windows
	$sim->advance(600);
	$sim->lag(300, 300);
	sync_hurt();
	$sim->lag(0, 0);
	step('events and notes that are listed minutes later');

	# ---- amoCRM's clock

	step('a clock that goes back', { kind => 'skew', path => '/account', seconds => -3600 });
	step('a clock that leaps ahead', { kind => 'skew', path => '/account', seconds => 7200 });
	for my $path ($deep ? @paths[5 .. $#paths] : '/tasks?')
	{
		step("a clock that leaps ahead at $path", { kind => 'skew', path => $path, seconds => 7200 });
		step("a clock that goes back at $path", { kind => 'skew', path => $path, seconds => -7200 });
	}
	# a whole pass is told a wrong time: what happens until the clock is right again must not be lost
	for my $seconds (7200, -7200)
	{
		$sim->faults({ kind => 'skew', seconds => $seconds, count => 1000 });
		sync_hurt();
		live();
		sync_hurt() if $deep;
		$sim->no_faults;
		step("a clock that was $seconds s off for a whole pass");
	}

	# ---- a list that says that there is nothing, although there is

	for my $path ($deep ? @paths[5 .. $#paths] : ('/api/v4/leads?', '/events'))
	{
		step("nothing at $path, where rows are", { kind => '204', path => $path });
	}
}

if ($part{tokens})
{
	# ---- tokens

	live();
	$sim->faults({ kind => 'revoke', path => '/tasks' });
	isnt($node->psql('hurt', 'CALL regcrm.sync()', stderr => \$err), 0, 'a token revoked in mid-pass ends it');
	like($err, qr/does not accept the token.*HINT:.*connect/s, 'and says what to do');
	is($node->safe_psql('hurt', 'SELECT state FROM regcrm.account'), 'needs_connect', 'the account says so too');
	$sim->token('second');
	$sim->no_faults;
	$node->safe_psql($_, "CALL regcrm.connect('$url', token => 'second')") for qw(clean hurt);
	step('after a new token');

	$node->safe_psql('hurt', "CALL regcrm.connect('$url', client_id => 'client', client_secret => 'secret', code => 'code', redirect_uri => 'https://x.example')");
	$sim->expire;
	step('an access token that ended');
	for my $path ($deep ? @paths : '/tasks?')
	{
		step("an access token that ends in mid-pass, at $path", { kind => 'expire', path => $path });
	}
	step('and its refresh answered by 500', { kind => 'expire', path => '/leads' }, { kind => '500', path => 'access_token' });

	# The account gets another subdomain in mid-pass: the hurt one finds it by
	# itself, the clean one is told.
	live();
	$sim->faults({ kind => 'rename', path => '/tasks' });
	sync_hurt();
	$sim->no_faults;
	is($node->safe_psql('hurt', 'SELECT base_url FROM regcrm.account'), "http://localhost:$sim->{port}", 'an account renamed in mid-pass is found');
	$node->safe_psql('clean', "UPDATE regcrm.account SET (base_url, subdomain) = ('http://localhost:$sim->{port}', 'renamed')");
	step('the account is renamed in mid-pass');
	$sim->ask('POST', 'rename?host=');
	usleep(1_000_000);		# to amoCRM both names are one account, to our pacer two
	$node->safe_psql($_, "UPDATE regcrm.account SET (base_url, subdomain) = ('$url', 'avtoshkola')") for qw(clean hurt);

	my $refused = $sim->stats->{tokens}{refused};
	is($refused, 0, 'no refresh token was used twice');

	# A connection cut after the refresh was consumed: nobody but a person can help.
	$sim->expire;
	$sim->faults({ kind => 'reset', path => 'access_token' });
	$node->psql('hurt', 'CALL regcrm.sync()', stderr => \$err);
	$node->psql('hurt', 'CALL regcrm.sync()', stderr => \$err);
	like($err, qr/Token has been revoked|does not give new tokens/, 'a refresh whose answer was lost');
	is($node->safe_psql('hurt', 'SELECT state FROM regcrm.account'), 'needs_connect', 'the account says what the owner must do');
	$node->safe_psql('hurt', "CALL regcrm.connect('$url', token => 'second')");
	step('after a new token again');

	# ---- TLS

	for my $bad ([ 'nobody listens', 'https://127.0.0.1:1' ], [ 'no TLS there', "https://127.0.0.1:" . $sim->{port} ])
	{
		live();
		$node->safe_psql('hurt', "UPDATE regcrm.account SET base_url = '$bad->[1]'");
		isnt($node->psql('hurt', 'CALL regcrm.sync()', stderr => \$err), 0, "TLS fails: $bad->[0]");
		like($err, qr/no answer/, 'and it says so');
		$node->safe_psql('hurt', "UPDATE regcrm.account SET base_url = '$url'");
		step("after TLS failed: $bad->[0]");
	}
}

# ---- who syncs dies

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

# kill -9 of the syncing backend, or the server's crash, while request N hangs
# or just after it, which is anywhere in what follows
sub killed
{
	my ($signal, $path, $wait) = @_;
	live();
	$sim->faults({ kind => 'delay', path => $path, seconds => 0.3 });
	my $pid = fork() // die;
	if ($pid == 0)
	{
		open STDERR, '>', '/dev/null';
		exec 'psql', '-X', '-q', '-d', $node->connstr('hurt'), '-c', 'CALL regcrm.sync()';
		die;
	}
	my $victim;
	for (1 .. 100)
	{
		$victim = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE datname = 'hurt' AND query LIKE 'CALL%'});
		last if $victim;
		usleep(5_000);
	}
	for (1 .. 200) { last unless @{ $sim->ask('GET', 'faults') }; usleep(5_000); }
	usleep($wait * 1_000_000);
	if ($signal eq 'crash') { $node->stop('immediate'); $node->start; }
	elsif ($victim) { kill $signal, $victim; }
	waitpid $pid, 0;
	up();
	$sim->no_faults;
	return;
}

my @moments = $deep ? (0, 0.2, 0.29, map { 0.3 + $_ * 0.004 } 0 .. 12) : (0, 0.31);
for my $path (!$part{kills} ? () : $deep ? @paths[ grep { $_ % 3 == $third - 1 } 0 .. $#paths ] : ('/leads', '/events'))
{
	for my $moment (@moments)
	{
		killed('KILL', $path, $moment);
		step(sprintf 'killed %.3f s after %s was asked for', $moment, $path);
	}
}
for my $path (!$part{crashes} ? () : $deep ? @paths : '/tasks?')
{
	killed('crash', $path, 0.31);
	step("the server crashed after $path was asked for");
}

# ---- what amoCRM counted

is($sim->stats->{refused_429}, 0, 'never refused for its pace');
cmp_ok($sim->stats->{most_in_a_second}, '<=', $rate, 'no second with more requests than allowed');
note 'requests: ' . $sim->stats->{requests} . ', most in a second: ' . $sim->stats->{most_in_a_second};
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|signal 11/, 'no crash but those that we made');

done_testing();
