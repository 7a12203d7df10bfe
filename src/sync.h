/*-------------------------------------------------------------------------
 *
 * sync.h
 *	  Reading an amoCRM account into the tables: one pass, and who runs it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_SYNC_H
#define REGCRM_SYNC_H

#include "postgres.h"

/*
 * One round of the sync worker: a pass over each account that is due, each on
 * its own.  Called outside any transaction, in a context that is reset
 * afterwards.  Returns the milliseconds until the next account is due, at most
 * the given ones.
 */
extern long sync_round(long at_most);

/*
 * One account's turn.  Whatever happens stays with the account, but for what
 * is meant for the process.
 */
extern void sync_account(int64 account_id);

#endif							/* REGCRM_SYNC_H */
