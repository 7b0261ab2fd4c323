/* chain_find.h - looks for a parent that is not where its child says. */
#ifndef PL_CORE_ENGINE_CHAIN_FIND_H
#define PL_CORE_ENGINE_CHAIN_FIND_H

#include "core/engine/chain_report.h"
#include "core/graph/chain.h"

/* No more candidates than that are kept for one parent. */
#define PL_CANDIDATES_MAX 64

/* The files that may be the parent of step->child, the best first: those that have the identity it
 * wants; where it wants none, those of the same name whose disk is no larger.  Looks into the
 * folders of `dirs` (null: none) and below, and for a name beside the child, too.  Files of the
 * chain are none.  *list is to be freed by pl_candidates_free, also with *count 0. */
int pl_find_parents(const struct pl_step *step, const char *const *dirs, struct pl_candidate **list,
                    size_t *count, struct pl_err *e) PL_CHECK;

/* Frees the list and what it holds. */
void pl_candidates_free(struct pl_candidate *list, size_t count);

#endif
