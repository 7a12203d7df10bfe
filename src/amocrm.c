/*-------------------------------------------------------------------------
 *
 * amocrm.c
 *	  The amoCRM API: addresses, pace, kinds of answers, pages.
 *
 * Addresses are built here and never taken from an answer: of _links.next
 * only its presence counts, so that no answer can send a token elsewhere.
 *
 * Pace.  amoCRM allows an integration so many requests a second and blocks an
 * account that goes over it again and again.  We keep regcrm.requests_per_second
 * in any sliding second, as the other side sees it: a request is counted at its
 * end, and with N allowed the next one starts a second after the N-th last
 * ended.  The server saw that one before it ended and sees the next after it
 * starts, so whatever the network's delays, N + 1 never fall into one second.
 * A 429 halves the pace for a minute.
 *
 * The ends are kept by origin (the limit is the account's, and connect() does
 * not know the account's number yet), in shared memory when the library was
 * preloaded: then worker and CALL in all databases share one pace.  Otherwise
 * each process keeps its own, which is enough as long as one process at a time
 * works on an account; sync.c and connect.c see to that by its advisory lock,
 * and tell by amo_last_used() when the one before stopped.
 *
 * Shared memory holds plain values only, under a spinlock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "common/hashfn.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "amocrm.h"
#include "jsonsplit.h"
#include "regcrm.h"

/* Origins whose pace is kept at a time; the one unused longest gives way. */
#define PACE_SLOTS		64
/* Ends of requests kept for each: also the most requests a second. */
#define PACE_RING		64
/* One second, and what clocks may round away. */
#define PACE_WINDOW_MS	1005
/* How long a 429 is remembered. */
#define PACE_PENALTY_MS 60000

/* All times in milliseconds of the system's monotonic clock. */
typedef struct Pace
{
	uint64		key;			/* of the origin; 0 = free */
	uint64		moved_to;		/* another address that the account has now; 0 = none */
	int64		used_at;
	int64		slow_until;		/* after a 429 */
	int			next;			/* where in ends the next request goes */
	int64		ends[PACE_RING];	/* of the last requests, the start of one
									 * that runs; 0 = none */
} Pace;

typedef struct PaceTable
{
	slock_t		mutex;			/* for all below */
	int64		made_at;		/* what was asked before is not known here */
	Pace		paces[PACE_SLOTS];
} PaceTable;

struct AmoClient
{
	HttpClient *http;
	char	   *origin;
	uint64		key;
	int64		requests;
	bool		has_offset;
	TimestampTz offset;			/* amoCRM's clock minus ours */
};

static PaceTable *shared_paces = NULL;
static PaceTable own_paces;
static bool own_paces_ready = false;

static void amo_ask(AmoClient *client, const HttpRequest *request,
					AmoAnswer *answer);
static void amo_explain(AmoAnswer *answer, const HttpAnswer *http,
						const char *secret, bool quote_body);

static int64
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---------------------------------------------------------------- pace */

Size
amo_shmem_size(void)
{
	return MAXALIGN(sizeof(PaceTable));
}

/*
 * Attaches to the table of paces, and makes it where we are first.
 * The caller holds AddinShmemInitLock.
 */
void
amo_shmem_init(void)
{
	bool		found;

	shared_paces = ShmemInitStruct("regcrm pace", sizeof(PaceTable), &found);
	if (!found)
	{
		memset(shared_paces, 0, sizeof(PaceTable));
		shared_paces->made_at = monotonic_ms();
		SpinLockInit(&shared_paces->mutex);
	}
}

bool
amo_pace_is_shared(void)
{
	return shared_paces != NULL;
}

static PaceTable *
pace_table(void)
{
	if (shared_paces != NULL)
		return shared_paces;
	if (!own_paces_ready)
	{
		SpinLockInit(&own_paces.mutex);
		own_paces_ready = true;
	}
	return &own_paces;
}

/*
 * The pace of an origin.  The caller holds the mutex.
 */
static Pace *
pace_of(PaceTable *table, uint64 key)
{
	Pace	   *oldest = &table->paces[0];

	for (int i = 0; i < PACE_SLOTS; i++)
	{
		Pace	   *pace = &table->paces[i];

		if (pace->key == key || pace->moved_to == key)
			return pace;
		if (pace->used_at < oldest->used_at)
			oldest = pace;
	}
	memset(oldest, 0, sizeof(Pace));
	oldest->key = key;
	return oldest;
}

/*
 * Takes a place for a request.  Returns how long to wait before it may start
 * and, in *place, where to note its end.
 */
static int64
pace_reserve(uint64 key, int *place)
{
	PaceTable  *table = pace_table();
	int64		now = monotonic_ms();
	int64		start = now;
	int			rate = Max(Min(regcrm_requests_per_second, PACE_RING), 1);
	Pace	   *pace;
	int64		before;

	SpinLockAcquire(&table->mutex);
	pace = pace_of(table, key);
	if (pace->slow_until > now)
		rate = (rate + 1) / 2;
	before = pace->ends[(pace->next + PACE_RING - rate) % PACE_RING];
	if (before != 0)
		start = Max(start, before + PACE_WINDOW_MS);
	/* After a crash this memory is new, amoCRM's is not. */
	if (table->made_at != 0)
		start = Max(start, table->made_at + PACE_WINDOW_MS);
	*place = pace->next;
	pace->ends[pace->next] = start;
	pace->next = (pace->next + 1) % PACE_RING;
	pace->used_at = now;
	SpinLockRelease(&table->mutex);

	return start - now;
}

static void
pace_ended(uint64 key, int place, bool too_fast)
{
	PaceTable  *table = pace_table();
	int64		now = monotonic_ms();
	Pace	   *pace;

	SpinLockAcquire(&table->mutex);
	pace = pace_of(table, key);
	pace->ends[place] = Max(pace->ends[place], now);
	pace->used_at = now;
	if (too_fast)
		pace->slow_until = now + PACE_PENALTY_MS;
	SpinLockRelease(&table->mutex);
}

void
amo_last_used(AmoClient *client, TimestampTz at)
{
	PaceTable  *table = &own_paces;
	int64		ago = (GetCurrentTimestamp() - at) / 1000;
	int64		then;
	Pace	   *pace;

	if (shared_paces != NULL || ago < 0 || ago >= PACE_WINDOW_MS)
		return;
	table = pace_table();
	then = monotonic_ms() - ago;
	SpinLockAcquire(&table->mutex);
	pace = pace_of(table, client->key);
	for (int i = 0; i < PACE_RING; i++)
		pace->ends[i] = Max(pace->ends[i], then);
	SpinLockRelease(&table->mutex);
}

/* ------------------------------------------------------------ requests */

AmoClient *
amo_open(MemoryContext context, const char *origin)
{
	AmoClient  *client = MemoryContextAllocZero(context, sizeof(AmoClient));

	client->origin = MemoryContextStrdup(context, origin);
	client->key = DatumGetUInt64(hash_any_extended((const unsigned char *) origin,
												   strlen(origin), 0));
	if (client->key == 0)
		client->key = 1;
	client->http = http_open(context);
	return client;
}

AmoClient *
amo_open_beside(MemoryContext context, const char *origin, const AmoClient *other)
{
	AmoClient  *client = amo_open(context, origin);

	client->key = other->key;
	return client;
}

AmoClient *
amo_move(MemoryContext context, const char *origin, const AmoClient *old)
{
	AmoClient  *client = amo_open(context, origin);
	PaceTable  *table = pace_table();

	SpinLockAcquire(&table->mutex);
	if (client->key != old->key)
		pace_of(table, old->key)->moved_to = client->key;
	SpinLockRelease(&table->mutex);
	client->key = old->key;
	return client;
}

void
amo_get(AmoClient *client, const char *token, const char *path, AmoAnswer *answer)
{
	HttpRequest request = {0};
	char	   *url = psprintf("%s%s", client->origin, path);

	request.url = url;
	request.bearer = token;
	amo_ask(client, &request, answer);
	pfree(url);
}

void
amo_post_token(AmoClient *client, const char *json, AmoAnswer *answer)
{
	HttpRequest request = {0};
	char	   *url = psprintf("%s/oauth2/access_token", client->origin);

	request.url = url;
	request.body = json;
	amo_ask(client, &request, answer);
	pfree(url);
}

void
amo_write(AmoClient *client, const char *token, const char *method,
		  const char *path, const char *json, AmoAnswer *answer)
{
	HttpRequest request = {0};
	char	   *url = psprintf("%s%s", client->origin, path);

	request.url = url;
	request.bearer = token;
	request.body = json;
	request.method = method;
	amo_ask(client, &request, answer);
	pfree(url);
}

void
amo_ask_home(AmoClient *client, const char *refresh, const char *token, AmoAnswer *answer)
{
	HttpRequest request = {0};
	char	   *url = psprintf("%s/oauth2/account/%ssubdomain", client->origin,
							   refresh != NULL ? "current/" : "");

	request.url = url;
	if (refresh != NULL)
		request.refresh = refresh;
	else
		request.bearer = token;
	amo_ask(client, &request, answer);
	pfree(url);
}

const char *
amo_origin(const AmoClient *client)
{
	return client->origin;
}

bool
amo_server_time(AmoClient *client, TimestampTz *now)
{
	if (!client->has_offset)
		return false;
	*now = GetCurrentTimestamp() + client->offset;
	*now -= *now % USECS_PER_SEC;
	return true;
}

int64
amo_requests(AmoClient *client)
{
	return client->requests;
}

/*
 * Keeps the pace, asks, and says what the answer means.
 */
static void
amo_ask(AmoClient *client, const HttpRequest *request, AmoAnswer *answer)
{
	HttpAnswer	http;
	int			place;
	int64		wait;

	wait = pace_reserve(client->key, &place);
	if (wait > 0)
		http_pause((long) wait);

	client->requests++;
	http_request(client->http, request, &http);
	pace_ended(client->key, place, http.outcome == HTTP_ANSWERED && http.status == 429);

	memset(answer, 0, sizeof(AmoAnswer));
	answer->body = http.body;
	answer->length = http.length;
	answer->retry_after = http.retry_after;
	answer->unsafe = http.outcome == HTTP_UNSAFE;
	answer->sent = http.outcome != HTTP_NOT_SENT && http.outcome != HTTP_UNSAFE;

	if (http.outcome != HTTP_ANSWERED)
	{
		answer->verdict = http.outcome == HTTP_TOO_LARGE ? AMO_OVERLOADED : AMO_UNREACHED;
		strlcpy(answer->reason, http.failure, sizeof(answer->reason));
		return;
	}
	answer->status = http.status;
	answer->is_json = strstr(http.content_type, "json") != NULL;

	if (http.has_date)
	{
		client->has_offset = true;
		client->offset = http.date - GetCurrentTimestamp();
	}

	switch (http.status)
	{
		case 200:
		case 201:
		case 202:
			if (http.length == 0)
				answer->verdict = AMO_EMPTY;
			else if (answer->is_json)
				answer->verdict = AMO_PAGE;
			else
				answer->verdict = AMO_UNREADABLE;
			break;
		case 204:
			answer->verdict = AMO_EMPTY;
			break;
		case 401:
			answer->verdict = AMO_UNAUTHORIZED;
			break;
		case 402:
			answer->verdict = AMO_NOT_PAID;
			break;
		case 403:
			answer->verdict = AMO_FORBIDDEN;
			break;
		case 429:
			answer->verdict = AMO_TOO_FAST;
			break;
		case 408:
			answer->verdict = AMO_OVERLOADED;
			break;
		default:
			answer->verdict = http.status >= 500 ? AMO_OVERLOADED : AMO_REFUSED;
			break;
	}
	if (answer->verdict != AMO_PAGE && answer->verdict != AMO_EMPTY)
		amo_explain(answer, &http, request->bearer != NULL ? request->bearer : request->refresh,
					request->bearer != NULL);
}

/*
 * Writes what went wrong, with the beginning of the body.  The one place that
 * quotes an answer: what might be a secret is taken out here.
 */
static void
amo_explain(AmoAnswer *answer, const HttpAnswer *http, const char *secret,
			bool quote_body)
{
	char		quote[257];
	size_t		n = 0;
	bool		blank = true;

	if (answer->verdict == AMO_UNREADABLE)
		snprintf(answer->reason, sizeof(answer->reason),
				 "HTTP %d with content type \"%s\" in place of JSON",
				 http->status, http->content_type);
	else
		snprintf(answer->reason, sizeof(answer->reason), "HTTP %d", http->status);
	if (!quote_body || http->length == 0)
		return;

	for (size_t i = 0; i < http->length && n < sizeof(quote) - 1; i++)
	{
		unsigned char c = (unsigned char) http->body[i];

		if (c <= ' ' || c == 0x7f)
		{
			if (!blank)
				quote[n++] = ' ';
			blank = true;
			continue;
		}
		blank = false;
		quote[n++] = (char) c;
	}
	quote[n] = '\0';

	/* Not half a character, and nothing that the log could not take. */
	if (GetDatabaseEncoding() == PG_UTF8)
		n = pg_encoding_mbcliplen(PG_UTF8, quote, (int) n, (int) n);
	quote[n] = '\0';
	if (GetDatabaseEncoding() != PG_UTF8 || !pg_verify_mbstr(PG_UTF8, quote, (int) n, true))
		for (size_t i = 0; i < n; i++)
			if (IS_HIGHBIT_SET(quote[i]))
				quote[i] = '?';

	/* An answer that echoes the token: its beginning is enough to tell. */
	if (secret != NULL && secret[0] != '\0')
	{
		char		beginning[17];
		char	   *found;

		strlcpy(beginning, secret, sizeof(beginning));
		if ((found = strstr(quote, beginning)) != NULL)
			strcpy(found, "***");
	}
	snprintf(answer->reason + strlen(answer->reason),
			 sizeof(answer->reason) - strlen(answer->reason), ": %s", quote);
}

/* ----------------------------------------------------------- addresses */

static void
append_encoded(StringInfo path, const char *text)
{
	static const char digits[] = "0123456789ABCDEF";

	for (const unsigned char *c = (const unsigned char *) text; *c; c++)
	{
		if ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
			(*c >= '0' && *c <= '9') || strchr("-._~", *c) != NULL)
			appendStringInfoChar(path, (char) *c);
		else
		{
			appendStringInfoChar(path, '%');
			appendStringInfoChar(path, digits[*c >> 4]);
			appendStringInfoChar(path, digits[*c & 15]);
		}
	}
}

void
amo_parameter(StringInfo path, const char *name, const char *value)
{
	appendStringInfoChar(path, strchr(path->data, '?') == NULL ? '?' : '&');
	append_encoded(path, name);
	appendStringInfoChar(path, '=');
	append_encoded(path, value);
}

void
amo_parameter_int(StringInfo path, const char *name, int64 value)
{
	char		text[32];

	snprintf(text, sizeof(text), INT64_FORMAT, value);
	amo_parameter(path, name, text);
}

/* --------------------------------------------------------------- pages */

/*
 * Bytes to jsonb; NULL with *error and sqlstate where they can be none.
 *
 * The subtransaction is what makes it right to go on after an error.
 */
static Jsonb *
bytes_to_jsonb(const char *bytes, size_t length, char **error, char *sqlstate)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	Jsonb	   *volatile result = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		char	   *text = pnstrdup(bytes, length);
		char	   *server;

		/* pnstrdup() stops at a NUL, which JSON may not hold anyway */
		if (!pg_verify_mbstr(PG_UTF8, bytes, (int) length, true))
			report_invalid_encoding(PG_UTF8, bytes, (int) length);
		server = pg_any_to_server(text, (int) length, PG_UTF8);
		result = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(server)));
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *caught;

		MemoryContextSwitchTo(context);
		caught = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();

		/* Only what the bytes are to blame for. */
		if (caught->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			ERRCODE_TO_CATEGORY(caught->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
			ERRCODE_TO_CATEGORY(caught->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES ||
			ERRCODE_TO_CATEGORY(caught->sqlerrcode) == ERRCODE_INTERNAL_ERROR)
		{
			MemoryContextSwitchTo(context);
			CurrentResourceOwner = owner;
			ReThrowError(caught);
		}
		if (error != NULL)
			*error = caught->detail ? psprintf("%s: %s", caught->message, caught->detail) :
				pstrdup(caught->message);
		if (sqlstate != NULL)
			strlcpy(sqlstate, unpack_sql_state(caught->sqlerrcode), 6);
		result = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return result;
}

/* The elements of a page, while it is taken apart. */
typedef struct Slices
{
	int			n;
	int			allocated;
	struct Slice
	{
		const char *bytes;
		size_t		length;
	}		   *slice;
} Slices;

static bool
keep_slice(void *self, const char *bytes, size_t length)
{
	Slices	   *slices = self;

	if (slices->n == slices->allocated)
	{
		slices->allocated = Max(slices->allocated * 2, 64);
		slices->slice = slices->slice == NULL ?
			palloc(slices->allocated * sizeof(struct Slice)) :
			repalloc(slices->slice, slices->allocated * sizeof(struct Slice));
	}
	slices->slice[slices->n].bytes = bytes;
	slices->slice[slices->n].length = length;
	slices->n++;
	return true;
}

static bool
page_has_next(Jsonb *page)
{
	JsonbValue	links;
	JsonbValue	next;

	if (!JB_ROOT_IS_OBJECT(page) ||
		getKeyJsonValueFromContainer(&page->root, "_links", 6, &links) == NULL ||
		links.type != jbvBinary || !JsonContainerIsObject(links.val.binary.data))
		return false;
	return getKeyJsonValueFromContainer(links.val.binary.data, "next", 4, &next) != NULL &&
		next.type != jbvNull;
}

bool
amo_read_page(const char *body, size_t length, const char *path,
			  const char *entity, AmoPage *page)
{
	Slices		slices = {0};
	StringInfoData good;
	bool		first = true;

	memset(page, 0, sizeof(AmoPage));
	page->page = bytes_to_jsonb(body, length, &page->error, NULL);
	if (page->page != NULL)
	{
		if (!JB_ROOT_IS_OBJECT(page->page))
		{
			page->error = pstrdup("the page is no JSON object");
			return false;
		}
		page->has_next = page_has_next(page->page);
		return true;
	}

	/* Some of it can be no jsonb: which? */
	if (!json_split(body, length, entity, &page->has_next, keep_slice, &slices))
		return false;

	page->bad = palloc0(Max(slices.n, 1) * sizeof(AmoBadElement));
	initStringInfo(&good);
	if (entity != NULL)
	{
		/* Where it came from is part of what a note is. */
		appendStringInfo(&good, "{\"_links\": {\"self\": {\"href\": \"%s\"}}, \"_embedded\": {\"%s\": [",
						 path, entity);
	}
	for (int i = 0; i < slices.n; i++)
	{
		struct Slice *slice = &slices.slice[i];
		AmoBadElement *bad = &page->bad[page->nbad];

		CHECK_FOR_INTERRUPTS();
		if (bytes_to_jsonb(slice->bytes, slice->length, &bad->error, bad->sqlstate) == NULL)
		{
			bad->bytes = slice->bytes;
			bad->length = slice->length;
			page->nbad++;
			continue;
		}
		if (!first)
			appendStringInfoChar(&good, ',');
		appendBinaryStringInfo(&good, slice->bytes, (int) slice->length);
		first = false;
	}
	if (entity != NULL)
		appendStringInfoString(&good, "]}}");
	if (page->nbad == 0)
	{
		/* The fault lies outside the elements: not ours to mend. */
		return false;
	}
	if (entity == NULL)
		page->page = NULL;
	else
	{
		page->page = bytes_to_jsonb(good.data, good.len, &page->error, NULL);
		if (page->page == NULL)
			return false;
	}
	page->error = NULL;
	return true;
}
