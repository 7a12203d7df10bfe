/*-------------------------------------------------------------------------
 *
 * feed.c
 *	  One feed, window by window, up to the end of a pass.
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
#include "sync_int.h"
#include "work.h"
#include "worker.h"

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
void
pass_note_failure(Pass *pass, const char *entity, bool is_account)
{
	FailStep	step = {pass, entity, is_account, pass->retry_seconds};
	ErrorData  *error = work_transaction(pass->in_call, step_failed, &step);

	if (error == NULL)
		pass->counted_requests = pass_requests(pass);
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
bool
feed_run(Pass *pass, const Feed *feed)
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
		pass_trouble_by_error(pass, error);
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
		if (!pass_ask(pass, path, limit > MIN_LIMIT, &answer))
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
				cursor_close(&cursor);
			else
				cursor_advance(feed, &cursor, &step.stats, false, &plain);
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
			pass_trouble_by_error(pass, error);
			return false;
		}
		if (!step.readable)
		{
			pass_trouble(pass, TROUBLE_LATER, "%s could not be read: %s", path, step.error);
			if (++unreadable == MAX_TRIES)
				return false;
			pass_pause(unreadable, -1);
			continue;
		}
		unreadable = 0;
		pages++;
		pass->counted_requests = pass_requests(pass);
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
