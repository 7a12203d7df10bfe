/*-------------------------------------------------------------------------
 *
 * resultrow.h
 *	  Rows that functions give back, of types that may have grown.
 *
 * A later version of the script adds columns to a row type (ALTER TYPE ... ADD
 * ATTRIBUTE) while this library may still be in memory.  What it does not know
 * is null.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_RESULTROW_H
#define REGCRM_RESULTROW_H

#include "access/htup.h"
#include "fmgr.h"
#include "nodes/execnodes.h"

/*
 * A row of the n values that we know into the set that InitMaterializedSRF()
 * began.  Error where the type has fewer columns.
 */
extern void resultrow_put(ReturnSetInfo *result, Datum *values,
						  bool *nulls, int n);

/*
 * The same as the one row that the function gives back.  "type" names it for
 * the error where the type has fewer columns.
 */
extern Datum resultrow_form(FunctionCallInfo fcinfo, Datum *values,
							bool *nulls, int n, const char *type);

#endif							/* REGCRM_RESULTROW_H */
