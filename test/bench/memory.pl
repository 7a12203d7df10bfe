# What memory the worker needs for the first load of a large account, and
# whether it grows with it.  LEADS (100000) chooses the size; make check-deep, or
# test/check bench.  It prints the peak, and how the worker's own memory fits a
# line over the rows read: a slope means that something stays.  How fast pages
# are taken: first_load.pl.
#

use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $leads = $ENV{LEADS} || 100_000;
my $patience = $ENV{PATIENCE} || 3600;
my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $firehose = "$FindBin::RealBin/firehose.py";

my $node = PostgreSQL::Test::Cluster->new('memory');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.databases = 'load'
regcrm.allow_http = on
regcrm.requests_per_second = 64
regcrm.sync_interval = 30s
shared_buffers = 256MB
max_wal_size = 4GB
fsync = on
synchronous_commit = on
autovacuum = on
END
$node->start;

my $port_file = "$tmp/memory.port";
unlink $port_file;
my $pid = fork() // die;
if ($pid == 0) { exec '/usr/bin/python3', $firehose, $port_file, $leads; }
END { local $?; kill 'TERM', $pid if $pid; }
for (1 .. 300) { last if -s $port_file; usleep(100_000); }

$node->safe_psql('postgres', 'CREATE DATABASE load');
$node->safe_psql('load', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
my $begin = time;
$node->safe_psql('load', "CALL regcrm.connect('http://127.0.0.1:" . slurp_file($port_file) . "', token => 'token')");

# Memory of a process in MB: all but the shared buffers that it has touched, and
# what is its own.
sub memory
{
	my ($process) = @_;
	my %kb;
	open my $file, '<', "/proc/$process/status" or return;
	while (<$file>) { $kb{$1} = $2 if /^Rss(Anon|File):\s+(\d+)/; }
	close $file;
	return unless $kb{Anon};
	return (($kb{Anon} + $kb{File}) / 1024, $kb{Anon} / 1024);
}

my (@samples, $newest_first);
my ($most, $most_own, $said) = (0, 0, 0);
for (;;)
{
	my ($worker, $done, $rows, $cpu, $leads_here, $span) = split /\|/, $node->safe_psql('load', q{
		SELECT (SELECT pid FROM pg_stat_activity WHERE backend_type = 'regcrm sync' AND datname = 'load'),
			(SELECT isfinite(known_until) AND loaded_at IS NOT NULL FROM regcrm.account),
			(SELECT sum(rows_read) FROM regcrm.sync_state), 0,
			(SELECT count(*) FROM regcrm.deal),
			(SELECT min(created_at)::date || ' to ' || max(created_at)::date FROM regcrm.deal)});
	my ($all, $own) = $worker ? memory($worker) : ();
	if (defined $all)
	{
		$most = $all if $all > $most;
		$most_own = $own if $own > $most_own;
		push @samples, [ $rows || 0, $own ];
		# part of the leads is here: is it the newest part?
		$newest_first //= $node->safe_psql('load', q{SELECT max(id) FROM regcrm.deal}) == 10_000_000 + $leads - 1
		  if $leads_here > 0 && $leads_here < $leads;
		if (time - $said > 20)
		{
			note sprintf '%4d s: %3d MB, %3d MB of them its own; %d rows read, %d leads%s', time - $begin, $all, $own, $rows || 0,
			  $leads_here, $leads_here ? " of $span" : '';
			$said = time;
		}
	}
	last if $done && $done eq 't';
	die 'the load does not end' if time - $begin > $patience;
	usleep(1_000_000);
}

# Least squares over the second half, when all plans and caches are there.
my @late = @samples[ @samples / 2 .. $#samples ];
my ($n, $sx, $sy, $sxx, $sxy) = (scalar @late, 0, 0, 0, 0);
for (@late)
{
	my ($x, $y) = ($_->[0] / 100_000, $_->[1]);
	$sx += $x; $sy += $y; $sxx += $x * $x; $sxy += $x * $y;
}
my $spread = $n * $sxx - $sx * $sx;
my $slope = $spread > 1e-9 ? ($n * $sxy - $sx * $sy) / $spread : 0;
note sprintf '%d leads with all that belongs to them: %.0f s, most memory %d MB (%d MB its own); %.2f MB more for 100,000 rows',
  $leads, time - $begin, $most, $most_own, $slope;
is($node->safe_psql('load', 'SELECT count(*) FROM regcrm.deal'), $leads, 'every lead is there');
is($node->safe_psql('load', 'SELECT count(*) FROM regcrm.task'), 2 * $leads, 'every task');
is($node->safe_psql('load', q{SELECT count(*) FROM regcrm.event WHERE kind = 'call_out'}), $leads, 'every call');
is($node->safe_psql('load', q{SELECT count(*) FROM regcrm.event WHERE kind = 'stage' AND source_id LIKE '01%'}), 2 * $leads, 'every move');
ok($newest_first, 'the newest leads came first');
cmp_ok($most, '<', 200, 'less than 200 MB in the worker');
cmp_ok($slope, '<', 4, 'and flat');
done_testing();
