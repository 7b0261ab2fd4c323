/* fuzz_vmdk_descriptor.c - any bytes as the descriptor of a VMDK disk whose extents are all there:
 * read, checked, written to, made larger, and edited. */
#include <string.h>

#include "formats/vmdk/descriptor.h"
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

/* The key has the value, or none, and all extents are what they were. */
static void put(struct vmdk_descriptor *d, const struct vmdk_key *key, const char *value)
{
    const size_t lines = d->line_count;
    const uint64_t sectors = d->sectors;
    char *found;

    if (vmdk_descriptor_put(d, key, value, NULL) < 0)
        return; /* no memory, or longer than a descriptor may be */
    found = vmdk_descriptor_value(d, key->name);
    if (d->line_count != lines || d->sectors != sectors || !found != !value ||
        (found && strncmp(value + (*value == '"'), found, strlen(found)) != 0))
        abort();
    free(found);
}

/* Any text takes another parent, and none. */
static void edit(const uint8_t *data, size_t size)
{
    static const char *const behind[] = { "createType", "CID", NULL };
    static const struct vmdk_key keys[] = { { "parentCID", "=", behind },
                                            { "parentFileNameHint", "=", behind },
                                            { "ddb.uuid.parent", " = ", behind + 2 } };
    static const char *const values[] = { "0a1b2c3d", "\"a file\"", "\"a text\"" };
    struct vmdk_descriptor d;
    char *text = calloc(1, size + 1);

    if (!text)
        return;
    memcpy(text, data, size);
    if (vmdk_descriptor_parse(text, size, &d, NULL) < 0)
        return;
    for (size_t i = 0; d.len > 0 && i < 3; i++)
        put(&d, &keys[i], values[i]);
    if (d.len > 0 && d.len < VMDK_DESCRIPTOR_MAX - 100 && d.parent_cid != 0x0a1b2c3d)
        abort();
    for (size_t i = 0; i < 3; i++)
        put(&d, &keys[i], NULL);
    vmdk_descriptor_free(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_storage *file;

    edit(data, size);

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
