/* A crash at any instant of random work on VHD images: see tests/support/crash.h.  Each file must
 * end with a good footer besides. */
#include "core/base/checked.h"
#include "tests/support/crash.h"

static const struct image_shape shapes[] = {
    { "blocks of 4 KiB", "block_size=4k", 192 * PL_KIB, 120, .parent = false },
    { "blocks of 64 KiB", "block_size=64k", 512 * PL_KIB, 100, .parent = false },
    { "over a parent", "block_size=8k", 192 * PL_KIB, 120, .parent = true },
    { "over a parent, a cache of 16 slices", "block_size=4k", 192 * PL_KIB, 120, .parent = true,
      .cache_bytes = 1 },
    { "growing and shrinking", "block_size=4k", 768 * PL_KIB, 80, .resize = true },
    { "growing and shrinking over a parent", "block_size=4k", 768 * PL_KIB, 80, .parent = true,
      .resize = true },
    { "compacted", "block_size=4k", 192 * PL_KIB, 120, .compact = true },
    { "compacted over a parent", "block_size=4k", 192 * PL_KIB, 120, .parent = true,
      .compact = true, .resize = true },
    { "changing parents", "block_size=4k", 192 * PL_KIB, 100, .parent = true },
    { "changing parents, compacted, growing and shrinking", "block_size=8k", 256 * PL_KIB, 100,
      .compact = true, .resize = true, .parent = true },
    { "fixed, growing and shrinking", "subformat=fixed", 128 * PL_KIB, 120, .resize = true },
};

static const struct crash_format format = {
    .image = { .group = "crash_vhd",
               .driver = &pl_vhd,
               .parent_format = "vhd",
               .parent_identity = "uuid:00112233-4455-6677-8899-aabbccddeeff time:5",
               .other_identity = "uuid:10112233-4455-6677-8899-aabbccddeeff time:6",
               .forgets = true },
    .runs = 2,
    .turns = 2,     /* half of the kinds of files at an instant */
    .silent = true, /* one would say that the footer is missing */
    .compact_syncs = true,
    .repair = PL_REPAIR_ALL,
    .corruptions = 1, /* the two footers differ for an instant while the size changes */
};

int main(void)
{
    return crash_tests(&format, shapes, PL_COUNT(shapes));
}
