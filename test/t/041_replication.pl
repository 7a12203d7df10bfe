# What goes past triggers, and what is told of it (docs/gate.md): logical
# replication's apply.  The triggers on facts do not fire there: what is
# replicated was judged where it was written, and its findings are replicated
# with it.  Where only the facts are, rejudge() finds what they come to.
# Sessions of the subscriber forget changed rules at once: those triggers fire.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical', extra => [ '--locale=C', '--encoding=UTF8' ]);
$publisher->start;
my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$subscriber->start;
for my $node ($publisher, $subscriber)
{
	$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT FROM regcrm.setup()');
}

# Waits until the subscriber has what the publisher wrote.
sub caught_up
{
	$publisher->wait_for_catchup('facts');
}

sub broken
{
	my ($node) = @_;
	return $node->safe_psql('postgres', q{
		SELECT string_agg(deal_id || ' ' || rule, ', ' ORDER BY deal_id, rule) FROM regcrm.violation
		WHERE withdrawn_at IS NULL AND rule IN ('NEW-2', 'NEW-4', 'WON-1', 'FLOW')});
}

$publisher->safe_psql('postgres', q{CREATE PUBLICATION facts FOR TABLE regcrm.account, regcrm.deal, regcrm.task, regcrm.event, regcrm.rule});
# the rules there are the same built-in rows: only what changes is sent
my $from = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', qq{CREATE SUBSCRIPTION facts CONNECTION '$from' PUBLICATION facts WITH (copy_data = false)});

# In mode record the publisher takes what breaks rules; its ledger is not published.
$publisher->safe_psql('postgres', q{
	INSERT INTO regcrm.account (id) VALUES (1);
	SET regcrm.mode = record;
	INSERT INTO regcrm.deal (id, stage, created_at) VALUES (1, 'new', now() - interval '3 days');
	INSERT INTO regcrm.event (deal_id, at, kind, from_stage, to_stage) VALUES (1, now() - interval '2 days', 'stage', 'new', 'won');
});
caught_up();
is($subscriber->safe_psql('postgres', q{SELECT stage, (SELECT count(*) FROM regcrm.event WHERE kind = 'stage') FROM regcrm.deal}),
	'won|2', 'facts arrive as they were written: no event is appended a second time');
is(broken($subscriber), '', 'nothing is judged where they are applied');
is($subscriber->safe_psql('postgres', 'SELECT (j).changed FROM regcrm.rejudge() j'), '1', 'rejudge() there finds it');
is(broken($subscriber), broken($publisher), 'and says what the publisher says');
like(broken($publisher), qr/1 FLOW.*1 WON-1/, 'which is something');

# SQL at the subscriber is judged like any other.  Sequences are not replicated: who writes there sets them apart.
$subscriber->safe_psql('postgres', "ALTER TABLE regcrm.$_ ALTER id RESTART WITH 5000000000000000000") for qw(deal task event);
my ($rc, $out, $err) = $subscriber->psql('postgres', q{INSERT INTO regcrm.deal (id, stage) VALUES (2, 'won')});
like($err, qr/may not enter stage "won"/, 'a write at the subscriber meets the gate');

# A rule changed at the publisher: a session of the subscriber that had judged by the old one.
my $judged = q{SELECT 'NEW-2 found ' || count(*) FROM regcrm.judge(1, 1) WHERE rule = 'NEW-2'};
my ($said, $complained) = ('', '');
my $session = IPC::Run::start([ 'psql', '-X', '-At', '-d', $subscriber->connstr('postgres'), '-c', $judged,
		'-c', q{DO $$BEGIN FOR i IN 1 .. 600 LOOP EXIT WHEN NOT (SELECT enabled FROM regcrm.rule WHERE code = 'NEW-2');
			PERFORM pg_sleep(0.1); END LOOP; END$$}, '-c', $judged ],
	'>', \$said, '2>', \$complained, IPC::Run::timeout(120));
$session->pump until $said =~ /found/;
$publisher->safe_psql('postgres', q{UPDATE regcrm.rule SET enabled = false WHERE code = 'NEW-2'});
$session->finish;
is($said, "NEW-2 found 1\nDO\nNEW-2 found 0\n", 'a session judges by a rule, and no longer once replication has switched it off')
	or diag($complained);

unlike(slurp_file($subscriber->logfile), qr/ERROR:  (?!.*may not enter)(?!.*violates)/, 'the apply worker had no error')
	or diag(join "\n", grep { /ERROR/ } split /\n/, slurp_file($subscriber->logfile));

$subscriber->stop;
$publisher->stop;
done_testing();
