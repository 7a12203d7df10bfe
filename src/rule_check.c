/*-------------------------------------------------------------------------
 *
 * rule_check.c
 *	  Triggers of the tables of regulations.
 *
 * A bad rule is never accepted silently (DESIGN section 9).  After each
 * statement on rule, transition, scenario, stage_def or regulation the
 * regulations concerned are compiled as a whole, which tells whether every
 * token is known and every name is there, also where the name was taken away.
 * Rows of one rule may not be in force at one time.
 *
 * The other trigger lets every session drop what it has read (regulation.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "nodes/value.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "regulation.h"
#include "tables.h"
#include "wake.h"

PG_FUNCTION_INFO_V1(regcrm_rule_check);
PG_FUNCTION_INFO_V1(regcrm_rule_changed);

static char *
text_at(HeapTuple tuple, int column)
{
	return SPI_getvalue(tuple, SPI_tuptable->tupdesc, column);
}

/* How the checking trigger must be called. */
static TriggerData *
statement_trigger(FunctionCallInfo fcinfo, const char *name)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called as a trigger", name)));
	if (!TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired after statement", name)));
	return trigdata;
}

/*
 * Every backend drops what it has read of this table.  Row triggers call it
 * too, where rows are replicated: their apply fires no statement triggers.
 * Also serves the tables of calendars, which workhours.c caches.
 */
Datum
regcrm_rule_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired as a trigger, after", "rule_changed")));
	CacheInvalidateRelcache(trigdata->tg_relation);
	/* working hours may have changed: deadlines that run follow */
	wake_notice(DT_NOBEGIN);
	return PointerGetDatum(NULL);
}

/* Rows of one code follow each other in time (DESIGN section 4). */
static void
check_overlap(void)
{
	static Statement overlap = {
		"select a.code, a.regulation, a.valid, b.valid from regcrm.rule a"
		" join regcrm.rule b on b.regulation = a.regulation and b.code = a.code"
		" and b.valid > a.valid and b.valid && a.valid"
		" where a.enabled and b.enabled order by 2, 1 limit 1",
		0, {0}
	};

	statement_run(&overlap, NULL);
	if (SPI_processed > 0)
	{
		HeapTuple	tuple = SPI_tuptable->vals[0];

		ereport(ERROR,
				(errcode(ERRCODE_EXCLUSION_VIOLATION),
				 errmsg("rule \"%s\" of regulation \"%s\" is in force twice",
						text_at(tuple, 1), text_at(tuple, 2)),
				 errdetail("%s overlaps %s.", text_at(tuple, 3), text_at(tuple, 4)),
				 errhint("Close one row (valid) before the next one begins, or disable it."),
				 err_generic_string(PG_DIAG_SCHEMA_NAME, REGCRM_SCHEMA),
				 err_generic_string(PG_DIAG_TABLE_NAME, "rule"),
				 err_generic_string(PG_DIAG_COLUMN_NAME, "valid")));
	}
}

/*
 * Codes of the regulations that a statement on the table may have spoilt.
 * Rows that this transaction wrote tell them; where something was taken away
 * or renamed, whoever may have named it is looked at again.
 */
static List *
regulations_to_check(const char *table, TriggerEvent event)
{
	bool		all = TRIGGER_FIRED_BY_DELETE(event) ||
		strcmp(table, "stage_def") == 0 ||
		(TRIGGER_FIRED_BY_UPDATE(event) &&
		 (strcmp(table, "scenario") == 0 || strcmp(table, "regulation") == 0));
	StringInfoData sql;
	List	   *codes = NIL;

	initStringInfo(&sql);
	if (all || strcmp(table, "regulation") == 0)
		appendStringInfoString(&sql, "select code, xmin from regcrm.regulation");
	else
		appendStringInfo(&sql, "select regulation, xmin from regcrm.%s group by 1, 2",
						 quote_identifier(table));
	if (SPI_execute(sql.data, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", sql.data);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		bool		isnull;
		TransactionId xmin =
			DatumGetTransactionId(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull));

		if (all || TransactionIdIsCurrentTransactionId(xmin))
			codes = list_append_unique(codes, makeString(text_at(tuple, 1)));
	}
	return codes;
}

/*
 * Refuses rows that can't be understood (DESIGN section 9: a bad rule is never
 * accepted silently).  The whole regulation is compiled, so that a scenario
 * or a stage that a rule names can't be taken away under it either.
 */
Datum
regcrm_rule_check(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = statement_trigger(fcinfo, "rule_check");
	const char *table = RelationGetRelationName(trigdata->tg_relation);
	TablesScope scope;
	List	   *codes;
	ListCell   *cell;

	/*
	 * One writer of rules at a time, so that two rows, each right by itself,
	 * don't overlap.  This lock conflicts with itself, but not with the one
	 * that every writer holds already, so none waits for another in a circle.
	 */
	LockRelationOid(tables_find("rule"), ShareUpdateExclusiveLock);
	CommandCounterIncrement();

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tables_enter(&scope, true);
	PushActiveSnapshot(GetLatestSnapshot());
	if (strcmp(table, "rule") == 0)
		check_overlap();
	codes = regulations_to_check(table, trigdata->tg_event);
	PopActiveSnapshot();

	foreach(cell, codes)
		regulation_check(strVal(lfirst(cell)));
	tables_leave(&scope);
	SPI_finish();
	return PointerGetDatum(NULL);
}
