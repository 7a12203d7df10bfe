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

static Statement select_account = {
	"select regulation, calendar, time_zone, known_from, known_until, loading"
	" from regcrm.account where id = $1",
	1, {INT8OID}
};
static Statement select_feeds = {
	"select feed, since from regcrm.feed where account_id = $1",
	1, {INT8OID}
};
static Statement select_outsiders = {
	"select id from regcrm.manager where account_id = $1 and not in_scope order by id",
	1, {INT8OID}
};

/* Since when each feed is connected (DESIGN section 3, feed). */
static void
read_feeds(Account *account)
{
	static const char *const names[] = {"calls", "messages", "tasks", "comments"};
	const Regulation *regulation = account->regulation->compiled;
	Datum		arg = Int64GetDatum(account->id);
	bool		all;
	int			scenario = rules_field(regulation, "scenario", 8);

	StaticAssertStmt(lengthof(names) == FEED_FIRST_FIELD, "feeds have names");
	statement_run(&select_feeds, &arg);
	all = SPI_processed == 0;
	account->nfeeds = FEED_FIRST_FIELD + regulation->nfields;
	account->feed_since = palloc(account->nfeeds * sizeof(instant));
	for (int i = 0; i < account->nfeeds; i++)
		account->feed_since[i] = all ? INSTANT_EVER : INSTANT_NEVER;
	if (!account->synced && scenario >= 0)
		account->feed_since[FEED_FIRST_FIELD + scenario] = INSTANT_EVER;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		char	   *name = SPI_getvalue(tuple, SPI_tuptable->tupdesc, 1);
		bool		isnull;
		Datum		since = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull);
		int			number = NO_NUMBER;

		if (strncmp(name, "field:", 6) == 0)
		{
			number = rules_field(regulation, name + 6, strlen(name + 6));
			if (number >= 0)
				number += FEED_FIRST_FIELD;
		}
		else
			for (int k = 0; k < lengthof(names); k++)
				if (strcmp(name, names[k]) == 0)
					number = k;
		if (number >= 0)
			account->feed_since[number] = isnull ? INSTANT_EVER : DatumGetTimestampTz(since);
	}
	SPI_freetuptable(SPI_tuptable);
}

/*
 * Managers whom the regulation does not bind, few enough to be kept as a list.
 */
static void
read_outsiders(Account *account)
{
	Datum		arg = Int64GetDatum(account->id);

	statement_run(&select_outsiders, &arg);
	account->noutsiders = (int) SPI_processed;
	account->outsiders = palloc((SPI_processed + 1) * sizeof(int64));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		account->outsiders[i] =
			DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
}

/* under NULL = the account's own regulation. */
static Account *
read_account(int64 id, const char *under)
{
	Datum		arg = Int64GetDatum(id);
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
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;

	account = palloc0(sizeof(Account));
	account->id = id;
	regulation = SPI_getvalue(tuple, desc, 1);
	calendar = SPI_getvalue(tuple, desc, 2);
	zone = SPI_getvalue(tuple, desc, 3);
	at = SPI_getbinval(tuple, desc, 4, &isnull);
	account->known_from = isnull ? INSTANT_EVER : DatumGetTimestampTz(at);
	at = SPI_getbinval(tuple, desc, 5, &isnull);
	account->synced = !isnull;
	account->known_until = isnull ? INSTANT_NEVER : DatumGetTimestampTz(at);
	account->loading = DatumGetBool(SPI_getbinval(tuple, desc, 6, &isnull)) && !isnull;
	SPI_freetuptable(SPI_tuptable);
	account->regulation = regulation_get(under ? under : regulation);
	account->calendar = workhours_get(calendar, zone);
	account->zone = field_zone(zone);
	read_feeds(account);
	read_outsiders(account);
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
