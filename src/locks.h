/*-------------------------------------------------------------------------
 *
 * locks.h
 *	  Locking deals, so that findings and columns are written by one at a time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_LOCKS_H
#define REGCRM_LOCKS_H

#include "postgres.h"

/* A deal that is to be judged. */
typedef struct DealRef
{
	int64		id;
	bool		inserted;		/* by this transaction */
	bool		enforced;		/* its new breaches refuse the transaction */
	bool		needed;			/* it must be there: somebody wrote a fact of it */
	bool		set_columns;	/* its columns follow its events */
	bool		locked;			/* at the write, by this transaction */
} DealRef;

/*
 * Locks deals (in order of id, without repetition) until the end of the
 * transaction.  With skip, those that somebody else has locked are left out.
 * Returns how many remain, in place.
 */
extern int	locks_take(int64 account_id, DealRef *deals, int n, bool skip);

/* The same for whoever writes a fact of deals, by id; waits for the others. */
extern void locks_take_facts(int64 account_id, const int64 *ids, int n);

/* Locks the keys of deals that this transaction has inserted. */
extern void locks_take_keys(int64 account_id, const int64 *ids, int n);

/* Locks the rows that are there, and nothing else. */
extern void locks_take_rows(int64 account_id, const int64 *ids, int n);

#endif							/* REGCRM_LOCKS_H */
