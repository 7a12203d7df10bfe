/*-------------------------------------------------------------------------
 *
 * judgement.c
 *	  SQL functions that judge: judge, replay, rejudge, flag_expired and their like.
 *
 * judge() and replay() store nothing and read with the rights of its caller: who may not
 * read the facts can't learn them here.  The others write findings, as the
 * owner of the tables, for whoever was granted EXECUTE on them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "news.h"
#include "replan.h"
#include "resultrow.h"
#include "stage.h"
#include "tables.h"
#include "timeline.h"

/* How often a long run says how far it is. */
#define NOTICE_MS		2000

PG_FUNCTION_INFO_V1(regcrm_judge);
PG_FUNCTION_INFO_V1(regcrm_replay);
PG_FUNCTION_INFO_V1(regcrm_rejudge);
PG_FUNCTION_INFO_V1(regcrm_flag_expired);
PG_FUNCTION_INFO_V1(regcrm_judge_deals);
PG_FUNCTION_INFO_V1(regcrm_account_advanced);

/* What is under way when a rejudge begins is not judged by, though it be older. */
static Statement select_beside = {
	"select pg_current_snapshot()", 0, {0}
};
static Statement update_account = {
	"update regcrm.account set rejudged_at = $2, rejudged_beside = $3 where id = $1 and rejudged_at < $2",
	3, {INT8OID, TIMESTAMPTZOID, PG_SNAPSHOTOID}
};
static Statement select_accounts = {
	"select id from regcrm.account order by id", 0, {0}
};

/* The columns of type regcrm.finding, in order. */
enum
{
	FINDING_RULE, FINDING_TASK_ID, FINDING_STAGE, FINDING_AROSE_AT, FINDING_WARN_AT,
	FINDING_DUE_AT, FINDING_MET_AT, FINDING_BREACHED_AT, FINDING_RESOLVED_AT,
	FINDING_RESOLUTION, FINDING_STATE, FINDING_EVIDENCE, FINDING_NCOLUMNS
};

/* Those of type regcrm.replayed: deal and responsible, then a finding's. */
#define REPLAYED_NCOLUMNS	(2 + FINDING_NCOLUMNS)

static void
begin_work(TablesScope *scope, bool as_owner)
{
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tables_enter(scope, as_owner);
}

static void
end_work(const TablesScope *scope)
{
	tables_leave(scope);
	SPI_finish();
}

static void
need_argument(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

/* The moment given, else now. */
static instant
moment_argument(FunctionCallInfo fcinfo, int argument)
{
	return PG_ARGISNULL(argument) ? GetCurrentTransactionStartTimestamp() :
		PG_GETARG_TIMESTAMPTZ(argument);
}

static void
put_instant(Datum *values, bool *nulls, int column, instant at)
{
	values[column] = TimestampTzGetDatum(at);
	nulls[column] = at == INSTANT_NEVER || at == INSTANT_EVER;
}

static void
put_text(Datum *values, bool *nulls, int column, const char *text)
{
	nulls[column] = text == NULL;
	if (text != NULL)
		values[column] = CStringGetTextDatum(text);
}

/* A finding as the columns of type regcrm.finding. */
static void
fill_finding(Datum *values, bool *nulls, const LoadedRegulation *regulation,
			 const Finding *finding)
{
	char	   *evidence = ledger_evidence(regulation->compiled, finding);

	put_text(values, nulls, FINDING_RULE, regulation_rule(regulation, finding->rule)->code);
	values[FINDING_TASK_ID] = Int64GetDatum(finding->task_id);
	nulls[FINDING_TASK_ID] = finding->task_id == NO_TASK;
	nulls[FINDING_STAGE] = finding->stage < 0;
	if (finding->stage >= 0)
		values[FINDING_STAGE] = StageGetDatum(regulation->compiled->stages[finding->stage]);
	put_instant(values, nulls, FINDING_AROSE_AT, finding->arose_at);
	put_instant(values, nulls, FINDING_WARN_AT, finding->warn_at);
	put_instant(values, nulls, FINDING_DUE_AT, finding->due_at);
	put_instant(values, nulls, FINDING_MET_AT, finding->met_at);
	put_instant(values, nulls, FINDING_BREACHED_AT, finding->breached_at);
	put_instant(values, nulls, FINDING_RESOLVED_AT, finding->resolved_at);
	put_text(values, nulls, FINDING_RESOLUTION, ledger_resolution(finding->resolution));
	put_text(values, nulls, FINDING_STATE, ledger_state(finding->state));
	nulls[FINDING_EVIDENCE] = evidence == NULL;
	if (evidence != NULL)
		values[FINDING_EVIDENCE] = DirectFunctionCall1(jsonb_in, CStringGetDatum(evidence));
}

static void
put_finding(ReturnSetInfo *result, const LoadedRegulation *regulation, const Finding *finding)
{
	Datum		values[FINDING_NCOLUMNS] = {0};
	bool		nulls[FINDING_NCOLUMNS] = {false};

	fill_finding(values, nulls, regulation, finding);
	resultrow_put(result, values, nulls, FINDING_NCOLUMNS);
}

Datum
regcrm_judge(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TablesScope scope;
	int64		account_id;
	int64		deal_id;
	Account    *account;
	TimelineReader *reader;
	const DealLine *deal;
	const Finding *findings;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	need_argument(fcinfo, 0, "account_id");
	need_argument(fcinfo, 1, "deal_id");
	account_id = PG_GETARG_INT64(0);
	deal_id = PG_GETARG_INT64(1);

	/* by the snapshot of the query that asks */
	begin_work(&scope, false);
	account = account_get(account_id);
	reader = timeline_open(account, &deal_id, 1,
						   account_as_of(account, moment_argument(fcinfo, 2)), 0);
	deal = timeline_next(reader);
	if (deal == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("account " INT64_FORMAT " has no deal " INT64_FORMAT,
						account_id, deal_id)));
	n = judge_deal(batch_judge_create(account), &deal->line, &findings);
	for (int i = 0; i < n; i++)
		put_finding(result, account->regulation, &findings[i]);
	timeline_close(reader);
	end_work(&scope);
	return (Datum) 0;
}

/* As put_finding(), behind the deal and the responsible. */
static void
put_replayed(ReturnSetInfo *result, const LoadedRegulation *regulation, int64 deal_id,
			 const Finding *finding)
{
	Datum		values[REPLAYED_NCOLUMNS] = {0};
	bool		nulls[REPLAYED_NCOLUMNS] = {false};

	values[0] = Int64GetDatum(deal_id);
	values[1] = Int64GetDatum(finding->manager_id);
	nulls[1] = finding->manager_id == NO_MANAGER ||
		regulation->compiled->rules[finding->rule].duty_of_bot;
	fill_finding(values + 2, nulls + 2, regulation, finding);
	resultrow_put(result, values, nulls, REPLAYED_NCOLUMNS);
}

Datum
regcrm_replay(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext context;
	TablesScope scope;
	Account    *account;
	Judge	   *judge;
	TimelineReader *reader;
	const DealLine *deal;

	InitMaterializedSRF(fcinfo, 0);
	need_argument(fcinfo, 0, "account_id");
	need_argument(fcinfo, 1, "regulation");

	begin_work(&scope, false);
	account = account_get_under(PG_GETARG_INT64(0), text_to_cstring(PG_GETARG_TEXT_PP(1)));
	judge = batch_judge_create(account);
	reader = timeline_open(account, NULL, 0, account_as_of(account, moment_argument(fcinfo, 2)), 0);
	context = AllocSetContextCreate(CurrentMemoryContext, "regcrm replay", ALLOCSET_DEFAULT_SIZES);
	while ((deal = timeline_next(reader)) != NULL)
	{
		const Finding *findings;
		int			n = judge_deal(judge, &deal->line, &findings);
		MemoryContext old = MemoryContextSwitchTo(context);

		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
			put_replayed(result, account->regulation, deal->line.deal_id, &findings[i]);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	timeline_close(reader);
	end_work(&scope);
	return (Datum) 0;
}

/* Counts as a row of type regcrm.judged. */
static Datum
judged(FunctionCallInfo fcinfo, const LedgerCounts *counts)
{
	Datum		values[6] = {
		Int64GetDatum(counts->deals), Int64GetDatum(counts->changed),
		Int64GetDatum(counts->deadlines), Int64GetDatum(counts->violations),
		Int64GetDatum(counts->violations_changed), Int64GetDatum(counts->withdrawn)
	};
	bool		nulls[6] = {false};

	return resultrow_form(fcinfo, values, nulls, lengthof(values), "regcrm.judged");
}

/* State of a run that says how far it is. */
typedef struct Progress
{
	int64		account_id;
	TimestampTz said_at;
} Progress;

/* A notice now and then, so that a long run can be watched. */
static void
say_progress(void *arg, int64 deals, const LedgerCounts *counts)
{
	Progress   *progress = arg;
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(progress->said_at, now, NOTICE_MS))
		return;
	progress->said_at = now;
	ereport(NOTICE,
			(errmsg("account " INT64_FORMAT ": " INT64_FORMAT " deals judged, " INT64_FORMAT " differed",
					progress->account_id, deals, counts->changed)));
}

/* The account given, else all of them. */
static int64 *
accounts_to_judge(FunctionCallInfo fcinfo, int *n)
{
	int64	   *ids;

	if (!PG_ARGISNULL(0))
	{
		ids = palloc(sizeof(int64));
		ids[0] = PG_GETARG_INT64(0);
		*n = 1;
		return ids;
	}
	(void) statement_write(&select_accounts, NULL);
	ids = palloc((SPI_processed + 1) * sizeof(int64));
	*n = (int) SPI_processed;
	for (int i = 0; i < *n; i++)
	{
		bool		isnull;

		ids[i] = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i],
											 SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return ids;
}

/* The transactions under way, as a pg_snapshot. */
static Datum
under_way(void)
{
	bool		isnull;
	Datum		snapshot;

	(void) statement_write(&select_beside, NULL);
	snapshot = datumCopy(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull), false, -1);
	SPI_freetuptable(SPI_tuptable);
	return snapshot;
}

Datum
regcrm_rejudge(PG_FUNCTION_ARGS)
{
	LedgerCounts counts = {0};
	Progress	progress = {0, GetCurrentTimestamp()};
	TablesScope scope;
	int64	   *ids;
	int			n;

	begin_work(&scope, true);
	ids = accounts_to_judge(fcinfo, &n);
	for (int i = 0; i < n; i++)
	{
		instant		began = GetCurrentTimestamp();
		Datum		args[3] = {Int64GetDatum(ids[i]), TimestampTzGetDatum(began), under_way()};

		progress.account_id = ids[i];
		batch_judge_account(ids[i], began, say_progress, &progress, &counts);
		/* what changed until then has been judged by */
		(void) statement_write(&update_account, args);
	}
	end_work(&scope);
	PG_RETURN_DATUM(judged(fcinfo, &counts));
}

/*
 * One tick of the clock.  Which deals are due is asked as of the moment given,
 * but they are judged as of the clock where that is later: what others have
 * judged meanwhile by the clock may not be taken back by an older moment.
 * Where working hours have changed, deadlines that run are planned anew first.
 */
Datum
regcrm_flag_expired(PG_FUNCTION_ARGS)
{
	LedgerCounts counts = {0};
	TablesScope scope;

	begin_work(&scope, true);
	replan_all(&counts);
	batch_judge_due(0, moment_argument(fcinfo, 0), true, &counts);
	end_work(&scope);
	PG_RETURN_INT64(counts.violations);
}

static int
compare_ids(const void *a, const void *b)
{
	int64		x = ((const DealRef *) a)->id;
	int64		y = ((const DealRef *) b)->id;

	return x < y ? -1 : x > y;
}

Datum
regcrm_judge_deals(PG_FUNCTION_ARGS)
{
	LedgerCounts counts = {0};
	TablesScope scope;
	int64		account_id;
	Datum	   *ids;
	bool	   *nulls;
	DealRef    *deals;
	int			n;
	int			count = 0;
	int			kept = 0;

	need_argument(fcinfo, 0, "account_id");
	need_argument(fcinfo, 1, "deal_ids");
	account_id = PG_GETARG_INT64(0);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &ids, &nulls, &n);
	deals = MemoryContextAllocHuge(CurrentMemoryContext, (n + 1) * sizeof(DealRef));
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			deals[count++] = (DealRef) {.id = DatumGetInt64(ids[i])};
	qsort(deals, count, sizeof(DealRef), compare_ids);
	for (int i = 0; i < count; i++)
		if (kept == 0 || deals[kept - 1].id != deals[i].id)
			deals[kept++] = deals[i];

	begin_work(&scope, true);
	(void) batch_judge(account_id, deals, kept, GetCurrentTimestamp(), false, &counts);
	end_work(&scope);
	PG_RETURN_DATUM(judged(fcinfo, &counts));
}

/*
 * known_until of a synced account has moved.  Each deal judged so far has told
 * when it changes next by itself (deadline, next_moment; facts dated behind
 * known_until are such moments too), so those in the stretch are all there is.
 * The first time, nothing was judged yet, and everything is.
 */
Datum
regcrm_account_advanced(PG_FUNCTION_ARGS)
{
	LedgerCounts counts = {0};
	TablesScope scope;
	int64		account_id;
	instant		until;

	need_argument(fcinfo, 0, "account_id");
	account_id = PG_GETARG_INT64(0);
	until = PG_ARGISNULL(2) ? INSTANT_NEVER : PG_GETARG_TIMESTAMPTZ(2);

	begin_work(&scope, true);
	if (PG_ARGISNULL(1) || TIMESTAMP_IS_NOBEGIN(PG_GETARG_TIMESTAMPTZ(1)))
		batch_judge_account(account_id, until, NULL, NULL, &counts);
	else
	{
		/* the sync worker tells of it, a first load nobody does */
		news_listen(true);
		batch_judge_due(account_id, until, false, &counts);
		news_listen(false);
	}
	end_work(&scope);
	PG_RETURN_DATUM(judged(fcinfo, &counts));
}
