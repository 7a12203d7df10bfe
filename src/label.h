/*-------------------------------------------------------------------------
 *
 * label.h
 *	  Stage codes as 8 bytes, and the folding of names (pure).
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_LABEL_H
#define REGCRM_LABEL_H

#include "rules.h"

/* A code has 1 to 12 characters of a-z, 0-9 and _. */
#define LABEL_MAX	12

/*
 * Packs a code; 0 where text is none.  Codes compare as their text does, byte
 * by byte, a prefix before what continues it.
 */
extern stage_code label_pack(const char *text, size_t len);

/*
 * Writes the text of a code and a terminating zero; returns its length, or 0
 * (and an empty text) where the bytes are no code.
 */
extern int	label_unpack(stage_code code, char text[LABEL_MAX + 1]);

/*
 * Folds a name given in UTF-8, so that names that people take for the same
 * are: letters of ASCII and Cyrillic in lower case, no difference between е
 * and ё, no blanks around it, single ones within.  Writes at most len bytes,
 * without a terminating zero, and returns how many.  out may be text.
 *
 * The folding is written out here and will not change with the locale, the C
 * library or the server's version.  Bytes that are not UTF-8 are kept.
 */
extern size_t label_fold(const char *text, size_t len, char *out);

#endif							/* REGCRM_LABEL_H */
