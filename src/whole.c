/*-------------------------------------------------------------------------
 *
 * whole.c
 *	  Judging a whole account, by several processes where it is large.
 *
 * The pass reads by one snapshot and writes nothing itself: what differs by
 * that snapshot may have been set right by somebody else meanwhile, so it is
 * judged afresh once it is locked (batch.c).
 *
 * A large account is cut into chunks of so many deals in the order of their
 * ids.  This process and parallel workers (access/parallel.h: they share its
 * snapshot, its user and its settings) take chunk after chunk, and set a bit
 * for each deal that differs.  Parallel workers may not write; so only when
 * they are through is what differs judged afresh, here.
 *
 * max_parallel_maintenance_workers says how many workers there may be, as for
 * CREATE INDEX and VACUUM; none = this process alone, in one pass.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "batch.h"
#include "tables.h"
#include "timeline.h"

/* Deals locked and written at a time. */
#define BATCH			1000

/* Deals that a process takes at a time, and from how many chunks on workers are worth it. */
#define CHUNK			1024
#define FEW_CHUNKS		4
#define CHUNK_BYTES		(CHUNK / 8)

/* Ids fetched at a time. */
#define FETCH_IDS		10000

#define KEY_PASS		1
#define KEY_BITS		2

/* What the processes of a pass share; beside it, a bit for each deal. */
typedef struct Pass
{
	int64		account_id;
	instant		clock;
	int			nchunks;
	pg_atomic_uint32 next;		/* the first chunk that nobody has taken */
	pg_atomic_uint64 deals;		/* judged so far */
	int64		first[FLEXIBLE_ARRAY_MEMBER];	/* id of each chunk's first deal */
} Pass;

/* Deals that differ, to be judged afresh when there are enough of them. */
typedef struct Differing
{
	const Account *account;
	instant		clock;
	DealRef    *deals;
	int			n;
	LedgerCounts *counts;
} Differing;

static Statement select_ids = {
	"select id from regcrm.deal where account_id = $1 order by account_id, id", 1, {INT8OID}
};

extern PGDLLEXPORT void regcrm_judge_chunks(dsm_segment *segment, shm_toc *toc);


/* ---- one pass ---- */

/* Whether a deal is judged otherwise than what is stored, or its columns are stale. */
static bool
differs(const Account *account, Judge *judge, Ledger *ledger, const DealLine *deal)
{
	const Finding *findings;
	int			n = judge_deal(judge, &deal->line, &findings);
	bool		stale = !account->synced &&
		(deal->columns.stale != 0 || deal->columns.ngone > 0);

	return ledger_compare(ledger, deal->line.deal_id, findings, n, deal->next_at, false) || stale;
}

static int
flags_of(const Account *account)
{
	return account->synced ? 0 : TIMELINE_COLUMNS;
}

static void
judge_afresh(Differing *differing)
{
	(void) batch_judge(differing->account->id, differing->deals, differing->n,
					   differing->clock, false, differing->counts);
	differing->n = 0;
}

static void
add_differing(Differing *differing, int64 id)
{
	differing->deals[differing->n++] =
		(DealRef) {.id = id,.set_columns = !differing->account->synced};
	if (differing->n == BATCH)
		judge_afresh(differing);
}

/* This process alone: what differs is set right on the way. Returns how many deals there are. */
static int64
judge_alone(Differing *differing, batch_progress told, void *arg)
{
	const Account *account = differing->account;
	Judge	   *judge = batch_judge_create(account);
	TimelineReader *reader = timeline_open(account, NULL, 0,
										   account_as_of(account, differing->clock),
										   flags_of(account));
	Ledger	   *ledger = ledger_open(account, NULL, 0);
	const DealLine *deal;
	int64		deals = 0;

	while ((deal = timeline_next(reader)) != NULL)
	{
		if (differs(account, judge, ledger, deal))
			add_differing(differing, deal->line.deal_id);
		if (++deals % 100 == 0)
		{
			CHECK_FOR_INTERRUPTS();
			if (told != NULL)
				told(arg, deals, differing->counts);
		}
	}
	judge_afresh(differing);
	ledger_close(ledger);
	timeline_close(reader);
	return deals;
}


/* ---- several processes ---- */

/* Calls take for each deal's id, in order. */
static void
each_id(int64 account_id, void (*take) (void *arg, int64 number, int64 id), void *arg)
{
	Datum		key = Int64GetDatum(account_id);
	Portal		portal = SPI_cursor_open(NULL, statement_plan(&select_ids), &key, NULL, true);
	int64		number = 0;

	for (;;)
	{
		SPITupleTable *table;
		uint64		n;

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(portal, true, FETCH_IDS);
		table = SPI_tuptable;
		n = SPI_processed;
		for (uint64 i = 0; i < n; i++)
		{
			bool		isnull;

			take(arg, number++, DatumGetInt64(SPI_getbinval(table->vals[i], table->tupdesc, 1, &isnull)));
		}
		SPI_freetuptable(table);
		if (n == 0)
			break;
	}
	SPI_cursor_close(portal);
}

typedef struct Bounds
{
	int			n;
	int			room;
	int64	   *first;
} Bounds;

static void
take_bound(void *arg, int64 number, int64 id)
{
	Bounds	   *bounds = arg;

	if (number % CHUNK != 0)
		return;
	if (bounds->n == bounds->room)
	{
		bounds->room *= 2;
		bounds->first = repalloc_huge(bounds->first, bounds->room * sizeof(int64));
	}
	bounds->first[bounds->n++] = id;
}

/* Takes chunk after chunk, until none is left. */
static void
judge_chunks(const Account *account, Pass *pass, uint8 *bits,
			 batch_progress told, void *arg, const LedgerCounts *counts)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "regcrm chunk",
												  ALLOCSET_DEFAULT_SIZES);
	Judge	   *judge = batch_judge_create(account);
	MemoryContext old = MemoryContextSwitchTo(context);
	instant		as_of = account_as_of(account, pass->clock);
	uint32		chunk;

	while ((chunk = pg_atomic_fetch_add_u32(&pass->next, 1)) < (uint32) pass->nchunks)
	{
		int64		first = pass->first[chunk];
		int64		last = chunk + 1 < (uint32) pass->nchunks ?
			pass->first[chunk + 1] - 1 : PG_INT64_MAX;
		uint8	   *mine = bits + (Size) chunk * CHUNK_BYTES;
		TimelineReader *reader = timeline_open_range(account, first, last, as_of, flags_of(account));
		Ledger	   *ledger = ledger_open_range(account, first, last);
		const DealLine *deal;
		int			n = 0;

		for (; (deal = timeline_next(reader)) != NULL; n++)
		{
			CHECK_FOR_INTERRUPTS();
			if (differs(account, judge, ledger, deal))
				mine[n / 8] |= 1 << n % 8;
		}
		ledger_close(ledger);
		timeline_close(reader);
		MemoryContextReset(context);
		(void) pg_atomic_fetch_add_u64(&pass->deals, n);
		if (told != NULL)
			told(arg, (int64) pg_atomic_read_u64(&pass->deals), counts);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* A worker's main function: its transaction, snapshot, user and settings are the leader's. */
void
regcrm_judge_chunks(dsm_segment *segment, shm_toc *toc)
{
	Pass	   *pass = shm_toc_lookup(toc, KEY_PASS, false);
	uint8	   *bits = shm_toc_lookup(toc, KEY_BITS, false);

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	judge_chunks(account_get(pass->account_id), pass, bits, NULL, NULL, NULL);
	SPI_finish();
}

/* The pass in shared memory, and the bits beside it. */
static Pass *
share(ParallelContext *parallel, const Differing *differing, const Bounds *bounds, Size size,
	  uint8 **bits)
{
	Size		pass_size = offsetof(Pass, first) + bounds->n * sizeof(int64);
	Pass	   *pass;

	shm_toc_estimate_chunk(&parallel->estimator, pass_size);
	shm_toc_estimate_chunk(&parallel->estimator, size);
	shm_toc_estimate_keys(&parallel->estimator, 2);
	InitializeParallelDSM(parallel);

	pass = shm_toc_allocate(parallel->toc, pass_size);
	pass->account_id = differing->account->id;
	pass->clock = differing->clock;
	pass->nchunks = bounds->n;
	pg_atomic_init_u32(&pass->next, 0);
	pg_atomic_init_u64(&pass->deals, 0);
	memcpy(pass->first, bounds->first, bounds->n * sizeof(int64));
	shm_toc_insert(parallel->toc, KEY_PASS, pass);
	*bits = shm_toc_allocate(parallel->toc, size);
	memset(*bits, 0, size);
	shm_toc_insert(parallel->toc, KEY_BITS, *bits);
	return pass;
}

typedef struct Marked
{
	Differing  *differing;
	const uint8 *bits;
	Size		size;
} Marked;

static void
take_marked(void *arg, int64 number, int64 id)
{
	Marked	   *marked = arg;

	if ((Size) number / 8 < marked->size && (marked->bits[number / 8] >> number % 8) & 1)
		add_differing(marked->differing, id);
}

/* Returns how many deals there are. */
static int64
judge_together(Differing *differing, const Bounds *bounds, batch_progress told, void *arg)
{
	Size		size = (Size) bounds->n * CHUNK_BYTES;
	uint8	   *found = MemoryContextAllocHuge(CurrentMemoryContext, size);
	Marked		marked = {.differing = differing,.bits = found,.size = size};
	ParallelContext *parallel;
	Pass	   *pass;
	uint8	   *bits;
	int64		deals;

	EnterParallelMode();
	parallel = CreateParallelContext("regcrm", "regcrm_judge_chunks",
									 Min(max_parallel_maintenance_workers, bounds->n - 1));
	pass = share(parallel, differing, bounds, size, &bits);
	LaunchParallelWorkers(parallel);
	judge_chunks(differing->account, pass, bits, told, arg, differing->counts);
	WaitForParallelWorkersToFinish(parallel);
	memcpy(found, bits, size);
	deals = (int64) pg_atomic_read_u64(&pass->deals);
	DestroyParallelContext(parallel);
	ExitParallelMode();

	each_id(differing->account->id, take_marked, &marked);
	judge_afresh(differing);
	pfree(found);
	return deals;
}

void
batch_judge_account(int64 account_id, instant clock, batch_progress told, void *arg,
					LedgerCounts *counts)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "regcrm rejudge",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Differing	differing = {.clock = clock,.counts = counts};
	Bounds		bounds = {.room = 64};
	int64		deals = 0;
	int64		deals_before = counts->deals;

	differing.deals = palloc0(BATCH * sizeof(DealRef));
	bounds.first = palloc(bounds.room * sizeof(int64));
	PushActiveSnapshot(GetLatestSnapshot());
	differing.account = account_get(account_id);
	if (account_as_of(differing.account, clock) != INSTANT_EVER)
	{
		if (max_parallel_maintenance_workers > 0)
			each_id(account_id, take_bound, &bounds);
		if (bounds.n >= FEW_CHUNKS)
			deals = judge_together(&differing, &bounds, told, arg);
		else
			deals = judge_alone(&differing, told, arg);
	}
	PopActiveSnapshot();
	counts->deals = deals_before + deals;	/* not those that were judged twice */
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
