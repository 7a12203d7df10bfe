/*-------------------------------------------------------------------------
 *
 * page.c
 *	  One page of a feed: its path, its rows, the cursor behind it.
 *
 * How a window is read without losing rows that move.  amoCRM counts pages,
 * and a lead that changes while its window is read leaves the window: all rows
 * behind it move up, and the next page would skip one.
 * - Where the API sorts by the stamp that the window is made of, the next
 *	 request asks for what is not older than the last row seen, page 1 again:
 *	 nothing can be skipped.  Only where more rows than a page share one
 *	 second does the page number count.  That the rows do come sorted is
 *	 checked.  History does the same downwards.
 * - Where it doesn't (tasks), a window of several pages is read to its end and
 *	 then backwards to its first page: a row that moves up moves to where the
 *	 way back comes later.  History asks for no window at all, since rows then
 *	 come in the order of their creation and new ones only push others down;
 *	 what a deletion may have pulled up past us, the events name (load.c).
 * - An answer that there is nothing may be false.  The next window of the feed
 *	 begins where that one began; where there is no next one (history) or the
 *	 page before promised more, it is asked for a second time (feed.c).
 * - Events never change, so their windows stand still; but they have no order
 *	 to rely on, so that a long history is cut into windows of some tens of
 *	 pages, whose width follows the density found.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "amocrm.h"
#include "sync_int.h"
#include "work.h"

/* --------------------------------------------------------------- pages */

/* What a window of the feed is made of, read by this cursor. */
static const char *
cursor_stamp(const Feed *feed, const Cursor *cursor)
{
	/* the only order that the API has for the history of such a list */
	return cursor->history && feed->kind == FEED_MOVING ? "created_at" : feed->stamp;
}

static void
look_at_page(Jsonb *page, const Feed *feed, const Cursor *cursor, PageStats *stats)
{
	const char *key = cursor_stamp(feed, cursor);
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
	if (key == NULL)
		return;
	for (int i = 0; i < n; i++)
	{
		JsonbValue *row = getIthJsonbValueFromContainer(list.val.binary.data, i);
		JsonbValue	stamp;
		double		seconds;
		TimestampTz at;

		if (row == NULL || row->type != jbvBinary ||
			!JsonContainerIsObject(row->val.binary.data) ||
			getKeyJsonValueFromContainer(row->val.binary.data, key, (int) strlen(key), &stamp) == NULL ||
			stamp.type != jbvNumeric)
		{
			stats->sorted = false;
			continue;
		}
		seconds = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
													 NumericGetDatum(stamp.val.numeric)));
		if (!sync_is_unix(seconds))
		{
			stats->sorted = false;
			continue;
		}
		at = sync_from_unix((int64) seconds);
		if (cursor->history)
		{
			if (stats->has_last ? at > stats->last : (feed->kind == FEED_SORTED && at > cursor->to))
				stats->sorted = false;
		}
		else if (stats->has_last ? at < stats->last : (cursor->has_from && at < cursor->from))
			stats->sorted = false;
		stats->last = at;
		stats->has_last = true;
	}
}

/* The end of a window: everything in it has been read. */
void
cursor_close(Cursor *cursor)
{
	cursor->page = 0;
	if (cursor->history)
	{
		if (cursor->has_from)
			cursor->done_from = cursor->from;
		else
			TIMESTAMP_NOBEGIN(cursor->done_from);
		return;
	}
	cursor->has_done = true;
	cursor->done_to = cursor->to;
}

/*
 * Where an unsorted list stands after a page: on to its end, and then, where
 * rows may have moved up meanwhile, back to its first page.  False: it is
 * sorted, and its stamps tell where to go on.
 */
static bool
advance_by_number(const Feed *feed, Cursor *cursor, const PageStats *stats, bool more)
{
	bool		moves = feed->kind == FEED_MOVING ? !cursor->history : cursor->plain;

	/* On the way back the pages before are already known to exist. */
	if (cursor->page < 0)
	{
		if (++cursor->page == 0)
			cursor_close(cursor);
		return true;
	}
	if (!more)
	{
		if (moves && cursor->page > 1)
			cursor->page = -(cursor->page - 1);
		else
			cursor_close(cursor);
		return true;
	}
	if (feed->kind != FEED_SORTED || cursor->plain)
	{
		cursor->page++;
		return true;
	}
	/* A page of nothing readable says nothing about the order. */
	if (!stats->sorted && stats->rows > 0)
	{
		cursor->plain = true;
		cursor->page = cursor->page > 1 ? 1 : cursor->page + 1;
		return true;
	}
	return false;
}

/*
 * Moves the cursor behind a page.  more: the API says that another one comes.
 * The row at the border is asked for again, and the second beside it: whether
 * bounds are inclusive is nowhere promised.
 */
void
cursor_advance(const Feed *feed, Cursor *cursor, const PageStats *stats, bool more)
{
	TimestampTz next;

	if (feed->kind == FEED_DICTIONARY)
	{
		if (more)
			cursor->page++;
		else
			cursor_close(cursor);
		return;
	}
	if (advance_by_number(feed, cursor, stats, more))
	{
		if (cursor->history && feed->kind == FEED_MOVING && cursor->page != 0 &&
			stats->sorted && stats->has_last)
			cursor->done_from = Min(cursor->done_from, stats->last + USECS_PER_SEC);
		return;
	}

	next = stats->last + (cursor->history ? USECS_PER_SEC : -USECS_PER_SEC);
	if (stats->has_last && cursor->history && next < cursor->to)
	{
		cursor->to = next;
		cursor->done_from = Min(cursor->done_from, next);
		cursor->page = 1;
	}
	else if (stats->has_last && !cursor->history && (!cursor->has_from || next > cursor->from))
	{
		cursor->has_from = true;
		cursor->from = next;
		cursor->page = 1;
	}
	else
		cursor->page++;
}

/*
 * Path of the page that the cursor points at.
 */
char *
page_path(const Feed *feed, const Cursor *cursor, int limit)
{
	StringInfoData path;
	char		name[64];
	const char *stamp = cursor_stamp(feed, cursor);

	initStringInfo(&path);
	appendStringInfoString(&path, feed->path);
	if (limit > 0)
	{
		amo_parameter_int(&path, "limit", limit);
		amo_parameter_int(&path, "page", abs(cursor->page));
	}
	if (feed->with != NULL)
		amo_parameter(&path, "with", feed->with);
	if (cursor->history)
	{
		snprintf(name, sizeof(name), "order[%s]", stamp);
		amo_parameter(&path, name, "desc");
		if (feed->kind == FEED_MOVING)
			return path.data;	/* all of it: rows then stay where they are */
	}
	else if (feed->order != NULL)
		amo_parameter(&path, feed->order, "asc");
	if (stamp != NULL)
	{
		if (cursor->has_from)
		{
			snprintf(name, sizeof(name), "filter[%s][from]", stamp);
			amo_parameter_int(&path, name, sync_to_unix(cursor->from));
		}
		snprintf(name, sizeof(name), "filter[%s][to]", stamp);
		amo_parameter_int(&path, name, sync_to_unix(cursor->to));
	}
	return path.data;
}

/* --------------------------------------------------------------- steps */

/*
 * Before the first deal next to nothing happened; which one that is, is known
 * when all leads are.
 */
static void
load_first_deal(CursorStep *step)
{
	Cursor	   *cursor = step->cursor;
	const Oid	types[] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(step->pass->account_id)};
	bool		isnull;
	Datum		value;

	if (work_execute("SELECT date_trunc('second', min(d.created_at)) AS first_deal"
					 " FROM regcrm.deal d WHERE d.account_id = $1"
					 " AND EXISTS (SELECT FROM regcrm.sync_state s WHERE s.account_id = $1"
					 "  AND s.entity = 'leads" HISTORY "' AND s.done_from = '-infinity')",
					 1, types, values, NULL) == 0)
		return;
	value = work_datum(0, "first_deal", &isnull);
	cursor->has_first_deal = !isnull;
	if (!isnull)
		cursor->first_deal = DatumGetTimestampTz(value);
}

/* The name of a cursor in sync_state. */
static Datum
cursor_name(const Feed *feed, const Cursor *cursor)
{
	return CStringGetTextDatum(psprintf("%s%s", feed->name, cursor->history ? HISTORY : ""));
}

static bool
read_time(const char *column, TimestampTz *at)
{
	bool		isnull;
	Datum		value = work_datum(0, column, &isnull);

	if (isnull || TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value)))
		return false;
	*at = DatumGetTimestampTz(value);
	return true;
}

void
step_load_cursor(void *arg)
{
	CursorStep *step = arg;
	Cursor	   *cursor = step->cursor;
	bool		history = cursor->history;
	const Oid	types[] = {INT8OID, TEXTOID};
	Datum		values[2];
	bool		isnull;
	Datum		value;

	memset(cursor, 0, sizeof(Cursor));
	cursor->history = history;
	TIMESTAMP_NOBEGIN(cursor->done_from);
	step->due = true;
	if (history && step->feed->kind == FEED_FIXED)
		load_first_deal(step);
	values[0] = Int64GetDatum(step->pass->account_id);
	values[1] = cursor_name(step->feed, cursor);
	step->halted = work_execute("SELECT FROM regcrm.account a WHERE a.id = $1"
								" AND (a.paused OR a.state = 'disconnected')",
								1, types, values, NULL) > 0 && !step->pass->forced;
	if (work_execute("SELECT s.window_from, s.window_to, s.page, s.done_to, s.done_from, s.unsorted, s.empty_from, s.page_limit,"
					 " EXTRACT(epoch FROM s.width)::bigint AS width,"
					 " COALESCE(s.next_try_at <= clock_timestamp(), true) AS due"
					 " FROM regcrm.sync_state s WHERE s.account_id = $1 AND s.entity = $2",
					 2, types, values, NULL) == 0)
		return;

	cursor->has_from = read_time("window_from", &cursor->from);
	value = work_datum(0, "page", &isnull);
	if (!isnull)
		cursor->page = DatumGetInt32(value);
	if (!read_time("window_to", &cursor->to))
		cursor->page = 0;
	value = work_datum(0, "page_limit", &isnull);
	cursor->page_limit = isnull ? 0 : DatumGetInt32(value);
	cursor->has_done = read_time("done_to", &cursor->done_to);
	(void) read_time("done_from", &cursor->done_from);
	cursor->has_empty = read_time("empty_from", &cursor->empty_from);
	value = work_datum(0, "unsorted", &isnull);
	cursor->plain = !isnull && DatumGetBool(value);
	value = work_datum(0, "width", &isnull);
	if (!isnull)
		cursor->width = DatumGetInt64(value) * USECS_PER_SEC;
	value = work_datum(0, "due", &isnull);
	step->due = DatumGetBool(value);
}

void
step_save_cursor(void *arg)
{
	CursorStep *step = arg;
	const Cursor *cursor = step->cursor;
	int64		requests = pass_requests(step->pass);
	const Oid	types[] = {INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID, TIMESTAMPTZOID,
		INT8OID, INT8OID, TIMESTAMPTZOID, BOOLOID, INT8OID, TIMESTAMPTZOID, INT4OID};
	Datum		values[13];
	char		nulls[13];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = Int64GetDatum(step->pass->account_id);
	values[1] = cursor_name(step->feed, cursor);
	values[2] = TimestampTzGetDatum(cursor->from);
	values[3] = TimestampTzGetDatum(cursor->to);
	values[4] = Int32GetDatum(cursor->page);
	values[5] = TimestampTzGetDatum(cursor->done_to);
	values[6] = Int64GetDatum(step->rows);
	values[7] = Int64GetDatum(requests - step->pass->counted_requests);
	values[8] = TimestampTzGetDatum(cursor->done_from);
	values[9] = BoolGetDatum(cursor->plain && cursor->page != 0);
	values[10] = Int64GetDatum(cursor->width / USECS_PER_SEC);
	values[11] = TimestampTzGetDatum(cursor->empty_from);
	values[12] = Int32GetDatum(step->limit);
	if (!cursor->has_from || cursor->page == 0)
		nulls[2] = 'n';
	if (cursor->page == 0)
		nulls[3] = nulls[4] = 'n';
	if (cursor->page == 0 || step->limit == 0)
		nulls[12] = 'n';
	if (!cursor->has_done)
		nulls[5] = 'n';
	if (!cursor->history)
		nulls[8] = 'n';
	if (cursor->width == 0)
		nulls[10] = 'n';
	if (!cursor->has_empty)
		nulls[11] = 'n';
	(void) work_execute("INSERT INTO regcrm.sync_state AS s"
						" (account_id, entity, window_from, window_to, page, done_to, rows_read, requests,"
						"  done_from, unsorted, width, empty_from, page_limit, updated_at)"
						" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, make_interval(secs => $11), $12, $13, clock_timestamp())"
						" ON CONFLICT (account_id, entity) DO UPDATE SET"
						" window_from = excluded.window_from, window_to = excluded.window_to,"
						" page = excluded.page, done_to = excluded.done_to,"
						" rows_read = s.rows_read + excluded.rows_read,"
						" requests = s.requests + excluded.requests,"
						" done_from = excluded.done_from, unsorted = excluded.unsorted, width = excluded.width,"
						" empty_from = excluded.empty_from, page_limit = excluded.page_limit,"
						" last_error = NULL, last_error_at = NULL, next_try_at = NULL,"
						" updated_at = excluded.updated_at",
						13, types, values, nulls);
}

/*
 * Takes a page in, and the cursor behind it.
 */
void
step_page(void *arg)
{
	PageStep   *step = arg;
	Pass	   *pass = step->cursor.pass;
	const Feed *feed = step->cursor.feed;
	Cursor	   *cursor = step->cursor.cursor;
	AmoPage		page;
	Comparison	before = {0};

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

	if (step->comparison != NULL)
	{
		before = *step->comparison;
		page_compare(pass, feed, page.page, &before);
	}
	step->quarantined = page_take(pass, feed, &page);
	page_note_unknown(pass, feed, page.page);

	step->cursor.rows = step->stats.rows + page.nbad;
	cursor_advance(feed, cursor, &step->stats, step->more);
	if (step->comparison != NULL)
		*step->comparison = before;
	else
		step_save_cursor(&step->cursor);
}
