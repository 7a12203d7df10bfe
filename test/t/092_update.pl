# ALTER EXTENSION regcrm UPDATE to a throw-away next version, 1.1, as an upgrade
# of the package does it: a new library and script come to a server that runs,
# then the extension is updated, then setup() migrates the tables.  Between any
# two of these steps nothing crashes, facts are judged, workers wait and say for
# what; afterwards every row is there, users' views answer, and the functions
# and views are those of a 1.1 installed anew (hazards W10, W11, D6).
#
# 1.1 is 1.0 with a column of deal, a view that grows at its end, row types that
# grow, and a function more.  Its library is ours, saying that it is 1.1.
use strict;
use warnings;
use File::Copy;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Lived;
use Test::More;
use Time::HiRes ();

# A private copy of the server, whose files the test may change.
my $copy = PostgreSQL::Test::Utils::tempdir();
my %dir;
for my $kind (qw(bindir pkglibdir sharedir))
{
	chomp($dir{$kind} = `pg_config --$kind`);
	my $parent = $dir{$kind} =~ s{/[^/]+$}{}r;
	system('mkdir', '-p', "$copy$parent") == 0 && system('cp', '-a', $dir{$kind}, "$copy$parent/") == 0 or die "cannot copy $dir{$kind}";
}
my $extensions = "$copy$dir{sharedir}/extension";
my $library = "$copy$dir{pkglibdir}/regcrm.so";
my $install = "$copy$dir{bindir}" =~ s{/bin$}{}r;

# ---------------------------------------------------------------------------
# the next version
# ---------------------------------------------------------------------------

my $script = slurp_file("$extensions/regcrm--1.0.sql");
$script =~ s{(FUNCTION regcrm\.setup_mapping\(\).*?^BEGIN\n)}
	{$1\tALTER TABLE regcrm.deal ADD COLUMN IF NOT EXISTS grown text DEFAULT 'as was';\n}ms or die;
$script =~ s{(\tst\.name AS to_stage_name)(\n\t\tFROM regcrm\.violation v)}{$1,\n\t\t\td.grown$2} or die;

# The statements of a script, without comments.
sub statements
{
	my ($text) = @_;
	my @statements = ('');
	while ($text =~ /\G(--[^\n]*\n|'(?:[^']|'')*'|\$(\w*)\$.*?\$\2\$|BEGIN ATOMIC\b.*?^\s*END;|;|\\[^\n]*\n|.)/gms)
	{
		my $piece = $1;
		$statements[-1] .= $piece =~ /^(--|\\)/ ? "\n" : $piece;
		push @statements, '' if $piece eq ';' || $piece =~ /^BEGIN ATOMIC/;
	}
	return map { s/^\s+//r } @statements;
}

my @functions = grep { /^CREATE (FUNCTION|PROCEDURE)/ } statements($script);
cmp_ok(scalar @functions, '>', 80, 'functions and procedures of the script: ' . @functions);
s/^CREATE /CREATE OR REPLACE / for @functions;
# what runs as the owner of the tables goes by another name, behind a function of the library
my %behind = $script =~ /\('(\w+)', '(regcrm_by_owner\w*)'\)/g;
for my $function (@functions)
{
	$function =~ s/^(CREATE OR REPLACE \w+ regcrm\.)(\w+)/$1 . ($behind{$2} ? "$2_by_owner" : $2)/e;
}

# row types that the library fills grow at their end
my @types = grep { my $type = $_; grep { /RETURNS (?:SETOF )?\Q$type\E\s.*LANGUAGE C\b/s } @functions } $script =~ /^CREATE TYPE (regcrm\.\w+) AS \(/mg;
cmp_ok(scalar @types, '>', 4, "row types that the library fills: @types");
my $growth = join '', map { "ALTER TYPE $_ ADD ATTRIBUTE grown text;\n" } @types;
my $added = "CREATE FUNCTION regcrm.added_in_1_1() RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS \$\$ SELECT '1.1' \$\$;\n";

append_to_file("$extensions/regcrm--1.0--1.1.sql", join("\n", @functions) . $growth . $added);
append_to_file("$extensions/regcrm--1.1.sql", $script . $growth . $added);

sub new_library
{
	my $bytes = slurp_file($library);
	my $found = $bytes =~ s/(?<=\0)((?:regcrm\/)?)1\.0(?=\0)/${1}1.1/g;
	die 'the library does not say its version' unless $found;
	# another file under the same name, as a package manager leaves it
	append_to_file("$library.new", $bytes);
	rename "$library.new", $library or die $!;
}

# ---------------------------------------------------------------------------
# a server that runs 1.0
# ---------------------------------------------------------------------------

my $node = PostgreSQL::Test::Cluster->new('update', install_path => $install);
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'regcrm'\nregcrm.databases = 'lived'\n");
$node->start;
$node->safe_psql('postgres', 'CREATE ROLE bi NOLOGIN; CREATE DATABASE lived; CREATE DATABASE fresh');

sub sql { return $node->safe_psql('lived', $_[0]); }
sub sql_error
{
	my ($rc, $out, $err) = $node->psql('lived', "\\set VERBOSITY verbose\n$_[0]");
	return $err;
}

Lived::live($node, 'lived');
# of this account all hours count
sql('INSERT INTO regcrm.account (id) VALUES (10); UPDATE regcrm.account SET paused = true WHERE id = 8');

# the user's views on each of ours, one of them materialized
my @views = split /\n/, sql(q{SELECT relname FROM pg_class WHERE relnamespace = 'regcrm'::regnamespace AND relkind = 'v' ORDER BY 1});
sql(join ' ', 'CREATE SCHEMA bi;', map { "CREATE VIEW bi.$_ AS SELECT * FROM regcrm.$_;" } @views);
sql('CREATE MATERIALIZED VIEW bi.stored AS SELECT * FROM regcrm.violations');
sql(q{GRANT EXECUTE ON FUNCTION regcrm.judge(bigint, bigint, timestamptz) TO bi});

# A duty that falls due in a second; the clock flags it, or waits.
my $deals = 5000;
sub falls_due
{
	my $id = $deals++;
	sql("SET regcrm.mode = 'record'; INSERT INTO regcrm.deal (account_id, id, stage, created_at)
		VALUES (10, $id, 'new', clock_timestamp() - interval '10 min' + interval '1 s')");
	return "SELECT count(*) = 1 FROM regcrm.violation WHERE account_id = 10 AND deal_id = $id AND rule = 'NEW-1'";
}

# Waits until the log, from where we were, says it.
my $seen = 0;
sub log_says
{
	my ($regex, $name) = @_;
	for (1 .. 300)
	{
		if (slurp_file($node->logfile, $seen) =~ $regex)
		{
			$seen = -s $node->logfile;
			return pass($name);
		}
		Time::HiRes::usleep(100_000);
	}
	fail($name);
	diag(slurp_file($node->logfile, $seen));
}

# What writers and readers meet at each step.
my $mark = 6000;
sub lives
{
	my ($name) = @_;
	my $id = $mark++;
	like(sql_error("UPDATE regcrm.deal SET stage = 'won' WHERE account_id = 7 AND id = 1;"), qr/23514.*may not enter stage "won"/s, "$name: an illegal move is refused");
	sql("SET regcrm.mode = 'record'; INSERT INTO regcrm.deal (account_id, id, stage, created_at) VALUES (7, $id, 'won', '2026-03-01 10:00+03')");
	is(sql("SELECT count(*) FROM regcrm.violation WHERE account_id = 7 AND deal_id = $id AND rule = 'FLOW'"), '1', "$name: what is recorded is judged");
	for my $call ("SELECT count(*) > 0 FROM regcrm.judge(7, $id)", "SELECT count(*) > 0 FROM regcrm.allowed_moves(7, 1)",
		"SELECT count(*) > 0 FROM regcrm.check_move(7, 1, 'won')", "SELECT count(*) > 0 FROM regcrm.replay(7, 'idrive')",
		q{SELECT (regcrm.rejudge()).deals > 0})
	{
		is(sql($call), 't', "$name: $call");
	}
	sql("SET regcrm.mode = 'off'; DELETE FROM regcrm.violation WHERE account_id = 7 AND deal_id = $id; DELETE FROM regcrm.deadline WHERE account_id = 7 AND deal_id = $id;
		DELETE FROM regcrm.event WHERE account_id = 7 AND deal_id = $id; DELETE FROM regcrm.deal WHERE account_id = 7 AND id = $id");
}

ok($node->poll_query_until('lived', falls_due()), '1.0: the clock flags');
lives('1.0');

# ---------------------------------------------------------------------------
# step by step
# ---------------------------------------------------------------------------

my %sums = (mart_duty => 1, mart_state => 1, mart_dirty => 1);
my %moves = (%sums, account => 1, calendar_plan => 1);	# when it was last judged, and planned

# The extension is updated while the old library is in memory: its workers wait.
sql('SELECT regcrm.stop_workers()');
my $before = Lived::contents($node, 'lived');
sql('SELECT regcrm.start_workers()');
$seen = -s $node->logfile;
sql("ALTER EXTENSION regcrm UPDATE TO '1.1'");
my $due = falls_due();	# which wakes the clock
log_says(qr/regcrm clock of lived waits: its tables are not of version 1\.0.*HINT:.*restart the server/s, 'script 1.1, library 1.0: the clock waits, and says for what');
lives('script 1.1, library 1.0');
like(sql_error('CALL regcrm.sync(8)'), qr/55000.*not of version 1\.0.*HINT/s, 'script 1.1, library 1.0: sync() says so');
is(sql('SELECT regcrm.added_in_1_1()'), '1.1', 'what is new is there');

# The library comes, the server starts anew: now the tables are behind.
new_library();
$node->restart;
log_says(qr/regcrm clock of lived waits: its tables are not of version 1\.1.*HINT:.*regcrm\.setup\(\)/s, 'library 1.1, tables 1.0: the clock waits for setup()');
lives('library 1.1, tables 1.0');
is(sql('SELECT version FROM regcrm.installed'), '1.0', 'the tables are those of 1.0 yet');

# setup(): the workers go on by themselves.
sql('SELECT FROM regcrm.setup()');
log_says(qr/regcrm clock of lived is at work/, 'after setup() the clock goes on by itself');
ok($node->poll_query_until('lived', $due), '... and flags what fell due meanwhile');
lives('1.1');

sql('SELECT regcrm.stop_workers()');
sql("SET regcrm.mode = 'off'; DELETE FROM regcrm.violation WHERE account_id = 10 AND deal_id = 5001; DELETE FROM regcrm.deadline WHERE account_id = 10 AND deal_id = 5001;
	DELETE FROM regcrm.event WHERE account_id = 10 AND deal_id = 5001; DELETE FROM regcrm.next_moment WHERE account_id = 10 AND deal_id = 5001; DELETE FROM regcrm.deal WHERE account_id = 10 AND id = 5001");
is(sql(q{SELECT count(*) FROM regcrm.deal WHERE grown IS DISTINCT FROM 'as was'}), '0', 'the new column is there, filled');
my $after = Lived::contents($node, 'lived');
s/,"as was"\)$/)/ for @{ $after->{deal} };
Lived::is_same($after, $before, 'every row is as it was, but for the version', installed => 1, %moves);
is(sql('SELECT version FROM regcrm.installed'), '1.1', '... which is 1.1');
is(sql('SELECT count(*) FROM regcrm.secret'), '2', 'tokens stay');
is(sql(q{SELECT has_function_privilege('bi', 'regcrm.judge(bigint, bigint, timestamptz)', 'EXECUTE')}), 't', 'rights on functions stay');

is(sql(join ' UNION ALL ', map { "SELECT count(*) FROM (SELECT FROM bi.$_ LIMIT 1) x WHERE false" } @views), join("\n", ('0') x @views),
	'the user\'s views on ' . @views . ' of ours answer');
sql('REFRESH MATERIALIZED VIEW bi.stored');
is(sql(q{SELECT attname FROM pg_attribute WHERE attrelid = 'regcrm.violations'::regclass AND attnum > 0 ORDER BY attnum DESC LIMIT 1}), 'grown', 'a view has grown at its end');

# ---------------------------------------------------------------------------
# the same as 1.1 installed anew
# ---------------------------------------------------------------------------

$node->safe_psql('fresh', "CREATE EXTENSION regcrm VERSION '1.1'; SELECT FROM regcrm.setup()");
my $objects = q{
	SELECT p.oid::regprocedure::text, pg_get_functiondef(p.oid), obj_description(p.oid) FROM pg_proc p WHERE p.pronamespace = 'regcrm'::regnamespace
	UNION ALL SELECT c.relname, pg_get_viewdef(c.oid), c.reloptions::text FROM pg_class c WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind = 'v'
	UNION ALL SELECT c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum), NULL
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
		WHERE c.relnamespace = 'regcrm'::regnamespace AND c.relkind IN ('v', 'c') GROUP BY c.oid, c.relname};
my @both = map { $node->safe_psql($_, "SELECT x::text FROM ($objects) x(a, b, c) ORDER BY 1") } qw(lived fresh);
ok(length $both[0] > 100_000 && $both[0] eq $both[1], 'functions, views and row types are those of a 1.1 installed anew');

unlike(slurp_file($node->logfile), qr/terminating any other active server processes|PANIC|was terminated by signal/, 'nothing crashed on the way');
$node->stop;
done_testing();
