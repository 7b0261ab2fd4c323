#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "core/storage/file.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/support/rig.h"
#include "tests/unit/formats/vmdk/extents.h"

#define SIZE (2 * SPAN + 512)

static struct pl_place place_for(struct rig *rig, uint64_t at, uint64_t len)
{
    struct pl_place place;

    OK(extent_driver.allocate(rig->layer.state, at, len, &place, &e));
    return place;
}

static struct rig opened(struct pl_storage *st)
{
    struct rig rig = { .driver = &extent_driver, .st = st };

    OK(rig_open(&rig, &e));
    return rig;
}

static void done_with(struct rig *rig)
{
    rig_close(rig);
    pl_storage_close(rig->st, NULL);
}

static void one_call_gives_room_in_a_row(void **state)
{
    struct rig rig = opened(new_hosted(SIZE));
    struct pl_place a, b;
    struct pl_extent x;

    (void)state;
    a = place_for(&rig, 0, 256 * GRAIN);
    assert_true(a.fresh && a.zeroed);
    assert_int_equal(a.len, 256 * GRAIN);
    assert_int_equal(a.off % GRAIN, 0);
    b = place_for(&rig, 256 * GRAIN, SIZE - 256 * GRAIN); /* up to the end of the table */
    assert_int_equal(b.off, a.off + a.len);
    assert_int_equal(b.len, 256 * GRAIN);
    OK(extent_driver.map(rig.layer.state, 0, SIZE, &x, &e));
    assert_int_equal(x.state, PL_PARENT);
    OK(extent_driver.link(rig.layer.state, &a, &e));
    OK(extent_driver.link(rig.layer.state, &b, &e));
    OK(extent_driver.map(rig.layer.state, 0, SIZE, &x, &e));
    assert_int_equal(x.state, PL_DATA);
    assert_int_equal(x.len, 512 * GRAIN);
    done_with(&rig);
}

static void what_exists_is_written_in_place(void **state)
{
    struct rig rig = opened(new_hosted(SIZE));
    struct pl_place a;

    (void)state;
    write_noise(&rig, 0, 2 * GRAIN, 1);
    a = place_for(&rig, 100, 3 * GRAIN);
    assert_false(a.fresh);
    assert_int_equal(a.len, 2 * GRAIN - 100);
    FAILS(PL_E_INVALID, "whole number",
          extent_driver.allocate(rig.layer.state, 2 * GRAIN + 512, GRAIN, &a, &e));
    FAILS(PL_E_LIMIT, "outside", extent_driver.allocate(rig.layer.state, SIZE, 512, &a, &e));
    a = place_for(&rig, 2 * SPAN, 512); /* the disk's end counts as a whole grain */
    assert_true(a.fresh);
    assert_int_equal(a.len, 512);
    done_with(&rig);
}

static void cancelled_room_is_used_again(void **state)
{
    struct rig rig = opened(new_hosted(SIZE));
    struct pl_place a, b;

    (void)state;
    a = place_for(&rig, 0, 4 * GRAIN);
    extent_driver.cancel(rig.layer.state, &a);
    b = place_for(&rig, GRAIN, 2 * GRAIN);
    assert_int_equal(b.off, a.off);
    assert_false(b.zeroed); /* somebody may have written there */
    done_with(&rig);
}

static void freed_room_waits_for_the_tables(void **state)
{
    struct rig rig = opened(new_hosted(SIZE));
    struct pl_place a, b;
    struct pl_extent x;

    (void)state;
    write_noise(&rig, 0, GRAIN, 1);
    flush_extent(&rig);
    OK(extent_driver.map(rig.layer.state, 0, GRAIN, &x, &e));
    OK(extent_driver.discard(rig.layer.state, 0, GRAIN, &e));
    has_zeros(&rig, 0, GRAIN);
    a = place_for(&rig, GRAIN, GRAIN); /* the entry on disk still shows the grain */
    assert_int_not_equal(a.off, x.off);
    flush_extent(&rig);
    b = place_for(&rig, 2 * GRAIN, GRAIN);
    assert_int_equal(b.off, x.off);
    assert_false(b.zeroed);
    done_with(&rig);
}

static void both_copies_are_written(void **state)
{
    struct rig rig = opened(new_hosted(SPAN));

    (void)state;
    write_noise(&rig, 5 * GRAIN, 3 * GRAIN, 1);
    flush_extent(&rig);
    assert_int_equal(peek_le(rig.st, GT + 20, 4), DATA / 512);
    assert_int_equal(peek_le(rig.st, RGT + 20, 4), DATA / 512);
    assert_int_equal(peek_le(rig.st, RGT + 28, 4), DATA / 512 + 16);
    rig_close(&rig);
    poke_le(rig.st, GD, 4, 0x7fffffff);
    rig.read_only = true;
    OK(rig_open(&rig, &e));
    has_noise(&rig, 5 * GRAIN, 3 * GRAIN, 1);
    done_with(&rig);
}

static void zeros_without_a_parent_need_no_entry(void **state)
{
    struct rig rig = opened(new_hosted(SIZE));
    struct pl_extent x;

    (void)state;
    write_noise(&rig, 0, 4 * GRAIN, 1);
    OK(extent_driver.zero(rig.layer.state, GRAIN, GRAIN, true, &e));
    OK(extent_driver.map(rig.layer.state, GRAIN, GRAIN, &x, &e));
    assert_int_equal(x.state, PL_PARENT);
    OK(extent_driver.zero(rig.layer.state, 2 * GRAIN, GRAIN, false, &e)); /* room is kept */
    OK(extent_driver.map(rig.layer.state, 2 * GRAIN, GRAIN, &x, &e));
    assert_int_equal(x.state, PL_DATA);
    has_zeros(&rig, GRAIN, 2 * GRAIN);
    reopen(&rig);
    has_zeros(&rig, GRAIN, 2 * GRAIN);
    OK(extent_driver.zero(rig.layer.state, 2 * SPAN, 512, true, &e));
    FAILS(PL_E_INVALID, "whole number", extent_driver.zero(rig.layer.state, 512, GRAIN, true, &e));
    FAILS(PL_E_INVALID, "whole number",
          extent_driver.zero(rig.layer.state, 0, GRAIN + 512, true, &e));
    done_with(&rig);
}

static uint8_t parent[SIZE];

static void zeros_over_a_parent_are_told(void **state)
{
    struct rig rig = { .driver = &extent_driver, .parent = parent, .parent_len = SIZE };
    struct pl_extent x;

    (void)state;
    noise(parent, SIZE, 3);
    rig.st = new_extent(
        (struct vmdk_sparse_new){ .size = SIZE, .grain_size = GRAIN, .zeroed_grain = true });
    assert_int_equal(peek_le(rig.st, 4, 4), 2);
    OK(rig_open(&rig, &e));
    assert_true(extent_of(&rig)->has_zeroed);
    OK(extent_driver.zero(rig.layer.state, GRAIN, 3 * GRAIN, true, &e));
    OK(extent_driver.map(rig.layer.state, GRAIN, SIZE - GRAIN, &x, &e));
    assert_int_equal(x.state, PL_ZERO);
    assert_int_equal(x.len, 3 * GRAIN);
    write_noise(&rig, 2 * GRAIN + 5, 10, 1); /* the rest of the grain stays zeros */
    has_zeros(&rig, 2 * GRAIN, 5);
    has_zeros(&rig, 2 * GRAIN + 15, GRAIN - 15);
    OK(extent_driver.discard(rig.layer.state, 2 * GRAIN, GRAIN, &e));
    reopen(&rig);
    has_zeros(&rig, GRAIN, 3 * GRAIN);
    has_noise(&rig, 0, GRAIN, 3);
    assert_int_equal(checked(&rig, PL_REPAIR_NONE).leaks, 1); /* memory has no holes */
    assert_int_equal(checked(&rig, PL_REPAIR_LEAKS).leaks_fixed, 1);
    is_sound(&rig);
    done_with(&rig);
}

static void without_zeroed_grains_the_core_writes_zeros(void **state)
{
    struct rig rig = {
        .driver = &extent_driver, .parent = parent, .parent_len = SIZE, .st = new_hosted(SIZE)
    };

    (void)state;
    noise(parent, SIZE, 3);
    OK(rig_open(&rig, &e));
    assert_int_equal(extent_driver.zero(rig.layer.state, 0, GRAIN, true, NULL), 1);
    write_noise(&rig, 0, GRAIN, 1);
    OK(extent_driver.discard(rig.layer.state, 0, 2 * GRAIN, &e));
    has_noise(&rig, 0, GRAIN, 1); /* never the parent's bytes */
    done_with(&rig);
}

static void cowd_tables_come_when_they_are_needed(void **state)
{
    struct rig rig = opened(new_cowd(3 * 4096 * 512, 512));

    (void)state;
    OK(extent_driver.discard(rig.layer.state, 0, 4096 * 512, &e));
    flush_extent(&rig);
    assert_int_equal(pl_storage_size(rig.st), COWD_GT);
    write_noise(&rig, 4096 * 512 - 1024, 2048, 1);
    reopen(&rig);
    has_noise(&rig, 4096 * 512 - 1024, 2048, 1);
    assert_int_equal(peek_le(rig.st, 28, 4), pl_storage_size(rig.st) / 512);
    assert_int_not_equal(peek_le(rig.st, COWD_GD, 4), 0);
    assert_int_not_equal(peek_le(rig.st, COWD_GD + 4, 4), 0);
    assert_int_equal(peek_le(rig.st, COWD_GD + 8, 4), 0);
    is_sound(&rig);
    done_with(&rig);
}

static void an_extent_that_nobody_changed_keeps_its_bytes(void **state)
{
    struct rig rig = opened(new_hosted(SIZE));
    const uint64_t size = pl_storage_size(rig.st);

    (void)state;
    poke_le(rig.st, size, 1, 1); /* an odd length */
    reopen(&rig);
    assert_int_equal(pl_storage_size(rig.st), size + 1);
    assert_int_equal(peek_le(rig.st, 72, 1), 0);
    done_with(&rig);
}

/* ---- closed properly or not ---- */

static void the_mark_is_on_disk_before_the_tables(void **state)
{
    static const uint64_t mark_at[] = { 72, 1648 };
    uint8_t *bytes;
    size_t len;

    (void)state;
    for (unsigned cowd = 0; cowd < 2; cowd++) {
        struct rig rig = { .driver = &extent_driver };
        struct pl_storage *made = cowd ? new_cowd(SIZE, GRAIN) : new_hosted(SIZE);

        len = pl_storage_size(made);
        bytes = malloc(len);
        OK(pl_storage_read(made, 0, bytes, len, &e));
        OK(pl_flaky_storage(bytes, len, MEMORY_LIMIT, &rig.st, &e));
        free(bytes);
        OK(rig_open(&rig, &e));
        write_noise(&rig, 0, GRAIN, 1);
        flush_extent(&rig);
        assert_int_equal(peek_le(rig.st, mark_at[cowd], 1), 0);
        /* The flush before the last one, that of the tables, has the mark. */
        pl_flaky_cut(rig.st, pl_flaky_operation_count(rig.st) - 2, 1, &bytes, &len);
        assert_int_equal(bytes[mark_at[cowd]], 1);
        free(bytes);
        done_with(&rig);
        pl_storage_close(made, NULL);
    }
}

static void note_warning(void *ctx, const char *message)
{
    assert_non_null(strstr(message, "not closed properly"));
    ++*(int *)ctx;
}

static void an_unclean_extent_is_told_until_it_is_checked(void **state)
{
    int warnings = 0;
    const struct pl_report report = { .ctx = &warnings, .warn = note_warning };
    struct rig rig = { .driver = &extent_driver, .st = new_hosted(SIZE), .report = &report };

    (void)state;
    poke_le(rig.st, 72, 1, 1);
    OK(rig_open(&rig, &e));
    assert_int_equal(warnings, 1);
    write_noise(&rig, 0, GRAIN, 1);
    reopen(&rig);
    assert_int_equal(warnings, 2);
    checked(&rig, PL_REPAIR_LEAKS);
    assert_int_equal(peek_le(rig.st, 72, 1), 0);
    reopen(&rig);
    assert_int_equal(warnings, 2);
    done_with(&rig);
}

/* ---- limits ---- */

static void a_file_does_not_grow_past_2_tib(void **state)
{
    char *path = test_tmp("long.vmdk");
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct rig rig = { .driver = &extent_driver };
    struct pl_place place;

    (void)state;
    assert_true(fd >= 0);
    OK(pl_file_storage(fd, path, true, &rig.st, &e));
    OK(vmdk_sparse_create(rig.st, &(struct vmdk_sparse_new){ .size = SIZE, .grain_size = GRAIN },
                          &e));
    if (pl_storage_resize(rig.st, VMDK_FILE_MAX - 2 * GRAIN, NULL) < 0) {
        pl_storage_close(rig.st, NULL);
        free(path);
        TEST_SKIP("the file system has no files of 2 TiB");
    }
    OK(rig_open(&rig, &e));
    place = place_for(&rig, 0, 4 * GRAIN);
    assert_int_equal(place.len, 2 * GRAIN);
    OK(extent_driver.link(rig.layer.state, &place, &e));
    FAILS(PL_E_LIMIT, "2 TiB",
          extent_driver.allocate(rig.layer.state, 2 * GRAIN, GRAIN, &place, &e));
    reopen(&rig);
    has_zeros(&rig, 0, 2 * GRAIN);
    rig_close(&rig);
    OK(pl_storage_resize(rig.st, VMDK_FILE_MAX + 1, &e));
    FAILS(PL_E_LIMIT, "2 TiB", rig_open(&rig, &e));
    pl_storage_close(rig.st, NULL);
    free(path);
}

static void tables_are_no_grains(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = new_hosted(SPAN) };
    struct pl_place place;

    (void)state;
    poke_le(rig.st, GT, 4, GD / 512);
    OK(rig_open(&rig, &e));
    FAILS(PL_E_CORRUPT, "own tables",
          extent_driver.allocate(rig.layer.state, 0, GRAIN, &place, &e));
    FAILS(PL_E_CORRUPT, "own tables", extent_driver.zero(rig.layer.state, 0, GRAIN, false, &e));
    done_with(&rig);
}

static void a_reader_changes_nothing(void **state)
{
    struct rig rig = { .driver = &extent_driver, .st = new_hosted(SIZE), .read_only = true };
    struct pl_place place;

    (void)state;
    OK(rig_open(&rig, &e));
    FAILS(PL_E_INVALID, "reading only",
          extent_driver.allocate(rig.layer.state, 0, GRAIN, &place, &e));
    FAILS(PL_E_INVALID, "reading only", extent_driver.zero(rig.layer.state, 0, GRAIN, true, &e));
    FAILS(PL_E_INVALID, "reading only", extent_driver.discard(rig.layer.state, 0, GRAIN, &e));
    FAILS(PL_E_INVALID, "reading only", extent_resize(&rig, 2 * SIZE, PL_PREALLOC_OFF, &e));
    OK(extent_driver.flush(rig.layer.state, &e));
    done_with(&rig);
}

static void foreign_extents_are_written_to(void **state)
{
    static const struct {
        const char *name;
        uint64_t size;
    } samples[] = { { "vmdk/vmware-monolithic-sparse.vmdk", 10485760 },
                    { "vmdk/vbox-sparse.vmdk", 6292992 },
                    { "vmdk/cowd/cowd-base-delta.vmdk", 41943040 },
                    { "vmdk/qemu-zeroedgrain.vmdk", 6292992 } };

    (void)state;
    for (unsigned i = 0; i < PL_COUNT(samples); i++) {
        char *path = test_image(samples[i].name);
        struct rig rig = { .driver = &extent_driver, .extent_size = samples[i].size };

        if (!path)
            TEST_SKIP("no sample images");
        OK(rig_load(path, MEMORY_LIMIT, &rig.st, &e));
        OK(rig_open(&rig, &e));
        /* qemu forgets the room of grains that it zeroes */
        assert_int_equal(checked(&rig, PL_REPAIR_NONE).corruptions, 0);
        checked(&rig, PL_REPAIR_LEAKS);
        for (uint64_t n = 0; n < 20; n++)
            write_noise(&rig, n * 7919 * 31 % (rig.layer.size - 9000), 9000, n);
        reopen(&rig);
        is_sound(&rig);
        has_noise(&rig, 19 * 7919 * 31 % (rig.layer.size - 9000), 9000, 19);
        done_with(&rig);
        free(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_call_gives_room_in_a_row),
        cmocka_unit_test(what_exists_is_written_in_place),
        cmocka_unit_test(cancelled_room_is_used_again),
        cmocka_unit_test(freed_room_waits_for_the_tables),
        cmocka_unit_test(both_copies_are_written),
        cmocka_unit_test(zeros_without_a_parent_need_no_entry),
        cmocka_unit_test(zeros_over_a_parent_are_told),
        cmocka_unit_test(without_zeroed_grains_the_core_writes_zeros),
        cmocka_unit_test(cowd_tables_come_when_they_are_needed),
        cmocka_unit_test(an_extent_that_nobody_changed_keeps_its_bytes),
        cmocka_unit_test(the_mark_is_on_disk_before_the_tables),
        cmocka_unit_test(an_unclean_extent_is_told_until_it_is_checked),
        cmocka_unit_test(a_file_does_not_grow_past_2_tib),
        cmocka_unit_test(tables_are_no_grains),
        cmocka_unit_test(a_reader_changes_nothing),
        cmocka_unit_test(foreign_extents_are_written_to),
    };

    return cmocka_run_group_tests_name("test_sparse_write", tests, NULL, NULL);
}
