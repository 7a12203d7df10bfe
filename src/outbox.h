/*-------------------------------------------------------------------------
 *
 * outbox.h
 *	  Writing back to amoCRM what regcrm.outbox holds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_OUTBOX_H
#define REGCRM_OUTBOX_H

#include "sync_int.h"

/*
 * Fills the outbox with what is new and sends what is due, after a pass that
 * was complete and while its account is still locked.  Whatever stands in the
 * way is noted with the row; the pass stays a good one.
 */
extern void outbox_run(Pass *pass);

#endif							/* REGCRM_OUTBOX_H */
