/*-------------------------------------------------------------------------
 *
 * work.h
 *	  Transactions of those who work in the background or in a procedure.
 *
 * Both have to store things between waits, as the owner of the tables and
 * with nothing looked up in a schema that others may write to.  A worker makes
 * a transaction for each step; a procedure uses the one that CALL always has,
 * and commits it after the step.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_WORK_H
#define REGCRM_WORK_H

#include "postgres.h"

#include "executor/spi.h"

/* A piece of work: ends in one transaction, or in none. */
typedef void (*work_step) (void *arg);

typedef enum WorkReadiness
{
	WORK_READY,
	WORK_NO_EXTENSION,			/* not here (yet) */
	WORK_NO_TABLES,				/* setup() has not been run, or detach() has */
	WORK_OTHER_VERSION			/* tables or script of another version */
} WorkReadiness;

/*
 * Runs a step in a transaction that is then committed, as the tables' owner.
 * SPI is connected while the step runs.  NULL when all is well, else the error
 * in the current context, and nothing of the step is left.  What is meant for
 * the process (a cancel, a shutdown) is thrown on.
 *
 * in_call: in a procedure, which has connected to SPI as non-atomic.
 */
extern ErrorData *work_transaction(bool in_call, work_step step, void *arg);

/*
 * The same within a transaction: a subtransaction that is kept or undone.
 */
extern ErrorData *work_attempt(work_step step, void *arg);

/*
 * Executes a statement within a step.  Types and values as for
 * SPI_execute_with_args(); a NULL type list means no parameters.  Raises an
 * error unless the statement succeeds.  Returns the number of rows.
 */
extern uint64 work_execute(const char *sql, int nargs, const Oid *types,
						   const Datum *values, const char *nulls);

/* The same as the owner of the secrets. */
extern uint64 work_execute_secret(const char *sql, int nargs, const Oid *types,
								  const Datum *values, const char *nulls);

/* A column of a row of the last statement, in text; NULL for null. */
extern char *work_text(uint64 row, const char *column);

/* The same as a datum; 0 and *isnull for null. */
extern Datum work_datum(uint64 row, const char *column, bool *isnull);

/* Whether this database is ready to work in.  Makes a transaction of its own. */
extern WorkReadiness work_readiness(bool in_call);

/* In a procedure: raises an error with a hint unless all is ready. */
extern void work_require_ready(void);

/* True where CALL gave the procedure a transaction of its own. */
extern bool work_may_commit(FunctionCallInfo fcinfo);

#endif							/* REGCRM_WORK_H */
