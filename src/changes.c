/*-------------------------------------------------------------------------
 *
 * changes.c
 *	  Writes the findings that changed, in bulk (part of the ledger).
 *
 * What ledger.c finds to differ is collected as columns and written by a few
 * statements over unnest(), whatever the number of deals.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "ledger_int.h"
#include "waiver.h"
#include "stage.h"
#include "wake.h"

/*
 * ON CONFLICT is for the case that cannot be: somebody wrote findings about a
 * deal without its lock.  A fact of the CRM may not be lost for that.
 */
static Statement write_deadlines = {
	"insert into regcrm.deadline (account_id, deal_id, rule, task_id, arose_at, warn_at,"
	" due_at, met_at, state, stage, manager_id, ended_at)"
	" select $1, u.* from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) u"
	" on conflict (account_id, deal_id, rule, arose_at, task_id) do update"
	" set warn_at = excluded.warn_at, due_at = excluded.due_at, met_at = excluded.met_at,"
	" state = excluded.state, stage = excluded.stage, manager_id = excluded.manager_id,"
	" ended_at = excluded.ended_at",
	12, {INT8OID, INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,
		TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID,
	ARG_STAGES, INT8ARRAYOID, TIMESTAMPTZARRAYOID}
};
/* Nobody but who holds the deal's lock touches the row, so it is where it was. */
static Statement remove_deadlines = {
	"delete from regcrm.deadline where ctid = any ($2) and account_id = $1",
	2, {INT8OID, TIDARRAYOID}
};
static Statement add_violations = {
	"insert into regcrm.violation (account_id, deal_id, rule, task_id, stage, manager_id,"
	" severity, arose_at, breached_at, resolved_at, resolution, evidence, detected_at)"
	" select $1, u.deal_id, u.rule, u.task_id, u.stage, u.manager_id, u.severity,"
	" u.arose_at, u.breached_at, u.resolved_at, u.resolution, u.evidence::jsonb,"
	" clock_timestamp()"
	" from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) with ordinality"
	" u(deal_id, rule, task_id, stage, manager_id, severity, arose_at, breached_at,"
	" resolved_at, resolution, evidence, place) order by u.place"
	" on conflict (account_id, deal_id, rule, arose_at, task_id) do update"
	" set stage = excluded.stage, manager_id = excluded.manager_id,"
	" severity = excluded.severity, breached_at = excluded.breached_at,"
	" resolved_at = excluded.resolved_at, resolution = excluded.resolution,"
	" evidence = excluded.evidence, withdrawn_at = null",
	12, {INT8OID, INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, ARG_STAGES, INT8ARRAYOID,
		TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID}
};

/*
 * Changes go by way of the conflict that they must meet: it finds rows by the
 * index whatever the statistics say, and waits for who is waiving one, who
 * does not hold the deal's lock.
 */
static Statement change_violations = {
	"insert into regcrm.violation (account_id, id, deal_id, rule, task_id, stage, manager_id,"
	" severity, arose_at, breached_at, resolved_at, resolution, evidence, withdrawn_at)"
	" select $1, u.id, u.deal_id, u.rule, u.task_id, u.stage, u.manager_id, u.severity,"
	" u.arose_at, u.breached_at, u.resolved_at, u.resolution, u.evidence::jsonb,"
	" case when u.withdrawn then clock_timestamp() end"
	" from unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"
	" u(id, deal_id, rule, task_id, stage, manager_id, severity, arose_at, breached_at,"
	" resolved_at, resolution, evidence, withdrawn)"
	" on conflict (account_id, id) do update"
	" set stage = excluded.stage, manager_id = excluded.manager_id,"
	" severity = excluded.severity, breached_at = excluded.breached_at,"
	" resolved_at = excluded.resolved_at, resolution = excluded.resolution,"
	" evidence = excluded.evidence, withdrawn_at = excluded.withdrawn_at",
	14, {INT8OID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, INT8ARRAYOID, ARG_STAGES,
		INT8ARRAYOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, BOOLARRAYOID}
};
static Statement write_moments = {
	"insert into regcrm.next_moment (account_id, deal_id, at)"
	" select $1, u.deal_id, u.at from unnest($2, $3) u(deal_id, at) where u.at is not null"
	" on conflict (account_id, deal_id) do update set at = excluded.at",
	3, {INT8OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID}
};
static Statement remove_moments = {
	"delete from regcrm.next_moment where account_id = $1 and ctid = any (array("
	"select m.tid from unnest($2, $3) u(deal_id, at) cross join lateral"
	" (select f.ctid as tid from regcrm.next_moment f"
	" where f.account_id = $1 and f.deal_id = u.deal_id offset 0) m where u.at is null))",
	3, {INT8OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID}
};

/* Begins to collect anew. */
void
changes_reset(Ledger *ledger)
{
	Changes    *changes = &ledger->changes;
	DeadlineColumns *d = &changes->deadlines;
	ViolationColumns *violations[] = {&changes->added, &changes->changed};

	MemoryContextReset(ledger->changes_context);
	memset(changes, 0, sizeof(*changes));
	d->deal_id.type = d->task_id.type = d->manager_id.type = INT8OID;
	d->rule.type = d->state.type = TEXTOID;
	d->stage.type = ARG_STAGE;
	d->arose_at.type = d->warn_at.type = d->due_at.type = d->met_at.type =
		d->ended_at.type = TIMESTAMPTZOID;
	for (int i = 0; i < 2; i++)
	{
		ViolationColumns *v = violations[i];

		v->deal_id.type = v->id.type = v->task_id.type = v->manager_id.type = INT8OID;
		v->rule.type = v->severity.type = v->resolution.type = v->evidence.type = TEXTOID;
		v->stage.type = ARG_STAGE;
		v->arose_at.type = v->breached_at.type = v->resolved_at.type = TIMESTAMPTZOID;
		v->withdrawn.type = BOOLOID;
	}
	changes->gone.type = TIDOID;
	changes->moment_deals.type = INT8OID;
	changes->moments.type = TIMESTAMPTZOID;
}

/* A number, of which one value stands for null. */
static void
add_number(BulkColumn *column, int64 number, int64 null)
{
	bulk_add(column, Int64GetDatum(number), number == null);
}

static void
add_stage(BulkColumn *column, stage_code stage)
{
	bulk_add(column, StageGetDatum(stage), stage == 0);
}

/* What comes by itself, the clock must know; a synced account has its own. */
static void
notice(const Ledger *ledger, instant at)
{
	if (!ledger->account->synced && at != INSTANT_NEVER && at != INSTANT_EVER)
		wake_notice(at);
}

void
change_deadline(Ledger *ledger, int64 deal_id, const StoredRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(ledger->changes_context);
	DeadlineColumns *d = &ledger->changes.deadlines;

	bulk_add(&d->deal_id, Int64GetDatum(deal_id), false);
	bulk_add_text(&d->rule, row->rule);
	add_number(&d->task_id, row->task_id, NO_TASK);
	bulk_add(&d->arose_at, TimestampTzGetDatum(row->arose_at), false);
	bulk_add_instant(&d->warn_at, row->warn_at);
	bulk_add(&d->due_at, TimestampTzGetDatum(row->due_at), false);
	bulk_add_instant(&d->met_at, row->met_at);
	bulk_add_text(&d->state, row->word);
	add_stage(&d->stage, row->stage);
	add_number(&d->manager_id, row->manager_id, NO_MANAGER);
	bulk_add_instant(&d->ended_at, row->ended_at);
	if (strcmp(row->word, "pending") == 0)
		notice(ledger, Min(row->due_at, row->warn_at));
	else if (strcmp(row->word, "warned") == 0)
		notice(ledger, row->due_at);
	ledger->changes.counts.deadlines++;
	MemoryContextSwitchTo(old);
}

void
remove_deadline(Ledger *ledger, const StoredRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(ledger->changes_context);
	ItemPointer tid = palloc(sizeof(ItemPointerData));

	*tid = row->tid;
	bulk_add(&ledger->changes.gone, PointerGetDatum(tid), false);
	ledger->changes.counts.deadlines++;
	MemoryContextSwitchTo(old);
}

/* What is written of a new violation and of a changed one alike. */
static void
add_row(Ledger *ledger, ViolationColumns *v, int64 deal_id, const StoredRow *row, bool withdrawn)
{
	MemoryContext old = MemoryContextSwitchTo(ledger->changes_context);

	bulk_add(&v->deal_id, Int64GetDatum(deal_id), false);
	bulk_add(&v->id, Int64GetDatum(row->id), false);
	bulk_add_text(&v->rule, row->rule);
	add_number(&v->task_id, row->task_id, NO_TASK);
	add_stage(&v->stage, row->stage);
	add_number(&v->manager_id, row->manager_id, NO_MANAGER);
	bulk_add_text(&v->severity, row->severity);
	bulk_add(&v->arose_at, TimestampTzGetDatum(row->arose_at), false);
	bulk_add(&v->breached_at, TimestampTzGetDatum(row->due_at), false);
	bulk_add_instant(&v->resolved_at, row->ended_at);
	bulk_add_text(&v->resolution, row->word);
	bulk_add_text(&v->evidence, row->evidence);
	bulk_add(&v->withdrawn, BoolGetDatum(withdrawn), false);
	MemoryContextSwitchTo(old);
}

void
add_violation(Ledger *ledger, int64 deal_id, const StoredRow *row)
{
	add_row(ledger, &ledger->changes.added, deal_id, row, false);
	ledger->changes.counts.violations++;
}

/* Also where it was withdrawn: then it stands again. */
void
change_violation(Ledger *ledger, int64 deal_id, const StoredRow *row)
{
	add_row(ledger, &ledger->changes.changed, deal_id, row, false);
	if (row->withdrawn)
		ledger->changes.counts.violations++;
	else
		ledger->changes.counts.violations_changed++;
}

/* The row stays as it was judged, but for that. */
void
withdraw_violation(Ledger *ledger, int64 deal_id, const StoredRow *row)
{
	add_row(ledger, &ledger->changes.changed, deal_id, row, true);
	ledger->changes.counts.withdrawn++;
}

void
change_moment(Ledger *ledger, int64 deal_id, instant at)
{
	MemoryContext old = MemoryContextSwitchTo(ledger->changes_context);

	bulk_add(&ledger->changes.moment_deals, Int64GetDatum(deal_id), false);
	bulk_add_instant(&ledger->changes.moments, at);
	notice(ledger, at);
	MemoryContextSwitchTo(old);
}

static void
flush_deadlines(Ledger *ledger)
{
	const DeadlineColumns *d = &ledger->changes.deadlines;
	Datum		args[12];

	args[0] = Int64GetDatum(ledger->account->id);
	if (ledger->changes.gone.n > 0)
	{
		args[1] = bulk_array(&ledger->changes.gone);
		statement_write(&remove_deadlines, args);
	}
	if (d->deal_id.n > 0)
	{
		args[1] = bulk_array(&d->deal_id);
		args[2] = bulk_array(&d->rule);
		args[3] = bulk_array(&d->task_id);
		args[4] = bulk_array(&d->arose_at);
		args[5] = bulk_array(&d->warn_at);
		args[6] = bulk_array(&d->due_at);
		args[7] = bulk_array(&d->met_at);
		args[8] = bulk_array(&d->state);
		args[9] = bulk_array(&d->stage);
		args[10] = bulk_array(&d->manager_id);
		args[11] = bulk_array(&d->ended_at);
		statement_write(&write_deadlines, args);
	}
}

static void
flush_violations(Ledger *ledger)
{
	const ViolationColumns *v = &ledger->changes.added;
	Datum		args[14];

	args[0] = Int64GetDatum(ledger->account->id);
	if (v->deal_id.n > 0)
	{
		args[1] = bulk_array(&v->deal_id);
		args[2] = bulk_array(&v->rule);
		args[3] = bulk_array(&v->task_id);
		args[4] = bulk_array(&v->stage);
		args[5] = bulk_array(&v->manager_id);
		args[6] = bulk_array(&v->severity);
		args[7] = bulk_array(&v->arose_at);
		args[8] = bulk_array(&v->breached_at);
		args[9] = bulk_array(&v->resolved_at);
		args[10] = bulk_array(&v->resolution);
		args[11] = bulk_array(&v->evidence);
		statement_write(&add_violations, args);
	}
	v = &ledger->changes.changed;
	if (v->id.n > 0)
	{
		args[1] = bulk_array(&v->id);
		args[2] = bulk_array(&v->deal_id);
		args[3] = bulk_array(&v->rule);
		args[4] = bulk_array(&v->task_id);
		args[5] = bulk_array(&v->stage);
		args[6] = bulk_array(&v->manager_id);
		args[7] = bulk_array(&v->severity);
		args[8] = bulk_array(&v->arose_at);
		args[9] = bulk_array(&v->breached_at);
		args[10] = bulk_array(&v->resolved_at);
		args[11] = bulk_array(&v->resolution);
		args[12] = bulk_array(&v->evidence);
		args[13] = bulk_array(&v->withdrawn);
		statement_write(&change_violations, args);
	}
}

static void
write_changes(void *arg)
{
	Ledger	   *ledger = arg;
	const Changes *changes = &ledger->changes;

	flush_deadlines(ledger);
	flush_violations(ledger);
	if (changes->moment_deals.n > 0)
	{
		Datum		args[3] = {
			Int64GetDatum(ledger->account->id),
			bulk_array(&changes->moment_deals),
			bulk_array(&changes->moments)
		};

		int			nnull = 0;

		for (int i = 0; i < changes->moments.n; i++)
			nnull += changes->moments.nulls[i];
		if (nnull > 0)
			statement_write(&remove_moments, args);
		if (nnull < changes->moments.n)
			statement_write(&write_moments, args);
	}
}

void
ledger_flush(Ledger *ledger, LedgerCounts *counts)
{
	MemoryContext old = MemoryContextSwitchTo(ledger->changes_context);
	const Changes *changes = &ledger->changes;

	findings_write(write_changes, ledger);
	counts->deals += changes->counts.deals;
	counts->changed += changes->counts.changed;
	counts->deadlines += changes->counts.deadlines;
	counts->violations += changes->counts.violations;
	counts->violations_changed += changes->counts.violations_changed;
	counts->withdrawn += changes->counts.withdrawn;
	MemoryContextSwitchTo(old);
	changes_reset(ledger);
}
