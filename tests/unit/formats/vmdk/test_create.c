/* New disks: their files, their descriptor, and what the options may be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vmdk/create.h"
#include "tests/support/images.h"
#include "tests/support/vmdk_disk_rig.h"

#define SIZE(bytes) ((struct pl_create_args){ .size = (bytes), .reproducible = true })

/* ---- descriptors ---- */

static const struct text_row {
    const char *options;
    uint64_t size;
    const char *parts[6]; /* that the text has, in this order */
    const char *file;     /* that is there ... */
    uint64_t file_size;   /* ... with that size */
} text_rows[] = {
    { "subformat=monolithicFlat",
      PL_MIB,
      { "# Disk DescriptorFile\nversion=1\n",
        "\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n",
        "\n# Extent description\nRW 2048 FLAT \"disk-flat.vmdk\" 0\n\n",
        "\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"2\"\nddb.geometry.heads = "
        "\"16\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"ide\"\n",
        "ddb.toolsVersion = \"2147483647\"\n" },
      "disk-flat.vmdk",
      PL_MIB },
    { "subformat=monolithicFlat,adapter_type=lsilogic,hwversion=13,toolsversion=10",
      PL_MIB + 1,
      { "RW 2049 FLAT", "virtualHWVersion = \"13\"", "cylinders = \"1\"",
        "heads = \"64\"\nddb.geometry.sectors = \"32\"", "adapterType = \"lsilogic\"",
        "toolsVersion = \"10\"" },
      "disk-flat.vmdk",
      PL_MIB + 512 },
    { "subformat=vmfs,compat6",
      8 * PL_MIB,
      { "createType=\"vmfs\"\n", "RW 16384 VMFS \"disk-flat.vmdk\"\n", "virtualHWVersion = \"6\"",
        "ddb.thinProvisioned = \"1\"" },
      "disk-flat.vmdk",
      8 * PL_MIB },
    { "subformat=twoGbMaxExtentFlat",
      PL_MIB,
      { "createType=\"twoGbMaxExtentFlat\"\n", "\nRW 2048 FLAT \"disk-f001.vmdk\" 0\n\n" },
      "disk-f001.vmdk",
      PL_MIB },
    { "subformat=monolithicFlat,preallocation=full",
      PL_MIB,
      { "RW 2048 FLAT" },
      "disk-flat.vmdk",
      PL_MIB },
    { "subformat=monolithicFlat", 0, { "RW 0 FLAT", "cylinders = \"1\"" }, "disk-flat.vmdk", 0 },
};

static void descriptors_are_those_of_vmware(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(text_rows); i++) {
        const struct text_row *row = &text_rows[i];
        struct vmdk_rig rig;
        char *text;
        const char *at;

        vmdk_rig_init(&rig);
        OK(vmdk_rig_create(&rig, row->options, SIZE(row->size), &e));
        at = text = vmdk_rig_read_text(&rig);
        for (size_t k = 0; k < PL_COUNT(row->parts) && row->parts[k]; k++) {
            at = strstr(at, row->parts[k]);
            if (!at)
                fail_msg("row %zu: no '%s' in its place in: %s", i, row->parts[k], text);
        }
        assert_int_equal(pl_storage_size(vmdk_rig_file(&rig, row->file)), row->file_size);
        OK(vmdk_rig_open(&rig, (struct pl_open_args){ .writable = true }, &e));
        assert_int_equal(rig.layer.size, pl_round_up(row->size, 512));
        free(text);
        vmdk_rig_end(&rig);
    }
}

static void large_disks_are_split(void **state)
{
    struct vmdk_request r;
    struct pl_options *options = options_of("subformat=twoGbMaxExtentSparse,grain_size=4M");

    (void)state;
    OK(vmdk_read_request(options, 5 * PL_GIB, false, &r, &e));
    assert_int_equal(r.extents, 3);
    assert_int_equal(vmdk_extent_size(&r, 0), 2044 * PL_MIB); /* whole grains */
    assert_int_equal(vmdk_extent_size(&r, 2), 5 * PL_GIB - 2 * 2044 * PL_MIB);
    OK(pl_options_set(options, "grain_size", "64k", &e));
    OK(vmdk_read_request(options, 5 * PL_GIB, false, &r, &e));
    assert_int_equal(vmdk_extent_size(&r, 1) / 512, 4192256);
    assert_int_equal(vmdk_extent_size(&r, 2) / 512, 2101248);
    OK(vmdk_read_request(options, 2047 * PL_MIB, false, &r, &e));
    assert_int_equal(r.extents, 1);
    OK(vmdk_read_request(options, 0, false, &r, &e));
    assert_int_equal(r.extents, 1);
    FAILS(PL_E_LIMIT, "more than the limit of 65536",
          vmdk_read_request(options, PL_OFFSET_MAX - 1024, false, &r, &e));
    FAILS(PL_E_LIMIT, "too big", vmdk_read_request(options, PL_OFFSET_MAX, false, &r, &e));
    pl_options_free(options);
}

static const struct name_row {
    const char *path, *subformat, *name;
    uint64_t index;
} name_rows[] = {
    { "/a/b.vmdk/disk.vmdk", "monolithicFlat", "disk-flat.vmdk", 0 },
    { "Disk.VMDK", "vmfs", "Disk-flat.vmdk", 0 },
    { "disk", "twoGbMaxExtentFlat", "disk-f001.vmdk", 0 },
    { "a.b.vmdk", "twoGbMaxExtentSparse", "a.b-s1000.vmdk", 999 },
    { "disk.vmdk", "vmfsSparse", "disk-delta.vmdk", 0 },
    { "disk.vmdk", "monolithicSparse", "disk.vmdk", 0 },
    { ".vmdk", "monolithicFlat", ".vmdk-flat.vmdk", 0 },
};

static void extents_are_named_after_the_disk(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(name_rows); i++) {
        char option[60], *name;
        struct pl_options *options;
        struct pl_storage *st = memory();
        struct vmdk_request r;

        snprintf(option, sizeof option, "subformat=%s", name_rows[i].subformat);
        options = options_of(option);
        OK(vmdk_read_request(options, 4 * PL_GIB, false, &r, &e));
        st->path = strdup(name_rows[i].path);
        name = vmdk_extent_name(&r, st, name_rows[i].index);
        assert_string_equal(name, name_rows[i].name);
        free(name);
        pl_options_free(options);
        free(pl_take(st->path));
        pl_storage_close(st, NULL);
    }
}

static const struct geometry_row {
    const char *adapter;
    uint64_t size, cylinders;
    unsigned heads, sectors;
} geometry_rows[] = {
    { "ide", 0, 1, 16, 63 },
    { "ide", 6292992, 12, 16, 63 },
    { "ide", 5 * PL_GIB, 10402, 16, 63 },
    { "ide", 100 * PL_GIB, 16383, 16, 63 },
    { "lsilogic", 2 * PL_MIB, 2, 64, 32 },
    { "lsilogic", PL_GIB, 512, 128, 32 },
    { "buslogic", 2 * PL_GIB, 261, 255, 63 },
    { "legacyESX", 20 * PL_GIB, 2610, 255, 63 },
};

static void geometries_are_those_of_the_adapter(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(geometry_rows); i++) {
        const struct geometry_row *row = &geometry_rows[i];
        const struct vmdk_geometry g = vmdk_geometry_for(row->adapter, row->size);

        if (g.cylinders != row->cylinders || g.heads != row->heads || g.sectors != row->sectors)
            fail_msg("row %zu: %u/%u/%u", i, (unsigned)g.cylinders, g.heads, g.sectors);
    }
}

/* ---- identities ---- */

static char *text_of(const char *options, struct pl_create_args how)
{
    struct vmdk_rig rig;
    char *text;

    vmdk_rig_init(&rig);
    OK(vmdk_rig_create(&rig, options, how, &e));
    text = vmdk_rig_read_text(&rig);
    vmdk_rig_end(&rig);
    return text;
}

static void reproducible_disks_are_the_same(void **state)
{
    char *a = text_of("subformat=monolithicFlat", SIZE(PL_MIB));
    char *b = text_of("subformat=monolithicFlat", SIZE(PL_MIB));
    char *c = text_of("subformat=monolithicFlat", SIZE(2 * PL_MIB));
    char *d = text_of("subformat=monolithicFlat", (struct pl_create_args){ .size = PL_MIB });
    const char *cid = strstr(a, "CID=") + 4, *id = strstr(a, "longContentID = \"") + 17;

    (void)state;
    assert_string_equal(a, b);
    assert_memory_not_equal(cid, strstr(c, "CID=") + 4, 8);
    assert_memory_not_equal(cid, strstr(d, "CID=") + 4, 8);
    assert_memory_equal(cid, id + 24, 8);
    assert_int_equal(id[32], '"');
    assert_int_equal(strlen(a), strlen(d));
    free(a);
    free(b);
    free(c);
    free(d);
}

static const struct parent_row {
    const char *format, *identity;
    const char *parts[2]; /* of the text; null: refused */
    const char *message;
} parent_rows[] = {
    { "vmdk", "cid:0a1b2c3d", { "parentCID=0a1b2c3d\n", "parentFileNameHint=\"p.vmdk\"\n" }, "" },
    { NULL,
      "cid:0a1b2c3d uuid:1afe8b08-e023-4ca6-94d2-f2d22f36dd63",
      { "parentCID=0a1b2c3d\n", "ddb.uuid.parent = \"1afe8b08-e023-4ca6-94d2-f2d22f36dd63\"\n" },
      "" },
    { "vmdk", NULL, { NULL }, "'p.vmdk': it has no CID" },
    { "vmdk", "uuid:1afe8b08-e023-4ca6-94d2-f2d22f36dd63", { NULL }, "it has no CID" },
    { "qcow2", "cid:0a1b2c3d", { NULL }, "must be a vmdk image, not qcow2" },
};

/* The kinds of extents that can have a parent are not needed for the text. */
static void children_name_their_parent(void **state)
{
    struct pl_options *options = options_of("subformat=vmfsSparse");

    (void)state;
    for (size_t i = 0; i < PL_COUNT(parent_rows); i++) {
        const struct parent_row *row = &parent_rows[i];
        const struct pl_create_args args = { .file = memory(),
                                             .options = options,
                                             .parent.name = "p.vmdk",
                                             .parent.format = row->format,
                                             .parent.identity = row->identity };
        struct vmdk_request r;
        char *text;

        OK(vmdk_read_request(options, PL_MIB, true, &r, &e));
        if (row->parts[0]) {
            OK(vmdk_new_descriptor(&r, &args, &text, &e));
            assert_non_null(strstr(text, row->parts[0]));
            assert_non_null(strstr(text, row->parts[1]));
            free(text);
        } else {
            FAILS(PL_E_INVALID, row->message, vmdk_new_descriptor(&r, &args, &text, &e));
        }
        pl_storage_close(args.file, NULL);
    }
    pl_options_free(options);
}

/* ---- options ---- */

static const struct refused_row {
    const char *options;
    bool parent;
    const char *message;
} refused_rows[] = {
    { "subformat=fullDevice", false, "option 'subformat'" },
    { "adapter_type=nvme", false, "option 'adapter_type'" },
    { "hwversion=new", false, "option 'hwversion'" },
    { "toolsversion=\"1\"", false, "option 'toolsversion'" },
    { "compat6,hwversion=4", false, "compat6 cannot be enabled with hwversion set" },
    { "subformat=monolithicFlat,zeroed_grain", false, "Flat image can't enable zeroed grain" },
    { "subformat=monolithicFlat", true, "Flat image can't have backing file" },
    { "subformat=vmfs", true, "Flat image can't have backing file" },
    { "subformat=streamOptimized", true, "cannot have a backing file" },
    { "subformat=vmfsSparse,zeroed_grain", false, "zeroed_grain needs" },
    { "preallocation=full", false, "preallocation needs a flat subformat" },
    { "grain_size=512", false, "option 'grain_size'" },
    { "grain_size=5000", false, "not a power of two" },
    { "grain_size=16M", false, "option 'grain_size'" },
};

static void options_that_cannot_be_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(refused_rows); i++) {
        struct pl_options *options = options_of(refused_rows[i].options);
        struct vmdk_request r;

        FAILS(PL_E_INVALID, refused_rows[i].message,
              vmdk_read_request(options, PL_MIB, refused_rows[i].parent, &r, &e));
        pl_options_free(options);
    }
}

static void qemu_imgs_defaults_are_accepted(void **state)
{
    struct pl_options *options = options_of("hwversion=undefined,compat6=off,zeroed_grain=off");
    struct vmdk_request r;

    (void)state;
    OK(vmdk_read_request(options, PL_MIB, false, &r, &e));
    assert_int_equal(r.subformat, VMDK_MONOLITHIC_SPARSE);
    assert_int_equal(r.grain_size, 65536);
    assert_string_equal(r.hw_version, "4");
    assert_string_equal(r.adapter, "ide");
    pl_options_free(options);
}

static void names_that_a_descriptor_cannot_hold_are_refused(void **state)
{
    struct pl_options *options = options_of("subformat=monolithicFlat");
    struct pl_create_args args = { .file = memory(), .options = options };
    struct vmdk_request r;
    char *text;

    (void)state;
    args.file->path = strdup("a\"b.vmdk");
    OK(vmdk_read_request(options, PL_MIB, false, &r, &e));
    FAILS(PL_E_INVALID, "quotes", vmdk_new_descriptor(&r, &args, &text, &e));
    free(pl_take(args.file->path));
    pl_storage_close(args.file, NULL);
    pl_options_free(options);
}

static void several_files_need_a_folder(void **state)
{
    struct vmdk_rig rig;

    (void)state;
    vmdk_rig_init(&rig);
    rig.file[0].st->sequential = true;
    FAILS(PL_E_UNSUPPORTED, "several files",
          vmdk_rig_create(&rig, "subformat=monolithicFlat", SIZE(PL_MIB), &e));
    FAILS(PL_E_UNSUPPORTED, "cannot be written to a pipe",
          vmdk_rig_create(&rig, "subformat=monolithicSparse", SIZE(PL_MIB), &e));
    vmdk_rig_end(&rig);
}

/* ---- measuring ---- */

static void flat_disks_measure_their_size(void **state)
{
    struct pl_options *options = options_of("subformat=twoGbMaxExtentFlat");
    const struct pl_measure_args args = { .size = 5 * PL_GIB + 1, .options = options };
    struct pl_measure_result result;

    (void)state;
    OK(pl_vmdk.measure(&args, &result, &e));
    assert_int_equal(result.required, 5 * PL_GIB + 512);
    assert_int_equal(result.fully_allocated, 5 * PL_GIB + 512);
    pl_options_free(options);
}

static void streams_measure_an_upper_bound(void **state)
{
    struct pl_options *options = options_of("subformat=streamOptimized");
    const struct pl_measure_args args = { .size = PL_GIB,
                                          .data_bytes = 100 * PL_MIB,
                                          .options = options };
    struct pl_measure_result result;

    (void)state;
    OK(pl_vmdk.measure(&args, &result, &e));
    assert_true(result.required > 100 * PL_MIB && result.required < 102 * PL_MIB);
    assert_true(result.fully_allocated > PL_GIB && result.fully_allocated < PL_GIB + PL_GIB / 64);
    pl_options_free(options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(descriptors_are_those_of_vmware),
        cmocka_unit_test(large_disks_are_split),
        cmocka_unit_test(extents_are_named_after_the_disk),
        cmocka_unit_test(geometries_are_those_of_the_adapter),
        cmocka_unit_test(reproducible_disks_are_the_same),
        cmocka_unit_test(children_name_their_parent),
        cmocka_unit_test(options_that_cannot_be_are_refused),
        cmocka_unit_test(qemu_imgs_defaults_are_accepted),
        cmocka_unit_test(names_that_a_descriptor_cannot_hold_are_refused),
        cmocka_unit_test(several_files_need_a_folder),
        cmocka_unit_test(flat_disks_measure_their_size),
        cmocka_unit_test(streams_measure_an_upper_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
