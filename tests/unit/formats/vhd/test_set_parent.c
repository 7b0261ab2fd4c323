/* Another parent, or none, and sectors that become the parent's again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "formats/vhd/utf16.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/unit/formats/vhd/vhd_images.h"

#define OTHER_ID "uuid:ffeeddcc-bbaa-9988-7766-554433221100"
#define SIZE 65536

static const struct pl_parent_ref none = { 0 };
static const struct pl_parent_ref other = { "sub/other.vhd", "vhd", "time:9 " OTHER_ID };

/* A child, open, that has the sectors 8 and 9, and the 8 from 16 on. */
static struct rig child_like(const char *options, const char *parent)
{
    struct rig rig = rig_of(new_vhd(options, SIZE, parent));
    uint8_t bytes[4096];

    memset(bytes, 7, sizeof bytes);
    OK(rig_open(&rig, &e));
    OK(rig_write(&rig, 4096, bytes, 1024, &e));
    OK(rig_write(&rig, 8192, bytes, 4096, &e));
    OK(rig_flush(&rig, &e));
    return rig;
}

/* One of 4 KiB blocks. */
static struct rig child_of(const char *parent)
{
    return child_like("block_size=4k", parent);
}

static void set_parent(struct rig *rig, const struct pl_parent_ref *parent)
{
    OK(pl_vhd.set_parent(rig->layer.state, parent, &e));
}

static void reopen(struct rig *rig)
{
    rig_close(rig);
    OK(rig_open(rig, &e));
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
    assert_int_equal(result.corruptions + result.leaks, 0);
}

static uint64_t block_at(const struct rig *rig, uint64_t index)
{
    return (uint64_t)((struct vhd *)rig->layer.state)->bat[index] * VHD_SECTOR;
}

/* The byte at guest address `at`, over a parent of ones. */
static uint8_t byte_at(struct rig *rig, uint64_t at)
{
    static uint8_t ones[SIZE];
    uint8_t byte;

    memset(ones, 1, sizeof ones);
    rig->parent = rig->layer.parent_name ? ones : NULL;
    rig->parent_len = rig->parent ? SIZE : 0;
    OK(rig_read(rig, at, &byte, 1, &e));
    return byte;
}

static void check_footers(struct pl_storage *st, uint32_t type)
{
    uint8_t start[512], last[512];

    OK(pl_storage_read(st, 0, start, 512, &e));
    OK(pl_storage_read(st, pl_storage_size(st) - 512, last, 512, &e));
    assert_memory_equal(start, last, 512);
    assert_int_equal(load_be64(start + 16), HEADER_AT);
    assert_int_equal(load_be32(start + 60), type);
}

static void the_child_names_the_new_parent(void **state)
{
    struct rig rig = child_of("parent.vhd");
    const uint64_t size = pl_storage_size(rig.st);
    PL_FREE char *identity = strdup(rig.layer.identity);
    uint8_t name[26], wanted[26];

    (void)state;
    set_parent(&rig, &other);
    assert_int_equal(pl_storage_size(rig.st), size);
    check_footers(rig.st, VHD_DIFFERENCING);
    reopen(&rig);
    assert_string_equal(rig.layer.parent_name, "sub/other.vhd");
    assert_string_equal(rig.layer.parent_identity, OTHER_ID);
    assert_string_equal(rig.layer.parent_revision, "time:9");
    assert_string_equal(rig.layer.identity, identity);
    OK(pl_storage_read(rig.st, HEADER_AT + 64, name, sizeof name, &e));
    vhd_utf16_of_text("sub\\other.vhd", wanted, sizeof wanted, true);
    assert_memory_equal(name, wanted, sizeof wanted);
    assert_int_equal(byte_at(&rig, 4096), 7);
    assert_int_equal(byte_at(&rig, 4096 + 1024), 1);
    check_clean(&rig);
    end(&rig);
}

static void both_kinds_of_locators_are_written(void **state)
{
    struct rig rig = child_of("parent.vhd");
    uint8_t entries[VHD_LOCATORS * VHD_LOCATOR_BYTES];
    static const uint8_t zeros[6 * VHD_LOCATOR_BYTES];

    (void)state;
    set_parent(&rig, &other);
    OK(pl_storage_read(rig.st, HEADER_AT + VHD_LOCATORS_AT, entries, sizeof entries, &e));
    assert_memory_equal(entries, "W2ku", 4);
    assert_memory_equal(entries + 24, "W2ru", 4);
    assert_memory_equal(entries + 48, zeros, sizeof zeros);
    assert_int_equal(load_be64(entries + 16), BAT_AT + 512); /* where those of before were */
    assert_int_equal(load_be64(entries + 24 + 16), BAT_AT + 1024);
    end(&rig);
}

/* Readers that do not look at bits without a parent read what ours does. */
static void without_a_parent_the_blocks_are_whole(void **state)
{
    struct rig rig = child_of("parent.vhd");
    uint8_t bytes[512 + 4096];

    (void)state;
    /* what a block has of sectors that it lacks is not to be seen */
    memset(bytes, 0xaa, sizeof bytes);
    OK(pl_storage_write(rig.st, block_at(&rig, 1) + 512 + 1024, bytes, 3072, &e));
    set_parent(&rig, &none);
    check_footers(rig.st, VHD_DYNAMIC);
    reopen(&rig);
    assert_null(rig.layer.parent_name);
    assert_null(rig.layer.parent_identity);
    OK(pl_storage_read(rig.st, block_at(&rig, 1), bytes, sizeof bytes, &e));
    for (unsigned i = 0; i < 512; i++)
        assert_int_equal(bytes[i], 0xff);
    for (unsigned i = 0; i < 4096; i++)
        assert_int_equal(bytes[512 + i], i < 1024 ? 7 : 0);
    assert_int_equal(byte_at(&rig, 0), 0);
    OK(rig_write(&rig, 0, "x", 1, &e));
    assert_int_equal(byte_at(&rig, 1), 0);
    OK(rig_flush(&rig, &e));
    check_clean(&rig);
    end(&rig);
}

static void the_header_of_an_orphan_says_nothing_of_a_parent(void **state)
{
    struct rig rig = child_of("parent.vhd");
    static const uint8_t zeros[VHD_HEADER_BYTES];
    uint8_t header[VHD_HEADER_BYTES];

    (void)state;
    set_parent(&rig, &none);
    OK(pl_storage_read(rig.st, HEADER_AT, header, sizeof header, &e));
    assert_memory_equal(header + 40, zeros, VHD_HEADER_BYTES - 40);
    OK(pl_storage_read(rig.st, BAT_AT + 512, header, sizeof header, &e));
    assert_memory_equal(header, zeros, sizeof header); /* where the names were */
    end(&rig);
}

/* VirtualBox leaves bits clear: those sectors are zeros, and must stay so. */
static void zeros_of_an_orphan_hide_its_new_parent(void **state)
{
    struct rig rig = rig_of(full_vhd("block_size=4k", SIZE, 9));

    (void)state;
    OK(rig_open(&rig, &e));
    poke(rig.st, block_at(&rig, 1), 1, 0xbf);
    reopen(&rig);
    assert_int_equal(byte_at(&rig, 4096 + 512), 0);
    set_parent(&rig, &other);
    reopen(&rig);
    assert_string_equal(rig.layer.parent_name, "sub/other.vhd");
    assert_int_equal(byte_at(&rig, 4096 + 511), 9);
    assert_int_equal(byte_at(&rig, 4096 + 512), 0);
    check_clean(&rig);
    end(&rig);
}

static void an_empty_disk_becomes_a_child(void **state)
{
    struct rig rig = rig_of(new_vhd("block_size=4k", SIZE, NULL));

    (void)state;
    OK(rig_open(&rig, &e));
    set_parent(&rig, &other);
    check_footers(rig.st, VHD_DIFFERENCING);
    reopen(&rig);
    assert_int_equal(byte_at(&rig, 0), 1);
    OK(rig_write(&rig, 512, "x", 1, &e));
    OK(rig_flush(&rig, &e));
    reopen(&rig);
    assert_int_equal(byte_at(&rig, 511), 1);
    assert_int_equal(byte_at(&rig, 512), 'x');
    assert_int_equal(byte_at(&rig, 1024), 1);
    check_clean(&rig);
    end(&rig);
}

/* The names lie behind the blocks then, and come back to the front with a short name. */
static void a_long_name_finds_room(void **state)
{
    char text[2001] = "";
    const struct pl_parent_ref far = { text, "vhd", OTHER_ID };
    struct rig rig = child_of("parent.vhd");
    const uint64_t size = pl_storage_size(rig.st);

    (void)state;
    memset(text, 'n', sizeof text - 1);
    set_parent(&rig, &far);
    assert_true(pl_storage_size(rig.st) > size);
    check_footers(rig.st, VHD_DIFFERENCING);
    reopen(&rig);
    assert_string_equal(rig.layer.parent_name, text);
    check_clean(&rig);
    OK(rig_write(&rig, 0, "x", 1, &e)); /* a block comes behind them */
    OK(rig_flush(&rig, &e));
    reopen(&rig);
    assert_string_equal(rig.layer.parent_name, text);
    assert_int_equal(byte_at(&rig, 0), 'x');
    check_clean(&rig);
    set_parent(&rig, &other);
    reopen(&rig);
    assert_string_equal(rig.layer.parent_name, "sub/other.vhd");
    assert_int_equal(((struct vhd *)rig.layer.state)->own[VHD_OWN_BAT + 1].off, BAT_AT + 512);
    end(&rig);
}

static void again_and_again_the_file_does_not_grow(void **state)
{
    struct rig rig = child_of("parent.vhd");
    const struct pl_parent_ref first = { "parent.vhd", "vhd", PARENT_ID };
    const uint64_t size = pl_storage_size(rig.st);

    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        set_parent(&rig, i % 3 == 0 ? &other : i % 3 == 1 ? &none : &first);
        assert_int_equal(pl_storage_size(rig.st), size);
    }
    check_clean(&rig);
    end(&rig);
}

/* XenServer keeps a table behind the BAT; it is not ours to overwrite. */
static void what_others_keep_at_the_front_stays(void **state)
{
    struct rig rig = rig_of(new_vhd("block_size=64k", SIZE, NULL));
    uint8_t byte;

    (void)state;
    OK(rig_open(&rig, &e));
    OK(rig_write(&rig, 0, "x", 1, &e));
    OK(rig_flush(&rig, &e));
    assert_true(block_at(&rig, 0) >= BAT_AT + 512 + 1024);
    poke(rig.st, BAT_AT + 512 + 700, 1, 0xee);
    set_parent(&rig, &other);
    OK(pl_storage_read(rig.st, BAT_AT + 512 + 700, &byte, 1, &e));
    assert_int_equal(byte, 0xee);
    reopen(&rig);
    assert_string_equal(rig.layer.parent_name, "sub/other.vhd");
    assert_int_equal(byte_at(&rig, 0), 'x');
    check_clean(&rig);
    end(&rig);
}

/* A header elsewhere, and bytes of somebody else where it usually is. */
static void a_header_in_another_place_stays_there(void **state)
{
    struct rig rig = rig_of(new_vhd("block_size=4k", SIZE, NULL));
    const uint64_t at = BAT_AT + 1024, behind = at + VHD_HEADER_BYTES;
    uint8_t header[VHD_HEADER_BYTES], footer[VHD_FOOTER_BYTES], byte;

    (void)state;
    OK(pl_storage_read(rig.st, HEADER_AT, header, sizeof header, &e));
    OK(pl_storage_read(rig.st, 0, footer, sizeof footer, &e));
    OK(pl_storage_write(rig.st, at, header, sizeof header, &e));
    OK(pl_storage_write(rig.st, behind, footer, sizeof footer, &e));
    poke_footer(rig.st, 16, 8, at);
    memset(header, 0xee, sizeof header);
    OK(pl_storage_write(rig.st, HEADER_AT, header, sizeof header, &e));
    OK(rig_open(&rig, &e));
    set_parent(&rig, &other);
    reopen(&rig);
    assert_string_equal(rig.layer.parent_name, "sub/other.vhd");
    assert_int_equal(((struct vhd *)rig.layer.state)->footer.data_offset, at);
    OK(pl_storage_read(rig.st, HEADER_AT + 100, &byte, 1, &e));
    assert_int_equal(byte, 0xee);
    check_clean(&rig);
    end(&rig);
}

/* A locator whose data are said to lie in a block: the block stays as it is. */
static void a_name_on_a_block_is_not_wiped(void **state)
{
    struct rig rig = child_of("parent.vhd");

    (void)state;
    poke_header(rig.st, VHD_LOCATORS_AT + 16, 8, block_at(&rig, 2) + 512 + 512);
    reopen(&rig);
    set_parent(&rig, &other);
    reopen(&rig);
    for (unsigned i = 0; i < 4096; i += 256)
        assert_int_equal(byte_at(&rig, 8192 + i), 7);
    end(&rig);
}

static void what_cannot_be_is_refused(void **state)
{
    static const struct pl_parent_ref qcow2 = { "a.qcow2", "qcow2", OTHER_ID },
                                      unknown = { "a.vhd", "vhd", NULL },
                                      odd = { "a\\b.vhd", "vhd", OTHER_ID };
    struct rig fixed = rig_of(new_vhd("subformat=fixed", SIZE, NULL));
    struct rig rig = child_of("parent.vhd");
    struct pl_storage *before = memory_copy(rig.st, pl_storage_size(rig.st));
    PL_FREE uint8_t *a = malloc(pl_storage_size(rig.st)), *b = malloc(pl_storage_size(rig.st));

    (void)state;
    FAILS(PL_E_UNSUPPORTED, "must be a VHD", pl_vhd.set_parent(rig.layer.state, &qcow2, &e));
    FAILS(PL_E_INVALID, "unique id", pl_vhd.set_parent(rig.layer.state, &unknown, &e));
    FAILS(PL_E_UNSUPPORTED, "cannot hold", pl_vhd.set_parent(rig.layer.state, &odd, &e));
    assert_int_equal(pl_storage_size(rig.st), pl_storage_size(before));
    OK(pl_storage_read(rig.st, 0, a, pl_storage_size(before), &e));
    OK(pl_storage_read(before, 0, b, pl_storage_size(before), &e));
    assert_memory_equal(a, b, pl_storage_size(before));
    pl_storage_close(before, NULL);
    end(&rig);
    OK(rig_open(&fixed, &e));
    set_parent(&fixed, &none);
    FAILS(PL_E_UNSUPPORTED, "fixed", pl_vhd.set_parent(fixed.layer.state, &other, &e));
    end(&fixed);
}

/* ---- a crash meanwhile ---- */

static void check_left(struct pl_storage *st, const char *old, const char *new, uint8_t byte)
{
    struct rig rig = rig_of(st);
    struct pl_check_result result;
    const char *name;

    OK(rig_open(&rig, &e));
    name = rig.layer.parent_name ? rig.layer.parent_name : "";
    if (strcmp(name, old) != 0 && strcmp(name, new) != 0)
        fail_msg("the parent is '%s'", name);
    assert_int_equal(byte_at(&rig, 4096), byte);
    assert_int_equal(byte_at(&rig, 0), *name ? 1 : 0);
    OK(rig_check(&rig, PL_REPAIR_NONE, &result, &e));
    assert_true(result.corruptions <= 1); /* the copy of the footer may be the old one */
    rig_close(&rig);
}

/* Changes the parent of an image, and looks at what each cut leaves. */
static void cut_everywhere(struct pl_storage *st, const struct pl_parent_ref *parent,
                           const char *old, uint8_t byte)
{
    const char *new = parent->name ? parent->name : "";
    const size_t size = pl_storage_size(st);
    PL_FREE uint8_t *bytes = malloc(size);
    struct rig rig = { .driver = &pl_vhd };
    uint64_t count;

    OK(pl_storage_read(st, 0, bytes, size, &e));
    OK(pl_flaky_storage(bytes, size, MEMORY_LIMIT, &rig.st, &e));
    OK(rig_open(&rig, &e));
    set_parent(&rig, parent);
    rig_close(&rig);
    count = pl_flaky_operation_count(rig.st);
    for (uint64_t op = 0; op <= count; op++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            PL_FREE uint8_t *cut = NULL;
            struct pl_storage *left;
            size_t len;

            pl_flaky_cut(rig.st, op, seed < 2 ? seed : op * 20 + seed, &cut, &len);
            OK(pl_memory_storage(cut, len, MEMORY_LIMIT, &left, &e));
            check_left(left, op < count ? old : new, new, byte);
            pl_storage_close(left, NULL);
        }
    pl_storage_close(rig.st, NULL);
}

static void every_cut_names_the_old_parent_or_the_new_one(void **state)
{
    struct rig rig = child_of("parent.vhd");
    struct pl_storage *orphan;

    (void)state;
    cut_everywhere(rig.st, &other, "parent.vhd", 7);
    cut_everywhere(rig.st, &none, "parent.vhd", 7);
    set_parent(&rig, &none);
    orphan = memory_copy(rig.st, pl_storage_size(rig.st));
    end(&rig);
    cut_everywhere(orphan, &other, "", 7);
    pl_storage_close(orphan, NULL);
}

/* ---- forget ---- */

static void forget(struct rig *rig, uint64_t at, uint64_t len)
{
    OK(pl_vhd.forget(rig->layer.state, at, len, &e));
}

static void a_forgotten_block_is_room_again(void **state)
{
    struct rig rig = child_of("parent.vhd");
    const uint64_t size = pl_storage_size(rig.st);

    (void)state;
    forget(&rig, 8192, 4096);
    assert_int_equal(byte_at(&rig, 8192), 1);
    OK(rig_flush(&rig, &e));
    reopen(&rig);
    assert_int_equal(block_at(&rig, 2), (uint64_t)VHD_UNUSED * VHD_SECTOR);
    assert_int_equal(byte_at(&rig, 8192), 1);
    OK(rig_write(&rig, 0, "x", 1, &e));
    OK(rig_flush(&rig, &e));
    assert_int_equal(pl_storage_size(rig.st), size);
    check_clean(&rig);
    end(&rig);
}

static void a_block_without_sectors_is_given_up(void **state)
{
    struct rig rig = child_of("parent.vhd");

    (void)state;
    forget(&rig, 4096, 512);
    assert_int_equal(byte_at(&rig, 4096), 1);
    assert_int_equal(byte_at(&rig, 4096 + 512), 7);
    OK(rig_flush(&rig, &e));
    reopen(&rig);
    assert_int_equal(byte_at(&rig, 4096 + 512), 7);
    forget(&rig, 4096 + 512, 512);
    OK(rig_flush(&rig, &e));
    reopen(&rig);
    assert_int_equal(block_at(&rig, 1), (uint64_t)VHD_UNUSED * VHD_SECTOR);
    assert_int_equal(byte_at(&rig, 4096 + 512), 1);
    end(&rig);
}

static void all_can_be_forgotten(void **state)
{
    struct rig rig = child_of("parent.vhd");
    uint64_t freed;

    (void)state;
    forget(&rig, 0, SIZE);
    OK(rig_flush(&rig, &e));
    OK(pl_vhd.compact(rig.layer.state, NULL, &freed, &e));
    assert_int_equal(pl_storage_size(rig.st), BAT_AT + 512 + 1024 + 512);
    assert_int_equal(byte_at(&rig, 4096), 1);
    check_clean(&rig);
    end(&rig);
}

static void without_a_parent_it_becomes_zeros(void **state)
{
    static const char *const options[] = { "block_size=4k", "subformat=fixed" };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(options); i++) {
        struct rig rig = rig_of(full_vhd(options[i], SIZE, 9));

        OK(rig_open(&rig, &e));
        forget(&rig, 4096 + 512, 8192);
        OK(rig_flush(&rig, &e));
        reopen(&rig);
        assert_int_equal(byte_at(&rig, 4096 + 511), 9);
        assert_int_equal(byte_at(&rig, 4096 + 512), 0);
        assert_int_equal(byte_at(&rig, 4096 + 511 + 8192), 0);
        assert_int_equal(byte_at(&rig, 4096 + 512 + 8192), 9);
        end(&rig);
    }
}

/* ---- beside other programs ---- */

/* Puts an image that its own rig knows into the test's folder. */
static void dump(struct rig *rig, const char *name)
{
    PL_FREE char *path = test_tmp(name);

    OK(rig_dump(rig->st, path, &e));
}

static void dump_disk(struct rig *rig, const char *name)
{
    static uint8_t bytes[SIZE];
    PL_FREE char *path = test_tmp(name);
    FILE *file = fopen(path, "wb");

    byte_at(rig, 0); /* its parent is made of ones */
    OK(rig_read(rig, 0, bytes, sizeof bytes, &e));
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, sizeof bytes, file), sizeof bytes);
    assert_int_equal(fclose(file), 0);
}

static void qemu_img_reads_an_orphan(void **state)
{
    PL_FREE char *folder = test_tmp(".");
    struct rig rig = child_of("parent.vhd");

    (void)state;
    set_parent(&rig, &none);
    reopen(&rig);
    dump(&rig, "orphan.vhd");
    dump_disk(&rig, "orphan.raw");
    end(&rig);
    if (!has_program("qemu-img"))
        TEST_SKIP("no qemu-img");
    assert_int_equal(
        run_quietly("cd '%s' && qemu-img compare -f vpc -F raw orphan.vhd orphan.raw", folder), 0);
}

/* It misreads bits that are not alike in one byte. */
static void libvhdi_follows_to_the_new_parent(void **state)
{
    PL_FREE char *folder = test_tmp(".");
    struct rig parent = rig_of(full_vhd("block_size=4k", SIZE, 1));
    struct rig rig = child_like("", "gone.vhd");
    PL_FREE char *identity = NULL;
    struct pl_parent_ref ref = { "ones.vhd", "vhd", NULL };

    (void)state;
    OK(rig_zero(&rig, 4096 + 1024, 3072, false, &e));
    OK(rig_flush(&rig, &e));
    OK(rig_open(&parent, &e));
    ref.identity = identity = strdup(parent.layer.identity);
    set_parent(&rig, &ref);
    reopen(&rig);
    dump(&parent, "ones.vhd");
    dump(&rig, "child.vhd");
    dump_disk(&rig, "child.raw");
    end(&parent);
    end(&rig);
    if (!has_program("vhdimount") || run_quietly("test -r /dev/fuse") != 0)
        TEST_SKIP("vhdimount cannot run");
    assert_int_equal(
        run_quietly("cd '%s' && mkdir -p mounted && vhdimount child.vhd mounted", folder), 0);
    assert_int_equal(run_quietly("cd '%s' && cmp mounted/vhdi2 child.raw; was=$?;"
                                 " umount mounted; exit $was",
                                 folder),
                     0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_child_names_the_new_parent),
        cmocka_unit_test(both_kinds_of_locators_are_written),
        cmocka_unit_test(without_a_parent_the_blocks_are_whole),
        cmocka_unit_test(the_header_of_an_orphan_says_nothing_of_a_parent),
        cmocka_unit_test(zeros_of_an_orphan_hide_its_new_parent),
        cmocka_unit_test(an_empty_disk_becomes_a_child),
        cmocka_unit_test(a_long_name_finds_room),
        cmocka_unit_test(again_and_again_the_file_does_not_grow),
        cmocka_unit_test(what_others_keep_at_the_front_stays),
        cmocka_unit_test(a_header_in_another_place_stays_there),
        cmocka_unit_test(a_name_on_a_block_is_not_wiped),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(every_cut_names_the_old_parent_or_the_new_one),
        cmocka_unit_test(a_forgotten_block_is_room_again),
        cmocka_unit_test(a_block_without_sectors_is_given_up),
        cmocka_unit_test(all_can_be_forgotten),
        cmocka_unit_test(without_a_parent_it_becomes_zeros),
        cmocka_unit_test(qemu_img_reads_an_orphan),
        cmocka_unit_test(libvhdi_follows_to_the_new_parent),
    };

    return cmocka_run_group_tests_name("vhd parent", tests, NULL, NULL);
}
