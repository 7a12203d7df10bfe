/*-------------------------------------------------------------------------
 *
 * regulation.h
 *	  Regulations out of their tables, compiled and cached.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_REGULATION_H
#define REGCRM_REGULATION_H

#include "postgres.h"

#include "effects.h"
#include "rules.h"

/* What reports need of a rule row; NULL = null. */
typedef struct RuleInfo
{
	const char *code;
	const char *title;
	const char *clause;
	const char *severity;
	const char *basis;
	const char *action;
	const char *duty_of;
	int			nexpect;		/* tokens, as written */
	const char **expect;
	const char *event;
} RuleInfo;

typedef struct LoadedRegulation
{
	const char *code;
	const char *title;
	const Regulation *compiled;
	const RuleInfo *rules;		/* by Rule.source */
	const char **scenario_names;	/* folded, by index in compiled->scenarios */
	int			neffects;
	const Effect *effects;		/* in the order in which they run */
} LoadedRegulation;

extern void regulation_init(void);

/*
 * The regulation of that code, from the cache or from its tables by the
 * latest snapshot.  Valid until the end of the transaction, whatever happens
 * to the rules meanwhile.  Error where there is none, or a row of it can't be
 * understood.
 */
extern const LoadedRegulation *regulation_get(const char *code);

/* Error where a row of the regulation can't be understood, none where it is gone. */
extern void regulation_check(const char *code);

/* What reports need of a compiled rule. */
static inline const RuleInfo *
regulation_rule(const LoadedRegulation *loaded, int rule)
{
	return &loaded->rules[loaded->compiled->rules[rule].source];
}

/*
 * Index in compiled->scenarios of what an event names: a scenario's code, or
 * its name as the CRM tells it; NO_NUMBER.
 */
extern int	regulation_scenario(const LoadedRegulation *loaded, const char *text);

/* Text folded as names are compared; palloc'd. */
extern char *regulation_fold(const char *text);

#endif							/* REGCRM_REGULATION_H */
