# The extension in two databases of a server, and taken from one of them while
# its workers run: each database has workers, facts and rules of its own, though
# accounts and deals have the same numbers; detach() and DROP EXTENSION wait for
# nobody for long, lose nothing, and leave the other database alone.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Lived;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('two');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'regcrm'\nregcrm.databases = 'north, \"South Two\"'\nmax_worker_processes = 16\n");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE north; CREATE DATABASE "South Two"; CREATE DATABASE third');
my @both = ('north', 'South Two');

# ---- two databases

$node->safe_psql($_, q{CREATE EXTENSION regcrm; SELECT FROM regcrm.setup(); INSERT INTO regcrm.account (id, name) VALUES (1, current_database())}) for @both;
for my $database (@both)
{
	ok($node->poll_query_until('postgres', qq{SELECT count(DISTINCT backend_type) = 2 FROM pg_stat_activity WHERE datname = '$database' AND backend_type IN ('regcrm clock', 'regcrm sync')}),
		"$database has its two workers");
}
# the south is given five minutes less for the first contact
$node->safe_psql('South Two', q{UPDATE regcrm.rule SET within = '10 min', warn = '9 min' WHERE code = 'NEW-1'});
for my $database (@both)
{
	$node->safe_psql($database, q{SET regcrm.mode = 'record';
		INSERT INTO regcrm.deal (id, name, stage, created_at) VALUES (1, current_database(), 'new', clock_timestamp() - interval '10 min' + interval '1 s')});
}
my $flagged = q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 1 AND rule = 'NEW-1'};
ok($node->poll_query_until('South Two', $flagged), 'the one whose rule is stricter flags its deal');
is($node->safe_psql('north', $flagged), 'f', '... the other has its own deal and rule');
is($node->safe_psql($_, 'SELECT name FROM regcrm.deal'), $_, "$_: its facts are its own") for @both;
is($node->safe_psql('third', q{SELECT count(*) FROM pg_namespace WHERE nspname = 'regcrm'}), '0', 'a database without the extension has nothing of it');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'third' AND backend_type LIKE 'regcrm%'}), '0', '... nor workers');

# ---- DROP EXTENSION while workers run, and facts fall due all the time

my $stream = q{SET regcrm.mode = 'record';
	INSERT INTO regcrm.deal (id, stage, created_at)
		SELECT 100 + n, 'new', clock_timestamp() - interval '15 min' + n * interval '20 ms' FROM generate_series(1, 400) n};
$node->safe_psql('north', $stream);
my $begin = time;
my ($gone, $back) = (0, 0);
my $kept;
for my $round (1 .. 4)
{
	$gone++ if $node->psql('north', "SET lock_timeout = '10s'; BEGIN; SELECT regcrm.detach(); DROP EXTENSION regcrm; COMMIT", on_error_stop => 1) == 0;
	$kept //= Lived::contents($node, 'north');
	Time::HiRes::usleep(300_000);
	is($node->safe_psql('north', q{SELECT count(*) FROM regcrm.deal WHERE stage = 'new'}), '401', "round $round: without the extension the deals are there");
	$back++ if $node->psql('north', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()', on_error_stop => 1) == 0;
}
is("$gone $back", '4 4', 'dropped under its workers and made again, four times');
ok($node->poll_query_until('north', q{SELECT count(*) = 400 FROM regcrm.violation WHERE rule = 'NEW-1' AND deal_id > 100}), 'what fell due in between is flagged');
is($node->safe_psql('north', 'SELECT count(*) FROM (SELECT FROM regcrm.violation GROUP BY account_id, deal_id, rule, arose_at, task_id HAVING count(*) > 1) x'), '0', '... once');
my $now = Lived::contents($node, 'north');
for my $table (qw(deal event task account rule stage_def transition calendar_week feed))
{
	is(join("\n", @{ $now->{$table} }), join("\n", @{ $kept->{$table} }), "$table is as it was") if $table ne 'account';
}
is($node->safe_psql('South Two', 'SELECT changed FROM regcrm.rejudge()'), '0', 'the other database is as it was');
ok($node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = 'South Two' AND backend_type IN ('regcrm clock', 'regcrm sync')}), '... with its workers');

# ---- for good: workers stay and wait, the database can be dropped

$node->safe_psql('north', 'SELECT regcrm.detach(); DROP EXTENSION regcrm');
for (1 .. 300)
{
	last if slurp_file($node->logfile) =~ /regcrm (?:clock|sync) of north waits: there is no extension/;
	Time::HiRes::usleep(100_000);
}
like(slurp_file($node->logfile), qr/regcrm (?:clock|sync) of north waits: there is no extension/, 'its workers say for what they wait');
$node->safe_psql('postgres', "SET statement_timeout = '30s'; DROP DATABASE north WITH (FORCE)");
$node->safe_psql('South Two', q{SET regcrm.mode = 'record'; INSERT INTO regcrm.deal (id, stage, created_at) VALUES (2, 'new', clock_timestamp() - interval '10 min' + interval '1 s')});
ok($node->poll_query_until('South Two', q{SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = 2 AND rule = 'NEW-1'}), 'the other goes on');

unlike(slurp_file($node->logfile), qr/terminating any other active server processes|PANIC/, 'nothing of that was a crash');
$node->stop;
done_testing();
