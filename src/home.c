/*-------------------------------------------------------------------------
 *
 * home.c
 *	  Where an account has moved: its subdomain may be renamed at will.
 *
 * The old address then answers that there is no such account, or knows the
 * token no more.  The host of the account's shard, which the token names, tells
 * the present address to who shows the token.  That claim is the one thing that
 * is ever read out of a token, and nothing is sent there that amoCRM does not
 * have: it must lie under the domain of the address that connect() was given,
 * and so must the address that it tells.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "utils/builtins.h"

#include "amocrm.h"
#include "regcrm.h"
#include "sync_int.h"
#include "work.h"

typedef struct HomeStep
{
	MemoryContext context;
	const char *json;
	size_t		length;
	const char *key;			/* the text wanted */
	char	   *value;
	char	   *subdomain;
	double		id;				/* 0 = not told */
} HomeStep;

typedef struct MoveStep
{
	int64		account_id;
	const char *origin;
	const char *subdomain;
} MoveStep;

static void
step_read_home(void *arg)
{
	HomeStep   *step = arg;
	AmoPage		page;

	step->value = step->subdomain = NULL;
	step->id = 0;
	if (!amo_read_page(step->json, step->length, "", NULL, &page) || page.page == NULL)
		return;
	step->value = sync_json_text(step->context, page.page, step->key);
	step->subdomain = sync_json_text(step->context, page.page, "subdomain");
	(void) sync_json_number(page.page, "id", &step->id);
}

static void
step_move(void *arg)
{
	MoveStep   *step = arg;
	const Oid	types[] = {INT8OID, TEXTOID, TEXTOID};
	Datum		values[3] = {Int64GetDatum(step->account_id), CStringGetTextDatum(step->origin), (Datum) 0};
	char		nulls[3] = {' ', ' ', 'n'};

	if (step->subdomain != NULL)
	{
		values[2] = CStringGetTextDatum(step->subdomain);
		nulls[2] = ' ';
	}
	(void) work_execute("UPDATE regcrm.account a SET base_url = $2, subdomain = COALESCE($3, a.subdomain)"
						" WHERE a.id = $1", 3, types, values, nulls);
}

/* The part of a token that says things, decoded; NULL where there is none. */
static char *
token_claims(const char *token, int *length)
{
	const char *begin = token == NULL ? NULL : strchr(token, '.');
	const char *end = begin == NULL ? NULL : strchr(++begin, '.');
	char	   *text;
	char	   *claims;
	int			n;

	if (end == NULL)
		return NULL;
	n = (int) (end - begin);
	text = palloc(n + 4);
	for (int i = 0; i < n; i++)
		text[i] = begin[i] == '-' ? '+' : begin[i] == '_' ? '/' : begin[i];
	while (n % 4 != 0)
		text[n++] = '=';
	claims = palloc0(pg_b64_dec_len(n) + 1);
	/* void: the type of what it writes to differs between versions */
	*length = pg_b64_decode(text, n, (void *) claims, pg_b64_dec_len(n));
	return *length < 0 ? NULL : claims;
}

/* The last two labels: amocrm.ru, kommo.com. */
static const char *
registered_domain(const char *host)
{
	const char *dot = strrchr(host, '.');

	while (dot != NULL && dot > host && dot[-1] != '.')
		dot--;
	return dot == NULL ? host : dot;
}

/*
 * The origin that a host of amoCRM makes, beside the present one; NULL where it
 * is none of the same house.
 */
static char *
neighbour(const char *origin, const char *host)
{
	char	   *url = psprintf("%.*s://%s", (int) (strstr(origin, "://") - origin), origin, host);
	char	   *own_origin;
	char	   *own_host;
	char	   *found;
	char	   *its_host;
	bool		is_test = regcrm_allow_http && strncmp(origin, "http://", 7) == 0;

	if (http_check_base(origin, &own_origin, &own_host) != NULL ||
		http_check_base(url, &found, &its_host) != NULL)
		return NULL;
	/* http_check_base() lets http go to this machine only */
	if (!is_test &&
		(pg_strcasecmp(registered_domain(own_host), registered_domain(its_host)) != 0 ||
		 pg_strcasecmp(registered_domain(its_host), its_host) == 0))
		return NULL;
	return found;
}

/* Reads a text, and what else stands beside it, out of a JSON object. */
static bool
read_home(Pass *pass, HomeStep *step, const char *json, size_t length, const char *key)
{
	step->context = pass->context;
	step->json = json;
	step->length = length;
	step->key = key;
	return work_transaction(pass->in_call, step_read_home, step) == NULL && step->value != NULL;
}

/*
 * Looks for an account that is not to be had at its address any more.  True:
 * it lives elsewhere, and pass->api asks there now.
 */
bool
home_find(Pass *pass)
{
	const char *origin = amo_origin(pass->api);
	HomeStep	step = {0};
	MoveStep	move = {pass->account_id};
	AmoAnswer	answer;
	AmoClient  *shard;
	ErrorData  *error;
	char	   *claims;
	char	   *place;
	int			length;

	claims = token_claims(pass->tokens.access, &length);
	if (claims == NULL || !read_home(pass, &step, claims, length, "api_domain"))
		return false;
	place = neighbour(origin, step.value);
	if (place == NULL)
		return false;

	shard = amo_open_beside(pass->context, place, pass->api);
	amo_ask_home(shard, pass->tokens.refresh, pass->tokens.access, &answer);
	pass->other_requests += amo_requests(shard);
	if (answer.verdict != AMO_PAGE || !read_home(pass, &step, answer.body, answer.length, "domain"))
		return false;
	place = neighbour(origin, step.value);
	if (place == NULL || strcmp(place, origin) == 0 ||
		(step.id != 0 && (int64) step.id != pass->account_id))
		return false;

	move.origin = place;
	move.subdomain = step.subdomain;
	error = work_transaction(pass->in_call, step_move, &move);
	if (error != NULL)
	{
		pass_trouble_by_error(pass, error);
		return false;
	}
	ereport(LOG,
			(errmsg("account " INT64_FORMAT " has moved from \"%s\" to \"%s\"",
					pass->account_id, origin, place)));
	pass->other_requests += amo_requests(pass->api);
	pass->api = amo_move(pass->context, place, pass->api);
	return true;
}
