# The HTTP client inside the server: nothing leaks whatever a request ends in,
# a cancel is a cancel wherever it strikes, and a resolver that hangs keeps
# nobody.  (Time limits, sizes, redirects, TLS, proxies: 036; bad answers: 031;
# cancel and shutdown while a request hangs: 033, 034; the pace: 030, 060.)
#
# DEEP=PIECE (make check-deep): 5,000 requests of all endings, 5,000 in passes, 1,000 cancels.
#
# deep pieces: requests1 requests2 requests3 passes cancels

use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Sim;
use Test::More;
use Time::HiRes qw(time usleep);

my ($deep) = ($ENV{DEEP} || '') =~ /^([a-z]*)/;
my %part = map { $_ => 1 } $deep || qw(requests passes cancels);
my $tmp = $PostgreSQL::Test::Utils::tmp_check;

# ---- no callback of libcurl calls the server (C2)

my $callbacks = '';
for my $file (qw(http http_request))
{
	my ($these) = slurp_file("$FindBin::RealBin/../../src/$file.c") =~ m{(The callbacks of libcurl\..*)\z}s;
	$callbacks .= $these // '';
}
like($callbacks, qr/http_on_socket.*http_on_timer.*http_on_send.*http_on_body.*http_on_header/s, 'the callbacks stand together');
unlike($callbacks, qr/\b(p?alloc\w*|palloc\w*|pfree|ereport|elog|psprintf|pstrdup|\w*StringInfo\w*|CHECK_FOR_INTERRUPTS|SPI_\w+|MemoryContext\w*)\s*\(/,
	'and none of them calls the server');

# ---- a server that answers badly, and one with a name that resolves for ever

my $port_file = "$tmp/http_hostile.port";
my $hostile = fork() // die "fork: $!";
if ($hostile == 0)
{
	exec '/usr/bin/python3', "$FindBin::RealBin/hostile.py", $port_file, "$tmp/http_hostile.log";
	die "exec: $!";
}
END { local $?; kill 'TERM', $hostile if $hostile; }
for (1 .. 100) { last if -s $port_file; usleep(100_000); }
my ($port) = split ' ', slurp_file($port_file);

# Name lookup as it is where the network is half down: libcurl asks in a thread.
unlink "$tmp/resolver.c";
append_to_file("$tmp/resolver.c", <<'END');
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	if (node && strstr(node, "hangs.example"))
		sleep(20);
	if (!real)
		real = (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **)) dlsym(RTLD_NEXT, "getaddrinfo");
	return real(node, service, hints, res);
}
END
my $resolver = system('gcc', '-shared', '-fPIC', '-o', "$tmp/resolver.so", "$tmp/resolver.c", '-ldl') == 0;

my $sim = Sim->start('--days', 1, '--deals', 20, '--rate', 0);
my $url = $sim->url;
my $node = PostgreSQL::Test::Cluster->new('http');
$node->init;
$node->append_conf('postgresql.conf', <<'END');
shared_preload_libraries = 'regcrm'
regcrm.allow_http = on
regcrm.http_timeout = 400ms
regcrm.max_response_size = 1MB
regcrm.requests_per_second = 64
log_statement = none
END
{
	local $ENV{LD_PRELOAD} = $resolver ? "$tmp/resolver.so" : '';
	$node->start;
}
$node->safe_psql('postgres', 'CREATE EXTENSION regcrm; SELECT regcrm.setup()');

my ($out, $err);

sub threads { my @tasks = glob "/proc/$_[0]/task/*"; return scalar @tasks; }

# ---- a resolver that hangs (C1, C3)

SKIP:
{
	skip 'no compiler', 4 unless $resolver;
	my $begin = time;
	$node->psql('postgres', q{SET regcrm.http_timeout = '60s'; SET statement_timeout = '500ms'; CALL regcrm.connect('https://hangs.example', token => 'x')},
		stderr => \$err);
	like($err, qr/canceling statement due to statement timeout/, 'statement_timeout ends a request whose name never resolves');
	cmp_ok(time - $begin, '<', 5, 'in time');
	$begin = time;
	$out = $node->safe_psql('postgres', q{
		SET regcrm.http_timeout = '60s';
		\set ON_ERROR_STOP off
		SET statement_timeout = '300ms';
		CALL regcrm.connect('https://hangs.example', token => 'x');
		RESET statement_timeout;
		SELECT 'the session lives'}, on_error_stop => 0);
	like($out, qr/the session lives/, 'and the session lives');
	# leaving, the session must not wait for its resolver thread
	cmp_ok(time - $begin, '<', 10, 'and ends');
}
is(threads($node->{_pid}), 1, 'the postmaster has one thread');

# ---- many requests, whatever they end in (C4, W13)

# What the process holds: sockets (not files: the server keeps those of tables
# open on purpose), resident kB of its own (not what it has touched of the shared
# buffers), bytes in memory contexts.
my $measure = <<'END';
CREATE TEMPORARY TABLE IF NOT EXISTS sockets (n int);
TRUNCATE sockets;
COPY sockets FROM PROGRAM 'ls -l /proc/$PPID/fd | grep -c socket:';
SELECT 'held ' || (SELECT n FROM sockets) || ' '
	|| substring(pg_read_file('/proc/self/status', 0, 100000) from 'RssAnon:\s*(\d+)') || ' '
	|| (SELECT sum(total_bytes) FROM pg_backend_memory_contexts) || ' '
	|| substring(pg_read_file('/proc/self/status', 0, 100000) from 'Threads:\s*(\d+)');
END

# Runs statements in one session: some to warm up, then the rest, measuring
# before and after.  Returns [sockets, kB, bytes, threads] of both.
sub held
{
	my ($warm, $rest) = @_;
	my $script = "$tmp/held.sql";
	unlink $script;
	append_to_file($script, "\\pset tuples_only on\n\\pset format unaligned\n"
		  . join('', @$warm) . $measure . join('', @$rest) . $measure);
	my $status = $node->psql('postgres', "\\i $script", stdout => \$out, stderr => \$err, on_error_stop => 0);
	my @held = map { [ /(\d+)/g ] } $out =~ /^held (.*)$/mg;
	die "the session did not live: $err" unless @held == 2;
	note "held before @{$held[0]}, after @{$held[1]} (sockets, kB, bytes, threads)";
	return @held;
}

sub is_flat
{
	my ($name, $before, $after) = @_;
	cmp_ok($after->[0], '<=', $before->[0] + 1, "$name: no socket is left open");
	cmp_ok($after->[1], '<', $before->[1] + 3000, "$name: resident memory is flat");
	cmp_ok($after->[2], '<', $before->[2] * 1.1 + 300_000, "$name: memory contexts are flat");
	cmp_ok($after->[3], '<=', $before->[3] + 1, "$name: no thread is left");
	return;
}

# What is tried again within the call is cut short in the pause before.
my @modes = qw(good nonsense redirect-port nul retry echo bomb good endless header);
sub connects
{
	my ($n) = @_;
	return ("SET statement_timeout = '300ms';\n",
		(map { "CALL regcrm.connect('http://127.0.0.1:$port', token => '$modes[$_ % @modes]');\n" } 1 .. $n),
		"RESET statement_timeout;\n");
}
my $n = $deep ? 1700 : 150;
is_flat("$n requests of all endings", held([ connects(50) ], [ connects($n) ])) if $part{requests};

# whole passes, on a connection that is kept, faults among them
$node->safe_psql('postgres', "CALL regcrm.connect('$url', token => 'token'); CALL regcrm.sync(30111222)");
my @faults = map { { kind => $_, skip => 9, path => '/api' } } qw(500 cut reset html garbage 504 break);
$sim->faults((@faults) x ($deep ? 100 : 3));
my $begin = $sim->stats->{requests};
$sim->run;
$n = $deep ? 1000 : 15;
is_flat("$n passes", held([ ("CALL regcrm.sync(30111222);\n") x 10 ], [ ("CALL regcrm.sync(30111222);\n") x $n ])) if $part{passes};
my $made = $sim->stats->{requests} - $begin;
note "requests: $made";
cmp_ok($made, '>', 5000, 'thousands of requests') if $deep eq 'passes';
$sim->no_faults;

# Every request is one that we know of, or the pace means nothing: a connection
# that dies in use must not have libcurl ask again by itself.
my $pass = q{SET regcrm.http_timeout = '20s'; CALL regcrm.sync(30111222)};
my $counted = 'SELECT sum(requests) FROM regcrm.sync_state WHERE account_id = 30111222';
$node->safe_psql('postgres', $pass);
my ($known, $asked) = ($node->safe_psql('postgres', $counted), $sim->stats->{requests});
$sim->faults(map { ({ kind => 'reset', skip => $_ * 7 + 2, path => '/api' }, { kind => 'break', at => 'nothing', skip => $_ * 11 + 5, path => '/api' }) } 0 .. 2);
$node->psql('postgres', $pass, stderr => \$err) for 1 .. 3;
$sim->no_faults;
$node->safe_psql('postgres', $pass);
is($node->safe_psql('postgres', $counted) - $known, $sim->stats->{requests} - $asked, 'every request that amoCRM sees is counted here');

# ---- cancelled at every stage (C4, C5)

my @where = ([ "http://127.0.0.1:$port", 'silent' ], [ "http://127.0.0.1:$port", 'half' ], [ "http://127.0.0.1:$port", 'drip' ],
	[ "http://127.0.0.1:$port", 'endless' ], [ $url, 'token' ], [ 'https://10.255.255.1', 'x' ], $resolver ? [ 'https://hangs.example', 'x' ] : ());
sub cancels
{
	my ($many) = @_;
	return map {
		my ($to, $token) = @{ $where[ $_ % @where ] };
		my $ms = 1 + ($_ * 7) % 40;
		"SET statement_timeout = '${ms}ms';\nCALL regcrm.connect('$to', token => '$token');\n"
	} 1 .. $many;
}
$n = $deep ? 1000 : 120;
if ($part{cancels})
{
	my ($before, $after) = held([ "SET regcrm.http_timeout = '60s';\n", cancels(40), "RESET statement_timeout;\n" ],
		[ cancels($n), "RESET statement_timeout; SELECT pg_sleep(21);\n" ]);
	is_flat("$n cancels at every stage", $before, $after);
	my @messages = $err =~ /ERROR:  (.*)/g;
	my @other = grep { !/statement timeout|could not connect to/ } @messages;
	cmp_ok(scalar(grep { /statement timeout/ } @messages), '>', $n / 2, 'they were cancelled');
	is(scalar(@other), 0, 'and a cancel is told as a cancel') or diag(join "\n", splice @other, 0, 3);
}

is(threads($node->{_pid}), 1, 'the postmaster has one thread still');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|multithreaded|longjmp|signal 11/, 'nothing odd in the log');

done_testing();
