/*-------------------------------------------------------------------------
 *
 * clock.h
 *	  The deadline clock.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_CLOCK_H
#define REGCRM_CLOCK_H

#include "postgres.h"

/* The worker comes up: where it can, it lets itself be woken. */
extern void clock_attach(void);

/*
 * One round of the clock worker: flags what has expired, plans anew what a
 * changed calendar moves.  Called outside any transaction, in a context that
 * is reset afterwards.  Returns the milliseconds to sleep, at most the given
 * ones.
 */
extern long clock_round(long at_most);

#endif							/* REGCRM_CLOCK_H */
