/*-------------------------------------------------------------------------
 *
 * webhook.h
 *	  Reads the body of a webhook of amoCRM: form-encoded keys with brackets,
 *	  as PHP writes them, into JSON (pure).
 *
 *	  leads[status][0][id]=9101&leads[status][0][status_id]=23
 *	  -> {"leads":{"status":{"0":{"id":"9101","status_id":"23"}}}}
 *
 * Anybody may send such a body: amoCRM signs nothing.  So what is read is
 * bounded in every direction, and whatever it is, the answer is JSON that the
 * server takes, or a sentence.
 *
 * No server header is included: this is built and fuzzed outside the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_WEBHOOK_H
#define REGCRM_WEBHOOK_H

#include <stddef.h>

#include "rules.h"

/* amoCRM's own are some kilobytes; a message may hold 64 kB, each byte as %XX. */
#define WEBHOOK_MAX_BODY	(1024 * 1024)
#define WEBHOOK_MAX_PAIRS	10000
#define WEBHOOK_MAX_DEPTH	16
#define WEBHOOK_MAX_KEY		1024

typedef struct WebhookTree
{
	char	   *json;			/* UTF-8, ends in a zero byte */
	size_t		length;
	int			pairs;
	int			damaged;		/* bytes that no text can hold, now U+FFFD */
} WebhookTree;

/*
 * Reads a body.  Returns NULL, or why it can't be read (a phrase, lower case,
 * static).
 *
 * - Everything is an object, lists too ({"0": …, "1": …}); every value is a
 *	 text.  Of two values of one key the later counts, as in PHP.
 * - key[] = another element: its key is +N, N = the place in the body.
 * - A path that is a value and a container as well: the value is the
 *	 container's element "" (which no key can be otherwise), whichever of the
 *	 two came first.
 * - A key without its closing bracket is taken as it stands; what follows the
 *	 last closing bracket is passed over.
 */
extern const char *webhook_parse(const char *body, size_t length,
								 const Memory *memory, WebhookTree *tree);

#endif							/* REGCRM_WEBHOOK_H */
