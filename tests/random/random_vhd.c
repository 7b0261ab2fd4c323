/* Random changes to VHD images of many shapes: see tests/support/random.h.  qemu-img looks
 * neither at parents nor at bitmaps. */
#include <string.h>

#include "core/base/checked.h"
#include "tests/support/random.h"

#define SECTOR UINT64_C(512)

enum { SPARSE_BITMAPS = 1 }; /* a variant */

static const struct image_shape shapes[] = {
    { "the defaults", "", 24 * PL_MIB, 800, .parent = false },
    { "the defaults over a parent", "", 24 * PL_MIB, 800, .parent = true, .unreadable = true },
    { "blocks of 4 KiB", "block_size=4k", 3 * PL_MIB, 2000, .parent = false },
    { "blocks of 4 KiB over a parent, a cache of 16 slices", "block_size=4k", 3 * PL_MIB, 2000,
      .parent = true, .unreadable = true, .cache_bytes = 1 },
    { "blocks of 64 KiB, their bitmaps sparse", "block_size=64k", 3 * PL_MIB, 1500,
      .variant = SPARSE_BITMAPS, .unreadable = true },
    { "blocks of 8 MiB over a parent, a cache of 16 slices", "block_size=8M", 20 * PL_MIB, 500,
      .parent = true, .unreadable = true, .cache_bytes = 1 },
    { "changing parents", "block_size=4k", 3 * PL_MIB, 1500, .parent = true, .unreadable = true },
    { "changing parents, large blocks, a cache of 16 slices", "block_size=8M", 20 * PL_MIB, 400,
      .unreadable = true, .cache_bytes = 1, .parent = true },
    { "changing parents, bitmaps sparse", "block_size=64k", 3 * PL_MIB, 1000,
      .variant = SPARSE_BITMAPS, .unreadable = true, .parent = true },
    { "fixed", "subformat=fixed", 3 * PL_MIB, 1500, .parent = false },
};

/* Clears bits of sectors that hold something, as VirtualBox leaves them: their content is not to be
 * looked at. */
static void make_sparse(struct random_run *r)
{
    struct pl_extent x;
    struct pl_err e;

    for (uint64_t at = 0; at < r->base.rig.layer.size; at += SECTOR) {
        const uint64_t inside = at % r->base.rig.layer.cluster_size, sector = inside / SECTOR;
        uint8_t byte;

        must(pl_vhd.map(r->base.rig.layer.state, at, SECTOR, &x, &e), &e);
        if (x.state != PL_DATA || sector % 3)
            continue;
        must(pl_storage_read(x.st, x.off - inside - SECTOR + sector / 8, &byte, 1, &e), &e);
        byte &= (uint8_t) ~(0x80 >> sector % 8);
        must(pl_storage_write(x.st, x.off - inside - SECTOR + sector / 8, &byte, 1, &e), &e);
        memset(r->model + at, 0, SECTOR);
        if (r->base.rig.parent)
            memcpy(r->model + at, r->base.rig.parent + at, SECTOR);
    }
}

static void write_and_make_sparse(struct random_run *r)
{
    struct pl_err e;

    if (r->base.shape->variant != SPARSE_BITMAPS)
        return;
    must(rig_open(&r->base.rig, &e), &e);
    for (unsigned i = 0; i < 20; i++)
        random_write(r);
    must(rig_flush(&r->base.rig, &e), &e);
    make_sparse(r);
    rig_close(&r->base.rig);
}

static const struct random_format format = {
    .image = { .group = "random_vhd",
               .driver = &pl_vhd,
               .parent_format = "vhd",
               .parent_identity = "uuid:00112233-4455-6677-8899-aabbccddeeff time:5",
               .other_identity = "uuid:10112233-4455-6677-8899-aabbccddeeff time:6",
               .forgets = true,
               .compacts = true },
    .file_limit = 192 * PL_MIB,
    .resizes = true,
    .readable_orphans = true,
    .qemu = "vpc",
    .prepare = write_and_make_sparse,
};

int main(void)
{
    return random_tests(&format, shapes, PL_COUNT(shapes));
}
