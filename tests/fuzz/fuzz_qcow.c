/* fuzz_qcow.c - any bytes as a qcow image of version 1. */
#include "tests/fuzz/exercise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_storage *file;
    struct pl_layer layer;

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &file, NULL) < 0)
        return 0;
    pl_qcow.probe(&(struct pl_probe){ .head = data, .len = size, .file_size = size });
    if (exercise_open(&pl_qcow, (struct pl_open_args){ .file = file }, &layer) == 0) {
        exercise_map(&pl_qcow, &layer);
        exercise_close(&pl_qcow, &layer);
    }
    pl_storage_close(file, NULL);
    return 0;
}
