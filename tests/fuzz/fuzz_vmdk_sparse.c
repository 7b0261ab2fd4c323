/* fuzz_vmdk_sparse.c - any bytes as a sparse VMDK extent: read it, check it, repair it.  */
#include "formats/vmdk/extent.h"
#include "tests/fuzz/exercise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void map_all(const struct vmdk_extent *x)
{
    unsigned units = 0;
    uint64_t at = 0;

    for (unsigned i = 0; i < EXERCISE_EXTENTS && at < x->size; i++) {
        struct pl_extent run;

        if (x->ops->map(x->state, at, x->size - at, &run, NULL) < 0) {
            at += PL_MIN(x->size - at, x->granule);
            continue;
        }
        exercise_extent(&run, at, x->size - at, &units);
        at += run.len;
    }
}

static void read_all(struct pl_storage *file)
{
    const struct vmdk_extent_args args = { .file = file, .cache_bytes = 64 * 1024 };
    struct pl_check_result result = { 0 };
    struct vmdk_extent x;
    char *text;

    if (vmdk_sparse_descriptor(file, &text, NULL) == 0)
        free(text);
    if (vmdk_sparse_open(&args, &x, NULL) < 0)
        return;
    map_all(&x);
    if (x.ops->check(x.state, PL_REPAIR_NONE, NULL, &result, NULL) < 0)
        (void)0;
    x.ops->close(x.state);
}

/* Repairs, and what counts as sound then must be found sound again. */
static void repair(struct pl_storage *file)
{
    struct vmdk_extent_args args = {
        .file = file, .cache_bytes = 64 * 1024, .writable = true, .check_only = true
    };
    struct pl_check_result first = { 0 }, second = { 0 };
    struct vmdk_extent x;
    bool sound;

    if (vmdk_sparse_open(&args, &x, NULL) < 0)
        return;
    sound = x.ops->check(x.state, PL_REPAIR_ALL, NULL, &first, NULL) == 0 &&
            x.ops->flush(x.state, NULL) == 0 && !first.corruptions && !first.check_errors;
    x.ops->close(x.state);
    args.writable = args.check_only = false;
    if (!sound)
        return;
    if (vmdk_sparse_open(&args, &x, NULL) < 0)
        abort();
    if (x.ops->check(x.state, PL_REPAIR_NONE, NULL, &second, NULL) == 0 && second.corruptions > 0)
        abort();
    map_all(&x);
    x.ops->close(x.state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_storage *file;

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &file, NULL) < 0)
        return 0;
    read_all(file);
    repair(file);
    pl_storage_close(file, NULL);
    return 0;
}
