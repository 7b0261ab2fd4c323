/* vmdk.c - the driver: finds the extent that an address belongs to and hands the question on, with
 * an address that counts from the extent's start.  No answer crosses the border of an extent. */
#include "formats/vmdk/vmdk.h"

#include <inttypes.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/vmdk/create.h"
#include "formats/vmdk/parent.h"

static bool vmdk_probe(const struct pl_probe *probe)
{
    const uint32_t magic = probe->len >= 4 ? load_le32(probe->head) : 0;

    return magic == VMDK_MAGIC || magic == VMDK_COWD_MAGIC ||
           vmdk_descriptor_probe(probe->head, probe->len);
}

struct vmdk_part *vmdk_part_at(const struct vmdk *v, uint64_t at)
{
    size_t low = 0, high = v->count - 1;

    while (low < high) {
        const size_t middle = high - (high - low) / 2;

        if (v->parts[middle].extent.start <= at)
            low = middle;
        else
            high = middle - 1;
    }
    return &v->parts[low];
}

/* Why a part without an open extent has none. */
static int no_access(const struct vmdk *v, const struct vmdk_part *part, struct pl_err *e)
{
    if (part->missing)
        pl_fail(e, PL_E_NOT_FOUND, "its file is missing");
    else
        pl_fail(e, PL_E_UNSUPPORTED, "the descriptor forbids access to it (NOACCESS)");
    return vmdk_within(v, part, e);
}

static uint64_t clip(const struct vmdk_extent *x, uint64_t at, uint64_t len)
{
    return PL_MIN(len, x->start + x->size - at);
}

static int vmdk_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
{
    const struct vmdk *v = state;
    const struct vmdk_part *part = vmdk_part_at(v, at);
    const struct vmdk_extent *x = &part->extent;

    if (!x->ops)
        return no_access(v, part, e);
    if (x->ops->map(x->state, at - x->start, clip(x, at, len), out, e) < 0)
        return vmdk_within(v, part, e);
    out->unit_at += x->start;
    return 0;
}

/* The part that is about to change at `at`; null: it cannot. */
static const struct vmdk_part *part_to_change(struct vmdk *v, uint64_t at, struct pl_err *e)
{
    const struct vmdk_part *part = vmdk_part_at(v, at);

    if (!vmdk_may_write(v, part)) {
        const struct vmdk_line *line = vmdk_line_of(v, part);

        if (part->missing)
            pl_fail(e, PL_E_NOT_FOUND, "its file is missing");
        else if (line && line->access != VMDK_RW && part->extent.file != v->file)
            pl_fail(e, PL_E_UNSUPPORTED, "the descriptor forbids writing to it (%s)",
                    vmdk_access_name(line->access));
        else
            pl_fail(e, PL_E_UNSUPPORTED, "%s extents cannot be written", part->extent.ops->kind);
        vmdk_within(v, part, e);
        return NULL;
    }
    return vmdk_before_change(v, e) < 0 ? NULL : part;
}

static int vmdk_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out,
                         struct pl_err *e)
{
    const struct vmdk_part *part = part_to_change(state, at, e);
    const struct vmdk_extent *x;

    if (!part)
        return -1;
    x = &part->extent;
    if (!x->ops->allocate)
        return pl_fail(e, PL_E_UNSUPPORTED, "%s extents hold compressed grains only", x->ops->kind);
    if (x->ops->allocate(x->state, at - x->start, clip(x, at, len), out, e) < 0)
        return vmdk_within(state, part, e);
    out->at += x->start;
    return 0;
}

static int vmdk_allocate_packed(void *state, uint64_t at, uint32_t packed_len, struct pl_place *out,
                                struct pl_err *e)
{
    const struct vmdk_part *part = part_to_change(state, at, e);
    const struct vmdk_extent *x;

    if (!part)
        return -1;
    x = &part->extent;
    if (!x->ops->allocate_packed)
        return pl_fail(e, PL_E_UNSUPPORTED, "%s extents hold no compressed grains", x->ops->kind);
    if (x->ops->allocate_packed(x->state, at - x->start, packed_len, out, e) < 0)
        return vmdk_within(state, part, e);
    out->at += x->start;
    return 0;
}

static int vmdk_link(void *state, const struct pl_place *place, struct pl_err *e)
{
    const struct vmdk_part *part = vmdk_part_at(state, place->at);
    const struct vmdk_extent *x = &part->extent;
    struct pl_place own = *place;

    own.at -= x->start;
    return x->ops->link(x->state, &own, e) < 0 ? vmdk_within(state, part, e) : 0;
}

static void vmdk_cancel(void *state, const struct pl_place *place)
{
    const struct vmdk_extent *x = &vmdk_part_at(state, place->at)->extent;
    struct pl_place own = *place;

    own.at -= x->start;
    if (x->ops->cancel)
        x->ops->cancel(x->state, &own);
}

static int vmdk_zero(void *state, uint64_t at, uint64_t len, bool unmap, struct pl_err *e)
{
    while (len > 0) {
        const struct vmdk_part *part = part_to_change(state, at, e);
        uint64_t here;
        int result = 1;

        if (!part)
            return -1;
        here = clip(&part->extent, at, len);
        if (part->extent.ops->zero)
            result =
                part->extent.ops->zero(part->extent.state, at - part->extent.start, here, unmap, e);
        if (result != 0)
            return result < 0 ? vmdk_within(state, part, e) : 1;
        at += here;
        len -= here;
    }
    return 0;
}

/* What cannot be discarded is left alone. */
static int vmdk_discard(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    struct vmdk *v = state;

    while (len > 0) {
        const struct vmdk_part *part = vmdk_part_at(v, at);
        const struct vmdk_extent *x = &part->extent;
        const uint64_t here = clip(x, at, len);

        if (vmdk_may_write(v, part) && x->ops->discard) {
            if (vmdk_before_change(v, e) < 0)
                return -1;
            if (x->ops->discard(x->state, at - x->start, here, e) < 0)
                return vmdk_within(v, part, e);
        }
        at += here;
        len -= here;
    }
    return 0;
}

static int vmdk_forget(void *state, uint64_t at, uint64_t len, struct pl_err *e)
{
    while (len > 0) {
        const struct vmdk_part *part = part_to_change(state, at, e);
        const struct vmdk_extent *x;
        uint64_t here;

        if (!part)
            return -1;
        x = &part->extent;
        here = clip(x, at, len);
        if (!x->ops->forget) {
            pl_fail(e, PL_E_UNSUPPORTED, "%s extents leave nothing to a backing file",
                    x->ops->kind);
            return vmdk_within(state, part, e);
        }
        if (x->ops->forget(x->state, at - x->start, here, e) < 0)
            return vmdk_within(state, part, e);
        at += here;
        len -= here;
    }
    return 0;
}

/* Runs a slot of every extent that has it. */
static int each(const struct vmdk *v, int (*run)(const struct vmdk_part *part, struct pl_err *e),
                struct pl_err *e)
{
    for (size_t i = 0; i < v->count; i++)
        if (vmdk_may_write(v, &v->parts[i]) && run(&v->parts[i], e) < 0)
            return vmdk_within(v, &v->parts[i], e);
    return 0;
}

/* A flat file that several extents share is flushed once. */
static int flush_one(const struct vmdk_part *part, struct pl_err *e)
{
    const struct vmdk_extent *x = &part->extent;

    return x->ops->flush && !part->repeated ? x->ops->flush(x->state, e) : 0;
}

static int finish_one(const struct vmdk_part *part, struct pl_err *e)
{
    const struct vmdk_extent *x = &part->extent;

    return x->ops->finish ? x->ops->finish(x->state, e) : 0;
}

static int vmdk_flush(void *state, struct pl_err *e)
{
    return each(state, flush_one, e);
}

static int vmdk_finish(void *state, struct pl_err *e)
{
    return each(state, finish_one, e);
}

static int vmdk_compact(void *state, const struct pl_report *report, uint64_t *freed,
                        struct pl_err *e)
{
    const struct vmdk *v = state;
    bool any = false;

    *freed = 0;
    for (size_t i = 0; i < v->count; i++) {
        const struct vmdk_extent *x = &v->parts[i].extent;
        uint64_t bytes = 0;

        if (!vmdk_may_write(v, &v->parts[i]) || !x->ops->compact)
            continue;
        if (x->ops->compact(x->state, report, &bytes, e) < 0)
            return vmdk_within(v, &v->parts[i], e);
        *freed += bytes;
        any = true;
    }
    return any ? 0
               : pl_fail(e, PL_E_UNSUPPORTED, "%s extents cannot be made shorter",
                         v->parts[0].extent.ops ? v->parts[0].extent.ops->kind : "such");
}

extern const struct pl_driver pl_vmdk;
const struct pl_driver pl_vmdk = {
    .name = "vmdk",
    .spec = "VMware, Virtual Disk Format 5.0",
    .create_options = vmdk_create_options,
    .streams = true,
    .probe = vmdk_probe,
    .open = vmdk_open,
    .map = vmdk_map,
    .close = vmdk_close,
    .allocate = vmdk_allocate,
    .allocate_packed = vmdk_allocate_packed,
    .link = vmdk_link,
    .cancel = vmdk_cancel,
    .zero = vmdk_zero,
    .discard = vmdk_discard,
    .forget = vmdk_forget,
    .flush = vmdk_flush,
    .finish = vmdk_finish,
    .create = vmdk_create,
    .resize = vmdk_resize,
    .compact = vmdk_compact,
    .set_parent = vmdk_set_parent,
    .check = vmdk_check,
    .measure = vmdk_measure,
    .disk_usage = vmdk_disk_usage,
    .info = vmdk_info,
};
