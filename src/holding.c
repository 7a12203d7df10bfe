/*-------------------------------------------------------------------------
 *
 * holding.c
 *	  What must hold: forms flow, enter, leave and always (part of the judge, pure).
 *
 * The forms are those of DESIGN section 4; each function names its own.
 *
 *-------------------------------------------------------------------------
 */
#include "judge_int.h"


/* ---- forms enter and leave: what must hold at a move ---- */

static void
arise_at_move(Judge *j, const Rule *rule, const Move *move, int visit, const Look *look)
{
	bool		tolerance = rule->has_within && rule->within > 0;
	bool		fine;
	instant		due;
	Finding    *f;

	if (!in_force(rule, j->now) || !can_be_seen(j, rule) ||
		any_holds(j, rule->unless, rule->nunless, look))
		return;
	fine = any_holds(j, rule->expect, rule->nexpect, look);
	if (fine && !tolerance)
		return;
	f = finding_new(j, rule, j->visits[visit].stage, move->fact);
	f->from_stage = (int16_t) move->from;
	f->to_stage = (int16_t) move->to;
	/* a tolerance of nothing is over at once: due lies before any cure */
	due = j->now - 1;
	if (tolerance)
	{
		f->due_at = due = after(j, rule, j->now, rule->within);
		duty_warns(j, rule, f);
	}
	if (fine)
	{
		f->state = STATE_MET;
		f->met_at = f->ended_at = j->now;
	}
	else if (rule->form == FORM_LEAVE && !tolerance)
		finding_of_the_moment(f, j->now);
	else
	{
		if (!tolerance)
			f->breached_at = j->now;
		duty_lives(j, rule, j->nfindings - 1, visit, due, *look);
	}
}

/*
 * What users not bound by the regulation do breaks nothing, and a move that
 * nobody observed is not judged.
 */
void
holding_enter(Judge *j, const Move *move, int visit)
{
	const StageRules *rules = j->here;
	Look		look = {
		.visit = visit > 0 ? visit - 1 : visit,
		.subject = visit,
		.comment_required = move->comment_required,
	};

	if (!move->observed || !move->binds)
		return;
	for (int i = 0; i < rules->nenter; i++)
	{
		const Rule *rule = rules->enter[i];

		if (rule->nth != NO_NUMBER && j->visits[visit].ordinal != rule->nth)
			continue;
		look.deal = rule->scope == SCOPE_DEAL;
		arise_at_move(j, rule, move, visit, &look);
	}
}

/* The move ends the visit. */
void
holding_leave(Judge *j, const Move *move, int visit)
{
	const StageRules *rules = j->here;
	Look		look = {
		.visit = visit,
		.subject = visit,
		.before = true,
		.comment_required = move->comment_required,
	};

	if (!move->observed || !move->binds)
		return;
	for (int i = 0; i < rules->nleave; i++)
	{
		const Rule *rule = rules->leave[i];

		look.deal = rule->scope == SCOPE_DEAL;
		arise_at_move(j, rule, move, visit, &look);
	}
}

/* Live duties of a rule of enter or leave, when what they look at has changed. */
static void
recheck(Judge *j, const Rule *rule, RuleState *state)
{
	int		   *link = &state->chain;

	/* a deal of many moves may have many that nothing has cured */
	if (rule->alike && *link != 0 &&
		!any_holds(j, rule->expect, rule->nexpect, &j->live[*link - 1].look))
		return;
	while (*link != 0)
	{
		Live	   *live = &j->live[*link - 1];

		if (rule->form == FORM_LEAVE && j->now > live->due)
			duty_left(j, rule, link);
		else if (any_holds(j, rule->expect, rule->nexpect, &live->look))
			duty_met(j, rule, link, happen_find(j, &rule->watch));
		else
			link = &live->next;
	}
}

void
holding_recheck(Judge *j, const AtomSet *happened)
{
	Busy	   *busy = &j->busy[BUSY_HOLDING];

	if (!atoms_meet(&busy->watch, happened))
		return;
	atoms_clear(&busy->watch);
	for (int i = busy->n - 1; i >= 0; i--)
	{
		const Rule *rule = busy->rules[i];
		RuleState  *state = state_of(j, rule);

		if (atoms_meet(&rule->watch, happened))
			recheck(j, rule, state);
		if (state->chain != 0)
			atoms_join(&busy->watch, &rule->watch);
		else
		{
			state->busy = false;
			busy->rules[i] = busy->rules[--busy->n];
		}
	}
}


/* ---- form flow ---- */

/* A move must be one of the regulation's transitions. */
void
holding_flow(Judge *j, const Move *move)
{
	if (!move->illegal || !move->binds)
		return;
	for (int i = 0; i < j->reg->nflow; i++)
	{
		const Rule *rule = j->reg->flow[i];
		Look		look = {
			.deal = rule->scope == SCOPE_DEAL,
			.visit = j->nvisits > 1 ? j->nvisits - 2 : 0,
			.subject = j->nvisits - 1,
			.comment_required = false,
		};
		Finding    *f;

		if ((rule->stage != NO_NUMBER && rule->stage != move->to) ||
			!in_force(rule, j->now) ||
			any_holds(j, rule->unless, rule->nunless, &look))
			continue;
		f = finding_new(j, rule, move->to, move->fact);
		f->from_stage = (int16_t) move->from;
		f->to_stage = (int16_t) move->to;
		finding_of_the_moment(f, j->now);
	}
}


/* ---- form always: what must hold all the time ---- */

static void
begin_gap(Judge *j, const Rule *rule, int visit, const Look *look)
{
	bool		grace = rule->has_within && rule->within > 0;
	instant		due = j->now - 1;
	Finding    *f;

	if (!in_force(rule, j->now) || !can_be_seen(j, rule))
		return;
	f = finding_new(j, rule, j->visits[visit].stage, -1);
	if (grace)
	{
		f->due_at = due = after(j, rule, j->now, rule->within);
		duty_warns(j, rule, f);
	}
	else
		f->breached_at = j->now;
	duty_lives(j, rule, j->nfindings - 1, visit, due, *look);
}

/* The gap is over; met where what is expected has come, else it does not run. */
static void
end_gap(Judge *j, const Rule *rule, bool met)
{
	int		   *link = &state_of(j, rule)->chain;

	while (*link != 0)
		if (met || j->now > j->live[*link - 1].due)
			duty_met(j, rule, link, happen_find(j, &rule->watch));
		else
			duty_left(j, rule, link);
}

/* Looks at what a rule asks of the present visit, when something has changed. */
static void
look_at(Judge *j, const Rule *rule, int visit)
{
	bool	   *gap = &state_of(j, rule)->gap;
	Look		look = look_of_visit(j, rule, visit);
	bool		met = any_holds(j, rule->expect, rule->nexpect, &look);
	bool		fine = met || any_holds(j, rule->unless, rule->nunless, &look);

	if (fine == !*gap)
		return;
	*gap = !fine;
	if (fine)
		end_gap(j, rule, met);
	else
		begin_gap(j, rule, visit, &look);
}

void
holding_always(Judge *j, const AtomSet *happened, bool moved)
{
	const StageRules *rules = j->here;

	if (!moved && !atoms_meet(&rules->always_watch, happened))
		return;
	for (int i = 0; i < rules->nalways; i++)
		if (moved || atoms_meet(&rules->always[i]->watch, happened))
			look_at(j, rules->always[i], j->nvisits - 1);
}

/* The visit is over: its gaps end, met where that comes in the same second. */
void
holding_gaps_left(Judge *j, int visit)
{
	const StageRules *rules = j->here;

	for (int i = 0; i < rules->nalways; i++)
	{
		const Rule *rule = rules->always[i];
		RuleState  *state = state_of(j, rule);
		Look		look;

		/* a rule of any stage goes on through the move */
		if (!state->gap || rule->stage == NO_NUMBER)
			continue;
		look = look_of_visit(j, rule, visit);
		if (any_holds(j, rule->expect, rule->nexpect, &look))
			end_gap(j, rule, true);
		else
			while (state->chain != 0)
				duty_left(j, rule, &state->chain);
		state->gap = false;
	}
}
