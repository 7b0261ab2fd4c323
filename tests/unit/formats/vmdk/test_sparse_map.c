#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>

#include "core/storage/file.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/unit/formats/vmdk/extents.h"

#define SECTORS (GRAIN / 512)
#define AT(off) ((uint32_t)((off) / 512))
#define FILE_SIZE (DATA + 16 * GRAIN)

static struct pl_storage *good(void)
{
    struct pl_storage *st = new_hosted(SPAN - GRAIN + 512);

    OK(pl_storage_resize(st, FILE_SIZE, &e));
    return st;
}

static const struct look {
    const char *name;
    uint32_t entry[4]; /* of the first grains; the last grain of the disk has entry [3] too */
    uint32_t flags;    /* 0: those of a plain extent */
    uint64_t at;
    enum pl_state state;
    uint64_t len, off;
    const char *text; /* null: it works */
} looks[] = {
    { "no entry is the parent's", { 0, 0, AT(DATA) }, 0, 0, PL_PARENT, 2 * GRAIN, 0, NULL },
    { "in the middle of a grain", { 0, AT(DATA) }, 0, 100, PL_PARENT, GRAIN - 100, 0, NULL },
    { "grains that follow each other are one run",
      { AT(DATA), AT(DATA + GRAIN), AT(DATA) },
      0,
      512,
      PL_DATA,
      2 * GRAIN - 512,
      DATA + 512,
      NULL },
    { "a gap in the file ends a run",
      { AT(DATA), AT(DATA + 2 * GRAIN) },
      0,
      0,
      PL_DATA,
      GRAIN,
      DATA,
      NULL },
    { "zeroed grains are zeros", { 1, 1, 0 }, 7, 0, PL_ZERO, 2 * GRAIN, 0, NULL },
    { "an entry of 1 without the flag is no place",
      { 1 },
      0,
      0,
      PL_DATA,
      GRAIN,
      512,
      NULL }, /* no descriptor there, so it may be a grain: check tells that tables are there */
    { "a grain at the end of the file", { AT(FILE_SIZE) }, 0, 0, 0, 0, 0, "past the end" },
    { "a grain that is cut off", { AT(FILE_SIZE - GRAIN + 512) }, 0, 0, 0, 0, 0, "past the end" },
    { "the disk's last grain needs no more than the disk has",
      { 0, 0, 0, AT(FILE_SIZE - 512) },
      0,
      SPAN - GRAIN,
      PL_DATA,
      512,
      FILE_SIZE - 512,
      NULL },
    { "a grain at the end of all", { UINT32_MAX }, 0, 0, 0, 0, 0, "past the end" },
};

static void a_run_is_found(void **state)
{
    const struct look *l = *state;
    struct pl_storage *st = good();
    const uint64_t len = SPAN - GRAIN + 512 - l->at;
    struct pl_extent x;

    for (unsigned i = 0; i < 4; i++)
        poke_le(st, GT + 4 * i, 4, l->entry[i]);
    poke_le(st, GT + 4 * 511, 4, l->entry[3]);
    if (l->flags)
        poke_le(st, 8, 4, l->flags);
    if (l->text) {
        FAILS(PL_E_CORRUPT, l->text, map_once(st, l->at, len, &x, &e));
    } else {
        OK(map_once(st, l->at, len, &x, &e));
        assert_int_equal(x.state, l->state);
        assert_int_equal(x.len, l->len);
        if (l->state == PL_DATA)
            assert_int_equal(x.off, l->off);
    }
    pl_storage_close(st, NULL);
}

static void a_grain_inside_the_descriptor_is_refused(void **state)
{
    struct pl_storage *st = new_extent(
        (struct vmdk_sparse_new){ .size = GRAIN, .grain_size = GRAIN, .descriptor = "#" });
    const uint64_t gd = 512 * peek_le(st, 56, 8);
    struct pl_extent x;

    (void)state;
    OK(map_once(st, 0, GRAIN, &x, &e));
    poke_le(st, 512 * peek_le(st, gd, 4), 4, 2);
    FAILS(PL_E_CORRUPT, "header or descriptor", map_once(st, 0, GRAIN, &x, &e));
    poke_le(st, gd, 4, 2);
    poke_le(st, 8, 4, 1); /* no redundant one to help */
    FAILS(PL_E_CORRUPT, "header or descriptor", map_once(st, 0, GRAIN, &x, &e));
    pl_storage_close(st, NULL);
}

/* ---- tables that are missing or damaged ---- */

static void missing_tables_are_one_run(void **state)
{
    struct pl_storage *st = new_hosted(10 * (uint64_t)SPAN);
    const uint64_t gd = 512 * peek_le(st, 56, 8);
    struct pl_extent x;

    (void)state;
    for (unsigned i = 2; i < 7; i++)
        poke_le(st, gd + 4 * i, 4, 0);
    poke_le(st, 512 * peek_le(st, gd + 4 * 7, 4) + 4, 4, AT(DATA));
    OK(map_once(st, 3 * SPAN + 5, 7 * SPAN - 5, &x, &e));
    assert_int_equal(x.state, PL_PARENT);
    assert_int_equal(x.len, 4 * SPAN - 5);
    OK(map_once(st, 3 * SPAN + 5, 1000, &x, &e));
    assert_int_equal(x.len, 1000);
    OK(map_once(st, SPAN + GRAIN, 9 * SPAN - GRAIN, &x, &e));
    assert_int_equal(x.len, 6 * SPAN - GRAIN);
    pl_storage_close(st, NULL);
}

static int warnings;

static void note_warning(void *ctx, const char *message)
{
    (void)ctx;
    assert_non_null(strstr(message, "redundant"));
    warnings++;
}

/* An extent whose first grain is at DATA. */
static struct pl_storage *one_grain(void)
{
    struct pl_storage *st = good();

    poke_le(st, GT, 4, AT(DATA));
    poke_le(st, RGT, 4, AT(DATA));
    return st;
}

static const struct primary_damage {
    const char *name;
    uint64_t at;
    unsigned width;
    uint64_t value;
} primary_damages[] = {
    { "a directory past the end", 56, 8, 1 << 30 },
    { "a directory at 2^64 - 2 sectors", 56, 8, UINT64_MAX - 1 },
    { "a table past the end", GD, 4, 1 << 30 },
    { "a table that ends past the end", GD, 4, AT(FILE_SIZE - 512) },
};

static void the_redundant_copy_stands_in(void **state)
{
    const struct primary_damage *d = *state;
    const struct pl_report report = { .warn = note_warning };
    struct rig rig = {
        .driver = &extent_driver, .st = one_grain(), .read_only = true, .report = &report
    };
    struct pl_extent x;

    warnings = 0;
    poke_le(rig.st, d->at, d->width, d->value);
    OK(rig_open(&rig, &e));
    for (unsigned i = 0; i < 3; i++) {
        OK(extent_driver.map(rig.layer.state, 0, rig.layer.size, &x, &e));
        assert_int_equal(x.state, PL_DATA);
        assert_int_equal(x.off, DATA);
    }
    assert_int_equal(warnings, 1);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
}

static void a_table_that_cannot_be_read_has_a_second_copy(void **state)
{
    const struct pl_report report = { .warn = note_warning };
    struct rig rig = { .driver = &extent_driver, .read_only = true, .report = &report };
    struct pl_storage *made = one_grain();
    uint8_t bytes[FILE_SIZE];
    struct pl_extent x;

    (void)state;
    OK(pl_storage_read(made, 0, bytes, sizeof bytes, &e));
    pl_storage_close(made, NULL);
    for (unsigned n = 0; n < 2; n++) { /* the directory, the table */
        warnings = 0;
        OK(pl_flaky_storage(bytes, sizeof bytes, MEMORY_LIMIT, &rig.st, &e));
        OK(rig_open(&rig, &e));
        pl_flaky_fail_read_at(rig.st, pl_flaky_read_count(rig.st) + n, EIO, false);
        OK(extent_driver.map(rig.layer.state, 0, rig.layer.size, &x, &e));
        assert_int_equal(x.off, DATA);
        assert_int_equal(warnings, 1);
        rig_close(&rig);
        OK(rig_open(&rig, &e));
        pl_flaky_fail_read_at(rig.st, pl_flaky_read_count(rig.st) + n, EIO, true);
        FAILS(PL_E_SYS, "", extent_driver.map(rig.layer.state, 0, rig.layer.size, &x, &e));
        rig_close(&rig);
        pl_storage_close(rig.st, NULL);
    }
}

static void an_extent_of_16_tib_without_grains_is_few_runs(void **state)
{
    char *path = test_tmp("huge.vmdk");
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    const struct vmdk_sparse_new what = { .size = 16 * PL_TIB, .grain_size = 65536 };
    struct rig rig = { .driver = &extent_driver };
    unsigned runs = 0;

    (void)state;
    assert_true(fd >= 0);
    OK(pl_file_storage(fd, path, true, &rig.st, &e));
    OK(vmdk_sparse_create(rig.st, &what, &e));
    assert_int_equal(pl_storage_size(rig.st), vmdk_sparse_overhead(&what));
    assert_true(pl_storage_disk_usage(rig.st) < 8 * PL_MIB);
    OK(rig_open(&rig, &e));
    write_noise(&rig, 8 * PL_TIB + 77, 1000, 1);
    flush_extent(&rig);
    for (uint64_t at = 0; at < rig.layer.size; runs++) {
        struct pl_extent x;

        OK(extent_driver.map(rig.layer.state, at, rig.layer.size - at, &x, &e));
        assert_int_equal(x.state, at == 8 * PL_TIB ? PL_DATA : PL_PARENT);
        at += x.len;
    }
    assert_true(runs < 2000);
    has_noise(&rig, 8 * PL_TIB + 77, 1000, 1);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
    free(path);
}

/* ---- compressed grains ---- */

/* One grain, the second, of 100 compressed bytes at DATA. */
static struct pl_storage *packed(bool markers)
{
    struct pl_storage *st = good();

    poke_le(st, 8, 4, markers ? 0x30001 : 0x10001);
    poke_le(st, 77, 2, 1);
    poke_le(st, GT + 4, 4, AT(DATA));
    poke_le(st, DATA, 8, markers ? SECTORS : 100);
    if (markers)
        poke_le(st, DATA + 8, 4, 100);
    return st;
}

static void compressed_grains_have_their_exact_length(void **state)
{
    struct pl_extent x;

    (void)state;
    for (unsigned markers = 0; markers < 2; markers++) {
        struct pl_storage *st = packed(markers);

        OK(map_once(st, GRAIN + 10, 2 * GRAIN, &x, &e));
        assert_int_equal(x.state, PL_PACKED);
        assert_int_equal(x.len, GRAIN - 10);
        assert_int_equal(x.unit_at, GRAIN);
        assert_int_equal(x.unit_len, GRAIN);
        assert_int_equal(x.off, DATA + (markers ? 12 : 4));
        assert_int_equal(x.packed_len, 100);
        pl_storage_close(st, NULL);
    }
}

static void the_last_compressed_grain_unpacks_to_what_the_disk_has(void **state)
{
    struct pl_storage *st = packed(false);
    struct pl_extent x;

    (void)state;
    poke_le(st, GT + 4 * 511, 4, AT(DATA));
    OK(map_once(st, SPAN - GRAIN, 512, &x, &e));
    assert_int_equal(x.state, PL_PACKED);
    assert_int_equal(x.unit_len, 512);
    pl_storage_close(st, NULL);
}

static const struct packed_damage {
    const char *name;
    uint64_t at;
    unsigned width;
    uint64_t value;
    const char *text;
} packed_damages[] = {
    { "a marker of another grain", DATA, 8, 2 * SECTORS, "sector 16 instead of 8" },
    { "no bytes", DATA + 8, 4, 0, "0 bytes" },
    { "more bytes than the file has", DATA + 8, 4, 16 * GRAIN, "65536 bytes" },
    { "more bytes than a grain packs to", DATA + 8, 4, 3 * GRAIN, "12288 bytes" },
    { "a marker at the end of the file", GT + 4, 4, AT(FILE_SIZE), "past the end" },
};

static void a_compressed_grain_is_judged(void **state)
{
    const struct packed_damage *d = *state;
    struct pl_storage *st = packed(true);
    struct pl_extent x;

    poke_le(st, d->at, d->width, d->value);
    FAILS(PL_E_CORRUPT, d->text, map_once(st, GRAIN, GRAIN, &x, &e));
    pl_storage_close(st, NULL);
}

int main(void)
{
    const struct CMUnitTest plain[] = {
        cmocka_unit_test(a_grain_inside_the_descriptor_is_refused),
        cmocka_unit_test(missing_tables_are_one_run),
        cmocka_unit_test(a_table_that_cannot_be_read_has_a_second_copy),
        cmocka_unit_test(an_extent_of_16_tib_without_grains_is_few_runs),
        cmocka_unit_test(compressed_grains_have_their_exact_length),
        cmocka_unit_test(the_last_compressed_grain_unpacks_to_what_the_disk_has),
    };
    struct CMUnitTest tests[PL_COUNT(plain) + PL_COUNT(looks) + PL_COUNT(primary_damages) +
                            PL_COUNT(packed_damages)];
    size_t n = PL_COUNT(plain);

    memcpy(tests, plain, sizeof plain);
    for (size_t i = 0; i < PL_COUNT(looks); i++)
        tests[n++] = (struct CMUnitTest){ .name = looks[i].name,
                                          .test_func = a_run_is_found,
                                          .initial_state = (void *)&looks[i] };
    for (size_t i = 0; i < PL_COUNT(primary_damages); i++)
        tests[n++] = (struct CMUnitTest){ .name = primary_damages[i].name,
                                          .test_func = the_redundant_copy_stands_in,
                                          .initial_state = (void *)&primary_damages[i] };
    for (size_t i = 0; i < PL_COUNT(packed_damages); i++)
        tests[n++] = (struct CMUnitTest){ .name = packed_damages[i].name,
                                          .test_func = a_compressed_grain_is_judged,
                                          .initial_state = (void *)&packed_damages[i] };
    return _cmocka_run_group_tests("test_sparse_map", tests, n, NULL, NULL);
}
