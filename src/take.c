/*-------------------------------------------------------------------------
 *
 * take.c
 *	  Taking the rows of a page: into the tables, into quarantine, and note of
 *	  what they name and nobody has.
 *
 * A page that fails as a whole is taken row by row, so that what is bad of it
 * keeps nothing else back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "amocrm.h"
#include "sync_int.h"
#include "work.h"

typedef struct IngestStep
{
	int64		account_id;
	const char *entity;
	Jsonb	   *page;
	int64		quarantined;
} IngestStep;

static const char *
ingest_name(const Feed *feed)
{
	return feed->entity == NULL ? feed->name : feed->entity;
}

static void
step_ingest(void *arg)
{
	IngestStep *step = arg;
	const Oid	types[] = {INT8OID, TEXTOID, JSONBOID};
	Datum		values[3];
	char	   *text;

	values[0] = Int64GetDatum(step->account_id);
	values[1] = CStringGetTextDatum(step->entity);
	values[2] = JsonbPGetDatum(step->page);
	if (work_execute("SELECT i.taken, i.quarantined FROM regcrm.ingest($1, $2, $3) i",
					 3, types, values, NULL) > 0)
	{
		text = work_text(0, "quarantined");
		if (text != NULL)
			step->quarantined += strtoll(text, NULL, 10);
	}
	/* What the commit would raise, it shall raise here. */
	(void) work_execute("SET CONSTRAINTS ALL IMMEDIATE", 0, NULL, NULL, NULL);
}

static void
quarantine(int64 account_id, const char *entity, const char *bytes, size_t length,
		   const char *sqlstate, const char *error)
{
	const Oid	types[] = {INT8OID, TEXTOID, BYTEAOID, TEXTOID};
	Datum		values[4];
	bytea	   *body = palloc(VARHDRSZ + length);

	SET_VARSIZE(body, VARHDRSZ + length);
	memcpy(VARDATA(body), bytes, length);
	values[0] = Int64GetDatum(account_id);
	values[1] = CStringGetTextDatum(entity);
	values[2] = PointerGetDatum(body);
	values[3] = CStringGetTextDatum(psprintf("%s: %s", sqlstate, error));
	(void) work_execute("SELECT regcrm.quarantine_element($1, $2, $3, $4)", 4, types, values, NULL);
}

/*
 * Takes the elements of a page one by one, after the page as a whole made
 * ingest() fail: whatever is wrong with one of them must not keep the others
 * out.
 */
static void
ingest_singly(IngestStep *all, Jsonb *page, const char *key, const ErrorData *why)
{
	const Oid	types[] = {JSONBOID, TEXTOID};
	Datum		values[2];
	uint64		n;
	Jsonb	  **single;
	char	  **text;

	if (key == NULL)
	{
		char	   *whole = JsonbToCString(NULL, &page->root, VARSIZE(page));

		quarantine(all->account_id, all->entity, whole, strlen(whole),
				   unpack_sql_state(why->sqlerrcode), why->message);
		all->quarantined++;
		return;
	}

	values[0] = JsonbPGetDatum(page);
	values[1] = CStringGetTextDatum(key);
	n = work_execute("SELECT jsonb_build_object("
					 "  '_links', $1 -> '_links',"
					 "  '_embedded', jsonb_build_object($2, jsonb_build_array(e))) AS single,"
					 " e::text AS body"
					 " FROM jsonb_array_elements($1 -> '_embedded' -> $2) e",
					 2, types, values, NULL);
	single = palloc(Max(n, 1) * sizeof(Jsonb *));
	text = palloc(Max(n, 1) * sizeof(char *));
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		single[i] = DatumGetJsonbPCopy(work_datum(i, "single", &isnull));
		text[i] = work_text(i, "body");
	}
	for (uint64 i = 0; i < n; i++)
	{
		IngestStep	one = *all;
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		one.page = single[i];
		one.quarantined = 0;
		error = work_attempt(step_ingest, &one);
		if (error != NULL)
		{
			char	   *utf8 = pg_server_to_any(text[i], (int) strlen(text[i]), PG_UTF8);

			quarantine(all->account_id, all->entity, utf8, strlen(utf8),
					   unpack_sql_state(error->sqlerrcode), error->message);
			one.quarantined = 1;
		}
		all->quarantined += one.quarantined;
	}
}

/*
 * Takes a page's rows in; what can't be read goes to quarantine.  Returns how
 * many did.
 */
int64
page_take(Pass *pass, const Feed *feed, const AmoPage *page)
{
	IngestStep	ingest = {0};

	ingest.account_id = pass->account_id;
	ingest.entity = ingest_name(feed);
	ingest.page = page->page;
	if (page->page != NULL)
	{
		ErrorData  *error = work_attempt(step_ingest, &ingest);

		if (error != NULL)
		{
			ingest.quarantined = 0;
			ingest_singly(&ingest, page->page, feed->entity, error);
		}
	}
	for (int i = 0; i < page->nbad; i++)
		quarantine(pass->account_id, ingest.entity, page->bad[i].bytes, page->bad[i].length,
				   page->bad[i].sqlstate, page->bad[i].error);
	return ingest.quarantined + page->nbad;
}

/* Counts what a page shows that should have been here, before it is taken. */
void
page_compare(const Pass *pass, const Feed *feed, Jsonb *page, Comparison *comparison)
{
	const Oid	types[] = {INT8OID, TEXTOID, JSONBOID, TIMESTAMPTZOID};
	Datum		values[4];
	bool		isnull;

	if (page == NULL)
		return;
	values[0] = Int64GetDatum(pass->account_id);
	values[1] = CStringGetTextDatum(ingest_name(feed));
	values[2] = JsonbPGetDatum(page);
	values[3] = TimestampTzGetDatum(comparison->until);
	if (work_execute("SELECT c.checked, c.missed, c.outdated FROM regcrm.compare_page($1, $2, $3, $4) c",
					 4, types, values, NULL) == 0)
		return;
	comparison->checked += DatumGetInt64(work_datum(0, "checked", &isnull));
	comparison->missed += DatumGetInt64(work_datum(0, "missed", &isnull));
	comparison->outdated += DatumGetInt64(work_datum(0, "outdated", &isnull));
}

/*
 * Takes note of what a page names and nobody has.  Not while history is being
 * loaded: most of it is still to come.
 */
void
page_note_unknown(Pass *pass, const Feed *feed, Jsonb *page)
{
	const Oid	types[] = {INT8OID, TEXTOID, JSONBOID};
	Datum		values[3];
	bool		isnull;

	if (pass->loading || page == NULL || feed->kind == FEED_DICTIONARY)
		return;
	values[0] = Int64GetDatum(pass->account_id);
	values[1] = CStringGetTextDatum(ingest_name(feed));
	values[2] = JsonbPGetDatum(page);
	if (work_execute("SELECT regcrm.note_unknown($1, $2, $3) AS stale", 3, types, values, NULL) > 0 &&
		DatumGetBool(work_datum(0, "stale", &isnull)))
		pass->stale_dictionaries = true;
}
