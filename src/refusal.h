/*-------------------------------------------------------------------------
 *
 * refusal.h
 *	  Breaches for which the gate refuses a transaction, and how it says so.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_REFUSAL_H
#define REGCRM_REFUSAL_H

#include "postgres.h"

#include "ledger.h"
#include "lib/stringinfo.h"

/* A new breach of a rule with action reject. */
typedef struct Refusal
{
	int64		account_id;
	int64		deal_id;
	const LoadedRegulation *regulation;
	int			rule;			/* index in compiled->rules */
	instant		arose_at;
	int			stage;			/* where the deal stands; STAGE_... */
	int			from;			/* of the move that brought it; STAGE_... */
	int			to;
	bool		moved;			/* a move brought it */
} Refusal;

typedef struct Refusals
{
	MemoryContext context;		/* of the items */
	int			n;
	int			room;
	Refusal    *items;
} Refusals;

/*
 * Takes from the findings of the deal that the ledger has just compared those
 * that are to be refused.  With flow_only, illegal moves and nothing else.
 */
extern void refusals_collect(Refusals *refusals, const Account *account, const Timeline *line,
							 const Finding *findings, int n, const Ledger *ledger,
							 bool flow_only);

/* Raises one error that names them all; none where there are none. */
extern void refusals_raise(const Refusals *refusals);

/* The form of its rule. */
extern RuleForm refusal_form(const Refusal *refusal);

/* What is missing, and what to do about it, in words; palloc'd. */
extern char *refusal_missing(const Refusal *refusal);
extern char *refusal_advice(const Refusal *refusal);

#endif							/* REGCRM_REFUSAL_H */
