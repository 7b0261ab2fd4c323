/* convert_work.c - what is in a window: zeros, bytes, compressed units, as the target can take
 * them. */
#include <inttypes.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/zero.h"
#include "core/engine/convert_job.h"

/* Unreadable parts are looked for in steps of this many bytes. */
#define SALVAGE_STEP 4096u

/* Reads what can be read, zeros for the rest, and says so. */
static void salvage(struct pl_convert_job *job, uint64_t at, uint8_t *buf, size_t len)
{
    uint64_t lost = 0, first = 0;
    struct pl_err why = { 0 };

    for (size_t done = 0; done < len;) {
        const size_t piece = PL_MIN(len - done, SALVAGE_STEP);

        if (pl_disk_read(&job->source, at + done, buf + done, piece, &why) < 0) {
            memset(buf + done, 0, piece);
            if (!lost)
                first = at + done;
            lost += piece;
        }
        done += piece;
    }
    if (lost)
        pl_warn(job->options->report,
                "%" PRIu64 " bytes from guest address 0x%" PRIx64
                " on cannot be read, zeros instead: %s",
                lost, first, why.msg);
}

static int read_bytes(struct pl_convert_job *job, uint64_t at, uint8_t *buf, size_t len,
                      struct pl_err *e)
{
    if (pl_disk_read(&job->source, at, buf, len, e) == 0)
        return 0;
    if (!job->options->salvage)
        return -1;
    salvage(job, at, buf, len);
    return 0;
}

/* One cluster as a compressed unit if that makes it smaller, else as bytes, as also a part of a
 * cluster whose rest an existing target keeps. */
static int pack_cluster(struct pl_convert_unit *unit, uint64_t at, const uint8_t *bytes,
                        uint64_t len, struct pl_err *e)
{
    const uint32_t unit_len = unit->job->target->layer.unit_len;
    uint8_t *to = unit->packed + unit->packed_used;
    struct pl_piece *piece;
    size_t packed_len = unit_len - 1;
    const bool part =
        !unit->job->fresh && len < unit_len && at + len < unit->job->target->layer.size;
    const int result = part ? 1 : pl_pack(unit->packer, bytes, unit_len, to, &packed_len, e);

    if (result < 0)
        return -1;
    piece = pl_convert_add_piece(unit, result == 0 ? PL_PIECE_PACKED : PL_PIECE_BYTES, at, len, e);
    if (!piece)
        return -1;
    piece->bytes = result == 0 ? to : bytes;
    if (result == 0) {
        piece->packed_len = (uint32_t)packed_len;
        unit->packed_used += packed_len;
    }
    return 0;
}

static int add_data(struct pl_convert_unit *unit, uint64_t at, const uint8_t *bytes, uint64_t len,
                    struct pl_err *e)
{
    const uint32_t unit_len = unit->job->target->layer.unit_len;
    struct pl_piece *piece;

    if (unit->job->codec) {
        for (uint64_t done = 0; done < len; done += unit_len)
            if (pack_cluster(unit, at + done, bytes + done, PL_MIN(unit_len, len - done), e) < 0)
                return -1;
        return 0;
    }
    piece = pl_convert_add_piece(unit, PL_PIECE_BYTES, at, len, e);
    if (!piece)
        return -1;
    piece->bytes = bytes;
    return 0;
}

/* Whether the target's parent shows the same bytes, so that nothing needs to be stored. */
static int parent_has(struct pl_convert_unit *unit, uint64_t at, const uint8_t *bytes, uint64_t len,
                      bool *same, struct pl_err *e)
{
    struct pl_image *parent = unit->job->target->parent;
    const uint64_t size = pl_size(parent);
    const uint64_t there = at < size ? PL_MIN(len, size - at) : 0;

    if (pl_read(parent, PL_MIN(at, size), unit->compare, there, e) < 0)
        return -1;
    memset(unit->compare + there, 0, len - there);
    *same = memcmp(unit->compare, bytes, len) == 0;
    return 0;
}

/* Like split, step by step, leaving out what the parent has. */
static int split_over_parent(struct pl_convert_unit *unit, struct pl_err *e)
{
    const uint32_t step = unit->job->step;
    const uint64_t end = pl_convert_end_in_target(unit->job, unit->at + unit->len) - unit->at;

    for (uint64_t off = 0; off < end; off += step) {
        const uint64_t len = PL_MIN(step, end - off);
        const uint8_t *bytes = unit->window + off;
        bool same;

        if (parent_has(unit, unit->at + off, bytes, len, &same, e) < 0)
            return -1;
        if (same)
            continue;
        if (pl_is_zero(bytes, len)) {
            if (!pl_convert_add_piece(unit, PL_PIECE_ZERO, unit->at + off, len, e))
                return -1;
        } else if (add_data(unit, unit->at + off, bytes, len, e) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Splits bytes of the window, [from, to) in it, into zeros and data. */
static int split(struct pl_convert_unit *unit, uint64_t from, uint64_t to, struct pl_err *e)
{
    for (uint64_t off = from; off < to;) {
        bool zero = false;
        uint64_t len = to - off;

        if (unit->job->scan)
            len = pl_zero_run(unit->window + off, len, unit->job->step, &zero);
        if (zero && !pl_convert_add_piece(unit, PL_PIECE_ZERO, unit->at + off, len, e))
            return -1;
        if (!zero && add_data(unit, unit->at + off, unit->window + off, len, e) < 0)
            return -1;
        off += len;
    }
    return 0;
}

/* Reads [from, to) of the window and splits it. */
static int take_bytes(struct pl_convert_unit *unit, uint64_t from, uint64_t to, struct pl_err *e)
{
    if (from == to)
        return 0;
    if (read_bytes(unit->job, unit->at + from, unit->window + from, to - from, e) < 0)
        return -1;
    return split(unit, from, to, e);
}

/* Whether the run at `at` is a compressed unit that the target can hold as it is: no format keeps a
 * unit that packing did not make smaller. */
static bool can_pass(const struct pl_convert_unit *unit, const struct pl_extent *x, uint64_t at,
                     uint64_t image_at)
{
    const struct pl_layer *target = &unit->job->target->layer;
    const uint64_t end = unit->job->source.size;

    return x->state == PL_PACKED && x->codec == target->codec && x->unit_len == target->unit_len &&
           x->unit_at == image_at && at % x->unit_len == 0 &&
           x->len == PL_MIN(x->unit_len, end - at) && x->packed_len < x->unit_len &&
           x->packed_len <= unit->job->window - unit->packed_used;
}

/* Takes the compressed bytes over unseen: all that the unit may occupy, which for formats that
 * count whole sectors is a little more than it does. */
static int pass(struct pl_convert_unit *unit, uint64_t at, const struct pl_extent *x,
                struct pl_err *e)
{
    uint8_t *to = unit->packed + unit->packed_used;
    struct pl_piece *piece;

    if (pl_storage_read_padded(x->st, x->off, to, x->packed_len, e) < 0)
        return -1;
    piece = pl_convert_add_piece(unit, PL_PIECE_PACKED, at, x->len, e);
    if (!piece)
        return -1;
    piece->bytes = to;
    piece->packed_len = x->packed_len;
    unit->packed_used += x->packed_len;
    unit->job->passed += x->len;
    return 0;
}

/* Passes compressed units through; what lies between them is read. */
static int work_passing(struct pl_convert_unit *unit, struct pl_err *e)
{
    uint64_t plain = 0; /* start of what was not passed since the last unit that was */

    for (uint64_t off = 0; off < unit->len;) {
        struct pl_located located;
        uint64_t image_at;

        if (pl_disk_locate(&unit->job->source, unit->at + off, unit->len - off, &located, &image_at,
                           e) < 0)
            return -1;
        if (can_pass(unit, &located.extent, unit->at + off, image_at)) {
            if (take_bytes(unit, plain, off, e) < 0 ||
                pass(unit, unit->at + off, &located.extent, e) < 0)
                return -1;
            plain = off + located.extent.len;
        }
        off += located.extent.len;
    }
    return take_bytes(unit, plain, unit->len, e);
}

/* Leaves whole steps of plain bytes in their storage for the host to copy; zeros, compressed units
 * and what fills no step become bytes. */
static int work_sharing(struct pl_convert_unit *unit, struct pl_err *e)
{
    const uint32_t step = unit->job->step;

    for (uint64_t off = 0; off < unit->len;) {
        struct pl_located located;
        uint64_t image_at, len;

        if (pl_disk_locate(&unit->job->source, unit->at + off, unit->len - off, &located, &image_at,
                           e) < 0)
            return -1;
        len = located.extent.len;
        if (located.extent.state == PL_DATA && len >= step) {
            struct pl_piece *piece;

            len = pl_round_down(len, step);
            piece = pl_convert_add_piece(unit, PL_PIECE_SHARE, unit->at + off, len, e);
            if (!piece)
                return -1;
            piece->from = located.extent.st;
            piece->from_off = located.extent.off;
        } else {
            len = PL_MIN(unit->len - off, pl_round_up(len, step));
            if (take_bytes(unit, off, off + len, e) < 0)
                return -1;
        }
        off += len;
    }
    return 0;
}

int pl_convert_work(void *ctx, void *arg, struct pl_err *e)
{
    struct pl_convert_job *job = ctx;
    struct pl_convert_unit *unit = arg;

    unit->piece_count = 0;
    unit->placed_count = 0;
    unit->packed_used = 0;
    if (unit->zero && !job->over_parent)
        return pl_convert_add_piece(unit, PL_PIECE_ZERO, unit->at, unit->len, e) ? 0 : -1;
    if (unit->zero)
        return 0; /* place looks where the parent is not zero */
    /* a last cluster that the disk does not fill is packed whole */
    memset(unit->window + unit->len, 0,
           PL_MIN(job->window - unit->len, PL_MAX(job->target->layer.unit_len, job->step)));
    if (job->pass_through && !job->over_parent)
        return work_passing(unit, e);
    if (job->share)
        return work_sharing(unit, e);
    if (!job->over_parent)
        return take_bytes(unit, 0, unit->len, e);
    if (read_bytes(job, unit->at, unit->window, unit->len, e) < 0)
        return -1;
    return split_over_parent(unit, e);
}
