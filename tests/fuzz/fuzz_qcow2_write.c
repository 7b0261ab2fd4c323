/* fuzz_qcow2_write.c - any bytes as a qcow2 image that is written to: an image that a check calls
 * sound stays so, and no other does harm to the program. */
#include "tests/fuzz/change.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct change_how how = { .steps = 24 };

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &how.args.file, NULL) < 0)
        return 0;
    change_image(&pl_qcow2, how, change_seed(data, size));
    pl_storage_close(how.args.file, NULL);
    return 0;
}
