/* state_diff.c - pl_state_diff: walks over two states side by side.
 *
 * Runs that both take from the same place of the same file, or that are zeros in both, are equal
 * without a look; the rest is read and compared.  What lies past the end of the shorter one counts
 * as zeros. */
#include "core/engine/state_diff.h"

#include <string.h>

#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "core/engine/disk.h"
#include "core/engine/states.h"

#define PIECE (1u << 20)
#define SECTOR 512u

/* One of the two. */
struct side {
    struct pl_image *img; /* owned */
    struct pl_disk disk;
    uint8_t *bytes; /* PIECE, owned */
    bool zero;      /* the run at hand is known to be zeros */
    struct pl_located located;
};

struct diff {
    struct side from, to;
    const struct pl_diff_options *options;
    struct pl_diff_result *result;
    struct pl_changed_run run; /* gathered, not told yet; len 0: none */
};

static int open_side(struct side *s, const struct pl_held_disk *disk, const char *name,
                     struct pl_err *e)
{
    size_t index = PL_NO_STATE;

    s->bytes = pl_buffer(PIECE);
    if (!s->bytes)
        return pl_fail(e, PL_E_NOMEM, "%s: no memory for a buffer", disk->path);
    if (name && (pl_states_find(disk->states, name, &index, e) < 0 ||
                 pl_state_check_sound(disk->states, index, e) < 0))
        return -1;
    if (pl_state_open(disk, index, &s->img, e) < 0)
        return -1;
    return pl_disk_init(&s->disk, &s->img, 1, e);
}

static void close_side(struct side *s)
{
    pl_disk_free(&s->disk);
    pl_close(s->img, NULL);
    free(s->bytes);
}

/* ---- what is told ---- */

static int tell(struct diff *d, struct pl_err *e)
{
    const struct pl_changed_run run = d->run;

    d->run.len = 0;
    if (run.len == 0)
        return 0;
    d->result->changed += run.len;
    d->result->runs++;
    return d->options->run ? d->options->run(d->options->ctx, &run, e) : 0;
}

static int add(struct diff *d, uint64_t at, uint64_t len, bool zero, struct pl_err *e)
{
    if (d->run.len && (d->run.at + d->run.len != at || d->run.zero != zero) && tell(d, e) < 0)
        return -1;
    if (d->run.len == 0)
        d->run = (struct pl_changed_run){ .at = at, .zero = zero };
    d->run.len += len;
    return 0;
}

/* ---- what is compared ---- */

/* Finds the run at `at`, up to *len. */
static int look(struct side *s, uint64_t at, uint64_t *len, struct pl_err *e)
{
    uint64_t image_at;

    s->zero = true;
    if (at >= s->disk.size)
        return 0;
    *len = PL_MIN(*len, s->disk.size - at);
    if (pl_disk_locate(&s->disk, at, *len, &s->located, &image_at, e) < 0)
        return -1;
    s->zero = s->located.extent.state == PL_ZERO;
    *len = PL_MIN(*len, s->located.extent.len);
    return 0;
}

static bool same_place(const struct side *a, const struct side *b)
{
    const struct pl_extent *x = &a->located.extent, *y = &b->located.extent;

    if (a->zero || b->zero)
        return a->zero && b->zero;
    return x->state == y->state && x->off == y->off &&
           (x->state != PL_PACKED || x->unit_at == y->unit_at) && pl_storage_same(x->st, y->st);
}

static int read_side(struct side *s, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (!s->zero)
        return pl_disk_read(&s->disk, at, s->bytes, len, e);
    memset(s->bytes, 0, len);
    return 0;
}

/* Compares the sectors of a piece. */
static int compare_piece(struct diff *d, uint64_t at, uint64_t len, struct pl_err *e)
{
    if (read_side(&d->from, at, len, e) < 0 || read_side(&d->to, at, len, e) < 0)
        return -1;
    if (memcmp(d->from.bytes, d->to.bytes, len) == 0)
        return 0;
    for (uint64_t done = 0, n; done < len; done += n) {
        n = PL_MIN(SECTOR - (at + done) % SECTOR, len - done);
        if (memcmp(d->from.bytes + done, d->to.bytes + done, n) != 0 &&
            add(d, at + done, n, pl_is_zero(d->to.bytes + done, n), e) < 0)
            return -1;
    }
    return 0;
}

/* Compares [at, at + len), one run in both. */
static int compare_run(struct diff *d, uint64_t at, uint64_t len, struct pl_err *e)
{
    const struct pl_report *report = d->options->common.report;

    if (same_place(&d->from, &d->to))
        return 0;
    for (uint64_t done = 0, n; done < len; done += n) {
        n = PL_MIN(PIECE, len - done);
        if (pl_check_cancelled(report, e) < 0 || compare_piece(d, at + done, n, e) < 0)
            return -1;
    }
    return 0;
}

static int compare(struct diff *d, struct pl_err *e)
{
    const uint64_t size = PL_MAX(d->from.disk.size, d->to.disk.size);
    const struct pl_report *report = d->options->common.report;
    uint64_t len;

    for (uint64_t at = 0; at < size; at += len) {
        len = size - at;
        if (pl_check_cancelled(report, e) < 0 || look(&d->from, at, &len, e) < 0 ||
            look(&d->to, at, &len, e) < 0 || compare_run(d, at, len, e) < 0)
            return -1;
        pl_progress(report, at + len, size);
    }
    return tell(d, e);
}

int pl_state_diff(const char *path, const char *from, const char *to,
                  const struct pl_diff_options *options, struct pl_diff_result *result,
                  struct pl_err *e)
{
    struct diff d = { .options = options, .result = result };
    struct pl_held_disk disk;
    int status;

    *result = (struct pl_diff_result){ 0 };
    if (pl_disk_hold(path, &options->common, PL_HOLD_LOOK, &disk, e) < 0)
        return -1;
    status = open_side(&d.from, &disk, from, e);
    if (status == 0)
        status = open_side(&d.to, &disk, to, e);
    if (status == 0) {
        result->from_size = d.from.disk.size;
        result->to_size = d.to.disk.size;
        status = compare(&d, e);
    }
    close_side(&d.from);
    close_side(&d.to);
    pl_disk_release(&disk);
    return status;
}
