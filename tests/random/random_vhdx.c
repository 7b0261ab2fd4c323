/* Random changes to VHDX images of many shapes: see tests/support/random.h. */
#include "core/base/checked.h"
#include "tests/support/random.h"

static const struct image_shape shapes[] = {
    { "blocks of 1 MiB", "block_size=1M", 12 * PL_MIB, 1200, .resize = true },
    { "blocks of 1 MiB, the smallest cache", "block_size=1M", 12 * PL_MIB, 800, .cache_bytes = 1 },
    { "blocks of 8 MiB", "block_size=8M", 21 * PL_MIB, 600, .resize = true },
    { "fixed", "block_size=1M,subformat=fixed", 8 * PL_MIB, 800, .resize = true },
    { "sectors of 4096 bytes", "block_size=1M,logical_sector_size=4096", 8 * PL_MIB, 800,
      .unreadable = true, .resize = true, .sector = 4096 },
    { "blocks that say that they are zeros", "block_size=1M,block_state_zero=on", 8 * PL_MIB, 600,
      .parent = false },
    { "over a parent", "block_size=1M", 10 * PL_MIB, 1200, .parent = true, .resize = true,
      .unreadable = true },
    { "over a parent, blocks of 4 MiB, the smallest cache", "block_size=4M", 18 * PL_MIB, 800,
      .parent = true, .unreadable = true, .cache_bytes = 1 },
    { "over a parent, sectors of 4096 bytes", "block_size=2M,logical_sector_size=4096", 10 * PL_MIB,
      800, .parent = true, .resize = true, .unreadable = true, .sector = 4096 },
    { "changing parents", "block_size=1M", 10 * PL_MIB, 1200, .parent = true, .resize = true,
      .unreadable = true },
    { "changing parents, blocks of 4 MiB, the smallest cache", "block_size=4M", 18 * PL_MIB, 800,
      .unreadable = true, .cache_bytes = 1, .parent = true },
    { "changing parents, sectors of 4096 bytes", "block_size=2M,logical_sector_size=4096",
      10 * PL_MIB, 800, .parent = true, .resize = true, .unreadable = true, .sector = 4096 },
};

static const struct random_format format = {
    .image = { .group = "random_vhdx",
               .driver = &pl_vhdx,
               .parent_identity = "uuid:83ed0ec3-24c8-49a6-a959-5e4bf1288bfb",
               .other_identity = "uuid:93ed0ec3-24c8-49a6-a959-5e4bf1288bfb",
               .forgets = true,
               .compacts = true },
    .short_parent = true,
    .readable_orphans = true,
    .qemu = "vhdx",
    .qemu_check = true,
};

int main(void)
{
    return random_tests(&format, shapes, PL_COUNT(shapes));
}
