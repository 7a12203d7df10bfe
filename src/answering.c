/*-------------------------------------------------------------------------
 *
 * answering.c
 *	  What happens: forms within, never and attest (part of the judge, pure).
 *
 * An event sets a duty in motion, answers it, or must not happen.  The forms
 * are those of DESIGN section 4; each function names its own.
 *
 *-------------------------------------------------------------------------
 */
#include "judge_int.h"

/* How often the event of a rule with nth had happened in the visit before this instant. */
static int
times_before(const Judge *j, const Rule *rule, int visit)
{
	int			counter = j->counter_of[rule->event];
	int			before = counted_before(j, counter) - j->bases[visit * j->ncounted + counter];

	return before < 0 ? 0 : before;
}

/* Whether the nth time is among those of this instant. */
static bool
is_nth(const Judge *j, const Rule *rule, int visit)
{
	int			counter;

	if (rule->nth == NO_NUMBER)
		return true;
	if (rule->event == ATOM_ENTER)
		return j->visits[visit].ordinal == rule->nth;
	counter = j->counter_of[rule->event];
	return times_before(j, rule, visit) < rule->nth &&
		j->count[counter] - j->bases[visit * j->ncounted + counter] >= rule->nth;
}


/* ---- form within: what answers an event ---- */

static void
arise(Judge *j, const Rule *rule, int visit, int fact, int64_t task_id, instant due,
	  const Happened *happened)
{
	const AtomSet *seen = rule->scope == SCOPE_DEAL ? &j->everything : &happened->all;
	Finding    *f = finding_new(j, rule, j->visits[visit].stage, fact);
	Look		nothing = {0};	/* its answers are events */

	f->task_id = task_id;
	f->due_at = due;
	duty_warns(j, rule, f);

	/*
	 * Simultaneous answers count, but for those of the trigger's own token; a
	 * duty of scope deal takes them whatever visit they belong to.
	 */
	duty_lives(j, rule, j->nfindings - 1, visit, due, nothing);
	if (atoms_meet(&rule->other_answers, seen))
		duty_met(j, rule, &state_of(j, rule)->chain, happen_find(j, &rule->other_answers));
	else if (!rule->by_task_due)
		state_of(j, rule)->open_visit = visit + 1;
}

/* Does a fact of this instant belong to the visit?  See judge_int.h. */
static bool
belongs(const Judge *j, const Fact *fact, int visit)
{
	if (fact->kind == FACT_TASK_ADDED)
		return j->new_applied;
	return j->visits[visit].old_from <= j->seq;
}

/*
 * Which fact of this instant is the nth one of the rule's event: moves come
 * after everything else.  -1 where none is (a moment that came).
 */
static int
nth_fact(const Judge *j, const Rule *rule, int visit)
{
	int			n = times_before(j, rule, visit);

	for (int moves = 0; moves < 2; moves++)
		for (int i = j->first_fact; i < j->next_fact; i++)
		{
			const Fact *fact = &j->line->facts[i];

			if ((fact->kind == FACT_MOVE) == moves &&
				atoms_has(&j->fact_atoms[i - j->first_fact], rule->event) &&
				belongs(j, fact, visit) && ++n == rule->nth)
				return i;
		}
	return -1;
}

/* A duty for each task that this instant brought. */
static void
arise_for_tasks(Judge *j, const Rule *rule, int visit, const Happened *happened)
{
	bool		one_without_task = false;
	int			nth = rule->nth == NO_NUMBER ? -1 : nth_fact(j, rule, visit);

	for (int i = j->first_fact; i < j->next_fact; i++)
	{
		const Fact *fact = &j->line->facts[i];
		instant		due;

		if (!atoms_has(&j->fact_atoms[i - j->first_fact], rule->event) ||
			!belongs(j, fact, visit))
			continue;
		if (rule->nth != NO_NUMBER && i != nth)
			continue;
		if (fact->kind != FACT_TASK_ADDED && fact->kind != FACT_TASK_DONE)
		{
			if (!one_without_task)
				arise(j, rule, visit, i, NO_TASK, after(j, rule, j->now, rule->within),
					  happened);
			one_without_task = true;
			continue;
		}
		if (rule->by_task_due)
		{
			/* a due moment not after the task's creation makes no duty */
			if (fact->u.task.due_at <= j->now)
				continue;
			due = after(j, rule, fact->u.task.due_at, rule->within);
		}
		else
			due = after(j, rule, j->now, rule->within);
		arise(j, rule, visit, i, fact->id, due, happened);
	}
}

/* Does the field hold a moment that is still to come? */
static bool
to_come(const Judge *j, const Field *field)
{
	return field->holds && field->moment != INSTANT_NEVER && field->moment > j->now;
}

/* A duty due by the moment still to come that a field holds. */
static void
arise_by_field(Judge *j, const Rule *rule, int visit, const Happened *happened)
{
	state_of(j, rule)->armed_visit = 0;
	arise(j, rule, visit, happen_find(j, &rule->trigger), NO_TASK,
		  after(j, rule, j->fields[rule->by_field].moment, rule->within), happened);
}

static void
trigger_within(Judge *j, const Rule *rule, int visit, const Happened *happened)
{
	RuleState  *state = state_of(j, rule);
	bool		triggered,
				rearmed;
	Look		look;

	if (rule->plain)
	{
		if (state->open_visit != visit + 1 && in_force(rule, j->now) && can_be_seen(j, rule))
			arise(j, rule, visit, happen_find(j, &rule->trigger), NO_TASK,
				  after(j, rule, j->now, rule->within), happened);
		return;
	}
	triggered = atoms_has(&happened->all, rule->event) && is_nth(j, rule, visit);
	rearmed = state->armed_visit == visit + 1 &&
		atoms_has(&happened->all, rule->by_changed);
	if (!triggered && !rearmed)
		return;
	/* while a duty is unmet in a visit, a new trigger makes no second one */
	if (state->open_visit == visit + 1)
		return;
	if (rule->by_field != NO_NUMBER && !to_come(j, &j->fields[rule->by_field]))
	{
		state->armed_visit = visit + 1; /* until the field holds a moment to come */
		return;
	}
	look = look_of_visit(j, rule, visit);
	if (!in_force(rule, j->now) || !can_be_seen(j, rule) ||
		any_holds(j, rule->unless, rule->nunless, &look))
		return;
	if (rule->by_field != NO_NUMBER)
		arise_by_field(j, rule, visit, happened);
	else if (rule->each_task)
		arise_for_tasks(j, rule, visit, happened);
	else
		arise(j, rule, visit, happen_find(j, &rule->trigger), NO_TASK,
			  after(j, rule, j->now, rule->within), happened);
}

/*
 * A moment moved moves the duty that is due by it; one emptied or past ends it.
 * Returns the link to the next duty.
 */
static int *
move_due(Judge *j, const Rule *rule, int *link)
{
	Live	   *live = &j->live[*link - 1];
	const Field *field = &j->fields[rule->by_field];
	Finding    *f = &j->findings[live->finding];

	if (j->now > live->due)
		return &live->next;		/* breached by then: that stands */
	if (to_come(j, field))
	{
		live->due = f->due_at = after(j, rule, field->moment, rule->within);
		duty_warns(j, rule, f);
		return &live->next;
	}
	if (!live->left)
		state_of(j, rule)->armed_visit = live->visit + 1;
	duty_left(j, rule, link);
	return link;
}

/* What happened answers live duties of a rule, or moves them. */
static void
answer(Judge *j, const Rule *rule, RuleState *state, const AtomSet *happened)
{
	bool		answered = atoms_meet(&rule->answers, happened);
	bool		others = atoms_meet(&rule->other_answers, happened);
	bool		moved = rule->by_changed != NO_NUMBER && atoms_has(happened, rule->by_changed);
	int		   *link = &state->chain;

	while (*link != 0 && (answered || moved))
	{
		Live	   *live = &j->live[*link - 1];
		bool		begins = live->arose_seq == j->seq;

		if (begins ? others : answered)
			duty_met(j, rule, link, happen_find(j, begins ? &rule->other_answers : &rule->answers));
		else if (moved)
			link = move_due(j, rule, link);
		else
			link = &live->next;
	}
}

void
answering_answer(Judge *j, const AtomSet *happened)
{
	Busy	   *busy = &j->busy[BUSY_ANSWERING];

	if (!atoms_meet(&busy->watch, happened))
		return;
	atoms_clear(&busy->watch);
	for (int i = busy->n - 1; i >= 0; i--)
	{
		const Rule *rule = busy->rules[i];
		RuleState  *state = state_of(j, rule);

		if (atoms_meet(&rule->looks, happened))
			answer(j, rule, state, happened);
		if (state->chain != 0)
			atoms_join(&busy->watch, &rule->looks);
		else
		{
			state->busy = false;
			busy->rules[i] = busy->rules[--busy->n];
		}
	}
}


/* ---- form never: what must not happen ---- */

/* Whether the regulation binds who did it. */
static bool
binds(const Fact *fact)
{
	return (fact->flags & FACT_OUT_OF_SCOPE) == 0;
}

static void
trigger_never(Judge *j, const Rule *rule, int visit)
{
	const Visit *v = &j->visits[visit];
	Look		look = look_of_visit(j, rule, visit);
	bool		one_without_task = false;
	int			nth = -1;

	/* what happened once the deal had left a stage is asked of its whole life */
	if (rule->scope == SCOPE_AFTER)
		look.deal = true;
	else if (rule->has_within && j->now <= after(j, rule, v->start, rule->within))
		return;					/* forgiven */
	if (!in_force(rule, j->now) || !is_nth(j, rule, visit) ||
		any_holds(j, rule->unless, rule->nunless, &look))
		return;
	if (rule->nth != NO_NUMBER && rule->event != ATOM_ENTER)
		nth = nth_fact(j, rule, visit);
	if (!rule->each_task)
	{
		if (nth >= 0 && !binds(&j->line->facts[nth]))
			return;
		finding_of_the_moment(finding_new(j, rule, v->stage,
										 happen_find(j, &rule->trigger)), j->now);
		return;
	}
	for (int i = j->first_fact; i < j->next_fact; i++)
	{
		const Fact *fact = &j->line->facts[i];
		bool		is_task = fact->kind == FACT_TASK_ADDED || fact->kind == FACT_TASK_DONE;

		if (!atoms_has(&j->fact_atoms[i - j->first_fact], rule->event) ||
			!binds(fact) || !belongs(j, fact, visit) ||
			(rule->nth != NO_NUMBER && i != nth))
			continue;
		if (!is_task && one_without_task)
			continue;			/* at one instant, one breach */
		finding_of_the_moment(finding_new(j, rule, v->stage, i), j->now);
		if (is_task)
			j->findings[j->nfindings - 1].task_id = fact->id;
		else
			one_without_task = true;
	}
}

/* Forms within and never, for what happened in the present visit at this instant. */
void
answering_trigger(Judge *j, int visit, const Happened *happened)
{
	const Regulation *reg = j->reg;
	const StageRules *rules = j->here;

	for (int w = 0; w < reg->nwords; w++)
		for (uint64_t bits = happened->all.w[w] & rules->fact_watch.w[w]; bits != 0; bits &= bits - 1)
		{
			int			atom = w * 64 + __builtin_ctzll(bits);

			for (int i = rules->of_atom[atom]; i < rules->of_atom[atom + 1]; i++)
			{
				const Rule *rule = rules->fact[i];

				if (rule->form == FORM_NEVER)
				{
					if (atoms_has(&happened->bound, atom))
						trigger_never(j, rule, visit);
				}
				/* its event and the change of its moment make one turn */
				else if (rule->event == atom || !atoms_has(&happened->all, rule->event))
					trigger_within(j, rule, visit, happened);
			}
		}
	if (!atoms_meet(&happened->bound, &reg->after_watch))
		return;
	for (int i = 0; i < reg->nafter; i++)
	{
		const Rule *rule = reg->after[i];

		if (rule->stage != j->visits[visit].stage && j->left_of[rule->stage] > 0 &&
			atoms_has(&happened->bound, rule->event))
			trigger_never(j, rule, visit);
	}
}


/* ---- form attest: a verdict from outside ---- */

/* At one instant, one breach: a later verdict of it speaks of the same. */
static int
failed_now(const Judge *j, const Rule *rule)
{
	for (int n = j->nfindings - 1; n >= 0 && j->findings[n].arose_at == j->now; n--)
		if (&j->reg->rules[j->findings[n].rule] == rule)
			return n;
	return -1;
}

static bool
is_live(const Judge *j, const Rule *rule, int finding)
{
	for (int i = state_of(j, rule)->chain; i != 0; i = j->live[i - 1].next)
		if (j->live[i - 1].finding == finding)
			return true;
	return false;
}

/* Failed: a breach, open until a later pass. */
static void
fail(Judge *j, const Rule *rule, int fact)
{
	Look		look = {.deal = true};
	int			finding = failed_now(j, rule);

	if (finding >= 0 && is_live(j, rule, finding))
		return;
	if (finding < 0)
	{
		finding_new(j, rule, rule->stage == NO_NUMBER ? STAGE_UNKNOWN : rule->stage,
					fact)->breached_at = j->now;
		finding = j->nfindings - 1;
	}
	else
	{
		Finding    *f = &j->findings[finding];

		/* failed, passed and failed again in one second */
		f->state = STATE_PENDING;
		f->resolution = RESOLUTION_NONE;
		f->met_at = f->resolved_at = f->ended_at = INSTANT_NEVER;
		f->answer_id = 0;
	}
	duty_lives(j, rule, finding, 0, j->now - 1, look);
}

void
answering_verdict(Judge *j, int index)
{
	const Fact *fact = &j->line->facts[index];

	for (int i = 0; i < j->reg->nattest; i++)
	{
		const Rule *rule = j->reg->attest[i];
		int		   *chain = &state_of(j, rule)->chain;

		if (rule->code != fact->u.verdict.code)
			continue;
		if (fact->flags & FACT_PASS)
			while (*chain != 0)
				duty_met(j, rule, chain, index);
		else if (in_force(rule, j->now))
			fail(j, rule, index);
	}
}
