/* A crash at any instant of random work on qcow2 images: see tests/support/crash.h.  There are many
 * shapes, so each has one run, half of the kinds of files at an instant, and every third change
 * fails; another CRASH_SEED chooses others. */
#include <stdio.h>

#include "core/base/checked.h"
#include "tests/support/crash.h"

static const struct image_shape shapes[] = {
    { "clusters of 512 bytes", "cluster_size=512", 96 * PL_KIB, 150, .packed = true },
    { "clusters of 512 bytes, counts of 1 bit, a cache of 16 slices",
      "cluster_size=512,refcount_bits=1", 96 * PL_KIB, 150, .packed = true, .cache_bytes = 1 },
    { "the refcount table grows", "cluster_size=512,refcount_bits=64", 5120 * PL_KIB, 24,
      .cache_bytes = 1, .dense = 1500, .sampled = true },
    { "version 2", "compat=0.10,cluster_size=1k", 192 * PL_KIB, 150, .packed = true },
    { "version 2 over a parent", "compat=0.10,cluster_size=1k", 192 * PL_KIB, 150, .parent = true,
      .packed = true },
    { "over a parent, counts of 4 bits", "cluster_size=1k,refcount_bits=4", 192 * PL_KIB, 150,
      .parent = true, .packed = true, .cache_bytes = 1 },
    { "clusters of 64 KiB", "", 1024 * PL_KIB, 80, .packed = true },
    { "extended L2 entries", "cluster_size=16k,extended_l2=on", 512 * PL_KIB, 120, .packed = true },
    { "extended L2 entries over a parent", "cluster_size=16k,extended_l2=on", 512 * PL_KIB, 120,
      .parent = true, .packed = true },
    { "growing and shrinking", "cluster_size=512", 192 * PL_KIB, 150, .packed = true,
      .resize = true },
    { "growing and shrinking with extended L2 entries", "cluster_size=16k,extended_l2=on",
      512 * PL_KIB, 120, .packed = true, .resize = true },
    { "bitmaps", "cluster_size=1k", 192 * PL_KIB, 120, .packed = true, .bitmaps = true },
    { "growing and shrinking over a longer parent", "cluster_size=1k", 192 * PL_KIB, 150,
      .parent = true, .packed = true, .resize = true },
    { "growing and shrinking with bitmaps", "cluster_size=1k", 192 * PL_KIB, 120, .packed = true,
      .bitmaps = true, .resize = true },
    { "tables and clusters shared with a snapshot", "cluster_size=1k", 256 * PL_KIB, 120,
      .packed = true, .snapshots = true },
    { "extended L2 entries, shared with a snapshot", "cluster_size=16k,extended_l2=on",
      512 * PL_KIB, 120, .packed = true, .snapshots = true },
    { "an external data file", "cluster_size=1k,data_file=data", 192 * PL_KIB, 150,
      .data_file = true },
    { "an external data file over a parent, extended L2 entries",
      "cluster_size=16k,extended_l2=on,data_file=data", 512 * PL_KIB, 120, .parent = true,
      .data_file = true },
    { "growing and shrinking a raw external data file",
      "cluster_size=1k,data_file=data,data_file_raw=on", 192 * PL_KIB, 150, .resize = true,
      .data_file = true },
};

/* Half of the disk, partly packed, and a snapshot of that. */
static void take_snapshot(struct crash_run *run)
{
    const uint64_t half = run->base.shape->size / 4;
    uint8_t *buf = run->base.buf;
    struct rig *rig = &run->base.rig;
    struct pl_err e;

    if (!run->base.shape->snapshots)
        return;
    for (uint64_t i = 0; i < 2 * half / HISTORY_SECTOR; i++)
        history_fill(buf + i * HISTORY_SECTOR, i, 3);
    must(rig_open(rig, &e), &e);
    must(rig_write(rig, 0, buf, half, &e), &e);
    must(rig_write_packed(rig, half, buf + half, half, &e), &e);
    history_set(run->history, 0, 2 * half / HISTORY_SECTOR, 3, 0);
    must(rig_flush(rig, &e), &e);
    rig_close(rig);
    must(rig_take_snapshot(&rig->st, "one", 64 * PL_MIB, &e), &e);
}

static void store_bitmap(struct crash_run *run)
{
    struct image_run *r = &run->base;
    struct pl_bitmap bitmap = { .granularity = 512, .enabled = run_below(r, 2) };
    const uint64_t len = pl_div_up(r->rig.layer.size / 512, 8);
    struct pl_err e;

    if (!r->shape->bitmaps) {
        crash_write(run);
        return;
    }
    snprintf(bitmap.name, sizeof bitmap.name, "bitmap%u", (unsigned)run_below(r, 3));
    for (uint64_t i = 0; i < len; i++)
        r->buf[i] = (uint8_t)(run_below(r, 3) ? 0 : run_below(r, 256));
    crash_done(run, pl_qcow2.bitmap_store(r->rig.layer.state, &bitmap, r->buf, len, &e), &e);
}

static const struct crash_format format = {
    .image = { .group = "crash_qcow2",
               .driver = &pl_qcow2,
               .parent_format = "raw",
               .resize_how = PL_PREALLOC_METADATA },
    .runs = 1,
    .turns = 2,
    .fail_every = 3,
    .resize_syncs = true,
    .repair = PL_REPAIR_LEAKS,
    .prepare = take_snapshot,
    .own_step = store_bitmap,
};

int main(void)
{
    return crash_tests(&format, shapes, PL_COUNT(shapes));
}
