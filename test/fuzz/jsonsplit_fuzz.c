/*-------------------------------------------------------------------------
 *
 * jsonsplit_fuzz.c
 *	  Finding the elements of any page.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"
#include "jsonsplit.h"

typedef struct Seen
{
	const char *begin;
	const char *end;
	const char *last;			/* end of the element before */
	int			n;
	int			stop;			/* after so many */
} Seen;

static bool
element(void *self, const char *bytes, size_t length)
{
	Seen	   *seen = self;

	MUST(length > 0);
	MUST(bytes >= seen->last && bytes + length <= seen->end);
	seen->last = bytes + length;
	return ++seen->n != seen->stop;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char	   *text = fuzz_copy(data, size, false);

	for (int whole = 0; whole < 2; whole++)
	{
		Seen		all = {text, text + size, text, 0, -1};
		Seen		some = all;
		bool		next = false,
					next_again = false;
		bool		fine = json_split(text, size, whole ? NULL : "leads", &next, element, &all);

		if (fine && whole)
			MUST(all.n == 1);
		/* one who wants no more gets no more */
		some.stop = (all.n + 1) / 2;
		(void) json_split(text, size, whole ? NULL : "leads", &next_again, element, &some);
		MUST(some.n <= all.n && (some.stop == 0 || some.n <= some.stop));
	}
	fuzz_free();
	return 0;
}
