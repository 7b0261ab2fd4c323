/* commit.h - what a child says goes into an image that it builds on. */
#ifndef PL_CORE_ENGINE_COMMIT_H
#define PL_CORE_ENGINE_COMMIT_H

#include "core/base/report.h"
#include "core/graph/image.h"

struct pl_commit_options {
    const char *format;  /* of the child; null: found out */
    const char *base;    /* an image of its chain, by its path or as its child names it; implies
                           `keep`; null: the parent */
    bool keep;           /* the child stays as it is; else it is emptied */
    bool force;          /* although other images that build on what changes lose their content */
    unsigned workers;    /* threads; 0: one a processor */
    uint64_t rate_limit; /* bytes a second; 0: none */
    const char *const *allowed_dirs;
    const struct pl_report *report;
};

struct pl_commit_result {
    char *base;            /* path of what was written to; the caller's to free */
    const char *format;    /* its format */
    uint64_t size;         /* its virtual size in the end ... */
    bool grown;            /* ... which was less before */
    bool emptied;          /* the child says nothing any more */
    uint64_t copied, zero; /* bytes of data, and of zeros, that went into it */
};

/* Brings the content of the image at `path` into its parent, or into options->base with all that
 * lies in between: then those in between are of no use any more.  The base grows to the child's
 * size where it is shorter.  The child reads the same at every instant, its own children go on
 * knowing it and the base; interrupted work is finished by the same call.
 *
 * Refused with nothing changed, unless forced: when another image in the folder of the child or the
 * base builds on one whose content changes, or an image above the base has internal snapshots,
 * which read from below too, or one of the chain is kept as a state of a disk (PL_E_INVALID names
 * them).  PL_E_NOT_FOUND: no such base in the chain;
 * PL_E_UNSUPPORTED, PL_E_LOCKED, PL_E_NO_SPACE, PL_E_CANCELLED.  Memory: one buffer a worker. */
PL_API int pl_commit(const char *path, const struct pl_commit_options *options,
                     struct pl_commit_result *result, struct pl_err *e) PL_CHECK;

#endif
