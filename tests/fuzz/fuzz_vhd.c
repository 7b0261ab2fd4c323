/* fuzz_vhd.c - any bytes as a VHD image: read it, check and repair it, write to it.
 *
 * The checksums of footer and header are made right first: what is behind them is of interest. */
#include <string.h>

#include "core/base/bytes.h"
#include "tests/fuzz/change.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WRITES 12

/* Sets the checksum at byte `at` of a structure of len bytes, if it starts with the cookie. */
static void seal(uint8_t *bytes, size_t size, uint64_t off, size_t len, size_t at,
                 const char *cookie)
{
    uint32_t sum = 0;

    if (off > size || len > size - off || memcmp(bytes + off, cookie, 8) != 0)
        return;
    store_be32(bytes + off + at, 0);
    for (size_t i = 0; i < len; i++)
        sum += bytes[off + i];
    store_be32(bytes + off + at, ~sum);
}

static void seal_all(uint8_t *bytes, size_t size)
{
    const uint64_t header = size >= 24 ? load_be64(bytes + 16) : 0;

    seal(bytes, size, header, 1024, 36, "cxsparse");
    seal(bytes, size, 0, 512, 64, "conectix");
    if (size >= 512)
        seal(bytes, size, size - 512, 512, 64, "conectix");
    if (size >= 511)
        seal(bytes, size, size - 511, 511, 64, "conectix");
}

static void read_all(struct pl_storage *file)
{
    struct pl_layer layer;

    if (exercise_open(&pl_vhd, (struct pl_open_args){ .file = file }, &layer) < 0)
        return;
    exercise_map(&pl_vhd, &layer);
    exercise_facts(&pl_vhd, &layer);
    exercise_close(&pl_vhd, &layer);
}

/* Writes, zeroes and forgets here and there; what was written is read back. */
static void change(const struct pl_layer *layer)
{
    static uint8_t bytes[512];

    for (unsigned i = 0; i < WRITES && layer->size >= 512; i++) {
        const uint64_t at = (layer->size / WRITES * i) & ~UINT64_C(511);
        struct pl_place place;
        struct pl_extent x;

        memset(bytes, (int)i + 1, sizeof bytes);
        if (i % 4 == 3) {
            if (pl_vhd.zero(layer->state, at, 512, i % 8 == 3, NULL) < 0)
                return;
            continue;
        }
        if (i % 4 == 2 && pl_vhd.forget(layer->state, at, 512, NULL) < 0)
            return;
        if (pl_vhd.allocate(layer->state, at, 512, &place, NULL) < 0 ||
            pl_storage_write(place.st, place.off, bytes, (size_t)place.len, NULL) < 0 ||
            (place.fresh && pl_vhd.link(layer->state, &place, NULL) < 0))
            return;
        if (place.len > 512 || pl_vhd.map(layer->state, at, 1, &x, NULL) < 0 ||
            x.state != PL_DATA || x.off != place.off)
            abort();
    }
}

static void write_to(struct pl_storage *file)
{
    const struct pl_open_args args = { .file = file, .writable = true };
    struct pl_layer layer;
    uint64_t freed;

    if (exercise_open(&pl_vhd, args, &layer) < 0)
        return;
    change(&layer);
    change_parent(&pl_vhd, &layer, layer.size / 512 % 2);
    change(&layer);
    if (pl_vhd.flush(layer.state, NULL) == 0 &&
        pl_vhd.compact(layer.state, NULL, &freed, NULL) == 0 &&
        pl_vhd.resize(layer.state, layer.size / 1024 * 512, true, PL_PREALLOC_OFF, NULL) == 0)
        layer.size = layer.size / 1024 * 512;
    exercise_close(&pl_vhd, &layer);
}

/* Repairs, and what counts as sound then must be found sound again. */
static void repair(struct pl_storage *file)
{
    const struct pl_open_args args = { .file = file };
    struct pl_check_result result = { 0 };
    struct pl_layer layer;

    if (!change_repair(&pl_vhd, args))
        return;
    if (exercise_open(&pl_vhd, args, &layer) < 0)
        abort();
    if (pl_vhd.check(layer.state, PL_REPAIR_NONE, NULL, &result, NULL) == 0 &&
        result.corruptions > 0)
        abort();
    exercise_map(&pl_vhd, &layer);
    exercise_close(&pl_vhd, &layer);
    write_to(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void (*const uses[])(struct pl_storage *) = { read_all, write_to, repair };
    uint8_t *bytes = malloc(size + 1);

    if (!bytes)
        return 0;
    if (size)
        memcpy(bytes, data, size);
    pl_vhd.probe(&(struct pl_probe){ .head = data, .len = size, .file_size = size, .name = "" });
    seal_all(bytes, size);
    for (size_t i = 0; i < PL_COUNT(uses); i++) {
        struct pl_storage *file;

        if (pl_memory_storage(bytes, size, EXERCISE_LIMIT, &file, NULL) < 0)
            break;
        uses[i](file);
        pl_storage_close(file, NULL);
    }
    free(bytes);
    return 0;
}
