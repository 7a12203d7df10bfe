/*-------------------------------------------------------------------------
 *
 * account.c
 *	  What judging needs to know of an account.
 *
 * Read anew for each transaction that judges: these are three small look-ups
 * beside the facts, and then nothing can be stale.
 *
 * Feeds (DESIGN section 3): an account without any row in feed has all of
 * them, always; that is how SQL makes accounts.  Where there are rows, they
 * tell what is connected.  One exception: SQL may write an event of kind
 * scenario by itself, so an account that is not synced needs no field for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "account.h"
#include "fields.h"
#include "tables.h"
#include "workhours.h"

/* One look-up: a statement costs more than its rows (hazards, style section 12). */
static Statement select_account = {
	"select a.regulation, a.calendar, a.time_zone, a.known_from, a.known_until, a.loading,"
	" (select array_agg(f.feed order by f.feed) from regcrm.feed f where f.account_id = a.id),"
	" (select array_agg(f.since order by f.feed) from regcrm.feed f where f.account_id = a.id),"
	" (select array_agg(m.id order by m.id) from regcrm.manager m"
	" where m.account_id = a.id and not m.in_scope)"
	" from regcrm.account a where a.id = $1",
	1, {INT8OID}
};

enum
{
	ACCOUNT_REGULATION = 1, ACCOUNT_CALENDAR, ACCOUNT_TIME_ZONE, ACCOUNT_KNOWN_FROM,
	ACCOUNT_KNOWN_UNTIL, ACCOUNT_LOADING, ACCOUNT_FEEDS, ACCOUNT_SINCE, ACCOUNT_OUTSIDERS
};

/* The elements of an array column of the row read; none where it is null. */
static int
elements_at(const SPITupleTable *row, int column, Oid type, Datum **elements, bool **nulls)
{
	bool		isnull;
	Datum		array = SPI_getbinval(row->vals[0], row->tupdesc, column, &isnull);
	int			n = 0;

	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(array), type, type == TEXTOID ? -1 : sizeof(int64),
						  type != TEXTOID, type == TEXTOID ? TYPALIGN_INT : TYPALIGN_DOUBLE,
						  elements, nulls, &n);
	return n;
}

/* The number of a feed by its name; NO_NUMBER where no rule asks for it. */
static int
feed_number(const Regulation *regulation, const char *name)
{
	static const char *const names[] = {"calls", "messages", "tasks", "comments"};
	int			field;

	StaticAssertStmt(lengthof(names) == FEED_FIRST_FIELD, "feeds have names");
	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return i;
	if (strncmp(name, "field:", 6) != 0)
		return NO_NUMBER;
	field = rules_field(regulation, name + 6, strlen(name + 6));
	return field >= 0 ? FEED_FIRST_FIELD + field : NO_NUMBER;
}

/* Since when each feed is connected (DESIGN section 3, feed). */
static void
read_feeds(Account *account, const SPITupleTable *row)
{
	const Regulation *regulation = account->regulation->compiled;
	int			scenario = rules_field(regulation, "scenario", 8);
	Datum	   *feeds;
	Datum	   *since;
	bool	   *nulls;
	int			n = elements_at(row, ACCOUNT_FEEDS, TEXTOID, &feeds, &nulls);

	(void) elements_at(row, ACCOUNT_SINCE, TIMESTAMPTZOID, &since, &nulls);
	account->nfeeds = FEED_FIRST_FIELD + regulation->nfields;
	account->feed_since = palloc(account->nfeeds * sizeof(instant));
	for (int i = 0; i < account->nfeeds; i++)
		account->feed_since[i] = n == 0 ? INSTANT_EVER : INSTANT_NEVER;
	if (!account->synced && scenario >= 0)
		account->feed_since[FEED_FIRST_FIELD + scenario] = INSTANT_EVER;
	for (int i = 0; i < n; i++)
	{
		int			number = feed_number(regulation, TextDatumGetCString(feeds[i]));

		if (number != NO_NUMBER)
			account->feed_since[number] = nulls[i] ? INSTANT_EVER : DatumGetTimestampTz(since[i]);
	}
}

/*
 * Managers whom the regulation does not bind, few enough to be kept as a list.
 */
static void
read_outsiders(Account *account, const SPITupleTable *row)
{
	Datum	   *ids;
	bool	   *nulls;

	account->noutsiders = elements_at(row, ACCOUNT_OUTSIDERS, INT8OID, &ids, &nulls);
	account->outsiders = palloc((account->noutsiders + 1) * sizeof(int64));
	for (int i = 0; i < account->noutsiders; i++)
		account->outsiders[i] = DatumGetInt64(ids[i]);
}

/* under NULL = the account's own regulation. */
static Account *
read_account(int64 id, const char *under)
{
	Datum		arg = Int64GetDatum(id);
	SPITupleTable *row;
	HeapTuple	tuple;
	TupleDesc	desc;
	Account    *account;
	char	   *regulation;
	char	   *calendar;
	char	   *zone;
	bool		isnull;
	Datum		at;

	statement_run(&select_account, &arg);
	if (SPI_processed == 0)
	{
		SPI_freetuptable(SPI_tuptable);
		return NULL;
	}
	row = SPI_tuptable;			/* others run statements before we are through */
	tuple = row->vals[0];
	desc = row->tupdesc;

	account = palloc0(sizeof(Account));
	account->id = id;
	regulation = SPI_getvalue(tuple, desc, ACCOUNT_REGULATION);
	calendar = SPI_getvalue(tuple, desc, ACCOUNT_CALENDAR);
	zone = SPI_getvalue(tuple, desc, ACCOUNT_TIME_ZONE);
	at = SPI_getbinval(tuple, desc, ACCOUNT_KNOWN_FROM, &isnull);
	account->known_from = isnull ? INSTANT_EVER : DatumGetTimestampTz(at);
	at = SPI_getbinval(tuple, desc, ACCOUNT_KNOWN_UNTIL, &isnull);
	account->synced = !isnull;
	account->known_until = isnull ? INSTANT_NEVER : DatumGetTimestampTz(at);
	account->loading = DatumGetBool(SPI_getbinval(tuple, desc, ACCOUNT_LOADING, &isnull)) && !isnull;
	account->regulation = regulation_get(under ? under : regulation);
	account->calendar = workhours_get(calendar, zone);
	account->zone = field_zone(zone);
	read_feeds(account, row);
	read_outsiders(account, row);
	SPI_freetuptable(row);
	return account;
}

Account *
account_read(int64 id)
{
	return read_account(id, NULL);
}

Account *
account_get_under(int64 id, const char *regulation)
{
	Account    *account = read_account(id, regulation);

	if (account == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NO_DATA_FOUND),
				 errmsg("account " INT64_FORMAT " does not exist", id),
				 errhint("Accounts are rows of regcrm.account.")));
	return account;
}

Account *
account_get(int64 id)
{
	return account_get_under(id, NULL);
}

bool
account_is_outsider(const Account *account, int64 manager_id)
{
	int			low = 0;
	int			high = account->noutsiders;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (account->outsiders[middle] == manager_id)
			return true;
		if (account->outsiders[middle] < manager_id)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}
