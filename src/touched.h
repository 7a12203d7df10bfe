/*-------------------------------------------------------------------------
 *
 * touched.h
 *	  The deals that this transaction has touched.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_TOUCHED_H
#define REGCRM_TOUCHED_H

#include "postgres.h"

/* How a fact was written: the mode, and the role, at the write. */
typedef enum TouchMode
{
	TOUCH_ENFORCE = 0x01,
	TOUCH_RECORD = 0x02,
	TOUCH_INGEST = 0x04
} TouchMode;

/* A deal with the facts written of it. */
typedef struct TouchedDeal
{
	int64		account_id;
	int64		deal_id;
	int			modes;			/* TouchMode, several where it was written so */
	bool		inserted;		/* the deal itself */
	Oid			role;			/* of the first write in mode enforce, else of the first */
} TouchedDeal;

extern void touched_init(void);

/* A fact of the deal was written by role; inserted = the deal's own row. */
extern void touched_add(int64 account_id, int64 deal_id, TouchMode mode, Oid role,
						bool inserted);

/* Whether any deal was touched and not yet judged. */
extern bool touched_any(void);

/*
 * The deals touched and not yet judged, in order of account and id, palloc'd;
 * from here on they count as judged.
 */
extern TouchedDeal *touched_take(int *n);

#endif							/* REGCRM_TOUCHED_H */
