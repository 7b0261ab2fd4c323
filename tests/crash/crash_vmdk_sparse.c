/* A crash at any instant of random work on sparse VMDK extents.
 *
 * As in crash_qcow2.c: after each change of the file, the file is taken as a crash could have left
 * it.  It must open, its tables must be sound (room may be lost, the copies of the tables may
 * differ), and every sector must hold what the last flush promised or something newer.  From some
 * of them the work goes on.
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

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "tests/support/flaky.h"
#include "tests/support/history.h"
#include "tests/support/qcow2_rig.h"
#include "tests/support/vmdk_rig.h"

#define KIB UINT64_C(1024)
#define FILE_LIMIT (64 << 20)
#define RUNS 2 /* of each shape, with other seeds */
#define CUTS 6 /* files for each instant: nothing lost, all lost, four random ones */
#define PARENT_VALUE 7
#define SIZE_CELL(r) ((r)->sectors) /* the history's cell for the size of the disk, in sectors */

static const struct shape {
    const char *name;
    struct vmdk_sparse_new what;
    unsigned steps;
    bool parent, resize;
    uint32_t cache_bytes;
} shapes[] = {
    { "hosted", { .size = 192 * KIB, .grain_size = 4096 }, .steps = 120 },
    { "hosted, a cache of 16 sectors",
      { .size = 6144 * KIB, .grain_size = 4096, .descriptor = "# Disk" },
      60,
      .cache_bytes = 1 },
    { "hosted over a parent",
      { .size = 190 * KIB + 512, .grain_size = 4096 },
      120,
      .parent = true },
    { "hosted with zeroed grains over a parent",
      { .size = 192 * KIB, .grain_size = 4096, .zeroed_grain = true },
      120,
      .parent = true },
    { "hosted, growing", { .size = 5120 * KIB, .grain_size = 8192 }, 60, .resize = true },
    { "COWD", { .size = 96 * KIB, .grain_size = 512, .cowd = true }, .steps = 120 },
    { "COWD over a parent",
      { .size = 255 * KIB, .grain_size = 4096, .cowd = true },
      120,
      .parent = true },
    { "COWD, growing",
      { .size = 5120 * KIB, .grain_size = 512, .cowd = true },
      60,
      .resize = true },
};

struct run {
    const struct shape *shape;
    struct extent_rig rig;
    struct history *history;
    uint8_t *parent, *buf;
    uint64_t sectors; /* the largest disk */
    uint64_t random, next_value;
    bool may_fail;        /* failures were asked for ... */
    uint64_t error_count; /* ... and so many operations failed, the first of them ... */
    uint64_t error_mark;  /* ... after that was set */
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
    uint64_t units = 1 + below(r, 8);

    *at = pl_round_down(below(r, r->rig.x.size), unit);
    *len = PL_MIN(units * unit, r->rig.x.size - *at);
}

static void do_write(struct run *r)
{
    uint64_t unit = below(r, 2) ? HISTORY_SECTOR : r->rig.x.granule, at, len;
    struct pl_err e;

    choose(r, unit, &at, &len);
    r->next_value++;
    for (uint64_t i = 0; i < len; i += HISTORY_SECTOR)
        history_fill(r->buf + i, (at + i) / HISTORY_SECTOR, r->next_value);
    history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, r->next_value, now(r));
    done(r, extent_write(&r->rig, at, r->buf, len, &e), &e);
}

static void choose_granules(struct run *r, uint64_t *at, uint64_t *len)
{
    uint64_t granule = r->rig.x.granule, end;

    choose(r, granule, at, len);
    end = PL_MIN(pl_round_up(*at + *len, granule), r->rig.x.size);
    *at = pl_round_down(*at, granule);
    *len = end - *at;
}

/* Notes that sectors which read as zeros now became that at time `op`. */
static void note_zeros(struct run *r, uint64_t at, uint64_t len, uint64_t op)
{
    struct pl_err e;

    if (!done(r, extent_read(&r->rig, at, r->buf, len, &e), &e))
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
        result = r->rig.x.ops->discard(r->rig.x.state, at, len, &e);
    else
        result = extent_zero(&r->rig, at, len, unmap, &e);
    if (!done(r, result, &e)) {
        history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, 0, op);
        return;
    }
    note_zeros(r, at, len, op);
}

static void do_flush(struct run *r)
{
    struct pl_err e;

    if (done(r, r->rig.x.ops->flush(r->rig.x.state, &e), &e))
        history_flushed(r->history, r->error_count ? r->error_mark : history_mark(r->history),
                        now(r));
}

static void do_resize(struct run *r)
{
    uint64_t old = r->rig.x.size, op = now(r), from = old / HISTORY_SECTOR;
    uint64_t size = old + pl_round_down(below(r, (r->shape->what.size - old) / 2), HISTORY_SECTOR);
    struct pl_err e;

    history_set(r->history, SIZE_CELL(r), 1, size / HISTORY_SECTOR, op);
    history_set(r->history, from, r->sectors - from, 0, op);
    if (!done(r,
              r->rig.x.ops->resize(r->rig.x.state, size,
                                   below(r, 4) ? PL_PREALLOC_OFF : PL_PREALLOC_FULL, &e),
              &e))
        return;
    if (size > old)
        history_flushed(r->history, history_mark(r->history), now(r)); /* resize flushes */
    r->rig.x.size = size;
}

static void do_compact(struct run *r)
{
    struct pl_check_result result;
    struct pl_err e;
    uint64_t freed;

    if (below(r, 3))
        done(r, r->rig.x.ops->compact(r->rig.x.state, NULL, &freed, &e), &e);
    else
        done(r, extent_check(&r->rig, PL_REPAIR_ALL, &result, &e), &e);
}

static void step(struct run *r)
{
    uint64_t n = below(r, 100);

    if (!r->error_count)
        r->error_mark = history_mark(r->history);
    if (n < 6 && r->shape->resize)
        do_resize(r);
    else if (n < 60)
        do_write(r);
    else if (n < 80)
        do_zero(r);
    else if (n < 85)
        do_compact(r);
    else
        do_flush(r);
}

/* ---- looking at what a crash left ---- */

static void check_tables(struct extent_rig *rig, uint64_t op, uint64_t seed, bool leaks)
{
    struct pl_check_result result;
    struct pl_err e;

    must(extent_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    if (result.corruptions || result.check_errors || (leaks && result.leaks))
        fail_msg("crash after operation %llu (seed %llu): %llu corruptions, %llu leaks",
                 (unsigned long long)op, (unsigned long long)seed,
                 (unsigned long long)result.corruptions, (unsigned long long)result.leaks);
}

static void check_sectors(struct run *r, struct extent_rig *rig, uint64_t op, uint64_t seed)
{
    uint64_t size = rig->x.size;
    struct pl_err e;

    if (!history_allows_value(r->history, SIZE_CELL(r), size / HISTORY_SECTOR, op))
        fail_msg("crash after operation %llu (seed %llu): a disk of %llu bytes",
                 (unsigned long long)op, (unsigned long long)seed, (unsigned long long)size);
    must(extent_read(rig, 0, r->buf, size, &e), &e);
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

/* The image is still good to work with: take back what leaked, find all there, write to it. */
static void go_on(struct run *r, struct extent_rig *rig, uint64_t op, uint64_t seed)
{
    uint8_t bytes[1024];
    struct pl_check_result result;
    struct pl_err e;
    uint64_t random = op ^ seed;

    must(extent_check(rig, PL_REPAIR_LEAKS, &result, &e), &e);
    check_tables(rig, op, seed, true);
    check_sectors(r, rig, op, seed);
    memset(bytes, 0x5a, sizeof bytes);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t at = pl_round_down(rig_random(&random) % (rig->x.size - sizeof bytes), 512);

        must(extent_write(rig, at, bytes, sizeof bytes, &e), &e);
    }
    must(rig->x.ops->flush(rig->x.state, &e), &e);
    check_tables(rig, op, seed, true);
}

/* Opens the bytes that a crash left and looks at them. */
static void look_at(struct run *r, uint8_t *bytes, size_t len, uint64_t op, uint64_t seed)
{
    struct extent_rig rig = { .parent = r->rig.parent, .parent_len = r->rig.parent_len };
    struct pl_err e;

    must(pl_memory_storage(bytes, len, FILE_LIMIT, &rig.st, &e), &e);
    if (extent_open(&rig, &e) < 0)
        fail_msg("crash after operation %llu (seed %llu): %s", (unsigned long long)op,
                 (unsigned long long)seed, e.msg);
    check_tables(&rig, op, seed, false);
    check_sectors(r, &rig, op, seed);
    if (op % 5 == 0)
        go_on(r, &rig, op, seed);
    extent_close(&rig);
    pl_storage_close(rig.st, NULL);
}

/* ---- runs ---- */

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void begin(struct run *r)
{
    struct vmdk_sparse_new what = r->shape->what;
    struct pl_storage *image;
    uint8_t *bytes;
    struct pl_err e;
    size_t len;

    r->sectors = what.size / HISTORY_SECTOR;
    r->history = history_new(r->sectors + 1);
    r->next_value = 100;
    r->buf = calloc(1, what.size + (1 << 16));
    if (r->shape->parent) {
        r->rig.parent_len = pl_round_down(what.size / 2, 512);
        r->rig.parent = r->parent = malloc(r->rig.parent_len);
        for (uint64_t i = 0; i < r->rig.parent_len / HISTORY_SECTOR; i++)
            history_fill(r->parent + i * HISTORY_SECTOR, i, PARENT_VALUE);
        history_set(r->history, 0, r->rig.parent_len / HISTORY_SECTOR, PARENT_VALUE, 0);
    }
    if (r->shape->resize)
        what.size /= 4; /* a disk that is to grow begins small */
    must(pl_memory_storage(NULL, 0, FILE_LIMIT, &image, &e), &e);
    must(vmdk_sparse_create(image, &what, &e), &e);
    history_set(r->history, SIZE_CELL(r), 1, what.size / HISTORY_SECTOR, 0);
    history_flushed(r->history, history_mark(r->history), 0);
    len = pl_storage_size(image);
    bytes = malloc(len);
    must(pl_storage_read(image, 0, bytes, len, &e), &e);
    pl_storage_close(image, NULL);
    must(pl_flaky_storage(bytes, len, FILE_LIMIT, &r->rig.st, &e), &e);
    free(bytes);
    r->rig.cache_bytes = r->shape->cache_bytes;
    must(extent_open(&r->rig, &e), &e);
}

static void end(struct run *r)
{
    pl_storage_close(r->rig.st, NULL);
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
            uint8_t *bytes;
            size_t len;

            /* All of a small disk; of a large one every instant with one file, in turn. */
            if (r->shape->what.size > 512 * KIB && i != op % CUTS)
                continue;
            pl_flaky_cut(r->rig.st, op, seed, &bytes, &len);
            look_at(r, bytes, len, op, seed);
            free(bytes);
            files++;
        }
    print_message("# %llu changes, %llu files\n", (unsigned long long)count,
                  (unsigned long long)files);
}

static void crash_shape(void **state)
{
    const struct shape *shape = *state;
    uint64_t seed = number_from("CRASH_SEED", 1);

    for (unsigned i = 0; i < RUNS; i++) {
        struct run r = { .shape = shape, .random = seed + i };
        uint64_t steps = number_from("CRASH_STEPS", shape->steps);

        print_message("# CRASH_SEED=%llu\n", (unsigned long long)(seed + i));
        begin(&r);
        for (uint64_t n = 0; n < steps; n++)
            step(&r);
        extent_close(&r.rig);
        crash_everywhere(&r);
        end(&r);
    }
}

/* ---- failures ---- */

/* One run in which change number `at` fails; true: it came to that. */
static bool fail_once(const struct shape *shape, uint64_t seed, uint64_t at, bool for_ever)
{
    struct run r = { .shape = shape, .random = seed, .may_fail = true };
    uint8_t *bytes;
    size_t len;

    begin(&r);
    pl_flaky_fail_at(r.rig.st, at, at % 2 ? EIO : ENOSPC, for_ever);
    for (unsigned n = 0; n < 40 && !r.error_count; n++)
        step(&r);
    do_flush(&r);
    extent_close(&r.rig);
    for (uint64_t i = 0; i < 3; i++) {
        pl_flaky_cut(r.rig.st, now(&r), i < 2 ? i : at + 2, &bytes, &len);
        look_at(&r, bytes, len, now(&r), i);
        free(bytes);
    }
    end(&r);
    return r.error_count;
}

/* Raises the number of the change that fails until a run has no such change. */
static void fail_shape(void **state)
{
    const struct shape *shape = *state;
    uint64_t seed = number_from("CRASH_SEED", 1), at = 0;

    while (fail_once(shape, seed, at, at % 3 == 0))
        at++;
    print_message("# %llu failures\n", (unsigned long long)at);
}

int main(void)
{
    struct CMUnitTest tests[2 * PL_COUNT(shapes)];
    static char names[PL_COUNT(shapes)][100];
    size_t count = 0;

    for (size_t i = 0; i < PL_COUNT(shapes); i++) {
        tests[count++] = (struct CMUnitTest){ .name = shapes[i].name,
                                              .test_func = crash_shape,
                                              .initial_state = (void *)&shapes[i] };
        snprintf(names[i], sizeof names[i], "failing changes: %s", shapes[i].name);
        tests[count++] = (struct CMUnitTest){ .name = names[i],
                                              .test_func = fail_shape,
                                              .initial_state = (void *)&shapes[i] };
    }
    return _cmocka_run_group_tests("crash_vmdk_sparse", tests, count, NULL, NULL);
}
