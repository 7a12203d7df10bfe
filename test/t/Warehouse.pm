# What two databases hold, row for row: for tests that something disturbed comes
# to the same as something undisturbed.
package Warehouse;

use strict;
use warnings;
use Encode;
use JSON::PP;
use Test::More;

# Left out are surrogate numbers, the wall clock's times of noticing, and rows
# that say what went wrong on the way; seen_completed_at is what stood there when a
# task was first seen done, which the event that tells the moment takes over from.
my %columns = (
	account => 'connected_at,load_began_at,loaded_at,load_requests,rejudged_at,rejudged_beside,judging_changed_at,judging_changed_xid,reconciled_at',
	deal => '', task => 'seen_completed_at', contact => '', manager => '', pipeline => '', status => '', loss_reason => '',
	custom_field => '', other_event => '', stage_map => '', field_map => '', task_kind_map => '', feed => '',
	deal_contact => '',
	event => '',
	deadline => 'ended_at',
	violation => 'id,detected_at,waived_at',
	quarantine => 'id,at,resolved_at');

# The rows of a database as sorted lines: "table {json}".
sub rows
{
	my ($node, $database, %opt) = @_;
	my @queries;
	for my $table (sort keys %columns)
	{
		next if $opt{without} && $opt{without}{$table};
		my $where = $table eq 'violation' ? 'WHERE t.withdrawn_at IS NULL' : '';
		# an event that we appended has a number of the sequence
		my $row = $table eq 'event'
		  ? q{to_jsonb(t) - CASE WHEN t.id >= 4611686018427387904 THEN '{id}' ELSE '{}' END::text[]}
		  : "to_jsonb(t) - '{$columns{$table}}'::text[]";
		push @queries, "SELECT '$table ' || ($row)::text FROM regcrm.$table t $where";
	}
	my $out = $node->safe_psql($database, "SET timezone = 'UTC';" . join(' UNION ALL ', @queries));
	# so has one that evidence names: a transaction that came to nothing used some up
	$out =~ s/(?<=[ :\[])46116860184\d{8}\b/"appended"/g;
	return [ sort split /\n/, $out ];
}

# Which row a line is of, as far as it can be told.
sub key
{
	my ($line) = @_;
	my ($table, $json) = split / /, $line, 2;
	my $row = decode_json(encode('UTF-8', $json));
	return (join(' ', $table, map { "$_=$row->{$_}" } grep { defined $row->{$_} }
			qw(id source_id deal_id contact_id rule arose_at task_id entity feed)), $row);
}

# Prints rows that are on one side only, and columns that differ.
sub show_difference
{
	my ($missing, $extra) = @_;
	my $json = JSON::PP->new->canonical->allow_nonref;
	my %extra = map { my ($key, $row) = key($_); ($key => $row) } @$extra;
	my $shown = 0;
	for (@$missing)
	{
		my ($key, $want) = key($_);
		my $got = delete $extra{$key};
		last if $shown++ == 5;
		diag($got ? "differs: $key" : "missing: $key");
		next unless $got;
		for my $column (sort keys %$want)
		{
			my ($a, $b) = map { substr($json->encode($_->{$column}), 0, 700) } $want, $got;
			diag("    $column: $a\n       got: $b") if $a ne $b;
		}
	}
	diag("extra: $_") for splice @{ [ sort keys %extra ] }, 0, 5;
	return;
}

# A test that two databases hold the same; says what differs.
sub same
{
	my ($node, $clean, $disturbed, $name, %opt) = @_;
	my ($want, $got) = map { rows($node, $_, %opt) } $clean, $disturbed;
	my %left;
	$left{$_}++ for @$want;
	my @extra = grep { --$left{$_} < 0 } @$got;
	my @missing = grep { $left{$_} > 0 } sort keys %left;
	ok(@$want > 50 && !@extra && !@missing, "$name: " . @$want . ' rows');
	show_difference(\@missing, \@extra) if @missing || @extra;
	return;
}

1;
