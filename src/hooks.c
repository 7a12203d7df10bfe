/*-------------------------------------------------------------------------
 *
 * hooks.c
 *	  What ingest_webhook() needs of C: the body as jsonb, and a nudge for the
 *	  sync worker.
 *
 * The nudge comes after the commit, since only then the worker can see what
 * it is nudged for.  Nothing that may fail can run there: which processes to
 * nudge is found out before, and then only their latches are set.  A process
 * that has ended meanwhile is passed over; one that has just begun looks
 * around by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "tables.h"
#include "webhook.h"
#include "worker.h"

PG_FUNCTION_INFO_V1(regcrm_read_webhook);
PG_FUNCTION_INFO_V1(regcrm_wake_sync);

/* Whom to nudge when the transaction commits. */
static int	sleepers[8];
static int	nsleepers = 0;
static bool callback_registered = false;

/*
 * read_webhook(body text, OUT tree jsonb, OUT damaged integer, OUT error text)
 */
Datum
regcrm_read_webhook(PG_FUNCTION_ARGS)
{
	text	   *body = PG_GETARG_TEXT_PP(0);
	Memory		memory = tables_memory(CurrentMemoryContext);
	WebhookTree tree;
	TupleDesc	desc;
	Datum		values[3] = {0};
	bool		nulls[3] = {true, true, true};
	char	   *utf8;
	const char *wrong;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	desc = BlessTupleDesc(desc);

	utf8 = pg_server_to_any(text_to_cstring(body), VARSIZE_ANY_EXHDR(body), PG_UTF8);
	wrong = webhook_parse(utf8, strlen(utf8), &memory, &tree);
	if (wrong != NULL)
	{
		values[2] = CStringGetTextDatum(wrong);
		nulls[2] = false;
	}
	else
	{
		char	   *server = pg_any_to_server(tree.json, (int) tree.length, PG_UTF8);

		values[0] = DirectFunctionCall1(jsonb_in, CStringGetDatum(server));
		values[1] = Int32GetDatum(tree.damaged);
		nulls[0] = nulls[1] = false;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

static void
nudge_at_commit(XactEvent event, void *arg)
{
	(void) arg;
	if (event == XACT_EVENT_COMMIT)
		worker_nudge(sleepers, nsleepers);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		nsleepers = 0;
}

/*
 * wake_sync(): has the sync worker of this database look around as soon as
 * this transaction is committed.  Returns whether there is one.
 */
Datum
regcrm_wake_sync(PG_FUNCTION_ARGS)
{
	int			found[lengthof(sleepers)];
	int			n = worker_find("regcrm sync", found, lengthof(found));

	if (!callback_registered)
	{
		RegisterXactCallback(nudge_at_commit, NULL);
		callback_registered = true;
	}
	memcpy(sleepers, found, sizeof(int) * n);
	nsleepers = n;
	PG_RETURN_BOOL(n > 0);
}
