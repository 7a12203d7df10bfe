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
 * Readings chosen here:
 *	- The regulation does not bind an act whose actor_id is a manager out of
 *	  scope; who added and closed a task is taken to be its manager_id, unless
 *	  a bot added it: nothing else tells.
 *	- What the client does is never a bot's, nor is a call (DESIGN section 3).
 *	- A deal that is_deleted without deleted_at was deleted at updated_at.
 *	- Events without source_id come after those with one, as "order by" has it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "stage.h"
#include "tables.h"
#include "timeline_int.h"

/* Rows fetched at a time. */
#define FETCH_ROWS		500

#define DEAL_COLUMNS \
	"select d.id, stage, manager_id, created_at, updated_at," \
	" coalesce(deleted_at, case when is_deleted then coalesce(updated_at, created_at) end)," \
	" lead_date, reason, pause_reason, meeting_at, return_on, agreed_at, signed_at," \
	" paid_at, skip_task_check, in_regulation"
#define DEAL_CUSTOM \
	", (select array_agg(d.custom ->> n.name order by n.place)" \
	" from unnest($3::text[]) with ordinality n(name, place))"
#define EVENT_COLUMNS \
	"select deal_id, at, e.id, kind, by_bot, actor_id, from_stage, to_stage, answered," \
	" duration, scenario, field, value, value_before, source_id, source = 'regcrm' from "
#define TASK_COLUMNS \
	"select deal_id, t.id, kind, manager_id, created_at, by_bot, due_at, completed_at," \
	" deleted_at from "
/* the deals whose ids are given, and whose rows they are */
#define KEYS			"unnest($2) u(deal) join "

enum
{
	DEAL_ID, DEAL_STAGE, DEAL_MANAGER_ID, DEAL_CREATED_AT, DEAL_UPDATED_AT,
	DEAL_DELETED_AT, DEAL_FIRST_FIELD,
	DEAL_IN_REGULATION = DEAL_FIRST_FIELD + FIELD_COLUMNS, DEAL_CUSTOM_VALUES
};

enum
{
	EVENT_DEAL_ID, EVENT_AT, EVENT_ID, EVENT_KIND, EVENT_BY_BOT, EVENT_ACTOR_ID,
	EVENT_FROM_STAGE, EVENT_TO_STAGE, EVENT_ANSWERED, EVENT_DURATION,
	EVENT_SCENARIO, EVENT_FIELD, EVENT_VALUE, EVENT_VALUE_BEFORE,
	EVENT_SOURCE_ID, EVENT_APPENDED, EVENT_NCOLUMNS
};

enum
{
	TASK_DEAL_ID, TASK_ID, TASK_KIND, TASK_MANAGER_ID, TASK_CREATED_AT,
	TASK_BY_BOT, TASK_DUE_AT, TASK_COMPLETED_AT, TASK_DELETED_AT, TASK_NCOLUMNS
};

#define ALL_DEALS		" from regcrm.deal d where account_id = $1 order by account_id, d.id"
#define SOME_DEALS \
	" from " KEYS "regcrm.deal d on d.account_id = $1 and d.id = u.deal order by d.id"

/* By [custom fields too][ids given] */
static Statement deal_statements[2][2] = {
	{{DEAL_COLUMNS ALL_DEALS, 1, {INT8OID}, true},
	{DEAL_COLUMNS SOME_DEALS, 2, {INT8OID, INT8ARRAYOID}}},
	{{DEAL_COLUMNS DEAL_CUSTOM ALL_DEALS, 3, {INT8OID, INT8ARRAYOID, TEXTARRAYOID}, true},
	{DEAL_COLUMNS DEAL_CUSTOM SOME_DEALS, 3, {INT8OID, INT8ARRAYOID, TEXTARRAYOID}}}
};
static Statement event_statements[2] = {
	{EVENT_COLUMNS "regcrm.event e where account_id = $1 and deal_id is not null"
	" order by account_id, deal_id, at", 1, {INT8OID}, true},
	{EVENT_COLUMNS KEYS "regcrm.event e on e.account_id = $1 and e.deal_id = u.deal"
	" order by e.deal_id", 2, {INT8OID, INT8ARRAYOID}}
};
static Statement task_statements[2] = {
	{TASK_COLUMNS "regcrm.task t where account_id = $1 and deal_id is not null"
	" order by account_id, deal_id, created_at", 1, {INT8OID}, true},
	{TASK_COLUMNS KEYS "regcrm.task t on t.account_id = $1 and t.deal_id = u.deal"
	" order by t.deal_id", 2, {INT8OID, INT8ARRAYOID}}
};

/* Rows of a cursor, one at a time. */
typedef struct Stream
{
	Portal		portal;
	SPITupleTable *table;
	uint64		n;
	uint64		next;
	bool		there;			/* a row is at hand */
	int64		deal_id;		/* its deal: the first column */
	Datum	   *values;
	bool	   *nulls;
} Stream;

/* ---- cursors ---- */

static void
stream_next(Stream *stream)
{
	if (stream->next == stream->n)
	{
		if (stream->table != NULL)
			SPI_freetuptable(stream->table);
		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(stream->portal, true, FETCH_ROWS);
		stream->table = SPI_tuptable;
		stream->n = SPI_processed;
		stream->next = 0;
	}
	stream->there = stream->n > 0;
	if (!stream->there)
		return;
	heap_deform_tuple(stream->table->vals[stream->next++], stream->table->tupdesc,
					  stream->values, stream->nulls);
	stream->deal_id = DatumGetInt64(stream->values[0]);
}

static Stream *
stream_open(Statement *statement, Datum *args, int columns)
{
	Stream	   *stream = palloc0(sizeof(Stream));

	stream->portal = SPI_cursor_open(NULL, statement_plan(statement), args, NULL, true);
	stream->values = palloc(columns * sizeof(Datum));
	stream->nulls = palloc(columns * sizeof(bool));
	stream_next(stream);
	return stream;
}

static void
stream_close(Stream *stream)
{
	if (stream == NULL)
		return;
	if (stream->table != NULL)
		SPI_freetuptable(stream->table);
	SPI_cursor_close(stream->portal);
}

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

static void *
grow(void *self, void *old, size_t size)
{
	return old ? repalloc_huge(old, size) : MemoryContextAllocHuge(self, size);
}

TimelineReader *
timeline_open(const Account *account, const int64 *ids, int nids, instant as_of, int flags)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "regcrm timeline",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	TimelineReader *reader = palloc0(sizeof(TimelineReader));
	BulkColumn	custom = {.type = TEXTOID};
	int			some = ids != NULL;
	Memory		memory = {grow, context};
	Datum		args[3];

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
	args[1] = tables_ids(ids, some ? nids : 0);
	args[2] = bulk_array(&custom);
	reader->deals = stream_open(&deal_statements[custom.n > 0][some], args,
								DEAL_CUSTOM_VALUES + 1);
	reader->events = stream_open(&event_statements[some], args, EVENT_NCOLUMNS);
	if (!(flags & TIMELINE_NO_TASKS))
		reader->tasks = stream_open(&task_statements[some], args, TASK_NCOLUMNS);
	MemoryContextSwitchTo(old);
	return reader;
}

void
timeline_close(TimelineReader *reader)
{
	stream_close(reader->tasks);
	stream_close(reader->events);
	stream_close(reader->deals);
	MemoryContextDelete(reader->context);
}


/* ---- rows into facts ---- */

RawFact *
timeline_raw(TimelineReader *reader)
{
	RawFact    *raw;

	if (reader->nraw == reader->room_raw)
	{
		reader->room_raw = reader->room_raw ? reader->room_raw * 2 : 64;
		reader->raw = grow(reader->context, reader->raw, reader->room_raw * sizeof(RawFact));
	}
	raw = &reader->raw[reader->nraw++];
	memset(raw, 0, sizeof(*raw));
	raw->slot = -1;
	return raw;
}

int16
timeline_stage(const TimelineReader *reader, stage_code stage, int otherwise)
{
	int			number = stage ? rules_stage(reader->regulation, stage) : otherwise;

	return (int16) (number == NO_NUMBER ? STAGE_UNKNOWN : number);
}

static instant
instant_of(const Stream *stream, int column, instant otherwise)
{
	return stream->nulls[column] ? otherwise : DatumGetTimestampTz(stream->values[column]);
}

static stage_code
stage_of(const Stream *stream, int column)
{
	return stream->nulls[column] ? 0 : DatumGetStage(stream->values[column]);
}

static int64
manager_of(const Stream *stream, int column)
{
	return stream->nulls[column] ? NO_MANAGER : DatumGetInt64(stream->values[column]);
}

static const char *
text_of(const Stream *stream, int column)
{
	return stream->nulls[column] ? NULL : TextDatumGetCString(stream->values[column]);
}

static bool
flag_of(const Stream *stream, int column)
{
	return !stream->nulls[column] && DatumGetBool(stream->values[column]);
}

static bool
is_kind(const Stream *stream, int column, const char *name)
{
	const text *kind = (const text *) DatumGetPointer(stream->values[column]);
	size_t		len = strlen(name);

	return VARSIZE_ANY_EXHDR(kind) == len && memcmp(VARDATA_ANY(kind), name, len) == 0;
}

/* False where the judge knows nothing of such events. */
static bool
kind_of_event(const Stream *events, FactKind *kind)
{
	static const struct
	{
		const char *name;
		FactKind	kind;
	}			kinds[] = {
		{"field", FACT_FIELD},
		{"stage", FACT_MOVE},
		{"call_out", FACT_CALL_OUT},
		{"call_in", FACT_CALL_IN},
		{"message_out", FACT_MESSAGE_OUT},
		{"message_in", FACT_MESSAGE_IN},
		{"comment", FACT_COMMENT},
		{"scenario", FACT_SCENARIO},
		{"responsible", FACT_RESPONSIBLE},
		{"robot", FACT_ROBOT},
		{"request", FACT_REQUEST},
		{"visit", FACT_VISIT},
		{"verdict", FACT_VERDICT},
	};

	for (int i = 0; i < lengthof(kinds); i++)
		if (is_kind(events, EVENT_KIND, kinds[i].name))
		{
			*kind = kinds[i].kind;
			return true;
		}
	return false;
}

/* Microseconds, a day as 24 hours; whatever is too long, is as long as can be. */
static int64
duration_of(const Stream *stream, int column)
{
	const Interval *interval;
	int64		duration;

	if (stream->nulls[column])
		return -1;
	interval = DatumGetIntervalP(stream->values[column]);
	if (pg_mul_s64_overflow((int64) interval->month * DAYS_PER_MONTH + interval->day,
							USECS_PER_DAY, &duration) ||
		pg_add_s64_overflow(duration, interval->time, &duration))
		return PG_INT64_MAX;
	return duration;
}

/* The field that an event names: its slot, else a number of its own. */
static void
name_field(TimelineReader *reader, RawFact *raw, const char *name)
{
	int			i;

	for (i = 0; i < reader->nslots; i++)
		if (strcmp(reader->slots[i].name, name) == 0)
		{
			raw->slot = i;
			raw->fact.u.field.number = reader->slots[i].number;
			return;
		}
	raw->fact.u.field.number = rules_field(reader->regulation, name, strlen(name));
	if (raw->fact.u.field.number >= 0)
		return;
	for (i = 0; i < reader->nothers; i++)
		if (strcmp(reader->others[i], name) == 0)
			break;
	if (i == reader->nothers)
	{
		if (reader->nothers == reader->room_others)
		{
			reader->room_others = reader->room_others ? reader->room_others * 2 : 16;
			reader->others = grow(reader->context, reader->others,
								  reader->room_others * sizeof(char *));
		}
		reader->others[reader->nothers++] = name;
	}
	raw->fact.u.field.number = reader->first_other + i;
}

/* What a kind of event has of its own; false where it can't be understood. */
static bool
read_details(TimelineReader *reader, RawFact *raw)
{
	const Stream *events = reader->events;
	Fact	   *fact = &raw->fact;
	const char *name;

	switch ((FactKind) fact->kind)
	{
		case FACT_MOVE:
			raw->to_stage = stage_of(events, EVENT_TO_STAGE);
			fact->u.move.from = timeline_stage(reader, stage_of(events, EVENT_FROM_STAGE),
											   STAGE_NONE);
			fact->u.move.to = timeline_stage(reader, raw->to_stage, STAGE_UNKNOWN);
			return true;

		case FACT_CALL_IN:
		case FACT_CALL_OUT:
			fact->flags &= ~FACT_BY_BOT;
			fact->u.call.duration = duration_of(events, EVENT_DURATION);
			if (events->nulls[EVENT_ANSWERED] ?
				fact->u.call.duration >= reader->regulation->min_talk :
				DatumGetBool(events->values[EVENT_ANSWERED]))
				fact->flags |= FACT_ANSWERED;
			if (fact->u.call.duration < 0)
				fact->u.call.duration = 0;
			return true;

		case FACT_MESSAGE_IN:
		case FACT_REQUEST:
		case FACT_VISIT:
			fact->flags &= ~FACT_BY_BOT;
			return true;

		case FACT_SCENARIO:
			name = text_of(events, EVENT_SCENARIO);
			fact->u.scenario.number = name ?
				regulation_scenario(reader->account->regulation, name) : NO_NUMBER;
			return true;

		case FACT_FIELD:
			name = text_of(events, EVENT_FIELD);
			if (name == NULL)
				return false;
			raw->text = text_of(events, EVENT_VALUE);
			raw->text_before = text_of(events, EVENT_VALUE_BEFORE);
			name_field(reader, raw, name);
			return true;

		case FACT_RESPONSIBLE:
			raw->text = text_of(events, EVENT_VALUE);
			raw->text_before = text_of(events, EVENT_VALUE_BEFORE);
			return true;

		case FACT_VERDICT:
			name = text_of(events, EVENT_FIELD);
			fact->u.verdict.code = name ?
				rules_code(reader->regulation, name, strlen(name)) : NO_NUMBER;
			if (events->nulls[EVENT_VALUE])
				return false;
			if (is_kind(events, EVENT_VALUE, "pass"))
				fact->flags |= FACT_PASS;
			return true;

		default:
			return true;
	}
}

static void
read_event(TimelineReader *reader)
{
	const Stream *events = reader->events;
	RawFact    *raw;
	FactKind	kind;

	if (!kind_of_event(events, &kind))
		return;
	raw = timeline_raw(reader);
	raw->fact.at = instant_of(events, EVENT_AT, INSTANT_EVER);
	raw->fact.id = DatumGetInt64(events->values[EVENT_ID]);
	raw->fact.kind = kind;
	if (flag_of(events, EVENT_BY_BOT))
		raw->fact.flags |= FACT_BY_BOT;
	if (!events->nulls[EVENT_ACTOR_ID] &&
		account_is_outsider(reader->account, DatumGetInt64(events->values[EVENT_ACTOR_ID])))
		raw->fact.flags |= FACT_OUT_OF_SCOPE;
	raw->source_id = text_of(events, EVENT_SOURCE_ID);
	raw->appended = flag_of(events, EVENT_APPENDED);
	if (!read_details(reader, raw))
		reader->nraw--;
}

static void
add_task_fact(TimelineReader *reader, FactKind kind, instant at, const Fact *task)
{
	RawFact    *raw = timeline_raw(reader);

	raw->is_task = true;
	raw->fact = *task;
	raw->fact.kind = kind;
	raw->fact.at = at;
}

static void
read_task(TimelineReader *reader)
{
	const Stream *tasks = reader->tasks;
	Fact		task = {0};
	instant		added = instant_of(tasks, TASK_CREATED_AT, reader->deal.created_at);
	instant		done = instant_of(tasks, TASK_COMPLETED_AT, INSTANT_NEVER);
	instant		gone = instant_of(tasks, TASK_DELETED_AT, INSTANT_NEVER);
	int64		manager = manager_of(tasks, TASK_MANAGER_ID);
	char	   *kind = TextDatumGetCString(tasks->values[TASK_KIND]);

	task.id = DatumGetInt64(tasks->values[TASK_ID]);
	task.u.task.kind = rules_task_kind(reader->regulation, kind, strlen(kind));
	task.u.task.due_at = instant_of(tasks, TASK_DUE_AT, INSTANT_NEVER);
	if (flag_of(tasks, TASK_BY_BOT))
		task.flags |= FACT_BY_BOT;
	if (manager != NO_MANAGER && account_is_outsider(reader->account, manager))
		task.flags |= FACT_OUT_OF_SCOPE;

	if (task.flags & FACT_BY_BOT)
	{
		Fact		by_bot = task;

		by_bot.flags &= ~FACT_OUT_OF_SCOPE;
		add_task_fact(reader, FACT_TASK_ADDED, added, &by_bot);
	}
	else
		add_task_fact(reader, FACT_TASK_ADDED, added, &task);
	/* a task can't be done before it is there, whatever two clocks say */
	if (done != INSTANT_NEVER)
		add_task_fact(reader, FACT_TASK_DONE, Max(done, added), &task);
	if (gone != INSTANT_NEVER && gone < done)
		add_task_fact(reader, FACT_TASK_GONE, Max(gone, added), &task);
}

static void
read_deal(TimelineReader *reader)
{
	const Stream *deals = reader->deals;
	DealRow    *deal = &reader->deal;
	pg_tz	   *zone = reader->account->zone;
	Datum	   *custom = NULL;
	bool	   *nulls = NULL;
	int			ncustom = 0;

	deal->id = deals->deal_id;
	deal->stage = stage_of(deals, DEAL_STAGE);
	deal->manager_id = manager_of(deals, DEAL_MANAGER_ID);
	deal->created_at = instant_of(deals, DEAL_CREATED_AT, INSTANT_EVER);
	deal->updated_at = instant_of(deals, DEAL_UPDATED_AT, INSTANT_EVER);
	deal->deleted_at = instant_of(deals, DEAL_DELETED_AT, INSTANT_NEVER);
	deal->in_regulation = flag_of(deals, DEAL_IN_REGULATION);

	if (reader->nslots > FIELD_COLUMNS && !deals->nulls[DEAL_CUSTOM_VALUES])
		deconstruct_array(DatumGetArrayTypeP(deals->values[DEAL_CUSTOM_VALUES]),
						  TEXTOID, -1, false, TYPALIGN_INT, &custom, &nulls, &ncustom);
	for (int i = 0; i < reader->nslots; i++)
	{
		Slot	   *slot = &reader->slots[i];
		int			k = i - FIELD_COLUMNS;

		slot->first = slot->last = -1;
		if (i < FIELD_COLUMNS)
		{
			/* texts are looked at until the next deal is read, not longer than the row */
			slot->present = field_of_datum(deals->values[DEAL_FIRST_FIELD + i],
										   deals->nulls[DEAL_FIRST_FIELD + i],
										   slot->type, zone);
			continue;
		}
		slot->custom = k < ncustom && !nulls[k] ? TextDatumGetCString(custom[k]) : NULL;
		slot->present = field_read(slot->custom, FIELD_CUSTOM, zone);
	}
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
	read_deal(reader);
	for (; reader->events->there && reader->events->deal_id <= reader->deal.id;
		 stream_next(reader->events))
		if (reader->events->deal_id == reader->deal.id)
			read_event(reader);
	if (reader->tasks != NULL)
		for (; reader->tasks->there && reader->tasks->deal_id <= reader->deal.id;
			 stream_next(reader->tasks))
			if (reader->tasks->deal_id == reader->deal.id)
				read_task(reader);
	qsort(reader->raw, reader->nraw, sizeof(RawFact), compare_raw);
	derive_line(reader);
	/* the row at hand is done with; its texts were copied */
	stream_next(reader->deals);
	MemoryContextSwitchTo(old);
	return &reader->result;
}
