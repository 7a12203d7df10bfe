/*-------------------------------------------------------------------------
 *
 * visits.c
 *	  Moves end visits and begin others (part of the judge, pure).
 *
 * What of an instant belongs to which visit is settled here: DESIGN section 4,
 * Meaning of time, and docs/judge.md.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "judge_int.h"

static void
give_stage(const Judge *j, const Move *move, AtomSet *atoms)
{
	if (move->observed && move->to >= 0 && j->reg->atom_of_stage[move->to] != NO_NUMBER)
		atoms_add(atoms, j->reg->atom_of_stage[move->to]);
	if (move->by_bot)
	{
		atoms_add(atoms, ATOM_BOT_ACT);
		atoms_add(atoms, ATOM_BOT);
	}
}

/*
 * What the regulation says of a move (or of where the deal begins).  An
 * illegal move asks for no comment, nor does one that nobody observed.
 */
static void
look_up(const Judge *j, Move *move)
{
	const Transition *way;

	move->illegal = move->comment_required = false;
	if (!move->observed || move->to < 0 || move->from == STAGE_UNKNOWN)
		return;
	way = rules_transition(j->reg, move->from == STAGE_NONE ? NO_NUMBER : move->from,
						   move->to, j->now);
	move->illegal = way == NULL;
	move->comment_required = way && way->comment_required;
}

static void
answering_facts(Judge *j, int visit, const Happened *happened)
{
	answering_answer(j, &happened->all);
	answering_trigger(j, visit, happened);
}

/*
 * What a move gives belongs to the visit that it ends.  That the deal enters a
 * stage (ATOM_ENTER, which sets duties in motion) belongs to the visit that
 * begins.
 */
static void
end_visit(Judge *j, const Move *move, Happened *happened)
{
	int			number = j->nvisits - 1;
	int			stage = j->visits[number].stage;
	AtomSet    *given = &j->fact_atoms[move->fact - j->first_fact];

	atoms_clear(given);
	atoms_add(given, ATOM_LEAVE);
	give_stage(j, move, given);
	atoms_join(&happened->all, given);
	if (move->binds)
		atoms_join(&happened->bound, given);
	atoms_join(&j->everything, given);
	happen_move(j, number, given);
	answering_facts(j, number, happened);
	holding_recheck(j, given);
	holding_leave(j, move, number);
	duties_end_visit(j, number);
	atoms_clear(given);
	if (stage >= 0)
		j->left_of[stage]++;
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
		j->bases[number * j->ncounted + i] = (passing || first) && j->count_seq == j->seq ?
			j->count_before[i] + j->count_moves[i] : j->count[i];
	if (passing || first)
		for (int i = j->first_fact; i < j->next_fact; i++)
		{
			const Fact *fact = &j->line->facts[i];

			if (fact->kind == FACT_SCENARIO)
				last_outcome = happen_outcome(j, fact);
			else if (fact->kind == FACT_CALL_IN || fact->kind == FACT_CALL_OUT)
				last_call = fact->flags & FACT_ANSWERED ? CALL_TALK : CALL_MISSED;
		}
	j->here = rules_of_stage(j, move->to);
	visit = &j->visits[number];
	*visit = (Visit) {
		.stage = move->to,
		.start = j->now,
		.start_seq = j->seq,
		.ordinal = ++j->visits_of[move->to < 0 ? j->reg->nstages : move->to],
		.old_from = passing || first ? j->seq : j->seq + 1,
		.new_from = j->seq,
		.moved_by_bot = move->by_bot,
		.comment_required = move->comment_required,
		.last_outcome = last_outcome,
		.last_call = last_call,
	};
	if (move->to >= 0 && j->first_visit[move->to] == 0)
		j->first_visit[move->to] = number + 1;
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
	give_stage(j, move, atoms);
	happen_move(j, 0, atoms);
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
	happen_move(j, j->nvisits - 1, &happened->all);
	atoms_join(&happened->all, beginning);
	if (move->binds)
		happened->bound = happened->all;
	atoms_join(&j->everything, &happened->all);
}

/* The moves of this instant, one after the other. */
void
visits_move(Judge *j)
{
	Happened	happened = j->old_facts;

	while (j->next_move < j->nmoves && j->moves[j->next_move].at == j->now)
	{
		Move	   *move = &j->moves[j->next_move++];
		bool		passing = j->next_move < j->nmoves &&
			j->moves[j->next_move].at == j->now;
		bool		first = j->nvisits == 0;
		AtomSet    *given = &j->fact_atoms[move->fact - j->first_fact];
		AtomSet		beginning = {0};

		look_up(j, move);
		if (!first)
			end_visit(j, move, &happened);
		begin_visit(j, move, passing);
		if (first)
			atoms_of_beginning(j, move, &beginning);
		if (!passing)
			happen_new_facts(j);
		holding_flow(j, move);
		holding_enter(j, move, j->nvisits - 1);
		atoms_of_entering(j, move, &beginning, &happened);
		*given = happened.all;
		if (passing || first)
			join_happened(&happened, &j->old_facts);
		if (!passing)
		{
			join_happened(&happened, &j->new_facts);
			answering_facts(j, j->nvisits - 1, &happened);
		}
	}

	/* what only moves change (visited, stage) is watched by what they give */
	atoms_add(&j->everything, ATOM_ENTER);
	holding_recheck(j, &j->everything);
}
