/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  Asking amoCRM for things by their numbers.
 *
 * An event or a task may name a lead that no list has shown, and amoCRM's lists
 * may leave out what it still has.  regcrm.wanted holds what is to be asked for;
 * reconcile() asks for what is open here.  Nothing waits for what is wanted: its
 * facts are kept and judged when it comes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "amocrm.h"
#include "sync_int.h"
#include "work.h"

/* Numbers in one request: its line must fit into 8 kB. */
#define IDS_AT_A_TIME		100
/* Requests for what is wanted in one pass. */
#define MOST_FETCHES		50

typedef struct FetchStep
{
	Pass	   *pass;
	const Feed *feed;
	const int64 *ids;			/* asked for */
	int			n;
	bool	   *there;			/* out: which of them came */
	const char *body;
	size_t		length;
	Comparison *comparison;
	bool		readable;
	bool		foreign;		/* what was not asked for came: the filter was
								 * not heard */
	bool		more;
	int64		quarantined;
} FetchStep;

/* Marks what came; what was not asked for makes the page worthless. */
static void
mark_there(FetchStep *step, Jsonb *page)
{
	JsonbValue	embedded;
	JsonbValue	list;
	int			n;

	if (page == NULL ||
		getKeyJsonValueFromContainer(&page->root, "_embedded", 9, &embedded) == NULL ||
		embedded.type != jbvBinary || !JsonContainerIsObject(embedded.val.binary.data) ||
		getKeyJsonValueFromContainer(embedded.val.binary.data, step->feed->entity,
									 (int) strlen(step->feed->entity), &list) == NULL ||
		list.type != jbvBinary || !JsonContainerIsArray(list.val.binary.data))
		return;
	n = (int) JsonContainerSize(list.val.binary.data);
	for (int i = 0; i < n; i++)
	{
		JsonbValue *row = getIthJsonbValueFromContainer(list.val.binary.data, i);
		JsonbValue	id;
		bool		asked = false;

		if (row == NULL || row->type != jbvBinary || !JsonContainerIsObject(row->val.binary.data) ||
			getKeyJsonValueFromContainer(row->val.binary.data, "id", 2, &id) == NULL ||
			id.type != jbvNumeric)
			continue;
		for (int k = 0; k < step->n; k++)
			if (DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow,
												   NumericGetDatum(id.val.numeric))) == (double) step->ids[k])
				step->there[k] = asked = true;
		step->foreign |= !asked;
	}
}

static void
step_fetched_page(void *arg)
{
	FetchStep  *step = arg;
	AmoPage		page;
	Comparison	before;

	step->readable = amo_read_page(step->body, step->length, step->feed->path, step->feed->entity, &page);
	if (!step->readable)
		return;
	step->more = page.has_next;
	step->foreign = false;
	mark_there(step, page.page);
	if (step->foreign)
		return;
	if (step->comparison != NULL)
	{
		before = *step->comparison;
		page_compare(step->pass, step->feed, page.page, &before);
	}
	step->quarantined = page_take(step->pass, step->feed, &page);
	if (step->comparison != NULL)
		*step->comparison = before;
}

static char *
ids_path(const Feed *feed, const int64 *ids, int n, int page)
{
	StringInfoData path;

	initStringInfo(&path);
	appendStringInfoString(&path, feed->path);
	amo_parameter_int(&path, "limit", feed->limit);
	amo_parameter_int(&path, "page", page);
	if (feed->with != NULL)
		amo_parameter(&path, "with", feed->with);
	for (int i = 0; i < n; i++)
		amo_parameter_int(&path, "filter[id][]", ids[i]);
	return path.data;
}

/*
 * Asks for at most IDS_AT_A_TIME things, page by page as the answer says, and
 * takes in what comes.  there[] tells which did.  False: pass->trouble says why.
 */
static bool
fetch_some(Pass *pass, const Feed *feed, const int64 *ids, int n, Comparison *comparison, bool *there)
{
	FetchStep	step = {pass, feed, ids, n, there, NULL, 0, comparison};
	int			unreadable = 0;

	memset(there, 0, n * sizeof(bool));
	for (int page = 1;;)
	{
		AmoAnswer	answer;
		ErrorData  *error;
		char	   *path;

		MemoryContextReset(pass->page_context);
		MemoryContextSwitchTo(pass->page_context);
		path = ids_path(feed, ids, n, page);
		if (!pass_ask(pass, path, false, &answer))
			return false;
		/* What is not there may count as deleted: that is heard twice. */
		if (answer.verdict == AMO_EMPTY && !pass_ask(pass, path, false, &answer))
			return false;
		pass->pages++;
		if (answer.verdict == AMO_EMPTY)
			return true;
		step.body = answer.body;
		step.length = answer.length;
		error = work_transaction(pass->in_call, step_fetched_page, &step);
		if (error != NULL)
		{
			pass_trouble_by_error(pass, error);
			return false;
		}
		if (!step.readable)
		{
			pass_trouble(pass, TROUBLE_LATER, "%s by their numbers could not be read", feed->name);
			if (++unreadable == MAX_TRIES)
				return false;
			pass_pause(unreadable, -1);
			continue;
		}
		if (step.foreign)
		{
			pass_trouble(pass, TROUBLE_LATER, "amoCRM was asked for some %s by their numbers and gave others", feed->name);
			return false;
		}
		pass->quarantined += step.quarantined;
		if (!step.more)
			return true;
		page++;
	}
}

bool
fetch_by_id(Pass *pass, const Feed *feed, const int64 *ids, int n, Comparison *comparison, bool *there)
{
	for (int from = 0; from < n; from += IDS_AT_A_TIME)
		if (!fetch_some(pass, feed, ids + from, Min(IDS_AT_A_TIME, n - from), comparison, there + from))
			return false;
	return true;
}

/* ------------------------------------------------------ what is wanted */

typedef struct WantedStep
{
	Pass	   *pass;
	const Feed *feed;
	int64		ids[IDS_AT_A_TIME];
	int			n;
} WantedStep;

static void
step_wanted(void *arg)
{
	WantedStep *step = arg;
	const Oid	types[] = {INT8OID, TEXTOID, INT4OID};
	Datum		values[3] = {Int64GetDatum(step->pass->account_id), CStringGetTextDatum(step->feed->name),
	Int32GetDatum(IDS_AT_A_TIME)};
	bool		isnull;

	step->n = (int) work_execute("SELECT w.id FROM regcrm.wanted w"
								 " WHERE w.account_id = $1 AND w.entity = $2 AND w.gone_at IS NULL"
								 " ORDER BY w.since, w.id LIMIT $3", 3, types, values, NULL);
	for (int i = 0; i < step->n; i++)
		step->ids[i] = DatumGetInt64(work_datum(i, "id", &isnull));
}

/* What came is here; the rest amoCRM has not. */
static void
step_fetched(void *arg)
{
	WantedStep *step = arg;
	const Oid	types[] = {INT8OID, TEXTOID, INT8ARRAYOID};
	Datum		values[3];
	Datum		ids[IDS_AT_A_TIME];

	for (int i = 0; i < step->n; i++)
		ids[i] = Int64GetDatum(step->ids[i]);
	values[0] = Int64GetDatum(step->pass->account_id);
	values[1] = CStringGetTextDatum(step->feed->name);
	values[2] = PointerGetDatum(construct_array(ids, step->n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	(void) work_execute("SELECT regcrm.fetched($1, $2, $3)", 3, types, values, NULL);
}

/*
 * Asks for what is wanted.  False: pass->trouble says why not all of it.
 */
bool
fetch_wanted(Pass *pass)
{
	static const char *const names[] = {"leads", "contacts", "tasks"};
	WantedStep	step = {pass};
	bool		there[IDS_AT_A_TIME];
	ErrorData  *error;
	int			fetches = 0;

	for (int i = 0; i < lengthof(names); i++)
	{
		step.feed = pass_feed_named(names[i]);
		for (;;)
		{
			MemoryContextSwitchTo(pass->context);
			error = work_transaction(pass->in_call, step_wanted, &step);
			if (error == NULL && step.n == 0)
				break;
			if (error == NULL && ++fetches > MOST_FETCHES)
				return true;	/* the next pass goes on */
			if (error == NULL && !fetch_some(pass, step.feed, step.ids, step.n, NULL, there))
				return false;
			if (error == NULL)
				error = work_transaction(pass->in_call, step_fetched, &step);
			if (error != NULL)
			{
				pass_trouble_by_error(pass, error);
				return false;
			}
		}
	}
	return true;
}
