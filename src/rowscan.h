/*-------------------------------------------------------------------------
 *
 * rowscan.h
 *	  Reading small tables of schema regcrm without SQL.
 *
 * For what must be read wherever it is asked for: in COPY, in a parallel
 * worker, during a restore, for a role that may not read the table itself,
 * under a search_path that others chose.  The table is found by its name in
 * the schema, its columns by theirs, and scanned by systable_beginscan()
 * without an index: that takes a catalog snapshot, which for an ordinary table
 * is always a new one (the latest committed rows and our own, at every
 * isolation level, and in parallel mode where GetLatestSnapshot() is refused).
 * It runs nobody's code and asks for nobody's privileges; so only tables whose
 * content may be known to all are read this way.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_ROWSCAN_H
#define REGCRM_ROWSCAN_H

#include "postgres.h"

#include "utils/relcache.h"

/*
 * A table, locked by AccessShareLock; NULL where it is not there.  The caller
 * closes it by table_close(rel, AccessShareLock): as with a catalog, nothing
 * depends on the lock once the rows are read.
 */
extern Relation rowscan_open(const char *table);

/*
 * A column by name.  Its type must be one of two; InvalidOid for the first =
 * any type.
 */
extern AttrNumber rowscan_column(Relation rel, const char *name,
								 Oid type, Oid other);

#endif							/* REGCRM_ROWSCAN_H */
