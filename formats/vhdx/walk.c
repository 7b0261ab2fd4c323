/* walk.c - goes through the whole BAT; what was never written of it is a hole and is skipped. */
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/zero.h"
#include "formats/vhdx/vhdx.h"

#define ENTRIES_PER_SECTOR (VHDX_SECTOR / 8)

/* Moves *sector, which is all zeros, to the first one behind it that is in the file. */
static int skip_hole(struct vhdx *v, uint64_t *sector, uint64_t sectors, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    uint64_t len;
    bool hole;

    ++*sector;
    if (*sector >= sectors || v->dirty_count > 0)
        return 0;
    len = (sectors - *sector) * VHDX_SECTOR;
    if (pl_storage_map(v->view, v->bat.off + *sector * VHDX_SECTOR, &len, &hole, e) < 0)
        return -1;
    if (hole)
        *sector += len / VHDX_SECTOR;
    return 0;
}

static void describe(const struct vhdx *v, uint64_t index, uint64_t entry, struct vhdx_item *item)
{
    const uint64_t per_chunk = (UINT64_C(1) << v->chunk_bits) + 1;
    const uint64_t chunk = index / per_chunk, in = index % per_chunk;

    item->index = index;
    item->entry = entry;
    item->bitmap = in == per_chunk - 1;
    item->block = (chunk << v->chunk_bits) + (item->bitmap ? 0 : in);
}

/* A visitor, and the entries that it wants. */
struct tour {
    int (*visit)(void *ctx, const struct vhdx_item *item, struct pl_err *e);
    void *ctx;
    uint64_t first, end; /* indexes */
};

static int visit_sector(struct vhdx *v, const struct tour *tour, uint64_t sector,
                        const uint8_t *bytes, struct pl_err *e)
{
    const uint64_t first = sector * ENTRIES_PER_SECTOR;

    for (uint64_t i = PL_MAX(first, tour->first); i < PL_MIN(first + ENTRIES_PER_SECTOR, tour->end);
         i++) {
        const uint64_t entry = load_le64(bytes + 8 * (i - first));
        struct vhdx_item item;

        if (entry == 0)
            continue;
        describe(v, i, entry, &item);
        if (tour->visit(tour->ctx, &item, e) < 0)
            return -1;
    }
    return 0;
}

static int walk(struct vhdx *v, const struct tour *tour, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t sectors = pl_div_up(tour->end, ENTRIES_PER_SECTOR);
    uint8_t copy[VHDX_SECTOR]; /* the visitor may change what is in the cache */

    for (uint64_t sector = tour->first / ENTRIES_PER_SECTOR; sector < sectors;) {
        uint8_t *bytes;

        if (vhdx_table(v, v->bat.off + sector * VHDX_SECTOR, &bytes, e) < 0)
            return pl_within(e, "BAT");
        if (pl_is_zero(bytes, VHDX_SECTOR)) {
            if (skip_hole(v, &sector, sectors, e) < 0)
                return -1;
            continue;
        }
        memcpy(copy, bytes, sizeof copy);
        if (visit_sector(v, tour, sector, copy, e) < 0)
            return -1;
        sector++;
    }
    return 0;
}

int vhdx_walk(struct vhdx *v,
              int (*visit)(void *ctx, const struct vhdx_item *item, struct pl_err *e), void *ctx,
              struct pl_err *e)
{
    const struct tour tour = { .visit = visit, .ctx = ctx, .end = vhdx_bat_entries(v, v->size) };

    return walk(v, &tour, e);
}

/* ---- what is done on a walk ---- */

struct clearing {
    struct vhdx *v;
    uint64_t keep;
};

static int clear_entry(void *ctx, const struct vhdx_item *item, struct pl_err *e) PL_UNCHECKED;
static int clear_entry(void *ctx, const struct vhdx_item *item, struct pl_err *e)
{
    const struct clearing *c = ctx;
    struct vhdx *v = c->v;

    if (item->index == c->keep)
        return 0;
    if (vhdx_reserve(v, 1, e) < 0 || vhdx_set_entry(v, item->index, 0, e) < 0)
        return -1;
    if (!item->bitmap && vhdx_is_present(item->entry) &&
        vhdx_check_payload(v, item->entry, item->block, v->file_end, NULL) == 0)
        vhdx_free_room(v, VHDX_BAT_OFFSET(item->entry));
    return 0;
}

int vhdx_clear_entries(struct vhdx *v, uint64_t first, uint64_t end, uint64_t keep,
                       struct pl_err *e)
{
    struct clearing clearing = { .v = v, .keep = keep };
    const struct tour tour = { .visit = clear_entry, .ctx = &clearing, .first = first, .end = end };

    return first < end ? walk(v, &tour, e) : 0;
}

struct tallying {
    struct vhdx *v;
    struct vhdx_tally *tally;
};

static int tally_entry(void *ctx, const struct vhdx_item *item, struct pl_err *e) PL_UNCHECKED;
static int tally_entry(void *ctx, const struct vhdx_item *item, struct pl_err *e)
{
    const struct tallying *t = ctx;
    struct vhdx *v = t->v;
    uint64_t off = VHDX_BAT_OFFSET(item->entry);

    if (item->bitmap) {
        if (vhdx_check_bitmap(v, item->entry, item->block >> v->chunk_bits, v->file_end, &off, e) <
            0)
            return -1;
        if (!v->has_parent || !off)
            return 0;
    } else {
        if (vhdx_check_payload(v, item->entry, item->block, v->file_end, e) < 0)
            return -1;
        if (!vhdx_is_present(item->entry))
            return 0;
    }
    if (vhdx_tally_take(t->tally, off, item->bitmap ? VHDX_BITMAP_BLOCK_BYTES : v->block_size))
        return 0;
    pl_fail(e, PL_E_CORRUPT, "two blocks lie at 0x%llx", (unsigned long long)off);
    return pl_hint(e, "platter check -r all mends the image");
}

int vhdx_tally_blocks(struct vhdx *v, struct vhdx_tally *tally, struct pl_err *e)
{
    struct tallying tallying = { .v = v, .tally = tally };

    return vhdx_walk(v, tally_entry, &tallying, e);
}

int vhdx_cut_file(struct vhdx *v, uint64_t end, struct pl_err *e)
{
    const uint64_t old = v->file_end;

    if (end >= pl_storage_size(v->file))
        return 0;
    /* An entry of the log says how long the file is: the next one must not say too much. */
    v->file_end = end;
    v->freed_count = v->reusable_count = 0;
    if (vhdx_log_write(v, NULL, 0, e) < 0) {
        v->file_end = old;
        return -1;
    }
    return pl_storage_resize(v->file, end, e);
}
