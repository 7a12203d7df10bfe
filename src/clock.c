/*-------------------------------------------------------------------------
 *
 * clock.c
 *	  The deadline clock: flags a duty the moment its time is over.
 *
 * Process: the clock worker of a database (worker.c), nobody else.  By hand
 * the same is done by regcrm.flag_expired().
 *
 * A tick is two transactions: one in which flag_expired() judges what is due
 * and writes what it finds, and one that only reads when the next moment comes.
 * The worker then sleeps until that moment, at most a minute: a deadline
 * written meanwhile may come sooner.  Whatever is missed while no clock runs
 * is flagged by the first tick, since the judge goes by due moments and not by
 * when it is asked.
 *
 * Accounts that are synced are left alone here: their clock is known_until,
 * and the transaction that moves it judges what falls due (sync.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "work.h"

/* When a tick left something due, it is not tried again at once. */
#define CLOCK_RETRY_MS	10000

typedef struct NextStep
{
	bool		found;
	double		seconds;		/* until the next moment; may be past */
} NextStep;

static void
step_flag(void *arg)
{
	(void) arg;
	(void) work_execute("SELECT regcrm.flag_expired()", 0, NULL, NULL, NULL);
}

static void
step_next(void *arg)
{
	NextStep   *step = arg;
	Datum		value;
	bool		isnull;

	step->found = false;
	(void) work_execute("SELECT EXTRACT(epoch FROM min(n.at) - clock_timestamp())::float8 AS seconds"
						" FROM regcrm.account a CROSS JOIN LATERAL ("
						"  (SELECT d.due_at AS at FROM regcrm.deadline d"
						"   WHERE d.account_id = a.id AND d.state IN ('pending', 'warned')"
						"   ORDER BY d.due_at LIMIT 1)"
						"  UNION ALL"
						"  (SELECT d.warn_at FROM regcrm.deadline d"
						"   WHERE d.account_id = a.id AND d.state = 'pending' AND d.warn_at IS NOT NULL"
						"   ORDER BY d.warn_at LIMIT 1)"
						"  UNION ALL"
						"  (SELECT m.at FROM regcrm.next_moment m WHERE m.account_id = a.id"
						"   ORDER BY m.at LIMIT 1)) n"
						" WHERE a.known_until IS NULL",
						0, NULL, NULL, NULL);
	value = work_datum(0, "seconds", &isnull);
	if (isnull)
		return;
	step->found = true;
	step->seconds = DatumGetFloat8(value);
}

long
clock_round(long at_most)
{
	NextStep	next = {false, 0};
	ErrorData  *error;

	error = work_transaction(false, step_flag, NULL);
	if (error == NULL)
		error = work_transaction(false, step_next, &next);
	if (error != NULL)
	{
		/* The caller logs it, and tells news from repetition. */
		ReThrowError(error);
	}
	if (!next.found)
		return at_most;
	if (next.seconds <= 0)
		return Min(at_most, CLOCK_RETRY_MS);
	if (next.seconds * 1000 >= at_most)
		return at_most;
	return (long) (next.seconds * 1000) + 1;
}
