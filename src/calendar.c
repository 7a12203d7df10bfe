/*-------------------------------------------------------------------------
 *
 * calendar.c
 *	  Business-time arithmetic (pure).
 *
 * calendar_build() lays a calendar out once: every working span of every day
 * as two absolute instants, with the working time before it.  All zone
 * questions are settled there, so that afterwards "how much working time lies
 * before this instant" is one binary search, and adding or measuring working
 * time is two of them, over a day as over decades.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "calendar.h"

#define SECOND		INT64_C(1000000)
#define MINUTE		(60 * SECOND)
#define DAY			(86400 * SECOND)

typedef struct Span
{
	instant		from;
	instant		to;
	int64_t		before;			/* working time before this span */
} Span;

struct Calendar
{
	int			nspans;
	int			room;
	Span	   *spans;
};

static const ZoneTransition utc = {INSTANT_EVER, 0};


/* ---- laying out ---- */

/*
 * The instant of a local time.  A local time that comes twice (clocks set
 * back) means the first for the opening of a span and the last for its end;
 * one that does not come at all (set forward) means the moment of the change.
 * *hint is where to begin among the transitions; local times come in order.
 */
static instant
instant_of(const ZoneTransition *zone, int nzone, int *hint, int64_t local, bool closing)
{
	instant		answer = 0;
	bool		found = false;
	int			k;

	/* two regimes back is enough: offsets differ by hours, regimes last weeks */
	while (*hint + 1 < nzone && zone[*hint + 1].at <= local - DAY)
		(*hint)++;
	for (k = *hint; k < nzone; k++)
	{
		instant		t = local - zone[k].offset;

		if (t < zone[k].at)
			break;
		if (k + 1 < nzone && t >= zone[k + 1].at)
			continue;
		if (!found || closing)
			answer = t;
		found = true;
	}
	/* the loop stopped at the regime that begins after this local time */
	if (!found)
		answer = k < nzone ? zone[k].at : local - zone[nzone - 1].offset;
	return answer;
}

static void
add_span(Calendar *calendar, const Memory *memory, instant from, instant to)
{
	Span	   *last = calendar->nspans > 0 ? &calendar->spans[calendar->nspans - 1] : NULL;

	if (last && from <= last->to)
	{
		if (to > last->to)
			last->to = to;
		return;
	}
	if (to <= from)
		return;
	if (calendar->nspans == calendar->room)
	{
		calendar->room = calendar->room ? calendar->room * 2 : 512;
		calendar->spans = memory->grow(memory->self, calendar->spans,
									   sizeof(Span) * (size_t) calendar->room);
	}
	calendar->spans[calendar->nspans++] = (Span) {from, to, 0};
}

/* 2000-01-01, day 0, was a Saturday. */
static int
weekday(int day)
{
	return (((day % 7) + 7) % 7 + 5) % 7;
}

Calendar *
calendar_build(const CalendarSource *source, const Memory *memory)
{
	Calendar   *calendar = memory->grow(memory->self, NULL, sizeof(Calendar));
	const ZoneTransition *zone = source->ntransitions > 0 ? source->transitions : &utc;
	int			nzone = source->ntransitions > 0 ? source->ntransitions : 1;
	int			pattern = -1;
	int			exception = 0;
	int			hint = 0;
	int64_t		sum = 0;

	memset(calendar, 0, sizeof(*calendar));
	for (int day = source->first_day; day <= source->last_day; day++)
	{
		const DaySpan *spans = NULL;
		int			nspans = 0;

		while (pattern + 1 < source->npatterns &&
			   source->patterns[pattern + 1].first_day <= day)
			pattern++;
		while (exception < source->nexceptions && source->exceptions[exception].day < day)
			exception++;
		if (exception < source->nexceptions && source->exceptions[exception].day == day)
		{
			spans = source->exceptions[exception].spans;
			nspans = source->exceptions[exception].nspans;
		}
		else if (pattern >= 0)
		{
			spans = source->patterns[pattern].spans[weekday(day)];
			nspans = source->patterns[pattern].nspans[weekday(day)];
		}
		for (int i = 0; i < nspans; i++)
		{
			int64_t		midnight = (int64_t) day * DAY;

			add_span(calendar, memory,
					 instant_of(zone, nzone, &hint, midnight + spans[i].from * MINUTE, false),
					 instant_of(zone, nzone, &hint, midnight + spans[i].to * MINUTE, true));
		}
	}
	for (int i = 0; i < calendar->nspans; i++)
	{
		calendar->spans[i].before = sum;
		sum += calendar->spans[i].to - calendar->spans[i].from;
	}
	return calendar->nspans > 0 ? calendar : NULL;
}


/* ---- arithmetic ---- */

/* Working time from the beginning of the calendar to an instant. */
static int64_t
worked_until(const Calendar *calendar, instant at)
{
	int			low = 0;
	int			high = calendar->nspans;
	const Span *span;

	/* the last span that begins at or before it */
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (calendar->spans[middle].from <= at)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0)
		return 0;
	span = &calendar->spans[low - 1];
	return span->before + ((at < span->to ? at : span->to) - span->from);
}

/*
 * The last span before which less working time than wanted lies; with
 * or_equal, less or as much.
 */
static const Span *
span_of(const Calendar *calendar, int64_t wanted, bool or_equal)
{
	int			low = 0;
	int			high = calendar->nspans;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;
		int64_t		before = calendar->spans[middle].before;

		if (before < wanted || (or_equal && before == wanted))
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? &calendar->spans[low - 1] : NULL;
}

instant
calendar_add(const Calendar *calendar, instant at, int64_t duration)
{
	const Span *span;
	const Span *last;
	instant		sum;
	int64_t		wanted;

	if (at == INSTANT_NEVER || at == INSTANT_EVER || duration == 0)
		return at;
	if (!calendar)
	{
		if (__builtin_add_overflow(at, duration, &sum))
			return duration > 0 ? INSTANT_NEVER : INSTANT_EVER;
		return sum;
	}
	if (__builtin_add_overflow(worked_until(calendar, at), duration, &wanted))
		return duration > 0 ? INSTANT_NEVER : INSTANT_EVER;
	if (wanted < 0)
		return INSTANT_EVER;
	last = &calendar->spans[calendar->nspans - 1];
	if (wanted > last->before + (last->to - last->from))
		return INSTANT_NEVER;
	span = span_of(calendar, wanted, duration < 0);
	return span->from + (wanted - span->before);
}

int64_t
calendar_between(const Calendar *calendar, instant from, instant to)
{
	int64_t		difference;

	if (calendar)
		return worked_until(calendar, to) - worked_until(calendar, from);
	if (__builtin_sub_overflow(to, from, &difference))
		return to > from ? INT64_MAX : INT64_MIN;
	return difference;
}
