/*-------------------------------------------------------------------------
 *
 * rules.c
 *	  Compiles the rows of a regulation into what the judge works with.
 *
 * Every name in a row (stage, field, kind of task, scenario, rule code) is
 * given a number, every event token an atom, every condition a small struct
 * (rule_tokens.c), and each stage the rules that can matter there
 * (rule_index.c).  A row that can't be understood is refused with what is known
 * instead: the trigger on regcrm.rule calls this for one row, regulation.c for
 * all of them.
 *
 * Pure: see rules.h.  Forms are those of DESIGN section 4.
 *
 *-------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "rules_int.h"

static bool compile_rule(Compiler *c, int row);


/* ---- memory and names ---- */

void *
compiler_make(Compiler *c, size_t size)
{
	void	   *block = c->memory->grow(c->memory->self, NULL, size ? size : 1);

	memset(block, 0, size ? size : 1);
	return block;
}

/* Gives a name its number, adding it where it is new. */
int
compiler_intern(Compiler *c, char ***names, int *count, int *room, const char *name, size_t len)
{
	char	   *copy;

	for (int i = 0; i < *count; i++)
		if (strlen((*names)[i]) == len && memcmp((*names)[i], name, len) == 0)
			return i;
	if (*count == *room)
	{
		*room = *room ? *room * 2 : 16;
		*names = c->memory->grow(c->memory->self, *names, *room * sizeof(char *));
	}
	copy = compiler_make(c, len + 1);
	memcpy(copy, name, len);
	(*names)[*count] = copy;
	return (*count)++;
}

bool
compiler_fail(Compiler *c, const char *format,...)
{
	va_list		args;

	if (c->failed)
		return false;
	c->failed = true;
	c->error->rule = c->row;
	snprintf(c->error->column, sizeof(c->error->column), "%s",
			 c->column ? c->column : "");
	va_start(args, format);
	vsnprintf(c->error->message, sizeof(c->error->message), format, args);
	va_end(args);
	c->error->hint[0] = '\0';
	return false;
}

/* Adds to the hint of the failure just reported; always false, for return. */
bool
compiler_hint(Compiler *c, const char *format,...)
{
	size_t		used = strlen(c->error->hint);
	va_list		args;

	va_start(args, format);
	vsnprintf(c->error->hint + used, sizeof(c->error->hint) - used, format, args);
	va_end(args);
	return false;
}

static int
find_name(char *const *names, int count, const char *name, size_t len)
{
	for (int i = 0; i < count; i++)
		if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
			return i;
	return NO_NUMBER;
}


/* ---- look-up by name, for the timeline ---- */

int
rules_stage(const Regulation *regulation, stage_code stage)
{
	for (int i = 0; i < regulation->nstages; i++)
		if (regulation->stages[i] == stage)
			return i;
	return NO_NUMBER;
}

int
rules_field(const Regulation *regulation, const char *name, size_t len)
{
	return find_name(regulation->fields, regulation->nfields, name, len);
}

int
rules_task_kind(const Regulation *regulation, const char *name, size_t len)
{
	return find_name(regulation->task_kinds, regulation->ntask_kinds, name, len);
}

int
rules_scenario(const Regulation *regulation, const char *name, size_t len)
{
	return find_name(regulation->scenarios, regulation->nscenarios, name, len);
}

int
rules_code(const Regulation *regulation, const char *name, size_t len)
{
	return find_name(regulation->codes, regulation->ncodes, name, len);
}

/*
 * What a scenario chosen at a moment says of the call: by its row in force
 * then, else (chosen when it may not be) by its latest.
 */
ScenarioOutcome
rules_outcome(const Regulation *regulation, int scenario, instant at)
{
	ScenarioOutcome outcome = OUTCOME_ANY;

	for (int i = 0; i < regulation->noutcomes; i++)
	{
		const OutcomeRow *row = &regulation->outcomes[i];

		if (row->scenario != scenario)
			continue;
		outcome = row->outcome;
		if (row->valid_from <= at && at < row->valid_to)
			break;
	}
	return outcome;
}

const Transition *
rules_transition(const Regulation *regulation, int from, int to, instant at)
{
	int			i;

	if (from < NO_NUMBER || from >= regulation->nstages ||
		to < 0 || to >= regulation->nstages)
		return NULL;
	i = regulation->ways[(from + 1) * regulation->nstages + to];
	while (i != NO_NUMBER)
	{
		const Transition *t = &regulation->transitions[i];

		if (t->valid_from <= at && at < t->valid_to)
			return t;
		i = t->next;
	}
	return NULL;
}


/* ---- rules ---- */

static int
choose(Compiler *c, const char *column, const char *value, const char *const *known)
{
	c->column = column;
	for (int i = 0; known[i]; i++)
		if (value && strcmp(value, known[i]) == 0)
			return i;
	compiler_fail(c, "%s \"%s\" is not known", column, value ? value : "null");
	compiler_hint(c, "Known are");
	for (int i = 0; known[i]; i++)
		compiler_hint(c, "%s %s", i ? "," : "", known[i]);
	compiler_hint(c, ".");
	return NO_NUMBER;
}

/* What a form needs and what it can't have. */
static bool
check_shape(Compiler *c, const RuleSource *s, RuleForm form)
{
	bool		conditions = form == FORM_ENTER || form == FORM_LEAVE || form == FORM_ALWAYS;

	c->column = "event";
	if ((form == FORM_WITHIN || form == FORM_NEVER) && !s->event)
	{
		compiler_fail(c, "form \"%s\" needs an event", s->form);
		return compiler_hint_tokens(c, false);
	}
	if (form != FORM_WITHIN && form != FORM_NEVER && s->event &&
		!(form == FORM_ENTER && strcmp(s->event, "enter") == 0) &&
		!(form == FORM_LEAVE && strcmp(s->event, "leave") == 0))
		return compiler_fail(c, "form \"%s\" takes no event", s->form);
	c->column = "expect";
	if ((conditions || form == FORM_WITHIN) && s->nexpect == 0)
	{
		compiler_fail(c, "form \"%s\" needs something to expect", s->form);
		return compiler_hint_tokens(c, conditions);
	}
	if (!conditions && form != FORM_WITHIN && s->nexpect > 0)
		return compiler_fail(c, "form \"%s\" expects nothing", s->form);
	c->column = "nth";
	if (s->nth != NO_NUMBER && (form == FORM_FLOW || form == FORM_LEAVE ||
								form == FORM_ALWAYS || form == FORM_ATTEST))
		return compiler_fail(c, "form \"%s\" takes no nth", s->form);
	if (s->nth != NO_NUMBER && s->nth < 1)
		return compiler_fail(c, "nth must be 1 or more");
	c->column = "within";
	if (s->has_within && (s->within < 0 || s->within > MAX_DURATION))
		return compiler_fail(c, "within must be between 0 and 400 years");
	if (s->has_within && (form == FORM_FLOW || form == FORM_ATTEST))
		return compiler_fail(c, "form \"%s\" takes no within", s->form);
	if (form == FORM_WITHIN && !s->has_within && !s->by)
	{
		compiler_fail(c, "form \"within\" needs within or by");
		return compiler_hint(c, "Give a duration, or the moment by which the answer is due.");
	}
	c->column = "by";
	if (s->by && form != FORM_WITHIN)
		return compiler_fail(c, "form \"%s\" takes no by", s->form);
	c->column = "warn";
	if (s->has_warn && (form == FORM_FLOW || form == FORM_NEVER || form == FORM_ATTEST ||
						!(s->has_within || s->by)))
		return compiler_fail(c, "warn needs a due moment to warn of");
	if (s->has_warn && (s->warn < 0 || s->warn > MAX_DURATION))
		return compiler_fail(c, "warn must be between 0 and 400 years");
	c->column = "unless";
	if (s->nunless > 0 && form == FORM_ATTEST)
		return compiler_fail(c, "form \"attest\" takes no unless");
	return true;
}

static bool
compile_by(Compiler *c, const RuleSource *s, Rule *rule)
{
	c->column = "by";
	if (!s->by)
		return true;
	if (strcmp(s->by, "task_due") == 0)
	{
		if (!is_task_atom(c->reg, rule->event) || rule->event == ATOM_TASK_DONE ||
			(rule->event >= ATOM_FIRST_WITH_ARGUMENT &&
			 c->reg->atoms[rule->event].arg == ARG_TASK_DONE))
		{
			compiler_fail(c, "by \"task_due\" needs a task that was added as its event");
			return compiler_hint(c, "Events with a due moment are task_added, task_added:KIND, task_by_hand and task_by_bot.");
		}
		rule->by_task_due = true;
		return true;
	}
	if (*s->by == '\0')
		return compiler_fail(c, "by is empty");
	rule->by_field = compiler_field(c, s->by, strlen(s->by));
	rule->by_changed = compiler_atom(c, ARG_FIELD_CHANGED, rule->by_field, 0);
	if (!c->failed)
		atoms_add(&rule->watch, rule->by_changed);
	(void) compiler_atom(c, ARG_MOMENT, rule->by_field, 0);
	return !c->failed;
}

static bool
compile_expectations(Compiler *c, const RuleSource *s, Rule *rule)
{
	rule->nexpect = s->nexpect;
	rule->expect = compiler_make(c, sizeof(Condition) * (s->nexpect + 1));
	rule->nunless = s->nunless;
	rule->unless = compiler_make(c, sizeof(Condition) * (s->nunless + 1));

	c->column = "expect";
	for (int i = 0; i < s->nexpect; i++)
	{
		Condition  *cond = &rule->expect[i];

		if (rule->form != FORM_WITHIN)
		{
			if (!compile_condition(c, s->expect[i], cond, &rule->watch))
				return false;
			if (cond->kind == COND_HAPPENED && !cond->negated &&
				is_move_atom(c->reg, cond->atom) && cond->atom != ATOM_LEAVE)
				rule->expects_move = true;
			continue;
		}
		/* what form "within" expects is an event, not a condition */
		cond->kind = COND_HAPPENED;
		cond->times = 1;
		cond->number = NO_NUMBER;
		if (!compile_event(c, s->expect[i], strlen(s->expect[i]), &cond->atom,
						   &cond->feeds, &cond->also))
			return false;
		atoms_add(&rule->answers, cond->atom);
		if (is_move_atom(c->reg, cond->atom) && cond->atom != ATOM_LEAVE)
			rule->expects_move = true;
	}
	c->column = "unless";
	for (int i = 0; i < s->nunless; i++)
		if (!compile_condition(c, s->unless[i], &rule->unless[i], &rule->watch))
			return false;
	return true;
}

static bool
compile_scope(Compiler *c, const RuleSource *s, Rule *rule)
{
	static const char *const scopes[] = {"deal", "visit", "after", NULL};
	int			scope;

	c->column = "scope";
	if (!s->scope || *s->scope == '\0')
	{
		rule->scope = rule->form == FORM_ENTER || rule->form == FORM_LEAVE ?
			SCOPE_DEAL : SCOPE_VISIT;
		return true;
	}
	scope = choose(c, "scope", s->scope, scopes);
	if (scope < 0)
		return false;
	rule->scope = (RuleScope) scope;
	if (rule->scope == SCOPE_AFTER && rule->form != FORM_NEVER)
		return compiler_fail(c, "scope \"after\" belongs to form \"never\"");
	if (rule->scope == SCOPE_AFTER && rule->stage == NO_NUMBER)
		return compiler_fail(c, "scope \"after\" needs a stage");
	if (rule->scope == SCOPE_AFTER && s->has_within)
	{
		compiler_fail(c, "scope \"after\" takes no within");
		return compiler_hint(c, "A grace begins when the deal enters the stage; this scope speaks of what comes once it has left.");
	}
	return true;
}

static bool
compile_rule(Compiler *c, int row)
{
	static const char *const forms[] = {
		"flow", "enter", "leave", "always", "within", "never", "attest", NULL
	};
	static const char *const clocks[] = {"wall", "business", NULL};
	static const char *const owners[] = {"manager", "bot", NULL};
	static const char *const actions[] = {"record", "reject", NULL};
	const RuleSource *s = &c->source->rules[row];
	Rule	   *rule = &c->reg->rules[row];
	int			chosen;
	uint64_t	feeds,
				also;

	c->row = row;
	rule->number = rule->source = row;
	rule->event = rule->by_field = rule->by_changed = NO_NUMBER;
	rule->nth = s->nth;
	c->column = "code";
	if (!s->code || *s->code == '\0')
		return compiler_fail(c, "a rule needs a code");
	rule->code = compiler_intern(c, &c->reg->codes, &c->reg->ncodes, &c->room_codes,
						s->code, strlen(s->code));
	if ((chosen = choose(c, "form", s->form, forms)) < 0)
		return false;
	rule->form = (RuleForm) chosen;
	c->column = "stage";
	rule->stage = NO_NUMBER;
	if (s->stage != 0 && (rule->stage = rules_stage(c->reg, s->stage)) < 0)
	{
		compiler_fail(c, "the rule's stage does not exist");
		return compiler_hint(c, "Add it to regcrm.stage_def first.");
	}
	if (!check_shape(c, s, rule->form) || !compile_scope(c, s, rule))
		return false;
	if ((chosen = choose(c, "clock", s->clock, clocks)) < 0)
		return false;
	rule->business = chosen == 1;
	if ((chosen = choose(c, "duty_of", s->duty_of, owners)) < 0)
		return false;
	rule->duty_of_bot = chosen == 1;
	if ((chosen = choose(c, "action", s->action, actions)) < 0)
		return false;
	rule->reject = chosen == 1;
	rule->has_within = s->has_within;
	rule->within = s->has_within ? s->within : 0;
	rule->has_warn = s->has_warn;
	rule->warn = s->has_warn ? s->warn : 0;
	rule->valid_from = s->valid_from;
	rule->valid_to = s->valid_to;
	c->column = "event";
	if (rule->form == FORM_WITHIN || rule->form == FORM_NEVER)
	{
		if (!compile_event(c, s->event, strlen(s->event), &rule->event, &feeds, &also))
			return false;
		atoms_add(&rule->trigger, rule->event);
		rule->each_task = is_task_atom(c->reg, rule->event) || rule->event == ATOM_BOT;
		if (rule->nth != NO_NUMBER && rule->event != ATOM_ENTER)
			atoms_add(&c->reg->counted, rule->event);
	}
	return compile_by(c, s, rule) && compile_expectations(c, s, rule);
}


static bool
compile_scenarios(Compiler *c)
{
	static const char *const outcomes[] = {"any", "reached", "missed", NULL};
	const RegulationSource *source = c->source;

	c->reg->outcomes = compiler_make(c, sizeof(OutcomeRow) * (source->nscenarios + 1));
	for (int i = 0; i < source->nscenarios; i++)
	{
		int			outcome = choose(c, "outcome", source->scenarios[i].outcome, outcomes);
		int			number = compiler_intern(c, &c->reg->scenarios, &c->reg->nscenarios,
									&c->room_scenarios, source->scenarios[i].code,
									strlen(source->scenarios[i].code));

		if (outcome < 0)
			return false;
		c->reg->outcomes[c->reg->noutcomes++] = (OutcomeRow) {
			.scenario = number,
			.outcome = (ScenarioOutcome) outcome,
			.valid_from = source->scenarios[i].valid_from,
			.valid_to = source->scenarios[i].valid_to,
		};
	}
	return true;
}

static void
compile_transitions(Compiler *c)
{
	Regulation *reg = c->reg;
	const RegulationSource *source = c->source;

	reg->transitions = compiler_make(c, sizeof(Transition) * (source->ntransitions + 1));
	for (int i = 0; i < source->ntransitions; i++)
	{
		const TransitionSource *s = &source->transitions[i];
		Transition *t = &reg->transitions[reg->ntransitions];

		t->from = s->from ? rules_stage(reg, s->from) : NO_NUMBER;
		t->to = rules_stage(reg, s->to);
		if (t->to < 0 || (s->from && t->from < 0))
			continue;			/* of a stage that is gone: no move uses it */
		t->comment_required = s->comment_required;
		t->valid_from = s->valid_from;
		t->valid_to = s->valid_to;
		reg->ntransitions++;
	}
}

Regulation *
rules_compile(const RegulationSource *source, const Memory *memory, RulesError *error)
{
	Compiler	c = {0};

	memset(error, 0, sizeof(*error));
	error->rule = -1;
	c.source = source;
	c.memory = memory;
	c.error = error;
	c.row = -1;
	c.reg = compiler_make(&c, sizeof(Regulation));
	c.reg->natoms = ATOM_FIRST_WITH_ARGUMENT;
	c.reg->signed_field = c.reg->paid_field = NO_NUMBER;
	c.reg->redial_window = source->redial_window;
	c.reg->undo_window = source->undo_window;
	c.reg->min_talk = source->min_talk;
	c.reg->nstages = source->nstages;
	c.reg->stages = compiler_make(&c, sizeof(stage_code) * (source->nstages + 1));
	if (source->nstages > 0)
		memcpy(c.reg->stages, source->stages, sizeof(stage_code) * source->nstages);
	if (!compile_scenarios(&c))
		return NULL;
	compile_transitions(&c);
	c.reg->nrules = source->nrules;
	c.reg->rules = compiler_make(&c, sizeof(Rule) * (source->nrules + 1));
	for (int i = 0; i < source->nrules; i++)
		if (!compile_rule(&c, i))
			return NULL;
	index_atoms(&c);
	index_rules(&c);
	index_transitions(&c);
	return c.reg;
}
