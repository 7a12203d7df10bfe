# TLS as it should be: an account is read over it like any other, with the
# machine's certificates or with those of regcrm.ca_file; and who can't prove to
# be the host that was asked gets no token.

use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(usleep);
use Warehouse;

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
plan skip_all => 'no openssl' unless system('openssl version >/dev/null 2>&1') == 0;
mkdir $tmp;

sub openssl { system("openssl $_[0] >>'$tmp/openssl.log' 2>&1") == 0 or die "openssl $_[0], see $tmp/openssl.log"; return; }

# Two authorities; a certificate of one of them for a host.
openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj '/CN=$_' -keyout '$tmp/$_.key' -out '$tmp/$_.pem'") for qw(house stranger);
sub certificate
{
	my ($name, $host, $authority) = @_;
	append_to_file("$tmp/$name.ext", "subjectAltName = DNS:$host\n");
	openssl("req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=$host' -keyout '$tmp/$name.key' -out '$tmp/$name.csr'");
	openssl("x509 -req -days 2 -in '$tmp/$name.csr' -CA '$tmp/$authority.pem' -CAkey '$tmp/$authority.key' -CAcreateserial"
		  . " -extfile '$tmp/$name.ext' -out '$tmp/$name.pem'");
	return;
}
certificate('good', 'localhost', 'house');
certificate('elsewhere', 'example.amocrm.ru', 'house');

my @options = ('--days', 2, '--deals', 30, '--rate', 0);
my $sim = Sim->start(@options, '--tls', "$tmp/good.pem", "$tmp/good.key");
my $port = $sim->stats->{tls_port};
my $impostor = Sim->start(@options, '--tls', "$tmp/elsewhere.pem", "$tmp/elsewhere.key");
my $other = $impostor->stats->{tls_port};

my $node = PostgreSQL::Test::Cluster->new('tls');
$node->init;
$node->append_conf('postgresql.conf', "regcrm.requests_per_second = 60\nlog_statement = none\n");
$node->start;
for my $database (qw(plain tls))
{
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->safe_psql($database, 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');
}
my $err;
sub refused
{
	my ($settings, $url, $why, $name) = @_;
	$node->psql('tls', "$settings; CALL regcrm.connect('$url', token => 'token')", stderr => \$err);
	like($err, $why, $name);
	is($node->safe_psql('tls', 'SELECT count(*) FROM regcrm.secret'), '0', 'and no token is kept');
	return;
}

# ---- who is not who it should be

my $before = $sim->stats->{requests} + $impostor->stats->{requests};
my $house = "SET regcrm.ca_file = '$tmp/house.pem'";
refused('SELECT', "https://localhost:$port", qr/no answer: .*certificate/i, 'an authority that the machine does not know');
refused("SET regcrm.ca_file = '$tmp/stranger.pem'", "https://localhost:$port", qr/no answer: .*certificate/i, 'or not the one that was named');
refused($house, "https://127.0.0.1:$port", qr/no answer: .*(subject|certificate)/i, 'a certificate for another name');
refused($house, "https://localhost:$other", qr/no answer: .*(subject|certificate)/i, 'another host\'s certificate');
refused("SET regcrm.ca_file = '$tmp/nothing.pem'", "https://localhost:$port", qr/no answer: .*nothing\.pem/i, 'a file that is not there');
is($sim->stats->{requests} + $impostor->stats->{requests}, $before, 'none of them was asked anything');
$node->safe_psql('tls', q{CREATE ROLE clerk; GRANT USAGE ON SCHEMA regcrm TO clerk});
$node->psql('tls', "SET ROLE clerk; SELECT 'new'::regcrm.stage; SET regcrm.ca_file = '/tmp/mine'", stderr => \$err);
like($err, qr/permission denied to set parameter/, 'not everybody may say whom to trust');

# ---- and who is

$node->append_conf('postgresql.conf', "regcrm.ca_file = '$tmp/house.pem'\n");
$node->reload;
$node->safe_psql('tls', "CALL regcrm.connect('https://localhost:$port', token => 'token')");
$node->safe_psql('plain', "SET regcrm.allow_http = on; CALL regcrm.connect('" . $sim->url . "', token => 'token')");
$sim->faults({ kind => 'break', at => 'middle', path => '/events' }, { kind => 'reset', path => '/tasks' });
$node->psql('tls', 'CALL regcrm.sync()', stderr => \$err);
$sim->no_faults;
$node->safe_psql('tls', 'CALL regcrm.sync()');
$node->safe_psql('plain', 'SET regcrm.allow_http = on; CALL regcrm.sync()');
Warehouse::same($node, 'plain', 'tls', 'over TLS, with a connection that broke, the same is read', without => { account => 1 });
$sim->advance(3600);
$node->safe_psql('tls', 'CALL regcrm.sync()');
$node->safe_psql('plain', 'SET regcrm.allow_http = on; CALL regcrm.sync()');
Warehouse::same($node, 'plain', 'tls', 'and followed', without => { account => 1 });

# its certificate is taken away in mid-life
$node->append_conf('postgresql.conf', "regcrm.ca_file = '$tmp/stranger.pem'\n");
$node->reload;
isnt($node->psql('tls', 'CALL regcrm.sync()', stderr => \$err), 0, 'who can no longer prove it is not asked');
like($err, qr/certificate/i, 'and that is said');
$node->append_conf('postgresql.conf', "regcrm.ca_file = '$tmp/house.pem'\n");
$node->reload;
is($node->psql('tls', 'CALL regcrm.sync()', stderr => \$err), 0, 'until it can');
done_testing();
