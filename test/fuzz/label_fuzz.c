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

/* By RFC 3629; label.c reads characters for itself. */
static bool
is_utf8(const uint8_t *s, size_t len)
{
	for (size_t i = 0; i < len;)
	{
		size_t		width = s[i] < 0x80 ? 1 : s[i] >= 0xC2 && s[i] < 0xE0 ? 2 :
			(s[i] & 0xF0) == 0xE0 ? 3 : s[i] >= 0xF0 && s[i] < 0xF5 ? 4 : 0;

		if (width == 0 || i + width > len)
			return false;
		for (size_t k = 1; k < width; k++)
			if ((s[i + k] & 0xC0) != 0x80)
				return false;
		if ((s[i] == 0xE0 && s[i + 1] < 0xA0) || (s[i] == 0xED && s[i + 1] > 0x9F) ||
			(s[i] == 0xF0 && s[i + 1] < 0x90) || (s[i] == 0xF4 && s[i + 1] > 0x8F))
			return false;
		i += width;
	}
	return true;
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

	/*
	 * Folded again it stays the same; not where it is no UTF-8, which the server
	 * lets nowhere: what is left out may join bytes to a character.
	 */
	again = label_fold(a, n, a);
	MUST(!is_utf8(data, na) || (again == n && memcmp(a, folded, n) == 0));
	fuzz_free();
	return 0;
}
