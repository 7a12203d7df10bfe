/*-------------------------------------------------------------------------
 *
 * news.c
 *	  Telling whoever listens what was flagged (docs/clock.md).
 *
 * What a worker's judging finds anew, a violation or a warning, is sent as a
 * notification, so that a bot can tell the manager at once.  Three things keep
 * that from standing in the way of the findings themselves:
 *	- Only workers send.  A notification makes commits wait for each other, which
 *	  writers of facts must not.
 *	- They are sent in a transaction of their own, after the one that stored the
 *	  findings.  A queue that is full (a listener that sits in a transaction for
 *	  hours) then costs notifications, never findings.  The price: one that is
 *	  killed in between tells nothing.  Who must know it all reads the tables.
 *	- At most NEWS_MOST a channel are sent at a time; the rest is one line that
 *	  says how many.
 *
 * The ledger adds while news_wanted; what was added counts from the commit.
 * What stands in an aborted subtransaction can't be told from the rest of its
 * transaction here, so an abort of either drops all that has not committed:
 * rather too little than a breach that is none.
 *
 * Anyone who can connect to the database can listen, so only numbers, codes
 * and moments are told: no name, no text.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "news.h"
#include "work.h"

/* Of one channel at a time; a round of the clock, or of the sync, is a time. */
#define NEWS_MOST		100

/* Of the payloads; see docs/clock.md before you change what they hold. */
#define NEWS_VERSION	1

typedef struct Channel
{
	int			n;				/* payloads kept */
	int			committed;		/* of these, the first so many */
	int64		more;			/* not kept */
	int64		more_committed;
	char	   *payloads[NEWS_MOST];
} Channel;

static const char *const channel_names[NEWS_KINDS] = {"regcrm_violation", "regcrm_warning"};

static Channel channels[NEWS_KINDS];
static MemoryContext context = NULL;
static bool allowed = false;

bool		news_wanted = false;

static void
drop_uncommitted(void)
{
	news_wanted = false;
	for (int i = 0; i < NEWS_KINDS; i++)
	{
		channels[i].n = channels[i].committed;
		channels[i].more = channels[i].more_committed;
	}
}

static void
at_end_of_transaction(XactEvent event, void *arg)
{
	(void) arg;
	if (event == XACT_EVENT_COMMIT)
		for (int i = 0; i < NEWS_KINDS; i++)
		{
			channels[i].committed = channels[i].n;
			channels[i].more_committed = channels[i].more;
		}
	else if (event == XACT_EVENT_ABORT)
		drop_uncommitted();
}

static void
at_subtransaction(SubXactEvent event, SubTransactionId subid,
				  SubTransactionId parent, void *arg)
{
	(void) subid;
	(void) parent;
	(void) arg;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		drop_uncommitted();
}

void
news_init(void)
{
	RegisterXactCallback(at_end_of_transaction, NULL);
	RegisterSubXactCallback(at_subtransaction, NULL);
}

void
news_allow(void)
{
	allowed = true;
}

void
news_listen(bool on)
{
	news_wanted = allowed && on;
}

static void
put_moment(StringInfo out, const char *key, TimestampTz at)
{
	char		text[MAXDATELEN + 1];
	int			utc = 0;

	if (TIMESTAMP_NOT_FINITE(at))
	{
		appendStringInfo(out, ", \"%s\": null", key);
		return;
	}
	JsonEncodeDateTime(text, TimestampTzGetDatum(at), TIMESTAMPTZOID, &utc);
	appendStringInfo(out, ", \"%s\": \"%s\"", key, text);
}

static void
put_number(StringInfo out, const char *key, int64 number)
{
	if (number == 0)
		appendStringInfo(out, ", \"%s\": null", key);
	else
		appendStringInfo(out, ", \"%s\": " INT64_FORMAT, key, number);
}

static char *
payload(NewsKind kind, const News *news)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfo(&out, "{\"version\": %d, \"account_id\": " INT64_FORMAT
					 ", \"deal_id\": " INT64_FORMAT ", \"rule\": ",
					 NEWS_VERSION, news->account_id, news->deal_id);
	escape_json(&out, news->rule);
	put_number(&out, "task_id", news->task_id);
	put_number(&out, "manager_id", news->manager_id);
	appendStringInfoString(&out, ", \"severity\": ");
	escape_json(&out, news->severity);
	put_moment(&out, "arose_at", news->arose_at);
	put_moment(&out, kind == NEWS_VIOLATION ? "breached_at" : "due_at", news->due_at);
	if (kind == NEWS_VIOLATION)
		put_moment(&out, "resolved_at", news->resolved_at);
	appendStringInfoChar(&out, '}');
	return out.data;
}

void
news_add(NewsKind kind, const News *news)
{
	Channel    *channel = &channels[kind];
	MemoryContext old;

	if (channel->n == NEWS_MOST)
	{
		channel->more++;
		return;
	}
	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "regcrm news", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	channel->payloads[channel->n] = payload(kind, news);
	channel->n++;
	MemoryContextSwitchTo(old);
}

static void
step_send(void *arg)
{
	const Oid	types[] = {TEXTOID, TEXTOID};

	(void) arg;
	/* nothing is lost by a crash that listeners would not lose anyway */
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	for (int i = 0; i < NEWS_KINDS; i++)
	{
		const Channel *channel = &channels[i];

		for (int k = 0; k < channel->n + (channel->more > 0); k++)
		{
			Datum		values[2] = {CStringGetTextDatum(channel_names[i])};

			values[1] = k < channel->n ? CStringGetTextDatum(channel->payloads[k]) :
				CStringGetTextDatum(psprintf("{\"version\": %d, \"more\": " INT64_FORMAT "}",
											 NEWS_VERSION, channel->more));
			(void) work_execute("SELECT pg_catalog.pg_notify($1, $2)", 2, types, values, NULL);
		}
	}
}

void
news_send(void)
{
	static bool told = false;
	ErrorData  *error;

	drop_uncommitted();
	if (channels[NEWS_VIOLATION].n == 0 && channels[NEWS_WARNING].n == 0)
		return;
	error = work_transaction(false, step_send, NULL);
	memset(channels, 0, sizeof(channels));
	MemoryContextReset(context);
	if (error != NULL && !told)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("could not notify of what was flagged: %s", error->message),
				 errdetail("The findings are stored."),
				 errhint("Look for sessions that listen and sit in a transaction.")));
	told = error != NULL;
}
