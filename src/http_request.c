/*-------------------------------------------------------------------------
 *
 * http_request.c
 *	  One request: what libcurl is told of it, and what came back.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "utils/timestamp.h"

#include "http_int.h"
#include "regcrm.h"

/* All header lines of an answer together. */
#define HTTP_MAX_HEADER		(64 * 1024)

#define HTTP_CONNECT_MS		10000L

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

#if LIBCURL_VERSION_NUM >= 0x075000
static int	http_on_send(void *arg, char *to, char *from, int to_port, int from_port);
#endif
static size_t http_on_body(char *data, size_t size, size_t count, void *arg);
static size_t http_on_header(char *data, size_t size, size_t count, void *arg);

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
void
http_prepare(HttpClient *client, const HttpRequest *request)
{
	bool		plain = pg_strncasecmp(request->url, "http:", 5) == 0;
	long		total_ms = (long) regcrm_http_timeout;
	CURLcode	code;

	/* An interrupt may have left the previous request where it was. */
	if (client->in_flight)
	{
		sigset_t	saved;

		http_block_signals(&saved);
		(void) curl_multi_remove_handle(client->multi, client->easy);
		http_restore_signals(&saved);
		client->in_flight = false;
	}

	/* Keeps connections; forgets options. */
	curl_easy_reset(client->easy);
	curl_slist_free_all(client->headers);
	client->headers = NULL;
	client->length = 0;
	client->too_large = client->no_memory = client->headers_whole = false;
	client->sent = client->sent_again = false;
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

	if (regcrm_ca_file != NULL && regcrm_ca_file[0] != '\0')
	{
		HTTP_SETOPT(client, CURLOPT_CAINFO, regcrm_ca_file);
		HTTP_SETOPT(client, CURLOPT_CAPATH, NULL);
	}

	HTTP_SETOPT(client, CURLOPT_ERRORBUFFER, client->error);
#if LIBCURL_VERSION_NUM >= 0x075000

	/*
	 * On a connection that it has used before and that turns out dead libcurl
	 * sends a request again by itself: one more than the pace counted.
	 */
	HTTP_SETOPT(client, CURLOPT_PREREQFUNCTION, http_on_send);
	HTTP_SETOPT(client, CURLOPT_PREREQDATA, client);
#endif
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

void
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

	if (client->sent_again)
	{
		answer->outcome = HTTP_CUT;
		strlcpy(answer->failure, "the connection ended before an answer came", sizeof(answer->failure));
		return;
	}
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

/*
 * The callbacks of libcurl.  None of them may call the server.
 */

#if LIBCURL_VERSION_NUM >= 0x075000
/* Is told that a request goes out.  Once is enough. */
static int
http_on_send(void *arg, char *to, char *from, int to_port, int from_port)
{
	HttpClient *client = arg;

	(void) to;
	(void) from;
	(void) to_port;
	(void) from_port;
	client->sent_again = client->sent;
	client->sent = true;
	return client->sent_again ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}
#endif

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
