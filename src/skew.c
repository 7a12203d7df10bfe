/*-------------------------------------------------------------------------
 *
 * skew.c
 *	  What is done when amoCRM's clock leaps.
 *
 * Windows end by the Date of the answer that begins a pass.  Were it ahead of
 * the truth, windows would end in the future, and what happens up to there would
 * never be read; and the account would be judged as of a moment that has not
 * come.  So:
 *
 * - the first Date of all, on which a first load rests, is heard twice, and so
 *	 is one that is behind what has been read already;
 * - each answer has a Date of its own: a window ends by the earlier of the two
 *	 (skew_clamp).  To claim less is always safe, since windows overlap;
 * - where a whole pass was told a wrong time, the next one finds cursors ahead
 *	 of the clock.  Then they go back to the newest fact that is here: amoCRM
 *	 stamped it, so that much of the time had passed when it was read.  The
 *	 account is judged again as of there.
 *
 * A Date behind the newest fact is itself wrong: such a pass reads nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "amocrm.h"
#include "sync_int.h"
#include "work.h"

typedef struct SkewStep
{
	Pass	   *pass;
	bool		begins;			/* out: no list has been read yet */
	bool		ahead;			/* out: some cursor is ahead of the pass's end */
	bool		believed;		/* out: and no fact is */
} SkewStep;

/* The newest stamp that amoCRM gave to anything that is here. */
#define NEWEST_FACT \
	"GREATEST((SELECT max(e.at) FROM regcrm.event e WHERE e.account_id = $1 AND e.source = 'event' AND e.at <= $2)," \
	" (SELECT max(d.updated_at) FROM regcrm.deal d WHERE d.account_id = $1 AND d.updated_at <= $2))"

static void
step_look(void *arg)
{
	SkewStep   *step = arg;
	const Oid	types[] = {INT8OID, TIMESTAMPTZOID};
	Datum		values[2] = {Int64GetDatum(step->pass->account_id),
	TimestampTzGetDatum(step->pass->end + CLOCK_SLACK)};
	bool		isnull;
	Datum		reached;

	/* what lies in the far future is a typing error and no clock's */
	(void) work_execute("SELECT max(GREATEST(s.done_to, s.window_to)) AS reached,"
						" EXISTS (SELECT FROM regcrm.event e WHERE e.account_id = $1 AND e.source = 'event'"
						"  AND e.at > $2 AND e.at < $2 + interval '30 days') AS contradicted"
						" FROM regcrm.sync_state s WHERE s.account_id = $1 AND s.entity NOT LIKE '%" HISTORY "'"
						"  AND EXISTS (SELECT FROM regcrm.sync_state h WHERE h.account_id = $1 AND h.entity = s.entity || '" HISTORY "')",
						2, types, values, NULL);
	reached = work_datum(0, "reached", &isnull);
	step->begins = isnull;
	step->ahead = !isnull && DatumGetTimestampTz(reached) > step->pass->end + CLOCK_SLACK;
	step->believed = !DatumGetBool(work_datum(0, "contradicted", &isnull));
}

/*
 * Takes the cursors back, and with them the moment as of which the account is
 * judged.
 */
static void
step_go_back(void *arg)
{
	SkewStep   *step = arg;
	const Oid	types[] = {INT8OID, TIMESTAMPTZOID};
	Datum		values[2] = {Int64GetDatum(step->pass->account_id), TimestampTzGetDatum(step->pass->end)};

	(void) work_execute("UPDATE regcrm.sync_state s SET done_to = n.back, window_from = NULL, window_to = NULL, page = NULL, page_limit = NULL"
						" FROM (SELECT COALESCE(date_trunc('second', " NEWEST_FACT "), $2 - interval '1 day') AS back) n"
						" WHERE s.account_id = $1 AND s.entity NOT LIKE '%" HISTORY "' AND GREATEST(s.done_to, s.window_to) > n.back"
						"  AND EXISTS (SELECT FROM regcrm.sync_state h WHERE h.account_id = $1 AND h.entity = s.entity || '" HISTORY "')",
						2, types, values, NULL);
	if (work_execute("UPDATE regcrm.account a SET known_until = r.reached"
					 " FROM (SELECT min(s.done_to) AS reached FROM regcrm.sync_state s WHERE s.account_id = $1"
					 "  AND EXISTS (SELECT FROM regcrm.sync_state h WHERE h.account_id = $1 AND h.entity = s.entity || '" HISTORY "')) r"
					 " WHERE a.id = $1 AND a.known_until > r.reached", 2, types, values, NULL) > 0)
		(void) work_execute("SELECT regcrm.rejudge($1)", 1, types, values, NULL);
}

/* Where windows end by the last answer's clock. */
TimestampTz
skew_end(const Pass *pass)
{
	TimestampTz now;

	if (!amo_server_time(pass->api, &now))
		now = GetCurrentTimestamp() - GetCurrentTimestamp() % USECS_PER_SEC;
	return now - WINDOW_LAG;
}

/*
 * Sets the end of the pass, after its first answer.  Where that is in doubt the
 * first request is made once more, and *identity is what it brought then.
 * False: pass->trouble says what is in the way.
 */
bool
skew_check(Pass *pass, IdentityStep *identity)
{
	SkewStep	step = {pass};
	ErrorData  *error;

	pass->end = skew_end(pass);
	error = work_transaction(pass->in_call, step_look, &step);
	if (error == NULL && (step.begins || step.ahead))
	{
		TimestampTz second;

		MemoryContextSwitchTo(pass->context);
		if (!pass_ask_identity(pass, identity))
			return false;
		second = skew_end(pass);
		pass->end = step.begins ? Min(pass->end, second) : Max(pass->end, second);
		error = work_transaction(pass->in_call, step_look, &step);
	}
	if (error == NULL && step.ahead && step.believed)
	{
		ereport(LOG,
				(errmsg("account " INT64_FORMAT ": amoCRM's clock was ahead and has gone back to %s",
						pass->account_id, timestamptz_to_str(pass->end + WINDOW_LAG)),
				 errdetail("What was read under the wrong time is read again, and the account judged anew.")));
		error = work_transaction(pass->in_call, step_go_back, &step);
	}
	if (error == NULL)
		return true;
	pass_trouble_by_error(pass, error);
	pass->trouble = TROUBLE_STOP;
	return false;
}

/*
 * After an answer: an open window does not end later than its Date says.
 */
void
skew_clamp(Pass *pass, Cursor *cursor)
{
	TimestampTz end = skew_end(pass);

	if (cursor->history || cursor->page == 0 || cursor->to <= end + CLOCK_SLACK)
		return;
	cursor->to = cursor->has_from ? Max(end, cursor->from) : end;
	pass->end = Min(pass->end, end);
}
