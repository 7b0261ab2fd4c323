/* set_parent.c - another parent, or none.
 *
 * One commit changes the metadata: the flag HasParent and the item Parent Locator.  A disk that
 * loses its parent cannot have partially present blocks: what they do not have becomes zeros in
 * their place first, which nobody sees as yet.  A copy of the BAT, in which they are fully present
 * and the sector bitmaps are gone, becomes the BAT in that same commit, and moves to the place of
 * the old one in the next.  A disk that gets a parent has no entries of sector bitmaps before that:
 * nobody looked at them. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/scope.h"
#include "formats/vhdx/vhdx.h"

/* ---- the metadata table ---- */

#define ENTRIES_AT VHDX_METADATA_ENTRIES_AT
#define ENTRY_BYTES VHDX_METADATA_ENTRY_BYTES

static void load_entry(const uint8_t *table, uint32_t i, struct vhdx_metadata_entry *entry)
{
    pl_fields_decode(vhdx_metadata_entry_fields, table + ENTRIES_AT + i * ENTRY_BYTES, ENTRY_BYTES,
                     entry);
}

static uint32_t count_of(const uint8_t *table)
{
    return load_le16(table + 10); /* was checked when the image was opened */
}

/* The index of the item Parent Locator; that behind the last entry where there is none. */
static uint32_t find_locator(const uint8_t *table)
{
    for (uint32_t i = 0; i < count_of(table); i++) {
        struct vhdx_metadata_entry entry;

        load_entry(table, i, &entry);
        if (!(entry.Flags & VHDX_ITEM_IS_USER) &&
            memcmp(entry.ItemId, vhdx_guid_parent_locator, sizeof entry.ItemId) == 0)
            return i;
    }
    return count_of(table);
}

/* Whether an item other than `but` has bytes of [off, off + len) of the region. */
static bool is_taken(const uint8_t *table, uint32_t but, uint64_t off, uint64_t len)
{
    for (uint32_t i = 0; i < count_of(table); i++) {
        struct vhdx_metadata_entry entry;

        load_entry(table, i, &entry);
        if (i != but && off < (uint64_t)entry.Offset + entry.Length && entry.Offset < off + len)
            return true;
    }
    return false;
}

/* Room for the locator in the region: behind one of the other items, or in front of all. */
static int find_room(const struct vhdx *v, const uint8_t *table, uint32_t locator, uint32_t len,
                     uint32_t *off, struct pl_err *e)
{
    for (uint32_t i = 0; i <= count_of(table); i++) {
        struct vhdx_metadata_entry entry = { .Offset = VHDX_METADATA_TABLE_BYTES };
        uint64_t place;

        if (i < count_of(table))
            load_entry(table, i, &entry);
        place = (uint64_t)entry.Offset + entry.Length;
        if (i == locator || place < VHDX_METADATA_TABLE_BYTES ||
            !pl_inside(place, len, v->metadata.len) || is_taken(table, locator, place, len))
            continue;
        *off = (uint32_t)place;
        return 0;
    }
    return pl_fail(e, PL_E_LIMIT, "metadata: no room for a parent locator of %" PRIu32 " bytes",
                   len);
}

static int put_entry(struct vhdx *v, uint32_t i, const struct vhdx_metadata_entry *entry,
                     struct pl_err *e) PL_NEEDS(&v->lock)
{
    uint8_t raw[ENTRY_BYTES] = { 0 };

    pl_fields_encode(vhdx_metadata_entry_fields, entry, raw, sizeof raw);
    return vhdx_put(v, v->metadata.off + ENTRIES_AT + i * ENTRY_BYTES, raw, sizeof raw, e);
}

static int put_count(struct vhdx *v, uint32_t count, struct pl_err *e) PL_NEEDS(&v->lock)
{
    uint8_t raw[2];

    store_le16(raw, (uint16_t)count);
    return vhdx_put(v, v->metadata.off + 10, raw, sizeof raw, e);
}

/* ---- the change ---- */

/* What becomes of the image. */
struct change {
    bool has_parent;
    char *name; /* as vhdx.parent_name */
    struct pl_uuid linkage;
    uint8_t *locator;
    uint32_t locator_len;
    struct vhdx_range bat;
    uint64_t edits; /* entries of the BAT that are others without a parent */
};

/* The last entry takes the place of the locator's. */
static int take_locator_away(struct vhdx *v, const uint8_t *table, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint32_t locator = find_locator(table), count = count_of(table);
    const struct vhdx_metadata_entry none = { 0 };
    struct vhdx_metadata_entry last;

    if (locator == count)
        return 0;
    load_entry(table, count - 1, &last);
    if (put_entry(v, locator, &last, e) < 0 || put_entry(v, count - 1, &none, e) < 0)
        return -1;
    return put_count(v, count - 1, e);
}

static int put_locator(struct vhdx *v, const struct change *c, const uint8_t *table,
                       struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint32_t locator = find_locator(table), count = count_of(table);
    struct vhdx_metadata_entry entry = { .Length = c->locator_len, .Flags = VHDX_ITEM_IS_REQUIRED };

    if (locator == VHDX_METADATA_ENTRIES_MAX)
        return pl_fail(e, PL_E_LIMIT, "metadata: no room for another item");
    memcpy(entry.ItemId, vhdx_guid_parent_locator, sizeof entry.ItemId);
    if (find_room(v, table, locator, c->locator_len, &entry.Offset, e) < 0 ||
        vhdx_put(v, v->metadata.off + entry.Offset, c->locator, c->locator_len, e) < 0 ||
        put_entry(v, locator, &entry, e) < 0)
        return -1;
    return locator < count ? 0 : put_count(v, count + 1, e);
}

static int put_metadata(struct vhdx *v, const struct change *c, struct pl_err *e) PL_NEEDS(&v->lock)
{
    PL_FREE uint8_t *table = malloc(VHDX_METADATA_TABLE_BYTES);
    uint8_t flags[4];

    if (!table)
        return pl_fail(e, PL_E_NOMEM, "metadata: no memory");
    if (pl_storage_read(v->file, v->metadata.off, table, VHDX_METADATA_TABLE_BYTES, e) < 0)
        return -1;
    store_le32(flags, (v->keep_blocks ? VHDX_LEAVE_BLOCKS_ALLOCATED : 0) |
                          (c->has_parent ? VHDX_HAS_PARENT : 0));
    if (vhdx_put(v, v->parameters_item + 4, flags, sizeof flags, e) < 0)
        return -1;
    return c->has_parent ? put_locator(v, c, table, e) : take_locator_away(v, table, e);
}

/* ---- blocks of a disk that loses its parent ---- */

/* What a visit of the BAT needs. */
struct visit {
    struct vhdx *v;
    struct change *c;
};

/* Makes the sectors that a partially present block does not have zeros in their place. */
static int zero_missing(struct vhdx *v, const struct vhdx_item *item, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    const uint64_t start = item->block << v->block_bits;
    const uint64_t end = start + PL_MIN(v->block_size, v->size - start);
    uint64_t bitmap, len;

    if (vhdx_bitmap(v, item->block, &bitmap, e) < 0)
        return -1;
    if (!bitmap)
        return pl_fail(e, PL_E_CORRUPT,
                       "block %" PRIu64 " is partially present, but has no sector bitmap",
                       item->block);
    for (uint64_t at = start; at < end; at += len) {
        bool set;

        len = end - at;
        if (vhdx_bits(v, bitmap, at, &len, &set, e) < 0)
            return -1;
        if (!set &&
            pl_storage_zero(v->file, VHDX_BAT_OFFSET(item->entry) + (at - start), len, e) < 0)
            return -1;
    }
    return 0;
}

static bool is_partial(const struct vhdx_item *item)
{
    return !item->bitmap && VHDX_BAT_STATE(item->entry) == VHDX_PARTIALLY_PRESENT;
}

static int fill_block(void *ctx, const struct vhdx_item *item, struct pl_err *e) PL_UNCHECKED;
static int fill_block(void *ctx, const struct vhdx_item *item, struct pl_err *e)
{
    const struct visit *visit = ctx;

    visit->c->edits += item->bitmap || is_partial(item);
    return is_partial(item) ? zero_missing(visit->v, item, e) : 0;
}

/* Changes the entry in the copy, which nothing names as yet. */
static int edit_copy(void *ctx, const struct vhdx_item *item, struct pl_err *e)
{
    const struct visit *visit = ctx;
    uint8_t raw[8];

    if (!item->bitmap && !is_partial(item))
        return 0;
    store_le64(raw, item->bitmap ? 0 : VHDX_BAT_OFFSET(item->entry) | VHDX_FULLY_PRESENT);
    return pl_storage_write(visit->v->file, visit->c->bat.off + 8 * item->index, raw, sizeof raw,
                            e);
}

/* The room of a sector bitmap belongs to nobody any more: a hole. */
static int drop_bitmap(void *ctx, const struct vhdx_item *item, struct pl_err *e) PL_UNCHECKED;
static int drop_bitmap(void *ctx, const struct vhdx_item *item, struct pl_err *e)
{
    struct vhdx *v = ctx;
    uint64_t off = 0;

    if (!item->bitmap || vhdx_bitmap(v, item->block, &off, NULL) < 0 || !off)
        return 0;
    pl_table_cache_drop(v->tables, off, VHDX_BITMAP_BLOCK_BYTES);
    return pl_storage_zero(v->file, off, VHDX_BITMAP_BLOCK_BYTES, e);
}

static int prepare_orphan(struct vhdx *v, struct change *c, struct pl_err *e) PL_NEEDS(&v->lock)
{
    struct visit visit = { .v = v, .c = c };

    if (vhdx_walk(v, fill_block, &visit, e) < 0)
        return -1;
    if (!c->edits)
        return 0;
    return vhdx_copy_bat(v, &c->bat, e) < 0 ? -1 : vhdx_walk(v, edit_copy, &visit, e);
}

/* ---- blocks of a disk that gets a parent ---- */

static int clear_bitmap_entry(void *ctx, const struct vhdx_item *item,
                              struct pl_err *e) PL_UNCHECKED;
static int clear_bitmap_entry(void *ctx, const struct vhdx_item *item, struct pl_err *e)
{
    struct vhdx *v = ctx;

    if (!item->bitmap)
        return 0;
    return vhdx_reserve(v, 1, e) < 0 ? -1 : vhdx_set_entry(v, item->index, 0, e);
}

static int prepare_child(struct vhdx *v, struct change *c, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t blocks = vhdx_blocks(v, v->size), now = vhdx_bat_entries(v, v->size);
    const uint64_t entries = blocks ? vhdx_bitmap_index(v, blocks - 1) + 1 : 0;
    const uint64_t end = PL_MIN(entries, v->bat.len / 8);

    if (vhdx_walk(v, clear_bitmap_entry, v, e) < 0 ||
        vhdx_clear_entries(v, now, end, UINT64_MAX, e) < 0 || vhdx_commit(v, e) < 0)
        return -1;
    return vhdx_need_bat(v, entries, &c->bat, e);
}

/* ---- together ---- */

static int prepare(struct vhdx *v, struct change *c, struct pl_err *e) PL_NEEDS(&v->lock)
{
    c->bat = v->bat;
    if (v->has_parent == c->has_parent)
        return 0;
    return c->has_parent ? prepare_child(v, c, e) : prepare_orphan(v, c, e);
}

static int publish(struct vhdx *v, struct change *c, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (put_metadata(v, c, e) < 0) {
        v->broken = true; /* a part of it waits in memory */
        return pl_within(e, "metadata");
    }
    if (vhdx_commit_bat(v, c->bat, e) < 0)
        return -1;
    free(v->parent_name);
    v->parent_name = pl_take(c->name);
    v->parent_linkage = c->linkage;
    v->parent_linkage2 = (struct pl_uuid){ 0 };
    return 0;
}

/* From now on the BAT is read as one of such a disk.  Bitmaps that stay are what compact finds. */
static int settle(struct vhdx *v, const struct change *c, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const struct vhdx_range old = v->bat;

    if (c->edits && vhdx_walk(v, drop_bitmap, v, NULL) < 0)
        pl_warn(v->report, "the room of sector bitmaps could not be given back");
    v->has_parent = c->has_parent;
    vhdx_use_bat(v, c->bat);
    return c->edits ? vhdx_bring_bat_back(v, old, e) : 0;
}

/* The locator, and what will be read from it. */
static int describe(struct change *c, const struct pl_parent_ref *parent, struct pl_err *e)
{
    struct vhdx read = { 0 };

    if (!c->has_parent)
        return 0;
    if (vhdx_read_linkage(parent, &c->linkage, e) < 0 ||
        vhdx_make_locator(parent->name, &c->linkage, &c->locator, &c->locator_len, e) < 0 ||
        vhdx_read_locator(&read, c->locator, c->locator_len, e) < 0)
        return -1;
    c->name = read.parent_name;
    return 0;
}

static int set_parent(struct vhdx *v, struct change *c, const struct pl_parent_ref *parent,
                      struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (describe(c, parent, e) < 0 || vhdx_begin_upkeep(v, e) < 0 || vhdx_commit(v, e) < 0 ||
        prepare(v, c, e) < 0 || publish(v, c, e) < 0)
        return -1;
    return settle(v, c, e);
}

int vhdx_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e)
{
    struct vhdx *v = state;
    struct change c = { .has_parent = parent->name };
    int result;

    PL_LOCKED(&v->lock);
    if (vhdx_check_writable(v, e) < 0)
        return -1;
    if (!parent->name && !v->has_parent)
        return 0;
    if (parent->name && v->keep_blocks)
        return pl_fail(e, PL_E_UNSUPPORTED, "a fixed VHDX image cannot have a parent");
    result = set_parent(v, &c, parent, e);
    free(c.locator);
    free(c.name);
    return result;
}
