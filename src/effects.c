/*-------------------------------------------------------------------------
 *
 * effects.c
 *	  Effects: which of them a write sets off, and what they come to.
 *
 * An effect is a row of regcrm.effect: when a deal enters or leaves a stage, or
 * a scenario is chosen, something else happens (a task is added or completed,
 * a field is set, the deal is moved), as if a robot did it.  Here it is only
 * found out what happens; effects_run.c writes it, ahead.c imagines it.
 *
 * Times of one second (DESIGN section 4): a scenario chosen at the instant of a
 * move belongs to the visit that the move ends, and visited:STAGE of a leave
 * looks at what was before the move, as the judge has it for rules.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "calendar.h"
#include "effects.h"
#include "stage.h"
#include "tables.h"

static Statement select_effects = {
	"select code, stage, event, nth, unless, what, kind, body, due, clock, field, value,"
	" to_stage,"
	" lower(valid) + case when lower_inc(valid) then '0' else '1 microsecond' end::interval,"
	" upper(valid) + case when upper_inc(valid) then '1 microsecond' else '0' end::interval"
	" from regcrm.effect where regulation = $1 and enabled"
	" order by position, code collate \"C\", valid",
	1, {TEXTOID}
};

enum
{
	COLUMN_CODE = 1, COLUMN_STAGE, COLUMN_EVENT, COLUMN_NTH, COLUMN_UNLESS, COLUMN_WHAT,
	COLUMN_KIND, COLUMN_BODY, COLUMN_DUE, COLUMN_CLOCK, COLUMN_FIELD, COLUMN_VALUE,
	COLUMN_TO_STAGE, COLUMN_FROM, COLUMN_TO
};


/* ---- rows ---- */

static char *
text_at(int row, int column, MemoryContext context)
{
	char	   *text = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);

	return text ? MemoryContextStrdup(context, text) : NULL;
}

static Datum
datum_at(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

static stage_code
stage_at(int row, int column)
{
	bool		isnull;
	Datum		datum = datum_at(row, column, &isnull);

	return isnull ? 0 : DatumGetStage(datum);
}

static instant
instant_at(int row, int column, instant otherwise)
{
	bool		isnull;
	Datum		datum = datum_at(row, column, &isnull);

	return isnull ? otherwise : DatumGetTimestampTz(datum);
}

/* Microseconds, a day as 24 hours. */
static int64
duration_at(int row, int column)
{
	bool		isnull;
	Datum		datum = datum_at(row, column, &isnull);
	Interval   *interval;
	int64		duration;

	if (isnull)
		return 0;
	interval = DatumGetIntervalP(datum);
	if (pg_mul_s64_overflow((int64) interval->month * DAYS_PER_MONTH + interval->day,
							USECS_PER_DAY, &duration) ||
		pg_add_s64_overflow(duration, interval->time, &duration))
		return PG_INT64_MAX;
	return duration;
}

/* What a number of names means: the stage of "visited:STAGE", and so on. */
static int
stage_number(const Regulation *regulation, const char *label)
{
	stage_code	code = label_pack(label, strlen(label));

	return code ? rules_stage(regulation, code) : NO_NUMBER;
}

/* One of unless; the table's CHECK lets nothing else in. */
static EffectCondition
read_condition(const Regulation *regulation, const char *token)
{
	EffectCondition cond = {.number = NO_NUMBER};

	if (*token == '!')
	{
		cond.negated = true;
		token++;
	}
	if (strncmp(token, "visited:", 8) == 0)
	{
		cond.kind = UNLESS_VISITED;
		cond.number = stage_number(regulation, token + 8);
	}
	else if (strncmp(token, "enter:", 6) == 0)
	{
		cond.kind = UNLESS_ENTERS;
		cond.number = stage_number(regulation, token + 6);
	}
	else if (strncmp(token, "task:", 5) == 0)
	{
		cond.kind = UNLESS_TASK;
		cond.number = rules_task_kind(regulation, token + 5, strlen(token + 5));
		cond.name = token + 5;
	}
	else if (strncmp(token, "field:", 6) == 0)
	{
		cond.kind = UNLESS_FIELD;
		cond.name = token + 6;
	}
	else
		cond.kind = strcmp(token, "no_task") == 0 ? UNLESS_NO_TASK : UNLESS_TASK;
	return cond;
}

static void
read_unless(int row, const Regulation *regulation, MemoryContext context, Effect *effect)
{
	bool		isnull;
	Datum		datum = datum_at(row, COLUMN_UNLESS, &isnull);
	EffectCondition *conditions;
	Datum	   *tokens;
	bool	   *nulls;
	int			n = 0;

	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT,
						  &tokens, &nulls, &n);
	conditions = MemoryContextAlloc(context, (n + 1) * sizeof(EffectCondition));
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			conditions[effect->nunless++] =
				read_condition(regulation,
							   MemoryContextStrdup(context, TextDatumGetCString(tokens[i])));
	effect->unless = conditions;
}

static EffectWhat
what_of(const char *word)
{
	return strcmp(word, "add_task") == 0 ? EFFECT_ADD_TASK :
		strcmp(word, "complete_tasks") == 0 ? EFFECT_COMPLETE_TASKS :
		strcmp(word, "set_field") == 0 ? EFFECT_SET_FIELD : EFFECT_MOVE;
}

static void
read_event(const char *token, const Regulation *regulation, Effect *effect)
{
	effect->scenario = NO_NUMBER;
	if (strcmp(token, "enter") == 0)
		effect->event = EFFECT_ON_ENTER;
	else if (strcmp(token, "leave") == 0)
		effect->event = EFFECT_ON_LEAVE;
	else
	{
		effect->event = EFFECT_ON_SCENARIO;
		if (token[8] == ':')
			effect->scenario = rules_scenario(regulation, token + 9, strlen(token + 9));
	}
}

/* False where it names what the regulation does not know: it can't happen. */
static bool
read_effect(int row, const Regulation *regulation, MemoryContext context, Effect *effect)
{
	const char *event = text_at(row, COLUMN_EVENT, context);
	stage_code	stage = stage_at(row, COLUMN_STAGE);
	bool		isnull;
	Datum		nth = datum_at(row, COLUMN_NTH, &isnull);

	memset(effect, 0, sizeof(*effect));
	effect->code = text_at(row, COLUMN_CODE, context);
	effect->stage = stage ? rules_stage(regulation, stage) : NO_NUMBER;
	read_event(event, regulation, effect);
	effect->nth = isnull ? NO_NUMBER : DatumGetInt32(nth);
	read_unless(row, regulation, context, effect);
	effect->what = what_of(text_at(row, COLUMN_WHAT, context));
	effect->kind = text_at(row, COLUMN_KIND, context);
	effect->kind_number = effect->kind ?
		rules_task_kind(regulation, effect->kind, strlen(effect->kind)) : NO_NUMBER;
	effect->body = text_at(row, COLUMN_BODY, context);
	effect->due = duration_at(row, COLUMN_DUE);
	effect->business = strcmp(text_at(row, COLUMN_CLOCK, context), "business") == 0;
	effect->field = text_at(row, COLUMN_FIELD, context);
	effect->value = text_at(row, COLUMN_VALUE, context);
	effect->to = stage_at(row, COLUMN_TO_STAGE);
	effect->to_stage = effect->to ? rules_stage(regulation, effect->to) : NO_NUMBER;
	effect->valid_from = instant_at(row, COLUMN_FROM, INSTANT_EVER);
	effect->valid_to = instant_at(row, COLUMN_TO, INSTANT_NEVER);
	return !(stage && effect->stage == NO_NUMBER) &&
		!(effect->event == EFFECT_ON_SCENARIO && event[8] == ':' && effect->scenario == NO_NUMBER);
}

int
effects_read(const char *regulation, const Regulation *compiled, MemoryContext context,
			 const Effect **effects)
{
	Datum		arg = CStringGetTextDatum(regulation);
	Effect	   *rows;
	int			n = 0;

	statement_run(&select_effects, &arg);
	rows = MemoryContextAlloc(context, (SPI_processed + 1) * sizeof(Effect));
	for (uint64 i = 0; i < SPI_processed; i++)
		if (read_effect((int) i, compiled, context, &rows[n]))
			n++;
	SPI_freetuptable(SPI_tuptable);
	*effects = rows;
	return n;
}


/* ---- what a deal's timeline comes to ---- */

static void
add_task(EffectState *state, int64 id, int kind)
{
	if (state->ntasks == state->room_tasks)
	{
		state->room_tasks = state->room_tasks ? state->room_tasks * 2 : 16;
		state->tasks = state->tasks ?
			repalloc(state->tasks, state->room_tasks * sizeof(OpenTask)) :
			palloc(state->room_tasks * sizeof(OpenTask));
	}
	state->tasks[state->ntasks++] = (OpenTask) {id, kind};
}

static void
remove_task(EffectState *state, int64 id)
{
	for (int i = 0; i < state->ntasks; i++)
		if (state->tasks[i].id == id)
		{
			state->tasks[i] = state->tasks[--state->ntasks];
			return;
		}
}

EffectState *
effects_state(Judge *judge, const Regulation *regulation, const Timeline *line)
{
	EffectState *state = palloc0(sizeof(EffectState));
	const JudgedMove *moves;
	int			nmoves = judge_moves(judge, line, &moves);

	state->line = line;
	state->regulation = regulation;
	state->visits = palloc0((regulation->nstages + 1) * sizeof(int));
	state->holds = palloc0((Max(line->nfields, regulation->nfields) + 1) * sizeof(bool));
	state->stage = STAGE_NONE;
	for (int i = 0; i < nmoves; i++)
	{
		state->stage = moves[i].to;
		state->visit_start = moves[i].at;
		if (moves[i].to >= 0)
			state->visits[moves[i].to]++;
	}
	state->first_visit = nmoves <= 1;
	for (int i = 0; i < line->nfacts; i++)
	{
		const Fact *fact = &line->facts[i];

		if (fact->kind == FACT_TASK_ADDED)
			add_task(state, fact->id, fact->u.task.kind);
		else if (fact->kind == FACT_TASK_DONE || fact->kind == FACT_TASK_GONE)
			remove_task(state, fact->id);
		else if (fact->kind == FACT_FIELD)
			state->holds[fact->u.field.number] = (fact->flags & FACT_HOLDS) != 0;
	}
	return state;
}


/* ---- planning ---- */

static bool
matches(const Effect *effect, const EffectTrigger *trigger)
{
	return effect->event == trigger->event &&
		effect->valid_from <= trigger->at && trigger->at < effect->valid_to &&
		(effect->scenario == NO_NUMBER || effect->scenario == trigger->scenario);
}

bool
effects_concern(const Effect *effects, int n, const EffectTrigger *trigger)
{
	for (int i = 0; i < n; i++)
	{
		const Effect *effect = &effects[i];

		if (!matches(effect, trigger))
			continue;
		if (effect->stage == NO_NUMBER || effect->event == EFFECT_ON_SCENARIO ||
			effect->stage == (effect->event == EFFECT_ON_ENTER ? trigger->to : trigger->from))
			return true;
	}
	return false;
}

/* The how manieth scenario of that code in the present visit the trigger is. */
static int
scenario_ordinal(const EffectState *state, const EffectTrigger *trigger, int scenario)
{
	const Timeline *line = state->line;
	int			n = 1;

	for (int i = 0; i < line->nfacts; i++)
	{
		const Fact *fact = &line->facts[i];

		if (fact->kind != FACT_SCENARIO || fact->id == trigger->event_id ||
			(scenario != NO_NUMBER && fact->u.scenario.number != scenario))
			continue;
		if (fact->at < state->visit_start ||
			(fact->at == state->visit_start && !state->first_visit))
			continue;
		if (fact->at < trigger->at || (fact->at == trigger->at && fact->id < trigger->event_id))
			n++;
	}
	return n;
}

static bool
has_open_task(const EffectState *state, int kind)
{
	for (int i = 0; i < state->ntasks; i++)
		if (kind == NO_NUMBER || state->tasks[i].kind == kind)
			return true;
	return false;
}

static bool
holds(const EffectCondition *cond, const EffectState *state, const EffectTrigger *trigger,
	  effects_field field, void *field_arg)
{
	int			number;

	switch (cond->kind)
	{
		case UNLESS_TASK:
			if (cond->name != NULL && cond->number == NO_NUMBER)
				return false;	/* of a kind that nobody looks at */
			return has_open_task(state, cond->number);
		case UNLESS_NO_TASK:
			return state->ntasks == 0;
		case UNLESS_VISITED:
			if (cond->number == NO_NUMBER)
				return false;
			/* of a leave: before this move */
			return state->visits[cond->number] >
				(trigger->event == EFFECT_ON_LEAVE && trigger->to == cond->number);
		case UNLESS_ENTERS:
			return trigger->event != EFFECT_ON_SCENARIO && cond->number != NO_NUMBER &&
				trigger->to == cond->number;
		case UNLESS_FIELD:
			number = field(field_arg, cond->name);
			return number != NO_NUMBER && state->holds[number];
	}
	return false;
}

/* Whether an effect that the trigger's event matches is to happen. */
static bool
applies(const Effect *effect, const EffectState *state, const EffectTrigger *trigger,
		effects_field field, void *field_arg)
{
	int			stage = trigger->event == EFFECT_ON_ENTER ? trigger->to :
		trigger->event == EFFECT_ON_LEAVE ? trigger->from : state->stage;

	if (effect->stage != NO_NUMBER && effect->stage != stage)
		return false;
	if (effect->nth != NO_NUMBER)
	{
		int			ordinal = trigger->event == EFFECT_ON_SCENARIO ?
			scenario_ordinal(state, trigger, effect->scenario) :
			stage >= 0 ? state->visits[stage] : 0;

		if (ordinal != effect->nth)
			return false;
	}
	for (int i = 0; i < effect->nunless; i++)
		if (holds(&effect->unless[i], state, trigger, field, field_arg) !=
			effect->unless[i].negated)
			return false;
	return true;
}

/* What later effects of the same trigger see of this one. */
static void
take_note(const Effect *effect, EffectState *state, effects_field field, void *field_arg)
{
	int			number;

	switch (effect->what)
	{
		case EFFECT_ADD_TASK:
			add_task(state, NO_TASK, effect->kind_number);
			break;
		case EFFECT_COMPLETE_TASKS:
			for (int i = state->ntasks - 1; i >= 0; i--)
				if (effect->kind == NULL || (effect->kind_number != NO_NUMBER &&
											 state->tasks[i].kind == effect->kind_number))
					state->tasks[i] = state->tasks[--state->ntasks];
			break;
		case EFFECT_SET_FIELD:
			number = field(field_arg, effect->field);
			if (number != NO_NUMBER)
				state->holds[number] = effect->value != NULL && effect->value[0] != '\0' &&
					strcmp(effect->value, "false") != 0;
			break;
		case EFFECT_MOVE:
			break;
	}
}

int
effects_plan(const Effect *effects, int n, EffectState *state, const EffectTrigger *trigger,
			 effects_field field, void *field_arg, EffectAction *actions)
{
	int			count = 0;

	/*
	 * What was chosen in an earlier visit sets nothing off in this one; nor
	 * what was chosen at the instant of the move, which somebody made already.
	 */
	if (trigger->event == EFFECT_ON_SCENARIO && !state->first_visit &&
		trigger->at <= state->visit_start)
		return 0;
	/* a move that takes another back within undo_window is none */
	if (trigger->event != EFFECT_ON_SCENARIO &&
		(state->stage != trigger->to || state->visit_start != trigger->at))
		return 0;
	for (int i = 0; i < n; i++)
	{
		const Effect *effect = &effects[i];

		if (!matches(effect, trigger) || !applies(effect, state, trigger, field, field_arg))
			continue;
		actions[count++] = (EffectAction) {
			.effect = effect,
			.at = trigger->at,
			.due_at = effect->what != EFFECT_ADD_TASK ? INSTANT_NEVER :
				calendar_add(effect->business ? state->line->calendar : NULL, trigger->at,
							 effect->due),
		};
		take_note(effect, state, field, field_arg);
	}
	return count;
}
