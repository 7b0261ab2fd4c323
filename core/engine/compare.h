/* compare.h - whether two images show their guests the same bytes. */
#ifndef PL_CORE_ENGINE_COMPARE_H
#define PL_CORE_ENGINE_COMPARE_H

#include "core/base/report.h"
#include "core/graph/image.h"

struct pl_compare_options {
    bool strict;      /* qemu-img's -s: also the sizes, and what is allocated */
    unsigned workers; /* threads; 0: one a processor */
    const struct pl_report *report;
};

struct pl_compare_result {
    bool equal;
    bool sizes_differ; /* strict: enough to differ; else the longer one's rest must be zeros */
    bool allocation_differs; /* strict mode: found at `offset` */
    uint64_t offset;         /* of the first difference */
};

/* Compares the content.  A difference is no failure: see *result.  `options` may be null. */
PL_API int pl_compare(struct pl_image *a, struct pl_image *b,
                      const struct pl_compare_options *options, struct pl_compare_result *result,
                      struct pl_err *e) PL_CHECK;

#endif
