/*-------------------------------------------------------------------------
 *
 * wake.h
 *	  Waking the clock: who stores a moment tells it when he commits.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_WAKE_H
#define REGCRM_WAKE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* How many databases can have a clock. */
#define WAKE_SLOTS		64

/* Called by _PG_init, in every process. */
extern void wake_init(void);

/* Called by the hooks for shared memory (worker.c). */
extern Size wake_shmem_size(void);
extern void wake_shmem_init(void);

/*
 * Takes note that the clock has something to do at that moment, once this
 * transaction has committed; DT_NOBEGIN = that it is to look around at once.
 * Costs a comparison; may be called as often as one likes.
 */
extern void wake_notice(TimestampTz at);

/*
 * Makes this process the one that is woken in its database.  False where there
 * is no shared memory of ours (the library was not preloaded), or no slot left.
 */
extern bool wake_attach(void);

/*
 * The clock is about to look what is to be done: from here on, whatever
 * commits is remembered until wake_sleep().  True where somebody has asked it
 * to look around.
 */
extern bool wake_begin(void);

/*
 * The clock is about to sleep until that moment.  Returns until when it may
 * sleep: earlier where something was committed since wake_begin().  From here
 * on, whoever commits something earlier sets the latch.
 */
extern TimestampTz wake_sleep(TimestampTz until);

#endif							/* REGCRM_WAKE_H */
