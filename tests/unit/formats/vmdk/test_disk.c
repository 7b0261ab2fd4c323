/* Disks made of flat extents: what opens and what does not, and whose bytes are where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "tests/support/env.h"
#include "tests/support/images.h"
#include "tests/support/vmdk_disk_rig.h"

#define HEAD                                                                                       \
    "# Disk DescriptorFile\nversion=1\nCID=0a1b2c3d\nparentCID=ffffffff\n"                         \
    "createType=\"monolithicFlat\"\n\n# Extent description\n"
#define READ ((struct pl_open_args){ 0 })
#define WRITE ((struct pl_open_args){ .writable = true })
#define CHECK ((struct pl_open_args){ .check_only = true })

/* A rig whose disk is a text with these lines. */
static void describe(struct vmdk_rig *rig, const char *lines)
{
    char text[2000];

    vmdk_rig_init(rig);
    snprintf(text, sizeof text, HEAD "%s", lines);
    vmdk_rig_text(rig, text);
}

static void fill(struct pl_storage *st, int byte)
{
    const size_t len = pl_storage_size(st);
    uint8_t *bytes = malloc(len);

    memset(bytes, byte, len);
    OK(pl_storage_write(st, 0, bytes, len, &e));
    free(bytes);
}

static void assert_sector(struct vmdk_rig *rig, uint64_t sector, int byte)
{
    uint8_t bytes[512], wanted[512];

    memset(wanted, byte, sizeof wanted);
    OK(vmdk_rig_read(rig, sector * 512, bytes, sizeof bytes, &e));
    assert_memory_equal(bytes, wanted, sizeof bytes);
}

static void write_sector(struct vmdk_rig *rig, uint64_t sector, int byte)
{
    uint8_t bytes[512];

    memset(bytes, byte, sizeof bytes);
    OK(vmdk_rig_write(rig, sector * 512, bytes, sizeof bytes, &e));
}

/* ---- reading ---- */

static void extents_are_behind_each_other(void **state)
{
    struct vmdk_rig rig;

    (void)state;
    describe(&rig, "RW 3 FLAT \"a\" 0\nRW 1 ZERO\nRW 2 VMFS \"b\"\nRDONLY 4 FLAT \"a\" 3\n");
    fill(vmdk_rig_add(&rig, "a", 7 * 512), 0xaa);
    fill(vmdk_rig_add(&rig, "b", 5 * 512), 0xbb);
    OK(vmdk_rig_open(&rig, READ, &e));
    assert_int_equal(rig.layer.size, 10 * 512);
    assert_int_equal(rig.layer.granule, 512);
    assert_int_equal(rig.layer.cluster_size, 0);
    assert_null(rig.layer.parent_name);
    assert_null(rig.layer.parent_identity);
    assert_string_equal(rig.layer.identity, "cid:0a1b2c3d");
    for (uint64_t i = 0; i < 10; i++)
        assert_sector(&rig, i, i == 3 ? 0 : i == 4 || i == 5 ? 0xbb : 0xaa);
    assert_int_equal(rig.opened, 2);
    vmdk_rig_end(&rig);
}

static void runs_end_at_borders(void **state)
{
    struct vmdk_rig rig;
    struct pl_extent x;

    (void)state;
    describe(&rig, "RW 3 FLAT \"a\" 1\nRW 2 FLAT \"b\" 0\n");
    fill(vmdk_rig_add(&rig, "a", 4 * 512), 1);
    fill(vmdk_rig_add(&rig, "b", 2 * 512), 1);
    OK(vmdk_rig_open(&rig, READ, &e));
    OK(pl_vmdk.map(rig.layer.state, 100, 5 * 512 - 100, &x, &e));
    assert_int_equal(x.len, 3 * 512 - 100);
    assert_int_equal(x.off, 512 + 100);
    OK(pl_vmdk.map(rig.layer.state, 3 * 512 + 7, 1, &x, &e));
    assert_int_equal(x.len, 1);
    assert_int_equal(x.off, 7);
    vmdk_rig_end(&rig);
}

static void many_extents_are_found(void **state)
{
    const unsigned count = 5000;
    char *text = malloc(100 + 40 * count), *to = text;
    struct vmdk_rig rig;
    struct pl_storage *file;

    (void)state;
    vmdk_rig_init(&rig);
    file = vmdk_rig_add(&rig, "a", count * 512);
    to += sprintf(to, HEAD);
    for (unsigned i = 0; i < count; i++) {
        to += sprintf(to, "RW 1 FLAT \"a\" %u\n", count - 1 - i);
        OK(pl_storage_write(file, (count - 1 - i) * 512, &(uint8_t){ (uint8_t)(i * 7) }, 1, &e));
    }
    vmdk_rig_text(&rig, text);
    OK(vmdk_rig_open(&rig, READ, &e));
    assert_int_equal(rig.opened, 1);
    for (unsigned i = 0; i < count; i++) {
        uint8_t byte;

        OK(vmdk_rig_read(&rig, i * 512, &byte, 1, &e));
        assert_int_equal(byte, (uint8_t)(i * 7));
    }
    vmdk_rig_end(&rig);
    free(text);
}

static void closed_extents_cannot_be_read(void **state)
{
    uint8_t byte;
    struct vmdk_rig rig;

    (void)state;
    describe(&rig, "RW 1 FLAT \"a\" 0\nNOACCESS 1 FLAT \"not there\" 0\n");
    vmdk_rig_add(&rig, "a", 512);
    OK(vmdk_rig_open(&rig, READ, &e));
    assert_sector(&rig, 0, 0);
    FAILS(PL_E_UNSUPPORTED, "extent 2 ('not there'): the descriptor forbids access",
          vmdk_rig_read(&rig, 512, &byte, 1, &e));
    vmdk_rig_end(&rig);
}

/* ---- identity ---- */

static const struct identity_row {
    const char *text, *identity, *parent_name, *parent_identity; /* null: none */
} identity_rows[] = {
    { "CID=0000000a\nparentCID=ffffffff\n", "cid:0000000a", NULL, NULL },
    { "CID=a\nparentCID=1\nparentFileNameHint=\"p.vmdk\"\n", "cid:0000000a", "p.vmdk",
      "cid:00000001" },
    { "CID=a\nparentCID=1\n", "cid:0000000a", NULL, "cid:00000001" },
    { "CID=a\nparentCID=ffffffff\nparentFileNameHint=\"stale.vmdk\"\n", "cid:0000000a", NULL,
      NULL },
    { "parentCID=ffffffff\n", NULL, NULL, NULL },
    { "CID=a\nparentCID=ffffffff\nddb.uuid.image=\"1AFE8B08-e023-4ca6-94d2-f2d22f36dd63\"\n",
      "cid:0000000a uuid:1afe8b08-e023-4ca6-94d2-f2d22f36dd63", NULL, NULL },
    { "ddb.uuid.image=\"1afe8b08-e023-4ca6-94d2-f2d22f36dd63\"\n",
      "uuid:1afe8b08-e023-4ca6-94d2-f2d22f36dd63", NULL, NULL },
    { "CID=a\nparentCID=ffffffff\nddb.uuid.parent=\"1AFE8B08-e023-4ca6-94d2-f2d22f36dd63\"\n",
      "cid:0000000a", NULL, "uuid:1afe8b08-e023-4ca6-94d2-f2d22f36dd63" },
    { "CID=a\nparentCID=ffffffff\nddb.uuid.parent=\"00000000-0000-0000-0000-000000000000\"\n",
      "cid:0000000a", NULL, NULL },
    { "CID=a\nparentCID=b\nddb.uuid.parent=\"1afe8b08-e023-4ca6-94d2-f2d22f36dd63\"\n",
      "cid:0000000a", NULL, "cid:0000000b" },
    { "CID=a\nparentCID=ffffffff\nddb.uuid.parent=\"nonsense\"\n", "cid:0000000a", NULL, NULL },
};

static void assert_text(const char *found, const char *wanted, size_t row)
{
    if (!found != !wanted || (found && strcmp(found, wanted) != 0))
        fail_msg("row %zu: %s instead of %s", row, found ? found : "-", wanted ? wanted : "-");
}

static void identities_are_those_of_the_descriptor(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(identity_rows); i++) {
        const struct identity_row *row = &identity_rows[i];
        struct vmdk_rig rig;
        char text[500];

        vmdk_rig_init(&rig);
        snprintf(text, sizeof text, "# Disk DescriptorFile\nversion=1\n%sRW 1 ZERO\n", row->text);
        vmdk_rig_text(&rig, text);
        OK(vmdk_rig_open(&rig, READ, &e));
        assert_text(rig.layer.identity, row->identity, i);
        assert_text(rig.layer.parent_name, row->parent_name, i);
        assert_text(rig.layer.parent_identity, row->parent_identity, i);
        assert_text(rig.layer.parent_format, row->parent_identity ? "vmdk" : NULL, i);
        vmdk_rig_end(&rig);
    }
}

/* ---- what is refused ---- */

static const struct refused_row {
    const char *lines;
    bool writable;
    enum pl_kind kind;
    const char *message;
} refused_rows[] = {
    { "", false, PL_E_CORRUPT, "descriptor: it has no extent lines" },
    { "RW 1 FLAT \"missing\" 0\n", false, PL_E_NOT_FOUND,
      "extent 1 ('missing'): missing: no such" },
    { "RW 1 ZERO\nRW 1 FLAT \"/dev/sda\" 0\n", false, PL_E_POLICY, "extent 2 ('/dev/sda')" },
    { "RW 3 FLAT \"a\" 0\n", false, PL_E_CORRUPT,
      "extent 1 ('a'): the file has 1024 bytes, the descriptor wants 1536 from offset 0 on" },
    { "RW 2 FLAT \"a\" 1\n", false, PL_E_CORRUPT, "wants 1024 from offset 512 on" },
    { "RW 1 FLAT \"a\" 18014398509481983\n", false, PL_E_CORRUPT, "the file has 1024 bytes" },
    { "RW 18014398509481983 FLAT \"a\" 0\n", false, PL_E_CORRUPT, "the file has 1024 bytes" },
    { "RW 1152921504606846976 FLAT \"a\" 0\n", false, PL_E_LIMIT, "descriptor: line 8: a disk of" },
    { "RW 1 FLAT \"disk.vmdk\" 0\n", false, PL_E_CORRUPT, "names itself as an extent" },
    { "RW 1 FLAT \"./disk.vmdk\" 0\n", true, PL_E_CORRUPT, "names itself as an extent" },
    { "RW 1 ZERO\n", true, PL_E_UNSUPPORTED, "zero extents cannot be changed" },
    { "RDONLY 1 FLAT \"a\" 0\n", true, PL_E_UNSUPPORTED, "none of its extents may be written" },
    { "NOACCESS 1 FLAT \"a\" 0\n", true, PL_E_UNSUPPORTED, "none of its extents may be written" },
};

static void what_cannot_work_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(refused_rows); i++) {
        struct vmdk_rig rig;

        describe(&rig, refused_rows[i].lines);
        vmdk_rig_add(&rig, "a", 1024);
        FAILS(refused_rows[i].kind, refused_rows[i].message,
              vmdk_rig_open(&rig, refused_rows[i].writable ? WRITE : READ, &e));
        vmdk_rig_end(&rig);
    }
}

static void devices_of_the_host_are_named(void **state)
{
    struct vmdk_rig rig;

    (void)state;
    vmdk_rig_init(&rig);
    vmdk_rig_text(&rig, "# Disk DescriptorFile\nversion=1\ncreateType=\"fullDevice\"\n"
                        "RW 8 FLAT \"/dev/sdb\" 0\n");
    FAILS(PL_E_POLICY, "a device or file of the host that made the disk is meant",
          vmdk_rig_open(&rig, READ, &e));
    vmdk_rig_end(&rig);
}

static void names_in_other_letters_are_explained(void **state)
{
    struct vmdk_rig rig;
    struct pl_err e = { 0 };

    (void)state;
    vmdk_rig_init(&rig);
    vmdk_rig_text(&rig, "# Disk DescriptorFile\nversion=1\nencoding=\"GBK\"\n"
                        "RW 8 FLAT \"\xd0\xc2.vmdk\" 0\n");
    assert_int_equal(vmdk_rig_open(&rig, READ, &e), -1);
    assert_non_null(strstr(e.hint, "written in GBK"));
    assert_string_equal(rig.refused, "\xd0\xc2.vmdk"); /* as it is */
    vmdk_rig_end(&rig);
}

static void what_is_no_vmdk_is_refused(void **state)
{
    struct vmdk_rig rig;

    (void)state;
    vmdk_rig_init(&rig);
    vmdk_rig_text(&rig, "nothing of the kind");
    FAILS(PL_E_FORMAT, "not a vmdk file", vmdk_rig_open(&rig, READ, &e));
    vmdk_rig_text(&rig, "");
    FAILS(PL_E_FORMAT, "not a vmdk file", vmdk_rig_open(&rig, READ, &e));
    assert_false(pl_vmdk.probe(&(struct pl_probe){ .head = (const uint8_t *)"", .len = 0 }));
    assert_true(pl_vmdk.probe(&(struct pl_probe){ .head = (const uint8_t *)"KDMV", .len = 4 }));
    assert_true(pl_vmdk.probe(&(struct pl_probe){ .head = (const uint8_t *)"COWD", .len = 4 }));
    assert_true(
        pl_vmdk.probe(&(struct pl_probe){ .head = (const uint8_t *)HEAD, .len = strlen(HEAD) }));
    vmdk_rig_end(&rig);
}

/* ---- writing ---- */

static void writes_reach_their_extent(void **state)
{
    struct vmdk_rig rig;
    uint8_t bytes[5 * 512], byte;

    (void)state;
    describe(&rig, "RW 3 FLAT \"a\" 1\nRW 4 VMFS \"b\"\n");
    fill(vmdk_rig_add(&rig, "a", 5 * 512), 0xaa);
    fill(vmdk_rig_add(&rig, "b", 4 * 512), 0xbb);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    memset(bytes, 0x11, sizeof bytes);
    OK(vmdk_rig_write(&rig, 512, bytes, sizeof bytes, &e)); /* across the border */
    OK(pl_vmdk.flush(rig.layer.state, &e));
    for (uint64_t i = 0; i < 7; i++)
        assert_sector(&rig, i, i == 0 ? 0xaa : i == 6 ? 0xbb : 0x11);
    OK(pl_storage_read(vmdk_rig_file(&rig, "a"), 511, &byte, 1, &e));
    assert_int_equal(byte, 0xaa);
    OK(pl_storage_read(vmdk_rig_file(&rig, "a"), 4 * 512, &byte, 1, &e));
    assert_int_equal(byte, 0xaa);
    vmdk_rig_end(&rig);
}

static void zeros_cross_borders(void **state)
{
    struct vmdk_rig rig;

    (void)state;
    describe(&rig, "RW 2 FLAT \"a\" 0\nRW 2 FLAT \"b\" 0\n");
    fill(vmdk_rig_add(&rig, "a", 1024), 1);
    fill(vmdk_rig_add(&rig, "b", 1024), 1);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    assert_int_equal(pl_vmdk.zero(rig.layer.state, 512, 1024, false, NULL), 1);
    OK(pl_vmdk.zero(rig.layer.state, 512, 1024, true, &e));
    for (uint64_t i = 0; i < 4; i++)
        assert_sector(&rig, i, i == 0 || i == 3);
    OK(pl_vmdk.discard(rig.layer.state, 0, 2048, &e));
    for (uint64_t i = 0; i < 4; i++)
        assert_sector(&rig, i, 0);
    vmdk_rig_end(&rig);
}

static void extents_for_reading_are_not_written(void **state)
{
    struct vmdk_rig rig;
    uint8_t sector[512] = { 0 };

    (void)state;
    describe(&rig, "RW 1 FLAT \"a\" 0\nRDONLY 1 FLAT \"b\" 0\nRW 1 ZERO\n"
                   "NOACCESS 1 FLAT \"c\" 0\n");
    vmdk_rig_add(&rig, "a", 512);
    fill(vmdk_rig_add(&rig, "b", 512), 7);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    write_sector(&rig, 0, 1);
    FAILS(PL_E_UNSUPPORTED, "extent 2 ('b'): the descriptor forbids writing to it (RDONLY)",
          vmdk_rig_write(&rig, 512, sector, 512, &e));
    FAILS(PL_E_UNSUPPORTED, "extent 3: zero extents cannot be written",
          vmdk_rig_write(&rig, 1024, sector, 512, &e));
    FAILS(PL_E_UNSUPPORTED, "extent 4 ('c'): the descriptor forbids writing to it (NOACCESS)",
          vmdk_rig_write(&rig, 1536, sector, 512, &e));
    FAILS(PL_E_UNSUPPORTED, "RDONLY", pl_vmdk.zero(rig.layer.state, 0, 1024, true, &e));
    OK(pl_vmdk.discard(rig.layer.state, 0, 2048, &e)); /* leaves them alone */
    assert_sector(&rig, 1, 7);
    vmdk_rig_end(&rig);
}

static void warn(void *ctx, const char *message)
{
    snprintf(ctx, 300, "%s", message);
}

static void change_tracking_is_warned_of(void **state)
{
    char message[300] = "";
    struct vmdk_rig rig;

    (void)state;
    describe(&rig, "RW 1 FLAT \"a\" 0\nchangeTrackPath=\"a-ctk.vmdk\"\n");
    vmdk_rig_add(&rig, "a", 512);
    rig.report = (struct pl_report){ .ctx = message, .warn = warn };
    OK(vmdk_rig_open(&rig, READ, &e));
    vmdk_rig_close(&rig);
    assert_string_equal(message, "");
    OK(vmdk_rig_open(&rig, WRITE, &e));
    assert_non_null(strstr(message, "a-ctk.vmdk"));
    vmdk_rig_end(&rig);
}

/* ---- checking ---- */

static const struct check_row {
    const char *lines;
    unsigned corruptions;
} check_rows[] = {
    { "RW 2 FLAT \"a\" 0\nRW 2 FLAT \"b\" 0\n", 0 },
    { "RW 1 FLAT \"a\" 0\nRW 1 ZERO\nRW 1 FLAT \"a\" 1\n", 0 },
    { "RW 1 FLAT \"missing\" 0\nRW 1 FLAT \"a\" 0\nRW 1 FLAT \"missing\" 1\n", 2 },
    { "RW 3 FLAT \"a\" 0\n", 1 },
    { "RW 1 FLAT \"a\" 2\n", 1 },
    { "RW 2 FLAT \"a\" 0\nRW 1 FLAT \"a\" 1\n", 1 },
    { "RW 1 FLAT \"a\" 1\nRW 1 FLAT \"b\" 1\nRW 1 FLAT \"a\" 1\nRW 1 FLAT \"a\" 1\n", 2 },
    { "RW 1 FLAT \"a\" 1\nRW 2 FLAT \"a\" 0\nRW 1 FLAT \"a\" 0\n", 2 },
    { "RW 1 FLAT \"disk.vmdk\" 0\n", 1 },
};

static void check_counts_what_is_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(check_rows); i++) {
        struct pl_check_result result = { 0 };
        struct vmdk_rig rig;

        describe(&rig, check_rows[i].lines);
        vmdk_rig_add(&rig, "a", 1024);
        vmdk_rig_add(&rig, "b", 1024);
        OK(vmdk_rig_open(&rig, CHECK, &e));
        OK(pl_vmdk.check(rig.layer.state, PL_REPAIR_NONE, NULL, &result, &e));
        if (result.corruptions != check_rows[i].corruptions)
            fail_msg("row %zu: %u", i, (unsigned)result.corruptions);
        vmdk_rig_end(&rig);
    }
}

/* ---- info ---- */

static const struct pl_fact *member(const struct pl_fact *parent, const char *name)
{
    for (const struct pl_fact *fact = parent->child; fact; fact = fact->next)
        if (!name || strcmp(fact->name, name) == 0)
            return fact;
    fail_msg("no %s", name);
    return NULL;
}

static void info_tells_the_extents(void **state)
{
    struct pl_fact *facts = pl_facts_new();
    const struct pl_fact *extent;
    struct vmdk_rig rig;

    (void)state;
    describe(&rig, "RW 2 FLAT \"a\" 0\nNOACCESS 1 VMFS \"b\"\nddb.adapterType = \"ide\"\n");
    vmdk_rig_add(&rig, "a", 1024);
    OK(vmdk_rig_open(&rig, READ, &e));
    OK(pl_vmdk.info(rig.layer.state, facts, &e));
    assert_int_equal(member(facts, "cid")->number, 0x0a1b2c3d);
    assert_int_equal(member(facts, "parent-cid")->number, 0xffffffff);
    assert_string_equal(member(facts, "create-type")->text, "monolithicFlat");
    assert_string_equal(member(facts, "adapter-type")->text, "ide");
    extent = member(facts, "extents")->child;
    assert_int_equal(member(extent, "virtual-size")->number, 1024);
    assert_string_equal(member(extent, "filename")->text, "a");
    assert_string_equal(member(extent, "format")->text, "FLAT");
    extent = extent->next;
    assert_string_equal(member(extent, "format")->text, "VMFS");
    assert_string_equal(member(extent, "access")->text, "NOACCESS");
    assert_null(extent->next);
    pl_facts_free(facts);
    vmdk_rig_end(&rig);
}

/* Extents that are not there do not keep the others from being described; all other defects do. */
static void info_marks_missing_extents(void **state)
{
    const struct pl_open_args describe_only = { .describe_only = true };
    struct pl_fact *facts = pl_facts_new();
    const struct pl_fact *extent;
    struct vmdk_rig rig;
    struct pl_extent x;

    (void)state;
    describe(&rig, "RW 1 FLAT \"lost\" 0\nRW 2 FLAT \"a\" 0\nRW 1 SPARSE \"lost\" 1\n");
    vmdk_rig_add(&rig, "a", 1024);
    OK(vmdk_rig_open(&rig, describe_only, &e));
    assert_int_equal(rig.layer.size, 2048);
    OK(pl_vmdk.info(rig.layer.state, facts, &e));
    extent = member(facts, "extents")->child;
    for (unsigned i = 0; i < 3; i++, extent = extent->next)
        if (i == 1)
            assert_string_equal(extent->last->name, "format");
        else
            assert_int_equal(member(extent, "missing")->number, 1);
    assert_null(extent);
    pl_facts_free(facts);
    FAILS(PL_E_NOT_FOUND, "extent 3 ('lost'): its file is missing",
          pl_vmdk.map(rig.layer.state, 1536, 512, &x, &e));
    assert_true(pl_vmdk.disk_usage(rig.layer.state) > 0);
    vmdk_rig_end(&rig);

    describe(&rig, "RW 1 FLAT \"lost\" 0\nRW 1 FLAT \"/dev/sda\" 0\n");
    FAILS(PL_E_POLICY, "extent 2 ('/dev/sda')", vmdk_rig_open(&rig, describe_only, &e));
    vmdk_rig_end(&rig);
    describe(&rig, "RW 3 FLAT \"a\" 0\n");
    vmdk_rig_add(&rig, "a", 1024);
    FAILS(PL_E_CORRUPT, "the file has 1024 bytes", vmdk_rig_open(&rig, describe_only, &e));
    vmdk_rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extents_are_behind_each_other),
        cmocka_unit_test(runs_end_at_borders),
        cmocka_unit_test(many_extents_are_found),
        cmocka_unit_test(closed_extents_cannot_be_read),
        cmocka_unit_test(identities_are_those_of_the_descriptor),
        cmocka_unit_test(what_cannot_work_is_refused),
        cmocka_unit_test(devices_of_the_host_are_named),
        cmocka_unit_test(names_in_other_letters_are_explained),
        cmocka_unit_test(what_is_no_vmdk_is_refused),
        cmocka_unit_test(writes_reach_their_extent),
        cmocka_unit_test(zeros_cross_borders),
        cmocka_unit_test(extents_for_reading_are_not_written),
        cmocka_unit_test(change_tracking_is_warned_of),
        cmocka_unit_test(check_counts_what_is_wrong),
        cmocka_unit_test(info_tells_the_extents),
        cmocka_unit_test(info_marks_missing_extents),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
