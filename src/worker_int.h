/*-------------------------------------------------------------------------
 *
 * worker_int.h
 *	  What the rooms of the workers share; worker.h is their face.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_WORKER_INT_H
#define REGCRM_WORKER_INT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "postmaster/bgworker.h"
#include "storage/spin.h"

#include "worker.h"

/* Databases whose workers the launcher can keep. */
#define MAX_DATABASES		64
/* Accounts that may be synced at a time, at most. */
#define MAX_PASSES			32
/* As pg_stat_activity.backend_type shows a process that makes one pass. */
#define PASS_KIND			"regcrm pass"

typedef enum WorkerKind
{
	WORKER_SYNC,
	WORKER_CLOCK,
	WORKER_KINDS
} WorkerKind;

/* What a worker is told by whoever starts it.  Fits into bgw_extra. */
typedef struct WorkerOrder
{
	char		database[NAMEDATALEN];	/* "" = by oid */
	Oid			oid;
	int			kind;
	int			slot;			/* -1 = not the launcher's */
	int64		account_id;		/* for one pass only; else 0 */
} WorkerOrder;

StaticAssertDecl(sizeof(WorkerOrder) <= BGW_EXTRALEN, "WorkerOrder is too long");

typedef struct WorkerSlot
{
	char		database[NAMEDATALEN];	/* "" = free */
	int			kind;
	pid_t		pid;			/* 0 = does not run */
	bool		starting;		/* registered, not come up yet */
	bool		stopped;		/* by stop_workers() */
	uint32		turns;			/* so often was it started by start_workers() */
	TimestampTz started_at;
	TimestampTz not_before;
	int			wait_ms;		/* the last wait before a start */
} WorkerSlot;

typedef struct WorkerTable
{
	slock_t		mutex;			/* for all below */
	pid_t		launcher;
	WorkerSlot	slots[MAX_DATABASES * WORKER_KINDS];
} WorkerTable;

/* As pg_stat_activity.backend_type shows them. */
extern const char *const worker_kind_names[WORKER_KINDS];

/* launcher.c; NULL where the library was not preloaded */
extern WorkerTable *worker_table;
extern void worker_fill(BackgroundWorker *worker, const WorkerOrder *order);

/* worker.c */
extern void worker_sleep(long milliseconds);

/* switch.c */
extern void switch_init(void);
extern bool switch_is_off(void);

#endif							/* REGCRM_WORKER_INT_H */
