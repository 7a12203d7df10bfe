# What the API may answer instead of a page: each answer ends in another try,
# in quarantine or in a failure that says what it was, and never in a lost row
# or a worker that dies.  Afterwards the account is read to its end all the same.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;

my $sim = Sim->start('--days', 2, '--deals', 40, '--rate', 0, '--raw-oddities');
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('bad_answers');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
regcrm.allow_http = on
regcrm.requests_per_second = 50
regcrm.http_timeout = 3s
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
$node->safe_psql('postgres', "CALL regcrm.connect('$url', token => 'token')");

my ($status, $out, $err);

sub state_of
{
	return $node->safe_psql('postgres', 'SELECT state FROM regcrm.account');
}

sub known_until
{
	return $node->safe_psql('postgres', 'SELECT known_until FROM regcrm.account');
}

# ---- lead names that are no text: quarantined, their neighbours stored

$node->safe_psql('postgres', 'CALL regcrm.sync()');
my $leads = $sim->stats->{shown}{lead};
my $quarantined = $node->safe_psql('postgres', q{SELECT count(DISTINCT body) FROM regcrm.quarantine WHERE entity = 'leads' AND body IS NOT NULL});
cmp_ok($quarantined, '>', 0, 'a NUL and half a surrogate pair go to quarantine as bytes');
is($node->safe_psql('postgres', 'SELECT count(*) FROM regcrm.deal'), $leads - $quarantined,
	'their neighbours are stored');
is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM regcrm.quarantine
		WHERE entity = 'leads' AND body IS NOT NULL AND encode(body, 'escape') !~ '^\{.*"id": ?\d+.*\}$'}),
	'0', 'each a whole element');
is(known_until() ne '-infinity', 1, 'and the pass is complete');

# ---- once: tried again, and all is well

for my $kind (qw(429 500 504 html garbage cut reset))
{
	$sim->advance(3600);
	my $before = known_until();
	$sim->faults({ kind => $kind, path => '/leads', skip => 1 }, { kind => $kind, path => '/events' });
	$status = $node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
	is($status, 0, "$kind once: the pass goes on") or diag $err;
	isnt(known_until(), $before, "$kind once: and reaches its end");
	is(state_of(), 'ok', "$kind once: nothing to tell");
	$sim->no_faults;
}

# ---- always: the pass says so, known_until stays, the next pass makes up for it

for my $case (
	[ '429' => qr/HTTP 429/, 'ok' ],
	[ '504' => qr/HTTP 504.*504 Gateway Time-out/, 'ok' ],
	[ garbage => qr/could not be read: .*invalid byte sequence/, 'ok' ],
	[ cut => qr/could not be read: /, 'ok' ],
	[ reset => qr/no answer: /, 'ok' ],
	[ '403' => qr/HTTP 403.*403 Forbidden/, 'blocked' ])
{
	my ($kind, $message, $state) = @$case;
	$sim->advance(3600);
	my $before = known_until();
	my $deals = $node->safe_psql('postgres', 'SELECT count(*) FROM regcrm.deal');
	$sim->faults({ kind => $kind, path => '/tasks', count => 1000 });
	$status = $node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
	isnt($status, 0, "$kind for ever: an error");
	like($err, $message, "$kind for ever: which says what");
	like($err, qr/tasks: /, "$kind for ever: and of what");
	is(known_until(), $before, "$kind for ever: known_until stays");
	is(state_of(), $state, "$kind for ever: state of the account");
	like( $node->safe_psql('postgres', q{
			SELECT last_error FROM regcrm.sync_state WHERE last_error IS NOT NULL AND next_try_at > clock_timestamp() LIMIT 1}),
		qr/./, "$kind for ever: written down, with a time for the next try");
	cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM regcrm.deal'), '>=', $deals,
		"$kind for ever: nothing is lost");
	$sim->no_faults;
	$node->safe_psql('postgres', 'CALL regcrm.sync()');
	isnt(known_until(), $before, "$kind for ever: the next pass makes up for it");
	is(state_of(), 'ok', "$kind for ever: and the state is good again");
}

# ---- one feed that fails does not stop the others

$sim->advance(3600);
$sim->faults({ kind => 'cut', path => '/contacts', count => 1000 });
$node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
like($err, qr/contacts: /, 'contacts fail');
is( $node->safe_psql('postgres', q{
		SELECT string_agg(entity, ',' ORDER BY entity) FROM regcrm.sync_state WHERE last_error IS NOT NULL AND entity <> 'pass'}),
	'contact_notes,contacts', 'and nothing else');
is( $node->safe_psql('postgres', q{
		SELECT e.done_to > c.done_to FROM regcrm.sync_state e, regcrm.sync_state c WHERE e.entity = 'events' AND c.entity = 'contacts'}),
	't', 'events are read on');
$sim->no_faults;
$node->safe_psql('postgres', 'CALL regcrm.sync()');

# ---- nothing there: 204, and 200 without a body

for my $kind (qw(204 empty))
{
	$sim->advance(600);
	$sim->faults({ kind => $kind, path => '/tasks' }, { kind => $kind, path => '/companies/notes' });
	is($node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err), 0, "$kind is an empty list") or diag $err;
	$sim->no_faults;
}

# ---- a very slow answer, and one too large

$sim->advance(600);
$sim->faults({ kind => 'delay', path => '/tasks', seconds => 8, count => 1000 });
$node->psql('postgres', 'SET regcrm.http_timeout = 500; CALL regcrm.sync()', stderr => \$err);
like($err, qr/tasks: no answer: .*timed out/i, 'a request has an end');
$sim->no_faults;

$node->psql('postgres', 'SET regcrm.max_response_size = 3; CALL regcrm.sync()', stderr => \$err);
like($err, qr/larger than regcrm.max_response_size/, 'and so has an answer');
$node->safe_psql('postgres', 'CALL regcrm.sync()');

# ---- nobody there

$sim->stop;
$node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
like($err, qr/no answer: .*(refused|connect)/i, 'no simulator, no answer');

done_testing();
