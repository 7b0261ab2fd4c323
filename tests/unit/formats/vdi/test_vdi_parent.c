/* The parent of a VDI image changes in one write of the header; blocks are forgotten; what children
 * know the image by stays where its content does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "tests/support/env.h"
#include "tests/support/images.h"

#define BLOCK 4096u
#define BLOCKS 8u
#define UUID_A "00112233-4455-6677-8899-aabbccddeeff"
#define UUID_B "1afe8b08-e023-4ca6-94d2-f2d22f36dd63"
#define UUID_C "8c3b0a52-6d4e-4f10-9a77-0d1e2f3a4b5c"

/* Header offsets of version 1.1. */
enum { TYPE = 76, MODIFICATION = 408, PARENT = 424, PARENT_MODIFICATION = 440 };

static const struct pl_parent_ref none = { 0 },
                                  a_parent = { "a.vdi", "vdi",
                                               "uuid:" UUID_B " modification:" UUID_C };

static const uint8_t parent_bytes[BLOCKS * BLOCK] = { [0 ... BLOCKS * BLOCK - 1] = 0xaa };

static struct rig make(const char *options, bool parent)
{
    struct rig d = { .driver = &pl_vdi,
                     .st = memory(),
                     .parent = parent ? parent_bytes : NULL,
                     .parent_len = parent ? sizeof parent_bytes : 0,
                     .parent_identity = "uuid:" UUID_A };

    OK(rig_create(&d, options, BLOCKS * BLOCK, &e));
    OK(rig_open(&d, &e));
    return d;
}

static void drop(struct rig *d)
{
    rig_close(d);
    pl_storage_close(d->st, NULL);
}

static void reopen(struct rig *d)
{
    OK(rig_finish(d, &e));
    OK(rig_open(d, &e));
}

static void has_type(const struct rig *d, uint32_t type)
{
    uint8_t raw[4];

    OK(pl_storage_read(d->st, TYPE, raw, 4, &e));
    assert_int_equal(load_le32(raw), type);
}

static unsigned first_byte(struct rig *d, uint64_t block)
{
    uint8_t byte;

    OK(rig_read(d, block * BLOCK, &byte, 1, &e));
    return byte;
}

static void write_block(struct rig *d, uint64_t block, int value)
{
    uint8_t bytes[BLOCK];

    memset(bytes, value, sizeof bytes);
    OK(rig_write(d, block * BLOCK, bytes, sizeof bytes, &e));
}

static int set_parent(struct rig *d, const struct pl_parent_ref *parent, struct pl_err *e)
{
    return pl_vdi.set_parent(d->layer.state, parent, e);
}

static int forget(struct rig *d, uint64_t at, uint64_t len, struct pl_err *e)
{
    return pl_vdi.forget(d->layer.state, at, len, e);
}

static void parents_come_and_go(void **state)
{
    struct rig d = make("block_size=4k", true);

    (void)state;
    has_type(&d, 4);
    write_block(&d, 1, 5);
    OK(set_parent(&d, &a_parent, &e));
    reopen(&d);
    assert_string_equal(d.layer.parent_identity, "uuid:" UUID_B);
    assert_string_equal(d.layer.parent_revision, "modification:" UUID_C);
    OK(set_parent(&d, &none, &e));
    d.parent = NULL;
    d.parent_len = 0;
    has_type(&d, 1);
    reopen(&d);
    assert_null(d.layer.parent_identity);
    assert_null(d.layer.parent_revision);
    assert_int_equal(first_byte(&d, 0), 0);
    assert_int_equal(first_byte(&d, 1), 5);
    OK(set_parent(&d, &a_parent, &e));
    has_type(&d, 4);
    FAILS(PL_E_INVALID, "whole number", forget(&d, 512, 512, &e));
    drop(&d);
}

static void a_static_image_becomes_a_differencing_one_and_a_dynamic_one(void **state)
{
    struct rig d = make("block_size=4k,static=on", false);

    (void)state;
    write_block(&d, 3, 9);
    FAILS(PL_E_UNSUPPORTED, "static image", forget(&d, 0, BLOCK, &e));
    OK(set_parent(&d, &none, &e));
    has_type(&d, 2);
    OK(set_parent(&d, &a_parent, &e));
    d.parent = parent_bytes;
    d.parent_len = sizeof parent_bytes;
    reopen(&d);
    assert_int_equal(first_byte(&d, 0), 0); /* each block is its own */
    assert_int_equal(first_byte(&d, 3), 9);
    OK(forget(&d, 0, BLOCK, &e));
    assert_int_equal(first_byte(&d, 0), 0xaa);
    OK(set_parent(&d, &none, &e));
    has_type(&d, 1);
    drop(&d);
}

static const struct refused_row {
    struct pl_parent_ref parent;
    const char *text;
} refused_rows[] = {
    { { "p.qcow2", "qcow2", "uuid:" UUID_B }, "only a VDI image" },
    { { "p.vdi", "vdi", NULL }, "not known" },
    { { "p.vdi", NULL, "cid:0a1b2c3d" }, "not known" },
    { { "p.vdi", NULL, "uuid:nonsense" }, "not known" },
};

static void other_parents_are_refused(void **state)
{
    struct rig d = make("block_size=4k", true);
    uint8_t before[512], after[512];

    (void)state;
    OK(pl_storage_read(d.st, 0, before, sizeof before, &e));
    for (size_t i = 0; i < PL_COUNT(refused_rows); i++)
        FAILS(PL_E_UNSUPPORTED, refused_rows[i].text, set_parent(&d, &refused_rows[i].parent, &e));
    OK(rig_finish(&d, &e));
    OK(pl_storage_read(d.st, 0, after, sizeof after, &e));
    assert_memory_equal(before, after, sizeof after);
    d.read_only = true;
    OK(rig_open(&d, &e));
    FAILS(PL_E_INVALID, "reading only", set_parent(&d, &none, &e));
    FAILS(PL_E_INVALID, "reading only", forget(&d, 0, BLOCK, &e));
    drop(&d);
}

static void forgotten_blocks_are_the_parents_and_their_places_are_free(void **state)
{
    struct rig d = make("block_size=4k", true);
    struct pl_check_result result;
    uint64_t size;

    (void)state;
    for (uint64_t i = 0; i < BLOCKS; i++)
        write_block(&d, i, (int)i + 1);
    OK(pl_vdi.zero(d.layer.state, 0, BLOCK, true, &e));
    reopen(&d);
    size = pl_storage_size(d.st);
    assert_int_equal(first_byte(&d, 0), 0);
    OK(forget(&d, 0, 4 * BLOCK, &e));
    for (uint64_t i = 0; i < BLOCKS; i++)
        assert_int_equal(first_byte(&d, i), i < 4 ? 0xaa : i + 1);
    reopen(&d);
    assert_true(pl_storage_size(d.st) + 3 * BLOCK <= size);
    OK(rig_check(&d, PL_REPAIR_NONE, &result, &e));
    assert_int_equal(result.corruptions + result.leaks + result.check_errors, 0);
    for (uint64_t i = 0; i < BLOCKS; i++)
        assert_int_equal(first_byte(&d, i), i < 4 ? 0xaa : i + 1);
    FAILS(PL_E_LIMIT, "outside the disk", forget(&d, BLOCKS * BLOCK, BLOCK, &e));
    drop(&d);
}

static void without_a_parent_forgotten_parts_are_zeros(void **state)
{
    struct rig d = make("block_size=4k", false);
    struct pl_extent x;

    (void)state;
    write_block(&d, 0, 1);
    write_block(&d, 1, 2);
    OK(forget(&d, 512, BLOCK + 512, &e));
    assert_int_equal(first_byte(&d, 0), 1);
    assert_int_equal(first_byte(&d, 1), 0);
    OK(forget(&d, 0, 2 * BLOCK, &e));
    OK(pl_vdi.map(d.layer.state, 0, BLOCKS * BLOCK, &x, &e));
    assert_int_equal(x.state, PL_PARENT);
    assert_int_equal(x.len, BLOCKS * BLOCK);
    drop(&d);
}

/* ways to change content */
static int by_write(struct pl_layer *layer, struct pl_err *e)
{
    struct pl_place place;

    return pl_vdi.allocate(layer->state, 0, BLOCK, &place, e);
}

static int by_zero(struct pl_layer *layer, struct pl_err *e)
{
    return pl_vdi.zero(layer->state, 0, BLOCK, true, e);
}

static int by_forget(struct pl_layer *layer, struct pl_err *e)
{
    return pl_vdi.forget(layer->state, 0, BLOCK, e);
}

static void kept_content_keeps_its_modification(void **state)
{
    static int (*const ways[])(struct pl_layer * layer, struct pl_err * e) = { by_write, by_zero,
                                                                               by_forget };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(ways); i++)
        for (unsigned keeps = 0; keeps < 2; keeps++) {
            struct rig d = make("block_size=4k", true);
            const struct pl_open_args args = { .file = d.st,
                                               .writable = true,
                                               .keeps_content = keeps };
            uint8_t before[16], after[16];

            rig_close(&d);
            OK(pl_storage_read(d.st, MODIFICATION, before, sizeof before, &e));
            OK(pl_vdi.open(&args, &d.layer, &e));
            OK(ways[i](&d.layer, &e));
            OK(set_parent(&d, &a_parent, &e));
            OK(pl_vdi.flush(d.layer.state, &e));
            OK(pl_storage_read(d.st, MODIFICATION, after, sizeof after, &e));
            assert_int_equal(memcmp(before, after, sizeof after) == 0, keeps);
            drop(&d);
        }
}

static void a_change_of_parent_is_no_modification(void **state)
{
    struct rig d = make("block_size=4k", true);
    uint8_t before[16], after[16];

    (void)state;
    OK(pl_storage_read(d.st, MODIFICATION, before, sizeof before, &e));
    OK(set_parent(&d, &a_parent, &e));
    OK(rig_finish(&d, &e));
    OK(pl_storage_read(d.st, MODIFICATION, after, sizeof after, &e));
    assert_memory_equal(before, after, sizeof after);
    OK(rig_open(&d, &e));
    drop(&d);
}

/* It refuses images with a parent, and reads blocks of 1 MiB alone. */
static void qemu_img_reads_what_became_dynamic(void **state)
{
    struct rig d = make("", true);
    PL_FREE char *path = test_tmp("image"), *folder = test_tmp(".");
    uint8_t bytes[BLOCK];

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("no qemu-img");
    OK(rig_read(&d, 0, bytes, sizeof bytes, &e));
    OK(rig_write(&d, 0, bytes, sizeof bytes, &e));
    OK(set_parent(&d, &none, &e));
    OK(rig_finish(&d, &e));
    OK(rig_dump(d.st, path, &e));
    assert_int_equal(run_quietly("cd '%s' && qemu-img check -f vdi image &&"
                                 " qemu-io -r -f vdi -c 'read -P 0xaa 0 %u' image",
                                 folder, BLOCKS * BLOCK),
                     0);
    OK(rig_open(&d, &e));
    drop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parents_come_and_go),
        cmocka_unit_test(a_static_image_becomes_a_differencing_one_and_a_dynamic_one),
        cmocka_unit_test(other_parents_are_refused),
        cmocka_unit_test(forgotten_blocks_are_the_parents_and_their_places_are_free),
        cmocka_unit_test(without_a_parent_forgotten_parts_are_zeros),
        cmocka_unit_test(kept_content_keeps_its_modification),
        cmocka_unit_test(a_change_of_parent_is_no_modification),
        cmocka_unit_test(qemu_img_reads_what_became_dynamic),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
