/*-------------------------------------------------------------------------
 *
 * wake.c
 *	  Waking the clock: who stores a moment tells it when he commits.
 *
 * The clock of a database (clock.c) sleeps until the next moment that it knows
 * of.  A backend that commits an earlier one must wake it, or a deadline of ten
 * minutes would be flagged when some other one comes.  No other process asks
 * the clock anything, and the clock asks nobody.
 *
 * Writers.  wake_notice() keeps the earliest moment of the transaction in a
 * variable of the process.  One transaction callback, registered once a
 * session, delivers it after the commit, when the rows can be seen (xact.c
 * calls XACT_EVENT_COMMIT behind ProcArrayEndTransaction).  What a
 * subtransaction noted and undid wakes the clock for nothing, which is
 * harmless.  PREPARE forgets it, since COMMIT PREPARED, which may happen in
 * another session, calls nobody: hence the clock never sleeps over a minute.
 *
 * Shared memory: one slot a database, of plain values only, each slot under a
 * spinlock of its own.  The clock is named by the number of its PGPROC, whose
 * latch is the server's and outlives every process: at worst a successor is
 * woken for nothing.  A slot is taken when the clock comes and given back when
 * it leaves; after a crash the server makes all of it anew.
 *
 * Nothing is lost between looking and sleeping, though a latch may be reset in
 * between (every lock wait does it):
 *	- wake_begin() before the clock takes its snapshots: from here on each
 *	  commit leaves its moment in "earliest".  What committed before is seen by
 *	  the snapshots.
 *	- wake_sleep() takes "earliest" into account and publishes until when the
 *	  clock sleeps; from here on a commit of something earlier sets the latch,
 *	  and nothing between here and WaitLatch() resets it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "wake.h"

typedef struct WakeSlot
{
	slock_t		mutex;			/* for all below; database may be read without */
	Oid			database;		/* InvalidOid = free */
	int			procno;			/* the clock's number in ProcGlobal->allProcs */
	TimestampTz sleeps_until;	/* DT_NOBEGIN = it is awake */
	TimestampTz earliest;		/* committed since wake_begin(); DT_NOEND = nothing */
} WakeSlot;

/* NULL where the library was not preloaded. */
static WakeSlot *slots = NULL;

/* Of the clock: its slot, or NULL. */
static WakeSlot *mine = NULL;

/* Of a writer: the earliest moment that this transaction has stored. */
static TimestampTz noticed = DT_NOEND;

static void deliver(TimestampTz at);

Size
wake_shmem_size(void)
{
	return MAXALIGN(WAKE_SLOTS * sizeof(WakeSlot));
}

/* The caller holds AddinShmemInitLock. */
void
wake_shmem_init(void)
{
	bool		found;

	slots = ShmemInitStruct("regcrm clocks", wake_shmem_size(), &found);
	if (found)
		return;
	memset(slots, 0, wake_shmem_size());
	for (int i = 0; i < WAKE_SLOTS; i++)
		SpinLockInit(&slots[i].mutex);
}

/* ---------------------------------------------------------------- writers */

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	TimestampTz at = noticed;

	(void) arg;
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			noticed = DT_NOEND;
			if (at != DT_NOEND)
				deliver(at);
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			noticed = DT_NOEND;
			break;
		default:
			break;
	}
}

void
wake_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
}

void
wake_notice(TimestampTz at)
{
	if (at < noticed)
		noticed = at;
}

/* Runs behind the commit, where nothing may fail. */
static void
deliver(TimestampTz at)
{
	if (slots == NULL)
		return;
	for (int i = 0; i < WAKE_SLOTS; i++)
	{
		WakeSlot   *slot = &slots[i];
		int			procno = -1;

		if (slot->database != MyDatabaseId)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->database == MyDatabaseId)
		{
			slot->earliest = Min(slot->earliest, at);
			if (at < slot->sleeps_until)
				procno = slot->procno;
		}
		SpinLockRelease(&slot->mutex);
		if (procno >= 0)
			SetLatch(&ProcGlobal->allProcs[procno].procLatch);
		return;
	}
}

/* -------------------------------------------------------------- the clock */

static void
detach(int code, Datum arg)
{
	(void) code;
	(void) arg;
	SpinLockAcquire(&mine->mutex);
	mine->database = InvalidOid;
	SpinLockRelease(&mine->mutex);
	mine = NULL;
}

/* The caller is the only clock of its database: it holds the lock for that. */
bool
wake_attach(void)
{
	if (slots == NULL || mine != NULL)
		return mine != NULL;
	for (int i = 0; i < WAKE_SLOTS && mine == NULL; i++)
	{
		WakeSlot   *slot = &slots[i];

		SpinLockAcquire(&slot->mutex);
		if (slot->database == InvalidOid)
		{
			slot->database = MyDatabaseId;
			slot->procno = compat_my_procno();
			slot->sleeps_until = DT_NOBEGIN;
			slot->earliest = DT_NOEND;
			mine = slot;
		}
		SpinLockRelease(&slot->mutex);
	}
	if (mine != NULL)
		before_shmem_exit(detach, (Datum) 0);
	return mine != NULL;
}

bool
wake_begin(void)
{
	bool		asked;

	if (mine == NULL)
		return false;
	SpinLockAcquire(&mine->mutex);
	asked = mine->earliest == DT_NOBEGIN;
	mine->sleeps_until = DT_NOBEGIN;
	mine->earliest = DT_NOEND;
	SpinLockRelease(&mine->mutex);
	return asked;
}

TimestampTz
wake_sleep(TimestampTz until)
{
	if (mine == NULL)
		return until;
	SpinLockAcquire(&mine->mutex);
	until = Min(until, mine->earliest);
	mine->sleeps_until = until;
	SpinLockRelease(&mine->mutex);
	return until;
}
