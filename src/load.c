/*-------------------------------------------------------------------------
 *
 * load.c
 *	  The first load of an account: its history, newest first.
 *
 * The load begins at one moment, the end of the first pass.  From there the
 * feeds' forward cursors follow the present, as they will for ever, and their
 * history cursors go back: all feeds by a day, then by four, by sixteen and
 * so on, so that what is looked at first is there within minutes.  The two
 * take turns, so that the present does not wait for the past.
 *
 * What is judged meanwhile.  account.known_from is how far back all feeds have
 * come.  A deal that began behind it has all its facts here, and is judged
 * once, when known_from passes its beginning.  One that began before is not
 * judged yet (account.loading, see derive.c), since nobody knows what it may
 * have done: a history that is half loaded makes no breach.  When the load has
 * come to the beginning, everything is judged, and known_from is the first
 * event that amoCRM still has: what arose before that one is not judged.
 *
 * A feed that a later version of regcrm adds is loaded in the same way, while
 * the judging of all others goes on.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "regcrm.h"
#include "sync_int.h"
#include "work.h"

/* How long history is read before the present has its turn, in seconds. */
#define TURN_SECONDS		60
/* Deals that are judged in one transaction as known_from moves back. */
#define DEALS_AT_A_TIME		"2000"
/* The first stretch of history, and how much longer each next one is. */
#define FIRST_STRETCH		USECS_PER_DAY
#define STRETCH_FACTOR		4

typedef struct LoadStep
{
	Pass	   *pass;
	bool		has_reach;		/* else all feeds have come to the beginning */
	TimestampTz reach;			/* how far back all feeds have come */
	bool		judged;			/* known_from is there too */
} LoadStep;

/* The feeds that have a history, as a list of (name, how its pages count). */
static char *
feed_list(void)
{
	StringInfoData list;
	const Feed *feed;

	initStringInfo(&list);
	for (int i = 0; (feed = pass_feed(i)) != NULL; i++)
		if (feed->kind != FEED_DICTIONARY)
			appendStringInfo(&list, "%s('%s', %s)", list.len > 0 ? "," : "",
							 feed->name, feed->kind == FEED_FIXED ? "NULL" : "1");
	return list.data;
}

/*
 * Gives both cursors to the feeds that have none, at the end of this pass.
 */
static void
step_begin(void *arg)
{
	Pass	   *pass = arg;
	const Oid	types[] = {INT8OID, TIMESTAMPTZOID};
	Datum		values[2] = {Int64GetDatum(pass->account_id), TimestampTzGetDatum(pass->end)};

	(void) work_execute(psprintf("WITH f (name, page) AS (VALUES %s),"
								 " begun AS (INSERT INTO regcrm.sync_state AS s (account_id, entity, done_to)"
								 "  SELECT $1, f.name, $2 FROM f"
								 "  ON CONFLICT (account_id, entity) DO UPDATE SET done_to = excluded.done_to,"
								 "   window_from = NULL, window_to = NULL, page = NULL, page_limit = NULL"
								 "   WHERE s.done_to IS NULL"
								 "  RETURNING s.entity)"
								 " INSERT INTO regcrm.sync_state AS s (account_id, entity, done_from, window_to, page)"
								 " SELECT $1, f.name || '" HISTORY "', $2, CASE WHEN f.page IS NOT NULL THEN $2 END, f.page::integer"
								 " FROM f JOIN begun b ON b.entity = f.name"
								 " ON CONFLICT DO NOTHING", feed_list()),
						2, types, values, NULL);
	(void) work_execute("UPDATE regcrm.account a SET loading = true, known_from = 'infinity',"
						" load_began_at = clock_timestamp(), loaded_at = NULL, load_requests = NULL"
						" WHERE a.id = $1 AND a.known_until = '-infinity' AND NOT a.loading",
						1, types, values, NULL);
	/*
	 * A load has not ended before it was settled, either: whoever was to do that
	 * may have been killed after the last page (hazards W15).
	 */
	pass->loading = work_execute("SELECT FROM regcrm.account a WHERE a.id = $1 AND (a.loading"
								 " OR EXISTS (SELECT FROM regcrm.sync_state s WHERE s.account_id = $1"
								 "  AND s.entity LIKE '%" HISTORY "' AND s.done_from > '-infinity'))",
								 1, types, values, NULL) > 0;
}

bool
load_begin(Pass *pass)
{
	ErrorData  *error = work_transaction(pass->in_call, step_begin, pass);

	if (error == NULL)
		return true;
	pass_trouble_by_error(pass, error);
	pass->trouble = TROUBLE_STOP;
	return false;
}

/* How far back all feeds have come. */
static void
find_reach(LoadStep *step)
{
	const Oid	types[] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(step->pass->account_id)};
	bool		isnull;
	Datum		value;

	(void) work_execute("SELECT max(s.done_from) AS reach FROM regcrm.sync_state s"
						" WHERE s.account_id = $1 AND s.entity LIKE '%" HISTORY "'",
						1, types, values, NULL);
	value = work_datum(0, "reach", &isnull);
	step->has_reach = !isnull && !TIMESTAMP_IS_NOBEGIN(DatumGetTimestampTz(value));
	step->reach = step->has_reach ? DatumGetTimestampTz(value) : 0;
}

static void
step_reach(void *arg)
{
	find_reach(arg);
}

/* The least moment that the forward cursors have come to. */
#define REACHED \
	"(SELECT min(s.done_to) FROM regcrm.sync_state s WHERE s.account_id = a.id" \
	" AND EXISTS (SELECT FROM regcrm.sync_state h WHERE h.account_id = a.id AND h.entity = s.entity || '" HISTORY "'))"

/*
 * Moves known_from back by some deals, at most to where all feeds have come,
 * and has these judged.
 */
static void
step_move_back(void *arg)
{
	LoadStep   *step = arg;
	const Oid	types[] = {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[3] = {Int64GetDatum(step->pass->account_id), TimestampTzGetDatum(step->reach), 0};
	bool		isnull;

	step->judged = true;
	if (work_execute("SELECT a.known_from FROM regcrm.account a WHERE a.id = $1 AND a.loading AND a.known_from > $2"
					 " FOR NO KEY UPDATE", 2, types, values, NULL) == 0)
		return;
	values[2] = work_datum(0, "known_from", &isnull);
	if (work_execute("SELECT d.created_at FROM regcrm.deal d"
					 " WHERE d.account_id = $1 AND d.created_at >= $2 AND d.created_at < $3"
					 " ORDER BY d.created_at DESC OFFSET " DEALS_AT_A_TIME " LIMIT 1",
					 3, types, values, NULL) > 0)
	{
		values[1] = work_datum(0, "created_at", &isnull);
		step->judged = false;
	}
	(void) work_execute("UPDATE regcrm.account a SET known_from = $2,"
						" known_until = CASE WHEN a.known_until = '-infinity' THEN " REACHED " ELSE a.known_until END"
						" WHERE a.id = $1", 2, types, values, NULL);
	(void) work_execute("SELECT regcrm.judge_deals($1, ARRAY(SELECT d.id FROM regcrm.deal d"
						" WHERE d.account_id = $1 AND d.created_at >= $2 AND d.created_at < $3))",
						3, types, values, NULL);
}

/*
 * All history is here: everything is judged, deals that began before the first
 * event among it, and what amoCRM names but did not list is asked for by name.
 */
static void
step_finish(void *arg)
{
	LoadStep   *step = arg;
	const Oid	types[] = {INT8OID};
	Datum		values[1] = {Int64GetDatum(step->pass->account_id)};

	if (work_execute("UPDATE regcrm.account a SET loading = false, loaded_at = clock_timestamp(),"
					 " rejudged_at = clock_timestamp(), rejudged_beside = pg_current_snapshot(),"
					 " load_requests = (SELECT sum(s.requests) FROM regcrm.sync_state s WHERE s.account_id = a.id),"
					 " known_until = CASE WHEN a.known_until = '-infinity' THEN " REACHED " ELSE a.known_until END,"
					 " known_from = COALESCE(LEAST("
					 "  (SELECT min(e.at) FROM regcrm.event e WHERE e.account_id = a.id AND e.source = 'event'),"
					 "  (SELECT min(o.at) FROM regcrm.other_event o WHERE o.account_id = a.id AND o.type NOT LIKE '%\\_tombstone')),"
					 " " REACHED ")"
					 " WHERE a.id = $1 AND a.loading", 1, types, values, NULL) > 0)
		(void) work_execute("SELECT regcrm.account_advanced(a.id, '-infinity', a.known_until)"
							" FROM regcrm.account a WHERE a.id = $1", 1, types, values, NULL);
	(void) work_execute("SELECT regcrm.want_missing($1)", 1, types, values, NULL);
	step->pass->loading = false;
}

/*
 * Moves known_from to where the feeds have come.  False: the database would
 * not, and pass->trouble says why.
 */
static bool
settle(Pass *pass, LoadStep *step)
{
	ErrorData  *error;

	do
	{
		CHECK_FOR_INTERRUPTS();
		error = work_transaction(pass->in_call, step_reach, step);
		if (error == NULL)
			error = work_transaction(pass->in_call, step->has_reach ? step_move_back : step_finish, step);
	} while (error == NULL && step->has_reach && !step->judged);
	if (error == NULL)
		return true;
	pass_trouble_by_error(pass, error);
	return false;
}

/* How far back the feeds are to go next. */
static TimestampTz
next_target(const Pass *pass, TimestampTz reach)
{
	int64		stretch = FIRST_STRETCH;
	TimestampTz target;

	while (pass->end - stretch >= reach && pass->end - stretch > AMOCRM_BEGAN)
		stretch *= STRETCH_FACTOR;
	target = pass->end - stretch;
	if (target <= AMOCRM_BEGAN)
		TIMESTAMP_NOBEGIN(target);
	return target;
}

/*
 * Reads history while there is some and its turn lasts.  False: something is in
 * the way, and pass->trouble says what.  pass->loading tells whether more is
 * left, pass->load_waits whether that has to wait.
 */
bool
load_on(Pass *pass)
{
	LoadStep	step = {pass};
	char		reason[sizeof(pass->reason)] = "";
	TimestampTz start = GetCurrentTimestamp();

	pass->load_until = start + TURN_SECONDS * USECS_PER_SEC;
	if (!pass->in_call)
		pass->load_until = start + Min(TURN_SECONDS, Max(regcrm_sync_interval, 1)) * USECS_PER_SEC;

	while (pass->loading && GetCurrentTimestamp() < pass->load_until)
	{
		TimestampTz target;
		const Feed *feed;
		ErrorData  *error = work_transaction(pass->in_call, step_reach, &step);

		if (error != NULL)
		{
			pass_trouble_by_error(pass, error);
			return false;
		}
		target = step.has_reach ? next_target(pass, step.reach) : 0;
		for (int i = 0; step.has_reach && (feed = pass_feed(i)) != NULL; i++)
		{
			MemoryContextSwitchTo(pass->context);
			if (feed->kind == FEED_DICTIONARY || feed_run_back(pass, feed, target))
				continue;
			if (pass->trouble == TROUBLE_STOP)
				return false;
			/* The present goes on; this list's history has its own time to wait. */
			if (pass->trouble != TROUBLE_NONE)
			{
				snprintf(reason, sizeof(reason), "%s: %s", feed->name, pass->reason);
				pass_note_failure(pass, psprintf("%s" HISTORY, feed->name), false);
			}
			pass->load_waits = true;
			pass->state = NULL;
			pass->retry_seconds = 0;
		}
		MemoryContextSwitchTo(pass->context);
		if (!settle(pass, &step))
			return false;
		if (pass->load_waits)
		{
			/* who asked for all of it is told */
			if (pass->in_call && reason[0] != '\0')
				pass_trouble(pass, TROUBLE_LATER, "%s", reason);
			return !pass->in_call;
		}
	}
	return true;
}
