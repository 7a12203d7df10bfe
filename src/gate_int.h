/*-------------------------------------------------------------------------
 *
 * gate_int.h
 *	  What the files of the gate share: a statement on a table of facts.
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

#include "effects_run.h"
#include "fields.h"
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
	MemoryContext context;		/* of what is noted below */
	DealKeys	follow;			/* deals whose columns may have to follow */
	DealKeys	lock;			/* deals to be locked: facts of them were written */
	DealKeys	lock_keys;		/* deals inserted */
	/* in mode enforce */
	const Account *account;		/* of the rows at hand */
	DealKeys	changed;		/* deals to whose past something was appended */
	int			ncalls;			/* what sets off effects */
	int			room_calls;
	FactCall   *calls;
} FactStatement;

/* Where the columns of event or task are that we look at. */
typedef struct FactNumbers
{
	bool		events;			/* else tasks */
	int			account_id;
	int			id;
	int			deal_id;
	int			kind;
	/* of event */
	int			at;
	int			field;
	int			scenario;
	/* of task */
	int			created_at;
	int			due_at;
	int			completed_at;
	int			deleted_at;
	int			by_bot;
} FactNumbers;

/* Where the columns of deal are that we look at. */
typedef struct DealNumbers
{
	int			account_id;
	int			id;
	int			stage;
	int			manager_id;
	int			created_at;
	int			deleted_at;
	int			is_deleted;
	int			in_regulation;
	int			custom;
	int			fields[FIELD_COLUMNS];
} DealNumbers;

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

/* Locks the deals noted, and the keys of those inserted. */
extern void gate_lock(FactStatement *statement);

/* Lets columns follow events, for the deals noted. */
extern void gate_follow(FactStatement *statement);

/* Whatever was noted and has no queued event to wait for is judged now. */
extern void gate_end(void);

/*
 * gate_enforce.c: what mode enforce asks of a row of event or task, ... (one of
 * the slots is NULL where it was not there)
 */
extern void enforce_fact(FactStatement *statement, TupleTableSlot *before, TupleTableSlot *now,
						 const FactNumbers *numbers);

/* ... of a row of deal, ... */
extern void enforce_deal(FactStatement *statement, TupleTableSlot *before, TupleTableSlot *now,
						 const DealNumbers *numbers);

/* ... and of the statement: to be called when columns have become events. */
extern void enforce_call(FactStatement *statement, FactCall call);
extern void enforce_statement(FactStatement *statement);

#endif							/* REGCRM_GATE_INT_H */
