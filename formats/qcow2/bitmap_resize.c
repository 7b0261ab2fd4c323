/* bitmap_resize.c - persistent bitmaps get another length together with the disk.
 *
 * Their bits wait in memory, and on disk the bitmaps are marked in_use meanwhile: after a crash in
 * between they are known to be inconsistent.  Those that are so already stay as they are. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/change.h"
#include "formats/qcow2/tables.h"

/* Bits of a bitmap for a disk of `size` bytes. */
static uint64_t bits_for(uint64_t size, const struct pl_bitmap *shown)
{
    return pl_div_up(size, shown->granularity);
}

/* Reads the bits of one, with room for a disk of `size` bytes. */
static int keep(struct qcow2 *q, const struct qcow2_bitmap *b, uint64_t size,
                struct qcow2_kept_bitmap *kept, struct pl_err *e)
{
    const uint64_t len = pl_div_up(bits_for(q->header.size, &b->shown), 8);
    const uint64_t new_len = pl_div_up(bits_for(size, &b->shown), 8);

    if (!b->usable || new_len > QCOW2_BITMAP_BYTES_MAX) {
        pl_fail(e, PL_E_UNSUPPORTED, "bitmap '%s' cannot have the size of the new disk",
                b->shown.name);
        return pl_hint(e, "remove the bitmap first");
    }
    kept->shown = b->shown;
    kept->bits = calloc(1, PL_MAX(PL_MAX(len, new_len), 1));
    if (!kept->bits)
        return pl_fail(e, PL_E_NOMEM, "bitmap '%s': no memory", b->shown.name);
    return qcow2_bitmap_load(q, b->shown.name, kept->bits, len, e);
}

static void drop(struct qcow2_kept_bitmaps *kept)
{
    for (size_t i = 0; i < kept->count; i++)
        free(kept->item[i].bits);
    free(kept->item);
    *kept = (struct qcow2_kept_bitmaps){ 0 };
}

/* Reads all that can be trusted, then marks them. */
static int keep_all(struct qcow2 *q, const struct qcow2_bitmap *list, size_t count, uint64_t size,
                    struct qcow2_kept_bitmaps *kept, struct pl_err *e) PL_NEEDS(&q->lock)
{
    for (size_t i = 0; i < count; i++)
        if (!list[i].shown.in_use && keep(q, &list[i], size, &kept->item[kept->count++], e) < 0)
            return -1;
    for (size_t i = 0; i < count; i++)
        if (!list[i].shown.in_use && qcow2_mark_in_use(q, &list[i], e) < 0)
            return -1;
    return qcow2_sync(q, e);
}

int qcow2_keep_bitmaps(struct qcow2 *q, uint64_t size, struct qcow2_kept_bitmaps *kept,
                       struct pl_err *e)
{
    PL_FREE struct qcow2_bitmap *list = NULL;
    size_t count;

    if (qcow2_load_bitmaps(q, false, &list, &count, e) < 0)
        return -1;
    if (count == 0)
        return 0;
    kept->item = calloc(count, sizeof *kept->item);
    if (!kept->item)
        return pl_fail(e, PL_E_NOMEM, "no memory for %zu bitmaps", count);
    if (keep_all(q, list, count, size, kept, e) == 0)
        return 0;
    drop(kept);
    return -1;
}

/* Writes one for the disk as it is now. */
static int restore(struct qcow2 *q, const struct qcow2_kept_bitmap *kept, struct pl_err *e)
{
    const uint64_t bits = bits_for(q->header.size, &kept->shown), len = pl_div_up(bits, 8);

    if (bits % 8)
        kept->bits[len - 1] &= (uint8_t)((1u << bits % 8) - 1);
    return qcow2_bitmap_store(q, &kept->shown, kept->bits, len, e);
}

int qcow2_restore_bitmaps(struct qcow2 *q, struct qcow2_kept_bitmaps *kept, struct pl_err *e)
{
    int result = 0;

    for (size_t i = 0; result == 0 && i < kept->count; i++)
        result = restore(q, &kept->item[i], e);
    drop(kept);
    return result;
}
