# The library that ends processes at a moment of the test's choice (stumble.c).
package Stumble;

use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Utils;

# Builds it; returns its path, or nothing where that can't be done.
sub library
{
	# A private copy of PostgreSQL has no headers: those of the one it was made of.
	my ($include) = grep { -e "$_/postgres.h" } map { my $dir = `'$_/pg_config' --includedir-server`; chomp $dir; $dir }
	  grep { -x "$_/pg_config" } split /:/, $ENV{PATH};
	return unless $include;
	my $library = "$PostgreSQL::Test::Utils::tmp_check/stumble_$$";
	mkdir $PostgreSQL::Test::Utils::tmp_check;
	return if system("cc -shared -fPIC -O1 -Wall -I'$include' -o '$library.so' '$FindBin::RealBin/stumble.c'") != 0;
	return $library;
}

1;
