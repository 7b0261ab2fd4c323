/* rebase_copy.h - the copy of pl_rebase: what two chains below an image do not have alike. */
#ifndef PL_CORE_ENGINE_REBASE_COPY_H
#define PL_CORE_ENGINE_REBASE_COPY_H

#include <stdatomic.h>

#include "core/base/report.h"
#include "core/graph/node.h"

struct pl_rebase_copy {
    /* ---- the caller's ---- */
    struct pl_image *img; /* open for writing, over its old parent; nobody else writes to it */
    struct pl_image *new; /* the new parent; null: none */
    unsigned workers;
    const struct pl_report *report;
    /* ---- results ---- */
    atomic_uint_fast64_t copied, zero; /* bytes */
    /* ---- the copy's own ---- */
    uint32_t window, step;
    uint64_t planned; /* under `next`: guest address up to which units were made */
};

/* Puts into img, which goes on reading the same, what it would read otherwise over the new parent.
 * No flush. */
int pl_rebase_copy(struct pl_rebase_copy *job, struct pl_err *e) PL_CHECK;

#endif
