/* tree.h - the files in a folder and in the folders below it. */
#ifndef PL_CORE_STORAGE_TREE_H
#define PL_CORE_STORAGE_TREE_H

#include "core/base/report.h"

/* Bounds of one walk: folders below the first one, and names in all of them. */
#define PL_TREE_DEPTH_MAX 8
#define PL_TREE_NAMES_MAX 20000

struct pl_tree_visit {
    /* A regular file.  1: enough was seen; 0: go on; -1 ends the walk. */
    int (*file)(void *ctx, const char *path, struct pl_err *e);
    void *ctx;
    const struct pl_report
        *report; /* what is left out is warned of; "stop" is heeded; may be null */
};

/* Shows the files in the folder `root`, then those in its folders and so on, at most `depth` levels
 * below it, sorted by their bytes within a folder.  Hidden names are left out, and so are links,
 * which could lead anywhere.  A folder that cannot be read, but for the first, is passed over with
 * a warning; so is the rest when a bound is met.  1: visit said so.  PL_E_NOT_FOUND, PL_E_LIMIT,
 * PL_E_CANCELLED, PL_E_NOMEM, PL_E_SYS. */
int pl_tree_walk(const char *root, unsigned depth, const struct pl_tree_visit *visit,
                 struct pl_err *e) PL_CHECK;

#endif
