/* bitmaps.c - persistent dirty bitmaps: the header extension, the directory, the bits.
 *
 * Specification: docs/interop/qcow2.rst, "Bitmaps extension" and "Bitmaps".  An image whose
 * autoclear bit for bitmaps is off was written to by something that does not know them: they say
 * nothing any more. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/qcow2/extensions.h"
#include "formats/qcow2/tables.h"

/* A directory entry with the shortest name, padded. */
#define ENTRY_BYTES_MIN (QCOW2_BITMAP_ENTRY_BYTES + 8)

const struct pl_field qcow2_bitmaps_ext_fields[] = {
    PL_FIELD(struct qcow2_bitmaps_ext, PL_BE32, 0, nb_bitmaps),
    PL_FIELD(struct qcow2_bitmaps_ext, PL_BE32, 4, reserved),
    PL_FIELD(struct qcow2_bitmaps_ext, PL_BE64, 8, bitmap_directory_size),
    PL_FIELD(struct qcow2_bitmaps_ext, PL_BE64, 16, bitmap_directory_offset),
    { 0 },
};

const struct pl_field qcow2_bitmap_entry_fields[] = {
    PL_FIELD(struct qcow2_bitmap_entry, PL_BE64, 0, bitmap_table_offset),
    PL_FIELD(struct qcow2_bitmap_entry, PL_BE32, 8, bitmap_table_size),
    PL_FIELD(struct qcow2_bitmap_entry, PL_BE32, 12, flags),
    PL_FIELD(struct qcow2_bitmap_entry, PL_U8, 16, type),
    PL_FIELD(struct qcow2_bitmap_entry, PL_U8, 17, granularity_bits),
    PL_FIELD(struct qcow2_bitmap_entry, PL_BE16, 18, name_size),
    PL_FIELD(struct qcow2_bitmap_entry, PL_BE32, 20, extra_data_size),
    { 0 },
};

static int check_extension(const struct qcow2 *q, const struct qcow2_bitmaps_ext *ext,
                           struct pl_err *e)
{
    const struct qcow2_place directory = { .off = ext->bitmap_directory_offset,
                                           .entries = ext->bitmap_directory_size / 8,
                                           .bytes_max = QCOW2_BITMAP_DIRECTORY_BYTES_MAX };

    if (ext->nb_bitmaps == 0 || ext->reserved != 0)
        return pl_fail(e, PL_E_CORRUPT,
                       "bitmaps extension: it has no bitmaps or a reserved field set");
    if (ext->nb_bitmaps > QCOW2_BITMAPS_MAX)
        return pl_fail(e, PL_E_LIMIT, "bitmaps extension: %" PRIu32 " bitmaps are more than %d",
                       ext->nb_bitmaps, QCOW2_BITMAPS_MAX);
    if (ext->bitmap_directory_size % 8 != 0 || ext->bitmap_directory_offset == 0 ||
        ext->bitmap_directory_size / ENTRY_BYTES_MIN < ext->nb_bitmaps)
        return pl_fail(e, PL_E_CORRUPT,
                       "bitmaps extension: %" PRIu64 " bytes cannot be a directory of %" PRIu32
                       " bitmaps",
                       ext->bitmap_directory_size, ext->nb_bitmaps);
    return qcow2_check_table(q, "bitmap directory", directory, e);
}

int qcow2_bitmaps_extension(const struct qcow2 *q, bool even_stale, struct qcow2_bitmaps_ext *ext,
                            struct pl_err *e)
{
    const struct qcow2_extension *x = qcow2_extension(q, QCOW2_EXT_BITMAPS);

    if (!x || (!even_stale && !(q->header.autoclear_features & QCOW2_AUTOCLEAR_BITMAPS)))
        return 1;
    if (x->len != QCOW2_BITMAPS_EXT_BYTES)
        return pl_fail(e, PL_E_CORRUPT, "bitmaps extension: it has %" PRIu32 " bytes instead of %d",
                       x->len, QCOW2_BITMAPS_EXT_BYTES);
    pl_fields_decode(qcow2_bitmaps_ext_fields, x->data, x->len, ext);
    return check_extension(q, ext, e);
}

/* Bytes of bits that a bitmap of that granularity has for the disk. */
static uint64_t bytes_of_bits(const struct qcow2 *q, uint64_t granularity)
{
    return pl_div_up(pl_div_up(q->header.size, granularity), 8);
}

static bool is_usable(const struct qcow2 *q, const struct qcow2_bitmap *b)
{
    const struct qcow2_bitmap_entry *entry = &b->entry;
    const uint64_t bytes = bytes_of_bits(q, b->shown.granularity);

    return entry->type == QCOW2_BITMAP_TYPE_DIRTY &&
           entry->granularity_bits >= QCOW2_BITMAP_GRANULARITY_BITS_MIN &&
           entry->granularity_bits <= QCOW2_BITMAP_GRANULARITY_BITS_MAX &&
           (entry->extra_data_size == 0 || entry->flags & QCOW2_BITMAP_EXTRA_COMPATIBLE) &&
           bytes <= QCOW2_BITMAP_BYTES_MAX &&
           pl_div_up(bytes, q->cluster_size) == entry->bitmap_table_size;
}

static int check_entry(const struct qcow2_bitmap_entry *entry, struct pl_err *e)
{
    if (entry->flags & QCOW2_BITMAP_FLAGS_RESERVED)
        return pl_fail(e, PL_E_CORRUPT, "reserved flags are set: 0x%08" PRIx32, entry->flags);
    if (entry->granularity_bits > 63)
        return pl_fail(e, PL_E_CORRUPT, "granularity_bits %u is more than 63",
                       entry->granularity_bits);
    if (entry->name_size == 0 || entry->name_size > QCOW2_BITMAP_NAME_MAX)
        return pl_fail(e, PL_E_LIMIT, "a name of %u bytes (allowed: 1 to %d)", entry->name_size,
                       QCOW2_BITMAP_NAME_MAX);
    if (entry->bitmap_table_size > QCOW2_BITMAP_TABLE_ENTRIES_MAX)
        return pl_fail(e, PL_E_LIMIT, "a table of %" PRIu32 " entries is more than %" PRIu32,
                       entry->bitmap_table_size, QCOW2_BITMAP_TABLE_ENTRIES_MAX);
    return 0;
}

/* Decodes the entry at p, of which `room` bytes are there. */
static int read_entry(const struct qcow2 *q, const uint8_t *p, uint64_t room,
                      struct qcow2_bitmap *b, struct pl_err *e)
{
    struct qcow2_bitmap_entry *entry = &b->entry;
    uint64_t name_at;

    if (room < QCOW2_BITMAP_ENTRY_BYTES)
        return pl_fail(e, PL_E_CORRUPT, "the directory ends inside it");
    pl_fields_decode(qcow2_bitmap_entry_fields, p, QCOW2_BITMAP_ENTRY_BYTES, entry);
    if (check_entry(entry, e) < 0)
        return -1;
    name_at = QCOW2_BITMAP_ENTRY_BYTES + (uint64_t)entry->extra_data_size;
    if (!pl_inside(name_at, entry->name_size, room))
        return pl_fail(e, PL_E_CORRUPT, "the directory ends inside it");
    b->len = (uint32_t)(name_at + entry->name_size);
    memcpy(b->shown.name, p + name_at, entry->name_size);
    b->shown.granularity = UINT64_C(1) << entry->granularity_bits;
    b->shown.in_use = entry->flags & QCOW2_BITMAP_IN_USE;
    b->shown.enabled = entry->flags & QCOW2_BITMAP_AUTO;
    b->usable = is_usable(q, b);
    return 0;
}

static int read_directory(const struct qcow2 *q, const struct qcow2_bitmaps_ext *ext,
                          const uint8_t *raw, struct qcow2_bitmap *list, struct pl_err *e)
{
    uint64_t at = 0;

    for (uint32_t i = 0; i < ext->nb_bitmaps; i++) {
        if (at > ext->bitmap_directory_size ||
            read_entry(q, raw + at, ext->bitmap_directory_size - at, &list[i], e) < 0)
            return pl_within(e, "bitmap directory entry %" PRIu32, i);
        list[i].at = ext->bitmap_directory_offset + at;
        at = pl_round_up(at + list[i].len, 8);
    }
    return 0;
}

int qcow2_load_bitmaps(struct qcow2 *q, bool even_stale, struct qcow2_bitmap **list, size_t *count,
                       struct pl_err *e)
{
    PL_FREE struct qcow2_bitmap *all = NULL;
    PL_FREE uint8_t *raw = NULL;
    struct qcow2_bitmaps_ext ext = { 0 };
    const int found = qcow2_bitmaps_extension(q, even_stale, &ext, e);

    *list = NULL;
    *count = 0;
    if (found != 0)
        return found < 0 ? -1 : 0;
    assert(ext.nb_bitmaps > 0);
    all = calloc(ext.nb_bitmaps, sizeof *all);
    raw = malloc(ext.bitmap_directory_size);
    if (!all || !raw)
        return pl_fail(e, PL_E_NOMEM, "bitmap directory: no memory for %" PRIu32 " entries",
                       ext.nb_bitmaps);
    if (pl_storage_read(q->file, ext.bitmap_directory_offset, raw, ext.bitmap_directory_size, e) <
        0)
        return pl_within(e, "bitmap directory");
    if (read_directory(q, &ext, raw, all, e) < 0)
        return -1;
    *list = pl_take(all);
    *count = ext.nb_bitmaps;
    return 0;
}

int qcow2_bitmaps(void *state, struct pl_bitmap **list, size_t *count, struct pl_err *e)
{
    PL_FREE struct qcow2_bitmap *all = NULL;
    struct pl_bitmap *shown;
    size_t n;

    *list = NULL;
    *count = 0;
    if (qcow2_load_bitmaps(state, false, &all, &n, e) < 0)
        return -1;
    if (n == 0)
        return 0;
    shown = calloc(n, sizeof *shown);
    if (!shown)
        return pl_fail(e, PL_E_NOMEM, "no memory for %zu bitmaps", n);
    for (size_t i = 0; i < n; i++)
        shown[i] = all[i].shown;
    *list = shown;
    *count = n;
    return 0;
}

/* The bits that one entry of the bitmap table stands for. */
static int load_bits(struct qcow2 *q, uint64_t entry, uint8_t *bits, size_t len, struct pl_err *e)
{
    const uint64_t off = entry & QCOW2_OFFSET_MASK;

    if (entry & QCOW2_BITMAP_TABLE_RESERVED || (off && entry & QCOW2_BITMAP_ALL_ONES) ||
        off & (q->cluster_size - 1))
        return pl_fail(e, PL_E_CORRUPT, "table entry 0x%016" PRIx64 " is malformed", entry);
    if (off)
        return pl_storage_read(q->file, off, bits, len, e);
    memset(bits, entry & QCOW2_BITMAP_ALL_ONES ? 0xff : 0, len);
    return 0;
}

static int load_all_bits(struct qcow2 *q, const struct qcow2_bitmap *b, uint8_t *bits, size_t len,
                         struct pl_err *e)
{
    const struct qcow2_place place = { .off = b->entry.bitmap_table_offset,
                                       .entries = b->entry.bitmap_table_size,
                                       .bytes_max = 8 * (uint64_t)QCOW2_BITMAP_TABLE_ENTRIES_MAX };
    PL_FREE uint64_t *table = NULL;

    if (qcow2_load_table(q, "bitmap table", place, &table, e) < 0)
        return -1;
    for (size_t done = 0; done < len; done += PL_MIN(len - done, q->cluster_size))
        if (load_bits(q, table[done / q->cluster_size], bits + done,
                      PL_MIN(len - done, q->cluster_size), e) < 0)
            return -1;
    return 0;
}

static struct qcow2_bitmap *find(struct qcow2_bitmap *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].shown.name, name) == 0)
            return &list[i];
    return NULL;
}

int qcow2_bitmap_load(void *state, const char *name, uint8_t *bits, size_t len, struct pl_err *e)
{
    struct qcow2 *q = state;
    PL_FREE struct qcow2_bitmap *all = NULL;
    const struct qcow2_bitmap *b;
    uint64_t count_of_bits;
    size_t count;

    if (qcow2_load_bitmaps(q, false, &all, &count, e) < 0)
        return -1;
    b = find(all, count, name);
    if (!b)
        return pl_fail(e, PL_E_NOT_FOUND, "there is no bitmap '%s' in it", name);
    if (!b->usable)
        return pl_fail(e, PL_E_UNSUPPORTED, "bitmap '%s': its kind or size is not supported", name);
    if (b->shown.in_use)
        return pl_fail(e, PL_E_CORRUPT, "bitmap '%s': it was not written back by its last user",
                       name);
    if (len != bytes_of_bits(q, b->shown.granularity))
        return pl_fail(e, PL_E_INVALID, "bitmap '%s': room for %zu bytes instead of %" PRIu64, name,
                       len, bytes_of_bits(q, b->shown.granularity));
    if (load_all_bits(q, b, bits, len, e) < 0)
        return pl_within(e, "bitmap '%s'", name);
    count_of_bits = pl_div_up(q->header.size, b->shown.granularity);
    if (count_of_bits % 8)
        bits[len - 1] &= (uint8_t)((1u << count_of_bits % 8) - 1);
    return 0;
}
