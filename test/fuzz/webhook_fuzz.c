/*-------------------------------------------------------------------------
 *
 * webhook_fuzz.c
 *	  Any body of a webhook gives JSON that is whole, or a sentence.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"
#include "jsonsplit.h"
#include "webhook.h"

static bool
element(void *self, const char *bytes, size_t length)
{
	(void) bytes;
	(void) length;
	++*(int *) self;
	return true;
}

/* Bytes of valid UTF-8, none of them a control character. */
static void
check_text(const unsigned char *s, size_t len)
{
	for (size_t i = 0; i < len;)
	{
		int			more = s[i] < 0x80 ? 0 : s[i] < 0xc2 ? -1 : s[i] < 0xe0 ? 1 :
			s[i] < 0xf0 ? 2 : s[i] < 0xf5 ? 3 : -1;

		MUST(more >= 0 && s[i] >= 0x20 && i + (size_t) more < len);
		if (more == 2)
			MUST(!(s[i] == 0xe0 && s[i + 1] < 0xa0) && !(s[i] == 0xed && s[i + 1] > 0x9f));
		if (more == 3)
			MUST(!(s[i] == 0xf0 && s[i + 1] < 0x90) && !(s[i] == 0xf4 && s[i + 1] > 0x8f));
		for (int k = 1; k <= more; k++)
			MUST((s[i + (size_t) k] & 0xc0) == 0x80);
		i += 1 + (size_t) more;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *body = fuzz_copy(data, size, false);
	WebhookTree tree = {0};
	const char *error = webhook_parse(body, size, &fuzz_memory, &tree);

	if (error)
		MUST(*error != '\0');
	else
	{
		bool		next = false;
		int			n = 0;

		MUST(strlen(tree.json) == tree.length && tree.length <= 64 + 24 * size);
		MUST(tree.pairs >= 0 && tree.pairs <= WEBHOOK_MAX_PAIRS && tree.damaged >= 0);
		check_text((const unsigned char *) tree.json, tree.length);
		MUST(json_split(tree.json, tree.length, NULL, &next, element, &n) && n == 1);
	}
	fuzz_free();
	return 0;
}
