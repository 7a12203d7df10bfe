/*-------------------------------------------------------------------------
 *
 * fuzz.h
 *	  What the fuzzers share: reading numbers out of the fuzzer's bytes, and
 *	  memory that is freed after each input, so that every block has its own
 *	  borders for AddressSanitizer to watch.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_FUZZ_H
#define REGCRM_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property that must hold of every input. */
#define MUST(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "%s:%d: this must hold: %s\n", __FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

typedef struct Bytes
{
	const uint8_t *at;
	size_t		left;
} Bytes;

/* The next byte; 0 when there are none left. */
static inline unsigned
take(Bytes *b)
{
	if (b->left == 0)
		return 0;
	b->left--;
	return *b->at++;
}

static inline unsigned
take2(Bytes *b)
{
	unsigned	high = take(b);

	return high << 8 | take(b);
}

/* One of n. */
static inline int
pick(Bytes *b, int n)
{
	return (int) (take(b) % (unsigned) n);
}

static inline bool
chance(Bytes *b, int of)
{
	return pick(b, of) == 1;
}

/* ---- memory ---- */

static void **fuzz_blocks;
static size_t fuzz_nblocks;
static size_t fuzz_room;

static void *
fuzz_grow(void *self, void *old, size_t size)
{
	void	   *block = realloc(old, size > 0 ? size : 1);

	(void) self;
	if (block == NULL)
		abort();
	for (size_t i = fuzz_nblocks; old && i > 0; i--)
		if (fuzz_blocks[i - 1] == old)
		{
			fuzz_blocks[i - 1] = block;
			return block;
		}
	if (fuzz_nblocks == fuzz_room)
	{
		fuzz_room = fuzz_room ? fuzz_room * 2 : 64;
		fuzz_blocks = realloc(fuzz_blocks, fuzz_room * sizeof(void *));
		if (fuzz_blocks == NULL)
			abort();
	}
	return fuzz_blocks[fuzz_nblocks++] = block;
}

static const Memory fuzz_memory = {fuzz_grow, NULL};

static inline void
fuzz_free(void)
{
	while (fuzz_nblocks > 0)
		free(fuzz_blocks[--fuzz_nblocks]);
}

/* A copy with nothing behind it, and a zero byte where a C string is wanted. */
static inline char *
fuzz_copy(const uint8_t *data, size_t size, bool string)
{
	char	   *copy = fuzz_grow(NULL, NULL, size + string);

	if (size > 0)
		memcpy(copy, data, size);
	if (string)
		copy[size] = '\0';
	return copy;
}

#endif							/* REGCRM_FUZZ_H */
