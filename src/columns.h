/*-------------------------------------------------------------------------
 *
 * columns.h
 *	  Setting the columns of deals by their events.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_COLUMNS_H
#define REGCRM_COLUMNS_H

#include "postgres.h"

#include "locks.h"
#include "timeline.h"

typedef struct ColumnChanges ColumnChanges;

extern ColumnChanges *columns_begin(int64 account_id);

/* Takes note of what a deal's columns ought to be; true where they are not. */
extern bool columns_add(ColumnChanges *changes, const DealLine *deal);

/* Writes it, appending nothing; returns how many deals were changed. */
extern int64 columns_flush(ColumnChanges *changes);

/*
 * Locks deals of an account, reads their events and sets their columns (mode
 * "record").  ids in order, without repetition.
 */
extern void columns_follow(int64 account_id, const int64 *ids, int n);

#endif							/* REGCRM_COLUMNS_H */
