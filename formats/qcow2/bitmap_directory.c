/* bitmap_directory.c - replaces the directory of persistent bitmaps.
 *
 * The new one is written to new clusters and synced; then the header points at it; then what the
 * old one alone pointed at is free.  Without bitmaps there is no directory, and the header has no
 * bitmaps extension. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/check.h"
#include "formats/qcow2/extensions.h"
#include "formats/qcow2/tables.h"

/* A bitmap directory on its way to the file. */
struct directory {
    uint8_t *raw;
    uint64_t len;
    uint32_t count;
};

/* Appends the entries of the old directory but the one called `name`. */
static int keep_others(struct qcow2 *q, const struct qcow2_bitmap *list, size_t count,
                       const char *name, struct directory *d, struct pl_err *e)
{
    for (size_t i = 0; i < count; i++) {
        if (!strcmp(list[i].shown.name, name))
            continue;
        if (pl_storage_read(q->file, list[i].at, d->raw + d->len, list[i].len, e) < 0)
            return -1;
        d->len += pl_round_up(list[i].len, 8);
        d->count++;
    }
    return 0;
}

static void append_entry(const struct pl_bitmap *bitmap, const struct qcow2_bitmap_entry *place,
                         struct directory *d)
{
    size_t name_len = strlen(bitmap->name);
    struct qcow2_bitmap_entry entry = *place;

    entry.flags =
        (bitmap->in_use ? QCOW2_BITMAP_IN_USE : 0) | (bitmap->enabled ? QCOW2_BITMAP_AUTO : 0);
    entry.type = QCOW2_BITMAP_TYPE_DIRTY;
    entry.granularity_bits = (uint8_t)pl_log2(bitmap->granularity);
    entry.name_size = (uint16_t)name_len;
    pl_fields_encode(qcow2_bitmap_entry_fields, &entry, d->raw + d->len, QCOW2_BITMAP_ENTRY_BYTES);
    memcpy(d->raw + d->len + QCOW2_BITMAP_ENTRY_BYTES, bitmap->name, name_len);
    d->len += pl_round_up(QCOW2_BITMAP_ENTRY_BYTES + name_len, 8);
    d->count++;
}

/* Writes the directory to new clusters. */
static int write_directory(struct qcow2 *q, const struct directory *d,
                           struct qcow2_bitmaps_ext *ext, struct pl_err *e) PL_NEEDS(&q->lock)
{
    *ext = (struct qcow2_bitmaps_ext){ .nb_bitmaps = d->count, .bitmap_directory_size = d->len };
    if (d->count > QCOW2_BITMAPS_MAX || d->len > QCOW2_BITMAP_DIRECTORY_BYTES_MAX)
        return pl_fail(e, PL_E_LIMIT,
                       "%" PRIu32 " bitmaps in a directory of %" PRIu64 " bytes are too "
                       "many",
                       d->count, d->len);
    if (qcow2_allocate_clusters(q, pl_div_up(d->len, q->cluster_size), true,
                                &ext->bitmap_directory_offset, NULL, e) < 0)
        return -1;
    return pl_storage_write(q->file, ext->bitmap_directory_offset, d->raw, d->len, e);
}

/* What the header says of bitmaps is `len` bytes from now on; 0: nothing. */
static int say(struct qcow2 *q, const uint8_t *raw, uint32_t len, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    if (qcow2_set_extension(q, QCOW2_EXT_BITMAPS, len ? raw : NULL, len, e) < 0)
        return -1;
    q->header.autoclear_features &= ~QCOW2_AUTOCLEAR_BITMAPS;
    q->header.autoclear_features |= len ? QCOW2_AUTOCLEAR_BITMAPS : 0;
    return 0;
}

/* Makes the header point at a directory that is on disk; without bitmaps at none. */
static int point_at(struct qcow2 *q, const struct qcow2_bitmaps_ext *ext, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    const struct qcow2_extension *old = qcow2_extension(q, QCOW2_EXT_BITMAPS);
    const uint64_t features = q->header.autoclear_features;
    uint8_t raw[QCOW2_BITMAPS_EXT_BYTES], before[QCOW2_BITMAPS_EXT_BYTES];
    const uint32_t old_len = old && old->len == sizeof before ? old->len : 0;

    if (old_len)
        memcpy(before, old->data, old_len);
    pl_fields_encode(qcow2_bitmaps_ext_fields, ext, raw, sizeof raw);
    if (say(q, raw, ext->nb_bitmaps ? sizeof raw : 0, e) < 0)
        return -1;
    if (qcow2_replace_header(q, e) == 0)
        return 0;
    if (say(q, before, old_len, NULL) < 0)
        q->broken = true; /* memory does not say what the file does */
    q->header.autoclear_features = features;
    return -1;
}

/* Frees the bits and the table of a bitmap that was replaced. */
static int free_bitmap(struct qcow2 *q, const struct qcow2_bitmap *b, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    const struct qcow2_place place = { .off = b->entry.bitmap_table_offset,
                                       .entries = b->entry.bitmap_table_size,
                                       .bytes_max = 8 * (uint64_t)QCOW2_BITMAP_TABLE_ENTRIES_MAX };
    PL_FREE uint64_t *table = NULL;

    if (qcow2_load_table(q, "bitmap table", place, &table, e) < 0)
        return -1;
    for (uint64_t i = 0; i < place.entries; i++) {
        uint64_t off = table[i] & QCOW2_OFFSET_MASK;

        if (off && qcow2_free_later(q, off, 1, true, e) < 0)
            return -1;
    }
    return qcow2_free_later(q, place.off, PL_MAX(pl_div_up(8 * place.entries, q->cluster_size), 1),
                            true, e);
}

/* Frees what only the old directory pointed at. */
static int free_old(struct qcow2 *q, const struct qcow2_bitmaps_ext *ext,
                    const struct qcow2_bitmap *list, size_t count, const char *name,
                    struct pl_err *e) PL_NEEDS(&q->lock)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(list[i].shown.name, name) && free_bitmap(q, &list[i], e) < 0)
            return -1;
    return qcow2_free_later(q, ext->bitmap_directory_offset,
                            pl_div_up(ext->bitmap_directory_size, q->cluster_size), true, e);
}

/* Writes the directory that lies in `d` and shows it. */
static int show(struct qcow2 *q, const struct directory *d, struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct qcow2_bitmaps_ext ext = { 0 };

    if ((d->count && write_directory(q, d, &ext, e) < 0) || qcow2_write_back(q, true, e) < 0)
        return -1;
    return point_at(q, &ext, e);
}

int qcow2_replace_bitmap(struct qcow2 *q, const char *name, const struct pl_bitmap *bitmap,
                         const struct qcow2_bitmap_entry *place, struct pl_err *e)
{
    const uint64_t one = QCOW2_BITMAP_ENTRY_BYTES + sizeof bitmap->name + 8;
    PL_FREE struct qcow2_bitmap *list = NULL;
    struct qcow2_bitmaps_ext old = { 0 };
    struct directory d = { 0 };
    PL_FREE uint8_t *raw = NULL;
    size_t count;
    int found;

    if (qcow2_load_bitmaps(q, false, &list, &count, e) < 0)
        return -1;
    found = qcow2_bitmaps_extension(q, false, &old, e);
    if (found < 0)
        return -1;
    raw = d.raw = calloc(1, old.bitmap_directory_size + one);
    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "no memory for the directory");
    if (keep_others(q, list, count, name, &d, e) < 0)
        return -1;
    if (bitmap)
        append_entry(bitmap, place, &d);
    if (show(q, &d, e) < 0)
        return -1;
    return found == 0 ? free_old(q, &old, list, count, name, e) : 0;
}
