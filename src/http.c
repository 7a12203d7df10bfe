/*-------------------------------------------------------------------------
 *
 * http.c
 *	  The HTTP client: libcurl inside the server's own wait loop.
 *
 * libcurl knows nothing of the server's signals, memory or errors, so the
 * border between the two is drawn narrowly:
 *
 * - Nothing is initialised before the first request of a process that needs
 *	 it.  The postmaster never calls libcurl: its state would be inherited by
 *	 every fork, and its resolver may start threads.
 * - libcurl never waits.  It is called through the multi interface, says which
 *	 sockets and which timeout it waits for, and the process waits for them
 *	 together with its latch, at most a second at a time, then serves
 *	 interrupts.  So cancel, shutdown and the barriers of DROP DATABASE work
 *	 while a request hangs.
 * - libcurl's name resolver is a thread.  All signals are blocked while
 *	 libcurl runs, which the thread inherits: a signal of the server is never
 *	 delivered to it.
 * - A callback never calls the server (neither palloc nor ereport): it works
 *	 in malloc'd memory, returns a short count when it must stop, and leaves a
 *	 mark.
 * - What libcurl owns (handles, list, sockets, buffer) hangs on a reset
 *	 callback of the client's memory context, registered before the first
 *	 handle is made.  An ERROR anywhere cleans up by itself.
 *
 * Transactions: a request may last a minute, so the door (http_door) refuses
 * to open while a snapshot is held or the transaction has an id.  A worker
 * waits without any transaction; a procedure waits in the bare one that CALL
 * always has, which holds back no vacuum.  Nothing here is durable.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "http_int.h"
#include "regcrm.h"

StaticAssertDecl(LIBCURL_VERSION_NUM >= 0x074400,
				 "regcrm needs libcurl 7.68.0 or newer");

/* The longest that interrupts go unserved. */
#define HTTP_SLICE_MS		1000

static bool curl_ready = false;

static void http_init(void);
static void http_cleanup(void *arg);
static void http_door(void);
static CURLcode http_transfer(HttpClient *client);
static void http_wait(HttpClient *client);
static int	http_on_socket(CURL *easy, curl_socket_t fd, int what, void *arg,
						   void *fd_arg);
static int	http_on_timer(CURLM *multi, long timeout, void *arg);
static uint32 http_wait_event(void);

static int64
monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

HttpClient *
http_open(MemoryContext context)
{
	HttpClient *client;
	MemoryContextCallback *callback;
	sigset_t	saved;

	http_init();

	client = MemoryContextAllocZero(context, sizeof(HttpClient));
	client->timer_at = -1;

	/* First who cleans up, then what is to be cleaned up. */
	callback = MemoryContextAlloc(context, sizeof(MemoryContextCallback));
	callback->func = http_cleanup;
	callback->arg = client;
	MemoryContextRegisterResetCallback(context, callback);

	http_block_signals(&saved);
	client->multi = curl_multi_init();
	client->easy = curl_easy_init();
	http_restore_signals(&saved);

	if (client->multi == NULL || client->easy == NULL ||
		curl_multi_setopt(client->multi, CURLMOPT_SOCKETFUNCTION, http_on_socket) != CURLM_OK ||
		curl_multi_setopt(client->multi, CURLMOPT_SOCKETDATA, client) != CURLM_OK ||
		curl_multi_setopt(client->multi, CURLMOPT_TIMERFUNCTION, http_on_timer) != CURLM_OK ||
		curl_multi_setopt(client->multi, CURLMOPT_TIMERDATA, client) != CURLM_OK ||
		curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, 2L) != CURLM_OK)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not prepare the HTTP client")));

	return client;
}

void
http_request(HttpClient *client, const HttpRequest *request, HttpAnswer *answer)
{
	CURLcode	code;

	http_door();
	http_prepare(client, request);
	code = http_transfer(client);
	http_fill_answer(client, code, answer);
}

void
http_pause(long milliseconds)
{
	int64		until = monotonic_ms() + milliseconds;

	http_door();
	for (;;)
	{
		int64		left = until - monotonic_ms();

		if (left <= 0)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) Min(left, HTTP_SLICE_MS), http_wait_event());
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Readies libcurl in this process, once.
 */
static void
http_init(void)
{
	const curl_version_info_data *version;
	CURLcode	code;
	sigset_t	saved;

	if (curl_ready)
		return;
	if (IsPostmasterEnvironment && !IsUnderPostmaster)
		elog(ERROR, "libcurl may not be used in the postmaster");

	http_block_signals(&saved);
	code = curl_global_init(CURL_GLOBAL_DEFAULT);
	http_restore_signals(&saved);
	if (code != CURLE_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not initialize libcurl: %s", curl_easy_strerror(code))));

	/* The library that runs need not be the one we were built with. */
	version = curl_version_info(CURLVERSION_NOW);
	if (version->version_num < 0x074400 || !(version->features & CURL_VERSION_SSL))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("libcurl %s cannot be used", version->version),
				 errdetail("Version 7.68.0 or newer with TLS is needed.")));
	curl_ready = true;
}

/*
 * Memory context callback: gives back what libcurl owns.
 */
static void
http_cleanup(void *arg)
{
	HttpClient *client = arg;
	sigset_t	saved;

	http_block_signals(&saved);
	if (client->in_flight)
		(void) curl_multi_remove_handle(client->multi, client->easy);
	if (client->easy != NULL)
		curl_easy_cleanup(client->easy);
	if (client->multi != NULL)
		(void) curl_multi_cleanup(client->multi);
	curl_slist_free_all(client->headers);
	free(client->body);
	client->in_flight = false;
	client->easy = NULL;
	client->multi = NULL;
	client->headers = NULL;
	client->body = NULL;
	http_restore_signals(&saved);
}

/*
 * Refuses to wait for the network while others might wait for us.
 */
static void
http_door(void)
{
	/* The catalog snapshot is only a cache, but it holds xmin back. */
	InvalidateCatalogSnapshot();

	if (ActiveSnapshotSet() || TransactionIdIsValid(MyProc->xmin))
		elog(ERROR, "a network request may not be made while a snapshot is held");
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		elog(ERROR, "a network request may not be made in a transaction that has written");
}

/*
 * Runs one prepared transfer to its end.
 */
static CURLcode
http_transfer(HttpClient *client)
{
	CURLcode	result = CURLE_OK;
	CURLMcode	code;
	sigset_t	saved;
	bool		done = false;
	int			running;

	client->timer_at = -1;
	http_block_signals(&saved);
	code = curl_multi_add_handle(client->multi, client->easy);
	if (code == CURLM_OK)
		client->in_flight = true;
	http_restore_signals(&saved);
	if (code != CURLM_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not start an HTTP request: %s", curl_multi_strerror(code))));

	http_block_signals(&saved);
	code = curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	http_restore_signals(&saved);

	for (;;)
	{
		CURLMsg    *message;
		int			left;

		if (code != CURLM_OK)
			ereport(ERROR,
					(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					 errmsg("could not run an HTTP request: %s", curl_multi_strerror(code))));
		while ((message = curl_multi_info_read(client->multi, &left)) != NULL)
		{
			if (message->msg == CURLMSG_DONE)
			{
				result = message->data.result;
				done = true;
			}
		}
		if (done)
			break;

		http_wait(client);

		/* Something is due, or was seen on a socket: let libcurl look. */
		http_block_signals(&saved);
		code = CURLM_OK;
		if (client->timer_at >= 0 && client->timer_at <= monotonic_ms())
		{
			client->timer_at = -1;
			code = curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
		}
		http_restore_signals(&saved);
	}

	http_block_signals(&saved);
	(void) curl_multi_remove_handle(client->multi, client->easy);
	client->in_flight = false;
	http_restore_signals(&saved);
	return result;
}

/*
 * Waits for the sockets and the timer of libcurl, for the latch, and at most
 * for a slice; serves interrupts; hands to libcurl what its sockets have.
 */
static void
http_wait(HttpClient *client)
{
	WaitEventSet *set;
	WaitEvent	seen[HTTP_MAX_SOCKETS + 2];
	int			nseen;
	long		timeout = HTTP_SLICE_MS;

	if (client->timer_at >= 0)
		timeout = (long) Max(Min(client->timer_at - monotonic_ms(), HTTP_SLICE_MS), 0);

	/*
	 * The set is made anew each time, because nothing can be taken out of
	 * one.  At the pace of this API that costs nothing that could be seen.
	 */
	set = compat_create_wait_event_set(HTTP_MAX_SOCKETS + 2);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < client->nsockets; i++)
	{
		uint32		what = 0;

		if (client->sockets[i].what & CURL_POLL_IN)
			what |= WL_SOCKET_READABLE;
		if (client->sockets[i].what & CURL_POLL_OUT)
			what |= WL_SOCKET_WRITEABLE;
		if (what != 0)
			AddWaitEventToSet(set, what, client->sockets[i].fd, NULL, NULL);
	}
	nseen = WaitEventSetWait(set, timeout, seen, lengthof(seen), http_wait_event());
	FreeWaitEventSet(set);

	for (int i = 0; i < nseen; i++)
		if (seen[i].events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();

	for (int i = 0; i < nseen; i++)
	{
		int			what = 0;
		int			running;
		sigset_t	saved;

		if (seen[i].events & WL_SOCKET_READABLE)
			what |= CURL_CSELECT_IN;
		if (seen[i].events & WL_SOCKET_WRITEABLE)
			what |= CURL_CSELECT_OUT;
		if (what == 0)
			continue;
		http_block_signals(&saved);
		/* A failure shows as the end of the transfer. */
		(void) curl_multi_socket_action(client->multi, seen[i].fd, what, &running);
		http_restore_signals(&saved);
	}
}

static uint32
http_wait_event(void)
{
	static uint32 event = 0;

	if (event == 0)
		event = compat_wait_event("RegcrmHttp");
	return event;
}

/*
 * The callbacks of libcurl.  None of them may call the server.
 */

/* Notes which socket libcurl waits for, and for what. */
static int
http_on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *fd_arg)
{
	HttpClient *client = arg;
	int			i;

	(void) easy;
	(void) fd_arg;
	for (i = 0; i < client->nsockets; i++)
		if (client->sockets[i].fd == fd)
			break;
	if (what == CURL_POLL_REMOVE)
	{
		if (i < client->nsockets)
			client->sockets[i] = client->sockets[--client->nsockets];
		return 0;
	}
	if (i == client->nsockets)
	{
		if (client->nsockets == HTTP_MAX_SOCKETS)
			return -1;
		client->nsockets++;
	}
	client->sockets[i].fd = fd;
	client->sockets[i].what = what;
	return 0;
}

/* Notes when libcurl wants to be called next; -1 = only for a socket. */
static int
http_on_timer(CURLM *multi, long timeout, void *arg)
{
	HttpClient *client = arg;

	(void) multi;
	client->timer_at = timeout < 0 ? -1 : monotonic_ms() + timeout;
	return 0;
}
