/*-------------------------------------------------------------------------
 *
 * label.c
 *	  Stage codes as 8 bytes, and the folding of names (pure).
 *
 * A code is a number of 12 digits in base 38: digit 0 is "no character", the
 * others are the 37 characters in the order of their bytes.  38^12 is less
 * than 2^63, so every code fits and is positive even when taken as signed.
 * Shorter codes are filled with zeros at the end, so they stand before their
 * continuations.  This layout is in tables and indexes: it is for ever.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "label.h"

#define BASE	38

static const char alphabet[] = "0123456789_abcdefghijklmnopqrstuvwxyz";

/* Characters that fold_character() drops. */
#define DROPPED 0xFFFFFFFFu

static int	digit_of(char c);
static int	read_character(const char *text, size_t len, uint32_t *character);
static int	write_character(uint32_t character, char *out);
static uint32_t fold_character(uint32_t c);

stage_code
label_pack(const char *text, size_t len)
{
	stage_code	code = 0;
	size_t		i;

	if (len < 1 || len > LABEL_MAX)
		return 0;
	for (i = 0; i < LABEL_MAX; i++)
	{
		int			digit = 0;

		if (i < len)
		{
			digit = digit_of(text[i]);
			if (digit == 0)
				return 0;
		}
		code = code * BASE + (stage_code) digit;
	}
	return code;
}

int
label_unpack(stage_code code, char text[LABEL_MAX + 1])
{
	int			len = 0;
	int			i;

	for (i = LABEL_MAX - 1; i >= 0; i--)
	{
		int			digit = (int) (code % BASE);

		code /= BASE;
		if (digit == 0)
		{
			/* Only the end may be empty. */
			if (len > 0)
			{
				text[0] = '\0';
				return 0;
			}
			text[i] = '\0';
			continue;
		}
		if (len == 0)
			len = i + 1;
		text[i] = alphabet[digit - 1];
	}
	/* What is left over would be a thirteenth character. */
	if (code != 0)
		len = 0;
	text[len] = '\0';
	return len;
}

size_t
label_fold(const char *text, size_t len, char *out)
{
	size_t		in = 0;
	size_t		n = 0;
	bool		blank = false;	/* blanks are waiting for what they part */
	uint32_t	last = 0;		/* what was written last */
	size_t		last_at = 0;	/* ... and where it begins */

	while (in < len)
	{
		uint32_t	c;
		int			width = read_character(text + in, len - in, &c);

		if (width == 0)
		{
			/* Not UTF-8: kept as it is. */
			if (blank && n > 0)
				out[n++] = ' ';
			blank = false;
			out[n++] = text[in++];
			last = 0;
			continue;
		}
		in += width;

		c = fold_character(c);
		if (c == DROPPED)
			continue;
		if (c == ' ')
		{
			blank = true;
			continue;
		}

		/*
		 * Letters that came as a letter and a mark on it, as file systems
		 * write them: и with a breve is й, е with two dots is ё, which is е.
		 */
		if (!blank && n > 0)
		{
			if (c == 0x0306 && last == 0x0438)
			{
				n = last_at;
				c = 0x0439;
			}
			else if (c == 0x0308 && last == 0x0435)
				continue;
		}

		if (blank && n > 0)
			out[n++] = ' ';
		blank = false;
		last = c;
		last_at = n;
		n += write_character(c, out + n);
	}
	return n;
}

/* Number of a character of the alphabet from 1, else 0. */
static int
digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0' + 1;
	if (c == '_')
		return 11;
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 12;
	return 0;
}

/*
 * Reads one character of UTF-8 and returns how many bytes it takes, 0 where
 * they are not UTF-8.  Only what folding looks at is told apart strictly; a
 * longer sequence is copied by its length.
 */
static int
read_character(const char *text, size_t len, uint32_t *character)
{
	const unsigned char *b = (const unsigned char *) text;
	int			width;
	int			i;
	uint32_t	c;

	if (b[0] < 0x80)
	{
		*character = b[0];
		return 1;
	}
	if (b[0] >= 0xC2 && b[0] < 0xE0)
	{
		width = 2;
		c = b[0] & 0x1F;
	}
	else if (b[0] >= 0xE0 && b[0] < 0xF0)
	{
		width = 3;
		c = b[0] & 0x0F;
	}
	else if (b[0] >= 0xF0 && b[0] < 0xF5)
	{
		width = 4;
		c = b[0] & 0x07;
	}
	else
		return 0;
	if (len < (size_t) width)
		return 0;
	for (i = 1; i < width; i++)
	{
		if ((b[i] & 0xC0) != 0x80)
			return 0;
		c = (c << 6) | (b[i] & 0x3F);
	}
	/* Overlong forms would be written back shorter, as something else. */
	if ((width == 3 && c < 0x800) || (width == 4 && c < 0x10000))
		return 0;
	*character = c;
	return width;
}

static int
write_character(uint32_t c, char *out)
{
	unsigned char *b = (unsigned char *) out;

	if (c < 0x80)
	{
		b[0] = (unsigned char) c;
		return 1;
	}
	if (c < 0x800)
	{
		b[0] = (unsigned char) (0xC0 | (c >> 6));
		b[1] = (unsigned char) (0x80 | (c & 0x3F));
		return 2;
	}
	if (c < 0x10000)
	{
		b[0] = (unsigned char) (0xE0 | (c >> 12));
		b[1] = (unsigned char) (0x80 | ((c >> 6) & 0x3F));
		b[2] = (unsigned char) (0x80 | (c & 0x3F));
		return 3;
	}
	b[0] = (unsigned char) (0xF0 | (c >> 18));
	b[1] = (unsigned char) (0x80 | ((c >> 12) & 0x3F));
	b[2] = (unsigned char) (0x80 | ((c >> 6) & 0x3F));
	b[3] = (unsigned char) (0x80 | (c & 0x3F));
	return 4;
}

/*
 * One character folded; every blank becomes ' ', what has no width DROPPED.
 * The result never takes more bytes than c.
 */
static uint32_t
fold_character(uint32_t c)
{
	if (c < 0x80)
	{
		if (c >= 'A' && c <= 'Z')
			return c + ('a' - 'A');
		if (c >= '\t' && c <= '\r')
			return ' ';
		return c;
	}

	/* Cyrillic */
	if (c >= 0x0410 && c <= 0x042F) /* А to Я */
		return c + 0x20;
	if (c == 0x0401 || c == 0x0451) /* Ё, ё */
		return 0x0435;
	if (c >= 0x0400 && c <= 0x040F) /* Ѐ to Џ */
		return c + 0x50;
	if ((c >= 0x0460 && c <= 0x0481) || (c >= 0x048A && c <= 0x04BF) ||
		(c >= 0x04D0 && c <= 0x052F))
		return c | 1;			/* pairs, the capital even */
	if (c == 0x04C0)			/* palochka */
		return 0x04CF;
	if (c >= 0x04C1 && c <= 0x04CE) /* pairs, the capital odd */
		return c + (c & 1);

	/* Blanks: no-break and the typographer's. */
	if (c == 0x00A0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
		c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000)
		return ' ';

	/* Without width: soft hyphen, zero-width blanks and joiners, byte order mark. */
	if (c == 0x00AD || (c >= 0x200B && c <= 0x200D) || c == 0x2060 || c == 0xFEFF)
		return DROPPED;

	return c;
}
