# A first load, measured: how fast the database side takes pages (ingest()), and
# what memory the worker needs for a large account.  Run by make check-deep, or
# by test/check bench.  LEADS (100000) chooses the size of the account.
#
# amoCRM gives 7 requests a second of 250 leads: 1,750 leads a second.

use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $leads = $ENV{LEADS} || 100_000;
my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $firehose = "$FindBin::RealBin/firehose.py";

my $node = PostgreSQL::Test::Cluster->new('load');
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

# ---- the database side: pages of leads, each in a transaction of its own

$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup(); CREATE TABLE page (n int GENERATED ALWAYS AS IDENTITY, page jsonb)');
$node->safe_psql('postgres', q{INSERT INTO regcrm.account (id, name, known_until) VALUES (30111222, 'load', '-infinity')});
my ($out, $err);
my $ours = $leads < 20_000 ? $leads : 20_000;
my %speed;
for my $entity (qw(leads contacts tasks notes events))
{
	my $file = "$tmp/pages_$entity";
	system("/usr/bin/python3 $firehose --pages $entity $ours > $file") == 0 or die;
	$node->safe_psql('postgres', "TRUNCATE page");
	# a quote and a delimiter that JSON text holds nowhere
	$node->safe_psql('postgres', "\\copy page (page) from '$file' with (format csv, quote e'\\x01', delimiter e'\\x02')");
	unlink $file;
	$node->safe_psql('postgres', q{
		CREATE OR REPLACE PROCEDURE take(entity text) LANGUAGE plpgsql AS $$
		DECLARE p record; i int; last int;
		BEGIN
			SELECT min(n), max(n) INTO i, last FROM page;
			WHILE i <= last LOOP
				PERFORM regcrm.ingest(30111222, entity, (SELECT page FROM page WHERE n = i));
				COMMIT;
				i := i + 1;
			END LOOP;
		END $$; CREATE INDEX IF NOT EXISTS page_n ON page (n); ANALYZE page});
	# by processor time as well, since the machine may be busy with other things
	my $cpu = q{SELECT 'cpu ' || split_part(stat, ' ', 12)::int + split_part(stat, ' ', 13)::int
		FROM regexp_replace(pg_read_file('/proc/self/stat', 0, 10000), '^.*\) ', '') stat;};
	my $begin = time;
	$out = $node->safe_psql('postgres', "$cpu CALL take('$entity'); $cpu");
	my $took = time - $begin;
	my ($cpu_begin, $cpu_end) = $out =~ /cpu (\d+)/g;
	my $worked = ($cpu_end - $cpu_begin) / 100;
	my %rows = (leads => 1, contacts => 1, tasks => 2, notes => 1, events => 8);
	$speed{$entity} = $ours * $rows{$entity} / $worked;
	note sprintf 'ingest(): %d %s in %.1f s, %.0f per second; %.1f s of processor time, %.0f per second of it',
	  $ours * $rows{$entity}, $entity, $took, $ours * $rows{$entity} / $took, $worked, $speed{$entity};
	$node->safe_psql('postgres', 'ANALYZE') if $entity eq 'leads';
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM regcrm.quarantine}), '0', 'every row can be read');
is($node->safe_psql('postgres', q{SELECT count(*) FROM regcrm.deal}), $ours, 'every lead is there');
cmp_ok($speed{leads}, '>=', 5 * 1750, 'five times as many leads a second of processor time as amoCRM can send in one');

# ---- the whole: by the worker, from an API

my $port_file = "$tmp/firehose.port";
unlink $port_file;
my $pid = fork() // die;
if ($pid == 0) { exec '/usr/bin/python3', $firehose, $port_file, $leads; }
END { local $?; kill 'TERM', $pid if $pid; }
for (1 .. 300) { last if -s $port_file; usleep(100_000); }
my $url = 'http://127.0.0.1:' . slurp_file($port_file);

$node->safe_psql('postgres', 'CREATE DATABASE load');
$node->safe_psql('load', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
my $begin = time;
$node->safe_psql('load', "CALL regcrm.connect('$url', token => 'token')");

# Memory of the worker that is its own: not the buffers that it has touched.
sub memory
{
	my ($process) = @_;
	my ($sum, $peak) = (0, 0);
	open my $file, '<', "/proc/$process/status" or return;
	while (<$file>) { $sum += $1 if /^Rss(?:Anon|File):\s+(\d+)/; $peak = $1 if /^RssAnon:\s+(\d+)/; }
	close $file;
	return ($sum / 1024, $peak / 1024);
}

my ($most, $most_own, @samples) = (0, 0);
my $last = 0;
for (;;)
{
	my ($worker, $done, $deals) = split /\|/, $node->safe_psql('load', q{
		SELECT (SELECT pid FROM pg_stat_activity WHERE backend_type = 'regcrm sync' AND datname = 'load'),
			(SELECT isfinite(known_until) AND loaded_at IS NOT NULL FROM regcrm.account),
			(SELECT string_agg(entity || ' ' || rows_read, ', ') FROM regcrm.sync_state WHERE rows_read > 1000)});
	if ($worker)
	{
		my ($all, $own) = memory($worker);
		$most = $all if defined $all && $all > $most;
		$most_own = $own if defined $own && $own > $most_own;
		if (time - $last > 20)
		{
			note sprintf '%4d s: %3d MB, %3d MB of them its own; %s', time - $begin, $all // 0, $own // 0, $deals;
			push @samples, $own;
			$last = time;
		}
	}
	last if $done && $done eq 't';
	die 'the load does not end' if time - $begin > 3600;
	usleep(500_000);
}
my $took = time - $begin;
note sprintf '%d leads with all that belongs to them: %.0f s, most memory %d MB (%d MB its own)', $leads, $took, $most, $most_own;
is($node->safe_psql('load', 'SELECT count(*) FROM regcrm.deal'), $leads, 'every lead is there');
is($node->safe_psql('load', 'SELECT count(*) FROM regcrm.task'), 2 * $leads, 'every task');
is($node->safe_psql('load', q{SELECT count(*) FROM regcrm.event WHERE kind = 'call_out'}), $leads, 'every call');
is($node->safe_psql('load', q{SELECT count(*) FROM regcrm.event WHERE kind = 'stage' AND source_id LIKE '01%'}), 2 * $leads, 'every move');
cmp_ok($most, '<', 200, 'less than 200 MB in the worker');
my $requests = $node->safe_psql('load', 'SELECT load_requests FROM regcrm.account');
my $least = int($leads * (1 + 1 + 2 + 1) / 250) + int($leads * 8 / 100) + 8;
note "requests: $requests, the least possible $least";
cmp_ok($requests, '<', 1.15 * $least + 60, 'little more requests than pages');
done_testing();
