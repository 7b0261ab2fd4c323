/* convert_place.c - room in the target, in guest order, and the writes, in any order.
 *
 * A new target has nothing to lose until it gets its name, so its tables are linked in the ordered
 * step, before the data are written: the same input then gives the same file, whatever the number
 * of threads.  An existing target is written through the image, which links behind the data. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/engine/convert_job.h"
#include "core/engine/zero_shown.h"

/* Room that formats append to is made in steps of this size. */
#define FILE_RESERVE_STEP (64 * PL_MIB)

/* Zeros found inside room made ahead are given back from this length on: shorter ones cost more
 * time than room. */
#define PUNCH_MIN (64 * PL_KIB)
#define PUNCH_LIST_MAX 65536u

static struct pl_placed *add_placed(struct pl_convert_unit *unit, struct pl_err *e)
{
    if (unit->placed_count == unit->placed_room) {
        const size_t room = unit->placed_room ? 2 * unit->placed_room : 64;
        struct pl_placed *more = reallocarray(unit->placed, room, sizeof *more);

        if (!more) {
            pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu writes", room);
            return NULL;
        }
        unit->placed = more;
        unit->placed_room = room;
    }
    return &unit->placed[unit->placed_count++];
}

static void reserve_behind(struct pl_convert_job *job, const struct pl_place *place)
{
    if (!job->reserve_file || place->st != job->target->file ||
        place->off + job->window <= job->reserved_file)
        return;
    job->reserved_file = PL_MAX(job->reserved_file, place->off);
    pl_storage_reserve_ahead(place->st, job->reserved_file, FILE_RESERVE_STEP);
    job->reserved_file += FILE_RESERVE_STEP;
}

uint64_t pl_convert_end_in_target(const struct pl_convert_job *job, uint64_t end)
{
    uint64_t whole = end;

    if (end == job->source.size)
        whole = PL_MIN(pl_round_up(end, job->target->layer.granule), pl_size(job->target));
    return PL_MAX(whole, end); /* a pipe has no size */
}

/* Plain bytes: as many places as the driver makes of them. */
static int place_plain(struct pl_convert_unit *unit, const struct pl_piece *piece, struct pl_err *e)
{
    struct pl_image *target = unit->job->target;
    const uint64_t len = pl_convert_end_in_target(unit->job, piece->at + piece->len) - piece->at;

    for (uint64_t done = 0; done < len;) {
        struct pl_placed *placed = add_placed(unit, e);

        if (!placed || target->driver->allocate(target->layer.state, piece->at + done, len - done,
                                                &placed->place, e) < 0)
            return -1;
        placed->len = PL_MIN(placed->place.len, len - done);
        placed->bytes = piece->kind == PL_PIECE_SHARE ? NULL : piece->bytes + done;
        placed->from = piece->from;
        placed->from_off = piece->from_off + done;
        reserve_behind(unit->job, &placed->place);
        if (placed->place.fresh && target->driver->link(target->layer.state, &placed->place, e) < 0)
            return -1;
        done += placed->len;
    }
    return 0;
}

/* The head is the driver's word; the rest of the frame is there already. */
static int place_packed(struct pl_convert_unit *unit, const struct pl_piece *piece,
                        struct pl_err *e)
{
    struct pl_image *target = unit->job->target;
    struct pl_placed *placed = add_placed(unit, e);

    if (!placed)
        return -1;
    *placed = (struct pl_placed){ .bytes = piece->frame, .len = piece->frame_len };
    if (target->driver->allocate_packed(target->layer.state, piece->at, piece->packed_len,
                                        &placed->place, e) < 0)
        return -1;
    memcpy(piece->frame, placed->place.head, target->layer.packed_head);
    reserve_behind(unit->job, &placed->place);
    return target->driver->link(target->layer.state, &placed->place, e);
}

/* Remembers zeros that lie in room made ahead. */
static int note_hole(struct pl_convert_job *job, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct pl_hole *last = job->hole_count ? &job->holes[job->hole_count - 1] : NULL;

    assert(last || !job->hole_count);
    if (last && last->off + last->len == off) {
        last->len += len;
        return 0;
    }
    if (job->hole_count == PUNCH_LIST_MAX && pl_convert_punch(job, e) < 0)
        return -1;
    if (job->hole_count == job->hole_room) {
        const size_t room = job->hole_room ? 2 * job->hole_room : 1024;
        struct pl_hole *more = reallocarray(job->holes, room, sizeof *more);

        if (!more)
            return pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu holes", room);
        job->holes = more;
        job->hole_room = room;
    }
    job->holes[job->hole_count++] = (struct pl_hole){ .off = off, .len = len };
    return 0;
}

int pl_convert_punch(struct pl_convert_job *job, struct pl_err *e)
{
    for (size_t i = 0; i < job->hole_count; i++)
        if (job->holes[i].len >= PUNCH_MIN &&
            pl_storage_zero(job->target->file, job->holes[i].off, job->holes[i].len, e) < 0)
            return -1;
    job->hole_count = 0;
    return 0;
}

static int place_zero(struct pl_convert_unit *unit, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct pl_convert_job *job = unit->job;

    job->zero += len;
    if (job->over_parent)
        return pl_zero_shown(job->target, at, len, e);
    if (job->write_zeros)
        return pl_zero(job->target, at, len, true, e);
    if (job->reserve && at < job->reserved)
        return note_hole(job, at, len, e);
    return 0;
}

static int place_piece(struct pl_convert_unit *unit, const struct pl_piece *piece, struct pl_err *e)
{
    switch (piece->kind) {
    case PL_PIECE_ZERO:
        return place_zero(unit, piece->at, piece->len, e);
    case PL_PIECE_PACKED:
        return place_packed(unit, piece, e);
    case PL_PIECE_BYTES:
    case PL_PIECE_SHARE:
        break;
    }
    return place_plain(unit, piece, e);
}

static int write_placed(struct pl_convert_unit *unit, struct pl_err *e);

int pl_convert_place(void *ctx, void *arg, struct pl_err *e)
{
    struct pl_convert_job *job = ctx;
    struct pl_convert_unit *unit = arg;

    job->done += unit->len;
    pl_progress(job->options->report, job->done, job->source.size);
    if (!job->fresh)
        return 0;
    if (unit->zero && job->over_parent)
        return place_zero(unit, unit->at,
                          pl_convert_end_in_target(job, unit->at + unit->len) - unit->at, e);
    for (size_t i = 0; i < unit->piece_count; i++)
        if (place_piece(unit, &unit->pieces[i], e) < 0)
            return -1;
    return job->sequential ? write_placed(unit, e) : 0;
}

/* Whether the next write follows the one at hand, in the file and in memory. */
static bool follows(const struct pl_placed *placed, size_t len, const struct pl_placed *next)
{
    return placed->bytes && next->bytes == placed->bytes + len &&
           next->place.st == placed->place.st && next->place.off == placed->place.off + len;
}

static int write_placed(struct pl_convert_unit *unit, struct pl_err *e)
{
    struct pl_convert_job *job = unit->job;

    for (size_t i = 0; i < unit->placed_count;) {
        const struct pl_placed *first = &unit->placed[i];
        size_t len = first->len;
        int result;

        for (i++; i < unit->placed_count && follows(first, len, &unit->placed[i]); i++)
            len += unit->placed[i].len;
        if (first->bytes)
            result = pl_storage_write(first->place.st, first->place.off, first->bytes, len, e);
        else
            result = pl_storage_copy(first->place.st, first->place.off, first->from,
                                     first->from_off, len, e);
        if (result < 0)
            return -1;
        if (!job->options->unsynced)
            pl_storage_settle(first->place.st, first->place.off, len);
        job->copied += len;
        if (!first->bytes)
            job->shared += len;
    }
    return 0;
}

/* One piece onto an existing image, through the image. */
static int overwrite(struct pl_convert_unit *unit, const struct pl_piece *piece, struct pl_err *e)
{
    struct pl_convert_job *job = unit->job;
    struct pl_image *target = job->target;
    struct pl_place place;

    if (piece->kind == PL_PIECE_ZERO) {
        job->zero += piece->len;
        return job->write_zeros ? pl_zero(target, piece->at, piece->len, true, e) : 0;
    }
    job->copied += piece->len;
    if (piece->kind == PL_PIECE_BYTES)
        return pl_write(target, piece->at, piece->bytes, piece->len, e);
    if (target->driver->allocate_packed(target->layer.state, piece->at, piece->packed_len, &place,
                                        e) < 0)
        return -1;
    if (pl_storage_write(place.st, place.off, piece->bytes, piece->packed_len, e) < 0) {
        target->driver->cancel(target->layer.state, &place);
        return -1;
    }
    if (target->driver->link(target->layer.state, &place, e) < 0) {
        target->broken = true;
        return -1;
    }
    return 0;
}

int pl_convert_finish(void *ctx, void *arg, struct pl_err *e)
{
    struct pl_convert_job *job = ctx;
    struct pl_convert_unit *unit = arg;

    if (job->fresh && !job->sequential && write_placed(unit, e) < 0)
        return -1;
    for (size_t i = 0; !job->fresh && i < unit->piece_count; i++)
        if (overwrite(unit, &unit->pieces[i], e) < 0)
            return -1;
    return pl_rate_keep(&job->rate, job->copied, e);
}
