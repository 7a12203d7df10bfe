# start_workers() that comes while a worker, started by the launcher, has read
# the switch and found it off: the worker ends, but not for good.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Stumble;
use Test::More;
use Time::HiRes qw(usleep);

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my $library = Stumble::library() or plan skip_all => 'no compiler, or no headers of the server';
my $node = PostgreSQL::Test::Cluster->new('switch');
$node->init;
$node->append_conf('postgresql.conf', <<"END");
shared_preload_libraries = 'regcrm, $library'
regcrm.databases = 'postgres'
stumble.once = '$tmp/switch.wait'
stumble.wait = 'regcrm.worker_switch'
END
$node->start;
my $workers = q{SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type IN ('regcrm sync', 'regcrm clock')};
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
$node->poll_query_until('postgres', $workers) or die 'no workers';
is($node->safe_psql('postgres', 'SELECT regcrm.stop_workers()'), '2', 'switched off');

# Over a restart the launcher does not know, and the workers look: both wait where they have seen it.
append_to_file("$tmp/switch.wait", 'x');
$node->restart;
ok($node->poll_query_until('postgres', $workers), 'the launcher starts them');
usleep(500_000);
$node->safe_psql('postgres', 'SELECT regcrm.start_workers()');
my @old = split /\n/, $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type IN ('regcrm sync', 'regcrm clock')});
unlink "$tmp/switch.wait";
for (1 .. 300)
{
	last if $node->safe_psql('postgres', $workers . ' AND pid NOT IN (' . join(',', @old, 0) . ')') eq 't';
	usleep(100_000);
}
is($node->safe_psql('postgres', $workers . ' AND pid NOT IN (' . join(',', @old, 0) . ')'), 't', 'others come in their place');
is($node->safe_psql('postgres', 'SELECT regcrm.stop_workers()'), '2', 'and they stop');
sleep 3;
is($node->safe_psql('postgres', $workers), 'f', 'for good');
done_testing();
