/*-------------------------------------------------------------------------
 *
 * jsonsplit.c
 *	  Finds the elements of a page that the server's JSON refuses (pure).
 *
 * Only structure is looked at: strings are skipped from quote to quote,
 * scalars up to the next mark of structure.  What is within a string (any
 * byte, a NUL too) and whether a scalar is a good one is for whoever parses
 * the element.  A key is compared as it stands, so a key written with escapes
 * is another key; amoCRM does not write such.
 *
 * Nothing is recursive and nothing is allocated, so no input can exhaust
 * stack or memory.
 *
 *-------------------------------------------------------------------------
 */
#include "jsonsplit.h"

#include <string.h>

typedef struct Scanner
{
	const char *at;
	const char *end;
} Scanner;

static void
skip_blanks(Scanner *s)
{
	while (s->at < s->end &&
		   (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
		s->at++;
}

/* Steps over one given character, and blanks before it. */
static bool
skip_char(Scanner *s, char c)
{
	skip_blanks(s);
	if (s->at >= s->end || *s->at != c)
		return false;
	s->at++;
	return true;
}

/* Steps over a string; *inner, *length are what stands between the quotes. */
static bool
skip_string(Scanner *s, const char **inner, size_t *length)
{
	const char *start;

	if (!skip_char(s, '"'))
		return false;
	start = s->at;
	while (s->at < s->end)
	{
		if (*s->at == '"')
		{
			if (inner != NULL)
			{
				*inner = start;
				*length = (size_t) (s->at - start);
			}
			s->at++;
			return true;
		}
		/* The character after a backslash is never the end. */
		s->at += (*s->at == '\\' && s->end - s->at > 1) ? 2 : 1;
	}
	return false;
}

/* Steps over a number or a word; what it says is not looked at. */
static bool
skip_scalar(Scanner *s)
{
	const char *start = s->at;

	while (s->at < s->end && strchr(",:[]{}\" \t\r\n", *s->at) == NULL)
		s->at++;
	/* strchr() finds the terminating zero too: a bare NUL ends the scalar */
	return s->at > start;
}

/*
 * Steps over a value of any kind.  Within containers only brackets are
 * matched: where commas and colons stand is for the parser.
 */
static bool
skip_value(Scanner *s)
{
	char		open[JSON_SPLIT_MAX_DEPTH];
	int			depth = 0;

	do
	{
		skip_blanks(s);
		if (s->at >= s->end)
			return false;
		switch (*s->at)
		{
			case '{':
			case '[':
				if (depth == JSON_SPLIT_MAX_DEPTH)
					return false;
				open[depth++] = *s->at++ == '{' ? '}' : ']';
				break;
			case '}':
			case ']':
				if (depth == 0 || open[--depth] != *s->at)
					return false;
				s->at++;
				break;
			case '"':
				if (!skip_string(s, NULL, NULL))
					return false;
				break;
			case ',':
			case ':':
				if (depth == 0)
					return false;
				s->at++;
				break;
			default:
				if (!skip_scalar(s))
					return false;
				break;
		}
	} while (depth > 0);
	return true;
}

/*
 * Enters an object and stops before the value of the key.  False at the end
 * of the object, or where the text is broken (*broken).
 */
static bool
find_key(Scanner *s, const char *key, bool *broken)
{
	const char *found;
	size_t		length;

	*broken = true;
	if (!skip_char(s, '{'))
		return false;
	if (skip_char(s, '}'))
	{
		*broken = false;
		return false;
	}
	for (;;)
	{
		if (!skip_string(s, &found, &length) || !skip_char(s, ':'))
			return false;
		skip_blanks(s);
		if (length == strlen(key) && memcmp(found, key, length) == 0)
		{
			*broken = false;
			return true;
		}
		if (!skip_value(s))
			return false;
		if (skip_char(s, ','))
			continue;
		*broken = !skip_char(s, '}');
		return false;
	}
}

bool
json_split(const char *text, size_t length, const char *entity,
		   bool *has_next, json_element handle, void *self)
{
	Scanner		whole = {text, text + length};
	Scanner		s = whole;
	bool		broken;

	*has_next = false;

	/* The page must be one whole object, with nothing after it. */
	skip_blanks(&s);
	if (s.at >= s.end || *s.at != '{')
		return false;
	whole.at = s.at;
	if (!skip_value(&s))
		return false;
	whole.end = s.at;
	skip_blanks(&s);
	if (s.at != text + length)
		return false;

	if (entity == NULL)
		return handle(self, whole.at, (size_t) (whole.end - whole.at));

	s = whole;
	if (find_key(&s, "_links", &broken))
	{
		if (s.at < s.end && *s.at == '{' && find_key(&s, "next", &broken))
			*has_next = !(s.end - s.at >= 4 && memcmp(s.at, "null", 4) == 0);
	}
	if (broken)
		return false;

	s = whole;
	if (!find_key(&s, "_embedded", &broken))
		return !broken;
	if (s.at >= s.end || *s.at != '{')
		return true;			/* PHP writes an empty object as [] */
	if (!find_key(&s, entity, &broken))
		return !broken;
	if (!skip_char(&s, '['))
		return false;
	if (skip_char(&s, ']'))
		return true;
	for (;;)
	{
		const char *start;

		skip_blanks(&s);
		start = s.at;
		if (!skip_value(&s))
			return false;
		if (!handle(self, start, (size_t) (s.at - start)))
			return false;
		if (skip_char(&s, ','))
			continue;
		return skip_char(&s, ']');
	}
}
