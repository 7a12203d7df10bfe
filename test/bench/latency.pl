# How long it takes from a change in amoCRM to its violation in the view: forty
# moves against the regulation at odd moments, one worker, no webhooks.  INTERVAL
# (10 s) is regcrm.sync_interval.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(time usleep);

my $interval = $ENV{INTERVAL} || 10;
my $many = $ENV{CHANGES} || 40;
my $sim = Sim->start('--days', 6, '--deals', 400);
my $node = PostgreSQL::Test::Cluster->new('latency');
$node->init;
$node->append_conf('postgresql.conf', <<"END");
shared_preload_libraries = 'regcrm'
regcrm.allow_http = on
regcrm.sync_interval = ${interval}s
END
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION regcrm; SELECT regcrm.setup(); CALL regcrm.connect('" . $sim->url . "', token => 'token')");
$node->append_conf('postgresql.conf', "regcrm.databases = 'postgres'\n");
$node->reload;
$node->poll_query_until('postgres', 'SELECT isfinite(known_until) AND loaded_at IS NOT NULL FROM regcrm.account') or die 'no first pass';
my $start = $node->safe_psql('postgres', 'SELECT known_until FROM regcrm.account');
$sim->run;

my @leads = grep { $_->{pipeline} == 7001001 && $_->{status} > 61000012 && $_->{status} < 61000018 } @{ $sim->leads };
my (%changed, %seen);
my $next = 0;
my $begin = time;
while (keys %seen < $many && time - $begin < $interval * ($many + 20))
{
	if ($next < $many && time - $begin > $next * 2.3)
	{
		$sim->act(lead => $leads[$next]{id}, status => 61000010);
		$changed{ $leads[ $next++ ]{id} } = time;
	}
	for (split /\n/, $node->safe_psql('postgres',
			"SELECT deal_id FROM regcrm.violations WHERE rule = 'FLOW' AND breached_at > '$start'"))
	{
		$seen{$_} //= time if $changed{$_};
	}
	usleep(100_000);
}
my @took = sort { $a <=> $b } map { $seen{$_} - $changed{$_} } keys %seen;
is(scalar(@took), $many, 'every change shows as a violation');
my $median = $took[ @took / 2 ];
note sprintf 'interval %d s, %d changes: median %.1f s, least %.1f s, most %.1f s', $interval, $many, $median, $took[0], $took[-1];
cmp_ok($median, '<', 2 * $interval, 'the median is under two sync intervals');
is($sim->stats->{refused_429}, 0, 'at the pace that amoCRM allows');
done_testing();
