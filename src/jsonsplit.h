/*-------------------------------------------------------------------------
 *
 * jsonsplit.h
 *	  Finds the elements of a page that the server's JSON refuses (pure).
 *
 * A page of amoCRM can hold one name with a NUL, half a surrogate pair or
 * bytes that are no UTF-8; then the whole page is no jsonb.  Its structure
 * can be read all the same, since none of that is structure.  Each element is
 * handed out as the bytes it came in, to be tried on its own.
 *
 * No server header is included: this is built and fuzzed outside the server.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_JSONSPLIT_H
#define REGCRM_JSONSPLIT_H

#include <stdbool.h>
#include <stddef.h>

/* Deeper pages than this are refused; amoCRM's are about 10 deep. */
#define JSON_SPLIT_MAX_DEPTH	256

/* Gets one element; false stops the splitting. */
typedef bool (*json_element) (void *self, const char *bytes, size_t length);

/*
 * Splits {"_links": {"next": …}, "_embedded": {"ENTITY": [element, …]}}.
 * entity NULL: the page itself is the one element.
 *
 * False where the text is not whole, or not of that shape: brackets that do
 * not match, an end in the middle.  Elements seen before the fault was found
 * have then been handed out; the caller drops them.  *has_next tells whether
 * _links.next is there and not null.  Two passes over the text and no
 * allocation.
 */
extern bool json_split(const char *text, size_t length, const char *entity,
					   bool *has_next, json_element handle, void *self);

#endif							/* REGCRM_JSONSPLIT_H */
