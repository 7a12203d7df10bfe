/*-------------------------------------------------------------------------
 *
 * gate_int.h
 *	  What gate.c and gate_deal.c share: a statement on a table of facts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_GATE_INT_H
#define REGCRM_GATE_INT_H

#include "postgres.h"

#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/tuplestore.h"

#include "gate.h"
#include "touched.h"

/* A deal, by the whole key. */
typedef struct DealKey
{
	int64		account_id;
	int64		deal_id;
} DealKey;

typedef struct DealKeys
{
	int			n;
	int			room;
	DealKey    *keys;
} DealKeys;

/* A statement on a table of facts, while its trigger works. */
typedef struct FactStatement
{
	TriggerData *trigdata;
	TupleDesc	desc;
	TouchMode	mode;
	Oid			role;
	DealKeys	follow;			/* deals whose columns may have to follow */
} FactStatement;

/* The slots of a walk over one transition table. */
typedef struct Walk
{
	Tuplestorestate *store;
	TupleTableSlot *slot;
	int			pointer;
} Walk;

/* Adds a key, unless it is that of the row before. */
extern void keys_add(DealKeys *keys, int64 account_id, int64 deal_id);

/* Puts keys in order, without repetition. */
extern void keys_sort(DealKeys *keys);
extern int	keys_compare(const void *a, const void *b);

/* Ids of the account whose keys begin at *from, which moves on. */
extern int64 *keys_of_account(const DealKeys *keys, int *from, int64 *account_id, int *n);

/* Number of a column by name; error where it is not there or of another type. */
extern int	gate_column(TupleDesc desc, const char *name, Oid type);
extern int64 gate_number(TupleTableSlot *slot, int column, bool *isnull);

extern Walk walk_begin(Tuplestorestate *store, TupleDesc desc);
extern bool walk_next(Walk *walk);
extern void walk_end(Walk *walk);

/*
 * Checks how the trigger was called and says how the statement is to be taken:
 * false where it is no business of ours.
 */
extern bool gate_begin(FunctionCallInfo fcinfo, const char *name, FactStatement *statement);

/* Lets columns follow events, for the deals noted. */
extern void gate_follow(FactStatement *statement);

/* Whatever was noted and has no queued event to wait for is judged now. */
extern void gate_end(void);

#endif							/* REGCRM_GATE_INT_H */
