/*-------------------------------------------------------------------------
 *
 * gate.h
 *	  Triggers on the facts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_GATE_H
#define REGCRM_GATE_H

#include "postgres.h"

extern void gate_init(void);

typedef void (*gate_writer) (void *arg);

/*
 * Calls writer, whose writes to that table of facts are not facts themselves:
 * nothing is appended or followed for them, and nobody need judge the deals.
 * Rows that users' own triggers write to other tables meanwhile are facts.
 */
extern void gate_write_quietly(const char *table, gate_writer writer, void *arg);

#endif							/* REGCRM_GATE_H */
