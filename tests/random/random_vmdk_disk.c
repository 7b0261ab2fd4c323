/* Random changes to VMDK disks of flat extents and of sparse ones in several files, against a model
 * of the disk in memory; in the end qemu-img must find the same content.  The parents that the
 * sparse ones get and lose have zeros alone.
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
#include "core/base/scope.h"
#include "formats/vmdk/extent.h"
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
    uint32_t grain; /* of sparse files; 0: they are flat */
} shapes[] = {
    { "one file", "RW 2048 FLAT \"a\" 0\n", { { "a", 2048 } }, 0 },
    { "three files of odd sizes",
      "RW 63 FLAT \"a\" 0\nRW 1000 FLAT \"b\" 0\nRW 1 FLAT \"c\" 0\n",
      { { "a", 63 }, { "b", 1000 }, { "c", 1 } },
      0 },
    { "files in another order, with offsets",
      "RW 10 FLAT \"b\" 90\nRW 63 FLAT \"a\" 7\nRW 90 FLAT \"b\" 0\nRW 500 FLAT \"c\" 1\n",
      { { "a", 100 }, { "b", 100 }, { "c", 501 } },
      0 },
    { "sparse files",
      "RW 64 SPARSE \"a\"\nRW 1000 SPARSE \"b\"\nRW 17 SPARSE \"c\"\n",
      { { "a", 64 }, { "b", 1000 }, { "c", 17 } },
      4096 },
};

struct run {
    const struct shape *shape;
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

/* Makes whole granules zeros. */
static void clear(struct run *r, uint64_t at, uint64_t len,
                  int (*how)(struct run *r, uint64_t at, uint64_t len, struct pl_err *e))
{
    const uint64_t granule = r->rig.layer.granule;
    const uint64_t from = pl_round_down(at, granule);
    const uint64_t end = PL_MIN(pl_round_up(at + len, granule), r->size);

    OK(how(r, from, end - from, &e));
    memset(r->model + from, 0, end - from);
}

static int by_zero(struct run *r, uint64_t at, uint64_t len, struct pl_err *e)
{
    return pl_vmdk.zero(r->rig.layer.state, at, len, true, e);
}

static int by_discard(struct run *r, uint64_t at, uint64_t len, struct pl_err *e)
{
    return pl_vmdk.discard(r->rig.layer.state, at, len, e);
}

static int by_forget(struct run *r, uint64_t at, uint64_t len, struct pl_err *e)
{
    return pl_vmdk.forget(r->rig.layer.state, at, len, e);
}

static const struct pl_parent_ref parents[] = {
    { 0 },
    { "p.vmdk", "vmdk", "cid:77161c8f" },
    { "a folder/q.vmdk", NULL, "cid:1 uuid:1afe8b08-e023-4ca6-94d2-f2d22f36dd63" },
};

static void set_parent(struct run *r, size_t which)
{
    OK(pl_vmdk.set_parent(r->rig.layer.state, &parents[which], &e));
    reopen(r);
    assert_true(!r->rig.layer.parent_name == !parents[which].name);
    if (parents[which].name)
        assert_string_equal(r->rig.layer.parent_name, parents[which].name);
}

static void step(struct run *r)
{
    const uint64_t at = 512 * below(r, r->size / 512);
    const uint64_t wanted = 512 * (1 + below(r, 80)), len = PL_MIN(wanted, r->size - at);
    const uint64_t kind = below(r, 100);

    if (kind < 70) {
        write_some(r, at, len);
    } else if (kind < 90) {
        clear(r, at, len,
              kind < 80                       ? by_zero
              : kind < 85 || !r->shape->grain ? by_discard
                                              : by_forget);
    } else if (kind < 94) {
        grow(r);
    } else if (kind < 96) {
        reopen(r);
    } else if (kind < 97) {
        set_parent(r, r->shape->grain ? below(r, PL_COUNT(parents)) : 0);
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
        PL_FREE char *path = test_tmp(r->rig.file[i].name);

        OK(rig_dump(r->rig.file[i].st, path, &e));
    }
    write_file("model", r->model, r->size);
    assert_int_equal(
        run_quietly("cd %s && qemu-img compare -f vmdk -F raw disk.vmdk model", folder), 0);
    free(folder);
}

static void add_file(struct run *r, const char *name, uint64_t size)
{
    const struct vmdk_sparse_new what = { .size = size,
                                          .grain_size = r->shape->grain,
                                          .zeroed_grain = true };
    struct pl_storage *st = vmdk_rig_add(&r->rig, name, r->shape->grain ? 0 : size);

    if (r->shape->grain)
        OK(vmdk_sparse_create(st, &what, &e));
}

static void check_sound(struct run *r)
{
    struct pl_check_result result = { 0 };

    OK(pl_vmdk.check(r->rig.layer.state, PL_REPAIR_NONE, NULL, &result, &e));
    assert_int_equal(result.corruptions + result.check_errors, 0);
}

static void run_shape(void **state)
{
    const struct shape *shape = *state;
    const char *seed = getenv("RANDOM_SEED");
    struct run r = { .shape = shape, .random = seed ? strtoull(seed, NULL, 0) : 1 };
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
        add_file(&r, shape->file[i].name, shape->file[i].sectors * 512);
    OK(vmdk_rig_open(&r.rig, WRITE, &e));
    r.size = r.rig.layer.size;
    for (unsigned i = 0; i < STEPS; i++)
        step(&r);
    set_parent(&r, 0);
    check_sound(&r);
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
