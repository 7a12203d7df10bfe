/*-------------------------------------------------------------------------
 *
 * judge_int.h
 *	  What the files of the judge share: its working state.
 *
 * Nobody but judge.c, moves.c, happen.c, visits.c, conditions.c, duties.c,
 * holding.c, answering.c and findings.c includes this.
 *
 * Time is counted twice: as an instant, and as the number of that instant in
 * the deal's life (seq, from 1), which is what "has happened since" compares.
 *
 * Where a move and other facts share an instant, the facts belong to the
 * visit that the move ends ("old"), but tasks added belong to the visit that
 * begins ("new"), see DESIGN section 4, Meaning of time.  Hence the pairs
 * old/new below.  In an instant without a move all facts are old.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_JUDGE_INT_H
#define REGCRM_JUDGE_INT_H

#include "atoms.h"
#include "judge.h"

/* A move that counts: not undone, not to where the deal already was. */
typedef struct Move
{
	instant		at;
	int			fact;			/* index in the timeline */
	int			from;			/* where the deal stood; STAGE_NONE = it begins */
	int			to;
	bool		observed;		/* else neither flow, enter nor leave is judged */
	bool		by_bot;
	bool		binds;			/* the regulation binds who made it */
	/* known once its instant is reached: */
	bool		illegal;		/* both stages are known, and no row lets it */
	bool		comment_required;	/* the regulation asks for a comment on it */
} Move;

typedef struct Visit
{
	int			stage;
	instant		start;
	int			start_seq;
	int			ordinal;		/* the how manieth visit of that stage */
	int			old_from;		/* facts from this seq on belong to it, ... */
	int			new_from;		/* ... tasks added from this one on */
	bool		moved_by_bot;	/* by a bot's move it began */
	bool		comment_required;	/* the move that began it asks for one */
	ScenarioOutcome last_outcome;	/* of the last scenario chosen in it */
	int			last_call;		/* CALL_... */
} Visit;

enum
{
	CALL_NONE, CALL_MISSED, CALL_TALK
};

/* What the present value of a field is; all zero = empty. */
typedef struct Field
{
	uint64_t	value;
	instant		moment;			/* INSTANT_NEVER, or of no meaning, where there is none */
	int			set_seq;		/* since when it has this value */
	bool		holds;
} Field;

/* In which stretch of the deal's life a condition looks for events. */
typedef struct Look
{
	int			visit;			/* since this visit began, ... */
	int			subject;		/* the visit that the move at hand began or ended */
	bool		deal;			/* ... or since the deal began */
	bool		before;			/* visited: before that visit ended (form leave) */
	bool		comment_required;	/* by the move at hand */
} Look;

/*
 * A duty that is not closed yet.  Those of a rule are chained, the latest
 * first; so those of the present visit stand before those of earlier ones.
 */
typedef struct Live
{
	int			next;			/* in its chain, or of the free ones, + 1; 0 = last */
	int			finding;
	int			visit;			/* in which it arose; for leave, the one left */
	int			arose_seq;
	instant		due;			/* breached when unmet by then */
	bool		left;			/* its visit is over, it goes on */
	Look		look;
} Live;

/* What is known of a rule in the deal at hand; all zero = nothing yet. */
typedef struct RuleState
{
	int			chain;			/* first of its live duties, + 1 */
	int			open_visit;		/* visit with an unmet duty of it, + 1 */
	int			armed_visit;	/* visit whose trigger waits for a moment, + 1 */
	bool		gap;			/* always: the condition fails now */
	bool		busy;			/* it stands in a Busy list */
} RuleState;

/* Rules with live duties, by what closes these. */
typedef struct Busy
{
	int			n;
	const Rule **rules;
	AtomSet		watch;			/* at least what any of them looks at */
} Busy;

enum
{
	BUSY_HOLDING,				/* enter, leave: conditions */
	BUSY_ANSWERING,				/* within: events */
	BUSY_OTHER,					/* always, attest */
	NBUSY
};

typedef struct Responsible
{
	instant		at;
	int64_t		manager_id;
} Responsible;

/* What happened at an instant, as one visit sees it. */
typedef struct Happened
{
	AtomSet		all;
	AtomSet		bound;			/* without acts of users who are not bound */
} Happened;

static inline void
join_happened(Happened *into, const Happened *what)
{
	atoms_join(&into->all, &what->all);
	atoms_join(&into->bound, &what->bound);
}

struct Judge
{
	const Regulation *reg;
	Memory		memory;
	judge_pause pause;
	void	   *pause_self;
	int			ncounted;		/* atoms whose number is asked for */
	int		   *counted;
	int		   *counter_of;		/* atom -> index in counted, or NO_NUMBER */
	Finding		blank;			/* what every finding begins as */

	/* the deal at hand */
	const Timeline *line;
	instant		now;
	int			seq;
	int			first_fact;		/* facts of this instant: [first_fact, next_fact) */
	int			next_fact;
	Happened	old_facts;		/* of this instant */
	Happened	new_facts;
	AtomSet		everything;		/* both, and its moves so far */
	bool		new_applied;	/* the new ones are in last_new and count */
	AtomSet    *fact_atoms;		/* by fact - first_fact */
	int			room_atoms;
	uint64_t	connected;		/* feeds (FeedNumber) that are connected now, ... */
	instant		connected_until;	/* ... and until when no other is */

	Move	   *moves;
	int			nmoves;
	int			room_moves;
	int			next_move;
	JudgedMove *told;			/* what judge_moves() tells */
	int			room_told;
	int		   *many;			/* moves of one instant, where they are many */
	int			room_many;
	Visit	   *visits;
	int			nvisits;
	const StageRules *here;		/* rules of the stage of the last visit */
	int			room_visits;
	int		   *bases;			/* counts when each visit began, ncounted a visit */
	int			room_bases;

	RuleState  *states;			/* by rule */

	/* The arrays that follow lie side by side in the first one. */
	int			nnumbers;
	int		   *last_old;		/* by atom remembered: seq of the last time */
	int		   *last_new;
	int		   *last_move;		/* ... the last visit that a move gave it to, + 1 */
	int		   *count;			/* by counter: how often so far */
	int		   *first_visit;	/* by stage: number of the first visit, + 1 */
	int		   *visits_of;		/* by stage: how many; the last of unknown ones */
	int		   *left_of;		/* by stage: visits that are over */
	int		   *open_of_kind;

	int		   *count_before;	/* by counter: before this instant, ... */
	int		   *count_moves;	/* ... and by the moves of this instant */
	int			count_seq;		/* ... which both speak of; else nothing was counted */
	Field	   *fields;
	int			room_fields;
	int			open_tasks;
	int			missed_seq;		/* the last missed call, counted or not */
	int			contact_seq;
	int			comment_seq;
	instant		counted_miss_at;	/* the last one that counted */
	int			counted_miss_seq;
	bool		is_signed;
	bool		is_paid;
	bool		signed_and_paid;
	bool		dates_changed;	/* next_wake is to be found anew */
	instant		next_wake;

	Live	   *live;
	int			nlive;			/* of them in use or free */
	int			room_live;
	int			free_live;		/* the first free one, + 1 */
	Busy		busy[NBUSY];
	Finding    *findings;
	int			nfindings;
	int			room_findings;
	Responsible *responsible;
	int			nresponsible;
	int			room_responsible;
};

/* judge.c */
extern void *judge_more_room(Judge *j, void *array, int *room, int needed, size_t size);

/* moves.c */
extern void moves_collect(Judge *j, instant end);

/* happen.c */
extern void happen_facts(Judge *j, bool moving);
extern void happen_new_facts(Judge *j);
extern void happen_move(Judge *j, int visit, const AtomSet *atoms);
extern void happen_responsible(Judge *j, instant at, int64_t manager_id);
extern ScenarioOutcome happen_outcome(const Judge *j, const Fact *fact);
extern int	happen_find(const Judge *j, const AtomSet *atoms);

/* visits.c */
extern void visits_move(Judge *j);

/* conditions.c */
extern bool condition_holds(const Judge *j, const Condition *cond, const Look *look);
extern void feeds_look(Judge *j);
extern bool seen_by_two(const Judge *j, const Rule *rule);

/* findings.c */
extern void findings_settle(Judge *j);

/* duties.c */
extern void duty_lives(Judge *j, const Rule *rule, int finding, int visit, instant due,
					   Look look);
extern void duty_met(Judge *j, const Rule *rule, int *link, int fact);
extern void duty_left(Judge *j, const Rule *rule, int *link);
extern void duties_end_visit(Judge *j, int visit);
extern void duties_finish(Judge *j, instant end, bool deleted);

/* holding.c */
extern void holding_flow(Judge *j, const Move *move);
extern void holding_enter(Judge *j, const Move *move, int visit);
extern void holding_leave(Judge *j, const Move *move, int visit);
extern void holding_recheck(Judge *j, const AtomSet *happened);
extern void holding_always(Judge *j, const AtomSet *happened, bool moved);
extern void holding_gaps_left(Judge *j, int visit);

/* answering.c */
extern void answering_answer(Judge *j, const AtomSet *happened);
extern void answering_trigger(Judge *j, int visit, const Happened *happened);
extern void answering_verdict(Judge *j, int fact);

/* Makes room for at least needed elements; contents are kept. */
static inline void *
judge_room(Judge *j, void *array, int *room, int needed, size_t size)
{
	if (needed <= *room)
		return array;
	return judge_more_room(j, array, room, needed, size);
}

static inline const StageRules *
rules_of_stage(const Judge *j, int stage)
{
	return &j->reg->by_stage[stage < 0 ? j->reg->nstages : stage];
}

/* The list in which a rule stands when it has live duties. */
static inline int
busy_list(const Rule *rule)
{
	if (rule->form == FORM_WITHIN)
		return BUSY_ANSWERING;
	return rule->form == FORM_ENTER || rule->form == FORM_LEAVE ? BUSY_HOLDING : BUSY_OTHER;
}

static inline RuleState *
state_of(const Judge *j, const Rule *rule)
{
	return &j->states[rule->number];
}

static inline bool
in_force(const Rule *rule, instant at)
{
	return rule->valid_from <= at && at < rule->valid_to;
}

static inline instant
after(const Judge *j, const Rule *rule, instant at, int64_t duration)
{
	instant		sum;

	if (rule->business && j->line->calendar)
		return calendar_add(j->line->calendar, at, duration);
	if (at == INSTANT_NEVER || at == INSTANT_EVER || !__builtin_add_overflow(at, duration, &sum))
		return at == INSTANT_NEVER || at == INSTANT_EVER ? at : sum;
	return duration > 0 ? INSTANT_NEVER : INSTANT_EVER;
}

static inline bool
any_holds(const Judge *j, const Condition *conds, int n, const Look *look)
{
	for (int i = 0; i < n; i++)
		if (condition_holds(j, &conds[i], look))
			return true;
	return false;
}

/*
 * A duty that nothing of the connected feeds could show to be kept does not
 * arise (DESIGN section 3, feed).
 */
static inline bool
can_be_seen(const Judge *j, const Rule *rule)
{
	return rule->always_seen || (rule->seen_by & j->connected) != 0 ||
		(rule->seen_by_two && seen_by_two(j, rule));
}

/* How often an atom had happened before this instant. */
static inline int
counted_before(const Judge *j, int counter)
{
	return j->count_seq == j->seq ? j->count_before[counter] : j->count[counter];
}

/* fact: what began it, or -1. */
static inline Finding *
finding_new(Judge *j, const Rule *rule, int stage, int fact)
{
	Finding    *f;

	j->findings = judge_room(j, j->findings, &j->room_findings,
							 j->nfindings + 1, sizeof(Finding));
	f = &j->findings[j->nfindings++];
	*f = j->blank;
	f->rule = rule->number;
	f->stage = (int16_t) stage;
	f->arose_at = j->now;
	if (fact >= 0)
	{
		f->trigger_kind = j->line->facts[fact].kind;
		f->trigger_id = j->line->facts[fact].id;
	}
	return f;
}

/* A thing done, which nothing later cures (flow, never, leave). */
static inline void
finding_of_the_moment(Finding *f, instant at)
{
	f->state = STATE_MISSED;
	f->resolution = RESOLUTION_MOMENT;
	f->breached_at = f->resolved_at = f->ended_at = at;
}

/* When to warn: a time after the trigger, or before what "by" names. */
static inline void
duty_warns(const Judge *j, const Rule *rule, Finding *f)
{
	if (!rule->has_warn || f->due_at == INSTANT_NEVER)
		return;
	if (rule->by_task_due || rule->by_field != NO_NUMBER)
		f->warn_at = after(j, rule, f->due_at, -rule->warn);
	else
		f->warn_at = after(j, rule, f->arose_at, rule->warn);
}

static inline Look
look_of_visit(const Judge *j, const Rule *rule, int visit)
{
	return (Look) {
		.deal = rule->scope == SCOPE_DEAL,
		.visit = visit,
		.subject = visit,
		.comment_required = j->visits[visit].comment_required,
	};
}

#endif							/* REGCRM_JUDGE_INT_H */
