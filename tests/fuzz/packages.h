/* packages.h - what the fuzz targets of packages share: every call that reads, on any bytes. */
#ifndef TESTS_FUZZ_PACKAGES_H
#define TESTS_FUZZ_PACKAGES_H

#include <stdlib.h>

#include "core/base/scope.h"
#include "core/package.h"
#include "core/storage/memory.h"

/* A file beside the package: the input itself, whatever it is called, but for names with an "x". */
static inline int exercise_open_file(const struct pl_package_open_args *args, const char *name,
                                     struct pl_storage **out, struct pl_err *e)
{
    PL_FREE uint8_t *bytes = NULL;
    const uint64_t size = pl_storage_size(args->file);

    for (const char *at = name; *at; at++)
        if (*at == 'x')
            return pl_fail(e, PL_E_NOT_FOUND, "no such file");
    bytes = malloc(size + 1);
    if (!bytes || pl_storage_read(args->file, 0, bytes, size, e) < 0)
        return -1;
    return pl_memory_storage(bytes, size, size, out, e);
}

static inline void exercise_disk(const struct pl_package_driver *driver, void *state, size_t disk)
{
    struct pl_storage *st;
    uint8_t buf[512];

    if (driver->storage(state, disk, &st, NULL) < 0)
        return;
    if (pl_storage_read_padded(st, 0, buf, sizeof buf, NULL) < 0)
        abort();
    if (pl_storage_size(st) > 0 && pl_storage_read(st, pl_storage_size(st) - 1, buf, 1, NULL) < 0)
        abort();
    pl_storage_close(st, NULL);
}

static inline void exercise_package(const struct pl_package_driver *driver, const uint8_t *data,
                                    size_t size)
{
    struct pl_package_open_args args = { .open_file = exercise_open_file };
    const struct pl_package_disk *disks;
    struct pl_fact *facts;
    void *state;
    size_t count;

    if (pl_memory_storage(data, size, size, &args.file, NULL) < 0)
        return;
    driver->probe(data, size);
    if (driver->open(&args, &state, NULL) == 0) {
        count = driver->disks(state, &disks);
        for (size_t i = 0; i < count && i < 4; i++) {
            exercise_disk(driver, state, i);
            if (driver->verify(state, i, NULL, NULL) > 1)
                abort();
        }
        if (driver->verify(state, PL_PACKAGE_ALL, NULL, NULL) > 1)
            abort();
        facts = pl_facts_new();
        if (driver->facts(state, facts, NULL) < 0)
            abort();
        pl_facts_free(facts);
        driver->close(state);
    }
    pl_storage_close(args.file, NULL);
}

#endif
