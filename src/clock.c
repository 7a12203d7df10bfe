/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  The deadline clock: flags a duty the moment its time is over.
 *
 * Process: the clock worker of a database (worker.c), nobody else.  By hand
 * the same is done by regcrm.flag_expired().
 *
 * A round:
 *	1. List the deals to which something has happened by itself: a deadline or
 *	   a warning has come, or a moment that the deal holds.  Index look-ups per
 *	   account; they cost what is due, not what is pending.
 *	2. Judge these deals and write what is found (batch.c), CLOCK_BATCH deals a
 *	   transaction, accounts in turn, so that no lock is held long and one
 *	   account's backlog does not keep another waiting.
 *	3. Where a calendar has changed, plan anew: one such transaction a round,
 *	   so that what falls due meanwhile is not kept waiting (replan.c).
 *	4. Ask for the next moment, and sleep until then: a minute at most, and less
 *	   where something earlier is committed meanwhile (wake.c).  Where the
 *	   library was not preloaded nobody can wake us: we look every second.
 *	5. Tell who listens (news.c).
 *
 * What is durable when: each transaction of step 2 stores its findings whole.
 * A clock that is killed anywhere leaves the rest due, and the next one finds
 * it: what is missed while no clock runs is flagged by the first round, since
 * the judge goes by due moments and not by when it is asked.
 *
 * Deals that somebody else has locked are left out and looked at again soon;
 * he may judge them himself.  A deal that can't be judged is set aside, longer
 * each time, after its batch was halved until it stood alone; so is an account
 * of which several can't (a calendar without hours, say).  The others go on.
 *
 * Accounts that are synced are not waited for here: their clock is known_until,
 * and the transaction that moves it judges what falls due (sync.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "clock.h"
#include "news.h"
#include "replan.h"
#include "tables.h"
#include "wake.h"
#include "work.h"

/* Deals judged in one transaction: bounds how long others wait for their locks. */
#define CLOCK_BATCH		500

/* How often the clock looks where nobody can wake it. */
#define CLOCK_POLL_MS	1000

/* When to try again deals that somebody else had locked. */
#define CLOCK_LOCKED_MS	1000

/* When to try again what could not be judged: from, to. */
#define ASIDE_FIRST_MS	10000
#define ASIDE_LAST_MS	600000

/* So many deals in a round that can't be judged: it is the account. */
#define ASIDE_DEALS		5

/* More are not remembered, only tried more often. */
#define ASIDE_MOST		1000

/* What could not be judged, and when to try it again. */
typedef struct Aside
{
	int64		account_id;
	int64		deal_id;		/* 0 = the account as a whole */
	TimestampTz until;
	int			wait_ms;
} Aside;

/* An account's part of what is due in a round. */
typedef struct DueAccount
{
	int64		id;
	DealRef    *deals;
	int			n;
	int			done;
	int			failed;			/* deals that could not be judged */
} DueAccount;

typedef struct Due
{
	MemoryContext context;		/* of the arrays */
	TimestampTz as_of;			/* all that had come by then is in it */
	DueDeals	deals;
} Due;

typedef struct JudgeStep
{
	int64		account_id;
	DealRef    *deals;
	int			n;
	int			locked;			/* by somebody else: left out */
} JudgeStep;

typedef struct NextStep
{
	TimestampTz after;
	bool		found;
	TimestampTz at;
} NextStep;

static Aside *asides = NULL;
static int	nasides = 0;

static bool attached = false;

void
clock_attach(void)
{
	attached = wake_attach();
}

/* ------------------------------------------------------------- set aside */

static Aside *
find_aside(int64 account_id, int64 deal_id)
{
	for (int i = 0; i < nasides; i++)
		if (asides[i].account_id == account_id && asides[i].deal_id == deal_id)
			return &asides[i];
	return NULL;
}

static bool
is_aside(int64 account_id, int64 deal_id, TimestampTz now)
{
	const Aside *aside = nasides > 0 ? find_aside(account_id, deal_id) : NULL;

	return aside != NULL && aside->until > now;
}

/* Sets a deal or an account aside; says so the first time. */
static void
set_aside(int64 account_id, int64 deal_id, const ErrorData *error)
{
	Aside	   *aside = find_aside(account_id, deal_id);

	if (aside == NULL)
	{
		if (deal_id != 0)
			ereport(WARNING,
					(errcode(error->sqlerrcode),
					 errmsg("regcrm clock: deal " INT64_FORMAT " of account " INT64_FORMAT
							" could not be judged: %s", deal_id, account_id, error->message),
					 error->detail ? errdetail_internal("%s", error->detail) : 0,
					 errhint("It is tried again; until then none of its deadlines is flagged.")));
		else
			ereport(WARNING,
					(errcode(error->sqlerrcode),
					 errmsg("regcrm clock: deals of account " INT64_FORMAT " could not be judged: %s",
							account_id, error->message),
					 error->detail ? errdetail_internal("%s", error->detail) : 0,
					 errhint("They are tried again; until then none of their deadlines is flagged.")));
		if (nasides == ASIDE_MOST)
			return;
		if (asides == NULL)
			asides = MemoryContextAlloc(TopMemoryContext, ASIDE_MOST * sizeof(Aside));
		aside = &asides[nasides++];
		*aside = (Aside) {.account_id = account_id,.deal_id = deal_id};
	}
	aside->wait_ms = aside->wait_ms == 0 ? ASIDE_FIRST_MS : Min(aside->wait_ms * 2, ASIDE_LAST_MS);
	aside->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), aside->wait_ms);
}

/* Something of the account was judged: forget what was set aside and tried again. */
static void
forget_asides(int64 account_id, const DealRef *deals, int n)
{
	int			kept = 0;

	for (int i = 0; i < nasides; i++)
	{
		bool		well = false;

		if (asides[i].account_id == account_id)
		{
			well = asides[i].deal_id == 0;
			for (int k = 0; k < n && !well; k++)
				well = deals[k].id == asides[i].deal_id;
		}
		if (!well)
			asides[kept++] = asides[i];
	}
	nasides = kept;
}

/* ---------------------------------------------------------------- judging */

static void
step_judge(void *arg)
{
	JudgeStep  *step = arg;
	LedgerCounts counts = {0};
	TablesScope scope;

	tables_enter(&scope, true);
	news_listen(true);
	step->locked = step->n - batch_judge(step->account_id, step->deals, step->n,
										 GetCurrentTimestamp(), true, &counts);
	news_listen(false);
	tables_leave(&scope);
}

/*
 * Judges deals of one account in a transaction; where that fails, each half by
 * itself.  Returns how many were left out because somebody else had locked
 * them.
 */
static int
judge_deals(DueAccount *account, const DealRef *deals, int n)
{
	JudgeStep	step = {.account_id = account->id,.n = n};
	ErrorData  *error;

	if (account->failed >= ASIDE_DEALS)
		return 0;
	/* batch_judge() changes what it is given */
	step.deals = palloc(n * sizeof(DealRef));
	memcpy(step.deals, deals, n * sizeof(DealRef));
	error = work_transaction(false, step_judge, &step);
	if (error == NULL)
	{
		if (nasides > 0)
			forget_asides(account->id, deals, n);
		return step.locked;
	}
	if (n > 1)
		return judge_deals(account, deals, n / 2) +
			judge_deals(account, deals + n / 2, n - n / 2);
	if (++account->failed < ASIDE_DEALS)
		set_aside(account->id, deals[0].id, error);
	else
		set_aside(account->id, 0, error);
	return 0;
}

static void
step_list(void *arg)
{
	Due		   *due = arg;
	TablesScope scope;

	tables_enter(&scope, true);
	batch_list_due(0, due->as_of, due->context, &due->deals);
	tables_leave(&scope);
}

/* What is due by account, without what is set aside. */
static DueAccount *
due_accounts(const Due *due, int *naccounts)
{
	DueAccount *accounts = palloc((due->deals.n + 1) * sizeof(DueAccount));
	int			n = 0;
	bool		account_aside = false;

	for (uint64 i = 0; i < due->deals.n; i++)
	{
		int64		account_id = due->deals.accounts[i];

		if (i == 0 || due->deals.accounts[i - 1] != account_id)
		{
			account_aside = is_aside(account_id, 0, due->as_of);
			if (!account_aside)
				accounts[n++] = (DueAccount) {
				.id = account_id,.deals = &due->deals.deals[i]};
		}
		if (account_aside || is_aside(account_id, due->deals.deals[i].id, due->as_of))
			continue;
		/* moves over those that were left out */
		accounts[n - 1].deals[accounts[n - 1].n++] = due->deals.deals[i];
	}
	*naccounts = n;
	return accounts;
}

/*
 * Flags what has come by as_of; returns how many deals are to be looked at
 * again soon.
 */
static int
flag_due(Due *due)
{
	DueAccount *accounts;
	ErrorData  *error;
	int			naccounts;
	int			locked = 0;
	uint64		done = 0;
	bool		more = true;

	error = work_transaction(false, step_list, due);
	if (error != NULL)
		ReThrowError(error);
	if (due->deals.n == 0)
		return 0;
	accounts = due_accounts(due, &naccounts);

	while (more)
	{
		more = false;
		for (int i = 0; i < naccounts; i++)
		{
			DueAccount *account = &accounts[i];
			int			n = Min(CLOCK_BATCH, account->n - account->done);
			char		activity[128];

			if (n <= 0)
				continue;
			snprintf(activity, sizeof(activity),
					 "regcrm clock: flagging " UINT64_FORMAT " to " UINT64_FORMAT
					 " of " UINT64_FORMAT " deals that are due",
					 done + 1, done + n, due->deals.n);
			pgstat_report_activity(STATE_RUNNING, activity);
			locked += judge_deals(account, account->deals + account->done, n);
			account->done += n;
			done += n;
			more |= account->done < account->n;
		}
	}
	return locked;
}

/* --------------------------------------------------------------- sleeping */

/*
 * The next moment behind the one up to which all was listed.  What is left of
 * before then is known to us, and must not hide what comes next.
 */
static void
step_next(void *arg)
{
	static Statement select_next = {
		"select min(n.at) from regcrm.account a cross join lateral ("
		" (select d.due_at as at from regcrm.deadline d where d.account_id = a.id"
		" and d.state in ('pending', 'warned') and d.due_at > $1 order by d.due_at limit 1)"
		" union all"
		" (select d.warn_at from regcrm.deadline d where d.account_id = a.id"
		" and d.state = 'pending' and d.warn_at > $1 order by d.warn_at limit 1)"
		" union all"
		" (select m.at from regcrm.next_moment m where m.account_id = a.id and m.at > $1"
		" order by m.at limit 1)) n"
		" where a.known_until is null",
		1, {TIMESTAMPTZOID}
	};
	NextStep   *step = arg;
	Datum		value = TimestampTzGetDatum(step->after);
	TablesScope scope;
	bool		isnull;

	tables_enter(&scope, true);
	statement_run(&select_next, &value);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	step->found = !isnull;
	step->at = isnull ? DT_NOEND : DatumGetTimestampTz(value);
	SPI_freetuptable(SPI_tuptable);
	tables_leave(&scope);
}

/* Until when to sleep, so far as we know: now + at_most at the latest. */
static TimestampTz
next_look(const Due *due, int locked, long at_most)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = TimestampTzPlusMilliseconds(now, at_most);
	NextStep	next = {.after = due->as_of};
	ErrorData  *error;

	error = work_transaction(false, step_next, &next);
	if (error != NULL)
		ReThrowError(error);
	if (next.found)
		until = Min(until, next.at);
	if (locked > 0)
		until = Min(until, TimestampTzPlusMilliseconds(now, CLOCK_LOCKED_MS));
	for (int i = 0; i < nasides; i++)
		until = Min(until, asides[i].until);
	return Min(until, replan_next());
}

/* For who looks at pg_stat_activity. */
static void
say_idle(TimestampTz until)
{
	char		activity[128];

	snprintf(activity, sizeof(activity), "regcrm clock: %s until %s",
			 attached ? "sleeps, unless woken," : "sleeps (nobody can wake it: the library is not preloaded)",
			 timestamptz_to_str(until));
	pgstat_report_activity(STATE_IDLE, activity);
}

long
clock_round(long at_most)
{
	Due			due = {.context = CurrentMemoryContext};
	int			locked;
	bool		planning;
	TimestampTz until;
	TimestampTz now;

	if (wake_begin())
		replan_look();
	due.as_of = GetCurrentTimestamp();
	locked = flag_due(&due);
	planning = replan_step();
	until = next_look(&due, locked, attached ? at_most : Min(at_most, CLOCK_POLL_MS));
	news_send();
	if (planning)
		return 0;

	until = wake_sleep(until);
	now = GetCurrentTimestamp();
	if (until <= now)
		return 0;
	say_idle(until);
	return TimestampDifferenceMilliseconds(now, until) + 1;
}
