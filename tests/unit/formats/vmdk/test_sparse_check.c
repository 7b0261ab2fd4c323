#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "core/storage/file.h"
#include "tests/support/env.h"
#include "tests/support/rig.h"
#include "tests/unit/formats/vmdk/extents.h"

#define GRAINS 10

/* A hosted extent of one table whose first GRAINS grains hold noise, at DATA and after. */
static struct pl_storage *good(void)
{
    struct rig rig = { .driver = &extent_driver, .st = new_hosted(SPAN) };

    OK(rig_open(&rig, &e));
    write_noise(&rig, 0, GRAINS * GRAIN, 1);
    flush_extent(&rig);
    rig_close(&rig);
    return rig.st;
}

static void a_sound_extent_is_sound(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = good(), .read_only = true };
    struct pl_check_result r;

    (void)state;
    OK(rig_open(&rig, &e));
    is_sound(&rig);
    r = checked(&rig, PL_REPAIR_NONE);
    assert_true(r.has_allocation);
    assert_int_equal(r.total_clusters, 512);
    assert_int_equal(r.allocated_clusters, GRAINS);
    assert_int_equal(r.fragmented_clusters, 0);
    assert_int_equal(r.compressed_clusters, 0);
    assert_int_equal(r.image_end_offset, DATA + GRAINS * GRAIN);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void results_of_extents_add_up(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = good(), .read_only = true };
    struct pl_check_result r = { .corruptions = 3, .total_clusters = 5, .image_end_offset = 1 };

    (void)state;
    OK(rig_open(&rig, &e));
    OK(extent_driver.check(rig.layer.state, PL_REPAIR_NONE, NULL, &r, &e));
    assert_int_equal(r.corruptions, 3);
    assert_int_equal(r.total_clusters, 517);
    assert_int_equal(r.image_end_offset, DATA + GRAINS * GRAIN);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static const struct defect {
    const char *name;
    uint64_t at;
    unsigned width;
    uint64_t value;
    unsigned corruptions, leaks; /* found */
    int zero_grain;              /* after repair this grain is zeros; -1: all is as it was */
    bool unclean;
} defects[] = {
    { "an entry past the end, sound in the other copy", GT, 4, 0x7fffffff, 2, 0, -1, false },
    { "the other copy's entry past the end", RGT, 4, 0x7fffffff, 1, 0, -1, false },
    { "the other copy shows another grain", RGT + 4, 4, DATA / 512, 1, 0, -1, false },
    { "the same after a crash", RGT + 4, 4, DATA / 512, 0, 1, -1, true },
    { "an entry that leads into the tables", GT + 8, 4, GT / 512, 2, 0, -1, false },
    { "an entry that leads into the directory", GT + 8, 4, GD / 512, 2, 0, -1, false },
    { "a table past the end", GD, 4, 1 << 30, 1, 0, -1, false },
    { "a table that is missing", GD, 4, 0, 1, 0, -1, false },
    { "the other copy's table past the end", RGD, 4, 1 << 30, 1, 0, -1, false },
    { "the other copy's table is missing", RGD, 4, 0, 1, 0, -1, false },
    { "a directory past the end", 56, 8, 1 << 30, 1, 0, -1, false },
    { "the other directory past the end", 48, 8, 1 << 30, 1, 0, -1, false },
};

static struct rig with_defect(const struct defect *d)
{
    struct rig rig = { .driver = &extent_driver, .st = good(), .check_only = true };

    poke_le(rig.st, d->at, d->width, d->value);
    if (d->unclean)
        poke_le(rig.st, 72, 1, 1);
    OK(rig_open(&rig, &e));
    return rig;
}

static void a_defect_is_found_and_mended(void **state)
{
    const struct defect *d = *state;
    struct rig rig = with_defect(d);
    struct pl_check_result r = checked(&rig, PL_REPAIR_NONE);

    assert_int_equal(r.corruptions, d->corruptions);
    assert_int_equal(r.leaks, d->leaks);
    r = checked(&rig, PL_REPAIR_LEAKS);
    assert_int_equal(r.corruptions, d->corruptions);
    r = checked(&rig, PL_REPAIR_ALL);
    assert_int_equal(r.corruptions, 0);
    assert_int_equal(r.leaks, 0);
    assert_true(r.corruptions_fixed >= 1 || d->leaks);
    flush_extent(&rig);
    rig_close(&rig);
    rig.check_only = false;
    OK(rig_open(&rig, &e));
    is_sound(&rig);
    has_noise(&rig, 0, GRAINS * GRAIN, 1);
    assert_int_equal(peek_le(rig.st, 72, 1), 0);
    write_noise(&rig, 100 * GRAIN, GRAIN, 2);
    reopen(&rig);
    has_noise(&rig, 0, GRAINS * GRAIN, 1);
    is_sound(&rig);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void an_entry_that_no_copy_knows_becomes_empty(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = good(), .check_only = true };

    (void)state;
    poke_le(rig.st, GT, 4, 0x7fffffff);
    poke_le(rig.st, RGT, 4, 0x7ffffffe);
    OK(rig_open(&rig, &e));
    assert_int_equal(checked(&rig, PL_REPAIR_ALL).corruptions, 0);
    is_sound(&rig);
    has_zeros(&rig, 0, GRAIN);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void a_table_that_no_copy_knows_becomes_empty(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = good(), .check_only = true };

    (void)state;
    poke_le(rig.st, GD, 4, 0x7fffffff);
    poke_le(rig.st, RGD, 4, 0x7ffffffe);
    OK(rig_open(&rig, &e));
    assert_int_equal(checked(&rig, PL_REPAIR_ALL).corruptions, 0);
    is_sound(&rig);
    has_zeros(&rig, 0, SPAN);
    write_noise(&rig, 0, GRAIN, 1);
    flush_extent(&rig);
    is_sound(&rig);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void a_table_that_is_named_without_end_is_walked_once(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = new_hosted(512), .check_only = true };

    (void)state;
    OK(pl_storage_resize(rig.st, 4 * PL_MIB, &e));
    poke_le(rig.st, 8, 4, 1);
    poke_le(rig.st, 44, 4, 65536); /* a table of 256 KiB at 1 MiB ... */
    poke_le(rig.st, 56, 8, 4096);  /* ... and a directory of 256 KiB, of nothing but it */
    poke_le(rig.st, 12, 8, UINT64_C(8) * 65536 * 64 * 1024);
    for (uint64_t i = 0; i < 64 * 1024; i += 2)
        poke_le(rig.st, 4096 * 512 + 4 * i, 8, UINT64_C(2048) << 32 | 2048);
    OK(rig_open(&rig, &e));
    assert_true(checked(&rig, PL_REPAIR_NONE).corruptions > 60000);
    assert_true(checked(&rig, PL_REPAIR_ALL).corruptions > 60000);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void two_entries_on_one_grain_get_a_copy_each(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = good(), .check_only = true };
    uint8_t want[GRAIN], got[GRAIN];

    (void)state;
    for (unsigned copy = 0; copy < 2; copy++) /* grain 20 shows what grain 2 has */
        poke_le(rig.st, (copy ? RGT : GT) + 80, 4, DATA / 512 + 16);
    OK(rig_open(&rig, &e));
    assert_int_equal(checked(&rig, PL_REPAIR_NONE).corruptions, 1);
    OK(rig_read(&rig, 2 * GRAIN, want, GRAIN, &e));
    assert_true(checked(&rig, PL_REPAIR_ALL).corruptions_fixed >= 1);
    is_sound(&rig);
    write_noise(&rig, 2 * GRAIN, GRAIN, 9);
    OK(rig_read(&rig, 20 * GRAIN, got, GRAIN, &e));
    assert_memory_equal(want, got, GRAIN);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void lost_grains_are_found_and_taken_back(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = good() };
    const uint64_t size = pl_storage_size(rig.st);

    (void)state;
    for (unsigned copy = 0; copy < 2; copy++) { /* grains 3 and 4 are forgotten */
        poke_le(rig.st, (copy ? RGT : GT) + 12, 4, 0);
        poke_le(rig.st, (copy ? RGT : GT) + 16, 4, 0);
    }
    OK(rig_open(&rig, &e));
    assert_int_equal(checked(&rig, PL_REPAIR_NONE).leaks, 2);
    assert_int_equal(checked(&rig, PL_REPAIR_LEAKS).leaks_fixed, 2);
    is_sound(&rig);
    assert_int_equal(pl_storage_size(rig.st), size - 2 * GRAIN);
    has_noise(&rig, 0, 3 * GRAIN, 1);
    has_zeros(&rig, 3 * GRAIN, 2 * GRAIN);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

/* Grains of a sector in blocks of the host that have something else, too. */
static void what_shares_a_block_is_not_lost(void **state)
{
    const struct vmdk_sparse_new what = { .size = PL_MIB, .grain_size = 512, .cowd = true };
    static const uint8_t parent[PL_MIB];
    char *path = test_tmp("blocks.vmdk");
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct rig rig = { .driver = &extent_driver, .parent = parent, .parent_len = sizeof parent };
    uint64_t len = 4096;
    bool hole = false;

    (void)state;
    assert_true(fd >= 0);
    OK(pl_file_storage(fd, path, true, &rig.st, &e));
    OK(vmdk_sparse_create(rig.st, &what, &e));
    OK(rig_open(&rig, &e));
    write_noise(&rig, 0, PL_MIB, 1);
    flush_extent(&rig);
    OK(extent_driver.forget(rig.layer.state, 0, PL_MIB, &e));
    flush_extent(&rig);
    OK(pl_storage_map(rig.st, PL_MIB / 2, &len, &hole, &e));
    if (hole)
        is_sound(&rig);
    else
        print_message("# skip: the host keeps no holes\n");
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
    free(path);
}

static void holes_of_the_file_are_not_lost(void **state)
{
    const struct vmdk_sparse_new what = { .size = 10 * PL_MIB, .grain_size = 65536 };
    char *path = test_tmp("holes.vmdk");
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct rig rig = { .driver = &extent_driver };
    uint64_t len = 3 * 65536;
    bool hole = false;

    (void)state;
    assert_true(fd >= 0);
    OK(pl_file_storage(fd, path, true, &rig.st, &e));
    OK(vmdk_sparse_create(rig.st, &what, &e));
    OK(rig_open(&rig, &e));
    write_noise(&rig, 0, 10 * 65536, 1);
    flush_extent(&rig);
    OK(extent_driver.discard(rig.layer.state, 2 * 65536, 3 * 65536, &e));
    flush_extent(&rig);
    OK(pl_storage_map(rig.st, vmdk_sparse_overhead(&what) + 2 * 65536, &len, &hole, &e));
    if (hole && len == 3 * 65536)
        is_sound(&rig);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
    free(path);
    if (!hole)
        TEST_SKIP("the file system makes no holes");
}

static void samples_are_sound(void **state)
{
    static const char *const names[] = {
        "vmdk/vmware-monolithic-sparse.vmdk",
        "vmdk/vbox-sparse.vmdk",
        "vmdk/qemu-sparse.vmdk",
        "vmdk/stream-with-markers.vmdk",
        "vmdk/vbox-stream.vmdk",
        "vmdk/qemu-stream.vmdk",
        "vmdk/openvmdk-stream.vmdk",
        "vmdk/vmdkstream-py.vmdk",
        "vmdk/cowd/cowd-base-delta.vmdk",
        "vmdk/esxi-vmfs/vmfs_thick-000001-delta.vmdk",
        "vmdk/stream-version3-1g.vmdk",
        "vmdk/vbox-split/vbox-split-s001.vmdk",
    };

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(names); i++) {
        char *path = test_image(names[i]);
        struct rig rig = { .driver = &extent_driver, .read_only = true };
        struct pl_check_result r;

        if (!path)
            TEST_SKIP("no sample images");
        OK(rig_load(path, MEMORY_LIMIT, &rig.st, &e));
        OK(rig_open(&rig, &e));
        r = checked(&rig, PL_REPAIR_NONE);
        if (r.corruptions || r.check_errors || r.leaks)
            fail_msg("%s: %d corruptions, %d leaks", names[i], (int)r.corruptions, (int)r.leaks);
        rig_close(&rig);
        pl_storage_close(rig.st, NULL);
        free(path);
    }
}

static void a_damaged_stream_is_told(void **state)
{
    char *path = test_image("malformed/vmdk-stream-grain-size-huge.vmdk");
    struct rig rig = { .driver = &extent_driver, .check_only = true };

    (void)state;
    if (!path)
        TEST_SKIP("no sample images");
    OK(rig_load(path, MEMORY_LIMIT, &rig.st, &e));
    OK(rig_open(&rig, &e));
    assert_int_equal(checked(&rig, PL_REPAIR_NONE).corruptions, 1);
    assert_int_equal(checked(&rig, PL_REPAIR_ALL).corruptions, 1); /* nothing can be mended */
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
    free(path);
}

int main(void)
{
    const struct CMUnitTest plain[] = {
        cmocka_unit_test(a_sound_extent_is_sound),
        cmocka_unit_test(results_of_extents_add_up),
        cmocka_unit_test(an_entry_that_no_copy_knows_becomes_empty),
        cmocka_unit_test(a_table_that_no_copy_knows_becomes_empty),
        cmocka_unit_test(a_table_that_is_named_without_end_is_walked_once),
        cmocka_unit_test(two_entries_on_one_grain_get_a_copy_each),
        cmocka_unit_test(lost_grains_are_found_and_taken_back),
        cmocka_unit_test(holes_of_the_file_are_not_lost),
        cmocka_unit_test(what_shares_a_block_is_not_lost),
        cmocka_unit_test(samples_are_sound),
        cmocka_unit_test(a_damaged_stream_is_told),
    };
    struct CMUnitTest tests[PL_COUNT(plain) + PL_COUNT(defects)];
    size_t n = PL_COUNT(plain);

    memcpy(tests, plain, sizeof plain);
    for (size_t i = 0; i < PL_COUNT(defects); i++)
        tests[n++] = (struct CMUnitTest){ .name = defects[i].name,
                                          .test_func = a_defect_is_found_and_mended,
                                          .initial_state = (void *)&defects[i] };
    return _cmocka_run_group_tests("test_sparse_check", tests, n, NULL, NULL);
}
