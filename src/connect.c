/*-------------------------------------------------------------------------
 *
 * connect.c
 *	  CALL regcrm.connect(): an account and its tokens.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "storage/fd.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "amocrm.h"
#include "sync_int.h"
#include "work.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(regcrm_connect);

/* How long, and how often, connect() looks whether a pass has ended. */
#define PASS_WAIT_MS		(2 * 60 * 1000)
#define PASS_POLL_MS		200

/* ---------------------------------------------------- CALL regcrm.connect */

/*
 * The first line of a file on the server that holds a token.
 */
static char *
read_token_file(const char *name)
{
	FILE	   *file;
	char		buffer[16384];
	size_t		length;
	char	   *end;

	/* As COPY and pg_read_file() ask. */
	if (!has_privs_of_role(GetUserId(), ROLE_PG_READ_SERVER_FILES))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to read a token from a file"),
				 errdetail("Only roles with privileges of the role \"%s\" may read files of the server.",
						   "pg_read_server_files")));
	file = AllocateFile(name, PG_BINARY_R);
	if (file == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\" for reading: %m", name)));
	length = fread(buffer, 1, sizeof(buffer) - 1, file);
	if (ferror(file))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", name)));
	FreeFile(file);
	buffer[length] = '\0';
	if ((end = strpbrk(buffer, "\r\n")) != NULL)
		*end = '\0';
	end = pstrdup(buffer);
	explicit_bzero(buffer, sizeof(buffer));
	return end;
}

/* What goes into a header line or a JSON text must be plain. */
static void
check_secret(const char *secret, const char *parameter)
{
	bool		good = secret[0] != '\0' && strlen(secret) < 16384;

	for (const char *c = secret; *c && good; c++)
		good = *c > ' ' && *c < 0x7f;
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for parameter \"%s\"", parameter),
				 errdetail("It must be one word of printable ASCII characters.")));
}

/* Credentials that were put into regcrm.inbox for an address. */
typedef struct InboxStep
{
	MemoryContext context;
	const char *origin;
	char	   *token;
	char	   *client_id;
	char	   *client_secret;
	char	   *code;
	char	   *redirect_uri;
	bool		found;
} InboxStep;

static void
step_read_inbox(void *arg)
{
	InboxStep  *step = arg;
	const Oid	types[] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(step->origin)};

	step->found = work_execute_secret("SELECT pg_catalog.btrim(i.token) AS token, i.client_id, i.client_secret, i.code, i.redirect_uri"
									  " FROM regcrm.inbox i"
									  " WHERE pg_catalog.rtrim(pg_catalog.btrim(i.base_url), '/') = $1"
									  " ORDER BY i.at DESC LIMIT 1", 1, types, values, NULL) > 0;
	if (!step->found)
		return;
	step->token = sync_keep_text(step->context, 0, "token");
	step->client_id = sync_keep_text(step->context, 0, "client_id");
	step->client_secret = sync_keep_text(step->context, 0, "client_secret");
	step->code = sync_keep_text(step->context, 0, "code");
	step->redirect_uri = sync_keep_text(step->context, 0, "redirect_uri");
}

static void
step_empty_inbox(void *arg)
{
	InboxStep  *step = arg;
	const Oid	types[] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(step->origin)};

	(void) work_execute_secret("DELETE FROM regcrm.inbox i"
							   " WHERE pg_catalog.rtrim(pg_catalog.btrim(i.base_url), '/') = $1",
							   1, types, values, NULL);
}

typedef struct RegisterStep
{
	const IdentityStep *identity;
	int64		provisional;
	const char *origin;
	int64		requests;
	bool		is_new;
} RegisterStep;

/*
 * Registers the account under amoCRM's number, with the tokens that have been
 * kept under a provisional one so far.
 */
static void
step_register(void *arg)
{
	RegisterStep *step = arg;
	const IdentityStep *identity = step->identity;
	const Oid	types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	const char *texts[5] = {NULL, identity->name, step->origin, identity->subdomain, NULL};
	const Oid	move_types[] = {INT8OID, INT8OID};
	Datum		values[5];
	char		nulls[5];
	Datum		moved[2];

	if (identity->time_zone != NULL && pg_tzset(identity->time_zone) != NULL)
		texts[4] = identity->time_zone;
	memset(nulls, ' ', sizeof(nulls));
	for (int i = 0; i < lengthof(texts); i++)
	{
		values[i] = (Datum) 0;
		if (texts[i] != NULL)
			values[i] = CStringGetTextDatum(texts[i]);
		else
			nulls[i] = 'n';
	}
	values[0] = Int64GetDatum(identity->id);
	nulls[0] = ' ';

	/*
	 * known_from 'infinity': nothing of the history is known yet.  An account
	 * that was there keeps what people have set.
	 */
	step->is_new = work_execute("INSERT INTO regcrm.account AS a (id, name, base_url, subdomain, time_zone, calendar,"
								" known_from, known_until, connected_at)"
								" VALUES ($1, $2, $3, $4, COALESCE($5, 'Europe/Moscow'),"
								" (SELECT c.name FROM regcrm.calendar c WHERE c.name = 'daily-9-20'),"
								" 'infinity', '-infinity', now())"
								" ON CONFLICT (id) DO NOTHING", 5, types, values, nulls) > 0;
	if (!step->is_new)
		(void) work_execute("UPDATE regcrm.account a SET base_url = $3, subdomain = $4,"
							" name = COALESCE(a.name, $2),"
							" known_from = CASE WHEN a.known_until IS NULL THEN 'infinity' ELSE a.known_from END,"
							" known_until = COALESCE(a.known_until, '-infinity'),"
							" state = 'ok', state_reason = NULL, connected_at = now()"
							" WHERE a.id = $1 AND $5 IS NOT DISTINCT FROM $5",
							5, types, values, nulls);
	(void) work_execute("INSERT INTO regcrm.feed (account_id, feed, since)"
						" SELECT $1, f, '-infinity' FROM unnest('{calls,tasks,comments}'::text[]) f"
						" ON CONFLICT DO NOTHING", 1, types, values, nulls);
	if (step->is_new)
		(void) work_execute("UPDATE regcrm.account a SET rejudged_at = clock_timestamp(), rejudged_beside = pg_current_snapshot() WHERE a.id = $1",
							1, types, values, nulls);

	/* Whatever kept the account waiting is over. */
	(void) work_execute("UPDATE regcrm.sync_state s SET next_try_at = NULL"
						" WHERE s.account_id = $1 AND s.next_try_at IS NOT NULL",
						1, types, values, nulls);
	(void) work_execute("DELETE FROM regcrm.sync_state s"
						" WHERE s.account_id = $1 AND s.entity = '" PASS_ENTITY "'",
						1, types, values, nulls);
	values[1] = Int64GetDatum(step->requests);
	(void) work_execute("INSERT INTO regcrm.sync_state AS s (account_id, entity, requests, updated_at)"
						" VALUES ($1, 'connect', $2, clock_timestamp())"
						" ON CONFLICT (account_id, entity) DO UPDATE SET"
						" requests = s.requests + excluded.requests, updated_at = excluded.updated_at",
						2, move_types, values, NULL);

	moved[0] = Int64GetDatum(identity->id);
	moved[1] = Int64GetDatum(step->provisional);
	ForceSyncCommit();
	(void) work_execute_secret("DELETE FROM regcrm.secret s WHERE s.account_id = $1",
							   1, move_types, moved, NULL);
	if (work_execute_secret("UPDATE regcrm.secret s SET account_id = $1, updated_at = clock_timestamp()"
							" WHERE s.account_id = $2",
							2, move_types, moved, NULL) != 1)
		elog(ERROR, "the tokens of account " INT64_FORMAT " are gone", identity->id);
}

typedef struct KnownStep
{
	const char *origin;
	int64		account_id;		/* 0 = none with this address */
	bool		has_last;
	TimestampTz last_used;
} KnownStep;

static void
step_find_known(void *arg)
{
	KnownStep  *step = arg;
	const Oid	types[] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(step->origin)};
	bool		isnull;

	step->account_id = 0;
	step->has_last = false;
	if (work_execute("SELECT a.id, (SELECT max(s.updated_at) FROM regcrm.sync_state s WHERE s.account_id = a.id) AS last_used"
					 " FROM regcrm.account a WHERE rtrim(a.base_url, '/') = $1 AND a.known_until IS NOT NULL"
					 " ORDER BY a.id LIMIT 1", 1, types, values, NULL) == 0)
		return;
	step->account_id = DatumGetInt64(work_datum(0, "id", &isnull));
	step->last_used = DatumGetTimestampTz(work_datum(0, "last_used", &isnull));
	step->has_last = !isnull;
}

/*
 * Where processes do not share the pace of an account, a known one may not be
 * asked beside a pass over it: waits for that to end.  Returns the account that
 * is locked now, 0 = none.
 */
static int64
lock_known(Pass *pass, const char *origin)
{
	KnownStep	known = {.origin = origin};
	ErrorData  *error;

	if (amo_pace_is_shared())
		return 0;
	for (int waited = 0;; waited += PASS_POLL_MS)
	{
		error = work_transaction(true, step_find_known, &known);
		if (error != NULL)
			ReThrowError(error);
		if (known.account_id == 0)
			return 0;
		if (sync_lock(known.account_id))
			break;
		if (waited >= PASS_WAIT_MS)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("account " INT64_FORMAT " is being synced by another process", known.account_id),
					 errhint("Wait for it, or SELECT regcrm.pause(" INT64_FORMAT ").", known.account_id)));
		http_pause(PASS_POLL_MS);
	}
	if (known.has_last)
		amo_last_used(pass->api, known.last_used);
	return known.account_id;
}

static void
step_drop_provisional(void *arg)
{
	int64	   *account_id = arg;
	const Oid	types[] = {INT8OID};
	Datum		values[1];

	values[0] = Int64GetDatum(*account_id);
	(void) work_execute_secret("DELETE FROM regcrm.secret s WHERE s.account_id = $1",
							   1, types, values, NULL);
}

enum
{
	CONNECT_BASE_URL, CONNECT_TOKEN, CONNECT_ACCOUNT_ID, CONNECT_CLIENT_ID,
	CONNECT_CLIENT_SECRET, CONNECT_CODE, CONNECT_REDIRECT_URI, CONNECT_TOKEN_FILE,
	CONNECT_ARGUMENTS
};

/*
 * Does the work of connect() under the lock of the provisional number.
 * Returns amoCRM's number of the account.
 */
static int64
connect_account(Pass *pass, const char *origin, const char *code,
				const Tokens *given, int64 expected, bool keep_on_failure)
{
	IdentityStep identity;
	RegisterStep registration = {0};
	TokenStep	store = {0};
	TokenStep	stored = {pass->account_id, &pass->tokens, pass->context, NULL, false};
	ErrorData  *error;
	bool		known = false;

	/*
	 * An earlier call may have exchanged its code and then failed: the pair
	 * it got is here, and the code is used up.
	 */
	if (code != NULL)
	{
		error = work_transaction(true, step_load_tokens, &stored);
		if (error != NULL)
			ReThrowError(error);
		if (stored.found && pass->tokens.access != NULL && pass->tokens.client_id != NULL &&
			strcmp(pass->tokens.client_id, given->client_id) == 0)
		{
			known = pass_ask_identity(pass, &identity);
			pass->state = NULL;
			pass->renewed = false;
		}
	}

	if (!known)
	{
		pass->tokens = *given;
		store.account_id = pass->account_id;
		store.tokens = &pass->tokens;
		store.context = pass->context;
		error = work_transaction(true, step_store_tokens, &store);
		if (error != NULL)
			ReThrowError(error);
		known = (code == NULL || tokens_exchange(pass, "authorization_code", code)) &&
			pass_ask_identity(pass, &identity);
	}

	if (!known || (expected != 0 && identity.id != expected))
	{
		if (!keep_on_failure || pass->tokens.access == NULL)
		{
			error = work_transaction(true, step_drop_provisional, &pass->account_id);
			if (error != NULL)
				ReThrowError(error);
		}
		if (!known)
			ereport(ERROR,
					(errcode(ERRCODE_SQLSERVER_REJECTED_ESTABLISHMENT_OF_SQLCONNECTION),
					 errmsg("could not connect to \"%s\": %s", origin, pass->reason),
					 keep_on_failure && pass->tokens.access != NULL ?
					 errhint("The tokens are kept; call regcrm.connect() again with the same arguments.") :
					 errhint("Check the address and the token.")));
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is account " INT64_FORMAT ", not " INT64_FORMAT, origin, identity.id, expected)));
	}

	registration.identity = &identity;
	registration.provisional = pass->account_id;
	registration.origin = origin;
	registration.requests = pass_requests(pass);
	error = work_transaction(true, step_register, &registration);
	if (error != NULL)
		ReThrowError(error);
	ereport(NOTICE,
			(errmsg("account " INT64_FORMAT " is connected%s%s", identity.id,
					identity.name ? ": " : "", identity.name ? identity.name : ""),
			 worker_is_running("regcrm sync") ? 0 :
			 errhint("No sync worker runs here: CALL regcrm.sync(), SELECT regcrm.start_workers(), or add regcrm to shared_preload_libraries and this database to regcrm.databases.")));
	return identity.id;
}

/*
 * Where the statement names no credentials, those that lie in the inbox for
 * this address become its arguments.  True: the statement has its own.
 */
static bool
read_inbox(MemoryContext context, const char *origin, char **argument, InboxStep *inbox)
{
	ErrorData  *error;

	for (int i = 0; i < CONNECT_ARGUMENTS; i++)
		if (i != CONNECT_BASE_URL && i != CONNECT_ACCOUNT_ID && argument[i] != NULL)
			return true;
	inbox->context = context;
	inbox->origin = origin;
	error = work_transaction(true, step_read_inbox, inbox);
	if (error != NULL)
		ReThrowError(error);
	if (!inbox->found)
		return true;
	argument[CONNECT_TOKEN] = inbox->token;
	argument[CONNECT_CLIENT_ID] = inbox->client_id;
	argument[CONNECT_CLIENT_SECRET] = inbox->client_secret;
	argument[CONNECT_CODE] = inbox->code;
	argument[CONNECT_REDIRECT_URI] = inbox->redirect_uri;
	return false;
}

/*
 * The credentials among the arguments.  True: a code, to be exchanged.
 */
static bool
read_credentials(char **argument, bool in_statement, Tokens *given)
{
	bool		by_code = argument[CONNECT_CLIENT_ID] != NULL || argument[CONNECT_CLIENT_SECRET] != NULL ||
		argument[CONNECT_CODE] != NULL || argument[CONNECT_REDIRECT_URI] != NULL;

	if ((argument[CONNECT_TOKEN] != NULL) + (argument[CONNECT_TOKEN_FILE] != NULL) + by_code != 1 ||
		(by_code && (argument[CONNECT_CLIENT_ID] == NULL || argument[CONNECT_CLIENT_SECRET] == NULL ||
					 argument[CONNECT_CODE] == NULL || argument[CONNECT_REDIRECT_URI] == NULL)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("one way to authorize must be given"),
				 errdetail("The ways are token; token_file; a row of regcrm.inbox for this address; or client_id, client_secret, code and redirect_uri together.")));

	if (by_code)
	{
		check_secret(argument[CONNECT_CLIENT_ID], "client_id");
		check_secret(argument[CONNECT_CLIENT_SECRET], "client_secret");
		check_secret(argument[CONNECT_CODE], "code");
		given->client_id = argument[CONNECT_CLIENT_ID];
		given->client_secret = argument[CONNECT_CLIENT_SECRET];
		given->redirect_uri = argument[CONNECT_REDIRECT_URI];
	}
	else
	{
		if (argument[CONNECT_TOKEN_FILE] != NULL)
			given->access = read_token_file(argument[CONNECT_TOKEN_FILE]);
		else
			given->access = argument[CONNECT_TOKEN];
		check_secret(given->access, argument[CONNECT_TOKEN_FILE] ? "token_file" : "token");
	}
	if (in_statement && (argument[CONNECT_TOKEN] != NULL || by_code))
		ereport(WARNING,
				(errmsg("a secret stands in the text of this statement"),
				 errdetail("Statement logs, pg_stat_activity and the client's history may hold it."),
				 errhint("Use token_file, or \\copy regcrm.inbox (base_url, token) from a file; and remove the statement from the logs.")));
	return by_code;
}

/*
 * Error context callback: the statement may hold a secret, so the server's
 * log does not repeat it beside a message.
 */
static void
hide_statement(void *arg)
{
	(void) arg;
	errhidestmt(true);
}

/*
 * CALL regcrm.connect(base_url, token, account_id, …).
 */
Datum
regcrm_connect(PG_FUNCTION_ARGS)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *argument[CONNECT_ARGUMENTS] = {NULL};
	char	   *origin;
	char	   *host;
	const char *wrong;
	Tokens		given = {0};
	int64		expected = PG_ARGISNULL(CONNECT_ACCOUNT_ID) ? 0 : PG_GETARG_INT64(CONNECT_ACCOUNT_ID);
	int64		provisional;
	volatile int64 account_id = 0;
	volatile int64 locked = 0;
	Pass	   *pass;
	TupleDesc	desc;
	Datum		value;
	bool		isnull = false;
	volatile bool by_code;
	bool		in_statement;
	InboxStep	inbox = {0};
	HeapTuple	tuple;
	ErrorContextCallback hiding;

	hiding.callback = hide_statement;
	hiding.arg = NULL;
	hiding.previous = error_context_stack;
	error_context_stack = &hiding;

	sync_refuse_atomic(fcinfo, "regcrm.connect");
	for (int i = 0; i < CONNECT_ARGUMENTS; i++)
		if (i != CONNECT_ACCOUNT_ID && !PG_ARGISNULL(i))
			argument[i] = TextDatumGetCString(PG_GETARG_DATUM(i));

	if (argument[CONNECT_BASE_URL] == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a base URL must be given"),
				 errhint("CALL regcrm.connect('https://example.amocrm.ru', token => '…').")));
	wrong = http_check_base(argument[CONNECT_BASE_URL], &origin, &host);
	if (wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("base URL \"%s\" cannot be used", argument[CONNECT_BASE_URL]),
				 errdetail("%s", wrong)));

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	work_require_ready();
	in_statement = read_inbox(context, origin, argument, &inbox);
	by_code = read_credentials(argument, in_statement, &given);

	/* Until amoCRM has said its number the account goes by its address. */
	provisional = -(int64) ((DatumGetUInt64(hash_any_extended((const unsigned char *) origin,
															  (int) strlen(origin), 0)) >> 2) + 1);

	if (!sync_lock(provisional))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("\"%s\" is being connected by another process", origin)));
	pass = pass_make(context, provisional, true, true);
	MemoryContextSwitchTo(pass->context);
	PG_TRY();
	{
		pass->api = amo_open(pass->context, origin);
		locked = lock_known(pass, origin);
		account_id = connect_account(pass, origin, argument[CONNECT_CODE], &given, expected,
									 by_code);
	}
	PG_FINALLY();
	{
		if (locked != 0)
			sync_unlock(locked);
		sync_unlock(provisional);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	MemoryContextDelete(pass->context);
	if (!in_statement)
	{
		ErrorData  *error = work_transaction(true, step_empty_inbox, &inbox);

		if (error != NULL)
			ReThrowError(error);
	}
	SPI_finish();
	worker_wake("regcrm sync");

	MemoryContextSwitchTo(context);
	desc = CreateTemplateTupleDesc(1);
	TupleDescInitEntry(desc, 1, "account_id", INT8OID, -1, 0);
	desc = BlessTupleDesc(desc);
	value = Int64GetDatum(account_id);
	tuple = heap_form_tuple(desc, &value, &isnull);
	error_context_stack = hiding.previous;
	PG_RETURN_DATUM(HeapTupleGetDatum(tuple));
}
