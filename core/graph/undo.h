/* undo.h - a repair that can be taken back: see core/storage/undo.h. */
#ifndef PL_CORE_GRAPH_UNDO_H
#define PL_CORE_GRAPH_UNDO_H

#include "core/base/report.h"

/* While an image is open with that in its options, the old bytes of all that changes in its files
 * are kept in a journal, and synced before the change.  Lives until pl_close has returned. */
struct pl_keep_undo {
    const char *file; /* the journal; null: the image's path (links followed) and ".undo" */
    bool kept;        /* result of pl_close, also of a pl_open that failed: there is one, because
                         something was changed */
};

struct pl_undo_options {
    const char *file; /* as above */
    bool force; /* although the image was written to since, where that changed nothing of what the
                   repair had changed, or where that cannot be told */
    const char *const *allowed_dirs; /* as in pl_open_options */
};

struct pl_undo_result {
    uint64_t bytes;   /* were put back ... */
    uint64_t ranges;  /* ... in so many ranges ... */
    unsigned files;   /* ... of so many files */
    bool interrupted; /* the repair had not come to its end */
};

/* The path of the journal of an image; the caller's to free.  PL_E_NOT_FOUND. */
PL_API int pl_undo_path(const char *image, char **path, struct pl_err *e) PL_CHECK;

/* Puts the files of an image back to what they were before its last repair, and removes the
 * journal.  May be interrupted and done again.  Changes nothing where the image was written to
 * since (PL_E_MISMATCH), or the journal is none, missing or damaged (PL_E_FORMAT, PL_E_NOT_FOUND,
 * PL_E_CORRUPT). */
PL_API int pl_undo_repair(const char *image, const struct pl_undo_options *options,
                          struct pl_undo_result *result, struct pl_err *e) PL_CHECK;

#endif
