/*-------------------------------------------------------------------------
 *
 * timeline_int.h
 *	  What timeline.c (rows) and derive.c (what rows imply) share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_TIMELINE_INT_H
#define REGCRM_TIMELINE_INT_H

#include "stream.h"
#include "tables.h"
#include "timeline.h"

/* Columns of the queries of timeline.c. */
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

/* A fact as its row tells it, with what is needed to order and derive. */
typedef struct RawFact
{
	Fact		fact;			/* at = as written */
	const char *source_id;		/* NULL = none */
	bool		is_task;
	bool		appended;		/* by us, because a column was written */
	bool		gave_way;		/* to a loaded event: it counts no more */
	int			slot;			/* of a field: see TimelineReader; else -1 */
	const char *text;			/* of a field or a responsible: the value */
	const char *text_before;
	stage_code	to_stage;		/* of a move; 0 = null */
} RawFact;

/*
 * A field whose value the deal itself shows: the columns, then the keys of
 * custom that the regulation names.
 */
typedef struct Slot
{
	const char *name;
	FieldType	type;
	int			number;			/* as in Fact.u.field.number */
	/* of the deal at hand */
	FieldValue	present;
	const char *custom;			/* present text of a key of custom */
	int			first;			/* index of its first field event, or -1 */
	int			last;
} Slot;

/* The deal at hand, as its row tells it. */
typedef struct DealRow
{
	int64		id;
	stage_code	stage;			/* 0 = null */
	int64		manager_id;
	instant		created_at;
	instant		updated_at;		/* INSTANT_EVER = null */
	instant		deleted_at;		/* INSTANT_NEVER = it is there */
	bool		in_regulation;	/* else it is kept, not judged */
} DealRow;

typedef struct TimelineReader
{
	const Account *account;
	const Regulation *regulation;
	instant		as_of;
	int			flags;
	MemoryContext context;		/* of the pass */
	MemoryContext deal_context; /* reset with each deal */
	Stream	   *deals;
	Stream	   *events;
	Stream	   *tasks;		/* NULL = not asked for */

	int			nslots;
	Slot	   *slots;
	int			first_other;	/* numbers of fields that have no slot begin here */
	int			nothers;		/* of the deal at hand */
	int			room_others;
	const char **others;

	DealRow		deal;
	int			nraw;
	int			room_raw;
	RawFact    *raw;
	RawFact    *sorted;			/* room for as many, and for their keys */
	InstantKey *keys;
	int			room_sorted;
	int			room_facts;
	Fact	   *facts;
	struct Judge *judge;		/* for chaining the moves of one instant */
	DealLine	result;
} TimelineReader;

/* facts.c: the rows at hand into reader->deal and reader->raw. */
extern void facts_read_deal(TimelineReader *reader);
extern void facts_read_event(TimelineReader *reader);
extern void facts_read_task(TimelineReader *reader);

/* give_way.c: marks events of ours that give way to loaded ones. */
extern void give_way(TimelineReader *reader);

/* derive.c: from reader->deal and reader->raw to reader->result. */
extern void derive_line(TimelineReader *reader);

/* Index of a stage in the regulation, as facts have it. */
extern int16 facts_stage(const TimelineReader *reader, stage_code stage, int otherwise);

/* A manager's number as an event's text has it. */
extern int64 facts_manager(const char *text);

/* Whether a raw fact is of that kind and has not given way. */
static inline bool
raw_counts(const RawFact *raw, FactKind kind)
{
	return raw->fact.kind == kind && !raw->gave_way;
}

#endif							/* REGCRM_TIMELINE_INT_H */
