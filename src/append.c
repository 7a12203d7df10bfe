/*-------------------------------------------------------------------------
 *
 * append.c
 *	  Events that are appended because a column of deal was written.
 *
 * The judge reads events, so a write of deal.stage, of the responsible or of a
 * field becomes an event too (DESIGN section 3).  A statement over many deals
 * appends with few statements.
 *
 * What the deal was created with is not appended where a loaded event already
 * tells it: see derive.c for how appended events give way.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "append.h"
#include "effects_run.h"
#include "gate.h"
#include "stage.h"
#include "tables.h"

/* Events written at a time. */
#define BATCH			1000

struct Appending
{
	Oid			role;
	MemoryContext context;
	bool		actor_known;	/* of which account the actor was looked up */
	int64		actor_account;
	int64		actor_id;
	bool		has_actor;
	BulkColumn	account, deal, at, first, kind, from_stage, to_stage, field,
				value, value_before, actor, by_bot;
	BulkColumn	moved_account, moved_deal, moved_from, moved_to;
};

static Statement insert_events = {
	"insert into regcrm.event (account_id, deal_id, at, kind, from_stage, to_stage, field,"
	" value, value_before, actor_id, by_bot, source)"
	" select u.account_id, u.deal_id, u.at, u.kind, u.from_stage, u.to_stage, u.field,"
	" u.value, u.value_before, u.actor_id, u.by_bot, 'regcrm'"
	" from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) with ordinality"
	" u(account_id, deal_id, at, first, kind, from_stage, to_stage, field, value,"
	" value_before, actor_id, by_bot, place)"
	" where not (u.first and exists (select from regcrm.event l"
	" where l.account_id = u.account_id and l.deal_id = u.deal_id and l.at <= u.at"
	" and l.kind = u.kind and l.field is not distinct from u.field"
	" and l.source is distinct from 'regcrm'))"
	" order by u.place",
	12, {INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, BOOLARRAYOID, TEXTARRAYOID,
		ARG_STAGES, ARG_STAGES, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
	BOOLARRAYOID}
};
static Statement move_events = {
	"update regcrm.event e set at = u.moved_to"
	" from (select v.moved_to, f.tid"
	" from unnest($1, $2, $3, $4) v(account_id, deal_id, moved_from, moved_to)"
	" cross join lateral (select f.ctid as tid from regcrm.event f"
	" where f.account_id = v.account_id and f.deal_id = v.deal_id and f.at = v.moved_from"
	" and f.source = 'regcrm' and f.from_stage is null and f.value_before is null"
	" offset 0) f offset 0) u where e.ctid = u.tid",
	4, {INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID}
};
static Statement select_actor = {
	"select id from regcrm.manager where account_id = $1 and db_role = $2"
	" order by id limit 1",
	2, {INT8OID, NAMEOID}
};

/* Begins a new batch; what is known of the actor stays. */
static void
reset(Appending *appending)
{
	MemoryContextReset(appending->context);
	memset(&appending->account, 0, sizeof(Appending) - offsetof(Appending, account));
	appending->account.type = appending->deal.type = appending->actor.type = INT8OID;
	appending->at.type = TIMESTAMPTZOID;
	appending->moved_account.type = appending->moved_deal.type = INT8OID;
	appending->moved_from.type = appending->moved_to.type = TIMESTAMPTZOID;
	appending->first.type = appending->by_bot.type = BOOLOID;
	appending->from_stage.type = appending->to_stage.type = ARG_STAGE;
	appending->kind.type = appending->field.type = appending->value.type =
		appending->value_before.type = TEXTOID;
}

Appending *
append_begin(Oid role)
{
	Appending  *appending = palloc0(sizeof(Appending));

	appending->role = role;
	appending->context = AllocSetContextCreate(CurrentMemoryContext, "regcrm append",
											   ALLOCSET_DEFAULT_SIZES);
	reset(appending);
	return appending;
}

/* One statement for the whole batch. */
static void
write_events(void *arg)
{
	Appending  *appending = arg;
	Datum		args[] = {
		bulk_array(&appending->account), bulk_array(&appending->deal),
		bulk_array(&appending->at), bulk_array(&appending->first),
		bulk_array(&appending->kind), bulk_array(&appending->from_stage),
		bulk_array(&appending->to_stage), bulk_array(&appending->field),
		bulk_array(&appending->value), bulk_array(&appending->value_before),
		bulk_array(&appending->actor), bulk_array(&appending->by_bot)
	};

	(void) statement_write(&insert_events, args);
}

/* Moves what a deal was created with along with its creation. */
static void
write_moves(void *arg)
{
	Appending  *appending = arg;
	Datum		args[] = {
		bulk_array(&appending->moved_account), bulk_array(&appending->moved_deal),
		bulk_array(&appending->moved_from), bulk_array(&appending->moved_to)
	};

	(void) statement_write(&move_events, args);
}

/*
 * Writes the batch, creations that were moved first: their events may follow.
 */
static void
flush(Appending *appending)
{
	MemoryContext old;

	if (appending->account.n == 0 && appending->moved_account.n == 0)
		return;
	CHECK_FOR_INTERRUPTS();
	/* the batch before may have filled an empty table: plans made for that would go quadratic */
	tables_measure();
	old = MemoryContextSwitchTo(appending->context);
	if (appending->moved_account.n > 0)
		gate_write_quietly("event", write_moves, appending);
	if (appending->account.n > 0)
		gate_write_quietly("event", write_events, appending);
	MemoryContextSwitchTo(old);
	reset(appending);
}

bool
append_actor(int64 account_id, Oid role, int64 *manager_id)
{
	char	   *name = GetUserNameFromId(role, true);
	bool		found = false;
	NameData	key;
	Datum		args[2];

	if (name == NULL)
		return false;
	namestrcpy(&key, name);
	args[0] = Int64GetDatum(account_id);
	args[1] = NameGetDatum(&key);
	if (statement_write(&select_actor, args) > 0)
	{
		bool		isnull;

		found = true;
		*manager_id = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0],
												  SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/* Looks the writer up once for each account. */
static void
find_actor(Appending *appending, int64 account_id)
{
	if (appending->actor_known && appending->actor_account == account_id)
		return;
	appending->actor_known = true;
	appending->actor_account = account_id;
	appending->has_actor = append_actor(account_id, appending->role, &appending->actor_id);
}

void
append_event(Appending *appending, const AppendedEvent *event)
{
	MemoryContext old;
	bool		by_bot = effects_acting() && !event->first;

	/* a lead comes by itself: nobody did what it was created with */
	if (!event->first && !by_bot)
		find_actor(appending, event->account_id);
	old = MemoryContextSwitchTo(appending->context);
	bulk_add(&appending->account, Int64GetDatum(event->account_id), false);
	bulk_add(&appending->deal, Int64GetDatum(event->deal_id), false);
	bulk_add(&appending->at, TimestampTzGetDatum(event->at), false);
	bulk_add(&appending->first, BoolGetDatum(event->first), false);
	bulk_add_text(&appending->kind, event->kind);
	bulk_add(&appending->from_stage, StageGetDatum(event->from_stage), event->from_stage == 0);
	bulk_add(&appending->to_stage, StageGetDatum(event->to_stage), event->to_stage == 0);
	bulk_add_text(&appending->field, event->field);
	bulk_add_text(&appending->value, event->value);
	bulk_add_text(&appending->value_before, event->value_before);
	bulk_add(&appending->actor, Int64GetDatum(appending->actor_id),
			 event->first || by_bot || !appending->has_actor);
	bulk_add(&appending->by_bot, BoolGetDatum(by_bot), false);
	MemoryContextSwitchTo(old);
	if (appending->account.n >= BATCH)
		flush(appending);
}

void
append_moved(Appending *appending, int64 account_id, int64 deal_id, instant from, instant to)
{
	MemoryContext old = MemoryContextSwitchTo(appending->context);

	bulk_add(&appending->moved_account, Int64GetDatum(account_id), false);
	bulk_add(&appending->moved_deal, Int64GetDatum(deal_id), false);
	bulk_add(&appending->moved_from, TimestampTzGetDatum(from), false);
	bulk_add(&appending->moved_to, TimestampTzGetDatum(to), false);
	MemoryContextSwitchTo(old);
	if (appending->moved_account.n >= BATCH)
		flush(appending);
}

void
append_end(Appending *appending)
{
	flush(appending);
	MemoryContextDelete(appending->context);
	pfree(appending);
}
