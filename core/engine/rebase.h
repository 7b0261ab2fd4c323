/* rebase.h - another parent for an image, or none. */
#ifndef PL_CORE_ENGINE_REBASE_H
#define PL_CORE_ENGINE_REBASE_H

#include "core/base/report.h"
#include "core/graph/image.h"

struct pl_rebase_options {
    const char *format; /* of the image; null: found out */
    const char *parent; /* as the image will say it, seen from its folder; null or "": none */
    const char *parent_format; /* null: found out, and stored */
    bool unsafe;               /* only the name changes: the caller answers for the content */
    bool force_share;          /* parents are read without locks */
    bool force;                /* although internal snapshots read from the old parent, too */
    unsigned workers;          /* threads; 0: one a processor */
    const char *const *allowed_dirs;
    const struct pl_report *report;
};

struct pl_rebase_result {
    char parent_format[32]; /* as stored; empty: none */
    uint64_t copied, zero;  /* bytes of data, and of zeros, that the image got */
};

/* Gives the image at `path` another parent.  What it reads stays the same: what the old chain and
 * the new one do not have alike goes into the image first.  It reads the same at every instant, its
 * children go on knowing it, and until the end it names the old parent; interrupted work is
 * finished by the same call.  Parents may be shorter or longer than the image.
 *
 * With `unsafe` neither parent is read; the new one need not even be there.
 *
 * PL_E_INVALID: the new parent is the image itself or builds on it; it has internal snapshots (safe
 * mode, not forced).  PL_E_UNSUPPORTED, PL_E_NOT_FOUND, PL_E_LOCKED, PL_E_NO_SPACE, PL_E_CANCELLED.
 * Memory: two buffers a worker. */
PL_API int pl_rebase(const char *path, const struct pl_rebase_options *options,
                     struct pl_rebase_result *result, struct pl_err *e) PL_CHECK;

#endif
