/*-------------------------------------------------------------------------
 *
 * resultrow.c
 *	  Rows that functions give back, of types that may have grown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#include "resultrow.h"

/* The values as many as the row has columns: what we do not know is null. */
static void
widen(TupleDesc desc, const char *type, Datum **values, bool **nulls, int n)
{
	Datum	   *wide;
	bool	   *wide_nulls;

	if (desc->natts < n)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("type %s has %d columns, the library of regcrm knows %d",
						type, desc->natts, n),
				 errhint("Run ALTER EXTENSION regcrm UPDATE.")));
	if (desc->natts == n)
		return;
	wide = palloc0(sizeof(Datum) * desc->natts);
	wide_nulls = palloc(sizeof(bool) * desc->natts);
	memset(wide_nulls, true, sizeof(bool) * desc->natts);
	memcpy(wide, *values, sizeof(Datum) * n);
	memcpy(wide_nulls, *nulls, sizeof(bool) * n);
	*values = wide;
	*nulls = wide_nulls;
}

void
resultrow_put(ReturnSetInfo *result, Datum *values, bool *nulls, int n)
{
	TupleDesc	desc = result->setDesc;

	widen(desc, desc->tdtypeid == RECORDOID ? "of the result" : format_type_be(desc->tdtypeid),
		  &values, &nulls, n);
	tuplestore_putvalues(result->setResult, desc, values, nulls);
}

Datum
resultrow_form(FunctionCallInfo fcinfo, Datum *values, bool *nulls, int n,
			   const char *type)
{
	TupleDesc	desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	widen(desc, type, &values, &nulls, n);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}
