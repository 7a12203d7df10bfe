--
-- Settings: what they take, and from whom
--
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS regcrm CASCADE;
DROP SCHEMA IF EXISTS regcrm CASCADE;
CREATE EXTENSION regcrm;
CREATE ROLE regcrm_settings_owner;
CREATE ROLE regcrm_settings_writer;
CREATE ROLE regcrm_settings_loader;
GRANT CREATE, USAGE ON SCHEMA regcrm TO regcrm_settings_owner;
GRANT USAGE ON SCHEMA regcrm TO regcrm_settings_writer, regcrm_settings_loader;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA regcrm TO regcrm_settings_owner;
SET ROLE regcrm_settings_owner;
SELECT regcrm.setup();
RESET ROLE;

SELECT name, setting, unit, vartype, context, min_val, max_val, enumvals
FROM pg_settings WHERE name LIKE 'regcrm.%' ORDER BY name COLLATE "C";

-- What is no value, and no setting; all fail
SET regcrm.mode = 'on';
SET regcrm.account_id = 'first';
SET regcrm.account_id = '12 ';
SET regcrm.account_id = '9223372036854775808';
SET regcrm.requests_per_second = 0;
SET regcrm.http_timeout = 'long';
SET regcrm.databases = 'a, b';
SET regcrm.no_such_setting = 1;
-- and what is
SET regcrm.account_id = -7;
SET regcrm.account_id = '';
SET regcrm.http_timeout = '5s';
SHOW regcrm.http_timeout;
SET regcrm.max_response_size = '1MB';
SHOW regcrm.max_response_size;

-- The mode: superusers and roles that were granted it
SET ROLE regcrm_settings_writer;
SET regcrm.mode = 'record';	-- fails
SET regcrm.allow_http = on;	-- fails
SET regcrm.requests_per_second = 100;	-- fails
SET regcrm.account_id = 5;
RESET ROLE;
GRANT SET ON PARAMETER regcrm.mode TO regcrm_settings_loader;
SET ROLE regcrm_settings_loader;
SET regcrm.mode = 'record';
SHOW regcrm.mode;
RESET regcrm.mode;
RESET ROLE;
ALTER ROLE regcrm_settings_writer SET regcrm.mode = 'off';
ALTER ROLE regcrm_settings_writer RESET regcrm.mode;

-- Set before the library is loaded, it comes to nothing (a warning, the default)
\c -
SET ROLE regcrm_settings_writer;
SET regcrm.mode = 'off';
SET regcrm.allow_http = on;
SELECT 'new'::regcrm.stage;
SHOW regcrm.mode;
SHOW regcrm.allow_http;
\c -
SET regcrm.mode = 'record';	-- a superuser's stays
SET regcrm.account_id = 'none';	-- a bad one does not
SELECT regcrm.fold_name('A');
SHOW regcrm.mode;
SHOW regcrm.account_id;

--
-- regcrm.ingesting: the owner of the tables, in functions and sessions; nobody
-- else, and by no other way
--
\c -
SET client_min_messages = warning;
SELECT regcrm.fold_name('A');
CREATE FUNCTION public.takes_in() RETURNS text LANGUAGE sql SET regcrm.ingesting = on
	AS $$ SELECT current_setting('regcrm.ingesting') $$;
CREATE FUNCTION public.takes_in_as_owner() RETURNS text LANGUAGE sql SECURITY DEFINER SET regcrm.ingesting = on
	AS $$ SELECT current_setting('regcrm.ingesting') $$;
ALTER FUNCTION public.takes_in_as_owner() OWNER TO regcrm_settings_owner;
SELECT count(*) FROM pg_settings WHERE name = 'regcrm.ingesting';

SET ROLE regcrm_settings_owner;
SELECT public.takes_in();
SHOW regcrm.ingesting;
BEGIN;
SET LOCAL regcrm.ingesting = on;
SHOW regcrm.ingesting;
COMMIT;
SHOW regcrm.ingesting;
RESET ROLE;

SET ROLE regcrm_settings_writer;
SET regcrm.ingesting = on;	-- fails
SELECT set_config('regcrm.ingesting', 'on', true);	-- fails
SELECT public.takes_in();	-- fails
SELECT public.takes_in_as_owner();
SHOW regcrm.ingesting;
SET regcrm.ingesting = off;
RESET ROLE;

-- as a role's setting
ALTER ROLE regcrm_settings_writer SET regcrm.ingesting = on;
ALTER ROLE regcrm_settings_writer RESET regcrm.ingesting;
ALTER SYSTEM SET regcrm.ingesting = on;	-- fails

-- before the library is loaded, to be loaded by a function that runs as the owner
CREATE FUNCTION public.loads() RETURNS text LANGUAGE sql SECURITY DEFINER
	AS $$ SELECT regcrm.fold_name('A') || current_setting('regcrm.ingesting') $$;
ALTER FUNCTION public.loads() OWNER TO regcrm_settings_owner;
\c -
SET ROLE regcrm_settings_writer;
SET regcrm.ingesting = on;
SELECT public.loads();
SHOW regcrm.ingesting;

\c -
SET client_min_messages = warning;
DROP FUNCTION public.takes_in(), public.takes_in_as_owner(), public.loads();
DROP EXTENSION regcrm CASCADE;
DROP SCHEMA regcrm CASCADE;
REVOKE SET ON PARAMETER regcrm.mode FROM regcrm_settings_loader;
DROP ROLE regcrm_settings_owner, regcrm_settings_writer, regcrm_settings_loader;
