/* A crash at any instant of random work on VDI images; see crash_qcow2.c, which does the same.
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

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "tests/support/drive.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/support/history.h"
#include "tests/support/qcow2_rig.h"

extern const struct pl_driver pl_vdi;

#define KIB UINT64_C(1024)
#define FILE_LIMIT (64 << 20)
#define RUNS 2
#define CUTS 6
#define PARENT_VALUE 7
#define SIZE_CELL(r) ((r)->sectors) /* the history's cell for the size of the disk, in sectors */
#define MODIFICATION_AT 408         /* uuidModify in the header */

static const struct shape {
    const char *name;
    const char *options;
    uint64_t size;
    unsigned steps;
    bool parent, resize;
    uint32_t cache_bytes;
} shapes[] = {
    { "blocks of 512 bytes, a cache of 4 slices", "block_size=512", 384 * KIB, 150,
      .cache_bytes = 1 },
    { "blocks of 4 KiB", "block_size=4k", 256 * KIB, 150, .parent = false },
    { "blocks of 4 KiB over a parent", "block_size=4k", 256 * KIB, 150, .parent = true },
    { "static", "block_size=4k,static=on", 192 * KIB, 120, .parent = false },
    { "growing and shrinking blocks of 512 bytes", "block_size=512", 192 * KIB, 100,
      .resize = true, .cache_bytes = 1 },
    { "growing and shrinking over a parent", "block_size=2k", 256 * KIB, 120, .resize = true,
      .parent = true },
    { "growing and shrinking a static image", "block_size=1k,static=on", 128 * KIB, 80,
      .resize = true },
};

struct run {
    const struct shape *shape;
    struct drive drive;
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
    return pl_flaky_operation_count(r->drive.st);
}

/* ---- steps ---- */

static void choose(struct run *r, uint64_t unit, uint64_t *at, uint64_t *len)
{
    const uint64_t units = 1 + below(r, 8);

    *at = pl_round_down(below(r, r->drive.layer.size), unit);
    *len = PL_MIN(units * unit, r->drive.layer.size - *at);
}

static void do_write(struct run *r)
{
    uint64_t unit = below(r, 2) ? HISTORY_SECTOR : r->drive.layer.cluster_size, at, len;
    struct pl_err e;

    choose(r, unit, &at, &len);
    r->next_value++;
    for (uint64_t i = 0; i < len; i += HISTORY_SECTOR)
        history_fill(r->buf + i, (at + i) / HISTORY_SECTOR, r->next_value);
    history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, r->next_value, now(r));
    done(r, drive_write(&r->drive, at, r->buf, len, &e), &e);
}

static void do_zero(struct run *r)
{
    const uint64_t granule = r->drive.layer.granule, op = now(r);
    uint64_t at, len, end;
    struct pl_err e;

    choose(r, below(r, 2) ? granule : r->drive.layer.cluster_size, &at, &len);
    end = PL_MIN(pl_round_up(at + len, granule), r->drive.layer.size);
    at = pl_round_down(at, granule);
    len = end - at;
    history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, 0, op);
    done(r, drive_zero(&r->drive, at, len, below(r, 3), &e), &e);
}

static void flushed(struct run *r)
{
    history_flushed(r->history, r->error_count ? r->error_mark : history_mark(r->history), now(r));
}

static void do_flush(struct run *r)
{
    struct pl_err e;

    if (done(r, pl_vdi.flush(r->drive.layer.state, &e), &e))
        flushed(r);
}

static void do_compact(struct run *r)
{
    uint64_t freed;
    struct pl_err e;

    if (done(r, pl_vdi.compact(r->drive.layer.state, NULL, &freed, &e), &e))
        flushed(r);
}

/* As when the image is closed: gaps may be closed after the flush. */
static void do_seal(struct run *r)
{
    struct pl_err e;

    if (!done(r, pl_vdi.flush(r->drive.layer.state, &e), &e))
        return;
    flushed(r);
    done(r, pl_vdi.seal(r->drive.layer.state, &e), &e);
}

static void do_resize(struct run *r)
{
    const uint64_t old = r->drive.layer.size, op = now(r);
    const uint64_t size =
        pl_round_up(r->shape->size / 4 + below(r, r->shape->size * 3 / 4), HISTORY_SECTOR);
    const uint64_t from = PL_MIN(old, size) / HISTORY_SECTOR;
    struct pl_err e;

    history_set(r->history, SIZE_CELL(r), 1, size / HISTORY_SECTOR, op);
    history_set(r->history, from, r->sectors - from, 0, op);
    if (done(r,
             drive_resize(&r->drive, size, below(r, 4) ? PL_PREALLOC_OFF : PL_PREALLOC_METADATA,
                          &e),
             &e))
        flushed(r); /* resize flushes */
}

static void step(struct run *r)
{
    const uint64_t n = below(r, 100);

    if (!r->error_count)
        r->error_mark = history_mark(r->history);
    if (n < 8 && r->shape->resize)
        do_resize(r);
    else if (n < 12)
        do_compact(r);
    else if (n < 20)
        do_seal(r);
    else if (n < 55)
        do_write(r);
    else if (n < 85)
        do_zero(r);
    else
        do_flush(r);
}

/* ---- looking at what a crash left ---- */

static void check_tables(struct drive *d, uint64_t op, uint64_t seed, bool leaks)
{
    struct pl_check_result result;
    struct pl_err e;

    must(drive_check(d, PL_REPAIR_NONE, &result, &e), &e);
    if (result.corruptions || result.check_errors || (leaks && result.leaks))
        fail_msg("crash after operation %llu (seed %llu): %llu corruptions, %llu leaks",
                 (unsigned long long)op, (unsigned long long)seed,
                 (unsigned long long)result.corruptions, (unsigned long long)result.leaks);
}

static void check_sectors(struct run *r, struct drive *d, uint64_t op, uint64_t seed)
{
    const uint64_t size = d->layer.size;
    struct pl_err e;

    if (!history_allows_value(r->history, SIZE_CELL(r), size / HISTORY_SECTOR, op))
        fail_msg("crash after operation %llu (seed %llu): a disk of %llu bytes",
                 (unsigned long long)op, (unsigned long long)seed, (unsigned long long)size);
    must(drive_read(d, 0, r->buf, size, &e), &e);
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
static void go_on(struct drive *d, uint64_t op, uint64_t seed)
{
    uint8_t bytes[1024];
    struct pl_check_result result;
    struct pl_err e;
    uint64_t random = op ^ seed;

    memset(bytes, 0x5a, sizeof bytes);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t at = pl_round_down(rig_random(&random) % (d->layer.size - sizeof bytes), 512);

        must(drive_write(d, at, bytes, sizeof bytes, &e), &e);
    }
    must(pl_vdi.flush(d->layer.state, &e), &e);
    check_tables(d, op, seed, false);
    must(drive_check(d, PL_REPAIR_LEAKS, &result, &e), &e);
    check_tables(d, op, seed, true);
}

static void look_at(struct run *r, uint8_t *bytes, size_t len, uint64_t op, uint64_t seed)
{
    struct drive d = { .driver = &pl_vdi,
                       .parent = r->drive.parent,
                       .parent_len = r->drive.parent_len };
    struct pl_err e;

    must(pl_memory_storage(bytes, len, FILE_LIMIT, &d.st, &e), &e);
    if (drive_open(&d, &e) < 0)
        fail_msg("crash after operation %llu (seed %llu): %s", (unsigned long long)op,
                 (unsigned long long)seed, e.msg);
    check_tables(&d, op, seed, false);
    check_sectors(r, &d, op, seed);
    if (op % 5 == 0)
        go_on(&d, op, seed);
    drive_close(&d);
    pl_storage_close(d.st, NULL);
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

static void make_parent(struct run *r)
{
    /* so that growing never lays it bare */
    r->drive.parent_len = first_size(r->shape) / 2;
    r->drive.parent = r->parent = malloc(r->drive.parent_len);
    for (uint64_t i = 0; i < r->drive.parent_len / HISTORY_SECTOR; i++)
        history_fill(r->parent + i * HISTORY_SECTOR, i, PARENT_VALUE);
    history_set(r->history, 0, r->drive.parent_len / HISTORY_SECTOR, PARENT_VALUE, 0);
}

static void begin(struct run *r)
{
    struct pl_storage *image;
    uint8_t *bytes;
    struct pl_err e;
    size_t len;

    r->sectors = r->shape->size / HISTORY_SECTOR;
    r->history = history_new(r->sectors + 1);
    r->next_value = 100;
    r->buf = calloc(1, r->shape->size + (1 << 16));
    r->drive = (struct drive){
        .driver = &pl_vdi,
        .parent_identity = "uuid:00112233-4455-6677-8899-aabbccddeeff",
        .cache_bytes = r->shape->cache_bytes,
    };
    if (r->shape->parent)
        make_parent(r);
    must(pl_memory_storage(NULL, 0, FILE_LIMIT, &image, &e), &e);
    r->drive.st = image;
    must(drive_create(&r->drive, r->shape->options, first_size(r->shape), &e), &e);
    history_set(r->history, SIZE_CELL(r), 1, first_size(r->shape) / HISTORY_SECTOR, 0);
    history_flushed(r->history, history_mark(r->history), 0);
    len = pl_storage_size(image);
    bytes = malloc(len);
    must(pl_storage_read(image, 0, bytes, len, &e), &e);
    pl_storage_close(image, NULL);
    must(pl_flaky_storage(bytes, len, FILE_LIMIT, &r->drive.st, &e), &e);
    free(bytes);
    must(drive_open(&r->drive, &e), &e);
}

static void end(struct run *r)
{
    pl_storage_close(r->drive.st, NULL);
    history_free(r->history);
    free(r->parent);
    free(r->buf);
}

static void crash_everywhere(struct run *r)
{
    const uint64_t count = now(r);
    uint64_t files = 0;

    for (uint64_t op = 0; op <= count; op++)
        for (uint64_t i = 0; i < CUTS; i++) {
            const uint64_t seed = i < 2 ? i : 2 + op * CUTS + i;
            uint8_t *bytes;
            size_t len;

            pl_flaky_cut(r->drive.st, op, seed, &bytes, &len);
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
    const uint64_t seed = number_from("CRASH_SEED", 1);

    for (unsigned i = 0; i < RUNS; i++) {
        struct run r = { .shape = shape, .random = seed + i };
        const uint64_t steps = number_from("CRASH_STEPS", shape->steps);

        print_message("# CRASH_SEED=%llu\n", (unsigned long long)(seed + i));
        begin(&r);
        for (uint64_t n = 0; n < steps; n++)
            step(&r);
        drive_close(&r.drive);
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
    pl_flaky_fail_at(r.drive.st, at, at % 2 ? EIO : ENOSPC, for_ever);
    for (unsigned n = 0; n < 40 && !r.error_count; n++)
        step(&r);
    do_flush(&r);
    drive_close(&r.drive);
    for (uint64_t i = 0; i < 3; i++) {
        pl_flaky_cut(r.drive.st, now(&r), i < 2 ? i : at + 2, &bytes, &len);
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
    const uint64_t seed = number_from("CRASH_SEED", 1);
    uint64_t at = 0;

    while (fail_once(shape, seed, at, at % 3 == 0))
        at++;
    print_message("# %llu failures\n", (unsigned long long)at);
}

/* ---- the modification UUID ---- */

/* Whatever reached the disk after the first change, the new UUID was there before it. */
static void modification_comes_first(void **state)
{
    const struct shape shape = { "", "block_size=4k", 64 * KIB, 0, .parent = false };
    struct run r = { .shape = &shape };
    uint8_t before[16];
    struct pl_err e;

    (void)state;
    begin(&r);
    must(pl_storage_read(r.drive.st, MODIFICATION_AT, before, 16, &e), &e);
    do_write(&r);
    do_write(&r);
    do_flush(&r);
    for (uint64_t op = 0; op <= now(&r); op++)
        for (uint64_t seed = 0; seed < 40; seed++) {
            uint8_t *bytes, *old;
            size_t len, old_len;

            pl_flaky_cut(r.drive.st, op, seed, &bytes, &len);
            pl_flaky_cut(r.drive.st, 0, 0, &old, &old_len);
            if (memcmp(bytes + MODIFICATION_AT, before, 16) == 0)
                assert_true(len == old_len && memcmp(bytes, old, len) == 0);
            free(bytes);
            free(old);
        }
    drive_close(&r.drive);
    end(&r);
}

int main(void)
{
    struct CMUnitTest tests[2 * PL_COUNT(shapes) + 1];
    static char names[PL_COUNT(shapes)][100];
    size_t count = 0;

    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        tests[count++] = (struct CMUnitTest){ .name = shapes[i].name,
                                              .test_func = crash_shape,
                                              .initial_state = (void *)&shapes[i] };
    for (size_t i = 0; i < PL_COUNT(shapes); i++) {
        snprintf(names[i], sizeof names[i], "failing changes: %s", shapes[i].name);
        tests[count++] = (struct CMUnitTest){ .name = names[i],
                                              .test_func = fail_shape,
                                              .initial_state = (void *)&shapes[i] };
    }
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(modification_comes_first);
    return _cmocka_run_group_tests("crash_vdi", tests, count, NULL, NULL);
}
