# Writing back: off unless turned on; each new violation once, whatever is lost
# on the way; never history, never a first load; within the day's cap; a dry run
# sends nothing; an illegal move is taken back with a note of what is missing.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;

my $sim = Sim->start('--days', 5, '--deals', 150, '--rate', 0);
my $url = $sim->url;
my $node = PostgreSQL::Test::Cluster->new('outbox');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.allow_http = on
regcrm.requests_per_second = 60
regcrm.http_timeout = 2s
log_statement = none
END
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION regcrm; SELECT regcrm.setup(); CALL regcrm.connect('$url', token => 'token')");

my ($out, $err);
sub query { return $node->safe_psql('postgres', $_[0]); }
sub refused { $node->psql('postgres', $_[0], stderr => \$err); return $err; }
sub pass_over { $sim->advance($_[0] // 30); query('CALL regcrm.sync()'); return; }
sub api { my ($path) = @_; return $sim->{http}->get("$url/api/v4/$path", { headers => { authorization => 'Bearer token' } })->{content}; }
# What was written is seen in what is there.
sub notes_of { my ($deal) = @_; my $n = () = api("leads/$deal/notes?limit=250") =~ /\[regcrm \d+-\d+\]/g; return $n; }
sub tasks_of { my ($deal) = @_; my $n = () = api("tasks?limit=250&filter[entity_type]=leads&filter[entity_id][]=$deal") =~ /\[regcrm \d+-\d+\]/g; return $n; }
sub all_marks
{
	my $n = 0;
	for my $path ('leads/notes?limit=250&order[id]=desc', 'tasks?limit=250&order[id]=desc') { $n += () = api($path) =~ /\[regcrm \d+-\d+\]/g; }
	return $n;
}

my %used;
my %from;
my %stage = (new => 61000010, in_work => 61000011);

# Somebody moves a deal that is under way back to the first stage, which no transition allows.
sub move_illegally
{
	my ($lead) = grep { $_->{pipeline} == 7001001 && $_->{status} > 61000012 && $_->{status} < 61000018 && !$used{ $_->{id} } } @{ $sim->leads };
	die "no lead is left" unless $lead;
	$used{ $lead->{id} } = 1;
	$from{ $lead->{id} } = $lead->{status};
	$sim->act(lead => $lead->{id}, status => $stage{new});
	return $lead->{id};
}
sub status_of { my ($id) = @_; my ($lead) = grep { $_->{id} == $id } @{ $sim->leads }; return $lead->{status}; }

# ---- what may be asked for

like(refused('SELECT regcrm.write_back(5)'), qr/account 5 does not exist/, 'no such account');
like(refused('INSERT INTO regcrm.account (id) VALUES (5); SELECT regcrm.write_back(5)'), qr/account 5 is not synced/, 'an account that SQL writes');
like(refused("SELECT regcrm.write_back(30111222, rules => '{NOPE}')"), qr/has no rule "NOPE"/, 'an unknown rule');
like(refused("SELECT regcrm.write_back(30111222, act => 'shout')"), qr/writeback_act_check/, 'an unknown act');

# ---- never the first load: turned on before it

query("SELECT regcrm.write_back(30111222, dry_run => false, severities => '{critical,major,minor,info}')");
pass_over();
cmp_ok(query('SELECT count(*) FROM regcrm.violation'), '>', 20, 'a first load finds violations');
is(query('SELECT count(*) FROM regcrm.outbox'), '0', 'none of which is written back');
is(query('SELECT since = known_until FROM regcrm.writeback w JOIN regcrm.account a ON a.id = w.account_id'), 't', 'what counts begins where it ends');
query('SELECT regcrm.stop_write_back(30111222)');

# ---- off

my $deal = move_illegally();
pass_over();
cmp_ok(query("SELECT count(*) FROM regcrm.violation WHERE deal_id = $deal AND rule = 'FLOW'"), '>=', 1, 'an illegal move is found');
is(query('SELECT count(*) FROM regcrm.outbox'), '0', 'off, nothing is written back');

# ---- dry

query("SELECT regcrm.write_back(30111222, rules => '{FLOW}', severities => '{critical,major,minor,info}')");
pass_over();
is(query('SELECT count(*) FROM regcrm.outbox'), '0', 'nor what happened before it was turned on');
$deal = move_illegally();
pass_over();
is(query("SELECT state, act, deal_id FROM regcrm.outbox"), "dry|note|$deal", 'a dry run shows what it would write');
pass_over();
is(all_marks(), 0, 'and writes nothing');
query("SELECT regcrm.write_back(30111222, dry_run => false, rules => '{FLOW}', severities => '{critical,major,minor,info}')");
pass_over();
is(all_marks(), 0, 'not afterwards either');

# ---- a note, once

$deal = move_illegally();
pass_over();
is(notes_of($deal), 1, 'a note on the deal');
like(api("leads/$deal/notes?limit=250"), qr/regcrm 30111222-/, 'with its mark');
is(query("SELECT state, attempts, remote_id IS NOT NULL FROM regcrm.outbox WHERE deal_id = $deal"), 'sent|1|t', 'the outbox says so');
pass_over();
query('SELECT regcrm.rejudge(30111222)');
pass_over(3600);
is(notes_of($deal), 1, 'it stays the only one');

# ---- the answer is lost: look, and don't repeat

for my $fault (
	[ 'the answer is lost' => { kind => 'reset', method => 'POST', path => 'leads/notes' } ],
	[ 'the answer is cut' => { kind => 'cut', method => 'POST', path => 'leads/notes' } ],
	[ 'the answer comes in part' => { kind => 'break', at => 'middle', method => 'POST', path => 'leads/notes' } ],
	[ 'the request is not carried out' => { kind => '500', method => 'POST', path => 'leads/notes' } ],
	[ 'too fast' => { kind => '429', method => 'POST', path => 'leads/notes' } ],
	[ 'the look fails too' => { kind => 'reset', method => 'POST', path => 'leads/notes' }, { kind => '500', path => '/notes?filter', count => 9 } ])
{
	my ($name, @faults) = @$fault;
	$deal = move_illegally();
	$sim->faults(@faults);
	pass_over();
	unlike(query("SELECT state FROM regcrm.outbox WHERE deal_id = $deal"), qr/waiting|skipped|failed/, "$name: it was tried");
	for (1 .. 3)
	{
		query("UPDATE regcrm.outbox SET next_try_at = NULL WHERE deal_id = $deal");
		pass_over();
		$sim->no_faults;
	}
	is(notes_of($deal), 1, "$name: one note in the end");
	is(query("SELECT state FROM regcrm.outbox WHERE deal_id = $deal"), 'sent', "$name: the outbox says so");
}

# amoCRM refuses: told, never repeated
$deal = move_illegally();
$sim->faults({ kind => '403json', method => 'POST', path => 'leads/notes' });
pass_over();
is(query("SELECT state, error ~ '403' FROM regcrm.outbox WHERE deal_id = $deal"), 'sending|t', 'no right to write: told, and tried again later');
is(query('SELECT state FROM regcrm.account WHERE id = 30111222'), 'ok', 'reading is not touched by it');
$sim->no_faults;
query("UPDATE regcrm.outbox SET next_try_at = NULL");
pass_over();

# ---- crash between asking and noting: killed while the answer is on its way

$deal = move_illegally();
$sim->advance(30);
$sim->faults({ kind => 'delay', method => 'POST', path => 'leads/notes', seconds => 1 });
my $pid = fork() // die;
if ($pid == 0) { open STDERR, '>', '/dev/null'; exec 'psql', '-X', '-q', '-d', $node->connstr('postgres'), '-c', 'CALL regcrm.sync()'; }
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM regcrm.outbox WHERE deal_id = $deal AND state = 'sending'") or die;
select undef, undef, undef, 0.3;
$node->stop('immediate');
waitpid $pid, 0;
$node->start;
select undef, undef, undef, 1;
query("UPDATE regcrm.outbox SET next_try_at = NULL");
pass_over();
is(notes_of($deal), 1, 'after a crash in the middle: one note');
is(query("SELECT state FROM regcrm.outbox WHERE deal_id = $deal"), 'sent', 'and the outbox says so');

# ---- a task for the manager

query("SELECT regcrm.write_back(30111222, act => 'task', dry_run => false, rules => '{FLOW}', severities => '{critical,major,minor,info}')");
$deal = move_illegally();
pass_over();
is(tasks_of($deal), 1, 'a task on the deal');
pass_over();
is( query("SELECT t.manager_id = v.manager_id AND t.due_at > t.created_at FROM regcrm.outbox o
		JOIN regcrm.violation v ON v.id = o.violation_id AND v.account_id = o.account_id
		JOIN regcrm.task t ON t.id = o.remote_id AND t.account_id = o.account_id WHERE o.deal_id = $deal"),
	't', 'for the responsible manager, with time to do it');

# ---- moved back, with a note of what is missing

query("SELECT regcrm.write_back(30111222, move_back => true, dry_run => false, severities => '{critical,major,minor,info}')");
$deal = move_illegally();
pass_over();
is(status_of($deal), $from{$deal}, 'an illegal move is taken back');
is(notes_of($deal), 1, 'with a note');
like(query("SELECT body FROM regcrm.outbox WHERE deal_id = $deal AND act = 'note' AND state = 'sent' AND after IS NOT NULL"),
	qr/возвращена.*\(\w+(-\w+)?\)/s, 'that says what is missing');
pass_over(60);
is(query("SELECT count(*) FROM regcrm.outbox WHERE deal_id = $deal AND act = 'move_back'"), '1', 'our own move is not taken back');
$sim->act(lead => $deal, status => $stage{new});
pass_over();
is(status_of($deal), $stage{new}, 'who moves it there again within a day is left alone');

# whoever was quicker
$deal = move_illegally();
$sim->faults({ kind => '500', path => "/leads/$deal", count => 9 });
pass_over();
$sim->no_faults;
$sim->act(lead => $deal, status => $stage{in_work});
query("UPDATE regcrm.outbox SET next_try_at = NULL");
pass_over();
is(status_of($deal), $stage{in_work}, 'a deal that somebody has moved meanwhile stays where it is');
is(query("SELECT string_agg(DISTINCT state, ',') FROM regcrm.outbox WHERE deal_id = $deal AND (act = 'move_back' OR after IS NOT NULL)"), 'skipped', 'and no note claims otherwise');

# an answer lost: the deal is where it should be, so it was sent
$deal = move_illegally();
$sim->faults({ kind => 'reset', method => 'PATCH' });
pass_over();
query("UPDATE regcrm.outbox SET next_try_at = NULL");
pass_over();
is(query("SELECT state FROM regcrm.outbox WHERE deal_id = $deal AND act = 'move_back'"), 'sent', 'moved back, although the answer was lost');
is(notes_of($deal), 1, 'and told once');

# ---- the cap, and what is withdrawn while it waits

my $today = query("SELECT count(*) FROM regcrm.outbox WHERE account_id = 30111222");
query("SELECT regcrm.write_back(30111222, dry_run => false, rules => '{FLOW}', severities => '{critical,major,minor,info}', daily_cap => $today + 1)");
move_illegally() for 1 .. 2;
pass_over();
is(query("SELECT count(*) FROM regcrm.outbox WHERE account_id = 30111222"), $today + 1, "no more than the day's cap");
query("UPDATE regcrm.writeback SET daily_cap = 1000; UPDATE regcrm.writeback SET dry_run = true");
query("UPDATE regcrm.writeback SET dry_run = false");
$sim->faults({ kind => '500', method => 'POST', count => 1 });
pass_over();
$sim->no_faults;
my $open = query("SELECT count(*) FROM regcrm.outbox WHERE state = 'sending'");
is($open, '1', 'the rest comes when there is room');
is(query('SELECT regcrm.stop_write_back(30111222)'), '1', 'turned off, what waited is dropped');
pass_over();
is(query("SELECT count(*) FROM regcrm.outbox WHERE state IN ('waiting', 'sending')"), '0', 'and not sent');

done_testing();
