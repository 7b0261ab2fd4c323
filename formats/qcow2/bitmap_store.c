/* bitmap_store.c - writes persistent bitmaps, and tells those that record writes that they miss
 * some.
 *
 * Order: bits and bitmap table first, then the directory (bitmap_directory.c).
 *
 * What platter writes is not recorded in bitmaps.  Before the first change of an image the bitmaps
 * that record writes are marked in_use, which tells everybody that they are incomplete; disabled
 * ones stay as they are. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "core/base/zero.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/tables.h"

#define FLAGS_AT 12 /* of a directory entry */

/* ---- before the first change ---- */

/* Features that only say "nobody changed this behind my back" stop saying it when platter does not
 * know them. */
int qcow2_clear_autoclear(struct qcow2 *q, uint64_t bits, struct pl_err *e)
{
    if (!(q->header.autoclear_features & bits))
        return 0;
    q->header.autoclear_features &= ~bits;
    return qcow2_write_header(q, e) < 0 || qcow2_sync(q, e) < 0 ? -1 : 0;
}

/* In place: the flags lie in one sector. */
int qcow2_mark_in_use(struct qcow2 *q, const struct qcow2_bitmap *b, struct pl_err *e)
{
    uint8_t raw[4];

    store_be32(raw, b->entry.flags | QCOW2_BITMAP_IN_USE);
    if (pl_storage_write(q->file, b->at + FLAGS_AT, raw, sizeof raw, e) < 0)
        return pl_within(e, "bitmap '%s'", b->shown.name);
    return 0;
}

int qcow2_before_change(struct qcow2 *q, struct pl_err *e)
{
    PL_FREE struct qcow2_bitmap *list = NULL;
    bool marked = false;
    size_t count = 0;

    if (qcow2_clear_autoclear(q, ~QCOW2_AUTOCLEAR_KNOWN, e) < 0)
        return -1;
    if (qcow2_load_bitmaps(q, false, &list, &count, NULL) < 0) {
        pl_warn(q->report,
                "the directory of bitmaps is damaged: all bitmaps are marked inconsistent");
        if (qcow2_clear_autoclear(q, QCOW2_AUTOCLEAR_BITMAPS, e) < 0)
            return -1;
    }
    for (size_t i = 0; !q->same_disk && i < count; i++) {
        if (!list[i].shown.enabled || list[i].shown.in_use)
            continue;
        if (qcow2_mark_in_use(q, &list[i], e) < 0)
            return -1;
        pl_warn(q->report,
                "bitmap '%s' does not record what is written now: it is marked inconsistent",
                list[i].shown.name);
        marked = true;
    }
    if (marked && qcow2_sync(q, e) < 0)
        return -1;
    q->header_marked = true;
    return 0;
}

/* ---- storing ---- */

static int check_bitmap(const struct qcow2 *q, const struct pl_bitmap *b, size_t len,
                        struct pl_err *e)
{
    uint64_t bytes;

    if (q->header.version < 3)
        return pl_fail(e, PL_E_UNSUPPORTED, "qcow2 version 2 cannot hold bitmaps");
    if (!pl_is_pow2(b->granularity) ||
        pl_log2(b->granularity) < QCOW2_BITMAP_GRANULARITY_BITS_MIN ||
        pl_log2(b->granularity) > QCOW2_BITMAP_GRANULARITY_BITS_MAX)
        return pl_fail(e, PL_E_INVALID,
                       "a granularity of %" PRIu64 " bytes is no power of two "
                       "from 512 bytes to 2 GiB",
                       b->granularity);
    bytes = pl_div_up(pl_div_up(q->header.size, b->granularity), 8);
    if (bytes > QCOW2_BITMAP_BYTES_MAX)
        return pl_fail(e, PL_E_LIMIT, "%" PRIu64 " bytes of bits are more than %" PRIu64, bytes,
                       QCOW2_BITMAP_BYTES_MAX);
    if (len != bytes)
        return pl_fail(e, PL_E_INVALID, "%zu bytes of bits instead of %" PRIu64, len, bytes);
    if (!b->name[0] || strnlen(b->name, sizeof b->name) > QCOW2_BITMAP_NAME_MAX)
        return pl_fail(e, PL_E_INVALID, "its name must have 1 to %d bytes", QCOW2_BITMAP_NAME_MAX);
    return 0;
}

static bool all_ones(const uint8_t *bits, size_t len)
{
    return bits[0] == 0xff && !memcmp(bits, bits + 1, len - 1);
}

/* Writes one cluster of bits; *entry is its bitmap table entry. */
static int store_bits(struct qcow2 *q, const uint8_t *bits, size_t len, uint64_t *entry,
                      struct pl_err *e) PL_NEEDS(&q->lock)
{
    PL_FREE uint8_t *cluster = NULL;

    *entry = 0;
    if (pl_is_zero(bits, len))
        return 0;
    if (len == q->cluster_size && all_ones(bits, len)) {
        *entry = QCOW2_BITMAP_ALL_ONES;
        return 0;
    }
    cluster = calloc(1, q->cluster_size);
    if (!cluster)
        return pl_fail(e, PL_E_NOMEM, "no memory for a cluster");
    memcpy(cluster, bits, len);
    if (qcow2_allocate_clusters(q, 1, true, entry, NULL, e) < 0)
        return -1;
    return pl_storage_write(q->file, *entry, cluster, q->cluster_size, e);
}

/* Writes the bits and their table; `out` says where. */
static int store_table(struct qcow2 *q, const uint8_t *bits, size_t len,
                       struct qcow2_bitmap_entry *out, struct pl_err *e) PL_NEEDS(&q->lock)
{
    uint64_t count = pl_div_up(len, q->cluster_size);
    PL_FREE uint64_t *table = calloc(count ? count : 1, sizeof *table);

    if (!table)
        return pl_fail(e, PL_E_NOMEM, "no memory for its table");
    for (uint64_t i = 0; i < count; i++) {
        uint64_t done = i << q->cluster_bits;

        if (store_bits(q, bits + done, PL_MIN(len - done, q->cluster_size), &table[i], e) < 0)
            return -1;
    }
    if (qcow2_allocate_clusters(q, PL_MAX(pl_div_up(8 * count, q->cluster_size), 1), true,
                                &out->bitmap_table_offset, NULL, e) < 0)
        return -1;
    out->bitmap_table_size = (uint32_t)count;
    return qcow2_write_table(q, out->bitmap_table_offset, table, count, e);
}

int qcow2_bitmap_store(void *state, const struct pl_bitmap *bitmap, const uint8_t *bits, size_t len,
                       struct pl_err *e)
{
    struct qcow2 *q = state;
    struct qcow2_bitmap_entry place = { 0 };

    PL_LOCKED(&q->lock);
    if (qcow2_check_writable(q, e) < 0)
        return -1;
    if (check_bitmap(q, bitmap, len, e) < 0)
        return pl_within(e, "bitmap '%.*s'", (int)sizeof bitmap->name, bitmap->name);
    if (qcow2_clear_autoclear(q, ~QCOW2_AUTOCLEAR_KNOWN, e) < 0 ||
        store_table(q, bits, len, &place, e) < 0 ||
        qcow2_replace_bitmap(q, bitmap->name, bitmap, &place, e) < 0)
        return pl_within(e, "bitmap '%s'", bitmap->name);
    q->header_marked = false; /* the next change of the disk concerns this bitmap too */
    return 0;
}

static int remove_bitmap(struct qcow2 *q, const char *name, struct pl_err *e) PL_NEEDS(&q->lock)
{
    PL_FREE struct qcow2_bitmap *list = NULL;
    size_t count, i = 0;

    if (qcow2_check_writable(q, e) < 0 || qcow2_clear_autoclear(q, ~QCOW2_AUTOCLEAR_KNOWN, e) < 0 ||
        qcow2_load_bitmaps(q, false, &list, &count, e) < 0)
        return -1;
    while (i < count && strcmp(list[i].shown.name, name) != 0)
        i++;
    if (i == count)
        return pl_fail(e, PL_E_NOT_FOUND, "there is no bitmap '%s' in it", name);
    return qcow2_replace_bitmap(q, name, NULL, NULL, e);
}

int qcow2_bitmap_remove(void *state, const char *name, struct pl_err *e)
{
    struct qcow2 *q = state;
    int r;

    pl_lock_take(&q->lock);
    r = remove_bitmap(q, name, e);
    pl_lock_drop(&q->lock);
    return r < 0 ? -1 : qcow2_flush(q, e);
}
