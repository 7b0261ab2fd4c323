/* bitmap_store.c - writes persistent bitmaps, and tells those that record writes that they miss
 * some.
 *
 * Order: bits and bitmap table, then a new directory, synced; then the header points at it; then
 * what the old directory alone pointed at is free.
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
#include "formats/qcow2/extensions.h"
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
    for (size_t i = 0; i < count; i++) {
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

/* Whether the extension's data lie in one sector of the header, so that a change of them cannot be
 * torn. */
static bool in_one_sector(const struct qcow2 *q, const struct qcow2_extension *wanted)
{
    uint64_t at = q->header.header_length + QCOW2_EXT_HEAD;

    if (q->parent_format)
        at += QCOW2_EXT_HEAD + pl_round_up(strlen(q->parent_format), 8);
    if (q->data_file_name)
        at += QCOW2_EXT_HEAD + pl_round_up(strlen(q->data_file_name), 8);
    for (const struct qcow2_extension *x = q->extensions; x && x != wanted; x = x->next)
        at += QCOW2_EXT_HEAD + pl_round_up(x->len, 8);
    return at % QCOW2_SECTOR + QCOW2_BITMAPS_EXT_BYTES <= QCOW2_SECTOR;
}

/* Makes the header point at a directory that is on disk.  Where that changes more than one sector,
 * the extension says nothing meanwhile. */
static int point_at(struct qcow2 *q, const struct qcow2_bitmaps_ext *ext, struct pl_err *e)
    PL_NEEDS(&q->lock)
{
    const struct qcow2_extension *old = qcow2_extension(q, QCOW2_EXT_BITMAPS);
    uint8_t raw[QCOW2_BITMAPS_EXT_BYTES];

    if (!old || !in_one_sector(q, old)) {
        if (qcow2_clear_autoclear(q, QCOW2_AUTOCLEAR_BITMAPS, e) < 0)
            return -1;
    }
    pl_fields_encode(qcow2_bitmaps_ext_fields, ext, raw, sizeof raw);
    if (qcow2_set_extension(q, QCOW2_EXT_BITMAPS, raw, sizeof raw, e) < 0 ||
        qcow2_write_header(q, e) < 0 || qcow2_sync(q, e) < 0)
        return -1;
    if (q->header.autoclear_features & QCOW2_AUTOCLEAR_BITMAPS)
        return 0;
    q->header.autoclear_features |= QCOW2_AUTOCLEAR_BITMAPS;
    return qcow2_write_header(q, e) < 0 || qcow2_sync(q, e) < 0 ? -1 : 0;
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

/* Replaces the directory, whose entries are `list`, by one that has the new bitmap too. */
static int store(struct qcow2 *q, const struct qcow2_bitmap *list, size_t count,
                 const struct pl_bitmap *bitmap, const struct qcow2_bitmap_entry *place,
                 struct pl_err *e) PL_NEEDS(&q->lock)
{
    struct qcow2_bitmaps_ext old = { 0 }, ext;
    struct directory d = { 0 };
    PL_FREE uint8_t *raw = NULL;
    int found = qcow2_bitmaps_extension(q, false, &old, e);

    if (found < 0)
        return -1;
    raw = d.raw =
        calloc(1, old.bitmap_directory_size + QCOW2_BITMAP_ENTRY_BYTES + sizeof bitmap->name + 8);
    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "no memory for the directory");
    if (keep_others(q, list, count, bitmap->name, &d, e) < 0)
        return -1;
    append_entry(bitmap, place, &d);
    if (write_directory(q, &d, &ext, e) < 0 || qcow2_write_back(q, true, e) < 0 ||
        point_at(q, &ext, e) < 0)
        return -1;
    return found == 0 ? free_old(q, &old, list, count, bitmap->name, e) : 0;
}

int qcow2_bitmap_store(void *state, const struct pl_bitmap *bitmap, const uint8_t *bits, size_t len,
                       struct pl_err *e)
{
    struct qcow2 *q = state;
    struct qcow2_bitmap_entry place = { 0 };
    PL_FREE struct qcow2_bitmap *list = NULL;
    size_t count;

    PL_LOCKED(&q->lock);
    if (qcow2_check_writable(q, e) < 0)
        return -1;
    if (check_bitmap(q, bitmap, len, e) < 0)
        return pl_within(e, "bitmap '%.*s'", (int)sizeof bitmap->name, bitmap->name);
    if (qcow2_clear_autoclear(q, ~QCOW2_AUTOCLEAR_KNOWN, e) < 0 ||
        qcow2_load_bitmaps(q, false, &list, &count, e) < 0 ||
        store_table(q, bits, len, &place, e) < 0 || store(q, list, count, bitmap, &place, e) < 0)
        return pl_within(e, "bitmap '%s'", bitmap->name);
    q->header_marked = false; /* the next change of the disk concerns this bitmap too */
    return 0;
}
