# kill -9 of the clock, of a backend in the middle of a tick and of the postmaster,
# at random moments over many rounds, while deadlines fall due all the time:
# nothing is flagged twice, nothing is missed, and it equals rejudge().
#
# KILL_ROUNDS=… sets how many rounds (30), KILL_SEED=… repeats a run.

use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $rounds = $ENV{KILL_ROUNDS} || 30;
my $seed = $ENV{KILL_SEED} || time ^ $$;
srand($seed);
diag "seed $seed, $rounds rounds" if $ENV{KILL_ROUNDS};

my $node = PostgreSQL::Test::Cluster->new('kill');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.databases = 'postgres'
restart_after_crash = on
autovacuum_naptime = 1s
END
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION regcrm; SELECT regcrm.setup();
	INSERT INTO regcrm.account (id, name) VALUES (1, 'one'), (2, 'two')});

# Asked again while the server recovers.
sub sql
{
	my ($query) = @_;
	for (1 .. 300)
	{
		my ($out, $err);
		return $out if $node->psql('postgres', $query, stdout => \$out, stderr => \$err, on_error_stop => 1) == 0;
		die "$query: $err" if $err !~ /starting up|recovery|shutting down|terminat|could not connect|connection to server|server closed/;
		usleep(100_000);
	}
	die 'the server does not come back';
}

sub pid_of { my ($type) = @_; return sql("SELECT min(pid) FROM pg_stat_activity WHERE $type"); }

# Forty deals of each account; their duties fall due over the next two seconds.
# Of each five, one is called in time, one late (after the fact), three never.
my $last = 0;
sub more_deals
{
	my $first = $last + 1;
	$last += 40;
	sql("SET regcrm.mode = 'record';
		INSERT INTO regcrm.deal (account_id, id, stage, manager_id, created_at)
			SELECT a, n, 'new', n % 7, now() - interval '15 min' + (n - $first) * interval '50 ms' + interval '100 ms'
			FROM generate_series($first, $last) n, generate_series(1, 2) a;
		INSERT INTO regcrm.event (account_id, deal_id, at, kind, actor_id)
			SELECT d.account_id, d.id, d.created_at + interval '1 min', 'call_out', 1
			FROM regcrm.deal d WHERE d.id BETWEEN $first AND $last AND d.id % 5 = 0;");
}

my $ticks = PostgreSQL::Test::Utils::tempdir . '/ticks.sql';
append_to_file($ticks, "SET application_name = 'ticks'; SELECT regcrm.flag_expired() \\watch 0.002\n");

my %killed = (clock => 0, backend => 0, postmaster => 0);
for my $round (1 .. $rounds)
{
	my $what = qw(clock backend postmaster)[ $round % 3 ];
	more_deals();
	sql('CREATE TABLE IF NOT EXISTS public.seen AS SELECT account_id, id, deal_id, rule, arose_at, task_id, detected_at FROM regcrm.violation WITH NO DATA');
	if ($what eq 'backend')
	{
		# ticks by hand, one after the other
		my $psql = IPC::Run::start(
			[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres', '-f', $ticks ],
			'>', '/dev/null', '2>', '/dev/null');
		usleep(int rand 2_200_000);
		my $pid = pid_of("application_name = 'ticks'");
		if ($pid)
		{
			# in the middle of one, where that can be had
			for (1 .. 20)
			{
				last if sql("SELECT state = 'active' FROM pg_stat_activity WHERE pid = $pid") eq 't';
			}
			$killed{backend} += kill 'KILL', $pid;
		}
		$psql->kill_kill;
	}
	elsif ($what eq 'clock')
	{
		usleep(int rand 2_200_000);
		my $pid = pid_of("backend_type = 'regcrm clock'");
		$killed{clock} += kill 'KILL', $pid if $pid;
	}
	else
	{
		usleep(int rand 2_200_000);
		$node->kill9;
		$killed{postmaster}++;
		my $up = 0;
		for (1 .. 100)
		{
			# its children end by themselves, which takes a moment
			last if $up = $node->start(fail_ok => 1);
			$node->{_pid} = undef;
			usleep(100_000);
		}
		die 'the server does not start' unless $up;
	}
	usleep(50_000);
	# what has been flagged so far stays as it is: same number, same moment of detection
	is(sql(q{SELECT count(*) FROM public.seen s WHERE NOT EXISTS (SELECT FROM regcrm.violation v
			WHERE v.account_id = s.account_id AND v.id = s.id AND v.detected_at = s.detected_at AND v.deal_id = s.deal_id AND v.rule = s.rule)}),
		'0', "round $round ($what): no finding was lost or made anew");
	sql(q{INSERT INTO public.seen SELECT v.account_id, v.id, v.deal_id, v.rule, v.arose_at, v.task_id, v.detected_at FROM regcrm.violation v
		WHERE NOT EXISTS (SELECT FROM public.seen s WHERE s.account_id = v.account_id AND s.id = v.id)});
}
cmp_ok($killed{$_}, '>=', int($rounds / 3) - 1, "killed: $_ $killed{$_} times") for sort keys %killed;

# The clock that is left finds all the rest by itself.
my $expected = 2 * $last * 4 / 5;
for (1 .. 600)
{
	last if sql(q{SELECT count(*) FROM regcrm.deadline WHERE state IN ('pending', 'warned') AND rule IN ('NEW-1', 'NEW-4')}) eq '0';
	usleep(100_000);
}
is(sql(q{SELECT count(*) FROM regcrm.deadline WHERE state IN ('pending', 'warned') AND due_at <= now()}), '0', 'nothing that is due is left');
is(sql(q{SELECT count(*) FROM regcrm.violation WHERE rule = 'NEW-1' AND withdrawn_at IS NULL}), $expected, "each of $expected breaches of NEW-1 was found");
is(sql(q{SELECT count(*) FROM regcrm.violation WHERE rule = 'NEW-4' AND withdrawn_at IS NULL}), 2 * $last, '... and each of NEW-4');
is(sql(q{SELECT count(*) FROM (SELECT FROM regcrm.violation GROUP BY account_id, deal_id, rule, arose_at, task_id HAVING count(*) > 1) x}), '0', 'none twice');
is(sql(q{SELECT count(*) FROM regcrm.deadline WHERE rule = 'NEW-1' AND state = 'met'}), 2 * $last / 5, 'those kept are kept');
is(sql(q{SELECT count(*) FROM regcrm.violation WHERE detected_at < breached_at}), '0', 'none before its moment');
is(sql('SELECT changed FROM regcrm.rejudge()'), '0', 'rejudge() finds nothing else');

my $log = slurp_file($node->logfile);
unlike($log, qr/TRAP:|PANIC|was terminated by signal (?!9\b)/, 'nobody died but those who were killed');
$node->stop;
done_testing();
