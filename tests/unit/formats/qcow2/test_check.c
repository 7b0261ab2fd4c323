/* Checks of sound and of damaged images: the numbers are qemu-img's, a repair leaves nothing to
 * find and makes nothing worse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "formats/qcow2/change.h"
#include "tests/support/env.h"
#include "tests/support/rig.h"

#define LIMIT (1 << 28)
#define DISK (UINT64_C(2) << 20)

/* ---- qemu-img beside us ---- */

static uint64_t number(const json_t *json, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(json, name));
}

/* What qemu-img finds.  False: it cannot open the image. */
static bool ask_qemu(struct pl_storage *st, struct pl_check_result *result)
{
    char *path = test_tmp("checked"), command[4000];
    struct pl_err e;
    json_t *json;
    FILE *pipe;

    must(rig_dump(st, path, &e), &e);
    snprintf(command, sizeof command, "qemu-img check -f qcow2 --output=json %s 2>/dev/null", path);
    pipe = popen(command, "r");
    assert_non_null(pipe);
    json = json_loadf(pipe, 0, NULL);
    pclose(pipe);
    free(path);
    if (!json)
        return false;
    *result = (struct pl_check_result){
        .corruptions = number(json, "corruptions"),
        .leaks = number(json, "leaks"),
        .check_errors = number(json, "check-errors"),
        .image_end_offset = number(json, "image-end-offset"),
        .total_clusters = number(json, "total-clusters"),
        .allocated_clusters = number(json, "allocated-clusters"),
        .fragmented_clusters = number(json, "fragmented-clusters"),
        .compressed_clusters = number(json, "compressed-clusters"),
    };
    json_decref(json);
    return true;
}

static void open_for_check(struct rig *rig, struct pl_storage *st)
{
    struct pl_err e;

    *rig = (struct rig){ .driver = &pl_qcow2, .st = st, .check_only = true };
    must(rig_open(rig, &e), &e);
}

static struct pl_check_result check(struct pl_storage *st, enum pl_repair repair)
{
    struct pl_check_result result;
    struct rig rig;
    struct pl_err e;

    open_for_check(&rig, st);
    must(rig_check(&rig, repair, &result, &e), &e);
    must(pl_qcow2.flush(rig.layer.state, &e), &e);
    rig_close(&rig);
    return result;
}

static void assert_same(const struct pl_check_result *ours, const struct pl_check_result *theirs)
{
    assert_int_equal(ours->corruptions, theirs->corruptions);
    assert_int_equal(ours->leaks, theirs->leaks);
    assert_int_equal(ours->check_errors, theirs->check_errors);
    assert_int_equal(ours->image_end_offset, theirs->image_end_offset);
    assert_int_equal(ours->total_clusters, theirs->total_clusters);
    assert_int_equal(ours->allocated_clusters, theirs->allocated_clusters);
    assert_int_equal(ours->fragmented_clusters, theirs->fragmented_clusters);
    assert_int_equal(ours->compressed_clusters, theirs->compressed_clusters);
}

/* ---- samples ---- */

static const char *const samples[] = {
    "qcow2/qemu-basic.qcow2",
    "qcow2/qemu-image-v2-102k.qcow2",
    "qcow2/qemu-ext2.qcow2",
    "qcow2/qemu-lvmtest.qcow2",
    "qcow2/qemu-uefi-i386.qcow2",
    "qcow2/qemu-empty-512m.img",
    "qcow2/qemu-v2.qcow2",
    "qcow2/qemu-v2-c512.qcow2",
    "qcow2/qemu-v3-c2m.qcow2",
    "qcow2/qemu-v3-c4k-rc1.qcow2",
    "qcow2/qemu-v3-c1k-rc64.qcow2",
    "qcow2/qemu-v3-lazy-rc8.qcow2",
    "qcow2/qemu-extl2-128k.qcow2",
    "qcow2/qemu-extl2-16k.qcow2",
    "qcow2/qemu-zlib.qcow2",
    "qcow2/qemu-zstd.qcow2",
    "qcow2/qemu-zlib-c2m.qcow2",
    "qcow2/qemu-prealloc-meta.qcow2",
    "qcow2/qemu-bitmap.qcow2",
    "qcow2/qemu-zero.qcow2",
    "qcow2/qemu-snap.qcow2",
    "qcow2/chain/q-over.qcow2",
    "qcow2/chain/q-over-extl2.qcow2",
};

static void samples_have_qemus_numbers(void **state)
{
    unsigned seen = 0;

    (void)state;
    if (!has_program("qemu-img"))
        TEST_SKIP("no qemu-img");
    for (size_t i = 0; i < PL_COUNT(samples); i++) {
        char *path = test_image(samples[i]);
        struct pl_check_result ours, theirs;
        struct pl_storage *st;

        if (path && rig_load(path, LIMIT, &st, NULL) == 0) {
            ours = check(st, PL_REPAIR_NONE);
            /* Without its backing file qemu-img opens no overlay. */
            if (ask_qemu(st, &theirs))
                assert_same(&ours, &theirs);
            assert_int_equal(ours.corruptions + ours.leaks + ours.check_errors, 0);
            pl_storage_close(st, NULL);
            seen++;
        }
        free(path);
    }
    if (!seen)
        TEST_SKIP("no sample images");
}

/* ---- damage ---- */

static const struct shape {
    const char *name, *options;
    bool snapshot;
} shapes[] = {
    { "clusters of 512 bytes", "cluster_size=512", false },
    { "counts of 1 bit", "cluster_size=4k,refcount_bits=1", false },
    { "counts of 64 bits", "cluster_size=1k,refcount_bits=64", false },
    { "version 2", "compat=0.10,cluster_size=4k", false },
    { "the defaults", "", false },
    { "extended L2 entries", "cluster_size=16k,extended_l2=on", false },
    { "snapshots", "cluster_size=4k", true },
    { "snapshots and extended L2 entries", "cluster_size=16k,extended_l2=on", true },
};

static void fill_disk(struct rig *rig, uint64_t seed)
{
    static uint8_t bytes[1 << 17];
    uint64_t random = seed, cluster = rig->layer.cluster_size;
    struct pl_err e;

    for (unsigned i = 0; i < 40; i++) {
        uint64_t at = pl_round_down(rig_random(&random) % DISK, cluster);
        uint64_t len = (1 + rig_random(&random) % 3) * cluster;

        len = PL_MIN(PL_MIN(len, sizeof bytes), DISK - at);
        memset(bytes, (int)(i + 1), len);
        for (uint64_t k = 0; k < len; k += 64)
            store_be64(bytes + k, rig_random(&random) & 0xffff);
        if (i % 3 == 0)
            must(rig_write_packed(rig, at, bytes, len, &e), &e);
        else
            must(rig_write(rig, at, bytes, len, &e), &e);
        if (i % 5 == 0)
            must(pl_qcow2.zero(rig->layer.state, at, PL_MIN(len, cluster), false, &e), &e);
    }
}

/* A sound image with all kinds of clusters. */
static struct pl_storage *make_image(const struct shape *shape, uint64_t seed)
{
    struct rig rig = { .driver = &pl_qcow2 };
    struct pl_err e;

    must(pl_memory_storage(NULL, 0, LIMIT, &rig.st, &e), &e);
    must(rig_create(&rig, shape->options, DISK, &e), &e);
    for (unsigned round = 0; round < 2; round++) {
        must(rig_open(&rig, &e), &e);
        fill_disk(&rig, seed + round);
        must(pl_qcow2.flush(rig.layer.state, &e), &e);
        rig_close(&rig);
        if (round == 0 && shape->snapshot)
            must(rig_take_snapshot(&rig.st, "one", LIMIT, &e), &e);
    }
    return rig.st;
}

/* Where the tables of an image are, for damage. */
struct tables {
    uint64_t cluster, l1, l1_size, refcount_table, refcount_entries, file_size;
    uint32_t refcount_bits, l2_entry_size;
};

static uint64_t load_number(struct pl_storage *st, uint64_t at)
{
    uint8_t raw[8];
    struct pl_err e;

    must(pl_storage_read(st, at, raw, sizeof raw, &e), &e);
    return load_be64(raw);
}

static void store_number(struct pl_storage *st, uint64_t at, uint64_t value)
{
    uint8_t raw[8];
    struct pl_err e;

    store_be64(raw, value);
    must(pl_storage_write(st, at, raw, sizeof raw, &e), &e);
}

static struct tables find_tables(struct pl_storage *st)
{
    struct rig rig;
    const struct qcow2 *q;
    struct tables t;

    open_for_check(&rig, st);
    q = rig.layer.state;
    t = (struct tables){
        .cluster = q->cluster_size,
        .l1 = q->header.l1_table_offset,
        .l1_size = q->header.l1_size,
        .refcount_table = q->header.refcount_table_offset,
        .refcount_entries = q->refcount_table_size,
        .file_size = pl_storage_size(st),
        .refcount_bits = q->refcount_bits,
        .l2_entry_size = q->l2_entry_size,
    };
    rig_close(&rig);
    return t;
}

/* The file offset of a random entry of a table that is not 0; 0: there is none. */
static uint64_t some_entry(struct pl_storage *st, uint64_t table, uint64_t count, uint32_t size,
                           uint64_t *random)
{
    uint64_t first = rig_random(random);

    for (uint64_t i = 0; i < count; i++) {
        uint64_t at = table + (first + i) % count * size;

        if (load_number(st, at))
            return at;
    }
    return 0;
}

static uint64_t some_l2_entry(struct pl_storage *st, const struct tables *t, uint64_t *random)
{
    uint64_t at = some_entry(st, t->l1, t->l1_size, 8, random);

    return some_entry(st, load_number(st, at) & QCOW2_OFFSET_MASK, t->cluster / t->l2_entry_size,
                      t->l2_entry_size, random);
}

static void damage_counts(struct pl_storage *st, const struct tables *t, uint64_t *random)
{
    uint64_t at = some_entry(st, t->refcount_table, t->refcount_entries, 8, random);
    uint8_t *block = malloc(t->cluster);
    uint64_t off = load_number(st, at), used = t->file_size / t->cluster;
    struct pl_err e;

    must(pl_storage_read_padded(st, off, block, t->cluster, &e), &e);
    used = PL_MIN(used, t->cluster * 8 / t->refcount_bits);
    for (unsigned i = 0; i < 5; i++)
        qcow2_count_put(block, t->refcount_bits, rig_random(random) % used,
                        rig_random(random) % 4 & (UINT64_MAX >> (64 - t->refcount_bits)));
    must(pl_storage_write(st, off, block, t->cluster, &e), &e);
    free(block);
}

static void damage_block(struct pl_storage *st, const struct tables *t, uint64_t *random)
{
    uint64_t at = some_entry(st, t->refcount_table, t->refcount_entries, 8, random);
    struct pl_err e;

    must(pl_storage_zero(st, load_number(st, at), t->cluster, &e), &e);
}

static uint64_t wrong_pointer(const struct tables *t, uint64_t old, uint64_t *random)
{
    uint64_t clusters = t->file_size / t->cluster;

    switch (rig_random(random) % 6) {
    case 0:
        return (old & ~QCOW2_OFFSET_MASK) | (clusters + 5 + rig_random(random) % 1000) * t->cluster;
    case 1:
        return (old & ~QCOW2_OFFSET_MASK) | (1 + rig_random(random) % clusters) * t->cluster;
    case 2:
        return old ^ UINT64_C(1) << (56 + rig_random(random) % 5);
    case 3:
        return old ^ UINT64_C(1) << (1 + rig_random(random) % 8);
    case 4:
        return t->cluster > 512 ? old ^ 512 : old ^ 2;
    default:
        return rig_random(random);
    }
}

static void damage_refcount_table(struct pl_storage *st, const struct tables *t, uint64_t *random)
{
    uint64_t at = some_entry(st, t->refcount_table, t->refcount_entries, 8, random);

    store_number(st, at, wrong_pointer(t, load_number(st, at), random));
}

static void damage_l2(struct pl_storage *st, const struct tables *t, uint64_t *random)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t at = some_l2_entry(st, t, random);

        if (at)
            store_number(st, at, wrong_pointer(t, load_number(st, at), random));
    }
}

static void damage_l1(struct pl_storage *st, const struct tables *t, uint64_t *random)
{
    uint64_t at = some_entry(st, t->l1, t->l1_size, 8, random);

    store_number(st, at, wrong_pointer(t, load_number(st, at), random));
}

static void damage_flags(struct pl_storage *st, const struct tables *t, uint64_t *random)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t at =
            i ? some_l2_entry(st, t, random) : some_entry(st, t->l1, t->l1_size, 8, random);

        if (at && load_number(st, at) & QCOW2_OFFSET_MASK)
            store_number(st, at, load_number(st, at) ^ QCOW2_COPIED);
    }
}

/* Anything in the first clusters but the header: tables, mostly. */
static void damage_bytes(struct pl_storage *st, const struct tables *t, uint64_t *random)
{
    for (unsigned i = 0; i < 3; i++) {
        uint64_t at = t->cluster + rig_random(random) % (5 * t->cluster);
        uint8_t byte = (uint8_t)rig_random(random);
        struct pl_err e;

        if (at < t->file_size)
            must(pl_storage_write(st, at, &byte, 1, &e), &e);
    }
}

static const struct damage {
    const char *name;
    void (*make)(struct pl_storage *st, const struct tables *t, uint64_t *random);
    bool exact;      /* qemu-img finds the very same numbers */
    bool keeps_data; /* a repair must bring all of the disk back */
} damages[] = {
    { "wrong counts", damage_counts, true, true },
    { "a refcount block of zeros", damage_block, true, true },
    { "a wrong refcount table entry", damage_refcount_table, false, true },
    { "wrong copied flags", damage_flags, true, true },
    { "wrong L2 entries", damage_l2, false, false },
    { "a wrong L1 entry", damage_l1, false, false },
    { "wrong bytes in tables", damage_bytes, false, false },
};

static void read_disk(struct pl_storage *st, uint8_t *disk)
{
    struct rig rig = { .driver = &pl_qcow2, .st = st };
    struct pl_err e;

    must(rig_open(&rig, &e), &e);
    must(rig_read(&rig, 0, disk, DISK, &e), &e);
    rig_close(&rig);
}

/* Damages, compares findings, repairs, and looks again. */
static void damage_and_repair(const struct shape *shape, const struct damage *damage, uint64_t seed)
{
    struct pl_storage *st = make_image(shape, seed);
    struct tables t = find_tables(st);
    struct pl_check_result ours, theirs;
    uint8_t *before = malloc(DISK), *after = malloc(DISK);
    uint64_t random = seed;

    read_disk(st, before);
    damage->make(st, &t, &random);
    ours = check(st, PL_REPAIR_NONE);
    if (ask_qemu(st, &theirs)) {
        if (damage->exact)
            assert_same(&ours, &theirs);
        else
            assert_int_equal(!ours.corruptions, !theirs.corruptions && !theirs.check_errors);
    }
    check(st, PL_REPAIR_ALL);
    ours = check(st, PL_REPAIR_ALL);
    assert_int_equal(ours.corruptions_fixed + ours.leaks_fixed, 0);
    /* Counts of one bit cannot say that a cluster has two users. */
    if (damage->keeps_data || !strstr(shape->options, "refcount_bits=1")) {
        assert_int_equal(ours.corruptions + ours.leaks + ours.check_errors, 0);
        assert_true(ask_qemu(st, &theirs));
        assert_int_equal(theirs.corruptions + theirs.leaks + theirs.check_errors, 0);
    }
    /* What a wrong entry points at now may not unpack: no check knows that. */
    if (damage->keeps_data) {
        read_disk(st, after);
        assert_memory_equal(before, after, DISK);
    }
    free(before);
    free(after);
    pl_storage_close(st, NULL);
}

static void damaged_images_are_mended(void **state)
{
    const struct damage *damage = *state;
    const char *chosen = getenv("CHECK_SEED");
    uint64_t first = chosen ? strtoull(chosen, NULL, 0) : 1;

    if (!has_program("qemu-img"))
        TEST_SKIP("no qemu-img");
    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        for (uint64_t seed = first; seed < first + 4; seed++) {
            print_message("# %s, seed %llu\n", shapes[i].name, (unsigned long long)seed);
            damage_and_repair(&shapes[i], damage, seed);
        }
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(damages) + 1] = {
        cmocka_unit_test(samples_have_qemus_numbers),
    };

    for (size_t i = 0; i < PL_COUNT(damages); i++)
        tests[i + 1] = (struct CMUnitTest){ .name = damages[i].name,
                                            .test_func = damaged_images_are_mended,
                                            .initial_state = (void *)&damages[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
