/* tables.c - changes of BAT entries and sector bitmaps, in memory until the next commit. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/zero.h"
#include "formats/vhdx/vhdx.h"

#define BITS_PER_SECTOR (8 * VHDX_SECTOR)

int vhdx_table(struct vhdx *v, uint64_t off, uint8_t **bytes, struct pl_err *e)
{
    const int result = pl_table_cache_get(v->tables, off, bytes, e);

    if (result == 1) /* more slots than sectors may be changed: see vhdx.c */
        return pl_fail(e, PL_E_LIMIT, "too many changed sectors of tables");
    return result;
}

void vhdx_table_changed(struct vhdx *v, uint64_t off)
{
    uint32_t i = v->dirty_count;

    off = pl_round_down(off, VHDX_SECTOR);
    pl_table_cache_dirty(v->tables, off);
    while (i > 0 && v->dirty[i - 1] > off)
        i--;
    if (i > 0 && v->dirty[i - 1] == off)
        return;
    memmove(v->dirty + i + 1, v->dirty + i, (v->dirty_count - i) * sizeof *v->dirty);
    v->dirty[i] = off;
    v->dirty_count++;
}

int vhdx_reserve(struct vhdx *v, uint32_t count, struct pl_err *e)
{
    return v->dirty_count + count > v->dirty_max ? vhdx_commit(v, e) : 0;
}

int vhdx_entry(struct vhdx *v, uint64_t index, uint64_t *entry, struct pl_err *e)
{
    const uint64_t off = v->bat.off + 8 * index;
    uint8_t *bytes;

    if (vhdx_table(v, off, &bytes, e) < 0)
        return pl_within(e, "BAT");
    *entry = load_le64(bytes + off % VHDX_SECTOR);
    return 0;
}

int vhdx_set_entry(struct vhdx *v, uint64_t index, uint64_t entry, struct pl_err *e)
{
    const uint64_t off = v->bat.off + 8 * index;
    uint8_t *bytes;

    if (vhdx_table(v, off, &bytes, e) < 0)
        return pl_within(e, "BAT");
    if (load_le64(bytes + off % VHDX_SECTOR) == entry)
        return 0;
    store_le64(bytes + off % VHDX_SECTOR, entry);
    vhdx_table_changed(v, off);
    return 0;
}

int vhdx_bitmap(struct vhdx *v, uint64_t block, uint64_t *off, struct pl_err *e)
{
    uint64_t entry = 0;

    if (vhdx_entry(v, vhdx_bitmap_index(v, block), &entry, e) < 0)
        return -1;
    return vhdx_check_bitmap(v, entry, block >> v->chunk_bits, v->file_end, off, e);
}

uint32_t vhdx_bitmap_sectors(const struct vhdx *v)
{
    const uint32_t bits = v->block_size / v->sector_size;

    return (bits + BITS_PER_SECTOR - 1) / BITS_PER_SECTOR;
}

uint64_t vhdx_equal_bits(const uint8_t *bytes, uint64_t first, uint64_t count, bool *set)
{
    const uint64_t end = PL_MIN(first + count, BITS_PER_SECTOR);
    uint64_t i = first;

    *set = bytes[i / 8] >> i % 8 & 1;
    while (i < end) {
        if (i % 8 == 0 && i + 8 <= end && bytes[i / 8] == (*set ? 0xff : 0))
            i += 8;
        else if ((bytes[i / 8] >> i % 8 & 1) == *set)
            i++;
        else
            break;
    }
    return i - first;
}

int vhdx_bits(struct vhdx *v, uint64_t bitmap, uint64_t at, uint64_t *len, bool *set,
              struct pl_err *e)
{
    const uint64_t bit = at / v->sector_size % VHDX_BITMAP_BITS;
    uint8_t *bytes;

    if (vhdx_table(v, bitmap + bit / 8, &bytes, e) < 0)
        return pl_within(e, "sector bitmap");
    *len = v->sector_size *
           vhdx_equal_bits(bytes, bit % BITS_PER_SECTOR, pl_div_up(*len, v->sector_size), set);
    return 0;
}

int vhdx_set_bits(struct vhdx *v, uint64_t bitmap, uint64_t at, uint64_t len, bool set,
                  struct pl_err *e)
{
    uint64_t bit = at / v->sector_size % VHDX_BITMAP_BITS;
    const uint64_t end = bit + pl_div_up(len, v->sector_size);

    while (bit < end) {
        const uint64_t off = bitmap + bit / 8;
        const uint64_t stop = PL_MIN(end, pl_round_down(bit, BITS_PER_SECTOR) + BITS_PER_SECTOR);
        uint8_t *bytes;

        if (vhdx_table(v, off, &bytes, e) < 0)
            return pl_within(e, "sector bitmap");
        for (; bit < stop; bit++) {
            uint8_t *byte = bytes + bit % BITS_PER_SECTOR / 8;

            *byte = (uint8_t)(set ? *byte | 1 << bit % 8 : *byte & ~(1 << bit % 8));
        }
        vhdx_table_changed(v, off);
    }
    return 0;
}

int vhdx_is_bare(struct vhdx *v, uint64_t block, bool *bare, struct pl_err *e)
{
    const uint64_t start = block << v->block_bits;
    const uint64_t end = start + PL_MIN(v->block_size, v->size - start);
    uint64_t bitmap, len;

    *bare = false;
    if (vhdx_bitmap(v, block, &bitmap, e) < 0)
        return -1;
    for (uint64_t at = start; bitmap && at < end; at += len) {
        bool set;

        len = end - at;
        if (vhdx_bits(v, bitmap, at, &len, &set, e) < 0)
            return -1;
        if (set)
            return 0;
    }
    *bare = bitmap;
    return 0;
}

int vhdx_put(struct vhdx *v, uint64_t off, const void *bytes, uint64_t len, struct pl_err *e)
{
    const uint8_t *from = bytes;

    while (len > 0) {
        const uint64_t inside = off % VHDX_SECTOR, piece = PL_MIN(len, VHDX_SECTOR - inside);
        uint8_t *sector;

        if (vhdx_table(v, off, &sector, e) < 0)
            return -1;
        memcpy(sector + inside, from, piece);
        vhdx_table_changed(v, off);
        off += piece;
        from += piece;
        len -= piece;
    }
    return 0;
}
