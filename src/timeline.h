/*-------------------------------------------------------------------------
 *
 * timeline.h
 *	  Rows into timelines, many deals in one ordered pass.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_TIMELINE_H
#define REGCRM_TIMELINE_H

#include "postgres.h"

#include "account.h"
#include "fields.h"
#include "judge.h"

/* Bits of DealColumns.stale; the fields follow from STALE_FIELD on. */
#define STALE_STAGE		0x01
#define STALE_MANAGER	0x02
#define STALE_CUSTOM	0x04
#define STALE_FIELD		0x08	/* << index in field_columns */

/*
 * What the columns of a deal ought to hold by its events, where that is not
 * what they hold.  A column of which no event speaks is right as it is.
 */
typedef struct DealColumns
{
	int			stale;
	stage_code	stage;			/* 0 = null */
	int64		manager_id;		/* NO_MANAGER = null */
	FieldValue	fields[FIELD_COLUMNS];

	/*
	 * True where manager_id will be overwritten and nothing else tells who was
	 * responsible at first: it was first_manager.
	 */
	bool		keep_first_manager;
	int64		first_manager;
	/* Keys of custom to be set or (NULL) removed. */
	int			ncustom;
	const char **custom_names;
	const char **custom_values;
	/* Events of ours that gave way to loaded ones. */
	int			ngone;
	int64	   *gone;
} DealColumns;

typedef struct DealLine
{
	Timeline	line;			/* what the judge takes */

	/*
	 * The next instant after as_of at which something happens by itself that
	 * no deadline tells of: a fact dated ahead, a moment that a field holds.
	 */
	instant		next_at;
	DealColumns columns;		/* where asked for */
} DealLine;

#define TIMELINE_COLUMNS	0x01	/* fill DealLine.columns */
#define TIMELINE_NO_TASKS	0x02	/* the columns are all that matters */

typedef struct TimelineReader TimelineReader;

/*
 * Begins a pass over the deals with these ids (sorted), or over all deals of
 * the account where ids is NULL.  Rows are read by the active snapshot, which
 * stays the pass's own.  To be called between tables_enter() and
 * tables_leave(), connected to SPI, which must stay so until timeline_close().
 */
extern TimelineReader *timeline_open(const Account *account, const int64 *ids,
									 int nids, instant as_of, int flags);

/* As timeline_open(), over the deals of the account with ids from first to last. */
extern TimelineReader *timeline_open_range(const Account *account, int64 first, int64 last,
										   instant as_of, int flags);

/*
 * The next deal in order of id, or NULL.  What it returns is valid until the
 * next call.
 */
extern const DealLine *timeline_next(TimelineReader *reader);

/* The number of a field in Fact.u.field.number; NO_NUMBER = no rule, no column. */
extern int	timeline_field(void *reader, const char *name);

/* A field that holds that text, as a fact. */
extern Fact timeline_field_fact(const TimelineReader *reader, int number, const char *text,
								instant at);

extern void timeline_close(TimelineReader *reader);

#endif							/* REGCRM_TIMELINE_H */
