/*-------------------------------------------------------------------------
 *
 * judge_test.c
 *	  The judge outside the server: forms, tokens and the meaning of time on
 *	  small regulations, then random deals for what must hold of any.
 *
 * The built-in regulation is tested by the hand-worked cases in test/cases;
 * here are the corners that need no table.  Prints TAP.
 *
 *-------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "judge.h"
#include "label.h"

#define S		INT64_C(1000000)
#define MIN		(60 * S)
#define H		(60 * MIN)

static int	tests;
static int	failures;

static void
ok(bool passed, const char *format,...)
{
	va_list		args;

	printf("%sok %d - ", passed ? "" : "not ", ++tests);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	failures += !passed;
}

/* ---- memory: everything is freed at the end, so that a leak is a leak ---- */

static void **blocks;
static int	nblocks;

static void *
grow(void *self, void *old, size_t size)
{
	void	   *block = realloc(old, size);

	(void) self;
	for (int i = 0; old && i < nblocks; i++)
		if (blocks[i] == old)
		{
			blocks[i] = block;
			return block;
		}
	blocks = realloc(blocks, sizeof(void *) * (size_t) (nblocks + 1));
	blocks[nblocks++] = block;
	return block;
}

static const Memory memory = {grow, NULL};

static void
free_all(void)
{
	for (int i = 0; i < nblocks; i++)
		free(blocks[i]);
	free(blocks);
	blocks = NULL;
	nblocks = 0;
}

/* ---- a regulation of a few rules ---- */

enum
{
	A, B, C, NSTAGES
};

static const char *const stage_names[] = {"a", "b", "c"};
static stage_code stages[NSTAGES];
static RuleSource rules[40];
static int	nrules;
static const char *texts[40][8];
static const ScenarioSource scenarios[] = {
	{"no", "missed", INSTANT_EVER, INSTANT_NEVER},
	{"yes", "reached", INSTANT_EVER, INSTANT_NEVER},
};
static TransitionSource transitions[9];
static int	ntransitions;

static RuleSource *
rule(const char *code, int stage, const char *form, const char *event, int64_t within,
	 const char *expect)
{
	RuleSource *r = &rules[nrules];

	*r = (RuleSource) {
		.code = code, .stage = stage < 0 ? 0 : stages[stage], .form = form, .event = event,
		.nth = NO_NUMBER, .expect = texts[nrules], .unless = texts[nrules] + 4,
		.clock = "wall", .duty_of = "manager", .action = "record",
		.has_within = within >= 0, .within = within,
		.valid_from = INSTANT_EVER, .valid_to = INSTANT_NEVER,
	};
	if (expect)
	{
		texts[nrules][0] = expect;
		r->nexpect = 1;
	}
	nrules++;
	return r;
}

static void
begin_rules(void)
{
	nrules = 0;
	ntransitions = 0;
	for (int i = 0; i < NSTAGES; i++)
		stages[i] = label_pack(stage_names[i], strlen(stage_names[i]));
	transitions[ntransitions++] = (TransitionSource) {0, stages[A], false, INSTANT_EVER, INSTANT_NEVER};
	transitions[ntransitions++] = (TransitionSource) {stages[A], stages[B], false, INSTANT_EVER, INSTANT_NEVER};
	transitions[ntransitions++] = (TransitionSource) {stages[B], stages[A], true, INSTANT_EVER, INSTANT_NEVER};
}

static Regulation *
compile(RulesError *error)
{
	RegulationSource source = {
		.nstages = NSTAGES, .stages = stages, .nrules = nrules, .rules = rules,
		.nscenarios = 2, .scenarios = scenarios,
		.ntransitions = ntransitions, .transitions = transitions,
		.redial_window = 30 * MIN, .undo_window = MIN, .min_talk = 10 * S,
	};

	return rules_compile(&source, &memory, error);
}

/* ---- a deal ---- */

static Fact facts[200000];
static int	nfacts;
static instant feeds[64];
static const Finding *found;
static int	nfound;

static Fact *
fact(instant at, FactKind kind, unsigned flags)
{
	facts[nfacts] = (Fact) {.at = at, .id = nfacts + 1, .kind = kind, .flags = (uint8_t) flags};
	return &facts[nfacts++];
}

static void
move(instant at, int from, int to)
{
	Fact	   *f = fact(at, FACT_MOVE, 0);

	f->u.move.from = (int16_t) from;
	f->u.move.to = (int16_t) to;
}

static Fact *
task(instant at, int64_t id, FactKind kind, instant due)
{
	Fact	   *f = fact(at, kind, 0);

	f->id = id;
	f->u.task.kind = NO_NUMBER;
	f->u.task.due_at = due;
	return f;
}

static void
field(const Regulation *reg, instant at, const char *name, uint64_t value, instant moment)
{
	Fact	   *f = fact(at, FACT_FIELD, value ? FACT_HOLDS : 0);

	f->u.field.number = rules_field(reg, name, strlen(name));
	f->u.field.value = value;
	f->u.field.moment = moment;
}

static Timeline
timeline(const Regulation *reg, instant as_of)
{
	for (int i = 0; i < 64; i++)
		feeds[i] = INSTANT_EVER;
	return (Timeline) {
		.account_id = 1, .deal_id = 1, .created_at = 0, .deleted_at = INSTANT_NEVER,
		.known_from = INSTANT_EVER, .as_of = as_of, .manager_id = 7,
		.nfacts = nfacts, .facts = facts, .nfields = reg->nfields,
		.nfeeds = 64, .feed_since = feeds,
	};
}

static void
judge(const Regulation *reg, instant as_of)
{
	Timeline	line = timeline(reg, as_of);

	nfound = judge_deal(judge_create(reg, &memory, NULL, NULL), &line, &found);
}

static const Finding *
of_rule(const Regulation *reg, const char *code, int nth)
{
	for (int i = 0; i < nfound; i++)
		if (strcmp(reg->codes[reg->rules[found[i].rule].code], code) == 0 && nth-- == 0)
			return &found[i];
	return NULL;
}

static int
breaches(const Regulation *reg, const char *code)
{
	int			n = 0;

	for (int i = 0; i < nfound; i++)
		n += found[i].breached_at != INSTANT_NEVER &&
			strcmp(reg->codes[reg->rules[found[i].rule].code], code) == 0;
	return n;
}

/* ---- tests ---- */

static void
test_errors(void)
{
	static const struct
	{
		const char *form,
				   *event,
				   *expect;
		int64_t		within;
		const char *says;
	}			bad[] = {
		{"sometimes", NULL, NULL, -1, "form \"sometimes\" is not known"},
		{"never", "tuch", NULL, -1, "token \"tuch\" is not known"},
		{"never", NULL, NULL, -1, "form \"never\" needs an event"},
		{"within", "enter", NULL, MIN, "form \"within\" needs something to expect"},
		{"within", "enter", "touch", -1, "form \"within\" needs within or by"},
		{"within", "enter", "task", MIN, "token \"task\" is not known"},
		{"enter", NULL, "visited:z", -1, "stage \"z\" does not exist"},
		{"enter", NULL, "soon:meeting_at:soonish", -1, "\"soonish\" is no duration"},
		{"enter", NULL, "task*2", -1, "\"task\" is a condition and can't be counted"},
		{"enter", NULL, "comment*0", -1, "\"comment*0\" does not end in a number"},
		{"enter", NULL, "scenario:maybe", -1, "scenario \"maybe\" does not exist"},
		{"enter", NULL, "field", -1, "\"field\" needs an argument"},
		{"never", "touch:x", NULL, -1, "this token takes no argument"},
		{"flow", NULL, "task", -1, "form \"flow\" expects nothing"},
		{"enter", NULL, "", -1, "token \"\" is not known"},
		{"enter", NULL, "!", -1, "token \"\" is not known"},
		{"enter", NULL, "enter:", -1, "a token ends in a colon"},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		RulesError	error;
		Regulation *reg;

		begin_rules();
		rule("X", A, bad[i].form, bad[i].event, bad[i].within, bad[i].expect);
		reg = compile(&error);
		ok(reg == NULL && strcmp(error.message, bad[i].says) == 0,
		   "refused: %s (%s)", bad[i].says, reg ? "it was not" : error.message);
	}
}

static void
test_within(void)
{
	RulesError	error;
	Regulation *reg;
	const Finding *f;

	begin_rules();
	rule("W", A, "within", "enter", 15 * MIN, "touch");
	rule("D", A, "within", "enter", 15 * MIN, "touch")->scope = "deal";
	reg = compile(&error);

	nfacts = 0;
	move(0, STAGE_NONE, A);
	fact(15 * MIN, FACT_CALL_OUT, 0);
	judge(reg, H);
	f = of_rule(reg, "W", 0);
	ok(f && f->state == STATE_MET && f->met_at == 15 * MIN, "an answer at the due moment is in time");

	facts[1].at += S;
	judge(reg, H);
	f = of_rule(reg, "W", 0);
	ok(f && f->state == STATE_LATE && f->breached_at == 15 * MIN &&
	   f->resolved_at == 15 * MIN + S, "a second later it is late");
	judge(reg, 15 * MIN);
	ok(of_rule(reg, "W", 0)->state == STATE_MISSED, "due at as_of and unmet is missed");
	judge(reg, 15 * MIN - 1);
	ok(of_rule(reg, "W", 0)->state == STATE_PENDING, "due after as_of is pending");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(15 * MIN, A, B);
	fact(20 * MIN, FACT_CALL_OUT, 0);
	judge(reg, H);
	ok(of_rule(reg, "W", 0)->state == STATE_CANCELLED, "leaving at the due moment cancels");
	ok(of_rule(reg, "D", 0)->state == STATE_LATE, "a duty of scope deal survives leaving");
	ok(of_rule(reg, "W", 1) == NULL, "entering the next stage is no entering of this one");
}

/*
 * DESIGN section 5: where the missing thing comes in the second of leaving,
 * met wins; also where that second is the one of entering.
 */
static void
test_passing(void)
{
	RulesError	error;
	Regulation *reg;
	const Finding *f;

	begin_rules();
	rule("E", B, "enter", NULL, -1, "bot_act")->scope = "visit";
	rule("N", B, "enter", NULL, -1, "!leave")->scope = "visit";
	reg = compile(&error);
	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(H, A, B);
	move(H, A, C);
	facts[2].flags = FACT_BY_BOT;
	judge(reg, 2 * H);
	f = of_rule(reg, "E", 0);
	ok(f && f->state == STATE_LATE && f->met_at == H && f->resolution == RESOLUTION_MET,
	   "what the move out gives cures in the second of entering, too");
	f = of_rule(reg, "N", 0);
	ok(f && f->state == STATE_MISSED && f->breached_at == H && f->resolution == RESOLUTION_LEFT,
	   "the move in still ended a visit when the next one leaves");
	facts[2].flags = 0;
	judge(reg, 2 * H);
	f = of_rule(reg, "E", 0);
	ok(f && f->state == STATE_MISSED && f->resolution == RESOLUTION_LEFT, "a person's move out cures nothing");
}

/* DESIGN section 4: a moment come at the very instant when its field is set is no event. */
static void
test_moment_set_again(void)
{
	RulesError	error;
	Regulation *reg;

	begin_rules();
	rule("M", A, "never", "moment:meeting_at", -1, NULL);
	reg = compile(&error);
	nfacts = 0;
	move(0, STAGE_NONE, A);
	field(reg, MIN, "meeting_at", 1, H);
	field(reg, H, "meeting_at", 1, H);
	judge(reg, 2 * H);
	ok(breaches(reg, "M") == 1, "set to what it holds as the moment comes, it comes");
	facts[2].u.field.value = 2;
	facts[2].u.field.moment = 3 * H;
	field(reg, H, "meeting_at", 1, H);
	judge(reg, 2 * H);
	ok(breaches(reg, "M") == 0, "changed and set back in the second in which it comes, it is no event");
}

/* A deal of tens of thousands of moves, none of whose duties is ever kept. */
static void
test_many_moves(void)
{
	RulesError	error;
	Regulation *reg;
	clock_t		began;
	double		seconds[2];

	begin_rules();
	rule("V", A, "enter", NULL, -1, "visited:c");
	rule("C", A, "enter", NULL, -1, "comment");
	rule("W", A, "within", "enter", MIN, "comment")->scope = "deal";
	rule("E", A, "within", "enter", MIN, "enter:c");
	reg = compile(&error);
	for (int k = 0; k < 2; k++)
	{
		nfacts = 0;
		move(0, STAGE_NONE, A);
		for (int i = 1; i <= 15000 << k; i++)
			move(i * H, i % 2 ? A : B, i % 2 ? B : A);
		began = clock();
		judge(reg, nfacts * H);
		seconds[k] = (double) (clock() - began) / CLOCKS_PER_SEC;
		ok(breaches(reg, "V") == (7500 << k) + 1 && breaches(reg, "E") == (7500 << k) + 1,
		   "%d moves: every visit has its breach", 15000 << k);
	}
	ok(seconds[1] < 3 * seconds[0] + 0.05, "twice the moves take twice the time (%.3f s, %.3f s)", seconds[0], seconds[1]);
}

static void
test_moves(void)
{
	RulesError	error;
	Regulation *reg;

	begin_rules();
	rule("F", -1, "flow", NULL, -1, NULL);
	rule("L", A, "leave", NULL, -1, "comment")->scope = "visit";
	reg = compile(&error);

	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(H, A, C);
	move(H + MIN, C, A);
	judge(reg, 2 * H);
	ok(breaches(reg, "F") == 0 && breaches(reg, "L") == 0, "a move taken back within a minute did not happen");
	facts[2].at += 1;
	judge(reg, 2 * H);
	ok(breaches(reg, "F") == 2 && breaches(reg, "L") == 1, "after a minute it did");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(H, B, A);				/* given first, happens second */
	move(H, A, B);
	move(H, A, C);
	judge(reg, 2 * H);
	ok(breaches(reg, "F") == 1 && of_rule(reg, "F", 0)->from_stage == A &&
	   of_rule(reg, "F", 0)->to_stage == C, "moves of one instant are chained");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(H, B, C);
	judge(reg, 2 * H);
	ok(nfound == 0, "an unobserved move is not judged");
}

static void
test_always(void)
{
	RulesError	error;
	Regulation *reg;

	begin_rules();
	rule("T", A, "always", NULL, 5 * MIN, "task");
	reg = compile(&error);
	nfacts = 0;
	move(0, STAGE_NONE, A);
	task(0, 1, FACT_TASK_ADDED, H);
	task(H, 1, FACT_TASK_DONE, H);
	task(H + 5 * MIN, 2, FACT_TASK_ADDED, 2 * H);
	judge(reg, 3 * H);
	ok(breaches(reg, "T") == 0 && of_rule(reg, "T", 0)->state == STATE_MET, "a gap as long as the grace is forgiven");
	facts[3].at += 1;
	judge(reg, 3 * H);
	ok(breaches(reg, "T") == 1 && of_rule(reg, "T", 0)->resolution == RESOLUTION_MET, "a longer one is a breach, cured when it closes");
	facts[3].at = H;
	judge(reg, 3 * H);
	ok(nfound == 0, "done and added in one second: no gap");
}

static void
test_by(void)
{
	RulesError	error;
	Regulation *reg;
	RuleSource *r;

	begin_rules();
	r = rule("M", A, "within", "enter", -1, "touch");
	r->by = "meeting_at";
	r = rule("K", A, "within", "task_added", H, "touch");
	r->by = "task_due";
	reg = compile(&error);
	nfacts = 0;
	move(0, STAGE_NONE, A);
	field(reg, MIN, "meeting_at", 1, 5 * H);
	task(MIN, 9, FACT_TASK_ADDED, 2 * H);
	task(MIN, 10, FACT_TASK_ADDED, MIN);
	field(reg, 4 * H, "meeting_at", 2, 8 * H);
	judge(reg, 9 * H);
	ok(of_rule(reg, "M", 0)->arose_at == MIN && of_rule(reg, "M", 0)->due_at == 8 * H,
	   "a duty by a moment arises when the moment is set and moves with it");
	ok(of_rule(reg, "K", 0)->task_id == 9 && of_rule(reg, "K", 0)->due_at == 3 * H &&
	   of_rule(reg, "K", 1) == NULL, "each task its own duty; none where due is not after creation");
}

/* What must hold of any deal, whatever happened. */
/* What a second judge, written from the contract alone, showed to be wrong. */
static void
test_moves_of_an_instant(void)
{
	RulesError	error;
	Regulation *reg;

	begin_rules();
	rule("R", C, "enter", NULL, -1, "message_in");
	rule("M", A, "enter", NULL, H, "enter:c")->scope = "visit";
	rule("S", A, "enter", NULL, -1, "enter:c")->scope = "visit";
	rule("V", C, "within", "enter", H, "comment")->nunless = 1;
	texts[nrules - 1][4] = "enter:b";
	rule("Q", C, "enter", NULL, -1, "comment_where_required");
	transitions[ntransitions++] = (TransitionSource) {0, stages[C], true, INSTANT_EVER, INSTANT_NEVER};
	reg = compile(&error);

	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(H, C, C);
	judge(reg, 2 * H);
	ok(of_rule(reg, "V", 0) == NULL && breaches(reg, "R") == 0 &&
	   of_rule(reg, "M", 0)->state == STATE_CANCELLED,
	   "an event from a stage to itself shows that a move went unobserved");
	fact(2 * H, FACT_MESSAGE_OUT, 0);
	ok(judge_last_stage(judge_create(reg, &memory, NULL, NULL),
						&(Timeline) {.nfacts = nfacts, .facts = facts}) == C,
	   "and where the deal now is");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(30 * MIN, A, C);
	judge(reg, 2 * H);
	ok(of_rule(reg, "M", 0) && of_rule(reg, "M", 0)->state == STATE_MET,
	   "a move that enter expects meets it in the second of leaving");
	facts[1].u.move.to = B;
	judge(reg, 2 * H);
	ok(of_rule(reg, "S", 0) && of_rule(reg, "S", 0)->resolved_at == INSTANT_NEVER,
	   "where enter expects a move, another one resolves nothing");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(H, A, B);
	move(H, B, C);
	move(H, C, A);
	judge(reg, 2 * H);
	ok(of_rule(reg, "V", 0) && of_rule(reg, "V", 0)->state == STATE_CANCELLED,
	   "what a move of the same instant gave to an earlier visit is none of this one's");

	nfacts = 0;
	move(0, STAGE_NONE, C);
	judge(reg, H);
	ok(breaches(reg, "Q") == 1, "where a deal begins may ask for a comment, too");

	/* No order makes a chain of these: in the order given, as far as it goes. */
	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(H, B, C);
	move(H, B, A);
	ok(judge_last_stage(judge_create(reg, &memory, NULL, NULL),
						&(Timeline) {.nfacts = nfacts, .facts = facts}) == A,
	   "moves of an instant that make no chain are taken in the order of their numbers");

	/* More than can be tried in every order. */
	nfacts = 0;
	move(0, STAGE_NONE, A);
	for (int i = 0; i < 10; i++)
		move(H, i % 2 ? B : A, i % 2 ? A : B);
	move(H, A, C);
	ok(judge_last_stage(judge_create(reg, &memory, NULL, NULL),
						&(Timeline) {.nfacts = nfacts, .facts = facts}) == C,
	   "eleven moves of an instant are chained, too");
}

static void
test_same_instant(void)
{
	RulesError	error;
	Regulation *reg;

	begin_rules();
	rule("D", B, "within", "enter", H, "talk")->scope = "deal";
	rule("T", -1, "enter", NULL, H, "task_added")->scope = "visit";
	rule("F", -1, "flow", NULL, -1, NULL)->nunless = 1;
	texts[nrules - 1][4] = "comment";
	reg = compile(&error);

	nfacts = 0;
	move(0, STAGE_NONE, A);
	fact(H, FACT_CALL_IN, FACT_ANSWERED)->u.call.duration = MIN;
	move(H, A, B);
	judge(reg, 3 * H);
	ok(of_rule(reg, "D", 0) && of_rule(reg, "D", 0)->met_at == H,
	   "a duty of scope deal is met by what is simultaneous with entering");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	task(MIN, 5, FACT_TASK_ADDED, H);
	judge(reg, 3 * H);
	ok(of_rule(reg, "T", 0)->state == STATE_MET, "enter sees a task that is added in its tolerance");

	nfacts = 0;
	move(0, STAGE_NONE, B);
	fact(MIN, FACT_COMMENT, 0);
	move(H, B, C);
	move(2 * H, C, B);
	judge(reg, 3 * H);
	ok(breaches(reg, "F") == 2 && of_rule(reg, "F", 1)->arose_at == 2 * H,
	   "flow's unless looks at the visit that the move ends (%d)", breaches(reg, "F"));
}

static void
test_counts(void)
{
	RulesError	error;
	Regulation *reg;
	RuleSource *r;

	begin_rules();
	rule("E", B, "leave", NULL, -1, "enter*3");
	r = rule("M", A, "never", "moment:meeting_at", -1, NULL);
	r->nth = 2;
	r = rule("T", A, "within", "task_added", H, "comment");
	r->nth = 2;
	r = rule("O", A, "never", "comment", -1, NULL);
	r->nth = 2;
	r = rule("B", A, "within", "enter", MIN, "comment");
	r->by = "meeting_at";
	r->nunless = 1;
	r->unless[0] = "!scenario";
	rule("L", A, "leave", NULL, -1, "task_added*2")->scope = "visit";
	rule("D", A, "leave", NULL, -1, "task_added*2")->scope = "deal";
	rule("N", B, "within", "enter", H, "comment");
	reg = compile(&error);

	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(H, A, B);
	move(2 * H, B, A);
	move(3 * H, A, B);
	move(4 * H, B, A);
	judge(reg, 5 * H);
	ok(breaches(reg, "E") == 1 && of_rule(reg, "E", 0)->arose_at == 2 * H, "each entering counts");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	field(reg, MIN, "meeting_at", 1, H);
	field(reg, 2 * H, "meeting_at", 2, 3 * H);
	judge(reg, 5 * H);
	ok(breaches(reg, "M") == 1 && of_rule(reg, "M", 0)->arose_at == 3 * H, "each moment that comes counts");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	task(MIN, 5, FACT_TASK_ADDED, H);
	task(MIN, 6, FACT_TASK_ADDED, H);
	judge(reg, H);
	ok(of_rule(reg, "T", 0) && of_rule(reg, "T", 0)->task_id == 6 && of_rule(reg, "T", 1) == NULL,
	   "of two tasks of one instant, one is the second");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	task(H, 5, FACT_TASK_ADDED, 2 * H);
	task(H, 6, FACT_TASK_ADDED, 2 * H);
	move(H, A, B);
	judge(reg, 2 * H);
	ok(breaches(reg, "L") == 1 && breaches(reg, "D") == 0,
	   "tasks added in the second of a move belong to the deal's life, not to the visit that ends");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	move(H, A, B);
	judge(reg, INSTANT_NEVER);
	ok(breaches(reg, "N") == 1 && of_rule(reg, "N", 0)->breached_at == 2 * H,
	   "at the end of time everything that was due is due, and what never comes is not");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	fact(MIN, FACT_COMMENT, 0);
	fact(MIN, FACT_COMMENT, FACT_OUT_OF_SCOPE);
	judge(reg, H);
	ok(breaches(reg, "O") == 0, "the second one, by somebody not bound, breaks nothing");

	nfacts = 0;
	move(0, STAGE_NONE, A);
	fact(MIN, FACT_SCENARIO, 0)->u.scenario.number = NO_NUMBER;
	field(reg, H, "meeting_at", 1, 2 * H);
	judge(reg, 5 * H);
	ok(breaches(reg, "B") == 1 && of_rule(reg, "B", 0)->arose_at == H,
	   "unless is looked at when the duty arises, not when its trigger waits for a moment");
}

static void
test_outcomes(void)
{
	static const ScenarioSource changed[] = {
		{"yes", "missed", INSTANT_EVER, H},
		{"yes", "reached", H, 3 * H},
	};
	RulesError	error;
	Regulation *reg;
	RegulationSource source;

	begin_rules();
	rule("S", A, "leave", NULL, -1, "scenario_matches")->scope = "visit";
	source = (RegulationSource) {
		.nstages = NSTAGES, .stages = stages, .nrules = nrules, .rules = rules,
		.nscenarios = 2, .scenarios = changed,
		.ntransitions = ntransitions, .transitions = transitions,
	};
	reg = rules_compile(&source, &memory, &error);

	for (int after = 0; after < 3; after++)
	{
		nfacts = 0;
		move(0, STAGE_NONE, A);
		fact((after ? 2 : 0) * after * H, FACT_SCENARIO, 0)->u.scenario.number = 0;
		move(5 * H, A, B);
		judge(reg, 6 * H);
		ok(breaches(reg, "S") == (after > 0), "a scenario says of the call what its row in force says (%d)", after);
	}
}

static void
test_random(void)
{
	RulesError	error;
	Regulation *reg;
	RuleSource *r;
	int			bad = 0;
	int			deals = 20000;

	begin_rules();
	rule("F", -1, "flow", NULL, -1, NULL);
	rule("E", B, "enter", NULL, 2 * MIN, "contact");
	rule("E0", C, "enter", NULL, -1, "comment*2");
	rule("L", A, "leave", NULL, MIN, "scenario")->scope = "visit";
	rule("T", A, "always", NULL, 5 * MIN, "task");
	rule("U", -1, "always", NULL, 0, "stage");
	rule("W", A, "within", "activity", 9 * MIN, "activity");
	rule("WD", B, "within", "contact", 9 * MIN, "scenario")->scope = "deal";
	rule("WM", A, "within", "message_in", 9 * MIN, "enter:b");
	r = rule("WB", A, "within", "enter", -1, "touch");
	r->by = "meeting_at";
	r->has_warn = true;
	r->warn = 2 * MIN;
	r = rule("WT", B, "within", "task_added", MIN, "touch");
	r->by = "task_due";
	rule("N", B, "never", "bot", 2 * MIN, NULL);
	rule("NA", B, "never", "bot", -1, NULL)->scope = "after";
	rule("N2", A, "never", "scenario", -1, NULL)->nth = 2;
	rule("MO", B, "within", "moment:meeting_at", 3 * MIN, "leave");
	rule("SO", C, "always", NULL, MIN, "soon:meeting_at:5min");
	rule("AT", A, "attest", NULL, -1, NULL);
	reg = compile(&error);
	if (!reg)
	{
		ok(false, "the random regulation compiles: %s", error.message);
		return;
	}
	srand(1);
	for (int d = 0; d < deals; d++)
	{
		instant		at = 0;
		int			n = rand() % 30;
		instant		end;
		Finding		copy[400];
		int			ncopy;

		nfacts = 0;
		move(0, STAGE_NONE, rand() % NSTAGES);
		for (int i = 0; i < n; i++)
		{
			unsigned	flags = (unsigned) (rand() & (FACT_BY_BOT | FACT_ANSWERED | FACT_OUT_OF_SCOPE | FACT_PASS));

			at += rand() % 3 ? rand() % 6 * 30 * S : 0;
			switch (rand() % 12)
			{
				case 0:
				case 1:
				case 2:
					move(at, rand() % 4 == 0 ? rand() % NSTAGES : STAGE_NONE,
						 rand() % 10 ? rand() % NSTAGES : STAGE_UNKNOWN);
					break;
				case 3:
					task(at, i + 1, FACT_TASK_ADDED, at + rand() % 4 * MIN)->flags = flags & FACT_BY_BOT;
					task(at, i + 1, FACT_TASK_DONE, 0);
					break;
				case 4:
					task(at, i + 1, FACT_TASK_ADDED, at + rand() % 4 * MIN)->flags = flags & FACT_BY_BOT;
					break;
				case 5:
					field(reg, at, "meeting_at", (uint64_t) (rand() % 3), at + (rand() % 9 - 2) * MIN);
					break;
				case 6:
					fact(at, FACT_SCENARIO, flags)->u.scenario.number = rand() % 2;
					break;
				case 7:
					fact(at, FACT_VERDICT, flags)->u.verdict.code = rules_code(reg, "AT", 2);
					break;
				default:
					fact(at, (FactKind[])
						 {FACT_CALL_IN, FACT_CALL_OUT, FACT_MESSAGE_IN, FACT_MESSAGE_OUT,
						 FACT_COMMENT, FACT_ROBOT, FACT_VISIT}[rand() % 7], flags);
			}
		}
		end = at + rand() % 20 * MIN;
		judge(reg, end);
		ncopy = nfound < 400 ? nfound : 400;
		memcpy(copy, found, sizeof(Finding) * (size_t) ncopy);
		for (int i = 0; i < ncopy; i++)
		{
			const Finding *f = &copy[i];

			int			was = bad;

			bad += f->arose_at > end;
			bad += f->breached_at != INSTANT_NEVER && f->breached_at > end;
			bad += f->breached_at != INSTANT_NEVER && f->breached_at < f->arose_at;
			bad += (f->state == STATE_MISSED || f->state == STATE_LATE) != (f->breached_at != INSTANT_NEVER);
			bad += (f->resolved_at != INSTANT_NEVER) != (f->resolution != RESOLUTION_NONE);
			bad += f->met_at != INSTANT_NEVER && f->met_at < f->arose_at;
			bad += f->state == STATE_MET && f->due_at != INSTANT_NEVER && f->met_at > f->due_at;
			bad += i > 0 && f->arose_at == copy[i - 1].arose_at && f->rule == copy[i - 1].rule &&
				f->task_id == copy[i - 1].task_id;
			if (bad > was && was < 5)
				printf("# deal %d rule %s arose %lld due %lld met %lld breached %lld resolved %lld state %d\n",
					   d, reg->codes[reg->rules[f->rule].code], (long long) f->arose_at,
					   (long long) f->due_at, (long long) f->met_at, (long long) f->breached_at,
					   (long long) f->resolved_at, (int) f->state);
		}
		free_all();
		reg = compile(&error);
	}
	ok(bad == 0, "%d random deals: findings are consistent and each key stands once (%d not)", deals, bad);
}

/* One deal of 10^5 events is judged in one sweep, and can be interrupted. */
static void
count_pauses(void *self)
{
	++*(int *) self;
}

static void
test_long(void)
{
	RulesError	error;
	Regulation *reg;
	Timeline	line;
	int			pauses = 0;

	begin_rules();
	rule("W", A, "within", "message_in", 9 * MIN, "touch");
	rule("K", A, "within", "task_added", MIN, "touch")->by = "task_due";
	reg = compile(&error);
	nfacts = 0;
	move(0, STAGE_NONE, A);
	for (int i = 1; i < 100000; i++)
		if (i % 2)
			fact(i * S, FACT_MESSAGE_IN, 0);
		else
			task(i * S, i, FACT_TASK_ADDED, i * S + H);
	line = timeline(reg, 200000 * S);
	nfound = judge_deal(judge_create(reg, &memory, count_pauses, &pauses), &line, &found);
	ok(nfound == 50000, "a deal of 100,000 events is judged (%d findings)", nfound);
	ok(pauses > 50, "and pauses for interrupts (%d times)", pauses);
}

int
main(void)
{
	test_errors();
	test_within();
	test_passing();
	test_moment_set_again();
	test_many_moves();
	test_moves();
	test_always();
	test_by();
	test_moves_of_an_instant();
	test_same_instant();
	test_counts();
	test_outcomes();
	free_all();
	test_random();
	test_long();
	free_all();
	printf("1..%d\n", tests);
	return failures != 0;
}
