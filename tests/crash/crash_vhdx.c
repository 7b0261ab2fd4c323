/* A crash at any instant of random work on VHDX images: see tests/support/crash.h.  Each file is
 * opened both for reading (its log is replayed in memory) and for writing (in the file).  It is
 * large, so there is one file at every second instant, and one change in seventeen fails. */
#include "core/base/checked.h"
#include "tests/support/crash.h"

static const struct image_shape shapes[] = {
    { "dynamic", "block_size=1M", 5 * PL_MIB, 150, .sampled = true },
    { "dynamic, sectors of 4096 bytes", "block_size=1M,logical_sector_size=4096", 4 * PL_MIB, 100,
      .sampled = true },
    { "fixed", "block_size=1M,subformat=fixed", 3 * PL_MIB, 60, .sampled = true },
    { "differencing", "block_size=1M", 5 * PL_MIB, 150, .parent = true, .sampled = true },
    { "differencing, blocks of 2 MiB", "", 6 * PL_MIB, 120, .parent = true, .sampled = true },
    { "growing and shrinking", "block_size=1M", 6 * PL_MIB, 120, .resize = true, .sampled = true },
    { "compacting", "block_size=1M", 5 * PL_MIB, 120, .compact = true, .sampled = true },
    { "compacting over a parent", "block_size=1M", 5 * PL_MIB, 120, .parent = true, .compact = true,
      .sampled = true },
    { "changing parents", "block_size=1M", 5 * PL_MIB, 120, .parent = true, .sampled = true },
    { "changing parents, compacting, growing and shrinking", "block_size=1M", 5 * PL_MIB, 100,
      .compact = true, .resize = true, .sampled = true, .parent = true },
};

static void reopen(struct crash_run *run)
{
    struct pl_err e;

    if (run->may_fail) {
        crash_flush(run);
        return;
    }
    must(rig_finish(&run->base.rig, &e), &e);
    crash_flushed(run);
    must(rig_open(&run->base.rig, &e), &e);
}

static const struct crash_format format = {
    .image = { .group = "crash_vhdx",
               .driver = &pl_vhdx,
               .parent_identity = "uuid:83ed0ec3-24c8-49a6-a959-5e4bf1288bfb",
               .other_identity = "uuid:93ed0ec3-24c8-49a6-a959-5e4bf1288bfb",
               .forgets = true },
    .runs = 1,
    .turns = 2,
    .file_limit = 128 * PL_MIB,
    .short_parent = true,
    .read_only_too = true,
    .resize_syncs = true,
    .compact_syncs = true,
    .repair = PL_REPAIR_LEAKS,
    .fail_every = 17,
    .own_step = reopen,
};

int main(void)
{
    return crash_tests(&format, shapes, PL_COUNT(shapes));
}
