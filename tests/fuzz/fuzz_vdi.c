/* fuzz_vdi.c - any bytes as a VDI image that is read, then written to, compacted, resized and
 * repaired: an image that a check calls sound stays so, and no other does harm to the program. */
#include "tests/fuzz/change.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever it was, it is sound once it was repaired, unless that failed. */
static void repair(struct pl_storage *file)
{
    const struct pl_open_args args = { .file = file, .writable = true, .check_only = true };
    struct pl_check_result result = { 0 };
    struct pl_layer layer;
    bool repaired;

    if (exercise_open(&pl_vdi, args, &layer) < 0)
        return;
    repaired = pl_vdi.check(layer.state, PL_REPAIR_ALL, NULL, &result, NULL) == 0;
    if (repaired && (result.corruptions || result.leaks))
        abort();
    exercise_close(&pl_vdi, &layer);
    if (repaired)
        change_is_sound(&pl_vdi, (struct pl_open_args){ .file = file }, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct change_how how = { .steps = 16, .kinds = CHANGE_RESIZE | CHANGE_COMPACT };

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &how.args.file, NULL) < 0)
        return 0;
    pl_vdi.probe(&(struct pl_probe){ .head = data, .len = size, .file_size = size });
    change_image(&pl_vdi, how, change_seed(data, size));
    repair(how.args.file);
    pl_storage_close(how.args.file, NULL);
    return 0;
}
