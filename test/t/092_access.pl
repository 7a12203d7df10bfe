# Owners who are no superusers, and what they could make a superuser run
# (hazards X3, X5, D5): the tables' owner plants triggers on his tables, and
# everything that a superuser or a worker calls runs them as him; a schema made
# beforehand is no place for the extension; levels go through a dump that a
# non-superuser restores, and through an update.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--locale=C', '--encoding=UTF8' ]);
$node->append_conf('postgresql.conf', "autovacuum = off\n");
$node->start;

sub sql
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

sub sql_error
{
	my ($db, $sql) = @_;
	my ($rc, $out, $err) = $node->psql($db, "\\set VERBOSITY verbose\n$sql");
	return $err;
}

sql('postgres', q{
	CREATE ROLE keeper; CREATE ROLE mallory; CREATE ROLE bi; CREATE ROLE engineer; CREATE ROLE boss; CREATE ROLE anna;
	CREATE DATABASE kept; CREATE DATABASE planted; CREATE DATABASE restored;
});

# ---------------------------------------------------------------------------
# a schema that somebody made beforehand
# ---------------------------------------------------------------------------

sql('planted', 'CREATE SCHEMA regcrm AUTHORIZATION mallory');
like(sql_error('planted', 'CREATE EXTENSION regcrm'), qr/42501.*schema "regcrm" belongs to role "mallory".*ALTER SCHEMA/s, 'the extension does not go into a schema of somebody else');
sql('planted', 'ALTER SCHEMA regcrm OWNER TO CURRENT_USER; GRANT CREATE, USAGE ON SCHEMA regcrm TO PUBLIC');
like(sql_error('planted', 'CREATE EXTENSION regcrm'), qr/42501.*everybody may create/s, '... nor into one where everybody creates');
sql('planted', q{SET ROLE mallory; CREATE TABLE regcrm.deal (x int);
	CREATE FUNCTION regcrm.label(text, name) RETURNS text LANGUAGE sql AS 'SELECT 1::text'});
sql('planted', 'REVOKE CREATE ON SCHEMA regcrm FROM PUBLIC');
like(sql_error('planted', 'CREATE EXTENSION regcrm'), qr/42710.*already holds the function/s, '... nor beside what could be called in our name');
sql('planted', 'DROP FUNCTION regcrm.label(text, name); CREATE EXTENSION regcrm');
like(sql_error('planted', 'SELECT regcrm.setup()'), qr/42501.*belong to role "mallory"/s, 'setup() takes no table of somebody else');
# one that it does not look at first, with a trigger
sql('planted', q{DROP TABLE regcrm.deal; GRANT CREATE ON SCHEMA regcrm TO mallory;
	SET ROLE mallory; CREATE TABLE regcrm.contact (x int); RESET ROLE; REVOKE CREATE ON SCHEMA regcrm FROM mallory});
like(sql_error('planted', 'SELECT regcrm.setup()'), qr/42501.*"regcrm.contact" belongs to role "mallory"/s, '... of whatever name');
sql('planted', q{DROP TABLE regcrm.contact; GRANT CREATE ON SCHEMA regcrm TO mallory;
	SET ROLE mallory; CREATE VIEW regcrm.violations AS SELECT 1 AS account_id; RESET ROLE; REVOKE CREATE ON SCHEMA regcrm FROM mallory});
like(sql_error('planted', 'SELECT regcrm.setup()'), qr/ERROR:  42/, '... nor a view');
sql('planted', 'DROP VIEW regcrm.violations; SELECT FROM regcrm.setup()');

# ---------------------------------------------------------------------------
# an owner of the tables who is no superuser
# ---------------------------------------------------------------------------

my $owner_gets = q{
	GRANT USAGE, CREATE ON SCHEMA regcrm TO keeper WITH GRANT OPTION;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA regcrm TO keeper WITH GRANT OPTION;
	GRANT ALL ON regcrm.inbox, regcrm.worker_switch TO keeper WITH GRANT OPTION;
};
sql('kept', q{CREATE EXTENSION regcrm; GRANT USAGE, CREATE ON SCHEMA regcrm TO keeper; GRANT EXECUTE ON ALL ROUTINES IN SCHEMA regcrm TO keeper});
sql('kept', 'SET ROLE keeper; SELECT FROM regcrm.setup()');
my $refused = sql_error('kept', q{SET ROLE keeper; SELECT regcrm.grant_access('bi', 'reader')});
like($refused, qr/42501.*permission denied to grant access.*HINT:.*GRANT USAGE ON SCHEMA regcrm TO keeper WITH GRANT OPTION/s, 'he who can\'t grant functions is told what a superuser must run');
my ($hint) = $refused =~ /Let a superuser run: (.*?;)\n/;
sql('kept', $hint);
sql('kept', q{SET ROLE keeper; SELECT regcrm.grant_access('bi', 'reader'), regcrm.grant_access('engineer', 'operator'), regcrm.grant_access('boss', 'admin'), regcrm.grant_access('anna', 'writer')});
is(sql('kept', q{SET ROLE bi; SELECT count(*) FROM regcrm.violations}), '0', '... and then grants');
like(sql_error('kept', q{SET ROLE bi; SELECT regcrm.grant_access('mallory', 'reader')}), qr/42501/, 'others do not');

sql('kept', q{
	SET ROLE keeper;
	INSERT INTO regcrm.account (id, name, calendar) VALUES (7, 'Школа', 'daily-9-20');
	INSERT INTO regcrm.account (id, name, known_from, known_until, base_url) VALUES (8, 'Вторая', now() - interval '5 days', now(), 'https://x.amocrm.ru');
	INSERT INTO regcrm.manager (account_id, id, name) VALUES (7, 1, 'Анна'), (7, 2, 'Борис');
});
sql('kept', q{SET regcrm.mode = record;
	INSERT INTO regcrm.deal (account_id, id, name, stage, manager_id, created_at) SELECT 7, n, 'Сделка ' || n, 'new', 1 + n % 2, now() - n * interval '5 hours' FROM generate_series(1, 20) n;
	INSERT INTO regcrm.quarantine (account_id, entity, error, page) VALUES (8, 'leads', 'x', '{}')});
sql('kept', q{SET ROLE keeper; SELECT regcrm.map_manager('anna', 7, 1), regcrm.map_head('bi'), regcrm.enable_row_security()});
is(sql('kept', q{SET ROLE anna; SELECT count(*) FROM regcrm.deal}), '10', 'row security under an owner who is no superuser: a manager sees his own');
is(sql('kept', q{SET ROLE bi; SELECT count(*) FROM regcrm.deal}), '20', '... a head all');
is(sql('kept', q{SET ROLE keeper; SELECT count(*) FROM regcrm.deal}), '20', '... and the owner');

# ---- he plants a trigger that would make him a superuser on every table, and waits for one

sql('kept', q{
	CREATE SCHEMA keeper AUTHORIZATION keeper;
	SET ROLE keeper;
	CREATE TABLE keeper.log (who text, relation text);
	GRANT INSERT ON keeper.log TO PUBLIC; GRANT USAGE ON SCHEMA keeper TO PUBLIC;
	CREATE FUNCTION keeper.plant() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO keeper.log VALUES (current_user, TG_TABLE_NAME);
		BEGIN
			EXECUTE 'SET LOCAL ROLE postgres_or_whoever';
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		BEGIN
			RESET ROLE;
			INSERT INTO keeper.log VALUES ('reset: ' || current_user, TG_TABLE_NAME);
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		BEGIN
			ALTER ROLE keeper SUPERUSER;
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		RETURN NULL;
	END $$;
	DO $$ DECLARE r record; BEGIN
		FOR r IN SELECT oid::regclass AS t FROM pg_class WHERE relnamespace = 'regcrm'::regnamespace AND relkind = 'r' AND relowner = 'keeper'::regrole LOOP
			EXECUTE format('CREATE TRIGGER zzz_plant AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH STATEMENT EXECUTE FUNCTION keeper.plant()', r.t);
		END LOOP;
	END $$;
});
my $page = '{"_embedded": {"leads": [{"id": 501, "name": "x", "status_id": 1, "pipeline_id": 1, "created_at": 1772000000, "updated_at": 1772000000, "responsible_user_id": 5}]}}';
my $superuser = sql('kept', 'SELECT current_user');
my @calls = ('SELECT regcrm.rejudge()', 'SELECT regcrm.flag_expired()', "SELECT regcrm.ingest(8, 'leads', '$page')", "SELECT regcrm.ingest_webhook(8, 'leads[add][0][id]=1&account[id]=8')",
	'SELECT regcrm.retry_quarantine(8)', 'SELECT regcrm.pause(8)', 'SELECT regcrm.resume(8)', "SELECT regcrm.waive(7, (SELECT min(id) FROM regcrm.violation), 'x')",
	'SELECT regcrm.unwaive(7, (SELECT min(id) FROM regcrm.violation))', 'CALL regcrm.refresh_marts()', 'CALL regcrm.refresh_marts()', "SELECT regcrm.write_back(8)", 'SELECT regcrm.stop_write_back(8)',
	"SELECT regcrm.change_hours('daily-9-20', '2055-01-01', '{1}', '{10:00-12:00}')", "SELECT regcrm.copy_regulation('idrive', 'mine')", 'SELECT regcrm.remap(8)', "SELECT regcrm.want(8, 'leads', '{9}', 'x')",
	'SELECT regcrm.forget(7, 3)', "SELECT regcrm.map_head('engineer')", "SELECT regcrm.unmap_role('engineer')", "SELECT regcrm.grant_access('mallory', 'writer')", "SELECT regcrm.revoke_access('mallory')",
	'SELECT regcrm.disable_row_security()', 'SELECT regcrm.enable_row_security()', 'SELECT regcrm.apply_access()', "SELECT regcrm.retention('0')", 'SELECT regcrm.disconnect(8)');
my @failed;
for my $call (@calls)
{
	my ($rc, $out, $err) = $node->psql('kept', $call);
	push @failed, "$call: $err" if $rc != 0;
}
is(join("\n", @failed), '', 'a superuser calls what there is to call');
my $ran = sql('kept', 'SELECT string_agg(DISTINCT who, $$,$$ ORDER BY who), count(DISTINCT relation) > 12 FROM keeper.log');
is($ran, 'keeper|t', '... and the triggers of the tables\' owner run as him, on many tables');
is(sql('kept', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'keeper'}), 'f', '... who is no superuser for it');

# the workers
is(sql('kept', 'TRUNCATE keeper.log; SELECT regcrm.start_workers()') =~ s/\D//gr, '2', 'workers start');
# (written by him, logged in: whoever writes to a table runs its triggers)
sql('kept', 'ALTER ROLE keeper LOGIN; GRANT SET ON PARAMETER regcrm.mode TO keeper');
$node->safe_psql('kept', q{SET regcrm.mode = off; INSERT INTO regcrm.deal (account_id, id, stage, manager_id, created_at) VALUES (7, 900, 'new', 1, now() - interval '1 day');
	INSERT INTO regcrm.next_moment (account_id, deal_id, at) VALUES (7, 900, now() - interval '1 hour')},
	extra_params => [ '-U', 'keeper' ]);
$node->poll_query_until('kept', q{SELECT count(*) > 0 FROM keeper.log WHERE relation = 'violation'});
is(sql('kept', q{SELECT string_agg(DISTINCT who, ',') FROM keeper.log WHERE relation IN ('violation', 'deadline')}), 'keeper', 'a worker runs them as him');
is(sql('kept', q{SELECT count(*) FROM keeper.log WHERE who NOT IN ('keeper', 'reset: keeper')}) . sql('kept', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'keeper'}), '0f', '... who is no superuser for it either');
sql('kept', 'SELECT regcrm.stop_workers()');
sql('kept', q{DO $$ DECLARE r record; BEGIN
	FOR r IN SELECT tgrelid::regclass AS t FROM pg_trigger WHERE tgname = 'zzz_plant' LOOP EXECUTE format('DROP TRIGGER zzz_plant ON %s', r.t); END LOOP; END $$;
	DROP SCHEMA keeper CASCADE});

# ---------------------------------------------------------------------------
# restored by one who is no superuser
# ---------------------------------------------------------------------------

my $file = PostgreSQL::Test::Utils::tempdir . '/kept.sql';
my @connection = ('--host', $node->host, '--port', $node->port);
command_ok([ 'pg_dump', @connection, '--no-privileges', '--no-owner', '--schema=regcrm', '-f', $file, 'kept' ], 'pg_dump without privileges');
sql('restored', "CREATE EXTENSION regcrm; ALTER DATABASE restored OWNER TO keeper; $owner_gets");
my ($out, $err);
IPC::Run::run([ 'psql', '-X', '-q', @connection, '-d', 'restored', '-c', 'SET ROLE keeper', '-c', 'SET client_min_messages = warning', '-f', $file ], '>', \$out, '2>', \$err);
is(join("\n", grep { /ERROR/ && !/schema "regcrm" already exists/ } split /\n/, $err), '', 'restored by the tables\' owner: no error but that the schema is there');
is(sql('restored', 'SELECT count(*) FROM regcrm.deal') . sql('restored', 'SELECT string_agg(role || level, $$,$$ ORDER BY role) FROM regcrm.access'), sql('kept', 'SELECT count(*) FROM regcrm.deal') . 'annawriter,bireader,bossadmin,engineeroperator', 'rows and levels are there');
like(sql_error('restored', 'SET ROLE bi; SELECT * FROM regcrm.violations'), qr/42501/, '... nobody has them yet');
sql('restored', 'SET ROLE keeper; SELECT regcrm.setup()');
like(sql_error('restored', 'SET ROLE bi; SELECT * FROM regcrm.violations'), qr/42501/, '... nor after setup(): who lost the schema is not given it unasked');
sql('restored', 'SET ROLE keeper; SELECT regcrm.apply_access()');
is(sql('restored', 'SET ROLE bi; SELECT count(*) FROM regcrm.deal'), sql('restored', 'SELECT count(*) FROM regcrm.deal'), 'apply_access() grants them again; a head sees all');
is(sql('restored', 'SET ROLE anna; SELECT count(DISTINCT manager_id) FROM regcrm.deal'), '1', '... and a manager his own: row security came along');

# a setup() that can't grant says so and goes on
sql('kept', q{REVOKE EXECUTE ON FUNCTION regcrm.judge(bigint, bigint, timestamptz) FROM keeper CASCADE});
my ($rc, $o, $warning) = $node->psql('kept', 'SET ROLE keeper; SET client_min_messages = notice; SELECT FROM regcrm.setup()');
like($warning, qr/WARNING:  \d+ rights could not be granted.*judge.*apply_access/s, 'setup() tells by a warning what it could not grant');
is($rc, 0, '... and goes on');
like(sql('kept', 'SELECT regcrm.apply_access()'), qr/^[1-9]/, 'which a superuser then does');

$node->stop;
done_testing();
