/*-------------------------------------------------------------------------
 *
 * duties.c
 *	  Duties arise, are met, breached and cured (part of the judge, pure).
 *
 * A duty that is not closed yet stands in j->live and points at its finding;
 * closing it fills in how it ended.  Nothing waits for a due moment to come:
 * whether an answer was in time is seen when it arrives, and what is still
 * live at the end was missed or is pending.
 *
 * The forms are those of DESIGN section 4; each function names its own.
 *
 *-------------------------------------------------------------------------
 */
#include "judge_int.h"


/* ---- findings ---- */

static void
point_at(const Judge *j, int fact, FactKind *kind, int64_t *id)
{
	if (fact < 0)
		return;
	*kind = (FactKind) j->line->facts[fact].kind;
	*id = j->line->facts[fact].id;
}

static Finding *
new_finding(Judge *j, const Rule *rule, int stage, int fact)
{
	Finding    *f;

	j->findings = judge_room(j, j->findings, &j->room_findings,
							 j->nfindings + 1, sizeof(Finding));
	f = &j->findings[j->nfindings++];
	*f = (Finding) {
		.rule = (int) (rule - j->reg->rules),
		.stage = stage,
		.state = STATE_PENDING,
		.resolution = RESOLUTION_NONE,
		.task_id = NO_TASK,
		.manager_id = NO_MANAGER,
		.arose_at = j->now,
		.warn_at = INSTANT_NEVER,
		.due_at = INSTANT_NEVER,
		.met_at = INSTANT_NEVER,
		.breached_at = INSTANT_NEVER,
		.resolved_at = INSTANT_NEVER,
		.ended_at = INSTANT_NEVER,
		.from_stage = STAGE_NONE,
		.to_stage = STAGE_NONE,
	};
	point_at(j, fact, &f->trigger_kind, &f->trigger_id);
	return f;
}

/* A thing done, which nothing later cures (flow, never, leave). */
static void
breach_of_the_moment(Finding *f, instant at)
{
	f->state = STATE_MISSED;
	f->resolution = RESOLUTION_MOMENT;
	f->breached_at = f->resolved_at = f->ended_at = at;
}

static instant
after(const Judge *j, const Rule *rule, instant at, int64_t duration)
{
	return calendar_add(rule->business ? j->line->calendar : NULL, at, duration);
}

/* When to warn: a time after the trigger, or before what "by" names. */
static void
set_warning(const Judge *j, const Rule *rule, Finding *f)
{
	if (!rule->has_warn || f->due_at == INSTANT_NEVER)
		return;
	if (rule->by_task_due || rule->by_field != NO_NUMBER)
		f->warn_at = after(j, rule, f->due_at, -rule->warn);
	else
		f->warn_at = after(j, rule, f->arose_at, rule->warn);
}

static void
new_live(Judge *j, const Rule *rule, int finding, int visit, instant due, Look look)
{
	j->live = judge_room(j, j->live, &j->room_live, j->nlive + 1, sizeof(Live));
	j->live[j->nlive++] = (Live) {
		.finding = finding,
		.rule = rule,
		.visit = visit,
		.arose_seq = j->seq,
		.due = due,
		.look = look,
	};
	atoms_join(&j->live_watch, &rule->watch);
	atoms_join(&j->live_watch, &rule->answers);
}


/* ---- closing ---- */

/* When the duty was breached: it says so itself where it had no time at all. */
static void
set_breached(Finding *f, instant due)
{
	if (f->breached_at == INSTANT_NEVER)
		f->breached_at = due;
}

/* Takes live duty i out; the last one takes its place. */
static void
drop(Judge *j, int i)
{
	Live	   *live = &j->live[i];
	int			rule = (int) (live->rule - j->reg->rules);

	if (live->rule->form == FORM_WITHIN && j->open_visit[rule] == live->visit)
		j->open_visit[rule] = -1;
	j->live[i] = j->live[--j->nlive];
}

/* What was expected has come: in time, or as the cure of a breach. */
static void
close_met(Judge *j, int i, int fact)
{
	Live	   *live = &j->live[i];
	Finding    *f = &j->findings[live->finding];

	if (live->rule->form == FORM_LEAVE && j->now > live->due)
		breach_of_the_moment(f, live->due);
	else
	{
		f->met_at = f->ended_at = j->now;
		point_at(j, fact, &f->answer_kind, &f->answer_id);
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
	drop(j, i);
}

/* The deal left, was deleted, or what the duty hung on is gone. */
static void
close_left(Judge *j, int i)
{
	Live	   *live = &j->live[i];
	Finding    *f = &j->findings[live->finding];

	if (live->rule->form == FORM_LEAVE && j->now > live->due)
		breach_of_the_moment(f, live->due);
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
	drop(j, i);
}


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
	f = new_finding(j, rule, j->visits[visit].stage, move->fact);
	f->from_stage = move->from;
	f->to_stage = move->to;
	due = tolerance ? after(j, rule, j->now, rule->within) : j->now;
	if (tolerance)
	{
		f->due_at = due;
		set_warning(j, rule, f);
	}
	if (fine)
	{
		f->state = STATE_MET;
		f->met_at = f->ended_at = j->now;
	}
	else if (rule->form == FORM_LEAVE && !tolerance)
		breach_of_the_moment(f, j->now);
	else
	{
		/* a tolerance of nothing is over at once: due lies before any cure */
		if (!tolerance)
			f->breached_at = j->now;
		new_live(j, rule, j->nfindings - 1, visit, tolerance ? due : j->now - 1, *look);
	}
}

/*
 * Judges enter (of the visit that begins) or leave (of the one that ends).
 * What users not bound by the regulation do breaks nothing, and a move that
 * nobody observed is not judged.
 */
void
duties_move(Judge *j, const Move *move, int visit, bool enters)
{
	const StageRules *rules = rules_of_stage(j, j->visits[visit].stage);
	const int  *list = enters ? rules->enter : rules->leave;
	int			n = enters ? rules->nenter : rules->nleave;

	if (!move->observed || !move->binds)
		return;
	for (int i = 0; i < n; i++)
	{
		const Rule *rule = &j->reg->rules[list[i]];
		Look		look = {
			.deal = rule->scope == SCOPE_DEAL,
			.visit = enters && visit > 0 ? visit - 1 : visit,
			.subject = visit,
			.before = !enters,
			.comment_required = judge_asks_comment(j, move),
		};

		if (enters && rule->nth != NO_NUMBER && j->visits[visit].ordinal != rule->nth)
			continue;
		arise_at_move(j, rule, move, visit, &look);
	}
}

/* Form flow: a move must be one of the regulation's transitions. */
void
duties_flow(Judge *j, const Move *move)
{
	int			from = move->from == STAGE_NONE ? NO_NUMBER : move->from;

	if (!move->observed || !move->binds || move->to < 0 ||
		move->from == STAGE_UNKNOWN)
		return;
	if (rules_transition(j->reg, from, move->to, j->now))
		return;
	for (int i = 0; i < j->reg->nflow; i++)
	{
		const Rule *rule = &j->reg->rules[j->reg->flow[i]];
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
		f = new_finding(j, rule, move->to, move->fact);
		f->from_stage = move->from;
		f->to_stage = move->to;
		breach_of_the_moment(f, j->now);
	}
}

/* Live duties of enter and leave, when something they look at has changed. */
void
duties_recheck(Judge *j, const AtomSet *happened, bool moved)
{
	if (!moved && !atoms_meet(&j->live_watch, happened))
		return;
	for (int i = j->nlive - 1; i >= 0; i--)
	{
		Live	   *live = &j->live[i];
		const Rule *rule = live->rule;

		if (rule->form == FORM_LEAVE && j->now > live->due)
			close_left(j, i);
		else if ((rule->form == FORM_ENTER || rule->form == FORM_LEAVE) &&
				 (moved || atoms_meet(&rule->watch, happened)) &&
				 any_holds(j, rule->expect, rule->nexpect, &live->look))
			close_met(j, i, judge_find_fact(j, &rule->watch));
	}
}


/* ---- form always: what must hold all the time ---- */

static Look
look_of_visit(const Judge *j, const Rule *rule, int visit)
{
	return (Look) {
		.deal = rule->scope == SCOPE_DEAL,
		.visit = visit,
		.subject = visit,
		.comment_required = j->visits[visit].comment_required,
	};
}

static void
begin_gap(Judge *j, const Rule *rule, int visit, const Look *look)
{
	bool		grace = rule->has_within && rule->within > 0;
	Finding    *f;
	instant		due;

	if (!in_force(rule, j->now) || !can_be_seen(j, rule))
		return;
	f = new_finding(j, rule, j->visits[visit].stage, -1);
	due = grace ? after(j, rule, j->now, rule->within) : j->now - 1;
	if (grace)
	{
		f->due_at = due;
		set_warning(j, rule, f);
	}
	else
		f->breached_at = j->now;
	new_live(j, rule, j->nfindings - 1, visit, due, *look);
}

/* The gap is over; met where what is expected has come, else it does not run. */
static void
end_gap(Judge *j, const Rule *rule, bool met)
{
	for (int i = j->nlive - 1; i >= 0; i--)
	{
		if (j->live[i].rule != rule)
			continue;
		if (met || j->now > j->live[i].due)
			close_met(j, i, judge_find_fact(j, &rule->watch));
		else
			close_left(j, i);
	}
}

/* Looks at the conditions of the present stage, when something has changed. */
void
duties_always(Judge *j, const AtomSet *happened, bool moved)
{
	int			visit = j->nvisits - 1;
	const StageRules *rules = rules_of_stage(j, j->visits[visit].stage);

	for (int i = 0; i < rules->nalways; i++)
	{
		int			number = rules->always[i];
		const Rule *rule = &j->reg->rules[number];
		Look		look;
		bool		met,
					fine;

		if (!moved && !atoms_meet(&rule->watch, happened))
			continue;
		look = look_of_visit(j, rule, visit);
		met = any_holds(j, rule->expect, rule->nexpect, &look);
		fine = met || any_holds(j, rule->unless, rule->nunless, &look);
		if (!fine && !j->gap[number])
			begin_gap(j, rule, visit, &look);
		else if (fine && j->gap[number])
			end_gap(j, rule, met);
		j->gap[number] = !fine;
	}
}

/* The visit is over: its gaps end, met where that comes in the same second. */
static void
leave_gaps(Judge *j, int visit)
{
	const StageRules *rules = rules_of_stage(j, j->visits[visit].stage);

	for (int i = 0; i < rules->nalways; i++)
	{
		int			number = rules->always[i];
		const Rule *rule = &j->reg->rules[number];
		Look		look;

		/* a rule of any stage goes on through the move */
		if (!j->gap[number] || rule->stage == NO_NUMBER)
			continue;
		look = look_of_visit(j, rule, visit);
		if (any_holds(j, rule->expect, rule->nexpect, &look))
			end_gap(j, rule, true);
		else
			for (int k = j->nlive - 1; k >= 0; k--)
				if (j->live[k].rule == rule)
					close_left(j, k);
		j->gap[number] = false;
	}
}

/*
 * What the end of a visit does to the duties that arose in it.  A duty of
 * scope deal, or one that expects a move, is not resolved by leaving, only by
 * its answer (DESIGN section 5).
 */
void
duties_end_visit(Judge *j, int visit)
{
	leave_gaps(j, visit);
	for (int i = j->nlive - 1; i >= 0; i--)
	{
		Live	   *live = &j->live[i];
		const Rule *rule = live->rule;

		if (live->visit != visit)
			continue;
		if (rule->form == FORM_WITHIN)
		{
			if (rule->scope == SCOPE_DEAL || rule->expects_move)
				live->left = true;
			else
				close_left(j, i);
		}
		else if (rule->form == FORM_ENTER &&
				 (j->now <= live->due ||
				  (rule->scope == SCOPE_VISIT && !rule->expects_move)))
			close_left(j, i);
	}
}


/* ---- forms within and never: what answers an event, what must not happen ---- */

/* How often the event of a rule with nth had happened in the visit before this instant. */
static int
times_before(const Judge *j, const Rule *rule, int visit)
{
	int			counter = j->counter_of[rule->event];
	int			before = j->count_before[counter] - j->bases[visit * j->ncounted + counter];

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

static void
arise(Judge *j, const Rule *rule, int visit, int fact, int64_t task_id, instant due,
	  const Happened *happened)
{
	AtomSet		answers = rule->answers;
	Finding    *f;

	f = new_finding(j, rule, j->visits[visit].stage, fact);
	f->task_id = task_id;
	f->due_at = due;
	set_warning(j, rule, f);
	new_live(j, rule, j->nfindings - 1, visit, due, look_of_visit(j, rule, visit));

	/*
	 * Simultaneous answers count, but for those of the trigger's own token; a
	 * duty of scope deal takes them whatever visit they belong to.
	 */
	for (int i = 0; i < ATOM_WORDS; i++)
		answers.w[i] &= ~rule->trigger.w[i];
	if (atoms_meet(&answers, rule->scope == SCOPE_DEAL ? &j->everything : &happened->all))
		close_met(j, j->nlive - 1, judge_find_fact(j, &answers));
	else if (!rule->by_task_due)
		j->open_visit[rule - j->reg->rules] = visit;
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
				atoms_has(&j->fact_atoms[i - j->first_fact].all, rule->event) &&
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

		if (!atoms_has(&j->fact_atoms[i - j->first_fact].all, rule->event) ||
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
	j->armed_visit[rule - j->reg->rules] = -1;
	arise(j, rule, visit, judge_find_fact(j, &rule->trigger), NO_TASK,
		  after(j, rule, j->fields[rule->by_field].moment, rule->within), happened);
}

static void
trigger_within(Judge *j, const Rule *rule, int visit, const Happened *happened)
{
	int			number = (int) (rule - j->reg->rules);
	bool		triggered = atoms_meet(&rule->trigger, &happened->all) &&
		is_nth(j, rule, visit);
	bool		rearmed = rule->by_field != NO_NUMBER && j->armed_visit[number] == visit &&
		atoms_has(&happened->all, rule->by_changed);
	Look		look;

	if (!triggered && !rearmed)
		return;
	/* while a duty is unmet in a visit, a new trigger makes no second one */
	if (j->open_visit[number] == visit)
		return;
	if (rule->by_field != NO_NUMBER && !to_come(j, &j->fields[rule->by_field]))
	{
		j->armed_visit[number] = visit; /* until the field holds a moment to come */
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
		arise(j, rule, visit, judge_find_fact(j, &rule->trigger), NO_TASK,
			  after(j, rule, j->now, rule->within), happened);
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
		if (nth >= 0 && !atoms_has(&j->fact_atoms[nth - j->first_fact].bound, rule->event))
			return;
		breach_of_the_moment(new_finding(j, rule, v->stage,
										 judge_find_fact(j, &rule->trigger)), j->now);
		return;
	}
	for (int i = j->first_fact; i < j->next_fact; i++)
	{
		const Fact *fact = &j->line->facts[i];
		const Happened *given = &j->fact_atoms[i - j->first_fact];
		bool		is_task = fact->kind == FACT_TASK_ADDED || fact->kind == FACT_TASK_DONE;

		if (!atoms_has(&given->bound, rule->event) || !belongs(j, fact, visit) ||
			(rule->nth != NO_NUMBER && i != nth))
			continue;
		if (!is_task && one_without_task)
			continue;			/* at one instant, one breach */
		breach_of_the_moment(new_finding(j, rule, v->stage, i), j->now);
		if (is_task)
			j->findings[j->nfindings - 1].task_id = fact->id;
		else
			one_without_task = true;
	}
}

/* A moment moved moves the duty that is due by it; one emptied or past ends it. */
static void
move_due(Judge *j, int i)
{
	Live	   *live = &j->live[i];
	const Rule *rule = live->rule;
	const Field *field = &j->fields[rule->by_field];
	Finding    *f = &j->findings[live->finding];

	if (j->now > live->due)
		return;					/* breached by then: that stands */
	if (to_come(j, field))
	{
		live->due = f->due_at = after(j, rule, field->moment, rule->within);
		set_warning(j, rule, f);
	}
	else
	{
		if (!live->left)
			j->armed_visit[rule - j->reg->rules] = live->visit;
		close_left(j, i);
	}
}

static void
answer_duties(Judge *j, int visit, const AtomSet *happened)
{
	if (!atoms_meet(&j->live_watch, happened))
		return;
	atoms_clear(&j->live_watch);
	for (int i = j->nlive - 1; i >= 0; i--)
	{
		Live	   *live = &j->live[i];
		const Rule *rule = live->rule;
		AtomSet		answers = rule->answers;

		atoms_join(&j->live_watch, &rule->watch);
		atoms_join(&j->live_watch, &rule->answers);
		if (rule->form != FORM_WITHIN ||
			!(live->visit == visit || rule->scope == SCOPE_DEAL || live->left))
			continue;
		if (live->arose_seq == j->seq)
			for (int w = 0; w < ATOM_WORDS; w++)
				answers.w[w] &= ~rule->trigger.w[w];
		if (atoms_meet(&answers, happened))
			close_met(j, i, judge_find_fact(j, &answers));
		else if (rule->by_changed != NO_NUMBER && atoms_has(happened, rule->by_changed))
			move_due(j, i);
	}
}

/* Forms within and never, for what happened in a visit at this instant. */
void
duties_facts(Judge *j, int visit, const Happened *happened)
{
	int			stage = j->visits[visit].stage;
	const StageRules *rules = rules_of_stage(j, stage);

	if (j->nlive > 0)
		answer_duties(j, visit, &happened->all);
	for (int i = 0; i < rules->nfact; i++)
	{
		int			number = rules->fact[i];
		const Rule *rule = &j->reg->rules[number];

		if (rule->form == FORM_WITHIN)
		{
			if (atoms_meet(&rule->trigger, &happened->all) ||
				j->armed_visit[number] == visit)
				trigger_within(j, rule, visit, happened);
		}
		else if (atoms_meet(&rule->trigger, &happened->bound))
			trigger_never(j, rule, visit);
	}
	for (int i = 0; i < j->reg->nafter; i++)
	{
		const Rule *rule = &j->reg->rules[j->reg->after[i]];

		if (rule->stage != stage && j->left_of[rule->stage] > 0 &&
			atoms_meet(&rule->trigger, &happened->bound))
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
is_live(const Judge *j, int finding)
{
	for (int i = 0; i < j->nlive; i++)
		if (j->live[i].finding == finding)
			return true;
	return false;
}

void
duties_verdict(Judge *j, int index)
{
	const Fact *fact = &j->line->facts[index];
	Look		look = {.deal = true};

	for (int i = 0; i < j->reg->nattest; i++)
	{
		const Rule *rule = &j->reg->rules[j->reg->attest[i]];
		int			finding;

		if (rule->code != fact->u.verdict.code)
			continue;
		if (fact->flags & FACT_PASS)
		{
			for (int k = j->nlive - 1; k >= 0; k--)
				if (j->live[k].rule == rule)
					close_met(j, k, index);
			continue;
		}
		if (!in_force(rule, j->now))
			continue;
		finding = failed_now(j, rule);
		if (finding >= 0 && is_live(j, finding))
			continue;
		if (finding < 0)
		{
			new_finding(j, rule, rule->stage == NO_NUMBER ? STAGE_UNKNOWN : rule->stage,
						index)->breached_at = j->now;
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
		new_live(j, rule, finding, 0, j->now - 1, look);
	}
}


/* ---- the end of what is known ---- */

void
duties_finish(Judge *j, instant end, bool deleted)
{
	j->now = end;
	while (deleted && j->nlive > 0)
		close_left(j, j->nlive - 1);
	for (int i = 0; i < j->nlive; i++)
	{
		Live	   *live = &j->live[i];
		Finding    *f = &j->findings[live->finding];

		if (live->due > end)
			f->state = f->warn_at <= end ? STATE_WARNED : STATE_PENDING;
		else if (live->rule->form == FORM_LEAVE)
			breach_of_the_moment(f, live->due);
		else
		{
			f->state = STATE_MISSED;
			set_breached(f, live->due);
		}
	}
	j->nlive = 0;
}
