/* fuzz_vmdk_descriptor.c - any bytes as the descriptor of a VMDK disk whose extents are all there:
 * read, checked, written to, and made larger. */
#include <string.h>

#include "tests/fuzz/exercise.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EXTENT_BYTES 65536

/* Every name leads to a file of its own; a name in another folder to none. */
static int open_extent(const struct pl_open_args *args, const char *name, struct pl_storage **out,
                       struct pl_err *e)
{
    (void)args;
    if (strchr(name, '/'))
        return pl_fail(e, PL_E_POLICY, "%s: not here", name);
    return pl_memory_storage(NULL, EXTENT_BYTES, EXERCISE_LIMIT, out, e);
}

static int open_disk(struct pl_storage *file, struct pl_open_args how, struct pl_layer *layer)
{
    how.file = file;
    how.open_file = open_extent;
    *layer = (struct pl_layer){ 0 };
    if (pl_vmdk.open(&how, layer, NULL) == 0)
        return 0;
    rig_free_texts(layer);
    return -1;
}

static void look(struct pl_storage *file, bool check_only)
{
    struct pl_check_result result = { 0 };
    struct pl_layer layer;

    if (open_disk(file, (struct pl_open_args){ .check_only = check_only }, &layer) < 0)
        return;
    exercise_map(&pl_vmdk, &layer);
    exercise_facts(&pl_vmdk, &layer);
    if (pl_vmdk.check(layer.state, PL_REPAIR_NONE, NULL, &result, NULL) < 0)
        abort();
    exercise_close(&pl_vmdk, &layer);
}

static void write_at(const struct pl_layer *layer, uint64_t at)
{
    struct pl_place place;

    if (pl_vmdk.allocate(layer->state, at, layer->granule, &place, NULL) < 0)
        return;
    if (place.at != at || place.len == 0 || place.len > layer->granule)
        abort();
    if (pl_storage_write(place.st, place.off, "text", 4, NULL) < 0)
        abort();
}

/* A disk that was made larger must open again, with that size. */
static void change(struct pl_storage *file)
{
    struct pl_layer layer;
    uint64_t size;

    if (open_disk(file, (struct pl_open_args){ .writable = true }, &layer) < 0)
        return;
    size = layer.size;
    if (size > 0) {
        write_at(&layer, 0);
        write_at(&layer, pl_round_down(size - 1, layer.granule));
    }
    if (pl_vmdk.resize(layer.state, size + 512, false, PL_PREALLOC_OFF, NULL) == 0)
        size += 512;
    if (pl_vmdk.flush(layer.state, NULL) < 0)
        abort();
    exercise_close(&pl_vmdk, &layer);
    /* the extents are as short as ever: only `check` opens it */
    if (open_disk(file, (struct pl_open_args){ .check_only = true }, &layer) < 0 ||
        layer.size != size)
        abort();
    exercise_close(&pl_vmdk, &layer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_storage *file;

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &file, NULL) < 0)
        return 0;
    /* sparse files are for other targets */
    if (pl_vmdk.probe(&(struct pl_probe){ .head = data, .len = size, .file_size = size }) &&
        size > 4 && memcmp(data, "KDMV", 4) != 0 && memcmp(data, "COWD", 4) != 0) {
        look(file, false);
        look(file, true);
        change(file);
    }
    pl_storage_close(file, NULL);
    return 0;
}
