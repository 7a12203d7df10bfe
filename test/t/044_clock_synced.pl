# A synced account: its clock is known_until.  Nothing is flagged before the data is
# there, the view says since when it is waited for, the first load is not told, and
# what the sync worker finds afterwards is.

use strict;
use warnings;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(usleep);

my $sim = Sim->start('--days', 5, '--deals', 150, '--rate', 0);
my $url = $sim->url;

my $node = PostgreSQL::Test::Cluster->new('synced');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.databases = 'postgres'
regcrm.allow_http = on
regcrm.sync_interval = 1s
regcrm.requests_per_second = 50
END
$node->start;
sub sql { return $node->safe_psql('postgres', $_[0]); }

my ($in, $out, $err) = ('', '', '');
my $listener = IPC::Run::start(
	[ 'psql', '-XAtq', '-h', $node->host, '-p', $node->port, '-d', 'postgres' ],
	'<', \$in, '>', \$out, '2>', \$err, IPC::Run::timeout(600));
my $asked = 0;

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
	my @heard = map { /Asynchronous notification "(\w+)" with payload "(.*)" received/ ? [ $1, decode_json($2) ] : () } split /\n/, $out;
	$out = '';
	return @heard;
}

sql('CREATE EXTENSION regcrm; SELECT regcrm.setup()');
$in .= "LISTEN regcrm_violation; LISTEN regcrm_warning;\n";
heard();
$node->psql('postgres', "CALL regcrm.connect('$url', token => 'token')");
ok($node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM regcrm.violation}), 'the first load finds breaches');
is(scalar(heard()), 0, 'none of them is told');

# ---- life goes on: what is found is told

my $before = sql('SELECT COALESCE(max(id), 0) FROM regcrm.violation');
my @news;
# a deal goes back to the beginning: an illegal move
my ($deal, $status) = split /\|/, sql(q{SELECT d.id, m.status_id FROM regcrm.deal d JOIN regcrm.stage_map m ON m.account_id = d.account_id AND m.pipeline_id = d.pipeline_id
		JOIN regcrm.account a ON a.id = d.account_id
	WHERE d.stage NOT IN ('new', 'lost', 'unqualified') AND m.stage = 'new' AND NOT d.is_deleted AND d.created_at >= a.known_from ORDER BY d.id DESC LIMIT 1});
my $was = sql('SELECT known_until FROM regcrm.account');
$sim->act(lead => $deal, status => $status);
$sim->advance(3600);
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM regcrm.violation WHERE deal_id = $deal AND rule = 'FLOW' AND breached_at > '$was'") or die 'the move was not found';
for (1 .. 50)
{
	push @news, heard();
	last if grep { $_->[1]{rule} && $_->[1]{rule} eq 'FLOW' } @news;
	usleep(100_000);
}
is(scalar(grep { ($_->[1]{rule} // '') eq 'FLOW' && $_->[1]{deal_id} == $deal } @news), 1, 'an illegal move that the sync finds is told, once');
@news = grep { $_->[0] eq 'regcrm_violation' && exists $_->[1]{deal_id} } @news;
cmp_ok(scalar(@news), '>', 0, 'breaches that the sync worker finds are told');
my ($account) = sql('SELECT id FROM regcrm.account');
is(scalar(grep { $_->[1]{account_id} != $account } @news), 0, '... of its account');
is(join(',', map { sql("SELECT count(*) FROM regcrm.violation WHERE deal_id = $_->[1]{deal_id} AND rule = '$_->[1]{rule}' AND breached_at = '$_->[1]{breached_at}' AND id > $before") } @news[ 0 .. ($#news > 4 ? 4 : $#news) ]),
	join(',', map { 1 } @news[ 0 .. ($#news > 4 ? 4 : $#news) ]), '... and are stored, since the first load');

# ---- the feed stands still: time does not pass

sql('SELECT regcrm.stop_workers()');
my $known = sql('SELECT known_until FROM regcrm.account');
sql("SET regcrm.mode = 'off'; INSERT INTO regcrm.deal (account_id, id, stage, manager_id, created_at, in_regulation)
	SELECT id, 424242, 'new', 1, known_until - interval '1 min', true FROM regcrm.account; SELECT FROM regcrm.rejudge()");
my $states = q{SELECT string_agg(rule || ' ' || state, ', ' ORDER BY rule) FROM regcrm.deadline WHERE deal_id = 424242 AND rule IN ('NEW-1', 'NEW-9')};
is(sql($states), 'NEW-1 pending, NEW-9 pending', 'duties of a deal that is known');
SKIP:
{
	skip 'the simulated account lives ahead of the clock', 2
	  if sql("SELECT known_until + interval '1 day' > now() FROM regcrm.account") eq 't';
	is(sql(q{SELECT bool_and(is_waiting_for_data), count(DISTINCT waiting_for_data_since), bool_and(waiting_for_data_since = a.known_until)
		FROM regcrm.upcoming_deadlines u JOIN regcrm.account a ON a.id = u.account_id WHERE deal_id = 424242 AND rule IN ('NEW-1', 'NEW-9')}),
		't|1|t', 'overdue on the clock: the view says since when data is waited for');
	sql('SELECT regcrm.flag_expired()');
	is(sql($states), 'NEW-1 pending, NEW-9 pending', 'a tick flags nothing that is not known');
}
is(sql(q{SELECT count(*) FROM regcrm.violation WHERE deal_id = 424242 AND rule IN ('NEW-1', 'NEW-9')}), '0', 'no false breach');

$in .= "\\q\n";
$listener->finish;
$node->stop;
done_testing();
