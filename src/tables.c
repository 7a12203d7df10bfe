/*-------------------------------------------------------------------------
 *
 * tables.c
 *	  Acting on regcrm's tables: as their owner, with pinned names, in bulk.
 *
 * Facts, rules and findings are ordinary tables of the user (DESIGN section
 * 3).  What a trigger or the clock does there must not depend on who happens
 * to write: not on his privileges, not on row security, not on his
 * search_path.  So everything is done between tables_enter() and
 * tables_leave(): as the owner of regcrm.deal, as ri_triggers.c acts as the
 * owner of the table it checks, and with a search_path that holds pg_catalog
 * only, so that operators in our statements are the server's.
 *
 * Nothing need be undone after an error: the (sub)transaction's abort puts
 * user and settings back (AbortTransaction, AbortSubTransaction).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "tables.h"

#define PINNED_PATH "pg_catalog, pg_temp"

/* A table of more pages than this had a plan that suits it. */
#define LARGE			2000

/* The tables that grow, and how many pages they had when plans were last made. */
static struct
{
	const char *name;
	BlockNumber pages;
}			measured[] = {
	{"deal", 0}, {"event", 0}, {"task", 0}, {"deadline", 0}, {"violation", 0},
	{"next_moment", 0}, {"other_event", 0}, {"contact", 0}, {"deal_contact", 0}
};

/* Counts how often plans were thrown away. */
static int	era = 1;

PG_FUNCTION_INFO_V1(regcrm_fit_plans);

static Oid	table_owner(Oid relid);
static void measure_now_and_then(void);
static void set_locally(const char *name, const char *value);

/* After detach() the stages are text until setup() takes the tables back. */
static void
check_attached(Oid deal)
{
	if (get_atttype(deal, get_attnum(deal, "stage")) != tables_stage_type())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the tables in schema \"%s\" are detached from the extension", REGCRM_SCHEMA),
				 errhint("Run regcrm.setup().")));
}

void
tables_enter(TablesScope *scope, bool as_owner)
{
	Oid			deal = tables_find("deal");

	check_attached(deal);
	GetUserIdAndSecContext(&scope->user, &scope->sec_context);
	if (as_owner)
	{
		Oid			owner = table_owner(deal);

		/* As ri_PerformCheck: the owner's own forced row security is his affair. */
		SetUserIdAndSecContext(owner, scope->sec_context |
							   SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_NOFORCE_RLS);
	}
	scope->guc_level = NewGUCNestLevel();
	if (strcmp(namespace_search_path, PINNED_PATH) != 0)
		set_locally("search_path", PINNED_PATH);
	measure_now_and_then();
}

void
tables_leave(const TablesScope *scope)
{
	AtEOXact_GUC(true, scope->guc_level);
	SetUserIdAndSecContext(scope->user, scope->sec_context);
}

bool
tables_as_owner(void)
{
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	return (context & SECURITY_LOCAL_USERID_CHANGE) && (context & SECURITY_NOFORCE_RLS);
}

Oid
tables_find(const char *name)
{
	Oid			schema = get_namespace_oid(REGCRM_SCHEMA, true);
	Oid			relid = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not exist", REGCRM_SCHEMA, name),
				 errhint("Run regcrm.setup().")));
	return relid;
}

/* Who owns a table. */
static Oid
table_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

Oid
tables_stage_type(void)
{
	Oid			schema = get_namespace_oid(REGCRM_SCHEMA, false);
	Oid			type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid,
									   PointerGetDatum("stage"),
									   ObjectIdGetDatum(schema));

	if (!OidIsValid(type))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("type \"%s.stage\" does not exist", REGCRM_SCHEMA),
				 errhint("Run CREATE EXTENSION regcrm, then regcrm.setup().")));
	return type;
}

Oid
tables_stage_array(void)
{
	return get_array_type(tables_stage_type());
}

/*
 * Plans are made when a session first needs them, often while the tables are
 * empty: then any index that begins with the account looks as good as the one
 * that has the deal too, and the plan is kept while a first load or rejudge()
 * fills the tables.  Their pages are counted as the planner does it, so no
 * statistics need have been gathered.
 */
void
tables_measure(void)
{
	Oid			schema = get_namespace_oid(REGCRM_SCHEMA, false);
	bool		grown = false;

	for (int i = 0; i < lengthof(measured); i++)
	{
		Oid			relid;
		Relation	rel;
		BlockNumber pages;

		if (measured[i].pages > LARGE)
			continue;
		relid = get_relname_relid(measured[i].name, schema);
		rel = OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
		if (rel == NULL)
			continue;
		pages = rel->rd_rel->relkind == RELKIND_RELATION ? RelationGetNumberOfBlocks(rel) : 0;
		relation_close(rel, AccessShareLock);
		if (pages > measured[i].pages * 2 + 4)
		{
			measured[i].pages = pages;
			grown = true;
		}
	}
	if (grown)
		era++;
}

/*
 * The same for the statements of PL/pgSQL that keep their plans: of an empty
 * table every index looks as good as any other, and the plan made then may go
 * by one that holds the whole account.  Throws away all plans of the session,
 * which a table's growth from nothing to LARGE asks for some ten times.
 */
Datum
regcrm_fit_plans(PG_FUNCTION_ARGS)
{
	static int	planned_in = 0;

	tables_measure();
	if (planned_in != era)
		ResetPlanCache();
	planned_in = era;
	PG_RETURN_VOID();
}

/*
 * With the first statement of a transaction, and with some of those after it:
 * one may write many rows by many statements.
 */
static void
measure_now_and_then(void)
{
	static TimestampTz began = 0;
	static int	entered = 0;
	TimestampTz transaction = GetCurrentTransactionStartTimestamp();

	if (transaction == began && ++entered < 16)
		return;
	began = transaction;
	entered = 0;
	tables_measure();
}

/* Sets what any role may set, until the nest level ends. */
static void
set_locally(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* Plans are kept for the session: parsing would cost more than running. */
static void
prepare(Statement *statement, Oid stage_type)
{
	Oid			args[STATEMENT_ARGS_MAX];
	SPIPlanPtr	plan = statement->plan;

	for (int i = 0; i < statement->nargs; i++)
	{
		args[i] = statement->args[i];
		if (args[i] == ARG_STAGE)
			args[i] = stage_type;
		else if (args[i] == ARG_STAGES)
			args[i] = get_array_type(stage_type);
	}
	if (plan != NULL)
	{
		statement->plan = NULL;
		SPI_freeplan(plan);
	}
	plan = SPI_prepare_cursor(statement->sql, statement->nargs, args,
							  statement->whole ? 0 : CURSOR_OPT_GENERIC_PLAN);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", statement->sql,
			 SPI_result_code_string(SPI_result));
	SPI_keepplan(plan);
	statement->stage_type = stage_type;
	statement->era = era;
	statement->plan = plan;
}

/*
 * Sees to it that the plan goes by keys: what is cheapest for the few rows that
 * there are at first (to scan them all) would take quadratic time later.  So
 * our own settings decide, not the statistics.  Costs a few comparisons where a
 * plan is there already.
 */
static void
plan_by_keys(SPIPlanPtr plan)
{
	CachedPlanSource *source = linitial(SPI_plan_get_plan_sources(plan));
	CachedPlan *cached;
	int			level;

	if (source->is_valid && source->gplan != NULL && source->gplan->is_valid)
		return;
	level = NewGUCNestLevel();
	set_locally("enable_seqscan", "off");
	set_locally("enable_hashjoin", "off");
	set_locally("enable_mergejoin", "off");
	set_locally("enable_bitmapscan", "off");
	set_locally("jit", "off");
	PushActiveSnapshot(GetTransactionSnapshot());
	cached = SPI_plan_get_cached_plan(plan);
	if (cached != NULL)
		ReleaseCachedPlan(cached, CurrentResourceOwner);
	PopActiveSnapshot();
	AtEOXact_GUC(true, level);
}

/*
 * The statement's plan, made and kept at the first call.  DROP and CREATE
 * EXTENSION in one session give the type stage another OID; the statement is
 * then prepared anew, as where tables have grown.  Other changes of the tables
 * the plan cache sees itself.
 */
SPIPlanPtr
statement_plan(Statement *statement)
{
	Oid			stage_type = tables_stage_type();

	if (statement->plan == NULL || statement->stage_type != stage_type || statement->era != era)
		prepare(statement, stage_type);
	if (!statement->whole)
		plan_by_keys(statement->plan);
	return statement->plan;
}

void
statement_run(Statement *statement, Datum *values)
{
	int			result = SPI_execute_plan(statement_plan(statement), values, NULL, true, 0);

	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\": %s", statement->sql,
			 SPI_result_code_string(result));
}

/*
 * The snapshot is ri_triggers.c's (ri_PerformCheck): what others committed
 * since this transaction began counts, or two transactions could each be right
 * alone.  The rows concerned are locked before they are looked at.
 */
uint64
statement_write(Statement *statement, Datum *values)
{
	SPIPlanPtr	plan = statement_plan(statement);
	int			result = SPI_execute_snapshot(plan, values, NULL, GetLatestSnapshot(),
											  InvalidSnapshot, false, true, 0);

	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statement->sql,
			 SPI_result_code_string(result));
	return SPI_processed;
}

void
bulk_add(BulkColumn *column, Datum value, bool isnull)
{
	if (column->n == column->room)
	{
		int			room = column->room ? column->room * 2 : 32;

		if (column->values == NULL)
		{
			column->values = palloc(room * sizeof(Datum));
			column->nulls = palloc(room * sizeof(bool));
		}
		else
		{
			column->values = repalloc_huge(column->values, room * sizeof(Datum));
			column->nulls = repalloc_huge(column->nulls, room * sizeof(bool));
		}
		column->room = room;
	}
	column->values[column->n] = value;
	column->nulls[column->n++] = isnull;
}

void
bulk_add_text(BulkColumn *column, const char *text)
{
	bulk_add(column, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

void
bulk_add_instant(BulkColumn *column, instant at)
{
	bulk_add(column, TimestampTzGetDatum(at),
			 at == INSTANT_NEVER || at == INSTANT_EVER);
}

Datum
bulk_array(const BulkColumn *column)
{
	Oid			type = column->type == ARG_STAGE ? tables_stage_type() : column->type;
	int			dims[1] = {column->n};
	int			lbs[1] = {1};
	int16		len;
	bool		byval;
	char		align;

	if (column->n == 0)
		return PointerGetDatum(construct_empty_array(type));
	get_typlenbyvalalign(type, &len, &byval, &align);
	return PointerGetDatum(construct_md_array(column->values, column->nulls, 1,
											  dims, lbs, type, len, byval, align));
}

Datum
tables_ids(const int64 *ids, int n)
{
	BulkColumn	column = {.type = INT8OID};

	for (int i = 0; i < n; i++)
		bulk_add(&column, Int64GetDatum(ids[i]), false);
	return bulk_array(&column);
}

/* The pure parts grow their arrays by this; errors leave by longjmp. */
static void *
memory_grow(void *self, void *old, size_t size)
{
	if (old == NULL)
		return MemoryContextAllocHuge((MemoryContext) self, size);
	return repalloc_huge(old, size);
}

Memory
tables_memory(MemoryContext context)
{
	Memory		memory = {memory_grow, context};

	return memory;
}
