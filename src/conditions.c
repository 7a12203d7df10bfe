/*-------------------------------------------------------------------------
 *
 * conditions.c
 *	  Does a condition hold now?  (part of the judge, pure)
 *
 * Conditions are looked at when all facts of the instant have been applied
 * (DESIGN section 4, Tokens and Meaning of time).
 *
 *-------------------------------------------------------------------------
 */
#include "judge_int.h"

/*
 * Tasks added in this instant that no visit has yet: they belong to the one
 * that its last move begins, but to the deal's life already.
 */
static int
times_waiting(const Judge *j, int atom)
{
	int			n = 0;

	if (j->new_applied || !atoms_has(&j->new_facts.all, atom))
		return 0;
	for (int i = j->first_fact; i < j->next_fact; i++)
		n += j->line->facts[i].kind == FACT_TASK_ADDED &&
			atoms_has(&j->fact_atoms[i - j->first_fact], atom);
	return n;
}

/* Has the atom happened, often enough, in the stretch looked at? */
static bool
has_happened(const Judge *j, int atom, int times, const Look *look)
{
	const Visit *visit = &j->visits[look->visit];

	if (times > 1)
	{
		int			counter = j->counter_of[atom];
		int			base = look->deal ? 0 : j->bases[look->visit * j->ncounted + counter];

		return j->count[counter] - base + (look->deal ? times_waiting(j, atom) : 0) >= times;
	}
	if (look->deal)
		return j->last_old[atom] > 0 || j->last_new[atom] > 0 ||
			j->last_move[atom] > 0 || times_waiting(j, atom) > 0;
	return j->last_old[atom] >= visit->old_from || j->last_new[atom] >= visit->new_from ||
		j->last_move[atom] > look->visit;
}

/*
 * scenario_matches: the visit's last scenario does not contradict the calls
 * (WRK-7: the choice must fit what really came of the talk).
 */
static bool
scenario_matches(const Judge *j, const Visit *visit)
{
	switch (visit->last_outcome)
	{
		case OUTCOME_MISSED:
			return visit->last_call != CALL_TALK;
		case OUTCOME_REACHED:
			return j->contact_seq > 0;
		case OUTCOME_ANY:
			break;
	}
	return true;
}

static bool
comment_where_required(const Judge *j, const Look *look)
{
	return !look->comment_required ||
		j->comment_seq >= j->visits[look->visit].old_from ||
		(j->contact_seq > 0 && j->comment_seq >= j->contact_seq);
}

/* The moment that a condition's field holds; INSTANT_NEVER where it holds none. */
static instant
moment_of(const Judge *j, const Condition *cond)
{
	const Field *field = &j->fields[cond->number];

	return field->holds ? field->moment : INSTANT_NEVER;
}

static bool
holds(const Judge *j, const Condition *cond, const Look *look)
{
	switch (cond->kind)
	{
		case COND_HAPPENED:
			return has_happened(j, cond->atom, cond->times, look);
		case COND_TASK:
			return (cond->number == NO_NUMBER ? j->open_tasks :
					j->open_of_kind[cond->number]) > 0;
		case COND_NO_TASK:
			return j->open_tasks == 0;
		case COND_STAGE:
			return j->visits[j->nvisits - 1].stage >= 0;
		case COND_FIELD:
			return j->fields[cond->number].holds;
		case COND_PASSED:
			return moment_of(j, cond) <= j->now;
		case COND_AHEAD:
			return moment_of(j, cond) > j->now && moment_of(j, cond) != INSTANT_NEVER;
		case COND_SOON:
			return moment_of(j, cond) > j->now && moment_of(j, cond) != INSTANT_NEVER &&
				(uint64_t) moment_of(j, cond) - (uint64_t) j->now < (uint64_t) cond->value;
		case COND_VISITED:
			return j->first_visit[cond->number] > 0 &&
				(!look->before || j->first_visit[cond->number] <= look->subject + 1);
		case COND_MOVED_BY_BOT:
			return j->visits[look->subject].moved_by_bot;
		case COND_UNREACHED:
			return j->missed_seq > j->contact_seq;
		case COND_COMMENT_WHERE_REQUIRED:
			return comment_where_required(j, look);
		case COND_SCENARIO_MATCHES:
			return scenario_matches(j, &j->visits[look->visit]);
	}
	return false;
}

bool
condition_holds(const Judge *j, const Condition *cond, const Look *look)
{
	return holds(j, cond, look) != cond->negated;
}

/* Which feeds are connected now, and until when that holds. */
void
feeds_look(Judge *j)
{
	const Timeline *line = j->line;

	j->connected = 0;
	j->connected_until = INSTANT_NEVER;
	for (int i = 0; i < line->nfeeds; i++)
		if (line->feed_since[i] <= j->now)
			j->connected |= UINT64_C(1) << i;
		else if (line->feed_since[i] < j->connected_until)
			j->connected_until = line->feed_since[i];
}

static bool
is_connected(const Judge *j, uint64_t feeds)
{
	return feeds == 0 || (feeds & j->connected) != 0;
}

bool
seen_by_two(const Judge *j, const Rule *rule)
{
	for (int i = 0; i < rule->nexpect; i++)
		if (is_connected(j, rule->expect[i].feeds) &&
			is_connected(j, rule->expect[i].also))
			return true;
	return false;
}
