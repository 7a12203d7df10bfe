/*-------------------------------------------------------------------------
 *
 * pass.c
 *	  One pass over an account: who it is, its feeds, how far it is known.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "amocrm.h"
#include "outbox.h"
#include "sync_int.h"
#include "work.h"

/*
 * In the order of a pass: dictionaries first, since facts are read by them,
 * events last, since they speak of the rest.
 */
static const Feed feeds[] = {
	{"account", FEED_DICTIONARY, "/api/v4/account", NULL, 0,
	"task_types,users_groups,datetime_settings", NULL, NULL, false},
	{"users", FEED_DICTIONARY, "/api/v4/users", "users", 250,
	"group", NULL, NULL, false},
	{"pipelines", FEED_DICTIONARY, "/api/v4/leads/pipelines", "pipelines", 0,
	NULL, NULL, NULL, false},
	{"loss_reasons", FEED_DICTIONARY, "/api/v4/leads/loss_reasons", "loss_reasons", 250,
	NULL, NULL, NULL, true},
	{"custom_fields", FEED_DICTIONARY, "/api/v4/leads/custom_fields", "custom_fields", 250,
	NULL, NULL, NULL, false},
	{"leads", FEED_SORTED, "/api/v4/leads", "leads", 250,
	"contacts,loss_reason,source_id,source", "updated_at", "order[updated_at]", false},
	{"leads_deleted", FEED_SORTED, "/api/v4/leads", "leads", 250,
	"only_deleted", "updated_at", "order[updated_at]", false},
	{"contacts", FEED_SORTED, "/api/v4/contacts", "contacts", 250,
	"leads", "updated_at", "order[updated_at]", false},
	{"tasks", FEED_MOVING, "/api/v4/tasks", "tasks", 250,
	NULL, "updated_at", "order[id]", false},
	{"lead_notes", FEED_SORTED, "/api/v4/leads/notes", "notes", 250,
	NULL, "updated_at", "order[updated_at]", false},
	{"contact_notes", FEED_SORTED, "/api/v4/contacts/notes", "notes", 250,
	NULL, "updated_at", "order[updated_at]", false},
	{"company_notes", FEED_SORTED, "/api/v4/companies/notes", "notes", 250,
	NULL, "updated_at", "order[updated_at]", false},
	{"events", FEED_FIXED, "/api/v4/events", "events", 250,
	NULL, "created_at", "order[created_at]", false},
};

/* Feeds that are read in windows. */
#define NLISTS				(lengthof(feeds) - 5)

const Feed *
pass_feed(int number)
{
	return number < lengthof(feeds) ? &feeds[number] : NULL;
}

/* ---------------------------------------------------------------- a pass */

typedef struct AccountStep
{
	Pass	   *pass;
	bool		found;
	char	   *base_url;
	bool		is_synced;
	bool		is_paused;
	bool		has_last;
	TimestampTz last_used;
} AccountStep;

static void
step_load_account(void *arg)
{
	AccountStep *step = arg;
	const Oid	types[] = {INT8OID};
	Datum		values[1];
	bool		isnull;
	Datum		value;

	values[0] = Int64GetDatum(step->pass->account_id);
	step->found = work_execute("SELECT a.base_url, a.known_until IS NOT NULL AS is_synced, a.paused,"
							   " (SELECT max(s.updated_at) FROM regcrm.sync_state s"
							   "  WHERE s.account_id = a.id) AS last_used"
							   " FROM regcrm.account a WHERE a.id = $1",
							   1, types, values, NULL) > 0;
	if (!step->found)
		return;
	step->base_url = sync_keep_text(step->pass->context, 0, "base_url");
	step->is_synced = DatumGetBool(work_datum(0, "is_synced", &isnull));
	step->is_paused = DatumGetBool(work_datum(0, "paused", &isnull));
	value = work_datum(0, "last_used", &isnull);
	step->has_last = !isnull;
	if (!isnull)
		step->last_used = DatumGetTimestampTz(value);
}

const Feed *
pass_feed_named(const char *name)
{
	for (int i = 0; i < lengthof(feeds); i++)
		if (strcmp(feeds[i].name, name) == 0)
			return &feeds[i];
	elog(ERROR, "unknown feed \"%s\"", name);
	return NULL;
}

static void
step_read_identity(void *arg)
{
	IdentityStep *step = arg;
	AmoPage		page;
	double		number;
	JsonbValue	embedded;
	JsonbValue	settings;
	JsonbValue	zone;

	step->id = 0;
	if (!amo_read_page(step->body, step->length, "", NULL, &page) || page.page == NULL)
		return;
	if (!sync_json_number(page.page, "id", &number) || number < 1 || number > 9e15 ||
		number != floor(number))
		return;
	step->name = sync_json_text(step->context, page.page, "name");
	step->subdomain = sync_json_text(step->context, page.page, "subdomain");
	step->time_zone = sync_json_text(step->context, page.page, "timezone");
	if (step->time_zone == NULL &&
		getKeyJsonValueFromContainer(&page.page->root, "_embedded", 9, &embedded) != NULL &&
		embedded.type == jbvBinary && JsonContainerIsObject(embedded.val.binary.data) &&
		getKeyJsonValueFromContainer(embedded.val.binary.data, "datetime_settings", 17, &settings) != NULL &&
		settings.type == jbvBinary && JsonContainerIsObject(settings.val.binary.data) &&
		getKeyJsonValueFromContainer(settings.val.binary.data, "timezone", 8, &zone) != NULL &&
		zone.type == jbvString)
		step->time_zone = MemoryContextStrdup(step->context,
											  pnstrdup(zone.val.string.val, zone.val.string.len));
	step->id = (int64) number;
	if (sync_json_number(page.page, "created_at", &number) && sync_is_unix(number))
	{
		step->has_founded = true;
		step->founded = sync_from_unix((int64) number) - USECS_PER_DAY;
	}
}

/*
 * Asks amoCRM who it takes us for.  The first request of every pass: it tells
 * amoCRM's time, and that the address still leads to the same account.
 */
bool
pass_ask_identity(Pass *pass, IdentityStep *identity)
{
	StringInfoData path;
	AmoAnswer	answer = {0};
	ErrorData  *error;

	initStringInfo(&path);
	appendStringInfoString(&path, feeds[0].path);
	amo_parameter(&path, "with", feeds[0].with);
	if (!pass_ask(pass, path.data, false, &answer))
		return false;

	memset(identity, 0, sizeof(IdentityStep));
	identity->context = pass->context;
	identity->body = answer.body;
	identity->length = answer.length;
	if (answer.verdict == AMO_PAGE)
	{
		error = work_transaction(pass->in_call, step_read_identity, identity);
		if (error != NULL)
		{
			pass_trouble_by_error(pass, error);
			pass->trouble = TROUBLE_STOP;
			return false;
		}
	}
	if (identity->id == 0)
	{
		pass_trouble(pass, TROUBLE_STOP, "%s tells no account", feeds[0].path);
		return false;
	}
	return true;
}

/*
 * Takes in what the first request brought: the account itself.  The answer
 * must still be the client's last one.
 */
static void
take_account(Pass *pass, const IdentityStep *identity)
{
	Cursor		cursor = {0};
	PageStep	step = {{0}};
	ErrorData  *error;

	cursor.page = 1;
	cursor.to = pass->end;
	step.cursor.pass = pass;
	step.cursor.feed = &feeds[0];
	step.cursor.cursor = &cursor;
	step.body = identity->body;
	step.length = identity->length;
	error = work_transaction(pass->in_call, step_page, &step);
	if (error != NULL)
	{
		/* No fact hangs on it: the next pass tries again. */
		pass_trouble_by_error(pass, error);
		pass_note_failure(pass, feeds[0].name, false);
		pass->trouble = TROUBLE_NONE;
		return;
	}
	pass->pages++;
	pass->rows++;
	pass->counted_requests = pass_requests(pass);
}

typedef struct AdvanceStep
{
	Pass	   *pass;
} AdvanceStep;

/*
 * All feeds are complete up to a later moment: moves known_until there and
 * has judged what that frees.  A first load begins by itself (load.c).
 */
static void
step_advance(void *arg)
{
	Pass	   *pass = ((AdvanceStep *) arg)->pass;
	const Oid	types[] = {INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[3];
	bool		isnull;
	StringInfoData names;

	/* The least that any feed has reached; a feed without a row: nothing. */
	initStringInfo(&names);
	for (int i = 0; i < lengthof(feeds); i++)
		if (feeds[i].kind != FEED_DICTIONARY)
			appendStringInfo(&names, "%s('%s')", names.len > 0 ? "," : "", feeds[i].name);

	values[0] = Int64GetDatum(pass->account_id);
	if (work_execute(psprintf("SELECT a.known_until, m.reached FROM regcrm.account a,"
							  " (SELECT CASE WHEN bool_and(s.done_to IS NOT NULL)"
							  "   THEN min(s.done_to) END AS reached"
							  "  FROM (VALUES %s) f (name) LEFT JOIN regcrm.sync_state s"
							  "  ON s.account_id = $1 AND s.entity = f.name) m"
							  " WHERE a.id = $1 AND m.reached > a.known_until"
							  " AND (NOT a.loading OR a.known_from < 'infinity')"
							  " FOR NO KEY UPDATE OF a", names.data),
					 1, types, values, NULL) == 0)
		return;
	values[1] = work_datum(0, "known_until", &isnull);
	values[2] = work_datum(0, "reached", &isnull);

	(void) work_execute("UPDATE regcrm.account a SET known_until = $3"
						" WHERE a.id = $1 AND a.known_until = $2",
						3, types, values, NULL);
	(void) work_execute("SELECT regcrm.account_advanced($1, $2, $3)", 3, types, values, NULL);
}

static void
step_passed(void *arg)
{
	Pass	   *pass = arg;
	int64		requests = pass_requests(pass);
	const Oid	types[] = {INT8OID, TEXTOID, INT8OID, INT8OID, BOOLOID, BOOLOID};
	Datum		values[6];

	values[0] = Int64GetDatum(pass->account_id);
	values[1] = CStringGetTextDatum(PASS_ENTITY);
	values[2] = Int64GetDatum(requests - pass->counted_requests);
	values[3] = Int64GetDatum(requests);
	values[4] = BoolGetDatum(pass->quiet);
	values[5] = BoolGetDatum(pass->loading && !pass->load_waits);
	/* While there is history to load the next pass is due at once. */
	(void) work_execute("INSERT INTO regcrm.sync_state AS s"
						" (account_id, entity, requests, pass_requests, quiet_requests, next_try_at, updated_at)"
						" VALUES ($1, $2, $3, $4, CASE WHEN $5 THEN $4 END,"
						"  CASE WHEN $6 THEN clock_timestamp() END, clock_timestamp())"
						" ON CONFLICT (account_id, entity) DO UPDATE SET"
						" requests = s.requests + excluded.requests, pass_requests = excluded.pass_requests,"
						" quiet_requests = COALESCE(excluded.quiet_requests, s.quiet_requests),"
						" last_error = NULL, last_error_at = NULL, next_try_at = excluded.next_try_at,"
						" updated_at = excluded.updated_at",
						6, types, values, NULL);
	pass->news = work_execute("UPDATE regcrm.account a SET state = 'ok', state_reason = NULL"
							  " WHERE a.id = $1 AND a.state <> 'disconnected'"
							  " AND (a.state <> 'ok' OR a.state_reason IS NOT NULL)",
							  1, types, values, NULL) > 0;
}

/*
 * The first words of a pass: with a token that lasts, who are we?
 */
static bool
greet(Pass *pass, IdentityStep *identity)
{
	tokens_load(pass);
	/* A token that is about to end is renewed before it fails. */
	if ((pass->tokens.access == NULL ||
		 (pass->tokens.refresh != NULL && pass->tokens.has_expiry &&
		  pass->tokens.expires_at - GetCurrentTimestamp() < RENEW_BEFORE)) &&
		!tokens_renew(pass))
		return false;
	return pass_ask_identity(pass, identity);
}

/* Whether an answer may mean that the account has moved. */
static bool
no_account_there(int status)
{
	return status == 401 || status == 404 || (status >= 300 && status < 400);
}

/*
 * A pass in which some list had to wait after its last failure.
 */
static void
step_waited(void *arg)
{
	Pass	   *pass = arg;
	const Oid	types[] = {INT8OID, TEXTOID, INT8OID};
	Datum		values[3];

	values[0] = Int64GetDatum(pass->account_id);
	values[1] = CStringGetTextDatum(PASS_ENTITY);
	values[2] = Int64GetDatum(pass_requests(pass) - pass->counted_requests);
	(void) work_execute("INSERT INTO regcrm.sync_state AS s (account_id, entity, requests, updated_at)"
						" VALUES ($1, $2, $3, clock_timestamp())"
						" ON CONFLICT (account_id, entity) DO UPDATE SET"
						" requests = s.requests + excluded.requests,"
						" next_try_at = NULL, updated_at = excluded.updated_at", 3, types, values, NULL);
	pass->counted_requests = pass_requests(pass);
}

/*
 * What the feeds have named and did not bring: things by their numbers, and
 * dictionaries that lack something.
 */
static bool
read_the_rest(Pass *pass)
{
	for (int i = 1; pass->stale_dictionaries && i < lengthof(feeds); i++)
	{
		MemoryContextSwitchTo(pass->context);
		if (feeds[i].kind == FEED_DICTIONARY && !feed_run(pass, &feeds[i]))
		{
			pass_note_failure(pass, feeds[i].name, false);
			return false;
		}
	}
	pass->stale_dictionaries = false;
	MemoryContextSwitchTo(pass->context);
	if (fetch_wanted(pass))
		return true;
	if (pass->trouble != TROUBLE_STOP)
		pass_note_failure(pass, "wanted", false);
	return false;
}

/*
 * Finds out who we are and what time it is at amoCRM.  False: pass->trouble says
 * what is in the way.
 */
static bool
begin_round(Pass *pass)
{
	IdentityStep identity;

	if (!greet(pass, &identity))
	{
		/* The account may have another address by now. */
		if (!no_account_there(pass->last_status) || !home_find(pass))
			return false;
		pass->state = NULL;
		pass->retry_seconds = 0;
		pass->renewed = false;
		if (!greet(pass, &identity))
			return false;
	}
	if (identity.id != pass->account_id)
	{
		pass->state = "needs_connect";
		pass_trouble(pass, TROUBLE_STOP, "the address and the token now belong to account " INT64_FORMAT,
					identity.id);
		return false;
	}
	pass->has_founded = identity.has_founded;
	pass->founded = identity.founded;

	/* The answer is the first dictionary as well. */
	if (!skew_check(pass, &identity))
		return false;
	take_account(pass, &identity);
	return load_begin(pass);
}

/*
 * Reads all feeds.  True when each has reached the end of the pass; else
 * pass->trouble says what is in the way of the first that has not
 * (TROUBLE_NONE: it waits for its time).
 */
static bool
read_feeds(Pass *pass)
{
	bool		complete = true;
	Trouble		first = TROUBLE_NONE;
	char		reason[sizeof(pass->reason)] = "";
	const char *state = NULL;
	int			retry_seconds = 0;

	for (int i = 1; i < lengthof(feeds); i++)
	{
		const Feed *feed = &feeds[i];

		MemoryContextSwitchTo(pass->context);
		if (feed_run(pass, feed))
			continue;

		complete = false;
		if (pass->trouble == TROUBLE_NONE)
			continue;
		MemoryContextSwitchTo(pass->context);
		if (first == TROUBLE_NONE || pass->trouble == TROUBLE_STOP)
			snprintf(reason, sizeof(reason), "%s: %s", feed->name, pass->reason);
		if (pass->trouble == TROUBLE_STOP)
		{
			pass_trouble(pass, TROUBLE_STOP, "%s", reason);
			return false;
		}
		pass_note_failure(pass, feed->name, false);
		if (first == TROUBLE_NONE)
		{
			first = pass->trouble;
			state = pass->state;
			retry_seconds = pass->retry_seconds;
		}
		pass->state = NULL;
		pass->retry_seconds = 0;
	}
	if (first != TROUBLE_NONE)
	{
		pass_trouble(pass, first, "%s", reason);
		pass->state = state;
		pass->retry_seconds = retry_seconds;
	}
	return complete;
}

/*
 * Brings all feeds, and what they named, up to now.
 */
static bool
run_feeds(Pass *pass)
{
	if (!begin_round(pass) || !read_feeds(pass))
		return false;
	return pass->loading || read_the_rest(pass);
}

/*
 * Brings all feeds up to now, and then some of the history while there is any
 * to load.
 */
static bool
run_round(Pass *pass)
{
	AdvanceStep advance = {pass};
	ErrorData  *error;
	bool		complete = run_feeds(pass);

	MemoryContextSwitchTo(pass->context);

	/* Even where some feed failed, others may have caught up. */
	if (pass->trouble != TROUBLE_STOP)
	{
		error = work_transaction(pass->in_call, step_advance, &advance);
		if (error != NULL)
		{
			pass_trouble_by_error(pass, error);
			pass_note_failure(pass, "judge", false);
			complete = false;
		}
	}
	/* a request for the account, and one for each list */
	pass->quiet = complete && !pass->loading && pass->dictionaries == 0 && pass->pages <= 1 + NLISTS;
	if (complete && pass->loading)
		complete = load_on(pass);
	MemoryContextSwitchTo(pass->context);
	return complete;
}

/*
 * One pass over one account, whose lock the caller holds.  False: something is
 * in the way, and has been written down; pass->reason says what
 * (TROUBLE_NONE: some feed waits for its time).
 */
bool
pass_run(Pass *pass)
{
	AccountStep account = {pass, false, NULL, false, false, false, 0};
	TimestampTz began = GetCurrentTimestamp();
	ErrorData  *error;
	char	   *origin;
	char	   *host;
	const char *wrong;
	bool		complete;

	MemoryContextSwitchTo(pass->context);
	error = work_transaction(pass->in_call, step_load_account, &account);
	if (error != NULL)
		ReThrowError(error);
	if (!account.found || account.base_url == NULL || !account.is_synced)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("account " INT64_FORMAT " is not connected to amoCRM", pass->account_id),
				 errhint("CALL regcrm.connect('https://…', token => '…').")));
	wrong = http_check_base(account.base_url, &origin, &host);
	if (wrong != NULL)
	{
		pass_trouble(pass, TROUBLE_STOP, "base URL \"%s\" cannot be used: %s", account.base_url, wrong);
		pass_note_failure(pass, PASS_ENTITY, true);
		return false;
	}

	pass->api = amo_open(pass->context, origin);
	if (account.has_last)
		amo_last_used(pass->api, account.last_used);
	pass->noticed_at = GetCurrentTimestamp();

	do
		complete = run_round(pass);
	while (complete && pass->loading && pass->in_call);
	if (complete && pass->reconcile_days > 0)
		complete = reconcile_account(pass, pass->reconcile_days);
	MemoryContextSwitchTo(pass->context);
	if (complete)
	{
		error = work_transaction(pass->in_call, step_passed, pass);
		if (error != NULL)
		{
			pass_trouble_by_error(pass, error);
			return false;
		}
		pass->counted_requests = pass_requests(pass);
		outbox_run(pass);
		if (pass->news)
			ereport(LOG,
					(errmsg("sync of account " INT64_FORMAT " works again", pass->account_id)));
	}
	ereport(DEBUG1,
			(errmsg("sync of account " INT64_FORMAT ": %s, " INT64_FORMAT " requests, " INT64_FORMAT " pages, "
					INT64_FORMAT " rows, " INT64_FORMAT " to quarantine, %ld ms",
					pass->account_id, !complete ? "not complete" : pass->loading ? "complete, history is being loaded" : "complete",
					pass_requests(pass), pass->pages, pass->rows, pass->quarantined,
					(long) ((GetCurrentTimestamp() - began) / 1000))));
	if (complete)
		return true;
	if (pass->halted)
		return false;
	if (pass->trouble != TROUBLE_NONE)
		pass_note_failure(pass, PASS_ENTITY, true);
	else
	{
		/* Nothing is wrong now: some list waits, and the next pass is not due before its time. */
		error = work_transaction(pass->in_call, step_waited, pass);
		if (error != NULL)
			pass_trouble_by_error(pass, error);
	}
	return false;
}

Pass *
pass_make(MemoryContext parent, int64 account_id, bool in_call, bool whole)
{
	MemoryContext context = AllocSetContextCreate(parent, "regcrm sync pass",
												  ALLOCSET_DEFAULT_SIZES);
	Pass	   *pass = MemoryContextAllocZero(context, sizeof(Pass));

	pass->context = context;
	pass->page_context = AllocSetContextCreate(context, "regcrm sync page",
											   ALLOCSET_DEFAULT_SIZES);
	pass->account_id = account_id;
	pass->in_call = in_call;
	pass->whole = whole;
	return pass;
}
