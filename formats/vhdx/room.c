/* room.c - room for blocks: at the end of the file, or where blocks were that are gone.
 *
 * The format keeps no list of free room.  What was freed since the file was opened is used again;
 * what was before is found by check and compact alone.  Room past the end of the file reads as
 * zeros because nothing was ever there; room that is used again is zeroed first.  So a block can be
 * linked when a part of it was written. */
#include <inttypes.h>
#include <stdlib.h>

#include "formats/vhdx/vhdx.h"

#define FREED_MAX 65536 /* more are forgotten */

/* Takes room at the end of the file. */
static int append(struct vhdx *v, uint64_t len, uint64_t *off, struct pl_err *e) PL_NEEDS(&v->lock)
{
    *off = pl_round_up(v->file_end, VHDX_UNIT);
    if (len > VHDX_FILE_MAX - *off)
        return pl_fail(e, PL_E_LIMIT, "the file would grow over %" PRIu64 " bytes", VHDX_FILE_MAX);
    v->file_end = *off + len;
    return 0;
}

int vhdx_new_table_room(struct vhdx *v, uint64_t len, uint64_t *off, struct pl_err *e)
{
    return append(v, len, off, e);
}

int vhdx_new_room(struct vhdx *v, uint64_t count, uint64_t *off, uint64_t *got, struct pl_err *e)
{
    if (v->reusable_count == 0) {
        *got = count;
        return append(v, count << v->block_bits, off, e);
    }
    *got = 1;
    *off = v->freed[v->reusable_count - 1];
    if (pl_storage_zero(v->file, *off, v->block_size, e) < 0)
        return -1;
    v->freed[--v->reusable_count] = v->freed[--v->freed_count];
    return 0;
}

void vhdx_free_room(struct vhdx *v, uint64_t off)
{
    if (v->freed_count == v->freed_room) {
        const uint32_t room = v->freed_room ? 2 * v->freed_room : 64;
        uint64_t *more = room > FREED_MAX ? NULL : reallocarray(v->freed, room, sizeof *more);

        if (!more)
            return; /* lost until the image is compacted */
        v->freed = more;
        v->freed_room = room;
    }
    v->freed[v->freed_count++] = off;
}

void vhdx_rooms_free_now(struct vhdx *v)
{
    for (; v->reusable_count < v->freed_count; v->reusable_count++)
        if (pl_storage_discard(v->file, v->freed[v->reusable_count], v->block_size, NULL) < 0)
            continue; /* the host may ignore or refuse it */
}
