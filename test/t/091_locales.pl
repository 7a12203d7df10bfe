# Names and codes mean the same whatever the database's locale: folding is the
# extension's own, and so is the order of stages, for both are in indexes
# (hazards T2).  Turkish is the one that folds i otherwise.  And the judge's own
# loops heed a cancel, however long a deal's history is (hazards G14).

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = PostgreSQL::Test::Cluster->new('locales');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\n");
$node->start;

# Debian's minimal system has no locales but C and C.UTF-8; ICU brings the others.
my %databases = (c => q{LOCALE 'C'}, utf8 => q{LOCALE 'C.UTF-8'});
if ($node->safe_psql('postgres', q{SELECT count(*) > 0 FROM pg_collation WHERE collprovider = 'i'}) eq 't')
{
	$databases{turkish} = q{LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'};
	$databases{russian} = q{LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'ru-RU'};
}

my $questions = q{
	SELECT n, regcrm.fold_name(n) FROM (VALUES ('DECIDING'), ('Recording'), ('İstanbul'), ('ISPARTA'), ('ıi'),
		('  ЗВОНОК  '), ('Отложённый'), ('ОТЛОЖЕННЫЙ'), ('Straße'), ('ÅNGSTRÖM'), ('ΣΊΣΥΦΟΣ')) x (n) ORDER BY n COLLATE "C";
	SELECT stage FROM regcrm.stage_def ORDER BY stage;
	SELECT x::regcrm.stage FROM unnest(array['NEW', 'В РАБОТЕ', ' недозвон ', 'Отложенный спрос', 'WON']) x WHERE
		EXISTS (SELECT FROM regcrm.stage_def d WHERE d.stage::text = lower(x COLLATE "C") OR regcrm.fold_name(d.name) = regcrm.fold_name(x)
			OR regcrm.fold_name(x) IN (SELECT regcrm.fold_name(a) FROM unnest(d.aliases) a)) ORDER BY 1;
	SET enable_seqscan = off;
	SELECT s FROM kept WHERE s >= 'in_work' ORDER BY s;
	SELECT count(*) FROM kept WHERE s = 'deciding'};
my %answer;
for my $name (sort keys %databases)
{
	$node->safe_psql('postgres', "CREATE DATABASE in_$name TEMPLATE template0 ENCODING 'UTF8' $databases{$name}");
	$node->safe_psql("in_$name", q{
		CREATE EXTENSION regcrm; SELECT regcrm.setup(); CREATE EXTENSION amcheck;
		CREATE TABLE kept (s regcrm.stage);
		INSERT INTO kept SELECT stage::regcrm.stage FROM regcrm.stage_def, generate_series(1, 50);
		CREATE INDEX kept_s ON kept (s); CREATE INDEX kept_h ON kept USING hash (s)});
	$answer{$name} = $node->safe_psql("in_$name", $questions);
	is($node->safe_psql("in_$name", q{SELECT bt_index_check('kept_s', true)}), '', "$name: the index is in order");
}
like($answer{c}, qr/^DECIDING\|deciding$/m, 'capital I is folded to i');
like($answer{c}, qr/^\s*ЗВОНОК\s*\|звонок$/m, 'blanks go, Russian capitals are folded');
like($answer{c}, qr/^Отложённый\|отложенный$/m, 'ё is е');
for my $name (sort keys %databases)
{
	is($answer{$name}, $answer{c}, "$name: names fold, stages parse and sort as everywhere");
}

# ---- a cancel is heeded while one deal of 200,000 events is judged

$node->safe_psql('in_c', q{
	SET regcrm.mode = 'off';
	INSERT INTO regcrm.account (id, name) VALUES (1, 'long');
	INSERT INTO regcrm.deal (account_id, id, stage, created_at) VALUES (1, 1, 'in_work', '2026-03-02 09:00+03');
	INSERT INTO regcrm.event (account_id, id, deal_id, at, kind, to_stage) VALUES (1, 1, 1, '2026-03-02 09:00+03', 'stage', 'in_work');
	INSERT INTO regcrm.event (account_id, id, deal_id, at, kind, answered, duration)
		SELECT 1, i, 1, timestamptz '2026-03-02 09:00+03' + i * interval '1 minute',
			(array['call_out', 'message_in', 'message_out', 'comment'])[1 + i % 4], i % 3 = 0, '1 min'
		FROM generate_series(2, 200000) i});
my ($out, $err);
my $begin = time;
is($node->psql('in_c', 'SELECT count(*) FROM regcrm.judge(1, 1)', stdout => \$out, stderr => \$err), 0, 'a deal of 200,000 events is judged') or diag $err;
note sprintf 'it took %.1f s', time - $begin;
isnt($node->psql('in_c', q{SET statement_timeout = '100ms'; SELECT count(*) FROM regcrm.judge(1, 1), regcrm.judge(1, 1) b}, stderr => \$err), 0, 'or cancelled');
like($err, qr/statement timeout/, '... as a cancel');

done_testing();
