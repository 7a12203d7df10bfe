# Workers in a storm: ended again and again while they start (hazards W1), the
# extension dropped and made anew under them (W11), a database that is to be
# moved, renamed or dropped (W5), and what is planted before the extension comes.
#
# DEEP=1 (make check-deep): 200 endings, 50 extensions.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(time usleep);

my $endings = $ENV{DEEP} ? 200 : 6;
my $drops = $ENV{DEEP} ? 50 : 3;

my $sim = Sim->start('--days', 1, '--deals', 10, '--rate', 0);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('storms');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.databases = 'postgres, other'
regcrm.allow_http = on
regcrm.requests_per_second = 50
regcrm.sync_interval = 1s
log_min_messages = log
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
$node->safe_psql('postgres', "CALL regcrm.connect('$url', token => 'token')");

my $postmaster = $node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()');
my ($out, $err);

sub known_moves
{
	my ($what) = @_;
	my $known = $node->safe_psql('postgres', q{SELECT coalesce(max(known_until), '-infinity') FROM regcrm.account WHERE base_url IS NOT NULL});
	$sim->advance(600);
	ok($node->poll_query_until('postgres', "SELECT max(known_until) > '$known' FROM regcrm.account WHERE base_url IS NOT NULL"), $what);
	return;
}
known_moves('the worker works');

# ---- W1: ended as soon as it is seen, before and while it opens its account

my %ended;
my $deadline = time + 30 + $endings * 3;
while (time < $deadline && keys %ended < $endings)
{
	my $pids = $node->safe_psql('postgres', q{
		SELECT string_agg(pid::text, ' ') FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE backend_type IN ('regcrm sync', 'regcrm clock', 'regcrm launcher')});
	$ended{$_} = 1 for split / /, $pids;
	usleep(int rand 50_000);
}
cmp_ok(scalar(keys %ended), '>=', $endings, "$endings workers were ended while they started");
unlike(slurp_file($node->logfile), qr/terminating any other active server processes|TRAP:|PANIC/, 'none of them took the server along');
is($node->safe_psql('postgres', 'SELECT pg_postmaster_start_time()'), $postmaster, 'it never restarted');
known_moves('and the worker works again');

# ---- W11: the extension comes and goes under the workers

for my $round (1 .. $drops)
{
	$node->safe_psql('postgres', 'SELECT regcrm.detach(); DROP EXTENSION regcrm; CREATE EXTENSION regcrm; SELECT regcrm.setup()');
	$node->safe_psql('postgres', "CALL regcrm.connect('$url', token => 'token')");
	usleep(int rand 400_000);
}
unlike(slurp_file($node->logfile), qr/terminating any other active server processes|TRAP:|PANIC|cache lookup failed|could not open relation with OID/,
	"$drops times dropped and made anew: nobody fell over what was gone");
known_moves('and the worker works again');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('regcrm sync', 'regcrm clock')}),
	'2', 'one sync and one clock worker, as before');

# ---- W5: the database is free as soon as stop_workers() has returned

$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
my $space = PostgreSQL::Test::Utils::tempdir();
$node->safe_psql('postgres', "CREATE TABLESPACE elsewhere LOCATION '$space'");
for my $command ('ALTER DATABASE other SET TABLESPACE elsewhere', 'CREATE DATABASE copy TEMPLATE other',
	'ALTER DATABASE other RENAME TO other2', 'DROP DATABASE other2')
{
	my $database = $command =~ /other2$/ && $command =~ /^DROP/ ? 'other2' : 'other';
	if ($database eq 'other')
	{
		$node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = 'other' AND backend_type LIKE 'regcrm%'});
		is($node->safe_psql('other', 'SELECT regcrm.stop_workers()'), '2', "stop_workers(), then $command");
	}
	is($node->psql('postgres', $command, stderr => \$err), 0, $command) or like($err, qr/belong to role "planter"/, '... and says whose it is');
	$node->safe_psql('other', 'SELECT regcrm.start_workers()') unless $command =~ /RENAME|DROP/;
}

# ---- what somebody planted (X3): the script adopts nothing

$node->safe_psql('postgres', q{CREATE ROLE planter LOGIN; CREATE DATABASE planted OWNER planter});
for my $plant ('CREATE FUNCTION regcrm.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.now() $$',
	'CREATE TYPE regcrm.stage AS (x int)', 'CREATE OPERATOR regcrm.= (LEFTARG = int, RIGHTARG = int, FUNCTION = pg_catalog.int4ne)')
{
	$node->safe_psql('planted', "CREATE SCHEMA regcrm; GRANT ALL ON SCHEMA regcrm TO planter; SET ROLE planter; $plant");
	isnt($node->psql('planted', 'CREATE EXTENSION regcrm', stderr => \$err, extra_params => [ '-v', 'VERBOSITY=verbose' ]), 0, "refused: $plant");
	like($err, qr/already holds.*HINT/s, "... with a hint");
	$node->safe_psql('planted', 'DROP SCHEMA regcrm CASCADE');
}
$node->safe_psql('planted', 'CREATE SCHEMA regcrm AUTHORIZATION planter; CREATE TABLE regcrm.rule (code text); ALTER TABLE regcrm.rule OWNER TO planter');
isnt($node->psql('planted', 'CREATE EXTENSION regcrm', stderr => \$err), 0, 'nor does it come into a schema of somebody else\'s');
like($err, qr/schema "regcrm" belongs to.*HINT/s, '... and says what to do');
# given to the superuser, the schema may be taken; the table in it is still the planter's
$node->safe_psql('planted', 'ALTER SCHEMA regcrm OWNER TO CURRENT_USER; CREATE EXTENSION regcrm');
isnt($node->psql('planted', 'SELECT regcrm.setup()', stderr => \$err), 0, 'nor does setup() take a table of somebody else\'s');
like($err, qr/belong to role "planter"/, '... and says whose it is');

$node->stop('fast');
done_testing();
