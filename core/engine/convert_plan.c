/* convert_plan.c - cuts the source into windows; runs that are known to be zero become one unit
 * each. */
#include "core/base/buffer.h"
#include "core/base/checked.h"
#include "core/engine/convert_job.h"

/* Room is made this far ahead of what is copied: large steps let the host lay the file out in large
 * runs, and writes into made room do not wait for each other. */
#define RESERVE_STEP (512 * PL_MIB)

static bool make_buffers(struct pl_convert_unit *unit)
{
    const struct pl_convert_job *job = unit->job;

    unit->window = pl_buffer(job->window);
    if (job->codec)
        unit->packed =
            pl_buffer((uint64_t)job->window / job->target->layer.unit_len * job->packed_room);
    if (job->reframe)
        unit->foreign = pl_buffer(job->packed_room);
    if (job->over_parent)
        unit->compare = pl_buffer(job->window);
    return unit->window && (unit->packed || !job->codec) && (unit->foreign || !job->reframe) &&
           (unit->compare || !job->over_parent);
}

void *pl_convert_new_unit(void *ctx, struct pl_err *e)
{
    struct pl_convert_job *job = ctx;
    struct pl_convert_unit *unit = calloc(1, sizeof *unit);

    if (unit) {
        unit->job = job;
    }
    if (!unit || !make_buffers(unit)) {
        pl_fail(e, PL_E_NOMEM, "no memory for buffers of %u bytes", job->window);
        pl_convert_free_unit(unit);
        return NULL;
    }
    if (job->codec && pl_codec_open(job->codec, job->level, &unit->packer, e) < 0) {
        pl_convert_free_unit(unit);
        return NULL;
    }
    return unit;
}

void pl_convert_free_unit(void *arg)
{
    struct pl_convert_unit *unit = arg;

    if (!unit)
        return;
    pl_codec_close(unit->packer);
    free(unit->window);
    free(unit->packed);
    free(unit->foreign);
    free(unit->compare);
    free(unit->pieces);
    free(unit->placed);
    free(unit);
}

struct pl_piece *pl_convert_add_piece(struct pl_convert_unit *unit, enum pl_piece_kind kind,
                                      uint64_t at, uint64_t len, struct pl_err *e)
{
    if (unit->piece_count == unit->piece_room) {
        const size_t room = unit->piece_room ? 2 * unit->piece_room : 64;
        struct pl_piece *more = reallocarray(unit->pieces, room, sizeof *more);

        if (!more) {
            pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu pieces", room);
            return NULL;
        }
        unit->pieces = more;
        unit->piece_room = room;
    }
    unit->pieces[unit->piece_count] = (struct pl_piece){ .kind = kind, .at = at, .len = len };
    return &unit->pieces[unit->piece_count++];
}

/* Makes room in a raw target for the data that follows, up to the next long run of zeros. */
static void reserve_ahead(struct pl_convert_job *job)
{
    const uint64_t end = PL_MIN(job->planned + RESERVE_STEP, job->source.size);
    uint64_t to = job->planned;
    struct pl_located located;
    uint64_t image_at;

    while (to < end && pl_disk_locate(&job->source, to, end - to, &located, &image_at, NULL) == 0 &&
           (located.extent.state != PL_ZERO || located.extent.len < job->window))
        to += located.extent.len;
    pl_storage_reserve_ahead(job->target->file, job->planned, to - job->planned);
    job->reserved = PL_MAX(to, job->planned + job->window);
}

int pl_convert_next(void *ctx, void *arg, struct pl_err *e)
{
    struct pl_convert_job *job = ctx;
    struct pl_convert_unit *unit = arg;
    const uint64_t at = job->planned;
    uint64_t run = 0;

    if (at >= job->source.size)
        return 0;
    if (!job->whole && pl_disk_zero_run(&job->source, at, job->source.size - at, &run, e) < 0) {
        if (!job->options->salvage)
            return -1;
        run = 0; /* the window that cannot be mapped is salvaged by the worker */
    }
    unit->at = at;
    unit->zero = run > 0 && (run >= job->window || at + run == job->source.size);
    if (unit->zero && at + run < job->source.size)
        run = pl_round_down(at + run, job->window) - at;
    unit->len = unit->zero ? run : PL_MIN(job->window, job->source.size - at);
    if (!unit->zero && job->reserve && at >= job->reserved)
        reserve_ahead(job);
    job->planned += unit->len;
    return 1;
}
