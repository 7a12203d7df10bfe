/*-------------------------------------------------------------------------
 *
 * calendar_test.c
 *	  Business-time arithmetic: what can be counted by hand, and random
 *	  calendars in random zones against counting minute by minute.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include <limits.h>
#include <time.h>

#include "calendar.h"

#define SECOND	INT64_C(1000000)
#define MINUTE	(60 * SECOND)
#define HOUR	(60 * MINUTE)
#define DAY		(24 * HOUR)

/* 9 to 18 from Monday to Friday */
static const DaySpan nine_to_six = {540 * MINUTE, 1080 * MINUTE};
static const DaySpan whole_day = {0, 1440 * MINUTE};

/* Days from 2000-01-01. */
static int
day_of(int year, int month, int day)
{
	struct tm	tm = {0};

	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	tm.tm_mday = day;
	return (int) ((timegm(&tm) - 946684800) / 86400);
}

static instant
utc(int year, int month, int day, int hour, int minute)
{
	return day_of(year, month, day) * DAY + hour * HOUR + minute * MINUTE;
}

static WeekPattern
week(int first_day, const DaySpan *span, int days)
{
	WeekPattern pattern = {0};

	pattern.first_day = first_day;
	for (int i = 0; i < days; i++)
	{
		pattern.nspans[i] = 1;
		pattern.spans[i] = span;
	}
	return pattern;
}

static void
test_by_hand(void)
{
	WeekPattern pattern = week(INT32_MIN, &nine_to_six, 5);
	DayException exceptions[2] = {{0}};
	DaySpan		short_day = {540 * MINUTE, 1020 * MINUTE};
	ZoneTransition moscow = {INSTANT_EVER, 3 * HOUR};
	CalendarSource source = {0};
	Calendar   *calendar;

	source.npatterns = 1;
	source.patterns = &pattern;
	exceptions[0].day = day_of(2026, 5, 8);
	exceptions[0].nspans = 1;
	exceptions[0].spans = &short_day;
	exceptions[1].day = day_of(2026, 5, 11);
	source.nexceptions = 2;
	source.exceptions = exceptions;
	source.ntransitions = 1;
	source.transitions = &moscow;
	source.first_day = day_of(2026, 1, 1);
	source.last_day = day_of(2026, 12, 31);
	calendar = calendar_build(&source, &tap_memory);

	/* Friday 8 May, short; 9 and 10 a weekend, 11 a holiday.  Moscow is UTC+3. */
	ok(calendar_add(calendar, utc(2026, 5, 8, 13, 30), HOUR) == utc(2026, 5, 12, 6, 30),
	   "an hour from half an hour before the end of a short Friday is half past nine on Tuesday");
	ok(calendar_add(calendar, utc(2026, 5, 8, 13, 30), 30 * MINUTE) == utc(2026, 5, 8, 14, 0),
	   "what is over as the day ends, ends that day");
	ok(calendar_add(calendar, utc(2026, 5, 9, 12, 0), MINUTE) == utc(2026, 5, 12, 6, 1),
	   "what begins in a weekend begins to run when work does");
	ok(calendar_add(calendar, utc(2026, 5, 9, 12, 0), 0) == utc(2026, 5, 9, 12, 0),
	   "no time is over at once");
	ok(calendar_add(calendar, utc(2026, 5, 12, 6, 30), -HOUR) == utc(2026, 5, 8, 13, 30),
	   "and back");
	ok(calendar_add(calendar, utc(2026, 5, 12, 6, 30), -30 * MINUTE) == utc(2026, 5, 12, 6, 0),
	   "back to the beginning of a day: the latest such moment");
	ok(calendar_between(calendar, utc(2026, 5, 8, 0, 0), utc(2026, 5, 13, 0, 0)) == 17 * HOUR,
	   "a short day, three free ones and a day");
	ok(calendar_between(calendar, utc(2026, 5, 13, 0, 0), utc(2026, 5, 8, 0, 0)) == -17 * HOUR,
	   "measured backwards it is negative");
	ok(calendar_add(calendar, utc(2026, 12, 31, 10, 0), 100 * HOUR) == INSTANT_NEVER,
	   "beyond the last day is never");
	ok(calendar_add(calendar, utc(2026, 1, 1, 10, 0), -100 * HOUR) == INSTANT_EVER,
	   "before the first day is ever");
	ok(calendar_add(calendar, INSTANT_NEVER, -HOUR) == INSTANT_NEVER &&
	   calendar_add(calendar, INSTANT_EVER, HOUR) == INSTANT_EVER,
	   "what has no end or beginning keeps having none");
	ok(calendar_between(calendar, utc(2025, 6, 1, 0, 0), utc(2026, 1, 2, 6, 0)) ==
	   calendar_between(calendar, utc(2026, 1, 1, 0, 0), utc(2026, 1, 2, 6, 0)) &&
	   calendar_between(calendar, INSTANT_EVER, utc(2025, 6, 1, 0, 0)) == 0,
	   "before the first day nothing is worked");
	ok(calendar_add(calendar, utc(2026, 5, 8, 0, 0), INT64_MAX) == INSTANT_NEVER &&
	   calendar_add(calendar, utc(2026, 5, 8, 0, 0), INT64_MIN) == INSTANT_EVER,
	   "the longest durations do not overflow");
}

static void
test_zones(void)
{
	/* Berlin in 2026: clocks forward on 29 March 01:00 UTC, back on 25 October. */
	ZoneTransition berlin[3] = {{INSTANT_EVER, HOUR}, {0, 2 * HOUR}, {0, HOUR}};
	DaySpan		missing = {130 * MINUTE, 170 * MINUTE};	/* 02:10 to 02:50 */
	DaySpan		night = {60 * MINUTE, 240 * MINUTE};	/* 01:00 to 04:00 */
	WeekPattern pattern = week(INT32_MIN, &missing, 7);
	CalendarSource source = {0};
	Calendar   *calendar;

	berlin[1].at = utc(2026, 3, 29, 1, 0);
	berlin[2].at = utc(2026, 10, 25, 1, 0);
	source.npatterns = 1;
	source.patterns = &pattern;
	source.ntransitions = 3;
	source.transitions = berlin;
	source.first_day = day_of(2026, 1, 1);
	source.last_day = day_of(2026, 12, 31);
	calendar = calendar_build(&source, &tap_memory);
	ok(calendar_between(calendar, utc(2026, 3, 28, 12, 0), utc(2026, 3, 29, 12, 0)) == 0,
	   "hours that the clock skips are not worked");
	ok(calendar_between(calendar, utc(2026, 10, 24, 12, 0), utc(2026, 10, 25, 12, 0)) == 80 * MINUTE,
	   "hours that come twice are worked twice");
	ok(calendar_add(calendar, utc(2026, 3, 28, 12, 0), 40 * MINUTE) == utc(2026, 3, 30, 0, 50),
	   "and a duty waits for the next day's");

	pattern = week(INT32_MIN, &night, 7);
	calendar = calendar_build(&source, &tap_memory);
	ok(calendar_between(calendar, utc(2026, 3, 28, 12, 0), utc(2026, 3, 29, 12, 0)) == 2 * HOUR,
	   "a night of three hours loses one in March");
	ok(calendar_between(calendar, utc(2026, 10, 24, 12, 0), utc(2026, 10, 25, 12, 0)) == 4 * HOUR,
	   "and has one more in October");
	ok(calendar_add(calendar, utc(2026, 10, 24, 23, 0), 3 * HOUR) == utc(2026, 10, 25, 2, 0),
	   "hours run through the repeated hour");

	pattern = week(INT32_MIN, &whole_day, 7);
	calendar = calendar_build(&source, &tap_memory);
	ok(calendar_between(calendar, utc(2026, 2, 1, 0, 0), utc(2026, 11, 1, 0, 0)) ==
	   utc(2026, 11, 1, 0, 0) - utc(2026, 2, 1, 0, 0),
	   "a calendar of all hours is the wall clock, whatever clocks do");
}

static void
test_edges(void)
{
	WeekPattern pattern = week(INT32_MIN, &nine_to_six, 0);
	CalendarSource source = {0};

	ok(calendar_add(NULL, 5, 7) == 12 && calendar_between(NULL, 5, 12) == 7 &&
	   calendar_between(NULL, 12, 5) == -7, "without a calendar every hour counts");
	ok(calendar_add(NULL, INT64_MAX - 1, 5) == INSTANT_NEVER &&
	   calendar_add(NULL, INT64_MIN + 1, -5) == INSTANT_EVER, "and nothing overflows");
	ok(calendar_between(NULL, INSTANT_EVER, INSTANT_NEVER) == INT64_MAX &&
	   calendar_between(NULL, INSTANT_NEVER, INSTANT_EVER) == INT64_MIN,
	   "from ever to never is as long as can be told");
	source.last_day = 1000;
	ok(calendar_build(&source, &tap_memory) == NULL, "no pattern: no working time");
	source.npatterns = 1;
	source.patterns = &pattern;
	ok(calendar_build(&source, &tap_memory) == NULL, "a pattern of free days: no working time");
	pattern = week(500, &nine_to_six, 7);
	ok(calendar_between(calendar_build(&source, &tap_memory), 0, 501 * DAY) == 9 * HOUR,
	   "a pattern begins on its first day");
}

/* ---- random calendars ---- */

#define DAYS	60

static DaySpan spans[4096];
static int	nspans;

/* Up to three spans of a day, in order; some meet, some reach midnight. */
static int
random_day(const DaySpan **day)
{
	int			n = (int) between(0, 3);
	int			minute = 0;

	*day = &spans[nspans];
	for (int i = 0; i < n; i++)
	{
		int			from = minute + (between(0, 2) ? (int) between(0, 300) : 0);
		int			to = between(0, 4) ? from + (int) between(1, 400) : 1440;

		if (to > 1440)
			to = 1440;
		if (from >= to)
			return i;
		spans[nspans].from = from * MINUTE;
		spans[nspans].to = to * MINUTE;
		nspans++;
		minute = to;
	}
	return n;
}

static int64_t
floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b < 0);
}

static bool
test_random_one(int64_t *checks)
{
	/* one minute each; worked[i] = minutes worked before the ith */
	static int	worked[(DAYS + 10) * 1440 + 1];
	WeekPattern patterns[3] = {{0}};
	DayException exceptions[20] = {{0}};
	ZoneTransition zone[6];
	CalendarSource source = {0};
	Calendar   *calendar;
	int			first = (int) between(-400, 400);
	instant		begin = (first - 5) * DAY;
	int			minutes = (DAYS + 10) * 1440;
	int64_t		total;

	nspans = 0;
	source.first_day = first;
	source.last_day = first + DAYS - 1;

	source.patterns = patterns;
	source.npatterns = (int) between(1, 3);
	for (int i = 0; i < source.npatterns; i++)
	{
		patterns[i].first_day = i == 0 && between(0, 1) ? INT32_MIN : first + i * 20;
		for (int k = 0; k < 7; k++)
			patterns[i].nspans[k] = random_day(&patterns[i].spans[k]);
	}

	source.exceptions = exceptions;
	for (int day = first - 3; day < first + DAYS + 3 && source.nexceptions < 20; day++)
		if (between(0, 5) == 0)
		{
			DayException *exception = &exceptions[source.nexceptions++];

			exception->day = day;
			if (between(0, 1))
				exception->nspans = random_day(&exception->spans);
		}

	source.transitions = zone;
	source.ntransitions = (int) between(1, 6);
	zone[0].at = INSTANT_EVER;
	zone[0].offset = between(-12 * 60, 14 * 60) * MINUTE;
	for (int i = 1; i < source.ntransitions; i++)
	{
		/* half an hour to three hours as clocks do; a day, as Samoa did */
		int64_t		step = between(0, 9) ? between(-6, 6) * 30 * MINUTE :
			(between(0, 1) ? DAY : -DAY);

		zone[i].at = (i == 1 ? first * DAY : zone[i - 1].at) + between(1, 15 * 24) * HOUR;
		zone[i].offset = zone[i - 1].offset + step;
	}

	/* counted minute by minute */
	worked[0] = 0;
	for (int i = 0; i < minutes; i++)
	{
		instant		at = begin + i * MINUTE;
		int			k = 0;
		int64_t		local;
		int			day;
		int			minute;
		const DaySpan *hours = NULL;
		int			n = 0;
		bool		works = false;
		bool		is_exception = false;

		while (k + 1 < source.ntransitions && zone[k + 1].at <= at)
			k++;
		local = at + zone[k].offset;
		day = (int) floor_div(local, DAY);
		minute = (int) ((local - day * DAY) / MINUTE);
		if (day >= source.first_day && day <= source.last_day)
		{
			for (int x = 0; x < source.nexceptions; x++)
				if (exceptions[x].day == day)
				{
					is_exception = true;
					hours = exceptions[x].spans;
					n = exceptions[x].nspans;
				}
			for (int x = 0; x < source.npatterns && !is_exception; x++)
				if (patterns[x].first_day <= day)
				{
					/* 2000-01-03 was a Monday */
					int			weekday = (((day - 2) % 7) + 7) % 7;

					hours = patterns[x].spans[weekday];
					n = patterns[x].nspans[weekday];
				}
			for (int x = 0; x < n; x++)
				works |= minute * MINUTE >= hours[x].from && minute * MINUTE < hours[x].to;
		}
		worked[i + 1] = worked[i] + works;
	}
	total = worked[minutes];

	calendar = calendar_build(&source, &tap_memory);
	if (total == 0)
		return calendar == NULL;

	for (int i = 0; i < 300; i++)
	{
		int			a = (int) between(0, minutes);
		int			b = (int) between(0, minutes);
		int64_t		odd = between(0, 1) ? between(0, MINUTE - 1) : 0;
		instant		from = begin + a * MINUTE + odd;
		int64_t		duration;
		instant		to;

		(*checks)++;
		if (calendar_between(calendar, begin + a * MINUTE, begin + b * MINUTE) !=
			(worked[b] - worked[a]) * MINUTE)
			return false;

		duration = between(-total * MINUTE, total * MINUTE);
		if (between(0, 1))
			duration -= duration % MINUTE;
		to = calendar_add(calendar, from, duration);
		if (to == INSTANT_NEVER)
		{
			if (duration <= 0 || calendar_between(calendar, from, begin + minutes * MINUTE) >= duration)
				return false;
			continue;
		}
		if (to == INSTANT_EVER)
		{
			if (duration >= 0 || calendar_between(calendar, begin, from) >= -duration)
				return false;
			continue;
		}
		/* as much lies between as was added, ... */
		if (calendar_between(calendar, from, to) != duration)
			return false;
		/* ... and no moment earlier (going back: later) has that */
		if (duration > 0 && calendar_between(calendar, from, to - 1) >= duration)
			return false;
		if (duration < 0 && calendar_between(calendar, from, to + 1) <= duration)
			return false;
		/* one step or two, it is the same */
		if (duration > 0)
		{
			int64_t		part = between(1, duration);

			if (part < duration &&
				calendar_add(calendar, calendar_add(calendar, from, part), duration - part) != to)
				return false;
		}
	}
	return true;
}

static void
test_random(void)
{
	int64_t		checks = 0;
	bool		all = true;

	for (int i = 0; i < 1000 && all; i++)
	{
		uint64_t	seed = tap_seed;

		all = test_random_one(&checks);
		if (!all)
			note("calendar %d, seed %llx", i, (unsigned long long) seed);
		free_all();
	}
	ok(all, "1,000 random calendars agree with counting minutes (%lld checks)", (long long) checks);
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static void
test_speed(void)
{
	WeekPattern pattern = week(INT32_MIN, &nine_to_six, 5);
	CalendarSource source = {0};
	Calendar   *calendar;
	double		start = seconds();
	uint64_t	sum = 0;

	source.npatterns = 1;
	source.patterns = &pattern;
	source.last_day = 61 * 365;
	calendar = calendar_build(&source, &tap_memory);
	note("61 years laid out in %.2f ms (with sanitizers)", (seconds() - start) * 1000);
	start = seconds();
	for (int i = 0; i < 1000000; i++)
		sum += (uint64_t) calendar_add(calendar, i * HOUR / 2, i % 2 ? 10 * HOUR : 10000 * HOUR);
	note("1,000,000 additions in %.0f ms (with sanitizers; checksum %llx)",
		 (seconds() - start) * 1000, (unsigned long long) sum);
	ok(calendar_between(calendar, 0, 61 * 365 * DAY) == (61 * 365 / 7) * 45 * HOUR + 3 * 9 * HOUR,
	   "61 years of weeks");
}

int
main(void)
{
	test_by_hand();
	test_zones();
	test_edges();
	free_all();
	test_random();
	test_speed();
	free_all();
	return tap_end();
}
