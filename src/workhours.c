/*-------------------------------------------------------------------------
 *
 * workhours.c
 *	  Calendars out of their tables and zones, and business time in SQL.
 *
 * A calendar is rows: regcrm.calendar (its name and zone), calendar_week (the
 * hours of weekdays, from a date on), calendar_day (days that are not as their
 * weekday).  calendar.c flattens them, for one zone, into a list of working
 * spans over the years of WORKHOURS_FIRST_YEAR to WORKHOURS_LAST_YEAR; that
 * takes about a millisecond and half a megabyte, so it is done when a calendar
 * is first asked for, and kept for the backend by (calendar, zone).
 *
 * What is kept goes when one of the three tables sends a relcache invalidation,
 * which an always enabled statement trigger on each of them does.  It goes in
 * two steps, because a caller may be in the middle of using it: from then on
 * nobody is given it ("retired"), and the end of the transaction frees it.
 *
 * The offsets of a zone come from the server's own zone code, so that a local
 * time here is what AT TIME ZONE says.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/int.h"
#include "datatype/timestamp.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "regcrm.h"
#include "rowscan.h"
#include "workhours.h"

/* More than any sane session asks for; the oldest makes room. */
#define KEPT_CALENDARS	64

/* How many calendars a hint lists. */
#define SHOWN_CALENDARS 50

/* Days from 2000-01-01 to the first and after the last day of the years. */
#define FIRST_DAY	(date2j(WORKHOURS_FIRST_YEAR, 1, 1) - POSTGRES_EPOCH_JDATE)
#define END_DAY		(date2j(WORKHOURS_LAST_YEAR + 1, 1, 1) - POSTGRES_EPOCH_JDATE)

/* A calendar laid out. */
typedef struct Workhours
{
	struct Workhours *next;
	MemoryContext context;		/* holds this and all below */
	char	   *name;
	char	   *zone;			/* as the caller gave it */
	Calendar   *calendar;
} Workhours;

/* A row of calendar_week or calendar_day. */
typedef struct HoursRow
{
	int			day;			/* day, or from_date */
	int			weekday;		/* 0 = Monday; not of calendar_day */
	DaySpan		span;			/* from = to: a holiday */
} HoursRow;

typedef struct HoursRows
{
	int			nrows;
	int			room;
	HoursRow   *rows;
} HoursRows;

/* What a call site of the SQL functions remembers from row to row. */
typedef struct CallSite
{
	uint64		generation;
	char	   *name;
	char	   *zone;
	const Calendar *calendar;
} CallSite;

static Workhours *kept;			/* newest first */
static Workhours *retired;

/* Number of times that something kept was given up; CallSite compares it. */
static uint64 generation = 1;

/* Set by the relcache callback; looked at when a calendar is asked for. */
static bool kept_valid;
static Oid	kept_relids[3];

static void calendar_changed(Datum arg, Oid relid);
static void transaction_ends(XactEvent event, void *arg);
static void retire_all(void);
static void retire_oldest(void);
static Workhours *lay_out(const char *name, const char *time_zone);
static char *read_calendar(const char *name);
static void read_week(const char *name, HoursRows *rows);
static void read_days(const char *name, HoursRows *rows);
static Relation open_table(int number, const char *table);
static void add_row(HoursRows *rows, HoursRow row);
static int	compare_rows(const void *a, const void *b);
static void make_patterns(HoursRows *rows, CalendarSource *source);
static void make_exceptions(HoursRows *rows, CalendarSource *source);
static void make_transitions(const char *zone, CalendarSource *source);
static void *grow(void *self, void *old, size_t size);
static const char *session_zone(void);
static const Calendar *calendar_argument(FunctionCallInfo fcinfo, int number);
static int64 duration_argument(Interval *interval);
static void check_laid_out(TimestampTz at);

PG_FUNCTION_INFO_V1(regcrm_add_business_time);
PG_FUNCTION_INFO_V1(regcrm_business_time_between);

void
workhours_init(void)
{
	CacheRegisterRelcacheCallback(calendar_changed, (Datum) 0);
	RegisterXactCallback(transaction_ends, NULL);
}

const Calendar *
workhours_get(const char *calendar, const char *time_zone)
{
	Workhours  *found;
	int			n = 0;

	if (calendar == NULL)
		return NULL;
	if (time_zone == NULL)
		time_zone = WORKHOURS_ZONE;

	if (!kept_valid)
		retire_all();
	for (found = kept; found != NULL; found = found->next)
	{
		if (strcmp(found->name, calendar) == 0 &&
			strcmp(found->zone, time_zone) == 0)
			return found->calendar;
		n++;
	}
	if (n >= KEPT_CALENDARS)
		retire_oldest();

	/*
	 * An invalidation that comes while the rows are being read clears the
	 * flag: then what was read is good for this transaction only.
	 */
	kept_valid = true;
	found = lay_out(calendar, time_zone);
	MemoryContextSetParent(found->context, CacheMemoryContext);
	found->next = kept;
	kept = found;
	return found->calendar;
}

/* ---------- SQL functions ---------- */

/*
 * add_business_time(timestamptz, interval, calendar text, time_zone text)
 */
Datum
regcrm_add_business_time(PG_FUNCTION_ARGS)
{
	TimestampTz at;
	Interval   *interval;
	int64		duration;
	const Calendar *calendar;
	instant		result;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	at = PG_GETARG_TIMESTAMPTZ(0);
	interval = PG_GETARG_INTERVAL_P(1);
	calendar = calendar_argument(fcinfo, 2);

	if (compat_interval_is_infinite(interval))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("cannot add infinite business time")));
	duration = duration_argument(interval);

	/* Endless stays endless, as with the operator +. */
	if (TIMESTAMP_NOT_FINITE(at))
		PG_RETURN_TIMESTAMPTZ(at);

	if (calendar != NULL)
		check_laid_out(at);
	result = calendar_add(calendar, at, duration);
	if (calendar != NULL)
		check_laid_out(result);
	else if (!IS_VALID_TIMESTAMP(result))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	PG_RETURN_TIMESTAMPTZ(result);
}

/*
 * business_time_between(timestamptz, timestamptz, calendar text, time_zone text)
 *
 * The answer has hours and no days, since a day of work is not a day.
 */
Datum
regcrm_business_time_between(PG_FUNCTION_ARGS)
{
	TimestampTz from;
	TimestampTz to;
	const Calendar *calendar;
	Interval   *result;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	from = PG_GETARG_TIMESTAMPTZ(0);
	to = PG_GETARG_TIMESTAMPTZ(1);
	calendar = calendar_argument(fcinfo, 2);

	if (TIMESTAMP_NOT_FINITE(from) || TIMESTAMP_NOT_FINITE(to))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("cannot measure business time to or from an infinite timestamp")));
	if (calendar != NULL)
	{
		check_laid_out(from);
		check_laid_out(to);
	}

	result = palloc0(sizeof(Interval));
	result->time = calendar_between(calendar, from, to);
	PG_RETURN_INTERVAL_P(result);
}

/*
 * The calendar named by arguments number and number + 1.  Most calls of a
 * query name the same one, so the call site remembers it.
 */
static const Calendar *
calendar_argument(FunctionCallInfo fcinfo, int number)
{
	CallSite   *site = fcinfo->flinfo->fn_extra;
	const char *zone;
	char	   *name;

	if (PG_ARGISNULL(number))
		return NULL;
	name = text_to_cstring(PG_GETARG_TEXT_PP(number));
	zone = PG_ARGISNULL(number + 1) ? session_zone() :
		text_to_cstring(PG_GETARG_TEXT_PP(number + 1));

	if (site != NULL && kept_valid && site->generation == generation &&
		strcmp(site->name, name) == 0 && strcmp(site->zone, zone) == 0)
		return site->calendar;

	if (site == NULL)
		site = fcinfo->flinfo->fn_extra =
			MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(CallSite));
	site->generation = 0;
	if (site->name)
		pfree(site->name);
	if (site->zone)
		pfree(site->zone);
	site->name = MemoryContextStrdup(fcinfo->flinfo->fn_mcxt, name);
	site->zone = MemoryContextStrdup(fcinfo->flinfo->fn_mcxt, zone);
	site->calendar = workhours_get(name, zone);
	site->generation = generation;
	return site->calendar;
}

static int64
duration_argument(Interval *interval)
{
	int64		days;
	int64		duration;

	if (interval->month != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("business time cannot be counted in months or years"),
				 errhint("Give hours, or days of 24 hours of work each.")));
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &days) ||
		pg_add_s64_overflow(days, interval->time, &duration))
		ereport(ERROR,
				(errcode(ERRCODE_INTERVAL_FIELD_OVERFLOW),
				 errmsg("interval out of range")));
	return duration;
}

static void
check_laid_out(TimestampTz at)
{
	if (at < (int64) FIRST_DAY * USECS_PER_DAY || at >= (int64) END_DAY * USECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("business time is known for the years %d to %d only",
						WORKHOURS_FIRST_YEAR, WORKHOURS_LAST_YEAR),
				 errdetail("The timestamp, or the one looked for, lies outside of them.")));
}

/*
 * The zone of the session's account: of regcrm.account_id where that is set,
 * else of the only account there is; WORKHOURS_ZONE where neither tells.
 *
 * Account rows change without any invalidation, so the answer is kept only
 * while nothing can have changed that this statement should see.
 */
static const char *
session_zone(void)
{
	static char zone[TZ_STRLEN_MAX + 1];
	static TimestampTz at_statement;
	static TimestampTz at_transaction;
	static CommandId at_command;
	static bool for_one;
	static int64 for_account;

	int64		wanted = 0;
	bool		one = regcrm_account_id(&wanted);
	int			nfound = 0;
	const char *found;
	Relation	rel;

	if (zone[0] != '\0' &&
		at_transaction == GetCurrentTransactionStartTimestamp() &&
		at_statement == GetCurrentStatementStartTimestamp() &&
		at_command == GetCurrentCommandId(false) &&
		for_one == one && for_account == wanted)
		return zone;

	found = WORKHOURS_ZONE;
	rel = rowscan_open("account");
	if (rel != NULL)
	{
		AttrNumber	id = rowscan_column(rel, "id", INT8OID, InvalidOid);
		AttrNumber	time_zone = rowscan_column(rel, "time_zone", TEXTOID, InvalidOid);
		SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
		HeapTuple	tuple;

		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			bool		isnull;
			Datum		value = heap_getattr(tuple, id, RelationGetDescr(rel), &isnull);

			if (isnull || (one && DatumGetInt64(value) != wanted))
				continue;
			if (++nfound > 1)
			{
				/* Several, and none is said to be meant. */
				found = WORKHOURS_ZONE;
				break;
			}
			value = heap_getattr(tuple, time_zone, RelationGetDescr(rel), &isnull);
			if (!isnull)
				found = TextDatumGetCString(value);
		}
		systable_endscan(scan);
		table_close(rel, AccessShareLock);
	}

	strlcpy(zone, found, sizeof(zone));
	at_transaction = GetCurrentTransactionStartTimestamp();
	at_statement = GetCurrentStatementStartTimestamp();
	at_command = GetCurrentCommandId(false);
	for_one = one;
	for_account = wanted;
	return zone;
}

/* ---------- what is kept ---------- */

/* Relcache callback; InvalidOid stands for everything. */
static void
calendar_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == kept_relids[0] ||
		relid == kept_relids[1] || relid == kept_relids[2])
		kept_valid = false;
}

/* Frees what was retired, once nobody can be using it. */
static void
transaction_ends(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			while (retired != NULL)
			{
				Workhours  *next = retired->next;

				MemoryContextDelete(retired->context);
				retired = next;
			}
			break;
		default:
			break;
	}
}

static void
retire_all(void)
{
	while (kept != NULL)
	{
		Workhours  *next = kept->next;

		kept->next = retired;
		retired = kept;
		kept = next;
	}
	generation++;
}

static void
retire_oldest(void)
{
	Workhours **last = &kept;

	while ((*last)->next != NULL)
		last = &(*last)->next;
	(*last)->next = retired;
	retired = *last;
	*last = NULL;
	generation++;
}

/* ---------- laying out ---------- */

/*
 * Reads a calendar and lays it out, in a context of its own below the current
 * one, so that an error on the way leaves nothing behind.
 */
static Workhours *
lay_out(const char *name, const char *time_zone)
{
	MemoryContext context;
	MemoryContext working;
	MemoryContext before;
	Workhours  *result;
	Memory		memory;
	HoursRows	week = {0};
	HoursRows	days = {0};
	CalendarSource source = {0};
	char	   *own_zone;

	context = AllocSetContextCreate(CurrentMemoryContext, "regcrm calendar",
									ALLOCSET_SMALL_SIZES);
	working = AllocSetContextCreate(CurrentMemoryContext, "regcrm calendar source",
									ALLOCSET_DEFAULT_SIZES);

	before = MemoryContextSwitchTo(working);
	own_zone = read_calendar(name);
	read_week(name, &week);
	read_days(name, &days);
	make_patterns(&week, &source);
	make_exceptions(&days, &source);
	make_transitions(own_zone != NULL ? own_zone : time_zone, &source);

	/* A day more at either end: the years are those of UTC. */
	source.first_day = FIRST_DAY - 1;
	source.last_day = END_DAY;

	MemoryContextSwitchTo(context);
	result = palloc0(sizeof(Workhours));
	result->context = context;
	result->name = pstrdup(name);
	result->zone = pstrdup(time_zone);
	memory.grow = grow;
	memory.self = context;
	result->calendar = calendar_build(&source, &memory);
	MemoryContextSwitchTo(before);
	MemoryContextDelete(working);

	if (result->calendar == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("calendar \"%s\" has no working time", name),
				 errdetail("No duration could ever pass in it."),
				 errhint("Add its hours to regcrm.calendar_week.")));
	return result;
}

static void *
grow(void *self, void *old, size_t size)
{
	if (old == NULL)
		return MemoryContextAlloc(self, size);
	return repalloc(old, size);
}

/* The calendar's own zone, NULL where it has none. */
static char *
read_calendar(const char *name)
{
	Relation	rel = open_table(0, "calendar");
	AttrNumber	column = rowscan_column(rel, "name", TEXTOID, InvalidOid);
	AttrNumber	time_zone = rowscan_column(rel, "time_zone", TEXTOID, InvalidOid);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;
	bool		found = false;
	int			nknown = 0;
	char	   *zone = NULL;
	StringInfoData known;

	initStringInfo(&known);
	while (!found && HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, column, RelationGetDescr(rel), &isnull);
		char	   *this;

		if (isnull)
			continue;
		this = TextDatumGetCString(value);
		if (strcmp(this, name) == 0)
		{
			found = true;
			value = heap_getattr(tuple, time_zone, RelationGetDescr(rel), &isnull);
			if (!isnull)
				zone = TextDatumGetCString(value);
		}
		else if (nknown++ < SHOWN_CALENDARS)
			appendStringInfo(&known, "%s\"%s\"", known.len > 0 ? ", " : "", this);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("calendar \"%s\" does not exist", name),
				 nknown > 0 ? errhint("Known calendars are %s%s.", known.data,
									  nknown > SHOWN_CALENDARS ? " and more" : "") :
				 errhint("Add it to regcrm.calendar, and its hours to regcrm.calendar_week.")));
	return zone;
}

static void
read_week(const char *name, HoursRows *rows)
{
	Relation	rel = open_table(1, "calendar_week");
	TupleDesc	desc = RelationGetDescr(rel);
	AttrNumber	calendar = rowscan_column(rel, "calendar", TEXTOID, InvalidOid);
	AttrNumber	from_date = rowscan_column(rel, "from_date", DATEOID, InvalidOid);
	AttrNumber	weekday = rowscan_column(rel, "weekday", INT4OID, INT2OID);
	AttrNumber	opens = rowscan_column(rel, "opens", TIMEOID, InvalidOid);
	AttrNumber	closes = rowscan_column(rel, "closes", TIMEOID, InvalidOid);
	bool		short_weekday = TupleDescAttr(desc, weekday - 1)->atttypid == INT2OID;
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[5];
		bool		nulls[5];
		HoursRow	row;

		values[0] = heap_getattr(tuple, calendar, desc, &nulls[0]);
		if (nulls[0] || strcmp(TextDatumGetCString(values[0]), name) != 0)
			continue;
		values[1] = heap_getattr(tuple, from_date, desc, &nulls[1]);
		values[2] = heap_getattr(tuple, weekday, desc, &nulls[2]);
		values[3] = heap_getattr(tuple, opens, desc, &nulls[3]);
		values[4] = heap_getattr(tuple, closes, desc, &nulls[4]);
		if (nulls[1] || nulls[2] || nulls[3] || nulls[4])
			continue;			/* the table's own constraints refuse it */

		/* -infinity is INT_MIN, as WeekPattern wants it; infinity never begins. */
		row.day = DatumGetDateADT(values[1]);
		row.weekday = (short_weekday ? DatumGetInt16(values[2]) :
					   DatumGetInt32(values[2])) - 1;
		row.span.from = DatumGetTimeADT(values[3]);
		row.span.to = DatumGetTimeADT(values[4]);
		if (row.weekday >= 0 && row.weekday < 7)
			add_row(rows, row);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
read_days(const char *name, HoursRows *rows)
{
	Relation	rel = open_table(2, "calendar_day");
	TupleDesc	desc = RelationGetDescr(rel);
	AttrNumber	calendar = rowscan_column(rel, "calendar", TEXTOID, InvalidOid);
	AttrNumber	day = rowscan_column(rel, "day", DATEOID, InvalidOid);
	AttrNumber	opens = rowscan_column(rel, "opens", TIMEOID, InvalidOid);
	AttrNumber	closes = rowscan_column(rel, "closes", TIMEOID, InvalidOid);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Datum		values[4];
		bool		nulls[4];
		HoursRow	row = {0};

		values[0] = heap_getattr(tuple, calendar, desc, &nulls[0]);
		if (nulls[0] || strcmp(TextDatumGetCString(values[0]), name) != 0)
			continue;
		values[1] = heap_getattr(tuple, day, desc, &nulls[1]);
		values[2] = heap_getattr(tuple, opens, desc, &nulls[2]);
		values[3] = heap_getattr(tuple, closes, desc, &nulls[3]);
		if (nulls[1] || DATE_NOT_FINITE(DatumGetDateADT(values[1])))
			continue;			/* the table's own constraints refuse it */

		row.day = DatumGetDateADT(values[1]);
		if (!nulls[2] && !nulls[3])
		{
			row.span.from = DatumGetTimeADT(values[2]);
			row.span.to = DatumGetTimeADT(values[3]);
		}
		add_row(rows, row);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

/* Opens one of the three tables, and listens to its invalidations. */
static Relation
open_table(int number, const char *table)
{
	Relation	rel = rowscan_open(table);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not exist", REGCRM_SCHEMA, table),
				 errhint("Run SELECT regcrm.setup().")));
	kept_relids[number] = RelationGetRelid(rel);
	return rel;
}

static void
add_row(HoursRows *rows, HoursRow row)
{
	if (rows->nrows == rows->room)
	{
		rows->room = rows->room > 0 ? rows->room * 2 : 64;
		rows->rows = rows->rows == NULL ?
			palloc(rows->room * sizeof(HoursRow)) :
			repalloc(rows->rows, rows->room * sizeof(HoursRow));
	}
	rows->rows[rows->nrows++] = row;
}

static int
compare_rows(const void *a, const void *b)
{
	const HoursRow *left = a;
	const HoursRow *right = b;

	if (left->day != right->day)
		return left->day < right->day ? -1 : 1;
	if (left->weekday != right->weekday)
		return left->weekday < right->weekday ? -1 : 1;
	if (left->span.from != right->span.from)
		return left->span.from < right->span.from ? -1 : 1;
	return 0;
}

/* Rows of one from_date are a week. */
static void
make_patterns(HoursRows *rows, CalendarSource *source)
{
	WeekPattern *patterns = palloc0(Max(rows->nrows, 1) * sizeof(WeekPattern));
	DaySpan    *spans = palloc(Max(rows->nrows, 1) * sizeof(DaySpan));

	if (rows->nrows > 0)
		qsort(rows->rows, rows->nrows, sizeof(HoursRow), compare_rows);
	for (int i = 0; i < rows->nrows; i++)
	{
		const HoursRow *row = &rows->rows[i];
		WeekPattern *pattern;

		if (i == 0 || row->day != rows->rows[i - 1].day)
			patterns[source->npatterns++].first_day = row->day;
		pattern = &patterns[source->npatterns - 1];
		spans[i] = row->span;
		if (pattern->nspans[row->weekday]++ == 0)
			pattern->spans[row->weekday] = &spans[i];
	}
	source->patterns = patterns;
}

/* Rows of one day are its hours; one without hours makes it a holiday. */
static void
make_exceptions(HoursRows *rows, CalendarSource *source)
{
	DayException *exceptions = palloc0(Max(rows->nrows, 1) * sizeof(DayException));
	DaySpan    *spans = palloc(Max(rows->nrows, 1) * sizeof(DaySpan));
	int			nspans = 0;

	if (rows->nrows > 0)
		qsort(rows->rows, rows->nrows, sizeof(HoursRow), compare_rows);
	for (int i = 0; i < rows->nrows; i++)
	{
		const HoursRow *row = &rows->rows[i];
		DayException *exception;

		if (i == 0 || row->day != rows->rows[i - 1].day)
			exceptions[source->nexceptions++].day = row->day;
		exception = &exceptions[source->nexceptions - 1];
		if (row->span.from == row->span.to)
			continue;
		spans[nspans] = row->span;
		if (exception->nspans++ == 0)
			exception->spans = &spans[nspans];
		nspans++;
	}
	source->exceptions = exceptions;
}

static void
make_transitions(const char *zone, CalendarSource *source)
{
	pg_tz	   *tz = pg_tzset(zone);
	ZoneTransition *transitions;
	int			n = 0;
	int			room = 64;
	pg_time_t	at;
	pg_time_t	end;

	if (tz == NULL || !pg_tz_acceptable(tz))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time zone \"%s\" not recognized", zone),
				 errhint("Give a name as in pg_timezone_names, such as %s.",
						 WORKHOURS_ZONE)));

	/* Unix time of the day before the first one laid out. */
	at = ((pg_time_t) FIRST_DAY - 2 + POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	end = ((pg_time_t) END_DAY + 2 + POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;

	transitions = palloc(room * sizeof(ZoneTransition));
	transitions[n].at = INSTANT_EVER;
	transitions[n].offset = 0;
	n++;

	while (at < end)
	{
		long		offset_before;
		long		offset_after;
		int			dst_before;
		int			dst_after;
		pg_time_t	boundary;
		int			found = pg_next_dst_boundary(&at, &offset_before, &dst_before,
												 &boundary, &offset_after,
												 &dst_after, tz);

		if (found < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("time zone \"%s\" cannot be laid out", zone)));
		if (n == 1 && transitions[0].at == INSTANT_EVER)
			transitions[0].offset = (int64) offset_before * USECS_PER_SEC;
		if (found == 0 || boundary >= end)
			break;

		if (n == room)
		{
			room *= 2;
			transitions = repalloc(transitions, room * sizeof(ZoneTransition));
		}
		transitions[n].at = ((int64) boundary -
							 (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC;
		transitions[n].offset = (int64) offset_after * USECS_PER_SEC;
		n++;
		at = boundary;
	}
	source->ntransitions = n;
	source->transitions = transitions;
}
