/* raw.c - the format without a format: the file's bytes are the disk's.
 *
 * Never found by probing: any file could be one.  The disk is as long as the file, to the byte.
 * Holes of the file are zeros that have their place already, so there is nothing to allocate or
 * link.  A block device keeps its size; a pipe has none, and takes what is written in order. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/driver.h"

struct raw {
    struct pl_storage *file; /* the core's */
    uint64_t size;           /* changed by resize alone, which has the layer to itself */
};

static int raw_open(const struct pl_open_args *args, struct pl_layer *layer, struct pl_err *e)
{
    struct raw *raw;
    uint64_t size = pl_storage_size(args->file);

    if (args->file->sequential && !args->writable)
        return pl_fail(e, PL_E_UNSUPPORTED, "a pipe cannot be read as a disk");
    if (size > PL_OFFSET_MAX)
        size = PL_OFFSET_MAX; /* a pipe: the writer knows the size */
    raw = malloc(sizeof *raw);
    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "no memory to open it");
    *raw = (struct raw){ .file = args->file, .size = size };
    *layer = (struct pl_layer){
        .state = raw,
        .size = size,
        .granule = 1,
        .plain = true,
        .sparse_new = !args->file->device,
    };
    return 0;
}

static void raw_close(void *state)
{
    free(state);
}

static int raw_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
{
    const struct raw *raw = state;
    const uint64_t file_size = pl_storage_size(raw->file);
    bool hole = true;

    if (at < file_size) { /* else the file was cut meanwhile: what is gone reads as zeros */
        len = PL_MIN(len, file_size - at);
        if (pl_storage_map(raw->file, at, &len, &hole, e) < 0)
            return -1;
    }
    *out = (struct pl_extent){
        .state = hole ? PL_ZERO : PL_DATA,
        .allocated = hole,
        .len = len,
        .st = raw->file,
        .off = at,
    };
    return 0;
}

static int raw_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out,
                        struct pl_err *e)
{
    const struct raw *raw = state;

    (void)e;
    *out = (struct pl_place){ .at = at, .len = len, .st = raw->file, .off = at };
    return 0;
}

static int raw_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    const struct raw *raw = state;

    if (!unmap) /* the storage gives blocks back as it likes: reserved ones must stay */
        return 1;
    return pl_storage_zero(raw->file, at, len, e);
}

static int raw_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    const struct raw *raw = state;

    return pl_storage_zero(raw->file, at, len, e); /* a plain discard could leave any bytes */
}

static int raw_flush(void *state, struct pl_err *e)
{
    const struct raw *raw = state;

    return pl_storage_flush(raw->file, e);
}

static const struct pl_option_help create_options[] = {
    { "size", "size", "Virtual disk size" },
    { "preallocation", "str", "Room made ahead: off, falloc (reserved), full (zeros written)" },
    { "nocow", "bool (on/off)", "Accepted for qemu-img; without effect" },
    { NULL, NULL, NULL },
};

static const char *const prealloc_names[] = { "off", "falloc", "full", NULL };
static const enum pl_prealloc prealloc_values[] = { PL_PREALLOC_OFF, PL_PREALLOC_FALLOC,
                                                    PL_PREALLOC_FULL };

static int read_prealloc(const struct pl_options *options, enum pl_prealloc *how, struct pl_err *e)
{
    unsigned choice = 0;

    if (pl_options_choice(options, "preallocation", prealloc_names, &choice, e) < 0)
        return -1;
    *how = prealloc_values[choice];
    return 0;
}

static int check_device_size(const struct pl_create_args *args, struct pl_err *e)
{
    const uint64_t room = pl_storage_size(args->file);

    if (args->size <= room)
        return 0;
    return pl_fail(e, PL_E_LIMIT, "the device has %" PRIu64 " bytes, the disk would need %" PRIu64,
                   room, args->size);
}

static int raw_create(const struct pl_create_args *args, struct pl_err *e)
{
    enum pl_prealloc how;
    bool nocow;

    if (args->parent.name)
        return pl_fail(e, PL_E_UNSUPPORTED, "a raw image cannot have a backing file");
    if (read_prealloc(args->options, &how, e) < 0 ||
        pl_options_bool(args->options, "nocow", &nocow, e) < 0)
        return -1;
    if (args->file->sequential)
        return 0;
    if (args->file->device)
        return check_device_size(args, e);
    if (pl_storage_resize(args->file, args->size, e) < 0)
        return -1;
    return how == PL_PREALLOC_OFF ? 0 : pl_storage_preallocate(args->file, 0, args->size, how, e);
}

/* Grows the file, and takes it back when the room cannot be made. */
static int grow(struct raw *raw, uint64_t size, enum pl_prealloc how, struct pl_err *e)
{
    if (pl_storage_resize(raw->file, size, e) < 0)
        return -1;
    if (how == PL_PREALLOC_OFF ||
        pl_storage_preallocate(raw->file, raw->size, size - raw->size, how, e) == 0)
        return 0;
    if (pl_storage_resize(raw->file, raw->size, NULL) < 0)
        raw->size = size; /* the first error says why; the file stays longer */
    return -1;
}

static int raw_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc,
                      struct pl_err *e)
{
    struct raw *raw = state;
    int result;

    if (size == raw->size)
        return 0;
    if (raw->file->device)
        return pl_fail(e, PL_E_UNSUPPORTED, "a block device keeps its size of %" PRIu64 " bytes",
                       raw->size);
    if (prealloc == PL_PREALLOC_METADATA)
        return pl_fail(e, PL_E_UNSUPPORTED, "raw has no metadata to preallocate");
    if (size < raw->size && !shrink)
        return pl_fail(e, PL_E_INVALID, "%" PRIu64 " bytes are less than the %" PRIu64 " it has",
                       size, raw->size);
    if (size < raw->size && prealloc != PL_PREALLOC_OFF)
        return pl_fail(e, PL_E_INVALID, "nothing can be preallocated while shrinking");
    result =
        size > raw->size ? grow(raw, size, prealloc, e) : pl_storage_resize(raw->file, size, e);
    if (result == 0)
        raw->size = size;
    return result;
}

static int raw_measure(const struct pl_measure_args *args, struct pl_measure_result *result,
                       struct pl_err *e)
{
    enum pl_prealloc how;
    bool nocow;

    if (read_prealloc(args->options, &how, e) < 0 ||
        pl_options_bool(args->options, "nocow", &nocow, e) < 0)
        return -1;
    /* holes count: they are part of the file's length */
    *result = (struct pl_measure_result){ .required = args->size, .fully_allocated = args->size };
    return 0;
}

extern const struct pl_driver pl_raw;
const struct pl_driver pl_raw = {
    .name = "raw",
    .spec = "plain bytes",
    .streams = true,
    .create_options = create_options,
    .open = raw_open,
    .map = raw_map,
    .close = raw_close,
    .allocate = raw_allocate,
    .zero = raw_zero,
    .discard = raw_discard,
    .flush = raw_flush,
    .create = raw_create,
    .resize = raw_resize,
    .measure = raw_measure,
};
