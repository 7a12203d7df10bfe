/*-------------------------------------------------------------------------
 *
 * fields.h
 *	  The fields of a deal: which columns they are, and what their text means.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_FIELDS_H
#define REGCRM_FIELDS_H

#include "postgres.h"

#include "pgtime.h"

#include "rules.h"

typedef enum FieldType
{
	FIELD_TEXT,
	FIELD_DATE,
	FIELD_MOMENT,				/* timestamptz */
	FIELD_FLAG,					/* boolean */
	FIELD_CUSTOM				/* no column: a key of deal.custom, text */
} FieldType;

typedef struct FieldColumn
{
	const char *name;
	FieldType	type;
} FieldColumn;

/* The columns of deal that are fields, in the order of the table. */
#define FIELD_COLUMNS	9
extern const FieldColumn field_columns[FIELD_COLUMNS];

/* Index in field_columns, or -1. */
extern int	field_column(const char *name);

/* What a field holds. */
typedef struct FieldValue
{
	bool		readable;		/* false: text that its type can't hold */
	bool		holds;			/* not null, not empty, not false */
	uint64		hash;			/* equal values, equal numbers; 0 = holds nothing */
	instant		moment;			/* what a date or time stands for, else INSTANT_NEVER */
	Datum		datum;			/* for the column; valid where holds or a flag */
	bool		isnull;
} FieldValue;

/* What text (NULL = emptied) means to a field of that type, in a zone. */
extern FieldValue field_read(const char *text, FieldType type, pg_tz *zone);

/* What a column's datum means. */
extern FieldValue field_of_datum(Datum datum, bool isnull, FieldType type, pg_tz *zone);

/* A column's datum as text, the same in every session; NULL for null. */
extern char *field_text(Datum datum, bool isnull, FieldType type);

/* The account's zone by name; UTC where the server does not know it. */
extern pg_tz *field_zone(const char *name);

#endif							/* REGCRM_FIELDS_H */
