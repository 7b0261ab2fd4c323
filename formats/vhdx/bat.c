/* bat.c - where guest blocks are: the block allocation table and the sector bitmaps.
 *
 * Specification: [MS-VHDX] 2.5.  Behind the entries of each chunk of payload blocks stands the
 * entry of the sector bitmap block that describes them.
 *
 * map copies the sector of the table that it wants and decodes it without the lock.  A sector that
 * is not cached is read without the lock too; when tables changed meanwhile it is read again, in
 * the end under the lock.  A table that was never written is a hole of the file, which is skipped
 * as a whole: that of 64 TiB in blocks of 1 MiB has 512 MiB. */
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "formats/vhdx/vhdx.h"

#define ENTRIES_PER_SECTOR (VHDX_SECTOR / 8)
#define BITS_PER_SECTOR (8 * VHDX_SECTOR)

/* Reads of a sector that lost a race with a change before the lock is held for one. */
#define RACES_MAX 4

/* A copy of one sector of a table. */
struct sector {
    uint64_t off; /* in the file; aligned */
    uint64_t end; /* no block of the file is at or after this byte offset */
    bool clean;   /* no table in memory differs from the file */
    uint8_t bytes[VHDX_SECTOR];
};

enum kind { NOTHING, ZEROS, WHOLE, PARTS };

static enum kind kind_of(uint64_t entry)
{
    switch (VHDX_BAT_STATE(entry)) {
    case VHDX_NOT_PRESENT:
        return NOTHING;
    case VHDX_FULLY_PRESENT:
        return WHOLE;
    case VHDX_PARTIALLY_PRESENT:
        return PARTS;
    default:
        return ZEROS;
    }
}

uint64_t vhdx_bat_entries(const struct vhdx *v, uint64_t size)
{
    const uint64_t blocks = vhdx_blocks(v, size);

    if (blocks == 0)
        return 0;
    return v->has_parent ? vhdx_bitmap_index(v, blocks - 1) + 1
                         : vhdx_payload_index(v, blocks - 1) + 1;
}

static int bad_entry(uint64_t entry, uint64_t block, const char *why, struct pl_err *e)
{
    return pl_fail(e, PL_E_CORRUPT, "BAT entry 0x%016" PRIx64 " of block %" PRIu64 ": %s", entry,
                   block, why);
}

/* The last block may end with the disk: some writers cut the file there. */
static uint64_t bytes_needed(const struct vhdx *v, uint64_t block)
{
    const uint64_t at = block << v->block_bits;

    return at < v->size ? PL_MIN(v->block_size, v->size - at) : v->block_size;
}

int vhdx_check_payload(const struct vhdx *v, uint64_t entry, uint64_t block, uint64_t end,
                       struct pl_err *e)
{
    const unsigned state = VHDX_BAT_STATE(entry);
    const uint64_t off = VHDX_BAT_OFFSET(entry);

    if (state == 4 || state == 5)
        return bad_entry(entry, block, "its state is not known", e);
    if (state == VHDX_PARTIALLY_PRESENT && !v->has_parent)
        return bad_entry(entry, block, "a disk without a parent has no partial blocks", e);
    if (state < VHDX_FULLY_PRESENT)
        return 0;
    if (!pl_inside(off, bytes_needed(v, block), end))
        return bad_entry(entry, block, "its place is past the end of the file", e);
    if (vhdx_on_metadata(v, off, bytes_needed(v, block)))
        return bad_entry(entry, block, "its place overlaps the headers, the log or a region", e);
    return 0;
}

int vhdx_check_bitmap(const struct vhdx *v, uint64_t entry, uint64_t chunk, uint64_t end,
                      uint64_t *off, struct pl_err *e)
{
    const char *why = NULL;

    *off = 0;
    if (VHDX_BAT_STATE(entry) == VHDX_NOT_PRESENT)
        return 0;
    *off = VHDX_BAT_OFFSET(entry);
    if (VHDX_BAT_STATE(entry) != VHDX_FULLY_PRESENT)
        why = "its state is not known";
    else if (!pl_inside(*off, VHDX_BITMAP_BLOCK_BYTES, end))
        why = "its place is past the end of the file";
    else if (vhdx_on_metadata(v, *off, VHDX_BITMAP_BLOCK_BYTES))
        why = "its place overlaps the headers, the log or a region";
    if (!why)
        return 0;
    return pl_fail(e, PL_E_CORRUPT,
                   "BAT entry 0x%016" PRIx64 " of the sector bitmap of chunk %" PRIu64 ": %s",
                   entry, chunk, why);
}

/* ---- sectors of tables ---- */

static int read_meanwhile(struct vhdx *v, struct sector *s, struct pl_err *e) PL_NEEDS(&v->lock);
static int read_meanwhile(struct vhdx *v, struct sector *s, struct pl_err *e)
{
    int result;

    pl_lock_drop(&v->lock);
    result = pl_storage_read_padded(v->view, s->off, s->bytes, VHDX_SECTOR, e);
    pl_lock_take(&v->lock);
    return result;
}

/* 1: it was read, but tables changed meanwhile. */
static int try_sector(struct vhdx *v, struct sector *s, bool hold, struct pl_err *e)
    PL_NEEDS(&v->lock);
static int try_sector(struct vhdx *v, struct sector *s, bool hold, struct pl_err *e)
{
    const uint8_t *cached = pl_table_cache_peek(v->tables, s->off);
    uint64_t epoch;
    int result;

    s->end = v->file_end;
    s->clean = v->dirty_count == 0;
    if (cached) {
        memcpy(s->bytes, cached, VHDX_SECTOR);
        return 0;
    }
    epoch = pl_table_cache_epoch(v->tables);
    result = hold ? pl_storage_read_padded(v->view, s->off, s->bytes, VHDX_SECTOR, e)
                  : read_meanwhile(v, s, e);
    if (result < 0)
        return -1;
    if (epoch != pl_table_cache_epoch(v->tables))
        return 1;
    pl_table_cache_insert(v->tables, s->off, s->bytes, epoch);
    return 0;
}

static int load_sector(struct vhdx *v, uint64_t byte, struct sector *s, struct pl_err *e)
{
    int result = 1;

    PL_LOCKED(&v->lock);
    s->off = pl_round_down(byte, VHDX_SECTOR);
    for (unsigned races = 0; result == 1; races++)
        result = try_sector(v, s, races >= RACES_MAX, e);
    return result;
}

/* ---- runs ---- */

/* What is known of the run that map looks for. */
struct run {
    uint64_t block;  /* the first one */
    uint64_t last;   /* no block behind this one is wanted */
    uint64_t blocks; /* found so far */
    enum kind kind;
    uint64_t off; /* WHOLE, PARTS: of the first block in the file */
};

static uint64_t entry_at(const struct sector *s, uint64_t index)
{
    return load_le64(s->bytes + 8 * (index % ENTRIES_PER_SECTOR));
}

/* Extends the run over the blocks whose entries the sector has; true: it may go on behind it. */
static bool extend(const struct vhdx *v, const struct sector *s, struct run *run)
{
    const uint64_t sector = vhdx_payload_index(v, run->block + run->blocks) / ENTRIES_PER_SECTOR;

    while (run->block + run->blocks <= run->last) {
        const uint64_t block = run->block + run->blocks;
        const uint64_t index = vhdx_payload_index(v, block);
        uint64_t entry;

        if (index / ENTRIES_PER_SECTOR != sector)
            return true;
        entry = entry_at(s, index);
        if (kind_of(entry) != run->kind || vhdx_check_payload(v, entry, block, s->end, NULL) < 0 ||
            (run->kind == WHOLE &&
             VHDX_BAT_OFFSET(entry) != run->off + (run->blocks << v->block_bits)))
            return false;
        run->blocks++;
    }
    return false;
}

/* Extends a run of nothing over entries that were never written. */
static int skip_hole(const struct vhdx *v, struct run *run, struct pl_err *e)
{
    const uint64_t next = run->block + run->blocks;
    const uint64_t from = v->bat.off + 8 * vhdx_payload_index(v, next);
    const uint64_t to = v->bat.off + 8 * (vhdx_payload_index(v, run->last) + 1);
    uint64_t len = to - from, entries;
    bool hole;

    if (pl_storage_map(v->view, from, &len, &hole, e) < 0)
        return -1;
    if (!hole)
        return 0;
    /* of n entries in a row, one a chunk and perhaps one more is no payload block's */
    entries = len / 8;
    entries -= PL_MIN(entries, (entries >> v->chunk_bits) + 1);
    run->blocks += PL_MIN(entries, run->last - next + 1);
    return 0;
}

/* The run of sectors of a partial block that are alike, from guest address `at` on. */
static int map_parts(struct vhdx *v, uint64_t at, uint64_t len, const struct run *run,
                     struct pl_extent *out, struct pl_err *e)
{
    const uint64_t chunk = run->block >> v->chunk_bits;
    const uint64_t bit = at / v->sector_size % VHDX_BITMAP_BITS;
    const uint64_t inside = at & (v->block_size - 1);
    const uint64_t skip = at % v->sector_size;
    struct sector s;
    uint64_t bitmap, bits;
    bool set;

    if (load_sector(v, v->bat.off + 8 * vhdx_bitmap_index(v, run->block), &s, e) < 0)
        return pl_within(e, "BAT");
    if (vhdx_check_bitmap(v, entry_at(&s, vhdx_bitmap_index(v, run->block)), chunk, s.end, &bitmap,
                          e) < 0)
        return -1;
    if (!bitmap)
        return pl_fail(e, PL_E_CORRUPT,
                       "block %" PRIu64 " is partially present, but chunk %" PRIu64
                       " has no sector bitmap",
                       run->block, chunk);
    if (load_sector(v, bitmap + bit / 8, &s, e) < 0)
        return pl_within(e, "sector bitmap of chunk %" PRIu64, chunk);
    len = PL_MIN(len, v->block_size - inside);
    bits = vhdx_equal_bits(s.bytes, bit % BITS_PER_SECTOR, pl_div_up(skip + len, v->sector_size),
                           &set);
    *out = (struct pl_extent){ .state = PL_PARENT };
    if (set) {
        out->state = PL_DATA;
        out->st = v->view;
        out->off = run->off + inside;
    }
    out->len = PL_MIN(len, bits * v->sector_size - skip);
    return 0;
}

/* The run of blocks that are alike. */
static int find_run(struct vhdx *v, struct run *run, struct pl_err *e)
{
    const uint64_t index = vhdx_payload_index(v, run->block);
    struct sector s;
    uint64_t entry;

    if (load_sector(v, v->bat.off + 8 * index, &s, e) < 0)
        return pl_within(e, "BAT");
    entry = entry_at(&s, index);
    if (vhdx_check_payload(v, entry, run->block, s.end, e) < 0)
        return -1;
    run->kind = kind_of(entry);
    run->off = VHDX_BAT_OFFSET(entry);
    if (run->kind == PARTS || !extend(v, &s, run) || run->kind != NOTHING || !s.clean)
        return 0;
    return skip_hole(v, run, e);
}

int vhdx_map(void *state, uint64_t at, uint64_t len, struct pl_extent *out, struct pl_err *e)
{
    struct vhdx *v = state;
    const uint64_t inside = at & (v->block_size - 1);
    struct run run = { .block = at >> v->block_bits, .last = (at + len - 1) >> v->block_bits };

    if (find_run(v, &run, e) < 0)
        return -1;
    if (run.kind == PARTS)
        return map_parts(v, at, len, &run, out, e);
    *out = (struct pl_extent){
        .state = run.kind == WHOLE   ? PL_DATA
                 : run.kind == ZEROS ? PL_ZERO
                                     : PL_PARENT,
        .len = PL_MIN(len, (run.blocks << v->block_bits) - inside),
    };
    if (run.kind == WHOLE) {
        out->st = v->view;
        out->off = run.off + inside;
    }
    return 0;
}
