/* A crash at any instant of random work on VHD images.
 *
 * A run makes a few hundred changes of the file.  Then the file is taken as it could be after a
 * crash at each of them: what was not yet synced is there, is missing, is torn between sectors, or
 * came in another order.  Each such file must open and end with a good footer, its tables must be
 * sound, and every sector must hold what the last flush promised or something newer.  From some of
 * them the work goes on.
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

extern const struct pl_driver pl_vhd;

#define FILE_LIMIT (64 << 20)
#define RUNS 2 /* of each shape, with other seeds */
#define CUTS 6 /* files for each instant: nothing lost, all lost, four random ones */
#define PARENT_VALUE 7
#define PARENT_ID "uuid:00112233-4455-6677-8899-aabbccddeeff time:5"
#define SIZE_CELL(r) ((r)->sectors) /* the history's cell for the size of the disk, in sectors */

static const struct shape {
    const char *name;
    const char *options;
    uint64_t size;
    unsigned steps;
    bool parent, resize, compact;
    uint32_t cache_bytes;
} shapes[] = {
    { "blocks of 4 KiB", "block_size=4k", 192 * PL_KIB, 120, .parent = false },
    { "blocks of 64 KiB", "block_size=64k", 512 * PL_KIB, 100, .parent = false },
    { "over a parent", "block_size=8k", 192 * PL_KIB, 120, .parent = true },
    { "over a parent, a cache of 16 slices", "block_size=4k", 192 * PL_KIB, 120, .parent = true,
      .cache_bytes = 1 },
    { "growing and shrinking", "block_size=4k", 768 * PL_KIB, 80, .resize = true },
    { "growing and shrinking over a parent", "block_size=4k", 768 * PL_KIB, 80, .parent = true,
      .resize = true },
    { "compacted", "block_size=4k", 192 * PL_KIB, 120, .compact = true },
    { "compacted over a parent", "block_size=4k", 192 * PL_KIB, 120, .parent = true,
      .compact = true, .resize = true },
    { "fixed, growing and shrinking", "subformat=fixed", 128 * PL_KIB, 120, .resize = true },
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

static void choose(struct run *r, uint64_t *at, uint64_t *len)
{
    const uint64_t block = PL_MAX(r->rig.layer.cluster_size, HISTORY_SECTOR);
    const uint64_t unit = below(r, 2) ? HISTORY_SECTOR : block, units = 1 + below(r, 6);

    *at = pl_round_down(below(r, r->rig.layer.size), unit);
    *len = PL_MIN(units * unit, r->rig.layer.size - *at);
}

static void do_write(struct run *r)
{
    const uint64_t value = ++r->next_value;
    struct pl_err e;
    uint64_t at, len;

    choose(r, &at, &len);
    for (uint64_t i = 0; i < len; i += HISTORY_SECTOR)
        history_fill(r->buf + i, (at + i) / HISTORY_SECTOR, value);
    history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, value, now(r));
    done(r, rig_write(&r->rig, at, r->buf, len, &e), &e);
}

/* Notes that sectors which read as zeros now became that at time `op`. */
static void note_zeros(struct run *r, uint64_t at, uint64_t len, uint64_t op)
{
    struct pl_err e;

    if (!done(r, rig_read(&r->rig, at, r->buf, len, &e), &e))
        return;
    for (uint64_t i = 0; i < len; i += HISTORY_SECTOR) {
        const uint64_t sector = (at + i) / HISTORY_SECTOR;

        if (history_holds(r->buf + i, sector, 0) && history_now(r->history, sector))
            history_set(r->history, sector, 1, 0, op);
    }
}

static void do_zero(struct run *r)
{
    const bool discard = below(r, 2), unmap = below(r, 2);
    const uint64_t op = now(r);
    struct pl_err e;
    uint64_t at, len;
    int result;

    choose(r, &at, &len);
    if (discard)
        result = pl_vhd.discard(r->rig.layer.state, at, len, &e);
    else
        result = rig_zero(&r->rig, at, len, unmap, &e);
    if (done(r, result, &e))
        note_zeros(r, at, len, op);
    else
        history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, 0, op);
}

static void do_flush(struct run *r)
{
    struct pl_err e;

    if (done(r, pl_vhd.flush(r->rig.layer.state, &e), &e))
        history_flushed(r->history, r->error_count ? r->error_mark : history_mark(r->history),
                        now(r));
}

static void do_resize(struct run *r)
{
    const uint64_t old = r->rig.layer.size, op = now(r);
    const uint64_t less = HISTORY_SECTOR * below(r, r->sectors * 3 / 4);
    const uint64_t size = r->shape->size - less;
    const uint64_t from = PL_MIN(old, size) / HISTORY_SECTOR;
    struct pl_err e;

    history_set(r->history, SIZE_CELL(r), 1, size / HISTORY_SECTOR, op);
    history_set(r->history, from, r->sectors - from, 0, op);
    /* what a longer parent has behind the end shows until the core zeroes it */
    if (r->parent && from < r->sectors / 2)
        history_set(r->history, from, r->sectors / 2 - from, PARENT_VALUE, op);
    if (!done(r, pl_vhd.resize(r->rig.layer.state, size, true, PL_PREALLOC_OFF, &e), &e))
        return;
    r->rig.layer.size = size;
    if (r->parent && size > old && !done(r, rig_zero(&r->rig, old, size - old, false, &e), &e))
        return;
    history_set(r->history, from, r->sectors - from, 0, now(r));
    do_flush(r);
}

static void do_compact(struct run *r)
{
    uint64_t freed;
    struct pl_err e;

    if (done(r, pl_vhd.compact(r->rig.layer.state, NULL, &freed, &e), &e))
        history_flushed(r->history, r->error_count ? r->error_mark : history_mark(r->history),
                        now(r));
}

static void step(struct run *r)
{
    const uint64_t n = below(r, 100);

    if (!r->error_count)
        r->error_mark = history_mark(r->history);
    if (n < 6 && r->shape->resize)
        do_resize(r);
    else if (n < 12 && r->shape->compact)
        do_compact(r);
    else if (n < 60)
        do_write(r);
    else if (n < 85)
        do_zero(r);
    else
        do_flush(r);
}

/* ---- looking at what a crash left ---- */

static void count_warning(void *ctx, const char *message)
{
    (void)message;
    ++*(unsigned *)ctx;
}

static void check_tables(struct rig *rig, uint64_t op, uint64_t seed, bool leaks)
{
    struct pl_check_result result;
    struct pl_err e;

    must(rig_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    /* the two footers differ for an instant while the size changes */
    if (result.corruptions > 1 || result.check_errors || (leaks && result.leaks))
        fail_msg("crash after operation %llu (seed %llu): %llu corruptions, %llu leaks",
                 (unsigned long long)op, (unsigned long long)seed,
                 (unsigned long long)result.corruptions, (unsigned long long)result.leaks);
}

/* A fixed disk that grows shows its old footer until that is zeroed. */
static bool is_old_footer(const struct run *r, const uint8_t *bytes)
{
    return r->rig.layer.plain && memcmp(bytes, "conectix", 8) == 0;
}

static void check_sectors(struct run *r, struct rig *rig, uint64_t op, uint64_t seed)
{
    const uint64_t size = rig->layer.size;
    struct pl_err e;

    if (!history_allows_value(r->history, SIZE_CELL(r), size / HISTORY_SECTOR, op))
        fail_msg("crash after operation %llu (seed %llu): a disk of %llu bytes",
                 (unsigned long long)op, (unsigned long long)seed, (unsigned long long)size);
    must(rig_read(rig, 0, r->buf, size, &e), &e);
    for (uint64_t i = 0; i < size / HISTORY_SECTOR; i++) {
        const uint8_t *bytes = r->buf + i * HISTORY_SECTOR;
        uint64_t value;

        if (history_allows(r->history, i, bytes, op) || is_old_footer(r, bytes))
            continue;
        memcpy(&value, bytes, sizeof value);
        fail_msg(
            "crash after operation %llu (seed %llu): sector %llu holds what is like value %llx",
            (unsigned long long)op, (unsigned long long)seed, (unsigned long long)i,
            (unsigned long long)value);
    }
}

/* The image is still good to work with: write to it, close its gaps. */
static void go_on(struct rig *rig, uint64_t op, uint64_t seed)
{
    uint8_t bytes[1024];
    struct pl_check_result result;
    struct pl_err e;
    uint64_t random = op ^ seed;

    memset(bytes, 0x5a, sizeof bytes);
    for (unsigned i = 0; i < 20; i++) {
        const uint64_t sectors = (rig->layer.size - sizeof bytes) / HISTORY_SECTOR;
        const uint64_t at = rig_random(&random) % sectors * HISTORY_SECTOR;

        must(rig_write(rig, at, bytes, sizeof bytes, &e), &e);
    }
    must(pl_vhd.flush(rig->layer.state, &e), &e);
    check_tables(rig, op, seed, false);
    must(rig_check(rig, PL_REPAIR_ALL, &result, &e), &e);
    assert_int_equal(result.corruptions, 0);
    check_tables(rig, op, seed, true);
}

/* Opens the bytes that a crash left and looks at them. */
static void look_at(struct run *r, uint8_t *bytes, size_t len, uint64_t op, uint64_t seed)
{
    unsigned warnings = 0; /* one would say that the footer is missing */
    const struct pl_report report = { .ctx = &warnings, .warn = count_warning };
    struct rig rig = { .driver = &pl_vhd,
                       .parent = r->rig.parent,
                       .parent_len = r->rig.parent_len,
                       .report = &report };
    struct pl_err e;

    must(pl_memory_storage(bytes, len, FILE_LIMIT, &rig.st, &e), &e);
    if (rig_open(&rig, &e) < 0 || warnings)
        fail_msg("crash after operation %llu (seed %llu): %s", (unsigned long long)op,
                 (unsigned long long)seed, warnings ? "no footer at the end" : e.msg);
    check_tables(&rig, op, seed, false);
    check_sectors(r, &rig, op, seed);
    if (op % 5 == 0)
        go_on(&rig, op, seed);
    rig_close(&rig);
    pl_storage_close(rig.st, NULL);
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
    r->rig.driver = &pl_vhd;
    r->rig.parent_format = "vhd";
    r->rig.parent_identity = PARENT_ID;
    if (r->shape->parent) {
        r->rig.parent_len = r->shape->size / 2;
        r->rig.parent = r->parent = malloc(r->rig.parent_len);
        for (uint64_t i = 0; i < r->sectors / 2; i++)
            history_fill(r->parent + i * HISTORY_SECTOR, i, PARENT_VALUE);
        history_set(r->history, 0, r->sectors / 2, PARENT_VALUE, 0);
    }
    must(pl_memory_storage(NULL, 0, FILE_LIMIT, &r->rig.st, &e), &e);
    must(rig_create(&r->rig, r->shape->options, first_size(r->shape), &e), &e);
    image = r->rig.st;
    history_set(r->history, SIZE_CELL(r), 1, first_size(r->shape) / HISTORY_SECTOR, 0);
    history_flushed(r->history, history_mark(r->history), 0);
    len = pl_storage_size(image);
    bytes = malloc(len);
    must(pl_storage_read(image, 0, bytes, len, &e), &e);
    pl_storage_close(image, NULL);
    must(pl_flaky_storage(bytes, len, FILE_LIMIT, &r->rig.st, &e), &e);
    free(bytes);
    r->rig.cache_bytes = r->shape->cache_bytes;
    must(rig_open(&r->rig, &e), &e);
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
    const uint64_t count = now(r);
    uint8_t *bytes;
    size_t len;

    for (uint64_t op = 0; op <= count; op++)
        for (uint64_t i = 0; i < CUTS; i++) {
            const uint64_t seed = i < 2 ? i : 2 + op * CUTS + i;

            pl_flaky_cut(r->rig.st, op, seed, &bytes, &len);
            look_at(r, bytes, len, op, seed);
            free(bytes);
        }
    print_message("# %llu changes\n", (unsigned long long)count);
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
        crash_everywhere(&r);
        rig_close(&r.rig);
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
    for (uint64_t i = 0; i < 3; i++) {
        pl_flaky_cut(r.rig.st, now(&r), i < 2 ? i : at + 2, &bytes, &len);
        look_at(&r, bytes, len, now(&r), i);
        free(bytes);
    }
    rig_close(&r.rig);
    end(&r);
    return r.error_count;
}

/* Raises the number of the change that fails until a run has no such change. */
static void fail_shape(void **state)
{
    const struct shape *shape = *state;
    uint64_t at = 0;

    while (fail_once(shape, number_from("CRASH_SEED", 1), at, at % 3 == 0))
        at++;
    print_message("# %llu failures\n", (unsigned long long)at);
}

int main(void)
{
    struct CMUnitTest tests[2 * PL_COUNT(shapes)];
    static char names[PL_COUNT(shapes)][100];
    size_t count = 0;

    for (size_t i = 0; i < PL_COUNT(shapes); i++) {
        snprintf(names[i], sizeof names[i], "failing changes: %s", shapes[i].name);
        tests[count++] = (struct CMUnitTest){ .name = shapes[i].name,
                                              .test_func = crash_shape,
                                              .initial_state = (void *)&shapes[i] };
        tests[count++] = (struct CMUnitTest){ .name = names[i],
                                              .test_func = fail_shape,
                                              .initial_state = (void *)&shapes[i] };
    }
    return _cmocka_run_group_tests("crash_vhd", tests, count, NULL, NULL);
}
