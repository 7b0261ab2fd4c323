/* Growing split disks by more files. */
#include <errno.h>
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

#define WRITE ((struct pl_open_args){ .writable = true })
#define FULL (2047 * PL_MIB)

/* An open disk of one sparse file of 1 GiB, which is then called `name` in a descriptor whose lines
 * end by `line_end`. */
static void begin(struct vmdk_rig *rig, const char *name, const char *line_end)
{
    char text[1000];

    vmdk_rig_init(rig);
    OK(vmdk_rig_create(rig, "subformat=twoGbMaxExtentSparse",
                       (struct pl_create_args){ .size = PL_GIB }, &e));
    snprintf(rig->file[1].name, sizeof rig->file[1].name, "%s", name);
    snprintf(text, sizeof text,
             "# Disk DescriptorFile%sCID=0a1b2c3d%sparentCID=ffffffff%s"
             "createType=\"twoGbMaxExtentSparse\"%sRW 2097152 SPARSE \"%s\"%sddb.a = \"1\"%s",
             line_end, line_end, line_end, line_end, name, line_end, line_end);
    vmdk_rig_text(rig, text);
    OK(vmdk_rig_open(rig, WRITE, &e));
}

static int resize(struct vmdk_rig *rig, uint64_t size, enum pl_prealloc prealloc, struct pl_err *e)
{
    return pl_vmdk.resize(rig->layer.state, size, false, prealloc, e);
}

static void put(struct vmdk_rig *rig, uint64_t at, int byte)
{
    uint8_t bytes[65536];

    memset(bytes, byte, sizeof bytes);
    OK(vmdk_rig_write(rig, at, bytes, sizeof bytes, &e));
}

static void has(struct vmdk_rig *rig, uint64_t at, int byte)
{
    uint8_t bytes[65536];

    OK(vmdk_rig_read(rig, at, bytes, sizeof bytes, &e));
    assert_int_equal(bytes[0], byte);
    assert_int_equal(bytes[sizeof bytes - 1], byte);
}

static void several_files_are_made_at_once(void **state)
{
    struct vmdk_rig rig;

    (void)state;
    begin(&rig, "disk-s001.vmdk", "\n");
    put(&rig, 0, 1);
    OK(resize(&rig, 9 * PL_GIB, PL_PREALLOC_OFF, &e));
    put(&rig, FULL, 2); /* the disk can be used at once */
    put(&rig, 9 * PL_GIB - 65536, 3);
    OK(pl_vmdk.flush(rig.layer.state, &e));
    vmdk_rig_close(&rig);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    assert_int_equal(rig.layer.size, 9 * PL_GIB);
    assert_int_equal(rig.opened, 5);
    has(&rig, 0, 1);
    has(&rig, FULL - 65536, 0);
    has(&rig, FULL, 2);
    has(&rig, 9 * PL_GIB - 65536, 3);
    OK(resize(&rig, 9 * PL_GIB + 512, PL_PREALLOC_METADATA, &e)); /* in the last file */
    OK(resize(&rig, 5 * FULL + 512, PL_PREALLOC_OFF, &e));
    assert_non_null(vmdk_rig_file(&rig, "disk-s006.vmdk"));
    vmdk_rig_end(&rig);
}

static const struct name_row {
    const char *what, *first, *line_end, *lines;
} name_rows[] = {
    { "numbers go on", "disk-s001.vmdk", "\n",
      "RW 4192256 SPARSE \"disk-s001.vmdk\"\nRW 1024 SPARSE \"disk-s002.vmdk\"\nddb.a = \"1\"\n" },
    { "numbers get more digits", "a b-S99.VMDK", "\n",
      "RW 4192256 SPARSE \"a b-S99.VMDK\"\nRW 1024 SPARSE \"a b-S100.VMDK\"\nddb.a = \"1\"\n" },
    { "lines end as they did", "disk-000002-s009.vmdk", "\r\n",
      "RW 4192256 SPARSE \"disk-000002-s009.vmdk\"\r\n"
      "RW 1024 SPARSE \"disk-000002-s010.vmdk\"\r\nddb.a = \"1\"\r\n" },
    { "a name needs no extension", "x-s1", "\n",
      "RW 4192256 SPARSE \"x-s1\"\nRW 1024 SPARSE \"x-s2\"\nddb.a = \"1\"\n" },
};

static void check_names(void **state)
{
    const struct name_row *r = *state;
    struct vmdk_rig rig;
    char *text;

    begin(&rig, r->first, r->line_end);
    OK(resize(&rig, FULL + 1024 * 512, PL_PREALLOC_OFF, &e));
    text = vmdk_rig_read_text(&rig);
    if (!strstr(text, r->lines) || strstr(text, "0a1b2c3d"))
        fail_msg("%s", text);
    free(text);
    vmdk_rig_close(&rig);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    assert_int_equal(rig.layer.size, FULL + 1024 * 512);
    vmdk_rig_end(&rig);
}

/* The disk is the one that begin made. */
static void is_old(struct vmdk_rig *rig)
{
    char *text = vmdk_rig_read_text(rig);

    assert_non_null(strstr(text, "RW 2097152 SPARSE \"disk-s001.vmdk\"\nddb.a"));
    free(text);
    vmdk_rig_close(rig);
    OK(vmdk_rig_open(rig, WRITE, &e));
    assert_int_equal(rig->layer.size, PL_GIB);
    has(rig, 0, 1);
}

static void a_failure_leaves_the_old_disk(void **state)
{
    (void)state;
    for (unsigned at = 1; at <= 4; at++) {
        struct vmdk_rig rig;

        begin(&rig, "disk-s001.vmdk", "\n");
        put(&rig, 0, 1);
        OK(pl_vmdk.flush(rig.layer.state, &e));
        rig.creates_left = at;
        FAILS(PL_E_NO_SPACE, "no room", resize(&rig, 9 * PL_GIB, PL_PREALLOC_OFF, &e));
        assert_null(vmdk_rig_file(&rig, "disk-s002.vmdk"));
        is_old(&rig);
        OK(resize(&rig, 9 * PL_GIB, PL_PREALLOC_OFF, &e));
        vmdk_rig_end(&rig);
    }
}

static void a_file_in_the_way_is_kept(void **state)
{
    struct vmdk_rig rig;
    struct pl_err why = { 0 };

    (void)state;
    begin(&rig, "disk-s001.vmdk", "\n");
    put(&rig, 0, 1);
    OK(pl_vmdk.flush(rig.layer.state, &e));
    vmdk_rig_add(&rig, "disk-s003.vmdk", 512);
    assert_int_equal(resize(&rig, 9 * PL_GIB, PL_PREALLOC_OFF, &why), -1);
    assert_int_equal(why.kind, PL_E_EXISTS);
    assert_non_null(strstr(why.hint, "remove it"));
    assert_null(vmdk_rig_file(&rig, "disk-s002.vmdk"));
    assert_int_equal(pl_storage_size(vmdk_rig_file(&rig, "disk-s003.vmdk")), 512);
    is_old(&rig);
    vmdk_rig_end(&rig);
}

/* Behind the CID, which is synced. */
static void a_descriptor_that_cannot_be_replaced_leaves_the_old_disk(void **state)
{
    struct vmdk_rig rig;
    struct pl_storage *memory;
    char *text;

    (void)state;
    begin(&rig, "disk-s001.vmdk", "\n");
    put(&rig, 0, 1);
    OK(pl_vmdk.flush(rig.layer.state, &e));
    vmdk_rig_close(&rig);
    text = vmdk_rig_read_text(&rig);
    memory = rig.file[0].st;
    OK(pl_flaky_storage(text, strlen(text), 65536, &rig.file[0].st, &e));
    pl_flaky_fail_at(rig.file[0].st, 2, EIO, false);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    FAILS(PL_E_SYS, "replacing", resize(&rig, 9 * PL_GIB, PL_PREALLOC_OFF, &e));
    assert_null(vmdk_rig_file(&rig, "disk-s002.vmdk"));
    is_old(&rig);
    pl_storage_close(memory, NULL);
    free(text);
    vmdk_rig_end(&rig);
}

static const struct refused_row {
    const char *what, *name;
    uint64_t size;
    enum pl_prealloc prealloc;
    bool keeps_files;
    enum pl_kind kind;
    const char *text;
} refused_rows[] = {
    { "a name without a number", "disk-s.vmdk", 3 * PL_GIB, PL_PREALLOC_OFF, false,
      PL_E_UNSUPPORTED, "no number" },
    { "a number that counts something else", "disk7.vmdk", 3 * PL_GIB, PL_PREALLOC_OFF, false,
      PL_E_UNSUPPORTED, "no number" },
    { "a file in another folder", "sub/disk-s001.vmdk", 3 * PL_GIB, PL_PREALLOC_OFF, false,
      PL_E_UNSUPPORTED, "no number" },
    { "no way to make files", "disk-s001.vmdk", 3 * PL_GIB, PL_PREALLOC_OFF, true, PL_E_UNSUPPORTED,
      "up to 2146435072 bytes in the files it has, and no more" },
    { "preallocated sparse files", "disk-s001.vmdk", 3 * PL_GIB, PL_PREALLOC_FALLOC, false,
      PL_E_UNSUPPORTED, "not preallocated" },
    { "too many files", "disk-s001.vmdk", 65537 * FULL, PL_PREALLOC_OFF, false, PL_E_LIMIT,
      "more than 65536 extents" },
    { "too long a descriptor", "disk-s001.vmdk", 40000 * FULL, PL_PREALLOC_OFF, false, PL_E_LIMIT,
      "bytes are more than the limit" },
};

static void check_refused(void **state)
{
    const struct refused_row *r = *state;
    struct vmdk_rig rig;
    char *text;

    begin(&rig, r->name, "\n");
    vmdk_rig_close(&rig);
    rig.keeps_files = r->keeps_files;
    OK(vmdk_rig_open(&rig, WRITE, &e));
    FAILS(r->kind, r->text, resize(&rig, r->size, r->prealloc, &e));
    text = vmdk_rig_read_text(&rig);
    assert_non_null(strstr(text, "CID=0a1b2c3d")); /* children still find their parent */
    assert_int_equal(rig.count, 2);
    free(text);
    vmdk_rig_end(&rig);
}

int main(void)
{
    struct CMUnitTest names[PL_COUNT(name_rows)], refused[PL_COUNT(refused_rows)];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(several_files_are_made_at_once),
        cmocka_unit_test(a_failure_leaves_the_old_disk),
        cmocka_unit_test(a_file_in_the_way_is_kept),
        cmocka_unit_test(a_descriptor_that_cannot_be_replaced_leaves_the_old_disk),
    };
    int failed;

    for (size_t i = 0; i < PL_COUNT(name_rows); i++)
        names[i] = (struct CMUnitTest){ .name = name_rows[i].what,
                                        .test_func = check_names,
                                        .initial_state = (void *)&name_rows[i] };
    for (size_t i = 0; i < PL_COUNT(refused_rows); i++)
        refused[i] = (struct CMUnitTest){ .name = refused_rows[i].what,
                                          .test_func = check_refused,
                                          .initial_state = (void *)&refused_rows[i] };
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    failed += cmocka_run_group_tests_name("names", names, NULL, NULL);
    failed += cmocka_run_group_tests_name("refused", refused, NULL, NULL);
    return failed;
}
