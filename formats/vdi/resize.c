/* resize.c - a larger or a smaller disk.
 *
 * Growing, with the map's room: the new entries are written, synced, then one write of the header
 * shows them.  Where the data area is in the way of a longer map, the map moves to the first
 * places: the blocks there are copied to the end of the file and their entries changed, synced; a
 * map that counts places from behind the new one is written over the old blocks, synced; then one
 * write of the header switches to it.  It is at most as many places as the old map has entries at
 * once, so that no entry ever points far behind cBlocks; more takes several rounds, during which
 * the map is longer than the disk needs.
 *
 * Shrinking: the header tells of the smaller disk first, the map keeps its length; then blocks
 * behind the end lose their places, the file is compacted, and the header tells of a shorter map.
 *
 * The old header has no offsets: its map keeps its length. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buffer.h"
#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vdi/vdi.h"

#define PIECE (64 * PL_KIB)
#define PREALLOCATE_AT_ONCE (256 * PL_MIB)

static int check_request(const struct vdi *v, uint64_t size, bool shrink, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint64_t blocks = pl_div_up(size, v->header.block_size);

    if (size < v->header.disk_size && !shrink) {
        pl_fail(e, PL_E_INVALID,
                "shrinking from %" PRIu64 " to %" PRIu64 " bytes would lose what lies behind",
                v->header.disk_size, size);
        return pl_hint(e, "shrink file systems and partitions first, then use --shrink");
    }
    if (size % VDI_GEOMETRY_SECTOR)
        return pl_fail(e, PL_E_INVALID, "the new size of %" PRIu64 " bytes is no multiple of 512",
                       size);
    if (size > PL_OFFSET_MAX / 2 || blocks > UINT32_MAX / 4)
        return pl_fail(e, PL_E_LIMIT,
                       "%" PRIu64 " bytes are more than blocks of %" PRIu32 " bytes allow", size,
                       v->header.block_size);
    if (vdi_is_old(&v->header) && blocks > v->header.blocks) {
        pl_fail(e, PL_E_UNSUPPORTED,
                "the map of version %" PRIu32 ".%" PRIu32 " has no room for more than %" PRIu32
                " blocks",
                VDI_MAJOR(v->header.version), VDI_MINOR(v->header.version), v->header.blocks);
        return pl_hint(e, "convert the image: the new one has the current version");
    }
    return 0;
}

/* After the header told of another map. */
static int open_new_map(struct vdi *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct vdi_findings found;

    vdi_close_map(v);
    if (vdi_open_map(v, e) == 0 && vdi_scan(v, NULL, &found, e) == 0)
        return 0;
    v->broken = true;
    return -1;
}

/* ---- growing ---- */

/* What entries say of blocks that nobody wrote to: zeros, also where a parent is longer. */
static uint32_t blank(const struct vdi *v)
{
    return v->has_parent ? VDI_BLOCK_ZERO : VDI_BLOCK_FREE;
}

/* The guest will see what is behind the disk's end in its last block. */
static int zero_last_block(struct vdi *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t index = v->header.disk_size >> v->block_bits;
    const uint64_t in = v->header.disk_size & (v->header.block_size - 1);
    uint8_t *entry;
    uint32_t count, place;

    if (!in)
        return 0;
    if (vdi_entries(v, index, &entry, &count, e) < 0)
        return -1;
    place = load_le32(entry);
    if (!vdi_is_place(place))
        return 0;
    v->file_end = PL_MAX(v->file_end, vdi_place_offset(v, place + UINT64_C(1)));
    return pl_storage_zero(v->file, vdi_place_offset(v, place) + v->header.block_extra + in,
                           v->header.block_size - in, e);
}

/* `count` blank entries at byte `off` of the file. */
static int write_blank(struct vdi *v, uint64_t off, uint64_t count, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    PL_FREE uint8_t *piece = pl_buffer(PIECE);

    if (!piece)
        return pl_fail(e, PL_E_NOMEM, "block map: no memory to write it");
    for (uint64_t i = 0; i < PIECE / 4; i++)
        store_le32(piece + 4 * i, blank(v));
    for (uint64_t done = 0; done < 4 * count;) {
        const uint64_t n = PL_MIN(4 * count - done, PIECE);

        if (pl_storage_write(v->file, off + done, piece, n, e) < 0)
            return -1;
        done += n;
    }
    return 0;
}

/* Entries that the map has already, behind the disk's end. */
static int clear_beyond(struct vdi *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t from = vdi_blocks_of(&v->header, v->header.disk_size);

    if (write_blank(v, v->header.map_offset + 4 * from, v->header.blocks - from, e) < 0)
        return -1;
    pl_table_cache_drop(v->cache, 4 * from, 4 * (v->header.blocks - from));
    return 0;
}

/* A map that is being written behind the old one, `first` places on. */
struct new_map {
    struct vdi *v;
    uint64_t off;   /* of the file */
    uint64_t first; /* the place that becomes place 0 */
    uint8_t *piece;
    uint64_t filled; /* entries in piece, so far */
};

static int write_piece(struct new_map *m, struct pl_err *e)
{
    if (pl_storage_write(m->v->file, m->off, m->piece, 4 * m->filled, e) < 0)
        return -1;
    m->off += 4 * m->filled;
    m->filled = 0;
    return 0;
}

static int copy_entry(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e)
{
    struct new_map *m = ctx;

    (void)index;
    store_le32(m->piece + 4 * m->filled++,
               vdi_is_place(entry) ? (uint32_t)(entry - m->first) : entry);
    return 4 * m->filled == PIECE ? write_piece(m, e) : 0;
}

/* Writes the map of `blocks` entries whose places begin at `first`. */
static int write_new_map(struct vdi *v, uint64_t off, uint64_t first, uint64_t blocks,
                         struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t used = vdi_blocks_of(&v->header, v->header.disk_size);
    PL_FREE uint8_t *piece = pl_buffer(PIECE);
    struct new_map m = { .v = v, .off = off, .first = first, .piece = piece };

    if (!piece)
        return pl_fail(e, PL_E_NOMEM, "block map: no memory to move it");
    if (vdi_walk(v, 0, used, copy_entry, &m, e) < 0 || write_piece(&m, e) < 0)
        return -1;
    return write_blank(v, off + 4 * used, blocks - used, e);
}

struct clearing {
    struct vdi *v;
    uint64_t first; /* places before this one are cleared */
};

static int move_away(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e) PL_UNCHECKED;
static int move_away(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e)
{
    const struct clearing *c = ctx;
    struct vdi *v = c->v;
    uint64_t to, got;

    if (!vdi_is_place(entry) || entry >= c->first)
        return 0;
    if (vdi_take_places(v, 1, UINT64_MAX, &to, &got, e) < 0 ||
        pl_storage_copy(v->file, vdi_place_offset(v, to), v->file, vdi_place_offset(v, entry),
                        v->stride, e) < 0)
        return -1;
    return vdi_change_entry(v, index, (uint32_t)to, e);
}

/* Moves what is in the first `count` places behind all others. */
static int clear_places(struct vdi *v, uint64_t count, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct clearing c = { .v = v, .first = count };
    uint64_t freed;
    bool again;

    if (vdi_close_gaps(v, NULL, &freed, e) < 0)
        return -1;
    for (uint64_t i = v->room.end; i < count; i++)
        if (vdi_mark_place(&v->room, i, &again, e) < 0)
            return -1;
    if (vdi_walk(v, 0, vdi_blocks_of(&v->header, v->header.disk_size), move_away, &c, e) < 0)
        return -1;
    return vdi_write_back(v, true, e);
}

/* Makes the map longer, to `blocks` entries, where the first places are. */
static int move_map(struct vdi *v, uint64_t blocks, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct vdi_header *h = &v->header;
    const uint64_t map = pl_round_up(h->data_offset, VDI_GEOMETRY_SECTOR);
    const uint64_t places = pl_div_up(map + 4 * blocks - h->data_offset, v->stride);
    const uint64_t data = h->data_offset + places * v->stride;

    if (data > UINT32_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "block map: %" PRIu64 " entries at 0x%" PRIx64
                       " would end beyond 4 GiB of the file",
                       blocks, map);
    if (clear_places(v, places, e) < 0 || write_new_map(v, map, places, blocks, e) < 0)
        return -1;
    h->map_offset = (uint32_t)map;
    h->data_offset = (uint32_t)data;
    v->file_end = PL_MAX(v->file_end, data);
    h->blocks = (uint32_t)blocks;
    h->allocated = (uint32_t)(v->room.end - places);
    return vdi_switch_header(v, e) < 0 ? -1 : open_new_map(v, e);
}

/* Makes the map longer where it is. */
static int extend_map(struct vdi *v, uint64_t blocks, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct vdi_header *h = &v->header;

    if (write_blank(v, h->map_offset + 4 * (uint64_t)h->blocks, blocks - h->blocks, e) < 0)
        return -1;
    h->blocks = (uint32_t)blocks;
    return vdi_switch_header(v, e) < 0 ? -1 : open_new_map(v, e);
}

/* One round towards a map of `blocks` entries. */
static int lengthen_map(struct vdi *v, uint64_t blocks, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const struct vdi_header *h = &v->header;
    const uint64_t room = (h->data_offset - h->map_offset) / 4;
    const uint64_t skip = pl_round_up(h->data_offset, VDI_GEOMETRY_SECTOR) - h->data_offset;
    const uint64_t at_once = (h->blocks * v->stride - PL_MIN(skip, h->blocks * v->stride)) / 4;

    if (room > h->blocks)
        return extend_map(v, PL_MIN(blocks, room), e);
    if (h->blocks)
        blocks = PL_MIN(blocks, PL_MAX(at_once, h->blocks + UINT64_C(1)));
    return move_map(v, blocks, e);
}

static int grow(struct vdi *v, uint64_t size, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t blocks = vdi_blocks_of(&v->header, size);

    if (zero_last_block(v, e) < 0 || clear_beyond(v, e) < 0 || vdi_write_back(v, true, e) < 0)
        return -1;
    while (v->header.blocks < blocks)
        if (lengthen_map(v, blocks, e) < 0)
            return -1;
    v->header.disk_size = size;
    return vdi_switch_header(v, e);
}

/* ---- shrinking ---- */

static int drop_entry(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e) PL_UNCHECKED;
static int drop_entry(void *ctx, uint64_t index, uint32_t entry, struct pl_err *e)
{
    struct vdi *v = ctx;

    return vdi_is_place(entry) ? vdi_change_entry(v, index, VDI_BLOCK_FREE, e) : 0;
}

static int shrink_to(struct vdi *v, uint64_t size, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t blocks = vdi_blocks_of(&v->header, size);
    uint64_t freed;

    v->header.disk_size = size;
    if (vdi_switch_header(v, e) < 0 ||
        vdi_walk(v, blocks, v->header.blocks - blocks, drop_entry, v, e) < 0 ||
        vdi_write_back(v, true, e) < 0 || vdi_close_gaps(v, NULL, &freed, e) < 0)
        return -1;
    if (vdi_is_old(&v->header) || v->header.blocks == blocks)
        return 0;
    v->header.blocks = (uint32_t)blocks;
    return vdi_switch_header(v, e) < 0 ? -1 : open_new_map(v, e);
}

/* ---- room ahead of data ---- */

static int fill_room(const struct pl_place *place, enum pl_prealloc how, struct pl_err *e)
{
    if (how != PL_PREALLOC_FALLOC && how != PL_PREALLOC_FULL)
        return 0;
    return pl_storage_preallocate(place->st, place->off, place->len, how, e);
}

/* Gives every block of [at, end) a place. */
static int preallocate(struct vdi *v, uint64_t at, uint64_t end, enum pl_prealloc how,
                       struct pl_err *e)
{
    while (at < end) {
        struct pl_place place;

        if (vdi_allocate(v, at, PL_MIN(end - at, PREALLOCATE_AT_ONCE), &place, e) < 0)
            return -1;
        if (place.fresh && (fill_room(&place, how, e) < 0 || vdi_link(v, &place, e) < 0)) {
            vdi_cancel(v, &place);
            return pl_within(e, "preallocation");
        }
        at += place.len;
    }
    return 0;
}

static int resize(struct vdi *v, uint64_t size, bool shrink, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (vdi_check_writable(v, e) < 0 || check_request(v, size, shrink, e) < 0)
        return -1;
    if (size == v->header.disk_size)
        return 0;
    if (vdi_begin_change(v, e) < 0 || vdi_write_back(v, true, e) < 0)
        return -1;
    return size > v->header.disk_size ? grow(v, size, e) : shrink_to(v, size, e);
}

int vdi_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc, struct pl_err *e)
{
    struct vdi *v = state;
    uint64_t old;
    int result;

    pl_lock_take(&v->lock);
    old = v->header.disk_size;
    result = resize(v, size, shrink, e);
    pl_lock_drop(&v->lock);
    old = pl_round_up(old, v->header.block_size);
    if (v->header.type == VDI_TYPE_FIXED && prealloc == PL_PREALLOC_OFF)
        prealloc = PL_PREALLOC_METADATA; /* no block of a static image is without a place */
    if (result == 0 && prealloc != PL_PREALLOC_OFF && size > old)
        result = preallocate(v, old, size, prealloc, e);
    return result == 0 ? vdi_flush(v, e) : -1;
}
