/* bench.h - requests of one size to an image, as many at once as asked for, against the clock. */
#ifndef PL_CORE_ENGINE_BENCH_H
#define PL_CORE_ENGINE_BENCH_H

#include "core/base/report.h"
#include "core/graph/image.h"

/* The most requests at once: each has a thread. */
#define PL_BENCH_DEPTH_MAX 4096u

struct pl_bench_options {
    bool write;
    uint64_t count;  /* requests */
    uint32_t size;   /* bytes of each, at least 1 */
    unsigned depth;  /* at once, from 1 to PL_BENCH_DEPTH_MAX */
    uint64_t offset; /* of the first one */
    uint64_t step;   /* from one to the next; behind the disk's end it begins again at its start */
    uint8_t pattern; /* what is written */
    uint64_t flush_interval; /* writes: a flush whenever the requests left are a multiple of it; 0:
                                none */
    bool no_drain;           /* flushes do not wait for the requests under way */
    const struct pl_report *report;
};

/* What pl_bench would refuse before it runs anything. */
PL_API int pl_bench_check(const struct pl_image *img, const struct pl_bench_options *options,
                          struct pl_err *e) PL_CHECK;

/* Runs them; *seconds: how long that took.  Writes overwrite what the image has.  PL_E_INVALID,
 * PL_E_LIMIT for a request outside the disk; the first request that failed. */
PL_API int pl_bench(struct pl_image *img, const struct pl_bench_options *options, double *seconds,
                    struct pl_err *e) PL_CHECK;

#endif
