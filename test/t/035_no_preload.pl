# Without shared_preload_libraries everything works but the launcher, and
# whoever asks for a worker is told what to do.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;

my $sim = Sim->start('--days', 1, '--deals', 10);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('no_preload');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
regcrm.allow_http = on
regcrm.sync_interval = 1s
END
$node->start;

my ($out, $err);

is($node->psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()', stderr => \$err), 0,
	'CREATE EXTENSION and setup() need no preloading') or diag $err;
$node->psql('postgres', "CALL regcrm.connect('$url', token => 'token')", stderr => \$err);
like($err, qr/No sync worker runs here.*shared_preload_libraries/, 'connect() says that no worker runs');

# ---- workers by hand

$node->psql('postgres', 'SELECT regcrm.start_workers()', stdout => \$out, stderr => \$err);
is($out, '2', 'start_workers() starts two');
like($err, qr/the workers run until the server stops.*shared_preload_libraries/s, 'and says how long they last');
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM regcrm.account WHERE isfinite(known_until)});
pass('the sync worker makes its pass');
cmp_ok($sim->stats->{most_in_a_second}, '<=', 7, 'at the pace');
$node->psql('postgres', 'SELECT regcrm.start_workers()', stdout => \$out, stderr => \$err);
is($out, '0', 'a second call starts nobody');

my $old = $node->safe_psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'regcrm sync'});
$node->safe_psql('postgres', "SELECT pg_terminate_backend($old)");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm sync' AND pid <> $old");
pass('one that was terminated comes back');

is($node->safe_psql('postgres', 'SELECT regcrm.stop_workers()'), '2', 'stop_workers() stops both');
sleep 12;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'regcrm%'}),
	'0', 'and they stay away');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');

$node->safe_psql('postgres', 'CREATE ROLE nobody_much; GRANT USAGE ON SCHEMA regcrm TO nobody_much');
for my $function (qw(start_workers stop_workers))
{
	$node->psql('postgres', "SET ROLE nobody_much; SELECT regcrm.$function()", stderr => \$err);
	like($err, qr/permission denied for function/, "$function() is not for PUBLIC");
}

# ---- no slot

$node->append_conf('postgresql.conf', "max_worker_processes = 1\n");
$node->restart;
$node->psql('postgres', 'SELECT regcrm.start_workers()', stderr => \$err);
like($err, qr/no free slot.*HINT:.*max_worker_processes/s, 'no free slot: an error that says what to raise');
is($node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err), 0, 'CALL regcrm.sync() needs no worker') or diag $err;

done_testing();
