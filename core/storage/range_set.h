/* range_set.h - a set of byte ranges in memory, for what was seen or done already.
 *
 * Ranges that touch are one.  Memory: 16 bytes a range.  Adding in ascending order is cheap; in any
 * other order it moves what lies behind.  One thread at a time. */
#ifndef PL_CORE_STORAGE_RANGE_SET_H
#define PL_CORE_STORAGE_RANGE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct pl_range {
    uint64_t from, to; /* from < to */
};

struct pl_range_set {
    struct pl_range *item; /* ascending, with room between them */
    size_t count, room;
};

/* Adds [from, to); false without memory, the set is then as before.  from < to. */
bool pl_range_set_add(struct pl_range_set *set, uint64_t from, uint64_t to) PL_CHECK;

/* The first part of [from, to) that the set does not have; false: it has all of it. */
bool pl_range_set_gap(const struct pl_range_set *set, uint64_t from, uint64_t to,
                      struct pl_range *gap) PL_CHECK;

/* Leaves an empty set. */
void pl_range_set_free(struct pl_range_set *set);

#endif
