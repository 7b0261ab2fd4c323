/* change.h - what a fuzz target does with an image that it writes to: random changes, after which a
 * sound image is still sound; a repair, after which it is. */
#ifndef TESTS_FUZZ_CHANGE_H
#define TESTS_FUZZ_CHANGE_H

#include <string.h>

#include "tests/fuzz/exercise.h"

#define CHANGE_WRITE_MAX (256 * PL_KIB)

/* Besides writing, zeroing, discarding, forgetting, flushing and changing the parent. */
enum { CHANGE_RESIZE = 1, CHANGE_COMPACT = 2 };

struct change_how {
    struct pl_open_args args; /* file, ctx, cache_bytes */
    unsigned steps, kinds;    /* how many; CHANGE_... */
    /* The format's own step; or null. */
    void (*own)(struct pl_layer *layer, uint64_t random);
};

/* Whether it opens and a check finds nothing wrong; if `surely` it must. */
static inline bool change_is_sound(const struct pl_driver *driver, struct pl_open_args args,
                                   bool surely)
{
    struct pl_check_result result = { 0 };
    struct pl_layer layer;
    bool sound;

    if (exercise_open(driver, args, &layer) < 0) {
        if (surely)
            abort();
        return false;
    }
    exercise_map(driver, &layer);
    exercise_facts(driver, &layer);
    sound = driver->check(layer.state, PL_REPAIR_NONE, NULL, &result, NULL) == 0 &&
            !result.corruptions && !result.check_errors;
    exercise_close(driver, &layer);
    if (surely && !sound)
        abort();
    return sound;
}

static inline void change_cancel(const struct pl_driver *driver, const struct pl_layer *layer,
                                 const struct pl_place *place)
{
    if (place->fresh && driver->cancel)
        driver->cancel(layer->state, place);
}

/* Asks for room, fills it as far as that goes, links it. */
static inline void change_write(const struct pl_driver *driver, const struct pl_layer *layer,
                                uint64_t at, uint64_t len)
{
    static const uint8_t bytes[CHANGE_WRITE_MAX] = { 1 };
    struct pl_place place;

    if (driver->allocate(layer->state, at, len, &place, NULL) < 0)
        return;
    if (place.len == 0 || place.at != at || place.len > len)
        abort();
    if (pl_storage_write(place.st, place.off, bytes, PL_MIN(place.len, sizeof bytes), NULL) < 0 ||
        (place.fresh && driver->link(layer->state, &place, NULL) < 0))
        change_cancel(driver, layer, &place);
}

static inline void change_write_packed(const struct pl_driver *driver, const struct pl_layer *layer,
                                       uint64_t at)
{
    struct pl_place place;

    at -= at % layer->unit_len;
    if (driver->allocate_packed(layer->state, at, 300, &place, NULL) < 0)
        return;
    if (at / layer->unit_len % 3 == 0 || driver->link(layer->state, &place, NULL) < 0)
        driver->cancel(layer->state, &place);
}

static inline void change_resize(const struct pl_driver *driver, struct pl_layer *layer,
                                 uint64_t random)
{
    const uint64_t most = PL_MIN(layer->size, 64 * PL_MIB);
    const uint64_t size = pl_round_down(most / 2 + random % (most + 512), 512);

    if (driver->resize(layer->state, size, true, PL_PREALLOC_OFF, NULL) == 0)
        layer->size = size;
}

/* Gives the image another parent, or none. */
static inline void change_parent(const struct pl_driver *driver, const struct pl_layer *layer,
                                 bool other)
{
    static const struct pl_parent_ref none = { 0 }, ref = {
        .name = "some/other",
        .identity = "cid:01234567 uuid:83ed0ec3-24c8-49a6-a959-5e4bf1288bfb time:7"
    };

    if (driver->set_parent)
        (void)!driver->set_parent(layer->state, other ? &ref : &none, NULL);
}

static inline void change_step(const struct pl_driver *driver, struct pl_layer *layer,
                               const struct change_how *how, uint64_t random)
{
    const unsigned kinds = how->kinds;
    const uint64_t at = pl_round_down((random >> 8) % layer->size, layer->granule);
    uint64_t len = PL_MIN((1 + random % 5) * layer->granule, layer->size - at), freed;
    const unsigned kind = random >> 4 & 7;

    len = PL_MIN(len, PL_MAX(CHANGE_WRITE_MAX, layer->granule));
    if (kind == 0)
        (void)!driver->zero(layer->state, at, len, random & 8, NULL);
    else if (kind == 1 && random & 8 && driver->forget)
        (void)!driver->forget(layer->state, at, len, NULL);
    else if (kind == 1)
        (void)!driver->discard(layer->state, at, len, NULL);
    else if (kind == 2 && layer->codec)
        change_write_packed(driver, layer, at);
    else if (kind == 2 && kinds & CHANGE_RESIZE)
        change_resize(driver, layer, random >> 8);
    else if (kind == 3)
        (void)!driver->flush(layer->state, NULL);
    else if (kind == 5 && random & 8)
        change_parent(driver, layer, random & 128);
    else if (kind == 4 && kinds & CHANGE_COMPACT)
        (void)!driver->compact(layer->state, NULL, &freed, NULL);
    else if (kind == 4 && how->own)
        how->own(layer, random >> 8);
    else
        change_write(driver, layer, at, len);
}

/* Random changes.  What was sound before is so after them, unless flushing failed. */
static inline void change_image(const struct pl_driver *driver, struct change_how how,
                                uint64_t random)
{
    const bool sound = change_is_sound(driver, how.args, false);
    struct pl_open_args args = how.args;
    struct pl_layer layer;
    bool done;

    args.writable = true;
    if (exercise_open(driver, args, &layer) < 0)
        return;
    for (unsigned i = 0; i < how.steps && layer.size > 0; i++) {
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        change_step(driver, &layer, &how, random >> 16);
    }
    done = driver->flush(layer.state, NULL) == 0 &&
           (!driver->seal || driver->seal(layer.state, NULL) == 0);
    exercise_close(driver, &layer);
    if (sound && done)
        change_is_sound(driver, how.args, true);
}

/* Repairs.  True: it left nothing wrong. */
static inline bool change_repair(const struct pl_driver *driver, struct pl_open_args args)
{
    struct pl_check_result result = { 0 };
    struct pl_layer layer;
    bool mended;

    args.writable = args.check_only = true;
    if (exercise_open(driver, args, &layer) < 0)
        return false;
    mended = driver->check(layer.state, PL_REPAIR_ALL, NULL, &result, NULL) == 0 &&
             driver->flush(layer.state, NULL) == 0 && !result.corruptions && !result.check_errors &&
             (!driver->seal || driver->seal(layer.state, NULL) == 0);
    exercise_close(driver, &layer);
    return mended;
}

/* The end of an input as a number. */
static inline uint64_t change_seed(const uint8_t *data, size_t size)
{
    uint64_t random = 0;

    if (size)
        memcpy(&random, data + size - PL_MIN(size, 8), PL_MIN(size, 8));
    return random;
}

#endif
