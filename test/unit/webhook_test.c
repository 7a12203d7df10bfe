/*-------------------------------------------------------------------------
 *
 * webhook_test.c
 *	  Unit tests of webhook_parse(): what it makes of amoCRM's bodies, what it
 *	  refuses, and that no body makes it read a byte that is not the body's.
 *
 * Each body lies in a block of exactly its length, so that the sanitizer sees
 * a step too far.
 *
 *-------------------------------------------------------------------------
 */
#include "tap.h"

#include "jsonsplit.h"
#include "webhook.h"

static const char *
parse(const char *body, size_t length, WebhookTree *tree)
{
	char	   *block = malloc(length > 0 ? length : 1);
	const char *wrong;

	memcpy(block, body, length);
	wrong = webhook_parse(block, length, &tap_memory, tree);
	free(block);
	return wrong;
}

static void
gives(const char *what, const char *body, const char *json)
{
	WebhookTree tree;
	const char *wrong = parse(body, strlen(body), &tree);

	ok(wrong == NULL && strcmp(tree.json, json) == 0, "%s", what);
	if (wrong != NULL)
		note("refused: %s", wrong);
	else if (strcmp(tree.json, json) != 0)
		note("got  %s\n# want %s", tree.json, json);
	free_all();
}

static void
refuses(const char *what, const char *body, size_t length, const char *why)
{
	WebhookTree tree;
	const char *wrong = parse(body, length, &tree);

	ok(wrong != NULL && strcmp(wrong, why) == 0, "refuses %s: %s", what, why);
	if (wrong == NULL || strcmp(wrong, why) != 0)
		note("got %s", wrong ? wrong : tree.json);
	free_all();
}

static void
test_shapes(void)
{
	gives("a move, as amoCRM sends it",
		  "leads%5Bstatus%5D%5B0%5D%5Bid%5D=9101&leads%5Bstatus%5D%5B0%5D%5Bstatus_id%5D=23"
		  "&leads%5Bstatus%5D%5B0%5D%5Bname%5D=%D0%9E%D0%BB%D1%8F+%26+%D0%9C%D0%B0%D0%BA%D1%81"
		  "&account%5Bid%5D=30111222",
		  "{\"account\":{\"id\":\"30111222\"},\"leads\":{\"status\":{\"0\":{\"id\":\"9101\","
		  "\"name\":\"Оля & Макс\",\"status_id\":\"23\"}}}}");
	gives("several actions and indexes",
		  "leads[add][0][id]=1&leads[update][0][id]=1&leads[add][1][id]=2",
		  "{\"leads\":{\"add\":{\"0\":{\"id\":\"1\"},\"1\":{\"id\":\"2\"}},\"update\":{\"0\":{\"id\":\"1\"}}}}");
	gives("a path that is value and container", "m[type]=3&m[type][message_uuid]=u",
		  "{\"m\":{\"type\":{\"\":\"3\",\"message_uuid\":\"u\"}}}");
	gives("the same the other way round", "m[type][message_uuid]=u&m[type]=3",
		  "{\"m\":{\"type\":{\"\":\"3\",\"message_uuid\":\"u\"}}}");
	gives("and at the top", "a=1&a[b]=2", "{\"a\":{\"\":\"1\",\"b\":\"2\"}}");
	gives("the later of two values", "a[b]=1&a[b]=2", "{\"a\":{\"b\":\"2\"}}");
	gives("the later of two values, of a clash too", "a=1&a[b]=2&a=3", "{\"a\":{\"\":\"3\",\"b\":\"2\"}}");
	gives("elements without a number", "a[]=x&b=1&a[]=y", "{\"a\":{\"+0\":\"x\",\"+2\":\"y\"},\"b\":\"1\"}");
	gives("a value with = in it", "a=b=c", "{\"a\":\"b=c\"}");
	gives("no value, no =, doubled &", "&a=&&b&", "{\"a\":\"\",\"b\":\"\"}");
	gives("blanks before a name", "++a=1", "{\"a\":\"1\"}");
	gives("a bracket that is never closed", "a[b=1&c[d][e=2", "{\"a[b\":\"1\",\"c\":{\"d\":\"2\"}}");
	gives("what follows the last bracket", "a[b]c=1", "{\"a\":{\"b\":\"1\"}}");
	gives("a bracket within brackets", "a[b[c]=1", "{\"a\":{\"b[c\":\"1\"}}");
	gives("a percent sign that encodes nothing", "a=100%&b=%zz%4&c=%", "{\"a\":\"100%\",\"b\":\"%zz%4\",\"c\":\"%\"}");
	gives("quotes, backslashes, line ends", "a=%22%5C%0A%09%7F", "{\"a\":\"\\\"\\\\\\u000a\\u0009\\u007f\"}");
	gives("an encoded & and = are text", "a%26b=c%3Dd%26", "{\"a&b\":\"c=d&\"}");
	gives("keys that begin alike", "a[b]=1&a[bc]=2&ab=3&a[b!]=4",
		  "{\"a\":{\"b\":\"1\",\"b!\":\"4\",\"bc\":\"2\"},\"ab\":\"3\"}");
	gives("four bytes of one character", "a=%F0%9F%9A%97", "{\"a\":\"\xf0\x9f\x9a\x97\"}");
}

static void
test_damage(void)
{
	static const struct
	{
		const char *body;
		const char *json;
		int			damaged;
	}			cases[] =
	{
		{"a=x%00y", "{\"a\":\"x\xef\xbf\xbdy\"}", 1},
		{"a=%D0", "{\"a\":\"\xef\xbf\xbd\"}", 1},
		{"a=%ED%A0%BD", "{\"a\":\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}", 3},
		{"a=%C0%AF", "{\"a\":\"\xef\xbf\xbd\xef\xbf\xbd\"}", 2},
		{"a=%F5%80%80%80", "{\"a\":\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"}", 4},
		{"a=\xff", "{\"a\":\"\xef\xbf\xbd\"}", 1},
		{"a[%00]=1", "{\"a\":{\"\xef\xbf\xbd\":\"1\"}}", 1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		WebhookTree tree;
		const char *wrong = parse(cases[i].body, strlen(cases[i].body), &tree);

		ok(wrong == NULL && strcmp(tree.json, cases[i].json) == 0 && tree.damaged == cases[i].damaged,
		   "bytes that no text holds become U+FFFD and are counted: %s", cases[i].body);
		free_all();
	}
}

static void
test_limits(void)
{
	char	   *body = malloc(WEBHOOK_MAX_BODY + 1);
	WebhookTree tree;
	size_t		n = 0;

	refuses("nothing", "", 0, "the body is empty");
	refuses("separators alone", "&&&", 3, "the body is empty");
	refuses("a value without a key", "=1", 2, "a key is empty");
	refuses("brackets without a name", "[a]=1", 5, "a key is empty");

	memset(body, 'a', WEBHOOK_MAX_BODY + 1);
	refuses("a long body", body, WEBHOOK_MAX_BODY + 1, "the body is too long");
	refuses("a long key", body, WEBHOOK_MAX_KEY + 1, "a key is too long");
	body[1] = '=';
	ok(parse(body, WEBHOOK_MAX_BODY, &tree) == NULL && tree.length == WEBHOOK_MAX_BODY - 2 + 8, "takes a long value");
	free_all();

	memset(body, '&', WEBHOOK_MAX_PAIRS);
	refuses("many pairs", body, WEBHOOK_MAX_PAIRS, "the body holds too many values");

	n = 0;
	body[n++] = 'a';
	for (int i = 1; i < WEBHOOK_MAX_DEPTH; i++)
	{
		memcpy(body + n, "[b]", 3);
		n += 3;
	}
	ok(parse(body, n, &tree) == NULL, "takes keys as deep as the limit");
	free_all();
	memcpy(body + n, "[b]", 3);
	refuses("keys that are deeper", body, n + 3, "keys are nested too deeply");

	/* All elements of one list, in an order that is bad for a simple search. */
	n = 0;
	for (int i = 0; i < WEBHOOK_MAX_PAIRS; i++)
		n += (size_t) sprintf(body + n, "%sleads[%d][a]=%d", i > 0 ? "&" : "", (i * 7919) % WEBHOOK_MAX_PAIRS, i);
	ok(parse(body, n, &tree) == NULL && tree.pairs == WEBHOOK_MAX_PAIRS, "takes as many values as the limit");
	free_all();
	free(body);
}

static bool
take(void *self, const char *bytes, size_t length)
{
	(void) bytes;
	(void) length;
	++*(int *) self;
	return true;
}

/*
 * Whatever comes in, what comes out is one whole JSON object (as json_split()
 * sees it, whose own test is another).
 */
static void
test_noise(void)
{
	static const char alphabet[] = "ab[]=&%+0aF\0\xd0\x9e\xf0\"\\ \n";
	static const char sample[] =
		"leads[status][0][id]=9101&leads[status][0][custom_fields][0][values][0][value]=%D0%94"
		"&message[add][0][type]=3&message[add][0][type][uuid]=u&a[]=1&a[]=2";
	int			taken = 0;
	int			whole = 0;
	int			rounds = 200000;

	for (int round = 0; round < rounds; round++)
	{
		char		body[256];
		size_t		length;
		WebhookTree tree;

		if (round % 2 == 0)
		{
			length = (size_t) between(0, 120);
			for (size_t i = 0; i < length; i++)
				body[i] = alphabet[any() % (sizeof(alphabet) - 1)];
		}
		else
		{
			length = (size_t) between(1, sizeof(sample) - 1);
			memcpy(body, sample, length);
			for (int i = (int) between(0, 4); i > 0; i--)
				body[any() % length] = alphabet[any() % (sizeof(alphabet) - 1)];
		}
		if (parse(body, length, &tree) == NULL)
		{
			bool		next;
			int			n = 0;

			taken++;
			if (json_split(tree.json, tree.length, NULL, &next, take, &n) && n == 1 &&
				strlen(tree.json) == tree.length)
				whole++;
		}
		free_all();
	}
	note("%d of %d random bodies can be read", taken, rounds);
	ok(taken > rounds / 2 && whole == taken, "random bodies give whole objects");
}

int
main(void)
{
	test_shapes();
	test_damage();
	test_limits();
	test_noise();
	return tap_end();
}
