/* Random changes to VMDK disks of flat extents, against a model of the disk in memory; in the end
 * qemu-img must find the same content.
 *
 * RANDOM_SEED in the environment chooses another run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "tests/support/env.h"
#include "tests/support/images.h"
#include "tests/support/vmdk_disk_rig.h"

#define STEPS 1500u
#define ROOM (2 * PL_MIB)
#define WRITE ((struct pl_open_args){ .writable = true })

static const struct shape {
    const char *name, *lines;
    struct {
        const char *name;
        uint64_t sectors;
    } file[3];
} shapes[] = {
    { "one file", "RW 2048 FLAT \"a\" 0\n", { { "a", 2048 } } },
    { "three files of odd sizes",
      "RW 63 FLAT \"a\" 0\nRW 1000 FLAT \"b\" 0\nRW 1 FLAT \"c\" 0\n",
      { { "a", 63 }, { "b", 1000 }, { "c", 1 } } },
    { "files in another order, with offsets",
      "RW 10 FLAT \"b\" 90\nRW 63 FLAT \"a\" 7\nRW 90 FLAT \"b\" 0\nRW 500 FLAT \"c\" 1\n",
      { { "a", 100 }, { "b", 100 }, { "c", 501 } } },
};

struct run {
    struct vmdk_rig rig;
    uint8_t *model, *buf;
    uint64_t size, random;
};

static uint64_t below(struct run *r, uint64_t n)
{
    r->random = r->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (r->random >> 33) % n;
}

static void compare(struct run *r)
{
    OK(vmdk_rig_read(&r->rig, 0, r->buf, r->size, &e));
    assert_memory_equal(r->buf, r->model, r->size);
}

static void reopen(struct run *r)
{
    OK(pl_vmdk.flush(r->rig.layer.state, &e));
    vmdk_rig_close(&r->rig);
    OK(vmdk_rig_open(&r->rig, WRITE, &e));
    assert_int_equal(r->rig.layer.size, r->size);
    compare(r);
}

static void grow(struct run *r)
{
    const uint64_t size = r->size + 512 * (1 + below(r, 40));

    if (size > ROOM)
        return;
    OK(pl_vmdk.resize(r->rig.layer.state, size, false, PL_PREALLOC_OFF, &e));
    r->rig.layer.size = r->size = size;
}

static void write_some(struct run *r, uint64_t at, uint64_t len)
{
    for (uint64_t i = 0; i < len; i++)
        r->model[at + i] = (uint8_t)below(r, 256);
    OK(vmdk_rig_write(&r->rig, at, r->model + at, len, &e));
}

static void step(struct run *r)
{
    const uint64_t at = 512 * below(r, r->size / 512);
    const uint64_t wanted = 512 * (1 + below(r, 80)), len = PL_MIN(wanted, r->size - at);
    const uint64_t kind = below(r, 100);

    if (kind < 70) {
        write_some(r, at, len);
    } else if (kind < 90) {
        if (kind < 80)
            OK(pl_vmdk.zero(r->rig.layer.state, at, len, true, &e));
        else
            OK(pl_vmdk.discard(r->rig.layer.state, at, len, &e));
        memset(r->model + at, 0, len);
    } else if (kind < 94) {
        grow(r);
    } else if (kind < 97) {
        reopen(r);
    } else {
        OK(vmdk_rig_read(&r->rig, at, r->buf, len, &e));
        assert_memory_equal(r->buf, r->model + at, len);
    }
}

static void write_file(const char *name, const void *bytes, size_t len)
{
    char *path = test_tmp(name);
    FILE *file = fopen(path, "w");

    assert_true(file && fwrite(bytes, 1, len, file) == len && fclose(file) == 0);
    free(path);
}

static void compare_with_qemu(struct run *r)
{
    char *folder = test_tmp(".");

    for (unsigned i = 0; i < r->rig.count; i++) {
        const uint64_t len = pl_storage_size(r->rig.file[i].st);

        OK(pl_storage_read(r->rig.file[i].st, 0, r->buf, len, &e));
        write_file(r->rig.file[i].name, r->buf, len);
    }
    write_file("model", r->model, r->size);
    assert_int_equal(
        run_quietly("cd %s && qemu-img compare -f vmdk -F raw disk.vmdk model", folder), 0);
    free(folder);
}

static void run_shape(void **state)
{
    const struct shape *shape = *state;
    const char *seed = getenv("RANDOM_SEED");
    struct run r = { .random = seed ? strtoull(seed, NULL, 0) : 1 };
    char text[1000];

    r.model = calloc(1, ROOM);
    r.buf = calloc(1, ROOM);
    vmdk_rig_init(&r.rig);
    snprintf(text, sizeof text,
             "# Disk DescriptorFile\nversion=1\nCID=0a1b2c3d\nparentCID=ffffffff\n"
             "createType=\"monolithicFlat\"\n\n# Extent description\n%s\n#DDB\n",
             shape->lines);
    vmdk_rig_text(&r.rig, text);
    for (size_t i = 0; i < PL_COUNT(shape->file) && shape->file[i].name; i++)
        vmdk_rig_add(&r.rig, shape->file[i].name, shape->file[i].sectors * 512);
    OK(vmdk_rig_open(&r.rig, WRITE, &e));
    r.size = r.rig.layer.size;
    for (unsigned i = 0; i < STEPS; i++)
        step(&r);
    reopen(&r);
    if (has_program("qemu-img"))
        compare_with_qemu(&r);
    else
        print_message("# skip: no qemu-img to compare with\n");
    vmdk_rig_end(&r.rig);
    free(r.model);
    free(r.buf);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(shapes)];

    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        tests[i] = (struct CMUnitTest){ .name = shapes[i].name,
                                        .test_func = run_shape,
                                        .initial_state = (void *)&shapes[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
