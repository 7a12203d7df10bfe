/*-------------------------------------------------------------------------
 *
 * label_test.c
 *	  Packing of stage codes, folding of names.
 *
 * The packed values and the order are in tables and indexes of users: the
 * numbers written out here may never change.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "label.h"

static const char alphabet[] = "0123456789_abcdefghijklmnopqrstuvwxyz";

static stage_code
pack(const char *text)
{
	return label_pack(text, strlen(text));
}

static bool
comes_back(const char *text)
{
	char		back[LABEL_MAX + 1];
	stage_code	code = pack(text);

	return code != 0 && label_unpack(code, back) == (int) strlen(text) &&
		strcmp(back, text) == 0;
}

static void
random_code(char *text)
{
	int			len = (int) between(1, LABEL_MAX);

	for (int i = 0; i < len; i++)
		text[i] = alphabet[between(0, 36)];
	text[len] = '\0';
}

static void
test_pack(void)
{
	static const char *const builtin[] = {
		"new", "in_work", "no_answer", "messaging", "deciding", "meeting",
		"contract", "deferred", "lost", "unqualified", "won"
	};
	static const struct
	{
		const char *text;
		stage_code	code;
	}			fixed[] = {
		{"0", UINT64_C(238572050223552512)},
		{"a", UINT64_C(2862864602682630144)},
		{"new", UINT64_C(6070369992599561216)},
		{"won", UINT64_C(8278813618180050432)},
		{"000000000000", UINT64_C(245019943472837715)},
		{"zzzzzzzzzzzz", UINT64_C(9065737908494995455)},
	};
	static const char *const bad[] = {
		"", "New", "a b", " a", "a ", "a-b", "\xD0\xB0", "abcdefghijklm",
		"a.b", "a\n", "a\x7F"
	};
	bool		all = true;
	char		text[LABEL_MAX + 1];
	char		other[LABEL_MAX + 1];

	for (size_t i = 0; i < sizeof(builtin) / sizeof(*builtin); i++)
		all &= comes_back(builtin[i]);
	ok(all, "the built-in codes come back");

	for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++)
		ok(pack(fixed[i].text) == fixed[i].code, "\"%s\" is %llu for ever (is %llu)",
		   fixed[i].text, (unsigned long long) fixed[i].code,
		   (unsigned long long) pack(fixed[i].text));
	ok(pack("zzzzzzzzzzzz") < (UINT64_C(1) << 63), "the greatest code is positive as a signed number");

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ok(pack(bad[i]) == 0, "no code: %zu", i + 1);
	ok(label_pack("a\0b", 3) == 0, "no code: a zero byte in it");

	all = true;
	for (int a = 0; a < 37; a++)
		for (int b = 0; b < 37; b++)
		{
			text[0] = alphabet[a];
			text[1] = alphabet[b];
			text[2] = '\0';
			all &= comes_back(text);
		}
	ok(all, "all codes of two characters come back");

	all = true;
	for (int i = 0; i < 100000; i++)
	{
		stage_code	a;
		stage_code	b;
		int			order;

		random_code(text);
		if (i % 2)
			random_code(other);
		else
		{
			/* a continuation, or a near neighbour */
			strcpy(other, text);
			other[between(0, (int64_t) strlen(other) - 1)] = alphabet[between(0, 36)];
			if (i % 4 && strlen(other) > 1)
				other[strlen(other) - 1] = '\0';
		}
		all &= comes_back(text);
		a = pack(text);
		b = pack(other);
		order = strcmp(text, other);
		if ((order < 0) != (a < b) || (order == 0) != (a == b))
		{
			note("\"%s\" and \"%s\"", text, other);
			all = false;
		}
	}
	ok(all, "codes have the order of their bytes, a prefix first (100,000 pairs)");

	all = true;
	for (int i = 0; i < 100000; i++)
	{
		stage_code	code = any() >> between(0, 63);
		int			len = label_unpack(code, text);

		all &= len == 0 ? text[0] == '\0' : pack(text) == code;
	}
	ok(all, "bytes that are no code are known as such (100,000 numbers)");
	ok(label_unpack(0, text) == 0, "nothing is no code");
	ok(label_unpack(UINT64_MAX, text) == 0, "nor is the greatest number");
}

static bool
folds(const char *text, const char *wanted)
{
	char		out[256];
	size_t		len = label_fold(text, strlen(text), out);
	bool		same = len == strlen(wanted) && memcmp(out, wanted, len) == 0;

	if (!same)
		note("\"%s\" folds to \"%.*s\"", text, (int) len, out);
	return same;
}

static void
test_fold(void)
{
	bool		all = true;

	ok(folds("Новые Заявки", "новые заявки"), "Cyrillic and blanks");
	ok(folds("ВЕДЁТСЯ переписка", "ведется переписка"), "ё is е, capital too");
	ok(folds("Ё", "е") && folds("ё", "е"), "ё alone");
	ok(folds("  \t\n x  y \r\n", "x y"), "blanks around and within");
	ok(folds("\xC2\xA0" "Встреча\xC2\xA0\xC2\xA0назначена\xE2\x80\xAF", "встреча назначена"), "no-break blanks");
	ok(folds("АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ", "абвгдежзийклмнопрстуфхцчшщъыьэюя"), "the alphabet");
	ok(folds("ABCXYZ_09", "abcxyz_09"), "ASCII");
	ok(folds("Їжак Ґанок Єва Іва Ў", "їжак ґанок єва іва ў"), "Ukrainian and Belarusian");
	ok(folds("Қазақ Әже Ңүө", "қазақ әже ңүө"), "Kazakh");
	ok(folds("и\xCC\x86", "й") && folds("И\xCC\x86", "й"), "и with a breve is й");
	ok(folds("е\xCC\x88лка", "елка") && folds("Е\xCC\x88", "е"), "е with two dots is ё");
	ok(folds("\xEF\xBB\xBF" "а\xE2\x80\x8B" "б", "аб"), "a byte order mark and a zero-width blank");
	ok(folds("", "") && folds(" \xC2\xA0 ", ""), "nothing but blanks");
	ok(folds("İI", "İi") && folds("ıi", "ıi"), "no Turkish surprises");
	ok(folds("ÄÖ 漢字 😀", "ÄÖ 漢字 😀"), "other letters stay as they are");
	ok(folds("\xFF\xD0 \xE2\x80", "\xFF\xD0 \xE2\x80"), "bytes that are not UTF-8 stay");
	ok(folds("\xC0\xA0x", "\xC0\xA0x") && folds("\xE0\x82\xA0y", "\xE0\x82\xA0y"), "overlong forms are not UTF-8");

	for (int i = 0; i < 200000; i++)
	{
		static const char *const bits[] = {
			"А", "я", "Ё", "ё", " ", "\xC2\xA0", "\xE2\x80\x8B", "z", "Q",
			"\xCC\x86", "\xCC\x88", "и", "е", "😀", "\t", "\xD0", "\xE2\x80"
		};
		char		text[128];
		size_t		len = 0;
		int			parts = (int) between(0, 16);
		bool		garbage = i % 2;	/* bytes that are not UTF-8 among them */
		char	   *exact;
		char	   *out;
		size_t		n;
		size_t		again;

		for (int k = 0; k < parts; k++)
		{
			if (garbage && between(0, 5) == 0)
				text[len++] = (char) between(0, 255);
			else
			{
				const char *bit = bits[between(0, garbage ? 16 : 14)];

				memcpy(text + len, bit, strlen(bit));
				len += strlen(bit);
			}
		}
		/* blocks of exactly this size, so that the sanitizer sees a step beyond */
		exact = malloc(len + 1);
		out = malloc(len + 1);
		if (exact == NULL || out == NULL)
			abort();
		exact = realloc(exact, len ? len : 1);
		out = realloc(out, len ? len : 1);
		memcpy(exact, text, len);
		n = label_fold(exact, len, out);
		all &= n <= len;
		all &= label_fold(exact, len, exact) == n && memcmp(exact, out, n) == 0;
		if (!garbage)
		{
			again = label_fold(out, n, exact);
			all &= again == n && memcmp(exact, out, n) == 0;
		}
		free(exact);
		free(out);
	}
	ok(all, "folding twice is folding once, in place too, and never grows (200,000 texts)");
}

int
main(void)
{
	test_pack();
	test_fold();
	return tap_end();
}
