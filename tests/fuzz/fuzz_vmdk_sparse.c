/* fuzz_vmdk_sparse.c - any bytes as a sparse VMDK extent: read it, check it, repair it.  */
#include "tests/fuzz/change.h"
#include "tests/support/extent_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(struct pl_open_args args)
{
    char *text;

    if (vmdk_sparse_descriptor(args.file, &text, NULL) == 0)
        free(text);
    change_is_sound(&extent_driver, args, false);
}

/* Repairs, and what counts as sound then must be found sound again. */
static void repair(struct pl_open_args args)
{
    struct pl_check_result result = { 0 };
    struct pl_layer layer;

    if (!change_repair(&extent_driver, args))
        return;
    if (exercise_open(&extent_driver, args, &layer) < 0)
        abort();
    if (extent_driver.check(layer.state, PL_REPAIR_NONE, NULL, &result, NULL) == 0 &&
        result.corruptions > 0)
        abort();
    exercise_map(&extent_driver, &layer);
    exercise_close(&extent_driver, &layer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig rig = { 0 };
    struct pl_open_args args = { .ctx = &rig };

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &args.file, NULL) < 0)
        return 0;
    read_all(args);
    repair(args);
    pl_storage_close(args.file, NULL);
    return 0;
}
