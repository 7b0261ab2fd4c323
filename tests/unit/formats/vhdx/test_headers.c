/* Opening: headers, region tables, metadata, each with one field changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/formats/vhdx/edit.h"

#define SIZE (6 * PL_MIB)
#define ITEM(i) (METADATA_AT + 32 + 32 * (i)) /* file parameters, size, logical, physical, id */
#define VALUE(i) (METADATA_AT + 65536 + (i))
#define REGION(i) (16 + 32 * (i)) /* BAT, metadata */

enum where { HEADER, REGIONS, METADATA };

static const struct damage {
    const char *name;
    enum where where;
    uint64_t at; /* in the structure; in the file for metadata */
    unsigned width;
    uint64_t value;
    enum pl_kind kind; /* PL_OK: it opens */
    const char *text;
} damages[] = {
    { "another signature of the headers", HEADER, 0, 4, 0, PL_E_CORRUPT, "neither" },
    { "version 2", HEADER, 66, 2, 2, PL_E_UNSUPPORTED, "version 2" },
    { "version 0", HEADER, 66, 2, 0, PL_E_UNSUPPORTED, "version 0" },
    { "log version 1", HEADER, 64, 2, 1, PL_E_UNSUPPORTED, "log version 1" },
    { "a log of 1 MiB and a bit", HEADER, 68, 4, 0x100200, PL_E_CORRUPT, "whole MiB" },
    { "a log on the headers", HEADER, 72, 8, 0, PL_E_CORRUPT, "whole MiB" },
    { "a log that is not aligned", HEADER, 72, 8, 0x180000, PL_E_CORRUPT, "whole MiB" },
    { "a log past the end", HEADER, 72, 8, 1 << 30, PL_E_CORRUPT, "past the end" },
    { "a log longer than the file", HEADER, 68, 4, 0xfff00000, PL_E_CORRUPT, "past the end" },
    { "a log at the end of all", HEADER, 72, 8, UINT64_MAX << 20, PL_E_CORRUPT, "past the end" },
    { "a log on the BAT", HEADER, 72, 8, BAT_AT, PL_E_CORRUPT, "overlaps" },
    { "a log that is used and not there", HEADER, 48, 8, 1, PL_E_CORRUPT, "no complete sequence" },
    { "no log is fine for reading", HEADER, 68, 4, 0, PL_OK, "" },
    { "another signature of the region tables", REGIONS, 0, 4, 0, PL_E_CORRUPT, "neither" },
    { "2048 regions", REGIONS, 8, 4, 2048, PL_E_CORRUPT, "2048 entries" },
    { "2^32 - 1 regions", REGIONS, 8, 4, UINT32_MAX, PL_E_CORRUPT, "4294967295 entries" },
    { "one region", REGIONS, 8, 4, 1, PL_E_CORRUPT, "no metadata region" },
    { "an unknown region that is required", REGIONS, REGION(0), 4, 0x01020304, PL_E_UNSUPPORTED,
      "01020304-f623-4200-9d64-115e9bfd4a08" },
    { "the Required flag of known regions may be missing", REGIONS, REGION(0) + 28, 4, 0, PL_OK,
      "" },
    { "a BAT that is not aligned", REGIONS, REGION(0) + 16, 8, BAT_AT + 4096, PL_E_CORRUPT,
      "whole MiB" },
    { "a BAT on the headers", REGIONS, REGION(0) + 16, 8, 0, PL_E_CORRUPT, "whole MiB" },
    { "a BAT past the end", REGIONS, REGION(0) + 16, 8, PL_GIB, PL_E_CORRUPT, "past the end" },
    { "a BAT at the end of all", REGIONS, REGION(0) + 16, 8, UINT64_MAX << 20, PL_E_CORRUPT,
      "past the end" },
    { "a BAT of 4 GiB", REGIONS, REGION(0) + 24, 4, 0xfff00000, PL_E_CORRUPT, "past the end" },
    { "a BAT of nothing", REGIONS, REGION(0) + 24, 4, 0, PL_E_CORRUPT, "whole MiB" },
    { "a BAT on the metadata", REGIONS, REGION(0) + 16, 8, METADATA_AT, PL_E_CORRUPT, "overlaps" },
    { "metadata on the log", REGIONS, REGION(1) + 16, 8, LOG_AT, PL_E_CORRUPT, "overlaps" },
    { "another signature of the metadata", METADATA, METADATA_AT, 1, 0, PL_E_CORRUPT, "signature" },
    { "2048 items", METADATA, METADATA_AT + 10, 2, 2048, PL_E_CORRUPT, "2048 entries" },
    { "65535 items", METADATA, METADATA_AT + 10, 2, 65535, PL_E_CORRUPT, "65535 entries" },
    { "four items", METADATA, METADATA_AT + 10, 2, 4, PL_E_CORRUPT, "Virtual Disk ID" },
    { "an unknown item that is required", METADATA, ITEM(0), 4, 0x01020304, PL_E_UNSUPPORTED,
      "01020304-fa36-4d43-b3b6-33f0aa44e76b" },
    { "an item in the table", METADATA, ITEM(1) + 16, 4, 32, PL_E_CORRUPT, "not inside" },
    { "an item past its region", METADATA, ITEM(1) + 16, 4, PL_MIB - 4, PL_E_CORRUPT,
      "not inside" },
    { "an item at the end of all", METADATA, ITEM(1) + 16, 4, UINT32_MAX, PL_E_CORRUPT,
      "not inside" },
    { "an item that is too long", METADATA, ITEM(1) + 20, 4, 9, PL_E_CORRUPT, "9 bytes" },
    { "blocks of nothing", METADATA, VALUE(0), 4, 0, PL_E_CORRUPT, "block size of 0" },
    { "blocks of 512 KiB", METADATA, VALUE(0), 4, 512 << 10, PL_E_CORRUPT, "block size" },
    { "blocks of 3 MiB", METADATA, VALUE(0), 4, 3 << 20, PL_E_CORRUPT, "block size" },
    { "blocks of 512 MiB", METADATA, VALUE(0), 4, 512 << 20, PL_E_CORRUPT, "block size" },
    { "a parent without a locator", METADATA, VALUE(4), 4, 2, PL_E_CORRUPT, "Parent Locator" },
    { "a disk of 2^63 bytes", METADATA, VALUE(8), 8, UINT64_C(1) << 63, PL_E_LIMIT, "64 TiB" },
    { "a disk of 64 TiB and a sector", METADATA, VALUE(8), 8, 64 * PL_TIB + 512, PL_E_LIMIT,
      "64 TiB" },
    { "a disk that the BAT has no room for", METADATA, VALUE(8), 8, 64 * PL_TIB, PL_E_CORRUPT,
      "room for 131072" },
    { "a disk of half a sector", METADATA, VALUE(8), 8, 256, PL_E_CORRUPT, "whole number" },
    { "a disk of nothing", METADATA, VALUE(8), 8, 0, PL_OK, "" },
    { "sectors of nothing", METADATA, VALUE(16), 4, 0, PL_E_CORRUPT, "logical sectors of 0" },
    { "sectors of 1024 bytes", METADATA, VALUE(16), 4, 1024, PL_E_CORRUPT, "1024" },
    { "physical sectors of 8192 bytes", METADATA, VALUE(20), 4, 8192, PL_E_CORRUPT, "8192" },
};

static void check_damage(void **state)
{
    const struct damage *d = *state;
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);

    if (d->where == HEADER)
        poke_headers(rig.st, d->at, d->width, d->value);
    else if (d->where == REGIONS)
        poke_regions(rig.st, d->at, d->width, d->value);
    else
        poke_le(rig.st, d->at, d->width, d->value);
    if (d->kind == PL_OK)
        OK(try_open(rig.st, false, &e));
    else
        FAILS(d->kind, d->text, try_open(rig.st, false, &e));
    pl_storage_close(rig.st, NULL);
}

static void a_file_of_another_kind_is_no_vhdx(void **state)
{
    struct pl_storage *st = memory();

    (void)state;
    FAILS(PL_E_FORMAT, "not a VHDX file", try_open(st, false, &e));
    pl_storage_close(st, NULL);
}

static void a_damaged_copy_is_no_matter_and_check_mends_it(void **state)
{
    static const uint64_t places[] = { VHDX_HEADER_AT(0), VHDX_HEADER_AT(1),
                                       VHDX_REGION_TABLE_AT(0), VHDX_REGION_TABLE_AT(1) };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(places); i++) {
        struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);
        struct pl_check_result result;

        poke_le(rig.st, places[i] + 100, 4, 0x55555555);
        OK(rig_open(&rig, &e));
        OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
        assert_int_equal(result.corruptions, 1);
        OK(rig_check(&rig, PL_REPAIR_ALL, &result, &e));
        assert_int_equal(result.corruptions, 0);
        assert_int_equal(result.corruptions_fixed, 1);
        OK(rig_finish(&rig, &e));
        OK(rig_open(&rig, &e));
        OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
        assert_int_equal(result.corruptions, 0);
        rig_close(&rig);
        pl_storage_close(rig.st, NULL);
    }
}

static void the_layout_tables_hold_together(void **state)
{
    (void)state;
    assert_true(pl_fields_apart(vhdx_header_fields));
    assert_true(pl_fields_apart(vhdx_region_entry_fields));
    assert_true(pl_fields_apart(vhdx_log_entry_fields));
    assert_true(pl_fields_apart(vhdx_log_descriptor_fields));
    assert_true(pl_fields_apart(vhdx_metadata_entry_fields));
    assert_int_equal(pl_fields_end(vhdx_header_fields), 80);
    assert_int_equal(pl_fields_end(vhdx_region_entry_fields), VHDX_REGION_ENTRY_BYTES);
    assert_int_equal(pl_fields_end(vhdx_log_entry_fields), VHDX_LOG_ENTRY_HEADER_BYTES);
    assert_int_equal(pl_fields_end(vhdx_log_descriptor_fields), VHDX_LOG_DESCRIPTOR_BYTES);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(damages) + 3] = {
        cmocka_unit_test(a_file_of_another_kind_is_no_vhdx),
        cmocka_unit_test(a_damaged_copy_is_no_matter_and_check_mends_it),
        cmocka_unit_test(the_layout_tables_hold_together),
    };

    for (size_t i = 0; i < PL_COUNT(damages); i++)
        tests[3 + i] = (struct CMUnitTest){ .name = damages[i].name,
                                            .test_func = check_damage,
                                            .initial_state = (void *)&damages[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
