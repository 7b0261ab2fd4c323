/* resize.c - a larger or a smaller virtual disk.
 *
 * Fixed, growing: a footer at the new end that says the old size, a sync, zeros over the old one, a
 * sync, then the footer says the new size.  Shrinking: the footer says the new size, then there is
 * one at the new end, and the file is cut.
 * Dynamic, growing: what lies behind the old end is zeroed; a longer BAT, at the end of the file
 * where there is no room behind the old one, and the header that names it; then the footers show
 * the size.  Over a parent, which may be longer than the disk was, they do so at the next flush,
 * when the core has zeroed what the parent would show.
 * Shrinking: the footers first, then the blocks behind lose their entries, the header says how many
 * are left, and the file is cut.  The two footers differ for an instant: either is right for the
 * BAT then. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhd/change.h"
#include "formats/vhd/create.h"

#define BAT_PIECE 65536u

static int check_request(const struct vhd *v, uint64_t size, bool shrink, struct pl_err *e)
{
    const struct vhd_request wanted = { .fixed = v->fixed,
                                        .block_size = v->fixed ? VHD_BLOCK_DEFAULT : v->block_size,
                                        .size = size };

    if (size < v->size && !shrink) {
        pl_fail(e, PL_E_INVALID,
                "shrinking from %" PRIu64 " to %" PRIu64 " bytes would lose what lies behind",
                v->size, size);
        return pl_hint(e, "shrink file systems and partitions first, then use --shrink");
    }
    if (size % VHD_SECTOR)
        return pl_fail(e, PL_E_INVALID, "the new size of %" PRIu64 " bytes is no multiple of 512",
                       size);
    if (v->file->device)
        return pl_fail(e, PL_E_UNSUPPORTED, "a VHD on a block device keeps its size");
    return vhd_check_size(&wanted, e);
}

/* Those whose size is a geometry become exact, since the new size may be none; the application that
 * reads the geometry is told another creator. */
static void set_size(struct vhd *v, uint64_t size)
{
    v->size = size;
    v->footer.current_size = size;
    vhd_set_geometry(&v->footer, size);
    if (vhd_virtual_size(&v->footer) != size)
        memcpy(v->footer.creator_application, VHD_CREATOR_EXACT, 4);
}

/* ---- fixed ---- */

static int move_footer(struct vhd *v, uint64_t to, struct pl_err *e)
{
    if (vhd_write_footer(v, to, e) < 0 || vhd_sync(v, e) < 0) {
        v->broken = true; /* nobody knows which of the two the disk has */
        return -1;
    }
    v->footer_at = to;
    return 0;
}

/* Cuts what lies behind the footer. */
static int cut_behind(struct vhd *v, struct pl_err *e)
{
    const uint64_t end = v->footer_at + VHD_FOOTER_BYTES;

    return pl_storage_size(v->file) > end ? pl_storage_resize(v->file, end, e) : 0;
}

static int shrink_fixed(struct vhd *v, uint64_t size, struct pl_err *e) PL_NEEDS(&v->lock)
{
    set_size(v, size);
    if (move_footer(v, v->footer_at, e) < 0 || move_footer(v, size, e) < 0)
        return -1;
    return cut_behind(v, e);
}

/* The old footer becomes zeros, as does what the file had between the disk and it. */
static int make_new_space(struct vhd *v, uint64_t used, uint64_t size, enum pl_prealloc how,
                          struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (pl_storage_zero(v->file, v->size, used - v->size, e) < 0)
        return -1;
    if (how != PL_PREALLOC_OFF && how != PL_PREALLOC_METADATA &&
        pl_storage_preallocate(v->file, v->size, size - v->size, how, e) < 0)
        return -1;
    return vhd_sync(v, e);
}

/* The new footer says the old size until what is between them is zeros on disk. */
static int grow_fixed(struct vhd *v, uint64_t size, enum pl_prealloc how, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint64_t old = v->size;
    const uint64_t used = PL_MIN(v->footer_at + VHD_FOOTER_BYTES, size);

    if (move_footer(v, size, e) < 0)
        return -1;
    if (cut_behind(v, e) == 0 && make_new_space(v, used, size, how, e) == 0) {
        set_size(v, size);
        return move_footer(v, size, e);
    }
    /* the first error says why; if that fails too the file stays longer */
    if (shrink_fixed(v, old, NULL) < 0)
        v->broken = true;
    return -1;
}

/* ---- dynamic: header and BAT ---- */

int vhd_write_header(struct vhd *v, struct pl_err *e)
{
    const uint64_t at = v->footer.data_offset;
    uint8_t raw[VHD_HEADER_BYTES];

    if (pl_storage_read(v->file, at, raw, sizeof raw, e) < 0)
        return pl_within(e, "header");
    pl_fields_encode(vhd_header_fields, &v->header, raw, sizeof raw);
    vhd_seal_header(raw);
    if (pl_storage_write(v->file, at, raw, VHD_SECTOR, e) == 0 && vhd_sync(v, e) == 0)
        return 0;
    v->broken = true;
    return pl_within(e, "header");
}

/* Bytes that the BAT can have where it is. */
static uint64_t room_of_bat(const struct vhd *v) PL_NEEDS(&v->lock)
{
    const uint64_t at = v->header.table_offset;
    uint64_t next = v->footer_at;

    for (unsigned i = 0; i < v->own_count; i++)
        if (v->own[i].off > at)
            next = PL_MIN(next, v->own[i].off);
    for (uint32_t i = 0; i < v->header.max_table_entries; i++)
        if (v->bat[i] != VHD_UNUSED && (uint64_t)v->bat[i] * VHD_SECTOR > at)
            next = PL_MIN(next, (uint64_t)v->bat[i] * VHD_SECTOR);
    for (size_t i = 0; i < v->free_count; i++)
        if ((uint64_t)v->free[i] * VHD_SECTOR > at)
            next = PL_MIN(next, (uint64_t)v->free[i] * VHD_SECTOR);
    return next - at;
}

/* Longer arrays in memory; the new entries are unused. */
static int enlarge(struct vhd *v, uint32_t entries, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint32_t old = v->header.max_table_entries;
    uint32_t *bat = reallocarray(v->bat, entries, sizeof *bat);
    const size_t sectors = pl_div_up(entries, VHD_SECTOR / 4) + 1;
    uint8_t *dirty;

    if (bat)
        v->bat = bat;
    dirty = bat ? realloc(v->bat_dirty, sectors) : NULL;
    if (!dirty)
        return pl_fail(e, PL_E_NOMEM, "BAT: no memory for %" PRIu32 " entries", entries);
    v->bat_dirty = dirty;
    memset(dirty, 0, sectors);
    memset(bat + old, 0xff, (size_t)(entries - old) * sizeof *bat);
    return 0;
}

/* Writes entries [first, end) of the BAT at byte offset `at`. */
static int write_entries(struct vhd *v, uint64_t at, uint32_t first, uint32_t end, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    PL_FREE uint8_t *raw = malloc(BAT_PIECE);

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "BAT: no memory");
    while (first < end) {
        const uint32_t count = PL_MIN(end - first, BAT_PIECE / 4);

        for (uint32_t i = 0; i < count; i++)
            store_be32(raw + 4 * (size_t)i, v->bat[first + i]);
        if (pl_storage_write(v->file, at + UINT64_C(4) * first, raw, 4 * (size_t)count, e) < 0)
            return pl_within(e, "BAT");
        first += count;
    }
    return 0;
}

/* A BAT of so many entries, which all exist in memory, behind the last block. */
static int move_bat(struct vhd *v, uint32_t entries, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t at = v->end, bytes = pl_round_up(UINT64_C(4) * entries, VHD_SECTOR);

    if (vhd_make_room(v, at + bytes, e) < 0)
        return -1;
    v->end = at + bytes;
    if (write_entries(v, at, 0, entries, e) < 0)
        return -1;
    v->header.table_offset = at;
    v->own[VHD_OWN_BAT].off = at;
    return 0;
}

/* A BAT of so many entries, on disk too; the size of the disk is still the old one. */
static int grow_bat(struct vhd *v, uint32_t entries, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint32_t old = v->header.max_table_entries;
    const bool fits = UINT64_C(4) * entries <= room_of_bat(v);

    if (enlarge(v, entries, e) < 0)
        return -1;
    if (fits ? write_entries(v, v->header.table_offset, old, entries, e) < 0
             : move_bat(v, entries, e) < 0)
        return -1;
    if (vhd_sync(v, e) < 0)
        return -1;
    v->header.max_table_entries = entries;
    v->own[VHD_OWN_BAT].len = UINT64_C(4) * entries;
    v->end =
        PL_MAX(v->end, pl_round_up(v->own[VHD_OWN_BAT].off + v->own[VHD_OWN_BAT].len, VHD_SECTOR));
    return vhd_write_header(v, e);
}

/* ---- dynamic ---- */

/* The last block may have data behind the end of the disk. */
static int zero_last_block(struct vhd *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t inside = v->size & (v->block_size - 1), index = v->size >> v->block_bits;
    uint64_t off;

    if (!inside || v->bat[index] == VHD_UNUSED)
        return 0;
    if (vhd_place(v, index, &off, e) < 0)
        return -1;
    return pl_storage_zero(v->file, off + v->bitmap_size + inside, v->block_size - inside, e);
}

static int grow(struct vhd *v, uint64_t size, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t entries = pl_div_up(size, v->block_size);

    if (zero_last_block(v, e) < 0 || vhd_settle(v, e) < 0)
        return -1;
    if (entries > v->header.max_table_entries && grow_bat(v, (uint32_t)entries, e) < 0)
        return -1;
    v->size = size;
    v->growing = true;
    return v->has_parent ? 0 : vhd_show_size(v, e);
}

int vhd_show_size(struct vhd *v, struct pl_err *e)
{
    set_size(v, v->size);
    v->growing = false;
    return vhd_write_footers(v, e);
}

static int shrink_to(struct vhd *v, uint64_t size, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t entries = pl_div_up(size, v->block_size);

    if (vhd_settle(v, e) < 0)
        return -1;
    v->size = size;
    if (vhd_show_size(v, e) < 0)
        return -1;
    for (uint64_t i = entries; i < v->header.max_table_entries; i++)
        if (v->bat[i] != VHD_UNUSED)
            vhd_set_entry(v, i, VHD_UNUSED);
    if (vhd_settle(v, e) < 0)
        return -1;
    v->header.max_table_entries = (uint32_t)entries;
    v->own[VHD_OWN_BAT].len = 4 * entries;
    if (vhd_write_header(v, e) < 0)
        return -1;
    v->free_count = 0; /* what lies behind the new end of the file is no room any more */
    v->end = vhd_end_of_blocks(v);
    return vhd_trim(v, e);
}

static int resize_dynamic(struct vhd *v, uint64_t size, enum pl_prealloc how, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    if (how == PL_PREALLOC_FALLOC || how == PL_PREALLOC_FULL)
        return pl_fail(e, PL_E_UNSUPPORTED, "a dynamic VHD makes no room ahead");
    if (vhd_begin_change(v, e) < 0)
        return -1;
    return size > v->size ? grow(v, size, e) : shrink_to(v, size, e);
}

static int resize(struct vhd *v, uint64_t size, enum pl_prealloc how, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    if (!v->fixed)
        return resize_dynamic(v, size, how, e);
    return size > v->size ? grow_fixed(v, size, how, e) : shrink_fixed(v, size, e);
}

int vhd_resize(void *state, uint64_t size, bool shrink, enum pl_prealloc prealloc, struct pl_err *e)
{
    struct vhd *v = state;
    bool growing;
    int r;

    pl_lock_take(&v->lock);
    r = vhd_check_writable(v, e);
    if (r == 0)
        r = check_request(v, size, shrink, e);
    if (r == 0 && size != v->size)
        r = resize(v, size, prealloc, e);
    growing = v->growing;
    pl_lock_drop(&v->lock);
    return r < 0 || growing ? r : vhd_flush(v, e);
}
