/*-------------------------------------------------------------------------
 *
 * regcrm.h
 *	  The extension's settings, for every room that obeys them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_H
#define REGCRM_H

#include "postgres.h"

#include "compat.h"

/* Schema of every object of ours. */
#define REGCRM_SCHEMA "regcrm"

/* regcrm.mode: what happens to a fact that SQL writes (DESIGN section 3). */
typedef enum RegcrmMode
{
	REGCRM_MODE_ENFORCE,		/* illegal writes are refused */
	REGCRM_MODE_RECORD,			/* they are recorded */
	REGCRM_MODE_OFF				/* rows are taken as they are */
} RegcrmMode;

extern int	regcrm_mode;		/* RegcrmMode */
extern bool regcrm_ingesting;
extern int	regcrm_sync_interval;	/* seconds */
extern int	regcrm_sync_processes;
extern int	regcrm_requests_per_second;
extern int	regcrm_http_timeout;	/* milliseconds */
extern int	regcrm_max_response_size;	/* kilobytes */
extern bool regcrm_allow_http;
extern char *regcrm_ca_file;	/* "" = the machine's certificates */
extern char *regcrm_databases;	/* list of names, as the user wrote it */

/* True, and *account_id set, where regcrm.account_id is set. */
extern bool regcrm_account_id(int64 *account_id);

#endif							/* REGCRM_H */
