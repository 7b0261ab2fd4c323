/* Random changes to VMDK disks over a parent, whose descriptor is in the same file: see
 * tests/support/random.h.  qemu-img and libvmdk follow the name of the parent that there is in the
 * end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "tests/support/env.h"
#include "tests/support/random.h"

#define CHILD "subformat=monolithicSparse,grain_size="

static const struct image_shape shapes[] = {
    { "grains of 8 KiB", CHILD "8k", 700 * PL_KIB, 500, .parent = true },
    { "grains of 8 KiB, a cache of 16 sectors", CHILD "8k", 9000 * PL_KIB, 500, .parent = true,
      .cache_bytes = 1 },
    { "zeroed grains", CHILD "8k,zeroed_grain=on", 5000 * PL_KIB, 500, .parent = true },
    { "growing", CHILD "8k,zeroed_grain=on", 5000 * PL_KIB, 500, .parent = true, .resize = true },
};

/* A flat disk with that CID. */
static void write_parent(const char *name, const char *cid, const uint8_t *bytes, uint64_t len)
{
    char text[300], flat[40];

    snprintf(flat, sizeof flat, "%s-flat", name);
    snprintf(text, sizeof text,
             "# Disk DescriptorFile\nversion=1\nCID=%s\nparentCID=ffffffff\n"
             "createType=\"monolithicFlat\"\nRW %llu FLAT \"%s\" 0\n",
             cid, (unsigned long long)len / 512, flat);
    random_write_file(name, (const uint8_t *)text, strlen(text));
    random_write_file(flat, bytes, len);
}

static void write_parents(struct random_run *r)
{
    write_parent("parent", "0a1b2c3d", r->base.parent, r->base.parent_len);
    write_parent("other", "077161c8", r->base.other, r->base.parent_len);
}

static void libvmdk_agrees(struct random_run *r)
{
    PL_FREE char *folder = test_tmp(".");

    if (!has_program("vmdkinfo"))
        print_message("# skip: no vmdkinfo to look at the result\n");
    else if (!strstr(r->base.shape->options, "zeroed")) /* it does not know that version */
        assert_int_equal(run_quietly("cd '%s' && vmdkinfo image", folder), 0);
}

static const struct random_format format = {
    .image = { .group = "random_vmdk_child",
               .driver = &pl_vmdk,
               .parent_format = "vmdk",
               .parent_identity = "cid:0a1b2c3d uuid:1afe8b08-e023-4ca6-94d2-f2d22f36dd63",
               .resize_how = PL_PREALLOC_FULL,
               .grows_only = true,
               .compacts = true,
               .forgets = true,
               .other_identity = "cid:077161c8" },
    .runs = 3,
    .short_parent = true,
    .qemu = "vmdk",
    .qemu_check = true,
    .write_parents = write_parents,
    .finish = libvmdk_agrees,
};

int main(void)
{
    return random_tests(&format, shapes, PL_COUNT(shapes));
}
