/* fuzz_vmdk_sesparse.c - any bytes as a seSparse extent: read it, check it.  A run that map tells
 * must be told the same way from its middle on. */
#include <string.h>

#include "formats/vmdk/extent.h"
#include "tests/fuzz/exercise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What exercise.h maps: the extent as if it were a driver's disk. */
static int map_checked(void *state, uint64_t at, uint64_t len, struct pl_extent *out,
                       struct pl_err *e)
{
    const struct vmdk_extent *x = state;
    struct pl_extent rest;
    uint64_t skip;

    if (x->ops->map(x->state, at, len, out, e) < 0)
        return -1;
    skip = out->len / 2;
    if (x->ops->map(x->state, at + skip, len - skip, &rest, NULL) < 0 || rest.state != out->state ||
        rest.len < out->len - skip || (out->state == PL_DATA && rest.off != out->off + skip))
        abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct pl_driver driver = { .map = map_checked };
    struct vmdk_extent_args args = { .cache_bytes = 64 * 1024 };
    struct pl_check_result result = { 0 };
    struct vmdk_extent x;

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &args.file, NULL) < 0)
        return 0;
    if (vmdk_sesparse_open(&args, &x, NULL) == 0) {
        const struct pl_layer layer = { .state = &x, .size = x.size, .granule = x.granule };

        exercise_map(&driver, &layer);
        /* every grain of a broken table is a finding: keep the disk small */
        if (x.size <= 256 * PL_MIB &&
            x.ops->check(x.state, PL_REPAIR_NONE, NULL, &result, NULL) < 0)
            abort();
        x.ops->close(x.state);
    }
    pl_storage_close(args.file, NULL);
    return 0;
}
