/*-------------------------------------------------------------------------
 *
 * timeline_int.h
 *	  What timeline.c (rows) and derive.c (what rows imply) share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_TIMELINE_INT_H
#define REGCRM_TIMELINE_INT_H

#include "timeline.h"

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
	struct Stream *deals;
	struct Stream *events;
	struct Stream *tasks;

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
	int			room_facts;
	Fact	   *facts;
	struct Judge *judge;		/* for chaining the moves of one instant */
	DealLine	result;
} TimelineReader;

/* derive.c: from reader->deal and reader->raw to reader->result. */
extern void derive_line(TimelineReader *reader);

/* Adds a fact, zeroed, to reader->raw. */
extern RawFact *timeline_raw(TimelineReader *reader);

/* Index of a stage in the regulation, as facts have it. */
extern int16 timeline_stage(const TimelineReader *reader, stage_code stage, int otherwise);

#endif							/* REGCRM_TIMELINE_INT_H */
