/*-------------------------------------------------------------------------
 *
 * sync_int.h
 *	  What the rooms of the sync share; sync.h is their face.
 *
 * Vocabulary: a feed is one list of the API that is read on and on; a window
 * is a closed stretch of time of a feed, read page by page; the cursor of a
 * feed (a row of regcrm.sync_state) says which window and which page come
 * next; a pass brings every feed of one account up to one moment.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_SYNC_INT_H
#define REGCRM_SYNC_INT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#include "amocrm.h"

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
/* How wide such a window is before its density is known, and at least, at most. */
#define FIRST_WIDTH			USECS_PER_DAY
#define SHORTEST_WIDTH		(10 * USECS_PER_MINUTE)
#define LONGEST_WIDTH		(3660 * USECS_PER_DAY)
/* Rows on a page of events, by amoCRM's documentation. */
#define DOCUMENTED_LIMIT	100
/* No account is older: 2008-01-01, in the server's microseconds. */
#define AMOCRM_BEGAN		(2922 * USECS_PER_DAY)
/* How far back a window that held nothing is read once more, at most. */
#define EMPTY_REACH			USECS_PER_DAY
/* amoCRM's own clocks may differ from each other by so much. */
#define CLOCK_SLACK			USECS_PER_MINUTE
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

/* In sync_state: behind a feed's name, its history. */
#define HISTORY				"/history"
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
	bool		history;		/* which of the feed's two this is */
	bool		has_from;		/* else the beginning is open */
	TimestampTz from;
	TimestampTz to;
	int			page;
	int			page_limit;		/* rows a page, as page counts them; 0 = the
								 * feed's own limit */
	bool		plain;			/* not sorted as asked: page numbers count */
	bool		has_done;
	TimestampTz done_to;		/* complete up to there */
	TimestampTz done_from;		/* history: complete from there on; the
								 * beginning of time = all of it */
	int64		width;			/* of windows without order; 0 = not known */
	bool		has_empty;
	TimestampTz empty_from;		/* a window began there that was said to hold
								 * nothing: it is read once more */
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
	bool		forced;			/* asked for by name: though it is paused */
	int			reconcile_days; /* how far back to look once more; 0 = not */
	MemoryContext context;		/* lives as long as the pass */
	MemoryContext page_context; /* reset after each page */

	AmoClient  *api;
	Tokens		tokens;
	bool		renewed;		/* the pair was renewed in this pass */
	bool		halted;			/* somebody wants it to end */
	int			last_status;	/* of HTTP; 0 = no answer */
	int64		other_requests; /* not sent by api */
	bool		news;			/* the failure is none that was there before */
	TimestampTz load_until;		/* how long history may be read */
	bool		loading;		/* there is history left */
	bool		load_waits;		/* and some of it waits for its time */
	int			dictionaries;	/* read in this pass */
	bool		stale_dictionaries; /* something names what they lack */
	bool		quiet;			/* nothing but the least was asked for */
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

/* What a page's rows say about where to go on. */
typedef struct PageStats
{
	int			rows;
	bool		sorted;			/* by stamp as asked, from the window's begin */
	bool		has_last;
	TimestampTz last;			/* the last row's stamp */
} PageStats;

typedef struct CursorStep
{
	Pass	   *pass;
	const Feed *feed;
	Cursor	   *cursor;
	bool		due;			/* out: its back-off is over */
	int64		rows;			/* to be added */
	int			limit;			/* rows a page, by which the cursor counts */
	bool		halted;			/* out: the account is to be left alone */
} CursorStep;

/* What amoCRM shows against what is here. */
typedef struct Comparison
{
	TimestampTz until;			/* what changed later does not count */
	int64		checked;
	int64		missed;			/* not here */
	int64		outdated;		/* here in an older version */
	int64		gone;			/* here and not there any more */
	char		note[512];		/* what was not put right, and why */
} Comparison;

/* One page: what came, and what became of it. */
typedef struct PageStep
{
	CursorStep	cursor;			/* first: what step_save_cursor() takes */
	const char *body;
	size_t		length;
	Comparison *comparison;		/* only looked again: the cursor is not kept */

	/* Results. */
	bool		readable;
	char	   *error;			/* why not */
	PageStats	stats;
	bool		more;
	int64		quarantined;
} PageStep;

typedef struct TokenStep
{
	int64		account_id;
	Tokens	   *tokens;			/* strings in pass context */
	MemoryContext context;
	const char *old_refresh;	/* store only where this is still stored */
	bool		found;
} TokenStep;

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

static inline int64
sync_to_unix(TimestampTz at)
{
	return at / USECS_PER_SEC +
		(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
}

static inline TimestampTz
sync_from_unix(int64 seconds)
{
	return (seconds - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) *
		USECS_PER_SEC;
}

/* True for seconds that a timestamp can hold and that are not "none". */
static inline bool
sync_is_unix(double seconds)
{
	return seconds > 0 && seconds < 253402300800.0; /* the year 10000 */
}

/* sync.c */
extern int64 pass_requests(const Pass *pass);
extern double sync_jitter(void);
extern void pass_trouble(Pass *pass, Trouble trouble, const char *format,...) pg_attribute_printf(3, 4);
extern void pass_trouble_by_error(Pass *pass, const ErrorData *error);
extern bool sync_lock(int64 account_id);
extern void sync_unlock(int64 account_id);
extern void sync_refuse_atomic(FunctionCallInfo fcinfo, const char *name);

/* page.c */
extern void cursor_close(Cursor *cursor);
extern void cursor_advance(const Feed *feed, Cursor *cursor, const PageStats *stats, bool more);
extern char *page_path(const Feed *feed, const Cursor *cursor, int limit);
extern void step_load_cursor(void *arg);
extern void step_save_cursor(void *arg);
extern void step_page(void *arg);

/* take.c */
extern int64 page_take(Pass *pass, const Feed *feed, const AmoPage *page);
extern void page_note_unknown(Pass *pass, const Feed *feed, Jsonb *page);
extern void page_compare(const Pass *pass, const Feed *feed, Jsonb *page, Comparison *comparison);

/* fetch.c */
extern bool fetch_by_id(Pass *pass, const Feed *feed, const int64 *ids, int n, Comparison *comparison, bool *there);
extern bool fetch_wanted(Pass *pass);

/* reconcile.c */
extern bool reconcile_account(Pass *pass, int days);

/* tokens.c */
extern char *sync_keep_text(MemoryContext context, uint64 row, const char *column);
extern void step_load_tokens(void *arg);
extern void step_store_tokens(void *arg);
extern void tokens_load(Pass *pass);
extern char *sync_json_text(MemoryContext context, Jsonb *object, const char *key);
extern bool sync_json_number(Jsonb *object, const char *key, double *number);
extern bool tokens_exchange(Pass *pass, const char *grant, const char *code);
extern bool tokens_renew(Pass *pass);

/* ask.c */
extern void pass_pause(int attempt, int retry_after);
extern bool pass_ask(Pass *pass, const char *path, bool may_shrink, AmoAnswer *answer);

/* home.c */
extern bool home_find(Pass *pass);

/* feed.c */
extern void pass_note_failure(Pass *pass, const char *entity, bool is_account);
extern bool feed_run(Pass *pass, const Feed *feed);
extern bool feed_run_back(Pass *pass, const Feed *feed, TimestampTz target);
extern bool feed_compare(Pass *pass, const Feed *feed, TimestampTz from, Comparison *comparison);

/* skew.c */
extern TimestampTz skew_end(const Pass *pass);
extern bool skew_check(Pass *pass, IdentityStep *identity);
extern void skew_clamp(Pass *pass, Cursor *cursor);

/* load.c */
extern bool load_begin(Pass *pass);
extern bool load_on(Pass *pass);

/* pass.c */
extern const Feed *pass_feed(int number);
extern const Feed *pass_feed_named(const char *name);
extern bool pass_ask_identity(Pass *pass, IdentityStep *identity);
extern bool pass_run(Pass *pass);
extern Pass *pass_make(MemoryContext parent, int64 account_id, bool in_call, bool whole);

#endif							/* REGCRM_SYNC_INT_H */
