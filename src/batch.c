/*-------------------------------------------------------------------------
 *
 * batch.c
 *	  Judging deals and writing what was found.
 *
 * Here timeline, judge and ledger meet: rows become timelines, the judge finds,
 * the ledger compares and writes.  Whoever judges to store comes through
 * batch_judge(): the triggers at commit, rejudge(), the clock, the sync.
 *
 * Each batch locks its deals first (locks.c) and only then takes the snapshot
 * by which it reads, so it sees whatever was committed by those it waited for.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "columns.h"
#include "refusal.h"
#include "tables.h"
#include "timeline.h"

/* Deals judged and written at a time: bounds memory, not the answer. */
#define BATCH			1000

#define DUE(table, column, more) \
	"select a.id, f.deal_id from regcrm.account a cross join lateral" \
	" (select f.deal_id from regcrm." table " f where f.account_id = a.id" \
	" and f." column " <= least($1, a.known_until) " more " offset 0) f" \
	" where a.id = $2 or $2 = 0"

static Statement select_due = {
	DUE("deadline", "due_at", "and f.state in ('pending', 'warned')")
	" union " DUE("deadline", "warn_at", "and f.state = 'pending'")
	" union " DUE("next_moment", "at", "")
	" order by 1, 2",
	2, {TIMESTAMPTZOID, INT8OID}
};
static Statement select_begun = {
	"select d.id from regcrm.account a join regcrm.deal d on d.account_id = a.id"
	" where a.id = $1 and d.id = any ($2) and d.created_at >= a.known_from order by d.id",
	2, {INT8OID, INT8ARRAYOID}
};

/* Long deals can be cancelled (hazards G14). */
static void
pause_judging(void *self)
{
	CHECK_FOR_INTERRUPTS();
}

Judge *
batch_judge_create(const Account *account)
{
	Memory		memory = tables_memory(CurrentMemoryContext);

	return judge_create(account->regulation->compiled, &memory, pause_judging, NULL);
}

/* A fact was written of a deal that is not there. */
static void
refuse_unknown(int64 account_id, int64 deal_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_FOREIGN_KEY_VIOLATION),
			 errmsg("account " INT64_FORMAT " has no deal " INT64_FORMAT, account_id, deal_id),
			 errdetail("An event or a task was written of it."),
			 errhint("Insert the deal in the same transaction, or correct deal_id and account_id."),
			 err_generic_string(PG_DIAG_SCHEMA_NAME, REGCRM_SCHEMA),
			 err_generic_string(PG_DIAG_TABLE_NAME, "deal")));
}

/* Judges deals that are locked, by the active snapshot. */
static void
judge_locked(const Account *account, const DealRef *deals, int n, instant clock,
			 LedgerCounts *counts)
{
	int64	   *ids = palloc(n * sizeof(int64));
	bool		set_columns = false;
	instant		as_of = account_as_of(account, clock);
	Judge	   *judge = batch_judge_create(account);
	ColumnChanges *changes = columns_begin(account->id);
	TimelineReader *reader;
	Ledger	   *ledger;
	const DealLine *deal;

	for (int i = 0; i < n; i++)
	{
		ids[i] = deals[i].id;
		/* the columns of a synced account are amoCRM's */
		set_columns |= deals[i].set_columns && !account->synced;
	}
	reader = timeline_open(account, ids, n, as_of, set_columns ? TIMELINE_COLUMNS : 0);
	ledger = ledger_open(account, ids, n);
	deal = timeline_next(reader);
	for (int i = 0; i < n; i++)
	{
		const Finding *findings;
		int			nfindings;

		if (deal == NULL || deal->line.deal_id != ids[i])
		{
			if (deals[i].enforced && deals[i].needed)
				refuse_unknown(account->id, ids[i]);
			(void) ledger_close_deal(ledger, ids[i], as_of);
			continue;
		}
		nfindings = judge_deal(judge, &deal->line, &findings);
		(void) ledger_compare(ledger, ids[i], findings, nfindings, deal->next_at, true);
		if (deals[i].enforced && counts->refusals != NULL && !account->synced)
			refusals_collect(counts->refusals, account, &deal->line, findings, nfindings, ledger, false);
		if (set_columns && deals[i].set_columns)
			(void) columns_add(changes, deal);
		deal = timeline_next(reader);
	}
	timeline_close(reader);
	ledger_flush(ledger, counts);
	ledger_close(ledger);
	(void) columns_flush(changes);
}

/*
 * Keeps of some deals, in order of their ids, those that began at known_from or
 * later, and returns how many that are.
 */
static int
keep_begun(int64 account_id, DealRef *deals, int n)
{
	Datum	   *ids = palloc(n * sizeof(Datum));
	Datum		args[2] = {Int64GetDatum(account_id)};
	int			kept = 0;
	int			k = 0;

	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum(deals[i].id);
	args[1] = PointerGetDatum(construct_array(ids, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
											  TYPALIGN_DOUBLE));
	(void) statement_write(&select_begun, args);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		int64		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		while (k < n && deals[k].id < id)
			k++;
		if (k < n && deals[k].id == id)
			deals[kept++] = deals[k++];
	}
	SPI_freetuptable(SPI_tuptable);
	return kept;
}

/*
 * Of a synced account whose first load is under way, deals of which not all is
 * known are not judged yet, and need not be locked for that.  Returns how many
 * are left.
 */
static int
leave_unknown(int64 account_id, DealRef *deals, int n)
{
	Account    *account;
	bool		nothing;
	bool		loading;

	/* what the statement before COMMIT has written is to be seen */
	CommandCounterIncrement();
	PushActiveSnapshot(GetLatestSnapshot());
	account = account_read(account_id);
	PopActiveSnapshot();
	if (account == NULL)
		return n;
	nothing = account->synced && account->known_until == INSTANT_EVER;
	loading = account->loading;
	if (!nothing && !loading)
		return n;
	return nothing ? 0 : keep_begun(account_id, deals, n);
}

/* Locked at the write, by this transaction. */
static bool
all_locked(const DealRef *deals, int n)
{
	for (int i = 0; i < n; i++)
		if (!deals[i].locked)
			return false;
	return true;
}

/* One batch after the other, each with its own snapshot behind its locks. */
int
batch_judge(int64 account_id, DealRef *deals, int n, instant clock, bool skip,
			LedgerCounts *counts)
{
	int			all = n;
	int			handled = 0;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "regcrm batch",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	if (n > 0)
	{
		n = leave_unknown(account_id, deals, n);
		handled = all - n;
	}
	for (int from = 0; from < n; from += BATCH)
	{
		int			count = Min(BATCH, n - from);
		Account    *account;

		if (!all_locked(deals + from, count))
			count = locks_take(account_id, deals + from, count, skip);

		CHECK_FOR_INTERRUPTS();
		tables_measure();
		handled += count;
		if (count > 0)
		{
			PushActiveSnapshot(GetLatestSnapshot());
			account = account_read(account_id);
			if (account != NULL && account_as_of(account, clock) != INSTANT_EVER)
				judge_locked(account, deals + from, count, clock, counts);
			PopActiveSnapshot();
		}
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return handled;
}


/* ---- what has come by itself ---- */

void
batch_list_due(int64 account_id, instant clock, MemoryContext context, DueDeals *due)
{
	Datum		args[2] = {TimestampTzGetDatum(clock), Int64GetDatum(account_id)};
	uint64		n;

	PushActiveSnapshot(GetLatestSnapshot());
	statement_run(&select_due, args);
	PopActiveSnapshot();
	n = SPI_processed;
	due->n = n;
	due->accounts = MemoryContextAllocHuge(context, (n + 1) * sizeof(int64));
	due->deals = MemoryContextAllocHuge(context, (n + 1) * sizeof(DealRef));
	memset(due->deals, 0, (n + 1) * sizeof(DealRef));
	for (uint64 i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;

		due->accounts[i] = DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull));
		due->deals[i].id = DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
}

void
batch_judge_due(int64 account_id, instant clock, bool skip, LedgerCounts *counts)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "regcrm due",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	instant		now = GetCurrentTimestamp();
	DueDeals	due;

	batch_list_due(account_id, clock, context, &due);
	for (uint64 from = 0; from < due.n;)
	{
		uint64		to = from;

		while (to < due.n && due.accounts[to] == due.accounts[from])
			to++;
		(void) batch_judge(due.accounts[from], due.deals + from, (int) (to - from),
						   Max(clock, now), skip, counts);
		from = to;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
