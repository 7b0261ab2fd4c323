/* ordered.h - units of work that run on several threads and still take effect in their order.
 *
 * One unit goes through four steps:
 *     next    takes the unit from the plan            one thread at a time, in order
 *     work    reads, unpacks, looks for zeros, packs  in parallel
 *     place   assigns room, or writes to a stream     one thread at a time, in the order of next
 *     finish  writes                                  in parallel
 * So the result does not depend on the number of threads: with one worker all four run one after
 * the other on the caller's thread.  Memory: one unit a worker. */
#ifndef PL_CORE_ENGINE_ORDERED_H
#define PL_CORE_ENGINE_ORDERED_H

#include <stddef.h>

#include "core/base/report.h"

struct pl_ordered_job {
    void *ctx;
    unsigned workers;               /* 0: one a processor */
    const struct pl_report *report; /* `cancelled` is asked before each unit; may be null */
    /* A unit's memory, one a worker, used again and again.  new_unit: null when out of memory. */
    void *(*new_unit)(void *ctx, struct pl_err *e);
    void (*free_unit)(void *unit);
    /* 1: *unit is the next; 0: there is no more; -1. */
    int (*next)(void *ctx, void *unit, struct pl_err *e);
    int (*work)(void *ctx, void *unit, struct pl_err *e);
    int (*place)(void *ctx, void *unit, struct pl_err *e);  /* may be null */
    int (*finish)(void *ctx, void *unit, struct pl_err *e); /* may be null */
};

/* Runs the job to its end, or until a step fails: then the others stop at the next step and the
 * error of the first to fail is given. */
int pl_run_ordered(const struct pl_ordered_job *job, struct pl_err *e) PL_CHECK;

/* The number of threads that `asked` means: itself, or for 0 the number of processors, at most 64.
 */
unsigned pl_worker_count(unsigned asked);

#endif
