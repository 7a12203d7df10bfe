/*-------------------------------------------------------------------------
 *
 * worker.c
 *	  Background workers: launcher, sync worker, clock worker.
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
 * Shared memory: slots with plain values, all under one spinlock.  A slot is
 * the launcher's note of one worker: the worker writes its process id there
 * and clears it on exit.  By what the clock is woken: wake.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <unistd.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "utils/wait_event.h"

#include "amocrm.h"
#include "clock.h"
#include "news.h"
#include "regcrm.h"
#include "sync.h"
#include "wake.h"
#include "work.h"
#include "worker.h"

/* Databases whose workers the launcher can keep. */
#define MAX_DATABASES		64

/* Waits of the launcher before it starts a worker again. */
#define RESTART_FIRST_MS	2000
#define RESTART_LAST_MS		60000
/* A worker that lived so long has not failed at starting. */
#define RESTART_FORGET_MS	60000
/* A slot whose worker has not come up after so long is free again. */
#define START_LIMIT_MS		30000

/* How often a worker and the launcher look around without being woken. */
#define LOOK_AROUND_MS		60000
#define NOT_READY_MS		5000
#define AFTER_ERROR_MS		10000

/* A worker that was asked for does not look at the switch so soon. */
#define ASKED_MS			30000

/* Our kind of advisory lock; see also sync.c. */
#define WORKER_LOCK_CLASS	8

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

/* As pg_stat_activity.backend_type shows them. */
static const char *const kind_names[WORKER_KINDS] = {"regcrm sync", "regcrm clock"};

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

static WorkerTable *worker_table = NULL;

/* Of a session: the database whose workers start when it commits; "" = none. */
static char started_database[NAMEDATALEN];

/* Of the sync worker: the processes that make a pass for it. */
typedef struct PassProcess
{
	int64		account_id;
	BackgroundWorkerHandle *handle; /* NULL = free */
} PassProcess;

static PassProcess passes[MAX_PASSES];

static shmem_request_hook_type next_shmem_request_hook = NULL;
static shmem_startup_hook_type next_shmem_startup_hook = NULL;

/* Set by SIGUSR2. */
static volatile sig_atomic_t stop_requested = false;

extern PGDLLEXPORT void regcrm_launcher_main(Datum main_arg);
extern PGDLLEXPORT void regcrm_worker_main(Datum main_arg);
extern PGDLLEXPORT void regcrm_pass_main(Datum main_arg);

PG_FUNCTION_INFO_V1(regcrm_start_workers);
PG_FUNCTION_INFO_V1(regcrm_stop_workers);

static void request_shmem(void);
static void startup_shmem(void);
static void launch_workers(void);
static bool start_slot(int number, bool *full);
static void fill_worker(BackgroundWorker *worker, const WorkerOrder *order);
static void connect_worker(const WorkerOrder *order);
static bool lock_kind(WorkerKind kind);
static void leave_slot(int code, Datum arg);
static void worker_sleep(long milliseconds);
static bool is_switched_off(void);
static void start_at_commit(XactEvent event, void *arg);

void
worker_init(void)
{
	BackgroundWorker worker;

	if (!process_shared_preload_libraries_in_progress)
		return;

	next_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	next_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
	RegisterXactCallback(start_at_commit, NULL);

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, "regcrm", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "regcrm_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "regcrm launcher", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "regcrm launcher", sizeof(worker.bgw_type));
	RegisterBackgroundWorker(&worker);
}

static void
request_shmem(void)
{
	if (next_shmem_request_hook)
		next_shmem_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(WorkerTable)));
	RequestAddinShmemSpace(wake_shmem_size());
	RequestAddinShmemSpace(amo_shmem_size());
}

static void
startup_shmem(void)
{
	bool		found;

	if (next_shmem_startup_hook)
		next_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	worker_table = ShmemInitStruct("regcrm workers", sizeof(WorkerTable), &found);
	if (!found)
	{
		memset(worker_table, 0, sizeof(WorkerTable));
		SpinLockInit(&worker_table->mutex);
	}
	wake_shmem_init();
	amo_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

/* -------------------------------------------------------------- launcher */

static void
leave_launcher(int code, Datum arg)
{
	(void) code;
	(void) arg;
	SpinLockAcquire(&worker_table->mutex);
	worker_table->launcher = 0;
	SpinLockRelease(&worker_table->mutex);
}

void
regcrm_launcher_main(Datum main_arg)
{
	MemoryContext context;

	(void) main_arg;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	SpinLockAcquire(&worker_table->mutex);
	worker_table->launcher = MyProcPid;
	SpinLockRelease(&worker_table->mutex);
	before_shmem_exit(leave_launcher, (Datum) 0);
	BackgroundWorkerUnblockSignals();

	/* Into no database: enough to look into pg_database. */
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	context = AllocSetContextCreate(TopMemoryContext, "regcrm launcher", ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		MemoryContextSwitchTo(context);
		launch_workers();
		MemoryContextReset(context);
		worker_sleep(RESTART_FIRST_MS);
	}
}

/*
 * The names of a list whose database is there and lets itself be connected to.
 * A worker for any other would only fill the log.
 *
 * By a scan of the table, as the launcher of autovacuum does it
 * (get_database_list): without a database no index can be relied on.
 */
static List *
existing_databases(List *names)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *existing = NIL;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		ListCell   *cell;

		if (!database->datallowconn)
			continue;
		foreach(cell, names)
		{
			MemoryContext old;

			if (strcmp(lfirst(cell), NameStr(database->datname)) != 0)
				continue;
			old = MemoryContextSwitchTo(context);
			existing = lappend(existing, lfirst(cell));
			MemoryContextSwitchTo(old);
			break;
		}
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return existing;
}

/*
 * Sets the slots to what regcrm.databases says, and starts who is missing.
 */
static void
launch_workers(void)
{
	static bool told_full = false;
	List	   *names = NIL;
	ListCell   *cell;
	TimestampTz now = GetCurrentTimestamp();
	bool		full = false;

	if (!SplitIdentifierString(pstrdup(regcrm_databases), ',', &names))
	{
		static bool told_list = false;

		if (!told_list)
			ereport(WARNING,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("invalid list syntax in parameter \"%s\"", "regcrm.databases")));
		told_list = true;
		return;
	}

	names = existing_databases(names);

	/* Who has left the list, or is gone? */
	for (int i = 0; i < lengthof(worker_table->slots); i++)
	{
		WorkerSlot *slot = &worker_table->slots[i];
		bool		wanted = false;
		pid_t		pid = 0;

		/* Only the launcher writes names. */
		if (slot->database[0] == '\0')
			continue;
		foreach(cell, names)
			wanted |= strcmp(lfirst(cell), slot->database) == 0;
		if (wanted)
			continue;
		SpinLockAcquire(&worker_table->mutex);
		pid = slot->pid;
		if (pid == 0 && !slot->starting)
			memset(slot, 0, sizeof(WorkerSlot));
		SpinLockRelease(&worker_table->mutex);
		/* Its slot is freed in the next round. */
		if (pid != 0)
			kill(pid, SIGUSR2);
	}

	foreach(cell, names)
	{
		for (int kind = 0; kind < WORKER_KINDS; kind++)
		{
			int			number = -1;
			WorkerSlot *slot;
			bool		start;

			for (int i = 0; i < lengthof(worker_table->slots); i++)
			{
				slot = &worker_table->slots[i];
				if (slot->database[0] == '\0' ? number == -1 :
					slot->kind == kind && strcmp(slot->database, lfirst(cell)) == 0)
				{
					number = i;
					if (slot->database[0] != '\0')
						break;
				}
			}
			if (number == -1)
			{
				full = true;
				continue;
			}
			slot = &worker_table->slots[number];

			SpinLockAcquire(&worker_table->mutex);
			if (slot->database[0] == '\0')
			{
				strlcpy(slot->database, lfirst(cell), NAMEDATALEN);
				slot->kind = kind;
			}
			/* One that was registered but never came: forget it. */
			if (slot->starting && now - slot->started_at > START_LIMIT_MS * INT64CONST(1000))
				slot->starting = false;
			start = slot->pid == 0 && !slot->starting && !slot->stopped && now >= slot->not_before;
			if (start)
			{
				slot->wait_ms = slot->started_at != 0 &&
					now - slot->started_at < RESTART_FORGET_MS * INT64CONST(1000) ?
					Min(Max(slot->wait_ms * 2, RESTART_FIRST_MS), RESTART_LAST_MS) : RESTART_FIRST_MS;
				slot->starting = true;
				slot->started_at = now;
				slot->not_before = now + slot->wait_ms * INT64CONST(1000);
			}
			SpinLockRelease(&worker_table->mutex);
			if (start)
				(void) start_slot(number, &full);
		}
	}

	if (full && !told_full)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("could not start all workers of regcrm"),
				 errhint("Each database in regcrm.databases needs two workers: raise max_worker_processes.")));
	told_full = full;
}

static bool
start_slot(int number, bool *full)
{
	WorkerSlot *slot = &worker_table->slots[number];
	BackgroundWorker worker;
	WorkerOrder order = {{0}};

	strlcpy(order.database, slot->database, NAMEDATALEN);
	order.kind = slot->kind;
	order.slot = number;
	fill_worker(&worker, &order);
	worker.bgw_restart_time = BGW_NEVER_RESTART;	/* that is our business */
	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return true;

	SpinLockAcquire(&worker_table->mutex);
	slot->starting = false;
	SpinLockRelease(&worker_table->mutex);
	*full = true;
	return false;
}

static void
fill_worker(BackgroundWorker *worker, const WorkerOrder *order)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = order->account_id != 0 ? BGW_NEVER_RESTART : 10;
	strlcpy(worker->bgw_library_name, "regcrm", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name,
			order->account_id != 0 ? "regcrm_pass_main" : "regcrm_worker_main",
			sizeof(worker->bgw_function_name));
	if (order->account_id != 0)
		snprintf(worker->bgw_name, BGW_MAXLEN, PASS_KIND " " INT64_FORMAT, order->account_id);
	else
		snprintf(worker->bgw_name, BGW_MAXLEN, "%s %s", kind_names[order->kind], order->database);
	strlcpy(worker->bgw_type, order->account_id != 0 ? PASS_KIND : kind_names[order->kind], BGW_MAXLEN);
	memcpy(worker->bgw_extra, order, sizeof(WorkerOrder));
}

/* ------------------------------------------------------------- a worker */

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

/*
 * Ends the worker for good; remembers that for the launcher.
 */
static void
stop_for_good(const WorkerOrder *order, bool remember)
{
	if (remember && order->slot >= 0)
	{
		SpinLockAcquire(&worker_table->mutex);
		worker_table->slots[order->slot].stopped = true;
		SpinLockRelease(&worker_table->mutex);
	}
	proc_exit(0);
}

/*
 * Waits, and serves what came meanwhile.
 */
static void
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

typedef struct SwitchStep
{
	bool		off;
} SwitchStep;

static void
step_switch(void *arg)
{
	SwitchStep *step = arg;
	bool		isnull;

	step->off = false;
	if (work_execute_secret("SELECT w.stopped FROM regcrm.worker_switch w", 0, NULL, NULL, NULL) > 0)
		step->off = DatumGetBool(work_datum(0, "stopped", &isnull));
}

static bool
is_switched_off(void)
{
	SwitchStep	step = {false};

	return work_transaction(false, step_switch, &step) == NULL && step.off;
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
				ereport(LOG, (errmsg("%s of %s is at work", kind_names[order->kind], database)));
				break;
			case WORK_NO_EXTENSION:
				ereport(LOG, (errmsg("%s of %s waits: there is no extension", kind_names[order->kind], database)));
				break;
			case WORK_NO_TABLES:
				ereport(LOG, (errmsg("%s of %s waits: run regcrm.setup()", kind_names[order->kind], database)));
				break;
			case WORK_OTHER_VERSION:
				ereport(WARNING,
						(errmsg("%s of %s waits: its tables are not of version %s",
								kind_names[order->kind], database, REGCRM_VERSION),
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
	{
		if (is_switched_off())
			stop_for_good(order, true);
	}

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
				(errmsg("%s runs already", kind_names[order.kind])));
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
			stop_for_good(&order, false);

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
						(errmsg("%s: %s", kind_names[order.kind], error->message),
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
	fill_worker(&worker, &order);
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

/* ------------------------------------------------- by hand, and for others */

/*
 * Process ids of the workers of a kind in this database.  As the owner of the
 * secrets, since others may not see what a backend is.
 */
int
worker_find(const char *kind, int *pids, int most)
{
	const Oid	types[] = {TEXTOID};
	Datum		values[1];
	uint64		n;
	int			found = 0;
	bool		isnull;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	/* What was seen earlier in this transaction is no news. */
	pgstat_clear_snapshot();
	values[0] = CStringGetTextDatum(kind);
	n = work_execute_secret("SELECT a.pid FROM pg_catalog.pg_stat_get_activity(NULL) a"
							" WHERE a.backend_type OPERATOR(pg_catalog.=) $1"
							" AND a.datid OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d"
							"  WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())",
							1, types, values, NULL);
	for (uint64 i = 0; i < n && found < most; i++)
		pids[found++] = DatumGetInt32(work_datum(i, "pid", &isnull));
	SPI_finish();
	return found;
}

bool
worker_is_running(const char *kind)
{
	int			pid;

	return worker_find(kind, &pid, 1) > 0;
}

void
worker_wake(const char *kind)
{
	int			pids[8];

	worker_nudge(pids, worker_find(kind, pids, lengthof(pids)));
}

/*
 * Sets the latches of processes that are still there.  Raises no error.
 */
void
worker_nudge(const int *pids, int n)
{
	for (int i = 0; i < n; i++)
	{
		PGPROC	   *proc = BackendPidGetProc(pids[i]);

		if (proc != NULL)
			SetLatch(&proc->procLatch);
	}
}

/*
 * The launcher may start workers again once the switch is turned for everybody
 * to see: a worker that came before would find it off, and end for good.
 */
static void
start_at_commit(XactEvent event, void *arg)
{
	pid_t		launcher;
	PGPROC	   *proc;

	(void) arg;
	if (started_database[0] == '\0' ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE))
		return;
	if (event == XACT_EVENT_COMMIT)
	{
		SpinLockAcquire(&worker_table->mutex);
		for (int i = 0; i < lengthof(worker_table->slots); i++)
			if (strcmp(worker_table->slots[i].database, started_database) == 0)
			{
				worker_table->slots[i].stopped = false;
				worker_table->slots[i].not_before = 0;
			}
		launcher = worker_table->launcher;
		SpinLockRelease(&worker_table->mutex);
		proc = launcher != 0 ? BackendPidGetProc(launcher) : NULL;
		if (proc != NULL)
			SetLatch(&proc->procLatch);
	}
	started_database[0] = '\0';
}

/*
 * Turns the switch that stop_workers() leaves behind.
 */
static void
set_switch(bool stopped)
{
	const Oid	types[] = {BOOLOID};
	Datum		values[1];
	char	   *database;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	values[0] = BoolGetDatum(stopped);
	(void) work_execute_secret("UPDATE regcrm.worker_switch w SET stopped = $1, at = pg_catalog.now()"
							   " WHERE w.stopped OPERATOR(pg_catalog.<>) $1", 1, types, values, NULL);
	(void) work_execute_secret("SELECT pg_catalog.current_database()::pg_catalog.text AS name", 0, NULL, NULL, NULL);
	database = work_text(0, "name");

	if (worker_table != NULL && !stopped)
		strlcpy(started_database, database, NAMEDATALEN);
	else if (worker_table != NULL)
	{
		SpinLockAcquire(&worker_table->mutex);
		for (int i = 0; i < lengthof(worker_table->slots); i++)
			if (strcmp(worker_table->slots[i].database, database) == 0)
				worker_table->slots[i].stopped = true;
		SpinLockRelease(&worker_table->mutex);
		started_database[0] = '\0';
	}
	SPI_finish();
}

/*
 * True where the launcher looks after this database.
 */
static bool
is_launched(void)
{
	bool		found = false;
	char	   *database;

	if (worker_table == NULL)
		return false;
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	(void) work_execute_secret("SELECT pg_catalog.current_database()::pg_catalog.text AS name", 0, NULL, NULL, NULL);
	database = work_text(0, "name");
	SpinLockAcquire(&worker_table->mutex);
	for (int i = 0; i < lengthof(worker_table->slots); i++)
		found |= strcmp(worker_table->slots[i].database, database) == 0;
	SpinLockRelease(&worker_table->mutex);
	SPI_finish();
	return found;
}

static void
refuse_in_recovery(void)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("the workers of regcrm cannot run during recovery"),
				 errhint("Start them on the primary server.")));
}

/*
 * start_workers(): starts the two for this database, unless they run.  Returns
 * how many were started.
 */
Datum
regcrm_start_workers(PG_FUNCTION_ARGS)
{
	int			started = 0;

	refuse_in_recovery();
	set_switch(false);

	/* The launcher does it, within a moment of our commit. */
	if (is_launched())
	{
		for (int kind = 0; kind < WORKER_KINDS; kind++)
			started += !worker_is_running(kind_names[kind]);
		PG_RETURN_INT32(started);
	}

	for (int kind = 0; kind < WORKER_KINDS; kind++)
	{
		BackgroundWorker worker;
		BackgroundWorkerHandle *handle;
		WorkerOrder order = {{0}};
		pid_t		pid;

		if (worker_is_running(kind_names[kind]))
			continue;
		order.oid = MyDatabaseId;
		order.kind = kind;
		order.slot = -1;
		fill_worker(&worker, &order);
		worker.bgw_notify_pid = MyProcPid;
		if (!RegisterDynamicBackgroundWorker(&worker, &handle))
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("could not start the worker \"%s\": no free slot", kind_names[kind]),
					 errhint("Raise max_worker_processes and restart the server.")));
		switch (WaitForBackgroundWorkerStartup(handle, &pid))
		{
			case BGWH_STARTED:
				started++;
				break;
			case BGWH_POSTMASTER_DIED:
				ereport(FATAL,
						(errcode(ERRCODE_ADMIN_SHUTDOWN),
						 errmsg("postmaster exited during start of a worker")));
				break;
			default:
				ereport(ERROR,
						(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						 errmsg("the worker \"%s\" ended as soon as it was started", kind_names[kind]),
						 errhint("The server log may say why.")));
		}
	}

	if (started > 0)
		ereport(NOTICE,
				(errmsg("the workers run until the server stops"),
				 errhint("To start them with the server, add regcrm to shared_preload_libraries and this database to regcrm.databases.")));
	PG_RETURN_INT32(started);
}

/*
 * stop_workers(): ends the workers of this database and waits until they are
 * gone.  Returns how many there were.
 */
Datum
regcrm_stop_workers(PG_FUNCTION_ARGS)
{
	int			stopped = 0;
	TimestampTz limit = GetCurrentTimestamp() + 60 * USECS_PER_SEC;

	refuse_in_recovery();
	set_switch(true);

	for (bool first = true;; first = false)
	{
		int			left = 0;

		for (int kind = 0; kind <= WORKER_KINDS; kind++)
		{
			int			pids[MAX_PASSES];
			int			n = worker_find(kind < WORKER_KINDS ? kind_names[kind] : PASS_KIND,
										 pids, lengthof(pids));

			for (int i = 0; i < n; i++)
				kill(pids[i], SIGUSR2);
			left += n;
		}
		if (first)
			stopped = left;
		if (left == 0)
			break;
		if (GetCurrentTimestamp() > limit)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("the workers of regcrm did not stop in a minute"),
					 errhint("See pg_stat_activity for what they wait for.")));
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 50L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_INT32(stopped);
}
