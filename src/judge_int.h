/*-------------------------------------------------------------------------
 *
 * judge_int.h
 *	  What the files of the judge share: its working state.
 *
 * Nobody but judge.c, moves.c, conditions.c and duties.c includes this.
 *
 * Time is counted twice: as an instant, and as the number of that instant in
 * the deal's life (seq, from 1), which is what "has happened since" compares.
 *
 * Where a move and other facts share an instant, the facts belong to the
 * visit that the move ends ("old"), but tasks added belong to the visit that
 * begins ("new"), see DESIGN section 4, Meaning of time.  Hence the pairs
 * old/new below.
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

/* What the present value of a field is. */
typedef struct Field
{
	uint64_t	value;
	instant		moment;
	int			set_seq;		/* since when it has this value */
	bool		holds;
} Field;

/* In which stretch of the deal's life a condition looks for events. */
typedef struct Look
{
	bool		deal;			/* since the deal began */
	int			visit;			/* else since this visit began */
	int			subject;		/* the visit that the move at hand began or ended */
	bool		before;			/* visited: before that visit ended (form leave) */
	bool		comment_required;	/* by the move at hand */
} Look;

/* A duty that is not closed yet. */
typedef struct Live
{
	int			finding;
	const Rule *rule;
	int			visit;			/* in which it arose; for leave, the one left */
	int			arose_seq;
	instant		due;			/* breached when unmet by then */
	bool		left;			/* its visit is over, it goes on */
	Look		look;
} Live;

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

struct Judge
{
	const Regulation *reg;
	Memory		memory;
	judge_pause pause;
	void	   *pause_self;
	int			ncounted;		/* atoms whose number is asked for */
	int		   *counted;
	int		   *counter_of;		/* atom -> index in counted, or NO_NUMBER */

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
	Happened   *fact_atoms;		/* by fact - first_fact */
	int			room_atoms;

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
	int			room_visits;
	int		   *bases;			/* counts when each visit began, ncounted a visit */
	int			room_bases;

	int		   *last_old;		/* by atom: seq of the last time */
	int		   *last_new;
	int		   *last_move;		/* by atom: the last visit that a move gave it to, + 1 */
	int		   *count;			/* by counter: how often so far */
	int		   *count_before;	/* ... before this instant */
	int		   *count_moves;	/* ... by the moves of this instant */
	int		   *first_visit;	/* by stage: number of the first visit, or -1 */
	int		   *visits_of;		/* by stage: how many */
	int		   *left_of;		/* by stage: visits that are over */
	Field	   *fields;
	int			room_fields;
	int			open_tasks;
	int		   *open_of_kind;
	int			missed_seq;		/* the last missed call, counted or not */
	int			contact_seq;
	int			comment_seq;
	instant		counted_miss_at;	/* the last one that counted */
	int			counted_miss_seq;
	bool		is_signed;
	bool		is_paid;
	bool		signed_and_paid;
	instant		next_wake;

	/* by rule */
	int		   *open_visit;		/* visit with an unmet duty of the rule, or -1 */
	int		   *armed_visit;	/* visit whose trigger waits for a moment, or -1 */
	bool	   *gap;			/* always: the condition fails now */

	Live	   *live;
	int			nlive;
	int			room_live;
	AtomSet		live_watch;		/* at least what any live duty looks at */
	Finding    *findings;
	int			nfindings;
	int			room_findings;
	Responsible *responsible;
	int			nresponsible;
	int			room_responsible;
};

/* judge.c */
extern void *judge_room(Judge *j, void *array, int *room, int needed, size_t size);
extern int	judge_find_fact(const Judge *j, const AtomSet *atoms);
extern bool judge_asks_comment(const Judge *j, const Move *move);

/* moves.c */
extern void moves_collect(Judge *j, instant end);

/* conditions.c */
extern bool condition_holds(const Judge *j, const Condition *cond, const Look *look);
extern bool any_holds(const Judge *j, const Condition *conds, int n, const Look *look);
extern bool can_be_seen(const Judge *j, const Rule *rule);

/* duties.c */
extern void duties_end_visit(Judge *j, int visit);
extern void duties_recheck(Judge *j, const AtomSet *happened, bool moved);
extern void duties_facts(Judge *j, int visit, const Happened *happened);
extern void duties_move(Judge *j, const Move *move, int visit, bool enters);
extern void duties_always(Judge *j, const AtomSet *happened, bool moved);
extern void duties_flow(Judge *j, const Move *move);
extern void duties_verdict(Judge *j, int fact);
extern void duties_finish(Judge *j, instant end, bool deleted);

static inline const StageRules *
rules_of_stage(const Judge *j, int stage)
{
	return &j->reg->by_stage[stage < 0 ? j->reg->nstages : stage];
}

static inline bool
in_force(const Rule *rule, instant at)
{
	return rule->valid_from <= at && at < rule->valid_to;
}

#endif							/* REGCRM_JUDGE_INT_H */
