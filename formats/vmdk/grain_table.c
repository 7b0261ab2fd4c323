/* grain_table.c - where grains are: the grain directory, grain tables, their entries.
 *
 * Directories and tables are never loaded whole: both are read through caches of sectors.  What is
 * not cached is read without the lock; when tables changed meanwhile it is read again, in the end
 * under the lock. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "formats/vmdk/sparse.h"

/* Reads that lost a race with a change before the lock is held for one. */
#define RACES_MAX 4
/* Bounds on one search for empty tables: 2 TiB of disk with the usual sizes, and questions about
 * holes in the file. */
#define EMPTY_TABLES_MAX 65536u
#define HOLE_QUESTIONS_MAX 16

#define RAW_BYTES (VMDK_LOOK_ENTRIES * VMDK_ENTRY_BYTES + VMDK_SECTOR)

/* Copies the sectors of [from, to) that are cached over raw; true: that was all of them.  `fill`
 * puts the others into the cache. */
static bool copy_cached(struct pl_table_cache *tc, uint64_t from, uint64_t to, uint8_t *raw,
                        bool fill)
{
    bool all = true;

    for (uint64_t at = from; at < to; at += VMDK_SECTOR) {
        const uint8_t *sector = pl_table_cache_peek(tc, at);

        if (sector)
            memcpy(raw + (at - from), sector, VMDK_SECTOR);
        else if (fill)
            pl_table_cache_insert(tc, at, raw + (at - from), pl_table_cache_epoch(tc));
        all = all && sector;
    }
    return all;
}

/* Reads the file with the lock dropped. */
static int read_meanwhile(struct vmdk_sparse *s, uint64_t at, uint8_t *raw, size_t len,
                          struct pl_err *e) PL_NEEDS(&s->lock);
static int read_meanwhile(struct vmdk_sparse *s, uint64_t at, uint8_t *raw, size_t len,
                          struct pl_err *e)
{
    int result;

    pl_lock_drop(&s->lock);
    result = pl_storage_read_padded(s->file, at, raw, len, e);
    pl_lock_take(&s->lock);
    return result;
}

/* The sectors of [from, to).  1: they were read, but tables changed meanwhile. */
static int try_sectors(struct vmdk_sparse *s, struct pl_table_cache *tc, struct vmdk_run range,
                       bool hold, uint8_t *raw, struct pl_err *e) PL_NEEDS(&s->lock);
static int try_sectors(struct vmdk_sparse *s, struct pl_table_cache *tc, struct vmdk_run range,
                       bool hold, uint8_t *raw, struct pl_err *e)
{
    const uint64_t epoch = pl_table_cache_epoch(tc);
    int result;

    if (copy_cached(tc, range.off, range.off + range.len, raw, false))
        return 0;
    result = hold ? pl_storage_read_padded(s->file, range.off, raw, range.len, e)
                  : read_meanwhile(s, range.off, raw, range.len, e);
    if (result < 0)
        return -1;
    if (epoch != pl_table_cache_epoch(tc))
        return 1;
    copy_cached(tc, range.off, range.off + range.len, raw, true);
    return 0;
}

int vmdk_read_entries(struct vmdk_sparse *s, struct pl_table_cache *tc, uint64_t off,
                      struct vmdk_entries *io, struct pl_err *e)
{
    const uint64_t from = pl_round_down(off, VMDK_SECTOR);
    const uint64_t to = pl_round_up(off + (uint64_t)io->count * VMDK_ENTRY_BYTES, VMDK_SECTOR);
    uint8_t raw[RAW_BYTES]; /* not cleared: it is big */
    int result = 1;

    for (unsigned races = 0; result == 1; races++)
        result = try_sectors(s, tc, (struct vmdk_run){ from, to - from },
                             io->keep_lock || races >= RACES_MAX, raw, e);
    for (uint32_t i = 0; result == 0 && i < io->count; i++)
        io->entry[i] = load_le32(raw + (off - from) + (size_t)i * VMDK_ENTRY_BYTES);
    return result;
}

int vmdk_check_table(const struct vmdk_sparse *s, uint32_t entry, uint64_t index, uint64_t *off,
                     struct pl_err *e)
{
    const uint64_t end = s->file_end;

    *off = vmdk_entry_offset(entry);
    if (!entry)
        return 0;
    if (*off < s->metadata_end)
        return pl_fail(e, PL_E_CORRUPT,
                       "grain directory entry %" PRIu64 ": the grain table at 0x%" PRIx64
                       " is inside header or descriptor",
                       index, *off);
    if (!pl_inside(*off, vmdk_table_bytes(s), end))
        return pl_fail(e, PL_E_CORRUPT,
                       "grain directory entry %" PRIu64 ": the grain table at 0x%" PRIx64
                       " is past the end of the file (0x%" PRIx64 ")",
                       index, *off, end);
    return 0;
}

int vmdk_find_table(struct vmdk_sparse *s, unsigned copy, uint64_t index, bool keep_lock,
                    uint64_t *off, struct pl_err *e)
{
    struct vmdk_entries look; /* not cleared: it is big */

    look.count = 1;
    look.keep_lock = keep_lock;
    if (vmdk_read_entries(s, s->directory_cache, s->directory[copy] + index * VMDK_ENTRY_BYTES,
                          &look, e) < 0)
        return pl_within(e, "grain directory");
    return vmdk_check_table(s, look.entry[0], index, off, e);
}

static int look_in_copy(struct vmdk_sparse *s, unsigned copy, uint64_t grain,
                        struct vmdk_entries *io, struct pl_err *e) PL_NEEDS(&s->lock);
static int look_in_copy(struct vmdk_sparse *s, unsigned copy, uint64_t grain,
                        struct vmdk_entries *io, struct pl_err *e)
{
    const uint32_t in_table = (uint32_t)(grain & (s->table_entries - 1));
    uint64_t table;

    if (vmdk_find_table(s, copy, grain >> s->table_bits, io->keep_lock, &table, e) < 0)
        return -1;
    io->count = table ? PL_MIN(io->count, s->table_entries - in_table) : 0;
    if (!table)
        return 0;
    if (vmdk_read_entries(s, s->table_cache, table + (uint64_t)in_table * VMDK_ENTRY_BYTES, io, e) <
        0)
        return pl_within(e, "grain table");
    return 0;
}

int vmdk_look(struct vmdk_sparse *s, uint64_t grain, struct vmdk_entries *io, struct pl_err *e)
{
    const uint32_t wanted = io->count;
    struct pl_err why;

    if (s->directory[0]) {
        if (look_in_copy(s, 0, grain, io, &why) == 0)
            return 0;
        if (!s->directory[1] || s->writable) {
            if (e)
                *e = why;
            return -1;
        }
        if (!s->warned)
            pl_warn(s->report, "%s; the redundant grain directory is used", why.msg);
        s->warned = true;
    }
    io->count = wanted;
    return look_in_copy(s, 1, grain, io, e);
}

/* A search for tables without entries. */
struct search {
    bool clean; /* all changes are in the file: a hole of it means zeros */
    unsigned questions;
    struct vmdk_run hole; /* the last one found */
};

/* Whether the table at `off` lies in a hole of the file. */
static bool in_hole(struct vmdk_sparse *s, uint64_t off, struct search *search)
{
    const uint64_t size = pl_storage_size(s->file), bytes = vmdk_table_bytes(s);
    struct vmdk_run *hole = &search->hole;
    bool is_hole = false;

    if (off >= hole->off && pl_inside(off - hole->off, bytes, hole->len))
        return true;
    if (!pl_inside(off, bytes, size) || ++search->questions > HOLE_QUESTIONS_MAX)
        return false;
    *hole = (struct vmdk_run){ off, size - off };
    if (pl_storage_map(s->file, off, &hole->len, &is_hole, NULL) < 0 || !is_hole)
        hole->len = 0;
    return hole->len >= bytes;
}

/* How many of these directory entries, from the first on, name tables without entries. */
static uint32_t empty_run(struct vmdk_sparse *s, const struct vmdk_entries *look,
                          struct search *search)
{
    uint32_t i = 0;

    while (i < look->count &&
           (!look->entry[i] ||
            (search->clean && in_hole(s, vmdk_entry_offset(look->entry[i]), search))))
        i++;
    return i;
}

/* Up to `count` directory entries from that of table `index` on. */
static int read_directory(struct vmdk_sparse *s, uint64_t index, struct vmdk_entries *look)
{
    const uint64_t directory = s->directory[0] ? s->directory[0] : s->directory[1];

    PL_LOCKED(&s->lock);
    look->keep_lock = false;
    return vmdk_read_entries(s, s->directory_cache, directory + index * VMDK_ENTRY_BYTES, look,
                             NULL);
}

static bool is_clean(struct vmdk_sparse *s)
{
    PL_LOCKED(&s->lock);
    return !pl_table_cache_is_dirty(s->table_cache);
}

uint64_t vmdk_empty_tables(struct vmdk_sparse *s, uint64_t index, uint64_t last)
{
    const uint64_t end = PL_MIN(last + 1, index + EMPTY_TABLES_MAX);
    struct search search = { .clean = is_clean(s) };
    struct vmdk_entries look; /* not cleared: it is big */
    uint64_t i = index;

    while (i < end) {
        uint32_t empty;

        look.count = (uint32_t)PL_MIN(end - i, VMDK_LOOK_ENTRIES);
        if (read_directory(s, i, &look) < 0)
            break;
        empty = empty_run(s, &look, &search);
        i += empty;
        if (empty < look.count)
            break;
    }
    return i - index;
}

int vmdk_check_entry(const struct vmdk_sparse *s, uint32_t entry, uint64_t grain, uint64_t file_end,
                     struct pl_err *e)
{
    const uint64_t off = vmdk_entry_offset(entry);

    if (off < s->metadata_end)
        return pl_fail(e, PL_E_CORRUPT,
                       "grain table entry 0x%08" PRIx32 " of grain %" PRIu64
                       ": it points into header or descriptor",
                       entry, grain);
    if (!pl_inside(off, s->compressed ? 1 : vmdk_grain_len(s, grain), file_end)) {
        pl_fail(e, PL_E_CORRUPT,
                "grain table entry 0x%08" PRIx32 " of grain %" PRIu64
                ": the grain is past the end of the file (0x%" PRIx64 ")",
                entry, grain, file_end);
        return pl_hint(e, "the file may be incomplete; compare its size with the original");
    }
    return 0;
}
