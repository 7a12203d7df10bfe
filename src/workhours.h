/*-------------------------------------------------------------------------
 *
 * workhours.h
 *	  Calendars out of their tables, laid out for the arithmetic.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_WORKHOURS_H
#define REGCRM_WORKHOURS_H

#include "postgres.h"

#include "calendar.h"

extern void workhours_init(void);

/*
 * The working hours of a calendar, NULL for no calendar (every hour counts).
 * time_zone is the account's: it counts where the calendar names none of its
 * own; NULL = WORKHOURS_ZONE.  Valid until the end of the transaction, even
 * where the tables change meanwhile.
 *
 * Raises an error for a calendar or a zone that does not exist, and for a
 * calendar without any working time.
 */
extern const Calendar *workhours_get(const char *calendar, const char *time_zone);

/* The zone of an account that names none: the default of account.time_zone. */
#define WORKHOURS_ZONE	"Europe/Moscow"

/*
 * Calendars are laid out for these years; outside of them there is no working
 * time.
 */
#define WORKHOURS_FIRST_YEAR	2000
#define WORKHOURS_LAST_YEAR		2060

#endif							/* REGCRM_WORKHOURS_H */
