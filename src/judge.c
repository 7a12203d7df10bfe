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
 * What happens at an instant is a set of atoms, and rules say which atoms they
 * look at; so the work for an instant is that of the rules that one of its
 * atoms concerns (rule_index.c), and a fact that concerns no rule of the stage
 * costs next to nothing.
 *
 * Pure C: no table, no clock, no global, nothing of the server.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "judge_int.h"

/* Every so many instants the caller may be interrupted. */
#define PAUSE_EVERY		1024

void *
judge_more_room(Judge *j, void *array, int *room, int needed, size_t size)
{
	*room = *room * 2 > needed ? *room * 2 : (needed > 16 ? needed : 16);
	return j->memory.grow(j->memory.self, array, size * (size_t) *room);
}

static void *
make_array(Judge *j, int n, size_t size)
{
	return j->memory.grow(j->memory.self, NULL, size * (size_t) (n + 1));
}

/* Makes the arrays that are zero when a deal begins. */
static void
make_clean(Judge *j)
{
	const Regulation *reg = j->reg;
	struct
	{
		int		  **array;
		int			n;
	}			numbers[] = {
		{&j->last_old, reg->natoms}, {&j->last_new, reg->natoms}, {&j->last_move, reg->natoms},
		{&j->count, j->ncounted}, {&j->first_visit, reg->nstages}, {&j->visits_of, reg->nstages + 1},
		{&j->left_of, reg->nstages}, {&j->open_of_kind, reg->ntask_kinds},
	};
	size_t		n = sizeof(numbers) / sizeof(numbers[0]);
	int		   *next;

	j->states = make_array(j, reg->nrules, sizeof(RuleState));
	for (size_t i = 0; i < n; i++)
		j->nnumbers += numbers[i].n;
	next = make_array(j, j->nnumbers, sizeof(int));
	for (size_t i = 0; i < n; i++)
	{
		*numbers[i].array = next;
		next += numbers[i].n;
	}
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
	j->count_before = make_array(j, j->ncounted, sizeof(int));
	j->count_moves = make_array(j, j->ncounted, sizeof(int));
	j->fact_atoms = judge_room(j, NULL, &j->room_atoms, 16, sizeof(AtomSet));
	for (int i = 0; i < NBUSY; i++)
		j->busy[i].rules = make_array(j, regulation->nrules, sizeof(Rule *));
	make_clean(j);
	j->blank = (Finding) {
		.state = STATE_PENDING,
		.resolution = RESOLUTION_NONE,
		.task_id = NO_TASK,
		.manager_id = NO_MANAGER,
		.warn_at = INSTANT_NEVER,
		.due_at = INSTANT_NEVER,
		.met_at = INSTANT_NEVER,
		.breached_at = INSTANT_NEVER,
		.resolved_at = INSTANT_NEVER,
		.ended_at = INSTANT_NEVER,
		.from_stage = STAGE_NONE,
		.to_stage = STAGE_NONE,
	};
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
	j->free_live = 0;
	j->nfindings = 0;
	j->nresponsible = 0;
	j->open_tasks = 0;
	j->missed_seq = j->contact_seq = j->comment_seq = 0;
	j->counted_miss_seq = 0;
	j->count_seq = 0;
	j->is_signed = j->is_paid = j->signed_and_paid = false;
	j->dates_changed = false;
	j->next_wake = INSTANT_NEVER;
	j->connected_until = INSTANT_EVER;
	j->fields = judge_room(j, j->fields, &j->room_fields, nfields + 1, sizeof(Field));
	memset(j->fields, 0, sizeof(Field) * (size_t) nfields);
	memset(j->states, 0, sizeof(RuleState) * (size_t) reg->nrules);
	memset(j->last_old, 0, sizeof(int) * (size_t) j->nnumbers);
	for (int i = 0; i < NBUSY; i++)
	{
		j->busy[i].n = 0;
		atoms_clear(&j->busy[i].watch);
	}
}

static void
run_instant(Judge *j, instant at)
{
	bool		moving = j->next_move < j->nmoves && j->moves[j->next_move].at == at;
	const AtomSet *happened = &j->old_facts.all;

	j->now = at;
	j->seq++;
	if (at >= j->connected_until)
		feeds_look(j);
	happen_facts(j, moving);
	j->everything = *happened;
	if (moving)
	{
		atoms_join(&j->everything, &j->new_facts.all);
		holding_recheck(j, &j->everything);
		visits_move(j);
		holding_always(j, happened, true);
		return;
	}
	if (j->nvisits == 0)
		return;
	if (atoms_meet(&j->busy[BUSY_HOLDING].watch, happened))
		holding_recheck(j, happened);
	if (atoms_meet(&j->busy[BUSY_ANSWERING].watch, happened))
		answering_answer(j, happened);
	if (!atoms_meet(&j->here->interest, happened))
		return;
	answering_trigger(j, j->nvisits - 1, &j->old_facts);
	holding_always(j, happened, false);
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
	happen_responsible(j, INSTANT_EVER, line->manager_id);
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
	findings_settle(j);
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
