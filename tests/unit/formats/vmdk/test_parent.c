/* A change of parent changes three values of the descriptor and nothing else, and a crash at any
 * instant leaves the old parent or the new one; what children know the disk by stays. */
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
#include "core/base/scope.h"
#include "formats/vmdk/layout.h"
#include "formats/vmdk/extent.h"
#include "tests/support/flaky.h"
#include "tests/support/images.h"
#include "tests/support/vmdk_disk_rig.h"

#define WRITE ((struct pl_open_args){ .writable = true })
#define HEAD "# Disk DescriptorFile\nversion=1\nCID=0a1b2c3d\n"
#define EXTENT "RW 2048 SPARSE \"a\"\n"
#define UUID_A "1afe8b08-e023-4ca6-94d2-f2d22f36dd63"
#define UUID_NONE "00000000-0000-0000-0000-000000000000"
#define SIZE PL_MIB
#define DESCRIPTOR_AT (VMDK_DESCRIPTOR_OFFSET * VMDK_SECTOR)

static const struct pl_parent_ref none = { 0 };

static int set_parent(struct vmdk_rig *rig, const struct pl_parent_ref *parent, struct pl_err *e)
{
    return pl_vmdk.set_parent(rig->layer.state, parent, e);
}

/* A disk of one sparse extent with that descriptor. */
static void describe(struct vmdk_rig *rig, const char *text)
{
    const struct vmdk_sparse_new what = { .size = SIZE, .grain_size = 4096, .zeroed_grain = true };

    vmdk_rig_init(rig);
    vmdk_rig_text(rig, text);
    OK(vmdk_sparse_create(vmdk_rig_add(rig, "a", 0), &what, &e));
    OK(vmdk_rig_open(rig, WRITE, &e));
}

/* ---- the text ---- */

static const struct text_row {
    const char *name;
    struct pl_parent_ref parent;
    const char *before, *after;
} text_rows[] = {
    { "a first parent, in the place that VMware gives the hint",
      { "p.vmdk", "vmdk", "cid:77161c8f" },
      HEAD "parentCID=ffffffff\ncreateType=\"twoGbMaxExtentSparse\"\n\n" EXTENT "ddb.x = \"1\"\n",
      HEAD
      "parentCID=77161c8f\ncreateType=\"twoGbMaxExtentSparse\"\nparentFileNameHint=\"p.vmdk\"\n"
      "\n" EXTENT "ddb.x = \"1\"\n" },
    { "another parent",
      { "sub dir/q.vmdk", NULL, "cid:0000000a uuid:" UUID_A },
      HEAD "parentCID=77161c8f\r\ncreateType=\"x\"\r\nparentFileNameHint=\"p.vmdk\"\r\n" EXTENT,
      HEAD
      "parentCID=0000000a\r\ncreateType=\"x\"\r\nparentFileNameHint=\"sub dir/q.vmdk\"\r\n" EXTENT
      "ddb.uuid.parent = \"" UUID_A "\"\n" },
    { "none, as VMware's text",
      { 0 },
      HEAD "parentCID=77161c8f\nparentFileNameHint=\"p.vmdk\"\ncreateType=\"x\"\n" EXTENT,
      HEAD "parentCID=ffffffff\ncreateType=\"x\"\n" EXTENT },
    { "none, as VirtualBox's text",
      { 0 },
      HEAD "parentCID=77161c8f\n" EXTENT "ddb.uuid.image=\"" UUID_NONE "\"\n"
           "ddb.uuid.parent=\"" UUID_A "\"\nddb.uuid.parentmodification=\"" UUID_A
           "\"\nddb.z=\"1\"",
      HEAD "parentCID=ffffffff\n" EXTENT "ddb.uuid.image=\"" UUID_NONE "\"\n"
           "ddb.uuid.parent=\"" UUID_NONE "\"\nddb.uuid.parentmodification=\"" UUID_NONE
           "\"\nddb.z=\"1\"" },
    { "a parent without a UUID in the place of one with it",
      { "p.vmdk", "vmdk", "cid:1" },
      HEAD "parentCID=ffffffff\n" EXTENT "ddb.uuid.parent=\"" UUID_A "\"\n",
      HEAD "parentCID=00000001\nparentFileNameHint=\"p.vmdk\"\n" EXTENT
           "ddb.uuid.parent=\"" UUID_NONE "\"\n" },
    { "no line of the parent yet, nor a last line's end",
      { "p.vmdk", "vmdk", "cid:1 uuid:" UUID_A },
      HEAD EXTENT "#end",
      HEAD "parentCID=00000001\nparentFileNameHint=\"p.vmdk\"\n" EXTENT
           "#end\nddb.uuid.parent = \"" UUID_A "\"\n" },
    { "a name without quotes, and one too many",
      { "p.vmdk", "vmdk", "cid:1" },
      HEAD "parentCID=2\nparentFileNameHint=old name\nparentFileNameHint=\"2\"\n" EXTENT,
      HEAD "parentCID=00000001\nparentFileNameHint=\"p.vmdk\"\nparentFileNameHint=\"2\"\n" EXTENT },
    { "all names go",
      { 0 },
      HEAD "parentCID=2\nparentFileNameHint=old name\n" EXTENT "parentFileNameHint=\"2\"",
      HEAD "parentCID=ffffffff\n" EXTENT },
};

static void the_text_says_the_parent_and_all_else_stays(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(text_rows); i++) {
        const struct text_row *row = &text_rows[i];
        struct vmdk_rig rig;
        char *text;

        describe(&rig, row->before);
        OK(set_parent(&rig, &row->parent, &e));
        text = vmdk_rig_read_text(&rig);
        if (strcmp(text, row->after) != 0)
            fail_msg("%s: %s", row->name, text);
        free(text);
        vmdk_rig_close(&rig);
        OK(vmdk_rig_open(&rig, (struct pl_open_args){ 0 }, &e));
        if (row->parent.name)
            assert_string_equal(rig.layer.parent_name, row->parent.name);
        else
            assert_null(rig.layer.parent_identity);
        vmdk_rig_end(&rig);
    }
}

static void what_the_layer_does_not_say_follows_the_parent(void **state)
{
    const struct pl_parent_ref parent = { "p.vmdk", "vmdk", "cid:1" };
    struct vmdk_rig rig;
    struct pl_extent x;

    (void)state;
    describe(&rig, HEAD "parentCID=ffffffff\n" EXTENT);
    OK(pl_vmdk.zero(rig.layer.state, 0, 4096, true, &e));
    OK(pl_vmdk.map(rig.layer.state, 0, 4096, &x, &e));
    assert_int_equal(x.state, PL_PARENT); /* without one zeros need not be said ... */
    OK(set_parent(&rig, &parent, &e));
    OK(pl_vmdk.zero(rig.layer.state, 0, 4096, true, &e));
    OK(pl_vmdk.map(rig.layer.state, 0, 4096, &x, &e));
    assert_int_equal(x.state, PL_ZERO); /* ... over one they must */
    OK(pl_vmdk.forget(rig.layer.state, 0, 4096, &e));
    OK(pl_vmdk.map(rig.layer.state, 0, 4096, &x, &e));
    assert_int_equal(x.state, PL_PARENT);
    vmdk_rig_end(&rig);
}

/* ---- what is refused ---- */

static const struct refused_row {
    struct pl_parent_ref parent;
    enum pl_kind kind;
    const char *text;
} refused_rows[] = {
    { { "p.qcow2", "qcow2", "cid:1" }, PL_E_INVALID, "must be a vmdk image, not qcow2" },
    { { "p.vmdk", "vmdk", NULL }, PL_E_INVALID, "it has no CID" },
    { { "p.vmdk", "vmdk", "uuid:" UUID_A }, PL_E_INVALID, "it has no CID" },
    { { "p.vmdk", "vmdk", "cid:ffffffff" }, PL_E_INVALID, "would mean" },
    { { "p\".vmdk", "vmdk", "cid:1" }, PL_E_INVALID, "quotes" },
    { { "p\n.vmdk", NULL, "cid:1" }, PL_E_INVALID, "control" },
};

static void other_parents_are_refused(void **state)
{
    static const char text[] = HEAD "parentCID=ffffffff\n" EXTENT;

    (void)state;
    for (size_t i = 0; i < PL_COUNT(refused_rows); i++) {
        struct vmdk_rig rig;
        char *after;

        describe(&rig, text);
        FAILS(refused_rows[i].kind, refused_rows[i].text,
              set_parent(&rig, &refused_rows[i].parent, &e));
        after = vmdk_rig_read_text(&rig);
        assert_string_equal(after, text);
        free(after);
        vmdk_rig_end(&rig);
    }
}

static void disks_that_cannot_have_parents_say_so(void **state)
{
    const struct pl_parent_ref parent = { "p.vmdk", "vmdk", "cid:1" };
    const struct vmdk_sparse_new alone = { .size = SIZE, .grain_size = 4096 };
    struct vmdk_rig rig;

    (void)state;
    vmdk_rig_init(&rig);
    vmdk_rig_text(&rig, HEAD "parentCID=ffffffff\nRW 8 FLAT \"a\" 0\n");
    vmdk_rig_add(&rig, "a", 4096);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    FAILS(PL_E_UNSUPPORTED, "leaves anything", set_parent(&rig, &parent, &e));
    FAILS(PL_E_UNSUPPORTED, "flat extents leave nothing",
          pl_vmdk.forget(rig.layer.state, 0, 4096, &e));
    OK(set_parent(&rig, &none, &e));
    vmdk_rig_close(&rig);
    OK(vmdk_rig_open(&rig, (struct pl_open_args){ 0 }, &e));
    rig.file[0].st->writable = false;
    FAILS(PL_E_INVALID, "reading only", set_parent(&rig, &none, &e));
    vmdk_rig_end(&rig);

    vmdk_rig_init(&rig);
    OK(vmdk_sparse_create(rig.file[0].st, &alone, &e));
    OK(vmdk_rig_open(&rig, WRITE, &e));
    FAILS(PL_E_UNSUPPORTED, "without its descriptor", set_parent(&rig, &none, &e));
    vmdk_rig_end(&rig);
}

/* ---- embedded descriptors ---- */

/* A disk of one file, with a descriptor of at least `least` bytes. */
static void embed(struct vmdk_rig *rig, size_t least)
{
    char text[12000];
    const struct vmdk_sparse_new what = { .size = SIZE, .grain_size = 4096, .descriptor = text };
    struct pl_storage *plain = memory(), *flaky;
    PL_FREE uint8_t *bytes = NULL;
    size_t len;

    len = (size_t)snprintf(text, sizeof text,
                           HEAD "parentCID=ffffffff\ncreateType=\"x\"\n"
                                "RW 2048 SPARSE \"disk.vmdk\"\n");
    while (len < least)
        len += (size_t)snprintf(text + len, sizeof text - len, "ddb.number%05zu = \"1\"\n", len);
    OK(vmdk_sparse_create(plain, &what, &e));
    len = pl_storage_size(plain);
    bytes = malloc(len);
    OK(pl_storage_read(plain, 0, bytes, len, &e));
    pl_storage_close(plain, NULL);
    OK(pl_flaky_storage(bytes, len, MEMORY_LIMIT, &flaky, &e));
    *rig = (struct vmdk_rig){ 0 };
    vmdk_rig_put(rig, "disk.vmdk", flaky);
    OK(vmdk_rig_open(rig, WRITE, &e));
}

/* Where the header says that the descriptor is. */
static uint64_t place_of(struct pl_storage *st)
{
    uint8_t raw[8];

    OK(pl_storage_read(st, 28, raw, 8, &e));
    return load_le64(raw) * VMDK_SECTOR;
}

/* The text where QEMU looks for it. */
static char *text_at_home(struct pl_storage *st)
{
    char *text = calloc(1, 10241);

    OK(pl_storage_read(st, DESCRIPTOR_AT, text, 10240, &e));
    return text;
}

static const struct pl_parent_ref long_parent = {
    "a folder with a name that is long/and another one in it that is not any shorter/parent.vmdk",
    "vmdk", "cid:77161c8f uuid:" UUID_A
};

static void an_embedded_text_comes_back_to_its_place(void **state)
{
    static const size_t lengths[] = { 0, 400, 511, 512, 513, 1100, 4000, 4900 };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(lengths); i++) {
        struct vmdk_rig rig;
        char *first, *second, *third;

        embed(&rig, lengths[i]);
        first = text_at_home(rig.file[0].st);
        OK(set_parent(&rig, &long_parent, &e));
        assert_int_equal(place_of(rig.file[0].st), DESCRIPTOR_AT);
        second = text_at_home(rig.file[0].st);
        assert_non_null(strstr(second, "\nparentCID=77161c8f\n"));
        assert_non_null(strstr(second, "not any shorter/parent.vmdk\"\n"));
        assert_non_null(strstr(second, "\nddb.uuid.parent = \"" UUID_A "\"\n"));
        vmdk_rig_close(&rig);
        OK(vmdk_rig_open(&rig, WRITE, &e));
        assert_string_equal(rig.layer.parent_name, long_parent.name);
        OK(set_parent(&rig, &none, &e));
        third = text_at_home(rig.file[0].st);
        assert_null(strstr(third, "parentFileNameHint"));
        assert_non_null(strstr(third, UUID_NONE));
        assert_memory_equal(third, first, strlen(HEAD));
        for (size_t at = strlen(third); at < 10240; at++)
            assert_int_equal(third[at], 0);
        free(first);
        free(second);
        free(third);
        vmdk_rig_end(&rig);
    }
}

static void without_room_for_two_texts_nothing_changes(void **state)
{
    struct vmdk_rig rig;

    (void)state;
    embed(&rig, 6000);
    FAILS(PL_E_UNSUPPORTED, "do not hold the old text", set_parent(&rig, &long_parent, &e));
    assert_int_equal(pl_flaky_operation_count(rig.file[0].st), 1); /* a flush */
    vmdk_rig_end(&rig);
}

/* The text that the header of a disk tells of. */
static char *text_in(struct pl_storage *st)
{
    char *text = calloc(1, 10241);
    const uint64_t at = place_of(st);

    assert_true(at >= DESCRIPTOR_AT && at < DESCRIPTOR_AT + 10240);
    OK(pl_storage_read(st, at, text, DESCRIPTOR_AT + 10240 - at, &e));
    return text;
}

/* The text in a file that a crash left; opening that for writing brings the text home and changes
 * nothing of it. */
static char *text_left(const struct vmdk_rig *rig, uint64_t op, uint64_t seed)
{
    PL_FREE uint8_t *bytes = NULL;
    PL_FREE char *now = NULL;
    struct vmdk_rig left = { 0 };
    struct pl_storage *st;
    char *text;
    size_t len;

    pl_flaky_cut(rig->file[0].st, op, seed, &bytes, &len);
    OK(pl_memory_storage(bytes, len, MEMORY_LIMIT, &st, &e));
    vmdk_rig_put(&left, "disk.vmdk", st);
    text = text_in(st);
    OK(vmdk_rig_open(&left, (struct pl_open_args){ 0 }, &e));
    vmdk_rig_close(&left);
    OK(vmdk_rig_open(&left, WRITE, &e));
    assert_int_equal(place_of(st), DESCRIPTOR_AT);
    now = text_in(st);
    assert_string_equal(now, text);
    vmdk_rig_end(&left);
    return text;
}

static void every_crash_leaves_one_of_the_texts(void **state)
{
    static const struct pl_parent_ref short_parent = { "p.vmdk", "vmdk", "cid:1" };

    (void)state;
    for (size_t least = 0; least < 5000; least += 700) {
        uint64_t start, middle, end;
        PL_FREE char *old = NULL, *new = NULL, *last = NULL;
        struct vmdk_rig rig;
        bool seen[2] = { false };

        embed(&rig, least);
        OK(set_parent(&rig, &short_parent, &e));
        old = text_in(rig.file[0].st);
        start = pl_flaky_operation_count(rig.file[0].st);
        OK(set_parent(&rig, &long_parent, &e));
        new = text_in(rig.file[0].st);
        middle = pl_flaky_operation_count(rig.file[0].st);
        OK(set_parent(&rig, &short_parent, &e));
        last = text_in(rig.file[0].st);
        end = pl_flaky_operation_count(rig.file[0].st);
        for (uint64_t op = start; op <= end; op++)
            for (uint64_t seed = 0; seed < 20; seed++) {
                PL_FREE char *text = text_left(&rig, op, seed);
                const char *first = op <= middle ? old : new, *second = op < middle ? new : last;

                if (op == start || op == middle || op == end)
                    second = first = op == start ? old : op == middle ? new : last;
                if (strcmp(text, first) != 0 && strcmp(text, second) != 0)
                    fail_msg("after change %u (seed %u): %s", (unsigned)op, (unsigned)seed, text);
                seen[strcmp(text, new) == 0] = true;
            }
        assert_true(seen[0] && seen[1]);
        vmdk_rig_end(&rig);
    }
}

/* Of a crash when the header names the new text and nothing was copied yet. */
static void a_repair_brings_the_text_home(void **state)
{
    const struct pl_open_args reads = { .check_only = true },
                              repairs = { .check_only = true, .writable = true };
    PL_FREE uint8_t *bytes = NULL;
    struct pl_check_result result = { 0 };
    struct vmdk_rig rig, left = { 0 };
    struct pl_storage *st = NULL;
    uint64_t op = 0;
    size_t len;

    (void)state;
    embed(&rig, 900);
    OK(set_parent(&rig, &long_parent, &e));
    do {
        pl_storage_close(st, NULL);
        free(bytes);
        pl_flaky_cut(rig.file[0].st, op++, 1, &bytes, &len);
        OK(pl_memory_storage(bytes, len, MEMORY_LIMIT, &st, &e));
        assert_true(op <= pl_flaky_operation_count(rig.file[0].st));
    } while (place_of(st) == DESCRIPTOR_AT);
    vmdk_rig_put(&left, "disk.vmdk", st);
    OK(vmdk_rig_open(&left, reads, &e));
    OK(pl_vmdk.check(left.layer.state, PL_REPAIR_NONE, NULL, &result, &e));
    assert_int_equal(result.leaks, 1);
    assert_int_equal(result.corruptions + result.check_errors, 0);
    vmdk_rig_close(&left);
    assert_true(place_of(st) != DESCRIPTOR_AT);
    for (unsigned turn = 0; turn < 2; turn++) { /* the second one finds nothing */
        result = (struct pl_check_result){ 0 };
        OK(vmdk_rig_open(&left, repairs, &e));
        OK(pl_vmdk.check(left.layer.state, PL_REPAIR_LEAKS, NULL, &result, &e));
        assert_int_equal(result.leaks_fixed, turn ? 0 : 1);
        assert_int_equal(result.leaks + result.corruptions + result.check_errors, 0);
        assert_string_equal(left.layer.parent_name, long_parent.name);
        assert_int_equal(place_of(st), DESCRIPTOR_AT);
        vmdk_rig_close(&left);
    }
    vmdk_rig_end(&left);
    vmdk_rig_end(&rig);
}

static void every_failure_leaves_one_of_the_texts(void **state)
{
    bool failed = true;

    (void)state;
    for (uint64_t n = 0; failed; n++) {
        PL_FREE char *old = NULL, *now = NULL;
        struct vmdk_rig rig;
        struct pl_err e;

        embed(&rig, 900);
        old = text_in(rig.file[0].st);
        pl_flaky_fail_at(rig.file[0].st, n, n % 2 ? EIO : ENOSPC, n % 3 == 0);
        failed = set_parent(&rig, &long_parent, &e) < 0;
        pl_flaky_fail_at(rig.file[0].st, UINT64_MAX, 0, false);
        now = text_left(&rig, UINT64_MAX, 0);
        assert_true(strstr(now, "not any shorter/parent.vmdk") || (failed && !strcmp(now, old)));
        if (failed)
            assert_true(e.kind == PL_E_SYS || e.kind == PL_E_NO_SPACE);
        vmdk_rig_end(&rig);
    }
}

/* ---- descriptor files ---- */

static void a_descriptor_file_is_replaced_behind_the_data(void **state)
{
    static const char text[] = HEAD "parentCID=ffffffff\n" EXTENT;
    const uint8_t sector[512] = { 1, 2, 3 };
    struct pl_storage *flaky, *a;
    struct vmdk_rig rig;
    uint64_t before;

    (void)state;
    describe(&rig, text);
    vmdk_rig_close(&rig);
    a = rig.file[1].st;
    OK(pl_flaky_storage(text, strlen(text), MEMORY_LIMIT, &flaky, &e));
    pl_storage_close(rig.file[0].st, NULL);
    rig.count = 0;
    vmdk_rig_put(&rig, "disk.vmdk", flaky);
    vmdk_rig_put(&rig, "a", a);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    OK(vmdk_rig_write(&rig, 0, sector, sizeof sector, &e));
    before = pl_flaky_operation_count(flaky);
    OK(set_parent(&rig, &long_parent, &e));
    assert_int_equal(pl_flaky_operation_count(flaky), before + 1); /* at once */
    OK(vmdk_rig_write(&rig, 4096, sector, sizeof sector, &e));
    pl_flaky_fail_at(flaky, before + 1, EIO, false);
    FAILS(PL_E_SYS, "replacing", set_parent(&rig, &none, &e));
    OK(set_parent(&rig, &none, &e));
    vmdk_rig_end(&rig);
}

/* Opens what a crash after operation `op` leaves of a disk of two files. */
static void open_left(const struct vmdk_rig *rig, uint64_t op, uint64_t seed, struct vmdk_rig *left)
{
    *left = (struct vmdk_rig){ 0 };
    for (unsigned i = 0; i < 2; i++) {
        PL_FREE uint8_t *bytes = NULL;
        struct pl_storage *st;
        size_t len;

        pl_flaky_cut(rig->file[i].st, op, seed, &bytes, &len);
        OK(pl_memory_storage(bytes, len, MEMORY_LIMIT, &st, &e));
        vmdk_rig_put(left, rig->file[i].name, st);
    }
    OK(vmdk_rig_open(left, WRITE, &e));
}

/* Whenever a descriptor on disk names another parent, all that was written before is there. */
static void data_come_before_the_parent(void **state)
{
    static const char text[] = HEAD "parentCID=ffffffff\n" EXTENT;
    static const uint8_t wanted[4096] = { [0 ... 4095] = 0x5a };
    struct pl_storage *disk, *extent;
    PL_FREE uint8_t *bytes = NULL;
    struct vmdk_rig rig;
    size_t len;

    (void)state;
    describe(&rig, text);
    vmdk_rig_close(&rig);
    len = pl_storage_size(rig.file[1].st);
    bytes = malloc(len);
    OK(pl_storage_read(rig.file[1].st, 0, bytes, len, &e));
    vmdk_rig_end(&rig);
    OK(pl_flaky_storage(text, strlen(text), MEMORY_LIMIT, &disk, &e));
    OK(pl_flaky_storage(bytes, len, MEMORY_LIMIT, &extent, &e));
    pl_flaky_pair(disk, extent);
    vmdk_rig_put(&rig, "disk.vmdk", disk);
    vmdk_rig_put(&rig, "a", extent);
    OK(vmdk_rig_open(&rig, WRITE, &e));
    OK(vmdk_rig_write(&rig, 8192, wanted, sizeof wanted, &e));
    OK(set_parent(&rig, &long_parent, &e));
    for (uint64_t op = 0; op <= pl_flaky_operation_count(disk); op++)
        for (uint64_t seed = 0; seed < 30; seed++) {
            struct vmdk_rig found;
            uint8_t read[4096];

            open_left(&rig, op, seed, &found);
            OK(vmdk_rig_read(&found, 8192, read, sizeof read, &e));
            if (found.layer.parent_name)
                assert_memory_equal(read, wanted, sizeof read);
            else
                assert_true(op < pl_flaky_operation_count(disk));
            vmdk_rig_end(&found);
        }
    vmdk_rig_end(&rig);
}

/* ---- forgetting, and content that stays ---- */

static void forgotten_room_is_used_again(void **state)
{
    static uint8_t bytes[16 * 4096];
    struct pl_check_result result = { 0 };
    struct vmdk_rig rig;
    struct pl_extent x;
    uint64_t size;

    (void)state;
    memset(bytes, 7, sizeof bytes);
    describe(&rig, HEAD "parentCID=00000001\n" EXTENT);
    OK(vmdk_rig_write(&rig, 0, bytes, sizeof bytes, &e));
    OK(pl_vmdk.flush(rig.layer.state, &e));
    size = pl_storage_size(rig.file[1].st);
    OK(pl_vmdk.forget(rig.layer.state, 0, SIZE, &e));
    OK(pl_vmdk.map(rig.layer.state, 0, SIZE, &x, &e));
    assert_int_equal(x.state, PL_PARENT);
    assert_int_equal(x.len, SIZE);
    OK(pl_vmdk.flush(rig.layer.state, &e));
    OK(vmdk_rig_write(&rig, SIZE / 2, bytes, sizeof bytes, &e));
    OK(pl_vmdk.flush(rig.layer.state, &e));
    assert_int_equal(pl_storage_size(rig.file[1].st), size);
    OK(pl_vmdk.check(rig.layer.state, PL_REPAIR_NONE, NULL, &result, &e));
    assert_int_equal(result.corruptions + result.leaks + result.check_errors, 0);
    FAILS(PL_E_INVALID, "whole number of grains", pl_vmdk.forget(rig.layer.state, 512, 512, &e));
    vmdk_rig_end(&rig);
}

static void kept_content_keeps_its_cid(void **state)
{
    const struct pl_open_args keeps = { .writable = true, .keeps_content = true };
    static const uint8_t bytes[4096] = { 9 };
    char *before, *after;
    struct vmdk_rig rig;

    (void)state;
    describe(&rig, HEAD "parentCID=00000001\n" EXTENT);
    vmdk_rig_close(&rig);
    before = vmdk_rig_read_text(&rig);
    OK(vmdk_rig_open(&rig, keeps, &e));
    OK(vmdk_rig_write(&rig, 0, bytes, sizeof bytes, &e));
    OK(pl_vmdk.zero(rig.layer.state, 4096, 4096, true, &e));
    OK(pl_vmdk.discard(rig.layer.state, 8192, 4096, &e));
    OK(pl_vmdk.forget(rig.layer.state, 0, 4096, &e));
    OK(pl_vmdk.flush(rig.layer.state, &e));
    after = vmdk_rig_read_text(&rig);
    assert_string_equal(after, before);
    free(after);
    OK(pl_vmdk.resize(rig.layer.state, 2 * SIZE, false, PL_PREALLOC_OFF, &e));
    after = vmdk_rig_read_text(&rig);
    assert_non_null(strstr(after, "\nCID=0a1b2c3d\n"));
    free(after);
    OK(set_parent(&rig, &none, &e));
    after = vmdk_rig_read_text(&rig);
    assert_non_null(strstr(after, "\nCID=0a1b2c3d\n"));
    free(after);
    free(before);
    vmdk_rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_says_the_parent_and_all_else_stays),
        cmocka_unit_test(what_the_layer_does_not_say_follows_the_parent),
        cmocka_unit_test(other_parents_are_refused),
        cmocka_unit_test(disks_that_cannot_have_parents_say_so),
        cmocka_unit_test(an_embedded_text_comes_back_to_its_place),
        cmocka_unit_test(without_room_for_two_texts_nothing_changes),
        cmocka_unit_test(every_crash_leaves_one_of_the_texts),
        cmocka_unit_test(a_repair_brings_the_text_home),
        cmocka_unit_test(every_failure_leaves_one_of_the_texts),
        cmocka_unit_test(a_descriptor_file_is_replaced_behind_the_data),
        cmocka_unit_test(data_come_before_the_parent),
        cmocka_unit_test(forgotten_room_is_used_again),
        cmocka_unit_test(kept_content_keeps_its_cid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
