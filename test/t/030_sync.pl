# CALL regcrm.connect() and CALL regcrm.sync() against the simulator: what is
# read, where the cursors stand, how fast it asks, where it may be called, and
# that no log holds the token.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;

my $token = 'canary_4f1d6b0e2a';
my $sim = Sim->start('--days', 3, '--deals', 60, '--token', $token);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('sync');
$node->init;
# What a statement holds is the statement log's business; everything else is ours.
$node->append_conf('postgresql.conf', <<'END');
regcrm.allow_http = on
log_statement = none
log_min_messages = debug2
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');

my ($out, $err);

# ---- connect

$node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
like($err, qr/no account is connected to amoCRM/, 'nothing to sync before connect()');

for my $bad (
	[ 'https://user:x@example.amocrm.ru', qr/must not hold a user name/ ],
	[ 'https://example.amocrm.ru/api', qr/must end after the host/ ],
	[ 'http://example.amocrm.ru', qr/only go to this machine/ ],
	[ 'file:///etc/passwd', qr/must look like|must be https/ ],
	[ 'nonsense with blanks', qr/must look like/ ])
{
	$node->psql('postgres', "CALL regcrm.connect('$bad->[0]', token => 'x')", stderr => \$err);
	like($err, $bad->[1], "refused: $bad->[0]");
}
$node->psql('postgres', "CALL regcrm.connect('$url')", stderr => \$err);
like($err, qr/one way to authorize must be given/, 'no way to authorize');
$node->psql('postgres', "CALL regcrm.connect('$url', token => 'wrong_canary_token')", stderr => \$err);
like($err, qr/could not connect to .*amoCRM does not accept the token/, 'a wrong token');
is($node->safe_psql('postgres', 'SELECT count(*) FROM regcrm.secret'), '0', 'and it is not kept');
$node->psql('postgres', "CALL regcrm.connect('$url', token => '$token', account_id => 5)", stderr => \$err);
like($err, qr/is account 30111222, not 5/, 'the number given is checked');
$node->psql('postgres', "BEGIN; CALL regcrm.connect('$url', token => '$token')", stderr => \$err);
like($err, qr/cannot run inside a transaction block/, 'connect() in a transaction block');

my $file = "$PostgreSQL::Test::Utils::tmp_check/token";
append_to_file($file, "$token\n");
$out = $node->safe_psql('postgres', "CALL regcrm.connect('$url', token_file => '$file')");
is($out, '30111222', 'connect() returns the number that amoCRM gives');
$node->psql('postgres', "CALL regcrm.connect('$url', token => '$token', account_id => null)",
	stdout => \$out, stderr => \$err);
is($out, '30111222', 'connect() again renews the token');
like($err, qr/WARNING.*a secret stands in the text/, 'a token in the statement brings a warning');
is( $node->safe_psql('postgres',
		q{SELECT id, time_zone, calendar, known_until, state, subdomain FROM regcrm.account}),
	'30111222|Europe/Moscow|daily-9-20|-infinity|ok|avtoshkola',
	'the account is registered');
is($node->safe_psql('postgres', 'SELECT string_agg(account_id::text, $$,$$) FROM regcrm.secret'),
	'30111222', 'the token is stored under its number alone');

# ---- where sync() may be called

for my $where (
	[ 'a transaction block' => 'BEGIN; CALL regcrm.sync()' ],
	[ 'several statements at once' => '\;CALL regcrm.sync()' ])
{
	$node->psql('postgres', $where->[1] =~ s/^\\;/SELECT 1\\;/r, stderr => \$err);
	like($err, qr/cannot run inside a transaction block/, "sync() in $where->[0]");
}
$node->psql('postgres', q{
	CREATE FUNCTION public.f() RETURNS void LANGUAGE plpgsql AS 'BEGIN CALL regcrm.sync(); END';
	SELECT public.f()}, stderr => \$err);
like($err, qr/cannot run inside a transaction block/, 'sync() from a function');
$node->safe_psql('postgres', 'CREATE ROLE nobody_much; GRANT USAGE ON SCHEMA regcrm TO nobody_much');
$node->psql('postgres', "SET ROLE nobody_much; CALL regcrm.sync()", stderr => \$err);
like($err, qr/permission denied for procedure/, 'sync() is not for PUBLIC');
$node->psql('postgres', "SET ROLE nobody_much; CALL regcrm.connect('$url', token => 'x')", stderr => \$err);
like($err, qr/permission denied for procedure/, 'nor is connect()');

# ---- the first load

my $before = $sim->stats->{requests};
$node->safe_psql('postgres', 'CALL regcrm.sync()');
my $stats = $sim->stats;
my $first = $stats->{requests} - $before;
note "first load: $first requests";
cmp_ok($stats->{most_in_a_second}, '<=', 7, 'never more than seven requests in a second');
is($stats->{refused_429}, 0, 'and none refused');
my $shown = $stats->{shown};

# What the same lists need at least: a page holds 250 rows, of events 100.
my $least = 1 + 4 + 1;    # account; dictionaries; companies' notes
$least += int(($_->[0] + $_->[1] - 1) / $_->[1]) || 1
  for [ $shown->{lead}, 250 ], [ 0, 250 ], [ $shown->{contact}, 250 ], [ $shown->{task}, 250 ],
  [ $shown->{note}, 250 ], [ 0, 250 ], [ $shown->{event}, 100 ];
note "at least $least";
# History comes in stretches, whose last pages are not full; how many events a page holds is tried once;
# amoCRM's clock and the end of a list of history that says "nothing" are asked for twice.
my $twice = 1 + 3;
cmp_ok($first, '<=', $least + 8 + $twice, 'a first load asks for little more than there is');

is( $node->safe_psql('postgres',
		'SELECT count(*) FROM regcrm.sync_state WHERE page IS NOT NULL OR last_error IS NOT NULL'),
	'0', 'no window is open, no error stands');
is( $node->safe_psql('postgres', q{
		SELECT bool_and(a.known_until = s.done_to) AND count(*) = 8
		FROM regcrm.account a JOIN regcrm.sync_state s ON s.account_id = a.id
		WHERE s.entity IN ('leads', 'leads_deleted', 'contacts', 'tasks', 'lead_notes', 'contact_notes', 'company_notes', 'events')}),
	't', 'known_until is what all feeds have reached');
is($node->safe_psql('postgres', 'SELECT extract(epoch FROM known_until)::bigint FROM regcrm.account') ,
	$stats->{now} - 5, 'by the clock of amoCRM');
is($node->safe_psql('postgres', 'SELECT known_from < known_until FROM regcrm.account'),
	't', 'known_from is where history begins');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM regcrm.deal'), '>=', 58, 'the deals are there');

# ---- what comes later

$sim->advance(4 * 3600 * 6);
$before = $sim->stats->{requests};
$node->safe_psql('postgres', 'CALL regcrm.sync(30111222)');
$stats = $sim->stats;
note 'a day later: ' . ($stats->{requests} - $before) . ' requests';
is($node->safe_psql('postgres', 'SELECT extract(epoch FROM known_until)::bigint FROM regcrm.account'),
	$stats->{now} - 5, 'the next pass goes on');
$before = $stats->{requests};
$sim->advance(60);
$node->safe_psql('postgres', 'CALL regcrm.sync()');
$stats = $sim->stats;
cmp_ok($stats->{requests} - $before, '<=', 16, 'a pass with nothing new is short');
cmp_ok($stats->{most_in_a_second}, '<=', 7, 'never more than seven requests in a second');

# ---- two at once

$sim->faults({ kind => 'delay', path => '/account', seconds => 3 });
my $slow = $node->background_psql('postgres');
$slow->query_until(qr//, "CALL regcrm.sync();\n");
$node->poll_query_until('postgres',
	q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 7 AND granted});
$node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
like($err, qr/is being synced by another process/, 'a second pass finds the account busy');
$slow->quit;
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}),
	'0', 'the lock goes with the session');

# ---- a hostile path

$node->safe_psql('postgres', q{
	CREATE SCHEMA evil;
	CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE 'evil'; END$$;
	CREATE FUNCTION evil.max(timestamptz) RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE 'evil'; END$$;
	CREATE FUNCTION evil.eq(bigint, bigint) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE 'evil'; END$$;
	CREATE OPERATOR evil.= (FUNCTION = evil.eq, LEFTARG = bigint, RIGHTARG = bigint)});
$node->safe_psql('postgres', 'SET search_path = evil, pg_catalog, public; CALL regcrm.sync()');
pass('a search_path of the session does not matter');

# ---- no log holds the token

my $log = slurp_file($node->logfile);
ok($log !~ /\Q$token\E|wrong_canary_token/, 'no token in the log, errors of connect() included');

done_testing();
