/*-------------------------------------------------------------------------
 *
 * gate.c
 *	  Triggers on the facts.
 *
 * What fires, in order, for a statement on deal, event or task:
 *
 *	1. for each row, the WHEN clause of the constraint trigger asks
 *	   judging_due(), and where the row is to be judged, a deferred event is
 *	   queued for it, as for a foreign key;
 *	2. after the statement, *_changed() walks over the transition tables once:
 *	   it takes note of each deal (touched.c) and locks it (locks.c), appends the
 *	   events that written columns are (append.c), in mode "record" sets the
 *	   columns that written events are (columns.c), in mode "enforce" refuses
 *	   what can't be mended and carries out effects (gate_enforce.c);
 *	3. at COMMIT, or at SET CONSTRAINTS ... IMMEDIATE, judge_touched() judges
 *	   all deals noted so far, together, and the ledger is written, or new
 *	   breaches of what was written in mode "enforce" refuse the transaction
 *	   (batch.c, refusal.c); the events of all other rows then find nothing left
 *	   to do.
 *
 * So no row costs a query: a load of a million events walks over them once,
 * and reads each deal once when it ends.
 *
 * Where constraints are IMMEDIATE, the row events fire before 2; what 2 then
 * notes has no event to wait for, and it judges itself at its end.  That the
 * events have fired is seen by a count of firings, remembered at each row.
 *
 * The mode that counts is that at the write (hazards G3): 2 runs within the
 * statement.  A deal that one transaction writes in both modes is judged as
 * "enforce" has it.  Everything is done as the owner of the tables (tables.c).
 *
 * Our own writes to deal and event (appending, following) are not facts: while
 * gate_write_quietly() is at work on a table, statements on it are passed over.
 * What users' triggers write to other tables meanwhile counts.
 *
 * Nothing of the CRM is lost (DESIGN section 9, hazards G13): where judging
 * what was not written in mode "enforce" fails for a cause of ours (a rule or
 * a calendar that can't be read, a bug), the facts are kept and a warning asks
 * for rejudge().  Deadlocks, cancellation and lack of resources are raised.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "batch.h"
#include "columns.h"
#include "gate_int.h"
#include "locks.h"
#include "refusal.h"
#include "tables.h"
#include "touched.h"

/* The table on which we write ourselves. */
static Oid	quiet_relid = InvalidOid;

/* How often judge_touched() has fired, and how often when the last row was written. */
static uint64 firings = 0;
static uint64 firings_at_row = 0;

static void judge_touched(void);

PG_FUNCTION_INFO_V1(regcrm_judging_due);
PG_FUNCTION_INFO_V1(regcrm_judge_touched);
PG_FUNCTION_INFO_V1(regcrm_event_changed);
PG_FUNCTION_INFO_V1(regcrm_task_changed);
PG_FUNCTION_INFO_V1(regcrm_facts_truncated);

void
gate_init(void)
{
	touched_init();
}

void
gate_write_quietly(const char *table, gate_writer writer, void *arg)
{
	Oid			before = quiet_relid;

	quiet_relid = tables_find(table);
	PG_TRY();
	{
		writer(arg);
	}
	PG_FINALLY();
	{
		quiet_relid = before;
	}
	PG_END_TRY();
}


/* ---- keys of deals ---- */

void
keys_add(DealKeys *keys, int64 account_id, int64 deal_id)
{
	if (keys->n > 0 && keys->keys[keys->n - 1].deal_id == deal_id &&
		keys->keys[keys->n - 1].account_id == account_id)
		return;
	if (keys->n == keys->room)
	{
		keys->room = keys->room ? keys->room * 2 : 64;
		keys->keys = keys->keys ? repalloc_huge(keys->keys, keys->room * sizeof(DealKey)) :
			palloc(keys->room * sizeof(DealKey));
	}
	keys->keys[keys->n++] = (DealKey) {account_id, deal_id};
}

/* By account, then by deal: the order in which deals are locked. */
int
keys_compare(const void *a, const void *b)
{
	const DealKey *x = a;
	const DealKey *y = b;

	if (x->account_id != y->account_id)
		return x->account_id < y->account_id ? -1 : 1;
	return x->deal_id < y->deal_id ? -1 : x->deal_id > y->deal_id;
}

/* In order and without repetition. */
void
keys_sort(DealKeys *keys)
{
	int			kept = 0;

	qsort(keys->keys, keys->n, sizeof(DealKey), keys_compare);
	for (int i = 0; i < keys->n; i++)
		if (kept == 0 || keys_compare(&keys->keys[kept - 1], &keys->keys[i]) != 0)
			keys->keys[kept++] = keys->keys[i];
	keys->n = kept;
}

/* Ids of the account whose keys begin at *from, which moves on. */
int64 *
keys_of_account(const DealKeys *keys, int *from, int64 *account_id, int *n)
{
	int64	   *ids = palloc(keys->n * sizeof(int64));

	*n = 0;
	*account_id = keys->keys[*from].account_id;
	for (; *from < keys->n && keys->keys[*from].account_id == *account_id; (*from)++)
		ids[(*n)++] = keys->keys[*from].deal_id;
	return ids;
}


/* ---- rows of transition tables ---- */

int
gate_column(TupleDesc desc, const char *name, Oid type)
{
	int			number = SPI_fnumber(desc, name);

	if (number <= 0 || TupleDescAttr(desc, number - 1)->atttypid != type)
		ereport(ERROR,
				(errcode(number <= 0 ? ERRCODE_UNDEFINED_COLUMN : ERRCODE_DATATYPE_MISMATCH),
				 number <= 0 ? errmsg("column \"%s\" does not exist", name) :
				 errmsg("column \"%s\" is not of type %s", name, format_type_be(type)),
				 errdetail("The table was changed after regcrm.setup() made it."),
				 errhint("Give the column back its name and type, or add it anew by regcrm.setup().")));
	return number;
}

/*
 * A read pointer of our own: users' triggers and others of ours read the same
 * transition table.
 */
Walk
walk_begin(Tuplestorestate *store, TupleDesc desc)
{
	Walk		walk = {store, NULL, 0};

	if (store == NULL)
		return walk;
	walk.slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	walk.pointer = tuplestore_alloc_read_pointer(store, EXEC_FLAG_REWIND);
	tuplestore_select_read_pointer(store, walk.pointer);
	tuplestore_rescan(store);
	return walk;
}

bool
walk_next(Walk *walk)
{
	if (walk->store == NULL)
		return false;
	CHECK_FOR_INTERRUPTS();
	tuplestore_select_read_pointer(walk->store, walk->pointer);
	return tuplestore_gettupleslot(walk->store, true, false, walk->slot);
}

void
walk_end(Walk *walk)
{
	if (walk->slot != NULL)
		ExecDropSingleTupleTableSlot(walk->slot);
}

int64
gate_number(TupleTableSlot *slot, int column, bool *isnull)
{
	return DatumGetInt64(slot_getattr(slot, column, isnull));
}

/*
 * Checks how the trigger was called and says how the statement is to be taken:
 * false where it is no business of ours.
 */
bool
gate_begin(FunctionCallInfo fcinfo, const char *name, FactStatement *statement)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a trigger", name)));
	if (!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired after statement", name)));
	if (trigdata->tg_newtable == NULL && trigdata->tg_oldtable == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" has no transition table", trigdata->tg_trigger->tgname),
				 errhint("Drop it and run regcrm.setup().")));

	memset(statement, 0, sizeof(*statement));
	if (RelationGetRelid(trigdata->tg_relation) == quiet_relid)
		return false;
	if (regcrm_ingesting)
		statement->mode = TOUCH_INGEST;
	else if (regcrm_mode == REGCRM_MODE_OFF)
		return false;
	else
		statement->mode = regcrm_mode == REGCRM_MODE_RECORD ? TOUCH_RECORD : TOUCH_ENFORCE;
	statement->trigdata = trigdata;
	statement->desc = RelationGetDescr(trigdata->tg_relation);
	statement->role = GetUserId();
	return true;
}

/*
 * Locks at the write (hazards G1), in order of keys, all of the statement at
 * once.  What touched.c notes a second time is locked already.
 */
void
gate_lock(FactStatement *statement)
{
	DealKeys   *lists[] = {&statement->lock_keys, &statement->lock};

	for (int i = 0; i < lengthof(lists); i++)
	{
		keys_sort(lists[i]);
		for (int from = 0; from < lists[i]->n;)
		{
			int64		account_id;
			int			n;
			int64	   *ids = keys_of_account(lists[i], &from, &account_id, &n);

			if (lists[i] == &statement->lock_keys)
				locks_take_keys(account_id, ids, n);
			else
				locks_take_facts(account_id, ids, n);
			pfree(ids);
		}
	}
}

/* Lets columns follow events, for the deals noted. */
void
gate_follow(FactStatement *statement)
{
	DealKeys   *keys = &statement->follow;

	keys_sort(keys);
	for (int from = 0; from < keys->n;)
	{
		int64		account_id;
		int			n;
		int64	   *ids = keys_of_account(keys, &from, &account_id, &n);

		columns_follow(account_id, ids, n);
		pfree(ids);
	}
}

/* Whatever was noted and has no queued event to wait for is judged now. */
void
gate_end(void)
{
	if (firings != firings_at_row)
		judge_touched();
}


/* ---- event and task ---- */

/* Whether a kind of event is what a column follows. */
static bool
has_column(Datum kind)
{
	const text *name = DatumGetTextPP(kind);
	size_t		len = VARSIZE_ANY_EXHDR(name);
	const char *data = VARDATA_ANY(name);

	return (len == 5 && (memcmp(data, "stage", 5) == 0 || memcmp(data, "field", 5) == 0)) ||
		(len == 11 && memcmp(data, "responsible", 11) == 0);
}

static FactNumbers
fact_numbers(TupleDesc desc, bool events)
{
	FactNumbers numbers = {.events = events};

	numbers.account_id = gate_column(desc, "account_id", INT8OID);
	numbers.id = gate_column(desc, "id", INT8OID);
	numbers.deal_id = gate_column(desc, "deal_id", INT8OID);
	numbers.kind = gate_column(desc, "kind", TEXTOID);
	if (events)
	{
		numbers.at = gate_column(desc, "at", TIMESTAMPTZOID);
		numbers.field = gate_column(desc, "field", TEXTOID);
		numbers.scenario = gate_column(desc, "scenario", TEXTOID);
	}
	else
	{
		numbers.created_at = gate_column(desc, "created_at", TIMESTAMPTZOID);
		numbers.due_at = gate_column(desc, "due_at", TIMESTAMPTZOID);
		numbers.completed_at = gate_column(desc, "completed_at", TIMESTAMPTZOID);
		numbers.deleted_at = gate_column(desc, "deleted_at", TIMESTAMPTZOID);
		numbers.by_bot = gate_column(desc, "by_bot", BOOLOID);
	}
	return numbers;
}

/* Notes the deal of a row as it was, or as it is now. */
static void
note_fact(FactStatement *statement, TupleTableSlot *slot, const FactNumbers *numbers, bool now)
{
	bool		isnull;
	int64		account_id = gate_number(slot, numbers->account_id, &isnull);
	int64		deal_id = gate_number(slot, numbers->deal_id, &isnull);

	if (isnull)
		return;
	if (touched_add(account_id, deal_id, statement->mode,
					statement->mode == TOUCH_ENFORCE && now ? TOUCHED_NEEDED : 0) &&
		statement->mode != TOUCH_INGEST)
		keys_add(&statement->lock, account_id, deal_id);
	if (numbers->events && statement->mode == TOUCH_RECORD &&
		has_column(slot_getattr(slot, numbers->kind, &isnull)))
		keys_add(&statement->follow, account_id, deal_id);
}

/* Walks over the rows before and after side by side: they stand in pairs. */
static void
note_facts(FactStatement *statement, const FactNumbers *numbers)
{
	Walk		before = walk_begin(statement->trigdata->tg_oldtable, statement->desc);
	Walk		now = walk_begin(statement->trigdata->tg_newtable, statement->desc);
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "regcrm row",
													  ALLOCSET_SMALL_SIZES);

	for (;;)
	{
		bool		is_before = walk_next(&before);
		bool		is_now = walk_next(&now);

		if (!is_before && !is_now)
			break;
		if (statement->mode == TOUCH_ENFORCE)
		{
			MemoryContext old = MemoryContextSwitchTo(row_context);

			enforce_fact(statement, is_before ? before.slot : NULL,
						 is_now ? now.slot : NULL, numbers);
			MemoryContextSwitchTo(old);
			MemoryContextReset(row_context);
		}
		if (is_before)
			note_fact(statement, before.slot, numbers, false);
		if (is_now)
			note_fact(statement, now.slot, numbers, true);
	}
	walk_end(&before);
	walk_end(&now);
	MemoryContextDelete(row_context);
}

/* Notes the deals of all rows, old and new: an event may change its deal. */
static void
facts_changed(FunctionCallInfo fcinfo, const char *name, bool events)
{
	FactStatement statement;
	FactNumbers numbers;
	TablesScope scope;

	if (!gate_begin(fcinfo, name, &statement))
		return;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	statement.context = CurrentMemoryContext;
	tables_enter(&scope, true);
	numbers = fact_numbers(statement.desc, events);
	note_facts(&statement, &numbers);
	gate_lock(&statement);
	gate_follow(&statement);
	if (statement.mode == TOUCH_ENFORCE)
		enforce_statement(&statement);
	tables_leave(&scope);
	SPI_finish();
	gate_end();
}

Datum
regcrm_event_changed(PG_FUNCTION_ARGS)
{
	facts_changed(fcinfo, "event_changed", true);
	return PointerGetDatum(NULL);
}

Datum
regcrm_task_changed(PG_FUNCTION_ARGS)
{
	facts_changed(fcinfo, "task_changed", false);
	return PointerGetDatum(NULL);
}


/* ---- truncation ---- */

/* TRUNCATE fires no row trigger: findings would stand about facts long gone. */
Datum
regcrm_facts_truncated(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_TRUNCATE(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired by truncate", "facts_truncated")));
	if (regcrm_mode != REGCRM_MODE_OFF)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot truncate table \"%s\" while deals are judged",
						RelationGetRelationName(trigdata->tg_relation)),
				 errhint("Set regcrm.mode to off, and call regcrm.rejudge() afterwards.")));
	return PointerGetDatum(NULL);
}


/* ---- judging at the end of the transaction ---- */

/*
 * For WHEN: whether a row of this table is to be judged, and a deferred event
 * queued for it.  Not for what we write ourselves: who lets us write, judges.
 */
Datum
regcrm_judging_due(PG_FUNCTION_ARGS)
{
	if (PG_GETARG_OID(0) == quiet_relid ||
		(!regcrm_ingesting && regcrm_mode == REGCRM_MODE_OFF))
		PG_RETURN_BOOL(false);
	firings_at_row = firings;
	PG_RETURN_BOOL(true);
}

Datum
regcrm_judge_touched(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a trigger", "judge_touched")));
	firings++;
	judge_touched();
	return PointerGetDatum(NULL);
}

/* Judges account by account. */
static void
judge_deals(const TouchedDeal *deals, int n)
{
	TimestampTz clock = GetCurrentTimestamp();
	Refusals	refusals = {.context = CurrentMemoryContext};
	LedgerCounts counts = {.refusals = &refusals};
	TablesScope scope;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tables_enter(&scope, true);
	for (int from = 0; from < n;)
	{
		int64		account_id = deals[from].account_id;
		DealRef    *refs = MemoryContextAllocHuge(CurrentMemoryContext,
												  (n - from) * sizeof(DealRef));
		int			count = 0;

		for (; from < n && deals[from].account_id == account_id; from++)
			refs[count++] = (DealRef) {
				.id = deals[from].deal_id,
				.inserted = (deals[from].flags & TOUCHED_INSERTED) != 0,
				.needed = (deals[from].flags & TOUCHED_NEEDED) != 0,
				.enforced = (deals[from].modes & TOUCH_ENFORCE) != 0,
				.locked = (deals[from].modes & TOUCH_INGEST) == 0,
				.set_columns = (deals[from].modes & TOUCH_RECORD) != 0,
			};
		(void) batch_judge(account_id, refs, count, clock, false, &counts);
		pfree(refs);
	}
	refusals_raise(&refusals);
	tables_leave(&scope);
	SPI_finish();
}

/* Errors that are not about what we do: they are raised whoever causes them. */
static bool
must_be_raised(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return true;
		default:
			return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
				sqlerrcode == ERRCODE_DATA_CORRUPTED ||
				sqlerrcode == ERRCODE_INDEX_CORRUPTED;
	}
}

/* Judges in a subtransaction: an error of ours costs findings, not facts. */
static void
judge_deals_safely(const TouchedDeal *deals, int n)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction("regcrm");
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		judge_deals(deals, n);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (must_be_raised(error->sqlerrcode))
			ReThrowError(error);
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg_plural("%d deal was not judged: %s", "%d deals were not judged: %s",
							   n, n, error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 errhint("Their facts are stored. Remove the cause and call regcrm.rejudge().")));
		FreeErrorData(error);
	}
	PG_END_TRY();
}

/*
 * Judges what was touched since the last time.  Where nothing was written in mode
 * "enforce", there is nothing to refuse, and errors of ours are contained.
 */
static void
judge_touched(void)
{
	MemoryContext context;
	MemoryContext old;
	int			n;
	TouchedDeal *deals;
	int			modes = 0;

	/* an effect at work: whoever set it off judges when all is done */
	if (!touched_any() || effects_acting())
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "regcrm touched",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	deals = touched_take(&n);
	for (int i = 0; i < n; i++)
		modes |= deals[i].modes;
	if (modes & TOUCH_ENFORCE)
		judge_deals(deals, n);
	else if (n > 0)
		judge_deals_safely(deals, n);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
