/*-------------------------------------------------------------------------
 *
 * launcher.c
 *	  The launcher: keeps workers in each database of regcrm.databases.
 *
 * Shared memory: slots with plain values, all under one spinlock.  A slot is
 * the launcher's note of one worker: the worker writes its process id there
 * and clears it on exit.  worker.c tells of all the processes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#include "amocrm.h"
#include "regcrm.h"
#include "wake.h"
#include "worker_int.h"

/* Waits of the launcher before it starts a worker again. */
#define RESTART_FIRST_MS	2000
#define RESTART_LAST_MS		60000
/* A worker that lived so long has not failed at starting. */
#define RESTART_FORGET_MS	60000
/* A slot whose worker has not come up after so long is free again. */
#define START_LIMIT_MS		30000

const char *const worker_kind_names[WORKER_KINDS] = {"regcrm sync", "regcrm clock"};

WorkerTable *worker_table = NULL;

static shmem_request_hook_type next_shmem_request_hook = NULL;
static shmem_startup_hook_type next_shmem_startup_hook = NULL;

extern PGDLLEXPORT void regcrm_launcher_main(Datum main_arg);

static void request_shmem(void);
static void startup_shmem(void);
static void launch_workers(void);
static bool start_slot(int number, bool *full);

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
	switch_init();

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
	worker_fill(&worker, &order);
	worker.bgw_restart_time = BGW_NEVER_RESTART;	/* that is our business */
	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		return true;

	SpinLockAcquire(&worker_table->mutex);
	slot->starting = false;
	SpinLockRelease(&worker_table->mutex);
	*full = true;
	return false;
}

/* Makes a registration of an order. */
void
worker_fill(BackgroundWorker *worker, const WorkerOrder *order)
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
		snprintf(worker->bgw_name, BGW_MAXLEN, "%s %s", worker_kind_names[order->kind], order->database);
	strlcpy(worker->bgw_type, order->account_id != 0 ? PASS_KIND : worker_kind_names[order->kind], BGW_MAXLEN);
	memcpy(worker->bgw_extra, order, sizeof(WorkerOrder));
}
