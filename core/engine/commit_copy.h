/* commit_copy.h - the copy of pl_commit: what layers above an image say, into it. */
#ifndef PL_CORE_ENGINE_COMMIT_COPY_H
#define PL_CORE_ENGINE_COMMIT_COPY_H

#include <stdatomic.h>

#include "core/engine/rate.h"
#include "core/graph/node.h"

struct pl_commit_copy {
    /* ---- the caller's ---- */
    struct pl_image *top;  /* nobody writes to it meanwhile */
    struct pl_image *base; /* in its chain, open for writing, at least as long */
    unsigned depth;        /* of base below top */
    bool empties;          /* the caller empties top next: what was read of it is of no use */
    unsigned workers;
    struct pl_rate rate;
    const struct pl_report *report;
    /* ---- results ---- */
    atomic_uint_fast64_t copied, zero; /* bytes */
    /* ---- the copy's own ---- */
    uint32_t window;
    uint64_t planned;  /* under `next`: guest address up to which units were made ... */
    uint64_t reserved; /* ... and up to which a raw base has room */
};

/* Copies; no flush. */
int pl_commit_copy(struct pl_commit_copy *job, struct pl_err *e) PL_CHECK;

#endif
