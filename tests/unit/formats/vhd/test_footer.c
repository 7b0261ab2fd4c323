/* Which footer counts, what a file is, and what size the disk has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/formats/vhd/vhd_images.h"

static uint64_t size_of(struct pl_storage *st)
{
    struct pl_layer layer;

    OK(pl_vhd.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    close_layer(&pl_vhd, &layer);
    return layer.size;
}

static void tables_have_no_overlaps(void **state)
{
    (void)state;
    assert_true(pl_fields_apart(vhd_footer_fields));
    assert_true(pl_fields_apart(vhd_header_fields));
    assert_true(pl_fields_apart(vhd_locator_fields));
    assert_int_equal(pl_fields_end(vhd_footer_fields), 85);
    assert_int_equal(pl_fields_end(vhd_header_fields), VHD_LOCATORS_AT);
    assert_int_equal(pl_fields_end(vhd_locator_fields), VHD_LOCATOR_BYTES);
}

/* Geometries that Windows, VirtualBox and qemu-img wrote for those sizes. */
static void geometries_are_those_of_other_writers(void **state)
{
    static const struct {
        uint64_t size;
        unsigned cylinders, heads, track;
    } rows[] = {
        { 4194304, 120, 4, 17 },
        { 6292992, 180, 4, 17 },
        { 10485760, 301, 4, 17 },
        { UINT64_C(2147483648), 4161, 16, 63 },
        { UINT64_C(136365211648), 65278, 16, 255 },
        { 2040 * PL_GIB, 65535, 16, 255 },
    };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct vhd_footer f;

        vhd_set_geometry(&f, rows[i].size);
        assert_int_equal(f.cylinders, rows[i].cylinders);
        assert_int_equal(f.heads, rows[i].heads);
        assert_int_equal(f.sectors_per_track, rows[i].track);
    }
}

/* 6292992 bytes have a geometry of 6266880. */
static void the_creator_says_what_the_size_is(void **state)
{
    static const struct {
        char creator[5];
        uint64_t size;
    } rows[] = {
        { "vpc ", 6266880 }, { "vs  ", 6266880 }, { "qemu", 6266880 }, { "qem2", 6292992 },
        { "win ", 6292992 }, { "d2v", 6292992 },  { "tap", 6292992 },  { "CXS ", 6292992 },
        { "vbox", 6292992 }, { "????", 6292992 },
    };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct pl_storage *st = new_vhd("", 6292992, NULL);

        poke_footer(st, 28, 4, load_be32(rows[i].creator));
        assert_int_equal(size_of(st), rows[i].size);
        pl_storage_close(st, NULL);
    }
}

static void the_largest_geometry_says_nothing(void **state)
{
    struct pl_storage *st = new_vhd("", 6292992, NULL);

    (void)state;
    poke_footer(st, 28, 4, load_be32("qemu"));
    poke_footer(st, 56, 4, 0xffff10ff);
    assert_int_equal(size_of(st), 6292992);
    poke_footer(st, 56, 4, 0);
    assert_int_equal(size_of(st), 6292992);
    pl_storage_close(st, NULL);
}

static void a_size_inside_a_sector_is_cut(void **state)
{
    struct pl_storage *st = new_vhd("", 6292992, NULL);

    (void)state;
    poke_footer(st, 48, 8, 1500);
    assert_int_equal(size_of(st), 1024);
    pl_storage_close(st, NULL);
}

static const struct defect {
    const char *name;
    unsigned at, width;
    uint64_t value;
    bool header;
    enum pl_kind kind;
    const char *text;
} defects[] = {
    { "an unknown disk type", 60, 4, 7, false, PL_E_UNSUPPORTED, "disk_type 7" },
    { "a footer of version 2", 12, 4, 0x20000, false, PL_E_UNSUPPORTED, "file_format_version" },
    { "a header past the end", 16, 8, UINT64_C(1) << 40, false, PL_E_CORRUPT, "past the end" },
    { "a header at the end of numbers", 16, 8, UINT64_MAX, false, PL_E_CORRUPT, "past the end" },
    { "a size of 2^63", 48, 8, UINT64_C(1) << 63, false, PL_E_LIMIT, "too big" },
    { "a size that the BAT does not cover", 48, 8, 1 << 30, false, PL_E_CORRUPT, "too few" },
    { "another cookie in the header", 0, 4, 0, true, PL_E_CORRUPT, "cxsparse" },
    { "a header of version 2", 24, 4, 0x20000, true, PL_E_UNSUPPORTED, "header_version" },
    { "a block size of 0", 32, 4, 0, true, PL_E_CORRUPT, "block_size 0" },
    { "a block size of 3 MiB", 32, 4, 3 << 20, true, PL_E_CORRUPT, "power of two" },
    { "a block size of 2 GiB", 32, 4, UINT32_C(1) << 31, true, PL_E_CORRUPT, "power of two" },
    { "a BAT of 2^32 entries", 28, 4, 0xffffffff, true, PL_E_LIMIT, "max_table_entries" },
    { "a BAT of 2^24 entries", 28, 4, 1 << 24, true, PL_E_CORRUPT, "past the end" },
    { "a BAT past the end", 16, 8, UINT64_C(1) << 45, true, PL_E_CORRUPT, "past the end" },
    { "a BAT over the header", 16, 8, 1000, true, PL_E_CORRUPT, "overlaps" },
    { "a BAT over the copy of the footer", 16, 8, 6, true, PL_E_CORRUPT, "overlaps" },
};

static void refuses(void **state)
{
    const struct defect *d = *state;
    struct pl_storage *st = new_vhd("", 6292992, NULL);
    struct pl_layer layer = { 0 };

    (d->header ? poke_header : poke_footer)(st, d->at, d->width, d->value);
    FAILS(d->kind, d->text, pl_vhd.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    pl_storage_close(st, NULL);
}

static void count_warning(void *ctx, const char *message)
{
    (void)message;
    ++*(unsigned *)ctx;
}

/* Opens, and counts the warnings. */
static unsigned warnings_of(struct pl_storage *st)
{
    unsigned count = 0;
    const struct pl_report report = { .ctx = &count, .warn = count_warning };
    const struct pl_open_args args = { .file = st, .report = &report };
    struct pl_layer layer;

    OK(pl_vhd.open(&args, &layer, &e));
    close_layer(&pl_vhd, &layer);
    return count;
}

static void a_damaged_footer_is_recovered_from_its_copy(void **state)
{
    struct pl_storage *st = new_vhd("", 6292992, NULL);
    const uint64_t end = pl_storage_size(st) - VHD_FOOTER_BYTES;

    (void)state;
    assert_int_equal(warnings_of(st), 0);
    poke(st, end + 48, 8, 512);
    assert_int_equal(warnings_of(st), 1);
    assert_int_equal(size_of(st), 6292992);
    OK(pl_storage_resize(st, end, &e));
    assert_int_equal(warnings_of(st), 1);
    assert_int_equal(size_of(st), 6292992);
    pl_storage_close(st, NULL);
}

/* What lies at the end of a file that lost its footer may be the guest's. */
static void a_footer_of_another_disk_does_not_count(void **state)
{
    struct pl_storage *st = new_vhd("", 6292992, NULL);
    const uint64_t end = pl_storage_size(st) - VHD_FOOTER_BYTES;

    (void)state;
    poke(st, end + 48, 8, 512);
    poke(st, end + 68, 4, 0x12345678);
    seal(st, end, VHD_FOOTER_BYTES, VHD_CHECKSUM_AT);
    assert_int_equal(size_of(st), 6292992);
    pl_storage_close(st, NULL);
}

/* The first sector of a fixed disk is the guest's. */
static void a_footer_that_a_guest_planted_does_not_count(void **state)
{
    struct pl_storage *fixed = new_vhd("subformat=fixed", 65536, NULL);
    struct pl_storage *other = new_vhd("", 1 << 20, NULL);
    uint8_t raw[VHD_FOOTER_BYTES];

    (void)state;
    OK(pl_storage_read(other, 0, raw, sizeof raw, &e));
    OK(pl_storage_write(fixed, 0, raw, sizeof raw, &e));
    assert_int_equal(size_of(fixed), 65536);
    pl_storage_close(fixed, NULL);
    pl_storage_close(other, NULL);
}

static void a_fixed_disk_must_be_whole(void **state)
{
    struct pl_storage *st = new_vhd("subformat=fixed", 65536, NULL);
    struct pl_layer layer = { 0 };

    (void)state;
    poke_footer(st, 48, 8, 65536 + 512);
    FAILS(PL_E_CORRUPT, "only 65536",
          pl_vhd.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    pl_storage_close(st, NULL);
}

static void any_bytes_are_no_vhd(void **state)
{
    struct pl_storage *st = memory();
    struct pl_layer layer = { 0 };

    (void)state;
    FAILS(PL_E_FORMAT, "not a VHD", pl_vhd.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    OK(pl_storage_resize(st, 4096, &e));
    FAILS(PL_E_FORMAT, "not a VHD", pl_vhd.open(&(struct pl_open_args){ .file = st }, &layer, &e));
    pl_storage_close(st, NULL);
}

static void a_name_makes_a_vhd_of_a_footer(void **state)
{
    static const struct {
        const char *name;
        bool mine;
    } rows[] = { { "a.vhd", true },  { "A.VHD", true }, { "a.vpc", true }, { "a.avhd", true },
                 { "a.raw", false }, { "vhd", false },  { "", false } };
    uint8_t head[4096] = { 0 }, tail[512] = "xconectix";

    (void)state;
    for (unsigned skip = 0; skip < 2; skip++)
        for (size_t i = 0; i < PL_COUNT(rows); i++) {
            const struct pl_probe probe = { .head = head,
                                            .len = sizeof head,
                                            .tail = skip ? tail + 1 : tail,
                                            .file_size = 8192,
                                            .name = rows[i].name };

            assert_int_equal(pl_vhd.probe(&probe), rows[i].mine);
            assert_true(pl_vhd.perhaps(&probe));
        }
    memcpy(head, "conectix", 8);
    assert_true(pl_vhd.probe(&(struct pl_probe){ .head = head, .len = 4096, .name = "a.img" }));
    assert_false(pl_vhd.perhaps(&(struct pl_probe){ .head = head, .len = 4096, .name = "" }));
}

int main(void)
{
    const struct CMUnitTest fixed[] = {
        cmocka_unit_test(tables_have_no_overlaps),
        cmocka_unit_test(geometries_are_those_of_other_writers),
        cmocka_unit_test(the_creator_says_what_the_size_is),
        cmocka_unit_test(the_largest_geometry_says_nothing),
        cmocka_unit_test(a_size_inside_a_sector_is_cut),
        cmocka_unit_test(a_damaged_footer_is_recovered_from_its_copy),
        cmocka_unit_test(a_footer_of_another_disk_does_not_count),
        cmocka_unit_test(a_footer_that_a_guest_planted_does_not_count),
        cmocka_unit_test(a_fixed_disk_must_be_whole),
        cmocka_unit_test(any_bytes_are_no_vhd),
        cmocka_unit_test(a_name_makes_a_vhd_of_a_footer),
    };
    struct CMUnitTest rows[PL_COUNT(defects)];
    int failed = cmocka_run_group_tests_name("vhd footer", fixed, NULL, NULL);

    for (size_t i = 0; i < PL_COUNT(defects); i++)
        rows[i] = (struct CMUnitTest){ .name = defects[i].name,
                                       .test_func = refuses,
                                       .initial_state = (void *)&defects[i] };
    failed += _cmocka_run_group_tests("vhd defects", rows, PL_COUNT(rows), NULL, NULL);
    return failed;
}
