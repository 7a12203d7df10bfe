/*-------------------------------------------------------------------------
 *
 * judge.c
 *	  The judge: sweeps over a deal's timeline once and judges it.
 *
 * Vocabulary: a fact is what happened; a timeline is all facts of one deal in
 * order of time; a visit is a stay in a stage; a duty is what a rule asks for
 * once it arose; a deadline is a duty's due moment; a breach is a duty unmet
 * by then, or a thing done that may not be; a finding is what the judge says
 * of a duty or a breach.
 *
 * The sweep goes from instant to instant: those of facts, and those at which
 * a moment held by a field comes.  At each, all facts are applied first, then
 * conditions are looked at (DESIGN section 4, Meaning of time):
 *
 *	1. facts other than moves change the state and give atoms;
 *	2. moves end visits and begin others, in order;
 *	3. each visit concerned sees the atoms that belong to it (duties.c);
 *	4. what must hold all the time is looked at for the visit that remains.
 *
 * The work for an instant is that of the rules of the visit's stage and of
 * the duties that are open, so a deal of E events costs
 * O(E x rules that look at its stages).
 *
 * Pure C: no table, no clock, no global, nothing of the server.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "judge_int.h"

/* Every so many instants the caller may be interrupted. */
#define PAUSE_EVERY		1024

/* Makes room for at least needed elements; contents are kept. */
void *
judge_room(Judge *j, void *array, int *room, int needed, size_t size)
{
	if (needed <= *room)
		return array;
	*room = *room * 2 > needed ? *room * 2 : (needed > 16 ? needed : 16);
	return j->memory.grow(j->memory.self, array, size * (size_t) *room);
}

static void *
make_array(Judge *j, int n, size_t size)
{
	return j->memory.grow(j->memory.self, NULL, size * (size_t) (n + 1));
}

Judge *
judge_create(const Regulation *regulation, const Memory *memory,
			 judge_pause pause, void *pause_self)
{
	Judge	   *j = memory->grow(memory->self, NULL, sizeof(Judge));

	memset(j, 0, sizeof(*j));
	j->reg = regulation;
	j->memory = *memory;
	j->pause = pause;
	j->pause_self = pause_self;
	j->counted = make_array(j, regulation->natoms, sizeof(int));
	j->counter_of = make_array(j, regulation->natoms, sizeof(int));
	for (int a = 0; a < regulation->natoms; a++)
	{
		j->counter_of[a] = NO_NUMBER;
		if (!atoms_has(&regulation->counted, a))
			continue;
		j->counter_of[a] = j->ncounted;
		j->counted[j->ncounted++] = a;
	}
	j->last_old = make_array(j, regulation->natoms, sizeof(int));
	j->last_new = make_array(j, regulation->natoms, sizeof(int));
	j->last_move = make_array(j, regulation->natoms, sizeof(int));
	j->count = make_array(j, j->ncounted, sizeof(int));
	j->count_before = make_array(j, j->ncounted, sizeof(int));
	j->count_moves = make_array(j, j->ncounted, sizeof(int));
	j->first_visit = make_array(j, regulation->nstages, sizeof(int));
	j->visits_of = make_array(j, regulation->nstages + 1, sizeof(int));
	j->left_of = make_array(j, regulation->nstages, sizeof(int));
	j->open_of_kind = make_array(j, regulation->ntask_kinds, sizeof(int));
	j->open_visit = make_array(j, regulation->nrules, sizeof(int));
	j->armed_visit = make_array(j, regulation->nrules, sizeof(int));
	j->gap = make_array(j, regulation->nrules, sizeof(bool));
	return j;
}

static void
begin_deal(Judge *j, const Timeline *line)
{
	const Regulation *reg = j->reg;
	int			nfields = line->nfields > reg->nfields ? line->nfields : reg->nfields;

	j->line = line;
	j->seq = 0;
	j->next_fact = 0;
	j->next_move = 0;
	j->nvisits = 0;
	j->nlive = 0;
	j->nfindings = 0;
	j->nresponsible = 0;
	j->open_tasks = 0;
	j->missed_seq = j->contact_seq = j->comment_seq = 0;
	j->counted_miss_seq = 0;
	j->is_signed = j->is_paid = j->signed_and_paid = false;
	j->next_wake = INSTANT_NEVER;
	j->fields = judge_room(j, j->fields, &j->room_fields, nfields + 1, sizeof(Field));
	for (int i = 0; i < nfields; i++)
		j->fields[i] = (Field) {0, INSTANT_NEVER, 0, false};
	memset(j->last_old, 0, sizeof(int) * (size_t) reg->natoms);
	memset(j->last_new, 0, sizeof(int) * (size_t) reg->natoms);
	memset(j->last_move, 0, sizeof(int) * (size_t) reg->natoms);
	memset(j->count, 0, sizeof(int) * (size_t) j->ncounted);
	memset(j->visits_of, 0, sizeof(int) * (size_t) (reg->nstages + 1));
	memset(j->left_of, 0, sizeof(int) * (size_t) reg->nstages);
	memset(j->open_of_kind, 0, sizeof(int) * (size_t) reg->ntask_kinds);
	memset(j->gap, 0, sizeof(bool) * (size_t) reg->nrules);
	for (int i = 0; i < reg->nstages; i++)
		j->first_visit[i] = -1;
	for (int i = 0; i < reg->nrules; i++)
		j->open_visit[i] = j->armed_visit[i] = -1;
	atoms_clear(&j->live_watch);
}


/* ---- facts into atoms ---- */

/* The first fact of this instant that gave one of the atoms, or -1. */
int
judge_find_fact(const Judge *j, const AtomSet *atoms)
{
	for (int i = j->first_fact; i < j->next_fact; i++)
		if (atoms_meet(&j->fact_atoms[i - j->first_fact].all, atoms))
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
	bool		touch = fact->kind == FACT_CALL_OUT || answered;
	Visit	   *visit = j->nvisits > 0 ? &j->visits[j->nvisits - 1] : NULL;

	give(atoms, fact->kind == FACT_CALL_OUT ? ATOM_CALL_OUT : ATOM_CALL_IN);
	if (fact->kind == FACT_CALL_IN)
		give(atoms, ATOM_CLIENT_REQUEST);
	if (touch && !(fact->flags & FACT_OUT_OF_SCOPE))
	{
		give(atoms, ATOM_TOUCH);
		give(atoms, ATOM_ACTIVITY);
	}
	if (fact->kind == FACT_CALL_IN || answered)
		give(atoms, ATOM_ACTIVITY);
	if (answered)
	{
		give(atoms, ATOM_TALK);
		give(atoms, ATOM_CONTACT);
	}
	else if (fact->kind == FACT_CALL_OUT)
		missed_call(j, atoms);
	for (int i = 0; i < reg->nlong_calls; i++)
		if (fact->u.call.duration >= reg->atoms[reg->long_calls[i]].value)
			give(atoms, reg->long_calls[i]);
	if (visit)
		visit->last_call = answered ? CALL_TALK : CALL_MISSED;
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

	give(atoms, ATOM_TASKS_CHANGED);
	j->open_tasks += change;
	if (kind != NO_NUMBER)
		j->open_of_kind[kind] += change;
	if (fact->kind == FACT_TASK_ADDED)
	{
		give(atoms, ATOM_TASK_ADDED);
		if (kind != NO_NUMBER)
			give(atoms, j->reg->atom_of_added[kind]);
		give(atoms, fact->flags & FACT_BY_BOT ? ATOM_TASK_BY_BOT : ATOM_TASK_BY_HAND);
		if (fact->flags & FACT_BY_BOT)
			give(atoms, ATOM_BOT);
	}
	else if (fact->kind == FACT_TASK_DONE)
	{
		give(atoms, ATOM_TASK_DONE);
		give(atoms, ATOM_ACTIVITY);
		if (kind != NO_NUMBER)
			give(atoms, j->reg->atom_of_done[kind]);
	}
}

static void
add_responsible(Judge *j, instant at, int64_t manager_id)
{
	j->responsible = judge_room(j, j->responsible, &j->room_responsible,
								j->nresponsible + 1, sizeof(Responsible));
	j->responsible[j->nresponsible++] = (Responsible) {at, manager_id};
}

/* What a scenario chosen says of the call; one that nobody knows says nothing. */
static ScenarioOutcome
outcome_of(const Judge *j, const Fact *fact)
{
	if (fact->u.scenario.number == NO_NUMBER)
		return OUTCOME_ANY;
	return rules_outcome(j->reg, fact->u.scenario.number, fact->at);
}

static void
apply_scenario(Judge *j, const Fact *fact, AtomSet *atoms)
{
	int			number = fact->u.scenario.number;

	give(atoms, ATOM_SCENARIO);
	give(atoms, ATOM_ACTIVITY);
	if (number != NO_NUMBER)
		give(atoms, j->reg->atom_of_scenario[number]);
	if (j->nvisits > 0)
		j->visits[j->nvisits - 1].last_outcome = outcome_of(j, fact);
	if (fact->flags & FACT_BY_BOT)
	{
		give(atoms, ATOM_BOT_ACT);
		give(atoms, ATOM_BOT);
	}
}

/* Applies one fact that is no move and gives its atoms. */
static void
apply_fact(Judge *j, int index, AtomSet *atoms)
{
	const Fact *fact = &j->line->facts[index];
	bool		by_bot = (fact->flags & FACT_BY_BOT) != 0;

	switch ((FactKind) fact->kind)
	{
		case FACT_MOVE:
			break;
		case FACT_CALL_IN:
		case FACT_CALL_OUT:
			apply_call(j, fact, atoms);
			break;
		case FACT_MESSAGE_IN:
			give(atoms, ATOM_MESSAGE_IN);
			give(atoms, ATOM_CONTACT);
			give(atoms, ATOM_CLIENT_REQUEST);
			give(atoms, ATOM_ACTIVITY);
			break;
		case FACT_MESSAGE_OUT:
			give(atoms, ATOM_MESSAGE_OUT);
			give(atoms, by_bot ? ATOM_BOT_MESSAGE : ATOM_MESSAGE_BY_HAND);
			if (by_bot)
				give(atoms, ATOM_BOT);
			else if (!(fact->flags & FACT_OUT_OF_SCOPE))
			{
				give(atoms, ATOM_TOUCH);
				give(atoms, ATOM_ACTIVITY);
			}
			break;
		case FACT_REQUEST:
			give(atoms, ATOM_CLIENT_REQUEST);
			give(atoms, ATOM_ACTIVITY);
			break;
		case FACT_VISIT:
			give(atoms, ATOM_CONTACT);
			give(atoms, ATOM_CLIENT_REQUEST);
			give(atoms, ATOM_ACTIVITY);
			break;
		case FACT_SCENARIO:
			apply_scenario(j, fact, atoms);
			break;
		case FACT_COMMENT:
			j->comment_seq = j->seq;
			give(atoms, ATOM_COMMENT);
			give(atoms, ATOM_ACTIVITY);
			break;
		case FACT_FIELD:
			apply_field(j, fact, atoms);
			break;
		case FACT_RESPONSIBLE:
			add_responsible(j, j->now, fact->u.manager);
			break;
		case FACT_ROBOT:
			give(atoms, ATOM_BOT_ACT);
			give(atoms, ATOM_BOT);
			break;
		case FACT_VERDICT:
			duties_verdict(j, index);
			break;
		case FACT_TASK_ADDED:
		case FACT_TASK_DONE:
		case FACT_TASK_GONE:
			apply_task(j, fact, atoms);
			break;
	}
}

static void
join_happened(Happened *into, const Happened *what)
{
	atoms_join(&into->all, &what->all);
	atoms_join(&into->bound, &what->bound);
}

/* Notes that atoms happened now, in the old or the new class. */
static void
mark(const Judge *j, const AtomSet *atoms, int *last)
{
	for (int w = 0; w < ATOM_WORDS; w++)
		for (uint64_t bits = atoms->w[w]; bits != 0; bits &= bits - 1)
			last[w * 64 + __builtin_ctzll(bits)] = j->seq;
}

static void
count_atoms(Judge *j, const AtomSet *atoms)
{
	for (int i = 0; i < j->ncounted; i++)
		if (atoms_has(atoms, j->counted[i]))
			j->count[i]++;
}

/* Moments that fields hold and that come now; what is soon from now on. */
static void
apply_moments(Judge *j)
{
	const Regulation *reg = j->reg;

	for (int i = 0; i < reg->nfields; i++)
	{
		const Field *field = &j->fields[i];

		/* one set at that very instant is no event */
		if (reg->atom_of_moment[i] != NO_NUMBER && field->holds &&
			field->moment == j->now && field->set_seq < j->seq)
		{
			atoms_add(&j->old_facts.all, reg->atom_of_moment[i]);
			atoms_add(&j->old_facts.bound, reg->atom_of_moment[i]);
			if (j->counter_of[reg->atom_of_moment[i]] != NO_NUMBER)
				j->count[j->counter_of[reg->atom_of_moment[i]]]++;
		}
	}
	for (int i = 0; i < reg->nsoon; i++)
		atoms_add(&j->old_facts.all, reg->soon[i]);
}

/* When the next moment comes, or the next thing begins to be soon. */
static void
set_next_wake(Judge *j)
{
	const Regulation *reg = j->reg;
	instant		wake = INSTANT_NEVER;

	for (int i = 0; i < reg->nfields; i++)
		if (reg->atom_of_moment[i] != NO_NUMBER && j->fields[i].holds &&
			j->fields[i].moment > j->now && j->fields[i].moment < wake)
			wake = j->fields[i].moment;
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
}

/* Applies everything of this instant but moves. */
static void
apply_facts(Judge *j)
{
	const Timeline *line = j->line;
	int			first = j->next_fact;
	int			n = 0;

	memset(&j->old_facts, 0, sizeof(Happened));
	memset(&j->new_facts, 0, sizeof(Happened));
	j->new_applied = false;
	memcpy(j->count_before, j->count, sizeof(int) * (size_t) j->ncounted);
	memset(j->count_moves, 0, sizeof(int) * (size_t) j->ncounted);
	for (; first + n < line->nfacts && line->facts[first + n].at == j->now; n++)
		if (is_contact(&line->facts[first + n]))
			j->contact_seq = j->seq;
	j->first_fact = first;
	j->next_fact = first + n;
	j->fact_atoms = judge_room(j, j->fact_atoms, &j->room_atoms, n, sizeof(Happened));
	for (int i = 0; i < n; i++)
	{
		const Fact *fact = &line->facts[first + i];
		Happened   *given = &j->fact_atoms[i];

		memset(given, 0, sizeof(*given));
		apply_fact(j, first + i, &given->all);
		if (!(fact->flags & FACT_OUT_OF_SCOPE))
			given->bound = given->all;
		if (fact->kind == FACT_TASK_ADDED)
			join_happened(&j->new_facts, given);
		else
		{
			join_happened(&j->old_facts, given);
			if (j->ncounted > 0)
				count_atoms(j, &given->all);
		}
	}
	if (j->next_wake == j->now)
		apply_moments(j);
	set_next_wake(j);
	mark(j, &j->old_facts.all, j->last_old);
}

/* Tasks added now belong to the visit that remains. */
static void
apply_new(Judge *j)
{
	mark(j, &j->new_facts.all, j->last_new);
	if (j->ncounted > 0)
		for (int i = j->first_fact; i < j->next_fact; i++)
			if (j->line->facts[i].kind == FACT_TASK_ADDED)
				count_atoms(j, &j->fact_atoms[i - j->first_fact].all);
	j->new_applied = true;
}


/* ---- moves and visits ---- */

/*
 * What a move gives belongs to one visit, however many end in this instant:
 * visits that begin later in it count from behind it.
 */
static void
give_visit(Judge *j, int visit, const AtomSet *atoms)
{
	for (int w = 0; w < ATOM_WORDS; w++)
		for (uint64_t bits = atoms->w[w]; bits != 0; bits &= bits - 1)
			j->last_move[w * 64 + __builtin_ctzll(bits)] = visit + 1;
	for (int i = 0; i < j->ncounted; i++)
		if (atoms_has(atoms, j->counted[i]))
		{
			j->count[i]++;
			j->count_moves[i]++;
		}
}

/*
 * What a move gives to the visit that it ends.  That the deal enters a stage
 * (ATOM_ENTER, which sets duties in motion) belongs to the visit that begins.
 */
static void
atoms_of_move(const Judge *j, const Move *move, Happened *happened)
{
	memset(happened, 0, sizeof(*happened));
	atoms_add(&happened->all, ATOM_LEAVE);
	if (move->observed && move->to >= 0)
		give(&happened->all, j->reg->atom_of_stage[move->to]);
	if (move->by_bot)
	{
		atoms_add(&happened->all, ATOM_BOT_ACT);
		atoms_add(&happened->all, ATOM_BOT);
	}
	if (move->binds)
		happened->bound = happened->all;
}

static void
end_visit(Judge *j, const Move *move, Happened *happened)
{
	int			number = j->nvisits - 1;
	int			stage = j->visits[number].stage;
	Happened   *given = &j->fact_atoms[move->fact - j->first_fact];

	atoms_of_move(j, move, given);
	join_happened(happened, given);
	atoms_join(&j->everything, &given->all);
	give_visit(j, number, &given->all);
	duties_facts(j, number, happened);
	duties_recheck(j, &given->all, false);
	duties_move(j, move, number, false);
	duties_end_visit(j, number);
	memset(given, 0, sizeof(*given));
	if (stage >= 0)
		j->left_of[stage]++;
}

/*
 * Whether the regulation asks for a comment on the move (or on where the deal
 * begins).  An illegal move asks for none, nor does one nobody observed.
 */
bool
judge_asks_comment(const Judge *j, const Move *move)
{
	const Transition *t;

	if (!move->observed || move->to < 0 || move->from == STAGE_UNKNOWN)
		return false;
	t = rules_transition(j->reg, move->from == STAGE_NONE ? NO_NUMBER : move->from,
						 move->to, j->now);
	return t && t->comment_required;
}

/*
 * Begins the visit that a move leads to.  A visit that ends in the same
 * instant, and the deal's first one, see all of the instant's facts; another
 * one only those that belong to it.
 */
static void
begin_visit(Judge *j, const Move *move, bool passing)
{
	bool		first = j->nvisits == 0;
	int			number = j->nvisits++;
	Visit	   *visit;
	ScenarioOutcome last_outcome = OUTCOME_ANY;
	int			last_call = CALL_NONE;

	j->visits = judge_room(j, j->visits, &j->room_visits, j->nvisits, sizeof(Visit));
	j->bases = judge_room(j, j->bases, &j->room_bases, j->nvisits * j->ncounted + 1,
						  sizeof(int));
	for (int i = 0; i < j->ncounted; i++)
		j->bases[number * j->ncounted + i] = passing || first ?
			j->count_before[i] + j->count_moves[i] : j->count[i];
	if (passing || first)
		for (int i = j->first_fact; i < j->next_fact; i++)
		{
			const Fact *fact = &j->line->facts[i];

			if (fact->kind == FACT_SCENARIO)
				last_outcome = outcome_of(j, fact);
			else if (fact->kind == FACT_CALL_IN || fact->kind == FACT_CALL_OUT)
				last_call = fact->flags & FACT_ANSWERED ? CALL_TALK : CALL_MISSED;
		}
	visit = &j->visits[number];
	*visit = (Visit) {
		.stage = move->to,
		.start = j->now,
		.start_seq = j->seq,
		.ordinal = ++j->visits_of[move->to < 0 ? j->reg->nstages : move->to],
		.old_from = passing || first ? j->seq : j->seq + 1,
		.new_from = j->seq,
		.moved_by_bot = move->by_bot,
		.comment_required = judge_asks_comment(j, move),
		.last_outcome = last_outcome,
		.last_call = last_call,
	};
	if (move->to >= 0 && j->first_visit[move->to] < 0)
		j->first_visit[move->to] = number;
}

/*
 * What a deal's first move gives.  Nothing ends with it, so what a move gives
 * to the visit that it ends belongs to the first visit.
 */
static void
atoms_of_beginning(Judge *j, const Move *move, AtomSet *atoms)
{
	if (!move->observed)
		return;
	if (move->to >= 0)
		give(atoms, j->reg->atom_of_stage[move->to]);
	if (move->by_bot)
	{
		atoms_add(atoms, ATOM_BOT_ACT);
		atoms_add(atoms, ATOM_BOT);
	}
	give_visit(j, 0, atoms);
}

/* What entering gives to the visit that begins, beside that. */
static void
atoms_of_entering(Judge *j, const Move *move, const AtomSet *beginning, Happened *happened)
{
	memset(happened, 0, sizeof(*happened));
	if (!move->observed)
		return;
	atoms_add(&happened->all, ATOM_ENTER);
	atoms_add(&happened->all, ATOM_ACTIVITY);
	give_visit(j, j->nvisits - 1, &happened->all);
	atoms_join(&happened->all, beginning);
	if (move->binds)
		happened->bound = happened->all;
	atoms_join(&j->everything, &happened->all);
}

/* The moves of this instant, one after the other. */
static void
apply_moves(Judge *j)
{
	Happened	happened = j->old_facts;
	AtomSet		everything = j->old_facts.all;

	atoms_join(&everything, &j->new_facts.all);
	while (j->next_move < j->nmoves && j->moves[j->next_move].at == j->now)
	{
		const Move *move = &j->moves[j->next_move++];
		bool		passing = j->next_move < j->nmoves &&
			j->moves[j->next_move].at == j->now;
		bool		first = j->nvisits == 0;
		Happened   *given = &j->fact_atoms[move->fact - j->first_fact];
		AtomSet		beginning = {0};

		if (!first)
			end_visit(j, move, &happened);
		begin_visit(j, move, passing);
		if (first)
			atoms_of_beginning(j, move, &beginning);
		if (!passing)
			apply_new(j);
		duties_flow(j, move);
		duties_move(j, move, j->nvisits - 1, true);
		atoms_of_entering(j, move, &beginning, &happened);
		*given = happened;
		if (passing || first)
			join_happened(&happened, &j->old_facts);
		if (!passing)
		{
			join_happened(&happened, &j->new_facts);
			duties_facts(j, j->nvisits - 1, &happened);
		}
	}
	duties_recheck(j, &everything, true);
}

static void
run_instant(Judge *j, instant at)
{
	j->now = at;
	j->seq++;
	apply_facts(j);
	j->everything = j->old_facts.all;
	atoms_join(&j->everything, &j->new_facts.all);
	if (j->next_move < j->nmoves && j->moves[j->next_move].at == at)
	{
		if (j->nlive > 0)
			duties_recheck(j, &j->everything, false);
		apply_moves(j);
		duties_always(j, &j->old_facts.all, true);
		return;
	}
	apply_new(j);
	if (j->nlive > 0)
		duties_recheck(j, &j->everything, false);
	if (j->nvisits == 0)
		return;
	join_happened(&j->old_facts, &j->new_facts);
	duties_facts(j, j->nvisits - 1, &j->old_facts);
	duties_always(j, &j->old_facts.all, false);
}


/* ---- the end ---- */

static int64_t
responsible_at(const Judge *j, instant at)
{
	int			low = 0;
	int			high = j->nresponsible;

	/* the last one from at or before */
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (j->responsible[middle].at <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? j->responsible[low - 1].manager_id : j->line->manager_id;
}

static bool
comes_before(const Finding *a, const Finding *b)
{
	if (a->arose_at != b->arose_at)
		return a->arose_at < b->arose_at;
	if (a->rule != b->rule)
		return a->rule < b->rule;
	return a->task_id < b->task_id;
}

/*
 * What arises at one instant for one rule (and task) is one duty.  Where a
 * deal passes through a stage within the instant, two may have arisen: the
 * breached one stands, of equals the later; of illegal moves the first.
 */
static bool
replaces(const Judge *j, const Finding *later, const Finding *earlier)
{
	if (j->reg->rules[later->rule].form == FORM_FLOW)
		return false;
	return later->breached_at != INSTANT_NEVER || earlier->breached_at == INSTANT_NEVER;
}

/* Leaves out what is not to be judged, and puts the rest in order. */
static void
settle_findings(Judge *j)
{
	int			kept = 0;

	for (int i = 0; i < j->nfindings; i++)
	{
		Finding		f = j->findings[i];
		int			k;

		if (f.arose_at < j->line->known_from)
			continue;
		if (f.breached_at != INSTANT_NEVER)
			f.manager_id = responsible_at(j, f.breached_at);
		else if (f.ended_at != INSTANT_NEVER)
			f.manager_id = responsible_at(j, f.ended_at);
		else
			f.manager_id = responsible_at(j, j->now);
		/* they arise in order of time, so only an instant's own are sorted */
		for (k = kept; k > 0 && comes_before(&f, &j->findings[k - 1]); k--)
			;
		if (k > 0 && !comes_before(&j->findings[k - 1], &f))
		{
			if (replaces(j, &f, &j->findings[k - 1]))
				j->findings[k - 1] = f;
			continue;
		}
		memmove(&j->findings[k + 1], &j->findings[k], sizeof(Finding) * (size_t) (kept - k));
		j->findings[k] = f;
		kept++;
	}
	j->nfindings = kept;
}

int
judge_deal(Judge *j, const Timeline *line, const Finding **findings)
{
	bool		deleted = line->deleted_at <= line->as_of &&
		line->deleted_at != INSTANT_NEVER;
	instant		end = deleted ? line->deleted_at : line->as_of;

	if (end == INSTANT_NEVER)
		end--;					/* NEVER means that something does not come */
	begin_deal(j, line);
	moves_collect(j, end);
	add_responsible(j, INSTANT_EVER, line->manager_id);
	for (;;)
	{
		instant		next = j->next_wake;

		if (j->next_fact < line->nfacts && line->facts[j->next_fact].at < next)
			next = line->facts[j->next_fact].at;
		if (next > end)
			break;
		run_instant(j, next);
		if (j->pause && j->seq % PAUSE_EVERY == 0)
			j->pause(j->pause_self);
	}
	duties_finish(j, end, deleted);
	settle_findings(j);
	*findings = j->findings;
	return j->nfindings;
}

int
judge_moves(Judge *j, const Timeline *line, const JudgedMove **moves)
{
	j->line = line;
	moves_collect(j, INSTANT_NEVER);
	j->line = NULL;
	j->told = judge_room(j, j->told, &j->room_told, j->nmoves + 1, sizeof(JudgedMove));
	for (int i = 0; i < j->nmoves; i++)
		j->told[i] = (JudgedMove) {j->moves[i].at, j->moves[i].from, j->moves[i].to};
	*moves = j->told;
	return j->nmoves;
}

int
judge_last_stage(Judge *j, const Timeline *line)
{
	j->line = line;
	moves_collect(j, INSTANT_NEVER);
	j->line = NULL;
	return j->nmoves > 0 ? j->moves[j->nmoves - 1].to : STAGE_NONE;
}
