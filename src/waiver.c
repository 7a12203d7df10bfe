/*-------------------------------------------------------------------------
 *
 * waiver.c
 *	  Excusing violations, and keeping hands off everything else of them.
 *
 * Findings are what the judge says; nobody edits them.  A trigger on deadline
 * and violation refuses writes that come neither from the ledger nor from
 * here, but for those in mode off (for a superuser, a role granted the
 * setting, and forget()).  What people may say of a violation is that it is
 * excused: waive() records who, when and why, and unwaive() takes it back.
 *
 * Both run as the owner of the tables: who was granted EXECUTE on them may
 * excuse, whatever he may do with the table.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "tables.h"
#include "waiver.h"

/*
 * Whether what is being written now, we write; set only by findings_write()
 * and set back on error.
 */
static bool writing = false;

PG_FUNCTION_INFO_V1(regcrm_findings_guard);
PG_FUNCTION_INFO_V1(regcrm_waive);
PG_FUNCTION_INFO_V1(regcrm_unwaive);

static Statement select_waiver = {
	"select waived_at, waived_by, waive_reason from regcrm.violation"
	" where account_id = $1 and id = $2 for update",
	2, {INT8OID, INT8OID}
};
static Statement write_waiver = {
	"update regcrm.violation set waived_at = $3, waived_by = $4, waive_reason = $5"
	" where account_id = $1 and id = $2",
	5, {INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, TEXTOID}
};
static Statement remove_waiver = {
	"update regcrm.violation set waived_at = null, waived_by = null, waive_reason = null"
	" where account_id = $1 and id = $2",
	2, {INT8OID, INT8OID}
};

void
findings_write(void (*writer) (void *arg), void *arg)
{
	bool		before = writing;

	writing = true;
	PG_TRY();
	{
		writer(arg);
	}
	PG_FINALLY();
	{
		writing = before;
	}
	PG_END_TRY();
}

Datum
regcrm_findings_guard(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	const char *table;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired before statement", "findings_guard")));
	table = RelationGetRelationName(trigdata->tg_relation);
	if (!writing && regcrm_mode != REGCRM_MODE_OFF)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is written by the judge alone", table),
				 errhint("Correct the facts, or excuse a violation by regcrm.waive(). Who may set regcrm.mode to off may write here."),
				 errtable(trigdata->tg_relation)));
	return PointerGetDatum(NULL);
}


/* ---- waive and unwaive ---- */

typedef struct Waiver
{
	int64		account_id;
	int64		violation_id;
	text	   *reason;			/* NULL = taken back */
} Waiver;

static int64
number_argument(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
	return PG_GETARG_INT64(argument);
}

static char *
column_text(int column)
{
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

/* Refuses what was done before; the violation is locked from here on. */
static void
check_waiver(const Waiver *waiver)
{
	Datum		args[2] = {Int64GetDatum(waiver->account_id), Int64GetDatum(waiver->violation_id)};
	bool		waived;

	if (statement_write(&select_waiver, args) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("account " INT64_FORMAT " has no violation " INT64_FORMAT,
						waiver->account_id, waiver->violation_id)));
	waived = column_text(1) != NULL;
	if (waived && waiver->reason != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("violation " INT64_FORMAT " is already waived", waiver->violation_id),
				 errdetail("It was waived at %s by \"%s\": %s",
						   column_text(1), column_text(2), column_text(3))));
	if (!waived && waiver->reason == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("violation " INT64_FORMAT " is not waived", waiver->violation_id)));
	SPI_freetuptable(SPI_tuptable);
}

/* Who: the role that logged in, whatever it has become since. */
static void
store_waiver(void *arg)
{
	const Waiver *waiver = arg;
	Datum		args[5] = {Int64GetDatum(waiver->account_id), Int64GetDatum(waiver->violation_id)};

	if (waiver->reason == NULL)
	{
		(void) statement_write(&remove_waiver, args);
		return;
	}
	args[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	args[3] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false));
	args[4] = PointerGetDatum(waiver->reason);
	(void) statement_write(&write_waiver, args);
}

static void
change_waiver(Waiver *waiver)
{
	TablesScope scope;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tables_enter(&scope, true);
	check_waiver(waiver);
	findings_write(store_waiver, waiver);
	tables_leave(&scope);
	SPI_finish();
}

Datum
regcrm_waive(PG_FUNCTION_ARGS)
{
	Waiver		waiver = {
		.account_id = number_argument(fcinfo, 0, "account_id"),
		.violation_id = number_argument(fcinfo, 1, "violation_id"),
	};

	if (!PG_ARGISNULL(2))
		waiver.reason = DatumGetTextPP(DirectFunctionCall1(btrim1, PG_GETARG_DATUM(2)));
	if (waiver.reason == NULL || VARSIZE_ANY_EXHDR(waiver.reason) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a reason must be given"),
				 errhint("Say why the violation is excused.")));
	change_waiver(&waiver);
	PG_RETURN_VOID();
}

Datum
regcrm_unwaive(PG_FUNCTION_ARGS)
{
	Waiver		waiver = {
		.account_id = number_argument(fcinfo, 0, "account_id"),
		.violation_id = number_argument(fcinfo, 1, "violation_id"),
	};

	change_waiver(&waiver);
	PG_RETURN_VOID();
}
