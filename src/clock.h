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

/*
 * One tick of the clock worker: flags what has expired.  Called outside any
 * transaction, in a context that is reset afterwards.  Returns the
 * milliseconds until the next due moment, at most the given ones.
 */
extern long clock_round(long at_most);

#endif							/* REGCRM_CLOCK_H */
