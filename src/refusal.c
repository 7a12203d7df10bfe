/*-------------------------------------------------------------------------
 *
 * refusal.c
 *	  Breaches for which the gate refuses a transaction, and how it says so.
 *
 * What counts (DESIGN section 4, Gate): a breach of a rule with action reject
 * that is new.  Tolerances of enter and leave and the grace of always do not
 * count for SQL writers: what such a rule expects must hold at the commit, so
 * a duty of theirs that is still unmet counts as broken.  The grace of never
 * stays, and so does undo_window: there the judge finds nothing.
 *
 * What is said: one error with one line for each rule, what is missing by the
 * rule's own tokens, and the cheapest of the alternatives as the hint: a field
 * is cheaper than a comment, a comment than a task, a task than a call.
 *
 * Only what the writer wrote himself is named: the deal, its stages, and what
 * the rules say; never what a row holds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"

#include "fields.h"
#include "refusal.h"
#include "stage.h"
#include "tables.h"

/* Deals that an error names; the others are counted. */
#define NAMED_DEALS		3

RuleForm
refusal_form(const Refusal *refusal)
{
	return refusal->regulation->compiled->rules[refusal->rule].form;
}

static const RuleInfo *
info_of(const Refusal *refusal)
{
	return regulation_rule(refusal->regulation, refusal->rule);
}


/* ---- which findings count ---- */

static bool
is_broken(const Rule *rule, const Finding *finding)
{
	if (finding->breached_at != INSTANT_NEVER)
		return true;
	return (rule->form == FORM_ENTER || rule->form == FORM_LEAVE || rule->form == FORM_ALWAYS) &&
		(finding->state == STATE_PENDING || finding->state == STATE_WARNED);
}

/* The move of that instant that led into the stage, if one did. */
static const Fact *
move_into(const Timeline *line, instant at, int stage)
{
	for (int i = 0; i < line->nfacts && line->facts[i].at <= at; i++)
		if (line->facts[i].at == at && line->facts[i].kind == FACT_MOVE &&
			line->facts[i].u.move.to == stage)
			return &line->facts[i];
	return NULL;
}

static Refusal *
add_refusal(Refusals *refusals)
{
	if (refusals->n == refusals->room)
	{
		refusals->room = refusals->room ? refusals->room * 2 : 16;
		refusals->items = refusals->items ?
			repalloc_huge(refusals->items, refusals->room * sizeof(Refusal)) :
			MemoryContextAlloc(refusals->context, refusals->room * sizeof(Refusal));
	}
	return &refusals->items[refusals->n++];
}

void
refusals_collect(Refusals *refusals, const Account *account, const Timeline *line,
				 const Finding *findings, int n, const Ledger *ledger, bool flow_only)
{
	const Regulation *regulation = account->regulation->compiled;

	for (int i = 0; i < n; i++)
	{
		const Finding *finding = &findings[i];
		const Rule *rule = &regulation->rules[finding->rule];
		const Fact *move;
		Refusal    *refusal;

		if (!rule->reject || !is_broken(rule, finding) ||
			(flow_only && rule->form != FORM_FLOW) || !ledger_is_new(ledger, finding))
			continue;
		refusal = add_refusal(refusals);
		*refusal = (Refusal) {
			.account_id = line->account_id,
			.deal_id = line->deal_id,
			.regulation = account->regulation,
			.rule = finding->rule,
			.arose_at = finding->arose_at,
			.stage = finding->stage,
			.from = finding->from_stage,
			.to = finding->to_stage,
			.moved = finding->to_stage != STAGE_NONE,
		};
		if (refusal->moved)
			continue;
		/* a gap of long ago is no news of the move that it began with */
		move = finding->arose_at < GetCurrentTransactionStartTimestamp() ? NULL :
			move_into(line, finding->arose_at, finding->stage);
		if (move != NULL)
		{
			refusal->moved = true;
			refusal->from = move->u.move.from;
			refusal->to = move->u.move.to;
		}
	}
}


/* ---- what is missing ---- */

/* What a token asks for, and what to do for it. */
typedef struct Wording
{
	const char *token;			/* ending in ':' = one with an argument, %s below */
	int			price;			/* of several, the cheapest is advised */
	const char *missing;
	const char *advice;
} Wording;

static const Wording wordings[] = {
	{"field:", 1, "a value in \"%s\"", "Set \"%s\" of the deal."},
	{"ahead:", 1, "a moment to come in \"%s\"", "Set \"%s\" of the deal to a moment to come."},
	{"passed:", 6, "a moment gone by in \"%s\"", "Wait until the moment in \"%s\" has come."},
	{"comment", 2, "a comment", "Insert an event of kind comment."},
	{"comment_where_required", 2, "a comment, which this move requires",
	"Insert an event of kind comment."},
	{"task", 3, "an open task", "Add a task to the deal."},
	{"task:", 3, "an open task of kind %s", "Add a task of kind %s to the deal."},
	{"task_added", 3, "a new task", "Add a task to the deal."},
	{"task_added:", 3, "a new task of kind %s", "Add a task of kind %s to the deal."},
	{"task_done:", 3, "a completed task of kind %s", "Complete a task of kind %s."},
	{"no_task", 3, "that no task is open", "Complete the deal's open tasks."},
	{"scenario", 4, "a scenario",
	"Call regcrm.choose_scenario(), or insert an event of kind scenario."},
	{"scenario:", 4, "the scenario %s",
	"Call regcrm.choose_scenario() with %s, or insert an event of kind scenario."},
	{"scenario_matches", 4, "a scenario that agrees with the calls",
	"Choose the scenario that the last call calls for."},
	{"message_by_hand", 4, "a message written by hand",
	"Write to the client and insert an event of kind message_out."},
	{"message_out", 4, "a message to the client",
	"Write to the client and insert an event of kind message_out."},
	{"touch", 5, "a call or a message to the client",
	"Call or write to the client and insert the event."},
	{"call_out", 5, "a call to the client", "Call the client and insert the event."},
	{"talk", 5, "a talk with the client", "Call the client and insert the event."},
	{"contact", 5, "contact with the client",
	"Insert the event by which the client was reached: an answered call, an incoming message or a visit."},
	{"client_request", 5, "a request of the client",
	"Only the client's own call, message, request or visit allows it: insert that event."},
	{"unreached", 5, "a missed call with no contact since",
	"Insert the call that was not answered (kind call_out, answered false)."},
	{"visited:", 6, "an earlier stay in stage \"%s\"", "Move the deal to \"%s\" first."},
	{"stage", 1, "a stage that the regulation knows", "Set \"stage\" of the deal."},
};

static const Wording *
find_wording(const char *token, const char **argument)
{
	for (int i = 0; i < lengthof(wordings); i++)
	{
		size_t		len = strlen(wordings[i].token);

		*argument = "";
		if (strcmp(token, wordings[i].token) == 0)
			return &wordings[i];
		*argument = token + len;
		if (wordings[i].token[len - 1] == ':' && strncmp(token, wordings[i].token, len) == 0)
			return &wordings[i];
	}
	return NULL;
}

/* psprintf() with a format of our own table, which has one %s or none. */
static char *
fill(const char *pattern, const char *argument)
{
	const char *place = strstr(pattern, "%s");

	if (place == NULL)
		return pstrdup(pattern);
	return psprintf("%.*s%s%s", (int) (place - pattern), pattern, argument, place + 2);
}

static char *
stage_name(const Refusal *refusal, int stage)
{
	return stage >= 0 ? stage_text(refusal->regulation->compiled->stages[stage]) :
		pstrdup("unknown");
}

/* "touch" of a rule never, in words. */
static char *
what_happened(const Refusal *refusal)
{
	const char *event = info_of(refusal)->event;

	return psprintf("\"%s\" is not allowed in stage \"%s\"", event ? event : "",
					stage_name(refusal, refusal->stage));
}

char *
refusal_missing(const Refusal *refusal)
{
	const RuleInfo *info = info_of(refusal);
	StringInfoData out;

	initStringInfo(&out);
	switch (refusal_form(refusal))
	{
		case FORM_FLOW:
			if (refusal->from >= 0)
				appendStringInfo(&out, "no move leads from \"%s\" to \"%s\"",
								 stage_name(refusal, refusal->from),
								 stage_name(refusal, refusal->to));
			else
				appendStringInfo(&out, "no deal begins in \"%s\"",
								 stage_name(refusal, refusal->to));
			return out.data;
		case FORM_NEVER:
			return what_happened(refusal);
		case FORM_ATTEST:
			return pstrdup("the verdict is fail");
		default:
			break;
	}
	appendStringInfoString(&out, "missing is ");
	for (int i = 0; i < info->nexpect; i++)
	{
		const char *argument;
		const Wording *wording = find_wording(info->expect[i], &argument);

		if (i > 0)
			appendStringInfoString(&out, i < info->nexpect - 1 ? ", " : " or ");
		if (wording != NULL)
			appendStringInfoString(&out, fill(wording->missing, argument));
		else
			appendStringInfo(&out, "\"%s\"", info->expect[i]);
	}
	return out.data;
}


/* ---- what to do ---- */

/* Where a deal may go instead. */
static char *
advise_move(const Refusal *refusal)
{
	const Regulation *regulation = refusal->regulation->compiled;
	int			from = refusal->from >= 0 ? refusal->from : NO_NUMBER;
	StringInfoData targets;

	initStringInfo(&targets);
	for (int i = 0; i < regulation->nstages; i++)
		if (i != from && rules_transition(regulation, from, i, refusal->arose_at) != NULL)
			appendStringInfo(&targets, "%s\"%s\"", targets.len > 0 ? ", " : "",
							 stage_text(regulation->stages[i]));
	if (from == NO_NUMBER)
		return targets.len > 0 ? psprintf("A deal begins in %s.", targets.data) :
			pstrdup("The regulation names no stage to begin in.");
	if (targets.len == 0)
		return psprintf("Nothing leads out of \"%s\".", stage_name(refusal, from));
	return psprintf("From \"%s\" a deal may go to %s.", stage_name(refusal, from), targets.data);
}

char *
refusal_advice(const Refusal *refusal)
{
	const RuleInfo *info = info_of(refusal);
	const Wording *cheapest = NULL;
	const char *cheapest_argument = NULL;

	switch (refusal_form(refusal))
	{
		case FORM_FLOW:
			return advise_move(refusal);
		case FORM_NEVER:
			return pstrdup("Leave it out, or move the deal first.");
		case FORM_ATTEST:
			return pstrdup("Insert a verdict \"pass\" once it is put right.");
		default:
			break;
	}
	for (int i = 0; i < info->nexpect; i++)
	{
		const char *argument;
		const Wording *wording = find_wording(info->expect[i], &argument);

		if (wording != NULL && (cheapest == NULL || wording->price < cheapest->price))
		{
			cheapest = wording;
			cheapest_argument = argument;
		}
	}
	if (cheapest == NULL)
		return psprintf("See rule %s in regcrm.regulation_text.", info->code);
	return fill(cheapest->advice, cheapest_argument);
}


/* ---- the error ---- */

/* The first of a deal's refusals tells it: a move, if one was made. */
static char *
headline(const Refusal *refusal)
{
	if (refusal->moved)
		return psprintf("deal " INT64_FORMAT " may not enter stage \"%s\"",
						refusal->deal_id, stage_name(refusal, refusal->to));
	if (refusal_form(refusal) == FORM_ALWAYS && refusal->stage >= 0 &&
		refusal->arose_at >= GetCurrentTransactionStartTimestamp())
		return psprintf("deal " INT64_FORMAT " may not stay like this in stage \"%s\"",
						refusal->deal_id, stage_name(refusal, refusal->stage));
	if (refusal->stage < 0)
		return psprintf("deal " INT64_FORMAT " breaks the regulation", refusal->deal_id);
	return psprintf("deal " INT64_FORMAT " breaks the regulation in stage \"%s\"",
					refusal->deal_id, stage_name(refusal, refusal->stage));
}

/* Adds a sentence, unless it is there. */
static void
add_sentence(StringInfo out, const char *sentence)
{
	if (strstr(out->data, sentence) != NULL)
		return;
	if (out->len > 0)
		appendStringInfoChar(out, ' ');
	appendStringInfoString(out, sentence);
}

/* The column that the first rule is about, or NULL. */
static const char *
column_of(const Refusal *refusal)
{
	const RuleInfo *info = info_of(refusal);
	RuleForm	form = refusal_form(refusal);

	if (form == FORM_FLOW)
		return "stage";
	if (form != FORM_NEVER && form != FORM_ATTEST && info->nexpect == 1 &&
		strncmp(info->expect[0], "field:", 6) == 0 && field_column(info->expect[0] + 6) >= 0)
		return info->expect[0] + 6;
	return NULL;
}

static bool
same_deal(const Refusal *a, const Refusal *b)
{
	return a->account_id == b->account_id && a->deal_id == b->deal_id;
}

/* Where the deals' own headline stands among its refusals. */
static const Refusal *
headline_of(const Refusals *refusals, int first)
{
	const Refusal *chosen = &refusals->items[first];

	for (int i = first; i < refusals->n && same_deal(&refusals->items[i], chosen); i++)
		if (refusals->items[i].moved)
			return &refusals->items[i];
	return chosen;
}

void
refusals_raise(const Refusals *refusals)
{
	StringInfoData message;
	StringInfoData detail;
	StringInfoData hint;
	const char *column;
	int			deals = 0;

	if (refusals->n == 0)
		return;
	initStringInfo(&message);
	initStringInfo(&detail);
	initStringInfo(&hint);
	for (int i = 0; i < refusals->n; i++)
	{
		const Refusal *refusal = &refusals->items[i];
		bool		first_of_deal = i == 0 || !same_deal(refusal, refusal - 1);

		deals += first_of_deal;
		if (deals > NAMED_DEALS)
			continue;
		if (first_of_deal && deals == 1)
			appendStringInfoString(&message, headline(headline_of(refusals, i)));
		else if (first_of_deal)
			appendStringInfo(&detail, "\n%s:", headline(headline_of(refusals, i)));
		appendStringInfo(&detail, "%s%s (%s): %s.", detail.len > 0 ? "\n" : "",
						 info_of(refusal)->code, info_of(refusal)->title,
						 refusal_missing(refusal));
		if (deals == 1)
			add_sentence(&hint, refusal_advice(refusal));
	}
	if (deals > NAMED_DEALS)
		appendStringInfo(&detail, "\n%d more deals are refused.", deals - NAMED_DEALS);
	column = column_of(&refusals->items[0]);
	ereport(ERROR,
			(errcode(ERRCODE_CHECK_VIOLATION),
			 errmsg_internal("%s", message.data),
			 errdetail_internal("%s", detail.data),
			 errhint("%s", hint.data),
			 err_generic_string(PG_DIAG_SCHEMA_NAME, REGCRM_SCHEMA),
			 err_generic_string(PG_DIAG_TABLE_NAME, "deal"),
			 column ? err_generic_string(PG_DIAG_COLUMN_NAME, column) : 0,
			 err_generic_string(PG_DIAG_CONSTRAINT_NAME, info_of(&refusals->items[0])->code)));
}
