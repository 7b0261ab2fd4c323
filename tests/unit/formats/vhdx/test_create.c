/* New images: to the letter of the specification. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/formats/vhdx/edit.h"

static void everything_is_aligned_and_required(void **state)
{
    struct rig rig = new_rig("", 100 * PL_MIB, NULL, 0);
    static const unsigned flags[] = { 4, 6, 6, 6, 6 }; /* file parameters are not the disk's */

    (void)state;
    assert_int_equal(pl_storage_size(rig.st), DATA_AT);
    for (unsigned i = 0; i < 2; i++) {
        const uint64_t table = VHDX_REGION_TABLE_AT(i);

        assert_int_equal(peek_le(rig.st, table + 8, 4), 2);
        for (unsigned k = 0; k < 2; k++) {
            assert_int_equal(peek_le(rig.st, table + 16 + 32 * k + 16, 8) % PL_MIB, 0);
            assert_int_equal(peek_le(rig.st, table + 16 + 32 * k + 24, 4) % PL_MIB, 0);
            assert_int_equal(peek_le(rig.st, table + 16 + 32 * k + 28, 4), 1);
        }
    }
    assert_int_equal(peek_le(rig.st, METADATA_AT + 10, 2), PL_COUNT(flags));
    for (unsigned i = 0; i < PL_COUNT(flags); i++)
        assert_int_equal(peek_le(rig.st, METADATA_AT + 32 + 32 * i + 24, 4), flags[i]);
    pl_storage_close(rig.st, NULL);
}

static void the_creator_is_utf_16(void **state)
{
    struct rig rig = new_rig("", PL_MIB, NULL, 0);
    static const char wanted[] = "p\0l\0a\0t\0t\0e\0r\0\0";
    char creator[sizeof wanted];

    (void)state;
    OK(pl_storage_read(rig.st, 8, creator, sizeof creator, &e));
    assert_memory_equal(creator, wanted, sizeof wanted);
    pl_storage_close(rig.st, NULL);
}

static void both_headers_are_sound_and_the_log_is_empty(void **state)
{
    struct rig rig = new_rig("", PL_MIB, NULL, 0);
    struct pl_check_result result;

    (void)state;
    assert_int_equal(peek_le(rig.st, VHDX_HEADER_AT(0) + 8, 8), 1);
    assert_int_equal(peek_le(rig.st, VHDX_HEADER_AT(1) + 8, 8), 2);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(peek_le(rig.st, VHDX_HEADER_AT(i) + 48, 8), 0);
    OK(rig_open(&rig, &e));
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions + result.leaks, 0);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void a_fixed_image_has_all_its_blocks_in_order(void **state)
{
    struct rig rig = new_rig("subformat=fixed,block_size=2M", 5 * PL_MIB, NULL, 0);

    (void)state;
    assert_int_equal(pl_storage_size(rig.st), DATA_AT + 6 * PL_MIB);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(peek_le(rig.st, BAT_AT + 8 * i, 8),
                         (DATA_AT + i * 2 * PL_MIB) | VHDX_FULLY_PRESENT);
    assert_int_equal(peek_le(rig.st, METADATA_AT + 65536 + 4, 4), 1);
    pl_storage_close(rig.st, NULL);
}

/* With blocks of 256 MiB a chunk has 16 of them (sectors of 512 bytes). */
static void entries_of_sector_bitmaps_stand_between_those_of_chunks(void **state)
{
    struct rig rig = new_rig("block_state_zero=on,block_size=256M", 18 * 256 * PL_MIB, NULL, 0);

    (void)state;
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(peek_le(rig.st, BAT_AT + 8 * i, 8), i == 16 ? 0 : VHDX_ZERO);
    assert_int_equal(peek_le(rig.st, BAT_AT + 8 * 19, 8), 0);
    pl_storage_close(rig.st, NULL);
}

static void a_disk_of_64_tib_is_made(void **state)
{
    struct pl_storage *st;
    struct rig rig = { .driver = &pl_vhdx };
    struct pl_extent x;

    (void)state;
    OK(pl_memory_storage(NULL, 0, 64u << 20, &st, &e));
    rig.st = st;
    OK(rig_create(&rig, "block_size=16M", 64 * PL_TIB, &e));
    assert_int_equal(pl_storage_size(st), BAT_AT + 33 * PL_MIB);
    OK(rig_open(&rig, &e));
    assert_int_equal(rig.layer.size, 64 * PL_TIB);
    OK(pl_vhdx.map(rig.layer.state, 64 * PL_TIB - 512, 512, &x, &e));
    assert_int_equal(x.state, PL_PARENT);
    rig_close(&rig);
    pl_storage_close(st, NULL);
}

static void sizes_are_rounded_up_to_sectors(void **state)
{
    struct rig rig = new_rig("logical_sector_size=4096", 10001, NULL, 0);

    (void)state;
    OK(rig_open(&rig, &e));
    assert_int_equal(rig.layer.size, 12288);
    assert_int_equal(rig.layer.granule, 4096);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void the_same_image_twice_where_that_is_asked_for(void **state)
{
    uint8_t *bytes[2];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const struct pl_create_args args = { .file = memory(),
                                             .size = PL_GIB,
                                             .reproducible = true };

        OK(pl_vhdx.create(&args, &e));
        bytes[i] = malloc(DATA_AT);
        OK(pl_storage_read(args.file, 0, bytes[i], DATA_AT, &e));
        pl_storage_close(args.file, NULL);
    }
    assert_memory_equal(bytes[0], bytes[1], DATA_AT);
    free(bytes[0]);
    free(bytes[1]);
}

static const struct refusal {
    const char *name;
    const char *options;
    uint64_t size;
    bool parent;
    enum pl_kind kind;
    const char *text;
} refusals[] = {
    { "blocks of 3 MiB", "block_size=3M", PL_MIB, false, PL_E_INVALID, "power of two" },
    { "blocks of 512 KiB", "block_size=512k", PL_MIB, false, PL_E_INVALID, "power of two" },
    { "blocks of 512 MiB", "block_size=512M", PL_MIB, false, PL_E_INVALID, "power of two" },
    { "a log of 1000 bytes", "log_size=1000", PL_MIB, false, PL_E_INVALID, "MiB" },
    { "no log", "log_size=0", PL_MIB, false, PL_E_INVALID, "MiB" },
    { "a log of 4 GiB", "log_size=4G", PL_MIB, false, PL_E_INVALID, "MiB" },
    { "sectors of 1024 bytes", "logical_sector_size=1024", PL_MIB, false, PL_E_INVALID, "1024" },
    { "an unknown subformat", "subformat=thin", PL_MIB, false, PL_E_INVALID, "subformat" },
    { "an unknown option", "cluster_size=64k", PL_MIB, false, PL_E_INVALID, "cluster_size" },
    { "a disk of more than 64 TiB", "", 64 * PL_TIB + 512, false, PL_E_LIMIT, "64 TiB" },
    { "a fixed child", "subformat=fixed", PL_MIB, true, PL_E_INVALID, "parent" },
    { "a child that says zero everywhere", "block_state_zero=on", PL_MIB, true, PL_E_INVALID,
      "parent" },
    { "room ahead in a dynamic image", "preallocation=full", PL_MIB, false, PL_E_INVALID,
      "subformat=fixed" },
};

static void check_refusal(void **state)
{
    const struct refusal *r = *state;
    const uint8_t parent[512] = { 0 };
    struct rig rig = { .driver = &pl_vhdx, .st = memory(), .parent = r->parent ? parent : NULL };

    FAILS(r->kind, r->text, rig_create(&rig, r->options, r->size, &e));
    pl_storage_close(rig.st, NULL);
}

static void a_parent_of_another_format_is_refused(void **state)
{
    const struct pl_create_args raw = {
        .file = memory(), .size = PL_MIB, .parent.name = "a.raw", .parent.format = "raw"
    };
    const struct pl_create_args unknown = { .file = raw.file,
                                            .size = PL_MIB,
                                            .parent.name = "a.vhdx" };

    (void)state;
    FAILS(PL_E_UNSUPPORTED, "format raw", pl_vhdx.create(&raw, &e));
    FAILS(PL_E_INVALID, "identity", pl_vhdx.create(&unknown, &e));
    pl_storage_close(raw.file, NULL);
}

static void measure_tells_the_file_of_a_full_disk(void **state)
{
    const struct pl_measure_args args = { .size = 100 * PL_MIB, .data_bytes = 10 * PL_MIB };
    struct pl_measure_result result;

    (void)state;
    OK(pl_vhdx.measure(&args, &result, &e));
    assert_int_equal(result.required, DATA_AT + 10 * PL_MIB);
    assert_int_equal(result.fully_allocated, DATA_AT + 104 * PL_MIB);
}

int main(void)
{
    struct CMUnitTest tests[10 + PL_COUNT(refusals)] = {
        cmocka_unit_test(everything_is_aligned_and_required),
        cmocka_unit_test(the_creator_is_utf_16),
        cmocka_unit_test(both_headers_are_sound_and_the_log_is_empty),
        cmocka_unit_test(a_fixed_image_has_all_its_blocks_in_order),
        cmocka_unit_test(entries_of_sector_bitmaps_stand_between_those_of_chunks),
        cmocka_unit_test(a_disk_of_64_tib_is_made),
        cmocka_unit_test(sizes_are_rounded_up_to_sectors),
        cmocka_unit_test(the_same_image_twice_where_that_is_asked_for),
        cmocka_unit_test(a_parent_of_another_format_is_refused),
        cmocka_unit_test(measure_tells_the_file_of_a_full_disk),
    };

    for (size_t i = 0; i < PL_COUNT(refusals); i++)
        tests[10 + i] = (struct CMUnitTest){ .name = refusals[i].name,
                                             .test_func = check_refusal,
                                             .initial_state = (void *)&refusals[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
