/* images.h - what the tests of formats share: checked calls, images in memory, peers to compare
 * with. cmocka.h comes first. */
#ifndef TESTS_SUPPORT_IMAGES_H
#define TESTS_SUPPORT_IMAGES_H

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/options.h"
#include "core/driver.h"
#include "core/storage/memory.h"
#include "tests/support/calls.h"
#include "tests/support/rig.h"

#define MEMORY_LIMIT (64u << 20)

/* Empty memory that can grow. */
static inline struct pl_storage *memory(void)
{
    struct pl_storage *st;

    OK(pl_memory_storage(NULL, 0, MEMORY_LIMIT, &st, &e));
    return st;
}

/* The first `len` bytes of another one. */
static inline struct pl_storage *memory_copy(struct pl_storage *from, uint64_t len)
{
    uint8_t *bytes = malloc(len + 1);
    struct pl_storage *st;

    OK(pl_storage_read_padded(from, 0, bytes, len, &e));
    OK(pl_memory_storage(bytes, len, MEMORY_LIMIT, &st, &e));
    free(bytes);
    return st;
}

/* A list of options as after -o. */
static inline struct pl_options *options_of(const char *text)
{
    struct pl_options *options = pl_options_new();

    OK(pl_options_add(options, text, &e));
    return options;
}

/* A new image in memory.  `parent` may be null. */
static inline struct pl_storage *new_image(const struct pl_driver *driver, const char *text,
                                           uint64_t size, const char *parent)
{
    struct pl_options *options = options_of(text);
    const struct pl_create_args args = { .file = memory(),
                                         .size = size,
                                         .options = options,
                                         .parent.name = parent,
                                         .parent.format = parent ? "raw" : NULL };

    OK(driver->create(&args, &e));
    pl_options_free(options);
    return args.file;
}

/* Overwrites `width` bytes at `at` with a big-endian number. */
static inline void poke(struct pl_storage *st, uint64_t at, unsigned width, uint64_t value)
{
    uint8_t bytes[8];

    store_be64(bytes, value);
    OK(pl_storage_write(st, at, bytes + 8 - width, width, &e));
}

static inline void close_layer(const struct pl_driver *driver, struct pl_layer *layer)
{
    driver->close(layer->state);
    rig_free_texts(layer);
}

#endif
