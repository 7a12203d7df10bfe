# pg_upgrade of a lived-in database: the new server holds every row, and what
# stands around them; its views answer, its gate refuses, its workers flag what
# fell due meanwhile; tokens stay.  pg_upgrade itself sets nobody to work.
#
# OLD_BIN and NEW_BIN: the two servers' programs, each with the extension.
# Run by test/deep/pg_upgrade.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Lived;
use Test::More;

my ($old_bin, $new_bin) = @ENV{qw(OLD_BIN NEW_BIN)};
sub cluster
{
	my ($name, $bin) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, install_path => $bin =~ s{/bin$}{}r);
	# before 18 without checksums, from 18 on with them: pg_upgrade wants both alike
	my ($major) = `$bin/postgres --version` =~ / (\d+)/;
	$node->init(extra => [ '--locale=C', '--encoding=UTF8', '-U', 'postgres', $major >= 18 ? '--no-data-checksums' : () ]);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'regcrm'\nregcrm.databases = 'lived'\n");
	return $node;
}

my $old = cluster('old', $old_bin);
$old->start;
$old->safe_psql('postgres', 'CREATE ROLE bi NOLOGIN; CREATE DATABASE lived');
Lived::live($old, 'lived');
$old->safe_psql('lived', 'INSERT INTO regcrm.account (id) VALUES (10)');
# a duty that will fall due while no server runs
$old->safe_psql('lived', q{SET regcrm.mode = 'record'; INSERT INTO regcrm.deal (account_id, id, stage, created_at)
	VALUES (10, 1, 'new', clock_timestamp() - interval '10 min' + interval '8 s')});
$old->safe_psql('lived', q{SELECT regcrm.stop_workers()});
my %told = map { $_ => $old->safe_psql('lived', $_) } (
	'SELECT * FROM public.forecast',
	'SELECT * FROM public.my_open ORDER BY 1',
	'SELECT account_id, day, manager_id, arisen, met, late, missed, violations FROM regcrm.manager_scorecard ORDER BY 1, 2, 3',
	'SELECT * FROM regcrm.secret ORDER BY 1');
my $rows = Lived::contents($old, 'lived');
my $around = Lived::surroundings($old, 'lived');
$old->safe_psql('lived', q{UPDATE regcrm.worker_switch SET stopped = false});
is(Lived::empty($rows), '', 'a lived-in database of ' . `$old_bin/postgres --version` =~ s/\n//r);
$old->stop;

my $new = cluster('new', $new_bin);
chdir $PostgreSQL::Test::Utils::tmp_check or die $!;
my @upgrade = ("$new_bin/pg_upgrade", '-U', 'postgres', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old_bin, '-B', $new_bin,
	'-s', $new->host, '-p', $old->port, '-P', $new->port);
command_ok([ @upgrade, '--check' ], 'pg_upgrade --check');
command_ok(\@upgrade, 'pg_upgrade');
my @said = grep { -f } map { glob "$_" } $new->data_dir . '/pg_upgrade_output.d/*/log/*', $new->data_dir . '/pg_upgrade_output.d/*/*.log';
ok(!(grep { slurp_file($_) =~ /regcrm (clock|sync) of|regcrm launcher/ } @said), 'while it upgrades no worker runs');

# as it came, before anybody works there
$new->append_conf('postgresql.conf', "regcrm.databases = ''\n");
$new->start;
Lived::is_same(Lived::contents($new, 'lived'), $rows, `$new_bin/postgres --version` =~ s/\n//r . ': every row of every table, and no other');
# definitions are printed in other words by other versions: columns, triggers, indexes, rights and comments are compared
my %other_words = (view => 1, constraint => 1);
my ($was, $came) = ({ schema => [ grep { !/^\((?:view|constraint),/ } @{ $around->{schema} } ] }, Lived::surroundings($new, 'lived', %other_words));
for my $row (@{ $was->{schema} }, @{ $came->{schema} })
{
	# rights come in another order; 17 brings an owner one more: MAINTAIN
	$row =~ s/\barwdDxtm\b/arwdDxt/g;
	$row =~ s/\{([^{}]*=[^{}]*)\}/'{' . join(',', sort split(m{,}, $1)) . '}'/ge;
	# the rights that a function has by itself, spelled out or not
	$row =~ s/^(\(function,.*)"\{=X\/postgres,postgres=X\/postgres\}"/$1/;
}
Lived::is_same($came, $was, 'columns, defaults, triggers, indexes, rights and comments');
is($new->safe_psql('lived', $_), $told{$_}, "the same answer: $_") for sort keys %told;
like($new->safe_psql('lived', q{SELECT 'пробное'::regcrm.stage}), qr/^trial$/, 'stages go by their names');
my ($rc, $out, $err) = $new->psql('lived', q{UPDATE regcrm.deal SET stage = 'won' WHERE account_id = 7 AND id = 1});
like($err, qr/may not enter stage "won"/, 'the gate refuses an illegal move');
$new->safe_psql('lived', 'SELECT FROM regcrm.setup()');
Lived::is_same(Lived::contents($new, 'lived'), $rows, 'setup() again changes no row');
$new->append_conf('postgresql.conf', "regcrm.databases = 'lived'\n");
$new->reload;
ok($new->poll_query_until('lived', q{SELECT count(*) = 1 FROM regcrm.violation WHERE account_id = 10 AND rule = 'NEW-1' AND breached_at < detected_at}), 'its clock flags what fell due while no server ran');
unlike(slurp_file($new->logfile), qr/terminating any other active server processes|PANIC/, 'nothing of that was a crash');
$new->stop;
done_testing();
