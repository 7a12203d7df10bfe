/*-------------------------------------------------------------------------
 *
 * tokens.c
 *	  Tokens of an account, and requests that need them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "amocrm.h"
#include "sync_int.h"
#include "work.h"

/* --------------------------------------------------------------- tokens */

char *
sync_keep_text(MemoryContext context, uint64 row, const char *column)
{
	char	   *text = work_text(row, column);

	return text == NULL ? NULL : MemoryContextStrdup(context, text);
}

void
step_load_tokens(void *arg)
{
	TokenStep  *step = arg;
	Tokens	   *tokens = step->tokens;
	const Oid	types[] = {INT8OID};
	Datum		values[1];
	bool		isnull;
	Datum		expires;

	memset(tokens, 0, sizeof(Tokens));
	values[0] = Int64GetDatum(step->account_id);
	step->found = work_execute_secret("SELECT s.access_token, s.refresh_token, s.client_id, s.client_secret,"
									  " s.redirect_uri, s.expires_at"
									  " FROM regcrm.secret s WHERE s.account_id = $1",
									  1, types, values, NULL) > 0;
	if (!step->found)
		return;
	tokens->access = sync_keep_text(step->context, 0, "access_token");
	tokens->refresh = sync_keep_text(step->context, 0, "refresh_token");
	tokens->client_id = sync_keep_text(step->context, 0, "client_id");
	tokens->client_secret = sync_keep_text(step->context, 0, "client_secret");
	tokens->redirect_uri = sync_keep_text(step->context, 0, "redirect_uri");
	expires = work_datum(0, "expires_at", &isnull);
	tokens->has_expiry = !isnull;
	if (!isnull)
		tokens->expires_at = DatumGetTimestampTz(expires);
}

/*
 * Stores a pair of tokens.  It must be on disk before it is used.
 */
void
step_store_tokens(void *arg)
{
	TokenStep  *step = arg;
	const Tokens *tokens = step->tokens;
	const Oid	types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID};
	const char *texts[8] = {
		NULL, tokens->access, tokens->refresh, tokens->client_id,
		tokens->client_secret, tokens->redirect_uri, NULL, step->old_refresh
	};
	Datum		values[8];
	char		nulls[8];

	memset(nulls, ' ', sizeof(nulls));
	for (int i = 0; i < 8; i++)
	{
		values[i] = (Datum) 0;
		if (texts[i] != NULL)
			values[i] = CStringGetTextDatum(texts[i]);
		else
			nulls[i] = 'n';
	}
	values[0] = Int64GetDatum(step->account_id);
	nulls[0] = ' ';
	if (tokens->has_expiry)
	{
		values[6] = TimestampTzGetDatum(tokens->expires_at);
		nulls[6] = ' ';
	}

	/* Whatever synchronous_commit says. */
	ForceSyncCommit();
	step->found = work_execute_secret("INSERT INTO regcrm.secret AS s (account_id, access_token, refresh_token,"
									  " client_id, client_secret, redirect_uri, expires_at, updated_at)"
									  " SELECT $1, $2, $3, $4, $5, $6, $7, clock_timestamp()"
									  " WHERE $8 IS NULL OR EXISTS (SELECT FROM regcrm.secret o WHERE o.account_id = $1)"
									  " ON CONFLICT (account_id) DO UPDATE SET"
									  " access_token = excluded.access_token, refresh_token = excluded.refresh_token,"
									  " client_id = excluded.client_id, client_secret = excluded.client_secret,"
									  " redirect_uri = excluded.redirect_uri, expires_at = excluded.expires_at,"
									  " updated_at = excluded.updated_at"
									  " WHERE $8 IS NULL OR s.refresh_token = $8",
									  8, types, values, nulls) > 0;
}

void
tokens_load(Pass *pass)
{
	TokenStep	step = {pass->account_id, &pass->tokens, pass->context, NULL, false};
	ErrorData  *error = work_transaction(pass->in_call, step_load_tokens, &step);

	if (error != NULL)
		ReThrowError(error);
}

/* Reads the fields of a token answer. */
typedef struct PairStep
{
	Pass	   *pass;
	const char *body;
	size_t		length;
	Tokens		pair;
	bool		good;
} PairStep;

char *
sync_json_text(MemoryContext context, Jsonb *object, const char *key)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(&object->root, key, (int) strlen(key), &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return MemoryContextStrdup(context, pnstrdup(value.val.string.val, value.val.string.len));
}

bool
sync_json_number(Jsonb *object, const char *key, double *number)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(&object->root, key, (int) strlen(key), &value) == NULL ||
		value.type != jbvNumeric)
		return false;
	*number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												 NumericGetDatum(value.val.numeric)));
	return true;
}

static void
step_read_pair(void *arg)
{
	PairStep   *step = arg;
	MemoryContext context = step->pass->context;
	AmoPage		page;
	double		seconds;

	step->good = false;
	if (!amo_read_page(step->body, step->length, "", NULL, &page) || page.page == NULL)
		return;
	step->pair.access = sync_json_text(context, page.page, "access_token");
	step->pair.refresh = sync_json_text(context, page.page, "refresh_token");
	step->pair.has_expiry = sync_json_number(page.page, "expires_in", &seconds) &&
		seconds > 0 && seconds < 10.0 * 366 * SECS_PER_DAY;
	if (step->pair.has_expiry)
		step->pair.expires_at = GetCurrentTimestamp() + (int64) seconds * USECS_PER_SEC;
	step->good = step->pair.access != NULL && step->pair.refresh != NULL;
}

/* The body of a request for a new pair. */
static void
exchange_request(StringInfo json, const Tokens *tokens, const char *grant, const char *code)
{
	initStringInfo(json);
	appendStringInfoString(json, "{\"client_id\":");
	escape_json(json, tokens->client_id ? tokens->client_id : "");
	appendStringInfoString(json, ",\"client_secret\":");
	escape_json(json, tokens->client_secret ? tokens->client_secret : "");
	appendStringInfo(json, ",\"grant_type\":\"%s\",\"%s\":", grant,
					 strcmp(grant, "refresh_token") == 0 ? "refresh_token" : "code");
	escape_json(json, code);
	appendStringInfoString(json, ",\"redirect_uri\":");
	escape_json(json, tokens->redirect_uri ? tokens->redirect_uri : "");
	appendStringInfoChar(json, '}');
}

/* Why there is no new pair. */
static void
exchange_refused(Pass *pass, const AmoAnswer *answer)
{
	const char *what = answer->reason[0] ? answer->reason : "empty answer";

	switch (answer->verdict)
	{
		case AMO_UNAUTHORIZED:
		case AMO_REFUSED:
			pass->state = "needs_connect";
			pass_trouble(pass, TROUBLE_STOP, "amoCRM does not give new tokens: %s", what);
			break;
		case AMO_FORBIDDEN:
			pass->state = "blocked";
			pass->retry_seconds = RETRY_FORBIDDEN;
			pass_trouble(pass, TROUBLE_STOP, "amoCRM does not give new tokens: %s", what);
			break;
		default:

			/*
			 * Whether the old token is dead is unknown where the request
			 * was sent.  Another try finds out: it succeeds, or is told
			 * that the token was used.
			 */
			pass_trouble(pass, TROUBLE_STOP, "could not exchange tokens: %s", what);
			break;
	}
}

/*
 * Exchanges a code or the refresh token for a new pair, and stores it before
 * anyone can use it.  The caller holds the account's lock: the old refresh
 * token dies at amoCRM the moment it is used, so two processes must not.
 */
bool
tokens_exchange(Pass *pass, const char *grant, const char *code)
{
	Tokens	   *tokens = &pass->tokens;
	StringInfoData json;
	AmoAnswer	answer;
	PairStep	read = {0};
	TokenStep	store = {0};
	ErrorData  *error;

	exchange_request(&json, tokens, grant, code);
	amo_post_token(pass->api, json.data, &answer);
	pass->last_status = answer.status;
	explicit_bzero(json.data, json.len);

	if (answer.verdict != AMO_PAGE)
	{
		exchange_refused(pass, &answer);
		return false;
	}

	read.pass = pass;
	read.body = answer.body;
	read.length = answer.length;
	error = work_transaction(pass->in_call, step_read_pair, &read);
	if (error != NULL || !read.good)
	{
		pass_trouble(pass, TROUBLE_STOP, "could not read amoCRM's answer about tokens");
		return false;
	}

	read.pair.client_id = tokens->client_id;
	read.pair.client_secret = tokens->client_secret;
	read.pair.redirect_uri = tokens->redirect_uri;
	store.account_id = pass->account_id;
	store.tokens = &read.pair;
	store.context = pass->context;
	store.old_refresh = tokens->refresh;

	/* This pair exists nowhere else: a passing failure must not lose it. */
	for (int attempt = 1;; attempt++)
	{
		error = work_transaction(pass->in_call, step_store_tokens, &store);
		if (error == NULL)
			break;
		if (attempt == 5)
		{
			pass->state = "needs_connect";
			pass_trouble(pass, TROUBLE_STOP, "could not store the new tokens: %s", error->message);
			return false;
		}
		http_pause(200 * attempt);
	}
	if (!store.found)
	{
		/* connect() has put others there meanwhile: those count. */
		tokens_load(pass);
		if (pass->tokens.access == NULL)
			pass_trouble(pass, TROUBLE_STOP, "the account has been disconnected");
		return pass->tokens.access != NULL;
	}
	*tokens = read.pair;
	pass->renewed = true;
	return true;
}

/*
 * After a 401, or when the token is about to end: true when there is another
 * token to try.
 */
bool
tokens_renew(Pass *pass)
{
	char	   *used = pass->tokens.access;

	tokens_load(pass);
	if (pass->tokens.access != NULL &&
		(used == NULL || strcmp(used, pass->tokens.access) != 0))
		return true;
	if (pass->tokens.refresh == NULL || pass->renewed)
	{
		pass->state = "needs_connect";
		pass_trouble(pass, TROUBLE_STOP,
					pass->tokens.access == NULL ? "there is no token for the account" :
					"amoCRM does not accept the token");
		return false;
	}
	return tokens_exchange(pass, "refresh_token", pass->tokens.refresh);
}
