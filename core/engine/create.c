/* create.c - pl_create and pl_measure. */
#include "core/engine/create.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/engine/new_image.h"

/* Opens the parent to learn its size and format.  The user named it: the policy for names inside
 * images does not apply to it, but to what it names in turn. */
static int ask_parent(const char *path, struct pl_create_options *options, struct pl_err *e)
{
    const struct pl_open_options open_options = {
        .format = options->parent_format,
        .allowed_dirs = options->allowed_dirs,
        .report = options->report,
    };
    PL_FREE char *parent_path = pl_path_beside(path, options->parent);
    struct pl_image *parent;
    struct pl_err why = { 0 };

    if (!parent_path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", options->parent);
    if (pl_open(parent_path, &open_options, &parent, &why) < 0) {
        if (options->unsafe_parent)
            return 0;
        if (e)
            *e = why;
        return pl_within(e, "%s: opening the backing file", path);
    }
    if (!options->size_given)
        options->size = pl_size(parent);
    options->size_given = true;
    options->parent_format = pl_format(parent); /* a static name of the driver */
    if (pl_refuse_in_use(&parent, 1, path, e) < 0) {
        pl_close(parent, NULL);
        return -1;
    }
    return pl_close(parent, e);
}

/* An overlay of itself could never be opened. */
static int refuse_self(const char *path, const char *parent, struct pl_err *e)
{
    PL_FREE char *parent_path = pl_path_beside(path, parent);
    struct stat a, b;

    if (!parent_path)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory", parent);
    if (strcmp(parent_path, path) != 0 && (stat(parent_path, &a) < 0 || stat(path, &b) < 0 ||
                                           a.st_dev != b.st_dev || a.st_ino != b.st_ino))
        return 0;
    return pl_fail(e, PL_E_INVALID, "%s: the new image cannot be its own backing file", path);
}

int pl_create(const char *path, const struct pl_create_options *options, struct pl_err *e)
{
    struct pl_create_options full = *options;
    struct pl_new_image image;

    if (full.parent && refuse_self(path, full.parent, e) < 0)
        return -1;
    if (full.parent && (!full.unsafe_parent || !full.size_given) && ask_parent(path, &full, e) < 0)
        return -1;
    if (!full.size_given)
        return pl_fail(e, PL_E_INVALID, "%s: a size is needed", path);
    if (pl_new_image_begin(&image, path, &full, e) < 0)
        return -1;
    return pl_new_image_finish_empty(&image, &full, e);
}

/* Bytes of whole `unit`s of the image that do not read as zeros by their map. */
static int count_data(struct pl_image *img, uint64_t unit, uint64_t *bytes, struct pl_err *e)
{
    const uint64_t size = pl_size(img);
    uint64_t counted_to = 0; /* units before this guest address are counted or are not data */

    *bytes = 0;
    for (uint64_t at = 0; at < size;) {
        struct pl_run run;
        uint64_t from, to;

        if (pl_map(img, at, size - at, &run, e) < 0)
            return -1;
        at += run.len;
        if (run.zero)
            continue;
        from = PL_MAX(counted_to, pl_round_down(run.at, unit));
        to = PL_MIN(pl_round_up(run.at + run.len, unit), size);
        if (to > from)
            *bytes += to - from;
        counted_to = to;
    }
    return 0;
}

int pl_measure(struct pl_image *img, const char *format, uint64_t size,
               const struct pl_options *options, struct pl_measure_result *result, struct pl_err *e)
{
    struct pl_measure_args args = { .size = img ? pl_size(img) : size, .options = options };
    PL_FREE struct pl_bitmap *bitmaps = NULL;
    const struct pl_driver *driver;
    uint64_t unit;

    if (pl_driver_find(format, &driver, e) < 0)
        return -1;
    if (!driver->measure)
        return pl_fail(e, PL_E_UNSUPPORTED, "measuring is not supported by the format %s", format);
    unit = driver->block_size ? driver->block_size : 64 * PL_KIB;
    if (pl_options_size(options, driver->block_size ? "block_size" : "cluster_size", &unit, e) < 0)
        return -1;
    if (img && count_data(img, pl_is_pow2(unit) ? unit : 64 * PL_KIB, &args.data_bytes, e) < 0)
        return -1;
    if (img && pl_bitmaps(img, &bitmaps, &args.bitmap_count, e) < 0)
        return -1;
    args.bitmaps = bitmaps;
    args.with_bitmaps = img && img->layer.bitmaps;
    if (driver->measure(&args, result, e) < 0)
        return -1;
    return pl_options_check_all_known(options, driver->name, e);
}
