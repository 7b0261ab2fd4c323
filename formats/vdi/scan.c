/* scan.c - all entries of the map, in one pass over it in large pieces. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/buffer.h"
#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vdi/vdi.h"

#define PIECE (256 * PL_KIB)

int vdi_walk(struct vdi *v, uint64_t from, uint64_t count, vdi_visit *visit, void *ctx,
             struct pl_err *e)
{
    PL_FREE uint8_t *piece = pl_buffer(PL_MIN(PIECE, 4 * count));

    if (!piece)
        return pl_fail(e, PL_E_NOMEM, "block map: no memory to read it");
    for (uint64_t done = 0; done < count;) {
        const uint64_t n = PL_MIN(PIECE / 4, count - done);

        if (pl_storage_read(v->map_storage, 4 * (from + done), piece, 4 * n, e) < 0)
            return -1;
        for (uint64_t i = 0; i < n; i++) {
            const int result = visit(ctx, from + done + i, load_le32(piece + 4 * i), e);

            if (result != 0)
                return result;
        }
        done += n;
    }
    return 0;
}

struct scan {
    struct vdi *v;
    const struct pl_report *tell; /* null: only count */
    struct vdi_findings *out;
    uint64_t blocks;   /* that the disk has */
    uint64_t expected; /* the place that would follow the last one */
};

static void tell_outside(const struct scan *s, uint64_t index, uint32_t entry)
{
    s->out->outside++;
    if (s->tell)
        pl_warn(s->tell,
                "block map: entry %" PRIu64 " (0x%" PRIx32 "): its block at 0x%" PRIx64
                " is past the end of the file",
                index, entry, vdi_place_offset(s->v, entry));
}

static void tell_shared(const struct scan *s, uint64_t index, uint32_t entry)
{
    s->out->shared++;
    if (s->tell)
        pl_warn(s->tell,
                "block map: entry %" PRIu64 " (0x%" PRIx32 "): its place is another block's", index,
                entry);
}

static int visit(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e)
{
    struct scan *s = ctx;
    struct vdi_findings *out = s->out;
    bool again = false;

    if (!vdi_is_place(entry))
        return 0;
    if (index >= s->blocks) {
        out->beyond++;
        return 0;
    }
    if (!vdi_place_inside(s->v, index, entry, s->v->file_end)) {
        tell_outside(s, index, entry);
        return 0;
    }
    if (vdi_mark_place(&s->v->room, entry, &again, e) < 0)
        return -1;
    if (again) {
        tell_shared(s, index, entry);
        return 0;
    }
    out->used++;
    out->end = PL_MAX(out->end, (uint64_t)entry + 1);
    out->fragmented += entry != s->expected;
    s->expected = (uint64_t)entry + 1;
    return 0;
}

/* Places that the file has, whole or in part, as far as blocks may use them. */
static uint64_t places_in_file(const struct vdi *v)
{
    const uint64_t data = v->header.data_offset;
    const uint64_t places = v->file_end > data ? pl_div_up(v->file_end - data, v->stride) : 0;

    return PL_MIN(places, v->header.blocks);
}

int vdi_scan(struct vdi *v, const struct pl_report *tell, struct vdi_findings *out,
             struct pl_err *e)
{
    struct scan s = {
        .v = v, .tell = tell, .out = out, .blocks = vdi_blocks_of(&v->header, v->header.disk_size)
    };

    *out = (struct vdi_findings){ 0 };
    vdi_forget_room(&v->room);
    /* A map that was just written has nothing to tell, but for the blocks of a static image. */
    if (v->fresh && !v->changed && v->header.allocated == 0)
        return 0;
    if (vdi_walk(v, 0, v->header.blocks, visit, &s, e) < 0)
        return -1;
    if (!v->file->device)
        v->room.end = PL_MAX(v->room.end, places_in_file(v));
    return 0;
}
