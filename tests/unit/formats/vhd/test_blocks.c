/* Blocks and their bitmaps: what map says, what writing makes of them, how the file grows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/formats/vhd/vhd_images.h"

static void check_run(struct rig *rig, uint64_t at, uint64_t len, enum pl_state state, uint64_t run)
{
    struct pl_extent x;

    OK(pl_vhd.map(rig->layer.state, at, len, &x, &e));
    assert_int_equal(x.state, state);
    assert_int_equal(x.len, run);
}

static void bits_are_counted_from_the_highest(void **state)
{
    static const uint8_t bits[] = { 0x0f, 0xff, 0xf8, 0x00, 0x01 };
    bool set;

    (void)state;
    assert_int_equal(vhd_bit_run(bits, 0, 40, &set), 4);
    assert_false(set);
    assert_int_equal(vhd_bit_run(bits, 4, 40, &set), 17);
    assert_true(set);
    assert_int_equal(vhd_bit_run(bits, 6, 10, &set), 4);
    assert_int_equal(vhd_bit_run(bits, 21, 40, &set), 18);
    assert_false(set);
    assert_int_equal(vhd_bit_run(bits, 39, 40, &set), 1);
    assert_true(set);
}

static void a_new_disk_is_its_parents(void **state)
{
    struct rig rig = rig_of(new_vhd("block_size=4k", 1 << 20, "parent.vhd"));

    (void)state;
    OK(rig_open(&rig, &e));
    check_run(&rig, 0, 1 << 20, PL_PARENT, 1 << 20);
    check_run(&rig, 700, 5000, PL_PARENT, 5000);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void a_written_sector_is_the_childs_alone(void **state)
{
    struct rig rig = rig_of(new_vhd("block_size=64k", 1 << 20, "parent.vhd"));
    uint8_t sector[512];

    (void)state;
    memset(sector, 1, sizeof sector);
    OK(rig_open(&rig, &e));
    OK(rig_write(&rig, 65536 + 1024, sector, 512, &e));
    check_run(&rig, 0, 1 << 20, PL_PARENT, 65536);
    check_run(&rig, 65536, 65536, PL_PARENT, 1024);
    check_run(&rig, 65536 + 1024, 4096, PL_DATA, 512);
    check_run(&rig, 65536 + 1100, 4096, PL_DATA, 436);
    check_run(&rig, 65536 + 1536, 65536, PL_PARENT, 65536 - 1536);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

/* VirtualBox sets the bits of the sectors that were written; the rest of the block are zeros,
 * whatever the file has there. */
static void a_clear_bit_without_a_parent_is_zeros(void **state)
{
    struct rig rig = rig_of(full_vhd("block_size=4k", 8192, 9));
    uint8_t sector[512];
    uint64_t off;

    (void)state;
    OK(rig_open(&rig, &e));
    off = (uint64_t)((struct vhd *)rig.layer.state)->bat[1] * VHD_SECTOR;
    rig_close(&rig);
    poke(rig.st, off, 1, 0xbf);
    OK(rig_open(&rig, &e));
    check_run(&rig, 4096, 4096, PL_DATA, 512);
    check_run(&rig, 4096 + 512, 4096 - 512, PL_ZERO, 512);
    check_run(&rig, 4096 + 1024, 3072, PL_DATA, 3072);
    memset(sector, 3, 100);
    OK(rig_write(&rig, 4096 + 700, sector, 100, &e));
    OK(rig_read(&rig, 4096 + 512, sector, 512, &e));
    assert_int_equal(sector[187], 0);
    assert_int_equal(sector[188], 3);
    assert_int_equal(sector[288], 0);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

/* Some readers look at no bits there. */
static void without_a_parent_all_bits_are_set(void **state)
{
    struct rig rig = rig_of(new_vhd("block_size=8M", 8 << 20, NULL));
    uint8_t sector[512] = { 1 }, bitmap[2048], ones[2048];
    uint64_t off;

    (void)state;
    OK(rig_open(&rig, &e));
    OK(rig_write(&rig, 5 << 20, sector, 512, &e));
    OK(pl_vhd.flush(rig.layer.state, &e));
    off = (uint64_t)((struct vhd *)rig.layer.state)->bat[0] * VHD_SECTOR;
    OK(pl_storage_read(rig.st, off, bitmap, sizeof bitmap, &e));
    memset(ones, 0xff, sizeof ones);
    assert_memory_equal(bitmap, ones, sizeof ones);
    assert_int_equal((off + sizeof ones) % 4096, 0);
    assert_int_equal(pl_storage_size(rig.st), off + sizeof ones + (8 << 20) + 512);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void the_file_ends_with_the_footer(void **state)
{
    struct rig rig = rig_of(full_vhd("block_size=4k", 40960, 5));
    uint8_t start[512], end[512];

    (void)state;
    OK(pl_storage_read(rig.st, 0, start, 512, &e));
    OK(pl_storage_read(rig.st, pl_storage_size(rig.st) - 512, end, 512, &e));
    assert_memory_equal(start, end, 512);
    assert_memory_equal(start, "conectix", 8);
    pl_storage_close(rig.st, NULL);
}

static void a_block_that_is_zeroed_is_used_again(void **state)
{
    struct rig rig = rig_of(full_vhd("block_size=4k", 40960, 5));
    const uint64_t size = pl_storage_size(rig.st);
    uint8_t bytes[4096];

    (void)state;
    OK(rig_open(&rig, &e));
    OK(pl_vhd.zero(rig.layer.state, 8192, 8192, true, &e));
    check_run(&rig, 8192, 8192, PL_PARENT, 8192);
    OK(pl_vhd.flush(rig.layer.state, &e));
    OK(rig_write(&rig, 8192, "x", 1, &e));
    OK(rig_read(&rig, 8192, bytes, 4096, &e));
    assert_int_equal(bytes[0], 'x');
    assert_int_equal(bytes[1], 0);
    assert_int_equal(bytes[4095], 0);
    rig_close(&rig);
    OK(rig_open(&rig, &e)); /* another session finds the other gap */
    OK(rig_write(&rig, 12288, "y", 1, &e));
    OK(pl_vhd.flush(rig.layer.state, &e));
    rig_close(&rig);
    assert_int_equal(pl_storage_size(rig.st), size);
    pl_storage_close(rig.st, NULL);
}

/* XenServer would believe its map of complete blocks, which nobody keeps here. */
static void a_map_of_complete_blocks_becomes_void(void **state)
{
    static const char *const cookies[] = { "tdbatmap", "\0\0\0\0\0\0\0" };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(cookies); i++) {
        struct rig rig = rig_of(new_vhd("block_size=64k", 1 << 20, NULL));
        uint8_t start[512], end[512], cookie[8];

        OK(rig_open(&rig, &e));
        OK(rig_write(&rig, 0, "x", 1, &e));
        OK(rig_flush(&rig, &e));
        rig_close(&rig);
        poke_footer(rig.st, 28, 4, 0x74617000); /* "tap" */
        OK(pl_storage_write(rig.st, BAT_AT + 512, cookies[i], 8, &e));
        OK(rig_open(&rig, &e));
        OK(rig_write(&rig, 512, "x", 1, &e));
        OK(rig_flush(&rig, &e));
        assert_int_equal(rig.layer.size, 1 << 20);
        rig_close(&rig);
        OK(pl_storage_read(rig.st, 0, start, 512, &e));
        OK(pl_storage_read(rig.st, pl_storage_size(rig.st) - 512, end, 512, &e));
        assert_memory_equal(start, end, 512);
        assert_memory_equal(start + 28, i ? "tap" : "qem2", 4);
        OK(pl_storage_read(rig.st, BAT_AT + 512, cookie, 8, &e));
        assert_memory_equal(cookie, cookies[i], 8);
        OK(rig_open(&rig, &e));
        assert_int_equal(rig.layer.size, 1 << 20);
        rig_close(&rig);
        pl_storage_close(rig.st, NULL);
    }
}

static void zeros_over_a_parent_are_written(void **state)
{
    uint8_t parent[8192], bytes[8192];
    struct rig rig = rig_of(new_vhd("block_size=4k", 8192, "parent.vhd"));

    (void)state;
    memset(parent, 7, sizeof parent);
    rig.parent = parent;
    rig.parent_len = sizeof parent;
    OK(rig_open(&rig, &e));
    OK(pl_vhd.zero(rig.layer.state, 512, 4608, true, &e));
    OK(pl_vhd.discard(rig.layer.state, 0, 8192, &e));
    OK(rig_read(&rig, 0, bytes, sizeof bytes, &e));
    assert_int_equal(bytes[511], 7);
    assert_int_equal(bytes[512], 0);
    assert_int_equal(bytes[5119], 0);
    assert_int_equal(bytes[5120], 7);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static const struct damage {
    const char *name;
    uint32_t sector; /* of block 1 */
    const char *text;
} damages[] = {
    { "over the copy of the footer", 0, "copy of the footer" },
    { "over the header", 1, "the header" },
    { "over the BAT", 3, "the BAT" },
    { "past the end", 1 << 20, "the end of the file" },
    { "at the end of numbers", 0xfffffffe, "the end of the file" },
};

static void refuses_a_block(void **state)
{
    const struct damage *d = *state;
    struct rig rig = rig_of(full_vhd("block_size=4k", 40960, 5));
    struct pl_extent x;
    uint8_t byte = 0;

    poke(rig.st, BAT_AT + 4, 4, d->sector);
    OK(rig_open(&rig, &e));
    FAILS(PL_E_CORRUPT, d->text, pl_vhd.map(rig.layer.state, 4096, 512, &x, &e));
    check_run(&rig, 0, 4096, PL_DATA, 4096);
    FAILS(PL_E_CORRUPT, d->text, rig_write(&rig, 0, &byte, 1, &e));
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void blocks_in_one_place_are_not_written_to(void **state)
{
    struct rig rig = rig_of(full_vhd("block_size=4k", 40960, 5));
    uint8_t raw[4], byte = 0;

    (void)state;
    OK(pl_storage_read(rig.st, BAT_AT, raw, 4, &e));
    poke(rig.st, BAT_AT + 4, 4, load_be32(raw) + 1);
    OK(rig_open(&rig, &e));
    FAILS(PL_E_CORRUPT, "overlap", rig_write(&rig, 0, &byte, 1, &e));
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

/* Some writers leave out what of the last block is behind the disk. */
static void a_short_last_block_is_read_and_written_behind(void **state)
{
    struct rig rig = rig_of(full_vhd("block_size=4k", 4096 + 512, 5));
    const uint64_t end = pl_storage_size(rig.st) - 512;
    uint8_t footer[512], bytes[512];

    (void)state;
    OK(pl_storage_read(rig.st, end, footer, 512, &e));
    OK(pl_storage_write(rig.st, end - 3584, footer, 512, &e));
    OK(pl_storage_resize(rig.st, end - 3584 + 512, &e));
    OK(rig_open(&rig, &e));
    OK(rig_read(&rig, 4096, bytes, 512, &e));
    assert_int_equal(bytes[511], 5);
    OK(pl_vhd.zero(rig.layer.state, 0, 4096, true, &e));
    OK(rig_write(&rig, 0, "x", 1, &e));
    OK(pl_vhd.flush(rig.layer.state, &e));
    OK(rig_read(&rig, 4096, bytes, 512, &e));
    assert_int_equal(bytes[0], 5);
    rig_close(&rig);
    assert_true(pl_storage_size(rig.st) >= end + 512);
    pl_storage_close(rig.st, NULL);
}

static void a_read_only_image_is_not_written(void **state)
{
    struct pl_storage *st = full_vhd("block_size=4k", 40960, 5);
    struct pl_layer layer;
    struct pl_place place;

    (void)state;
    OK(pl_vhd.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    FAILS(PL_E_INVALID, "reading only", pl_vhd.allocate(layer.state, 0, 512, &place, &e));
    OK(pl_vhd.flush(layer.state, &e));
    close_layer(&pl_vhd, &layer);
    pl_storage_close(st, NULL);
}

int main(void)
{
    const struct CMUnitTest fixed[] = {
        cmocka_unit_test(bits_are_counted_from_the_highest),
        cmocka_unit_test(a_new_disk_is_its_parents),
        cmocka_unit_test(a_written_sector_is_the_childs_alone),
        cmocka_unit_test(a_clear_bit_without_a_parent_is_zeros),
        cmocka_unit_test(without_a_parent_all_bits_are_set),
        cmocka_unit_test(the_file_ends_with_the_footer),
        cmocka_unit_test(a_block_that_is_zeroed_is_used_again),
        cmocka_unit_test(a_map_of_complete_blocks_becomes_void),
        cmocka_unit_test(zeros_over_a_parent_are_written),
        cmocka_unit_test(blocks_in_one_place_are_not_written_to),
        cmocka_unit_test(a_short_last_block_is_read_and_written_behind),
        cmocka_unit_test(a_read_only_image_is_not_written),
    };
    struct CMUnitTest tests[PL_COUNT(damages)];
    int failed = cmocka_run_group_tests_name("vhd blocks", fixed, NULL, NULL);

    for (size_t i = 0; i < PL_COUNT(damages); i++)
        tests[i] = (struct CMUnitTest){ .name = damages[i].name,
                                        .test_func = refuses_a_block,
                                        .initial_state = (void *)&damages[i] };
    failed += _cmocka_run_group_tests("vhd places", tests, PL_COUNT(tests), NULL, NULL);
    return failed;
}
