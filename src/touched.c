/*-------------------------------------------------------------------------
 *
 * touched.c
 *	  The deals that this transaction has touched.
 *
 * Triggers on the facts take note of deals here; a deferred trigger judges
 * them all at once.  What was noted must follow savepoints (hazards G6): a
 * deal touched in a subtransaction that is rolled back need not be judged, and
 * one that was judged in it (SET CONSTRAINTS IMMEDIATE) must be judged again.
 *
 * So the notes are a log.  All that happens in a subtransaction, its committed
 * children included, lies behind the place where the log ended when it began:
 * rolling it back cuts the log off there, and nothing else need be done, on
 * commit nothing at all.  There are two kinds of notes: that a deal was
 * touched, and that what stands before was judged.
 *
 * The server treats its queue of deferred events in the same way: events
 * queued in a subtransaction vanish with it, and those fired in it are to be
 * fired again (AfterTriggerEndSubXact).  So whenever a touch stands behind the
 * last judging, the event of the row that touched is still to come.
 *
 * A deal is noted once for each mode and kind of write, as long as its note stands; a
 * hash table finds it.  Its entries may point at notes that were cut off, so
 * what they point at is checked.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "touched.h"

/* What makes two touches the same note. */
typedef struct TouchKey
{
	int64		account_id;
	int64		deal_id;
	uint32		mode;
	uint32		flags;
} TouchKey;

typedef struct Note
{
	TouchKey	touch;			/* unless it tells that all was judged */
	bool		judged;
	int32		last_judged;	/* the last such note up to this one; -1 = none */
} Note;

typedef struct TouchEntry
{
	TouchKey	key;			/* first: the hash key */
	int32		note;
} TouchEntry;

/* Where the log ended when a subtransaction began. */
typedef struct Start
{
	SubTransactionId subid;
	int32		length;
} Start;

/* All in TopTransactionContext, gone with the transaction. */
static Note *notes = NULL;
static int32 nnotes = 0;
static int32 room_notes = 0;
static HTAB *entries = NULL;
static Start *starts = NULL;
static int	nstarts = 0;
static int	room_starts = 0;

/* The memory went with the transaction; only the pointers are left. */
static void
forget(void)
{
	notes = NULL;
	nnotes = room_notes = 0;
	entries = NULL;
	starts = NULL;
	nstarts = room_starts = 0;
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		forget();
}

/* A subtransaction begins: remember the log's length, unless it is 0. */
static void
begin_subtransaction(SubTransactionId subid)
{
	if (nnotes == 0)
		return;
	if (nstarts == room_starts)
	{
		room_starts = room_starts ? room_starts * 2 : 16;
		starts = starts ? repalloc(starts, room_starts * sizeof(Start)) :
			MemoryContextAlloc(TopTransactionContext, room_starts * sizeof(Start));
	}
	starts[nstarts].subid = subid;
	starts[nstarts++].length = nnotes;
}

static void
at_subtransaction(SubXactEvent event, SubTransactionId subid,
				  SubTransactionId parent, void *arg)
{
	int32		length = 0;		/* nothing was noted when it began */

	if (event == SUBXACT_EVENT_START_SUB)
		begin_subtransaction(subid);
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	if (nstarts > 0 && starts[nstarts - 1].subid == subid)
		length = starts[--nstarts].length;
	if (event == SUBXACT_EVENT_ABORT_SUB && length < nnotes)
		nnotes = length;
}

void
touched_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
	RegisterSubXactCallback(at_subtransaction, NULL);
}

static int32
last_judged(void)
{
	return nnotes > 0 ? notes[nnotes - 1].last_judged : -1;
}

/*
 * Each note carries where the last judging stood, so that a cut costs nothing.
 */
static Note *
add_note(bool judged)
{
	int32		last = judged ? nnotes : last_judged();
	Note	   *note;

	if (nnotes == room_notes)
	{
		if (nnotes > PG_INT32_MAX / 2)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("too many deals were written in one transaction"),
					 errhint("Load them in several transactions, or with regcrm.mode off and regcrm.rejudge() afterwards.")));
		room_notes = room_notes ? room_notes * 2 : 64;
		notes = notes ? repalloc_huge(notes, room_notes * sizeof(Note)) :
			MemoryContextAlloc(TopTransactionContext, room_notes * sizeof(Note));
	}
	note = &notes[nnotes];
	memset(note, 0, sizeof(*note));
	note->judged = judged;
	note->last_judged = last;
	nnotes++;
	return note;
}

/* Made with the first touch: most transactions write no facts. */
static void
make_entries(void)
{
	HASHCTL		info = {0};

	info.keysize = sizeof(TouchKey);
	info.entrysize = sizeof(TouchEntry);
	info.hcxt = TopTransactionContext;
	entries = hash_create("regcrm deals touched", 256, &info,
						  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static TouchKey
touch_key(int64 account_id, int64 deal_id, TouchMode mode, int flags)
{
	TouchKey	key;

	memset(&key, 0, sizeof(key));
	key.account_id = account_id;
	key.deal_id = deal_id;
	key.mode = mode;
	key.flags = flags;
	return key;
}

/* Whether an entry's note stands, and nothing was judged since. */
static bool
stands(const TouchEntry *entry)
{
	return entry->note < nnotes && entry->note > last_judged() &&
		memcmp(&notes[entry->note].touch, &entry->key, sizeof(TouchKey)) == 0;
}

bool
touched_add(int64 account_id, int64 deal_id, TouchMode mode, int flags)
{
	TouchKey	key = touch_key(account_id, deal_id, mode, flags);
	TouchEntry *entry;
	bool		found;

	if (entries == NULL)
		make_entries();
	entry = hash_search(entries, &key, HASH_ENTER, &found);
	if (found && stands(entry))
		return false;
	entry->note = nnotes;
	add_note(false)->touch = key;
	return true;
}

bool
touched_in_mode(int64 account_id, int64 deal_id, TouchMode mode)
{
	for (int flags = 0; entries != NULL && flags <= (TOUCHED_INSERTED | TOUCHED_NEEDED); flags++)
	{
		TouchKey	key = touch_key(account_id, deal_id, mode, flags);
		TouchEntry *entry = hash_search(entries, &key, HASH_FIND, NULL);

		if (entry != NULL && stands(entry))
			return true;
	}
	return false;
}

static int
compare_touched(const void *a, const void *b)
{
	const TouchedDeal *x = a;
	const TouchedDeal *y = b;

	if (x->account_id != y->account_id)
		return x->account_id < y->account_id ? -1 : 1;
	return x->deal_id < y->deal_id ? -1 : x->deal_id > y->deal_id;
}

bool
touched_any(void)
{
	return nnotes > 0 && last_judged() < nnotes - 1;
}

TouchedDeal *
touched_take(int *n)
{
	TouchedDeal *deals = MemoryContextAllocHuge(CurrentMemoryContext,
												(nnotes + 1) * sizeof(TouchedDeal));
	int			count = 0;
	int			kept = 0;

	for (int32 i = last_judged() + 1; i < nnotes; i++)
	{
		const TouchKey *touch = &notes[i].touch;

		deals[count++] = (TouchedDeal) {
			.account_id = touch->account_id,
			.deal_id = touch->deal_id,
			.modes = touch->mode,
			.flags = touch->flags,
		};
	}

	qsort(deals, count, sizeof(TouchedDeal), compare_touched);
	for (int i = 0; i < count; i++)
	{
		if (kept > 0 && deals[kept - 1].account_id == deals[i].account_id &&
			deals[kept - 1].deal_id == deals[i].deal_id)
		{
			deals[kept - 1].modes |= deals[i].modes;
			deals[kept - 1].flags |= deals[i].flags;
		}
		else
			deals[kept++] = deals[i];
	}
	if (count > 0)
		(void) add_note(true);
	*n = kept;
	return deals;
}
