/* window.h - storage that is a range of another: a partition, a member of a tar file. */
#ifndef PL_CORE_STORAGE_WINDOW_H
#define PL_CORE_STORAGE_WINDOW_H

#include "core/storage/storage.h"

/* [off, off + len) of `under`, which stays the caller's and must outlive the window.  PL_E_CORRUPT
 * when the range is not inside `under`.  The size is fixed. */
int pl_window_storage(struct pl_storage *under, uint64_t off, uint64_t len, struct pl_storage **out,
                      struct pl_err *e) PL_CHECK;

#endif
