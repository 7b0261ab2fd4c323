#include "core/engine/compare_disks.h"

#include <stdatomic.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/digest.h"
#include "core/engine/ordered.h"

#define WINDOW (1u << 20)

/* ---- comparing ---- */

struct compare {
    const struct pl_disk *a, *b;
    const struct pl_report *report;
    uint64_t size;              /* the common length */
    uint64_t planned;           /* under `next` */
    uint64_t done;              /* under `place` */
    atomic_uint_fast64_t first; /* least address known to differ; UINT64_MAX: none */
};

/* The bytes come first, where the unit's memory is aligned: some processors' copies to other
 * addresses take four times as long. */
struct compare_unit {
    uint8_t a[WINDOW], b[WINDOW];
    uint64_t at, len;
    bool skip; /* both are known to be zeros */
};

static void *new_compare_unit(void *ctx, struct pl_err *e)
{
    void *unit = pl_buffer(sizeof(struct compare_unit));

    (void)ctx;
    if (!unit)
        pl_fail(e, PL_E_NOMEM, "no memory for buffers of %u bytes", WINDOW);
    return unit;
}

static int next_compare(void *ctx, void *arg, struct pl_err *e)
{
    struct compare *job = ctx;
    struct compare_unit *unit = arg;
    const uint64_t rest = job->size - job->planned;
    uint64_t run_a, run_b = 0;

    /* later windows cannot hold the first difference */
    if (rest == 0 || job->first < job->planned)
        return 0;
    if (pl_disk_zero_run(job->a, job->planned, rest, &run_a, e) < 0 ||
        (run_a > 0 && pl_disk_zero_run(job->b, job->planned, run_a, &run_b, e) < 0))
        return -1;
    unit->at = job->planned;
    unit->skip = run_b > 0;
    unit->len = unit->skip ? run_b : PL_MIN(WINDOW - unit->at % WINDOW, rest);
    job->planned += unit->len;
    return 1;
}

static uint64_t first_difference(const uint8_t *a, const uint8_t *b, uint64_t len)
{
    uint64_t i = 0;

    while (i < len && a[i] == b[i])
        i++;
    return i;
}

static void note_difference(struct compare *job, uint64_t at)
{
    uint64_t known = job->first;

    while (at < known && !atomic_compare_exchange_weak(&job->first, &known, at))
        ;
}

static int work_compare(void *ctx, void *arg, struct pl_err *e)
{
    struct compare *job = ctx;
    struct compare_unit *unit = arg;

    if (unit->skip)
        return 0;
    if (pl_disk_read(job->a, unit->at, unit->a, unit->len, e) < 0 ||
        pl_disk_read(job->b, unit->at, unit->b, unit->len, e) < 0)
        return -1;
    if (memcmp(unit->a, unit->b, unit->len) != 0)
        note_difference(job, unit->at + first_difference(unit->a, unit->b, unit->len));
    return 0;
}

static int place_compare(void *ctx, void *arg, struct pl_err *e)
{
    struct compare *job = ctx;
    const struct compare_unit *unit = arg;

    (void)e;
    job->done += unit->len;
    pl_progress(job->report, job->done, job->size);
    return 0;
}

int pl_compare_disks(const struct pl_disk *a, const struct pl_disk *b, unsigned workers,
                     const struct pl_report *report, struct pl_compare_result *result,
                     struct pl_err *e)
{
    struct compare job = { .a = a, .b = b, .report = report, .size = PL_MIN(a->size, b->size) };
    const struct pl_ordered_job run = {
        .ctx = &job,
        .workers = workers,
        .report = report,
        .new_unit = new_compare_unit,
        .free_unit = free,
        .next = next_compare,
        .work = work_compare,
        .place = place_compare,
    };

    job.first = UINT64_MAX;
    if (pl_run_ordered(&run, e) < 0)
        return -1;
    *result = (struct pl_compare_result){ .equal = job.first == UINT64_MAX,
                                          .sizes_differ = a->size != b->size };
    if (!result->equal)
        result->offset = job.first;
    return 0;
}

/* ---- digest ---- */

struct checksum {
    const struct pl_disk *disk;
    const struct pl_report *report;
    struct pl_digest *digest;
    uint64_t planned, done;
};

struct checksum_unit {
    uint8_t bytes[WINDOW]; /* first, as above */
    uint64_t at;
    size_t len;
};

static void *new_checksum_unit(void *ctx, struct pl_err *e)
{
    void *unit = pl_buffer(sizeof(struct checksum_unit));

    (void)ctx;
    if (!unit)
        pl_fail(e, PL_E_NOMEM, "no memory for buffers of %u bytes", WINDOW);
    return unit;
}

static int next_checksum(void *ctx, void *arg, struct pl_err *e)
{
    struct checksum *job = ctx;
    struct checksum_unit *unit = arg;

    (void)e;
    unit->at = job->planned;
    unit->len = PL_MIN(WINDOW, job->disk->size - unit->at);
    job->planned += unit->len;
    return unit->len > 0;
}

static int work_checksum(void *ctx, void *arg, struct pl_err *e)
{
    struct checksum *job = ctx;
    struct checksum_unit *unit = arg;

    return pl_disk_read(job->disk, unit->at, unit->bytes, unit->len, e);
}

static int place_checksum(void *ctx, void *arg, struct pl_err *e)
{
    struct checksum *job = ctx;
    const struct checksum_unit *unit = arg;

    job->done += unit->len;
    pl_progress(job->report, job->done, job->disk->size);
    return pl_digest_update(job->digest, unit->bytes, unit->len, e);
}

int pl_checksum_disk(const struct pl_disk *disk, const char *algorithm, char hex[static 130],
                     const struct pl_report *report, struct pl_err *e)
{
    struct checksum job = { .disk = disk, .report = report };
    const struct pl_ordered_job run = {
        .ctx = &job,
        .report = report,
        .new_unit = new_checksum_unit,
        .free_unit = free,
        .next = next_checksum,
        .work = work_checksum,
        .place = place_checksum,
    };
    int status;

    if (pl_digest_new(algorithm, &job.digest, e) < 0)
        return -1;
    status = pl_run_ordered(&run, e);
    if (status == 0)
        status = pl_digest_finish(job.digest, hex, e);
    pl_digest_free(job.digest);
    return status;
}

int pl_checksum_known(const char *algorithm, struct pl_err *e)
{
    struct pl_digest *digest;

    if (pl_digest_new(algorithm, &digest, e) < 0)
        return -1;
    pl_digest_free(digest);
    return 0;
}
