/*-------------------------------------------------------------------------
 *
 * derive.c
 *	  What the rows of a deal imply: from raw facts to a timeline.
 *
 * Rows tell what somebody saw happen.  Some facts only follow from them
 * (DESIGN section 3):
 *
 *	- What an event shows as "before", or what a deal holds though no event
 *	  ever set it, was so from the deal's creation.
 *	- On a synced account, where a column differs from where the events end,
 *	  something went unobserved; it is known to be so since updated_at.
 *
 * What is derived has id 0 and comes first in its instant.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "timeline_int.h"

/* More facts than this in a deal's first instant are not puzzled out. */
#define MAX_GROUP	200

/* Adds a fact to the timeline, with everything else zero. */
static Fact *
add_fact(TimelineReader *reader, FactKind kind, instant at)
{
	Timeline   *line = &reader->result.line;
	Fact	   *fact;

	if (line->nfacts == reader->room_facts)
	{
		reader->room_facts = reader->room_facts ? reader->room_facts * 2 : 64;
		reader->facts = reader->facts ?
			repalloc_huge(reader->facts, reader->room_facts * sizeof(Fact)) :
			MemoryContextAllocHuge(reader->context, reader->room_facts * sizeof(Fact));
	}
	fact = &reader->facts[line->nfacts++];
	memset(fact, 0, sizeof(*fact));
	fact->kind = kind;
	fact->at = at;
	line->facts = reader->facts;
	return fact;
}

/* The instant at which a fact counts: nothing happens before the creation. */
static instant
at_of(const TimelineReader *reader, const RawFact *raw)
{
	return Max(raw->fact.at, reader->deal.created_at);
}

/* ---- stages ---- */

/*
 * Where the deal stood before its earliest moves: where the chain of those of
 * one instant begins.  STAGE_NONE where one of them is the beginning itself.
 */
static int
stage_before(const TimelineReader *reader, int first)
{
	instant		at = at_of(reader, &reader->raw[first]);
	int			begins = reader->raw[first].fact.u.move.from;
	int			group = 0;

	for (int i = first; i < reader->nraw && at_of(reader, &reader->raw[i]) == at; i++)
		group++;
	if (group > MAX_GROUP)
		return begins;
	for (int i = first; i < reader->nraw && at_of(reader, &reader->raw[i]) == at; i++)
	{
		const RawFact *raw = &reader->raw[i];

		if (!raw_counts(raw, FACT_MOVE) || raw->fact.u.move.from != STAGE_NONE)
			continue;
		/* appended later than what it was created with: its column was null until then */
		return raw->appended && raw->fact.at > reader->deal.created_at ?
			STAGE_UNKNOWN : STAGE_NONE;
	}

	/* the stage that is left once more than it is entered */
	for (int i = first; i < reader->nraw && at_of(reader, &reader->raw[i]) == at; i++)
	{
		const RawFact *raw = &reader->raw[i];
		int			balance = 0;

		if (!raw_counts(raw, FACT_MOVE))
			continue;
		for (int k = first; k < reader->nraw && at_of(reader, &reader->raw[k]) == at; k++)
		{
			const RawFact *other = &reader->raw[k];

			if (!raw_counts(other, FACT_MOVE))
				continue;
			balance += other->fact.u.move.from == raw->fact.u.move.from;
			balance -= other->fact.u.move.to == raw->fact.u.move.from;
		}
		if (balance > 0)
			return raw->fact.u.move.from;
	}
	return begins;
}

/*
 * Where the deal begins: as an event says, else where the first event says that it
 * came from, else where it is now.
 */
static void
derive_first_stage(TimelineReader *reader)
{
	DealRow    *deal = &reader->deal;
	int			stage;
	Fact	   *fact;
	int			first = 0;

	while (first < reader->nraw && !raw_counts(&reader->raw[first], FACT_MOVE))
		first++;
	if (first == reader->nraw)
		stage = facts_stage(reader, deal->stage, STAGE_UNKNOWN);
	else
		stage = stage_before(reader, first);
	if (stage == STAGE_NONE)
	{
		/* who creates a lead is no bot, whoever amoCRM names */
		for (int i = first; i < reader->nraw; i++)
			if (raw_counts(&reader->raw[i], FACT_MOVE) &&
				reader->raw[i].fact.u.move.from == STAGE_NONE)
			{
				reader->raw[i].fact.flags &= ~FACT_BY_BOT;
				break;
			}
		return;
	}
	fact = add_fact(reader, FACT_MOVE, deal->created_at);
	fact->u.move.from = STAGE_NONE;
	fact->u.move.to = (int16) stage;
}

/* Where the moves leave the deal, by the judge's own chaining of them. */
static int
stage_after(TimelineReader *reader, int nmoves)
{
	Judge	   *judge = reader->judge;
	Timeline	line = {0};
	Fact	   *facts = palloc((nmoves + 1) * sizeof(Fact));

	/* the first stage, where it was derived */
	if (reader->result.line.nfacts > 0 && reader->facts[0].kind == FACT_MOVE &&
		reader->facts[0].id == 0)
		facts[line.nfacts++] = reader->facts[0];
	for (int i = 0; i < reader->nraw; i++)
		if (raw_counts(&reader->raw[i], FACT_MOVE))
		{
			facts[line.nfacts] = reader->raw[i].fact;
			facts[line.nfacts++].at = at_of(reader, &reader->raw[i]);
		}
	line.facts = facts;
	return judge_last_stage(judge, &line);
}

/*
 * Where the events leave the deal: false where no event speaks of its stage.
 * *at is when the last move happened.  To be called when the first stage, but
 * nothing else, has been derived or is in the facts in front of all others.
 */
static bool
last_stage(TimelineReader *reader, int *number, stage_code *code, instant *at)
{
	const RawFact *before = NULL;
	const RawFact *last = NULL;
	int			n = 0;

	for (int i = 0; i < reader->nraw; i++)
		if (raw_counts(&reader->raw[i], FACT_MOVE))
		{
			before = last;
			last = &reader->raw[i];
			n++;
		}
	if (last == NULL)
		return false;
	*number = last->fact.u.move.to;
	*code = last->to_stage;
	*at = last->fact.at;
	if (before == NULL || at_of(reader, before) != at_of(reader, last))
		return true;

	/* several moves in one instant */
	*number = stage_after(reader, n);
	if (*number >= 0)
		*code = reader->regulation->stages[*number];
	else
		for (int i = 0; i < reader->nraw; i++)
			if (raw_counts(&reader->raw[i], FACT_MOVE) && reader->raw[i].fact.u.move.to == *number)
				*code = reader->raw[i].to_stage;
	return true;
}

/* ---- fields and managers ---- */

/* A field set to what it is known to have held. */
static Fact *
add_field_fact(TimelineReader *reader, int number, const FieldValue *value, instant at)
{
	Fact	   *fact = add_fact(reader, FACT_FIELD, at);

	fact->u.field.number = number;
	fact->u.field.value = value->holds ? value->hash : 0;
	fact->u.field.moment = value->holds ? value->moment : INSTANT_NEVER;
	if (value->holds)
		fact->flags |= FACT_HOLDS;
	return fact;
}

/* Reads the values of field events, and finds each slot's first and last. */
static void
read_fields(TimelineReader *reader)
{
	for (int i = 0; i < reader->nraw; i++)
	{
		RawFact    *raw = &reader->raw[i];
		FieldType	type = FIELD_CUSTOM;
		FieldValue	value;

		if (!raw_counts(raw, FACT_FIELD))
			continue;
		if (raw->slot >= 0)
		{
			Slot	   *slot = &reader->slots[raw->slot];

			type = slot->type;
			if (slot->first < 0)
				slot->first = i;
			slot->last = i;
		}
		value = field_read(raw->text, type, reader->account->zone);
		raw->fact.u.field.value = value.holds ? value.hash : 0;
		raw->fact.u.field.moment = value.holds ? value.moment : INSTANT_NEVER;
		if (value.holds)
			raw->fact.flags |= FACT_HOLDS;
	}
}

/* What the fields held from the beginning, as far as no event says it. */
static void
derive_first_values(TimelineReader *reader)
{
	instant		created = reader->deal.created_at;

	for (int i = 0; i < reader->nslots; i++)
	{
		const Slot *slot = &reader->slots[i];

		if (slot->first < 0)
		{
			if (slot->present.holds)
				add_field_fact(reader, slot->number, &slot->present, created);
		}
		else
		{
			const RawFact *raw = &reader->raw[slot->first];
			FieldValue	before;

			if (raw->text_before == NULL || raw->fact.at <= created)
				continue;
			before = field_read(raw->text_before, slot->type, reader->account->zone);
			if (before.holds)
				add_field_fact(reader, slot->number, &before, created);
		}
	}
}

/* Who was responsible before the first event that says so. */
static void
derive_first_manager(TimelineReader *reader)
{
	reader->result.line.manager_id = reader->deal.manager_id;
	for (int i = 0; i < reader->nraw; i++)
	{
		RawFact    *raw = &reader->raw[i];

		if (!raw_counts(raw, FACT_RESPONSIBLE))
			continue;
		if (raw->text_before != NULL)
			reader->result.line.manager_id = facts_manager(raw->text_before);
		break;
	}
	for (int i = 0; i < reader->nraw; i++)
		if (raw_counts(&reader->raw[i], FACT_RESPONSIBLE))
			reader->raw[i].fact.u.manager = facts_manager(reader->raw[i].text);
}

/* ---- what went unobserved (synced accounts) ---- */

/* Adds, in order of time, what the columns show and no event does. */
static void
derive_unobserved(TimelineReader *reader)
{
	const DealRow *deal = &reader->deal;
	instant		at = deal->updated_at;
	int			stands;
	stage_code	code;
	instant		moved_at;
	Fact	   *fact;

	if (at == INSTANT_EVER)
		return;
	if (last_stage(reader, &stands, &code, &moved_at) && moved_at < at)
	{
		int			stage = facts_stage(reader, deal->stage, STAGE_UNKNOWN);

		if (stage != stands)
		{
			fact = add_fact(reader, FACT_MOVE, Max(at, deal->created_at));
			fact->flags |= FACT_UNOBSERVED;
			fact->u.move.from = (int16) stands;
			fact->u.move.to = (int16) stage;
		}
	}
	for (int i = 0; i < reader->nslots; i++)
	{
		const Slot *slot = &reader->slots[i];
		const RawFact *raw;

		if (slot->last < 0)
			continue;
		raw = &reader->raw[slot->last];
		if (raw->fact.at < at &&
			raw->fact.u.field.value != (slot->present.holds ? slot->present.hash : 0))
			add_field_fact(reader, slot->number, &slot->present, Max(at, deal->created_at));
	}
}

/* ---- the columns as the events have it ---- */

/* Keys of custom that differ from their last event. */
static void
derive_custom(TimelineReader *reader, DealColumns *columns)
{
	columns->custom_names = palloc(reader->nslots * sizeof(char *));
	columns->custom_values = palloc(reader->nslots * sizeof(char *));
	for (int i = FIELD_COLUMNS; i < reader->nslots; i++)
	{
		const Slot *slot = &reader->slots[i];
		const char *value;

		if (slot->last < 0)
			continue;
		value = reader->raw[slot->last].text;
		if (value == NULL ? slot->custom == NULL :
			slot->custom != NULL && strcmp(value, slot->custom) == 0)
			continue;
		columns->stale |= STALE_CUSTOM;
		columns->custom_names[columns->ncustom] = slot->name;
		columns->custom_values[columns->ncustom++] = value;
	}
}

/* What the columns ought to hold, for columns.c. */
static void
derive_columns(TimelineReader *reader)
{
	DealColumns *columns = &reader->result.columns;
	const DealRow *deal = &reader->deal;
	const RawFact *first_responsible = NULL;
	int			number;
	instant		moved_at;

	memset(columns, 0, sizeof(*columns));
	columns->manager_id = deal->manager_id;
	if (last_stage(reader, &number, &columns->stage, &moved_at) &&
		columns->stage != deal->stage)
		columns->stale |= STALE_STAGE;
	for (int i = 0; i < reader->nraw; i++)
		if (raw_counts(&reader->raw[i], FACT_RESPONSIBLE))
		{
			if (first_responsible == NULL)
				first_responsible = &reader->raw[i];
			columns->manager_id = reader->raw[i].fact.u.manager;
		}
	if (columns->manager_id != deal->manager_id)
	{
		columns->stale |= STALE_MANAGER;
		columns->first_manager = deal->manager_id;
		columns->keep_first_manager = first_responsible->text_before == NULL &&
			first_responsible->fact.at > deal->created_at;
	}
	for (int i = 0; i < FIELD_COLUMNS; i++)
	{
		const Slot *slot = &reader->slots[i];
		FieldValue *value = &columns->fields[i];

		if (slot->last < 0)
			continue;
		*value = field_read(reader->raw[slot->last].text, slot->type, reader->account->zone);
		/* false and null are both nothing, yet not the same column */
		if (value->isnull != slot->present.isnull || value->hash != slot->present.hash)
			if (value->readable || !slot->present.isnull)
				columns->stale |= STALE_FIELD << i;
	}
	derive_custom(reader, columns);
	for (int i = 0; i < reader->nraw; i++)
		columns->ngone += reader->raw[i].gave_way;
	columns->gone = palloc(columns->ngone * sizeof(int64) + 1);
	columns->ngone = 0;
	for (int i = 0; i < reader->nraw; i++)
		if (reader->raw[i].gave_way)
			columns->gone[columns->ngone++] = reader->raw[i].fact.id;
}

/* ---- all together ---- */

/* The next instant after as_of at which the deal may change by itself. */
static instant
next_instant(const TimelineReader *reader)
{
	const Regulation *regulation = reader->regulation;
	const Timeline *line = &reader->result.line;
	instant		as_of = reader->as_of;
	instant		next = INSTANT_NEVER;
	instant		moments[64];

	if (line->deleted_at <= as_of)
		return INSTANT_NEVER;
	for (int i = 0; i < reader->nraw; i++)
	{
		instant		at = at_of(reader, &reader->raw[i]);

		if (!reader->raw[i].gave_way && at > as_of && at < next)
			next = at;
	}

	/* what the fields hold as of now */
	Assert(regulation->nfields <= lengthof(moments));
	for (int i = 0; i < regulation->nfields; i++)
		moments[i] = INSTANT_NEVER;
	for (int i = 0; i < line->nfacts; i++)
	{
		const Fact *fact = &line->facts[i];

		if (fact->at > as_of)
			next = Min(next, fact->at);
		else if (fact->kind == FACT_FIELD && fact->u.field.number < regulation->nfields)
			moments[fact->u.field.number] = fact->u.field.moment;
	}
	for (int i = 0; i < regulation->nfields; i++)
		if (regulation->atom_of_moment[i] != NO_NUMBER && moments[i] > as_of)
			next = Min(next, moments[i]);
	for (int i = 0; i < regulation->nsoon; i++)
	{
		const Atom *atom = &regulation->atoms[regulation->soon[i]];
		instant		moment = moments[atom->number];

		/* as set_next_wake() of judge.c: soon is "in less than" */
		if (moment != INSTANT_NEVER && moment > INSTANT_EVER + atom->value &&
			moment - atom->value + 1 > as_of)
			next = Min(next, moment - atom->value + 1);
	}
	if (next != INSTANT_NEVER && line->deleted_at < next)
		next = line->deleted_at;
	return next;
}

/* What is known before any fact is looked at. */
static void
fill_line(TimelineReader *reader)
{
	Timeline   *line = &reader->result.line;
	const Account *account = reader->account;

	memset(&reader->result, 0, sizeof(reader->result));
	line->account_id = account->id;
	line->deal_id = reader->deal.id;
	line->created_at = reader->deal.created_at;
	line->deleted_at = reader->deal.deleted_at;
	line->known_from = account->known_from;
	/* of what it did before nothing is known yet, so nothing is judged (load.c) */
	if (account->loading && reader->deal.created_at < account->known_from)
		line->known_from = INSTANT_NEVER;
	line->as_of = reader->as_of;
	line->nfields = reader->first_other + reader->nothers;
	line->nfeeds = account->nfeeds;
	line->feed_since = account->feed_since;
	line->calendar = account->calendar;
}

/* Puts facts that derive_unobserved() added at the end where they belong. */
static void
put_in_order(TimelineReader *reader, int derived)
{
	Timeline   *line = &reader->result.line;

	for (int i = derived; i < line->nfacts; i++)
	{
		Fact		fact = reader->facts[i];
		int			k = i;

		for (; k > 0 && reader->facts[k - 1].at > fact.at; k--)
			reader->facts[k] = reader->facts[k - 1];
		reader->facts[k] = fact;
	}
}

void
derive_line(TimelineReader *reader)
{
	Timeline   *line = &reader->result.line;
	int			observed;

	fill_line(reader);
	give_way(reader);
	read_fields(reader);
	derive_first_manager(reader);
	derive_first_stage(reader);
	derive_first_values(reader);
	for (int i = 0; i < reader->nraw; i++)
	{
		const RawFact *raw = &reader->raw[i];
		instant		at = at_of(reader, raw);
		Fact	   *fact;

		if (raw->gave_way || at > reader->as_of)
			continue;
		fact = add_fact(reader, (FactKind) raw->fact.kind, at);
		*fact = raw->fact;
		fact->at = at;
	}
	observed = line->nfacts;
	if (reader->account->synced)
		derive_unobserved(reader);
	put_in_order(reader, observed);
	if (reader->flags & TIMELINE_COLUMNS)
		derive_columns(reader);
	/* a deal of a pipeline that nobody mapped is kept, not judged */
	if (!reader->deal.in_regulation)
		line->nfacts = 0;
	reader->result.next_at = next_instant(reader);
}
