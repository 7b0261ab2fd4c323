/* sparse_resize.c - a larger extent.
 *
 * Entries and bytes that lie behind the old end are cleared; new tables are made at the end of the
 * file.  Directory entries go into the rest of the directory's last sector, which nobody reads yet,
 * or the directories are written anew, longer, at the end of the file.  All of that is synced; then
 * one write of the header's first sector shows it.  The room of old directories is not used again.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/scope.h"
#include "formats/vmdk/sparse.h"

#define COPY_BUFFER 65536u
#define PREALLOCATE_AT_ONCE (256 * PL_MIB)

int vmdk_write_first_sector(struct vmdk_sparse *s, struct pl_err *e)
{
    uint8_t raw[VMDK_SECTOR];

    if (pl_storage_read(s->file, 0, raw, sizeof raw, e) < 0)
        return pl_within(e, "header");
    if (s->cowd)
        pl_fields_encode(vmdk_cowd_header_fields, &s->cowd_header, raw, sizeof raw);
    else
        pl_fields_encode(vmdk_header_fields, &s->header, raw, sizeof raw);
    if (pl_storage_write(s->file, 0, raw, sizeof raw, e) == 0 && vmdk_sync(s, e) == 0)
        return 0;
    s->broken = true; /* nobody knows which header the disk has */
    return pl_within(e, "header");
}

int vmdk_sparse_place_descriptor(void *state, uint64_t off, uint64_t len, struct pl_err *e)
{
    struct vmdk_sparse *s = state;

    PL_LOCKED(&s->lock);
    if (vmdk_sparse_writable(s, e) < 0)
        return -1;
    s->header.descriptorOffset = off / VMDK_SECTOR;
    s->header.descriptorSize = len / VMDK_SECTOR;
    return vmdk_write_first_sector(s, e);
}

static int check_request(const struct vmdk_sparse *s, uint64_t size, struct pl_err *e)
{
    if (vmdk_sparse_writable(s, e) < 0)
        return -1;
    if (size < s->size) {
        pl_fail(e, PL_E_UNSUPPORTED, "a sparse extent of %" PRIu64 " bytes cannot become smaller",
                s->size);
        return pl_hint(e, "convert the part that is to stay to a new image");
    }
    if (size % VMDK_SECTOR)
        return pl_fail(e, PL_E_INVALID, "the new size of %" PRIu64 " bytes is no multiple of 512",
                       size);
    if (size > (uint64_t)PL_OFFSET_MAX - s->grain_size ||
        (s->cowd && size / VMDK_SECTOR > UINT32_MAX))
        return pl_fail(e, PL_E_LIMIT, "%" PRIu64 " bytes are more than the format allows", size);
    return 0;
}

/* ---- what lies behind the old end ---- */

/* The rest of the last grain, where that exists, becomes zeros. */
static int zero_last_grain(struct vmdk_sparse *s, struct pl_err *e) PL_NEEDS(&s->lock);
static int zero_last_grain(struct vmdk_sparse *s, struct pl_err *e)
{
    const uint64_t grain = s->size >> s->grain_bits, inside = s->size & (s->grain_size - 1);
    struct vmdk_entries io; /* not cleared: it is big */

    io.count = 1;
    io.keep_lock = true;
    if (!inside)
        return 0;
    if (vmdk_look(s, grain, &io, e) < 0)
        return -1;
    if (!io.count || !vmdk_entry_points(s, io.entry[0]))
        return 0;
    if (vmdk_check_entry(s, io.entry[0], grain, s->file_end, e) < 0)
        return -1;
    s->file_end = PL_MAX(s->file_end, vmdk_entry_offset(io.entry[0]) + s->grain_size);
    return pl_storage_zero(s->file, vmdk_entry_offset(io.entry[0]) + inside, s->grain_size - inside,
                           e);
}

/* Entries of grains that did not exist say nothing, whatever they said in either copy.  What they
 * showed may be another grain's: it is not freed. */
static int clear_entries(struct vmdk_sparse *s, struct pl_err *e) PL_NEEDS(&s->lock);
static int clear_entries(struct vmdk_sparse *s, struct pl_err *e)
{
    const uint64_t grain = pl_div_up(s->size, s->grain_size);
    const uint64_t end = s->directory_entries << s->table_bits;

    if (grain >= end)
        return 0;
    return vmdk_change_entries(
        s, (struct vmdk_change){ .grain = grain, .count = end - grain, .keep_room = true }, e);
}

/* ---- directories ---- */

/* Room for `count` new tables of each copy; their bytes are zeros. */
static int make_tables(struct vmdk_sparse *s, uint64_t count, uint64_t *off, struct pl_err *e)
    PL_NEEDS(&s->lock);
static int make_tables(struct vmdk_sparse *s, uint64_t count, uint64_t *off, struct pl_err *e)
{
    const uint64_t bytes = count * vmdk_table_bytes(s) * (s->directory[1] ? 2 : 1);

    *off = 0;
    if (s->cowd || !count)
        return 0; /* they are made when they are needed */
    return vmdk_append_room(s, bytes, off, e) < 0 ? -1 : pl_storage_zero(s->file, *off, bytes, e);
}

/* Writes `sectors` of a directory that begins like the one at `from` to byte `to`. */
static int copy_directory(struct vmdk_sparse *s, uint64_t from, uint64_t to, uint64_t sectors,
                          struct pl_err *e) PL_NEEDS(&s->lock);
static int copy_directory(struct vmdk_sparse *s, uint64_t from, uint64_t to, uint64_t sectors,
                          struct pl_err *e)
{
    const uint64_t have = s->directory_entries * VMDK_ENTRY_BYTES, all = sectors * VMDK_SECTOR;
    PL_FREE uint8_t *raw = malloc(COPY_BUFFER);

    if (!raw)
        return pl_fail(e, PL_E_NOMEM, "no memory to write a grain directory");
    for (uint64_t done = 0; done < all; done += COPY_BUFFER) {
        const uint64_t n = PL_MIN(all - done, COPY_BUFFER);
        const uint64_t old = done < have ? PL_MIN(n, have - done) : 0;

        memset(raw, 0, n);
        if ((old && pl_storage_read(s->file, from + done, raw, old, e) < 0) ||
            pl_storage_write(s->file, to + done, raw, n, e) < 0)
            return pl_within(e, "grain directory");
    }
    return 0;
}

/* Longer directories at the end of the file, with the old entries.  The file has what the caches
 * have. */
static int move_directories(struct vmdk_sparse *s, uint64_t entries, struct pl_err *e)
    PL_NEEDS(&s->lock);
static int move_directories(struct vmdk_sparse *s, uint64_t entries, struct pl_err *e)
{
    const uint64_t sectors = pl_div_up(entries * VMDK_ENTRY_BYTES, VMDK_SECTOR);

    for (unsigned copy = 0; copy < VMDK_COPIES && s->directory[copy]; copy++) {
        uint64_t off;

        if (vmdk_append_room(s, sectors * VMDK_SECTOR, &off, e) < 0 ||
            copy_directory(s, s->directory[copy], off, sectors, e) < 0)
            return -1;
        pl_table_cache_drop(s->directory_cache, s->directory[copy],
                            s->directory_entries * VMDK_ENTRY_BYTES);
        s->directory[copy] = off;
    }
    return 0;
}

static int grow_directories(struct vmdk_sparse *s, uint64_t entries, struct pl_err *e)
    PL_NEEDS(&s->lock);
static int grow_directories(struct vmdk_sparse *s, uint64_t entries, struct pl_err *e)
{
    const uint64_t old = s->directory_entries, count = entries - old;
    const uint64_t room = pl_round_up(old * VMDK_ENTRY_BYTES, VMDK_SECTOR);
    uint64_t tables;

    if (make_tables(s, count, &tables, e) < 0 ||
        (entries * VMDK_ENTRY_BYTES > room && move_directories(s, entries, e) < 0))
        return -1;
    for (unsigned copy = 0; copy < VMDK_COPIES && s->directory[copy]; copy++)
        for (uint64_t i = 0; i < count; i++) {
            const uint64_t off = tables + (copy * count + i) * vmdk_table_bytes(s);

            if (vmdk_set_table(s, copy, old + i, tables ? off : 0, e) < 0)
                return -1;
        }
    s->directory_entries = entries;
    return vmdk_cover_file(s, e);
}

/* The header as it is to be. */
static void describe(struct vmdk_sparse *s, uint64_t size) PL_NEEDS(&s->lock);
static void describe(struct vmdk_sparse *s, uint64_t size)
{
    const uint64_t sectors = size / VMDK_SECTOR;

    s->header.capacity = PL_MAX(sectors, s->header.capacity);
    s->header.gdOffset = s->directory[0] / VMDK_SECTOR;
    if (s->directory[1])
        s->header.rgdOffset = s->directory[1] / VMDK_SECTOR;
    if (s->cowd) {
        s->cowd_header.numSectors = (uint32_t)PL_MAX(sectors, s->cowd_header.numSectors);
        s->cowd_header.gdOffset = (uint32_t)(s->directory[0] / VMDK_SECTOR);
        s->cowd_header.numGDEntries =
            (uint32_t)PL_MAX(s->directory_entries, s->cowd_header.numGDEntries);
        s->cowd_header.freeSector = (uint32_t)PL_MIN(
            PL_MAX(pl_div_up(s->file_end, VMDK_SECTOR), s->cowd_header.freeSector), UINT32_MAX);
    }
}

static int grow(struct vmdk_sparse *s, uint64_t size, struct pl_err *e) PL_NEEDS(&s->lock);
static int grow(struct vmdk_sparse *s, uint64_t size, struct pl_err *e)
{
    const uint64_t entries = pl_div_up(size, vmdk_table_span(s));

    if (vmdk_sparse_write_back(s, true, e) < 0 || zero_last_grain(s, e) < 0 ||
        clear_entries(s, e) < 0 || vmdk_sparse_write_back(s, true, e) < 0)
        return -1;
    if (entries > s->directory_entries &&
        (grow_directories(s, entries, e) < 0 || vmdk_sparse_write_back(s, true, e) < 0)) {
        s->broken = true; /* the directories in memory are not those that the header names */
        return -1;
    }
    describe(s, size);
    if (vmdk_write_first_sector(s, e) < 0)
        return -1;
    s->size = size;
    return 0;
}

/* ---- room ahead of data ---- */

/* Room for the grains of [at, end), which have none, made `how`. */
static int preallocate(struct vmdk_sparse *s, uint64_t at, uint64_t end, enum pl_prealloc how,
                       struct pl_err *e) PL_NEEDS(&s->lock);
static int preallocate(struct vmdk_sparse *s, uint64_t at, uint64_t end, enum pl_prealloc how,
                       struct pl_err *e)
{
    while (at < end) {
        uint64_t len = PL_MIN(pl_round_up(end - at, s->grain_size), PREALLOCATE_AT_ONCE), off;
        bool zeroed;

        if (vmdk_take_room(s, &off, &len, &zeroed, e) < 0 ||
            (!zeroed && pl_storage_zero(s->file, off, len, e) < 0) ||
            pl_storage_preallocate(s->file, off, len, how, e) < 0 ||
            vmdk_change_entries(s,
                                (struct vmdk_change){
                                    .grain = at >> s->grain_bits,
                                    .count = len >> s->grain_bits,
                                    .entry = (uint32_t)(off / VMDK_SECTOR),
                                    .step = s->grain_size / VMDK_SECTOR,
                                },
                                e) < 0)
            return -1;
        at += len;
    }
    return vmdk_sparse_write_back(s, true, e);
}

int vmdk_sparse_resize(void *state, uint64_t size, enum pl_prealloc prealloc, struct pl_err *e)
{
    struct vmdk_sparse *s = state;
    uint64_t from;

    PL_LOCKED(&s->lock);
    if (check_request(s, size, e) < 0)
        return -1;
    from = pl_round_up(s->size, s->grain_size);
    if (size > s->size && grow(s, size, e) < 0)
        return -1;
    if (prealloc == PL_PREALLOC_FALLOC || prealloc == PL_PREALLOC_FULL)
        return preallocate(s, from, size, prealloc, e);
    return 0;
}
