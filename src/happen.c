/*-------------------------------------------------------------------------
 *
 * happen.c
 *	  What happens at an instant: facts into atoms (part of the judge, pure).
 *
 * Each fact changes the state of the deal (its fields, open tasks, the last
 * call) and gives atoms; which atoms have happened when, and how often, is
 * noted for the conditions that ask (conditions.c).
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "judge_int.h"

/* Atoms without argument lie in the first word of a set. */
#define BIT(atom)		(UINT64_C(1) << (atom))
_Static_assert(ATOM_FIRST_WITH_ARGUMENT <= 64, "atoms without argument fill more than a word");

/* The first fact of this instant that gave one of the atoms, or -1. */
int
happen_find(const Judge *j, const AtomSet *atoms)
{
	for (int i = j->first_fact; i < j->next_fact; i++)
		if (atoms_meet(&j->fact_atoms[i - j->first_fact], atoms))
			return i;
	return -1;
}

static void
give(AtomSet *atoms, int atom)
{
	if (atom != NO_NUMBER)
		atoms_add(atoms, atom);
}

static bool
is_contact(const Fact *fact)
{
	return fact->kind == FACT_MESSAGE_IN || fact->kind == FACT_VISIT ||
		((fact->kind == FACT_CALL_IN || fact->kind == FACT_CALL_OUT) &&
		 (fact->flags & FACT_ANSWERED));
}

/*
 * An outgoing call that was not answered.  It counts as a missed call unless
 * it is a redial: within redial_window after the last counted one, with no
 * contact since.
 */
static void
missed_call(Judge *j, AtomSet *atoms)
{
	bool		redial = j->counted_miss_seq > j->contact_seq &&
		j->now - j->counted_miss_at <= j->reg->redial_window;

	j->missed_seq = j->seq;
	if (redial)
		return;
	j->counted_miss_at = j->now;
	j->counted_miss_seq = j->seq;
	give(atoms, ATOM_MISSED_CALL);
}

static void
apply_call(Judge *j, const Fact *fact, AtomSet *atoms)
{
	const Regulation *reg = j->reg;
	bool		answered = (fact->flags & FACT_ANSWERED) != 0;
	bool		out = fact->kind == FACT_CALL_OUT;
	uint64_t	given = out ? BIT(ATOM_CALL_OUT) :
		BIT(ATOM_CALL_IN) | BIT(ATOM_CLIENT_REQUEST) | BIT(ATOM_ACTIVITY);

	if ((out || answered) && !(fact->flags & FACT_OUT_OF_SCOPE))
		given |= BIT(ATOM_TOUCH) | BIT(ATOM_ACTIVITY);
	if (answered)
		given |= BIT(ATOM_TALK) | BIT(ATOM_CONTACT) | BIT(ATOM_ACTIVITY);
	atoms->w[0] |= given;
	if (out && !answered)
		missed_call(j, atoms);
	for (int i = 0; i < reg->nlong_calls; i++)
		if (fact->u.call.duration >= reg->atoms[reg->long_calls[i]].value)
			give(atoms, reg->long_calls[i]);
	if (j->nvisits > 0)
		j->visits[j->nvisits - 1].last_call = answered ? CALL_TALK : CALL_MISSED;
}

static void
apply_field(Judge *j, const Fact *fact, AtomSet *atoms)
{
	const Regulation *reg = j->reg;
	int			number = fact->u.field.number;
	Field	   *field = &j->fields[number];
	bool		holds = (fact->flags & FACT_HOLDS) != 0;

	if (field->value == fact->u.field.value && field->holds == holds)
		return;
	*field = (Field) {fact->u.field.value, fact->u.field.moment, j->seq, holds};
	if (holds)
		give(atoms, ATOM_ACTIVITY);
	if (number >= reg->nfields)
		return;
	j->dates_changed |= reg->atom_of_moment[number] != NO_NUMBER;
	give(atoms, reg->atom_of_change[number]);
	if (!holds)
		return;
	give(atoms, reg->atom_of_field[number]);
	j->is_signed |= number == reg->signed_field;
	j->is_paid |= number == reg->paid_field;
	if (j->is_signed && j->is_paid && !j->signed_and_paid)
	{
		j->signed_and_paid = true;
		give(atoms, ATOM_SIGNED_AND_PAID);
	}
}

static void
apply_task(Judge *j, const Fact *fact, AtomSet *atoms)
{
	int			kind = fact->u.task.kind;
	int			change = fact->kind == FACT_TASK_ADDED ? 1 : -1;

	atoms->w[0] |= BIT(ATOM_TASKS_CHANGED);
	j->open_tasks += change;
	if (kind != NO_NUMBER)
		j->open_of_kind[kind] += change;
	if (fact->kind == FACT_TASK_ADDED)
	{
		atoms->w[0] |= BIT(ATOM_TASK_ADDED) |
			(fact->flags & FACT_BY_BOT ? BIT(ATOM_TASK_BY_BOT) | BIT(ATOM_BOT) :
			 BIT(ATOM_TASK_BY_HAND));
		if (kind != NO_NUMBER)
			give(atoms, j->reg->atom_of_added[kind]);
	}
	else if (fact->kind == FACT_TASK_DONE)
	{
		atoms->w[0] |= BIT(ATOM_TASK_DONE) | BIT(ATOM_ACTIVITY);
		if (kind != NO_NUMBER)
			give(atoms, j->reg->atom_of_done[kind]);
	}
}

void
happen_responsible(Judge *j, instant at, int64_t manager_id)
{
	j->responsible = judge_room(j, j->responsible, &j->room_responsible,
								j->nresponsible + 1, sizeof(Responsible));
	j->responsible[j->nresponsible++] = (Responsible) {at, manager_id};
}

/* What a scenario chosen says of the call; one that nobody knows says nothing. */
ScenarioOutcome
happen_outcome(const Judge *j, const Fact *fact)
{
	if (fact->u.scenario.number == NO_NUMBER)
		return OUTCOME_ANY;
	return rules_outcome(j->reg, fact->u.scenario.number, fact->at);
}

static void
apply_scenario(Judge *j, const Fact *fact, AtomSet *atoms)
{
	int			number = fact->u.scenario.number;

	atoms->w[0] |= BIT(ATOM_SCENARIO) | BIT(ATOM_ACTIVITY);
	if (fact->flags & FACT_BY_BOT)
		atoms->w[0] |= BIT(ATOM_BOT_ACT) | BIT(ATOM_BOT);
	if (number != NO_NUMBER)
		give(atoms, j->reg->atom_of_scenario[number]);
	if (j->nvisits > 0)
		j->visits[j->nvisits - 1].last_outcome = happen_outcome(j, fact);
}

/* Applies one fact that is no move and gives its atoms. */
static void
apply_fact(Judge *j, int index, AtomSet *atoms)
{
	const Fact *fact = &j->line->facts[index];

	switch ((FactKind) fact->kind)
	{
		case FACT_MOVE:
			break;
		case FACT_CALL_IN:
		case FACT_CALL_OUT:
			apply_call(j, fact, atoms);
			break;
		case FACT_MESSAGE_IN:
			atoms->w[0] = BIT(ATOM_MESSAGE_IN) | BIT(ATOM_CONTACT) |
				BIT(ATOM_CLIENT_REQUEST) | BIT(ATOM_ACTIVITY);
			break;
		case FACT_MESSAGE_OUT:
			if (fact->flags & FACT_BY_BOT)
				atoms->w[0] = BIT(ATOM_MESSAGE_OUT) | BIT(ATOM_BOT_MESSAGE) | BIT(ATOM_BOT);
			else if (fact->flags & FACT_OUT_OF_SCOPE)
				atoms->w[0] = BIT(ATOM_MESSAGE_OUT) | BIT(ATOM_MESSAGE_BY_HAND);
			else
				atoms->w[0] = BIT(ATOM_MESSAGE_OUT) | BIT(ATOM_MESSAGE_BY_HAND) |
					BIT(ATOM_TOUCH) | BIT(ATOM_ACTIVITY);
			break;
		case FACT_REQUEST:
			atoms->w[0] = BIT(ATOM_CLIENT_REQUEST) | BIT(ATOM_ACTIVITY);
			break;
		case FACT_VISIT:
			atoms->w[0] = BIT(ATOM_CONTACT) | BIT(ATOM_CLIENT_REQUEST) | BIT(ATOM_ACTIVITY);
			break;
		case FACT_SCENARIO:
			apply_scenario(j, fact, atoms);
			break;
		case FACT_COMMENT:
			j->comment_seq = j->seq;
			atoms->w[0] = BIT(ATOM_COMMENT) | BIT(ATOM_ACTIVITY);
			break;
		case FACT_FIELD:
			apply_field(j, fact, atoms);
			break;
		case FACT_RESPONSIBLE:
			happen_responsible(j, j->now, fact->u.manager);
			break;
		case FACT_ROBOT:
			atoms->w[0] = BIT(ATOM_BOT_ACT) | BIT(ATOM_BOT);
			break;
		case FACT_VERDICT:
			answering_verdict(j, index);
			break;
		case FACT_TASK_ADDED:
		case FACT_TASK_DONE:
		case FACT_TASK_GONE:
			apply_task(j, fact, atoms);
			break;
	}
}

/* Notes, of atoms that happen, by what they can be found to have happened. */
static inline void
mark(const Judge *j, const AtomSet *atoms, int *last, int with)
{
	for (int w = 0; w < j->reg->nwords; w++)
		for (uint64_t bits = atoms->w[w] & j->reg->remembered.w[w]; bits != 0; bits &= bits - 1)
			last[w * 64 + __builtin_ctzll(bits)] = with;
}

/* The counts before this instant are kept when something is first counted in it. */
static void
begin_counting(Judge *j)
{
	if (j->count_seq == j->seq)
		return;
	j->count_seq = j->seq;
	memcpy(j->count_before, j->count, sizeof(int) * (size_t) j->ncounted);
	memset(j->count_moves, 0, sizeof(int) * (size_t) j->ncounted);
}

static void
add_to_counts(Judge *j, const AtomSet *atoms)
{
	begin_counting(j);
	for (int i = 0; i < j->ncounted; i++)
		if (atoms_has(atoms, j->counted[i]))
			j->count[i]++;
}

static inline void
count_atoms(Judge *j, const AtomSet *atoms)
{
	if (atoms_meet(atoms, &j->reg->counted))
		add_to_counts(j, atoms);
}

/* Moments that fields hold and that come now; what is soon from now on. */
static void
apply_moments(Judge *j)
{
	const Regulation *reg = j->reg;

	for (int i = 0; i < reg->ndated; i++)
	{
		const Field *field = &j->fields[reg->dated[i]];
		AtomSet		moment = {0};

		/* one set at that very instant is no event */
		if (!field->holds || field->moment != j->now || field->set_seq == j->seq)
			continue;
		atoms_add(&moment, reg->atom_of_moment[reg->dated[i]]);
		atoms_join(&j->old_facts.all, &moment);
		atoms_join(&j->old_facts.bound, &moment);
		count_atoms(j, &moment);
	}
	for (int i = 0; i < reg->nsoon; i++)
		atoms_add(&j->old_facts.all, reg->soon[i]);
	j->dates_changed = true;
}

/* When the next moment comes, or the next thing begins to be soon. */
static void
set_next_wake(Judge *j)
{
	const Regulation *reg = j->reg;
	instant		wake = INSTANT_NEVER;

	for (int i = 0; i < reg->ndated; i++)
	{
		const Field *field = &j->fields[reg->dated[i]];

		if (field->holds && field->moment > j->now && field->moment < wake)
			wake = field->moment;
	}
	for (int i = 0; i < reg->nsoon; i++)
	{
		const Atom *atom = &reg->atoms[reg->soon[i]];
		const Field *field = &j->fields[atom->number];

		/* soon means: in less than the duration */
		if (field->holds && field->moment != INSTANT_NEVER &&
			field->moment > INSTANT_EVER + atom->value &&
			field->moment - atom->value + 1 > j->now &&
			field->moment - atom->value + 1 < wake)
			wake = field->moment - atom->value + 1;
	}
	j->next_wake = wake;
	j->dates_changed = false;
}

/* What fact number i of this instant gives. */
static inline AtomSet *
take_in(Judge *j, int i)
{
	AtomSet    *given = &j->fact_atoms[i];

	atoms_clear(given);
	apply_fact(j, j->first_fact + i, given);
	return given;
}

/* Several facts of one instant; moving: there are moves among them. */
static void
several_facts(Judge *j, int n, bool moving)
{
	const Fact *facts = &j->line->facts[j->first_fact];

	j->fact_atoms = judge_room(j, j->fact_atoms, &j->room_atoms, n, sizeof(AtomSet));
	for (int i = 0; i < n; i++)
		if (is_contact(&facts[i]))
			j->contact_seq = j->seq;
	j->old_facts = j->new_facts = (Happened) {0};
	for (int i = 0; i < n; i++)
	{
		AtomSet    *given = take_in(j, i);
		bool		is_new = moving && facts[i].kind == FACT_TASK_ADDED;
		Happened   *into = is_new ? &j->new_facts : &j->old_facts;

		atoms_join(&into->all, given);
		if (!(facts[i].flags & FACT_OUT_OF_SCOPE))
			atoms_join(&into->bound, given);
		if (!is_new)
			count_atoms(j, given);
	}
}

/* The usual case: an instant with one fact, which is no move. */
static void
one_fact(Judge *j)
{
	const Fact *fact = &j->line->facts[j->first_fact];
	AtomSet    *given;

	if (is_contact(fact))
		j->contact_seq = j->seq;
	given = take_in(j, 0);
	j->old_facts.all = *given;
	if (fact->flags & FACT_OUT_OF_SCOPE)
		atoms_clear(&j->old_facts.bound);
	else
		j->old_facts.bound = *given;
	count_atoms(j, given);
}

/* Applies everything of this instant but moves; moving: there are some. */
void
happen_facts(Judge *j, bool moving)
{
	const Timeline *line = j->line;
	int			next = j->next_fact;

	j->first_fact = next;
	while (next < line->nfacts && line->facts[next].at == j->now)
		next++;
	j->next_fact = next;
	j->new_applied = !moving;
	if (next == j->first_fact + 1 && !moving)
		one_fact(j);
	else
		several_facts(j, next - j->first_fact, moving);
	if (j->next_wake == j->now)
		apply_moments(j);
	if (j->dates_changed)
		set_next_wake(j);
	mark(j, &j->old_facts.all, j->last_old, j->seq);
}

/* Tasks added now belong to the visit that remains. */
void
happen_new_facts(Judge *j)
{
	mark(j, &j->new_facts.all, j->last_new, j->seq);
	for (int i = j->first_fact; i < j->next_fact; i++)
		if (j->line->facts[i].kind == FACT_TASK_ADDED)
			count_atoms(j, &j->fact_atoms[i - j->first_fact]);
	j->new_applied = true;
}

/*
 * What a move gives belongs to one visit, however many end in this instant:
 * visits that begin later in it count from behind it.
 */
void
happen_move(Judge *j, int visit, const AtomSet *atoms)
{
	mark(j, atoms, j->last_move, visit + 1);
	if (!atoms_meet(atoms, &j->reg->counted))
		return;
	begin_counting(j);
	for (int i = 0; i < j->ncounted; i++)
		if (atoms_has(atoms, j->counted[i]))
		{
			j->count[i]++;
			j->count_moves[i]++;
		}
}
