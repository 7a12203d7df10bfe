/*-------------------------------------------------------------------------
 *
 * fields.c
 *	  The fields of a deal: which columns they are, and what their text means.
 *
 * An event keeps a field's value as text (DESIGN section 3), the deal keeps it
 * as a column.  Both must mean the same whoever looks: the same text may not
 * be another moment in a session with another TimeZone or DateStyle (hazards
 * S8).  The server's own input functions depend on both settings, hence the
 * reader here.  It knows
 *
 *		2026-03-05					a date; as a moment, its start in the account's zone
 *		2026-03-05 10:00[:00[.5]]	local time in the account's zone
 *		2026-03-05T10:00:00+03[:00]	an instant; also Z
 *		05.03.2026 [10:00]			the same, as people in Russia write
 *		infinity, -infinity
 *
 * Text that is nothing of the kind is kept: such a field holds something, but
 * no moment, and its column stays empty.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "common/hashfn.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#include "fields.h"

const FieldColumn field_columns[FIELD_COLUMNS] = {
	{"lead_date", FIELD_DATE},
	{"reason", FIELD_TEXT},
	{"pause_reason", FIELD_TEXT},
	{"meeting_at", FIELD_MOMENT},
	{"return_on", FIELD_DATE},
	{"agreed_at", FIELD_MOMENT},
	{"signed_at", FIELD_MOMENT},
	{"paid_at", FIELD_MOMENT},
	{"skip_task_check", FIELD_FLAG},
};

/* A date and time as written, before a zone is given to it. */
typedef struct Written
{
	struct pg_tm tm;
	fsec_t		fsec;
	bool		has_time;
	bool		has_zone;
	int			zone;			/* seconds west of UTC, as the server counts */
} Written;

static bool read_written(const char *text, Written *w);
static bool moment_of(Written *w, pg_tz *zone, TimestampTz *moment);
static instant start_of_day(DateADT date, pg_tz *zone);
static uint64 hash_bytes_of(const void *bytes, size_t len, uint64 seed);

int
field_column(const char *name)
{
	for (int i = 0; i < FIELD_COLUMNS; i++)
		if (strcmp(field_columns[i].name, name) == 0)
			return i;
	return -1;
}

pg_tz *
field_zone(const char *name)
{
	pg_tz	   *zone = name ? pg_tzset(name) : NULL;

	return zone ? zone : pg_tzset("GMT");
}

/* A hash that is never 0. */
static uint64
hash_bytes_of(const void *bytes, size_t len, uint64 seed)
{
	uint64		hash = hash_bytes_extended(bytes, (int) len, seed);

	return hash ? hash : 1;		/* 0 means that nothing is held */
}

/* Text that the type can't hold, or that is text anyway. */
static FieldValue
held_text(const char *text, bool readable)
{
	FieldValue	value = {.readable = readable,.moment = INSTANT_NEVER,.isnull = true};

	value.holds = true;
	value.hash = hash_bytes_of(text, strlen(text), FIELD_TEXT);
	return value;
}

FieldValue
field_of_datum(Datum datum, bool isnull, FieldType type, pg_tz *zone)
{
	FieldValue	value = {.readable = true,.moment = INSTANT_NEVER,.isnull = isnull};

	value.datum = datum;
	if (isnull)
		return value;
	value.holds = true;
	switch (type)
	{
		case FIELD_TEXT:
		case FIELD_CUSTOM:
			{
				char	   *string = TextDatumGetCString(datum);

				if (type == FIELD_CUSTOM)
					return field_read(string, type, zone);
				value.holds = string[0] != '\0';
				if (value.holds)
					value.hash = hash_bytes_of(string, strlen(string), FIELD_TEXT);
				break;
			}
		case FIELD_DATE:
			{
				DateADT		date = DatumGetDateADT(datum);

				value.moment = start_of_day(date, zone);
				value.hash = hash_bytes_of(&date, sizeof(date), FIELD_DATE);
				break;
			}
		case FIELD_MOMENT:
			value.moment = DatumGetTimestampTz(datum);
			value.hash = hash_bytes_of(&value.moment, sizeof(value.moment), FIELD_MOMENT);
			break;
		case FIELD_FLAG:
			value.holds = DatumGetBool(datum);
			value.hash = value.holds ? 1 : 0;
			break;
	}
	return value;
}

char *
field_text(Datum datum, bool isnull, FieldType type)
{
	char		buffer[MAXDATELEN + 1];
	struct pg_tm tm = {0};
	fsec_t		fsec;
	TimestampTz moment;
	DateADT		date;

	if (isnull)
		return NULL;
	switch (type)
	{
		case FIELD_TEXT:
		case FIELD_CUSTOM:
			return TextDatumGetCString(datum);
		case FIELD_FLAG:
			return pstrdup(DatumGetBool(datum) ? "true" : "false");
		case FIELD_DATE:
			date = DatumGetDateADT(datum);
			if (DATE_NOT_FINITE(date))
				return pstrdup(DATE_IS_NOBEGIN(date) ? "-infinity" : "infinity");
			j2date(date + POSTGRES_EPOCH_JDATE, &tm.tm_year, &tm.tm_mon, &tm.tm_mday);
			EncodeDateOnly(&tm, USE_ISO_DATES, buffer);
			return pstrdup(buffer);
		case FIELD_MOMENT:
			moment = DatumGetTimestampTz(datum);
			if (TIMESTAMP_NOT_FINITE(moment))
				return pstrdup(TIMESTAMP_IS_NOBEGIN(moment) ? "-infinity" : "infinity");
			if (timestamp2tm(moment, NULL, &tm, &fsec, NULL, NULL) != 0)
				ereport(ERROR,
						(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
						 errmsg("timestamp out of range")));
			tm.tm_isdst = 0;	/* UTC; negative would leave the zone out */
			EncodeDateTime(&tm, fsec, true, 0, NULL, USE_ISO_DATES, buffer);
			return pstrdup(buffer);
	}
	return NULL;
}

FieldValue
field_read(const char *text, FieldType type, pg_tz *zone)
{
	Written		w;
	TimestampTz moment;
	bool		flag;

	if (text == NULL || text[0] == '\0')
		return field_of_datum((Datum) 0, true, FIELD_TEXT, zone);
	if (type == FIELD_CUSTOM && strcmp(text, "false") == 0)
		return field_of_datum(BoolGetDatum(false), false, FIELD_FLAG, zone);
	switch (type)
	{
		case FIELD_TEXT:
			return field_of_datum(CStringGetTextDatum(text), false, FIELD_TEXT, zone);

		case FIELD_FLAG:
			if (parse_bool(text, &flag))
				return field_of_datum(BoolGetDatum(flag), false, FIELD_FLAG, zone);
			return held_text(text, false);

		case FIELD_DATE:
			if (pg_strcasecmp(text, "infinity") == 0 || pg_strcasecmp(text, "-infinity") == 0)
				return field_of_datum(DateADTGetDatum(text[0] == '-' ? DATEVAL_NOBEGIN : DATEVAL_NOEND),
									  false, FIELD_DATE, zone);
			if (!read_written(text, &w) || !moment_of(&w, zone, &moment))
				return held_text(text, false);
			if (w.has_zone && w.has_time)
			{
				/* an instant: the day that it is in the account's zone */
				int			tz;

				if (timestamp2tm(moment, &tz, &w.tm, &w.fsec, NULL, zone) != 0)
					return held_text(text, false);
			}
			return field_of_datum(DateADTGetDatum(date2j(w.tm.tm_year, w.tm.tm_mon, w.tm.tm_mday) -
												  POSTGRES_EPOCH_JDATE),
								  false, FIELD_DATE, zone);

		case FIELD_MOMENT:
		case FIELD_CUSTOM:
			if (pg_strcasecmp(text, "infinity") == 0 || pg_strcasecmp(text, "-infinity") == 0)
				moment = text[0] == '-' ? DT_NOBEGIN : DT_NOEND;
			else if (!read_written(text, &w) || !moment_of(&w, zone, &moment))
				return held_text(text, type == FIELD_CUSTOM);
			if (type == FIELD_MOMENT)
				return field_of_datum(TimestampTzGetDatum(moment), false, type, zone);
			else
			{
				/* which of two texts for one moment it is, counts for text only */
				FieldValue	value = held_text(text, true);

				value.moment = moment;
				return value;
			}
	}
	return held_text(text, false);
}

/* The first instant of a local day; where midnight is skipped, the zone's own answer. */
static instant
start_of_day(DateADT date, pg_tz *zone)
{
	Written		w = {0};
	TimestampTz moment;

	if (DATE_IS_NOBEGIN(date))
		return INSTANT_EVER;
	if (DATE_IS_NOEND(date))
		return INSTANT_NEVER;
	j2date(date + POSTGRES_EPOCH_JDATE, &w.tm.tm_year, &w.tm.tm_mon, &w.tm.tm_mday);
	return moment_of(&w, zone, &moment) ? moment : INSTANT_NEVER;
}

/* The instant that is meant, by the zone written or else the one given. */
static bool
moment_of(Written *w, pg_tz *zone, TimestampTz *moment)
{
	int			tz = w->has_zone ? w->zone : DetermineTimeZoneOffset(&w->tm, zone);

	return tm2timestamp(&w->tm, w->fsec, &tz, moment) == 0;
}


/* ---- reading ---- */

/* Reads between min and max digits. */
static bool
digits(const char **p, int min, int max, int *number)
{
	int			n = 0;

	*number = 0;
	for (; n < max && isdigit((unsigned char) **p); n++)
		*number = *number * 10 + (*(*p)++ - '0');
	return n >= min;
}

/* Year first with dashes, or day first with dots. */
static bool
read_day(const char **p, struct pg_tm *tm)
{
	if (isdigit((unsigned char) (*p)[0]) && isdigit((unsigned char) (*p)[1]) && (*p)[2] == '.')
	{
		if (!digits(p, 2, 2, &tm->tm_mday) || *(*p)++ != '.' ||
			!digits(p, 2, 2, &tm->tm_mon) || *(*p)++ != '.' ||
			!digits(p, 4, 4, &tm->tm_year))
			return false;
	}
	else if (!digits(p, 4, 6, &tm->tm_year) || *(*p)++ != '-' ||
			 !digits(p, 2, 2, &tm->tm_mon) || *(*p)++ != '-' ||
			 !digits(p, 2, 2, &tm->tm_mday))
		return false;
	return tm->tm_mon >= 1 && tm->tm_mon <= MONTHS_PER_YEAR && tm->tm_mday >= 1 &&
		tm->tm_mday <= day_tab[isleap(tm->tm_year)][tm->tm_mon - 1];
}

/* 24:00 is the end of the day, as the server has it. */
static bool
read_time(const char **p, Written *w)
{
	struct pg_tm *tm = &w->tm;

	if (!digits(p, 1, 2, &tm->tm_hour) || *(*p)++ != ':' || !digits(p, 2, 2, &tm->tm_min))
		return false;
	if (**p == ':')
	{
		(*p)++;
		if (!digits(p, 2, 2, &tm->tm_sec))
			return false;
		if (**p == '.')
		{
			int			scale = 100000;

			(*p)++;
			if (!isdigit((unsigned char) **p))
				return false;
			for (; isdigit((unsigned char) **p); (*p)++, scale /= 10)
				w->fsec += (**p - '0') * scale;
		}
	}
	return tm->tm_min < MINS_PER_HOUR && tm->tm_sec < SECS_PER_MINUTE &&
		(tm->tm_hour < HOURS_PER_DAY ||
		 (tm->tm_hour == HOURS_PER_DAY && tm->tm_min == 0 && tm->tm_sec == 0 && w->fsec == 0));
}

/* Z or a difference from UTC; without either the time is local. */
static bool
read_zone(const char **p, Written *w)
{
	int			hours,
				minutes = 0,
				seconds = 0;
	bool		east;

	if (**p == 'Z' || **p == 'z')
	{
		(*p)++;
		w->has_zone = true;
		return true;
	}
	if (**p != '+' && **p != '-')
		return true;
	east = *(*p)++ == '+';
	if (!digits(p, 2, 2, &hours))
		return false;
	if (**p == ':')
		(*p)++;
	if (isdigit((unsigned char) **p) && !digits(p, 2, 2, &minutes))
		return false;
	if (**p == ':' && ((*p)++, !digits(p, 2, 2, &seconds)))
		return false;
	if (hours > MAX_TZDISP_HOUR || minutes >= MINS_PER_HOUR || seconds >= SECS_PER_MINUTE)
		return false;
	w->zone = (hours * MINS_PER_HOUR + minutes) * SECS_PER_MINUTE + seconds;
	if (east)
		w->zone = -w->zone;
	w->has_zone = true;
	return true;
}

/*
 * A day, a time if there is one, a zone if there is one, and nothing else.
 */
static bool
read_written(const char *text, Written *w)
{
	const char *p = text;

	memset(w, 0, sizeof(*w));
	while (isspace((unsigned char) *p))
		p++;
	if (!read_day(&p, &w->tm))
		return false;
	if (*p == 'T' || *p == 't' || *p == ' ')
	{
		const char *time = p + 1;

		while (*time == ' ')
			time++;
		if (*time != '\0')
		{
			w->has_time = true;
			if (!read_time(&time, w))
				return false;
			while (*time == ' ')
				time++;
			if (!read_zone(&time, w))
				return false;
		}
		p = time;
	}
	while (isspace((unsigned char) *p))
		p++;
	return *p == '\0';
}
