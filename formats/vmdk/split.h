/* split.h - grows a disk of files of at most 2 GiB beyond its last one. */
#ifndef PL_FORMATS_VMDK_SPLIT_H
#define PL_FORMATS_VMDK_SPLIT_H

#include "formats/vmdk/vmdk.h"

/* Whether a split disk needs more files for `size`, which is more than it has. */
bool vmdk_split_needed(const struct vmdk *v, uint64_t size);

/* Grows the disk, whose last extent can grow and be written, to `size` bytes: fills the last file
 * up and makes more, numbered on from its name.  On failure the new files are removed and the disk
 * is as it was, but for the CID; unless it is the descriptor's folder that could not be synced.
 * PL_E_UNSUPPORTED, PL_E_EXISTS, PL_E_LIMIT; errors of writing.  Needs the disk for itself. */
int vmdk_split_grow(struct vmdk *v, uint64_t size, enum pl_prealloc prealloc, struct pl_err *e)
    PL_CHECK;

#endif
