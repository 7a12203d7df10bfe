/*-------------------------------------------------------------------------
 *
 * scenario.c
 *	  Which scenario is meant, and whether it is open to a deal.
 *
 * For choose_scenario(), which writes with the rights of its caller: what it
 * has to know of the regulation it learns here, as the owner of the tables, so
 * that a writer needs no right on them.
 *
 * A scenario is open in a stage from which the deal may legally move to where
 * it leads, or of which an effect says that it does something there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "account.h"
#include "append.h"
#include "fields.h"
#include "stage.h"
#include "tables.h"

PG_FUNCTION_INFO_V1(regcrm_find_scenario);

static Statement select_scenarios = {
	"select s.code, s.name, s.to_stage, s.to_stage is null"
	" or exists (select from regcrm.transition t where t.regulation = $1 and t.valid @> $3"
	" and t.from_stage operator(regcrm.=) $2 and t.to_stage operator(regcrm.=) s.to_stage)"
	" or exists (select from regcrm.effect f where f.regulation = $1 and f.enabled"
	" and f.valid @> $3 and f.event = 'scenario:' || s.code and f.stage operator(regcrm.=) $2)"
	" from regcrm.scenario s where s.regulation = $1 and s.valid @> $3 order by s.code collate \"C\"",
	3, {TEXTOID, ARG_STAGE, TIMESTAMPTZOID}
};
static Statement select_field = {
	"select from regcrm.field_map where account_id = $1 and field = $2",
	2, {INT8OID, TEXTOID}
};

/* A scenario in force; stages as codes. */
typedef struct Scenario
{
	char	   *code;
	char	   *name;
	bool		is_open;
	bool		moves;
	stage_code	to;
} Scenario;

static Scenario *
read_scenarios(const char *regulation, stage_code stage, int *n)
{
	Datum		args[3] = {CStringGetTextDatum(regulation), StageGetDatum(stage),
	TimestampTzGetDatum(GetCurrentTransactionStartTimestamp())};
	Scenario   *scenarios;

	(void) statement_write(&select_scenarios, args);
	*n = (int) SPI_processed;
	scenarios = palloc0((*n + 1) * sizeof(Scenario));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		Datum		to = SPI_getbinval(tuple, desc, 3, &isnull);

		scenarios[i].code = SPI_getvalue(tuple, desc, 1);
		scenarios[i].name = SPI_getvalue(tuple, desc, 2);
		scenarios[i].moves = !isnull;
		scenarios[i].to = isnull ? 0 : DatumGetStage(to);
		scenarios[i].is_open = DatumGetBool(SPI_getbinval(tuple, desc, 4, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return scenarios;
}

/* Codes and names, of all or of those that are open. */
static char *
list_scenarios(const Scenario *scenarios, int n, bool only_open)
{
	StringInfoData out;

	initStringInfo(&out);
	for (int i = 0; i < n; i++)
		if (scenarios[i].is_open || !only_open)
			appendStringInfo(&out, "%s%s (\"%s\")", out.len > 0 ? ", " : "",
							 scenarios[i].code, scenarios[i].name);
	return out.len > 0 ? out.data : pstrdup("none");
}

static const Scenario *
find_scenario(const LoadedRegulation *regulation, const char *text, stage_code stage, int64 deal_id)
{
	int			n;
	Scenario   *scenarios = read_scenarios(regulation->code, stage, &n);
	int			number = text ? regulation_scenario(regulation, text) : NO_NUMBER;

	for (int i = 0; number != NO_NUMBER && i < n; i++)
	{
		if (strcmp(scenarios[i].code, regulation->compiled->scenarios[number]) != 0)
			continue;
		if (scenarios[i].is_open)
			return &scenarios[i];
		ereport(ERROR,
				(errcode(ERRCODE_CHECK_VIOLATION),
				 errmsg("scenario \"%s\" is not open to deal " INT64_FORMAT " in stage \"%s\"",
						scenarios[i].code, deal_id, stage_text(stage)),
				 errhint("Open are: %s.", list_scenarios(scenarios, n, true)),
				 err_generic_string(PG_DIAG_SCHEMA_NAME, REGCRM_SCHEMA),
				 err_generic_string(PG_DIAG_TABLE_NAME, "deal"),
				 err_generic_string(PG_DIAG_COLUMN_NAME, "stage")));
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("there is no scenario \"%s\"", text ? text : "null"),
			 errhint("Known are: %s.", list_scenarios(scenarios, n, false))));
}

/* Each name is a column of deal, or a key of custom that field_map names. */
static void
check_fields(int64 account_id, ArrayType *names)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	deconstruct_array(names, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	for (int i = 0; i < n; i++)
	{
		Datum		args[2] = {Int64GetDatum(account_id), elements[i]};
		StringInfoData known;

		if (nulls[i] || field_column(TextDatumGetCString(elements[i])) >= 0 ||
			statement_write(&select_field, args) > 0)
			continue;
		initStringInfo(&known);
		for (int k = 0; k < FIELD_COLUMNS; k++)
			appendStringInfo(&known, "%s, ", field_columns[k].name);
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no field \"%s\"", TextDatumGetCString(elements[i])),
				 errhint("Fields are: %sand those that regcrm.field_map names.", known.data)));
	}
}

/*
 * find_scenario(account_id, deal_id, stage, scenario, fields): its code, where it
 * leads, and which manager the caller is.
 */
Datum
regcrm_find_scenario(PG_FUNCTION_ARGS)
{
	TablesScope scope;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};
	Oid			caller = GetUserId();
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext old;
	const Account *account;
	const Scenario *found;
	int64		actor = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE || desc->natts != 3)
		elog(ERROR, "find_scenario must return three columns");
	desc = BlessTupleDesc(desc);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tables_enter(&scope, true);
	PushActiveSnapshot(GetLatestSnapshot());
	account = account_get(PG_GETARG_INT64(0));
	found = find_scenario(account->regulation,
						  PG_ARGISNULL(3) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(3)),
						  PG_ARGISNULL(2) ? 0 : PG_GETARG_STAGE(2), PG_GETARG_INT64(1));
	if (!PG_ARGISNULL(4))
		check_fields(account->id, PG_GETARG_ARRAYTYPE_P(4));
	nulls[2] = !append_actor(account->id, caller, &actor);
	old = MemoryContextSwitchTo(outer);
	values[0] = CStringGetTextDatum(found->code);
	nulls[1] = !found->moves;
	values[1] = StageGetDatum(found->to);
	values[2] = Int64GetDatum(actor);
	MemoryContextSwitchTo(old);
	PopActiveSnapshot();
	tables_leave(&scope);
	SPI_finish();
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
