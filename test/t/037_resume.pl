# A first load that is torn down again and again, by lost connections, ended
# backends and a server that is killed, comes to the same rows as one that ran
# undisturbed, and reads little twice.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;

my $sim = Sim->start('--days', 4, '--deals', 300, '--rate', 0);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('resume');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
regcrm.allow_http = on
regcrm.requests_per_second = 50
log_statement = none
END
$node->start;
for my $database (qw(calm rough))
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
	$node->safe_psql($database, "CALL regcrm.connect('$url', token => 'token')");
}

my $before = $sim->stats->{requests};
$node->safe_psql('calm', 'CALL regcrm.sync()');
my $undisturbed = $sim->stats->{requests} - $before;

# ---- torn down, each time at another place

$before = $sim->stats->{requests};
my $torn = 0;
my $hung = q{SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = 'rough' AND wait_event_type = 'Extension' AND state = 'active'};
for my $case (
	[ '/pipelines', 0, 'terminate' ],
	[ '/leads/notes', 0, 'cut' ],
	[ '/leads', 3, 'terminate' ],
	[ '/tasks', 1, 'kill' ],
	[ '/contacts/notes', 0, 'reset' ],
	[ '/events', 3, 'terminate' ],
	[ '/events', 9, 'kill' ],
	[ '/events', 14, '504' ])
{
	my ($path, $skip, $how) = @$case;

	$sim->no_faults;
	if ($how =~ /^(reset|cut|504)$/)
	{
		$sim->faults({ kind => $how, path => $path, skip => $skip, count => 4 });
		$node->psql('rough', 'CALL regcrm.sync()');
		next;
	}
	$sim->faults({ kind => 'delay', path => $path, skip => $skip, seconds => 4 });
	my $psql = $node->background_psql('rough', on_error_stop => 0);
	$psql->query_until(qr//, "CALL regcrm.sync();\n");
	for (1 .. 300)
	{
		# the fault has been met when it is no longer in the list
		last if !@{ $sim->ask('GET', 'faults') };
		select undef, undef, undef, 0.05;
	}
	if ($how eq 'kill')
	{
		my $postmaster = $node->{_pid};
		$node->kill9;
		eval { $psql->quit };
		# its number must be free, or pg_ctl takes it for alive
		for (1 .. 200) { last if !kill(0, $postmaster); select undef, undef, undef, 0.1; }
		for (1 .. 20) { last if $node->start(fail_ok => 1); sleep 1; }
	}
	else
	{
		$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'rough'});
		eval { $psql->quit };
	}
	$torn++;
}
$sim->no_faults;
$node->safe_psql('rough', 'CALL regcrm.sync()');
is($torn, 5, 'torn down five times, and failed thrice');
note "undisturbed $undisturbed requests, torn down " . ($sim->stats->{requests} - $before);

is($node->safe_psql('rough', q{SELECT count(*) FROM regcrm.sync_state WHERE page IS NOT NULL OR last_error IS NOT NULL}),
	'0', 'in the end all is read');
for my $query (
	'SELECT id, name, stage, status_id, manager_id, created_at, updated_at, closed_at, deleted_at, custom, raw FROM regcrm.deal ORDER BY 1',
	'SELECT id, deal_id, kind, body, created_at, due_at, completed_at, raw FROM regcrm.task ORDER BY 1',
	'SELECT id, deal_id, at, kind, by_bot, actor_id, from_stage, to_stage, field, value, source, source_id FROM regcrm.event ORDER BY 1',
	'SELECT source_id, type, entity_id, at FROM regcrm.other_event ORDER BY 1',
	'SELECT id, name FROM regcrm.contact ORDER BY 1',
	'SELECT deal_id, contact_id, is_main FROM regcrm.deal_contact ORDER BY 1, 2',
	'SELECT deal_id, rule, arose_at, breached_at, resolved_at, resolution, manager_id FROM regcrm.violation WHERE withdrawn_at IS NULL ORDER BY 1, 2, 3',
	'SELECT deal_id, rule, task_id, arose_at, due_at, met_at, state FROM regcrm.deadline ORDER BY 1, 2, 4, 3',
	'SELECT known_from, known_until FROM regcrm.account')
{
	my ($table) = $query =~ /FROM (regcrm\.\w+)/;
	my $calm = $node->safe_psql('calm', $query);
	ok($calm eq $node->safe_psql('rough', $query), "$table is as after an undisturbed load");
}

# ---- a pass over what is there changes nothing

$sim->advance(30);
$node->safe_psql('rough', 'CALL regcrm.sync()');
is( $node->safe_psql('rough', 'SELECT count(*) FROM regcrm.event'),
	$node->safe_psql('calm', 'SELECT count(*) FROM regcrm.event'),
	'reading again what overlaps doubles nothing');

done_testing();
