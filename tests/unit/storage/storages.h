/* storages.h - what the tests of storages share: checked calls, patterns, files in the test's
 * folder. cmocka.h comes first. */
#ifndef TESTS_UNIT_STORAGE_STORAGES_H
#define TESTS_UNIT_STORAGE_STORAGES_H

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/storage/file.h"
#include "core/storage/storage.h"
#include "tests/support/calls.h"
#include "tests/support/env.h"

/* A byte that differs from its neighbours and with the seed, and is never 0. */
static inline uint8_t pattern_at(uint64_t off, unsigned seed)
{
    return (uint8_t)((off * 7 + off / 251 + seed * 13) % 255 + 1);
}

static inline void pattern(uint8_t *buf, uint64_t off, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++)
        buf[i] = pattern_at(off + i, seed);
}

/* Whether [off, off + len) of the storage reads as the pattern; seed UINT_MAX: as zeros. */
static inline bool reads_as(struct pl_storage *st, uint64_t off, size_t len, unsigned seed)
{
    uint8_t *buf = malloc(len + 1);
    bool same = true;

    OK(pl_storage_read(st, off, buf, len, &e));
    for (size_t i = 0; i < len; i++)
        same = same && buf[i] == (seed == UINT32_MAX ? 0 : pattern_at(off + i, seed));
    free(buf);
    return same;
}

#define ZEROS UINT32_MAX

static inline void write_pattern(struct pl_storage *st, uint64_t off, size_t len, unsigned seed)
{
    uint8_t *buf = malloc(len + 1);

    pattern(buf, off, len, seed);
    OK(pl_storage_write(st, off, buf, len, &e));
    free(buf);
}

/* A new, empty, writable file in the test's folder. */
static inline struct pl_storage *new_file(const char *name)
{
    char *path = test_tmp(name);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    struct pl_storage *st = NULL;

    assert_true(fd >= 0);
    OK(pl_file_storage(fd, path, true, &st, &e));
    free(path);
    return st;
}

#endif
