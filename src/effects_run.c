/*-------------------------------------------------------------------------
 *
 * effects_run.c
 *	  Effects of what a statement wrote, carried out (part of the gate).
 *
 * At the end of a statement in mode enforce the gate says which deals were
 * moved and which scenarios were chosen.  effects.c finds out what follows;
 * here it is written, one statement for all deals that an effect concerns, in
 * the order of the effects' positions.  These are ordinary writes of the
 * tables' owner: triggers fire, events are appended (as done by a bot), and a
 * deal that an effect moves may set off further effects.
 *
 * Effects that set each other off for ever are the regulation's mistake: after
 * MAX_DEPTH of them in a row the statement fails and names them (hazards G15).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "effects_run.h"
#include "fields.h"
#include "stage.h"
#include "tables.h"
#include "timeline.h"

#define MAX_DEPTH	8

/*
 * Effects at work, innermost last; written only here and set back on error.
 * Events appended meanwhile are a bot's.
 */
static const char *acting[MAX_DEPTH];
static int	depth = 0;

/* What one effect is to do to which deals. */
typedef struct Doing
{
	const Effect *effect;
	BulkColumn	deals;
	BulkColumn	at;
	BulkColumn	due_at;
} Doing;

#define LOCATED(columns, table, key) \
	" from (select v.*, f.tid from unnest(" columns ") v(deal_id, at)" \
	" cross join lateral (select f.ctid as tid from regcrm." table " f" \
	" where f.account_id = $1 and f." key " = v.deal_id"

static Statement add_tasks = {
	"insert into regcrm.task (account_id, deal_id, kind, body, manager_id, created_at, by_bot, due_at)"
	" select $1, u.deal_id, $5, $6, d.manager_id, u.at, true, u.due_at"
	" from unnest($2, $3, $4) with ordinality u(deal_id, at, due_at, place)"
	" cross join lateral (select f.manager_id from regcrm.deal f"
	" where f.account_id = $1 and f.id = u.deal_id offset 0) d order by u.place",
	6, {INT8OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID, TEXTOID}
};
static Statement complete_tasks = {
	"update regcrm.task t set completed_at = greatest(u.at, t.created_at),"
	" result = coalesce(t.result, $5)"
	LOCATED("$2, $3", "task", "deal_id")
	" and f.completed_at is null and f.deleted_at is null and (f.kind = $4 or $4 is null)"
	" offset 0) f offset 0) u where t.ctid = u.tid",
	5, {INT8OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID, TEXTOID}
};
static Statement set_custom = {
	"update regcrm.deal d set custom = case when $5 is null then d.custom - $4"
	" else d.custom || jsonb_build_object($4, $5) end"
	LOCATED("$2, $3", "deal", "id")
	" offset 0) f offset 0) u where d.ctid = u.tid",
	5, {INT8OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID, TEXTOID}
};
static Statement move_deals = {
	"update regcrm.deal d set stage = $4"
	LOCATED("$2, $3", "deal", "id")
	" and f.stage is distinct from $4 offset 0) f offset 0) u where d.ctid = u.tid",
	4, {INT8OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, ARG_STAGE}
};

bool
effects_acting(void)
{
	return depth > 0;
}

/* An update of one column of deal, made when first needed. */
static Statement *
set_column(int column)
{
	static Statement statements[FIELD_COLUMNS];
	static const char *const types[] = {
		[FIELD_TEXT] = "text",[FIELD_DATE] = "date",
		[FIELD_MOMENT] = "timestamptz",[FIELD_FLAG] = "boolean"
	};
	Statement  *statement = &statements[column];

	if (statement->sql == NULL)
	{
		char	   *sql = psprintf("update regcrm.deal d set %s = $4::%s"
								   LOCATED("$2, $3", "deal", "id")
								   " offset 0) f offset 0) u where d.ctid = u.tid",
								   field_columns[column].name,
								   types[field_columns[column].type]);

		*statement = (Statement) {
			.nargs = 4,
			.args = {INT8OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TEXTOID},
		};
		statement->sql = MemoryContextStrdup(TopMemoryContext, sql);
	}
	return statement;
}

static Datum
text_or_null(const char *text, char *null)
{
	*null = text ? ' ' : 'n';
	return text ? CStringGetTextDatum(text) : (Datum) 0;
}

/* As statement_write(), for values that may be null. */
static void
write_with_nulls(Statement *statement, Datum *args, const char *nulls)
{
	int			result = SPI_execute_snapshot(statement_plan(statement), args, nulls,
											  GetLatestSnapshot(), InvalidSnapshot, false,
											  true, 0);

	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statement->sql, SPI_result_code_string(result));
}

static void
carry_out(int64 account_id, const Doing *doing)
{
	const Effect *effect = doing->effect;
	int			column;
	Datum		args[6] = {Int64GetDatum(account_id), bulk_array(&doing->deals),
	bulk_array(&doing->at)};
	char		nulls[] = "      ";

	switch (effect->what)
	{
		case EFFECT_ADD_TASK:
			args[3] = bulk_array(&doing->due_at);
			args[4] = text_or_null(effect->kind, &nulls[4]);
			args[5] = text_or_null(effect->body, &nulls[5]);
			write_with_nulls(&add_tasks, args, nulls);
			break;
		case EFFECT_COMPLETE_TASKS:
			args[3] = text_or_null(effect->kind, &nulls[3]);
			args[4] = text_or_null(effect->body, &nulls[4]);
			write_with_nulls(&complete_tasks, args, nulls);
			break;
		case EFFECT_SET_FIELD:
			column = field_column(effect->field);
			args[3] = text_or_null(column >= 0 ? effect->value : effect->field, &nulls[3]);
			args[4] = text_or_null(effect->value, &nulls[4]);
			write_with_nulls(column >= 0 ? set_column(column) : &set_custom, args, nulls);
			break;
		case EFFECT_MOVE:
			args[3] = StageGetDatum(effect->to);
			write_with_nulls(&move_deals, args, nulls);
			break;
	}
}

static void
refuse_endless(const char *code)
{
	StringInfoData chain;

	initStringInfo(&chain);
	for (int i = 0; i < depth; i++)
		appendStringInfo(&chain, "%s, ", acting[i]);
	/* our own statements, one within the other, would tell nobody anything */
	error_context_stack = NULL;
	ereport(ERROR,
			(errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
			 errmsg("effects of the regulation set each other off without end"),
			 errdetail("One after the other: %s%s.", chain.data, code),
			 errhint("Disable one of them in regcrm.effect, or add to its unless.")));
}

/* What an effect writes may set off others: depth tells how deep that goes. */
static void
carry_out_acting(int64 account_id, const Doing *doing)
{
	if (depth == MAX_DEPTH)
		refuse_endless(doing->effect->code);
	check_stack_depth();
	acting[depth++] = doing->effect->code;
	PG_TRY();
	{
		carry_out(account_id, doing);
	}
	PG_FINALLY();
	{
		depth--;
	}
	PG_END_TRY();
}


/* ---- which effects, for which deals ---- */

/* The triggers of a call: a move leaves and enters, a scenario is chosen. */
static int
triggers_of(const Account *account, const FactCall *call, EffectTrigger *triggers)
{
	const Regulation *regulation = account->regulation->compiled;
	EffectTrigger trigger = {.at = call->at,.event_id = call->event_id};
	int			n = 0;

	if (!call->moved)
	{
		trigger.event = EFFECT_ON_SCENARIO;
		trigger.scenario = regulation_scenario(account->regulation, call->scenario);
		if (trigger.scenario != NO_NUMBER)
			triggers[n++] = trigger;
		return n;
	}
	trigger.scenario = NO_NUMBER;
	trigger.from = call->from ? rules_stage(regulation, call->from) : STAGE_NONE;
	trigger.to = call->to ? rules_stage(regulation, call->to) : STAGE_UNKNOWN;
	if (trigger.from >= 0)
	{
		trigger.event = EFFECT_ON_LEAVE;
		triggers[n++] = trigger;
	}
	if (trigger.to >= 0)
	{
		trigger.event = EFFECT_ON_ENTER;
		triggers[n++] = trigger;
	}
	return n;
}

static bool
any_concern(const Account *account, const FactCall *call)
{
	EffectTrigger triggers[2];
	int			n = triggers_of(account, call, triggers);

	for (int i = 0; i < n; i++)
		if (effects_concern(account->regulation->effects, account->regulation->neffects,
							&triggers[i]))
			return true;
	return false;
}

/* Leaving comes before entering: each effect has one place for each event. */
static void
note_actions(const LoadedRegulation *regulation, Doing *doings, int64 deal_id,
			 const EffectAction *actions, int n)
{
	for (int i = 0; i < n; i++)
	{
		const EffectAction *action = &actions[i];
		int			place = (int) (action->effect - regulation->effects);
		Doing	   *doing;

		if (action->effect->event == EFFECT_ON_LEAVE)
			doing = &doings[place];
		else
			doing = &doings[regulation->neffects + place];
		doing->effect = action->effect;
		doing->deals.type = INT8OID;
		doing->at.type = doing->due_at.type = TIMESTAMPTZOID;
		bulk_add(&doing->deals, Int64GetDatum(deal_id), false);
		bulk_add(&doing->at, TimestampTzGetDatum(action->at), false);
		bulk_add_instant(&doing->due_at, action->due_at);
	}
}

/* Finds out what is to be done, by the facts as they stand now. */
static void
plan(const Account *account, const FactCall *calls, int n, const int64 *ids, int nids,
	 Doing *doings)
{
	const LoadedRegulation *regulation = account->regulation;
	EffectAction *actions = palloc((regulation->neffects + 1) * sizeof(EffectAction));
	Judge	   *judge = batch_judge_create(account);
	TimelineReader *reader = timeline_open(account, ids, nids, INSTANT_NEVER, 0);
	const DealLine *deal;
	int			from = 0;

	while ((deal = timeline_next(reader)) != NULL)
	{
		EffectState *state = effects_state(judge, regulation->compiled, &deal->line);

		while (from < n && calls[from].deal_id < deal->line.deal_id)
			from++;
		for (int i = from; i < n && calls[i].deal_id == deal->line.deal_id; i++)
		{
			EffectTrigger triggers[2];
			int			ntriggers = triggers_of(account, &calls[i], triggers);

			for (int k = 0; k < ntriggers; k++)
				note_actions(regulation, doings, deal->line.deal_id, actions,
							 effects_plan(regulation->effects, regulation->neffects, state,
										  &triggers[k], timeline_field, reader, actions));
		}
	}
	timeline_close(reader);
}

void
effects_run(const Account *account, const FactCall *calls, int n)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "regcrm effects",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int64	   *ids = palloc((n + 1) * sizeof(int64));
	int			neffects = account->regulation->neffects;
	Doing	   *doings;
	int			nids = 0;

	for (int i = 0; i < n; i++)
		if ((nids == 0 || ids[nids - 1] != calls[i].deal_id) && any_concern(account, &calls[i]))
			ids[nids++] = calls[i].deal_id;
	if (nids > 0)
	{
		doings = palloc0(2 * neffects * sizeof(Doing));
		CommandCounterIncrement();
		PushActiveSnapshot(GetLatestSnapshot());
		plan(account, calls, n, ids, nids, doings);
		PopActiveSnapshot();
		for (int i = 0; i < 2 * neffects; i++)
			if (doings[i].effect != NULL)
				carry_out_acting(account->id, &doings[i]);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
