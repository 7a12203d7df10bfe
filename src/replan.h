/*-------------------------------------------------------------------------
 *
 * replan.h
 *	  Planning deadlines anew where working hours have changed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_REPLAN_H
#define REGCRM_REPLAN_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "ledger.h"

/*
 * For the clock, outside any transaction: looks now and then whether hours
 * have changed, and if so judges some of the deals concerned.  True while
 * there is more to do.
 */
extern bool replan_step(void);

/* When replan_step() wants to look next. */
extern TimestampTz replan_next(void);

/* The next replan_step() is to look. */
extern void replan_look(void);

/*
 * The same by hand, all of it in this transaction.  To be called between
 * tables_enter() and tables_leave(), connected to SPI.
 */
extern void replan_all(LedgerCounts *counts);

#endif							/* REGCRM_REPLAN_H */
