/* parent.c - whose child a disk is: what a new one says of that, and how it gets another parent.
 *
 * Header and locators are longer than the one sector that a crash leaves old or new, so they never
 * change where they are.  New ones are written where nothing is, and then the footers, a sector
 * each, name them: that instant changes the parent.  It is done twice.  The first header and its
 * names stand behind all else; the second ones take the places at the front of the file that became
 * free, which is where other programs expect a header and where blocks do not come.
 *
 * A sector whose bit is clear is the parent's; without a parent all bits are set, and the block
 * holds zeros there.  Those zeros are in the block before the parent goes, the bits are set after
 * it went; and both before a parent comes: so old and new state are whole at every instant. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/base/zero.h"
#include "formats/vhd/change.h"
#include "formats/vhd/create.h"

/* ---- what there is to say ---- */

/* The value behind `key` in the words of an identity; null: it has none. */
static const char *word(const char *identity, const char *key)
{
    const size_t len = strlen(key);

    for (const char *at = identity; at && *at; at += strspn(at, " ")) {
        if (strncmp(at, key, len) == 0)
            return at + len;
        at += strcspn(at, " ");
    }
    return NULL;
}

/* The parent's identifier and time. */
static int set_ids(const struct pl_parent_ref *parent, struct vhd_header *header, struct pl_err *e)
{
    const char *id = word(parent->identity, "uuid:");
    const char *stamp = word(parent->identity, "time:");
    char text[PL_UUID_TEXT] = "";
    struct pl_uuid uuid;

    if (parent->format && strcmp(parent->format, "vhd") != 0 && strcmp(parent->format, "vpc") != 0)
        return pl_fail(e, PL_E_UNSUPPORTED, "the backing file is %s; that of a VHD must be a VHD",
                       parent->format);
    if (!id) {
        pl_fail(e, PL_E_INVALID, "the unique id of its backing file '%s' is not known",
                parent->name);
        return pl_hint(e, "the backing file must exist and be a VHD");
    }
    strncpy(text, id, sizeof text - 1);
    if (pl_uuid_parse(text, &uuid, e) < 0)
        return -1;
    memcpy(header->parent_unique_id, uuid.byte, sizeof uuid.byte);
    header->parent_time_stamp = stamp ? (uint32_t)strtoul(stamp, NULL, 10) : 0;
    return 0;
}

int vhd_describe_parent(const struct pl_parent_ref *parent, struct vhd_header *header,
                        struct vhd_name names[VHD_NAMES], struct pl_err *e)
{
    memset(names, 0, VHD_NAMES * sizeof *names);
    memset(header->parent_unique_id, 0, sizeof header->parent_unique_id);
    memset(header->parent_unicode_name, 0, sizeof header->parent_unicode_name);
    header->parent_time_stamp = 0;
    if (!parent->name)
        return 0;
    if (set_ids(parent, header, e) < 0)
        return -1;
    return vhd_encode_parent_name(parent->name, header, names, e);
}

/* ---- places ---- */

/* The change of one image. */
struct change {
    bool has_parent; /* afterwards */
    struct vhd_header header;
    struct vhd_name names[VHD_NAMES];
};

/* Whether no block and nothing else is known to be there. */
static bool is_free(const struct vhd *v, uint64_t off, uint64_t len)
{
    const uint64_t bytes = vhd_block_bytes(v);

    for (unsigned i = 0; i < v->own_count; i++)
        if (off < v->own[i].off + v->own[i].len && v->own[i].off < off + len)
            return false;
    for (uint32_t i = 0; i < v->header.max_table_entries; i++) {
        const uint64_t block = (uint64_t)v->bat[i] * VHD_SECTOR;

        if (v->bat[i] != VHD_UNUSED && off < block + bytes && block < off + len)
            return false;
    }
    return true;
}

static uint64_t first_block(const struct vhd *v)
{
    uint32_t first = VHD_UNUSED;

    for (uint32_t i = 0; i < v->header.max_table_entries; i++)
        first = PL_MIN(first, v->bat[i]);
    return (uint64_t)first * VHD_SECTOR;
}

/* Whether the file has zeros there. */
static int is_empty(struct vhd *v, uint64_t off, uint64_t len, bool *empty, struct pl_err *e)
{
    PL_FREE uint8_t *bytes = malloc(len);

    if (!bytes)
        return pl_fail(e, PL_E_NOMEM, "no memory for a parent locator");
    if (pl_storage_read_padded(v->file, off, bytes, len, e) < 0)
        return -1;
    *empty = pl_is_zero(bytes, len);
    return 0;
}

/* A place for `len` bytes behind one of the parts in front of byte offset `limit`; *at stays where
 * there is none.  Others keep things there that we know nothing of: only zeros are overwritten. */
static int find_at_front(struct vhd *v, uint64_t len, uint64_t limit, uint64_t *at,
                         struct pl_err *e)
{
    for (unsigned i = 0; i < v->own_count; i++) {
        const uint64_t place = pl_round_up(v->own[i].off + v->own[i].len, VHD_SECTOR);
        bool empty = false;

        if (place < VHD_HEADER_AT + VHD_HEADER_BYTES || place + len > limit ||
            !is_free(v, place, len))
            continue;
        if (is_empty(v, place, len, &empty, e) < 0)
            return -1;
        if (empty) {
            *at = place;
            return 0;
        }
    }
    return 0;
}

/* Whether the file has zeros there, or a header that counts no more. */
static int is_good_for_header(struct vhd *v, uint64_t at, bool *good, struct pl_err *e)
{
    uint8_t bytes[VHD_HEADER_BYTES];

    if (pl_storage_read_padded(v->file, at, bytes, sizeof bytes, e) < 0)
        return -1;
    *good = pl_is_zero(bytes, sizeof bytes) || memcmp(bytes, VHD_HEADER_COOKIE, 8) == 0;
    return 0;
}

/* The usual place of the header, or where it was before, if they lie in front of `limit` and not on
 * the names; *at stays where neither is good. */
static int find_for_header(struct vhd *v, uint64_t before, uint64_t limit,
                           const struct vhd_piece *names, uint64_t *at, struct pl_err *e)
{
    const uint64_t places[] = { VHD_HEADER_AT, before };

    for (unsigned i = 0; i < PL_COUNT(places); i++) {
        const uint64_t place = places[i];
        bool good = false;

        if (!pl_inside(place, VHD_HEADER_BYTES, limit) || !is_free(v, place, VHD_HEADER_BYTES) ||
            (place < names->end && names->off < place + VHD_HEADER_BYTES))
            continue;
        if (is_good_for_header(v, place, &good, e) < 0)
            return -1;
        if (good) {
            *at = place;
            return 0;
        }
    }
    return 0;
}

/* ---- the change ---- */

/* Notes where header and names are. */
static void own_places(struct vhd *v, const struct change *c, uint64_t header_at, uint64_t names_at)
    PL_NEEDS(&v->lock)
{
    v->own[VHD_OWN_HEADER].off = header_at;
    v->own_count = VHD_OWN_BAT + 1;
    for (unsigned i = 0; i < VHD_NAMES; i++) {
        if (!c->names[i].data)
            continue;
        v->own[v->own_count++] = (struct vhd_own){ "a parent locator", names_at, c->names[i].len };
        names_at += pl_round_up(c->names[i].len, VHD_SECTOR);
    }
}

/* Writes header and names where nothing is, and lets the footers name them. */
static int change_over(struct vhd *v, const struct change *c, uint64_t header_at, uint64_t names_at,
                       struct pl_err *e) PL_NEEDS(&v->lock)
{
    uint8_t raw[VHD_HEADER_BYTES];

    if (pl_storage_read(v->file, v->footer.data_offset, raw, sizeof raw, e) < 0 ||
        vhd_write_names(v->file, c->names, names_at, raw, e) < 0)
        return -1;
    pl_fields_encode(vhd_header_fields, &c->header, raw, sizeof raw);
    vhd_seal_header(raw);
    if (pl_storage_write(v->file, header_at, raw, sizeof raw, e) < 0)
        return pl_within(e, "header");
    if (vhd_sync(v, e) < 0)
        return -1;
    v->footer.data_offset = header_at;
    v->footer.disk_type = c->has_parent ? VHD_DIFFERENCING : VHD_DYNAMIC;
    if (vhd_write_footers(v, e) < 0)
        return -1;
    v->header = c->header;
    own_places(v, c, header_at, names_at);
    return 0;
}

/* Zeroes names that are no longer used, so that their room can be told from what others keep. */
static int wipe(struct vhd *v, const struct vhd_own *old, unsigned count, struct pl_err *e)
    PL_NEEDS(&v->lock)
{
    for (unsigned i = 0; i < count; i++) {
        const uint64_t len = pl_round_up(old[i].len, VHD_SECTOR);

        if (old[i].off >= VHD_HEADER_AT + VHD_HEADER_BYTES && is_free(v, old[i].off, len) &&
            pl_storage_zero(v->file, old[i].off, len, e) < 0)
            return -1;
    }
    return 0;
}

/* The second change over, from `tail` to the front; the header was at `before`. */
static int move_to_front(struct vhd *v, const struct change *c, uint64_t tail, uint64_t before,
                         struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t bytes = vhd_names_bytes(c->names), limit = PL_MIN(first_block(v), tail);
    uint64_t header_at = v->own[VHD_OWN_HEADER].off;
    struct vhd_piece names = { .off = tail };

    if (bytes && find_at_front(v, bytes, limit, &names.off, e) < 0)
        return -1;
    names.end = names.off + bytes;
    if (find_for_header(v, before, limit, &names, &header_at, e) < 0)
        return -1;
    return change_over(v, c, header_at, names.off, e);
}

static int change_parent(struct vhd *v, const struct change *c, struct pl_err *e) PL_NEEDS(&v->lock)
{
    const uint64_t tail = v->end, before = v->footer.data_offset;
    const uint64_t bytes = vhd_names_bytes(c->names) + VHD_HEADER_BYTES;
    const unsigned old_count = v->own_count - VHD_OWN_BAT - 1;
    struct vhd_own old[VHD_LOCATORS];

    memcpy(old, v->own + VHD_OWN_BAT + 1, old_count * sizeof *old);
    if (vhd_make_room(v, tail + bytes, e) < 0)
        return -1;
    v->end = tail + bytes;
    if (change_over(v, c, v->end - VHD_HEADER_BYTES, tail, e) < 0)
        return -1;
    v->has_parent = c->has_parent;
    memset(v->new_bitmap, v->has_parent ? 0 : 0xff, v->bitmap_size);
    if (wipe(v, old, old_count, e) < 0)
        return -1;
    return move_to_front(v, c, tail, before, e);
}

/* What is not in the blocks was the parent's, or is going to be. */
static int fill_before(struct vhd *v, const struct change *c, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (v->has_parent == c->has_parent)
        return 0;
    if (vhd_zero_missing(v, e) < 0 || vhd_sync(v, e) < 0)
        return -1;
    if (v->has_parent)
        return 0;
    return vhd_set_all_bits(v, e) < 0 ? -1 : vhd_sync(v, e);
}

static int fill_after(struct vhd *v, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (v->has_parent)
        return 0;
    return vhd_set_all_bits(v, e) < 0 ? -1 : vhd_sync(v, e);
}

static int set_parent(struct vhd *v, const struct change *c, struct pl_err *e) PL_NEEDS(&v->lock)
{
    if (fill_before(v, c, e) < 0)
        return -1;
    if (change_parent(v, c, e) < 0 || fill_after(v, e) < 0 || vhd_list_free(v, e) < 0) {
        v->broken = true; /* what the file says is known again when it is opened */
        return -1;
    }
    v->end = vhd_end_of_blocks(v);
    return vhd_trim(v, e);
}

int vhd_set_parent(void *state, const struct pl_parent_ref *parent, struct pl_err *e)
{
    struct vhd *v = state;
    struct change c = { .has_parent = parent->name };
    int result;

    PL_LOCKED(&v->lock);
    if (vhd_check_writable(v, e) < 0)
        return -1;
    if (!parent->name && !v->has_parent)
        return 0;
    if (v->fixed)
        return pl_fail(e, PL_E_UNSUPPORTED, "a fixed VHD cannot have a backing file");
    if (vhd_begin_change(v, e) < 0 || vhd_settle(v, e) < 0)
        return -1;
    c.header = v->header;
    if (vhd_describe_parent(parent, &c.header, c.names, e) < 0)
        return -1;
    result = set_parent(v, &c, e);
    vhd_free_names(c.names);
    return result;
}
