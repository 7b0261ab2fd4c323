/* missing.c - sectors that a block does not have: their bits are clear.  Where a disk loses its
 * parent, or gets one, the block is made to have them: as zeros. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "formats/vhd/change.h"

/* What is done with the bitmap of a block that lacks sectors; `off` is the block's place. */
typedef int visit_fn(struct vhd *v, uint64_t off, const uint8_t *bits, struct pl_err *e);

static uint32_t sectors_of(const struct vhd *v)
{
    return v->block_size / VHD_SECTOR;
}

/* Visits each block that lacks any; nothing of it waits to be written. */
static int visit_incomplete(struct vhd *v, visit_fn *visit, struct pl_err *e) PL_NEEDS(&v->lock)
{
    PL_FREE uint8_t *bits = malloc(v->bitmap_size);

    if (!bits)
        return pl_fail(e, PL_E_NOMEM, "no memory for a sector bitmap");
    for (uint32_t i = 0; i < v->header.max_table_entries; i++) {
        const uint64_t off = (uint64_t)v->bat[i] * VHD_SECTOR;
        bool set;

        if (v->bat[i] == VHD_UNUSED)
            continue;
        if (pl_storage_read(v->file, off, bits, v->bitmap_size, e) < 0)
            return pl_within(e, "sector bitmap");
        if (vhd_bit_run(bits, 0, sectors_of(v), &set) == sectors_of(v) && set)
            continue;
        if (visit(v, off, bits, e) < 0)
            return pl_within(e, "block %" PRIu32, i);
    }
    return 0;
}

static int zero_sectors(struct vhd *v, uint64_t off, const uint8_t *bits, struct pl_err *e)
{
    const uint64_t data = off + v->bitmap_size;
    uint32_t run;

    for (uint32_t i = 0; i < sectors_of(v); i += run) {
        bool set;

        run = vhd_bit_run(bits, i, sectors_of(v), &set);
        if (!set && pl_storage_zero(v->file, data + (uint64_t)i * VHD_SECTOR,
                                    (uint64_t)run * VHD_SECTOR, e) < 0)
            return -1;
    }
    return 0;
}

static int set_bits(struct vhd *v, uint64_t off, const uint8_t *bits,
                    struct pl_err *e) PL_UNCHECKED;
static int set_bits(struct vhd *v, uint64_t off, const uint8_t *bits, struct pl_err *e)
{
    PL_FREE uint8_t *ones = malloc(v->bitmap_size);

    (void)bits;
    if (!ones)
        return pl_fail(e, PL_E_NOMEM, "no memory for a sector bitmap");
    memset(ones, 0xff, v->bitmap_size);
    pl_table_cache_drop(v->bitmaps, off, v->bitmap_size);
    return pl_storage_write(v->file, off, ones, v->bitmap_size, e);
}

int vhd_zero_missing(struct vhd *v, struct pl_err *e)
{
    return visit_incomplete(v, zero_sectors, e);
}

int vhd_set_all_bits(struct vhd *v, struct pl_err *e)
{
    return visit_incomplete(v, set_bits, e);
}
