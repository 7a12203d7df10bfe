# Figures against the truth: what the views count of a synced account is what
# the simulated managers really did, by rule, manager and week; with marts that
# were begun before the first page came and refreshed on the way, and without;
# and in a database restored from a dump, where the marts go on.
use strict;
use warnings;
use Encode;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;

my $truth_file = PostgreSQL::Test::Utils::tempdir_short() . '/truth.jsonl';
my $sim = Sim->start('--days', 8, '--deals', 250, '--rate', 0, '--truth', $truth_file);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--locale=C.UTF-8', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', "regcrm.allow_http = on\nregcrm.requests_per_second = 200\njit = off\ntimezone = 'Europe/Moscow'");
$node->start;
sub sql { return $node->safe_psql(@_); }

# Rows that the one counts and the other does not.
my $differ = q{SELECT (SELECT count(*) FROM (TABLE regcrm.duty_counts EXCEPT TABLE regcrm.duty_counts_live) x)
		+ (SELECT count(*) FROM (TABLE regcrm.duty_counts_live EXCEPT TABLE regcrm.duty_counts) x), (SELECT count(*) > 0 FROM regcrm.duty_counts)};

sql('postgres', 'CREATE DATABASE warehouse');
sql('warehouse', 'CREATE EXTENSION regcrm; SELECT FROM regcrm.setup()');
sql('warehouse', 'CALL regcrm.refresh_marts()');
is(sql('warehouse', q{SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'regcrm_mart%'}), '8', 'the marts take note before there is anything');

my $url = $sim->url;
my $account = sql('warehouse', "CALL regcrm.connect('$url', token => 'token')");
# a pass in the background, the marts refreshed meanwhile
my $pass = $node->background_psql('warehouse', on_error_stop => 0);
$pass->query_until(qr/begun/, "\\echo begun\nCALL regcrm.sync($account);\n\\echo done\n");
my $busy = 0;
for (1 .. 600)
{
	sql('warehouse', 'CALL regcrm.refresh_marts()');
	my ($differences) = split /\|/, sql('warehouse', $differ);
	$busy++ if $differences ne '0';
	last if sql('warehouse', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'CALL regcrm.sync%' AND state <> 'idle' AND pid <> pg_backend_pid()}) eq '0';
	Time::HiRes::usleep(200_000);
}
$pass->quit;
is($busy, 0, 'while the sync loads, the marts and the ledger never differ');
is(sql('warehouse', $differ), '0|t', '... nor when it is done');
sql('warehouse', 'CALL regcrm.refresh_marts()');
sql('warehouse', 'CALL regcrm.refresh_marts(5000)');
is(sql('warehouse', 'SELECT count(*) FROM regcrm.mart_dirty'), '0', 'refreshed: no day is left to count');
is(sql('warehouse', $differ), '0|t', '... and nothing differs');

# ---- the truth
my (%by_rule, %by_manager, %by_week, $breaches);
for my $line (split /\n/, slurp_file($truth_file))
{
	my $row = decode_json($line);
	next unless defined $row->{deal_id};
	my $manager = $row->{manager_id} // '';
	# weeks begin on Monday in Moscow, three hours ahead of UTC; 1970-01-01 was a Thursday
	my $week = int(($row->{breached_at} + 3 * 3600 + 3 * 86400) / (7 * 86400));
	$breaches++;
	$by_rule{ $row->{rule} }++;
	$by_manager{$manager}++ if $manager ne '';
	$by_week{"$week|$row->{rule}|$manager"}++;
}
cmp_ok($breaches, '>', 50, "the simulated managers broke the regulation $breaches times");
sub lines { my ($h) = @_; return join("\n", sort map { "$_|$h->{$_}" } keys %$h); }
sub found { my ($sql) = @_; return join("\n", sort split /\n/, sql('warehouse', $sql)); }

is(found('SELECT rule, violations FROM regcrm.rule_compliance WHERE violations > 0'), lines(\%by_rule), 'rule_compliance: the violations of each rule');
is(found('SELECT rule, sum(violations) FROM regcrm.rule_compliance_daily GROUP BY rule HAVING sum(violations) > 0'), lines(\%by_rule), 'rule_compliance_daily: added up');
is(found('SELECT manager_id, sum(violations) FROM regcrm.manager_scorecard GROUP BY manager_id HAVING sum(violations) > 0'), lines(\%by_manager),
	'manager_scorecard: those of each manager, none of a robot');
is(found('SELECT manager_id, sum(violations) FROM regcrm.manager_weekly GROUP BY manager_id HAVING sum(violations) > 0'), lines(\%by_manager),
	'manager_weekly: the same');
is(found(q{SELECT (w.week - date '1969-12-29') / 7, w.rule, w.manager_id, w.violations FROM regcrm.violations_weekly w WHERE w.violations > 0}), lines(\%by_week),
	'violations_weekly: by rule, manager and week');
is(found('SELECT rule, count(*) FROM regcrm.violations WHERE counts GROUP BY rule'), lines(\%by_rule), 'violations: one row each');
is(found(q{SELECT rule, count(*) FROM regcrm.deal_timeline WHERE kind = 'violation' GROUP BY rule}), lines(\%by_rule), 'deal_timeline: each in its deal\'s story');
is(sql('warehouse', q{SELECT count(*) FROM regcrm.violations v WHERE NOT EXISTS (
		SELECT FROM regcrm.deal_story(v.account_id, v.deal_id) s WHERE s.violation_id = v.id AND s.at = v.breached_at AND s.is_violation)}), '0',
	'deal_story(): each at its moment');

# ---- the same figures without marts
my $with = sql('warehouse', 'SELECT * FROM regcrm.manager_scorecard ORDER BY 1, 2, 3');
sql('warehouse', 'SELECT regcrm.stop_marts()');
is(sql('warehouse', 'SELECT * FROM regcrm.manager_scorecard ORDER BY 1, 2, 3'), $with, 'the scorecard says the same without marts');
sql('warehouse', 'CALL regcrm.refresh_marts()');
sql('warehouse', 'CALL regcrm.refresh_marts(5000)');

# ---- dump and restore: sums, notes and triggers
sql('warehouse', q{SELECT regcrm.waive(account_id, id, 'для пробы') FROM regcrm.violation ORDER BY id LIMIT 1});
isnt(sql('warehouse', 'SELECT count(*) FROM regcrm.mart_dirty'), '0', 'a waiver leaves a note');
my @connection = ('--host', $node->host, '--port', $node->port);
my $dump = "$PostgreSQL::Test::Utils::tmp_check/marts.sql";
command_ok([ 'pg_dump', @connection, '-f', $dump, 'warehouse' ], 'pg_dump');
sql('postgres', 'CREATE DATABASE restored');
my ($out, $err);
IPC::Run::run([ 'psql', '-X', '-q', @connection, '-d', 'restored', '-f', $dump ], '>', \$out, '2>', \$err);
is($err, '', 'restored without an error');
for my $table (qw(mart_duty mart_state mart_dirty))
{
	is(sql('restored', "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM regcrm.$table t"),
		sql('warehouse', "SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM regcrm.$table t"), "restored: $table");
}
is(sql('restored', $differ), '0|t', 'restored: nothing differs');
sql('restored', q{SELECT regcrm.waive(account_id, id, 'для пробы') FROM regcrm.violation WHERE waived_at IS NULL ORDER BY id DESC LIMIT 3});
is(sql('restored', $differ), '0|t', 'restored: writes are noted');
sql('restored', 'SELECT FROM regcrm.setup()');
sql('restored', 'CALL regcrm.refresh_marts()');
is(sql('restored', 'SELECT count(*) FROM regcrm.mart_dirty'), '0', 'restored: and counted');
is(sql('restored', $differ), '0|t', 'restored: nothing differs then');

$node->stop;
$sim->stop;
done_testing();
