/* fuzz_qcow2_write.c - any bytes as a qcow2 image that is written to: an image that a check calls
 * sound stays so, and no other does harm to the program. */
#include <string.h>

#include "tests/fuzz/exercise.h"

extern const struct pl_driver pl_qcow2;
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS 24
#define WRITE_MAX (256 * 1024)

/* Asks for room, fills it, links it. */
static void write_range(const struct pl_layer *layer, uint64_t at, uint64_t len)
{
    struct pl_place place;
    uint8_t *bytes;

    if (pl_qcow2.allocate(layer->state, at, len, &place, NULL) < 0)
        return;
    if (place.len == 0 || place.at != at || place.len > len)
        abort();
    bytes = calloc(1, WRITE_MAX);
    if (!bytes || place.len > WRITE_MAX ||
        pl_storage_write(place.st, place.off, bytes, place.len, NULL) < 0)
        pl_qcow2.cancel(layer->state, &place);
    else if (place.fresh && pl_qcow2.link(layer->state, &place, NULL) < 0)
        pl_qcow2.cancel(layer->state, &place);
    free(bytes);
}

static void write_packed(const struct pl_layer *layer, uint64_t at)
{
    struct pl_place place;

    at -= at % layer->unit_len;
    if (pl_qcow2.allocate_packed(layer->state, at, 300, &place, NULL) < 0)
        return;
    if (at / layer->unit_len % 3 == 0 || pl_qcow2.link(layer->state, &place, NULL) < 0)
        pl_qcow2.cancel(layer->state, &place);
}

static void change(const struct pl_layer *layer, uint64_t random)
{
    const uint64_t at = pl_round_down((random >> 8) % layer->size, layer->granule);
    uint64_t len = PL_MIN((1 + random % 5) * layer->granule, layer->size - at);

    len = PL_MIN(len, PL_MAX(WRITE_MAX, layer->granule));
    switch (random >> 4 & 7) {
    case 0:
        (void)!pl_qcow2.zero(layer->state, at, len, random & 8, NULL);
        break;
    case 1:
        (void)!pl_qcow2.discard(layer->state, at, len, NULL);
        break;
    case 2:
        if (layer->codec)
            write_packed(layer, at);
        break;
    case 3:
        (void)!pl_qcow2.flush(layer->state, NULL);
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

    if (exercise_open(&pl_qcow2, args, &layer) < 0) {
        if (flushed)
            abort();
        return false;
    }
    sound = pl_qcow2.check(layer.state, PL_REPAIR_NONE, NULL, &result, NULL) == 0 &&
            !result.corruptions && !result.check_errors;
    exercise_close(&pl_qcow2, &layer);
    return sound;
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
    sound = is_sound(file, false);
    if (exercise_open(&pl_qcow2, (struct pl_open_args){ .file = file, .writable = true }, &layer) ==
        0) {
        for (unsigned i = 0; i < STEPS && layer.size > 0; i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            change(&layer, random >> 16);
        }
        sound = pl_qcow2.flush(layer.state, NULL) == 0 && sound;
        exercise_close(&pl_qcow2, &layer);
        if (sound && !is_sound(file, true))
            abort();
    }
    pl_storage_close(file, NULL);
    return 0;
}
