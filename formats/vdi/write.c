/* write.c - room for blocks, and the entries that show it. */
#include <inttypes.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/vdi/vdi.h"

/* Room in new places for a prefix of the range, whose `count` blocks have none. */
static int new_room(struct vdi *v, uint64_t at, uint64_t len, uint64_t count, struct pl_place *out,
                    struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint32_t granule = v->has_parent ? v->header.block_size : VDI_GEOMETRY_SECTOR;
    const uint64_t in = at & (v->header.block_size - 1);
    uint64_t place, got;

    len = PL_MIN(len, (count << v->block_bits) - in);
    if (at + len != v->header.disk_size)
        len = pl_round_down(len, granule);
    if (at % granule || !len)
        return pl_fail(e, PL_E_INVALID,
                       "new room at 0x%" PRIx64 " was asked for, which is no whole number of "
                       "%" PRIu32 " bytes",
                       at, granule);
    count = v->header.block_extra ? 1 : pl_div_up(in + len, v->header.block_size);
    if (vdi_take_places(v, count, v->header.blocks, &place, &got, e) < 0)
        return -1;
    *out = (struct pl_place){
        .at = at,
        .len = PL_MIN(len, (got << v->block_bits) - in),
        .st = v->file,
        .off = vdi_place_offset(v, place) + v->header.block_extra + in,
        .fresh = true,
        .zeroed = true,
        .token = place,
    };
    return 0;
}

int vdi_allocate(void *state, uint64_t at, uint64_t len, struct pl_place *out, struct pl_err *e)
{
    struct vdi *v = state;
    const uint64_t index = at >> v->block_bits, in = at & (v->header.block_size - 1);
    uint32_t count, first;
    uint8_t *entries;
    uint64_t run;

    PL_LOCKED(&v->lock);
    if (vdi_begin_change(v, e) < 0)
        return -1;
    if (!len || !pl_inside(at, len, v->header.disk_size))
        return pl_fail(e, PL_E_LIMIT, "[0x%" PRIx64 ", +0x%" PRIx64 ") is outside the disk", at,
                       len);
    if (vdi_entries(v, index, &entries, &count, e) < 0)
        return -1;
    count = (uint32_t)PL_MIN(count, pl_div_up(in + len, v->header.block_size));
    run = vdi_run(v, index, entries, count, v->file_end);
    first = load_le32(entries);
    if (!vdi_is_place(first))
        return new_room(v, at, len, run, out, e);
    if (vdi_check_place(v, index, first, v->file_end, e) < 0)
        return -1;
    *out = (struct pl_place){
        .at = at,
        .len = PL_MIN(len, (run << v->block_bits) - in),
        .st = v->file,
        .off = vdi_place_offset(v, first) + v->header.block_extra + in,
    };
    return 0;
}

int vdi_link(void *state, const struct pl_place *place, struct pl_err *e)
{
    struct vdi *v = state;
    const uint64_t first = place->at >> v->block_bits;
    const uint64_t last = (place->at + place->len - 1) >> v->block_bits;

    PL_LOCKED(&v->lock);
    if (vdi_check_writable(v, e) < 0)
        return -1;
    for (uint64_t index = first; index <= last;) {
        uint32_t count;
        uint8_t *entry;

        if (vdi_entries(v, index, &entry, &count, e) < 0) {
            /* Places that are linked already must not be given back by cancel. */
            v->broken = v->broken || index != first;
            return -1;
        }
        for (; count && index <= last; count--, index++, entry += 4)
            vdi_set_entry(v, index, entry, (uint32_t)(place->token + (index - first)));
    }
    return 0;
}

void vdi_cancel(void *state, const struct pl_place *place)
{
    struct vdi *v = state;
    const uint64_t in = place->at & (v->header.block_size - 1);

    PL_LOCKED(&v->lock);
    if (place->fresh && !v->broken)
        vdi_give_places(v, place->token, pl_div_up(in + place->len, v->header.block_size));
}
