# The jobs that schedule_jobs() gives to pg_cron do their work, beside a worker
# that syncs all the time; and what came later than the nightly look goes back
# is found by the one of the week.
#
# make check runs the stored commands as they stand; DEEP=PIECE has pg_cron run
# them, by connections or by background workers, which takes minutes.
#
# deep pieces: connections workers

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(usleep);

my $deep = $ENV{DEEP} || '';
plan skip_all => 'pg_cron is not here' unless glob '/usr/share/postgresql/*/extension/pg_cron.control';

my $sim = Sim->start('--days', 20, '--deals', 60, '--rate', 0);
my $node = PostgreSQL::Test::Cluster->new('cron');
$node->init;
$node->append_conf('postgresql.conf', <<"END");
shared_preload_libraries = 'regcrm,pg_cron'
cron.database_name = 'postgres'
cron.host = '@{[ $node->host ]}'
cron.use_background_workers = @{[ $deep eq 'workers' ? 'on' : 'off' ]}
regcrm.databases = 'crm'
regcrm.allow_http = on
regcrm.requests_per_second = 50
regcrm.sync_interval = 1s
max_worker_processes = 24
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron; CREATE DATABASE crm');
$node->safe_psql('crm', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
my ($err, $in_crm) = ('', sub { return $node->safe_psql('crm', $_[0]); });
$in_crm->("CALL regcrm.connect('" . $sim->url . "', token => 'token')");
$node->poll_query_until('crm', 'SELECT loaded_at IS NOT NULL FROM regcrm.account') or die 'no first load';
$sim->run;

# What amoCRM showed only after the windows had passed, of yesterday and of ten days ago.
my @late = map { $in_crm->("SELECT id FROM regcrm.event WHERE source = 'event' AND at < now() - interval '1 s'
	AND at < (SELECT known_until - interval '$_' FROM regcrm.account) ORDER BY at DESC LIMIT 1") } '1 day', '10 days';
$in_crm->('SET regcrm.ingesting = on; DELETE FROM regcrm.event WHERE id IN (' . join(',', @late) . ')');
sub missing { return 2 - $in_crm->('SELECT count(*) FROM regcrm.event WHERE id IN (' . join(',', @late) . ')'); }

$node->psql('crm', 'SELECT regcrm.schedule_jobs()', stderr => \$err);
my ($statements) = $err =~ /^(SELECT cron\..*;)$/ms or die $err;
$node->safe_psql('postgres', $statements);
my %command = map { split /\|/, $_, 2 } split /\n/, $node->safe_psql('postgres', 'SELECT jobname, command FROM cron.job');
is(scalar keys %command, 4, 'four jobs');

# Has a job done, as pg_cron would do it, or by it.
sub done
{
	my ($job) = @_;
	return $node->psql('crm', $command{$job}, stderr => \$err) == 0 if !$deep;
	my $id = $node->safe_psql('postgres', "SELECT jobid FROM cron.job WHERE jobname = '$job'");
	my $schedule = $node->safe_psql('postgres', "SELECT schedule FROM cron.job WHERE jobid = $id");
	$node->safe_psql('postgres', "SELECT cron.alter_job($id, schedule => '* * * * *')");
	$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM cron.job_run_details WHERE jobid = $id AND status IN ('succeeded', 'failed')");
	$node->safe_psql('postgres', "SELECT cron.alter_job($id, schedule => '$schedule')");
	my $said = $node->safe_psql('postgres', "SELECT status, return_message FROM cron.job_run_details WHERE jobid = $id AND status IN ('succeeded', 'failed') LIMIT 1");
	$err = $said;
	return $said =~ /^succeeded/;
}

is(missing(), 2, 'two events are missing');
ok(done('regcrm reconcile crm'), 'the nightly job ends well, beside a busy worker') or diag($err);
is(missing(), 1, 'and finds what was late by a day');
ok(done('regcrm reconcile month crm'), 'the weekly job too') or diag($err);
is(missing(), 0, 'and finds what was late by ten');
is($in_crm->(q{SELECT sum(missed) FROM regcrm.reconciliation WHERE entity = 'events'}), '2', 'both are reported');
$in_crm->(q{INSERT INTO regcrm.quarantine (account_id, entity, resolved_at, error) VALUES (30111222, 'leads', now() - interval '1 year', 'x')});
ok(done('regcrm retention crm'), 'retention') or diag($err);
is($in_crm->(q{SELECT count(*) FROM regcrm.quarantine WHERE error = 'x'}), '0', 'takes away what served its purpose');
ok(done('regcrm marts crm'), 'the hourly sums') or diag($err);
done_testing();
