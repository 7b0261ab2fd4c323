/* exercise.h - what a fuzz target does with a driver: everything that reading an image calls. */
#ifndef TESTS_FUZZ_EXERCISE_H
#define TESTS_FUZZ_EXERCISE_H

#include <stdlib.h>

#include "core/base/checked.h"
#include "core/base/facts.h"
#include "core/codec/codec.h"
#include "core/driver.h"
#include "core/storage/memory.h"
#include "tests/support/rig.h"

/* Bounds on one input: the rest of a huge disk tells nothing new. */
#define EXERCISE_EXTENTS 400
#define EXERCISE_UNITS 16
#define EXERCISE_LIMIT (4 * PL_MIB)

/* A further file that the image names: empty memory. */
static inline int exercise_open_file(const struct pl_open_args *args, const char *name,
                                     struct pl_storage **out, struct pl_err *e)
{
    (void)args;
    (void)name;
    return pl_memory_storage(NULL, 0, EXERCISE_LIMIT, out, e);
}

/* Reads and unpacks one compressed unit. */
static inline void exercise_unit(const struct pl_extent *x)
{
    struct pl_codec_state *codec = NULL;
    uint8_t *packed = malloc(x->packed_len + 1);
    uint8_t *unit = malloc(x->unit_len + 1);

    if (packed && unit && pl_codec_open(x->codec, 0, &codec, NULL) == 0 &&
        pl_storage_read_padded(x->st, x->off, packed, x->packed_len, NULL) == 0 &&
        pl_unpack(codec, packed, x->packed_len, unit, x->unit_len, NULL) == 0)
        (void)0;
    pl_codec_close(codec);
    free(packed);
    free(unit);
}

/* Checks what map promises, and reads a little of it. */
static inline void exercise_extent(const struct pl_extent *x, uint64_t at, uint64_t len,
                                   unsigned *units)
{
    uint8_t byte;

    if (x->len == 0 || x->len > len)
        abort();
    if (x->state == PL_PACKED &&
        (at < x->unit_at || at + x->len > x->unit_at + x->unit_len || x->packed_len == 0))
        abort();
    if (x->state == PL_PACKED && (*units)++ < EXERCISE_UNITS)
        exercise_unit(x);
    if (x->state == PL_DATA && pl_storage_read_padded(x->st, x->off, &byte, 1, NULL) < 0)
        return;
}

static inline void exercise_map(const struct pl_driver *driver, const struct pl_layer *layer)
{
    unsigned units = 0;
    uint64_t at = 0;

    for (unsigned i = 0; i < EXERCISE_EXTENTS && at < layer->size; i++) {
        const uint64_t len = layer->size - at;
        struct pl_extent x;

        if (driver->map(layer->state, at, len, &x, NULL) < 0) {
            at += PL_MIN(len, layer->granule);
            continue;
        }
        exercise_extent(&x, at, len, &units);
        at += x.len;
    }
}

static inline void exercise_facts(const struct pl_driver *driver, const struct pl_layer *layer)
{
    struct pl_fact *facts = pl_facts_new();
    struct pl_image_flags flags = { 0 };

    if (driver->info && facts && driver->info(layer->state, facts, NULL) < 0)
        flags.corrupt = true;
    if (driver->flags)
        driver->flags(layer->state, &flags);
    pl_facts_free(facts);
}

/* Opens the image in `file`; 0, or -1 as most inputs do. */
static inline int exercise_open(const struct pl_driver *driver, struct pl_open_args args,
                                struct pl_layer *layer)
{
    struct pl_err e;

    *layer = (struct pl_layer){ 0 };
    args.open_file = exercise_open_file;
    args.cache_bytes = 64 * 1024;
    if (driver->open(&args, layer, &e) == 0)
        return 0;
    rig_free_texts(layer);
    return -1;
}

static inline void exercise_close(const struct pl_driver *driver, struct pl_layer *layer)
{
    driver->close(layer->state);
    rig_free_texts(layer);
}

#endif
