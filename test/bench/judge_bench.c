/*-------------------------------------------------------------------------
 *
 * judge_bench.c
 *	  The judge by itself: what an event costs.  See test/bench/judge.
 *
 * usage: judge_bench FILE [REPEATS]
 *
 * Reads what judge_data.py wrote, judges every deal once (that run is for
 * callgrind, which is told to count judge_all only), then, where repeats are
 * asked for, by turns with a plain pass over the same arrays.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "judge.h"
#include "label.h"

#define SECOND		INT64_C(1000000)
#define MAX_FIELDS	14

static void *
grow(void *self, void *old, size_t size)
{
	void	   *block = realloc(old, size);

	(void) self;
	if (!block)
		abort();
	return block;
}

static const Memory memory = {grow, NULL};

/* ---- reading ---- */

static stage_code stages[64];
static TransitionSource transitions[512];
static ScenarioSource scenarios[64];
static RuleSource rules[512];
static RegulationSource source = {
	.stages = stages, .transitions = transitions, .scenarios = scenarios, .rules = rules,
	.redial_window = 30 * 60 * SECOND, .undo_window = 60 * SECOND, .min_talk = 10 * SECOND,
};
static const Regulation *regulation;
static Timeline *deals;
static int	ndeals;
static Fact *facts;
static int	nfacts;
static instant feeds[64];

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "judge_bench: %s: %s\n", what, why);
	exit(1);
}

/* Takes a line to pieces; "-" is NULL. */
static int
split(char *line, char **field)
{
	int			n = 0;

	line[strcspn(line, "\n")] = '\0';
	for (char *text = line; text && n < MAX_FIELDS; n++)
	{
		field[n] = strsep(&text, "\t");
		if (strcmp(field[n], "-") == 0)
			field[n] = NULL;
	}
	for (int i = n; i < MAX_FIELDS; i++)
		field[i] = NULL;
	return n;
}

static char *
copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static stage_code
code(const char *text)
{
	return text ? label_pack(text, strlen(text)) : 0;
}

static int
list(const char *text, const char ***items)
{
	char	   *rest = copy(text);
	int			n = 0;

	*items = calloc(8, sizeof(char *));
	while (rest && n < 8)
		(*items)[n++] = strsep(&rest, ",");
	return n;
}

static void
read_rule(char **field)
{
	RuleSource *r = &rules[source.nrules++];

	*r = (RuleSource) {
		.code = copy(field[1]), .stage = code(field[2]), .form = copy(field[3]), .event = copy(field[4]),
		.nth = field[5] ? atoi(field[5]) : NO_NUMBER, .scope = copy(field[8]),
		.has_within = field[9] != NULL, .within = field[9] ? atoll(field[9]) : 0, .by = copy(field[10]),
		.has_warn = field[11] != NULL, .warn = field[11] ? atoll(field[11]) : 0, .clock = copy(field[12]),
		.duty_of = "manager", .action = "record", .valid_from = INSTANT_EVER, .valid_to = INSTANT_NEVER,
	};
	r->nexpect = list(field[6], &r->expect);
	r->nunless = list(field[7], &r->unless);
}

static int16_t
stage_of(const char *text, int missing)
{
	if (!text)
		return (int16_t) missing;
	return (int16_t) (strcmp(text, "?") == 0 ? STAGE_UNKNOWN : rules_stage(regulation, code(text)));
}

static void
read_fact(char **field)
{
	static const char *const kinds[] = {
		[FACT_MOVE] = "move", [FACT_CALL_IN] = "call_in", [FACT_CALL_OUT] = "call_out",
		[FACT_MESSAGE_IN] = "message_in", [FACT_MESSAGE_OUT] = "message_out", [FACT_REQUEST] = "request",
		[FACT_VISIT] = "visit", [FACT_SCENARIO] = "scenario", [FACT_COMMENT] = "comment",
		[FACT_FIELD] = "field", [FACT_RESPONSIBLE] = "responsible", [FACT_ROBOT] = "robot",
		[FACT_VERDICT] = "verdict", [FACT_TASK_ADDED] = "task_added", [FACT_TASK_DONE] = "task_done",
	};
	Fact	   *f = &facts[nfacts++];
	int			kind = 0;

	while (strcmp(kinds[kind], field[3]) != 0)
		if (++kind == FACT_TASK_GONE)
			die("unknown kind of fact", field[3]);
	*f = (Fact) {.at = atoll(field[1]), .id = atoll(field[2]), .kind = (uint8_t) kind};
	if (strchr(field[4], 'b'))
		f->flags |= FACT_BY_BOT;
	if (strchr(field[4], 'a'))
		f->flags |= FACT_ANSWERED;
	if (strchr(field[4], 'h'))
		f->flags |= FACT_HOLDS;
	switch (kind)
	{
		case FACT_MOVE:
			f->u.move.from = stage_of(field[5], STAGE_NONE);
			f->u.move.to = stage_of(field[6], STAGE_UNKNOWN);
			break;
		case FACT_CALL_IN:
		case FACT_CALL_OUT:
			f->u.call.duration = atoll(field[5]);
			break;
		case FACT_SCENARIO:
			f->u.scenario.number = rules_scenario(regulation, field[5], strlen(field[5]));
			break;
		case FACT_FIELD:
			f->u.field.number = rules_field(regulation, field[5], strlen(field[5]));
			if (f->u.field.number == NO_NUMBER)
				f->u.field.number = regulation->nfields;
			f->u.field.value = field[6] ? strtoull(field[6], NULL, 10) : 0;
			f->u.field.moment = field[7] ? atoll(field[7]) : INSTANT_NEVER;
			break;
		case FACT_RESPONSIBLE:
			f->u.manager = atoll(field[5]);
			break;
		case FACT_TASK_ADDED:
		case FACT_TASK_DONE:
			f->u.task.kind = rules_task_kind(regulation, field[5], strlen(field[5]));
			f->u.task.due_at = atoll(field[6]);
			break;
	}
}

static void
read_deal(char **field)
{
	deals[ndeals++] = (Timeline) {
		.account_id = 1, .deal_id = atoll(field[1]), .created_at = atoll(field[2]),
		.deleted_at = field[3] ? atoll(field[3]) : INSTANT_NEVER, .known_from = INSTANT_EVER,
		.manager_id = atoll(field[4]), .as_of = atoll(field[5]), .nfacts = atoi(field[6]),
		.facts = &facts[nfacts], .nfields = regulation->nfields + 1, .nfeeds = FEED_FIRST_FIELD + regulation->nfields, .feed_since = feeds,
	};
}

static void
compile(void)
{
	RulesError	error;

	source.nstages = 0;
	while (stages[source.nstages])
		source.nstages++;
	regulation = rules_compile(&source, &memory, &error);
	if (!regulation)
		die("the regulation is refused", error.message);
}

static void
read_file(const char *name)
{
	FILE	   *file = fopen(name, "r");
	char		line[4096];
	char	   *field[MAX_FIELDS];
	int			nstages = 0;
	int			lines = 0;

	if (!file)
		die(name, "can't be read");
	while (fgets(line, sizeof(line), file))
		lines++;
	rewind(file);
	facts = calloc((size_t) lines, sizeof(Fact));
	deals = calloc((size_t) lines, sizeof(Timeline));
	while (fgets(line, sizeof(line), file))
	{
		split(line, field);
		if (strcmp(field[0], "stage") == 0)
			stages[nstages++] = code(field[1]);
		else if (strcmp(field[0], "transition") == 0)
			transitions[source.ntransitions++] = (TransitionSource) {
				code(field[1]), code(field[2]), *field[3] == '1', INSTANT_EVER, INSTANT_NEVER
			};
		else if (strcmp(field[0], "scenario") == 0)
			scenarios[source.nscenarios++] = (ScenarioSource) {
				copy(field[1]), copy(field[2]), INSTANT_EVER, INSTANT_NEVER
			};
		else if (strcmp(field[0], "rule") == 0)
			read_rule(field);
		else
		{
			if (!regulation)
				compile();
			if (strcmp(field[0], "deal") == 0)
				read_deal(field);
			else
				read_fact(field);
		}
	}
	fclose(file);
	if (ndeals == 0)
		die(name, "has no deals");
}

/* Every day 09:00 to 20:00 in Moscow, laid out as far as the server does it. */
static const Calendar *
make_calendar(void)
{
	static const DaySpan hours = {9 * 3600 * SECOND, 20 * 3600 * SECOND};
	static const ZoneTransition moscow = {INSTANT_EVER, 3 * 3600 * SECOND};
	WeekPattern week = {.first_day = INT32_MIN};
	CalendarSource days = {
		.npatterns = 1, .patterns = &week, .ntransitions = 1, .transitions = &moscow,
		.first_day = -3653, .last_day = 36889,
	};

	for (int i = 0; i < 7; i++)
	{
		week.nspans[i] = 1;
		week.spans[i] = &hours;
	}
	return calendar_build(&days, &memory);
}

/* ---- what is measured ---- */

static uint64_t
mix(uint64_t digest, uint64_t value)
{
	return (digest ^ value) * UINT64_C(0x9e3779b97f4a7c15) + (digest >> 29);
}

/* All that is found, so that two builds can be told to agree. */
static uint64_t
digest_of(Judge *judge)
{
	uint64_t	digest = 0;

	for (int i = 0; i < ndeals; i++)
	{
		const Finding *f;
		int			n = judge_deal(judge, &deals[i], &f);

		for (; n > 0; n--, f++)
		{
			digest = mix(digest, (uint64_t) deals[i].deal_id);
			digest = mix(digest, (uint64_t) f->rule << 32 | (uint64_t) (f->stage + 2) << 16 | f->state << 8 | f->resolution);
			digest = mix(digest, (uint64_t) f->task_id);
			digest = mix(digest, (uint64_t) f->manager_id);
			digest = mix(digest, (uint64_t) f->arose_at);
			digest = mix(digest, (uint64_t) f->warn_at);
			digest = mix(digest, (uint64_t) f->due_at);
			digest = mix(digest, (uint64_t) f->met_at);
			digest = mix(digest, (uint64_t) f->breached_at);
			digest = mix(digest, (uint64_t) f->resolved_at);
			digest = mix(digest, (uint64_t) f->ended_at);
			digest = mix(digest, (uint64_t) f->trigger_id ^ (uint64_t) f->trigger_kind << 56);
			digest = mix(digest, (uint64_t) f->answer_id ^ (uint64_t) f->answer_kind << 56);
			digest = mix(digest, (uint64_t) (f->from_stage + 2) << 16 | (uint64_t) (f->to_stage + 2));
		}
	}
	return digest;
}

static __attribute__((noinline)) long
judge_all(Judge *judge)
{
	long		n = 0;

	for (int i = 0; i < ndeals; i++)
	{
		const Finding *findings;

		n += judge_deal(judge, &deals[i], &findings);
	}
	return n;
}

/* The least that anything could do with these arrays: look at each fact once. */
static __attribute__((noinline)) long
plain_pass(void)
{
	long		n = 0;
	long		of_kind[16] = {0};

	for (int i = 0; i < ndeals; i++)
	{
		const Timeline *line = &deals[i];

		for (int k = 0; k < line->nfacts; k++)
			if (line->facts[k].at <= line->as_of)
				of_kind[line->facts[k].kind & 15]++;
	}
	for (int i = 0; i < 16; i++)
		n += of_kind[i];
	return n;
}

static double
cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static int
ascending(const void *a, const void *b)
{
	double		x = *(const double *) a;
	double		y = *(const double *) b;

	return (x > y) - (x < y);
}

int
main(int argc, char **argv)
{
	int			repeats = argc > 2 ? atoi(argv[2]) : 0;
	double	   *judged = calloc((size_t) repeats + 1, sizeof(double));
	double	   *plain = calloc((size_t) repeats + 1, sizeof(double));
	const Calendar *calendar;
	Judge	   *judge;
	volatile long sink = 0;
	long		found;

	if (argc < 2)
		die("usage", "judge_bench FILE [REPEATS]");
	for (int i = 0; i < 64; i++)
		feeds[i] = INSTANT_EVER;
	read_file(argv[1]);
	calendar = make_calendar();
	for (int i = 0; i < ndeals; i++)
		deals[i].calendar = calendar;
	judge = judge_create(regulation, &memory, NULL, NULL);
	printf("deals %d events %d rules %d digest %016llx\n", ndeals, nfacts, regulation->nrules,
		   (unsigned long long) digest_of(judge));
	found = judge_all(judge);
	printf("findings %ld\n", found);
	for (int i = 0; i < repeats; i++)
	{
		double		begin = cpu();
		double		middle;

		sink += judge_all(judge);
		middle = cpu();
		for (int k = 0; k < 20; k++)
			sink += plain_pass();
		judged[i] = middle - begin;
		plain[i] = (cpu() - middle) / 20;
	}
	if (repeats > 0)
	{
		qsort(judged, (size_t) repeats, sizeof(double), ascending);
		qsort(plain, (size_t) repeats, sizeof(double), ascending);
		printf("judged %.9f plain %.9f\n", judged[repeats / 2], plain[repeats / 2]);
	}
	return 0;
}
