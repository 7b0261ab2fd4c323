/* A crash at any instant of random work on VMDK disks over a parent, whose descriptor is in the
 * same file: see tests/support/crash.h.  The disk always names the old parent or the new one. */
#include "core/base/checked.h"
#include "tests/support/crash.h"

#define CHILD "subformat=monolithicSparse,grain_size="

static const struct image_shape shapes[] = {
    { "grains of 4 KiB", CHILD "4k", 192 * PL_KIB, 120, .parent = true },
    { "zeroed grains", CHILD "4k,zeroed_grain=on", 190 * PL_KIB + 512, 120, .parent = true },
    { "growing", CHILD "8k", 5120 * PL_KIB, 60, .parent = true, .resize = true, .sampled = true },
};

static const struct crash_format format = {
    .image = { .group = "crash_vmdk_child",
               .driver = &pl_vmdk,
               .parent_format = "vmdk",
               .parent_identity = "cid:0a1b2c3d uuid:1afe8b08-e023-4ca6-94d2-f2d22f36dd63",
               .resize_how = PL_PREALLOC_FULL,
               .grows_only = true,
               .compacts = true,
               .forgets = true,
               .other_identity = "cid:077161c8" },
    .runs = 2,
    .short_parent = true,
    .resize_syncs = true,
    .repairs_first = true,
    .repair = PL_REPAIR_LEAKS,
};

int main(void)
{
    return crash_tests(&format, shapes, PL_COUNT(shapes));
}
