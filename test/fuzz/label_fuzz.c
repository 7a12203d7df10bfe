/*-------------------------------------------------------------------------
 *
 * label_fuzz.c
 *	  Stage codes and the matching of names, on any bytes.
 *
 * The input's two halves are two labels.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz.h"
#include "label.h"

static void
check_code(const char *text, size_t len)
{
	stage_code	code = label_pack(text, len);
	char		back[LABEL_MAX + 1];

	if (code == 0)
		return;
	MUST(len >= 1 && len <= LABEL_MAX);
	MUST(label_unpack(code, back) == (int) len);
	MUST(memcmp(text, back, len) == 0 && back[len] == '\0');
}

/* Bytes that were stored by something else may be no code. */
static void
check_stored(const uint8_t *data, size_t size)
{
	stage_code	code = 0;
	char		text[LABEL_MAX + 1];
	int			len;

	memcpy(&code, data, size < sizeof(code) ? size : sizeof(code));
	memset(text, 'x', sizeof(text));
	len = label_unpack(code, text);
	MUST(len >= 0 && len <= LABEL_MAX);
	MUST(text[len] == '\0');
	if (len > 0)
		MUST(label_pack(text, (size_t) len) == code);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t		na = size / 2;
	size_t		nb = size - na;
	char	   *a = fuzz_copy(data, na, false);
	char	   *b = fuzz_copy(data + na, nb, false);
	char	   *folded = fuzz_copy(NULL, 0, false);
	stage_code	pa = label_pack(a, na);
	stage_code	pb = label_pack(b, nb);
	size_t		n,
				again;

	check_code(a, na);
	check_code(b, nb);
	check_stored(data, size);
	if (pa != 0 && pb != 0)
	{
		int			order = memcmp(a, b, na < nb ? na : nb);

		if (order == 0)
			order = (na > nb) - (na < nb);
		MUST((pa < pb) == (order < 0) && (pa == pb) == (order == 0));
	}

	folded = fuzz_grow(NULL, folded, na);
	n = label_fold(a, na, folded);
	MUST(n <= na);
	MUST(n == 0 || (folded[0] != ' ' && folded[n - 1] != ' '));
	again = label_fold(a, na, a);
	MUST(again == n && memcmp(a, folded, n) == 0);
	again = label_fold(a, n, a);
	MUST(again == n && memcmp(a, folded, n) == 0);
	fuzz_free();
	return 0;
}
