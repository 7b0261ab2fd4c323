/* bitmaps.h - takes persistent bitmaps over from one image to another. */
#ifndef PL_CORE_ENGINE_BITMAPS_H
#define PL_CORE_ENGINE_BITMAPS_H

#include "core/graph/node.h"

/* Copies all bitmaps of `from`; those that were not closed properly are skipped with a warning if
 * `skip_broken`, an error otherwise.  pl_check_bitmaps_fit found that they fit. */
int pl_copy_bitmaps(struct pl_image *from, struct pl_image *to, bool skip_broken,
                    const struct pl_report *report, struct pl_err *e) PL_CHECK;

/* PL_E_UNSUPPORTED when a format has no bitmaps, PL_E_INVALID when the disks differ in size: then
 * bits of one do not fit the other. */
int pl_check_bitmaps_fit(const struct pl_image *from, const struct pl_image *to, struct pl_err *e)
    PL_CHECK;

/* PL_E_CORRUPT when `img` has a bitmap that was not closed properly: said before hours of copying.
 */
int pl_refuse_broken_bitmaps(struct pl_image *img, struct pl_err *e) PL_CHECK;

#endif
