# A request that hangs: what the server can do meanwhile, and how it ends.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(time);

my $sim = Sim->start('--days', 1, '--deals', 10, '--rate', 0);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('hung');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
regcrm.allow_http = on
regcrm.requests_per_second = 50
regcrm.http_timeout = 60s
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
$node->safe_psql('postgres', "CALL regcrm.connect('$url', token => 'token')");
$node->safe_psql('postgres', 'CALL regcrm.sync()');

my ($out, $err);
my $waiting = q{state = 'active' AND query LIKE 'CALL regcrm.sync%' AND wait_event_type = 'Extension'};

sub hang
{
	$sim->no_faults;
	$sim->advance(600);
	$sim->faults({ kind => 'delay', path => '/tasks', seconds => 20 });
	my $psql = $node->background_psql('postgres', on_error_stop => 0);
	$psql->query_until(qr//, "\\set VERBOSITY sqlstate\nCALL regcrm.sync();\n");
	$node->poll_query_until('postgres',
		qq{SELECT count(*) = 1 FROM pg_stat_activity WHERE $waiting})
	  or die 'it does not hang';
	return $psql;
}

# ---- what it holds

my $psql = hang();
is( $node->safe_psql('postgres', qq{SELECT backend_xmin IS NULL, backend_xid IS NULL FROM pg_stat_activity WHERE $waiting}),
	't|t', 'no snapshot and no transaction id while a request is under way');
is( $node->safe_psql('postgres', qq{
		SELECT string_agg(DISTINCT locktype, ',') FROM pg_locks
		WHERE pid = (SELECT pid FROM pg_stat_activity WHERE $waiting) AND locktype <> 'virtualxid'}),
	'advisory', 'no lock but the advisory one');
my $begin = time;
$node->safe_psql('postgres', q{SET statement_timeout = '10s'; CREATE DATABASE other});
$node->safe_psql('postgres', q{SET statement_timeout = '10s'; DROP DATABASE other});
$node->safe_psql('postgres', q{SET statement_timeout = '10s'; VACUUM regcrm.deal; TRUNCATE regcrm.contact});
cmp_ok(time - $begin, '<', 10, 'databases are dropped and tables truncated meanwhile');

# ---- cancel

$begin = time;
$node->safe_psql('postgres', "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE $waiting");
$node->poll_query_until('postgres', qq{SELECT count(*) = 0 FROM pg_stat_activity WHERE $waiting});
cmp_ok(time - $begin, '<', 2, 'a cancel is served at once');
is($psql->query('SELECT 42'), 42, 'the session lives on');
like($psql->{stderr}, qr/57014/, 'and was told that it was cancelled');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}),
	'0', 'the account is free');
$psql->quit;
is($node->safe_psql('postgres', q{SELECT count(*) FROM regcrm.sync_state WHERE page IS NOT NULL AND entity <> 'tasks'}),
	'0', 'what was read before is kept');

# ---- statement_timeout

$sim->no_faults;
$sim->faults({ kind => 'delay', path => '/tasks', seconds => 20 });
$begin = time;
$node->psql('postgres', q{SET statement_timeout = '1500ms'; CALL regcrm.sync()}, stderr => \$err);
like($err, qr/canceling statement due to statement timeout/, 'statement_timeout is obeyed');
cmp_ok(time - $begin, '<', 4, 'in time');

# ---- terminate

$psql = hang();
$begin = time;
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE $waiting");
$node->poll_query_until('postgres', qq{SELECT count(*) = 0 FROM pg_stat_activity WHERE $waiting});
cmp_ok(time - $begin, '<', 2, 'a backend that waits can be terminated');
eval { $psql->quit };

# ---- many cancels leave no descriptor and no memory behind

$psql = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $psql->query_safe('SELECT pg_backend_pid()');
my ($files, $memory);
for my $round (1 .. 30)
{
	$sim->no_faults;
	$sim->faults({ kind => 'delay', path => '/account', seconds => 20 });
	$psql->query_until(qr/done/, "SET statement_timeout = 60;\nCALL regcrm.sync();\nRESET statement_timeout;\n\\echo done\n");
	next if $round != 5 && $round != 30;
	my $now = grep { (readlink($_) || '') =~ /^(socket|anon_inode|pipe)/ } glob "/proc/$pid/fd/*";
	my $bytes = $psql->query(q{SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name LIKE 'regcrm%'}) || 0;
	($files, $memory) = ($now, $bytes) if $round == 5;
	is($now, $files, 'as many open sockets after thirty cancelled requests as after five') if $round == 30;
	is($bytes, $memory, 'and as much memory') if $round == 30;
}
$psql->quit;

# ---- and after all that

$sim->no_faults;
$node->safe_psql('postgres', 'CALL regcrm.sync()');
is( $node->safe_psql('postgres', q{SELECT count(*) FROM regcrm.sync_state WHERE page IS NOT NULL OR last_error IS NOT NULL}),
	'0', 'the next pass goes to its end');

done_testing();
