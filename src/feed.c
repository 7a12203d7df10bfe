/*-------------------------------------------------------------------------
 *
 * feed.c
 *	  One feed, window by window, up to the end of a pass.
 *
 * Time is amoCRM's: every window ends WINDOW_LAG before what the Date header
 * said at the beginning of the pass, since the present second is not over and
 * lists may lag.  The next one begins OVERLAP before the end of the last.
 *
 * A feed has two cursors.  The forward one begins where the first load does and
 * follows the present; the one of its history goes from there back, newest
 * first, so that what is shown first is what people look at first (load.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "amocrm.h"
#include "sync_int.h"
#include "work.h"

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
	bool		news;			/* out: no such failure was there before */
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
	int64		requests = pass_requests(pass);
	const Oid	types[] = {INT8OID, TEXTOID, TEXTOID, FLOAT8OID, FLOAT8OID, FLOAT8OID, INT8OID, FLOAT8OID};
	Datum		values[8];

	values[0] = Int64GetDatum(pass->account_id);
	values[1] = CStringGetTextDatum(step->entity);
	values[2] = CStringGetTextDatum(pass->reason);
	values[3] = Float8GetDatum(step->seconds);
	values[4] = Float8GetDatum(RETRY_FIRST);
	values[5] = Float8GetDatum(RETRY_LAST);
	values[6] = Int64GetDatum(requests - pass->counted_requests);
	values[7] = Float8GetDatum(sync_jitter());
	step->news = work_execute("SELECT FROM regcrm.sync_state s WHERE s.account_id = $1 AND s.entity = $2"
							  " AND s.last_error IS NOT NULL", 2, types, values, NULL) == 0;
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
		if (work_execute("UPDATE regcrm.account a SET state = $2, state_reason = $3"
						 " WHERE a.id = $1 AND a.state <> $2 AND a.state <> 'disconnected'",
						 3, state_types, state_values, NULL) > 0)
			step->news = true;
		else
			(void) work_execute("UPDATE regcrm.account a SET state_reason = $3"
								" WHERE a.id = $1 AND a.state = $2 AND a.state_reason IS DISTINCT FROM $3",
								3, state_types, state_values, NULL);
	}
}

/*
 * Writes down why a feed, or the whole pass, came to nothing.
 */
void
pass_note_failure(Pass *pass, const char *entity, bool is_account)
{
	FailStep	step = {pass, entity, is_account, pass->retry_seconds, false};
	ErrorData  *error = work_transaction(pass->in_call, step_failed, &step);

	if (is_account)
		pass->news = step.news;
	if (error == NULL)
		pass->counted_requests = pass_requests(pass);
	else
		ereport(LOG,
				(errmsg("could not write down a failure of the sync of account " INT64_FORMAT ": %s",
						pass->account_id, error->message)));
}

/* One feed being read by one of its cursors. */
typedef struct FeedRun
{
	Pass	   *pass;
	const Feed *feed;
	Cursor		cursor;
	TimestampTz target;			/* history: so far back and no further */
	int			limit;			/* rows a page, as asked for now */
	bool		again;			/* a window of this pass came before */
	int			unreadable;		/* answers in a row that could not be read */
	int			pages;			/* of this window */
	Comparison *comparison;		/* the cursor is only for this look */
} FeedRun;

typedef enum PageEnd
{
	PAGE_TAKEN,
	PAGE_AGAIN,					/* to be asked for anew, perhaps smaller */
	PAGE_FAILED
} PageEnd;

static int64
whole_seconds(int64 width)
{
	return width / USECS_PER_SEC * USECS_PER_SEC;
}

/*
 * The next window of an unsorted list's history: as wide as its density asks
 * for, the last one down to the beginning of time, which is next to nothing
 * more than down to where the account began.
 */
static bool
open_history_window(FeedRun *run)
{
	Cursor	   *cursor = &run->cursor;
	TimestampTz begin = AMOCRM_BEGAN;

	if (cursor->done_from <= run->target)
		return false;
	if (run->pass->has_founded)
		begin = Max(begin, run->pass->founded);
	if (cursor->has_first_deal)
		begin = Max(begin, cursor->first_deal);
	if (cursor->width <= 0)
		cursor->width = FIRST_WIDTH;

	/* A second more: whether bounds are inclusive is nowhere promised. */
	cursor->to = cursor->done_from + USECS_PER_SEC;
	cursor->from = cursor->done_from - cursor->width;
	cursor->has_from = cursor->from > begin;
	cursor->page = 1;
	return true;
}

/*
 * Opens the next window of a feed, if there is something to read.
 */
static bool
open_window(FeedRun *run)
{
	Cursor	   *cursor = &run->cursor;

	run->pages = 0;
	if (cursor->history)
	{
		if (run->feed->kind == FEED_FIXED)
			return open_history_window(run);
		return cursor->done_from > run->target && cursor->page != 0;
	}
	if (cursor->has_done && cursor->done_to >= run->pass->end)
		return false;
	cursor->plain = false;
	cursor->has_from = cursor->has_done;
	if (cursor->has_done)
		cursor->from = cursor->done_to - (run->again ? 0 : OVERLAP);
	if (!run->again && cursor->has_empty)
	{
		cursor->from = Min(cursor->from, Max(cursor->empty_from, run->pass->end - EMPTY_REACH));
		cursor->has_empty = false;
	}
	cursor->to = run->pass->end;
	if (run->feed->kind == FEED_FIXED && cursor->has_from && run->again && cursor->width > 0)
		cursor->to = Min(cursor->to, cursor->from + cursor->width);
	cursor->page = 1;
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
 * Asks for pages of another size.  Page numbers mean something else then: what
 * was read is read again, but for a list whose pages are all the way there is.
 */
static void
set_limit(FeedRun *run, int limit)
{
	Cursor	   *cursor = &run->cursor;

	if (run->feed->kind == FEED_DICTIONARY ||
		(cursor->history && run->feed->kind == FEED_MOVING))
		cursor->page = (cursor->page - 1) * run->limit / limit + 1;
	else
		cursor->page = 1;
	run->limit = limit;
	run->pages = 0;
}

/*
 * The smallest page is still too much: asks for less time instead.  False
 * where there is nothing left to cut.
 */
static bool
cut_window(FeedRun *run)
{
	Cursor	   *cursor = &run->cursor;
	int64		width;

	if (run->feed->kind == FEED_DICTIONARY || (!cursor->has_from && !cursor->history) ||
		(cursor->history && run->feed->kind != FEED_FIXED))
		return false;
	/* without a beginning, it was to be as wide as others are */
	width = whole_seconds((cursor->has_from ? cursor->to - cursor->from : cursor->width) / 4);
	if (width < SHORTEST_WIDTH)
		return false;
	cursor->width = width;
	if (cursor->history)
	{
		cursor->from = cursor->to - width;
		cursor->has_from = true;
	}
	else
		cursor->to = cursor->from + width;
	cursor->page = 1;
	run->pages = 0;
	return true;
}

/*
 * Asks for the page that the cursor points at.  PAGE_TAKEN: there is an answer,
 * which may be that there is nothing.
 */
static PageEnd
ask_page(FeedRun *run, const char *path, AmoAnswer *answer)
{
	Pass	   *pass = run->pass;

	if (pass_ask(pass, path, true, answer))
		return PAGE_TAKEN;
	if (pass->trouble == TROUBLE_SMALLER)
	{
		if (run->limit > MIN_LIMIT)
		{
			set_limit(run, Max(run->limit / 2, MIN_LIMIT));
			return PAGE_AGAIN;
		}
		if (cut_window(run))
			return PAGE_AGAIN;
		pass->trouble = TROUBLE_LATER;
		return ++run->unreadable < MAX_TRIES ? PAGE_AGAIN : PAGE_FAILED;
	}
	if (pass->trouble == TROUBLE_REFUSED && run->feed->optional)
	{
		pass->state = NULL;
		pass->retry_seconds = 0;
		pass->trouble = TROUBLE_NONE;
		answer->verdict = AMO_EMPTY;
		return PAGE_TAKEN;
	}
	return PAGE_FAILED;
}

/*
 * Whether an answer that there is nothing is to be heard a second time.  The
 * end of history is for ever, and so is the end of a window where the page
 * before promised more.  What a window's first page says is put right by the
 * next window (open_window).
 */
static bool
is_doubtful(const FeedRun *run, const AmoAnswer *answer)
{
	return answer->verdict == AMO_EMPTY && run->feed->kind != FEED_DICTIONARY &&
		run->pass->trouble == TROUBLE_NONE &&
		(run->cursor.history || run->comparison != NULL || run->cursor.page > 1);
}

/* Notes that a window is said to hold nothing, or no more. */
static void
note_empty(Cursor *cursor)
{
	if (cursor->history || !cursor->has_from ||
		(cursor->has_empty && cursor->empty_from <= cursor->from))
		return;
	cursor->has_empty = true;
	cursor->empty_from = cursor->from;
}

/*
 * One page: asked for, taken in, the cursor behind it.
 */
static PageEnd
read_page(FeedRun *run, PageStep *step)
{
	Pass	   *pass = run->pass;
	Cursor		before = run->cursor;
	AmoAnswer	answer;
	ErrorData  *error;
	PageEnd		end;
	char	   *path;

	path = page_path(run->feed, &run->cursor, run->limit);
	end = ask_page(run, path, &answer);
	if (end == PAGE_TAKEN && is_doubtful(run, &answer))
		end = ask_page(run, path, &answer);
	if (end != PAGE_TAKEN)
		return end;
	pass->pages++;
	if (run->feed->kind != FEED_DICTIONARY)
		skew_clamp(pass, &run->cursor);

	step->cursor.pass = pass;
	step->cursor.feed = run->feed;
	step->cursor.cursor = &run->cursor;
	step->cursor.limit = run->limit;
	step->comparison = run->comparison;
	if (answer.verdict == AMO_EMPTY)
	{
		if (run->feed->kind != FEED_DICTIONARY && run->cursor.page == 1)
			note_empty(&run->cursor);
		cursor_advance(run->feed, &run->cursor, &step->stats, false);
		step->readable = true;
		error = run->comparison != NULL ? NULL :
			work_transaction(pass->in_call, step_save_cursor, &step->cursor);
	}
	else
	{
		step->body = answer.body;
		step->length = answer.length;
		error = work_transaction(pass->in_call, step_page, step);
	}
	if (error != NULL)
	{
		run->cursor = before;
		pass_trouble_by_error(pass, error);
		return PAGE_FAILED;
	}
	if (!step->readable)
	{
		pass_trouble(pass, TROUBLE_LATER, "%s could not be read: %s", path, step->error);
		if (++run->unreadable == MAX_TRIES)
			return PAGE_FAILED;
		pass_pause(run->unreadable, -1);
		return PAGE_AGAIN;
	}
	run->unreadable = 0;
	run->pages++;
	if (run->comparison == NULL)
		pass->counted_requests = pass_requests(pass);
	pass->rows += step->cursor.rows;
	pass->quarantined += step->quarantined;

	/*
	 * Asked for more rows than it gives, a list may fall back to its default of
	 * 50.  The documented limit is better than that.
	 */
	if (run->feed->kind == FEED_FIXED && run->limit > DOCUMENTED_LIMIT && before.page == 1 &&
		step->more && step->stats.rows == 50)
	{
		run->cursor = before;
		set_limit(run, DOCUMENTED_LIMIT);
		return PAGE_AGAIN;
	}
	return PAGE_TAKEN;
}

/*
 * The width of the next window: such that it has about WINDOW_PAGES.
 */
static void
measure_density(FeedRun *run)
{
	Cursor	   *cursor = &run->cursor;
	double		factor = Min(Max((double) WINDOW_PAGES / Max(run->pages, 1), 0.25), 4.0);

	if (run->feed->kind != FEED_FIXED || cursor->width <= 0)
		return;
	cursor->width = Max(whole_seconds((int64) (cursor->width * factor)), SHORTEST_WIDTH);
	cursor->width = Min(cursor->width, LONGEST_WIDTH);
}

/*
 * Loads the cursor and finds where to begin.  False: nothing to be read, and
 * *reached says whether that is because all has been.
 */
static bool
begin_run(FeedRun *run, bool *reached)
{
	Pass	   *pass = run->pass;
	Cursor	   *cursor = &run->cursor;
	CursorStep	load = {pass, run->feed, cursor, false, 0, 0, false};
	ErrorData  *error;

	*reached = false;
	run->limit = run->feed->limit;
	pass->trouble = TROUBLE_NONE;
	error = work_transaction(pass->in_call, step_load_cursor, &load);
	if (error != NULL)
	{
		pass_trouble_by_error(pass, error);
		return false;
	}
	if (load.halted)
	{
		pass_trouble(pass, TROUBLE_STOP, "the account has been paused or disconnected");
		pass->halted = true;
		return false;
	}
	/* Its pages are those of the limit that it was begun with. */
	if (cursor->page != 0 && cursor->page_limit > 0)
		run->limit = Min(cursor->page_limit, run->feed->limit);
	/* A person who asks gets an answer now. */
	if (!load.due && !pass->whole)
		return false;

	if (run->feed->kind == FEED_DICTIONARY)
	{
		*reached = cursor->has_done && !pass->whole &&
			pass->end - cursor->done_to < DICTIONARY_AGE && cursor->done_to - pass->end < DICTIONARY_AGE;
		if (*reached)
			return false;
		cursor->has_from = false;
		cursor->page = 1;
		cursor->to = pass->end;
		pass->dictionaries++;
		return true;
	}
	if (cursor->history && run->feed->kind == FEED_MOVING && cursor->page > 1)
		cursor->page--;			/* rows deleted meanwhile have moved up what was behind */
	if (cursor->page != 0 && (!cursor->history || cursor->done_from > run->target))
		return true;
	*reached = !open_window(run);
	return !*reached;
}

/*
 * Reads page after page.  True: the end, or as far back as asked for, is
 * reached; or, in history, the time for it is over.  False: not there yet, and
 * pass->trouble says what is in the way (TROUBLE_NONE: it waits its time).
 */
static bool
read_pages(FeedRun *run)
{
	Pass	   *pass = run->pass;
	Cursor	   *cursor = &run->cursor;

	for (;;)
	{
		PageStep	step = {{0}};
		PageEnd		end;

		MemoryContextReset(pass->page_context);
		MemoryContextSwitchTo(pass->page_context);
		end = read_page(run, &step);
		if (end == PAGE_FAILED)
			return false;
		if (end == PAGE_AGAIN)
			continue;
		tell_progress(pass, run->feed, cursor);
		analyze_growing(pass);

		/* A window that proves too deep is cut, and begun again. */
		if (run->feed->kind == FEED_FIXED && cursor->page > WINDOW_MAX_PAGES && cut_window(run))
			continue;

		if (cursor->page == 0)
		{
			if (run->feed->kind == FEED_DICTIONARY)
				return true;
			measure_density(run);
			run->again = true;
			if (!open_window(run))
				return true;
		}
		else if (cursor->history && cursor->done_from <= run->target)
			return true;
		if (cursor->history && GetCurrentTimestamp() >= pass->load_until)
			return true;
	}
}

static bool
run_feed(FeedRun *run)
{
	bool		reached;

	return begin_run(run, &reached) ? read_pages(run) : reached;
}

/*
 * Brings one feed up to the end of the pass.
 */
bool
feed_run(Pass *pass, const Feed *feed)
{
	FeedRun		run = {0};

	run.pass = pass;
	run.feed = feed;
	return run_feed(&run);
}

/*
 * Reads a feed's history back to a moment, or until pass->load_until.
 */
bool
feed_run_back(Pass *pass, const Feed *feed, TimestampTz target)
{
	FeedRun		run = {0};

	run.pass = pass;
	run.feed = feed;
	run.target = target;
	run.cursor.history = true;
	return run_feed(&run);
}

/*
 * Looks once more at what a feed has shown since a moment.  What is found is
 * taken in; the feed's cursors stay where they are.
 */
bool
feed_compare(Pass *pass, const Feed *feed, TimestampTz from, Comparison *comparison)
{
	FeedRun		run = {0};

	run.pass = pass;
	run.feed = feed;
	run.limit = feed->limit;
	run.comparison = comparison;
	run.cursor.has_from = true;
	run.cursor.from = from;
	run.cursor.to = pass->end;
	run.cursor.has_done = true;
	run.cursor.done_to = from;
	run.cursor.page = 1;
	pass->trouble = TROUBLE_NONE;
	return read_pages(&run);
}
