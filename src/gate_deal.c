/*-------------------------------------------------------------------------
 *
 * gate_deal.c
 *	  The trigger on deal: columns into events (part of the gate).
 *
 * In modes "enforce" and "record" the columns of an inserted deal are its state
 * at created_at, and a later change of stage, manager_id or a field happens at
 * now() (DESIGN section 3); either becomes events, which are what the judge
 * reads.  Transition tables hold the rows before and after a statement in
 * pairs, so one walk over both sees every change; the keys are compared, in
 * case somebody renumbers deals.
 *
 * Keys of custom count as fields where field_map names them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "append.h"
#include "fields.h"
#include "gate_int.h"
#include "keyread.h"
#include "stage.h"
#include "tables.h"

static Statement select_custom_names = {
	"select field from regcrm.field_map where account_id = $1 group by field",
	1, {INT8OID}
};
static Statement select_told = {
	"select u.id from unnest($2) u(id) cross join lateral (select from regcrm.event e"
	" where e.account_id = $1 and e.deal_id = u.id and e.at > $3"
	" and e.kind in ('stage', 'field', 'responsible')"
	" and e.source is distinct from 'regcrm' limit 1) e order by 1",
	3, {INT8OID, INT8ARRAYOID, TIMESTAMPTZOID}
};

static KeyTable field_map_keys = {
	.name = "field_map",.keys = {"account_id"},.ncolumns = 1,.columns = {{"field", TEXTOID}}
};

PG_FUNCTION_INFO_V1(regcrm_deal_changed);

/*
 * Looks the columns up anew for each statement: tables change (hazards G10).
 */
static DealNumbers
deal_numbers(TupleDesc desc)
{
	static const Oid types[] = {
		[FIELD_TEXT] = TEXTOID,[FIELD_DATE] = DATEOID,
		[FIELD_MOMENT] = TIMESTAMPTZOID,[FIELD_FLAG] = BOOLOID
	};
	DealNumbers numbers;

	numbers.account_id = gate_column(desc, "account_id", INT8OID);
	numbers.id = gate_column(desc, "id", INT8OID);
	numbers.stage = gate_column(desc, "stage", tables_stage_type());
	numbers.manager_id = gate_column(desc, "manager_id", INT8OID);
	numbers.created_at = gate_column(desc, "created_at", TIMESTAMPTZOID);
	numbers.deleted_at = gate_column(desc, "deleted_at", TIMESTAMPTZOID);
	numbers.is_deleted = gate_column(desc, "is_deleted", BOOLOID);
	numbers.in_regulation = gate_column(desc, "in_regulation", BOOLOID);
	numbers.custom = gate_column(desc, "custom", JSONBOID);
	for (int i = 0; i < FIELD_COLUMNS; i++)
		numbers.fields[i] = gate_column(desc, field_columns[i].name,
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

/* A column as the text of an event. */
static char *
text_in(TupleTableSlot *slot, int column, FieldType type)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return field_text(value, isnull, type);
}

/* A field of field_map, once, unless it is a column or what scenarios tell. */
static List *
add_custom_name(List *names, char *name)
{
	ListCell   *cell;

	if (field_column(name) >= 0 || strcmp(name, "scenario") == 0)
		return names;
	foreach(cell, names)
		if (strcmp(lfirst(cell), name) == 0)
			return names;
	return lappend(names, name);
}

/* Keys of custom that are fields of an account: what field_map names. */
static List *
custom_names(int64 account_id)
{
	Datum		arg = Int64GetDatum(account_id);
	List	   *names = NIL;
	KeyReader  *reader;
	Datum		value;
	bool		isnull;

	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	reader = keyread_open(&field_map_keys);
	if (reader != NULL)
	{
		keyread_seek(reader, account_id, 0);
		while (keyread_next(reader, &value, &isnull))
			if (!isnull)
				names = add_custom_name(names, TextDatumGetCString(value));
		keyread_close(reader);
		PopActiveSnapshot();
		return names;
	}
	PopActiveSnapshot();
	(void) statement_write(&select_custom_names, &arg);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		if (name != NULL)
			names = add_custom_name(names, name);
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

/* The beginning, or a move from where the column says that the deal was. */
static bool
append_stage(FactStatement *statement, Appending *appending, AppendedEvent event,
			 const DealNumbers *numbers, TupleTableSlot *before, TupleTableSlot *now)
{
	event.kind = "stage";
	event.from_stage = before ? stage_in(before, numbers->stage) : 0;
	event.to_stage = stage_in(now, numbers->stage);
	if (event.from_stage == event.to_stage)
		return false;
	append_event(appending, &event);
	if (statement->mode == TOUCH_ENFORCE)
		enforce_call(statement, (FactCall) {
			.account_id = event.account_id,
			.deal_id = event.deal_id,
			.at = event.at,
			.moved = true,
			.from = event.from_stage,
			.to = event.to_stage,
		});
	return true;
}

/*
 * Who was responsible at first is no event: the column tells it until it changes.
 */
static bool
append_responsible(Appending *appending, AppendedEvent event, const DealNumbers *numbers,
				   TupleTableSlot *before, TupleTableSlot *now)
{
	bool		was_null;
	bool		isnull;
	int64		was = gate_number(before, numbers->manager_id, &was_null);
	int64		is = gate_number(now, numbers->manager_id, &isnull);

	if (was_null == isnull && (isnull || was == is))
		return false;
	event.kind = "responsible";
	event.value = isnull ? NULL : psprintf(INT64_FORMAT, is);
	event.value_before = was_null ? NULL : psprintf(INT64_FORMAT, was);
	append_event(appending, &event);
	return true;
}

/* A field set, changed or emptied. */
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
append_differences(FactStatement *statement, Appending *appending,
				   const DealNumbers *numbers, TupleTableSlot *before, TupleTableSlot *now,
				   List *names)
{
	AppendedEvent event = {0};
	bool		any;
	bool		isnull;

	event.account_id = gate_number(now, numbers->account_id, &isnull);
	event.deal_id = gate_number(now, numbers->id, &isnull);
	event.first = before == NULL;
	event.at = before ? GetCurrentTransactionStartTimestamp() :
		DatumGetTimestampTz(slot_getattr(now, numbers->created_at, &isnull));

	any = append_stage(statement, appending, event, numbers, before, now);
	if (before != NULL)
	{
		instant		was = DatumGetTimestampTz(slot_getattr(before, numbers->created_at, &isnull));
		instant		is = DatumGetTimestampTz(slot_getattr(now, numbers->created_at, &isnull));

		any |= append_responsible(appending, event, numbers, before, now);
		if (was != is)
			append_moved(appending, event.account_id, event.deal_id, was, is);
	}
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
		if (statement->mode == TOUCH_ENFORCE)
			enforce_deal(statement, is_before ? before.slot : NULL,
						 is_now ? now.slot : NULL, &numbers);
		if (is_before)
		{
			old_key.account_id = gate_number(before.slot, numbers.account_id, &isnull);
			old_key.deal_id = gate_number(before.slot, numbers.id, &isnull);
			(void) touched_add(old_key.account_id, old_key.deal_id, statement->mode, 0);
		}
		if (!is_now)
			continue;
		new_key.account_id = gate_number(now.slot, numbers.account_id, &isnull);
		new_key.deal_id = gate_number(now.slot, numbers.id, &isnull);
		if (touched_add(new_key.account_id, new_key.deal_id, statement->mode,
						inserted ? TOUCHED_INSERTED : 0) && inserted)
			keys_add(&statement->lock_keys, new_key.account_id, new_key.deal_id);

		/* another key is another deal: nothing happened to this one */
		if (appending == NULL || (is_before && keys_compare(&old_key, &new_key) != 0))
			continue;
		if (names_account != new_key.account_id)
		{
			names = custom_names(new_key.account_id);
			names_account = new_key.account_id;
		}
		old = MemoryContextSwitchTo(row_context);
		appended = append_differences(statement, appending, &numbers,
									  is_before ? before.slot : NULL, now.slot, names);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row_context);
		if (statement->mode == TOUCH_RECORD && (inserted || appended))
			keys_add(&statement->follow, new_key.account_id, new_key.deal_id);
		if (statement->mode == TOUCH_ENFORCE && appended && !inserted)
			keys_add(&statement->changed, new_key.account_id, new_key.deal_id);
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

	if (!gate_begin(fcinfo, "deal_changed", &statement))
		return PointerGetDatum(NULL);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	statement.context = CurrentMemoryContext;
	tables_enter(&scope, true);
	if (statement.mode != TOUCH_INGEST && statement.trigdata->tg_newtable != NULL)
		appending = append_begin(statement.role);
	note_deals(&statement, appending);
	gate_lock(&statement);
	if (appending != NULL)
		append_end(appending);
	if (statement.follow.n > 0)
	{
		keep_told(&statement, statement.trigdata->tg_oldtable == NULL ? DT_NOBEGIN :
				  GetCurrentTransactionStartTimestamp());
		gate_follow(&statement);
	}
	if (statement.mode == TOUCH_ENFORCE)
		enforce_statement(&statement);
	tables_leave(&scope);
	SPI_finish();
	gate_end();
	return PointerGetDatum(NULL);
}
