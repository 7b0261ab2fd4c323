/* The CID changes before the content does, in place, and nothing else of the descriptor changes. */
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

#define HEAD "# Disk DescriptorFile\nversion=1\n"
#define TAIL "parentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 8 FLAT \"a\" 0\n"
#define WRITE ((struct pl_open_args){ .writable = true })

/* A disk with that line for its CID; its descriptor can fail and lose power. */
static void describe(struct vmdk_rig *rig, const char *line, const char *more)
{
    struct pl_storage *flaky;
    char text[600];

    *rig = (struct vmdk_rig){ 0 };
    snprintf(text, sizeof text, HEAD "%s" TAIL "%s", line, more);
    OK(pl_flaky_storage(text, strlen(text), 65536, &flaky, &e));
    vmdk_rig_put(rig, "disk.vmdk", flaky);
    vmdk_rig_add(rig, "a", 8 * 512);
    OK(vmdk_rig_open(rig, WRITE, &e));
}

static int write_sector(struct vmdk_rig *rig, struct pl_err *e)
{
    uint8_t bytes[512] = { 1 };

    return vmdk_rig_write(rig, 0, bytes, sizeof bytes, e);
}

/* What a crash now leaves of the descriptor, nothing of it synced but what was flushed. */
static char *stable_text(const struct vmdk_rig *rig)
{
    struct pl_storage *st = rig->file[0].st;
    uint8_t *bytes;
    char *text;
    size_t len;

    pl_flaky_cut(st, pl_flaky_operation_count(st), 1, &bytes, &len);
    text = strndup((char *)bytes, len);
    free(bytes);
    return text;
}

static const struct row {
    const char *line, *more;
    size_t digits; /* that change; 0: none do */
} rows[] = {
    { "CID=0a1b2c3d\n", "", 8 },
    { "CID = FFFFFFFE \r\n", "", 8 },
    { "CID=00000000\n", "ddb.x=\"1\"\n", 8 },
    { "CID=77161c8\n", "", 7 },
    { "CID=a\n", "", 1 },
    { "", "", 0 },
    { "CID=\n", "", 0 },
};

/* Whether two texts are the same but for the CID. */
static void assert_only_cid_differs(const char *old, const char *new, const struct row *row)
{
    const char *cid = strstr(old, "CID");
    const size_t at = row->digits ? (size_t)(strpbrk(cid, "=") - old) : 0;
    size_t from = at, different = 0;

    assert_int_equal(strlen(old), strlen(new));
    while (row->digits && !strchr("0123456789abcdefABCDEF", old[from]))
        from++;
    for (size_t i = 0; old[i]; i++) {
        different += old[i] != new[i];
        if (old[i] != new[i] && (i < from || i >= from + row->digits))
            fail_msg("byte %zu of: %s", i, new);
    }
    assert_true(row->digits ? different > 0 : different == 0);
}

static void the_first_change_gives_a_new_cid(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        struct vmdk_rig rig;
        char *old, *new;

        describe(&rig, rows[i].line, rows[i].more);
        old = vmdk_rig_read_text(&rig);
        OK(write_sector(&rig, &e));
        new = stable_text(&rig); /* without a flush of the disk */
        assert_only_cid_differs(old, new, &rows[i]);
        OK(write_sector(&rig, &e));
        free(old);
        old = vmdk_rig_read_text(&rig);
        assert_string_equal(old, new); /* once is enough */
        free(old);
        free(new);
        vmdk_rig_end(&rig);
    }
}

/* ways to change content */
static int by_allocate(struct vmdk_rig *rig, struct pl_err *e)
{
    struct pl_place place;

    return pl_vmdk.allocate(rig->layer.state, 0, 512, &place, e);
}

static int by_zero(struct vmdk_rig *rig, struct pl_err *e)
{
    return pl_vmdk.zero(rig->layer.state, 0, 512, true, e);
}

static int by_discard(struct vmdk_rig *rig, struct pl_err *e)
{
    return pl_vmdk.discard(rig->layer.state, 0, 512, e);
}

static int by_resize(struct vmdk_rig *rig, struct pl_err *e)
{
    return pl_vmdk.resize(rig->layer.state, 16 * 512, false, PL_PREALLOC_OFF, e);
}

static int (*const ways[])(struct vmdk_rig *rig, struct pl_err *e) = { by_allocate, by_zero,
                                                                       by_discard, by_resize };

static void every_way_to_change_gives_a_new_cid(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(ways); i++) {
        struct vmdk_rig rig;
        char *text;

        describe(&rig, "CID=0a1b2c3d\n", "");
        OK(ways[i](&rig, &e));
        text = stable_text(&rig);
        if (strstr(text, "\nCID=0a1b2c3d\n"))
            fail_msg("way %zu", i);
        free(text);
        vmdk_rig_end(&rig);
    }
}

static void opening_and_reading_change_nothing(void **state)
{
    struct vmdk_rig rig;
    uint8_t bytes[512];

    (void)state;
    describe(&rig, "CID=0a1b2c3d\n", "");
    OK(vmdk_rig_read(&rig, 0, bytes, sizeof bytes, &e));
    OK(pl_vmdk.flush(rig.layer.state, &e));
    assert_int_equal(pl_flaky_operation_count(rig.file[0].st), 0);
    vmdk_rig_end(&rig);
}

static void long_content_ids_end_in_the_cid(void **state)
{
    struct vmdk_rig rig;
    char *text, *cid, *id;

    (void)state;
    describe(&rig, "CID=0a1b2c3d\n",
             "ddb.longContentID = \"c30e9133f6a8e34df61188c50a1b2c3d\"\nddb.z = \"1\"\n");
    OK(write_sector(&rig, &e));
    text = stable_text(&rig);
    cid = strstr(text, "CID=") + 4;
    id = strstr(text, "c30e9133f6a8e34df61188c5") + 24;
    assert_memory_equal(cid, id, 8);
    assert_memory_not_equal(cid, "0a1b2c3d", 8);
    assert_non_null(strstr(text, "\"\nddb.z = \"1\"\n"));
    free(text);
    vmdk_rig_end(&rig);
}

static void content_does_not_change_without_a_new_cid(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(ways); i++)
        for (uint64_t n = 0; n < 2; n++) { /* the write, then the flush */
            struct vmdk_rig rig;
            uint8_t sector[512] = { 7 }, found[512];

            describe(&rig, "CID=0a1b2c3d\n", "");
            OK(pl_storage_write(vmdk_rig_file(&rig, "a"), 0, sector, sizeof sector, &e));
            pl_flaky_fail_at(rig.file[0].st, n, EIO, false);
            FAILS(PL_E_SYS, "giving the changed disk a new CID", ways[i](&rig, &e));
            OK(pl_storage_read(vmdk_rig_file(&rig, "a"), 0, found, sizeof found, &e));
            assert_memory_equal(found, sector, sizeof found);
            OK(ways[i](&rig, &e)); /* it is tried again */
            vmdk_rig_end(&rig);
        }
}

static void new_disks_keep_their_cid(void **state)
{
    const struct pl_create_args created = { 0 };
    struct vmdk_rig rig;

    (void)state;
    describe(&rig, "CID=0a1b2c3d\n", "");
    vmdk_rig_close(&rig);
    OK(vmdk_rig_open(&rig, (struct pl_open_args){ .writable = true, .created = &created }, &e));
    OK(write_sector(&rig, &e));
    assert_int_equal(pl_flaky_operation_count(rig.file[0].st), 0);
    vmdk_rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_change_gives_a_new_cid),
        cmocka_unit_test(every_way_to_change_gives_a_new_cid),
        cmocka_unit_test(opening_and_reading_change_nothing),
        cmocka_unit_test(long_content_ids_end_in_the_cid),
        cmocka_unit_test(content_does_not_change_without_a_new_cid),
        cmocka_unit_test(new_disks_keep_their_cid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
