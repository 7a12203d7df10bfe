# The simulated amoCRM account (test/amocrm) for TAP tests: started on a free
# port of the loopback interface, asked by its /_sim interface, ended with the
# test.
package Sim;

use strict;
use warnings;
use FindBin;
use HTTP::Tiny;
use JSON::PP;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

sub start
{
	my ($class, @options) = @_;
	my $self = bless {
		http => HTTP::Tiny->new(timeout => 60),
		port_file => PostgreSQL::Test::Utils::tempdir_short() . '/port',
	}, $class;
	my $log = "$PostgreSQL::Test::Utils::tmp_check/sim_$$.log";
	my $sim = "$FindBin::RealBin/../amocrm/sim.py";

	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		open STDOUT, '>>', $log or die $!;
		open STDERR, '>&', \*STDOUT or die $!;
		exec '/usr/bin/python3', $sim, '--port', '0', '--port-file',
		  $self->{port_file}, @options;
		die "exec: $!";
	}
	$self->{pid} = $pid;
	for (1 .. 600)
	{
		last if -s $self->{port_file};
		usleep(100_000);
	}
	die "the simulator did not start, see $log" unless -s $self->{port_file};
	$self->{port} = slurp_file($self->{port_file}) + 0;
	return $self;
}

sub url { my $self = shift; return "http://127.0.0.1:$self->{port}"; }

sub ask
{
	my ($self, $method, $path, $content) = @_;
	my $answer = $self->{http}->request(
		$method,
		$self->url . "/_sim/$path",
		defined $content
		? {
			content => encode_json($content),
			headers => { 'content-type' => 'application/json' }
		  }
		: {});
	die "$method /_sim/$path: $answer->{status} $answer->{content}" unless $answer->{success};
	return decode_json($answer->{content});
}

sub stats { return $_[0]->ask('GET', 'stats'); }
sub advance { return $_[0]->ask('POST', "advance?seconds=$_[1]"); }
sub faults { my ($self, @faults) = @_; return $self->ask('POST', 'faults', \@faults); }
sub no_faults { return $_[0]->ask('DELETE', 'faults'); }
sub act { my ($self, %act) = @_; return $self->ask('POST', 'act', \%act); }
sub run { return $_[0]->ask('POST', 'run'); }
sub leads { return $_[0]->ask('GET', 'leads'); }
sub token { return $_[0]->ask('POST', "token?token=$_[1]"); }
sub lag { return $_[0]->ask('POST', "lag?event=$_[1]&note=$_[2]"); }
sub hide { my ($self, $how, %things) = @_; return $self->ask('POST', 'hide', { how => $how, things => \%things }); }
sub expire { return $_[0]->ask('POST', 'expire'); }

sub stop
{
	my $self = shift;
	return unless $self->{pid};
	kill 'TERM', $self->{pid};
	waitpid $self->{pid}, 0;
	delete $self->{pid};
	return;
}

sub DESTROY
{
	my $self = shift;
	local ($?, $!);
	$self->stop;
	return;
}

1;
