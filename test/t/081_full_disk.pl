# A full disk.  The tables lie on a small file system that fills up: the write
# that meets it fails as a whole (53100), in SQL and in ingest(); what was there
# stays, the clock and its database stay up, and with room again the same work
# comes to the same rows as where there was room all the time.  Then the disk
# that holds the write-ahead log: the server stops, and with room again starts
# with all that was committed.
#
# The small file system is a tmpfs in a mount namespace of the test's own.
use strict;
use warnings;
use File::Temp;

# before anything else opens files
BEGIN
{
	my @own = qw(unshare --user --map-current-user --mount --keep-caps);
	if (!$ENV{FULL_DISK})
	{
		my $small = File::Temp::tempdir('regcrm-small.XXXXXX', DIR => '/tmp');
		if (system("@own sh -c 'mount -t tmpfs -o size=1m tmpfs $small' >/dev/null 2>&1") != 0)
		{
			rmdir $small;
			print "1..0 # SKIP no mount namespace of our own is to be had\n";
			exit;
		}
		# all that follows lives in it
		my $status = system(@own, 'env', "FULL_DISK=$small", $^X, (map { "-I$_" } @INC), $0);
		rmdir "$small/$_" for qw(tables wal);
		rmdir $small;
		exit($status >> 8 || ($status ? 1 : 0));
	}
}

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use Warehouse;

my $small = $ENV{FULL_DISK};


sub small { my ($where, $size) = @_; mkdir "$small/$where"; system("mount -t tmpfs -o size=$size tmpfs $small/$where") == 0 or die; return "$small/$where"; }
sub room { my ($where, $size) = @_; system("mount -o remount,size=$size $small/$where") == 0 or die; return; }

my $node = PostgreSQL::Test::Cluster->new('full');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'regcrm'\nregcrm.databases = 'hurt'\nautovacuum = off\nrestart_after_crash = off\nmax_wal_size = 1GB\nmin_wal_size = 32MB\n");
$node->start;
my $tables = small('tables', '40m');
$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$tables'");
$node->safe_psql('postgres', 'CREATE DATABASE clean');
$node->safe_psql('clean', 'CREATE EXTENSION regcrm; SELECT FROM regcrm.setup(); INSERT INTO regcrm.account (id) VALUES (1)');
$node->safe_psql('postgres', 'CREATE DATABASE hurt TEMPLATE clean TABLESPACE small');

# before there is no room: who is not there yet can't be watched
$node->poll_query_until('hurt', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock'}) or die 'no clock';

# Fills a file system up but for some megabytes.
sub ballast
{
	my ($where, $left) = @_;
	open my $file, '>', "$where/ballast" or die $!;
	while (1)
	{
		my ($free) = `df -m --output=avail $where` =~ /(\d+)\s*$/;
		last if $free <= $left;
		syswrite $file, 'x' x 1_048_576;
	}
	close $file;
	return;
}

sub load
{
	my ($from, $to) = @_;
	return "SET regcrm.mode = 'record'; SET regcrm.account_id = '1';
		INSERT INTO regcrm.deal (id, name, stage, manager_id, created_at, custom)
			SELECT n, 'deal ' || n, 'new', n % 7, timestamptz '2026-03-02 09:00+03' + n * interval '3 min', jsonb_build_object('1', jsonb_build_array(repeat(md5(n::text), 4)))
			FROM generate_series($from, $to) n;
		INSERT INTO regcrm.event (id, deal_id, at, kind, actor_id)
			SELECT n * 10, n, timestamptz '2026-03-02 09:00+03' + n * interval '3 min' + n % 40 * interval '1 min', 'call_out', n % 7 FROM generate_series($from, $to) n;";
}

# ---------------------------------------------------------------------------
# the disk of the tables
# ---------------------------------------------------------------------------

# A duty of another account falls due in some seconds, when there is no room.
$node->safe_psql('hurt', q{INSERT INTO regcrm.account (id) VALUES (2); SET regcrm.mode = 'record';
	INSERT INTO regcrm.deal (account_id, id, stage, created_at) VALUES (2, 1, 'new', now() - interval '15 min' + interval '5 s')});

# Batches until one fails.
ballast($tables, 3);
my ($done, $err) = (0, '');
for (1 .. 60)
{
	last if $node->psql('hurt', '\set VERBOSITY verbose' . "\nBEGIN;\n" . load($done + 1, $done + 250) . "\nCOMMIT;", stderr => \$err, on_error_stop => 1) != 0;
	$done += 250;
}
like($err, qr/53100|No space left on device/, "the disk is full after $done deals: the transaction fails, and says why");
is($node->safe_psql('hurt', 'SELECT count(*), max(id) FROM regcrm.deal WHERE account_id = 1'), "$done|$done", 'of it nothing is stored, of those before all');
is($node->safe_psql('hurt', 'SELECT count(*) FROM regcrm.event e WHERE NOT EXISTS (SELECT FROM regcrm.deal d WHERE d.id = e.deal_id)'), '0', '... nor half of it');
my $page = '{"_embedded": {"leads": [' . join(', ', map { sprintf '{"id": %d, "name": "%s", "created_at": 1772430000, "updated_at": 1772430000}', 900000 + $_, 'x' x 4000 } 1 .. 250) . ']}}';
$node->psql('hurt', "\\set VERBOSITY verbose\nSELECT FROM regcrm.ingest(1, 'leads', '$page');", stderr => \$err);
like($err, qr/53100|No space left on device/, 'a page that finds no room is refused as a whole');
is($node->safe_psql('hurt', 'SELECT (SELECT count(*) FROM regcrm.quarantine) + (SELECT count(*) FROM regcrm.deal WHERE id > 900000)'), '0', '... none of its rows is kept as bad');

# the duty falls due: the clock neither dies nor spins
my $clock = $node->safe_psql('hurt', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'regcrm clock'});
$node->poll_query_until('hurt', q{SELECT bool_and(due_at < clock_timestamp()) FROM regcrm.deadline WHERE account_id = 2 AND rule = 'NEW-1'});
my $used = sub { my @stat = split / /, slurp_file("/proc/$clock/stat"); return $stat[13] + $stat[14]; };
my $before = $used->();
usleep(1_500_000);
cmp_ok($used->() - $before, '<', 50, 'a duty falls due meanwhile: the clock does not spin');
is($node->safe_psql('hurt', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'regcrm clock'}), $clock, '... nor end');

room('tables', '400m');
ok($node->poll_query_until('hurt', q{SELECT count(*) = 1 FROM regcrm.violation WHERE account_id = 2 AND rule = 'NEW-1'}), 'with room again it flags it');
$node->safe_psql('hurt', "SET regcrm.mode = 'off'; " . join '; ', map { "DELETE FROM regcrm.$_ WHERE account_id = 2" } qw(violation deadline event next_moment deal feed));
$node->safe_psql('hurt', 'DELETE FROM regcrm.account WHERE id = 2');
$node->safe_psql('hurt', load($done + 1, $done + 250));
$node->safe_psql('clean', load(1, $done + 250));
Warehouse::same($node, 'clean', 'hurt', 'with room again, and done again');
is($node->safe_psql('hurt', 'SELECT changed FROM regcrm.rejudge()'), '0', 'judging it all again changes nothing');

# ---------------------------------------------------------------------------
# the disk of the write-ahead log
# ---------------------------------------------------------------------------

$node->stop;
my $wal = small('wal', '112m');
my $data = $node->data_dir;
# after a clean stop one segment is all that is needed
my ($segment) = `pg_controldata $data` =~ /REDO WAL file:\s*(\S+)/;
system("mkdir $wal/archive_status && cp -a $data/pg_wal/$segment $wal/ && rm -rf $data/pg_wal && ln -s $wal $data/pg_wal") == 0 or die;
$node->start;
# what else lies on that disk grows
ballast($wal, 4);
my $committed = $done + 250;
for my $round (1 .. 100)
{
	last if $node->psql('hurt', "BEGIN;\n" . load($committed + 1, $committed + 250) . "\nCOMMIT;", on_error_stop => 1, stderr => \$err) != 0;
	$committed += 250;
}
like(slurp_file($node->logfile), qr/PANIC:.*No space left on device/, "no room for the log after $committed deals: the server stops");
unlink "$wal/ballast";
room('wal', '600m');
$node->{_pid} = undef;
for (1 .. 100)
{
	last if $node->start(fail_ok => 1);
	$node->{_pid} = undef;
	usleep(100_000);
}
my $stored = $node->safe_psql('hurt', 'SELECT max(id) FROM regcrm.deal');
ok($stored == $committed || $stored == $committed + 250, 'with room again it starts, with all that was committed');
$node->safe_psql('hurt', load($stored + 1, $committed + 250)) if $stored < $committed + 250;
$node->safe_psql('clean', load($done + 251, $committed + 250));
Warehouse::same($node, 'clean', 'hurt', '... and done again');
is($node->safe_psql('hurt', 'SELECT changed FROM regcrm.rejudge()'), '0', 'judging it all again changes nothing');
ok($node->poll_query_until('hurt', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'regcrm clock'}), 'the clock is back');

$node->stop;
done_testing();
