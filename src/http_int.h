/*-------------------------------------------------------------------------
 *
 * http_int.h
 *	  What the rooms of the HTTP client share; http.h is their face.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_HTTP_INT_H
#define REGCRM_HTTP_INT_H

#include "postgres.h"

#include <pthread.h>
#include <signal.h>

#include <curl/curl.h>

#include "http.h"

/* A connection needs one socket; name lookup and happy eyeballs a few more. */
#define HTTP_MAX_SOCKETS	16

/* What of one header line is kept. */
#define HTTP_MAX_FIELD		128

typedef struct WatchedSocket
{
	curl_socket_t fd;
	int			what;			/* CURL_POLL_... */
} WatchedSocket;

/*
 * Callbacks get a pointer to this and write into it; they touch nothing else.
 */
struct HttpClient
{
	CURLM	   *multi;
	CURL	   *easy;
	struct curl_slist *headers;
	bool		in_flight;		/* easy has been added to multi */
	char		error[CURL_ERROR_SIZE];

	/* What libcurl waits for. */
	int			nsockets;
	WatchedSocket sockets[HTTP_MAX_SOCKETS];
	int64		timer_at;		/* monotonic milliseconds; -1 = no timer */

	/* The answer that is coming in. */
	char	   *body;			/* malloc'd */
	size_t		length;
	size_t		capacity;
	size_t		max_length;
	bool		too_large;
	bool		no_memory;
	bool		sent;			/* the request has gone out */
	bool		sent_again;		/* libcurl was about to send it once more */
	bool		headers_whole;	/* the empty line behind them has come */
	size_t		header_length;
	char		date[HTTP_MAX_FIELD];
	char		retry_after[HTTP_MAX_FIELD];
	char		content_type[HTTP_MAX_FIELD];
};

/*
 * Blocks every signal while libcurl runs, and lets them in again.  pthread's
 * call, because the mask is what a resolver thread inherits.
 */
static inline void
http_block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static inline void
http_restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/* http_request.c */
extern void http_prepare(HttpClient *client, const HttpRequest *request);
extern void http_fill_answer(HttpClient *client, CURLcode code, HttpAnswer *answer);

#endif							/* REGCRM_HTTP_INT_H */
