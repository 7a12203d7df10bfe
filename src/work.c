/*-------------------------------------------------------------------------
 *
 * work.c
 *	  Transactions of those who work in the background or in a procedure.
 *
 * Every step runs in a subtransaction, so that an error in it leaves a good
 * transaction behind in either host: the worker's own, or the one that CALL
 * keeps.  Before a step ends, constraints that were deferred to the commit are
 * checked: what they raise then belongs to the step too, and the triggers run
 * as the tables' owner and not as whoever commits.
 *
 * Who acts: a worker connects as the bootstrap superuser, because it must find
 * out first who owns the tables; a procedure runs as whoever was granted it.
 * Both switch to the owner of regcrm.account for a step, as a SECURITY DEFINER
 * function would (a procedure that commits can't be one), and to the owner of
 * regcrm.secret only for the statement that needs it.  A user's trigger on our
 * tables can therefore do no more than their owner could, and SET ROLE is
 * refused to it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "regcrm.h"
#include "work.h"

/* A step and its argument, as the argument of the step that prepares it. */
typedef struct PinnedStep
{
	work_step	step;
	void	   *arg;
	bool		as_owner;
} PinnedStep;

static Oid
relation_owner(const char *name)
{
	Oid			schema = get_namespace_oid(REGCRM_SCHEMA, true);
	Oid			relation = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
	HeapTuple	tuple = NULL;
	Oid			owner;

	if (OidIsValid(relation))
		tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not exist", REGCRM_SCHEMA, name),
				 errhint("Run regcrm.setup().")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * The body of every subtransaction: pins what must not depend on the session.
 */
static void
run_pinned(void *arg)
{
	PinnedStep *pinned = arg;
	Oid			user;
	int			context;
	int			level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	GetUserIdAndSecContext(&user, &context);
	if (pinned->as_owner)
		SetUserIdAndSecContext(relation_owner("account"),
							   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	PushActiveSnapshot(GetTransactionSnapshot());

	pinned->step(pinned->arg);

	if (pinned->as_owner)
		(void) work_execute("SET CONSTRAINTS ALL IMMEDIATE", 0, NULL, NULL, NULL);

	PopActiveSnapshot();
	SetUserIdAndSecContext(user, context);
	AtEOXact_GUC(true, level);
}

/*
 * True for an error that is not about the work but about the process.
 */
static bool
is_intervention(const ErrorData *error)
{
	return ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION;
}

ErrorData *
work_attempt(work_step step, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile caught = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		step(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		caught = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;

	if (caught != NULL && is_intervention(caught))
		ReThrowError(caught);
	return caught;
}

static ErrorData *
pinned_transaction(bool in_call, PinnedStep *pinned)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile caught = NULL;

	if (!in_call)
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		SPI_connect();
		MemoryContextSwitchTo(context);
	}

	caught = work_attempt(run_pinned, pinned);

	PG_TRY();
	{
		if (in_call)
			SPI_commit();
		else
		{
			SPI_finish();
			CommitTransactionCommand();
		}
	}
	PG_CATCH();
	{
		ErrorData  *at_commit;

		MemoryContextSwitchTo(context);
		at_commit = CopyErrorData();
		FlushErrorState();
		/* SPI_commit() has begun a new one already */
		if (!in_call)
			AbortCurrentTransaction();
		if (caught == NULL)
			caught = at_commit;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);

	if (!in_call)
		pgstat_report_stat(false);
	if (caught != NULL && is_intervention(caught))
		ReThrowError(caught);
	return caught;
}

ErrorData *
work_transaction(bool in_call, work_step step, void *arg)
{
	PinnedStep	pinned = {step, arg, true};

	return pinned_transaction(in_call, &pinned);
}

uint64
work_execute(const char *sql, int nargs, const Oid *types, const Datum *values,
			 const char *nulls)
{
	int			code;

	code = nargs == 0 ? SPI_execute(sql, false, 0) :
		SPI_execute_with_args(sql, nargs, unconstify(Oid *, types),
							  unconstify(Datum *, values), nulls, false, 0);
	if (code < 0)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(code));
	return SPI_processed;
}

/*
 * Executes as the owner of a table.  An error resets the role together with
 * the subtransaction.
 */
static uint64
execute_as_owner_of(const char *table, const char *sql, int nargs,
					const Oid *types, const Datum *values, const char *nulls)
{
	Oid			user;
	int			context;
	uint64		processed;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(relation_owner(table),
						   context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	processed = work_execute(sql, nargs, types, values, nulls);
	SetUserIdAndSecContext(user, context);
	return processed;
}

uint64
work_execute_secret(const char *sql, int nargs, const Oid *types,
					const Datum *values, const char *nulls)
{
	return execute_as_owner_of("secret", sql, nargs, types, values, nulls);
}

static int
column_number(const char *column)
{
	int			number = SPI_tuptable == NULL ? SPI_ERROR_NOATTRIBUTE :
		SPI_fnumber(SPI_tuptable->tupdesc, column);

	if (number <= 0)
		elog(ERROR, "column \"%s\" not found in the result", column);
	return number;
}

char *
work_text(uint64 row, const char *column)
{
	int			number = column_number(column);

	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number);
}

Datum
work_datum(uint64 row, const char *column, bool *isnull)
{
	int			number = column_number(column);

	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, isnull);
}

/*
 * The step of work_readiness().  It runs as whoever we are, since without
 * tables there is no owner; so it reads catalogs, and what setup() wrote only
 * as the owner of that.
 */
static void
look_around(void *arg)
{
	WorkReadiness *readiness = arg;
	Oid			schema;
	bool		isnull;
	bool		detached;
	char	   *script;
	char	   *installed;

	*readiness = WORK_NO_EXTENSION;
	if (work_execute("SELECT e.extversion FROM pg_extension e"
					 " WHERE e.extname = 'regcrm'",
					 0, NULL, NULL, NULL) == 0)
		return;
	script = work_text(0, "extversion");

	*readiness = WORK_NO_TABLES;
	schema = get_namespace_oid(REGCRM_SCHEMA, true);
	if (!OidIsValid(schema) ||
		!OidIsValid(get_relname_relid("installed", schema)) ||
		!OidIsValid(get_relname_relid("account", schema)) ||
		!OidIsValid(get_relname_relid("sync_state", schema)) ||
		!OidIsValid(get_relname_relid("deadline", schema)))
		return;
	if (execute_as_owner_of("installed",
							"SELECT i.version, i.detached FROM regcrm.installed i",
							0, NULL, NULL, NULL) == 0)
		return;
	installed = work_text(0, "version");
	detached = DatumGetBool(work_datum(0, "detached", &isnull));
	if (isnull || detached)
		return;

	if (installed == NULL || strcmp(installed, REGCRM_VERSION) != 0 ||
		strcmp(script, REGCRM_VERSION) != 0)
		*readiness = WORK_OTHER_VERSION;
	else
		*readiness = WORK_READY;
}

WorkReadiness
work_readiness(bool in_call)
{
	WorkReadiness readiness = WORK_NO_EXTENSION;
	PinnedStep	pinned = {look_around, &readiness, false};
	ErrorData  *error = pinned_transaction(in_call, &pinned);

	/* A race with DROP or setup(): look again later. */
	if (error != NULL)
		return WORK_NO_TABLES;
	return readiness;
}

void
work_require_ready(void)
{
	switch (work_readiness(true))
	{
		case WORK_READY:
			return;
		case WORK_NO_EXTENSION:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("extension \"regcrm\" does not exist")));
			break;
		case WORK_NO_TABLES:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the tables of regcrm do not exist"),
					 errhint("Run regcrm.setup().")));
			break;
		case WORK_OTHER_VERSION:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the tables of regcrm are not of version %s", REGCRM_VERSION),
					 errhint("Run ALTER EXTENSION regcrm UPDATE, then regcrm.setup(); reconnect where the library was updated.")));
			break;
	}
}

bool
work_may_commit(FunctionCallInfo fcinfo)
{
	return fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;
}
