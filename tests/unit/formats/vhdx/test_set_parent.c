/* Another parent, or none; sectors that become the parent's again; content that is kept. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "formats/vhdx/vhdx.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/unit/formats/vhdx/edit.h"

#define OTHER "uuid:00112233-4455-6677-8899-aabbccddeeff"
#define SIZE (4 * PL_MIB)
#define DATA_GUID_AT 32

static const struct pl_parent_ref none = { 0 };
static const struct pl_parent_ref other = { "sub/other.vhdx", "vhdx", OTHER };

static uint8_t ones[SIZE];

/* A child, open, of a parent of ones: it has the sectors 8 and 9, block 1, and zeros as block 2. */
static struct rig child(void)
{
    struct rig rig;
    PL_FREE uint8_t *bytes = malloc(PL_MIB);

    memset(ones, 1, sizeof ones);
    memset(bytes, 7, PL_MIB);
    rig = new_rig("block_size=1M", SIZE, ones, SIZE);
    OK(rig_open(&rig, &e));
    OK(rig_write(&rig, 4096, bytes, 1024, &e));
    OK(rig_write(&rig, PL_MIB, bytes, PL_MIB, &e));
    OK(rig_zero(&rig, 2 * PL_MIB, PL_MIB, true, &e));
    OK(rig_flush(&rig, &e));
    return rig;
}

static void set_parent(struct rig *rig, const struct pl_parent_ref *parent)
{
    OK(pl_vhdx.set_parent(rig->layer.state, parent, &e));
}

static void reopen(struct rig *rig)
{
    OK(rig_finish(rig, &e));
    OK(rig_open(rig, &e));
    rig->parent = rig->layer.parent_name ? ones : NULL;
    rig->parent_len = rig->parent ? SIZE : 0;
}

static void end(struct rig *rig)
{
    rig_close(rig);
    pl_storage_close(rig->st, NULL);
}

static void check_clean(struct rig *rig)
{
    struct pl_check_result result;

    OK(rig_check(rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions, 0);
    assert_int_equal(result.leaks, 0);
}

static uint8_t byte_at(struct rig *rig, uint64_t at)
{
    uint8_t byte;

    OK(rig_read(rig, at, &byte, 1, &e));
    return byte;
}

static uint64_t entry(const struct rig *rig, uint64_t index)
{
    const struct vhdx *v = rig->layer.state;

    return peek_le(rig->st, v->bat.off + 8 * index, 8);
}

static void data_guid(struct pl_storage *st, uint8_t guid[16])
{
    OK(pl_storage_read(st, VHDX_HEADER_AT(newer_header(st)) + DATA_GUID_AT, guid, 16, &e));
}

/* ---- another parent ---- */

static void the_child_names_the_new_parent(void **state)
{
    struct rig rig = child();
    const uint64_t size = pl_storage_size(rig.st);

    (void)state;
    set_parent(&rig, &other);
    reopen(&rig);
    assert_string_equal(rig.layer.parent_name, "sub/other.vhdx");
    assert_string_equal(rig.layer.parent_identity, OTHER);
    assert_int_equal(byte_at(&rig, 4096), 7);
    assert_int_equal(byte_at(&rig, 0), 1);
    assert_int_equal(byte_at(&rig, 2 * PL_MIB), 0);
    assert_int_equal(pl_storage_size(rig.st), size);
    check_clean(&rig);
    end(&rig);
}

static void names_of_any_length_find_room_in_the_metadata(void **state)
{
    char text[8001] = "";
    const struct pl_parent_ref far = { text, "vhdx", OTHER };
    struct rig rig = child();

    (void)state;
    memset(text, 'n', sizeof text - 1);
    for (unsigned i = 0; i < 40; i++)
        set_parent(&rig, i % 2 ? &other : &far);
    set_parent(&rig, &far);
    reopen(&rig);
    assert_string_equal(rig.layer.parent_name, text);
    check_clean(&rig);
    end(&rig);
}

static void without_a_parent_blocks_are_whole(void **state)
{
    struct rig rig = child();
    const uint64_t bat = ((struct vhdx *)rig.layer.state)->bat.off;
    uint8_t junk[512];

    (void)state;
    /* what a block has of sectors that it lacks is not to be seen */
    memset(junk, 0xaa, sizeof junk);
    assert_int_equal(VHDX_BAT_STATE(entry(&rig, 0)), VHDX_PARTIALLY_PRESENT);
    OK(pl_storage_write(rig.st, VHDX_BAT_OFFSET(entry(&rig, 0)), junk, sizeof junk, &e));
    set_parent(&rig, &none);
    reopen(&rig);
    assert_null(rig.layer.parent_name);
    assert_null(rig.layer.parent_identity);
    assert_int_equal(((struct vhdx *)rig.layer.state)->bat.off, bat);
    assert_int_equal(VHDX_BAT_STATE(entry(&rig, 0)), VHDX_FULLY_PRESENT);
    assert_int_equal(VHDX_BAT_STATE(entry(&rig, 1)), VHDX_FULLY_PRESENT);
    assert_int_equal(entry(&rig, 4096), 0); /* of the sector bitmap */
    assert_int_equal(byte_at(&rig, 0), 0);
    assert_int_equal(byte_at(&rig, 4096), 7);
    assert_int_equal(byte_at(&rig, 5120), 0);
    assert_int_equal(byte_at(&rig, PL_MIB), 7);
    assert_int_equal(byte_at(&rig, 3 * PL_MIB), 0);
    OK(rig_write(&rig, 3 * PL_MIB, "x", 1, &e));
    assert_int_equal(byte_at(&rig, 3 * PL_MIB + 1), 0);
    OK(rig_flush(&rig, &e));
    check_clean(&rig);
    end(&rig);
}

/* The one item that says whose child it is is gone from the table. */
static void an_orphan_has_no_locator(void **state)
{
    struct rig rig = child();
    const uint64_t count = peek_le(rig.st, METADATA_AT + 10, 2);

    (void)state;
    set_parent(&rig, &none);
    assert_int_equal(peek_le(rig.st, METADATA_AT + 10, 2), count - 1);
    for (uint64_t i = 0; i < count; i++) {
        uint8_t guid[16];

        OK(pl_storage_read(rig.st, METADATA_AT + 32 + 32 * i, guid, sizeof guid, &e));
        assert_memory_not_equal(guid, vhdx_guid_parent_locator, sizeof guid);
    }
    end(&rig);
}

static void an_orphan_becomes_a_child(void **state)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);

    (void)state;
    memset(ones, 1, sizeof ones);
    OK(rig_open(&rig, &e));
    OK(rig_write(&rig, PL_MIB, "x", 1, &e));
    set_parent(&rig, &other);
    reopen(&rig);
    assert_string_equal(rig.layer.parent_name, "sub/other.vhdx");
    assert_int_equal(byte_at(&rig, 0), 1);
    assert_int_equal(byte_at(&rig, PL_MIB), 'x');
    assert_int_equal(byte_at(&rig, PL_MIB + 1), 0);
    OK(rig_write(&rig, 512, "y", 1, &e));
    reopen(&rig);
    assert_int_equal(byte_at(&rig, 511), 1);
    assert_int_equal(byte_at(&rig, 513), 1);
    check_clean(&rig);
    end(&rig);
}

/* Nobody looks at such entries without a parent, so anything may be there. */
static void stale_entries_of_bitmaps_do_not_count(void **state)
{
    struct rig rig = new_rig("block_size=1M", SIZE, NULL, 0);

    (void)state;
    memset(ones, 1, sizeof ones);
    poke_le(rig.st, BAT_AT + 8 * 4096, 8, (900 * PL_MIB) | VHDX_FULLY_PRESENT);
    OK(rig_open(&rig, &e));
    set_parent(&rig, &other);
    reopen(&rig);
    assert_int_equal(entry(&rig, 4096), 0);
    OK(rig_write(&rig, 512, "y", 1, &e));
    OK(rig_flush(&rig, &e));
    assert_int_equal(byte_at(&rig, 1024), 1);
    check_clean(&rig);
    end(&rig);
}

/* 131071 entries are enough without a parent; the last sector bitmap's is past the region's MiB. */
static void the_bat_grows_for_the_last_bitmap(void **state)
{
    const uint64_t size = 131040 * PL_MIB;
    struct rig rig = new_rig("block_size=1M", size, NULL, 0);

    (void)state;
    memset(ones, 1, sizeof ones);
    OK(rig_open(&rig, &e));
    OK(rig_write(&rig, size - 512, "x", 1, &e));
    assert_int_equal(((struct vhdx *)rig.layer.state)->bat.len, PL_MIB);
    set_parent(&rig, &other);
    reopen(&rig);
    assert_int_equal(((struct vhdx *)rig.layer.state)->bat.len, 2 * PL_MIB);
    OK(rig_write(&rig, size - PL_MIB - 512, "y", 1, &e));
    reopen(&rig);
    assert_int_equal(byte_at(&rig, size - 512), 'x');
    assert_int_equal(byte_at(&rig, size - PL_MIB - 512), 'y');
    check_clean(&rig);
    set_parent(&rig, &none);
    reopen(&rig);
    assert_int_equal(byte_at(&rig, size - PL_MIB - 512), 'y');
    check_clean(&rig);
    end(&rig);
}

static void what_cannot_be_is_refused(void **state)
{
    static const struct pl_parent_ref qcow2 = { "a.qcow2", "qcow2", OTHER },
                                      unknown = { "a.vhdx", "vhdx", NULL };
    struct rig fixed = new_rig("block_size=1M,subformat=fixed", SIZE, NULL, 0);
    struct rig rig = child();

    (void)state;
    FAILS(PL_E_UNSUPPORTED, "format qcow2", pl_vhdx.set_parent(rig.layer.state, &qcow2, &e));
    FAILS(PL_E_INVALID, "identity", pl_vhdx.set_parent(rig.layer.state, &unknown, &e));
    reopen(&rig);
    assert_string_equal(rig.layer.parent_identity, VHDX_PARENT);
    end(&rig);
    OK(rig_open(&fixed, &e));
    set_parent(&fixed, &none);
    FAILS(PL_E_UNSUPPORTED, "fixed", pl_vhdx.set_parent(fixed.layer.state, &other, &e));
    end(&fixed);
}

/* ---- a crash meanwhile ---- */

/* What opening such a file shows: the byte at `at` over a parent of ones. */
static void check_left(struct pl_storage *st, const char *old, const char *new, uint64_t at,
                       uint8_t byte)
{
    struct rig rig = { .driver = &pl_vhdx, .st = st };
    struct pl_check_result result;
    const char *name;

    OK(rig_open(&rig, &e));
    name = rig.layer.parent_name ? rig.layer.parent_name : "";
    rig.parent = *name ? ones : NULL;
    rig.parent_len = *name ? SIZE : 0;
    if (strcmp(name, old) != 0 && strcmp(name, new) != 0)
        fail_msg("the parent is '%s'", name);
    assert_int_equal(byte_at(&rig, at), byte);
    assert_int_equal(byte_at(&rig, 0), *name ? 1 : 0);
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions, 0);
    rig_close(&rig);
}

static struct pl_storage *make_flaky(struct pl_storage *st)
{
    const size_t len = pl_storage_size(st);
    PL_FREE uint8_t *bytes = malloc(len);
    struct pl_storage *flaky;

    OK(pl_storage_read(st, 0, bytes, len, &e));
    pl_storage_close(st, NULL);
    OK(pl_flaky_storage(bytes, len, MEMORY_LIMIT, &flaky, &e));
    return flaky;
}

static struct pl_storage *left_of(struct pl_storage *flaky, uint64_t op, uint64_t seed)
{
    PL_FREE uint8_t *bytes = NULL;
    struct pl_storage *left;
    size_t len;

    pl_flaky_cut(flaky, op, seed, &bytes, &len);
    OK(pl_memory_storage(bytes, len, MEMORY_LIMIT, &left, &e));
    return left;
}

/* Changes the parent of the closed image, and looks at what each cut leaves. */
static void cut_everywhere(struct rig *rig, const struct pl_parent_ref *parent, const char *old,
                           uint64_t at, uint8_t byte)
{
    uint64_t count;

    rig->st = make_flaky(rig->st);
    OK(rig_open(rig, &e));
    set_parent(rig, parent);
    rig_close(rig);
    count = pl_flaky_operation_count(rig->st);
    for (uint64_t op = 0; op <= count; op++)
        for (uint64_t seed = 0; seed < 12; seed++) {
            struct pl_storage *left = left_of(rig->st, op, seed < 2 ? seed : op * 12 + seed);

            check_left(left,
                       op < count     ? old
                       : parent->name ? parent->name
                                      : "",
                       parent->name ? parent->name : "", at, byte);
            pl_storage_close(left, NULL);
        }
    pl_storage_close(rig->st, NULL);
}

static void every_cut_names_the_old_parent_or_the_new_one(void **state)
{
    struct rig to_other = child(), to_none = child();
    struct rig to_one = new_rig("block_size=1M", SIZE, NULL, 0);

    (void)state;
    OK(rig_finish(&to_other, &e));
    cut_everywhere(&to_other, &other, "parent", 4096, 7);
    OK(rig_finish(&to_none, &e));
    cut_everywhere(&to_none, &none, "parent", 4096, 7);
    OK(rig_open(&to_one, &e));
    OK(rig_write(&to_one, PL_MIB, "x", 1, &e));
    OK(rig_finish(&to_one, &e));
    cut_everywhere(&to_one, &other, "", PL_MIB, 'x');
}

/* ---- what children know it by ---- */

static void only_what_the_guest_sees_changes_the_data_guid(void **state)
{
    struct rig rig = child();
    uint8_t before[16], after[16];
    uint64_t freed;

    (void)state;
    reopen(&rig);
    data_guid(rig.st, before);
    set_parent(&rig, &other);
    OK(pl_vhdx.compact(rig.layer.state, NULL, &freed, &e));
    data_guid(rig.st, after);
    assert_memory_equal(before, after, 16);
    OK(rig_write(&rig, 0, "x", 1, &e));
    OK(rig_flush(&rig, &e));
    data_guid(rig.st, after);
    assert_memory_not_equal(before, after, 16);
    end(&rig);
}

static void opened_to_keep_its_content_it_keeps_the_data_guid(void **state)
{
    struct rig rig = child();
    const struct pl_open_args args = { .file = rig.st, .writable = true, .keeps_content = true };
    uint8_t before[16], after[16];

    (void)state;
    OK(rig_finish(&rig, &e));
    data_guid(rig.st, before);
    OK(pl_vhdx.open(&args, &rig.layer, &e));
    OK(rig_write(&rig, 0, "x", 1, &e));
    OK(pl_vhdx.forget(rig.layer.state, PL_MIB, PL_MIB, &e));
    OK(rig_finish(&rig, &e));
    data_guid(rig.st, after);
    assert_memory_equal(before, after, 16);
    pl_storage_close(rig.st, NULL);
}

/* ---- forget ---- */

static void forget(struct rig *rig, uint64_t at, uint64_t len)
{
    OK(pl_vhdx.forget(rig->layer.state, at, len, &e));
}

static void a_forgotten_block_is_the_parents(void **state)
{
    struct rig rig = child();
    const uint64_t size = pl_storage_size(rig.st);

    (void)state;
    forget(&rig, PL_MIB, 2 * PL_MIB);
    assert_int_equal(byte_at(&rig, PL_MIB), 1);
    assert_int_equal(byte_at(&rig, 2 * PL_MIB), 1); /* its zeros, too */
    reopen(&rig);
    assert_int_equal(entry(&rig, 1), VHDX_NOT_PRESENT);
    assert_int_equal(entry(&rig, 2), VHDX_NOT_PRESENT);
    assert_int_equal(byte_at(&rig, PL_MIB), 1);
    OK(rig_zero(&rig, 3 * PL_MIB, PL_MIB, true, &e));
    assert_int_equal(pl_storage_size(rig.st), size);
    end(&rig);
}

/* A block that was whole, one that was zeros, one that was there in part. */
static void sectors_are_forgotten_one_by_one(void **state)
{
    static const struct row {
        uint64_t at;
        uint8_t before, rest;
        unsigned state;
    } rows[] = {
        { PL_MIB + 1024, 7, 7, VHDX_PARTIALLY_PRESENT },
        { 2 * PL_MIB + 1024, 0, 0, VHDX_PARTIALLY_PRESENT },
        { 4096, 7, 7, VHDX_PARTIALLY_PRESENT },
    };
    struct rig rig = child();

    (void)state;
    for (size_t i = 0; i < PL_COUNT(rows); i++) {
        const struct row *row = &rows[i];

        assert_int_equal(byte_at(&rig, row->at), row->before);
        forget(&rig, row->at, 512);
        reopen(&rig);
        assert_int_equal(byte_at(&rig, row->at), 1);
        assert_int_equal(byte_at(&rig, row->at + 512), row->rest);
        assert_int_equal(VHDX_BAT_STATE(entry(&rig, row->at / PL_MIB)), row->state);
    }
    forget(&rig, 4096 + 512, 512); /* the last one of the block */
    reopen(&rig);
    assert_int_equal(entry(&rig, 0), VHDX_NOT_PRESENT);
    end(&rig);
}

static void without_a_parent_it_becomes_zeros(void **state)
{
    static const char *const options[] = { "block_size=1M", "block_size=1M,subformat=fixed" };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(options); i++) {
        struct rig rig = new_rig(options[i], SIZE, NULL, 0);
        uint64_t size;

        memset(ones, 1, sizeof ones);
        OK(rig_open(&rig, &e));
        OK(rig_write(&rig, 0, ones, SIZE, &e));
        OK(rig_flush(&rig, &e));
        size = pl_storage_size(rig.st);
        forget(&rig, 512, 2 * PL_MIB);
        reopen(&rig);
        assert_int_equal(byte_at(&rig, 511), 1);
        assert_int_equal(byte_at(&rig, 512), 0);
        assert_int_equal(byte_at(&rig, PL_MIB), 0);
        assert_int_equal(byte_at(&rig, 2 * PL_MIB + 511), 0);
        assert_int_equal(byte_at(&rig, 2 * PL_MIB + 512), 1);
        assert_int_equal(VHDX_BAT_STATE(entry(&rig, 1)), i ? VHDX_FULLY_PRESENT : VHDX_NOT_PRESENT);
        assert_int_equal(pl_storage_size(rig.st), size);
        end(&rig);
    }
}

/* ---- beside other programs ---- */

static void dump(struct rig *rig, const char *name)
{
    PL_FREE char *path = test_tmp(name);

    OK(rig_dump(rig->st, path, &e));
}

static void dump_disk(struct rig *rig, const char *name)
{
    PL_FREE char *path = test_tmp(name);
    PL_FREE uint8_t *bytes = malloc(SIZE);
    FILE *file = fopen(path, "wb");

    OK(rig_read(rig, 0, bytes, SIZE, &e));
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, SIZE, file), SIZE);
    assert_int_equal(fclose(file), 0);
}

static void qemu_img_reads_an_orphan(void **state)
{
    PL_FREE char *folder = test_tmp(".");
    struct rig rig = child();

    (void)state;
    set_parent(&rig, &none);
    reopen(&rig);
    dump_disk(&rig, "orphan.raw");
    OK(rig_finish(&rig, &e));
    dump(&rig, "orphan.vhdx");
    pl_storage_close(rig.st, NULL);
    if (!has_program("qemu-img"))
        TEST_SKIP("no qemu-img");
    assert_int_equal(run_quietly("cd '%s' && qemu-img check -f vhdx orphan.vhdx && "
                                 "qemu-img compare -f vhdx -F raw orphan.vhdx orphan.raw",
                                 folder),
                     0);
}

/* It takes blocks that are zeros for the parent's. */
static void libvhdi_follows_to_the_new_parent(void **state)
{
    PL_FREE char *folder = test_tmp(".");
    struct rig parent = new_rig("block_size=1M", SIZE, NULL, 0);
    struct rig rig = child();
    PL_FREE char *identity = NULL;
    struct pl_parent_ref ref = { "ones.vhdx", "vhdx", NULL };

    (void)state;
    OK(rig_open(&parent, &e));
    OK(rig_write(&parent, 0, ones, SIZE, &e));
    OK(rig_finish(&parent, &e));
    OK(rig_open(&parent, &e));
    ref.identity = identity = strdup(parent.layer.identity);
    OK(rig_finish(&parent, &e));
    set_parent(&rig, &ref);
    forget(&rig, 2 * PL_MIB, PL_MIB);
    reopen(&rig);
    dump_disk(&rig, "child.raw");
    OK(rig_finish(&rig, &e));
    dump(&parent, "ones.vhdx");
    dump(&rig, "child.vhdx");
    pl_storage_close(parent.st, NULL);
    pl_storage_close(rig.st, NULL);
    if (!has_program("vhdimount") || run_quietly("test -r /dev/fuse") != 0)
        TEST_SKIP("vhdimount cannot run");
    assert_int_equal(
        run_quietly("cd '%s' && mkdir -p mounted && vhdimount child.vhdx mounted", folder), 0);
    assert_int_equal(run_quietly("cd '%s' && cmp mounted/vhdi2 child.raw; was=$?;"
                                 " umount mounted; exit $was",
                                 folder),
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_child_names_the_new_parent),
        cmocka_unit_test(names_of_any_length_find_room_in_the_metadata),
        cmocka_unit_test(without_a_parent_blocks_are_whole),
        cmocka_unit_test(an_orphan_has_no_locator),
        cmocka_unit_test(an_orphan_becomes_a_child),
        cmocka_unit_test(stale_entries_of_bitmaps_do_not_count),
        cmocka_unit_test(the_bat_grows_for_the_last_bitmap),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(every_cut_names_the_old_parent_or_the_new_one),
        cmocka_unit_test(only_what_the_guest_sees_changes_the_data_guid),
        cmocka_unit_test(opened_to_keep_its_content_it_keeps_the_data_guid),
        cmocka_unit_test(a_forgotten_block_is_the_parents),
        cmocka_unit_test(sectors_are_forgotten_one_by_one),
        cmocka_unit_test(without_a_parent_it_becomes_zeros),
        cmocka_unit_test(qemu_img_reads_an_orphan),
        cmocka_unit_test(libvhdi_follows_to_the_new_parent),
    };

    return cmocka_run_group_tests_name("vhdx parent", tests, NULL, NULL);
}
