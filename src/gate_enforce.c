/*-------------------------------------------------------------------------
 *
 * gate_enforce.c
 *	  What mode enforce asks of a statement at once (part of the gate).
 *
 * Most of the regulation is judged at the end of the transaction, since a move,
 * its task, its comment and its scenario may come in any order.  Some things no
 * later statement can mend, and they are refused here:
 *
 *	- facts of a synced account: amoCRM owns them, but for what only people
 *	  know, events verdict, request and visit;
 *	- history written by hand: events of stages, fields and responsibles are
 *	  appended from the columns of deal; nothing lies in the future, no event is
 *	  changed or deleted, no deal is renumbered;
 *	- a change of a deal of which somebody else has meanwhile committed a later
 *	  fact: it would be told in the wrong order (40001, begin again);
 *	- an illegal move (FLOW), named alone.
 *
 * After that the effects of what was written are carried out (effects_run.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "gate_int.h"
#include "keyread.h"
#include "refusal.h"
#include "stage.h"
#include "tables.h"
#include "timeline.h"

/* Facts of these deals that lie after a moment, and who wrote them. */
static Statement select_later = {
	"select u.id, f.xmin from unnest($2) u(id) cross join lateral"
	" (select e.xmin from regcrm.event e where e.account_id = $1 and e.deal_id = u.id and e.at > $3"
	" union all select t.xmin from regcrm.task t where t.account_id = $1 and t.deal_id = u.id"
	" and (t.created_at > $3 or t.completed_at > $3) offset 0) f",
	3, {INT8OID, INT8ARRAYOID, TIMESTAMPTZOID}
};

/* The account of the rows at hand, read once for each run of rows. */
static const Account *
account_of(FactStatement *statement, int64 account_id)
{
	if (statement->account == NULL || statement->account->id != account_id)
	{
		MemoryContext old = MemoryContextSwitchTo(statement->context);

		PushActiveSnapshot(GetLatestSnapshot());
		statement->account = account_read(account_id);
		PopActiveSnapshot();
		MemoryContextSwitchTo(old);
		if (statement->account == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
					 errmsg("there is no account " INT64_FORMAT, account_id),
					 errhint("Insert it into regcrm.account first.")));
	}
	return statement->account;
}

static void
refuse_synced(FactStatement *statement)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("account " INT64_FORMAT " is synced: its facts are amoCRM's", statement->account->id),
			 errdetail("SQL may add events of kind verdict, request and visit to it, nothing else."),
			 errhint("Write it in amoCRM; the next pass of the sync brings it."),
			 errtable(statement->trigdata->tg_relation)));
}

static void
refuse_history(FactStatement *statement, const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s in mode enforce", what),
			 errhint("%s", hint),
			 errtable(statement->trigdata->tg_relation)));
}

/* Nothing may lie in the future, by the clock that judges. */
static void
check_past(FactStatement *statement, TupleTableSlot *slot, int column, const char *name)
{
	bool		isnull;
	Datum		datum = slot_getattr(slot, column, &isnull);
	TimestampTz now = GetCurrentTimestamp();
	char	   *when;

	if (isnull || DatumGetTimestampTz(datum) <= now)
		return;
	/* the function's buffer is one */
	when = pstrdup(timestamptz_to_str(DatumGetTimestampTz(datum)));
	ereport(ERROR,
			(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
			 errmsg("\"%s\" lies in the future", name),
			 errdetail("It is %s; the clock says %s.", when, pstrdup(timestamptz_to_str(now))),
			 errhint("Write what has happened once it has happened; what is planned is the due date of a task, or a field of the deal."),
			 errtable(statement->trigdata->tg_relation),
			 err_generic_string(PG_DIAG_COLUMN_NAME, name)));
}

/* One date of a task may not lie before another. */
static void
check_not_before(FactStatement *statement, TupleTableSlot *slot, const FactNumbers *numbers,
				 int column, const char *name)
{
	bool		isnull;
	bool		no_start;
	Datum		datum = slot_getattr(slot, column, &isnull);
	Datum		start = slot_getattr(slot, numbers->created_at, &no_start);

	if (isnull || no_start || DatumGetTimestampTz(datum) >= DatumGetTimestampTz(start))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg("\"%s\" of task " INT64_FORMAT " lies before its creation", name,
					gate_number(slot, numbers->id, &isnull)),
			 errhint("Correct \"%s\" or \"created_at\".", name),
			 errtable(statement->trigdata->tg_relation),
			 err_generic_string(PG_DIAG_COLUMN_NAME, name),
			 err_generic_string(PG_DIAG_CONSTRAINT_NAME, "task_dates_check")));
}


/* ---- rows of event and task ---- */

/* A verdict is said of a rule that nothing else judges. */
static void
check_verdict(const Account *account, const char *code)
{
	const Regulation *regulation = account->regulation->compiled;
	int			number = code ? rules_code(regulation, code, strlen(code)) : NO_NUMBER;
	StringInfoData known;

	initStringInfo(&known);
	for (int i = 0; i < regulation->nrules; i++)
	{
		if (regulation->rules[i].form != FORM_ATTEST)
			continue;
		if (regulation->rules[i].code == number)
			return;
		appendStringInfo(&known, "%s%s", known.len > 0 ? ", " : "",
						 regulation->codes[regulation->rules[i].code]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("rule \"%s\" is not one that a verdict judges", code ? code : ""),
			 errhint("Verdicts are said of rules of form attest: %s.",
					 known.len > 0 ? known.data : "the regulation has none"),
			 err_generic_string(PG_DIAG_SCHEMA_NAME, REGCRM_SCHEMA),
			 err_generic_string(PG_DIAG_TABLE_NAME, "event"),
			 err_generic_string(PG_DIAG_COLUMN_NAME, "field")));
}

/*
 * A slip of the pen would count as a scenario chosen, and set nothing off.  The
 * code of a stage is none: scenarios are named like stages, not all of them
 * are offered.
 */
static void
check_scenario(const Account *account, const char *text)
{
	const Regulation *regulation = account->regulation->compiled;
	stage_code	stage = label_pack(text, strlen(text));
	StringInfoData known;

	if (regulation_scenario(account->regulation, text) != NO_NUMBER ||
		(stage && rules_stage(regulation, stage) != NO_NUMBER))
		return;
	initStringInfo(&known);
	for (int i = 0; i < regulation->nscenarios; i++)
		appendStringInfo(&known, "%s%s", i > 0 ? ", " : "", regulation->scenarios[i]);
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no scenario \"%s\"", text),
			 errhint("Known are: %s.", known.len > 0 ? known.data : "none"),
			 err_generic_string(PG_DIAG_SCHEMA_NAME, REGCRM_SCHEMA),
			 err_generic_string(PG_DIAG_TABLE_NAME, "event"),
			 err_generic_string(PG_DIAG_COLUMN_NAME, "scenario")));
}

static bool
is_one_of(const char *kind, const char *a, const char *b, const char *c)
{
	return strcmp(kind, a) == 0 || strcmp(kind, b) == 0 || strcmp(kind, c) == 0;
}

static char *
text_in(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		datum = slot_getattr(slot, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

/* An inserted event; a scenario may set off effects. */
static void
enforce_event(FactStatement *statement, TupleTableSlot *slot, const FactNumbers *numbers)
{
	bool		isnull;
	int64		account_id = gate_number(slot, numbers->account_id, &isnull);
	const Account *account = account_of(statement, account_id);
	char	   *kind = text_in(slot, numbers->kind);

	if (account->synced && !is_one_of(kind, "verdict", "request", "visit"))
		refuse_synced(statement);
	if (is_one_of(kind, "stage", "field", "responsible"))
		refuse_history(statement, psprintf("events of kind %s are not written by hand", kind),
					   "UPDATE the column of regcrm.deal instead: its event is appended by itself.");
	check_past(statement, slot, numbers->at, "at");
	if (strcmp(kind, "verdict") == 0)
		check_verdict(account, text_in(slot, numbers->field));
	if (strcmp(kind, "scenario") == 0)
	{
		FactCall	call = {
			.account_id = account_id,
			.deal_id = gate_number(slot, numbers->deal_id, &isnull),
			.scenario = text_in(slot, numbers->scenario),
		};

		/* one that is not named is chosen all the same */
		if (call.scenario == NULL)
			return;
		check_scenario(account, call.scenario);
		if (isnull)
			return;
		call.at = DatumGetTimestampTz(slot_getattr(slot, numbers->at, &isnull));
		call.event_id = gate_number(slot, numbers->id, &isnull);
		enforce_call(statement, call);
		/* what is chosen now acts now, as a move does */
		if (call.at >= GetCurrentTransactionStartTimestamp())
		{
			MemoryContext old = MemoryContextSwitchTo(statement->context);

			keys_add(&statement->changed, account_id, call.deal_id);
			MemoryContextSwitchTo(old);
		}
	}
}

/* Whether a column differs between two rows; one missing = no. */
static bool
is_changed(TupleTableSlot *before, TupleTableSlot *now, int column)
{
	bool		was_null;
	bool		isnull;
	Datum		was;
	Datum		is;

	if (before == NULL || now == NULL)
		return false;
	was = slot_getattr(before, column, &was_null);
	is = slot_getattr(now, column, &isnull);
	/* of columns passed by value */
	return was_null != isnull || (!isnull && was != is);
}

/* What changes now can't follow what another transaction has written since it began. */
static void
refuse_later(int64 deal_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("another transaction has written a later fact of deal " INT64_FORMAT, deal_id),
			 errdetail("This transaction began before it, and what it changes would have happened earlier."),
			 errhint("Begin the transaction again.")));
}

/* A task done now() that another transaction has added since then. */
static void
check_no_newer(TupleTableSlot *now, const FactNumbers *numbers)
{
	TimestampTz began = GetCurrentTransactionStartTimestamp();
	bool		isnull;
	Datum		done = slot_getattr(now, numbers->completed_at, &isnull);

	if (isnull || DatumGetTimestampTz(done) != began ||
		DatumGetTimestampTz(slot_getattr(now, numbers->created_at, &isnull)) <= began)
		return;
	refuse_later(gate_number(now, numbers->deal_id, &isnull));
}

static void
enforce_task(FactStatement *statement, TupleTableSlot *before, TupleTableSlot *now,
			 const FactNumbers *numbers)
{
	bool		isnull;

	if (account_of(statement, gate_number(before ? before : now, numbers->account_id, &isnull))->synced ||
		(now && account_of(statement, gate_number(now, numbers->account_id, &isnull))->synced))
		refuse_synced(statement);
	if (now == NULL)
		return;
	if (is_changed(before, now, numbers->created_at))
		refuse_history(statement, "the creation of a task is not moved",
					   "Add another task; \"due_at\" says when it is to be done.");
	if (is_changed(before, now, numbers->by_bot))
		refuse_history(statement, "who added a task is not rewritten",
					   "Correct it in mode record, as a role that may set regcrm.mode.");
	check_past(statement, now, numbers->created_at, "created_at");
	check_past(statement, now, numbers->completed_at, "completed_at");
	check_past(statement, now, numbers->deleted_at, "deleted_at");
	check_not_before(statement, now, numbers, numbers->due_at, "due_at");
	if (before != NULL && is_changed(before, now, numbers->completed_at))
		check_no_newer(now, numbers);
	check_not_before(statement, now, numbers, numbers->completed_at, "completed_at");
}

void
enforce_fact(FactStatement *statement, TupleTableSlot *before, TupleTableSlot *now,
			 const FactNumbers *numbers)
{
	if (!numbers->events)
		enforce_task(statement, before, now, numbers);
	else if (before != NULL)
		refuse_history(statement, "events are neither changed nor deleted",
					   "Add an event that says what is so; in mode record, a role that may set regcrm.mode corrects history.");
	else
		enforce_event(statement, now, numbers);
}


/* ---- rows of deal ---- */

static bool
flag_in(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		datum = slot_getattr(slot, column, &isnull);

	return !isnull && DatumGetBool(datum);
}

/*
 * A deal is judged up to its deletion, so that is when it is deleted: neither
 * earlier, or what was judged would be undone, nor without saying when.
 */
static void
check_deletion(FactStatement *statement, TupleTableSlot *before, TupleTableSlot *now,
			   const DealNumbers *numbers)
{
	bool		isnull;
	Datum		at = slot_getattr(now, numbers->deleted_at, &isnull);
	bool		was_deleted = before && flag_in(before, numbers->is_deleted);
	bool		gone = !isnull || flag_in(now, numbers->is_deleted);

	if (!gone || (before != NULL && !is_changed(before, now, numbers->deleted_at) &&
				  flag_in(now, numbers->is_deleted) == was_deleted))
		return;
	if (!isnull && DatumGetTimestampTz(at) >= GetCurrentTransactionStartTimestamp())
		return;
	refuse_history(statement, "a deal is deleted at no other moment than now",
				   "Set \"is_deleted\" to true and \"deleted_at\" to now().");
}

/* What leaves an unknown stage is not judged: that would be a way around the graph. */
static void
refuse_no_stage(FactStatement *statement, bool was_there, TupleTableSlot *now,
				const DealNumbers *numbers)
{
	const Regulation *regulation = statement->account->regulation->compiled;
	StringInfoData stages;
	bool		isnull;

	initStringInfo(&stages);
	for (int i = 0; i < regulation->nstages; i++)
		if (rules_transition(regulation, NO_NUMBER, i, GetCurrentTimestamp()) != NULL)
			appendStringInfo(&stages, "%s\"%s\"", stages.len > 0 ? ", " : "",
							 stage_text(regulation->stages[i]));
	ereport(ERROR,
			(errcode(ERRCODE_NOT_NULL_VIOLATION),
			 errmsg("the stage of deal " INT64_FORMAT " must not be null",
					gate_number(now, numbers->id, &isnull)),
			 was_there ? errhint("Give a stage of regcrm.stage_def; regcrm.allowed_moves() lists the next ones.") :
			 errhint("A deal begins in %s.", stages.len > 0 ? stages.data : "no stage: see regcrm.transition"),
			 errtable(statement->trigdata->tg_relation),
			 err_generic_string(PG_DIAG_COLUMN_NAME, "stage")));
}

void
enforce_deal(FactStatement *statement, TupleTableSlot *before, TupleTableSlot *now,
			 const DealNumbers *numbers)
{
	TupleTableSlot *slot = now ? now : before;
	bool		isnull;
	bool		was_null = true;

	if (account_of(statement, gate_number(slot, numbers->account_id, &isnull))->synced)
		refuse_synced(statement);
	if (now == NULL)
		refuse_history(statement, "a deal is not deleted",
					   "Set \"is_deleted\" to true and \"deleted_at\" to now(); regcrm.forget() erases a person's data.");
	if (before != NULL &&
		(gate_number(before, numbers->account_id, &isnull) != gate_number(now, numbers->account_id, &isnull) ||
		 gate_number(before, numbers->id, &isnull) != gate_number(now, numbers->id, &isnull)))
		refuse_history(statement, "a deal is not renumbered",
					   "Its events and tasks would be lost to it. Insert another deal.");
	if (is_changed(before, now, numbers->created_at))
		refuse_history(statement, "the creation of a deal is not moved",
					   "It is what its first duties are counted from.");
	if (!flag_in(now, numbers->in_regulation) &&
		(before == NULL || flag_in(before, numbers->in_regulation)))
		refuse_history(statement, "a deal is not taken out of the regulation",
					   "\"in_regulation\" is for deals of pipelines in amoCRM that are not mapped.");
	check_past(statement, now, numbers->created_at, "created_at");
	check_past(statement, now, numbers->deleted_at, "deleted_at");
	check_deletion(statement, before, now, numbers);
	(void) slot_getattr(now, numbers->stage, &isnull);
	if (before != NULL)
		(void) slot_getattr(before, numbers->stage, &was_null);
	if (isnull && (before == NULL || !was_null))
		refuse_no_stage(statement, before != NULL, now, numbers);
}


/* ---- the statement as a whole ---- */

void
enforce_call(FactStatement *statement, FactCall call)
{
	if (statement->ncalls == statement->room_calls)
	{
		statement->room_calls = statement->room_calls ? statement->room_calls * 2 : 16;
		statement->calls = statement->calls ?
			repalloc_huge(statement->calls, statement->room_calls * sizeof(FactCall)) :
			MemoryContextAlloc(statement->context, statement->room_calls * sizeof(FactCall));
	}
	if (call.scenario != NULL)
		call.scenario = MemoryContextStrdup(statement->context, call.scenario);
	statement->calls[statement->ncalls++] = call;
}

#define FEW				16

/* The moments of a fact; one of them after now() is a later fact. */
static KeyTable event_times = {
	.name = "event",.keys = {"account_id", "deal_id"},.ncolumns = 1,
	.columns = {{"at", TIMESTAMPTZOID}}
};
static KeyTable task_times = {
	.name = "task",.keys = {"account_id", "deal_id"},.ncolumns = 2,
	.columns = {{"created_at", TIMESTAMPTZOID}, {"completed_at", TIMESTAMPTZOID}}
};

/* Whether somebody else has written a row of a deal that lies after a moment. */
static bool
is_later(KeyReader *reader, int64 account_id, int64 deal_id, TimestampTz moment)
{
	Datum		values[2];
	bool		nulls[2] = {true, true};
	bool		later = false;

	keyread_seek(reader, account_id, deal_id);
	while (!later && keyread_next(reader, values, nulls))
		later = ((!nulls[0] && DatumGetTimestampTz(values[0]) > moment) ||
				 (!nulls[1] && DatumGetTimestampTz(values[1]) > moment)) &&
			!TransactionIdIsCurrentTransactionId(keyread_xmin(reader));
	return later;
}

/* Looks by keys; false where that is to be done by SQL. */
static bool
check_no_later_by_key(int64 account_id, const int64 *ids, int n)
{
	TimestampTz began = GetCurrentTransactionStartTimestamp();
	KeyReader  *events;
	KeyReader  *tasks;
	int64		refused = 0;
	bool		any = false;

	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	events = keyread_open(&event_times);
	tasks = events ? keyread_open(&task_times) : NULL;
	for (int i = 0; tasks != NULL && !any && i < n; i++)
	{
		any = is_later(events, account_id, ids[i], began) ||
			is_later(tasks, account_id, ids[i], began);
		refused = ids[i];
	}
	if (tasks != NULL)
		keyread_close(tasks);
	if (events != NULL)
		keyread_close(events);
	PopActiveSnapshot();
	if (any)
		refuse_later(refused);
	return tasks != NULL;
}

/*
 * Columns change at the beginning of the transaction (DESIGN section 3).  What
 * others have committed since then lies after it, and was judged without it.
 */
static void
check_no_later(FactStatement *statement)
{
	DealKeys   *keys = &statement->changed;

	keys_sort(keys);
	for (int from = 0; from < keys->n;)
	{
		int64		account_id;
		int			n;
		int64	   *ids = keys_of_account(keys, &from, &account_id, &n);
		Datum		args[3];

		/* by key all facts of a deal are read, by SQL the later ones only */
		if (n <= FEW && check_no_later_by_key(account_id, ids, n))
		{
			pfree(ids);
			continue;
		}
		args[0] = Int64GetDatum(account_id);
		args[1] = tables_ids(ids, n);
		args[2] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
		(void) statement_write(&select_later, args);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			HeapTuple	tuple = SPI_tuptable->vals[i];
			TupleDesc	desc = SPI_tuptable->tupdesc;
			bool		isnull;

			if (TransactionIdIsCurrentTransactionId(DatumGetTransactionId(SPI_getbinval(tuple, desc, 2, &isnull))))
				continue;
			refuse_later(DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull)));
		}
		SPI_freetuptable(SPI_tuptable);
		pfree(DatumGetPointer(args[1]));
		pfree(ids);
	}
}

static int
compare_calls(const void *a, const void *b)
{
	const FactCall *x = a;
	const FactCall *y = b;

	if (x->account_id != y->account_id)
		return x->account_id < y->account_id ? -1 : 1;
	if (x->deal_id != y->deal_id)
		return x->deal_id < y->deal_id ? -1 : 1;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->event_id < y->event_id ? -1 : x->event_id > y->event_id;
}

/* Whether a move is none of the regulation's. */
static bool
looks_illegal(const Regulation *regulation, const FactCall *call)
{
	int			from = call->from ? rules_stage(regulation, call->from) : NO_NUMBER;
	int			to = rules_stage(regulation, call->to);

	if (!call->moved || to == NO_NUMBER || (call->from && from == NO_NUMBER))
		return false;
	return rules_transition(regulation, from, to, call->at) == NULL;
}

/*
 * Refuses illegal moves.  A move that is in no transition may still take back
 * another within undo_window, or somebody made it whom the regulation does not
 * bind: the judge knows.
 */
static void
check_moves(const Account *account, const FactCall *calls, int n)
{
	int64	   *ids = palloc((n + 1) * sizeof(int64));
	Refusals	refusals = {.context = CurrentMemoryContext};
	TimelineReader *reader;
	Ledger	   *ledger;
	Judge	   *judge;
	const DealLine *deal;
	int			nids = 0;

	for (int i = 0; i < n; i++)
		if ((nids == 0 || ids[nids - 1] != calls[i].deal_id) &&
			looks_illegal(account->regulation->compiled, &calls[i]))
			ids[nids++] = calls[i].deal_id;
	if (nids == 0)
		return;
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	judge = batch_judge_create(account);
	reader = timeline_open(account, ids, nids, GetCurrentTimestamp(), 0);
	ledger = ledger_open(account, ids, nids);
	while ((deal = timeline_next(reader)) != NULL)
	{
		const Finding *findings;
		int			nfindings = judge_deal(judge, &deal->line, &findings);

		ledger_read(ledger, deal->line.deal_id);
		refusals_collect(&refusals, account, &deal->line, findings, nfindings, ledger, true);
	}
	ledger_close(ledger);
	timeline_close(reader);
	PopActiveSnapshot();
	refusals_raise(&refusals);
}

void
enforce_statement(FactStatement *statement)
{
	if (statement->changed.n > 0)
		check_no_later(statement);
	qsort(statement->calls, statement->ncalls, sizeof(FactCall), compare_calls);
	for (int from = 0, to; from < statement->ncalls; from = to)
	{
		const Account *account = account_of(statement, statement->calls[from].account_id);

		for (to = from + 1; to < statement->ncalls &&
			 statement->calls[to].account_id == account->id; to++)
			;
		check_moves(account, statement->calls + from, to - from);
		if (account->regulation->neffects > 0)
			effects_run(account, statement->calls + from, to - from);
	}
}
