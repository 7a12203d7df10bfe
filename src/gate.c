/*-------------------------------------------------------------------------
 *
 * gate.c
 *	  Triggers on the facts.
 *
 * What fires, in order, for a statement on deal, event or task:
 *
 *	1. for each row, the WHEN clause of the constraint trigger asks
 *	   judging_due(); it says yes for the first row of the transaction only, so
 *	   that one deferred event is queued, however many rows are written;
 *	2. after the statement, *_changed() walks over the transition tables once:
 *	   it takes note of each deal (touched.c), appends the events that written
 *	   columns are (append.c), and in mode "record" sets the columns that
 *	   written events are (columns.c);
 *	3. at COMMIT, or at SET CONSTRAINTS ... IMMEDIATE, judge_touched() judges
 *	   all deals noted so far, together, and the ledger is written (batch.c).
 *
 * So no row costs a query: a load of a million events walks over them once,
 * and reads each deal once when it ends.
 *
 * Where constraints are IMMEDIATE, the queued row event fires before 2; what 2
 * then notes has no event to wait for, and it judges itself at its end.
 *
 * The mode that counts is that at the write (hazards G3): 2 runs within the
 * statement.  Everything is done as the owner of the tables (tables.c).
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

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "append.h"
#include "batch.h"
#include "columns.h"
#include "fields.h"
#include "gate.h"
#include "stage.h"
#include "tables.h"
#include "touched.h"

/* Where the columns are that we look at; numbers move (hazards G10). */
typedef struct DealNumbers
{
	int			account_id;
	int			id;
	int			stage;
	int			manager_id;
	int			created_at;
	int			custom;
	int			fields[FIELD_COLUMNS];
} DealNumbers;

/* A deal, by the whole key. */
typedef struct DealKey
{
	int64		account_id;
	int64		deal_id;
} DealKey;

typedef struct DealKeys
{
	int			n;
	int			room;
	DealKey    *keys;
} DealKeys;

/* A statement on a table of facts, while its trigger works. */
typedef struct FactStatement
{
	TriggerData *trigdata;
	TupleDesc	desc;
	TouchMode	mode;
	Oid			role;
	DealKeys	follow;			/* deals whose columns may have to follow */
} FactStatement;

/* The table on which we write ourselves, and how deep. */
static Oid	quiet_relid = InvalidOid;

static Statement select_custom_names = {
	"select field from regcrm.field_map where account_id = $1 group by field",
	1, {INT8OID}
};
static Statement select_told = {
	"select u.id from unnest($2) u(id) where exists (select from regcrm.event e"
	" where e.account_id = $1 and e.deal_id = u.id and e.at >= $3"
	" and e.kind in ('stage', 'field', 'responsible')"
	" and e.source is distinct from 'regcrm') order by 1",
	3, {INT8OID, INT8ARRAYOID, TIMESTAMPTZOID}
};

static void judge_touched(void);

PG_FUNCTION_INFO_V1(regcrm_judging_due);
PG_FUNCTION_INFO_V1(regcrm_judge_touched);
PG_FUNCTION_INFO_V1(regcrm_deal_changed);
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

static void
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

static int
compare_keys(const void *a, const void *b)
{
	const DealKey *x = a;
	const DealKey *y = b;

	if (x->account_id != y->account_id)
		return x->account_id < y->account_id ? -1 : 1;
	return x->deal_id < y->deal_id ? -1 : x->deal_id > y->deal_id;
}

/* In order and without repetition. */
static void
keys_sort(DealKeys *keys)
{
	int			kept = 0;

	qsort(keys->keys, keys->n, sizeof(DealKey), compare_keys);
	for (int i = 0; i < keys->n; i++)
		if (kept == 0 || compare_keys(&keys->keys[kept - 1], &keys->keys[i]) != 0)
			keys->keys[kept++] = keys->keys[i];
	keys->n = kept;
}

/* Ids of the account whose keys begin at *from, which moves on. */
static int64 *
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

static int
column_number(TupleDesc desc, const char *name, Oid type)
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

/* The slots of a walk over one transition table. */
typedef struct Walk
{
	Tuplestorestate *store;
	TupleTableSlot *slot;
	int			pointer;
} Walk;

static Walk
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

static bool
walk_next(Walk *walk)
{
	if (walk->store == NULL)
		return false;
	CHECK_FOR_INTERRUPTS();
	tuplestore_select_read_pointer(walk->store, walk->pointer);
	return tuplestore_gettupleslot(walk->store, true, false, walk->slot);
}

static void
walk_end(Walk *walk)
{
	if (walk->slot != NULL)
		ExecDropSingleTupleTableSlot(walk->slot);
}

static int64
number_in(TupleTableSlot *slot, int column, bool *isnull)
{
	return DatumGetInt64(slot_getattr(slot, column, isnull));
}

/*
 * Checks how the trigger was called and says how the statement is to be taken:
 * false where it is no business of ours.
 */
static bool
begin_statement(FunctionCallInfo fcinfo, const char *name, FactStatement *statement)
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
	memset(&statement->follow, 0, sizeof(statement->follow));
	return true;
}

/* Lets columns follow events, for the deals noted. */
static void
follow(FactStatement *statement)
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
static void
end_statement(void)
{
	if (!touched_is_queued())
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

/* Notes the deals of the rows; kind 0 = tasks. */
static void
note_rows(FactStatement *statement, Tuplestorestate *store, int kind)
{
	int			account = column_number(statement->desc, "account_id", INT8OID);
	int			deal = column_number(statement->desc, "deal_id", INT8OID);
	Walk		walk = walk_begin(store, statement->desc);

	while (walk_next(&walk))
	{
		bool		isnull;
		int64		account_id = number_in(walk.slot, account, &isnull);
		int64		deal_id = number_in(walk.slot, deal, &isnull);

		if (isnull)
			continue;
		touched_add(account_id, deal_id, statement->mode, false);
		if (kind > 0 && statement->mode == TOUCH_RECORD &&
			has_column(slot_getattr(walk.slot, kind, &isnull)))
			keys_add(&statement->follow, account_id, deal_id);
	}
	walk_end(&walk);
}

static void
facts_changed(FunctionCallInfo fcinfo, const char *name, bool events)
{
	FactStatement statement;
	TablesScope scope;
	int			kind;

	if (!begin_statement(fcinfo, name, &statement))
		return;
	kind = events ? column_number(statement.desc, "kind", TEXTOID) : 0;
	note_rows(&statement, statement.trigdata->tg_oldtable, kind);
	note_rows(&statement, statement.trigdata->tg_newtable, kind);
	if (statement.follow.n > 0)
	{
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		tables_enter(&scope, true);
		follow(&statement);
		tables_leave(&scope);
		SPI_finish();
	}
	end_statement();
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


/* ---- deal ---- */

static DealNumbers
deal_numbers(TupleDesc desc)
{
	static const Oid types[] = {
		[FIELD_TEXT] = TEXTOID,[FIELD_DATE] = DATEOID,
		[FIELD_MOMENT] = TIMESTAMPTZOID,[FIELD_FLAG] = BOOLOID
	};
	DealNumbers numbers;

	numbers.account_id = column_number(desc, "account_id", INT8OID);
	numbers.id = column_number(desc, "id", INT8OID);
	numbers.stage = column_number(desc, "stage", tables_stage_type());
	numbers.manager_id = column_number(desc, "manager_id", INT8OID);
	numbers.created_at = column_number(desc, "created_at", TIMESTAMPTZOID);
	numbers.custom = column_number(desc, "custom", JSONBOID);
	for (int i = 0; i < FIELD_COLUMNS; i++)
		numbers.fields[i] = column_number(desc, field_columns[i].name,
										  types[field_columns[i].type]);
	return numbers;
}

static stage_code
stage_in(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		stage = slot_getattr(slot, column, &isnull);

	return isnull ? 0 : DatumGetStage(stage);
}

static char *
text_in(TupleTableSlot *slot, int column, FieldType type)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return field_text(value, isnull, type);
}

/* Keys of custom that are fields of an account: what field_map names. */
static List *
custom_names(int64 account_id)
{
	Datum		arg = Int64GetDatum(account_id);
	List	   *names = NIL;

	(void) statement_write(&select_custom_names, &arg);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		if (name != NULL && field_column(name) < 0 && strcmp(name, "scenario") != 0)
			names = lappend(names, name);
	}
	SPI_freetuptable(SPI_tuptable);
	return names;
}

/* What a key of custom holds, as text. */
static char *
custom_text(Datum custom, bool isnull, const char *name)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		value;

	if (isnull)
		return NULL;
	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = custom;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = CStringGetTextDatum(name);
	fcinfo->args[1].isnull = false;
	value = jsonb_object_field_text(fcinfo);
	return fcinfo->isnull ? NULL : TextDatumGetCString(value);
}

static bool
append_stage(Appending *appending, AppendedEvent event, const DealNumbers *numbers,
			 TupleTableSlot *before, TupleTableSlot *now)
{
	event.kind = "stage";
	event.from_stage = before ? stage_in(before, numbers->stage) : 0;
	event.to_stage = stage_in(now, numbers->stage);
	if (event.from_stage == event.to_stage)
		return false;
	append_event(appending, &event);
	return true;
}

static bool
append_responsible(Appending *appending, AppendedEvent event, const DealNumbers *numbers,
				   TupleTableSlot *before, TupleTableSlot *now)
{
	bool		was_null;
	bool		isnull;
	int64		was = number_in(before, numbers->manager_id, &was_null);
	int64		is = number_in(now, numbers->manager_id, &isnull);

	if (was_null == isnull && (isnull || was == is))
		return false;
	event.kind = "responsible";
	event.value = isnull ? NULL : psprintf(INT64_FORMAT, is);
	event.value_before = was_null ? NULL : psprintf(INT64_FORMAT, was);
	append_event(appending, &event);
	return true;
}

static bool
append_field(Appending *appending, const AppendedEvent *event)
{
	const char *was = event->value_before ? event->value_before : "";
	const char *is = event->value ? event->value : "";

	/* an empty text is no value */
	if (strcmp(was, is) == 0)
		return false;
	append_event(appending, event);
	return true;
}

/*
 * Appends what differs between two rows of a deal; before NULL: what it was
 * created with.  True where something was appended.
 */
static bool
append_differences(Appending *appending, const DealNumbers *numbers,
				   TupleTableSlot *before, TupleTableSlot *now, List *names)
{
	AppendedEvent event = {0};
	bool		any;
	bool		isnull;

	event.account_id = number_in(now, numbers->account_id, &isnull);
	event.deal_id = number_in(now, numbers->id, &isnull);
	event.first = before == NULL;
	event.at = before ? GetCurrentTransactionStartTimestamp() :
		DatumGetTimestampTz(slot_getattr(now, numbers->created_at, &isnull));

	any = append_stage(appending, event, numbers, before, now);
	if (before != NULL)
		any |= append_responsible(appending, event, numbers, before, now);
	event.kind = "field";
	for (int i = 0; i < FIELD_COLUMNS; i++)
	{
		FieldType	type = field_columns[i].type;

		event.field = field_columns[i].name;
		event.value_before = before ? text_in(before, numbers->fields[i], type) : NULL;
		event.value = text_in(now, numbers->fields[i], type);
		/* a box that was never ticked is no field given */
		if (before == NULL && type == FIELD_FLAG && event.value != NULL &&
			strcmp(event.value, "false") == 0)
			continue;
		any |= append_field(appending, &event);
	}
	if (names != NIL)
	{
		bool		no_custom;
		bool		no_before = true;
		Datum		custom = slot_getattr(now, numbers->custom, &no_custom);
		Datum		custom_before = before ?
			slot_getattr(before, numbers->custom, &no_before) : (Datum) 0;
		ListCell   *cell;

		foreach(cell, names)
		{
			event.field = lfirst(cell);
			event.value_before = custom_text(custom_before, no_before, event.field);
			event.value = custom_text(custom, no_custom, event.field);
			any |= append_field(appending, &event);
		}
	}
	return any;
}

/* Of the deals noted to follow, keeps those of which a loaded event speaks. */
static void
keep_told(FactStatement *statement, TimestampTz since)
{
	DealKeys	all = statement->follow;
	DealKeys	told = {0};

	keys_sort(&all);
	for (int from = 0; from < all.n;)
	{
		int64		account_id;
		int			n;
		int64	   *ids = keys_of_account(&all, &from, &account_id, &n);
		Datum		args[3] = {Int64GetDatum(account_id), tables_ids(ids, n),
		TimestampTzGetDatum(since)};

		(void) statement_write(&select_told, args);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool		isnull;

			keys_add(&told, account_id,
					 DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
												 SPI_tuptable->tupdesc, 1, &isnull)));
		}
		SPI_freetuptable(SPI_tuptable);
		pfree(DatumGetPointer(args[1]));
		pfree(ids);
	}
	statement->follow = told;
}

/* Walks over the rows before and after side by side: they stand in pairs. */
static void
note_deals(FactStatement *statement, Appending *appending)
{
	TriggerData *trigdata = statement->trigdata;
	DealNumbers numbers = deal_numbers(statement->desc);
	bool		inserted = trigdata->tg_oldtable == NULL;
	Walk		before = walk_begin(trigdata->tg_oldtable, statement->desc);
	Walk		now = walk_begin(trigdata->tg_newtable, statement->desc);
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext, "regcrm row",
													  ALLOCSET_DEFAULT_SIZES);
	List	   *names = NIL;
	int64		names_account = 0;	/* accounts are numbered from 1 */

	for (;;)
	{
		bool		is_before = walk_next(&before);
		bool		is_now = walk_next(&now);
		bool		isnull;
		DealKey		old_key = {0};
		DealKey		new_key = {0};
		MemoryContext old;
		bool		appended = false;

		if (!is_before && !is_now)
			break;
		if (is_before)
		{
			old_key.account_id = number_in(before.slot, numbers.account_id, &isnull);
			old_key.deal_id = number_in(before.slot, numbers.id, &isnull);
			touched_add(old_key.account_id, old_key.deal_id, statement->mode, false);
		}
		if (!is_now)
			continue;
		new_key.account_id = number_in(now.slot, numbers.account_id, &isnull);
		new_key.deal_id = number_in(now.slot, numbers.id, &isnull);
		touched_add(new_key.account_id, new_key.deal_id, statement->mode, inserted);

		/* another key is another deal: nothing happened to this one */
		if (appending == NULL || (is_before && compare_keys(&old_key, &new_key) != 0))
			continue;
		if (names_account != new_key.account_id)
		{
			names = custom_names(new_key.account_id);
			names_account = new_key.account_id;
		}
		old = MemoryContextSwitchTo(row_context);
		appended = append_differences(appending, &numbers, is_before ? before.slot : NULL,
									  now.slot, names);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
		if (statement->mode == TOUCH_RECORD && (inserted || appended))
			keys_add(&statement->follow, new_key.account_id, new_key.deal_id);
	}
	walk_end(&before);
	walk_end(&now);
	MemoryContextDelete(row_context);
}

/*
 * After insert, the columns are what the deal was created with; after update,
 * what differs happened now.  Where events were loaded before the deal, or are
 * dated ahead, the columns follow them at once.
 */
Datum
regcrm_deal_changed(PG_FUNCTION_ARGS)
{
	FactStatement statement;
	TablesScope scope;
	Appending  *appending = NULL;

	if (!begin_statement(fcinfo, "deal_changed", &statement))
		return PointerGetDatum(NULL);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tables_enter(&scope, true);
	if (statement.mode != TOUCH_INGEST && statement.trigdata->tg_newtable != NULL)
		appending = append_begin(statement.role);
	note_deals(&statement, appending);
	if (appending != NULL)
		append_end(appending);
	if (statement.follow.n > 0)
	{
		keep_told(&statement, statement.trigdata->tg_oldtable == NULL ? DT_NOBEGIN :
				  GetCurrentTransactionStartTimestamp());
		follow(&statement);
	}
	tables_leave(&scope);
	SPI_finish();
	end_statement();
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
 * For WHEN: whether a deferred event is to be queued for this row.  While we
 * write ourselves none is needed: who let us write will judge.
 */
Datum
regcrm_judging_due(PG_FUNCTION_ARGS)
{
	if (OidIsValid(quiet_relid) ||
		(!regcrm_ingesting && regcrm_mode == REGCRM_MODE_OFF))
		PG_RETURN_BOOL(false);
	PG_RETURN_BOOL(touched_queue());
}

Datum
regcrm_judge_touched(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a trigger", "judge_touched")));
	judge_touched();
	return PointerGetDatum(NULL);
}

static void
judge_deals(const TouchedDeal *deals, int n)
{
	TimestampTz clock = GetCurrentTimestamp();
	LedgerCounts counts = {0};
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
				.inserted = deals[from].inserted,
				.set_columns = (deals[from].modes & TOUCH_RECORD) != 0,
			};
		batch_judge(account_id, refs, count, clock, false, &counts);
		pfree(refs);
	}
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
				 errmsg("%d deals were not judged: %s", n, error->message),
				 error->detail ? errdetail_internal("%s", error->detail) : 0,
				 errhint("Their facts are stored. Remove the cause and call regcrm.rejudge().")));
		FreeErrorData(error);
	}
	PG_END_TRY();
}

static void
judge_touched(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "regcrm touched",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int			n;
	TouchedDeal *deals = touched_take(&n);
	int			modes = 0;

	for (int i = 0; i < n; i++)
		modes |= deals[i].modes;
	if (modes & TOUCH_ENFORCE)
		judge_deals(deals, n);
	else if (n > 0)
		judge_deals_safely(deals, n);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
