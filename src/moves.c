/*-------------------------------------------------------------------------
 *
 * moves.c
 *	  Which moves a deal really made (part of the judge, pure).
 *
 * DESIGN section 4, Meaning of time: a move to the stage where the deal
 * already is, is no move; nor are a move and the one that takes it back
 * within undo_window; moves of one instant are chained by from_stage.
 * DESIGN section 3: a stage event whose from_stage is not where the deal
 * stood means that a move went unobserved.
 *
 *-------------------------------------------------------------------------
 */
#include "judge_int.h"

/* More moves in one instant than this are chained greedily. */
#define MAX_CHAIN	8

static bool
fits(const Fact *fact, int stage)
{
	return fact->u.move.from == STAGE_NONE || fact->u.move.from == stage;
}

/*
 * Orders the moves group[k..n) so that each begins where the one before it
 * ended; of several such orders the first by the order given.  False (and the
 * group as it was) where there is none.
 */
static bool
chain(const Fact *facts, int *group, int k, int n, int stage)
{
	if (k == n)
		return true;
	for (int i = k; i < n; i++)
	{
		int			chosen = group[i];

		if (!fits(&facts[chosen], stage))
			continue;
		for (int m = i; m > k; m--)
			group[m] = group[m - 1];
		group[k] = chosen;
		if (chain(facts, group, k + 1, n, facts[chosen].u.move.to))
			return true;
		for (int m = k; m < i; m++)
			group[m] = group[m + 1];
		group[i] = chosen;
	}
	return false;
}

/* As far as a chain goes; then the next in the order given, and on from there. */
static void
chain_greedily(const Fact *facts, int *group, int n, int stage)
{
	for (int k = 0; k < n; k++)
	{
		int			pick = k;
		int			chosen;

		for (int i = k; i < n; i++)
			if (fits(&facts[group[i]], stage))
			{
				pick = i;
				break;
			}
		chosen = group[pick];
		for (int m = pick; m > k; m--)
			group[m] = group[m - 1];
		group[k] = chosen;
		stage = facts[chosen].u.move.to;
	}
}

/*
 * Takes a move in, or takes it and the one before it out.  An event from a
 * stage to the same stage is a move where the deal stood elsewhere: how it
 * came there went unobserved.
 */
static void
add_move(Judge *j, int index)
{
	const Fact *fact = &j->line->facts[index];
	Move	   *last = j->nmoves > 0 ? &j->moves[j->nmoves - 1] : NULL;
	int			stage = last ? last->to : STAGE_NONE;
	Move	   *move;

	if (fact->u.move.to == stage)
		return;
	if (last && last->from == fact->u.move.to &&
		fact->at - last->at <= j->reg->undo_window)
	{
		j->nmoves--;
		return;
	}
	j->moves = judge_room(j, j->moves, &j->room_moves, j->nmoves + 1, sizeof(Move));
	move = &j->moves[j->nmoves++];
	move->at = fact->at;
	move->fact = index;
	move->from = stage;
	move->to = fact->u.move.to;
	move->observed = fits(fact, stage) && (fact->flags & FACT_UNOBSERVED) == 0;
	move->by_bot = (fact->flags & FACT_BY_BOT) != 0;
	move->binds = (fact->flags & FACT_OUT_OF_SCOPE) == 0;
}

/* Fills j->moves with those up to and including end. */
void
moves_collect(Judge *j, instant end)
{
	const Timeline *line = j->line;
	int			group[MAX_CHAIN];

	j->nmoves = 0;
	for (int i = 0; i < line->nfacts;)
	{
		instant		at = line->facts[i].at;
		int			stage;
		int			first = i;
		int			n = 0;

		/* what stands before an instant's first move is none */
		if (line->facts[i].kind != FACT_MOVE)
		{
			i++;
			continue;
		}
		if (at > end)
			break;
		stage = j->nmoves > 0 ? j->moves[j->nmoves - 1].to : STAGE_NONE;
		for (; i < line->nfacts && line->facts[i].at == at; i++)
		{
			if (line->facts[i].kind != FACT_MOVE)
				continue;
			if (n < MAX_CHAIN)
				group[n] = i;
			n++;
		}
		if (n > MAX_CHAIN)
		{
			int		   *many;

			many = j->many = judge_room(j, j->many, &j->room_many, n, sizeof(int));
			n = 0;
			for (int k = first; k < i; k++)
				if (line->facts[k].kind == FACT_MOVE)
					many[n++] = k;
			chain_greedily(line->facts, many, n, stage);
			for (int k = 0; k < n; k++)
				add_move(j, many[k]);
			continue;
		}
		if (n > 1 && !chain(line->facts, group, 0, n, stage))
			chain_greedily(line->facts, group, n, stage);
		for (int k = 0; k < n; k++)
			add_move(j, group[k]);
	}
}
