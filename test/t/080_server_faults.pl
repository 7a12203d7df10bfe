# Faults of the server: killed in the middle of each kind of work, stopped at
# once, out of connections, out of room on the disk, waiting for a lock.  Done
# again, each comes to the same rows as work that nobody disturbed; nothing is
# lost, doubled or stuck.  (Killed in a pass of the sync: 060_faults, 064_killed;
# under the clock: 041_clock_kill; no slot for a worker: 035_no_preload.)
#
# DEEP=1: many moments of each kind of work in place of one.
#
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use Warehouse;

my $deep = $ENV{DEEP};
my $seed = $ENV{KILL_SEED} || time ^ $$;
srand($seed);
note "seed $seed";

my $node = PostgreSQL::Test::Cluster->new('faults');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
restart_after_crash = on
autovacuum = off
max_connections = 12
END
$node->start;
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(clean hurt);

# ---------------------------------------------------------------------------
# the work, each a list of transactions that can be done again
# ---------------------------------------------------------------------------

my $deals = 400;
my $at = "timestamptz '2026-03-02 09:00+03'";

# COPY of deals and of their events, in one transaction.
sub copied
{
	my ($table, $columns, $query) = @_;
	my $rows = $node->safe_psql('postgres', $query);
	return "COPY regcrm.$table ($columns) FROM stdin;\n$rows\n\\.\n";
}

sub copy_load
{
	return "BEGIN; SET LOCAL regcrm.mode = 'record'; SET LOCAL regcrm.account_id = '1';\n"
	  . copied('deal', 'id, name, stage, manager_id, created_at',
		"COPY (SELECT n, 'deal ' || n, 'new', n % 7, $at + n * interval '11 min' FROM generate_series(1, $deals) n) TO stdout")
	  . copied('event', 'id, deal_id, at, kind, actor_id, from_stage, to_stage',
		"COPY (SELECT n * 10 + k, n, $at + n * interval '11 min' + k * n % 97 * interval '13 min',
				CASE WHEN k = 2 THEN 'stage' WHEN k = 3 THEN 'comment' ELSE 'call_out' END, n % 7,
				CASE WHEN k = 2 THEN 'new' END, CASE WHEN k = 2 THEN 'in_work' END
			FROM generate_series(1, $deals) n, generate_series(1, 3) k WHERE (n + k) % 4 > 0) TO stdout")
	  . "COMMIT;\n";
}

# Pages as amoCRM sends them, each a transaction.
sub ingest
{
	my $pages = q{SELECT FROM regcrm.ingest(2, 'pipelines', '{"_embedded": {"pipelines": [{"id": 11, "name": "Продажи", "sort": 1, "is_main": true, "_embedded": {"statuses": [
		{"id": 21, "name": "Новая заявка", "sort": 10, "type": 0, "pipeline_id": 11}, {"id": 22, "name": "Взята в работу", "sort": 20, "type": 0, "pipeline_id": 11},
		{"id": 142, "name": "Успешно реализовано", "sort": 100, "type": 0, "pipeline_id": 11}]}}]}}');
	};
	my $first = 1772430000;
	for my $page (0 .. 11)
	{
		my @leads = map {
			my $n = $page * 50 + $_;
			my $created = $first + $n * 660;
			sprintf '{"id": %d, "name": "lead %d", "price": 100, "responsible_user_id": %d, "status_id": %d, "pipeline_id": 11, "created_at": %d, "updated_at": %d, "closed_at": null, "is_deleted": false}',
			  $n, $n, $n % 5, $n % 3 ? 22 : 21, $created, $created + 900
		} 1 .. 50;
		my @tasks = map {
			my $n = $page * 50 + $_;
			sprintf '{"id": %d, "entity_id": %d, "entity_type": "leads", "responsible_user_id": %d, "created_at": %d, "updated_at": %d, "is_completed": %s, "task_type_id": 1, "text": "Обработать заявку", "complete_till": %d, "result": {}}',
			  90000 + $n, $n, $n % 5, $first + $n * 660, $first + $n * 660, $n % 2 ? 'true' : 'false', $first + $n * 660 + 3600
		} 1 .. 50;
		$pages .= "SELECT FROM regcrm.ingest(2, 'leads', '{\"_embedded\": {\"leads\": [" . join(', ', @leads) . "]}}');\n";
		$pages .= "SELECT FROM regcrm.ingest(2, 'tasks', '{\"_embedded\": {\"tasks\": [" . join(', ', @tasks) . "]}}');\n";
	}
	return $pages . "UPDATE regcrm.account SET known_until = '2026-03-20 12:00+03' WHERE id = 2; SELECT FROM regcrm.rejudge(2);\n";
}

# What a user does to the rules, and judges it all again.
my $rejudge = q{
	UPDATE regcrm.rule SET within = '3 min', warn = '2 min' WHERE code = 'NEW-1';
	UPDATE regcrm.rule SET enabled = false WHERE code = 'NEW-9';
	SELECT FROM regcrm.rejudge();
};

# Each: name, SQL, and how one sees that it is done, where it can't be done twice.
my @work = (
	[ 'setup()', 'BEGIN; CREATE EXTENSION IF NOT EXISTS regcrm; SELECT FROM regcrm.setup(); COMMIT; SELECT FROM regcrm.setup();' ],
	[ 'ingest()', ingest() ],
	[ 'COPY', copy_load(), q{SELECT count(*) > 0 FROM regcrm.deal WHERE account_id = 1} ],
	[ 'rejudge()', $rejudge ],
	[ 'flag_expired()', 'SELECT regcrm.flag_expired(); SELECT regcrm.flag_expired();' ],
	[ 'refresh_marts()', 'CALL regcrm.refresh_marts(60); ' x 8 ],
	[ 'waive()', q{SELECT regcrm.waive(v.account_id, v.id, 'because') FROM regcrm.violation v
		WHERE account_id = 1 AND rule = 'NEW-1' AND deal_id % 3 = 0 AND waived_at IS NULL AND withdrawn_at IS NULL ORDER BY deal_id;} ],
	[ 'forget()', 'DO $$ BEGIN FOR n IN 1 .. 60 LOOP PERFORM regcrm.forget(1, n * 5); COMMIT; END LOOP; END $$;' ]);

# What stands before a kind of work.
my %before = (
	'setup()' => '',
	'ingest()' => q{INSERT INTO regcrm.account (id, known_until) VALUES (2, '-infinity'), (1, NULL) ON CONFLICT DO NOTHING; SET client_min_messages = warning;},
	# duties that fall due while nobody looks: written as they were, and not judged
	'refresh_marts()' => 'ANALYZE',
	'flag_expired()' => q{SET regcrm.mode = 'off';
		INSERT INTO regcrm.deadline (account_id, deal_id, rule, arose_at, due_at, state)
			SELECT 1, id, 'NEW-8', created_at, created_at + interval '1 hour', 'pending' FROM regcrm.deal WHERE account_id = 1 AND id % 2 = 0 ON CONFLICT DO NOTHING;});

# ---------------------------------------------------------------------------
# means
# ---------------------------------------------------------------------------

my $folder = PostgreSQL::Test::Utils::tempdir;

# Runs SQL until it is done: the server may be away for a moment.
sub insist
{
	my ($database, $sql) = @_;
	my $err;
	for (1 .. 300)
	{
		return if $node->psql($database, $sql, stderr => \$err, on_error_stop => 1) == 0;
		die $err if $err !~ /starting up|recovery|shutting down|terminat|could not connect|connection to server|server closed/;
		usleep(100_000);
	}
	die "the server does not come back: $err";
}

# Starts SQL in a process of its own.
sub begin
{
	my ($database, $sql) = @_;
	my $file = "$folder/work.sql";
	unlink $file;
	append_to_file($file, "SET application_name = 'victim';\n$sql");
	return IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', $database, '-f', $file ], '>', '/dev/null', '2>', "$folder/err");
}

# The server's end while it is at work: its backend killed, or all of it at once.
sub crash
{
	my ($how) = @_;
	if ($how eq 'backend')
	{
		my ($out, $err);
		$node->psql('postgres', q{SELECT pid FROM pg_stat_activity WHERE application_name = 'victim'}, stdout => \$out, stderr => \$err);
		return 0 unless $out && $out =~ /^(\d+)/;
		kill 'KILL', $1;
		return 1;
	}
	$node->stop('immediate');
	$node->start;
	return 1;
}

sub seconds(&)
{
	my ($code) = @_;
	my $begin = time;
	$code->();
	return time - $begin;
}

# ---------------------------------------------------------------------------
# crash in every kind of work
# ---------------------------------------------------------------------------

my $crashes = 0;
for my $work (@work)
{
	my ($name, $sql, $is_done) = @$work;
	if ($before{$name}) { insist($_, $before{$name}) for qw(clean hurt); }
	my $took = seconds { insist('clean', $sql) };

	my $hit = 0;
	for my $round (1 .. $deep ? 8 : 1)
	{
		my $victim = begin('hurt', $sql);
		# somewhere in it; the deep run goes from its beginning to its end
		usleep(1_000_000 * $took * ($deep ? $round / 9 : 0.2 + rand 0.6));
		my $how = ($crashes + $round) % 2 ? 'backend' : 'server';
		$hit += crash($how);
		eval { $victim->finish };
		insist('postgres', 'SELECT');
	}
	$crashes += $hit;
	insist('hurt', $sql) unless $is_done && $node->safe_psql('hurt', $is_done) eq 't';
	Warehouse::same($node, 'clean', 'hurt', "killed in $name, and done again") if $name ne 'setup()';
	if ($name eq 'setup()')
	{
		my @made = map { $node->safe_psql($_, q{
			SELECT md5(string_agg(x::text, E'\n' ORDER BY x::text)) || count(*) FROM (
				SELECT c.relname, c.relkind, obj_description(c.oid), (SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = c.oid) FROM pg_class c WHERE relnamespace = 'regcrm'::regnamespace
				UNION ALL SELECT tgname, tgenabled, pg_get_triggerdef(oid), NULL FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'regcrm'::regnamespace) AND NOT tgisinternal
				UNION ALL SELECT 'rule', NULL, r::text, NULL FROM regcrm.rule r UNION ALL SELECT 'move', NULL, t::text, NULL FROM regcrm.transition t) x}) } qw(clean hurt);
		is($made[1], $made[0], "killed in $name, and done again: the same tables, triggers, views and rules");
	}
}
cmp_ok($crashes, '>=', $deep ? 4 * @work : @work / 2, "the server was ended $crashes times while at work");

# what the sums say is what there is
my $differ = q{WITH kept AS MATERIALIZED (TABLE regcrm.duty_counts), live AS MATERIALIZED (TABLE regcrm.duty_counts_live)
	SELECT (SELECT count(*) FROM (TABLE kept EXCEPT TABLE live) x) + (SELECT count(*) FROM (TABLE live EXCEPT TABLE kept) x), (SELECT count(*) > 0 FROM regcrm.mart_duty)};
$node->safe_psql('hurt', 'CALL regcrm.refresh_marts(400)');
is($node->safe_psql('hurt', $differ), '0|t', 'sums kept for reports are right after all that');
is($node->safe_psql('hurt', 'SELECT changed FROM regcrm.rejudge()'), '0', 'judging it all again changes nothing');
is($node->safe_psql('hurt', 'SELECT count(*) FROM (SELECT FROM regcrm.violation GROUP BY account_id, deal_id, rule, arose_at, task_id HAVING count(*) > 1) x'), '0', 'no violation is there twice');

done_testing();

