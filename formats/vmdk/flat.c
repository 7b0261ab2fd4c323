/* flat.c - extents without tables: bytes of a file as they are, or zeros without a file.
 *
 * As in a raw image everything has its place already; holes of the file are zeros.  A file that is
 * shorter than its extent is refused, but for `check`, which reports it. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "formats/vmdk/extent.h"

struct flat {
    struct pl_storage *file; /* vmdk.c's; null: zeros */
    uint64_t offset;         /* where the extent begins in it */
    uint64_t size;           /* bytes; changed by resize alone */
};

static int too_short(const struct flat *flat, struct pl_err *e)
{
    return pl_fail(e, PL_E_CORRUPT,
                   "the file has %" PRIu64 " bytes, the descriptor wants %" PRIu64
                   " from offset %" PRIu64 " on",
                   pl_storage_size(flat->file), flat->size, flat->offset);
}

static bool is_whole(const struct flat *flat)
{
    return pl_inside(flat->offset, flat->size, pl_storage_size(flat->file));
}

static int zeros_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out,
                     struct pl_err *e)
{
    (void)state;
    (void)at;
    (void)e;
    *out = (struct pl_extent){ .state = PL_ZERO, .len = len };
    return 0;
}

static int flat_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
{
    const struct flat *flat = state;
    const uint64_t off = flat->offset + at, end = pl_storage_size(flat->file);
    bool hole;

    if (off >= end)
        return too_short(flat, e);
    len = PL_MIN(len, end - off);
    if (pl_storage_map(flat->file, off, &len, &hole, e) < 0)
        return -1;
    *out = (struct pl_extent){
        .state = hole ? PL_ZERO : PL_DATA,
        .allocated = hole,
        .len = len,
        .st = flat->file,
        .off = off,
    };
    return 0;
}

static int flat_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out,
                         struct pl_err *e)
{
    const struct flat *flat = state;

    (void)e;
    *out = (struct pl_place){ .at = at, .len = len, .st = flat->file, .off = flat->offset + at };
    return 0;
}

static int flat_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    const struct flat *flat = state;

    if (!unmap) /* the storage gives blocks back as it likes: reserved ones must stay */
        return 1;
    return pl_storage_zero(flat->file, flat->offset + at, len, e);
}

static int flat_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    const struct flat *flat = state;

    return pl_storage_zero(flat->file, flat->offset + at, len, e);
}

static int flat_flush(void *state, struct pl_err *e)
{
    const struct flat *flat = state;

    return pl_storage_flush(flat->file, e);
}

/* Grows.  What the file has behind the old end already was never the disk's: it becomes zeros. */
static int flat_resize(void *state, uint64_t size, enum pl_prealloc prealloc, struct pl_err *e)
{
    struct flat *flat = state;
    const uint64_t old_end = flat->offset + flat->size, file_size = pl_storage_size(flat->file);
    uint64_t end;

    if (prealloc == PL_PREALLOC_METADATA)
        return pl_fail(e, PL_E_UNSUPPORTED, "a flat extent has no metadata to preallocate");
    if (!pl_add(flat->offset, size, &end) || end > PL_OFFSET_MAX)
        return pl_fail(e, PL_E_LIMIT, "%" PRIu64 " bytes behind offset %" PRIu64 " are too many",
                       size, flat->offset);
    if (file_size > old_end &&
        pl_storage_zero(flat->file, old_end, PL_MIN(file_size, end) - old_end, e) < 0)
        return -1;
    if (file_size < end && pl_storage_resize(flat->file, end, e) < 0)
        return -1;
    if (prealloc != PL_PREALLOC_OFF &&
        pl_storage_preallocate(flat->file, old_end, end - old_end, prealloc, e) < 0)
        return -1;
    flat->size = size;
    return 0;
}

static int flat_check(void *state, enum pl_repair repair, const struct pl_report *report,
                      struct pl_check_result *result, struct pl_err *e)
{
    struct flat *flat = state;
    struct pl_err why;

    (void)repair;
    (void)e;
    if (!is_whole(flat)) {
        too_short(flat, &why);
        pl_warn(report, "ERROR %s", why.msg);
        result->corruptions++;
    }
    return 0;
}

static void flat_close(void *state)
{
    free(state);
}

static const struct vmdk_extent_ops flat_ops = {
    .kind = "flat",
    .map = flat_map,
    .allocate = flat_allocate,
    .zero = flat_zero,
    .discard = flat_discard,
    .flush = flat_flush,
    .resize = flat_resize,
    .check = flat_check,
    .close = flat_close,
};

static const struct vmdk_extent_ops zeros_ops = {
    .kind = "zero",
    .map = zeros_map,
    .close = flat_close,
};

int vmdk_flat_open(const struct vmdk_extent_args *args, uint64_t offset, struct vmdk_extent *out,
                   struct pl_err *e)
{
    const struct flat wanted = { .file = args->file, .offset = offset, .size = args->size };
    struct flat *flat;

    if (args->file && !args->check_only && !is_whole(&wanted))
        return too_short(&wanted, e);
    flat = malloc(sizeof *flat);
    if (!flat)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    *flat = wanted;
    *out = (struct vmdk_extent){
        .ops = args->file ? &flat_ops : &zeros_ops,
        .state = flat,
        .size = args->size,
        .granule = 1,
        .has_zeroed = true,
    };
    return 0;
}
