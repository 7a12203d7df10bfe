/*-------------------------------------------------------------------------
 *
 * waiver.h
 *	  Who may write findings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_WAIVER_H
#define REGCRM_WAIVER_H

/* Calls writer, which may write to deadline and violation. */
extern void findings_write(void (*writer) (void *arg), void *arg);

#endif							/* REGCRM_WAIVER_H */
