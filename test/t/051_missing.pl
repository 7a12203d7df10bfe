# What lists do not show: leads and tasks that are only named are asked for by
# their numbers; reconcile() finds what was missed and what is gone, reports it,
# and does not believe that everything is gone at once; forget() is for good.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;

my $sim = Sim->start('--days', 6, '--deals', 150, '--rate', 0);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('missing');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
regcrm.allow_http = on
regcrm.requests_per_second = 50
log_statement = none
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
my $sql = sub { return $node->safe_psql('postgres', $_[0]); };
# What the sync shall have missed is taken away by hand, which the gate would refuse.
my $take_away = sub { return $node->safe_psql('postgres', "SET regcrm.mode = off; $_[0]"); };

# Two leads and three tasks that lists leave out: one of each is gone for good.
my @leads = (9100020, 9100040, 9100060);
my @tasks = (6200030, 6200050);
$sim->hide('unlisted', lead => [ @leads[0, 1] ], task => [ $tasks[0] ]);
$sim->hide('gone', lead => [ $leads[2] ], task => [ $tasks[1] ]);

$sql->("CALL regcrm.connect('$url', token => 'token')");
$sql->('CALL regcrm.sync()');
is($sql->("SELECT count(*) FROM regcrm.deal WHERE id IN ($leads[0], $leads[1])"), '0',
	'the first load shows no lead that lists leave out');
is($sql->("SELECT string_agg(id::text, ',' ORDER BY id) FROM regcrm.wanted WHERE entity = 'leads' AND gone_at IS NULL"),
	join(',', @leads), 'but their events name them: they are wanted');
$sql->('CALL regcrm.sync()');
is($sql->("SELECT count(*) FROM regcrm.deal WHERE id IN ($leads[0], $leads[1]) AND raw IS NOT NULL"), '2',
	'the next pass has asked for them by their numbers');
is($sql->("SELECT count(*) FROM regcrm.task WHERE id = $tasks[0]"), '1', 'and for the task');
is($sql->("SELECT string_agg(entity || ' ' || id, ', ' ORDER BY entity, id) FROM regcrm.wanted"),
	"leads $leads[2], tasks $tasks[1]", 'what amoCRM has not stays noted');
is($sql->('SELECT wanted FROM regcrm.sync_accounts'), '0', 'and is not asked for again');
cmp_ok($sql->("SELECT count(*) FROM regcrm.deadline WHERE deal_id = $leads[0]"), '>', 0,
	'the facts that waited for the lead are judged');

# An event about a lead not here, in the steady loop.
$take_away->("DELETE FROM regcrm.deal WHERE id = $leads[0]");
my $last = $sql->("SELECT source_id FROM regcrm.event WHERE deal_id = $leads[0] AND source = 'event' ORDER BY at DESC LIMIT 1");
is($sql->(qq{SELECT regcrm.note_unknown(30111222, 'events', '{"_embedded": {"events": [{"id": "x", "type": "common_note_added", "entity_type": "lead", "entity_id": $leads[0]}]}}');
	SELECT count(*) FROM regcrm.wanted WHERE id = $leads[0]}) =~ s/.*\n//r, '1', 'an event of a lead not here makes it wanted');
$sql->('CALL regcrm.sync()');
is($sql->("SELECT count(*) FROM regcrm.deal WHERE id = $leads[0]"), '1', 'and it comes');

# ---- reconcile

$sql->('CALL regcrm.reconcile()');
is($sql->("SELECT sum(missed + outdated + gone) FROM regcrm.reconciliation"), '0', 'nothing was missed, nothing is said');
is($sql->('SELECT reconciled_at IS NOT NULL FROM regcrm.sync_accounts'), 't', 'when it was done is told');

# Missed: rows that are not here, one in an old version; purged: a lead and a task without any event.
my ($lost, $stale, $purged) = split /\n/, $sql->(q{
	SELECT d.id FROM regcrm.deal d WHERE d.raw IS NOT NULL AND NOT d.is_deleted AND d.status_id NOT IN (142, 143)
		AND d.updated_at > (SELECT known_until - interval '2 days' FROM regcrm.account) ORDER BY d.id LIMIT 3});
my $open_task = $sql->('SELECT min(id) FROM regcrm.task WHERE completed_at IS NULL AND deleted_at IS NULL AND raw IS NOT NULL');
my $lost_event = $sql->(q{SELECT source_id FROM regcrm.event WHERE source = 'event' AND kind = 'stage'
	AND at BETWEEN (SELECT known_until - interval '2 days' FROM regcrm.account) AND (SELECT known_until - interval '1 day' FROM regcrm.account) ORDER BY at LIMIT 1});
$take_away->("DELETE FROM regcrm.deal WHERE id = $lost");
$take_away->("DELETE FROM regcrm.event WHERE source_id = '$lost_event'");
$take_away->("UPDATE regcrm.deal SET name = 'old', updated_at = updated_at - interval '1 hour', raw = raw || jsonb_build_object('name', 'old', 'updated_at', (raw ->> 'updated_at')::bigint - 3600) WHERE id = $stale");
$sim->hide('gone', lead => [$purged], task => [$open_task]);
$sql->('CALL regcrm.sync()');
is($sql->("SELECT count(*) FROM regcrm.deal WHERE id = $lost"), '0', 'a pass does not see it');
my $err;
$node->psql('postgres', 'CALL regcrm.reconcile(30111222)', stderr => \$err);
is($err, '', 'reconcile() goes through');
is($sql->("SELECT count(*) FROM regcrm.deal WHERE id = $lost"), '1', 'what was missed is here');
is($sql->("SELECT count(*) FROM regcrm.event WHERE source_id = '$lost_event'"), '1', 'an event too');
isnt($sql->("SELECT name FROM regcrm.deal WHERE id = $stale"), 'old', 'what was old is new');
is($sql->("SELECT is_deleted, deleted_at = known_until FROM regcrm.deal d, regcrm.account a WHERE d.id = $purged"), 't|t',
	'what is gone counts as deleted, from now on');
is($sql->("SELECT deleted_at IS NOT NULL FROM regcrm.task WHERE id = $open_task"), 't', 'a task too');
is($sql->(q{SELECT entity, missed, outdated, gone FROM regcrm.reconciliation r WHERE missed + outdated + gone > 0 ORDER BY entity}),
	"events|1|0|0\nleads|1|1|1\ntasks|0|0|1", 'and all of it is reported');
$sql->('CALL regcrm.reconcile()');
$sim->hide('shown', lead => [$purged]);
$sql->('CALL regcrm.reconcile()');
is($sql->("SELECT is_deleted FROM regcrm.deal WHERE id = $purged"), 'f', 'what is shown again was not deleted');

# The user of the token loses his rights: almost nothing is shown.
my @all = split /\n/, $sql->('SELECT id FROM regcrm.deal WHERE raw IS NOT NULL');
$sim->hide('gone', lead => \@all);
my $deleted = $sql->('SELECT count(*) FROM regcrm.deal WHERE is_deleted');
$sql->('CALL regcrm.reconcile()');
is($sql->('SELECT count(*) FROM regcrm.deal WHERE is_deleted'), $deleted, 'that all are gone at once is not believed');
like($sql->(q{SELECT note FROM regcrm.reconciliation WHERE entity = 'leads' ORDER BY at DESC LIMIT 1}),
	qr/\d+ of \d+ open leads are not shown any more/, 'but said');
$sim->hide('shown', lead => \@all);

# ---- forget() is for good

my ($deal, $contact) = split /\|/, $sql->(q{SELECT l.deal_id, l.contact_id FROM regcrm.deal_contact l JOIN regcrm.deal d ON d.id = l.deal_id
	WHERE d.raw IS NOT NULL AND EXISTS (SELECT FROM regcrm.task t WHERE t.deal_id = d.id)
		AND NOT EXISTS (SELECT FROM regcrm.deal_contact o WHERE o.contact_id = l.contact_id AND o.deal_id <> l.deal_id)
	ORDER BY l.deal_id LIMIT 1});
my $name = $sql->("SELECT name FROM regcrm.contact WHERE id = $contact");
$sql->("SELECT regcrm.forget(30111222, $deal)");
$sql->('CALL regcrm.reconcile(30111222, 30)');
is($sql->("SELECT (SELECT count(*) FROM regcrm.deal WHERE id = $deal) + (SELECT count(*) FROM regcrm.contact WHERE id = $contact)
	+ (SELECT count(*) FROM regcrm.task WHERE deal_id = $deal) + (SELECT count(*) FROM regcrm.event WHERE deal_id = $deal OR contact_id = $contact)
	+ (SELECT count(*) FROM regcrm.deal_contact WHERE deal_id = $deal)
	+ (SELECT count(*) FROM regcrm.wanted WHERE id IN ($deal, $contact))"), '0',
	'reading everything again brings nothing of a forgotten deal back');
is($sql->("SELECT count(*) FROM regcrm.other_event WHERE raw::text LIKE '%$deal%' OR entity_type = 'contact' AND entity_id = $contact"), '0',
	'not even what no rule looks at');

done_testing();
