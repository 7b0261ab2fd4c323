/* Growing disks of flat extents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "tests/support/flaky.h"
#include "tests/support/images.h"
#include "tests/support/vmdk_disk_rig.h"

#define HEAD "# Disk DescriptorFile\nversion=1\nCID=0a1b2c3d\nparentCID=ffffffff\n"
#define WRITE ((struct pl_open_args){ .writable = true })

static void describe(struct vmdk_rig *rig, const char *lines)
{
    char text[4000];

    vmdk_rig_init(rig);
    snprintf(text, sizeof text, HEAD "%s", lines);
    vmdk_rig_text(rig, text);
    vmdk_rig_add(rig, "a", 8 * 512);
    vmdk_rig_add(rig, "b", 8 * 512);
}

static int resize(struct vmdk_rig *rig, uint64_t size, struct pl_err *e)
{
    return pl_vmdk.resize(rig->layer.state, size, true, PL_PREALLOC_OFF, e);
}

/* Opens, grows, and opens again: what counts is what is on disk. */
static void grow(struct vmdk_rig *rig, uint64_t size)
{
    OK(vmdk_rig_open(rig, WRITE, &e));
    OK(resize(rig, size, &e));
    vmdk_rig_close(rig);
    OK(vmdk_rig_open(rig, WRITE, &e));
    assert_int_equal(rig->layer.size, size);
}

static void the_last_extent_grows(void **state)
{
    struct vmdk_rig rig;
    uint8_t bytes[512];
    char *text;

    (void)state;
    describe(&rig, "\n# Extent description\nRW 8 FLAT \"a\" 0\nRW 7 FLAT \"b\" 0\n\n#DDB\n"
                   "ddb.geometry.cylinders = \"1\"\nddb.geometry.heads = \"16\"\n"
                   "ddb.geometry.sectors = \"63\"\n");
    memset(bytes, 0xbb, sizeof bytes);
    for (unsigned i = 0; i < 8; i++)
        OK(pl_storage_write(vmdk_rig_file(&rig, "b"), i * 512, bytes, sizeof bytes, &e));
    grow(&rig, 5000 * 512);
    OK(vmdk_rig_read(&rig, 14 * 512, bytes, 512, &e));
    assert_int_equal(bytes[0], 0xbb);
    OK(vmdk_rig_read(&rig, 15 * 512, bytes, 512, &e)); /* was behind the end */
    assert_int_equal(bytes[0], 0);
    assert_int_equal(pl_storage_size(vmdk_rig_file(&rig, "b")), 4992 * 512);
    text = vmdk_rig_read_text(&rig);
    assert_non_null(strstr(text, "\nRW 8 FLAT \"a\" 0\nRW 4992 FLAT \"b\" 0\n"));
    assert_non_null(strstr(text, "\nddb.geometry.cylinders = \"4\"\n"));
    free(text);
    vmdk_rig_end(&rig);
}

static const struct style_row {
    const char *lines;
} style_rows[] = {
    { "# Extent description\nRW 8 FLAT \"a\" 0\n\n# The Disk Data Base\n#DDB\n\nddb.a=\"1\"\n" },
    { "RW 8 FLAT \"a\" 0" },
    { "RW 8 FLAT \"a\" 0\nddb.a=\"1\"\n" },
    { "\r\n# Extent description\r\nRW 8 FLAT \"a\" 0\r\nddb.a=\"1\"\r\n" },
    { "  rw   8   FLAT  \"a\"  0 \n#\n\n\n\n\n\n\nddb.a=\"1\"\n" },
};

/* Every other line is kept, whatever gave the room. */
static void descriptors_of_all_styles_can_say_a_larger_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(style_rows); i++) {
        struct vmdk_rig rig;
        char *text;

        describe(&rig, style_rows[i].lines);
        for (uint64_t sectors = 9; sectors < 20000; sectors = sectors * 10 + 9) {
            grow(&rig, sectors * 512);
            vmdk_rig_close(&rig);
        }
        text = vmdk_rig_read_text(&rig);
        if (strstr(style_rows[i].lines, "ddb.a") && !strstr(text, "\nddb.a=\"1\""))
            fail_msg("row %zu: %s", i, text);
        assert_non_null(strstr(text, "version=1\n"));
        free(text);
        vmdk_rig_end(&rig);
    }
}

static void growing_that_would_not_survive_a_crash_is_refused(void **state)
{
    struct vmdk_rig rig;
    char lines[1500], *before, *after;

    (void)state;
    /* the line is in the second sector, the text ends in the third, and no comment is near */
    snprintf(lines, sizeof lines, "a=\"%0480d\"\nRW 8 FLAT \"a\" 0\nb=\"%0480d\"\n", 0, 0);
    describe(&rig, lines);
    before = vmdk_rig_read_text(&rig);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    FAILS(PL_E_UNSUPPORTED, "cannot be changed in one sector", resize(&rig, 100 * 512, &e));
    after = vmdk_rig_read_text(&rig);
    assert_string_equal(before, after);
    assert_int_equal(pl_storage_size(vmdk_rig_file(&rig, "a")), 8 * 512);
    OK(resize(&rig, 9 * 512, &e)); /* as many digits */
    free(before);
    free(after);
    vmdk_rig_end(&rig);
}

static void what_is_behind_the_text_stays_behind_it(void **state)
{
    static const char text[] = HEAD "RW 8 FLAT \"a\" 0\n\0RW 8 FLAT \"b\" 0\n";
    struct vmdk_rig rig;

    (void)state;
    describe(&rig, "");
    OK(pl_storage_write(rig.file[0].st, 0, text, sizeof text, &e));
    OK(vmdk_rig_open(&rig, WRITE, &e));
    assert_int_equal(rig.layer.size, 8 * 512);
    FAILS(PL_E_UNSUPPORTED, "cannot be changed in one sector", resize(&rig, 10 * 512, &e));
    OK(resize(&rig, 9 * 512, &e));
    vmdk_rig_end(&rig);
}

static const struct refused_row {
    const char *lines;
    uint64_t size;
    enum pl_kind kind;
    const char *message;
} refused_rows[] = {
    { "RW 8 FLAT \"a\" 0\n", 7 * 512, PL_E_UNSUPPORTED, "cannot shrink" },
    { "RW 8 FLAT \"a\" 0\n", 8 * 512 + 1, PL_E_INVALID, "no size of whole sectors" },
    { "RW 8 FLAT \"a\" 0\n", UINT64_MAX - 511, PL_E_INVALID, "no size" },
    { "RW 8 FLAT \"a\" 0\nRDONLY 1 FLAT \"b\" 0\n", 50 * 512, PL_E_UNSUPPORTED, "last extent" },
    { "RW 8 FLAT \"a\" 0\nRW 1 ZERO\n", 50 * 512, PL_E_UNSUPPORTED, "last extent cannot grow" },
    { "RW 4 FLAT \"a\" 4\nRW 4 FLAT \"a\" 0\n", 50 * 512, PL_E_UNSUPPORTED, "last extent" },
    { "createType=\"twoGbMaxExtentFlat\"\nRW 8 FLAT \"a\" 0\nRW 8 FLAT \"b\" 0\n",
      8 * 512 + 2 * PL_GIB, PL_E_UNSUPPORTED,
      "up to 2146439168 bytes in the files it has, and the "
      "name of the last one has no number" },
};

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(refused_rows); i++) {
        struct vmdk_rig rig;
        char *before, *after;

        describe(&rig, refused_rows[i].lines);
        before = vmdk_rig_read_text(&rig);
        OK(vmdk_rig_open(&rig, WRITE, &e));
        FAILS(refused_rows[i].kind, refused_rows[i].message,
              resize(&rig, refused_rows[i].size, &e));
        after = vmdk_rig_read_text(&rig);
        assert_string_equal(before, after);
        free(before);
        free(after);
        vmdk_rig_end(&rig);
    }
}

/* A crash at any instant of growing leaves a disk of the old size or of the new one. */
static void growing_survives_crashes(void **state)
{
    const char *text =
        HEAD "\n# Extent description\nRW 8 FLAT \"a\" 0\n\n# The Disk Data Base\n#DDB\n"
             "ddb.geometry.cylinders = \"1\"\nddb.geometry.heads = \"16\"\n"
             "ddb.geometry.sectors = \"63\"\n";
    struct pl_storage *flaky;
    struct vmdk_rig rig = { 0 };
    uint64_t count;

    (void)state;
    OK(pl_flaky_storage(text, strlen(text), 65536, &flaky, &e));
    vmdk_rig_put(&rig, "disk.vmdk", flaky);
    vmdk_rig_add(&rig, "a", 8 * 512);
    grow(&rig, 20000 * 512);
    vmdk_rig_close(&rig);
    count = pl_flaky_operation_count(flaky);
    assert_true(count > 3);
    for (uint64_t n = 0; n <= count; n++)
        for (uint64_t seed = 0; seed < 12; seed++) {
            struct vmdk_rig cut;
            uint8_t *bytes;
            size_t len;

            vmdk_rig_init(&cut);
            vmdk_rig_add(&cut, "a", 20000 * 512); /* grew first */
            pl_flaky_cut(flaky, n, seed, &bytes, &len);
            OK(pl_storage_write(cut.file[0].st, 0, bytes, len, &e));
            OK(vmdk_rig_open(&cut, WRITE, &e));
            assert_true(cut.layer.size == 8 * 512 || cut.layer.size == 20000 * 512);
            free(bytes);
            vmdk_rig_end(&cut);
        }
    vmdk_rig_end(&rig);
}

static void the_file_grows_before_the_descriptor(void **state)
{
    struct vmdk_rig rig = { 0 };
    struct pl_storage *flaky;
    char *text;

    (void)state;
    describe(&rig, "RW 8 FLAT \"c\" 0\n");
    OK(pl_flaky_storage(NULL, 8 * 512, 65536, &flaky, &e));
    vmdk_rig_put(&rig, "c", flaky);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    pl_flaky_fail_at(flaky, 1, 5, false); /* the flush */
    FAILS(PL_E_SYS, "extent 1 ('c')", resize(&rig, 16 * 512, &e));
    text = vmdk_rig_read_text(&rig);
    assert_non_null(strstr(text, "RW 8 FLAT"));
    OK(resize(&rig, 16 * 512, &e));
    free(text);
    vmdk_rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_extent_grows),
        cmocka_unit_test(descriptors_of_all_styles_can_say_a_larger_size),
        cmocka_unit_test(growing_that_would_not_survive_a_crash_is_refused),
        cmocka_unit_test(what_is_behind_the_text_stays_behind_it),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(growing_survives_crashes),
        cmocka_unit_test(the_file_grows_before_the_descriptor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
