/* A crash at any instant of random work on qcow2 images.
 *
 * A run makes a few hundred changes of the file.  Then the file is taken as it could be after a
 * crash at each of them: what was not yet synced is there, is missing, is torn between sectors, or
 * came in another order.  Each such file must open, its tables must be sound (space may be lost),
 * and every sector must hold what the last flush promised or something newer.  From some of them
 * the work goes on.
 *
 * CRASH_SEED and CRASH_STEPS in the environment choose another run. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/support/history.h"
#include "tests/support/qcow2_rig.h"

#define KIB UINT64_C(1024)
#define FILE_LIMIT (64 << 20)
#define RUNS 2 /* of each shape, with other seeds */
#define CUTS 6 /* files for each instant: nothing lost, all lost, four random ones */
#define PARENT_VALUE 7
#define SIZE_CELL(r) ((r)->sectors) /* the history's cell for the size of the disk, in sectors */

static const struct shape {
    const char *name;
    const char *options;
    uint64_t size;
    unsigned steps;
    bool parent, packed, resize, bitmaps, snapshot, data_file;
    uint32_t cache_bytes;
    unsigned dense; /* a write has up to that many granules; 0: few */
} shapes[] = {
    { "clusters of 512 bytes", "cluster_size=512", 96 * KIB, 150, .packed = true },
    { "clusters of 512 bytes, counts of 1 bit, a cache of 16 slices",
      "cluster_size=512,refcount_bits=1", 96 * KIB, 150, .packed = true, .cache_bytes = 1 },
    { "the refcount table grows", "cluster_size=512,refcount_bits=64", 5120 * KIB, 24,
      .cache_bytes = 1, .dense = 1500 },
    { "version 2", "compat=0.10,cluster_size=1k", 192 * KIB, 150, .packed = true },
    { "version 2 over a parent", "compat=0.10,cluster_size=1k", 192 * KIB, 150, .parent = true,
      .packed = true },
    { "over a parent, counts of 4 bits", "cluster_size=1k,refcount_bits=4", 192 * KIB, 150,
      .parent = true, .packed = true, .cache_bytes = 1 },
    { "clusters of 64 KiB", "", 1024 * KIB, 80, .packed = true },
    { "extended L2 entries", "cluster_size=16k,extended_l2=on", 512 * KIB, 120, .packed = true },
    { "extended L2 entries over a parent", "cluster_size=16k,extended_l2=on", 512 * KIB, 120,
      .parent = true, .packed = true },
    { "growing and shrinking", "cluster_size=512", 192 * KIB, 150, .packed = true, .resize = true },
    { "growing and shrinking with extended L2 entries", "cluster_size=16k,extended_l2=on",
      512 * KIB, 120, .packed = true, .resize = true },
    { "bitmaps", "cluster_size=1k", 192 * KIB, 120, .packed = true, .bitmaps = true },
    { "growing and shrinking over a longer parent", "cluster_size=1k", 192 * KIB, 150,
      .parent = true, .packed = true, .resize = true },
    { "growing and shrinking with bitmaps", "cluster_size=1k", 192 * KIB, 120, .packed = true,
      .bitmaps = true, .resize = true },
    { "tables and clusters shared with a snapshot", "cluster_size=1k", 256 * KIB, 120,
      .packed = true, .snapshot = true },
    { "extended L2 entries, shared with a snapshot", "cluster_size=16k,extended_l2=on", 512 * KIB,
      120, .packed = true, .snapshot = true },
    { "an external data file", "cluster_size=1k,data_file=data", 192 * KIB, 150,
      .data_file = true },
    { "an external data file over a parent, extended L2 entries",
      "cluster_size=16k,extended_l2=on,data_file=data", 512 * KIB, 120, .parent = true,
      .data_file = true },
    { "growing and shrinking a raw external data file",
      "cluster_size=1k,data_file=data,data_file_raw=on", 192 * KIB, 150, .resize = true,
      .data_file = true },
};

struct run {
    const struct shape *shape;
    struct rig rig;
    struct history *history;
    uint8_t *parent, *buf;
    uint64_t sectors; /* the largest disk */
    uint64_t random, next_value;
    bool may_fail;        /* failures were asked for ... */
    uint64_t error_count; /* ... and so many operations failed, the first of them ... */
    uint64_t error_mark;  /* ... after that was set */
    bool broken;          /* the core would refuse to flush */
};

static uint64_t below(struct run *r, uint64_t n)
{
    return n ? rig_random(&r->random) % n : 0;
}

static void must(int result, const struct pl_err *e)
{
    if (result < 0)
        fail_msg("%s", e->msg);
}

/* The result of an operation on the image: it must succeed, unless failures were asked for. */
static bool done(struct run *r, int result, const struct pl_err *e)
{
    if (result >= 0)
        return true;
    if (!r->may_fail)
        fail_msg("%s", e->msg);
    r->error_count++;
    return false;
}

static uint64_t now(struct run *r)
{
    return pl_flaky_operation_count(r->rig.st);
}

/* ---- steps ---- */

static void choose(struct run *r, uint64_t unit, uint64_t *at, uint64_t *len)
{
    uint64_t units = 1 + below(r, r->shape->dense && below(r, 2) ? r->shape->dense : 6);

    *at = pl_round_down(below(r, r->rig.layer.size), unit);
    *len = PL_MIN(units * unit, r->rig.layer.size - *at);
}

static void fill(struct run *r, uint64_t at, uint64_t len, uint64_t value)
{
    for (uint64_t i = 0; i < len; i += HISTORY_SECTOR)
        history_fill(r->buf + i, (at + i) / HISTORY_SECTOR, value);
    history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, value, now(r));
}

static void do_write(struct run *r)
{
    uint64_t unit = below(r, 2) ? HISTORY_SECTOR : r->rig.layer.cluster_size, at, len;
    struct pl_err e;

    choose(r, unit, &at, &len);
    fill(r, at, len, ++r->next_value);
    done(r, rig_write(&r->rig, at, r->buf, len, &e), &e);
}

static void do_write_packed(struct run *r)
{
    struct pl_err e;
    uint64_t at, len;

    choose(r, r->rig.layer.cluster_size, &at, &len);
    fill(r, at, len, ++r->next_value);
    done(r, rig_write_packed(&r->rig, at, r->buf, len, &e), &e);
}

static void choose_granules(struct run *r, uint64_t *at, uint64_t *len)
{
    uint64_t granule = r->rig.layer.granule, end;

    choose(r, granule, at, len);
    end = PL_MIN(pl_round_up(*at + *len, granule), r->rig.layer.size);
    *at = pl_round_down(*at, granule);
    *len = end - *at;
}

/* Notes that sectors which read as zeros now became that at time `op`. */
static void note_zeros(struct run *r, uint64_t at, uint64_t len, uint64_t op)
{
    struct pl_err e;

    if (!done(r, rig_read(&r->rig, at, r->buf, len, &e), &e))
        return;
    for (uint64_t i = 0; i < len; i += HISTORY_SECTOR) {
        uint64_t sector = (at + i) / HISTORY_SECTOR;

        if (history_holds(r->buf + i, sector, 0) && history_now(r->history, sector))
            history_set(r->history, sector, 1, 0, op);
    }
}

static void do_zero(struct run *r)
{
    bool discard = below(r, 2), unmap = below(r, 2);
    uint64_t at, len, op = now(r);
    struct pl_err e;
    int result;

    choose_granules(r, &at, &len);
    if (discard)
        result = pl_qcow2.discard(r->rig.layer.state, at, len, &e);
    else
        result = pl_qcow2.zero(r->rig.layer.state, at, len, unmap, &e);
    if (!done(r, result, &e)) {
        history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, 0, op);
        return;
    }
    note_zeros(r, at, len, op);
}

static void do_flush(struct run *r)
{
    struct pl_err e;

    if (!r->broken && done(r, pl_qcow2.flush(r->rig.layer.state, &e), &e))
        history_flushed(r->history, r->error_count ? r->error_mark : history_mark(r->history),
                        now(r));
}

/* As the core does: what a longer parent has must not show in new space. */
static bool hide_parent(struct run *r, uint64_t old)
{
    const uint64_t end = PL_MIN(r->rig.parent_len, r->rig.layer.size);
    struct pl_err e;

    if (end > old) {
        memset(r->buf, 0, end - old);
        r->broken = !done(r, rig_write(&r->rig, old, r->buf, end - old, &e), &e);
        if (r->broken)
            return false;
    }
    return done(r, pl_qcow2.flush(r->rig.layer.state, &e), &e);
}

static void do_resize(struct run *r)
{
    uint64_t old = r->rig.layer.size, size, op = now(r), from;
    struct pl_err e;

    size = pl_round_up(r->shape->size / 4 + below(r, r->shape->size * 3 / 4), HISTORY_SECTOR);
    from = PL_MIN(old, size) / HISTORY_SECTOR;
    history_set(r->history, SIZE_CELL(r), 1, size / HISTORY_SECTOR, op);
    history_set(r->history, from, r->sectors - from, 0, op);
    if (!done(r,
              pl_qcow2.resize(r->rig.layer.state, size, true,
                              below(r, 4) ? PL_PREALLOC_OFF : PL_PREALLOC_METADATA, &e),
              &e))
        return;
    r->rig.layer.size = size;
    if (r->rig.parent && !hide_parent(r, old))
        return;
    history_flushed(r->history, history_mark(r->history), now(r)); /* resize flushes */
}

static void do_bitmap(struct run *r)
{
    struct pl_bitmap bitmap = { .granularity = 512, .enabled = below(r, 2) };
    uint64_t len = pl_div_up(r->rig.layer.size / 512, 8);
    struct pl_err e;

    snprintf(bitmap.name, sizeof bitmap.name, "bitmap%u", (unsigned)below(r, 3));
    for (uint64_t i = 0; i < len; i++)
        r->buf[i] = (uint8_t)(below(r, 3) ? 0 : below(r, 256));
    done(r, pl_qcow2.bitmap_store(r->rig.layer.state, &bitmap, r->buf, len, &e), &e);
}

static void step(struct run *r)
{
    uint64_t n = below(r, 100);

    if (!r->error_count)
        r->error_mark = history_mark(r->history);
    if (n < 6 && r->shape->resize)
        do_resize(r);
    else if (n < 8 && r->shape->bitmaps)
        do_bitmap(r);
    else if (n < 45)
        do_write(r);
    else if (n < 65)
        r->shape->packed ? do_write_packed(r) : do_write(r);
    else if (n < 85)
        do_zero(r);
    else
        do_flush(r);
}

/* ---- looking at what a crash left ---- */

static void check_tables(struct rig *rig, uint64_t op, uint64_t seed, bool leaks)
{
    struct pl_check_result result;
    struct pl_err e;

    must(rig_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    if (result.corruptions || result.check_errors || (leaks && result.leaks))
        fail_msg("crash after operation %llu (seed %llu): %llu corruptions, %llu leaks",
                 (unsigned long long)op, (unsigned long long)seed,
                 (unsigned long long)result.corruptions, (unsigned long long)result.leaks);
}

static void check_sectors(struct run *r, struct rig *rig, uint64_t op, uint64_t seed)
{
    uint64_t size = rig->layer.size;
    struct pl_err e;

    if (!history_allows_value(r->history, SIZE_CELL(r), size / HISTORY_SECTOR, op))
        fail_msg("crash after operation %llu (seed %llu): a disk of %llu bytes",
                 (unsigned long long)op, (unsigned long long)seed, (unsigned long long)size);
    must(rig_read(rig, 0, r->buf, size, &e), &e);
    for (uint64_t i = 0; i < size / HISTORY_SECTOR; i++) {
        const uint8_t *bytes = r->buf + i * HISTORY_SECTOR;
        uint64_t value;

        if (history_allows(r->history, i, bytes, op))
            continue;
        memcpy(&value, bytes, sizeof value);
        fail_msg(
            "crash after operation %llu (seed %llu): sector %llu holds what is like value %llx",
            (unsigned long long)op, (unsigned long long)seed, (unsigned long long)i,
            (unsigned long long)value);
    }
}

/* The image is still good to work with: write to it, free what leaked. */
static void go_on(struct rig *rig, uint64_t op, uint64_t seed)
{
    uint8_t bytes[1024];
    struct pl_check_result result;
    struct pl_err e;
    uint64_t random = op ^ seed;

    memset(bytes, 0x5a, sizeof bytes);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t at = pl_round_down(rig_random(&random) % (rig->layer.size - sizeof bytes), 512);

        must(rig_write(rig, at, bytes, sizeof bytes, &e), &e);
    }
    must(pl_qcow2.flush(rig->layer.state, &e), &e);
    check_tables(rig, op, seed, false);
    must(rig_check(rig, PL_REPAIR_LEAKS, &result, &e), &e);
    check_tables(rig, op, seed, true);
}

/* What a crash after operation `op` left of a storage, in memory. */
static struct pl_storage *left_of(struct pl_storage *flaky, uint64_t op, uint64_t seed)
{
    struct pl_storage *left;
    uint8_t *bytes;
    struct pl_err e;
    size_t len;

    pl_flaky_cut(flaky, op, seed, &bytes, &len);
    must(pl_memory_storage(bytes, len, FILE_LIMIT, &left, &e), &e);
    free(bytes);
    return left;
}

/* Of an external data file everything or nothing may be left, whatever is left of the image. */
static uint64_t data_seed(uint64_t seed)
{
    return seed % 5 == 3 ? seed / 5 % 2 : seed;
}

/* Opens what a crash left and looks at it. */
static void look_at(struct run *r, uint64_t op, uint64_t seed)
{
    struct rig rig = { .parent = r->rig.parent, .parent_len = r->rig.parent_len };
    struct pl_err e;

    rig.st = left_of(r->rig.st, op, seed);
    if (r->rig.data)
        rig.data = left_of(r->rig.data, op, data_seed(seed));
    if (rig_open(&rig, &e) < 0)
        fail_msg("crash after operation %llu (seed %llu): %s", (unsigned long long)op,
                 (unsigned long long)seed, e.msg);
    check_tables(&rig, op, seed, false);
    check_sectors(r, &rig, op, seed);
    if (op % 5 == 0)
        go_on(&rig, op, seed);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
    if (rig.data)
        pl_storage_close(rig.data, NULL);
}

/* ---- runs ---- */

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

/* A disk that is to grow begins small. */
static uint64_t first_size(const struct shape *shape)
{
    return shape->resize ? shape->size / 4 : shape->size;
}

/* Puts a flaky storage with the same bytes in place of *st. */
static void make_flaky(struct pl_storage **st)
{
    const size_t len = pl_storage_size(*st);
    uint8_t *bytes = malloc(len + 1);
    struct pl_err e;

    must(pl_storage_read(*st, 0, bytes, len, &e), &e);
    pl_storage_close(*st, NULL);
    must(pl_flaky_storage(bytes, len, FILE_LIMIT, st, &e), &e);
    free(bytes);
}

/* An image with some content, in memory. */
static void make_image(struct run *r)
{
    struct pl_err e;

    must(pl_memory_storage(NULL, 0, FILE_LIMIT, &r->rig.st, &e), &e);
    if (r->shape->data_file)
        must(pl_memory_storage(NULL, 0, FILE_LIMIT, &r->rig.data, &e), &e);
    must(rig_create(&r->rig, r->shape->options, first_size(r->shape), &e), &e);
    if (r->shape->snapshot) {
        must(rig_open(&r->rig, &e), &e);
        for (uint64_t i = 0; i < r->sectors / 2; i++)
            history_fill(r->buf + i * HISTORY_SECTOR, i, 3);
        must(rig_write(&r->rig, 0, r->buf, r->sectors / 4 * HISTORY_SECTOR, &e), &e);
        must(rig_write_packed(&r->rig, r->sectors / 4 * HISTORY_SECTOR,
                              r->buf + r->sectors / 4 * HISTORY_SECTOR,
                              r->sectors / 4 * HISTORY_SECTOR, &e),
             &e);
        history_set(r->history, 0, r->sectors / 2, 3, 0);
        must(pl_qcow2.flush(r->rig.layer.state, &e), &e);
        rig_close(&r->rig);
        must(rig_take_snapshot(&r->rig.st, "one", FILE_LIMIT, &e), &e);
    }
}

static void begin(struct run *r)
{
    struct pl_err e;

    r->sectors = r->shape->size / HISTORY_SECTOR;
    r->history = history_new(r->sectors + 1);
    r->next_value = 100;
    r->buf = calloc(1, r->shape->size + (1 << 16));
    if (r->shape->parent) {
        r->rig.parent_len = r->shape->size / 2;
        r->rig.parent = r->parent = malloc(r->rig.parent_len);
        for (uint64_t i = 0; i < r->sectors / 2; i++)
            history_fill(r->parent + i * HISTORY_SECTOR, i, PARENT_VALUE);
        history_set(r->history, 0, PL_MIN(r->rig.parent_len, first_size(r->shape)) / HISTORY_SECTOR,
                    PARENT_VALUE, 0);
    }
    make_image(r);
    history_set(r->history, SIZE_CELL(r), 1, first_size(r->shape) / HISTORY_SECTOR, 0);
    history_flushed(r->history, history_mark(r->history), 0);
    make_flaky(&r->rig.st);
    if (r->rig.data) {
        make_flaky(&r->rig.data);
        pl_flaky_pair(r->rig.st, r->rig.data);
    }
    r->rig.cache_bytes = r->shape->cache_bytes;
    must(rig_open(&r->rig, &e), &e);
}

static void end(struct run *r)
{
    pl_storage_close(r->rig.st, NULL);
    if (r->rig.data)
        pl_storage_close(r->rig.data, NULL);
    history_free(r->history);
    free(r->parent);
    free(r->buf);
}

static void crash_everywhere(struct run *r)
{
    uint64_t count = now(r), files = 0;

    for (uint64_t op = 0; op <= count; op++)
        for (uint64_t i = 0; i < CUTS; i++) {
            uint64_t seed = i < 2 ? i : 2 + op * CUTS + i;

            /* All of a short run; of a long one every instant with one file, each kind in turn. */
            if (r->shape->dense && i != op % CUTS)
                continue;
            look_at(r, op, seed);
            files++;
        }
    print_message("# %llu changes, %llu files\n", (unsigned long long)count,
                  (unsigned long long)files);
}

static void crash_shape(void **state)
{
    const struct shape *shape = *state;
    uint64_t seed = number_from("CRASH_SEED", 1);

    if (shape->snapshot && !rig_has_program("qemu-img"))
        TEST_SKIP("no qemu-img to take a snapshot with");
    for (unsigned i = 0; i < RUNS; i++) {
        struct run r = { .shape = shape, .random = seed + i };
        uint64_t steps = number_from("CRASH_STEPS", shape->steps);

        print_message("# CRASH_SEED=%llu\n", (unsigned long long)(seed + i));
        begin(&r);
        for (uint64_t n = 0; n < steps; n++)
            step(&r);
        rig_close(&r.rig);
        crash_everywhere(&r);
        end(&r);
    }
}

/* ---- failures ---- */

/* One run in which change number `at` fails; true: it came to that. */
static bool fail_once(const struct shape *shape, uint64_t seed, uint64_t at, bool for_ever)
{
    struct run r = { .shape = shape, .random = seed, .may_fail = true };

    begin(&r);
    pl_flaky_fail_at(r.rig.st, at, at % 2 ? EIO : ENOSPC, for_ever);
    if (r.rig.data)
        pl_flaky_fail_at(r.rig.data, at, at % 2 ? EIO : ENOSPC, for_ever);
    for (unsigned n = 0; n < 40 && !r.error_count; n++)
        step(&r);
    do_flush(&r);
    rig_close(&r.rig);
    for (uint64_t i = 0; i < 3; i++)
        look_at(&r, now(&r), i < 2 ? i : at + 2);
    end(&r);
    return r.error_count;
}

/* Raises the number of the change that fails until a run has no such change. */
static void fail_shape(void **state)
{
    const struct shape *shape = *state;
    uint64_t seed = number_from("CRASH_SEED", 1), at = 0;

    if (shape->snapshot && !rig_has_program("qemu-img"))
        TEST_SKIP("no qemu-img to take a snapshot with");
    while (fail_once(shape, seed, at, at % 3 == 0))
        at += shape->snapshot ? 5 : 1;
    print_message("# %llu failures\n", (unsigned long long)at);
}

int main(void)
{
    struct CMUnitTest tests[2 * PL_COUNT(shapes)];
    static char names[PL_COUNT(shapes)][100];
    size_t count = 0;

    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        tests[count++] = (struct CMUnitTest){ .name = shapes[i].name,
                                              .test_func = crash_shape,
                                              .initial_state = (void *)&shapes[i] };
    for (size_t i = 0; i < PL_COUNT(shapes); i++) {
        if (shapes[i].dense)
            continue;
        snprintf(names[i], sizeof names[i], "failing changes: %s", shapes[i].name);
        tests[count++] = (struct CMUnitTest){ .name = names[i],
                                              .test_func = fail_shape,
                                              .initial_state = (void *)&shapes[i] };
    }
    return _cmocka_run_group_tests("crash_qcow2", tests, count, NULL, NULL);
}
