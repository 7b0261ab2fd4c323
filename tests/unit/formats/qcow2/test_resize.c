/* Growing and shrinking disks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "formats/qcow2/change.h"
#include "tests/support/env.h"
#include "tests/support/rig.h"

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static void begin(struct rig *rig, const char *options, uint64_t size)
{
    struct pl_err e;

    must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig->st, &e), &e);
    must(rig_create(rig, options, size, &e), &e);
    must(rig_open(rig, &e), &e);
}

static void end(struct rig *rig)
{
    struct pl_check_result result;
    struct pl_err e;

    must(rig_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    assert_int_equal(result.corruptions + result.leaks, 0);
    rig_close(rig);
    pl_storage_close(rig->st, NULL);
    pl_storage_close(rig->data, NULL);
}

static void resize(struct rig *rig, uint64_t size, bool shrink, enum pl_prealloc how)
{
    struct pl_err e;

    must(pl_qcow2.resize(rig->layer.state, size, shrink, how, &e), &e);
    rig->layer.size = size;
    /* What counts is what is on disk. */
    rig_close(rig);
    must(rig_open(rig, &e), &e);
    assert_int_equal(rig->layer.size, size);
}

static void assert_refused(struct rig *rig, uint64_t size, bool shrink, enum pl_kind kind)
{
    uint64_t before = rig->layer.size;
    struct pl_err e;

    assert_int_equal(pl_qcow2.resize(rig->layer.state, size, shrink, PL_PREALLOC_OFF, &e), -1);
    assert_int_equal(e.kind, kind);
    rig_close(rig);
    must(rig_open(rig, &e), &e);
    assert_int_equal(rig->layer.size, before);
}

static void put(struct rig *rig, uint64_t at, uint64_t len, int byte, bool packed)
{
    uint8_t *bytes = malloc(len);
    struct pl_err e;

    memset(bytes, byte, len);
    if (packed)
        must(rig_write_packed(rig, at, bytes, len, &e), &e);
    else
        must(rig_write(rig, at, bytes, len, &e), &e);
    free(bytes);
}

static void assert_bytes(struct rig *rig, uint64_t at, uint64_t len, int byte)
{
    uint8_t *bytes = malloc(len);
    struct pl_err e;

    must(rig_read(rig, at, bytes, len, &e), &e);
    for (uint64_t i = 0; i < len; i++)
        if (bytes[i] != byte)
            fail_msg("byte 0x%llx is %02x", (unsigned long long)(at + i), bytes[i]);
    free(bytes);
}

static const struct shape {
    const char *name, *options;
    bool packed, data_file;
} shapes[] = {
    { "what was behind the end reads as zeros", "cluster_size=64k", false, false },
    { "what was behind the end of a packed cluster reads as zeros", "cluster_size=64k", true,
      false },
    { "what was behind the end of subclusters reads as zeros", "cluster_size=64k,extended_l2=on",
      false, false },
    { "what was behind the end of packed subclusters reads as zeros",
      "cluster_size=64k,extended_l2=on", true, false },
    { "what was behind the end in a data file reads as zeros", "cluster_size=64k,data_file=data",
      false, true },
};

/* Shrinks into a cluster, then grows again. */
static void growing_shows_zeros(void **state)
{
    const struct shape *shape = *state;
    struct rig rig = { .driver = &pl_qcow2 };
    struct pl_err e;

    if (shape->data_file)
        must(pl_memory_storage(NULL, 0, SIZE_MAX / 2, &rig.data, &e), &e);
    begin(&rig, shape->options, MIB);
    put(&rig, 0, MIB, 1, shape->packed);
    resize(&rig, 300 * KIB + 512, true, PL_PREALLOC_OFF);
    assert_bytes(&rig, 0, 300 * KIB + 512, 1);
    resize(&rig, 2 * MIB, false, PL_PREALLOC_OFF);
    assert_bytes(&rig, 0, 300 * KIB + 512, 1);
    assert_bytes(&rig, 300 * KIB + 512, 2 * MIB - 300 * KIB - 512, 0);
    end(&rig);
}

static void a_longer_l1_table_moves(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    const struct qcow2 *q;
    uint64_t old;

    (void)state;
    begin(&rig, "cluster_size=4k", 2 * MIB);
    q = rig.layer.state;
    old = q->header.l1_table_offset;
    put(&rig, 0, 64 * KIB, 1, false);
    resize(&rig, 10 * GIB, false, PL_PREALLOC_OFF);
    q = rig.layer.state;
    assert_int_not_equal(q->header.l1_table_offset, old);
    assert_bytes(&rig, 0, 64 * KIB, 1);
    put(&rig, 10 * GIB - 4096, 4096, 2, false);
    assert_bytes(&rig, 10 * GIB - 4096, 4096, 2);
    assert_int_equal(pl_qcow2.flush(rig.layer.state, NULL), 0);
    end(&rig);
}

static void shrinking_gives_the_room_back(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };
    uint64_t before;

    (void)state;
    begin(&rig, "cluster_size=4k", 8 * MIB);
    put(&rig, 0, 8 * MIB, 1, false);
    assert_int_equal(pl_qcow2.flush(rig.layer.state, NULL), 0);
    before = pl_storage_size(rig.st);
    resize(&rig, MIB, true, PL_PREALLOC_OFF);
    assert_true(pl_storage_size(rig.st) < before - 5 * MIB);
    assert_bytes(&rig, 0, MIB, 1);
    end(&rig);
}

static void preallocated_room_is_there(void **state)
{
    static const enum pl_prealloc ways[] = { PL_PREALLOC_METADATA, PL_PREALLOC_FALLOC,
                                             PL_PREALLOC_FULL };

    (void)state;
    for (size_t i = 0; i < PL_COUNT(ways); i++) {
        struct rig rig = { .driver = &pl_qcow2 };
        struct pl_extent x;
        struct pl_err e;

        begin(&rig, "cluster_size=4k", MIB);
        put(&rig, 0, MIB, 1, false);
        resize(&rig, 3 * MIB, false, ways[i]);
        must(pl_qcow2.map(rig.layer.state, MIB, 2 * MIB, &x, &e), &e);
        assert_int_equal(x.state, PL_DATA);
        assert_true(pl_storage_size(rig.st) > 3 * MIB);
        assert_bytes(&rig, 0, MIB, 1);
        assert_bytes(&rig, MIB, 2 * MIB, 0);
        end(&rig);
    }
}

static void what_would_lose_data_is_refused(void **state)
{
    struct rig rig = { .driver = &pl_qcow2 };

    (void)state;
    begin(&rig, "cluster_size=512", MIB);
    put(&rig, 0, MIB, 1, false);
    assert_int_equal(pl_qcow2.flush(rig.layer.state, NULL), 0);
    assert_refused(&rig, MIB / 2, false, PL_E_INVALID);
    assert_refused(&rig, MIB + 100, false, PL_E_INVALID);
    assert_refused(&rig, UINT64_C(1) << 40, false, PL_E_LIMIT);
    end(&rig);
}

static void assert_bits(struct rig *rig, const char *name, uint64_t bits, const uint8_t *wanted)
{
    uint8_t found[8] = { 0 };
    struct pl_err e;

    must(pl_qcow2.bitmap_load(rig->layer.state, name, found, pl_div_up(bits, 8), &e), &e);
    assert_memory_equal(found, wanted, pl_div_up(bits, 8));
}

static void bitmaps_get_the_length_of_the_disk(void **state)
{
    struct pl_bitmap on = { .name = "on", .granularity = 65536, .enabled = true };
    struct pl_bitmap off = { .name = "off", .granularity = 65536 };
    struct pl_bitmap lost = { .name = "lost", .granularity = 65536, .in_use = true };
    const uint8_t bits[2] = { 0x01, 0x80 }, grown[3] = { 0x01, 0x80 }, cut[2] = { 0x01, 0 };
    struct pl_bitmap *list;
    struct rig rig = { .driver = &pl_qcow2 };
    struct pl_err e;
    size_t count;

    (void)state;
    begin(&rig, "", MIB);
    must(pl_qcow2.bitmap_store(rig.layer.state, &on, bits, 2, &e), &e);
    must(pl_qcow2.bitmap_store(rig.layer.state, &off, bits, 2, &e), &e);
    must(pl_qcow2.bitmap_store(rig.layer.state, &lost, bits, 2, &e), &e);
    must(pl_qcow2.resize(rig.layer.state, MIB + 5 * 65536, false, PL_PREALLOC_METADATA, &e), &e);
    assert_bits(&rig, "on", 21, grown);
    assert_bits(&rig, "off", 21, grown);
    must(pl_qcow2.resize(rig.layer.state, MIB - 65536, true, PL_PREALLOC_OFF, &e), &e);
    assert_bits(&rig, "on", 15, cut);
    assert_bits(&rig, "off", 15, cut);
    must(pl_qcow2.bitmaps(rig.layer.state, &list, &count, &e), &e);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(list[i].enabled, !strcmp(list[i].name, "on"));
        assert_int_equal(list[i].in_use, !strcmp(list[i].name, "lost"));
    }
    free(list);
    end(&rig);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(shapes) + 5] = {
        cmocka_unit_test(a_longer_l1_table_moves),
        cmocka_unit_test(shrinking_gives_the_room_back),
        cmocka_unit_test(preallocated_room_is_there),
        cmocka_unit_test(what_would_lose_data_is_refused),
        cmocka_unit_test(bitmaps_get_the_length_of_the_disk),
    };

    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        tests[i + 5] = (struct CMUnitTest){ .name = shapes[i].name,
                                            .test_func = growing_shows_zeros,
                                            .initial_state = (void *)&shapes[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
