/*-------------------------------------------------------------------------
 *
 * rule_tokens.c
 *	  The words of a rule: event tokens, conditions, durations.
 *
 * Tokens are those of DESIGN section 4.  Pure: see rules.h.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "label.h"
#include "rules_int.h"

/* FEED_FIRST_FIELD + fields must fit the 64 bits of Condition.feeds */
#define MAX_FIELDS		(64 - FEED_FIRST_FIELD)

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


bool
compiler_hint_tokens(Compiler *c, bool conditions)
{
	compiler_hint(c, "Known events are");
	for (size_t i = 0; i < lengthof(event_tokens); i++)
		compiler_hint(c, "%s %s", i ? "," : "", event_tokens[i].name);
	if (conditions)
	{
		compiler_hint(c, "; conditions are these and");
		for (size_t i = 0; i < lengthof(condition_tokens); i++)
			compiler_hint(c, "%s %s", i ? "," : "", condition_tokens[i].name);
	}
	return compiler_hint(c, ".");
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
	compiler_fail(c, "\"%.*s\" is no duration", (int) len, text);
	return compiler_hint(c, "Write a number and a unit, such as 15min, 3h or 2days.");
}

int
compiler_field(Compiler *c, const char *name, size_t len)
{
	int			number = compiler_intern(c, &c->reg->fields, &c->reg->nfields,
								&c->room_fields, name, len);

	if (number >= MAX_FIELDS)
		compiler_fail(c, "rules name more than %d fields", MAX_FIELDS);
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
		return compiler_fail(c, "a token ends in a colon");
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
			compiler_fail(c, "stage \"%.*s\" does not exist", (int) len, text);
			return compiler_hint(c, "A token takes the code of a row of regcrm.stage_def.");
		case TAKES_SCENARIO:
			*number = rules_scenario(c->reg, text, len);
			if (*number >= 0)
				return true;
			compiler_fail(c, "scenario \"%.*s\" does not exist", (int) len, text);
			compiler_hint(c, "Scenarios of this regulation are");
			for (int i = 0; i < c->reg->nscenarios; i++)
				compiler_hint(c, "%s %s", i ? "," : "", c->reg->scenarios[i]);
			return compiler_hint(c, ".");
		case TAKES_KIND:
			*number = compiler_intern(c, &c->reg->task_kinds, &c->reg->ntask_kinds,
							 &c->room_kinds, text, len);
			return true;
		case TAKES_FIELD:
			*number = compiler_field(c, text, len);
			return !c->failed;
		case TAKES_DURATION:
			return duration_of(c, text, len, value);
	}
	return compiler_fail(c, "this token takes no argument");
}

int
compiler_atom(Compiler *c, AtomArg arg, int number, int64_t value)
{
	Regulation *reg = c->reg;

	for (int i = ATOM_FIRST_WITH_ARGUMENT; i < reg->natoms; i++)
		if (reg->atoms[i].arg == arg && reg->atoms[i].number == number &&
			reg->atoms[i].value == value)
			return i;
	if (reg->natoms == MAX_ATOMS)
	{
		compiler_fail(c, "rules name more than %d different events", MAX_ATOMS);
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
		*feeds = FEED(FEED_FIRST_FIELD + compiler_field(c, "scenario", 8));
	else if (event->atom == ATOM_SIGNED_AND_PAID)
	{
		reg->signed_field = compiler_field(c, "signed_at", 9);
		reg->paid_field = compiler_field(c, "paid_at", 7);
		*feeds = FEED(FEED_FIRST_FIELD + reg->signed_field);
		*also = FEED(FEED_FIRST_FIELD + reg->paid_field);
	}
}

/* An event token into its atom; *feeds, *also as in Condition. */
bool
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
			return compiler_fail(c, "\"%.*s\" has one argument too many", (int) len, text);
		if (token.first)
		{
			if (!argument_of(c, event->takes, token.first, token.first_len,
							 &number, &value))
				return false;
			*atom = compiler_atom(c, event->arg, number, value);
		}
		else if (event->atom == NO_NUMBER)
		{
			compiler_fail(c, "\"%.*s\" needs an argument", (int) len, text);
			return compiler_hint(c, "Write %s:%s.", event->name,
						event->takes == TAKES_FIELD ? "NAME" : "DURATION");
		}
		else
			*atom = event->atom;
		feeds_of_event(c, event, number, feeds, also);
		return !c->failed;
	}
	compiler_fail(c, "token \"%.*s\" is not known", (int) len, text);
	return compiler_hint_tokens(c, false);
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
			atoms_add(watch, compiler_atom(c, ARG_SOON, cond->number, cond->value));
			/* fall through */
		case COND_PASSED:
		case COND_AHEAD:
			atoms_add(watch, compiler_atom(c, ARG_MOMENT, cond->number, 0));
			/* fall through */
		case COND_FIELD:
			atoms_add(watch, compiler_atom(c, ARG_FIELD_CHANGED, cond->number, 0));
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
			cond->feeds = FEED(FEED_FIRST_FIELD + compiler_field(c, "scenario", 8));
			cond->also = FEEDS_TALK;
			break;
		default:
			break;
	}
}

/* [!]TOKEN[*N], where TOKEN is a condition or an event that has happened. */
bool
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
			compiler_fail(c, "\"%s\" does not end in a number", text);
			return compiler_hint(c, "TOKEN*N means: at least N times, N being 1 or more.");
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
			return compiler_fail(c, "\"%.*s\" is a condition and can't be counted", (int) len, text);
		if (!token.first && condition_tokens[i].needs)
			return compiler_fail(c, "\"%.*s\" needs an argument", (int) len, text);
		if (token.first &&
			!argument_of(c, condition_tokens[i].takes, token.first,
						 token.first_len, &cond->number, &cond->value))
			return false;
		if (cond->kind == COND_SOON)
		{
			if (!token.second)
			{
				compiler_fail(c, "\"%.*s\" needs a duration", (int) len, text);
				return compiler_hint(c, "Write soon:NAME:DURATION, such as soon:meeting_at:3h.");
			}
			if (!duration_of(c, token.second, token.second_len, &cond->value))
				return false;
		}
		else if (token.second)
			return compiler_fail(c, "\"%.*s\" has one argument too many", (int) len, text);
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
				compiler_hint_tokens(c, true);
			}
			return false;
		}
		atoms_add(cond->times > 1 ? &c->reg->counted : &c->reg->remembered, cond->atom);
	}
	if (cond->negated)
		cond->feeds = cond->also = 0;	/* nothing need be seen for "not" */
	watch_condition(c, cond, watch);
	return !c->failed;
}


bool
is_task_atom(const Regulation *reg, int atom)
{
	if (atom >= ATOM_FIRST_WITH_ARGUMENT)
		return reg->atoms[atom].arg == ARG_TASK_ADDED ||
			reg->atoms[atom].arg == ARG_TASK_DONE;
	return atom == ATOM_TASK_ADDED || atom == ATOM_TASK_BY_HAND ||
		atom == ATOM_TASK_BY_BOT || atom == ATOM_TASK_DONE;
}

bool
is_move_atom(const Regulation *reg, int atom)
{
	if (atom >= ATOM_FIRST_WITH_ARGUMENT)
		return reg->atoms[atom].arg == ARG_ENTER_STAGE;
	return atom == ATOM_ENTER || atom == ATOM_LEAVE;
}
