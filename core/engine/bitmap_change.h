/* bitmap_change.h - adds, removes and changes the persistent bitmaps of an image that is open for
 * writing.
 *
 * Each call is done when it returns but for pl_flush, and leaves the old or the new bitmap whatever
 * happens.  Bitmaps that were not closed properly can only be removed: PL_E_CORRUPT.  Errors
 * besides: PL_E_UNSUPPORTED (the format has none), PL_E_NOT_FOUND, PL_E_LIMIT, PL_E_NOMEM and those
 * of writing.  They need the image to themselves. */
#ifndef PL_CORE_ENGINE_BITMAP_CHANGE_H
#define PL_CORE_ENGINE_BITMAP_CHANGE_H

#include "core/graph/image.h"

/* A new one, with no bit set, that records writes.  `granularity`: bytes a bit, a power of two from
 * 512 bytes to 2 GiB; 0: the cluster size, but no less than 4 KiB and no more than 64 KiB.
 * PL_E_EXISTS, PL_E_INVALID. */
PL_API int pl_bitmap_add(struct pl_image *img, const char *name, uint64_t granularity,
                         struct pl_err *e) PL_CHECK;

/* Removes it, whatever its state. */
PL_API int pl_bitmap_remove(struct pl_image *img, const char *name, struct pl_err *e) PL_CHECK;

/* No bit of it is set any more. */
PL_API int pl_bitmap_clear(struct pl_image *img, const char *name, struct pl_err *e) PL_CHECK;

/* Whether it records writes from now on. */
PL_API int pl_bitmap_enable(struct pl_image *img, const char *name, bool enabled, struct pl_err *e)
    PL_CHECK;

/* Sets in it what is set in the bitmap `source` of `from`, which may be img; both disks must have
 * one size (PL_E_INVALID), the granularities may differ. */
PL_API int pl_bitmap_merge(struct pl_image *img, const char *name, struct pl_image *from,
                           const char *source, struct pl_err *e) PL_CHECK;

#endif
