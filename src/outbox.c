/*-------------------------------------------------------------------------
 *
 * outbox.c
 *	  Writing back to amoCRM what regcrm.outbox holds.
 *
 * What to write, and in which words, is SQL's (ext/77_outbox.sql); here it is
 * sent.  For each row, each step in a transaction of its own:
 *
 * - outbox_next() marks the row as "sending" and says what to ask: from here
 *	 on it may have been sent, whatever happens to this process;
 * - where it says so, amoCRM is asked first whether the row is needless: a row
 *	 that was "sending" before may have arrived although its answer did not, and
 *	 a deal may have been moved by somebody;
 * - the request is made, once: a POST is never repeated by itself;
 * - outbox_tried() notes what came of it.
 *
 * A row whose request got no answer stays "sending" and is looked for the next
 * time.  One that amoCRM refused is "failed" and never tried again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "amocrm.h"
#include "outbox.h"
#include "work.h"

/* Rows sent after one pass: reading must not wait long for writing. */
#define OUTBOX_BATCH	20

typedef struct OutboxStep
{
	Pass	   *pass;
	MemoryContext context;

	/* The row, and what to ask for it. */
	bool		found;
	int64		id;
	char	   *look;
	char	   *method;
	char	   *path;
	char	   *body;

	/* What came. */
	const AmoAnswer *answer;	/* NULL = nothing */
	const char *outcome;
	bool		send;
} OutboxStep;

static void
step_fill(void *arg)
{
	OutboxStep *step = arg;
	const Oid	types[] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(step->pass->account_id)};

	(void) work_execute("SELECT regcrm.fill_outbox($1)", 1, types, values, NULL);
}

static void
step_next(void *arg)
{
	OutboxStep *step = arg;
	const Oid	types[] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(step->pass->account_id)};
	bool		isnull = true;
	Datum		id = (Datum) 0;

	if (work_execute("SELECT n.id, n.look, n.method, n.path, n.body FROM regcrm.outbox_next($1) n",
					 1, types, values, NULL) > 0)
		id = work_datum(0, "id", &isnull);
	step->found = !isnull;
	if (isnull)
		return;
	step->id = DatumGetInt64(id);
	step->look = sync_keep_text(step->context, 0, "look");
	step->method = sync_keep_text(step->context, 0, "method");
	step->path = sync_keep_text(step->context, 0, "path");
	step->body = sync_keep_text(step->context, 0, "body");
}

/* The answer's JSON as a parameter; null where there is none to read. */
static Datum
answer_datum(const AmoAnswer *answer, char *isnull)
{
	AmoPage		page;

	*isnull = 'n';
	if (answer == NULL || answer->verdict != AMO_PAGE ||
		!amo_read_page(answer->body, answer->length, "", NULL, &page) || page.page == NULL)
		return (Datum) 0;
	*isnull = ' ';
	return JsonbPGetDatum(page.page);
}

static void
step_looked(void *arg)
{
	OutboxStep *step = arg;
	const Oid	types[] = {INT8OID, INT8OID, JSONBOID};
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};
	bool		isnull;

	values[0] = Int64GetDatum(step->pass->account_id);
	values[1] = Int64GetDatum(step->id);
	values[2] = answer_datum(step->answer, &nulls[2]);
	(void) work_execute("SELECT regcrm.outbox_looked($1, $2, $3) AS send", 3, types, values, nulls);
	step->send = DatumGetBool(work_datum(0, "send", &isnull));
}

static void
step_tried(void *arg)
{
	OutboxStep *step = arg;
	const Oid	types[] = {INT8OID, INT8OID, TEXTOID, TEXTOID, JSONBOID};
	Datum		values[5];
	char		nulls[5] = {' ', ' ', ' ', ' ', ' '};

	values[0] = Int64GetDatum(step->pass->account_id);
	values[1] = Int64GetDatum(step->id);
	values[2] = CStringGetTextDatum(step->outcome);
	values[3] = CStringGetTextDatum(step->answer != NULL ? step->answer->reason : step->pass->reason);
	values[4] = answer_datum(step->answer, &nulls[4]);
	(void) work_execute("SELECT regcrm.outbox_tried($1, $2, $3, $4, $5)", 5, types, values, nulls);
}

/*
 * Runs a step; false, and a line in the log, where it fails.
 */
static bool
run_step(OutboxStep *step, work_step what)
{
	ErrorData  *error = work_transaction(step->pass->in_call, what, step);

	if (error == NULL)
		return true;
	ereport(LOG,
			(errmsg("writing back to account " INT64_FORMAT " failed: %s",
					step->pass->account_id, error->message)));
	return false;
}

/*
 * What an answer to a request that writes means for its row.
 */
static const char *
outcome_of(const AmoAnswer *answer)
{
	switch (answer->verdict)
	{
		case AMO_PAGE:
		case AMO_EMPTY:
			return "sent";
		case AMO_REFUSED:
			return "refused";
		case AMO_UNREADABLE:	/* success, said in HTML: look before repeating */
		default:
			return "later";
	}
}

/*
 * Sends one row.  False: nothing more is to be sent now.
 */
static bool
send_row(OutboxStep *step)
{
	Pass	   *pass = step->pass;
	AmoAnswer	answer;

	if (step->look != NULL)
	{
		step->answer = NULL;
		if (!pass_ask(pass, step->look, false, &answer))
		{
			/* A deal that is gone is no trouble: it answers 404 or 204. */
			if (answer.status != 404)
			{
				step->outcome = "later";
				(void) run_step(step, step_tried);
				return false;
			}
		}
		else
			step->answer = &answer;
		if (!run_step(step, step_looked))
			return false;
		if (!step->send)
			return true;
	}

	amo_write(pass->api, pass->tokens.access, step->method, step->path, step->body, &answer);
	step->answer = &answer;
	step->outcome = outcome_of(&answer);
	if (!run_step(step, step_tried))
		return false;
	if (answer.verdict == AMO_UNAUTHORIZED)
		(void) tokens_renew(pass);
	return strcmp(step->outcome, "later") != 0;
}

void
outbox_run(Pass *pass)
{
	MemoryContext old = MemoryContextSwitchTo(pass->page_context);
	OutboxStep	step = {pass};

	MemoryContextReset(pass->page_context);
	step.context = pass->page_context;
	if (run_step(&step, step_fill))
	{
		for (int i = 0; i < OUTBOX_BATCH; i++)
		{
			MemoryContextReset(pass->page_context);
			MemoryContextSwitchTo(pass->page_context);
			CHECK_FOR_INTERRUPTS();
			if (!run_step(&step, step_next) || !step.found || !send_row(&step))
				break;
		}
	}

	/* What stood in its way is the row's affair. */
	pass->trouble = TROUBLE_NONE;
	pass->state = NULL;
	pass->retry_seconds = 0;
	MemoryContextSwitchTo(old);
}
