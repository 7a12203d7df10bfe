# The first load comes newest first: while it is under way the deals that began
# in what is loaded are judged, none is judged falsely, and the present goes on;
# when it is done all is as after judging everything anew.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;

my $sim = Sim->start('--days', 40, '--deals', 500, '--rate', 0);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('load');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
regcrm.allow_http = on
regcrm.requests_per_second = 50
log_statement = none
log_min_messages = debug1
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
$node->safe_psql('postgres', "CALL regcrm.connect('$url', token => 'token')");

my $sql = sub { return $node->safe_psql('postgres', $_[0]); };
my $err;

# ---- broken off in the middle of its history

$sim->faults({ kind => '403', path => '/events', skip => 40, count => 1000 });
$node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
like($err, qr/403/, 'the load is broken off');
$sim->no_faults;
is($sql->('SELECT loading FROM regcrm.sync_accounts'), 't', 'it is under way');
is($sql->(q{SELECT known_from < known_until AND known_until > '-infinity' FROM regcrm.account}),
	't', 'the newest stretch is known');
cmp_ok($sql->('SELECT extract(day FROM known_until - known_from) FROM regcrm.account'),
	'<', 30, 'and not all of it');
cmp_ok($sql->('SELECT count(*) FROM regcrm.deal d, regcrm.account a WHERE d.created_at >= a.known_from'),
	'>', 3, 'deals began in it');
cmp_ok($sql->('SELECT count(*) FROM regcrm.violation v JOIN regcrm.deal d ON d.id = v.deal_id, regcrm.account a WHERE d.created_at >= a.known_from'),
	'>', 0, 'they are judged: dashboards have something to show');
is($sql->(q{SELECT count(*) FROM regcrm.deadline l JOIN regcrm.deal d ON d.id = l.deal_id, regcrm.account a WHERE d.created_at < a.known_from}),
	'0', 'of deals that began before nothing is said yet');
my $progress = $sql->('SELECT load_progress FROM regcrm.sync_accounts');
cmp_ok($progress, '>', 0, 'sync_accounts tells how far it is');
cmp_ok($progress, '<', 1, 'and that it is not done');
is($sql->(q{SELECT load_eta > now() FROM regcrm.sync_accounts}), 't', 'and when it will be');
is($sql->(q{SELECT count(*) FROM regcrm.sync_status WHERE entity = 'events' AND load_progress < 1 AND read_from > '-infinity'}),
	'1', 'sync_status tells it of each list');
is($sql->(q{SELECT regcrm.rejudge(); SELECT count(*) FROM regcrm.deadline l JOIN regcrm.deal d ON d.id = l.deal_id, regcrm.account a WHERE d.created_at < a.known_from})
	=~ s/.*\n//r, '0', 'rejudge() does not say more');
my $early = $sql->('SELECT count(*) FROM regcrm.violation WHERE withdrawn_at IS NULL');

# ---- the present goes on while history is being loaded

$sim->advance(3600);
my $now = $sim->stats->{now};
$sim->faults({ kind => '504', path => '/events', skip => 2, count => 1000 });
$node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
$sim->no_faults;
is($sql->('SELECT loading FROM regcrm.account'), 't', 'still under way');
is($sql->('SELECT extract(epoch FROM known_until)::bigint FROM regcrm.account'), $now - 5,
	'the present is known although the past is not');

# ---- to the end

$sql->('CALL regcrm.sync()');
is($sql->(q{SELECT loading, load_progress, load_eta IS NULL, loaded_at >= load_began_at, load_requests > 50 FROM regcrm.sync_accounts}),
	'f|1|t|t|t', 'the load is complete, and what it took is told');
is($sql->(q{SELECT count(*) FROM regcrm.sync_state WHERE entity LIKE '%/history' AND done_from = '-infinity'}), '8', 'all lists have been read back to the beginning');
is($sql->(q{SELECT known_from = (SELECT min(at) FROM (SELECT at FROM regcrm.event WHERE source = 'event' UNION ALL SELECT at FROM regcrm.other_event WHERE type NOT LIKE '%tombstone') e) FROM regcrm.account}),
	't', 'known_from is the first event');
is($sql->('SELECT count(*) FROM regcrm.violation WHERE withdrawn_at IS NOT NULL'), '0',
	'no breach that was told on the way was none');
cmp_ok($sql->('SELECT count(*) FROM regcrm.violation'), '>', $early, 'there are more now');
is($sql->('SELECT changed, violations_new, violations_withdrawn FROM regcrm.rejudge()'), '0|0|0',
	'judging everything again changes nothing');
is($sql->('SELECT rejudge_due FROM regcrm.sync_accounts'), 'f', 'nor is it due');
my $shown = $sim->stats->{shown};
is($sql->('SELECT count(*) FROM regcrm.task'), $shown->{task}, 'every task is here');
is($sql->(q{SELECT (SELECT count(*) FROM regcrm.event WHERE source = 'event')
	+ (SELECT count(*) FROM regcrm.other_event WHERE type NOT LIKE '%tombstone' AND type NOT LIKE 'note:%')
	+ (SELECT count(*) FROM regcrm.quarantine WHERE entity = 'events')}), $shown->{event}, 'every event is here');

# ---- killed between the last page and the end of the load

$sql->(q{UPDATE regcrm.account SET loading = true, loaded_at = NULL, known_from = known_until - interval '1 hour' WHERE loaded_at IS NOT NULL});
$sql->('CALL regcrm.sync()');
is($sql->(q{SELECT loading, loaded_at IS NOT NULL FROM regcrm.account}), 'f|t', 'a load of which only the end is missing comes to its end');
is($sql->(q{SELECT known_from = (SELECT min(at) FROM (SELECT at FROM regcrm.event WHERE source = 'event' UNION ALL SELECT at FROM regcrm.other_event WHERE type NOT LIKE '%tombstone') e) FROM regcrm.account}),
	't', 'known_from is the first event again');

# ---- a change of what is judged by

$sql->(q{UPDATE regcrm.rule SET within = '20 minutes' WHERE code = 'NEW-1'});
is($sql->('SELECT rejudge_due FROM regcrm.sync_accounts'), 't', 'a changed rule makes a rejudge() due');
$sql->('SELECT regcrm.rejudge()');
is($sql->('SELECT rejudge_due FROM regcrm.sync_accounts'), 'f', 'which then is done');
$sql->(q{INSERT INTO regcrm.calendar_day (calendar, day) VALUES ('daily-9-20', '2026-03-08')});
is($sql->('SELECT rejudge_due FROM regcrm.sync_accounts'), 't', 'so does a holiday');
$sql->(q{SELECT regcrm.rejudge(); UPDATE regcrm.manager SET in_scope = false WHERE id = (SELECT min(id) FROM regcrm.manager)});
is($sql->('SELECT rejudge_due FROM regcrm.sync_accounts'), 't', 'so does a user out of scope');
$sql->(q{SELECT regcrm.rejudge(); UPDATE regcrm.manager SET name = 'other' WHERE id = (SELECT min(id) FROM regcrm.manager)});
is($sql->('SELECT rejudge_due FROM regcrm.sync_accounts'), 'f', 'but not his name');

like(slurp_file($node->logfile), qr/sync of account 30111222: complete, \d+ requests/, 'a line a pass at DEBUG');

done_testing();
