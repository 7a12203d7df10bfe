/*-------------------------------------------------------------------------
 *
 * append.h
 *	  Events that are appended because a column of deal was written.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_APPEND_H
#define REGCRM_APPEND_H

#include "postgres.h"

#include "rules.h"

typedef struct Appending Appending;

/* An event to be appended; texts are copied. */
typedef struct AppendedEvent
{
	int64		account_id;
	int64		deal_id;
	instant		at;
	bool		first;			/* what the deal was created with */
	const char *kind;			/* stage, field, responsible */
	stage_code	from_stage;		/* 0 = null */
	stage_code	to_stage;
	const char *field;
	const char *value;
	const char *value_before;
} AppendedEvent;

/* role wrote the column; to be called between tables_enter() and tables_leave(). */
extern Appending *append_begin(Oid role);
extern void append_event(Appending *appending, const AppendedEvent *event);

/*
 * A deal's creation was moved from one moment to another: so are the events
 * that tell what it was created with.
 */
extern void append_moved(Appending *appending, int64 account_id, int64 deal_id,
						 instant from, instant to);
extern void append_end(Appending *appending);

/* Which manager writes SQL under a role; false where none does. */
extern bool append_actor(int64 account_id, Oid role, int64 *manager_id);

#endif							/* REGCRM_APPEND_H */
