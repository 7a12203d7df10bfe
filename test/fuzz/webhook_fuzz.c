/*-------------------------------------------------------------------------
 *
 * webhook_fuzz.c
 *	  libFuzzer's way into webhook_parse(); test/fuzz/run builds and runs it.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "jsonsplit.h"
#include "webhook.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
take(void *self, const char *bytes, size_t length)
{
	(void) bytes;
	(void) length;
	++*(int *) self;
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	WebhookTree tree;

	if (webhook_parse((const char *) data, size, &tap_memory, &tree) == NULL)
	{
		bool		next;
		int			n = 0;

		/* what comes out is one whole object, and not much longer than what came in */
		if (!json_split(tree.json, tree.length, NULL, &next, take, &n) || n != 1 ||
			strlen(tree.json) != tree.length || tree.length > 64 + 24 * size)
			abort();
	}
	free_all();
	return 0;
}
