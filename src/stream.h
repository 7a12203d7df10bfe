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

#include "rules.h"
#include "tables.h"

typedef struct StreamRows StreamRows;

typedef struct Stream
{
	bool		there;			/* a row is at hand */
	int64		deal_id;		/* its deal: the first column */
	Datum	   *values;
	bool	   *nulls;
	StreamRows *rows;			/* what was fetched of it */
} Stream;

/*
 * Runs a query of ncolumns columns by the active snapshot, connected to SPI,
 * and brings its first row to hand; what the row at hand points to is good
 * until the next one is asked for.
 */
extern Stream *stream_open(Statement *statement, Datum *args, int ncolumns);
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
