/*-------------------------------------------------------------------------
 *
 * switch.c
 *	  start_workers() and stop_workers(), and finding the workers that run.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "work.h"
#include "worker_int.h"

/* Of a session: the database whose workers start when it commits; "" = none. */
static char started_database[NAMEDATALEN];

PG_FUNCTION_INFO_V1(regcrm_start_workers);
PG_FUNCTION_INFO_V1(regcrm_stop_workers);

static void start_at_commit(XactEvent event, void *arg);

void
switch_init(void)
{
	RegisterXactCallback(start_at_commit, NULL);
}

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

bool
switch_is_off(void)
{
	SwitchStep	step = {false};

	return work_transaction(false, step_switch, &step) == NULL && step.off;
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
				worker_table->slots[i].turns++;
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
			started += !worker_is_running(worker_kind_names[kind]);
		PG_RETURN_INT32(started);
	}

	for (int kind = 0; kind < WORKER_KINDS; kind++)
	{
		BackgroundWorker worker;
		BackgroundWorkerHandle *handle;
		WorkerOrder order = {{0}};
		pid_t		pid;

		if (worker_is_running(worker_kind_names[kind]))
			continue;
		order.oid = MyDatabaseId;
		order.kind = kind;
		order.slot = -1;
		worker_fill(&worker, &order);
		worker.bgw_notify_pid = MyProcPid;
		if (!RegisterDynamicBackgroundWorker(&worker, &handle))
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("could not start the worker \"%s\": no free slot", worker_kind_names[kind]),
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
						 errmsg("the worker \"%s\" ended as soon as it was started", worker_kind_names[kind]),
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
			int			n = worker_find(kind < WORKER_KINDS ? worker_kind_names[kind] : PASS_KIND,
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
