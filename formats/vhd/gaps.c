/* gaps.c - room for blocks between what lies in the file. */
#include <stdlib.h>

#include "formats/vhd/change.h"

static int by_offset(const void *a, const void *b)
{
    const struct vhd_piece *x = a, *y = b;

    return (x->off > y->off) - (x->off < y->off);
}

int vhd_gaps_begin(struct vhd_gaps *gaps, const struct vhd *v, const struct vhd_block *blocks,
                   size_t count, struct pl_err *e)
{
    size_t n = 0;

    *gaps = (struct vhd_gaps){ .v = v };
    gaps->used = calloc(count + v->own_count, sizeof *gaps->used);
    if (!gaps->used)
        return pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu blocks", count);
    for (size_t i = 0; i < count; i++) {
        const uint64_t off = (uint64_t)blocks[i].sector * VHD_SECTOR;

        gaps->used[n++] = (struct vhd_piece){ off, off + vhd_block_bytes(v) };
    }
    for (unsigned i = 0; i < v->own_count; i++)
        gaps->used[n++] = (struct vhd_piece){ v->own[i].off, v->own[i].off + v->own[i].len };
    gaps->count = n;
    qsort(gaps->used, n, sizeof *gaps->used, by_offset);
    return 0;
}

bool vhd_gaps_next(struct vhd_gaps *gaps, uint64_t limit, uint64_t *off)
{
    const uint64_t bytes = vhd_block_bytes(gaps->v);

    while (gaps->next < gaps->count && gaps->used[gaps->next].off <= limit) {
        const uint64_t place = vhd_block_place(gaps->v, gaps->at);

        if (place + bytes <= gaps->used[gaps->next].off) {
            *off = place;
            gaps->at = place + bytes;
            return true;
        }
        gaps->at = PL_MAX(gaps->at, gaps->used[gaps->next].end);
        gaps->next++;
    }
    return false;
}

void vhd_gaps_end(struct vhd_gaps *gaps)
{
    free(gaps->used);
    gaps->used = NULL;
}
