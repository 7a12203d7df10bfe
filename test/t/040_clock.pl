# The clock: it sleeps until the next moment, is woken by who commits an earlier
# one, tells who listens, plans anew where hours change, and goes on whatever
# stands in its way.

use strict;
use warnings;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = PostgreSQL::Test::Cluster->new('clock');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.databases = 'postgres'
max_prepared_transactions = 5
log_line_prefix = '%m [%p] %b '
END
$node->start;

sub sql { return $node->safe_psql('postgres', join "\n", @_); }

sub await
{
	my ($query, $what, $answer) = @_;
	ok($node->poll_query_until('postgres', $query, $answer // 't'), $what);
}

sub clock_pid { return sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'regcrm clock'"); }

# A session that listens all the time.
my ($in, $out, $err) = ('', '', '');
my $listener = IPC::Run::start(
	[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres' ],
	'<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout(600));
$in .= "LISTEN regcrm_violation; LISTEN regcrm_warning; SELECT 'listens';\n";
$listener->pump until $out =~ /listens/;
$out = '';
my $asked = 0;

# What has come since the last call, as [channel, payload].  psql shows what it
# has read when a query ends, so it is asked until two queries brought nothing.
sub heard
{
	my ($length, $quiet) = (0, 0);
	while ($quiet < 2)
	{
		$asked++;
		$in .= "SELECT 'asked $asked';\n";
		$listener->pump until $out =~ /asked $asked\n/;
		my $now = () = $out =~ /Asynchronous/g;
		$quiet = $now == $length ? $quiet + 1 : 0;
		$length = $now;
		usleep(20_000);
	}
	my @heard = map { [ $_->[0], decode_json($_->[1]) ] }
	  map { /Asynchronous notification "(\w+)" with payload "(.*)" received/ ? [ $1, $2 ] : () } split /\n/, $out;
	$out = '';
	return @heard;
}

$node->poll_query_until('postgres', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock'})
  or die 'no clock';
my $clock = clock_pid();
sql('CREATE EXTENSION regcrm; SELECT regcrm.setup(); INSERT INTO regcrm.account (id, name) VALUES (1, $$one$$)');

# A deal in new whose rule NEW-1 (15 minutes, warning after 10) is due after so many seconds.
sub deal
{
	my ($id, $seconds, $minutes, $account) = @_;
	$minutes //= 15;
	$account //= 1;
	return "SET regcrm.mode = 'record';"
	  . "INSERT INTO regcrm.deal (account_id, id, stage, created_at) VALUES ($account, $id, 'new', clock_timestamp() - interval '$minutes min' + interval '$seconds s');";
}

# ---- woken by a commit

await(q{SELECT query ~ '^regcrm clock: sleeps, unless woken, until' FROM pg_stat_activity WHERE backend_type = 'regcrm clock'},
	'pg_stat_activity says until when the clock sleeps');
usleep(200_000);
my $before = sql(q{SELECT query FROM pg_stat_activity WHERE backend_type = 'regcrm clock'});
sql('INSERT INTO regcrm.account (id, calendar) VALUES (2, NULL)');
sql(deal(1, 2));
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 1 AND rule = 'NEW-1'}, 'a deadline that comes before the clock would have looked');
is(sql(q{SELECT detected_at - breached_at BETWEEN '0' AND interval '1 s' FROM regcrm.violation WHERE deal_id = 1 AND rule = 'NEW-1'}),
	't', '... is flagged in less than a second, not before its moment');
is(clock_pid(), $clock, 'by the same process');
heard();

sql(deal(2, 2, 10));
await(q{SELECT state = 'warned' FROM regcrm.deadline WHERE deal_id = 2 AND rule = 'NEW-1'}, 'a warning comes when it is due');
my @news = grep { $_->[1]{deal_id} == 2 && $_->[1]{rule} eq 'NEW-1' } heard();
is(scalar @news, 1, 'it is told once');
is($news[0][0], 'regcrm_warning', '... on its channel');
is_deeply(
	[ sort keys %{ $news[0][1] } ],
	[ sort qw(version account_id deal_id rule task_id manager_id severity arose_at due_at) ],
	'... with the keys that docs/clock.md names');
is(sql("SELECT due_at = '$news[0][1]{due_at}' AND arose_at = '$news[0][1]{arose_at}' FROM regcrm.deadline WHERE deal_id = 2 AND rule = 'NEW-1'"),
	't', '... and moments to the microsecond');

sql(deal(3, 1));
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 3 AND rule = 'NEW-1'}, 'a breach is flagged');
usleep(300_000);
my @all = heard();
@news = grep { $_->[1]{deal_id} == 3 && $_->[1]{rule} eq 'NEW-1' } @all;
is(scalar @news, 1, 'a breach is told once');
is_deeply(
	[ sort keys %{ $news[0][1] } ],
	[ sort qw(version account_id deal_id rule task_id manager_id severity arose_at breached_at resolved_at) ],
	'... with the keys that docs/clock.md names');
is($news[0][1]{version}, 1, 'the payload says its version');
is($news[0][1]{severity}, 'critical', 'and how bad it is');
is(scalar(grep { $_->[1]{rule} eq 'NEW-12' } @all), 0, 'what the writer\'s own transaction found is not told');

# Many writers at once, each with a moment earlier than the one before.
sql(map { "BEGIN; SAVEPOINT a; " . deal(1000 + $_, 40 - $_) . " ROLLBACK TO a; " . deal(100 + $_, 3 - $_ * 0.1) . " COMMIT;" } 1 .. 20);
await(q{SELECT count(*) = 20 FROM regcrm.violation WHERE deal_id BETWEEN 101 AND 120 AND rule = 'NEW-1'}, 'each of twenty earlier moments');
is(sql(q{SELECT max(detected_at - breached_at) < interval '1 s' FROM regcrm.violation WHERE deal_id BETWEEN 101 AND 120 AND rule = 'NEW-1'}),
	't', '... in time');

# ---- capped

heard();
sql("SET regcrm.mode = 'record'; INSERT INTO regcrm.deal (account_id, id, stage, created_at)
	SELECT 1, 2000 + n, 'new', now() - interval '15 min' + interval '3 s' FROM generate_series(1, 400) n");
await(q{SELECT count(*) = 400 FROM regcrm.violation WHERE deal_id > 2000 AND rule = 'NEW-1'}, '400 duties due at one instant');
usleep(500_000);
@all = grep { $_->[0] eq 'regcrm_violation' } heard();
my @one = grep { exists $_->[1]{deal_id} } @all;
# two rules are broken: NEW-1 and NEW-4
ok(@one >= 100 && @one < 300, 'of many, some are told one by one (' . @one . ')');
my $summed = 0;
$summed += $_->[1]{more} for grep { exists $_->[1]{more} } @all;
is(@one + $summed, 800, 'the rest is counted');

# ---- nothing of what is judged again, or loaded

heard();
sql(q{SET regcrm.mode = off; DELETE FROM regcrm.violation; DELETE FROM regcrm.deadline;
	SELECT FROM regcrm.rejudge()});
sql("SET regcrm.mode = 'off'; INSERT INTO regcrm.deal (account_id, id, stage, created_at) SELECT 1, 5000 + n, 'new', now() - interval '1 day' FROM generate_series(1, 50) n; SELECT FROM regcrm.rejudge()");
sql("UPDATE regcrm.account SET regulation = regulation");
usleep(500_000);
is(scalar(heard()), 0, 'nothing is told of rejudge()');
sql(q{SELECT regcrm.flag_expired()});
is(scalar(heard()), 0, 'nor by flag_expired()');

# A listener that sits in a transaction costs nobody a finding.
my ($in2, $out2, $err2) = ('', '', '');
my $sleeper = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres' ],
	'<', \$in2, '>', \$out2, '2>', \$err2, IPC::Run::timeout(600));
$in2 .= "LISTEN regcrm_violation; BEGIN; SELECT 'sits';\n";
$sleeper->pump until $out2 =~ /sits/;
sql(deal(6001, 1));
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 6001 AND rule = 'NEW-1'}, 'flagged though a listener sits in a transaction');
$in2 .= "\\q\n";
$sleeper->finish;

# ---- COMMIT PREPARED calls nobody: found within a minute, here by hand

sql("BEGIN; " . deal(7001, 1) . " PREPARE TRANSACTION 'p'");
usleep(1_200_000);
is(sql('SELECT count(*) FROM regcrm.violation WHERE deal_id = 7001'), '0', 'a prepared transaction is not there yet');
sql("COMMIT PREPARED 'p'; SELECT regcrm.flag_expired()");
is(sql(q{SELECT count(*) FROM regcrm.violation WHERE deal_id = 7001 AND rule = 'NEW-1'}), '1', '... flagged once it is committed');

# ---- hours change: deadlines that run follow at once

sql(q{UPDATE regcrm.account SET calendar = 'daily-9-20' WHERE id = 2});
sql(q{SELECT regcrm.flag_expired(); SET regcrm.mode = 'record'; INSERT INTO regcrm.deal (account_id, id, stage) VALUES (2, 1, 'contract')});
my $as_calendar = q{SELECT due_at = regcrm.add_business_time(arose_at, '27 hours', 'daily-9-20', 'Europe/Moscow') FROM regcrm.deadline WHERE account_id = 2 AND rule = 'ONC-4'};
is(sql($as_calendar), 't', 'a deadline on the calendar');
my $due = sql(q{SELECT due_at FROM regcrm.deadline WHERE account_id = 2 AND rule = 'ONC-4'});
my $begin = time;
sql(q{SELECT regcrm.change_hours('daily-9-20', (now() AT TIME ZONE 'Europe/Moscow')::date + 1, '{1,2,3,4,5,6,7}', '{12:00-13:30}')});
await("SELECT due_at > '$due' FROM regcrm.deadline WHERE account_id = 2 AND rule = 'ONC-4'", 'moves when hours change from tomorrow on');
cmp_ok(time - $begin, '<', 5, '... at once');
is(sql($as_calendar), 't', '... to where the calendar says');
# a deadline that is locked follows later
my ($in3, $out3, $err3) = ('', '', '');
my $locker = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres' ],
	'<', \$in3, '>', \$out3, '2>', \$err3, IPC::Run::timeout(600));
$in3 .= "BEGIN; SELECT 'locks' FROM regcrm.deal WHERE account_id = 2 AND id = 1 FOR UPDATE;\n";
$locker->pump until $out3 =~ /locks/;
sql(q{SELECT regcrm.change_hours('daily-9-20', (now() AT TIME ZONE 'Europe/Moscow')::date + 1, '{1,2,3,4,5,6,7}', '{12:00-14:30}')});
sql(deal(8001, 1));
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 8001 AND rule = 'NEW-1'}, 'who locks a deal holds up no other');
is(sql($as_calendar), 'f', 'a deal that is locked waits');
$in3 .= "COMMIT;\n\\q\n";
$locker->finish;
await($as_calendar, '... and follows when it is free');

# A due deal that is locked: the others are in time, it is flagged when free.
sql(deal(8101, 2));
($in3, $out3, $err3) = ('', '', '');
$locker = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres' ],
	'<', \$in3, '>', \$out3, '2>', \$err3, IPC::Run::timeout(600));
$in3 .= "BEGIN; SELECT 'locks' FROM regcrm.deal WHERE account_id = 1 AND id = 8101 FOR UPDATE;\n";
$locker->pump until $out3 =~ /locks/;
usleep(2_500_000);
sql(deal(8102, 1));
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 8102 AND rule = 'NEW-1'}, 'another deal is flagged meanwhile');
is(sql(q{SELECT detected_at - breached_at < interval '1 s' FROM regcrm.violation WHERE deal_id = 8102 AND rule = 'NEW-1'}), 't', '... in time');
is(sql(q{SELECT count(*) FROM regcrm.violation WHERE deal_id = 8101 AND rule = 'NEW-1'}), '0', 'the locked one not yet');
$in3 .= "COMMIT;\n\\q\n";
$locker->finish;
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 8101 AND rule = 'NEW-1'}, 'when it is free, it is');

# ---- one account that can't be judged, of three; and one deal

sql(q{INSERT INTO regcrm.calendar (name) VALUES ('broken');
	ALTER TABLE regcrm.account DISABLE TRIGGER regcrm_calendar_works;
	INSERT INTO regcrm.account (id) VALUES (31), (32), (33)});
sql(deal(1, 3, 15, $_)) for 31, 32, 33;
sql(q{UPDATE regcrm.account SET calendar = 'broken' WHERE id = 32});
await(q{SELECT count(*) = 2 FROM regcrm.violation WHERE account_id IN (31, 33) AND rule = 'NEW-1'}, 'an account with a broken calendar: the other two go on');
is(sql(q{SELECT max(detected_at - breached_at) < interval '1 s' FROM regcrm.violation WHERE account_id IN (31, 33) AND rule = 'NEW-1'}), 't', '... in time');
is(clock_pid(), $clock, 'the clock lives');
like(slurp_file($node->logfile), qr/WARNING:  regcrm clock: deal 1 of account 32 could not be judged: calendar "broken" has no working time/, 'the log names what can\'t be judged');
sql(q{UPDATE regcrm.account SET calendar = NULL WHERE id = 32; ALTER TABLE regcrm.account ENABLE TRIGGER regcrm_calendar_works});
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE account_id = 32 AND rule = 'NEW-1'}, 'mended, it is tried again');

# A trigger of the user's that fails for one deal of a batch.
sql(q{CREATE FUNCTION public.poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.deal_id = 9005 THEN RAISE EXCEPTION 'poisoned'; END IF; RETURN NEW; END $$;
	CREATE TRIGGER poison BEFORE INSERT ON regcrm.violation FOR EACH ROW WHEN (NEW.rule = 'NEW-1') EXECUTE FUNCTION public.poison()});
sql("SET regcrm.mode = 'record'; INSERT INTO regcrm.deal (account_id, id, stage, created_at)
	SELECT 1, 9000 + n, 'new', now() - interval '15 min' + interval '2 s' FROM generate_series(1, 20) n");
await(q{SELECT count(*) = 19 FROM regcrm.violation WHERE deal_id BETWEEN 9001 AND 9020 AND rule = 'NEW-1'}, 'one poisoned deal of twenty: the others are flagged');
sql(deal(9101, 1));
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 9101 AND rule = 'NEW-1'}, '... and later ones too');
is(sql(q{SELECT max(detected_at - breached_at) < interval '1 s' FROM regcrm.violation WHERE deal_id = 9101 AND rule = 'NEW-1'}), 't', '... in time');
sql('DROP TRIGGER poison ON regcrm.violation');
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 9005 AND rule = 'NEW-1'}, 'the poisoned one once it is well');

# ---- cancelled; the database's settings; another zone

sql("SELECT pg_cancel_backend($clock)");
sql(deal(9201, 1));
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 9201 AND rule = 'NEW-1'}, 'a cancel does not stop the clock');
is(clock_pid(), $clock, 'nor end it');

# ---- extension gone and back, many times

my ($gone, $back) = (0, 0);
for my $round (1 .. 20)
{
	$gone++ if $node->psql('postgres', 'DROP EXTENSION regcrm CASCADE; DROP SCHEMA regcrm CASCADE') == 0;
	$back++ if $node->psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup(); INSERT INTO regcrm.account (id) VALUES (1)') == 0;
}
is("$gone $back", '20 20', 'the extension is dropped and made again twenty times under the clock');
sql(deal(1, 3));
await(q{SELECT count(*) = 1 FROM regcrm.violation WHERE rule = 'NEW-1'}, 'and it works');
is(clock_pid(), $clock, 'in the same process');
my $log = slurp_file($node->logfile);
unlike($log, qr/terminating any other active server processes|PANIC/, 'nothing of that was a crash');

# ---- an absent synchronous standby, a lock held against the clock: shutdown is fast

sql(deal(20, 1));
($in3, $out3, $err3) = ('', '', '');
$locker = IPC::Run::start([ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres' ],
	'<', \$in3, '>', \$out3, '2>', \$err3, IPC::Run::timeout(600));
$in3 .= "BEGIN; LOCK regcrm.violation IN EXCLUSIVE MODE; SELECT 'locks';\n";
$locker->pump until $out3 =~ /locks/;
usleep(1_500_000);
$begin = time;
$in .= "\\q\n";
$listener->finish;
$node->stop('fast');
cmp_ok(time - $begin, '<', 10, 'a fast shutdown, while the clock waits for a lock, is fast');
eval { $locker->finish };
$node->append_conf('postgresql.conf', "wal_level = replica\nmax_wal_senders = 2\nsynchronous_standby_names = 'nobody'\nsynchronous_commit = on\n");
$node->start;
sql('SET synchronous_commit = local; ' . deal(21, 1));
await(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock' AND wait_event = 'SyncRep'}, 'the clock waits for a synchronous standby');
$begin = time;
$node->stop('fast');
cmp_ok(time - $begin, '<', 10, '... a fast shutdown does not');

done_testing();
