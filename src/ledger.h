/*-------------------------------------------------------------------------
 *
 * ledger.h
 *	  Findings against what is stored of them, and writing the difference.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_LEDGER_H
#define REGCRM_LEDGER_H

#include "postgres.h"

#include "account.h"
#include "judge.h"

/* What judging came to. */
typedef struct LedgerCounts
{
	int64		deals;			/* judged */
	int64		changed;		/* of which something was written */
	int64		deadlines;		/* rows of deadline added, changed or removed */
	int64		violations;		/* new ones, and withdrawn ones that stand again */
	int64		violations_changed;
	int64		withdrawn;
	struct Refusals *refusals;	/* where the gate is to hear of new breaches; else NULL */
} LedgerCounts;

typedef struct Ledger Ledger;

/*
 * Begins a pass over what is stored of these deals (sorted; NULL = all of the
 * account), by the active snapshot; as timeline_open().
 */
extern Ledger *ledger_open(const Account *account, const int64 *ids, int nids);

/* As ledger_open(), over the deals with ids from first to last. */
extern Ledger *ledger_open_range(const Account *account, int64 first, int64 last);

/*
 * Compares a deal's findings with what is stored; deals must come in order of
 * id.  True where they differ, and then, with collect, what is to be written
 * waits for ledger_flush().  next_at is when to look at the deal again though
 * no deadline tells of it, or INSTANT_NEVER.
 */
extern bool ledger_compare(Ledger *ledger, int64 deal_id, const Finding *findings,
						   int nfindings, instant next_at, bool collect);

/* Reads what is stored of a deal, for ledger_is_new(); deals in order of id. */
extern void ledger_read(Ledger *ledger, int64 deal_id);

/*
 * Whether nothing is stored of a finding of the deal last compared or read: it is
 * neither in violation (a withdrawn breach is none) nor running in deadline.
 */
extern bool ledger_is_new(const Ledger *ledger, const Finding *finding);

/*
 * A deal that is not there any more: what was judged stays, what was still
 * running is cancelled (as regcrm.forget() has it).
 */
extern bool ledger_close_deal(Ledger *ledger, int64 deal_id, instant at);

/* Writes what was collected. */
extern void ledger_flush(Ledger *ledger, LedgerCounts *counts);

extern void ledger_close(Ledger *ledger);

/* What shows a finding, as canonical text of jsonb; NULL = nothing. palloc'd. */
extern char *ledger_evidence(const Regulation *regulation, const Finding *finding);

/* The words of the tables. */
extern const char *ledger_state(FindingState state);
extern const char *ledger_resolution(FindingResolution resolution);

#endif							/* REGCRM_LEDGER_H */
