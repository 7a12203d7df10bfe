# OAuth: a code is exchanged once, a refresh token is used once, the new pair
# is on disk before it is used, and where access is lost the account says so
# and is left alone.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;

my $secret = 'canary_secret_77aa';
my $code = 'canary_code_88bb';
my $sim = Sim->start('--days', 1, '--deals', 10, '--rate', 0,
	'--client-id', 'id1', '--client-secret', $secret, '--code', $code);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('tokens');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
regcrm.allow_http = on
regcrm.requests_per_second = 50
log_statement = none
log_min_messages = debug2
synchronous_commit = off
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');

my ($out, $err);
my $connect = "CALL regcrm.connect('$url', client_id => 'id1', client_secret => '$secret', code => '$code',"
  . " redirect_uri => 'https://example.com/cb')";

sub tokens { return $node->safe_psql('postgres', 'SELECT access_token, refresh_token FROM regcrm.secret'); }
sub exchanges { return $sim->stats->{tokens}{exchanges}; }
sub state_of { return $node->safe_psql('postgres', 'SELECT state FROM regcrm.account'); }

# ---- connect by code

$node->psql('postgres', $connect =~ s/$secret/wrong_canary/r, stderr => \$err);
like($err, qr/amoCRM does not give new tokens: HTTP 401/, 'a wrong client secret');
is($node->safe_psql('postgres', 'SELECT count(*) FROM regcrm.secret'), '0', 'leaves nothing behind');

# The exchange succeeds and what follows does not: the code is used up.
$sim->faults({ kind => '403', path => '/account', count => 10 });
$node->psql('postgres', $connect, stderr => \$err);
like($err, qr/could not connect.*HTTP 403/, 'the API is out of reach after the exchange');
like($err, qr/The tokens are kept/, 'and the error says that the tokens are not lost');
is(exchanges(), 2, 'two exchanges so far');
$sim->no_faults;
is($node->safe_psql('postgres', $connect), '30111222', 'the same call again succeeds');
is(exchanges(), 2, 'without another exchange');
is($node->safe_psql('postgres', 'SELECT account_id, client_id, expires_at > now() FROM regcrm.secret'),
	'30111222|id1|t', 'the pair is stored under the number of the account');

# ---- a token that ended is renewed once

$node->safe_psql('postgres', 'CALL regcrm.sync()');
is(exchanges(), 2, 'a good token is not renewed');
my $old = tokens();
$sim->expire;
$node->safe_psql('postgres', 'CALL regcrm.sync()');
is(exchanges(), 3, 'after a 401 the token is renewed once');
isnt(tokens(), $old, 'and the new pair is stored');
$node->safe_psql('postgres', q{UPDATE regcrm.secret SET expires_at = now() + interval '1 minute'});
$node->safe_psql('postgres', 'CALL regcrm.sync()');
is(exchanges(), 4, 'a token about to end is renewed before it does');

# Two at once, both with a token that ended: one works, one finds it busy.
$sim->expire;
$sim->faults({ kind => 'delay', path => '/oauth2', seconds => 2 });
my $first = $node->background_psql('postgres', on_error_stop => 0);
$first->query_until(qr//, "CALL regcrm.sync();\n");
$node->poll_query_until('postgres',
	q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 7});
$node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
like($err, qr/is being synced by another process/, 'the second finds the account busy');
$first->quit;
is(exchanges(), 5, 'the simulator has seen one exchange');
is($sim->stats->{tokens}{refused}, 0, 'and no token twice');

# ---- lost: the exchange is carried out, its answer never comes

$sim->expire;
$sim->faults({ kind => 'reset', path => '/oauth2' });
$old = tokens();
$node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
like($err, qr/could not exchange tokens/, 'an answer that never comes');
is(exchanges(), 6, 'is not asked for again in the same pass');
is(tokens(), $old, 'the old pair is kept');
is(state_of(), 'ok', 'what became of it is not known yet');
$sim->no_faults;
$node->psql('postgres', 'CALL regcrm.sync()', stderr => \$err);
like($err, qr/amoCRM does not give new tokens: HTTP 401/, 'the next pass finds out');
like($err, qr/HINT:.*connect/, 'and says what to do');
is(state_of(), 'needs_connect', 'the account waits for a person');

# ---- a person acts

$node->safe_psql('postgres', "CALL regcrm.connect('$url', token => 'token')");
is(state_of(), 'ok', 'connect() again');
$node->safe_psql('postgres', 'CALL regcrm.sync()');
is($node->safe_psql('postgres', 'SELECT refresh_token IS NULL, client_id IS NULL FROM regcrm.secret'),
	't|t', 'of the old secrets nothing is left');

# ---- the address belongs to somebody else now

$node->safe_psql('postgres', q{
	INSERT INTO regcrm.account (id, base_url, known_until) SELECT 77, base_url, '-infinity' FROM regcrm.account;
	INSERT INTO regcrm.secret (account_id, access_token) VALUES (77, 'token')});
$node->psql('postgres', 'CALL regcrm.sync(77)', stderr => \$err);
like($err, qr/now belong to account 30111222/, 'another account answers');

# ---- who may see

$node->safe_psql('postgres', q{CREATE ROLE reader; GRANT USAGE ON SCHEMA regcrm TO reader;
	GRANT SELECT ON ALL TABLES IN SCHEMA regcrm TO reader; REVOKE ALL ON regcrm.secret FROM reader});
$node->psql('postgres', 'SET ROLE reader; SELECT * FROM regcrm.secret', stderr => \$err);
like($err, qr/permission denied/, 'a reader does not see the secrets');
my $seen = join "\n", map { $node->safe_psql('postgres', "SELECT s::text FROM regcrm.$_ s") } qw(account sync_state quarantine);
ok($seen !~ /eyJ0eXAi|def502|$secret|$code/, 'no table that a reader sees holds one');
my ($dump) = run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
ok($dump =~ /CREATE EXTENSION/ && $dump !~ /eyJ0eXAi|def502|$secret|$code/, 'nor does a dump');
ok(slurp_file($node->logfile) !~ /eyJ0eXAi|def502|$secret|$code|wrong_canary/, 'nor does the log');

done_testing();
