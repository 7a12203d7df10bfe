/*-------------------------------------------------------------------------
 *
 * stumble.c
 *	  For tests only: ends its own process at the Nth moment, or waits there.
 *
 * A moment is the end of a statement at whatever depth (what functions and
 * triggers run counts too), and both sides of a commit.  Built and loaded by
 * test/t/Stumble.pm, installed by nobody.
 *
 * stumble.at (of a session) and stumble.worker_at (of workers) say which
 * moment, 0 = none; stumble.seen is how many there were.  A process stumbles
 * only if it can delete the file stumble.once, so that the one that takes its
 * place lives.  A worker waits behind a statement that holds the text of
 * stumble.wait as long as there is that file.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "tcop/utility.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static int	at = 0;
static int	worker_at = 0;
static int	seen = 0;
static bool softly = false;
static char *once = NULL;
static char *wait_behind = NULL;

static ExecutorEnd_hook_type next_end = NULL;
static ProcessUtility_hook_type next_utility = NULL;

static void
moment(bool within)
{
	int			n = at;

	if (MyBgworkerEntry != NULL)
		n = strcmp(MyBgworkerEntry->bgw_type, "regcrm sync") == 0 ? worker_at : 0;
	seen++;
	if (n == 0 || seen != n || unlink(once) != 0)
		return;
	if (softly && within)
		ereport(FATAL,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("stumbled at moment %d", seen)));
	kill(getpid(), SIGKILL);
	pause();
}

static void
end(QueryDesc *query)
{
	bool		waits = MyBgworkerEntry != NULL && wait_behind[0] != '\0' && strstr(query->sourceText, wait_behind) != NULL;

	if (next_end)
		next_end(query);
	else
		standard_ExecutorEnd(query);
	moment(true);
	while (waits && access(once, F_OK) == 0)
		usleep(10000);
}

static void
utility(PlannedStmt *statement, const char *text, bool read_only, ProcessUtilityContext context,
		ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	if (next_utility)
		next_utility(statement, text, read_only, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, text, read_only, context, params, environment, dest, completion);
	/* not the SET that tells us, nor what it may be wrapped in */
	if (context != PROCESS_UTILITY_TOPLEVEL)
		moment(true);
}

static void
commit(XactEvent event, void *arg)
{
	(void) arg;
	if (at == 0 && MyBgworkerEntry == NULL)
		return;
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_COMMIT)
		moment(event == XACT_EVENT_PRE_COMMIT);
}

void
_PG_init(void)
{
	DefineCustomIntVariable("stumble.at", "Moment at which this session ends.", NULL, &at, 0, 0, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("stumble.worker_at", "Moment at which the sync worker ends.", NULL, &worker_at, 0, 0, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("stumble.seen", "Moments so far.", NULL, &seen, 0, 0, INT_MAX,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("stumble.softly", "By an error that ends the process, not by a signal that nobody survives.", NULL,
							 &softly, false, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("stumble.once", "File whose deletion allows it.", NULL, &once, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("stumble.wait", "Text of the statement behind which a worker waits.", NULL, &wait_behind, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	next_end = ExecutorEnd_hook;
	ExecutorEnd_hook = end;
	next_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
	RegisterXactCallback(commit, NULL);
}
