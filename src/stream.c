/*-------------------------------------------------------------------------
 *
 * stream.c
 *	  Rows of a query, one at a time.
 *
 * As a cursor of SPI, but that rows are taken as the executor has them, as
 * columns: SPI would form a tuple of each, for us to take to pieces again.  For
 * a pass over all facts that is a good part of its time.  The rows of some
 * deals come by their keys, without a query (keyread.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "stream.h"

/* Rows fetched at a time. */
#define FETCH_ROWS		500

struct StreamRows
{
	DestReceiver receiver;		/* first: who receives is the rows */
	Portal		portal;
	MemoryContext context;		/* of what the rows at hand point to */
	int			ncolumns;
	int			n;
	int			next;
	Datum	   *values;			/* ncolumns a row */
	bool	   *nulls;
};

/* Where a stream that reads by keys stands. */
struct StreamKeys
{
	KeyReader  *reader;
	stream_finish finish;		/* NULL = the columns are those of the query */
	int64		account_id;
	const int64 *ids;
	int			nids;
	int			next;
};

/* Keeps a row; what it points to is copied. */
static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	StreamRows *rows = (StreamRows *) self;
	Datum	   *values = rows->values + (Size) rows->n * rows->ncolumns;
	bool	   *nulls = rows->nulls + (Size) rows->n * rows->ncolumns;
	MemoryContext old = MemoryContextSwitchTo(rows->context);

	slot_getallattrs(slot);
	for (int i = 0; i < rows->ncolumns; i++)
	{
		Form_pg_attribute column = TupleDescAttr(slot->tts_tupleDescriptor, i);

		nulls[i] = slot->tts_isnull[i];
		values[i] = column->attbyval || nulls[i] ? slot->tts_values[i] :
			datumCopy(slot->tts_values[i], false, column->attlen);
	}
	rows->n++;
	MemoryContextSwitchTo(old);
	return true;
}

static void
startup(DestReceiver *self, int operation, TupleDesc desc)
{
	StreamRows *rows = (StreamRows *) self;

	if (desc->natts < rows->ncolumns)
		elog(ERROR, "a query has %d columns, not %d", desc->natts, rows->ncolumns);
}

static void
finish(DestReceiver *self)
{
}

Stream *
stream_open(Statement *statement, Datum *args, int ncolumns)
{
	Stream	   *stream = palloc0(sizeof(Stream));
	StreamRows *rows = palloc0(sizeof(StreamRows));

	rows->receiver = (DestReceiver) {
		.receiveSlot = receive,.rStartup = startup,.rShutdown = finish,.rDestroy = finish,
		.mydest = DestNone
	};
	rows->ncolumns = ncolumns;
	rows->values = palloc(sizeof(Datum) * FETCH_ROWS * ncolumns);
	rows->nulls = palloc(sizeof(bool) * FETCH_ROWS * ncolumns);
	rows->context = AllocSetContextCreate(CurrentMemoryContext, "regcrm rows",
										  ALLOCSET_DEFAULT_SIZES);
	rows->portal = SPI_cursor_open(NULL, statement_plan(statement), args, NULL, true);
	stream->rows = rows;
	stream_next(stream);
	return stream;
}

/* The next row of the deal at hand, else of one after it. */
static void
next_by_keys(Stream *stream)
{
	struct StreamKeys *keys = stream->keys;

	while (!keyread_next(keys->reader, stream->values, stream->nulls))
	{
		stream->there = keys->next < keys->nids;
		if (!stream->there)
			return;
		stream->deal_id = keys->ids[keys->next++];
		keyread_seek(keys->reader, keys->account_id, stream->deal_id);
	}
	if (keys->finish != NULL)
		keys->finish(stream->values, stream->nulls, keys->reader);
}

Stream *
stream_open_keys(KeyTable *table, stream_finish finish, int64 account_id,
				 const int64 *ids, int nids,
				 Statement *statement, Datum *args, int ncolumns)
{
	Stream	   *stream;
	KeyReader  *reader = NULL;
	bool		ordered = ids != NULL;
	int			room = Max(table->ncolumns, ncolumns);

	for (int i = 1; i < nids && ordered; i++)
		ordered = ids[i - 1] < ids[i];
	if (ordered)
		reader = keyread_open(table);
	if (reader == NULL)
		return stream_open(statement, args, ncolumns);
	stream = palloc0(sizeof(Stream));
	stream->values = palloc(room * sizeof(Datum));
	stream->nulls = palloc(room * sizeof(bool));
	stream->keys = palloc0(sizeof(struct StreamKeys));
	stream->keys->reader = reader;
	stream->keys->finish = finish;
	stream->keys->account_id = account_id;
	stream->keys->ids = ids;
	stream->keys->nids = nids;
	stream->there = true;
	next_by_keys(stream);
	return stream;
}

void
stream_next(Stream *stream)
{
	StreamRows *rows = stream->rows;

	if (stream->keys != NULL)
	{
		next_by_keys(stream);
		return;
	}
	if (rows->next == rows->n)
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(rows->context);
		rows->n = rows->next = 0;
		(void) PortalRunFetch(rows->portal, FETCH_FORWARD, FETCH_ROWS, &rows->receiver);
	}
	stream->there = rows->n > 0;
	if (!stream->there)
		return;
	stream->values = rows->values + (Size) rows->next * rows->ncolumns;
	stream->nulls = rows->nulls + (Size) rows->next * rows->ncolumns;
	stream->deal_id = DatumGetInt64(stream->values[0]);
	rows->next++;
}

void
stream_close(Stream *stream)
{
	if (stream == NULL)
		return;
	if (stream->keys != NULL)
	{
		keyread_close(stream->keys->reader);
		return;
	}
	SPI_cursor_close(stream->rows->portal);
	MemoryContextDelete(stream->rows->context);
}

static int
compare_keys(const void *a, const void *b)
{
	const InstantKey *x = a;
	const InstantKey *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->row - y->row;
}

void
instants_sort(InstantKey *keys, int n)
{
	qsort(keys, n, sizeof(InstantKey), compare_keys);
}
