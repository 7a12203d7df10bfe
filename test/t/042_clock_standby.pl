# A standby has no clock; promoted, it has one, which flags what fell due
# meanwhile.  Databases dropped and renamed, and the server's settings.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.databases = 'postgres'
END
$primary->start;
$primary->safe_psql('postgres', q{
	CREATE EXTENSION regcrm; SELECT regcrm.setup(); INSERT INTO regcrm.account (id) VALUES (1)});
$primary->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock'});

$primary->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'copy', has_streaming => 1);
$standby->start;

sub deal
{
	my ($id, $seconds) = @_;
	return "SET regcrm.mode = 'record'; INSERT INTO regcrm.deal (account_id, id, stage, created_at)
		VALUES (1, $id, 'new', clock_timestamp() - interval '15 min' + interval '$seconds s');";
}

$primary->safe_psql('postgres', deal(1, 1));
$primary->poll_query_until('postgres', q{SELECT count(*) = 1 FROM regcrm.violation WHERE rule = 'NEW-1'});
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM regcrm.violation WHERE rule = 'NEW-1'}), 'what the clock flags reaches the standby');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'regcrm%'}), '0', 'where no worker of ours runs');
my ($out, $err);
$standby->psql('postgres', 'SELECT regcrm.start_workers()', stderr => \$err);
like($err, qr/during recovery.*HINT:  Start them on the primary/s, 'nor can be started');
unlike(slurp_file($standby->logfile), qr/background worker "regcrm|regcrm (launcher|clock|sync) of/, 'its log is quiet');

# ---- a duty falls due while nobody keeps the clock

$primary->safe_psql('postgres', deal(2, 3));
my $lsn = $primary->lsn('write');
$primary->wait_for_catchup($standby, 'replay', $lsn);
$primary->stop('immediate');
usleep(3_000_000);
is($standby->safe_psql('postgres', q{SELECT state FROM regcrm.deadline WHERE deal_id = 2 AND rule = 'NEW-1'}) =~ /^(pending|warned)$/ ? 1 : 0, 1, 'on the standby nothing is flagged');
$standby->promote;
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock'}), 'promoted, it has a clock');
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 2 AND rule = 'NEW-1'}), 'which flags what fell due meanwhile');
is($standby->safe_psql('postgres', q{SELECT v.breached_at = d.due_at FROM regcrm.violation v JOIN regcrm.deadline d USING (deal_id, rule) WHERE v.deal_id = 2 AND v.rule = 'NEW-1'}), 't', '... as of its due moment');
$standby->safe_psql('postgres', deal(3, 1));
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 3 AND rule = 'NEW-1'}), 'and is woken by commits');

# ---- databases: dropped by force, made again, taken from the list

$standby->append_conf('postgresql.conf', "regcrm.databases = 'postgres, other'\n");
$standby->reload;
for my $round (1 .. 3)
{
	$standby->safe_psql('postgres', 'CREATE DATABASE other');
	$standby->safe_psql('other', 'CREATE EXTENSION regcrm; SELECT regcrm.setup(); INSERT INTO regcrm.account (id) VALUES (1)');
	ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock' AND datname = 'other'}), "round $round: a new database has its clock");
	$standby->safe_psql('other', deal(1, 1));
	ok($standby->poll_query_until('other', q{SELECT count(*) = 1 FROM regcrm.violation WHERE rule = 'NEW-1'}), '... which flags');
	$standby->safe_psql('postgres', 'DROP DATABASE other WITH (FORCE)');
}
$standby->safe_psql('postgres', deal(4, 1));
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 4 AND rule = 'NEW-1'}), 'the other clock goes on');
is($standby->safe_psql('postgres', q{SELECT detected_at - breached_at < interval '1 s' FROM regcrm.violation WHERE deal_id = 4 AND rule = 'NEW-1'}), 't', '... and is woken as before');
my $pid = $standby->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'regcrm clock'});
$standby->append_conf('postgresql.conf', "regcrm.databases = ''\n");
$standby->reload;
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'regcrm clock'}), 'taken from the list, the database loses its clock');
$standby->append_conf('postgresql.conf', "regcrm.databases = 'postgres'\n");
$standby->reload;
ok($standby->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock' AND pid <> $pid"), 'back on it, another comes');
$standby->safe_psql('postgres', deal(5, 1));
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 5 AND rule = 'NEW-1'}), '... and flags');

# ---- start_workers() in a transaction that takes its time: they come once it has committed

is($standby->safe_psql('postgres', 'SELECT regcrm.stop_workers()'), '2', 'stopped');
$standby->safe_psql('postgres', 'BEGIN; SELECT regcrm.start_workers(); SELECT pg_sleep(4); COMMIT');
ok($standby->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock'}), 'started, it comes, however long the transaction took');

unlike(slurp_file($standby->logfile), qr/terminating any other active server processes|PANIC/, 'nothing of that was a crash');
$standby->stop;
done_testing();
