/*-------------------------------------------------------------------------
 *
 * ledger_int.h
 *	  What ledger.c (comparing) and changes.c (writing) share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_LEDGER_INT_H
#define REGCRM_LEDGER_INT_H

#include "storage/itemptr.h"

#include "ledger.h"
#include "stream.h"
#include "tables.h"

/*
 * A row of deadline or of violation, as it is stored or as it ought to be.
 * Of a violation, due_at is breached_at, ended_at is resolved_at and word is
 * the resolution; of a deadline, word is the state.
 */
typedef struct StoredRow
{
	instant		arose_at;
	const char *rule;
	int64		task_id;
	stage_code	stage;			/* 0 = null */
	int64		manager_id;
	instant		warn_at;
	instant		due_at;
	instant		met_at;
	instant		ended_at;
	const char *word;
	int64		id;				/* of a violation */
	const char *severity;
	const char *evidence;
	bool		withdrawn;
	ItemPointerData tid;		/* of a deadline: where it is stored */
	bool		seen;			/* found again */
} StoredRow;

typedef struct StoredRows
{
	MemoryContext context;
	int			n;
	int			room;
	StoredRow  *rows;
	InstantKey *keys;			/* in which order they are by arose_at */
} StoredRows;

/* Rows to be written, as columns. */
typedef struct DeadlineColumns
{
	BulkColumn	deal_id, rule, task_id, arose_at, warn_at, due_at, met_at, state,
				stage, manager_id, ended_at;
} DeadlineColumns;

typedef struct ViolationColumns
{
	BulkColumn	deal_id, id, rule, task_id, stage, manager_id, severity, arose_at,
				breached_at, resolved_at, resolution, evidence, withdrawn;
} ViolationColumns;

typedef struct Changes
{
	DeadlineColumns deadlines;	/* new or changed */
	BulkColumn	gone;			/* where they are stored */
	ViolationColumns added;
	ViolationColumns changed;	/* withdrawn ones too */
	BulkColumn	moment_deals;
	BulkColumn	moments;		/* null = none any more */
	LedgerCounts counts;
} Changes;

struct Ledger
{
	const Account *account;
	MemoryContext context;
	MemoryContext deal_context; /* reset with each deal */
	MemoryContext changes_context;	/* reset with each flush */
	Stream	   *deadlines;
	Stream	   *violations;
	Stream	   *moments;
	StoredRows	stored_deadlines;	/* of the deal at hand */
	StoredRows	stored_violations;
	instant		stored_moment;
	Changes		changes;
};

/* changes.c */
extern void changes_reset(Ledger *ledger);
extern void change_deadline(Ledger *ledger, int64 deal_id, const StoredRow *row);
extern void remove_deadline(Ledger *ledger, const StoredRow *row);
extern void add_violation(Ledger *ledger, int64 deal_id, const StoredRow *row);
extern void change_violation(Ledger *ledger, int64 deal_id, const StoredRow *row);
extern void withdraw_violation(Ledger *ledger, int64 deal_id, const StoredRow *row);
extern void change_moment(Ledger *ledger, int64 deal_id, instant at);

#endif							/* REGCRM_LEDGER_INT_H */
