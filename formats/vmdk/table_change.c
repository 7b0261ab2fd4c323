/* table_change.c - entries of grain tables that change, in both copies; new tables.
 *
 * A sector of copy 0 is changed first and then stays in the cache, being dirty, while the same
 * sector of copy 1 is fetched. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/vmdk/sparse.h"

#define SECTOR_ENTRIES (VMDK_SECTOR / VMDK_ENTRY_BYTES)

/* A list of freed runs that is longer is a reason to write back. */
#define PENDING_MAX 4096

/* The part of a change that lies in one grain table. */
struct part {
    uint64_t table[VMDK_COPIES]; /* byte offsets; 0: no such copy */
    uint32_t in_table;           /* index of the first entry */
    struct vmdk_change change;
};

static unsigned copies(const struct vmdk_sparse *s)
{
    return s->directory[1] ? 2 : 1;
}

int vmdk_set_table(struct vmdk_sparse *s, unsigned copy, uint64_t index, uint64_t table,
                   struct pl_err *e)
{
    const uint64_t at = s->directory[copy] + index * VMDK_ENTRY_BYTES;
    uint8_t *sector;

    if (vmdk_sector(s, s->directory_cache, at, &sector, e) < 0)
        return pl_within(e, "grain directory");
    store_le32(sector + at % VMDK_SECTOR, (uint32_t)(table / VMDK_SECTOR));
    pl_table_cache_dirty(s->directory_cache, at);
    return 0;
}

/* New, empty tables for `index`, a copy behind the other; the directories show them. */
static int make_tables(struct vmdk_sparse *s, uint64_t index, uint64_t *table, struct pl_err *e)
    PL_NEEDS(&s->lock);
static int make_tables(struct vmdk_sparse *s, uint64_t index, uint64_t *table, struct pl_err *e)
{
    const uint64_t bytes = vmdk_table_bytes(s);
    uint8_t *sector;
    uint64_t off;

    if (vmdk_append_room(s, copies(s) * bytes, &off, e) < 0)
        return -1;
    for (uint64_t at = off; at < off + copies(s) * bytes; at += VMDK_SECTOR)
        if (vmdk_sector_new(s, s->table_cache, at, &sector, e) < 0)
            return pl_within(e, "new grain table");
    for (unsigned copy = 0; copy < copies(s); copy++) {
        table[copy] = off + copy * bytes;
        if (vmdk_set_table(s, copy, index, table[copy], e) < 0) {
            s->broken = true; /* the copies may differ */
            return -1;
        }
    }
    return 0;
}

/* Finds the tables that the part changes, or makes them.  1: there are none and none are needed. */
static int find_tables(struct vmdk_sparse *s, struct part *part, struct pl_err *e)
    PL_NEEDS(&s->lock);
static int find_tables(struct vmdk_sparse *s, struct part *part, struct pl_err *e)
{
    const uint64_t index = part->change.grain >> s->table_bits;

    for (unsigned copy = 0; copy < copies(s); copy++)
        if (vmdk_find_table(s, copy, index, true, &part->table[copy], e) < 0)
            return -1;
    if (copies(s) == 2 && !part->table[0] != !part->table[1]) {
        pl_fail(e, PL_E_CORRUPT,
                "grain directory entry %" PRIu64 ": only one of the two copies has a grain table",
                index);
        return pl_hint(e, "platter check -r all mends it");
    }
    if (part->table[0])
        return 0;
    if (part->change.entry == VMDK_ENTRY_NONE)
        return 1;
    return make_tables(s, index, part->table, e);
}

int vmdk_make_missing_tables(struct vmdk_sparse *s, uint64_t grain, struct pl_err *e)
{
    struct part part = { .change = { .grain = grain, .entry = VMDK_ENTRY_ZEROED } };

    return find_tables(s, &part, e);
}

/* The grain that an entry showed goes, unless the entry stays. */
static int release(struct vmdk_sparse *s, uint32_t old, uint32_t new, uint64_t grain,
                   struct pl_err *e) PL_NEEDS(&s->lock);
static int release(struct vmdk_sparse *s, uint32_t old, uint32_t new, uint64_t grain,
                   struct pl_err *e)
{
    if (old == new || !vmdk_entry_points(s, old) ||
        vmdk_check_entry(s, old, grain, s->file_end, NULL) < 0)
        return 0;
    return vmdk_free_later(s, vmdk_entry_offset(old), e);
}

/* Changes `count` entries that one sector of the table has, from entry `done` of the part on. */
static int change_sector(struct vmdk_sparse *s, const struct part *part, unsigned copy,
                         uint32_t done, uint32_t count, struct pl_err *e) PL_NEEDS(&s->lock);
static int change_sector(struct vmdk_sparse *s, const struct part *part, unsigned copy,
                         uint32_t done, uint32_t count, struct pl_err *e)
{
    const struct vmdk_change *c = &part->change;
    const uint64_t at = part->table[copy] + (uint64_t)(part->in_table + done) * VMDK_ENTRY_BYTES;
    uint8_t *sector, *p;

    if (vmdk_sector(s, s->table_cache, at, &sector, e) < 0)
        return pl_within(e, "grain table");
    pl_table_cache_dirty(s->table_cache, at);
    p = sector + at % VMDK_SECTOR;
    for (uint32_t i = done; i < done + count; i++, p += VMDK_ENTRY_BYTES) {
        const uint32_t old = load_le32(p), new = c->entry + i * c->step;

        store_le32(p, new);
        if (copy == 0 && !c->keep_room && release(s, old, new, c->grain + i, e) < 0) {
            s->broken = true;
            return -1;
        }
    }
    return 0;
}

static int change_part(struct vmdk_sparse *s, struct part *part, struct pl_err *e)
    PL_NEEDS(&s->lock);
static int change_part(struct vmdk_sparse *s, struct part *part, struct pl_err *e)
{
    const int missing = find_tables(s, part, e);
    uint32_t count;

    if (missing)
        return missing < 0 ? -1 : 0;
    for (uint32_t done = 0; done < part->change.count; done += count) {
        const uint32_t in_sector = (part->in_table + done) % SECTOR_ENTRIES;

        count = (uint32_t)PL_MIN(SECTOR_ENTRIES - in_sector, part->change.count - done);
        for (unsigned copy = 0; copy < copies(s); copy++)
            if (change_sector(s, part, copy, done, count, e) < 0) {
                s->broken = s->broken || done || copy;
                return -1;
            }
    }
    return 0;
}

int vmdk_change_entries(struct vmdk_sparse *s, struct vmdk_change change, struct pl_err *e)
{
    for (uint64_t done = 0; done < change.count;) {
        const uint64_t grain = change.grain + done;
        struct part part = {
            .in_table = (uint32_t)(grain & (s->table_entries - 1)),
            .change = { .grain = grain,
                        .entry = change.entry + (uint32_t)done * change.step,
                        .step = change.step,
                        .keep_room = change.keep_room },
        };

        part.change.count = PL_MIN(change.count - done, s->table_entries - part.in_table);
        if (change_part(s, &part, e) < 0) {
            s->broken = s->broken || done;
            return -1;
        }
        done += part.change.count;
    }
    return s->pending.count > PENDING_MAX ? vmdk_sparse_write_back(s, false, e) : 0;
}
