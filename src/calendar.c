/*-------------------------------------------------------------------------
 *
 * calendar.c
 *	  Business-time arithmetic (pure).
 *
 * calendar_build() lays a calendar out once: every working span of every day
 * as two absolute instants, with the working time before it.  All zone
 * questions are settled there, so that afterwards "how much working time lies
 * before this instant" is one look-up, and adding or measuring working time is
 * two of them, over a day as over decades.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "calendar.h"

#define SECOND		INT64_C(1000000)
#define DAY			(86400 * SECOND)

typedef struct Span
{
	instant		from;
	instant		to;
	int64_t		before;			/* working time before this span */
} Span;

/*
 * Where to look for a value among the spans: of those in step with it (2^shift
 * to a step), only spans number first[step] to first[step + 1] are in question,
 * which as a rule is one.
 */
typedef struct Guide
{
	int64_t		origin;			/* the first span's value */
	int			shift;
	uint64_t	nsteps;
	int		   *first;			/* nsteps + 1 */
} Guide;

struct Calendar
{
	int			nspans;
	int			room;
	Span	   *spans;
	Guide		by_time;		/* by Span.from */
	Guide		by_work;		/* by Span.before */
};

static const ZoneTransition utc = {INSTANT_EVER, 0};

static int	day_of(int64_t local);
static void add_span(Calendar *calendar, const Memory *memory,
					 instant from, instant to);
static int	hours_of(const CalendarSource *source, int day, const DaySpan **spans);
static int	weekday(int day);
static void make_guides(Calendar *calendar, const Memory *memory);
static int64_t worked_until(const Calendar *calendar, instant at);
static const Span *span_of(const Calendar *calendar, int64_t wanted, bool or_equal);


/* ---- laying out ---- */

/*
 * A moment is working time where its local time lies in the hours of its local
 * day: so a span that falls into the hour that clocks skip is not worked, and
 * one in an hour that comes twice is worked twice.  Hence the outer loop goes
 * over the stretches of time that have one offset, and each day's hours are
 * cut to the stretch.
 */
Calendar *
calendar_build(const CalendarSource *source, const Memory *memory)
{
	Calendar   *calendar = memory->grow(memory->self, NULL, sizeof(Calendar));
	const ZoneTransition *zone = source->ntransitions > 0 ? source->transitions : &utc;
	int			nzone = source->ntransitions > 0 ? source->ntransitions : 1;
	int64_t		sum = 0;

	memset(calendar, 0, sizeof(*calendar));
	for (int k = 0; k < nzone; k++)
	{
		int64_t		offset = zone[k].offset;
		int64_t		begin = (int64_t) source->first_day * DAY;	/* local */
		int64_t		end = ((int64_t) source->last_day + 1) * DAY;
		int			day;

		if (zone[k].at > begin - offset)
			begin = zone[k].at + offset;
		if (k + 1 < nzone && zone[k + 1].at < end - offset)
			end = zone[k + 1].at + offset;
		if (begin >= end)
			continue;

		for (day = day_of(begin); (int64_t) day * DAY < end; day++)
		{
			int64_t		midnight = (int64_t) day * DAY;
			const DaySpan *spans;
			int			nspans = hours_of(source, day, &spans);

			for (int i = 0; i < nspans; i++)
			{
				int64_t		from = midnight + spans[i].from;
				int64_t		to = midnight + spans[i].to;

				if (from < begin)
					from = begin;
				if (to > end)
					to = end;
				add_span(calendar, memory, from - offset, to - offset);
			}
		}
	}
	for (int i = 0; i < calendar->nspans; i++)
	{
		calendar->spans[i].before = sum;
		sum += calendar->spans[i].to - calendar->spans[i].from;
	}
	if (calendar->nspans == 0)
		return NULL;
	make_guides(calendar, memory);
	return calendar;
}

static int64_t
value_of(const Span *span, bool work)
{
	return work ? span->before : span->from;
}

static void
make_guide(Guide *guide, const Calendar *calendar, const Memory *memory, bool work)
{
	int			nspans = calendar->nspans;
	uint64_t	range;
	int			span = 0;

	guide->origin = value_of(&calendar->spans[0], work);
	range = (uint64_t) value_of(&calendar->spans[nspans - 1], work) - (uint64_t) guide->origin;
	while (range >> guide->shift > (uint64_t) nspans * 2)
		guide->shift++;
	guide->nsteps = (range >> guide->shift) + 1;
	guide->first = memory->grow(memory->self, NULL,
								sizeof(int) * (size_t) (guide->nsteps + 1));
	for (uint64_t step = 0; step <= guide->nsteps; step++)
	{
		while (span < nspans &&
			   ((uint64_t) value_of(&calendar->spans[span], work) -
				(uint64_t) guide->origin) >> guide->shift < step)
			span++;
		guide->first[step] = span;
	}
}

static void
make_guides(Calendar *calendar, const Memory *memory)
{
	make_guide(&calendar->by_time, calendar, memory, false);
	make_guide(&calendar->by_work, calendar, memory, true);
}

/* Sets the bounds between which the number of spans up to value lies. */
static inline void
guide_bounds(const Guide *guide, int nspans, int64_t value, int *low, int *high)
{
	uint64_t	step = ((uint64_t) value - (uint64_t) guide->origin) >> guide->shift;

	*low = 0;
	*high = 0;
	if (value < guide->origin)
		return;
	*low = *high = nspans;
	if (step >= guide->nsteps)
		return;
	*low = guide->first[step];
	*high = guide->first[step + 1];
}

/*
 * Appends a span; spans come in order.  One that begins where the last ends is
 * joined to it: midnight between two days, a change of the zone's name only.
 */
static void
add_span(Calendar *calendar, const Memory *memory, instant from, instant to)
{
	Span	   *last = calendar->nspans > 0 ? &calendar->spans[calendar->nspans - 1] : NULL;

	if (to <= from)
		return;
	if (last && from <= last->to)
	{
		if (to > last->to)
			last->to = to;
		return;
	}
	if (calendar->nspans == calendar->room)
	{
		calendar->room = calendar->room ? calendar->room * 2 : 512;
		calendar->spans = memory->grow(memory->self, calendar->spans,
									   sizeof(Span) * (size_t) calendar->room);
	}
	calendar->spans[calendar->nspans++] = (Span) {from, to, 0};
}

/* The hours of a local day: its exception, else its week pattern's. */
static int
hours_of(const CalendarSource *source, int day, const DaySpan **spans)
{
	int			low = 0;
	int			high = source->nexceptions;
	const WeekPattern *pattern;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (source->exceptions[middle].day < day)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < source->nexceptions && source->exceptions[low].day == day)
	{
		*spans = source->exceptions[low].spans;
		return source->exceptions[low].nspans;
	}

	/* the last pattern that begins on or before the day */
	low = 0;
	high = source->npatterns;
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (source->patterns[middle].first_day <= day)
			low = middle + 1;
		else
			high = middle;
	}
	*spans = NULL;
	if (low == 0)
		return 0;
	pattern = &source->patterns[low - 1];
	*spans = pattern->spans[weekday(day)];
	return pattern->nspans[weekday(day)];
}

/* The day that a local time lies in. */
static int
day_of(int64_t local)
{
	return (int) (local >= 0 ? local / DAY : -((-local + DAY - 1) / DAY));
}

/* 0 = Monday.  2000-01-01, day 0, was a Saturday. */
static int
weekday(int day)
{
	return (((day % 7) + 7) % 7 + 5) % 7;
}


/* ---- arithmetic ---- */

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

/* Working time from the beginning of the calendar to an instant. */
static int64_t
worked_until(const Calendar *calendar, instant at)
{
	int			low;
	int			high;
	const Span *span;

	/* the last span that begins at or before it */
	guide_bounds(&calendar->by_time, calendar->nspans, at, &low, &high);
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
	int			low;
	int			high;

	guide_bounds(&calendar->by_work, calendar->nspans, wanted, &low, &high);
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
