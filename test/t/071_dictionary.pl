# What docs/ says of the views is so: the dictionary is what the comments say,
# and every query of docs/bi.md and docs/views.md runs.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--locale=C.UTF-8', '--encoding=UTF8' ]);
$node->start;
my $top = "$FindBin::RealBin/../..";

$node->safe_psql('postgres', 'CREATE DATABASE warehouse');
my ($facts) = slurp_file("$top/sql/questions.sql") =~ /^BEGIN;\n(.*?)^-- Evidence as ids/ms;
$facts =~ s/SET LOCAL/SET/g;
$node->safe_psql('warehouse', "CREATE EXTENSION regcrm; SELECT FROM regcrm.setup(); SET timezone = 'Europe/Moscow'; $facts");

my ($rc, $written, $err) = $node->psql('warehouse', slurp_file("$top/docs/dictionary.sql"), extra_params => ['-At']);
is($rc, 0, 'docs/dictionary.sql runs') or diag($err);
my $kept = "$PostgreSQL::Test::Utils::tmp_check/dictionary.md";
unlink $kept;
append_to_file($kept, "$written\n");
my $stored = slurp_file("$top/docs/dictionary.md");
chomp $stored;
ok($stored eq $written, 'docs/dictionary.md is what the comments say')
  or do
{
	my %old = map { $_ => 1 } split /\n/, $stored;
	my %new = map { $_ => 1 } split /\n/, $written;
	my @differences = ((map { "- $_" } grep { !$new{$_} } split /\n/, $stored), (map { "+ $_" } grep { !$old{$_} } split /\n/, $written));
	diag(join("\n", @differences[ 0 .. ($#differences > 20 ? 20 : $#differences) ],
			'Write it anew: psql -X -At -f docs/dictionary.sql DATABASE >docs/dictionary.md', "What it should be lies in $kept"));
};
like($written, qr/^\| late_minutes \| numeric \| late in minutes\. \|$/m, 'it has a column, its type and its meaning');
unlike($written, qr/^\| \S+ \| [^|]+ \|  \|$/m, 'each column has a meaning');

# every view is told of where readers look
my $told = slurp_file("$top/docs/bi.md") . slurp_file("$top/docs/views.md");
my @silent = grep { $told !~ /`$_`/ } split /\n/, $node->safe_psql('warehouse',
	q{SELECT viewname FROM pg_views WHERE schemaname = 'regcrm' AND viewname NOT IN ('deal_closing', 'mart_dirty_days') ORDER BY 1});
is("@silent", '', 'docs/bi.md or docs/views.md names every view');

# every file that a document names is there
my @lost;
for my $page ("$top/README.md", "$top/CHANGELOG.md", glob "$top/docs/*.md")
{
	for my $path (slurp_file($page) =~ /`((?:test|sql|specs|docs|ext|src)\/[\w.\/-]+)/g)
	{
		push @lost, "$page: $path" unless @{ [ glob "$top/$path*" ] };
	}
}
is("@lost", '', 'every file that a document names is there');

for my $page (qw(bi views))
{
	my $n = 0;
	for my $block (slurp_file("$top/docs/$page.md") =~ /```sql\n(.*?)```/sg)
	{
		next if $block =~ /^-- a role that reads/;
		$n++;
		for my $query (grep { /\S/ } split /;\s*(?:--[^\n]*)?\n/, $block)
		{
			my ($rc, $out, $err) = $node->psql('warehouse', $query);
			is($err, '', "docs/$page.md: " . join(' ', (split ' ', $query)[ 0 .. 11 ]));
		}
	}
	ok($n > 5, "docs/$page.md has queries");
}

$node->stop;
done_testing();
