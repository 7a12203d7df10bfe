# A webhook has the worker look at once: what it tells of is in the database, and
# judged, long before the next pass by the interval would come.  Hints without
# end, forged ones among them, cost passes at a bounded pace and change nothing.

use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(time usleep);
use Warehouse;

my $sim = Sim->start('--days', 3, '--deals', 40, '--rate', 0);
my $url = $sim->url;
my $node = PostgreSQL::Test::Cluster->new('webhook');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.databases = 'crm'
regcrm.allow_http = on
regcrm.sync_interval = 10min
regcrm.requests_per_second = 60
log_statement = none
END
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE crm; CREATE DATABASE clean');
for my $database (qw(crm clean))
{
	$node->safe_psql($database, 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
	$node->safe_psql($database, "CALL regcrm.connect('$url', token => 'token')");
}
sub query { return $node->safe_psql('crm', $_[0]); }
sub hook { return query("SELECT taken, quarantined FROM regcrm.ingest_webhook(30111222, '$_[0]')"); }

$node->poll_query_until('crm', 'SELECT isfinite(known_until) FROM regcrm.account') or die 'no first pass';
$sim->run;

# ---- a move, told by a webhook

my ($lead) = grep { $_->{pipeline} == 7001001 && $_->{status} > 61000012 && $_->{status} < 61000018 } @{ $sim->leads };
my $id = $lead->{id};
my $passes = query(q{SELECT requests FROM regcrm.sync_state WHERE entity = 'account'});
my $before = query("SELECT count(*) FROM regcrm.violation WHERE deal_id = $id AND rule = 'FLOW'");
$sim->act(lead => $id, status => 61000010);
my $begin = time;
is(hook("leads[status][0][id]=$id&leads[status][0][status_id]=61000010&leads[status][0][pipeline_id]=7001001&account[id]=30111222"), '1|0', 'a webhook is taken');
is(query("SELECT status_id FROM regcrm.deal WHERE id = $id"), $lead->{status}, 'it changes no deal by itself');
$node->poll_query_until('crm', "SELECT count(*) = $before + 1 FROM regcrm.violation WHERE deal_id = $id AND rule = 'FLOW'");
is(query("SELECT status_id FROM regcrm.deal WHERE id = $id"), '61000010', 'the worker reads what it told of');
# ten minutes are the interval
note sprintf 'from the webhook to the violation: %.1f s', time - $begin;
cmp_ok(time - $begin, '<', 300, 'at once, not at the next interval');
is(query('SELECT regcrm.webhook_due(30111222) IS NULL'), 't', 'then nothing waits any more');

# ---- duplicates, disorder, forgery: the same as if none had come

my $requests = query(q{SELECT sum(requests) FROM regcrm.sync_state});
$begin = time;
my $hooks = 0;
while (time - $begin < 14)
{
	hook("leads[delete][0][id]=$id&account[id]=30111222");
	hook("leads[status][0][id]=999&leads[status][0][status_id]=142&leads[status][0][updated_at]=9999999999");
	hook("task[delete][0][id]=6200000&task[update][0][id]=6200000&task[update][0][status]=1");
	hook('garbage %ff');
	hook("leads[status][0][id]=1&account[id]=5");
	$hooks += 5;
}
$node->poll_query_until('crm', 'SELECT regcrm.webhook_due(30111222) IS NULL');
my $took = time - $begin;
my $more = query(q{SELECT sum(requests) FROM regcrm.sync_state}) - $requests;
note sprintf '%d webhooks in 14 s cost %d requests in %.0f s', $hooks, $more, $took;
cmp_ok($more, '<=', 16 * (2 + $took / 6), 'a flood of hints costs a pass each six seconds at most');
is(query(q{SELECT count(*) FROM regcrm.quarantine WHERE entity = 'webhook'}), '2', 'what cannot be read is kept once, however often it comes');
query('CALL regcrm.sync()');
$node->safe_psql('clean', 'CALL regcrm.sync()');
# both to one moment: time passes by itself here
for (1 .. 20)
{
	last if query('SELECT known_until FROM regcrm.account') eq $node->safe_psql('clean', 'SELECT known_until FROM regcrm.account');
	query('CALL regcrm.sync()');
	$node->safe_psql('clean', 'CALL regcrm.sync()');
}
my %same = map { $_ => 1 } qw(account quarantine);
Warehouse::same($node, 'clean', 'crm', 'what is known is the same as without webhooks', without => \%same);

# ---- the worker is gone: the hint is kept for the next one

query('SELECT regcrm.stop_workers()');
$sim->act(lead => $id, status => 61000014);
is(hook("leads[status][0][id]=$id&leads[status][0][status_id]=61000014"), '1|0', 'without a worker a webhook is taken too');
query('SELECT regcrm.start_workers()');
$node->poll_query_until('crm', "SELECT status_id = 61000014 FROM regcrm.deal WHERE id = $id");
pass('and looked after when there is one');

# ---- the front of docs/webhooks.md, before the database and while it is away

$node->safe_psql('crm', q{
	CREATE SCHEMA hook;
	CREATE FUNCTION hook.take(body text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
		AS 'SELECT FROM regcrm.ingest_webhook(30111222, body)';
	REVOKE EXECUTE ON FUNCTION hook.take(text) FROM PUBLIC;
	CREATE ROLE regcrm_hook LOGIN;
	GRANT USAGE ON SCHEMA hook TO regcrm_hook;
	GRANT EXECUTE ON FUNCTION hook.take(text) TO regcrm_hook});
my $front_port = "$PostgreSQL::Test::Utils::tmp_check/front.port";
unlink $front_port;
my $front = fork() // die "fork: $!";
if ($front == 0)
{
	$ENV{HOOK_SECRET} = 's3cret';
	$ENV{HOOK_DSN} = $node->connstr('crm') . ' user=regcrm_hook';
	open STDERR, '>', "$PostgreSQL::Test::Utils::tmp_check/front.log";
	exec '/usr/bin/python3', '-c', <<'END', "$FindBin::RealBin/../../docs/webhook", $front_port;
import sys
from wsgiref.simple_server import make_server
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from hook import application
server = make_server("127.0.0.1", 0, application)
with open(sys.argv[2], "w") as file:
    file.write(f"{server.server_port}\n")
server.serve_forever()
END
	die "exec: $!";
}
END { local $?; kill 'TERM', $front if $front; }
for (1 .. 100) { last if -s $front_port; usleep(100_000); }
my $address = 'http://127.0.0.1:' . (slurp_file($front_port) + 0) . '/amocrm';
sub post
{
	my ($secret, $body) = @_;
	return $sim->{http}->request('POST', "$address/$secret",
		{ content => $body, headers => { 'content-type' => 'application/x-www-form-urlencoded' } })->{status};
}
my $bodies = query('SELECT bodies FROM regcrm.webhook');
is(post('s3cret', "leads[update][0][id]=$id&account[id]=30111222"), 200, 'the front takes a body');
is(post('s3cret', "leads[update][0][id]=$id&leads[update][0][name]=\xd0\x9e\xff\x00"), 200, 'raw bytes too');
is(query('SELECT bodies FROM regcrm.webhook'), $bodies + 2, 'and hands both to the database');
is(query(q{SELECT count(*) FROM regcrm.quarantine WHERE error LIKE '%2 bytes that are no text'}), '1', 'byte for byte');
is(post('wrong', 'leads[update][0][id]=1'), 404, 'a wrong secret');
is($sim->{http}->get("$address/s3cret")->{status}, 405, 'no body');
# refused before it is read, so that the sender may not hear why
isnt(post('s3cret', 'a' x 1_048_577), 200, 'a body that is too large');
is(query('SELECT bodies FROM regcrm.webhook'), $bodies + 2, 'none of which gets further');
$node->restart;
is(post('s3cret', "leads[update][0][id]=$id"), 200, 'the server was restarted: the front connects again');
$node->stop;
is(post('s3cret', "leads[update][0][id]=$id"), 503, 'the server is away: amoCRM is asked to come again');
$node->start;

# ---- a transaction that is rolled back asks for nothing

$node->poll_query_until('crm', 'SELECT regcrm.webhook_due(30111222) IS NULL');

query("BEGIN; SELECT regcrm.ingest_webhook(30111222, 'leads[add][0][id]=5'); ROLLBACK");
is(query('SELECT regcrm.webhook_due(30111222) IS NULL'), 't', 'one that was rolled back asks for nothing');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|signal 11/, 'nothing crashed');
done_testing();
