/*-------------------------------------------------------------------------
 *
 * timeline.c
 *	  Rows into timelines, many deals in one ordered pass.
 *
 * Three cursors walk over deal, event and task in the order of the deals' ids,
 * side by side, each fetching some hundreds of rows at a time; a deal's rows
 * are gathered, ordered by what they are (judge.h), completed with what they
 * imply (derive.c) and handed out.  One deal and a million deals go the same
 * way; memory is that of the largest deal.
 *
 * The cursors order by plain columns that an index has (event_deal_idx,
 * task_deal_idx, the primary key of deal), so that the order of one instant's
 * facts, which is rarely asked for, costs nothing where it is not.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "timeline_int.h"

#define DEAL_COLUMNS \
	"select d.id, stage, manager_id, created_at, updated_at," \
	" coalesce(deleted_at, case when is_deleted then coalesce(updated_at, created_at) end)," \
	" lead_date, reason, pause_reason, meeting_at, return_on, agreed_at, signed_at," \
	" paid_at, skip_task_check, in_regulation"
#define DEAL_CUSTOM(names) \
	", (select array_agg(d.custom ->> n.name order by n.place)" \
	" from unnest(" names "::text[]) with ordinality n(name, place))"
#define EVENT_COLUMNS \
	"select deal_id, at, e.id, kind, by_bot, actor_id, from_stage, to_stage, answered," \
	" duration, scenario, field, value, value_before, source_id, source = 'regcrm' from "
#define TASK_COLUMNS \
	"select deal_id, t.id, kind, manager_id, created_at, by_bot, due_at, completed_at," \
	" deleted_at from "
/*
 * The rows of the deals whose ids are given.  LATERAL and OFFSET leave the
 * planner one way to go: from each id to its rows.
 */
#define SOME(table, id) \
	"unnest($2) u(deal) cross join lateral (select * from regcrm." table " f" \
	" where f.account_id = $1 and f." id " = u.deal offset 0) "

#define ALL_DEALS		" from regcrm.deal d where account_id = $1 order by account_id, d.id"
#define RANGE(id)		" and " id " between $2 and $3"
#define RANGE_OF_DEALS \
	" from regcrm.deal d where account_id = $1" RANGE("d.id") " order by account_id, d.id"
#define SOME_DEALS		" from " SOME("deal", "id") "d order by d.id"

/* By [custom fields too] and which deals: all, by their ids, those of a range. */
enum
{
	ALL, SOME_IDS, IN_RANGE
};

static Statement deal_statements[2][3] = {
	{{DEAL_COLUMNS ALL_DEALS, 1, {INT8OID}, true},
	{DEAL_COLUMNS SOME_DEALS, 2, {INT8OID, INT8ARRAYOID}},
	{DEAL_COLUMNS RANGE_OF_DEALS, 3, {INT8OID, INT8OID, INT8OID}}},
	{{DEAL_COLUMNS DEAL_CUSTOM("$2") ALL_DEALS, 2, {INT8OID, TEXTARRAYOID}, true},
	{DEAL_COLUMNS DEAL_CUSTOM("$3") SOME_DEALS, 3, {INT8OID, INT8ARRAYOID, TEXTARRAYOID}},
	{DEAL_COLUMNS DEAL_CUSTOM("$4") RANGE_OF_DEALS, 4, {INT8OID, INT8OID, INT8OID, TEXTARRAYOID}}}
};
static Statement event_statements[3] = {
	{EVENT_COLUMNS "regcrm.event e where account_id = $1 and deal_id is not null"
	" order by account_id, deal_id, at", 1, {INT8OID}, true},
	{EVENT_COLUMNS SOME("event", "deal_id") "e order by e.deal_id", 2, {INT8OID, INT8ARRAYOID}},
	{EVENT_COLUMNS "regcrm.event e where account_id = $1" RANGE("deal_id")
	" order by account_id, deal_id, at", 3, {INT8OID, INT8OID, INT8OID}}
};
static Statement task_statements[3] = {
	{TASK_COLUMNS "regcrm.task t where account_id = $1 and deal_id is not null"
	" order by account_id, deal_id, created_at", 1, {INT8OID}, true},
	{TASK_COLUMNS SOME("task", "deal_id") "t order by t.deal_id", 2, {INT8OID, INT8ARRAYOID}},
	{TASK_COLUMNS "regcrm.task t where account_id = $1" RANGE("deal_id")
	" order by account_id, deal_id, created_at", 3, {INT8OID, INT8OID, INT8OID}}
};

/* The same columns for reading by keys, in the same order; then what is made into others. */
static KeyTable deal_keys = {
	.name = "deal",.keys = {"account_id", "id"},.ncolumns = DEAL_CUSTOM_VALUES + 1,
	.columns = {
		{"id", INT8OID}, {"stage", ARG_STAGE}, {"manager_id", INT8OID},
		{"created_at", TIMESTAMPTZOID}, {"updated_at", TIMESTAMPTZOID},
		{"deleted_at", TIMESTAMPTZOID}, {"lead_date", DATEOID}, {"reason", TEXTOID},
		{"pause_reason", TEXTOID}, {"meeting_at", TIMESTAMPTZOID}, {"return_on", DATEOID},
		{"agreed_at", TIMESTAMPTZOID}, {"signed_at", TIMESTAMPTZOID},
		{"paid_at", TIMESTAMPTZOID}, {"skip_task_check", BOOLOID}, {"in_regulation", BOOLOID},
		{"is_deleted", BOOLOID}
	}
};
static KeyTable event_keys = {
	.name = "event",.keys = {"account_id", "deal_id"},.ncolumns = EVENT_NCOLUMNS,
	.columns = {
		{"deal_id", INT8OID}, {"at", TIMESTAMPTZOID}, {"id", INT8OID}, {"kind", TEXTOID},
		{"by_bot", BOOLOID}, {"actor_id", INT8OID}, {"from_stage", ARG_STAGE},
		{"to_stage", ARG_STAGE}, {"answered", BOOLOID}, {"duration", INTERVALOID},
		{"scenario", TEXTOID}, {"field", TEXTOID}, {"value", TEXTOID},
		{"value_before", TEXTOID}, {"source_id", TEXTOID}, {"source", TEXTOID}
	}
};
static KeyTable task_keys = {
	.name = "task",.keys = {"account_id", "deal_id"},.ncolumns = TASK_NCOLUMNS,
	.columns = {
		{"deal_id", INT8OID}, {"id", INT8OID}, {"kind", TEXTOID}, {"manager_id", INT8OID},
		{"created_at", TIMESTAMPTZOID}, {"by_bot", BOOLOID}, {"due_at", TIMESTAMPTZOID},
		{"completed_at", TIMESTAMPTZOID}, {"deleted_at", TIMESTAMPTZOID}
	}
};

/* What DEAL_COLUMNS makes of columns. */
static void
finish_deal(Datum *values, bool *nulls, KeyReader *reader)
{
	bool		deleted = !nulls[DEAL_CUSTOM_VALUES] && DatumGetBool(values[DEAL_CUSTOM_VALUES]);

	nulls[DEAL_CUSTOM_VALUES] = true;
	if (deleted && nulls[DEAL_DELETED_AT])
	{
		int			column = nulls[DEAL_UPDATED_AT] ? DEAL_CREATED_AT : DEAL_UPDATED_AT;

		values[DEAL_DELETED_AT] = values[column];
		nulls[DEAL_DELETED_AT] = nulls[column];
	}
}

/* What EVENT_COLUMNS makes of columns. */
static void
finish_event(Datum *values, bool *nulls, KeyReader *reader)
{
	const text *source;

	if (nulls[EVENT_APPENDED])
		return;
	source = DatumGetTextPP(values[EVENT_APPENDED]);
	values[EVENT_APPENDED] =
		BoolGetDatum(VARSIZE_ANY_EXHDR(source) == 6 && memcmp(VARDATA_ANY(source), "regcrm", 6) == 0);
}

/* A field that no rule names has a number behind those of the regulation. */
static void
add_slot(TimelineReader *reader, const char *name, FieldType type)
{
	Slot	   *slot = &reader->slots[reader->nslots++];

	slot->name = name;
	slot->type = type;
	slot->number = rules_field(reader->regulation, name, strlen(name));
	if (slot->number < 0)
		slot->number = reader->first_other++;
}

/* Which fields the deal's row shows, and what numbers they have. */
static void
make_slots(TimelineReader *reader, BulkColumn *custom)
{
	const Regulation *regulation = reader->regulation;

	reader->first_other = regulation->nfields;
	reader->slots = palloc0((FIELD_COLUMNS + regulation->nfields) * sizeof(Slot));
	for (int i = 0; i < FIELD_COLUMNS; i++)
		add_slot(reader, field_columns[i].name, field_columns[i].type);
	for (int i = 0; i < regulation->nfields; i++)
	{
		/* what scenario was chosen, its events tell */
		if (field_column(regulation->fields[i]) >= 0 ||
			strcmp(regulation->fields[i], "scenario") == 0)
			continue;
		add_slot(reader, regulation->fields[i], FIELD_CUSTOM);
		bulk_add_text(custom, regulation->fields[i]);
	}
}

int
timeline_field(void *arg, const char *name)
{
	const TimelineReader *reader = arg;

	for (int i = 0; i < reader->nslots; i++)
		if (strcmp(reader->slots[i].name, name) == 0)
			return reader->slots[i].number;
	return NO_NUMBER;
}

Fact
timeline_field_fact(const TimelineReader *reader, int number, const char *text, instant at)
{
	FieldType	type = FIELD_CUSTOM;
	FieldValue	value;
	Fact		fact = {.at = at,.kind = FACT_FIELD};

	for (int i = 0; i < reader->nslots; i++)
		if (reader->slots[i].number == number)
			type = reader->slots[i].type;
	value = field_read(text, type, reader->account->zone);
	fact.u.field.number = number;
	fact.u.field.value = value.holds ? value.hash : 0;
	fact.u.field.moment = value.holds ? value.moment : INSTANT_NEVER;
	if (value.holds)
		fact.flags |= FACT_HOLDS;
	return fact;
}

static void *
grow(void *self, void *old, size_t size)
{
	return old ? repalloc_huge(old, size) : MemoryContextAllocHuge(self, size);
}

/*
 * which: ALL, SOME_IDS or IN_RANGE, with nkeys keys for that; ids: those of
 * SOME_IDS, which are to be there until the reader is closed
 */
static TimelineReader *
open_reader(const Account *account, int which, const Datum *keys, int nkeys,
			const int64 *ids, int nids, instant as_of, int flags)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "regcrm timeline",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	TimelineReader *reader = palloc0(sizeof(TimelineReader));
	BulkColumn	custom = {.type = TEXTOID};
	Memory		memory = {grow, context};
	Datum		args[4];

	reader->account = account;
	reader->regulation = account->regulation->compiled;
	reader->as_of = as_of;
	reader->flags = flags;
	reader->context = context;
	reader->deal_context = AllocSetContextCreate(context, "regcrm deal",
												 ALLOCSET_DEFAULT_SIZES);
	reader->judge = judge_create(reader->regulation, &memory, NULL, NULL);
	make_slots(reader, &custom);

	args[0] = Int64GetDatum(account->id);
	for (int i = 0; i < nkeys; i++)
		args[1 + i] = keys[i];
	args[1 + nkeys] = bulk_array(&custom);
	/* values of custom only the query knows how to find */
	reader->deals = stream_open_keys(&deal_keys, finish_deal, account->id,
									 custom.n > 0 ? NULL : ids, nids,
									 &deal_statements[custom.n > 0][which], args,
									 DEAL_CUSTOM_VALUES + (custom.n > 0));
	reader->events = stream_open_keys(&event_keys, finish_event, account->id, ids, nids,
									  &event_statements[which], args, EVENT_NCOLUMNS);
	if (!(flags & TIMELINE_NO_TASKS))
		reader->tasks = stream_open_keys(&task_keys, NULL, account->id, ids, nids,
										 &task_statements[which], args, TASK_NCOLUMNS);
	MemoryContextSwitchTo(old);
	return reader;
}

TimelineReader *
timeline_open(const Account *account, const int64 *ids, int nids, instant as_of, int flags)
{
	Datum		key;

	if (ids == NULL)
		return open_reader(account, ALL, NULL, 0, NULL, 0, as_of, flags);
	key = tables_ids(ids, nids);
	return open_reader(account, SOME_IDS, &key, 1, ids, nids, as_of, flags);
}

TimelineReader *
timeline_open_range(const Account *account, int64 first, int64 last, instant as_of, int flags)
{
	Datum		keys[2] = {Int64GetDatum(first), Int64GetDatum(last)};

	return open_reader(account, IN_RANGE, keys, 2, NULL, 0, as_of, flags);
}

void
timeline_close(TimelineReader *reader)
{
	stream_close(reader->tasks);
	stream_close(reader->events);
	stream_close(reader->deals);
	MemoryContextDelete(reader->context);
}


/* Events before tasks of one instant; see judge.h. */
static int
compare_raw(const void *a, const void *b)
{
	const RawFact *x = a;
	const RawFact *y = b;

	if (x->fact.at != y->fact.at)
		return x->fact.at < y->fact.at ? -1 : 1;
	if (x->is_task != y->is_task)
		return x->is_task ? 1 : -1;
	if (!x->is_task)
	{
		if ((x->source_id == NULL) != (y->source_id == NULL))
			return x->source_id == NULL ? 1 : -1;
		if (x->source_id != NULL)
		{
			int			order = strcmp(x->source_id, y->source_id);

			if (order != 0)
				return order;
		}
	}
	if (x->fact.id != y->fact.id)
		return x->fact.id < y->fact.id ? -1 : 1;
	return (int) x->fact.kind - (int) y->fact.kind;
}

/*
 * Puts the facts in order.  They come nearly so: events by their instant, then
 * tasks; so keys are sorted first, and then facts of one instant.
 */
static void
sort_raw(TimelineReader *reader)
{
	int			n = reader->nraw;
	bool		sorted = true;
	RawFact    *swap;

	for (int i = 1; i < n && sorted; i++)
		sorted = compare_raw(&reader->raw[i - 1], &reader->raw[i]) <= 0;
	if (sorted)
		return;
	if (reader->room_sorted < reader->room_raw)
	{
		Size		room = reader->room_sorted = reader->room_raw;

		if (reader->sorted != NULL)
		{
			pfree(reader->sorted);
			pfree(reader->keys);
		}
		reader->sorted = MemoryContextAllocHuge(reader->context, room * sizeof(RawFact));
		reader->keys = MemoryContextAllocHuge(reader->context, room * sizeof(InstantKey));
	}
	for (int i = 0; i < n; i++)
		reader->keys[i] = (InstantKey) {reader->raw[i].fact.at, i};
	instants_sort(reader->keys, n);
	for (int i = 0; i < n; i++)
		reader->sorted[i] = reader->raw[reader->keys[i].row];
	for (int i = 0, from = 0; i < n; i++)
	{
		if (i + 1 < n && reader->sorted[i + 1].fact.at == reader->sorted[from].fact.at)
			continue;
		if (i > from)
			qsort(&reader->sorted[from], i + 1 - from, sizeof(RawFact), compare_raw);
		from = i + 1;
	}
	swap = reader->raw;
	reader->raw = reader->sorted;
	reader->sorted = swap;
	/* the two rooms are alike from here on */
	reader->room_raw = reader->room_sorted;
}

const DealLine *
timeline_next(TimelineReader *reader)
{
	MemoryContext old;

	if (!reader->deals->there)
		return NULL;
	MemoryContextReset(reader->deal_context);
	old = MemoryContextSwitchTo(reader->deal_context);
	reader->nraw = 0;
	reader->nothers = 0;
	facts_read_deal(reader);
	for (; reader->events->there && reader->events->deal_id <= reader->deal.id;
		 stream_next(reader->events))
		if (reader->events->deal_id == reader->deal.id)
			facts_read_event(reader);
	if (reader->tasks != NULL)
		for (; reader->tasks->there && reader->tasks->deal_id <= reader->deal.id;
			 stream_next(reader->tasks))
			if (reader->tasks->deal_id == reader->deal.id)
				facts_read_task(reader);
	sort_raw(reader);
	derive_line(reader);
	/* the row at hand is done with; its texts were copied */
	stream_next(reader->deals);
	MemoryContextSwitchTo(old);
	return &reader->result;
}
