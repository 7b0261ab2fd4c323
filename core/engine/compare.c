/* compare.c - pl_compare and pl_checksum: images as disks, and what the common length does not
 * tell. */
#include "core/engine/compare.h"

#include <string.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/engine/compare_disks.h"
#include "core/engine/convert.h"

#define PIECE (1u << 20)

/* The rest of the longer image must be zeros. */
static int compare_rest(const struct pl_disk *longer, uint64_t from, const struct pl_report *report,
                        struct pl_compare_result *result, struct pl_err *e)
{
    PL_FREE uint8_t *buf = pl_buffer(PIECE);

    if (!buf)
        return pl_fail(e, PL_E_NOMEM, "no memory for a buffer of %u bytes", PIECE);
    for (uint64_t at = from, run; at < longer->size; at += run) {
        uint64_t zeros = 0;

        if (pl_check_cancelled(report, e) < 0 ||
            pl_disk_zero_run(longer, at, longer->size - at, &run, e) < 0)
            return -1;
        if (run > 0)
            continue;
        run = PL_MIN(PIECE, longer->size - at);
        if (pl_disk_read(longer, at, buf, run, e) < 0)
            return -1;
        while (zeros < run && buf[zeros] == 0)
            zeros++;
        if (zeros < run) {
            result->equal = false;
            result->offset = at + zeros;
            return 0;
        }
    }
    return 0;
}

/* Strict mode: the first address at which one image has data of its own and the other has not. */
static int compare_allocation(struct pl_image *a, struct pl_image *b,
                              const struct pl_report *report, struct pl_compare_result *result,
                              struct pl_err *e)
{
    const uint64_t size = PL_MIN(pl_size(a), pl_size(b));

    for (uint64_t at = 0; at < size;) {
        struct pl_run run_a, run_b;

        if (pl_check_cancelled(report, e) < 0 || pl_map(a, at, size - at, &run_a, e) < 0 ||
            pl_map(b, at, size - at, &run_b, e) < 0)
            return -1;
        if (run_a.data != run_b.data) {
            result->equal = false;
            result->allocation_differs = true;
            result->offset = at;
            return 0;
        }
        at += PL_MIN(run_a.len, run_b.len);
    }
    return 0;
}

static int compare_content(const struct pl_disk *a, const struct pl_disk *b,
                           const struct pl_compare_options *options,
                           struct pl_compare_result *result, struct pl_err *e)
{
    if (pl_compare_disks(a, b, options->workers, options->report, result, e) < 0)
        return -1;
    if (!result->equal || a->size == b->size)
        return 0;
    return compare_rest(a->size > b->size ? a : b, PL_MIN(a->size, b->size), options->report,
                        result, e);
}

/* Whether the images pass what only strict mode asks. */
static int compare_strictly(struct pl_image *a, struct pl_image *b, const struct pl_report *report,
                            struct pl_compare_result *result, struct pl_err *e)
{
    *result = (struct pl_compare_result){ .sizes_differ = pl_size(a) != pl_size(b) };
    result->equal = !result->sizes_differ;
    return result->equal ? compare_allocation(a, b, report, result, e) : 0;
}

int pl_compare(struct pl_image *a, struct pl_image *b, const struct pl_compare_options *options,
               struct pl_compare_result *result, struct pl_err *e)
{
    static const struct pl_compare_options defaults;
    const struct pl_compare_options *o = options ? options : &defaults;
    struct pl_image *const images_a[] = { a }, *const images_b[] = { b };
    struct pl_disk disk_a, disk_b;
    int status;

    if (o->strict) {
        status = compare_strictly(a, b, o->report, result, e);
        if (status < 0 || !result->equal)
            return status;
    }
    if (pl_disk_init(&disk_a, images_a, 1, e) < 0)
        return -1;
    status = pl_disk_init(&disk_b, images_b, 1, e);
    if (status == 0) {
        status = compare_content(&disk_a, &disk_b, o, result, e);
        pl_disk_free(&disk_b);
    }
    pl_disk_free(&disk_a);
    return status;
}

int pl_checksum(struct pl_image *img, const char *algorithm, char hex[static 130],
                const struct pl_report *report, struct pl_err *e)
{
    struct pl_image *const images[] = { img };
    struct pl_disk disk;
    int status;

    if (pl_disk_init(&disk, images, 1, e) < 0)
        return -1;
    status = pl_checksum_disk(&disk, algorithm, hex, report, e);
    pl_disk_free(&disk);
    return status;
}
