/* compact.h - gives back the room of clusters that hold nothing but zeros. */
#ifndef PL_CORE_ENGINE_COMPACT_H
#define PL_CORE_ENGINE_COMPACT_H

#include "core/base/report.h"
#include "core/graph/image.h"

struct pl_compact_result {
    uint64_t zeros;       /* guest bytes that were zeros and gave their room up */
    uint64_t file_freed;  /* bytes by which the file is shorter */
    uint64_t usage_freed; /* bytes that the host keeps less for it */
};

/* Gives the room of whole clusters that read as zeros back, over a parent too where the format can
 * say zeros, then lets the format make the file shorter, where it knows how.  The disk's content
 * stays, at every instant.  The image is open for writing and nobody else uses it meanwhile.
 * PL_E_UNSUPPORTED: the format can give nothing back; PL_E_CANCELLED: what was done stays. */
PL_API int pl_compact(struct pl_image *img, const struct pl_report *report,
                      struct pl_compact_result *result, struct pl_err *e) PL_CHECK;

#endif
