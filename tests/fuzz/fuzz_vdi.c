/* fuzz_vdi.c - any bytes as a VDI image that is read, then written to, compacted, resized and
 * repaired: an image that a check calls sound stays so, and no other does harm to the program. */
#include <string.h>

#include "tests/fuzz/exercise.h"

extern const struct pl_driver pl_vdi;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS 16
#define WRITE_MAX (256 * 1024)

static void write_range(const struct pl_layer *layer, uint64_t at, uint64_t len)
{
    struct pl_place place;
    uint8_t *bytes;

    if (pl_vdi.allocate(layer->state, at, len, &place, NULL) < 0)
        return;
    if (place.len == 0 || place.at != at || place.len > len)
        abort();
    bytes = calloc(1, WRITE_MAX);
    if (!bytes || place.len > WRITE_MAX ||
        pl_storage_write(place.st, place.off, bytes, place.len, NULL) < 0)
        pl_vdi.cancel(layer->state, &place);
    else if (place.fresh && pl_vdi.link(layer->state, &place, NULL) < 0)
        pl_vdi.cancel(layer->state, &place);
    free(bytes);
}

static void resize(struct pl_layer *layer, uint64_t random)
{
    const uint64_t most = PL_MIN(layer->size, 64 * PL_MIB);
    const uint64_t size = pl_round_down(most / 2 + random % (most + 512), 512);

    if (pl_vdi.resize(layer->state, size, true, PL_PREALLOC_OFF, NULL) == 0)
        layer->size = size;
}

static void change(struct pl_layer *layer, uint64_t random)
{
    const uint64_t at = pl_round_down((random >> 8) % layer->size, layer->granule);
    uint64_t len = PL_MIN((1 + random % 5) * layer->granule, layer->size - at), freed;

    len = PL_MIN(len, PL_MAX(WRITE_MAX, layer->granule));
    switch (random >> 4 & 7) {
    case 0:
        (void)!pl_vdi.zero(layer->state, at, len, random & 8, NULL);
        break;
    case 1:
        (void)!pl_vdi.discard(layer->state, at, len, NULL);
        break;
    case 2:
        resize(layer, random >> 8);
        break;
    case 3:
        (void)!pl_vdi.flush(layer->state, NULL);
        break;
    case 4:
        (void)!pl_vdi.compact(layer->state, NULL, &freed, NULL);
        break;
    default:
        write_range(layer, at, len);
    }
}

static bool is_sound(struct pl_storage *file, bool flushed)
{
    const struct pl_open_args args = { .file = file, .check_only = true };
    struct pl_check_result result = { 0 };
    struct pl_layer layer;
    bool sound;

    if (exercise_open(&pl_vdi, args, &layer) < 0) {
        if (flushed)
            abort();
        return false;
    }
    sound = pl_vdi.check(layer.state, PL_REPAIR_NONE, NULL, &result, NULL) == 0 &&
            !result.corruptions && !result.check_errors;
    exercise_close(&pl_vdi, &layer);
    return sound;
}

static void read_it(struct pl_storage *file)
{
    struct pl_layer layer;

    if (exercise_open(&pl_vdi, (struct pl_open_args){ .file = file }, &layer) < 0)
        return;
    exercise_map(&pl_vdi, &layer);
    exercise_facts(&pl_vdi, &layer);
    exercise_close(&pl_vdi, &layer);
}

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
    if (repaired && !is_sound(file, true))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pl_storage *file;
    struct pl_layer layer;
    uint64_t random = 0;
    bool sound;

    if (pl_memory_storage(data, size, EXERCISE_LIMIT, &file, NULL) < 0)
        return 0;
    memcpy(&random, data + size - PL_MIN(size, 8), PL_MIN(size, 8));
    pl_vdi.probe(&(struct pl_probe){ .head = data, .len = size, .file_size = size });
    read_it(file);
    sound = is_sound(file, false);
    if (exercise_open(&pl_vdi, (struct pl_open_args){ .file = file, .writable = true }, &layer) ==
        0) {
        for (unsigned i = 0; i < STEPS && layer.size > 0; i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            change(&layer, random >> 16);
        }
        sound = pl_vdi.flush(layer.state, NULL) == 0 && sound;
        exercise_close(&pl_vdi, &layer);
        if (sound && !is_sound(file, true))
            abort();
    }
    repair(file);
    pl_storage_close(file, NULL);
    return 0;
}
