/* crash.c - see crash.h. */
#include "tests/support/crash.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "tests/support/crash_left.h"
#include "tests/support/env.h"
#include "tests/support/flaky.h"

#define CUTS 6 /* files for each instant: nothing lost, all lost, four random ones */
#define PARENT_VALUE 7
#define OTHER_VALUE 8

static uint64_t below(struct crash_run *r, uint64_t n)
{
    return run_below(&r->base, n);
}

bool crash_done(struct crash_run *r, int result, const struct pl_err *e)
{
    if (result >= 0)
        return true;
    if (!r->may_fail)
        fail_msg("%s", e->msg);
    r->error_count++;
    return false;
}

static uint64_t now(const struct crash_run *r)
{
    return pl_flaky_operation_count(r->base.rig.st);
}

/* ---- steps ---- */

/* Sectors as often as blocks, but few large blocks: they would only make the run slow. */
static void choose(struct crash_run *r, uint64_t *at, uint64_t *len)
{
    const uint64_t block = PL_MAX(r->base.rig.layer.cluster_size, HISTORY_SECTOR);
    const bool large = block >= PL_MIB, blocks = below(r, large ? 5 : 2) == 0;
    const unsigned dense = r->base.shape->dense;
    const uint64_t most = blocks && large ? 2 : dense && below(r, 2) ? dense : 8;

    run_choose(&r->base, blocks ? block : HISTORY_SECTOR, most, at, len);
}

static void fill(struct crash_run *r, uint64_t at, uint64_t len)
{
    const uint64_t value = ++r->next_value;

    for (uint64_t i = 0; i < len; i += HISTORY_SECTOR)
        history_fill(r->base.buf + i, (at + i) / HISTORY_SECTOR, value);
    history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, value, now(r));
}

void crash_write(struct crash_run *r)
{
    struct pl_err e;
    uint64_t at, len;

    choose(r, &at, &len);
    fill(r, at, len);
    crash_done(r, rig_write(&r->base.rig, at, r->base.buf, len, &e), &e);
}

static void write_packed(struct crash_run *r)
{
    struct pl_err e;
    uint64_t at, len;

    run_choose(&r->base, r->base.rig.layer.cluster_size, 6, &at, &len);
    fill(r, at, len);
    crash_done(r, rig_write_packed(&r->base.rig, at, r->base.buf, len, &e), &e);
}

/* Notes that sectors which read as zeros now became that at time `op`. */
static void note_zeros(struct crash_run *r, uint64_t at, uint64_t len, uint64_t op)
{
    struct pl_err e;

    if (!crash_done(r, rig_read(&r->base.rig, at, r->base.buf, len, &e), &e))
        return;
    for (uint64_t i = 0; i < len; i += HISTORY_SECTOR) {
        const uint64_t sector = (at + i) / HISTORY_SECTOR;

        if (history_holds(r->base.buf + i, sector, 0) && history_now(r->history, sector))
            history_set(r->history, sector, 1, 0, op);
    }
}

static uint64_t value_of(enum run_parent which)
{
    return which == RUN_OTHER_PARENT ? OTHER_VALUE : PARENT_VALUE;
}

/* From now on the sectors may hold what the parent has. */
static void note_parent(struct crash_run *r, enum run_parent which, uint64_t at, uint64_t len)
{
    const uint64_t from = at / HISTORY_SECTOR, end = from + len / HISTORY_SECTOR;
    const uint64_t have = which == RUN_NO_PARENT ? 0 : r->base.parent_len / HISTORY_SECTOR;
    const uint64_t shown = PL_MAX(from, PL_MIN(end, have));

    if (shown > from)
        history_set(r->history, from, shown - from, value_of(which), now(r));
    if (end > shown)
        history_set(r->history, shown, end - shown, 0, now(r));
}

static enum run_parent parent_now(const struct crash_run *r)
{
    return (enum run_parent)history_now(r->history, PARENT_CELL(r));
}

static void note_all_zeros(struct crash_run *r, uint64_t at, uint64_t len, uint64_t op)
{
    history_set(r->history, at / HISTORY_SECTOR, len / HISTORY_SECTOR, 0, op);
}

static void zero(struct crash_run *r)
{
    const uint64_t op = now(r);
    struct rig *rig = &r->base.rig;
    struct pl_err e;
    uint64_t at, len;
    bool done;

    choose(r, &at, &len);
    run_round_out(&r->base, &at, &len);
    if (below(r, 2)) {
        note_all_zeros(r, at, len, op);
        crash_done(r, rig_zero(rig, at, len, below(r, 2), &e), &e);
        return;
    }
    done = crash_done(r, rig->driver->discard(rig->layer.state, at, len, &e), &e);
    if (done && !r->base.format->discards_all)
        note_zeros(r, at, len, op);
    else
        note_all_zeros(r, at, len, op);
}

static void forget(struct crash_run *r)
{
    struct rig *rig = &r->base.rig;
    struct pl_err e;
    uint64_t at, len;

    choose(r, &at, &len);
    run_round_out(&r->base, &at, &len);
    note_parent(r, parent_now(r), at, len);
    crash_done(r, rig->driver->forget(rig->layer.state, at, len, &e), &e);
}

/* What the image says nothing of. */
static bool note_unsaid(struct crash_run *r, enum run_parent which)
{
    const struct rig *rig = &r->base.rig;
    struct pl_extent x;
    struct pl_err e;

    for (uint64_t at = 0; at < rig->layer.size; at += x.len) {
        if (!crash_done(r, rig->driver->map(rig->layer.state, at, rig->layer.size - at, &x, &e),
                        &e))
            return false;
        if (x.state == PL_PARENT)
            note_parent(r, which, at, x.len);
    }
    return true;
}

/* All is on stable storage before, as the core sees to it, and after.  The image is opened again
 * before it is written over a parent that it did not have. */
static void change_parent(struct crash_run *r)
{
    const enum run_parent which = (enum run_parent)below(r, RUN_PARENTS);
    const bool had_none = parent_now(r) == RUN_NO_PARENT;
    struct pl_err e;

    crash_flush(r);
    if (r->error_count || r->broken || !note_unsaid(r, which))
        return;
    history_set(r->history, PARENT_CELL(r), 1, which, now(r));
    if (!crash_done(r, run_set_parent(&r->base, which, &e), &e))
        return;
    crash_flushed(r);
    if (!had_none)
        return;
    rig_close(&r->base.rig);
    if (rig_open(&r->base.rig, &e) < 0)
        fail_msg("%s", e.msg);
}

void crash_flushed(struct crash_run *r)
{
    history_flushed(r->history, r->error_count ? r->error_mark : history_mark(r->history), now(r));
}

void crash_flush(struct crash_run *r)
{
    struct pl_err e;

    if (!r->broken && crash_done(r, rig_flush(&r->base.rig, &e), &e))
        crash_flushed(r);
}

/* Notes what a resize from now on may show. */
static void note_resize(struct crash_run *r, uint64_t size)
{
    const uint64_t from = PL_MIN(r->base.rig.layer.size, size) / HISTORY_SECTOR;

    history_set(r->history, SIZE_CELL(r), 1, size / HISTORY_SECTOR, now(r));
    history_set(r->history, from, r->sectors - from, 0, now(r));
}

static void resize(struct crash_run *r)
{
    const uint64_t most = r->base.shape->size, old = r->base.rig.layer.size;
    const uint64_t size = run_choose_size(&r->base, most / 4, most);
    const uint64_t from = PL_MIN(old, size) / HISTORY_SECTOR;
    struct pl_err e;

    note_resize(r, size);
    if (!crash_done(r, rig_resize(&r->base.rig, size, run_choose_prealloc(&r->base), &e), &e))
        return;
    if (!crash_done(r, run_hide_parent(&r->base, old, &e), &e)) {
        r->broken = true;
        return;
    }
    history_set(r->history, from, r->sectors - from, 0, now(r));
    if (r->base.rig.parent || !r->format->resize_syncs)
        crash_flush(r);
    else if (size != old)
        crash_flushed(r);
}

static void compact(struct crash_run *r)
{
    struct rig *rig = &r->base.rig;
    uint64_t freed;
    struct pl_err e;

    if (crash_done(r, rig->driver->compact(rig->layer.state, NULL, &freed, &e), &e) &&
        r->format->compact_syncs)
        crash_flushed(r);
}

static void step(struct crash_run *r)
{
    const struct image_shape *shape = r->base.shape;
    const uint64_t n = below(r, 100);

    if (!r->error_count)
        r->error_mark = history_mark(r->history);
    if (n < 6 && shape->resize)
        resize(r);
    else if (n >= 6 && n < 10 && r->format->own_step)
        r->format->own_step(r);
    else if (n >= 10 && n < 15 && (shape->compact || r->base.format->compacts))
        compact(r);
    else if (n >= 15 && n < 21 && r->base.format->forgets && shape->parent)
        forget(r);
    else if (n >= 21 && n < 24 && run_changes_parent(&r->base))
        change_parent(r);
    else if (n < 45 || (n < 65 && !shape->packed))
        crash_write(r);
    else if (n < 65)
        write_packed(r);
    else if (n < 85)
        zero(r);
    else
        crash_flush(r);
}

/* ---- runs ---- */

/* A disk that is to grow begins small. */
static uint64_t first_size(const struct image_shape *shape)
{
    return shape->resize ? shape->size / 4 : shape->size;
}

/* Puts a flaky storage with the same bytes in place of *st. */
static void make_flaky(struct pl_storage **st, size_t limit)
{
    const size_t len = pl_storage_size(*st);
    PL_FREE uint8_t *bytes = malloc(len + 1);
    struct pl_err e;

    must(pl_storage_read(*st, 0, bytes, len, &e), &e);
    pl_storage_close(*st, NULL);
    must(pl_flaky_storage(bytes, len, limit, st, &e), &e);
}

static void make_parent(struct crash_run *r)
{
    const uint64_t first = first_size(r->base.shape);
    const uint64_t len =
        pl_round_down((r->format->short_parent ? first : r->base.shape->size) / 2, HISTORY_SECTOR);

    run_make_parents(&r->base, len);
    for (uint64_t i = 0; i < len / HISTORY_SECTOR; i++) {
        history_fill(r->base.parent + i * HISTORY_SECTOR, i, PARENT_VALUE);
        if (r->base.other)
            history_fill(r->base.other + i * HISTORY_SECTOR, i, OTHER_VALUE);
    }
    history_set(r->history, 0, PL_MIN(len, first) / HISTORY_SECTOR, PARENT_VALUE, 0);
    history_set(r->history, PARENT_CELL(r), 1, RUN_FIRST_PARENT, 0);
}

void crash_begin(struct crash_run *r, const struct crash_format *format,
                 const struct image_shape *shape, uint64_t seed)
{
    const size_t limit = crash_file_limit(format);
    struct rig *rig = &r->base.rig;
    struct pl_err e;

    r->base.format = &format->image;
    r->base.shape = shape;
    r->base.random = seed;
    r->format = format;
    r->sectors = shape->size / HISTORY_SECTOR;
    r->history = history_new(r->sectors + 2);
    r->next_value = 100;
    run_begin(&r->base, limit);
    r->second = malloc(shape->size);
    if (shape->parent)
        make_parent(r);
    must(rig_create(rig, shape->options, first_size(shape), &e), &e);
    if (format->prepare)
        format->prepare(r);
    history_set(r->history, SIZE_CELL(r), 1, first_size(shape) / HISTORY_SECTOR, 0);
    history_flushed(r->history, history_mark(r->history), 0);
    make_flaky(&rig->st, limit);
    if (rig->data) {
        make_flaky(&rig->data, limit);
        pl_flaky_pair(rig->st, rig->data);
    }
    must(rig_open(rig, &e), &e);
}

void crash_end(struct crash_run *r)
{
    run_end(&r->base);
    history_free(r->history);
    free(r->second);
}

static void crash_everywhere(struct crash_run *r)
{
    /* All of a short run; of a long one every instant with one file, each kind in turn. */
    const unsigned turns = (r->base.shape->sampled ? CUTS : 1) * PL_MAX(r->format->turns, 1);
    const uint64_t count = now(r);
    uint64_t files = 0;

    for (uint64_t op = 0; op <= count; op++)
        for (uint64_t i = 0; i < CUTS; i++) {
            if ((op + i) % turns)
                continue;
            crash_look_at(r, op, i < 2 ? i : 2 + op * CUTS + i);
            files++;
        }
    print_message("# %llu changes, %llu files\n", (unsigned long long)count,
                  (unsigned long long)files);
}

static void need_programs(const struct image_shape *shape)
{
    if (shape->snapshots && !has_program("qemu-img"))
        TEST_SKIP("no qemu-img to take a snapshot with");
}

static void crash_shape(void **state)
{
    const struct image_case *c = *state;
    const struct crash_format *format = c->frame;
    const uint64_t seed = test_number("CRASH_SEED", 1);
    const uint64_t steps = test_number("CRASH_STEPS", c->shape->steps);

    need_programs(c->shape);
    for (unsigned i = 0; i < format->runs; i++) {
        struct crash_run r = { 0 };

        print_message("# CRASH_SEED=%llu\n", (unsigned long long)(seed + i));
        crash_begin(&r, format, c->shape, seed + i);
        for (uint64_t n = 0; n < steps; n++)
            step(&r);
        rig_close(&r.base.rig);
        crash_everywhere(&r);
        crash_end(&r);
    }
}

/* ---- failures ---- */

/* One run in which change number `at` fails; true: it came to that. */
static bool fail_once(const struct image_case *c, uint64_t seed, uint64_t at, bool for_ever)
{
    const int error = at % 2 ? EIO : ENOSPC;
    struct crash_run r = { .may_fail = true };

    crash_begin(&r, c->frame, c->shape, seed);
    pl_flaky_fail_at(r.base.rig.st, at, error, for_ever);
    if (r.base.rig.data)
        pl_flaky_fail_at(r.base.rig.data, at, error, for_ever);
    for (unsigned n = 0; n < 40 && !r.error_count; n++)
        step(&r);
    crash_flush(&r);
    rig_close(&r.base.rig);
    for (uint64_t i = 0; i < 3; i++)
        crash_look_at(&r, now(&r), i < 2 ? i : at + 2);
    crash_end(&r);
    return r.error_count;
}

/* Raises the number of the change that fails until a run has no such change. */
static void fail_shape(void **state)
{
    const struct image_case *c = *state;
    const struct crash_format *format = c->frame;
    const uint64_t seed = test_number("CRASH_SEED", 1);
    const uint64_t every = c->shape->snapshots ? 5 : PL_MAX(format->fail_every, 1);
    uint64_t at = 0;

    need_programs(c->shape);
    while (fail_once(c, seed, at, at % 3 == 0))
        at += every;
    print_message("# %llu failures\n", (unsigned long long)at);
}

static bool may_fail(const struct image_shape *shape)
{
    return !shape->dense;
}

int crash_tests(const struct crash_format *format, const struct image_shape *shapes, size_t count)
{
    const char *group = format->image.group;
    return run_shape_tests(format, group, "", crash_shape, shapes, count, NULL) +
           run_shape_tests(format, group, "failing changes: ", fail_shape, shapes, count, may_fail);
}
