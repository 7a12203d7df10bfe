# The gate says the same, word for word, to psql, JDBC and ODBC: the message,
# DETAIL with its Russian titles, the hint, and the fields that programs read
# (SQLSTATE, constraint, table, column).
#
# A refusal at the statement (FLOW) and one at COMMIT with several rules.  ODBC's
# driver passes on message and DETAIL and has no call for the rest.
use strict;
use warnings;
use utf8;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use JSON::PP;
use Encode qw(decode_utf8);

my $java = (grep { -x } map { "$_/java" } split /:/, $ENV{PATH})[0];
my $jdbc = '/usr/share/java/postgresql.jar';
my $odbc = (glob '/usr/lib/*/odbc/psqlodbcw.so')[0];
my $python = '/usr/bin/python3';

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--locale=C.UTF-8', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\n");
$node->append_conf('pg_hba.conf', "host all all 127.0.0.1/32 trust\n");
$node->start;
$node->safe_psql('postgres', q{
	CREATE EXTENSION regcrm;
	SELECT FROM regcrm.setup();
	INSERT INTO regcrm.account (id) VALUES (1);
	INSERT INTO regcrm.deal (id, stage) VALUES (42, 'new');
});
my $port = $node->port;
my $host = $node->host;
my $dir = PostgreSQL::Test::Utils::tempdir();

# What is written, and where it is refused: each is one statement and a COMMIT.
my @writes = (
	[ 'at the statement', q{UPDATE regcrm.deal SET stage = 'won' WHERE id = 42} ],
	[ 'at COMMIT', q{UPDATE regcrm.deal SET stage = 'meeting' WHERE id = 42} ]);

sub put
{
	my ($name, $text) = @_;
	open my $f, '>:encoding(UTF-8)', "$dir/$name" or die "$dir/$name: $!";
	print $f $text;
	close $f;
	return "$dir/$name";
}

# psql prints fields on lines of their own; DETAIL may have several.
sub by_psql
{
	my ($write) = @_;
	my ($out, $err) = ('', '');
	local $ENV{PGCLIENTENCODING} = 'UTF8';
	my $file = put('write.sql', "\\set VERBOSITY verbose\n\\set SHOW_CONTEXT never\nBEGIN;\n$write;\nCOMMIT;\n");
	IPC::Run::run [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-f', $file ],
		'>', \$out, '2>', \$err;
	$err = decode_utf8($err);
	$err =~ s/^psql:[^\n]*?:\d+: //;
	my %said;
	my $key;
	for my $line (split /\n/, $err)
	{
		if ($line =~ /^ERROR:  (\w{5}): (.*)/)       { ($said{sqlstate}, $said{message}, $key) = ($1, $2, 'message') }
		elsif ($line =~ /^(DETAIL|HINT):  (.*)/)      { $key = lc $1; $said{$key} = $2 }
		elsif ($line =~ /^(SCHEMA|TABLE|COLUMN|CONSTRAINT) NAME:  (.*)/) { $key = lc $1; $said{$key} = $2 }
		elsif ($line =~ /^LOCATION:/)                 { $key = undef }
		elsif (defined $key)                          { $said{$key} .= "\n$line" }
	}
	return \%said;
}

my $source = put('Write.java', <<'JAVA');
import java.io.PrintStream;
import java.sql.*;
import org.postgresql.util.*;

public class Write
{
	static String quote(String text)
	{
		if (text == null)
			return "null";
		StringBuilder out = new StringBuilder("\"");
		for (char c : text.toCharArray())
			out.append(c < 32 || c > 126 || c == '"' || c == '\\' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
		return out.append("\"").toString();
	}

	public static void main(String[] args) throws Exception
	{
		Connection connection = DriverManager.getConnection(args[0]);
		connection.setAutoCommit(false);
		try
		{
			connection.createStatement().executeUpdate(args[1]);
			connection.commit();
			System.out.println("{}");
		}
		catch (PSQLException e)
		{
			ServerErrorMessage m = e.getServerErrorMessage();
			System.out.println("{\"sqlstate\": " + quote(e.getSQLState()) + ", \"message\": " + quote(m.getMessage()) +
				", \"detail\": " + quote(m.getDetail()) + ", \"hint\": " + quote(m.getHint()) + ", \"schema\": " + quote(m.getSchema()) +
				", \"table\": " + quote(m.getTable()) + ", \"column\": " + quote(m.getColumn()) + ", \"constraint\": " +
				quote(m.getConstraint()) + "}");
		}
	}
}
JAVA

sub by_jdbc
{
	my ($write) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run [ $java, '-cp', $jdbc, $source, "jdbc:postgresql://127.0.0.1:$port/postgres?user=" . (getpwuid($<))[0], $write ],
		'>', \$out, '2>', \$err;
	my $said = eval { decode_json($out) } or return { error => "$out$err" };
	delete $said->{$_} for grep { !defined $said->{$_} } keys %$said;
	return $said;
}

my $script = put('write.py', <<'PYTHON');
import json, sys, pyodbc
connection = pyodbc.connect(sys.argv[1], autocommit=False)
try:
    connection.cursor().execute(sys.argv[2])
    connection.commit()
    print("{}")
except pyodbc.Error as error:
    print(json.dumps({"sqlstate": error.args[0], "text": error.args[1]}))
PYTHON

sub by_odbc
{
	my ($write) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run [ $python, $script, "Driver=$odbc;Servername=$host;Port=$port;Database=postgres;Uid=" . (getpwuid($<))[0], $write ],
		'>', \$out, '2>', \$err;
	return eval { decode_json($out) } || { error => "$out$err" };
}

for my $case (@writes)
{
	my ($where, $write) = @$case;
	my $said = by_psql($write);

	is($said->{sqlstate}, '23514', "psql, $where: SQLSTATE");
	like($said->{message}, qr/^deal 42 may not enter stage "/, "psql, $where: message");
	like($said->{detail}, $where eq 'at COMMIT' ? qr/^MEET-1 .*\p{Cyrillic}.*\nNEW-2 .*\p{Cyrillic}/s : qr/^FLOW .*\p{Cyrillic}[^\n]*$/, "psql, $where: DETAIL");
	ok($said->{hint} && $said->{constraint} && $said->{table} eq 'deal' && $said->{schema} eq 'regcrm', "psql, $where: hint, constraint, table, schema")
		or diag(explain($said));

  SKIP:
	{
		skip 'no Java compiler or no JDBC driver', 1 unless $java && -e $jdbc && `$java --list-modules` =~ /^jdk\.compiler/m;
		is_deeply(by_jdbc($write), $said, "JDBC, $where: the same in every field");
	}
  SKIP:
	{
		skip 'no ODBC driver', 2 unless $odbc && system("$python -c 'import pyodbc' 2>/dev/null") == 0;
		my $odbc_said = by_odbc($write);
		is($odbc_said->{sqlstate}, '23514', "ODBC, $where: SQLSTATE");
		ok(index($odbc_said->{text} // '', "$said->{message}\nDETAIL: $said->{detail}") >= 0, "ODBC, $where: the same message and DETAIL")
			or diag(explain([ $odbc_said, $said ]));
	}
}

$node->stop;
done_testing();
