/*-------------------------------------------------------------------------
 *
 * stream.c
 *	  Rows of a query, one at a time.
 *
 * As a cursor of SPI, but that rows are taken as the executor has them, as
 * columns: SPI would form a tuple of each, for us to take to pieces again.  For
 * a pass over all facts that is a good part of its time.
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

void
stream_next(Stream *stream)
{
	StreamRows *rows = stream->rows;

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
