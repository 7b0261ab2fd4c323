/* room.c - places of the data area: which are used, and new ones.
 *
 * One bit a place.  Places at or behind cBlocks have none: blocks of foreign files may be there,
 * none is put there.  A place that is free is below cBlocks whenever a block needs one, for there
 * are cBlocks blocks at most that have one; it may have to be released first. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "formats/vdi/vdi.h"

/* A longer list of places that wait to be released causes a write-back. */
#define FREED_MAX 4096

void vdi_forget_room(struct vdi_room *room)
{
    free(room->used);
    *room = (struct vdi_room){ 0 };
}

static bool is_used(const struct vdi_room *room, uint64_t place)
{
    return place < room->bits_room && room->used[place / 8] & 1u << place % 8;
}

/* Makes bits for the places below `count`. */
static int make_bits(struct vdi_room *room, uint64_t count, struct pl_err *e)
{
    uint64_t bits = PL_MAX(count, 2 * room->bits_room);
    uint8_t *more;

    if (count <= room->bits_room)
        return 0;
    bits = pl_round_up(PL_MAX(bits, 4096), 8);
    more = realloc(room->used, bits / 8);
    if (!more)
        return pl_fail(e, PL_E_NOMEM, "no memory for what is known of %" PRIu64 " places", bits);
    memset(more + room->bits_room / 8, 0, (bits - room->bits_room) / 8);
    room->used = more;
    room->bits_room = bits;
    return 0;
}

int vdi_mark_place(struct vdi_room *room, uint64_t place, bool *again, struct pl_err *e)
{
    *again = is_used(room, place);
    if (make_bits(room, place + 1, e) < 0)
        return -1;
    room->used[place / 8] |= (uint8_t)(1u << place % 8);
    room->end = PL_MAX(room->end, place + 1);
    return 0;
}

uint64_t vdi_lowest_unused(struct vdi *v)
{
    struct vdi_room *room = &v->room;

    while (room->hint < room->end && is_used(room, room->hint)) {
        const bool whole = room->hint % 8 == 0 && room->used[room->hint / 8] == 0xff;

        room->hint += whole ? 8 : 1;
    }
    room->hint = PL_MIN(room->hint, room->end);
    return room->hint;
}

void vdi_give_places(struct vdi *v, uint64_t place, uint64_t count)
{
    struct vdi_room *room = &v->room;

    for (uint64_t i = place; i < place + count && i < room->bits_room; i++)
        room->used[i / 8] &= (uint8_t) ~(1u << i % 8);
    room->hint = PL_MIN(room->hint, place);
}

static void raise_end(struct vdi *v) PL_NEEDS(&v->lock)
{
    v->file_end = PL_MAX(v->file_end, vdi_place_offset(v, v->room.end));
    if (v->header.allocated < v->room.end) {
        v->header.allocated = (uint32_t)v->room.end; /* <= cBlocks, or as the file had it */
        v->header_dirty = true;
    }
}

static int mark_run(struct vdi *v, uint64_t place, uint64_t count, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    bool again;

    if (make_bits(&v->room, place + count, e) < 0)
        return -1;
    for (uint64_t i = 0; i < count; i++)
        if (vdi_mark_place(&v->room, place + i, &again, e) < 0)
            return -1;
    raise_end(v);
    return 0;
}

/* Places between others; what they held is made zeros. */
static int take_unused(struct vdi *v, uint64_t place, uint64_t want, uint64_t *got,
                       struct pl_err *e) PL_NEEDS(&v->lock)
{
    uint64_t count = 1;

    while (count < want && place + count < v->room.end && !is_used(&v->room, place + count))
        count++;
    if (pl_storage_zero(v->file, vdi_place_offset(v, place), count * v->stride, e) < 0 ||
        mark_run(v, place, count, e) < 0)
        return -1;
    *got = count;
    return 0;
}

int vdi_take_places(struct vdi *v, uint64_t want, uint64_t below, uint64_t *place, uint64_t *got,
                    struct pl_err *e)
{
    *place = vdi_lowest_unused(v);
    if (*place >= below && v->freed_count) {
        if (vdi_write_back(v, false, e) < 0)
            return -1;
        *place = vdi_lowest_unused(v);
    }
    if (*place >= below)
        return pl_fail(e, PL_E_CORRUPT, "there is no room for one more of its %" PRIu32 " blocks",
                       v->header.blocks);
    want = PL_MIN(want, below - *place);
    if (*place < v->room.end)
        return take_unused(v, *place, want, got, e);
    *got = want;
    if (mark_run(v, *place, want, e) < 0)
        return -1;
    if (!v->file->device)
        return 0;
    return pl_storage_zero(v->file, vdi_place_offset(v, *place), want * v->stride, e);
}

static int add_freed(struct vdi *v, struct vdi_freed freed, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (v->freed_count == v->freed_room) {
        const size_t room = v->freed_room ? 2 * v->freed_room : 64;
        struct vdi_freed *more = reallocarray(v->freed, room, sizeof *more);

        if (!more)
            return pl_fail(e, PL_E_NOMEM, "no memory for a list of freed places");
        v->freed = more;
        v->freed_room = room;
    }
    v->freed[v->freed_count++] = freed;
    return 0;
}

int vdi_free_later(struct vdi *v, uint32_t place, uint32_t count, struct pl_err *e)
{
    if (v->freed_count) {
        struct vdi_freed *last = &v->freed[v->freed_count - 1];

        if ((uint64_t)last->place + last->count == place) {
            last->count += count;
            return 0;
        }
    }
    if (v->freed_count >= FREED_MAX && vdi_write_back(v, false, e) < 0)
        return -1;
    return add_freed(v, (struct vdi_freed){ .place = place, .count = count }, e);
}
