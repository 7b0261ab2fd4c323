/* Random changes to sparse VMDK extents: see tests/support/random.h. */
#include "core/base/checked.h"
#include "tests/support/extent_driver.h"
#include "tests/support/random.h"

static const struct image_shape shapes[] = {
    { "hosted", "grain_size=4k", 6000 * PL_KIB, 500, .parent = false },
    { "hosted, a cache of 16 sectors", "grain_size=4k", 9000 * PL_KIB, 500, .cache_bytes = 1 },
    { "hosted over a parent", "grain_size=8k", 700 * PL_KIB + 512, 500, .parent = true },
    { "hosted with zeroed grains over a parent", "grain_size=4k,zeroed_grain=on", 5000 * PL_KIB,
      500, .parent = true },
    { "hosted, growing", "grain_size=4k", 9000 * PL_KIB, 500, .resize = true },
    { "COWD", "grain_size=512,cowd=on", 3000 * PL_KIB, 500, .cache_bytes = 1 },
    { "COWD over a parent", "grain_size=1k,cowd=on", 700 * PL_KIB, 500, .parent = true },
    { "COWD, growing", "grain_size=512,cowd=on", 9000 * PL_KIB, 500, .resize = true },
};

static const struct random_format format = {
    .image = { .group = "random_vmdk_sparse",
               .driver = &extent_driver,
               .resize_how = PL_PREALLOC_FULL,
               .grows_only = true,
               .compacts = true,
               .forgets = true,
               .other_identity = "" },
    .runs = 3,
    .short_parent = true,
};

int main(void)
{
    return random_tests(&format, shapes, PL_COUNT(shapes));
}
