/*-------------------------------------------------------------------------
 *
 * findings.c
 *	  What the judge says: findings begun, and put in order (part of the judge, pure).
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "judge_int.h"

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

/* Who is named: responsible when it was breached, else when it ended, else now. */
static inline void
name_responsible(const Judge *j, Finding *f)
{
	if (j->nresponsible == 1)
		f->manager_id = j->responsible[0].manager_id;
	else if (f->breached_at != INSTANT_NEVER)
		f->manager_id = responsible_at(j, f->breached_at);
	else if (f->ended_at != INSTANT_NEVER)
		f->manager_id = responsible_at(j, f->ended_at);
	else
		f->manager_id = responsible_at(j, j->now);
}

/* Leaves out what is not to be judged, and puts the rest in order. */
void
findings_settle(Judge *j)
{
	Finding    *findings = j->findings;
	int			kept = 0;

	for (int i = 0; i < j->nfindings; i++)
	{
		Finding		f;
		int			k;

		if (findings[i].arose_at < j->line->known_from)
			continue;
		name_responsible(j, &findings[i]);
		if (kept == 0 || comes_before(&findings[kept - 1], &findings[i]))
		{
			if (kept < i)
				findings[kept] = findings[i];
			kept++;
			continue;
		}
		/* they arise in order of time, so only an instant's own are sorted */
		f = findings[i];
		for (k = kept; k > 0 && comes_before(&f, &findings[k - 1]); k--)
			;
		if (k > 0 && !comes_before(&findings[k - 1], &f))
		{
			if (replaces(j, &f, &findings[k - 1]))
				findings[k - 1] = f;
			continue;
		}
		memmove(&findings[k + 1], &findings[k], sizeof(Finding) * (size_t) (kept - k));
		findings[k] = f;
		kept++;
	}
	j->nfindings = kept;
}
