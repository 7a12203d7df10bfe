# Clients of the views: ODBC and JDBC, as a role that has only what docs/bi.md
# says to grant (the statements are taken from there).  It lists views with their
# comments, reads Cyrillic, filters by date; moments are right in the role's zone
# and in the client's; what it may not see it does not see.
use strict;
use warnings;
use Encode;
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--locale=C.UTF-8', '--encoding=UTF8' ]);
# drivers of Java speak TCP only
$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\npassword_encryption = 'scram-sha-256'");
{
	my $hba = $node->data_dir . '/pg_hba.conf';
	my $lines = slurp_file($hba);
	unlink $hba;
	append_to_file($hba, "host all bi 127.0.0.1/32 scram-sha-256\n$lines");
}
$node->start;

my $top = "$FindBin::RealBin/../..";
my $setup = slurp_file("$top/sql/questions.sql");

# the account of sql/questions.sql, whose figures were worked out by hand there
my ($facts) = $setup =~ /^BEGIN;\n(.*?)^-- Evidence as ids/ms;
ok($facts, 'the account of sql/questions.sql is found');
$facts =~ s/SET LOCAL/SET/g;
$node->safe_psql('postgres', 'CREATE DATABASE warehouse');
$node->safe_psql('warehouse', "CREATE EXTENSION regcrm; SELECT FROM regcrm.setup(); SET timezone = 'Europe/Moscow'; $facts");
$node->safe_psql('warehouse', "INSERT INTO regcrm.secret (account_id, access_token) VALUES (9070, 'canary')");

# what docs/bi.md says to grant
my $bi = slurp_file("$top/docs/bi.md");
my ($grants) = $bi =~ /```sql\n(-- a role that reads.*?)```/s;
ok($grants, 'docs/bi.md says what to grant');
$node->safe_psql('warehouse', $grants);
my $port = $node->port;

# psql: everything is found by \dv+ and \df+, and every view answers
my $reader = [ connstr => "host=127.0.0.1 port=$port dbname=warehouse user=bi password=secret" ];
my $views = $node->safe_psql('warehouse', q{SELECT count(*) FROM pg_views WHERE schemaname = 'regcrm'});
my @without;
for my $view (split /\n/, $node->safe_psql('warehouse', q{SELECT viewname FROM pg_views WHERE schemaname = 'regcrm' ORDER BY 1}))
{
	my ($rc, $out, $err) = $node->psql('warehouse', "SELECT count(v::text) FROM regcrm.$view v", @$reader);
	push @without, "$view: $err" if $rc != 0;
}
is(join("\n", @without), '', 'the role reads every view');
my ($rc, $out, $err) = $node->psql('warehouse', '\dv+ regcrm.*', @$reader);
like($out, qr/violations\|view\|.*Every breach of the regulation/, '\dv+ shows the views with their comments');
($rc, $out, $err) = $node->psql('warehouse', '\df+ regcrm.*', @$reader);
like($out, qr/\|deal_story\|.*\|All that is known of a deal in order of time/s, '\df+ shows the functions with their comments');
($rc, $out, $err) = $node->psql('warehouse', 'SELECT count(*) FROM regcrm.deal_story(9070, 203)', @$reader);
is($out, '13', 'the role reads a deal\'s story');
($rc, $out, $err) = $node->psql('warehouse', q{SELECT deals_cost FROM regcrm.rule_cost() WHERE rule = 'NEW-1'}, @$reader);
is($out, '0.5', '... and the answers that are functions, of the only account');

# who switches the transaction back to writing finds no right to
($rc, $out, $err) = $node->psql('warehouse', "\\set VERBOSITY sqlstate\nSET default_transaction_read_only = off; UPDATE regcrm.deal SET name = ''", @$reader);
like($err, qr/42501/, 'nor does it write with the transaction made writable');

my $comment = 'Every breach of the regulation, readable. One row a breach. Filter periods by breached_at. Those that count are neither waived nor withdrawn.';
my $columns = $node->safe_psql('warehouse', q{SELECT count(*) FROM pg_attribute WHERE attrelid = 'regcrm.violations'::regclass AND attnum > 0});

# KEY<tab>VALUE lines of a client; a key that comes again is a list
sub client
{
	my ($name, @command) = @_;
	my ($stdout, $stderr) = ('', '');
	my $ok = IPC::Run::run(\@command, '<', \undef, '>', \$stdout, '2>', \$stderr);
	ok($ok, "$name: it runs to its end") or diag($stderr);
	my %said;
	for my $line (split /\n/, $stdout)
	{
		my ($key, $value) = split /\t/, $line, 2;
		$said{$key} = defined $said{$key} ? "$said{$key}; $value" : $value;
	}
	return \%said;
}

# What both clients must say: 202 was lost without a reason at 10:00 of the tenth in Moscow.
sub is_right
{
	my ($name, $said) = @_;
	is($said->{views}, $views, "$name: lists every view");
	is($said->{'remark of violations'}, $comment, "$name: shows what a view is for");
	is($said->{'columns of violations'}, $columns, "$name: lists the columns");
	is($said->{'columns of odd types'}, '[]', "$name: all of plain types");
	is($said->{violation}, 'Ученик 202|Борис|критическое|11639.0|2026-03-10|true', "$name: Cyrillic, a period, a number, a day, a flag");
	is($said->{scorecard}, 'Анна|1|1; Борис|1|0', "$name: a day given as a date");
	is($said->{'visits to new'}, '8', "$name: a stage given as text");
	is($said->{tokens}, '42501', "$name: no tokens");
	is($said->{'quarantined pages'}, '42501', "$name: nothing of quarantine but its number");
	is($said->{writing}, '25006', "$name: nothing is written");
	is($said->{waiving}, '42501', "$name: nothing is waived");
}

SKIP:
{
	my ($driver) = glob '/usr/lib/*/odbc/psqlodbcw.so';
	skip 'no odbc-postgresql and python3-pyodbc', 13 unless $driver && system("/usr/bin/python3 -c 'import pyodbc' 2>/dev/null") == 0;
	my $said = client('ODBC', '/usr/bin/python3', "$top/test/clients/odbc.py",
		"DRIVER=$driver;SERVER=127.0.0.1;PORT=$port;DATABASE=warehouse;UID=bi;PWD=secret");
	is_right('ODBC', $said);
	is($said->{zone}, 'Europe/Moscow', 'ODBC: in the zone of its role');
	is($said->{local}, '2026-03-10 10:01:00', 'ODBC: a moment as Moscow\'s clocks show it');
}

SKIP:
{
	my ($jar) = grep { -e } '/usr/share/java/postgresql.jar';
	skip 'no libpostgresql-jdbc-java and JDK', 26 unless $jar && system('javac -version >/dev/null 2>&1') == 0;
	# the driver brings the zone of its own machine
	for my $zone ([ 'Europe/Moscow', '2026-03-10 10:01:00.0' ], [ 'Asia/Yekaterinburg', '2026-03-10 12:01:00.0' ])
	{
		my $name = "JDBC in $zone->[0]";
		my $said = client($name, 'java', '-Xshare:auto', "-Duser.timezone=$zone->[0]", '-Dfile.encoding=UTF-8', '-cp', $jar,
			"$top/test/clients/Jdbc.java", "jdbc:postgresql://127.0.0.1:$port/warehouse", 'bi', 'secret');
		is_right($name, $said);
		is($said->{'views without a remark'}, '0', "$name: each view has its comment");
		is($said->{'columns without a remark'}, '0', "$name: each column has its comment");
		is($said->{instant}, '2026-03-10T07:01:00Z', "$name: the moment is right");
		is($said->{local}, $zone->[1], "$name: ... and shown by the client's clock");
	}
}

$node->stop;
done_testing();
