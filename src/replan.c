/*-------------------------------------------------------------------------
 *
 * replan.c
 *	  Planning deadlines anew where working hours have changed.
 *
 * A deadline on the account's calendar holds the moment that was worked out
 * when the deal was last judged.  When hours change for days to come, a
 * holiday is added or a week begins on a date, the deadlines that run must
 * follow.  regcrm.calendar_plan remembers by account what the hours were, from
 * a day on, when that was last seen to (a digest).  Where today's digest of
 * the same days differs, every deal with a deadline that runs is judged again.
 *
 * Only hours from that day on are compared: it moves on with the days, so a
 * change of days past moves nothing by itself.  That is on demand: rejudge().
 *
 * A digest, and no trigger that leaves a note: it sees each way in which hours
 * can change (another calendar for the account, another zone, triggers that
 * are off, a restored dump) and needs no rights of whoever changes them.
 *
 * The digest that is stored in the end is the one from before the deals were
 * listed, so a change during the work is found by the next look.  A clock that
 * is killed on the way has stored none, and begins again: deals whose
 * deadlines are right already are not written.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "replan.h"
#include "tables.h"
#include "work.h"

/* Deals judged in one transaction. */
#define REPLAN_BATCH	500

/* How often to look; changes that are made under our triggers wake us. */
#define REPLAN_LOOK_MS	60000

/* When to try again after an error, or where deals were locked. */
#define REPLAN_RETRY_MS	10000

/* An account whose hours have changed, or were never looked at. */
typedef struct Change
{
	int64		account_id;
	Datum		day;
	char	   *hours;			/* digest from that day on */
	bool		judge;			/* else it is only noted */
} Change;

static Statement select_changes = {
	"select a.id, t.today, regcrm.calendar_hours(a.calendar, a.time_zone, t.today),"
	" p.account_id is not null or a.calendar is not null"
	" from regcrm.account a"
	" left join regcrm.calendar c on c.name = a.calendar"
	" left join regcrm.calendar_plan p on p.account_id = a.id"
	" cross join lateral (select (statement_timestamp()"
	" at time zone coalesce(c.time_zone, a.time_zone))::date) t(today)"
	" where p.account_id is null"
	" or p.hours <> regcrm.calendar_hours(a.calendar, a.time_zone, p.from_day)"
	" order by a.id",
	0, {0}, true
};

/* Where nothing has changed, the days past need not be compared any more. */
static Statement move_on = {
	"update regcrm.calendar_plan p set from_day = t.today,"
	" hours = regcrm.calendar_hours(a.calendar, a.time_zone, t.today), at = statement_timestamp()"
	" from regcrm.account a"
	" left join regcrm.calendar c on c.name = a.calendar"
	" cross join lateral (select (statement_timestamp()"
	" at time zone coalesce(c.time_zone, a.time_zone))::date) t(today)"
	" where p.account_id = a.id and p.from_day < t.today"
	" and p.hours = regcrm.calendar_hours(a.calendar, a.time_zone, p.from_day)",
	0, {0}, true
};
static Statement select_running = {
	"select distinct d.deal_id from regcrm.deadline d"
	" where d.account_id = $1 and d.state in ('pending', 'warned') order by 1",
	1, {INT8OID}, true
};
static Statement store_plan = {
	"insert into regcrm.calendar_plan (account_id, from_day, hours)"
	" select a.id, $2, $3 from regcrm.account a where a.id = $1"
	" on conflict (account_id) do update"
	" set from_day = excluded.from_day, hours = excluded.hours, at = statement_timestamp()",
	3, {INT8OID, DATEOID, TEXTOID}
};

/* What the clock is at, in context; n = 0: nothing. */
static MemoryContext context = NULL;
static Change *changes;
static int	nchanges = 0;
static int	change = 0;			/* the one at hand */
static DealRef *deals = NULL;	/* of it; NULL = not listed yet */
static int	ndeals;
static int	ndone;
static int	nlocked;			/* of these, left to the next look */

static TimestampTz look_at = DT_NOBEGIN;

/* Into a memory context; SPI leaves its own behind as the current one. */
static Change *
read_changes(MemoryContext into, int *n)
{
	MemoryContext old;
	Change	   *read;

	(void) statement_write(&move_on, NULL);
	(void) statement_write(&select_changes, NULL);
	old = MemoryContextSwitchTo(into);
	*n = (int) SPI_processed;
	read = palloc((*n + 1) * sizeof(Change));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		read[i].account_id = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
		read[i].day = SPI_getbinval(tuple, desc, 2, &isnull);	/* by value */
		read[i].hours = SPI_getvalue(tuple, desc, 3);
		read[i].judge = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	MemoryContextSwitchTo(old);
	return read;
}

/* Into a memory context. */
static DealRef *
read_running(MemoryContext into, const Change *of, int *n)
{
	Datum		arg = Int64GetDatum(of->account_id);
	DealRef    *read;

	*n = 0;
	if (!of->judge)
		return MemoryContextAllocZero(into, sizeof(DealRef));
	(void) statement_write(&select_running, &arg);
	*n = (int) SPI_processed;
	read = MemoryContextAllocHuge(into, (*n + 1) * sizeof(DealRef));
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;

		read[i] = (DealRef) {
			.id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
											  SPI_tuptable->tupdesc, 1, &isnull))
		};
	}
	SPI_freetuptable(SPI_tuptable);
	return read;
}

static void
store(const Change *stored)
{
	Datum		args[3] = {
		Int64GetDatum(stored->account_id), stored->day, CStringGetTextDatum(stored->hours)
	};

	(void) statement_write(&store_plan, args);
}

void
replan_all(LedgerCounts *counts)
{
	MemoryContext working = CurrentMemoryContext;
	int			n;
	Change	   *all = read_changes(working, &n);

	for (int i = 0; i < n; i++)
	{
		int			running;
		DealRef    *refs = read_running(working, &all[i], &running);

		if (batch_judge(all[i].account_id, refs, running, GetCurrentTimestamp(),
						true, counts) == running)
			store(&all[i]);
	}
}

/* ------------------------------------------------------- step by step */

static void
step_look(void *arg)
{
	TablesScope scope;

	(void) arg;
	tables_enter(&scope, true);
	changes = read_changes(context, &nchanges);
	tables_leave(&scope);
}

static void
step_list(void *arg)
{
	TablesScope scope;

	(void) arg;
	tables_enter(&scope, true);
	deals = read_running(context, &changes[change], &ndeals);
	tables_leave(&scope);
}

/* Judges the next deals; with the last of them the account is done. */
static void
step_judge(void *arg)
{
	LedgerCounts counts = {0};
	TablesScope scope;
	int			n = Min(REPLAN_BATCH, ndeals - ndone);
	DealRef    *refs = palloc(Max(n, 1) * sizeof(DealRef));
	int		   *locked = arg;

	tables_enter(&scope, true);
	if (n > 0)
		memcpy(refs, deals + ndone, n * sizeof(DealRef));
	*locked = n - batch_judge(changes[change].account_id, refs, n, GetCurrentTimestamp(),
							  true, &counts);
	if (ndone + n == ndeals && nlocked + *locked == 0)
		store(&changes[change]);
	tables_leave(&scope);
}

/* Ends the work, or begins it. */
static void
clear(void)
{
	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "regcrm replan", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(context);
	changes = NULL;
	nchanges = change = 0;
	deals = NULL;
}

/* The account at hand is done with, for now. */
static void
next_change(void)
{
	change++;
	if (deals != NULL)
		pfree(deals);
	deals = NULL;
	if (change == nchanges)
		clear();
}

/* An account that can't be planned must not keep the others from it. */
static void
skip_change(const ErrorData *error)
{
	static int64 told = 0;

	if (told != changes[change].account_id)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("regcrm clock: deadlines of account " INT64_FORMAT
						" could not be planned anew: %s",
						changes[change].account_id, error->message),
				 errhint("It is tried again.")));
	told = changes[change].account_id;
	look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), REPLAN_RETRY_MS);
	next_change();
}

static bool
look(void)
{
	TimestampTz now = GetCurrentTimestamp();
	ErrorData  *error;

	if (look_at > now)
		return false;
	look_at = TimestampTzPlusMilliseconds(now, REPLAN_LOOK_MS);
	clear();
	error = work_transaction(false, step_look, NULL);
	if (error != NULL)
	{
		static bool told = false;

		clear();
		if (!told)
			ereport(WARNING,
					(errcode(error->sqlerrcode),
					 errmsg("regcrm clock: could not look for changed working hours: %s",
							error->message),
					 errhint("Deadlines are flagged as they were planned. It is tried again.")));
		told = true;
		return false;
	}
	return nchanges > 0;
}

bool
replan_step(void)
{
	ErrorData  *error;
	int			locked = 0;
	char		activity[128];

	if (nchanges == 0 && !look())
		return false;
	if (deals == NULL)
	{
		ndone = nlocked = 0;
		error = work_transaction(false, step_list, NULL);
		if (error != NULL)
		{
			skip_change(error);
			return nchanges > 0;
		}
		return true;
	}

	snprintf(activity, sizeof(activity),
			 "regcrm clock: planning anew, %d of %d deals of account " INT64_FORMAT,
			 ndone, ndeals, changes[change].account_id);
	pgstat_report_activity(STATE_RUNNING, activity);
	error = work_transaction(false, step_judge, &locked);
	if (error != NULL)
	{
		skip_change(error);
		return nchanges > 0;
	}
	ndone += Min(REPLAN_BATCH, ndeals - ndone);
	nlocked += locked;
	if (ndone == ndeals)
	{
		if (nlocked > 0)
			look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), REPLAN_RETRY_MS);
		next_change();
	}
	return nchanges > 0;
}

void
replan_look(void)
{
	look_at = DT_NOBEGIN;
}

TimestampTz
replan_next(void)
{
	return look_at;
}
