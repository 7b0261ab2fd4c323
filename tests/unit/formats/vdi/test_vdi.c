#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/uuid.h"
#include "core/graph/image.h"
#include "tests/support/rig.h"
#include "tests/support/env.h"
#include "tests/support/images.h"

#define BLOCK 4096u
#define MAP 4096  /* with blocks of 4 KiB */
#define DATA 8192 /* with up to 1024 of them */
#define FREE_MARK 0xffffffffu
#define ZERO_MARK 0xfffffffeu
#define PARENT_WORDS                                                                               \
    "uuid:00112233-4455-6677-8899-aabbccddeeff modification:ffeeddcc-bbaa-9988-7766-554433221100"

/* Header offsets of version 1.1. */
enum {
    VERSION = 68,
    CB_HEADER = 72,
    TYPE = 76,
    OFF_BLOCKS = 340,
    OFF_DATA = 344,
    SECTOR = 360,
    DISK_SIZE = 368,
    BLOCK_SIZE = 376,
    EXTRA = 380,
    BLOCKS = 384,
    ALLOCATED = 388,
    UUID = 392,
    MODIFICATION = 408,
    PARENT = 424,
    LCHS_SECTOR = 468
};

static void poke32(struct pl_storage *st, uint64_t at, uint32_t value)
{
    uint8_t raw[4];

    store_le32(raw, value);
    OK(pl_storage_write(st, at, raw, 4, &e));
}

static uint32_t peek32(struct pl_storage *st, uint64_t at)
{
    uint8_t raw[4];

    OK(pl_storage_read(st, at, raw, 4, &e));
    return load_le32(raw);
}

/* An image of `blocks` blocks of 4 KiB, the first `written` of which hold their number. */
static struct rig make(const char *options, uint64_t blocks, uint64_t written)
{
    struct rig d = { .driver = &pl_vdi, .st = memory() };
    uint8_t bytes[BLOCK];

    OK(rig_create(&d, options, blocks * BLOCK, &e));
    OK(rig_open(&d, &e));
    for (uint64_t i = 0; i < written; i++) {
        memset(bytes, (int)i + 1, BLOCK);
        OK(rig_write(&d, i * BLOCK, bytes, BLOCK, &e));
    }
    OK(pl_vdi.flush(d.layer.state, &e));
    return d;
}

static void drop(struct rig *d)
{
    if (d->layer.state)
        rig_close(d);
    pl_storage_close(d->st, NULL);
}

static void reopen(struct rig *d)
{
    rig_close(d);
    OK(rig_open(d, &e));
}

/* What all bytes of a block are; fails when they differ. */
static unsigned content(struct rig *d, uint64_t block)
{
    uint8_t bytes[BLOCK];

    OK(rig_read(d, block * BLOCK, bytes, BLOCK, &e));
    assert_memory_equal(bytes, bytes + 1, BLOCK - 1);
    return bytes[0];
}

static enum pl_state state_of(struct rig *d, uint64_t at)
{
    struct pl_extent x;

    OK(pl_vdi.map(d->layer.state, at, 1, &x, &e));
    return x.state;
}

static int try_open(struct pl_storage *st, struct pl_err *e)
{
    struct rig d = { .driver = &pl_vdi, .st = st };

    if (rig_open(&d, e) < 0)
        return -1;
    rig_close(&d);
    return 0;
}

/* ---- headers ---- */

static const struct damage {
    const char *name;
    uint64_t at;
    uint32_t value;
    enum pl_kind kind;
    const char *text;
} damages[] = {
    { "another signature", 64, 0, PL_E_FORMAT, "not a VDI file" },
    { "version 2.0", VERSION, 0x20000, PL_E_UNSUPPORTED, "version 2.0" },
    { "a header of 383 bytes", CB_HEADER, 383, PL_E_CORRUPT, "cbHeader 383" },
    { "type 0", TYPE, 0, PL_E_CORRUPT, "type 0" },
    { "type 5", TYPE, 5, PL_E_CORRUPT, "type 5" },
    { "a differencing image without a parent", TYPE, 4, PL_E_CORRUPT, "parent UUID" },
    { "a parent of an image that has none", PARENT, 1, PL_E_CORRUPT, "type 1 has no parent" },
    { "sectors of 4096 bytes", SECTOR, 4096, PL_E_UNSUPPORTED, "sectors of 4096" },
    { "other sectors in the second geometry", LCHS_SECTOR, 1000, PL_E_UNSUPPORTED, "1000" },
    { "block size 0", BLOCK_SIZE, 0, PL_E_CORRUPT, "cbBlock 0" },
    { "block size 4095", BLOCK_SIZE, 4095, PL_E_CORRUPT, "cbBlock 4095" },
    { "block size 256", BLOCK_SIZE, 256, PL_E_CORRUPT, "cbBlock 256" },
    { "block size 2 GiB", BLOCK_SIZE, 1u << 31, PL_E_CORRUPT, "cbBlock 2147483648" },
    { "extra bytes that are no power of two", EXTRA, 3, PL_E_CORRUPT, "cbBlockExtra 3" },
    { "extra bytes of 2 GiB", EXTRA, 1u << 31, PL_E_CORRUPT, "cbBlockExtra" },
    { "one block too few", BLOCKS, 7, PL_E_CORRUPT, "8 blocks, but the block map only 7" },
    { "2^32 - 1 blocks", BLOCKS, UINT32_MAX, PL_E_CORRUPT, "offData" },
    { "a map inside the header", OFF_BLOCKS, 400, PL_E_CORRUPT, "offBlocks" },
    { "a map at an odd offset", OFF_BLOCKS, 4098, PL_E_CORRUPT, "offBlocks" },
    { "a map past the end of the file", OFF_BLOCKS, 0xfffffe00, PL_E_CORRUPT, "offData" },
    { "data inside the map", OFF_DATA, MAP + 28, PL_E_CORRUPT, "offData" },
    { "a disk of 2^63 bytes", DISK_SIZE + 4, 1u << 31, PL_E_LIMIT, "too big" },
    { "a disk of 2^32 blocks more", DISK_SIZE + 4, 1u << 12, PL_E_CORRUPT, "block map only" },
};

static void bad_headers_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < PL_COUNT(damages); i++) {
        struct rig d = make("block_size=4k", 8, 2);

        rig_close(&d);
        poke32(d.st, damages[i].at, damages[i].value);
        print_message("# %s\n", damages[i].name);
        FAILS(damages[i].kind, damages[i].text, try_open(d.st, &e));
        pl_storage_close(d.st, NULL);
    }
}

static void a_cut_file_is_refused_where_it_matters(void **state)
{
    struct rig d = make("block_size=4k", 8, 2);
    uint8_t bytes[BLOCK];

    (void)state;
    rig_close(&d);
    for (uint64_t len = 0; len < MAP + 32; len += 60) {
        struct pl_storage *cut = memory_copy(d.st, len);

        assert_int_equal(try_open(cut, NULL), -1);
        pl_storage_close(cut, NULL);
    }
    OK(pl_storage_resize(d.st, DATA + 2 * BLOCK - 513, &e)); /* more than a sector is missing */
    OK(rig_open(&d, &e));
    assert_int_equal(content(&d, 0), 1);
    FAILS(PL_E_CORRUPT, "past the end of the file", rig_read(&d, BLOCK, bytes, BLOCK, &e));
    drop(&d);
}

static void a_file_may_end_with_the_disk(void **state)
{
    struct rig d = { .driver = &pl_vdi, .st = memory() };
    uint8_t bytes[BLOCK], ones[BLOCK];

    (void)state;
    memset(ones, 1, sizeof ones);
    OK(rig_create(&d, "block_size=4k", BLOCK + 700, &e));
    OK(rig_open(&d, &e));
    assert_int_equal(d.layer.size, BLOCK + 1024);
    OK(rig_write(&d, BLOCK, ones, 1024, &e));
    OK(pl_vdi.flush(d.layer.state, &e));
    OK(pl_storage_resize(d.st, DATA + 700, &e));
    reopen(&d);
    OK(rig_read(&d, BLOCK, bytes, 1024, &e));
    assert_memory_equal(bytes, ones, 700);
    assert_int_equal(bytes[700], 0);
    drop(&d);
}

static void entries_are_checked_when_used(void **state)
{
    static const uint32_t bad[] = { 2, 100, 0xfffffffd };
    uint8_t bytes[BLOCK];

    (void)state;
    for (size_t i = 0; i < PL_COUNT(bad); i++) {
        struct rig d = make("block_size=4k", 8, 2);

        poke32(d.st, MAP + 4, bad[i]);
        reopen(&d);
        assert_int_equal(content(&d, 0), 1);
        FAILS(PL_E_CORRUPT, "entry 1", rig_read(&d, BLOCK, bytes, BLOCK, &e));
        FAILS(PL_E_CORRUPT, "not changed", rig_write(&d, 0, bytes, BLOCK, &e));
        drop(&d);
    }
}

/* ---- reading what others write ---- */

static void old_headers_are_read_and_written(void **state)
{
    struct rig d = { .driver = &pl_vdi, .st = memory() };
    uint8_t bytes[BLOCK];

    (void)state;
    memset(bytes, 7, sizeof bytes);
    poke32(d.st, 64, 0xbeda107f);
    poke32(d.st, 68, 2);
    poke32(d.st, 72, 1);
    poke32(d.st, 352, 3 * BLOCK);
    poke32(d.st, 356, 0);
    poke32(d.st, 360, BLOCK);
    poke32(d.st, 364, 3);
    poke32(d.st, 368, 1);
    poke32(d.st, 372, 1);
    poke32(d.st, 416, 0);
    poke32(d.st, 420, FREE_MARK);
    poke32(d.st, 424, 0);
    poke32(d.st, 428, ZERO_MARK);
    OK(pl_storage_write(d.st, 432, bytes, BLOCK, &e));
    OK(rig_open(&d, &e));
    assert_int_equal(d.layer.size, 3 * BLOCK);
    assert_int_equal(content(&d, 0), 0);
    assert_int_equal(content(&d, 1), 7);
    assert_int_equal(content(&d, 2), 0);
    memset(bytes, 8, sizeof bytes);
    OK(rig_write(&d, 2 * BLOCK, bytes, BLOCK, &e));
    FAILS(PL_E_UNSUPPORTED, "no room for more than 3",
          pl_vdi.resize(d.layer.state, 4 * BLOCK, false, PL_PREALLOC_OFF, &e));
    OK(pl_vdi.flush(d.layer.state, &e));
    reopen(&d);
    assert_int_equal(content(&d, 1), 7);
    assert_int_equal(content(&d, 2), 8);
    assert_int_equal(peek32(d.st, 368), 2);
    drop(&d);
}

static void blocks_may_be_in_any_order_behind_extra_bytes(void **state)
{
    struct rig d = { .driver = &pl_vdi, .st = memory() };
    uint8_t bytes[BLOCK];

    (void)state;
    OK(rig_create(&d, "block_size=4k", 4 * BLOCK, &e));
    poke32(d.st, EXTRA, 512);
    for (uint32_t i = 0; i < 4; i++) {
        memset(bytes, (int)i + 1, BLOCK);
        poke32(d.st, MAP + 4 * i, 3 - i);
        OK(pl_storage_write(d.st, DATA + (3 - i) * (BLOCK + 512) + 512, bytes, BLOCK, &e));
    }
    OK(rig_open(&d, &e));
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(content(&d, i), i + 1);
    drop(&d);
}

static void marks_tell_zeros_from_the_parent(void **state)
{
    uint8_t parent[4 * BLOCK];
    struct rig d = { .driver = &pl_vdi,
                     .st = memory(),
                     .parent = parent,
                     .parent_len = sizeof parent,
                     .parent_identity = PARENT_WORDS };

    (void)state;
    memset(parent, 9, sizeof parent);
    OK(rig_create(&d, "block_size=4k", 4 * BLOCK, &e));
    poke32(d.st, MAP + 4, ZERO_MARK);
    OK(rig_open(&d, &e));
    assert_string_equal(d.layer.parent_identity, "uuid:00112233-4455-6677-8899-aabbccddeeff");
    assert_string_equal(d.layer.parent_revision,
                        "modification:ffeeddcc-bbaa-9988-7766-554433221100");
    assert_int_equal(peek32(d.st, TYPE), 4);
    assert_int_equal(content(&d, 0), 9);
    assert_int_equal(content(&d, 1), 0);
    /* what is zeroed is never the parent's again, whatever is asked for */
    OK(pl_vdi.discard(d.layer.state, 0, BLOCK, &e));
    OK(pl_vdi.zero(d.layer.state, 2 * BLOCK, BLOCK, true, &e));
    OK(pl_vdi.flush(d.layer.state, &e));
    assert_int_equal(peek32(d.st, MAP), ZERO_MARK);
    assert_int_equal(content(&d, 2), 0);
    assert_int_equal(content(&d, 3), 9);
    drop(&d);
}

/* ---- identifiers ---- */

static void read_uuids(struct rig *d, uint8_t image[16], uint8_t modification[16])
{
    OK(pl_storage_read(d->st, UUID, image, 16, &e));
    OK(pl_storage_read(d->st, MODIFICATION, modification, 16, &e));
}

static void the_first_write_after_opening_is_a_modification(void **state)
{
    uint8_t image[16], first[16], second[16], bytes[512] = { 1 };
    struct rig d = make("block_size=4k", 8, 2);

    (void)state;
    reopen(&d);
    read_uuids(&d, image, first);
    OK(pl_vdi.flush(d.layer.state, &e));
    read_uuids(&d, image, second);
    assert_memory_equal(first, second, 16);
    OK(rig_write(&d, 0, bytes, 512, &e));
    read_uuids(&d, image, second);
    assert_memory_not_equal(first, second, 16);
    memcpy(first, second, 16);
    OK(rig_write(&d, 5 * BLOCK, bytes, 512, &e));
    OK(pl_vdi.flush(d.layer.state, &e));
    read_uuids(&d, image, second);
    assert_memory_equal(first, second, 16);
    /* neither compacting nor checking changes what the guest sees */
    reopen(&d);
    OK(pl_vdi.compact(d.layer.state, NULL, &(uint64_t){ 0 }, &e));
    read_uuids(&d, image, second);
    assert_memory_equal(first, second, 16);
    drop(&d);
}

static void new_images_never_have_the_same_uuid(void **state)
{
    struct rig a = make("", 8, 0), b = make("", 8, 0);

    (void)state;
    assert_string_not_equal(a.layer.identity, b.layer.identity);
    drop(&a);
    a = make("uuid=00112233-4455-6677-8899-aabbccddeeff", 8, 0);
    assert_ptr_equal(strstr(a.layer.identity, "uuid:00112233-4455-6677-8899-aabbccddeeff "),
                     a.layer.identity);
    drop(&a);
    drop(&b);
}

/* ---- writing ---- */

static void only_sectors_that_are_written_take_time(void **state)
{
    struct rig d = make("", 1024, 0);
    struct pl_place place;

    (void)state;
    assert_int_equal(d.layer.granule, 512);
    OK(pl_vdi.allocate(d.layer.state, 1024, 512, &place, &e));
    assert_true(place.fresh && place.zeroed);
    assert_int_equal(place.len, 512);
    assert_int_equal(place.off, (2u << 20) + 1024);
    OK(pl_vdi.link(d.layer.state, &place, &e));
    OK(pl_vdi.allocate(d.layer.state, 4096, 512, &place, &e));
    assert_false(place.fresh);
    FAILS(PL_E_INVALID, "whole number",
          pl_vdi.allocate(d.layer.state, (1 << 20) + 1, 512, &place, &e));
    FAILS(PL_E_LIMIT, "outside", pl_vdi.allocate(d.layer.state, 1024 * BLOCK, 512, &place, &e));
    drop(&d);
}

static void room_is_given_in_a_row(void **state)
{
    struct rig d = make("block_size=4k", 1000, 0);
    struct pl_place place;

    (void)state;
    OK(pl_vdi.allocate(d.layer.state, 0, 600 * BLOCK, &place, &e));
    assert_int_equal(place.len, 600 * BLOCK);
    OK(pl_vdi.link(d.layer.state, &place, &e));
    OK(pl_vdi.allocate(d.layer.state, 600 * BLOCK, 400 * BLOCK, &place, &e));
    assert_int_equal(place.off, DATA + 600 * BLOCK);
    OK(pl_vdi.link(d.layer.state, &place, &e));
    drop(&d);
}

static void the_count_is_never_too_low_for_others(void **state)
{
    struct rig d = make("block_size=4k", 8, 4);

    (void)state;
    assert_int_equal(peek32(d.st, ALLOCATED), 4);
    OK(pl_vdi.discard(d.layer.state, BLOCK, BLOCK, &e));
    OK(pl_vdi.flush(d.layer.state, &e));
    assert_int_equal(peek32(d.st, ALLOCATED), 4); /* place 3 is used */
    /* a file whose count is too low is not written over */
    poke32(d.st, ALLOCATED, 1);
    reopen(&d);
    OK(rig_write(&d, 6 * BLOCK, (uint8_t[512]){ 5 }, 512, &e));
    OK(pl_vdi.flush(d.layer.state, &e));
    assert_int_equal(content(&d, 3), 4);
    assert_int_equal(peek32(d.st, MAP + 24), 1); /* the place that was given back */
    assert_int_equal(peek32(d.st, ALLOCATED), 4);
    drop(&d);
}

static void a_static_image_keeps_its_places(void **state)
{
    struct rig d = make("block_size=4k,static=on", 8, 8);

    (void)state;
    assert_int_equal(peek32(d.st, TYPE), 2);
    assert_int_equal(pl_storage_size(d.st), DATA + 8 * BLOCK);
    assert_int_equal(pl_vdi.zero(d.layer.state, 0, BLOCK, false, NULL), 1);
    OK(pl_vdi.zero(d.layer.state, 0, BLOCK, true, &e));
    OK(pl_vdi.discard(d.layer.state, BLOCK, BLOCK, &e));
    OK(pl_vdi.flush(d.layer.state, &e));
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(peek32(d.st, MAP + 4 * i), i);
        assert_int_equal(content(&d, i), i < 2 ? 0 : i + 1);
    }
    OK(rig_resize(&d, 12 * BLOCK, PL_PREALLOC_OFF, &e));
    for (uint32_t i = 0; i < 12; i++)
        assert_int_equal(peek32(d.st, MAP + 4 * i), i);
    drop(&d);
}

static void nothing_is_written_when_open_for_reading(void **state)
{
    struct rig d = make("block_size=4k", 8, 2);
    struct pl_place place;

    (void)state;
    rig_close(&d);
    d.read_only = true;
    OK(rig_open(&d, &e));
    FAILS(PL_E_INVALID, "reading only", pl_vdi.allocate(d.layer.state, 0, 512, &place, &e));
    FAILS(PL_E_INVALID, "reading only", pl_vdi.discard(d.layer.state, 0, BLOCK, &e));
    FAILS(PL_E_INVALID, "reading only", pl_vdi.compact(d.layer.state, NULL, &(uint64_t){ 0 }, &e));
    FAILS(PL_E_INVALID, "reading only",
          pl_vdi.resize(d.layer.state, 9 * BLOCK, false, PL_PREALLOC_OFF, &e));
    OK(pl_vdi.flush(d.layer.state, &e));
    drop(&d);
}

/* ---- the whole image ---- */

static void compacting_closes_gaps(void **state)
{
    struct rig d = make("block_size=4k", 16, 10);
    uint64_t freed;

    (void)state;
    OK(pl_vdi.discard(d.layer.state, 0, 3 * BLOCK, &e));
    OK(pl_vdi.discard(d.layer.state, 5 * BLOCK, BLOCK, &e));
    OK(pl_vdi.flush(d.layer.state, &e));
    OK(pl_vdi.compact(d.layer.state, NULL, &freed, &e));
    assert_int_equal(freed, 4 * BLOCK);
    assert_int_equal(pl_storage_size(d.st), DATA + 6 * BLOCK);
    assert_int_equal(peek32(d.st, ALLOCATED), 6);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(content(&d, i), i < 3 || i == 5 ? 0 : i + 1);
    OK(pl_vdi.compact(d.layer.state, NULL, &freed, &e));
    assert_int_equal(freed, 0);
    drop(&d);
}

static void a_map_that_outgrows_its_room_moves(void **state)
{
    struct rig d = make("block_size=4k", 1000, 5);
    const uint64_t blocks = 3000; /* the map has room for 1024 */

    (void)state;
    OK(rig_resize(&d, blocks * BLOCK, PL_PREALLOC_OFF, &e));
    assert_int_equal(peek32(d.st, BLOCKS), blocks);
    assert_true(peek32(d.st, OFF_BLOCKS) >= DATA);
    assert_true(peek32(d.st, OFF_DATA) >= peek32(d.st, OFF_BLOCKS) + 4 * blocks);
    reopen(&d);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(content(&d, i), i + 1);
    assert_int_equal(state_of(&d, 2999 * BLOCK), PL_PARENT);
    OK(rig_resize(&d, 3 * BLOCK, PL_PREALLOC_OFF, &e));
    assert_int_equal(peek32(d.st, BLOCKS), 3);
    assert_int_equal(peek32(d.st, ALLOCATED), 3);
    OK(rig_resize(&d, 6 * BLOCK, PL_PREALLOC_OFF, &e));
    assert_int_equal(content(&d, 2), 3);
    assert_int_equal(content(&d, 3), 0);
    drop(&d);
}

static void bad_sizes_are_refused(void **state)
{
    struct rig d = make("block_size=512", 1, 0);

    (void)state;
    FAILS(PL_E_INVALID, "multiple of 512",
          pl_vdi.resize(d.layer.state, 5000, false, PL_PREALLOC_OFF, &e));
    FAILS(PL_E_INVALID, "would lose",
          pl_vdi.resize(d.layer.state, 512, false, PL_PREALLOC_OFF, &e));
    FAILS(PL_E_LIMIT, "blocks of 512",
          pl_vdi.resize(d.layer.state, UINT64_C(1) << 40, false, PL_PREALLOC_OFF, &e));
    drop(&d);
}

static struct pl_check_result check(struct rig *d, enum pl_repair repair)
{
    struct pl_check_result result;

    OK(rig_check(d, repair, &result, &e));
    return result;
}

static void check_finds_and_mends(void **state)
{
    struct rig d = make("block_size=4k", 8, 5);
    struct pl_check_result r;

    (void)state;
    poke32(d.st, MAP + 4, 0);   /* the place of block 0 */
    poke32(d.st, MAP + 8, 77);  /* past the end */
    poke32(d.st, ALLOCATED, 3); /* place 4 is used */
    reopen(&d);
    r = check(&d, PL_REPAIR_NONE);
    assert_int_equal(r.corruptions, 3);
    assert_int_equal(r.leaks, 2); /* places 1 and 2 */
    assert_int_equal(r.total_clusters, 8);
    r = check(&d, PL_REPAIR_LEAKS); /* nothing is moved while the map is wrong */
    assert_int_equal(r.corruptions, 3);
    assert_int_equal(r.leaks_fixed, 0);
    r = check(&d, PL_REPAIR_ALL);
    assert_int_equal(r.corruptions_fixed, 3);
    assert_int_equal(r.corruptions, 0);
    assert_int_equal(r.leaks, 0);
    assert_int_equal(content(&d, 0), 1);
    assert_int_equal(content(&d, 1), 1);
    assert_int_equal(content(&d, 2), 0);
    assert_int_equal(content(&d, 3), 4);
    assert_int_equal(content(&d, 4), 5);
    OK(rig_write(&d, BLOCK, (uint8_t[512]){ 9 }, 512, &e));
    assert_int_equal(content(&d, 0), 1); /* they are apart */
    assert_int_equal(peek32(d.st, ALLOCATED), 4);
    drop(&d);
}

static void a_count_that_others_refuse_is_mended(void **state)
{
    struct rig d = make("block_size=4k", 8, 2);

    (void)state;
    poke32(d.st, ALLOCATED, 9);
    reopen(&d);
    assert_int_equal(check(&d, PL_REPAIR_NONE).corruptions, 1);
    assert_int_equal(check(&d, PL_REPAIR_ALL).corruptions, 0);
    assert_int_equal(peek32(d.st, ALLOCATED), 2);
    drop(&d);
}

/* ---- creating ---- */

static int try_create(const char *options, uint64_t size, struct pl_err *e)
{
    struct rig d = { .driver = &pl_vdi, .st = memory() };
    const int result = rig_create(&d, options, size, e);

    pl_storage_close(d.st, NULL);
    return result;
}

static void bad_options_are_refused(void **state)
{
    static const uint8_t parent[512];
    struct rig child = { .driver = &pl_vdi, .st = memory(), .parent = parent, .parent_len = 512 };

    (void)state;
    FAILS(PL_E_INVALID, "block_size", try_create("block_size=1000", BLOCK, &e));
    FAILS(PL_E_INVALID, "block_size", try_create("block_size=256", BLOCK, &e));
    FAILS(PL_E_INVALID, "block_size", try_create("block_size=512M", BLOCK, &e));
    FAILS(PL_E_INVALID, "uuid", try_create("uuid=1234", BLOCK, &e));
    FAILS(PL_E_INVALID, "static", try_create("static=maybe", BLOCK, &e));
    FAILS(PL_E_LIMIT, "too many for the format", try_create("", UINT64_C(2) << 50, &e));
    FAILS(PL_E_LIMIT, "too big", try_create("block_size=256M", UINT64_MAX / 2, &e));
    FAILS(PL_E_UNSUPPORTED, "UUID of its parent", rig_create(&child, "", 512, &e));
    child.parent_identity = "cid:00000000";
    FAILS(PL_E_UNSUPPORTED, "UUID of its parent", rig_create(&child, "", 512, &e));
    child.parent_identity = PARENT_WORDS;
    FAILS(PL_E_INVALID, "static", rig_create(&child, "static=on", 512, &e));
    pl_storage_close(child.st, NULL);
}

static void an_empty_disk_is_a_disk(void **state)
{
    struct rig d = make("", 0, 0);

    (void)state;
    assert_int_equal(d.layer.size, 0);
    OK(rig_resize(&d, 3 * BLOCK, PL_PREALLOC_OFF, &e));
    OK(rig_write(&d, 0, (uint8_t[512]){ 1 }, 512, &e));
    OK(pl_vdi.flush(d.layer.state, &e));
    reopen(&d);
    assert_int_equal(d.layer.size, 3 * BLOCK);
    drop(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_headers_are_refused),
        cmocka_unit_test(a_cut_file_is_refused_where_it_matters),
        cmocka_unit_test(a_file_may_end_with_the_disk),
        cmocka_unit_test(entries_are_checked_when_used),
        cmocka_unit_test(old_headers_are_read_and_written),
        cmocka_unit_test(blocks_may_be_in_any_order_behind_extra_bytes),
        cmocka_unit_test(marks_tell_zeros_from_the_parent),
        cmocka_unit_test(the_first_write_after_opening_is_a_modification),
        cmocka_unit_test(new_images_never_have_the_same_uuid),
        cmocka_unit_test(only_sectors_that_are_written_take_time),
        cmocka_unit_test(room_is_given_in_a_row),
        cmocka_unit_test(the_count_is_never_too_low_for_others),
        cmocka_unit_test(a_static_image_keeps_its_places),
        cmocka_unit_test(nothing_is_written_when_open_for_reading),
        cmocka_unit_test(compacting_closes_gaps),
        cmocka_unit_test(a_map_that_outgrows_its_room_moves),
        cmocka_unit_test(bad_sizes_are_refused),
        cmocka_unit_test(check_finds_and_mends),
        cmocka_unit_test(a_count_that_others_refuse_is_mended),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(an_empty_disk_is_a_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
