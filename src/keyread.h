/*-------------------------------------------------------------------------
 *
 * keyread.h
 *	  Reading the rows of a key without SQL.
 *
 * For what the gate reads in every transaction: a statement costs more than
 * its rows.  By the active snapshot, with the rights of whom we act as.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_KEYREAD_H
#define REGCRM_KEYREAD_H

#include "access/attnum.h"
#include "storage/itemptr.h"

#define KEYREAD_COLUMNS_MAX		24

/* A column wanted; type may be ARG_STAGE. */
typedef struct KeyColumn
{
	const char *name;
	Oid			type;
} KeyColumn;

/*
 * A table, the bigint columns by which rows are looked for, and the columns
 * wanted of them.  To be static: the rest is filled at the first call, and
 * anew when the table changes.
 */
typedef struct KeyTable
{
	const char *name;
	const char *keys[2];		/* the second may be NULL */
	int			ncolumns;
	KeyColumn	columns[KEYREAD_COLUMNS_MAX];
	Oid			relid;			/* InvalidOid = to be looked up */
	Oid			index;			/* InvalidOid = none that fits */
	Oid			stage_type;		/* for which it was looked up */
	AttrNumber	numbers[KEYREAD_COLUMNS_MAX];
	struct KeyTable *next;		/* of all that were looked up */
} KeyTable;

typedef struct KeyReader KeyReader;

/*
 * NULL where that is not possible: rights to some rows or columns only, no
 * index that fits, a table with children.  The caller then asks by SQL.
 */
extern KeyReader *keyread_open(KeyTable *table);

/* Begins with the rows of a key; b is not looked at where the key has one column. */
extern void keyread_seek(KeyReader *reader, int64 a, int64 b);

/*
 * The columns of the next row of the key, valid until the next call; false
 * where there is none.
 */
extern bool keyread_next(KeyReader *reader, Datum *values, bool *nulls);

extern const KeyTable *keyread_table(const KeyReader *reader);

/* Where the row at hand is stored; valid until the next call. */
extern ItemPointer keyread_tid(KeyReader *reader);

/* Who wrote the row at hand. */
extern TransactionId keyread_xmin(KeyReader *reader);

extern void keyread_close(KeyReader *reader);

#endif							/* REGCRM_KEYREAD_H */
