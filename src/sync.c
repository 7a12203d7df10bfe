/*-------------------------------------------------------------------------
 *
 * sync.c
 *	  Reading an amoCRM account into the tables.
 *
 * Processes.  A pass is run by the sync worker (worker.c calls sync_round)
 * or by CALL regcrm.sync(): the same code.  Whoever runs one holds the
 * account's advisory lock, of the session, from before the token is read until
 * the pass is over; a second one finds the account busy and leaves it.  The
 * lock is the only one that is held while the network is waited for.
 *
 * Transactions and what is durable when:
 * - a page's rows and the cursor behind them are one transaction (step_page);
 *	 a crash repeats at most the page that was under way, and taking a page
 *	 again changes nothing;
 * - a new pair of tokens is committed, and flushed, before it is used
 *	 (step_store_tokens): a refresh token dies when it is used, and the new
 *	 one exists nowhere else;
 * - known_until moves in a transaction of its own, after all feeds are read
 *	 (step_advance), and with it goes the judging of what the stretch frees.
 *	 If that fails it is tried again by the next pass;
 * - a failure is written down in a transaction of its own (step_failed).
 *
 * Stops.  At a cancel the page under way is undone and the pass ends; at a
 * shutdown likewise; after kill -9 the next pass resumes at the cursor.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "amocrm.h"
#include "regcrm.h"
#include "sync.h"
#include "sync_int.h"
#include "work.h"
#include "worker.h"

/* How long reconcile() waits for who syncs the account. */
#define RECONCILE_PATIENCE	(10 * USECS_PER_MINUTE)

PG_FUNCTION_INFO_V1(regcrm_sync);
PG_FUNCTION_INFO_V1(regcrm_reconcile);

/* ------------------------------------------------------- small helpers */

/* Requests sent in a pass; none where it did not get so far. */
int64
pass_requests(const Pass *pass)
{
	return pass->other_requests + (pass->api == NULL ? 0 : amo_requests(pass->api));
}

/* Waiting times must not make all clients come back at once. */
double
sync_jitter(void)
{
	return 0.8 + 0.4 * pg_prng_double(&pg_global_prng_state);
}

void
pass_trouble(Pass *pass, Trouble trouble, const char *format,...)
{
	va_list		args;

	pass->trouble = trouble;
	va_start(args, format);
	vsnprintf(pass->reason, sizeof(pass->reason), format, args);
	va_end(args);
}

void
pass_trouble_by_error(Pass *pass, const ErrorData *error)
{
	pass_trouble(pass, TROUBLE_LATER, "%s (%s)%s%s", error->message,
				unpack_sql_state(error->sqlerrcode),
				error->detail ? ": " : "", error->detail ? error->detail : "");
}

static LOCKTAG
account_lock_tag(int64 account_id)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId,
						 (uint32) ((uint64) account_id >> 32),
						 (uint32) account_id, LOCK_CLASS);
	return tag;
}

/*
 * Takes the session's lock of an account; false where another has it.
 */
bool
sync_lock(int64 account_id)
{
	LOCKTAG		tag = account_lock_tag(account_id);

	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

void
sync_unlock(int64 account_id)
{
	LOCKTAG		tag = account_lock_tag(account_id);

	(void) LockRelease(&tag, ExclusiveLock, true);
}

/* ------------------------------------------------------------ the worker */

typedef struct DueStep
{
	MemoryContext context;
	int			total;			/* accounts that are synced at all */
	int			n;
	int64	   *accounts;
	double		next;			/* seconds until the next one is due; -1 = none */
} DueStep;

/*
 * Which accounts are due, and when the next one is.  An account that a person
 * must connect again is left alone.
 */
static void
step_due(void *arg)
{
	DueStep    *step = arg;
	const Oid	types[] = {INT4OID, TEXTOID};
	Datum		values[2];
	uint64		n;

	values[0] = Int32GetDatum(regcrm_sync_interval);
	values[1] = CStringGetTextDatum(PASS_ENTITY);
	n = work_execute("SELECT a.id, GREATEST(0, COALESCE(EXTRACT(epoch FROM"
					 "  COALESCE(s.next_try_at,"
					 "   LEAST(s.updated_at + make_interval(secs => $1), regcrm.webhook_due(a.id)))"
					 "  - clock_timestamp())::float8, 0)) AS wait"
					 " FROM regcrm.account a LEFT JOIN regcrm.sync_state s"
					 "  ON s.account_id = a.id AND s.entity = $2"
					 " WHERE a.base_url IS NOT NULL AND a.known_until IS NOT NULL AND NOT a.paused"
					 "  AND a.state NOT IN ('needs_connect', 'disconnected')"
					 " ORDER BY 2, 1",
					 2, types, values, NULL);
	step->accounts = MemoryContextAlloc(step->context, Max(n, 1) * sizeof(int64));
	step->total = (int) n;
	step->n = 0;
	step->next = -1;
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		double		wait = DatumGetFloat8(work_datum(i, "wait", &isnull));

		if (wait <= 0)
			step->accounts[step->n++] = DatumGetInt64(work_datum(i, "id", &isnull));
		else if (step->next < 0 || wait < step->next)
			step->next = wait;
	}
}

void
sync_account(int64 account_id)
{
	MemoryContext round = CurrentMemoryContext;
	Pass	   *pass = pass_make(round, account_id, false, false);

	if (!sync_lock(account_id))
	{
		ereport(DEBUG1,
				(errmsg("account " INT64_FORMAT " is being synced by another process", account_id)));
		MemoryContextDelete(pass->context);
		return;
	}

	PG_TRY();
	{
		if (!pass_run(pass) && pass->trouble != TROUBLE_NONE && !pass->halted)
		{
			/* Once for a person, the rest for the curious. */
			ereport(!pass->news ? DEBUG1 : pass->state != NULL ? WARNING : LOG,
					(errmsg("sync of account " INT64_FORMAT " failed: %s", account_id, pass->reason),
					 pass->state == NULL ? 0 :
					 strcmp(pass->state, "needs_connect") == 0 ?
					 errhint("CALL regcrm.connect(…) again.") :
					 errhint("See regcrm.sync_status.")));
		}
		pgstat_report_stat(true);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(round);
		error = CopyErrorData();
		AbortCurrentTransaction();
		sync_unlock(account_id);
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			PG_RE_THROW();
		FlushErrorState();
		MemoryContextSwitchTo(pass->context);
		pass_trouble_by_error(pass, error);
		pass_note_failure(pass, PASS_ENTITY, true);
		ereport(LOG,
				(errmsg("sync of account " INT64_FORMAT " failed: %s", account_id, pass->reason)));
		MemoryContextSwitchTo(round);
		MemoryContextDelete(pass->context);
		return;
	}
	PG_END_TRY();

	MemoryContextSwitchTo(round);
	sync_unlock(account_id);
	MemoryContextDelete(pass->context);
}

long
sync_round(long at_most)
{
	MemoryContext round = CurrentMemoryContext;
	DueStep		due = {round, 0, 0, NULL, -1};
	ErrorData  *error;

	error = work_transaction(false, step_due, &due);
	if (error != NULL)
	{
		ereport(LOG,
				(errmsg("sync worker could not look for accounts: %s", error->message)));
		return at_most;
	}
	for (int i = 0; i < due.n; i++)
	{
		/* alone it need not fear to hold up another */
		if (due.total == 1 || worker_start_pass(due.accounts[i]) == WORKER_PASS_REFUSED)
			sync_account(due.accounts[i]);
		MemoryContextSwitchTo(round);
		CHECK_FOR_INTERRUPTS();
	}
	/* After a round, look again: who was due has a new time. */
	if (due.n > 0)
		return Min(at_most, 1000L);
	if (due.next >= 0 && due.next * 1000 < at_most)
		return (long) (due.next * 1000) + 1;
	return at_most;
}

/* ------------------------------------------------------- CALL regcrm.sync */

void
sync_refuse_atomic(FunctionCallInfo fcinfo, const char *name)
{
	if (work_may_commit(fcinfo))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
			 errmsg("procedure \"%s\" cannot run inside a transaction block", name),
			 errdetail("It commits step by step."),
			 errhint("CALL it by itself: outside BEGIN … COMMIT, and not from a function.")));
}

typedef struct ListStep
{
	MemoryContext context;
	int			n;
	int64	   *accounts;
} ListStep;

static void
step_list_accounts(void *arg)
{
	ListStep   *step = arg;
	bool		isnull;

	step->n = (int) work_execute("SELECT a.id FROM regcrm.account a"
								 " WHERE a.base_url IS NOT NULL AND a.known_until IS NOT NULL AND NOT a.paused"
								 "  AND a.state <> 'disconnected'"
								 " ORDER BY a.id", 0, NULL, NULL, NULL);
	step->accounts = MemoryContextAlloc(step->context, Max(step->n, 1) * sizeof(int64));
	for (int i = 0; i < step->n; i++)
		step->accounts[i] = DatumGetInt64(work_datum(i, "id", &isnull));
}

/*
 * Takes the account's lock.  A reconcile that runs at night waits for the pass
 * that the worker happens to make; who asks for a pass is told instead.
 */
static bool
lock_for(const Pass *pass)
{
	TimestampTz until = GetCurrentTimestamp() + RECONCILE_PATIENCE;

	while (!sync_lock(pass->account_id))
	{
		if (pass->reconcile_days == 0 || GetCurrentTimestamp() > until)
			return false;
		http_pause(100);
	}
	return true;
}

/*
 * Runs a pass and lets go of the account whatever happens.
 */
static bool
locked_pass(Pass *pass)
{
	volatile bool done = false;

	if (!lock_for(pass))
	{
		if (pass->forced)
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("account " INT64_FORMAT " is being synced by another process", pass->account_id),
					 errhint("Wait for it, or see regcrm.sync_status.")));
		pass_trouble(pass, TROUBLE_LATER, "it is being synced by another process");
		return false;
	}
	PG_TRY();
	{
		done = pass_run(pass);
	}
	PG_FINALLY();
	{
		sync_unlock(pass->account_id);
	}
	PG_END_TRY();
	return done;
}

/*
 * Makes a pass over the account that the first argument names, or over each;
 * reconcile_days > 0: and looks once more at what so many days have shown.
 */
static void
sync_now(FunctionCallInfo fcinfo, const char *name, int reconcile_days)
{
	ListStep	list = {CurrentMemoryContext, 0, NULL};
	int			failed = 0;
	char	   *first = NULL;
	const char *first_state = NULL;

	sync_refuse_atomic(fcinfo, name);
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	work_require_ready();

	if (PG_ARGISNULL(0))
	{
		ErrorData  *error = work_transaction(true, step_list_accounts, &list);

		if (error != NULL)
			ReThrowError(error);
		if (list.n == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("no account is connected to amoCRM"),
					 errhint("CALL regcrm.connect('https://…', token => '…').")));
	}
	else
	{
		list.n = 1;
		list.accounts = MemoryContextAlloc(list.context, sizeof(int64));
		list.accounts[0] = PG_GETARG_INT64(0);
	}

	for (int i = 0; i < list.n; i++)
	{
		int64		account_id = list.accounts[i];
		Pass	   *pass = pass_make(list.context, account_id, true, true);
		bool		done;

		pass->forced = list.n == 1;
		pass->reconcile_days = reconcile_days;
		done = locked_pass(pass);
		MemoryContextSwitchTo(list.context);

		if (pass->quarantined > 0)
			ereport(NOTICE,
					(errmsg("account " INT64_FORMAT ": " INT64_FORMAT " elements could not be read",
							account_id, pass->quarantined),
					 errhint("See regcrm.quarantine.")));
		if (!done)
		{
			if (failed++ == 0)
			{
				first = psprintf("sync of account " INT64_FORMAT " failed: %s", account_id,
								 pass->trouble == TROUBLE_NONE ? "not all could be read" : pass->reason);
				first_state = pass->state;
			}
			if (list.n > 1)
				ereport(WARNING,
						(errmsg("sync of account " INT64_FORMAT " failed: %s", account_id, pass->reason)));
		}
		MemoryContextDelete(pass->context);
	}
	SPI_finish();

	if (failed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("%s", first),
				 errdetail("What was read before is kept; the next pass goes on from there."),
				 first_state != NULL && strcmp(first_state, "needs_connect") == 0 ?
				 errhint("CALL regcrm.connect(…) again.") : 0));
}

/*
 * CALL regcrm.sync(account_id): one pass, now.
 */
Datum
regcrm_sync(PG_FUNCTION_ARGS)
{
	sync_now(fcinfo, "regcrm.sync", 0);
	PG_RETURN_VOID();
}

/*
 * CALL regcrm.reconcile(account_id, days): a pass, and then what was missed.
 */
Datum
regcrm_reconcile(PG_FUNCTION_ARGS)
{
	int			days = PG_ARGISNULL(1) ? 3 : PG_GETARG_INT32(1);

	if (days < 1 || days > 36500)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("days must be from 1 to 36500")));
	sync_now(fcinfo, "regcrm.reconcile", days);
	PG_RETURN_VOID();
}
