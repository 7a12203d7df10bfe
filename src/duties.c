/*-------------------------------------------------------------------------
 *
 * duties.c
 *	  Duties live, and end (part of the judge, pure).
 *
 * A duty that is not closed yet is live and points at its finding; closing it
 * fills in how it ended.  Nothing waits for a due moment to come: whether an
 * answer was in time is seen when it arrives, and what is still live at the
 * end was missed or is pending.
 *
 * Live duties are chained by rule, and rules that have some are listed by what
 * closes these (BUSY_...), with all atoms that any of them looks at: so a fact
 * that none of them looks at is passed over at once, however many there are.
 * The lists are tidied by who walks over them: holding.c, answering.c.
 *
 *-------------------------------------------------------------------------
 */
#include "judge_int.h"

void
duty_lives(Judge *j, const Rule *rule, int finding, int visit, instant due, Look look)
{
	RuleState  *state = state_of(j, rule);
	int			number = j->free_live - 1;
	Live	   *live;

	if (number >= 0)
		j->free_live = j->live[number].next;
	else
	{
		j->live = judge_room(j, j->live, &j->room_live, j->nlive + 1, sizeof(Live));
		number = j->nlive++;
	}
	live = &j->live[number];
	live->next = state->chain;
	live->finding = finding;
	live->visit = visit;
	live->arose_seq = j->seq;
	live->due = due;
	live->left = false;
	live->look = look;
	state->chain = number + 1;
	if (!state->busy)
	{
		Busy	   *busy = &j->busy[busy_list(rule)];

		state->busy = true;
		busy->rules[busy->n++] = rule;
		atoms_join(&busy->watch, &rule->looks);
	}
}


/* ---- closing ---- */

/*
 * A chain is walked by its links: *link is the number of a live duty + 1, 0 at
 * the end.  What closes a duty takes it out, and link then leads to the next.
 */
static void
drop(Judge *j, const Rule *rule, int *link)
{
	int			number = *link - 1;
	Live	   *live = &j->live[number];
	RuleState  *state = state_of(j, rule);

	if (rule->form == FORM_WITHIN && state->open_visit == live->visit + 1)
		state->open_visit = 0;
	*link = live->next;
	live->next = j->free_live;
	j->free_live = number + 1;
}

/* When the duty was breached: it says so itself where it had no time at all. */
static void
set_breached(Finding *f, instant due)
{
	if (f->breached_at == INSTANT_NEVER)
		f->breached_at = due;
}

/* What was expected has come: in time, or as the cure of a breach. */
void
duty_met(Judge *j, const Rule *rule, int *link, int fact)
{
	const Live *live = &j->live[*link - 1];
	Finding    *f = &j->findings[live->finding];

	if (rule->form == FORM_LEAVE && j->now > live->due)
		finding_of_the_moment(f, live->due);
	else
	{
		f->met_at = f->ended_at = j->now;
		if (fact >= 0)
		{
			f->answer_kind = j->line->facts[fact].kind;
			f->answer_id = j->line->facts[fact].id;
		}
		if (j->now <= live->due)
			f->state = STATE_MET;
		else
		{
			f->state = STATE_LATE;
			set_breached(f, live->due);
			f->resolved_at = j->now;
			f->resolution = RESOLUTION_MET;
		}
	}
	drop(j, rule, link);
}

/* The deal left, was deleted, or what the duty hung on is gone. */
void
duty_left(Judge *j, const Rule *rule, int *link)
{
	const Live *live = &j->live[*link - 1];
	Finding    *f = &j->findings[live->finding];

	if (rule->form == FORM_LEAVE && j->now > live->due)
		finding_of_the_moment(f, live->due);
	else
	{
		f->ended_at = j->now;
		if (j->now <= live->due)
			f->state = STATE_CANCELLED;
		else
		{
			f->state = STATE_MISSED;
			set_breached(f, live->due);
			f->resolved_at = j->now;
			f->resolution = RESOLUTION_LEFT;
		}
	}
	drop(j, rule, link);
}

/*
 * What the end of its visit does to a duty.  One of scope deal, or one that
 * expects a move, is not resolved by leaving, only by its answer (DESIGN
 * section 5).  Says whether it was closed.
 */
static bool
end_with_visit(Judge *j, const Rule *rule, int *link)
{
	Live	   *live = &j->live[*link - 1];
	bool		goes_on = rule->scope == SCOPE_DEAL || rule->expects_move;

	if (goes_on && (rule->form == FORM_WITHIN || j->now > live->due))
	{
		live->left = true;
		return false;
	}
	duty_left(j, rule, link);
	return true;
}

/* The visit is over: what arose in it ends, or goes on without it. */
void
duties_end_visit(Judge *j, int visit)
{
	holding_gaps_left(j, visit);
	for (int b = BUSY_HOLDING; b <= BUSY_ANSWERING; b++)
		for (int i = 0; i < j->busy[b].n; i++)
		{
			const Rule *rule = j->busy[b].rules[i];
			int		   *link = &state_of(j, rule)->chain;

			if (rule->form == FORM_LEAVE)
				continue;
			while (*link != 0 && j->live[*link - 1].visit == visit)
				if (!end_with_visit(j, rule, link))
					link = &j->live[*link - 1].next;
		}
}


/* ---- the end of what is known ---- */

/* How a duty stands that nothing has closed. */
static void
finish(Judge *j, const Rule *rule, const Live *live, instant end)
{
	Finding    *f = &j->findings[live->finding];

	if (live->due > end)
		f->state = f->warn_at <= end ? STATE_WARNED : STATE_PENDING;
	else if (rule->form == FORM_LEAVE)
		finding_of_the_moment(f, live->due);
	else
	{
		f->state = STATE_MISSED;
		set_breached(f, live->due);
	}
}

void
duties_finish(Judge *j, instant end, bool deleted)
{
	j->now = end;
	for (int b = 0; b < NBUSY; b++)
		for (int i = 0; i < j->busy[b].n; i++)
		{
			const Rule *rule = j->busy[b].rules[i];
			int		   *link = &state_of(j, rule)->chain;

			while (*link != 0)
			{
				if (deleted)
				{
					duty_left(j, rule, link);
					continue;
				}
				finish(j, rule, &j->live[*link - 1], end);
				link = &j->live[*link - 1].next;
			}
		}
}
