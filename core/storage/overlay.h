/* overlay.h - a view of a storage with other bytes laid over ranges of it; the storage itself is
 * not changed.  For logs that are replayed into memory.
 *
 * Reads cost as many comparisons as there are ranges.  Threads: as any storage, once all ranges are
 * put. */
#ifndef PL_CORE_STORAGE_OVERLAY_H
#define PL_CORE_STORAGE_OVERLAY_H

#include "core/storage/storage.h"

/* A read-only view of `under`, which must outlive it, of at least its size. */
int pl_overlay_storage(struct pl_storage *under, struct pl_storage **out, struct pl_err *e)
    PL_CHECK;

/* Lays a copy of `len` bytes (null: zeros, which take no memory) over [off, off + len); what is put
 * later lies on top.  The view grows over the range. */
int pl_overlay_put(struct pl_storage *overlay, uint64_t off, const void *bytes, uint64_t len,
                   struct pl_err *e) PL_CHECK;

/* Makes the view at least that long; new bytes read as zeros. */
void pl_overlay_grow(struct pl_storage *overlay, uint64_t size);

#endif
