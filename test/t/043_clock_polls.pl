# Without shared_preload_libraries nobody can wake the clock: it looks every
# second, and flag_expired() does the same by hand.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $node = PostgreSQL::Test::Cluster->new('polls');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup(); INSERT INTO regcrm.account (id) VALUES (1)');

sub deal
{
	my ($id, $seconds) = @_;
	return "SET regcrm.mode = 'record'; INSERT INTO regcrm.deal (account_id, id, stage, created_at)
		VALUES (1, $id, 'new', clock_timestamp() - interval '15 min' + interval '$seconds s');";
}

# ---- by hand

$node->safe_psql('postgres', deal(1, 1) . deal(2, 600));
is($node->safe_psql('postgres', q{SELECT count(*) FROM regcrm.violation WHERE rule = 'NEW-1'}), '0', 'nothing is due yet');
usleep(1_100_000);
is($node->safe_psql('postgres', 'SELECT regcrm.flag_expired()'), '2', 'flag_expired() flags what is due: two duties of one deal');
is($node->safe_psql('postgres', 'SELECT regcrm.flag_expired()'), '0', '... once');
is($node->safe_psql('postgres', q{SELECT state FROM regcrm.deadline WHERE deal_id = 1 AND rule = 'NEW-1'}), 'missed', 'the deadline is missed');
like($node->safe_psql('postgres', q{SELECT state FROM regcrm.deadline WHERE deal_id = 2 AND rule = 'NEW-1'}), qr/pending/, 'the other is pending');

# ---- by a worker that was started

$node->safe_psql('postgres', 'SET client_min_messages = error; SELECT regcrm.start_workers()');
ok($node->poll_query_until('postgres', q{SELECT query ~ 'nobody can wake it: the library is not preloaded' FROM pg_stat_activity WHERE backend_type = 'regcrm clock'}),
	'pg_stat_activity says that it can\'t be woken');
$node->safe_psql('postgres', deal(3, 2));
ok($node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 3 AND rule = 'NEW-1'}), 'it flags');
is($node->safe_psql('postgres', q{SELECT detected_at - breached_at < interval '2 s' FROM regcrm.violation WHERE deal_id = 3 AND rule = 'NEW-1'}), 't', '... within two seconds');

$node->stop;
done_testing();
