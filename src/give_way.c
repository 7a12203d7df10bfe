/*-------------------------------------------------------------------------
 *
 * give_way.c
 *	  Events that we appended, and that give way to loaded ones.
 *
 * Appended events carry source 'regcrm' and give way to a loaded event of the
 * same stage or field at or before that instant (DESIGN section 3), so that a
 * deal and its history may be loaded in any order.
 *
 * How an appended event gives way.  One that tells what the deal was created
 * with gives way to any loaded event of the same kind (and field) at or before
 * the creation: the loaded one tells it better.  One that tells of a change
 * says what it was before; where that is what the other events say too, who
 * wrote the column knew them, and the change is one.  Where it is not, he wrote
 * without the history that was loaded since: then the event gives way if a
 * loaded one told the same before, and else keeps its aim only (a move comes
 * "from where it stood"; its from_stage was a copy of the column, not something
 * that was seen).
 *
 * Which events give way depends on what is stored, never on when it came.  They
 * do not count from then on, and in mode "record" they are removed (columns.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "timeline_int.h"

/*
 * Whether two events tell of the same thing: the stage, the manager, one field.
 */
static bool
same_subject(const RawFact *a, const RawFact *b)
{
	return a->fact.kind == b->fact.kind &&
		(a->fact.kind != FACT_FIELD || a->fact.u.field.number == b->fact.u.field.number);
}

/* Whether two texts of the same field (or managers) mean the same. */
static bool
same_value(const TimelineReader *reader, const RawFact *of, const char *a, const char *b)
{
	FieldType	type = of->slot >= 0 ? reader->slots[of->slot].type : FIELD_CUSTOM;

	if (of->fact.kind == FACT_RESPONSIBLE)
		return facts_manager(a) == facts_manager(b);
	return field_read(a, type, reader->account->zone).hash ==
		field_read(b, type, reader->account->zone).hash;
}

/* What the deal was created with. */
static void
give_way_at_creation(TimelineReader *reader)
{
	for (int i = 0; i < reader->nraw; i++)
	{
		RawFact    *raw = &reader->raw[i];

		if (raw->fact.at > reader->deal.created_at)
			break;
		if (!raw->appended)
			continue;
		for (int k = 0; k < reader->nraw && !raw->gave_way; k++)
		{
			const RawFact *other = &reader->raw[k];

			if (other->fact.at > reader->deal.created_at)
				break;
			raw->gave_way = !other->appended && same_subject(raw, other);
		}
	}
}

/* Whether a loaded event before raw i says that the deal moved to that stage. */
static bool
loaded_move(const TimelineReader *reader, int i, stage_code to)
{
	while (--i >= 0)
		if (raw_counts(&reader->raw[i], FACT_MOVE) && !reader->raw[i].appended &&
			reader->raw[i].to_stage == to)
			return true;
	return false;
}

/* Moves of ours after the creation. */
static void
give_way_moves(TimelineReader *reader)
{
	RawFact    *last = NULL;

	for (int i = 0; i < reader->nraw; i++)
	{
		RawFact    *raw = &reader->raw[i];
		bool		alone = true;

		if (!raw_counts(raw, FACT_MOVE))
			continue;
		/* moves of one instant are the judge's to chain */
		if (last != NULL && last->fact.at == raw->fact.at)
			alone = false;
		if (raw->appended)
			for (int k = i + 1; k < reader->nraw && reader->raw[k].fact.at == raw->fact.at; k++)
				if (raw_counts(&reader->raw[k], FACT_MOVE))
					alone = false;
		if (raw->appended && last != NULL && alone &&
			raw->fact.u.move.from != last->fact.u.move.to)
		{
			raw->gave_way = loaded_move(reader, i, raw->to_stage);
			if (raw->gave_way)
				continue;
			raw->fact.u.move.from = STAGE_NONE;
		}
		last = raw;
	}
}

/* Whether a loaded event before raw i says the same of a field or a manager. */
static bool
loaded_value(const TimelineReader *reader, int i)
{
	const RawFact *raw = &reader->raw[i];

	while (--i >= 0)
		if (same_subject(raw, &reader->raw[i]) && !reader->raw[i].appended &&
			same_value(reader, raw, raw->text, reader->raw[i].text))
			return true;
	return false;
}

/* Changes of fields and managers by us after the creation. */
static void
give_way_changes(TimelineReader *reader)
{
	for (int i = 0; i < reader->nraw; i++)
	{
		RawFact    *raw = &reader->raw[i];
		int			before = i - 1;

		if (!raw->appended || raw->gave_way || raw->fact.at <= reader->deal.created_at ||
			(raw->fact.kind != FACT_FIELD && raw->fact.kind != FACT_RESPONSIBLE))
			continue;
		while (before >= 0 && (reader->raw[before].gave_way ||
							   !same_subject(raw, &reader->raw[before])))
			before--;
		if (before >= 0 &&
			!same_value(reader, raw, raw->text_before, reader->raw[before].text))
			raw->gave_way = loaded_value(reader, i);
	}
}

void
give_way(TimelineReader *reader)
{
	give_way_at_creation(reader);
	give_way_moves(reader);
	give_way_changes(reader);
}
