/* place.h - the folder and the name that a path of the host stands for. */
#ifndef PL_CORE_STORAGE_PLACE_H
#define PL_CORE_STORAGE_PLACE_H

#include "core/base/err.h"
#include "core/storage/folder.h"

/* A folder that is open and a name in it. */
struct pl_place {
    int folder; /* descriptor */
    char *name;
};

/* Where `path` is or would be: links at its end are followed, also when nothing is
 * there.  Release it by pl_place_release.  PL_E_INVALID for a path that ends in a slash; errors
 * of open. */
int pl_place_find(const char *path, struct pl_place *place, struct pl_err *e) PL_CHECK;
void pl_place_release(struct pl_place *place); /* fine after a pl_place_find that failed */

/* Brings the folder's names to stable storage.  -1 with errno; file systems that cannot: 0. */
int pl_place_sync(const struct pl_place *place) PL_CHECK;

#endif
