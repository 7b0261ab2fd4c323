/* rebase_copy.c - compares what an image reads from its parent with what it would read from
 * another one, and gives it the difference.
 *
 * The maps tell most of it: what the image says itself, what both chains read from the same place
 * of the same file, what both read as zeros.  Only the rest is read. */
#include "core/engine/rebase_copy.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/zero.h"
#include "core/engine/ordered.h"
#include "core/graph/long_work.h"

#define WINDOW_MIN (1u << 20)

/* Bytes are compared in no smaller pieces, so that what is written is not scattered. */
#define STEP_MIN 4096u

/* Plain bytes of both chains are read and compared in pieces that stay in a processor's cache. */
#define PIECE (UINT64_C(64) << 10)

struct unit {
    struct pl_rebase_copy *job;
    uint64_t at, len;
    uint8_t *old, *new; /* a window's bytes below the old parent; some of them below the new one */
    /* What was found out of [from, to), and is not done yet. */
    enum verdict { ALIKE, ZERO, DATA } what;
    uint64_t from, to;
};

static void free_unit(void *arg)
{
    struct unit *unit = arg;

    free(unit->old);
    free(unit->new);
    free(unit);
}

static void *new_unit(void *ctx, struct pl_err *e)
{
    struct pl_rebase_copy *job = ctx;
    struct unit *unit = calloc(1, sizeof *unit);

    if (!unit) {
        pl_fail(e, PL_E_NOMEM, "no memory for buffers");
        return NULL;
    }
    unit->job = job;
    unit->old = pl_buffer(job->window);
    unit->new = pl_buffer(job->window);
    if (unit->old && unit->new)
        return unit;
    free_unit(unit);
    pl_fail(e, PL_E_NOMEM, "no memory for buffers of %u bytes", job->window);
    return NULL;
}

/* ---- what the maps tell ---- */

/* A run that both chains have in one piece. */
struct both {
    uint64_t len;
    bool alike; /* they read the same for sure, or the image does not read from there */
    struct pl_located old, new;
};

/* The first run below a parent; zeros behind its end, or without one. */
static int locate_in(struct pl_image *parent, uint64_t at, uint64_t len, struct pl_located *out,
                     struct pl_err *e)
{
    if (parent && at < parent->layer.size)
        return pl_locate(parent, at, len, out, e);
    *out = (struct pl_located){ .extent = { .state = PL_ZERO, .len = len } };
    return 0;
}

static bool same_place(const struct pl_extent *a, const struct pl_extent *b)
{
    if (a->state != b->state)
        return false;
    if (a->state == PL_ZERO)
        return true;
    if (a->off != b->off || !pl_storage_same(a->st, b->st))
        return false;
    return a->state == PL_DATA || (a->codec == b->codec && a->unit_at == b->unit_at &&
                                   a->unit_len == b->unit_len && a->packed_len == b->packed_len);
}

static int look(const struct pl_rebase_copy *job, uint64_t at, uint64_t len, struct both *out,
                struct pl_err *e)
{
    const struct pl_image *img = job->img;
    struct pl_extent own;

    if (img->driver->map(img->layer.state, at, len, &own, e) < 0)
        return pl_within(e, "%s", img->path);
    out->len = own.len;
    out->alike = own.state != PL_PARENT;
    if (out->alike)
        return 0;
    if (locate_in(img->parent, at, out->len, &out->old, e) < 0 ||
        locate_in(job->new, at, out->old.extent.len, &out->new, e) < 0)
        return -1;
    out->len = out->new.extent.len;
    out->alike = same_place(&out->old.extent, &out->new.extent);
    return 0;
}

static int next(void *ctx, void *arg, struct pl_err *e)
{
    struct pl_rebase_copy *job = ctx;
    struct unit *unit = arg;
    const uint64_t size = job->img->layer.size;
    struct both both = { .alike = true };

    for (; job->planned < size; job->planned += both.len) {
        if (pl_check_cancelled(job->report, e) < 0 ||
            look(job, job->planned, size - job->planned, &both, e) < 0)
            return -1;
        if (!both.alike)
            break;
    }
    if (job->planned == size)
        return 0;
    unit->at = job->planned;
    unit->len = PL_MIN(job->window - unit->at % job->window, size - unit->at);
    job->planned += unit->len;
    return 1;
}

/* ---- what must be read ---- */

/* Where the image still says nothing of a range that is zeros, zeros are written: there are formats
 * to which silence over no parent, or behind its end, says zeros. */
static int write_unsaid(const struct unit *unit, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct pl_image *img = unit->job->img;

    while (len > 0) {
        struct pl_extent own;

        if (img->driver->map(img->layer.state, at, len, &own, e) < 0)
            return pl_within(e, "%s", img->path);
        if (own.state == PL_PARENT &&
            pl_write(img, at, unit->old + (at - unit->at), own.len, e) < 0)
            return -1;
        at += own.len;
        len -= own.len;
    }
    return 0;
}

/* Does what waits. */
static int put(struct unit *unit, struct pl_err *e)
{
    struct pl_rebase_copy *job = unit->job;
    const uint64_t at = unit->from, len = unit->to - at;

    if (unit->what == ALIKE || len == 0)
        return 0;
    if (unit->what == DATA) {
        job->copied += len;
        return pl_write(job->img, at, unit->old + (at - unit->at), len, e);
    }
    job->zero += len;
    if (pl_zero(job->img, at, len, true, e) < 0)
        return -1;
    return write_unsaid(unit, at, len, e);
}

/* [at, at + len) waits, with what waits already where it is of the same kind and ends there. */
static int add(struct unit *unit, enum verdict what, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (what != unit->what || at != unit->to) {
        if (put(unit, e) < 0)
            return -1;
        unit->what = what;
        unit->from = at;
    }
    unit->to = at + len;
    return 0;
}

static enum verdict judge(const struct both *both, const uint8_t *old, const uint8_t *new,
                          uint64_t len)
{
    const bool zero = both->old.extent.state == PL_ZERO || pl_is_zero(old, len);

    if (zero)
        return both->new.extent.state == PL_ZERO || pl_is_zero(new, len) ? ALIKE : ZERO;
    if (both->new.extent.state == PL_ZERO)
        return DATA;
    return memcmp(old, new, len) == 0 ? ALIKE : DATA;
}

/* Compares [at, at + both->len), which begins at unit->new, step by step. */
static int compare(struct unit *unit, const struct both *both, uint64_t at, struct pl_err *e)
{
    const uint32_t step = unit->job->step;
    const uint64_t end = at + both->len;

    for (uint64_t pos = at, len; pos < end; pos += len) {
        len = PL_MIN(step - pos % step, end - pos);
        if (add(unit, judge(both, unit->old + (pos - unit->at), unit->new + (pos - at), len), pos,
                len, e) < 0)
            return -1;
    }
    return 0;
}

/* Reads what both have of the run at `at` and compares it. */
static int read_both(struct unit *unit, const struct both *both, uint64_t at, struct pl_err *e)
{
    if (pl_read_located(&both->old, at, unit->old + (at - unit->at), both->len, e) < 0)
        return -1;
    if (both->new.extent.state != PL_ZERO && /* else nobody looks at the bytes */
        pl_read_located(&both->new, at, unit->new, both->len, e) < 0)
        return -1;
    return compare(unit, both, at, e);
}

/* The same, in pieces where both are plain bytes. */
static int read_pieces(struct unit *unit, const struct both *both, uint64_t at, struct pl_err *e)
{
    const uint64_t piece = PL_MAX(PIECE, unit->job->step), end = at + both->len;
    struct both part = *both;

    if (both->old.extent.state != PL_DATA || both->new.extent.state != PL_DATA)
        return read_both(unit, both, at, e);
    for (; at < end; at += part.len) {
        part.len = PL_MIN(piece - at % piece, end - at);
        if (read_both(unit, &part, at, e) < 0)
            return -1;
        part.old.extent.off += part.len;
        part.new.extent.off += part.len;
    }
    return 0;
}

static int work(void *ctx, void *arg, struct pl_err *e)
{
    const struct pl_rebase_copy *job = ctx;
    struct unit *unit = arg;
    const uint64_t end = unit->at + unit->len;
    struct both both;

    unit->what = ALIKE;
    unit->from = unit->to = unit->at;
    for (uint64_t at = unit->at; at < end; at += both.len) {
        if (look(job, at, end - at, &both, e) < 0)
            return -1;
        if (!both.alike && read_pieces(unit, &both, at, e) < 0)
            return -1;
    }
    return put(unit, e);
}

static int place(void *ctx, void *arg, struct pl_err *e)
{
    struct pl_rebase_copy *job = ctx;
    const struct unit *unit = arg;

    (void)e;
    pl_progress(job->report, unit->at + unit->len, job->img->layer.size);
    return 0;
}

/* The greatest compressed unit below an image. */
static uint32_t greatest_unit(const struct pl_image *img)
{
    uint32_t unit = 0;

    for (; img; img = img->parent)
        unit = PL_MAX(unit, img->layer.unit_len);
    return unit;
}

int pl_rebase_copy(struct pl_rebase_copy *job, struct pl_err *e)
{
    const uint32_t granule = job->img->layer.granule;
    const struct pl_ordered_job run = {
        .ctx = job,
        .workers = job->workers,
        .report = job->report,
        .new_unit = new_unit,
        .free_unit = free_unit,
        .next = next,
        .work = work,
        .place = place,
    };
    int status;

    pl_long_work_begin(job->img);
    job->step = PL_MAX(granule, STEP_MIN);
    job->window = PL_MAX(PL_MAX(WINDOW_MIN, granule),
                         PL_MAX(greatest_unit(job->img->parent), greatest_unit(job->new)));
    status = pl_run_ordered(&run, e);
    pl_long_work_end(job->img);
    return status;
}
