/* bat.c - the Block Allocation Table, and whether its entries point at room for a block. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhd/vhd.h"

int vhd_read_bat(struct vhd *v, struct pl_err *e)
{
    const uint32_t count = v->header.max_table_entries;
    const size_t bytes = (size_t)count * sizeof *v->bat;
    PL_FREE uint32_t *bat = malloc(bytes ? bytes : 1);

    if (!bat)
        return pl_fail(e, PL_E_NOMEM, "BAT: no memory for %" PRIu32 " entries", count);
    if (pl_storage_read(v->file, v->header.table_offset, bat, bytes, e) < 0)
        return pl_within(e, "BAT");
    for (uint32_t i = 0; i < count; i++)
        bat[i] = load_be32(&bat[i]);
    v->bat = pl_take(bat);
    return 0;
}

uint64_t vhd_blocks(const struct vhd *v)
{
    return pl_div_up(v->size, v->block_size);
}

/* Bytes of data that the block must have in the file.  The last block may be short, if the file was
 * not cut off there: then it has no footer. */
static uint64_t data_needed(const struct vhd *v, uint64_t index)
{
    const uint64_t at = index << v->block_bits;

    return at < v->size && v->at_end == VHD_GOOD ? PL_MIN(v->size - at, v->block_size)
                                                 : v->block_size;
}

const char vhd_past_end[] = "the end of the file";

const char *vhd_bad_place(const struct vhd *v, uint64_t index, uint32_t sector)
{
    const uint64_t off = (uint64_t)sector * VHD_SECTOR;
    const uint64_t len = v->bitmap_size + data_needed(v, index);

    /* Locators do not count: one whose data lie past the end would become an overlap as the file
     * grows. */
    for (unsigned i = 0; i <= VHD_OWN_BAT; i++)
        if (off < v->own[i].off + v->own[i].len && v->own[i].off < off + len)
            return v->own[i].what;
    return pl_inside(off, len, v->footer_at) ? NULL : vhd_past_end;
}

int vhd_place(const struct vhd *v, uint64_t index, uint64_t *off, struct pl_err *e)
{
    const uint32_t sector = v->bat[index];
    const char *what = vhd_bad_place(v, index, sector);

    *off = (uint64_t)sector * VHD_SECTOR;
    if (!what)
        return 0;
    pl_fail(e, PL_E_CORRUPT, "BAT entry %" PRIu64 ": the block at 0x%" PRIx64 " runs into %s",
            index, *off, what);
    if (*off >= v->footer_at)
        return pl_hint(e, "the copy may be incomplete; compare its size with the original");
    return -1;
}
