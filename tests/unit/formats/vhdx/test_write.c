/* What writing does to the file: identifiers, headers, log, states of blocks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/formats/vhdx/edit.h"

#define SIZE (6 * PL_MIB)

static void put(struct rig *rig, uint64_t at, uint64_t len, uint8_t value)
{
    uint8_t *bytes = malloc(len);

    memset(bytes, value, len);
    OK(rig_write(rig, at, bytes, len, &e));
    free(bytes);
}

static uint64_t state_of(struct rig *rig, unsigned block)
{
    return VHDX_BAT_STATE(peek_le(rig->st, BAT_AT + 8 * block, 8));
}

static void an_image_that_nobody_changed_keeps_its_bytes(void **state)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);
    uint8_t *before = malloc(DATA_AT), *after = malloc(DATA_AT);

    (void)state;
    OK(pl_storage_read(rig.st, 0, before, DATA_AT, &e));
    OK(rig_open(&rig, &e));
    OK(rig_finish(&rig, &e));
    assert_int_equal(pl_storage_size(rig.st), DATA_AT);
    OK(pl_storage_read(rig.st, 0, after, DATA_AT, &e));
    assert_memory_equal(before, after, DATA_AT);
    free(before);
    free(after);
    pl_storage_close(rig.st, NULL);
}

static void the_first_write_changes_both_write_guids(void **state)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);
    const uint64_t file = peek_le(rig.st, VHDX_HEADER_AT(1) + 16, 8);
    const uint64_t data = peek_le(rig.st, VHDX_HEADER_AT(1) + 32, 8);
    uint64_t header, second;

    (void)state;
    OK(rig_open(&rig, &e));
    put(&rig, 0, 512, 1);
    header = VHDX_HEADER_AT(newer_header(rig.st));
    assert_int_equal(header, VHDX_HEADER_AT(0)); /* the older one was overwritten */
    assert_int_not_equal(peek_le(rig.st, header + 16, 8), file);
    assert_int_not_equal(peek_le(rig.st, header + 32, 8), data);
    second = peek_le(rig.st, header + 16, 8);
    put(&rig, PL_MIB, 512, 1);
    OK(pl_vhdx.flush(rig.layer.state, &e));
    assert_int_equal(peek_le(rig.st, header + 16, 8), second);
    OK(rig_finish(&rig, &e));
    pl_storage_close(rig.st, NULL);
}

static void the_log_is_named_while_it_is_used_and_no_longer(void **state)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);

    (void)state;
    OK(rig_open(&rig, &e));
    put(&rig, 0, 512, 1);
    OK(pl_vhdx.flush(rig.layer.state, &e));
    assert_int_not_equal(peek_le(rig.st, VHDX_HEADER_AT(newer_header(rig.st)) + 48, 8), 0);
    OK(rig_finish(&rig, &e));
    assert_int_equal(peek_le(rig.st, VHDX_HEADER_AT(newer_header(rig.st)) + 48, 8), 0);
    assert_int_equal(peek_le(rig.st, VHDX_HEADER_AT(newer_header(rig.st)) + 8, 8), 4);
    pl_storage_close(rig.st, NULL);
}

static void a_block_written_in_part_is_fully_present(void **state)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);
    uint8_t byte;

    (void)state;
    OK(rig_open(&rig, &e));
    put(&rig, 3 * PL_MIB + 4096, 512, 7);
    OK(rig_finish(&rig, &e));
    assert_int_equal(pl_storage_size(rig.st), DATA_AT + PL_MIB);
    assert_int_equal(peek_le(rig.st, BAT_AT + 8 * 3, 8), DATA_AT | VHDX_FULLY_PRESENT);
    OK(pl_storage_read(rig.st, DATA_AT + 4096, &byte, 1, &e));
    assert_int_equal(byte, 7);
    pl_storage_close(rig.st, NULL);
}

static void a_child_marks_its_sectors(void **state)
{
    const uint8_t parent[4096] = { 1 };
    struct rig rig = new_rig("block_size=1M", SIZE, parent, sizeof parent);
    const uint64_t bitmap_entry = BAT_AT + 8 * 4096; /* chunks of 4096 blocks of 1 MiB */
    uint64_t bitmap;

    (void)state;
    OK(rig_open(&rig, &e));
    put(&rig, 9 * 512, 3 * 512, 7);
    put(&rig, PL_MIB, PL_MIB, 8);
    OK(rig_finish(&rig, &e));
    assert_int_equal(state_of(&rig, 0), VHDX_PARTIALLY_PRESENT);
    assert_int_equal(state_of(&rig, 1), VHDX_FULLY_PRESENT);
    assert_int_equal(VHDX_BAT_STATE(peek_le(rig.st, bitmap_entry, 8)), VHDX_FULLY_PRESENT);
    bitmap = VHDX_BAT_OFFSET(peek_le(rig.st, bitmap_entry, 8));
    assert_int_equal(peek_le(rig.st, bitmap, 8), 0xe00);
    pl_storage_close(rig.st, NULL);
}

static void the_bits_of_a_new_partial_block_are_cleared_first(void **state)
{
    const uint8_t parent[4096] = { 1 };
    struct rig rig = new_rig("block_size=1M", SIZE, parent, sizeof parent);
    uint64_t bitmap;
    uint8_t byte;

    (void)state;
    OK(rig_open(&rig, &e));
    put(&rig, PL_MIB, 512, 7);
    OK(rig_finish(&rig, &e));
    bitmap = VHDX_BAT_OFFSET(peek_le(rig.st, BAT_AT + 8 * 4096, 8));
    poke_le(rig.st, bitmap, 8, UINT64_MAX); /* block 0 is not present: its bits mean nothing */
    OK(rig_open(&rig, &e));
    put(&rig, 8 * 512, 512, 9);
    OK(rig_read(&rig, 0, &byte, 1, &e));
    assert_int_equal(byte, 1);
    OK(rig_finish(&rig, &e));
    assert_int_equal(peek_le(rig.st, bitmap, 8), 0x100);
    pl_storage_close(rig.st, NULL);
}

static void a_discarded_block_becomes_zero_and_its_room_is_used_again(void **state)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);

    (void)state;
    OK(rig_open(&rig, &e));
    put(&rig, 0, 2 * PL_MIB, 7);
    OK(pl_vhdx.flush(rig.layer.state, &e));
    OK(pl_vhdx.discard(rig.layer.state, 0, PL_MIB, &e));
    put(&rig, 2 * PL_MIB, 512, 7); /* not yet: the file still names the room */
    OK(pl_vhdx.flush(rig.layer.state, &e));
    put(&rig, 3 * PL_MIB, 512, 7);
    OK(rig_finish(&rig, &e));
    assert_int_equal(peek_le(rig.st, BAT_AT, 8), VHDX_ZERO);
    assert_int_equal(VHDX_BAT_OFFSET(peek_le(rig.st, BAT_AT + 16, 8)), DATA_AT + 2 * PL_MIB);
    assert_int_equal(VHDX_BAT_OFFSET(peek_le(rig.st, BAT_AT + 24, 8)), DATA_AT);
    assert_int_equal(peek_le(rig.st, DATA_AT + 512, 8), 0); /* it was zeroed */
    pl_storage_close(rig.st, NULL);
}

static void a_fixed_image_keeps_its_blocks(void **state)
{
    struct rig rig = new_rig("block_size=1M,subformat=fixed", 2 * PL_MIB, NULL, 0);
    uint8_t byte;

    (void)state;
    OK(rig_open(&rig, &e));
    put(&rig, 0, 2 * PL_MIB, 7);
    OK(pl_vhdx.discard(rig.layer.state, 0, PL_MIB, &e));
    OK(rig_read(&rig, 5, &byte, 1, &e));
    assert_int_equal(byte, 0);
    OK(rig_resize(&rig, 4 * PL_MIB, PL_PREALLOC_OFF, &e));
    OK(rig_finish(&rig, &e));
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(peek_le(rig.st, BAT_AT + 8 * i, 8),
                         (DATA_AT + i * PL_MIB) | VHDX_FULLY_PRESENT);
    pl_storage_close(rig.st, NULL);
}

static void a_last_block_that_the_file_cuts_short_is_completed(void **state)
{
    struct rig rig = new_rig("block_size=2M", 3 * PL_MIB, NULL, 0);
    uint8_t byte;

    (void)state;
    OK(rig_open(&rig, &e));
    put(&rig, 2 * PL_MIB, PL_MIB, 7);
    OK(rig_finish(&rig, &e));
    OK(pl_storage_resize(rig.st, DATA_AT + PL_MIB, &e));
    OK(rig_open(&rig, &e));
    OK(rig_read(&rig, 3 * PL_MIB - 1, &byte, 1, &e));
    assert_int_equal(byte, 7);
    put(&rig, 0, 512, 8);
    OK(rig_finish(&rig, &e));
    assert_int_equal(VHDX_BAT_OFFSET(peek_le(rig.st, BAT_AT, 8)), DATA_AT + 2 * PL_MIB);
    pl_storage_close(rig.st, NULL);
}

/* A BAT of 1 MiB has room for 131072 entries: 128 GiB in blocks of 1 MiB. */
static void a_bat_that_outgrows_its_region_moves(void **state)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);
    struct pl_check_result result;
    uint8_t byte;

    (void)state;
    OK(rig_open(&rig, &e));
    put(&rig, 0, 512, 7);
    OK(rig_resize(&rig, 200 * PL_GIB, PL_PREALLOC_OFF, &e));
    put(&rig, 200 * PL_GIB - 512, 512, 8);
    OK(rig_finish(&rig, &e));
    assert_int_equal(peek_le(rig.st, VHDX_REGION_TABLE_AT(0) + 32, 8), DATA_AT + PL_MIB);
    assert_int_equal(peek_le(rig.st, VHDX_REGION_TABLE_AT(1) + 40, 4), 2 * PL_MIB);
    OK(rig_open(&rig, &e));
    assert_int_equal(rig.layer.size, 200 * PL_GIB);
    OK(rig_read(&rig, 0, &byte, 1, &e));
    assert_int_equal(byte, 7);
    OK(rig_read(&rig, 200 * PL_GIB - 1, &byte, 1, &e));
    assert_int_equal(byte, 8);
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions, 0);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void compact_moves_blocks_to_the_front(void **state)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);
    uint64_t freed;
    uint8_t byte;

    (void)state;
    OK(rig_open(&rig, &e));
    for (unsigned i = 0; i < 6; i++)
        put(&rig, i * PL_MIB, PL_MIB, i == 1 ? 0 : (uint8_t)(10 + i));
    OK(pl_vhdx.discard(rig.layer.state, 0, PL_MIB, &e));
    OK(pl_vhdx.compact(rig.layer.state, NULL, &freed, &e));
    assert_int_equal(freed, 2 * PL_MIB);
    assert_int_equal(pl_storage_size(rig.st), DATA_AT + 4 * PL_MIB);
    for (unsigned i = 0; i < 6; i++) {
        OK(rig_read(&rig, i * PL_MIB, &byte, 1, &e));
        assert_int_equal(byte, i < 2 ? 0 : 10 + i);
    }
    OK(rig_finish(&rig, &e));
    pl_storage_close(rig.st, NULL);
}

static void requests_that_make_no_sense_are_refused(void **state)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);
    struct pl_place place;

    (void)state;
    OK(rig_open(&rig, &e));
    FAILS(PL_E_INVALID, "sectors", pl_vhdx.allocate(rig.layer.state, 100, 512, &place, &e));
    FAILS(PL_E_LIMIT, "outside", pl_vhdx.allocate(rig.layer.state, SIZE, 512, &place, &e));
    FAILS(PL_E_INVALID, "multiple",
          pl_vhdx.resize(rig.layer.state, SIZE + 100, false, PL_PREALLOC_OFF, &e));
    FAILS(PL_E_INVALID, "lose",
          pl_vhdx.resize(rig.layer.state, SIZE - 512, false, PL_PREALLOC_OFF, &e));
    FAILS(PL_E_LIMIT, "64 TiB",
          pl_vhdx.resize(rig.layer.state, 65 * PL_TIB, false, PL_PREALLOC_OFF, &e));
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_image_that_nobody_changed_keeps_its_bytes),
        cmocka_unit_test(the_first_write_changes_both_write_guids),
        cmocka_unit_test(the_log_is_named_while_it_is_used_and_no_longer),
        cmocka_unit_test(a_block_written_in_part_is_fully_present),
        cmocka_unit_test(a_child_marks_its_sectors),
        cmocka_unit_test(the_bits_of_a_new_partial_block_are_cleared_first),
        cmocka_unit_test(a_discarded_block_becomes_zero_and_its_room_is_used_again),
        cmocka_unit_test(a_fixed_image_keeps_its_blocks),
        cmocka_unit_test(a_last_block_that_the_file_cuts_short_is_completed),
        cmocka_unit_test(a_bat_that_outgrows_its_region_moves),
        cmocka_unit_test(compact_moves_blocks_to_the_front),
        cmocka_unit_test(requests_that_make_no_sense_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
