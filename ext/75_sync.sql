
-- ---------------------------------------------------------------------------
-- sync and workers
-- ---------------------------------------------------------------------------

-- Procedures that commit may have neither SECURITY DEFINER nor a SET clause;
-- they pin the path and change to the tables' owner in C, step by step.  Who may
-- call them is a grant: connect() makes the server speak to an address.

CREATE PROCEDURE regcrm.connect(
	base_url text,
	token text DEFAULT NULL,
	INOUT account_id bigint DEFAULT NULL,
	client_id text DEFAULT NULL,
	client_secret text DEFAULT NULL,
	code text DEFAULT NULL,
	redirect_uri text DEFAULT NULL,
	token_file text DEFAULT NULL)
	AS 'MODULE_PATHNAME', 'regcrm_connect'
	LANGUAGE C;
REVOKE EXECUTE ON PROCEDURE regcrm.connect(text, text, bigint, text, text, text, text, text) FROM PUBLIC;
COMMENT ON PROCEDURE regcrm.connect(text, text, bigint, text, text, text, text, text) IS
	'Connects an amoCRM account: stores the token, checks it against the API, registers the account under amoCRM''s number, which comes back as account_id. Arguments: the address, then one of: token (long-lived); token_file (a file on the server whose first line is it; needs pg_read_server_files); client_id, client_secret, code, redirect_uri (exchanged, the pair stored before it is used). account_id, where given, is checked. Called again for a known account it renews the token. Commits: refused in a transaction block (25001).';

CREATE PROCEDURE regcrm.sync(account_id bigint DEFAULT NULL)
	AS 'MODULE_PATHNAME', 'regcrm_sync'
	LANGUAGE C;
REVOKE EXECUTE ON PROCEDURE regcrm.sync(bigint) FROM PUBLIC;
COMMENT ON PROCEDURE regcrm.sync(bigint) IS
	'One pass over an account, now: reads from amoCRM what is new, page by page, each page and the place behind it committed together, then judges. Null = every connected account. Error 55P03 while another process syncs it, 08006 where something stood in the way (what was read is kept), 25001 in a transaction block.';

-- Member of the extension: it says how this server is run and is in no dump.
CREATE TABLE regcrm.worker_switch (
	only_row boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (only_row),
	stopped boolean NOT NULL DEFAULT false,
	at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
REVOKE ALL ON TABLE regcrm.worker_switch FROM PUBLIC;
INSERT INTO regcrm.worker_switch DEFAULT VALUES;
COMMENT ON TABLE regcrm.worker_switch IS
	'Whether stop_workers() has stopped the workers of this database. One row.';
COMMENT ON COLUMN regcrm.worker_switch.only_row IS 'Always true: there is one row.';
COMMENT ON COLUMN regcrm.worker_switch.stopped IS 'True from stop_workers() to start_workers().';
COMMENT ON COLUMN regcrm.worker_switch.at IS 'When it was last turned.';

CREATE FUNCTION regcrm.start_workers() RETURNS integer
	AS 'MODULE_PATHNAME', 'regcrm_start_workers'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION regcrm.start_workers() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.start_workers() IS
	'Starts the sync and the clock worker of this database, unless they run, and returns how many it started. They last until the server stops; where the launcher looks after this database, it starts them. Error 53400 when max_worker_processes leaves no slot.';

CREATE FUNCTION regcrm.stop_workers() RETURNS integer
	AS 'MODULE_PATHNAME', 'regcrm_stop_workers'
	LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION regcrm.stop_workers() FROM PUBLIC;
COMMENT ON FUNCTION regcrm.stop_workers() IS
	'Stops the workers of this database, waits until they are gone, and returns how many there were. They stay away, over restarts too, until start_workers(). For DROP, RENAME or copying of the database.';
