/* commit_copy.c - walks the map of a chain and writes to one image of it what those above it say.
 *
 * Only what a layer above says is written, so the top reads the same whatever was written so far:
 * it does not look below there. */
#include "core/engine/commit_copy.h"

#include <stdlib.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/engine/ordered.h"
#include "core/engine/zero_shown.h"
#include "core/graph/long_work.h"

#define WINDOW_MIN (1u << 20)

/* Room is made at most this far ahead. */
#define RESERVE_STEP (512 * PL_MIB)

struct unit {
    struct pl_commit_copy *job;
    uint64_t at, len;
    bool zero;      /* all of it, of any length; else at most a window */
    uint8_t *bytes; /* a window's */
};

static void free_unit(void *arg)
{
    struct unit *unit = arg;

    free(unit->bytes);
    free(unit);
}

static void *new_unit(void *ctx, struct pl_err *e)
{
    struct pl_commit_copy *job = ctx;
    struct unit *unit = calloc(1, sizeof *unit);

    if (unit)
        unit->bytes = pl_buffer(job->window);
    if (!unit || !unit->bytes) {
        free(unit);
        pl_fail(e, PL_E_NOMEM, "no memory for a buffer of %u bytes", job->window);
        return NULL;
    }
    unit->job = job;
    return unit;
}

/* The first run at `at`; *above: a layer above the base says so, or ends before. */
static int locate(const struct pl_commit_copy *job, uint64_t at, uint64_t len,
                  struct pl_located *located, bool *above, struct pl_err *e)
{
    if (pl_locate(job->top, at, len, located, e) < 0)
        return -1;
    *above = located->depth < job->depth;
    return 0;
}

/* Passes over what only the base and those below it say.  *zero: bytes at *at that are zeros by
 * what the layers above say. */
static int find_work(const struct pl_commit_copy *job, uint64_t *at, uint64_t *zero,
                     struct pl_err *e)
{
    const uint64_t size = job->top->layer.size;
    struct pl_located located;
    bool above = false;

    while (*at < size && !above) {
        if (pl_check_cancelled(job->report, e) < 0 ||
            locate(job, *at, size - *at, &located, &above, e) < 0)
            return -1;
        *at += above ? 0 : located.extent.len;
    }
    for (*zero = 0; above && located.extent.state == PL_ZERO;) {
        *zero += located.extent.len;
        if (*at + *zero == size)
            break;
        if (locate(job, *at + *zero, size - *at - *zero, &located, &above, e) < 0)
            return -1;
    }
    return 0;
}

/* Makes room in a raw base for the data that follows without a gap: so the host lays it out in
 * large runs. */
static void reserve_ahead(struct pl_commit_copy *job)
{
    const uint64_t end = PL_MIN(job->planned + RESERVE_STEP, job->top->layer.size);
    struct pl_located located;
    bool above = true;

    for (job->reserved = job->planned; job->reserved < end; job->reserved += located.extent.len)
        if (locate(job, job->reserved, end - job->reserved, &located, &above, NULL) < 0 || !above ||
            located.extent.state == PL_ZERO)
            break;
    pl_storage_reserve_ahead(job->base->file, job->planned, job->reserved - job->planned);
    job->reserved = PL_MAX(job->reserved, job->planned + job->window);
}

static int next(void *ctx, void *arg, struct pl_err *e)
{
    struct pl_commit_copy *job = ctx;
    struct unit *unit = arg;
    const uint64_t size = job->top->layer.size;
    uint64_t zero;

    if (find_work(job, &job->planned, &zero, e) < 0)
        return -1;
    if (job->planned == size)
        return 0;
    unit->at = job->planned;
    unit->zero = zero >= job->window;
    unit->len = unit->zero ? zero : PL_MIN(job->window - unit->at % job->window, size - unit->at);
    if (job->base->layer.plain && !unit->zero && job->planned >= job->reserved)
        reserve_ahead(job);
    job->planned += unit->len;
    return 1;
}

static int put_zeros(struct pl_commit_copy *job, uint64_t at, uint64_t len, struct pl_err *e)
{
    job->zero += len;
    return pl_zero_shown(job->base, at, len, e);
}

/* Bytes [from, to) of the window. */
static int put_bytes(const struct unit *unit, uint64_t from, uint64_t to, struct pl_err *e)
{
    if (from == to)
        return 0;
    unit->job->copied += to - from;
    return pl_write(unit->job->base, unit->at + from, unit->bytes + from, to - from, e);
}

/* Emptying a file that is in the page cache takes twice as long: what the top loses leaves the
 * cache meanwhile. */
static int read_run(struct unit *unit, const struct pl_located *located, uint64_t off,
                    struct pl_err *e)
{
    const struct pl_extent *x = &located->extent;

    if (pl_read_located(located, unit->at + off, unit->bytes + off, x->len, e) < 0)
        return -1;
    if (unit->job->empties && located->depth == 0 && x->state == PL_DATA)
        pl_storage_settle(x->st, x->off, x->len);
    return 0;
}

static int copy_window(struct unit *unit, struct pl_err *e)
{
    struct pl_commit_copy *job = unit->job;
    uint64_t from = 0; /* bytes from here to `off` wait to be written */

    for (uint64_t off = 0, run; off < unit->len; off += run) {
        struct pl_located located;
        bool above, data;

        if (locate(job, unit->at + off, unit->len - off, &located, &above, e) < 0)
            return -1;
        run = located.extent.len;
        data = above && located.extent.state != PL_ZERO;
        if (data) {
            if (read_run(unit, &located, off, e) < 0)
                return -1;
            continue;
        }
        if (put_bytes(unit, from, off, e) < 0 ||
            (above && put_zeros(job, unit->at + off, run, e) < 0))
            return -1;
        from = off + run;
    }
    return put_bytes(unit, from, unit->len, e);
}

static int work(void *ctx, void *arg, struct pl_err *e)
{
    struct pl_commit_copy *job = ctx;
    struct unit *unit = arg;

    if (unit->zero)
        return put_zeros(job, unit->at, unit->len, e);
    return copy_window(unit, e) < 0 ? -1 : pl_rate_keep(&job->rate, job->copied, e);
}

static int place(void *ctx, void *arg, struct pl_err *e)
{
    struct pl_commit_copy *job = ctx;
    const struct unit *unit = arg;

    (void)e;
    pl_progress(job->report, unit->at + unit->len, job->top->layer.size);
    return 0;
}

/* The greatest unit that is best not cut: of the base's room, and of what is unpacked. */
static uint32_t window_for(const struct pl_commit_copy *job)
{
    uint32_t window = PL_MAX(WINDOW_MIN, job->base->layer.granule);

    for (const struct pl_image *img = job->top; img != job->base; img = img->parent)
        window = PL_MAX(window, img->layer.unit_len);
    return window;
}

int pl_commit_copy(struct pl_commit_copy *job, struct pl_err *e)
{
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

    job->window = window_for(job);
    pl_long_work_begin(job->base);
    status = pl_run_ordered(&run, e);
    pl_long_work_end(job->base);
    return status;
}
