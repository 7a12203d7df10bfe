/*-------------------------------------------------------------------------
 *
 * regulation.c
 *	  Regulations out of their tables, compiled and cached.
 *
 * A regulation is rows of six tables (DESIGN section 4).  Judging needs it in
 * compiled form, once for millions of facts, so each backend keeps what it has
 * compiled (style.md section 12: a query for each row costs more than all of
 * the judging).
 *
 * When a cached regulation is no longer true.  A statement trigger on each of
 * the tables (rule_check.c) sends a relcache invalidation of its table:
 * other backends get it once the change is committed, this one at the next
 * command, and again if the change is rolled back (AtEOXact_Inval,
 * AtEOSubXact_Inval run what was sent so far once more).  So what was cached
 * from rows that never came to be goes away with them.  Rows are always read
 * by the latest snapshot: what an old snapshot shows must not outlive its
 * transaction.  An invalidation that arrives while rows are being read moves
 * the generation on, and what was read is then used once but not kept.
 *
 * Whose memory it is.  A regulation lives in a context of its own.  One that
 * is no longer true is only put aside, since a caller further up may be using
 * it; contexts put aside are deleted when the transaction ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "label.h"
#include "regulation.h"
#include "stage.h"
#include "tables.h"

/* A regulation in the cache, or put aside. */
typedef struct Entry
{
	LoadedRegulation loaded;	/* first: what callers hold */
	MemoryContext context;
	bool		kept;			/* in the cache, else put aside */
	struct Entry *next;
} Entry;

/* Rows of a regulation while they are being read. */
typedef struct Reading
{
	RegulationSource source;
	RuleInfo   *infos;
	char	   *title;
	char	  **scenario_names; /* by row of scenario */
} Reading;

static const char *const rule_tables[] = {
	"regulation", "stage_def", "transition", "scenario", "rule", "effect"
};

static Entry *entries = NULL;
static uint64 generation = 0;
static Oid	watched[lengthof(rule_tables)];
static bool watching = false;

static Statement select_regulation = {
	"select title, redial_window, undo_window, min_talk"
	" from regcrm.regulation where code = $1",
	1, {TEXTOID}
};
static Statement select_stages = {
	"select stage from regcrm.stage_def order by position, stage", 0, {0}
};
static Statement select_transitions = {
	"select from_stage, to_stage, comment_required,"
	" lower(valid) + case when lower_inc(valid) then '0' else '1 microsecond' end::interval,"
	" upper(valid) + case when upper_inc(valid) then '1 microsecond' else '0' end::interval"
	" from regcrm.transition where regulation = $1 and not isempty(valid)"
	" order by from_stage::text, to_stage::text, valid",
	1, {TEXTOID}
};
static Statement select_scenarios = {
	"select code, outcome, name,"
	" lower(valid) + case when lower_inc(valid) then '0' else '1 microsecond' end::interval,"
	" upper(valid) + case when upper_inc(valid) then '1 microsecond' else '0' end::interval"
	" from regcrm.scenario where regulation = $1"
	" order by code collate \"C\", valid",
	1, {TEXTOID}
};
static Statement select_rules = {
	"select code, stage, form, event, nth, expect, unless, scope, within, by, warn,"
	" clock, duty_of, action,"
	" lower(valid) + case when lower_inc(valid) then '0' else '1 microsecond' end::interval,"
	" upper(valid) + case when upper_inc(valid) then '1 microsecond' else '0' end::interval,"
	" title, clause, severity, basis"
	" from regcrm.rule where regulation = $1 and enabled and not isempty(valid)"
	" order by code collate \"C\", valid",
	1, {TEXTOID}
};

static void rules_may_have_changed(Datum arg, Oid relid);
static void drop_put_aside(XactEvent event, void *arg);
static Entry *load(const char *code, bool missing_ok, RulesError *error,
				   const char **wrong_rule);

void
regulation_init(void)
{
	CacheRegisterRelcacheCallback(rules_may_have_changed, (Datum) 0);
	RegisterXactCallback(drop_put_aside, NULL);
}

/* Relcache callback; InvalidOid means that anything may have changed. */
static void
rules_may_have_changed(Datum arg, Oid relid)
{
	bool		ours = relid == InvalidOid;

	if (!watching)
		return;
	for (int i = 0; i < lengthof(rule_tables) && !ours; i++)
		ours = watched[i] == relid;
	if (!ours)
		return;
	generation++;
	for (Entry *entry = entries; entry != NULL; entry = entry->next)
		entry->kept = false;
}

/* Nobody holds a regulation across transactions, so what was put aside can go. */
static void
drop_put_aside(XactEvent event, void *arg)
{
	Entry	  **link = &entries;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE && event != XACT_EVENT_PARALLEL_COMMIT &&
		event != XACT_EVENT_PARALLEL_ABORT)
		return;
	while (*link != NULL)
	{
		Entry	   *entry = *link;

		if (entry->kept)
		{
			link = &entry->next;
			continue;
		}
		*link = entry->next;
		MemoryContextDelete(entry->context);
	}
}

/* Says what is wrong with a rule, and with which. */
static void
report_bad_row(const char *code, const char *wrong_rule, const RulesError *error)
{
	/* a hint tells what is known; without one the pieces don't go together */
	ereport(ERROR,
			(errcode(error->hint[0] ? ERRCODE_INVALID_PARAMETER_VALUE : ERRCODE_CHECK_VIOLATION),
			 errmsg("%s", error->message),
			 wrong_rule ?
			 errdetail("This is said of rule \"%s\" of regulation \"%s\", column \"%s\".",
					   wrong_rule, code, error->column) :
			 errdetail("This is said of regulation \"%s\", column \"%s\".",
					   code, error->column),
			 error->hint[0] ? errhint("%s", error->hint) :
			 errhint("The comment on each column of regcrm.rule says with which forms it goes."),
			 err_generic_string(PG_DIAG_SCHEMA_NAME, REGCRM_SCHEMA),
			 err_generic_string(PG_DIAG_TABLE_NAME, wrong_rule ? "rule" : "regulation"),
			 err_generic_string(PG_DIAG_COLUMN_NAME, error->column)));
}

const LoadedRegulation *
regulation_get(const char *code)
{
	RulesError	error;
	const char *wrong_rule = NULL;
	Entry	   *entry;

	for (entry = entries; entry != NULL; entry = entry->next)
		if (entry->kept && strcmp(entry->loaded.code, code) == 0)
			return &entry->loaded;

	entry = load(code, false, &error, &wrong_rule);
	if (entry == NULL)
		report_bad_row(code, wrong_rule, &error);
	return &entry->loaded;
}

void
regulation_check(const char *code)
{
	RulesError	error;
	const char *wrong_rule = NULL;

	if (load(code, true, &error, &wrong_rule) == NULL && error.message[0])
		report_bad_row(code, wrong_rule, &error);
}


/* ---- reading the rows ---- */

static char *
text_at(HeapTuple tuple, int column)
{
	return SPI_getvalue(tuple, SPI_tuptable->tupdesc, column);
}

static Datum
datum_at(HeapTuple tuple, int column, bool *isnull)
{
	return SPI_getbinval(tuple, SPI_tuptable->tupdesc, column, isnull);
}

/* A day is 24 hours, a month 30 days; too long is as long as can be. */
static bool
duration_at(HeapTuple tuple, int column, int64 *duration)
{
	bool		isnull;
	Datum		datum = datum_at(tuple, column, &isnull);
	Interval   *interval;
	int64		days;

	*duration = 0;
	if (isnull)
		return false;
	interval = DatumGetIntervalP(datum);
	days = (int64) interval->month * DAYS_PER_MONTH + interval->day;
	if (pg_mul_s64_overflow(days, USECS_PER_DAY, duration) ||
		pg_add_s64_overflow(*duration, interval->time, duration))
		*duration = days < 0 ? PG_INT64_MIN : PG_INT64_MAX;
	return true;
}

static instant
instant_at(HeapTuple tuple, int column, instant otherwise)
{
	bool		isnull;
	Datum		datum = datum_at(tuple, column, &isnull);

	return isnull ? otherwise : DatumGetTimestampTz(datum);
}

static stage_code
stage_at(HeapTuple tuple, int column)
{
	bool		isnull;
	Datum		datum = datum_at(tuple, column, &isnull);

	return isnull ? 0 : DatumGetStage(datum);
}

static int
texts_at(HeapTuple tuple, int column, const char ***texts)
{
	bool		isnull;
	Datum		datum = datum_at(tuple, column, &isnull);
	Datum	   *elements;
	bool	   *nulls;
	int			n = 0;
	int			count = 0;

	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(datum), TEXTOID, -1, false, TYPALIGN_INT,
						  &elements, &nulls, &n);
	*texts = palloc((n + 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			(*texts)[count++] = TextDatumGetCString(elements[i]);
	return count;
}

/* A row of rule, as the compiler and as reports take it. */
static void
read_rule(HeapTuple tuple, RuleSource *rule, RuleInfo *info)
{
	bool		isnull;
	Datum		nth = datum_at(tuple, 5, &isnull);

	rule->code = info->code = text_at(tuple, 1);
	rule->stage = stage_at(tuple, 2);
	rule->form = text_at(tuple, 3);
	rule->event = text_at(tuple, 4);
	rule->nth = isnull ? NO_NUMBER : DatumGetInt32(nth);
	rule->nexpect = texts_at(tuple, 6, &rule->expect);
	rule->nunless = texts_at(tuple, 7, &rule->unless);
	rule->scope = text_at(tuple, 8);
	rule->has_within = duration_at(tuple, 9, &rule->within);
	rule->by = text_at(tuple, 10);
	rule->has_warn = duration_at(tuple, 11, &rule->warn);
	rule->clock = text_at(tuple, 12);
	rule->duty_of = info->duty_of = text_at(tuple, 13);
	rule->action = info->action = text_at(tuple, 14);
	rule->valid_from = instant_at(tuple, 15, INSTANT_EVER);
	rule->valid_to = instant_at(tuple, 16, INSTANT_NEVER);
	info->nexpect = rule->nexpect;
	info->expect = rule->expect;
	info->event = rule->event;
	info->title = text_at(tuple, 17);
	info->clause = text_at(tuple, 18);
	info->severity = text_at(tuple, 19);
	info->basis = text_at(tuple, 20);
}

static int
run_select(Statement *statement, Datum arg)
{
	statement_run(statement, &arg);
	return (int) SPI_processed;
}

/* False where there is no such regulation.  Leaves everything in SPI's memory. */
static bool
read_rows(const char *code, Reading *reading)
{
	RegulationSource *source = &reading->source;
	Datum		arg = CStringGetTextDatum(code);
	stage_code *stages;
	TransitionSource *transitions;
	ScenarioSource *scenarios;
	RuleSource *rules;
	int			n;

	if (run_select(&select_regulation, arg) == 0)
		return false;
	reading->title = text_at(SPI_tuptable->vals[0], 1);
	duration_at(SPI_tuptable->vals[0], 2, &source->redial_window);
	duration_at(SPI_tuptable->vals[0], 3, &source->undo_window);
	duration_at(SPI_tuptable->vals[0], 4, &source->min_talk);

	n = run_select(&select_stages, arg);
	stages = palloc((n + 1) * sizeof(stage_code));
	for (int i = 0; i < n; i++)
	{
		char	   *label = text_at(SPI_tuptable->vals[i], 1);

		stages[i] = label_pack(label, strlen(label));
	}
	source->stages = stages;
	source->nstages = n;

	n = run_select(&select_transitions, arg);
	transitions = palloc0((n + 1) * sizeof(TransitionSource));
	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;

		transitions[i].from = stage_at(tuple, 1);
		transitions[i].to = stage_at(tuple, 2);
		transitions[i].comment_required = DatumGetBool(datum_at(tuple, 3, &isnull));
		transitions[i].valid_from = instant_at(tuple, 4, INSTANT_EVER);
		transitions[i].valid_to = instant_at(tuple, 5, INSTANT_NEVER);
	}
	source->transitions = transitions;
	source->ntransitions = n;

	n = run_select(&select_scenarios, arg);
	scenarios = palloc0((n + 1) * sizeof(ScenarioSource));
	reading->scenario_names = palloc0((n + 1) * sizeof(char *));
	for (int i = 0; i < n; i++)
	{
		scenarios[i].code = text_at(SPI_tuptable->vals[i], 1);
		scenarios[i].outcome = text_at(SPI_tuptable->vals[i], 2);
		scenarios[i].valid_from = instant_at(SPI_tuptable->vals[i], 4, INSTANT_EVER);
		scenarios[i].valid_to = instant_at(SPI_tuptable->vals[i], 5, INSTANT_NEVER);
		reading->scenario_names[i] = text_at(SPI_tuptable->vals[i], 3);
	}
	source->scenarios = scenarios;
	source->nscenarios = n;

	n = run_select(&select_rules, arg);
	rules = palloc0((n + 1) * sizeof(RuleSource));
	reading->infos = palloc0((n + 1) * sizeof(RuleInfo));
	for (int i = 0; i < n; i++)
		read_rule(SPI_tuptable->vals[i], &rules[i], &reading->infos[i]);
	source->rules = rules;
	source->nrules = n;
	return true;
}

static char *
copy_text(MemoryContext context, const char *text)
{
	return text ? MemoryContextStrdup(context, text) : NULL;
}

/* What callers see, in the entry's own memory. */
static void
keep_rows(Entry *entry, const char *code, const Reading *reading, const Regulation *compiled)
{
	MemoryContext context = entry->context;
	int			nrules = reading->source.nrules;
	RuleInfo   *infos = MemoryContextAlloc(context, (nrules + 1) * sizeof(RuleInfo));

	for (int i = 0; i < nrules; i++)
	{
		const RuleInfo *info = &reading->infos[i];

		infos[i].code = copy_text(context, info->code);
		infos[i].title = copy_text(context, info->title);
		infos[i].clause = copy_text(context, info->clause);
		infos[i].severity = copy_text(context, info->severity);
		infos[i].basis = copy_text(context, info->basis);
		infos[i].action = copy_text(context, info->action);
		infos[i].duty_of = copy_text(context, info->duty_of);
		infos[i].event = copy_text(context, info->event);
		infos[i].nexpect = info->nexpect;
		infos[i].expect = MemoryContextAlloc(context, (info->nexpect + 1) * sizeof(char *));
		for (int k = 0; k < info->nexpect; k++)
			infos[i].expect[k] = copy_text(context, info->expect[k]);
	}
	entry->loaded.code = copy_text(context, code);
	entry->loaded.title = copy_text(context, reading->title);
	entry->loaded.compiled = compiled;
	entry->loaded.rules = infos;
	entry->loaded.scenario_names =
		MemoryContextAllocZero(context, (compiled->nscenarios + 1) * sizeof(char *));
	for (int i = 0; i < reading->source.nscenarios; i++)
	{
		const char *scenario = reading->source.scenarios[i].code;
		int			number = rules_scenario(compiled, scenario, strlen(scenario));

		if (number >= 0)
			entry->loaded.scenario_names[number] =
				copy_text(context, regulation_fold(reading->scenario_names[i]));
	}
}

/* Learns which relcache invalidations are about us. */
static void
watch_tables(void)
{
	for (int i = 0; i < lengthof(rule_tables); i++)
		watched[i] = tables_find(rule_tables[i]);
	watching = true;
}

/*
 * Reads and compiles a regulation and puts it into the cache.  NULL, with
 * *error and *wrong_rule told, where a row of it can't be understood; also,
 * where missing_ok, when there is no such regulation (then *error is empty).
 */
static Entry *
load(const char *code, bool missing_ok, RulesError *error, const char **wrong_rule)
{
	MemoryContext outer = CurrentMemoryContext;
	Reading		reading = {0};
	Regulation *compiled;
	TablesScope scope;
	uint64		generation_before;
	Memory		memory;
	Entry	   *entry = NULL;

	memset(error, 0, sizeof(*error));
	watch_tables();
	generation_before = generation;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tables_enter(&scope, true);
	/* one of several processes that judge together keeps to the snapshot they share */
	PushActiveSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());
	if (read_rows(code, &reading))
	{
		MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
													  "regcrm regulation",
													  ALLOCSET_DEFAULT_SIZES);

		memory = tables_memory(context);
		compiled = rules_compile(&reading.source, &memory, error);
		if (compiled != NULL)
		{
			entry = MemoryContextAllocZero(context, sizeof(Entry));
			entry->context = context;
			keep_rows(entry, code, &reading, compiled);
			entry->loaded.neffects = effects_read(code, compiled, context, &entry->loaded.effects);
			/* from here on it outlives us */
			MemoryContextSetParent(context, CacheMemoryContext);
			entry->kept = generation == generation_before;
			entry->next = entries;
			entries = entry;
		}
		else if (error->rule >= 0)
			*wrong_rule = MemoryContextStrdup(outer, reading.infos[error->rule].code);
	}
	else if (!missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("regulation \"%s\" does not exist", code),
				 errhint("Regulations are rows of regcrm.regulation.")));
	PopActiveSnapshot();
	tables_leave(&scope);
	SPI_finish();
	return entry;
}


/* ---- scenarios by name ---- */

char *
regulation_fold(const char *text)
{
	char	   *utf8 = pg_server_to_any(text, strlen(text), PG_UTF8);
	size_t		len = strlen(utf8);
	char	   *folded = palloc(len + 1);

	folded[label_fold(utf8, len, folded)] = '\0';
	return folded;
}

int
regulation_scenario(const LoadedRegulation *loaded, const char *text)
{
	int			number = rules_scenario(loaded->compiled, text, strlen(text));
	char	   *folded;

	if (number >= 0)
		return number;
	folded = regulation_fold(text);
	for (int i = 0; i < loaded->compiled->nscenarios; i++)
		if (loaded->scenario_names[i] != NULL &&
			strcmp(loaded->scenario_names[i], folded) == 0)
			return i;
	return NO_NUMBER;
}
