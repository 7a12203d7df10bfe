/*-------------------------------------------------------------------------
 *
 * stream.h
 *	  Rows of a query, one at a time, in order of the deal they belong to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_STREAM_H
#define REGCRM_STREAM_H

#include "postgres.h"

#include "keyread.h"
#include "rules.h"
#include "tables.h"

typedef struct StreamRows StreamRows;

typedef struct Stream
{
	bool		there;			/* a row is at hand */
	int64		deal_id;		/* its deal: the first column */
	Datum	   *values;
	bool	   *nulls;
	StreamRows *rows;			/* what was fetched of it; NULL = it reads by keys */
	struct StreamKeys *keys;
} Stream;

/*
 * Makes the columns of a table into those of the query; allocates nothing that
 * is to stay, since the row may be looked at later than that.
 */
typedef void (*stream_finish) (Datum *values, bool *nulls, KeyReader *reader);

/*
 * Runs a query of ncolumns columns by the active snapshot, connected to SPI,
 * and brings its first row to hand; what the row at hand points to is good
 * until the next one is asked for.
 */
extern Stream *stream_open(Statement *statement, Datum *args, int ncolumns);

/*
 * The same rows by keys, of the account's deals that are given in order; where
 * that is not possible (keyread.h), or ids is NULL, by the query.  ids are to be
 * there as long as the stream.
 */
extern Stream *stream_open_keys(KeyTable *table, stream_finish finish, int64 account_id,
								const int64 *ids, int nids,
								Statement *statement, Datum *args, int ncolumns);
extern void stream_next(Stream *stream);
extern void stream_close(Stream *stream);

/* Rows are large: what is sorted by an instant are keys; equals by their row. */
typedef struct InstantKey
{
	instant		at;
	int			row;
} InstantKey;

extern void instants_sort(InstantKey *keys, int n);

#endif							/* REGCRM_STREAM_H */
