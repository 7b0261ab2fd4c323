/* New images, what they would take, and other sizes for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/formats/vhd/vhd_images.h"

static int create(const char *text, uint64_t size, struct pl_err *e)
{
    struct pl_options *options = options_of(text);
    const struct pl_create_args args = { .file = memory(), .size = size, .options = options };
    const int r = pl_vhd.create(&args, e);

    pl_options_free(options);
    pl_storage_close(args.file, NULL);
    return r;
}

static const struct refusal {
    const char *name, *options;
    uint64_t size;
    enum pl_kind kind;
    const char *text;
} refusals[] = {
    { "more than 2040 GiB", "", 2040 * PL_GIB + 512, PL_E_LIMIT, "2040 GiB" },
    { "fixed, more than 2040 GiB", "subformat=fixed", 2041 * PL_GIB, PL_E_LIMIT, "2040 GiB" },
    { "2^63 bytes", "", PL_OFFSET_MAX, PL_E_LIMIT, "2040 GiB" },
    { "rounded over 2040 GiB", "align=7G", 2040 * PL_GIB, PL_E_LIMIT, "2040 GiB" },
    { "blocks too small for the size", "block_size=4k", 1024 * PL_GIB, PL_E_LIMIT, "too big for" },
    { "an entry for each of too many blocks", "block_size=64k", 1025 * PL_GIB, PL_E_LIMIT,
      "too big for" },
    { "a block size of 3 MiB", "block_size=3M", 512, PL_E_INVALID, "power of two" },
    { "a block size of 2 KiB", "block_size=2k", 512, PL_E_INVALID, "power of two" },
    { "a block size of 512 MiB", "block_size=512M", 512, PL_E_INVALID, "power of two" },
    { "an alignment of 1000", "align=1000", 512, PL_E_INVALID, "multiple of 512" },
    { "no alignment", "align=0", 512, PL_E_INVALID, "multiple of 512" },
    { "another subformat", "subformat=sparse", 512, PL_E_INVALID, "subformat" },
    { "two ways to round", "force_size=off,align=1M", 512, PL_E_INVALID, "exclude" },
};

static void refuses(void **state)
{
    const struct refusal *r = *state;

    FAILS(r->kind, r->text, create(r->options, r->size, &e));
}

static void the_same_arguments_give_the_same_file(void **state)
{
    uint8_t files[2][4096];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const struct pl_create_args args = { .file = memory(),
                                             .size = 1 << 20,
                                             .reproducible = true };

        OK(pl_vhd.create(&args, &e));
        OK(pl_storage_read_padded(args.file, 0, files[i], sizeof files[i], &e));
        pl_storage_close(args.file, NULL);
    }
    assert_memory_equal(files[0], files[1], sizeof files[0]);
}

static void two_images_have_two_ids(void **state)
{
    uint8_t ids[2][16];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct pl_storage *st = new_vhd("", 1 << 20, NULL);

        OK(pl_storage_read(st, 68, ids[i], 16, &e));
        pl_storage_close(st, NULL);
    }
    assert_memory_not_equal(ids[0], ids[1], 16);
}

static void an_empty_disk_has_no_blocks(void **state)
{
    struct rig rig = rig_of(new_vhd("", 0, NULL));

    (void)state;
    OK(rig_open(&rig, &e));
    assert_int_equal(rig.layer.size, 0);
    OK(pl_vhd.resize(rig.layer.state, 1 << 20, false, PL_PREALLOC_OFF, &e));
    rig.layer.size = 1 << 20;
    OK(rig_write(&rig, 1000, "x", 1, &e));
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void measure_says_what_a_convert_makes(void **state)
{
    static const struct {
        const char *options;
        uint64_t size, written;
    } rows[] = {
        { "", 6 << 20, 6 << 20 },
        { "", 6 << 20, 2 << 20 },
        { "block_size=4k", 1 << 20, 1 << 20 },
        { "block_size=4k", 1 << 20, 4096 },
        { "block_size=512k", 1 << 20, 0 },
        { "subformat=fixed", 1 << 20, 1 << 20 },
    };
    static uint8_t bytes[6 << 20];

    (void)state;
    memset(bytes, 1, sizeof bytes);
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct rig rig = rig_of(new_vhd(rows[i].options, rows[i].size, NULL));
        struct pl_options *options = options_of(rows[i].options);
        const struct pl_measure_args args = { .size = rows[i].size,
                                              .data_bytes = rows[i].written,
                                              .options = options };
        struct pl_measure_result result;

        OK(pl_vhd.measure(&args, &result, &e));
        OK(rig_open(&rig, &e));
        OK(rig_write(&rig, 0, bytes, rows[i].written, &e));
        OK(pl_vhd.flush(rig.layer.state, &e));
        rig_close(&rig);
        assert_int_equal(result.required, pl_storage_size(rig.st));
        if (rows[i].written == rows[i].size)
            assert_int_equal(result.fully_allocated, result.required);
        pl_options_free(options);
        pl_storage_close(rig.st, NULL);
    }
}

/* ---- resize ---- */

static void check_bytes(struct rig *rig, uint64_t at, uint64_t len, uint8_t wanted)
{
    PL_FREE uint8_t *bytes = malloc(len);

    OK(rig_read(rig, at, bytes, len, &e));
    for (uint64_t i = 0; i < len; i++)
        if (bytes[i] != wanted)
            fail_msg("byte 0x%llx is %u", (unsigned long long)(at + i), bytes[i]);
}

static void resize(struct rig *rig, uint64_t size)
{
    OK(pl_vhd.resize(rig->layer.state, size, true, PL_PREALLOC_OFF, &e));
    rig_close(rig);
    OK(rig_open(rig, &e));
    assert_int_equal(rig->layer.size, size);
}

/* 384 entries fill three sectors, with blocks right behind: the BAT must move. */
static void a_bat_without_room_moves(void **state)
{
    struct rig rig = rig_of(full_vhd("block_size=4k", 384 * 4096, 5));
    struct pl_check_result result;

    (void)state;
    OK(rig_open(&rig, &e));
    resize(&rig, 4096 * 4096);
    check_bytes(&rig, 0, 384 * 4096, 5);
    check_bytes(&rig, 384 * 4096, 100 * 4096, 0);
    OK(rig_write(&rig, 4095 * 4096, "x", 1, &e));
    OK(pl_vhd.flush(rig.layer.state, &e));
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions, 0);
    resize(&rig, 384 * 4096);
    check_bytes(&rig, 0, 384 * 4096, 5);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void what_was_cut_off_does_not_come_back(void **state)
{
    static const char *const options[] = { "block_size=4k", "subformat=fixed" };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(options); i++) {
        struct rig rig = rig_of(full_vhd(options[i], 65536, 5));

        OK(rig_open(&rig, &e));
        resize(&rig, 10240);
        check_bytes(&rig, 0, 10240, 5);
        assert_true(pl_storage_size(rig.st) < 40000);
        resize(&rig, 65536);
        check_bytes(&rig, 0, 10240, 5);
        check_bytes(&rig, 10240, 65536 - 10240, 0);
        rig_close(&rig);
        pl_storage_close(rig.st, NULL);
    }
}

static void requests_that_make_no_sense_are_refused(void **state)
{
    struct rig rig = rig_of(new_vhd("", 1 << 20, NULL));

    (void)state;
    OK(rig_open(&rig, &e));
    FAILS(PL_E_INVALID, "would lose",
          pl_vhd.resize(rig.layer.state, 512, false, PL_PREALLOC_OFF, &e));
    FAILS(PL_E_INVALID, "multiple of 512",
          pl_vhd.resize(rig.layer.state, (1 << 20) + 1, false, PL_PREALLOC_OFF, &e));
    FAILS(PL_E_LIMIT, "2040 GiB",
          pl_vhd.resize(rig.layer.state, 2041 * PL_GIB, false, PL_PREALLOC_OFF, &e));
    FAILS(PL_E_UNSUPPORTED, "makes no room",
          pl_vhd.resize(rig.layer.state, 2 << 20, false, PL_PREALLOC_FULL, &e));
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void a_geometry_becomes_an_exact_size(void **state)
{
    struct rig rig = rig_of(new_vhd("force_size=off", 6292992, NULL));

    (void)state;
    OK(rig_open(&rig, &e));
    assert_int_equal(rig.layer.size, 6301696);
    resize(&rig, 7340032);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void compacting_gives_back_what_no_block_has(void **state)
{
    struct rig rig = rig_of(full_vhd("block_size=4k", 655360, 5));
    const uint64_t before = pl_storage_size(rig.st);
    uint64_t freed;

    (void)state;
    OK(rig_open(&rig, &e));
    OK(pl_vhd.zero(rig.layer.state, 0, 327680, true, &e));
    OK(pl_vhd.compact(rig.layer.state, NULL, &freed, &e));
    assert_int_equal(before - pl_storage_size(rig.st), freed);
    assert_int_equal(freed, 80 * 8192);
    rig_close(&rig);
    OK(rig_open(&rig, &e));
    check_bytes(&rig, 0, 327680, 0);
    check_bytes(&rig, 327680, 327680, 5);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void compacting_a_child_drops_blocks_that_say_nothing(void **state)
{
    struct rig rig = rig_of(new_vhd("block_size=4k", 65536, "parent.vhd"));
    struct pl_place place;
    uint64_t freed, size;

    (void)state;
    OK(rig_open(&rig, &e));
    size = pl_storage_size(rig.st);
    OK(pl_vhd.allocate(rig.layer.state, 8192, 512, &place, &e)); /* and nothing is linked */
    OK(pl_vhd.flush(rig.layer.state, &e));
    assert_true(pl_storage_size(rig.st) > size);
    OK(pl_vhd.compact(rig.layer.state, NULL, &freed, &e));
    assert_int_equal(pl_storage_size(rig.st), size);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

int main(void)
{
    const struct CMUnitTest fixed[] = {
        cmocka_unit_test(the_same_arguments_give_the_same_file),
        cmocka_unit_test(two_images_have_two_ids),
        cmocka_unit_test(an_empty_disk_has_no_blocks),
        cmocka_unit_test(measure_says_what_a_convert_makes),
        cmocka_unit_test(a_bat_without_room_moves),
        cmocka_unit_test(what_was_cut_off_does_not_come_back),
        cmocka_unit_test(requests_that_make_no_sense_are_refused),
        cmocka_unit_test(a_geometry_becomes_an_exact_size),
        cmocka_unit_test(compacting_gives_back_what_no_block_has),
        cmocka_unit_test(compacting_a_child_drops_blocks_that_say_nothing),
    };
    struct CMUnitTest tests[PL_COUNT(refusals)];
    int failed = cmocka_run_group_tests_name("vhd create", fixed, NULL, NULL);

    for (size_t i = 0; i < PL_COUNT(refusals); i++)
        tests[i] = (struct CMUnitTest){ .name = refusals[i].name,
                                        .test_func = refuses,
                                        .initial_state = (void *)&refusals[i] };
    failed += _cmocka_run_group_tests("vhd refusals", tests, PL_COUNT(tests), NULL, NULL);
    return failed;
}
