/*-------------------------------------------------------------------------
 *
 * rules.c
 *	  Compiles the rows of a regulation into what the judge works with.
 *
 * Every name in a row (stage, field, kind of task, scenario, rule code) is
 * given a number, every event token an atom, every condition a small struct,
 * and each stage the list of rules that can matter there.  A row that can't
 * be understood is refused with what is known instead: the trigger on
 * regcrm.rule calls this for one row, regulation.c for all of them.
 *
 * Pure: see rules.h.  Tokens and forms are those of DESIGN section 4.
 *
 *-------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "atoms.h"
#include "label.h"
#include "rules.h"

/* FEED_FIRST_FIELD + fields must fit the 64 bits of Condition.feeds */
#define MAX_FIELDS		(64 - FEED_FIRST_FIELD)

#define SECOND			INT64_C(1000000)
#define MAX_DURATION	(INT64_C(400) * 366 * 86400 * SECOND)

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

/* An event token: its name, and what kind of argument follows a colon. */
typedef enum TokenArgument
{
	TAKES_NONE, TAKES_STAGE, TAKES_SCENARIO, TAKES_KIND, TAKES_FIELD, TAKES_DURATION
} TokenArgument;

#define FEED(f)			(UINT64_C(1) << (f))
#define FEEDS_TALK		(FEED(FEED_CALLS) | FEED(FEED_MESSAGES))

typedef struct EventToken
{
	const char *name;
	int			atom;			/* without an argument; NO_NUMBER = needs one */
	TokenArgument takes;
	int			arg;			/* AtomArg, with an argument */
	uint64_t	feeds;			/* one of them shows it; 0 = always seen */
} EventToken;

static const EventToken event_tokens[] = {
	{"enter", ATOM_ENTER, TAKES_STAGE, ARG_ENTER_STAGE, 0},
	{"leave", ATOM_LEAVE, TAKES_NONE, 0, 0},
	{"call_out", ATOM_CALL_OUT, TAKES_NONE, 0, FEED(FEED_CALLS)},
	{"call_in", ATOM_CALL_IN, TAKES_NONE, 0, FEED(FEED_CALLS)},
	{"missed_call", ATOM_MISSED_CALL, TAKES_NONE, 0, FEED(FEED_CALLS)},
	{"talk", ATOM_TALK, TAKES_NONE, 0, FEED(FEED_CALLS)},
	{"long_call", NO_NUMBER, TAKES_DURATION, ARG_LONG_CALL, FEED(FEED_CALLS)},
	{"message_out", ATOM_MESSAGE_OUT, TAKES_NONE, 0, FEED(FEED_MESSAGES)},
	{"message_in", ATOM_MESSAGE_IN, TAKES_NONE, 0, FEED(FEED_MESSAGES)},
	{"message_by_hand", ATOM_MESSAGE_BY_HAND, TAKES_NONE, 0, FEED(FEED_MESSAGES)},
	{"bot_message", ATOM_BOT_MESSAGE, TAKES_NONE, 0, FEED(FEED_MESSAGES)},
	{"touch", ATOM_TOUCH, TAKES_NONE, 0, FEEDS_TALK},
	{"contact", ATOM_CONTACT, TAKES_NONE, 0, FEEDS_TALK},
	{"client_request", ATOM_CLIENT_REQUEST, TAKES_NONE, 0, FEEDS_TALK},
	{"scenario", ATOM_SCENARIO, TAKES_SCENARIO, ARG_SCENARIO, 0},	/* the field's feed */
	{"comment", ATOM_COMMENT, TAKES_NONE, 0, FEED(FEED_COMMENTS)},
	{"task_added", ATOM_TASK_ADDED, TAKES_KIND, ARG_TASK_ADDED, FEED(FEED_TASKS)},
	{"task_by_hand", ATOM_TASK_BY_HAND, TAKES_NONE, 0, FEED(FEED_TASKS)},
	{"task_by_bot", ATOM_TASK_BY_BOT, TAKES_NONE, 0, FEED(FEED_TASKS)},
	{"task_done", ATOM_TASK_DONE, TAKES_KIND, ARG_TASK_DONE, FEED(FEED_TASKS)},
	{"bot_act", ATOM_BOT_ACT, TAKES_NONE, 0, 0},
	{"bot", ATOM_BOT, TAKES_NONE, 0, 0},
	{"field", NO_NUMBER, TAKES_FIELD, ARG_FIELD, 0},	/* the field's feed */
	{"moment", NO_NUMBER, TAKES_FIELD, ARG_MOMENT, 0},	/* the field's feed */
	{"signed_and_paid", ATOM_SIGNED_AND_PAID, TAKES_NONE, 0, 0},	/* both fields' */
	{"activity", ATOM_ACTIVITY, TAKES_NONE, 0, 0},
};

/* Tokens that are conditions only; events are conditions too ("has happened"). */
static const struct ConditionToken
{
	const char *name;
	ConditionKind kind;
	TokenArgument takes;
	bool		needs;			/* the argument may not be left out */
}			condition_tokens[] = {
	{"task", COND_TASK, TAKES_KIND, false},
	{"no_task", COND_NO_TASK, TAKES_NONE, false},
	{"stage", COND_STAGE, TAKES_NONE, false},
	{"field", COND_FIELD, TAKES_FIELD, true},
	{"passed", COND_PASSED, TAKES_FIELD, true},
	{"ahead", COND_AHEAD, TAKES_FIELD, true},
	{"soon", COND_SOON, TAKES_FIELD, true},
	{"visited", COND_VISITED, TAKES_STAGE, true},
	{"moved_by_bot", COND_MOVED_BY_BOT, TAKES_NONE, false},
	{"unreached", COND_UNREACHED, TAKES_NONE, false},
	{"comment_where_required", COND_COMMENT_WHERE_REQUIRED, TAKES_NONE, false},
	{"scenario_matches", COND_SCENARIO_MATCHES, TAKES_NONE, false},
};

#define lengthof(array) (sizeof(array) / sizeof((array)[0]))

static bool fail(Compiler *c, const char *format,...)
			__attribute__((format(printf, 2, 3)));
static bool hint(Compiler *c, const char *format,...)
			__attribute__((format(printf, 2, 3)));
static bool compile_rule(Compiler *c, int row);
static void index_atoms(Compiler *c);
static void index_stages(Compiler *c);


/* ---- memory and names ---- */

static void *
make(Compiler *c, size_t size)
{
	void	   *block = c->memory->grow(c->memory->self, NULL, size ? size : 1);

	memset(block, 0, size ? size : 1);
	return block;
}

/* Gives a name its number, adding it where it is new. */
static int
intern(Compiler *c, char ***names, int *count, int *room, const char *name, size_t len)
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
	copy = make(c, len + 1);
	memcpy(copy, name, len);
	(*names)[*count] = copy;
	return (*count)++;
}

static bool
fail(Compiler *c, const char *format,...)
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
static bool
hint(Compiler *c, const char *format,...)
{
	size_t		used = strlen(c->error->hint);
	va_list		args;

	va_start(args, format);
	vsnprintf(c->error->hint + used, sizeof(c->error->hint) - used, format, args);
	va_end(args);
	return false;
}

static bool
hint_tokens(Compiler *c, bool conditions)
{
	hint(c, "Known events are");
	for (size_t i = 0; i < lengthof(event_tokens); i++)
		hint(c, "%s %s", i ? "," : "", event_tokens[i].name);
	if (conditions)
	{
		hint(c, "; conditions are these and");
		for (size_t i = 0; i < lengthof(condition_tokens); i++)
			hint(c, "%s %s", i ? "," : "", condition_tokens[i].name);
	}
	return hint(c, ".");
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


/* ---- durations ---- */

bool
rules_duration(const char *text, int64_t *duration)
{
	static const struct
	{
		const char *name;
		int64_t		length;
	}			units[] = {
		{"s", 1}, {"sec", 1}, {"secs", 1}, {"second", 1}, {"seconds", 1},
		{"m", 60}, {"min", 60}, {"mins", 60}, {"minute", 60}, {"minutes", 60},
		{"h", 3600}, {"hour", 3600}, {"hours", 3600},
		{"d", 86400}, {"day", 86400}, {"days", 86400},
	};
	int64_t		sum = 0;
	bool		any = false;

	for (;;)
	{
		int64_t		number = 0;
		size_t		digits = 0;
		size_t		len = 0;
		size_t		u;

		text += strspn(text, " ");
		if (*text == '\0')
			break;
		for (; *text >= '0' && *text <= '9' && digits < 10; text++, digits++)
			number = number * 10 + (*text - '0');
		text += strspn(text, " ");
		while (text[len] >= 'a' && text[len] <= 'z')
			len++;
		for (u = 0; u < lengthof(units); u++)
			if (strlen(units[u].name) == len && memcmp(units[u].name, text, len) == 0)
				break;
		if (digits == 0 || u == lengthof(units))
			return false;
		if (number > MAX_DURATION / (units[u].length * SECOND))
			return false;
		sum += number * units[u].length * SECOND;
		if (sum > MAX_DURATION)
			return false;
		text += len;
		any = true;
	}
	*duration = sum;
	return any;
}


/* ---- tokens ---- */

/* A token in pieces: NAME[:FIRST[:SECOND]], without '!' and '*N'. */
typedef struct Token
{
	const char *name;
	size_t		name_len;
	const char *first;			/* NULL = none */
	size_t		first_len;
	const char *second;
	size_t		second_len;
} Token;

static Token
split_token(const char *text, size_t len)
{
	Token		token = {0};
	const char *colon = memchr(text, ':', len);

	token.name = text;
	token.name_len = colon ? (size_t) (colon - text) : len;
	if (colon)
	{
		token.first = colon + 1;
		token.first_len = len - token.name_len - 1;
		colon = memchr(token.first, ':', token.first_len);
		if (colon)
		{
			token.second = colon + 1;
			token.second_len = token.first_len - (size_t) (colon - token.first) - 1;
			token.first_len = (size_t) (colon - token.first);
		}
	}
	return token;
}

static bool
is_name(const Token *token, const char *name)
{
	return strlen(name) == token->name_len &&
		memcmp(name, token->name, token->name_len) == 0;
}

static bool
duration_of(Compiler *c, const char *text, size_t len, int64_t *value)
{
	char		copy[64];

	if (len < sizeof(copy))
	{
		memcpy(copy, text, len);
		copy[len] = '\0';
		if (rules_duration(copy, value))
			return true;
	}
	fail(c, "\"%.*s\" is no duration", (int) len, text);
	return hint(c, "Write a number and a unit, such as 15min, 3h or 2days.");
}

static int
field_number(Compiler *c, const char *name, size_t len)
{
	int			number = intern(c, &c->reg->fields, &c->reg->nfields,
								&c->room_fields, name, len);

	if (number >= MAX_FIELDS)
		fail(c, "rules name more than %d fields", MAX_FIELDS);
	return number;
}

/* Reads an argument; *number or *value is what it means. */
static bool
argument_of(Compiler *c, TokenArgument takes, const char *text, size_t len,
			int *number, int64_t *value)
{
	stage_code	stage;

	*number = NO_NUMBER;
	*value = 0;
	if (len == 0)
		return fail(c, "a token ends in a colon");
	switch (takes)
	{
		case TAKES_NONE:
			break;
		case TAKES_STAGE:
			stage = label_pack(text, len);
			if (stage != 0)
				*number = rules_stage(c->reg, stage);
			if (*number >= 0)
				return true;
			fail(c, "stage \"%.*s\" does not exist", (int) len, text);
			return hint(c, "A token takes the code of a row of regcrm.stage_def.");
		case TAKES_SCENARIO:
			*number = rules_scenario(c->reg, text, len);
			if (*number >= 0)
				return true;
			fail(c, "scenario \"%.*s\" does not exist", (int) len, text);
			hint(c, "Scenarios of this regulation are");
			for (int i = 0; i < c->reg->nscenarios; i++)
				hint(c, "%s %s", i ? "," : "", c->reg->scenarios[i]);
			return hint(c, ".");
		case TAKES_KIND:
			*number = intern(c, &c->reg->task_kinds, &c->reg->ntask_kinds,
							 &c->room_kinds, text, len);
			return true;
		case TAKES_FIELD:
			*number = field_number(c, text, len);
			return !c->failed;
		case TAKES_DURATION:
			return duration_of(c, text, len, value);
	}
	return fail(c, "this token takes no argument");
}

static int
atom_number(Compiler *c, AtomArg arg, int number, int64_t value)
{
	Regulation *reg = c->reg;

	for (int i = ATOM_FIRST_WITH_ARGUMENT; i < reg->natoms; i++)
		if (reg->atoms[i].arg == arg && reg->atoms[i].number == number &&
			reg->atoms[i].value == value)
			return i;
	if (reg->natoms == MAX_ATOMS)
	{
		fail(c, "rules name more than %d different events", MAX_ATOMS);
		return 0;
	}
	reg->atoms[reg->natoms] = (Atom) {arg, number, value};
	return reg->natoms++;
}

/* Which feeds can show an event. */
static void
feeds_of_event(Compiler *c, const EventToken *event, int number,
			   uint64_t *feeds, uint64_t *also)
{
	Regulation *reg = c->reg;

	*feeds = event->feeds;
	*also = 0;
	if (event->takes == TAKES_FIELD)
		*feeds = FEED(FEED_FIRST_FIELD + number);
	else if (event->atom == ATOM_SCENARIO)
		*feeds = FEED(FEED_FIRST_FIELD + field_number(c, "scenario", 8));
	else if (event->atom == ATOM_SIGNED_AND_PAID)
	{
		reg->signed_field = field_number(c, "signed_at", 9);
		reg->paid_field = field_number(c, "paid_at", 7);
		*feeds = FEED(FEED_FIRST_FIELD + reg->signed_field);
		*also = FEED(FEED_FIRST_FIELD + reg->paid_field);
	}
}

/* An event token into its atom; *feeds, *also as in Condition. */
static bool
compile_event(Compiler *c, const char *text, size_t len, int *atom,
			  uint64_t *feeds, uint64_t *also)
{
	Token		token = split_token(text, len);

	for (size_t i = 0; i < lengthof(event_tokens); i++)
	{
		const EventToken *event = &event_tokens[i];
		int			number = NO_NUMBER;
		int64_t		value;

		if (!is_name(&token, event->name))
			continue;
		if (token.second)
			return fail(c, "\"%.*s\" has one argument too many", (int) len, text);
		if (token.first)
		{
			if (!argument_of(c, event->takes, token.first, token.first_len,
							 &number, &value))
				return false;
			*atom = atom_number(c, event->arg, number, value);
		}
		else if (event->atom == NO_NUMBER)
		{
			fail(c, "\"%.*s\" needs an argument", (int) len, text);
			return hint(c, "Write %s:%s.", event->name,
						event->takes == TAKES_FIELD ? "NAME" : "DURATION");
		}
		else
			*atom = event->atom;
		feeds_of_event(c, event, number, feeds, also);
		return !c->failed;
	}
	fail(c, "token \"%.*s\" is not known", (int) len, text);
	return hint_tokens(c, false);
}

/* Atoms whose happening can change what a condition says. */
static void
watch_condition(Compiler *c, const Condition *cond, AtomSet *watch)
{
	switch (cond->kind)
	{
		case COND_HAPPENED:
			atoms_add(watch, cond->atom);
			break;
		case COND_TASK:
		case COND_NO_TASK:
			atoms_add(watch, ATOM_TASKS_CHANGED);
			break;
		case COND_SOON:
			atoms_add(watch, atom_number(c, ARG_SOON, cond->number, cond->value));
			/* fall through */
		case COND_PASSED:
		case COND_AHEAD:
			atoms_add(watch, atom_number(c, ARG_MOMENT, cond->number, 0));
			/* fall through */
		case COND_FIELD:
			atoms_add(watch, atom_number(c, ARG_FIELD_CHANGED, cond->number, 0));
			break;
		case COND_UNREACHED:
			atoms_add(watch, ATOM_CALL_OUT);
			atoms_add(watch, ATOM_CONTACT);
			break;
		case COND_COMMENT_WHERE_REQUIRED:
			atoms_add(watch, ATOM_COMMENT);
			atoms_add(watch, ATOM_CONTACT);
			break;
		case COND_SCENARIO_MATCHES:
			atoms_add(watch, ATOM_SCENARIO);
			atoms_add(watch, ATOM_CALL_IN);
			atoms_add(watch, ATOM_CALL_OUT);
			atoms_add(watch, ATOM_CONTACT);
			break;
		case COND_VISITED:
		case COND_MOVED_BY_BOT:
		case COND_STAGE:
			/* only moves change these, and moves are looked at anyway */
			atoms_add(watch, ATOM_ENTER);
			break;
	}
}

static void
feeds_of_condition(Compiler *c, Condition *cond)
{
	switch (cond->kind)
	{
		case COND_TASK:
		case COND_NO_TASK:
			cond->feeds = FEED(FEED_TASKS);
			break;
		case COND_FIELD:
		case COND_PASSED:
		case COND_AHEAD:
		case COND_SOON:
			cond->feeds = FEED(FEED_FIRST_FIELD + cond->number);
			break;
		case COND_UNREACHED:
			cond->feeds = FEED(FEED_CALLS);
			break;
		case COND_COMMENT_WHERE_REQUIRED:
			cond->feeds = FEED(FEED_COMMENTS);
			break;
		case COND_SCENARIO_MATCHES:
			cond->feeds = FEED(FEED_FIRST_FIELD + field_number(c, "scenario", 8));
			cond->also = FEEDS_TALK;
			break;
		default:
			break;
	}
}

/* [!]TOKEN[*N], where TOKEN is a condition or an event that has happened. */
static bool
compile_condition(Compiler *c, const char *text, Condition *cond, AtomSet *watch)
{
	size_t		len = strlen(text);
	const char *star;
	Token		token;
	bool		known = false;

	memset(cond, 0, sizeof(*cond));
	cond->times = 1;
	cond->number = NO_NUMBER;
	if (len > 0 && *text == '!')
	{
		cond->negated = true;
		text++, len--;
	}
	star = memchr(text, '*', len);
	if (star)
	{
		int			times = 0;
		const char *digit = star + 1;

		for (; *digit >= '0' && *digit <= '9' && times < 100000; digit++)
			times = times * 10 + (*digit - '0');
		if (*digit != '\0' || times < 1)
		{
			fail(c, "\"%s\" does not end in a number", text);
			return hint(c, "TOKEN*N means: at least N times, N being 1 or more.");
		}
		cond->times = times;
		len = (size_t) (star - text);
	}
	token = split_token(text, len);
	for (size_t i = 0; i < lengthof(condition_tokens) && !known; i++)
	{
		if (!is_name(&token, condition_tokens[i].name))
			continue;
		known = true;
		cond->kind = condition_tokens[i].kind;
		if (star)
			return fail(c, "\"%.*s\" is a condition and can't be counted", (int) len, text);
		if (!token.first && condition_tokens[i].needs)
			return fail(c, "\"%.*s\" needs an argument", (int) len, text);
		if (token.first &&
			!argument_of(c, condition_tokens[i].takes, token.first,
						 token.first_len, &cond->number, &cond->value))
			return false;
		if (cond->kind == COND_SOON)
		{
			if (!token.second)
			{
				fail(c, "\"%.*s\" needs a duration", (int) len, text);
				return hint(c, "Write soon:NAME:DURATION, such as soon:meeting_at:3h.");
			}
			if (!duration_of(c, token.second, token.second_len, &cond->value))
				return false;
		}
		else if (token.second)
			return fail(c, "\"%.*s\" has one argument too many", (int) len, text);
		feeds_of_condition(c, cond);
	}
	if (!known)
	{
		cond->kind = COND_HAPPENED;
		if (!compile_event(c, text, len, &cond->atom, &cond->feeds, &cond->also))
		{
			if (strstr(c->error->message, "is not known"))
			{
				c->error->hint[0] = '\0';
				hint_tokens(c, true);
			}
			return false;
		}
		if (cond->times > 1)
			atoms_add(&c->reg->counted, cond->atom);
	}
	if (cond->negated)
		cond->feeds = cond->also = 0;	/* nothing need be seen for "not" */
	watch_condition(c, cond, watch);
	return !c->failed;
}


/* ---- rules ---- */

static int
choose(Compiler *c, const char *column, const char *value, const char *const *known)
{
	c->column = column;
	for (int i = 0; known[i]; i++)
		if (value && strcmp(value, known[i]) == 0)
			return i;
	fail(c, "%s \"%s\" is not known", column, value ? value : "null");
	hint(c, "Known are");
	for (int i = 0; known[i]; i++)
		hint(c, "%s %s", i ? "," : "", known[i]);
	hint(c, ".");
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
		fail(c, "form \"%s\" needs an event", s->form);
		return hint_tokens(c, false);
	}
	if (form != FORM_WITHIN && form != FORM_NEVER && s->event &&
		!(form == FORM_ENTER && strcmp(s->event, "enter") == 0) &&
		!(form == FORM_LEAVE && strcmp(s->event, "leave") == 0))
		return fail(c, "form \"%s\" takes no event", s->form);
	c->column = "expect";
	if ((conditions || form == FORM_WITHIN) && s->nexpect == 0)
	{
		fail(c, "form \"%s\" needs something to expect", s->form);
		return hint_tokens(c, conditions);
	}
	if (!conditions && form != FORM_WITHIN && s->nexpect > 0)
		return fail(c, "form \"%s\" expects nothing", s->form);
	c->column = "nth";
	if (s->nth != NO_NUMBER && (form == FORM_FLOW || form == FORM_LEAVE ||
								form == FORM_ALWAYS || form == FORM_ATTEST))
		return fail(c, "form \"%s\" takes no nth", s->form);
	if (s->nth != NO_NUMBER && s->nth < 1)
		return fail(c, "nth must be 1 or more");
	c->column = "within";
	if (s->has_within && (s->within < 0 || s->within > MAX_DURATION))
		return fail(c, "within must be between 0 and 400 years");
	if (s->has_within && (form == FORM_FLOW || form == FORM_ATTEST))
		return fail(c, "form \"%s\" takes no within", s->form);
	if (form == FORM_WITHIN && !s->has_within && !s->by)
	{
		fail(c, "form \"within\" needs within or by");
		return hint(c, "Give a duration, or the moment by which the answer is due.");
	}
	c->column = "by";
	if (s->by && form != FORM_WITHIN)
		return fail(c, "form \"%s\" takes no by", s->form);
	c->column = "warn";
	if (s->has_warn && (form == FORM_FLOW || form == FORM_NEVER || form == FORM_ATTEST ||
						!(s->has_within || s->by)))
		return fail(c, "warn needs a due moment to warn of");
	if (s->has_warn && (s->warn < 0 || s->warn > MAX_DURATION))
		return fail(c, "warn must be between 0 and 400 years");
	c->column = "unless";
	if (s->nunless > 0 && form == FORM_ATTEST)
		return fail(c, "form \"attest\" takes no unless");
	return true;
}

static bool
is_task_atom(const Regulation *reg, int atom)
{
	if (atom >= ATOM_FIRST_WITH_ARGUMENT)
		return reg->atoms[atom].arg == ARG_TASK_ADDED ||
			reg->atoms[atom].arg == ARG_TASK_DONE;
	return atom == ATOM_TASK_ADDED || atom == ATOM_TASK_BY_HAND ||
		atom == ATOM_TASK_BY_BOT || atom == ATOM_TASK_DONE;
}

static bool
is_move_atom(const Regulation *reg, int atom)
{
	if (atom >= ATOM_FIRST_WITH_ARGUMENT)
		return reg->atoms[atom].arg == ARG_ENTER_STAGE;
	return atom == ATOM_ENTER || atom == ATOM_LEAVE;
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
			fail(c, "by \"task_due\" needs a task that was added as its event");
			return hint(c, "Events with a due moment are task_added, task_added:KIND, task_by_hand and task_by_bot.");
		}
		rule->by_task_due = true;
		return true;
	}
	if (*s->by == '\0')
		return fail(c, "by is empty");
	rule->by_field = field_number(c, s->by, strlen(s->by));
	rule->by_changed = atom_number(c, ARG_FIELD_CHANGED, rule->by_field, 0);
	if (!c->failed)
		atoms_add(&rule->watch, rule->by_changed);
	(void) atom_number(c, ARG_MOMENT, rule->by_field, 0);
	return !c->failed;
}

static bool
compile_expectations(Compiler *c, const RuleSource *s, Rule *rule)
{
	rule->nexpect = s->nexpect;
	rule->expect = make(c, sizeof(Condition) * (s->nexpect + 1));
	rule->nunless = s->nunless;
	rule->unless = make(c, sizeof(Condition) * (s->nunless + 1));

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
		return fail(c, "scope \"after\" belongs to form \"never\"");
	if (rule->scope == SCOPE_AFTER && rule->stage == NO_NUMBER)
		return fail(c, "scope \"after\" needs a stage");
	if (rule->scope == SCOPE_AFTER && s->has_within)
	{
		fail(c, "scope \"after\" takes no within");
		return hint(c, "A grace begins when the deal enters the stage; this scope speaks of what comes once it has left.");
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
	rule->source = row;
	rule->event = rule->by_field = rule->by_changed = NO_NUMBER;
	rule->nth = s->nth;
	c->column = "code";
	if (!s->code || *s->code == '\0')
		return fail(c, "a rule needs a code");
	rule->code = intern(c, &c->reg->codes, &c->reg->ncodes, &c->room_codes,
						s->code, strlen(s->code));
	if ((chosen = choose(c, "form", s->form, forms)) < 0)
		return false;
	rule->form = (RuleForm) chosen;
	c->column = "stage";
	rule->stage = NO_NUMBER;
	if (s->stage != 0 && (rule->stage = rules_stage(c->reg, s->stage)) < 0)
	{
		fail(c, "the rule's stage does not exist");
		return hint(c, "Add it to regcrm.stage_def first.");
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


/* ---- indexes ---- */

static int *
numbers(Compiler *c, int count)
{
	int		   *list = make(c, sizeof(int) * (count + 1));

	for (int i = 0; i < count; i++)
		list[i] = NO_NUMBER;
	return list;
}

static void
index_atoms(Compiler *c)
{
	Regulation *reg = c->reg;

	reg->atom_of_stage = numbers(c, reg->nstages);
	reg->atom_of_scenario = numbers(c, reg->nscenarios);
	reg->atom_of_field = numbers(c, reg->nfields);
	reg->atom_of_change = numbers(c, reg->nfields);
	reg->atom_of_moment = numbers(c, reg->nfields);
	reg->atom_of_added = numbers(c, reg->ntask_kinds);
	reg->atom_of_done = numbers(c, reg->ntask_kinds);
	reg->long_calls = numbers(c, reg->natoms);
	reg->soon = numbers(c, reg->natoms);
	for (int i = ATOM_FIRST_WITH_ARGUMENT; i < reg->natoms; i++)
	{
		const Atom *atom = &reg->atoms[i];

		switch (atom->arg)
		{
			case ARG_ENTER_STAGE:
				reg->atom_of_stage[atom->number] = i;
				break;
			case ARG_LONG_CALL:
				reg->long_calls[reg->nlong_calls++] = i;
				break;
			case ARG_SCENARIO:
				reg->atom_of_scenario[atom->number] = i;
				break;
			case ARG_TASK_ADDED:
				reg->atom_of_added[atom->number] = i;
				break;
			case ARG_TASK_DONE:
				reg->atom_of_done[atom->number] = i;
				break;
			case ARG_FIELD:
				reg->atom_of_field[atom->number] = i;
				break;
			case ARG_MOMENT:
				reg->atom_of_moment[atom->number] = i;
				break;
			case ARG_FIELD_CHANGED:
				reg->atom_of_change[atom->number] = i;
				break;
			case ARG_SOON:
				reg->soon[reg->nsoon++] = i;
				break;
		}
	}
}

/* Each stage's lists; the last entry serves a stage that is not known. */
static void
index_stages(Compiler *c)
{
	Regulation *reg = c->reg;

	reg->by_stage = make(c, sizeof(StageRules) * (reg->nstages + 1));
	reg->flow = make(c, sizeof(int) * (reg->nrules + 1));
	reg->attest = make(c, sizeof(int) * (reg->nrules + 1));
	reg->after = make(c, sizeof(int) * (reg->nrules + 1));
	for (int stage = 0; stage <= reg->nstages; stage++)
	{
		StageRules *lists = &reg->by_stage[stage];

		lists->enter = make(c, sizeof(int) * (reg->nrules + 1));
		lists->leave = make(c, sizeof(int) * (reg->nrules + 1));
		lists->always = make(c, sizeof(int) * (reg->nrules + 1));
		lists->fact = make(c, sizeof(int) * (reg->nrules + 1));
		for (int i = 0; i < reg->nrules; i++)
		{
			const Rule *rule = &reg->rules[i];

			if (rule->stage != NO_NUMBER && rule->stage != stage)
				continue;
			if (rule->form == FORM_ENTER)
				lists->enter[lists->nenter++] = i;
			else if (rule->form == FORM_LEAVE)
				lists->leave[lists->nleave++] = i;
			else if (rule->form == FORM_ALWAYS)
				lists->always[lists->nalways++] = i;
			else if (rule->form == FORM_WITHIN ||
					 (rule->form == FORM_NEVER && rule->scope != SCOPE_AFTER))
				lists->fact[lists->nfact++] = i;
		}
	}
	for (int i = 0; i < reg->nrules; i++)
	{
		const Rule *rule = &reg->rules[i];

		if (rule->form == FORM_FLOW)
			reg->flow[reg->nflow++] = i;
		else if (rule->form == FORM_ATTEST)
			reg->attest[reg->nattest++] = i;
		else if (rule->form == FORM_NEVER && rule->scope == SCOPE_AFTER)
			reg->after[reg->nafter++] = i;
	}
}

static bool
compile_scenarios(Compiler *c)
{
	static const char *const outcomes[] = {"any", "reached", "missed", NULL};
	const RegulationSource *source = c->source;

	c->reg->outcomes = make(c, sizeof(OutcomeRow) * (source->nscenarios + 1));
	for (int i = 0; i < source->nscenarios; i++)
	{
		int			outcome = choose(c, "outcome", source->scenarios[i].outcome, outcomes);
		int			number = intern(c, &c->reg->scenarios, &c->reg->nscenarios,
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

	reg->transitions = make(c, sizeof(Transition) * (source->ntransitions + 1));
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

	/* the rows of each move in their order */
	reg->ways = numbers(c, (reg->nstages + 1) * reg->nstages);
	for (int i = reg->ntransitions - 1; i >= 0; i--)
	{
		Transition *t = &reg->transitions[i];
		int		   *first = &reg->ways[(t->from + 1) * reg->nstages + t->to];

		t->next = *first;
		*first = i;
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
	c.reg = make(&c, sizeof(Regulation));
	c.reg->natoms = ATOM_FIRST_WITH_ARGUMENT;
	c.reg->signed_field = c.reg->paid_field = NO_NUMBER;
	c.reg->redial_window = source->redial_window;
	c.reg->undo_window = source->undo_window;
	c.reg->min_talk = source->min_talk;
	c.reg->nstages = source->nstages;
	c.reg->stages = make(&c, sizeof(stage_code) * (source->nstages + 1));
	if (source->nstages > 0)
		memcpy(c.reg->stages, source->stages, sizeof(stage_code) * source->nstages);
	if (!compile_scenarios(&c))
		return NULL;
	compile_transitions(&c);
	c.reg->nrules = source->nrules;
	c.reg->rules = make(&c, sizeof(Rule) * (source->nrules + 1));
	for (int i = 0; i < source->nrules; i++)
		if (!compile_rule(&c, i))
			return NULL;
	index_atoms(&c);
	index_stages(&c);
	return c.reg;
}
