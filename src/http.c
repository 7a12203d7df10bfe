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

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <curl/curl.h>

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "http.h"
#include "regcrm.h"

StaticAssertDecl(LIBCURL_VERSION_NUM >= 0x074400,
				 "regcrm needs libcurl 7.68.0 or newer");

/* A connection needs one socket; name lookup and happy eyeballs a few more. */
#define HTTP_MAX_SOCKETS	16

/* All header lines of an answer together. */
#define HTTP_MAX_HEADER		(64 * 1024)

/* The longest that interrupts go unserved. */
#define HTTP_SLICE_MS		1000

#define HTTP_CONNECT_MS		10000L

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
	bool		headers_whole;	/* the empty line behind them has come */
	size_t		header_length;
	char		date[HTTP_MAX_FIELD];
	char		retry_after[HTTP_MAX_FIELD];
	char		content_type[HTTP_MAX_FIELD];
};

/* Options that are the same for every request, and why. */
static const struct
{
	CURLoption	option;
	long		number;
	const char *text;			/* where not NULL, the value is this */
}			fixed_options[] =
{
	/* The server's SIGALRM is its own; no longjmp out of a resolver. */
	{CURLOPT_NOSIGNAL, 1L, NULL},
	/* A token goes to no other host, whatever an answer says. */
	{CURLOPT_FOLLOWLOCATION, 0L, NULL},
	/* Nothing is taken from the environment or the home of the server. */
	{CURLOPT_PROXY, 0L, ""},
	{CURLOPT_NOPROXY, 0L, "*"},
	{CURLOPT_NETRC, (long) CURL_NETRC_IGNORED, NULL},
	/* The other side must prove who it is. */
	{CURLOPT_SSL_VERIFYPEER, 1L, NULL},
	{CURLOPT_SSL_VERIFYHOST, 2L, NULL},
	{CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2, NULL},
	/* One request at a time: nothing to win by multiplexing. */
	{CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1, NULL},
	/* Decoded on the way in, and counted after decoding. */
	{CURLOPT_ACCEPT_ENCODING, 0L, "gzip"},
	{CURLOPT_TCP_KEEPALIVE, 1L, NULL},
	{CURLOPT_CONNECTTIMEOUT_MS, HTTP_CONNECT_MS, NULL},
	{CURLOPT_USERAGENT, 0L, "regcrm/" REGCRM_VERSION},
#if LIBCURL_VERSION_NUM >= 0x075700
	/* Giving up does not wait for a resolver thread that hangs. */
	{CURLOPT_QUICK_EXIT, 1L, NULL},
#endif
};

static bool curl_ready = false;

static void http_init(void);
static void http_cleanup(void *arg);
static void http_door(void);
static void http_prepare(HttpClient *client, const HttpRequest *request);
static CURLcode http_transfer(HttpClient *client);
static void http_wait(HttpClient *client);
static void http_fill_answer(HttpClient *client, CURLcode code,
							 HttpAnswer *answer);
static bool http_is_loopback(const char *host);
static size_t http_on_body(char *data, size_t size, size_t count, void *arg);
static size_t http_on_header(char *data, size_t size, size_t count, void *arg);
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

/*
 * Blocks every signal while libcurl runs, and lets them in again.  pthread's
 * call, because the mask is what a resolver thread inherits.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t	all;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
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

	block_signals(&saved);
	client->multi = curl_multi_init();
	client->easy = curl_easy_init();
	restore_signals(&saved);

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

const char *
http_check_base(const char *url, char **origin, char **host)
{
	CURLU	   *parts;
	char	   *found[6] = {NULL, NULL, NULL, NULL, NULL, NULL};
	static const CURLUPart which[6] = {
		CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT, CURLUPART_PATH,
		CURLUPART_USER, CURLUPART_QUERY
	};
	const char *wrong = NULL;

	*origin = *host = NULL;

	/*
	 * Nothing between curl_url() and curl_url_cleanup() may raise an error:
	 * the strings are libcurl's.  The ones that are kept are copied last.
	 */
	parts = curl_url();
	if (parts == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	if (curl_url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK)
		wrong = "It must look like \"https://example.amocrm.ru\".";
	else
	{
		for (int i = 0; i < lengthof(which); i++)
			(void) curl_url_get(parts, which[i], &found[i], 0);

		if (found[0] == NULL || found[1] == NULL || found[1][0] == '\0')
			wrong = "It must look like \"https://example.amocrm.ru\".";
		else if (found[4] != NULL)
			wrong = "It must not hold a user name or a password.";
		else if (found[5] != NULL ||
				 (found[3] != NULL && strcmp(found[3], "/") != 0 && found[3][0] != '\0'))
			wrong = "It must end after the host: no path and no parameters.";
		else if (strcmp(found[0], "https") == 0)
			 /* good */ ;
		else if (strcmp(found[0], "http") != 0)
			wrong = "Its protocol must be https.";
		else if (!regcrm_allow_http)
			wrong = "Its protocol must be https; plain http is for tests, with regcrm.allow_http on.";
		else if (!http_is_loopback(found[1]))
			wrong = "Plain http may only go to this machine itself.";
	}

	if (wrong == NULL)
	{
		char		copy[3][256];
		bool		fits = true;

		for (int i = 0; i < 3; i++)
			fits &= strlcpy(copy[i], found[i] ? found[i] : "", sizeof(copy[i])) < sizeof(copy[i]);
		for (int i = 0; i < lengthof(which); i++)
			curl_free(found[i]);
		curl_url_cleanup(parts);
		if (!fits)
			return "It is too long.";
		*origin = psprintf("%s://%s%s%s", copy[0], copy[1],
						   copy[2][0] ? ":" : "", copy[2]);
		*host = pstrdup(copy[1]);
		return NULL;
	}

	for (int i = 0; i < lengthof(which); i++)
		curl_free(found[i]);
	curl_url_cleanup(parts);
	return wrong;
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

	block_signals(&saved);
	code = curl_global_init(CURL_GLOBAL_DEFAULT);
	restore_signals(&saved);
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

	block_signals(&saved);
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
	restore_signals(&saved);
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

static void
http_setopt_failed(CURLcode code, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("could not set up an HTTP request: %s", curl_easy_strerror(code)),
			 errdetail_internal("%s", what)));
}

#define HTTP_SETOPT(client, option, value) \
	do { \
		CURLcode	code_ = curl_easy_setopt((client)->easy, option, value); \
		if (code_ != CURLE_OK) \
			http_setopt_failed(code_, #option); \
	} while (0)

static void
http_add_header(HttpClient *client, const char *line)
{
	struct curl_slist *longer = curl_slist_append(client->headers, line);

	if (longer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	client->headers = longer;
}

/*
 * Sets every option of one request.
 */
static void
http_prepare(HttpClient *client, const HttpRequest *request)
{
	bool		plain = pg_strncasecmp(request->url, "http:", 5) == 0;
	long		total_ms = (long) regcrm_http_timeout;
	CURLcode	code;

	/* An interrupt may have left the previous request where it was. */
	if (client->in_flight)
	{
		sigset_t	saved;

		block_signals(&saved);
		(void) curl_multi_remove_handle(client->multi, client->easy);
		restore_signals(&saved);
		client->in_flight = false;
	}

	/* Keeps connections; forgets options. */
	curl_easy_reset(client->easy);
	curl_slist_free_all(client->headers);
	client->headers = NULL;
	client->length = 0;
	client->too_large = client->no_memory = client->headers_whole = false;
	client->header_length = 0;
	client->error[0] = '\0';
	client->date[0] = client->retry_after[0] = client->content_type[0] = '\0';
	client->max_length = (size_t) regcrm_max_response_size * 1024;

	for (int i = 0; i < lengthof(fixed_options); i++)
	{
		if (fixed_options[i].text != NULL)
			code = curl_easy_setopt(client->easy, fixed_options[i].option, fixed_options[i].text);
		else
			code = curl_easy_setopt(client->easy, fixed_options[i].option, fixed_options[i].number);
		if (code != CURLE_OK)
			http_setopt_failed(code, "fixed option");
	}

	if (plain)
	{
		char	   *origin;
		char	   *host;
		const char *end = strchr(request->url + strlen("http://"), '/');
		char	   *base = end ? pnstrdup(request->url, end - request->url) : pstrdup(request->url);
		const char *wrong = http_check_base(base, &origin, &host);

		/* Asked again for each request: the setting may have been turned off. */
		if (wrong != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("plain http is not allowed to \"%s\"", base),
					 errdetail("%s", wrong)));
	}
#if LIBCURL_VERSION_NUM >= 0x075500
	HTTP_SETOPT(client, CURLOPT_PROTOCOLS_STR, plain ? "http" : "https");
#else
	HTTP_SETOPT(client, CURLOPT_PROTOCOLS, (long) (plain ? CURLPROTO_HTTP : CURLPROTO_HTTPS));
#endif

	/*
	 * A slow filter may take most of a minute before the first byte, so
	 * silence alone is no fault until two thirds of the whole time are over.
	 */
	HTTP_SETOPT(client, CURLOPT_TIMEOUT_MS, total_ms);
	HTTP_SETOPT(client, CURLOPT_LOW_SPEED_LIMIT, 10L);
	HTTP_SETOPT(client, CURLOPT_LOW_SPEED_TIME, Max(total_ms * 2 / 3000, 1L));

	HTTP_SETOPT(client, CURLOPT_ERRORBUFFER, client->error);
	HTTP_SETOPT(client, CURLOPT_WRITEFUNCTION, http_on_body);
	HTTP_SETOPT(client, CURLOPT_WRITEDATA, client);
	HTTP_SETOPT(client, CURLOPT_HEADERFUNCTION, http_on_header);
	HTTP_SETOPT(client, CURLOPT_HEADERDATA, client);

	HTTP_SETOPT(client, CURLOPT_URL, request->url);
	if (request->bearer != NULL)
	{
		char	   *line = psprintf("Authorization: Bearer %s", request->bearer);

		http_add_header(client, line);
		explicit_bzero(line, strlen(line));
		pfree(line);
	}
	if (request->refresh != NULL)
	{
		char	   *line = psprintf("X-Refresh-Token: %s", request->refresh);

		http_add_header(client, line);
		explicit_bzero(line, strlen(line));
		pfree(line);
	}
	http_add_header(client, "Accept: application/hal+json, application/json");
	if (request->body != NULL)
	{
		http_add_header(client, "Content-Type: application/json");
		HTTP_SETOPT(client, CURLOPT_POSTFIELDSIZE, (long) strlen(request->body));
		HTTP_SETOPT(client, CURLOPT_COPYPOSTFIELDS, request->body);
		if (request->method != NULL)
			HTTP_SETOPT(client, CURLOPT_CUSTOMREQUEST, request->method);

		/*
		 * On a reused connection that turns out dead libcurl sends the
		 * request again.  What writes is not safe to repeat (a refresh token
		 * dies when it is used), so it gets a connection of its own.
		 */
		HTTP_SETOPT(client, CURLOPT_FRESH_CONNECT, 1L);
		HTTP_SETOPT(client, CURLOPT_FORBID_REUSE, 1L);
	}
	HTTP_SETOPT(client, CURLOPT_HTTPHEADER, client->headers);
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
	block_signals(&saved);
	code = curl_multi_add_handle(client->multi, client->easy);
	if (code == CURLM_OK)
		client->in_flight = true;
	restore_signals(&saved);
	if (code != CURLM_OK)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("could not start an HTTP request: %s", curl_multi_strerror(code))));

	block_signals(&saved);
	code = curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	restore_signals(&saved);

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
		block_signals(&saved);
		code = CURLM_OK;
		if (client->timer_at >= 0 && client->timer_at <= monotonic_ms())
		{
			client->timer_at = -1;
			code = curl_multi_socket_action(client->multi, CURL_SOCKET_TIMEOUT, 0, &running);
		}
		restore_signals(&saved);
	}

	block_signals(&saved);
	(void) curl_multi_remove_handle(client->multi, client->easy);
	client->in_flight = false;
	restore_signals(&saved);
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
		block_signals(&saved);
		/* A failure shows as the end of the transfer. */
		(void) curl_multi_socket_action(client->multi, seen[i].fd, what, &running);
		restore_signals(&saved);
	}
}

static void
http_fill_answer(HttpClient *client, CURLcode code, HttpAnswer *answer)
{
	long		status = 0;
	long		sent = 0;
	char	   *type = NULL;
	const char *phase;
	double		connected = 0;
	double		began = 0;

	memset(answer, 0, sizeof(HttpAnswer));
	answer->retry_after = -1;
	answer->content_type = client->content_type;
	answer->body = "";

	(void) curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
	(void) curl_easy_getinfo(client->easy, CURLINFO_REQUEST_SIZE, &sent);
	(void) curl_easy_getinfo(client->easy, CURLINFO_CONNECT_TIME, &connected);
	(void) curl_easy_getinfo(client->easy, CURLINFO_STARTTRANSFER_TIME, &began);
	answer->status = (int) status;

	/*
	 * A connection that ends within the headers is the end of an answer
	 * without a body to libcurl, which here would say: there is nothing.
	 */
	if (code == CURLE_OK && !client->headers_whole)
	{
		answer->outcome = HTTP_CUT;
		strlcpy(answer->failure, "the connection ended within the headers of the answer",
				sizeof(answer->failure));
		return;
	}

	if (code == CURLE_OK)
	{
		answer->outcome = HTTP_ANSWERED;
		if (client->length > 0)
		{
			answer->body = client->body;
			answer->length = client->length;
		}
		if (curl_easy_getinfo(client->easy, CURLINFO_CONTENT_TYPE, &type) == CURLE_OK && type != NULL)
			strlcpy(client->content_type, type, sizeof(client->content_type));
		if (client->date[0] != '\0')
		{
			time_t		at = curl_getdate(client->date, NULL);

			if (at > 0)
			{
				answer->has_date = true;
				answer->date = time_t_to_timestamptz((pg_time_t) at);
			}
		}
		if (client->retry_after[0] != '\0')
		{
			char	   *end;
			long		seconds;

			errno = 0;
			seconds = strtol(client->retry_after, &end, 10);
			if (errno == 0 && end != client->retry_after && *end == '\0' && seconds >= 0)
				answer->retry_after = (int) Min(seconds, 86400);
			else
			{
				time_t		at = curl_getdate(client->retry_after, NULL);
				time_t		now = client->date[0] ? curl_getdate(client->date, NULL) : time(NULL);

				if (at > 0 && now > 0)
					answer->retry_after = (int) Max(Min(at - now, 86400), 0);
			}
		}
		return;
	}

	/* A dead connection, and how far it got: name, connection, TLS, answer. */
	if (sent > 0)
		phase = began > 0 ? "while the answer came in" : "waiting for the answer";
	else
		phase = connected > 0 ? "before the request was sent" : "connecting";

	if (client->too_large)
	{
		answer->outcome = HTTP_TOO_LARGE;
		snprintf(answer->failure, sizeof(answer->failure),
				 "the answer is larger than regcrm.max_response_size (%d kB)",
				 regcrm_max_response_size);
		return;
	}
	switch (code)
	{
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_ISSUER_ERROR:
			answer->outcome = HTTP_UNSAFE;
			break;
		case CURLE_OPERATION_TIMEDOUT:
			answer->outcome = sent > 0 ? HTTP_TOO_SLOW : HTTP_NOT_SENT;
			break;
		default:
			answer->outcome = sent > 0 ? HTTP_CUT : HTTP_NOT_SENT;
			break;
	}
	snprintf(answer->failure, sizeof(answer->failure), "%s (%s)",
			 client->no_memory ? "out of memory" :
			 client->error[0] ? client->error : curl_easy_strerror(code), phase);
}

static bool
http_is_loopback(const char *host)
{
	struct in_addr four;
	struct in6_addr six;
	char		bare[64];
	size_t		length = strlen(host);

	if (pg_strcasecmp(host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, host, &four) == 1)
		return (ntohl(four.s_addr) >> 24) == 127;
	if (length > 2 && length < sizeof(bare) && host[0] == '[' && host[length - 1] == ']')
	{
		memcpy(bare, host + 1, length - 2);
		bare[length - 2] = '\0';
		if (inet_pton(AF_INET6, bare, &six) == 1)
			return IN6_IS_ADDR_LOOPBACK(&six);
	}
	return false;
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

/* Takes in a piece of the body, already decoded.  0 ends the transfer. */
static size_t
http_on_body(char *data, size_t size, size_t count, void *arg)
{
	HttpClient *client = arg;
	size_t		n = size * count;

	if (n > client->max_length - client->length)
	{
		client->too_large = true;
		return 0;
	}
	if (client->length + n + 1 > client->capacity)
	{
		size_t		capacity = client->capacity > 0 ? client->capacity : 16384;
		char	   *larger;

		while (capacity < client->length + n + 1)
			capacity *= 2;
		larger = realloc(client->body, capacity);
		if (larger == NULL)
		{
			client->no_memory = true;
			return 0;
		}
		client->body = larger;
		client->capacity = capacity;
	}
	memcpy(client->body + client->length, data, n);
	client->length += n;
	client->body[client->length] = '\0';
	return n;
}

static void
keep_field(const char *line, size_t n, const char *name, char *field)
{
	size_t		skip = strlen(name);

	if (n < skip || strncasecmp(line, name, skip) != 0)
		return;
	line += skip;
	n -= skip;
	while (n > 0 && (*line == ' ' || *line == '\t'))
		line++, n--;
	while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == '\n' || line[n - 1] == ' '))
		n--;
	if (n >= HTTP_MAX_FIELD)
		return;
	memcpy(field, line, n);
	field[n] = '\0';
}

/* Takes in one header line, which ends in no zero byte.  0 ends the transfer. */
static size_t
http_on_header(char *data, size_t size, size_t count, void *arg)
{
	HttpClient *client = arg;
	size_t		n = size * count;

	client->header_length += n;
	if (client->header_length > HTTP_MAX_HEADER)
		return 0;
	/* Of an interim answer (100) too; then those of the real one follow. */
	client->headers_whole = n > 0 && (data[0] == '\r' || data[0] == '\n');
	keep_field(data, n, "date:", client->date);
	keep_field(data, n, "retry-after:", client->retry_after);
	return n;
}

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
