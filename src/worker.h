/*-------------------------------------------------------------------------
 *
 * worker.h
 *	  Background workers: who starts them, and how others see them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_WORKER_H
#define REGCRM_WORKER_H

#include "postgres.h"

/* Called by _PG_init: the launcher and shared memory, when preloaded. */
extern void worker_init(void);

/*
 * Whether a worker of this kind ("regcrm sync", "regcrm clock") runs in this
 * database, by what pg_stat_activity shows; and a nudge for it to look around
 * at once.  Both make no transaction and take no lock that is kept.
 */
extern bool worker_is_running(const char *kind);
extern void worker_wake(const char *kind);

/*
 * The same in two steps, for who must find them before and may not fail
 * afterwards: their process ids, and the nudge.
 */
extern int	worker_find(const char *kind, int *pids, int most);
extern void worker_nudge(const int *pids, int n);

typedef enum WorkerPass
{
	WORKER_PASS_RUNS,			/* now, or already */
	WORKER_PASS_WAITS,			/* for another to end */
	WORKER_PASS_REFUSED			/* no process is to be had */
} WorkerPass;

/* For the sync worker: has a process of its own make a pass over an account. */
extern WorkerPass worker_start_pass(int64 account_id);

#endif							/* REGCRM_WORKER_H */
