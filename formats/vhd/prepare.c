/* prepare.c - before the first change: are the tables good enough, where does the file end?
 *
 * What lies in one place twice, or past the end, would be damaged further by writing: such images
 * are refused.  A missing or stale footer is written again. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "formats/vhd/change.h"
#include "formats/vhd/create.h"

/* A bound on the gaps that are remembered: a sparse file can have any number. */
#define GAPS_MAX (1u << 20)

int vhd_check_writable(const struct vhd *v, struct pl_err *e)
{
    if (!v->writable)
        return pl_fail(e, PL_E_INVALID, "the image is open for reading only");
    if (!v->broken)
        return 0;
    pl_fail(e, PL_E_SYS, "an earlier change of the image's tables failed half-way");
    return pl_hint(e, "open the image again; check it first");
}

static int by_place(const void *a, const void *b)
{
    const struct vhd_block *x = a, *y = b;

    return x->sector != y->sector ? (x->sector < y->sector ? -1 : 1)
                                  : (x->index > y->index) - (x->index < y->index);
}

int vhd_sorted_blocks(const struct vhd *v, struct vhd_block **list, size_t *count, struct pl_err *e)
{
    size_t used = 0, n = 0;

    for (uint32_t i = 0; i < v->header.max_table_entries; i++)
        used += v->bat[i] != VHD_UNUSED;
    *list = calloc(used ? used : 1, sizeof **list);
    if (!*list)
        return pl_fail(e, PL_E_NOMEM, "no memory for a list of %zu blocks", used);
    for (uint32_t i = 0; i < v->header.max_table_entries; i++)
        if (v->bat[i] != VHD_UNUSED)
            (*list)[n++] = (struct vhd_block){ .sector = v->bat[i], .index = i };
    qsort(*list, n, sizeof **list, by_place);
    *count = n;
    return 0;
}

uint64_t vhd_end_of_blocks(const struct vhd *v)
{
    uint64_t end = 0;

    for (unsigned i = 0; i < v->own_count; i++)
        end = PL_MAX(end, v->own[i].off + v->own[i].len);
    for (uint32_t i = 0; i < v->header.max_table_entries; i++)
        if (v->bat[i] != VHD_UNUSED)
            end = PL_MAX(end, (uint64_t)v->bat[i] * VHD_SECTOR + vhd_block_bytes(v));
    return pl_round_up(end, VHD_SECTOR);
}

static int refuse(struct pl_err *e)
{
    pl_within(e, "writing would damage it further");
    return pl_hint(e, "platter check -r all mends the tables");
}

/* No two blocks in one place. */
static int check_overlaps(const struct vhd *v, const struct vhd_block *list, size_t count,
                          struct pl_err *e)
{
    for (size_t i = 1; i < count; i++)
        if ((uint64_t)(list[i].sector - list[i - 1].sector) * VHD_SECTOR < vhd_block_bytes(v)) {
            pl_fail(e, PL_E_CORRUPT,
                    "the blocks %" PRIu32 " and %" PRIu32 " at 0x%" PRIx64 " overlap",
                    list[i - 1].index, list[i].index, (uint64_t)list[i].sector * VHD_SECTOR);
            return refuse(e);
        }
    return 0;
}

/* What earlier work left between the blocks is used before the file grows; the first gap first. */
static int list_gaps(struct vhd *v, const struct vhd_block *list, size_t count, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    struct vhd_gaps gaps;
    uint64_t off;
    int r = vhd_gaps_begin(&gaps, v, list, count, e);

    while (r == 0 && v->free_count < GAPS_MAX && vhd_gaps_next(&gaps, UINT64_MAX, &off))
        r = vhd_add_free(v, (uint32_t)(off / VHD_SECTOR), e);
    vhd_gaps_end(&gaps);
    for (size_t i = 0; i < v->free_count / 2; i++) {
        const uint32_t sector = v->free[i];

        v->free[i] = v->free[v->free_count - 1 - i];
        v->free[v->free_count - 1 - i] = sector;
    }
    return r;
}

int vhd_list_free(struct vhd *v, struct pl_err *e)
{
    PL_FREE struct vhd_block *list = NULL;
    size_t count;

    v->free_count = 0;
    if (vhd_sorted_blocks(v, &list, &count, e) < 0 || check_overlaps(v, list, count, e) < 0)
        return -1;
    return list_gaps(v, list, count, e);
}

static int check_places(const struct vhd *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    uint64_t off;

    for (uint32_t i = 0; i < v->header.max_table_entries; i++)
        if (v->bat[i] != VHD_UNUSED && vhd_place(v, i, &off, e) < 0)
            return refuse(e);
    return 0;
}

/* Entries behind the end of the disk, as a crash while it shrank leaves them, would show old data
 * after it grew. */
static void forget_behind(struct vhd *v) PL_NEEDS(&v->lock)
{
    for (uint64_t i = vhd_blocks(v); i < v->header.max_table_entries; i++)
        if (v->bat[i] != VHD_UNUSED)
            vhd_set_entry(v, i, VHD_UNUSED);
}

int vhd_mend_footers(struct vhd *v, struct pl_err *e)
{
    if (v->at_end != VHD_GOOD) {
        v->footer_at = pl_round_up(v->footer_at, VHD_SECTOR);
        if (vhd_write_footer(v, v->footer_at, e) < 0 || vhd_sync(v, e) < 0)
            return -1;
        v->at_end = VHD_GOOD;
    }
    if (!v->fixed && (v->at_start != VHD_GOOD || v->copies_differ)) {
        if (vhd_write_footer(v, 0, e) < 0 || vhd_sync(v, e) < 0)
            return -1;
        v->at_start = VHD_GOOD;
        v->copies_differ = false;
    }
    return 0;
}

/* In a disk without a parent all bits are set: some readers do not look at them. */
static int make_new_bitmap(struct vhd *v, struct pl_err *e)
{
    v->new_bitmap = malloc(v->bitmap_size);
    if (!v->new_bitmap)
        return pl_fail(e, PL_E_NOMEM, "no memory for a sector bitmap");
    memset(v->new_bitmap, v->has_parent ? 0 : 0xff, v->bitmap_size);
    return 0;
}

/* A map of complete blocks would become wrong: under another creator's name nobody looks at it.
 * Either creator means the current size. */
static int void_batmap(struct vhd *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const struct vhd_own *bat = &v->own[VHD_OWN_BAT];
    const uint64_t at = pl_round_up(bat->off + bat->len, VHD_SECTOR);
    uint8_t cookie[8];

    if (memcmp(v->footer.creator_application, VHD_CREATOR_XEN, 4) != 0)
        return 0;
    if (pl_storage_read_padded(v->file, at, cookie, sizeof cookie, e) < 0)
        return pl_within(e, "batmap");
    if (memcmp(cookie, VHD_BATMAP_COOKIE, sizeof cookie) != 0)
        return 0;
    memcpy(v->footer.creator_application, VHD_CREATOR_EXACT, 4);
    return vhd_write_footers(v, e);
}

static int prepare(struct vhd *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (v->file->device)
        return pl_fail(e, PL_E_UNSUPPORTED, "a VHD on a block device can only be read");
    if (check_places(v, e) < 0 || vhd_list_free(v, e) < 0 || vhd_mend_footers(v, e) < 0 ||
        void_batmap(v, e) < 0)
        return -1;
    forget_behind(v); /* their room is free once that is on disk: not in this session */
    if (!v->new_bitmap && make_new_bitmap(v, e) < 0)
        return -1;
    v->end = vhd_end_of_blocks(v);
    v->zero_from = v->footer_at + VHD_FOOTER_BYTES;
    /* the last block was short: new ones must not be taken for its rest */
    return vhd_make_room(v, v->end, e);
}

int vhd_begin_change(struct vhd *v, struct pl_err *e)
{
    if (vhd_check_writable(v, e) < 0)
        return -1;
    if (v->begun || v->fixed)
        return 0;
    if (prepare(v, e) < 0)
        return -1;
    v->begun = true;
    return 0;
}
