/*-------------------------------------------------------------------------
 *
 * account.h
 *	  What judging needs to know of an account.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_ACCOUNT_H
#define REGCRM_ACCOUNT_H

#include "postgres.h"

#include "pgtime.h"

#include "calendar.h"
#include "regulation.h"

typedef struct Account
{
	int64		id;
	const LoadedRegulation *regulation;
	const Calendar *calendar;	/* NULL = every hour counts */
	pg_tz	   *zone;
	bool		synced;			/* amoCRM owns its facts */
	instant		known_from;		/* INSTANT_EVER = all of it */
	instant		known_until;	/* of a synced one, else INSTANT_NEVER */
	bool		loading;		/* deals that began before known_from wait */
	int			nfeeds;
	instant    *feed_since;		/* by FeedNumber; INSTANT_NEVER = not connected */
	int			noutsiders;
	int64	   *outsiders;		/* managers who are not in scope, in order */
} Account;

/*
 * Reads an account by the active snapshot, into the current memory context.
 * NULL where there is none.  Everything in it is valid for the transaction.
 * To be called between tables_enter() and tables_leave(), connected to SPI.
 */
extern Account *account_read(int64 id);

/* The same; error where there is none. */
extern Account *account_get(int64 id);

/* The same, as if another regulation bound it; NULL = its own. */
extern Account *account_get_under(int64 id, const char *regulation);

/* Whether the regulation does not bind a manager. */
extern bool account_is_outsider(const Account *account, int64 manager_id);

/* As of when findings about it are stored, given the clock. */
static inline instant
account_as_of(const Account *account, instant as_of)
{
	return as_of < account->known_until ? as_of : account->known_until;
}

#endif							/* REGCRM_ACCOUNT_H */
