/*-------------------------------------------------------------------------
 *
 * reconcile.c
 *	  CALL regcrm.reconcile(): what the sync missed, found and put right.
 *
 * The sync reads what changed; what changed without a trace it can't see: a
 * lead purged or merged into another, an event that was listed late, a row that
 * a list left out.  So once a night
 * - what was shown in the last days is looked at once more;
 * - leads and tasks that are open here are asked for by their numbers: what
 *	 amoCRM has no more counts as deleted from then on, unless so many are
 *	 missing that the user of the token has rather lost the right to see them;
 * - what facts name and nobody has is asked for.
 * What that found stands in regcrm.reconciliation.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "sync_int.h"
#include "work.h"

/* Open things looked at in one go. */
#define OPEN_AT_A_TIME		1000
/* So many may always be gone; of more than that, this part in a hundred. */
#define MOST_GONE			50
#define MOST_GONE_PERCENT	10

typedef struct OpenStep
{
	Pass	   *pass;
	const Feed *feed;
	int64		after;
	int64	   *ids;			/* room for OPEN_AT_A_TIME */
	int			n;
} OpenStep;

typedef struct ReportStep
{
	Pass	   *pass;
	const char *entity;
	Comparison *comparison;
	const int64 *gone;			/* to be buried */
	int			ngone;
} ReportStep;

static void
step_open_things(void *arg)
{
	OpenStep   *step = arg;
	const Oid	types[] = {INT8OID, TEXTOID, INT8OID, INT4OID};
	Datum		values[4] = {Int64GetDatum(step->pass->account_id), CStringGetTextDatum(step->feed->name),
	Int64GetDatum(step->after), Int32GetDatum(OPEN_AT_A_TIME)};
	bool		isnull;

	step->n = (int) work_execute("SELECT i FROM unnest(regcrm.open_things($1, $2, $3, $4)) i",
								 4, types, values, NULL);
	for (int i = 0; i < step->n; i++)
		step->ids[i] = DatumGetInt64(work_datum(i, "i", &isnull));
}

static void
step_bury(void *arg)
{
	ReportStep *step = arg;
	const Oid	types[] = {INT8OID, TEXTOID, INT8ARRAYOID, TIMESTAMPTZOID};
	Datum		values[4];
	Datum	   *ids = palloc(step->ngone * sizeof(Datum));
	bool		isnull;

	for (int i = 0; i < step->ngone; i++)
		ids[i] = Int64GetDatum(step->gone[i]);
	values[0] = Int64GetDatum(step->pass->account_id);
	values[1] = CStringGetTextDatum(step->entity);
	values[2] = PointerGetDatum(construct_array(ids, step->ngone, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[3] = TimestampTzGetDatum(step->pass->end);
	(void) work_execute("SELECT regcrm.bury($1, $2, $3, $4) AS n", 4, types, values, NULL);
	step->comparison->gone = DatumGetInt64(work_datum(0, "n", &isnull));
}

static void
step_report(void *arg)
{
	ReportStep *step = arg;
	const Comparison *c = step->comparison;
	const Oid	types[] = {INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID, TEXTOID};
	Datum		values[7] = {Int64GetDatum(step->pass->account_id), CStringGetTextDatum(step->entity),
		Int64GetDatum(c->checked), Int64GetDatum(c->missed), Int64GetDatum(c->outdated), Int64GetDatum(c->gone),
	CStringGetTextDatum(c->note)};

	(void) work_execute("INSERT INTO regcrm.reconciliation (account_id, entity, checked, missed, outdated, gone, note)"
						" VALUES ($1, $2, $3, $4, $5, $6, NULLIF($7, ''))", 7, types, values, NULL);
}

/* What all comes to. */
static void
step_reconciled(void *arg)
{
	Pass	   *pass = arg;
	const Oid	types[] = {INT8OID, INT8OID};
	Datum		values[2] = {Int64GetDatum(pass->account_id),
	Int64GetDatum(pass_requests(pass) - pass->counted_requests)};

	(void) work_execute("UPDATE regcrm.account a SET reconciled_at = clock_timestamp() WHERE a.id = $1",
						1, types, values, NULL);
	(void) work_execute("INSERT INTO regcrm.sync_state AS s (account_id, entity, requests, updated_at)"
						" VALUES ($1, 'reconcile', $2, clock_timestamp())"
						" ON CONFLICT (account_id, entity) DO UPDATE SET"
						" requests = s.requests + excluded.requests, last_error = NULL, last_error_at = NULL,"
						" next_try_at = NULL, updated_at = excluded.updated_at", 2, types, values, NULL);
	(void) work_execute("SELECT regcrm.want_missing($1)", 1, types, values, NULL);
}

static bool
in_step(Pass *pass, work_step step, void *arg)
{
	ErrorData  *error = work_transaction(pass->in_call, step, arg);

	if (error == NULL)
		return true;
	pass_trouble_by_error(pass, error);
	return false;
}

static bool
report(Pass *pass, const char *entity, Comparison *comparison)
{
	ReportStep	step = {pass, entity, comparison};

	if (comparison->missed + comparison->outdated + comparison->gone > 0 || comparison->note[0] != '\0')
		ereport(LOG,
				(errmsg("reconciliation of account " INT64_FORMAT ", %s: " INT64_FORMAT " missed, "
						INT64_FORMAT " outdated, " INT64_FORMAT " gone of " INT64_FORMAT "%s%s",
						pass->account_id, entity, comparison->missed, comparison->outdated,
						comparison->gone, comparison->checked,
						comparison->note[0] ? "; " : "", comparison->note)));
	return in_step(pass, step_report, &step);
}

/*
 * What amoCRM did not give when asked: asked for a second time, and then, unless
 * they are too many to believe, taken for deleted.
 */
static bool
bury_gone(Pass *pass, const Feed *feed, int64 *missing, int n, int64 nopen, Comparison *comparison)
{
	bool	   *there = palloc(Max(n, 1) * sizeof(bool));
	ReportStep	step = {pass, feed->name, comparison, missing};

	if (!fetch_by_id(pass, feed, missing, n, NULL, there))
		return false;
	for (int i = 0; i < n; i++)
		if (!there[i])
			missing[step.ngone++] = missing[i];
	if (step.ngone == 0)
		return true;
	if (step.ngone > MOST_GONE && step.ngone > nopen * MOST_GONE_PERCENT / 100)
	{
		snprintf(comparison->note, sizeof(comparison->note),
				 "%d of " INT64_FORMAT " open %s are not shown any more; taken for lost rights of the token's user and left as they are",
				 step.ngone, nopen, feed->name);
		return true;
	}
	return in_step(pass, step_bury, &step);
}

/*
 * Asks for what is open here.
 */
static bool
check_open(Pass *pass, const Feed *feed, Comparison *comparison)
{
	MemoryContext context = AllocSetContextCreate(pass->context, "regcrm reconcile", ALLOCSET_DEFAULT_SIZES);
	OpenStep	open = {pass, feed, 0, NULL, 0};
	bool	   *there = MemoryContextAlloc(context, OPEN_AT_A_TIME * sizeof(bool));
	int64	   *missing = NULL;
	int			nmissing = 0;
	int64		nopen = 0;
	bool		good;

	open.ids = MemoryContextAlloc(context, OPEN_AT_A_TIME * sizeof(int64));
	for (;;)
	{
		MemoryContextSwitchTo(context);
		good = in_step(pass, step_open_things, &open);
		if (!good || open.n == 0)
			break;
		good = fetch_by_id(pass, feed, open.ids, open.n, comparison, there);
		if (!good)
			break;
		MemoryContextSwitchTo(context);
		missing = missing == NULL ? palloc(open.n * sizeof(int64)) :
			repalloc_huge(missing, (nmissing + open.n) * sizeof(int64));
		for (int i = 0; i < open.n; i++)
			if (!there[i])
				missing[nmissing++] = open.ids[i];
		nopen += open.n;
		open.after = open.ids[open.n - 1];
	}
	MemoryContextSwitchTo(context);
	if (good)
		good = bury_gone(pass, feed, missing, nmissing, nopen, comparison);
	MemoryContextSwitchTo(pass->context);
	MemoryContextDelete(context);
	return good;
}

/*
 * Looks at an account once more, after a pass has brought it up to date.
 * False: pass->trouble says what was in the way.
 */
bool
reconcile_account(Pass *pass, int days)
{
	const Feed *feed;

	for (int i = 0; (feed = pass_feed(i)) != NULL; i++)
	{
		Comparison	comparison = {.until = pass->end - OVERLAP};

		if (feed->kind == FEED_DICTIONARY)
			continue;
		MemoryContextSwitchTo(pass->context);
		if (!feed_compare(pass, feed, pass->end - days * USECS_PER_DAY, &comparison))
			return false;
		MemoryContextSwitchTo(pass->context);
		if ((strcmp(feed->name, "leads") == 0 || strcmp(feed->name, "tasks") == 0) &&
			!check_open(pass, feed, &comparison))
			return false;
		MemoryContextSwitchTo(pass->context);
		if (!report(pass, feed->name, &comparison))
			return false;
	}
	return in_step(pass, step_reconciled, pass) && fetch_wanted(pass);
}
