/*-------------------------------------------------------------------------
 *
 * locks.c
 *	  Locking deals, so that findings and columns are written by one at a time.
 *
 * The protocol.  Whoever writes findings about a deal, or sets its columns by
 * its events, first locks its row FOR NO KEY UPDATE, which foreign keys to it
 * do not mind, and then reads its facts by the latest snapshot.  So the second
 * of two transactions that both add facts to a deal sees those of the first
 * (hazards G1).  Deals are locked in order of their keys, all of an account at
 * once, so that two who lock many do not wait for each other in a circle (G2).
 *
 * A deal that is not there has no row to lock, yet an event of it may be
 * stored in one transaction while another inserts the deal.  Both lock its key
 * instead: one of KEY_LOCKS advisory locks for the account, taken in order of
 * their numbers before any row.  Few locks for many keys, since a first load
 * inserts more deals than the lock table holds; two keys that share a lock
 * only wait for each other.  The inserter takes it too, at the end of his
 * statement: by then his row is there, and he sees the other's event or the
 * other sees his deal.
 *
 * Whoever writes facts by SQL locks at the end of his statement (gate.c), so
 * that what he reads before he commits can't be changed under him; whoever
 * judges otherwise (the clock, the sync, rejudge) locks before he judges.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "locks.h"
#include "tables.h"

#define KEY_LOCKS		256

/* Tells our advisory locks from users' ones, whose field 4 is 1 or 2. */
#define KEY_LOCK_CLASS	0x5243

/* From each id to its row, in the order given; what locks, locks in that order. */
#define FIND(lock) \
	"select d.id from unnest($2) u(id) cross join lateral (select f.id from regcrm.deal f" \
	" where f.account_id = $1 and f.id = u.id offset 0 " lock ") d"

static Statement find_rows = {FIND(""), 2, {INT8OID, INT8ARRAYOID}};
static Statement lock_rows = {FIND("for no key update"), 2, {INT8OID, INT8ARRAYOID}};
static Statement lock_free_rows = {
	FIND("for no key update skip locked"), 2, {INT8OID, INT8ARRAYOID}
};

/* Where the deal of that id stands; it is there. */
static int
find_deal(const DealRef *deals, int n, int64 id)
{
	int			low = 0;

	for (int high = n - 1; low < high;)
	{
		int			middle = (low + high) / 2;

		if (deals[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * Runs a statement that answers with ids and marks the deals that it names.
 * Where only is given, the others are not asked for, nor their marks changed.
 */
static void
mark(Statement *statement, int64 account_id, const DealRef *deals, int n,
	 const bool *only, bool *marks)
{
	int64	   *ids = palloc(n * sizeof(int64));
	Datum		args[2];
	int			count = 0;

	for (int i = 0; i < n; i++)
	{
		if (only != NULL && !only[i])
			continue;
		ids[count++] = deals[i].id;
		marks[i] = false;
	}
	if (count > 0)
	{
		args[0] = Int64GetDatum(account_id);
		args[1] = tables_ids(ids, count);
		(void) statement_write(statement, args);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			bool		isnull;
			int64		id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
														 SPI_tuptable->tupdesc, 1, &isnull));

			marks[find_deal(deals, n, id)] = true;
		}
		SPI_freetuptable(SPI_tuptable);
		pfree(DatumGetPointer(args[1]));
	}
	pfree(ids);
}

/* Which of the locks stands for a deal that is not there. */
static int
key_lock_of(const DealRef *deal)
{
	return hash_bytes((const unsigned char *) &deal->id, sizeof(int64)) % KEY_LOCKS;
}

/*
 * Locks the keys of deals that are not there, or only by us; whether there are
 * any.  With skip, busy[] says which locks somebody else holds.
 */
static bool
lock_keys(int64 account_id, const DealRef *deals, int n, const bool *exists,
		  bool skip, bool *busy)
{
	bool		wanted[KEY_LOCKS] = {false};
	bool		any = false;

	for (int i = 0; i < n; i++)
		if (!exists[i] || deals[i].inserted)
			wanted[key_lock_of(&deals[i])] = any = true;
	for (int i = 0; i < KEY_LOCKS; i++)
	{
		LOCKTAG		tag;

		busy[i] = false;
		if (!wanted[i])
			continue;
		SET_LOCKTAG_ADVISORY(tag, MyDatabaseId,
							 hash_bytes((const unsigned char *) &account_id, sizeof(int64)),
							 i, KEY_LOCK_CLASS);
		busy[i] = LockAcquire(&tag, ExclusiveLock, false, skip) == LOCKACQUIRE_NOT_AVAIL;
	}
	return any;
}

int
locks_take(int64 account_id, DealRef *deals, int n, bool skip)
{
	bool	   *exists = palloc(n * sizeof(bool) + 1);
	bool	   *lock = palloc(n * sizeof(bool) + 1);
	bool	   *locked = palloc(n * sizeof(bool) + 1);
	bool		busy[KEY_LOCKS];
	int			kept = 0;

	/*
	 * A single deal that is there, as nearly always: there is no order to keep
	 * with other rows, nor with keys, of which none is wanted.
	 */
	if (n == 1 && !skip && !deals[0].inserted)
	{
		mark(&lock_rows, account_id, deals, 1, NULL, locked);
		if (locked[0])
			return 1;
	}
	mark(&find_rows, account_id, deals, n, NULL, exists);
	if (lock_keys(account_id, deals, n, exists, skip, busy))
	{
		/* who held the key may have brought the deal */
		mark(&find_rows, account_id, deals, n, NULL, exists);
	}
	for (int i = 0; i < n; i++)
	{
		/* a row that only we see is ours already */
		lock[i] = exists[i] && !deals[i].inserted;
		locked[i] = !lock[i];
	}
	mark(skip ? &lock_free_rows : &lock_rows, account_id, deals, n, lock, locked);
	for (int i = 0; i < n; i++)
	{
		if (!exists[i] && busy[key_lock_of(&deals[i])])
			continue;
		if (lock[i] && !locked[i] && skip)
			continue;
		deals[kept++] = deals[i];
	}
	pfree(exists);
	pfree(lock);
	pfree(locked);
	return kept;
}

void
locks_take_facts(int64 account_id, const int64 *ids, int n)
{
	DealRef    *deals = MemoryContextAllocHuge(CurrentMemoryContext, (n + 1) * sizeof(DealRef));

	for (int i = 0; i < n; i++)
		deals[i] = (DealRef) {.id = ids[i]};
	(void) locks_take(account_id, deals, n, false);
	pfree(deals);
}

void
locks_take_keys(int64 account_id, const int64 *ids, int n)
{
	bool		busy[KEY_LOCKS];
	bool	   *exists = palloc0(n * sizeof(bool) + 1);
	DealRef    *deals = MemoryContextAllocHuge(CurrentMemoryContext, (n + 1) * sizeof(DealRef));

	for (int i = 0; i < n; i++)
		deals[i] = (DealRef) {.id = ids[i]};
	(void) lock_keys(account_id, deals, n, exists, false, busy);
	pfree(deals);
	pfree(exists);
}

void
locks_take_rows(int64 account_id, const int64 *ids, int n)
{
	Datum		args[2] = {Int64GetDatum(account_id), tables_ids(ids, n)};

	(void) statement_write(&lock_rows, args);
	SPI_freetuptable(SPI_tuptable);
	pfree(DatumGetPointer(args[1]));
}
