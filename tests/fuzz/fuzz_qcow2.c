/* fuzz_qcow2.c - any bytes as a qcow2 image: read it, open its snapshots, check it, repair it. */
#include "tests/fuzz/change.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SNAPSHOTS_MAX 4
#define BITMAPS_MAX 4
#define BITS_MAX (1 << 20)

static void load_bitmaps(struct pl_layer *layer)
{
    struct pl_bitmap *list;
    size_t count;

    if (pl_qcow2.bitmaps(layer->state, &list, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count && i < BITMAPS_MAX; i++) {
        const uint64_t len = pl_div_up(pl_div_up(layer->size, list[i].granularity), 8);
        uint8_t *bits = len <= BITS_MAX ? malloc(len + 1) : NULL;

        if (bits && pl_qcow2.bitmap_load(layer->state, list[i].name, bits, len, NULL) < 0)
            bits[0] = 0;
        free(bits);
    }
    free(list);
}

static void open_snapshots(struct pl_storage *file, struct pl_layer *active)
{
    struct pl_snapshot *list;
    size_t count;

    if (pl_qcow2.snapshots(active->state, &list, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count && i < SNAPSHOTS_MAX; i++) {
        const struct pl_open_args args = { .file = file, .snapshot = list[i].id };
        struct pl_layer layer;

        if (exercise_open(&pl_qcow2, args, &layer) < 0)
            continue;
        exercise_map(&pl_qcow2, &layer);
        exercise_close(&pl_qcow2, &layer);
    }
    free(list);
}

static void read_all(struct pl_storage *file)
{
    struct pl_layer layer;

    if (exercise_open(&pl_qcow2, (struct pl_open_args){ .file = file }, &layer) < 0)
        return;
    exercise_map(&pl_qcow2, &layer);
    exercise_facts(&pl_qcow2, &layer);
    load_bitmaps(&layer);
    open_snapshots(file, &layer);
    exercise_close(&pl_qcow2, &layer);
}

/* Repairs, and what counts as sound then must be found sound again. */
static void repair(struct pl_storage *file)
{
    const struct pl_open_args args = { .file = file };
    struct pl_check_result result = { 0 };
    struct pl_layer layer;

    if (!change_repair(&pl_qcow2, args))
        return;
    if (exercise_open(&pl_qcow2, args, &layer) < 0)
        return;
    if (pl_qcow2.check(layer.state, PL_REPAIR_NONE, NULL, &result, NULL) == 0 &&
        result.corruptions > 0)
        abort();
    exercise_map(&pl_qcow2, &layer);
    exercise_close(&pl_qcow2, &layer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_storage *file;

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &file, NULL) < 0)
        return 0;
    pl_qcow2.probe(&(struct pl_probe){ .head = data, .len = size, .file_size = size });
    read_all(file);
    repair(file);
    pl_storage_close(file, NULL);
    return 0;
}
