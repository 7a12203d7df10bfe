/*-------------------------------------------------------------------------
 *
 * calendar_fuzz.c
 *	  Business time over any calendar, against counting minute by minute.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"
#include "calendar.h"

#define MINUTE		INT64_C(60000000)
#define DAY			(1440 * MINUTE)
#define DAYS		40			/* laid out, from day 0 on */
#define MAX_SPANS	4

typedef struct Hours
{
	DaySpan		spans[MAX_SPANS];
	int			n;
} Hours;

/* Spans in order, apart from each other, as the tables' triggers make sure. */
static void
take_hours(Bytes *b, Hours *hours)
{
	int			at = 0;

	hours->n = pick(b, MAX_SPANS + 1);
	for (int i = 0; i < hours->n; i++)
	{
		int			from = at + (int) (take2(b) % 500);
		int			to = from + 1 + (int) (take2(b) % 700);

		if (from >= 1440)
		{
			hours->n = i;
			break;
		}
		at = to < 1440 ? to : 1440;
		hours->spans[i].from = from * MINUTE;
		hours->spans[i].to = at * MINUTE;
	}
}

/* Is the minute that begins at this instant one of work? */
static bool
works(const CalendarSource *source, int64_t minute)
{
	const ZoneTransition *zone = &source->transitions[0];
	int64_t		local;
	int64_t		day;
	int			of_day;
	const WeekPattern *week = NULL;
	const DaySpan *spans;
	int			n;

	for (int i = 1; i < source->ntransitions; i++)
		if (source->transitions[i].at <= minute * MINUTE)
			zone = &source->transitions[i];
	local = minute + zone->offset / MINUTE;
	day = local >= 0 ? local / 1440 : -((1439 - local) / 1440);
	of_day = (int) (local - day * 1440);
	if (day < source->first_day || day > source->last_day)
		return false;
	for (int i = 0; i < source->npatterns; i++)
		if (source->patterns[i].first_day <= day)
			week = &source->patterns[i];
	n = week ? week->nspans[(day + 5) % 7] : 0;	/* 2000-01-01 was a Saturday */
	spans = week ? week->spans[(day + 5) % 7] : NULL;
	for (int i = 0; i < source->nexceptions; i++)
		if (source->exceptions[i].day == day)
		{
			n = source->exceptions[i].nspans;
			spans = source->exceptions[i].spans;
		}
	for (int i = 0; i < n; i++)
		if (spans[i].from <= of_day * MINUTE && of_day * MINUTE < spans[i].to)
			return true;
	return false;
}

static void
check(const Calendar *calendar, const CalendarSource *source, Bytes *b)
{
	int64_t		from = (int64_t) (take2(b) % (DAYS * 1440));
	int64_t		to = from + (int64_t) (take2(b) % 4000);
	int64_t		length = (int64_t) take2(b);
	int64_t		naive = 0;
	instant		later,
				earlier;

	for (int64_t minute = from; minute < to; minute++)
		naive += works(source, minute);
	MUST(calendar_between(calendar, from * MINUTE, to * MINUTE) == naive * MINUTE);
	MUST(calendar_between(calendar, to * MINUTE, from * MINUTE) == -naive * MINUTE);

	length = length * MINUTE / 7;	/* not whole minutes */
	later = calendar_add(calendar, from * MINUTE, length);
	MUST(later >= from * MINUTE);
	if (later != INSTANT_NEVER)
	{
		MUST(calendar_between(calendar, from * MINUTE, later) == length);
		if (length > 0)
			MUST(calendar_between(calendar, from * MINUTE, later - 1) == length - 1);
	}
	earlier = calendar_add(calendar, to * MINUTE, -length);
	MUST(earlier <= to * MINUTE);
	if (earlier != INSTANT_EVER)
	{
		MUST(calendar_between(calendar, earlier, to * MINUTE) == length);
		if (length > 0)
			MUST(calendar_between(calendar, earlier + 1, to * MINUTE) == length - 1);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static Hours week_hours[3][7];
	static Hours day_hours[8];
	WeekPattern weeks[3];
	DayException days[8];
	ZoneTransition zones[4];
	CalendarSource source = {
		.patterns = weeks, .exceptions = days, .transitions = zones,
		.first_day = 0, .last_day = DAYS,
	};
	Bytes		b = {data, size};
	Calendar   *calendar;
	int			day = 0;
	instant		at = 0;

	source.npatterns = 1 + pick(&b, 3);
	for (int i = 0; i < source.npatterns; i++)
	{
		weeks[i].first_day = i == 0 && chance(&b, 2) ? INT32_MIN : (day += pick(&b, 30));
		for (int k = 0; k < 7; k++)
		{
			take_hours(&b, &week_hours[i][k]);
			weeks[i].nspans[k] = week_hours[i][k].n;
			weeks[i].spans[k] = week_hours[i][k].spans;
		}
	}
	day = -1;
	source.nexceptions = pick(&b, 9);
	for (int i = 0; i < source.nexceptions; i++)
	{
		take_hours(&b, &day_hours[i]);
		days[i] = (DayException) {day += 1 + pick(&b, 12), day_hours[i].n, day_hours[i].spans};
	}
	source.ntransitions = 1 + pick(&b, 4);
	for (int i = 0; i < source.ntransitions; i++)
	{
		/* offsets of whole minutes, up to 15 hours, days apart */
		zones[i].at = i == 0 ? INSTANT_EVER : (at += 2 * DAY + take2(&b) * MINUTE);
		zones[i].offset = ((int) (take2(&b) % 1801) - 900) * MINUTE;
	}
	calendar = calendar_build(&source, &fuzz_memory);
	for (int i = 0; calendar && i < 4; i++)
		check(calendar, &source, &b);
	(void) calendar_add(NULL, (instant) take2(&b) * DAY, (int64_t) take2(&b) * MINUTE);
	fuzz_free();
	return 0;
}
