/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Every difference between PostgreSQL 15 and 18 that regcrm meets.
 *
 * Include it after postgres.h.  What is called differently from version to
 * version is called compat_... here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_COMPAT_H
#define REGCRM_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "regcrm needs PostgreSQL 15 or newer"
#endif

#include "fmgr.h"
#include "nodes/nodes.h"
#include "utils/acl.h"

/* 16: the varlena macros left postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/*
 * 16: soft errors of input functions.  Before, such an error can only be
 * raised; "context" is then looked at by nobody.
 */
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#define compat_escontext(fcinfo) ((fcinfo)->context)
#define compat_ereturn(context, value, ...) \
	ereturn(context, value, __VA_ARGS__)
#else
#define compat_escontext(fcinfo) ((void) (fcinfo), (Node *) NULL)
#define compat_ereturn(context, value, ...) \
	do { \
		(void) (context); \
		ereport(ERROR, __VA_ARGS__); \
		return value; \
	} while (0)
#endif

/* 18: a scan of an index may count what it does. */
#if PG_VERSION_NUM >= 180000
#define compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, 0)
#else
#define compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, nkeys, 0)
#endif

/* 16: one function for the ownership of everything, one for its privileges. */
#if PG_VERSION_NUM >= 160000
#define compat_owns_relation(relid, roleid) \
	object_ownercheck(RelationRelationId, relid, roleid)
#else
#define compat_owns_relation(relid, roleid) \
	pg_class_ownercheck(relid, roleid)
#endif

/* 16: the "extra" of a setting comes from the server's allocator. */
#if PG_VERSION_NUM >= 160000
#define compat_guc_malloc(size) guc_malloc(LOG, size)
#else
#define compat_guc_malloc(size) malloc(size)
#endif

/*
 * 17: a set of wait events hangs on a resource owner, before on a memory
 * context.  (Macro, so that storage/latch.h is included by its users only.)
 */
#if PG_VERSION_NUM >= 170000
#define compat_create_wait_event_set(nevents) \
	CreateWaitEventSet(CurrentResourceOwner, nevents)
#else
#define compat_create_wait_event_set(nevents) \
	CreateWaitEventSet(CurrentMemoryContext, nevents)
#endif

/* 17: intervals may be infinite.  (Macro: datatype/timestamp.h is its users' to include.) */
#if PG_VERSION_NUM >= 170000
#define compat_interval_is_infinite(interval) INTERVAL_NOT_FINITE(interval)
#else
#define compat_interval_is_infinite(interval) ((void) (interval), false)
#endif

/* 17: a process knows its number.  (Macro: storage/proc.h is its users' to include.) */
#if PG_VERSION_NUM >= 170000
#define compat_my_procno() MyProcNumber
#else
#define compat_my_procno() (MyProc->pgprocno)
#endif

/* 17: wait events with names of their own. */
#if PG_VERSION_NUM >= 170000
#define compat_wait_event(name) WaitEventExtensionNew(name)
#else
#define compat_wait_event(name) ((void) (name), PG_WAIT_EXTENSION)
#endif

/* 18: the library says its name and version. */
#ifdef PG_MODULE_MAGIC_EXT
#define COMPAT_MODULE_MAGIC \
	PG_MODULE_MAGIC_EXT(.name = "regcrm", .version = REGCRM_VERSION)
#else
#define COMPAT_MODULE_MAGIC PG_MODULE_MAGIC
#endif

#endif							/* REGCRM_COMPAT_H */
