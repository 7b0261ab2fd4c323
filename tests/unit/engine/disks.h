/* disks.h - what the tests of the engines share: images as files, with known content. */
#ifndef TESTS_UNIT_ENGINE_DISKS_H
#define TESTS_UNIT_ENGINE_DISKS_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "include/platter.h"
#include "tests/support/env.h"
#include "tests/support/images.h"

/* Bytes that depend on their address and on `seed`; a seed of 0 gives zeros. */
static inline void fill_pattern(uint8_t *buf, uint64_t at, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        const uint64_t word = ((at + i) / 8 + seed) * UINT64_C(0x9e3779b97f4a7c15);

        buf[i] = seed ? (uint8_t)(word >> (8 * ((at + i) % 8))) : 0;
    }
}

/* Writes bytes into a file, which is made or replaced. */
static inline void write_file(const char *path, const void *bytes, size_t len)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
}

/* Content of `len` bytes: data, zeros and repeated text take turns in runs of odd lengths. */
static inline uint8_t *mixed_content(size_t len, unsigned seed)
{
    static const size_t runs[] = { 70000, 4096, 300, 512, 1 << 20, 65536, 100001, 1 << 17 };
    uint8_t *bytes = calloc(1, len + 1);

    assert_non_null(bytes);
    for (size_t at = 0, i = seed; at < len; i++) {
        const size_t run = PL_MIN(runs[i % PL_COUNT(runs)], len - at);

        if (i % 3 == 0)
            fill_pattern(bytes + at, at, run, seed + 1);
        else if (i % 3 == 1)
            memset(bytes + at, 'a' + (int)(i % 26), run);
        at += run;
    }
    return bytes;
}

static inline struct pl_image *open_disk(const char *path, const char *format, bool writable)
{
    const struct pl_open_options options = { .format = format, .writable = writable };
    struct pl_image *img;

    OK(pl_open(path, &options, &img, &e));
    return img;
}

static inline void create_disk(const char *path, const char *format, uint64_t size,
                               const char *options, const char *parent)
{
    struct pl_options *list = options_of(options);
    const struct pl_create_options create = {
        .format = format, .size = size, .size_given = true, .options = list, .parent = parent
    };

    OK(pl_create(path, &create, &e));
    pl_options_free(list);
}

/* The disk begins with these bytes; what follows is zeros. */
static inline void shows(const char *path, const char *format, const uint8_t *bytes, size_t len)
{
    struct pl_image *img = open_disk(path, format, false);
    const size_t size = pl_size(img);
    uint8_t *found = malloc(size + 1);

    assert_true(size >= len);
    OK(pl_read(img, 0, found, size, &e));
    for (size_t i = 0; i < size; i++)
        if (found[i] != (i < len ? bytes[i] : 0))
            fail_msg("%s: byte %zu of %zu differs", path, i, size);
    free(found);
    OK(pl_close(img, &e));
}

#endif
