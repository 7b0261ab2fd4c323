/* A crash at any instant of random work on VHDX images.
 *
 * A run makes some hundred changes of the file.  Then the file is taken as it could be after a
 * crash at each of them: what was not yet synced is there, is missing, is torn between sectors, or
 * came in another order.  Each such file must open, both for reading (its log is replayed in
 * memory) and for writing (in the file), with the same content; its tables must be sound (space may
 * be lost), and every sector must hold what the last flush promised or something newer.
 *
 * CRASH_SEED and CRASH_STEPS in the environment choose another run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/storage/memory.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"
#include "tests/support/history.h"
#include "tests/support/qcow2_rig.h"
#include "tests/support/vhdx_rig.h"

#define FILE_LIMIT (128 << 20)
#define CUTS 6 /* kinds of files: nothing lost, all lost, four random ones; one an instant */
#define PARENT_VALUE 7
#define SIZE_CELL(r) ((r)->sectors) /* the history's cell for the size of the disk, in sectors */

static const struct shape {
    const char *name;
    const char *options;
    uint64_t size;
    unsigned steps;
    bool parent, resize, compact;
    uint32_t granule; /* of the disk */
} shapes[] = {
    { "dynamic", "block_size=1M", 5 * PL_MIB, 150, .granule = 512 },
    { "dynamic, sectors of 4096 bytes", "block_size=1M,logical_sector_size=4096", 4 * PL_MIB, 100,
      .granule = 4096 },
    { "fixed", "block_size=1M,subformat=fixed", 3 * PL_MIB, 60, .granule = 512 },
    { "differencing", "block_size=1M", 5 * PL_MIB, 150, .parent = true, .granule = 512 },
    { "differencing, blocks of 2 MiB", "", 6 * PL_MIB, 120, .parent = true, .granule = 512 },
    { "growing and shrinking", "block_size=1M", 6 * PL_MIB, 120, .resize = true, .granule = 512 },
    { "compacting", "block_size=1M", 5 * PL_MIB, 120, .compact = true, .granule = 512 },
    { "compacting over a parent", "block_size=1M", 5 * PL_MIB, 120, .parent = true, .compact = true,
      .granule = 512 },
};

struct run {
    const struct shape *shape;
    struct vhdx_rig rig;
    struct history *history;
    uint8_t *parent, *buf, *second;
    uint64_t sectors; /* the largest disk */
    uint64_t random, next_value;
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

static uint64_t now(struct run *r)
{
    return pl_flaky_operation_count(r->rig.st);
}

/* ---- steps ---- */

static void choose(struct run *r, uint64_t *at, uint64_t *len)
{
    const uint64_t unit = below(r, 5) ? r->shape->granule : r->rig.layer.cluster_size;
    const uint64_t units = 1 + below(r, unit < PL_MIB ? 12 : 2);

    *at = pl_round_down(below(r, r->rig.layer.size), unit);
    *len = PL_MIN(units * unit, r->rig.layer.size - *at);
}

static void do_write(struct run *r)
{
    uint64_t at, len;
    struct pl_err e;

    choose(r, &at, &len);
    r->next_value++;
    for (uint64_t i = 0; i < len; i += HISTORY_SECTOR)
        history_fill(r->buf + i, (at + i) / HISTORY_SECTOR, r->next_value);
    history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, r->next_value, now(r));
    must(vhdx_rig_write(&r->rig, at, r->buf, len, &e), &e);
}

/* Notes that sectors which read as zeros now became that at time `op`. */
static void note_zeros(struct run *r, uint64_t at, uint64_t len, uint64_t op)
{
    struct pl_err e;

    must(vhdx_rig_read(&r->rig, at, r->buf, len, &e), &e);
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
    uint64_t at, len;
    struct pl_err e;

    choose(r, &at, &len);
    if (discard)
        must(pl_vhdx.discard(r->rig.layer.state, at, len, &e), &e);
    else
        must(vhdx_rig_zero(&r->rig, at, len, unmap, &e), &e);
    note_zeros(r, at, len, op);
}

static void do_flush(struct run *r)
{
    struct pl_err e;

    must(pl_vhdx.flush(r->rig.layer.state, &e), &e);
    history_flushed(r->history, history_mark(r->history), now(r));
}

static void do_reopen(struct run *r)
{
    struct pl_err e;

    must(vhdx_rig_finish(&r->rig, &e), &e);
    history_flushed(r->history, history_mark(r->history), now(r));
    must(vhdx_rig_open(&r->rig, &e), &e);
}

static void do_resize(struct run *r)
{
    const uint64_t old = r->rig.layer.size, op = now(r);
    const uint64_t size =
        pl_round_up(r->shape->size / 4 + below(r, r->shape->size * 3 / 4), HISTORY_SECTOR);
    const uint64_t from = PL_MIN(old, size) / HISTORY_SECTOR;
    struct pl_err e;

    history_set(r->history, SIZE_CELL(r), 1, size / HISTORY_SECTOR, op);
    history_set(r->history, from, r->sectors - from, 0, op);
    must(vhdx_rig_resize(&r->rig, size, &e), &e);
    history_flushed(r->history, history_mark(r->history), now(r)); /* resize flushes */
}

static void do_compact(struct run *r)
{
    uint64_t freed;
    struct pl_err e;

    must(pl_vhdx.compact(r->rig.layer.state, NULL, &freed, &e), &e);
    history_flushed(r->history, history_mark(r->history), now(r)); /* it flushes */
}

static void step(struct run *r)
{
    const uint64_t n = below(r, 100);

    if (n < 8 && r->shape->resize)
        do_resize(r);
    else if (n < 8 && r->shape->compact)
        do_compact(r);
    else if (n < 60)
        do_write(r);
    else if (n < 78)
        do_zero(r);
    else if (n < 96)
        do_flush(r);
    else
        do_reopen(r);
}

/* ---- looking at what a crash left ---- */

static void check_tables(struct vhdx_rig *rig, uint64_t op, uint64_t seed)
{
    struct pl_check_result result;
    struct pl_err e;

    must(vhdx_rig_check(rig, PL_REPAIR_NONE, &result, &e), &e);
    if (result.corruptions || result.check_errors)
        fail_msg("crash after operation %llu (seed %llu): %llu corruptions", (unsigned long long)op,
                 (unsigned long long)seed, (unsigned long long)result.corruptions);
}

static void check_sectors(struct run *r, struct vhdx_rig *rig, uint64_t op, uint64_t seed)
{
    const uint64_t size = rig->layer.size;
    struct pl_err e;

    if (!history_allows_value(r->history, SIZE_CELL(r), size / HISTORY_SECTOR, op))
        fail_msg("crash after operation %llu (seed %llu): a disk of %llu bytes",
                 (unsigned long long)op, (unsigned long long)seed, (unsigned long long)size);
    must(vhdx_rig_read(rig, 0, r->buf, size, &e), &e);
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

/* The image is still good to work with. */
static void go_on(struct vhdx_rig *rig, uint64_t op, uint64_t seed)
{
    uint8_t bytes[4096];
    uint64_t random = op ^ seed;
    struct pl_err e;

    memset(bytes, 0x5a, sizeof bytes);
    for (unsigned i = 0; i < 10; i++) {
        const uint64_t at =
            pl_round_down(rig_random(&random) % (rig->layer.size - sizeof bytes), sizeof bytes);

        must(vhdx_rig_write(rig, at, bytes, sizeof bytes, &e), &e);
    }
    must(pl_vhdx.flush(rig->layer.state, &e), &e);
    check_tables(rig, op, seed);
}

/* Opens the bytes that a crash left, for reading, then for writing, and looks at them. */
static void look_at(struct run *r, uint8_t *bytes, size_t len, uint64_t op, uint64_t seed)
{
    struct vhdx_rig rig = { .parent = r->parent, .parent_len = r->rig.parent_len };
    struct pl_err e;

    must(pl_memory_storage(bytes, len, FILE_LIMIT, &rig.st, &e), &e);
    for (unsigned pass = 0; pass < 2; pass++) {
        rig.read_only = pass == 0;
        if (vhdx_rig_open(&rig, &e) < 0)
            fail_msg("crash after operation %llu (seed %llu): %s", (unsigned long long)op,
                     (unsigned long long)seed, e.msg);
        check_tables(&rig, op, seed);
        check_sectors(r, &rig, op, seed);
        if (pass == 0)
            memcpy(r->second, r->buf, rig.layer.size);
        else if (memcmp(r->second, r->buf, rig.layer.size) != 0)
            fail_msg("crash after operation %llu (seed %llu): replayed in memory and in the file "
                     "are two things",
                     (unsigned long long)op, (unsigned long long)seed);
        if (pass == 1 && op % 5 == 0)
            go_on(&rig, op, seed);
        vhdx_rig_close(&rig);
    }
    pl_storage_close(rig.st, NULL);
}

/* ---- runs ---- */

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void make_parent(struct run *r)
{
    r->rig.parent_len = r->shape->size / 2;
    r->rig.parent = r->parent = malloc(r->rig.parent_len);
    for (uint64_t i = 0; i < r->rig.parent_len / HISTORY_SECTOR; i++)
        history_fill(r->parent + i * HISTORY_SECTOR, i, PARENT_VALUE);
    history_set(r->history, 0, r->rig.parent_len / HISTORY_SECTOR, PARENT_VALUE, 0);
}

static void begin(struct run *r)
{
    const uint64_t size = r->shape->resize ? r->shape->size / 4 : r->shape->size;
    uint8_t *bytes;
    struct pl_err e;
    size_t len;

    r->sectors = r->shape->size / HISTORY_SECTOR;
    r->history = history_new(r->sectors + 1);
    r->next_value = 100;
    r->buf = calloc(1, r->shape->size + PL_MIB);
    r->second = calloc(1, r->shape->size + PL_MIB);
    if (r->shape->parent)
        make_parent(r);
    must(pl_memory_storage(NULL, 0, FILE_LIMIT, &r->rig.st, &e), &e);
    must(vhdx_rig_create(&r->rig, r->shape->options, size, &e), &e);
    history_set(r->history, SIZE_CELL(r), 1, size / HISTORY_SECTOR, 0);
    history_flushed(r->history, history_mark(r->history), 0);
    len = pl_storage_size(r->rig.st);
    bytes = malloc(len);
    must(pl_storage_read(r->rig.st, 0, bytes, len, &e), &e);
    pl_storage_close(r->rig.st, NULL);
    must(pl_flaky_storage(bytes, len, FILE_LIMIT, &r->rig.st, &e), &e);
    free(bytes);
    must(vhdx_rig_open(&r->rig, &e), &e);
}

static void end(struct run *r)
{
    pl_storage_close(r->rig.st, NULL);
    history_free(r->history);
    free(r->parent);
    free(r->buf);
    free(r->second);
}

static void crash_everywhere(struct run *r)
{
    const uint64_t count = now(r);

    for (uint64_t op = 0; op <= count; op++) {
        const uint64_t kind = op % CUTS;
        const uint64_t seed = kind < 2 ? kind : 2 + op * CUTS + kind;
        uint8_t *bytes;
        size_t len;

        pl_flaky_cut(r->rig.st, op, seed, &bytes, &len);
        look_at(r, bytes, len, op, seed);
        free(bytes);
    }
    print_message("# %llu changes\n", (unsigned long long)count);
}

static void crash_shape(void **state)
{
    struct run r = { .shape = *state };
    const uint64_t steps = number_from("CRASH_STEPS", r.shape->steps);

    r.random = number_from("CRASH_SEED", 1);
    print_message("# CRASH_SEED=%llu\n", (unsigned long long)r.random);
    begin(&r);
    for (uint64_t i = 0; i < steps; i++)
        step(&r);
    vhdx_rig_close(&r.rig);
    crash_everywhere(&r);
    end(&r);
}

int main(void)
{
    struct CMUnitTest tests[PL_COUNT(shapes)];

    for (size_t i = 0; i < PL_COUNT(shapes); i++)
        tests[i] = (struct CMUnitTest){ .name = shapes[i].name,
                                        .test_func = crash_shape,
                                        .initial_state = (void *)&shapes[i] };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
