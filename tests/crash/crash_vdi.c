/* A crash at any instant of random work on VDI images: see tests/support/crash.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "tests/support/crash.h"
#include "tests/support/flaky.h"

#define MODIFICATION_AT 408 /* uuidModify in the header */

static const struct image_shape shapes[] = {
    { "blocks of 512 bytes, a cache of 4 slices", "block_size=512", 384 * PL_KIB, 150,
      .cache_bytes = 1 },
    { "blocks of 4 KiB", "block_size=4k", 256 * PL_KIB, 150, .parent = false },
    { "blocks of 4 KiB over a parent", "block_size=4k", 256 * PL_KIB, 150, .parent = true },
    { "static", "block_size=4k,static=on", 192 * PL_KIB, 120, .parent = false },
    { "growing and shrinking blocks of 512 bytes", "block_size=512", 192 * PL_KIB, 100,
      .resize = true, .cache_bytes = 1 },
    { "growing and shrinking over a parent", "block_size=2k", 256 * PL_KIB, 120, .resize = true,
      .parent = true },
    { "growing and shrinking a static image", "block_size=1k,static=on", 128 * PL_KIB, 80,
      .resize = true },
};

/* As when the image is closed: gaps may be closed after the flush. */
static void flush_and_seal(struct crash_run *run)
{
    struct pl_layer *layer = &run->base.rig.layer;
    struct pl_err e;

    crash_flush(run);
    if (!run->error_count)
        crash_done(run, pl_vdi.seal(layer->state, &e), &e);
}

static const struct crash_format format = {
    .image = { .group = "crash_vdi",
               .driver = &pl_vdi,
               .parent_identity = "uuid:00112233-4455-6677-8899-aabbccddeeff",
               .resize_how = PL_PREALLOC_METADATA,
               .compacts = true,
               .discards_all = true,
               .forgets = true,
               .other_identity = "uuid:8c3b0a52-6d4e-4f10-9a77-0d1e2f3a4b5c" },
    .runs = 2,
    .short_parent = true,
    .resize_syncs = true,
    .compact_syncs = true,
    .repair = PL_REPAIR_LEAKS,
    .own_step = flush_and_seal,
};

/* Whatever reached the disk after the first change, the new UUID was there before it. */
static void modification_comes_first(void **state)
{
    const struct image_shape shape = { "", "block_size=4k", 64 * PL_KIB, 0, .parent = false };
    struct crash_run r = { 0 };
    struct pl_storage *st;
    uint8_t before[16];
    struct pl_err e;

    (void)state;
    crash_begin(&r, &format, &shape, 0);
    st = r.base.rig.st;
    must(pl_storage_read(st, MODIFICATION_AT, before, 16, &e), &e);
    crash_write(&r);
    crash_write(&r);
    crash_flush(&r);
    for (uint64_t op = 0; op <= pl_flaky_operation_count(st); op++)
        for (uint64_t seed = 0; seed < 40; seed++) {
            PL_FREE uint8_t *bytes = NULL, *old = NULL;
            size_t len, old_len;

            pl_flaky_cut(st, op, seed, &bytes, &len);
            pl_flaky_cut(st, 0, 0, &old, &old_len);
            if (memcmp(bytes + MODIFICATION_AT, before, 16) == 0)
                assert_true(len == old_len && memcmp(bytes, old, len) == 0);
        }
    rig_close(&r.base.rig);
    crash_end(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(modification_comes_first) };

    return crash_tests(&format, shapes, PL_COUNT(shapes)) +
           cmocka_run_group_tests(tests, NULL, NULL);
}
