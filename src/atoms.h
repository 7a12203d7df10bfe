/*-------------------------------------------------------------------------
 *
 * atoms.h
 *	  Sets of atoms (pure, inline).
 *
 *-------------------------------------------------------------------------
 */
#ifndef REGCRM_ATOMS_H
#define REGCRM_ATOMS_H

#include "rules.h"

static inline void
atoms_add(AtomSet *set, int atom)
{
	set->w[atom >> 6] |= UINT64_C(1) << (atom & 63);
}

static inline void
atoms_clear(AtomSet *set)
{
	for (int i = 0; i < ATOM_WORDS; i++)
		set->w[i] = 0;
}

static inline bool
atoms_has(const AtomSet *set, int atom)
{
	return (set->w[atom >> 6] >> (atom & 63)) & 1;
}

static inline void
atoms_join(AtomSet *set, const AtomSet *other)
{
	for (int i = 0; i < ATOM_WORDS; i++)
		set->w[i] |= other->w[i];
}

static inline bool
atoms_meet(const AtomSet *a, const AtomSet *b)
{
	uint64_t	common = 0;

	for (int i = 0; i < ATOM_WORDS; i++)
		common |= a->w[i] & b->w[i];
	return common != 0;
}

static inline bool
atoms_empty(const AtomSet *set)
{
	uint64_t	any = 0;

	for (int i = 0; i < ATOM_WORDS; i++)
		any |= set->w[i];
	return any == 0;
}

#endif							/* REGCRM_ATOMS_H */
