/*-------------------------------------------------------------------------
 *
 * batch.h
 *	  Judging deals and writing what was found.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_BATCH_H
#define REGCRM_BATCH_H

#include "postgres.h"

#include "ledger.h"
#include "locks.h"

/*
 * Locks, judges and writes deals of one account (in order of id, without
 * repetition), as of clock; of a synced account as of what is known.  With
 * skip, deals that somebody else has locked are left out: he, or the next
 * tick, will judge them.  An account that is not there is not judged.  Returns
 * how many were not left out.
 *
 * To be called between tables_enter() and tables_leave(), connected to SPI.
 */
extern int	batch_judge(int64 account_id, DealRef *deals, int n, instant clock,
						bool skip, LedgerCounts *counts);

/* Calls told now and then, with what was done so far. */
typedef void (*batch_progress) (void *arg, int64 deals, const LedgerCounts *counts);

/*
 * Judges a whole account by one snapshot; only deals that differ from what is
 * stored are locked, judged afresh and written.  Of an account that is not
 * synced, columns are set by events too.
 */
extern void batch_judge_account(int64 account_id, instant clock, batch_progress told,
								void *arg, LedgerCounts *counts);

/*
 * Judges the deals to which something has happened by itself until clock: a
 * deadline or a warning has come, or a moment that the deal holds.  All
 * accounts where account_id is 0.  They are judged as of now where that is
 * later: what others have judged meanwhile may not be taken back.
 */
extern void batch_judge_due(int64 account_id, instant clock, bool skip, LedgerCounts *counts);

/* Deals to which something has happened by itself, in order of account and id. */
typedef struct DueDeals
{
	uint64		n;
	int64	   *accounts;
	DealRef    *deals;
} DueDeals;

/* Lists them, in a memory context; as batch_judge_due() finds them. */
extern void batch_list_due(int64 account_id, instant clock, MemoryContext context,
						   DueDeals *due);

/* A judge for an account's regulation, in the current memory context. */
extern Judge *batch_judge_create(const Account *account);

#endif							/* REGCRM_BATCH_H */
