/*-------------------------------------------------------------------------
 *
 * webhook.c
 *	  Reads the body of a webhook of amoCRM (pure); see webhook.h.
 *
 * The pairs are decoded into one block, each with its path, and sorted by
 * path; the tree is then written by walking over the sorted pairs, a run of
 * equal beginnings being a container.  So no body makes it slower than
 * sorting, however its keys are chosen.
 *
 * A pair is "path = value"; a path is a list of keys.
 *
 *-------------------------------------------------------------------------
 */
#include "webhook.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A piece of the decoded block. */
typedef struct Piece
{
	const char *bytes;
	size_t		length;
} Piece;

typedef struct Pair
{
	Piece		path[WEBHOOK_MAX_DEPTH];
	int			depth;
	Piece		value;
	int			number;			/* its place in the body */
	char		label[16];		/* the key that [] stands for */
} Pair;

typedef struct Writer
{
	const Memory *memory;
	char	   *text;
	size_t		length;
	size_t		room;
	bool		no_memory;
	int			damaged;
} Writer;

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/*
 * Undoes the percent encoding in place and returns the new length.  A % that
 * no two digits follow stands for itself.
 */
static size_t
decode(char *text, size_t length)
{
	size_t		to = 0;

	for (size_t from = 0; from < length; from++)
	{
		char		c = text[from];

		if (c == '+')
			c = ' ';
		else if (c == '%' && length - from > 2 &&
				 hex_digit(text[from + 1]) >= 0 && hex_digit(text[from + 2]) >= 0)
		{
			c = (char) (hex_digit(text[from + 1]) * 16 + hex_digit(text[from + 2]));
			from += 2;
		}
		text[to++] = c;
	}
	return to;
}

/*
 * Writes the number of an element that [] adds: "+" and the number.
 */
static void
write_label(Pair *pair)
{
	char		digits[12];
	int			n = 0;
	int			rest = pair->number;
	char	   *to = pair->label;

	do
		digits[n++] = (char) ('0' + rest % 10);
	while ((rest /= 10) > 0);
	*to++ = '+';
	while (n > 0)
		*to++ = digits[--n];
	*to = '\0';
}

/*
 * Takes a decoded key apart: name[key][key]…  Brackets within brackets are
 * part of the key, as in PHP.
 */
static const char *
split_key(Pair *pair, const char *key, size_t length)
{
	const char *end = key + length;
	const char *open;

	/* PHP passes over blanks before a name. */
	while (key < end && *key == ' ')
		key++;
	open = key < end ? memchr(key, '[', (size_t) (end - key)) : NULL;
	if (key == end || open == key)
		return "a key is empty";
	if (open == NULL || memchr(open, ']', (size_t) (end - open)) == NULL)
		open = end;

	pair->path[0].bytes = key;
	pair->path[0].length = (size_t) (open - key);
	pair->depth = 1;
	while (open < end && *open == '[')
	{
		const char *close = memchr(open, ']', (size_t) (end - open));
		Piece	   *piece;

		if (close == NULL)
			break;
		if (pair->depth == WEBHOOK_MAX_DEPTH)
			return "keys are nested too deeply";
		piece = &pair->path[pair->depth++];
		piece->bytes = open + 1;
		piece->length = (size_t) (close - open - 1);
		if (piece->length == 0)
		{
			write_label(pair);
			/* marked; the pairs still move while they are sorted */
			piece->bytes = NULL;
		}
		open = close + 1;
	}
	return NULL;
}

static Piece
key_of(const Pair *pair, int level)
{
	Piece		piece = pair->path[level];

	if (piece.bytes == NULL)
	{
		piece.bytes = pair->label;
		piece.length = strlen(pair->label);
	}
	return piece;
}

static int
compare_pieces(Piece a, Piece b)
{
	size_t		n = a.length < b.length ? a.length : b.length;
	int			order = n > 0 ? memcmp(a.bytes, b.bytes, n) : 0;

	if (order != 0)
		return order;
	return a.length < b.length ? -1 : a.length > b.length;
}

/* By path, a shorter one before those that it begins; then by place. */
static int
compare_pairs(const void *a, const void *b)
{
	const Pair *one = *(const Pair *const *) a;
	const Pair *other = *(const Pair *const *) b;

	for (int i = 0; i < one->depth && i < other->depth; i++)
	{
		int			order = compare_pieces(key_of(one, i), key_of(other, i));

		if (order != 0)
			return order;
	}
	if (one->depth != other->depth)
		return one->depth < other->depth ? -1 : 1;
	return one->number < other->number ? -1 : one->number > other->number;
}

static void
put(Writer *writer, const char *bytes, size_t length)
{
	if (writer->length + length + 1 > writer->room)
	{
		size_t		room = writer->room > 0 ? writer->room : 4096;
		char	   *larger;

		while (room < writer->length + length + 1)
			room *= 2;
		larger = writer->memory->grow(writer->memory->self, writer->text, room);
		if (larger == NULL)
		{
			writer->no_memory = true;
			return;
		}
		writer->text = larger;
		writer->room = room;
	}
	if (writer->no_memory)
		return;
	memcpy(writer->text + writer->length, bytes, length);
	writer->length += length;
	writer->text[writer->length] = '\0';
}

/*
 * Length of the well-formed UTF-8 character that stands at the beginning
 * (Unicode table 3-7); 0 = none does.
 */
static size_t
character_length(const unsigned char *at, size_t left)
{
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t		n;

	if (at[0] < 0x80)
		return 1;
	if (at[0] < 0xc2 || at[0] > 0xf4)
		return 0;
	n = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
	if (left < n)
		return 0;
	if (at[0] == 0xe0)
		low = 0xa0;
	else if (at[0] == 0xed)
		high = 0x9f;			/* no halves of surrogate pairs */
	else if (at[0] == 0xf0)
		low = 0x90;
	else if (at[0] == 0xf4)
		high = 0x8f;
	if (at[1] < low || at[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if (at[i] < 0x80 || at[i] > 0xbf)
			return 0;
	return n;
}

static void
put_string(Writer *writer, Piece piece)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *at = (const unsigned char *) piece.bytes;
	size_t		left = piece.length;

	put(writer, "\"", 1);
	while (left > 0)
	{
		size_t		n = character_length(at, left);

		if (n == 0 || *at == '\0')
		{
			put(writer, "\xef\xbf\xbd", 3);
			writer->damaged++;
			n = 1;
		}
		else if (*at == '"' || *at == '\\')
		{
			put(writer, "\\", 1);
			put(writer, (const char *) at, 1);
		}
		else if (*at < 0x20 || *at == 0x7f)
		{
			char		escape[6] = {'\\', 'u', '0', '0', digits[*at >> 4], digits[*at & 15]};

			put(writer, escape, sizeof(escape));
		}
		else
			put(writer, (const char *) at, n);
		at += n;
		left -= n;
	}
	put(writer, "\"", 1);
}

/*
 * Writes the container that the pairs from first to last share, whose keys
 * stand at this level of their paths.  The depth of the recursion is bounded
 * by WEBHOOK_MAX_DEPTH.
 */
static void
put_container(Writer *writer, Pair **pairs, int first, int last, int level)
{
	bool		begun = false;
	int			i = first;

	put(writer, "{", 1);
	while (i <= last)
	{
		int			next = i;
		Piece		key = {"", 0};

		if (begun)
			put(writer, ",", 1);
		begun = true;
		if (pairs[i]->depth == level)
		{
			/* values of the container itself: the last one counts */
			while (next < last && pairs[next + 1]->depth == level)
				next++;
			put(writer, "\"\":", 3);
			put_string(writer, pairs[next]->value);
			i = next + 1;
			continue;
		}

		key = key_of(pairs[i], level);
		while (next < last && compare_pieces(key_of(pairs[next + 1], level), key) == 0)
			next++;
		put_string(writer, key);
		put(writer, ":", 1);
		/* sorted, so the deepest of the run is its last */
		if (pairs[next]->depth == level + 1)
			put_string(writer, pairs[next]->value);
		else
			put_container(writer, pairs, i, next, level + 1);
		i = next + 1;
	}
	put(writer, "}", 1);
}

/*
 * Decodes the pairs of the block into the array; *n = how many.
 */
static const char *
split_body(char *block, size_t length, Pair *all, int *n)
{
	char	   *end = block + length;
	char	   *next;

	*n = 0;
	for (char *at = block; at < end; at = next)
	{
		char	   *stop = memchr(at, '&', (size_t) (end - at));
		char	   *equals;
		size_t		key_length;
		Pair	   *pair = &all[*n];
		const char *wrong;

		if (stop == NULL)
			stop = end;
		next = stop + 1;
		if (stop == at)
			continue;
		equals = memchr(at, '=', (size_t) (stop - at));
		pair->number = *n;
		pair->value.bytes = stop;
		pair->value.length = 0;
		if (equals != NULL)
		{
			pair->value.bytes = equals + 1;
			pair->value.length = decode(equals + 1, (size_t) (stop - equals - 1));
		}
		key_length = decode(at, (size_t) ((equals != NULL ? equals : stop) - at));
		if (key_length > WEBHOOK_MAX_KEY)
			return "a key is too long";
		wrong = split_key(pair, at, key_length);
		if (wrong != NULL)
			return wrong;
		(*n)++;
	}
	return NULL;
}

const char *
webhook_parse(const char *body, size_t length, const Memory *memory, WebhookTree *tree)
{
	Writer		writer = {0};
	Pair	   *all;
	Pair	  **sorted;
	char	   *block;
	size_t		most = 1;
	int			n;
	const char *wrong;

	memset(tree, 0, sizeof(WebhookTree));
	if (length > WEBHOOK_MAX_BODY)
		return "the body is too long";
	for (size_t i = 0; i < length; i++)
		most += body[i] == '&';
	if (most > WEBHOOK_MAX_PAIRS)
		return "the body holds too many values";

	block = memory->grow(memory->self, NULL, length + 1);
	all = memory->grow(memory->self, NULL, most * sizeof(Pair));
	sorted = memory->grow(memory->self, NULL, most * sizeof(Pair *));
	if (block == NULL || all == NULL || sorted == NULL)
		return "out of memory";
	memcpy(block, body, length);
	block[length] = '\0';

	wrong = split_body(block, length, all, &n);
	if (wrong != NULL)
		return wrong;
	if (n == 0)
		return "the body is empty";
	for (int i = 0; i < n; i++)
		sorted[i] = &all[i];
	qsort(sorted, (size_t) n, sizeof(Pair *), compare_pairs);

	writer.memory = memory;
	put_container(&writer, sorted, 0, n - 1, 0);
	if (writer.no_memory)
		return "out of memory";
	tree->json = writer.text;
	tree->length = writer.length;
	tree->pairs = n;
	tree->damaged = writer.damaged;
	return NULL;
}
