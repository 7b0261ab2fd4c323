/* Random changes to VDI images of many shapes: see tests/support/random.h.  qemu-img reads
 * blocks of 1 MiB and no parents. */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "tests/support/random.h"

enum { BYTES_IN_FRONT = 1, OLD_HEADER }; /* variants */

static const struct image_shape shapes[] = {
    { "blocks of 512 bytes", "block_size=512", 256 * PL_KIB, 2500, .unreadable = true,
      .parent = false },
    { "blocks of 4 KiB, a cache of 4 slices", "block_size=4k", 3 * PL_MIB, 2500, .unreadable = true,
      .cache_bytes = 1 },
    { "blocks of 4 KiB over a parent", "block_size=4k", 3 * PL_MIB, 2500, .unreadable = true,
      .parent = true },
    { "blocks of 64 KiB over a parent, a cache of 4 slices", "block_size=64k", 6 * PL_MIB, 1500,
      .parent = true, .unreadable = true, .cache_bytes = 1 },
    { "static, blocks of 4 KiB", "block_size=4k,static=on", 2 * PL_MIB, 2000, .unreadable = true,
      .parent = false },
    { "the defaults", "", 12 * PL_MIB, 600, .parent = false },
    { "static", "static=on", 8 * PL_MIB, 400, .parent = false },
    { "bytes in front of each block", "block_size=4k", 2 * PL_MIB, 2000, .unreadable = true,
      .variant = BYTES_IN_FRONT },
    { "the old header", "block_size=4k", 2 * PL_MIB, 2000, .unreadable = true,
      .variant = OLD_HEADER, .no_growth = true },
};

/* Makes the new, empty image one with bytes in front of its blocks. */
static void add_extra(struct random_run *r)
{
    uint8_t raw[4];
    struct pl_err e;

    store_le32(raw, 512);
    must(pl_storage_write(r->base.rig.st, 380, raw, 4, &e), &e);
}

/* An empty image with the header of version 0.2. */
static void make_old(struct random_run *r)
{
    const uint32_t blocks = (uint32_t)(r->base.shape->size / 4096);
    uint8_t *raw = malloc(420 + 4 * blocks);
    struct pl_err e;

    memset(raw, 0, 420);
    memset(raw + 420, 0xff, 4 * blocks);
    store_le32(raw + 64, 0xbeda107f);
    store_le32(raw + 68, 2);
    store_le32(raw + 72, 1);
    store_le64(raw + 352, r->base.shape->size);
    store_le32(raw + 360, 4096);
    store_le32(raw + 364, blocks);
    memset(raw + 372, 0x5a, 32);
    must(pl_storage_resize(r->base.rig.st, 0, &e), &e);
    must(pl_storage_write(r->base.rig.st, 0, raw, 420 + 4 * blocks, &e), &e);
    free(raw);
}

static void change_header(struct random_run *r)
{
    if (r->base.shape->variant == BYTES_IN_FRONT)
        add_extra(r);
    if (r->base.shape->variant == OLD_HEADER)
        make_old(r);
}

static const struct random_format format = {
    .image = { .group = "random_vdi",
               .driver = &pl_vdi,
               .parent_identity = "uuid:00112233-4455-6677-8899-aabbccddeeff",
               .resize_how = PL_PREALLOC_METADATA,
               .compacts = true,
               .discards_all = true,
               .forgets = true,
               .other_identity = "uuid:8c3b0a52-6d4e-4f10-9a77-0d1e2f3a4b5c" },
    .short_parent = true,
    .resizes = true,
    .qemu = "vdi",
    .qemu_check = true,
    .prepare = change_header,
};

int main(void)
{
    return random_tests(&format, shapes, PL_COUNT(shapes));
}
