/*-------------------------------------------------------------------------
 *
 * rule_index.c
 *	  From what happens to the rules that it concerns.
 *
 * Pure: see rules.h.
 *
 *-------------------------------------------------------------------------
 */
#include "rules_int.h"

static int *
numbers(Compiler *c, int count)
{
	int		   *list = compiler_make(c, sizeof(int) * (count + 1));

	for (int i = 0; i < count; i++)
		list[i] = NO_NUMBER;
	return list;
}

void
index_atoms(Compiler *c)
{
	Regulation *reg = c->reg;

	reg->nwords = (reg->natoms + 63) / 64;
	reg->atom_of_stage = numbers(c, reg->nstages);
	reg->atom_of_scenario = numbers(c, reg->nscenarios);
	reg->atom_of_field = numbers(c, reg->nfields);
	reg->atom_of_change = numbers(c, reg->nfields);
	reg->atom_of_moment = numbers(c, reg->nfields);
	reg->atom_of_added = numbers(c, reg->ntask_kinds);
	reg->atom_of_done = numbers(c, reg->ntask_kinds);
	reg->long_calls = numbers(c, reg->natoms);
	reg->soon = numbers(c, reg->natoms);
	reg->dated = numbers(c, reg->nfields);
	for (int i = ATOM_FIRST_WITH_ARGUMENT; i < reg->natoms; i++)
	{
		const Atom *atom = &reg->atoms[i];

		switch (atom->arg)
		{
			case ARG_ENTER_STAGE:
				reg->atom_of_stage[atom->number] = i;
				break;
			case ARG_LONG_CALL:
				reg->long_calls[reg->nlong_calls++] = i;
				break;
			case ARG_SCENARIO:
				reg->atom_of_scenario[atom->number] = i;
				break;
			case ARG_TASK_ADDED:
				reg->atom_of_added[atom->number] = i;
				break;
			case ARG_TASK_DONE:
				reg->atom_of_done[atom->number] = i;
				break;
			case ARG_FIELD:
				reg->atom_of_field[atom->number] = i;
				break;
			case ARG_MOMENT:
				reg->atom_of_moment[atom->number] = i;
				break;
			case ARG_FIELD_CHANGED:
				reg->atom_of_change[atom->number] = i;
				break;
			case ARG_SOON:
				reg->soon[reg->nsoon++] = i;
				break;
		}
	}
	for (int i = 0; i < reg->nfields; i++)
		if (reg->atom_of_moment[i] != NO_NUMBER)
			reg->dated[reg->ndated++] = i;
}

/*
 * Whether what an enter rule expects is the same for all of its duties: it
 * speaks of the deal, and not of the visit or the move by which one arose.
 */
static bool
is_alike(const Rule *rule)
{
	for (int i = 0; i < rule->nexpect; i++)
		if (rule->expect[i].kind == COND_MOVED_BY_BOT ||
			rule->expect[i].kind == COND_COMMENT_WHERE_REQUIRED ||
			rule->expect[i].kind == COND_SCENARIO_MATCHES)
			return false;
	return rule->form == FORM_ENTER && rule->scope == SCOPE_DEAL;
}

/* What a rule looks at, and which feeds show what it expects. */
static void
index_rule(Rule *rule)
{
	rule->always_seen = rule->nexpect == 0;
	for (int i = 0; i < rule->nexpect; i++)
	{
		const Condition *cond = &rule->expect[i];

		if (cond->feeds == 0 && cond->also == 0)
			rule->always_seen = true;
		else if (cond->also == 0)
			rule->seen_by |= cond->feeds;
		else
			rule->seen_by_two = true;
	}
	rule->alike = is_alike(rule);
	rule->plain = rule->nth == NO_NUMBER && rule->nunless == 0 && !rule->each_task &&
		rule->by_field == NO_NUMBER;
	rule->other_answers = rule->answers;
	for (int w = 0; w < ATOM_WORDS; w++)
		rule->other_answers.w[w] &= ~rule->trigger.w[w];
	rule->looks = rule->watch;
	atoms_join(&rule->looks, &rule->answers);
}

static bool
set_in_motion(const Rule *rule, int stage, int atom)
{
	if ((rule->form != FORM_WITHIN && rule->form != FORM_NEVER) ||
		rule->scope == SCOPE_AFTER ||
		(rule->stage != NO_NUMBER && rule->stage != stage))
		return false;
	return rule->event == atom || rule->by_changed == atom;
}

/* Which rules of a stage an atom sets in motion. */
static void
index_events(Compiler *c, StageRules *lists, int stage)
{
	Regulation *reg = c->reg;
	int			n = 0;

	lists->of_atom = compiler_make(c, sizeof(int) * (reg->natoms + 1));
	lists->fact = compiler_make(c, sizeof(Rule *) * (reg->nrules * 2 + 1));
	for (int atom = 0; atom < reg->natoms; atom++)
	{
		lists->of_atom[atom] = n;
		for (int i = 0; i < reg->nrules; i++)
			if (set_in_motion(&reg->rules[i], stage, atom))
				lists->fact[n++] = &reg->rules[i];
		if (n > lists->of_atom[atom])
			atoms_add(&lists->fact_watch, atom);
	}
	lists->of_atom[reg->natoms] = n;
}

/* Each stage's lists; the last entry serves a stage that is not known. */
void
index_rules(Compiler *c)
{
	Regulation *reg = c->reg;

	reg->by_stage = compiler_make(c, sizeof(StageRules) * (reg->nstages + 1));
	reg->flow = compiler_make(c, sizeof(Rule *) * (reg->nrules + 1));
	reg->attest = compiler_make(c, sizeof(Rule *) * (reg->nrules + 1));
	reg->after = compiler_make(c, sizeof(Rule *) * (reg->nrules + 1));
	for (int stage = 0; stage <= reg->nstages; stage++)
	{
		StageRules *lists = &reg->by_stage[stage];

		lists->enter = compiler_make(c, sizeof(Rule *) * (reg->nrules + 1));
		lists->leave = compiler_make(c, sizeof(Rule *) * (reg->nrules + 1));
		lists->always = compiler_make(c, sizeof(Rule *) * (reg->nrules + 1));
		for (int i = 0; i < reg->nrules; i++)
		{
			const Rule *rule = &reg->rules[i];

			if (rule->stage != NO_NUMBER && rule->stage != stage)
				continue;
			if (rule->form == FORM_ENTER)
				lists->enter[lists->nenter++] = rule;
			else if (rule->form == FORM_LEAVE)
				lists->leave[lists->nleave++] = rule;
			else if (rule->form == FORM_ALWAYS)
			{
				lists->always[lists->nalways++] = rule;
				atoms_join(&lists->always_watch, &rule->watch);
			}
		}
		index_events(c, lists, stage);
	}
	for (int i = 0; i < reg->nrules; i++)
	{
		Rule	   *rule = &reg->rules[i];

		index_rule(rule);
		if (rule->form == FORM_FLOW)
			reg->flow[reg->nflow++] = rule;
		else if (rule->form == FORM_ATTEST)
			reg->attest[reg->nattest++] = rule;
		else if (rule->form == FORM_NEVER && rule->scope == SCOPE_AFTER)
		{
			reg->after[reg->nafter++] = rule;
			atoms_join(&reg->after_watch, &rule->trigger);
		}
	}
	for (int stage = 0; stage <= reg->nstages; stage++)
	{
		StageRules *lists = &reg->by_stage[stage];

		lists->interest = lists->fact_watch;
		atoms_join(&lists->interest, &lists->always_watch);
		atoms_join(&lists->interest, &reg->after_watch);
	}
}

/* The rows of each move, in their order. */
void
index_transitions(Compiler *c)
{
	Regulation *reg = c->reg;

	reg->ways = numbers(c, (reg->nstages + 1) * reg->nstages);
	for (int i = reg->ntransitions - 1; i >= 0; i--)
	{
		Transition *t = &reg->transitions[i];
		int		   *first = &reg->ways[(t->from + 1) * reg->nstages + t->to];

		t->next = *first;
		*first = i;
	}
}
