/* fuzz_qcow2_write.c - any bytes as a qcow2 image that is written to, whose snapshots and options
 * change: an image that a check calls sound stays so, and no other does harm to the program. */
#include "tests/fuzz/change.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void change_snapshots(struct pl_layer *layer, uint64_t random)
{
    static const char *const names[] = { "1", "2", "one", "two" };
    const char *name = names[random >> 4 & 3];
    struct pl_snapshot facts = { .icount = UINT64_MAX };

    memcpy(facts.name, name, strlen(name));
    if ((random & 3) == 0)
        (void)!pl_qcow2.snapshot_create(layer->state, &facts, NULL);
    else if ((random & 3) == 1)
        (void)!pl_qcow2.snapshot_apply(layer->state, name, &layer->size, NULL);
    else if ((random & 3) == 2)
        (void)!pl_qcow2.snapshot_delete(layer->state, name, NULL);
    else
        (void)!pl_qcow2.snapshot_rename(layer->state, name, names[random >> 6 & 3], NULL);
}

static void amend(struct pl_layer *layer, uint64_t random)
{
    static const char *const texts[] = { "compat=1.1",        "compat=0.10,refcount_bits=16",
                                         "lazy_refcounts=on", "refcount_bits=1",
                                         "refcount_bits=8",   "refcount_bits=64",
                                         "data_file=other",   "data_file_raw=off" };
    struct pl_options *options = pl_options_new();

    if (options && pl_options_add(options, texts[random & 7], NULL) == 0)
        (void)!pl_qcow2.amend(layer->state, options, NULL, NULL);
    pl_options_free(options);
}

static void change_bitmaps(const struct pl_layer *layer, uint64_t random)
{
    const struct pl_bitmap bitmap = { .name = "bits", .granularity = 65536, .enabled = random & 2 };
    const uint64_t len = pl_div_up(pl_div_up(layer->size, 65536), 8);
    uint8_t *bits = len < PL_MIB ? calloc(1, len + 1) : NULL;

    if (random & 1)
        (void)!pl_qcow2.bitmap_remove(layer->state, bitmap.name, NULL);
    else if (bits)
        (void)!pl_qcow2.bitmap_store(layer->state, &bitmap, bits, len, NULL);
    free(bits);
}

static void change_whole(struct pl_layer *layer, uint64_t random)
{
    if ((random & 7) < 5)
        change_snapshots(layer, random >> 3);
    else if ((random & 7) < 7)
        amend(layer, random >> 3);
    else
        change_bitmaps(layer, random >> 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct change_how how = { .steps = 24, .own = change_whole };

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &how.args.file, NULL) < 0)
        return 0;
    change_image(&pl_qcow2, how, change_seed(data, size));
    pl_storage_close(how.args.file, NULL);
    return 0;
}
