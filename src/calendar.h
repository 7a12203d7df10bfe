/*-------------------------------------------------------------------------
 *
 * calendar.h
 *	  Business-time arithmetic (pure).
 *
 * A Calendar is a sorted list of working spans on the absolute time line,
 * each with the working time that lies before it, so that adding and
 * measuring working time is a look-up or two.  calendar_build() flattens
 * weekly hours, holidays, moved days and the zone's transitions into it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_CALENDAR_H
#define REGCRM_CALENDAR_H

#include "rules.h"

typedef struct Calendar Calendar;

/*
 * Working hours of one local day: microseconds after local midnight,
 * from < to <= 24 hours.
 */
typedef struct DaySpan
{
	int64_t		from;
	int64_t		to;
} DaySpan;

/*
 * One dated rule of the calendar.  Days are counted from 2000-01-01 (local).
 * A day's hours are those of the exception for that day where there is one,
 * else those of the last week pattern that begins on or before it.
 */
typedef struct WeekPattern
{
	int			first_day;		/* INT32_MIN = always */
	int			nspans[7];		/* Monday first */
	const DaySpan *spans[7];
} WeekPattern;

typedef struct DayException
{
	int			day;
	int			nspans;			/* 0 = a holiday */
	const DaySpan *spans;
} DayException;

/* From this instant on, local time is UTC + offset. */
typedef struct ZoneTransition
{
	instant		at;				/* INSTANT_EVER for the first */
	int64_t		offset;
} ZoneTransition;

typedef struct CalendarSource
{
	int			npatterns;
	const WeekPattern *patterns;	/* in order of first_day */
	int			nexceptions;
	const DayException *exceptions; /* in order of day */
	int			ntransitions;
	const ZoneTransition *transitions;	/* in order of at */
	int			first_day;		/* days to lay out: [first_day, last_day] */
	int			last_day;
} CalendarSource;

/* NULL where there is no working time at all between the two days. */
extern Calendar *calendar_build(const CalendarSource *source, const Memory *memory);

/*
 * The earliest instant at which duration of working time has passed since at.
 * A negative duration goes back: the latest instant from which -duration of
 * working time passes until at.  calendar NULL: every hour counts.  Beyond
 * the last day laid out the answer is INSTANT_NEVER (or INSTANT_EVER).
 */
extern instant calendar_add(const Calendar *calendar, instant at, int64_t duration);

/* Working time between two instants; negative where to is before from. */
extern int64_t calendar_between(const Calendar *calendar, instant from, instant to);

#endif							/* REGCRM_CALENDAR_H */
