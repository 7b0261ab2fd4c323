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

/* Where the next compressed unit goes: behind room for the format's head. */
static uint8_t *next_packed(const struct pl_convert_unit *unit)
{
    return unit->packed + unit->packed_used + unit->job->target->layer.packed_head;
}

/* The packed_len bytes at next_packed are a unit for guest [at, at + len). */
static int add_packed(struct pl_convert_unit *unit, uint64_t at, uint64_t len, size_t packed_len,
                      struct pl_err *e)
{
    const struct pl_layer *target = &unit->job->target->layer;
    struct pl_piece *piece = pl_convert_add_piece(unit, PL_PIECE_PACKED, at, len, e);
    const size_t used = target->packed_head + packed_len;

    if (!piece)
        return -1;
    piece->bytes = next_packed(unit);
    piece->packed_len = (uint32_t)packed_len;
    piece->frame = unit->packed + unit->packed_used;
    piece->frame_len = (uint32_t)pl_round_up(used, PL_MAX(target->packed_align, 1u));
    memset(piece->frame + used, 0, piece->frame_len - used);
    unit->packed_used += piece->frame_len;
    return 0;
}

/* One cluster as a compressed unit if that makes it smaller or the format has nothing else; else as
 * bytes, as also a part of a cluster whose rest an existing target keeps. */
static int pack_cluster(struct pl_convert_unit *unit, uint64_t at, const uint8_t *bytes,
                        uint64_t len, struct pl_err *e)
{
    const struct pl_layer *target = &unit->job->target->layer;
    const uint32_t unit_len = target->unit_len;
    struct pl_piece *piece;
    size_t packed_len =
        target->packed_only ? unit->job->packed_room - target->packed_head : unit_len - 1;
    const bool part = !unit->job->fresh && len < unit_len && at + len < target->size;
    const int result =
        part ? 1 : pl_pack(unit->packer, bytes, unit_len, next_packed(unit), &packed_len, e);

    if (result < 0)
        return -1;
    if (result == 0)
        return add_packed(unit, at, len, packed_len, e);
    piece = pl_convert_add_piece(unit, PL_PIECE_BYTES, at, len, e);
    if (!piece)
        return -1;
    piece->bytes = bytes;
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

/* Zeros pack to less than that, also where a format counts whole sectors: such units are looked at,
 * for what is zero stays sparse. */
#define MAYBE_ZERO(unit_len) ((unit_len) / 256 + 1024)

/* Whether the run at `at` is one whole compressed unit of the target's size that can be taken over:
 * no format keeps a unit that packing did not make smaller, unless it has nothing else. */
static bool is_whole_unit(const struct pl_convert_unit *unit, const struct pl_extent *x,
                          uint64_t at, uint64_t image_at)
{
    const struct pl_disk *source = &unit->job->source;
    const struct pl_layer *target = &unit->job->target->layer;
    const uint64_t most =
        target->packed_only ? unit->job->packed_room - target->packed_head : target->unit_len - 1;

    return x->state == PL_PACKED && x->unit_len == target->unit_len && x->unit_at == image_at &&
           at % x->unit_len == 0 && x->len == PL_MIN(x->unit_len, source->size - at) &&
           (x->len == x->unit_len || !source->cut) && /* or it has more than is wanted */
           x->packed_len <= most;
}

/* Whether guest [at, at + len) of the window, of which the packed bytes are few, is zeros. */
static int is_packed_zero(struct pl_convert_unit *unit, uint64_t at, const struct pl_extent *x,
                          bool *zero, struct pl_err *e)
{
    uint8_t *bytes = unit->window + (at - unit->at);

    *zero = false;
    if (!unit->job->scan || x->packed_len > MAYBE_ZERO(x->unit_len))
        return 0;
    if (read_bytes(unit->job, at, bytes, x->len, e) < 0)
        return -1;
    *zero = pl_is_zero(bytes, x->len);
    return 0;
}

/* Takes the compressed bytes over unseen: all that the unit may occupy, which for formats that
 * count whole sectors is a little more than it does. */
static int pass(struct pl_convert_unit *unit, uint64_t at, const struct pl_extent *x,
                struct pl_err *e)
{
    bool zero;

    if (is_packed_zero(unit, at, x, &zero, e) < 0)
        return -1;
    if (zero)
        return pl_convert_add_piece(unit, PL_PIECE_ZERO, at, x->len, e) ? 0 : -1;
    if (pl_storage_read_padded(x->st, x->off, next_packed(unit), x->packed_len, e) < 0)
        return -1;
    unit->job->passed += x->len;
    return add_packed(unit, at, x->len, x->packed_len, e);
}

/* Puts the compressed stream into the target's frame.  To check it and to learn its end it is
 * unpacked, into its place in the window, from where it is packed anew if it is an odd one. */
static int reframe(struct pl_convert_unit *unit, uint64_t at, const struct pl_extent *x,
                   struct pl_err *e)
{
    const uint64_t off = at - unit->at;
    const struct pl_foreign_unit foreign = {
        .from = x->codec,
        .packed = unit->foreign,
        .packed_len = x->packed_len,
        .unit = unit->window + off,
        .unit_len = x->unit_len,
    };
    size_t packed_len = unit->job->packed_room - unit->job->target->layer.packed_head;
    int result;

    if (pl_storage_read_padded(x->st, x->off, unit->foreign, x->packed_len, e) < 0)
        return -1;
    result = pl_reframe(unit->packer, &foreign, next_packed(unit), &packed_len, e);
    if (result < 0)
        return pl_within(e, "compressed unit of guest address 0x%" PRIx64 " at offset 0x%" PRIx64,
                         at, x->off);
    if (result == 1 || (unit->job->scan && pl_is_zero(unit->window + off, x->len))) {
        memset(unit->window + off + x->len, 0, x->unit_len - x->len); /* behind the disk's end */
        return split(unit, off, off + x->len, e);
    }
    unit->job->passed += x->len;
    return add_packed(unit, at, x->len, packed_len, e);
}

typedef int passing(struct pl_convert_unit *unit, uint64_t at, const struct pl_extent *x,
                    struct pl_err *e);

/* How a whole unit is taken over; null: it is not. */
static passing *passing_of(const struct pl_convert_unit *unit, const struct pl_extent *x)
{
    if (x->codec == unit->job->codec)
        return pass;
    return unit->foreign && pl_can_reframe(x->codec, unit->job->codec) ? reframe : NULL;
}

/* Passes compressed units through; what lies between them is read. */
static int work_passing(struct pl_convert_unit *unit, struct pl_err *e)
{
    uint64_t plain = 0; /* start of what was not passed since the last unit that was */

    for (uint64_t off = 0; off < unit->len;) {
        struct pl_located located;
        uint64_t image_at;
        passing *passes;

        if (pl_disk_locate(&unit->job->source, unit->at + off, unit->len - off, &located, &image_at,
                           e) < 0)
            return -1;
        passes = is_whole_unit(unit, &located.extent, unit->at + off, image_at)
                     ? passing_of(unit, &located.extent)
                     : NULL;
        if (passes) {
            if (take_bytes(unit, plain, off, e) < 0 ||
                passes(unit, unit->at + off, &located.extent, e) < 0)
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
