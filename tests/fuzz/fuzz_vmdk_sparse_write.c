/* fuzz_vmdk_sparse_write.c - any bytes as a sparse VMDK extent that is written to: an extent that a
 * check calls sound stays so, and no other does harm to the program. */
#include "tests/fuzz/change.h"
#include "tests/support/extent_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A sound extent that grows is one still. */
static void grow(struct pl_open_args args, uint64_t random)
{
    const bool sound = change_is_sound(&extent_driver, args, false);
    struct pl_open_args how = args;
    struct pl_layer layer;
    bool done;

    how.writable = true;
    if (exercise_open(&extent_driver, how, &layer) < 0)
        return;
    done = extent_driver.resize(layer.state, pl_round_up(layer.size, 512) + 512 * (random >> 50),
                                false, PL_PREALLOC_OFF, NULL) == 0;
    done = extent_driver.flush(layer.state, NULL) == 0 && done;
    exercise_close(&extent_driver, &layer);
    if (sound && done)
        change_is_sound(&extent_driver, args, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint64_t random = change_seed(data, size);
    struct rig rig = { .parent = random & 1 ? (const uint8_t *)"" : NULL };
    struct change_how how = { .args = { .ctx = &rig }, .steps = 24, .kinds = CHANGE_COMPACT };

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &how.args.file, NULL) < 0)
        return 0;
    change_image(&extent_driver, how, random);
    grow(how.args, random);
    pl_storage_close(how.args.file, NULL);
    return 0;
}
