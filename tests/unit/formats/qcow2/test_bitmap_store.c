/* Persistent bitmaps: stored, replaced, and what happens to them when the disk changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "tests/support/env.h"
#include "tests/support/rig.h"

#define MIB (UINT64_C(1) << 20)
#define SIZE (64 * MIB)
#define GRANULARITY 512u
#define BYTES (SIZE / GRANULARITY / 8)

static void count_warning(void *ctx, const char *message)
{
    (void)message;
    ++*(unsigned *)ctx;
}

static void begin(struct rig *rig, const char *options)
{
    struct pl_err e;

    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig->st, &e), &e);
    must(rig_create(rig, options, SIZE, &e), &e);
    must(rig_open(rig, &e), &e);
}

static void reopen(struct rig *rig)
{
    struct pl_check_result result;
    struct pl_err e;

    must(pl_qcow2.flush(rig->layer.state, &e), &e);
    must(rig_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions + result.leaks, 0);
    rig_close(rig);
    must(rig_open(rig, &e), &e);
}

static void end(struct rig *rig)
{
    reopen(rig);
    rig_close(rig);
    pl_storage_close(rig->st, NULL);
}

/* Bits with clusters of zeros, of ones and of both. */
static void make_bits(uint8_t *bits, unsigned seed)
{
    memset(bits, 0, BYTES);
    memset(bits + BYTES / 4, 0xff, BYTES / 4);
    for (size_t i = BYTES / 2; i < BYTES * 3 / 4; i++)
        bits[i] = (uint8_t)(i * 7 + seed);
}

static void store(struct rig *rig, const char *name, bool enabled, unsigned seed)
{
    struct pl_bitmap bitmap = { .granularity = GRANULARITY, .enabled = enabled };
    static uint8_t bits[BYTES];
    struct pl_err e;

    snprintf(bitmap.name, sizeof bitmap.name, "%s", name);
    make_bits(bits, seed);
    must(pl_qcow2.bitmap_store(rig->layer.state, &bitmap, bits, BYTES, &e), &e);
}

static void assert_stored(struct rig *rig, const char *name, unsigned seed)
{
    static uint8_t bits[BYTES], wanted[BYTES];
    struct pl_err e;

    make_bits(wanted, seed);
    must(pl_qcow2.bitmap_load(rig->layer.state, name, bits, BYTES, &e), &e);
    assert_memory_equal(bits, wanted, BYTES);
}

/* The bitmap of that name, which must be there. */
static struct pl_bitmap find(struct rig *rig, const char *name)
{
    struct pl_bitmap *list, found = { 0 };
    struct pl_err e;
    size_t count;

    must(pl_qcow2.bitmaps(rig->layer.state, &list, &count, &e), &e);
    for (size_t i = 0; i < count; i++)
        if (!strcmp(list[i].name, name))
            found = list[i];
    free(list);
    assert_string_equal(found.name, name);
    return found;
}

static void stored_bitmaps_come_back(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };

    (void)state;
    begin(&rig, "cluster_size=4k");
    store(&rig, "one", false, 1);
    store(&rig, "two", true, 2);
    reopen(&rig);
    assert_stored(&rig, "one", 1);
    assert_stored(&rig, "two", 2);
    assert_true(find(&rig, "two").enabled);
    store(&rig, "one", false, 3);
    reopen(&rig);
    assert_stored(&rig, "one", 3);
    assert_stored(&rig, "two", 2);
    end(&rig);
}

static void bitmaps_that_record_are_marked_when_the_disk_changes(void **state)
{
    static const char bytes[512] = "x";
    unsigned warnings = 0;
    const struct pl_report report = { .ctx = &warnings, .warn = count_warning };
    struct rig rig = { .driver = &pl_qcow2, .report = &report };
    struct pl_err e;

    (void)state;
    begin(&rig, "cluster_size=4k");
    store(&rig, "still", false, 1);
    store(&rig, "recording", true, 2);
    reopen(&rig);
    assert_int_equal(warnings, 0);
    must(rig_write(&rig, 0, bytes, sizeof bytes, &e), &e);
    must(rig_write(&rig, MIB, bytes, sizeof bytes, &e), &e);
    assert_int_equal(warnings, 1);
    reopen(&rig);
    assert_false(find(&rig, "still").in_use);
    assert_stored(&rig, "still", 1);
    assert_true(find(&rig, "recording").in_use);
    end(&rig);
}

static void what_cannot_be_stored_is_refused(void **state)
{
    struct pl_bitmap bitmap = { .name = "b", .granularity = 3000 };
    struct rig rig = { .driver = &pl_qcow2 };
    uint8_t bits[BYTES] = { 0 };
    struct pl_err e;

    (void)state;
    begin(&rig, "compat=0.10");
    assert_int_equal(pl_qcow2.bitmap_store(rig.layer.state, &bitmap, bits, BYTES, &e), -1);
    assert_int_equal(e.kind, PL_E_UNSUPPORTED);
    end(&rig);
    rig = (struct rig){ .driver = &pl_qcow2 };
    begin(&rig, "");
    assert_int_equal(pl_qcow2.bitmap_store(rig.layer.state, &bitmap, bits, BYTES, &e), -1);
    assert_int_equal(e.kind, PL_E_INVALID);
    bitmap.granularity = GRANULARITY;
    assert_int_equal(pl_qcow2.bitmap_store(rig.layer.state, &bitmap, bits, BYTES - 1, &e), -1);
    assert_int_equal(e.kind, PL_E_INVALID);
    end(&rig);
}

static void qemu_img_reads_them(void **state)
{
    char *path = test_tmp("bitmaps"), command[4000];
    struct rig rig = { .driver = &pl_qcow2 };
    struct pl_err e;

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("no qemu-img");
    begin(&rig, "cluster_size=4k");
    store(&rig, "one", false, 1);
    store(&rig, "two", false, 2);
    must(pl_qcow2.flush(rig.layer.state, &e), &e);
    must(rig_dump(rig.st, path, &e), &e);
    snprintf(command, sizeof command,
             "qemu-img check -q %s && qemu-img bitmap --add -g 4k %s mix && "
             "qemu-img bitmap --merge one --merge two %s mix && qemu-img check -q %s",
             path, path, path, path);
    assert_int_equal(system(command), 0);
    free(path);
    end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_bitmaps_come_back),
        cmocka_unit_test(bitmaps_that_record_are_marked_when_the_disk_changes),
        cmocka_unit_test(what_cannot_be_stored_is_refused),
        cmocka_unit_test(qemu_img_reads_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
