# Several accounts and what happens to them: one that hangs or is broken holds
# up no other; pause(), resume(), disconnect(); credentials by the inbox; a
# subdomain that is renamed; dictionaries that change; the jobs of pg_cron.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(time);

my $secret = 'canary_inbox_91ff';
my @sims = map { Sim->start('--days', 2, '--deals', 20, '--rate', 7, '--account-id', $_, '--token', $secret . $_) } (101, 102, 103);

my $has_cron = -e "/usr/share/postgresql/15/extension/pg_cron.control"
  || (glob '/usr/share/postgresql/*/extension/pg_cron.control')[0];
my $node = PostgreSQL::Test::Cluster->new('accounts');
$node->init;
$node->append_conf('postgresql.conf', <<'END' . ($has_cron ? "shared_preload_libraries = 'regcrm,pg_cron'\ncron.database_name = 'postgres'\n" : "shared_preload_libraries = 'regcrm'\n"));
regcrm.allow_http = on
regcrm.sync_interval = 2
regcrm.http_timeout = 20
log_statement = none
log_min_messages = debug1
max_worker_processes = 16
END
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE crm');
my ($out, $err);
my $sql = sub { return $node->safe_psql('crm', $_[0]); };
$sql->('CREATE EXTENSION regcrm; SELECT regcrm.setup()');

# ---- the inbox

my $file = "$PostgreSQL::Test::Utils::tmp_check/inbox";
append_to_file($file, join '', map { $sims[$_]->url . "\t$secret" . (101 + $_) . "\n" } 0 .. 2);
$node->safe_psql('crm', "\\copy regcrm.inbox (base_url, token) FROM '$file'");
for my $i (0 .. 2)
{
	$node->psql('crm', "CALL regcrm.connect('" . $sims[$i]->url . "')", stdout => \$out, stderr => \$err);
	is($out, 101 + $i, "connect() takes the token of account $out from the inbox");
	unlike($err, qr/WARNING/, 'and warns of nothing');
}
is($sql->('SELECT count(*) FROM regcrm.inbox'), '0', 'which then is empty');
$node->psql('crm', "CALL regcrm.connect('" . $sims[0]->url . "')", stderr => \$err);
like($err, qr/one way to authorize must be given.*regcrm\.inbox/s, 'with nothing there it says what to do');
$sql->('CREATE ROLE writer; GRANT USAGE ON SCHEMA regcrm TO writer; GRANT INSERT ON regcrm.inbox TO writer');
$node->psql('crm', "SET ROLE writer; INSERT INTO regcrm.inbox (base_url, token) VALUES ('https://x.amocrm.ru', 'x'); SELECT * FROM regcrm.inbox", stderr => \$err);
like($err, qr/permission denied for table inbox/, 'who may write there may not read');
like($node->safe_psql('crm', q{SELECT string_agg(x, ' ') FROM (SELECT 'dumped ' || extconfig::regclass::text AS x FROM (SELECT unnest(extconfig) AS extconfig FROM pg_extension WHERE extname = 'regcrm') e) e}) || '',
	qr/^(?!.*(inbox|secret))/, 'no dump holds it');

# ---- one hangs, one is broken, one works

$sql->('SELECT regcrm.pause(101); SELECT regcrm.pause(102); SELECT regcrm.pause(103)');
$sims[0]->faults({ kind => 'delay', path => '/', seconds => 15, count => 1000 });
$sims[1]->faults({ kind => '403', path => '/', count => 1000 });
$sql->('SELECT regcrm.resume(101); SELECT regcrm.resume(102); SELECT regcrm.resume(103)');
my $began = time;
$sql->('SELECT regcrm.start_workers()');
ok($node->poll_query_until('crm', q{SELECT loaded_at IS NOT NULL FROM regcrm.account WHERE id = 103}),
	'the account that works is loaded');
cmp_ok(time - $began, '<', 30, 'while another hangs');
ok($node->poll_query_until('crm', q{SELECT state = 'blocked' FROM regcrm.account WHERE id = 102}),
	'the one that is blocked says so');
is($sql->(q{SELECT next_try_at > now() + interval '30 minutes' FROM regcrm.sync_status WHERE account_id = 102 AND entity = 'pass'}),
	't', 'and is left alone for long');
my $seen = $sql->(q{SELECT done_to FROM regcrm.sync_state WHERE account_id = 103 AND entity = 'events'});
$sims[2]->advance(60);
ok($node->poll_query_until('crm', "SELECT done_to > '$seen' FROM regcrm.sync_state WHERE account_id = 103 AND entity = 'events'"),
	'the one that works goes on');
is($sql->(q{SELECT count(*) FROM regcrm.deal WHERE account_id = 101}), '0', 'while the other still hangs');
cmp_ok($sims[2]->stats->{most_in_a_second}, '<=', 7, 'at its own pace');
ok($node->poll_query_until('crm', q{SELECT quiet_minute_requests IS NOT NULL FROM regcrm.sync_accounts WHERE account_id = 103}),
	'what a quiet minute takes is told');
is($sql->(q{SELECT quiet_pass_requests FROM regcrm.sync_accounts WHERE account_id = 103}), '9',
	'a quiet pass: the account, and one request for each list');

# ---- pause, resume, disconnect

$sql->('SELECT regcrm.pause(103)');
sleep 3;
my $before = $sims[2]->stats->{requests};
sleep 4;
is($sims[2]->stats->{requests}, $before, 'a paused account is left alone');
$sims[2]->advance(60);
$sql->('CALL regcrm.sync(103)');
cmp_ok($sims[2]->stats->{requests}, '>', $before, 'but for who asks for it by name');
$before = $sims[2]->stats->{requests};
$sql->('SELECT regcrm.resume(103)');
for (1 .. 100) { last if $sims[2]->stats->{requests} > $before; select undef, undef, undef, 0.2; }
cmp_ok($sims[2]->stats->{requests}, '>', $before, 'resume() lets it go on');
$sims[1]->no_faults;
$sql->('SELECT regcrm.resume(102)');
ok($node->poll_query_until('crm', q{SELECT loaded_at IS NOT NULL AND state = 'ok' FROM regcrm.account WHERE id = 102}),
	'resume() ends the wait after a failure');
for my $function (qw(pause resume disconnect))
{
	$node->psql('crm', "SELECT regcrm.$function(5)", stderr => \$err);
	like($err, qr/account 5 is not connected to amoCRM/, "$function() of no account");
}
$sql->('SELECT regcrm.disconnect(102)');
is($sql->('SELECT count(*) FROM regcrm.secret WHERE account_id = 102'), '0', 'disconnect() deletes the token');
cmp_ok($sql->('SELECT count(*) FROM regcrm.deal WHERE account_id = 102'), '>', 5, 'and no fact');
sleep 3;
$before = $sims[1]->stats->{requests};
sleep 4;
is($sims[1]->stats->{requests}, $before, 'nothing is asked any more');
is($sql->('SELECT state FROM regcrm.sync_accounts WHERE account_id = 102'), 'disconnected', 'it says why');
$node->safe_psql('crm', "\\copy regcrm.inbox (base_url, token) FROM '$file'");
$sql->("CALL regcrm.connect('" . $sims[1]->url . "')");
ok($node->poll_query_until('crm', q{SELECT state = 'ok' AND known_until > '-infinity' FROM regcrm.account WHERE id = 102}),
	'connect() goes on');
$sql->('SELECT regcrm.stop_workers()');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'regcrm %' AND datname = 'crm'}), '0',
	'stop_workers() ends those that make a pass, too');
$sims[0]->no_faults;

# ---- dictionaries

$sql->(q{DELETE FROM regcrm.stage_map WHERE account_id = 103; DELETE FROM regcrm.status WHERE account_id = 103;
	INSERT INTO regcrm.pipeline (account_id, id, name) VALUES (103, 999, 'gone')});
$sql->('CALL regcrm.sync(103)');
is($sql->('SELECT deleted_at IS NOT NULL FROM regcrm.pipeline WHERE id = 999'), 't', 'a pipeline that amoCRM no longer lists is gone');
is($sql->('SELECT count(*) FROM regcrm.pipeline WHERE account_id = 103 AND deleted_at IS NULL'), '2', 'the others are not');
is($sql->(q{SELECT regcrm.note_unknown(103, 'leads', jsonb_build_object('_embedded', jsonb_build_object('leads', jsonb_build_array(jsonb_build_object(
	'id', 1, 'pipeline_id', 77, 'status_id', 78, 'updated_at', 4000000000)))));
	SELECT string_agg(entity, ',') FROM regcrm.sync_state WHERE account_id = 103 AND entity IN ('pipelines', 'users') AND done_to IS NULL}) =~ s/.*\n//r,
	'pipelines', 'a lead in an unknown stage has the pipelines read again');

# ---- a renamed subdomain

my $moved = Sim->start('--days', 1, '--deals', 10, '--rate', 0, '--account-id', 104);
$sql->("CALL regcrm.connect('" . $moved->url . "', client_id => 'client', client_secret => 'secret', code => 'code', redirect_uri => 'https://example.com/cb')");
$sql->('CALL regcrm.sync(104)');
$moved->ask('POST', "rename?host=localhost:$moved->{port}");
$moved->advance(60);
$sql->('CALL regcrm.sync(104)');
is($sql->('SELECT base_url, subdomain, state FROM regcrm.account WHERE id = 104'), "http://localhost:$moved->{port}|renamed|ok",
	'an account whose subdomain was renamed is found');
is($sql->('SELECT extract(epoch FROM known_until)::bigint FROM regcrm.account WHERE id = 104'), $moved->stats->{now} - 5,
	'and read there in the same pass');
$moved->ask('POST', "rename?host=127.0.0.1:$moved->{port}");
$moved->expire;
$moved->advance(60);
$sql->(q{UPDATE regcrm.secret SET expires_at = now() WHERE account_id = 104});
$sql->('CALL regcrm.sync(104)');
is($sql->('SELECT base_url, state FROM regcrm.account WHERE id = 104'), "http://127.0.0.1:$moved->{port}|ok",
	'also where the token has ended and can only be renewed there');
is($moved->stats->{tokens}{refused}, 0, 'no refresh token was used twice');
$moved->ask('POST', 'rename?host=amocrm.evil.example');
$node->psql('crm', 'CALL regcrm.sync(104)', stderr => \$err);
like($err, qr/HTTP 404/, 'an address elsewhere is not followed');

# ---- pg_cron

SKIP:
{
	skip 'pg_cron is not here', 6 unless $has_cron;
	$node->psql('crm', 'SELECT regcrm.schedule_jobs()', stderr => \$err);
	like($err, qr/pg_cron keeps its jobs in database "postgres".*Run in database "postgres":\n.*SELECT cron\.schedule_in_database\('regcrm reconcile crm', '30 0 \* \* \*', 'CALL regcrm\.reconcile\(\)', 'crm'\);/s,
		'where pg_cron lives elsewhere, the error says what to run there');
	my ($statements) = $err =~ /^(SELECT cron\..*;)$/ms;
	$node->psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.schedule_jobs()', stderr => \$err);
	like($err, qr/"pg_cron" is not installed in database "postgres".*CREATE EXTENSION pg_cron/s, 'or how to install it');
	$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
	$node->safe_psql('postgres', $statements);
	is($node->safe_psql('postgres', q{SELECT jobname, database, command FROM cron.job ORDER BY 1}),
		"regcrm marts crm|crm|CALL regcrm.refresh_marts()\nregcrm reconcile crm|crm|CALL regcrm.reconcile()\nregcrm reconcile month crm|crm|CALL regcrm.reconcile(days => 35)\nregcrm retention crm|crm|SELECT regcrm.retention()", 'which works');
	is($node->safe_psql('postgres', 'SELECT regcrm.schedule_jobs(); SELECT regcrm.schedule_jobs()'), "4\n4", 'where it lives here, it is done');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM cron.job WHERE jobname = 'regcrm reconcile postgres'}), '1', 'once');
	is($node->safe_psql('postgres', 'SELECT regcrm.unschedule_jobs(); SELECT count(*) FROM cron.job'), "4\n4", 'and undone, those of other databases left alone');
}
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->start;
$plain->safe_psql('postgres', 'CREATE EXTENSION regcrm');
$plain->psql('postgres', 'SELECT regcrm.unschedule_jobs()', stderr => \$err);
like($err, qr/pg_cron does not run on this server.*shared_preload_libraries/s, 'where it is missing, the error says how to get it');

unlike(slurp_file($node->logfile), qr/$secret/, 'no log holds a token');
like(slurp_file($node->logfile), qr/sync of account 102 works again/, 'a change of state is logged');

done_testing();
