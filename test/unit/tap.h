/*-------------------------------------------------------------------------
 *
 * tap.h
 *	  A harness of a page for the unit tests: prints TAP, keeps count, lends
 *	  memory that free_all() takes back, and random numbers that are the same
 *	  in every run.
 *
 * Included by one file a program, so everything is static here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_TAP_H
#define REGCRM_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rules.h"

static int	tap_tests;
static int	tap_failures;

/* One test.  The text is printf's. */
static void __attribute__((format(printf, 2, 3), unused))
ok(bool passed, const char *format,...)
{
	va_list		args;

	printf("%sok %d - ", passed ? "" : "not ", ++tap_tests);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	if (!passed)
		tap_failures++;
}

/* A line that explains: a figure, or what a failed test met. */
static void __attribute__((format(printf, 1, 2), unused))
note(const char *format,...)
{
	va_list		args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

/* Ends the program: return tap_end(); */
static int __attribute__((unused))
tap_end(void)
{
	printf("1..%d\n", tap_tests);
	return tap_failures != 0;
}

/* ---- memory ---- */

static void **tap_blocks;
static size_t tap_nblocks;

static void *__attribute__((unused))
tap_grow(void *self, void *old, size_t size)
{
	void	   *block;
	size_t		i;

	(void) self;
	for (i = 0; old != NULL && i < tap_nblocks; i++)
		if (tap_blocks[i] == old)
			break;
	block = realloc(old, size);
	if (block == NULL)
		abort();
	if (old == NULL)
	{
		tap_blocks = realloc(tap_blocks, sizeof(void *) * (tap_nblocks + 1));
		if (tap_blocks == NULL)
			abort();
		i = tap_nblocks++;
	}
	tap_blocks[i] = block;
	return block;
}

static const Memory tap_memory __attribute__((unused)) = {tap_grow, NULL};

static void __attribute__((unused))
free_all(void)
{
	for (size_t i = 0; i < tap_nblocks; i++)
		free(tap_blocks[i]);
	free(tap_blocks);
	tap_blocks = NULL;
	tap_nblocks = 0;
}

/* ---- random numbers (xorshift64*) ---- */

static uint64_t tap_seed = UINT64_C(0x9E3779B97F4A7C15);

static uint64_t __attribute__((unused))
any(void)
{
	tap_seed ^= tap_seed >> 12;
	tap_seed ^= tap_seed << 25;
	tap_seed ^= tap_seed >> 27;
	return tap_seed * UINT64_C(0x2545F4914F6CDD1D);
}

/* From low to high, both included. */
static int64_t __attribute__((unused))
between(int64_t low, int64_t high)
{
	return low + (int64_t) (any() % (uint64_t) (high - low + 1));
}

#endif							/* REGCRM_TAP_H */
