/*-------------------------------------------------------------------------
 *
 * marts.c
 *	  Notes which hours' sums no longer hold.
 *
 * The marts (ext/61_marts.sql) hold what became of duties, summed by day.
 * Whoever writes deadline or violation notes here, in the same transaction,
 * the hours in which the duties arose: of deadline only those that have ended,
 * since what still runs is in no sum; of violation also the hours of the
 * breach, since a breach without a due moment counts on the day it happened.
 *
 * Hours, since a day is cut by the account's zone, which may change; UTC's, so
 * that an hour of a zone with odd minutes reaches into two days at most.
 *
 * Notes are written as the tables' owner: who may waive a violation need not
 * have rights on the notes.  They have no key but a number, so writers never
 * wait for each other, nor for refresh_marts(), which takes them away.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "gate.h"
#include "gate_int.h"
#include "tables.h"

PG_FUNCTION_INFO_V1(regcrm_mart_note);

typedef struct Hour
{
	int64		account_id;
	TimestampTz at;				/* its beginning */
} Hour;

typedef struct Hours
{
	Hour	   *hours;
	int			n;
	int			room;
} Hours;

static int
hours_compare(const void *a, const void *b)
{
	const Hour *x = a;
	const Hour *y = b;

	if (x->account_id != y->account_id)
		return x->account_id < y->account_id ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

/* In order and without repetition. */
static void
hours_sort(Hours *hours)
{
	int			kept = 0;

	if (hours->n == 0)
		return;
	qsort(hours->hours, hours->n, sizeof(Hour), hours_compare);
	for (int i = 0; i < hours->n; i++)
		if (kept == 0 || hours_compare(&hours->hours[kept - 1], &hours->hours[i]) != 0)
			hours->hours[kept++] = hours->hours[i];
	hours->n = kept;
}

/*
 * Adds the hour of an instant.  A statement may write millions of rows of few
 * hours: room is only made where sorting does not find it.
 */
static void
hours_add(Hours *hours, int64 account_id, TimestampTz at)
{
	TimestampTz past = at % USECS_PER_HOUR;
	Hour		hour = {account_id, at - (past < 0 ? past + USECS_PER_HOUR : past)};

	if (TIMESTAMP_NOT_FINITE(at))
		return;
	if (hours->n > 0 && hours_compare(&hours->hours[hours->n - 1], &hour) == 0)
		return;
	if (hours->n == hours->room)
	{
		hours_sort(hours);
		if (hours->n >= hours->room / 2)
		{
			hours->room = Max(64, hours->room * 2);
			hours->hours = hours->hours == NULL ?
				palloc(hours->room * sizeof(Hour)) :
				repalloc_huge(hours->hours, hours->room * sizeof(Hour));
		}
	}
	hours->hours[hours->n++] = hour;
}

/* Whether a duty of this state still runs: pending or warned. */
static bool
still_runs(Datum state)
{
	const text *word = DatumGetTextPP(state);
	size_t		len = VARSIZE_ANY_EXHDR(word);
	const char *data = VARDATA_ANY(word);

	return (len == 7 && memcmp(data, "pending", 7) == 0) ||
		(len == 6 && memcmp(data, "warned", 6) == 0);
}

/* The hours of a transition table's rows. */
static void
hours_of_rows(Hours *hours, Tuplestorestate *store, TupleDesc desc, bool violations)
{
	int			account = gate_column(desc, "account_id", INT8OID);
	int			arose = gate_column(desc, "arose_at", TIMESTAMPTZOID);
	int			breached = violations ? gate_column(desc, "breached_at", TIMESTAMPTZOID) : 0;
	int			state = violations ? 0 : gate_column(desc, "state", TEXTOID);
	Walk		walk = walk_begin(store, desc);

	while (walk_next(&walk))
	{
		bool		isnull;
		int64		account_id = gate_number(walk.slot, account, &isnull);

		if (!violations && still_runs(slot_getattr(walk.slot, state, &isnull)))
			continue;
		hours_add(hours, account_id,
				  DatumGetTimestampTz(slot_getattr(walk.slot, arose, &isnull)));
		if (violations)
			hours_add(hours, account_id,
					  DatumGetTimestampTz(slot_getattr(walk.slot, breached, &isnull)));
	}
	walk_end(&walk);
}

static void
hours_write(const Hours *hours)
{
	static Statement insert_hours = {
		"insert into regcrm.mart_dirty (account_id, at)"
		" select u.account_id, u.at from unnest($1, $2) as u (account_id, at)",
		2, {INT8ARRAYOID, TIMESTAMPTZARRAYOID}
	};
	BulkColumn	account = {INT8OID};
	BulkColumn	at = {TIMESTAMPTZOID};
	TablesScope scope;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tables_enter(&scope, true);
	for (int i = 0; i < hours->n; i++)
	{
		bulk_add(&account, Int64GetDatum(hours->hours[i].account_id), false);
		bulk_add(&at, TimestampTzGetDatum(hours->hours[i].at), false);
	}
	(void) statement_write(&insert_hours, (Datum[]) {bulk_array(&account), bulk_array(&at)});
	tables_leave(&scope);
	SPI_finish();
}

/*
 * Trigger of deadline and violation, after each statement, with transition
 * tables.  The first refresh_marts() makes it.
 */
Datum
regcrm_mart_note(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Hours		hours = {0};
	TupleDesc	desc;
	bool		violations;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a trigger", "mart_note")));
	if (!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired after statement", "mart_note")));
	if (trigdata->tg_newtable == NULL && trigdata->tg_oldtable == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" has no transition table", trigdata->tg_trigger->tgname),
				 errhint("Call regcrm.stop_marts(), then regcrm.refresh_marts().")));

	/* The two tables differ in what they have: only duties have a state. */
	desc = RelationGetDescr(trigdata->tg_relation);
	violations = SPI_fnumber(desc, "state") <= 0;
	hours_of_rows(&hours, trigdata->tg_oldtable, desc, violations);
	hours_of_rows(&hours, trigdata->tg_newtable, desc, violations);
	hours_sort(&hours);
	if (hours.n > 0)
		hours_write(&hours);
	return PointerGetDatum(NULL);
}
