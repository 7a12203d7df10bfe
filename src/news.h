/*-------------------------------------------------------------------------
 *
 * news.h
 *	  Telling whoever listens what was flagged (docs/clock.md).
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_NEWS_H
#define REGCRM_NEWS_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef enum NewsKind
{
	NEWS_VIOLATION,
	NEWS_WARNING,
	NEWS_KINDS
} NewsKind;

/* A duty flagged, or a breach; numbers that are null are 0, moments DT_NOEND. */
typedef struct News
{
	int64		account_id;
	int64		deal_id;
	const char *rule;
	int64		task_id;
	int64		manager_id;
	const char *severity;
	TimestampTz arose_at;
	TimestampTz due_at;			/* of a violation: breached_at */
	TimestampTz resolved_at;
} News;

/* Called by _PG_init. */
extern void news_init(void);

/* Called by a worker of ours, once: nobody else ever tells anything. */
extern void news_allow(void);

/*
 * Whether what the ledger writes from here on is to be told.  Does nothing in
 * a process that is no worker.  An error ends it.
 */
extern void news_listen(bool on);

/* Asked by the ledger before it fills in a News. */
extern bool news_wanted;

/* Takes note of it, until the transaction commits; copies what it points at. */
extern void news_add(NewsKind kind, const News *news);

/*
 * Sends what was committed since the last call, in a transaction of its own.
 * Called outside of any.  What can't be sent is dropped with a line in the log.
 */
extern void news_send(void);

#endif							/* REGCRM_NEWS_H */
