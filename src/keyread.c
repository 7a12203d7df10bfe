/*-------------------------------------------------------------------------
 *
 * keyread.c
 *	  Reading the rows of a key without SQL.
 *
 * To start and end an executor costs some thirty times what it costs to fetch
 * a row by an index.  The gate looks up a handful of keys in every transaction,
 * so there it goes to the index itself, as ri_triggers.c would like to.
 *
 * What SQL would see to, is seen to here:
 *	- rights: only for the owner of the tables, by whom row security is passed
 *	  over (tables_enter()), and for whoever may select from the whole table
 *	  and is under no row security; else the caller goes by SQL, which says no
 *	  or shows what may be seen;
 *	- what else belongs to a table: one that has children (or is no table), is
 *	  read by SQL;
 *	- which index: any valid B-tree that begins with the key and has no
 *	  condition.  Where users have dropped ours, SQL finds another way;
 *	- tables that change: what was looked up is dropped with the relcache entry
 *	  (hazards G10), and columns are found by name and must be of the type
 *	  expected;
 *	- visibility, serializable transactions: the index access methods do that.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "keyread.h"
#include "tables.h"

struct KeyReader
{
	KeyTable   *table;
	MemoryContext context;		/* what the scan keeps from call to call lies here */
	Relation	rel;
	Relation	index;
	Snapshot	snapshot;		/* ours: the caller may go on to another */
	IndexScanDesc scan;
	TupleTableSlot *slot;
	int			nkeys;
	ScanKeyData keys[2];
	bool		sought;
};

/* All tables that were looked up. */
static KeyTable *known = NULL;

static void
forget_table(Datum arg, Oid relid)
{
	for (KeyTable *table = known; table != NULL; table = table->next)
		if (relid == InvalidOid || relid == table->relid)
			table->relid = InvalidOid;
}

/* Whether an index begins with the key and holds every row. */
static bool
begins_with_key(Relation index, const AttrNumber *keys, int nkeys)
{
	Form_pg_index form = index->rd_index;

	if (index->rd_rel->relam != BTREE_AM_OID || !form->indisvalid || !form->indislive ||
		form->indcheckxmin || form->indnkeyatts < nkeys ||
		!heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL))
		return false;
	for (int i = 0; i < nkeys; i++)
		if (form->indkey.values[i] != keys[i] || index->rd_opcintype[i] != INT8OID)
			return false;
	return true;
}

/* The number of a column of that name and type; 0 = there is none. */
static AttrNumber
find_column(TupleDesc desc, const char *name, Oid type)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && strcmp(NameStr(att->attname), name) == 0)
			return att->atttypid == type ? att->attnum : InvalidAttrNumber;
	}
	return InvalidAttrNumber;
}

/* Where columns and index are; without an index there is no way here. */
static void
look_up(KeyTable *table, Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			nkeys = table->keys[1] ? 2 : 1;
	AttrNumber	keys[2];
	List	   *indexes;
	ListCell   *cell;
	bool		found = true;

	table->index = InvalidOid;
	table->stage_type = tables_stage_type();
	for (int i = 0; i < nkeys; i++)
		found &= (keys[i] = find_column(desc, table->keys[i], INT8OID)) != InvalidAttrNumber;
	for (int i = 0; i < table->ncolumns; i++)
	{
		Oid			type = table->columns[i].type == ARG_STAGE ? table->stage_type : table->columns[i].type;

		table->numbers[i] = find_column(desc, table->columns[i].name, type);
		found &= table->numbers[i] != InvalidAttrNumber;
	}
	indexes = found ? RelationGetIndexList(rel) : NIL;
	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (!OidIsValid(table->index) && begins_with_key(index, keys, nkeys))
			table->index = RelationGetRelid(index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
}

/* Remembers a table; the memory is the caller's static. */
static void
remember(KeyTable *table)
{
	for (KeyTable *other = known; other != NULL; other = other->next)
		if (other == table)
			return;
	if (known == NULL)
		CacheRegisterRelcacheCallback(forget_table, (Datum) 0);
	table->next = known;
	known = table;
}

/* Whether a SELECT would show every row to whoever we act as. */
static bool
may_read(Oid relid)
{
	if (tables_as_owner())
		return true;
	return pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
		check_enable_rls(relid, InvalidOid, true) != RLS_ENABLED;
}

KeyReader *
keyread_open(KeyTable *table)
{
	KeyReader  *reader;
	Oid			relid;
	Relation	rel;

	remember(table);
	relid = OidIsValid(table->relid) ? table->relid : tables_find(table->name);
	rel = relation_open(relid, AccessShareLock);
	/* the lock may have brought news of the table */
	if (table->relid != relid || table->stage_type != tables_stage_type())
	{
		look_up(table, rel);
		table->relid = relid;
	}
	if (!may_read(relid) || !OidIsValid(table->index) || rel->rd_rel->relkind != RELKIND_RELATION ||
		rel->rd_rel->relhassubclass)
	{
		relation_close(rel, AccessShareLock);
		return NULL;
	}
	reader = palloc0(sizeof(KeyReader));
	reader->table = table;
	reader->context = CurrentMemoryContext;
	reader->rel = rel;
	reader->index = index_open(table->index, AccessShareLock);
	reader->slot = table_slot_create(rel, NULL);
	reader->nkeys = table->keys[1] ? 2 : 1;
	for (int i = 0; i < reader->nkeys; i++)
		ScanKeyInit(&reader->keys[i], i + 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(0));
	reader->snapshot = RegisterSnapshot(GetActiveSnapshot());
	reader->scan = compat_index_beginscan(rel, reader->index, reader->snapshot, reader->nkeys);
	return reader;
}

void
keyread_seek(KeyReader *reader, int64 a, int64 b)
{
	MemoryContext old = MemoryContextSwitchTo(reader->context);

	reader->keys[0].sk_argument = Int64GetDatum(a);
	reader->keys[1].sk_argument = Int64GetDatum(b);
	index_rescan(reader->scan, reader->keys, reader->nkeys, NULL, 0);
	reader->sought = true;
	MemoryContextSwitchTo(old);
}

bool
keyread_next(KeyReader *reader, Datum *values, bool *nulls)
{
	const KeyTable *table = reader->table;
	MemoryContext old;

	CHECK_FOR_INTERRUPTS();
	if (!reader->sought)
		return false;
	old = MemoryContextSwitchTo(reader->context);
	reader->sought = index_getnext_slot(reader->scan, ForwardScanDirection, reader->slot);
	MemoryContextSwitchTo(old);
	if (!reader->sought)
		return false;
	for (int i = 0; i < table->ncolumns; i++)
		values[i] = slot_getattr(reader->slot, table->numbers[i], &nulls[i]);
	return true;
}

const KeyTable *
keyread_table(const KeyReader *reader)
{
	return reader->table;
}

ItemPointer
keyread_tid(KeyReader *reader)
{
	return &reader->slot->tts_tid;
}

TransactionId
keyread_xmin(KeyReader *reader)
{
	bool		isnull;

	return DatumGetTransactionId(slot_getsysattr(reader->slot, MinTransactionIdAttributeNumber,
												 &isnull));
}

void
keyread_close(KeyReader *reader)
{
	index_endscan(reader->scan);
	UnregisterSnapshot(reader->snapshot);
	ExecDropSingleTupleTableSlot(reader->slot);
	index_close(reader->index, AccessShareLock);
	/* the lock stays, as after a statement */
	relation_close(reader->rel, NoLock);
	pfree(reader);
}
