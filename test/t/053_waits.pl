# What waits and what does not: answers that are too much to ask for are asked
# for in smaller pages and then in shorter windows; a list that fails holds up
# neither the present of the others nor makes the worker ask again and again.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(usleep);

my $sim = Sim->start('--days', 6, '--deals', 120, '--rate', 0);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('waits');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
regcrm.allow_http = on
regcrm.requests_per_second = 50
regcrm.sync_interval = 2
log_statement = none
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
my $sql = sub { return $node->safe_psql('postgres', $_[0]); };
my $err;
$sql->("CALL regcrm.connect('$url', token => 'token')");

# ---- the history of one list fails again and again

$sim->faults({ kind => '504', path => '/events', skip => 14, count => 100000 });
$node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
like($err, qr/events: HTTP 504/, 'who asks for all of it is told what is in the way');
is($sql->('SELECT loading FROM regcrm.account'), 't', 'history is not complete');
$sim->no_faults;

# Only history's requests fail: they are those for descending order. The worker follows the present.
my $known = $sql->('SELECT known_until FROM regcrm.account');
$sql->(q{UPDATE regcrm.sync_state SET next_try_at = now() + interval '1 hour', last_error = 'x', last_error_at = now() WHERE entity = 'events/history'});
$sql->(q{DELETE FROM regcrm.sync_state WHERE entity = 'pass'});
$sql->('SELECT regcrm.start_workers()');
for (1 .. 3)
{
	$sim->advance(60);
	my $now = $sim->stats->{now} - 5;
	ok($node->poll_query_until('postgres', "SELECT extract(epoch FROM known_until) >= $now FROM regcrm.account"),
		'the present goes on while the history of a list waits');
}
my $before = $sim->stats->{requests};
sleep 6;
my $asked = $sim->stats->{requests} - $before;
cmp_ok($asked, '<=', 45, "it is asked for no more often than every two seconds ($asked requests in six)");
is($sql->('SELECT state FROM regcrm.account'), 'ok', 'the account is well');
$sql->(q{UPDATE regcrm.sync_state SET next_try_at = now() WHERE entity = 'events/history'});
ok($node->poll_query_until('postgres', 'SELECT NOT loading FROM regcrm.account'), 'when its time has come, history goes on');

# ---- the present of one list fails

$sim->faults({ kind => '500', path => '/contacts/notes', count => 100000 });
$sim->advance(60);
ok($node->poll_query_until('postgres', q{SELECT last_error LIKE '%HTTP 500%' FROM regcrm.sync_status WHERE entity = 'contact_notes'}),
	'a list that fails says so');
$known = $sql->('SELECT known_until FROM regcrm.account');
my $tasks = $sql->(q{SELECT done_to FROM regcrm.sync_state WHERE entity = 'tasks'});
$sim->advance(60);
$sql->('SELECT regcrm.resume(30111222)');
ok($node->poll_query_until('postgres', "SELECT done_to > '$tasks' FROM regcrm.sync_state WHERE entity = 'tasks'"), 'the others go on');
is($sql->('SELECT known_until FROM regcrm.account'), $known, 'but known_until waits for all');
$sim->no_faults;
$before = $sim->stats->{requests};
sleep 6;
cmp_ok($sim->stats->{requests} - $before, '<=', 60, 'nor is anything asked for in a hurry');
$sql->('SELECT regcrm.resume(30111222)');
ok($node->poll_query_until('postgres', "SELECT known_until > '$known' FROM regcrm.account"), 'and goes on with it');
$sql->('SELECT regcrm.stop_workers()');

# ---- too much to ask for

$sim->advance(24 * 3600);
$sim->faults({ kind => '504', path => '/events', count => 6 });
is($node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err), 0, 'smaller pages, then shorter windows: the pass goes through');
is($sql->('SELECT extract(epoch FROM known_until)::bigint FROM regcrm.account'), $sim->stats->{now} - 5, 'and is complete');
my $shown = $sim->stats->{shown}{event};
is($sql->(q{SELECT (SELECT count(*) FROM regcrm.event WHERE source = 'event')
	+ (SELECT count(*) FROM regcrm.other_event WHERE type NOT LIKE '%tombstone' AND type NOT LIKE 'note:%')
	+ (SELECT count(*) FROM regcrm.quarantine WHERE entity = 'events')}), $shown, 'every event is here');
is($sql->(q{SELECT count(*) FROM regcrm.task}), $sim->stats->{shown}{task}, 'every task too');

# ---- a turn that is shorter than a window of the history

# Events come a hundred a page, fewer than are asked for first; a window that is
# broken off must go on at its page, or the load never ends.
$node->safe_psql('postgres', 'CREATE DATABASE turns');
$node->append_conf('postgresql.conf', "regcrm.sync_interval = 1\nregcrm.requests_per_second = 8\n");
$node->reload;
$node->safe_psql('turns', "CREATE EXTENSION regcrm; SELECT regcrm.setup(); CALL regcrm.connect('$url', token => 'token'); SELECT regcrm.start_workers()");
my $asked_before = $sim->stats->{paths}{'/api/v4/events'};
my $needed = int($sim->stats->{shown}{event} / 100) + 1;
for (1 .. 600)
{
	last if $node->safe_psql('turns', 'SELECT loaded_at IS NOT NULL FROM regcrm.account') eq 't';
	usleep(100_000);
}
is($node->safe_psql('turns', 'SELECT loaded_at IS NOT NULL FROM regcrm.account'), 't', 'a load in turns of a second ends');
my $events = $sim->stats->{paths}{'/api/v4/events'} - $asked_before;
note "$needed pages of events, $events requests for events";
is($node->safe_psql('turns', q{SELECT (SELECT count(*) FROM regcrm.event WHERE source = 'event')
	+ (SELECT count(*) FROM regcrm.other_event WHERE type NOT LIKE '%tombstone' AND type NOT LIKE 'note:%')
	+ (SELECT count(*) FROM regcrm.quarantine WHERE entity = 'events')}), $sim->stats->{shown}{event}, 'with every event');
$node->safe_psql('turns', 'SELECT regcrm.stop_workers()');

done_testing();
