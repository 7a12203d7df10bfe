/*-------------------------------------------------------------------------
 *
 * effects.h
 *	  Effects: what the regulation says happens by itself when SQL writes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_EFFECTS_H
#define REGCRM_EFFECTS_H

#include "postgres.h"

#include "judge.h"

typedef enum EffectEvent
{
	EFFECT_ON_ENTER,
	EFFECT_ON_LEAVE,
	EFFECT_ON_SCENARIO
} EffectEvent;

typedef enum EffectWhat
{
	EFFECT_ADD_TASK,
	EFFECT_COMPLETE_TASKS,
	EFFECT_SET_FIELD,
	EFFECT_MOVE
} EffectWhat;

typedef enum EffectConditionKind
{
	UNLESS_TASK,				/* an open one, of that kind if one is given */
	UNLESS_NO_TASK,
	UNLESS_VISITED,
	UNLESS_ENTERS,				/* the move goes to that stage */
	UNLESS_FIELD				/* it holds a value */
} EffectConditionKind;

typedef struct EffectCondition
{
	EffectConditionKind kind;
	bool		negated;
	int			number;			/* stage or kind of task; NO_NUMBER */
	const char *name;			/* field */
} EffectCondition;

/* A row of regcrm.effect. */
typedef struct Effect
{
	const char *code;
	int			stage;			/* index in Regulation.stages; NO_NUMBER = any */
	EffectEvent event;
	int			scenario;		/* NO_NUMBER = any */
	int			nth;			/* NO_NUMBER = every time */
	int			nunless;
	const EffectCondition *unless;
	EffectWhat	what;
	const char *kind;			/* of task; NULL = any */
	int			kind_number;	/* NO_NUMBER = any, or one that no rule names */
	const char *body;
	int64		due;
	bool		business;
	const char *field;
	const char *value;
	stage_code	to;				/* of a move */
	int			to_stage;
	instant		valid_from;
	instant		valid_to;
} Effect;

/* What sets effects off: a deal enters or leaves a stage, or a scenario is chosen. */
typedef struct EffectTrigger
{
	EffectEvent event;
	instant		at;
	int			from;			/* of a move: indexes in stages, or STAGE_... */
	int			to;
	int			scenario;		/* index in scenarios */
	int64		event_id;		/* of a scenario */
} EffectTrigger;

/* What an effect comes to for one deal. */
typedef struct EffectAction
{
	const Effect *effect;
	instant		at;
	instant		due_at;			/* of a task */
} EffectAction;

typedef struct OpenTask
{
	int64		id;				/* NO_TASK = one that an effect is about to add */
	int			kind;
} OpenTask;

/* What effects look at of a deal; they change it as they are planned. */
typedef struct EffectState
{
	const Timeline *line;
	const Regulation *regulation;
	int			stage;			/* where the deal stands */
	instant		visit_start;
	bool		first_visit;
	int			ntasks;
	int			room_tasks;
	OpenTask   *tasks;
	int		   *visits;			/* by stage: how often entered */
	bool	   *holds;			/* by field of the timeline */
} EffectState;

/* Names fields by number as in Fact.u.field.number; NO_NUMBER = not known. */
typedef int (*effects_field) (void *arg, const char *name);

/*
 * Reads the effects of a regulation by the active snapshot into context; to be
 * called connected to SPI.
 */
extern int	effects_read(const char *regulation, const Regulation *compiled,
						 MemoryContext context, const Effect **effects);

/* Whether any effect may be set off by that. */
extern bool effects_concern(const Effect *effects, int n, const EffectTrigger *trigger);

/* What a deal's timeline comes to, palloc'd. */
extern EffectState *effects_state(Judge *judge, const Regulation *regulation,
								  const Timeline *line);

/*
 * What a trigger sets off, in order; room for n actions must be there.
 * Returns how many.
 */
extern int	effects_plan(const Effect *effects, int n, EffectState *state,
						 const EffectTrigger *trigger, effects_field field, void *field_arg,
						 EffectAction *actions);

#endif							/* REGCRM_EFFECTS_H */
