/*-------------------------------------------------------------------------
 *
 * effects_run.h
 *	  Effects of what a statement wrote, carried out.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_EFFECTS_RUN_H
#define REGCRM_EFFECTS_RUN_H

#include "postgres.h"

#include "account.h"

/* What a statement did to a deal: it was moved, or a scenario was chosen. */
typedef struct FactCall
{
	int64		account_id;
	int64		deal_id;
	instant		at;
	bool		moved;
	stage_code	from;			/* of a move; 0 = it begins */
	stage_code	to;
	const char *scenario;		/* code or name */
	int64		event_id;		/* of the scenario */
} FactCall;

/*
 * Carries out the effects of calls on deals of one account, in order of deal.
 * The deals are locked.  To be called between tables_enter() and
 * tables_leave(), connected to SPI.
 */
extern void effects_run(const Account *account, const FactCall *calls, int n);

/* Whether what is being written now, an effect writes. */
extern bool effects_acting(void);

#endif							/* REGCRM_EFFECTS_RUN_H */
