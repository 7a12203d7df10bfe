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

#endif							/* REGCRM_WORKER_H */
