/* A crash at any instant of random work on sparse VMDK extents: see tests/support/crash.h.  The
 * copies of their tables may differ. */
#include "core/base/checked.h"
#include "tests/support/crash.h"
#include "tests/support/extent_driver.h"

static const struct image_shape shapes[] = {
    { "hosted", "grain_size=4k", 192 * PL_KIB, 120, .parent = false },
    { "hosted, a cache of 16 sectors", "grain_size=4k,descriptor=# Disk", 6144 * PL_KIB, 60,
      .cache_bytes = 1, .sampled = true },
    { "hosted over a parent", "grain_size=4k", 190 * PL_KIB + 512, 120, .parent = true },
    { "hosted with zeroed grains over a parent", "grain_size=4k,zeroed_grain=on", 192 * PL_KIB, 120,
      .parent = true },
    { "hosted, growing", "grain_size=8k", 5120 * PL_KIB, 60, .resize = true, .sampled = true },
    { "COWD", "grain_size=512,cowd=on", 96 * PL_KIB, 120, .parent = false },
    { "COWD over a parent", "grain_size=4k,cowd=on", 255 * PL_KIB, 120, .parent = true },
    { "COWD, growing", "grain_size=512,cowd=on", 5120 * PL_KIB, 60, .resize = true,
      .sampled = true },
};

static void check_and_repair(struct crash_run *run)
{
    struct pl_check_result result;
    struct pl_err e;

    crash_done(run, rig_check(&run->base.rig, PL_REPAIR_ALL, &result, &e), &e);
}

static const struct crash_format format = {
    .image = { .group = "crash_vmdk_sparse",
               .driver = &extent_driver,
               .resize_how = PL_PREALLOC_FULL,
               .grows_only = true,
               .compacts = true,
               .forgets = true },
    .runs = 2,
    .resize_syncs = true,
    .repairs_first = true,
    .repair = PL_REPAIR_LEAKS,
    .own_step = check_and_repair,
};

int main(void)
{
    return crash_tests(&format, shapes, PL_COUNT(shapes));
}
