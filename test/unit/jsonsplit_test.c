/*-------------------------------------------------------------------------
 *
 * jsonsplit_test.c
 *	  Unit tests of json_split(): what it finds, what it refuses, and that no
 *	  damaged page makes it read a byte that is not the page's.
 *
 * Each page lies in a block of exactly its length, so that the sanitizer sees
 * a step too far.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "jsonsplit.h"

#define MAX_FOUND	16

typedef struct Found
{
	const char *text;			/* the block that is being split */
	size_t		length;
	int			n;
	size_t		start[MAX_FOUND];
	size_t		size[MAX_FOUND];
	bool		outside;		/* an element that is not within the block */
} Found;

static bool
take(void *self, const char *bytes, size_t length)
{
	Found	   *found = self;

	if (bytes < found->text || length == 0 ||
		(size_t) (bytes - found->text) + length > found->length)
	{
		found->outside = true;
		return false;
	}
	if (found->n < MAX_FOUND)
	{
		found->start[found->n] = (size_t) (bytes - found->text);
		found->size[found->n] = length;
	}
	found->n++;
	return true;
}

static bool
split(const char *text, size_t length, const char *entity, Found *found, bool *next)
{
	char	   *block = malloc(length > 0 ? length : 1);
	bool		whole;

	memcpy(block, text, length);
	memset(found, 0, sizeof(Found));
	found->text = block;
	found->length = length;
	whole = json_split(block, length, entity, next, take, found);
	free(block);
	return whole;
}

/* Splits a text that may hold zero bytes; expected: "n" or -1 = refused. */
static void
check(const char *what, const char *text, size_t length, int expected, bool expected_next)
{
	Found		found;
	bool		next;
	bool		whole = split(text, length, "leads", &found, &next);

	ok(expected < 0 ? !whole : whole && found.n == expected && next == expected_next, "%s", what);
}

#define CHECK(what, text, expected, next) check(what, text, sizeof(text) - 1, expected, next)

static void
test_shapes(void)
{
	CHECK("two elements",
		  "{\"_embedded\":{\"leads\":[{\"id\":1},{\"id\":2}]}}", 2, false);
	CHECK("blanks everywhere",
		  " { \"_page\" : 1 ,\n\"_embedded\" : { \"leads\" : [ { \"id\" : 1 } , 5 ,\t\"x\" ] } } \r\n", 3, false);
	CHECK("next", "{\"_links\":{\"self\":{\"href\":\"x\"},\"next\":{\"href\":\"y\"}},\"_embedded\":{\"leads\":[1]}}", 1, true);
	CHECK("next is null", "{\"_links\":{\"next\":null},\"_embedded\":{\"leads\":[1]}}", 1, false);
	CHECK("next after the elements", "{\"_embedded\":{\"leads\":[1]},\"_links\":{\"next\":{}}}", 1, true);
	CHECK("next only deeper down", "{\"_embedded\":{\"leads\":[{\"_links\":{\"next\":{}}}]}}", 1, false);
	CHECK("links as an empty list", "{\"_links\":[],\"_embedded\":{\"leads\":[1]}}", 1, false);
	CHECK("no embedded", "{\"_page\":1}", 0, false);
	CHECK("embedded is an empty list", "{\"_embedded\":[]}", 0, false);
	CHECK("an empty object", "{}", 0, false);
	CHECK("another entity", "{\"_embedded\":{\"tasks\":[1,2]}}", 0, false);
	CHECK("no elements", "{\"_embedded\":{\"leads\":[]}}", 0, false);
	CHECK("a key that looks like ours within a string",
		  "{\"a\":\"\\\"_embedded\\\":{\\\"leads\\\":[9]}\",\"_embedded\":{\"leads\":[1]}}", 1, false);
	CHECK("brackets within strings", "{\"_embedded\":{\"leads\":[{\"n\":\"]}{[\"},{\"n\":\"\\\\\"}]}}", 2, false);
	CHECK("an escaped NUL", "{\"_embedded\":{\"leads\":[{\"n\":\"a\\u0000b\"},{\"n\":\"\\ud83d\"}]}}", 2, false);
	CHECK("a NUL as it is", "{\"_embedded\":{\"leads\":[{\"n\":\"a\0b\"},{\"id\":2}]}}", 2, false);
	CHECK("bytes that are no UTF-8", "{\"_embedded\":{\"leads\":[{\"n\":\"\xff\xfe\"},{\"id\":2}]}}", 2, false);

	CHECK("nothing", "", -1, false);
	CHECK("only blanks", "  \n", -1, false);
	CHECK("a page of HTML", "<html><body>no</body></html>", -1, false);
	CHECK("a list", "[1,2]", -1, false);
	CHECK("cut in an element", "{\"_embedded\":{\"leads\":[{\"id\":1},{\"id\":", -1, false);
	CHECK("cut in a string", "{\"_embedded\":{\"leads\":[{\"n\":\"ab", -1, false);
	CHECK("cut after a backslash", "{\"_embedded\":{\"leads\":[{\"n\":\"ab\\", -1, false);
	CHECK("a bracket of the wrong kind", "{\"_embedded\":{\"leads\":[{\"id\":1]}}}", -1, false);
	CHECK("something after the page", "{\"_embedded\":{\"leads\":[1]}} x", -1, false);
	CHECK("a page and another", "{\"_embedded\":{\"leads\":[1]}}{}", -1, false);
	CHECK("a NUL outside of strings", "{\"_embedded\":{\"leads\":[1,\0]}}", -1, false);
	CHECK("elements that are no list", "{\"_embedded\":{\"leads\":{\"id\":1}}}", -1, false);
}

static void
test_bytes(void)
{
	static const char text[] = "{\"_embedded\":{\"leads\":[ {\"id\":1} ,{\"n\":\"a\0b\"}]}}";
	Found		found;
	bool		next;

	ok(split(text, sizeof(text) - 1, "leads", &found, &next) && found.n == 2 &&
	   found.size[0] == 8 && memcmp(text + found.start[0], "{\"id\":1}", 8) == 0 &&
	   found.size[1] == 11 && memcmp(text + found.start[1], "{\"n\":\"a\0b\"}", 11) == 0,
	   "elements are handed out as they came");
	ok(split(" {\"id\":1} ", 10, NULL, &found, &next) && found.n == 1 &&
	   found.start[0] == 1 && found.size[0] == 8, "without an entity the page is the element");
}

static void
test_depth(void)
{
	static const int depths[] = {10, JSON_SPLIT_MAX_DEPTH - 4, JSON_SPLIT_MAX_DEPTH + 1, 200000};

	for (int i = 0; i < 4; i++)
	{
		size_t		n = (size_t) depths[i];
		char	   *text = malloc(2 * n + 64);
		size_t		at = 0;
		Found		found;
		bool		next;
		bool		whole;

		at += (size_t) sprintf(text, "{\"_embedded\":{\"leads\":[");
		memset(text + at, '[', n);
		at += n;
		memset(text + at, ']', n);
		at += n;
		at += (size_t) sprintf(text + at, "]}}");
		whole = split(text, at, "leads", &found, &next);
		ok(whole == (depths[i] < JSON_SPLIT_MAX_DEPTH), "%d deep: %s", depths[i], whole ? "taken" : "refused");
		free(text);
	}
}

static void
test_damage(void)
{
	static const char good[] =
		"{\"_page\":1,\"_links\":{\"self\":{\"href\":\"h\"},\"next\":{\"href\":\"n\"}},"
		"\"_embedded\":{\"leads\":[{\"id\":1,\"name\":\"\\ud83d\\u0000\",\"tags\":[1,2,{}]},"
		"{\"id\":2,\"x\":[[],{\"y\":null}]},{\"id\":3}]}}";
	static const char marks[] = "{}[]\",:\\ \0nx";
	size_t		length = sizeof(good) - 1;
	int			outside = 0;
	int			cut = 0;
	int			refused = 0;
	Found		found;
	bool		next;

	for (size_t n = 0; n < length; n++)
	{
		cut += split(good, n, "leads", &found, &next);
		outside += found.outside;
	}
	ok(cut == 0, "no beginning of a page passes for a page");

	for (int round = 0; round < 20000; round++)
	{
		char		text[sizeof(good)];
		int64_t		hits = between(1, 4);

		memcpy(text, good, length);
		while (hits-- > 0)
			text[between(0, (int64_t) length - 1)] = marks[between(0, sizeof(marks) - 2)];
		refused += !split(text, length, "leads", &found, &next);
		outside += found.outside;
	}
	ok(outside == 0, "no element of a damaged page lies outside of it");
	ok(refused > 1000, "most damage is seen");
	note("%d of 20000 damaged pages refused", refused);
}

int
main(void)
{
	test_shapes();
	test_bytes();
	test_depth();
	test_damage();
	return tap_end();
}
