/* Single defects: check finds them, repair mends them, nothing else changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/formats/vhdx/edit.h"

#define SIZE (6 * PL_MIB)

static const uint8_t parent[PL_MIB] = { 1 };

/* Blocks 0 to 2 are full of 1, 2, 3; of a child, block 3 has a sector. */
static struct rig image(bool child)
{
    struct rig rig =
        new_rig("block_size=1M", SIZE, child ? parent : NULL, child ? sizeof parent : 0);
    uint8_t *bytes = malloc(PL_MIB);

    OK(rig_open(&rig, &e));
    for (unsigned i = 0; i < 3; i++) {
        memset(bytes, (int)i + 1, PL_MIB);
        OK(rig_write(&rig, i * PL_MIB, bytes, PL_MIB, &e));
    }
    if (child)
        OK(rig_write(&rig, 3 * PL_MIB + 512, bytes, 512, &e));
    OK(rig_finish(&rig, &e));
    free(bytes);
    return rig;
}

static const struct defect {
    const char *name;
    uint64_t index; /* BAT entry */
    uint64_t entry; /* its new value */
    bool child;
    uint8_t block0; /* what block 0 begins with when it is mended */
} defects[] = {
    { "a block past the end", 0, (UINT64_C(1) << 40) | 6, false, 0 },
    { "a block at the end of all", 0, (UINT64_MAX << 20) | 6, false, 0 },
    { "a block that reaches past the end", 0, (DATA_AT + 3 * PL_MIB) | 6, false, 0 },
    { "a block on the header", 0, 6, false, 0 },
    { "a block on the log", 0, LOG_AT | 6, false, 0 },
    { "a block on the BAT", 0, BAT_AT | 6, false, 0 },
    { "a block on the metadata", 0, METADATA_AT | 6, false, 0 },
    { "a state that is not known", 0, DATA_AT | 5, false, 0 },
    { "a partial block without a parent", 0, DATA_AT | 7, false, 0 },
    { "two blocks in one place", 1, DATA_AT | 6, false, 1 },
    { "a sector bitmap past the end", 4096, (UINT64_C(1) << 40) | 6, true, 1 },
    { "a sector bitmap on the log", 4096, LOG_AT | 6, true, 1 },
    { "a sector bitmap on a block", 4096, DATA_AT | 6, true, 1 },
    { "a partial block without its sector bitmap", 4096, 0, true, 1 },
};

static void check_defect(void **state)
{
    const struct defect *d = *state;
    struct rig rig = image(d->child);
    struct pl_check_result result;
    uint8_t byte;

    poke_le(rig.st, BAT_AT + 8 * d->index, 8, d->entry);
    OK(rig_open(&rig, &e));
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    assert_true(result.corruptions > 0);
    OK(rig_check(&rig, PL_REPAIR_LEAKS, &result, &e));
    assert_true(result.corruptions > 0);
    OK(rig_check(&rig, PL_REPAIR_ALL, &result, &e));
    assert_int_equal(result.corruptions, 0);
    assert_true(result.corruptions_fixed > 0);
    OK(rig_finish(&rig, &e));
    OK(rig_open(&rig, &e));
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions + result.leaks, 0);
    OK(rig_read(&rig, 0, &byte, 1, &e));
    assert_int_equal(byte, d->block0);
    OK(rig_read(&rig, 2 * PL_MIB, &byte, 1, &e));
    assert_int_equal(byte, 3);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void a_sound_image_is_told_as_such(void **state)
{
    struct rig rig = image(true);
    struct pl_check_result result;

    (void)state;
    OK(rig_open(&rig, &e));
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions + result.leaks + result.check_errors, 0);
    assert_int_equal(result.total_clusters, 6);
    assert_int_equal(result.allocated_clusters, 4);
    assert_int_equal(result.image_end_offset, pl_storage_size(rig.st));
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void two_blocks_in_one_place_part_without_loss(void **state)
{
    struct rig rig = image(false);
    struct pl_check_result result;
    uint8_t bytes[512] = { 9 };

    (void)state;
    poke_le(rig.st, BAT_AT + 8, 8, DATA_AT | 6);
    OK(rig_open(&rig, &e));
    OK(rig_check(&rig, PL_REPAIR_ALL, &result, &e));
    OK(rig_write(&rig, 0, bytes, sizeof bytes, &e));
    OK(rig_read(&rig, PL_MIB, bytes, sizeof bytes, &e));
    assert_int_equal(bytes[0], 1);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void blocks_in_one_place_are_not_written_to(void **state)
{
    struct rig rig = image(false);
    struct pl_check_result result;
    uint8_t byte = 9;

    (void)state;
    poke_le(rig.st, BAT_AT + 8, 8, DATA_AT | 6);
    OK(rig_open(&rig, &e));
    FAILS(PL_E_CORRUPT, "two blocks", rig_write(&rig, 2 * PL_MIB, &byte, 1, &e));
    OK(rig_check(&rig, PL_REPAIR_LEAKS, &result, &e));
    FAILS(PL_E_CORRUPT, "two blocks", rig_zero(&rig, 0, PL_MIB, true, &e));
    OK(rig_check(&rig, PL_REPAIR_ALL, &result, &e));
    OK(rig_write(&rig, 2 * PL_MIB, &byte, 1, &e));
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void lost_room_is_found_and_given_back(void **state)
{
    struct rig rig = image(false);
    const uint64_t size = pl_storage_size(rig.st);
    struct pl_check_result result;

    (void)state;
    poke_le(rig.st, BAT_AT, 8, 0);                        /* its MiB has bytes */
    OK(pl_storage_resize(rig.st, size + 2 * PL_MIB, &e)); /* two at the end ... */
    poke_le(rig.st, size + 5, 8, 5);                      /* ... of which one has bytes */
    OK(rig_open(&rig, &e));
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.leaks, 2);
    assert_int_equal(result.corruptions, 0);
    OK(rig_check(&rig, PL_REPAIR_LEAKS, &result, &e));
    assert_int_equal(result.leaks, 0);
    assert_int_equal(result.leaks_fixed, 2);
    assert_int_equal(pl_storage_size(rig.st), size);
    OK(rig_finish(&rig, &e));
    OK(try_open(rig.st, false, &e));
    pl_storage_close(rig.st, NULL);
}

int main(void)
{
    struct CMUnitTest tests[4 + PL_COUNT(defects)] = {
        cmocka_unit_test(a_sound_image_is_told_as_such),
        cmocka_unit_test(two_blocks_in_one_place_part_without_loss),
        cmocka_unit_test(blocks_in_one_place_are_not_written_to),
        cmocka_unit_test(lost_room_is_found_and_given_back),
    };

    for (size_t i = 0; i < PL_COUNT(defects); i++)
        tests[4 + i] = (struct CMUnitTest){ .name = defects[i].name,
                                            .test_func = check_defect,
                                            .initial_state = (void *)&defects[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
