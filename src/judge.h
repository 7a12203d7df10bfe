/*-------------------------------------------------------------------------
 *
 * judge.h
 *	  The judge: (timeline, regulation, calendar, as_of) -> findings.
 *
 * Pure: arrays in, findings out; no table, no clock, no state between deals
 * but working memory.  The same facts give the same findings in whatever
 * order they were stored, since the timeline orders them by what they are.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_JUDGE_H
#define REGCRM_JUDGE_H

#include "calendar.h"
#include "rules.h"

typedef enum FactKind
{
	FACT_MOVE,					/* u.move */
	FACT_CALL_IN,				/* u.call */
	FACT_CALL_OUT,				/* u.call */
	FACT_MESSAGE_IN,
	FACT_MESSAGE_OUT,
	FACT_REQUEST,
	FACT_VISIT,
	FACT_SCENARIO,				/* u.scenario */
	FACT_COMMENT,
	FACT_FIELD,					/* u.field */
	FACT_RESPONSIBLE,			/* u.manager */
	FACT_ROBOT,
	FACT_VERDICT,				/* u.verdict */
	FACT_TASK_ADDED,			/* u.task; id is the task's */
	FACT_TASK_DONE,				/* u.task; id is the task's */
	FACT_TASK_GONE				/* deleted while open; u.task; id is the task's */
} FactKind;

/* Flags of a fact. */
#define FACT_BY_BOT			0x01
#define FACT_ANSWERED		0x02	/* of a call */
#define FACT_OUT_OF_SCOPE	0x04	/* by a user whom the regulation does not bind */
#define FACT_HOLDS			0x08	/* of a field: not null, not false */
#define FACT_PASS			0x10	/* of a verdict */
#define FACT_UNOBSERVED		0x20	/* of a move: nobody saw it happen */

#define STAGE_UNKNOWN		(-1)	/* a stage that the regulation does not know */
#define STAGE_NONE			(-2)	/* from: the deal begins, or not said */

#define NO_MANAGER			INT64_MIN
#define NO_TASK				INT64_MIN

typedef struct Fact
{
	instant		at;
	int64_t		id;				/* of the event or the task; 0 = derived from the deal */
	uint8_t		kind;			/* FactKind */
	uint8_t		flags;
	union
	{
		struct
		{
			int16_t		from;	/* index in Regulation.stages, or STAGE_... */
			int16_t		to;		/* index, or STAGE_UNKNOWN */
		}			move;
		struct
		{
			int64_t		duration;
		}			call;
		struct
		{
			int			number; /* index in Regulation.scenarios, or NO_NUMBER */
		}			scenario;
		struct
		{
			int			number; /* see Timeline.nfields */
			uint64_t	value;	/* equal values, equal numbers (a hash); 0 = emptied */
			instant		moment; /* what a date or time holds, else INSTANT_NEVER */
		}			field;
		int64_t		manager;
		struct
		{
			int			code;	/* index in Regulation.codes, or NO_NUMBER */
		}			verdict;
		struct
		{
			int			kind;	/* index in Regulation.task_kinds, or NO_NUMBER */
			instant		due_at;
		}			task;
	}			u;
} Fact;

/*
 * Everything known of one deal.  Facts stand in order of time; where several
 * share an instant, events come first, by source_id, then id, then tasks by
 * id.  A fact before created_at is given at = created_at (order kept).
 */
typedef struct Timeline
{
	int64_t		account_id;
	int64_t		deal_id;
	instant		created_at;
	instant		deleted_at;		/* INSTANT_NEVER = it is there */
	instant		known_from;		/* what arises before is not judged */
	instant		as_of;
	int64_t		manager_id;		/* who is responsible at created_at; NO_MANAGER */
	int			nfacts;
	const Fact *facts;

	/*
	 * Fields 0 .. Regulation.nfields - 1 are the regulation's; further numbers
	 * up to nfields - 1 stand for other fields of this deal.
	 */
	int			nfields;

	/* When each feed was connected (FeedNumber), INSTANT_NEVER = it is not. */
	int			nfeeds;
	const instant *feed_since;

	const Calendar *calendar;	/* NULL = every hour counts */
} Timeline;

typedef enum FindingState
{
	STATE_PENDING, STATE_WARNED, STATE_MET, STATE_LATE, STATE_MISSED,
	STATE_CANCELLED
} FindingState;

typedef enum FindingResolution
{
	RESOLUTION_NONE, RESOLUTION_MET, RESOLUTION_LEFT, RESOLUTION_MOMENT
} FindingResolution;

/*
 * A duty that arose, or a breach that happened.  Instants that do not apply
 * are INSTANT_NEVER.  due_at = INSTANT_NEVER: a thing done (flow, never,
 * attest) or one that must hold at once (enter, leave without tolerance).
 */
typedef struct Finding
{
	int			rule;			/* index in Regulation.rules */
	int16_t		stage;			/* where the deal stood; STAGE_UNKNOWN */
	int16_t		from_stage;		/* of the move that began it, where one did */
	int16_t		to_stage;
	uint8_t		state;			/* FindingState */
	uint8_t		resolution;		/* FindingResolution */
	/* Evidence: what began it, what ended it; id 0 = nothing to point at. */
	uint8_t		trigger_kind;	/* FactKind */
	uint8_t		answer_kind;
	int64_t		trigger_id;
	int64_t		answer_id;
	int64_t		task_id;		/* NO_TASK */
	int64_t		manager_id;		/* responsible when it was breached (else when it arose) */
	instant		arose_at;
	instant		warn_at;
	instant		due_at;
	instant		met_at;			/* also: when a breach was cured */
	instant		breached_at;
	instant		resolved_at;	/* of a breach */
	instant		ended_at;		/* of a duty: met, cancelled or resolved */
} Finding;

typedef struct Judge Judge;

/* Called now and then in a long deal, so that the server can be interrupted. */
typedef void (*judge_pause) (void *self);

extern Judge *judge_create(const Regulation *regulation, const Memory *memory,
						   judge_pause pause, void *pause_self);

/*
 * Judges one deal.  The findings stay valid until the next call; they come in
 * order of (arose_at, rule, task_id).  Working memory grows to the largest deal and is
 * kept.
 */
extern int	judge_deal(Judge *judge, const Timeline *timeline,
					   const Finding **findings);

/* A move that counts: not undone, not to where the deal already was. */
typedef struct JudgedMove
{
	instant		at;
	int			from;			/* index in Regulation.stages, or STAGE_... */
	int			to;
} JudgedMove;

/*
 * The moves that a timeline comes to, as the judge sees them, in order.  They
 * stay valid until the next call of any kind.
 */
extern int	judge_moves(Judge *judge, const Timeline *timeline, const JudgedMove **moves);

/*
 * Where a timeline's moves leave the deal: chained, undone and skipped as the
 * judge does it.  Nothing else of the timeline is looked at.
 */
extern int	judge_last_stage(Judge *judge, const Timeline *timeline);

#endif							/* REGCRM_JUDGE_H */
