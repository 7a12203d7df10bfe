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

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "account.h"
#include "fields.h"
#include "keyread.h"
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

/* The same by keys, where that is possible. */
static KeyTable account_keys = {
	.name = "account",.keys = {"id"},.ncolumns = ACCOUNT_LOADING,
	.columns = {
		{"regulation", TEXTOID}, {"calendar", TEXTOID}, {"time_zone", TEXTOID},
		{"known_from", TIMESTAMPTZOID}, {"known_until", TIMESTAMPTZOID}, {"loading", BOOLOID}
	}
};
static KeyTable feed_keys = {
	.name = "feed",.keys = {"account_id"},.ncolumns = 2,
	.columns = {{"feed", TEXTOID}, {"since", TIMESTAMPTZOID}}
};
static KeyTable manager_keys = {
	.name = "manager",.keys = {"account_id"},.ncolumns = 2,
	.columns = {{"id", INT8OID}, {"in_scope", BOOLOID}}
};

/* What is stored of an account. */
typedef struct AccountRow
{
	char	   *regulation;
	char	   *calendar;
	char	   *zone;
	instant		known_from;		/* INSTANT_EVER = null */
	bool		synced;
	instant		known_until;	/* INSTANT_NEVER = null */
	bool		loading;
	int			nfeeds;
	char	  **feeds;
	instant    *since;			/* INSTANT_EVER = null */
	int			noutsiders;
	int64	   *outsiders;		/* in order */
} AccountRow;

static char *
text_or_null(Datum value, bool isnull)
{
	return isnull ? NULL : TextDatumGetCString(value);
}

/* The columns of account, in the order of both enumerations above. */
static void
take_columns(AccountRow *row, const Datum *values, const bool *nulls)
{
	row->regulation = text_or_null(values[0], nulls[0]);
	row->calendar = text_or_null(values[1], nulls[1]);
	row->zone = text_or_null(values[2], nulls[2]);
	row->known_from = nulls[3] ? INSTANT_EVER : DatumGetTimestampTz(values[3]);
	row->synced = !nulls[4];
	row->known_until = nulls[4] ? INSTANT_NEVER : DatumGetTimestampTz(values[4]);
	row->loading = !nulls[5] && DatumGetBool(values[5]);
}

/* The elements of an array column of the row read; none where it is null. */
static int
elements_at(Datum array, bool isnull, Oid type, Datum **elements, bool **nulls)
{
	int			n = 0;

	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(array), type, type == TEXTOID ? -1 : sizeof(int64),
						  type != TEXTOID, type == TEXTOID ? TYPALIGN_INT : TYPALIGN_DOUBLE,
						  elements, nulls, &n);
	return n;
}

/* Whether there is such an account. */
static bool
row_by_sql(int64 id, AccountRow *row)
{
	Datum		arg = Int64GetDatum(id);
	Datum		values[ACCOUNT_OUTSIDERS];
	bool		nulls[ACCOUNT_OUTSIDERS];
	Datum	   *feeds;
	Datum	   *since;
	Datum	   *ids;
	bool	   *is_null;

	statement_run(&select_account, &arg);
	if (SPI_processed == 0)
	{
		SPI_freetuptable(SPI_tuptable);
		return false;
	}
	heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, values, nulls);
	take_columns(row, values, nulls);

	row->nfeeds = elements_at(values[ACCOUNT_FEEDS - 1], nulls[ACCOUNT_FEEDS - 1], TEXTOID, &feeds, &is_null);
	(void) elements_at(values[ACCOUNT_SINCE - 1], nulls[ACCOUNT_SINCE - 1], TIMESTAMPTZOID, &since, &is_null);
	row->feeds = palloc((row->nfeeds + 1) * sizeof(char *));
	row->since = palloc((row->nfeeds + 1) * sizeof(instant));
	for (int i = 0; i < row->nfeeds; i++)
	{
		row->feeds[i] = TextDatumGetCString(feeds[i]);
		row->since[i] = is_null[i] ? INSTANT_EVER : DatumGetTimestampTz(since[i]);
	}
	row->noutsiders = elements_at(values[ACCOUNT_OUTSIDERS - 1], nulls[ACCOUNT_OUTSIDERS - 1], INT8OID, &ids, &is_null);
	row->outsiders = palloc((row->noutsiders + 1) * sizeof(int64));
	for (int i = 0; i < row->noutsiders; i++)
		row->outsiders[i] = DatumGetInt64(ids[i]);
	SPI_freetuptable(SPI_tuptable);
	return true;
}

static int
compare_numbers(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

static void
feeds_by_key(KeyReader *reader, AccountRow *row)
{
	Datum		values[2];
	bool		nulls[2];
	int			room = 16;

	row->feeds = palloc(room * sizeof(char *));
	row->since = palloc(room * sizeof(instant));
	while (keyread_next(reader, values, nulls))
	{
		if (row->nfeeds == room)
		{
			room *= 2;
			row->feeds = repalloc(row->feeds, room * sizeof(char *));
			row->since = repalloc(row->since, room * sizeof(instant));
		}
		row->feeds[row->nfeeds] = TextDatumGetCString(values[0]);
		row->since[row->nfeeds++] = nulls[1] ? INSTANT_EVER : DatumGetTimestampTz(values[1]);
	}
}

static void
outsiders_by_key(KeyReader *reader, AccountRow *row)
{
	Datum		values[2];
	bool		nulls[2];
	int			room = 16;

	row->outsiders = palloc(room * sizeof(int64));
	while (keyread_next(reader, values, nulls))
	{
		if (nulls[1] || DatumGetBool(values[1]))
			continue;
		if (row->noutsiders == room)
		{
			room *= 2;
			row->outsiders = repalloc(row->outsiders, room * sizeof(int64));
		}
		row->outsiders[row->noutsiders++] = DatumGetInt64(values[0]);
	}
	qsort(row->outsiders, row->noutsiders, sizeof(int64), compare_numbers);
}

/* Opens the rows of an account; NULL = by SQL. */
static KeyReader *
seek(KeyTable *table, int64 id)
{
	KeyReader  *reader = keyread_open(table);

	if (reader != NULL)
		keyread_seek(reader, id, 0);
	return reader;
}

/* False where it is to be asked by SQL; *there says whether there is such an account. */
static bool
row_by_key(int64 id, AccountRow *row, bool *there)
{
	KeyReader  *account = seek(&account_keys, id);
	KeyReader  *feeds = account ? seek(&feed_keys, id) : NULL;
	KeyReader  *managers = feeds ? seek(&manager_keys, id) : NULL;
	Datum		values[ACCOUNT_LOADING];
	bool		nulls[ACCOUNT_LOADING];

	if (managers != NULL)
	{
		*there = keyread_next(account, values, nulls);
		if (*there)
		{
			take_columns(row, values, nulls);
			feeds_by_key(feeds, row);
			outsiders_by_key(managers, row);
		}
		keyread_close(managers);
	}
	if (feeds != NULL)
		keyread_close(feeds);
	if (account != NULL)
		keyread_close(account);
	return managers != NULL;
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
read_feeds(Account *account, const AccountRow *row)
{
	const Regulation *regulation = account->regulation->compiled;
	int			scenario = rules_field(regulation, "scenario", 8);

	account->nfeeds = FEED_FIRST_FIELD + regulation->nfields;
	account->feed_since = palloc(account->nfeeds * sizeof(instant));
	for (int i = 0; i < account->nfeeds; i++)
		account->feed_since[i] = row->nfeeds == 0 ? INSTANT_EVER : INSTANT_NEVER;
	if (!account->synced && scenario >= 0)
		account->feed_since[FEED_FIRST_FIELD + scenario] = INSTANT_EVER;
	for (int i = 0; i < row->nfeeds; i++)
	{
		int			number = feed_number(regulation, row->feeds[i]);

		if (number != NO_NUMBER)
			account->feed_since[number] = row->since[i];
	}
}

/* under NULL = the account's own regulation. */
static Account *
read_account(int64 id, const char *under)
{
	AccountRow	row = {0};
	Account    *account;
	bool		there;

	if (!row_by_key(id, &row, &there))
		there = row_by_sql(id, &row);
	if (!there)
		return NULL;
	account = palloc0(sizeof(Account));
	account->id = id;
	account->known_from = row.known_from;
	account->synced = row.synced;
	account->known_until = row.known_until;
	account->loading = row.loading;
	account->regulation = regulation_get(under ? under : row.regulation);
	account->calendar = workhours_get(row.calendar, row.zone);
	account->zone = field_zone(row.zone);
	read_feeds(account, &row);
	/* managers whom the regulation does not bind, few enough to be kept as a list */
	account->noutsiders = row.noutsiders;
	account->outsiders = row.outsiders;
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
