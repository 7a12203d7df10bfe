/*-------------------------------------------------------------------------
 *
 * tables.h
 *	  Acting on regcrm's tables: as their owner, with pinned names, in bulk.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_TABLES_H
#define REGCRM_TABLES_H

#include "postgres.h"

#include "executor/spi.h"
#include "utils/array.h"

#include "regcrm.h"
#include "rules.h"

/* What tables_enter() changes, to be changed back by tables_leave(). */
typedef struct TablesScope
{
	Oid			user;
	int			sec_context;
	int			guc_level;
} TablesScope;

/* As the owner, or with the rights of the session. */
extern void tables_enter(TablesScope *scope, bool as_owner);
extern void tables_leave(const TablesScope *scope);

/* Whether we act as the owner: then rights and row security are his affair. */
extern bool tables_as_owner(void);

/*
 * Looks how large the tables have become; where one has grown much since plans
 * were made, statements are planned anew.  tables_enter() does it too; to be
 * called between batches.
 */
extern void tables_measure(void);

/* A table of ours; error with the hint to run setup() where it is not there. */
extern Oid	tables_find(const char *name);

/* The type regcrm.stage, and the array of it. */
extern Oid	tables_stage_type(void);
extern Oid	tables_stage_array(void);

/*
 * A statement that is planned once a session.  In argument types, ARG_STAGE
 * and ARG_STAGES stand for the type stage, whose OID only the catalog knows.
 *
 * A statement looks rows up by keys that it is given, and is planned for that,
 * unless it is said to be "whole": then it reads all of an account, and how,
 * is the planner's to choose.
 */
#define ARG_STAGE			((Oid) 1)
#define ARG_STAGES			((Oid) 2)
#define STATEMENT_ARGS_MAX	20

typedef struct Statement
{
	const char *sql;
	int			nargs;
	Oid			args[STATEMENT_ARGS_MAX];
	bool		whole;
	SPIPlanPtr	plan;			/* NULL = not planned yet */
	Oid			stage_type;		/* for which it was planned */
	int			era;			/* in which it was planned, see tables_measure() */
} Statement;

extern SPIPlanPtr statement_plan(Statement *statement);

/* Runs a query by the active snapshot; its rows are in SPI_tuptable. */
extern void statement_run(Statement *statement, Datum *values);

/*
 * Runs what writes or locks, by the latest snapshot at every isolation level;
 * returns how many rows it touched.
 */
extern uint64 statement_write(Statement *statement, Datum *values);

/* A column of rows to be written in bulk, as one array parameter. */
typedef struct BulkColumn
{
	Oid			type;			/* of the element; ARG_STAGE too */
	int			n;
	int			room;
	Datum	   *values;
	bool	   *nulls;
} BulkColumn;

extern void bulk_add(BulkColumn *column, Datum value, bool isnull);
extern void bulk_add_text(BulkColumn *column, const char *text);
extern Datum bulk_array(const BulkColumn *column);

/* An instant as the server stores it; NEVER (and EVER) are null. */
extern void bulk_add_instant(BulkColumn *column, instant at);

extern Datum tables_ids(const int64 *ids, int n);

/* Memory for the pure parts, from a memory context. */
extern Memory tables_memory(MemoryContext context);

#endif							/* REGCRM_TABLES_H */
