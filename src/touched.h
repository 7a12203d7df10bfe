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

/* What was written of a deal. */
#define TOUCHED_INSERTED	0x01	/* the deal's own row */
#define TOUCHED_NEEDED		0x02	/* a fact of it, in mode enforce: it must be there */

/* A deal with the facts written of it. */
typedef struct TouchedDeal
{
	int64		account_id;
	int64		deal_id;
	int			modes;			/* TouchMode, several where it was written so */
	int			flags;			/* TOUCHED_... */
} TouchedDeal;

extern void touched_init(void);

/*
 * A fact of the deal was written; false where the same was noted before and
 * nothing was judged or rolled back since.
 */
extern bool touched_add(int64 account_id, int64 deal_id, TouchMode mode, int flags);

/* Whether the deal was written in that mode and not yet judged. */
extern bool touched_in_mode(int64 account_id, int64 deal_id, TouchMode mode);

/* Whether any deal was touched and not yet judged. */
extern bool touched_any(void);

/*
 * The deals touched and not yet judged, in order of account and id, palloc'd;
 * from here on they count as judged.
 */
extern TouchedDeal *touched_take(int *n);

#endif							/* REGCRM_TOUCHED_H */
