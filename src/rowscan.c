/*-------------------------------------------------------------------------
 *
 * rowscan.c
 *	  Reading small tables of schema regcrm without SQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "regcrm.h"
#include "rowscan.h"

Relation
rowscan_open(const char *table)
{
	Oid			schema = get_namespace_oid(REGCRM_SCHEMA, true);
	Oid			relid = InvalidOid;
	Relation	rel;

	if (OidIsValid(schema))
		relid = get_relname_relid(table, schema);
	if (!OidIsValid(relid))
		return NULL;

	/* It may go between the two calls. */
	rel = try_table_open(relid, AccessShareLock);
	if (rel != NULL && rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s.%s\" is not an ordinary table",
						REGCRM_SCHEMA, table),
				 errhint("Rename it and run SELECT regcrm.setup().")));
	return rel;
}

AttrNumber
rowscan_column(Relation rel, const char *name, Oid type, Oid other)
{
	TupleDesc	desc = RelationGetDescr(rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || strcmp(NameStr(att->attname), name) != 0)
			continue;
		if (OidIsValid(type) && att->atttypid != type && att->atttypid != other)
			break;
		return att->attnum;
	}

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("table \"%s.%s\" has no column \"%s\" of the expected type",
					REGCRM_SCHEMA, RelationGetRelationName(rel), name),
			 errhint("Run SELECT regcrm.setup().")));
	return InvalidAttrNumber;	/* keep compilers quiet */
}
