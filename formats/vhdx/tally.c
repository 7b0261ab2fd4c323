/* tally.c - who owns which MiB of the file: the unit that blocks and regions are aligned to. */
#include <stdlib.h>

#include "formats/vhdx/vhdx.h"

bool vhdx_tally_has(const struct vhdx_tally *tally, uint64_t unit)
{
    return unit < tally->units && tally->used[unit / 8] >> unit % 8 & 1;
}

static void set(struct vhdx_tally *tally, uint64_t off, uint64_t len, bool used)
{
    const uint64_t end = PL_MIN(pl_div_up(off + len, VHDX_UNIT), tally->units);

    for (uint64_t unit = off / VHDX_UNIT; unit < end; unit++) {
        uint8_t *byte = &tally->used[unit / 8];

        *byte = (uint8_t)(used ? *byte | 1 << unit % 8 : *byte & ~(1 << unit % 8));
    }
}

int vhdx_tally_make(const struct vhdx *v, struct vhdx_tally *tally, struct pl_err *e)
{
    tally->units = pl_div_up(v->file_end, VHDX_UNIT); /* at most VHDX_FILE_MAX: 16 MiB of bits */
    tally->used = calloc(1, tally->units / 8 + 1);
    if (!tally->used)
        return pl_fail(e, PL_E_NOMEM, "no memory to tell which parts of the file are used");
    set(tally, 0, VHDX_UNIT, true);
    set(tally, v->log.off, v->log.len, true);
    set(tally, v->bat.off, v->bat.len, true);
    set(tally, v->metadata.off, v->metadata.len, true);
    for (size_t i = 0; i < v->other_count; i++)
        set(tally, v->others[i].off, v->others[i].len, true);
    return 0;
}

void vhdx_tally_free(struct vhdx_tally *tally)
{
    free(tally->used);
    *tally = (struct vhdx_tally){ 0 };
}

bool vhdx_tally_take(struct vhdx_tally *tally, uint64_t off, uint64_t len)
{
    const uint64_t end = PL_MIN(pl_div_up(off + len, VHDX_UNIT), tally->units);

    for (uint64_t unit = off / VHDX_UNIT; unit < end; unit++)
        if (vhdx_tally_has(tally, unit))
            return false;
    set(tally, off, len, true);
    return true;
}

void vhdx_tally_drop(struct vhdx_tally *tally, uint64_t off, uint64_t len)
{
    set(tally, off, len, false);
}

uint64_t vhdx_tally_end(const struct vhdx_tally *tally)
{
    uint64_t unit = tally->units;

    while (unit > 0 && !vhdx_tally_has(tally, unit - 1))
        unit--;
    return unit * VHDX_UNIT;
}
