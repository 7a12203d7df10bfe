/*-------------------------------------------------------------------------
 *
 * http.h
 *	  One HTTP client for one process: a request, an answer, in turn.
 *
 * A transport failure is data, not an error: only the caller knows whether
 * to try again, to wait or to tell.  What raises an error is a request that
 * may not be made at all (a forbidden protocol, an open snapshot) and an
 * interrupt that came while waiting.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_HTTP_H
#define REGCRM_HTTP_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct HttpClient HttpClient;

/* How a request ended. */
typedef enum HttpOutcome
{
	HTTP_ANSWERED,				/* there is a status and a whole body */
	HTTP_NOT_SENT,				/* no connection: the server saw nothing of it */
	HTTP_CUT,					/* broken after it was sent: what the server did
								 * is unknown */
	HTTP_TOO_SLOW,				/* a time limit; sent or not is unknown */
	HTTP_TOO_LARGE,				/* the body is over the limit */
	HTTP_UNSAFE					/* TLS: the other side is not who it should be */
} HttpOutcome;

typedef struct HttpRequest
{
	const char *url;
	const char *bearer;			/* token, or NULL; never part of a message */
	const char *refresh;		/* likewise, shown as X-Refresh-Token */
	const char *body;			/* JSON to send; NULL = GET */
	const char *method;			/* of a request with a body; NULL = POST */
} HttpRequest;

/*
 * body and content_type belong to the client and are valid until its next
 * request.  body is bytes with a length; a zero byte follows it, but others
 * may be within.
 */
typedef struct HttpAnswer
{
	HttpOutcome outcome;
	char		failure[256];	/* for people; empty when answered */
	int			status;
	const char *body;
	size_t		length;
	const char *content_type;	/* "" when not given */
	bool		has_date;
	TimestampTz date;			/* the server's clock, to the second */
	int			retry_after;	/* seconds; -1 = not given */
} HttpAnswer;

/*
 * Makes a client that lives as long as the memory context.  It keeps its
 * connection open between requests.
 */
extern HttpClient *http_open(MemoryContext context);

/*
 * Makes one request and waits for its end, serving interrupts.  Must be
 * called without a snapshot and without a transaction that has written.
 */
extern void http_request(HttpClient *client, const HttpRequest *request,
						 HttpAnswer *answer);

/* Waits, serving interrupts.  The same conditions as for http_request(). */
extern void http_pause(long milliseconds);

/*
 * Takes a base URL apart: NULL when it is good, else what is wrong with it
 * (a sentence for people).  *origin becomes "scheme://host[:port]" in the
 * current context, *host the host alone.
 */
extern const char *http_check_base(const char *url, char **origin, char **host);

#endif							/* REGCRM_HTTP_H */
