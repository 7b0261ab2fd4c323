/* Disks whose descriptor is inside their one sparse file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "formats/vmdk/extent.h"
#include "tests/support/env.h"
#include "tests/support/images.h"
#include "tests/support/vmdk_disk_rig.h"

#define READ ((struct pl_open_args){ 0 })
#define WRITE ((struct pl_open_args){ .writable = true })
#define SIZE (6 * PL_MIB)

/* A new monolithicSparse disk of SIZE; ends the test as skipped where there are none. */
static void begin(struct vmdk_rig *rig, const char *options)
{
    struct pl_err e = { 0 };
    const struct pl_create_args how = { .size = SIZE, .reproducible = true };

    vmdk_rig_init(rig);
    if (vmdk_rig_create(rig, options, how, &e) == 0)
        return;
    vmdk_rig_end(rig);
    if (e.kind != PL_E_UNSUPPORTED)
        fail_msg("%s", e.msg);
    TEST_SKIP("%s", e.msg);
}

static uint8_t *bytes_of(const struct vmdk_rig *rig, size_t *len)
{
    uint8_t *bytes;

    *len = pl_storage_size(rig->file[0].st);
    bytes = malloc(*len);
    OK(pl_storage_read(rig->file[0].st, 0, bytes, *len, &e));
    return bytes;
}

static char *text_of(const struct vmdk_rig *rig)
{
    char *text;

    OK(vmdk_sparse_descriptor(rig->file[0].st, &text, &e));
    assert_non_null(text);
    return text;
}

/* Replaces the text, inside its room. */
static void put_text(struct vmdk_rig *rig, const char *text)
{
    uint64_t off, len;

    OK(vmdk_sparse_descriptor_place(rig->file[0].st, &off, &len, &e));
    assert_true(strlen(text) <= len);
    OK(pl_storage_zero(rig->file[0].st, off, len, &e));
    OK(pl_storage_write(rig->file[0].st, off, text, strlen(text), &e));
}

static void the_cid_changes_in_place(void **state)
{
    struct vmdk_rig rig;
    struct pl_place place;
    uint8_t *before, *after;
    char *text;
    size_t len, different = 0;
    uint64_t cid;

    (void)state;
    begin(&rig, "");
    text = text_of(&rig);
    before = bytes_of(&rig, &len);
    cid = (uint64_t)((uint8_t *)memmem(before, len, "\nCID=", 5) + 5 - before);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    OK(pl_vmdk.allocate(rig.layer.state, 0, rig.layer.granule, &place, &e));
    pl_vmdk.cancel(rig.layer.state, &place);
    vmdk_rig_close(&rig);
    after = bytes_of(&rig, &len);
    for (uint64_t i = 512; i < 512 + strlen(text); i++)
        different += before[i] != after[i] && (i < cid || i >= cid + 8);
    assert_memory_not_equal(before + cid, after + cid, 8);
    assert_in_range(different, 1, 8); /* the long identifier's end */
    free(text);
    free(before);
    free(after);
    vmdk_rig_end(&rig);
}

static void the_extent_line_tells_the_size_and_not_the_name(void **state)
{
    struct vmdk_rig rig;

    (void)state;
    begin(&rig, "");
    put_text(&rig, "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
                   "createType=\"monolithicSparse\"\nRDONLY 12280 SPARSE \"/another/name\"\n");
    OK(vmdk_rig_open(&rig, WRITE, &e));
    assert_int_equal(rig.layer.size, 12280 * 512);
    assert_int_equal(rig.opened, 0);
    vmdk_rig_end(&rig);
}

static const struct refused_row {
    const char *lines, *message;
    enum pl_kind kind;
} refused_rows[] = {
    { "RW 8 SPARSE \"a\"\nRW 8 SPARSE \"b\"\n", "2 extents in a file that holds one",
      PL_E_UNSUPPORTED },
    { "", "0 extents in a file that holds one", PL_E_CORRUPT },
    { "RW x SPARSE \"a\"\n", "size 'x'", PL_E_CORRUPT },
};

static void odd_descriptors_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(refused_rows); i++) {
        struct vmdk_rig rig;
        char text[300];

        begin(&rig, "");
        snprintf(text, sizeof text, "# Disk DescriptorFile\nversion=1\n%s", refused_rows[i].lines);
        put_text(&rig, text);
        FAILS(refused_rows[i].kind, refused_rows[i].message, vmdk_rig_open(&rig, READ, &e));
        vmdk_rig_end(&rig);
    }
}

static void growing_changes_the_line_in_its_room(void **state)
{
    struct vmdk_rig rig;
    char *text;

    (void)state;
    begin(&rig, "");
    OK(vmdk_rig_open(&rig, WRITE, &e));
    OK(pl_vmdk.resize(rig.layer.state, 100 * PL_MIB, false, PL_PREALLOC_OFF, &e));
    OK(pl_vmdk.flush(rig.layer.state, &e));
    vmdk_rig_close(&rig);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    assert_int_equal(rig.layer.size, 100 * PL_MIB);
    text = text_of(&rig);
    assert_non_null(strstr(text, "\nRW 204800 SPARSE \"disk.vmdk\"\n"));
    assert_non_null(strstr(text, "cylinders = \"203\""));
    free(text);
    vmdk_rig_end(&rig);
}

static void warn(void *ctx, const char *message)
{
    snprintf(ctx, 300, "%s", message);
}

/* A part of a split disk, opened by itself. */
static void extents_alone_are_read_with_a_warning(void **state)
{
    struct vmdk_rig rig, alone;
    char message[300] = "";

    (void)state;
    begin(&rig, "subformat=twoGbMaxExtentSparse");
    alone = (struct vmdk_rig){ .report = { .ctx = message, .warn = warn } };
    vmdk_rig_put(&alone, "disk-s001.vmdk",
                 memory_copy(rig.file[1].st, pl_storage_size(rig.file[1].st)));
    OK(vmdk_rig_open(&alone, READ, &e));
    assert_int_equal(alone.layer.size, SIZE);
    assert_null(alone.layer.identity);
    assert_non_null(strstr(message, "only a part of a disk"));
    vmdk_rig_end(&alone);
    vmdk_rig_end(&rig);
}

/* Granules must not cross the border between a flat and a sparse extent. */
static void borders_inside_a_grain_are_for_reading_only(void **state)
{
    struct vmdk_rig rig;

    (void)state;
    begin(&rig, "subformat=twoGbMaxExtentSparse");
    vmdk_rig_add(&rig, "flat", 3 * 512);
    vmdk_rig_text(&rig, "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
                        "RW 3 FLAT \"flat\" 0\nRW 12288 SPARSE \"disk-s001.vmdk\"\n");
    OK(vmdk_rig_open(&rig, READ, &e));
    assert_int_equal(rig.layer.size, 3 * 512 + SIZE);
    assert_int_equal(rig.layer.granule, 65536);
    vmdk_rig_close(&rig);
    FAILS(PL_E_UNSUPPORTED, "begins at guest address 0x600, no multiple of the grain size 65536",
          vmdk_rig_open(&rig, WRITE, &e));
    vmdk_rig_text(&rig, "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
                        "RW 12288 SPARSE \"disk-s001.vmdk\"\nRW 12288 SPARSE \"disk-s001.vmdk\"\n");
    FAILS(PL_E_CORRUPT, "an extent before it is the same sparse file",
          vmdk_rig_open(&rig, WRITE, &e));
    vmdk_rig_end(&rig);
}

/* Data on both sides of a border of sparse extents. */
static void sparse_extents_are_behind_each_other(void **state)
{
    struct vmdk_rig rig;
    uint8_t *written = malloc(4 * 65536), *found = malloc(4 * 65536);

    (void)state;
    begin(&rig, "subformat=twoGbMaxExtentSparse");
    vmdk_rig_put(&rig, "second", memory_copy(rig.file[1].st, pl_storage_size(rig.file[1].st)));
    vmdk_rig_text(&rig, "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
                        "RW 12288 SPARSE \"disk-s001.vmdk\"\nRW 12288 SPARSE \"second\"\n");
    for (size_t i = 0; i < 4 * 65536; i++)
        written[i] = (uint8_t)(i / 300 + 1);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    OK(vmdk_rig_write(&rig, SIZE - 2 * 65536, written, 4 * 65536, &e));
    OK(pl_vmdk.flush(rig.layer.state, &e));
    vmdk_rig_close(&rig);
    OK(vmdk_rig_open(&rig, READ, &e));
    OK(vmdk_rig_read(&rig, SIZE - 2 * 65536, found, 4 * 65536, &e));
    assert_memory_equal(found, written, 4 * 65536);
    OK(vmdk_rig_read(&rig, SIZE - 3 * 65536, found, 65536, &e));
    for (size_t i = 0; i < 65536; i++)
        assert_int_equal(found[i], 0);
    free(written);
    free(found);
    vmdk_rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cid_changes_in_place),
        cmocka_unit_test(the_extent_line_tells_the_size_and_not_the_name),
        cmocka_unit_test(odd_descriptors_are_refused),
        cmocka_unit_test(growing_changes_the_line_in_its_room),
        cmocka_unit_test(extents_alone_are_read_with_a_warning),
        cmocka_unit_test(borders_inside_a_grain_are_for_reading_only),
        cmocka_unit_test(sparse_extents_are_behind_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
