/* zero_shown.h - zeros where an image shows something else. */
#ifndef PL_CORE_ENGINE_ZERO_SHOWN_H
#define PL_CORE_ENGINE_ZERO_SHOWN_H

#include "core/graph/image.h"

/* Zeroes the parts of a range that do not read as zeros by the image's map; the rest costs
 * nothing.  Any thread. */
int pl_zero_shown(struct pl_image *img, uint64_t at, uint64_t len, struct pl_err *e) PL_CHECK;

#endif
