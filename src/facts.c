/*-------------------------------------------------------------------------
 *
 * facts.c
 *	  Rows of deal, event and task into facts (part of the timeline).
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

#include "catalog/pg_type.h"
#include "common/int.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "stage.h"
#include "timeline_int.h"

static void *
memory_grow(TimelineReader *reader, void *old, size_t size)
{
	return old ? repalloc_huge(old, size) : MemoryContextAllocHuge(reader->context, size);
}

/* Adds a fact, zeroed, to reader->raw. */
static RawFact *
add_raw(TimelineReader *reader)
{
	RawFact    *raw;

	if (reader->nraw == reader->room_raw)
	{
		reader->room_raw = reader->room_raw ? reader->room_raw * 2 : 64;
		reader->raw = memory_grow(reader, reader->raw, reader->room_raw * sizeof(RawFact));
	}
	raw = &reader->raw[reader->nraw++];
	memset(raw, 0, sizeof(*raw));
	raw->slot = -1;
	return raw;
}

int64
facts_manager(const char *text)
{
	char	   *end;
	int64		number;

	if (text == NULL || text[0] == '\0')
		return NO_MANAGER;
	errno = 0;
	number = strtoi64(text, &end, 10);
	return errno != 0 || *end != '\0' ? NO_MANAGER : number;
}

int16
facts_stage(const TimelineReader *reader, stage_code stage, int otherwise)
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

/* Compares text of a row without copying it. */
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
			reader->others = memory_grow(reader, reader->others,
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
			fact->u.move.from = facts_stage(reader, stage_of(events, EVENT_FROM_STAGE),
											   STAGE_NONE);
			fact->u.move.to = facts_stage(reader, raw->to_stage, STAGE_UNKNOWN);
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

void
facts_read_event(TimelineReader *reader)
{
	const Stream *events = reader->events;
	RawFact    *raw;
	FactKind	kind;

	if (!kind_of_event(events, &kind))
		return;
	raw = add_raw(reader);
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

/* One of the facts that a row of task stands for. */
static void
add_task_fact(TimelineReader *reader, FactKind kind, instant at, const Fact *task)
{
	RawFact    *raw = add_raw(reader);

	raw->is_task = true;
	raw->fact = *task;
	raw->fact.kind = kind;
	raw->fact.at = at;
}

/* A task is added, may be done, and may be deleted while it is open. */
void
facts_read_task(TimelineReader *reader)
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
	/*
	 * A task can't be done before it is there, whatever two clocks say, nor once
	 * it is deleted: it is closed only once.
	 */
	if (done != INSTANT_NEVER && done <= gone)
		add_task_fact(reader, FACT_TASK_DONE, Max(done, added), &task);
	if (gone != INSTANT_NEVER && gone < done)
		add_task_fact(reader, FACT_TASK_GONE, Max(gone, added), &task);
}

void
facts_read_deal(TimelineReader *reader)
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
