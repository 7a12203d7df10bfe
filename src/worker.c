/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  Background workers: sync worker, clock worker, a pass of its own process.
 *
 * Processes.
 * - With the library in shared_preload_libraries the postmaster starts one
 *	 launcher.  It is in no database and sees only which there are; for each one
 *	 in regcrm.databases it keeps a sync worker and a clock worker running, starts
 *	 again the ones that ended, waiting longer each time, and stops those whose
 *	 database has left the list.
 * - Without preloading, regcrm.start_workers() starts the two for its own
 *	 database.  They last until the server stops; the postmaster itself starts
 *	 them again after a failure or a crash.
 * - Both kinds of worker run worker_main(), which differs only in whose round
 *	 it calls: sync_round() or clock_round().
 * - Where there are several accounts, the sync worker has each pass made by a
 *	 process of its own (regcrm_pass_main), as many at a time as
 *	 regcrm.sync_processes allows: so an account that hangs or fails holds up no
 *	 other.  Where no process can be had, it makes the pass itself.
 *
 * At most one worker of a kind works in a database, however many were started:
 * it holds an advisory lock of its session; one that does not get it ends.
 *
 * Stops.
 * - SIGTERM is the server's own die(), so shutdown works in lock waits and in
 *	 synchronous replication too.  The worker ends with code 1, which means
 *	 "start again".
 * - SIGUSR2 means "stop until told otherwise": stop_workers() sends it.  What
 *	 is under way is cancelled and undone, and the worker ends with code 0, which
 *	 means "not again".  That is remembered in regcrm.worker_switch, so that
 *	 it lasts over restarts, and for the launcher in shared memory.
 * - An ERROR ends the round, not the process.
 * - After a crash of another backend the postmaster ends all and clears shared
 *	 memory; the launcher comes back first and finds every slot empty.
 *
 * A worker that finds no extension, no tables or tables of another version
 * waits and looks again; it says so once.  The databases are not to be had
 * during recovery, and pg_upgrade runs no worker (regcrm.c).
 *
 * The launcher and its slots: launcher.c; start_workers() and stop_workers():
 * switch.c; by what the clock is woken: wake.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "news.h"
#include "regcrm.h"
#include "sync.h"
#include "work.h"
#include "worker_int.h"

/* How often a worker looks around without being woken. */
#define LOOK_AROUND_MS		60000
#define NOT_READY_MS		5000
#define AFTER_ERROR_MS		10000

/* A worker that was asked for does not look at the switch so soon. */
#define ASKED_MS			30000

/* Our kind of advisory lock; see also sync.c. */
#define WORKER_LOCK_CLASS	8

/* Of the sync worker: the processes that make a pass for it. */
typedef struct PassProcess
{
	int64		account_id;
	BackgroundWorkerHandle *handle; /* NULL = free */
} PassProcess;

static PassProcess passes[MAX_PASSES];

/* Set by SIGUSR2. */
static volatile sig_atomic_t stop_requested = false;

extern PGDLLEXPORT void regcrm_worker_main(Datum main_arg);
extern PGDLLEXPORT void regcrm_pass_main(Datum main_arg);

static void connect_worker(const WorkerOrder *order);
static bool lock_kind(WorkerKind kind);
static void leave_slot(int code, Datum arg);

/*
 * SIGUSR2: as a cancel, and then stop for good.
 */
static void
handle_stop(SIGNAL_ARGS)
{
	int			save_errno = errno;

	stop_requested = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

static void
leave_slot(int code, Datum arg)
{
	WorkerSlot *slot = &worker_table->slots[DatumGetInt32(arg)];

	(void) code;
	SpinLockAcquire(&worker_table->mutex);
	if (slot->pid == MyProcPid)
		slot->pid = 0;
	SpinLockRelease(&worker_table->mutex);
}

/* How often start_workers() has turned this worker's slot on. */
static uint32
slot_turns(const WorkerOrder *order)
{
	uint32		turns;

	if (order->slot < 0)
		return 0;
	SpinLockAcquire(&worker_table->mutex);
	turns = worker_table->slots[order->slot].turns;
	SpinLockRelease(&worker_table->mutex);
	return turns;
}

/*
 * Ends the worker where the switch is off, and has the launcher remember that;
 * but not where start_workers() has turned it on since we looked.
 */
static void
stop_where_switched_off(const WorkerOrder *order)
{
	uint32		turns = slot_turns(order);

	if (!switch_is_off())
		return;
	if (order->slot >= 0)
	{
		WorkerSlot *slot = &worker_table->slots[order->slot];

		SpinLockAcquire(&worker_table->mutex);
		slot->stopped = slot->turns == turns;
		SpinLockRelease(&worker_table->mutex);
	}
	proc_exit(0);
}

/*
 * Waits, and serves what came meanwhile.
 */
void
worker_sleep(long milliseconds)
{
	static uint32 event = 0;

	if (event == 0)
		event = compat_wait_event("RegcrmIdle");
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 milliseconds, event);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * What of a session's settings must not depend on the database's.
 */
static void
connect_worker(const WorkerOrder *order)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"session_replication_role", "origin"},
		{"regcrm.account_id", ""},
	};

	if (order->database[0] != '\0')
		BackgroundWorkerInitializeConnection(order->database, NULL, 0);
	else
		BackgroundWorkerInitializeConnectionByOid(order->oid, InvalidOid, 0);

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

static bool
lock_kind(WorkerKind kind)
{
	LOCKTAG		tag;
	bool		got;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, (uint32) kind, WORKER_LOCK_CLASS);
	StartTransactionCommand();
	got = LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
	CommitTransactionCommand();
	return got;
}

/*
 * One round.  Returns how long to sleep.
 */
static long
worker_round(const WorkerOrder *order, WorkReadiness *last)
{
	WorkReadiness readiness = work_readiness(false);
	const char *database = order->database[0] ? order->database : "this database";

	if (readiness != *last)
	{
		*last = readiness;
		switch (readiness)
		{
			case WORK_READY:
				ereport(LOG, (errmsg("%s of %s is at work", worker_kind_names[order->kind], database)));
				break;
			case WORK_NO_EXTENSION:
				ereport(LOG, (errmsg("%s of %s waits: there is no extension", worker_kind_names[order->kind], database)));
				break;
			case WORK_NO_TABLES:
				ereport(LOG, (errmsg("%s of %s waits: run regcrm.setup()", worker_kind_names[order->kind], database)));
				break;
			case WORK_OTHER_VERSION:
				ereport(WARNING,
						(errmsg("%s of %s waits: its tables are not of version %s",
								worker_kind_names[order->kind], database, REGCRM_VERSION),
						 errhint("Run ALTER EXTENSION regcrm UPDATE, then regcrm.setup(); restart the server where only the library was updated.")));
				break;
		}
	}
	if (readiness != WORK_READY)
	{
		pgstat_report_activity(STATE_IDLE, "waiting for regcrm.setup()");
		return NOT_READY_MS;
	}

	if (GetCurrentTimestamp() - MyStartTimestamp > ASKED_MS * INT64CONST(1000) || order->slot >= 0)
		stop_where_switched_off(order);

	if (order->kind == WORKER_SYNC)
	{
		long		sleep = sync_round(LOOK_AROUND_MS);

		news_send();
		return sleep;
	}
	return clock_round(LOOK_AROUND_MS);
}

void
regcrm_worker_main(Datum main_arg)
{
	static WorkReadiness last = (WorkReadiness) -1;
	WorkerOrder order;
	MemoryContext context;
	char		last_error[256] = "";

	(void) main_arg;
	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(WorkerOrder));

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGUSR2, handle_stop);

	/* Signals are still blocked: slot and callback come together. */
	if (order.slot >= 0 && worker_table != NULL)
	{
		WorkerSlot *slot = &worker_table->slots[order.slot];
		bool		mine;

		SpinLockAcquire(&worker_table->mutex);
		mine = slot->pid == 0 && slot->kind == order.kind &&
			strcmp(slot->database, order.database) == 0;
		if (mine)
		{
			slot->pid = MyProcPid;
			slot->starting = false;
		}
		SpinLockRelease(&worker_table->mutex);
		if (!mine)
			proc_exit(0);
		before_shmem_exit(leave_slot, Int32GetDatum(order.slot));
	}
	BackgroundWorkerUnblockSignals();

	connect_worker(&order);
	if (!lock_kind((WorkerKind) order.kind))
	{
		/* The launcher will look again; one that was asked for is not needed. */
		ereport(DEBUG1,
				(errmsg("%s runs already", worker_kind_names[order.kind])));
		proc_exit(0);
	}

	news_allow();
	if (order.kind == WORKER_CLOCK)
		clock_attach();

	context = AllocSetContextCreate(TopMemoryContext, "regcrm worker round", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		volatile long sleep = LOOK_AROUND_MS;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (stop_requested)
			proc_exit(0);

		MemoryContextSwitchTo(context);
		PG_TRY();
		{
			sleep = worker_round(&order, &last);
			last_error[0] = '\0';
		}
		PG_CATCH();
		{
			ErrorData  *error;

			HOLD_INTERRUPTS();
			MemoryContextSwitchTo(context);
			error = CopyErrorData();
			FlushErrorState();
			LWLockReleaseAll();
			pgstat_report_wait_end();
			AbortCurrentTransaction();
			MemoryContextSwitchTo(context);
			QueryCancelPending = false;
			if (!stop_requested)
			{
				/* News once, its repetition for the curious. */
				ereport(strncmp(last_error, error->message, sizeof(last_error) - 1) == 0 ? DEBUG1 : LOG,
						(errmsg("%s: %s", worker_kind_names[order.kind], error->message),
						 error->detail ? errdetail_internal("%s", error->detail) : 0));
				strlcpy(last_error, error->message, sizeof(last_error));
			}
			sleep = stop_requested ? 0 : AFTER_ERROR_MS;
			RESUME_INTERRUPTS();
		}
		PG_END_TRY();
		MemoryContextSwitchTo(context);
		MemoryContextReset(context);
		pgstat_report_stat(true);
		pgstat_report_activity(STATE_IDLE, NULL);
		if (sleep > 0 && !stop_requested)
		{
			PG_TRY();
			{
				worker_sleep(sleep);
			}
			PG_CATCH();
			{
				/* A cancel while nothing is under way; or the stop. */
				MemoryContextSwitchTo(context);
				FlushErrorState();
			}
			PG_END_TRY();
		}
	}
}

/* ------------------------------------------------ a pass of its own process */

void
regcrm_pass_main(Datum main_arg)
{
	WorkerOrder order;
	MemoryContext context;

	(void) main_arg;
	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(WorkerOrder));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	pqsignal(SIGUSR2, handle_stop);
	BackgroundWorkerUnblockSignals();

	connect_worker(&order);
	news_allow();
	context = AllocSetContextCreate(TopMemoryContext, "regcrm pass", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	if (!stop_requested && work_readiness(false) == WORK_READY)
	{
		sync_account(order.account_id);
		news_send();
	}
	pgstat_report_stat(true);
	proc_exit(0);
}

/* Forgets the processes that have ended. */
static int
count_passes(int64 account_id, bool *runs)
{
	int			n = 0;
	pid_t		pid;

	*runs = false;
	for (int i = 0; i < MAX_PASSES; i++)
	{
		if (passes[i].handle == NULL)
			continue;
		if (GetBackgroundWorkerPid(passes[i].handle, &pid) == BGWH_STOPPED)
		{
			pfree(passes[i].handle);
			passes[i].handle = NULL;
			continue;
		}
		n++;
		*runs |= passes[i].account_id == account_id;
	}
	return n;
}

WorkerPass
worker_start_pass(int64 account_id)
{
	BackgroundWorker worker;
	WorkerOrder order = {{0}};
	MemoryContext old;
	bool		runs;
	bool		good;
	int			n = count_passes(account_id, &runs);
	int			free = 0;

	if (runs)
		return WORKER_PASS_RUNS;
	if (n >= Min(regcrm_sync_processes, MAX_PASSES))
		return regcrm_sync_processes > 0 ? WORKER_PASS_WAITS : WORKER_PASS_REFUSED;
	while (passes[free].handle != NULL)
		free++;
	order.oid = MyDatabaseId;
	order.kind = WORKER_SYNC;
	order.slot = -1;
	order.account_id = account_id;
	worker_fill(&worker, &order);
	worker.bgw_notify_pid = MyProcPid;
	old = MemoryContextSwitchTo(TopMemoryContext);
	good = RegisterDynamicBackgroundWorker(&worker, &passes[free].handle);
	MemoryContextSwitchTo(old);
	if (!good)
	{
		passes[free].handle = NULL;
		return n > 0 ? WORKER_PASS_WAITS : WORKER_PASS_REFUSED;
	}
	passes[free].account_id = account_id;
	return WORKER_PASS_RUNS;
}
