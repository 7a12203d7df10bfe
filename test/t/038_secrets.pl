# A token is shown to nobody, whatever the server is told to log, count or show,
# whoever looks, and whichever way the token came (hazards X6); and what opens a
# door (mode, allow_http) opens it on no other way either (hazards X7).

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;

my %canary = (
	file => 'canary_file_3a91', inbox => 'canary_inbox_4b82',
	id => 'canary_id_ok', secret => 'canary_secret_6d64', code => 'canary_code_7e55');
my $sim = Sim->start('--days', 1, '--deals', 10, '--rate', 0,
	'--client-id', $canary{id}, '--client-secret', $canary{secret}, '--code', $canary{code});
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('secrets');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'pg_stat_statements, regcrm'
pg_stat_statements.track = all
pg_stat_statements.track_utility = on
regcrm.sync_interval = 1s
regcrm.allow_http = on
regcrm.requests_per_second = 50
log_statement = all
log_min_messages = debug5
log_min_duration_statement = 0
log_error_verbosity = verbose
log_parameter_max_length = -1
log_parameter_max_length_on_error = -1
debug_print_parse = on
debug_print_plan = on
track_activity_query_size = 16384
END
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION pg_stat_statements;
	CREATE EXTENSION regcrm;
	SELECT regcrm.setup();
	CREATE ROLE looker LOGIN IN ROLE pg_read_all_stats, pg_monitor;
	SELECT regcrm.grant_access('looker', 'reader');
	GRANT SELECT ON ALL TABLES IN SCHEMA regcrm TO looker;
	REVOKE ALL ON regcrm.secret, regcrm.inbox FROM looker});

my ($out, $err, $told) = ('', '', '');
my $tmp = $PostgreSQL::Test::Utils::tmp_check;

# the lines of an error, without the plans around it
sub errors { return diag(join "\n", grep { /ERROR|HINT/ } split /\n/, $err); }

sub call
{
	my ($sql) = @_;
	my $code = $node->psql('postgres', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	$told .= "$out\n$err\n";
	return $code;
}

# ---- three ways for a token to come, none of which stands in a statement

$sim->token($canary{$_}) for qw(file inbox);
append_to_file("$tmp/secrets_token", "$canary{file}\n");
is(call("SET client_min_messages = debug1; CALL regcrm.connect('$url', token_file => '$tmp/secrets_token')"), 0, 'a token from a file')
  or errors();
append_to_file("$tmp/secrets_token.tsv", "$url\t$canary{inbox}\n");
is(call("\\copy regcrm.inbox (base_url, token) from '$tmp/secrets_token.tsv'\nSET client_min_messages = debug1; CALL regcrm.connect('$url')"), 0,
	'a token by the inbox') or errors();
append_to_file("$tmp/secrets_client.tsv", "$url\t$canary{id}\t$canary{secret}\t$canary{code}\thttps://example.com/cb\n");
is(call("\\copy regcrm.inbox (base_url, client_id, client_secret, code, redirect_uri) from '$tmp/secrets_client.tsv'\n"
		. "SET client_min_messages = debug1; CALL regcrm.connect('$url')"), 0, 'OAuth by the inbox') or errors();
is(call('SET client_min_messages = debug1; CALL regcrm.sync(30111222)'), 0, 'a pass') or errors();
$sim->expire;
call('SET client_min_messages = debug1; CALL regcrm.sync(30111222)');
is($sim->stats->{tokens}{exchanges}, 2, 'and one with a refresh');

# ---- and ways for it to go wrong

append_to_file("$tmp/secrets_bad.tsv", "$url\t$canary{inbox}_wrong\n");
$sim->faults({ kind => '403json', path => '/account', count => 5 });
isnt(call("\\copy regcrm.inbox (base_url, token) from '$tmp/secrets_bad.tsv'\nCALL regcrm.connect('$url')"), 0, 'a token that is not taken');
$sim->faults({ kind => '500', path => '/oauth2', count => 5 });
$sim->expire;
call('CALL regcrm.sync(30111222)');
$sim->no_faults;
$node->append_conf('postgresql.conf', "regcrm.databases = 'postgres'\n");
$node->reload;
$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm sync'});

# ---- who looks where

my $secrets = $node->safe_psql('postgres', 'SELECT access_token || chr(10) || refresh_token FROM regcrm.secret');
my @words = (map({ $canary{$_} } grep { $_ ne 'id' } sort keys %canary), split /\n/, $secrets);
cmp_ok(scalar(@words), '>=', 6, 'the words to look for: what was given, and the pair that is stored now');
my $needle = join '|', map { quotemeta } @words;

sub clean { my ($text, $where) = @_; ok($text !~ /($needle)/, "no secret in $where") or diag "found $1"; return; }

my $log = slurp_file($node->logfile);
cmp_ok(length $log, '>', 100_000, 'the log is talkative');
like($log, qr/regcrm sync/, '... and tells of the worker');
clean($log, 'the log, at debug5 with all statements, plans and parameters');
clean($told, 'what sessions are told');
clean($node->safe_psql('postgres', 'SELECT query FROM pg_stat_statements'), 'pg_stat_statements');
like($node->safe_psql('postgres', 'SELECT query FROM pg_stat_statements'), qr/regcrm\.secret/, '... which has seen the statements on the table');
clean($node->safe_psql('postgres', 'SELECT * FROM pg_stat_activity'), 'pg_stat_activity');

# every table and view that a reader may read, whole
my $seen = '';
for my $relation (split /\n/, $node->safe_psql('postgres', q{
		SELECT oid::regclass FROM pg_class
		WHERE relnamespace = 'regcrm'::regnamespace AND relkind IN ('r', 'v', 'm', 'p')
		  AND has_table_privilege('looker', oid, 'select') ORDER BY 1}))
{
	$seen .= $node->safe_psql('postgres', "SET regcrm.account_id = 30111222; SELECT x::text FROM $relation x", extra_params => [ '-U', 'looker' ]);
}
cmp_ok(length $seen, '>', 100_000, 'a reader sees much');
clean($seen, 'what a reader sees');
for my $table (qw(secret inbox))
{
	isnt($node->psql('postgres', "SELECT * FROM regcrm.$table", stderr => \$err, extra_params => [ '-U', 'looker' ]), 0, "not so regcrm.$table");
	like($err, qr/permission denied/, '... and that is why');
}
my ($dump) = run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
like($dump, qr/COPY regcrm\.deal /, 'a dump has the deals');
clean($dump, 'a dump');

# ---- a door is a door on every way to it

$node->append_conf('postgresql.conf', <<'END');
log_statement = none
log_min_messages = warning
log_min_duration_statement = -1
debug_print_parse = off
debug_print_plan = off
END
$node->reload;
$node->safe_psql('postgres', q{
	CREATE ROLE nobody_special LOGIN;
	CREATE DATABASE its_own OWNER nobody_special;
	GRANT CREATE ON SCHEMA public TO nobody_special});
for my $door ([ 'regcrm.mode', 'record', 'enforce' ], [ 'regcrm.mode', 'off', 'enforce' ], [ 'regcrm.allow_http', 'on', undef ])
{
	my ($name, $value, $shut) = @$door;
	my $was = $node->safe_psql('postgres', "SELECT regcrm.fold_name('a'); SHOW $name") =~ s/^a\n//r;
	my $show = "SELECT regcrm.fold_name('a'); SHOW $name";
	my %way = (
		'SET' => "SET $name = $value; $show",
		'SET LOCAL' => "BEGIN; SET LOCAL $name = $value; $show",
		'set_config()' => "SELECT set_config('$name', '$value', false); $show",
		'UPDATE pg_settings' => "UPDATE pg_settings SET setting = '$value' WHERE name = '$name'; $show",
		'ALTER ROLE' => "ALTER ROLE nobody_special SET $name = $value; \\c -\n$show",
		'ALTER ROLE IN DATABASE' => "ALTER ROLE nobody_special IN DATABASE its_own SET $name = $value; \\c its_own\nLOAD 'regcrm'; SHOW $name",
		'ALTER DATABASE' => "ALTER DATABASE its_own SET $name = $value; \\c its_own\nSHOW $name",
		'a function\'s SET' => "CREATE FUNCTION public.opens() RETURNS text LANGUAGE sql SET $name = $value AS 'SELECT current_setting(''$name'')'; SELECT public.opens()",
		'a startup option' => [ "-c $name=$value", $show ]);
	for my $way (sort keys %way)
	{
		my ($options, $sql) = ref $way{$way} ? @{ $way{$way} } : ('', $way{$way});
		local $ENV{PGOPTIONS} = $options;
		$node->psql('postgres', $sql, stdout => \$out, stderr => \$err,
			on_error_stop => 0, extra_params => [ '-U', 'nobody_special', '-v', 'VERBOSITY=verbose' ]);
		my ($last) = ($out // '') =~ /([^\n]*)\n*\z/;
		my $open = defined $last && $last eq $value && $value ne $was;
		# allow_http is on in this server's file: there the refusal itself is looked at
		ok(!$open && $err =~ /42501|permission denied/, "$name = $value by $way: refused") or diag "out: $out\nerr: $err";
		local $ENV{PGOPTIONS} = '';
		$node->safe_psql('postgres', "ALTER ROLE nobody_special RESET ALL; ALTER ROLE nobody_special IN DATABASE its_own RESET ALL; ALTER DATABASE its_own RESET ALL; DROP FUNCTION IF EXISTS public.opens()");
	}
}

done_testing();
