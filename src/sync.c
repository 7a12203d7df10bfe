/*-------------------------------------------------------------------------
 *
 * sync.c
 *	  Reading an amoCRM account into the tables.
 *
 * Vocabulary: a feed is one list of the API that is read on and on; a window
 * is a closed stretch of time of a feed, read page by page; the cursor of a
 * feed (a row of regcrm.sync_state) says which window and which page come
 * next; a pass brings every feed of one account up to one moment.
 *
 * Processes.  A pass is run by the sync worker (worker.c calls sync_round)
 * or by CALL regcrm.sync(): the same code.  Whoever runs one holds the
 * account's advisory lock, of the session, from before the token is read until
 * the pass is over; a second one finds the account busy and leaves it.  The
 * lock is the only one that is held while the network is waited for.
 *
 * Transactions and what is durable when:
 * - a page's rows and the cursor behind them are one transaction (step_page);
 *	 a crash repeats at most the page that was under way, and taking a page
 *	 again changes nothing;
 * - a new pair of tokens is committed, and flushed, before it is used
 *	 (step_store_tokens): a refresh token dies when it is used, and the new
 *	 one exists nowhere else;
 * - known_until moves in a transaction of its own, after all feeds are read
 *	 (step_advance), and with it goes the judging of what the stretch frees.
 *	 If that fails it is tried again by the next pass;
 * - a failure is written down in a transaction of its own (step_failed).
 *
 * Stops.  At a cancel the page under way is undone and the pass ends; at a
 * shutdown likewise; after kill -9 the next pass resumes at the cursor.
 *
 * How a window is read without losing rows that move.  amoCRM counts pages,
 * and a lead that changes while its window is read leaves the window: all rows
 * behind it move up, and the next page would skip one.
 * - Where the API sorts by the stamp that the window is made of, the next
 *	 request asks for what is not older than the last row seen, page 1 again:
 *	 nothing can be skipped.  Only where more rows than a page share one
 *	 second does the page number count.  That the rows do come sorted is
 *	 checked.
 * - Where it doesn't (tasks), a window of several pages is read to its end and
 *	 then backwards to its first page: a row that moves up moves to where the
 *	 way back comes later.  The first load asks for no window at all, since
 *	 rows then come in the order of their ids and stay where they are.
 * - Events never change, so their windows stand still; but they have no order
 *	 to rely on, so that a long history is cut into windows of some tens of
 *	 pages, whose width follows the density found.
 *
 * Time is amoCRM's: every window ends WINDOW_LAG before what the Date header
 * said at the beginning of the pass, since the present second is not over and
 * lists may lag.  The next one begins OVERLAP before the end of the last.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <math.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "pgtime.h"
#include "storage/fd.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#include "amocrm.h"
#include "regcrm.h"
#include "sync.h"
#include "work.h"
#include "worker.h"

/* How far a window's end stays behind amoCRM's clock. */
#define WINDOW_LAG			(5 * USECS_PER_SEC)
/* How far a window reaches back behind the end of the one before. */
#define OVERLAP				(10 * USECS_PER_MINUTE)
/* How old a dictionary may get before the worker reads it again. */
#define DICTIONARY_AGE		USECS_PER_HOUR
/* Pages that a window of a feed without order should have, and may have. */
#define WINDOW_PAGES		40
#define WINDOW_MAX_PAGES	100
/* Rows read in a pass before the tables' statistics are taken anew. */
#define ANALYZE_ROWS		1000
/* How wide such a window is before its density is known. */
#define FIRST_WIDTH			USECS_PER_DAY
/* A page is never asked to hold fewer rows. */
#define MIN_LIMIT			25
/* So often one request is tried within a pass. */
#define MAX_TRIES			4
/* A longer Retry-After ends the pass. */
#define MAX_PAUSE_SECONDS	60
/* A token is renewed when it ends sooner than this. */
#define RENEW_BEFORE		(5 * USECS_PER_MINUTE)

/* Back-off after a failed pass, in seconds. */
#define RETRY_FIRST			30
#define RETRY_LAST			(30 * 60)
#define RETRY_NOT_PAID		(4 * 60 * 60)
#define RETRY_FORBIDDEN		(60 * 60)

/* Our kind of advisory lock; users' have 1 and 2 here. */
#define LOCK_CLASS			7

/* In sync_state: the pass as a whole. */
#define PASS_ENTITY			"pass"

typedef enum FeedKind
{
	FEED_DICTIONARY,			/* read whole, now and then */
	FEED_SORTED,				/* windows; the API sorts by the stamp */
	FEED_MOVING,				/* windows; rows move and are not sorted by it */
	FEED_FIXED					/* windows; rows never change */
} FeedKind;

typedef struct Feed
{
	const char *name;			/* in sync_state */
	FeedKind	kind;
	const char *path;
	const char *entity;			/* in _embedded, and to ingest(); NULL there =
								 * the answer itself */
	int			limit;			/* rows a page; 0 = the API does not page it */
	const char *with;
	const char *stamp;			/* what windows are made of */
	const char *order;			/* parameter that sorts, ascending */
	bool		optional;		/* not every account has it */
} Feed;

/*
 * In the order of a pass: dictionaries first, since facts are read by them,
 * events last, since they speak of the rest.
 */
static const Feed feeds[] = {
	{"account", FEED_DICTIONARY, "/api/v4/account", NULL, 0,
	"task_types,users_groups,datetime_settings", NULL, NULL, false},
	{"users", FEED_DICTIONARY, "/api/v4/users", "users", 250,
	"group", NULL, NULL, false},
	{"pipelines", FEED_DICTIONARY, "/api/v4/leads/pipelines", "pipelines", 0,
	NULL, NULL, NULL, false},
	{"loss_reasons", FEED_DICTIONARY, "/api/v4/leads/loss_reasons", "loss_reasons", 250,
	NULL, NULL, NULL, true},
	{"custom_fields", FEED_DICTIONARY, "/api/v4/leads/custom_fields", "custom_fields", 250,
	NULL, NULL, NULL, false},
	{"leads", FEED_SORTED, "/api/v4/leads", "leads", 250,
	"contacts,loss_reason,source_id,source", "updated_at", "order[updated_at]", false},
	{"leads_deleted", FEED_SORTED, "/api/v4/leads", "leads", 250,
	"only_deleted", "updated_at", "order[updated_at]", false},
	{"contacts", FEED_SORTED, "/api/v4/contacts", "contacts", 250,
	"leads", "updated_at", "order[updated_at]", false},
	{"tasks", FEED_MOVING, "/api/v4/tasks", "tasks", 250,
	NULL, "updated_at", "order[id]", false},
	{"lead_notes", FEED_SORTED, "/api/v4/leads/notes", "notes", 250,
	NULL, "updated_at", "order[updated_at]", false},
	{"contact_notes", FEED_SORTED, "/api/v4/contacts/notes", "notes", 250,
	NULL, "updated_at", "order[updated_at]", false},
	{"company_notes", FEED_SORTED, "/api/v4/companies/notes", "notes", 250,
	NULL, "updated_at", "order[updated_at]", false},
	{"events", FEED_FIXED, "/api/v4/events", "events", 250,
	NULL, "created_at", "order[created_at]", false},
};

/* What stands in the way. */
typedef enum Trouble
{
	TROUBLE_NONE,
	TROUBLE_LATER,				/* try the feed again some time */
	TROUBLE_SMALLER,			/* ask for less */
	TROUBLE_REFUSED,			/* this feed is not for us */
	TROUBLE_STOP				/* nothing will work now: end the pass */
} Trouble;

/*
 * Cursor of a feed.  An open window has page <> 0: the next page; below zero
 * on the way back.  Times are whole seconds.
 */
typedef struct Cursor
{
	bool		has_from;		/* else the beginning is open */
	TimestampTz from;
	TimestampTz to;
	int			page;
	bool		has_done;
	TimestampTz done_to;
	bool		has_first_deal;
	TimestampTz first_deal;		/* when the account's first deal began */
} Cursor;

typedef struct Tokens
{
	char	   *access;
	char	   *refresh;
	char	   *client_id;
	char	   *client_secret;
	char	   *redirect_uri;
	bool		has_expiry;
	TimestampTz expires_at;
} Tokens;

typedef struct Pass
{
	int64		account_id;
	bool		in_call;
	bool		whole;			/* dictionaries too, however young */
	MemoryContext context;		/* lives as long as the pass */
	MemoryContext page_context; /* reset after each page */

	AmoClient  *api;
	Tokens		tokens;
	bool		renewed;		/* the pair was renewed in this pass */
	TimestampTz end;			/* of this pass's windows */
	bool		has_founded;
	TimestampTz founded;		/* when the account began */

	/* What went wrong last, for people. */
	Trouble		trouble;
	char		reason[768];
	const char *state;			/* of the account because of it; NULL = ok */
	int			retry_seconds;	/* 0 = back off by doubling */

	/* Progress. */
	int64		pages;
	int64		rows;
	int64		quarantined;
	int64		analyzed_rows;	/* rows at the last ANALYZE */
	int64		counted_requests;	/* already in the table */
	TimestampTz noticed_at;
} Pass;

PG_FUNCTION_INFO_V1(regcrm_sync);
PG_FUNCTION_INFO_V1(regcrm_connect);

static bool lock_account(int64 account_id);
static void unlock_account(int64 account_id);
static bool run_pass(Pass *pass);
static bool run_feeds(Pass *pass);
static bool run_feed(Pass *pass, const Feed *feed);
static bool ask(Pass *pass, const char *path, bool may_shrink, AmoAnswer *answer);
static bool renew_tokens(Pass *pass);
static bool exchange(Pass *pass, const char *grant, const char *code);
static void load_tokens(Pass *pass);
static void pause_for(int attempt, int retry_after);
static void set_trouble(Pass *pass, Trouble trouble, const char *format,...) pg_attribute_printf(3, 4);

/* ------------------------------------------------------- small helpers */

static int64
to_unix(TimestampTz at)
{
	return at / USECS_PER_SEC +
		(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
}

static TimestampTz
from_unix(int64 seconds)
{
	return (seconds - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) *
		USECS_PER_SEC;
}

/* True for seconds that a timestamp can hold and that are not "none". */
static bool
is_good_unix(double seconds)
{
	return seconds > 0 && seconds < 253402300800.0; /* the year 10000 */
}

/* Requests sent in a pass; none where it did not get so far. */
static int64
requests_of(const Pass *pass)
{
	return pass->api == NULL ? 0 : amo_requests(pass->api);
}

/* Waiting times must not make all clients come back at once. */
static double
jitter(void)
{
	return 0.8 + 0.4 * pg_prng_double(&pg_global_prng_state);
}

static void
set_trouble(Pass *pass, Trouble trouble, const char *format,...)
{
	va_list		args;

	pass->trouble = trouble;
	va_start(args, format);
	vsnprintf(pass->reason, sizeof(pass->reason), format, args);
	va_end(args);
}

static void
trouble_by_error(Pass *pass, const ErrorData *error)
{
	set_trouble(pass, TROUBLE_LATER, "%s (%s)%s%s", error->message,
				unpack_sql_state(error->sqlerrcode),
				error->detail ? ": " : "", error->detail ? error->detail : "");
}

static LOCKTAG
account_lock_tag(int64 account_id)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId,
						 (uint32) ((uint64) account_id >> 32),
						 (uint32) account_id, LOCK_CLASS);
	return tag;
}

/*
 * Takes the session's lock of an account; false where another has it.
 */
static bool
lock_account(int64 account_id)
{
	LOCKTAG		tag = account_lock_tag(account_id);

	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

static void
unlock_account(int64 account_id)
{
	LOCKTAG		tag = account_lock_tag(account_id);

	(void) LockRelease(&tag, ExclusiveLock, true);
}

/* --------------------------------------------------------------- pages */

/* What a page's rows say about where to go on. */
typedef struct PageStats
{
	int			rows;
	bool		sorted;			/* by stamp, ascending, from the window's begin */
	bool		has_first;
	TimestampTz first;			/* the smallest stamp */
	bool		has_last;
	TimestampTz last;			/* the last row's stamp */
	int			distinct;		/* at least so many stamps differ (1, 2) */
} PageStats;

static void
look_at_page(Jsonb *page, const Feed *feed, const Cursor *cursor, PageStats *stats)
{
	JsonbValue	embedded;
	JsonbValue	list;
	int			n;

	memset(stats, 0, sizeof(PageStats));
	stats->sorted = true;
	if (feed->entity == NULL)
	{
		stats->rows = 1;
		return;
	}
	if (page == NULL ||
		getKeyJsonValueFromContainer(&page->root, "_embedded", 9, &embedded) == NULL ||
		embedded.type != jbvBinary || !JsonContainerIsObject(embedded.val.binary.data) ||
		getKeyJsonValueFromContainer(embedded.val.binary.data, feed->entity,
									 (int) strlen(feed->entity), &list) == NULL ||
		list.type != jbvBinary || !JsonContainerIsArray(list.val.binary.data))
		return;

	n = (int) JsonContainerSize(list.val.binary.data);
	stats->rows = n;
	if (feed->stamp == NULL)
		return;
	for (int i = 0; i < n; i++)
	{
		JsonbValue *row = getIthJsonbValueFromContainer(list.val.binary.data, i);
		JsonbValue	stamp;
		double		seconds;
		TimestampTz at;

		if (row == NULL || row->type != jbvBinary ||
			!JsonContainerIsObject(row->val.binary.data) ||
			getKeyJsonValueFromContainer(row->val.binary.data, feed->stamp,
										 (int) strlen(feed->stamp), &stamp) == NULL ||
			stamp.type != jbvNumeric)
		{
			stats->sorted = false;
			continue;
		}
		seconds = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
													 NumericGetDatum(stamp.val.numeric)));
		if (!is_good_unix(seconds))
		{
			stats->sorted = false;
			continue;
		}
		at = from_unix((int64) seconds);
		if (stats->has_last ? at < stats->last : (cursor->has_from && at < cursor->from))
			stats->sorted = false;
		if (!stats->has_last)
			stats->distinct = 1;
		else if (at != stats->last)
			stats->distinct = 2;
		if (!stats->has_first || at < stats->first)
			stats->first = at;
		stats->has_first = true;
		stats->last = at;
		stats->has_last = true;
	}
}

/* The end of a window: everything up to it has been read. */
static void
close_window(Cursor *cursor)
{
	cursor->has_done = true;
	cursor->done_to = cursor->to;
	cursor->page = 0;
}

/*
 * Moves the cursor behind a page.  more: the API says that another one comes.
 * *plain: the rows are not sorted, so page numbers count.
 */
static void
advance_cursor(const Feed *feed, Cursor *cursor, const PageStats *stats,
			   bool more, bool *plain)
{
	/* On the way back the pages before are already known to exist. */
	if (cursor->page < 0)
	{
		if (++cursor->page == 0)
			close_window(cursor);
		return;
	}

	if (!more)
	{
		if ((feed->kind == FEED_MOVING || (feed->kind == FEED_SORTED && *plain)) &&
			cursor->has_done && cursor->page > 1)
			cursor->page = -(cursor->page - 1);
		else
			close_window(cursor);
		return;
	}

	if (feed->kind == FEED_SORTED && !*plain)
	{
		/* A page of nothing readable says nothing about the order. */
		if (!stats->sorted && stats->rows > 0)
		{
			*plain = true;
			if (cursor->page > 1)
			{
				cursor->page = 1;
				return;
			}
		}
		else if (stats->has_last && (!cursor->has_from || stats->last > cursor->from))
		{
			cursor->has_from = true;
			cursor->from = stats->last;
			cursor->page = 1;
			return;
		}
	}
	cursor->page++;
}

/*
 * Path of the page that the cursor points at.
 */
static char *
page_path(const Feed *feed, const Cursor *cursor, int limit, bool plain)
{
	StringInfoData path;
	char		name[64];
	bool		first_load = !cursor->has_done;

	initStringInfo(&path);
	appendStringInfoString(&path, feed->path);
	if (limit > 0)
	{
		amo_parameter_int(&path, "limit", limit);
		amo_parameter_int(&path, "page", abs(cursor->page));
	}
	if (feed->with != NULL)
		amo_parameter(&path, "with", feed->with);
	if (feed->order != NULL)
		amo_parameter(&path, feed->order, "asc");
	if (feed->stamp != NULL &&
		!(first_load && (feed->kind == FEED_MOVING || (feed->kind == FEED_SORTED && plain))))
	{
		if (cursor->has_from)
		{
			snprintf(name, sizeof(name), "filter[%s][from]", feed->stamp);
			amo_parameter_int(&path, name, to_unix(cursor->from));
		}
		snprintf(name, sizeof(name), "filter[%s][to]", feed->stamp);
		amo_parameter_int(&path, name, to_unix(cursor->to));
	}
	return path.data;
}

/* --------------------------------------------------------------- steps */

typedef struct CursorStep
{
	Pass	   *pass;
	const Feed *feed;
	Cursor	   *cursor;
	bool		due;			/* out: its back-off is over */
	int64		rows;			/* to be added */
	bool		fresh;			/* keep page 1: a smaller limit is not remembered */
} CursorStep;

/* Before the first deal next to nothing happened; see open_window. */
static void
load_first_deal(CursorStep *step)
{
	Cursor	   *cursor = step->cursor;
	const Oid	types[] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(step->pass->account_id)};
	bool		isnull;
	Datum		value;

	if (work_execute("SELECT date_trunc('second', min(d.created_at)) AS first_deal"
					 " FROM regcrm.deal d WHERE d.account_id = $1",
					 1, types, values, NULL) == 0)
		return;
	value = work_datum(0, "first_deal", &isnull);
	cursor->has_first_deal = !isnull;
	if (!isnull)
		cursor->first_deal = DatumGetTimestampTz(value);
}

static void
step_load_cursor(void *arg)
{
	CursorStep *step = arg;
	Cursor	   *cursor = step->cursor;
	const Oid	types[] = {INT8OID, TEXTOID};
	Datum		values[2];
	bool		isnull;
	bool		no_page;
	Datum		value;

	memset(cursor, 0, sizeof(Cursor));
	step->due = true;
	if (step->feed->kind == FEED_FIXED)
		load_first_deal(step);
	values[0] = Int64GetDatum(step->pass->account_id);
	values[1] = CStringGetTextDatum(step->feed->name);
	if (work_execute("SELECT s.window_from, s.window_to, s.page, s.done_to,"
					 " COALESCE(s.next_try_at <= clock_timestamp(), true) AS due"
					 " FROM regcrm.sync_state s WHERE s.account_id = $1 AND s.entity = $2",
					 2, types, values, NULL) == 0)
		return;

	value = work_datum(0, "window_from", &isnull);
	cursor->has_from = !isnull && !TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value));
	if (cursor->has_from)
		cursor->from = DatumGetTimestampTz(value);
	value = work_datum(0, "page", &no_page);
	if (!no_page)
		cursor->page = DatumGetInt32(value);
	value = work_datum(0, "window_to", &isnull);
	if (isnull || TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value)))
		cursor->page = 0;
	else
		cursor->to = DatumGetTimestampTz(value);
	value = work_datum(0, "done_to", &isnull);
	cursor->has_done = !isnull && !TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value));
	if (cursor->has_done)
		cursor->done_to = DatumGetTimestampTz(value);
	value = work_datum(0, "due", &isnull);
	step->due = DatumGetBool(value);
}

static void
step_save_cursor(void *arg)
{
	CursorStep *step = arg;
	const Cursor *cursor = step->cursor;
	int64		requests = requests_of(step->pass);
	const Oid	types[] = {INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID, INT8OID, INT8OID};
	Datum		values[8];
	char		nulls[8];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(step->pass->account_id);
	values[1] = CStringGetTextDatum(step->feed->name);
	values[2] = TimestampTzGetDatum(cursor->from);
	values[3] = TimestampTzGetDatum(cursor->to);
	values[4] = Int32GetDatum(step->fresh && cursor->page != 0 ? 1 : cursor->page);
	values[5] = TimestampTzGetDatum(cursor->done_to);
	values[6] = Int64GetDatum(step->rows);
	values[7] = Int64GetDatum(requests - step->pass->counted_requests);
	if (!cursor->has_from || cursor->page == 0)
		nulls[2] = 'n';
	if (cursor->page == 0)
		nulls[3] = nulls[4] = 'n';
	if (!cursor->has_done)
		nulls[5] = 'n';
	(void) work_execute("INSERT INTO regcrm.sync_state AS s"
						" (account_id, entity, window_from, window_to, page, done_to, rows_read, requests, updated_at)"
						" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp())"
						" ON CONFLICT (account_id, entity) DO UPDATE SET"
						" window_from = excluded.window_from, window_to = excluded.window_to,"
						" page = excluded.page, done_to = excluded.done_to,"
						" rows_read = s.rows_read + excluded.rows_read,"
						" requests = s.requests + excluded.requests,"
						" last_error = NULL, last_error_at = NULL, next_try_at = NULL,"
						" updated_at = excluded.updated_at",
						8, types, values, nulls);
}

/* One page: what came, and what became of it. */
typedef struct PageStep
{
	CursorStep	cursor;			/* first: what step_save_cursor() takes */
	const char *body;
	size_t		length;
	bool	   *plain;

	/* Results. */
	bool		readable;
	char	   *error;			/* why not */
	PageStats	stats;
	bool		more;
	int64		quarantined;
} PageStep;

typedef struct IngestStep
{
	int64		account_id;
	const char *entity;
	Jsonb	   *page;
	int64		quarantined;
} IngestStep;

static const char *
ingest_name(const Feed *feed)
{
	return feed->entity == NULL ? feed->name : feed->entity;
}

static void
step_ingest(void *arg)
{
	IngestStep *step = arg;
	const Oid	types[] = {INT8OID, TEXTOID, JSONBOID};
	Datum		values[3];
	char	   *text;

	values[0] = Int64GetDatum(step->account_id);
	values[1] = CStringGetTextDatum(step->entity);
	values[2] = JsonbPGetDatum(step->page);
	if (work_execute("SELECT i.taken, i.quarantined FROM regcrm.ingest($1, $2, $3) i",
					 3, types, values, NULL) > 0)
	{
		text = work_text(0, "quarantined");
		if (text != NULL)
			step->quarantined += strtoll(text, NULL, 10);
	}
	/* What the commit would raise, it shall raise here. */
	(void) work_execute("SET CONSTRAINTS ALL IMMEDIATE", 0, NULL, NULL, NULL);
}

static void
quarantine(int64 account_id, const char *entity, const char *bytes, size_t length,
		   const char *sqlstate, const char *error)
{
	const Oid	types[] = {INT8OID, TEXTOID, BYTEAOID, TEXTOID};
	Datum		values[4];
	bytea	   *body = palloc(VARHDRSZ + length);

	SET_VARSIZE(body, VARHDRSZ + length);
	memcpy(VARDATA(body), bytes, length);
	values[0] = Int64GetDatum(account_id);
	values[1] = CStringGetTextDatum(entity);
	values[2] = PointerGetDatum(body);
	values[3] = CStringGetTextDatum(psprintf("%s: %s", sqlstate, error));
	(void) work_execute("SELECT regcrm.quarantine_element($1, $2, $3, $4)", 4, types, values, NULL);
}

/*
 * Takes the elements of a page one by one, after the page as a whole made
 * ingest() fail: whatever is wrong with one of them must not keep the others
 * out.
 */
static void
ingest_singly(IngestStep *all, Jsonb *page, const char *key, const ErrorData *why)
{
	const Oid	types[] = {JSONBOID, TEXTOID};
	Datum		values[2];
	uint64		n;
	Jsonb	  **single;
	char	  **text;

	if (key == NULL)
	{
		char	   *whole = JsonbToCString(NULL, &page->root, VARSIZE(page));

		quarantine(all->account_id, all->entity, whole, strlen(whole),
				   unpack_sql_state(why->sqlerrcode), why->message);
		all->quarantined++;
		return;
	}

	values[0] = JsonbPGetDatum(page);
	values[1] = CStringGetTextDatum(key);
	n = work_execute("SELECT jsonb_build_object("
					 "  '_links', $1 -> '_links',"
					 "  '_embedded', jsonb_build_object($2, jsonb_build_array(e))) AS single,"
					 " e::text AS body"
					 " FROM jsonb_array_elements($1 -> '_embedded' -> $2) e",
					 2, types, values, NULL);
	single = palloc(Max(n, 1) * sizeof(Jsonb *));
	text = palloc(Max(n, 1) * sizeof(char *));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		single[i] = DatumGetJsonbPCopy(work_datum(i, "single", &isnull));
		text[i] = work_text(i, "body");
	}
	for (uint64 i = 0; i < n; i++)
	{
		IngestStep	one = *all;
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		one.page = single[i];
		one.quarantined = 0;
		error = work_attempt(step_ingest, &one);
		if (error != NULL)
		{
			char	   *utf8 = pg_server_to_any(text[i], (int) strlen(text[i]), PG_UTF8);

			quarantine(all->account_id, all->entity, utf8, strlen(utf8),
					   unpack_sql_state(error->sqlerrcode), error->message);
			one.quarantined = 1;
		}
		all->quarantined += one.quarantined;
	}
}

/*
 * Takes a page in: its rows, what of it goes to quarantine, and the cursor
 * behind it.
 */
static void
step_page(void *arg)
{
	PageStep   *step = arg;
	Pass	   *pass = step->cursor.pass;
	const Feed *feed = step->cursor.feed;
	Cursor	   *cursor = step->cursor.cursor;
	AmoPage		page;
	IngestStep	ingest = {0};

	/* The step may be repeated: it sets all its results. */
	step->readable = amo_read_page(step->body, step->length, feed->path, feed->entity, &page);
	if (!step->readable)
	{
		step->error = MemoryContextStrdup(pass->page_context,
										  page.error ? page.error : "the page is not whole");
		return;
	}
	step->more = page.has_next && feed->limit > 0;
	look_at_page(page.page, feed, cursor, &step->stats);

	ingest.account_id = pass->account_id;
	ingest.entity = ingest_name(feed);
	ingest.page = page.page;
	if (page.page != NULL)
	{
		ErrorData  *error = work_attempt(step_ingest, &ingest);

		if (error != NULL)
		{
			ingest.quarantined = 0;
			ingest_singly(&ingest, page.page, feed->entity, error);
		}
	}
	for (int i = 0; i < page.nbad; i++)
		quarantine(pass->account_id, ingest.entity, page.bad[i].bytes, page.bad[i].length,
				   page.bad[i].sqlstate, page.bad[i].error);
	step->quarantined = ingest.quarantined + page.nbad;

	/*
	 * The first load of events tells how far history reaches: what arose
	 * before the first of them is not judged.
	 */
	if (feed->kind == FEED_FIXED && step->stats.has_first)
	{
		const Oid	types[] = {INT8OID, TIMESTAMPTZOID};
		Datum		values[2];

		values[0] = Int64GetDatum(pass->account_id);
		values[1] = TimestampTzGetDatum(step->stats.first);
		(void) work_execute("UPDATE regcrm.account a SET known_from = $2"
							" WHERE a.id = $1 AND a.known_from > $2 AND a.known_until = '-infinity'",
							2, types, values, NULL);
	}

	step->cursor.rows = step->stats.rows + page.nbad;
	if (feed->kind == FEED_DICTIONARY)
	{
		if (step->more)
			cursor->page++;
		else
			close_window(cursor);
	}
	else
		advance_cursor(feed, cursor, &step->stats, step->more, step->plain);
	step_save_cursor(&step->cursor);
}

/* --------------------------------------------------------------- tokens */

typedef struct TokenStep
{
	int64		account_id;
	Tokens	   *tokens;			/* strings in pass context */
	MemoryContext context;
	const char *old_refresh;	/* store only where this is still stored */
	bool		found;
} TokenStep;

static char *
keep_text(MemoryContext context, uint64 row, const char *column)
{
	char	   *text = work_text(row, column);

	return text == NULL ? NULL : MemoryContextStrdup(context, text);
}

static void
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
	tokens->access = keep_text(step->context, 0, "access_token");
	tokens->refresh = keep_text(step->context, 0, "refresh_token");
	tokens->client_id = keep_text(step->context, 0, "client_id");
	tokens->client_secret = keep_text(step->context, 0, "client_secret");
	tokens->redirect_uri = keep_text(step->context, 0, "redirect_uri");
	expires = work_datum(0, "expires_at", &isnull);
	tokens->has_expiry = !isnull;
	if (!isnull)
		tokens->expires_at = DatumGetTimestampTz(expires);
}

/*
 * Stores a pair of tokens.  It must be on disk before it is used.
 */
static void
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
									  " VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp())"
									  " ON CONFLICT (account_id) DO UPDATE SET"
									  " access_token = excluded.access_token, refresh_token = excluded.refresh_token,"
									  " client_id = excluded.client_id, client_secret = excluded.client_secret,"
									  " redirect_uri = excluded.redirect_uri, expires_at = excluded.expires_at,"
									  " updated_at = excluded.updated_at"
									  " WHERE $8 IS NULL OR s.refresh_token = $8",
									  8, types, values, nulls) > 0;
}

static void
load_tokens(Pass *pass)
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

static char *
json_text_field(MemoryContext context, Jsonb *object, const char *key)
{
	JsonbValue	value;

	if (getKeyJsonValueFromContainer(&object->root, key, (int) strlen(key), &value) == NULL ||
		value.type != jbvString)
		return NULL;
	return MemoryContextStrdup(context, pnstrdup(value.val.string.val, value.val.string.len));
}

static bool
json_number_field(Jsonb *object, const char *key, double *number)
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
	step->pair.access = json_text_field(context, page.page, "access_token");
	step->pair.refresh = json_text_field(context, page.page, "refresh_token");
	step->pair.has_expiry = json_number_field(page.page, "expires_in", &seconds) &&
		seconds > 0 && seconds < 10.0 * 366 * SECS_PER_DAY;
	if (step->pair.has_expiry)
		step->pair.expires_at = GetCurrentTimestamp() + (int64) seconds * USECS_PER_SEC;
	step->good = step->pair.access != NULL && step->pair.refresh != NULL;
}

/*
 * Exchanges a code or the refresh token for a new pair, and stores it before
 * anyone can use it.  The caller holds the account's lock: the old refresh
 * token dies at amoCRM the moment it is used, so two processes must not.
 */
static bool
exchange(Pass *pass, const char *grant, const char *code)
{
	Tokens	   *tokens = &pass->tokens;
	StringInfoData json;
	AmoAnswer	answer;
	PairStep	read = {0};
	TokenStep	store = {0};
	ErrorData  *error;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"client_id\":");
	escape_json(&json, tokens->client_id ? tokens->client_id : "");
	appendStringInfoString(&json, ",\"client_secret\":");
	escape_json(&json, tokens->client_secret ? tokens->client_secret : "");
	appendStringInfo(&json, ",\"grant_type\":\"%s\",\"%s\":", grant,
					 strcmp(grant, "refresh_token") == 0 ? "refresh_token" : "code");
	escape_json(&json, code);
	appendStringInfoString(&json, ",\"redirect_uri\":");
	escape_json(&json, tokens->redirect_uri ? tokens->redirect_uri : "");
	appendStringInfoChar(&json, '}');

	amo_post_token(pass->api, json.data, &answer);
	explicit_bzero(json.data, json.len);

	if (answer.verdict != AMO_PAGE)
	{
		const char *what = answer.reason[0] ? answer.reason : "empty answer";

		switch (answer.verdict)
		{
			case AMO_UNAUTHORIZED:
			case AMO_REFUSED:
				pass->state = "needs_connect";
				set_trouble(pass, TROUBLE_STOP, "amoCRM does not give new tokens: %s", what);
				break;
			case AMO_FORBIDDEN:
				pass->state = "blocked";
				pass->retry_seconds = RETRY_FORBIDDEN;
				set_trouble(pass, TROUBLE_STOP, "amoCRM does not give new tokens: %s", what);
				break;
			default:

				/*
				 * Whether the old token is dead is unknown where the request
				 * was sent.  Another try finds out: it succeeds, or is told
				 * that the token was used.
				 */
				set_trouble(pass, TROUBLE_STOP, "could not exchange tokens: %s", what);
				break;
		}
		return false;
	}

	read.pass = pass;
	read.body = answer.body;
	read.length = answer.length;
	error = work_transaction(pass->in_call, step_read_pair, &read);
	if (error != NULL || !read.good)
	{
		set_trouble(pass, TROUBLE_STOP, "could not read amoCRM's answer about tokens");
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
			set_trouble(pass, TROUBLE_STOP, "could not store the new tokens: %s", error->message);
			return false;
		}
		http_pause(200 * attempt);
	}
	if (!store.found)
	{
		/* connect() has put others there meanwhile: those count. */
		load_tokens(pass);
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
static bool
renew_tokens(Pass *pass)
{
	char	   *used = pass->tokens.access;

	load_tokens(pass);
	if (pass->tokens.access != NULL &&
		(used == NULL || strcmp(used, pass->tokens.access) != 0))
		return true;
	if (pass->tokens.refresh == NULL || pass->renewed)
	{
		pass->state = "needs_connect";
		set_trouble(pass, TROUBLE_STOP,
					pass->tokens.access == NULL ? "there is no token for the account" :
					"amoCRM does not accept the token");
		return false;
	}
	return exchange(pass, "refresh_token", pass->tokens.refresh);
}

/* ------------------------------------------------------------- requests */

/*
 * Waits before another try: as long as the answer says, else doubling.
 */
static void
pause_for(int attempt, int retry_after)
{
	double		seconds = retry_after >= 0 ? retry_after : jitter() * 0.5 * (1 << (attempt - 1));

	http_pause((long) (Max(seconds, 0.2) * 1000));
}

/*
 * Asks for a path until there is a page or nothing to read, which are both
 * true.  False: pass->trouble and reason say why.  may_shrink: the caller can
 * ask for a smaller page instead.
 */
static bool
ask(Pass *pass, const char *path, bool may_shrink, AmoAnswer *answer)
{
	for (int attempt = 1;; attempt++)
	{
		bool		again = attempt < MAX_TRIES;

		amo_get(pass->api, pass->tokens.access, path, answer);
		switch (answer->verdict)
		{
			case AMO_PAGE:
			case AMO_EMPTY:
				pass->trouble = TROUBLE_NONE;
				return true;

			case AMO_UNAUTHORIZED:
				if (!renew_tokens(pass))
					return false;
				/* A second 401 with a new token is final: see renew_tokens(). */
				continue;

			case AMO_NOT_PAID:
				pass->state = "not_paid";
				pass->retry_seconds = RETRY_NOT_PAID;
				set_trouble(pass, TROUBLE_STOP, "%s", answer->reason);
				return false;

			case AMO_FORBIDDEN:
				pass->retry_seconds = RETRY_FORBIDDEN;
				pass->state = answer->is_json ? "forbidden" : "blocked";
				set_trouble(pass, answer->is_json ? TROUBLE_REFUSED : TROUBLE_STOP,
							"%s", answer->reason);
				return false;

			case AMO_REFUSED:
				set_trouble(pass, TROUBLE_REFUSED, "%s", answer->reason);
				return false;

			case AMO_TOO_FAST:
				set_trouble(pass, TROUBLE_STOP, "%s", answer->reason);
				if (answer->retry_after > MAX_PAUSE_SECONDS)
				{
					pass->retry_seconds = answer->retry_after;
					return false;
				}
				if (!again)
					return false;
				break;

			case AMO_OVERLOADED:
				set_trouble(pass, may_shrink ? TROUBLE_SMALLER : TROUBLE_LATER,
							"%s", answer->reason);
				if (answer->retry_after > MAX_PAUSE_SECONDS)
				{
					pass->retry_seconds = answer->retry_after;
					pass->trouble = TROUBLE_STOP;
					return false;
				}
				if (may_shrink)
				{
					pause_for(attempt, answer->retry_after);
					return false;
				}
				if (!again)
					return false;
				break;

			case AMO_UNREADABLE:
				set_trouble(pass, TROUBLE_LATER, "%s", answer->reason);
				if (!again)
					return false;
				break;

			case AMO_UNREACHED:
				set_trouble(pass, TROUBLE_STOP, "no answer: %s", answer->reason);
				if (!again)
					return false;
				break;
		}
		pause_for(attempt, answer->retry_after);
	}
}

/* ---------------------------------------------------------------- feeds */

static void
tell_progress(Pass *pass, const Feed *feed, const Cursor *cursor)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!pass->in_call)
	{
		char		activity[128];

		snprintf(activity, sizeof(activity), "sync of account " INT64_FORMAT ": %s, " INT64_FORMAT " pages",
				 pass->account_id, feed->name, pass->pages);
		pgstat_report_activity(STATE_RUNNING, activity);
		return;
	}
	if (now - pass->noticed_at < 10 * USECS_PER_SEC)
		return;
	pass->noticed_at = now;
	ereport(NOTICE,
			(errmsg("account " INT64_FORMAT ": reading %s, " INT64_FORMAT " pages and " INT64_FORMAT " rows so far",
					pass->account_id, feed->name, pass->pages, pass->rows),
			 cursor->page != 0 && cursor->has_from ?
			 errdetail("The present window begins at %s.", timestamptz_to_str(cursor->from)) : 0));
}

typedef struct FailStep
{
	Pass	   *pass;
	const char *entity;
	bool		is_account;
	int			seconds;		/* 0 = double what was waited before */
} FailStep;

/*
 * Writes a failure down.  The wait doubles: what was waited last time is the
 * distance between the error and the next try then.
 */
static void
step_failed(void *arg)
{
	FailStep   *step = arg;
	Pass	   *pass = step->pass;
	int64		requests = requests_of(pass);
	const Oid	types[] = {INT8OID, TEXTOID, TEXTOID, FLOAT8OID, FLOAT8OID, FLOAT8OID, INT8OID, FLOAT8OID};
	Datum		values[8];

	values[0] = Int64GetDatum(pass->account_id);
	values[1] = CStringGetTextDatum(step->entity);
	values[2] = CStringGetTextDatum(pass->reason);
	values[3] = Float8GetDatum(step->seconds);
	values[4] = Float8GetDatum(RETRY_FIRST);
	values[5] = Float8GetDatum(RETRY_LAST);
	values[6] = Int64GetDatum(requests - pass->counted_requests);
	values[7] = Float8GetDatum(jitter());
	(void) work_execute("INSERT INTO regcrm.sync_state AS s"
						" (account_id, entity, last_error, last_error_at, next_try_at, requests, updated_at)"
						" VALUES ($1, $2, $3, clock_timestamp(), clock_timestamp() +"
						" make_interval(secs => CASE WHEN $4 > 0 THEN $4 ELSE $5 END * $8),"
						" $7, clock_timestamp())"
						" ON CONFLICT (account_id, entity) DO UPDATE SET"
						" last_error = excluded.last_error, last_error_at = excluded.last_error_at,"
						" next_try_at = excluded.last_error_at + make_interval(secs =>"
						"  CASE WHEN $4 > 0 THEN $4"
						"  ELSE LEAST($6, GREATEST($5, COALESCE(2 *"
						"   EXTRACT(epoch FROM s.next_try_at - s.last_error_at)::float8, 0))) END"
						"  * $8),"
						" requests = s.requests + excluded.requests, updated_at = excluded.updated_at",
						8, types, values, NULL);

	if (step->is_account && pass->state != NULL)
	{
		const Oid	state_types[] = {INT8OID, TEXTOID, TEXTOID};
		Datum		state_values[3];

		state_values[0] = Int64GetDatum(pass->account_id);
		state_values[1] = CStringGetTextDatum(pass->state);
		state_values[2] = CStringGetTextDatum(pass->reason);
		(void) work_execute("UPDATE regcrm.account a SET state = $2, state_reason = $3"
							" WHERE a.id = $1"
							" AND (a.state <> $2 OR a.state_reason IS DISTINCT FROM $3)",
							3, state_types, state_values, NULL);
	}
}

/*
 * Writes down why a feed, or the whole pass, came to nothing.
 */
static void
note_failure(Pass *pass, const char *entity, bool is_account)
{
	FailStep	step = {pass, entity, is_account, pass->retry_seconds};
	ErrorData  *error = work_transaction(pass->in_call, step_failed, &step);

	if (error == NULL)
		pass->counted_requests = requests_of(pass);
	else
		ereport(LOG,
				(errmsg("could not write down a failure of the sync of account " INT64_FORMAT ": %s",
						pass->account_id, error->message)));
}

/*
 * Opens the next window of a feed, if there is something to read.
 * again: a window of this pass came before, so there is no need to overlap.
 */
static bool
open_window(Pass *pass, const Feed *feed, Cursor *cursor, bool again, int64 *width)
{
	if (cursor->has_done && cursor->done_to >= pass->end)
		return false;
	cursor->has_from = cursor->has_done;
	if (cursor->has_done)
		cursor->from = cursor->done_to - (again ? 0 : OVERLAP);
	cursor->to = pass->end;
	cursor->page = 1;

	/*
	 * The long history of a feed without order is cut: one window for what
	 * came before the first deal, which is next to nothing, then windows whose
	 * width follows the density found.
	 */
	if (feed->kind == FEED_FIXED && !cursor->has_done && pass->has_founded)
	{
		cursor->has_from = true;
		cursor->from = pass->founded;
		if (cursor->has_first_deal && cursor->first_deal > cursor->from)
			cursor->to = Min(cursor->to, cursor->first_deal);
	}
	else if (feed->kind == FEED_FIXED && again && *width == 0)
		*width = FIRST_WIDTH;
	if (feed->kind == FEED_FIXED && cursor->has_from && *width > 0)
		cursor->to = Min(cursor->to, cursor->from + *width);
	return true;
}

static void
step_analyze(void *arg)
{
	(void) arg;
	(void) work_execute("ANALYZE regcrm.deal, regcrm.task, regcrm.event, regcrm.other_event,"
						" regcrm.contact, regcrm.deal_contact", 0, NULL, NULL, NULL);
}

/*
 * A first load fills empty tables faster than autovacuum looks at them, and
 * the statements of ingest() keep the plans that were right for empty ones.
 * So statistics are taken whenever the rows read in a pass have doubled, which
 * also has those plans made anew.  A pass that reads little never comes here.
 */
static void
analyze_growing(Pass *pass)
{
	ErrorData  *error;

	if (pass->rows < ANALYZE_ROWS || pass->rows < 2 * pass->analyzed_rows)
		return;
	pass->analyzed_rows = pass->rows;
	error = work_transaction(pass->in_call, step_analyze, NULL);
	if (error != NULL)
		ereport(LOG,
				(errmsg("could not analyze the tables of account " INT64_FORMAT ": %s",
						pass->account_id, error->message)));
}

/*
 * Brings one feed up to the end of the pass.  False: it is not there yet, and
 * pass->trouble says what is in the way (TROUBLE_NONE: it waits its time).
 */
static bool
run_feed(Pass *pass, const Feed *feed)
{
	Cursor		cursor;
	CursorStep	load = {pass, feed, &cursor, false, 0, false};
	ErrorData  *error;
	int			limit = feed->limit;
	bool		plain = false;
	bool		again = false;
	int			unreadable = 0;
	int			pages = 0;		/* of this window */
	int64		width = 0;		/* 0 = all there is */

	pass->trouble = TROUBLE_NONE;
	error = work_transaction(pass->in_call, step_load_cursor, &load);
	if (error != NULL)
	{
		trouble_by_error(pass, error);
		return false;
	}
	/* A person who asks gets an answer now. */
	if (!load.due && !pass->whole)
		return false;

	if (feed->kind == FEED_DICTIONARY)
	{
		if (cursor.has_done && !pass->whole && pass->end - cursor.done_to < DICTIONARY_AGE)
			return true;
		cursor.has_from = false;
		cursor.page = 1;
		cursor.to = pass->end;
	}
	else if (cursor.page == 0)
	{
		if (!open_window(pass, feed, &cursor, false, &width))
			return true;
	}

	for (;;)
	{
		AmoAnswer	answer;
		PageStep	step = {{0}};
		Cursor		before = cursor;
		char	   *path;

		MemoryContextReset(pass->page_context);
		MemoryContextSwitchTo(pass->page_context);

		path = page_path(feed, &cursor, limit, plain);
		if (!ask(pass, path, limit > MIN_LIMIT, &answer))
		{
			if (pass->trouble == TROUBLE_SMALLER)
			{
				/* Page numbers mean something else now: from the start. */
				limit = Max(limit / 2, MIN_LIMIT);
				if (cursor.page != 1 && feed->kind != FEED_DICTIONARY)
					cursor.page = 1;
				continue;
			}
			if (pass->trouble == TROUBLE_REFUSED && feed->optional)
			{
				pass->state = NULL;
				pass->retry_seconds = 0;
				pass->trouble = TROUBLE_NONE;
				answer.verdict = AMO_EMPTY;
			}
			else
				return false;
		}
		pass->pages++;

		step.cursor.pass = pass;
		step.cursor.feed = feed;
		step.cursor.cursor = &cursor;
		step.cursor.fresh = limit != feed->limit;
		step.plain = &plain;
		if (answer.verdict == AMO_EMPTY)
		{
			/* On the way back: the pages have become fewer. */
			if (feed->kind == FEED_DICTIONARY)
				close_window(&cursor);
			else
				advance_cursor(feed, &cursor, &step.stats, false, &plain);
			step.readable = true;
			error = work_transaction(pass->in_call, step_save_cursor, &step.cursor);
		}
		else
		{
			step.body = answer.body;
			step.length = answer.length;
			error = work_transaction(pass->in_call, step_page, &step);
		}
		if (error != NULL)
		{
			cursor = before;
			trouble_by_error(pass, error);
			return false;
		}
		if (!step.readable)
		{
			set_trouble(pass, TROUBLE_LATER, "%s could not be read: %s", path, step.error);
			if (++unreadable == MAX_TRIES)
				return false;
			pause_for(unreadable, -1);
			continue;
		}
		unreadable = 0;
		pages++;
		pass->counted_requests = requests_of(pass);
		pass->rows += step.cursor.rows;
		pass->quarantined += step.quarantined;
		tell_progress(pass, feed, &cursor);
		analyze_growing(pass);

		/*
		 * Asked for more rows than it gives, a list may fall back to its
		 * default of 50.  The documented limit is better than that.
		 */
		if (feed->kind == FEED_FIXED && limit > 100 && before.page == 1 &&
			step.more && step.stats.rows == 50)
		{
			limit = 100;
			cursor.page = 1;
			continue;
		}

		/* A window that proves too deep is cut, and begun again. */
		if (feed->kind == FEED_FIXED && cursor.page > WINDOW_MAX_PAGES &&
			cursor.has_from && cursor.to - cursor.from > USECS_PER_HOUR)
		{
			width = Max((cursor.to - cursor.from) / 4 / USECS_PER_SEC * USECS_PER_SEC, USECS_PER_HOUR);
			cursor.to = cursor.from + width;
			cursor.page = 1;
			pages = 0;
			continue;
		}

		if (cursor.page == 0)
		{
			if (feed->kind == FEED_DICTIONARY)
				return true;
			if (width > 0)
			{
				width = (int64) (width * Min(Max((double) WINDOW_PAGES / pages, 0.25), 4.0));
				width = Max(width / USECS_PER_SEC * USECS_PER_SEC, USECS_PER_HOUR);
			}
			pages = 0;
			plain = false;
			again = true;
			if (!open_window(pass, feed, &cursor, again, &width))
				return true;
		}
	}
}

/* ---------------------------------------------------------------- a pass */

typedef struct AccountStep
{
	Pass	   *pass;
	bool		found;
	char	   *base_url;
	bool		is_synced;
	bool		is_paused;
	bool		has_last;
	TimestampTz last_used;
} AccountStep;

static void
step_load_account(void *arg)
{
	AccountStep *step = arg;
	const Oid	types[] = {INT8OID};
	Datum		values[1];
	bool		isnull;
	Datum		value;

	values[0] = Int64GetDatum(step->pass->account_id);
	step->found = work_execute("SELECT a.base_url, a.known_until IS NOT NULL AS is_synced, a.paused,"
							   " (SELECT max(s.updated_at) FROM regcrm.sync_state s"
							   "  WHERE s.account_id = a.id) AS last_used"
							   " FROM regcrm.account a WHERE a.id = $1",
							   1, types, values, NULL) > 0;
	if (!step->found)
		return;
	step->base_url = keep_text(step->pass->context, 0, "base_url");
	step->is_synced = DatumGetBool(work_datum(0, "is_synced", &isnull));
	step->is_paused = DatumGetBool(work_datum(0, "paused", &isnull));
	value = work_datum(0, "last_used", &isnull);
	step->has_last = !isnull;
	if (!isnull)
		step->last_used = DatumGetTimestampTz(value);
}

/* Reads what GET /account says about itself. */
typedef struct IdentityStep
{
	MemoryContext context;
	const char *body;
	size_t		length;
	int64		id;				/* 0 = not readable */
	char	   *name;
	char	   *subdomain;
	char	   *time_zone;
	bool		has_founded;
	TimestampTz founded;
} IdentityStep;

static void
step_read_identity(void *arg)
{
	IdentityStep *step = arg;
	AmoPage		page;
	double		number;
	JsonbValue	embedded;
	JsonbValue	settings;
	JsonbValue	zone;

	step->id = 0;
	if (!amo_read_page(step->body, step->length, "", NULL, &page) || page.page == NULL)
		return;
	if (!json_number_field(page.page, "id", &number) || number < 1 || number > 9e15 ||
		number != floor(number))
		return;
	step->name = json_text_field(step->context, page.page, "name");
	step->subdomain = json_text_field(step->context, page.page, "subdomain");
	step->time_zone = json_text_field(step->context, page.page, "timezone");
	if (step->time_zone == NULL &&
		getKeyJsonValueFromContainer(&page.page->root, "_embedded", 9, &embedded) != NULL &&
		embedded.type == jbvBinary && JsonContainerIsObject(embedded.val.binary.data) &&
		getKeyJsonValueFromContainer(embedded.val.binary.data, "datetime_settings", 17, &settings) != NULL &&
		settings.type == jbvBinary && JsonContainerIsObject(settings.val.binary.data) &&
		getKeyJsonValueFromContainer(settings.val.binary.data, "timezone", 8, &zone) != NULL &&
		zone.type == jbvString)
		step->time_zone = MemoryContextStrdup(step->context,
											  pnstrdup(zone.val.string.val, zone.val.string.len));
	step->id = (int64) number;
	if (json_number_field(page.page, "created_at", &number) && is_good_unix(number))
	{
		step->has_founded = true;
		step->founded = from_unix((int64) number) - USECS_PER_DAY;
	}
}

/*
 * Asks amoCRM who it takes us for.  The first request of every pass: it tells
 * amoCRM's time, and that the address still leads to the same account.
 */
static bool
ask_identity(Pass *pass, IdentityStep *identity)
{
	StringInfoData path;
	AmoAnswer	answer = {0};
	ErrorData  *error;

	initStringInfo(&path);
	appendStringInfoString(&path, feeds[0].path);
	amo_parameter(&path, "with", feeds[0].with);
	if (!ask(pass, path.data, false, &answer))
		return false;

	memset(identity, 0, sizeof(IdentityStep));
	identity->context = pass->context;
	identity->body = answer.body;
	identity->length = answer.length;
	if (answer.verdict == AMO_PAGE)
	{
		error = work_transaction(pass->in_call, step_read_identity, identity);
		if (error != NULL)
		{
			trouble_by_error(pass, error);
			pass->trouble = TROUBLE_STOP;
			return false;
		}
	}
	if (identity->id == 0)
	{
		set_trouble(pass, TROUBLE_STOP, "%s tells no account", feeds[0].path);
		return false;
	}
	return true;
}

/*
 * Takes in what the first request brought: the account itself.  The answer
 * must still be the client's last one.
 */
static void
take_account(Pass *pass, const IdentityStep *identity)
{
	Cursor		cursor = {0};
	PageStep	step = {{0}};
	bool		plain = false;
	ErrorData  *error;

	cursor.page = 1;
	cursor.to = pass->end;
	step.cursor.pass = pass;
	step.cursor.feed = &feeds[0];
	step.cursor.cursor = &cursor;
	step.plain = &plain;
	step.body = identity->body;
	step.length = identity->length;
	error = work_transaction(pass->in_call, step_page, &step);
	if (error != NULL)
	{
		/* No fact hangs on it: the next pass tries again. */
		trouble_by_error(pass, error);
		note_failure(pass, feeds[0].name, false);
		pass->trouble = TROUBLE_NONE;
		return;
	}
	pass->pages++;
	pass->rows++;
	pass->counted_requests = requests_of(pass);
}

typedef struct AdvanceStep
{
	Pass	   *pass;
} AdvanceStep;

/*
 * All feeds are complete up to a later moment: moves known_until there and
 * has judged what that frees.
 */
static void
step_advance(void *arg)
{
	Pass	   *pass = ((AdvanceStep *) arg)->pass;
	const Oid	types[] = {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};
	Datum		from;
	bool		isnull;
	StringInfoData names;

	/* The least that any feed has reached; a feed without a row: nothing. */
	initStringInfo(&names);
	for (int i = 0; i < lengthof(feeds); i++)
		if (feeds[i].kind != FEED_DICTIONARY)
			appendStringInfo(&names, "%s('%s')", names.len > 0 ? "," : "", feeds[i].name);

	values[0] = Int64GetDatum(pass->account_id);
	if (work_execute(psprintf("SELECT a.known_until, m.reached FROM regcrm.account a,"
							  " (SELECT CASE WHEN bool_and(s.done_to IS NOT NULL)"
							  "   THEN min(s.done_to) END AS reached"
							  "  FROM (VALUES %s) f (name) LEFT JOIN regcrm.sync_state s"
							  "  ON s.account_id = $1 AND s.entity = f.name) m"
							  " WHERE a.id = $1 AND m.reached > a.known_until"
							  " FOR NO KEY UPDATE OF a", names.data),
					 1, types, values, NULL) == 0)
		return;
	from = work_datum(0, "known_until", &isnull);
	values[1] = from;
	values[2] = work_datum(0, "reached", &isnull);

	/* No event at all: history begins now. */
	(void) work_execute("UPDATE regcrm.account a SET known_until = $3,"
						" known_from = CASE WHEN a.known_from = 'infinity' THEN $3 ELSE a.known_from END"
						" WHERE a.id = $1",
						3, types, values, nulls);
	(void) work_execute("SELECT regcrm.account_advanced($1, $2, $3)", 3, types, values, nulls);
}

static void
step_passed(void *arg)
{
	Pass	   *pass = arg;
	int64		requests = requests_of(pass);
	const Oid	types[] = {INT8OID, TEXTOID, INT8OID};
	Datum		values[3];

	values[0] = Int64GetDatum(pass->account_id);
	values[1] = CStringGetTextDatum(PASS_ENTITY);
	values[2] = Int64GetDatum(requests - pass->counted_requests);
	(void) work_execute("INSERT INTO regcrm.sync_state AS s (account_id, entity, requests, updated_at)"
						" VALUES ($1, $2, $3, clock_timestamp())"
						" ON CONFLICT (account_id, entity) DO UPDATE SET"
						" requests = s.requests + excluded.requests,"
						" last_error = NULL, last_error_at = NULL, next_try_at = NULL, updated_at = excluded.updated_at",
						3, types, values, NULL);
	(void) work_execute("UPDATE regcrm.account a SET state = 'ok', state_reason = NULL"
						" WHERE a.id = $1 AND (a.state <> 'ok' OR a.state_reason IS NOT NULL)",
						1, types, values, NULL);
}

/*
 * Reads all feeds.  True when each has reached the end of the pass.
 */
static bool
run_feeds(Pass *pass)
{
	IdentityStep identity;
	TimestampTz now;
	bool		complete = true;
	Trouble		worst = TROUBLE_NONE;
	char		reason[sizeof(pass->reason)] = "";
	const char *state = NULL;
	int			retry_seconds = 0;

	/* A token that is about to end is renewed before it fails. */
	load_tokens(pass);
	if (pass->tokens.access == NULL ||
		(pass->tokens.refresh != NULL && pass->tokens.has_expiry &&
		 pass->tokens.expires_at - GetCurrentTimestamp() < RENEW_BEFORE))
	{
		if (!renew_tokens(pass))
			return false;
	}

	if (!ask_identity(pass, &identity))
		return false;
	if (identity.id != pass->account_id)
	{
		pass->state = "needs_connect";
		set_trouble(pass, TROUBLE_STOP, "the address and the token now belong to account " INT64_FORMAT,
					identity.id);
		return false;
	}
	pass->has_founded = identity.has_founded;
	pass->founded = identity.founded;
	if (!amo_server_time(pass->api, &now))
		now = GetCurrentTimestamp() - GetCurrentTimestamp() % USECS_PER_SEC;
	pass->end = now - WINDOW_LAG;

	/* That answer is the first dictionary as well. */
	take_account(pass, &identity);

	for (int i = 1; i < lengthof(feeds); i++)
	{
		const Feed *feed = &feeds[i];

		MemoryContextSwitchTo(pass->context);
		if (run_feed(pass, feed))
			continue;

		complete = false;
		if (pass->trouble == TROUBLE_NONE)
			continue;			/* it waits for its time */
		MemoryContextSwitchTo(pass->context);
		if (pass->trouble == TROUBLE_STOP)
		{
			char		where[sizeof(pass->reason)];

			strlcpy(where, pass->reason, sizeof(where));
			set_trouble(pass, TROUBLE_STOP, "%s: %s", feed->name, where);
			return false;
		}
		note_failure(pass, feed->name, false);
		if (worst == TROUBLE_NONE)
		{
			worst = pass->trouble;
			snprintf(reason, sizeof(reason), "%s: %s", feed->name, pass->reason);
			state = pass->state;
			retry_seconds = pass->retry_seconds;
		}
		pass->state = NULL;
		pass->retry_seconds = 0;
	}

	if (worst != TROUBLE_NONE)
	{
		set_trouble(pass, worst, "%s", reason);
		pass->state = state;
		pass->retry_seconds = retry_seconds;
	}
	return complete;
}

/*
 * One pass over one account, whose lock the caller holds.  False: something is
 * in the way, and has been written down; pass->reason says what
 * (TROUBLE_NONE: some feed waits for its time).
 */
static bool
run_pass(Pass *pass)
{
	AccountStep account = {pass, false, NULL, false, false, false, 0};
	AdvanceStep advance = {pass};
	ErrorData  *error;
	char	   *origin;
	char	   *host;
	const char *wrong;
	bool		complete;

	MemoryContextSwitchTo(pass->context);
	error = work_transaction(pass->in_call, step_load_account, &account);
	if (error != NULL)
		ReThrowError(error);
	if (!account.found || account.base_url == NULL || !account.is_synced)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("account " INT64_FORMAT " is not connected to amoCRM", pass->account_id),
				 errhint("CALL regcrm.connect('https://…', token => '…').")));
	wrong = http_check_base(account.base_url, &origin, &host);
	if (wrong != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("base URL of account " INT64_FORMAT " cannot be used: \"%s\"",
						pass->account_id, account.base_url),
				 errdetail("%s", wrong)));

	pass->api = amo_open(pass->context, origin);
	if (account.has_last)
		amo_last_used(pass->api, account.last_used);
	pass->noticed_at = GetCurrentTimestamp();

	complete = run_feeds(pass);
	MemoryContextSwitchTo(pass->context);

	/* Even where some feed failed, others may have caught up. */
	if (pass->trouble != TROUBLE_STOP)
	{
		error = work_transaction(pass->in_call, step_advance, &advance);
		if (error != NULL)
		{
			trouble_by_error(pass, error);
			note_failure(pass, "judge", false);
			complete = false;
		}
	}

	if (complete)
	{
		error = work_transaction(pass->in_call, step_passed, pass);
		if (error != NULL)
		{
			trouble_by_error(pass, error);
			return false;
		}
		pass->counted_requests = requests_of(pass);
		return true;
	}
	if (pass->trouble != TROUBLE_NONE)
		note_failure(pass, PASS_ENTITY, true);
	return false;
}

static Pass *
make_pass(MemoryContext parent, int64 account_id, bool in_call, bool whole)
{
	MemoryContext context = AllocSetContextCreate(parent, "regcrm sync pass",
												  ALLOCSET_DEFAULT_SIZES);
	Pass	   *pass = MemoryContextAllocZero(context, sizeof(Pass));

	pass->context = context;
	pass->page_context = AllocSetContextCreate(context, "regcrm sync page",
											   ALLOCSET_DEFAULT_SIZES);
	pass->account_id = account_id;
	pass->in_call = in_call;
	pass->whole = whole;
	return pass;
}

/* ------------------------------------------------------------ the worker */

typedef struct DueStep
{
	MemoryContext context;
	int			n;
	int64	   *accounts;
	double		next;			/* seconds until the next one is due; -1 = none */
} DueStep;

/*
 * Which accounts are due, and when the next one is.  An account that a person
 * must connect again is left alone.
 */
static void
step_due(void *arg)
{
	DueStep    *step = arg;
	const Oid	types[] = {INT4OID, TEXTOID};
	Datum		values[2];
	uint64		n;

	values[0] = Int32GetDatum(regcrm_sync_interval);
	values[1] = CStringGetTextDatum(PASS_ENTITY);
	n = work_execute("SELECT a.id, GREATEST(0, COALESCE(EXTRACT(epoch FROM"
					 "  COALESCE(s.next_try_at, s.updated_at + make_interval(secs => $1))"
					 "  - clock_timestamp())::float8, 0)) AS wait"
					 " FROM regcrm.account a LEFT JOIN regcrm.sync_state s"
					 "  ON s.account_id = a.id AND s.entity = $2"
					 " WHERE a.base_url IS NOT NULL AND a.known_until IS NOT NULL AND NOT a.paused"
					 "  AND a.state <> 'needs_connect'"
					 " ORDER BY 2, 1",
					 2, types, values, NULL);
	step->accounts = MemoryContextAlloc(step->context, Max(n, 1) * sizeof(int64));
	step->n = 0;
	step->next = -1;
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		double		wait = DatumGetFloat8(work_datum(i, "wait", &isnull));

		if (wait <= 0)
			step->accounts[step->n++] = DatumGetInt64(work_datum(i, "id", &isnull));
		else if (step->next < 0 || wait < step->next)
			step->next = wait;
	}
}

/*
 * One account's turn.  Whatever happens stays with the account, but for what
 * is meant for the process.
 */
static void
worker_pass(int64 account_id)
{
	MemoryContext round = CurrentMemoryContext;
	Pass	   *pass = make_pass(round, account_id, false, false);

	if (!lock_account(account_id))
	{
		ereport(DEBUG1,
				(errmsg("account " INT64_FORMAT " is being synced by another process", account_id)));
		MemoryContextDelete(pass->context);
		return;
	}

	PG_TRY();
	{
		if (!run_pass(pass) && pass->trouble != TROUBLE_NONE)
		{
			/* Once for a person, the rest for the curious. */
			ereport(pass->state != NULL ? WARNING : LOG,
					(errmsg("sync of account " INT64_FORMAT " failed: %s", account_id, pass->reason),
					 pass->state == NULL ? 0 :
					 strcmp(pass->state, "needs_connect") == 0 ?
					 errhint("CALL regcrm.connect(…) again.") :
					 errhint("See regcrm.sync_status.")));
		}
		pgstat_report_stat(true);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(round);
		error = CopyErrorData();
		AbortCurrentTransaction();
		unlock_account(account_id);
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			PG_RE_THROW();
		FlushErrorState();
		MemoryContextSwitchTo(pass->context);
		trouble_by_error(pass, error);
		note_failure(pass, PASS_ENTITY, true);
		ereport(LOG,
				(errmsg("sync of account " INT64_FORMAT " failed: %s", account_id, pass->reason)));
		MemoryContextSwitchTo(round);
		MemoryContextDelete(pass->context);
		return;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(round);
	unlock_account(account_id);
	MemoryContextDelete(pass->context);
}

long
sync_round(long at_most)
{
	MemoryContext round = CurrentMemoryContext;
	DueStep		due = {round, 0, NULL, -1};
	ErrorData  *error;

	error = work_transaction(false, step_due, &due);
	if (error != NULL)
	{
		ereport(LOG,
				(errmsg("sync worker could not look for accounts: %s", error->message)));
		return at_most;
	}
	for (int i = 0; i < due.n; i++)
	{
		worker_pass(due.accounts[i]);
		MemoryContextSwitchTo(round);
		CHECK_FOR_INTERRUPTS();
	}
	/* After a round, look again: who was due has a new time. */
	if (due.n > 0)
		return Min(at_most, 1000L);
	if (due.next >= 0 && due.next * 1000 < at_most)
		return (long) (due.next * 1000) + 1;
	return at_most;
}

/* ------------------------------------------------------- CALL regcrm.sync */

static void
refuse_atomic(FunctionCallInfo fcinfo, const char *name)
{
	if (work_may_commit(fcinfo))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("procedure \"%s\" cannot run inside a transaction block", name),
			 errdetail("It commits step by step."),
			 errhint("CALL it by itself: outside BEGIN … COMMIT, and not from a function.")));
}

typedef struct ListStep
{
	MemoryContext context;
	int			n;
	int64	   *accounts;
} ListStep;

static void
step_list_accounts(void *arg)
{
	ListStep   *step = arg;
	bool		isnull;

	step->n = (int) work_execute("SELECT a.id FROM regcrm.account a"
								 " WHERE a.base_url IS NOT NULL AND a.known_until IS NOT NULL AND NOT a.paused"
								 " ORDER BY a.id", 0, NULL, NULL, NULL);
	step->accounts = MemoryContextAlloc(step->context, Max(step->n, 1) * sizeof(int64));
	for (int i = 0; i < step->n; i++)
		step->accounts[i] = DatumGetInt64(work_datum(i, "id", &isnull));
}

/*
 * Runs a pass and lets go of the account whatever happens.
 */
static bool
locked_pass(Pass *pass)
{
	volatile bool done = false;

	if (!lock_account(pass->account_id))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("account " INT64_FORMAT " is being synced by another process", pass->account_id),
				 errhint("Wait for it, or see regcrm.sync_status.")));
	PG_TRY();
	{
		done = run_pass(pass);
	}
	PG_FINALLY();
	{
		unlock_account(pass->account_id);
	}
	PG_END_TRY();
	return done;
}

/*
 * CALL regcrm.sync(account_id): one pass, now.
 */
Datum
regcrm_sync(PG_FUNCTION_ARGS)
{
	ListStep	list = {CurrentMemoryContext, 0, NULL};
	int			failed = 0;
	char	   *first = NULL;
	const char *first_state = NULL;

	refuse_atomic(fcinfo, "regcrm.sync");
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	work_require_ready();

	if (PG_ARGISNULL(0))
	{
		ErrorData  *error = work_transaction(true, step_list_accounts, &list);

		if (error != NULL)
			ReThrowError(error);
		if (list.n == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("no account is connected to amoCRM"),
					 errhint("CALL regcrm.connect('https://…', token => '…').")));
	}
	else
	{
		list.n = 1;
		list.accounts = MemoryContextAlloc(list.context, sizeof(int64));
		list.accounts[0] = PG_GETARG_INT64(0);
	}

	for (int i = 0; i < list.n; i++)
	{
		int64		account_id = list.accounts[i];
		Pass	   *pass = make_pass(list.context, account_id, true, true);
		bool		done = locked_pass(pass);

		MemoryContextSwitchTo(list.context);

		if (pass->quarantined > 0)
			ereport(NOTICE,
					(errmsg("account " INT64_FORMAT ": " INT64_FORMAT " elements could not be read",
							account_id, pass->quarantined),
					 errhint("See regcrm.quarantine.")));
		if (!done)
		{
			if (failed++ == 0)
			{
				first = psprintf("sync of account " INT64_FORMAT " failed: %s", account_id,
								 pass->trouble == TROUBLE_NONE ? "not all could be read" : pass->reason);
				first_state = pass->state;
			}
			if (list.n > 1)
				ereport(WARNING,
						(errmsg("sync of account " INT64_FORMAT " failed: %s", account_id, pass->reason)));
		}
		MemoryContextDelete(pass->context);
	}
	SPI_finish();

	if (failed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("%s", first),
				 errdetail("What was read before is kept; the next pass goes on from there."),
				 first_state != NULL && strcmp(first_state, "needs_connect") == 0 ?
				 errhint("CALL regcrm.connect(…) again.") : 0));
	PG_RETURN_VOID();
}

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

	pass->api = amo_open(pass->context, origin);

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
			known = ask_identity(pass, &identity);
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
		known = (code == NULL || exchange(pass, "authorization_code", code)) &&
			ask_identity(pass, &identity);
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
	registration.requests = requests_of(pass);
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
	Pass	   *pass;
	TupleDesc	desc;
	Datum		value;
	bool		isnull = false;
	bool		by_code;
	HeapTuple	tuple;
	ErrorContextCallback hiding;

	hiding.callback = hide_statement;
	hiding.arg = NULL;
	hiding.previous = error_context_stack;
	error_context_stack = &hiding;

	refuse_atomic(fcinfo, "regcrm.connect");
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

	by_code = argument[CONNECT_CLIENT_ID] != NULL || argument[CONNECT_CLIENT_SECRET] != NULL ||
		argument[CONNECT_CODE] != NULL || argument[CONNECT_REDIRECT_URI] != NULL;
	if ((argument[CONNECT_TOKEN] != NULL) + (argument[CONNECT_TOKEN_FILE] != NULL) + by_code != 1 ||
		(by_code && (argument[CONNECT_CLIENT_ID] == NULL || argument[CONNECT_CLIENT_SECRET] == NULL ||
					 argument[CONNECT_CODE] == NULL || argument[CONNECT_REDIRECT_URI] == NULL)))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("one way to authorize must be given"),
				 errdetail("The ways are token; token_file; or client_id, client_secret, code and redirect_uri together.")));

	if (by_code)
	{
		check_secret(argument[CONNECT_CLIENT_ID], "client_id");
		check_secret(argument[CONNECT_CLIENT_SECRET], "client_secret");
		check_secret(argument[CONNECT_CODE], "code");
		given.client_id = argument[CONNECT_CLIENT_ID];
		given.client_secret = argument[CONNECT_CLIENT_SECRET];
		given.redirect_uri = argument[CONNECT_REDIRECT_URI];
	}
	else
	{
		if (argument[CONNECT_TOKEN_FILE] != NULL)
			given.access = read_token_file(argument[CONNECT_TOKEN_FILE]);
		else
			given.access = argument[CONNECT_TOKEN];
		check_secret(given.access, argument[CONNECT_TOKEN_FILE] ? "token_file" : "token");
	}
	if (argument[CONNECT_TOKEN] != NULL || by_code)
		ereport(WARNING,
				(errmsg("a secret stands in the text of this statement"),
				 errdetail("Statement logs, pg_stat_activity and the client's history may hold it."),
				 errhint("Use token_file, or a parameter of the client's protocol with log_parameter_max_length = 0; else remove the statement from the logs.")));

	/* Until amoCRM has said its number the account goes by its address. */
	provisional = -(int64) ((DatumGetUInt64(hash_any_extended((const unsigned char *) origin,
															  (int) strlen(origin), 0)) >> 2) + 1);

	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	work_require_ready();

	if (!lock_account(provisional))
		ereport(ERROR,
				(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				 errmsg("\"%s\" is being connected by another process", origin)));
	pass = make_pass(context, provisional, true, true);
	MemoryContextSwitchTo(pass->context);
	PG_TRY();
	{
		account_id = connect_account(pass, origin, argument[CONNECT_CODE], &given, expected,
									 by_code);
	}
	PG_FINALLY();
	{
		unlock_account(provisional);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	MemoryContextDelete(pass->context);
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
