/*-------------------------------------------------------------------------
 *
 * access.c
 *	  Acting for who was granted a function, and whose rows a role sees.
 *
 * Who was granted EXECUTE on what operates or administers regcrm need own
 * nothing: regcrm_by_owner() is the body of those functions.  It runs the
 * function of the same name with "_by_owner" behind it, which does the work in
 * PL/pgSQL, as the owner of the tables, as a SECURITY DEFINER function would
 * that belonged to him.  (It can't: functions belong to who made the extension,
 * a superuser, as whom nothing may touch tables of somebody else: their
 * triggers would run as superuser.)  For the same reason a superuser who calls
 * becomes the tables' owner too.  Triggers that write where a role need have
 * no rights, or look at rows that row security may hide, go the same way.
 *
 * The policies of row security ask once a statement which rows are those of
 * current_user; what they ask stands in tables that he may not be able to read.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "regcrm.h"
#include "tables.h"

#define BEHIND_SUFFIX	"_by_owner"

PG_FUNCTION_INFO_V1(regcrm_by_owner);
PG_FUNCTION_INFO_V1(regcrm_by_owner_unjudged);
PG_FUNCTION_INFO_V1(regcrm_by_owner_or_superuser);
PG_FUNCTION_INFO_V1(regcrm_as_owner_of);
PG_FUNCTION_INFO_V1(regcrm_seen_accounts);
PG_FUNCTION_INFO_V1(regcrm_own_accounts);
PG_FUNCTION_INFO_V1(regcrm_own_users);

/*
 * Accounts that a role sees as a whole: row security does not bind there, or he
 * is a head, operator or admin.  A role counts for who has its privileges.
 */
static Statement select_seen = {
	"select coalesce(array_agg(a.id), '{}') from regcrm.account a"
	" where not a.row_security"
	" or exists (select from regcrm.head h join pg_roles r on r.rolname = h.role"
	" where (h.account_id is null or h.account_id = a.id) and pg_has_role($1, r.oid, 'usage'))"
	" or exists (select from regcrm.access x join pg_roles r on r.rolname = x.role"
	" where x.level in ('operator', 'admin') and pg_has_role($1, r.oid, 'usage'))",
	1, {OIDOID}, true
};

/* Users of the CRM that a role is: accounts and numbers, in the same order. */
#define OWN(column) \
	"select coalesce(array_agg(m." column " order by m.account_id, m.id), '{}')" \
	" from regcrm.manager m join pg_roles r on r.rolname = m.db_role" \
	" where m.db_role is not null and pg_has_role($1, r.oid, 'usage')"

static Statement select_own_accounts = {OWN("account_id"), 1, {OIDOID}, true};
static Statement select_own_users = {OWN("id"), 1, {OIDOID}, true};


/* ---- as the owner of the tables ---- */

/* The function behind the one that is called. */
static Oid
function_behind(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc form;
	char	   *name;
	Oid			behind;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", function);
	form = (Form_pg_proc) GETSTRUCT(tuple);
	name = psprintf("%s" BEHIND_SUFFIX, NameStr(form->proname));
	behind = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
							 CStringGetDatum(name),
							 PointerGetDatum(&form->proargtypes),
							 ObjectIdGetDatum(form->pronamespace));
	ReleaseSysCache(tuple);
	if (!OidIsValid(behind))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function \"%s.%s\" does not exist", REGCRM_SCHEMA, name),
				 errhint("Run ALTER EXTENSION regcrm UPDATE.")));
	return behind;
}

/* Whose the tables are; whoever asks where there are none. */
static Oid
tables_owner(void)
{
	Oid			schema = get_namespace_oid(REGCRM_SCHEMA, true);
	Oid			deal = OidIsValid(schema) ? get_relname_relid("deal", schema) : InvalidOid;
	HeapTuple	tuple = OidIsValid(deal) ? SearchSysCache1(RELOID, ObjectIdGetDatum(deal)) : NULL;
	Oid			owner = GetUserId();

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

/*
 * Calls the function behind as a role.  An error resets the role together with
 * the (sub)transaction.
 */
static Datum
call_behind(FunctionCallInfo fcinfo, Oid role)
{
	FmgrInfo   *behind = fcinfo->flinfo->fn_extra;
	LOCAL_FCINFO(call, FUNC_MAX_ARGS);
	Datum		result;
	Oid			user;
	int			sec_context;

	if (behind == NULL)
	{
		behind = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(FmgrInfo));
		fmgr_info_cxt(function_behind(fcinfo->flinfo->fn_oid), behind, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = behind;
	}

	/* of a CALL nothing is passed on: what is behind commits nothing */
	InitFunctionCallInfoData(*call, behind, fcinfo->nargs, fcinfo->fncollation,
							 CALLED_AS_TRIGGER(fcinfo) ? fcinfo->context : NULL, NULL);
	memcpy(call->args, fcinfo->args, sizeof(NullableDatum) * fcinfo->nargs);

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(role, sec_context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	result = FunctionCallInvoke(call);
	SetUserIdAndSecContext(user, sec_context);
	fcinfo->isnull = call->isnull;
	return result;
}

Datum
regcrm_by_owner(PG_FUNCTION_ARGS)
{
	return call_behind(fcinfo, tables_owner());
}

/* What is written is neither refused nor judged, whoever may set regcrm.mode. */
Datum
regcrm_by_owner_unjudged(PG_FUNCTION_ARGS)
{
	int			level = NewGUCNestLevel();
	Datum		result;

	(void) set_config_option("regcrm.mode", "off", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	result = call_behind(fcinfo, tables_owner());
	AtEOXact_GUC(true, level);
	return result;
}

/* A superuser stays one: it is about tables of other owners too. */
Datum
regcrm_by_owner_or_superuser(PG_FUNCTION_ARGS)
{
	return call_behind(fcinfo, superuser() ? GetUserId() : tables_owner());
}

/*
 * as_owner_of(relation, command): runs a command about a table as the owner of
 * that.  A superuser who changes a table of somebody else would run its check
 * constraints and generated columns as superuser.
 */
Datum
regcrm_as_owner_of(PG_FUNCTION_ARGS)
{
	Oid			relation = PG_GETARG_OID(0);
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid			owner;
	Oid			user;
	int			sec_context;
	int			level = NewGUCNestLevel();
	int			result;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relation)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	GetUserIdAndSecContext(&user, &sec_context);
	if (!has_privs_of_role(user, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of table %s",
						NameStr(((Form_pg_class) GETSTRUCT(tuple))->relname))));
	ReleaseSysCache(tuple);

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	SetUserIdAndSecContext(owner, sec_context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	result = SPI_execute(text_to_cstring(PG_GETARG_TEXT_PP(1)), false, 0);
	SetUserIdAndSecContext(user, sec_context);
	if (result < 0)
		elog(ERROR, "could not run a command: %s", SPI_result_code_string(result));
	SPI_finish();
	AtEOXact_GUC(true, level);
	PG_RETURN_VOID();
}


/* ---- row security ---- */

/* What a statement says of current_user: one array. */
static Datum
ask_of_role(Statement *statement)
{
	Datum		role = ObjectIdGetDatum(GetUserId());
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext inner;
	TablesScope scope;
	Datum		result;
	bool		isnull;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	tables_enter(&scope, true);
	statement_run(statement, &role);
	result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	Assert(!isnull);
	inner = MemoryContextSwitchTo(outer);
	result = datumCopy(result, false, -1);
	MemoryContextSwitchTo(inner);
	tables_leave(&scope);
	SPI_finish();
	return result;
}

Datum
regcrm_seen_accounts(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(ask_of_role(&select_seen));
}

Datum
regcrm_own_accounts(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(ask_of_role(&select_own_accounts));
}

Datum
regcrm_own_users(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(ask_of_role(&select_own_users));
}
