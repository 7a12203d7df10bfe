/*-------------------------------------------------------------------------
 *
 * json_read.c
 *	  Reading single values of what amoCRM sends: json_id() and its like.
 *
 * Each element of a page asks some dozens of times whether a value is a number,
 * a moment, or nothing.  In SQL each of these took its argument out of the
 * element several times over and compared numerics in turn.
 *
 * None of them can fail: what can't be read is null (or "bad"), and the caller
 * puts the element into quarantine.  A number may come as text; blanks around
 * it are those of ASCII, as numeric's input takes them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

#define DIGITS_MAX		15
#define NUMBER_LIMIT	INT64CONST(1000000000000000)	/* 10^15 */

/* The last second of 2199. */
#define TIME_MAX		INT64CONST(7258118399)

PG_FUNCTION_INFO_V1(regcrm_json_unset);
PG_FUNCTION_INFO_V1(regcrm_json_number);
PG_FUNCTION_INFO_V1(regcrm_json_whole);
PG_FUNCTION_INFO_V1(regcrm_json_id);
PG_FUNCTION_INFO_V1(regcrm_json_time);
PG_FUNCTION_INFO_V1(regcrm_json_text);
PG_FUNCTION_INFO_V1(regcrm_json_true);
PG_FUNCTION_INFO_V1(regcrm_json_list);
PG_FUNCTION_INFO_V1(regcrm_bad_whole);
PG_FUNCTION_INFO_V1(regcrm_bad_time);

/* What kind of number a text is. */
typedef enum NumberText
{
	TEXT_OTHER,
	TEXT_NUMBER,				/* [-+]digits[.decimals] */
	TEXT_WHOLE					/* [-]digits[.000] */
} NumberText;

/* The value in v; false for an array or object. */
static bool
scalar(Jsonb *value, JsonbValue *v)
{
	return JB_ROOT_IS_SCALAR(value) && JsonbExtractScalar(&value->root, v);
}

static bool
is_text(const JsonbValue *v, const char *text)
{
	return v->type == jbvString && v->val.string.len == (int) strlen(text) &&
		memcmp(v->val.string.val, text, v->val.string.len) == 0;
}


/* ---- numbers ---- */

static int
compare(Numeric a, Numeric b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, NumericGetDatum(a), NumericGetDatum(b)));
}

/* Numbers are compared with few others, made once a session. */
static Numeric
constant(Numeric *made, int64 number)
{
	if (*made == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		*made = int64_to_numeric(number);
		MemoryContextSwitchTo(old);
	}
	return *made;
}

static bool
in_range(Numeric number)
{
	static Numeric least = NULL;
	static Numeric most = NULL;

	return compare(number, constant(&least, -NUMBER_LIMIT)) > 0 &&
		compare(number, constant(&most, NUMBER_LIMIT)) < 0;
}

/* A number in range without its fraction (towards zero); *whole: it has none. */
static int64
truncated(Numeric number, bool *whole)
{
	int64		rounded = DatumGetInt64(DirectFunctionCall1(numeric_int8, NumericGetDatum(number)));
	int			order;

	*whole = true;
	if (DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(number))) == 0)
		return rounded;
	order = compare(int64_to_numeric(rounded), number);
	*whole = order == 0;
	if (order > 0 && rounded > 0)
		return rounded - 1;
	if (order < 0 && rounded < 0)
		return rounded + 1;
	return rounded;
}

static bool
is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* What a text is; *whole gets its value where it is a whole number. */
static NumberText
read_text(const JsonbValue *v, int64 *whole, int *decimals)
{
	const char *p = v->val.string.val;
	const char *end = p + v->val.string.len;
	bool		minus = false;
	bool		plus = false;
	bool		zeros = true;
	int			digits = 0;

	while (p < end && is_blank(*p))
		p++;
	if (p < end && (*p == '-' || *p == '+'))
	{
		minus = *p == '-';
		plus = *p == '+';
		p++;
	}
	*whole = 0;
	*decimals = 0;
	for (; p < end && is_digit(*p); p++)
	{
		if (++digits > DIGITS_MAX)
			return TEXT_OTHER;
		*whole = *whole * 10 + (*p - '0');
	}
	if (digits == 0)
		return TEXT_OTHER;
	if (p < end && *p == '.')
		for (p++; p < end && is_digit(*p); p++)
		{
			(*decimals)++;
			zeros &= *p == '0';
		}
	while (p < end && is_blank(*p))
		p++;
	if (p < end)
		return TEXT_OTHER;
	if (minus)
		*whole = -*whole;
	if (zeros && !plus)
		return TEXT_WHOLE;
	return TEXT_NUMBER;
}

/* A whole number of at most 15 digits, or a text that is one. */
static bool
read_whole(Jsonb *value, int64 *number)
{
	JsonbValue	v;
	bool		whole;
	int			decimals;

	if (!scalar(value, &v))
		return false;
	if (v.type == jbvString)
		return read_text(&v, number, &decimals) == TEXT_WHOLE;
	if (v.type != jbvNumeric || !in_range(v.val.numeric))
		return false;
	*number = truncated(v.val.numeric, &whole);
	return whole;
}

/* "Nothing": see the comment of the SQL function. */
static bool
is_unset(Jsonb *value)
{
	JsonbValue	v;
	static Numeric zero = NULL;

	if (!scalar(value, &v))
		return JB_ROOT_COUNT(value) == 0;
	switch (v.type)
	{
		case jbvNumeric:
			return compare(v.val.numeric, constant(&zero, 0)) == 0;
		case jbvString:
			return v.val.string.len == 0 || is_text(&v, "0");
		case jbvBool:
			return !v.val.boolean;
		default:
			return true;
	}
}


/* ---- SQL functions ---- */

Datum
regcrm_json_unset(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_ARGISNULL(0) || is_unset(PG_GETARG_JSONB_P(0)));
}

Datum
regcrm_json_number(PG_FUNCTION_ARGS)
{
	Jsonb	   *value = PG_GETARG_JSONB_P(0);
	JsonbValue	v;
	int64		whole;
	int			decimals;

	if (!scalar(value, &v))
		PG_RETURN_NULL();
	if (v.type == jbvNumeric && in_range(v.val.numeric))
		PG_RETURN_DATUM(datumCopy(NumericGetDatum(v.val.numeric), false, -1));
	if (v.type == jbvString && read_text(&v, &whole, &decimals) != TEXT_OTHER && decimals <= DIGITS_MAX)
		PG_RETURN_DATUM(DirectFunctionCall3(numeric_in,
											CStringGetDatum(pnstrdup(v.val.string.val, v.val.string.len)),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
	PG_RETURN_NULL();
}

Datum
regcrm_json_whole(PG_FUNCTION_ARGS)
{
	int64		number;

	if (!read_whole(PG_GETARG_JSONB_P(0), &number))
		PG_RETURN_NULL();
	PG_RETURN_INT64(number);
}

Datum
regcrm_json_id(PG_FUNCTION_ARGS)
{
	int64		number;

	if (!read_whole(PG_GETARG_JSONB_P(0), &number) || number < 1)
		PG_RETURN_NULL();
	PG_RETURN_INT64(number);
}

Datum
regcrm_json_time(PG_FUNCTION_ARGS)
{
	Jsonb	   *value = PG_GETARG_JSONB_P(0);
	JsonbValue	v;
	int64		seconds;
	int			decimals;
	bool		whole = true;

	if (!scalar(value, &v))
		PG_RETURN_NULL();
	if (v.type == jbvNumeric && in_range(v.val.numeric))
		seconds = truncated(v.val.numeric, &whole);
	else if (v.type != jbvString || read_text(&v, &seconds, &decimals) != TEXT_WHOLE)
		PG_RETURN_NULL();
	if (seconds < 1 || seconds > TIME_MAX || (seconds == TIME_MAX && !whole))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ((seconds - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY) *
						  USECS_PER_SEC);
}

Datum
regcrm_json_text(PG_FUNCTION_ARGS)
{
	JsonbValue	v;

	if (!scalar(PG_GETARG_JSONB_P(0), &v))
		PG_RETURN_NULL();
	switch (v.type)
	{
		case jbvString:
			PG_RETURN_TEXT_P(cstring_to_text_with_len(v.val.string.val, v.val.string.len));
		case jbvNumeric:
			PG_RETURN_TEXT_P(cstring_to_text(DatumGetCString(
				DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)))));
		case jbvBool:
			PG_RETURN_TEXT_P(cstring_to_text(v.val.boolean ? "true" : "false"));
		default:
			PG_RETURN_NULL();
	}
}

Datum
regcrm_json_true(PG_FUNCTION_ARGS)
{
	JsonbValue	v;
	static Numeric one = NULL;

	if (PG_ARGISNULL(0) || !scalar(PG_GETARG_JSONB_P(0), &v))
		PG_RETURN_BOOL(false);
	if (v.type == jbvNumeric)
		PG_RETURN_BOOL(compare(v.val.numeric, constant(&one, 1)) == 0);
	PG_RETURN_BOOL((v.type == jbvBool && v.val.boolean) || is_text(&v, "1") || is_text(&v, "true"));
}

Datum
regcrm_json_list(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0))
	{
		Jsonb	   *value = PG_GETARG_JSONB_P(0);

		if (JB_ROOT_IS_ARRAY(value) && !JB_ROOT_IS_SCALAR(value))
			PG_RETURN_JSONB_P(value);
	}
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum("[]")));
}

Datum
regcrm_bad_whole(PG_FUNCTION_ARGS)
{
	Jsonb	   *value;
	JsonbValue	v;
	int64		number;

	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	value = PG_GETARG_JSONB_P(0);
	if (!scalar(value, &v) || (v.type != jbvNumeric && v.type != jbvString))
		PG_RETURN_BOOL(!is_unset(value));
	PG_RETURN_BOOL(!is_text(&v, "") && !read_whole(value, &number));
}

Datum
regcrm_bad_time(PG_FUNCTION_ARGS)
{
	Jsonb	   *value;
	JsonbValue	v;
	int64		seconds;
	int			decimals;
	static Numeric most = NULL;

	if (PG_ARGISNULL(0))
		PG_RETURN_BOOL(false);
	value = PG_GETARG_JSONB_P(0);
	if (!scalar(value, &v) || (v.type != jbvNumeric && v.type != jbvString))
		PG_RETURN_BOOL(!is_unset(value));
	if (v.type == jbvNumeric)
		PG_RETURN_BOOL(compare(v.val.numeric, constant(&most, TIME_MAX)) > 0);
	PG_RETURN_BOOL(!is_text(&v, "") &&
				   (read_text(&v, &seconds, &decimals) != TEXT_WHOLE || seconds > TIME_MAX));
}
