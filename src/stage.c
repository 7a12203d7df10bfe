/*-------------------------------------------------------------------------
 *
 * stage.c
 *	  Type regcrm.stage.
 *
 * A value is the stage's code itself, packed by label.c: never a row number,
 * so it means the same in every database, dump, replica and index.  Output,
 * comparison and hashing read no table.  Input does: it knows the codes, names
 * and aliases of regcrm.stage_def, and refuses what is not there.
 *
 * Input runs anywhere: in COPY, in a parallel worker, in a restore before any
 * row of stage_def is there, in the session of a role that may not read that
 * table.  So stage_def is read by rowscan.c, without SQL; what that tells a
 * role without privileges is which names are stages.
 *
 * The rows are kept for the backend until a relcache invalidation of stage_def,
 * which an always enabled statement trigger on the table sends.  An empty or
 * absent table is never kept: each value then looks again, so that the first
 * rows count from the moment they are there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "regcrm.h"
#include "rowscan.h"
#include "stage.h"

StaticAssertDecl(sizeof(Datum) >= sizeof(stage_code),
				 "type regcrm.stage is passed by value and needs 8 bytes");

/* How much of a text that is no stage is repeated in the message. */
#define SHOWN_LENGTH	100

/* How many stages a hint lists. */
#define SHOWN_STAGES	50

/* One row of stage_def. */
typedef struct KnownStage
{
	stage_code	code;
	int			position;
	char	   *name;			/* as it is written */
} KnownStage;

/* A folded name or alias, in UTF-8. */
typedef struct KnownName
{
	const char *text;
	size_t		len;
	stage_code	code;
} KnownName;

/* stage_def as it was read. */
typedef struct StageTable
{
	MemoryContext context;
	int			nstages;
	KnownStage *stages;			/* in the order of the pipeline */
	stage_code *codes;			/* in the order of codes */
	int			nnames;
	KnownName  *names;			/* in the order of text, then code */
} StageTable;

/* Where the columns are that are read. */
typedef struct StageColumns
{
	AttrNumber	stage;
	bool		stage_is_text;
	AttrNumber	name;
	AttrNumber	aliases;
	AttrNumber	position;
} StageColumns;

static StageTable *kept;		/* NULL = nothing is kept */
static bool kept_valid;
static Oid	kept_relid;

static void stage_def_changed(Datum arg, Oid relid);
static StageTable *stage_table(bool *keep);
static StageTable *read_stage_table(Relation rel);
static void find_columns(Relation rel, StageColumns *columns);
static void add_name(StageTable *table, int *space, const char *text, stage_code code);
static KnownName *find_name(const StageTable *table, const char *text, size_t len);
static bool knows_code(const StageTable *table, stage_code code);
static stage_code parse_stage(const char *text, int sqlerrcode, Node *escontext);
static char *list_stages(const StageTable *table);
static char *shown(const char *text);
static char *to_utf8(const char *text);
static int	compare_stages(const void *a, const void *b);
static int	compare_codes(const void *a, const void *b);
static int	compare_names(const void *a, const void *b);

PG_FUNCTION_INFO_V1(regcrm_stage_in);
PG_FUNCTION_INFO_V1(regcrm_stage_out);
PG_FUNCTION_INFO_V1(regcrm_stage_recv);
PG_FUNCTION_INFO_V1(regcrm_stage_send);
PG_FUNCTION_INFO_V1(regcrm_stage_eq);
PG_FUNCTION_INFO_V1(regcrm_stage_ne);
PG_FUNCTION_INFO_V1(regcrm_stage_lt);
PG_FUNCTION_INFO_V1(regcrm_stage_le);
PG_FUNCTION_INFO_V1(regcrm_stage_gt);
PG_FUNCTION_INFO_V1(regcrm_stage_ge);
PG_FUNCTION_INFO_V1(regcrm_stage_cmp);
PG_FUNCTION_INFO_V1(regcrm_stage_hash);
PG_FUNCTION_INFO_V1(regcrm_stage_hash_extended);
PG_FUNCTION_INFO_V1(regcrm_stage_to_text);
PG_FUNCTION_INFO_V1(regcrm_text_to_stage);
PG_FUNCTION_INFO_V1(regcrm_fold_name);

void
stage_init(void)
{
	CacheRegisterRelcacheCallback(stage_def_changed, (Datum) 0);
}

stage_code
stage_from_text(const char *text)
{
	return parse_stage(text, ERRCODE_INVALID_TEXT_REPRESENTATION, NULL);
}

char *
stage_text(stage_code stage)
{
	char	   *text = palloc(LABEL_MAX + 1);

	if (label_unpack(stage, text) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("value of type regcrm.stage holds no code"),
				 errdetail("Its bytes are %llx.", (unsigned long long) stage)));
	return text;
}

/* ---------- SQL functions ---------- */

Datum
regcrm_stage_in(PG_FUNCTION_ARGS)
{
	stage_code	stage = parse_stage(PG_GETARG_CSTRING(0),
									ERRCODE_INVALID_TEXT_REPRESENTATION,
									compat_escontext(fcinfo));

	/* Only where a soft error was saved, and then nobody looks at the value. */
	if (stage == 0)
		PG_RETURN_NULL();
	PG_RETURN_STAGE(stage);
}

Datum
regcrm_stage_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(stage_text(PG_GETARG_STAGE(0)));
}

/*
 * The binary form is the text of the code, as an enum's is: programs that do
 * not know the type can read it.
 */
Datum
regcrm_stage_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	int			nbytes;
	char	   *text = pq_getmsgtext(buf, buf->len - buf->cursor, &nbytes);

	PG_RETURN_STAGE(parse_stage(text, ERRCODE_INVALID_BINARY_REPRESENTATION, NULL));
}

Datum
regcrm_stage_send(PG_FUNCTION_ARGS)
{
	StringInfoData buf;
	char	   *text = stage_text(PG_GETARG_STAGE(0));

	pq_begintypsend(&buf);
	pq_sendtext(&buf, text, strlen(text));
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

Datum
regcrm_stage_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_STAGE(0) == PG_GETARG_STAGE(1));
}

Datum
regcrm_stage_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_STAGE(0) != PG_GETARG_STAGE(1));
}

Datum
regcrm_stage_lt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_STAGE(0) < PG_GETARG_STAGE(1));
}

Datum
regcrm_stage_le(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_STAGE(0) <= PG_GETARG_STAGE(1));
}

Datum
regcrm_stage_gt(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_STAGE(0) > PG_GETARG_STAGE(1));
}

Datum
regcrm_stage_ge(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_STAGE(0) >= PG_GETARG_STAGE(1));
}

Datum
regcrm_stage_cmp(PG_FUNCTION_ARGS)
{
	stage_code	a = PG_GETARG_STAGE(0);
	stage_code	b = PG_GETARG_STAGE(1);

	PG_RETURN_INT32((a > b) - (a < b));
}

/* Both hashes are in indexes: they are for ever. */
Datum
regcrm_stage_hash(PG_FUNCTION_ARGS)
{
	stage_code	stage = PG_GETARG_STAGE(0);

	return hash_any((unsigned char *) &stage, sizeof(stage));
}

Datum
regcrm_stage_hash_extended(PG_FUNCTION_ARGS)
{
	stage_code	stage = PG_GETARG_STAGE(0);

	return hash_any_extended((unsigned char *) &stage, sizeof(stage),
							 (uint64) PG_GETARG_INT64(1));
}

Datum
regcrm_stage_to_text(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(stage_text(PG_GETARG_STAGE(0))));
}

Datum
regcrm_text_to_stage(PG_FUNCTION_ARGS)
{
	PG_RETURN_STAGE(stage_from_text(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

/*
 * fold_name(text): what the input of the type compares by, for SQL that looks
 * names up in the same way (mapping by name).
 */
Datum
regcrm_fold_name(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *utf8 = to_utf8(name);
	size_t		len = label_fold(utf8, strlen(utf8), utf8);
	char	   *result;

	utf8[len] = '\0';
	result = pg_any_to_server(utf8, (int) len, PG_UTF8);
	PG_RETURN_TEXT_P(cstring_to_text(result));
}

/* ---------- input ---------- */

/*
 * Text to stage.  sqlerrcode is for text that is no known stage.  Returns 0
 * only where escontext took an error.
 *
 * Order of the attempts: a code as it stands; a name or alias, folded; a code,
 * folded.  So a code always means its own stage, even where another stage has
 * that word for a name.
 */
static stage_code
parse_stage(const char *text, int sqlerrcode, Node *escontext)
{
	stage_code	code = label_pack(text, strlen(text));
	bool		keep;
	StageTable *table;
	KnownName  *name;
	char	   *folded;
	size_t		len;
	stage_code	result = 0;

	/* The usual case, without looking at anything else. */
	if (kept != NULL && kept_valid && code != 0 && knows_code(kept, code))
		return code;

	table = stage_table(&keep);

	if (table == NULL)
	{
		if (code != 0)
			return code;
		compat_ereturn(escontext, 0,
					   (errcode(sqlerrcode),
						errmsg("invalid input value for type regcrm.stage: \"%s\"",
							   shown(text)),
						errdetail("No stages are known here, so only a code is taken: 1 to %d characters a-z, 0-9 and _.",
								  LABEL_MAX),
						errhint("Run SELECT regcrm.setup() to load the built-in stages, or add rows to regcrm.stage_def.")));
	}

	if (code != 0 && knows_code(table, code))
		result = code;
	else
	{
		folded = to_utf8(text);
		len = label_fold(folded, strlen(folded), folded);

		name = find_name(table, folded, len);
		if (name != NULL)
		{
			KnownName  *end = table->names + table->nnames;
			KnownName  *other = name + 1;

			result = name->code;
			if (other < end && other->len == len &&
				memcmp(other->text, folded, len) == 0)
			{
				StringInfoData codes;

				initStringInfo(&codes);
				appendStringInfoString(&codes, stage_text(name->code));
				for (; other < end && other->len == len &&
					 memcmp(other->text, folded, len) == 0; other++)
					appendStringInfo(&codes, ", %s", stage_text(other->code));

				compat_ereturn(escontext, 0,
							   (errcode(sqlerrcode),
								errmsg("stage name \"%s\" belongs to several stages",
									   shown(text)),
								errhint("Give the code, one of %s.", codes.data)));
			}
		}
		else
		{
			code = label_pack(folded, len);
			if (code != 0 && knows_code(table, code))
				result = code;
		}
	}

	if (result == 0)
		compat_ereturn(escontext, 0,
					   (errcode(sqlerrcode),
						errmsg("invalid input value for type regcrm.stage: \"%s\"",
							   shown(text)),
						errhint("Known stages are %s.", list_stages(table))));

	if (!keep)
		MemoryContextDelete(table->context);
	return result;
}

/* "new (Неразобранное), in_work (В работе), ..." in the order of the pipeline. */
static char *
list_stages(const StageTable *table)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < table->nstages; i++)
	{
		if (i == SHOWN_STAGES)
		{
			appendStringInfo(&list, " and %d more", table->nstages - i);
			break;
		}
		if (i > 0)
			appendStringInfoString(&list, ", ");
		appendStringInfo(&list, "%s (%s)", stage_text(table->stages[i].code),
						 table->stages[i].name);
	}
	return list.data;
}

/* As much of a text as a message can bear. */
static char *
shown(const char *text)
{
	int			len = (int) strlen(text);
	int			clipped = pg_mbcliplen(text, len, SHOWN_LENGTH);

	if (clipped == len)
		return pstrdup(text);
	return psprintf("%.*s...", clipped, text);
}

/* A palloc'd copy in UTF-8, which is what label_fold() reads. */
static char *
to_utf8(const char *text)
{
	int			len = (int) strlen(text);
	char	   *utf8 = pg_server_to_any(text, len, PG_UTF8);

	return utf8 == text ? pnstrdup(text, len) : utf8;
}

static bool
knows_code(const StageTable *table, stage_code code)
{
	return bsearch(&code, table->codes, table->nstages, sizeof(stage_code),
				   compare_codes) != NULL;
}

/* The first of the names that equal a folded text, or NULL. */
static KnownName *
find_name(const StageTable *table, const char *text, size_t len)
{
	int			low = 0;
	int			high = table->nnames;
	KnownName	wanted = {text, len, 0};

	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (compare_names(&table->names[middle], &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < table->nnames && table->names[low].len == len &&
		memcmp(table->names[low].text, text, len) == 0)
		return &table->names[low];
	return NULL;
}

/* ---------- stage_def ---------- */

/*
 * Relcache callback.  InvalidOid stands for everything.  The rows themselves
 * are freed by the next call that wants them: an input that is under way may
 * still be reading.
 */
static void
stage_def_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == kept_relid)
		kept_valid = false;
}

/*
 * stage_def as it is now, NULL where it is empty or absent.  *keep tells
 * whether it stays; otherwise the caller deletes its context.
 */
static StageTable *
stage_table(bool *keep)
{
	Relation	rel;
	StageTable *table;

	*keep = true;
	if (kept != NULL && kept_valid)
		return kept;
	if (kept != NULL)
	{
		StageTable *old = kept;

		kept = NULL;
		MemoryContextDelete(old->context);
	}

	rel = rowscan_open("stage_def");
	if (rel == NULL)
		return NULL;

	/*
	 * From here on an invalidation that arrives while the rows are being read
	 * clears the flag, and what was read is used this once.
	 */
	kept_relid = RelationGetRelid(rel);
	kept_valid = true;

	PG_TRY();
	{
		table = read_stage_table(rel);
	}
	PG_CATCH();
	{
		kept_valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();

	table_close(rel, AccessShareLock);

	if (table->nstages == 0)
	{
		kept_valid = false;
		MemoryContextDelete(table->context);
		return NULL;
	}

	if (kept_valid)
	{
		MemoryContextSetParent(table->context, CacheMemoryContext);
		kept = table;
	}
	else
		*keep = false;
	return table;
}

/*
 * Reads stage_def into a context of its own below the current one, so that an
 * error on the way leaves nothing behind.
 */
static StageTable *
read_stage_table(Relation rel)
{
	StageColumns columns;
	TupleDesc	desc = RelationGetDescr(rel);
	MemoryContext context;
	MemoryContext before;
	StageTable *table;
	int			stage_space = 16;
	int			name_space = 32;
	SysScanDesc scan;
	HeapTuple	tuple;

	find_columns(rel, &columns);

	context = AllocSetContextCreate(CurrentMemoryContext, "regcrm stages",
									ALLOCSET_SMALL_SIZES);
	before = MemoryContextSwitchTo(context);
	table = palloc0(sizeof(StageTable));
	table->context = context;
	table->stages = palloc(stage_space * sizeof(KnownStage));
	table->names = palloc(name_space * sizeof(KnownName));

	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		KnownStage	known;
		Datum		value;
		bool		isnull;

		value = heap_getattr(tuple, columns.stage, desc, &isnull);
		if (isnull)
			continue;
		if (columns.stage_is_text)
		{
			char	   *code = TextDatumGetCString(value);

			known.code = label_pack(code, strlen(code));
			pfree(code);
		}
		else
			known.code = DatumGetStage(value);
		if (known.code == 0)
			continue;			/* the table's own check refuses it */

		value = heap_getattr(tuple, columns.position, desc, &isnull);
		known.position = isnull ? PG_INT32_MAX : DatumGetInt32(value);

		value = heap_getattr(tuple, columns.name, desc, &isnull);
		known.name = isnull ? pstrdup("") : TextDatumGetCString(value);
		if (!isnull)
			add_name(table, &name_space, known.name, known.code);

		value = heap_getattr(tuple, columns.aliases, desc, &isnull);
		if (!isnull)
		{
			Datum	   *aliases;
			bool	   *nulls;
			int			naliases;

			deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false,
							  TYPALIGN_INT, &aliases, &nulls, &naliases);
			for (int i = 0; i < naliases; i++)
				if (!nulls[i])
					add_name(table, &name_space,
							 TextDatumGetCString(aliases[i]), known.code);
		}

		if (table->nstages == stage_space)
		{
			stage_space *= 2;
			table->stages = repalloc(table->stages,
									 stage_space * sizeof(KnownStage));
		}
		table->stages[table->nstages++] = known;
	}
	systable_endscan(scan);

	table->codes = palloc(Max(table->nstages, 1) * sizeof(stage_code));
	for (int i = 0; i < table->nstages; i++)
		table->codes[i] = table->stages[i].code;
	qsort(table->stages, table->nstages, sizeof(KnownStage), compare_stages);
	qsort(table->codes, table->nstages, sizeof(stage_code), compare_codes);
	qsort(table->names, table->nnames, sizeof(KnownName), compare_names);

	/* A stage whose alias repeats its name is one answer, not two. */
	if (table->nnames > 1)
	{
		int			n = 1;

		for (int i = 1; i < table->nnames; i++)
			if (compare_names(&table->names[n - 1], &table->names[i]) != 0)
				table->names[n++] = table->names[i];
		table->nnames = n;
	}

	MemoryContextSwitchTo(before);
	return table;
}

static void
add_name(StageTable *table, int *space, const char *text, stage_code code)
{
	char	   *folded = to_utf8(text);
	size_t		len = label_fold(folded, strlen(folded), folded);

	if (len == 0)
		return;
	if (table->nnames == *space)
	{
		*space *= 2;
		table->names = repalloc(table->names, *space * sizeof(KnownName));
	}
	table->names[table->nnames].text = folded;
	table->names[table->nnames].len = len;
	table->names[table->nnames].code = code;
	table->nnames++;
}

/* By name: users may have added columns, and dropped and added again. */
static void
find_columns(Relation rel, StageColumns *columns)
{
	Oid			type;

	columns->stage = rowscan_column(rel, "stage", InvalidOid, InvalidOid);
	columns->name = rowscan_column(rel, "name", TEXTOID, VARCHAROID);
	columns->aliases = rowscan_column(rel, "aliases", TEXTARRAYOID, InvalidOid);
	columns->position = rowscan_column(rel, "position", INT4OID, InvalidOid);

	type = TupleDescAttr(RelationGetDescr(rel), columns->stage - 1)->atttypid;
	columns->stage_is_text = (type == TEXTOID || type == VARCHAROID);
	if (!columns->stage_is_text &&
		get_typlen(type) != (int16) sizeof(stage_code))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"stage\" of table \"%s.%s\" has an unexpected type",
						REGCRM_SCHEMA, RelationGetRelationName(rel)),
				 errhint("Run SELECT regcrm.setup().")));
}

/* ---------- order ---------- */

static int
compare_stages(const void *a, const void *b)
{
	const KnownStage *left = a;
	const KnownStage *right = b;

	if (left->position != right->position)
		return left->position < right->position ? -1 : 1;
	return compare_codes(&left->code, &right->code);
}

static int
compare_codes(const void *a, const void *b)
{
	stage_code	left = *(const stage_code *) a;
	stage_code	right = *(const stage_code *) b;

	return (left > right) - (left < right);
}

static int
compare_names(const void *a, const void *b)
{
	const KnownName *left = a;
	const KnownName *right = b;
	int			order = memcmp(left->text, right->text, Min(left->len, right->len));

	if (order != 0)
		return order;
	if (left->len != right->len)
		return left->len < right->len ? -1 : 1;
	return compare_codes(&left->code, &right->code);
}
