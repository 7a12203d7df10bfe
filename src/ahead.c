/*-------------------------------------------------------------------------
 *
 * ahead.c
 *	  What the gate would say of a move: check_move(), allowed_moves().
 *
 * The deal's timeline is read as the gate reads it, a move is added to it in
 * memory, then what effects would add (effects.c), and the judge judges that:
 * the same code with the same facts, so it says the same.  Nothing is written.
 *
 * The facts are read as the owner of the tables, as the gate does (hazards
 * G9); who may not read the deal is told that there is none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "append.h"
#include "batch.h"
#include "refusal.h"
#include "resultrow.h"
#include "stage.h"
#include "tables.h"
#include "timeline.h"

/* Effects that move a deal on further than this go round in a circle. */
#define MAX_DEPTH	8

PG_FUNCTION_INFO_V1(regcrm_check_move);
PG_FUNCTION_INFO_V1(regcrm_allowed_moves);

static Statement select_deal = {
	"select from regcrm.deal where account_id = $1 and id = $2",
	2, {INT8OID, INT8OID}
};

/* A deal about which is asked, as it stands. */
typedef struct Ahead
{
	TablesScope scope;
	const Account *account;
	TimelineReader *reader;
	const DealLine *deal;
	Ledger	   *ledger;
	Judge	   *judge;
	instant		at;				/* when it would move */
	instant		as_of;
	int			stage;			/* where it stands at that time */
	bool		bound;			/* the regulation binds who asks */
} Ahead;

/* What is imagined: the deal's facts and those that the move brings. */
typedef struct Imagined
{
	const Ahead *ahead;
	Timeline	line;
	Fact	   *facts;
	int			room;
	int64		next_id;		/* of imagined facts, downwards */
} Imagined;


/* ---- the deal as it stands ---- */

static void
refuse_no_deal(int64 account_id, int64 deal_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_NO_DATA_FOUND),
			 errmsg("account " INT64_FORMAT " has no deal " INT64_FORMAT, account_id, deal_id)));
}

/* Whether the caller may read the deal: asked with his own rights. */
static void
check_visible(int64 account_id, int64 deal_id)
{
	TablesScope scope;
	Datum		args[2] = {Int64GetDatum(account_id), Int64GetDatum(deal_id)};

	tables_enter(&scope, false);
	statement_run(&select_deal, args);
	if (SPI_processed == 0)
		refuse_no_deal(account_id, deal_id);
	SPI_freetuptable(SPI_tuptable);
	tables_leave(&scope);
}

/*
 * Where the deal stands, and when it would move: at the moment given, which must
 * lie behind all its moves; now, where a fact of it is dated ahead, behind that.
 */
static void
find_place(Ahead *ahead, instant at)
{
	const Timeline *line = &ahead->deal->line;
	bool		now = at == GetCurrentTransactionStartTimestamp();
	const JudgedMove *moves;
	int			n = judge_moves(ahead->judge, line, &moves);
	instant		since = n > 0 ? Max(moves[n - 1].at, line->created_at) : line->created_at;

	if (TIMESTAMP_NOT_FINITE(at) || (!now && at < since))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("deal " INT64_FORMAT " can't move at %s", line->deal_id,
						timestamptz_to_str(at)),
				 errhint("Ask for a moment since it came to its present stage.")));
	ahead->stage = n > 0 ? moves[n - 1].to : STAGE_UNKNOWN;
	ahead->at = Max(at, since);
	ahead->as_of = now ? Max(ahead->as_of, ahead->at) : ahead->at;
}

static void
ahead_begin(Ahead *ahead, int64 account_id, int64 deal_id, instant at)
{
	Oid			caller = GetUserId();
	int64		actor;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	check_visible(account_id, deal_id);
	tables_enter(&ahead->scope, true);
	PushActiveSnapshot(GetLatestSnapshot());
	ahead->account = account_get(account_id);
	ahead->as_of = Max(GetCurrentTimestamp(), at);
	ahead->bound = !(append_actor(account_id, caller, &actor) &&
					 account_is_outsider(ahead->account, actor));
	ahead->judge = batch_judge_create(ahead->account);
	ahead->reader = timeline_open(ahead->account, &deal_id, 1, ahead->as_of, 0);
	ahead->deal = timeline_next(ahead->reader);
	if (ahead->deal == NULL)
		refuse_no_deal(account_id, deal_id);
	ahead->ledger = ledger_open(ahead->account, &deal_id, 1);
	ledger_read(ahead->ledger, deal_id);
	find_place(ahead, at);
}

static void
ahead_end(Ahead *ahead)
{
	ledger_close(ahead->ledger);
	timeline_close(ahead->reader);
	PopActiveSnapshot();
	tables_leave(&ahead->scope);
	SPI_finish();
}


/* ---- what a move would bring ---- */

/* Adds a fact behind all others of its instant. */
static Fact *
imagine(Imagined *imagined, FactKind kind)
{
	Timeline   *line = &imagined->line;
	int			place = line->nfacts;

	if (line->nfacts == imagined->room)
	{
		imagined->room *= 2;
		imagined->facts = repalloc_huge(imagined->facts, imagined->room * sizeof(Fact));
	}
	for (; place > 0 && imagined->facts[place - 1].at > imagined->ahead->at; place--)
		imagined->facts[place] = imagined->facts[place - 1];
	line->nfacts++;
	line->facts = imagined->facts;
	imagined->facts[place] = (Fact) {
		.at = imagined->ahead->at,
		.id = imagined->next_id--,
		.kind = kind,
	};
	return &imagined->facts[place];
}

static void
imagine_completion(Imagined *imagined, const Effect *effect)
{
	const Ahead *ahead = imagined->ahead;
	EffectState *state = effects_state(ahead->judge, ahead->account->regulation->compiled,
									   &imagined->line);

	for (int i = 0; i < state->ntasks; i++)
	{
		Fact	   *fact;

		if (effect->kind != NULL && (effect->kind_number == NO_NUMBER ||
									 state->tasks[i].kind != effect->kind_number))
			continue;
		fact = imagine(imagined, FACT_TASK_DONE);
		fact->id = state->tasks[i].id;
		fact->u.task.kind = state->tasks[i].kind;
	}
}

static void imagine_move(Imagined *imagined, int from, int to, bool by_bot, int depth);

static void
imagine_action(Imagined *imagined, const EffectAction *action, int depth)
{
	const Ahead *ahead = imagined->ahead;
	const Effect *effect = action->effect;
	EffectState *state;
	Fact	   *fact;
	int			number;

	switch (effect->what)
	{
		case EFFECT_ADD_TASK:
			fact = imagine(imagined, FACT_TASK_ADDED);
			fact->flags = FACT_BY_BOT;
			fact->u.task.kind = effect->kind_number;
			fact->u.task.due_at = action->due_at;
			break;
		case EFFECT_COMPLETE_TASKS:
			imagine_completion(imagined, effect);
			break;
		case EFFECT_SET_FIELD:
			number = timeline_field(ahead->reader, effect->field);
			if (number != NO_NUMBER)
			{
				fact = imagine(imagined, FACT_FIELD);
				*fact = timeline_field_fact(ahead->reader, number, effect->value, ahead->at);
				fact->id = imagined->next_id--;
				fact->flags |= FACT_BY_BOT;
			}
			break;
		case EFFECT_MOVE:
			state = effects_state(ahead->judge, ahead->account->regulation->compiled,
								  &imagined->line);
			if (state->stage != effect->to_stage && effect->to_stage >= 0)
				imagine_move(imagined, state->stage, effect->to_stage, true, depth + 1);
			break;
	}
}

/* The move, and whatever effects it sets off. */
static void
imagine_move(Imagined *imagined, int from, int to, bool by_bot, int depth)
{
	const Ahead *ahead = imagined->ahead;
	const LoadedRegulation *regulation = ahead->account->regulation;
	EffectAction *actions = palloc((2 * regulation->neffects + 1) * sizeof(EffectAction));
	EffectTrigger trigger = {.at = ahead->at,.from = from,.to = to,.scenario = NO_NUMBER};
	EffectState *state;
	Fact	   *fact = imagine(imagined, FACT_MOVE);
	int			n = 0;

	fact->u.move.from = (int16) from;
	fact->u.move.to = (int16) to;
	if (by_bot)
		fact->flags |= FACT_BY_BOT;
	else if (!ahead->bound)
		fact->flags |= FACT_OUT_OF_SCOPE;
	if (depth >= MAX_DEPTH)
		return;					/* the gate will say so */

	state = effects_state(ahead->judge, regulation->compiled, &imagined->line);
	if (from >= 0)
	{
		trigger.event = EFFECT_ON_LEAVE;
		n += effects_plan(regulation->effects, regulation->neffects, state, &trigger,
						  timeline_field, ahead->reader, actions);
	}
	trigger.event = EFFECT_ON_ENTER;
	n += effects_plan(regulation->effects, regulation->neffects, state, &trigger,
					  timeline_field, ahead->reader, actions + n);
	for (int i = 0; i < n; i++)
		imagine_action(imagined, &actions[i], depth);
}

/* For what the gate would refuse the move: illegal moves alone, else all. */
static void
foresee(const Ahead *ahead, int to, Refusals *refusals)
{
	const Timeline *line = &ahead->deal->line;
	Imagined	imagined = {.ahead = ahead,.line = *line,.next_id = PG_INT64_MAX};
	const Finding *findings;
	int			n;

	refusals->n = 0;
	if (to == ahead->stage)
		return;
	imagined.room = line->nfacts + 32;
	imagined.facts = MemoryContextAllocHuge(CurrentMemoryContext, imagined.room * sizeof(Fact));
	memcpy(imagined.facts, line->facts, line->nfacts * sizeof(Fact));
	imagined.line.facts = imagined.facts;
	imagined.line.as_of = ahead->as_of;
	/* a deal that nobody judges has no facts, and then moves freely */
	if (line->nfacts > 0)
		imagine_move(&imagined, ahead->stage, to, false, 0);
	n = judge_deal(ahead->judge, &imagined.line, &findings);
	refusals_collect(refusals, ahead->account, &imagined.line, findings, n, ahead->ledger, true);
	if (refusals->n == 0)
		refusals_collect(refusals, ahead->account, &imagined.line, findings, n, ahead->ledger,
						 false);
}

/* What is missing and what to do, as one text. */
static char *
hint_of(const Refusal *refusal)
{
	char	   *missing = refusal_missing(refusal);

	missing[0] = pg_toupper((unsigned char) missing[0]);
	return psprintf("%s. %s", missing, refusal_advice(refusal));
}


/* ---- SQL ---- */

static void
need_argument(FunctionCallInfo fcinfo, int argument, const char *name)
{
	if (PG_ARGISNULL(argument))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("argument \"%s\" must not be null", name)));
}

Datum
regcrm_check_move(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Ahead		ahead;
	Refusals	refusals = {0};
	int			to;

	InitMaterializedSRF(fcinfo, 0);
	need_argument(fcinfo, 0, "account_id");
	need_argument(fcinfo, 1, "deal_id");
	need_argument(fcinfo, 2, "to_stage");
	ahead_begin(&ahead, PG_GETARG_INT64(0), PG_GETARG_INT64(1),
				PG_ARGISNULL(3) ? GetCurrentTransactionStartTimestamp() :
				PG_GETARG_TIMESTAMPTZ(3));
	refusals.context = CurrentMemoryContext;
	to = rules_stage(ahead.account->regulation->compiled, PG_GETARG_STAGE(2));
	if (to >= 0)
		foresee(&ahead, to, &refusals);
	for (int i = 0; i < refusals.n; i++)
	{
		const Refusal *refusal = &refusals.items[i];
		const RuleInfo *info = regulation_rule(refusal->regulation, refusal->rule);
		Datum		values[3] = {CStringGetTextDatum(info->code),
			CStringGetTextDatum(info->title), CStringGetTextDatum(hint_of(refusal))};
		bool		nulls[3] = {false};

		resultrow_put(result, values, nulls, lengthof(values));
	}
	ahead_end(&ahead);
	return (Datum) 0;
}

/* One of the texts of all refusals, as an array. */
static Datum
texts_of(const Refusals *refusals, char *(*text_of) (const Refusal *))
{
	BulkColumn	texts = {.type = TEXTOID};

	for (int i = 0; i < refusals->n; i++)
		bulk_add_text(&texts, text_of(&refusals->items[i]));
	return bulk_array(&texts);
}

static char *
code_of(const Refusal *refusal)
{
	return pstrdup(regulation_rule(refusal->regulation, refusal->rule)->code);
}

static char *
title_of(const Refusal *refusal)
{
	return pstrdup(regulation_rule(refusal->regulation, refusal->rule)->title);
}

Datum
regcrm_allowed_moves(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const Regulation *regulation;
	MemoryContext context;
	Ahead		ahead;

	InitMaterializedSRF(fcinfo, 0);
	need_argument(fcinfo, 0, "account_id");
	need_argument(fcinfo, 1, "deal_id");
	ahead_begin(&ahead, PG_GETARG_INT64(0), PG_GETARG_INT64(1),
				GetCurrentTransactionStartTimestamp());
	regulation = ahead.account->regulation->compiled;
	context = AllocSetContextCreate(CurrentMemoryContext, "regcrm ahead", ALLOCSET_DEFAULT_SIZES);
	for (int to = 0; to < regulation->nstages; to++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Refusals	refusals = {.context = context};
		Datum		values[4];
		bool		nulls[4] = {false};

		if (to != ahead.stage)
			foresee(&ahead, to, &refusals);
		if (to != ahead.stage &&
			(refusals.n == 0 || refusal_form(&refusals.items[0]) != FORM_FLOW))
		{
			values[0] = StageGetDatum(regulation->stages[to]);
			values[1] = texts_of(&refusals, code_of);
			values[2] = texts_of(&refusals, title_of);
			values[3] = texts_of(&refusals, hint_of);
			resultrow_put(result, values, nulls, lengthof(values));
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	ahead_end(&ahead);
	return (Datum) 0;
}
