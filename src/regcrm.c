/*-------------------------------------------------------------------------
 *
 * regcrm.c
 *	  Loads: module magic, settings, and the rooms in turn.
 *
 * The library is loaded by the postmaster where shared_preload_libraries names
 * it, else by the first backend that calls one of its functions.  Nothing here
 * or in a room's init function may read a table, start a thread or initialise
 * libcurl: the postmaster's children would inherit it.
 *
 * Who may change a setting:
 *	regcrm.mode, regcrm.allow_http, the limits of the sync
 *		superusers, and roles that were granted it (GRANT SET ON PARAMETER);
 *	regcrm.account_id
 *		everyone: it only fills a column that was left out;
 *	regcrm.databases
 *		the configuration file: the launcher reads it;
 *	regcrm.ingesting
 *		the owner of the tables, by the SET clause of a function or in a
 *		session; see check_ingesting.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <limits.h>

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "gate.h"
#include "news.h"
#include "regcrm.h"
#include "regulation.h"
#include "stage.h"
#include "wake.h"
#include "worker.h"
#include "workhours.h"

COMPAT_MODULE_MAGIC;

/*
 * What happens to an illegal write by SQL.  An administrator sets "record" for
 * a role that mirrors another system, "off" around a bulk load that rejudge()
 * follows.
 */
int			regcrm_mode = REGCRM_MODE_ENFORCE;

/*
 * On while ingest() and its like write: the triggers on the facts then append
 * nothing, follow nothing and refuse nothing, whatever regcrm.mode says.
 */
bool		regcrm_ingesting = false;

/*
 * The account that rows belong to whose writer names none.  A session that
 * works for one of several accounts sets it.  Empty = not set.
 */
static char *account_id_setting;
static int64 account_id_value;

/* How long the sync worker rests between two passes over an account. */
int			regcrm_sync_interval = 60;
/* How many accounts at a time: set by who has many of them, or few slots for workers. */
int			regcrm_sync_processes = 4;

/*
 * How fast one account is asked.  amoCRM blocks an account that is asked more
 * often than seven times a second; several integrations share that allowance.
 */
int			regcrm_requests_per_second = 7;

/* How long one request may take in all.  Raised for a slow line. */
int			regcrm_http_timeout = 30000;

/* A longer answer is not read to its end: a limit on memory, not on data. */
int			regcrm_max_response_size = 65536;

/*
 * Lets base_url begin with http://, for tests against a local simulator: a
 * token sent that way can be read on its way.
 */
bool		regcrm_allow_http = false;

/*
 * Certificates to trust in place of the machine's own, for who stands behind a
 * gateway that shows its own certificate.  Empty = the machine's.
 */
char	   *regcrm_ca_file;

/* Databases in which the launcher keeps a clock and a sync worker. */
char	   *regcrm_databases;

static const struct config_enum_entry mode_options[] = {
	{"enforce", REGCRM_MODE_ENFORCE, false},
	{"record", REGCRM_MODE_RECORD, false},
	{"off", REGCRM_MODE_OFF, false},
	{NULL, 0, false}
};

/* True while _PG_init defines the settings, which applies values set before. */
static bool loading;

extern PGDLLEXPORT void _PG_init(void);

static void define_settings(void);
static bool check_account_id(char **newval, void **extra, GucSource source);
static void assign_account_id(const char *newval, void *extra);
static bool check_ingesting(bool *newval, void **extra, GucSource source);

void
_PG_init(void)
{
	loading = true;
	define_settings();
	loading = false;

	stage_init();
	workhours_init();
	regulation_init();
	gate_init();
	wake_init();
	news_init();

	/* pg_upgrade starts servers whose catalogs are half restored. */
	if (!IsBinaryUpgrade)
		worker_init();

	/* Last: a room may have settings of its own. */
	MarkGUCPrefixReserved("regcrm");
}

bool
regcrm_account_id(int64 *account_id)
{
	if (account_id_setting == NULL || account_id_setting[0] == '\0')
		return false;
	*account_id = account_id_value;
	return true;
}

static void
define_settings(void)
{
	DefineCustomEnumVariable("regcrm.mode",
							 "Sets what happens to illegal writes by SQL.",
							 "enforce refuses them, record records them, off takes rows as they are and judges nothing.",
							 &regcrm_mode,
							 REGCRM_MODE_ENFORCE, mode_options,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);

	DefineCustomStringVariable("regcrm.account_id",
							   "Sets the account of rows that name none.",
							   "Empty means the only account there is.",
							   &account_id_setting,
							   "",
							   PGC_USERSET, 0,
							   check_account_id, assign_account_id, NULL);

	DefineCustomBoolVariable("regcrm.ingesting",
							 "On while facts of the CRM are being taken in.",
							 "For the extension's own functions.",
							 &regcrm_ingesting,
							 false,
							 PGC_USERSET,
							 GUC_NO_SHOW_ALL | GUC_NO_RESET_ALL |
							 GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							 check_ingesting, NULL, NULL);

	DefineCustomIntVariable("regcrm.sync_interval",
							"Sets the time between two passes of the sync worker over an account.",
							NULL,
							&regcrm_sync_interval,
							60, 1, 24 * 60 * 60,
							PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomIntVariable("regcrm.sync_processes",
							"Sets how many accounts the sync worker reads at a time, where there are several.",
							"Each takes a slot of max_worker_processes for as long as its pass lasts; 0 = one after the other.",
							&regcrm_sync_processes,
							4, 0, 32,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("regcrm.requests_per_second",
							"Sets how many requests a second are sent for one account.",
							"amoCRM blocks accounts that are asked more than seven times a second.",
							&regcrm_requests_per_second,
							7, 1, 1000,
							PGC_SUSET, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("regcrm.http_timeout",
							"Sets how long one request may take.",
							NULL,
							&regcrm_http_timeout,
							30000, 100, 10 * 60 * 1000,
							PGC_SUSET, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomIntVariable("regcrm.max_response_size",
							"Sets how long an answer may be.",
							NULL,
							&regcrm_max_response_size,
							65536, 1, 512 * 1024,
							PGC_SUSET, GUC_UNIT_KB,
							NULL, NULL, NULL);

	DefineCustomStringVariable("regcrm.ca_file",
							   "File of certificates (PEM) that vouch for amoCRM's, in place of the machine's own.",
							   "For servers behind a gateway that shows a certificate of its own. Empty means the machine's.",
							   &regcrm_ca_file,
							   "",
							   PGC_SUSET, 0,
							   NULL, NULL, NULL);
	DefineCustomBoolVariable("regcrm.allow_http",
							 "Allows base URLs without TLS.",
							 "For tests against a simulator on the loopback interface only.",
							 &regcrm_allow_http,
							 false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);

	DefineCustomStringVariable("regcrm.databases",
							   "Lists the databases that get a clock and a sync worker.",
							   NULL,
							   &regcrm_databases,
							   "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   NULL, NULL, NULL);
}

/*
 * Check hook of regcrm.account_id: empty, or a whole number.
 */
static bool
check_account_id(char **newval, void **extra, GucSource source)
{
	const char *text = *newval;
	char	   *end;
	long long	number = 0;
	int64	   *value;

	if (text[0] != '\0')
	{
		errno = 0;
		number = strtoll(text, &end, 10);
		if (errno != 0 || end == text || *end != '\0')
		{
			GUC_check_errdetail("An account's id is a whole number.");
			return false;
		}
	}

	value = (int64 *) compat_guc_malloc(sizeof(int64));
	if (value == NULL)
		return false;
	*value = (int64) number;
	*extra = value;
	return true;
}

static void
assign_account_id(const char *newval, void *extra)
{
	account_id_value = *(int64 *) extra;
}

/*
 * Check hook of regcrm.ingesting: who may turn it on.
 *
 * The functions that turn it on do so in their SET clause and run as whoever
 * calls them, so the setting itself must be open to a role that is no
 * superuser: to the owner of the tables, who could drop their triggers anyway,
 * and to no other.  PGC_SUSET would shut the owner out.
 */
static bool
check_ingesting(bool *newval, void **extra, GucSource source)
{
	Oid			schema;
	Oid			deal = InvalidOid;

	if (!*newval)
		return true;

	/* A value that the leader has checked already. */
	if (InitializingParallelWorker)
		return true;

	/* CREATE FUNCTION asks whether the value makes sense, not to set it. */
	if (source == PGC_S_TEST)
		return true;

	/*
	 * Not from a file, a role's or a database's settings, nor from the
	 * connection string; nor as a placeholder set before the library was
	 * loaded, since it may be loaded by a function that runs as the owner.
	 */
	if (loading || source < PGC_S_OVERRIDE || !IsTransactionState())
	{
		GUC_check_errmsg("parameter \"regcrm.ingesting\" cannot be set this way");
		return false;
	}

	schema = get_namespace_oid(REGCRM_SCHEMA, true);
	if (OidIsValid(schema))
		deal = get_relname_relid("deal", schema);
	if (superuser() ||
		(OidIsValid(deal) && compat_owns_relation(deal, GetUserId())))
		return true;

	GUC_check_errcode(ERRCODE_INSUFFICIENT_PRIVILEGE);
	GUC_check_errmsg("permission denied to set parameter \"regcrm.ingesting\"");
	GUC_check_errdetail("Only the owner of table \"regcrm.deal\" may set it.");
	return false;
}
