/*-------------------------------------------------------------------------
 *
 * rules_int.h
 *	  What the files that compile a regulation share.
 *
 * Nobody but rules.c, rule_tokens.c and rule_index.c includes this.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_RULES_INT_H
#define REGCRM_RULES_INT_H

#include "atoms.h"

#define SECOND			INT64_C(1000000)
#define MAX_DURATION	(INT64_C(400) * 366 * 86400 * SECOND)

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

typedef struct Compiler
{
	const RegulationSource *source;
	const Memory *memory;
	Regulation *reg;
	int			row;			/* the rule at hand, -1 outside */
	const char *column;			/* and its column, for messages */
	RulesError *error;
	bool		failed;
	int			room_fields;
	int			room_kinds;
	int			room_scenarios;
	int			room_codes;
} Compiler;

/* rules.c */
extern void *compiler_make(Compiler *c, size_t size);
extern int	compiler_intern(Compiler *c, char ***names, int *count, int *room,
							const char *name, size_t len);
extern bool compiler_fail(Compiler *c, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern bool compiler_hint(Compiler *c, const char *format,...)
			__attribute__((format(printf, 2, 3)));

/* rule_tokens.c */
extern bool compile_event(Compiler *c, const char *text, size_t len, int *atom,
						  uint64_t *feeds, uint64_t *also);
extern bool compile_condition(Compiler *c, const char *text, Condition *cond, AtomSet *watch);
extern bool compiler_hint_tokens(Compiler *c, bool conditions);
extern int	compiler_atom(Compiler *c, AtomArg arg, int number, int64_t value);
extern int	compiler_field(Compiler *c, const char *name, size_t len);
extern bool is_task_atom(const Regulation *reg, int atom);
extern bool is_move_atom(const Regulation *reg, int atom);

/* rule_index.c */
extern void index_atoms(Compiler *c);
extern void index_rules(Compiler *c);
extern void index_transitions(Compiler *c);

#endif							/* REGCRM_RULES_INT_H */
