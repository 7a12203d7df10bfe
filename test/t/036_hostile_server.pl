# The other side is not amoCRM but somebody who means harm, or a machine that
# is out of order: every answer has an end in time and in size, a token goes
# nowhere else, and nothing of the server's surroundings counts.

use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $tmp = $PostgreSQL::Test::Utils::tmp_check;
my @pids;

sub start_hostile
{
	my ($name, @files) = @_;
	my $port_file = "$tmp/hostile_$name.port";
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		exec '/usr/bin/python3', "$FindBin::RealBin/hostile.py", $port_file, "$tmp/hostile_$name.log", @files;
		die "exec: $!";
	}
	push @pids, $pid;
	for (1 .. 100) { last if -s $port_file; usleep(100_000); }
	return split ' ', slurp_file($port_file);
}
END { local $?; kill 'TERM', @pids if @pids; }

my ($port, $other) = start_hostile('plain');

# A proxy that the server's surroundings name is nobody.
$ENV{http_proxy} = $ENV{https_proxy} = $ENV{ALL_PROXY} = "http://127.0.0.1:1";

my $node = PostgreSQL::Test::Cluster->new('hostile');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
regcrm.allow_http = on
regcrm.http_timeout = 1500ms
regcrm.max_response_size = 1MB
regcrm.requests_per_second = 50
log_statement = none
END
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');

my ($out, $err);

for my $case (
	[ silent => qr/no answer: .*(timed out|too slow)/i ],
	[ drip => qr/no answer: .*(timed out|too slow)/i ],
	[ half => qr/no answer: .*(timed out|too slow)/i ],
	[ endless => qr/larger than regcrm.max_response_size/ ],
	[ bomb => qr/larger than regcrm.max_response_size/ ],
	[ header => qr/no answer: / ],
	[ nonsense => qr/no answer: / ],
	[ 'redirect-port' => qr/HTTP 302/ ],
	[ 'redirect-self' => qr/HTTP 302/ ],
	[ 'redirect-file' => qr/HTTP 302/ ],
	[ nul => qr/tells no account/ ],
	[ retry => qr/HTTP 429/ ])
{
	my ($token, $message) = @$case;
	my $begin = time;
	$node->psql('postgres', "CALL regcrm.connect('http://127.0.0.1:$port', token => '$token')", stderr => \$err);
	like($err, $message, "$token: an error that says what");
	cmp_ok(time - $begin, '<', 15, "$token: in time");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM regcrm.secret'), '0', "$token: and no token is kept");
}
my $asked = slurp_file("$tmp/hostile_plain.log");
unlike($asked, qr/^$other /m, 'no redirect was followed');

# An answer that repeats the token: what is shown and logged does not.
$node->psql('postgres', "CALL regcrm.connect('http://127.0.0.1:$port', token => 'echo_canary_5d2e9a7b1c')", stderr => \$err);
like($err, qr/HTTP 400: you sent Bearer \*\*\*/, 'an echoed token is taken out');
ok(slurp_file($node->logfile) !~ /canary_5d2e9a7b1c/, 'of the log too');

# Nothing else is told of files and addresses.
$node->psql('postgres', "CALL regcrm.connect('http://127.0.0.1:$port', token_file => '/nonexistent')", stderr => \$err);
like($err, qr/could not open file/, 'a token file that is not there');
$node->safe_psql('postgres', q{CREATE ROLE clerk; GRANT USAGE ON SCHEMA regcrm TO clerk;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA regcrm TO clerk});
$node->psql('postgres', "SET ROLE clerk; CALL regcrm.connect('http://127.0.0.1:$port', token_file => '/etc/hostname')", stderr => \$err);
like($err, qr/permission denied to read a token from a file/, 'and one for who may not read files');
$node->psql('postgres', "SET ROLE clerk; SELECT 'new'::regcrm.stage; SET regcrm.allow_http = on", stderr => \$err);
like($err, qr/permission denied to set parameter/, 'nor may just anybody allow plain http');
like( $node->safe_psql('postgres', "SET ROLE clerk; SET regcrm.max_response_size = 5; SELECT 'new'::regcrm.stage; SHOW regcrm.max_response_size"),
	qr/^1MB$/m, 'not even before the library is loaded');
$node->psql('postgres', "SET regcrm.allow_http = off; CALL regcrm.connect('http://127.0.0.1:$port', token => 'good')", stderr => \$err);
like($err, qr/must be https/, 'without which there is none');

# A good one, for comparison; past the proxy too.
is($node->safe_psql('postgres', "CALL regcrm.connect('http://127.0.0.1:$port', token => 'good')"), '5', 'a good answer');

# Over TLS, from somebody whom nobody knows.
SKIP:
{
	skip 'no openssl', 2
	  unless system(qw(openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost), '-keyout',
		"$tmp/key.pem", '-out', "$tmp/cert.pem") == 0;
	my ($tls) = start_hostile('tls', "$tmp/cert.pem", "$tmp/key.pem");
	$node->psql('postgres', "CALL regcrm.connect('https://localhost:$tls', token => 'tls_canary')", stderr => \$err);
	like($err, qr/no answer: .*certificate/i, 'a certificate that nobody vouches for');
	ok(!-e "$tmp/hostile_tls.log" || slurp_file("$tmp/hostile_tls.log") !~ /tls_canary/, 'gets no token');
}

done_testing();
