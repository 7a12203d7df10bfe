/*-------------------------------------------------------------------------
 *
 * stage.h
 *	  Type regcrm.stage, as the other rooms see it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_STAGE_H
#define REGCRM_STAGE_H

#include "postgres.h"

#include "label.h"

#define DatumGetStage(d)		((stage_code) DatumGetInt64(d))
#define StageGetDatum(s)		Int64GetDatum((int64) (s))
#define PG_GETARG_STAGE(n)		DatumGetStage(PG_GETARG_DATUM(n))
#define PG_RETURN_STAGE(s)		return StageGetDatum(s)

extern void stage_init(void);

/*
 * The stage that text means, in the server's encoding: a code, a name or an
 * alias; errors as the type's input raises them.
 */
extern stage_code stage_from_text(const char *text);

/* Its code, palloc'd. */
extern char *stage_text(stage_code stage);

#endif							/* REGCRM_STAGE_H */
