/*-------------------------------------------------------------------------
 *
 * amocrm.h
 *	  The amoCRM API: addresses, pace, kinds of answers, pages.
 *
 * What is read, in which order, and what is done about a failure is for
 * sync.c; this room knows no table.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_AMOCRM_H
#define REGCRM_AMOCRM_H

#include "postgres.h"

#include "http.h"
#include "lib/stringinfo.h"
#include "utils/jsonb.h"

/* What an answer means for whoever asked. */
typedef enum AmoVerdict
{
	AMO_PAGE,					/* there is JSON to read */
	AMO_EMPTY,					/* nothing there: 204, or 200 without a body */
	AMO_UNAUTHORIZED,			/* 401: the token is not, or no longer, good */
	AMO_NOT_PAID,				/* 402 */
	AMO_FORBIDDEN,				/* 403: no rights, or the account is blocked */
	AMO_TOO_FAST,				/* 429 */
	AMO_OVERLOADED,				/* 5xx, or a page too large: ask for less */
	AMO_UNREADABLE,				/* success that is no JSON */
	AMO_REFUSED,				/* any other status: asking again won't help */
	AMO_UNREACHED				/* no answer */
} AmoVerdict;

/* body is valid until the client's next request. */
typedef struct AmoAnswer
{
	AmoVerdict	verdict;
	const char *body;
	size_t		length;
	int			status;			/* 0 = no answer */
	int			retry_after;	/* seconds; -1 = not given */
	bool		is_json;		/* by its content type */
	bool		sent;			/* false: the server saw nothing of it */
	bool		unsafe;			/* it is not who it should be */
	char		reason[512];	/* for people; empty for a page and for nothing */
} AmoAnswer;

typedef struct AmoClient AmoClient;

/* An element that is no jsonb, as it came. */
typedef struct AmoBadElement
{
	const char *bytes;
	size_t		length;
	char		sqlstate[6];
	char	   *error;
} AmoBadElement;

typedef struct AmoPage
{
	Jsonb	   *page;			/* all that could be read */
	bool		has_next;
	int			nbad;
	AmoBadElement *bad;
	char	   *error;			/* where amo_read_page() failed */
} AmoPage;

/* Whether all processes of the server share one pace for an account. */
extern bool amo_pace_is_shared(void);

/* Memory that the pace of an account is kept in; only when preloaded. */
extern Size amo_shmem_size(void);
extern void amo_shmem_init(void);

/* origin is "https://host", as http_check_base() gives it. */
extern AmoClient *amo_open(MemoryContext context, const char *origin);

/* The same for another address of the same account: they share one pace. */
extern AmoClient *amo_open_beside(MemoryContext context, const char *origin, const AmoClient *other);

/* The same where the account has moved there: whoever asks there from now on keeps that pace. */
extern AmoClient *amo_move(MemoryContext context, const char *origin, const AmoClient *old);

/*
 * Without shared memory other processes' requests are not seen: says when the
 * last one was, as far as known, so that the pace is kept over the change.
 */
extern void amo_last_used(AmoClient *client, TimestampTz at);

/* The path begins with a slash and may carry parameters. */
extern void amo_get(AmoClient *client, const char *token, const char *path,
					AmoAnswer *answer);

/* Exchanges a code or a refresh token.  No answer's body gets into reason. */
extern void amo_post_token(AmoClient *client, const char *json,
						   AmoAnswer *answer);

/* Sends JSON: POST or PATCH, once.  AMO_PAGE or AMO_EMPTY = it was taken. */
extern void amo_write(AmoClient *client, const char *token, const char *method,
					  const char *path, const char *json, AmoAnswer *answer);

/* Asks a shard's host where the account of a token lives; by one of the two. */
extern void amo_ask_home(AmoClient *client, const char *refresh, const char *token,
						 AmoAnswer *answer);

/* The address that amo_open() was given. */
extern const char *amo_origin(const AmoClient *client);

/* amoCRM's clock, to the second and never ahead; false before any answer. */
extern bool amo_server_time(AmoClient *client, TimestampTz *now);

/* How many requests have been sent. */
extern int64 amo_requests(AmoClient *client);

/* Appends name=value, percent-encoded, after ? or &. */
extern void amo_parameter(StringInfo path, const char *name, const char *value);
extern void amo_parameter_int(StringInfo path, const char *name, int64 value);

/*
 * Turns a page's bytes into jsonb.  Elements of _embedded.ENTITY (or, with
 * entity NULL, the page itself) that can be no jsonb are set aside; what is
 * left then stands in a page of its own, whose _links.self is the path.  False
 * where the text is not whole.  In a transaction; uses subtransactions.
 */
extern bool amo_read_page(const char *body, size_t length, const char *path,
						  const char *entity, AmoPage *page);

#endif							/* REGCRM_AMOCRM_H */
