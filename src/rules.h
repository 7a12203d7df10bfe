/*-------------------------------------------------------------------------
 *
 * rules.h
 *	  A regulation in compiled form: what the judge works with.
 *
 * Pure C: nothing of the server is included or called, so that the judge can
 * be built, tested and fuzzed on its own.  regulation.c fills RuleSource and
 * friends from the tables; rules_compile() turns them into a Regulation.
 *
 * Vocabulary (DESIGN section 4):
 *	atom	  one event token with its argument ("touch", "field:reason"),
 *			  numbered within a regulation
 *	condition something that holds or does not at an instant
 *	duty	  what a rule asks for, once it arose
 *
 * Instants and durations are microseconds; instants count from the server's
 * epoch (2000-01-01 UTC), though nothing here depends on that.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_RULES_H
#define REGCRM_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int64_t instant;

#define INSTANT_NEVER	INT64_MAX	/* also: open end, unknown due moment */
#define INSTANT_EVER	INT64_MIN	/* open beginning */
#define NO_NUMBER		(-1)		/* an index or a count that is not given */

/* A stage is the 8 bytes of the type regcrm.stage; 0 is no stage. */
typedef uint64_t stage_code;

/*
 * Sets of atoms.  256 atoms hold the built-in regulation (about 70) three
 * times over; rules_compile() says so when a regulation needs more.
 */
#define ATOM_WORDS	4
#define MAX_ATOMS	(ATOM_WORDS * 64)

typedef struct AtomSet
{
	uint64_t	w[ATOM_WORDS];
} AtomSet;

/* Atoms without argument have fixed numbers; those with one follow. */
enum
{
	ATOM_ENTER,
	ATOM_LEAVE,
	ATOM_CALL_OUT,
	ATOM_CALL_IN,
	ATOM_MISSED_CALL,
	ATOM_TALK,
	ATOM_MESSAGE_OUT,
	ATOM_MESSAGE_IN,
	ATOM_MESSAGE_BY_HAND,
	ATOM_BOT_MESSAGE,
	ATOM_TOUCH,
	ATOM_CONTACT,
	ATOM_CLIENT_REQUEST,
	ATOM_SCENARIO,
	ATOM_COMMENT,
	ATOM_TASK_ADDED,
	ATOM_TASK_BY_HAND,
	ATOM_TASK_BY_BOT,
	ATOM_TASK_DONE,
	ATOM_BOT_ACT,
	ATOM_BOT,
	ATOM_SIGNED_AND_PAID,
	ATOM_ACTIVITY,
	ATOM_TASKS_CHANGED,			/* internal: the set of open tasks changed */
	ATOM_FIRST_WITH_ARGUMENT
};

typedef enum AtomArg
{
	ARG_ENTER_STAGE,			/* enter:STAGE; number = stage index */
	ARG_LONG_CALL,				/* long_call:DURATION; value = duration */
	ARG_SCENARIO,				/* scenario:CODE; number = scenario index */
	ARG_TASK_ADDED,				/* task_added:KIND; number = kind index */
	ARG_TASK_DONE,				/* task_done:KIND; number = kind index */
	ARG_FIELD,					/* field:NAME; number = field index */
	ARG_MOMENT,					/* moment:NAME; number = field index */
	ARG_FIELD_CHANGED,			/* internal: set, changed or emptied */
	ARG_SOON					/* internal: soon:NAME:DURATION begins */
} AtomArg;

typedef struct Atom
{
	AtomArg		arg;
	int			number;
	int64_t		value;
} Atom;

/* What must be connected for a condition to be seen at all (DESIGN 3, feed). */
typedef enum FeedNumber
{
	FEED_CALLS,
	FEED_MESSAGES,
	FEED_TASKS,
	FEED_COMMENTS,
	FEED_FIRST_FIELD			/* + index in Regulation.fields */
} FeedNumber;

typedef enum ConditionKind
{
	COND_HAPPENED,				/* atom has happened in scope, at least times */
	COND_TASK,					/* an open task, of kind number if given */
	COND_NO_TASK,
	COND_STAGE,					/* the stage is known */
	COND_FIELD,					/* field holds a value */
	COND_PASSED,
	COND_AHEAD,
	COND_SOON,
	COND_VISITED,
	COND_MOVED_BY_BOT,
	COND_UNREACHED,
	COND_COMMENT_WHERE_REQUIRED,
	COND_SCENARIO_MATCHES
} ConditionKind;

typedef struct Condition
{
	ConditionKind kind;
	bool		negated;
	int			atom;			/* COND_HAPPENED */
	int			times;			/* COND_HAPPENED: at least so often */
	int			number;			/* kind of task, field or stage; NO_NUMBER */
	int64_t		value;			/* COND_SOON: duration */
	uint64_t	feeds;			/* one of these feeds must be connected, ... */
	uint64_t	also;			/* ... and one of these; 0 = always seen */
} Condition;

typedef enum RuleForm
{
	FORM_FLOW, FORM_ENTER, FORM_LEAVE, FORM_ALWAYS, FORM_WITHIN, FORM_NEVER,
	FORM_ATTEST
} RuleForm;

typedef enum RuleScope
{
	SCOPE_DEAL, SCOPE_VISIT, SCOPE_AFTER
} RuleScope;

typedef struct Rule
{
	int			number;			/* index in Regulation.rules */
	int			source;			/* index of the RuleSource it came from */
	int			code;			/* index in Regulation.codes */
	RuleForm	form;
	RuleScope	scope;
	int			stage;			/* index in stages; NO_NUMBER = any */
	int			event;			/* atom that triggers; NO_NUMBER = none */
	int			nth;			/* NO_NUMBER = every time */
	int			nexpect;
	int			nunless;
	Condition  *expect;			/* alternatives: one is enough */
	Condition  *unless;			/* any of them keeps the duty from arising */
	bool		has_within;
	int64_t		within;
	bool		has_warn;
	int64_t		warn;
	bool		by_task_due;
	int			by_field;		/* index in fields; NO_NUMBER */
	bool		business;		/* clock = 'business' */
	bool		duty_of_bot;
	bool		reject;			/* action = 'reject' */
	bool		each_task;		/* its event is of tasks: one finding a task */
	bool		expects_move;	/* within, enter: one of expect is a move */
	instant		valid_from;
	instant		valid_to;		/* exclusive */
	int			by_changed;		/* atom: by_field was changed; NO_NUMBER */
	AtomSet		trigger;		/* {event} */
	AtomSet		answers;		/* FORM_WITHIN: atoms of expect */
	AtomSet		other_answers;	/* ... without its own event */
	AtomSet		watch;			/* atoms that can change its conditions */
	AtomSet		looks;			/* answers and watch */
	bool		alike;			/* enter: what it expects holds for all of its duties or for none */
	bool		plain;			/* nothing but its event decides whether its duty arises */
	bool		always_seen;	/* what it expects needs no feed, ... */
	bool		seen_by_two;	/* ... or some of it needs two; see can_be_seen() */
	uint64_t	seen_by;		/* else one of these feeds shows it */
} Rule;

typedef struct Transition
{
	int			from;			/* NO_NUMBER: where a deal may begin */
	int			to;
	bool		comment_required;
	instant		valid_from;
	instant		valid_to;
	int			next;			/* the next row of the same move; NO_NUMBER */
} Transition;

typedef enum ScenarioOutcome
{
	OUTCOME_ANY, OUTCOME_REACHED, OUTCOME_MISSED
} ScenarioOutcome;

/* The rules of one stage, by what sets them in motion. */
typedef struct StageRules
{
	int			nenter, nleave, nalways;
	const Rule **enter;
	const Rule **leave;
	const Rule **always;
	AtomSet		always_watch;	/* what any of always looks at */

	/*
	 * FORM_WITHIN and FORM_NEVER but scope after: those that atom a sets in
	 * motion are fact[of_atom[a] .. of_atom[a + 1] - 1].
	 */
	const Rule **fact;
	int		   *of_atom;
	AtomSet		fact_watch;		/* atoms with a rule there */
	AtomSet		interest;		/* all that any rule looks at in this stage, but at moves */
} StageRules;

/* What choosing a scenario says of the call, while its row is valid. */
typedef struct OutcomeRow
{
	int			scenario;
	ScenarioOutcome outcome;
	instant		valid_from;
	instant		valid_to;
} OutcomeRow;

typedef struct Regulation
{
	int			nstages;
	stage_code *stages;
	int			nfields;
	char	  **fields;			/* names that rules name */
	int			ntask_kinds;
	char	  **task_kinds;
	int			nscenarios;
	char	  **scenarios;
	int			noutcomes;
	OutcomeRow *outcomes;		/* in order of time for each scenario */
	int			ncodes;
	char	  **codes;			/* rule codes, each once */
	int			nrules;
	Rule	   *rules;
	int			ntransitions;
	Transition *transitions;
	int		   *ways;			/* by (from + 1) * nstages + to: the first row */
	int			natoms;
	int			nwords;			/* of a set of atoms that are in use */
	Atom		atoms[MAX_ATOMS];
	AtomSet		counted;		/* atoms whose number is asked for */
	AtomSet		remembered;		/* atoms of which it is asked whether they happened */
	int			nflow, nattest, nafter;
	const Rule **flow;
	const Rule **attest;
	const Rule **after;			/* FORM_NEVER of scope after */
	AtomSet		after_watch;	/* their events */
	StageRules *by_stage;		/* nstages + 1; the last: a stage not known */
	int			signed_field;	/* fields of signed_and_paid, or NO_NUMBER */
	int			paid_field;
	/* From what a fact names to its atom; NO_NUMBER where no rule asks. */
	int		   *atom_of_stage;	/* enter:STAGE */
	int		   *atom_of_scenario;
	int		   *atom_of_field;	/* field:NAME */
	int		   *atom_of_change; /* the field was set, changed or emptied */
	int		   *atom_of_moment; /* moment:NAME */
	int		   *atom_of_added;	/* task_added:KIND */
	int		   *atom_of_done;	/* task_done:KIND */
	int			nlong_calls;
	int		   *long_calls;		/* atoms long_call:DURATION */
	int			nsoon;
	int		   *soon;			/* atoms ARG_SOON */
	int			ndated;
	int		   *dated;			/* fields whose moments matter: atom_of_moment */
	int64_t		redial_window;
	int64_t		undo_window;
	int64_t		min_talk;
} Regulation;

/*
 * What a regulation is compiled from: rows as they stand in the tables, with
 * text as C strings (NULL = SQL null) and intervals in microseconds, a day as
 * 24 hours.  Strings need live only during rules_compile().
 */
typedef struct RuleSource
{
	const char *code;
	stage_code	stage;			/* 0 = any */
	const char *form;
	const char *event;
	int			nth;			/* NO_NUMBER */
	int			nexpect;
	const char **expect;
	int			nunless;
	const char **unless;
	const char *scope;			/* NULL or '' = the form's own */
	bool		has_within;
	int64_t		within;
	const char *by;
	bool		has_warn;
	int64_t		warn;
	const char *clock;			/* 'business' or 'wall' */
	const char *duty_of;
	const char *action;
	instant		valid_from;
	instant		valid_to;
} RuleSource;

typedef struct ScenarioSource
{
	const char *code;
	const char *outcome;
	instant		valid_from;
	instant		valid_to;
} ScenarioSource;

typedef struct TransitionSource
{
	stage_code	from;			/* 0 = a deal may begin there */
	stage_code	to;
	bool		comment_required;
	instant		valid_from;
	instant		valid_to;
} TransitionSource;

typedef struct RegulationSource
{
	int			nstages;
	const stage_code *stages;	/* stage_def, in the order of position */
	int			nrules;
	const RuleSource *rules;
	int			nscenarios;
	const ScenarioSource *scenarios;
	int			ntransitions;
	const TransitionSource *transitions;
	int64_t		redial_window;
	int64_t		undo_window;
	int64_t		min_talk;
} RegulationSource;

/* Memory comes from the caller; it is never freed piecemeal. */
typedef struct Memory
{
	void	   *(*grow) (void *self, void *old, size_t size);	/* like realloc */
	void	   *self;
} Memory;

/* Why rules_compile() refused, for the caller to report in its own way. */
typedef struct RulesError
{
	int			rule;			/* index in RegulationSource.rules, or -1 */
	char		column[32];		/* which column of the rule is wrong */
	char		message[256];	/* primary message, lower case */
	char		hint[1024];		/* what is known, a sentence */
} RulesError;

/* Returns NULL and fills *error where a row can't be understood. */
extern Regulation *rules_compile(const RegulationSource *source,
								 const Memory *memory, RulesError *error);

/*
 * Reads "15min", "72 h", "30 s", "2 days" as in long_call:DURATION and
 * soon:NAME:DURATION; false where text is no duration.
 */
extern bool rules_duration(const char *text, int64_t *duration);

/* Indexes by name; NO_NUMBER where the regulation does not know it. */
extern int	rules_stage(const Regulation *regulation, stage_code stage);
extern int	rules_field(const Regulation *regulation, const char *name, size_t len);
extern int	rules_task_kind(const Regulation *regulation, const char *name, size_t len);
extern int	rules_scenario(const Regulation *regulation, const char *name, size_t len);
extern int	rules_code(const Regulation *regulation, const char *name, size_t len);

/* What a scenario chosen at that time says of the call. */
extern ScenarioOutcome rules_outcome(const Regulation *regulation, int scenario, instant at);

/* The transition row for a move, or NULL where the move is illegal at that time. */
extern const Transition *rules_transition(const Regulation *regulation,
										  int from, int to, instant at);

#endif							/* REGCRM_RULES_H */
