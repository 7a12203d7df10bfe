/*-------------------------------------------------------------------------
 *
 * judge_fuzz.c
 *	  Any regulation, any deal: rules of every form and token are compiled and
 *	  judged, and what must hold of all findings is looked at.
 *
 * The input is read as a small program: rules, then facts.  Now and then a
 * token is not a known one but bytes of the input, for the parser.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"
#include "judge.h"
#include "label.h"

#define S			INT64_C(1000000)
#define MAX_RULES	6
#define MAX_FACTS	48
#define NSTAGES		4

static const char *const stage_names[NSTAGES] = {"a", "b", "c", "d"};
static const char *const forms[] = {"flow", "enter", "leave", "always", "within", "within", "never", "attest"};
static const char *const tokens[] = {
	"enter", "leave", "enter:a", "enter:b", "call_out", "call_in", "missed_call", "talk", "long_call:1min",
	"message_out", "message_in", "message_by_hand", "bot_message", "touch", "contact", "client_request",
	"scenario", "scenario:no", "comment", "task_added", "task_added:callback", "task_by_hand", "task_by_bot",
	"task_done", "task_done:callback", "bot_act", "bot", "field:reason", "field:meeting_at", "moment:meeting_at",
	"signed_and_paid", "activity",
};
static const char *const conditions[] = {
	"task", "task:callback", "no_task", "stage", "field:reason", "passed:meeting_at", "ahead:meeting_at",
	"soon:meeting_at:3h", "visited:a", "visited:b", "moved_by_bot", "unreached", "comment_where_required",
	"scenario_matches", "!task", "!visited:c", "comment*2", "enter*3", "moment:meeting_at*2", "!contact",
};
static const char *const scopes[] = {NULL, "deal", "visit", "after"};
static const char *const dues[] = {NULL, NULL, NULL, "task_due", "meeting_at", "reason"};
static const char *const fields[] = {"reason", "meeting_at", "signed_at", "paid_at"};
static const int64_t lengths[] = {0, 1, S, 60 * S, 300 * S, 3600 * S, 86400 * S};

static stage_code stages[NSTAGES];

#define ONE_OF(b, array) (array)[pick(b, (int) (sizeof(array) / sizeof((array)[0])))]

static const char *
take_token(Bytes *b, bool condition)
{
	if (chance(b, 40))
	{
		size_t		len = take(b) % 32;

		len = len < b->left ? len : b->left;
		b->at += len;
		b->left -= len;
		return fuzz_copy(b->at - len, len, true);
	}
	if (condition && chance(b, 2))
		return ONE_OF(b, conditions);
	return ONE_OF(b, tokens);
}

static void
take_rule(Bytes *b, RuleSource *r, const char **expect, const char **unless, const char *code)
{
	const char *form = ONE_OF(b, forms);
	bool		within = strcmp(form, "within") == 0;
	bool		plain = strcmp(form, "flow") == 0 || strcmp(form, "attest") == 0;

	*r = (RuleSource) {
		.code = code, .form = form, .nth = NO_NUMBER, .expect = expect, .unless = unless,
		.clock = chance(b, 2) ? "business" : "wall", .duty_of = "manager", .action = "record",
		.valid_from = INSTANT_EVER, .valid_to = INSTANT_NEVER,
	};
	if (!chance(b, 4) && strcmp(form, "flow") != 0)
		r->stage = stages[pick(b, NSTAGES)];
	if (within || strcmp(form, "never") == 0)
		r->event = take_token(b, false);
	if (!plain && strcmp(form, "never") != 0)
		for (int i = 1 + pick(b, 3); i > 0; i--)
			expect[r->nexpect++] = take_token(b, !within);
	if (strcmp(form, "attest") != 0)
		for (int i = pick(b, 6) - 3; i > 0; i--)
			unless[r->nunless++] = take_token(b, true);
	if (!plain)
		r->scope = ONE_OF(b, scopes);
	if (within)
		r->by = ONE_OF(b, dues);
	r->has_within = !plain && (chance(b, 2) || (within && !r->by));
	r->within = r->has_within ? ONE_OF(b, lengths) : 0;
	r->has_warn = r->has_within && strcmp(form, "never") != 0 && chance(b, 3);
	r->warn = r->has_warn ? ONE_OF(b, lengths) : 0;
	if ((within || strcmp(form, "enter") == 0 || strcmp(form, "never") == 0) && chance(b, 5))
		r->nth = 1 + pick(b, 3);
	if (chance(b, 8))
		r->valid_from = take2(b) * 60 * S;
}

static Regulation *
take_regulation(Bytes *b)
{
	static const ScenarioSource scenarios[] = {
		{"no", "missed", INSTANT_EVER, INSTANT_NEVER},
		{"yes", "reached", INSTANT_EVER, INSTANT_NEVER},
	};
	static const char *const codes[MAX_RULES] = {"R1", "R2", "R3", "R4", "R5", "R6"};
	RuleSource	rules[MAX_RULES];
	TransitionSource transitions[NSTAGES * NSTAGES];
	const char *texts[MAX_RULES][8];
	RulesError	error = {0};
	RegulationSource source = {
		.nstages = NSTAGES, .stages = stages, .rules = rules, .nscenarios = 2, .scenarios = scenarios,
		.transitions = transitions, .undo_window = 60 * S, .redial_window = 300 * S, .min_talk = 10 * S,
	};
	Regulation *regulation;

	for (int i = 0; i < NSTAGES; i++)
		stages[i] = label_pack(stage_names[i], 1);
	source.nrules = 1 + pick(b, MAX_RULES);
	for (int i = 0; i < source.nrules; i++)
		take_rule(b, &rules[i], texts[i], texts[i] + 4, codes[i]);
	for (unsigned bits = take2(b); bits != 0; bits &= bits - 1)
	{
		int			pair = __builtin_ctz(bits);

		transitions[source.ntransitions++] = (TransitionSource) {
			pair / NSTAGES == pair % NSTAGES ? 0 : stages[pair / NSTAGES], stages[pair % NSTAGES],
			(bits & 3) == 0, INSTANT_EVER, INSTANT_NEVER
		};
	}
	regulation = rules_compile(&source, &fuzz_memory, &error);
	/* what is refused is explained, and whose fault it is */
	if (regulation == NULL)
		MUST(error.message[0] != '\0' && error.rule >= -1 && error.rule < source.nrules);
	return regulation;
}

static int
take_facts(Bytes *b, const Regulation *reg, Fact *facts)
{
	int			n = 0;
	instant		at = 0;

	while (b->left > 0 && n < MAX_FACTS)
	{
		unsigned	kind = take(b);
		Fact	   *f = &facts[n];

		if (kind & 0x80)
			at += ONE_OF(b, lengths);
		kind &= 0x7f;
		*f = (Fact) {.at = at, .id = n + 1, .kind = (uint8_t) (n == 0 ? FACT_MOVE : kind % (FACT_TASK_GONE + 1)),
			.flags = (uint8_t) (take(b) & 0x1f)};
		switch ((FactKind) f->kind)
		{
			case FACT_MOVE:
				f->u.move.from = (int16_t) (n == 0 ? STAGE_NONE : pick(b, NSTAGES + 2) - 2);
				f->u.move.to = (int16_t) (pick(b, NSTAGES + 1) - 1);
				break;
			case FACT_CALL_IN:
			case FACT_CALL_OUT:
				f->u.call.duration = ONE_OF(b, lengths);
				break;
			case FACT_SCENARIO:
				f->u.scenario.number = pick(b, 3) - 1;
				break;
			case FACT_FIELD:
				{
					const char *name = ONE_OF(b, fields);

					f->u.field.number = rules_field(reg, name, strlen(name));
					if (f->u.field.number < 0)
						f->u.field.number = reg->nfields;
					f->u.field.value = f->flags & FACT_HOLDS ? 1 + take(b) % 4 : 0;
					f->u.field.moment = f->flags & FACT_HOLDS && chance(b, 2) ?
						at + ONE_OF(b, lengths) - 3600 * S : INSTANT_NEVER;
					break;
				}
			case FACT_RESPONSIBLE:
				f->u.manager = pick(b, 3);
				break;
			case FACT_VERDICT:
				f->u.verdict.code = reg->ncodes > 0 ? pick(b, reg->ncodes) : NO_NUMBER;
				break;
			case FACT_TASK_ADDED:
			case FACT_TASK_DONE:
			case FACT_TASK_GONE:
				f->id = pick(b, 4) + 1;
				f->u.task.kind = reg->ntask_kinds > 0 ? pick(b, reg->ntask_kinds) : NO_NUMBER;
				f->u.task.due_at = at + ONE_OF(b, lengths) - S;
				break;
			default:
				break;
		}
		n++;
	}
	return n;
}

/* What holds of any finding of a deal judged as of a moment. */
static void
check_finding(const Regulation *reg, const Timeline *line, const Finding *f)
{
	instant		end = line->deleted_at <= line->as_of ? line->deleted_at : line->as_of;
	RuleForm	form = reg->rules[f->rule].form;
	bool		breached = f->breached_at != INSTANT_NEVER;
	bool		resolved = f->resolved_at != INSTANT_NEVER;

	MUST(f->rule >= 0 && f->rule < reg->nrules);
	MUST(f->stage >= STAGE_UNKNOWN && f->stage < reg->nstages);
	MUST(f->arose_at <= end && f->arose_at >= line->known_from);
	MUST(!breached || (f->arose_at <= f->breached_at && f->breached_at <= end));
	MUST(!resolved || (breached && f->breached_at <= f->resolved_at && f->resolved_at <= end));
	MUST(resolved == (f->resolution != RESOLUTION_NONE));
	MUST((f->resolution == RESOLUTION_MOMENT) ==
		 (breached && (form == FORM_FLOW || form == FORM_LEAVE || form == FORM_NEVER)));
	MUST((f->met_at != INSTANT_NEVER) == (f->state == STATE_MET || f->state == STATE_LATE));
	MUST(f->met_at == INSTANT_NEVER || (f->arose_at <= f->met_at && f->met_at <= end));
	switch (f->state)
	{
		case STATE_PENDING:
			MUST(!breached && f->due_at > end && f->warn_at > end);
			break;
		case STATE_WARNED:
			MUST(!breached && f->due_at > end && f->warn_at <= end);
			break;
		case STATE_MET:
			MUST(!breached && f->met_at <= f->due_at);
			break;
		case STATE_CANCELLED:
			MUST(!breached && f->ended_at <= f->due_at);
			break;
		case STATE_LATE:
			MUST(f->resolution == RESOLUTION_MET && f->resolved_at == f->met_at);
			break;
		case STATE_MISSED:
			MUST(breached && f->resolution != RESOLUTION_MET);
			break;
	}
}

static void
check_findings(const Regulation *reg, const Timeline *line, const Finding *found, int n)
{
	for (int i = 0; i < n; i++)
	{
		check_finding(reg, line, &found[i]);
		if (i == 0)
			continue;
		/* in order, and each key once */
		MUST(found[i - 1].arose_at <= found[i].arose_at);
		if (found[i - 1].arose_at == found[i].arose_at)
			MUST(found[i - 1].rule < found[i].rule ||
				 (found[i - 1].rule == found[i].rule && found[i - 1].task_id < found[i].task_id));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static instant feeds[FEED_FIRST_FIELD + 64];
	static Fact facts[MAX_FACTS];
	static const DaySpan hours = {9 * 3600 * S, 20 * 3600 * S};
	static const WeekPattern week = {
		INT32_MIN, {1, 1, 1, 1, 1, 0, 0}, {&hours, &hours, &hours, &hours, &hours, NULL, NULL}
	};
	static const ZoneTransition zone = {INSTANT_EVER, 3 * 3600 * S};
	CalendarSource calendar = {
		.npatterns = 1, .patterns = &week, .ntransitions = 1, .transitions = &zone,
		.first_day = -1, .last_day = 60,
	};
	Bytes		b = {data, size};
	Regulation *reg = take_regulation(&b);
	Timeline	line;
	Judge	   *judge;
	const Finding *found,
			   *again;
	Finding    *kept;
	int			n,
				upto = 0;

	if (reg == NULL)
	{
		fuzz_free();
		return 0;
	}
	for (size_t i = 0; i < sizeof(feeds) / sizeof(feeds[0]); i++)
		feeds[i] = INSTANT_EVER;
	if (chance(&b, 4))
		feeds[pick(&b, FEED_FIRST_FIELD)] = chance(&b, 2) ? INSTANT_NEVER : 3600 * S;
	line = (Timeline) {
		.account_id = 1, .deal_id = 1, .created_at = 0, .known_from = chance(&b, 8) ? 3600 * S : INSTANT_EVER,
		.as_of = take2(&b) * 60 * S, .deleted_at = chance(&b, 8) ? take2(&b) * 60 * S : INSTANT_NEVER,
		.manager_id = 1, .facts = facts, .nfields = reg->nfields + 1,
		.nfeeds = FEED_FIRST_FIELD + reg->nfields, .feed_since = feeds,
		.calendar = chance(&b, 2) ? calendar_build(&calendar, &fuzz_memory) : NULL,
	};
	line.nfacts = take_facts(&b, reg, facts);
	judge = judge_create(reg, &fuzz_memory, NULL, NULL);
	n = judge_deal(judge, &line, &found);
	check_findings(reg, &line, found, n);

	/* the same again, and what comes after as_of is not looked at */
	kept = fuzz_grow(NULL, NULL, sizeof(Finding) * (size_t) (n + 1));
	if (n > 0)
		memcpy(kept, found, sizeof(Finding) * (size_t) n);
	while (upto < line.nfacts && facts[upto].at <= line.as_of)
		upto++;
	line.nfacts = upto;
	MUST(judge_deal(judge, &line, &again) == n);
	for (int i = 0; i < n; i++)
		MUST(again[i].rule == kept[i].rule && again[i].task_id == kept[i].task_id &&
			 again[i].state == kept[i].state && again[i].arose_at == kept[i].arose_at &&
			 again[i].due_at == kept[i].due_at && again[i].met_at == kept[i].met_at &&
			 again[i].breached_at == kept[i].breached_at && again[i].resolved_at == kept[i].resolved_at);
	fuzz_free();
	return 0;
}
