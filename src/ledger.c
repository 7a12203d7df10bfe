/*-------------------------------------------------------------------------
 *
 * ledger.c
 *	  Findings against what is stored of them, and writing the difference.
 *
 * What is stored of a batch of deals is read in one ordered pass, compared
 * here, and only what differs is written, in bulk: judging unchanged facts
 * again writes nothing.  Who calls with collect holds the locks of the deals
 * (gate.c), so nobody else writes findings about them meanwhile.
 *
 * Words: a duty is a finding with a due moment after it arose; it has a row in
 * deadline.  A breach is a finding with breached_at; it has a row in
 * violation.  A finding may be both, either, or none (a thing rightly done).
 *
 * The rules of DESIGN section 5, and how they are kept:
 *	- (account, deal, rule, arose_at, task) is the key of both tables.
 *	- A violation is never deleted.  One that is none any more is withdrawn; if
 *	  it is one again, withdrawn_at goes back to null and the rest is set right.
 *	- waived_at, waived_by, waive_reason and detected_at are never touched.
 *	- A row of deadline says that a duty arose.  One that, by later facts, never
 *	  arose is deleted: it was never anybody's duty, and left standing it would
 *	  count in every denominator.
 *	- A robot's duty is on nobody's scorecard: manager_id is null.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "label.h"
#include "ledger.h"
#include "ledger_int.h"
#include "news.h"
#include "stage.h"

#define SELECT_DEADLINES \
	"select deal_id, arose_at, rule, task_id, stage, manager_id, warn_at, due_at," \
	" met_at, state, ended_at, tid from "
#define SELECT_VIOLATIONS \
	"select deal_id, arose_at, rule, task_id, stage, manager_id, id, severity," \
	" breached_at, resolved_at, resolution, evidence::text, withdrawn_at is not null from "
#define SELECT_MOMENTS \
	"select deal_id, at from "
#define ALL				" where account_id = $1 order by account_id, deal_id"
#define RANGE \
	" where account_id = $1 and deal_id between $2 and $3 order by account_id, deal_id"
#define DEADLINES		"(select *, ctid as tid from regcrm.deadline) f"
/* as in timeline.c: from each id to its rows */
#define SOME(table) \
	"unnest($2) u(deal) cross join lateral (select f.*, f.ctid as tid from regcrm." table " f" \
	" where f.account_id = $1 and f.deal_id = u.deal offset 0) f order by deal_id"

/* Of all deals, of some by their ids, of those of a range. */
static Statement select_deadlines[3] = {
	{SELECT_DEADLINES DEADLINES ALL, 1, {INT8OID}, true},
	{SELECT_DEADLINES SOME("deadline"), 2, {INT8OID, INT8ARRAYOID}},
	{SELECT_DEADLINES DEADLINES RANGE, 3, {INT8OID, INT8OID, INT8OID}}
};
static Statement select_violations[3] = {
	{SELECT_VIOLATIONS "regcrm.violation" ALL, 1, {INT8OID}, true},
	{SELECT_VIOLATIONS SOME("violation"), 2, {INT8OID, INT8ARRAYOID}},
	{SELECT_VIOLATIONS "regcrm.violation" RANGE, 3, {INT8OID, INT8OID, INT8OID}}
};
static Statement select_moments[3] = {
	{SELECT_MOMENTS "regcrm.next_moment" ALL, 1, {INT8OID}, true},
	{SELECT_MOMENTS SOME("next_moment"), 2, {INT8OID, INT8ARRAYOID}},
	{SELECT_MOMENTS "regcrm.next_moment" RANGE, 3, {INT8OID, INT8OID, INT8OID}}
};

enum
{
	ROW_DEAL_ID, ROW_AROSE_AT, ROW_RULE, ROW_TASK_ID, ROW_STAGE, ROW_MANAGER_ID,
	DEADLINE_WARN_AT, DEADLINE_DUE_AT, DEADLINE_MET_AT, DEADLINE_STATE,
	DEADLINE_ENDED_AT, DEADLINE_TID, DEADLINE_NCOLUMNS,
	VIOLATION_ID = DEADLINE_WARN_AT, VIOLATION_SEVERITY, VIOLATION_BREACHED_AT,
	VIOLATION_RESOLVED_AT, VIOLATION_RESOLUTION, VIOLATION_EVIDENCE,
	VIOLATION_WITHDRAWN, VIOLATION_NCOLUMNS
};

/* ---- words ---- */

const char *
ledger_state(FindingState state)
{
	static const char *const words[] = {
		"pending", "warned", "met", "late", "missed", "cancelled"
	};

	return words[state];
}

const char *
ledger_resolution(FindingResolution resolution)
{
	static const char *const words[] = {NULL, "met", "left", "moment"};

	return words[resolution];
}

/* What kind of fact it was tells in which table it is found. */
static void
evidence_fact(StringInfo out, FactKind kind, int64 id)
{
	bool		task = kind == FACT_TASK_ADDED || kind == FACT_TASK_DONE ||
		kind == FACT_TASK_GONE;

	appendStringInfo(out, "\"%s\": " INT64_FORMAT, task ? "task" : "event", id);
}

static void
evidence_stage(StringInfo out, const Regulation *regulation, const char *key, int stage)
{
	char		label[LABEL_MAX + 1];

	label_unpack(regulation->stages[stage], label);
	appendStringInfo(out, "\"%s\": \"%s\", ", key, label);
}

/*
 * Keys stand in jsonb's own order (shorter ones first, then by bytes), so that
 * this text can be compared with what jsonb_out gives.
 */
char *
ledger_evidence(const Regulation *regulation, const Finding *finding)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	if (finding->to_stage >= 0)
		evidence_stage(&out, regulation, "to", finding->to_stage);
	if (finding->from_stage >= 0)
		evidence_stage(&out, regulation, "from", finding->from_stage);
	if (finding->trigger_id != 0)
	{
		evidence_fact(&out, finding->trigger_kind, finding->trigger_id);
		appendStringInfoString(&out, ", ");
	}
	if (finding->answer_id != 0)
	{
		appendStringInfoString(&out, "\"answer\": {");
		evidence_fact(&out, finding->answer_kind, finding->answer_id);
		appendStringInfoString(&out, "}, ");
	}
	if (out.len == 1)
		return NULL;
	out.len -= 2;				/* the last comma */
	out.data[out.len] = '\0';
	appendStringInfoChar(&out, '}');
	return out.data;
}


/* ---- what is stored ---- */

/* The same columns for reading by keys, in the same order. */
static KeyTable deadline_keys = {
	.name = "deadline",.keys = {"account_id", "deal_id"},.ncolumns = DEADLINE_TID,
	.columns = {
		{"deal_id", INT8OID}, {"arose_at", TIMESTAMPTZOID}, {"rule", TEXTOID},
		{"task_id", INT8OID}, {"stage", ARG_STAGE}, {"manager_id", INT8OID},
		{"warn_at", TIMESTAMPTZOID}, {"due_at", TIMESTAMPTZOID}, {"met_at", TIMESTAMPTZOID},
		{"state", TEXTOID}, {"ended_at", TIMESTAMPTZOID}
	}
};
static KeyTable violation_keys = {
	.name = "violation",.keys = {"account_id", "deal_id"},.ncolumns = VIOLATION_NCOLUMNS,
	.columns = {
		{"deal_id", INT8OID}, {"arose_at", TIMESTAMPTZOID}, {"rule", TEXTOID},
		{"task_id", INT8OID}, {"stage", ARG_STAGE}, {"manager_id", INT8OID}, {"id", INT8OID},
		{"severity", TEXTOID}, {"breached_at", TIMESTAMPTZOID}, {"resolved_at", TIMESTAMPTZOID},
		{"resolution", TEXTOID}, {"evidence", JSONBOID}, {"withdrawn_at", TIMESTAMPTZOID}
	}
};
static KeyTable moment_keys = {
	.name = "next_moment",.keys = {"account_id", "deal_id"},.ncolumns = 2,
	.columns = {{"deal_id", INT8OID}, {"at", TIMESTAMPTZOID}}
};

/* What SELECT_DEADLINES makes of columns. */
static void
finish_deadline(Datum *values, bool *nulls, KeyReader *reader)
{
	values[DEADLINE_TID] = PointerGetDatum(keyread_tid(reader));
	nulls[DEADLINE_TID] = false;
}

/* What SELECT_VIOLATIONS makes of columns; evidence is made into text where it is read. */
static void
finish_violation(Datum *values, bool *nulls, KeyReader *reader)
{
	values[VIOLATION_WITHDRAWN] = BoolGetDatum(!nulls[VIOLATION_WITHDRAWN]);
	nulls[VIOLATION_WITHDRAWN] = false;
}

/* Passes over rows of earlier deals; whether there is one of this. */
static bool
stored_reach(Stream *stream, int64 deal_id)
{
	while (stream->there && stream->deal_id < deal_id)
		stream_next(stream);
	return stream->there && stream->deal_id == deal_id;
}

static instant
instant_at(const Stream *stream, int column)
{
	return stream->nulls[column] ? INSTANT_NEVER : DatumGetTimestampTz(stream->values[column]);
}

static int64
number_at(const Stream *stream, int column, int64 otherwise)
{
	return stream->nulls[column] ? otherwise : DatumGetInt64(stream->values[column]);
}

static char *
text_at(const Stream *stream, int column)
{
	return stream->nulls[column] ? NULL : TextDatumGetCString(stream->values[column]);
}

/* By keys it comes as it is stored, by the query as text. */
static char *
evidence_at(const Stream *stream)
{
	if (stream->keys == NULL || stream->nulls[VIOLATION_EVIDENCE])
		return text_at(stream, VIOLATION_EVIDENCE);
	return DatumGetCString(DirectFunctionCall1(jsonb_out, stream->values[VIOLATION_EVIDENCE]));
}

/* Takes what rows of both tables have in common. */
static StoredRow *
stored_row(StoredRows *rows, const Stream *stream)
{
	StoredRow  *row;

	if (rows->n == rows->room)
	{
		rows->room = rows->room ? rows->room * 2 : 64;
		rows->rows = rows->rows ? repalloc_huge(rows->rows, rows->room * sizeof(StoredRow)) :
			MemoryContextAllocHuge(rows->context, rows->room * sizeof(StoredRow));
		rows->keys = rows->keys ? repalloc_huge(rows->keys, rows->room * sizeof(InstantKey)) :
			MemoryContextAllocHuge(rows->context, rows->room * sizeof(InstantKey));
	}
	row = &rows->rows[rows->n++];
	memset(row, 0, sizeof(*row));
	row->arose_at = DatumGetTimestampTz(stream->values[ROW_AROSE_AT]);
	rows->keys[rows->n - 1] = (InstantKey) {row->arose_at, rows->n - 1};
	row->rule = text_at(stream, ROW_RULE);
	row->task_id = number_at(stream, ROW_TASK_ID, NO_TASK);
	row->stage = (stage_code) number_at(stream, ROW_STAGE, 0);
	row->manager_id = number_at(stream, ROW_MANAGER_ID, NO_MANAGER);
	return row;
}

/* Reads the rows of one deal, and puts them in order of arose_at. */
static void
read_stored(Ledger *ledger, int64 deal_id)
{
	Stream	   *stream = ledger->deadlines;

	ledger->stored_deadlines.n = 0;
	for (; stored_reach(stream, deal_id); stream_next(stream))
	{
		StoredRow  *row = stored_row(&ledger->stored_deadlines, stream);

		row->warn_at = instant_at(stream, DEADLINE_WARN_AT);
		row->due_at = instant_at(stream, DEADLINE_DUE_AT);
		row->met_at = instant_at(stream, DEADLINE_MET_AT);
		row->word = text_at(stream, DEADLINE_STATE);
		row->ended_at = instant_at(stream, DEADLINE_ENDED_AT);
		row->tid = *(ItemPointer) DatumGetPointer(stream->values[DEADLINE_TID]);
	}
	stream = ledger->violations;
	ledger->stored_violations.n = 0;
	for (; stored_reach(stream, deal_id); stream_next(stream))
	{
		StoredRow  *row = stored_row(&ledger->stored_violations, stream);

		row->id = number_at(stream, VIOLATION_ID, 0);
		row->severity = text_at(stream, VIOLATION_SEVERITY);
		row->due_at = instant_at(stream, VIOLATION_BREACHED_AT);
		row->ended_at = instant_at(stream, VIOLATION_RESOLVED_AT);
		row->word = text_at(stream, VIOLATION_RESOLUTION);
		row->evidence = evidence_at(stream);
		row->withdrawn = DatumGetBool(stream->values[VIOLATION_WITHDRAWN]);
	}
	instants_sort(ledger->stored_deadlines.keys, ledger->stored_deadlines.n);
	instants_sort(ledger->stored_violations.keys, ledger->stored_violations.n);
	ledger->stored_moment = INSTANT_NEVER;
	if (stored_reach(ledger->moments, deal_id))
		ledger->stored_moment = DatumGetTimestampTz(ledger->moments->values[1]);
}

/*
 * which: the number of the statements, args: what they take; ids: those of the
 * second, to be there until the ledger is closed
 */
static Ledger *
open_ledger(const Account *account, int which, Datum *args, const int64 *ids, int nids)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "regcrm ledger",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Ledger	   *ledger = palloc0(sizeof(Ledger));

	ledger->account = account;
	ledger->context = context;
	ledger->deal_context = AllocSetContextCreate(context, "regcrm ledger deal",
												 ALLOCSET_DEFAULT_SIZES);
	ledger->changes_context = AllocSetContextCreate(context, "regcrm ledger changes",
													ALLOCSET_DEFAULT_SIZES);
	ledger->stored_deadlines.context = ledger->stored_violations.context = context;
	ledger->deadlines = stream_open_keys(&deadline_keys, finish_deadline, account->id, ids, nids,
										 &select_deadlines[which], args, DEADLINE_NCOLUMNS);
	ledger->violations = stream_open_keys(&violation_keys, finish_violation, account->id, ids, nids,
										  &select_violations[which], args, VIOLATION_NCOLUMNS);
	ledger->moments = stream_open_keys(&moment_keys, NULL, account->id, ids, nids,
									   &select_moments[which], args, 2);
	changes_reset(ledger);
	MemoryContextSwitchTo(old);
	return ledger;
}

Ledger *
ledger_open(const Account *account, const int64 *ids, int nids)
{
	Datum		args[2] = {Int64GetDatum(account->id)};

	if (ids == NULL)
		return open_ledger(account, 0, args, NULL, 0);
	args[1] = tables_ids(ids, nids);
	return open_ledger(account, 1, args, ids, nids);
}

Ledger *
ledger_open_range(const Account *account, int64 first, int64 last)
{
	Datum		args[3] = {Int64GetDatum(account->id), Int64GetDatum(first), Int64GetDatum(last)};

	return open_ledger(account, 2, args, NULL, 0);
}

void
ledger_close(Ledger *ledger)
{
	stream_close(ledger->moments);
	stream_close(ledger->violations);
	stream_close(ledger->deadlines);
	MemoryContextDelete(ledger->context);
}


/* ---- comparing ---- */

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

/* The stored row of a finding's key, or NULL; *from moves on with arose_at. */
static StoredRow *
find_stored(StoredRows *rows, int *from, const Finding *finding, const char *rule)
{
	while (*from < rows->n && rows->keys[*from].at < finding->arose_at)
		(*from)++;
	for (int i = *from; i < rows->n && rows->keys[i].at == finding->arose_at; i++)
	{
		StoredRow  *row = &rows->rows[rows->keys[i].row];

		if (row->task_id == finding->task_id && strcmp(row->rule, rule) == 0)
			return row;
	}
	return NULL;
}

static bool
is_stored(const StoredRow *row, const Finding *finding, const char *rule)
{
	return row->arose_at == finding->arose_at && row->task_id == finding->task_id &&
		strcmp(row->rule, rule) == 0;
}

bool
ledger_is_new(const Ledger *ledger, const Finding *finding)
{
	const char *rule = regulation_rule(ledger->account->regulation, finding->rule)->code;

	for (int i = 0; i < ledger->stored_violations.n; i++)
	{
		const StoredRow *row = &ledger->stored_violations.rows[i];

		if (is_stored(row, finding, rule) && !row->withdrawn)
			return false;
	}
	for (int i = 0; i < ledger->stored_deadlines.n; i++)
	{
		const StoredRow *row = &ledger->stored_deadlines.rows[i];

		if (is_stored(row, finding, rule) &&
			(strcmp(row->word, ledger_state(STATE_PENDING)) == 0 ||
			 strcmp(row->word, ledger_state(STATE_WARNED)) == 0))
			return false;
	}
	return true;
}

/* A finding in the words of the tables. */
static void
describe(const Ledger *ledger, const Finding *finding, StoredRow *row)
{
	const LoadedRegulation *regulation = ledger->account->regulation;
	const RuleInfo *info = regulation_rule(regulation, finding->rule);

	memset(row, 0, sizeof(*row));
	row->arose_at = finding->arose_at;
	row->rule = info->code;
	row->task_id = finding->task_id;
	row->stage = finding->stage >= 0 ? regulation->compiled->stages[finding->stage] : 0;
	row->manager_id = regulation->compiled->rules[finding->rule].duty_of_bot ?
		NO_MANAGER : finding->manager_id;
	row->severity = info->severity;
}

/* To be told by the worker that is at it, once this has committed. */
static void
tell(NewsKind kind, const Ledger *ledger, int64 deal_id, const StoredRow *row)
{
	News		news = {
		.account_id = ledger->account->id,
		.deal_id = deal_id,
		.rule = row->rule,
		.task_id = row->task_id == NO_TASK ? 0 : row->task_id,
		.manager_id = row->manager_id == NO_MANAGER ? 0 : row->manager_id,
		.severity = row->severity,
		.arose_at = row->arose_at,
		.due_at = row->due_at,
		.resolved_at = kind == NEWS_VIOLATION ? row->ended_at : INSTANT_NEVER,
	};

	news_add(kind, &news);
}

static bool
compare_deadline(Ledger *ledger, int64 deal_id, const Finding *finding, int *from, bool collect)
{
	StoredRow	row;
	StoredRow  *stored;

	describe(ledger, finding, &row);
	row.warn_at = finding->warn_at == INSTANT_EVER ? INSTANT_NEVER : finding->warn_at;
	row.due_at = finding->due_at;
	row.met_at = finding->met_at;
	row.ended_at = finding->ended_at;
	row.word = ledger_state(finding->state);
	stored = find_stored(&ledger->stored_deadlines, from, finding, row.rule);
	if (stored != NULL)
	{
		stored->seen = true;
		if (stored->stage == row.stage && stored->manager_id == row.manager_id &&
			stored->warn_at == row.warn_at && stored->due_at == row.due_at &&
			stored->met_at == row.met_at && stored->ended_at == row.ended_at &&
			same_text(stored->word, row.word))
			return false;
	}
	if (collect)
	{
		change_deadline(ledger, deal_id, &row);
		if (news_wanted && finding->state == STATE_WARNED &&
			(stored == NULL || !same_text(stored->word, row.word)))
			tell(NEWS_WARNING, ledger, deal_id, &row);
	}
	return true;
}

static bool
compare_violation(Ledger *ledger, int64 deal_id, const Finding *finding, int *from, bool collect)
{
	StoredRow	row;
	StoredRow  *stored;

	describe(ledger, finding, &row);
	row.due_at = finding->breached_at;
	row.ended_at = finding->resolved_at;
	row.word = ledger_resolution(finding->resolution);
	row.evidence = ledger_evidence(ledger->account->regulation->compiled, finding);
	stored = find_stored(&ledger->stored_violations, from, finding, row.rule);
	if (stored != NULL)
	{
		stored->seen = true;
		row.id = stored->id;
		row.withdrawn = stored->withdrawn;
		if (!stored->withdrawn && stored->stage == row.stage &&
			stored->manager_id == row.manager_id && stored->due_at == row.due_at &&
			stored->ended_at == row.ended_at && same_text(stored->word, row.word) &&
			same_text(stored->severity, row.severity) &&
			same_text(stored->evidence, row.evidence))
			return false;
	}
	if (collect)
	{
		if (stored != NULL)
			change_violation(ledger, deal_id, &row);
		else
			add_violation(ledger, deal_id, &row);
		if (news_wanted && (stored == NULL || stored->withdrawn))
			tell(NEWS_VIOLATION, ledger, deal_id, &row);
	}
	return true;
}

/* What is stored and was not found again. */
static bool
compare_left_over(Ledger *ledger, int64 deal_id, bool collect)
{
	bool		differs = false;

	for (int i = 0; i < ledger->stored_deadlines.n; i++)
	{
		const StoredRow *row = &ledger->stored_deadlines.rows[i];

		if (row->seen)
			continue;
		differs = true;
		if (collect)
			remove_deadline(ledger, row);
	}
	for (int i = 0; i < ledger->stored_violations.n; i++)
	{
		const StoredRow *row = &ledger->stored_violations.rows[i];

		if (row->seen || row->withdrawn)
			continue;
		differs = true;
		if (collect)
			withdraw_violation(ledger, deal_id, row);
	}
	return differs;
}

void
ledger_read(Ledger *ledger, int64 deal_id)
{
	MemoryContext old;

	MemoryContextReset(ledger->deal_context);
	old = MemoryContextSwitchTo(ledger->deal_context);
	read_stored(ledger, deal_id);
	MemoryContextSwitchTo(old);
}

bool
ledger_compare(Ledger *ledger, int64 deal_id, const Finding *findings, int nfindings,
			   instant next_at, bool collect)
{
	MemoryContext old;
	bool		differs = false;
	int			deadlines_from = 0;
	int			violations_from = 0;

	MemoryContextReset(ledger->deal_context);
	old = MemoryContextSwitchTo(ledger->deal_context);
	read_stored(ledger, deal_id);
	for (int i = 0; i < nfindings; i++)
	{
		const Finding *finding = &findings[i];

		if (finding->due_at != INSTANT_NEVER && finding->due_at > finding->arose_at)
			differs |= compare_deadline(ledger, deal_id, finding, &deadlines_from, collect);
		if (finding->breached_at != INSTANT_NEVER)
			differs |= compare_violation(ledger, deal_id, finding, &violations_from, collect);
	}
	differs |= compare_left_over(ledger, deal_id, collect);
	if (ledger->stored_moment != next_at)
	{
		differs = true;
		if (collect)
			change_moment(ledger, deal_id, next_at);
	}
	if (collect)
		ledger->changes.counts.deals++;
	if (collect && differs)
		ledger->changes.counts.changed++;
	MemoryContextSwitchTo(old);
	return differs;
}

bool
ledger_close_deal(Ledger *ledger, int64 deal_id, instant at)
{
	MemoryContext old;
	bool		differs = false;

	MemoryContextReset(ledger->deal_context);
	old = MemoryContextSwitchTo(ledger->deal_context);
	read_stored(ledger, deal_id);
	for (int i = 0; i < ledger->stored_deadlines.n; i++)
	{
		StoredRow	row = ledger->stored_deadlines.rows[i];

		if (strcmp(row.word, "pending") != 0 && strcmp(row.word, "warned") != 0)
			continue;
		row.word = ledger_state(STATE_CANCELLED);
		row.ended_at = at;
		change_deadline(ledger, deal_id, &row);
		differs = true;
	}
	if (ledger->stored_moment != INSTANT_NEVER)
	{
		change_moment(ledger, deal_id, INSTANT_NEVER);
		differs = true;
	}
	if (differs)
		ledger->changes.counts.changed++;
	MemoryContextSwitchTo(old);
	return differs;
}
