/*-------------------------------------------------------------------------
 *
 * columns.c
 *	  Setting the columns of deals by their events.
 *
 * In mode "record" an inserted event is the fact, and the deal's columns
 * follow the latest one (DESIGN section 3); after a load in mode "off",
 * rejudge() does the same.  What the columns ought to be, derive.c finds out
 * along with the timeline; here it is written, one UPDATE for many deals, of
 * those columns only that are not right.
 *
 * Events that we appended, and that gave way to loaded ones, are removed here
 * too, so that a report counts each move once.
 *
 * The columns of a synced account are left alone: they are amoCRM's, and may
 * know more than the events that have come so far.
 *
 * One thing only a column knows: who was responsible before the first event
 * that says so.  Before that column is overwritten, it becomes an event at the
 * deal's creation.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "columns.h"
#include "gate.h"
#include "stage.h"
#include "tables.h"

/* Deals read and written at a time. */
#define BATCH			2000

struct ColumnChanges
{
	int64		account_id;
	MemoryContext context;
	BulkColumn	deals;
	BulkColumn	stale;
	BulkColumn	stage;
	BulkColumn	manager;
	BulkColumn	fields[FIELD_COLUMNS];
	BulkColumn	custom_set;		/* jsonb object as text */
	BulkColumn	custom_gone;	/* jsonb array as text */
	BulkColumn	first_deals;
	BulkColumn	first_managers;
	BulkColumn	gone;			/* events */
};

#define KEEP(bit, column) \
	" " column " = case when u.stale & " bit " <> 0 then u." column " else d." column " end"

/* The rows are locked, so each is where it is found. */
static Statement set_columns = {
	"update regcrm.deal d set"
	KEEP("1", "stage") ","
	KEEP("2", "manager_id") ","
	" custom = case when u.stale & 4 <> 0 then (d.custom - array(select"
	" jsonb_array_elements_text(u.custom_gone::jsonb))) || u.custom_set::jsonb else d.custom end,"
	KEEP("8", "lead_date") ","
	KEEP("16", "reason") ","
	KEEP("32", "pause_reason") ","
	KEEP("64", "meeting_at") ","
	KEEP("128", "return_on") ","
	KEEP("256", "agreed_at") ","
	KEEP("512", "signed_at") ","
	KEEP("1024", "paid_at") ","
	KEEP("2048", "skip_task_check")
	" from (select v.*, f.tid"
	" from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
	" v(deal_id, stale, stage, manager_id, lead_date, reason, pause_reason, meeting_at,"
	" return_on, agreed_at, signed_at, paid_at, skip_task_check, custom_set, custom_gone)"
	" cross join lateral (select f.ctid as tid from regcrm.deal f"
	" where f.account_id = $1 and f.id = v.deal_id offset 0) f offset 0) u"
	" where d.ctid = u.tid",
	16, {INT8OID, INT8ARRAYOID, INT4ARRAYOID, ARG_STAGES, INT8ARRAYOID, DATEARRAYOID,
		TEXTARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, DATEARRAYOID,
		TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID}
};
static Statement keep_first_managers = {
	"insert into regcrm.event (account_id, deal_id, at, kind, value, source)"
	" select $1, d.id, d.created_at, 'responsible', u.manager_id::text, 'regcrm'"
	" from unnest($2, $3) u(deal_id, manager_id) cross join lateral"
	" (select f.id, f.created_at from regcrm.deal f"
	" where f.account_id = $1 and f.id = u.deal_id offset 0) d order by d.id",
	3, {INT8OID, INT8ARRAYOID, INT8ARRAYOID}
};
static Statement remove_events = {
	"delete from regcrm.event where source = 'regcrm' and ctid = any (array("
	"select e.tid from unnest($2) u(id) cross join lateral"
	" (select f.ctid as tid from regcrm.event f"
	" where f.account_id = $1 and f.id = u.id offset 0) e))",
	2, {INT8OID, INT8ARRAYOID}
};

/* Begins a new batch. */
static void
reset(ColumnChanges *changes)
{
	static const Oid types[] = {
		[FIELD_TEXT] = TEXTOID,[FIELD_DATE] = DATEOID,
		[FIELD_MOMENT] = TIMESTAMPTZOID,[FIELD_FLAG] = BOOLOID
	};
	MemoryContext context = changes->context;
	int64		account_id = changes->account_id;

	MemoryContextReset(context);
	memset(changes, 0, sizeof(*changes));
	changes->context = context;
	changes->account_id = account_id;
	changes->deals.type = changes->manager.type = changes->first_deals.type =
		changes->first_managers.type = changes->gone.type = INT8OID;
	changes->stale.type = INT4OID;
	changes->stage.type = ARG_STAGE;
	changes->custom_set.type = changes->custom_gone.type = TEXTOID;
	for (int i = 0; i < FIELD_COLUMNS; i++)
		changes->fields[i].type = types[field_columns[i].type];
}

ColumnChanges *
columns_begin(int64 account_id)
{
	ColumnChanges *changes = palloc0(sizeof(ColumnChanges));

	changes->account_id = account_id;
	changes->context = AllocSetContextCreate(CurrentMemoryContext, "regcrm columns",
											 ALLOCSET_DEFAULT_SIZES);
	reset(changes);
	return changes;
}

/* Keys of custom as an object of those set and an array of those removed. */
static void
add_custom(ColumnChanges *changes, const DealColumns *columns)
{
	StringInfoData set;
	StringInfoData gone;

	initStringInfo(&set);
	initStringInfo(&gone);
	appendStringInfoChar(&set, '{');
	appendStringInfoChar(&gone, '[');
	for (int i = 0; i < columns->ncustom; i++)
	{
		StringInfo	out = columns->custom_values[i] ? &set : &gone;

		if (out->len > 1)
			appendStringInfoChar(out, ',');
		escape_json(out, columns->custom_names[i]);
		if (columns->custom_values[i] != NULL)
		{
			appendStringInfoChar(out, ':');
			escape_json(out, columns->custom_values[i]);
		}
	}
	appendStringInfoChar(&set, '}');
	appendStringInfoChar(&gone, ']');
	bulk_add_text(&changes->custom_set, set.data);
	bulk_add_text(&changes->custom_gone, gone.data);
}

bool
columns_add(ColumnChanges *changes, const DealLine *deal)
{
	const DealColumns *columns = &deal->columns;
	MemoryContext old;

	if (columns->stale == 0 && columns->ngone == 0)
		return false;
	old = MemoryContextSwitchTo(changes->context);
	for (int i = 0; i < columns->ngone; i++)
		bulk_add(&changes->gone, Int64GetDatum(columns->gone[i]), false);
	if (columns->stale != 0)
	{
		bulk_add(&changes->deals, Int64GetDatum(deal->line.deal_id), false);
		bulk_add(&changes->stale, Int32GetDatum(columns->stale), false);
		bulk_add(&changes->stage, StageGetDatum(columns->stage), columns->stage == 0);
		bulk_add(&changes->manager, Int64GetDatum(columns->manager_id),
				 columns->manager_id == NO_MANAGER);
		for (int i = 0; i < FIELD_COLUMNS; i++)
		{
			const FieldValue *value = &columns->fields[i];
			bool		isnull = value->isnull || (columns->stale & (STALE_FIELD << i)) == 0;
			bool		byval = field_columns[i].type != FIELD_TEXT;

			bulk_add(&changes->fields[i], isnull ? (Datum) 0 :
					 datumCopy(value->datum, byval, byval ? sizeof(Datum) : -1), isnull);
		}
		add_custom(changes, columns);
	}
	if (columns->keep_first_manager)
	{
		bulk_add(&changes->first_deals, Int64GetDatum(deal->line.deal_id), false);
		bulk_add(&changes->first_managers, Int64GetDatum(columns->first_manager),
				 columns->first_manager == NO_MANAGER);
	}
	MemoryContextSwitchTo(old);
	return true;
}

/* Writes what follows from the events themselves. */
static void
write_events(ColumnChanges *changes)
{
	Datum		args[3];

	args[0] = Int64GetDatum(changes->account_id);
	if (changes->gone.n > 0)
	{
		args[1] = bulk_array(&changes->gone);
		(void) statement_write(&remove_events, args);
	}
	if (changes->first_deals.n > 0)
	{
		args[1] = bulk_array(&changes->first_deals);
		args[2] = bulk_array(&changes->first_managers);
		(void) statement_write(&keep_first_managers, args);
	}
}

static void
write_deals(ColumnChanges *changes)
{
	Datum		args[16];

	args[0] = Int64GetDatum(changes->account_id);
	args[1] = bulk_array(&changes->deals);
	args[2] = bulk_array(&changes->stale);
	args[3] = bulk_array(&changes->stage);
	args[4] = bulk_array(&changes->manager);
	for (int i = 0; i < FIELD_COLUMNS; i++)
		args[5 + i] = bulk_array(&changes->fields[i]);
	args[14] = bulk_array(&changes->custom_set);
	args[15] = bulk_array(&changes->custom_gone);
	(void) statement_write(&set_columns, args);
}

int64
columns_flush(ColumnChanges *changes)
{
	MemoryContext old = MemoryContextSwitchTo(changes->context);
	int64		n = changes->deals.n;

	gate_write_quietly("event", (gate_writer) write_events, changes);
	if (n > 0)
		gate_write_quietly("deal", (gate_writer) write_deals, changes);
	MemoryContextSwitchTo(old);
	reset(changes);
	return n;
}

/*
 * Locks first and reads then: of two transactions that each add an event, the
 * second sees that of the first, and the column is the later one's.
 */
void
columns_follow(int64 account_id, const int64 *ids, int n)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "regcrm follow",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (int from = 0; from < n; from += BATCH)
	{
		int			count = Min(BATCH, n - from);
		ColumnChanges *changes;
		Account    *account;
		TimelineReader *reader;
		const DealLine *deal;

		CHECK_FOR_INTERRUPTS();
		tables_measure();
		locks_take_rows(account_id, ids + from, count);
		PushActiveSnapshot(GetLatestSnapshot());
		account = account_read(account_id);
		if (account != NULL && !account->synced)
		{
			changes = columns_begin(account_id);
			reader = timeline_open(account, ids + from, count, INSTANT_EVER,
								   TIMELINE_COLUMNS | TIMELINE_NO_TASKS);
			while ((deal = timeline_next(reader)) != NULL)
				(void) columns_add(changes, deal);
			timeline_close(reader);
			(void) columns_flush(changes);
		}
		PopActiveSnapshot();
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
